//! What waits to be sent to each peer: answers first, then transfers, a packet each in turn. Peers take turns too, and one that
//! takes nothing more is left alone until it has acknowledged something, so that it costs the others nothing.

use super::rendezvous::Answering;
use crate::Address;
use crate::table::Handle;
use std::collections::{HashMap, VecDeque};

/// The next thing to send to a peer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// The answer to an offer.
    Answer(Answering),
    /// The next packet of a message, or of the answer to a request.
    Transfer(Handle),
    /// The next packet of a request; the next request's turn comes when it has no more.
    Request(Handle),
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// A packet went out and there are more.
    More,
    /// There is nothing more to send for now.
    Done,
    /// The peer takes no more for now.
    PeerFull,
    /// There is no room for a packet that may have to be sent again. Those to peers on this machine aren't.
    NoReplay,
    /// There is no room for a packet to anybody.
    NoRoom,
}

#[derive(Debug, Default)]
struct Queue {
    answers: VecDeque<Answering>,
    transfers: VecDeque<Handle>,
    /// One after the other: their order is promised.
    requests: VecDeque<Handle>,
    /// Whether a request has the next turn, when there are transfers too.
    requests_turn: bool,
    /// Waits for an acknowledgement; not among those that are ready.
    full: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.transfers.is_empty() && self.requests.is_empty()
    }

    fn next(&self) -> Option<Work> {
        if let Some(answer) = self.answers.front() {
            return Some(Work::Answer(*answer));
        }
        let transfer = self.transfers.front().copied().map(Work::Transfer);
        let request = self.requests.front().copied().map(Work::Request);
        if self.requests_turn { request.or(transfer) } else { transfer.or(request) }
    }
}

/// The queues of all peers that have something to be sent.
#[derive(Debug, Default)]
pub(super) struct Queues {
    by_peer: HashMap<Address, Queue>,
    /// Peers whose turn comes, each once.
    ready: VecDeque<Address>,
    answers: usize,
    /// Empty queues, kept for their memory.
    spare: Vec<Queue>,
}

impl Queues {
    const MOST_SPARE: usize = 16;

    /// Answers that wait.
    pub(super) fn answers(&self) -> usize {
        self.answers
    }

    /// Transfers that wait.
    pub(super) fn transfers(&self) -> usize {
        self.by_peer.values().map(|queue| queue.transfers.len()).sum()
    }

    /// Whether there is anybody whose turn could come.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many those are.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn push(&mut self, to: Address, work: Work) {
        let Self { by_peer, ready, spare, .. } = self;
        let queue = by_peer.entry(to).or_insert_with(|| {
            ready.push_back(to);
            spare.pop().unwrap_or_default()
        });
        match work {
            Work::Answer(answer) => {
                queue.answers.push_back(answer);
                self.answers += 1;
            }
            Work::Transfer(handle) => queue.transfers.push_back(handle),
            Work::Request(handle) => queue.requests.push_back(handle),
        }
    }

    /// Whether a request to a peer waits, so that another one has to wait behind it.
    pub(super) fn has_requests(&self, to: Address) -> bool {
        !self.by_peer.is_empty() && self.by_peer.get(&to).is_some_and(|queue| !queue.requests.is_empty())
    }

    /// The peer whose turn it is, and what it is to get.
    pub(super) fn next(&mut self) -> Option<(Address, Work)> {
        loop {
            let peer = *self.ready.front()?;
            if let Some(work) = self.by_peer.get(&peer).and_then(Queue::next) {
                return Some((peer, work));
            }
            self.ready.pop_front();
            self.forget_if_empty(peer);
        }
    }

    /// What became of what [`Queues::next`] gave.
    pub(super) fn done(&mut self, peer: Address, progress: Progress) {
        if progress == Progress::NoRoom {
            return;
        }
        self.ready.pop_front();
        if progress == Progress::NoReplay {
            // Once for each of those that wait for it, so that their order stays.
            return self.ready.push_back(peer);
        }
        let Some(queue) = self.by_peer.get_mut(&peer) else { return };
        if progress == Progress::PeerFull {
            queue.full = true;
            return;
        }
        match queue.next() {
            Some(Work::Answer(_)) => {
                queue.answers.pop_front();
                self.answers -= 1;
            }
            Some(Work::Transfer(transfer)) => {
                queue.transfers.pop_front();
                queue.requests_turn = true;
                if progress == Progress::More {
                    queue.transfers.push_back(transfer);
                }
            }
            Some(Work::Request(_)) => {
                queue.requests_turn = false;
                if progress == Progress::Done {
                    queue.requests.pop_front();
                }
            }
            None => {}
        }
        if queue.is_empty() {
            self.forget_if_empty(peer);
        } else {
            self.ready.push_back(peer);
        }
    }

    /// A peer has acknowledged something: it may take more.
    #[inline]
    pub(super) fn acknowledged(&mut self, peer: Address) {
        if !self.by_peer.is_empty() {
            self.wake(peer);
        }
    }

    fn wake(&mut self, peer: Address) {
        if let Some(queue) = self.by_peer.get_mut(&peer)
            && queue.full
        {
            queue.full = false;
            self.ready.push_back(peer);
        }
    }

    /// Nothing more is sent to a peer.
    pub(super) fn forget(&mut self, peer: Address) {
        if let Some(queue) = self.by_peer.remove(&peer) {
            self.answers -= queue.answers.len();
            if !queue.full {
                self.ready.retain(|ready| *ready != peer);
            }
        }
    }

    /// Nothing more is sent to anybody.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn forget_if_empty(&mut self, peer: Address) {
        if self.by_peer.get(&peer).is_some_and(Queue::is_empty)
            && let Some(mut queue) = self.by_peer.remove(&peer)
            && self.spare.len() < Self::MOST_SPARE
        {
            queue.full = false;
            self.spare.push(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::units::Lid;

    fn peer(rx: u8) -> Address {
        Address { lid: Lid(1), rx }
    }

    fn taken(queues: &mut Queues, progress: Progress) -> Option<(u8, u64)> {
        let (peer, work) = queues.next()?;
        queues.done(peer, progress);
        match work {
            Work::Transfer(handle) | Work::Request(handle) => Some((peer.rx, handle.0)),
            Work::Answer(_) => Some((peer.rx, 0)),
        }
    }

    #[test]
    fn peers_take_turns_and_so_do_transfers_to_one() {
        let mut queues = Queues::default();
        for (rx, handle) in [(1, 10), (1, 11), (2, 20)] {
            queues.push(peer(rx), Work::Transfer(Handle(handle)));
        }
        let turns: Vec<_> = (0..6).filter_map(|_| taken(&mut queues, Progress::More)).collect();
        assert_eq!(turns, [(1, 10), (2, 20), (1, 11), (2, 20), (1, 10), (2, 20)]);
        for expected in [(1, 11), (2, 20), (1, 10)] {
            assert_eq!(taken(&mut queues, Progress::Done), Some(expected));
        }
        assert_eq!(taken(&mut queues, Progress::Done), None);
        assert!(queues.by_peer.is_empty());
    }

    #[test]
    fn requests_go_one_after_the_other_and_take_turns_with_transfers() {
        let mut queues = Queues::default();
        for handle in [10, 11] {
            queues.push(peer(1), Work::Request(Handle(handle)));
        }
        queues.push(peer(1), Work::Transfer(Handle(20)));
        assert!(queues.has_requests(peer(1)) && !queues.has_requests(peer(2)));
        let turns: Vec<_> = (0..5).filter_map(|_| taken(&mut queues, Progress::More)).collect();
        assert_eq!(turns, [(1, 20), (1, 10), (1, 20), (1, 10), (1, 20)]);
        assert_eq!(taken(&mut queues, Progress::Done), Some((1, 10)));
        assert_eq!(taken(&mut queues, Progress::Done), Some((1, 20)));
        assert_eq!(taken(&mut queues, Progress::Done), Some((1, 11)));
        assert!(!queues.has_requests(peer(1)) && queues.by_peer.is_empty());
    }

    #[test]
    fn peers_for_whom_there_is_no_replay_let_others_go_first_and_keep_their_order() {
        let mut queues = Queues::default();
        for rx in 1..=3 {
            queues.push(peer(rx), Work::Transfer(Handle(10 * u64::from(rx))));
        }
        assert_eq!(queues.ready(), 3);
        for (progress, expected) in [
            (Progress::NoReplay, (1, 10)),
            (Progress::More, (2, 20)),
            (Progress::NoReplay, (3, 30)),
            (Progress::NoReplay, (1, 10)),
            (Progress::Done, (2, 20)),
            (Progress::Done, (3, 30)),
            (Progress::Done, (1, 10)),
        ] {
            assert_eq!(taken(&mut queues, progress), Some(expected));
        }
        assert_eq!((taken(&mut queues, Progress::Done), queues.ready()), (None, 0));
    }

    #[test]
    fn a_peer_that_is_full_waits_for_an_acknowledgement_and_holds_nobody_up() {
        let mut queues = Queues::default();
        queues.push(peer(1), Work::Transfer(Handle(10)));
        queues.push(peer(2), Work::Transfer(Handle(20)));
        assert_eq!(taken(&mut queues, Progress::PeerFull), Some((1, 10)));
        queues.push(peer(1), Work::Transfer(Handle(11)));
        for _ in 0..3 {
            assert_eq!(taken(&mut queues, Progress::More), Some((2, 20)));
        }
        queues.acknowledged(peer(1));
        queues.acknowledged(peer(1));
        assert_eq!(taken(&mut queues, Progress::More), Some((2, 20)));
        assert_eq!(taken(&mut queues, Progress::More), Some((1, 10)));
        assert_eq!(taken(&mut queues, Progress::NoRoom), Some((2, 20)));
        assert_eq!(taken(&mut queues, Progress::Done), Some((2, 20)), "its turn stays");
        queues.forget(peer(1));
        assert_eq!(taken(&mut queues, Progress::Done), None);
    }
}
