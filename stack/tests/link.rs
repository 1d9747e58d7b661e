//! A cable that is pulled and not put back: sends wait for it for as long as is set, then fail, and the endpoint can be closed.

use opx_bus::{PciFunction, SharedMem, poll};
use opx_defs::units::Guid;
use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, LinkState, Options};
use opx_stack::{Buffer, Completion, Config, Endpoint, OperationError, Pattern, SendError};
use std::time::Duration;

const CABLE: LinkMode = LinkMode::Cable { timeout: Duration::from_secs(5) };
const WAIT: Duration = Duration::from_secs(3);

#[test]
fn sends_fail_when_the_link_stays_down_and_the_endpoint_can_be_closed() {
    fail_when_the_link_stays_down(|byte, len| vec![byte; len].into());
}

#[test]
fn sends_of_memory_that_the_engine_reads_fail_when_the_link_stays_down() {
    fail_when_the_link_stays_down(|byte, len| {
        let memory = SharedMem::new(len).unwrap();
        memory.write(0, &vec![byte; len]);
        memory.into()
    });
}

fn fail_when_the_link_stays_down(buffer: impl Fn(u8, usize) -> Buffer) {
    let lab = Lab::new(Pacing::Virtual);
    let adapters = [1, 2].map(|n| {
        let link_time = Duration::from_millis(2);
        lab.add(Chip { icode: Icode::FunctionalSimulator, guid: Guid(n), link_time, ..Chip::default() })
    });
    lab.cable(&adapters[0], &adapters[1]);
    let hfis = adapters.each_ref().map(|adapter| Hfi::open(adapter.bus(), Options::default()).unwrap());
    hfis.iter().for_each(|hfi| hfi.link_begin(CABLE).unwrap());
    poll::until(hfis[0].bus(), Duration::from_secs(5), || {
        let states = hfis.each_ref().map(|hfi| hfi.link_advance().unwrap());
        (states == [LinkState::Active; 2]).then_some(())
    })
    .unwrap();

    let reliability = opx_reliability::Config {
        link_down_wait: WAIT,
        // Shorter: while the link is down no peer is blamed.
        give_up_after: Duration::from_secs(1),
        ..opx_reliability::Config::default()
    };
    let config = Config { health_interval: Duration::from_millis(1), reliability, ..Config::default() };
    let mut a = Endpoint::open(&hfis[0], config.clone()).unwrap();
    let mut b = Endpoint::open(&hfis[1], config.clone()).unwrap();
    let mut c = Endpoint::open(&hfis[1], config).unwrap();
    let (bus, to) = (hfis[0].bus().clone(), b.address());
    let turn = |a: &mut Endpoint<EmuBus>, b: &mut Endpoint<EmuBus>| {
        if !(a.progress().unwrap() | b.progress().unwrap()) {
            bus.relax();
        }
    };

    // One message is offered to somebody who doesn't want it yet: nothing of it is outstanding, and it must fail all the same.
    a.tag_send(c.address(), 9, buffer(9, 1 << 20), 9).unwrap();
    while a.reliability_counters().acks_received == 0 {
        turn(&mut a, &mut c);
    }
    assert_eq!(c.counters().unexpected_messages, 1);

    // One message gets through, then the cable is pulled in the middle of a long one.
    b.tag_receive(Pattern::exact(1), vec![0; 100], 1).unwrap();
    b.tag_receive(Pattern::exact(2), buffer(0, 4 << 20), 2).unwrap();
    a.tag_send(to, 1, vec![1; 100], 1).unwrap();
    while a.poll_completion().is_none() {
        turn(&mut a, &mut b);
    }
    a.tag_send(to, 2, buffer(2, 4 << 20), 2).unwrap();
    let packets = b.counters().packets_in;
    while b.counters().packets_in < packets + 20 {
        turn(&mut a, &mut b);
    }
    lab.pull(&adapters[0]);
    let pulled = bus.now();
    while hfis[0].link_state().is_up() {
        turn(&mut a, &mut b);
    }
    // What is sent now waits as well.
    a.tag_send(to, 3, vec![3; 100], 3).unwrap();

    let mut failed = Vec::new();
    while failed.len() < 3 {
        assert!(bus.now() < pulled + WAIT * 2, "{failed:?} after {:?}", bus.now().since(pulled));
        turn(&mut a, &mut b);
        while let Some(completion) = a.poll_completion() {
            let Completion::Failed { context, error, buffer } = completion else { panic!("{completion:?}") };
            let whom = if context == 9 { c.address() } else { to };
            assert_eq!(error, OperationError::Unreachable(whom));
            assert!(!buffer.is_empty(), "the buffer comes back");
            failed.push(context);
        }
    }
    failed.sort();
    assert_eq!(failed, [2, 3, 9]);
    assert!(bus.now() >= pulled + WAIT, "not before its time");
    assert_eq!(a.tag_send(to, 4, vec![4], 4).unwrap_err().error, SendError::Unreachable(to));
    let other = opx_stack::Address { rx: to.rx + 1, ..to };
    assert_eq!(a.tag_send(other, 4, vec![4], 4).unwrap_err().error, SendError::LinkDown(other));
    b.cancel_all();
    let mut ends = std::iter::from_fn(|| b.poll_completion());
    assert!(ends.any(|end| matches!(end, Completion::Failed { context: 2, .. })), "the receive ends, too");
    drop((a, b, c));
    drop(hfis);
}
