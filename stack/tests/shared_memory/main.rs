//! Peers on this machine, through its memory: every length over every boundary, order, back-pressure, what is asked of memory,
//! peers on the memory and on the cable at the same time, and sleeping.

#[path = "../common/mod.rs"]
mod common;
mod ends;
mod sleep;

use common::{Bench, bench, data};
use opx_bus::fault::{Fault, Faulty};
use opx_bus::{PciFunction, SharedMem};
use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, LinkState, Options};
use opx_stack::atomics::{AtomicOp, Datatype, Op};
use opx_stack::observe::explain::Reason;
use opx_stack::observe::{Message, Path};
use opx_stack::regions::{Access, Registration};
use opx_stack::{
    Address, Asked, Atomic, Buffer, Completion, Config, Domain, Endpoint, Level, OpenError, OperationError, Outgoing,
    Pattern, Remote, SendError, SharedMemory, SharedRange, WaitError, Write,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Lengths around what fits a slot of the ring, several, the ring's longest message, and long ones.
const LENGTHS: &[usize] = &[
    0,
    1,
    7,
    8,
    16,
    17,
    39,
    40,
    41,
    63,
    64,
    65,
    231,
    232,
    233,
    1000,
    4096,
    8191,
    8192,
    8193,
    16_191,
    16_192,
    16_193,
    16_319,
    16_320,
    16_321,
    16_384,
    16_385,
    65_535,
    65_537,
    300_001,
    1 << 20,
];
const LONG: Option<Duration> = Some(Duration::from_secs(60));

/// A job that no other test has, nor another run of this one.
fn job() -> String {
    static JOBS: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), JOBS.fetch_add(1, Ordering::Relaxed))
}

fn config() -> Config {
    Config { shared_memory: SharedMemory::of_job(job()), ..Config::default() }
}

fn local_bench() -> Bench {
    bench(config())
}

fn shared(bytes: &[u8]) -> Buffer {
    let memory = SharedMem::new(bytes.len() + 77).unwrap();
    memory.write(33, bytes);
    SharedRange::new(memory, 33, bytes.len()).unwrap().into()
}

fn vector(bytes: &[u8]) -> Buffer {
    let (head, tail) = bytes.split_at(bytes.len() / 3);
    [Buffer::from(head.to_vec()), Buffer::default(), shared(tail)].into_iter().collect()
}

/// No message went over the wire.
fn no_packets(bench: &Bench) {
    assert_eq!([bench.a.counters().packets_in, bench.b.counters().packets_in], [0, 0]);
}

#[test]
fn messages_of_every_length_and_kind_of_buffer_arrive() {
    let mut bench = local_bench();
    let (from, to) = (bench.a.address(), bench.b.address());
    for (n, &len) in LENGTHS.iter().enumerate() {
        for (kind, make) in [|bytes: &[u8]| Buffer::from(bytes.to_vec()), shared, vector].into_iter().enumerate() {
            for (tagged, expected) in [(true, true), (false, true), (true, false), (false, false)] {
                let bytes = data(n as u64, len);
                let tag = tagged.then_some(n as u64 + 1);
                let post = |bench: &mut Bench| {
                    // Longer than the message, and of another kind.
                    let room =
                        [vector, |bytes: &[u8]| Buffer::from(bytes.to_vec()), shared][kind](&vec![0xee; len + 5]);
                    match tag {
                        Some(tag) => bench.b.tag_receive(Pattern::exact(tag), room, 1).unwrap(),
                        None => bench.b.receive(None, room, 1).unwrap(),
                    };
                };
                if expected {
                    post(&mut bench);
                }
                let message = Outgoing { tag, data: Some(len as u32), ..Outgoing::new(to, make(&bytes), 2) };
                bench.a.send_message(message).unwrap();
                if !expected {
                    bench.run(|bench| match tag {
                        Some(tag) => bench.b.tag_peek(Pattern::exact(tag)).is_some_and(|it| it.len == len as u64),
                        None => bench.b.peek(Some(from)).is_some_and(|it| it.data == Some(len as u32)),
                    });
                    post(&mut bench);
                }
                let Completion::Received { tag: got, data: told, source, len: length, buffer, .. } = bench.next_at_b()
                else {
                    panic!()
                };
                assert_eq!((got, told, source, length), (tag, Some(len as u32), from, len));
                let buffer = buffer.into_vec();
                assert!(buffer[..len] == bytes && buffer[len..] == [0xee; 5], "{len} {kind} {tagged} {expected}");
                let Completion::Sent { context: 2, buffer } = bench.next_at_a() else { panic!() };
                assert_eq!(buffer, bytes);
            }
        }
    }
    bench.quiet();
    no_packets(&bench);
    let sent = LENGTHS.len() as u64 * 12;
    assert_eq!((bench.a.counters().sent_locally, bench.b.counters().received_locally), (sent, sent));
}

/// Messages of all kinds, more than rings and limits have room for, find their receives in the order in which they were sent; none
/// is lost. Long ones may complete later.
#[test]
fn messages_come_in_order_and_what_finds_no_room_is_told_to_come_again() {
    const MESSAGES: u64 = 1000;
    let len = |n: u64| [4, 16, 300, 9000, 16_000, 20_000, 70_000][n as usize % 7] + n as usize % 5;
    let mut bench = bench(Config { operations: 16, unexpected_bytes: 100_000, ..config() });
    let to = bench.b.address();
    let (mut sent, mut posted, mut received, mut again) = (0, 0, 0, 0);
    let mut seen = vec![false; MESSAGES as usize];
    bench.run(|bench| {
        while sent < MESSAGES {
            let bytes = data(sent, len(sent));
            let outcome = match bytes.len() {
                0..=16 => bench.a.inject_message(to, Some(7), Some(sent as u32), &bytes),
                _ => {
                    let message = Outgoing { tag: Some(7), data: Some(sent as u32), ..Outgoing::new(to, bytes, sent) };
                    bench.a.send_message(Outgoing { silent: sent % 3 == 0, ..message }).map_err(|no| no.error)
                }
            };
            match outcome {
                Ok(()) => sent += 1,
                Err(SendError::Again(peer)) => {
                    assert_eq!(peer, to);
                    again += 1;
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        while let Some(completion) = bench.a.poll_completion() {
            assert!(matches!(completion, Completion::Sent { context, .. } if context % 3 != 0), "{completion:?}");
        }
        // The receiver is slow at first.
        if again > 20 && posted < MESSAGES && posted < received + 8 {
            bench.b.tag_receive(Pattern::exact(7), vec![0; 80_000], posted).unwrap();
            posted += 1;
        }
        while let Some(completion) = bench.b.poll_completion() {
            let Completion::Received { context, data: told, len: length, buffer, .. } = completion else {
                panic!("{completion:?}")
            };
            assert_eq!((told, length), (Some(context as u32), len(context)));
            assert!(buffer.into_vec()[..length] == data(context, length));
            assert!(!std::mem::replace(&mut seen[context as usize], true), "twice");
            received += 1;
        }
        received == MESSAGES
    });
    bench.quiet();
    no_packets(&bench);
    assert!(again > 20);
}

#[test]
fn directed_receive_peek_claim_discard_cancel_and_multi_receive_work_the_same() {
    let mut bench = local_bench();
    let (a, b) = (bench.a.address(), bench.b.address());
    // Directed: what comes from b itself isn't taken by a receive that waits for a.
    bench.b.tag_receive(Pattern { source: Some(a), ..Pattern::exact(1) }, vec![0; 8], 1).unwrap();
    bench.b.tag_inject(b, 1, b"from b").unwrap();
    bench.run(|bench| bench.b.tag_peek(Pattern::exact(1)).is_some());
    bench.a.tag_inject(b, 1, b"from a").unwrap();
    let Completion::Received { source, len: 6, buffer, .. } = bench.next_at_b() else { panic!() };
    assert_eq!((source, &buffer.into_vec()[..6]), (a, &b"from a"[..]));
    // Claim.
    let claimed = bench.b.tag_claim(Pattern::exact(1)).unwrap();
    assert!(bench.b.tag_peek(Pattern::exact(1)).is_none() && claimed.message().source == b);
    bench.b.receive_claimed(claimed, vec![0; 6], 2).unwrap();
    assert!(matches!(bench.next_at_b(), Completion::Received { context: 2, source, .. } if source == b));
    // Discard, and a claim that is dropped: the senders of long messages get their buffers back.
    for drop_it in [false, true] {
        let long = data(3, 100_000);
        bench.a.tag_send(b, 3, long.clone(), 3).unwrap();
        bench.run(|bench| bench.b.tag_peek(Pattern::exact(3)).is_some());
        if drop_it {
            drop(bench.b.tag_claim(Pattern::exact(3)).unwrap());
        } else {
            assert_eq!(bench.b.tag_discard(Pattern::exact(3)).unwrap().unwrap().len, 100_000);
        }
        let Completion::Sent { context: 3, buffer } = bench.next_at_a() else { panic!() };
        assert!(buffer == long && bench.b.tag_peek(Pattern::exact(3)).is_none());
    }
    // Cancel.
    let receive = bench.b.tag_receive(Pattern::exact(4), vec![0; 8], 4).unwrap();
    assert!(bench.b.cancel(receive));
    let cancelled = bench.next_at_b();
    assert!(matches!(cancelled, Completion::Failed { context: 4, error: OperationError::Cancelled, .. }));
    // Too long, short and long: the receive fails, the send doesn't.
    for len in [100, 100_000] {
        bench.b.tag_receive(Pattern::exact(5), vec![0; 50], 5).unwrap();
        bench.a.tag_send(b, 5, vec![1; len], 5).unwrap();
        let Completion::Failed { context: 5, error, .. } = bench.next_at_b() else { panic!() };
        assert_eq!(error, OperationError::Truncated { message: len as u64, buffer: 50 });
        assert!(matches!(bench.next_at_a(), Completion::Sent { context: 5, .. }));
    }
    // Multi-receive: some before it is posted, some after, short and long.
    let memory = SharedMem::new(1 << 20).unwrap();
    let lengths = [10, 50_000, 0, 16_000, 200_000, 33];
    for (n, len) in lengths.into_iter().enumerate() {
        bench.a.send(b, data(n as u64, len), n as u64).unwrap();
        if n == 2 {
            bench.run(|bench| bench.b.counters().unexpected_messages >= 3 + 3);
            bench.b.multi_receive(None, memory.clone(), 6).unwrap();
        }
    }
    let mut seen = 0;
    let mut began = vec![];
    while seen < lengths.len() {
        let Completion::MultiReceived { context: 6, offset, len, source, .. } = bench.next_at_b() else { panic!() };
        assert_eq!(source, a);
        began.push((offset, len));
        seen += 1;
    }
    began.sort_unstable();
    for (n, (offset, len)) in began.into_iter().enumerate() {
        let mut bytes = vec![0; len];
        memory.read(offset, &mut bytes);
        assert_eq!((len, bytes), (lengths[n], data(n as u64, len)));
    }
    no_packets(&bench);
}

#[test]
fn what_is_asked_of_memory_is_done_and_what_isnt_allowed_isnt() {
    let mut bench = local_bench();
    let peer = bench.b.address();
    let memory = SharedMem::new(1 << 20).unwrap();
    let region = bench.b.regions().register(Registration::of(memory.clone(), Access::ATOMIC)).unwrap();
    let at = |place| Remote { peer, key: region.key(), place };
    for (n, &len) in LENGTHS.iter().enumerate().filter(|(_, len)| **len < 1 << 20) {
        for level in [Level::Inject, Level::Transmit, Level::Delivery] {
            let bytes = data(n as u64, len);
            bench.a.write_with(Write { level, ..Write::new(at(5), bytes.clone(), 1) }).unwrap();
            assert!(matches!(bench.next_at_a(), Completion::Written { context: 1, .. }));
            if level == Level::Delivery {
                let mut there = vec![0; len];
                memory.read(5, &mut there);
                assert_eq!(there, bytes, "delivered is there, {len}");
            }
            bench.a.read(at(5), shared(&vec![0; len]), 2).unwrap();
            let Completion::Read { context: 2, buffer } = bench.next_at_a() else { panic!() };
            assert!(buffer == bytes, "{len} {level:?}");
        }
        bench.a.write_with(Write { data: Some(n as u32), ..Write::new(at(9), data(7, len), 3) }).unwrap();
        let told = bench.next_at_b();
        assert_eq!(told, Completion::RemoteWrite { data: n as u32, source: bench.a.address(), len: len as u64 });
        let mut there = vec![0; len];
        memory.read(9, &mut there);
        assert!(there == data(7, len) && matches!(bench.next_at_a(), Completion::Written { context: 3, .. }));
    }
    // Atomic operations, of several packets too, in the order in which they were asked for.
    memory.zero(0, 1 << 20);
    let sum = AtomicOp::new(Op::Sum, Datatype::Uint64).unwrap();
    let ones = |count: usize| 1u64.to_le_bytes().repeat(count);
    bench.a.inject_atomic(at(0), sum, &ones(2)).unwrap();
    bench.a.atomic(Atomic { level: Level::Delivery, ..Atomic::update(at(0), sum, ones(3000), 1) }).unwrap();
    bench.a.atomic(Atomic::fetch(at(0), sum, ones(3000), vec![0; 24_000], 2)).unwrap();
    let mut ends = [bench.next_at_a(), bench.next_at_a()];
    ends.sort_by_key(|end| matches!(end, Completion::Fetched { .. }));
    assert!(matches!(ends[0], Completion::Written { context: 1, .. }));
    let Completion::Fetched { context: 2, result, .. } = &ends[1] else { panic!() };
    let was: Vec<u64> =
        result.clone().into_vec().chunks(8).map(|it| u64::from_le_bytes(it.try_into().unwrap())).collect();
    assert!(was[..2] == [2, 2] && was[2..].iter().all(|it| *it == 1));
    let swap = AtomicOp::new(Op::Cswap, Datatype::Uint64).unwrap();
    let compare = 3u64.to_le_bytes().to_vec();
    bench.a.atomic(Atomic::compare(at(0), swap, compare, 77u64.to_le_bytes().to_vec(), vec![0; 8], 3)).unwrap();
    assert!(matches!(bench.next_at_a(), Completion::Fetched { context: 3, .. }));
    assert_eq!(memory.read_u64(0), 77);
    // Injected writes, in order with what comes after.
    bench.a.inject_write(at(64), b"sixteen bytes it").unwrap();
    bench.a.inject(peer, b"done").unwrap();
    bench.b.receive(None, vec![0; 4], 4).unwrap();
    assert!(matches!(bench.next_at_b(), Completion::Received { context: 4, .. }));
    let mut there = [0; 16];
    memory.read(64, &mut there);
    assert_eq!(&there, b"sixteen bytes it", "before the message");
    // What isn't allowed is told to the peer's owner.
    let before = bench.b.counters();
    for (remote, asked) in [(Remote { key: 1, ..at(0) }, Asked::Write), (at((1 << 20) - 3), Asked::Write)] {
        bench.a.write_with(Write { level: Level::Delivery, ..Write::new(remote, vec![9; 8], 5) }).unwrap();
        bench.next_at_a();
        assert_eq!(bench.b.poll_refusal().unwrap().asked, asked);
    }
    assert_eq!(bench.b.counters().refused_keys - before.refused_keys, 1);
    assert_eq!(bench.b.counters().refused_places - before.refused_places, 1);
    bench.quiet();
    no_packets(&bench);
}

/// A read that its peer refuses has no answer, and the peer is alive: it fails as it does over the wire.
#[test]
fn a_read_that_is_refused_fails_when_its_time_is_up() {
    let mut bench = bench(Config { answer_wait: Duration::from_millis(100), ..config() });
    let remote = Remote { peer: bench.b.address(), key: 1, place: 0 };
    bench.a.read(remote, vec![0; 8], 1).unwrap();
    let Completion::Failed { context: 1, error, .. } = bench.next_at_a() else { panic!() };
    assert_eq!(error, OperationError::Unanswered(remote.peer));
    // The wait is only for who is there: a peer that computes is waited for.
    let memory = SharedMem::new(4096).unwrap();
    let region = bench.b.regions().register(Registration::of(memory, Access::ATOMIC)).unwrap();
    bench.a.read(Remote { key: region.key(), ..remote }, vec![0; 8], 2).unwrap();
    let end = bench.hfi.bus().now() + Duration::from_secs(3);
    while bench.hfi.bus().now() < end {
        bench.a.progress().unwrap();
        bench.hfi.bus().pause(Duration::from_millis(1));
    }
    assert_eq!(bench.a.poll_completion(), None);
    assert!(matches!(bench.next_at_a(), Completion::Read { context: 2, .. }));
}

/// Two adapters on a cable.
fn cabled(pacing: Pacing) -> (Lab, [Hfi<EmuBus>; 2]) {
    let lab = Lab::new(pacing);
    let adapters = [1, 2].map(|n| {
        let link_time = Duration::from_millis(2);
        let guid = opx_defs::units::Guid(n);
        lab.add(Chip { icode: Icode::FunctionalSimulator, guid, link_time, ..Chip::default() })
    });
    lab.cable(&adapters[0], &adapters[1]);
    let hfis = adapters.each_ref().map(|adapter| Hfi::open(adapter.bus(), Options::default()).unwrap());
    hfis.iter().for_each(|hfi| hfi.link_begin(LinkMode::Cable { timeout: Duration::from_secs(60) }).unwrap());
    while hfis.each_ref().map(|hfi| hfi.link_advance().unwrap()) != [LinkState::Active; 2] {
        hfis[0].bus().pause(Duration::from_micros(100));
    }
    (lab, hfis)
}

/// Three endpoints: one has a peer through memory and one through the cable.
#[test]
fn peers_on_the_cable_and_in_memory_share_an_endpoint() {
    let (_lab, hfis) = cabled(Pacing::Virtual);
    let config = config();
    let mut ends = [&hfis[0], &hfis[0], &hfis[1]].map(|hfi| Endpoint::open(hfi, config.clone()).unwrap());
    let [a, b, c] = ends.each_ref().map(Endpoint::address);
    assert!(a.lid == b.lid && a.lid != c.lid);
    let path = |end: &Endpoint<EmuBus>, to| end.explain(Message::tagged(to, 100)).path;
    assert_eq!([path(&ends[0], b), path(&ends[0], c)], [Some(Path::SharedMemory), Some(Path::Eager)]);
    assert_eq!(ends[0].explain(Message::tagged(c, 1)).why_not(Path::SharedMemory), Some(Reason::OtherNode));
    // One queue for both: in the order in which they were posted, whoever sends.
    const EACH: u64 = 300;
    let len = |n: u64| [8, 100, 9000, 40_000][n as usize % 4];
    let mut sent = [0; 2];
    let (mut posted, mut received) = (0, 0);
    // By sender and number, the receive that it found.
    let mut found = [0; 2].map(|_| vec![u64::MAX; EACH as usize]);
    while received < 2 * EACH {
        for (side, from) in [(0, 1), (1, 2)] {
            while sent[side] < EACH {
                let n: u64 = sent[side];
                let message = Outgoing { data: Some(n as u32), tag: Some(1), ..Outgoing::new(a, data(n, len(n)), n) };
                match ends[from].send_message(message) {
                    Ok(()) => sent[side] += 1,
                    Err(no) => {
                        assert_eq!(no.error, SendError::Again(a));
                        break;
                    }
                }
            }
            while let Some(completion) = ends[from].poll_completion() {
                assert!(matches!(completion, Completion::Sent { .. }), "{completion:?}");
            }
        }
        while posted < 2 * EACH && posted < received + 32 {
            ends[0].tag_receive(Pattern::exact(1), vec![0; 40_000], posted).unwrap();
            posted += 1;
        }
        let busy = ends.iter_mut().fold(false, |busy, end| busy | end.progress().unwrap());
        while let Some(completion) = ends[0].poll_completion() {
            let Completion::Received { context, data: Some(n), source, len: length, buffer, .. } = completion else {
                panic!("{completion:?}")
            };
            let place = &mut found[usize::from(source == c)][n as usize];
            assert_eq!((*place, length), (u64::MAX, len(n.into())));
            assert!(buffer.into_vec()[..length] == data(n.into(), length));
            (*place, received) = (context, received + 1);
        }
        if !busy {
            hfis[0].bus().relax();
        }
    }
    assert!(found.iter().all(|found| found.is_sorted()), "in order");
    assert_eq!(ends[0].counters().received_locally, EACH);
    assert!(ends[0].counters().packets_in > EACH);
}

/// Peers that don't answer keep all that may have to be sent again. What goes through memory never has to be.
#[test]
fn peers_in_memory_go_on_while_nothing_more_can_be_sent_to_the_wire() {
    const LEN: usize = 1 << 20;
    for replay_pool in [4, 10_240] {
        let reliability = opx_reliability::Config { replay_pool, ..Default::default() };
        let mut bench = bench(Config { reliability, slots: 64, ..config() });
        let memory = |seed| {
            let memory = SharedMem::new(LEN).unwrap();
            memory.write(0, &data(seed, LEN));
            memory
        };
        let [at_a, at_b] = [(&bench.a, 1), (&bench.b, 2)].map(|(end, seed)| {
            let region = end.regions().register(Registration::of(memory(seed), Access::ATOMIC)).unwrap();
            (Remote { peer: end.address(), key: region.key(), place: 0 }, region)
        });
        // Nobody is there.
        for n in 0..80 {
            let nowhere = Remote { peer: Address { lid: at_a.0.peer.lid, rx: 100 + n }, key: 1, place: 0 };
            bench.a.write(nowhere, vec![0; 100], 1000).unwrap();
        }
        let used_up = bench.a.reliability_counters().throttled_replay_pool;
        assert!(used_up > 0, "the first packet to anybody is free");
        // More than goes at once: requests and answers wait for their turn behind those.
        bench.a.write(at_b.0, data(3, LEN), 1).unwrap();
        bench.a.read(at_b.0, vec![0; LEN], 2).unwrap();
        bench.b.read(at_a.0, vec![0; LEN], 3).unwrap();
        let mut ended = 0;
        while ended < 3 {
            let completion = if ended == 2 { bench.next_at_b() } else { bench.next_at_a() };
            match completion {
                Completion::Written { context: 1, .. } => {}
                Completion::Read { context: 2, buffer } => assert!(buffer == data(3, LEN)),
                Completion::Read { context: 3, buffer } => assert!(buffer == data(1, LEN)),
                other => panic!("{replay_pool}: {other:?}"),
            }
            ended += 1;
        }
        no_packets(&bench);
    }
}

/// The job has two adapters in the machine: told so, its endpoints share memory across them.
#[test]
fn another_port_of_the_machine_is_reached_through_memory_once_it_is_told_of() {
    let (_lab, hfis) = cabled(Pacing::Virtual);
    let name = job();
    let lids = hfis.each_ref().map(|hfi| hfi.lid());
    let told = |other: usize| Config {
        shared_memory: SharedMemory { lids: vec![lids[other]], ..SharedMemory::of_job(&*name) },
        ..Config::default()
    };
    let mut a = Endpoint::open(&hfis[0], told(1)).unwrap();
    let mut b = Endpoint::open(&hfis[1], told(0)).unwrap();
    b.tag_receive(Pattern::exact(1), vec![0; 3], 1).unwrap();
    a.tag_inject(b.address(), 1, b"opx").unwrap();
    while b.poll_completion().is_none() {
        a.progress().unwrap();
        b.progress().unwrap();
        hfis[0].bus().relax();
    }
    assert_eq!((b.counters().received_locally, b.counters().packets_in), (1, 0));
}

#[test]
fn what_decides_is_told_and_what_is_expected_is_kept() {
    // Off, without a job, of another job, or gone: through the adapter, and why.
    for (theirs, mine, why) in [
        (SharedMemory::off(), SharedMemory::of_job(job()), Reason::NoNode),
        (SharedMemory::of_job(job()), SharedMemory::of_job(job()), Reason::NoNode),
        (SharedMemory::of_job(job()), SharedMemory::default(), Reason::NoJob),
    ] {
        let lab = Lab::new(Pacing::Virtual);
        let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
        let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        let with = |shared_memory| Endpoint::open(&hfi, Config { shared_memory, ..Config::default() }).unwrap();
        let mut bench = Bench { a: with(mine), b: with(theirs), hfi: hfi.clone(), adapter };
        let to = bench.b.address();
        assert_eq!(bench.a.explain(Message::tagged(to, 8)).why_not(Path::SharedMemory), Some(why));
        bench.b.tag_receive(Pattern::exact(1), vec![0; 8], 1).unwrap();
        let message = Outgoing { tag: Some(1), expect: Some(Path::SharedMemory), ..Outgoing::new(to, vec![1; 8], 2) };
        let refused = bench.a.send_message(message.clone()).unwrap_err();
        assert!(matches!(refused.error, SendError::Slower(_)), "{}", refused.error);
        bench.a.send_message(Outgoing { expect: None, ..message }).unwrap();
        assert!(matches!(bench.next_at_b(), Completion::Received { context: 1, .. }));
        assert_eq!(bench.b.counters().received_locally, 0);
    }
    let mut bench = bench(Config { expect: Some(Path::SharedMemory), ..config() });
    let to = bench.b.address();
    let explained = bench.a.explain(Message::untagged(to, 1 << 30));
    assert_eq!(explained.path, Some(Path::SharedMemory));
    assert_eq!(explained.why_not(Path::Eager), Some(Reason::TooLong { len: 1 << 30, most: 8192, limit: "eager_max" }));
    assert_eq!(bench.a.explain(Message::tagged(to, 17).injected()).path, None);
    assert!(matches!(bench.a.inject(to, &[0; 17]), Err(SendError::TooLong(17))));
    bench.a.send(to, vec![1; 8], 1).unwrap();
    let delivery = Outgoing { level: Level::Delivery, ..Outgoing::new(to, vec![1; 8], 1) };
    assert!(matches!(bench.a.send_message(delivery).unwrap_err().error, SendError::Delivery));
}

#[test]
fn a_name_that_is_taken_and_one_that_cant_be_are_refused() {
    let lab = Lab::new(Pacing::Virtual);
    let open = |shared_memory: SharedMemory| {
        let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
        let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        Endpoint::open(&hfi, Config { shared_memory, ..Config::default() })
    };
    let name = job();
    // Two fabrics with the same addresses, and one name for both: their messages would get mixed up.
    let first = open(SharedMemory::of_job(&*name)).unwrap();
    assert!(matches!(open(SharedMemory::of_job(&*name)), Err(OpenError::SharedMemory(_))));
    drop(first);
    open(SharedMemory::of_job(&*name)).unwrap();
    assert!(matches!(open(SharedMemory::of_job("a b")), Err(OpenError::Job(_))));
    let lids = (0..16).map(opx_defs::units::Lid).collect();
    let many = open(SharedMemory { lids, ..SharedMemory::of_job(job()) });
    assert!(matches!(many, Err(OpenError::Setting { name: "shared_memory.lids", .. })));
}
