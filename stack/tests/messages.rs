//! Messages between two endpoints on an emulated adapter in simulated time: every protocol, both orders of send and
//! receive, faults on the wire, and what must be refused.

mod common;

use common::{bench, data};
use opx_bus::{PacketFaults, PciFunction};
use opx_defs::units::Sl;
use opx_defs::wire::opx::{Generation, Header};
use opx_emu::{Config as Chip, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::{
    AddressVector, Completion, Config, Endpoint, OpenError, OperationError, Pattern, ReceiveError, SendError,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn every_length_arrives_whole_by_its_protocol() {
    let mut bench = bench(Config::default());
    let to = bench.b.address();
    for len in [0, 1, 7, 8, 9, 15, 16, 63, 64, 65, 511, 512, 513, 8191, 8192, 8193, 8200, 16_384, 100_003, 1 << 20] {
        let message = data(len as u64, len);
        bench.b.tag_receive(Pattern::exact(len as u64), vec![0; len + 3], 5).unwrap();
        bench.a.tag_send(to, len as u64, message.clone(), 6).unwrap();
        let Completion::Received { context, tag, source, len: got, buffer, .. } = bench.next_at_b() else { panic!() };
        assert_eq!((context, tag, source, got), (5, Some(len as u64), bench.a.address(), len));
        assert_eq!(&buffer.bytes()[..got], &message[..]);
        assert_eq!(bench.next_at_a(), Completion::Sent { context: 6, buffer: message.into() });
    }
    bench.quiet();
}

#[test]
fn injected_messages_need_no_completion() {
    let mut bench = bench(Config::default());
    let to = bench.b.address();
    for len in 0..=16 {
        bench.a.tag_inject(to, 3, &data(1, len)).unwrap();
        bench.b.tag_receive(Pattern::exact(3), vec![0; 16], 0).unwrap();
        let Completion::Received { len: got, buffer, .. } = bench.next_at_b() else { panic!() };
        assert_eq!(&buffer.bytes()[..got], &data(1, len)[..]);
    }
    assert_eq!(bench.a.tag_inject(to, 3, &[0; 17]), Err(SendError::TooLong(17)));
    assert_eq!(bench.a.poll_completion(), None);
}

#[test]
fn a_message_that_nobody_waits_for_is_kept_until_it_is_asked_for() {
    let mut bench = bench(Config::default());
    let to = bench.b.address();
    for (tag, len) in [(1, 100), (2, 50_000), (1, 200)] {
        bench.a.tag_send(to, tag, data(tag + len as u64, len), 0).unwrap();
    }
    bench.run(|bench| bench.b.counters().unexpected_messages == 3);
    // The one with wildcards takes the first that came; the same tag comes in the order it was sent.
    bench.b.tag_receive(Pattern { tag: 0, ignore: u64::MAX, source: None }, vec![0; 1 << 16], 10).unwrap();
    bench.b.tag_receive(Pattern::exact(2), vec![0; 1 << 16], 11).unwrap();
    bench.b.tag_receive(Pattern::exact(1), vec![0; 1 << 16], 12).unwrap();
    let mut got = Vec::new();
    for _ in 0..3 {
        let Completion::Received { context, tag: Some(tag), len, buffer, .. } = bench.next_at_b() else { panic!() };
        assert_eq!(&buffer.bytes()[..len], &data(tag + len as u64, len)[..]);
        got.push((context, tag, len));
    }
    got.sort();
    assert_eq!(got, [(10, 1, 100), (11, 2, 50_000), (12, 1, 200)]);
}

#[test]
fn a_receive_from_one_source_waits_for_it() {
    let mut bench = bench(Config::default());
    let (a, b) = (bench.a.address(), bench.b.address());
    bench.b.tag_receive(Pattern { tag: 4, ignore: 0, source: Some(b) }, vec![0; 8], 1).unwrap();
    bench.b.tag_receive(Pattern { tag: 4, ignore: 0, source: Some(a) }, vec![0; 8], 2).unwrap();
    bench.a.tag_send(b, 4, vec![9; 8], 0).unwrap();
    assert!(matches!(bench.next_at_b(), Completion::Received { context: 2, .. }));
}

#[test]
fn a_message_longer_than_its_buffer_is_an_error_on_one_side_only() {
    let mut bench = bench(Config::default());
    let to = bench.b.address();
    for len in [100, 100_000] {
        bench.b.tag_receive(Pattern::exact(1), vec![0; 99], 1).unwrap();
        bench.a.tag_send(to, 1, vec![7; len], 2).unwrap();
        let Completion::Failed { context: 1, error, buffer } = bench.next_at_b() else { panic!() };
        assert_eq!((error, buffer.len()), (OperationError::Truncated { message: len as u64, buffer: 99 }, 99));
        assert!(matches!(bench.next_at_a(), Completion::Sent { context: 2, .. }));
    }
}

#[test]
fn a_message_in_its_header_that_is_longer_than_its_buffer_leaves_that_alone() {
    let mut bench = bench(Config::default());
    let to = bench.b.address();
    // The second one comes when its peer is known: the short way in.
    for len in [9, 16, 9] {
        bench.b.tag_receive(Pattern::exact(1), vec![3; 8], 1).unwrap();
        bench.a.tag_inject(to, 1, &vec![7; len]).unwrap();
        let Completion::Failed { context: 1, error, buffer } = bench.next_at_b() else { panic!() };
        assert_eq!(error, OperationError::Truncated { message: len as u64, buffer: 8 });
        assert_eq!(buffer, vec![3; 8]);
    }
}

#[test]
fn more_sends_than_there_may_be_come_back() {
    for len in [100, 10_000, 100_000] {
        let mut bench = bench(Config { operations: 2, ..Config::default() });
        let to = bench.b.address();
        for n in 0..2 {
            bench.a.tag_send(to, 1, data(n, len), n).unwrap();
        }
        let refused = bench.a.tag_send(to, 1, data(2, len), 2).unwrap_err();
        assert!(matches!(refused.error, SendError::Again(_)), "{len} bytes");
        assert_eq!(refused.buffer, data(2, len));
        for n in 0..2 {
            bench.b.tag_receive(Pattern::exact(1), vec![0; len], n).unwrap();
        }
        let sent = |n: u64| Completion::Sent { context: n, buffer: data(n, len).into() };
        let two = [bench.next_at_a(), bench.next_at_a()];
        assert!([0, 1].into_iter().all(|n| two.contains(&sent(n))), "{len} bytes");
        bench.a.tag_send(to, 1, data(2, len), 2).unwrap();
        bench.b.tag_receive(Pattern::exact(1), vec![0; len], 2).unwrap();
        assert_eq!(bench.next_at_a(), sent(2), "{len} bytes");
    }
}

#[test]
fn more_receives_than_there_may_be_come_back() {
    let mut bench = bench(Config { operations: 2, ..Config::default() });
    let first = bench.b.tag_receive(Pattern::exact(1), vec![0; 8], 1).unwrap();
    bench.b.receive(None, vec![0; 8], 2).unwrap();
    let tagged = bench.b.tag_receive(Pattern::exact(3), vec![3; 8], 3).unwrap_err();
    assert_eq!((tagged.error, tagged.buffer), (ReceiveError::Again(Pattern::exact(3)), vec![3; 8].into()));
    let untagged = bench.b.receive(None, vec![4; 8], 4).unwrap_err();
    assert!(matches!(untagged.error, ReceiveError::Again(_)) && untagged.buffer == vec![4; 8]);
    assert!(bench.b.cancel(first));
    bench.b.tag_receive(Pattern::exact(3), vec![3; 8], 3).unwrap();
}

#[test]
fn no_receive_is_taken_while_as_many_completions_wait_as_may() {
    let mut bench = bench(Config { completions: 2, ..Config::default() });
    for n in 0..2 {
        let receive = bench.b.tag_receive(Pattern::exact(n), vec![0; 8], n).unwrap();
        assert!(bench.b.cancel(receive));
    }
    let refused = bench.b.tag_receive(Pattern::exact(3), vec![3; 8], 3).unwrap_err();
    assert_eq!((refused.error, refused.buffer), (ReceiveError::Again(Pattern::exact(3)), vec![3; 8].into()));
    assert!(bench.b.receive(None, vec![0; 8], 4).is_err());
    assert!(bench.b.poll_completion().is_some());
    bench.b.tag_receive(Pattern::exact(3), vec![3; 8], 3).unwrap();
}

#[test]
fn a_spoilt_wire_changes_nothing_but_the_counts() {
    let mut bench = bench(Config::default());
    bench.adapter.set_wire_faults(PacketFaults { loss: 5.0, duplicate: 3.0, reorder: 5.0, corrupt: 2.0 }, 42);
    let to = bench.b.address();
    let lens = |n: u64| if n.is_multiple_of(10) { 60_000 + n as usize * 7 } else { (n as usize * 37) % 3000 };
    let (mut sent, mut received) = (0, 0);
    for n in 0..200 {
        bench.b.tag_receive(Pattern::exact(0), vec![0; lens(n)], n).unwrap();
    }
    bench.run(|bench| {
        while sent < 200 && bench.a.tag_send(to, 0, data(sent, lens(sent)), sent).is_ok() {
            sent += 1;
        }
        while let Some(completion) = bench.b.poll_completion() {
            let Completion::Received { context, len, buffer, .. } = completion else { panic!("{completion:?}") };
            assert_eq!(&buffer.bytes()[..len], &data(context, lens(context))[..], "message {context}");
            received += 1;
        }
        received == 200
    });
    assert!(bench.adapter.fault_counts().total() > 50);
    assert!(bench.a.reliability_counters().replays_sent > 10);
    let counters = bench.a.counters();
    let told_apart = counters.replay_rts + counters.replay_cts + counters.replay_rzv;
    assert!(told_apart > 0 && told_apart < counters.retransmits, "{counters:?}");
    bench.quiet();
}

#[test]
fn every_generation_of_packets_carries_messages_over_a_spoilt_wire() {
    for generation in Generation::ALL {
        let mut bench = bench(Config { generation, ..Config::default() });
        bench.adapter.set_wire_faults(PacketFaults { loss: 5.0, duplicate: 2.0, reorder: 5.0, corrupt: 1.0 }, 7);
        let to = bench.b.address();
        for n in 0..60 {
            bench.b.tag_receive(Pattern::exact(n), vec![0; 50_000], n).unwrap();
        }
        let len = |n: u64| if n.is_multiple_of(7) { 40_000 + n as usize } else { n as usize * 41 };
        let (mut sent, mut received) = (0, 0);
        bench.run(|bench| {
            while sent < 60 && bench.a.tag_send(to, sent, data(sent, len(sent)), sent).is_ok() {
                sent += 1;
            }
            while let Some(completion) = bench.b.poll_completion() {
                let Completion::Received { context, len: got, buffer, source, .. } = completion else {
                    panic!("{completion:?}")
                };
                assert_eq!(source, bench.a.address(), "{generation}");
                assert_eq!(
                    &buffer.bytes()[..got],
                    &data(context, len(context))[..],
                    "message {context} in {generation}"
                );
                received += 1;
            }
            received == 60 && bench.a.is_quiet() && bench.b.is_quiet()
        });
        assert!(bench.a.reliability_counters().replays_sent > 0);
        assert_eq!(bench.b.counters().malformed, 0);
    }
}

#[test]
fn endpoints_of_different_generations_do_not_understand_each_other() {
    let reliability = opx_reliability::Config { give_up_after: Duration::from_secs(1), ..Default::default() };
    let mut bench = bench(Config { reliability, ..Config::default() });
    bench.b = Endpoint::open(&bench.hfi, Config { generation: Generation::G1, ..Config::default() }).unwrap();
    let to = bench.b.address();
    bench.a.tag_send(to, 1, vec![1; 10], 5).unwrap();
    let Completion::Failed { error, .. } = bench.next_at_a() else { panic!() };
    assert_eq!(error, OperationError::Unreachable(to));
}

#[test]
fn unexpected_messages_stay_within_their_limit_and_none_is_lost() {
    let mut bench = bench(Config { unexpected_bytes: 20_000, ..Config::default() });
    let to = bench.b.address();
    for n in 0..20 {
        bench.a.tag_send(to, n, data(n, 4000), n).unwrap();
    }
    bench.run(|bench| bench.b.counters().no_room > 3);
    assert!(bench.b.counters().unexpected_messages <= 5);
    for n in 0..20 {
        bench.b.tag_receive(Pattern::exact(n), vec![0; 4000], n).unwrap();
    }
    for _ in 0..20 {
        let Completion::Received { context, buffer, .. } = bench.next_at_b() else { panic!() };
        assert_eq!(buffer, data(context, 4000));
    }
}

#[test]
fn slots_run_out_with_again_and_come_back() {
    let mut bench = bench(Config { slots: 8, ..Config::default() });
    let to = bench.b.address();
    let mut accepted = 0;
    let refused = loop {
        match bench.a.tag_send(to, 1, vec![accepted as u8; 64], accepted) {
            Ok(()) => accepted += 1,
            Err(refused) => break refused,
        }
    };
    // One is left for others.
    assert_eq!((accepted, refused.error, refused.buffer), (7, SendError::Again(to), vec![7; 64].into()));
    for n in 0..7 {
        bench.b.tag_receive(Pattern::exact(1), vec![0; 64], n).unwrap();
    }
    bench.run(|bench| bench.a.is_quiet());
    bench.a.tag_send(to, 1, vec![1; 64], 8).unwrap();
}

/// OPX's change e8e41f64d: more than 2048 packets may be outstanding.
#[test]
fn as_many_packets_are_outstanding_as_there_are_slots() {
    const SLOTS: usize = 4096;
    let reliability = opx_reliability::Config { replay_pool: SLOTS as u32, ..Default::default() };
    let mut bench = bench(Config { slots: SLOTS, reliability, ..Config::default() });
    let to = bench.b.address();
    let mut accepted = 0;
    while bench.a.inject(to, &[accepted as u8]).is_ok() {
        accepted += 1;
    }
    assert!((2049..=SLOTS).contains(&accepted), "{accepted}");
    for n in 0..accepted {
        bench.b.receive(None, vec![0; 1], n as u64).unwrap();
        let Completion::Received { buffer, .. } = bench.next_at_b() else { panic!() };
        assert_eq!(buffer, vec![n as u8]);
    }
    bench.quiet();
}

#[test]
fn the_service_level_that_is_set_is_in_every_packet() {
    let mut config = Config::default();
    assert!(config.set_from(|name| (name == "FI_OPX_SL").then(|| "5".to_owned())).is_empty());
    let mut bench = bench(config);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let tap = Arc::clone(&seen);
    bench.adapter.set_tap(move |_, bytes| tap.lock().unwrap().push(Header(*bytes.first_chunk().unwrap()).lrh().sl));
    for len in [8, 3000, 12_000, 40_000] {
        bench.b.tag_receive(Pattern::exact(1), vec![0; len], 1).unwrap();
        bench.a.tag_send(bench.b.address(), 1, data(1, len), 2).unwrap();
        assert!(matches!(bench.next_at_b(), Completion::Received { .. }));
    }
    bench.quiet();
    let seen = seen.lock().unwrap();
    assert!(seen.len() > 10 && seen.iter().all(|sl| *sl == Sl(5)), "{seen:?}");
}

#[test]
fn a_peer_whose_memory_is_full_is_waited_for_and_holds_up_nobody_else() {
    let reliability = opx_reliability::Config { give_up_after: Duration::from_secs(1), ..Default::default() };
    let config = Config { unexpected_bytes: 10_000, reliability, ..Config::default() };
    let mut bench = bench(config.clone());
    let mut c = Endpoint::open(&bench.hfi, config).unwrap();
    let (full, free) = (bench.b.address(), c.address());
    let mut sent = 0;
    while bench.a.tag_send(full, 1, vec![1; 1000], sent).is_ok() {
        sent += 1;
    }
    assert!(sent > 500, "{sent}");
    // It asks for nothing for five seconds. Another one gets its messages meanwhile.
    let end = bench.hfi.bus().now() + Duration::from_secs(5);
    let (mut to_free, mut came) = (0, 0);
    bench.run(|bench| {
        if to_free < 1000 && bench.a.tag_send(free, 2, vec![2; 1000], to_free).is_ok() {
            to_free += 1;
            c.tag_receive(Pattern::exact(2), vec![0; 1000], to_free).unwrap();
        }
        c.progress().unwrap();
        came += std::iter::from_fn(|| c.poll_completion()).count();
        bench.hfi.bus().now() > end
    });
    assert_eq!((to_free, came), (1000, 1000));
    for n in 0..sent {
        bench.b.tag_receive(Pattern::exact(1), vec![0; 1000], n).unwrap();
        assert!(matches!(bench.next_at_b(), Completion::Received { .. }));
    }
    bench.run(|bench| bench.a.is_quiet());
    let failed = std::iter::from_fn(|| bench.a.poll_completion()).find(|end| !matches!(end, Completion::Sent { .. }));
    assert!(failed.is_none(), "{failed:?}");
}

#[test]
fn a_peer_that_never_answers_fails_what_was_sent_to_it() {
    let reliability = opx_reliability::Config { give_up_after: Duration::from_secs(2), ..Default::default() };
    let mut bench = bench(Config { reliability, ..Config::default() });
    let nobody = opx_stack::Address { rx: 77, ..bench.b.address() };
    bench.a.tag_send(nobody, 1, vec![1; 10], 5).unwrap();
    bench.a.tag_send(nobody, 2, vec![2; 100_000], 6).unwrap();
    for context in [5, 6] {
        let Completion::Failed { context: got, error, .. } = bench.next_at_a() else { panic!() };
        assert_eq!((got, error), (context, OperationError::Unreachable(nobody)));
    }
    // Others aren't touched by it.
    let to = bench.b.address();
    bench.b.tag_receive(Pattern::exact(1), vec![0; 10], 7).unwrap();
    bench.a.tag_send(to, 1, vec![3; 10], 8).unwrap();
    assert!(matches!(bench.next_at_b(), Completion::Received { context: 7, .. }));
    assert_eq!(bench.a.tag_send(nobody, 1, vec![], 9).unwrap_err().error, SendError::Unreachable(nobody));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut bench = bench(Config::default());
        bench.adapter.set_wire_faults(PacketFaults { loss: 3.0, duplicate: 1.0, reorder: 3.0, corrupt: 1.0 }, seed);
        let to = bench.b.address();
        for n in 0..4 {
            bench.b.tag_receive(Pattern::exact(n), vec![0; 300_000], n).unwrap();
            bench.a.tag_send(to, n, data(n, 300_000), n).unwrap();
        }
        bench.run(|bench| bench.a.is_quiet() && bench.b.counters().received_messages == 4);
        (
            bench.hfi.bus().now(),
            bench.a.counters(),
            bench.b.counters(),
            bench.a.reliability_counters().to_owned(),
            bench.adapter.fault_counts(),
        )
    };
    let first = run(11);
    assert_eq!(format!("{first:?}"), format!("{:?}", run(11)));
    assert_ne!(format!("{first:?}"), format!("{:?}", run(12)));
}

#[test]
fn an_mtu_that_data_packets_exceed_is_refused() {
    for (mtu, fits) in [(4096, false), (8192, true)] {
        let lab = Lab::new(Pacing::Virtual);
        let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
        let hfi = Hfi::open(adapter.bus(), Options { mtu, ..Options::default() }).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        let opened = Endpoint::open(&hfi, Config::default());
        assert_eq!(opened.is_ok(), fits, "{mtu}: {:?}", opened.err());
    }
}

#[test]
fn a_send_completes_only_when_its_receiver_has_all_of_it() {
    let mut bench = bench(Config::default());
    bench.adapter.set_wire_faults(PacketFaults { loss: 10.0, ..PacketFaults::default() }, 5);
    let to = bench.b.address();
    for n in 0..20 {
        bench.b.tag_receive(Pattern::exact(n), vec![0; 200_000], n).unwrap();
        bench.a.tag_send(to, n, data(n, 200_000), n).unwrap();
    }
    let (mut arrived, mut sent) = (std::collections::BTreeSet::new(), 0);
    bench.run(|bench| {
        while let Some(Completion::Received { context, .. }) = bench.b.poll_completion() {
            arrived.insert(context);
        }
        while let Some(Completion::Sent { context, .. }) = bench.a.poll_completion() {
            assert!(arrived.contains(&context), "message {context} was told sent before it had arrived");
            sent += 1;
        }
        sent == 20
    });
}

#[test]
fn nothing_is_sent_again_on_a_perfect_wire() {
    let mut bench = bench(Config::default());
    let to = bench.b.address();
    // Short packets, that the processor may write, among long ones, that the engine fetches.
    let len = |n: u64| if n.is_multiple_of(3) { 100 } else { 8000 };
    let mut received = 0;
    for n in 0..300 {
        bench.b.tag_receive(Pattern::exact(0), vec![0; len(n)], n).unwrap();
    }
    let mut sent = 0;
    bench.run(|bench| {
        while sent < 300 && bench.a.tag_send(to, 0, data(sent, len(sent)), sent).is_ok() {
            sent += 1;
        }
        received += std::iter::from_fn(|| bench.b.poll_completion()).count();
        received == 300 && bench.a.is_quiet()
    });
    // A packet that overtakes another makes a gap, and a gap looks like a loss.
    assert_eq!(bench.b.reliability_counters().uepkt_received, 0);
    assert_eq!(bench.a.reliability_counters().replays_sent, 0);
}

#[test]
fn an_endpoint_that_is_to_send_16b_headers_is_refused() {
    let bench = bench(Config::default());
    let config = Config { headers_16b: true, ..Config::default() };
    let Err(error @ OpenError::Headers16B) = Endpoint::open(&bench.hfi, config) else { panic!() };
    assert!(error.to_string().contains("headers_16b"), "{error}");
}

#[test]
fn an_endpoint_with_the_hfi_service_is_refused() {
    let bench = bench(Config::default());
    let mut config = Config::default();
    assert!(config.set_from(|name| (name == "FI_OPX_HFISVC").then(|| "1".to_owned())).is_empty());
    let Err(error @ OpenError::HfiService(_)) = Endpoint::open(&bench.hfi, config) else { panic!() };
    assert!(error.to_string().contains("FI_OPX_HFISVC"), "{error}");
}

#[test]
fn a_name_that_an_endpoint_gives_leads_its_peers_to_it() {
    for generation in Generation::ALL {
        let mut bench = bench(Config { generation, ..Config::default() });
        let name = bench.b.name();
        assert_eq!(name.len(), if generation == Generation::G4 { 40 } else { 8 });
        let mut peers = AddressVector::new();
        let peer = peers.insert_name(generation, &name).unwrap();
        let to = peers.address(peer).unwrap();
        bench.b.receive(None, vec![0; 8], 1).unwrap();
        bench.a.send(to, vec![7; 8], 2).unwrap();
        let Completion::Received { source, .. } = bench.next_at_b() else { panic!() };
        // The other way: whose message it was.
        let mut theirs = AddressVector::new();
        let from = theirs.insert_name(generation, &bench.a.name()).unwrap();
        assert_eq!(theirs.find(source), Some(from), "{generation}");
    }
}
