//! Endpoints that end, fail or come again at the same address, and what their peers hear of it.

use super::*;

/// Closing ends what is under way at both ends, and buffers come back.
#[test]
fn an_endpoint_that_is_closed_ends_what_is_under_way() {
    let mut bench = local_bench();
    let (a, b) = (bench.a.address(), bench.b.address());
    bench.a.inject(b, b"hello").unwrap();
    bench.run(|bench| bench.b.peek(None).is_some());
    bench.b.inject(a, b"hello").unwrap();
    bench.run(|bench| bench.a.peek(None).is_some());
    for n in 0..3 {
        bench.a.tag_send(b, n, data(n, 200_000), n).unwrap();
    }
    bench.run(|bench| bench.b.counters().unexpected_messages == 4);
    bench.b.tag_receive(Pattern::exact(0), vec![0; 200_000], 10).unwrap();
    bench.b.tag_receive(Pattern::exact(9), vec![0; 200_000], 11).unwrap();
    // What is asked of the peer that is left for the sake of these ends by the same.
    let remote = Remote { peer: b, key: 1, place: 0 };
    bench.a.read(remote, data(3, 200_000), 3).unwrap();
    bench.a.write_with(Write { level: Level::Delivery, ..Write::new(remote, data(4, 200_000), 4) }).unwrap();
    bench.a.cancel_all();
    let mut ended = vec![];
    while let Some(completion) = bench.a.poll_completion() {
        let Completion::Failed { context, error: OperationError::Closed, buffer } = completion else {
            panic!("{completion:?}")
        };
        assert!(buffer == data(context, 200_000));
        ended.push(context);
    }
    ended.sort_unstable();
    assert_eq!(ended, [0, 1, 2, 3, 4]);
    // The receive that had found its message fails, the other one waits on.
    let Completion::Failed { context: 10, error, buffer } = bench.next_at_b() else { panic!() };
    assert_eq!((error, buffer.len()), (OperationError::Unreachable(a), 200_000));
    bench.b.tag_receive(Pattern::exact(1), vec![0; 200_000], 12).unwrap();
    assert!(matches!(bench.next_at_b(), Completion::Failed { context: 12, .. }), "what was offered is gone");
    // And they meet again.
    bench.run(|bench| bench.a.tag_inject(b, 9, b"again").is_ok());
    let Completion::Received { context: 11, len: 5, .. } = bench.next_at_b() else { panic!() };
    no_packets(&bench);
}

/// What one peer offers just then isn't begun while the transfers with another are ended: it waits for the next receive.
#[test]
fn what_comes_while_transfers_are_ended_begins_nothing() {
    const LONG: usize = 100_000;
    let config = config();
    let Bench { hfi, adapter: _adapter, mut a, mut b } = bench(config.clone());
    let mut c = Endpoint::open(&hfi, config).unwrap();
    let to = b.address();
    c.tag_inject(to, 9, b"hello").unwrap();
    for tag in 1..=3 {
        b.tag_receive(Pattern::exact(tag), vec![0xee; LONG], tag).unwrap();
    }
    a.tag_send(to, 1, data(1, LONG), 1).unwrap();
    let limit = hfi.bus().now() + Duration::from_secs(1);
    while b.counters().offers == 0 || b.tag_peek(Pattern::exact(9)).is_none() {
        assert!(hfi.bus().now() < limit);
        b.progress().unwrap();
        hfi.bus().relax();
    }
    // These lie in the ring.
    c.tag_send(to, 2, data(2, LONG), 2).unwrap();
    c.tag_send(to, 3, data(3, 100), 3).unwrap();
    b.cancel_all();
    let mut ended = vec![];
    while let Some(completion) = b.poll_completion() {
        let Completion::Failed { context, error: OperationError::Closed, buffer } = completion else {
            panic!("{completion:?}")
        };
        assert_eq!(buffer, vec![0xee; LONG], "{context}: the owner's, and nobody else's");
        ended.push(context);
    }
    ended.sort_unstable();
    assert_eq!(ended, [1, 2, 3]);
    for (tag, len) in [(2, LONG), (3, 100)] {
        b.tag_receive(Pattern::exact(tag), vec![0; LONG], tag).unwrap();
        let completion = loop {
            assert!(hfi.bus().now() < limit, "message {tag}");
            b.progress().unwrap();
            c.progress().unwrap();
            if let Some(completion) = b.poll_completion() {
                break completion;
            }
            hfi.bus().relax();
        };
        let Completion::Received { context, len: got, buffer, .. } = completion else { panic!("{completion:?}") };
        assert!((context, got) == (tag, len) && buffer.into_vec()[..len] == data(tag, len));
    }
}

/// Packets to a peer go the same way as to the wire: what has to be left isn't overtaken by what changes memory.
#[test]
fn what_is_left_is_overtaken_by_nothing_that_changes_memory() {
    let mut bench = bench(Config { answers: 1, unexpected_bytes: 1000, ..config() });
    let peer = bench.b.address();
    let memory = SharedMem::new(1 << 20).unwrap();
    let region = bench.b.regions().register(Registration::of(memory.clone(), Access::ATOMIC)).unwrap();
    let at = |place| Remote { peer, key: region.key(), place };
    // They know each other, so that nothing is left for another reason.
    bench.a.tag_inject(peer, 9, b"hello").unwrap();
    bench.run(|bench| bench.b.tag_discard(Pattern::exact(9)).unwrap().is_some());
    // The second read has to wait until the first, of many packets, is answered.
    bench.a.read(at(64), vec![0; 500_000], 1).unwrap();
    bench.a.read(at(0), vec![0xee; 8], 2).unwrap();
    bench.a.inject_write(at(0), b"overtook").unwrap();
    let mut ended = vec![];
    while ended.len() < 2 {
        let Completion::Read { context, buffer } = bench.next_at_a() else { panic!() };
        assert!(buffer.into_vec().iter().all(|byte| *byte == 0), "read {context}");
        ended.push(context);
    }
    let mut there = [0; 8];
    bench.run(|_| {
        memory.read(0, &mut there);
        there != [0; 8]
    });
    assert_eq!(&there, b"overtook");
    // Nor is a message that finds no room.
    for tag in 1..=2 {
        bench.a.tag_send(peer, tag, vec![1; 900], tag).unwrap();
    }
    bench.a.inject_write(at(0), b"too soon").unwrap();
    bench.run(|bench| bench.b.tag_peek(Pattern::exact(1)).is_some());
    for _ in 0..100 {
        bench.b.progress().unwrap();
    }
    memory.read(0, &mut there);
    assert_eq!(&there, b"overtook");
    assert!(bench.b.tag_peek(Pattern::exact(2)).is_none(), "there is no room for it");
    bench.b.tag_discard(Pattern::exact(1)).unwrap();
    bench.run(|bench| {
        memory.read(0, &mut there);
        &there == b"too soon" && bench.b.tag_peek(Pattern::exact(2)).is_some()
    });
}

/// An endpoint that can't go on takes leave of its peers on the machine, although its owner keeps it.
#[test]
fn an_endpoint_that_fails_leaves_its_peers() {
    let lab = Lab::new(Pacing::Virtual);
    let chip = || Chip { icode: Icode::FunctionalSimulator, ..Chip::default() };
    let adapters = [(); 2].map(|()| lab.add(chip()));
    let hfi = Hfi::open(adapters[0].bus(), Options::default()).unwrap();
    let bus: Faulty<EmuBus> = Faulty::new(adapters[1].bus(), Vec::new());
    let other = Hfi::open(bus.clone(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    other.link_up(LinkMode::Loopback).unwrap();
    let config = config();
    let mut a = Endpoint::open(&hfi, config.clone()).unwrap();
    // It takes the context that `a` has on its adapter.
    let _first = Endpoint::open(&other, Config::default()).unwrap();
    let domain = Domain::open(&other).unwrap();
    let mut set = domain.poll_set();
    let id = set.open(Config { health_interval: Duration::from_millis(1), ..config }).unwrap();
    let b = set.endpoint(id).unwrap().address();
    assert_ne!(a.address(), b);
    a.tag_send(b, 1, data(1, 100_000), 1).unwrap();
    let limit = hfi.bus().now() + Duration::from_secs(10);
    while set.endpoint(id).unwrap().tag_peek(Pattern::exact(1)).is_none() {
        assert!(hfi.bus().now() < limit);
        a.progress().unwrap();
        set.progress().unwrap();
        hfi.bus().relax();
    }
    bus.add(Fault::GoneAfterReads { after: bus.reads() });
    while set.progress().is_ok() {
        assert!(hfi.bus().now() < limit);
        hfi.bus().relax();
    }
    let failed = loop {
        assert!(hfi.bus().now() < limit, "nobody tells it");
        a.progress().unwrap();
        if let Some(completion) = a.poll_completion() {
            break completion;
        }
        hfi.bus().relax();
    };
    let Completion::Failed { context: 1, error, buffer } = failed else { panic!("{failed:?}") };
    assert!(error == OperationError::Unreachable(b) && buffer == data(1, 100_000));
    assert_eq!(a.tag_inject(b, 1, b"hello"), Err(SendError::Unreachable(b)));
    // It isn't looked for elsewhere, and that is what is told.
    let explained = a.explain(Message::tagged(b, 8));
    assert_eq!(explained.path, None);
    assert!(Path::ALL.iter().all(|path| explained.why_not(*path) == Some(Reason::Ended)), "{explained}");
    assert!(set.endpoint(id).is_err(), "it is kept all the while");
}

/// What an endpoint has sent comes although it has ended and there was no room; who waits for it is told at once.
#[test]
fn an_endpoint_that_ends_leaves_what_it_has_sent() {
    const MESSAGES: u64 = 100;
    let Bench { hfi, adapter: _adapter, mut a, mut b } = bench(Config { unexpected_bytes: 5000, ..config() });
    let to = b.address();
    for n in 0..MESSAGES {
        a.tag_send(to, n, data(n, 200), n).unwrap();
    }
    // Not all can be kept; and b waits for a.
    while b.tag_peek(Pattern::exact(0)).is_none() {
        b.progress().unwrap();
    }
    b.tag_send(a.address(), 1, vec![1; 100_000], 1).unwrap();
    let remote = Remote { peer: a.address(), key: 5, place: 0 };
    b.write_with(Write { level: Level::Delivery, ..Write::new(remote, vec![1; 8], 2) }).unwrap();
    let peer = a.address();
    drop(a);
    let limit = hfi.bus().now() + Duration::from_secs(1);
    let mut failed = vec![];
    while failed.len() < 2 {
        assert!(hfi.bus().now() < limit, "{failed:?}");
        b.progress().unwrap();
        while let Some(completion) = b.poll_completion() {
            let Completion::Failed { context, error, .. } = completion else { panic!("{completion:?}") };
            assert_eq!(error, OperationError::Unreachable(peer));
            failed.push(context);
        }
        hfi.bus().relax();
    }
    assert!(b.counters().unexpected_messages < MESSAGES);
    for n in 0..MESSAGES {
        b.tag_receive(Pattern::exact(n), vec![0; 200], n).unwrap();
        let completion = loop {
            assert!(hfi.bus().now() < limit, "message {n}");
            b.progress().unwrap();
            if let Some(completion) = b.poll_completion() {
                break completion;
            }
            hfi.bus().relax();
        };
        let Completion::Received { context, source, buffer, .. } = completion else { panic!("{completion:?}") };
        assert!(context == n && source == peer && buffer == data(n, 200));
    }
}

/// An endpoint is closed and another one opened at its address, before its peer has heard of either: both are, and nobody is told of
/// a peer that went without a word.
#[test]
fn who_comes_at_the_address_of_an_earlier_one_is_reached() {
    const ROUNDS: u64 = 6;
    let lab = Lab::new(Pacing::Virtual);
    let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    let (domain, config) = (Domain::open(&hfi).unwrap(), config());
    let mut set = domain.poll_set();
    let a = set.open(config.clone()).unwrap();
    let to = set.endpoint(a).unwrap().address();
    let limit = hfi.bus().now() + Duration::from_secs(60);
    let next = |set: &mut opx_stack::PollSet<EmuBus>, b: &mut Endpoint<EmuBus>| loop {
        assert!(hfi.bus().now() < limit, "{:?}", b.counters());
        b.progress().unwrap();
        if let Some(done) = set.poll().unwrap() {
            break done.completion;
        }
        hfi.bus().relax();
    };
    let mut address = None;
    for round in 0..ROUNDS {
        for (n, len) in [(2 * round, 8), (2 * round + 1, 100)] {
            set.endpoint(a).unwrap().receive(None, vec![0; len], n).unwrap();
        }
        // In even rounds the first one is met before it goes.
        let mut first = Endpoint::open(&hfi, config.clone()).unwrap();
        let met = round % 2 == 0;
        first.send(to, data(2 * round, 8), 0).unwrap();
        if met {
            assert!(matches!(next(&mut set, &mut first), Completion::Received { context, .. } if context == 2 * round));
        }
        let from = first.address();
        assert_eq!(*address.get_or_insert(from), from);
        drop(first);
        let mut second = Endpoint::open(&hfi, config.clone()).unwrap();
        assert_eq!(second.address(), from);
        second.send(to, data(2 * round + 1, 100), 0).unwrap();
        for n in 2 * round + u64::from(met)..2 * round + 2 {
            let Completion::Received { context, buffer, source, .. } = next(&mut set, &mut second) else { panic!() };
            assert_eq!((context, source), (n, from));
            assert_eq!(buffer, data(n, buffer.len()));
        }
        // It is answered.
        second.receive(None, vec![0; 50_000], 1).unwrap();
        set.endpoint(a).unwrap().send(from, data(round, 50_000), 2).unwrap();
        assert!(matches!(next(&mut set, &mut second), Completion::Sent { context: 2, .. }));
        while !matches!(second.poll_completion(), Some(Completion::Received { context: 1, .. })) {
            assert!(hfi.bus().now() < limit, "{:?}", second.counters());
            set.progress().unwrap();
            second.progress().unwrap();
            hfi.bus().relax();
        }
    }
    assert!(domain.events().read().is_none());
}
