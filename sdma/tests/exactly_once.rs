//! Whatever goes wrong at whichever packet: each token comes back exactly once and in order, and what is told as sent has
//! arrived.

mod common;

use common::Rig;
use opx_bus::PciFunction;
use opx_defs::sdma::SdmaDesc;
use opx_defs::units::Iova;
use opx_emu::{Fault, SdmaFault};
use opx_sdma::{Fragment, Outcome, Packet, SdmaError, SdmaQueue};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

/// What is wrong with a packet, besides what the adapter was told to suffer.
#[derive(Debug, Clone, Copy)]
enum Bad {
    Unmapped,
    Length,
    /// Another hand has changed the descriptor's generation.
    Generation,
    /// And here its flags.
    NotFirst,
}

fn bad() -> impl Strategy<Value = Bad> {
    prop_oneof![Just(Bad::Unmapped), Just(Bad::Length), Just(Bad::Generation), Just(Bad::NotFirst)]
}

/// Faults that don't stop the chip as a whole.
fn faults() -> Vec<SdmaFault> {
    let whole =
        |fault: &SdmaFault| matches!(fault, SdmaFault::RpyTag | SdmaFault::CsrParity | SdmaFault::RequestTracking);
    SdmaFault::ALL.iter().copied().filter(|fault| !whole(fault)).collect()
}

#[derive(Debug, Clone)]
struct Plan {
    /// For each packet its length, how many pieces, what is wrong, and whether the doorbell is rung after it.
    packets: Vec<(usize, usize, Option<Bad>, bool)>,
    faults: Vec<(SdmaFault, u64)>,
    /// How often the head is looked at, and a stop from outside after so many packets.
    looks: usize,
    stop_after: Option<usize>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let packet = (0usize..3000, 1usize..6, prop::option::weighted(0.05, bad()), any::<bool>());
    let fault = (prop::sample::select(faults()), 0u64..60);
    (
        prop::collection::vec(packet, 1..120),
        prop::collection::vec(fault, 0..5),
        1usize..4,
        prop::option::weighted(0.2, 0usize..120),
    )
        .prop_map(|(packets, faults, looks, stop_after)| Plan { packets, faults, looks, stop_after })
}

fn run(plan: &Plan) {
    let mut rig = Rig::new();
    let mut queue = SdmaQueue::<_, u32>::new(rig.hfi.sdma_engine(64).unwrap());
    queue.set_stall_limit(Duration::from_millis(1));
    for &(fault, after) in &plan.faults {
        assert!(rig.adapter.inject(Fault::Sdma(fault), queue.engine().number().0.into(), after));
    }
    let (mut next, mut ended, mut arrived) = (0, Vec::new(), BTreeSet::new());
    let total = plan.packets.len();
    let mut restarts = 0;
    // Slots filled since the engine was started, as a model of the ring.
    let mut filled = 0u32;
    while ended.len() < total {
        assert!(restarts <= plan.faults.len() + total, "the engine halts without a cause");
        while next < total {
            let (len, pieces, bad, ring) = plan.packets[next];
            // A slot of memory is used again only when its packet has ended.
            if next >= ended.len() + 64 {
                break;
            }
            let whole = rig.place(next as u32, len);
            let step = (whole.len() as usize / pieces).next_multiple_of(4).max(4) as u32;
            let mut fragments: Vec<_> = (0..whole.len())
                .step_by(step as usize)
                .map(|at| Fragment::raw(whole.iova().plus(at.into()), step.min(whole.len() - at)))
                .collect();
            match bad {
                Some(Bad::Unmapped) => fragments[0] = Fragment::raw(Iova(0x7777_0000_0000), fragments[0].len()),
                Some(Bad::Length) => fragments.push(Fragment::raw(whole.iova(), 4)),
                _ => {}
            }
            let packet = Packet::new(&fragments);
            match queue.submit(packet, next as u32) {
                Ok(()) => {}
                Err((SdmaError::RingFull { .. }, token)) => {
                    assert_eq!(token as usize, next);
                    break;
                }
                Err((error, _)) => panic!("{error}"),
            }
            let desc = SdmaDesc::new(fragments[0].iova(), fragments[0].len()).generation((filled / 64).into());
            match bad {
                Some(Bad::Generation) => {
                    queue.engine().write_descriptor(filled, desc.first().generation(3 + u64::from(filled / 64)))
                }
                Some(Bad::NotFirst) => queue.engine().write_descriptor(filled, desc),
                _ => {}
            }
            filled += fragments.len() as u32;
            next += 1;
            if ring {
                queue.doorbell();
            }
            if plan.stop_after == Some(next) {
                queue.stop().unwrap();
                queue.restart().unwrap();
                filled = 0;
            }
        }
        queue.doorbell();
        for _ in 0..plan.looks {
            rig.bus().relax();
        }
        ended.extend(std::iter::from_fn(|| queue.poll()));
        arrived.extend(rig.arrived().into_iter().map(|(n, _)| n));
        if let Err(error) = queue.check() {
            assert!(matches!(error, SdmaError::Halted { .. } | SdmaError::Stalled { .. }), "{error}");
            queue.restart().unwrap();
            restarts += 1;
            filled = 0;
            ended.extend(std::iter::from_fn(|| queue.poll()));
        }
    }
    rig.bus().pause(Duration::from_millis(1));
    arrived.extend(rig.arrived().into_iter().map(|(n, _)| n));
    assert_eq!(queue.poll(), None);
    let tokens: Vec<_> = ended.iter().map(|(token, _)| *token).collect();
    assert_eq!(tokens, (0..total as u32).collect::<Vec<_>>(), "each once, in order");
    for (token, outcome) in &ended {
        let good = plan.packets[*token as usize].2.is_none();
        if *outcome == Outcome::Sent {
            assert!(
                good && arrived.contains(token),
                "{token} (good: {good}) is told as sent; {:?}; {:?}",
                rig.adapter.counts(),
                ended
            );
        }
        if !good {
            assert!(!arrived.contains(token), "{token} is broken and arrived");
        }
    }
    let failed = ended.iter().filter(|(_, outcome)| *outcome == Outcome::Failed).count();
    assert_eq!(queue.counters().failed, failed as u64);
    assert_eq!((queue.free(), queue.pending()), (63, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn each_packet_ends_exactly_once(plan in plan()) {
        run(&plan);
    }
}

#[test]
fn without_faults_nothing_fails() {
    let packets = (0..200).map(|n| (n * 37 % 3000, 1 + n % 5, None, n % 3 == 0)).collect();
    run(&Plan { packets, faults: Vec::new(), looks: 1, stop_after: None });
}
