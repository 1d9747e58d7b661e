//! Buffers on their way back to the kernel: in parts, from other threads, when there is no room for them.

use super::*;

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
    carry(&ring, TOTAL);
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
