//! The memory that two processes share: a memfd of a size that is sealed, with a ring each way.
//!
//! It has no name in any file system and goes with its last user. The page at its beginning holds what the ends of the
//! rings tell each other; behind it lie, for each ring, its slots and its bytes. Either process may write anything anywhere in it at any time, so nothing
//! is read from it twice, and nothing that is read is used unchecked.

use crate::ring::SLOT;
use crate::sync::AtomicU64;
use opx_bus::SharedMem;
use rustix::fs::{
    FileType, MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate, memfd_create,
};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// Where the rings begin.
const CONTROL: usize = 4096;
/// Bytes of a ring for each slot of it: as long a payload is common, and slots are soon used again.
const BYTES_OF_SLOT: usize = 256;
/// Between two words of the control page that different processes write: two cache lines, because the processor fetches
/// them in pairs.
const APART: usize = 128;
/// `TMPFS_MAGIC` of linux/magic.h: what a memfd of small pages is on.
const TMPFS: u64 = 0x0102_1994;
/// Without these its maker could cut it short under its user, who would get a SIGBUS.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// The smallest and the largest ring, in bytes for payload.
pub(crate) const RING_BYTES: std::ops::RangeInclusive<u32> = 4096..=(16 << 20);

/// A slot, as words.
pub(crate) type Slot = [AtomicU64; SLOT / 8];

/// Which of the two rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the process that connected.
    Out = 0,
    /// To it.
    Back = 1,
}

/// Whether a ring can have so many bytes.
pub(crate) fn is_ring(bytes: u32) -> bool {
    RING_BYTES.contains(&bytes) && bytes.is_power_of_two()
}

/// Slots of a ring with so many bytes.
fn slots(ring_bytes: usize) -> usize {
    ring_bytes / BYTES_OF_SLOT
}

/// Bytes of a segment.
fn len(ring_bytes: u32) -> usize {
    let bytes = ring_bytes as usize;
    CONTROL + 2 * (slots(bytes) * SLOT + bytes)
}

/// Makes a segment with rings of so many bytes, which [`is_ring`] takes.
pub(crate) fn create(ring_bytes: u32) -> io::Result<(OwnedFd, SharedMem)> {
    // Old kernels don't know the flag that keeps it from being executed.
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create("opx-shm", flags | MemfdFlags::NOEXEC_SEAL).or_else(|_| memfd_create("opx-shm", flags))?;
    ftruncate(&fd, len(ring_bytes) as u64)?;
    fcntl_add_seals(&fd, SEALS | SealFlags::SEAL)?;
    let memory = SharedMem::map(&File::from(fd.try_clone()?), 0, len(ring_bytes))?;
    Ok((fd, memory))
}

/// Maps the segment that a peer made.
pub(crate) fn adopt(fd: OwnedFd, ring_bytes: u32) -> Result<SharedMem, Unfit> {
    if !is_ring(ring_bytes) {
        return Err(Unfit::Rings);
    }
    let stat = fstat(&fd).map_err(io::Error::from)?;
    // Memory of huge pages can be taken away in spite of the seals, by a hole that can't be filled again.
    let of_small_pages = fstatfs(&fd).map_err(io::Error::from)?.f_type as u64 == TMPFS;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || !of_small_pages {
        return Err(Unfit::NoMemfd);
    }
    if !fcntl_get_seals(&fd).map_err(io::Error::from)?.contains(SEALS) {
        return Err(Unfit::Unsealed);
    }
    if u64::try_from(stat.st_size).ok() != Some(len(ring_bytes) as u64) {
        return Err(Unfit::Size);
    }
    Ok(SharedMem::map(&File::from(fd), 0, len(ring_bytes))?)
}

/// Why a peer's segment isn't taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// Rings have a power of two of bytes, within bounds.
    #[error("its rings have a size that no ring has")]
    Rings,
    /// Only a memfd can be sealed for good.
    #[error("its segment is no memfd of small pages")]
    NoMemfd,
    /// It could be cut short.
    #[error("its segment isn't sealed")]
    Unsealed,
    /// Not what its rings need.
    #[error("its segment has another size than its rings need")]
    Size,
    /// The system refused.
    #[error("its segment can't be mapped: {0}")]
    Map(#[from] io::Error),
}

/// One ring's slots and bytes, and the words that its ends tell each other.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    memory: SharedMem,
    /// In cache lines: where the control words and the slots are.
    control: usize,
    first: usize,
    /// Slots less one: their number is a power of two.
    mask: u32,
    /// Where its bytes are, and how many less one: it is a power of two.
    bytes: usize,
    bytes_mask: u32,
}

impl Lines {
    /// A ring of a segment. Its size is taken from that of the memory, which no peer can change.
    pub(crate) fn new(memory: SharedMem, direction: Direction) -> Self {
        let number = direction as usize;
        let slots = (memory.len() - CONTROL) / 2 / (SLOT + BYTES_OF_SLOT);
        let bytes = slots * BYTES_OF_SLOT;
        let first = CONTROL + number * (slots * SLOT + bytes);
        Self {
            memory,
            control: number * 2 * APART / SLOT,
            first: first / SLOT,
            mask: slots as u32 - 1,
            bytes: first + slots * SLOT,
            bytes_mask: bytes as u32 - 1,
        }
    }

    /// Slots less one.
    #[inline(always)]
    pub(crate) fn mask(&self) -> u32 {
        self.mask
    }

    /// Bytes less one.
    #[inline(always)]
    pub(crate) fn bytes_mask(&self) -> u32 {
        self.bytes_mask
    }

    /// Its words and slots, for somebody who looks at several of them.
    #[inline(always)]
    pub(crate) fn view(&self) -> View<'_> {
        let (lines, _) = self.memory.words().as_chunks();
        View { lines, control: self.control, first: self.first, mask: self.mask }
    }

    /// Where in the segment a slot is; positions go round.
    #[inline(always)]
    fn slot_at(&self, position: u32) -> usize {
        self.first.wrapping_add((position & self.mask) as usize).wrapping_mul(SLOT)
    }

    /// Has the processor fetch a slot; positions go round.
    #[inline(always)]
    pub(crate) fn prefetch_slot(&self, position: u32) {
        self.prefetch(self.slot_at(position));
    }

    /// Where in the segment a byte is; positions go round.
    #[inline(always)]
    pub(crate) fn byte(&self, position: u32) -> usize {
        self.bytes.wrapping_add((position & self.bytes_mask) as usize)
    }

    /// Copies bytes in, to a place of the segment.
    #[inline(always)]
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        self.memory.write(at, bytes);
    }

    /// Has the processor fetch a cache line of the segment.
    #[inline(always)]
    pub(crate) fn prefetch(&self, at: usize) {
        self.memory.prefetch(at);
    }

    /// Copies bytes out.
    #[inline(always)]
    pub(crate) fn read(&self, at: usize, bytes: &mut [u8]) {
        self.memory.read(at, bytes);
    }

    /// Copies bytes of other shared memory in, from `from` on.
    pub(crate) fn copy_in(&self, at: usize, memory: &SharedMem, from: usize, len: usize) {
        self.memory.copy_from(at, memory, from, len);
    }

    /// Copies bytes out to other shared memory, to `to` and on.
    pub(crate) fn copy_out(&self, at: usize, memory: &SharedMem, to: usize, len: usize) {
        memory.copy_from(to, &self.memory, at, len);
    }
}

/// The same, with the place of the memory looked up.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    lines: &'a [Slot],
    control: usize,
    first: usize,
    mask: u32,
}

impl<'a> View<'a> {
    /// A cache line of the segment.
    #[inline(always)]
    fn line(self, number: usize) -> &'a Slot {
        &self.lines[number]
    }

    /// The word that the ring's sender writes.
    #[inline(always)]
    pub(crate) fn sender(self) -> &'a AtomicU64 {
        &self.line(self.control)[0]
    }

    /// The word that its receiver writes.
    #[inline(always)]
    pub(crate) fn receiver(self) -> &'a AtomicU64 {
        &self.line(self.control.wrapping_add(APART / SLOT))[0]
    }

    /// Another word that its receiver writes, in the same cache line: not 0 while it wants no messages.
    #[inline(always)]
    pub(crate) fn gate(self) -> &'a AtomicU64 {
        &self.line(self.control.wrapping_add(APART / SLOT))[1]
    }

    /// A third one: how many bytes it has given back.
    #[inline(always)]
    pub(crate) fn bytes_back(self) -> &'a AtomicU64 {
        &self.line(self.control.wrapping_add(APART / SLOT))[2]
    }

    /// A slot; positions go round.
    #[inline(always)]
    pub(crate) fn slot(self, position: u32) -> &'a Slot {
        self.line(self.first.wrapping_add((position & self.mask) as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_makes_another_takes() {
        let (fd, memory) = create(4096).unwrap();
        let other = adopt(fd, 4096).unwrap();
        for direction in [Direction::Out, Direction::Back] {
            let (a, b) = (Lines::new(memory.clone(), direction), Lines::new(other.clone(), direction));
            assert_eq!((a.mask(), b.mask(), a.bytes_mask(), b.bytes_mask()), (15, 15, 4095, 4095));
            let mark = direction as u8 + 1;
            a.write(a.slot_at(15), &[mark; SLOT]);
            a.write(a.byte(0), &[mark + 2; 4096]);
            let (mut slot, mut bytes) = ([0; SLOT], [0; 4096]);
            b.read(b.slot_at(15 + 16), &mut slot);
            b.read(b.byte(4096), &mut bytes);
            assert_eq!((slot, bytes), ([mark; SLOT], [mark + 2; 4096]));
        }
    }

    #[test]
    fn control_words_and_slots_are_apart() {
        let (_, memory) = create(4096).unwrap();
        let [out, back] = [Direction::Out, Direction::Back].map(|d| Lines::new(memory.clone(), d));
        let mut at: Vec<usize> =
            [out.view().sender(), out.view().receiver(), back.view().sender(), back.view().receiver()]
                .map(|word| std::ptr::from_ref(word).addr() - memory.address() as usize)
                .into();
        at.sort_unstable();
        assert!(at.windows(2).all(|two| two[1] - two[0] >= APART) && at[3] < CONTROL, "{at:?}");
    }

    #[test]
    fn unfit_segments_are_refused() {
        let made = |len: u64, seals: SealFlags| {
            let fd = memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap();
            ftruncate(&fd, len).unwrap();
            fcntl_add_seals(&fd, seals).unwrap();
            fd
        };
        let right = len(4096) as u64;
        assert!(adopt(made(right, SEALS), 4096).is_ok());
        assert!(matches!(adopt(made(right, SealFlags::GROW), 4096), Err(Unfit::Unsealed)));
        assert!(matches!(adopt(made(right, SealFlags::SHRINK), 4096), Err(Unfit::Unsealed)));
        assert!(matches!(adopt(made(right - 4096, SEALS), 4096), Err(Unfit::Size)));
        assert!(matches!(adopt(made(right, SEALS), 8192), Err(Unfit::Size)));
        for ring in [0, 2048, 5000, 32 << 20, u32::MAX] {
            assert!(matches!(adopt(made(right, SEALS), ring), Err(Unfit::Rings)), "{ring}");
        }
        // Sealed against writing, it can't be mapped.
        assert!(matches!(adopt(made(right, SEALS | SealFlags::WRITE), 4096), Err(Unfit::Map(_))));
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert!(adopt(pipe, 4096).is_err());
    }
}
