//! A wrapper that keeps the last accesses to a function, by register name.

use crate::PciFunction;
use opx_defs::csr;
use opx_defs::time::Instant;
use opx_defs::units::BarOff;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// One access to BAR 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// When.
    pub at: Instant,
    /// Where.
    pub offset: BarOff,
    /// What was read or written.
    pub value: u64,
    /// Whether it was a write.
    pub write: bool,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.write { 'W' } else { 'R' };
        write!(f, "{way} {} {:#018x} ", self.offset, self.value)?;
        match csr::by_offset(self.offset) {
            Some((csr, 0, 0)) => f.write_str(csr.name),
            Some((csr, index, 0)) => write!(f, "{}[{index}]", csr.name),
            Some((csr, index, element)) => write!(f, "{}[{index}][{element}]", csr.name),
            None => f.write_str("?"),
        }
    }
}

/// Keeps the last accesses that go through it.
#[derive(Debug, Clone)]
pub struct Traced<B> {
    inner: B,
    log: Arc<Mutex<VecDeque<Access>>>,
    capacity: usize,
}

impl<B: PciFunction> Traced<B> {
    /// Wraps `inner`; the last `capacity` accesses are kept.
    pub fn new(inner: B, capacity: usize) -> Self {
        Self { inner, log: Arc::new(Mutex::new(VecDeque::with_capacity(capacity))), capacity }
    }

    /// The accesses kept so far, oldest first; they are taken out.
    pub fn take(&self) -> Vec<Access> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    fn keep(&self, offset: BarOff, value: u64, write: bool) {
        let access = Access { at: self.inner.now(), offset, value, write };
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() >= self.capacity {
            log.pop_front();
        }
        log.push_back(access);
    }
}

impl<B: PciFunction> PciFunction for Traced<B> {
    fn read64(&self, offset: BarOff) -> u64 {
        let value = self.inner.read64(offset);
        self.keep(offset, value, false);
        value
    }

    fn write64(&self, offset: BarOff, value: u64) {
        self.keep(offset, value, true);
        self.inner.write64(offset, value);
    }

    fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
        self.keep(offset, block[0], true);
        self.inner.write_block(offset, block);
    }

    crate::delegate!(inner: name bar0_len config_read config_write dma_alloc dma_map irq_enable reset gone now pause relax wait_irq);
}

/// Writes the methods of [`PciFunction`] that a wrapper passes on to the field `$inner`.
#[macro_export]
macro_rules! delegate {
    ($inner:ident: $($method:ident)*) => {
        $($crate::delegate!(@ $inner $method);)*
    };
    (@ $inner:ident name) => {
        fn name(&self) -> &str {
            self.$inner.name()
        }
    };
    (@ $inner:ident bar0_len) => {
        fn bar0_len(&self) -> u64 {
            self.$inner.bar0_len()
        }
    };
    (@ $inner:ident config_read) => {
        fn config_read(&self, offset: u16, data: &mut [u8]) -> Result<(), $crate::BusError> {
            self.$inner.config_read(offset, data)
        }
    };
    (@ $inner:ident config_write) => {
        fn config_write(&self, offset: u16, data: &[u8]) -> Result<(), $crate::BusError> {
            self.$inner.config_write(offset, data)
        }
    };
    (@ $inner:ident dma_alloc) => {
        fn dma_alloc(&self, len: usize) -> Result<$crate::DmaBlock, $crate::BusError> {
            self.$inner.dma_alloc(len)
        }
    };
    (@ $inner:ident dma_map) => {
        fn dma_map(&self, memory: &$crate::SharedMem) -> Result<$crate::DmaBlock, $crate::BusError> {
            self.$inner.dma_map(memory)
        }
    };
    (@ $inner:ident irq_enable) => {
        fn irq_enable(&self, count: u16) -> Result<Vec<$crate::Irq>, $crate::BusError> {
            self.$inner.irq_enable(count)
        }
    };
    (@ $inner:ident reset) => {
        fn reset(&self) -> Result<(), $crate::BusError> {
            self.$inner.reset()
        }
    };
    (@ $inner:ident gone) => {
        fn gone(&self) -> Option<String> {
            self.$inner.gone()
        }
    };
    (@ $inner:ident now) => {
        #[inline]
        fn now(&self) -> opx_defs::time::Instant {
            self.$inner.now()
        }
    };
    (@ $inner:ident pause) => {
        fn pause(&self, duration: std::time::Duration) {
            self.$inner.pause(duration)
        }
    };
    (@ $inner:ident relax) => {
        fn relax(&self) {
            self.$inner.relax()
        }
    };
    (@ $inner:ident wait_irq) => {
        fn wait_irq(&self, irq: &$crate::Irq, limit: std::time::Duration) -> Result<bool, $crate::BusError> {
            self.$inner.wait_irq(irq, limit)
        }
    };
}
