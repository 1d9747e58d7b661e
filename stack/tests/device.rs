//! Memory of devices, faked: who copies it, what goes with an offer, and what is left to the adapter.

mod common;

use common::device::{Fake, GPU};
use common::{Bench, bench, data};
use opx_bus::SharedMem;
use opx_stack::atomics::{AtomicOp, Datatype, Op};
use opx_stack::regions::{Access, Registration};
use opx_stack::{
    Atomic, Buffer, Completion, Config, DeviceRange, Level, MemoryKind, OperationError, Outgoing, Pattern, Remote,
    SendError, SharedMemory, Thresholds,
};
use std::sync::Arc;

/// A message from one to the other, `len` bytes at `from` to `to`; gives what the processor copied on each side.
fn pass(bench: &mut Bench, ends: [&Arc<Fake>; 2], from: usize, to: usize, len: usize) -> [u64; 2] {
    let before = ends.map(|end| end.copied());
    let bytes = data(len as u64, len);
    ends[0].memory.write(from, &bytes);
    bench.b.tag_receive(Pattern::exact(1), ends[1].range(to, len), 1).unwrap();
    bench.a.tag_send(bench.b.address(), 1, ends[0].range(from, len), 2).unwrap();
    assert!(matches!(bench.next_at_b(), Completion::Received { len: got, .. } if got == len));
    assert!(matches!(bench.next_at_a(), Completion::Sent { .. }));
    assert!(ends[1].bytes(to, len) == bytes, "{len} bytes from {from} to {to}");
    [ends[0].copied() - before[0], ends[1].copied() - before[1]]
}

#[test]
fn between_devices_that_the_adapter_reaches_no_processor_copies() {
    let mut bench = bench(Config::default());
    let (a, b) = (Fake::new(GPU, true), Fake::new(GPU, true));
    for len in [64 << 10, 256 << 10] {
        assert_eq!(pass(&mut bench, [&a, &b], 4096, 8192, len), [0, 0], "{len}");
    }
    assert_eq!(bench.b.counters().expected.rts_tid_setup_success, 2);
    // Nothing goes along, so an odd end is fetched by itself; and so are ends that share a page with something else.
    let [out, into] = pass(&mut bench, [&a, &b], 4096, 8192, (64 << 10) + 13);
    assert_eq!((out, into), (5, 13), "from the source all but whole qwords");
    let [_, into] = pass(&mut bench, [&a, &b], 1, 100, 100_001);
    assert!(into < 8192, "{into}");
    bench.quiet();
}

#[test]
fn from_a_device_nothing_goes_along_with_an_offer() {
    // Data is counted, what goes along isn't.
    let copied = |kind, len: usize| {
        let mut bench =
            bench(Config { thresholds: Thresholds { no_tid: true, ..Thresholds::default() }, ..Config::default() });
        let (a, b) = (Fake::new(kind, false), Fake::new(MemoryKind::Managed, false));
        let both = pass(&mut bench, [&a, &b], 0, 0, len);
        assert_eq!(both, [len as u64; 2], "all of it by the processor");
        bench.a.counters().rendezvous_bytes_copied
    };
    for len in [20_000, 20_013, 65_536 + 63] {
        assert_eq!(copied(GPU, len), len as u64);
        assert_eq!(copied(MemoryKind::Managed, len), (len / 64 * 64) as u64, "as from the host");
    }
}

#[test]
fn managed_memory_is_copied_and_never_expected() {
    let mut bench = bench(Config::default());
    let (a, b) = (Fake::new(MemoryKind::Managed, true), Fake::new(MemoryKind::Managed, true));
    assert_eq!(pass(&mut bench, [&a, &b], 4096, 4096, 64 << 10), [(64 << 10) + 7, 64 << 10], "the tail goes twice");
    let counts = bench.b.counters().expected;
    assert_eq!((counts.rts_tid_eligible, counts.rts_tid_ineligible), (0, 1));
    assert_eq!((bench.a.mapping_counts().tid_cache_miss, bench.b.mapping_counts().tid_cache_miss), (0, 0));
}

#[test]
fn short_messages_are_copied_from_and_to_devices() {
    let mut bench = bench(Config::default());
    let (a, b) = (Fake::new(GPU, true), Fake::new(GPU, true));
    for len in [1, 16, 100, 8192, 12_000] {
        let [_, into] = pass(&mut bench, [&a, &b], 7, 9, len);
        assert_eq!(into, len as u64);
    }
}

#[test]
fn buffers_know_whose_they_are() {
    let fake = Fake::new(GPU, true);
    assert_eq!(Buffer::from(vec![1, 2]).kind(), MemoryKind::Host);
    assert_eq!(fake.range(0, 5).kind(), GPU);
    let both = Buffer::Vector(vec![vec![1].into(), fake.range(0, 5)]);
    assert_eq!((both.kind(), both.len()), (GPU, 6));
    assert!(DeviceRange::new(fake.clone(), 1 << 20, 0).is_some());
    assert!(DeviceRange::new(fake.clone(), 1 << 20, 1).is_none() && DeviceRange::new(fake, usize::MAX, 2).is_none());
}

/// An operation on memory that its device doesn't copy fails, whatever its protocol, and the next one doesn't.
#[test]
fn memory_that_is_not_copied_fails_its_operation() {
    let job = format!("device-{}", std::process::id());
    for (shared_memory, way) in [(SharedMemory::off(), "wire"), (SharedMemory::of_job(job), "memory")] {
        let mut bench = bench(Config { shared_memory, ..Config::default() });
        let (from, to, peer) = (Fake::new(GPU, false), Fake::new(GPU, false), bench.b.address());
        for len in [100, 3000, 12_000, 100_000] {
            for broken in [Some(&from), Some(&to), None] {
                let set = |is| broken.into_iter().for_each(|fake| fake.set_broken(is));
                bench.b.tag_receive(Pattern::exact(1), to.range(50, len), 1).unwrap();
                set(true);
                bench.a.tag_send(peer, 1, from.range(7, len), 2).unwrap();
                let ends = [bench.next_at_a(), bench.next_at_b()];
                set(false);
                for (end, fake) in ends.iter().zip([&from, &to]) {
                    let failed = matches!(end, Completion::Failed { error: OperationError::Device, .. });
                    let is_broken = broken.is_some_and(|broken| Arc::ptr_eq(broken, fake));
                    assert_eq!(failed, is_broken, "{len} bytes by {way}: {ends:?}");
                }
            }
            // Also one that would have ended silently, however far it was to get.
            for level in [Level::Inject, Level::Transmit] {
                bench.b.tag_receive(Pattern::exact(1), to.range(50, len), 1).unwrap();
                from.set_broken(true);
                let silent =
                    Outgoing { tag: Some(1), silent: true, level, ..Outgoing::new(peer, from.range(7, len), 9) };
                bench.a.send_message(silent).unwrap();
                assert!(matches!(bench.next_at_b(), Completion::Received { context: 1, .. }));
                let end = bench.next_at_a();
                from.set_broken(false);
                let failed = matches!(end, Completion::Failed { context: 9, error: OperationError::Device, .. });
                assert!(failed, "{len} bytes by {way}, {level:?}: {end:?}");
            }
        }
        bench.quiet();
        assert_eq!([&bench.a, &bench.b].map(|end| end.counters().packets_in > 0), [way == "wire"; 2]);
    }
}

/// Of two operations on the same memory the one fails whose copy did.
#[test]
fn a_copy_that_fails_is_told_of_its_own_operation() {
    let mut bench = bench(Config::default());
    let (from, peer) = (Fake::new(GPU, false), bench.b.address());
    let bad = from.range(7, 100);
    let good = bad.clone();
    from.set_broken(true);
    bench.a.tag_send(peer, 1, bad, 1).unwrap();
    from.set_broken(false);
    // The good one ends first.
    bench.a.send_message(Outgoing { level: Level::Inject, ..Outgoing::new(peer, good, 2) }).unwrap();
    assert!(matches!(bench.next_at_a(), Completion::Sent { context: 2, .. }));
    assert!(matches!(bench.next_at_a(), Completion::Failed { context: 1, error: OperationError::Device, .. }));
}

/// A message that finds no room is looked at only when there is, whichever way it goes.
#[test]
fn what_is_refused_is_not_copied_before() {
    let config = || Config { slots: 1, ..Config::default() };
    for kind in [GPU, MemoryKind::Managed] {
        let mut full = bench(config());
        let (from, peer) = (Fake::new(kind, false), full.b.address());
        full.a.tag_send(peer, 1, vec![1], 1).unwrap();
        // In a header, in a payload, in several packets, and offered, also with what goes along.
        for len in [10, 3000, 12_000, 20_013, 100_013] {
            let refused = full.a.tag_send(peer, 2, from.range(7, len), 2).unwrap_err();
            assert_eq!((refused.error, from.copied()), (SendError::Again(peer), 0), "{len} bytes of {kind:?}");
        }
        // Of several packets the second one has to wait.
        let (mut several, from) = (bench(config()), Fake::new(kind, false));
        let peer = several.b.address();
        several.b.tag_receive(Pattern::exact(2), vec![0; 12_000], 2).unwrap();
        several.a.tag_send(peer, 2, from.range(7, 12_000), 2).unwrap();
        let first = from.copied();
        several.a.progress().unwrap();
        assert_eq!((from.copied(), first > 0 && first < 12_000), (first, true), "{first}");
        assert!(matches!(several.next_at_a(), Completion::Sent { context: 2, .. }));
        assert_eq!(from.copied(), 12_000, "each byte once");
    }
    // A ring that nobody reads.
    let shared_memory = SharedMemory::of_job(format!("device-full-{}", std::process::id()));
    let mut full = bench(Config { shared_memory, ..Config::default() });
    let (from, peer) = (Fake::new(GPU, false), full.b.address());
    let refused = (0..1 << 20).find_map(|_| full.a.tag_inject(peer, 1, &[1; 16]).err());
    assert_eq!(refused, Some(SendError::Again(peer)));
    for len in [10, 3000, 100_000] {
        let refused = full.a.tag_send(peer, 2, from.range(7, len), 2).unwrap_err();
        assert_eq!((refused.error, from.copied()), (SendError::Again(peer), 0), "{len} bytes through memory");
    }
}

/// What was read in vain, because there was no room for the packet, is read again: that decides.
#[test]
fn a_copy_that_fails_for_a_packet_that_has_to_wait_fails_nothing() {
    let config = || Config { slots: 1, ..Config::default() };
    let from = Fake::new(MemoryKind::Managed, false);
    // In one packet, in several, and offered with a part of it.
    for len in [3000, 12_000, 20_013] {
        let mut bench = bench(config());
        let peer = bench.b.address();
        bench.a.tag_send(peer, 1, vec![1], 1).unwrap();
        from.set_broken(true);
        let refused = bench.a.tag_send(peer, 2, from.range(7, len), 2).unwrap_err();
        from.set_broken(false);
        assert_eq!(refused.error, SendError::Again(peer));
        bench.b.tag_receive(Pattern::exact(1), vec![0; 1], 1).unwrap();
        bench.b.tag_receive(Pattern::exact(2), vec![0; len], 2).unwrap();
        assert!(matches!(bench.next_at_a(), Completion::Sent { context: 1, .. }));
        bench.a.tag_send(peer, 2, refused.buffer, 2).unwrap();
        let end = bench.next_at_a();
        assert!(matches!(end, Completion::Sent { context: 2, .. }), "{len} bytes: {end:?}");
    }
    // Of several packets a later one has to wait.
    let mut several = bench(config());
    let peer = several.b.address();
    several.b.tag_receive(Pattern::exact(2), vec![0; 12_000], 2).unwrap();
    several.a.tag_send(peer, 2, from.range(7, 12_000), 2).unwrap();
    from.set_broken(true);
    several.a.progress().unwrap();
    from.set_broken(false);
    let end = several.next_at_a();
    assert!(matches!(end, Completion::Sent { context: 2, .. }), "{end:?}");
    // The operands of an atomic operation.
    let mut atomic = bench(config());
    let peer = atomic.b.address();
    let region = atomic.b.regions().register(Registration::of(SharedMem::new(64).unwrap(), Access::ATOMIC)).unwrap();
    let remote = Remote { peer, key: region.key(), place: 0 };
    atomic.a.write(remote, vec![0; 8], 1).unwrap();
    let sum = AtomicOp::new(Op::Sum, Datatype::Uint64).unwrap();
    from.set_broken(true);
    atomic.a.atomic(Atomic::fetch(remote, sum, from.range(7, 8), vec![0; 8], 2)).unwrap();
    from.set_broken(false);
    assert!(matches!(atomic.next_at_a(), Completion::Written { context: 1, .. }));
    let end = atomic.next_at_a();
    assert!(matches!(end, Completion::Fetched { context: 2, .. }), "{end:?}");
}
