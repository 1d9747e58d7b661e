//! The bus to an adapter that another process serves on a vfio-user socket, an emulated one for example.

mod client;
mod error;
mod message;

pub use error::OpenError;

use crate::discover::is_hfi1;
use crate::function::{BAR0_LEN, CONFIG_LENS, IOVAS};
use client::{Client, Failure, MAX_FDS, RequestError};
use message::{ACCESS_LEN, Command, Fields, HEADER_LEN, MAX_REPLY, access, u32_at, u64_at};
use opx_bus::clock::RealClock;
use opx_bus::dma::DmaUnmap;
use opx_bus::iova::IovaAllocator;
use opx_bus::shared_mem::{HUGE_PAGE, PAGE};
use opx_bus::{ALL_ONES, BusError, DmaBlock, Irq, PciFunction, SharedMem};
use opx_defs::time::Instant;
use opx_defs::units::{BarOff, Iova};
use opx_defs::wire::pbc::Pbc;
use rustix::io::Errno;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
};

/// Where the view of the PIO window begins that starts a packet (`pio.c:sc_alloc`, SOP_DISTANCE).
const PIO_SOP: u32 = 0x300_0000;
/// READ and WRITE in the flags of DMA_MAP.
const DMA_READ_WRITE: u32 = 3;

/// How long the server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// To accept the connection and negotiate the version.
    pub connect: Duration,
    /// To answer any request after that. Less than 5 s, so that with the time until somebody asks a server that hangs is
    /// told within 5 s.
    pub request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), request: Duration::from_secs(3) }
    }
}

/// An adapter behind a vfio-user socket. The server serves one client at a time; the last clone that is dropped hangs up.
#[derive(Debug, Clone)]
pub struct VfioUserBus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    client: Client,
    clock: RealClock,
    iovas: Mutex<IovaAllocator>,
    config_len: u64,
    vectors: u32,
    fds_per_message: usize,
}

impl VfioUserBus {
    /// Connects to the server that listens on `path`.
    ///
    /// # Errors
    /// When there is no such server, it doesn't answer, or what it serves is no HFI1.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, Limits::default())
    }

    /// As [`VfioUserBus::open`], with other limits.
    ///
    /// # Errors
    /// As [`VfioUserBus::open`].
    pub fn open_with(path: &Path, limits: Limits) -> Result<Self, OpenError> {
        let mut client = Client::connect(path, limits.connect).map_err(|e| connect_error(path, limits, e))?;
        let fds_per_message = negotiate(&client).map_err(|error| match error {
            Negotiation::Version { major, minor } => OpenError::Version { path: path.to_owned(), major, minor },
            Negotiation::Request(RequestError::Gone(Failure::Silent { .. })) => {
                OpenError::Silent { path: path.to_owned(), limit: limits.connect }
            }
            Negotiation::Request(error) => OpenError::NotVfioUser { path: path.to_owned(), what: error.to_string() },
        })?;
        client.set_limit(limits.request).map_err(|e| connect_error(path, limits, e))?;

        let name = format!("vfio-user:{}", path.display());
        let bus_error = |error| open_bus_error(path, &name, error);
        let (flags, irqs) = device_info(&client).map_err(bus_error)?;
        if flags & VFIO_DEVICE_FLAGS_PCI == 0 {
            return Err(OpenError::NotPci { path: path.to_owned() });
        }
        let bar0 = region_len(&client, VFIO_PCI_BAR0_REGION_INDEX).map_err(bus_error)?;
        let config_len = region_len(&client, VFIO_PCI_CONFIG_REGION_INDEX).map_err(bus_error)?;
        let wrong = |region, len, expected| OpenError::RegionLength { path: path.to_owned(), region, len, expected };
        if !CONFIG_LENS.contains(&config_len) {
            return Err(wrong("config space", config_len, "256 or 4096"));
        }
        let vectors = if irqs > VFIO_PCI_MSIX_IRQ_INDEX {
            irq_count(&client, VFIO_PCI_MSIX_IRQ_INDEX).map_err(bus_error)?
        } else {
            0
        };
        let iovas = Mutex::new(IovaAllocator::new(IOVAS.0, IOVAS.1));
        let shared = Shared { name, client, clock: RealClock::default(), iovas, config_len, vectors, fds_per_message };
        let bus = Self { shared: Arc::new(shared) };
        let mut id = [0; 4];
        bus.config_read(0, &mut id)?;
        let [vendor, device] = [[id[0], id[1]], [id[2], id[3]]].map(u16::from_le_bytes);
        if !is_hfi1(vendor, device) {
            return Err(OpenError::NotHfi1 { path: path.to_owned(), vendor, device });
        }
        // Last, because of another device's BAR 0 it says nothing.
        if bar0 != BAR0_LEN {
            return Err(wrong("BAR 0", bar0, "0x4000000"));
        }
        Ok(bus)
    }
}

fn connect_error(path: &Path, limits: Limits, source: io::Error) -> OpenError {
    let path = path.to_owned();
    match Errno::from_io_error(&source) {
        Some(Errno::NAMETOOLONG) => OpenError::PathTooLong { len: path.as_os_str().len(), path },
        Some(Errno::NOENT | Errno::NOTDIR) => OpenError::Missing { path },
        // connect() says "refused" of a file that is no socket, too.
        Some(Errno::CONNREFUSED) if !is_socket(&path) => OpenError::NotSocket { path },
        Some(Errno::CONNREFUSED) => OpenError::Refused { path },
        Some(Errno::AGAIN) => OpenError::Silent { path, limit: limits.connect },
        _ => OpenError::Connect { path, source },
    }
}

fn is_socket(path: &PathBuf) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// What the client can do, as it tells the server. The text ends with a zero byte.
const CAPABILITIES: &[u8] = b"{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576}}\0";

enum Negotiation {
    Version { major: u16, minor: u16 },
    Request(RequestError),
}

/// Agrees on version 0.0; returns how many descriptors the server takes in a message.
fn negotiate(client: &Client) -> Result<usize, Negotiation> {
    let version = Fields::default().u32(0);
    let body = [version.bytes(), CAPABILITIES];
    let (major, minor, fds) = client
        .request(Command::Version, &body, &[], 4..=MAX_REPLY - HEADER_LEN, |body| {
            let version = u32_at(body, 0).ok_or("no version")?;
            let text = body.get(4..).unwrap_or_default();
            let text = text.strip_suffix(&[0]).unwrap_or(text);
            // The server may leave its capabilities out; then it takes one descriptor at a time.
            let capabilities: serde_json::Value = match text {
                [] => serde_json::Value::Null,
                text => serde_json::from_slice(text).map_err(|e| format!("its capabilities are no JSON: {e}"))?,
            };
            let fds = capabilities.pointer("/capabilities/max_msg_fds").and_then(serde_json::Value::as_u64);
            Ok((version as u16, (version >> 16) as u16, fds.unwrap_or(1)))
        })
        .map_err(Negotiation::Request)?;
    if major != 0 {
        return Err(Negotiation::Version { major, minor });
    }
    Ok(usize::try_from(fds).unwrap_or(MAX_FDS).clamp(1, MAX_FDS))
}

/// The device's flags and number of interrupt kinds.
fn device_info(client: &Client) -> Result<(u32, u32), RequestError> {
    let body = Fields::default().u32(16).u32(0).u32(0).u32(0);
    client.request(Command::DeviceGetInfo, &[body.bytes()], &[], 16..=16, |body| {
        u32_at(body, 4).zip(u32_at(body, 12)).ok_or_else(|| "too short".into())
    })
}

/// The length of a region.
fn region_len(client: &Client, index: u32) -> Result<u64, RequestError> {
    let body = Fields::default().u32(32).u32(0).u32(index).u32(0).u64(0).u64(0);
    client.request(Command::DeviceGetRegionInfo, &[body.bytes()], &[], 32..=32, |body| match u32_at(body, 8) {
        Some(answered) if answered == index => u64_at(body, 16).ok_or_else(|| "too short".into()),
        answered => Err(format!("asked for region {index}, told about {answered:?}")),
    })
}

/// The number of interrupts of a kind.
fn irq_count(client: &Client, index: u32) -> Result<u32, RequestError> {
    let body = Fields::default().u32(16).u32(0).u32(index).u32(0);
    client.request(Command::DeviceGetIrqInfo, &[body.bytes()], &[], 16..=16, |body| match u32_at(body, 8) {
        Some(answered) if answered == index => u32_at(body, 12).ok_or_else(|| "too short".into()),
        answered => Err(format!("asked for interrupts {index}, told about {answered:?}")),
    })
}

fn open_bus_error(path: &Path, name: &str, error: RequestError) -> OpenError {
    match error {
        RequestError::Refused { .. } => OpenError::NotVfioUser { path: path.to_owned(), what: error.to_string() },
        RequestError::Gone(failure) => BusError::Gone { name: name.to_owned(), why: failure.to_string() }.into(),
    }
}

/// Reads `data.len()` bytes of a region.
fn region_read(client: &Client, region: u32, offset: u64, data: &mut [u8]) -> Result<(), RequestError> {
    let request = access(region, offset, data.len());
    let len = ACCESS_LEN + data.len();
    client.request(Command::RegionRead, &[&request], &[], len..=len, |body| {
        let (echo, bytes) = body.split_at_checked(ACCESS_LEN).ok_or("too short")?;
        if echo != request {
            return Err(format!("asked for {} bytes at {offset:#x} of region {region}, got others", data.len()));
        }
        data.copy_from_slice(bytes);
        Ok(())
    })
}

impl Shared {
    fn error(&self, error: RequestError, refused: impl FnOnce(io::Error) -> BusError) -> BusError {
        match error {
            RequestError::Refused { source, .. } => refused(source),
            RequestError::Gone(failure) => BusError::Gone { name: self.name.clone(), why: failure.to_string() },
        }
    }

    /// Whether `len` bytes at `offset` are in BAR 0; a mistake of the driver is told, once for each access.
    fn in_bar(&self, offset: BarOff, len: u64) -> bool {
        let inside = u64::from(offset.0) + len <= BAR0_LEN;
        if !inside {
            log::error!("{}", BusError::OutsideBar { name: self.name.clone(), offset, len: BAR0_LEN });
        }
        inside
    }

    /// The range of a config space access, checked.
    fn config_range(&self, operation: &'static str, offset: u16, len: usize) -> Result<(), BusError> {
        if u64::from(offset).saturating_add(len as u64) <= self.config_len {
            return Ok(());
        }
        let source = io::Error::new(io::ErrorKind::InvalidInput, format!("it has {} bytes", self.config_len));
        Err(BusError::Config { name: self.name.clone(), operation, offset, len, source })
    }

    /// Takes back `iova`, once the function can't reach it any more.
    fn give_back(&self, iova: Iova) {
        self.iovas.lock().unwrap_or_else(PoisonError::into_inner).give_back(iova);
    }

    fn set_irqs(&self, data: u32, start: u32, fds: &[BorrowedFd<'_>]) -> Result<(), RequestError> {
        let body = Fields::default()
            .u32(20)
            .u32(data | VFIO_IRQ_SET_ACTION_TRIGGER)
            .u32(VFIO_PCI_MSIX_IRQ_INDEX)
            .u32(start)
            .u32(fds.len() as u32);
        self.client.request(Command::DeviceSetIrqs, &[body.bytes()], fds, 0..=20, |_| Ok(()))
    }
}

impl DmaUnmap for Shared {
    fn dma_unmap(&self, iova: Iova, memory: &SharedMem) {
        let body = Fields::default().u32(24).u32(0).u64(iova.0).u64(memory.len() as u64);
        match self.client.request(Command::DmaUnmap, &[body.bytes()], &[], 0..=24, |_| Ok(())) {
            Ok(()) => self.give_back(iova),
            // The server may still reach the memory by this address: it isn't given out again.
            Err(RequestError::Refused { source, .. }) => {
                log::warn!("{}: can't unmap {} bytes at I/O address {iova}: {source}", self.name, memory.len());
            }
            Err(RequestError::Gone(_)) => {}
        }
    }
}

impl PciFunction for VfioUserBus {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn bar0_len(&self) -> u64 {
        BAR0_LEN
    }

    fn read64(&self, offset: BarOff) -> u64 {
        let mut data = [0; 8];
        if !self.shared.in_bar(offset, 8) {
            return ALL_ONES;
        }
        match region_read(&self.shared.client, VFIO_PCI_BAR0_REGION_INDEX, offset.0.into(), &mut data) {
            Ok(()) => u64::from_le_bytes(data),
            Err(RequestError::Gone(_)) => ALL_ONES,
            Err(refused @ RequestError::Refused { .. }) => {
                // A register read can't say no: an adapter that does is broken, and its driver has to hear of it.
                self.shared.client.give_up(format!("{refused} at {offset}"));
                ALL_ONES
            }
        }
    }

    fn write64(&self, offset: BarOff, value: u64) {
        if self.shared.in_bar(offset, 8) {
            let request = access(VFIO_PCI_BAR0_REGION_INDEX, offset.0.into(), 8);
            self.shared.client.post(Command::RegionWrite, &[&request, &value.to_le_bytes()]);
        }
    }

    fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
        if self.shared.in_bar(offset, 64) {
            let request = access(VFIO_PCI_BAR0_REGION_INDEX, offset.0.into(), 64);
            let mut data = [0; 64];
            for (bytes, qword) in data.chunks_exact_mut(8).zip(block) {
                bytes.copy_from_slice(&qword.to_le_bytes());
            }
            // The first block of a packet begins with the PBC, which tells how many there are.
            let begins = (offset.0 >= PIO_SOP).then(|| Pbc(block[0]).length().blocks().0.into());
            self.shared.client.post_block(Command::RegionWrite, &[&request, &data], begins);
        }
    }

    fn config_read(&self, offset: u16, data: &mut [u8]) -> Result<(), BusError> {
        let (shared, len) = (&self.shared, data.len());
        shared.config_range("read", offset, len)?;
        region_read(&shared.client, VFIO_PCI_CONFIG_REGION_INDEX, offset.into(), data).map_err(|error| {
            let name = shared.name.clone();
            shared.error(error, |source| BusError::Config { name, operation: "read", offset, len, source })
        })
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Result<(), BusError> {
        let (shared, len) = (&self.shared, data.len());
        shared.config_range("write", offset, len)?;
        let request = access(VFIO_PCI_CONFIG_REGION_INDEX, offset.into(), len);
        let expected = ACCESS_LEN..=ACCESS_LEN;
        shared.client.request(Command::RegionWrite, &[&request, data], &[], expected, |_| Ok(())).map_err(|error| {
            let name = shared.name.clone();
            shared.error(error, |source| BusError::Config { name, operation: "write", offset, len, source })
        })
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
        let Some((fd, fd_offset)) = memory.fd() else {
            let why = "the adapter is in another process, and there is no file by which that could map it";
            return Err(BusError::NotMappable { name: name(), len, why });
        };
        let align = if memory.is_huge() { HUGE_PAGE } else { PAGE };
        shared.client.check_ours().map_err(|failure| {
            shared.error(failure.into(), |source| BusError::DmaMemory { name: name(), len, source })
        })?;
        let iova = shared.iovas.lock().unwrap_or_else(PoisonError::into_inner).take(len as u64, align as u64);
        let iova = iova.ok_or_else(|| BusError::IovaExhausted { name: name(), len })?;
        let body = Fields::default().u32(32).u32(DMA_READ_WRITE).u64(fd_offset).u64(iova.0).u64(len as u64);
        let mapped = shared.client.request(Command::DmaMap, &[body.bytes()], &[fd], 0..=32, |_| Ok(()));
        if let Err(error) = mapped {
            shared.give_back(iova);
            return Err(shared.error(error, |source| BusError::DmaMap {
                name: name(),
                iova,
                len,
                source,
                hint: String::new(),
            }));
        }
        Ok(DmaBlock::new(memory.clone(), iova, shared.clone()))
    }

    fn irq_enable(&self, count: u16) -> Result<Vec<Irq>, BusError> {
        let shared = &self.shared;
        let refused = |source| BusError::Irq { name: shared.name.clone(), count, source };
        if u32::from(count) > shared.vectors {
            return Err(refused(io::Error::other(format!("the function has {} vectors", shared.vectors))));
        }
        let irqs = (0..count).map(|_| Irq::new()).collect::<io::Result<Vec<Irq>>>().map_err(refused)?;
        shared.set_irqs(VFIO_IRQ_SET_DATA_NONE, 0, &[]).map_err(|error| shared.error(error, refused))?;
        for (batch, start) in irqs.chunks(shared.fds_per_message).zip((0u32..).step_by(shared.fds_per_message)) {
            let fds: Vec<BorrowedFd<'_>> = batch.iter().map(Irq::fd).collect();
            shared.set_irqs(VFIO_IRQ_SET_DATA_EVENTFD, start, &fds).map_err(|error| shared.error(error, refused))?;
        }
        Ok(irqs)
    }

    fn reset(&self) -> Result<(), BusError> {
        let shared = &self.shared;
        shared
            .client
            .request(Command::DeviceReset, &[], &[], 0..=0, |_| Ok(()))
            .map_err(|error| shared.error(error, |source| BusError::Reset { name: shared.name.clone(), source }))
    }

    fn gone(&self) -> Option<String> {
        self.shared.client.check().map(str::to_owned)
    }

    #[inline]
    fn now(&self) -> Instant {
        self.shared.client.flush();
        self.shared.clock.now()
    }

    fn pause(&self, duration: Duration) {
        self.shared.client.flush();
        self.shared.clock.pause(duration);
    }

    fn relax(&self) {
        self.shared.client.flush();
        self.shared.clock.relax();
    }

    fn wait_irq(&self, irq: &Irq, limit: Duration) -> Result<bool, BusError> {
        // A server that dies raises no interrupt: look after it now and then.
        const SLICE: Duration = Duration::from_millis(100);
        let shared = &self.shared;
        shared.client.flush();
        let start = std::time::Instant::now();
        loop {
            let left = limit.saturating_sub(start.elapsed());
            if irq.wait(left.min(SLICE)).map_err(|source| BusError::Irq {
                name: shared.name.clone(),
                count: 1,
                source,
            })? {
                return Ok(true);
            }
            if let Some(why) = shared.client.check() {
                return Err(BusError::Gone { name: shared.name.clone(), why: why.to_owned() });
            }
            if left <= SLICE {
                return Ok(false);
            }
        }
    }
}
