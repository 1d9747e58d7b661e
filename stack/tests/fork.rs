//! A child that is forked while an endpoint is open: it is refused everything and harms nothing, also when it drops its copy of
//! the endpoint. A program of its own with one thread, because only such a one may go on in a child as it likes.
#![allow(unsafe_code)]

mod common;

use common::{bench, data};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use opx_bus::{PciFunction, SharedMem};
use opx_defs::csr;
use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::{
    Completion, Config, Domain, Endpoint, EndpointError, OpenError, Pattern, ReceiveError, SendError, WaitError,
};

/// A domain whose thread the child doesn't have.
fn domain() -> (Lab, Domain<EmuBus>) {
    let lab = Lab::new(Pacing::Real);
    let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    (lab, Domain::open(&hfi).unwrap())
}

/// The thread may have held any lock when the child was forked. The child takes none, drops what it has, and ends at once.
fn a_child_without_its_parents_thread_is_refused() {
    let (_lab, domain) = domain();
    let queue = domain.completion_queue(4);
    let endpoint = domain.endpoint(Config::default(), &queue).unwrap();
    // SAFETY: the child takes no lock that the other threads may have held, but the allocator's, which the C library sees to.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let refused = endpoint.lock().is_err()
                && queue.read().is_none()
                && matches!(queue.wait(None), Err(WaitError::Forked));
            drop(endpoint);
            drop(queue);
            drop(domain);
            // SAFETY: ends the child without running what its parent has set up for its own end.
            unsafe { nix::libc::_exit(i32::from(!refused)) }
        }
        ForkResult::Parent { child } => assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0)),
    }
    endpoint.lock().unwrap().send(endpoint.address(), data(3, 100), 7).unwrap();
    assert!(matches!(queue.wait(None).unwrap().completion, Completion::Sent { context: 7, .. }));
}

/// What the child does with its copy.
fn in_child(mut bench: common::Bench) -> bool {
    let to = bench.b.address();
    let any = Pattern { tag: 0, ignore: u64::MAX, source: None };
    let refused = [
        matches!(bench.a.progress(), Err(EndpointError::Forked)),
        matches!(bench.a.tag_inject(to, 1, &[1]), Err(SendError::Forked)),
        bench
            .a
            .tag_send(to, 1, vec![1; 100], 1)
            .is_err_and(|it| it.error == SendError::Forked && it.buffer.len() == 100),
        bench.a.send(to, vec![1; 100_000], 1).is_err_and(|it| it.error == SendError::Forked),
        bench.b.tag_receive(any, vec![0; 100], 1).is_err_and(|it| it.error == ReceiveError::Forked),
        bench.b.receive(None, vec![0; 100], 1).is_err_and(|it| it.error == ReceiveError::Forked),
        bench.b.multi_receive(None, SharedMem::new(1).unwrap(), 1).is_err_and(|it| it.error == ReceiveError::Forked),
        bench.b.tag_discard(any) == Err(ReceiveError::Forked),
        bench.b.discard(None) == Err(ReceiveError::Forked),
        matches!(Endpoint::open(&bench.hfi, Config::default()), Err(OpenError::Context(_))),
        bench.hfi.temperature().is_err(),
    ];
    bench.a.cancel_all();
    // What the child drops are its parent's contexts and engines: they run on.
    let common::Bench { hfi, adapter: _adapter, a, b } = bench;
    let (bus, rx, ctxt) = (hfi.bus().clone(), u32::from(a.address().rx), u32::from(a.send_context().0));
    let registers = || {
        let receive = [csr::RCV_CTXT_CTRL.at(rx), csr::RCV_HDR_ADDR.at(rx), csr::RCV_CTRL.off()];
        receive
            .into_iter()
            .chain([csr::SEND_CTXT_CTRL.at(ctxt), csr::SEND_CTRL.off()])
            .map(|at| bus.read64(at))
            .collect()
    };
    let before: Vec<u64> = registers();
    drop((a, b, hfi));
    let after: Vec<u64> = registers();
    println!("in the child: {refused:?}, registers {before:x?} then {after:x?}");
    refused == [true; 11] && before == after && !before.contains(&0)
}

fn main() {
    let mut bench = bench(Config::default());
    let to = bench.b.address();
    // Something is under way in each direction and by each protocol, and something waits.
    bench.b.tag_receive(Pattern::exact(1), vec![0; 50_000], 1).unwrap();
    bench.a.tag_send(to, 1, data(1, 50_000), 2).unwrap();
    bench.a.tag_send(to, 9, data(9, 3000), 3).unwrap();
    bench.run(|bench| bench.b.counters().unexpected_messages == 1);
    // SAFETY: this program has one thread, so the child may do all that its parent may.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => std::process::exit(i32::from(!in_child(bench))),
        ForkResult::Parent { child } => assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0)),
    }
    let Completion::Received { context: 1, len, buffer, .. } = bench.next_at_b() else { panic!() };
    assert_eq!(&buffer.bytes()[..len], data(1, 50_000));
    bench.b.tag_receive(Pattern::exact(9), vec![0; 3000], 4).unwrap();
    let Completion::Received { context: 4, buffer, .. } = bench.next_at_b() else { panic!() };
    assert_eq!(buffer, data(9, 3000));
    bench.quiet();
    // A new endpoint finds contexts and memory as they should be.
    let mut third = Endpoint::open(&bench.hfi, Config::default()).unwrap();
    bench.a.tag_send(third.address(), 5, data(5, 20_000), 5).unwrap();
    third.tag_receive(Pattern::exact(5), vec![0; 20_000], 6).unwrap();
    bench.run(|_| {
        third.progress().unwrap();
        third.poll_completion().is_some_and(|it| matches!(it, Completion::Received { context: 6, .. }))
    });
    // Last, as it starts threads.
    a_child_without_its_parents_thread_is_refused();
    println!("a forked child harms nothing: ok");
}
