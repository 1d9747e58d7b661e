//! One engine for several submitters, several engines for one: everybody has his share, every packet ends once.

mod common;

use common::{LIMIT, Rig};
use opx_bus::PciFunction;
use opx_defs::units::Vl;
use opx_emu::{EmuBus, Fault, Pacing, SdmaFault};
use opx_sdma::{Fragment, NotDone, Outcome, SdmaQueue, SdmaSet, SharedPacket, SharedQueue, SubmitError};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn shared(rig: &Rig, entries: u32) -> SharedQueue<EmuBus, u32> {
    SharedQueue::new(SdmaQueue::new(rig.hfi.sdma_engine(entries).unwrap()))
}

fn packet(rig: &Rig, n: u32) -> SharedPacket {
    SharedPacket::new(&[rig.place(n, 400)]).unwrap()
}

/// A submitter that always has more doesn't keep another one out: they take turns, packet by packet.
#[test]
fn a_greedy_submitter_gets_no_more_than_its_turn() {
    let mut rig = Rig::new();
    let mut queue = shared(&rig, 64);
    let mut greedy = queue.submitter(1000);
    let mut modest = queue.submitter(4);
    for n in 0..1000 {
        // All from one place in memory: its number says who sent it.
        greedy.submit(packet(&rig, 1), n).unwrap();
    }
    for n in 0..4 {
        modest.submit(packet(&rig, 2), n).unwrap();
    }
    assert!(matches!(modest.submit(packet(&rig, 2), 4), Err((SubmitError::ShareUsed { share: 4 }, 4))));
    assert!(queue.pump());
    let mut order = Vec::new();
    let bus = rig.bus().clone();
    opx_bus::poll::until(&bus, LIMIT, || {
        queue.pump();
        order.extend(rig.arrived().into_iter().map(|(n, _)| n));
        (order.len() == 1004).then_some(())
    })
    .unwrap();
    assert_eq!(order[..8], [1, 2, 1, 2, 1, 2, 1, 2]);
    opx_bus::poll::until(&bus, LIMIT, || {
        queue.pump();
        let idle = queue.queue_mut().pending() == 0;
        idle.then_some(())
    })
    .unwrap();
    assert!((0..1000).all(|n| greedy.poll() == Some((n, Outcome::Sent))));
    assert!((0..4).all(|n| modest.poll() == Some((n, Outcome::Sent))));
    assert_eq!((greedy.poll(), greedy.underway(), modest.poll(), modest.underway()), (None, 0, None, 0));
}

/// Threads, and an engine that fails now and then.
#[test]
fn threads_get_each_token_back_once() {
    const THREADS: u32 = 3;
    const EACH: u32 = 400;
    let mut rig = Rig::with(Pacing::Real);
    let mut queue = shared(&rig, 64);
    for after in [100, 300, 301, 700] {
        assert!(rig.adapter.inject(Fault::Sdma(SdmaFault::Assembly), 0, after));
    }
    let packets: Vec<_> = (0..THREADS).map(|n| packet(&rig, n)).collect();
    let working = AtomicUsize::new(THREADS as usize);
    let failed = std::thread::scope(|scope| {
        let handles: Vec<_> = packets
            .iter()
            .zip(1..)
            .map(|(packet, share)| {
                let mut submitter = queue.submitter(share * 5);
                let working = &working;
                scope.spawn(move || {
                    let (mut sent, mut done, mut failed) = (0, 0, 0);
                    while done < EACH {
                        while sent < EACH && submitter.submit(*packet, sent).is_ok() {
                            sent += 1;
                        }
                        let (token, outcome) = submitter.wait(LIMIT).unwrap();
                        assert_eq!(token, done, "in order");
                        failed += u32::from(outcome == Outcome::Failed);
                        done += 1;
                    }
                    assert_eq!((submitter.poll(), submitter.underway()), (None, 0));
                    working.fetch_sub(1, Ordering::Release);
                    failed
                })
            })
            .collect();
        while working.load(Ordering::Acquire) > 0 {
            if !queue.pump() {
                if queue.queue_mut().check().is_err() {
                    queue.queue_mut().restart().unwrap();
                }
                rig.bus().relax();
            }
            rig.arrived();
        }
        handles.into_iter().map(|handle| handle.join().unwrap()).sum::<u32>()
    });
    assert_eq!(u64::from(failed), queue.queue_mut().counters().failed);
    assert_eq!(queue.queue_mut().counters().restarts, 4);
    assert!(failed >= 4);
}

/// A wait ends when there is nothing to wait for, when its time is over, and when the queue goes.
#[test]
fn a_submitter_does_not_wait_for_ever() {
    let rig = Rig::new();
    let mut queue = shared(&rig, 64);
    let mut submitter = queue.submitter(2);
    assert_eq!(submitter.wait(LIMIT), Err(NotDone::Nothing));
    submitter.submit(packet(&rig, 0), 0).unwrap();
    // Nobody pumps.
    let limit = Duration::from_millis(1);
    assert_eq!(submitter.wait(limit), Err(NotDone::Late { limit }));
    assert_eq!(submitter.wait(Duration::ZERO), Err(NotDone::Late { limit: Duration::ZERO }));
    rig.until(|| {
        queue.pump();
        submitter.wait(Duration::ZERO).ok().map(|done| assert_eq!(done, (0, Outcome::Sent)))
    });
    submitter.submit(packet(&rig, 0), 1).unwrap();
    let waiting = std::thread::spawn(move || {
        let ended = submitter.wait(Duration::from_secs(3600));
        (ended, submitter.withdraw())
    });
    drop(queue);
    assert_eq!(waiting.join().unwrap(), (Err(NotDone::Closed), Some(1)));
}

#[test]
fn a_submitter_and_a_queue_may_go() {
    let rig = Rig::new();
    let mut queue = shared(&rig, 64);
    let mut one = queue.submitter(4);
    one.submit(packet(&rig, 0), 0).unwrap();
    queue.pump();
    drop(one);
    rig.until(|| {
        queue.pump();
        (queue.queue_mut().pending() == 0).then_some(())
    });
    queue.pump();
    let mut two = queue.submitter(4);
    two.submit(packet(&rig, 0), 7).unwrap();
    rig.until(|| {
        queue.pump();
        two.poll().map(|ended| assert_eq!(ended, (7, Outcome::Sent)))
    });
    drop(queue);
    assert!(matches!(two.submit(packet(&rig, 0), 8), Err((SubmitError::Closed, 8))));
    assert!(SharedPacket::new(&[Fragment::of(&rig.memory, 0..4).unwrap(); 9]).is_err());
    assert!(SharedPacket::new(&[]).is_err());
}

/// What a submitter leaves behind isn't sent, and tokens of what is with the engine go only when it is done.
#[test]
fn a_submitter_that_goes_takes_its_unsent_packets_along() {
    use std::sync::Arc;
    let mut rig = Rig::new();
    let mut queue = SharedQueue::new(SdmaQueue::new(rig.hfi.sdma_engine(64).unwrap()));
    let token = Arc::new(());
    let mut one = queue.submitter(4);
    one.submit(packet(&rig, 1), Arc::clone(&token)).unwrap();
    queue.pump();
    for n in 2..5 {
        one.submit(packet(&rig, n), Arc::clone(&token)).unwrap();
    }
    assert!(one.withdraw().is_some());
    assert_eq!((one.underway(), Arc::strong_count(&token)), (3, 4));
    drop(one);
    assert_eq!(Arc::strong_count(&token), 2, "that of the packet in the ring");
    rig.until(|| {
        queue.pump();
        (queue.queue_mut().pending() == 0).then_some(())
    });
    queue.pump();
    assert_eq!(Arc::strong_count(&token), 1);
    let bus = rig.bus().clone();
    bus.pause(Duration::from_millis(10));
    assert_eq!(rig.arrived().into_iter().map(|(n, _)| n).collect::<Vec<_>>(), [1]);
}

#[test]
fn all_sixteen_engines_work_side_by_side() {
    let mut rig = Rig::new();
    let queues = (0..16).map(|_| SdmaQueue::new(rig.hfi.sdma_engine(64).unwrap())).collect();
    let mut set = SdmaSet::new(queues, 1).unwrap();
    assert!(rig.hfi.sdma_engine(64).is_err(), "there are sixteen");
    // By load: each engine has the same.
    for n in 0..160u32 {
        let whole = [rig.place(n % 64, 400)];
        assert_eq!(set.submit_anywhere(Vl(0), &whole, n).unwrap() as u32, n % 16);
    }
    // An engine that has much gets nothing more while others have less.
    for n in 0..10 {
        let whole = [rig.place(n, 400)];
        set.select(None, 3, Vl(0)).unwrap().submit(&whole, 1000 + n).unwrap();
    }
    for n in 0..75 {
        let whole = [rig.place(n % 64, 400)];
        assert_ne!(set.submit_anywhere(Vl(0), &whole, 2000 + n).unwrap(), 3);
    }
    assert_eq!(set.pending(), 245);
    set.doorbells();
    let (mut ended, mut arrived) = (vec![Vec::new(); 16], 0);
    let bus = rig.bus().clone();
    opx_bus::poll::until(&bus, LIMIT, || {
        while let Some((engine, token, outcome)) = set.poll() {
            assert_eq!(outcome, Outcome::Sent);
            ended[engine].push(token);
        }
        arrived += rig.arrived().len();
        (set.pending() == 0 && arrived == 245).then_some(())
    })
    .unwrap();
    assert!(ended.iter().all(|tokens| tokens.is_sorted()), "in order on each engine");
    assert!(set.queues().iter().all(|queue| queue.counters().doorbells == 1));
    // A queue that is stopped is passed over.
    set.queues_mut()[0].stop().unwrap();
    let whole = [rig.place(0, 400)];
    assert_eq!(set.submit_anywhere(Vl(0), &whole, 0).unwrap(), 1);
}
