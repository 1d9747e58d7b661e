//! Peers on this machine that write nonsense, say to be somebody else, guess the names of transfers, or take no connections.

mod common;

use common::{Bench, bench, data};
use opx_bus::{PciFunction, SharedMem};
use opx_defs::units::{Blocks, Psn, Vl};
use opx_defs::wire::opx::{Padding, RzvData, RzvOp};
use opx_hw::Options;
use opx_pio::{Head, PioSender};
use opx_shm::{Event, Header, Node, PeerId};
use opx_stack::regions::{Access, Registration};
use opx_stack::{Address, Completion, Config, Pattern, Remote, SharedMemory};
use std::sync::atomic::{AtomicU32, Ordering};

/// The context that a forger says to have; it is no endpoint's.
const NOBODY: u8 = 200;

/// Two endpoints of a job that no other test has, nor another run of this one, and the names of the job's nodes.
fn local_bench() -> (Bench, impl Fn(u32, u8) -> String) {
    static JOBS: AtomicU32 = AtomicU32::new(0);
    let job = format!("test-{}-{}", std::process::id(), JOBS.fetch_add(1, Ordering::Relaxed));
    let bench = bench(Config { shared_memory: SharedMemory::of_job(&*job), ..Config::default() });
    let key = Options::default().job_key.0;
    (bench, move |lid, rx| format!("opx.{job}.{key:04x}-{lid:x}.{rx}"))
}

/// A process of the same user that says to be an endpoint of the job.
struct Forger {
    node: Node,
    to: PeerId,
    address: Address,
}

impl Forger {
    /// One that is connected with `b`.
    fn new(bench: &Bench, name: impl Fn(u32, u8) -> String) -> Self {
        let address = Address { rx: NOBODY, ..bench.b.address() };
        let mut node = Node::open(&name(address.lid.0, address.rx), opx_shm::Config::default()).unwrap();
        let to = node.connect(&name(address.lid.0, bench.b.address().rx)).unwrap();
        Self { node, to, address }
    }

    /// Pieces of a message of `len` bytes that nobody has asked for, for each of the transfers that there may be.
    fn pieces(&self, bench: &Bench, len: usize) -> Vec<(opx_defs::wire::opx::Header, Vec<u8>)> {
        let to = bench.b.address();
        let route = bench.hfi.route(self.address.rx, to.lid, to.rx);
        let mut pieces = vec![];
        for handle in (1..3u64).flat_map(|generation| (0..4).map(move |index| generation << 32 | index)) {
            for at in (0..len).step_by(4096) {
                let piece = (len - at).min(4096);
                let data = RzvData {
                    op: RzvOp::Rzv,
                    target_cookie: handle,
                    rbuf: at as u64,
                    len: piece as u16,
                    ack_req: false,
                };
                let header = data.encode(&route, Padding::Block).unwrap();
                pieces.push((header, vec![0xaa; piece.next_multiple_of(64)]));
            }
        }
        pieces
    }
}

/// A process of the same user that says to be an endpoint of the job, and writes nonsense.
#[test]
fn nonsense_from_a_peer_is_counted_and_harms_nobody() {
    let (mut bench, node_of) = local_bench();
    let b = bench.b.address();
    let memory = SharedMem::new(4096).unwrap();
    let region = bench.b.regions().register(Registration::of(memory.clone(), Access::ATOMIC)).unwrap();
    bench.b.tag_receive(Pattern::exact(1), vec![0; 64], 1).unwrap();
    let Forger { node: mut forger, to, .. } = Forger::new(&bench, &node_of);
    let before = bench.b.counters();
    let mut chance = opx_bus::Chance::new(5);
    // What is no message of any kind, what says too much, and packets of any bytes, that begin as packets do or don't.
    for round in 0..20_000u64 {
        let kind = match round % 5 {
            0 => chance.below(1 << 16) as u16 & !0xff | (4 + chance.below(250) as u16),
            1 => 1 | (4 << chance.below(6)) << 8,
            _ => 2 | (chance.below(2) as u16) << 8,
        };
        let mut bytes = data(round, chance.below(300) as usize);
        if round % 2 == 0 && bytes.len() > 8 {
            bytes[8] = [0xc1, 0xc2, 0xc3, 0xc6, 0xe8, 0xf0][chance.below(6) as usize];
        }
        let header = Header { kind, words: [chance.below(u64::MAX), chance.below(u64::MAX)] };
        while forger.try_send(to, header, &[&bytes]).is_err() {
            bench.b.progress().unwrap();
            forger.poll(|_| {}).unwrap();
        }
        if round % 1000 == 0 {
            // Told of packets that were never sent, and offered what nobody waits for.
            forger.try_send(to, Header { kind: 3, words: [u64::MAX, 0] }, &[]).ok();
            forger.offer(to, Header { kind: 7, words: [0; 2] }, vec![1; 100].into()).ok();
        }
    }
    bench.run(|bench| {
        forger.poll(|_| {}).unwrap();
        bench.b.counters().malformed - before.malformed >= 19_000
    });
    let mut there = vec![0; 4096];
    memory.read(0, &mut there);
    assert!(there.iter().all(|byte| *byte == 0), "nothing was written");
    assert_eq!(bench.b.poll_completion(), None);
    drop(forger);
    // Somebody whose name isn't that of an endpoint at this machine's ports isn't listened to.
    let own_port = node_of(b.lid.0, 9);
    for strange in [node_of(0x2f, 9), format!("{own_port}x")] {
        let mut stranger = Node::open(&strange, opx_shm::Config::default()).unwrap();
        let to = stranger.connect(&node_of(b.lid.0, b.rx)).unwrap();
        stranger.try_send(to, Header { kind: 1, words: [1, 0] }, &[b"listen"]).unwrap();
        let mut left = false;
        bench.run(|_| {
            stranger.poll(|event| left |= matches!(event, Event::Gone { .. })).unwrap();
            left
        });
    }
    // The others go on.
    bench.a.tag_inject(b, 1, b"still here").unwrap();
    assert!(matches!(bench.next_at_b(), Completion::Received { context: 1, len: 10, .. }));
    drop(region);
}

/// The names of transfers are easily guessed. Data for one that fetches a message from memory leaves it alone, whichever way it
/// comes: its buffer isn't given back while it is written to.
#[test]
fn data_that_nobody_asked_for_leaves_a_transfer_alone() {
    const LEN: usize = 20_000;
    for by_wire in [false, true] {
        let (mut bench, name) = local_bench();
        let mut forger = Forger::new(&bench, name);
        let long = data(1, LEN);
        bench.b.receive(None, vec![0xee; LEN], 1).unwrap();
        forger.node.offer(forger.to, Header { kind: 1, words: [0; 2] }, long.clone().into()).unwrap();
        // It is fetched from now on, and doesn't come: the forger doesn't poll.
        bench.run(|bench| bench.b.counters().offers == 1);
        let pieces = forger.pieces(&bench, LEN);
        let refused = |bench: &Bench| bench.b.counters().malformed + bench.b.counters().stale;
        let before = refused(&bench);
        if by_wire {
            let mut pio = PioSender::new(bench.hfi.send_context(Blocks(128)).unwrap());
            for (n, (mut header, payload)) in pieces.iter().cloned().enumerate() {
                header.set_psn(Psn::new(n as u32));
                pio.send(&Head::new(header.pbc(Vl(0)), &header), &payload).unwrap();
                bench.run(|bench| refused(bench) == before + n as u64 + 1);
            }
        } else {
            for (header, payload) in &pieces {
                let packet = Header { kind: 2, words: [0; 2] };
                while forger.node.try_send(forger.to, packet, &[header.as_bytes(), payload]).is_err() {
                    bench.b.progress().unwrap();
                }
            }
            bench.run(|bench| refused(bench) == before + pieces.len() as u64);
        }
        assert_eq!(bench.b.poll_completion(), None);
        let mut received = None;
        bench.run(|bench| {
            forger.node.poll(|_| {}).unwrap();
            received = bench.b.poll_completion();
            received.is_some()
        });
        let Some(Completion::Received { context: 1, len: LEN, buffer, .. }) = received else { panic!("{received:?}") };
        assert!(buffer == long);
    }
}

/// A peer that is stopped, and that so many want to reach that it takes no more connections, is tried again now and then: who has
/// something for it sleeps in between.
#[test]
fn who_waits_for_a_peer_that_takes_no_connections_sleeps() {
    let (mut bench, name) = local_bench();
    let peer = Address { rx: NOBODY, ..bench.b.address() };
    let its = name(peer.lid.0, peer.rx);
    let mut stopped = Node::open(&its, opx_shm::Config::default()).unwrap();
    let other = Node::open(&name(peer.lid.0, NOBODY + 1), opx_shm::Config::default()).unwrap();
    while other.is_there(&its) {}
    let at = Remote { peer, key: 1, place: 0 };
    bench.a.write(at, vec![1; 8], 1).unwrap();
    let bus = bench.hfi.bus().clone();
    let end = bus.now() + std::time::Duration::from_secs(2);
    let mut turns = 0;
    while bus.now() < end {
        if !bench.a.arm().unwrap() {
            bus.pause(bench.a.poll_timeout().since(bus.now()));
        }
        bench.a.progress().unwrap();
        turns += 1;
        assert!(turns < 500, "it doesn't sleep");
    }
    assert_eq!(bench.a.poll_completion(), None);
    // It goes on.
    let mut got = 0;
    bench.run(|_| {
        stopped.wait(Some(std::time::Duration::ZERO)).unwrap();
        stopped.poll(|event| got += usize::from(matches!(event, Event::Message(_)))).unwrap();
        got == 1
    });
    assert!(matches!(bench.next_at_a(), Completion::Written { context: 1, .. }));
}
