//! Memory that one process offers and another fetches, in one copy.
//!
//! The offer passes as a message; it names the memory by a number and, for the kernel's copy, by its address. Whoever pulls it
//! either has the kernel copy it out of the other process (`process_vm_readv`), or asks for it: then its owner writes it
//! into the ring, in pieces that the puller takes out at the same time. The memory is held until the puller is done or gone.
//!
//! What a peer asks for is checked against what it was offered. What it sends unasked is dropped and counted.

use crate::choose::Way;
use crate::error::{KernelCopy, PeerGone, PullError};
use crate::ring::{Receiver, Record};
use crate::slab::{Key, Slab};
use crate::sys::{self, RawSink, RawSource};
use opx_bus::SharedMem;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Bytes that go through the ring at once, as far as a message can be that long.
pub(crate) const PIECE: usize = 8192;
/// Pieces written before other things are looked after.
pub(crate) const MOST_PIECES: usize = 32;
/// Bytes that the kernel copies before other things are looked after.
const KERNEL_STEP: usize = 512 << 10;

/// Memory to be offered.
///
/// ```
/// use std::sync::Arc;
/// let kept: Arc<Vec<u8>> = Arc::new(vec![7; 1 << 20]);
/// let source = opx_shm::Source::shared(Arc::clone(&kept));
/// assert_eq!(source.len(), kept.len());
/// ```
pub struct Source(Memory);

enum Memory {
    Owned(Vec<u8>),
    Shared(Arc<dyn AsRef<[u8]> + Send + Sync>),
    Mapped(Mapped),
    Raw(RawSource),
}

/// A part of memory that anybody may touch at any time.
struct Mapped {
    memory: SharedMem,
    start: usize,
    len: usize,
}

impl Mapped {
    /// None when the part isn't inside.
    fn new(memory: SharedMem, start: usize, len: usize) -> Option<Self> {
        let inside = start.checked_add(len).is_some_and(|end| end <= memory.len());
        inside.then_some(Self { memory, start, len })
    }
}

/// Bytes of offered memory.
#[derive(Clone, Copy)]
pub(crate) enum Piece<'a> {
    Bytes(&'a [u8]),
    /// Of shared memory: where, and how many.
    Mapped(&'a SharedMem, usize, usize),
}

impl Source {
    /// A part of memory that may change meanwhile: the peer gets what was there at some time. `None` when the part isn't inside.
    ///
    /// ```
    /// let memory = opx_bus::SharedMem::new(4096)?;
    /// assert_eq!(opx_shm::Source::mapped(memory.clone(), 96, 4000).unwrap().len(), 4000);
    /// assert!(opx_shm::Source::mapped(memory, 97, 4000).is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn mapped(memory: SharedMem, start: usize, len: usize) -> Option<Self> {
        Mapped::new(memory, start, len).map(|mapped| Self(Memory::Mapped(mapped)))
    }

    /// Memory that others may read, too.
    pub fn shared<T: AsRef<[u8]> + Send + Sync + 'static>(memory: Arc<T>) -> Self {
        Self(Memory::Shared(memory))
    }

    pub(crate) fn from_raw(raw: RawSource) -> Self {
        Self(Memory::Raw(raw))
    }

    /// Where it lies in this process.
    pub(crate) fn address(&self) -> u64 {
        match &self.0 {
            Memory::Owned(bytes) => bytes.as_ptr().expose_provenance() as u64,
            Memory::Shared(memory) => (**memory).as_ref().as_ptr().expose_provenance() as u64,
            Memory::Mapped(mapped) => mapped.memory.address().wrapping_add(mapped.start as u64),
            Memory::Raw(raw) => raw.as_slice().as_ptr().expose_provenance() as u64,
        }
    }

    /// `len` bytes from `at` on; None when there aren't so many.
    pub(crate) fn piece(&self, at: usize, len: usize) -> Option<Piece<'_>> {
        let end = at.checked_add(len)?;
        let bytes = match &self.0 {
            Memory::Owned(bytes) => bytes,
            Memory::Shared(memory) => (**memory).as_ref(),
            Memory::Raw(raw) => raw.as_slice(),
            Memory::Mapped(Mapped { memory, start, len: all }) => {
                return (end <= *all).then_some(Piece::Mapped(memory, start.wrapping_add(at), len));
            }
        };
        bytes.get(at..end).map(Piece::Bytes)
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Memory::Owned(bytes) => bytes.len(),
            Memory::Shared(memory) => (**memory).as_ref().len(),
            Memory::Mapped(mapped) => mapped.len,
            Memory::Raw(raw) => raw.as_slice().len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that it was made from; None when it was made from something else.
    pub fn into_vec(self) -> Option<Vec<u8>> {
        match self.0 {
            Memory::Owned(bytes) => Some(bytes),
            Memory::Shared(_) | Memory::Mapped(_) | Memory::Raw(_) => None,
        }
    }
}

impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Memory::Owned(bytes))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("len", &self.len()).finish()
    }
}

/// Memory to pull into.
pub struct Sink(Room);

enum Room {
    Owned(Vec<u8>),
    Mapped(Mapped),
    Raw(RawSink),
}

impl Sink {
    /// A part of memory that others may touch meanwhile. `None` when the part isn't inside.
    pub fn mapped(memory: SharedMem, start: usize, len: usize) -> Option<Self> {
        Mapped::new(memory, start, len).map(|mapped| Self(Room::Mapped(mapped)))
    }

    pub(crate) fn from_raw(raw: RawSink) -> Self {
        Self(Room::Raw(raw))
    }

    /// Has the kernel copy bytes of another process to it, from `at` on to `end`; tells how many.
    fn read_from(&mut self, process: rustix::process::Pid, remote: usize, at: usize, end: usize) -> nix::Result<usize> {
        let bytes = match &mut self.0 {
            Room::Owned(bytes) => bytes,
            Room::Raw(raw) => raw.as_mut_slice(),
            Room::Mapped(Mapped { memory, start, len }) => {
                let (from, to) = (start.saturating_add(at.min(*len)), start.saturating_add(end.min(*len)));
                return sys::read_into_mapped(process, remote, memory, from..to);
            }
        };
        sys::read_from(process, remote, bytes.get_mut(at..end).unwrap_or_default())
    }

    /// Takes a record's payload to `at`, where there is room for it.
    fn take(&mut self, at: usize, receiver: &Receiver, record: &Record) {
        let end = at.saturating_add(record.len);
        let bytes = match &mut self.0 {
            Room::Owned(bytes) => bytes,
            Room::Raw(raw) => raw.as_mut_slice(),
            Room::Mapped(Mapped { memory, start, len }) if end <= *len => {
                receiver.read_mapped(record, memory, start.saturating_add(at));
                return;
            }
            Room::Mapped(_) => return,
        };
        receiver.read(record, 0, bytes.get_mut(at..end).unwrap_or_default());
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Room::Owned(bytes) => bytes.len(),
            Room::Mapped(mapped) => mapped.len,
            Room::Raw(raw) => raw.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer that it was made from; None when it was made from something else.
    pub fn into_vec(self) -> Option<Vec<u8>> {
        match self.0 {
            Room::Owned(bytes) => Some(bytes),
            Room::Mapped(_) | Room::Raw(_) => None,
        }
    }
}

/// As long as the buffer is.
impl From<Vec<u8>> for Sink {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Room::Owned(bytes))
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("len", &self.len()).finish()
    }
}

/// Memory that was offered to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OfferId(pub(crate) Key);

/// A pull that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PullId(pub(crate) Key);

/// Memory that a peer offers: to be given to [`crate::Node::pull`] or [`crate::Node::decline`]. If it is dropped instead, the
/// peer holds the memory until the connection ends.
#[derive(Debug)]
#[must_use = "the peer holds the memory until it is pulled or declined"]
pub struct Offered {
    pub(crate) link: Key,
    pub(crate) id: u64,
    pub(crate) address: u64,
    pub(crate) len: u64,
}

impl Offered {
    /// Bytes, as the peer says.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Memory that was offered.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) link: Key,
    pub(crate) source: Source,
    /// What goes through the ring, once it was asked for.
    pub(crate) served: Option<Served>,
}

/// What of an offer goes through the ring, for which pull.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    pub(crate) pull: u64,
    pub(crate) at: usize,
    pub(crate) end: usize,
}

/// A pull.
#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) link: Key,
    pub(crate) offer: u64,
    address: u64,
    sink: Sink,
    pub(crate) len: usize,
    /// Bytes that are there.
    pub(crate) at: usize,
    pub(crate) way: Way,
    pub(crate) started: Instant,
}

/// How the kernel's copy went on.
#[derive(Debug)]
pub(crate) enum Step {
    More,
    Done,
    Failed(PullError),
    /// Not by the kernel.
    Refused(KernelCopy),
}

impl Pull {
    pub(crate) fn new(offered: &Offered, sink: Sink, way: Way) -> Self {
        let len = usize::try_from(offered.len).unwrap_or(usize::MAX).min(sink.len());
        let (link, offer, address) = (offered.link, offered.id, offered.address);
        Self { link, offer, address, sink, len, at: 0, way, started: Instant::now() }
    }

    /// Has the kernel copy some more.
    pub(crate) fn kernel_step(&mut self, process: rustix::process::Pid) -> Step {
        let end = self.len.min(self.at.saturating_add(KERNEL_STEP));
        let Some(remote) = usize::try_from(self.address).ok().and_then(|address| address.checked_add(self.at)) else {
            return Step::Failed(PullError::Unmapped);
        };
        match self.sink.read_from(process, remote, self.at, end) {
            Ok(0) => Step::Failed(PullError::Unmapped),
            Ok(count) => {
                self.at += count;
                if self.at >= self.len { Step::Done } else { Step::More }
            }
            Err(nix::errno::Errno::EFAULT) => Step::Failed(PullError::Unmapped),
            Err(nix::errno::Errno::ESRCH) => Step::Failed(PullError::Gone(PeerGone::Died)),
            Err(errno) => Step::Refused(refusal(errno)),
        }
    }

    /// Takes the next bytes out of a ring, if these begin at `offset` and aren't more than are wanted.
    pub(crate) fn take(&mut self, offset: u64, receiver: &Receiver, record: &Record) -> bool {
        let right = self.way == Way::Ring && offset == self.at as u64;
        if !right || record.len == 0 || record.len > self.len - self.at {
            return false;
        }
        self.sink.take(self.at, receiver, record);
        self.at += record.len;
        true
    }

    pub(crate) fn into_sink(self) -> Sink {
        self.sink
    }
}

fn refusal(errno: nix::errno::Errno) -> KernelCopy {
    match errno {
        nix::errno::Errno::EPERM | nix::errno::Errno::EACCES => KernelCopy::NotPermitted,
        nix::errno::Errno::ENOSYS => KernelCopy::NoSystemCall,
        errno => KernelCopy::Errno(errno as i32),
    }
}

/// Tries whether the kernel copies from a process that says to keep `value` at `at`.
pub(crate) fn try_kernel(process: Option<rustix::process::Pid>, at: u64, value: u64) -> Result<(), KernelCopy> {
    let process = process.ok_or(KernelCopy::OtherNamespace)?;
    let at = usize::try_from(at).map_err(|_| KernelCopy::OtherProcess)?;
    let mut found = [0; 8];
    match sys::read_from(process, at, &mut found) {
        Ok(8) if u64::from_ne_bytes(found) == value => Ok(()),
        Ok(_) | Err(nix::errno::Errno::EFAULT | nix::errno::Errno::ESRCH) => Err(KernelCopy::OtherProcess),
        Err(errno) => Err(refusal(errno)),
    }
}

/// All transfers of a node.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    pub(crate) offers: Slab<Offer>,
    pub(crate) pulls: Slab<Pull>,
    /// Links whose peers have asked for offers through the ring.
    pub(crate) serving: VecDeque<Key>,
    /// Pulls that the kernel copies.
    pub(crate) reading: VecDeque<Key>,
    /// Those that it has copied, of which it isn't known yet that the peer was there.
    pub(crate) copied: VecDeque<Key>,
}

impl Transfers {
    /// A peer asks for memory through the ring. False when that is none of what it may ask for.
    pub(crate) fn ask(&mut self, link: Key, offer: u64, pull: u64, offset: u64, len: u64) -> bool {
        let Some(found) = self.offers.get_mut(offer).filter(|found| found.link == link && found.served.is_none())
        else {
            return false;
        };
        let range = usize::try_from(offset).ok().zip(usize::try_from(len).ok());
        let Some((at, end)) = range.and_then(|(at, len)| Some((at, at.checked_add(len)?))) else { return false };
        if at >= end || end > found.source.len() {
            return false;
        }
        found.served = Some(Served { pull, at, end });
        true
    }

    /// A peer is done with an offer.
    pub(crate) fn finish(&mut self, link: Key, offer: u64) -> Option<Source> {
        self.offers.get(offer).filter(|found| found.link == link)?;
        self.offers.remove(offer).map(|offer| offer.source)
    }
}
