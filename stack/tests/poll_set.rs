//! Endpoints that their owner drives, in simulated time: completions of several in one place, waiting for them asleep, counters,
//! events, and an adapter that goes away. The scenarios have the names of libfabric's fabtests where there is one.

mod common;

use common::data;
use opx_bus::PciFunction;
use opx_emu::{Adapter, Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::fabric::AccessError;
use opx_stack::{
    Address, Completion, Config, Counter, Counting, Domain, EndpointError, Event, OperationError, Pattern, PollSet,
    SendError, WaitError,
};
use std::time::Duration;

const LONG: Option<Duration> = Some(Duration::from_secs(60));

struct Bench {
    lab: Lab,
    adapter: Adapter,
    domain: Domain<EmuBus>,
    set: PollSet<EmuBus>,
}

fn bench() -> Bench {
    let lab = Lab::new(Pacing::Virtual);
    let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    let domain = Domain::open(&hfi).unwrap();
    let set = domain.poll_set();
    Bench { lab, adapter, domain, set }
}

/// Ten messages each way between each pair of four endpoints complete in one place, with the endpoint that they belong to.
#[test]
fn poll() {
    let Bench { mut set, .. } = bench();
    let ids: Vec<_> = (0..4).map(|_| set.open(Config::default()).unwrap()).collect();
    let addresses: Vec<_> = ids.iter().map(|id| set.endpoint(*id).unwrap().address()).collect();
    for (from, id) in ids.iter().enumerate() {
        for n in 0..30 {
            let to = (from + 1 + n % 3) % 4;
            set.endpoint(*id).unwrap().tag_receive(Pattern::exact(n as u64 / 3), vec![0; 3000], 0).unwrap();
            set.endpoint(*id).unwrap().tag_send(addresses[to], n as u64 / 3, data(to as u64, 3000), 0).unwrap();
        }
    }
    let mut ends = [(0, 0); 4];
    for _ in 0..240 {
        let done = set.wait(LONG).unwrap();
        let at = ids.iter().position(|id| *id == done.endpoint).unwrap();
        match done.completion {
            Completion::Received { buffer, .. } => {
                assert_eq!(buffer, data(at as u64, 3000));
                ends[at].0 += 1;
            }
            Completion::Sent { .. } => ends[at].1 += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ends, [(30, 30); 4]);
    assert!(set.poll().unwrap().is_none());
}

/// `cq_test`: a waiting read sleeps, and ends in time with a message or without.
#[test]
fn a_waiting_read_sleeps_until_a_message_or_its_time() {
    let Bench { mut set, domain, .. } = bench();
    let (a, b) = (set.open(Config::default()).unwrap(), set.open(Config::default()).unwrap());
    let bus = domain.hfi().bus().clone();
    // What bringing the link up has left behind is over.
    assert!(matches!(set.wait(Some(Duration::from_secs(1))), Err(WaitError::TimedOut)));
    let (start, before) = (bus.now(), set.sleep_counts());
    assert!(matches!(set.wait(Some(Duration::from_secs(10))), Err(WaitError::TimedOut)));
    let took = bus.now().since(start);
    assert!(took >= Duration::from_secs(10) && took < Duration::from_millis(10_001), "{took:?}");
    // The adapter is looked at each 250 ms, for both endpoints at a time: nothing else wakes whoever has nothing to do.
    let idle = set.sleep_counts();
    assert!(idle.sleeps - before.sleeps <= 41 && idle.woken == before.woken, "{idle:?}");

    let to = set.endpoint(b).unwrap().address();
    set.endpoint(b).unwrap().receive(None, vec![0; 8], 1).unwrap();
    set.endpoint(a).unwrap().send(to, vec![7; 8], 2).unwrap();
    let start = bus.now();
    assert!(matches!(set.wait(LONG).unwrap().completion, Completion::Received { context: 1, .. }));
    assert!(bus.now().since(start) < Duration::from_millis(1), "the packet woke it, not the next look at the adapter");
    assert!(matches!(set.wait(LONG).unwrap().completion, Completion::Sent { context: 2, .. }));
    assert!(set.sleep_counts().woken > idle.woken);
}

#[test]
fn long_messages_are_moved_by_a_waiting_read_alone() {
    let Bench { mut set, .. } = bench();
    let (a, b) = (set.open(Config::default()).unwrap(), set.open(Config::default()).unwrap());
    let to = set.endpoint(b).unwrap().address();
    for n in 0..3 {
        set.endpoint(b).unwrap().tag_receive(Pattern::exact(n), vec![0; 1 << 20], n).unwrap();
        set.endpoint(a).unwrap().tag_send(to, n, data(n, 1 << 20), n).unwrap();
    }
    for _ in 0..6 {
        if let Completion::Received { context, buffer, .. } = set.wait(LONG).unwrap().completion {
            assert_eq!(buffer, data(context, 1 << 20));
        }
    }
}

/// Nobody reads: operations are refused before what waits outgrows its limit, and nothing is lost.
#[test]
fn a_full_queue_refuses_operations_and_loses_nothing() {
    let Bench { mut set, .. } = bench();
    let (a, b) =
        (set.open(Config { completions: 10, ..Config::default() }).unwrap(), set.open(Config::default()).unwrap());
    let to = set.endpoint(b).unwrap().address();
    let mut posted = 0;
    for _ in 0..1000 {
        match set.endpoint(a).unwrap().send(to, vec![1; 8], posted) {
            Ok(()) => posted += 1,
            Err(refused) => assert_eq!((refused.error, refused.buffer.len()), (SendError::Again(to), 8)),
        }
        set.progress().unwrap();
        set.domain().hfi().bus().pause(Duration::from_micros(10));
    }
    assert!(set.endpoint(a).unwrap().receive(None, vec![0; 8], 0).is_err());
    assert!((10..100).contains(&posted), "{posted}");
    set.endpoint(a).unwrap().inject(to, &[1]).unwrap();
    let sent: Vec<_> = std::iter::from_fn(|| set.read()).collect();
    assert_eq!(sent.len() as u64, posted);
    for (n, done) in sent.into_iter().enumerate() {
        assert!(matches!(done.completion, Completion::Sent { context, .. } if context == n as u64));
    }
    set.endpoint(a).unwrap().send(to, vec![1; 8], posted).unwrap();
}

/// `rdm_cntr_pingpong`, driven by one owner.
#[test]
fn rdm_cntr_pingpong() {
    let Bench { mut set, .. } = bench();
    let (a, b) = (set.open(Config::default()).unwrap(), set.open(Config::default()).unwrap());
    let [to_a, to_b] = [a, b].map(|id| set.endpoint(id).unwrap().address());
    let (sent, received) = (Counter::new(), Counter::new());
    set.count(a, Counting::sends(&sent)).unwrap();
    set.count(b, Counting::receives(&received)).unwrap();
    let came_back = Counter::new();
    set.count(a, Counting::sends(&sent).and_receives(&came_back)).unwrap();
    for n in 1..=50 {
        set.endpoint(b).unwrap().receive(None, vec![0; 8], 0).unwrap();
        set.endpoint(a).unwrap().receive(None, vec![0; 8], 0).unwrap();
        if n % 2 == 0 {
            set.endpoint(a).unwrap().inject(to_b, &[1; 8]).unwrap();
        } else {
            set.endpoint(a).unwrap().send(to_b, vec![1; 8], 0).unwrap();
        }
        set.drive_until(LONG, |_| received.read() >= n).unwrap();
        set.endpoint(b).unwrap().send(to_a, vec![2; 8], 0).unwrap();
        set.drive_until(LONG, |_| came_back.read() >= n).unwrap();
    }
    set.drive_until(LONG, |_| sent.read() >= 50).unwrap();
    assert_eq!([&sent, &received, &came_back].map(|counter| (counter.read(), counter.errors())), [(50, 0); 3]);
    set.endpoint(b).unwrap().receive(None, vec![0; 4], 0).unwrap();
    set.endpoint(a).unwrap().inject(to_b, &[1; 8]).unwrap();
    set.drive_until(LONG, |_| received.errors() == 1).unwrap();
    assert_eq!(received.read(), 50);
}

/// `eq_test`: a peer that never answers, and a link that goes down and comes up, are told of once each.
#[test]
fn eq_test() {
    let Bench { mut set, domain, .. } = bench();
    let reliability = opx_reliability::Config { give_up_after: Duration::from_secs(1), ..Default::default() };
    let config = Config { reliability, ..Config::default() };
    let (a, b) = (set.open(config.clone()).unwrap(), set.open(config).unwrap());
    let nobody = Address { rx: 99, ..set.endpoint(b).unwrap().address() };
    set.endpoint(a).unwrap().send(nobody, vec![1], 5).unwrap();
    let Completion::Failed { error, .. } = set.wait(LONG).unwrap().completion else { panic!() };
    assert_eq!(error, OperationError::Unreachable(nobody));
    let told = domain.events().read().unwrap();
    assert!(
        matches!(told.event, Event::PeerUnreachable { endpoint, peer } if (endpoint, peer) == (a, nobody)),
        "{told:?}"
    );
    assert!(domain.events().read().is_none());
}

#[test]
fn the_link_is_told_of_once_for_all_endpoints() {
    let lab = Lab::new(Pacing::Virtual);
    let adapters = [1, 2].map(|n| {
        let link_time = Duration::from_millis(2);
        let guid = opx_defs::units::Guid(n);
        lab.add(Chip { icode: Icode::FunctionalSimulator, guid, link_time, ..Chip::default() })
    });
    lab.cable(&adapters[0], &adapters[1]);
    let hfis = adapters.each_ref().map(|adapter| Hfi::open(adapter.bus(), Options::default()).unwrap());
    hfis.iter().for_each(|hfi| hfi.link_begin(LinkMode::Cable { timeout: Duration::from_secs(5) }).unwrap());
    let bus = hfis[0].bus().clone();
    while hfis.each_ref().map(|hfi| hfi.link_advance().unwrap()) != [opx_hw::LinkState::Active; 2] {
        bus.pause(Duration::from_micros(100));
    }
    // Two domains, two endpoints each.
    let domains = hfis.each_ref().map(|hfi| Domain::open(hfi).unwrap());
    let mut sets = domains.each_ref().map(|domain| {
        let mut set = domain.poll_set();
        (set.open(Config::default()).unwrap(), set.open(Config::default()).unwrap(), set)
    });
    let to = sets[1].2.endpoint(sets[1].1).unwrap().address();
    let (from, at) = (sets[0].0, sets[1].1);
    sets[1].2.endpoint(at).unwrap().receive(None, vec![0; 8], 1).unwrap();
    sets[0].2.endpoint(from).unwrap().send(to, vec![1; 8], 2).unwrap();
    let done = loop {
        sets[0].2.progress().unwrap();
        match sets[1].2.wait(Some(Duration::from_micros(100))) {
            Ok(done) => break done,
            Err(WaitError::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert!(done.endpoint == at && matches!(done.completion, Completion::Received { .. }));
    assert!(domains[0].events().read().is_none());

    lab.pull(&adapters[0]);
    for (_, _, set) in &mut sets {
        assert!(matches!(
            set.wait(Some(Duration::from_secs(1))),
            Err(WaitError::TimedOut | WaitError::EndpointFailed(_))
        ));
    }
    for domain in &domains {
        let told = domain.events().read().unwrap();
        assert!(matches!(told.event, Event::LinkDown) && told.times == 1, "{told:?}");
        assert!(domain.events().read().is_none());
    }
}

/// An adapter that is pulled ends the wait with what was pending, then with the reason, then with nothing more to wait for.
#[test]
fn an_adapter_that_goes_away_under_a_waiting_read_ends_it() {
    let Bench { lab, adapter, mut set, domain } = bench();
    let a = set.open(Config::default()).unwrap();
    let counter = Counter::new();
    set.count(a, Counting::receives(&counter)).unwrap();
    for n in 0..2 {
        set.endpoint(a).unwrap().receive(None, vec![n as u8; 8], n).unwrap();
    }
    assert!(matches!(set.wait(Some(Duration::from_millis(1))), Err(WaitError::TimedOut)));
    lab.remove(&adapter);
    for n in 0..2 {
        let Completion::Failed { context, error, buffer } = set.wait(None).unwrap().completion else { panic!() };
        assert_eq!((context, error, buffer), (n, OperationError::EndpointFailed, vec![n as u8; 8].into()));
    }
    let Err(WaitError::EndpointFailed(failed)) = set.wait(None) else { panic!() };
    assert!(failed.endpoint == a && matches!(*failed.why, EndpointError::Gone { .. }), "{failed}");
    assert!(matches!(set.wait(None), Err(WaitError::NoEndpoint)));
    assert!(matches!(set.endpoint(a), Err(AccessError::Failed(_))));
    assert_eq!((counter.read(), counter.errors()), (0, 2));
    let told = domain.events().read().unwrap();
    assert!(matches!(told.event, Event::EndpointFailed { endpoint, .. } if endpoint == a));
    assert!(set.close(a).unwrap().is_empty());
    assert!(matches!(set.endpoint(a), Err(AccessError::NotHere(_))));
}

#[test]
fn a_closed_endpoint_gives_back_what_it_had() {
    let Bench { mut set, .. } = bench();
    let (a, b) = (set.open(Config::default()).unwrap(), set.open(Config::default()).unwrap());
    let to = set.endpoint(b).unwrap().address();
    set.endpoint(a).unwrap().receive(None, vec![1; 8], 1).unwrap();
    set.endpoint(a).unwrap().tag_send(to, 7, vec![2; 1 << 20], 2).unwrap();
    let mut ends = set.close(a).unwrap();
    ends.sort_by_key(|end| matches!(end.completion, Completion::Failed { context: 2, .. }));
    let ends: Vec<_> = ends.into_iter().map(|end| end.completion).collect();
    let closed =
        |context, buffer: Vec<u8>| Completion::Failed { context, error: OperationError::Closed, buffer: buffer.into() };
    assert_eq!(ends, [closed(1, vec![1; 8]), closed(2, vec![2; 1 << 20])]);
    assert!(set.endpoint(a).is_err());
    // What it had is free again.
    for _ in 0..5 {
        let again = set.open(Config::default()).unwrap();
        set.close(again).unwrap();
    }
    // A set that is forgotten leaks what it owns, and nobody else has it.
    let address = set.endpoint(b).unwrap().address();
    let domain = set.domain().clone();
    set.endpoint(b).unwrap().receive(None, vec![0; 8], 3).unwrap();
    std::mem::forget(set);
    let mut set = domain.poll_set();
    let c = set.open(Config::default()).unwrap();
    set.endpoint(c).unwrap().send(address, vec![9; 8], 4).unwrap();
    assert!(matches!(set.wait(Some(Duration::from_millis(500))), Err(WaitError::TimedOut)));
}
