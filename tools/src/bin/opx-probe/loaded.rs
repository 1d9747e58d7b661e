//! A function that shows the registers of a dump, until they are written: somebody else's adapter, to be looked at here.

use crate::csr::dump::Dump;
use opx_bus::{PciFunction, delegate};
use opx_defs::units::BarOff;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A function, and what its registers show in place of what they hold.
#[derive(Debug, Clone)]
pub struct Loaded<B> {
    inner: B,
    shown: Arc<Mutex<BTreeMap<u32, u64>>>,
}

impl<B> Loaded<B> {
    /// Shows what `dump` has, or nothing but what `inner` holds.
    pub fn new(inner: B, dump: Option<&Dump>) -> Self {
        let values = dump.into_iter().flat_map(Dump::values);
        let shown = values.map(|(pick, value)| (pick.csr.element(pick.index, pick.element).0, value)).collect();
        Self { inner, shown: Arc::new(Mutex::new(shown)) }
    }

    /// The function itself.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    fn shown(&self) -> MutexGuard<'_, BTreeMap<u32, u64>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: PciFunction> PciFunction for Loaded<B> {
    fn read64(&self, offset: BarOff) -> u64 {
        let shown = self.shown().get(&offset.0).copied();
        shown.unwrap_or_else(|| self.inner.read64(offset))
    }

    fn write64(&self, offset: BarOff, value: u64) {
        self.shown().remove(&offset.0);
        self.inner.write64(offset, value);
    }

    fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
        self.inner.write_block(offset, block);
    }

    delegate!(inner: name bar0_len config_read config_write dma_alloc dma_map irq_enable reset gone now pause relax wait_irq);
}
