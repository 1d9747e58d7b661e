//! A ring of 64-byte slots from one process to another, written by one and read by the other.
//!
//! A message is a run of slots. Its first word says that it is there: it is written last, and the word where the next
//! message will begin is cleared before, so that what lies there from an earlier round isn't taken for one. A short payload
//! begins in the same cache line; a long one is aligned to the next. A message that doesn't fit in front of the ring's end
//! is preceded by a filler and begins at its start: payload is contiguous.
//!
//! The receiver gives slots back a quarter of the ring at a time, in a word that the sender reads after each message anyway,
//! because it also says whether the receiver looks at this ring (*hot*) or has to be rung for (*cold*). No end trusts what
//! the other wrote: positions are this process's own, and what is read is checked once and then used.

use crate::large::Piece;
use crate::segment::Lines;
use crate::sync::{AtomicU64, Ordering, light_fence};
use opx_bus::SharedMem;

/// Bytes of a slot: a cache line.
pub(crate) const SLOT: usize = 64;
/// A payload that begins in the first slot begins after the header and the caller's words.
const BEHIND_WORDS: usize = 24;
/// Up to here it ends there, too.
const LONGEST_INSIDE: usize = SLOT - BEHIND_WORDS;
/// Longer payloads are aligned to a slot, which makes copying faster; shorter ones save a cache line.
const LONGEST_BEHIND_WORDS: usize = 4 * SLOT - BEHIND_WORDS;

/// The class of a filler. Other classes are the caller's; 0 is no message.
const FILLER: u8 = 0xff;

/// What a message begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// What kind of record it is; neither 0 nor 0xff.
    pub(crate) class: u8,
    pub(crate) kind: u16,
    pub(crate) words: [u64; 2],
}

/// The first word: class, kind, length.
#[inline(always)]
fn header(class: u8, kind: u16, len: u32) -> u64 {
    u64::from(class) << 48 | u64::from(kind) << 32 | u64::from(len)
}

/// Slots of a message with so many bytes of payload.
#[inline(always)]
fn slots_of(len: usize) -> usize {
    let bytes = payload_at(len).saturating_add(len);
    bytes.saturating_add(SLOT - 1) / SLOT
}

/// Where the payload begins.
#[inline(always)]
fn payload_at(len: usize) -> usize {
    if len <= LONGEST_BEHIND_WORDS { BEHIND_WORDS } else { SLOT }
}

/// Writes a payload that fits into the first slot.
#[inline(always)]
fn put(slot: &[AtomicU64; LONGEST_INSIDE / 8], bytes: &[u8]) {
    // As many messages are; a loop takes three times as long.
    if let Some(word) = bytes.first_chunk()
        && bytes.len() == 8
    {
        return slot[0].store(u64::from_ne_bytes(*word), Ordering::Relaxed);
    }
    let (words, rest) = bytes.as_chunks();
    for (cell, word) in slot.iter().zip(words) {
        cell.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
    }
    if !rest.is_empty()
        && let Some(cell) = slot.get(words.len())
    {
        let mut word = [0; 8];
        word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        cell.store(u64::from_ne_bytes(word), Ordering::Relaxed);
    }
}

/// Reads the beginning of one.
#[inline(always)]
fn get(slot: &[AtomicU64; LONGEST_INSIDE / 8], bytes: &mut [u8]) {
    if bytes.len() == 8
        && let Some(word) = bytes.first_chunk_mut()
    {
        *word = slot[0].load(Ordering::Relaxed).to_ne_bytes();
        return;
    }
    let (words, rest) = bytes.as_chunks_mut();
    let whole = words.len();
    for (cell, word) in slot.iter().zip(words) {
        *word = cell.load(Ordering::Relaxed).to_ne_bytes();
    }
    if !rest.is_empty()
        && let Some(cell) = slot.get(whole)
    {
        let word = cell.load(Ordering::Relaxed).to_ne_bytes();
        rest.iter_mut().zip(word).for_each(|(to, from)| *to = from);
    }
}

/// The most slots of a message: with a filler before it, it still finds room once the receiver has read all, although that
/// may not have given back its last quarter.
#[inline(always)]
fn most_slots(mask: u32) -> u32 {
    mask.wrapping_add(1) / 4
}

/// Bytes of the longest payload.
#[inline(always)]
pub(crate) fn longest(lines: &Lines) -> usize {
    // A ring has 64 slots at least.
    (most_slots(lines.mask()) as usize).wrapping_sub(1).wrapping_mul(SLOT)
}

/// The other end wrote what it can't have meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

/// Why a message wasn't written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// No room at present.
    Full,
    /// Longer than [`longest`].
    TooLong,
    /// The receiver gave back what it never got.
    Broken(Broken),
}

/// What is to be done after a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Sent {
    /// Nothing: the receiver looks by itself, or was rung for already.
    Quiet,
    /// The receiver has to be rung for.
    Ring,
}

/// The receiver's word: how many slots it has given back, and its state, which is odd when it is cold.
#[derive(Clone, Copy)]
struct Given {
    back: u32,
    state: u32,
}

impl Given {
    #[inline(always)]
    fn load(word: &AtomicU64) -> Self {
        let word = word.load(Ordering::Acquire);
        Self { back: word as u32, state: (word >> 32) as u32 }
    }

    #[inline(always)]
    fn store(self, word: &AtomicU64) {
        word.store(u64::from(self.state) << 32 | u64::from(self.back), Ordering::Release);
    }
}

/// The end that writes.
#[derive(Debug)]
pub(crate) struct Sender {
    lines: Lines,
    /// Slots written, and of these given back, as far as is known.
    tail: u32,
    back: u32,
    /// The cold state that was rung for last.
    rung: u32,
    /// What it wrote into its own word: odd while it waits for room.
    wanting: u32,
    /// The receiver wanted no messages when that was looked at last.
    shut: bool,
    /// The ends can't count on `barrier`.
    full_fences: bool,
}

impl Sender {
    pub(crate) fn new(lines: Lines, full_fences: bool) -> Self {
        Self { lines, tail: 0, back: 0, rung: 0, wanting: 0, shut: false, full_fences }
    }

    /// From now on the other end takes part in the kernel's fences, or it doesn't.
    pub(crate) fn set_full_fences(&mut self, full: bool) {
        self.full_fences = full;
    }

    /// Bytes of the longest payload.
    #[inline]
    pub(crate) fn longest(&self) -> usize {
        longest(&self.lines)
    }

    /// Writes a message whose payload is these parts one after the other.
    #[inline]
    pub(crate) fn send(&mut self, head: Head, parts: &[&[u8]]) -> Result<Sent, Unsent> {
        let len = match parts {
            [part] => part.len(),
            parts => parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len())),
        };
        self.send_with(head, len, |lines, at| match parts {
            [part] if len <= LONGEST_INSIDE => {
                let [_, _, _, payload @ ..] = lines.view().slot(at);
                put(payload, part);
            }
            parts => {
                let mut offset = payload_at(len);
                for part in parts {
                    lines.write(at, offset, part);
                    offset = offset.wrapping_add(part.len());
                }
            }
        })
    }

    /// Writes a message whose payload is a piece of offered memory.
    pub(crate) fn send_piece(&mut self, head: Head, piece: Piece<'_>) -> Result<Sent, Unsent> {
        let len = piece.len();
        self.send_with(head, len, |lines, at| match piece {
            Piece::Bytes(bytes) => lines.write(at, payload_at(len), bytes),
            Piece::Mapped(memory, from, _) => lines.copy_in(at, payload_at(len), memory, from, len),
        })
    }

    /// Writes a message with so many bytes of payload, which `fill` writes to the slot where it begins.
    #[inline(always)]
    fn send_with(&mut self, head: Head, len: usize, fill: impl FnOnce(&Lines, u32)) -> Result<Sent, Unsent> {
        let begin = self.tail;
        let (filler, slots) = if len <= LONGEST_INSIDE { (0, 1) } else { self.place(len)? };
        // One more for the word that is cleared.
        if !self.has_room(filler.wrapping_add(slots).wrapping_add(1))? {
            return Err(Unsent::Full);
        }
        let lines = self.lines.view();
        let at = begin.wrapping_add(filler);
        let next = at.wrapping_add(slots);
        let [first, one, two, ..] = lines.slot(at);
        one.store(head.words[0], Ordering::Relaxed);
        two.store(head.words[1], Ordering::Relaxed);
        fill(&self.lines, at);
        lines.slot(next)[0].store(0, Ordering::Relaxed);
        first.store(header(head.class, head.kind, len as u32), Ordering::Release);
        if filler != 0 {
            lines.slot(begin)[0].store(header(FILLER, 0, 0), Ordering::Release);
        }
        self.tail = next;
        light_fence(self.full_fences);
        let given = Given::load(lines.receiver());
        self.back = given.back;
        if given.state & 1 == 0 || given.state == self.rung {
            return Ok(Sent::Quiet);
        }
        self.rung = given.state;
        Ok(Sent::Ring)
    }

    /// Slots of the filler in front of a message, and of the message.
    fn place(&self, len: usize) -> Result<(u32, u32), Unsent> {
        if len > self.longest() {
            return Err(Unsent::TooLong);
        }
        let (mask, slots) = (self.lines.mask(), slots_of(len) as u32);
        let to_end = mask.wrapping_add(1).wrapping_sub(self.tail & mask);
        Ok((if slots > to_end { to_end } else { 0 }, slots))
    }

    #[inline(always)]
    fn has_room(&mut self, slots: u32) -> Result<bool, Unsent> {
        if self.free()? >= slots {
            return Ok(true);
        }
        self.back = Given::load(self.lines.view().receiver()).back;
        Ok(self.free()? >= slots)
    }

    #[inline(always)]
    fn free(&self) -> Result<u32, Unsent> {
        let slots = self.lines.mask().wrapping_add(1);
        let used = self.tail.wrapping_sub(self.back);
        slots.checked_sub(used).ok_or(Unsent::Broken(Broken("it gave back slots of the ring that it never got")))
    }

    /// Whether the receiver wants messages at present.
    #[inline(always)]
    pub(crate) fn is_wanted(&mut self) -> bool {
        self.shut = self.lines.view().gate().load(Ordering::Acquire) != 0;
        !self.shut
    }

    /// Asks to be rung for when slots are given back, or messages are wanted again. To be followed by a heavy fence, and that by
    /// [`Sender::has_got_room`].
    pub(crate) fn want_room(&mut self) {
        self.wanting = self.wanting.wrapping_add(1) | 1;
        self.lines.view().sender().store(u64::from(self.wanting), Ordering::Release);
    }

    /// Doesn't ask any more.
    pub(crate) fn stop_wanting(&mut self) {
        if self.wanting & 1 == 1 {
            self.wanting = self.wanting.wrapping_add(1);
            self.lines.view().sender().store(u64::from(self.wanting), Ordering::Release);
        }
    }

    /// Whether slots were given back since the last message was tried, or messages are wanted again.
    pub(crate) fn has_got_room(&self) -> bool {
        let opened = self.shut && self.lines.view().gate().load(Ordering::Acquire) == 0;
        opened || Given::load(self.lines.view().receiver()).back != self.back
    }
}

/// A message that is there: what was read of it, and where its payload is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) head: Head,
    /// Bytes of payload.
    pub(crate) len: usize,
    /// The first slot, and how many there are.
    at: u32,
    slots: u32,
}

impl Record {
    /// Slots that it has in the ring.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }
}

/// The message that begins with `word`, which was read once, in its first slot.
#[inline(always)]
fn record(word: u64, slot: &[AtomicU64; SLOT / 8], at: u32, slots: u32) -> Record {
    let words = [slot[1].load(Ordering::Relaxed), slot[2].load(Ordering::Relaxed)];
    let head = Head { class: (word >> 48) as u8, kind: (word >> 32) as u16, words };
    Record { head, len: word as u32 as usize, at, slots }
}

/// The end that reads.
#[derive(Debug)]
pub(crate) struct Receiver {
    lines: Lines,
    /// Slots read, and of these given back.
    head: u32,
    given: u32,
    /// Odd when the sender has to ring.
    state: u32,
    /// What the sender's word held when it was last rung for.
    rung: u32,
    full_fences: bool,
}

impl Receiver {
    pub(crate) fn new(lines: Lines, full_fences: bool) -> Self {
        Self { lines, head: 0, given: 0, state: 0, rung: 0, full_fences }
    }

    /// See [`Sender::set_full_fences`].
    pub(crate) fn set_full_fences(&mut self, full: bool) {
        self.full_fences = full;
    }

    /// The next message, if it is there. It stays until [`Receiver::consume`].
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<Record>, Broken> {
        let slot = self.lines.view().slot(self.head);
        let word = slot[0].load(Ordering::Acquire);
        if word == 0 {
            return Ok(None);
        }
        let (class, len) = ((word >> 48) as u8, word as u32 as usize);
        // In one slot, so that there is nothing to be looked after.
        if class != FILLER && len <= LONGEST_INSIDE {
            return Ok(Some(record(word, slot, self.head, 1)));
        }
        self.next_long(word).map(Some)
    }

    /// The same, of one in several slots or behind a filler, which begins with `word`.
    #[inline(never)]
    fn next_long(&mut self, mut word: u64) -> Result<Record, Broken> {
        let mask = self.lines.mask();
        let mut slot = self.lines.view().slot(self.head);
        let mut to_end = mask.wrapping_add(1).wrapping_sub(self.head & mask);
        if (word >> 48) as u8 == FILLER {
            // What follows a filler was there before it.
            self.head = self.head.wrapping_add(to_end);
            to_end = mask.wrapping_add(1);
            slot = self.lines.view().slot(self.head);
            word = slot[0].load(Ordering::Acquire);
            if word == 0 || (word >> 48) as u8 == FILLER {
                return Err(Broken("a filler without a message behind it"));
            }
        }
        let len = word as u32 as usize;
        if len > longest(&self.lines) {
            return Err(Broken("a message longer than any"));
        }
        let slots = slots_of(len) as u32;
        if slots > to_end {
            return Err(Broken("a message beyond the ring's end"));
        }
        Ok(record(word, slot, self.head, slots))
    }

    /// Copies payload out, from `offset` on: as many bytes as there are, at most as many as fit. The sender may be changing
    /// it meanwhile, if it means to deceive.
    #[inline]
    pub(crate) fn read(&self, record: &Record, offset: usize, bytes: &mut [u8]) -> usize {
        let count = record.len.saturating_sub(offset).min(bytes.len());
        let Some(bytes) = bytes.get_mut(..count) else { return 0 };
        if offset == 0 && record.len <= LONGEST_INSIDE {
            let [_, _, _, payload @ ..] = self.lines.view().slot(record.at);
            get(payload, bytes);
        } else {
            self.lines.read(record.at, payload_at(record.len).wrapping_add(offset.min(record.len)), bytes);
        }
        count
    }

    /// Copies all of the payload to shared memory, where there is room for it at `to`.
    pub(crate) fn read_mapped(&self, record: &Record, memory: &SharedMem, to: usize) {
        self.lines.copy_out(record.at, payload_at(record.len), memory, to, record.len);
    }

    /// Is done with the next message. `Sent::Ring` when the sender waits for the room that was given back.
    #[inline(always)]
    pub(crate) fn consume(&mut self, record: &Record) -> Sent {
        self.head = record.at.wrapping_add(record.slots);
        if self.head.wrapping_sub(self.given) < most_slots(self.lines.mask()) {
            return Sent::Quiet;
        }
        self.give_back()
    }

    #[inline(never)]
    fn give_back(&mut self) -> Sent {
        self.given = self.head;
        self.publish();
        self.wake_who_wants()
    }

    /// From now on no messages are wanted.
    pub(crate) fn shut(&mut self) {
        self.lines.view().gate().store(1, Ordering::Release);
    }

    /// From now on they are. `Sent::Ring` when the sender waits for that.
    pub(crate) fn open(&mut self) -> Sent {
        self.lines.view().gate().store(0, Ordering::Release);
        self.wake_who_wants()
    }

    fn wake_who_wants(&mut self) -> Sent {
        light_fence(self.full_fences);
        let wanting = self.lines.view().sender().load(Ordering::Acquire) as u32;
        if wanting & 1 == 0 || wanting == self.rung {
            return Sent::Quiet;
        }
        self.rung = wanting;
        Sent::Ring
    }

    fn publish(&self) {
        Given { back: self.given, state: self.state }.store(self.lines.view().receiver());
    }

    /// From now on the sender has to ring. To be followed by a heavy fence and a last look ([`Receiver::is_empty`]).
    pub(crate) fn go_cold(&mut self) {
        if !self.is_cold() {
            self.state = self.state.wrapping_add(1);
            self.publish();
        }
    }

    /// From now on the ring is looked at.
    pub(crate) fn go_hot(&mut self) {
        if self.is_cold() {
            self.state = self.state.wrapping_add(1);
            self.publish();
        }
    }

    /// Slots of the ring: the most messages that can be there.
    pub(crate) fn slots(&self) -> u32 {
        self.lines.mask() + 1
    }

    pub(crate) fn is_cold(&self) -> bool {
        self.state & 1 == 1
    }

    /// Whether no message is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.view().slot(self.head)[0].load(Ordering::Acquire) == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::segment::{Direction, create};
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn ring(bytes: u32) -> (Sender, Receiver, Lines) {
        let (_, memory) = create(bytes).unwrap();
        let lines = Lines::new(memory, Direction::Out);
        (Sender::new(lines.clone(), false), Receiver::new(lines.clone(), false), lines)
    }

    fn head(kind: u16) -> Head {
        Head { class: 1, kind, words: [u64::from(kind) << 20, !u64::from(kind)] }
    }

    fn take(receiver: &mut Receiver) -> Option<(Head, Vec<u8>)> {
        let record = receiver.next().unwrap()?;
        let mut payload = vec![0xee; record.len];
        assert_eq!(receiver.read(&record, 0, &mut payload), record.len);
        let _ = receiver.consume(&record);
        Some((record.head, payload))
    }

    #[derive(Debug, Clone)]
    enum Step {
        Send { len: usize, cut: usize, fill: u8 },
        Take,
        Cold,
        Hot,
    }

    fn step() -> impl Strategy<Value = Step> {
        let len = prop_oneof![0usize..100, 200usize..300, Just(960usize), 0usize..1000];
        prop_oneof![
            4 => (len, 0usize..1000, any::<u8>()).prop_map(|(len, cut, fill)| Step::Send { len, cut, fill }),
            4 => Just(Step::Take),
            1 => Just(Step::Cold),
            1 => Just(Step::Hot),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_queue(steps in proptest::collection::vec(step(), 1..400)) {
            let (mut sender, mut receiver, _) = ring(4096);
            let mut model: VecDeque<(Head, Vec<u8>)> = VecDeque::new();
            let (mut kind, mut rung) = (0, true);
            for step in steps {
                match step {
                    Step::Send { len, cut, fill } => {
                        kind += 1;
                        let payload: Vec<u8> = (0..len).map(|i| fill.wrapping_add(i as u8)).collect();
                        let (first, second) = payload.split_at(cut.min(len));
                        match sender.send(head(kind), &[first, second]) {
                            Ok(sent) => {
                                model.push_back((head(kind), payload));
                                // Rung for once each time it has gone cold.
                                prop_assert_eq!(sent == Sent::Ring, receiver.is_cold() && !rung);
                                rung |= sent == Sent::Ring;
                            }
                            Err(Unsent::Full) => prop_assert!(!model.is_empty()),
                            Err(other) => prop_assert!(len > 960 && other == Unsent::TooLong, "{:?}", other),
                        }
                    }
                    Step::Take => prop_assert_eq!(take(&mut receiver), model.pop_front()),
                    Step::Cold => {
                        rung &= receiver.is_cold();
                        receiver.go_cold();
                    }
                    Step::Hot => receiver.go_hot(),
                }
                prop_assert_eq!(receiver.is_empty(), model.is_empty());
            }
            while let Some(expected) = model.pop_front() {
                prop_assert_eq!(take(&mut receiver), Some(expected));
            }
            // Read out, it takes the longest message, wherever it stands.
            prop_assert!(sender.send(head(0), &[&[7; 960]]).is_ok());
        }

        /// Whatever a peer writes wherever it wants: reads stay in the ring, and nothing goes on for ever.
        #[test]
        fn a_hostile_sender_is_survived(
            scribbles in proptest::collection::vec((0u32..64, 0usize..8, prop_oneof![
                any::<u64>(),
                Just(header(FILLER, 0, 0)),
                (any::<u16>(), 0u32..1100).prop_map(|(kind, len)| header(1, kind, len)),
            ]), 0..200),
        ) {
            let (_, mut receiver, lines) = ring(4096);
            let mut payload = vec![0; 2000];
            for (slot, word, value) in scribbles {
                lines.view().slot(slot)[word].store(value, Ordering::Relaxed);
                if let Ok(Some(record)) = receiver.next() {
                    prop_assert!(record.len <= 960);
                    prop_assert_eq!(receiver.read(&record, 0, &mut payload), record.len);
                    prop_assert_eq!(receiver.read(&record, record.len, &mut payload), 0);
                    let _ = receiver.consume(&record);
                }
            }
        }

        #[test]
        fn a_hostile_receiver_is_survived(steps in proptest::collection::vec((any::<u64>(), 0usize..1000), 0..100)) {
            let (mut sender, _, lines) = ring(4096);
            for (word, len) in steps {
                lines.view().receiver().store(word, Ordering::Relaxed);
                let _ = sender.send(head(1), &[&vec![0; len]]);
            }
        }
    }

    #[test]
    fn a_sender_that_waits_is_rung_for_once() {
        let (mut sender, mut receiver, _) = ring(4096);
        while sender.send(head(1), &[]).is_ok() {}
        sender.want_room();
        assert!(!sender.has_got_room());
        let mut rings = 0;
        while let Some(record) = receiver.next().unwrap() {
            rings += usize::from(receiver.consume(&record) == Sent::Ring);
        }
        assert_eq!(rings, 1);
        assert!(sender.has_got_room());
        sender.stop_wanting();
        assert!(sender.send(head(1), &[&[0; 960]]).is_ok());
    }

    #[test]
    fn positions_go_round() {
        let (mut sender, mut receiver, lines) = ring(4096);
        let start = u32::MAX - 100;
        (sender.tail, sender.back, receiver.head, receiver.given) = (start, start, start, start);
        receiver.publish();
        for number in 0..200u16 {
            let payload = vec![number as u8; usize::from(number) * 4];
            assert!(sender.send(head(number), &[&payload]).is_ok(), "{number}");
            assert_eq!(take(&mut receiver), Some((head(number), payload)));
        }
        assert!(sender.tail < start && lines.mask() == 63);
    }

    #[test]
    fn lies_about_room_are_noticed() {
        let (mut sender, _, lines) = ring(4096);
        lines.view().receiver().store(5, Ordering::Relaxed);
        assert!(sender.send(head(1), &[]).is_ok());
        assert!(matches!(sender.send(head(1), &[]), Err(Unsent::Broken(_))));
    }

    #[test]
    fn a_short_message_is_one_cache_line() {
        assert_eq!((slots_of(0), slots_of(8), slots_of(40), slots_of(41)), (1, 1, 1, 2));
        assert_eq!((slots_of(64), slots_of(232), slots_of(233), slots_of(8192)), (2, 4, 5, 129));
        assert_eq!((payload_at(232), payload_at(233)), (24, 64));
    }
}
