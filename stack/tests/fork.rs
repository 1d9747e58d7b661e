//! A child that is forked while an endpoint is open: it is refused everything and harms nothing, also when it drops its copy of
//! the endpoint. A program of its own with one thread, because only such a one may go on in a child as it likes.
#![allow(unsafe_code)]

mod common;

use common::{bench, data};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use opx_bus::{PciFunction, SharedMem};
use opx_defs::csr;
use opx_defs::rsm::{RsmRule, bit};
use opx_defs::time::Instant;
use opx_defs::units::{Blocks, Lid};
use opx_defs::wire::opx::Generation;
use opx_defs::wire::rhf::RcvType;
use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::recv::ExpectedCounts;
use opx_hw::{
    ExpectedBuffer, Flow, Hfi, LinkMode, LinkState, Memory, Options, PioRoom, RecvConfig, RecvContext, SdmaEngine,
    SendContext, Steering, TransferBuffer,
};
use opx_stack::atomics::{AtomicOp, Datatype, Op};
use opx_stack::fabric::AccessError;
use opx_stack::observe::{Interface, Tap};
use opx_stack::regions::{Access, MemoryRegion, RegionError, RegisterError, Registration};
use opx_stack::{
    Atomic, Completion, CompletionQueue, Config, Counter, CounterError, Counting, Domain, Endpoint, EndpointError,
    EndpointFailed, EndpointId, OpenError, Pattern, PollSet, ReceiveError, ReceiveId, Remote, RequestError, SendError,
    SharedEndpoint, WaitError,
};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a program may have of the fabric layer when it forks, but for a poll set.
struct Everything {
    domain: Domain<EmuBus>,
    queue: CompletionQueue,
    shared: SharedEndpoint<EmuBus>,
    counter: Counter,
    region: MemoryRegion,
}

/// What it may have of the adapter itself, and a capture.
struct Hardware {
    hfi: Hfi<EmuBus>,
    buffer: ExpectedBuffer<EmuBus>,
    flow: Flow<EmuBus>,
    _steering: Steering<EmuBus>,
    transfer: TransferBuffer<EmuBus>,
    memory: Memory,
    context: RecvContext<EmuBus>,
    engine: SdmaEngine<EmuBus>,
    sender: SendContext<EmuBus>,
    tap: Tap,
}

const NOW: Option<Duration> = Some(Duration::ZERO);
/// Threads that take locks, and those of them that take the adapter's.
const THREADS: usize = 6;
const HARDWARE_THREADS: usize = 7;

fn everything(hfi: &Hfi<EmuBus>) -> Everything {
    let domain = Domain::open(hfi).unwrap();
    let queue = domain.completion_queue(4);
    let shared = domain.endpoint(Config::default(), &queue).unwrap();
    let counter = Counter::new();
    shared.count(Counting::sends(&counter));
    let region = domain.regions().register(Registration::of(SharedMem::new(64).unwrap(), Access::ATOMIC)).unwrap();
    Everything { domain, queue, shared, counter, region }
}

fn hardware(hfi: &Hfi<EmuBus>, directory: &Path) -> Hardware {
    let config = RecvConfig { expected_entries: 64, transfer_entries: 64, flows: true, ..RecvConfig::default() };
    let context = hfi.recv_context(config).unwrap();
    let memory = hfi.memory(1 << 16).unwrap();
    Hardware {
        hfi: hfi.clone(),
        buffer: context.expect(&memory, 0..100).unwrap(),
        flow: context.flow(false).unwrap(),
        _steering: hfi.steer(rule(), &[context.number(); 2]).unwrap(),
        transfer: context.expect_transfer(&memory, 0..100).unwrap(),
        memory,
        context,
        engine: hfi.sdma_engine(64).unwrap(),
        sender: hfi.send_context(Blocks(4)).unwrap(),
        tap: Tap::create(&directory.join("forked.pcapng"), Generation::G4).unwrap(),
    }
}

fn rule() -> RsmRule {
    RsmRule::new(RcvType::Bypass).field1(bit::L2, 3, 2).index1(bit::ENTROPY, 1)
}

/// Takes a lock of the adapter's, and gives it back.
fn take_hardware_lock(number: usize, all: &Hardware) {
    let Hardware { hfi, context, memory, tap, flow, engine, .. } = all;
    match number {
        0 => assert!(hfi.link_state().is_up() && hfi.link_info().is_some()),
        1 => tap.packet(Interface::Send, Instant::ZERO, &[&[0; 56]]),
        2 => assert!(hfi.pio_room().contexts > 0 && hfi.counters().is_ok()),
        3 => drop((context.expect(memory, 0..5000).unwrap(), context.flow(false).unwrap(), flow.state().unwrap())),
        4 => {
            context.expect_transfer(memory, 4096..8192).unwrap().end(Duration::ZERO);
            engine.error_status();
        }
        5 => drop((hfi.link_advance().unwrap(), hfi.steer(rule(), &[context.number(); 2]).unwrap())),
        _ => assert!(hfi.service_interrupts().is_ok()),
    }
}

/// What the child isn't refused of the adapter, a bit for each.
fn hardware_not_refused(all: &mut Hardware) -> u32 {
    let Hardware { hfi, buffer, flow, transfer, memory, context, engine, sender, tap, .. } = all;
    tap.packet(Interface::Receive, Instant::ZERO, &[&[0; 56]]);
    context.forget(memory, 0..100);
    transfer.end(Duration::ZERO);
    let refused = [
        hfi.link_state() == LinkState::Offline && hfi.link_info().is_none() && hfi.lid() == Lid(0),
        hfi.link_up(LinkMode::Loopback).is_err() && hfi.link_begin(LinkMode::Loopback).is_err(),
        hfi.link_advance().is_err() && hfi.service_interrupts().is_err(),
        hfi.counters().is_err() && hfi.pio_room() == PioRoom::default(),
        hfi.send_context(Blocks(4)).is_err() && hfi.sdma_engine(64).is_err(),
        hfi.recv_context(RecvConfig::default()).is_err(),
        hfi.memory(4096).is_err() && hfi.map(memory.memory()).is_err(),
        hfi.steer(rule(), &[context.number(); 2]).is_err() && hfi.map_queue_pair(2, None).is_err(),
        hfi.bypass_to(None).is_err(),
        context.expect(memory, 0..100).is_err() && context.expect_transfer(memory, 0..100).is_err(),
        context.expected_counts() == ExpectedCounts::default() && !buffer.is_valid(),
        context.flow(false).is_err() && flow.state().is_err() && flow.advance(1).is_err() && flow.rearm().is_err(),
        engine.error_status() == u64::MAX && engine.enable_interrupts().is_err() && engine.restart().is_err(),
        sender.reset().is_err() && sender.refusals().is_err() && context.recover().is_err(),
        tap.packets() == 0,
    ];
    refused.iter().zip(0..).map(|(&refused, bit)| u32::from(!refused) << bit).sum()
}

fn add_one(region: &MemoryRegion, at: u64) -> Result<(), RegionError> {
    let sum = AtomicOp::new(Op::Sum, Datatype::Uint64).unwrap();
    region.slice(at, 8, Access::ATOMIC)?.apply(&sum, &1u64.to_le_bytes())
}

/// Takes a lock of the fabric layer, and gives it back.
fn take_lock(number: usize, all: &Everything) {
    let Everything { domain, queue, shared, counter, region } = all;
    match number {
        0 => assert!(matches!(queue.wait(NOW), Err(WaitError::TimedOut))),
        1 => assert!(domain.events().read().is_none()),
        2 => assert!(matches!(counter.wait(u64::MAX, NOW), Err(CounterError::TimedOut { .. }))),
        3 => drop(domain.regions().register(Registration::of(region.memory().clone(), Access::ATOMIC)).unwrap()),
        4 => add_one(region, 0).unwrap(),
        _ => {
            assert!(shared.lock().is_ok() && domain.has_thread());
            // So that others get it, too.
            std::thread::yield_now();
        }
    }
}

/// What the child isn't refused, a bit for each. It prints nothing: the lock for that may be held, too.
fn not_refused(set: &mut PollSet<EmuBus>, own: EndpointId, all: &Everything) -> u32 {
    let Everything { domain, queue, shared, counter, region } = all;
    let forked = |failed: EndpointFailed| matches!(*failed.why, EndpointError::Forked);
    let access = |error| matches!(error, AccessError::Failed(failed) if matches!(*failed.why, EndpointError::Forked));
    counter.add(1);
    queue.signal();
    shared.count(Counting::sends(counter));
    let refused = [
        matches!(Domain::open(domain.hfi()), Err(OpenError::Forked)),
        matches!(Endpoint::open(domain.hfi(), Config::default()), Err(OpenError::Forked)),
        matches!(domain.endpoint(Config::default(), queue), Err(OpenError::Forked)),
        matches!(domain.completion_queue(1).wait(None), Err(WaitError::Forked)),
        !domain.has_thread(),
        domain.events().read().is_none() && domain.events().lost() == 0,
        matches!(domain.events().wait(None), Err(WaitError::Forked)),
        queue.read().is_none() && queue.read_many(&mut Vec::new(), 9) == 0 && queue.fd().is_err(),
        matches!(queue.wait(None), Err(WaitError::Forked)),
        counter.wait(u64::MAX, None) == Err(CounterError::Forked),
        shared.lock().is_err_and(forked),
        set.progress().is_err_and(forked) && set.poll().is_err_and(forked) && set.read().is_none(),
        matches!(set.wait(None), Err(WaitError::Forked)),
        matches!(set.open(Config::default()), Err(OpenError::Forked)),
        set.endpoint(own).is_err_and(access),
        set.count(own, Counting::sends(counter)).is_err_and(access),
        set.close(own).is_err_and(access),
        domain.regions().is_empty() && add_one(region, 8) == Err(RegionError::Forked),
        matches!(
            domain.regions().register(Registration::of(region.memory().clone(), Access::ATOMIC)),
            Err(RegisterError::Forked)
        ),
    ];
    refused.iter().zip(0..).map(|(&refused, bit)| u32::from(!refused) << bit).sum()
}

/// Its threads may have held any lock when the child was forked. The child takes none, drops what it has, and ends at once.
fn a_child_without_its_parents_threads_is_refused() {
    let lab = Lab::new(Pacing::Real);
    let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    let all = everything(&hfi);
    let mut set = all.domain.poll_set();
    let own = set.open(Config::default()).unwrap();
    // What the child reports: in memory that it shares with its parent.
    let report = SharedMem::new(16).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let hardware = hardware(&hfi, directory.path());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let (all, stop) = (&all, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    take_lock(number, all);
                }
            });
        }
        let hardware = &hardware;
        for number in 0..HARDWARE_THREADS {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    take_hardware_lock(number, hardware);
                }
            });
        }
        for round in 0..60 {
            // Now and then this thread has the endpoint itself.
            let guard = (round % 3 == 0).then(|| all.shared.lock().unwrap());
            // SAFETY: the child takes no lock that the other threads may have held, but the allocator's, which the C library sees to.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    // SAFETY: a child that waits for ever after all is ended by it.
                    unsafe { nix::libc::alarm(120) };
                    drop(guard);
                    report.write_u64(0, not_refused(&mut set, own, &all).into());
                    // SAFETY: nobody else uses it: the child has this thread only.
                    let mut copy = unsafe { std::ptr::read(hardware) };
                    report.write_u64(8, hardware_not_refused(&mut copy).into());
                    drop(copy);
                    // SAFETY: nobody uses them any more: the child has this thread only, which ends here.
                    drop(unsafe { (std::ptr::read(&set), std::ptr::read(&all)) });
                    // SAFETY: ends the child without running what its parent has set up for its own end.
                    unsafe { nix::libc::_exit(0) }
                }
                ForkResult::Parent { child } => {
                    drop(guard);
                    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0), "round {round}");
                    let reports = [report.read_u64(0), report.read_u64(8)];
                    assert_eq!(reports, [0, 0], "each bit is one that it wasn't refused");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    // What the parent has of the adapter is as it was.
    let Hardware { hfi: here, buffer, mut flow, context, memory, .. } = hardware;
    assert!(here.link_state().is_up() && buffer.is_valid() && flow.rearm().is_ok());
    assert!(context.expect_transfer(&memory, 0..100).is_ok());
    let Everything { queue, shared, counter, region, .. } = all;
    assert_eq!((counter.read(), counter.errors(), region.memory().read_u64(8)), (0, 0, 0));
    let to = set.endpoint(own).unwrap().address();
    set.endpoint(own).unwrap().receive(None, vec![0; 100], 1).unwrap();
    shared.lock().unwrap().send(to, data(3, 100), 7).unwrap();
    let received = set.wait(Some(Duration::from_secs(120))).unwrap().completion;
    assert!(matches!(received, Completion::Received { context: 1, buffer, .. } if buffer == data(3, 100)));
    // Its sender knows once the set has answered.
    let mut sent = None;
    set.drive_until(Some(Duration::from_secs(120)), |_| {
        sent = queue.read();
        sent.is_some()
    })
    .unwrap();
    assert!(matches!(sent.unwrap().completion, Completion::Sent { context: 7, .. }));
    assert_eq!(counter.wait(1, None), Ok(1));
}

/// What the child does with its copy.
fn in_child(mut bench: common::Bench, posted: ReceiveId) -> bool {
    let to = bench.b.address();
    let any = Pattern { tag: 0, ignore: u64::MAX, source: None };
    let (window, forked) = (Remote { peer: to, key: 1, place: 0 }, RequestError::Send(SendError::Forked));
    let sum = AtomicOp::new(Op::Sum, Datatype::Uint64).unwrap();
    let refused = [
        matches!(bench.a.progress(), Err(EndpointError::Forked)),
        matches!(bench.a.tag_inject(to, 1, &[1]), Err(SendError::Forked)),
        bench
            .a
            .tag_send(to, 1, vec![1; 100], 1)
            .is_err_and(|it| it.error == SendError::Forked && it.buffer.len() == 100),
        bench.a.send(to, vec![1; 100_000], 1).is_err_and(|it| it.error == SendError::Forked),
        bench.b.tag_receive(any, vec![0; 100], 1).is_err_and(|it| it.error == ReceiveError::Forked),
        // Where nothing waits it would be taken without a further look.
        bench.a.tag_receive(any, vec![0; 100], 1).is_err_and(|it| it.error == ReceiveError::Forked),
        bench.b.receive(None, vec![0; 100], 1).is_err_and(|it| it.error == ReceiveError::Forked),
        bench.b.multi_receive(None, SharedMem::new(1).unwrap(), 1).is_err_and(|it| it.error == ReceiveError::Forked),
        bench.b.tag_discard(any) == Err(ReceiveError::Forked),
        bench.b.discard(None) == Err(ReceiveError::Forked),
        bench.b.tag_peek(any).is_none() && bench.b.peek(None).is_none(),
        bench.b.tag_claim(any).is_none() && bench.b.claim(None).is_none(),
        !bench.b.cancel(posted),
        matches!(Endpoint::open(&bench.hfi, Config::default()), Err(OpenError::Forked)),
        bench.hfi.temperature().is_err(),
        bench.a.write(window, vec![1; 8], 1).is_err_and(|it| it.error == forked && it.buffer.len() == 8),
        bench.a.read(window, vec![1; 8], 1).is_err_and(|it| it.error == forked && it.buffer.len() == 8),
        bench.a.inject_write(window, &[1]) == Err(forked),
        bench.a.atomic(Atomic::update(window, sum, vec![1; 8], 1)).is_err_and(|it| it.error == forked),
        bench.a.inject_atomic(window, sum, &[1; 8]) == Err(forked),
        bench.b.poll_completion().is_none() && bench.b.poll_refusal().is_none(),
    ];
    bench.a.cancel_all();
    let ended = bench.a.poll_completion().is_some();
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
    refused == [true; 21] && !ended && before == after && !before.contains(&0)
}

fn main() {
    let mut bench = bench(Config::default());
    let to = bench.b.address();
    // What has ended and what was refused, and nobody has asked yet.
    bench.b.tag_receive(Pattern::exact(7), vec![0; 8], 7).unwrap();
    bench.a.tag_inject(to, 7, &[7; 8]).unwrap();
    bench.a.inject_write(Remote { peer: to, key: 99, place: 0 }, &[1]).unwrap();
    bench.run(|bench| bench.b.counters().refused_keys == 1 && bench.b.counters().received_messages == 1);
    // Something is under way in each direction and by each protocol, and something waits.
    bench.b.tag_receive(Pattern::exact(1), vec![0; 50_000], 1).unwrap();
    bench.a.tag_send(to, 1, data(1, 50_000), 2).unwrap();
    bench.a.tag_send(to, 9, data(9, 3000), 3).unwrap();
    bench.run(|bench| bench.b.counters().unexpected_messages == 1);
    let posted = bench.b.tag_receive(Pattern::exact(8), vec![0; 8], 8).unwrap();
    // SAFETY: this program has one thread, so the child may do all that its parent may.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => std::process::exit(i32::from(!in_child(bench, posted))),
        ForkResult::Parent { child } => assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0)),
    }
    assert!(bench.b.poll_refusal().is_some());
    let Completion::Received { context: 7, buffer, .. } = bench.next_at_b() else { panic!() };
    assert_eq!(buffer, [7; 8].to_vec());
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
    a_child_without_its_parents_threads_is_refused();
    println!("a forked child harms nothing: ok");
}
