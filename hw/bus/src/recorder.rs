//! Flight recorder: the last events of a thread in a fixed ring, cheap enough for the data path.

use opx_defs::time::Instant;

/// One event: what happened, when, and two numbers that say more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// What, in a few words.
    pub what: &'static str,
    /// First number; its meaning is the event's.
    pub a: u64,
    /// Second number.
    pub b: u64,
}

/// A ring of the last events. Recording never allocates.
#[derive(Debug)]
pub struct Recorder {
    ring: Vec<Event>,
    capacity: usize,
    next: usize,
    recorded: u64,
}

impl Recorder {
    /// A recorder that keeps the last `capacity` events (at least one).
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self { ring: Vec::with_capacity(capacity), capacity, next: 0, recorded: 0 }
    }

    /// Records an event, over the oldest when the ring is full.
    pub fn record(&mut self, at: Instant, what: &'static str, a: u64, b: u64) {
        let event = Event { at, what, a, b };
        if self.ring.len() < self.capacity {
            self.ring.push(event);
        } else {
            self.ring[self.next] = event;
        }
        self.next = (self.next + 1) % self.capacity;
        self.recorded += 1;
    }

    /// How many events were ever recorded.
    pub fn recorded(&self) -> u64 {
        self.recorded
    }

    /// The events that are still there, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        let split = if self.ring.len() < self.capacity { 0 } else { self.next };
        self.ring[split..].iter().chain(&self.ring[..split])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_overwritten() {
        let mut recorder = Recorder::new(3);
        for n in 0..5 {
            recorder.record(Instant::from_nanos(n), "tick", n, 0);
        }
        assert_eq!(recorder.recorded(), 5);
        assert_eq!(recorder.events().map(|e| e.a).collect::<Vec<_>>(), [2, 3, 4]);
    }
}
