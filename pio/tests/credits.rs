//! The ways that credits come back: by threshold, because a packet asks, because software asks, by interrupt, on an error.

mod common;

use common::Bench;
use opx_bus::PciFunction;
use opx_defs::credit::CreditReason;
use opx_defs::units::{Blocks, Pkey, Vl};
use opx_emu::Pacing;
use opx_hw::{SendConfig, Threshold};
use opx_pio::{Head, PioError, WaitError};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn no_credit_is_told_at_once_and_says_how_many_there_are() {
    let bench = Bench::new();
    let mut sender = bench.sender(8);
    let before = bench.hfi.bus().now();
    for _ in 0..8 {
        sender.send(&bench.head(0), &[]).unwrap();
    }
    let refused = sender.send(&bench.head(0), &[]).unwrap_err();
    assert_eq!(bench.hfi.bus().now(), before, "nobody waited");
    let ctxt = sender.context().number();
    assert_eq!(refused, PioError::NoCredit { ctxt, needed: Blocks(1), available: Blocks(0) });
    assert_eq!((sender.counters().packets, sender.counters().no_credit), (8, 1));
}

#[test]
fn the_threshold_returns_credits() {
    let bench = Bench::new();
    let config = SendConfig { threshold: Some(Threshold::Blocks(Blocks(3))), ..SendConfig::new(Blocks(16)) };
    let mut sender = bench.sender_with(config);
    for sent in 1..=7u16 {
        sender.send(&bench.head(0), &[]).unwrap();
        bench.settle();
        assert_eq!(sender.outstanding(), Blocks(sent % 3), "after {sent} packets");
    }
    assert_eq!(sender.context().credit_return().reason(), Some(CreditReason::Threshold));
    // One of 7 is held back; a new threshold brings it, and holds from then on.
    sender.context_mut().set_threshold(Threshold::Percent(50));
    assert_eq!((sender.context().threshold(), sender.outstanding()), (Blocks(8), Blocks(0)));
    assert_eq!(sender.context().credit_return().reason(), Some(CreditReason::Force));
    for sent in 1..=8u16 {
        sender.send(&bench.head(0), &[]).unwrap();
        bench.settle();
        assert_eq!(sender.outstanding(), Blocks(sent % 8));
    }
    // Room for a packet of 500 bytes and its header, of 16 blocks: at 6.
    sender.context_mut().set_threshold(Threshold::RoomFor { mtu: 500 });
    assert_eq!(sender.context().threshold(), Blocks(6));
}

#[test]
fn a_packet_may_ask_for_its_credits() {
    let bench = Bench::new();
    let mut sender = bench.sender(64);
    let mut asking = bench.head(0);
    asking.set_pbc(asking.pbc().credit_return());
    sender.send(&bench.head(0), &[]).unwrap();
    bench.settle();
    assert_eq!(sender.outstanding(), Blocks(1));
    sender.send(&asking, &[]).unwrap();
    bench.settle();
    assert_eq!(sender.outstanding(), Blocks(0));
    assert_eq!(sender.context().credit_return().reason(), Some(CreditReason::Pbc));
}

#[test]
fn credits_below_the_threshold_are_asked_for_when_they_are_needed() {
    let bench = Bench::new();
    let config = SendConfig { threshold: Some(Threshold::Percent(100)), ..SendConfig::new(Blocks(16)) };
    let mut sender = bench.sender_with(config);
    for _ in 0..10 {
        sender.send(&bench.head(0), &[]).unwrap();
    }
    bench.settle();
    assert_eq!(sender.available(), Blocks(6), "nobody asked");
    // A packet of 16 blocks: the first try asks, while all credits are already free.
    let (head, payload) = (bench.head(15 * 64), [0; 15 * 64]);
    assert!(matches!(sender.send(&head, &payload), Err(PioError::NoCredit { .. })));
    bench.settle();
    sender.send(&head, &payload).unwrap();
    assert_eq!(sender.counters().forced_returns, 1);
    assert_eq!(sender.context().credit_return().reason(), Some(CreditReason::Force));
}

#[test]
fn credits_that_leave_after_an_answer_are_asked_for_again() {
    let bench = Bench::new();
    let config = SendConfig { threshold: Some(Threshold::Percent(100)), ..SendConfig::new(Blocks(16)) };
    let mut sender = bench.sender_with(config);
    for _ in 0..15 {
        sender.send(&bench.head(0), &[]).unwrap();
    }
    // At once, so that the answer tells of nothing; the packets leave later, and stay below the threshold.
    let (head, payload) = (bench.head(15 * 64), [0; 15 * 64]);
    let start = bench.hfi.bus().now();
    while sender.send(&head, &payload).is_err() {
        bench.hfi.bus().relax();
    }
    assert!(bench.hfi.bus().now().since(start) < Duration::from_millis(1));
    assert_eq!((sender.counters().forced_returns, sender.counters().register_returns), (2, 0));
}

fn sleeper(depth: u16) -> SendConfig {
    // A threshold that is never reached: only the wait itself can bring the credits.
    SendConfig { interrupts: true, threshold: Some(Threshold::Percent(100)), ..SendConfig::new(Blocks(depth)) }
}

#[test]
fn a_sender_sleeps_until_there_is_room() {
    let bench = Bench::new();
    let mut sender = bench.sender_with(sleeper(16));
    for _ in 0..200 {
        while sender.send(&bench.head(0), &[]).is_ok() {}
        assert!(sender.wait_credit(Blocks(12), SECOND).unwrap());
        assert!(sender.available() >= Blocks(12));
    }
    assert!(sender.counters().sleeps >= 200, "{:?}", sender.counters());
    // The interrupt is off again, and the old threshold in force: nothing comes back by itself.
    assert!(sender.wait_credit(Blocks(16), SECOND).unwrap());
    for _ in 0..15 {
        sender.send(&bench.head(0), &[]).unwrap();
    }
    bench.settle();
    assert_eq!(sender.outstanding(), Blocks(15));
}

#[test]
fn no_wake_up_is_lost_against_a_chip_with_its_own_thread() {
    let mut bench = Bench::with(Pacing::Real);
    let mut sender = bench.sender_with(sleeper(8));
    for round in 0..2000 {
        while sender.send(&bench.head(0), &[]).is_ok() {}
        assert!(sender.wait_credit(Blocks(8), Duration::from_secs(20)).unwrap(), "round {round}");
        bench.arrived();
    }
    assert_eq!(sender.counters().register_returns, 0, "a sleeper was only woken by looking around");
}

#[test]
fn a_wait_ends_with_its_limit() {
    let bench = Bench::new();
    let mut sender = bench.sender_with(sleeper(4));
    // The fourth block never leaves, since its packet isn't complete.
    for _ in 0..3 {
        sender.send(&bench.head(0), &[]).unwrap();
    }
    bench.inject(opx_emu::PioFault::Stall, &sender, 0);
    sender.send(&bench.head(0), &[]).unwrap();
    let start = bench.hfi.bus().now();
    assert!(!sender.wait_credit(Blocks(4), Duration::from_millis(30)).unwrap());
    assert_eq!(bench.hfi.bus().now().since(start), Duration::from_millis(30));
    assert_eq!(sender.available(), Blocks(3));
}

#[test]
fn a_sleeper_is_told_of_a_halt() {
    let bench = Bench::new();
    let mut sender = bench.sender_with(sleeper(4));
    let mut bad = bench.header(0);
    bad.set_word::<1>(bad.word::<1>() ^ u64::from(Pkey(0x10).0) << 16);
    for _ in 0..4 {
        sender.send(&Head::new(bad.pbc(Vl(0)), &bad), &[]).unwrap();
    }
    let told = sender.wait_credit(Blocks(4), SECOND).unwrap_err();
    assert!(matches!(told, WaitError::Pio(PioError::Refused { .. })), "{told}");
}

#[test]
fn who_wants_to_sleep_must_have_interrupts() {
    let bench = Bench::new();
    let mut sender = bench.sender(4);
    while sender.send(&bench.head(0), &[]).is_ok() {}
    let refused = sender.wait_credit(Blocks(4), SECOND).unwrap_err();
    assert!(refused.to_string().contains("interrupts of a send context"), "{refused}");
    let refused = sender.wait_credit(Blocks(5), SECOND).unwrap_err();
    assert!(matches!(refused, WaitError::Pio(PioError::TooLong { .. })), "{refused}");
}

#[test]
fn vectors_come_back() {
    let bench = Bench::new();
    for _ in 0..600 {
        let mut sender = bench.sender_with(sleeper(4));
        while sender.send(&bench.head(0), &[]).is_ok() {}
        assert!(sender.wait_credit(Blocks(4), SECOND).unwrap());
    }
}
