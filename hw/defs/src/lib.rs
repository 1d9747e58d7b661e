//! Facts about the Omni-Path HFI1 adapter ("WFR") that driver, emulated adapter and tools share.
//!
//! Nothing in this crate decides anything: it names registers, formats and units, so that a misreading of the chip in
//! the driver can't be mirrored in the emulated adapter by shared code.
//!
//! ```
//! use opx_defs::csr::{self, CCE_REVISION};
//! let value = 0x0000_0002_0302_0710;
//! assert_eq!(CCE_REVISION::CHIP_REV_MAJOR.get(value), 7);
//! assert_eq!(csr::SEND_CTXT_CTRL.at(2).0, 0x190_0200);
//! ```
#![no_std]
#![forbid(unsafe_code)]

pub mod chip;
pub mod credit;
pub mod csr;
pub mod flow;
pub mod freezing;
pub mod rcvarray;
pub mod rsm;
pub mod sdma;
pub mod source;
pub mod status;
pub mod tid;
pub mod time;
pub mod units;
pub mod wire;
