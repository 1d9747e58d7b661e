//! The function itself under VFIO: mapped registers, config space, reset, interrupts and DMA mappings.
//!
//! All unsafe code of the kernel's bus is here: registers are memory that isn't ours, and the IOMMU is told addresses.
#![allow(unsafe_code)]

use crate::function::BAR0_LEN;
use memmap2::{MmapOptions, MmapRaw};
use opx_bus::block_store::BLOCK;
use opx_bus::{BlockSource, BlockStore, Irq, SharedMem};
use opx_defs::chip;
use opx_defs::units::{BarOff, Iova};
use rustix::io::Errno;
use rustix::ioctl::{NoArg, Opcode, ioctl, opcode};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::path::Path;
use std::sync::Arc;
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_REQ_IRQ_INDEX, VFIO_TYPE,
};
use vfio_ioctls::{VfioContainer, VfioDevice, VfioError};
use vmm_sys_util::eventfd::EventFd;
use volatile_register::RW;

/// First byte of the PIO window in BAR 0.
const PIO_START: u32 = (chip::TXE + chip::TXE_PIO_SEND_OFFSET) as u32;
/// VFIO_DEVICE_RESET of `linux/vfio.h`.
const DEVICE_RESET: Opcode = opcode::none(VFIO_TYPE, (VFIO_BASE + 11) as u8);

/// A part of BAR 0, mapped.
#[derive(Debug)]
pub(super) struct Window {
    map: MmapRaw,
    start: u32,
}

impl Window {
    /// Maps `len` bytes at `offset` of `file`; they are BAR 0 from `start` on.
    pub fn map(file: &impl AsRawFd, offset: u64, start: u32, len: usize) -> io::Result<Self> {
        let map = MmapOptions::new().offset(offset).len(len).map_raw(file)?;
        Ok(Self { map, start })
    }

    /// The register at `offset`, when it is in the window and aligned.
    #[inline]
    fn cell(&self, offset: BarOff) -> Option<&RW<u64>> {
        let at = offset.0.checked_sub(self.start)? as usize;
        if at.checked_add(8)? > self.map.len() || !at.is_multiple_of(8) {
            return None;
        }
        // SAFETY: in range and aligned (the mapping is page aligned); it lives as long as `self`; the cell is only
        // accessed volatilely, so that it may change by itself.
        Some(unsafe { &*self.map.as_mut_ptr().add(at).cast::<RW<u64>>() })
    }

    /// Reads a register; `None` outside of the window.
    #[inline]
    pub fn read(&self, offset: BarOff) -> Option<u64> {
        Some(u64::from_le(self.cell(offset)?.read()))
    }

    /// Writes a register; `false` outside of the window.
    #[inline]
    pub fn write(&self, offset: BarOff, value: u64) -> bool {
        let Some(cell) = self.cell(offset) else { return false };
        // SAFETY: what a register write sets off can't touch this process's memory other than the blocks mapped for
        // DMA, which are only seen as atomic cells.
        unsafe { cell.write(value.to_le()) };
        true
    }

    /// Stores whole blocks; `false`, and nothing is stored, when they don't all lie in the window or aren't aligned.
    #[inline]
    pub fn write_blocks(&self, offset: BarOff, store: BlockStore, blocks: BlockSource<'_>) -> bool {
        let Some(at) = offset.0.checked_sub(self.start).map(|at| at as usize) else { return false };
        let inside = blocks.len().checked_mul(BLOCK).and_then(|len| at.checked_add(len)) <= Some(self.map.len());
        if !inside || !at.is_multiple_of(BLOCK) {
            return false;
        }
        // SAFETY: in range and aligned (the mapping is page aligned), and only seen as volatile cells otherwise. What a
        // store sets off can't touch this process's memory, as above.
        unsafe { blocks.store_to(store, self.map.as_mut_ptr().add(at)) };
        true
    }
}

/// How the PIO window is mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PioMapping {
    /// Write-combined, through the function's `resource0_wc` in sysfs: a block is one PCIe transaction.
    ///
    /// The kernel keeps one memory type for each page. Where another mapping made it uncached before, this one is, too,
    /// without a word: only a measurement tells.
    WriteCombined,
    /// Uncached, as vfio-pci maps BARs: each qword is a transaction.
    Uncached {
        /// Why it isn't write-combined.
        why: String,
    },
}

/// An open function.
pub(super) struct Device {
    // Dropped in this order: mappings before the device, the device before its container.
    bar0: Window,
    pio: Option<Window>,
    vfio: VfioDevice,
    container: Arc<VfioContainer>,
}

impl Device {
    /// Opens the function whose folder in sysfs is `dir`.
    pub fn open(dir: &Path) -> Result<(VfioDevice, Arc<VfioContainer>), VfioError> {
        let container = Arc::new(VfioContainer::new(None)?);
        let vfio = VfioDevice::new(dir, container.clone(), false)?;
        Ok((vfio, container))
    }

    /// Maps the registers of an opened function.
    pub fn map(vfio: VfioDevice, container: Arc<VfioContainer>, dir: &Path) -> io::Result<(Self, PioMapping)> {
        let bar0 = Window::map(&vfio, vfio.get_region_offset(VFIO_PCI_BAR0_REGION_INDEX), 0, BAR0_LEN as usize)?;
        let (pio, mapping) = match map_pio(&dir.join("resource0_wc")) {
            Ok(window) => (Some(window), PioMapping::WriteCombined),
            Err(why) => (None, PioMapping::Uncached { why }),
        };
        Ok((Self { bar0, pio, vfio, container }, mapping))
    }

    /// Reads a register; `None` outside of BAR 0.
    #[inline]
    pub fn read(&self, offset: BarOff) -> Option<u64> {
        self.window(offset).read(offset)
    }

    /// Writes a register; `false` outside of BAR 0.
    #[inline]
    pub fn write(&self, offset: BarOff, value: u64) -> bool {
        self.window(offset).write(offset, value)
    }

    /// Stores whole blocks; `false` outside of BAR 0.
    #[inline]
    pub fn write_blocks(&self, offset: BarOff, store: BlockStore, blocks: BlockSource<'_>) -> bool {
        self.window(offset).write_blocks(offset, store, blocks)
    }

    /// The mapping to use for a register.
    #[inline]
    fn window(&self, offset: BarOff) -> &Window {
        match &self.pio {
            Some(pio) if offset.0 >= PIO_START => pio,
            _ => &self.bar0,
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open as long as `self.vfio`, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.vfio.as_raw_fd()) }
    }

    /// Bytes of config space.
    pub fn config_len(&self) -> u64 {
        self.vfio.get_region_size(VFIO_PCI_CONFIG_REGION_INDEX)
    }

    /// Reads config space. The crate's own `region_read` swallows errors.
    pub fn config_read(&self, offset: u16, data: &mut [u8]) -> io::Result<()> {
        let at = self.vfio.get_region_offset(VFIO_PCI_CONFIG_REGION_INDEX) + u64::from(offset);
        let len = data.len();
        whole(rustix::io::pread(self.fd(), data, at)?, len)
    }

    /// Writes config space.
    pub fn config_write(&self, offset: u16, data: &[u8]) -> io::Result<()> {
        let at = self.vfio.get_region_offset(VFIO_PCI_CONFIG_REGION_INDEX) + u64::from(offset);
        whole(rustix::io::pwrite(self.fd(), data, at)?, data.len())
    }

    /// Function-level reset. The crate's own `reset` swallows errors.
    pub fn reset(&self) -> io::Result<()> {
        // SAFETY: VFIO_DEVICE_RESET takes no argument and gives nothing back.
        Ok(unsafe { ioctl(self.fd(), NoArg::<DEVICE_RESET>::new()) }?)
    }

    /// MSI-X vectors of the function.
    pub fn vectors(&self) -> u32 {
        self.vfio.get_irq_info(VFIO_PCI_MSIX_IRQ_INDEX).map_or(0, |irq| irq.count)
    }

    /// Lets the first MSI-X vectors raise `irqs`.
    pub fn enable_irqs(&self, irqs: &[Irq]) -> io::Result<()> {
        self.raise(VFIO_PCI_MSIX_IRQ_INDEX, irqs)
    }

    /// An event that the kernel raises when it wants the function back: to unplug it, or to give it to another driver.
    /// Without one the kernel waits until the function is closed. `None` for a kernel that doesn't tell.
    pub fn request(&self) -> io::Result<Option<Irq>> {
        if self.vfio.get_irq_info(VFIO_PCI_REQ_IRQ_INDEX).is_none_or(|irq| irq.count == 0) {
            return Ok(None);
        }
        let irq = Irq::new()?;
        self.raise(VFIO_PCI_REQ_IRQ_INDEX, std::slice::from_ref(&irq))?;
        Ok(Some(irq))
    }

    /// Lets interrupts of one kind raise `irqs`.
    fn raise(&self, kind: u32, irqs: &[Irq]) -> io::Result<()> {
        let mut fds = Vec::with_capacity(irqs.len());
        for irq in irqs {
            let fd = irq.fd().try_clone_to_owned()?.into_raw_fd();
            // SAFETY: the descriptor was just made, is an eventfd, and nobody else owns it.
            fds.push(unsafe { EventFd::from_raw_fd(fd) });
        }
        self.vfio.enable_irq(kind, fds.iter().collect()).map_err(|_| last_error())
    }

    /// Switches MSI-X off.
    pub fn disable_irqs(&self) -> io::Result<()> {
        self.vfio.disable_irq(VFIO_PCI_MSIX_IRQ_INDEX).map_err(|_| last_error())
    }

    /// Lets the function reach `memory` at `iova`.
    pub fn dma_map(&self, iova: Iova, memory: &SharedMem) -> io::Result<()> {
        // SAFETY: the range is mapped memory of `memory`, only accessed through atomic cells; `DmaBlock` keeps it mapped
        // until `dma_unmap`.
        unsafe { self.container.vfio_dma_map(iova.0, memory.len(), memory.address() as *mut u8) }.map_err(vfio_cause)
    }

    /// Takes a mapping away.
    pub fn dma_unmap(&self, iova: Iova, len: usize) -> io::Result<()> {
        self.container.vfio_dma_unmap(iova.0, len).map_err(vfio_cause)
    }
}

fn map_pio(file: &Path) -> Result<Window, String> {
    let explain = |error: io::Error| format!("{}: {error}", file.display());
    let file: File = OpenOptions::new().read(true).write(true).open(file).map_err(explain)?;
    Window::map(&file, PIO_START.into(), PIO_START, BAR0_LEN as usize - PIO_START as usize).map_err(explain)
}

/// An error when less than all was moved.
fn whole(moved: usize, len: usize) -> io::Result<()> {
    if moved == len {
        return Ok(());
    }
    Err(io::Error::other(format!("only {moved} of {len} bytes went through")))
}

/// The errno of the ioctl that just failed: the crate drops it for interrupts.
fn last_error() -> io::Error {
    io::Error::last_os_error()
}

fn vfio_cause(error: VfioError) -> io::Error {
    match error {
        VfioError::IommuDmaMap(cause) | VfioError::IommuDmaUnmap(cause) => {
            Errno::from_raw_os_error(cause.errno()).into()
        }
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn registers_are_where_they_should_be() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 * 4096).unwrap();
        file.write_all_at(&0x1122_3344_5566_7788u64.to_le_bytes(), 4096 + 8).unwrap();
        let window = Window::map(&file, 4096, 0x200_0000, 8192).unwrap();
        assert_eq!(window.read(BarOff(0x200_0008)), Some(0x1122_3344_5566_7788));
        assert!(window.write(BarOff(0x200_1ff8), 5));
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 3 * 4096 - 8).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), 5);
    }

    #[test]
    fn nothing_else_is_reached() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let window = Window::map(&file, 0, 0x1000, 4096).unwrap();
        for offset in [0, 0xff8, 0x1004, 0x1ff9, 0x2000, u32::MAX - 7] {
            assert_eq!(window.read(BarOff(offset)), None, "{offset:#x}");
            assert!(!window.write(BarOff(offset), 1), "{offset:#x}");
        }
        let block = [1; 8];
        for offset in [0, 0xfc0, 0x1008, 0x1fc8, 0x2000, u32::MAX - 63] {
            for store in BlockStore::available() {
                assert!(!window.write_blocks(BarOff(offset), store, BlockSource::of_block(&block)), "{offset:#x}");
            }
        }
        assert!((0x1000..0x2000).step_by(8).all(|at| window.read(BarOff(at)) == Some(0)));
    }

    #[test]
    fn blocks_are_where_they_should_be() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let window = Window::map(&file, 0, 0x200_0000, 4096).unwrap();
        let bytes: Vec<u8> = (0..4096).map(|i| (i * 7 / 3) as u8).collect();
        for store in BlockStore::available() {
            let (all, _) = BlockSource::of_bytes(&bytes);
            let (first, rest) = all.split_at(5);
            assert!(window.write_blocks(BarOff(0x200_0000), store, first));
            assert!(window.write_blocks(BarOff(0x200_0000 + 5 * 64), store, rest));
            let mut stored = vec![0; 4096];
            file.read_exact_at(&mut stored, 0).unwrap();
            assert_eq!(stored, bytes, "{store}");
            file.write_all_at(&[0; 4096], 0).unwrap();
        }
    }

    #[test]
    fn a_wc_file_that_isnt_there_is_explained() {
        let why = map_pio(Path::new("/nonexistent/resource0_wc")).unwrap_err();
        assert!(why.starts_with("/nonexistent/resource0_wc: "), "{why}");
    }

    #[test]
    fn errors_keep_their_number() {
        let error = vfio_cause(VfioError::IommuDmaMap(vmm_sys_util::errno::Error::new(12)));
        assert_eq!(Errno::from_io_error(&error), Some(Errno::NOMEM));
        assert!(whole(3, 4).is_err());
    }
}
