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
