//! Streams: completions that make no sense, events, statistics, beginning again and stopping.

use super::*;

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
