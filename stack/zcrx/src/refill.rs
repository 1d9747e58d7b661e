//! The refill ring: how buffers that were handed out get back to the kernel.
//!
//! The kernel takes returned buffers from a ring in shared memory. Its entries may be written by one thread at a time. Most
//! programs return buffers on the thread that received them, so that thread may take the *seat*: while it sits there, it
//! writes without a lock, and whoever else returns a buffer leaves it in the overflow list, under the lock. It gets up
//! before it blocks, and for good when the pool is shared with other rings; while nobody sits, everybody writes under the
//! lock. What finds no room in the ring goes to the overflow list too, and follows with later returns.

use crate::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering};
use std::collections::VecDeque;
use std::sync::PoisonError;

/// The words that are shared with the kernel.
pub(crate) trait Words {
    /// How many entries the kernel has taken, with acquire ordering: the entries before it may be written again.
    fn head(&self) -> u32;
    /// How many entries were published when the ring was made.
    fn start(&self) -> u32;
    /// Writes entry number `at`, modulo the number of entries.
    fn put(&self, at: u64, entry: u64);
    /// Publishes all entries before `tail`, with release ordering.
    fn publish(&self, tail: u32);
}

/// Nobody has the seat.
const NOBODY: usize = usize::MAX;

/// What whoever returned a buffer has to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing.
    Nothing,
    /// Have the kernel take what is in the ring: it is full, or this kernel takes nothing by itself.
    Flush,
}

/// The refill ring.
#[derive(Debug)]
pub(crate) struct Refill<W> {
    /// The mark of the thread that may write without the lock, or [`NOBODY`]. Only changed under the lock, and to or from
    /// a thread's mark only by that thread.
    writer: AtomicUsize,
    /// Entries published; the kernel sees the lower half. Written by the writer, or under the lock while there is none.
    tail: AtomicU64,
    /// Up to here the writer needs to look at nothing else. Written under the lock.
    limit: AtomicU64,
    words: W,
    /// Entries of the ring: a power of two.
    entries: u32,
    /// So many entries in the ring call for a flush.
    watermark: u32,
    /// Who may still touch this: one for its being open, one for each thread that returns a buffer the slow way, and after
    /// the end one for each buffer that is still out. Who takes away the last one frees.
    users: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// Entries that wait for room, oldest first.
    overflow: VecDeque<u64>,
    /// The tail at the start.
    start: u64,
    /// Buffers handed out, as told by the rings that did.
    dispensed: u64,
    shared: bool,
    closed: bool,
}

/// How the ring stands, for tests and statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RefillState {
    /// Entries that the kernel hasn't taken yet.
    pub used: u32,
    /// Room for more.
    pub free: u32,
    /// Returned buffers that wait for room.
    pub overflow: usize,
    /// Buffers returned so far.
    pub returned: u64,
}

impl<W: Words> Refill<W> {
    /// A ring of `entries` entries, a power of two. At `watermark` used entries a flush is asked for.
    pub(crate) fn new(words: W, entries: u32, watermark: u32, expected: usize) -> Self {
        let start = u64::from(words.start());
        let waiting =
            Waiting { overflow: VecDeque::with_capacity(expected), start, dispensed: 0, shared: false, closed: false };
        Self {
            writer: AtomicUsize::new(NOBODY),
            tail: AtomicU64::new(start),
            limit: AtomicU64::new(0),
            words,
            entries,
            watermark: watermark.clamp(1, entries),
            users: AtomicU64::new(1),
            waiting: Mutex::new(waiting),
        }
    }

    /// Returns a buffer from the thread that has the seat, unless something else has to be done. False when it didn't: then
    /// it is to be done slowly.
    #[inline]
    pub(crate) fn give_back_at_once(&self, entry: u64) -> bool {
        let tail = self.tail.load(Ordering::Relaxed);
        let room = tail < self.limit.load(Ordering::Relaxed);
        if room {
            self.words.put(tail, entry);
            self.tail.store(tail + 1, Ordering::Relaxed);
            self.words.publish((tail + 1) as u32);
        }
        room
    }

    /// Returns a buffer from the thread with mark `me`, whoever has the seat. `then` is called with what is to be done now.
    /// True when this was the last buffer of a closed ring, which nobody uses any more.
    pub(crate) fn give_back_slowly(&self, entry: u64, me: usize, then: impl FnOnce(After)) -> bool {
        // Relaxed: the caller's buffer, which is still out, keeps this alive up to here.
        self.users.fetch_add(1, Ordering::Relaxed);
        let after = {
            let mut waiting = self.lock();
            if waiting.closed {
                None
            } else if self.may_write(me) {
                Some(self.write(&mut waiting, Some(entry)))
            } else {
                waiting.overflow.push_back(entry);
                // The writer is to look here before it goes on.
                self.limit.store(0, Ordering::Relaxed);
                Some(After::Nothing)
            }
        };
        match after {
            Some(after) => {
                then(after);
                self.leave(1)
            }
            // The buffer was one of the users.
            None => self.leave(2),
        }
    }

    /// Takes the seat for the thread with mark `me`: false when it can't be had, since another has it or the pool is shared.
    pub(crate) fn sit(&self, me: usize) -> bool {
        let mut waiting = self.lock();
        let sits = !waiting.shared && !waiting.closed && self.may_write(me);
        if sits {
            self.writer.store(me, Ordering::Relaxed);
            self.write(&mut waiting, None);
        }
        sits
    }

    /// Leaves the seat, if the thread with mark `me` has it.
    pub(crate) fn get_up(&self, me: usize) {
        let mut waiting = self.lock();
        if self.writer.load(Ordering::Relaxed) == me {
            self.write(&mut waiting, None);
            self.writer.store(NOBODY, Ordering::Relaxed);
        }
    }

    /// From now on nobody sits down. Who has the seat keeps it until it gets up.
    pub(crate) fn share(&self) {
        self.lock().shared = true;
    }

    /// Writes what waits in the overflow list, as far as there is room: after the kernel took entries. Without effect when
    /// another thread has the seat.
    pub(crate) fn catch_up(&self, me: usize) -> After {
        let mut waiting = self.lock();
        if waiting.closed || !self.may_write(me) { After::Nothing } else { self.write(&mut waiting, None) }
    }

    /// Tells of buffers that were handed out.
    pub(crate) fn dispensed(&self, count: u64) {
        self.lock().dispensed += count;
    }

    /// No more buffers are handed out, and nobody has the seat. True when none is out: then the caller frees.
    pub(crate) fn close(&self) -> bool {
        {
            let mut waiting = self.lock();
            let returned = self.returned(&waiting);
            waiting.closed = true;
            self.users.fetch_add(waiting.dispensed.saturating_sub(returned), Ordering::Relaxed);
        }
        self.leave(1)
    }

    /// How the ring stands. What the writer does meanwhile may be in it or not.
    pub(crate) fn state(&self) -> RefillState {
        let waiting = self.lock();
        let used = self.used();
        RefillState {
            used,
            free: self.entries - used,
            overflow: waiting.overflow.len(),
            returned: self.returned(&waiting),
        }
    }

    fn may_write(&self, me: usize) -> bool {
        let writer = self.writer.load(Ordering::Relaxed);
        writer == NOBODY || writer == me
    }

    /// Writes a returned buffer, and then those that wait, as far as there is room. The caller is the writer, or there is none.
    fn write(&self, waiting: &mut Waiting, entry: Option<u64>) -> After {
        let before = self.tail.load(Ordering::Relaxed);
        let (mut tail, mut room) = (before, self.entries - self.used());
        let mut put = |entry| {
            self.words.put(tail, entry);
            tail += 1;
        };
        if let Some(entry) = entry {
            if room > 0 {
                put(entry);
                room -= 1;
            } else {
                waiting.overflow.push_back(entry);
            }
        }
        for _ in 0..room {
            let Some(entry) = waiting.overflow.pop_front() else { break };
            put(entry);
        }
        if tail != before {
            self.tail.store(tail, Ordering::Relaxed);
            self.words.publish(tail as u32);
        }
        let used = self.used();
        let more = self.watermark.saturating_sub(used);
        self.limit.store(if waiting.overflow.is_empty() { tail + u64::from(more) } else { 0 }, Ordering::Relaxed);
        if used >= self.watermark { After::Flush } else { After::Nothing }
    }

    /// Entries that the kernel hasn't taken. A head that makes no sense counts as a full ring: nothing is written over.
    fn used(&self) -> u32 {
        let tail = self.tail.load(Ordering::Relaxed) as u32;
        tail.wrapping_sub(self.words.head()).min(self.entries)
    }

    fn returned(&self, waiting: &Waiting) -> u64 {
        self.tail.load(Ordering::Relaxed) - waiting.start + waiting.overflow.len() as u64
    }

    /// Takes away users; true when they were the last. Nothing here is touched afterwards by who got false.
    fn leave(&self, users: u64) -> bool {
        self.users.fetch_sub(users, Ordering::AcqRel) == users
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// The path is for the models, which have this file in another place.
#[cfg(all(test, not(loom)))]
#[path = "refill/tests.rs"]
mod tests;
