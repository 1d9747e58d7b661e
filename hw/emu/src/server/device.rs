//! The adapter as a vfio-user client sees it, and what the client has given it: memory and eventfds.

use crate::Adapter;
use crate::chip::BAR0_LEN;
use crate::lab::Attention;
use crate::msix::VECTORS;
use crate::pci_config::CONFIG_LEN;
use opx_bus::{Irq, SharedMem};
use opx_defs::units::{Iova, Vector};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE, VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_DATA_BOOL, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS,
    VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
};

/// The longest access that is served.
pub(super) const MAX_ACCESS: usize = 1 << 20;
/// Ranges of memory that a client may have mapped at once. A guest with small pages maps each of them.
const MAX_RANGES: usize = 1 << 18;

/// A file that a client shares: device and inode.
type FileId = (u64, u64);

/// A file mapped once, however many of its ranges the client maps: a process may have 65530 mappings only.
struct Shared {
    memory: SharedMem,
    ranges: usize,
}

/// The adapter, and what the present client has given it.
pub(super) struct Device {
    adapter: Adapter,
    files: HashMap<FileId, Shared>,
    /// Ranges mapped, by I/O address: length and file.
    ranges: BTreeMap<u64, (u64, FileId)>,
    vectors: Vec<Option<Irq>>,
}

impl Device {
    pub fn new(adapter: Adapter) -> Self {
        Self { adapter, files: HashMap::new(), ranges: BTreeMap::new(), vectors: vec![None; VECTORS.into()] }
    }

    /// What a kernel does when the last user of a function closes it: no more DMA, no more interrupts, reset.
    pub fn client_left(&mut self) {
        self.set_vectors(0, vec![None; VECTORS.into()]);
        self.adapter.dma_unmap_all();
        self.ranges.clear();
        self.files.clear();
        self.function_reset();
    }

    /// Function-level reset through the PCI Express capability: unlike DEVICE_RESET it resets config space, too.
    fn function_reset(&self) {
        const CAPABILITIES: u16 = 0x34;
        const PCI_EXPRESS: u8 = 0x10;
        const DEVICE_CONTROL: u16 = 8;
        const INITIATE_FLR: u8 = 0x80;
        let byte = |at: u16| {
            let mut byte = [0];
            self.adapter.config_read(at, &mut byte);
            u8::from_le_bytes(byte)
        };
        /// More capabilities than fit in the 256 bytes that they are in.
        const MOST: usize = 64;
        let next = |at: &u16| Some(u16::from(byte(at + 1))).filter(|at| *at != 0);
        let list = std::iter::successors(Some(u16::from(byte(CAPABILITIES))), next);
        let Some(at) = list.take(MOST).find(|at| byte(*at) == PCI_EXPRESS) else { return self.adapter.reset() };
        let high = at + DEVICE_CONTROL + 1;
        self.adapter.config_write(high, &[byte(high) | INITIATE_FLR]);
    }

    fn map(&mut self, iova: u64, len: u64, offset: u64, file: File) -> Result<(), String> {
        if self.ranges.len() >= MAX_RANGES {
            return Err(format!("{MAX_RANGES} ranges are mapped already"));
        }
        let meta = file.metadata().map_err(|e| e.to_string())?;
        let id = (meta.dev(), meta.ino());
        let offset = usize::try_from(offset).map_err(|e| e.to_string())?;
        let memory = match self.files.get(&id) {
            Some(shared) if shared.memory.len() as u64 >= meta.len() => shared.memory.clone(),
            _ => {
                let whole = usize::try_from(meta.len()).map_err(|e| e.to_string())?;
                SharedMem::from_file(file, 0, whole).map_err(|e| format!("can't map the file: {e}"))?
            }
        };
        self.adapter.dma_map(Iova(iova), len, memory.clone(), offset).map_err(|e| e.to_string())?;
        let shared = self.files.entry(id).or_insert_with(|| Shared { memory: memory.clone(), ranges: 0 });
        // A file that has grown is mapped anew; ranges mapped before keep the old mapping of the same memory.
        shared.memory = memory;
        shared.ranges += 1;
        self.ranges.insert(iova, (len, id));
        Ok(())
    }

    fn unmap(&mut self, iova: u64, len: u64) {
        self.adapter.dma_unmap(Iova(iova), len);
        let last = iova.saturating_add(len.saturating_sub(1));
        let inside = self.ranges.range(iova..=last.max(iova));
        let inside = inside.filter(|(start, (len, _))| start.saturating_add(len.saturating_sub(1)) <= last);
        for start in inside.map(|(start, _)| *start).collect::<Vec<_>>() {
            let Some((_, id)) = self.ranges.remove(&start) else { continue };
            if let Some(shared) = self.files.get_mut(&id) {
                shared.ranges -= 1;
                if shared.ranges == 0 {
                    self.files.remove(&id);
                }
            }
        }
    }

    fn set_vectors(&mut self, first: u16, irqs: Vec<Option<Irq>>) {
        for (slot, irq) in self.vectors.iter_mut().skip(first.into()).zip(&irqs) {
            slot.clone_from(irq);
        }
        self.adapter.set_irqs(Vector(first), irqs);
    }

    /// A region's length and flags; `None` when there is no region of that number.
    pub fn region(index: u32) -> Option<(u64, u32)> {
        const FLAGS: u32 = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
        match index {
            VFIO_PCI_BAR0_REGION_INDEX => Some((BAR0_LEN, FLAGS)),
            VFIO_PCI_CONFIG_REGION_INDEX => Some((CONFIG_LEN as u64, FLAGS)),
            _ if index < VFIO_PCI_NUM_REGIONS => Some((0, 0)),
            _ => None,
        }
    }

    /// The number and flags of the interrupts of a kind; `None` when there is no such kind. Not NORESIZE: QEMU would send
    /// all vectors again for each new one.
    pub fn irqs(index: u32) -> Option<(u32, u32)> {
        match index {
            // Announced, as config space has an interrupt pin; the model never raises it.
            VFIO_PCI_INTX_IRQ_INDEX => {
                Some((1, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED))
            }
            VFIO_PCI_MSIX_IRQ_INDEX => Some((VECTORS.into(), VFIO_IRQ_INFO_EVENTFD)),
            _ if index < VFIO_PCI_NUM_IRQS => Some((0, VFIO_IRQ_INFO_EVENTFD)),
            _ => None,
        }
    }

    /// What is done to the chip until this is dropped doesn't wake its thread; what is due then is done first.
    pub fn attend(&self) -> Option<Attention> {
        self.adapter.attend()
    }

    /// Whether software is in the middle of storing a PIO packet.
    pub fn in_pio_packet(&self) -> bool {
        self.adapter.in_pio_packet()
    }

    /// Reads a region; what isn't there reads as ones.
    pub fn region_read(&self, region: u32, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        let end = offset.checked_add(data.len() as u64);
        match (region, end) {
            (VFIO_PCI_BAR0_REGION_INDEX, Some(..=BAR0_LEN)) => self.adapter.bar0_read(offset, data),
            (VFIO_PCI_CONFIG_REGION_INDEX, Some(end)) if end <= CONFIG_LEN as u64 => {
                self.adapter.config_read(offset as u16, data);
            }
            _ => log::warn!("a read of {} bytes at {offset:#x} is outside of region {region}", data.len()),
        }
    }

    /// Writes a region.
    pub fn region_write(&self, region: u32, offset: u64, data: &[u8]) {
        let end = offset.checked_add(data.len() as u64);
        match (region, end) {
            (VFIO_PCI_BAR0_REGION_INDEX, Some(..=BAR0_LEN)) => {
                self.adapter.bar0_write(offset, data);
            }
            (VFIO_PCI_CONFIG_REGION_INDEX, Some(end)) if end <= CONFIG_LEN as u64 => {
                self.adapter.config_write(offset as u16, data);
            }
            _ => log::warn!("a write of {} bytes at {offset:#x} of region {region} is lost", data.len()),
        }
    }

    /// Lets the adapter reach memory of the client's.
    pub fn dma_map(&mut self, offset: u64, address: u64, size: u64, file: Option<File>) {
        let Some(file) = file else {
            // QEMU maps ROMs and other devices' BARs this way; an adapter never goes there.
            log::info!(
                "{size:#x} bytes at I/O address {address:#x} can't be reached: no file descriptor came with them"
            );
            return;
        };
        if let Err(why) = self.map(address, size, offset, file) {
            log::warn!("{size:#x} bytes at I/O address {address:#x} can't be reached: {why}");
        }
    }

    /// Takes memory away from it: `all`, or the ranges that lie within `size` bytes.
    pub fn dma_unmap(&mut self, all: bool, address: u64, size: u64) {
        if all {
            self.adapter.dma_unmap_all();
            self.ranges.clear();
            self.files.clear();
        } else {
            self.unmap(address, size);
        }
    }

    /// Resets the function.
    pub fn reset(&self) {
        self.adapter.reset();
    }

    /// Puts eventfds behind vectors, or raises them.
    pub fn set_irqs(&mut self, index: u32, flags: u32, start: u32, count: u32, fds: Vec<File>) -> Result<(), Errno> {
        if Self::irqs(index).is_none() {
            return Err(Errno::INVAL);
        }
        if flags & VFIO_IRQ_SET_DATA_BOOL != 0 {
            return Err(Errno::NOTSUP);
        }
        let end = start.checked_add(count).filter(|end| *end <= VECTORS.into());
        let (Some(end), VFIO_PCI_MSIX_IRQ_INDEX) = (end, index) else {
            if index == VFIO_PCI_MSIX_IRQ_INDEX {
                log::warn!("MSI-X vectors {start} and {count} more are refused; there are {VECTORS}");
            }
            return Ok(());
        };
        let first = start as u16;
        if flags & VFIO_IRQ_SET_ACTION_TRIGGER == 0 {
            // Masking is done in the table.
        } else if flags & VFIO_IRQ_SET_DATA_EVENTFD != 0 {
            let mut irqs: Vec<Option<Irq>> =
                fds.into_iter().map(|fd| is_eventfd(&fd).then(|| Irq::from(OwnedFd::from(fd)))).collect();
            // A vector without a descriptor is switched off.
            irqs.resize(count as usize, None);
            self.set_vectors(first, irqs);
        } else if flags & VFIO_IRQ_SET_DATA_NONE != 0 && count == 0 {
            self.set_vectors(0, vec![None; VECTORS.into()]);
        } else if flags & VFIO_IRQ_SET_DATA_NONE != 0 {
            // A test of the way to the client: the vectors are raised without the chip.
            for irq in self.vectors.iter().take(end as usize).skip(first.into()).flatten() {
                irq.raise();
            }
        }
        Ok(())
    }
}

/// Whether a descriptor is an eventfd: a write to anything else could block the chip.
fn is_eventfd(file: &File) -> bool {
    let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    link.is_ok_and(|target| target.as_os_str() == "anon_inode:[eventfd]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Lab, Pacing};

    fn device() -> Device {
        Device::new(Lab::new(Pacing::Real).add(Config::default()))
    }

    fn memfd(len: usize) -> (SharedMem, File) {
        let memory = SharedMem::new(len).unwrap();
        let file = File::from(memory.fd().unwrap().0.try_clone_to_owned().unwrap());
        (memory, file)
    }

    #[test]
    fn what_is_outside_reads_as_ones() {
        let device = device();
        for (region, offset) in [(0, (64 << 20) - 4), (7, 4092), (1, 0), (8, 0), (0, u64::MAX - 3)] {
            let mut data = [0; 8];
            device.region_read(region, offset, &mut data);
            assert_eq!(data, [0xff; 8], "{region} {offset:#x}");
            device.region_write(region, offset, &data);
        }
        let mut id = [0; 4];
        device.region_read(7, 0, &mut id);
        assert_eq!(id, [0x86, 0x80, 0xf0, 0x24]);
    }

    #[test]
    fn a_file_is_mapped_once_and_let_go_with_its_last_range() {
        let mut device = device();
        let (_memory, file) = memfd(4 * 4096);
        for page in 0..4 {
            let fd = Some(file.try_clone().unwrap());
            device.dma_map(page * 4096, 0x10_0000 + page * 4096, 4096, fd);
        }
        assert_eq!((device.files.len(), device.ranges.len()), (1, 4));
        device.dma_unmap(false, 0x10_0000, 2 * 4096);
        assert_eq!((device.files.len(), device.ranges.len()), (1, 2));
        device.dma_unmap(false, 0, u64::MAX);
        assert_eq!((device.files.len(), device.ranges.len()), (0, 0));
    }

    #[test]
    fn memory_that_makes_no_sense_is_not_mapped() {
        let mut device = device();
        let (_memory, file) = memfd(4096);
        let null = || File::options().read(true).write(true).open("/dev/null").unwrap();
        let file = || Some(file.try_clone().unwrap());
        for (offset, address, size, fd) in [
            (0, 0x1000, 4096, None),
            (0, 0x1000, 4096, Some(null())),
            (4096, 0x1000, 4096, file()),
            (u64::MAX, 0x1000, 4096, file()),
            (0, u64::MAX, 4096, file()),
            (0, 0x1000, 0, file()),
        ] {
            device.dma_map(offset, address, size, fd);
            assert_eq!((device.ranges.len(), device.files.len()), (0, 0), "{offset:#x} {address:#x} {size:#x}");
        }
    }

    #[test]
    fn vectors_are_raised_switched_off_and_bounded() {
        let mut device = device();
        let irq = Irq::new().unwrap();
        let fd = || File::from(irq.fd().try_clone_to_owned().unwrap());
        let (eventfd, none) = (VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE);
        let (set, test) = (eventfd | VFIO_IRQ_SET_ACTION_TRIGGER, none | VFIO_IRQ_SET_ACTION_TRIGGER);
        device.set_irqs(2, set, 255, 1, vec![fd()]).unwrap();
        device.set_irqs(2, test, 255, 1, vec![]).unwrap();
        assert!(irq.take().unwrap());
        // Beyond the last, and of another kind.
        device.set_irqs(2, set, 255, 2, vec![fd(), fd()]).unwrap();
        device.set_irqs(2, set, u32::MAX, 1, vec![fd()]).unwrap();
        device.set_irqs(0, set, 0, 1, vec![fd()]).unwrap();
        device.set_irqs(2, test, 0, 255, vec![]).unwrap();
        assert!(!irq.take().unwrap());
        // A descriptor that isn't an eventfd is not taken.
        let null = File::options().write(true).open("/dev/null").unwrap();
        device.set_irqs(2, set, 3, 1, vec![null]).unwrap();
        assert!(device.vectors[3].is_none());
        device.set_irqs(2, test, 0, 0, vec![]).unwrap();
        assert!(device.vectors.iter().all(Option::is_none));
    }
}
