//! What can go wrong on the bus, in words that say what to do.

use opx_defs::units::{BarOff, Iova};
use std::io;

/// A failed operation on a PCI function.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The function no longer answers.
    #[error(
        "{name}: the adapter is gone ({why}); check that it is still plugged in, powered and served, then open it again"
    )]
    Gone {
        /// The function.
        name: String,
        /// What was seen.
        why: String,
    },
    /// A config space access failed.
    #[error("{name}: config space {operation} of {len} bytes at {offset:#x} failed: {source}")]
    Config {
        /// The function.
        name: String,
        /// "read" or "write".
        operation: &'static str,
        /// Offset in config space.
        offset: u16,
        /// Bytes asked for.
        len: usize,
        /// The cause.
        source: io::Error,
    },
    /// An access outside of BAR 0.
    #[error("{name}: {offset} is outside of BAR 0 ({len:#x} bytes)")]
    OutsideBar {
        /// The function.
        name: String,
        /// Where.
        offset: BarOff,
        /// Length of the BAR.
        len: u64,
    },
    /// Memory for DMA can't be had.
    #[error("{name}: can't get {len} bytes of DMA memory: {source}; free memory or ask for less")]
    DmaMemory {
        /// The function.
        name: String,
        /// Bytes asked for.
        len: usize,
        /// The cause.
        source: io::Error,
    },
    /// There are no free I/O addresses.
    #[error("{name}: no room for {len} bytes in the I/O address space; release DMA memory first")]
    IovaExhausted {
        /// The function.
        name: String,
        /// Bytes asked for.
        len: usize,
    },
    /// The memory can't be mapped for the function.
    #[error("{name}: can't map {len} bytes at I/O address {iova}: {source}{hint}")]
    DmaMap {
        /// The function.
        name: String,
        /// Address.
        iova: Iova,
        /// Bytes.
        len: usize,
        /// The cause.
        source: io::Error,
        /// What to do, beginning with a separator, or empty.
        hint: String,
    },
    /// Memory of that kind can't be mapped on this bus.
    #[error(
        "{name}: {len} bytes of the caller's memory can't be mapped for the adapter: {why}; use memory from dma_alloc"
    )]
    NotMappable {
        /// The function.
        name: String,
        /// Bytes.
        len: usize,
        /// Why.
        why: &'static str,
    },
    /// Interrupts can't be enabled.
    #[error("{name}: can't enable {count} MSI-X vectors: {source}")]
    Irq {
        /// The function.
        name: String,
        /// Vectors asked for.
        count: u16,
        /// The cause.
        source: io::Error,
    },
    /// Reset failed.
    #[error("{name}: function reset failed: {source}")]
    Reset {
        /// The function.
        name: String,
        /// The cause.
        source: io::Error,
    },
}

impl BusError {
    /// The function and what was seen of it, when it is gone.
    pub fn gone(&self) -> Option<(&str, String)> {
        match self {
            Self::Gone { name, why } => Some((name, why.clone())),
            _ => None,
        }
    }
}
