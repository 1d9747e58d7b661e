//! What happens later: the adapter's events, in order of time, then of being asked for.

use crate::rxe::RxeEvent;
use crate::txe::TxeEvent;
use opx_defs::time::Instant;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Something that happens at a point in simulated time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The chip has come to rest after a freeze request.
    Frozen,
    /// The chip runs again after an unfreeze request.
    Unfrozen,
    /// The RSA engine has finished.
    RsaDone,
    /// The 8051 has something to do.
    Dc8051(crate::dc8051::Dc8051Event),
    /// A packet that was held back to arrive out of order is let go.
    HeldPacket,
    /// For the receive engine.
    Rxe(RxeEvent),
    /// For the transmit engine.
    Txe(TxeEvent),
}

/// Whether two events differ at most in their numbers.
fn same_kind(a: &Event, b: &Event) -> bool {
    use std::mem::discriminant;
    match (a, b) {
        (Event::Dc8051(a), Event::Dc8051(b)) => discriminant(a) == discriminant(b),
        _ => discriminant(a) == discriminant(b),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    at: Instant,
    sequence: u64,
    event: Event,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Events to come.
#[derive(Debug, Default)]
pub struct EventQueue {
    heap: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
}

impl EventQueue {
    /// Adds an event.
    pub fn at(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.heap.push(Reverse(Entry { at, sequence: self.sequence, event }));
    }

    /// Adds an event `after` a point in time.
    pub fn after(&mut self, now: Instant, after: Duration, event: Event) {
        self.at(now + after, event);
    }

    /// Forgets events of one kind: they would be superseded, and software could pile them up.
    pub fn cancel(&mut self, kind: &Event) {
        self.heap.retain(|Reverse(entry)| !same_kind(&entry.event, kind));
    }

    /// When the next event is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes the next event, if it is due at `now`.
    pub fn take(&mut self, now: Instant) -> Option<(Instant, Event)> {
        if self.next_due()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }

    /// Events to come.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Forgets the other events: part of the chip was reset.
    pub fn retain(&mut self, keep: impl Fn(&Event) -> bool) {
        self.heap.retain(|Reverse(entry)| keep(&entry.event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_by_order_of_asking() {
        let mut queue = EventQueue::default();
        let at = Instant::from_nanos;
        queue.at(at(20), Event::RsaDone);
        queue.at(at(10), Event::Frozen);
        queue.at(at(10), Event::Unfrozen);
        assert_eq!(queue.take(at(9)), None);
        assert_eq!(queue.take(at(10)), Some((at(10), Event::Frozen)));
        assert_eq!(queue.take(at(30)), Some((at(10), Event::Unfrozen)));
        assert_eq!(queue.take(at(30)), Some((at(20), Event::RsaDone)));
        assert_eq!(queue.take(at(30)), None);
    }
}
