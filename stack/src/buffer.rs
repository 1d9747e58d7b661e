//! The memory of an operation: it moves into the operation and comes back with the completion.
//!
//! Whoever owns a buffer can free and touch it, so nobody else can while an operation has it; a request that is forgotten keeps
//! its memory. Memory that the application wants to look at meanwhile, or that a device reaches by itself, is [`SharedMem`],
//! which has no references into it.

use crate::memory_kind::{DeviceRange, MemoryKind, has_faults};
use crate::raw::RawBuffer;
use crate::view::View;
use opx_bus::SharedMem;
use std::borrow::Cow;
use std::fmt;

/// Bytes that an operation sends, or receives into.
///
/// ```
/// use opx_stack::Buffer;
/// let buffer: Buffer = ["hello, ", "world"].map(|part| Buffer::from(part.as_bytes().to_vec())).into_iter().collect();
/// assert_eq!(buffer.len(), 12);
/// assert_eq!(buffer.into_vec(), b"hello, world");
/// ```
#[non_exhaustive]
pub enum Buffer {
    /// Bytes of the process' own.
    Bytes(Vec<u8>),
    /// Memory that others may touch at any time.
    Shared(SharedRange),
    /// Memory that isn't the machine's own, or not only.
    Device(DeviceRange),
    /// Several buffers one after the other.
    Vector(Vec<Buffer>),
    /// Room for a message that is lent if that can be, or such a message.
    View(Box<View>),
    /// Memory that its owner vouches for, by its address.
    Raw(RawBuffer),
}

/// Whose memory and how much of it, not what is in it: that may be long, and nobody else's business.
impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Shared(range) => write!(f, "Shared({} bytes at {})", range.len, range.start),
            Self::Device(range) => f.debug_tuple("Device").field(range).finish(),
            Self::Vector(parts) => f.debug_tuple("Vector").field(parts).finish(),
            Self::View(view) => write!(f, "View({} bytes)", view.len()),
            Self::Raw(raw) => f.debug_tuple("Raw").field(raw).finish(),
        }
    }
}

/// A part of shared memory.
#[derive(Debug, Clone)]
pub struct SharedRange {
    memory: SharedMem,
    start: usize,
    len: usize,
}

impl SharedRange {
    /// `len` bytes of `memory` from `start` on; `None` when they aren't inside.
    pub fn new(memory: SharedMem, start: usize, len: usize) -> Option<Self> {
        let inside = start.checked_add(len).is_some_and(|end| end <= memory.len());
        inside.then_some(Self { memory, start, len })
    }

    /// The memory.
    pub fn memory(&self) -> &SharedMem {
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

    /// `len` bytes of it from `start` on; `None` when they aren't inside.
    pub fn slice(&self, start: usize, len: usize) -> Option<Self> {
        let inside = start.checked_add(len).is_some_and(|end| end <= self.len);
        inside.then(|| Self { memory: self.memory.clone(), start: self.start + start, len })
    }

    /// Copies bytes from `at` on; of those beyond its end, none.
    pub fn read(&self, at: usize, to: &mut [u8]) {
        let len = self.len.saturating_sub(at).min(to.len());
        if len > 0 {
            self.memory.read(self.start + at, &mut to[..len]);
        }
    }

    /// Overwrites bytes from `at` on; of those beyond its end, none.
    pub fn write(&self, at: usize, from: &[u8]) {
        let len = self.len.saturating_sub(at).min(from.len());
        if len > 0 {
            self.memory.write(self.start + at, &from[..len]);
        }
    }
}

impl From<SharedMem> for SharedRange {
    fn from(memory: SharedMem) -> Self {
        let len = memory.len();
        Self { memory, start: 0, len }
    }
}

impl Buffer {
    /// Bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Shared(range) => range.len,
            Self::Raw(raw) => raw.len(),
            Self::Device(range) => range.len(),
            Self::Vector(parts) => parts.iter().map(Self::len).sum(),
            Self::View(view) => view.len(),
        }
    }

    /// Bytes that can be received into it.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        match self {
            Self::View(view) => view.room(),
            other => other.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whose memory it is; of several, the first that isn't the host's.
    pub fn kind(&self) -> MemoryKind {
        match self {
            Self::Bytes(_) | Self::Raw(_) | Self::Shared(_) | Self::View(_) => MemoryKind::Host,
            Self::Device(range) => range.memory().kind(),
            Self::Vector(parts) => {
                parts.iter().map(Self::kind).find(|kind| *kind != MemoryKind::Host).unwrap_or(MemoryKind::Host)
            }
        }
    }

    /// Whether it is a device's memory, and not also the host's.
    #[inline]
    pub(crate) fn is_devices(&self) -> bool {
        matches!(self, Self::Device(_) | Self::Vector(_)) && matches!(self.kind(), MemoryKind::Device { .. })
    }

    /// Whether a copy of a device's memory in it has failed, and nobody has been told.
    #[inline]
    pub(crate) fn is_faulty(&self) -> bool {
        has_faults() && self.has_fault()
    }

    #[cold]
    fn has_fault(&self) -> bool {
        match self {
            Self::Device(range) => range.has_fault(),
            Self::Vector(parts) => parts.iter().any(Self::has_fault),
            Self::Bytes(_) | Self::Raw(_) | Self::Shared(_) | Self::View(_) => false,
        }
    }

    /// The same, and from now on somebody has been told.
    pub(crate) fn take_fault(&self) -> bool {
        match self {
            Self::Device(range) => range.take_fault(),
            Self::Vector(parts) => parts.iter().fold(false, |fault, part| part.take_fault() | fault),
            Self::Bytes(_) | Self::Raw(_) | Self::Shared(_) | Self::View(_) => false,
        }
    }

    /// What was copied since it was faulty or not is copied again: if that fails then, it is told of then.
    #[cold]
    pub(crate) fn forget_fault_unless(&self, before: bool) {
        if !before {
            self.take_fault();
        }
    }

    /// The memory that an adapter reaches it by, and where it begins there; `None` when it doesn't or mustn't.
    pub(crate) fn reachable(&self) -> Option<(&SharedMem, usize)> {
        match self {
            Self::Shared(range) => Some((&range.memory, range.start)),
            Self::Device(range) if range.memory().kind() != MemoryKind::Managed => {
                let memory = range.memory().reachable()?;
                let inside = range.start().checked_add(range.len()).is_some_and(|end| end <= memory.len());
                inside.then_some((memory, range.start()))
            }
            Self::Bytes(_) | Self::Raw(_) | Self::Device(_) | Self::Vector(_) | Self::View(_) => None,
        }
    }

    /// Its bytes; copied unless they are the process' own.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Bytes(bytes) => Cow::Borrowed(bytes),
            Self::Raw(raw) => Cow::Borrowed(raw.bytes()),
            other => Cow::Owned(other.clone().into_vec()),
        }
    }

    /// Its bytes, copied unless they are the process' own already.
    #[inline]
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            other => other.copied(),
        }
    }

    #[cold]
    #[inline(never)]
    fn copied(self) -> Vec<u8> {
        match self {
            Self::View(view) => view.into_vec(),
            other => {
                let mut bytes = vec![0; other.len()];
                other.read(0, &mut bytes);
                bytes
            }
        }
    }

    /// Copies bytes from `at` on; of those beyond its end, none.
    pub fn read(&self, at: usize, to: &mut [u8]) {
        match self {
            Self::Bytes(bytes) => {
                let from = bytes.get(at..).unwrap_or_default();
                let len = from.len().min(to.len());
                to[..len].copy_from_slice(&from[..len]);
            }
            Self::Raw(raw) => {
                let from = raw.bytes().get(at..).unwrap_or_default();
                let len = from.len().min(to.len());
                to[..len].copy_from_slice(&from[..len]);
            }
            Self::Shared(range) => range.read(at, to),
            Self::Device(range) => range.read(at, to),
            Self::Vector(parts) => {
                let (mut skip, mut to) = (at, to);
                for part in parts {
                    let len = part.len().saturating_sub(skip).min(to.len());
                    let (now, later) = std::mem::take(&mut to).split_at_mut(len);
                    part.read(skip, now);
                    skip = skip.saturating_sub(part.len());
                    to = later;
                }
            }
            Self::View(view) => {
                view.read(at, to);
            }
        }
    }

    /// Overwrites bytes from `at` on; of those beyond its end, none. A view that holds a message forgets that first.
    #[inline]
    pub fn write(&mut self, at: usize, from: &[u8]) {
        match self {
            Self::Bytes(bytes) => {
                let to = bytes.get_mut(at..).unwrap_or_default();
                let len = to.len().min(from.len());
                to[..len].copy_from_slice(&from[..len]);
            }
            other => other.write_elsewhere(at, from),
        }
    }

    #[cold]
    fn write_elsewhere(&mut self, at: usize, from: &[u8]) {
        match self {
            Self::Bytes(_) => {}
            Self::Raw(raw) => raw.write(at, from),
            Self::Shared(range) => range.write(at, from),
            Self::Device(range) => range.write(at, from),
            Self::Vector(parts) => {
                let (mut skip, mut from) = (at, from);
                for part in parts {
                    let len = part.len().saturating_sub(skip).min(from.len());
                    part.write(skip, &from[..len]);
                    skip = skip.saturating_sub(part.len());
                    from = &from[len..];
                }
            }
            Self::View(view) => view.write(at, from),
        }
    }

    /// `len` bytes from `at` on as they lie in memory; those that don't lie there in one piece are gathered in `scratch`.
    #[inline]
    pub(crate) fn gather<'a>(&'a self, at: usize, len: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        if let Self::Bytes(bytes) = self {
            return bytes.get(at..at.saturating_add(len)).unwrap_or_default();
        }
        if let Self::Raw(raw) = self {
            return raw.bytes().get(at..at.saturating_add(len)).unwrap_or_default();
        }
        scratch.clear();
        scratch.resize(len, 0);
        self.read(at, scratch);
        scratch
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::Bytes(Vec::new())
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<SharedMem> for Buffer {
    fn from(memory: SharedMem) -> Self {
        Self::Shared(memory.into())
    }
}

impl From<View> for Buffer {
    fn from(view: View) -> Self {
        Self::View(Box::new(view))
    }
}

/// Shared memory stays shared; of memory by its address, which can have one user only, the clone is a copy.
impl Clone for Buffer {
    fn clone(&self) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(bytes.clone()),
            Self::Shared(range) => Self::Shared(range.clone()),
            Self::Device(range) => Self::Device(range.clone()),
            Self::Vector(parts) => Self::Vector(parts.clone()),
            Self::View(view) => Self::View(view.clone()),
            Self::Raw(raw) => Self::Bytes(raw.bytes().to_vec()),
        }
    }
}

impl From<RawBuffer> for Buffer {
    fn from(raw: RawBuffer) -> Self {
        Self::Raw(raw)
    }
}

impl From<SharedRange> for Buffer {
    fn from(range: SharedRange) -> Self {
        Self::Shared(range)
    }
}

impl From<DeviceRange> for Buffer {
    fn from(range: DeviceRange) -> Self {
        Self::Device(range)
    }
}

/// The buffers one after the other.
impl FromIterator<Buffer> for Buffer {
    fn from_iter<I: IntoIterator<Item = Buffer>>(parts: I) -> Self {
        Self::Vector(parts.into_iter().collect())
    }
}

/// Buffers are equal when their bytes are.
impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.bytes() == other.bytes()
    }
}

impl Eq for Buffer {}

impl PartialEq<Vec<u8>> for Buffer {
    fn eq(&self, other: &Vec<u8>) -> bool {
        self.bytes() == other.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_kind::{CopyError, DeviceMemory};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// A buffer of each kind with the same bytes.
    fn kinds(bytes: &[u8], cut: usize) -> [Buffer; 3] {
        let memory = SharedMem::new(bytes.len() + 40).unwrap();
        memory.write(17, bytes);
        let shared = SharedRange::new(memory, 17, bytes.len()).unwrap();
        let (head, tail) = bytes.split_at(cut.min(bytes.len()));
        let parts = vec![head.to_vec().into(), Buffer::default(), SharedMemOf(tail).into()];
        [bytes.to_vec().into(), shared.into(), Buffer::Vector(parts)]
    }

    struct SharedMemOf<'a>(&'a [u8]);

    impl From<SharedMemOf<'_>> for Buffer {
        fn from(bytes: SharedMemOf<'_>) -> Self {
            let memory = SharedMem::new(bytes.0.len().max(1)).unwrap();
            memory.write(0, bytes.0);
            SharedRange::new(memory, 0, bytes.0.len()).unwrap().into()
        }
    }

    proptest! {
        #[test]
        fn all_kinds_read_and_write_alike(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 0usize..220, at in 0usize..220, new in proptest::collection::vec(any::<u8>(), 0..220),
        ) {
            let mut expected = bytes.clone();
            for (to, from) in expected.iter_mut().skip(at).zip(&new) {
                *to = *from;
            }
            for mut buffer in kinds(&bytes, cut) {
                prop_assert_eq!(&buffer, &bytes);
                buffer.write(at, &new);
                prop_assert_eq!(&buffer, &expected);
                let mut scratch = Vec::new();
                let len = expected.len().saturating_sub(at).min(50);
                prop_assert_eq!(buffer.gather(at.min(expected.len()), len, &mut scratch), &expected[at.min(expected.len())..][..len]);
            }
        }
    }

    #[test]
    fn a_range_beyond_its_memory_is_none() {
        let memory = SharedMem::new(4096).unwrap();
        assert!(SharedRange::new(memory.clone(), 4096, 0).is_some());
        assert!(SharedRange::new(memory.clone(), 4000, 97).is_none());
        assert!(SharedRange::new(memory.clone(), usize::MAX, 2).is_none());
        let range = SharedRange::new(memory, 1000, 100).unwrap();
        assert!(range.slice(0, 100).is_some_and(|all| (all.start(), all.len()) == (1000, 100)));
        assert!(range.slice(100, 0).is_some() && range.slice(90, 11).is_none() && range.slice(usize::MAX, 2).is_none());
    }

    /// A device that says that it has more memory than can be reached.
    #[derive(Debug)]
    struct Half(SharedMem);

    impl DeviceMemory for Half {
        fn kind(&self) -> MemoryKind {
            MemoryKind::Device { interface: 1, device: 0 }
        }

        fn len(&self) -> usize {
            self.0.len() * 2
        }

        fn copy_out(&self, _: usize, _: &mut [u8]) -> Result<(), CopyError> {
            Ok(())
        }

        fn copy_in(&self, _: usize, _: &[u8]) -> Result<(), CopyError> {
            Ok(())
        }

        fn reachable(&self) -> Option<&SharedMem> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_devices_memory_is_reached_as_far_as_it_is_there() {
        let half = Arc::new(Half(SharedMem::new(4096).unwrap()));
        let reached = |start, len| {
            let range = DeviceRange::new(half.clone(), start, len).unwrap();
            Buffer::from(range).reachable().map(|(_, start)| start)
        };
        assert_eq!((reached(96, 4000), reached(97, 4000), reached(5000, 10)), (Some(96), None, None));
    }
}
