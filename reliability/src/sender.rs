//! The sending half: replay entries, ACK and NACK handling, pings and their timers.

use crate::peers::{FlowId, Peers, push};
use crate::replay::ReplayPool;
use crate::timers::Timers;
use crate::tx_flow::{Closed, Losses, Ping, Span, TxFlow};
use crate::{Config, Counters, Event, SendError, TxFlowState};
use opx_defs::time::Instant;
use opx_defs::units::Psn;
use opx_defs::wire::OPX_HEADER_BYTES;
use opx_defs::wire::opx::{FlowKey, Origin, Ud, UdOp};
use std::collections::VecDeque;
use std::time::Duration;

/// The least time between two sendings of one packet for a NACK: answers that are on their way already must not cause a third.
const REPLAY_GUARD: Duration = Duration::from_micros(10);

/// A peer that answers so many pings in a row with a NACK alone has no room for packets, and is asked ever more slowly.
const FEW_REFUSALS: u8 = 4;

/// Whether packets can go anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    Down {
        since: Instant,
    },
    /// Down for too long; what was outstanding then was given up.
    Lost,
}

#[derive(Debug)]
pub(crate) struct Sender<P> {
    me: Origin,
    first: Psn,
    peers: Peers,
    flows: Vec<TxFlow>,
    pool: ReplayPool<P>,
    /// When to look at which flow. Only flows with something outstanding are here, and not those in `pings`.
    timers: Timers,
    /// Flows whose turn to ping has come, in order.
    pings: VecDeque<FlowId>,
    pings_left: u32,
    refill_at: Instant,
    /// A ping couldn't be sent, and there were always others waiting since.
    congested: bool,
    /// Packets to be sent again.
    replays: VecDeque<(FlowId, Psn)>,
    pub(crate) released: VecDeque<P>,
    /// Flows with something outstanding.
    flows_busy: u32,
    link: Link,
    /// How long the link has been down altogether: peers aren't blamed for that.
    downtime: Duration,
}

impl<P> Sender<P> {
    pub(crate) fn new(config: &Config, me: Origin, first: Psn) -> Self {
        Self {
            me,
            first,
            peers: Peers::new(),
            flows: Vec::new(),
            pool: ReplayPool::new(config.replay_pool),
            timers: Timers::new(config.replay_pool),
            pings: VecDeque::new(),
            pings_left: 0,
            refill_at: Instant::ZERO,
            congested: false,
            replays: VecDeque::with_capacity(config.max_replays_per_nack as usize),
            released: VecDeque::with_capacity(config.replay_pool as usize),
            flows_busy: 0,
            link: Link::Up,
            downtime: Duration::ZERO,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.flows_busy == 0
    }

    pub(crate) fn outstanding(&self, peer: Origin) -> u64 {
        self.peers.find(peer).and_then(|id| self.flows.get(id as usize)).map_or(0, |flow| flow.bytes.into())
    }

    /// Whether a packet and all before it are acknowledged.
    pub(crate) fn has_acknowledged(&self, peer: Origin, psn: Psn) -> bool {
        let flow = self.peers.find(peer).and_then(|id| self.flows.get(id as usize));
        flow.is_some_and(|flow| psn.is_before(flow.base))
    }

    pub(crate) fn replays_in_use(&self) -> u32 {
        self.pool.used()
    }

    pub(crate) fn flow_count(&self) -> usize {
        self.flows.len()
    }

    pub(crate) fn flow_states(&self) -> impl Iterator<Item = TxFlowState> + '_ {
        self.flows.iter().map(TxFlow::state)
    }

    #[inline(always)]
    pub(crate) fn send(
        &mut self,
        config: &Config,
        counters: &mut Counters,
        now: Instant,
        peer: Origin,
        payload_bytes: u32,
        make: impl FnOnce(Psn) -> P,
    ) -> Result<Psn, SendError> {
        // What nearly every packet is: one of a flow that has others outstanding, and room for more.
        if let Some(id) = self.peers.find(peer)
            && let Some(flow) = self.flows.get_mut(id as usize)
            // Not 0, and below the window; no window when the flow is closed.
            && flow.span().wrapping_sub(1) < flow.room
            && flow.bytes <= config.max_outstanding_bytes
            // No share is left when the pool is used up.
            && flow.span() < self.pool.share()
        {
            let psn = flow.next;
            // A packet is 10 KiB at most, and the limit of bytes far from the end of the integer.
            let bytes = payload_bytes.wrapping_add(OPX_HEADER_BYTES as u32);
            flow.next = psn.next();
            flow.bytes = flow.bytes.wrapping_add(bytes);
            self.pool.insert(id, psn, now, bytes, make);
            return Ok(psn);
        }
        self.send_first(config, counters, now, peer, payload_bytes, make)
    }

    /// Sends a packet of a flow that has none outstanding, or refuses to.
    #[inline(never)]
    fn send_first(
        &mut self,
        config: &Config,
        counters: &mut Counters,
        now: Instant,
        peer: Origin,
        payload_bytes: u32,
        make: impl FnOnce(Psn) -> P,
    ) -> Result<Psn, SendError> {
        let id = match self.peers.find(peer).filter(|id| (*id as usize) < self.flows.len()) {
            Some(id) => id,
            None => self.add_flow(config, peer)?,
        };
        let up_now = self.up_clock(now);
        let Some(flow) = self.flows.get_mut(id as usize).filter(|flow| flow.is_empty()) else {
            return Err(self.refuse(config, counters, id));
        };
        if flow.closed() != Closed::No || !self.pool.has_room() || self.link == Link::Lost {
            return Err(self.refuse(config, counters, id));
        }
        let psn = flow.next;
        let bytes = payload_bytes.saturating_add(OPX_HEADER_BYTES as u32);
        flow.next = psn.next();
        flow.bytes = bytes;
        flow.begin(up_now);
        if config.first_packet_alone && psn == self.first {
            flow.close(Closed::First)
        } else {
            flow.open(config.window)
        }
        self.pool.insert(id, psn, now, bytes, make);
        self.flows_busy += 1;
        self.arm(config, id, now);
        Ok(psn)
    }

    #[cold]
    fn add_flow(&mut self, config: &Config, peer: Origin) -> Result<FlowId, SendError> {
        let id = self.flows.len() as u32;
        if id >= config.max_flows {
            return Err(SendError::TooManyPeers { limit: config.max_flows });
        }
        push(&mut self.flows, TxFlow::new(peer, self.first, config.window));
        self.timers.add_flow();
        self.peers.insert(peer, id);
        Ok(id)
    }

    #[cold]
    fn refuse(&self, config: &Config, counters: &mut Counters, id: FlowId) -> SendError {
        let Some(flow) = self.flows.get(id as usize) else { return SendError::Window };
        if flow.closed() == Closed::Dead {
            return SendError::Unreachable { peer: flow.peer };
        }
        if self.link == Link::Lost {
            return SendError::LinkDown;
        }
        counters.throttled += 1;
        if flow.closed() == Closed::Throttled {
            counters.throttled_nacks += 1;
            SendError::Throttled
        } else if flow.bytes > config.max_outstanding_bytes {
            counters.throttled_max_outstanding += 1;
            SendError::OutstandingBytes
        } else if !self.pool.has_room() || flow.span() >= self.pool.share().max(1) {
            counters.throttled_replay_pool += 1;
            SendError::ReplayPool
        } else {
            SendError::Window
        }
    }

    /// A clock that stands still while the link is down.
    fn up_clock(&self, now: Instant) -> Instant {
        let down_now = if let Link::Down { since } = self.link { now.since(since) } else { Duration::ZERO };
        Instant::ZERO + now.since(Instant::ZERO + self.downtime + down_now)
    }

    /// Sets the time of a flow's next ping, counted from `now`; a flow that waits for its turn keeps it.
    fn arm(&mut self, config: &Config, id: FlowId, now: Instant) {
        if let Some(flow) = self.flows.get_mut(id as usize).filter(|flow| !flow.ping_queued) {
            flow.gap_timer = false;
            let wait = flow.rtt.before_asking(config.min_ping_interval, config.ping_interval, config.max_ping_interval);
            let doubled = flow.refusals.saturating_sub(FEW_REFUSALS).min(16);
            self.timers.set(id, now + wait.saturating_mul(1 << doubled).min(config.max_ping_interval));
        }
    }

    fn queue_ping(&mut self, id: FlowId) {
        self.timers.clear(id);
        if let Some(flow) = self.flows.get_mut(id as usize).filter(|flow| !flow.ping_queued) {
            flow.ping_queued = true;
            self.pings.push_back(id);
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
        let up_now = self.up_clock(now);
        let Some(id) = self.peers.find(peer) else {
            *ignored += 1;
            return;
        };
        let Some(flow) = self.flows.get_mut(id as usize) else { return };
        let (from, to) = match flow.place(ud.start, ud.count) {
            Span::Within(from, to) => (from, to),
            span => {
                match (span, ud.op) {
                    (Span::Stale, UdOp::Nack) => flow.forgotten(),
                    (Span::Stale, _) => flow.heard(up_now),
                    _ => {}
                }
                *ignored += 1;
                return;
            }
        };
        flow.answered(up_now);
        // Only the answer to the one ping on its way tells the time that an answer takes.
        let asked = (flow.asked.count > 0).then_some(flow.asked);
        let answered = asked.is_some_and(|ping| ping.start == ud.start);
        if let Some(ping) = asked.filter(|_| answered && flow.unanswered == 1) {
            flow.rtt.sample(now.since(ping.at));
        }
        let replays = &mut self.replays;

        if ud.op == UdOp::Nack {
            let guard = flow.rtt.smoothed().unwrap_or(config.ping_interval);
            let guard = guard.clamp(REPLAY_GUARD, config.ping_interval.max(REPLAY_GUARD));
            let to = to.min(from.saturating_add(config.max_replays_per_nack));
            let queue = |psn| replays.push_back((id, psn));
            let guard = (guard, config.max_ping_interval);
            if flow.refused(id, &mut self.pool, (from, to), now, guard, queue) == 0 {
                *ignored += 1;
                return;
            }
            // Only an answer to a ping moves the next one: a peer that sends NACKs all the time must not put it off for ever.
            if std::mem::take(&mut flow.unanswered) > 0 {
                flow.refusals = flow.refusals.saturating_add(1);
                self.arm(config, id, now);
            }
            return;
        }

        let had_gap = flow.has_gap();
        let (fresh, took) = flow.acknowledge(id, config.window, &mut self.pool, (from, to), now, &mut self.released);
        if fresh == 0 {
            *ignored += 1;
            return;
        }
        // An ACK that nobody asked for is sent when its last packet comes.
        if let Some(sent) = took.filter(|sent| !had_gap && asked.is_none_or(|ping| ping.at < *sent)) {
            flow.rtt.sample(now.since(sent));
        }
        (flow.unanswered, flow.refusals) = (0, 0);
        if flow.is_empty() {
            self.flows_busy = self.flows_busy.saturating_sub(1);
            self.timers.clear(id);
            return;
        }
        let in_answer = asked.is_some_and(|ping| ud.start.distance_from(ping.start) < ping.count);
        let gap = flow.has_gap();
        // Where packets overtake each other, so do ACKs: the one for what came before the gap may follow.
        let losses = match flow.reorder_step().filter(|_| gap && !had_gap) {
            Some(step) => Losses { found: false, look_again: Some(now + step) },
            None => self.find_losses(config, counters, id, now),
        };
        if gap && in_answer && losses.look_again.is_none() && self.asks_anew(id) {
            self.queue_ping(id);
        } else {
            self.arm(config, id, now);
            self.look_again(id, losses.look_again);
        }
    }

    /// Whether a ping right behind the replays shows the next gap after one round trip. Only when the question is a new one: a
    /// peer swallows repeats.
    fn asks_anew(&self, id: FlowId) -> bool {
        self.flows.get(id as usize).is_some_and(|flow| flow.asked.count > 0 && flow.asked.start != flow.base)
    }

    /// Has what is lost by now sent again.
    fn find_losses(&mut self, config: &Config, counters: &mut Counters, id: FlowId, now: Instant) -> Losses {
        let replays = &mut self.replays;
        let Some(flow) = self.flows.get_mut(id as usize) else { return Losses::default() };
        flow.find_losses(id, &mut self.pool, now, config.max_replays_per_nack, |psn| {
            counters.replays_unasked += 1;
            replays.push_back((id, psn));
        })
    }

    fn look_again(&mut self, id: FlowId, at: Option<Instant>) {
        if let (Some(at), Some(flow)) = (at, self.flows.get_mut(id as usize).filter(|flow| !flow.ping_queued)) {
            flow.gap_timer = true;
            self.timers.set(id, at);
        }
    }

    /// Whether there is a packet to be sent again; it is [`Sender::next_replay`] then.
    pub(crate) fn has_replay(&mut self, now: Instant) -> bool {
        while let Some((id, psn)) = self.replays.front().copied() {
            if let Some(entry) = self.pool.get_mut(id, psn)
                && std::mem::take(&mut entry.queued)
                && entry.packet.is_some()
            {
                entry.sent = now;
                entry.resends = entry.resends.saturating_add(1);
                return true;
            }
            // Acknowledged since.
            self.replays.pop_front();
        }
        false
    }

    /// The packet that [`Sender::has_replay`] found.
    pub(crate) fn next_replay(&mut self) -> Option<(Origin, Psn, &P)> {
        let (id, psn) = self.replays.pop_front()?;
        let peer = self.flows.get(id as usize)?.peer;
        Some((peer, psn, self.pool.get(id, psn)?.packet.as_ref()?))
    }

    #[inline]
    pub(crate) fn has_something(&self) -> bool {
        !self.released.is_empty() || !self.replays.is_empty() || self.pings_left > 0 && !self.pings.is_empty()
    }

    /// The next ping whose turn has come.
    pub(crate) fn next_ping(&mut self, config: &Config, now: Instant) -> Option<(Origin, Ud)> {
        if now >= self.refill_at {
            self.pings_left = if self.congested { config.max_congested_pings } else { config.max_uncongested_pings };
            self.refill_at = now + config.ping_interval;
        }
        while self.pings_left > 0 {
            let Some(id) = self.pings.pop_front() else {
                self.congested = false;
                return None;
            };
            let Some(flow) = self.flows.get_mut(id as usize) else { continue };
            flow.ping_queued = false;
            if flow.is_empty() {
                continue;
            }
            let (start, count) = flow.ping_range();
            flow.asked = Ping { start, count, at: now };
            flow.gap_timer = false;
            let peer = flow.peer;
            let wait = flow.rtt.after_asking(flow.unanswered, config.ping_interval, config.max_ping_interval);
            flow.unanswered = flow.unanswered.saturating_add(1);
            self.pings_left -= 1;
            self.timers.set(id, now + wait);
            let key = FlowKey { slid: self.me.lid, dlid: peer.lid, src_rx: self.me.rx, dst_rx: peer.rx };
            return Some((peer, Ud { op: UdOp::Ping, key, start, count }));
        }
        None
    }

    /// A ping of this moment couldn't be sent: no more of them now, and few at a time until none waits
    /// (`fi_opx_reliability.c:fi_reliability_service_ping_remote`).
    pub(crate) fn ping_lost(&mut self) {
        self.congested = true;
        self.pings_left = 0;
    }

    #[inline(always)]
    pub(crate) fn first_timer(&self) -> Instant {
        self.timers.earliest()
    }

    /// The next thing that only time brings. Packets that could be sent now aren't: those are fetched without a timer.
    pub(crate) fn poll_timeout(&self, config: &Config) -> Option<Instant> {
        match self.link {
            Link::Up => {
                let timer = self.timers.first().map(|(at, _)| at);
                let refill = (self.pings_left == 0 && !self.pings.is_empty()).then_some(self.refill_at);
                crate::sooner(timer, refill)
            }
            Link::Down { since } => Some(since + config.link_down_wait),
            Link::Lost => None,
        }
    }

    /// A ping came from a peer: it lives.
    pub(crate) fn on_ping(&mut self, now: Instant, peer: Origin) {
        let up_now = self.up_clock(now);
        if let Some(flow) = self.peers.find(peer).and_then(|id| self.flows.get_mut(id as usize)) {
            flow.heard(up_now);
        }
    }

    /// Does what is due. `data_from` counts the data packets that came from a peer, wrapping.
    pub(crate) fn on_timeout(
        &mut self,
        config: &Config,
        counters: &mut Counters,
        now: Instant,
        events: &mut VecDeque<Event>,
        data_from: impl Fn(Origin) -> u32,
    ) {
        match self.link {
            Link::Up => {}
            Link::Down { since } if now.since(since) >= config.link_down_wait => {
                return self.lose_link(counters, now, events);
            }
            Link::Down { .. } | Link::Lost => return,
        }
        let up_now = self.up_clock(now);
        while let Some((at, id)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.clear(id);
            let Some(flow) = self.flows.get_mut(id as usize) else { continue };
            if flow.silent_for(up_now, data_from(flow.peer)) >= config.give_up_after {
                self.give_up(counters, id, events);
            } else if std::mem::take(&mut flow.gap_timer) {
                let losses = self.find_losses(config, counters, id, now);
                if losses.found && self.asks_anew(id) {
                    self.queue_ping(id);
                } else {
                    self.arm(config, id, now);
                    self.look_again(id, losses.look_again);
                }
            } else {
                self.queue_ping(id);
            }
        }
    }

    fn give_up(&mut self, counters: &mut Counters, id: FlowId, events: &mut VecDeque<Event>) {
        let Some(flow) = self.flows.get_mut(id as usize) else { return };
        let (peer, unacked) = (flow.peer, flow.span());
        flow.abandon(id, &mut self.pool, &mut self.released);
        self.flows_busy = self.flows_busy.saturating_sub(1);
        counters.peers_given_up += 1;
        events.push_back(Event::PeerUnreachable { peer, unacked });
    }

    pub(crate) fn link_is_up(&self) -> bool {
        self.link == Link::Up
    }

    pub(crate) fn link_down(&mut self, now: Instant) {
        if self.link == Link::Up {
            self.link = Link::Down { since: now };
        }
    }

    pub(crate) fn link_up(&mut self, now: Instant) {
        if let Link::Down { since } = self.link {
            self.downtime += now.since(since);
        }
        // Timers that have run out meanwhile bring the pings that find out what was lost.
        self.link = Link::Up;
    }

    /// Gives up every flow with something outstanding: each is among the timers or waits to ping.
    fn lose_link(&mut self, counters: &mut Counters, now: Instant, events: &mut VecDeque<Event>) {
        if let Link::Down { since } = self.link {
            self.downtime += now.since(since);
        }
        self.link = Link::Lost;
        counters.links_lost += 1;
        events.push_back(Event::LinkLost);
        while let Some((_, id)) = self.timers.first() {
            self.timers.clear(id);
            self.give_up(counters, id, events);
        }
        while let Some(id) = self.pings.pop_front() {
            if let Some(flow) = self.flows.get_mut(id as usize) {
                flow.ping_queued = false;
                if !flow.is_empty() {
                    self.give_up(counters, id, events);
                }
            }
        }
    }
}
