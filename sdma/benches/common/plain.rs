//! A bus whose registers become plain memory.

use opx_bus::{BusError, DmaBlock, Irq, PciFunction, SharedMem};
use opx_defs::time::Instant;
use opx_defs::units::BarOff;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Until [`PlainBus::detach`], registers are the other bus's, so that a driver can open an emulated adapter; afterwards
/// writes to them go to plain memory.
#[derive(Debug, Clone)]
pub struct PlainBus<B> {
    inner: B,
    bar0: SharedMem,
    detached: Arc<AtomicBool>,
    last: Arc<Mutex<Option<SharedMem>>>,
}

impl<B: PciFunction> PlainBus<B> {
    /// Around `inner`.
    pub fn new(inner: B) -> std::io::Result<Self> {
        let bar0 = SharedMem::new(inner.bar0_len() as usize)?;
        Ok(Self { inner, bar0, detached: Arc::default(), last: Arc::default() })
    }

    /// From now on registers are plain memory.
    pub fn detach(&self) {
        self.detached.store(true, Ordering::Relaxed);
    }

    /// Registers are the other bus's again.
    pub fn attach(&self) {
        self.detached.store(false, Ordering::Relaxed);
    }

    /// The registers as they were written.
    pub fn bar0(&self) -> &SharedMem {
        &self.bar0
    }

    /// The memory that was allocated last.
    pub fn last_block(&self) -> Option<SharedMem> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<B: PciFunction> PciFunction for PlainBus<B> {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn bar0_len(&self) -> u64 {
        self.inner.bar0_len()
    }
    fn read64(&self, offset: BarOff) -> u64 {
        if self.detached.load(Ordering::Relaxed) {
            self.bar0.read_u64(offset.0 as usize)
        } else {
            self.inner.read64(offset)
        }
    }
    fn write64(&self, offset: BarOff, value: u64) {
        if self.detached.load(Ordering::Relaxed) {
            self.bar0.write_u64(offset.0 as usize, value);
        } else {
            self.inner.write64(offset, value);
        }
    }
    fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
        self.inner.write_block(offset, block);
    }
    fn config_read(&self, offset: u16, data: &mut [u8]) -> Result<(), BusError> {
        self.inner.config_read(offset, data)
    }
    fn config_write(&self, offset: u16, data: &[u8]) -> Result<(), BusError> {
        self.inner.config_write(offset, data)
    }
    fn dma_alloc(&self, len: usize) -> Result<DmaBlock, BusError> {
        let block = self.inner.dma_alloc(len)?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(block.memory().clone());
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
