//! One queue for several threads: each submits through a bounded lane of its own, the queue's owner takes from them in turn.
//!
//! The owner alone touches the ring. Between it and a submitter stand two bounded queues without locks, one each way. A
//! submitter has at most its share of packets underway, so neither queue ever overflows, and nobody can keep the others out.
//! A submitter that has nothing else to do sleeps until one of its packets is done; only then is there a lock.

use crate::bell::Bell;
use crate::fragment::Fragment;
use crate::packet::Packet;
use crate::queue::{Outcome, SdmaQueue};
use crate::sync::{Arc, ArrayQueue, AtomicBool, Ordering};
use opx_bus::PciFunction;
use std::time::Duration;

/// Most fragments of a packet that goes through a lane.
const FRAGMENTS: usize = 8;

/// A packet that can be handed to another thread: 1 to 8 fragments.
#[derive(Debug, Clone, Copy)]
pub struct SharedPacket {
    fragments: [Fragment; FRAGMENTS],
    count: u8,
    interrupt: bool,
}

/// Why fragments aren't a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAPacket(&'static str);

impl SharedPacket {
    /// A packet of these fragments: PBC, header and payload.
    ///
    /// # Errors
    /// When they aren't a packet, or more than 8.
    pub fn new(fragments: &[Fragment]) -> Result<Self, NotAPacket> {
        if let Some(why) = Packet::new(fragments).problem(|_| None) {
            return Err(NotAPacket(why));
        }
        let mut held = [Fragment::raw(opx_defs::units::Iova(0), 0); FRAGMENTS];
        let Some(places) = held.get_mut(..fragments.len()) else {
            return Err(NotAPacket("a packet for a shared queue has 1 to 8 fragments"));
        };
        places.copy_from_slice(fragments);
        Ok(Self { fragments: held, count: fragments.len() as u8, interrupt: false })
    }

    /// The same; see [`Packet::interrupt`].
    #[must_use]
    pub fn interrupt(self) -> Self {
        Self { interrupt: true, ..self }
    }

    fn packet(&self) -> Packet<'_> {
        let packet = Packet::new(self.fragments.get(..usize::from(self.count)).unwrap_or_default());
        if self.interrupt { packet.interrupt() } else { packet }
    }
}

/// The two ways between a submitter and the owner.
#[derive(Debug)]
struct Lane<T> {
    out: ArrayQueue<(SharedPacket, T)>,
    back: ArrayQueue<(T, Outcome)>,
    /// Rung when something came back, and when nothing will any more.
    bell: Bell,
    /// The owner has gone.
    closed: AtomicBool,
}

impl<T> Lane<T> {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// Why a submitter's packet wasn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The submitter has its share underway.
    #[error("{share} packets are underway, which is this submitter's share; take back those that are done first")]
    ShareUsed {
        /// The share.
        share: usize,
    },
    /// The queue is gone.
    #[error("the shared queue is gone; make a new one")]
    Closed,
}

/// Why a submitter waited in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotDone {
    /// Nothing is underway.
    #[error("no packet of this submitter is underway, so that none will be done; submit one first")]
    Nothing,
    /// No packet was done in time.
    #[error(
        "no packet was done within {limit:?}; see that the queue's owner calls SharedQueue::pump, and restarts the queue when it doesn't go on"
    )]
    Late {
        /// The limit.
        limit: Duration,
    },
    /// The queue is gone.
    #[error("the shared queue is gone, and with it what the engine had; withdraw the rest and make a new one")]
    Closed,
}

/// A thread's way into a [`SharedQueue`].
///
/// The engine reads a packet's memory until its token comes back, so the memory has to live until then. A token may own it:
/// one that isn't taken back is dropped by the queue's owner, after the engine is done with the packet.
///
/// Dropping a submitter discards what the owner hasn't taken. Who frees memory that no token owns calls
/// [`Submitter::withdraw`] first, then [`Submitter::poll`] until nothing is underway.
#[derive(Debug)]
pub struct Submitter<T> {
    lane: Arc<Lane<T>>,
    /// Packets that were handed over and haven't been taken back.
    underway: usize,
}

impl<T> Submitter<T> {
    /// Hands a packet to the queue's owner.
    ///
    /// # Errors
    /// See [`SubmitError`]; the token is given back with it.
    pub fn submit(&mut self, packet: SharedPacket, token: T) -> Result<(), (SubmitError, T)> {
        if self.lane.is_closed() {
            return Err((SubmitError::Closed, token));
        }
        let share = self.lane.out.capacity();
        if self.underway >= share {
            return Err((SubmitError::ShareUsed { share }, token));
        }
        match self.lane.out.push((packet, token)) {
            Ok(()) => {
                self.underway += 1;
                Ok(())
            }
            Err((_, token)) => Err((SubmitError::ShareUsed { share }, token)),
        }
    }

    /// The next packet of this submitter that is done, in the order they were handed over.
    pub fn poll(&mut self) -> Option<(T, Outcome)> {
        let done = self.lane.back.pop()?;
        self.underway = self.underway.saturating_sub(1);
        Some(done)
    }

    /// As [`Submitter::poll`], but sleeps until a packet is done, at most `limit` by the machine's clock. That is also the
    /// wait for room in the share, which comes from packets that are taken back.
    ///
    /// The owner goes on calling [`SharedQueue::pump`] meanwhile; it wakes the sleepers whose packets are done.
    ///
    /// # Errors
    /// See [`NotDone`].
    pub fn wait(&mut self, limit: Duration) -> Result<(T, Outcome), NotDone> {
        if let Some(done) = self.poll() {
            return Ok(done);
        }
        if self.underway == 0 {
            return Err(NotDone::Nothing);
        }
        let lane = &self.lane;
        lane.bell.sleep_until(limit, || !lane.back.is_empty() || lane.is_closed());
        let closed = self.lane.is_closed();
        // After the look: what came back before the owner went is there.
        self.poll().ok_or(if closed { NotDone::Closed } else { NotDone::Late { limit } })
    }

    /// Takes back the oldest packet that the owner hasn't taken; it isn't sent. `None` when it has taken all of them: those
    /// that are still underway end in [`Submitter::poll`].
    pub fn withdraw(&mut self) -> Option<T> {
        let (_, token) = self.lane.out.pop()?;
        self.underway = self.underway.saturating_sub(1);
        Some(token)
    }

    /// Packets that were handed over and haven't been taken back.
    pub fn underway(&self) -> usize {
        self.underway
    }
}

impl<T> Drop for Submitter<T> {
    fn drop(&mut self) {
        // Their memory may be freed next.
        while self.withdraw().is_some() {}
    }
}

/// A lane as the owner sees it.
#[derive(Debug)]
struct Open<T> {
    lane: Arc<Lane<T>>,
    /// Packets of it in the ring.
    in_ring: usize,
    /// Something came back that the submitter wasn't told of.
    news: bool,
}

impl<T> Drop for Open<T> {
    fn drop(&mut self) {
        self.lane.closed.store(true, Ordering::Release);
        self.lane.bell.ring();
    }
}

/// A queue that several threads use; its owner calls [`SharedQueue::pump`] now and then.
#[derive(Debug)]
pub struct SharedQueue<B: PciFunction, T> {
    queue: SdmaQueue<B, (usize, T)>,
    lanes: Vec<Option<Open<T>>>,
    /// The lane whose turn it is.
    next: usize,
}

impl<B: PciFunction, T> SharedQueue<B, T> {
    /// A shared queue on `queue`.
    pub fn new(queue: SdmaQueue<B, (usize, T)>) -> Self {
        Self { queue, lanes: Vec::new(), next: 0 }
    }

    /// Lets another thread in, with at most `share` packets (at least one) underway at a time.
    pub fn submitter(&mut self, share: usize) -> Submitter<T> {
        let share = share.max(1);
        let lane = Arc::new(Lane {
            out: ArrayQueue::new(share),
            back: ArrayQueue::new(share),
            bell: Bell::default(),
            closed: AtomicBool::new(false),
        });
        let open = Some(Open { lane: Arc::clone(&lane), in_ring: 0, news: false });
        match self.lanes.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = open,
            None => self.lanes.push(open),
        }
        Submitter { lane, underway: 0 }
    }

    /// The queue, to check and restart it.
    pub fn queue_mut(&mut self) -> &mut SdmaQueue<B, (usize, T)> {
        &mut self.queue
    }

    /// Gives back what is done and wakes whoever waits for it, and takes packets, one from each submitter in turn, while there is room for them; then rings
    /// the doorbell once. `true` when there was something to do.
    pub fn pump(&mut self) -> bool {
        let mut busy = false;
        while let Some(((lane, token), outcome)) = self.queue.poll() {
            busy = true;
            self.give_back(lane, token, outcome);
        }
        // A round ends when a whole one found nothing.
        let mut empty = 0;
        while empty < self.lanes.len() && self.queue.is_running() && self.queue.free() as usize >= FRAGMENTS {
            let at = self.next;
            self.next = if at + 1 < self.lanes.len() { at + 1 } else { 0 };
            let Some((packet, token)) = self.take(at) else {
                empty += 1;
                continue;
            };
            (busy, empty) = (true, 0);
            if let Err((error, (lane, token))) = self.queue.submit(packet.packet(), (at, token)) {
                // It was checked when it was made, and there is room.
                log::error!("{error}");
                self.give_back(lane, token, Outcome::Failed);
            }
        }
        self.queue.doorbell();
        // Once for all that came back.
        for open in self.lanes.iter_mut().flatten().filter(|open| open.news) {
            open.news = false;
            open.lane.bell.ring();
        }
        busy
    }

    /// The next packet of a lane. A lane whose submitter is gone is given up once nothing of it is in the ring.
    fn take(&mut self, at: usize) -> Option<(SharedPacket, T)> {
        let place = self.lanes.get_mut(at)?;
        let open = place.as_mut()?;
        let taken = open.lane.out.pop();
        if taken.is_some() {
            open.in_ring += 1;
        } else if open.in_ring == 0 && Arc::strong_count(&open.lane) == 1 {
            // A submitter that goes takes back what it had handed over.
            *place = None;
        }
        taken
    }

    fn give_back(&mut self, lane: usize, token: T, outcome: Outcome) {
        if let Some(Some(open)) = self.lanes.get_mut(lane) {
            open.in_ring = open.in_ring.saturating_sub(1);
            // A submitter has no more underway than fit here. When it is gone, nobody wants the token.
            drop(open.lane.back.push((token, outcome)));
            open.news = true;
        }
    }
}
