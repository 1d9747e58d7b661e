//! Memory that one process offers and another fetches, in one copy.
//!
//! The offer passes as a message; it names the memory by a number and, for the kernel's copy, by its address. Whoever pulls it
//! either has the kernel copy it out of the other process (`process_vm_readv`), or asks for it: then its owner writes it
//! into the ring, in pieces that the puller takes out at the same time. The memory is held until the puller is done or gone.
//!
//! What a peer asks for is checked against what it was offered. What it sends unasked is dropped and counted.

use crate::choose::Way;
use crate::error::{KernelCopy, PeerGone, PullError};
use crate::slab::{Key, Slab};
use crate::sys::{RawSink, RawSource};
use std::collections::VecDeque;
use std::fmt;
use std::io::IoSliceMut;
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
    Raw(RawSource),
}

impl Source {
    /// Memory that others may read, too.
    pub fn shared<T: AsRef<[u8]> + Send + Sync + 'static>(memory: Arc<T>) -> Self {
        Self(Memory::Shared(memory))
    }

    pub(crate) fn from_raw(raw: RawSource) -> Self {
        Self(Memory::Raw(raw))
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Memory::Owned(bytes) => bytes,
            Memory::Shared(memory) => (**memory).as_ref(),
            Memory::Raw(raw) => raw.as_slice(),
        }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that it was made from; None when others may read them, or it was raw.
    pub fn into_vec(self) -> Option<Vec<u8>> {
        match self.0 {
            Memory::Owned(bytes) => Some(bytes),
            Memory::Shared(_) | Memory::Raw(_) => None,
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
    Raw(RawSink),
}

impl Sink {
    pub(crate) fn from_raw(raw: RawSink) -> Self {
        Self(Room::Raw(raw))
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Room::Owned(bytes) => bytes,
            Room::Raw(raw) => raw.as_mut_slice(),
        }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Room::Owned(bytes) => bytes.len(),
            Room::Raw(raw) => raw.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer that it was made from; None when it was raw.
    pub fn into_vec(self) -> Option<Vec<u8>> {
        match self.0 {
            Room::Owned(bytes) => Some(bytes),
            Room::Raw(_) => None,
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
        let Some(room) = self.sink.as_mut_slice().get_mut(self.at..end) else { return Step::Done };
        match read_from(process, remote, room) {
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

    /// Where the next `len` bytes go, if they begin at `offset` and aren't more than are wanted.
    pub(crate) fn room(&mut self, offset: u64, len: usize) -> Option<&mut [u8]> {
        if self.way != Way::Ring || len == 0 || offset != self.at as u64 || len > self.len - self.at {
            return None;
        }
        let at = self.at;
        self.sink.as_mut_slice().get_mut(at..at + len)
    }

    pub(crate) fn into_sink(self) -> Sink {
        self.sink
    }
}

/// Copies from another process.
fn read_from(process: rustix::process::Pid, at: usize, room: &mut [u8]) -> nix::Result<usize> {
    let process = nix::unistd::Pid::from_raw(process.as_raw_nonzero().get());
    let remote = [nix::sys::uio::RemoteIoVec { base: at, len: room.len() }];
    nix::sys::uio::process_vm_readv(process, &mut [IoSliceMut::new(room)], &remote)
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
    match read_from(process, at, &mut found) {
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
    /// Offers that go through a ring.
    pub(crate) serving: VecDeque<Key>,
    /// Pulls that the kernel copies.
    pub(crate) reading: VecDeque<Key>,
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
        self.serving.push_back(offer);
        true
    }

    /// A peer is done with an offer.
    pub(crate) fn finish(&mut self, link: Key, offer: u64) -> Option<Source> {
        self.offers.get(offer).filter(|found| found.link == link)?;
        self.offers.remove(offer).map(|offer| offer.source)
    }
}
