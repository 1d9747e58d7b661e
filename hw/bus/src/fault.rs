//! A wrapper that spoils a function: all-ones from some access on, stuck bits, lost writes, refused memory.

use crate::{ALL_ONES, BusError, DmaBlock, Irq, PciFunction, SharedMem};
use opx_defs::units::BarOff;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Every register reads as all ones from the `after`-th read on (0: from the first), as if the adapter were pulled.
    GoneAfterReads {
        /// Reads that still work.
        after: u64,
    },
    /// Bits of a register always read as given.
    Stuck {
        /// Which register.
        offset: BarOff,
        /// Which bits.
        mask: u64,
        /// What they read as.
        value: u64,
    },
    /// Writes to a register are lost.
    LostWrites {
        /// Which register.
        offset: BarOff,
    },
    /// Allocations of DMA memory fail from the `after`-th on.
    NoMemoryAfter {
        /// Allocations that still work.
        after: u64,
    },
    /// Interrupts can't be enabled.
    NoIrqs,
    /// Reset fails.
    NoReset,
}

/// Passes accesses on, but for the faults it was given.
#[derive(Debug, Clone)]
pub struct Faulty<B> {
    inner: B,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    faults: Mutex<Vec<Fault>>,
    reads: AtomicU64,
    allocations: AtomicU64,
}

impl<B: PciFunction> Faulty<B> {
    /// Wraps `inner` with `faults`.
    pub fn new(inner: B, faults: Vec<Fault>) -> Self {
        Self { inner, shared: Arc::new(Shared { faults: Mutex::new(faults), ..Shared::default() }) }
    }

    /// Adds a fault from now on; the counts of accesses go on from where they are.
    pub fn add(&self, fault: Fault) {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// Takes all faults away.
    pub fn mend(&self) {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Registers read so far.
    pub fn reads(&self) -> u64 {
        self.shared.reads.load(Ordering::Relaxed)
    }

    /// DMA blocks allocated so far.
    pub fn allocations(&self) -> u64 {
        self.shared.allocations.load(Ordering::Relaxed)
    }

    fn any(&self, mut matches: impl FnMut(&Fault) -> bool) -> bool {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).iter().any(&mut matches)
    }

    fn is_gone(&self) -> bool {
        let reads = self.reads();
        self.any(|fault| matches!(fault, Fault::GoneAfterReads { after } if reads > *after))
    }
}

impl<B: PciFunction> PciFunction for Faulty<B> {
    fn read64(&self, offset: BarOff) -> u64 {
        self.shared.reads.fetch_add(1, Ordering::Relaxed);
        if self.is_gone() {
            return ALL_ONES;
        }
        let mut read = self.inner.read64(offset);
        for fault in self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Fault::Stuck { offset: at, mask, value } = fault
                && *at == offset
            {
                read = read & !mask | value & mask;
            }
        }
        read
    }

    fn write64(&self, offset: BarOff, value: u64) {
        if !self.is_gone() && !self.any(|fault| *fault == Fault::LostWrites { offset }) {
            self.inner.write64(offset, value);
        }
    }

    fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
        if !self.is_gone() && !self.any(|fault| *fault == Fault::LostWrites { offset }) {
            self.inner.write_block(offset, block);
        }
    }

    fn dma_alloc(&self, len: usize) -> Result<DmaBlock, BusError> {
        let number = self.shared.allocations.fetch_add(1, Ordering::Relaxed);
        if self.any(|fault| matches!(fault, Fault::NoMemoryAfter { after } if number >= *after)) {
            let source = io::ErrorKind::OutOfMemory.into();
            return Err(BusError::DmaMemory { name: self.name().to_owned(), len, source });
        }
        self.inner.dma_alloc(len)
    }

    fn dma_map(&self, memory: &SharedMem) -> Result<DmaBlock, BusError> {
        self.inner.dma_map(memory)
    }

    fn irq_enable(&self, count: u16) -> Result<Vec<Irq>, BusError> {
        if self.any(|fault| *fault == Fault::NoIrqs) {
            let source = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
            return Err(BusError::Irq { name: self.name().to_owned(), count, source });
        }
        self.inner.irq_enable(count)
    }

    fn reset(&self) -> Result<(), BusError> {
        if self.any(|fault| *fault == Fault::NoReset) {
            let source = io::Error::from_raw_os_error(rustix::io::Errno::OPNOTSUPP.raw_os_error());
            return Err(BusError::Reset { name: self.name().to_owned(), source });
        }
        self.inner.reset()
    }

    fn gone(&self) -> Option<String> {
        if self.is_gone() { Some("an injected fault".to_owned()) } else { self.inner.gone() }
    }

    crate::delegate!(inner: name bar0_len config_read config_write now pause relax wait_irq);
}
