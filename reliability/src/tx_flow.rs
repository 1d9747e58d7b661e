//! The sending side of one flow: which PSNs are outstanding, and what is known of the way to the peer. It is kept for every
//! peer for ever, so it is small; the packets are in the replay pool.

use crate::TxFlowState;
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

/// How often the reordering window may have doubled: from a quarter of an answer time to eight of them.
const WIDEST: u8 = 6;
/// So many rounds of packets sent again, with none of them in vain, make it narrower again.
const STEADY: u8 = 16;
/// What an answer is taken to need until one has come.
const UNKNOWN_RTT: Duration = Duration::from_micros(50);

/// What a look for losses showed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Losses {
    /// Packets are sent again.
    pub(crate) found: bool,
    /// When others will count as lost.
    pub(crate) look_again: Option<Instant>,
}

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
    /// Bytes of the packets that aren't acknowledged.
    pub(crate) bytes: u32,
    /// Packets that are acknowledged, with earlier ones that aren't.
    acked_ahead: u16,
    /// The least time that an acknowledgement took, in 64 ns; the most that can be said when it is more or not known.
    soonest: u16,
    /// The PSN after the highest one acknowledged, when there is a gap.
    high: Psn,
    /// Throttled until all before this PSN are acknowledged.
    recover: Psn,
    /// When the packet acknowledged that was sent last was sent.
    latest: Instant,
    pub(crate) rtt: Rtt,
    pub(crate) asked: Ping,
    /// When the peer was last heard of, or the first packet outstanding was sent, on the clock that stands still while the
    /// link is down.
    heard_at: Instant,
    /// The count of the peer's data packets when that was last looked at.
    data_seen: u32,
    /// Pings since the peer last answered.
    pub(crate) unanswered: u8,
    /// Pings in a row that were answered by a NACK alone.
    pub(crate) refusals: u8,
    /// How far packets may overtake each other before a gap counts as a loss, in doublings; 0 for not at all.
    reordering: u8,
    /// Rounds of packets sent again since that was last changed.
    steady: u8,
    /// Why nothing new may be sent, if anything.
    closed: Closed,
    /// Waiting for its turn to ping.
    pub(crate) ping_queued: bool,
    /// The timer is for a gap that may be a loss by then.
    pub(crate) gap_timer: bool,
    /// The peer asked for what it had acknowledged: it isn't the one that we knew, and only what it says of packets that are
    /// outstanding shows otherwise.
    stranger: bool,
}

impl TxFlow {
    pub(crate) fn new(peer: Origin, first: Psn, window: u32) -> Self {
        Self {
            peer,
            next: first,
            base: first,
            room: window.saturating_sub(1),
            bytes: 0,
            acked_ahead: 0,
            soonest: u16::MAX,
            high: first,
            recover: first,
            latest: Instant::ZERO,
            rtt: Rtt::default(),
            asked: Ping::NONE,
            heard_at: Instant::ZERO,
            data_seen: 0,
            unanswered: 0,
            refusals: 0,
            reordering: 0,
            steady: 0,
            closed: Closed::No,
            ping_queued: false,
            gap_timer: false,
            stranger: false,
        }
    }

    /// The first packet after a while is sent: from now on the peer is expected to say something.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.heard_at = now;
        (self.unanswered, self.refusals, self.stranger) = (0, 0, false);
        self.asked = Ping::NONE;
    }

    /// The peer said something about packets that are outstanding.
    pub(crate) fn answered(&mut self, now: Instant) {
        self.stranger = false;
        self.heard_at = now;
    }

    /// The peer asked for what it has acknowledged before.
    pub(crate) fn forgotten(&mut self) {
        self.stranger = true;
    }

    /// The peer said something else.
    pub(crate) fn heard(&mut self, now: Instant) {
        if !self.stranger {
            self.heard_at = now;
        }
    }

    /// For how long the peer has been silent. `data` counts its data packets, wrapping.
    pub(crate) fn silent_for(&mut self, now: Instant, data: u32) -> Duration {
        if std::mem::replace(&mut self.data_seen, data) != data {
            self.heard(now);
        }
        now.since(self.heard_at)
    }

    /// As it looks from outside. What is too many bytes, the caller knows.
    pub(crate) fn state(&self) -> TxFlowState {
        let span = self.span();
        TxFlowState {
            peer: self.peer,
            next: self.next,
            throttled: false,
            nacked: self.closed == Closed::Throttled,
            dead: self.closed == Closed::Dead,
            bytes: self.bytes,
            replays: span.saturating_sub(self.acked_ahead.into()),
            outstanding: (span > 0).then(|| (self.base, self.base.plus(span - 1))),
        }
    }

    pub(crate) fn closed(&self) -> Closed {
        self.closed
    }

    pub(crate) fn open(&mut self, window: u32) {
        self.closed = Closed::No;
        self.room = window.saturating_sub(1);
    }

    pub(crate) fn close(&mut self, closed: Closed) {
        self.closed = closed;
        self.room = 0;
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
    /// Whether an ACK from this packet on, counted from the oldest outstanding one, can be an answer to the ping on its way.
    fn is_answer(&self, from: u32) -> bool {
        self.base.plus(from).distance_from(self.asked.start) < self.asked.count
    }

    /// Whether packets are acknowledged with earlier ones that aren't.
    pub(crate) fn has_gap(&self) -> bool {
        self.acked_ahead > 0
    }

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

    /// Marks packets as acknowledged and gives those that weren't to `released`; their number, and when the newest
    /// of them was sent, if that was once only.
    pub(crate) fn acknowledge<P>(
        &mut self,
        id: FlowId,
        window: u32,
        pool: &mut ReplayPool<P>,
        (from, to): (u32, u32),
        now: Instant,
        released: &mut VecDeque<P>,
    ) -> (u32, Option<Instant>) {
        let (base, end) = (self.base, self.base.plus(to));
        let soonest = Duration::from_nanos(u64::from(self.soonest) * 64);
        let (mut fresh, mut took, mut in_vain) = (0, None, false);
        let mut at = from;
        while at < to {
            let Some(entry) = pool.get_mut(id, base.plus(at)) else { break };
            match entry.packet.take() {
                Some(packet) => {
                    released.push_back(packet);
                    self.bytes -= entry.bytes.min(self.bytes);
                    self.latest = self.latest.max(entry.sent);
                    took = (entry.resends == 0).then_some(entry.sent);
                    // So soon no answer comes to what was sent again: it is one to what was sent before.
                    in_vain |= entry.resends == 1 && now.since(entry.sent) < soonest;
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
            return (0, None);
        }
        // A ping's answer tells of what has been there for long, after an earlier ACK was lost.
        if in_vain && !self.is_answer(from) {
            self.sent_in_vain();
        }
        if let Some(sent) = took {
            self.soonest = self.soonest.min(u16::try_from(now.since(sent).as_nanos() / 64).unwrap_or(u16::MAX));
        }
        if self.acked_ahead == 0 || self.high.is_before(end) {
            self.high = end;
        }
        // No more than the window.
        self.acked_ahead += fresh as u16;
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
            self.open(window);
        }
        (fresh, took)
    }

    /// Takes a NACK's packets to be sent again, unless they were a moment ago; `guard` is that moment, and doubles with each
    /// time, up to `longest`. Gives how many of the range are unacknowledged and calls `queue` with the PSN of each to be sent.
    pub(crate) fn refused<P>(
        &mut self,
        id: FlowId,
        pool: &mut ReplayPool<P>,
        (from, to): (u32, u32),
        now: Instant,
        (guard, longest): (Duration, Duration),
        mut queue: impl FnMut(Psn),
    ) -> u32 {
        let mut missing = 0;
        for at in from..to {
            let psn = self.base.plus(at);
            let Some(entry) = pool.get_mut(id, psn).filter(|entry| entry.packet.is_some()) else { continue };
            missing += 1;
            let moment = (guard / 2).saturating_mul(1 << entry.resends.min(16)).min(longest);
            let rests = entry.resends > 0 && now.since(entry.sent) < moment;
            if !entry.queued && !rests {
                entry.queued = true;
                queue(psn);
            }
        }
        if missing > 0 {
            if self.closed == Closed::No {
                self.close(Closed::Throttled);
            }
            let end = self.base.plus(to);
            if self.recover.is_before(end) || !self.base.is_before(self.recover) {
                self.recover = end;
            }
        }
        missing
    }

    /// The least reordering that is allowed for, if any.
    pub(crate) fn reorder_step(&self) -> Option<Duration> {
        let step = self.rtt.smoothed().unwrap_or(UNKNOWN_RTT) / 4;
        (self.reordering > 0).then_some(step.clamp(Duration::from_micros(1), Duration::from_millis(1)))
    }

    /// How long a packet may be overtaken before it counts as lost.
    fn reorder_window(&self) -> Duration {
        self.reorder_step().map_or(Duration::ZERO, |step| step * (1 << (self.reordering - 1)))
    }

    /// A packet that was sent again had arrived the first time, late: gaps must be given more time.
    fn sent_in_vain(&mut self) {
        // All of one round count once.
        if std::mem::take(&mut self.steady) > 0 {
            self.reordering = (self.reordering + 1).min(WIDEST);
        }
    }

    /// Looks for packets that were lost: ones before an acknowledged packet that was sent after them (as RFC 8985 does for TCP).
    /// At most `limit` unacknowledged ones are looked at.
    pub(crate) fn find_losses<P>(
        &mut self,
        id: FlowId,
        pool: &mut ReplayPool<P>,
        now: Instant,
        limit: u32,
        mut queue: impl FnMut(Psn),
    ) -> Losses {
        if self.acked_ahead == 0 {
            return Losses::default();
        }
        let window = self.reorder_window();
        let patience = window + self.rtt.late().unwrap_or(UNKNOWN_RTT);
        let (end, mut looked, mut at, mut losses) = (self.high.distance_from(self.base), 0, 0, Losses::default());
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
                losses.found = true;
            } else {
                let then = entry.sent + patience;
                losses.look_again = Some(losses.look_again.map_or(then, |earlier| earlier.min(then)));
            }
        }
        if losses.found {
            self.steady += 1;
            if self.steady == STEADY {
                (self.reordering, self.steady) = (self.reordering.saturating_sub(1), 1);
            }
        }
        losses
    }

    /// Gives every packet back.
    pub(crate) fn abandon<P>(&mut self, id: FlowId, pool: &mut ReplayPool<P>, released: &mut VecDeque<P>) {
        for at in 0..self.span() {
            released.extend(pool.remove(id, self.base.plus(at)).flatten());
        }
        self.base = self.next;
        self.bytes = 0;
        self.acked_ahead = 0;
        self.close(Closed::Dead);
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
