//! Sleeping until something comes through memory, or there is room for it.

use super::*;

/// A waiting read sleeps, and wakes when a message comes through memory, to an endpoint that has nothing outstanding.
#[test]
fn a_message_through_memory_wakes_who_waits() {
    let lab = Lab::new(Pacing::Real);
    let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    let hourly = Config { health_interval: Duration::from_secs(3600), ..config() };
    // One is driven by a thread of its domain's, the other by its owner, each in a domain of its own.
    let auto = Domain::open(&hfi).unwrap();
    let queue = auto.completion_queue(64);
    let a = auto.endpoint(hourly.clone(), &queue).unwrap();
    let manual = Domain::open(&hfi).unwrap();
    let (to_b, to_a) = {
        let (ready, address) = std::sync::mpsc::channel();
        let manual = manual.clone();
        let a_address = a.address();
        let echo = std::thread::spawn(move || {
            let mut set = manual.poll_set();
            let b = set.open(hourly).unwrap();
            ready.send(set.endpoint(b).unwrap().address()).unwrap();
            let mut slept = 0;
            for n in 0..30 {
                set.endpoint(b).unwrap().tag_receive(Pattern::exact(n), vec![0; 100_000], n).unwrap();
                let done = loop {
                    let done = set.wait(LONG).unwrap();
                    if let Completion::Received { len, buffer, .. } = done.completion {
                        break buffer.into_vec()[..len].to_vec();
                    }
                };
                slept = set.sleep_counts().sleeps;
                set.endpoint(b).unwrap().tag_send(a_address, n, done, n).unwrap();
            }
            // Until the last one, which may be long, has been fetched.
            while !set.endpoint(b).unwrap().is_quiet() {
                match set.wait(Some(Duration::from_millis(10))) {
                    Ok(_) | Err(WaitError::TimedOut) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            slept
        });
        (address.recv().unwrap(), echo)
    };
    let len = |n: u64| [8, 3000, 90_000][n as usize % 3];
    for n in 0..30 {
        // Both sleep now and then, and nothing but the message wakes them for an hour.
        while n % 5 == 0 && !auto.sleep_counts().is_asleep() {
            std::thread::yield_now();
        }
        a.lock().unwrap().tag_receive(Pattern::exact(n), vec![0; 100_000], 100 + n).unwrap();
        a.lock().unwrap().tag_send(to_b, n, data(n, len(n)), n).unwrap();
        let mut ended = 0;
        while ended < 2 {
            match queue.wait(LONG).unwrap().completion {
                Completion::Received { context, len: got, buffer, .. } => {
                    assert!(context == 100 + n && buffer.into_vec()[..got] == data(n, len(n)));
                }
                Completion::Sent { context, .. } => assert_eq!(context, n),
                other => panic!("{other:?}"),
            }
            ended += 1;
        }
    }
    assert!(to_a.join().unwrap() > 0, "it slept");
    assert_eq!(a.lock().unwrap().counters().packets_in, 0);
}

/// What was left for lack of room is looked at before one sleeps, whatever has made room for it since.
#[test]
fn room_that_is_made_before_one_sleeps_is_used() {
    type Act = fn(&mut Endpoint<EmuBus>);
    let ways: [(&str, Act); 4] = [
        ("a receive for it", |b| assert!(b.tag_receive(Pattern::exact(2), vec![0; 900], 1).is_ok())),
        ("a discarded message", |b| assert!(b.tag_discard(Pattern::exact(1)).unwrap().is_some())),
        ("a claimed one", |b| {
            let claimed = b.tag_claim(Pattern::exact(1)).unwrap();
            b.receive_claimed(claimed, vec![0; 900], 1).unwrap();
        }),
        ("a multi-receive", |b| {
            assert!(b.multi_receive(None, SharedMem::new(1 << 16).unwrap(), 1).is_ok());
        }),
    ];
    for (what, make_room) in ways {
        let Bench { hfi, adapter: _adapter, mut a, mut b } = bench(Config { unexpected_bytes: 2100, ..config() });
        let to = b.address();
        // Two are kept, and two find no room.
        a.tag_send(to, 1, data(1, 900), 1).unwrap();
        a.send(to, data(0, 900), 0).unwrap();
        a.tag_send(to, 2, data(2, 900), 2).unwrap();
        a.send(to, data(3, 900), 3).unwrap();
        let limit = hfi.bus().now() + Duration::from_secs(1);
        while b.counters().unexpected_messages < 2 || b.arm().unwrap() {
            assert!(hfi.bus().now() < limit, "{what}: it never rests");
            b.progress().unwrap();
            hfi.bus().relax();
        }
        assert!(!b.arm().unwrap(), "{what}: what is left keeps nobody awake");
        let taken = b.counters().received_locally;
        make_room(&mut b);
        assert!(b.arm().unwrap(), "{what}");
        b.progress().unwrap();
        assert!(b.counters().received_locally > taken, "{what}");
    }
}
