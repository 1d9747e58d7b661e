//! The driver of the Omni-Path HFI1 adapter, and the buses on which it finds one.

pub mod discover;
pub mod pci_address;
#[cfg(feature = "vfio")]
pub mod vfio;
#[cfg(feature = "vfio-user")]
pub mod vfio_user;
