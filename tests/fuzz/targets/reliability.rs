//! Two cores of the reliability protocol on a wire that does anything, and a third party that says anything: every packet is
//! used once and in order, what is kept is bounded, and in the end all is acknowledged.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opx_defs::time::Instant;
use opx_defs::units::{Lid, Psn};
use opx_defs::wire::opx::{FlowKey, Origin, Ud, UdOp};
use opx_reliability::{Arrival, Config, Event, Reliability, SendError, Transmit, Verdict};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

const MOST_STEPS: usize = 400;
/// Packets on the wire, each way; more are lost.
const WIRE: usize = 256;
const EVIL: Lid = Lid(3);

#[derive(Debug, Arbitrary)]
struct Input {
    /// Where the sequence numbers begin: 0, or just before a wrap.
    start: u8,
    settings: Settings,
    steps: Vec<Step>,
}

#[derive(Debug, Arbitrary)]
struct Settings {
    pre_ack: u8,
    window: u8,
    held: u8,
    nack: u8,
    pings: u8,
    answers: u8,
}

impl Settings {
    fn config(&self) -> Config {
        let pick = |of: &[u32], by: u8| of[usize::from(by) % of.len()];
        Config {
            pre_ack_rate: pick(&[64, 0, 1, 16], self.pre_ack),
            window: pick(&[8192, 1, 7, 100], self.window),
            max_held_per_flow: pick(&[2048, 1, 4, 50], self.held),
            max_held: pick(&[8192, 2, 60], self.held / 4),
            max_nack: pick(&[1, 32], self.nack),
            max_uncongested_pings: pick(&[128, 1], self.pings),
            max_answers: pick(&[4096, 2], self.answers),
            max_flows: 8,
            replay_pool: pick(&[256, 3, 60], self.window / 4),
            selective_acks: self.answers < 128,
            ..Config::default()
        }
    }
}

#[derive(Debug, Arbitrary)]
enum Step {
    Send {
        side: bool,
        early: bool,
        ack_req: bool,
        bytes: u16,
        count: u8,
    },
    /// What is on the wire to a side arrives: from the front, from anywhere, or twice.
    Arrive {
        side: bool,
        count: u8,
    },
    Overtake {
        side: bool,
        place: u8,
        keep: bool,
    },
    Lose {
        side: bool,
        count: u8,
    },
    /// A side says what it has to say.
    Pump {
        side: bool,
        count: u8,
    },
    Fetch {
        side: bool,
    },
    Pass {
        micros: u16,
    },
    /// The third party sends data, or speaks of any flow.
    EvilData {
        side: bool,
        rx: u8,
        psn: u32,
        early: bool,
    },
    EvilUd {
        side: bool,
        op: u8,
        key: [u8; 4],
        start: u32,
        count: u32,
    },
}

/// A data packet.
#[derive(Debug, Clone, Copy)]
struct Packet {
    id: u32,
    psn: Psn,
    early: bool,
    ack_req: bool,
}

#[derive(Debug, Clone, Copy)]
enum Wire {
    Data(Packet),
    Ud(Ud),
}

struct Side {
    me: Origin,
    core: Reliability<Packet, Packet>,
    /// What is on its way to it.
    wire: VecDeque<Wire>,
    sent: u32,
    released: BTreeSet<u32>,
    /// Packets of the other that it used early and in order.
    early: BTreeSet<u32>,
    in_order: Vec<u32>,
    kept: u32,
}

struct Pair {
    config: Config,
    now: Instant,
    sides: [Side; 2],
}

impl Pair {
    fn new(input: &Input) -> Self {
        let config = input.settings.config();
        let first = if input.start < 128 { 0 } else { 0x1ff_ff00 + u64::from(input.start) };
        let side = |lid| {
            let me = Origin { lid: Lid(lid), rx: 3 };
            Side {
                me,
                core: Reliability::starting_at(config, me, first).expect("settings that can be"),
                wire: VecDeque::new(),
                sent: 0,
                released: BTreeSet::new(),
                early: BTreeSet::new(),
                in_order: Vec::new(),
                kept: 0,
            }
        };
        Self { config, now: Instant::ZERO, sides: [side(1), side(2)] }
    }

    fn put(&mut self, to: usize, packet: Wire) {
        let wire = &mut self.sides[to].wire;
        if wire.len() < WIRE {
            wire.push_back(packet);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Send { side, early, ack_req, bytes, count } => {
                for _ in 0..=count % 32 {
                    self.send(side.into(), early, early && ack_req, bytes.into());
                }
            }
            Step::Arrive { side, count } => {
                for _ in 0..=count {
                    let Some(packet) = self.sides[usize::from(side)].wire.pop_front() else { break };
                    self.arrive(side.into(), packet);
                }
            }
            Step::Overtake { side, place, keep } => {
                let wire = &mut self.sides[usize::from(side)].wire;
                let place = usize::from(place) % wire.len().max(1);
                let packet = if keep { wire.get(place).copied() } else { wire.remove(place) };
                if let Some(packet) = packet {
                    self.arrive(side.into(), packet);
                }
            }
            Step::Lose { side, count } => {
                let wire = &mut self.sides[usize::from(side)].wire;
                wire.drain(..usize::from(count).min(wire.len()));
            }
            Step::Pump { side, count } => drop(self.pump(side.into(), usize::from(count) + 1)),
            Step::Fetch { side } => self.fetch(side.into()),
            Step::Pass { micros } => self.pass(Duration::from_micros(micros.into())),
            Step::EvilData { side, rx, psn, early } => {
                let side = &mut self.sides[usize::from(side)];
                let psn = Psn::new(psn & 0xff_ffff);
                let packet = Packet { id: u32::MAX, psn, early, ack_req: false };
                let origin = Origin { lid: EVIL, rx };
                let verdict = side.core.on_data(Arrival { origin, psn, ack_req: false, early }, || Some(packet));
                side.kept += u32::from(verdict == Verdict::Held);
            }
            Step::EvilUd { side, op, key: [slid, dlid, src_rx, dst_rx], start, count } => {
                let op = [UdOp::Ping, UdOp::Ack, UdOp::Nack][usize::from(op) % 3];
                let lid = |by: u8| Lid(u32::from(by) % 4);
                let key = FlowKey { slid: lid(slid), dlid: lid(dlid), src_rx, dst_rx };
                let ud = Ud { op, key, start: Psn::new(start & 0xff_ffff), count };
                let from = Origin { lid: EVIL, rx: if op == UdOp::Ping { src_rx } else { dst_rx } };
                self.sides[usize::from(side)].core.on_ud(self.now, from, &ud);
            }
        }
        for side in &self.sides {
            assert!(side.kept <= self.config.max_held, "{} packets are kept", side.kept);
        }
    }

    fn send(&mut self, from: usize, early: bool, ack_req: bool, bytes: u32) {
        let peer = self.sides[1 - from].me;
        let side = &mut self.sides[from];
        let id = side.sent;
        let make = |psn| Packet { id, psn, early, ack_req };
        match side.core.send(self.now, peer, bytes, make) {
            Ok(psn) => {
                side.sent += 1;
                self.put(1 - from, Wire::Data(make(psn)));
            }
            Err(error) => assert!(error.is_temporary() && error != SendError::Unreachable { peer }, "{error}"),
        }
    }

    fn arrive(&mut self, at: usize, packet: Wire) {
        let origin = self.sides[1 - at].me;
        let side = &mut self.sides[at];
        let packet = match packet {
            Wire::Ud(ud) => return side.core.on_ud(self.now, origin, &ud),
            Wire::Data(packet) => packet,
        };
        let arrival = Arrival { origin, psn: packet.psn, ack_req: packet.ack_req, early: packet.early };
        match side.core.on_data(arrival, || Some(packet)) {
            Verdict::Deliver => side.in_order.push(packet.id),
            Verdict::ApplyEarly => {
                assert!(packet.early, "{packet:?} isn't to be used early");
                assert!(side.early.insert(packet.id), "{packet:?} was used twice");
            }
            Verdict::Held => side.kept += 1,
            Verdict::Duplicate | Verdict::Dropped(_) => {}
        }
    }

    fn fetch(&mut self, at: usize) {
        let other = self.sides[1 - at].me;
        let side = &mut self.sides[at];
        while let Some((origin, packet)) = side.core.next_in_order() {
            side.kept -= 1;
            if origin == other {
                side.in_order.push(packet.id);
            }
        }
    }

    /// How much of `most` a side had to say.
    fn pump(&mut self, from: usize, most: usize) -> usize {
        let other = self.sides[1 - from].me;
        for done in 0..most {
            let side = &mut self.sides[from];
            let (peer, packet) = match side.core.poll_transmit(self.now) {
                Some(Transmit::Replay { peer, psn, packet }) => {
                    assert_eq!(psn, packet.psn);
                    (peer, Wire::Data(*packet))
                }
                Some(Transmit::Ud { peer, ud }) => {
                    assert!(ud.count > 0 && ud.start.get() + ud.count <= Psn::SPACE, "past the wrap: {ud:?}");
                    (peer, Wire::Ud(ud))
                }
                None => return done,
            };
            if peer == other {
                self.put(1 - from, packet);
            }
        }
        most
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for side in &mut self.sides {
            side.core.on_timeout(self.now);
            while let Some(packet) = side.core.poll_released() {
                assert!(side.released.insert(packet.id), "{packet:?} was released twice");
            }
            while let Some(event) = side.core.poll_event() {
                // With room for next to nothing, a lost first packet is enough for it.
                assert!(matches!(event, Event::PeerOutOfStep { .. }), "{event:?}");
            }
        }
    }

    /// A good wire, until all is quiet.
    fn settle(&mut self) {
        /// Far more than pings and repeats take, at the worst settings.
        const MOST_ROUNDS: usize = 20_000;
        for _ in 0..MOST_ROUNDS {
            let mut said = 0;
            for side in [0, 1] {
                // However much was asked of it, that is soon said.
                said += self.pump(side, WIRE);
                while let Some(packet) = self.sides[1 - side].wire.pop_front() {
                    self.arrive(1 - side, packet);
                    self.fetch(1 - side);
                }
            }
            self.pass(Duration::ZERO);
            if said == 0 && self.sides.iter().all(|side| side.core.is_idle()) {
                return;
            }
            let next = self.sides.iter().filter_map(|side| side.core.poll_timeout()).min();
            let wait = next.map_or(Duration::from_micros(100), |at| at.since(self.now));
            self.pass(if said > 0 { Duration::from_micros(2) } else { wait });
        }
        panic!("no end: {:?} {:?}", self.sides[0].core.counters(), self.sides[1].core.counters());
    }

    fn check(&self) {
        for (receiver, sender) in [(&self.sides[0], &self.sides[1]), (&self.sides[1], &self.sides[0])] {
            assert_eq!(sender.released.len() as u32, sender.sent, "not all were released");
            assert!(receiver.in_order.is_sorted_by(|a, b| a < b), "out of order: {:?}", receiver.in_order);
            let all: BTreeSet<u32> = receiver.in_order.iter().chain(&receiver.early).copied().collect();
            assert_eq!(all.len(), receiver.in_order.len() + receiver.early.len(), "some were used twice");
            assert_eq!(all.len() as u32, sender.sent, "some were acknowledged and never used");
            assert_eq!(sender.core.outstanding_bytes(receiver.me), 0);
        }
    }
}

fuzz_target!(|input: Input| {
    let mut pair = Pair::new(&input);
    for step in input.steps.iter().take(MOST_STEPS) {
        pair.step(step);
    }
    pair.fetch(0);
    pair.fetch(1);
    pair.settle();
    pair.check();
});
