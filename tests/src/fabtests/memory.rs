//! fabtests/functional and unit, of memory: rdm_atomic, multi_mr, mr_test, unmap_mem.

use super::Setting;
use super::ends::{Ends, data};
use opx_bus::{PciFunction, SharedMem};
use opx_stack::atomics::{AtomicOp, Datatype, Form, Op};
use opx_stack::regions::{Access, RegionError};
use opx_stack::{Asked, Atomic, Buffer, Completion, Level, Outgoing, Pattern, Read, Refusal, Write};

/// Every operation on every datatype that has it.
pub(super) fn operations() -> impl Iterator<Item = AtomicOp> {
    let pairs = Datatype::ALL.into_iter().flat_map(|datatype| Op::ALL.into_iter().map(move |op| (op, datatype)));
    pairs.filter_map(|(op, datatype)| AtomicOp::new(op, datatype).ok())
}

/// Every operation on every datatype that has it, in every form, against the same on plain bytes.
pub fn rdm_atomic<B: PciFunction>(setting: Setting<B>) {
    let mut ends = Ends::open(setting, 2);
    let window = ends.window(1, 4096, Access::ATOMIC);
    for (n, op) in (0..).zip(operations()) {
        let len = op.datatype().size() * 3;
        // Near each other, so that comparisons go both ways.
        let small = |seed| data(seed, len).into_iter().map(|byte| byte % 3).collect::<Vec<_>>();
        let (target, operand, compare) = (small(n), small(n + 1), small(n + 2));
        for form in [Form::Update, Form::Fetch, Form::Compare].into_iter().filter(|form| op.has_form(*form)) {
            window.region.memory().write(64, &target);
            let (mut model, mut was, at) = (target.clone(), vec![0; len], window.at(64));
            let operand = if op.op() == Op::Read { vec![] } else { operand.clone() };
            match form {
                Form::Update => {
                    op.apply(&mut model, &operand).unwrap();
                    let update = Atomic { level: Level::Delivery, ..Atomic::update(at, op, operand, n) };
                    ends.atomic(0, &update);
                    assert!(matches!(ends.next(0), Completion::Written { context, .. } if context == n));
                }
                Form::Fetch => {
                    op.fetch_apply(&mut model, &operand, &mut was).unwrap();
                    ends.atomic(0, &Atomic::fetch(at, op, operand, vec![0; len], n));
                    let Completion::Fetched { result, .. } = ends.next(0) else { panic!("{op:?}") };
                    assert_eq!(result, was, "{op:?}");
                }
                Form::Compare => {
                    op.compare(&mut model, &compare, &operand, &mut was).unwrap();
                    ends.atomic(0, &Atomic::compare(at, op, compare.clone(), operand, vec![0; len], n));
                    let Completion::Fetched { result, .. } = ends.next(0) else { panic!("{op:?}") };
                    assert_eq!(result, was, "{op:?}");
                }
            }
            assert_eq!(window.bytes(64, len), model, "{op:?} {form}");
        }
    }
    ends.quiet();
}

/// Several regions at a time: each write and read goes to the one whose key it names, and to none once that is closed.
pub fn multi_mr<B: PciFunction>(setting: Setting<B>) {
    const REGIONS: usize = 8;
    let mut ends = Ends::open(setting, 2);
    let mut windows: Vec<_> = (0..REGIONS).map(|_| ends.window(1, 20_000, Access::ATOMIC)).collect();
    for len in [8, 5000, 20_000] {
        for (n, window) in (0..).zip(&windows) {
            ends.write(0, &Write::new(window.remote, data(n, len), n));
        }
        for _ in 0..REGIONS {
            assert!(matches!(ends.next(0), Completion::Written { .. }));
        }
        for (n, window) in (0..).zip(&windows) {
            ends.read(0, &Read::new(window.remote, vec![0; len], n));
            let Completion::Read { context, buffer } = ends.next(0) else { panic!() };
            assert_eq!((context, buffer), (n, data(n, len).into()));
        }
    }
    let closed = windows.remove(3);
    assert!(closed.region.close().is_ok());
    ends.write(0, &Write { level: Level::Delivery, ..Write::new(closed.remote, vec![0; 8], 1) });
    ends.write(0, &Write { level: Level::Delivery, ..Write::new(windows[3].remote, data(77, 100), 2) });
    assert!(matches!([ends.next(0), ends.next(0)], [Completion::Written { .. }, Completion::Written { .. }]));
    assert_eq!(windows[3].bytes(0, 100), data(77, 100));
    let error = RegionError::UnknownKey { key: closed.remote.key };
    let source = ends.address(0);
    assert_eq!(ends[1].poll_refusal(), Some(Refusal { source, asked: Asked::Write, error }));
    assert_eq!(ends[1].poll_refusal(), None);
    ends.quiet();
}

/// Keys, bounds and rights: what a region doesn't grant isn't done, and its owner is told.
pub fn mr_test<B: PciFunction>(setting: Setting<B>) {
    let mut ends = Ends::open(setting, 2);
    let source = ends.address(0);
    let read_only = ends.window(1, 4096, Access::REMOTE_READ);
    let write_only = ends.window(1, 4096, Access::REMOTE_WRITE);
    assert_ne!(read_only.remote.key, write_only.remote.key);
    read_only.region.memory().write(0, &data(1, 4096));
    write_only.region.memory().write(0, &data(2, 4096));
    let delivered = |to, bytes| Write { level: Level::Delivery, ..Write::new(to, bytes, 0) };
    ends.write(0, &delivered(read_only.remote, vec![0; 16]));
    assert!(matches!(ends.next(0), Completion::Written { .. }));
    ends.write(0, &delivered(write_only.at(4090), vec![0; 16]));
    assert!(matches!(ends.next(0), Completion::Written { .. }));
    for (window, seed) in [(&read_only, 1), (&write_only, 2)] {
        assert_eq!(window.bytes(0, 4096), data(seed, 4096), "nothing was written");
    }
    let key = read_only.remote.key;
    let error = RegionError::Access { key, missing: Access::REMOTE_WRITE };
    assert_eq!(ends[1].poll_refusal(), Some(Refusal { source, asked: Asked::Write, error }));
    let error = RegionError::Outside { key: write_only.remote.key, offset: 4090, len: 16, size: 4096 };
    assert_eq!(ends[1].poll_refusal(), Some(Refusal { source, asked: Asked::Write, error }));
    // What it grants is done.
    ends.write(0, &delivered(write_only.at(100), data(3, 100)));
    assert!(matches!(ends.next(0), Completion::Written { .. }));
    assert_eq!(write_only.bytes(100, 100), data(3, 100));
    ends.read(0, &Read::new(read_only.at(96), vec![0; 4000], 5));
    let Completion::Read { context: 5, buffer } = ends.next(0) else { panic!() };
    assert_eq!(buffer, data(1, 4096)[96..].to_vec());
    ends.quiet();
}

/// Memory that is sent from and received into goes, and other memory comes in its place: messages are those of the new.
pub fn unmap_mem<B: PciFunction>(setting: Setting<B>) {
    // Whole pages.
    const LEN: usize = 37 << 12;
    let mut ends = Ends::open(setting, 2);
    let to = ends.address(1);
    for n in 0..12 {
        let [from, into] = [0, 1].map(|_| SharedMem::new(LEN).unwrap());
        from.write(0, &data(n, LEN));
        ends[1].tag_receive(Pattern::exact(n), into.clone(), n).unwrap();
        ends.send(0, Outgoing { tag: Some(n), ..Outgoing::new(to, Buffer::from(from), n) });
        let (context, message) = ends.received(1);
        assert!(context == n && message.bytes == data(n, LEN), "message {n}");
        assert_eq!(ends.sent(0), n);
    }
    ends.quiet();
}
