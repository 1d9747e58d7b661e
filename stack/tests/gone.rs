//! An adapter that goes away at any read of a register, whatever is done with it just then: it is told as one that is gone.

use opx_bus::PciFunction;
use opx_bus::fault::{Fault, Faulty};
use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::{Completion, Config, Domain, EndpointError, OperationError, WaitError};
use std::sync::Arc;
use std::time::Duration;

/// How long the endpoint is driven: some looks at the adapter, and some sleeps.
const TIME: Duration = Duration::from_millis(10);

/// Opens an endpoint, drives it for [`TIME`] with one receive posted, and then some more with an adapter that is gone after
/// `reads` more reads; gives the reads of the first time, and why the endpoint failed.
fn drive(reads: u64) -> (u64, Arc<EndpointError>) {
    let lab = Lab::new(Pacing::Virtual);
    let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    let bus: Faulty<EmuBus> = Faulty::new(adapter.bus(), Vec::new());
    let hfi = Hfi::open(bus.clone(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    let domain = Domain::open(&hfi).unwrap();
    let mut set = domain.poll_set();
    let config = Config { health_interval: Duration::from_millis(1), interrupts: true, ..Config::default() };
    let id = set.open(config).unwrap();
    set.endpoint(id).unwrap().receive(None, vec![0; 8], 1).unwrap();
    let before = bus.reads();
    let end = bus.now() + TIME;
    while bus.now() < end {
        assert!(matches!(set.wait(Some(TIME)), Err(WaitError::TimedOut)));
    }
    let read = bus.reads() - before;
    bus.add(Fault::GoneAfterReads { after: bus.reads() + reads });
    let Completion::Failed { context: 1, error: OperationError::EndpointFailed, .. } =
        set.wait(None).unwrap().completion
    else {
        panic!("the receive didn't fail with the endpoint");
    };
    let Err(WaitError::EndpointFailed(failed)) = set.wait(None) else { panic!("it isn't told") };
    (read, failed.why)
}

#[test]
fn an_adapter_that_goes_away_at_any_read_is_told_as_gone() {
    let (reads, _) = drive(0);
    assert!(reads > 20, "only {reads} reads");
    for after in 0..reads {
        let (_, why) = drive(after);
        let EndpointError::Gone { adapter, why } = &*why else { panic!("after {after} reads: {why:?}") };
        assert!(
            !adapter.is_empty() && (why.contains("all ones") || why.contains("an injected fault")),
            "after {after} reads: {why}"
        );
    }
}
