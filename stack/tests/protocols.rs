//! Which protocol a message goes by, and that each carries every kind of message: tagged and not, with data for the receiver's
//! completion, from and into every kind of buffer, asked for before, while and after it comes.

mod common;

use common::{Bench, bench, data};
use opx_bus::{PacketFaults, PciFunction, SharedMem};
use opx_defs::units::Lid;
use opx_defs::wire::opx::Generation;
use opx_stack::{
    Address, Buffer, Completion, Config, Endpoint, Level, OperationError, Outgoing, Pattern, SendError, SharedRange,
    Thresholds,
};
use std::time::Duration;

/// What a receive tells, without its context.
#[derive(Debug, PartialEq)]
struct Got {
    tag: Option<u64>,
    data: Option<u32>,
    source: Address,
    bytes: Vec<u8>,
}

impl Got {
    /// What the next completion of `b` tells of a message.
    fn next(bench: &mut Bench) -> Self {
        match bench.next_at_b() {
            Completion::Received { tag, data, source, len, buffer, .. } => {
                Self { tag, data, source, bytes: buffer.bytes()[..len].to_vec() }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Lengths at which something changes with the default settings, and some between.
const LENGTHS: &[usize] =
    &[0, 1, 8, 16, 17, 511, 513, 8191, 8192, 8193, 8200, 12_287, 12_288, 12_289, 16_383, 16_384, 16_385, 40_001];

#[test]
fn messages_carry_tag_and_data_or_neither_by_every_protocol() {
    let mut bench = bench(Config::default());
    let (from, to) = (bench.a.address(), bench.b.address());
    for (n, &len) in LENGTHS.iter().enumerate() {
        for (tag, cq) in [(None, None), (None, Some(0)), (Some(0), None), (Some(u64::MAX), Some(u32::MAX))] {
            let bytes = data(n as u64, len);
            // The other kind of receive is there as well and must be left alone.
            bench.b.receive(None, vec![0; len + 1], 1).unwrap();
            bench.b.tag_receive(Pattern { tag: 0, ignore: u64::MAX, source: None }, vec![0; len + 1], 2).unwrap();
            let message = Outgoing { tag, data: cq, ..Outgoing::new(to, bytes.clone(), 3) };
            bench.a.send_message(message).unwrap();
            assert_eq!(
                Got::next(&mut bench),
                Got { tag, data: cq, source: from, bytes },
                "{len} bytes, {tag:?}, {cq:?}"
            );
            assert!(matches!(bench.next_at_a(), Completion::Sent { context: 3, .. }));
            bench.b.cancel_all();
            let Some(Completion::Failed { context, error, .. }) = bench.b.poll_completion() else { panic!() };
            assert_eq!((context, error), (if tag.is_some() { 1 } else { 2 }, OperationError::Closed));
            assert_eq!(bench.b.poll_completion(), None);
        }
    }
    bench.quiet();
}

#[test]
fn injected_messages_carry_all_that_others_do() {
    let mut bench = bench(Config::default());
    let (from, to) = (bench.a.address(), bench.b.address());
    for (tag, cq) in [(None, None), (None, Some(7)), (Some(9), None), (Some(9), Some(8))] {
        bench.a.inject_message(to, tag, cq, b"sixteen bytes...").unwrap();
        match tag {
            None => bench.b.receive(Some(from), vec![0; 20], 1).unwrap(),
            Some(tag) => bench.b.tag_receive(Pattern::exact(tag), vec![0; 20], 1).unwrap(),
        };
        let bytes = b"sixteen bytes...".to_vec();
        assert_eq!(Got::next(&mut bench), Got { tag, data: cq, source: from, bytes });
    }
    assert_eq!(bench.a.inject(to, &[0; 17]), Err(SendError::TooLong(17)));
    assert_eq!(bench.a.poll_completion(), None);
}

#[test]
fn the_protocol_follows_length_tag_settings_and_the_size_of_the_send_context() {
    let offered = |config: Config, tagged: bool, len: usize| {
        let mut bench = bench(config);
        let to = bench.b.address();
        let tag = tagged.then_some(1);
        bench.a.send_message(Outgoing { tag, ..Outgoing::new(to, data(1, len), 0) }).unwrap();
        bench.run(|bench| bench.b.counters().unexpected_messages == 1);
        match tag {
            Some(tag) => bench.b.tag_receive(Pattern::exact(tag), vec![0; len], 0).unwrap(),
            None => bench.b.receive(None, vec![0; len], 0).unwrap(),
        };
        assert_eq!(Got::next(&mut bench).bytes, data(1, len));
        bench.b.counters().offers == 1
    };
    let standard = Config::default;
    assert!(!offered(standard(), true, 8192));
    assert!(!offered(standard(), true, 8193));
    assert!(!offered(standard(), true, 16_384));
    assert!(offered(standard(), true, 16_385));
    assert!(!offered(standard(), false, 8192));
    assert!(offered(standard(), false, 8193));
    let with = |thresholds| Config { thresholds, ..standard() };
    let rendezvous_min = |rendezvous_min| with(Thresholds { rendezvous_min, ..Thresholds::default() });
    assert!(offered(with(Thresholds { no_multi_packet: true, ..Thresholds::default() }), true, 8193));
    assert!(!offered(rendezvous_min(10_000), true, 9_999));
    assert!(offered(rendezvous_min(10_000), true, 10_000));
    assert!(!offered(rendezvous_min(64), true, 63));
    assert!(offered(rendezvous_min(64), true, 64));
    // A context of 64 blocks lets 41 of them be one packet's payload: 2624 bytes, and as many in each of several.
    let small = || Config { pio_blocks: 64, ..standard() };
    assert!(!offered(small(), false, 2624));
    assert!(offered(small(), false, 2625));
    assert!(!offered(small(), true, 2625));
}

/// Packets that the processor wrote and that the engine fetched for a message, its offer included.
fn packets(bench: &mut Bench, len: usize) -> (u64, u64) {
    let to = bench.b.address();
    let sent = |bench: &Bench| (bench.a.pio_counters().packets, bench.a.sdma_counters().packets);
    let before = sent(bench);
    bench.b.tag_receive(Pattern::exact(1), vec![0; len], 1).unwrap();
    bench.a.tag_send(to, 1, data(1, len), 0).unwrap();
    assert_eq!(Got::next(bench).bytes, data(1, len));
    bench.quiet();
    while bench.a.poll_completion().is_some() {}
    let after = sent(bench);
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn the_bytes_of_long_messages_go_by_sdma_and_those_of_others_by_pio() {
    let thresholds = Thresholds { sdma_min: 40_000, ..Thresholds::default() };
    let mut bench = bench(Config { thresholds, ..Config::default() });
    // The last packet of a long one is short, and goes by SDMA all the same; the offer is written by the processor.
    let (pio, sdma) = packets(&mut bench, 40_001);
    assert_eq!(sdma, 40_001_u64.div_ceil(8192), "and {pio} by PIO");
    assert_eq!(packets(&mut bench, 39_999).1, 0);
    // As long as the endpoint runs that can be changed.
    bench.a.set_thresholds(Thresholds { sdma_min: 39_999, ..thresholds }).unwrap();
    assert_eq!(packets(&mut bench, 39_999).1, 5);
    bench.a.set_thresholds(Thresholds { no_sdma: true, ..Thresholds::default() }).unwrap();
    for len in [8192, 16_000, 1 << 20] {
        assert_eq!(packets(&mut bench, len).1, 0, "{len} bytes");
    }
    let smaller = Thresholds { packet_max: 2048, ..Thresholds::default() };
    bench.a.set_thresholds(smaller).unwrap();
    assert_eq!(packets(&mut bench, 40_960).1, 20);
    assert_eq!(bench.a.thresholds(), smaller);
    let error = bench.a.set_thresholds(Thresholds { sdma_min: 1, ..smaller }).unwrap_err();
    assert_eq!(error.to_string(), "threshold sdma_min is 1, it must be 64 to 2147483646");
    assert_eq!(bench.a.thresholds(), smaller, "as it was");
}

#[test]
fn packets_written_by_the_processor_fit_a_small_send_context() {
    let thresholds = Thresholds { no_sdma: true, ..Thresholds::default() };
    let mut bench = bench(Config { thresholds, pio_blocks: 64, ..Config::default() });
    // 2624 bytes a packet; the first 17 go with the offer. Acknowledgements are counted, too.
    let (pio, sdma) = packets(&mut bench, 100_049);
    assert!(pio > 100_032_u64.div_ceil(2624), "{pio}");
    assert_eq!(sdma, 0);
}

#[test]
fn messages_of_several_packets_survive_a_spoilt_wire_in_every_generation() {
    for generation in Generation::ALL {
        let mut bench = bench(Config { generation, ..Config::default() });
        bench.adapter.set_wire_faults(PacketFaults { loss: 5.0, duplicate: 3.0, reorder: 5.0, corrupt: 1.0 }, 11);
        let to = bench.b.address();
        let len = |n: u64| 8193 + (n as usize * 131) % 8192;
        let (mut sent, mut received, mut posted) = (0, 0, 0);
        bench.run(|bench| {
            while sent < 80 && bench.a.tag_send(to, sent, data(sent, len(sent)), sent).is_ok() {
                sent += 1;
            }
            // Half are asked for late.
            while posted < 80 && (posted < received + 3) {
                bench.b.tag_receive(Pattern::exact(posted), vec![0; 16_400], posted).unwrap();
                posted += 1;
            }
            while let Some(completion) = bench.b.poll_completion() {
                let Completion::Received { context, len: got, buffer, .. } = completion else {
                    panic!("{completion:?}")
                };
                assert_eq!(
                    &buffer.bytes()[..got],
                    &data(context, len(context))[..],
                    "message {context} in {generation}"
                );
                received += 1;
            }
            received == 80 && bench.a.is_quiet() && bench.b.is_quiet()
        });
        assert_eq!((bench.b.counters().malformed, bench.b.counters().stale), (0, 0), "{generation}");
        assert!(bench.a.reliability_counters().replays_sent > 0);
    }
}

#[test]
fn a_message_of_several_packets_can_be_asked_for_while_it_comes() {
    let mut bench = bench(Config::default());
    let to = bench.b.address();
    let whole = data(3, 16_000);
    bench.a.tag_send(to, 1, whole.clone(), 0).unwrap();
    // Only until its first packet is there.
    bench.run(|bench| bench.b.counters().unexpected_messages == 1);
    bench.b.tag_receive(Pattern::exact(1), vec![0; 16_000], 1).unwrap();
    assert_eq!(Got::next(&mut bench).bytes, whole);
    // And one that doesn't fit fails, with the next one intact.
    bench.b.tag_receive(Pattern::exact(1), vec![0; 15_999], 2).unwrap();
    bench.a.tag_send(to, 1, whole.clone(), 0).unwrap();
    bench.a.tag_send(to, 1, whole.clone(), 0).unwrap();
    let Completion::Failed { context: 2, error, buffer } = bench.next_at_b() else { panic!() };
    assert_eq!((error, buffer.len()), (OperationError::Truncated { message: 16_000, buffer: 15_999 }, 15_999));
    bench.b.tag_receive(Pattern::exact(1), vec![0; 16_001], 3).unwrap();
    assert_eq!(Got::next(&mut bench).bytes, whole);
    bench.quiet();
}

#[test]
fn any_kind_of_buffer_can_be_sent_and_received_into() {
    let mut bench = bench(Config::default());
    let to = bench.b.address();
    for &len in LENGTHS {
        let bytes = data(len as u64, len);
        let shared = |fill: Option<&[u8]>| {
            let memory = SharedMem::new(len + 100).unwrap();
            if let Some(fill) = fill {
                memory.write(33, fill);
            }
            Buffer::from(SharedRange::new(memory, 33, len).unwrap())
        };
        let (head, tail) = bytes.split_at(len / 3);
        let vector = || [Buffer::from(head.to_vec()), Buffer::default(), tail.to_vec().into()].into_iter().collect();
        for send in [shared(Some(&bytes)), vector()] {
            let receive: Vec<Buffer> = vec![
                shared(None),
                [vec![0; len / 2].into(), Buffer::from(vec![0; len - len / 2])].into_iter().collect(),
            ];
            for receive in receive {
                bench.b.tag_receive(Pattern::exact(1), receive, 1).unwrap();
                bench.a.tag_send(to, 1, send.clone(), 2).unwrap();
                assert_eq!(Got::next(&mut bench).bytes, bytes, "{len} bytes");
                assert_eq!(bench.next_at_a(), Completion::Sent { context: 2, buffer: send.clone() });
            }
        }
    }
}

#[test]
fn a_send_completes_as_far_along_as_it_was_asked_to() {
    let mut bench = bench(Config::default());
    let to = bench.b.address();
    let message =
        |level, silent, context| Outgoing { tag: Some(1), level, silent, ..Outgoing::new(to, vec![5; 100], context) };
    bench.a.send_message(message(Level::Inject, false, 1)).unwrap();
    assert!(matches!(bench.a.poll_completion(), Some(Completion::Sent { context: 1, .. })), "at once");
    bench.a.send_message(message(Level::Transmit, false, 2)).unwrap();
    assert_eq!(bench.a.poll_completion(), None, "not before the peer has it");
    assert!(matches!(bench.next_at_a(), Completion::Sent { context: 2, .. }));
    for level in [Level::Inject, Level::Transmit] {
        bench.a.send_message(message(level, true, 3)).unwrap();
    }
    bench.quiet();
    assert_eq!(bench.a.poll_completion(), None);
}

#[test]
fn a_silent_send_tells_when_it_fails() {
    let reliability = opx_reliability::Config { give_up_after: Duration::from_millis(500), ..Default::default() };
    let mut bench = bench(Config { reliability, ..Config::default() });
    let nobody = Address { lid: Lid(1), rx: 77 };
    let message = Outgoing { tag: Some(1), silent: true, ..Outgoing::new(nobody, vec![5; 100], 4) };
    bench.a.send_message(message).unwrap();
    let Completion::Failed { context: 4, error, buffer } = bench.next_at_a() else { panic!() };
    assert_eq!((error, buffer), (OperationError::Unreachable(nobody), vec![5; 100].into()));
}

#[test]
fn a_peer_without_room_holds_up_neither_other_peers_nor_what_it_asked_for() {
    // B takes nothing unexpected beyond a little, so A's eager messages to it are refused again and again; what B asks A for,
    // and what A asks B for, goes on all the same, and so does everything with C.
    let mut bench = bench(Config { unexpected_bytes: 4000, ..Config::default() });
    let mut c = Endpoint::open(&bench.hfi, Config::default()).unwrap();
    let (a, b) = (bench.a.address(), bench.b.address());
    bench.b.tag_send(a, 50, data(50, 300_000), 50).unwrap();
    bench.run(|bench| bench.a.counters().unexpected_messages == 1);
    for n in 0..20 {
        bench.a.tag_send(b, n, data(n, 2000), n).unwrap();
    }
    bench.run(|bench| bench.b.counters().no_room > 3);
    bench.a.tag_receive(Pattern::exact(50), vec![0; 300_000], 51).unwrap();
    bench.a.tag_send(c.address(), 60, data(60, 100_000), 60).unwrap();
    c.tag_receive(Pattern::exact(60), vec![0; 100_000], 61).unwrap();
    let (mut from_b, mut at_c) = (false, false);
    bench.run(|bench| {
        c.progress().unwrap();
        while let Some(completion) = bench.a.poll_completion() {
            if let Completion::Received { context: 51, buffer, .. } = completion {
                assert_eq!(buffer, data(50, 300_000));
                from_b = true;
            }
        }
        if let Some(Completion::Received { context: 61, buffer, .. }) = c.poll_completion() {
            assert_eq!(buffer, data(60, 100_000));
            at_c = true;
        }
        from_b && at_c
    });
    for n in 0..20 {
        bench.b.tag_receive(Pattern::exact(n), vec![0; 2000], n).unwrap();
    }
    let mut left = 20;
    bench.run(|bench| {
        while let Some(completion) = bench.b.poll_completion() {
            left -= i32::from(matches!(completion, Completion::Received { .. }));
        }
        left == 0
    });
}

#[test]
fn a_message_whose_sender_ends_in_the_middle_fails_with_it() {
    let reliability = opx_reliability::Config { give_up_after: Duration::from_millis(500), ..Default::default() };
    let mut bench = bench(Config { reliability, ..Config::default() });
    let b = bench.b.address();
    for asked_before in [true, false] {
        // One slot: the second packet of its message waits for the first to be acknowledged.
        bench.a = Endpoint::open(&bench.hfi, Config { slots: 1, ..Config::default() }).unwrap();
        let a = bench.a.address();
        bench.a.tag_send(b, 1, data(1, 16_000), 0).unwrap();
        if asked_before {
            bench.b.tag_receive(Pattern::exact(1), vec![0; 16_000], 1).unwrap();
        }
        let before = bench.b.counters().packets_in;
        while bench.b.counters().packets_in == before {
            bench.a.progress().unwrap();
            bench.b.progress().unwrap();
            bench.hfi.bus().relax();
        }
        // From here on A does nothing, and B learns of it from what it sends itself.
        bench.b.tag_send(a, 2, vec![7; 10], 2).unwrap();
        let mut failed = Vec::new();
        let limit = bench.hfi.bus().now() + Duration::from_secs(60);
        while failed.len() < 1 + usize::from(asked_before) {
            assert!(bench.hfi.bus().now() < limit, "only {failed:?} failed");
            if !bench.b.progress().unwrap() {
                bench.hfi.bus().relax();
            }
            while let Some(completion) = bench.b.poll_completion() {
                let Completion::Failed { context, error, .. } = completion else { panic!("{completion:?}") };
                assert_eq!(error, OperationError::Unreachable(a));
                failed.push(context);
            }
        }
        failed.sort_unstable();
        assert_eq!(failed, if asked_before { vec![1, 2] } else { vec![2] });
        if !asked_before {
            // Whoever asks for what is left of it is told.
            bench.b.tag_receive(Pattern::exact(1), vec![0; 16_000], 3).unwrap();
            let Some(Completion::Failed { context: 3, error, .. }) = bench.b.poll_completion() else { panic!() };
            assert_eq!(error, OperationError::Unreachable(a));
        }
    }
}
