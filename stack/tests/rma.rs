//! Writes and reads of a peer's memory (fabtests: rdm_rma, rma_pingpong, rdm_rma_event): every length, place and kind of buffer,
//! every level, over a spoilt wire, and with peers that refuse, close or end.

mod common;

use common::{Bench, bench, data};
use opx_bus::{PacketFaults, PciFunction, SharedMem};
use opx_defs::units::Lid;
use opx_defs::wire::opx::Generation;
use opx_stack::atomics::{AtomicOp, Datatype, Op};
use opx_stack::regions::{Access, MemoryRegion, RegionError, Registration};
use opx_stack::{
    Address, Asked, Atomic, Buffer, Completion, Config, Level, OperationError, Read, Remote, RequestError, SendError,
    SharedRange, Thresholds, Write,
};
use proptest::prelude::*;
use std::time::Duration;

const LENGTHS: &[usize] = &[1, 8, 16, 17, 511, 513, 4096, 8191, 8192, 8193, 100_000, 1 << 20];
/// So that what is never answered fails soon. There are few packets.
fn impatient() -> Config {
    Config { answer_wait: Duration::from_millis(100), slots: 64, ..Config::default() }
}

const SPOILT: PacketFaults = PacketFaults { loss: 3.0, duplicate: 3.0, reorder: 5.0, corrupt: 1.0 };

/// Memory of `b` that `a` may reach.
struct Window {
    region: MemoryRegion,
    memory: SharedMem,
    peer: Address,
}

impl Window {
    fn of(bench: &Bench, len: usize, access: Access) -> Self {
        let memory = SharedMem::new(len).unwrap();
        let region = bench.b.regions().register(Registration::of(memory.clone(), access)).unwrap();
        Self { region, memory, peer: bench.b.address() }
    }

    fn at(&self, place: u64) -> Remote {
        Remote { peer: self.peer, key: self.region.key(), place }
    }

    fn bytes(&self, at: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read(at, &mut bytes);
        bytes
    }
}

fn shared(bytes: &[u8]) -> Buffer {
    let memory = SharedMem::new(bytes.len() + 77).unwrap();
    memory.write(33, bytes);
    SharedRange::new(memory, 33, bytes.len()).unwrap().into()
}

fn vector(bytes: &[u8]) -> Buffer {
    let (head, tail) = bytes.split_at(bytes.len() / 3);
    [Buffer::from(head.to_vec()), Buffer::default(), shared(tail)].into_iter().collect()
}

#[test]
fn writes_and_reads_of_every_length_from_and_into_every_kind_of_buffer() {
    let mut bench = bench(Config::default());
    let window = Window::of(&bench, (1 << 20) + 100, Access::ATOMIC);
    for (n, &len) in LENGTHS.iter().enumerate() {
        let place = n * 7;
        let kinds: [fn(&[u8]) -> Buffer; 3] = [|bytes| bytes.to_vec().into(), shared, vector];
        for (kind, buffer) in kinds.iter().enumerate() {
            if kind > 0 && len > 20_000 {
                continue;
            }
            let bytes = data((n * 3 + kind) as u64, len);
            window.memory.write(0, &vec![0xee; window.memory.len()]);
            bench.a.write(window.at(place as u64), buffer(&bytes), 1).unwrap();
            assert_eq!(bench.next_at_a(), Completion::Written { context: 1, buffer: bytes.clone().into() });
            assert!(window.bytes(place, len) == bytes, "{len} bytes");
            assert!(window.bytes(0, place).iter().all(|byte| *byte == 0xee), "before {len} bytes");
            assert!(window.bytes(place + len, 20).iter().all(|byte| *byte == 0xee), "behind {len} bytes");

            bench.a.read(window.at(place as u64), buffer(&vec![0; len]), 2).unwrap();
            let Completion::Read { context: 2, buffer } = bench.next_at_a() else { panic!() };
            assert!(buffer == bytes, "{len} bytes");
        }
    }
    bench.quiet();
    assert_eq!((bench.b.counters().malformed, bench.b.counters().stale, bench.b.poll_refusal()), (0, 0, None));
    assert_eq!((bench.a.counters().malformed, bench.a.counters().stale), (0, 0));
}

#[test]
fn nothing_is_written_or_read_at_once() {
    let mut bench = bench(Config::default());
    let window = Window::of(&bench, 64, Access::ATOMIC);
    bench.a.write(window.at(0), vec![], 1).unwrap();
    assert_eq!(bench.a.poll_completion(), Some(Completion::Written { context: 1, buffer: vec![].into() }));
    bench.a.read(window.at(0), vec![], 2).unwrap();
    assert_eq!(bench.a.poll_completion(), Some(Completion::Read { context: 2, buffer: vec![].into() }));
    bench.a.inject_write(window.at(0), &[]).unwrap();
    assert!(bench.a.is_quiet());
    let beyond = bench.a.write(window.at(u64::MAX - 3), vec![0; 8], 3).unwrap_err();
    assert_eq!((beyond.error, beyond.buffer.len()), (RequestError::Place { place: u64::MAX - 3, len: 8 }, 8));
}

#[test]
fn injected_writes_are_copied_and_silent() {
    let mut bench = bench(Config::default());
    let window = Window::of(&bench, 4096, Access::REMOTE_WRITE);
    for len in 1..=16 {
        bench.a.inject_write(window.at(len as u64 * 32), &data(len as u64, len)).unwrap();
    }
    bench.quiet();
    for len in 1..=16 {
        assert_eq!(window.bytes(len * 32, len), data(len as u64, len));
    }
    assert_eq!(bench.a.poll_completion(), None);
    let long = bench.a.inject_write(window.at(0), &[0; 17]);
    assert_eq!(long, Err(RequestError::Send(SendError::TooLong(17))));
}

#[test]
fn an_injected_write_does_not_overtake_what_was_asked_for_before() {
    let mut bench = bench(Config::default());
    let window = Window::of(&bench, 100_000, Access::REMOTE_WRITE);
    bench.a.write(window.at(0), vec![4; 100_000], 1).unwrap();
    let early = bench.a.inject_write(window.at(99_990), &[5; 10]);
    assert_eq!(early, Err(RequestError::Send(SendError::Again(window.peer))));
    assert!(matches!(bench.next_at_a(), Completion::Written { context: 1, .. }));
    bench.a.inject_write(window.at(99_990), &[5; 10]).unwrap();
    bench.quiet();
    assert_eq!((window.bytes(99_980, 10), window.bytes(99_990, 10)), (vec![4; 10], vec![5; 10]));
}

#[test]
fn a_write_with_data_tells_its_target() {
    for faults in [PacketFaults::default(), SPOILT] {
        let mut bench = bench(Config { receive_faults: faults, ..Config::default() });
        let window = Window::of(&bench, 1 << 20, Access::REMOTE_WRITE);
        let source = bench.a.address();
        for (n, &len) in [0, 1, 8192, 8193, 100_000].iter().enumerate() {
            let bytes = data(n as u64, len);
            let cq_data = 0xcafe_f00d + n as u32;
            // What was sent before is there when the target is told.
            bench.a.write(window.at(200_000), bytes.clone(), 1).unwrap();
            let write = Write { data: Some(cq_data), ..Write::new(window.at(64), bytes.clone(), 2) };
            bench.a.write_with(write).unwrap();
            let told = bench.next_at_b();
            assert_eq!(told, Completion::RemoteWrite { data: cq_data, source, len: len as u64 });
            assert!(window.bytes(64, len) == bytes && window.bytes(200_000, len) == bytes, "{len} bytes");
            let (one, other) = (bench.next_at_a(), bench.next_at_a());
            for context in [1, 2] {
                let written = Completion::Written { context, buffer: bytes.clone().into() };
                assert!(one == written || other == written, "{len} bytes, {context}");
            }
        }
        bench.quiet();
    }
}

#[test]
fn no_request_is_taken_while_as_many_completions_wait_as_may() {
    let mut bench = bench(Config { completions: 2, ..Config::default() });
    let window = Window::of(&bench, 4096, Access::ATOMIC);
    for n in 0..2 {
        bench.a.write_with(Write { level: Level::Inject, ..Write::new(window.at(0), vec![5; 8], n) }).unwrap();
    }
    let refused = bench.a.read(window.at(0), vec![3; 8], 2).unwrap_err();
    assert_eq!(refused.buffer, vec![3; 8]);
    assert!(bench.a.write(window.at(0), vec![5; 8], 2).is_err());
    assert!(bench.a.poll_completion().is_some());
    bench.a.read(window.at(0), vec![3; 8], 2).unwrap();
}

#[test]
fn a_write_completes_as_far_along_as_it_was_asked_to() {
    let mut bench = bench(Config::default());
    let window = Window::of(&bench, 1 << 20, Access::ATOMIC);
    let write =
        |len, level, silent, context| Write { level, silent, ..Write::new(window.at(0), vec![5; len], context) };
    bench.a.write_with(write(100, Level::Inject, false, 1)).unwrap();
    assert!(matches!(bench.a.poll_completion(), Some(Completion::Written { context: 1, .. })), "at once");
    for level in [Level::Transmit, Level::Delivery] {
        bench.a.write_with(write(100, level, false, 2)).unwrap();
        assert_eq!(bench.a.poll_completion(), None, "not before the peer has it");
        assert!(matches!(bench.next_at_a(), Completion::Written { context: 2, .. }));
    }
    for level in [Level::Inject, Level::Transmit, Level::Delivery] {
        bench.a.write_with(write(100_000, level, true, 3)).unwrap();
        bench.a.read_with(Read { silent: true, ..Read::new(window.at(0), vec![0; 100], 3) }).unwrap();
    }
    bench.quiet();
    assert_eq!(bench.a.poll_completion(), None);
    let message = opx_stack::Outgoing { level: Level::Delivery, ..opx_stack::Outgoing::new(window.peer, vec![1], 4) };
    assert_eq!(bench.a.send_message(message).unwrap_err().error, SendError::Delivery);
}

#[test]
fn what_is_delivered_is_in_memory() {
    // Packets are lost, so that later ones are acknowledged that the target keeps and hasn't used.
    let mut bench = bench(Config { receive_faults: SPOILT, ..Config::default() });
    let window = Window::of(&bench, 1 << 20, Access::REMOTE_WRITE);
    let mut written = 0;
    bench.run(|bench| {
        while written < 300
            && let Ok(()) = bench.a.write_with(Write {
                level: Level::Delivery,
                ..Write::new(window.at(written * 1000), data(written, 1000), written)
            })
        {
            written += 1;
        }
        while let Some(completion) = bench.a.poll_completion() {
            let Completion::Written { context, buffer } = completion else { panic!("{completion:?}") };
            assert_eq!(buffer, window.bytes(context as usize * 1000, 1000), "write {context}");
        }
        written == 300 && bench.a.is_quiet()
    });
    assert!(bench.a.reliability_counters().replays_sent > 0);
}

#[test]
fn writes_and_reads_survive_a_spoilt_wire_in_every_generation() {
    for generation in Generation::ALL {
        let mut bench = bench(Config { generation, ..Config::default() });
        bench.adapter.set_wire_faults(SPOILT, 7);
        let window = Window::of(&bench, 1 << 19, Access::ATOMIC);
        let len = |n: u64| 1 + (n as usize * 1317) % 20_000;
        let (mut begun, mut ended) = (0, 0);
        bench.run(|bench| {
            while begun < 24 && bench.a.write(window.at(begun * 20_000), data(begun, len(begun)), begun).is_ok() {
                // In its order behind the write.
                bench.a.read(window.at(begun * 20_000), vec![0; len(begun)], begun).unwrap();
                begun += 1;
            }
            while let Some(completion) = bench.a.poll_completion() {
                ended += 1;
                if let Completion::Read { context, buffer } = completion {
                    assert_eq!(buffer, data(context, len(context)), "read {context} in {generation}");
                }
            }
            ended == 48 && bench.a.is_quiet() && bench.b.is_quiet()
        });
        assert_eq!((bench.b.counters().malformed, bench.b.counters().stale), (0, 0), "{generation}");
    }
}

#[test]
fn rma_pingpong() {
    let mut bench = bench(Config::default());
    let there = Window::of(&bench, 8192, Access::REMOTE_WRITE);
    let memory = SharedMem::new(8192).unwrap();
    let here = bench.a.regions().register(Registration::of(memory.clone(), Access::REMOTE_WRITE)).unwrap();
    let back = Remote { peer: bench.a.address(), key: here.key(), place: 0 };
    for round in 0..50u32 {
        for len in [1, 64, 4096] {
            let bytes = data(round.into(), len);
            let ping = Write { data: Some(round), silent: true, ..Write::new(there.at(0), bytes.clone(), 0) };
            bench.a.write_with(ping).unwrap();
            assert!(matches!(bench.next_at_b(), Completion::RemoteWrite { data, .. } if data == round));
            let pong = Write { data: Some(round), silent: true, ..Write::new(back, there.bytes(0, len), 0) };
            bench.b.write_with(pong).unwrap();
            assert!(matches!(bench.next_at_a(), Completion::RemoteWrite { data, .. } if data == round));
            let mut got = vec![0; len];
            memory.read(0, &mut got);
            assert_eq!(got, bytes);
        }
    }
    bench.quiet();
}

#[test]
fn what_a_target_refuses_is_told_there_and_never_done() {
    let mut bench = bench(impatient());
    let a = bench.a.address();
    let open = Window::of(&bench, 4096, Access::ATOMIC);
    let read_only = Window::of(&bench, 4096, Access::REMOTE_READ);
    let write_only = Window::of(&bench, 4096, Access::REMOTE_WRITE);
    let wrong_key = Remote { key: open.region.key() ^ 1, ..open.at(0) };
    let refused = |bench: &mut Bench| {
        let mut refusal = None;
        bench.run(|bench| {
            refusal = bench.b.poll_refusal();
            refusal.is_some()
        });
        let refusal = refusal.unwrap();
        assert_eq!((refusal.source, bench.b.poll_refusal()), (a, None));
        (refusal.asked, refusal.error)
    };
    // Writes: the wire has no answer that would tell their origin.
    for (remote, len) in [(wrong_key, 8), (open.at(4090), 8), (open.at(1 << 40), 8), (read_only.at(0), 8)] {
        bench.a.write(remote, vec![1; len], 0).unwrap();
        assert!(matches!(bench.next_at_a(), Completion::Written { .. }));
        let (asked, error) = refused(&mut bench);
        assert_eq!(asked, Asked::Write);
        let key = remote.key;
        match (key == wrong_key.key, key == read_only.region.key()) {
            (true, _) => assert_eq!(error, RegionError::UnknownKey { key }),
            (_, true) => assert_eq!(error, RegionError::Access { key, missing: Access::REMOTE_WRITE }),
            _ => assert!(matches!(error, RegionError::Outside { .. }), "{error:?}"),
        }
    }
    // What waits for an answer fails, and gives its buffer back.
    for (remote, data) in [(wrong_key, None), (open.at(4090), None), (write_only.at(0), None), (wrong_key, Some(7))] {
        match data {
            None => bench.a.read(remote, vec![3; 8], 5).unwrap(),
            Some(_) => bench.a.write_with(Write { data, ..Write::new(remote, vec![3; 8], 5) }).unwrap(),
        }
        let asked = if data.is_some() { Asked::Write } else { Asked::Read };
        assert_eq!(refused(&mut bench).0, asked);
        let Completion::Failed { context: 5, error, buffer } = bench.next_at_a() else { panic!() };
        assert_eq!((error, buffer), (OperationError::Unanswered(open.peer), vec![3; 8].into()));
    }
    for window in [&open, &read_only, &write_only] {
        assert_eq!(window.bytes(0, 4096), vec![0; 4096]);
    }
    let counters = bench.b.counters();
    assert_eq!((counters.refused_keys, counters.refused_access, counters.refused_places), (3, 2, 3));
    bench.quiet();
}

#[test]
fn a_target_that_computes_is_waited_for() {
    let mut bench = bench(impatient());
    // More than it has packets for, so that part of the answer waits.
    let window = Window::of(&bench, 3 << 20, Access::REMOTE_READ);
    window.memory.write(0, &data(1, 3 << 20));
    bench.a.read(window.at(0), vec![0; 3 << 20], 1).unwrap();
    bench.run(|bench| bench.b.counters().replies > 0);
    // It has taken the request and does nothing for much longer than answers may take.
    let until = bench.hfi.bus().now() + impatient().answer_wait * 20;
    while bench.hfi.bus().now() < until {
        if !bench.a.progress().unwrap() {
            bench.hfi.bus().relax();
        }
        assert_eq!(bench.a.poll_completion(), None);
    }
    let Completion::Read { context: 1, buffer } = bench.next_at_a() else { panic!() };
    assert!(buffer == data(1, 3 << 20));
}

#[test]
fn a_region_that_is_closed_in_the_middle_is_left_alone() {
    for reads in [false, true] {
        let mut bench = bench(impatient());
        let window = Window::of(&bench, 4 << 20, Access::ATOMIC);
        let (memory, remote) = (window.memory.clone(), window.at(0));
        match reads {
            true => bench.a.read(remote, vec![1; 4 << 20], 1).unwrap(),
            false => bench.a.write_with(Write { data: Some(1), ..Write::new(remote, vec![1; 4 << 20], 1) }).unwrap(),
        }
        let half = |bench: &Bench| if reads { bench.a.counters().packets_in } else { bench.b.counters().packets_in };
        bench.run(|bench| half(bench) > 50);
        let given_back = window.region.close();
        assert!(given_back.is_ok(), "no packet holds it");
        memory.write(0, &vec![9; 4 << 20]);
        match (reads, bench.next_at_a()) {
            (true, Completion::Failed { context: 1, error, .. }) => {
                assert_eq!(error, OperationError::Unanswered(remote.peer));
            }
            // All of it has been taken, which is all that a write learns.
            (false, Completion::Written { context: 1, .. }) => {}
            (_, other) => panic!("{other:?}"),
        }
        bench.quiet();
        let mut bytes = vec![0; 4 << 20];
        memory.read(0, &mut bytes);
        assert!(bytes.iter().all(|byte| *byte == 9));
        assert!(bench.b.poll_refusal().is_some() && bench.b.poll_completion().is_none());
    }
}

#[test]
fn requests_to_a_peer_that_ends_fail_with_it() {
    let reliability = opx_reliability::Config { give_up_after: Duration::from_millis(500), ..Default::default() };
    let config = || Config { reliability, ..Config::default() };
    let mut bench = bench(config());
    let window = Window::of(&bench, 4 << 20, Access::ATOMIC);
    let peer = window.peer;
    // Never there at all, and gone after it has taken part of each.
    let nobody = Remote { peer: Address { lid: Lid(1), rx: 77 }, ..window.at(0) };
    for (remote, packets) in [(nobody, 0), (window.at(0), 40)] {
        bench.a.write(remote, vec![1; 3 << 20], 1).unwrap();
        bench.a.read(remote, vec![2; 3 << 20], 2).unwrap();
        bench.a.write_with(Write { data: Some(0), ..Write::new(remote, vec![3; 100], 3) }).unwrap();
        bench.a.write_with(Write { level: Level::Delivery, ..Write::new(remote, vec![4; 100], 4) }).unwrap();
        let before = bench.b.counters().packets_in;
        if packets > 0 {
            bench.run(|bench| bench.b.counters().packets_in >= before + packets);
        }
        let mut failed = Vec::new();
        let limit = bench.hfi.bus().now() + Duration::from_secs(60);
        while failed.len() < 4 {
            assert!(bench.hfi.bus().now() < limit, "only {failed:?} failed");
            if !bench.a.progress().unwrap() {
                bench.hfi.bus().relax();
            }
            while let Some(completion) = bench.a.poll_completion() {
                let Completion::Failed { context, error, buffer } = completion else { panic!("{completion:?}") };
                assert_eq!(error, OperationError::Unreachable(remote.peer));
                assert_eq!(buffer.len(), if context < 3 { 3 << 20 } else { 100 });
                failed.push(context);
            }
        }
        failed.sort_unstable();
        assert_eq!(failed, [1, 2, 3, 4]);
    }
    let refused = bench.a.write(window.at(0), vec![0; 8], 5).unwrap_err();
    assert_eq!(refused.error, RequestError::Send(SendError::Unreachable(peer)));
}

#[test]
fn a_target_forgets_what_it_owes_to_a_peer_that_ends() {
    let reliability = opx_reliability::Config { give_up_after: Duration::from_millis(500), ..Default::default() };
    let mut bench = bench(Config { reliability, ..Config::default() });
    let window = Window::of(&bench, 4 << 20, Access::ATOMIC);
    for n in 0..10 {
        bench.a.read(window.at(0), vec![2; 3 << 20], n).unwrap();
    }
    bench.run(|bench| bench.b.counters().replies == 10);
    bench.a.cancel_all();
    let closed = std::iter::from_fn(|| bench.a.poll_completion());
    assert_eq!(closed.filter(|it| matches!(it, Completion::Failed { error: OperationError::Closed, .. })).count(), 10);
    // Answers that nobody waits for do nothing.
    bench.run(|bench| bench.a.counters().stale > 10);
    // And from here on it does nothing.
    let limit = bench.hfi.bus().now() + Duration::from_secs(60);
    while !bench.b.is_quiet() {
        assert!(bench.hfi.bus().now() < limit, "it still owes: {:?}", bench.b.counters());
        if !bench.b.progress().unwrap() {
            bench.hfi.bus().relax();
        }
    }
}

#[test]
fn a_peer_is_owed_so_much_and_no_more() {
    let mut bench = bench(Config { answers: 4, ..Config::default() });
    let window = Window::of(&bench, 1 << 20, Access::ATOMIC);
    window.memory.write(0, &data(1, 1 << 20));
    for n in 0..100 {
        bench.a.read(window.at(n * 1000), vec![0; 200_000], n).unwrap();
    }
    let mut read = 0;
    bench.run(|bench| {
        while let Some(completion) = bench.a.poll_completion() {
            let Completion::Read { context, buffer } = completion else { panic!("{completion:?}") };
            assert!(buffer == window.bytes(context as usize * 1000, 200_000));
            read += 1;
        }
        read == 100
    });
    assert!(bench.b.counters().no_room > 0, "it left some for later");
    bench.quiet();
}

#[test]
fn an_answer_does_not_wait_behind_messages_that_find_no_room() {
    let mut bench = bench(Config { unexpected_bytes: 4000, ..Config::default() });
    let window = Window::of(&bench, 100_000, Access::ATOMIC);
    let a = bench.a.address();
    for n in 0..20 {
        bench.b.tag_send(a, n, vec![1; 2000], n).unwrap();
    }
    bench.run(|bench| bench.a.counters().no_room > 3);
    bench.a.read(window.at(0), vec![1; 50_000], 99).unwrap();
    assert_eq!(bench.next_at_a(), Completion::Read { context: 99, buffer: vec![0; 50_000].into() });
    let write = Write { data: Some(3), ..Write::new(window.at(0), vec![4; 50_000], 98) };
    bench.a.write_with(write).unwrap();
    assert_eq!(bench.next_at_a(), Completion::Written { context: 98, buffer: vec![4; 50_000].into() });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Requests to one peer take effect in their order, whatever the wire does: memory is what a plain array would be, and each read
    /// gives what it had at its turn.
    #[test]
    fn memory_is_what_an_array_would_be(
        seed in any::<u64>(),
        steps in prop::collection::vec((0u8..7, 0usize..40_000, prop_oneof![0usize..40, 1usize..25_000], any::<bool>()), 1..40),
    ) {
        const LEN: usize = 66_000;
        let mut bench = bench(Config { receive_faults: SPOILT, seed, ..Config::default() });
        let window = Window::of(&bench, LEN, Access::ATOMIC);
        let mut model = vec![0u8; LEN];
        let mut must = Vec::new();
        let mut steps = steps.into_iter().enumerate();
        let mut next = steps.next();
        // A read that has begun: what is written meanwhile it may see or not.
        let mut read = None;
        let mut ended = 0;
        let total = 1 + steps.len();
        bench.run(|bench| {
            while let (None, Some((n, (kind, at, len, swap)))) = (read, next) {
                let remote = window.at(at as u64);
                let context = n as u64;
                let bytes = data(seed ^ context, len.max(1));
                let sum = AtomicOp::new(Op::Sum, Datatype::Uint16).unwrap();
                let look = AtomicOp::new(Op::Read, Datatype::Int32).unwrap();
                let cswap = AtomicOp::new(Op::CswapNe, Datatype::Uint64).unwrap();
                let whole = bytes.len().next_multiple_of(8);
                let operand = data(seed ^ context, whole);
                let done = match kind {
                    0 | 1 => bench.a.write(remote, bytes.clone(), context),
                    2 => bench.a.read(remote, vec![0; bytes.len()], context),
                    3 => bench.a.atomic(Atomic::update(remote, sum, operand.clone(), context)),
                    6 => bench.a.atomic(Atomic::fetch(remote, look, vec![], vec![0; whole], context)),
                    4 => bench.a.atomic(Atomic::fetch(remote, sum, operand.clone(), vec![0; whole], context)),
                    _ => bench.a.atomic(Atomic::compare(remote, cswap, vec![if swap { 1 } else { 0 }; whole],
                        operand.clone(), vec![0; whole], context)),
                };
                if done.is_err() {
                    break;
                }
                match kind {
                    0 | 1 => model[at..at + bytes.len()].copy_from_slice(&bytes),
                    2 => {
                        must.push((context, model[at..at + bytes.len()].to_vec()));
                        read = Some(context);
                    }
                    6 => must.push((context, model[at..at + whole].to_vec())),
                    3 => sum.apply(&mut model[at..at + whole], &operand).unwrap(),
                    4 => {
                        let mut was = vec![0; whole];
                        sum.fetch_apply(&mut model[at..at + whole], &operand, &mut was).unwrap();
                        must.push((context, was));
                    }
                    _ => {
                        let mut was = vec![0; whole];
                        let compare = vec![if swap { 1 } else { 0 }; whole];
                        cswap.compare(&mut model[at..at + whole], &compare, &operand, &mut was).unwrap();
                        must.push((context, was));
                    }
                }
                next = steps.next();
            }
            while let Some(completion) = bench.a.poll_completion() {
                ended += 1;
                let (context, result) = match completion {
                    Completion::Read { context, buffer } => (context, buffer),
                    Completion::Fetched { context, result, .. } => (context, result),
                    Completion::Written { .. } => continue,
                    other => panic!("{other:?}"),
                };
                let at = must.iter().position(|(of, _)| *of == context).unwrap();
                let (_, was) = must.swap_remove(at);
                assert!(result == was, "result {context}");
                read = read.filter(|read| *read != context);
            }
            ended == total && bench.a.is_quiet() && bench.b.is_quiet()
        });
        prop_assert!(window.bytes(0, LEN) == model);
        prop_assert_eq!(bench.b.counters().malformed, 0);
        prop_assert_eq!(bench.b.poll_refusal(), None);
    }
}

/// Without SDMA packets are no longer than the processor can write, whatever the send context; and never longer than is set.
#[test]
fn without_the_engine_packets_are_those_that_the_processor_writes() {
    for (pio_blocks, packet_max, most) in [(64, 8192, 2624), (256, 8192, 8192), (256, 2048, 2048), (16, 8192, 576)] {
        let thresholds = Thresholds { no_sdma: true, packet_max, ..Thresholds::default() };
        let mut bench = bench(Config { thresholds, pio_blocks, ..Config::default() });
        let window = Window::of(&bench, 40_000, Access::ATOMIC);
        let bytes = data(1, 30_001);
        bench.a.write(window.at(5), bytes.clone(), 1).unwrap();
        assert!(matches!(bench.next_at_a(), Completion::Written { context: 1, .. }));
        assert!(window.bytes(5, 30_001) == bytes);
        // Only DATA packets have come.
        assert_eq!(bench.b.counters().packets_in, 30_001u64.div_ceil(most), "{pio_blocks} blocks, {packet_max} bytes");
        let told = Write { data: Some(9), ..Write::new(window.at(7), bytes.clone(), 2) };
        bench.a.write_with(told).unwrap();
        assert!(matches!(bench.next_at_a(), Completion::Written { context: 2, .. }));
        assert!(matches!(bench.next_at_b(), Completion::RemoteWrite { data: 9, len: 30_001, .. }));
        bench.a.read(window.at(7), vec![0; 30_001], 3).unwrap();
        assert_eq!(bench.next_at_a(), Completion::Read { context: 3, buffer: bytes.into() });
        bench.quiet();
        assert_eq!([&bench.a, &bench.b].map(|end| end.sdma_counters().packets), [0, 0]);
    }
}

/// What a target keeps of an atomic operation's result goes in packets of its own size, whatever the requester's is.
#[test]
fn results_longer_than_a_packet_of_the_target_come_whole_and_once() {
    const LEN: usize = 20_000;
    let packets = |packet_max, no_sdma| Thresholds { packet_max, no_sdma, ..Thresholds::default() };
    // The second target answers with what its send context holds.
    for (pio_blocks, target) in [(256, packets(2048, false)), (64, packets(8192, true)), (16, packets(4096, true))] {
        let mut bench = bench(Config { pio_blocks, ..Config::default() });
        bench.b.set_thresholds(target).unwrap();
        let window = Window::of(&bench, LEN, Access::ATOMIC);
        let op = |op| AtomicOp::new(op, Datatype::Uint64).unwrap();
        let (read, sum, swap) = (op(Op::Read), op(Op::Sum), op(Op::Cswap));
        let (operand, zero) = (data(2, LEN), vec![0; LEN]);
        for (n, atomic) in [
            Atomic::fetch(window.at(0), read, vec![], zero.clone(), 1),
            Atomic::fetch(window.at(0), sum, operand.clone(), zero.clone(), 1),
            Atomic::compare(window.at(0), swap, data(3, LEN), operand.clone(), zero.clone(), 1),
        ]
        .into_iter()
        .enumerate()
        {
            window.memory.write(0, &data(3, LEN));
            let before = bench.a.counters();
            bench.a.atomic(atomic).unwrap();
            let mut completion = None;
            bench.run(|bench| {
                let most = before.packets_in + 4 * LEN as u64 / 576;
                assert!(bench.a.counters().packets_in < most, "result {n} of {target:?} has no end");
                completion = completion.take().or_else(|| bench.a.poll_completion());
                completion.is_some() && bench.b.is_quiet()
            });
            let Some(Completion::Fetched { result, .. }) = completion else { panic!() };
            assert!(result == data(3, LEN), "result {n} of {target:?}");
            bench.quiet();
            let after = bench.a.counters();
            assert_eq!((after.malformed, after.stale), (before.malformed, before.stale), "no byte came twice");
        }
        assert!(window.bytes(0, LEN) == operand, "what was compared was alike, and swapped");
    }
}
