//! Peers that take no more connections at present: they are tried again after a while, the more seldom the longer it lasts.

use crate::Address;
use opx_defs::time::Instant;
use std::time::Duration;

/// How long it takes until they are tried again: first, and at most.
const FIRST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(256);

#[derive(Debug)]
pub(super) struct Crowded {
    peers: Vec<Address>,
    /// When it is time to try again, once that is known.
    at: Option<Instant>,
    /// How long the next wait is.
    wait: Duration,
}

impl Crowded {
    pub(super) fn new() -> Self {
        Self { peers: Vec::new(), at: None, wait: FIRST }
    }

    /// A peer took no connection.
    pub(super) fn add(&mut self, peer: Address) {
        if !self.peers.contains(&peer) {
            self.peers.push(peer);
        }
    }

    /// When [`Crowded::due`] has something to give.
    pub(super) fn time(&self) -> Instant {
        self.at.unwrap_or(Instant::FAR)
    }

    /// Those that are to be tried again now. Called after they have been tried.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Address> {
        match self.at {
            _ if self.peers.is_empty() => self.wait = FIRST,
            None => {
                self.at = Some(now + self.wait);
                self.wait = (self.wait * 2).min(LONGEST);
            }
            Some(at) if now >= at => {
                self.at = None;
                return std::mem::take(&mut self.peers);
            }
            Some(_) => {}
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::units::Lid;

    #[test]
    fn they_are_tried_again_after_a_while_and_more_and_more_seldom() {
        let peer = Address { lid: Lid(1), rx: 5 };
        let (mut crowded, mut now) = (Crowded::new(), Instant::ZERO + Duration::from_secs(5));
        assert_eq!((crowded.time(), crowded.due(now)), (Instant::FAR, vec![]));
        let mut waits = vec![];
        for _ in 0..11 {
            crowded.add(peer);
            crowded.add(peer);
            assert_eq!((crowded.due(now), crowded.due(now)), (vec![], vec![]));
            waits.push(crowded.time().since(now).as_millis());
            now = crowded.time();
            assert_eq!((crowded.due(now), crowded.time()), (vec![peer], Instant::FAR));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256]);
        // It took a connection: the next time begins anew.
        assert_eq!(crowded.due(now), []);
        crowded.add(peer);
        assert_eq!(crowded.due(now), []);
        assert_eq!(crowded.time().since(now), FIRST);
    }
}
