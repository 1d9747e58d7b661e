//! The sending side of one flow: which PSNs are outstanding, and what is known of the way to the peer. It is kept for every
//! peer for ever, so it is small; the packets are in the replay pool.

use crate::peers::FlowId;
use crate::replay::ReplayPool;
use crate::rtt::Rtt;
use opx_defs::time::Instant;
use opx_defs::units::Psn;
use opx_defs::wire::opx::{Origin, Ud};
use std::collections::VecDeque;
use std::time::Duration;

/// What a range of PSNs in an ACK or NACK is to the packets outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// All of it was acknowledged before.
    Stale,
    /// Some of it was never sent.
    Unsent,
    /// These packets, counted from the oldest outstanding one.
    Within(u32, u32),
}

/// A ping that was sent and not answered yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ping {
    pub(crate) start: Psn,
    /// 0 when there is none.
    pub(crate) count: u32,
    pub(crate) at: Instant,
}

impl Ping {
    pub(crate) const NONE: Self = Self { start: Psn::new(0), count: 0, at: Instant::ZERO };
}

/// How many widenings of the reordering window there may be.
const MOST_REORDER_STEPS: u8 = 8;
/// So many packets sent again in a row that were lost indeed make it narrower again.
const STEADY: u8 = 16;

/// Whether a flow takes new packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    No,
    /// The first packet is on its way alone.
    First,
    /// A NACK came for packets that are still unacknowledged.
    Throttled,
    /// Given up.
    Dead,
}

#[derive(Debug)]
pub(crate) struct TxFlow {
    pub(crate) peer: Origin,
    /// The PSN of the next new packet.
    pub(crate) next: Psn,
    /// The oldest PSN outstanding; `next` if there is none.
    pub(crate) base: Psn,
    /// Packets that may be outstanding before another one is sent, less one; 0 when the flow is closed.
    pub(crate) room: u32,
    /// The most of them.
    window: u16,
    /// Bytes of the packets that aren't acknowledged.
    pub(crate) bytes: u32,
    /// Packets that are acknowledged, with earlier ones that aren't.
    pub(crate) acked_ahead: u32,
    /// The PSN after the highest one acknowledged, when there is a gap.
    high: Psn,
    /// Throttled until all before this PSN are acknowledged.
    recover: Psn,
    /// When the packet acknowledged that was sent last was sent.
    latest: Instant,
    pub(crate) rtt: Rtt,
    pub(crate) asked: Ping,
    /// When a packet was last acknowledged, or the first one sent, on the clock that stands still while the link is down.
    pub(crate) progress_at: Instant,
    /// Pings since the peer last answered.
    pub(crate) unanswered: u8,
    /// How far packets may overtake each other before a gap counts as a loss, in steps.
    reorder_steps: u8,
    /// Packets sent again since that was last changed.
    steady: u8,
    /// Why nothing new may be sent, if anything.
    closed: Closed,
    /// Waiting for its turn to ping.
    pub(crate) ping_queued: bool,
    /// The timer is for a gap that may be a loss by then.
    pub(crate) gap_timer: bool,
}

impl TxFlow {
    pub(crate) fn new(peer: Origin, first: Psn, window: u32) -> Self {
        Self {
            peer,
            next: first,
            base: first,
            room: window.saturating_sub(1),
            // Below 10240.
            window: window as u16,
            bytes: 0,
            acked_ahead: 0,
            high: first,
            recover: first,
            latest: Instant::ZERO,
            rtt: Rtt::default(),
            asked: Ping::NONE,
            progress_at: Instant::ZERO,
            unanswered: 0,
            reorder_steps: 0,
            steady: 0,
            closed: Closed::No,
            ping_queued: false,
            gap_timer: false,
        }
    }

    pub(crate) fn closed(&self) -> Closed {
        self.closed
    }

    pub(crate) fn set_closed(&mut self, closed: Closed) {
        self.closed = closed;
        self.room = if closed == Closed::No { u32::from(self.window).saturating_sub(1) } else { 0 };
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.base == self.next
    }

    /// PSNs from the oldest outstanding to the newest.
    #[inline]
    pub(crate) fn span(&self) -> u32 {
        self.next.distance_from(self.base)
    }

    /// The range to ask about: what is outstanding, up to the highest PSN.
    pub(crate) fn ping_range(&self) -> (Psn, u32) {
        (self.base, self.span().min(Ud::longest_from(self.base)))
    }

    /// What `count` PSNs from `start` on are to what is outstanding.
    pub(crate) fn place(&self, start: Psn, count: u32) -> Span {
        let ahead = start.distance_from(self.base);
        let from = if ahead < Psn::SPACE / 2 { i64::from(ahead) } else { i64::from(ahead) - i64::from(Psn::SPACE) };
        let to = from + i64::from(count);
        if to > i64::from(self.span()) {
            Span::Unsent
        } else if to <= 0 {
            Span::Stale
        } else {
            // Both lie between 0 and the span now.
            Span::Within(from.max(0) as u32, to as u32)
        }
    }

    /// Marks packets as acknowledged and gives those that weren't to `released`; their number. The time that the newest of
    /// them took, if it was sent once, goes to `took`.
    pub(crate) fn acknowledge<P>(
        &mut self,
        id: FlowId,
        pool: &mut ReplayPool<P>,
        (from, to): (u32, u32),
        released: &mut VecDeque<P>,
        took: &mut Option<Instant>,
    ) -> u32 {
        let (base, end) = (self.base, self.base.plus(to));
        let mut fresh = 0;
        let mut at = from;
        while at < to {
            let Some(entry) = pool.get_mut(id, base.plus(at)) else { break };
            match entry.packet.take() {
                Some(packet) => {
                    released.push_back(packet);
                    self.bytes -= entry.bytes.min(self.bytes);
                    self.latest = self.latest.max(entry.sent);
                    *took = (entry.resends == 0).then_some(entry.sent);
                    entry.run = to - at;
                    fresh += 1;
                    at += 1;
                }
                None => {
                    // A run that is known is passed in one step, however often it is acknowledged again.
                    let run = entry.run.max(1);
                    entry.run = run.max(to - at);
                    at += run;
                }
            }
        }
        if fresh == 0 {
            return 0;
        }
        if self.acked_ahead == 0 || self.high.is_before(end) {
            self.high = end;
        }
        self.acked_ahead += fresh;
        while self.acked_ahead > 0 && pool.get(id, self.base).is_some_and(|entry| entry.packet.is_none()) {
            pool.remove(id, self.base);
            self.base = self.base.next();
            self.acked_ahead -= 1;
        }
        let free = match self.closed {
            Closed::No | Closed::Dead => false,
            Closed::First => self.is_empty(),
            Closed::Throttled => !self.base.is_before(self.recover),
        };
        if free {
            self.set_closed(Closed::No);
        }
        fresh
    }

    /// Takes a NACK's packets to be sent again, unless they were a moment ago; `guard` is that moment, and grows with each time.
    /// Gives how many of the range are unacknowledged and calls `queue` with the PSN of each to be sent.
    pub(crate) fn refused<P>(
        &mut self,
        id: FlowId,
        pool: &mut ReplayPool<P>,
        (from, to): (u32, u32),
        now: Instant,
        guard: Duration,
        mut queue: impl FnMut(Psn),
    ) -> u32 {
        let mut missing = 0;
        for at in from..to {
            let psn = self.base.plus(at);
            let Some(entry) = pool.get_mut(id, psn).filter(|entry| entry.packet.is_some()) else { continue };
            missing += 1;
            let rests = entry.resends > 0 && now.since(entry.sent) < guard * (1 << entry.resends.min(7)) / 2;
            if !entry.queued && !rests {
                entry.queued = true;
                queue(psn);
            }
        }
        if missing > 0 {
            if self.closed == Closed::No {
                self.set_closed(Closed::Throttled);
            }
            let end = self.base.plus(to);
            if self.recover.is_before(end) || !self.base.is_before(self.recover) {
                self.recover = end;
            }
        }
        missing
    }

    /// How long a packet may be overtaken before it counts as lost.
    fn reorder_window(&self) -> Duration {
        let step = self.rtt.smoothed().unwrap_or(Duration::from_micros(50)) / 4;
        step.clamp(Duration::from_micros(1), Duration::from_millis(1)) * u32::from(self.reorder_steps)
    }

    /// A packet that was sent again had arrived the first time: gaps must be given more time.
    pub(crate) fn sent_in_vain(&mut self) {
        if self.steady > 0 {
            self.reorder_steps = (self.reorder_steps + 1).min(MOST_REORDER_STEPS);
            self.steady = 0;
        }
    }

    /// Looks for packets that were lost: ones before an acknowledged packet that was sent after them (as RFC 8985 does for TCP).
    /// At most `limit` unacknowledged ones are looked at. Gives when to look again, if some could be lost by then.
    pub(crate) fn find_losses<P>(
        &mut self,
        id: FlowId,
        pool: &mut ReplayPool<P>,
        now: Instant,
        limit: u32,
        mut queue: impl FnMut(Psn),
    ) -> Option<Instant> {
        if self.acked_ahead == 0 {
            return None;
        }
        let window = self.reorder_window();
        let patience = window + self.rtt.smoothed().unwrap_or(Duration::from_micros(50));
        let (end, mut looked, mut at, mut again) = (self.high.distance_from(self.base), 0, 0, None);
        // Where the acknowledged run before `at` begins, if there is one.
        let mut run_start = None;
        while at < end && looked < limit {
            let psn = self.base.plus(at);
            let Some(entry) = pool.get_mut(id, psn) else { break };
            if entry.packet.is_none() {
                at += entry.run.max(1);
                // Neighbouring runs become one, so that each is passed once and not each time.
                if let Some(first) = run_start {
                    let joined = self.base.plus(first);
                    pool.get_mut(id, joined).into_iter().for_each(|entry| entry.run = at - first);
                } else {
                    run_start = Some(at - entry.run.max(1));
                }
                continue;
            }
            (at, looked, run_start) = (at + 1, looked + 1, None);
            if entry.queued || entry.sent > self.latest {
                continue;
            }
            if entry.sent + window <= self.latest || entry.sent + patience <= now {
                entry.queued = true;
                queue(psn);
                self.steady += 1;
                if self.steady == STEADY {
                    self.reorder_steps = self.reorder_steps.saturating_sub(1);
                    self.steady = 1;
                }
            } else {
                let then = entry.sent + patience;
                again = Some(again.map_or(then, |earlier: Instant| earlier.min(then)));
            }
        }
        again
    }

    /// Gives every packet back.
    pub(crate) fn abandon<P>(&mut self, id: FlowId, pool: &mut ReplayPool<P>, released: &mut VecDeque<P>) {
        for at in 0..self.span() {
            released.extend(pool.remove(id, self.base.plus(at)).flatten());
        }
        self.base = self.next;
        self.bytes = 0;
        self.acked_ahead = 0;
        self.set_closed(Closed::Dead);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_flow_is_small() {
        // Beside it a flow has its place among the timers and in the table of peers.
        let bytes = size_of::<TxFlow>() + size_of::<u32>() + crate::peers::Peers::MOST_BYTES;
        assert!(bytes <= 128, "{bytes}");
    }
}
