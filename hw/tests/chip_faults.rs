//! Faults that the emulated chip is told to have: what the driver does about each, and what its caller sees.

mod common;

use common::{Bench, header, packet, receive, send_pio};
use opx_bus::PciFunction;
use opx_defs::units::Blocks;
use opx_defs::{csr, freezing};
use opx_emu::{ChipFault, EmuBus, Fault, Icode};
use opx_hw::{ContextError, DownReason, Hfi, LinkError, LinkMode, LinkState, RecvConfig, RecvContext, SendContext};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A way from the adapter to itself.
struct Path {
    hfi: Hfi<EmuBus>,
    send: SendContext<EmuBus>,
    recv: RecvContext<EmuBus>,
    fill: u16,
}

impl Path {
    fn new(hfi: &Hfi<EmuBus>) -> Self {
        let send = hfi.send_context(Blocks(64)).unwrap();
        let recv = hfi.recv_context(RecvConfig::default()).unwrap();
        Self { hfi: hfi.clone(), send, recv, fill: 0 }
    }

    /// Sends a packet with `mark` in its payload.
    fn send(&mut self, mark: u8) {
        let lid = self.hfi.lid();
        let header = header(lid, lid, self.recv.number(), self.hfi.options().job_key, 64);
        self.fill = send_pio(&self.send, self.fill, &packet(&header, &[mark; 64]));
    }

    /// The mark of the next packet that arrives within 10 ms.
    fn receive(&mut self) -> Option<u8> {
        let received = receive(&mut self.recv)?;
        let mut payload = [0; 64];
        assert_eq!((received.errors(), self.recv.copy_payload(&received, &mut payload)), (0, 64));
        self.recv.release();
        Some(payload[0])
    }

    /// Puts both ends in order after a freeze.
    fn recover(&mut self) -> Result<(), ContextError> {
        self.recv.recover()?;
        self.send.restart()?;
        self.fill = 0;
        Ok(())
    }

    /// Three packets, of which the second is the one at which the planned fault happens; those that arrive.
    fn send_three(&mut self) -> Vec<u8> {
        let one = |mark| {
            self.send(mark);
            let arrived = self.receive();
            // A freeze takes the chip a moment.
            self.hfi.bus().pause(Duration::from_micros(10));
            arrived
        };
        (1..=3).filter_map(one).collect()
    }
}

/// Takes what there still is to be told. A source that is cleared while its cause stands is set once more.
fn quiet(hfi: &Hfi<EmuBus>) {
    let any = std::iter::repeat_with(|| hfi.service_interrupts().unwrap().any).take_while(|any| *any).take(4).count();
    assert!(any < 4, "interrupts that don't end");
    let _ = hfi.irq().unwrap().take();
}

fn after_one(bench: &Bench, fault: ChipFault) {
    assert!(bench.adapter.inject(Fault::Chip(fault), 0, 1));
}

/// Every error of the chip's registers, one after the other on one adapter.
#[test]
fn each_error_is_counted_by_its_bit_and_only_some_freeze() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let hfi = bench.active();
    quiet(&hfi);
    for fault in ChipFault::ALL {
        let Some((status, field)) = fault.error() else { continue };
        let name = fault.name();
        let freezes = freezing::bits_of(&status) & field.mask() != 0;
        // While the link is up the LCB is the 8051's: its errors are masked, and the host couldn't look at them.
        let told = status != csr::DC_LCB_ERR_FLG;
        let before = hfi.counts().freezes.load(Ordering::Relaxed);
        let mut path = Path::new(&hfi);
        after_one(&bench, *fault);
        let arrived = path.send_three();
        assert_eq!(arrived.len(), if freezes { 2 } else { 3 }, "{name}: {arrived:?}");
        assert_eq!(hfi.irq().unwrap().take().unwrap(), told, "{name}: the interrupt");
        let serviced = hfi.service_interrupts().unwrap();
        assert_eq!((serviced.any, serviced.frozen, serviced.link), (told, freezes, LinkState::Active), "{name}");
        assert_eq!(hfi.counts().error(&status, field), u64::from(told), "{name}");
        assert_eq!(hfi.counts().freezes.load(Ordering::Relaxed) - before, u64::from(freezes), "{name}");
        assert_eq!(hfi.bus().read64(csr::CCE_STATUS.off()), 0, "{name}");
        quiet(&hfi);
        assert_eq!(path.send.is_halted(), freezes, "{name}");
        if freezes {
            path.recover().unwrap();
        }
        assert_eq!(path.send_three(), [1, 2, 3], "{name}: and it goes on");
    }
    assert_eq!(bench.adapter.unmodelled(), []);
}

/// The indicators of a freeze, or of its end, don't come: the wait ends, and the chip is used all the same.
#[test]
fn a_freeze_that_is_not_shown_is_not_waited_for_without_end() {
    for fault in [ChipFault::FreezeUnseen, ChipFault::UnfreezeUnseen] {
        let bench = Bench::new(Icode::FunctionalSimulator);
        let hfi = bench.active();
        let mut path = Path::new(&hfi);
        after_one(&bench, fault);
        assert_eq!(path.send_three(), [1, 2]);
        let start = hfi.bus().now();
        assert!(hfi.service_interrupts().unwrap().frozen);
        assert!(hfi.bus().now().since(start) < Duration::from_secs(2));
        assert_eq!(hfi.counts().freeze_timeouts.load(Ordering::Relaxed), 1);
        path.recover().unwrap();
        assert_eq!(path.send_three(), [1, 2, 3]);
    }
}

/// Packets that had arrived before a freeze are still given out; what was under way is lost, and nothing comes twice.
#[test]
fn what_had_arrived_before_a_freeze_is_not_lost() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let hfi = bench.active();
    let mut path = Path::new(&hfi);
    assert!(bench.adapter.inject(Fault::Chip(ChipFault::PioStateMachine), 0, 2));
    // Five packets at once: the third brings the freeze, which takes 2 us to come.
    (1..=5).for_each(|mark| path.send(mark));
    hfi.bus().pause(Duration::from_micros(10));
    (6..=8).for_each(|mark| path.send(mark));
    assert!(hfi.service_interrupts().unwrap().frozen);
    let arrived: Vec<u8> = std::iter::from_fn(|| path.receive()).collect();
    assert!(arrived.len() >= 3 && arrived.iter().eq([1, 2, 3, 4, 5][..arrived.len()].iter()), "{arrived:?}");
    path.recover().unwrap();
    assert_eq!(path.receive(), None, "nothing comes back");
    assert_eq!(path.send_three(), [1, 2, 3]);
}

/// An SDMA engine is stopped and cleaned by a freeze; started again, it begins at slot 0.
#[test]
fn an_engine_recovers_from_freezes() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let hfi = bench.active();
    let mut path = Path::new(&hfi);
    let mut engine = hfi.sdma_engine(64).unwrap();
    let memory = hfi.bus().dma_alloc(4096).unwrap();
    for round in 0..5 {
        let lid = hfi.lid();
        let header = header(lid, lid, path.recv.number(), hfi.options().job_key, 64);
        let mut tail = 0;
        for mark in 0..10 {
            tail = common::send_sdma(&engine, tail, &memory, &packet(&header, &[mark; 64]));
            assert_eq!(path.receive(), Some(mark), "round {round}");
        }
        assert_eq!(engine.error_status(), 0);
        after_one(&bench, ChipFault::SdmaRpyTag);
        path.send_three();
        assert!(hfi.service_interrupts().unwrap().frozen);
        assert_ne!(engine.error_status(), 0);
        path.recover().unwrap();
        engine.restart().unwrap();
    }
    assert_eq!(bench.adapter.counts().dma_faults, 0);
}

#[test]
fn an_interrupt_that_gets_lost_is_found_by_who_looks_now_and_then() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let hfi = bench.active();
    let mut path = Path::new(&hfi);
    quiet(&hfi);
    after_one(&bench, ChipFault::LostInterrupt);
    assert_eq!(path.send_three(), [1, 2, 3]);
    after_one(&bench, ChipFault::CceLaTriggered);
    assert_eq!(path.send_three(), [1, 2, 3]);
    assert!(!hfi.irq().unwrap().take().unwrap(), "the message got lost");
    assert!(hfi.service_interrupts().unwrap().any);
    quiet(&hfi);
    // After that its vector is raised again.
    after_one(&bench, ChipFault::CceLaTriggered);
    assert_eq!(path.send_three(), [1, 2, 3]);
    assert!(hfi.irq().unwrap().take().unwrap());
}

/// An event that can't be handled doesn't keep others from being handled: the chip isn't left frozen.
#[test]
fn a_freeze_is_ended_although_the_8051_is_mute() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut path = Path::new(&hfi);
    quiet(&hfi);
    // The link can't be taken offline without the 8051, and it is looked at before the chip is unfrozen.
    for (after, fault) in
        [ChipFault::Dc8051Mute, ChipFault::PioStateMachine, ChipFault::LinkSignalLost].iter().enumerate()
    {
        assert!(bench.adapter.inject(Fault::Chip(*fault), 0, after as u64));
    }
    (1..=3).for_each(|mark| path.send(mark));
    hfi.bus().pause(Duration::from_micros(100));
    let error = hfi.service_interrupts().unwrap_err();
    assert!(!error.is_gone(), "{error}");
    assert!(matches!(hfi.link_state(), LinkState::Down(_)));
    assert_eq!(hfi.freezes(), 2, "for the link, and for the error");
    assert_eq!(hfi.bus().read64(csr::CCE_STATUS.off()), 0, "nobody left it frozen");
}

#[test]
fn an_interrupt_without_cause_does_nothing() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let hfi = bench.active();
    let mut path = Path::new(&hfi);
    quiet(&hfi);
    after_one(&bench, ChipFault::SpuriousInterrupt);
    assert_eq!(path.send_three(), [1, 2, 3]);
    assert!(hfi.irq().unwrap().take().unwrap());
    let serviced = hfi.service_interrupts().unwrap();
    assert_eq!((serviced.any, serviced.frozen), (false, false));
}

#[test]
fn a_link_that_goes_down_by_itself_can_be_brought_up_again() {
    for icode in [Icode::Silicon, Icode::FunctionalSimulator] {
        let bench = Bench::new(icode);
        let hfi = bench.active();
        for (fault, reason) in [
            (ChipFault::LinkSignalLost, DownReason::SignalLost),
            (ChipFault::LinkDownByNeighbor, DownReason::Neighbor(37)),
        ] {
            let mut path = Path::new(&hfi);
            after_one(&bench, fault);
            let arrived = path.send_three();
            assert!(!arrived.contains(&3), "{arrived:?}");
            assert_eq!(hfi.service_interrupts().unwrap().link, LinkState::Down(reason));
            assert_eq!((hfi.link_info(), hfi.lid().0), (None, 0));
            // A receive context can be put in order at once, a sender when the link is up again.
            let error = path.recover().unwrap_err();
            assert!(matches!(error, ContextError::LinkDown { .. }), "{error}");
            assert!(path.send.is_halted());
            hfi.link_up(LinkMode::Loopback).unwrap();
            path.recover().unwrap();
            assert_eq!(path.send_three(), [1, 2, 3]);
        }
    }
}

#[test]
fn packets_go_on_without_the_8051_and_bringing_the_link_up_restarts_it() {
    for icode in [Icode::Silicon, Icode::FunctionalSimulator] {
        for fault in [ChipFault::Dc8051Dead, ChipFault::Dc8051Mute] {
            let bench = Bench::new(icode);
            let hfi = bench.active();
            let mut path = Path::new(&hfi);
            quiet(&hfi);
            after_one(&bench, fault);
            assert_eq!(path.send_three(), [1, 2, 3]);
            let heartbeats = u64::from(fault == ChipFault::Dc8051Dead);
            for _ in 0..3 {
                assert_eq!(hfi.service_interrupts().unwrap().link, LinkState::Active);
            }
            assert_eq!(hfi.counts().lost_heartbeats.load(Ordering::Relaxed), heartbeats);
            assert_eq!(path.send_three(), [1, 2, 3]);
            if fault == ChipFault::Dc8051Dead {
                // The driver knows, and starts it anew.
                hfi.link_up(LinkMode::Loopback).unwrap();
            } else {
                // The driver learns of it from a command that isn't answered: another way of linking needs some.
                let mode = LinkMode::Cable { timeout: Duration::from_millis(10) };
                let error = hfi.link_up(mode).unwrap_err();
                assert!(error.to_string().contains("DC_DC8051_CFG_HOST_CMD_1"), "{error}");
                hfi.link_up(LinkMode::Loopback).unwrap();
            }
            path.recover().unwrap();
            assert_eq!(path.send_three(), [1, 2, 3]);
        }
    }
}

#[test]
fn a_chip_that_is_too_hot_stays_frozen() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let hfi = bench.active();
    let mut path = Path::new(&hfi);
    after_one(&bench, ChipFault::Overheated);
    assert_eq!(path.send_three(), [1, 2, 3]);
    assert_eq!(hfi.service_interrupts().unwrap().link, LinkState::Down(DownReason::Overheated));
    assert_eq!(hfi.counts().overheated.load(Ordering::Relaxed), 1);
    let error = hfi.send_context(Blocks(8)).unwrap_err();
    assert!(matches!(error, ContextError::Overheated { .. }), "{error}");
    let error = hfi.link_up(LinkMode::Loopback).unwrap_err();
    assert!(matches!(error, LinkError::Overheated { .. }), "{error}");
    drop((path, hfi));
    // A cool chip is opened again.
    assert_eq!(Path::new(&bench.active()).send_three(), [1, 2, 3]);
}
