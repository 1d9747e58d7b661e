//! A kernel's side of the memory, for the fake kernel: it fills buffers, lends them, and takes back what is returned.

use super::{ENTRY_BYTES, Memory};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the fake kernel has the words of the refill ring. The real one says at registration.
pub(crate) const HEAD: u32 = 0;
pub(crate) const TAIL: u32 = 4;
pub(crate) const ENTRIES: u32 = 64;

/// Buffers in memory that is shared with a pool.
#[derive(Debug)]
pub(crate) struct Lender {
    memory: Arc<Memory>,
    buffer_size: u32,
    entries: u32,
    /// For each buffer, how often it is lent (`user_refs` of io_uring/zcrx.c).
    lent: Vec<u32>,
    free: Vec<u32>,
    /// Entries that made no sense or returned what wasn't lent.
    refused: u64,
}

impl Lender {
    /// Begins with all buffers free and the ring empty, its counters at `start`.
    pub(crate) fn new(memory: Arc<Memory>, buffer_size: u32, entries: u32, start: u32) -> Self {
        let buffers = (memory.area_len() / u64::from(buffer_size.max(1))) as u32;
        let lender = Self {
            memory,
            buffer_size,
            entries,
            lent: vec![0; buffers as usize],
            free: (0..buffers).rev().collect(),
            refused: 0,
        };
        lender.word(HEAD).store(start, Ordering::Relaxed);
        lender.word(TAIL).store(start, Ordering::Release);
        lender
    }

    /// Fills the start of a free buffer and lends it: its offset. `None` when there is none, or for more than a buffer.
    pub(crate) fn lend(&mut self, bytes: &[u8]) -> Option<u64> {
        if bytes.len() > self.buffer_size as usize {
            return None;
        }
        let buffer = self.free.pop()?;
        let offset = u64::from(buffer) * u64::from(self.buffer_size);
        let span = self.memory.span(offset, bytes.len() as u32)?;
        // SAFETY: in the mapping, which `self` keeps. Nobody reads there: the buffer isn't lent, since each of its loans
        // was ended by an entry of the refill ring, and a pool writes that only when the last bytes of the loan were let go.
        unsafe { span.start.copy_from_nonoverlapping(std::ptr::NonNull::from(bytes).cast(), bytes.len()) };
        self.lent[buffer as usize] += 1;
        Some(offset)
    }

    /// Lends the buffer at `offset` as it is, once more if it is lent already. What is nowhere isn't lent.
    pub(crate) fn lend_at(&mut self, offset: u64) {
        let buffer = offset / u64::from(self.buffer_size);
        if let Some(lent) = self.lent.get_mut(buffer as usize) {
            *lent += 1;
            self.free.retain(|free| u64::from(*free) != buffer);
        }
    }

    /// Takes at most `most` returned buffers from the ring: how many there were.
    pub(crate) fn take_back(&mut self, most: u32) -> u32 {
        let mut head = self.word(HEAD).load(Ordering::Relaxed);
        let there = self.word(TAIL).load(Ordering::Acquire).wrapping_sub(head).min(self.entries).min(most);
        for _ in 0..there {
            let at = u64::from(head % self.entries) * ENTRY_BYTES + u64::from(ENTRIES);
            let entry = self.memory.counter(at).map_or(u64::MAX, |word| word.load(Ordering::Relaxed));
            let buffer = entry / u64::from(self.buffer_size);
            match self.lent.get_mut(buffer as usize) {
                Some(lent) if *lent > 0 => {
                    *lent -= 1;
                    if *lent == 0 {
                        self.free.push(buffer as u32);
                    }
                }
                _ => self.refused += 1,
            }
            head = head.wrapping_add(1);
        }
        self.word(HEAD).store(head, Ordering::Release);
        there
    }

    /// Buffers that are free.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Bytes of a buffer.
    pub(crate) fn buffer_size(&self) -> u32 {
        self.buffer_size
    }

    /// Entries that returned what wasn't lent.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        let at = self.memory.in_region(u64::from(offset), 4);
        let at = at.unwrap_or_else(|| unreachable!("a region has at least a page"));
        // SAFETY: in the mapping, which `self` keeps, aligned, and only reached as an atomic.
        unsafe { at.cast().as_ref() }
    }
}
