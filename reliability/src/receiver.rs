//! The receiving half: what is expected, what is kept out of order, and what peers are told about it.

use crate::peers::{FlowId, Peers, push};
use crate::{Arrival, Config, Counters, DropReason, Event, RxFlowState, Verdict};
use opx_defs::time::Instant;
use opx_defs::units::Psn;
use opx_defs::wire::opx::{FlowKey, Origin, Ud, UdOp};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

const SPACE: u64 = Psn::SPACE as u64;
/// While a gap is open, its sender is told of every so many packets that come behind it, and of so many at a time.
const GAP_ACK_RATE: u64 = 8;
const GAP_ACK_MOST: u64 = 64;
/// Kept packets that are counted for one ping. More of them in a row are acknowledged by later answers.
const PING_ACK_MOST: usize = 256;
/// Answers that there is room for from the start.
const USUAL_ANSWERS: u32 = 64;
/// No sender has packets outstanding that are further apart than this: OPX can't, and [`Config::window`] can't be more.
const LONGEST_SPAN: u64 = 10239;

/// A packet that came before its turn.
#[derive(Debug)]
enum Held<Q> {
    /// It waits.
    Packet(Q),
    /// It was used at once; only its PSN waits.
    Applied,
}

/// A ping that was answered, for merging its repeats.
#[derive(Debug, Clone, Copy)]
struct Asked {
    start: Psn,
    count: u32,
    until: Instant,
    /// A repeat asked for more, so there will be another answer.
    again: bool,
}

#[derive(Debug)]
struct RxFlow<Q> {
    peer: Origin,
    /// The expected PSN, counted on without wrapping.
    next: u64,
    held: BTreeMap<u64, Held<Q>>,
    asked: Option<Asked>,
    /// Packets that didn't come as the next one, wrapping.
    others: u32,
    /// It was told that the peer's first packets don't come.
    reported: bool,
}

impl<Q> RxFlow<Q> {
    /// The kept packets around one of them without a gap, up to [`GAP_ACK_MOST`] each way.
    fn run_around(&self, psn: u64) -> Range<u64> {
        let before = self.held.range(psn.saturating_sub(GAP_ACK_MOST)..psn).rev();
        let behind = self.held.range(psn + 1..psn + GAP_ACK_MOST);
        let back = before.zip(1..).take_while(|((held, _), back)| **held == psn - back).count() as u64;
        let on = behind.zip(psn + 1..).take_while(|((held, _), want)| *held == want).count() as u64;
        psn - back..psn + 1 + on
    }
}

#[derive(Debug)]
pub(crate) struct Receiver<Q> {
    me: Origin,
    first: u64,
    /// PSNs with none of these bits set are acknowledged unasked.
    pre_ack_mask: u64,
    peers: Peers,
    flows: Vec<RxFlow<Q>>,
    /// Packets kept, the ones in `ready` included.
    held: usize,
    /// Packets whose turn has come.
    ready: VecDeque<(Origin, Q)>,
    /// Flows with a second answer to give, and when.
    ticks: VecDeque<(Instant, FlowId)>,
    /// ACKs and NACKs to be sent.
    answers: VecDeque<(Origin, Ud)>,
}

fn psn24(psn: u64) -> Psn {
    Psn::new((psn % SPACE) as u32)
}

/// The full PSN that `psn` stands for near `next`: ahead of it, or behind and not before the first one.
fn full_psn(next: u64, psn: Psn) -> Option<u64> {
    let ahead = u64::from(psn.distance_from(psn24(next)));
    if ahead < SPACE / 2 { next.checked_add(ahead) } else { next.checked_sub(SPACE - ahead) }
}

impl<Q> Receiver<Q> {
    pub(crate) fn new(config: &Config, me: Origin, first: u64) -> Self {
        Self {
            me,
            first,
            pre_ack_mask: config.pre_ack_mask(),
            peers: Peers::new(),
            flows: Vec::new(),
            held: 0,
            ready: VecDeque::new(),
            ticks: VecDeque::new(),
            // More is seldom needed at once, and what isn't there can't be allocated when the first answer is due.
            answers: VecDeque::with_capacity(config.max_answers.min(USUAL_ANSWERS) as usize),
        }
    }

    fn answer(&mut self, config: &Config, counters: &mut Counters, peer: Origin, op: UdOp, start: Psn, count: u64) {
        if self.answers.len() as u64 >= u64::from(config.max_answers) {
            counters.answers_dropped += 1;
            return;
        }
        *(if op == UdOp::Nack { &mut counters.nacks_sent } else { &mut counters.acks_sent }) += 1;
        // A range never goes past the highest PSN, where an OPX peer would stop reading it or abort.
        let count = u32::try_from(count).unwrap_or(u32::MAX).clamp(1, Ud::longest_from(start));
        let key = FlowKey { slid: peer.lid, dlid: self.me.lid, src_rx: peer.rx, dst_rx: self.me.rx };
        self.answers.push_back((peer, Ud { op, key, start, count }));
    }

    /// An unasked ACK of [from, to), in two where it spans the wrap.
    fn pre_ack(&mut self, config: &Config, counters: &mut Counters, peer: Origin, from: u64, to: u64) {
        let mut from = from;
        while from < to {
            let end = to.min((from / SPACE + 1) * SPACE);
            counters.acks_preemptive_sent += 1;
            self.answer(config, counters, peer, UdOp::Ack, psn24(from), end - from);
            from = end;
        }
    }

    pub(crate) fn flow_count(&self) -> usize {
        self.flows.len()
    }

    pub(crate) fn flow_states(&self) -> impl Iterator<Item = RxFlowState> + '_ {
        self.flows.iter().map(|flow| {
            let span = flow.held.first_key_value().zip(flow.held.last_key_value());
            let span = span.map(|((first, _), (last, _))| (*first, *last));
            RxFlowState { peer: flow.peer, next: flow.next, early: flow.held.len(), span }
        })
    }

    pub(crate) fn held(&self) -> usize {
        self.held
    }

    #[inline]
    pub(crate) fn has_answer(&self) -> bool {
        !self.answers.is_empty()
    }

    /// How many data packets came from a peer, roughly and wrapping: another number means that some did.
    pub(crate) fn data_from(&self, peer: Origin) -> u32 {
        let flow = self.peers.find(peer).and_then(|id| self.flows.get(id as usize));
        flow.map_or(0, |flow| (flow.next as u32).wrapping_add(flow.others))
    }

    pub(crate) fn next_answer(&mut self) -> Option<(Origin, Ud)> {
        self.answers.pop_front()
    }

    pub(crate) fn next_in_order(&mut self) -> Option<(Origin, Q)> {
        let packet = self.ready.pop_front()?;
        self.held = self.held.saturating_sub(1);
        Some(packet)
    }

    /// Where the PSN expected of the flow is counted, when this is the one: what nearly every packet is, with nothing waiting and
    /// no ACK due for it.
    #[inline(always)]
    pub(crate) fn turn_of(&mut self, origin: Origin, psn: Psn) -> Option<&mut u64> {
        let id = self.peers.find_again(origin)?;
        let flow = self.flows.get_mut(id as usize)?;
        let plain =
            psn == psn24(flow.next) && flow.held.len() | self.ready.len() == 0 && flow.next & self.pre_ack_mask != 0;
        plain.then_some(&mut flow.next)
    }

    #[inline(always)]
    pub(crate) fn on_data(
        &mut self,
        config: &Config,
        counters: &mut Counters,
        arrival: Arrival,
        hold: impl FnOnce() -> Option<Q>,
        events: &mut VecDeque<Event>,
    ) -> Verdict {
        let known = self.peers.find(arrival.origin);
        // What nearly every packet is: the next one of its flow, with nothing waiting.
        if let Some(id) = known
            && let Some(flow) = self.flows.get_mut(id as usize)
            && arrival.psn == psn24(flow.next)
            && flow.held.len() | self.ready.len() == 0
        {
            let psn = flow.next;
            flow.next = psn.wrapping_add(1);
            if psn & self.pre_ack_mask == 0 {
                self.ack_next(config, counters, (arrival.origin, psn), arrival.ack_req);
            } else if arrival.ack_req {
                self.ack_next(config, counters, (arrival.origin, psn), true);
            }
            return Verdict::Deliver;
        }
        let (verdict, event) = self.on_other_data(config, counters, known, arrival, hold);
        events.extend(event);
        verdict
    }

    /// A packet that is new, early, late or in the way.
    #[cold]
    #[inline(never)]
    fn on_other_data(
        &mut self,
        config: &Config,
        counters: &mut Counters,
        known: Option<FlowId>,
        arrival: Arrival,
        hold: impl FnOnce() -> Option<Q>,
    ) -> (Verdict, Option<Event>) {
        let Arrival { origin, psn, ack_req, early } = arrival;
        let known = known.filter(|id| (*id as usize) < self.flows.len());
        let next = match known.and_then(|id| self.flows.get_mut(id as usize)) {
            Some(flow) => {
                flow.others = flow.others.wrapping_add(1);
                flow.next
            }
            None => self.first,
        };
        let full = match full_psn(next, psn) {
            Some(full) if full < next => {
                counters.duplicates_received += 1;
                counters.acks_preemptive_sent += 1;
                self.answer(config, counters, origin, UdOp::Ack, psn, 1);
                return (Verdict::Duplicate, None);
            }
            Some(full) if full - next < u64::from(config.receive_window) => full,
            _ => {
                counters.dropped_out_of_window += 1;
                return (Verdict::Dropped(DropReason::OutOfWindow), None);
            }
        };
        // Only a packet that could be one of a flow's first makes a flow.
        let id = match known {
            Some(id) => id,
            None if self.flows.len() as u64 >= u64::from(config.max_flows) => {
                counters.dropped_too_many_flows += 1;
                return (Verdict::Dropped(DropReason::TooManyFlows), None);
            }
            None => {
                let flow =
                    RxFlow { peer: origin, next, held: BTreeMap::new(), asked: None, others: 0, reported: false };
                let id = self.flows.len() as FlowId;
                push(&mut self.flows, flow);
                self.peers.insert(origin, id);
                id
            }
        };
        let full_up = self.held as u64 >= u64::from(config.max_held);
        let Some(flow) = self.flows.get_mut(id as usize) else {
            return (Verdict::Dropped(DropReason::TooManyFlows), None);
        };
        if full > next {
            if flow.held.contains_key(&full) {
                counters.duplicates_received += 1;
                if config.selective_acks {
                    // What told of it was lost.
                    let run = flow.run_around(full);
                    self.pre_ack(config, counters, origin, run.start, run.end);
                }
                // OPX says nothing: the next ping gets an answer.
                return (Verdict::Duplicate, None);
            }
            let mut no_room = || {
                counters.dropped_no_room += 1;
                let report = flow.next == self.first && !std::mem::replace(&mut flow.reported, true);
                let event = report.then_some(Event::PeerOutOfStep { peer: origin });
                (Verdict::Dropped(DropReason::NoRoom), event)
            };
            if full_up || flow.held.len() as u64 >= u64::from(config.max_held_per_flow) {
                return no_room();
            }
            let (held, verdict) = if early {
                (Held::Applied, Verdict::ApplyEarly)
            } else {
                let Some(packet) = hold() else { return no_room() };
                (Held::Packet(packet), Verdict::Held)
            };
            *(if early { &mut counters.rzv_data_ooo } else { &mut counters.uepkt_received }) += 1;
            flow.held.insert(full, held);
            self.held += 1;
            if config.selective_acks {
                self.ack_behind_gap(config, counters, id, full);
            }
            return (verdict, None);
        }

        // Its turn. Packets that wait to be fetched go first, unless it doesn't matter.
        let verdict = if self.ready.is_empty() {
            Verdict::Deliver
        } else if early {
            Verdict::ApplyEarly
        } else {
            let Some(packet) = (if full_up { None } else { hold() }) else {
                counters.dropped_no_room += 1;
                return (Verdict::Dropped(DropReason::NoRoom), None);
            };
            self.held += 1;
            self.ready.push_back((origin, packet));
            Verdict::Held
        };
        flow.next += 1;
        let alone = flow.held.is_empty();
        while let Some(held) = flow.held.remove(&flow.next) {
            flow.next += 1;
            match held {
                Held::Packet(packet) => self.ready.push_back((origin, packet)),
                Held::Applied => self.held = self.held.saturating_sub(1),
            }
        }
        let next = flow.next;
        self.ack_unasked(config, counters, (origin, full, next), ack_req && alone);
        (verdict, None)
    }

    /// Tells a sender of a packet behind a gap, so that it can close the gap without asking: at once when the gap is new, or when
    /// the packet closes another one, then now and again.
    fn ack_behind_gap(&mut self, config: &Config, counters: &mut Counters, id: FlowId, psn: u64) {
        let Some(flow) = self.flows.get(id as usize) else { return };
        let (goes_on, closes) = (flow.held.contains_key(&(psn - 1)), flow.held.contains_key(&(psn + 1)));
        if goes_on && !closes && !psn.is_multiple_of(GAP_ACK_RATE) {
            return;
        }
        let this = flow.run_around(psn);
        // The run before it grew since that was told of, or what told of it was lost.
        let before = flow.held.range(..this.start).next_back().map(|(last, _)| flow.run_around(*last));
        let (peer, next) = (flow.peer, flow.next);
        // What came before the gaps, too, or it would look as if it were part of them.
        for run in [Some(self.all_before(next)..next), before, Some(this)].into_iter().flatten() {
            self.pre_ack(config, counters, peer, run.start, run.end);
        }
    }

    /// The first PSN of an ACK that says everything: all before `next`, as far as their sender can have them outstanding. So it
    /// doesn't matter when ACKs before it were lost.
    fn all_before(&self, next: u64) -> u64 {
        next.saturating_sub(LONGEST_SPAN).max(self.first)
    }

    #[cold]
    #[inline(never)]
    fn ack_next(&mut self, config: &Config, counters: &mut Counters, (peer, psn): (Origin, u64), ack_req: bool) {
        self.ack_unasked(config, counters, (peer, psn, psn + 1), ack_req);
    }

    /// ACKs without a ping, after packets `psn` to `next` were taken: at the pre-ACK rate, when asked for, or because a
    /// gap was filled and the sender waits for nothing else.
    fn ack_unasked(
        &mut self,
        config: &Config,
        counters: &mut Counters,
        (peer, psn, next): (Origin, u64, u64),
        ack_req: bool,
    ) {
        // The rate is a power of two.
        let (rate, low) = (u64::from(config.pre_ack_rate), psn % SPACE);
        let from = if next - psn > 1 {
            // From where the last ACK at the rate ended.
            let back = if rate == 0 || low == 0 { 0 } else { (low - 1) & (rate - 1) };
            psn.saturating_sub(back)
        } else if rate != 0 && low != 0 && low & (rate - 1) == 0 {
            (psn + 1).saturating_sub(rate)
        } else if ack_req {
            (psn + 1).saturating_sub(rate.min(low).max(1))
        } else {
            return;
        };
        let from = if config.selective_acks { self.all_before(next) } else { from };
        self.pre_ack(config, counters, peer, from, next);
    }

    /// A ping about the flow from `peer`.
    pub(crate) fn on_ping(&mut self, config: &Config, counters: &mut Counters, now: Instant, peer: Origin, ud: &Ud) {
        let Some(id) = self.peers.find(peer).filter(|id| (*id as usize) < self.flows.len()) else {
            return self.answer(config, counters, peer, UdOp::Nack, psn24(self.first), 1);
        };
        let Some(flow) = self.flows.get_mut(id as usize) else { return };
        if let Some(asked) = flow.asked.as_mut().filter(|asked| asked.start == ud.start && now < asked.until) {
            // Merged as OPX does: answered again at the tick, and only if a repeat asked for more.
            counters.pings_merged += 1;
            if ud.count > asked.count {
                asked.count = ud.count;
                if !asked.again && self.ticks.len() as u64 >= u64::from(config.max_answers) {
                    counters.answers_dropped += 1;
                } else if !std::mem::replace(&mut asked.again, true) {
                    self.ticks.push_back((asked.until, id));
                }
            }
            return;
        }
        let until = now + config.ping_interval;
        flow.asked = Some(Asked { start: ud.start, count: ud.count, until, again: false });
        self.answer_ping(config, counters, id, ud.start, ud.count);
    }

    fn answer_ping(&mut self, config: &Config, counters: &mut Counters, id: FlowId, start: Psn, count: u32) {
        let Some(flow) = self.flows.get(id as usize) else { return };
        let (peer, next) = (flow.peer, flow.next);
        if next == self.first {
            return self.answer(config, counters, peer, UdOp::Nack, psn24(self.first), 1);
        }
        let count = u64::from(count.min(Ud::longest_from(start)));
        let Some(from) = full_psn(next, start)
            .filter(|from| count > 0 && (*from <= next || *from - next <= u64::from(config.receive_window)))
        else {
            counters.pings_ignored += 1;
            return;
        };
        let to = from + count;
        // The first run of kept packets that begins in the range; it may end behind it.
        let run_start = flow.held.range(from..to).next().map(|(psn, _)| *psn);
        let run = run_start.map(|start| {
            let held = flow.held.range(start..).zip(start..).take(PING_ACK_MOST);
            let len = held.take_while(|((psn, _), want)| *psn == want).count();
            (start, len as u64)
        });
        if from < next {
            self.answer(config, counters, peer, UdOp::Ack, start, to.min(next) - from);
        }
        if let Some((start, len)) = run {
            self.answer(config, counters, peer, UdOp::Ack, psn24(start), len);
        }
        if from == next {
            let gap = run.map_or(count, |(start, _)| start - next);
            let count = if run.is_some() { gap.min(u64::from(config.max_nack)) } else { 1 };
            self.answer(config, counters, peer, UdOp::Nack, psn24(next), count);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.ticks.front().map(|(at, _)| *at)
    }

    pub(crate) fn on_timeout(&mut self, config: &Config, counters: &mut Counters, now: Instant) {
        while let Some((at, id)) = self.ticks.front().copied().filter(|(at, _)| *at <= now) {
            self.ticks.pop_front();
            let Some(flow) = self.flows.get_mut(id as usize) else { continue };
            // Another ping may have taken the place of the one that this tick is for.
            let Some(asked) = flow.asked.take_if(|asked| asked.again && asked.until == at) else { continue };
            self.answer_ping(config, counters, id, asked.start, asked.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_flow_is_small() {
        let bytes = size_of::<RxFlow<u64>>() + crate::peers::Peers::MOST_BYTES;
        assert!(bytes <= 128, "{bytes}");
    }
}
