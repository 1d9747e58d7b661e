//! The Omni-Path HFI1 adapter in software: a model of the chip, block by block, judged by Linux's own driver.
#![forbid(unsafe_code)]
// The blocks are internal; what this crate offers is re-exported below.
#![allow(dead_code)]

mod asic;
mod board;
mod cce;
mod chip;
mod config;
mod dc8051;
mod dcc;
mod dma;
mod egress;
mod event;
mod interrupts;
mod lcb;
mod misc;
mod msix;
mod packet;
mod rcvarray;
mod rxe;
mod stats;
mod triplet;
mod txe;
mod txe_pio;
mod txe_sdma;
mod unmodelled;
mod wire;

pub use config::{Config, Icode};
pub use stats::{Counts, DropReason};
pub use unmodelled::Unmodelled;
