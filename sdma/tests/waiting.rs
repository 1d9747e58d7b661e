//! Sleeping until a packet is done: no wake-up is lost, in simulated and in real time.

mod common;

use common::{LIMIT, Rig};
use opx_bus::PciFunction;
use opx_emu::Pacing;
use opx_sdma::{Outcome, Packet, SdmaError, SdmaQueue, WaitError};
use std::time::Duration;

#[test]
fn every_packet_wakes_its_sleeper() {
    for pacing in [Pacing::Virtual, Pacing::Real] {
        let mut rig = Rig::with(pacing);
        let mut queue = SdmaQueue::new(rig.hfi.sdma_engine(64).unwrap());
        let mut done = 0;
        for round in 0..100u32 {
            // Up to three at a time; with and without an interrupt of their own, some asleep before they are done.
            for n in 0..1 + round % 3 {
                let whole = [rig.place(round * 3 + n, 100 + round as usize * 70)];
                let packet = if n % 2 == 0 { Packet::new(&whole) } else { Packet::new(&whole).interrupt() };
                queue.submit(packet, round).unwrap();
            }
            for _ in 0..1 + round % 3 {
                if queue.poll().is_none() {
                    assert!(queue.wait(LIMIT).unwrap(), "round {round}");
                    assert_eq!(queue.poll(), Some((round, Outcome::Sent)));
                }
                done += 1;
            }
            rig.arrived();
        }
        assert_eq!((queue.pending(), done), (0, 199));
        assert!(queue.counters().doorbells <= 100, "one tail write a batch");
        // Nothing is queued: nothing to wait for.
        assert!(!queue.wait(LIMIT).unwrap());
    }
}

/// In simulated time the oldest packet wakes the sleeper, not the last.
#[test]
fn the_oldest_packet_wakes_the_sleeper() {
    let rig = Rig::new();
    let mut queue = SdmaQueue::new(rig.hfi.sdma_engine(64).unwrap());
    for n in 0..20 {
        queue.submit(&[rig.place(n, 8000)], n).unwrap();
    }
    assert!(queue.wait(LIMIT).unwrap());
    assert!(queue.poll().is_some());
    assert!(queue.pending() > 10, "{} left", queue.pending());
}

#[test]
fn a_wait_ends_in_time() {
    let rig = Rig::new();
    let mut queue = SdmaQueue::new(rig.hfi.sdma_engine(64).unwrap());
    let ctrl = rig.bus().read64(opx_defs::csr::SEND_CTRL.off());
    rig.bus().write64(opx_defs::csr::SEND_CTRL.off(), 0);
    queue.submit(&[rig.place(0, 400)], 0).unwrap();
    let start = rig.bus().now();
    assert!(!queue.wait(Duration::from_millis(20)).unwrap());
    let took = rig.bus().now().since(start);
    assert!(took >= Duration::from_millis(20) && took < Duration::from_millis(25), "{took:?}");
    rig.bus().write64(opx_defs::csr::SEND_CTRL.off(), ctrl);
    assert!(queue.wait(LIMIT).unwrap());
}

/// An error wakes the sleeper at once.
#[test]
fn a_halt_wakes_the_sleeper() {
    let rig = Rig::new();
    let mut queue = SdmaQueue::new(rig.hfi.sdma_engine(64).unwrap());
    queue.set_stall_limit(LIMIT);
    let unmapped = opx_sdma::Fragment::raw(opx_defs::units::Iova(0x7777_0000_0000), 64);
    queue.submit(&[unmapped], 0).unwrap();
    let start = rig.bus().now();
    let error = queue.wait(LIMIT).unwrap_err();
    assert!(matches!(error, WaitError::Engine(SdmaError::Halted { .. })), "{error}");
    assert!(rig.bus().now().since(start) < Duration::from_millis(1));
    queue.restart().unwrap();
    assert_eq!(queue.poll(), Some((0, Outcome::Failed)));
    queue.submit(&[rig.place(0, 400)], 1).unwrap();
    assert!(queue.wait(LIMIT).unwrap());
    assert_eq!(queue.poll(), Some((1, Outcome::Sent)));
}

/// An engine's vector and its sources go back: the general interrupt takes the errors of the next owner.
#[test]
fn vectors_and_sources_come_back() {
    let rig = Rig::new();
    for _ in 0..100 {
        let mut queue = SdmaQueue::new(rig.hfi.sdma_engine(64).unwrap());
        queue.submit(&[rig.place(0, 400)], 0).unwrap();
        assert!(queue.wait(LIMIT).unwrap());
    }
    let mut queue = SdmaQueue::new(rig.hfi.sdma_engine(64).unwrap());
    queue.submit(&[opx_sdma::Fragment::raw(opx_defs::units::Iova(0x7777_0000_0000), 64)], 0).unwrap();
    queue.doorbell();
    rig.bus().pause(Duration::from_millis(1));
    rig.hfi.service_interrupts().unwrap();
    assert!(rig.hfi.counts().engine_errors.load(std::sync::atomic::Ordering::Relaxed) > 0);
    assert!(matches!(queue.check(), Err(SdmaError::Halted { .. })));
}
