//! The sending half: replay entries, ACK and NACK handling, pings and their timers.

use crate::tx_flow::{Ping, Span, TxFlow};
use crate::{Config, Counters, Event, SendError};
use opx_defs::time::Instant;
use opx_defs::units::Psn;
use opx_defs::wire::OPX_HEADER_BYTES;
use opx_defs::wire::opx::{FlowKey, Origin, Ud, UdOp};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// The least time between two sendings of one packet: answers that are on their way already must not cause a third.
const REPLAY_GUARD: Duration = Duration::from_micros(10);

#[derive(Debug)]
pub(crate) struct Sender<P> {
    me: Origin,
    first: Psn,
    by_peer: HashMap<Origin, usize>,
    flows: Vec<TxFlow<P>>,
    /// When to ping which flow. Only flows with something outstanding are here, each at most once.
    timers: BTreeSet<(Instant, usize)>,
    /// Flows whose turn to ping has come, in order.
    pings: VecDeque<usize>,
    pings_left: u32,
    refill_at: Instant,
    /// Packets to be sent again.
    replays: VecDeque<(usize, Psn)>,
    pub(crate) released: VecDeque<P>,
    /// Flows with something outstanding.
    flows_busy: usize,
}

impl<P> Sender<P> {
    pub(crate) fn new(me: Origin, first: Psn) -> Self {
        Self {
            me,
            first,
            by_peer: HashMap::new(),
            flows: Vec::new(),
            timers: BTreeSet::new(),
            pings: VecDeque::new(),
            pings_left: 0,
            refill_at: Instant::ZERO,
            replays: VecDeque::new(),
            released: VecDeque::new(),
            flows_busy: 0,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.flows_busy == 0
    }

    pub(crate) fn outstanding(&self, peer: Origin) -> u64 {
        self.by_peer.get(&peer).and_then(|index| self.flows.get(*index)).map_or(0, |flow| flow.bytes)
    }

    pub(crate) fn send(
        &mut self,
        config: &Config,
        counters: &mut Counters,
        now: Instant,
        peer: Origin,
        payload_bytes: u32,
        make: impl FnOnce(Psn) -> P,
    ) -> Result<Psn, SendError> {
        let index = match self.by_peer.get(&peer) {
            Some(index) => *index,
            None if self.flows.len() as u64 >= u64::from(config.max_flows) => {
                return Err(SendError::TooManyPeers { limit: config.max_flows });
            }
            None => {
                self.flows.push(TxFlow::new(peer, self.first));
                self.by_peer.insert(peer, self.flows.len() - 1);
                self.flows.len() - 1
            }
        };
        let Some(flow) = self.flows.get_mut(index) else {
            return Err(SendError::TooManyPeers { limit: config.max_flows });
        };
        if flow.dead {
            return Err(SendError::Unreachable { peer });
        }
        let refusal = if flow.throttled {
            counters.throttled_nacks += 1;
            Some(SendError::Throttled)
        } else if flow.bytes > u64::from(config.max_outstanding_bytes) {
            counters.throttled_max_outstanding += 1;
            Some(SendError::OutstandingBytes)
        } else if flow.span() >= config.window {
            Some(SendError::Window)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            counters.throttled += 1;
            return Err(refusal);
        }
        let psn = flow.next;
        let was_empty = flow.is_empty();
        flow.push(payload_bytes.saturating_add(OPX_HEADER_BYTES as u32), make(psn));
        if was_empty {
            flow.progress_at = now;
            flow.unanswered = 0;
            flow.last_ping = None;
            self.flows_busy += 1;
            let wait = flow.rtt.wait(0, config.ping_interval, config.max_ping_interval);
            self.arm(index, now + wait);
        }
        Ok(psn)
    }

    /// Sets the time of a flow's next ping; a flow that waits for its turn keeps it.
    fn arm(&mut self, index: usize, at: Instant) {
        self.disarm(index);
        if let Some(flow) = self.flows.get_mut(index).filter(|flow| !flow.ping_queued) {
            flow.due = Some(at);
            self.timers.insert((at, index));
        }
    }

    fn disarm(&mut self, index: usize) {
        if let Some(due) = self.flows.get_mut(index).and_then(|flow| flow.due.take()) {
            self.timers.remove(&(due, index));
        }
    }

    fn queue_ping(&mut self, index: usize) {
        self.disarm(index);
        if let Some(flow) = self.flows.get_mut(index).filter(|flow| !flow.ping_queued) {
            flow.ping_queued = true;
            self.pings.push_back(index);
        }
    }

    /// An ACK or NACK for the flow to `peer`.
    pub(crate) fn on_answer(&mut self, config: &Config, counters: &mut Counters, now: Instant, peer: Origin, ud: &Ud) {
        let ignored = match ud.op {
            UdOp::Nack => {
                counters.nacks_received += 1;
                &mut counters.nacks_ignored
            }
            _ => {
                counters.acks_received += 1;
                &mut counters.acks_ignored
            }
        };
        let found = self.by_peer.get(&peer).copied().and_then(|i| Some((i, self.flows.get_mut(i)?)));
        let Some((index, flow)) = found else {
            *ignored += 1;
            return;
        };
        let Span::Within(from, to) = flow.place(ud.start, ud.count) else {
            *ignored += 1;
            return;
        };
        // Only the answer to the one ping on its way tells the time that an answer takes.
        let asked = flow.last_ping;
        if let Some(ping) = asked
            && flow.unanswered == 1
            && ping.start == ud.start
        {
            flow.rtt.sample(now.since(ping.at));
        }
        let guard = flow.rtt.smoothed().unwrap_or(config.ping_interval).clamp(REPLAY_GUARD, config.ping_interval);
        let wait = |flow: &TxFlow<P>| flow.rtt.wait(0, config.ping_interval, config.max_ping_interval);
        let replays = &mut self.replays;

        if ud.op == UdOp::Nack {
            let missing =
                flow.replay((from, to), config.max_replays_per_nack, now, guard, |psn| replays.push_back((index, psn)));
            if missing == 0 {
                *ignored += 1;
                return;
            }
            flow.throttled = true;
            // Only an answer to a ping moves the next one: a peer that sends NACKs all the time must not put it off for ever.
            if std::mem::take(&mut flow.unanswered) > 0 {
                let wait = wait(flow);
                self.arm(index, now + wait);
            }
            return;
        }

        // When we asked about a range and get an ACK for the middle of it, what is before is lost or late: no need to wait
        // for a NACK. Without having asked, an earlier ACK may be lost instead. The first entry is never acknowledged, so
        // `from` > 0 means that there is a gap.
        let in_answer = asked.is_some_and(|ping| (1..ping.count).contains(&ud.start.distance_from(ping.start)));
        if from > 0 && in_answer {
            let unasked = &mut counters.replays_unasked;
            flow.replay((0, from), config.max_replays_per_nack, now, guard, |psn| {
                *unasked += 1;
                replays.push_back((index, psn));
            });
        }
        if flow.acknowledge(from, to, &mut self.released) == 0 {
            *ignored += 1;
            return;
        }
        flow.progress_at = now;
        flow.unanswered = 0;
        if flow.is_empty() {
            self.flows_busy = self.flows_busy.saturating_sub(1);
            self.disarm(index);
        } else if flow.has_hole() && asked.is_some_and(|ping| ping.start != flow.base()) {
            // Right behind the replays, so that the next gap shows after one round trip. Only when the question is a new one:
            // a peer swallows repeats.
            self.queue_ping(index);
        } else {
            let wait = wait(flow);
            self.arm(index, now + wait);
        }
    }

    /// Whether there is a packet to be sent again; it is [`Sender::next_replay`] then.
    pub(crate) fn has_replay(&mut self, now: Instant) -> bool {
        while let Some((index, psn)) = self.replays.front().copied() {
            if self.flows.get_mut(index).is_some_and(|flow| flow.take_replay(psn, now)) {
                return true;
            }
            self.replays.pop_front();
        }
        false
    }

    /// The packet that [`Sender::has_replay`] found.
    pub(crate) fn next_replay(&mut self) -> Option<(Origin, Psn, &P)> {
        let (index, psn) = self.replays.pop_front()?;
        let flow = self.flows.get(index)?;
        Some((flow.peer, psn, flow.packet(psn)?))
    }

    /// The next ping whose turn has come.
    pub(crate) fn next_ping(&mut self, config: &Config, now: Instant) -> Option<(Origin, Ud)> {
        if now >= self.refill_at {
            // OPX does the same: once a round doesn't get through, few pings a tick until one does.
            let congested = self.pings_left == 0 && !self.pings.is_empty() && self.refill_at != Instant::ZERO;
            self.pings_left = if congested { config.max_congested_pings } else { config.max_uncongested_pings };
            self.refill_at = now + config.ping_interval;
        }
        while self.pings_left > 0 {
            let index = self.pings.pop_front()?;
            let Some(flow) = self.flows.get_mut(index) else { continue };
            flow.ping_queued = false;
            if flow.is_empty() {
                continue;
            }
            let (start, count) = flow.ping_range();
            flow.last_ping = Some(Ping { start, count, at: now });
            let peer = flow.peer;
            let wait = flow.rtt.wait(flow.unanswered, config.ping_interval, config.max_ping_interval);
            flow.unanswered = flow.unanswered.saturating_add(1);
            self.pings_left -= 1;
            self.arm(index, now + wait);
            let key = FlowKey { slid: self.me.lid, dlid: peer.lid, src_rx: self.me.rx, dst_rx: peer.rx };
            return Some((peer, Ud { op: UdOp::Ping, key, start, count }));
        }
        None
    }

    /// The next thing that only time brings. Packets that could be sent now aren't: those are fetched without a timer.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let refill = (self.pings_left == 0 && !self.pings.is_empty()).then_some(self.refill_at);
        timer.into_iter().chain(refill).min()
    }

    pub(crate) fn on_timeout(&mut self, config: &Config, counters: &mut Counters, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some((at, index)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            self.timers.remove(&(at, index));
            let Some(flow) = self.flows.get_mut(index) else { continue };
            flow.due = None;
            if now.since(flow.progress_at) < config.give_up_after {
                self.queue_ping(index);
                continue;
            }
            let (peer, unacked) = (flow.peer, flow.span());
            flow.abandon(&mut self.released);
            self.flows_busy = self.flows_busy.saturating_sub(1);
            counters.peers_given_up += 1;
            events.push(Event::PeerUnreachable { peer, unacked });
        }
        events
    }
}
