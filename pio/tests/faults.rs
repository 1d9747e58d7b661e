//! What goes wrong in a send context without anybody's doing: each fault is told with its reason, and survived.

mod common;

use common::Bench;
use opx_bus::{PciFunction, poll};
use opx_defs::csr;
use opx_defs::status::{EgressRefusals, SendCtxtErrors};
use opx_defs::units::{Blocks, Guid, Iova, Lid, Vl};
use opx_defs::wire::opx::Inject;
use opx_emu::{Config, EmuBus, Icode, Lab, Pacing, PioFault};
use opx_hw::{Hfi, LinkMode, LinkState, Options, SendConfig, Threshold};
use opx_pio::{Head, PioError, PioSender};
use std::time::Duration;

/// A sender whose credits come back one by one.
fn sender(bench: &Bench, blocks: u16) -> PioSender<EmuBus> {
    bench.sender_with(SendConfig { threshold: Some(Threshold::Blocks(Blocks(1))), ..SendConfig::new(Blocks(blocks)) })
}

#[test]
fn every_error_that_halts_a_context_is_named_and_survived() {
    for (fault, errors) in [
        (PioFault::InconsistentSop, SendCtxtErrors::INCONSISTENT_SOP),
        (PioFault::WriteCrossesBoundary, SendCtxtErrors::WRITE_CROSSES_BOUNDARY),
        (PioFault::WriteOverflow, SendCtxtErrors::WRITE_OVERFLOW),
        (PioFault::WriteOutOfBounds, SendCtxtErrors::WRITE_OUT_OF_BOUNDS),
    ] {
        let mut bench = Bench::new();
        let mut sender = sender(&bench, 8);
        bench.inject(fault, &sender, 5);
        let error = bench.send_until_error(&mut sender);
        assert_eq!(error, PioError::Halted { ctxt: sender.context().number(), errors });
        assert!(error.needs_restart() && error.to_string().contains("restart it"), "{error}");
        bench.settle();
        assert!(bench.arrived().len() <= 5, "{fault:?} loses what is in the context");
        // It says so until it is restarted.
        assert_eq!(sender.check(), Err(error));
        sender.restart().unwrap();
        bench.is_in_order(&mut sender);
        assert_eq!(sender.counters().restarts, 1);
    }
}

#[test]
fn a_refusal_that_no_check_explains_is_a_refusal() {
    let mut bench = Bench::new();
    let mut sender = sender(&bench, 8);
    bench.inject(PioFault::DisallowedPacket, &sender, 0);
    let error = bench.send_until_error(&mut sender);
    let ctxt = sender.context().number();
    assert_eq!(error, PioError::Refused { ctxt, checks: EgressRefusals::empty() });
    sender.restart().unwrap();
    bench.is_in_order(&mut sender);
}

#[test]
fn a_halt_in_every_packet_of_a_run_is_survived() {
    let mut bench = Bench::new();
    let mut sender = sender(&bench, 4);
    for _ in 0..50 {
        bench.inject(PioFault::WriteOverflow, &sender, 0);
        assert!(bench.send_until_error(&mut sender).needs_restart());
        sender.restart().unwrap();
    }
    bench.is_in_order(&mut sender);
}

#[test]
fn credits_that_never_come_back_are_missed() {
    let mut bench = Bench::new();
    let mut sender = sender(&bench, 4);
    for after in 0..4 {
        bench.inject(PioFault::LostCredits, &sender, after);
    }
    let start = bench.hfi.bus().now();
    let error = bench.send_until_error(&mut sender);
    let ctxt = sender.context().number();
    assert_eq!(error, PioError::CreditsLost { ctxt, missing: Blocks(4) });
    let took = bench.hfi.bus().now().since(start).as_millis();
    assert!((500..600).contains(&took), "after {took} ms");
    assert_eq!(bench.arrived().len(), 4, "the packets themselves left");
    sender.restart().unwrap();
    assert_eq!(sender.available(), Blocks(4));
    bench.is_in_order(&mut sender);
}

#[test]
fn one_lost_block_is_missed_by_who_needs_all() {
    let bench = Bench::new();
    let mut sender = sender(&bench, 4);
    bench.inject(PioFault::LostCredits, &sender, 0);
    sender.send(&bench.head(0), &[]).unwrap();
    let error = loop {
        match sender.send(&bench.head(192), &[0; 192]) {
            Err(PioError::NoCredit { available, .. }) => assert_eq!(available, Blocks(3)),
            Err(error) => break error,
            Ok(()) => panic!("there is no room for it"),
        }
        bench.hfi.bus().relax();
    };
    assert_eq!(error, PioError::CreditsLost { ctxt: sender.context().number(), missing: Blocks(1) });
}

#[test]
fn a_credit_word_that_gets_lost_is_made_up_for() {
    let mut bench = Bench::new();
    let mut sender = sender(&bench, 4);
    for after in 0..30 {
        bench.inject(PioFault::LostReturn, &sender, after);
    }
    bench.is_in_order(&mut sender);
    assert_eq!(sender.counters().restarts, 0);
}

#[test]
fn credit_words_that_all_get_lost_are_made_up_for_by_the_register() {
    let mut bench = Bench::new();
    let mut sender = sender(&bench, 4);
    let number = sender.context().number();
    let line = bench.hfi.bus().read64(csr::SEND_CTXT_CREDIT_RETURN_ADDR.at(number.0.into()));
    // The whole memory of credit words: 64 bytes for each of the chip's contexts.
    bench.adapter.dma_unmap(Iova(line - 64 * u64::from(number.0)), (160u64 * 64).next_multiple_of(4096));
    for _ in 0..12 {
        while let Err(error) = sender.send(&bench.head(0), &[]) {
            assert!(matches!(error, PioError::NoCredit { .. }), "{error}");
            bench.hfi.bus().relax();
        }
    }
    bench.settle();
    assert_eq!(bench.arrived().len(), 12);
    assert_eq!((sender.counters().register_returns, sender.counters().restarts), (2, 0));
}

#[test]
fn a_garbled_credit_word_is_ignored() {
    let mut bench = Bench::new();
    let mut sender = sender(&bench, 4);
    bench.inject(PioFault::GarbledReturn, &sender, 0);
    sender.send(&bench.head(0), &[]).unwrap();
    bench.settle();
    assert_eq!(sender.context().credit_return().counter(), Blocks(1001));
    assert_eq!((sender.available(), sender.counters().bad_credit_words), (Blocks(3), 1));
    bench.is_in_order(&mut sender);
    assert_eq!(sender.counters().restarts, 0);
}

#[test]
fn packets_that_do_not_leave_are_told() {
    let mut bench = Bench::new();
    let mut sender = sender(&bench, 4);
    bench.inject(PioFault::Stall, &sender, 2);
    let error = bench.send_until_error(&mut sender);
    assert_eq!(error, PioError::Stalled { ctxt: sender.context().number(), packets: 4 });
    assert!(error.to_string().contains("check the link"), "{error}");
    assert_eq!(bench.arrived().len(), 2);
    sender.restart().unwrap();
    bench.is_in_order(&mut sender);
}

/// Its sender has credit for a thousand more, so no send ever fails.
#[test]
fn who_has_credit_left_notices_packets_that_do_not_leave() {
    for (fault, inside) in [(PioFault::Stall, 3), (PioFault::LostCredits, 0)] {
        let mut bench = Bench::new();
        let mut sender = sender(&bench, 200);
        bench.inject(fault, &sender, 2);
        for _ in 0..5 {
            sender.send(&bench.head(0), &[]).unwrap();
        }
        let start = bench.hfi.bus().now();
        let error = loop {
            if let Err(error) = sender.check_progress() {
                break error;
            }
            bench.hfi.bus().pause(Duration::from_millis(100));
        };
        let ctxt = sender.context().number();
        let expected = match inside {
            0 => PioError::CreditsLost { ctxt, missing: Blocks(1) },
            packets => PioError::Stalled { ctxt, packets },
        };
        assert_eq!(error, expected);
        assert!(bench.hfi.bus().now().since(start) >= Duration::from_millis(500));
        sender.restart().unwrap();
        bench.arrived();
        bench.is_in_order(&mut sender);
    }
}

#[test]
fn packets_that_leave_now_and_then_are_no_stall() {
    let bench = Bench::new();
    let mut sender = sender(&bench, 200);
    for _ in 0..40 {
        sender.send(&bench.head(0), &[]).unwrap();
        sender.check_progress().unwrap();
        bench.hfi.bus().pause(Duration::from_millis(300));
    }
    sender.check_progress().unwrap();
    assert_eq!((sender.outstanding(), sender.counters().register_returns), (Blocks(0), 0));
}

#[test]
fn an_adapter_that_is_gone_is_told() {
    let bench = Bench::new();
    let mut sender = sender(&bench, 4);
    bench.inject(PioFault::Stall, &sender, 0);
    while sender.send(&bench.head(0), &[]).is_ok() {}
    bench.lab.remove(&bench.adapter);
    let error = bench.send_until_error(&mut sender);
    assert_eq!(error, PioError::Gone { ctxt: sender.context().number() });
    assert!(sender.restart().unwrap_err().is_gone());
}

#[test]
fn a_freeze_is_told_by_every_send() {
    let lab = Lab::new(Pacing::Virtual);
    let adapters =
        [1, 2].map(|guid| lab.add(Config { icode: Icode::FunctionalSimulator, guid: Guid(guid), ..Config::default() }));
    lab.cable(&adapters[0], &adapters[1]);
    let pair = adapters.each_ref().map(|adapter| Hfi::open(adapter.bus(), Options::default()).unwrap());
    let timeout = Duration::from_secs(5);
    for hfi in &pair {
        hfi.link_begin(LinkMode::Cable { timeout }).unwrap();
    }
    let up = poll::until(pair[0].bus(), timeout, || {
        let states = pair.each_ref().map(|hfi| hfi.link_advance().unwrap());
        (states == [LinkState::Active; 2]).then_some(())
    });
    up.unwrap();
    let mut sender = PioSender::new(pair[0].send_context(Blocks(8)).unwrap());
    let header = Inject { tag: Some(1), cq_data: None, data: b"x" }.encode(&pair[0].route(1, Lid(2), 1)).unwrap();
    let head = Head::new(header.pbc(Vl(0)), &header);
    sender.send(&head, &[]).unwrap();
    lab.pull(&adapters[0]);
    let down = poll::until(pair[0].bus(), timeout, || {
        matches!(pair[0].service_interrupts().unwrap().link, LinkState::Down(_)).then_some(())
    });
    down.unwrap();
    // There would be credit, and nobody would ever send what is written.
    let ctxt = sender.context().number();
    for _ in 0..3 {
        assert_eq!(sender.send(&head, &[]), Err(PioError::Frozen { ctxt }));
        assert_eq!(sender.check(), Err(PioError::Frozen { ctxt }));
    }
    assert_eq!(sender.counters().packets, 1);
    // What is sent while the link is down would be lost.
    assert!(sender.restart().is_err());
}

#[test]
fn what_can_never_be_sent_is_told_and_writes_nothing() {
    let bench = Bench::new();
    let mut sender = bench.sender(4);
    let long = bench.head(4096);
    let refused = sender.send(&long, &[0; 4096]).unwrap_err();
    assert!(matches!(refused, PioError::TooLong { needed: Blocks(65), depth: Blocks(4), .. }), "{refused}");
    for wrong in [0, 64, 4092, 5000] {
        let refused = sender.send(&long, &vec![0; wrong]).unwrap_err();
        assert!(matches!(refused, PioError::Length { .. }), "{refused}");
    }
    assert_eq!((sender.counters().blocks, sender.available()), (0, Blocks(4)));
}
