//! Rings of several threads: each is driven by its own, whoever asks for what.

use super::*;

fn worker(fake: &Fake, options: Options) -> Worker<FakeQueue> {
    let fake = fake.clone();
    Worker::start(move || open(&fake, &options))
}

/// Z13: whatever other threads want of a ring is done by its own thread.
#[test]
fn each_operation_is_done_by_the_rings_own_thread() {
    let _alone = alone();
    let before = held();
    let fake = Fake::default();
    let workers = [(); 3].map(|()| worker(&fake, owner().zc_rx_import()));
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
    let first = worker(&fake, owner());
    let handle = first.handle.clone();
    first.end();
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
    let second = worker(&fake, owner());
    let fell: Result<(), OwnerGone> = second.handle.run_and_wait(|_| panic!("this panic is a part of the test"));
    assert_eq!(fell, Err(OwnerGone));
    assert!(second.thread.join().is_err());
    assert_eq!(second.handle.run_and_wait(|_| ()), Err(OwnerGone));
}

/// Z14: four threads with two pools between them, eight connections, every byte right.
#[test]
fn four_threads_share_two_pools() {
    const TOTAL: u64 = 300_000;
    let _alone = alone();
    let before = held();
    let fake = Fake::default();
    let workers = [(); 4].map(|()| worker(&fake, owner().zc_rx_import()));
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
