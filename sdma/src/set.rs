//! Several queues side by side, and which of them a packet goes into.

use crate::error::SdmaError;
use crate::map::{EngineMap, MapError};
use crate::packet::Packet;
use crate::queue::{Outcome, SdmaQueue};
use opx_bus::PciFunction;
use opx_defs::units::Vl;

/// Queues of one adapter, owned by one thread.
///
/// Packets that must stay in order go into the queue that [`SdmaSet::select`] names; those that need not go where there is
/// most room ([`SdmaSet::submit_anywhere`]).
#[derive(Debug)]
pub struct SdmaSet<B: PciFunction, T> {
    queues: Vec<SdmaQueue<B, T>>,
    map: EngineMap,
    /// The queue that [`SdmaSet::poll`] looks at first, so that each has its turn.
    next: usize,
}

impl<B: PciFunction, T> SdmaSet<B, T> {
    /// A set of queues, spread evenly over the first `vls` virtual lanes.
    ///
    /// # Errors
    /// When a lane would have none.
    pub fn new(queues: Vec<SdmaQueue<B, T>>, vls: usize) -> Result<Self, MapError> {
        let map = EngineMap::new(queues.len(), vls)?;
        Ok(Self { queues, map, next: 0 })
    }

    /// Which queues lanes and cores use.
    pub fn map(&self) -> &EngineMap {
        &self.map
    }

    /// The same, to be changed: packets that are queued already stay where they are.
    pub fn map_mut(&mut self) -> &mut EngineMap {
        &mut self.map
    }

    /// The queues.
    pub fn queues(&self) -> &[SdmaQueue<B, T>] {
        &self.queues
    }

    /// The same, to be used: to restart one, say.
    pub fn queues_mut(&mut self) -> &mut [SdmaQueue<B, T>] {
        &mut self.queues
    }

    /// The queue for packets of a lane that must stay in order with others of this `core` and `selector`.
    pub fn select(&mut self, core: Option<u16>, selector: u32, vl: Vl) -> Option<&mut SdmaQueue<B, T>> {
        let chosen = self.map.select(core, selector, vl);
        self.queues.get_mut(chosen)
    }

    /// Queues a packet in that running queue of its lane which has most room; gives the queue's place in the set. Packets may
    /// overtake each other.
    ///
    /// # Errors
    /// As [`SdmaQueue::submit`].
    pub fn submit_anywhere<'a>(
        &mut self,
        vl: Vl,
        packet: impl Into<Packet<'a>>,
        token: T,
    ) -> Result<usize, (SdmaError, T)> {
        let room = |at: &usize| {
            let queue = self.queues.get(*at).filter(|queue| queue.is_running());
            queue.map(|queue| (queue.free(), std::cmp::Reverse(*at)))
        };
        let chosen = self.map.engines_of(vl).max_by_key(room).unwrap_or(0);
        match self.queues.get_mut(chosen) {
            Some(queue) => queue.submit(packet, token).map(|()| chosen),
            // A set has at least one queue, and the map knows how many.
            None => Err((
                SdmaError::BadPacket { engine: opx_defs::units::SdmaEngine(0), why: "the set has no queue" },
                token,
            )),
        }
    }

    /// Rings the doorbell of each queue that has something new.
    pub fn doorbells(&mut self) {
        for queue in &mut self.queues {
            queue.doorbell();
        }
    }

    /// The next packet that is done, and its queue's place in the set. Within a queue they come in order; queues take turns.
    pub fn poll(&mut self) -> Option<(usize, T, Outcome)> {
        let count = self.queues.len();
        for _ in 0..count {
            let at = self.next;
            self.next = if at + 1 < count { at + 1 } else { 0 };
            if let Some((token, outcome)) = self.queues.get_mut(at).and_then(SdmaQueue::poll) {
                return Some((at, token, outcome));
            }
        }
        None
    }

    /// Packets that haven't completed.
    pub fn pending(&self) -> usize {
        self.queues.iter().map(SdmaQueue::pending).sum()
    }
}
