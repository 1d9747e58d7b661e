//! Packets at every place of a context's buffer: the start-of-packet rule, the wrap, and the count of credits beyond 2048.

mod common;

use common::Bench;
use opx_bus::SharedMem;
use opx_defs::units::{Blocks, Psn, Vl};
use opx_pio::{Head, PioError};
use proptest::prelude::*;

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + seed) as u8).collect()
}

#[test]
fn a_packet_of_any_length_may_begin_at_any_block() {
    const DEPTH: u16 = 9;
    let mut bench = Bench::new();
    for start in 0..DEPTH {
        for blocks in 1..=DEPTH {
            let mut sender = bench.sender(DEPTH);
            for _ in 0..start {
                sender.send(&bench.head(0), &[]).unwrap();
            }
            bench.settle();
            bench.arrived();
            // All blocks of the context are needed at most, and they must have come back.
            sender.context().force_credit_return();
            bench.settle();
            for short in [0, 4, 60] {
                let payload = bytes((usize::from(blocks) - 1) * 64, start.into());
                let payload = &payload[..payload.len().saturating_sub(short)];
                while let Err(error) = sender.send(&bench.head(payload.len()), payload) {
                    assert!(matches!(error, PioError::NoCredit { .. }), "start {start}, {blocks} blocks: {error}");
                    bench.hfi.bus().relax();
                }
                bench.settle();
                let arrived = bench.arrived();
                assert_eq!(arrived.len(), 1, "start {start}, {blocks} blocks");
                assert_eq!(arrived[0].1, payload, "start {start}, {blocks} blocks");
            }
            assert!(!sender.context().is_halted());
        }
    }
}

use opx_bus::PciFunction;

#[test]
fn blocks_are_counted_modulo_2048() {
    let mut bench = Bench::new();
    let mut sender = bench.sender(700);
    let payload = bytes(8192, 1);
    let mut sent = 0;
    // Five times around the counter, 129 blocks at a time.
    while sent < 5 * 2048 / 129 + 1 {
        match sender.send(&bench.head(8192), &payload) {
            Ok(()) => sent += 1,
            Err(PioError::NoCredit { .. }) => bench.hfi.bus().relax(),
            Err(error) => panic!("{error}"),
        }
        bench.arrived();
    }
    sender.context().force_credit_return();
    bench.settle();
    assert_eq!(sender.outstanding(), Blocks(0));
    let freed = sender.context().credit_return().counter().0;
    assert_eq!(u64::from(freed), sender.counters().blocks % 2048);
    assert!(sender.counters().blocks > 5 * 2048);
    assert_eq!(sender.counters().bad_credit_words, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any packets in any context, from slices and from shared memory: all arrive whole and in order.
    #[test]
    fn all_packets_arrive_whole(
        depth in 1u16..=200,
        lens in proptest::collection::vec((0usize..2600, any::<bool>()), 1..60),
    ) {
        let mut bench = Bench::new();
        let mut sender = bench.sender(depth);
        let stored = SharedMem::new(8192).unwrap();
        let mut expected = Vec::new();
        let mut arrived = Vec::new();
        for (psn, (len, from_slot)) in (0u32..).zip(lens) {
            let payload = bytes(len / 4 * 4, psn as usize);
            let mut header = bench.header(payload.len());
            header.set_psn(Psn::new(psn));
            let head = Head::new(header.pbc(Vl(0)), &header);
            if from_slot {
                stored.write(128, &header.pbc(Vl(0)).0.to_le_bytes());
                stored.write(136, header.as_bytes());
                stored.write(192, &payload);
            }
            let blocks = 1 + payload.len().div_ceil(64);
            loop {
                let sent = if from_slot {
                    sender.send_stored(&stored, 128, payload.len())
                } else {
                    sender.send(&head, &payload)
                };
                match sent {
                    Ok(()) => {
                        expected.push((psn, payload));
                        break;
                    }
                    Err(PioError::NoCredit { .. }) => bench.hfi.bus().relax(),
                    Err(PioError::TooLong { needed, .. }) => {
                        prop_assert!(blocks > usize::from(depth) && usize::from(needed.0) == blocks);
                        break;
                    }
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                }
            }
            arrived.extend(bench.arrived());
        }
        bench.settle();
        arrived.extend(bench.arrived());
        prop_assert_eq!(arrived, expected);
        prop_assert_eq!(sender.counters().bad_credit_words, 0);
    }
}
