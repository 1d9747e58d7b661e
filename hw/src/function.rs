//! What every HFI1 function looks like from outside, whichever bus it is on.

use opx_defs::units::Iova;

/// Bytes of BAR 0.
pub(crate) const BAR0_LEN: u64 = 64 << 20;
/// Bytes that config space may have: conventional, or PCI Express.
pub(crate) const CONFIG_LENS: [u64; 2] = [256, 4096];
/// First I/O address given out, and the first that isn't: above 4 GiB, so clear of the MSI window and so that a truncated
/// address shows, and within the 39 bits that every IOMMU translates.
pub(crate) const IOVAS: (Iova, Iova) = (Iova(1 << 32), Iova(1 << 38));
