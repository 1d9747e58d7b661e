//! The header queue in host memory: whether its next entry is there, and the way round.

use super::config::Detect;
use super::entry::RHF_BYTES;
use opx_bus::DmaBlock;
use opx_defs::wire::OPX_HEADER_BYTES;
use opx_defs::wire::rhf::Rhf;
use std::sync::atomic::Ordering;

const HEADER_WORDS: usize = OPX_HEADER_BYTES / 8;
/// Where the sequence number lies in the flags.
const SEQ: u32 = 0xf << 28;
const FIRST_SEQ: u32 = (Rhf::FIRST_SEQ as u32) << 28;
const LAST_SEQ: u32 = (Rhf::LAST_SEQ as u32) << 28;

/// A header queue and how far it has been read.
pub(super) struct HeaderQueue {
    entries: DmaBlock,
    /// The chip's copy of the tail, when entries are found by it.
    tail: Option<DmaBlock>,
    /// What the tail register said when the copy was looked at in vain, until entries up to there have been read.
    tail_register: Option<u64>,
    /// The word (8 bytes) with the next entry's flags.
    next: usize,
    /// Words of an entry, and the word of the first one's flags.
    step: usize,
    first: usize,
    /// The word that would be the next one's behind the last entry.
    end: usize,
    /// The sequence number that the next entry will have, in its place.
    seq: u32,
}

impl HeaderQueue {
    /// A queue of `count` entries of `entry_bytes` in `entries`, and `tail` when it is to be looked at.
    pub fn new(entries: DmaBlock, tail: Option<DmaBlock>, count: u32, entry_bytes: u32) -> Self {
        let step = (entry_bytes / 8) as usize;
        let flags = step - 1;
        let end = count as usize * step + flags;
        Self { entries, tail, tail_register: None, next: flags, step, first: flags, end, seq: FIRST_SEQ }
    }

    /// Memory that a queue set up like that needs.
    pub fn tail_bytes(detect: Detect) -> Option<usize> {
        (detect == Detect::Tail).then_some(64)
    }

    /// The flags of the next entry, when the chip has written it. Where entries are found by their tail,
    /// [`HeaderQueue::next`] has the last word.
    #[inline]
    pub fn peek(&self) -> Option<Rhf> {
        // This read makes the entry's header, which was written before, visible to later reads.
        let flags = u64::from_le(self.entries.memory().words().get(self.next)?.load(Ordering::Acquire));
        if flags as u32 & SEQ == self.seq { Some(Rhf(flags)) } else { None }
    }

    /// The words before the next entry's flags: the header of a KDETH packet. To be read after its flags.
    #[inline(always)]
    pub fn header_words(&self) -> Option<[u64; HEADER_WORDS]> {
        let words = self.entries.memory().words().get(self.next.wrapping_sub(HEADER_WORDS)..self.next)?;
        let words = words.first_chunk::<HEADER_WORDS>()?;
        Some(std::array::from_fn(|at| u64::from_le(words[at].load(Ordering::Relaxed))))
    }

    /// The flags of the next entry, when the chip has written it and, if that is to be looked at, its tail says so.
    pub fn next(&self) -> Option<Rhf> {
        let rhf = self.peek()?;
        match &self.tail {
            Some(tail) if !self.tail_moved(tail) => None,
            _ => Some(rhf),
        }
    }

    /// Whether the tail is beyond the next entry. Entries from another round have another sequence number, so that any
    /// difference will do.
    fn tail_moved(&self, tail: &DmaBlock) -> bool {
        let head = self.head_dwords();
        tail.read_u64(0) != head || self.tail_register.is_some_and(|tail| tail != head)
    }

    /// Goes on to the entry after the one that [`HeaderQueue::next`] gave.
    #[inline]
    pub fn advance(&mut self) {
        self.next = self.next.wrapping_add(self.step);
        if self.next == self.end {
            self.wrap();
        }
        self.seq = self.seq.wrapping_add(FIRST_SEQ);
        if self.seq > LAST_SEQ {
            self.wrap_seq();
        }
    }

    // Seldom enough that a jump is better than a choice made each time.
    #[cold]
    fn wrap(&mut self) {
        self.next = self.first;
    }

    #[cold]
    fn wrap_seq(&mut self) {
        self.seq = FIRST_SEQ;
    }

    /// The next entry's place in the queue, to be compared and given to [`HeaderQueue::passed_since`].
    #[inline]
    pub fn place(&self) -> usize {
        self.next
    }

    /// Words from an earlier place to this one; less than the whole queue.
    #[inline]
    pub fn passed_since(&self, place: usize) -> usize {
        let passed = self.next.wrapping_sub(place);
        if self.next >= place { passed } else { passed.wrapping_add(self.end).wrapping_sub(self.first) }
    }

    /// The word that holds the next entry's flags.
    #[inline]
    pub fn flags_at(&self) -> u32 {
        self.next as u32
    }

    /// Where the next entry begins, in dwords: what the chip calls the head.
    pub fn head_dwords(&self) -> u64 {
        self.next.wrapping_sub(self.first) as u64 * 2
    }

    /// Takes note of the tail register; `true` when that finds an entry that the copy in memory didn't.
    pub fn note_tail(&mut self, register: u64) -> bool {
        let before = self.next().is_some();
        self.tail_register = Some(register);
        !before && self.next().is_some()
    }

    /// Forgets what the tail register said once that is behind.
    pub fn forget_tail(&mut self) {
        if self.tail_register == Some(self.head_dwords()) {
            self.tail_register = None;
        }
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
        (self.next, self.seq, self.tail_register) = (self.first, FIRST_SEQ, None);
    }

    /// The memory behind it.
    pub fn memory(&self) -> &DmaBlock {
        &self.entries
    }

    /// The memory of the chip's copy of the tail.
    pub fn tail_memory(&self) -> Option<&DmaBlock> {
        self.tail.as_ref()
    }

    /// Bytes of an entry before its flags.
    pub fn header_room(&self) -> usize {
        self.step * 8 - RHF_BYTES as usize
    }
}
