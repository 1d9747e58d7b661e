//! What it costs to track a packet: instructions and allocations of one sent and one received, and the time of both with 10,
//! 1,000 and 100,000 flows in one endpoint.

use opx_bench::{Allocator, Cases, Goal, Table, allocations};
use opx_defs::time::Instant as Point;
use opx_defs::units::{Lid, Psn};
use opx_defs::wire::opx::{FlowKey, Origin, Ud, UdOp};
use opx_reliability::{Arrival, Config, Reliability, Verdict};
use std::hint::black_box;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOC: Allocator = opx_bench::ALLOCATOR;

const ME: Origin = Origin { lid: Lid(1), rx: 5 };
const FLOWS: [u32; 3] = [10, 1_000, 100_000];

type Core = Reliability<u64, u64>;

fn peer(n: u32) -> Origin {
    Origin { lid: Lid(2 + n % 40_000), rx: (n / 40_000) as u8 }
}

fn core() -> Core {
    Core::new(Config { max_flows: 1 << 17, replay_pool: 1 << 17, ..Config::default() }, ME).expect("a good setting")
}

fn ack(core: &mut Core, now: Point, peer: Origin, psn: Psn, count: u32) {
    let key = FlowKey { slid: ME.lid, dlid: peer.lid, src_rx: ME.rx, dst_rx: peer.rx };
    core.on_ud(now, peer, &Ud { op: UdOp::Ack, key, start: psn, count });
    while core.poll_released().is_some() {}
}

fn arrival(n: u32, psn: Psn) -> Arrival {
    Arrival { origin: peer(n), psn, ack_req: false, early: false }
}

/// A core that sends to and receives from so many peers, each flow with one packet that stays outstanding. It has sent before.
fn busy(flows: u32) -> Core {
    let mut core = core();
    let before = Origin { lid: Lid(50_000), rx: 0 };
    for n in 0..256 {
        core.send(Point::ZERO, before, 8192, u64_of).expect("room");
        ack(&mut core, Point::ZERO, before, Psn::new(n), 1);
    }
    for n in 0..flows {
        core.send(Point::ZERO, peer(n), 8192, u64_of).expect("room");
        core.on_data(arrival(n, Psn::new(0)), || None);
    }
    core
}

fn u64_of(psn: Psn) -> u64 {
    psn.get().into()
}

#[inline(never)]
fn nothing(core: &mut Core, now: Point, to: Arrival) -> bool {
    black_box((core, now, to));
    true
}

#[inline(never)]
fn send(core: &mut Core, now: Point, to: Arrival) -> bool {
    core.send(now, to.origin, 8192, u64_of).is_ok()
}

#[inline(never)]
fn receive(core: &mut Core, _: Point, arrived: Arrival) -> bool {
    core.on_data(arrived, || None) == Verdict::Deliver
}

/// Nanoseconds for a packet sent and acknowledged, and for one received, over all flows in turn.
fn time(flows: u32) -> (f64, f64) {
    let mut core = busy(flows);
    let now = Point::from_nanos(1);
    let (mut sent, mut received, mut psn) = (Duration::ZERO, Duration::ZERO, Psn::new(1));
    let (rounds, passes) = (2_000_000 / flows, flows);
    for _ in 0..rounds {
        let start = Instant::now();
        for n in 0..passes {
            black_box(core.send(now, peer(n), 8192, u64_of).is_ok());
            // All but this one.
            ack(&mut core, now, peer(n), psn.plus(Psn::SPACE - 1), 1);
        }
        sent += start.elapsed();
        let start = Instant::now();
        for n in 0..passes {
            black_box(core.on_data(arrival(n, psn), || None));
        }
        received += start.elapsed();
        while core.poll_transmit(now).is_some() {}
        psn = psn.next();
    }
    let packets = f64::from(rounds * passes);
    (sent.as_nanos() as f64 / packets, received.as_nanos() as f64 / packets)
}

/// What a peer can make us do with one packet, and the most instructions of each: neither other flows nor what is kept of this
/// one count.
const ANSWERS: [(&str, f64); 5] = [
    ("a ping", 12_000.0),
    ("a NACK of 32 packets", 5_000.0),
    ("an ACK of what is known", 500.0),
    ("an ACK that shows losses", 4_000.0),
    ("a packet behind gaps", 12_000.0),
];

fn answers<'a>(cases: &mut Cases<'a>) {
    let me_to = |n: u32| FlowKey { slid: ME.lid, dlid: peer(n).lid, src_rx: ME.rx, dst_rx: peer(n).rx };
    let to_me = |n: u32| FlowKey { slid: peer(n).lid, dlid: ME.lid, src_rx: peer(n).rx, dst_rx: ME.rx };
    let drain = |core: &mut Core, now| while core.poll_transmit(now).is_some() {};
    let now = |step: u64| Point::from_nanos(1 + step * 1_000_000);
    for (flows, kept) in [(1, 0), (100_000, 0), (1, 1_900), (100_000, 1_900)] {
        // The receiver of a flow with its first gap at PSN 1, and others behind it.
        let with_kept = move |every: u32| {
            let mut core = busy(flows);
            for psn in (2..2 + kept * every).step_by(every as usize).map(Psn::new) {
                core.on_data(arrival(0, psn), || Some(0));
                while core.poll_transmit(Point::ZERO).is_some() {}
            }
            core
        };
        let name = |what: &str| format!("{what}, {flows} flows, {kept} packets kept");
        for every in [1, 2] {
            let (what, state) = (name(&format!("a ping, every {every}. packet")), (with_kept(every), 0));
            cases.add_with(
                &what,
                state,
                move |(core, step)| {
                    drain(core, now(*step));
                    *step += 1;
                },
                move |(core, step)| {
                    // Not the same as before: a repeat is merged.
                    let start = Psn::new(*step as u32 % 2);
                    core.on_ud(now(*step), peer(0), &Ud { op: UdOp::Ping, key: to_me(0), start, count: 4_000 });
                },
            );
        }
        cases.add_with(
            &name("a packet behind gaps"),
            (with_kept(1), 0),
            move |(core, step)| {
                drain(core, now(*step));
                *step += 1;
            },
            move |(core, step)| {
                // The last ones that are kept; one in two closes a gap.
                let psn = Psn::new(2 + kept + [2, 1][*step as usize % 2] + *step as u32 / 2 * 2);
                black_box(core.on_data(arrival(0, psn), || Some(0)));
            },
        );
    }
    for (flows, sent) in [(1, 100), (100_000, 100), (1, 8_000), (100_000, 8_000)] {
        let with_sent = move || {
            let mut core = busy(flows);
            (1..sent).for_each(|_| assert!(core.send(Point::ZERO, peer(0), 64, u64_of).is_ok()));
            core
        };
        let name = |what: &str| format!("{what}, {flows} flows, {sent} packets sent");
        let answer = move |core: &mut Core, step: u64, op, start: u32, count| {
            core.on_ud(now(step), peer(0), &Ud { op, key: me_to(0), start: Psn::new(start), count });
        };
        let next = move |(core, step): &mut (Core, u64)| {
            drain(core, now(*step));
            while core.poll_released().is_some() {}
            *step += 50;
        };
        cases.add_with(&name("a NACK of 32 packets"), (with_sent(), 0), next, move |(core, step)| {
            answer(core, *step, UdOp::Nack, 0, sent);
        });
        let mut known = with_sent();
        answer(&mut known, 0, UdOp::Ack, 1, sent - 1);
        cases.add_with(&name("an ACK of what is known"), (known, 0), next, move |(core, step)| {
            answer(core, *step, UdOp::Ack, 1, sent - 1);
        });
        // One in two is acknowledged, a packet at a time, from behind.
        let mut gaps = with_sent();
        (sent / 2..sent).rev().step_by(2).for_each(|psn| answer(&mut gaps, 0, UdOp::Ack, psn, 1));
        cases.add_with(&name("an ACK that shows losses"), (gaps, 0), next, move |(core, step)| {
            let psn = (sent / 2).saturating_sub(*step as u32 / 50 * 2) % sent;
            answer(core, *step, UdOp::Ack, psn, 1);
        });
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let now = Point::from_nanos(1);
    let mut cases = Cases::default();
    // What a call with the same arguments takes by itself.
    cases.add_with(
        "nothing",
        (core(), arrival(0, Psn::new(0))),
        |_| {},
        |(core, to)| {
            black_box(nothing(core, Point::from_nanos(1), *to));
        },
    );
    // Flow after flow, each with others outstanding; of one flow alone every 64th packet brings an ACK.
    for flows in [1, 10, 1_000, 100_000] {
        let state = || (busy(flows), Psn::new(0), flows - 1, arrival(0, Psn::new(0)));
        let next = move |(core, psn, n, arrived): &mut (Core, Psn, u32, Arrival)| {
            *n = (*n + 1) % flows;
            if *n == 0 {
                *psn = psn.next();
            }
            *arrived = arrival(*n, *psn);
            while core.poll_transmit(now).is_some() {}
        };
        cases.add_with(&format!("send, {flows} flows"), state(), next, move |(core, _, _, to)| {
            black_box(send(core, now, *to));
        });
        cases.add_with(&format!("receive, {flows} flows"), state(), next, move |(core, _, _, arrived)| {
            black_box(receive(core, now, *arrived));
        });
    }
    cases.add_with(
        "send, first of an idle flow",
        (core(), Psn::new(0)),
        move |(core, psn)| {
            ack(core, now, peer(0), *psn, 1);
            if core.is_idle() && core.flows().0 > 0 {
                *psn = psn.next();
            }
        },
        move |(core, _)| {
            black_box(core.send(now, peer(0), 8192, u64_of).is_ok());
        },
    );
    answers(&mut cases);
    let counted = cases.count()?;

    let mut table = Table::new("reliability");
    let nothing = counted.first().map_or(0, |case| case.median());
    for case in counted.iter().skip(1) {
        let goal = match case.name.split(',').next() {
            _ if case.name.contains("idle") => Goal::None,
            Some(answer) if ANSWERS.iter().any(|(name, _)| *name == answer) => continue,
            // Its one peer may share a place with the one before it: three steps past that at most.
            Some("send") if case.name.contains(", 1 flows") => Goal::AtMost(116.0),
            Some("send") => Goal::AtMost(80.0),
            _ if case.name.contains(", 1 flows") => Goal::AtMost(86.0),
            _ => Goal::AtMost(50.0),
        };
        table.add(
            &format!("{}: instructions, most often", case.name),
            (case.median() - nothing) as f64,
            "instructions",
            goal,
        );
        // Some peers share a place in the table of peers with another: which ones is by the key of the run, so the goal of the
        // average has room for the steps past them.
        let on_average = match goal {
            Goal::AtMost(most) => Goal::AtMost(most + 15.0),
            other => other,
        };
        table.add(
            &format!("{}: instructions, on average", case.name),
            case.mean() - nothing as f64,
            "instructions",
            on_average,
        );
        let total = case.total();
        let bad = (total.divisions + total.fences + total.locked + total.system_calls) as f64;
        table.add(&format!("{}: divisions, fences, locks and system calls", case.name), bad, "", Goal::AtMost(0.0));
    }
    for (name, most) in ANSWERS {
        for case in counted.iter().filter(|case| case.name.split(',').next() == Some(name)) {
            let worst = case.most() - nothing;
            table.add(
                &format!("{}: instructions, at most", case.name),
                worst as f64,
                "instructions",
                Goal::AtMost(most),
            );
        }
    }
    let mut core = busy(1_000);
    let mut rounds = |psns: std::ops::Range<u32>| {
        for psn in psns.map(Psn::new) {
            for n in 0..10 {
                black_box(core.send(now, peer(n), 8192, u64_of).is_ok());
                black_box(core.on_data(arrival(n, psn), || None));
                ack(&mut core, now, peer(n), Psn::new(0), psn.get());
            }
            while core.poll_transmit(now).is_some() {}
        }
    };
    // Queues get their size once.
    rounds(1..200);
    let allocated = allocations(|| rounds(200..2_200));
    table.add("allocations for 20,000 packets each way", allocated as f64, "", Goal::AtMost(0.0));
    for flows in FLOWS {
        let (sent, received) = time(flows);
        table.add(&format!("a packet sent and acknowledged, {flows} flows"), sent, "ns", Goal::None);
        table.add(&format!("a packet received, {flows} flows"), received, "ns", Goal::None);
    }
    table.write()?;
    if table.met() { Ok(()) } else { Err("a goal isn't met, see above".into()) }
}
