//! The header queue in host memory: whether its next entry is there, and the way round.

use super::config::Detect;
use super::entry::RHF_BYTES;
use opx_bus::DmaBlock;
use opx_defs::wire::rhf::Rhf;
use std::sync::atomic::Ordering;

/// Where the sequence number lies in the flags.
const SEQ: u64 = 0xf << 28;
const FIRST_SEQ: u64 = (Rhf::FIRST_SEQ as u64) << 28;
const LAST_SEQ: u64 = (Rhf::LAST_SEQ as u64) << 28;

/// A header queue and how far it has been read.
pub(super) struct HeaderQueue {
    entries: DmaBlock,
    /// The chip's copy of the tail, when entries are found by it.
    tail: Option<DmaBlock>,
    /// What the tail register said when the copy was looked at in vain.
    tail_register: u64,
    /// The word (8 bytes) with the next entry's flags.
    next: usize,
    /// Words of an entry.
    step: usize,
    /// What `next` becomes 0 + `step` - 1 instead of.
    end: usize,
    /// The sequence number that the next entry will have, in its place.
    seq: u64,
}

impl HeaderQueue {
    /// A queue of `count` entries of `entry_bytes` in `entries`, and `tail` when it is to be looked at.
    pub fn new(entries: DmaBlock, tail: Option<DmaBlock>, count: u32, entry_bytes: u32) -> Self {
        let step = (entry_bytes / 8) as usize;
        let flags = step - 1;
        let end = count as usize * step + flags;
        Self { entries, tail, tail_register: 0, next: flags, step, end, seq: FIRST_SEQ }
    }

    /// Memory that a queue set up like that needs.
    pub fn tail_bytes(detect: Detect) -> Option<usize> {
        (detect == Detect::Tail).then_some(64)
    }

    /// The flags of the next entry, when the chip has written it.
    #[inline]
    pub fn next(&self) -> Option<Rhf> {
        // This read makes the entry's header, which was written before, visible to later reads.
        let flags = u64::from_le(self.entries.memory().words().get(self.next)?.load(Ordering::Acquire));
        if flags & SEQ != self.seq || self.tail.as_ref().is_some_and(|tail| !self.tail_moved(tail)) {
            return None;
        }
        Some(Rhf(flags))
    }

    /// Whether the tail is beyond the next entry. Entries from another round have another sequence number, so that any
    /// difference will do.
    fn tail_moved(&self, tail: &DmaBlock) -> bool {
        let head = self.head_dwords();
        tail.read_u64(0) != head || self.tail_register != head
    }

    /// Goes on to the entry after the one that [`HeaderQueue::next`] gave.
    #[inline]
    pub fn advance(&mut self) {
        let next = self.next.wrapping_add(self.step);
        self.next = if next == self.end { self.step - 1 } else { next };
        self.seq = if self.seq == LAST_SEQ { FIRST_SEQ } else { self.seq.wrapping_add(FIRST_SEQ) };
    }

    /// Where the next entry begins, in bytes.
    #[inline]
    pub fn position(&self) -> usize {
        self.next.wrapping_sub(self.step - 1).wrapping_mul(8)
    }

    /// Where the next entry begins, in dwords: what the chip calls the head.
    pub fn head_dwords(&self) -> u64 {
        self.position() as u64 / 4
    }

    /// Takes note of the tail register; `true` when that finds an entry that the copy in memory didn't.
    pub fn note_tail(&mut self, register: u64) -> bool {
        let before = self.next().is_some();
        self.tail_register = register;
        !before && self.next().is_some()
    }

    /// Where the chip writes entries, and where it writes the tail if it does.
    pub fn addresses(&self) -> (u64, Option<u64>) {
        (self.entries.iova(0).0, self.tail.as_ref().map(|tail| tail.iova(0).0))
    }

    /// Back to the start, with nothing in the queue that could be taken for a packet (`chip.c:hfi1_rcvctrl`).
    pub fn reset(&mut self) {
        let memory = self.entries.memory();
        memory.zero(0, memory.len());
        if let Some(tail) = &self.tail {
            tail.write_u64(0, 0);
        }
        (self.next, self.seq, self.tail_register) = (self.step - 1, FIRST_SEQ, 0);
    }

    /// The memory behind it.
    pub fn memory(&self) -> &DmaBlock {
        &self.entries
    }

    /// Bytes of an entry before its flags.
    pub fn header_room(&self) -> usize {
        self.step * 8 - RHF_BYTES as usize
    }
}
