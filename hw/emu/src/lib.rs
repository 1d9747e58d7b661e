//! The Omni-Path HFI1 adapter in software: a model of the chip, block by block, judged by Linux's own driver.
#![forbid(unsafe_code)]

mod alarm;
mod asic;
mod board;
mod bus;
mod cce;
mod chip;
mod config;
#[cfg(test)]
mod core_tests;
mod dc8051;
mod dcc;
mod dma;
mod egress;
mod event;
#[cfg(feature = "tcp")]
mod far_end;
mod faults;
pub mod firmware;
mod forge;
mod headers;
mod inject;
mod interrupts;
mod lab;
mod lcb;
mod link;
mod misc;
mod msix;
mod packet;
mod pci_config;
mod qsfp;
mod rcvarray;
mod rxe;
mod rxe_context;
mod rxe_expected;
mod rxe_route;
mod sdma_assembly;
#[cfg(feature = "server")]
pub mod server;
mod stats;
mod sync;
mod tap;
#[cfg(feature = "tcp")]
pub mod tcp_wire;
#[cfg(test)]
mod tests;
mod triplet;
mod txe;
mod txe_pio;
mod txe_sdma;
mod unmodelled;
mod wire;

pub use bus::EmuBus;
pub use config::{Config, Icode};
pub use dma::MapError;
pub use forge::{Forgeries, ForgeryCounts};
pub use inject::{ChipFault, Fault, NoSuchFault, PioFault, ReceiveFault, SdmaFault};
pub use lab::{Adapter, Lab, Pacing};
pub use packet::Packet;
pub use qsfp::QsfpModule;
pub use stats::{Counts, DropReason};
pub use unmodelled::Unmodelled;
pub use wire::Pace;
