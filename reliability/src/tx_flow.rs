//! The packets sent to one peer and not yet acknowledged.

use crate::rtt::Rtt;
use opx_defs::time::Instant;
use opx_defs::units::Psn;
use opx_defs::wire::opx::{Origin, Ud};
use std::collections::VecDeque;
use std::time::Duration;

/// One packet. It stays in place, without its handle, when it is acknowledged before an earlier one.
#[derive(Debug)]
struct Entry<P> {
    packet: Option<P>,
    bytes: u32,
    /// Waiting to be sent again.
    queued: bool,
    /// When it was last sent again.
    resent: Option<Instant>,
}

/// What a range of PSNs in an ACK or NACK is to the packets outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// All of it was acknowledged before.
    Stale,
    /// Some of it was never sent.
    Unsent,
    /// These entries.
    Within(usize, usize),
}

/// A ping that was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ping {
    pub(crate) start: Psn,
    pub(crate) count: u32,
    pub(crate) at: Instant,
}

#[derive(Debug)]
pub(crate) struct TxFlow<P> {
    pub(crate) peer: Origin,
    /// The PSN of the next new packet.
    pub(crate) next: Psn,
    /// Entry i has PSN `base + i`; the first one is never acknowledged.
    unacked: VecDeque<Entry<P>>,
    /// Bytes of the entries that aren't acknowledged.
    pub(crate) bytes: u64,
    /// Entries that are acknowledged, with earlier ones that aren't.
    acked_ahead: usize,
    /// A NACK came since there last was nothing outstanding.
    pub(crate) throttled: bool,
    /// Given up.
    pub(crate) dead: bool,
    pub(crate) rtt: Rtt,
    /// Pings since the peer last answered.
    pub(crate) unanswered: u32,
    pub(crate) last_ping: Option<Ping>,
    /// When a packet was last acknowledged, or the first one sent.
    pub(crate) progress_at: Instant,
    /// The entry of the timer queue, if there is one.
    pub(crate) due: Option<Instant>,
    /// Waiting for its turn to ping.
    pub(crate) ping_queued: bool,
}

impl<P> TxFlow<P> {
    pub(crate) fn new(peer: Origin, first: Psn) -> Self {
        Self {
            peer,
            next: first,
            unacked: VecDeque::new(),
            bytes: 0,
            acked_ahead: 0,
            throttled: false,
            dead: false,
            rtt: Rtt::default(),
            unanswered: 0,
            last_ping: None,
            progress_at: Instant::ZERO,
            due: None,
            ping_queued: false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unacked.is_empty()
    }

    /// PSNs from the oldest outstanding to the newest.
    pub(crate) fn span(&self) -> u32 {
        // Bounded by the window, 10239.
        self.unacked.len() as u32
    }

    /// The oldest PSN outstanding; the next new one if there is none.
    pub(crate) fn base(&self) -> Psn {
        self.next.plus(Psn::SPACE - self.span())
    }

    /// Whether a later packet was acknowledged before an earlier one.
    pub(crate) fn has_hole(&self) -> bool {
        self.acked_ahead > 0
    }

    /// The range to ask about: what is outstanding, up to the highest PSN.
    pub(crate) fn ping_range(&self) -> (Psn, u32) {
        let base = self.base();
        (base, self.span().min(Ud::longest_from(base)))
    }

    /// Registers a packet under the next PSN.
    pub(crate) fn push(&mut self, bytes: u32, packet: P) {
        self.unacked.push_back(Entry { packet: Some(packet), bytes, queued: false, resent: None });
        self.bytes += u64::from(bytes);
        self.next = self.next.next();
    }

    /// What `count` PSNs from `start` on are to what is outstanding.
    pub(crate) fn place(&self, start: Psn, count: u32) -> Span {
        let ahead = start.distance_from(self.base());
        let from = if ahead < Psn::SPACE / 2 { i64::from(ahead) } else { i64::from(ahead) - i64::from(Psn::SPACE) };
        let to = from + i64::from(count);
        if to > i64::from(self.span()) {
            Span::Unsent
        } else if to <= 0 {
            Span::Stale
        } else {
            // Both lie between 0 and the span now.
            Span::Within(from.max(0) as usize, to as usize)
        }
    }

    /// Takes out the entries that are acknowledged; gives how many are so for the first time.
    pub(crate) fn acknowledge(&mut self, from: usize, to: usize, released: &mut VecDeque<P>) -> u32 {
        let mut fresh = 0;
        for entry in self.unacked.range_mut(from..to) {
            if let Some(packet) = entry.packet.take() {
                released.push_back(packet);
                self.bytes = self.bytes.saturating_sub(u64::from(entry.bytes));
                self.acked_ahead += 1;
                fresh += 1;
            }
        }
        while self.unacked.front().is_some_and(|entry| entry.packet.is_none()) {
            self.unacked.pop_front();
            self.acked_ahead = self.acked_ahead.saturating_sub(1);
        }
        if self.unacked.is_empty() {
            self.throttled = false;
            // Most peers are idle most of the time: give the room back.
            self.unacked.shrink_to(64);
        }
        fresh
    }

    /// Marks unacknowledged entries in the range to be sent again, at most `limit` and none that was within `guard`.
    /// Gives how many of the range are unacknowledged (up to the limit) and calls `queue` with the PSN of each marked one.
    pub(crate) fn replay(
        &mut self,
        (from, to): (usize, usize),
        limit: u32,
        now: Instant,
        guard: Duration,
        mut queue: impl FnMut(Psn),
    ) -> u32 {
        let base = self.base();
        let mut missing = 0;
        for (i, entry) in self.unacked.range_mut(from..to).enumerate().filter(|(_, e)| e.packet.is_some()) {
            if missing == limit {
                break;
            }
            missing += 1;
            if !entry.queued && entry.resent.is_none_or(|at| now.since(at) >= guard) {
                entry.queued = true;
                queue(base.plus((from + i) as u32));
            }
        }
        missing
    }

    /// Takes the mark off a packet that was to be sent again; `false` if it was acknowledged since.
    pub(crate) fn take_replay(&mut self, psn: Psn, now: Instant) -> bool {
        let index = psn.distance_from(self.base());
        let Some(entry) = self.unacked.get_mut(index as usize) else { return false };
        let marked = std::mem::take(&mut entry.queued) && entry.packet.is_some();
        if marked {
            entry.resent = Some(now);
        }
        marked
    }

    /// The unacknowledged packet with a PSN.
    pub(crate) fn packet(&self, psn: Psn) -> Option<&P> {
        self.unacked.get(psn.distance_from(self.base()) as usize)?.packet.as_ref()
    }

    /// Gives every packet back.
    pub(crate) fn abandon(&mut self, released: &mut VecDeque<P>) {
        released.extend(std::mem::take(&mut self.unacked).into_iter().filter_map(|entry| entry.packet));
        self.bytes = 0;
        self.acked_ahead = 0;
        self.throttled = false;
        self.dead = true;
    }
}
