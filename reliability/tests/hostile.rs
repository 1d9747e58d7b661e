//! Peers that send anything at all: no panic, bounded work and memory, and no effect on other flows.

use opx_defs::time::Instant;
use opx_defs::units::{Lid, Psn};
use opx_defs::wire::opx::{FlowKey, Origin, Ud, UdOp};
use opx_reliability::{Arrival, Config, Reliability, Transmit, Verdict};
use proptest::prelude::*;
use std::time::Duration;

const ME: Origin = Origin { lid: Lid(1), rx: 5 };
const GOOD: Origin = Origin { lid: Lid(2), rx: 7 };
const EVIL: Origin = Origin { lid: Lid(3), rx: 7 };

type Core = Reliability<u32, u32>;

#[derive(Debug, Clone)]
enum Deed {
    Data { rx: u8, psn: u32, ack_req: bool, early: bool },
    Ud { op: UdOp, from_me: bool, key: FlowKey, start: u32, count: u32 },
    Pass { micros: u64 },
}

fn psn() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..40, 0x00ff_ffd0u32..0x0100_0000, any::<u32>()]
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![
        Just(ME),
        Just(GOOD),
        Just(EVIL),
        (any::<u32>(), any::<u8>()).prop_map(|(l, rx)| Origin { lid: Lid(l), rx })
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    let key = (origin(), origin()).prop_map(|(src, dst)| FlowKey {
        slid: src.lid,
        dlid: dst.lid,
        src_rx: src.rx,
        dst_rx: dst.rx,
    });
    let op = prop::sample::select(vec![UdOp::Ping, UdOp::Ack, UdOp::Nack]);
    let count = prop_oneof![0u32..40, any::<u32>()];
    prop_oneof![
        4 => (0u8..3, psn(), any::<bool>(), any::<bool>())
            .prop_map(|(rx, psn, ack_req, early)| Deed::Data { rx, psn, ack_req, early }),
        4 => (op, any::<bool>(), key, psn(), count)
            .prop_map(|(op, from_me, key, start, count)| Deed::Ud { op, from_me, key, start, count }),
        1 => (0u64..2000).prop_map(|micros| Deed::Pass { micros }),
    ]
}

/// The protocol with a good peer: ten packets each way, one of ours and one of theirs lost at first.
/// Between the steps come the deeds of others. Gives what the good peer saw.
fn story(first: u64, deeds: &[Deed]) -> Vec<String> {
    // A small number of peers and packets, so that the limits are met.
    let config =
        Config { max_held: 64, max_held_per_flow: 16, max_answers: 1 << 16, max_flows: 8, ..Config::default() };
    let mut core = Core::starting_at(config, ME, first).unwrap();
    let mut log = Vec::new();
    let mut now = Instant::ZERO;
    let mut deeds = deeds.iter();
    let at = |i: u32| Psn::new((first as u32 & 0xff_ffff).wrapping_add(i));

    // Both flows exist before the others come: peers are remembered in the order in which they came.
    core.send(now, GOOD, 10, |_| 0).unwrap();
    core.send(now, EVIL, 10, |_| 100).unwrap();
    assert_eq!(
        core.on_data(Arrival { origin: GOOD, psn: at(0), ack_req: false, early: false }, || None),
        Verdict::Deliver
    );

    for step in 0..10u32 {
        for deed in deeds.by_ref().take(6) {
            match *deed {
                Deed::Data { rx, psn, ack_req, early } => {
                    let origin = Origin { lid: EVIL.lid, rx };
                    core.on_data(Arrival { origin, psn: Psn::new(psn), ack_req, early }, || Some(psn));
                    while let Some((origin, _)) = core.next_in_order() {
                        assert_eq!(origin.lid, EVIL.lid);
                    }
                }
                Deed::Ud { op, from_me, key, start, count } => {
                    let from = if from_me { ME } else { EVIL };
                    core.on_ud(now, from, &Ud { op, key, start: Psn::new(start), count });
                }
                Deed::Pass { micros } => now = now + Duration::from_micros(micros),
            }
            // Nobody is given up here, and no more is sent than a bounded number of packets for each that came.
            let sent = std::iter::from_fn(|| other(&mut core, now)).take(1000).count();
            assert!(sent < 1000);
        }
        now = now + Duration::from_millis(1);
        if step > 0 {
            log.push(format!("sent {:?}", core.send(now, GOOD, 10, |_| step)));
            let arrival = Arrival { origin: GOOD, psn: at(step), ack_req: true, early: false };
            log.push(format!("data {:?}", core.on_data(arrival, || None)));
        }
        let key = FlowKey { slid: ME.lid, dlid: GOOD.lid, src_rx: ME.rx, dst_rx: GOOD.rx };
        core.on_ud(now, GOOD, &Ud { op: UdOp::Ack, key, start: at(step), count: 1 });
        while let Some(packet) = core.poll_released() {
            if packet < 100 {
                log.push(format!("released {packet}"));
            }
        }
        // What goes to the good peer at this step: the ACK that its packet asked for.
        core.on_timeout(now);
        while let Some(packet) = core.poll_transmit(now) {
            match packet {
                Transmit::Ud { peer: GOOD, ud } if ud.op != UdOp::Ping => log.push(format!("to it {ud:?}")),
                Transmit::Replay { peer: GOOD, psn, .. } => log.push(format!("to it again {psn}")),
                _ => {}
            }
        }
        log.push(format!("outstanding {}", core.outstanding_bytes(GOOD)));
    }
    log
}

/// The next packet to be sent, which is for others than the good peer.
fn other(core: &mut Core, now: Instant) -> Option<()> {
    match core.poll_transmit(now)? {
        Transmit::Ud { peer, .. } | Transmit::Replay { peer, .. } => assert_ne!(peer, GOOD),
    }
    Some(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn others_change_nothing(
        deeds in prop::collection::vec(deed(), 0..60),
        first in prop_oneof![Just(0u64), Just(0xff_fffb), Just(0x1ff_fffb)],
    ) {
        prop_assert_eq!(story(first, &deeds), story(first, &[]));
    }
}

fn ud(op: UdOp, start: u32, count: u32) -> Ud {
    let evil_data = op == UdOp::Ping;
    let (src, dst) = if evil_data { (EVIL, ME) } else { (ME, EVIL) };
    let key = FlowKey { slid: src.lid, dlid: dst.lid, src_rx: src.rx, dst_rx: dst.rx };
    Ud { op, key, start: Psn::new(start), count }
}

fn drain(core: &mut Core, now: Instant) -> usize {
    std::iter::from_fn(|| core.poll_transmit(now).map(drop)).count()
}

#[test]
fn acks_for_what_was_never_sent_and_from_the_wrong_half_do_nothing() {
    let mut core = Core::new(Config::default(), ME).unwrap();
    let now = Instant::ZERO;
    for n in 0..10 {
        core.send(now, EVIL, 10, |_| n).unwrap();
    }
    for op in [UdOp::Ack, UdOp::Nack] {
        for (start, count) in [(10, 1), (0, 11), (9, 2), (0x80_0000, 1), (0x80_0001, 0x7f_ffff), (0xff_ffff, 1), (5, 0)]
        {
            core.on_ud(now, EVIL, &ud(op, start, count));
        }
    }
    assert_eq!((core.poll_released(), drain(&mut core, now)), (None, 0));
    assert_eq!((core.counters().acks_ignored, core.counters().nacks_ignored), (7, 7));
    assert_eq!(core.outstanding_bytes(EVIL), 660);
}

#[test]
fn data_from_the_wrong_half_makes_no_flow_and_keeps_nothing() {
    let mut core = Core::new(Config::default(), ME).unwrap();
    for psn in [0x80_0000, 0xc0_0000, 0xff_ffff, 32_768] {
        let arrival = Arrival { origin: EVIL, psn: Psn::new(psn), ack_req: true, early: true };
        assert!(matches!(core.on_data(arrival, || panic!("kept")), Verdict::Dropped(_)), "{psn:#x}");
    }
    assert_eq!((core.flows(), core.held(), drain(&mut core, Instant::ZERO)), ((0, 0), 0, 0));
}

#[test]
fn a_flood_of_nacks_is_answered_ever_more_slowly() {
    let config = Config { give_up_after: Duration::from_secs(600), ..Config::default() };
    let mut core = Core::new(config, ME).unwrap();
    for n in 0..32 {
        core.send(Instant::ZERO, EVIL, 8192, |_| n).unwrap();
    }
    let mut replays = 0;
    // A million NACKs in a second.
    for micros in 0..1_000_000 {
        let now = Instant::ZERO + Duration::from_micros(micros);
        core.on_ud(now, EVIL, &ud(UdOp::Nack, 0, 32));
        core.on_timeout(now);
        while let Some(transmit) = core.poll_transmit(now) {
            replays += u64::from(matches!(transmit, Transmit::Replay { .. }));
        }
    }
    // At most a packet each 640 µs: the least time between two of them, 10 µs, doubled six times.
    assert!(replays < 32 * 1_600, "{replays} packets sent again");
    // And at least one each 20 ms, once it has come to that.
    assert!(replays > 32 * 40, "{replays} packets sent again");
    assert_eq!(core.replays_in_use(), 32);
}

#[test]
fn acks_of_single_packets_far_ahead_cost_no_scan() {
    // Every second packet is acknowledged, then all of it again and again: what is known is passed in one step.
    let config = Config { window: 8192, ..Config::default() };
    let mut core = Core::new(config, ME).unwrap();
    let now = Instant::ZERO;
    for n in 0..8192 {
        core.send(now, EVIL, 10, |_| n).unwrap();
    }
    for psn in (1..8192).rev() {
        core.on_ud(now, EVIL, &ud(UdOp::Ack, psn, 1));
        while core.poll_released().is_some() {}
        drain(&mut core, now);
    }
    let start = std::time::Instant::now();
    for _ in 0..200_000 {
        core.on_ud(now, EVIL, &ud(UdOp::Ack, 1, 8191));
    }
    // No figure to hold: a walk over 8191 packets each time would take a minute. It is printed for who looks.
    println!("{:?} for 200,000 ACKs", start.elapsed());
    assert_eq!(core.counters().acks_ignored, 200_000);
    assert_eq!((core.outstanding_bytes(EVIL), core.replays_in_use()), (66, 8192));
}

#[test]
fn floods_of_flows_fill_their_table_and_nothing_else() {
    let config = Config { max_flows: 100, max_held: 50, max_answers: 64, ..Config::default() };
    let mut core = Core::new(config, ME).unwrap();
    let now = Instant::ZERO;
    let good = |psn| Arrival { origin: GOOD, psn: Psn::new(psn), ack_req: false, early: false };
    assert_eq!(core.on_data(good(0), || None), Verdict::Deliver);
    for n in 0..100_000u32 {
        let origin = Origin { lid: Lid(0x1000 + n), rx: n as u8 };
        for psn in [1, 2, 0] {
            core.on_data(Arrival { origin, psn: Psn::new(psn), ack_req: true, early: false }, || Some(psn));
            while core.next_in_order().is_some() {}
        }
        let key = FlowKey { slid: origin.lid, dlid: ME.lid, src_rx: origin.rx, dst_rx: ME.rx };
        core.on_ud(now, origin, &Ud { op: UdOp::Ping, key, start: Psn::new(0), count: 1 });
    }
    assert_eq!(core.flows(), (0, 100));
    assert!(core.held() <= 50);
    assert!(drain(&mut core, now) <= 64);
    // Who was known before goes on undisturbed.
    assert_eq!(core.on_data(good(1), || None), Verdict::Deliver);
    core.send(now, GOOD, 10, |_| 1).unwrap();
}

#[test]
fn pings_at_any_rate_leave_a_bounded_number_of_answers() {
    let mut core = Core::new(Config { max_answers: 64, ..Config::default() }, ME).unwrap();
    let arrival = Arrival { origin: EVIL, psn: Psn::new(0), ack_req: false, early: false };
    core.on_data(arrival, || None);
    for n in 0..10_000 {
        core.on_ud(Instant::ZERO, EVIL, &ud(UdOp::Ping, n % 3, 1 + n));
    }
    assert!(drain(&mut core, Instant::ZERO) <= 64);
    assert!(core.counters().answers_dropped + core.counters().pings_merged > 6_000);
}

#[test]
fn pings_that_take_turns_in_asking_for_more_leave_a_bounded_number_of_times() {
    let mut core = Core::new(Config { max_answers: 64, ..Config::default() }, ME).unwrap();
    for psn in 0..4 {
        core.on_data(Arrival { origin: EVIL, psn: Psn::new(psn), ack_req: false, early: false }, || None);
    }
    // Each is asked anew, then for more, which is for later.
    for n in 0..1000 {
        core.on_ud(Instant::ZERO, EVIL, &ud(UdOp::Ping, n % 2, 1));
        core.on_ud(Instant::ZERO, EVIL, &ud(UdOp::Ping, n % 2, 2));
        drain(&mut core, Instant::ZERO);
    }
    assert_eq!(core.counters().answers_dropped, 1000 - 64);
}
