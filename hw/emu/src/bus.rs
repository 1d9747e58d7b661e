//! The in-process bus: a driver's accesses go straight to the chip.

use crate::chip::BAR0_LEN;
use crate::lab::{Adapter, Unit};
use crate::msix::VECTORS;
use crate::pci_config::CONFIG_LEN;
use opx_bus::dma::DmaUnmap;
use opx_bus::shared_mem::{HUGE_PAGE, PAGE};
use opx_bus::{BusError, DmaBlock, Irq, PciFunction, SharedMem};
use opx_defs::time::Instant;
use opx_defs::units::{BarOff, Iova, Vector};
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// A driver's way to an emulated adapter in the same process. Clones mean the same function.
#[derive(Debug, Clone)]
pub struct EmuBus {
    adapter: Adapter,
    unmapper: Arc<Unmapper>,
}

/// Takes dropped blocks out of the adapter's reach.
#[derive(Debug)]
struct Unmapper {
    unit: Arc<Unit>,
}

impl DmaUnmap for Unmapper {
    fn dma_unmap(&self, iova: Iova, memory: &SharedMem) {
        self.unit.lock().board.dma.unmap(iova, memory.len() as u64);
        self.unit.iovas.lock().unwrap_or_else(PoisonError::into_inner).give_back(iova);
    }
}

impl EmuBus {
    pub(crate) fn new(adapter: Adapter) -> Self {
        let unmapper = Arc::new(Unmapper { unit: Arc::clone(&adapter.unit) });
        Self { adapter, unmapper }
    }

    /// The adapter behind it.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    fn check_config(&self, operation: &'static str, offset: u16, len: usize) -> Result<(), BusError> {
        if usize::from(offset).checked_add(len).is_some_and(|end| end <= CONFIG_LEN) {
            return Ok(());
        }
        let source = io::Error::new(io::ErrorKind::InvalidInput, "beyond the 4096 bytes of config space");
        Err(BusError::Config { name: self.name().to_owned(), operation, offset, len, source })
    }
}

impl PciFunction for EmuBus {
    fn name(&self) -> &str {
        self.adapter.name()
    }

    fn bar0_len(&self) -> u64 {
        BAR0_LEN
    }

    fn read64(&self, offset: BarOff) -> u64 {
        self.adapter.read64(offset)
    }

    fn write64(&self, offset: BarOff, value: u64) {
        self.adapter.write64(offset, value);
    }

    fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
        self.adapter.write_block(offset, block);
    }

    fn config_read(&self, offset: u16, data: &mut [u8]) -> Result<(), BusError> {
        self.check_config("read", offset, data.len())?;
        self.adapter.config_read(offset, data);
        Ok(())
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Result<(), BusError> {
        self.check_config("write", offset, data.len())?;
        self.adapter.config_write(offset, data);
        Ok(())
    }

    fn dma_alloc(&self, len: usize) -> Result<DmaBlock, BusError> {
        let name = || self.name().to_owned();
        let memory = SharedMem::new(len).map_err(|source| BusError::DmaMemory { name: name(), len, source })?;
        self.dma_map(&memory)
    }

    fn dma_map(&self, memory: &SharedMem) -> Result<DmaBlock, BusError> {
        let name = || self.name().to_owned();
        let align = if memory.is_huge() { HUGE_PAGE } else { PAGE } as u64;
        let len = memory.len();
        let taken = self.adapter.unit.iovas.lock().unwrap_or_else(PoisonError::into_inner).take(len as u64, align);
        let Some(iova) = taken else { return Err(BusError::IovaExhausted { name: name(), len }) };
        if let Err(error) = self.adapter.dma_map(iova, len as u64, memory.clone(), 0) {
            self.adapter.unit.iovas.lock().unwrap_or_else(PoisonError::into_inner).give_back(iova);
            let source = io::Error::other(error.to_string());
            return Err(BusError::DmaMap { name: name(), iova, len, source, hint: String::new() });
        }
        let owner: Arc<dyn DmaUnmap> = Arc::<Unmapper>::clone(&self.unmapper);
        Ok(DmaBlock::new(memory.clone(), iova, owner))
    }

    fn irq_enable(&self, count: u16) -> Result<Vec<Irq>, BusError> {
        let error = |source| BusError::Irq { name: self.name().to_owned(), count, source };
        if count > VECTORS {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "the function has 256 vectors");
            return Err(error(source));
        }
        let irqs = (0..count).map(|_| Irq::new()).collect::<Result<Vec<_>, _>>().map_err(error)?;
        let mut slots: Vec<Option<Irq>> = irqs.iter().cloned().map(Some).collect();
        slots.resize(VECTORS.into(), None);
        self.adapter.set_irqs(Vector(0), slots);
        Ok(irqs)
    }

    fn reset(&self) -> Result<(), BusError> {
        self.adapter.reset();
        Ok(())
    }

    fn gone(&self) -> Option<String> {
        self.adapter.is_removed().then(|| "it was taken out of its slot".to_owned())
    }

    #[inline]
    fn now(&self) -> Instant {
        self.adapter.bench.now()
    }

    fn pause(&self, duration: Duration) {
        self.adapter.bench.pause(duration);
    }

    fn relax(&self) {
        self.adapter.bench.relax();
    }

    fn wait_irq(&self, irq: &Irq, limit: Duration) -> Result<bool, BusError> {
        let waited = self.adapter.bench.wait_irq(irq, limit);
        waited.map_err(|source| BusError::Irq { name: self.name().to_owned(), count: 1, source })
    }
}
