//! Peers in other processes of this machine: messages and one-sided operations between them, a peer that is killed at any instant, and
//! one that says to be another.
//!
//! Each process has an adapter of its own, with the same LID. The test starts itself once more for the other one.

use opx_bus::{Chance, SharedMem};
use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::regions::{Access, RegionsConfig, Registration};
use opx_stack::{
    Address, Completion, Config, Domain, Endpoint, EndpointId, Level, OperationError, Pattern, PollSet, Remote,
    SharedMemory, Write,
};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, recv, sendmsg, socket_with,
};
use std::io::{BufRead, BufReader, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const ROLE: &str = "OPX_STACK_TEST_ROLE";
const JOB: &str = "OPX_STACK_TEST_JOB";
const PARENT: &str = "OPX_STACK_TEST_PARENT";
/// Nothing takes so long that works.
const BOUND: Duration = Duration::from_secs(120);
/// So that nothing but what happens wakes who sleeps.
const HOURLY: Duration = Duration::from_secs(3600);
const SHORT: usize = 100;
const MIDDLE: usize = 9000;
const OVER: usize = 300_000;

/// The other process. It is killed when this is dropped.
struct Other {
    child: Child,
    address: Address,
    key: u64,
}

impl Drop for Other {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn data(n: u64, len: usize) -> Vec<u8> {
    let mut chance = Chance::new(n);
    (0..len).map(|_| chance.below(256) as u8).collect()
}

/// An adapter of this process's own.
fn adapter() -> Hfi<EmuBus> {
    let adapter = Lab::new(Pacing::Real).add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    hfi
}

/// An endpoint in a set of its own.
struct End {
    set: PollSet<EmuBus>,
    id: EndpointId,
    domain: Domain<EmuBus>,
    /// Before which it takes the contexts that other processes' endpoints have.
    _others: Vec<Endpoint<EmuBus>>,
}

impl End {
    /// The endpoint at the context that is `after` others.
    fn open(job: &str, after: usize) -> Self {
        let hfi = adapter();
        let others = (0..after).map(|_| Endpoint::open(&hfi, Config::default()).unwrap()).collect();
        let domain = Domain::open_with(&hfi, RegionsConfig::default()).unwrap();
        let mut set = domain.poll_set();
        let shared_memory = SharedMemory::of_job(job);
        let id = set.open(Config { shared_memory, health_interval: HOURLY, ..Config::default() }).unwrap();
        Self { set, id, domain, _others: others }
    }

    fn engine(&mut self) -> &mut Endpoint<EmuBus> {
        self.set.endpoint(self.id).unwrap()
    }

    /// The next completion, within the bound.
    fn next(&mut self) -> Completion {
        self.set.wait(Some(BOUND)).unwrap().completion
    }
}

fn start(role: &str, job: &str, parent: Address) -> Other {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "the_other_process", "--nocapture"])
        .envs([(ROLE, role), (JOB, job), (PARENT, &parent.rx.to_string())])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Whatever else is written there.
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.contains("OPX ")).unwrap();
    let mut words = line[line.find("OPX ").unwrap() + 4..].split(' ');
    let rx = words.next().unwrap().parse().unwrap();
    let key = words.next().unwrap().parse().unwrap();
    Other { child, address: Address { rx, ..parent }, key }
}

/// One test at a time: what they leave behind is seen of the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The node of an endpoint.
fn node(job: &str, address: Address) -> String {
    format!("opx.{job}.{:04x}-{:x}.{}", Options::default().job_key.0, address.lid.0, address.rx)
}

/// Connects to a node as none of this crate's does: under the name of another. Gives what it is told in the end.
fn connect_as(name: &str, to: &str) -> Vec<u8> {
    const RING: u32 = 64 << 10;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &SocketAddrUnix::new_abstract_name(format!("opx-shm/{to}").as_bytes()).unwrap()).unwrap();
    let segment = memfd_create("forged", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&segment, u64::from(4096 + 2 * (RING + RING / 4))).unwrap();
    fcntl_add_seals(&segment, SealFlags::SHRINK | SealFlags::GROW).unwrap();
    // As `socket.rs` of opx-shm has it: kind, fences, size of a ring, magic, probe, name.
    let mut hello = vec![b'H', 0, 0, 0];
    hello.extend(RING.to_le_bytes());
    hello.extend([0x6f70_7873_686d_0003, 0, 0].into_iter().flat_map(u64::to_le_bytes));
    hello.extend(name.as_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = [segment.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&files)));
    sendmsg(&socket, &[IoSlice::new(&hello)], &mut ancillary, SendFlags::empty()).unwrap();
    let mut told = vec![];
    loop {
        let mut record = [0; 200];
        match recv(&socket, &mut record, RecvFlags::empty()).map_or(0, |(_, len)| len) {
            0 => return told,
            _ => told.push(record[0]),
        }
    }
}

fn job(name: &str) -> String {
    format!("test-{}-{name}", std::process::id())
}

/// Segments of shared memory that this process still has.
fn mapped_segments() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|line| line.contains("memfd:opx-shm")).count()
}

/// What the other process does, until it is killed.
#[test]
#[ignore = "started by the other tests"]
fn the_other_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let job = std::env::var(JOB).unwrap();
    if role == "impostor" {
        let parent = Address { lid: adapter().lid(), rx: std::env::var(PARENT).unwrap().parse().unwrap() };
        println!("\nOPX 0 0");
        std::io::stdout().flush().unwrap();
        // The endpoint that the first of the other processes has.
        let told = connect_as(&node(&job, Address { rx: parent.rx + 1, ..parent }), &node(&job, parent));
        // Taken, and then left. Nobody reads what the test would say.
        std::process::exit(i32::from(told != b"WB"));
    }
    let mut end = End::open(&job, 1);
    let memory = SharedMem::new(1 << 20).unwrap();
    let region = end.domain.regions().register(Registration::of(memory, Access::ATOMIC)).unwrap();
    let me = end.engine().address();
    let parent = Address { rx: std::env::var(PARENT).unwrap().parse().unwrap(), ..me };
    println!("\nOPX {} {}", me.rx, region.key());
    std::io::stdout().flush().unwrap();
    match &*role {
        "echo" => loop {
            end.engine().tag_receive(Pattern { ignore: u64::MAX, ..Pattern::exact(0) }, vec![0; OVER], 1).unwrap();
            let message = loop {
                if let Completion::Received { tag, len, buffer, .. } = end.next() {
                    break (tag.unwrap(), buffer.into_vec()[..len].to_vec());
                }
            };
            let (tag, bytes) = message;
            while end.engine().tag_send(parent, tag, bytes.clone(), 2).is_err() {
                end.set.progress().unwrap();
            }
        },
        // All protocols at once, both ways, for as long as it lives.
        "busy" => {
            let mut n = 0u64;
            loop {
                for len in [8, SHORT, MIDDLE, OVER] {
                    let _ = end.engine().tag_send(parent, 1000 + n % 7, data(n, len), n);
                    let _ =
                        end.engine().tag_receive(Pattern { ignore: u64::MAX, ..Pattern::exact(0) }, vec![0; OVER], n);
                    n += 1;
                }
                end.set.progress().unwrap();
                while end.set.read().is_some() {}
            }
        }
        // Is there, and does nothing once it was connected.
        "deaf" => {
            while end.engine().tag_inject(parent, 0, b"here").is_err() {
                end.set.progress().unwrap();
            }
            loop {
                std::thread::park();
            }
        }
        other => panic!("no role {other}"),
    }
}

#[test]
fn two_processes_exchange_messages_and_read_and_write_each_others_memory() {
    let _alone = alone();
    let job = job("exchange");
    let mut end = End::open(&job, 0);
    let parent = end.engine().address();
    let other = start("echo", &job, parent);
    for (n, len) in [0, 8, 16, 17, SHORT, MIDDLE, 16_320, 16_321, 65_536, OVER].into_iter().cycle().take(60).enumerate()
    {
        let n = n as u64;
        end.engine().tag_receive(Pattern::exact(n), vec![0; OVER], n).unwrap();
        end.engine().tag_send(other.address, n, data(n, len), n).unwrap();
        let (mut sent, mut received) = (false, false);
        while !(sent && received) {
            match end.next() {
                Completion::Sent { buffer, .. } => {
                    assert!(buffer == data(n, len));
                    sent = true;
                }
                Completion::Received { context, len: got, buffer, .. } => {
                    assert_eq!((context, got), (n, len));
                    assert!(buffer.into_vec()[..len] == data(n, len));
                    received = true;
                }
                completion => panic!("{completion:?}"),
            }
        }
        let at = Remote { peer: other.address, key: other.key, place: n };
        end.engine().write_with(Write { level: Level::Delivery, ..Write::new(at, data(n, len), 1) }).unwrap();
        assert!(matches!(end.next(), Completion::Written { .. }));
        end.engine().read(at, vec![0; len], 2).unwrap();
        let Completion::Read { buffer, .. } = end.next() else { panic!() };
        assert!(buffer == data(n, len));
    }
    assert_eq!(end.engine().counters().packets_in, 0);
}

/// Whatever is under way with a peer that is killed ends with an error, and its address can be used by another.
#[test]
fn a_peer_that_is_killed_at_any_instant_ends_what_was_under_way() {
    let _alone = alone();
    let job = job("killed");
    let mut end = End::open(&job, 0);
    let parent = end.engine().address();
    let mut chance = Chance::new(u64::from(std::process::id()));
    for round in 0..12u64 {
        let role = if round % 4 == 3 { "deaf" } else { "busy" };
        let mut other = start(role, &job, parent);
        let to = other.address;
        let at = Remote { peer: to, key: other.key, place: 0 };
        let kill_at = Instant::now() + Duration::from_micros(chance.below(60_000));
        let (mut accepted, mut ended, mut killed) = (0u64, 0u64, false);
        let mut failed = 0;
        let limit = Instant::now() + BOUND;
        loop {
            assert!(
                Instant::now() < limit,
                "round {round}: {accepted} accepted, {ended} ended: {:?}",
                end.engine().counters()
            );
            if !killed {
                let engine = end.engine();
                for len in [8, SHORT, MIDDLE, OVER] {
                    accepted += u64::from(engine.tag_send(to, 5, data(round, len), 1).is_ok());
                }
                accepted += u64::from(engine.read(at, vec![0; 20_000], 2).is_ok());
                let write = Write { level: Level::Delivery, ..Write::new(at, vec![1; 20_000], 3) };
                accepted += u64::from(engine.write_with(write).is_ok());
                if accepted < 4000 {
                    for tag in 1000..1007 {
                        let room =
                            if engine.tag_peek(Pattern::exact(tag)).is_some() { vec![0; OVER] } else { continue };
                        accepted += u64::from(engine.tag_receive(Pattern::exact(tag), room, 4).is_ok());
                    }
                }
            }
            end.set.progress().unwrap();
            while let Some(completed) = end.set.read() {
                ended += 1;
                if let Completion::Failed { error, .. } = completed.completion {
                    assert_eq!(error, OperationError::Unreachable(to));
                    failed += 1;
                }
            }
            if !killed && Instant::now() >= kill_at {
                other.child.kill().unwrap();
                other.child.wait().unwrap();
                killed = true;
            }
            if killed && ended == accepted && end.engine().is_quiet() {
                break;
            }
        }
        assert!(role != "deaf" || failed > 0, "what it was to fetch or to answer");
        // What it had offered, and what had come before it ended.
        while end.engine().tag_discard(Pattern { ignore: u64::MAX, ..Pattern::exact(0) }).unwrap().is_some() {}
        while end.set.wait(Some(Duration::from_millis(1))).is_ok() {}
        // If nothing was under way with it, its end may not have been heard of yet.
        let unreachable = loop {
            match end.engine().tag_send(to, 5, vec![0; 8], 1) {
                Err(rejected) => break rejected.error,
                Ok(()) => assert!(Instant::now() < limit, "round {round}: its end isn't heard of"),
            }
            end.set.progress().unwrap();
            while end.set.read().is_some() {}
        };
        assert!(matches!(unreachable, opx_stack::SendError::Unreachable(_)), "{unreachable}");
        assert_eq!(mapped_segments(), 0, "round {round}: nothing is left behind");
    }
    // The next one at that address is reached again.
    let other = start("echo", &job, parent);
    end.engine().tag_receive(Pattern::exact(1), vec![0; 8], 1).unwrap();
    end.engine().tag_send(other.address, 1, vec![7; 8], 2).unwrap();
    let ends = [end.next(), end.next()];
    assert!(ends.iter().any(|it| matches!(it, Completion::Received { len: 8, .. })), "{ends:?}");
}

/// Who says to be a peer that is there takes nothing from it: neither what is under way with it nor what is sent later.
#[test]
fn an_impostor_takes_nothing_from_a_peer_that_is_there() {
    let _alone = alone();
    let job = job("impostor");
    let mut end = End::open(&job, 0);
    let parent = end.engine().address();
    let other = start("echo", &job, parent);
    let echoed = |end: &mut End, n: u64| {
        end.engine().tag_send(other.address, n, data(n, OVER), n).unwrap();
        let ends = [end.next(), end.next()];
        assert!(ends.iter().any(|it| matches!(it, Completion::Sent { .. })), "{ends:?}");
        assert!(ends.iter().any(|it| matches!(it, Completion::Received { len: OVER, .. })), "{ends:?}");
    };
    for n in 1..=2 {
        end.engine().tag_receive(Pattern::exact(n), vec![0; OVER], n).unwrap();
    }
    echoed(&mut end, 1);
    let mut impostor = start("impostor", &job, parent);
    let limit = Instant::now() + BOUND;
    let refused = loop {
        assert!(Instant::now() < limit);
        end.set.progress().unwrap();
        if let Some(ended) = impostor.child.try_wait().unwrap() {
            break ended;
        }
    };
    assert!(refused.success());
    echoed(&mut end, 2);
}

/// Who sleeps while a peer is alive and silent takes no processor time, and learns of its end.
#[test]
fn who_sleeps_learns_of_a_peers_end() {
    let _alone = alone();
    let job = job("sleeps");
    let domain = Domain::open(&adapter()).unwrap();
    let queue = domain.completion_queue(16);
    let shared_memory = SharedMemory::of_job(&*job);
    let end = domain.endpoint(Config { shared_memory, health_interval: HOURLY, ..Config::default() }, &queue).unwrap();
    let parent = end.address();
    end.lock().unwrap().tag_receive(Pattern::exact(0), vec![0; 8], 1).unwrap();
    let mut other = start("deaf", &job, parent);
    let to = other.address;
    assert!(matches!(queue.wait(Some(BOUND)).unwrap().completion, Completion::Received { .. }));
    end.lock().unwrap().tag_send(to, 1, vec![0; OVER], 2).unwrap();
    // It naps no longer than a quarter of a second at a time: longer sleeps than this one end when something happens.
    let limit = Instant::now() + BOUND;
    let mut before = domain.sleep_counts();
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = domain.sleep_counts();
        if now == before && now.is_asleep() {
            break;
        }
        assert!(Instant::now() < limit, "it is woken for nothing: {now:?}");
        before = now;
    }
    assert!(queue.read().is_none());
    other.child.kill().unwrap();
    let done = queue.wait(Some(BOUND)).unwrap().completion;
    let Completion::Failed { context: 2, error, buffer } = done else { panic!("{done:?}") };
    assert_eq!((error, buffer.len()), (OperationError::Unreachable(to), OVER));
}
