//! The seam between a PCI function and the code that drives it: BAR 0, config space, DMA memory, interrupts, reset, time.
//!
//! A driver is generic over [`PciFunction`]; the emulated adapter, a vfio-user socket and the kernel's VFIO implement it.
//! Wrappers that trace ([`trace::Traced`]) and that inject faults ([`fault::Faulty`]) implement it around any other.

pub mod block_store;
pub mod chance;
pub mod clock;
pub mod clock_choice;
mod cycles;
pub mod dma;
pub mod error;
pub mod fault;
pub mod iova;
pub mod irq;
mod modelled;
pub mod poll;
mod process;
pub mod recorder;
pub mod shared_mem;
pub mod trace;

pub use block_store::{BlockSource, BlockStore};
pub use chance::{Chance, PacketFaults};
pub use dma::DmaBlock;
pub use error::BusError;
pub use irq::Irq;
#[cfg(loom)]
pub use modelled::before_each_access;
pub use process::ProcessMark;
pub use shared_mem::SharedMem;

use opx_defs::time::Instant;
use opx_defs::units::BarOff;
use std::time::Duration;

/// What a register reads as when nothing answers any more.
pub const ALL_ONES: u64 = u64::MAX;

/// One PCI function, as its driver sees it. Handles are cheap to clone and all mean the same function.
///
/// Register accesses can't fail, as on the real bus: a read of a function that is gone gives [`ALL_ONES`] and a write is
/// lost. [`PciFunction::gone`] then tells why.
pub trait PciFunction: Clone + Send + Sync + 'static {
    /// How a person names it: `0000:af:00.0`, `vfio-user:/run/a.sock`, `emulated`.
    fn name(&self) -> &str;

    /// Length of BAR 0 in bytes.
    fn bar0_len(&self) -> u64;

    /// Reads a 64-bit register.
    fn read64(&self, offset: BarOff) -> u64;

    /// Writes a 64-bit register. Writes keep their order; a read after them sees their effect.
    fn write64(&self, offset: BarOff, value: u64);

    /// Writes one 64-byte block (8 qwords in memory order) to the PIO window; `offset` is a multiple of 64.
    fn write_block(&self, offset: BarOff, block: &[u64; 8]);

    /// Writes blocks one behind the other. Their order on the way to the device isn't defined.
    #[inline]
    fn write_blocks(&self, offset: BarOff, blocks: BlockSource<'_>) {
        for (at, block) in (offset.0..).step_by(block_store::BLOCK).zip(blocks.iter()) {
            self.write_block(BarOff(at), &block);
        }
    }

    /// Reads `data.len()` bytes of config space at `offset`.
    ///
    /// # Errors
    /// When the function doesn't answer or the range isn't in config space.
    fn config_read(&self, offset: u16, data: &mut [u8]) -> Result<(), BusError>;

    /// Writes bytes to config space.
    ///
    /// # Errors
    /// As [`PciFunction::config_read`].
    fn config_write(&self, offset: u16, data: &[u8]) -> Result<(), BusError>;

    /// Allocates zeroed memory that the function can reach, `len` bytes rounded up to whole pages.
    ///
    /// # Errors
    /// When memory, address space or the lock limit runs out.
    fn dma_alloc(&self, len: usize) -> Result<DmaBlock, BusError>;

    /// Lets the function reach memory that is there already, until the result is dropped. A bus to another process needs a
    /// file behind the memory that the other side can map.
    ///
    /// # Errors
    /// When address space or the lock limit runs out, or this bus can't map that memory.
    fn dma_map(&self, memory: &SharedMem) -> Result<DmaBlock, BusError> {
        Err(BusError::NotMappable {
            name: self.name().to_owned(),
            len: memory.len(),
            why: "it only has memory of its own",
        })
    }

    /// Enables `count` MSI-X vectors and returns them in order; replaces those enabled before.
    ///
    /// # Errors
    /// When the function has fewer, or the eventfds can't be made or handed over.
    fn irq_enable(&self, count: u16) -> Result<Vec<Irq>, BusError>;

    /// Resets the function (function-level reset): registers fall to their reset values, DMA and interrupts stop.
    ///
    /// # Errors
    /// When the function has no reset or it didn't come back.
    fn reset(&self) -> Result<(), BusError>;

    /// Why the function is gone, when it is.
    fn gone(&self) -> Option<String>;

    /// The time now. It never goes back, between threads either, and costs some ten instructions at best: it is read for each
    /// packet.
    fn now(&self) -> Instant;

    /// Lets `duration` pass: sleeps, or moves the simulated clock.
    fn pause(&self, duration: Duration);

    /// Lets a little time pass in a polling loop that found nothing to do.
    fn relax(&self);

    /// Waits until `irq` has been raised, at most `limit`; `true` when it was. Takes the event.
    ///
    /// # Errors
    /// When the eventfd can't be read.
    fn wait_irq(&self, irq: &Irq, limit: Duration) -> Result<bool, BusError>;
}
