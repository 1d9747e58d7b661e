//! Endpoints that a domain's thread drives, in real time: applications that sleep, several threads and domains, full queues,
//! endpoints that are dropped or forgotten, adapters that go away. Nothing here depends on how long anything takes.

mod common;

use common::data;
use opx_bus::Irq;
use opx_emu::{Adapter, Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::{
    Address, Buffer, Completion, Config, Counter, CounterError, Counting, Domain, EndpointError, Event, OperationError,
    Pattern, SendError, SharedEndpoint, WaitError,
};
use std::time::Duration;

/// Longer than any test may take.
const LONG: Option<Duration> = Some(Duration::from_secs(120));

fn domain_on(lab: &Lab) -> (Adapter, Domain<EmuBus>) {
    let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    (adapter, Domain::open(&hfi).unwrap())
}

fn domain() -> (Lab, Adapter, Domain<EmuBus>) {
    let lab = Lab::new(Pacing::Real);
    let (adapter, domain) = domain_on(&lab);
    (lab, adapter, domain)
}

/// Small, as some tests have several, and patient, as tests of other processes have their turn as well.
fn config() -> Config {
    let reliability = opx_reliability::Config { give_up_after: Duration::from_secs(100), ..Default::default() };
    Config { eager_buffers: 8, eager_buffer_size: 64 << 10, reliability, ..Config::default() }
}

/// Sends, and tries again while there is no room: there may be none yet when the machine has had no time for the chip.
fn tag_send(from: &SharedEndpoint<EmuBus>, to: Address, tag: u64, message: Vec<u8>, context: u64) {
    let mut message = Buffer::from(message);
    while let Err(refused) = from.lock().unwrap().tag_send(to, tag, message, context) {
        assert_eq!(refused.error, SendError::Again(to));
        message = refused.buffer;
        std::thread::yield_now();
    }
}

/// `cq_test`: one queue for several endpoints, and threads that sleep until something completes.
#[test]
fn cq_test() {
    let (_lab, _adapter, domain) = domain();
    let queue = domain.completion_queue(64);
    assert!(matches!(queue.wait(None), Err(WaitError::NoEndpoint)));
    let a = domain.endpoint(config(), &queue).unwrap();
    let b = domain.endpoint(config(), &queue).unwrap();
    assert!(matches!(queue.wait(Some(Duration::ZERO)), Err(WaitError::TimedOut)));
    assert!(queue.read().is_none());

    // Woken by a message that another thread sends.
    b.lock().unwrap().receive(None, vec![0; 100], 1).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| [queue.wait(LONG).unwrap(), queue.wait(LONG).unwrap()]);
        a.lock().unwrap().send(b.address(), data(1, 100), 2).unwrap();
        for done in waiting.join().unwrap() {
            match done.completion {
                Completion::Received { context, buffer, .. } => {
                    assert_eq!((done.endpoint, context, buffer), (b.id(), 1, data(1, 100).into()));
                }
                Completion::Sent { context, .. } => assert_eq!((done.endpoint, context), (a.id(), 2)),
                other => panic!("{other:?}"),
            }
        }
    });

    // Woken by a signal, and by a descriptor.
    queue.signal();
    assert!(matches!(queue.wait(LONG), Err(WaitError::Signalled)));
    let readable = Irq::from(queue.fd().unwrap().try_clone_to_owned().unwrap());
    b.lock().unwrap().receive(None, vec![0; 8], 3).unwrap();
    a.lock().unwrap().inject(b.address(), &[1; 8]).unwrap();
    let any = Irq::any_of(std::slice::from_ref(&readable)).unwrap();
    assert!(any.wait(LONG.unwrap()).unwrap());
    let mut all = Vec::new();
    assert_eq!(queue.read_many(&mut all, 9), 1);
    assert!(!any.wait(Duration::ZERO).unwrap(), "nothing is left to read");
    drop(a);
    drop(b);
    assert!(matches!(queue.wait(LONG), Err(WaitError::NoEndpoint)));
}

/// `rdm_cntr_pingpong` between two domains: both sides sleep until a counter says that it is their turn, and move a message of
/// each protocol. Nothing looks at the adapters for an hour, so that what wakes a side that has nothing outstanding is the
/// packet's interrupt.
#[test]
fn rdm_cntr_pingpong() {
    let lab = Lab::new(Pacing::Real);
    let adapters = [1, 2].map(|n| {
        let link_time = Duration::from_millis(2);
        let guid = opx_defs::units::Guid(n);
        lab.add(Chip { icode: Icode::FunctionalSimulator, guid, link_time, ..Chip::default() })
    });
    lab.cable(&adapters[0], &adapters[1]);
    let hfis = adapters.each_ref().map(|adapter| Hfi::open(adapter.bus(), Options::default()).unwrap());
    hfis.iter().for_each(|hfi| hfi.link_begin(LinkMode::Cable { timeout: Duration::from_secs(60) }).unwrap());
    while hfis.each_ref().map(|hfi| hfi.link_advance().unwrap()) != [opx_hw::LinkState::Active; 2] {
        std::thread::yield_now();
    }
    let sides = hfis.each_ref().map(|hfi| {
        let domain = Domain::open(hfi).unwrap();
        let queue = domain.completion_queue(64);
        let hourly = Config { health_interval: Duration::from_secs(3600), ..config() };
        let endpoint = domain.endpoint(hourly, &queue).unwrap();
        let received = Counter::new();
        endpoint.count(Counting::receives(&received));
        (endpoint, received)
    });
    let addresses = [sides[0].0.address(), sides[1].0.address()];
    let len = |n: u64| [8, 3000, 12_000, 100_000][n as usize % 4];
    std::thread::scope(|scope| {
        for (side, (endpoint, received)) in sides.iter().enumerate() {
            let (to, other) = (addresses[1 - side], sides[1 - side].0.domain());
            scope.spawn(move || {
                for n in 0..20 {
                    endpoint.lock().unwrap().tag_receive(Pattern::exact(n), vec![0; len(n)], n).unwrap();
                    let send = || {
                        while n % 5 == 0 && !other.sleep_counts().is_asleep() {
                            std::thread::yield_now();
                        }
                        tag_send(endpoint, to, n, data(n, len(n)), 1000 + n);
                    };
                    if side == 0 {
                        send();
                    }
                    assert_eq!(received.wait(n + 1, LONG), Ok(n + 1));
                    if side == 1 {
                        send();
                    }
                }
                let mut received = 0;
                for _ in 0..40 {
                    match endpoint.queue().wait(LONG).unwrap().completion {
                        Completion::Received { context, buffer, .. } => {
                            assert_eq!(buffer, data(context, len(context)));
                            received += 1;
                        }
                        Completion::Sent { .. } => {}
                        other => panic!("{other:?}"),
                    }
                }
                assert_eq!(received, 20);
            });
        }
    });
    assert!(sides.iter().all(|(endpoint, _)| endpoint.domain().sleep_counts().woken > 0));
}

/// Nobody reads a small queue: operations are refused, nothing is lost, and reading lets it go on.
#[test]
fn a_full_queue_refuses_operations_and_loses_nothing() {
    let (_lab, _adapter, domain) = domain();
    let (queue, other) = (domain.completion_queue(4), domain.completion_queue(4));
    let a = domain.endpoint(config(), &queue).unwrap();
    let b = domain.endpoint(config(), &other).unwrap();
    let mut sent = 0;
    // Accepted until the queue is full and the endpoint keeps what has completed since.
    let refused = loop {
        match a.lock().unwrap().send(b.address(), vec![1; 8], sent) {
            Ok(()) => sent += 1,
            Err(refused) => break refused,
        }
        std::thread::yield_now();
    };
    assert_eq!((refused.error, refused.buffer), (SendError::Again(b.address()), vec![1; 8].into()));
    assert!(a.lock().unwrap().receive(None, vec![0; 8], 0).is_err());
    for n in 0..sent {
        assert!(matches!(queue.wait(LONG).unwrap().completion, Completion::Sent { context, .. } if context == n));
    }
    a.lock().unwrap().send(b.address(), vec![1; 8], sent).unwrap();
    assert!(matches!(queue.wait(LONG).unwrap().completion, Completion::Sent { context, .. } if context == sent));
}

#[test]
fn an_adapter_that_goes_away_under_a_waiting_read_ends_it_and_the_thread() {
    let (lab, adapter, domain) = domain();
    let queue = domain.completion_queue(1);
    let a = domain.endpoint(config(), &queue).unwrap();
    let counter = Counter::new();
    a.count(Counting::receives(&counter));
    for n in 0..3 {
        a.lock().unwrap().receive(None, vec![n as u8; 8], n).unwrap();
    }
    std::thread::scope(|scope| {
        let counting = scope.spawn(|| {
            loop {
                match counter.wait(1, None) {
                    Err(CounterError::Errors { .. }) => {}
                    ended => break ended,
                }
            }
        });
        let waiting = scope.spawn(|| {
            for n in 0..3 {
                let Completion::Failed { context, error, buffer } = queue.wait(None).unwrap().completion else {
                    panic!()
                };
                assert_eq!((context, error, buffer), (n, OperationError::EndpointFailed, vec![n as u8; 8].into()));
            }
            let Err(WaitError::EndpointFailed(failed)) = queue.wait(None) else { panic!() };
            assert!(failed.endpoint == a.id() && matches!(*failed.why, EndpointError::Gone { .. }), "{failed}");
            assert!(matches!(queue.wait(None), Err(WaitError::NoEndpoint)));
        });
        lab.remove(&adapter);
        waiting.join().unwrap();
        assert_eq!(counting.join().unwrap(), Err(CounterError::EndpointFailed));
    });
    let told = domain.events().wait(LONG).unwrap();
    assert!(matches!(told.event, Event::EndpointFailed { endpoint, .. } if endpoint == a.id()), "{told:?}");
    assert!(a.lock().is_err());
    while domain.has_thread() {
        std::thread::yield_now();
    }
    assert!(a.close().is_empty());
}

/// Endpoints are closed with operations pending, dropped, and opened again, while others of the domain are used by another thread.
#[test]
fn endpoints_come_and_go_while_others_are_used() {
    let (_lab, _adapter, domain) = domain();
    let queue = domain.completion_queue(64);
    let (a, b) = (domain.endpoint(config(), &queue).unwrap(), domain.endpoint(config(), &queue).unwrap());
    std::thread::scope(|scope| {
        let (a, b, queue) = (&a, &b, &queue);
        let used = scope.spawn(move || {
            for n in 0..50 {
                b.lock().unwrap().tag_receive(Pattern::exact(n), vec![0; 100], n).unwrap();
                tag_send(a, b.address(), n, data(n, 100), n);
                for _ in 0..2 {
                    let done = queue.wait(LONG).unwrap();
                    assert!(!matches!(done.completion, Completion::Failed { .. }), "{done:?}");
                }
            }
        });
        let own = domain.completion_queue(16);
        for n in 0..10 {
            let c = domain.endpoint(config(), &own).unwrap();
            // One can be opened and closed while another is locked.
            let mut locked = c.lock().unwrap();
            drop(domain.endpoint(config(), &own).unwrap());
            locked.receive(None, vec![1; 8], 1).unwrap();
            locked.send(c.address(), vec![2; 1 << 20], 2).unwrap();
            drop(locked);
            if n % 2 == 0 {
                drop(c);
                while own.read().is_some() {}
                continue;
            }
            let ends = c.close().len() + std::iter::from_fn(|| own.read()).count();
            assert_eq!(ends, 2, "each operation ends once");
        }
        used.join().unwrap();
    });
}

/// A handle that is forgotten leaves its endpoint where it is, with the buffers that it owns; everything else goes on.
#[test]
fn forgotten_handles_do_no_harm() {
    let (_lab, _adapter, domain) = domain();
    let queue = domain.completion_queue(64);
    let forgotten = domain.endpoint(config(), &queue).unwrap();
    let (id, address) = (forgotten.id(), forgotten.address());
    forgotten.lock().unwrap().receive(None, vec![0; 8], 1).unwrap();
    forgotten.lock().unwrap().tag_receive(Pattern::exact(5), vec![0; 8], 2).unwrap();
    std::mem::forget(forgotten);
    let a = domain.endpoint(config(), &queue).unwrap();
    a.lock().unwrap().send(address, vec![3; 8], 4).unwrap();
    for _ in 0..2 {
        let done = queue.wait(LONG).unwrap();
        if done.endpoint == id {
            let Completion::Received { context: 1, buffer, .. } = done.completion else { panic!() };
            assert_eq!(buffer, vec![3; 8]);
        }
    }
    std::mem::forget(queue);
    std::mem::forget(domain);
}

/// Several threads use one endpoint.
#[test]
fn threads_share_an_endpoint() {
    let (_lab, _adapter, domain) = domain();
    let (sent, received) = (domain.completion_queue(1024), domain.completion_queue(1024));
    let (a, b) = (domain.endpoint(config(), &sent).unwrap(), domain.endpoint(config(), &received).unwrap());
    let send = |a: &SharedEndpoint<EmuBus>, tag| {
        for _ in 0..20 {
            tag_send(a, b.address(), tag, data(tag, 500), tag);
        }
    };
    std::thread::scope(|scope| {
        for tag in 0..4 {
            let (a, b, send) = (&a, &b, &send);
            scope.spawn(move || send(a, tag));
            scope.spawn(move || {
                for _ in 0..20 {
                    b.lock().unwrap().tag_receive(Pattern::exact(tag), vec![0; 500], tag).unwrap();
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..40 {
                    let done = received.wait(LONG).unwrap();
                    let Completion::Received { context, buffer, .. } = done.completion else { panic!("{done:?}") };
                    assert_eq!(buffer, data(context, 500));
                }
            });
        }
    });
    assert!((0..80).all(|_| matches!(sent.wait(LONG).unwrap().completion, Completion::Sent { .. })));
}
