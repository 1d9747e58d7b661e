//! The memory that is shared with the kernel: received bytes, the refill ring, statistics; and how long it lives.
//!
//! Unsafe code is here because the kernel writes into this memory, and because buffers that are out keep it without an
//! atomic count for each.
#![allow(unsafe_code)]

mod counted;
mod lender;
mod loan;

pub(crate) use lender::{ENTRIES, HEAD, Lender, TAIL};
pub(crate) use loan::{Home, Keeper, Loan};

use counted::Counted;

use crate::refill::Words;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bytes of an entry of the refill ring (`struct io_uring_zcrx_rqe`).
const ENTRY_BYTES: u64 = 16;
/// The kernel backs memory of this alignment with huge pages, which large receive buffers need.
const HUGE: usize = 2 << 20;

/// Bytes of a page of this machine.
pub(crate) fn page_size() -> u32 {
    u32::try_from(rustix::param::page_size()).unwrap_or(4096)
}

/// An anonymous mapping: first the area of buffers, then the region with the refill ring and the statistics.
#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
    mapped: usize,
    area: usize,
    region: usize,
}

// SAFETY: the mapping belongs to this value alone, not to a thread; what is shared in it is reached by atomics, or as bytes
// that nobody writes (see `bytes`).
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps zeroed memory: `area` and `region` in bytes, each a multiple of the page size.
    ///
    /// # Errors
    /// What the kernel says, or that it can't be so large.
    pub(crate) fn map(area: u64, region: u64) -> io::Result<Self> {
        use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
        let too_large = || io::Error::from_raw_os_error(libc::ENOMEM);
        let (area, region) = (usize::try_from(area).ok(), usize::try_from(region).ok());
        let (area, region) = area.zip(region).ok_or_else(too_large)?;
        let mapped =
            area.checked_add(region).and_then(|sum| sum.checked_next_multiple_of(HUGE)).ok_or_else(too_large)?;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe {
            mmap_anonymous(std::ptr::null_mut(), mapped, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(too_large)?;
        let memory = Self { base, mapped, area, region };
        // SAFETY: the mapping was just made; huge pages change nothing but speed, so a refusal doesn't matter.
        let _ = unsafe { madvise(base.as_ptr().cast(), mapped, Advice::LinuxHugepage) };
        Ok(memory)
    }

    /// The address of the area, for the kernel.
    pub(crate) fn area_address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Bytes of the area.
    pub(crate) fn area_len(&self) -> u64 {
        self.area as u64
    }

    /// The address of the region, for the kernel.
    pub(crate) fn region_address(&self) -> u64 {
        self.base.as_ptr() as u64 + self.area as u64
    }

    /// Bytes of the region.
    pub(crate) fn region_len(&self) -> u64 {
        self.region as u64
    }

    /// The start of `len` bytes at `offset` in the area, if they are in it.
    pub(crate) fn span(&self, offset: u64, len: u32) -> Option<Span> {
        let offset = usize::try_from(offset).ok()?;
        if offset.checked_add(len as usize)? > self.area {
            return None;
        }
        // SAFETY: the offset is within the mapping.
        Some(Span { start: unsafe { self.base.add(offset) }, len })
    }

    /// A 64-bit word of the region.
    pub(crate) fn counter(&self, offset: u64) -> Option<&AtomicU64> {
        let at = self.in_region(offset, 8)?;
        // SAFETY: in the mapping, aligned, and only ever reached as an atomic; it lives as long as `self`.
        Some(unsafe { AtomicU64::from_ptr(at.cast().as_ptr()) })
    }

    /// The refill ring of `entries` entries, a power of two, whose words are at these offsets in the region. `None` when
    /// they don't fit there.
    pub(crate) fn refill_words(&self, entries: u32, head: u32, tail: u32, rqes: u32) -> Option<RefillWords> {
        if !entries.is_power_of_two() {
            return None;
        }
        let word = |offset: u32| Some(self.in_region(u64::from(offset), 4)?.cast::<AtomicU32>());
        let (head, tail) = (word(head)?, word(tail)?);
        let first = self.in_region(u64::from(rqes), 8)?;
        self.in_region(u64::from(rqes) + u64::from(entries) * ENTRY_BYTES - 8, 8)?;
        Some(RefillWords { entries: first.cast(), mask: u64::from(entries) - 1, tail, head })
    }

    /// The address of a naturally aligned word of `size` bytes in the region.
    fn in_region(&self, offset: u64, size: usize) -> Option<NonNull<u8>> {
        let offset = usize::try_from(offset).ok()?;
        if offset % size != 0 || offset.checked_add(size)? > self.region {
            return None;
        }
        // SAFETY: the offset is within the mapping.
        Some(unsafe { self.base.add(self.area + offset) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` and is used by nobody any more: buffers that are out keep `self`. What the
        // kernel still has of it, it has pinned.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.mapped) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

/// A range of bytes in the area. It doesn't keep the memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    start: NonNull<u8>,
    len: u32,
}

// SAFETY: an address and a length; what is done with them is up to the unsafe functions below.
unsafe impl Send for Span {}
// SAFETY: as above.
unsafe impl Sync for Span {}

impl Span {
    /// The bytes.
    ///
    /// # Safety
    /// The memory lives as long as the result is used, and nobody writes there meanwhile.
    #[inline]
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        // SAFETY: the span is within its mapping (see `Memory::span`); the rest is up to the caller. Anonymous memory is
        // initialised.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }
}

/// The refill ring's words in shared memory.
#[derive(Debug)]
pub(crate) struct RefillWords {
    entries: NonNull<[AtomicU64; 2]>,
    mask: u64,
    tail: NonNull<AtomicU32>,
    head: NonNull<AtomicU32>,
}

// SAFETY: all that is reached through the addresses are atomics, in memory that lives longer: `RefillWords` is kept in one
// value with its `Memory`, see pool.rs.
unsafe impl Send for RefillWords {}
// SAFETY: as above.
unsafe impl Sync for RefillWords {}

impl Words for RefillWords {
    fn head(&self) -> u32 {
        // SAFETY: `Memory::refill_words` checked that it is in the mapping, which lives as long as this.
        unsafe { self.head.as_ref() }.load(Ordering::Acquire)
    }

    fn start(&self) -> u32 {
        // SAFETY: as above.
        unsafe { self.tail.as_ref() }.load(Ordering::Relaxed)
    }

    #[inline]
    fn put(&self, at: u64, entry: u64) {
        // SAFETY: the mask keeps it among the entries, which are in the mapping.
        let slot = unsafe { self.entries.add((at & self.mask) as usize).as_ref() };
        // The length and the padding behind the offset stay zero: the kernel ignores the one and insists on the other
        // (io_uring/zcrx.c:io_parse_rqe).
        slot[0].store(entry, Ordering::Relaxed);
    }

    #[inline]
    fn publish(&self, tail: u32) {
        // SAFETY: as `head`.
        unsafe { self.tail.as_ref() }.store(tail, Ordering::Release);
    }
}
