//! The driver of the Omni-Path HFI1 adapter, and the buses on which it finds one.
//!
//! [`Hfi::open`] takes a function on any bus ([`opx_bus::PciFunction`]), checks what it is, resets it and initialises
//! the chip; [`Hfi::link_up`] brings its link up, as its own fabric manager. Then there are [`SendContext`]s for
//! programmed I/O, [`SdmaEngine`]s for DMA, and [`RecvContext`]s for what arrives.
//!
//! No chip manual is public: each hardware step names the function of Linux's hfi1 driver (6.12) that it was read from.
//! Not done here: the transition to PCIe generation 3, tuning of the serdes to module and platform, and A-step chips.

pub mod discover;
#[cfg(any(feature = "vfio", feature = "vfio-user"))]
mod function;
pub mod pci_address;
pub mod recv;
#[cfg(feature = "vfio")]
pub mod vfio;
#[cfg(feature = "vfio-user")]
pub mod vfio_user;

mod asic;
mod board;
pub mod counters;
mod dc8051;
mod eprom;
mod error;
mod error_registers;
mod fabric;
mod firmware;
mod firmware_file;
mod freeze;
mod frozen;
mod hfi;
mod i2c;
mod info;
mod init_rx;
mod init_tx;
mod interrupts;
mod kept_errors;
mod link;
mod lni;
mod moderation;
mod open;
mod options;
mod pool;
mod qsfp;
mod ranges;
mod regs;
mod sdma_engine;
mod send_context;
mod steer;
mod sync;
mod thermal;

pub use board::Board;
pub use counters::Counters;
pub use dc8051::FirmwareVersion;
pub use error::{
    ChipError, CommandError, ContextError, EpromError, FirmwareError, Gone, LinkError, OpenError, QsfpError, Stuck,
    ThermalError,
};
#[doc(hidden)]
pub use firmware_file::check_firmware;
pub use hfi::Hfi;
pub use info::{Info, Sizes};
pub use interrupts::{Counts, Serviced};
pub use link::{DownReason, LinkInfo, LinkMode, LinkState};
pub use moderation::Moderation;
pub use options::{MAX_MTU, Options};
pub use pool::PioRoom;
pub use qsfp::Module;
pub use recv::{ExpectedBuffer, Flow, Memory, Received, RecvConfig, RecvContext, RecvCounts, TransferBuffer};
pub use sdma_engine::{RingWriter, SdmaEngine};
pub use send_context::{SendConfig, SendContext, SendKind, Threshold};
pub use steer::Steering;
pub use thermal::{Quarters, Temperature};
