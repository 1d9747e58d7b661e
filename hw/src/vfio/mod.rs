//! The bus to an adapter of this machine that is bound to the kernel's vfio-pci driver.

mod check;
mod device;
mod error;

pub use check::Roots;
pub use device::PioMapping;
pub use error::OpenError;

use crate::function::{BAR0_LEN, CONFIG_LENS, IOVAS};
use crate::pci_address::PciAddress;
use device::Device;
use opx_bus::clock::RealClock;
use opx_bus::dma::DmaUnmap;
use opx_bus::iova::IovaAllocator;
use opx_bus::shared_mem::{HUGE_PAGE, PAGE};
use opx_bus::{ALL_ONES, BlockSource, BlockStore, BusError, DmaBlock, Irq, PciFunction, ProcessMark, SharedMem};
use opx_defs::time::Instant;
use opx_defs::units::{BarOff, Iova};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use vfio_bindings::bindings::vfio::VFIO_PCI_BAR0_REGION_INDEX;
use vfio_ioctls::VfioError;

/// The PCI command register, and its bits for memory space and bus mastering.
const COMMAND: (u16, u16) = (4, 1 << 1 | 1 << 2);

/// An adapter of this machine, through `/dev/vfio`.
#[derive(Clone)]
pub struct VfioBus {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    device: Device,
    pio: PioMapping,
    store: BlockStore,
    config_len: u64,
    clock: RealClock,
    iovas: Mutex<IovaAllocator>,
    /// Whether MSI-X is on: VFIO refuses to switch off what isn't.
    irqs_on: Mutex<bool>,
    /// Raised when the kernel wants the function back.
    request: Option<Irq>,
    gone: OnceLock<String>,
    process: ProcessMark,
}

impl std::fmt::Debug for VfioBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VfioBus").field("name", &self.shared.name).field("pio", &self.shared.pio).finish()
    }
}

impl VfioBus {
    /// Opens the adapter at `address` for this process alone.
    ///
    /// # Errors
    /// When there is no such adapter, it isn't set up for VFIO, or it is in use.
    pub fn open(address: PciAddress) -> Result<Self, OpenError> {
        Self::open_with(address, &Roots::default())
    }

    /// As [`VfioBus::open`], with the kernel's files elsewhere.
    ///
    /// # Errors
    /// As [`VfioBus::open`].
    pub fn open_with(address: PciAddress, roots: &Roots) -> Result<Self, OpenError> {
        let ready = roots.check(address)?;
        let (vfio, container) = Device::open(&ready.dir).map_err(|error| match error {
            VfioError::OpenContainer(source) => roots.container_error(address, source),
            VfioError::OpenGroup(source, _) => roots.group_error(address, ready.group, source),
            source => OpenError::Vfio { address, source },
        })?;
        let len = vfio.get_region_size(VFIO_PCI_BAR0_REGION_INDEX);
        if len != BAR0_LEN {
            return Err(OpenError::RegionLength { address, region: "BAR 0", len, expected: "0x4000000" });
        }
        let (device, pio) =
            Device::map(vfio, container, &ready.dir).map_err(|source| OpenError::Map { address, len, source })?;
        let config_len = device.config_len();
        if !CONFIG_LENS.contains(&config_len) {
            let expected = "256 or 4096";
            return Err(OpenError::RegionLength { address, region: "config space", len: config_len, expected });
        }
        let request =
            device.request().map_err(|source| BusError::Irq { name: address.to_string(), count: 1, source })?;
        let shared = Arc::new(Shared {
            name: address.to_string(),
            device,
            pio,
            store: BlockStore::chosen(),
            config_len,
            clock: RealClock::default(),
            iovas: Mutex::new(IovaAllocator::new(IOVAS.0, IOVAS.1)),
            irqs_on: Mutex::new(false),
            request,
            gone: OnceLock::new(),
            process: ProcessMark::here(),
        });
        let bus = Self { shared };
        bus.enable()?;
        Ok(bus)
    }

    /// How the PIO window is mapped.
    pub fn pio_mapping(&self) -> &PioMapping {
        &self.shared.pio
    }

    /// How blocks are stored into the PIO window: by the widest store of this processor, or what `OPX_PIO_STORE` names.
    pub fn block_store(&self) -> BlockStore {
        self.shared.store
    }

    /// Lets the function answer on BAR 0 and start DMA.
    fn enable(&self) -> Result<(), BusError> {
        let (offset, bits) = COMMAND;
        let mut command = [0; 2];
        self.config_read(offset, &mut command)?;
        self.config_write(offset, &(u16::from_le_bytes(command) | bits).to_le_bytes())
    }
}

impl Shared {
    /// That this process has opened the function: a child that was forked from it might wait for a lock for ever.
    fn check_ours(&self) -> Result<(), BusError> {
        if self.process.is_here() {
            return Ok(());
        }
        let why = "it belongs to the process that this one was forked from".to_owned();
        Err(BusError::Gone { name: self.name.clone(), why })
    }

    fn config_error(&self, operation: &'static str, offset: u16, len: usize, source: io::Error) -> BusError {
        BusError::Config { name: self.name.clone(), operation, offset, len, source }
    }

    fn config_range(&self, operation: &'static str, offset: u16, len: usize) -> Result<(), BusError> {
        if u64::from(offset).saturating_add(len as u64) <= self.config_len {
            return Ok(());
        }
        let source = io::Error::new(io::ErrorKind::InvalidInput, format!("it has {} bytes", self.config_len));
        Err(self.config_error(operation, offset, len, source))
    }

    #[cold]
    fn outside(&self, offset: BarOff) {
        log::error!("{}", BusError::OutsideBar { name: self.name.clone(), offset, len: BAR0_LEN });
    }
}

impl DmaUnmap for Shared {
    fn dma_unmap(&self, iova: Iova, memory: &SharedMem) {
        match self.device.dma_unmap(iova, memory.len()) {
            Ok(()) => self.iovas.lock().unwrap_or_else(PoisonError::into_inner).give_back(iova),
            // The function may still reach the memory by this address: it isn't given out again.
            Err(error) => {
                log::error!("{}: can't unmap {} bytes at I/O address {iova}: {error}", self.name, memory.len())
            }
        }
    }
}

/// What to do about a mapping that failed, for want of lockable memory most often.
fn map_hint(source: &io::Error, len: usize, limit: Option<u64>) -> String {
    match (Errno::from_io_error(source), limit) {
        (Some(Errno::NOMEM), Some(limit)) => format!(
            "; {len} bytes must be locked and RLIMIT_MEMLOCK is {limit} bytes in all: raise it (ulimit -l, or LimitMEMLOCK= in the service)"
        ),
        (Some(Errno::NOMEM), None) => "; the system has no memory left to lock".to_owned(),
        _ => String::new(),
    }
}

impl PciFunction for VfioBus {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn bar0_len(&self) -> u64 {
        BAR0_LEN
    }

    #[inline]
    fn read64(&self, offset: BarOff) -> u64 {
        self.shared.device.read(offset).unwrap_or_else(|| {
            self.shared.outside(offset);
            ALL_ONES
        })
    }

    #[inline]
    fn write64(&self, offset: BarOff, value: u64) {
        if !self.shared.device.write(offset, value) {
            self.shared.outside(offset);
        }
    }

    #[inline]
    fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
        self.write_blocks(offset, BlockSource::of_block(block));
    }

    #[inline]
    fn write_blocks(&self, offset: BarOff, blocks: BlockSource<'_>) {
        if !self.shared.device.write_blocks(offset, self.shared.store, blocks) {
            self.shared.outside(offset);
        }
    }

    fn config_read(&self, offset: u16, data: &mut [u8]) -> Result<(), BusError> {
        let (shared, len) = (&self.shared, data.len());
        shared.config_range("read", offset, len)?;
        shared.device.config_read(offset, data).map_err(|e| shared.config_error("read", offset, len, e))
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Result<(), BusError> {
        let (shared, len) = (&self.shared, data.len());
        shared.config_range("write", offset, len)?;
        shared.device.config_write(offset, data).map_err(|e| shared.config_error("write", offset, len, e))
    }

    fn dma_alloc(&self, len: usize) -> Result<DmaBlock, BusError> {
        let name = || self.shared.name.clone();
        let memory = SharedMem::new(len).map_err(|source| BusError::DmaMemory { name: name(), len, source })?;
        self.dma_map(&memory)
    }

    fn dma_map(&self, memory: &SharedMem) -> Result<DmaBlock, BusError> {
        let shared = &self.shared;
        let name = || shared.name.clone();
        let len = memory.len();
        let align = if memory.is_huge() { HUGE_PAGE } else { PAGE };
        shared.check_ours()?;
        let mut iovas = shared.iovas.lock().unwrap_or_else(PoisonError::into_inner);
        let iova = iovas.take(len as u64, align as u64).ok_or_else(|| BusError::IovaExhausted { name: name(), len })?;
        if let Err(source) = shared.device.dma_map(iova, memory) {
            iovas.give_back(iova);
            let hint = map_hint(&source, len, getrlimit(Resource::Memlock).current);
            return Err(BusError::DmaMap { name: name(), iova, len, source, hint });
        }
        drop(iovas);
        Ok(DmaBlock::new(memory.clone(), iova, shared.clone()))
    }

    fn irq_enable(&self, count: u16) -> Result<Vec<Irq>, BusError> {
        let shared = &self.shared;
        let refused = |source| BusError::Irq { name: shared.name.clone(), count, source };
        shared.check_ours()?;
        let vectors = shared.device.vectors();
        if u32::from(count) > vectors {
            return Err(refused(io::Error::other(format!("the function has {vectors} vectors"))));
        }
        let irqs = (0..count).map(|_| Irq::new()).collect::<io::Result<Vec<Irq>>>().map_err(refused)?;
        let mut on = shared.irqs_on.lock().unwrap_or_else(PoisonError::into_inner);
        if *on {
            // VFIO changes the number of vectors only from "off".
            shared.device.disable_irqs().map_err(refused)?;
            *on = false;
        }
        if !irqs.is_empty() {
            shared.device.enable_irqs(&irqs).map_err(refused)?;
            *on = true;
        }
        Ok(irqs)
    }

    fn reset(&self) -> Result<(), BusError> {
        self.shared.device.reset().map_err(|source| BusError::Reset { name: self.shared.name.clone(), source })?;
        // The kernel restores config space after the reset; bus mastering is set again in case it was off before.
        self.enable()
    }

    fn gone(&self) -> Option<String> {
        let shared = &self.shared;
        if shared.request.as_ref().is_some_and(|request| request.take().unwrap_or(false)) {
            shared.gone.get_or_init(|| "the system takes it away: it is unplugged or unbound".to_owned());
        }
        if shared.gone.get().is_none() {
            let mut vendor = [0; 2];
            // A function that doesn't answer reads as all ones in config space, too.
            match shared.device.config_read(0, &mut vendor) {
                Ok(()) if vendor == [0xff; 2] => {
                    shared.gone.get_or_init(|| "config space reads as all ones".to_owned());
                }
                Ok(()) => {}
                Err(error) => {
                    shared.gone.get_or_init(|| format!("config space can't be read: {error}"));
                }
            }
        }
        shared.gone.get().cloned()
    }

    #[inline]
    fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    fn pause(&self, duration: Duration) {
        self.shared.clock.pause(duration);
    }

    fn relax(&self) {
        self.shared.clock.relax();
    }

    fn wait_irq(&self, irq: &Irq, limit: Duration) -> Result<bool, BusError> {
        irq.wait(limit).map_err(|source| BusError::Irq { name: self.shared.name.clone(), count: 1, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_lockable_memory_says_what_to_raise() {
        let no_memory: io::Error = Errno::NOMEM.into();
        let hint = map_hint(&no_memory, 4096, Some(65536));
        assert!(hint.contains("4096 bytes") && hint.contains("RLIMIT_MEMLOCK is 65536"), "{hint}");
        assert!(map_hint(&no_memory, 4096, None).contains("no memory left"));
        assert_eq!(map_hint(&Errno::EXIST.into(), 4096, Some(65536)), "");
    }

    #[test]
    fn a_missing_adapter_is_told_without_touching_vfio() {
        let tree = tempfile::tempdir().unwrap();
        let roots = Roots { sysfs: tree.path().into(), dev: tree.path().into(), proc: tree.path().into() };
        let error = VfioBus::open_with("af:00.0".parse().unwrap(), &roots).unwrap_err();
        assert!(matches!(error, OpenError::NotFound { .. }), "{error}");
    }
}
