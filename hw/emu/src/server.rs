//! An emulated adapter for other processes: served on a vfio-user socket, to one client at a time.
//!
//! The protocol is done by the crate `vfio_user`, and this is the only file that knows it. What has to be worked around:
//! * It answers an error of its backend with errno 0, which QEMU takes for success. So nothing here returns one; what
//!   can't be done is logged, and shows as what hardware would do: all ones, a lost write, a DMA fault.
//! * It panics on a version message that it can't parse. That ends the client's connection, not the server.
//! * It has no DMA by messages: memory that comes without a file descriptor can't be reached.

use crate::Adapter;
use crate::msix::VECTORS;
use crate::pci_config::CONFIG_LEN;
use opx_bus::{Irq, SharedMem};
use opx_defs::units::{Iova, Vector};
use rustix::net::{Shutdown, shutdown};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE, VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS,
    VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, Error, IrqInfo, Server, ServerBackend, ServerRegion};

/// The longest path of a Unix socket, without the zero at its end.
const MAX_PATH: usize = 107;
/// The longest access that is served: what the crate tells the client as `max_data_xfer_size`.
const MAX_ACCESS: usize = 1 << 20;
/// Ranges of memory that a client may have mapped at once. A guest with small pages maps each of them.
const MAX_RANGES: usize = 1 << 18;

/// A socket that can't be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The path doesn't fit in a socket address.
    #[error("{}: the path has {len} bytes, a socket's has at most {MAX_PATH}; use a shorter one", path.display())]
    PathTooLong {
        /// The socket.
        path: PathBuf,
        /// Bytes of it.
        len: usize,
    },
    /// There is something else at the path.
    #[error("{}: exists and is not a socket; remove it or use another path", path.display())]
    NotSocket {
        /// The path.
        path: PathBuf,
    },
    /// Another server listens on it.
    #[error("{}: another server listens on this socket; end it or use another path", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The socket can't be made.
    #[error("{}: can't listen on a socket there: {source}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A socket on which an adapter is served. Dropping it takes no further clients and removes the socket; a client that is
/// connected stays until it hangs up.
#[derive(Debug)]
pub struct SocketServer {
    path: PathBuf,
    /// The socket's device and inode: a later socket at the same path is not removed.
    made: Option<(u64, u64)>,
    listener: OwnedFd,
    ending: Arc<AtomicBool>,
}

impl SocketServer {
    /// Serves `adapter` on a new socket at `path`. A socket that is there and on which nobody listens is replaced.
    ///
    /// # Errors
    /// When the path is of no use, in use, or the system refuses.
    pub fn start(adapter: Adapter, path: &Path) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen { path: path.to_owned(), source };
        let listener = listen(path)?;
        let inode = |path: &Path| fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        let server = Self {
            path: path.to_owned(),
            made: inode(path),
            listener: listener.try_clone().map_err(failed)?.into(),
            ending: Arc::new(AtomicBool::new(false)),
        };
        let (ending, shown) = (Arc::clone(&server.ending), path.display().to_string());
        let socket = Server::from_owned_fd(listener.into(), true, irqs(), regions());
        std::thread::Builder::new()
            .name("vfio-user".to_owned())
            .spawn(move || serve(&socket, &mut Backend::new(adapter), &ending, &shown))
            .map_err(failed)?;
        Ok(server)
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketServer {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        // Wakes the thread when it waits for a client.
        let _ = shutdown(&self.listener, Shutdown::Both);
        let there = fs::symlink_metadata(&self.path).ok().map(|meta| (meta.dev(), meta.ino()));
        if there.is_some() && there == self.made {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn listen(path: &Path) -> Result<UnixListener, ServeError> {
    let len = path.as_os_str().len();
    if len > MAX_PATH {
        return Err(ServeError::PathTooLong { path: path.to_owned(), len });
    }
    if let Ok(meta) = fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            return Err(ServeError::NotSocket { path: path.to_owned() });
        }
        // Only a socket that refuses is left over; one that answers, or says anything else, is somebody's.
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(|source| ServeError::Listen { path: path.to_owned(), source })?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => return Err(ServeError::InUse { path: path.to_owned() }),
        }
    }
    UnixListener::bind(path).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::InUse { path: path.to_owned() },
        _ => ServeError::Listen { path: path.to_owned(), source },
    })
}

/// Serves one client after the other.
fn serve(server: &Server, backend: &mut Backend, ending: &AtomicBool, socket: &str) {
    /// Before the next try, when the system has no descriptor for a client.
    const PAUSE: Duration = Duration::from_millis(100);
    loop {
        let ended = catch_unwind(AssertUnwindSafe(|| server.run(backend)));
        backend.client_left();
        if ending.load(Ordering::Relaxed) {
            return;
        }
        match ended {
            Ok(Ok(())) => log::info!("{socket}: the client hung up"),
            Ok(Err(Error::SocketAccept(error))) => {
                log::warn!("{socket}: can't take a client: {error}");
                std::thread::sleep(PAUSE);
            }
            Ok(Err(error)) => log::info!("{socket}: the client is gone: {error}"),
            Err(_) => log::warn!("{socket}: the client sent a version message that makes no sense"),
        }
    }
}

/// The interrupts of the function. Not NORESIZE: QEMU would send all vectors again for each new one.
fn irqs() -> Vec<IrqInfo> {
    let info = |index| match index {
        // Announced, as config space has an interrupt pin; the model never raises it.
        VFIO_PCI_INTX_IRQ_INDEX => (1, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED),
        VFIO_PCI_MSIX_IRQ_INDEX => (VECTORS.into(), VFIO_IRQ_INFO_EVENTFD),
        _ => (0, VFIO_IRQ_INFO_EVENTFD),
    };
    (0..VFIO_PCI_NUM_IRQS)
        .map(|index| (index, info(index)))
        .map(|(index, (count, flags))| IrqInfo { index, flags, count })
        .collect()
}

/// The regions of the function: BAR 0 and config space.
fn regions() -> Vec<ServerRegion> {
    let region = |index| {
        let size = match index {
            VFIO_PCI_BAR0_REGION_INDEX => crate::chip::BAR0_LEN,
            VFIO_PCI_CONFIG_REGION_INDEX => CONFIG_LEN as u64,
            _ => 0,
        };
        let flags = if size == 0 { 0 } else { VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE };
        let argsz = size_of::<vfio_region_info>() as u32;
        let region_info = vfio_region_info { argsz, flags, index, cap_offset: 0, size, offset: 0 };
        ServerRegion { region_info, sparse_areas: Vec::new(), mmap_fd: None }
    };
    (0..VFIO_PCI_NUM_REGIONS).map(region).collect()
}

/// A file that a client shares: device and inode.
type FileId = (u64, u64);

/// A file mapped once, however many of its ranges the client maps: a process may have 65530 mappings only.
struct Shared {
    memory: SharedMem,
    ranges: usize,
}

/// The adapter as the crate sees it, and what the present client has given it.
struct Backend {
    adapter: Adapter,
    files: HashMap<FileId, Shared>,
    /// Ranges mapped, by I/O address: length and file.
    ranges: BTreeMap<u64, (u64, FileId)>,
    vectors: Vec<Option<Irq>>,
}

impl Backend {
    fn new(adapter: Adapter) -> Self {
        Self { adapter, files: HashMap::new(), ranges: BTreeMap::new(), vectors: vec![None; VECTORS.into()] }
    }

    /// What a kernel does when the last user of a function closes it: no more DMA, no more interrupts, reset.
    fn client_left(&mut self) {
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
}

/// Whether a descriptor is an eventfd: a write to anything else could block the chip.
fn is_eventfd(file: &File) -> bool {
    let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    link.is_ok_and(|target| target.as_os_str() == "anon_inode:[eventfd]")
}

impl ServerBackend for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), io::Error> {
        if data.len() > MAX_ACCESS {
            // Not even filled with ones: untouched pages cost no memory.
            log::warn!("a read of {} bytes is refused; {MAX_ACCESS} are the most", data.len());
            return Ok(());
        }
        data.fill(0xff);
        let end = offset.checked_add(data.len() as u64);
        match (region, end) {
            (VFIO_PCI_BAR0_REGION_INDEX, Some(..=crate::chip::BAR0_LEN)) => self.adapter.bar0_read(offset, data),
            (VFIO_PCI_CONFIG_REGION_INDEX, Some(end)) if end <= CONFIG_LEN as u64 => {
                self.adapter.config_read(offset as u16, data);
            }
            _ => log::warn!("a read of {} bytes at {offset:#x} is outside of region {region}", data.len()),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let end = offset.checked_add(data.len() as u64);
        match (region, end) {
            (VFIO_PCI_BAR0_REGION_INDEX, Some(..=crate::chip::BAR0_LEN)) if data.len() <= MAX_ACCESS => {
                self.adapter.bar0_write(offset, data);
            }
            (VFIO_PCI_CONFIG_REGION_INDEX, Some(end)) if end <= CONFIG_LEN as u64 => {
                self.adapter.config_write(offset as u16, data);
            }
            _ => log::warn!("a write of {} bytes at {offset:#x} of region {region} is lost", data.len()),
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        _flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<File>,
    ) -> Result<(), io::Error> {
        let Some(file) = file else {
            // QEMU maps ROMs and other devices' BARs this way; an adapter never goes there.
            log::info!(
                "{size:#x} bytes at I/O address {address:#x} can't be reached: no file descriptor came with them"
            );
            return Ok(());
        };
        if let Err(why) = self.map(address, size, offset, file) {
            log::warn!("{size:#x} bytes at I/O address {address:#x} can't be reached: {why}");
        }
        Ok(())
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> Result<(), io::Error> {
        if flags.contains(DmaUnmapFlags::UNMAP_ALL) {
            self.adapter.dma_unmap_all();
            self.ranges.clear();
            self.files.clear();
        } else {
            self.unmap(address, size);
        }
        Ok(())
    }

    fn reset(&mut self) -> Result<(), io::Error> {
        self.adapter.reset();
        Ok(())
    }

    fn set_irqs(&mut self, index: u32, flags: u32, start: u32, count: u32, fds: Vec<File>) -> Result<(), io::Error> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Lab, Pacing};

    fn backend() -> Backend {
        Backend::new(Lab::new(Pacing::Real).add(Config::default()))
    }

    fn memfd(len: usize) -> (SharedMem, File) {
        let memory = SharedMem::new(len).unwrap();
        let file = File::from(memory.fd().unwrap().0.try_clone_to_owned().unwrap());
        (memory, file)
    }

    #[test]
    fn what_is_outside_reads_as_ones() {
        let mut backend = backend();
        for (region, offset) in [(0, (64 << 20) - 4), (7, 4092), (1, 0), (8, 0), (0, u64::MAX - 3)] {
            let mut data = [0; 8];
            backend.region_read(region, offset, &mut data).unwrap();
            assert_eq!(data, [0xff; 8], "{region} {offset:#x}");
            backend.region_write(region, offset, &data).unwrap();
        }
        let mut id = [0; 4];
        backend.region_read(7, 0, &mut id).unwrap();
        assert_eq!(id, [0x86, 0x80, 0xf0, 0x24]);
    }

    #[test]
    fn a_file_is_mapped_once_and_let_go_with_its_last_range() {
        let mut backend = backend();
        let (_memory, file) = memfd(4 * 4096);
        for page in 0..4 {
            let flags = DmaMapFlags::READ_WRITE;
            let fd = Some(file.try_clone().unwrap());
            backend.dma_map(flags, page * 4096, 0x10_0000 + page * 4096, 4096, fd).unwrap();
        }
        assert_eq!((backend.files.len(), backend.ranges.len()), (1, 4));
        backend.dma_unmap(DmaUnmapFlags::empty(), 0x10_0000, 2 * 4096).unwrap();
        assert_eq!((backend.files.len(), backend.ranges.len()), (1, 2));
        backend.dma_unmap(DmaUnmapFlags::empty(), 0, u64::MAX).unwrap();
        assert_eq!((backend.files.len(), backend.ranges.len()), (0, 0));
    }

    #[test]
    fn memory_that_makes_no_sense_is_not_mapped() {
        let mut backend = backend();
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
            backend.dma_map(DmaMapFlags::READ_WRITE, offset, address, size, fd).unwrap();
            assert_eq!((backend.ranges.len(), backend.files.len()), (0, 0), "{offset:#x} {address:#x} {size:#x}");
        }
    }

    #[test]
    fn vectors_are_raised_switched_off_and_bounded() {
        let mut backend = backend();
        let irq = Irq::new().unwrap();
        let fd = || File::from(irq.fd().try_clone_to_owned().unwrap());
        let (eventfd, none) = (VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE);
        let (set, test) = (eventfd | VFIO_IRQ_SET_ACTION_TRIGGER, none | VFIO_IRQ_SET_ACTION_TRIGGER);
        backend.set_irqs(2, set, 255, 1, vec![fd()]).unwrap();
        backend.set_irqs(2, test, 255, 1, vec![]).unwrap();
        assert!(irq.take().unwrap());
        // Beyond the last, and of another kind.
        backend.set_irqs(2, set, 255, 2, vec![fd(), fd()]).unwrap();
        backend.set_irqs(2, set, u32::MAX, 1, vec![fd()]).unwrap();
        backend.set_irqs(0, set, 0, 1, vec![fd()]).unwrap();
        backend.set_irqs(2, test, 0, 255, vec![]).unwrap();
        assert!(!irq.take().unwrap());
        // A descriptor that isn't an eventfd is not taken.
        let null = File::options().write(true).open("/dev/null").unwrap();
        backend.set_irqs(2, set, 3, 1, vec![null]).unwrap();
        assert!(backend.vectors[3].is_none());
        backend.set_irqs(2, test, 0, 0, vec![]).unwrap();
        assert!(backend.vectors.iter().all(Option::is_none));
    }

    #[test]
    fn only_a_socket_that_is_left_over_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let adapter = || Lab::new(Pacing::Real).add(Config::default());
        let start = |path: &Path| SocketServer::start(adapter(), path);
        drop(UnixListener::bind(&path).unwrap());
        let server = start(&path).unwrap();
        assert!(matches!(start(&path), Err(ServeError::InUse { .. })));
        assert_eq!(server.path(), path);
        drop(server);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(start(&path), Err(ServeError::NotSocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert!(matches!(start(&dir.path().join("x".repeat(108))), Err(ServeError::PathTooLong { .. })));
        assert!(matches!(start(&dir.path().join("no/such/dir")), Err(ServeError::Listen { .. })));
    }
}
