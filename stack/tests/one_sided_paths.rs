//! Writes, reads and atomic operations go the way that is explained, whatever the thresholds, the memory and the peer are; and a slower
//! way than was asked for is an error.

mod common;

use common::{Bench, bench};
use opx_bus::SharedMem;
use opx_defs::wire::opx::Opcode;
use opx_stack::atomics::{AtomicOp, Datatype, Form, Op};
use opx_stack::observe::explain::Kind;
use opx_stack::observe::{Event, OneSided, OneSidedPath, Reason, Recording};
use opx_stack::regions::{Access, MemoryRegion, Registration};
use opx_stack::{
    Atomic, Buffer, Completion, Config, CopyError, DeviceMemory, DeviceRange, MemoryKind, Outgoing, Read, Remote,
    RequestError, SharedMemory, SharedRange, Thresholds, Write,
};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const REGION: usize = 1 << 16;

fn sum() -> AtomicOp {
    AtomicOp::new(Op::Sum, Datatype::Uint64).unwrap()
}

fn swap() -> AtomicOp {
    AtomicOp::new(Op::Cswap, Datatype::Uint64).unwrap()
}

fn read_op() -> AtomicOp {
    AtomicOp::new(Op::Read, Datatype::Uint64).unwrap()
}

/// What can be asked for.
fn kinds() -> [Kind; 6] {
    [
        Kind::Write,
        Kind::Read,
        Kind::Atomic(sum(), Form::Update),
        Kind::Atomic(sum(), Form::Fetch),
        Kind::Atomic(swap(), Form::Compare),
        Kind::Atomic(read_op(), Form::Fetch),
    ]
}

/// The memory of a device that the adapter reaches.
#[derive(Debug)]
struct Device(SharedMem);

impl DeviceMemory for Device {
    fn kind(&self) -> MemoryKind {
        MemoryKind::Device { interface: 1, device: 0 }
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn copy_out(&self, at: usize, to: &mut [u8]) -> Result<(), CopyError> {
        self.0.read(at, to);
        Ok(())
    }

    fn copy_in(&self, at: usize, from: &[u8]) -> Result<(), CopyError> {
        self.0.write(at, from);
        Ok(())
    }

    fn reachable(&self) -> Option<&SharedMem> {
        Some(&self.0)
    }
}

/// Whose memory a buffer is.
#[derive(Debug, Clone, Copy)]
enum Whose {
    Bytes,
    Reachable,
    Device,
}

fn buffer(whose: Whose, len: usize) -> Buffer {
    let memory = || SharedMem::new(len.max(1)).unwrap();
    match whose {
        Whose::Bytes => vec![1; len].into(),
        Whose::Reachable => SharedRange::new(memory(), 0, len).unwrap().into(),
        Whose::Device => DeviceRange::new(Arc::new(Device(memory())), 0, len).unwrap().into(),
    }
}

fn region(bench: &Bench) -> MemoryRegion {
    let memory = SharedMem::new(REGION).unwrap();
    bench.b.regions().register(Registration::of(memory, Access::ATOMIC)).unwrap()
}

/// Does an operation and tells by the packets that left which way it went.
fn went(bench: &mut Bench, region: &MemoryRegion, asked: OneSided, whose: Whose, cq_data: bool) -> OneSidedPath {
    let OneSided { peer, kind, len, injected, .. } = asked;
    let at = Remote { peer, key: region.key(), place: 0 };
    let already = bench.a.recorded().last().map_or(0, |record| record.number + 1);
    let engine = bench.a.sdma_counters().packets;
    let made = |len| buffer(whose, len);
    match (kind, injected) {
        (Kind::Write, true) => bench.a.inject_write(at, &vec![1; len]).unwrap(),
        (Kind::Atomic(op, _), true) => bench.a.inject_atomic(at, op, &vec![1; len]).unwrap(),
        (Kind::Write, false) => {
            let write = Write { data: cq_data.then_some(7), ..Write::new(at, made(len), 1) };
            bench.a.write_with(write).unwrap();
        }
        (Kind::Read, _) => bench.a.read_with(Read::new(at, made(len), 1)).unwrap(),
        (Kind::Atomic(op, Form::Update), _) => bench.a.atomic(Atomic::update(at, op, made(len), 1)).unwrap(),
        (Kind::Atomic(op, Form::Fetch), _) => {
            let operand = made(if op.op() == Op::Read { 0 } else { len });
            bench.a.atomic(Atomic::fetch(at, op, operand, made(len), 1)).unwrap();
        }
        (Kind::Atomic(op, Form::Compare), _) => {
            bench.a.atomic(Atomic::compare(at, op, made(len), made(len), made(len), 1)).unwrap();
        }
    }
    bench.quiet();
    if !injected {
        assert!(!matches!(bench.a.poll_completion(), None | Some(Completion::Failed { .. })), "{asked}");
    }
    assert_eq!((bench.b.poll_refusal(), bench.b.counters().malformed, bench.a.counters().malformed), (None, 0, 0));
    let records: Vec<_> = bench.a.recorded().into_iter().filter(|it| it.number >= already).collect();
    let sent = records.iter().filter(|it| matches!(it.event, Event::Sent | Event::SentByEngine));
    let of = |opcode: fn(Opcode) -> bool| {
        let packets = sent.clone().filter(move |it| it.header.is_some_and(|header| opcode(header.opcode())));
        packets.map(|it| it.event).collect::<Vec<_>>()
    };
    let data = of(|opcode| matches!(opcode, Opcode::RzvData));
    let questions = of(|opcode| matches!(opcode, Opcode::RzvCts));
    let by_engine = data.iter().filter(|event| **event == Event::SentByEngine).count() as u64;
    assert!(bench.a.sdma_counters().packets - engine >= by_engine, "what the recorder says is what the engine did");
    if bench.b.counters().packets_in == 0 {
        return if data.is_empty() && questions.is_empty() {
            OneSidedPath::Nothing
        } else {
            OneSidedPath::SharedMemory
        };
    }
    match data.first() {
        Some(Event::SentByEngine) => OneSidedPath::Sdma,
        Some(_) if data.len() == 1 => OneSidedPath::OnePacket,
        Some(_) => OneSidedPath::Pio,
        None if questions.is_empty() => OneSidedPath::Nothing,
        None => OneSidedPath::Answer,
    }
}

#[test]
fn operations_go_the_way_that_is_explained_around_each_threshold() {
    let usual = Thresholds::default();
    for (thresholds, pio_blocks, tid_entries) in [
        (usual, 256, 0),
        (usual, 4, 256),
        (Thresholds { no_tid: true, pio_max: 8192, ..usual }, 256, 256),
        (Thresholds { no_sdma: true, ..usual }, 256, 256),
        (Thresholds { packet_max: 2048, pio_max: 0, ..usual }, 256, 256),
    ] {
        let config = Config { recorder: Recording::Memory, thresholds, pio_blocks, tid_entries, ..Config::default() };
        let mut bench = bench(config);
        // Something goes over the wire before, so that nothing is mistaken for shared memory.
        bench.a.inject(bench.b.address(), b"first").unwrap();
        bench.run(|bench| bench.b.counters().packets_in > 0);
        let region = region(&bench);
        for kind in kinds() {
            for len in [0, 8, 192, 200, 248, 256, 496, 504, 512, 520, 8192, 8200] {
                if len == 0 && matches!(kind, Kind::Atomic(..)) {
                    continue;
                }
                let asked = OneSided::new(bench.b.address(), kind, len);
                let said = bench.a.explain_one_sided(asked);
                let went = went(&mut bench, &region, asked, Whose::Bytes, false);
                assert_eq!(Some(went), said.path, "{said}\n{thresholds:?}");
            }
        }
    }
}

#[test]
fn injected_operations_and_those_with_completion_data_go_so_too() {
    let mut bench = bench(Config { recorder: Recording::Memory, ..Config::default() });
    let region = region(&bench);
    let to = bench.b.address();
    for len in [8, 16] {
        for asked in [OneSided::write(to, len), OneSided::atomic(to, sum(), Form::Update, len)] {
            let said = bench.a.explain_one_sided(asked.injected());
            let went = went(&mut bench, &region, asked.injected(), Whose::Bytes, false);
            assert_eq!((Some(went), went), (said.path, OneSidedPath::OnePacket), "{said}");
        }
    }
    let too_long = bench.a.explain_one_sided(OneSided::write(to, 17).injected());
    assert_eq!(too_long.path, None);
    assert!(bench.a.inject_write(Remote { peer: to, key: region.key(), place: 0 }, &[0; 17]).is_err());
    for len in [0, 512, 513, 20_000] {
        let asked = OneSided::write(to, len);
        let said = bench.a.explain_one_sided(asked);
        assert_eq!(Some(went(&mut bench, &region, asked, Whose::Bytes, true)), said.path, "{said}");
    }
}

fn near() -> Config {
    static JOBS: AtomicU32 = AtomicU32::new(0);
    let job = format!("paths-{}-{}", std::process::id(), JOBS.fetch_add(1, Ordering::Relaxed));
    let shared_memory = SharedMemory::of_job(job);
    Config { recorder: Recording::Memory, shared_memory, ..Config::default() }
}

#[test]
fn peers_on_this_machine_are_asked_through_its_memory() {
    let mut bench = bench(near());
    let region = region(&bench);
    for kind in kinds() {
        for len in [8, 16, 512, 520, 8192, 8200, 40_000] {
            for whose in [Whose::Bytes, Whose::Reachable, Whose::Device] {
                let asked = OneSided::new(bench.b.address(), kind, len);
                let said = bench.a.explain_one_sided(asked);
                let went = went(&mut bench, &region, asked, whose, false);
                assert_eq!((Some(went), went), (said.path, OneSidedPath::SharedMemory), "{said}");
                assert_eq!(said.why_not(OneSidedPath::OneCopy), Some(Reason::MessagesOnly));
            }
        }
    }
    assert_eq!([bench.a.counters().packets_in, bench.b.counters().packets_in], [0, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn operations_go_the_way_that_is_explained_with_any_thresholds(
        lens in prop::collection::vec(1usize..2500, 1..4),
        kind in prop::sample::select(kinds().to_vec()),
        whose in prop::sample::select(vec![Whose::Bytes, Whose::Reachable, Whose::Device]),
        pio_max in 0usize..10_000,
        no_sdma: bool,
        no_tid: bool,
        pio_blocks in prop::sample::select(vec![4u16, 17, 64, 256]),
        packet_max in prop::sample::select(vec![2048usize, 4096, 8192]),
    ) {
        let mut bench = bench(Config { recorder: Recording::Memory, pio_blocks, ..Config::default() });
        // They can be changed while the endpoint runs.
        bench.a.set_thresholds(Thresholds { pio_max, no_sdma, no_tid, packet_max, ..Thresholds::default() }).unwrap();
        bench.a.inject(bench.b.address(), b"first").unwrap();
        bench.run(|bench| bench.b.counters().packets_in > 0);
        let region = region(&bench);
        for len in lens {
            let asked = OneSided::new(bench.b.address(), kind, len * 8);
            let said = bench.a.explain_one_sided(asked);
            let went = went(&mut bench, &region, asked, whose, false);
            prop_assert_eq!(Some(went), said.path, "{}", said);
        }
    }
}

#[test]
fn a_slower_way_than_was_asked_for_is_an_error() {
    let mut bench = bench(Config { expect_one_sided: Some(OneSidedPath::Sdma), ..Config::default() });
    let region = region(&bench);
    let at = Remote { peer: bench.b.address(), key: region.key(), place: 0 };
    bench.a.write(at, vec![1; 10_000], 1).unwrap();
    bench.a.set_thresholds(Thresholds { no_sdma: true, ..Thresholds::default() }).unwrap();
    let refused = bench.a.write(at, vec![7; 10_000], 2).unwrap_err();
    let RequestError::Slower(slower) = refused.error else { panic!("{}", refused.error) };
    let because = (slower.expected, slower.path, slower.why);
    assert_eq!(because, (OneSidedPath::Sdma, OneSidedPath::Pio, Reason::Off("no_sdma")));
    assert_eq!(refused.buffer, vec![7; 10_000], "the buffer comes back");
    assert_eq!(
        refused.error.to_string(),
        "it was to go by packets by SDMA or better and would go by packets by PIO: packets by SDMA doesn't take it, because it is \
         switched off (no_sdma)"
    );
    // One may ask for less, or for more; what the target decides isn't held against who asks.
    bench.a.write_with(Write { expect: Some(OneSidedPath::Pio), ..Write::new(at, vec![1; 10_000], 3) }).unwrap();
    let near = Some(OneSidedPath::SharedMemory);
    let strict = Write { expect: near, ..Write::new(at, vec![1; 8], 4) };
    let RequestError::Slower(slower) = bench.a.write_with(strict).unwrap_err().error else { panic!() };
    assert!(matches!(slower.why, Reason::Off(_) | Reason::NoJob), "{:?}", slower.why);
    let fetch = Atomic { expect: near, ..Atomic::fetch(at, sum(), vec![1; 8], vec![0; 8], 5) };
    let refused = bench.a.atomic(fetch).unwrap_err();
    assert!(matches!(refused.error, RequestError::Slower(_)));
    assert_eq!(refused.buffer.len(), 16, "both come back");
    bench.a.read_with(Read { expect: near, ..Read::new(at, vec![0; 100_000 / 2], 6) }).unwrap();
    assert_eq!(bench.a.counters().requests, 3);
    bench.quiet();
    // A message isn't held to what is expected of these.
    bench.a.send_message(Outgoing::new(at.peer, vec![1; 30_000], 7)).unwrap();
}

#[test]
fn a_peer_on_this_machine_is_found_by_what_expects_it() {
    let mut bench = bench(Config { expect_one_sided: Some(OneSidedPath::SharedMemory), ..near() });
    let region = region(&bench);
    let at = Remote { peer: bench.b.address(), key: region.key(), place: 0 };
    bench.a.write(at, vec![1; 10_000], 1).unwrap();
    bench.quiet();
    assert_eq!(bench.a.poll_completion(), Some(Completion::Written { context: 1, buffer: vec![1; 10_000].into() }));
    assert_eq!(bench.b.counters().packets_in, 0);
}
