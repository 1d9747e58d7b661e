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
    let counted = cases.count()?;

    let mut table = Table::new("reliability");
    let nothing = counted.first().map_or(0, |case| case.median());
    for case in counted.iter().skip(1) {
        let goal = match case.name.split(',').next() {
            _ if case.name.contains("idle") => Goal::None,
            Some("send") => Goal::AtMost(80.0),
            _ => Goal::AtMost(50.0),
        };
        table.add(
            &format!("{}: instructions, most often", case.name),
            (case.median() - nothing) as f64,
            "instructions",
            goal,
        );
        table.add(
            &format!("{}: instructions, on average", case.name),
            case.mean() - nothing as f64,
            "instructions",
            goal,
        );
        let total = case.total();
        let bad = (total.divisions + total.fences + total.locked + total.system_calls) as f64;
        table.add(&format!("{}: divisions, fences, locks and system calls", case.name), bad, "", Goal::AtMost(0.0));
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
