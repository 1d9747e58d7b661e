//! Kinds of memory, and memory of devices: the processor copies it only by asking the device, the adapter may reach it by itself.
//!
//! The rules are those of libfabric's OPX provider:
//!
//! | memory | goes with an offer | is sent without a copy | receives expected packets |
//! |---|---|---|---|
//! | [`Host`](MemoryKind::Host) | up to 127 bytes | if the adapter reaches it | if the adapter reaches it |
//! | [`Managed`](MemoryKind::Managed) | up to 127 bytes | no | no |
//! | [`Device`](MemoryKind::Device) | nothing | if the adapter reaches it | if the adapter reaches it |
//!
//! Managed memory moves between host and device by itself, so no adapter may keep its address; everything else treats it as
//! the host's, and so does the wire (`fi_opx_domain.h:opx_hmem_get_iface`).

use opx_bus::SharedMem;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the first copy that fails: until then completions needn't be looked at.
static FAULTS: AtomicBool = AtomicBool::new(false);

/// A device doesn't copy its memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{device}: can't copy {len} bytes of its memory at {at:#x}: {why}")]
pub struct CopyError {
    /// Which device.
    pub device: String,
    /// Where the bytes are.
    pub at: u64,
    /// How many they are.
    pub len: usize,
    /// What the device's driver says.
    pub why: String,
}

/// Who owns a piece of memory, as far as copying it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryKind {
    /// The machine's.
    Host,
    /// A device's.
    Device {
        /// Which kind of device: libfabric's `enum fi_hmem_iface`, 1 for CUDA.
        interface: u32,
        /// Which of them.
        device: u64,
    },
    /// A device's and the machine's, moved to where it is used.
    Managed,
}

impl MemoryKind {
    /// What the offer of a message says of its memory: device and kind of device, both 0 for what is treated as the host's.
    pub(crate) fn on_wire(self) -> (u64, u64) {
        match self {
            Self::Device { interface, device } => (device, interface.into()),
            Self::Host | Self::Managed => (0, 0),
        }
    }

    /// Whether bytes of it go with an offer: each copy from a device is an operation of its own, which costs more than it saves.
    pub(crate) fn goes_along(self) -> bool {
        !matches!(self, Self::Device { .. })
    }
}

/// Memory that the process can't just read, or that isn't only its own.
///
/// ```
/// use opx_bus::SharedMem;
/// use opx_stack::{Buffer, CopyError, DeviceMemory, DeviceRange, MemoryKind};
/// use std::sync::Arc;
///
/// /// A device made of paper.
/// #[derive(Debug)]
/// struct Paper(SharedMem);
///
/// impl DeviceMemory for Paper {
///     fn kind(&self) -> MemoryKind {
///         MemoryKind::Device { interface: 1, device: 0 }
///     }
///     fn len(&self) -> usize {
///         self.0.len()
///     }
///     fn copy_out(&self, at: usize, to: &mut [u8]) -> Result<(), CopyError> {
///         self.0.read(at, to);
///         Ok(())
///     }
///     fn copy_in(&self, at: usize, from: &[u8]) -> Result<(), CopyError> {
///         self.0.write(at, from);
///         Ok(())
///     }
/// }
///
/// let paper = Arc::new(Paper(SharedMem::new(4096)?));
/// let mut buffer = Buffer::from(DeviceRange::new(paper, 100, 5).ok_or("outside")?);
/// buffer.write(0, b"hello");
/// assert_eq!(buffer.into_vec(), b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait DeviceMemory: fmt::Debug + Send + Sync {
    /// Whose it is.
    fn kind(&self) -> MemoryKind;

    /// Bytes.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes from `at` on; they are inside.
    ///
    /// # Errors
    /// When the device doesn't. The operation whose buffer it is then fails ([`crate::OperationError::Device`]).
    fn copy_out(&self, at: usize, to: &mut [u8]) -> Result<(), CopyError>;

    /// Overwrites bytes from `at` on; they are inside.
    ///
    /// # Errors
    /// As [`DeviceMemory::copy_out`].
    fn copy_in(&self, at: usize, from: &[u8]) -> Result<(), CopyError>;

    /// The same memory as something that a bus can map for an adapter, if there is such a way.
    fn reachable(&self) -> Option<&SharedMem> {
        None
    }
}

/// A part of a device's memory.
#[derive(Debug)]
pub struct DeviceRange {
    memory: Arc<dyn DeviceMemory>,
    start: usize,
    len: usize,
    /// A copy has failed.
    fault: AtomicBool,
}

/// A clone is another operation's: which of its copies fail is told of that one alone.
impl Clone for DeviceRange {
    fn clone(&self) -> Self {
        let Self { ref memory, start, len, ref fault } = *self;
        Self { memory: Arc::clone(memory), start, len, fault: fault.load(Ordering::Relaxed).into() }
    }
}

impl DeviceRange {
    /// `len` bytes of `memory` from `start` on; `None` when they aren't inside.
    pub fn new(memory: Arc<dyn DeviceMemory>, start: usize, len: usize) -> Option<Self> {
        let inside = start.checked_add(len).is_some_and(|end| end <= memory.len());
        inside.then(|| Self { memory, start, len, fault: AtomicBool::new(false) })
    }

    /// The memory.
    pub fn memory(&self) -> &Arc<dyn DeviceMemory> {
        &self.memory
    }

    /// Where it begins in the memory, in bytes.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn read(&self, at: usize, to: &mut [u8]) {
        let len = self.len.saturating_sub(at).min(to.len());
        if len > 0 {
            let copied = self.memory.copy_out(self.start + at, &mut to[..len]);
            self.note(copied);
        }
    }

    pub(crate) fn write(&self, at: usize, from: &[u8]) {
        let len = self.len.saturating_sub(at).min(from.len());
        if len > 0 {
            let copied = self.memory.copy_in(self.start + at, &from[..len]);
            self.note(copied);
        }
    }

    fn note(&self, copied: Result<(), CopyError>) {
        if let Err(error) = copied {
            log::error!("{error}");
            self.fault.store(true, Ordering::Relaxed);
            FAULTS.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a copy has failed, and nobody has been told.
    pub(crate) fn has_fault(&self) -> bool {
        self.fault.load(Ordering::Relaxed)
    }

    /// The same, and from now on somebody has been told.
    pub(crate) fn take_fault(&self) -> bool {
        self.fault.swap(false, Ordering::Relaxed)
    }
}

/// Whether any copy of any device's memory has failed in this process.
#[inline]
pub(crate) fn has_faults() -> bool {
    FAULTS.load(Ordering::Relaxed)
}
