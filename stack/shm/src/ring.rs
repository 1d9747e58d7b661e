//! A ring from one process to another, written by one and read by the other: slots of 64 bytes, and bytes.
//!
//! A message is one slot, and so one cache line if its payload is short; a payload that is a little longer goes on in the next slot,
//! which the processor fetches along with the one before. A longer one lies in the ring's bytes, aligned to a cache line, as a
//! whole: what doesn't fit in front of their end begins at their beginning. Where that is follows from the lengths of the messages
//! before; both ends keep count.
//!
//! A slot's first word says that a message is there: it is written last, and its highest bit tells this round of the ring
//! from the one before, in a slot that goes on with a payload as in any other. Nothing else of a slot is touched before, so that the
//! line on which the receiver waits is fetched by the sender once, and by the receiver once.
//!
//! The receiver gives slots and bytes back a quarter of the ring at a time, in words that the sender reads after each message
//! anyway, because one also says whether the receiver looks at this ring (*hot*) or has to be rung for (*cold*). No end trusts what
//! the other wrote: positions are this process's own, and what is read is checked once and then used.

use crate::large::Piece;
use crate::segment::Lines;
use crate::sync::{AtomicU64, Ordering, light_fence};
use opx_bus::SharedMem;

/// Bytes of a slot: a cache line.
pub(crate) const SLOT: usize = 64;
/// A payload in the slot begins after the header and the caller's words.
const BEHIND_WORDS: usize = 24;
/// The longest payload that lies there.
const LONGEST_INSIDE: usize = SLOT - BEHIND_WORDS;
/// The longest payload that lies there and in the next slot, whose first word is that slot's own.
const LONGEST_IN_SLOTS: usize = LONGEST_INSIDE + SLOT - 8;
/// The longest payload of all, if a quarter of the ring isn't less. What is longer goes faster as offered memory.
const LONGEST: usize = 16 << 10;

/// A payload longer than this is written in such pieces: the receiver fetches one while the next is written.
const CHUNK: usize = 2048;
/// The class of a message that isn't there as a whole. Its kind says how many cache lines of the payload are.
const ARRIVING: u8 = 0x7f;

/// So far ahead slots are fetched while messages lie one behind the other.
const AHEAD: u32 = 8;

/// What a message begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// What kind of record it is, less than 127.
    pub(crate) class: u8,
    pub(crate) kind: u16,
    pub(crate) words: [u64; 2],
}

/// The bit that tells rounds of the ring apart.
const ROUND: u64 = 1 << 63;

/// What that bit is in a slot that is written at a position: set in the first round, as memory is zeros at the beginning.
#[inline(always)]
fn round_of(position: u32, mask: u32) -> u64 {
    if position & mask.wrapping_add(1) == 0 { ROUND } else { 0 }
}

/// Whether a slot's first word is of the round in which a position is.
#[inline(always)]
fn is_there(word: u64, position: u32, mask: u32) -> bool {
    (word & ROUND != 0) == (position & mask.wrapping_add(1) == 0)
}

/// The first word but for that bit: class, kind, length.
#[inline(always)]
fn header(class: u8, kind: u16, len: u32) -> u64 {
    u64::from(class & 0x7f) << 48 | u64::from(kind) << 32 | u64::from(len)
}

/// A run of the ring's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    begin: u32,
    /// Where the next run may begin.
    end: u32,
}

impl Run {
    /// Where so many bytes lie, [`longest`] at most, if the run before has ended at `position`.
    #[inline(always)]
    fn new(position: u32, len: usize, mask: u32) -> Self {
        // Whole cache lines.
        let len = (len as u32).wrapping_add(SLOT as u32 - 1) & !(SLOT as u32 - 1);
        let to_end = mask.wrapping_add(1).wrapping_sub(position & mask);
        let begin = if len > to_end { position.wrapping_add(to_end) } else { position };
        Self { begin, end: begin.wrapping_add(len) }
    }
}

/// Writes what fits into these words of a slot.
#[inline(always)]
fn put<const N: usize>(slot: &[AtomicU64; N], bytes: &[u8]) {
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

/// Reads the beginning of what is in them.
#[inline(always)]
fn get<const N: usize>(slot: &[AtomicU64; N], bytes: &mut [u8]) {
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

/// What is given back at once, of slots or of bytes.
#[inline(always)]
fn quarter(mask: u32) -> u32 {
    mask.wrapping_add(1) / 4
}

/// Bytes of the longest payload. With what is left free in front of the end, it still finds room once the receiver has read
/// all, although that may not have given back its last quarter.
#[inline(always)]
fn longest(lines: &Lines) -> usize {
    LONGEST.min(quarter(lines.bytes_mask()) as usize)
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
    /// The same of bytes.
    bytes_tail: u32,
    bytes_back: u32,
    /// Bytes of the longest payload.
    longest: usize,
    /// The cold state that was rung for last.
    rung: u32,
    /// What it wrote into its own word: odd while it waits for room.
    wanting: u32,
    /// The receiver wanted no messages when that was looked at last.
    shut: bool,
    /// The ends can't count on `barrier`.
    full_fences: bool,
}

/// Whether another `more` go into a ring. `tail` were written, `back` of them given back.
#[inline(always)]
fn has_room(tail: u32, back: u32, mask: u32, more: u32) -> Result<bool, Unsent> {
    let free = mask.wrapping_add(1).checked_sub(tail.wrapping_sub(back));
    free.map(|free| free >= more).ok_or(Unsent::Broken(Broken("it gave back what it never got of the ring")))
}

impl Sender {
    pub(crate) fn new(lines: Lines, full_fences: bool) -> Self {
        let (tail, back, bytes_tail, bytes_back) = (0, 0, 0, 0);
        let longest = longest(&lines);
        Self { lines, tail, back, bytes_tail, bytes_back, longest, rung: 0, wanting: 0, shut: false, full_fences }
    }

    /// From now on the other end takes part in the kernel's fences, or it doesn't.
    pub(crate) fn set_full_fences(&mut self, full: bool) {
        self.full_fences = full;
    }

    /// Bytes of the longest payload.
    #[inline]
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// Writes a message whose payload is these parts one after the other.
    #[inline(always)]
    pub(crate) fn send(&mut self, head: Head, parts: &[&[u8]]) -> Result<Sent, Unsent> {
        let len = match parts {
            [part] => part.len(),
            parts => parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len())),
        };
        // Twice the same but for a constant: a variable takes ten instructions more.
        if len <= LONGEST_INSIDE {
            self.make_room(1)?;
            self.put_parts(parts);
            return Ok(self.publish(head, len, 1));
        }
        if len <= LONGEST_IN_SLOTS {
            self.make_room(2)?;
            self.put_parts(parts);
            return Ok(self.publish(head, len, 2));
        }
        let run = self.make_room_for(len)?;
        match parts {
            [part] if len > CHUNK => self.write_long(self.lines.byte(run.begin), part),
            parts => self.write(self.lines.byte(run.begin), parts),
        }
        self.bytes_tail = run.end;
        Ok(self.publish(head, len, 1))
    }

    /// Writes a payload that lies in slots.
    #[inline(always)]
    fn put(&self, payload: &[u8]) {
        let view = self.lines.view();
        let [_, _, _, words @ ..] = view.slot(self.tail);
        match payload.split_first_chunk::<LONGEST_INSIDE>() {
            Some((first, rest)) if !rest.is_empty() => {
                // The slot that is waited for comes last.
                let next = self.tail.wrapping_add(1);
                let [round, words_behind @ ..] = view.slot(next);
                round.store(round_of(next, self.lines.mask()), Ordering::Relaxed);
                put(words_behind, rest);
                put(words, first);
            }
            _ => put(words, payload),
        }
    }

    #[inline(always)]
    fn put_parts(&self, parts: &[&[u8]]) {
        match parts {
            [part] => self.put(part),
            parts => self.put_gathered(parts),
        }
    }

    #[inline(never)]
    fn put_gathered(&self, parts: &[&[u8]]) {
        let mut payload = [0; LONGEST_IN_SLOTS];
        let mut free = &mut payload[..];
        for part in parts {
            let Some((place, rest)) = free.split_at_mut_checked(part.len()) else { return };
            place.copy_from_slice(part);
            free = rest;
        }
        let left = free.len();
        self.put(&payload[..LONGEST_IN_SLOTS - left]);
    }

    /// Writes a long payload, and says in between how much of it is there.
    fn write_long(&self, at: usize, payload: &[u8]) {
        let first = &self.lines.view().slot(self.tail)[0];
        let round = round_of(self.tail, self.lines.mask());
        let mut done = 0;
        for chunk in payload.chunks(CHUNK) {
            if done != 0 {
                let word = header(ARRIVING, (done / SLOT) as u16, payload.len() as u32);
                first.store(word | round, Ordering::Release);
            }
            self.lines.write(at.wrapping_add(done), chunk);
            done = done.wrapping_add(chunk.len());
        }
    }

    fn write(&self, mut at: usize, parts: &[&[u8]]) {
        for part in parts {
            self.lines.write(at, part);
            at = at.wrapping_add(part.len());
        }
    }

    /// Writes a message whose payload is a piece of offered memory.
    pub(crate) fn send_piece(&mut self, head: Head, piece: Piece<'_>) -> Result<Sent, Unsent> {
        let (memory, from, len) = match piece {
            Piece::Bytes(bytes) => return self.send(head, &[bytes]),
            Piece::Mapped(memory, from, len) => (memory, from, len),
        };
        let mut payload = [0; LONGEST_IN_SLOTS];
        if let Some(payload) = payload.get_mut(..len) {
            memory.read(from, payload);
            return self.send(head, &[payload]);
        }
        let run = self.make_room_for(len)?;
        self.bytes_tail = run.end;
        self.lines.copy_in(self.lines.byte(run.begin), memory, from, len);
        Ok(self.publish(head, len, 1))
    }

    /// Says that the message in the next so many slots is there.
    #[inline(always)]
    fn publish(&mut self, head: Head, len: usize, slots: u32) -> Sent {
        let lines = self.lines.view();
        let [first, one, two, ..] = lines.slot(self.tail);
        one.store(head.words[0], Ordering::Relaxed);
        two.store(head.words[1], Ordering::Relaxed);
        let word = header(head.class, head.kind, len as u32) | round_of(self.tail, self.lines.mask());
        first.store(word, Ordering::Release);
        self.tail = self.tail.wrapping_add(slots);
        light_fence(self.full_fences);
        let given = Given::load(lines.receiver());
        self.back = given.back;
        if given.state & 1 == 0 || given.state == self.rung {
            return Sent::Quiet;
        }
        self.rung = given.state;
        Sent::Ring
    }

    /// Sees to it that there are so many slots.
    #[inline(always)]
    fn make_room(&mut self, slots: u32) -> Result<(), Unsent> {
        let has_room = |this: &Self| has_room(this.tail, this.back, this.lines.mask(), slots);
        if has_room(self)? {
            return Ok(());
        }
        self.look_for_room();
        if has_room(self)? { Ok(()) } else { Err(Unsent::Full) }
    }

    /// Sees to it that there are a slot and so many bytes; tells where.
    #[inline(always)]
    fn make_room_for(&mut self, len: usize) -> Result<Run, Unsent> {
        if len > self.longest {
            return Err(Unsent::TooLong);
        }
        self.make_room(1)?;
        let mask = self.lines.bytes_mask();
        let run = Run::new(self.bytes_tail, len, mask);
        let more = run.end.wrapping_sub(self.bytes_tail);
        if !has_room(self.bytes_tail, self.bytes_back, mask, more)? {
            self.look_for_room();
            if !has_room(self.bytes_tail, self.bytes_back, mask, more)? {
                return Err(Unsent::Full);
            }
        }
        Ok(run)
    }

    /// Whether there is room for a message of so many bytes.
    pub(crate) fn check_room(&mut self, len: usize) -> Result<(), Unsent> {
        if len <= LONGEST_IN_SLOTS {
            self.make_room(1 + u32::from(len > LONGEST_INSIDE))
        } else {
            self.make_room_for(len).map(drop)
        }
    }

    #[inline(never)]
    fn look_for_room(&mut self) {
        let view = self.lines.view();
        self.back = Given::load(view.receiver()).back;
        self.bytes_back = view.bytes_back().load(Ordering::Relaxed) as u32;
    }

    /// Whether the receiver wants messages at present.
    #[inline(always)]
    pub(crate) fn is_wanted(&mut self) -> bool {
        self.shut = self.lines.view().gate().load(Ordering::Acquire) != 0;
        !self.shut
    }

    /// Asks to be rung for when room is given back, or messages are wanted again. To be followed by a heavy fence, and that by
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

    /// Whether room was given back since the last message was tried, or messages are wanted again. Bytes are never given back
    /// without slots.
    pub(crate) fn has_got_room(&self) -> bool {
        let opened = self.shut && self.lines.view().gate().load(Ordering::Acquire) == 0;
        opened || Given::load(self.lines.view().receiver()).back != self.back
    }
}

/// A message that is there: what was read of it, and where its payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) head: Head,
    /// Bytes of payload.
    pub(crate) len: usize,
    /// How many slots it takes.
    slots: u32,
    /// Where in the ring's bytes they are, unless they are in slots.
    run: Run,
}

impl Record {
    /// Bytes that it has in the ring, as far as these are to be counted.
    pub(crate) fn room(&self) -> usize {
        self.len.saturating_add(SLOT)
    }
}

/// The end that reads.
#[derive(Debug)]
pub(crate) struct Receiver {
    lines: Lines,
    /// Slots read, and of these given back.
    head: u32,
    given: u32,
    /// The same of bytes.
    bytes_head: u32,
    bytes_given: u32,
    /// Bytes of the longest payload.
    longest: usize,
    /// Cache lines of the next message's payload that have been fetched before it was there as a whole.
    fetched: u16,
    /// Odd when the sender has to ring.
    state: u32,
    /// What the sender's word held when it was last rung for.
    rung: u32,
    full_fences: bool,
}

impl Receiver {
    pub(crate) fn new(lines: Lines, full_fences: bool) -> Self {
        let (head, given, bytes_head, bytes_given) = (0, 0, 0, 0);
        let longest = longest(&lines);
        Self { lines, head, given, bytes_head, bytes_given, longest, fetched: 0, state: 0, rung: 0, full_fences }
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
        if !is_there(word, self.head, self.lines.mask()) {
            return Ok(None);
        }
        let words = [slot[1].load(Ordering::Relaxed), slot[2].load(Ordering::Relaxed)];
        let head = Head { class: (word >> 48) as u8 & 0x7f, kind: (word >> 32) as u16, words };
        let len = word as u32 as usize;
        let mut slots = 1;
        if len > LONGEST_INSIDE {
            if len > LONGEST_IN_SLOTS {
                return self.next_long(head, len);
            }
            slots = 2;
            self.lines.prefetch_slot(self.head.wrapping_add(1));
        }
        Ok(Some(Record { head, len, slots, run: Run { begin: self.bytes_head, end: self.bytes_head } }))
    }

    /// The same, if its payload doesn't lie in slots.
    #[inline(never)]
    fn next_long(&mut self, head: Head, len: usize) -> Result<Option<Record>, Broken> {
        if len > self.longest {
            return Err(Broken("a message longer than any"));
        }
        if head.class == ARRIVING {
            self.fetch(len, head.kind);
            return Ok(None);
        }
        let run = Run::new(self.bytes_head, len, self.lines.bytes_mask());
        // It comes while somebody looks for who wants it.
        self.lines.prefetch(self.lines.byte(run.begin));
        Ok(Some(Record { head, len, slots: 1, run }))
    }

    /// Whether [`Receiver::next`] would find something, if not the whole of it.
    #[inline(always)]
    pub(crate) fn has_more(&self) -> bool {
        is_there(self.lines.view().slot(self.head)[0].load(Ordering::Relaxed), self.head, self.lines.mask())
    }

    /// Has the processor fetch the slot that comes a few messages later.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        self.lines.prefetch_slot(self.head.wrapping_add(AHEAD));
    }

    /// Fetches what is there of the next message, which has `len` bytes.
    fn fetch(&mut self, len: usize, there: u16) {
        let run = Run::new(self.bytes_head, len, self.lines.bytes_mask());
        let there = there.min((len / SLOT) as u16);
        for line in self.fetched..there {
            self.lines.prefetch(self.lines.byte(run.begin).wrapping_add(usize::from(line) * SLOT));
        }
        self.fetched = self.fetched.max(there);
    }

    /// Reads the beginning of a payload that lies in slots.
    #[inline(always)]
    fn get(&self, bytes: &mut [u8]) {
        let view = self.lines.view();
        let [_, _, _, words @ ..] = view.slot(self.head);
        match bytes.split_first_chunk_mut::<LONGEST_INSIDE>() {
            Some((first, rest)) if !rest.is_empty() => {
                let [_, words_behind @ ..] = view.slot(self.head.wrapping_add(1));
                get(words, first);
                get(words_behind, rest);
            }
            _ => get(words, bytes),
        }
    }

    /// Copies payload out of the next message, from `offset` on: as many bytes as there are, at most as many as fit. The sender may
    /// be changing it meanwhile, if it means to deceive.
    #[inline]
    pub(crate) fn read(&self, record: &Record, offset: usize, bytes: &mut [u8]) -> usize {
        let count = record.len.saturating_sub(offset).min(bytes.len());
        let Some(bytes) = bytes.get_mut(..count) else { return 0 };
        if record.len > LONGEST_IN_SLOTS {
            self.lines.read(self.lines.byte(record.run.begin).wrapping_add(offset.min(record.len)), bytes);
        } else if offset == 0 {
            self.get(bytes);
        } else if !bytes.is_empty() {
            let mut payload = [0; LONGEST_IN_SLOTS];
            self.get(&mut payload);
            bytes.copy_from_slice(&payload[offset..offset + count]);
        }
        count
    }

    /// Copies all of the payload to shared memory, where there is room for it at `to`.
    pub(crate) fn read_mapped(&self, record: &Record, memory: &SharedMem, to: usize) {
        let mut payload = [0; LONGEST_IN_SLOTS];
        if let Some(payload) = payload.get_mut(..record.len) {
            self.get(payload);
            memory.write(to, payload);
        } else {
            self.lines.copy_out(self.lines.byte(record.run.begin), memory, to, record.len);
        }
    }

    /// Is done with the next message. `Sent::Ring` when the sender waits for the room that was given back.
    #[inline(always)]
    pub(crate) fn consume(&mut self, record: &Record) -> Sent {
        self.head = self.head.wrapping_add(record.slots);
        (self.bytes_head, self.fetched) = (record.run.end, 0);
        let (slots, bytes) = (self.head.wrapping_sub(self.given), self.bytes_head.wrapping_sub(self.bytes_given));
        if slots < quarter(self.lines.mask()) && bytes < quarter(self.lines.bytes_mask()) {
            return Sent::Quiet;
        }
        self.give_back()
    }

    #[inline(never)]
    fn give_back(&mut self) -> Sent {
        (self.given, self.bytes_given) = (self.head, self.bytes_head);
        // Seen with the word that is published.
        self.lines.view().bytes_back().store(self.bytes_given.into(), Ordering::Relaxed);
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

    /// Bytes of the ring, as [`Record::room`] counts them.
    pub(crate) fn room(&self) -> usize {
        let (slots, bytes) = (self.lines.mask() as usize, self.lines.bytes_mask() as usize);
        (slots + 1) * SLOT + bytes + 1
    }

    pub(crate) fn is_cold(&self) -> bool {
        self.state & 1 == 1
    }

    /// Whether no message is there.
    pub(crate) fn is_empty(&self) -> bool {
        let word = self.lines.view().slot(self.head)[0].load(Ordering::Acquire);
        !is_there(word, self.head, self.lines.mask()) || (word >> 48) as u8 & 0x7f == ARRIVING
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
        // In pieces it is the same.
        let middle = record.len / 3;
        let mut piece = vec![0xee; record.len];
        assert_eq!(receiver.read(&record, middle, &mut piece), record.len - middle);
        assert_eq!(piece[..record.len - middle], payload[middle..]);
        let _ = receiver.consume(&record);
        assert_eq!(receiver.has_more(), !receiver.is_empty());
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
        let len = prop_oneof![0usize..100, 200usize..300, Just(1024usize), 0usize..1100];
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
                            Err(other) => prop_assert!(len > 1024 && other == Unsent::TooLong, "{:?}", other),
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
            prop_assert!(sender.send(head(0), &[&[7; 1024]]).is_ok());
        }

        /// Whatever a peer writes wherever it wants: reads stay in the ring, and nothing goes on for ever.
        #[test]
        fn a_hostile_sender_is_survived(
            scribbles in proptest::collection::vec((0u32..16, 0usize..8, prop_oneof![
                any::<u64>(),
                (any::<u16>(), 0u32..1100, any::<bool>())
                    .prop_map(|(kind, len, round)| header(1, kind, len) | u64::from(round) << 63),
            ]), 0..200),
        ) {
            let (_, mut receiver, lines) = ring(4096);
            let mut payload = vec![0; 2000];
            for (slot, word, value) in scribbles {
                lines.view().slot(slot)[word].store(value, Ordering::Relaxed);
                if let Ok(Some(record)) = receiver.next() {
                    prop_assert!(record.len <= 1024);
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
        assert!(sender.send(head(1), &[&[0; 1024]]).is_ok());
    }

    #[test]
    fn positions_go_round() {
        let (mut sender, mut receiver, lines) = ring(4096);
        let start = u32::MAX - 100;
        (sender.tail, sender.back, receiver.head, receiver.given) = (start, start, start, start);
        let start = u32::MAX - 1023;
        (sender.bytes_tail, sender.bytes_back, receiver.bytes_head, receiver.bytes_given) =
            (start, start, start, start);
        assert_eq!(receiver.give_back(), Sent::Quiet);
        for number in 0..200u16 {
            let payload = vec![number as u8; usize::from(number) * 4];
            assert!(sender.send(head(number), &[&payload]).is_ok(), "{number}");
            assert_eq!(take(&mut receiver), Some((head(number), payload)));
        }
        assert!(sender.tail < start && sender.bytes_tail < start && lines.mask() == 15);
    }

    #[test]
    fn lies_about_room_are_noticed() {
        let (mut sender, _, lines) = ring(4096);
        lines.view().receiver().store(5, Ordering::Relaxed);
        assert!(sender.send(head(1), &[]).is_ok());
        assert!(matches!(sender.send(head(1), &[]), Err(Unsent::Broken(_))));

        let (mut sender, _, lines) = ring(4096);
        while sender.send(head(1), &[&[0; 1024]]).is_ok() {}
        lines.view().receiver().store(4, Ordering::Relaxed);
        lines.view().bytes_back().store(4096 + 64, Ordering::Relaxed);
        assert!(matches!(sender.send(head(1), &[&[0; 1024]]), Err(Unsent::Broken(_))));
    }

    /// Whatever is where a payload goes on, the slot behind it holds no message, in any round.
    #[test]
    fn a_payload_goes_on_in_the_next_slot() {
        let (mut sender, mut receiver, _) = ring(4096);
        for number in 0..200u16 {
            let len = usize::from(number) % 100;
            let payload: Vec<u8> = (0..len).map(|at| number as u8 ^ !(at as u8)).collect();
            let before = (sender.tail, sender.bytes_tail);
            assert!(sender.send(head(number), &[&payload]).is_ok());
            let after = (sender.tail.wrapping_sub(before.0), sender.bytes_tail.wrapping_sub(before.1));
            assert_eq!(
                after,
                if len <= 40 {
                    (1, 0)
                } else if len <= 96 {
                    (2, 0)
                } else {
                    (1, 128)
                }
            );
            assert_eq!(take(&mut receiver), Some((head(number), payload)));
            assert!(receiver.next() == Ok(None) && receiver.is_empty());
        }
    }

    #[test]
    fn what_doesnt_fit_before_the_end_begins_at_the_beginning() {
        let run = |position, len| Run::new(position, len, 4095);
        assert_eq!(run(0, 41), Run { begin: 0, end: 64 });
        assert_eq!(run(64, 1024), Run { begin: 64, end: 1088 });
        assert_eq!(run(3072, 1024), Run { begin: 3072, end: 4096 });
        assert_eq!(run(3136, 1000), Run { begin: 4096, end: 5120 });
        assert_eq!(run(u32::MAX - 63, 65), Run { begin: 0, end: 128 });
    }

    /// Each round of the ring, whatever the slots held before.
    #[test]
    fn a_slot_of_the_round_before_holds_no_message() {
        let (mut sender, mut receiver, _) = ring(4096);
        for number in 0..100 {
            assert_eq!(receiver.next(), Ok(None));
            assert!(receiver.is_empty());
            assert!(sender.send(head(number), &[]).is_ok());
            assert!(!receiver.is_empty());
            assert_eq!(take(&mut receiver), Some((head(number), vec![])));
        }
    }
}
