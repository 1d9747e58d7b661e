//! The event queue: what happens to a domain and its endpoints by itself, for whoever looks after them.

use super::EndpointId;
use super::completion_queue::WaitError;
use crate::Address;
use crate::error::EndpointError;
use opx_bus::ProcessMark;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Something happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The link came up again.
    LinkUp,
    /// The link went down. What was sent waits for it.
    LinkDown,
    /// The link has been down for too long: what was being sent by the endpoint fails.
    LinkLost {
        /// Whose operations.
        endpoint: EndpointId,
    },
    /// A peer doesn't answer: what was being sent to it fails.
    PeerUnreachable {
        /// Whose operations.
        endpoint: EndpointId,
        /// The peer.
        peer: Address,
    },
    /// A peer's packets come, but never its first one: it talked to an earlier owner of the endpoint's address. Start it anew.
    PeerOutOfStep {
        /// Who hears it.
        endpoint: EndpointId,
        /// The peer.
        peer: Address,
    },
    /// An endpoint can't go on; all its operations have failed. Close it.
    EndpointFailed {
        /// Which.
        endpoint: EndpointId,
        /// Why.
        why: Arc<EndpointError>,
    },
}

impl Event {
    /// Whether the two are told as one.
    fn repeats(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::LinkUp | Self::LinkDown, Self::LinkUp | Self::LinkDown) => true,
            (Self::LinkLost { endpoint: a }, Self::LinkLost { endpoint: b }) => a == b,
            (Self::PeerUnreachable { endpoint: a, peer: x }, Self::PeerUnreachable { endpoint: b, peer: y })
            | (Self::PeerOutOfStep { endpoint: a, peer: x }, Self::PeerOutOfStep { endpoint: b, peer: y }) => {
                (a, x) == (b, y)
            }
            _ => false,
        }
    }

    /// Whether a peer brings it about, who could do so as often as it likes.
    fn is_of_a_peer(&self) -> bool {
        matches!(self, Self::PeerUnreachable { .. } | Self::PeerOutOfStep { .. })
    }
}

/// An event, and how often it has happened since the last one like it was read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reported {
    /// The event; of the link's, the last.
    pub event: Event,
    /// How often. The link's going down and coming up again count together.
    pub times: u64,
}

/// The events of a domain and of its endpoints (`fi_eq(3)`). Any thread can read it and wait for it; clones mean the same one.
///
/// An event that is there already is counted and not told a second time, and of events that peers bring about at most
/// [`EventQueue::PEER_EVENTS`] are kept: nobody makes it grow.
#[derive(Debug, Clone, Default)]
pub struct EventQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    events: Mutex<Events>,
    arrived: Condvar,
    /// What was last told of the link: whether it is down.
    link_is_down: AtomicBool,
    /// A forked child may find the events locked for ever.
    process: ProcessMark,
}

impl Default for Shared {
    fn default() -> Self {
        let (events, arrived, link_is_down) = (Mutex::default(), Condvar::new(), AtomicBool::new(false));
        Self { events, arrived, link_is_down, process: ProcessMark::here() }
    }
}

#[derive(Debug, Default)]
struct Events {
    queue: VecDeque<Reported>,
    lost: u64,
}

impl EventQueue {
    /// Events that peers bring about that are kept at most.
    pub const PEER_EVENTS: usize = 256;

    pub(crate) fn new(link_is_up: bool) -> Self {
        let queue = Self::default();
        queue.shared.link_is_down.store(!link_is_up, Ordering::Relaxed);
        queue
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        self.shared.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next event; in a forked child there is none.
    pub fn read(&self) -> Option<Reported> {
        if !self.shared.process.is_here() {
            return None;
        }
        self.events().queue.pop_front()
    }

    /// Takes the next event; waits for it at most `limit`, without one for as long as it takes. Somebody else has to drive the
    /// endpoints meanwhile.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] when time is up, and [`WaitError::Forked`] in a child that was forked.
    pub fn wait(&self, limit: Option<Duration>) -> Result<Reported, WaitError> {
        if !self.shared.process.is_here() {
            return Err(WaitError::Forked);
        }
        let end = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut events = self.events();
        loop {
            if let Some(event) = events.queue.pop_front() {
                return Ok(event);
            }
            events = match end.map(|end| end.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Err(WaitError::TimedOut),
                Some(left) => self.shared.arrived.wait_timeout(events, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.shared.arrived.wait(events).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Events that found no room.
    pub fn lost(&self) -> u64 {
        if self.shared.process.is_here() { self.events().lost } else { 0 }
    }

    pub(crate) fn push(&self, event: Event) {
        let mut events = self.events();
        let earlier = events.queue.iter().position(|reported| event.repeats(&reported.event));
        let earlier = earlier.and_then(|at| events.queue.remove(at));
        let crowded = earlier.is_none() && event.is_of_a_peer() && {
            events.queue.iter().filter(|reported| reported.event.is_of_a_peer()).count() >= Self::PEER_EVENTS
        };
        if crowded {
            events.lost += 1;
            return;
        }
        let times = earlier.map_or(0, |reported| reported.times) + 1;
        events.queue.push_back(Reported { event, times });
        drop(events);
        self.shared.arrived.notify_all();
    }

    /// The link's state, for whichever endpoint looks first.
    fn link(&self, is_up: bool) {
        if self.shared.link_is_down.swap(!is_up, Ordering::Relaxed) == is_up {
            self.push(if is_up { Event::LinkUp } else { Event::LinkDown });
        }
    }
}

/// How an endpoint tells of its events.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    endpoint: EndpointId,
    events: EventQueue,
}

impl Reporter {
    pub(crate) fn new(endpoint: EndpointId, events: EventQueue) -> Self {
        Self { endpoint, events }
    }

    #[inline]
    pub(crate) fn link(&self, is_up: bool) {
        self.events.link(is_up);
    }

    pub(crate) fn link_lost(&self) {
        self.events.push(Event::LinkLost { endpoint: self.endpoint });
    }

    pub(crate) fn unreachable(&self, peer: Address) {
        self.events.push(Event::PeerUnreachable { endpoint: self.endpoint, peer });
    }

    pub(crate) fn out_of_step(&self, peer: Address) {
        self.events.push(Event::PeerOutOfStep { endpoint: self.endpoint, peer });
    }

    pub(crate) fn failed(&self, why: Arc<EndpointError>) {
        self.events.push(Event::EndpointFailed { endpoint: self.endpoint, why });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::units::Lid;

    #[test]
    fn what_happens_again_is_counted_and_peers_make_it_no_longer() {
        let events = EventQueue::new(true);
        let reporter = Reporter::new(EndpointId(3), events.clone());
        assert!(matches!(events.wait(Some(Duration::ZERO)), Err(WaitError::TimedOut)));
        reporter.link(true);
        assert!(events.read().is_none(), "it was up before");
        for up in [false, true, true, false] {
            reporter.link(up);
        }
        let peers = (1..1000).map(|lid| Address { lid: Lid(lid), rx: 0 });
        for peer in peers.clone().chain(peers) {
            reporter.out_of_step(peer);
        }
        reporter.link_lost();
        let told = events.read().unwrap();
        assert!(matches!((told.event, told.times), (Event::LinkDown, 3)));
        let rest: Vec<_> = std::iter::from_fn(|| events.read()).collect();
        assert_eq!(rest.len(), EventQueue::PEER_EVENTS + 1);
        assert!(rest.iter().take(256).all(|told| told.times == 2));
        assert!(matches!(rest[256].event, Event::LinkLost { endpoint: EndpointId(3) }));
        assert_eq!(events.lost(), 2 * (999 - 256));
    }

    #[test]
    fn whoever_waits_is_told() {
        let events = EventQueue::new(true);
        let waiting = std::thread::spawn({
            let events = events.clone();
            move || events.wait(None)
        });
        events.link(false);
        assert!(matches!(waiting.join().unwrap().unwrap().event, Event::LinkDown));
    }
}
