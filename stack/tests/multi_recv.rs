//! Buffers that take many messages (libfabric's multi_recv).

mod common;

use common::{Bench, bench, data};
use opx_bus::{PacketFaults, SharedMem};
use opx_stack::{Buffer, Completion, Config, OperationError, Outgoing, Pattern, ReceiveError, SharedRange, Thresholds};
use proptest::prelude::*;

fn config(min: usize, faults: bool) -> Config {
    let some = PacketFaults { loss: 4.0, duplicate: 3.0, reorder: 5.0, corrupt: 1.0 };
    let thresholds = Thresholds { min_multi_receive: min, ..Thresholds::default() };
    Config { thresholds, receive_faults: if faults { some } else { PacketFaults::default() }, ..Config::default() }
}

fn buffer(len: usize) -> SharedRange {
    SharedRange::new(SharedMem::new(len.max(1)).unwrap(), 0, len).unwrap()
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// In this buffer at this offset.
    At {
        buffer: u64,
        offset: usize,
    },
    TooLong {
        buffer: u64,
    },
}

/// Where messages go by the rules: each to the first buffer that is long enough in what is left of it.
fn model(buffers: &[usize], min: usize, messages: &[usize]) -> Vec<End> {
    let mut ends = Vec::new();
    let (mut at, mut used) = (0, 0);
    for &len in messages {
        while at < buffers.len() {
            let (buffer, whole) = (at as u64, buffers[at]);
            let fits = len <= whole - used;
            if fits {
                ends.push(End::At { buffer, offset: used });
            } else if used == 0 {
                ends.push(End::TooLong { buffer });
            }
            let placed = fits || used == 0;
            if placed {
                let taken = if fits { len.max(1).div_ceil(8) * 8 } else { 8 };
                used = (used + taken).min(whole);
            }
            if !placed || whole - used < min {
                (at, used) = (at + 1, 0);
            }
            if placed {
                break;
            }
        }
    }
    ends
}

/// Sends the messages, posts the buffers before and amid that, and tells what became of each message; what no buffer takes is
/// left to be discarded.
fn run(mut bench: Bench, buffers: &[usize], messages: &[usize], posted_before: usize, expected: usize) -> Vec<End> {
    let (from, to) = (bench.a.address(), bench.b.address());
    let held: Vec<_> = buffers.iter().map(|len| buffer(*len)).collect();
    let (mut sent, mut posted, mut turns, mut left) = (0, 0, 0, 0);
    let (mut ends, mut done) = (Vec::new(), Vec::new());
    bench.run(|bench| {
        turns += 1;
        while posted < buffers.len() && (posted < posted_before || turns > 20 * posted) {
            let source = (posted % 2 == 0).then_some(from);
            bench.b.multi_receive(source, held[posted].clone(), posted as u64).unwrap();
            posted += 1;
        }
        while sent < messages.len() {
            let bytes = data(sent as u64, messages[sent]);
            if bench.a.send_message(Outgoing { data: Some(sent as u32), ..Outgoing::new(to, bytes, 0) }).is_err() {
                break;
            }
            sent += 1;
        }
        while let Some(completion) = bench.b.poll_completion() {
            match completion {
                Completion::MultiReceived { context, data: Some(n), source, offset, len } => {
                    assert!(!done.contains(&context), "{context} was given back before");
                    assert_eq!((source, len), (from, messages[n as usize]));
                    let mut bytes = vec![0; len];
                    held[context as usize].read(offset, &mut bytes);
                    assert_eq!(bytes, data(n.into(), len), "message {n} at {offset} of {context}");
                    ends.push((n as usize, End::At { buffer: context, offset }));
                }
                Completion::MultiReceiveFailed { context, source, error } => {
                    assert!(!done.contains(&context), "{context} was given back before");
                    let OperationError::Truncated { message, buffer } = error else { panic!("{error}") };
                    assert_eq!((source, buffer), (from, buffers[context as usize] as u64));
                    // Which one isn't told; the first of that length that has no end.
                    let n = messages.iter().position(|len| *len as u64 == message).unwrap();
                    ends.push((n, End::TooLong { buffer: context }));
                }
                Completion::MultiReceiveDone { context, buffer } => {
                    assert_eq!(buffer.len(), buffers[context as usize]);
                    done.push(context);
                }
                other => panic!("{other:?}"),
            }
        }
        while posted == buffers.len() && matches!(bench.b.discard(None), Ok(Some(_))) {
            left += 1;
        }
        ends.len() + left == messages.len()
    });
    assert_eq!(ends.len(), expected);
    ends.sort();
    ends.into_iter().map(|(_, end)| end).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Lengths are told apart by adding the message's number times 16, so that one that fails is known by its length.
    #[test]
    fn messages_lie_where_the_rules_put_them(
        buffers in proptest::collection::vec(prop_oneof![0usize..2000, 10_000usize..120_000], 1..5),
        lens in proptest::collection::vec(prop_oneof![0usize..40, 0usize..9000, 8100usize..60_000], 1..25),
        min in prop_oneof![0usize..200, 5000usize..12_000],
        before in 0usize..5,
        faults in any::<bool>(),
    ) {
        let mut lens = lens;
        for (n, len) in lens.iter_mut().enumerate() {
            *len = *len / 32 * 32 + n;
        }
        let expected = model(&buffers, min, &lens);
        let ends = run(bench(config(min, faults)), &buffers, &lens, before, expected.len());
        prop_assert_eq!(ends, expected);
    }
}

#[test]
fn a_buffer_is_given_back_once_too_little_is_left_and_everything_has_come() {
    let mut bench = bench(config(2000, false));
    let to = bench.b.address();
    let memory = SharedMem::new(64 << 10).unwrap();
    bench.b.multi_receive(None, memory.clone(), 1).unwrap();
    // A rendezvous begins first and ends last: the buffer waits for it.
    bench.a.send(to, data(1, 40_000), 0).unwrap();
    bench.run(|bench| bench.b.counters().offers == 1);
    bench.a.send(to, data(2, 8000), 0).unwrap();
    bench.a.send(to, data(3, 8000), 0).unwrap();
    bench.a.send(to, data(4, 8192), 0).unwrap();
    let mut seen = Vec::new();
    let end = loop {
        match bench.next_at_b() {
            Completion::MultiReceived { context: 1, offset, len, .. } => seen.push((offset, len)),
            other => break other,
        }
    };
    assert_eq!(end, Completion::MultiReceiveDone { context: 1, buffer: Buffer::from(memory) });
    seen.sort_unstable();
    assert_eq!(seen, [(0, 40_000), (40_000, 8000), (48_000, 8000), (56_000, 8192)]);
    bench.quiet();
    assert_eq!(bench.b.poll_completion(), None);
}

#[test]
fn several_transfers_fill_one_buffer_at_a_time() {
    for faults in [false, true] {
        let mut bench = bench(config(10_240, faults));
        let to = bench.b.address();
        let held = buffer(20 * 50_000);
        bench.b.multi_receive(None, held.clone(), 1).unwrap();
        for n in 0..20 {
            bench.a.send(to, data(n, 50_000 - n as usize), n).unwrap();
        }
        let mut got = 0;
        bench.run(|bench| {
            while let Some(completion) = bench.b.poll_completion() {
                match completion {
                    Completion::MultiReceived { offset, len, .. } => {
                        let mut bytes = vec![0; len];
                        held.read(offset, &mut bytes);
                        assert_eq!(bytes, data(50_000 - len as u64, len));
                        got += 1;
                    }
                    Completion::MultiReceiveDone { .. } => assert_eq!(got, 20),
                    other => panic!("{other:?}"),
                }
            }
            got == 20
        });
        bench.quiet();
    }
}

#[test]
fn a_cancelled_buffer_comes_back_when_nothing_comes_into_it_any_more() {
    let mut bench = bench(config(100, false));
    let to = bench.b.address();
    let idle = bench.b.multi_receive(None, buffer(1000), 1).unwrap();
    assert!(bench.b.cancel(idle));
    let cancelled = |completion, context| matches!(completion, Some(Completion::Failed { context: told, error: OperationError::Cancelled, .. }) if told == context);
    assert!(cancelled(bench.b.poll_completion(), 1));
    let busy = bench.b.multi_receive(None, buffer(100_000), 2).unwrap();
    bench.a.send(to, data(5, 50_000), 0).unwrap();
    bench.run(|bench| bench.b.counters().offers == 1);
    assert!(bench.b.cancel(busy));
    assert_eq!(bench.b.poll_completion(), None);
    bench.b.receive(None, vec![0; 10], 3).unwrap();
    bench.a.send(to, data(6, 10), 0).unwrap();
    // What comes later goes to the next receive.
    let (mut later, mut sooner, mut ended) = (0, 0, 0);
    bench.run(|bench| {
        match bench.b.poll_completion() {
            Some(Completion::Received { context: 3, .. }) => later += 1,
            Some(Completion::MultiReceived { context: 2, offset: 0, len: 50_000, .. }) => sooner += 1,
            Some(other) => {
                assert!(cancelled(Some(other), 2));
                ended += sooner;
            }
            None => {}
        }
        (later, sooner, ended) == (1, 1, 1)
    });
}

#[test]
fn who_offers_more_than_a_whole_buffer_is_told() {
    let mut bench = bench(config(100, false));
    let to = bench.b.address();
    bench.b.multi_receive(None, buffer(1000), 1).unwrap();
    bench.a.send(to, data(5, 50_000), 7).unwrap();
    let Completion::MultiReceiveFailed { context: 1, error, .. } = bench.next_at_b() else { panic!() };
    assert_eq!(error, OperationError::Truncated { message: 50_000, buffer: 1000 });
    assert!(matches!(bench.next_at_a(), Completion::Sent { context: 7, .. }));
    bench.quiet();
}

#[test]
fn a_buffer_of_a_closed_endpoint_comes_back_last() {
    let mut bench = bench(config(100, false));
    let to = bench.b.address();
    bench.b.multi_receive(None, buffer(100_000), 2).unwrap();
    bench.a.send(to, data(5, 50_000), 0).unwrap();
    bench.run(|bench| bench.b.counters().offers == 1);
    bench.b.cancel_all();
    let Some(Completion::MultiReceiveFailed { context: 2, error: OperationError::Closed, .. }) =
        bench.b.poll_completion()
    else {
        panic!()
    };
    let Some(Completion::Failed { context: 2, error: OperationError::Closed, .. }) = bench.b.poll_completion() else {
        panic!()
    };
    assert_eq!(bench.b.poll_completion(), None);
}

#[test]
fn more_transfers_than_there_may_be_wait_at_their_sender() {
    let mut bench = bench(Config { operations: 4, ..config(100, false) });
    let mut many = opx_stack::Endpoint::open(&bench.hfi, Config::default()).unwrap();
    let to = bench.b.address();
    let held = buffer(1 << 20);
    bench.b.multi_receive(None, held, 1).unwrap();
    for n in 0..20 {
        many.send(to, data(n, 20_000), n).unwrap();
    }
    let mut got = 0;
    bench.run(|bench| {
        many.progress().unwrap();
        while let Some(completion) = bench.b.poll_completion() {
            assert!(matches!(completion, Completion::MultiReceived { .. }), "{completion:?}");
            got += 1;
        }
        got == 20
    });
    assert!(bench.b.counters().no_room > 0);
}

#[test]
fn offers_beyond_those_that_may_be_under_way_are_left_to_a_later_buffer() {
    let mut bench = bench(Config { operations: 2, ..config(100, false) });
    let mut many = opx_stack::Endpoint::open(&bench.hfi, Config::default()).unwrap();
    let to = bench.b.address();
    for n in 0..3 {
        many.send(to, data(n, 20_000 + n as usize), n).unwrap();
    }
    bench.run(|bench| {
        many.progress().unwrap();
        bench.b.counters().unexpected_messages == 3
    });
    // Two are under way; the third waits, though there is room for it in the buffer.
    bench.b.multi_receive(None, buffer(1 << 20), 1).unwrap();
    assert_eq!(bench.b.peek(None).map(|left| left.len), Some(20_002));
    // There is room for other receives once the two have been asked for, which shows when one is taken.
    bench.run(|bench| bench.b.tag_receive(Pattern::exact(1), vec![0; 8], 9).is_ok());
    // Another buffer could take nothing now, and would come back as if it were used up.
    let refused = bench.b.multi_receive(None, buffer(1 << 20), 2).unwrap_err();
    assert!(matches!(refused.error, ReceiveError::Again(_)), "{:?}", refused.error);
    let mut next = |bench: &mut Bench| {
        let mut next = None;
        bench.run(|bench| {
            many.progress().unwrap();
            next = bench.b.poll_completion();
            next.is_some()
        });
        next.unwrap()
    };
    let mut came = [next(&mut bench), next(&mut bench)].map(|completion| match completion {
        Completion::MultiReceived { context: 1, len, .. } => len,
        other => panic!("{other:?}"),
    });
    came.sort_unstable();
    assert_eq!(came, [20_000, 20_001]);
    assert!(matches!(next(&mut bench), Completion::MultiReceiveDone { context: 1, .. }));
    bench.b.multi_receive(None, buffer(1 << 20), 2).unwrap();
    assert!(matches!(next(&mut bench), Completion::MultiReceived { context: 2, offset: 0, len: 20_002, .. }));
}
