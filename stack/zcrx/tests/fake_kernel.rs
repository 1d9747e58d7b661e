//! The pool on a kernel in memory, which can be made to lack and to fail what the running one may.

mod common;

use common::{Checker, SMALL_POOL, alone, connection, held, next, next_data, receive_until_end, send_pattern};
use opx_zcrx::{
    Answers, BadCompletion, Completion, CreateError, Event, EventTypes, ExportError, Fake, FakeQueue, Feature,
    HardwareQueue, ImportError, Incoming, Ingress, Means, OpenError, Operation, Options, OwnerGone, ReceiveError, Ring,
    RingHandle, Role, SharingError, Source, StreamError, StreamId, Unsupported, WhyNot, ZcrxAnswer, share_pools,
};
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

const PAGE: u32 = 4096;

fn owner() -> Options {
    Options::new().zero_copy_rx(Source::NoDevice).num_buffers(8).refill_entries(8)
}

fn device() -> Options {
    let queue = HardwareQueue { interface: "eth0".to_owned(), index: 2, queue: 1 };
    Options::new().zero_copy_rx(Source::Queue(queue)).num_buffers(32).refill_entries(8)
}

fn open(fake: &Fake, options: &Options) -> Ring<FakeQueue> {
    Ring::open_on(fake, options).unwrap()
}

fn with_pool(fake: &Fake, options: &Options) -> Ring<FakeQueue> {
    let ring = open(fake, options);
    ring.create_pool().unwrap();
    ring
}

fn lacking(change: impl FnOnce(&mut ZcrxAnswer)) -> Fake {
    let mut answers = Answers::default();
    let mut zcrx = answers.zcrx.unwrap();
    change(&mut zcrx);
    answers.zcrx = Ok(zcrx);
    Fake::new(answers)
}

/// A ring with one stream whose completions the test makes up, without anything being sent. The peer is kept.
fn scripted(options: &Options) -> (Fake, Ring<FakeQueue>, StreamId, TcpStream) {
    let fake = Fake::default();
    let ring = with_pool(&fake, options);
    let (sender, receiver) = connection();
    let stream = ring.receive(receiver).unwrap();
    (fake, ring, stream, sender)
}

/// Completes a receive of `len` bytes at `offset` of the ring's first stream.
fn complete(fake: &Fake, offset: u64, len: i32) {
    fake.complete(0, Completion { user_data: 0, result: len, more: true, offset });
}

fn refill(ring: &Ring<FakeQueue>) -> (u32, usize) {
    let refill = ring.pool().unwrap().refill;
    (refill.used, refill.overflow)
}

/// Z2: what the kernel lacks is found before anything is registered.
#[test]
fn a_missing_feature_is_found_before_any_call() {
    let _alone = alone();
    let before = held();
    let no_device = lacking(|zcrx| zcrx.register_flags = 1);
    let refused = open(&no_device, &owner()).create_pool().unwrap_err();
    assert!(matches!(refused, CreateError::Unsupported(Unsupported::Lacks(Feature::NoDevice))), "{refused}");

    let no_flush = lacking(|zcrx| zcrx.nr_ctrl_opcodes = 0);
    let refused = open(&no_flush, &owner()).create_pool().unwrap_err();
    assert!(matches!(refused, CreateError::Unsupported(Unsupported::Lacks(Feature::Flush))), "{refused}");

    let no_query = Fake::new(Answers { zcrx: Err(libc::EINVAL), ..Answers::default() });
    let refused = open(&no_query, &owner()).create_pool().unwrap_err();
    assert!(matches!(refused, CreateError::Unsupported(Unsupported::NoQuery)), "{refused}");

    let no_zcrx = Fake::new(Answers { zcrx: Err(libc::EOPNOTSUPP), ..Answers::default() });
    let refused = open(&no_zcrx, &device()).create_pool().unwrap_err();
    assert!(matches!(refused, CreateError::Unsupported(Unsupported::NoZcrx)), "{refused}");

    for fake in [no_device, no_flush, no_query, no_zcrx] {
        assert_eq!(fake.count(Operation::Register), 0);
    }

    let no_export = lacking(|zcrx| zcrx.nr_ctrl_opcodes = 1);
    let refused = with_pool(&no_export, &owner()).export_pool().unwrap_err();
    assert!(matches!(refused, ExportError::Unsupported(Unsupported::Lacks(Feature::Export))), "{refused}");
    assert_eq!(no_export.count(Operation::Export), 0);

    let no_import = lacking(|zcrx| zcrx.register_flags = 2);
    let ring = with_pool(&no_import, &owner());
    let exported = ring.export_pool().unwrap();
    let refused = open(&no_import, &Options::new().zc_rx_import()).import_pool(exported).unwrap_err();
    assert!(matches!(refused, ImportError::Unsupported(Unsupported::Lacks(Feature::Import))), "{refused}");
    assert_eq!(no_import.count(Operation::Import), 0);
    drop((ring, no_export, no_import));
    assert_eq!(held(), before);
}

/// Each call that the kernel refuses has its error, which says what to do, and leaves nothing behind.
#[test]
fn a_refusal_is_typed_and_leaves_nothing() {
    let _alone = alone();
    let before = held();
    let fake = Fake::default();
    let refused = |options: &Options, errno| {
        fake.fail_next(Operation::Register, errno);
        open(&fake, options).create_pool().unwrap_err()
    };
    assert!(matches!(refused(&owner(), libc::EPERM), CreateError::NotPermitted));
    assert!(refused(&owner(), libc::EPERM).to_string().contains("CAP_NET_ADMIN"));
    assert!(matches!(refused(&owner(), libc::ENOMEM), CreateError::Locked));
    assert!(matches!(refused(&owner(), libc::EINVAL), CreateError::Kernel(_)));
    assert!(matches!(refused(&device(), libc::EOPNOTSUPP), CreateError::Interface { queue: 1, .. }));
    fake.fail_next(Operation::Open, libc::EPERM);
    assert!(matches!(Ring::open_on(&fake, &owner()).unwrap_err(), OpenError::Kernel(_)));
    assert!(matches!(Ring::open_on(&fake, &owner().num_buffers(0)).unwrap_err(), OpenError::Options(_)));
    assert!(matches!(open(&fake, &Options::new().zc_rx_import()).create_pool(), Err(CreateError::NoSource)));
    assert!(matches!(open(&fake, &Options::new()).export_pool(), Err(ExportError::NoPool)));
    assert!(matches!(open(&fake, &Options::new()).receive(connection().0), Err(ReceiveError::NoPool)));
    let huge = owner().num_buffers(1 << 23);
    match open(&fake, &huge).create_pool() {
        // A machine that overcommits memory maps it.
        Ok(()) => {}
        Err(error) => assert!(matches!(error, CreateError::Memory { bytes, .. } if bytes > 1 << 35), "{error}"),
    }
    let ring = with_pool(&fake, &owner());
    assert!(matches!(ring.create_pool(), Err(CreateError::HasPool)));
    drop((ring, fake));
    assert_eq!(held(), before);
}

/// Z1: an export that fails gives an error and no file descriptor; afterwards all is as before.
#[test]
fn a_failed_export_gives_no_fd() {
    let _alone = alone();
    let before = held();
    let fake = Fake::default();
    let ring = with_pool(&fake, &owner());
    let with_ring = held();
    fake.fail_next(Operation::Export, libc::ENXIO);
    match ring.export_pool().unwrap_err() {
        ExportError::Kernel(error) => assert_eq!(error.raw_os_error(), Some(libc::ENXIO)),
        other => panic!("{other}"),
    }
    assert_eq!(held(), with_ring);
    drop((ring, fake));
    assert_eq!(held(), before);
}

/// Z3: an importer doesn't hand the pool on.
#[test]
fn only_the_owner_exports() {
    let _alone = alone();
    let fake = Fake::default();
    let owner = with_pool(&fake, &owner());
    let importer = open(&fake, &Options::new().zc_rx_import());
    importer.import_pool(owner.export_pool().unwrap()).unwrap();
    assert!(matches!(importer.export_pool(), Err(ExportError::NotOwner)));
    assert_eq!(fake.count(Operation::Export), 1);
}

/// Z12: the pool's file descriptor is closed, whether the import works, is refused, or never comes; what the owner knows
/// of its queue comes with it.
#[test]
fn the_fd_of_a_pool_is_closed_on_every_path() {
    let _alone = alone();
    let before = held();
    let fake = Fake::default();
    let ring = with_pool(&fake, &device().resolve_napi(|index, queue| Some(index * 100 + queue)));
    let importer = open(&fake, &Options::new().zc_rx_import());
    let plain = open(&fake, &Options::new());
    let with_rings = held();
    drop(ring.export_pool().unwrap());
    assert_eq!(held(), with_rings);
    fake.fail_next(Operation::Import, libc::ENOMEM);
    assert!(matches!(importer.import_pool(ring.export_pool().unwrap()), Err(ImportError::Kernel(_))));
    fake.fail_next(Operation::Import, libc::EPERM);
    assert!(matches!(importer.import_pool(ring.export_pool().unwrap()), Err(ImportError::NotPermitted)));
    let refused = plain.import_pool(ring.export_pool().unwrap()).unwrap_err();
    assert!(refused.to_string().contains("zc_rx_import"), "{refused}");
    assert_eq!(held(), with_rings);
    let exported = ring.export_pool().unwrap();
    assert_eq!((exported.napi_id(), exported.queue_id()), (Some(201), 1));
    importer.import_pool(exported).unwrap();
    let info = importer.pool().unwrap();
    assert_eq!((info.own, info.napi_id, info.queue_id), (false, Some(201), 1));
    assert!(matches!(importer.import_pool(ring.export_pool().unwrap()), Err(ImportError::HasPool)));
    assert_eq!(held(), with_rings);
    drop((ring, importer, plain, fake));
    assert_eq!(held(), before);
}

/// Z4, Z6: several completions in one buffer, each its own bytes and no more, each returned for itself.
#[test]
fn one_buffer_is_lent_in_parts() {
    let _alone = alone();
    let (fake, ring, _, _peer) = scripted(&device());
    for (offset, len) in [(0, 1500), (1600, 800), (4096, 2048)] {
        complete(&fake, offset, len);
    }
    let [first, second, third] = [(); 3].map(|()| next_data(&ring));
    assert_eq!((first.len(), second.len(), third.len()), (1500, 800, 2048));
    assert_eq!(second.as_ptr() as usize - first.as_ptr() as usize, 1600);
    assert_eq!(third.as_ptr() as usize - first.as_ptr() as usize, 4096);
    assert_eq!(refill(&ring), (0, 0));
    for (dropped, used) in [(first, 1), (second, 2), (third, 3)] {
        drop(dropped);
        assert_eq!(refill(&ring), (used, 0));
    }
    assert_eq!(fake.free_buffers(0), 30);
    assert_eq!(fake.take_back(0, 1), 1);
    assert_eq!(fake.free_buffers(0), 30, "a part of it is still out");
    assert_eq!(fake.take_back(0, 2), 2);
    assert_eq!((fake.free_buffers(0), fake.wrong_returns(0)), (32, 0));
}

/// Z4, Z8: parts of one buffer that wait for room in the ring.
#[test]
fn parts_wait_for_room_like_whole_buffers() {
    let _alone = alone();
    // A kernel that doesn't take what is returned when it is told to.
    let fake = lacking(|zcrx| zcrx.nr_ctrl_opcodes = 0);
    let ring = with_pool(&fake, &device().refill_entries(2));
    let (_peer, receiver) = connection();
    ring.receive(receiver).unwrap();
    for (offset, len) in [(0, 1500), (4096, 2048), (1600, 800)] {
        complete(&fake, offset, len);
    }
    let parts = [(); 3].map(|()| next_data(&ring));
    drop(parts);
    assert_eq!(refill(&ring), (2, 1));
    assert_eq!(fake.take_back(0, 2), 2);
    complete(&fake, 2 * 4096, 100);
    drop(next_data(&ring));
    assert_eq!(refill(&ring), (2, 0));
    fake.take_back(0, 2);
    assert_eq!((fake.free_buffers(0), fake.wrong_returns(0)), (32, 0));
}

/// Z4: parts of one buffer are dropped by several threads at once: as many returns as completions, all of that buffer.
#[test]
fn parts_of_a_buffer_are_returned_by_any_thread() {
    const THREADS: i32 = 4;
    const PARTS: i32 = 500;
    let _alone = alone();
    let (fake, ring, _, _peer) = scripted(&device().num_buffers(1).refill_entries(4096));
    for _ in 0..THREADS * PARTS {
        complete(&fake, 0, 8);
    }
    let mut parts = Vec::new();
    while parts.len() < (THREADS * PARTS) as usize {
        parts.push(next_data(&ring));
    }
    thread::scope(|scope| {
        for _ in 1..THREADS {
            let share = parts.split_off(parts.len() - PARTS as usize);
            scope.spawn(move || drop(share));
        }
        // The thread in the seat too.
        drop(parts);
    });
    ring.wait(Some(Duration::ZERO)).unwrap();
    assert_eq!(fake.take_back(0, u32::MAX), (THREADS * PARTS) as u32);
    assert_eq!((fake.free_buffers(0), fake.wrong_returns(0)), (1, 0));
}

/// Z5: what becomes of a hint.
#[test]
fn a_buffer_size_is_a_hint() {
    let _alone = alone();
    let fake = Fake::default();
    let old = lacking(|zcrx| zcrx.features = 2);
    for (fake, options, hint, size) in [
        (&fake, device(), 0, PAGE),
        (&fake, device(), 512, PAGE),
        (&fake, device(), 6000, PAGE),
        (&fake, device(), PAGE, PAGE),
        (&fake, device(), 65536, 65536),
        (&fake, owner(), 65536, PAGE),
        (&old, device(), 65536, PAGE),
    ] {
        let ring = with_pool(fake, &options.buffer_size_hint(hint));
        assert_eq!(ring.pool().unwrap().buffer_size, size, "hint {hint}");
    }
    // The kernel is told a size only when it isn't a page.
    let told: Vec<u32> =
        fake.calls().into_iter().filter(|c| c.operation == Operation::Register).map(|c| c.value).collect();
    assert_eq!(told, [0, 0, 0, 0, 65536, 0]);
}

/// Z5: the device can't have buffers of that size: once more with a page, in memory of the right size.
#[test]
fn a_refused_buffer_size_falls_back_to_a_page() {
    let _alone = alone();
    let before = held();
    for errno in [libc::ERANGE, libc::EINVAL, libc::EOPNOTSUPP] {
        let fake = Fake::default();
        fake.fail_next(Operation::Register, errno);
        let ring = open(&fake, &device().buffer_size_hint(1 << 20));
        let (_, maps) = held();
        ring.create_pool().unwrap();
        assert_eq!(held().1, maps + SMALL_POOL, "the larger mapping is gone");
        assert_eq!(ring.pool().unwrap().buffer_size, PAGE);
        assert_eq!(fake.calls().iter().map(|call| call.value).collect::<Vec<_>>(), [0, 1 << 20, 0]);
        assert_eq!(fake.free_buffers(0), 32);
    }
    // Refused for good.
    let fake = Fake::default();
    fake.fail_next(Operation::Register, libc::ERANGE);
    fake.fail_next(Operation::Register, libc::ERANGE);
    let refused = open(&fake, &device().buffer_size_hint(1 << 20)).create_pool().unwrap_err();
    assert!(matches!(refused, CreateError::Interface { .. }), "{refused}");
    assert_eq!(held(), before);
}

/// Z7: completions that can't be are counted, tell why, end their stream, and are never read.
#[test]
fn a_bad_completion_ends_its_stream_and_no_other() {
    let _alone = alone();
    let (fake, ring, stream, _peer) = scripted(&owner());
    let (mut sender, receiver) = connection();
    let other = ring.receive(receiver).unwrap();
    complete(&fake, 8 * u64::from(PAGE), 1);
    match next(&ring) {
        Event::Failed { stream: failed, error: StreamError::BadCompletion(why) } => {
            assert_eq!(failed, stream);
            assert!(matches!(why, BadCompletion::Outside { .. }));
        }
        event => panic!("{event:?}"),
    }
    sender.write_all(b"still here").unwrap();
    match next(&ring) {
        Event::Data { stream, data } => assert_eq!((stream, &data[..]), (other, &b"still here"[..])),
        event => panic!("{event:?}"),
    }
    let statistics = ring.take_statistics();
    assert_eq!(statistics.bad_completions, 1);
    // A completion of what nobody knows, with bytes: they go back.
    let before = ring.pool().unwrap().refill.returned;
    fake.complete(0, Completion { user_data: 77 << 32, result: 10, more: false, offset: 4096 });
    ring.wait(Some(Duration::ZERO)).unwrap();
    assert!(ring.next_event().is_none());
    assert_eq!(ring.pool().unwrap().refill.returned, before + 1);
}

/// Z9: a full ring is flushed by the thread that drops, on its own ring.
#[test]
fn a_full_ring_is_flushed_on_the_ring_of_the_dropping_thread() {
    let _alone = alone();
    let (fake, ring, _, _peer) = scripted(&device().refill_entries(2));
    let importer_fake = fake.clone();
    let exported = ring.export_pool().unwrap();
    for buffer in 0..6 {
        complete(&fake, buffer * u64::from(PAGE), 100);
    }
    let buffers = [(); 6].map(|()| next_data(&ring));
    let importer = thread::spawn(move || {
        let importer = open(&importer_fake, &Options::new().zc_rx_import());
        importer.import_pool(exported).unwrap();
        drop(buffers);
        thread::current().id()
    });
    let importer = importer.join().unwrap();
    let flushes: Vec<_> = fake.calls().into_iter().filter(|call| call.operation == Operation::Flush).collect();
    assert!(!flushes.is_empty());
    for flush in flushes {
        assert_eq!((flush.ring, flush.thread), (1, importer), "not on another thread's ring");
    }
    assert_eq!(fake.wrong_returns(0), 0);
    assert_eq!(refill(&ring).1, 0, "none waits");
}

/// Z9: a thread without a ring has the owner flush.
#[test]
fn a_thread_without_a_ring_has_the_owner_flush() {
    let _alone = alone();
    let (fake, ring, _, _peer) = scripted(&device().refill_entries(2));
    // Shared, so that the other thread writes the refill ring itself.
    drop(ring.export_pool().unwrap());
    for buffer in 0..6 {
        complete(&fake, buffer * u64::from(PAGE), 100);
    }
    let buffers = [(); 6].map(|()| next_data(&ring));
    thread::spawn(move || drop(buffers)).join().unwrap();
    assert_eq!(fake.count(Operation::Flush), 0);
    assert_eq!(refill(&ring), (2, 4));
    // It is woken.
    ring.wait(None).unwrap();
    assert_eq!(refill(&ring).1, 0);
    let us = thread::current().id();
    let flushes = fake.calls().into_iter().filter(|call| call.operation == Operation::Flush);
    assert!(flushes.into_iter().all(|flush| (flush.ring, flush.thread) == (0, us)));
    assert_eq!(ring.take_statistics().flush_failures, 0);
}

/// Z9: a flush that fails is counted, and loses nothing.
#[test]
fn a_failed_flush_is_counted() {
    let _alone = alone();
    let (fake, ring, _, _peer) = scripted(&device().refill_entries(2));
    for buffer in 0..4 {
        complete(&fake, buffer * u64::from(PAGE), 100);
    }
    let buffers = [(); 4].map(|()| next_data(&ring));
    for _ in 0..2 {
        fake.fail_next(Operation::Flush, libc::ENXIO);
    }
    drop(buffers);
    let statistics = ring.take_statistics();
    assert_eq!(statistics.flush_failures, 2);
    assert_eq!(ring.take_statistics().flush_failures, 0, "taken");
    fake.take_back(0, 8);
    ring.wait(Some(Duration::ZERO)).unwrap();
    fake.take_back(0, 8);
    assert_eq!((fake.free_buffers(0), fake.wrong_returns(0)), (32, 0));
}

/// Z10: far more than the pool holds goes through it, although the kernel takes nothing by itself.
#[test]
fn a_hundred_times_the_area_goes_through_a_small_pool() {
    const TOTAL: u64 = 100 * 64 * PAGE as u64;
    let _alone = alone();
    let fake = Fake::default();
    let ring = with_pool(&fake, &owner().num_buffers(64));
    let (sender, receiver) = connection();
    let mut checker = Checker::default();
    checker.expect(ring.receive(receiver).unwrap(), 1);
    let sender = send_pattern(sender, 1, TOTAL);
    receive_until_end(&ring, &mut checker, 1);
    sender.join().unwrap();
    assert_eq!(checker.total(), TOTAL);
    let statistics = ring.take_statistics();
    assert_eq!((statistics.copied_bytes, statistics.flush_failures, statistics.bad_completions), (TOTAL, 0, 0));
    assert!(statistics.flushes > 0);
    assert_eq!(fake.wrong_returns(0), 0);
}

/// Z10, Z17: all buffers are held elsewhere; when they come back, the stream goes on by itself.
#[test]
fn exhaustion_ends_with_a_return_from_another_thread() {
    const TOTAL: u64 = 40 * PAGE as u64;
    let _alone = alone();
    let fake = Fake::default();
    let ring = with_pool(&fake, &owner());
    let (sender, receiver) = connection();
    let mut checker = Checker::default();
    checker.expect(ring.receive(receiver).unwrap(), 1);
    let sender = send_pattern(sender, 1, TOTAL);
    let (hold, held_there) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let holder = thread::spawn(move || {
        let mut held = Vec::new();
        while held.len() < 8 {
            held.push(held_there.recv().unwrap());
        }
        released.recv().unwrap();
        drop(held);
        // From here on each is let go at once.
        held_there.into_iter().for_each(drop);
    });
    let (mut starved, mut received) = (0, 0);
    while received < TOTAL {
        match ring.next_event() {
            Some(Event::Data { stream, data }) => {
                checker.check(stream, &data);
                received += data.len() as u64;
                hold.send(data).unwrap();
            }
            Some(event) => panic!("{event:?}"),
            None => ring.wait(Some(Duration::from_secs(10))).unwrap(),
        }
        starved += ring.take_statistics().starved;
        if starved == 1 {
            release.send(()).unwrap();
            starved += 1;
        }
    }
    drop(hold);
    holder.join().unwrap();
    sender.join().unwrap();
    assert!(starved > 0);
}

/// Z11: bytes outlive their ring and pool; the memory goes with the last of them.
#[test]
fn bytes_outlive_ring_and_pool() {
    let _alone = alone();
    let before = held();
    let fake = Fake::default();
    let ring = with_pool(&fake, &owner());
    let (mut sender, receiver) = connection();
    ring.receive(receiver).unwrap();
    sender.write_all(&[1; 5000]).unwrap();
    let first = next_data(&ring);
    let second = next_data(&ring);
    drop(sender);
    drop(first);
    drop((ring, fake));
    assert_eq!(held().1, before.1 + SMALL_POOL, "the memory is still there");
    assert!(second.iter().all(|byte| *byte == 1));
    thread::spawn(move || drop(second)).join().unwrap();
    assert_eq!(held(), before);
}

/// Z11: rings and bytes go in any order, on any thread, and nothing is left.
#[test]
fn pools_end_cleanly_in_any_order() {
    let _alone = alone();
    let before = held();
    for round in 0..50 {
        let fake = Fake::default();
        let ring = with_pool(&fake, &owner().num_buffers(16));
        let exported = (round % 2 == 0).then(|| ring.export_pool().unwrap());
        let (mut sender, receiver) = connection();
        ring.receive(receiver).unwrap();
        sender.write_all(&vec![7; 12 * PAGE as usize]).unwrap();
        drop(sender);
        let mut buffers: Vec<_> = (0..8).map(|_| next_data(&ring)).collect();
        thread::scope(|scope| {
            for _ in 0..3 {
                let share = buffers.split_off(buffers.len() - 2);
                scope.spawn(move || drop(share));
            }
            scope.spawn(move || drop(exported));
            drop(ring);
        });
        assert!(buffers.iter().all(|buffer| buffer.iter().all(|byte| *byte == 7)));
    }
    assert_eq!(held(), before);
}

/// Z12: an importer goes on when the owner is gone.
#[test]
fn an_importer_outlives_the_owner() {
    const TOTAL: u64 = 100 * PAGE as u64;
    let _alone = alone();
    let before = held();
    let fake = Fake::default();
    let ring = with_pool(&fake, &owner());
    let importer = open(&fake, &Options::new().zc_rx_import());
    importer.import_pool(ring.export_pool().unwrap()).unwrap();
    drop(ring);
    let (sender, receiver) = connection();
    let mut checker = Checker::default();
    checker.expect(importer.receive(receiver).unwrap(), 3);
    let sender = send_pattern(sender, 3, TOTAL);
    receive_until_end(&importer, &mut checker, 1);
    sender.join().unwrap();
    assert_eq!(checker.total(), TOTAL);
    drop((importer, fake));
    assert_eq!(held(), before);
}

/// A ring on a thread of its own, which receives whatever it is given, checks it and lets it go, until it is told to end.
struct Worker {
    handle: RingHandle<FakeQueue>,
    thread: thread::JoinHandle<()>,
    end: Arc<AtomicBool>,
}

impl Worker {
    fn start(fake: &Fake, options: Options) -> Self {
        let (send, receive) = mpsc::channel();
        let (fake, end) = (fake.clone(), Arc::new(AtomicBool::new(false)));
        let ended = end.clone();
        let thread = thread::spawn(move || {
            let ring = open(&fake, &options);
            send.send(ring.handle()).unwrap();
            while !ended.load(Ordering::Relaxed) {
                ring.wait(None).unwrap();
            }
        });
        Self { handle: receive.recv().unwrap(), thread, end }
    }

    fn end(self) {
        let end = self.end;
        self.handle.run_and_wait(move |_| end.store(true, Ordering::Relaxed)).unwrap();
        self.thread.join().unwrap();
    }
}

/// Z13: whatever other threads want of a ring is done by its own thread.
#[test]
fn each_operation_is_done_by_the_rings_own_thread() {
    let _alone = alone();
    let before = held();
    let fake = Fake::default();
    let workers = [(); 3].map(|()| Worker::start(&fake, owner().zc_rx_import()));
    let rings: Vec<_> = workers.iter().map(|worker| worker.handle.clone()).collect();
    let roles = share_pools(&rings, 1).unwrap();
    assert_eq!(roles, [Role::Owner, Role::Importer { of: 0 }, Role::Importer { of: 0 }]);
    // Those that have a pool keep it.
    assert_eq!(share_pools(&rings, 1).unwrap(), roles);
    let calls = fake.calls();
    let mut expected = vec![Operation::Open; 3];
    expected.extend([Operation::Register, Operation::Export, Operation::Import, Operation::Export, Operation::Import]);
    assert_eq!(calls.iter().map(|call| call.operation).collect::<Vec<_>>(), expected);
    for call in &calls {
        assert_eq!(call.thread, workers[call.ring].thread.thread().id(), "{call:?}");
    }
    assert_eq!(calls[3..].iter().map(|call| call.ring).collect::<Vec<_>>(), [0, 0, 1, 0, 2]);
    workers.into_iter().for_each(Worker::end);
    drop((rings, fake));
    assert_eq!(held(), before);
}

/// Z13: on the ring's own thread it is done at once, even from within such a piece of work.
#[test]
fn the_rings_own_thread_doesnt_wait_for_itself() {
    let _alone = alone();
    let ring = open(&Fake::default(), &owner());
    let handle = ring.handle();
    let inner = handle.clone();
    let nested = handle.run_and_wait(move |ring| {
        ring.create_pool().unwrap();
        inner.run_and_wait(|ring| ring.has_pool())
    });
    assert_eq!(nested, Ok(Ok(true)));
    drop(ring);
    assert_eq!(handle.run_and_wait(|_| ()), Err(OwnerGone));
}

/// Z13: the owner is gone, went while it was waited for, or fell over.
#[test]
fn a_gone_owner_is_an_error_and_no_hang() {
    let _alone = alone();
    let fake = Fake::default();
    let worker = Worker::start(&fake, owner());
    let handle = worker.handle.clone();
    worker.end();
    assert_eq!(handle.run_and_wait(|_| ()), Err(OwnerGone));
    let refused = share_pools(&[handle], 1).unwrap_err();
    assert!(matches!(refused, SharingError::Gone { ring: 0, source: OwnerGone }), "{refused}");

    // It goes without a look at what was asked.
    let ring = open(&fake, &owner());
    let handle = ring.handle();
    let (asking, asked) = mpsc::channel();
    let asks = thread::spawn(move || {
        asking.send(()).unwrap();
        handle.run_and_wait(|_| ())
    });
    asked.recv().unwrap();
    drop(ring);
    assert_eq!(asks.join().unwrap(), Err(OwnerGone));

    // What it was asked to do fails: who asked learns it, and so does whoever asks later.
    let worker = Worker::start(&fake, owner());
    let fell: Result<(), OwnerGone> = worker.handle.run_and_wait(|_| panic!("this panic is a part of the test"));
    assert_eq!(fell, Err(OwnerGone));
    assert!(worker.thread.join().is_err());
    assert_eq!(worker.handle.run_and_wait(|_| ()), Err(OwnerGone));
}

/// Z14: four threads with two pools between them, eight connections, every byte right.
#[test]
fn four_threads_share_two_pools() {
    const TOTAL: u64 = 300_000;
    let _alone = alone();
    let before = held();
    let fake = Fake::default();
    let workers = [(); 4].map(|()| Worker::start(&fake, owner().zc_rx_import()));
    let rings: Vec<_> = workers.iter().map(|worker| worker.handle.clone()).collect();
    share_pools(&rings, 2).unwrap();
    assert_eq!(fake.count(Operation::Register), 2);
    let mut senders = Vec::new();
    let mut receivers = Vec::new();
    for (at, ring) in rings.iter().enumerate() {
        let connections = [(); 2].map(|()| connection());
        let mut sockets = Vec::new();
        for (n, (sender, receiver)) in connections.into_iter().enumerate() {
            senders.push(send_pattern(sender, (2 * at + n) as u64, TOTAL));
            sockets.push(receiver);
        }
        let ring = ring.clone();
        receivers.push(thread::spawn(move || {
            ring.run_and_wait(move |ring| {
                let mut checker = Checker::default();
                for (n, socket) in sockets.into_iter().enumerate() {
                    checker.expect(ring.receive(socket).unwrap(), (2 * at + n) as u64);
                }
                receive_until_end(ring, &mut checker, 2);
                checker.total()
            })
        }));
    }
    for receiver in receivers {
        assert_eq!(receiver.join().unwrap(), Ok(2 * TOTAL));
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    assert_eq!((fake.wrong_returns(0), fake.wrong_returns(1)), (0, 0));
    workers.into_iter().for_each(Worker::end);
    drop((rings, fake));
    assert_eq!(held(), before);
}

/// Z16: an event is counted and asked for again, and isn't taken for received bytes.
#[test]
fn events_are_counted_and_asked_for_again() {
    let _alone = alone();
    let fake = Fake::default();
    let ring = with_pool(&fake, &owner().events(Some(EventTypes { exhausted: true, copied: true })));
    let (mut sender, receiver) = connection();
    ring.receive(receiver).unwrap();
    for (round, len) in [3000, 1000].into_iter().enumerate() {
        sender.write_all(&vec![1; len]).unwrap();
        assert_eq!(next_data(&ring).len(), len);
        assert!(ring.next_event().is_none());
        let statistics = ring.take_statistics();
        assert_eq!((statistics.copies, statistics.copied_bytes), (1, len as u64));
        assert_eq!((statistics.copy_events, statistics.exhausted_events), (1, 0), "round {round}");
    }
    let armed: Vec<u32> =
        fake.calls().into_iter().filter(|c| c.operation == Operation::ArmEvent).map(|call| call.value).collect();
    assert_eq!(armed, [1, 1]);
    // User data of events; a type that wasn't fired can't be asked for.
    let event = |result| Completion { user_data: u64::MAX, result, more: false, offset: 0 };
    for result in [0, 0, 0] {
        fake.complete(0, event(result));
    }
    ring.wait(Some(Duration::ZERO)).unwrap();
    assert!(ring.next_event().is_none());
    let statistics = ring.take_statistics();
    assert_eq!((statistics.exhausted_events, statistics.rearm_failures), (3, 3));
    assert_eq!(ring.take_statistics(), opx_zcrx::Statistics::default());
}

/// Z16: what the kernel counts is told as it grows.
#[test]
fn statistics_are_told_since_the_last_time() {
    let _alone = alone();
    let fake = Fake::default();
    let ring = with_pool(&fake, &owner());
    let copies = || {
        let statistics = ring.take_statistics();
        (statistics.copies, statistics.copied_bytes)
    };
    assert_eq!(copies(), (0, 0));
    fake.add_copies(0, 5, 65536);
    assert_eq!(copies(), (5, 65536));
    assert_eq!(copies(), (0, 0));
    fake.add_copies(0, 20, 131_072);
    assert_eq!(copies(), (20, 131_072));
    // A kernel that has none, or wasn't asked for them.
    let old = lacking(|zcrx| zcrx.features = 1);
    for ring in [with_pool(&old, &owner()), with_pool(&fake, &owner().events(None))] {
        old.add_copies(0, 5, 5);
        assert_eq!(ring.take_statistics(), opx_zcrx::Statistics::default());
    }
}

/// Z17: the kernel stops whenever its few completions are used up, and is begun again; nothing is lost or out of order.
#[test]
fn a_stream_goes_on_after_its_completions_overflowed() {
    const TOTAL: u64 = 1 << 20;
    let _alone = alone();
    let fake = Fake::default();
    let ring = with_pool(&fake, &owner().num_buffers(64).entries(4, 8));
    let (sender, receiver) = connection();
    let mut checker = Checker::default();
    checker.expect(ring.receive(receiver).unwrap(), 5);
    let sender = send_pattern(sender, 5, TOTAL);
    receive_until_end(&ring, &mut checker, 1);
    sender.join().unwrap();
    assert_eq!(checker.total(), TOTAL);
    assert!(ring.take_statistics().rearmed > 0);
}

/// Z17: each way in which the kernel stops.
#[test]
fn the_kernel_is_begun_again_or_the_stream_ends() {
    let _alone = alone();
    for (result, begun, ends) in [
        (-libc::ENOSPC, true, None),
        (-libc::EINTR, true, None),
        (100, true, None),
        (0, false, Some(None)),
        (-libc::ECANCELED, false, Some(None)),
        (-libc::ECONNRESET, false, Some(Some(libc::ECONNRESET))),
    ] {
        let (fake, ring, stream, _peer) = scripted(&owner());
        fake.complete(0, Completion { user_data: 0, result, more: false, offset: 0 });
        if result > 0 {
            assert_eq!(next_data(&ring).len(), 100);
        }
        if let Some(expected) = ends {
            match (next(&ring), expected) {
                (Event::End { stream: ended }, None) => assert_eq!(ended, stream),
                (Event::Failed { stream: ended, error: StreamError::Kernel(error) }, Some(errno)) => {
                    assert_eq!((ended, error.raw_os_error()), (stream, Some(errno)));
                }
                (event, _) => panic!("{result}: {event:?}"),
            }
        } else {
            ring.wait(Some(Duration::ZERO)).unwrap();
            assert!(ring.next_event().is_none());
        }
        assert_eq!(fake.count(Operation::Receive), 1 + usize::from(begun), "{result}");
    }
}

/// Z17: a stream that is stopped ends once, after what had come; its place can be had again.
#[test]
fn a_stream_can_be_stopped() {
    let _alone = alone();
    let (_, ring, stream, mut peer) = scripted(&owner());
    peer.write_all(b"some").unwrap();
    ring.wait(None).unwrap();
    ring.stop(stream);
    ring.stop(stream);
    assert_eq!(&next_data(&ring)[..], b"some");
    assert!(matches!(next(&ring), Event::End { stream: ended } if ended == stream));
    ring.stop(stream);
    let (mut sender, receiver) = connection();
    let other = ring.receive(receiver).unwrap();
    assert_ne!(other, stream);
    sender.write_all(b"more").unwrap();
    assert!(matches!(next(&ring), Event::Data { stream, .. } if stream == other));
}

/// Z18: the best means that there is, and the reason why not a better one.
#[test]
fn ingress_takes_the_best_means_and_says_why() {
    let _alone = alone();
    let before = held();
    let none = Fake::new(Answers { zcrx: Err(libc::EOPNOTSUPP), ..Answers::default() });
    let no_device = lacking(|zcrx| zcrx.register_flags = 1);
    let failing = |errnos: &[i32]| {
        let fake = Fake::default();
        errnos.iter().for_each(|errno| fake.fail_next(Operation::Register, *errno));
        fake
    };
    for (fake, options, means, reasons) in [
        (Fake::default(), device(), Means::Device, vec![]),
        (Fake::default(), Options::new(), Means::NoDevice, vec!["no hardware queue is named"]),
        (failing(&[libc::EOPNOTSUPP]), device(), Means::NoDevice, vec!["interface eth0, queue 1: "]),
        (no_device, device(), Means::Device, vec![]),
        (failing(&[libc::EPERM, libc::EPERM]), device(), Means::Plain, vec!["CAP_NET_ADMIN", "CAP_NET_ADMIN"]),
        (none, device(), Means::Plain, vec!["this kernel has no", "this kernel has no"]),
        (failing(&[libc::EPERM]), Options::new(), Means::Plain, vec!["no hardware queue is named", "CAP_NET_ADMIN"]),
    ] {
        let ingress = Ingress::auto_on(&fake, &options);
        assert_eq!(ingress.means(), means, "{options:?}");
        let told: Vec<String> = ingress.refusals().iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), reasons.len(), "{told:?}");
        for (told, reason) in told.iter().zip(reasons) {
            assert!(told.contains(reason), "{told}");
        }
        assert_eq!(ingress.ring().is_some(), means != Means::Plain);
    }
    // No ring at all.
    let fake = Fake::default();
    for _ in 0..2 {
        fake.fail_next(Operation::Open, libc::ENOSYS);
    }
    let ingress = Ingress::auto_on(&fake, &device());
    assert_eq!(ingress.means(), Means::Plain);
    assert!(ingress.refusals().iter().all(|refusal| matches!(refusal.why, WhyNot::Open(_))));
    drop((fake, ingress));
    assert_eq!(held(), before);
}

/// Z18: by each means the same comes.
#[test]
fn the_same_comes_by_each_means() {
    const TOTAL: u64 = 500_000;
    let _alone = alone();
    let before = held();
    let refusing = Fake::default();
    refusing.fail_next(Operation::Register, libc::EPERM);
    for (fake, means) in [(Fake::default(), Means::NoDevice), (refusing, Means::Plain)] {
        let ingress = Ingress::auto_on(&fake, &Options::new().num_buffers(16));
        assert_eq!(ingress.means(), means);
        let mut checker = Checker::default();
        let mut senders = Vec::new();
        for seed in 0..3 {
            let (sender, receiver) = connection();
            checker.expect(ingress.receive(receiver).unwrap(), seed);
            senders.push(send_pattern(sender, seed, TOTAL));
        }
        let (_peer, receiver) = connection();
        let stopped = ingress.receive(receiver).unwrap();
        ingress.stop(stopped);
        while checker.ended < 4 {
            match ingress.next() {
                Some(Incoming::Data { stream, data }) => checker.check(stream, &data),
                Some(Incoming::End { .. }) => checker.ended += 1,
                Some(other) => panic!("{other:?}"),
                None => ingress.wait(Some(Duration::from_secs(20))).unwrap(),
            }
        }
        assert_eq!(checker.total(), 3 * TOTAL);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }
    assert_eq!(held(), before);
}
