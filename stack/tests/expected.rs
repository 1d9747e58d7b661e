//! Rendezvous without copies: the engine takes data from the sender's memory, and the adapter puts it into the receiver's.

mod common;

use common::memory::Guarded;
use common::{Bench, bench, data};
use opx_bus::{PacketFaults, PciFunction};
use opx_defs::wire::opx::Generation;
use opx_emu::{ChipFault, Fault};
use opx_hw::{LinkMode, LinkState};
use opx_stack::{Completion, Config, Counters, ExpectedReceive, OperationError, Pattern, Thresholds};
use proptest::prelude::*;
use std::time::Duration;

/// One message from memory to memory; gives the receiver's.
fn pass(bench: &mut Bench, from: usize, to: usize, bytes: &[u8]) -> Guarded {
    let (source, target) = (Guarded::with(from, bytes), Guarded::new(to, bytes.len()));
    bench.b.tag_receive(Pattern::exact(1), target.buffer(), 1).unwrap();
    bench.a.tag_send(bench.b.address(), 1, source.buffer(), 2).unwrap();
    let Completion::Received { len, .. } = bench.next_at_b() else { panic!() };
    assert_eq!(len, bytes.len());
    assert!(matches!(bench.next_at_a(), Completion::Sent { context: 2, .. }));
    assert!(target.bytes(len) == bytes, "{len} bytes from {from} to {to} differ");
    assert!(source.is_unharmed() && target.is_unharmed(), "{len} bytes from {from} to {to} harmed others");
    target
}

fn with(thresholds: Thresholds) -> Config {
    Config { thresholds, ..Config::default() }
}

fn copied(bench: &Bench) -> u64 {
    bench.a.counters().rendezvous_bytes_copied + bench.b.counters().rendezvous_bytes_copied
}

fn expected(bench: &Bench) -> ExpectedReceive {
    bench.b.counters().expected
}

#[test]
fn the_processor_copies_nothing_between_aligned_buffers() {
    let mut bench = bench(Config::default());
    for len in [64 << 10, 128 << 10, 1 << 20, (1 << 20) + 4096, (2 << 20) + 8192] {
        let before = bench.b.counters().packets_in;
        pass(&mut bench, 4096, 8192, &data(len as u64, len));
        assert_eq!(copied(&bench), 0, "{len}");
        let packets = bench.b.counters().packets_in - before;
        assert!(packets <= len as u64 / 8192 + 20, "{packets} packets for {len} bytes");
    }
    let counts = expected(&bench);
    assert_eq!((counts.rts_tid_eligible, counts.rts_tid_setup_success), (5, 5));
    assert_eq!((counts.tid_rcv_pkts_replays, counts.tid_misplaced), (0, 0));
    assert_eq!(bench.adapter.counts().expected_packets, counts.tid_rcv_pkts);
    assert_eq!(bench.a.counters().expected.tid_sent_pkts, counts.tid_rcv_pkts);
    assert_eq!(bench.b.counters().packets_in_error, 0);
    bench.quiet();
}

/// OPX's change 6f1016716: packets of SDMA are whole qwords, and what pads the last one is nobody's message.
#[test]
fn what_pads_packets_of_the_engine_is_written_nowhere() {
    for thresholds in [Thresholds { no_tid: true, ..Thresholds::default() }, Thresholds::default()] {
        let mut bench = bench(with(thresholds));
        for len in 20_000..20_009 {
            pass(&mut bench, 3, 5, &data(len as u64, len));
        }
        assert!(bench.a.sdma_counters().packets >= 9, "{:?}", bench.a.sdma_counters());
        assert_eq!((bench.a.counters().malformed, bench.b.counters().malformed), (0, 0));
    }
}

#[test]
fn lengths_and_starts_around_pages_entries_and_packets() {
    for tid_whole_pages in [true, false] {
        let mut bench = bench(Config { tid_whole_pages, ..Config::default() });
        let lens = [16_385, 16_448, 20_479, 20_480, 20_487, 24_575, 24_577, 65_535, 65_536, 65_537, 73_729, 200_003];
        for (n, len) in lens.into_iter().enumerate() {
            for (from, to) in [(0, 0), (1, 0), (0, 1), (63, 64), (64, 4095), (4097, 4096), (12_345, 6_789)] {
                let before = bench.b.counters().rendezvous_bytes_copied;
                pass(&mut bench, from, to, &data(n as u64, len));
                // By lines all is put in place but for what came along; by pages all but the ends.
                let copied = bench.b.counters().rendezvous_bytes_copied - before;
                assert!(len < 16_512 || copied <= if tid_whole_pages { 8190 } else { 0 }, "{copied} of {len}");
            }
        }
        // Of the shortest two too little is left after the offer.
        assert_eq!(expected(&bench).rts_tid_setup_success, 70, "{:?}", expected(&bench));
        assert_eq!(
            (expected(&bench).tid_misplaced, bench.b.counters().malformed, bench.a.counters().malformed),
            (0, 0, 0)
        );
        bench.quiet();
    }
}

#[test]
fn what_cannot_or_must_not_be_expected_comes_as_ever() {
    let counts = |config: Config, len: usize, to_memory: bool| {
        let mut bench = bench(config);
        let bytes = data(3, len);
        if to_memory {
            pass(&mut bench, 0, 0, &bytes);
        } else {
            bench.b.receive(None, vec![0; len], 1).unwrap();
            bench.a.send(bench.b.address(), Guarded::with(0, &bytes).buffer(), 2).unwrap();
            let Completion::Received { buffer, .. } = bench.next_at_b() else { panic!() };
            assert!(buffer == bytes);
        }
        let Counters { expected, .. } = bench.b.counters();
        (expected.rts_tid_eligible, expected.rts_tid_ineligible, expected.tid_rcv_pkts > 0)
    };
    let standard = Config::default;
    assert_eq!(counts(standard(), 65_536, true), (1, 0, true));
    assert_eq!(counts(standard(), 65_536, false), (0, 1, false), "no device reaches it");
    let usual = Thresholds::default();
    let set = |thresholds| Config { thresholds, ..standard() };
    assert_eq!(counts(set(Thresholds { no_tid: true, ..usual }), 65_536, true), (0, 1, false));
    assert_eq!(counts(set(Thresholds { no_sdma: true, ..usual }), 65_536, true), (0, 1, false));
    assert_eq!(counts(set(Thresholds { tid_min: 65_537, ..usual }), 65_536, true), (0, 1, false));
    assert_eq!(counts(set(Thresholds { sdma_min: 65_537, ..usual }), 65_536, true), (0, 1, false));
    assert_eq!(counts(set(Thresholds { packet_max: 2048, ..usual }), 65_536, true), (1, 0, true));
    let low = Thresholds { sdma_min: 64, rendezvous_min: 4096, eager_max: 4096, no_multi_packet: true, ..usual };
    assert_eq!(counts(set(low), 8192, true), (1, 0, true));
    assert_eq!(counts(set(low), 4097, true), (0, 1, false), "less than a page is left");
}

#[test]
fn below_the_threshold_data_is_copied_on_its_way_out() {
    let mut bench = bench(with(Thresholds { sdma_bounce_max: 100_000, ..Thresholds::default() }));
    pass(&mut bench, 4096, 4096, &data(1, 98_304));
    assert_eq!((bench.a.counters().rendezvous_bytes_copied, bench.b.counters().rendezvous_bytes_copied), (98_304, 0));
    pass(&mut bench, 4096, 4096, &data(2, 102_400));
    assert_eq!(copied(&bench), 98_304);
    assert_eq!(bench.a.mapping_counts().tid_cache_miss, 1);
}

#[test]
fn a_sender_without_memory_for_devices_or_without_engine_fills_expected_buffers_too() {
    for no_sdma in [false, true] {
        let mut bench = bench(Config::default());
        let mut c =
            opx_stack::Endpoint::open(&bench.hfi, with(Thresholds { no_sdma, ..Thresholds::default() })).unwrap();
        let (bytes, target) = (data(5, 100_000), Guarded::new(0, 100_000));
        bench.b.receive(None, target.buffer(), 1).unwrap();
        c.send(bench.b.address(), bytes.clone(), 2).unwrap();
        bench.run(|bench| {
            c.progress().unwrap();
            bench.b.poll_completion().is_some()
        });
        assert!(target.bytes(bytes.len()) == bytes && target.is_unharmed());
        assert!(expected(&bench).tid_rcv_pkts > 0);
        assert_eq!(c.sdma_counters().packets == 0, no_sdma);
    }
}

#[test]
fn long_messages_have_several_answers() {
    let mut bench = bench(Config::default());
    pass(&mut bench, 4096, 4096, &data(1, (20 << 20) + 100));
    assert_eq!((expected(&bench).rts_tid_setup_success, expected(&bench).rts_tid_eligible), (1, 1));
    assert!(copied(&bench) < 8192, "the end is short of a page");
    bench.quiet();
}

#[test]
fn with_too_few_entries_a_part_or_all_comes_as_ever() {
    let mut bench = bench(Config { tid_entries: 8, ..Config::default() });
    // 255 pages: eight entries, one too few for an odd start, but all are there for one.
    let len = 255 * 4096;
    let target: Vec<_> = (0..3).map(|_| Guarded::new(4096, len)).collect();
    let bytes = data(9, len);
    let source = Guarded::with(0, &bytes);
    for (n, target) in (0..).zip(&target) {
        bench.b.tag_receive(Pattern::exact(n), target.buffer(), n).unwrap();
    }
    for n in 0..3 {
        bench.a.tag_send(bench.b.address(), n, source.buffer(), n).unwrap();
    }
    for _ in 0..3 {
        assert!(matches!(bench.next_at_b(), Completion::Received { .. }));
        assert!(matches!(bench.next_at_a(), Completion::Sent { .. }));
    }
    assert!(target.iter().all(|target| target.bytes(len) == bytes && target.is_unharmed()));
    let counts = expected(&bench);
    assert_eq!((counts.rts_tid_eligible, counts.rts_fallback_eager_reg_rzv), (3, 2), "{counts:?}");
    // A length that needs nine entries gets eight.
    let len = 511 * 4096;
    pass(&mut bench, 0, 4096, &data(10, len));
    assert_eq!(expected(&bench).tid_update_success_partial, 1);
    assert!(copied(&bench) > 0);
    bench.quiet();
}

#[test]
fn a_message_longer_than_its_buffer_leaves_that_alone() {
    let mut bench = bench(Config::default());
    let target = Guarded::new(100, 65_535);
    bench.b.tag_receive(Pattern::exact(1), target.buffer(), 1).unwrap();
    bench.a.tag_send(bench.b.address(), 1, Guarded::new(0, 65_536).buffer(), 2).unwrap();
    let Completion::Failed { error, .. } = bench.next_at_b() else { panic!() };
    assert_eq!(error, OperationError::Truncated { message: 65_536, buffer: 65_535 });
    assert!(matches!(bench.next_at_a(), Completion::Sent { .. }));
    assert!(target.is_unharmed() && target.bytes(65_535).iter().all(|byte| *byte == 0xa5));
    assert_eq!(expected(&bench), ExpectedReceive::default());
}

/// Many messages over a wire that spoils packets, several at a time, to memory of which the neighbours are looked at.
fn spoilt(faults: PacketFaults, config: Config, count: u64, seed: u64, mut each_turn: impl FnMut(&mut Bench)) -> Bench {
    let mut bench = bench(config);
    bench.adapter.set_wire_faults(faults, seed);
    let to = bench.b.address();
    let len = |n: u64| 16_385 + (n as usize * 7_919) % 150_000;
    let at = |n: u64| {
        let at = n as usize * 1_237 % 9_000;
        if n.is_multiple_of(3) { at } else { at / 4096 * 4096 }
    };
    let targets: Vec<_> = (0..count).map(|n| Guarded::new(at(n), len(n))).collect();
    let sources: Vec<_> = (0..count).map(|n| Guarded::with(at(n + 1), &data(n, len(n)))).collect();
    for (n, target) in (0..).zip(&targets) {
        bench.b.tag_receive(Pattern::exact(n), target.buffer(), n).unwrap();
    }
    let (mut sent, mut acknowledged, mut received) = (0, 0, 0);
    bench.run(|bench| {
        while sent < count
            && sent < acknowledged + 4
            && bench.a.tag_send(to, sent, sources[sent as usize].buffer(), sent).is_ok()
        {
            sent += 1;
        }
        while let Some(completion) = bench.b.poll_completion() {
            let Completion::Received { context, len: got, .. } = completion else { panic!("{completion:?}") };
            assert!(targets[context as usize].bytes(got) == data(context, len(context)), "message {context}");
            // The memory is its owner's again: whatever comes late must not get there.
            targets[context as usize].fill(0x3c);
            received += 1;
        }
        while let Some(completion) = bench.a.poll_completion() {
            let Completion::Sent { context, .. } = completion else { panic!("{completion:?}") };
            sources[context as usize].fill(0xee);
            acknowledged += 1;
        }
        each_turn(bench);
        received == count && acknowledged == count
    });
    bench.quiet();
    for (n, target) in targets.iter().enumerate() {
        assert!(target.is_unharmed(), "around message {n}");
        assert!(target.bytes(len(n as u64)).iter().all(|byte| *byte == 0x3c), "message {n}, after it was given back");
    }
    bench
}

#[test]
fn a_spoilt_wire_changes_nothing_but_the_counts() {
    let faults = PacketFaults { loss: 3.0, duplicate: 3.0, reorder: 5.0, corrupt: 1.0 };
    for tid_whole_pages in [true, false] {
        let bench = spoilt(faults, Config { tid_whole_pages, ..Config::default() }, 60, 5, |_| {});
        let counts = expected(&bench);
        assert!(counts.tid_rcv_pkts_replays > 0 && counts.tid_rcv_pkts > 500, "{counts:?}");
        assert_eq!((counts.overwritten, bench.adapter.counts().dma_faults), (0, 0));
    }
}

#[test]
fn every_generation_fills_expected_buffers() {
    for generation in Generation::ALL {
        let faults = PacketFaults { loss: 1.0, duplicate: 1.0, reorder: 2.0, corrupt: 0.5 };
        let bench = spoilt(faults, Config { generation, ..Config::default() }, 12, 6, |_| {});
        assert!(expected(&bench).tid_rcv_pkts > 50, "{generation:?}: {:?}", expected(&bench));
    }
}

#[test]
fn doubled_packets_are_harmless_when_entries_are_few_and_used_again() {
    let faults = PacketFaults { loss: 2.0, duplicate: 10.0, reorder: 10.0, corrupt: 0.0 };
    let config = Config { tid_entries: 64, ..Config::default() };
    let bench = spoilt(faults, config, 60, 7, |_| {});
    let counts = expected(&bench);
    assert!(counts.rts_fallback_eager_reg_rzv > 0 && counts.tid_rcv_pkts > 100, "{counts:?}");
    assert_eq!((counts.overwritten, counts.tid_misplaced), (0, 0));
}

#[test]
fn transfers_survive_freezes_and_links_that_go_down() {
    let config = Config { health_interval: Duration::from_millis(1), ..Config::default() };
    for fault in [ChipFault::SdmaCsrParity, ChipFault::LinkSignalLost] {
        let mut injected = false;
        let bench = spoilt(PacketFaults::default(), config.clone(), 40, 8, |bench| {
            if !std::mem::replace(&mut injected, true) {
                for after in [3, 20, 60, 100, 101, 150, 300, 400] {
                    assert!(bench.adapter.inject(Fault::Chip(fault), 0, after));
                }
            }
            if matches!(bench.hfi.link_state(), LinkState::Down(_)) {
                bench.hfi.link_up(LinkMode::Loopback).unwrap();
            }
        });
        assert!(bench.hfi.freezes() >= 4, "{}", bench.hfi.freezes());
        let seen = expected(&bench);
        assert!(seen.tid_rcv_pkts > 100 && seen.tid_rcv_pkts_replays > 0, "{fault:?}: {seen:?}");
        assert_eq!((expected(&bench).overwritten, bench.adapter.counts().dma_faults), (0, 0));
    }
}

#[test]
fn memory_is_given_back_only_when_the_engine_is_done_with_it() {
    let mut bench = bench(Config::default());
    let len = 1 << 20;
    let bytes = data(4, len);
    for turns in [1, 3, 7, 20, 60] {
        let (source, target) = (Guarded::with(64, &bytes), Guarded::new(4096, len));
        target.fill(0);
        bench.b.tag_receive(Pattern::exact(1), target.buffer(), 1).unwrap();
        bench.a.tag_send(bench.b.address(), 1, source.buffer(), 2).unwrap();
        bench.run(|bench| bench.b.counters().offers > 0 && bench.a.sdma_counters().packets > 0);
        for _ in 0..turns {
            bench.a.progress().unwrap();
            bench.b.progress().unwrap();
            bench.hfi.bus().relax();
        }
        bench.a.cancel_all();
        let Completion::Failed { context: 2, error: OperationError::Closed, buffer } = bench.next_at_a() else {
            panic!()
        };
        assert!(buffer == bytes);
        drop(buffer);
        source.fill(0xee);
        let until = bench.hfi.bus().now() + Duration::from_millis(20);
        bench.run(|bench| bench.hfi.bus().now() > until);
        // What isn't there yet was sent before or is never sent.
        let strange = target.bytes(len).iter().zip(&bytes).filter(|(got, sent)| **got != 0 && got != sent).count();
        assert_eq!(strange, 0, "after {turns} turns");
        bench.b.cancel_all();
        while let Some(completion) = bench.b.poll_completion() {
            // Perhaps the engine had all of it.
            assert!(matches!(completion, Completion::Failed { .. } | Completion::Received { .. }), "{completion:?}");
        }
        target.fill(0x3c);
        bench.run(|bench| bench.a.is_quiet());
        assert!(target.bytes(len).iter().all(|byte| *byte == 0x3c) && target.is_unharmed());
        assert_eq!(bench.adapter.counts().dma_faults, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Wherever the buffers begin and end, and whatever more there is behind the message: it comes whole, and nothing around the
    /// buffer is touched; with whole pages not even by what a sender might do.
    #[test]
    fn messages_find_their_place(
        len in 16_385usize..120_000, from in 0usize..9_000, to in 0usize..9_000, more in 0usize..9_000, whole: bool, seed: u64,
    ) {
        let mut bench = bench(Config { tid_whole_pages: whole, ..Config::default() });
        let faults = PacketFaults { loss: 2.0, duplicate: 2.0, reorder: 4.0, corrupt: 1.0 };
        bench.adapter.set_wire_faults(faults, seed);
        let bytes = data(seed, len);
        let (source, target) = (Guarded::with(from, &bytes), Guarded::new(to, len + more));
        bench.b.tag_receive(Pattern::exact(1), target.buffer(), 1).unwrap();
        bench.a.tag_send(bench.b.address(), 1, source.buffer(), 2).unwrap();
        let received = matches!(bench.next_at_b(), Completion::Received { .. });
        prop_assert!(received);
        prop_assert!(target.bytes(len) == bytes);
        let sent = matches!(bench.next_at_a(), Completion::Sent { .. });
        prop_assert!(sent);
        target.fill(0x3c);
        bench.quiet();
        prop_assert!(target.is_unharmed() && source.is_unharmed());
        prop_assert!(target.bytes(len + more).iter().all(|byte| *byte == 0x3c));
    }
}
