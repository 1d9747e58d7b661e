//! Atomic operations on a peer's memory (fabtests: rdm_atomic): every datatype with every operation that it has, in every form,
//! against the operations on plain bytes; more elements than a packet holds; many peers at one counter; what is refused.

mod common;

use common::{Bench, bench, data};
use opx_bus::{PacketFaults, PciFunction, SharedMem};
use opx_stack::atomics::{AtomicError, AtomicOp, Datatype, Form, Op};
use opx_stack::regions::{Access, MemoryRegion, Registration};
use opx_stack::{
    Atomic, Buffer, Completion, Config, Endpoint, Level, OperationError, Rejected, Remote, RequestError, SendError,
};
use std::time::Duration;

const SPOILT: PacketFaults = PacketFaults { loss: 3.0, duplicate: 3.0, reorder: 5.0, corrupt: 1.0 };

fn window(bench: &Bench, len: usize, access: Access) -> (MemoryRegion, Remote) {
    let region = bench.b.regions().register(Registration::of(SharedMem::new(len).unwrap(), access)).unwrap();
    let remote = Remote { peer: bench.b.address(), key: region.key(), place: 0 };
    (region, remote)
}

fn bytes(region: &MemoryRegion, at: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    region.memory().read(at, &mut bytes);
    bytes
}

/// All pairs of datatype and operation that exist.
fn all() -> impl Iterator<Item = AtomicOp> {
    Datatype::ALL
        .into_iter()
        .flat_map(|datatype| Op::ALL.into_iter().filter_map(move |op| AtomicOp::new(op, datatype).ok()))
}

#[test]
fn every_operation_on_every_datatype_in_every_form() {
    let mut bench = bench(Config::default());
    let (region, remote) = window(&bench, 4096, Access::ATOMIC);
    let mut done = 0;
    for op in all() {
        let len = op.datatype().size() * 5;
        for (seed, form) in [Form::Update, Form::Fetch, Form::Compare].into_iter().enumerate() {
            if !op.has_form(form) {
                continue;
            }
            let seed = done * 10 + seed as u64;
            // Near each other, so that comparisons go both ways; and at no aligned place.
            let small = |seed| data(seed, len).into_iter().map(|byte| byte % 3).collect::<Vec<_>>();
            let (target, operand, compare) = (small(seed), small(seed + 1), small(seed + 2));
            region.memory().write(100, &[&[0xee; 3], &target[..], &[0xee; 3]].concat());
            let at = Remote { place: 103, ..remote };
            let (mut model, mut was) = (target.clone(), vec![0; len]);
            match form {
                Form::Update => {
                    op.apply(&mut model, &operand).unwrap();
                    bench.a.atomic(Atomic::update(at, op, operand.clone(), seed)).unwrap();
                    assert_eq!(bench.next_at_a(), Completion::Written { context: seed, buffer: operand.into() });
                }
                Form::Fetch => {
                    let operand = if op.op() == Op::Read { vec![] } else { operand };
                    op.fetch_apply(&mut model, &operand, &mut was).unwrap();
                    bench.a.atomic(Atomic::fetch(at, op, operand.clone(), vec![0xdd; len], seed)).unwrap();
                    let result = was.into();
                    assert_eq!(
                        bench.next_at_a(),
                        Completion::Fetched { context: seed, operands: operand.into(), result },
                        "{op:?}"
                    );
                }
                Form::Compare => {
                    op.compare(&mut model, &compare, &operand, &mut was).unwrap();
                    let atomic = Atomic::compare(at, op, compare.clone(), operand.clone(), vec![0xdd; len], seed);
                    bench.a.atomic(atomic).unwrap();
                    let operands = [operand, compare].concat().into();
                    assert_eq!(
                        bench.next_at_a(),
                        Completion::Fetched { context: seed, operands, result: was.into() },
                        "{op:?}"
                    );
                }
            }
            assert_eq!(bytes(&region, 100, len + 6), [&[0xee; 3], &model[..], &[0xee; 3]].concat(), "{op:?} {form}");
            done += 1;
        }
    }
    assert!(done > 200, "{done} pairs in all their forms");
    bench.quiet();
    assert_eq!((bench.b.poll_refusal(), bench.b.counters().malformed, bench.a.counters().malformed), (None, 0, 0));
}

#[test]
fn more_elements_than_a_packet_holds() {
    let mut bench = bench(Config { receive_faults: SPOILT, ..Config::default() });
    let (region, remote) = window(&bench, 100_000, Access::ATOMIC);
    // The largest elements come out even in no packet that carries anything else.
    for (op, datatype, len) in [
        (Op::Sum, Datatype::LongDoubleComplex, 32 * 1000),
        (Op::Cswap, Datatype::LongDoubleComplex, 32 * 700),
        (Op::Read, Datatype::Uint64, 8 * 3000),
        (Op::Bxor, Datatype::Int8, 8191),
        (Op::CswapGe, Datatype::Double, 8 * 1022),
    ] {
        let op = AtomicOp::new(op, datatype).unwrap();
        let (target, operand) = (data(1, len), data(2, len));
        let compare = [&target[..len / 2], &operand[len / 2..]].concat();
        region.memory().write(8, &target);
        let (mut model, mut was) = (target, vec![0; len]);
        let (at, result) = (Remote { place: 8, ..remote }, vec![0; len]);
        if op.op().compares() {
            op.compare(&mut model, &compare, &operand, &mut was).unwrap();
            let buffer = |bytes: &[u8]| -> Buffer { bytes.chunks(999).map(|part| part.to_vec().into()).collect() };
            bench.a.atomic(Atomic::compare(at, op, buffer(&compare), buffer(&operand), buffer(&result), 1)).unwrap();
        } else {
            op.fetch_apply(&mut model, &operand, &mut was).unwrap();
            bench.a.atomic(Atomic::fetch(at, op, operand, result, 1)).unwrap();
        }
        let Completion::Fetched { context: 1, result, .. } = bench.next_at_a() else { panic!() };
        assert!(result == was && bytes(&region, 8, len) == model, "{op:?}");
        if op.has_form(Form::Update) {
            op.apply(&mut model, &compare).unwrap();
            let level = Level::Delivery;
            bench.a.atomic(Atomic { level, ..Atomic::update(at, op, compare, 2) }).unwrap();
            assert!(matches!(bench.next_at_a(), Completion::Written { context: 2, .. }));
            assert!(bytes(&region, 8, len) == model, "{op:?}");
        }
    }
    bench.quiet();
}

#[test]
fn a_counter_counts_each_increment_of_each_peer_once() {
    const ROUNDS: u64 = 200;
    let mut bench = bench(Config { receive_faults: SPOILT, answers: 8, ..Config::default() });
    let mut c = Endpoint::open(&bench.hfi, Config { seed: 5, receive_faults: SPOILT, ..Config::default() }).unwrap();
    let (region, remote) = window(&bench, 4096, Access::ATOMIC);
    let sum = AtomicOp::new(Op::Sum, Datatype::Uint64).unwrap();
    let one = || 1u64.to_le_bytes().to_vec();
    let mut seen = Vec::new();
    let mut begun = [0; 2];
    bench.run(|bench| {
        c.progress().unwrap();
        for (endpoint, begun) in [&mut bench.a, &mut c].into_iter().zip(&mut begun) {
            while *begun < ROUNDS && endpoint.atomic(Atomic::fetch(remote, sum, one(), vec![0; 8], *begun)).is_ok() {
                *begun += 1;
                while endpoint.inject_atomic(remote, sum, &one()).is_err() {
                    // Behind a request that waits: an ordinary one takes its place in line.
                    let update = Atomic { silent: true, ..Atomic::update(remote, sum, one(), 0) };
                    if endpoint.atomic(update).is_ok() {
                        break;
                    }
                }
            }
            while let Some(completion) = endpoint.poll_completion() {
                let Completion::Fetched { result, .. } = completion else { panic!("{completion:?}") };
                seen.push(u64::from_le_bytes(result.into_vec().try_into().unwrap()));
            }
        }
        seen.len() as u64 == 2 * ROUNDS && bench.a.is_quiet() && c.is_quiet()
    });
    assert_eq!(region.memory().read_u64(0), 4 * ROUNDS);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len() as u64, 2 * ROUNDS, "two got the same value");
}

#[test]
fn what_can_not_be_is_refused_before_it_is_sent() {
    let mut bench = bench(Config::default());
    let (_region, remote) = window(&bench, 4096, Access::ATOMIC);
    let op = |op, datatype| AtomicOp::new(op, datatype).unwrap();
    assert!(matches!(AtomicOp::new(Op::Max, Datatype::FloatComplex), Err(AtomicError::Unsupported { .. })));
    let sum = op(Op::Sum, Datatype::Uint32);
    let read = op(Op::Read, Datatype::Uint32);
    let swap = op(Op::Cswap, Datatype::Uint32);
    for atomic in [
        Atomic::update(remote, sum, vec![0; 7], 1),
        Atomic::update(remote, sum, vec![], 1),
        Atomic::update(remote, read, vec![0; 4], 1),
        Atomic::update(remote, swap, vec![0; 4], 1),
        Atomic::fetch(remote, sum, vec![0; 4], vec![0; 8], 1),
        Atomic::fetch(remote, swap, vec![0; 4], vec![0; 4], 1),
        Atomic::compare(remote, sum, vec![0; 4], vec![0; 4], vec![0; 4], 1),
        Atomic::compare(remote, swap, vec![0; 8], vec![0; 4], vec![0; 4], 1),
        Atomic { result: None, ..Atomic::compare(remote, swap, vec![0; 4], vec![0; 4], vec![0; 4], 1) },
    ] {
        let lens = [Some(&atomic.operand), atomic.compare.as_ref(), atomic.result.as_ref()];
        let lens = lens.into_iter().flatten().map(Buffer::len).sum::<usize>();
        let Err(Rejected { error: RequestError::Atomic(_), buffer }) = bench.a.atomic(atomic) else { panic!() };
        assert_eq!(buffer.len(), lens, "all comes back");
    }
    assert!(matches!(bench.a.inject_atomic(remote, read, &[0; 4]), Err(RequestError::Atomic(_))));
    assert_eq!(bench.a.inject_atomic(remote, sum, &[0; 20]), Err(RequestError::Send(SendError::TooLong(20))));
    assert!(bench.a.is_quiet());
}

#[test]
fn each_form_needs_its_rights() {
    let mut bench = bench(Config { answer_wait: Duration::from_millis(100), ..Config::default() });
    let op = |op| AtomicOp::new(op, Datatype::Uint64).unwrap();
    let forms = |remote| {
        [
            Atomic::update(remote, op(Op::Sum), vec![1; 8], 0),
            Atomic::fetch(remote, op(Op::Read), vec![], vec![0; 8], 0),
            Atomic::fetch(remote, op(Op::Sum), vec![1; 8], vec![0; 8], 0),
            Atomic::compare(remote, op(Op::Cswap), vec![0; 8], vec![1; 8], vec![0; 8], 0),
        ]
    };
    let (read, write) = (Access::REMOTE_READ, Access::REMOTE_WRITE);
    for (access, may) in
        [(read, [false, true, false, false]), (write, [true, false, false, false]), (read | write, [true; 4])]
    {
        let (region, remote) = window(&bench, 4096, access);
        for (atomic, may) in forms(remote).into_iter().zip(may) {
            let update = atomic.result.is_none();
            let lens =
                atomic.operand.len() + atomic.compare.iter().chain(&atomic.result).map(Buffer::len).sum::<usize>();
            bench.a.atomic(atomic).unwrap();
            match bench.next_at_a() {
                Completion::Fetched { .. } => assert!(may),
                Completion::Written { .. } => assert!(update),
                Completion::Failed { error, buffer, .. } => {
                    assert!(!may && !update);
                    assert_eq!((error, buffer.len()), (OperationError::Unanswered(remote.peer), lens));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(bench.b.poll_refusal().is_none(), may);
        }
        if access == read {
            assert_eq!(region.memory().read_u64(0), 0);
        }
    }
}

#[test]
fn an_operation_whose_target_ends_fails_with_it() {
    let reliability = opx_reliability::Config { give_up_after: Duration::from_millis(500), ..Default::default() };
    let mut bench = bench(Config { reliability, ..Config::default() });
    // More than an endpoint takes in one go.
    const LEN: usize = 2 << 20;
    let (_region, remote) = window(&bench, LEN, Access::ATOMIC);
    let sum = AtomicOp::new(Op::Sum, Datatype::Uint64).unwrap();
    let before = bench.b.counters().packets_in;
    bench.a.atomic(Atomic::update(remote, sum, vec![1; LEN], 1)).unwrap();
    bench.a.atomic(Atomic::fetch(remote, sum, vec![1; LEN], vec![0; LEN], 2)).unwrap();
    bench.run(|bench| bench.b.counters().packets_in > before);
    let mut failed = Vec::new();
    let limit = bench.hfi.bus().now() + Duration::from_secs(60);
    while failed.len() < 2 {
        assert!(bench.hfi.bus().now() < limit, "only {failed:?} failed");
        if !bench.a.progress().unwrap() {
            bench.hfi.bus().relax();
        }
        while let Some(completion) = bench.a.poll_completion() {
            let Completion::Failed { context, error, buffer } = completion else { panic!("{completion:?}") };
            assert_eq!((error, buffer.len()), (OperationError::Unreachable(remote.peer), LEN * context as usize));
            failed.push(context);
        }
    }
}
