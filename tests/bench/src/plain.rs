//! A bus of plain memory: what a driver's own work costs, without a device behind it.

use opx_bus::{BlockSource, BlockStore, BusError, DmaBlock, Irq, PciFunction, SharedMem};
use opx_defs::time::Instant;
use opx_defs::units::{BarOff, Iova};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// BAR 0 as plain memory around another bus. Until [`PlainBus::detach`], registers are the other bus's, so that a driver
/// can open an emulated adapter; afterwards they are memory like the PIO window, which is so from the start. Whoever
/// benches plays the chip: it writes credits and packets to host memory with [`PlainBus::host`].
#[derive(Debug, Clone)]
pub struct PlainBus<B> {
    inner: B,
    plain: Arc<Plain>,
}

#[derive(Debug)]
struct Plain {
    bar0: SharedMem,
    store: BlockStore,
    detached: AtomicBool,
    host: Mutex<Vec<(Iova, SharedMem)>>,
}

/// Where the PIO window begins in BAR 0.
const PIO_WINDOW: u32 = 0x200_0000;

impl<B: PciFunction> PlainBus<B> {
    /// Around `inner`; blocks are stored by `store`.
    ///
    /// # Errors
    /// When the system has no memory.
    pub fn new(inner: B, store: BlockStore) -> std::io::Result<Self> {
        let bar0 = SharedMem::new(inner.bar0_len() as usize)?;
        let plain = Plain { bar0, store, detached: AtomicBool::new(false), host: Mutex::default() };
        Ok(Self { inner, plain: Arc::new(plain) })
    }

    /// From now on registers are plain memory: reads give what was written last.
    pub fn detach(&self) {
        self.plain.detached.store(true, Ordering::Relaxed);
    }

    /// Registers are the other bus's again: before a driver closes the adapter.
    pub fn attach(&self) {
        self.plain.detached.store(false, Ordering::Relaxed);
    }

    /// BAR 0, as the driver wrote it.
    pub fn bar0(&self) -> &SharedMem {
        &self.plain.bar0
    }

    /// The host memory at an I/O address: the block that a driver allocated, and the offset in it.
    pub fn host(&self, iova: Iova) -> Option<(SharedMem, usize)> {
        let blocks = self.plain.host.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.iter().rev().find_map(|(start, memory)| {
            let at = iova.0.checked_sub(start.0).filter(|at| *at < memory.len() as u64)?;
            Some((memory.clone(), at as usize))
        })
    }

    #[inline]
    fn is_plain(&self, offset: BarOff) -> bool {
        self.plain.detached.load(Ordering::Relaxed) || offset.0 >= PIO_WINDOW
    }
}

impl<B: PciFunction> PciFunction for PlainBus<B> {
    fn name(&self) -> &str {
        "plain memory"
    }

    fn bar0_len(&self) -> u64 {
        self.inner.bar0_len()
    }

    #[inline]
    fn read64(&self, offset: BarOff) -> u64 {
        if self.is_plain(offset) { self.plain.bar0.read_u64(offset.0 as usize) } else { self.inner.read64(offset) }
    }

    #[inline]
    fn write64(&self, offset: BarOff, value: u64) {
        if self.is_plain(offset) {
            self.plain.bar0.write_u64(offset.0 as usize, value);
        } else {
            self.inner.write64(offset, value);
        }
    }

    #[inline]
    fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
        self.write_blocks(offset, BlockSource::of_block(block));
    }

    #[inline(always)]
    fn write_blocks(&self, offset: BarOff, blocks: BlockSource<'_>) {
        self.plain.bar0.store_blocks(offset.0 as usize, self.plain.store, blocks);
    }

    fn config_read(&self, offset: u16, data: &mut [u8]) -> Result<(), BusError> {
        self.inner.config_read(offset, data)
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Result<(), BusError> {
        self.inner.config_write(offset, data)
    }

    fn dma_alloc(&self, len: usize) -> Result<DmaBlock, BusError> {
        let block = self.inner.dma_alloc(len)?;
        let mut blocks = self.plain.host.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.push((block.iova(0), block.memory().clone()));
        Ok(block)
    }

    fn irq_enable(&self, count: u16) -> Result<Vec<Irq>, BusError> {
        self.inner.irq_enable(count)
    }

    fn reset(&self) -> Result<(), BusError> {
        self.inner.reset()
    }

    fn gone(&self) -> Option<String> {
        self.inner.gone()
    }

    #[inline]
    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn pause(&self, duration: Duration) {
        self.inner.pause(duration);
    }

    fn relax(&self) {
        self.inner.relax();
    }

    fn wait_irq(&self, irq: &Irq, limit: Duration) -> Result<bool, BusError> {
        self.inner.wait_irq(irq, limit)
    }
}
