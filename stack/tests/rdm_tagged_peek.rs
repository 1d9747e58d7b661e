//! Messages that came before they were asked for: looked at, claimed, discarded (libfabric's rdm_tagged_peek, and FI_DISCARD).

mod common;

use common::{Bench, bench, data};
use opx_bus::PacketFaults;
use opx_bus::PciFunction;
use opx_stack::{Address, Completion, Config, Endpoint, OperationError, Outgoing, Pattern, Peeked, ReceiveError};

/// A length for each protocol: inject-sized, eager, several packets, rendezvous with and without bytes that go along.
const LENGTHS: [usize; 5] = [5, 3000, 12_000, 20_013, 65_536];

fn receive_faults() -> Config {
    let receive_faults = PacketFaults { loss: 5.0, duplicate: 3.0, reorder: 5.0, corrupt: 1.0 };
    Config { receive_faults, ..Config::default() }
}

/// Sends one message of each length, with tags from 0 on, and waits until B has heard of all.
fn send_all(bench: &mut Bench, tagged: bool) {
    let to = bench.b.address();
    for (tag, len) in (0..).zip(LENGTHS) {
        let message = Outgoing {
            tag: tagged.then_some(tag),
            data: Some(100 + tag as u32),
            ..Outgoing::new(to, data(tag, len), tag)
        };
        bench.a.send_message(message).unwrap();
    }
    let before = bench.b.counters().unexpected_messages;
    bench.run(|bench| bench.b.counters().unexpected_messages == before + LENGTHS.len() as u64);
}

fn told(bench: &Bench, n: usize, tagged: bool) -> Peeked {
    let (tag, len) = (tagged.then_some(n as u64), LENGTHS[n] as u64);
    Peeked { tag, source: bench.a.address(), len, data: Some(100 + n as u32) }
}

fn bytes_of(completion: Completion) -> (u64, Vec<u8>) {
    let Completion::Received { context, len, buffer, .. } = completion else { panic!("{completion:?}") };
    (context, buffer.bytes()[..len].to_vec())
}

#[test]
fn a_message_is_seen_as_often_as_it_is_looked_at_and_received_once() {
    for config in [Config::default(), receive_faults()] {
        let mut bench = bench(config);
        send_all(&mut bench, true);
        let (from, nobody) = (bench.a.address(), Address { rx: 77, ..bench.a.address() });
        assert_eq!(bench.b.peek(None), None, "the untagged ones are others");
        for n in (0..LENGTHS.len()).rev() {
            let exact = Pattern::exact(n as u64);
            for source in [None, Some(from)] {
                assert_eq!(bench.b.tag_peek(Pattern { source, ..exact }), Some(told(&bench, n, true)));
            }
            assert_eq!(bench.b.tag_peek(Pattern { source: Some(nobody), ..exact }), None);
            let first = bench.b.tag_peek(Pattern { tag: 0, ignore: u64::MAX, source: None });
            assert_eq!(first, Some(told(&bench, 0, true)), "the first that came");
            bench.b.tag_receive(exact, vec![0; LENGTHS[n]], 9).unwrap();
            assert_eq!(bench.b.tag_peek(exact), None, "it is a receive's");
            assert_eq!(bytes_of(bench.next_at_b()), (9, data(n as u64, LENGTHS[n])));
        }
        bench.quiet();
    }
}

#[test]
fn a_claimed_message_is_received_by_its_claim_only() {
    for (config, tagged) in [(Config::default(), true), (Config::default(), false), (receive_faults(), true)] {
        let mut bench = bench(config);
        send_all(&mut bench, tagged);
        let any = Pattern { tag: 0, ignore: u64::MAX, source: None };
        let mut claims: Vec<_> = (0..LENGTHS.len())
            .map(|n| {
                let claimed = if tagged { bench.b.tag_claim(any) } else { bench.b.claim(None) }.unwrap();
                assert_eq!(*claimed.message(), told(&bench, n, tagged));
                claimed
            })
            .collect();
        assert!(bench.b.tag_claim(any).is_none() && bench.b.claim(None).is_none() && bench.b.tag_peek(any).is_none());
        // Posted now, they are for messages to come.
        bench.b.tag_receive(any, vec![0; 10], 50).unwrap();
        bench.b.receive(None, vec![0; 10], 50).unwrap();
        while let Some(claimed) = claims.pop() {
            let n = claims.len();
            bench.b.receive_claimed(claimed, vec![0; LENGTHS[n]], n as u64).unwrap();
            assert_eq!(bytes_of(bench.next_at_b()), (n as u64, data(n as u64, LENGTHS[n])));
        }
        assert_eq!(bench.b.poll_completion(), None);
        bench.quiet();
    }
}

#[test]
fn a_claimed_message_that_does_not_fit_is_truncated() {
    let mut bench = bench(Config::default());
    send_all(&mut bench, true);
    for (n, len) in (0..).zip(LENGTHS) {
        let claimed = bench.b.tag_claim(Pattern::exact(n)).unwrap();
        bench.b.receive_claimed(claimed, vec![0; len - 1], n).unwrap();
        let Completion::Failed { context, error, .. } = bench.next_at_b() else { panic!() };
        let truncated = OperationError::Truncated { message: len as u64, buffer: len as u64 - 1 };
        assert_eq!((context, error), (n, truncated));
    }
    // Each of the senders has heard, in the order of their ends.
    for _ in LENGTHS {
        assert!(matches!(bench.next_at_a(), Completion::Sent { .. }));
    }
    bench.quiet();
}

#[test]
fn a_discarded_message_is_gone_and_its_sender_knows() {
    for (config, tagged) in [(Config::default(), true), (Config::default(), false), (receive_faults(), true)] {
        let mut bench = bench(config);
        send_all(&mut bench, tagged);
        let any = Pattern { tag: 0, ignore: u64::MAX, source: None };
        for n in 0..LENGTHS.len() {
            let discarded = if tagged { bench.b.tag_discard(any) } else { bench.b.discard(None) };
            assert_eq!(discarded, Ok(Some(told(&bench, n, tagged))));
        }
        assert_eq!((bench.b.tag_discard(any), bench.b.discard(None)), (Ok(None), Ok(None)));
        for _ in LENGTHS {
            assert!(matches!(bench.next_at_a(), Completion::Sent { .. }));
        }
        // What was discarded is in nobody's way.
        bench.b.tag_receive(any, vec![0; 100], 1).unwrap();
        bench.a.tag_send(bench.b.address(), 3, vec![8; 100], 2).unwrap();
        assert_eq!(bytes_of(bench.next_at_b()), (1, vec![8; 100]));
        bench.quiet();
        assert_eq!(bench.b.poll_completion(), None);
        assert_eq!((bench.b.counters().malformed, bench.b.counters().stale), (0, 0));
    }
}

#[test]
fn a_discarded_claim_leaves_no_memory_behind() {
    // Room for one message of several packets at a time, and hardly more.
    let mut bench = bench(Config { unexpected_bytes: 20_000, ..Config::default() });
    let to = bench.b.address();
    for round in 0..10 {
        bench.a.tag_send(to, 1, data(round, 16_000), 0).unwrap();
        // Only its first packet may be there: the rest is dropped as it comes.
        bench.run(|bench| bench.b.tag_peek(Pattern::exact(1)).is_some());
        let claimed = bench.b.tag_claim(Pattern::exact(1)).unwrap();
        drop(claimed);
    }
    bench.quiet();
    bench.b.tag_receive(Pattern::exact(1), vec![0; 16_000], 1).unwrap();
    bench.a.tag_send(to, 1, data(99, 16_000), 0).unwrap();
    assert_eq!(bytes_of(bench.next_at_b()), (1, data(99, 16_000)));
    assert_eq!(bench.b.counters().stale, 0);
}

#[test]
fn a_dropped_claim_tells_the_sender_of_an_offer() {
    let mut bench = bench(Config::default());
    bench.a.tag_send(bench.b.address(), 1, vec![7; 100_000], 5).unwrap();
    bench.run(|bench| bench.b.tag_peek(Pattern::exact(1)).is_some());
    drop(bench.b.tag_claim(Pattern::exact(1)).unwrap());
    assert!(matches!(bench.next_at_a(), Completion::Sent { context: 5, .. }));
}

#[test]
fn a_forgotten_claim_costs_its_memory_and_no_more() {
    let mut bench = bench(Config { unexpected_bytes: 4000, ..Config::default() });
    let to = bench.b.address();
    bench.a.tag_send(to, 1, vec![7; 2000], 1).unwrap();
    bench.run(|bench| bench.b.tag_peek(Pattern::exact(1)).is_some());
    std::mem::forget(bench.b.tag_claim(Pattern::exact(1)).unwrap());
    bench.a.tag_send(to, 2, vec![8; 2000], 2).unwrap();
    bench.run(|bench| bench.b.counters().no_room > 0);
    bench.b.tag_receive(Pattern::exact(2), vec![0; 2000], 3).unwrap();
    assert_eq!(bytes_of(bench.next_at_b()), (3, vec![8; 2000]));
    bench.quiet();
}

#[test]
fn a_claim_is_good_at_its_own_endpoint_only() {
    let mut bench = bench(Config::default());
    let mut other = Endpoint::open(&bench.hfi, Config::default()).unwrap();
    bench.a.tag_send(bench.b.address(), 1, vec![7; 20], 1).unwrap();
    bench.a.tag_send(other.address(), 1, vec![8; 20], 2).unwrap();
    bench.run(|bench| {
        other.progress().unwrap();
        bench.b.tag_peek(Pattern::exact(1)).is_some() && other.tag_peek(Pattern::exact(1)).is_some()
    });
    // The first claim of each.
    let others = other.tag_claim(Pattern::exact(1)).unwrap();
    let claimed = bench.b.tag_claim(Pattern::exact(1)).unwrap();
    let rejected = other.receive_claimed(claimed, vec![0; 20], 9).unwrap_err();
    assert_eq!(rejected.error, ReceiveError::OfAnother);
    bench.b.receive_claimed(rejected.claimed, rejected.buffer, 10).unwrap();
    assert_eq!(bytes_of(bench.next_at_b()), (10, vec![7; 20]));
    other.receive_claimed(others, vec![0; 20], 11).unwrap();
    assert_eq!(bytes_of(other.poll_completion().unwrap()), (11, vec![8; 20]));
}

#[test]
fn discards_of_offers_that_cannot_be_answered_are_held_off() {
    // B's answers stay in B: A takes nothing in meanwhile.
    let mut bench = bench(Config { operations: 4, slots: 4, ..Config::default() });
    let (to, any) = (bench.b.address(), Pattern { tag: 0, ignore: u64::MAX, source: None });
    // Fills B's slots with what A doesn't acknowledge.
    for _ in 0..4 {
        bench.b.tag_inject(bench.a.address(), 9, &[1]).unwrap();
    }
    let mut refused = None;
    let mut c = Endpoint::open(&bench.hfi, Config::default()).unwrap();
    for n in 0..10 {
        c.tag_send(to, n, vec![0; 50_000], 0).unwrap();
        let limit = bench.hfi.bus().now() + std::time::Duration::from_secs(1);
        while bench.b.tag_peek(any).is_none() {
            assert!(bench.hfi.bus().now() < limit);
            let busy = c.progress().unwrap() | bench.b.progress().unwrap();
            if !busy {
                bench.hfi.bus().relax();
            }
        }
        if let Err(error) = bench.b.tag_discard(any) {
            refused = Some((n, error));
            break;
        }
    }
    assert_eq!(refused, Some((4, ReceiveError::Again(any))));
}
