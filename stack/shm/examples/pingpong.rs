//! Latency, message rate and bandwidth between two processes of this machine: `cargo run --release -p opx-shm --example
//! pingpong`. The program starts itself once more as the other process; each is pinned to a processor.
//!
//! Half round trips, with their median and best round; windowed one-way bandwidth; with one buffer each, and with buffers that
//! rotate over 64 MiB so that data isn't in a cache. Payload is verified in a pass of its own. `--large ring|kernel` fixes how
//! offered memory is fetched, `--cpus A,B` the processors.

use opx_shm::{Config, Event, Header, Large, Node, Offered, PeerId, SendError, Sink, Source};
use std::collections::VecDeque;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const OTHER: &str = "OPX_SHM_PINGPONG";
const SIZES: [usize; 8] = [0, 8, 64, 1 << 10, 8 << 10, 64 << 10, 1 << 20, 4 << 20];
/// What rotates.
const ROTATION: usize = 64 << 20;
const ROUNDS: usize = 7;

/// What the first process asks the other for: each a message of this kind.
const PING: u16 = 1;
/// A message that is only counted; the last of a window is answered.
const FLOW: u16 = 2;
const LAST: u16 = 3;
const END: u16 = 4;

type Error = Box<dyn std::error::Error>;

/// One end, with its buffers.
struct Side {
    node: Node,
    peer: Option<PeerId>,
    /// What is sent: as many buffers as rotate.
    sources: Vec<Arc<Vec<u8>>>,
    /// What is received into, in turn.
    sinks: VecDeque<Vec<u8>>,
    /// Offers for which there is no buffer at present.
    waiting: VecDeque<(u16, Offered)>,
    turn: usize,
    longest: usize,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Came {
    kind: u16,
    len: usize,
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 13 + i / 257) as u8).collect()
}

impl Side {
    fn buffers(&mut self, len: usize, rotating: bool) {
        let count = if rotating { (ROTATION / len.max(1)).clamp(1, 4096) } else { 1 };
        let one = pattern(len);
        self.sources = (0..count).map(|_| Arc::new(one.clone())).collect();
        self.sinks = (0..count.max(2)).map(|_| vec![0; len]).collect();
        self.turn = 0;
    }

    /// Whether buffers are sent as messages.
    fn is_short(&self) -> bool {
        self.sources.first().is_some_and(|source| source.len() <= self.longest)
    }

    fn send(&mut self, kind: u16) -> Result<(), Error> {
        let Some(peer) = self.peer else { return Err("no peer".into()) };
        let Some(source) = self.sources.get(self.turn).map(Arc::clone) else { return Err("no buffer".into()) };
        self.turn = (self.turn + 1) % self.sources.len();
        let header = Header { kind, words: [source.len() as u64, 0] };
        loop {
            let sent = if source.len() <= self.longest {
                self.node.try_send(peer, header, &[&source])
            } else {
                self.node.offer(peer, header, Source::shared(Arc::clone(&source))).map(|_| ()).map_err(|(why, _)| why)
            };
            match sent {
                Ok(()) => return Ok(()),
                Err(SendError::Again) => {
                    self.poll(|_| {})?;
                }
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Polls; offered memory is fetched, and counts when it is there.
    fn poll(&mut self, mut came: impl FnMut(Came)) -> Result<(), Error> {
        let mut gone = None;
        let Self { node, sinks, waiting, peer: known, .. } = self;
        node.poll(|event| match event {
            Event::Message(message) => {
                if let Some(sink) = sinks.front_mut() {
                    message.read(0, sink);
                    sinks.rotate_left(1);
                }
                came(Came { kind: message.header.kind, len: message.header.words[0] as usize });
            }
            Event::Offer { header, offered, .. } => waiting.push_back((header.kind, offered)),
            Event::Pulled { sink, result, .. } => {
                if let (Ok(_), Some(mut bytes)) = (result, sink.into_vec()) {
                    // The kind was put behind the buffer's end.
                    let kind = bytes.pop().unwrap_or(0);
                    came(Came { kind: kind.into(), len: bytes.len() });
                    sinks.push_back(bytes);
                }
            }
            Event::Connected(peer) => *known = Some(peer),
            Event::Gone { reason, .. } => gone = Some(reason),
            _ => {}
        })?;
        while !self.waiting.is_empty() {
            let Some(mut bytes) = self.sinks.pop_front() else { break };
            let Some((kind, offered)) = self.waiting.pop_front() else { break };
            bytes.resize(offered.len() as usize, 0);
            bytes.push(kind as u8);
            self.node.pull(offered, Sink::from(bytes));
        }
        gone.map_or(Ok(()), |reason| Err(reason.to_string().into()))
    }

    fn until(&mut self, wanted: u16) -> Result<Came, Error> {
        let mut found = None;
        while found.is_none() {
            self.poll(|came| {
                if came.kind == wanted || came.kind == END {
                    found = Some(came);
                }
            })?;
        }
        found.ok_or_else(|| "nothing came".into())
    }
}

fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    if let Err(why) = rustix::thread::sched_setaffinity(None, &set) {
        eprintln!("not pinned to processor {cpu}: {why}");
    }
}

/// The other process: answers pings with as much, and the last of a window with a few bytes.
fn answer(name: &str, cpu: usize, config: Config) -> Result<(), Error> {
    pin(cpu);
    let mut node = Node::open(&format!("{name}-other"), config)?;
    let peer = node.connect(name)?;
    let longest = node.longest(peer)?;
    let mut side = Side {
        node,
        peer: Some(peer),
        sources: vec![],
        sinks: VecDeque::new(),
        waiting: VecDeque::new(),
        turn: 0,
        longest,
    };
    side.buffers(0, false);
    side.send(PING)?;
    let (mut len, mut due) = (0, VecDeque::new());
    loop {
        side.poll(|came| {
            if came.kind != FLOW {
                due.push_back(came);
            }
        })?;
        while let Some(came) = due.pop_front() {
            match came.kind {
                PING => {
                    if came.len != len {
                        len = came.len;
                        side.buffers(len, false);
                    }
                    side.send(PING)?;
                }
                LAST => {
                    if came.len != len {
                        len = came.len;
                        side.buffers(len, false);
                    }
                    side.node.try_send(peer, Header { kind: LAST, words: [0; 2] }, &[])?;
                }
                _ => return Ok(()),
            }
        }
    }
}

/// Half round trips of a round, on average.
fn latency(side: &mut Side, rounds: usize) -> Result<Duration, Error> {
    let begun = Instant::now();
    for _ in 0..rounds {
        side.send(PING)?;
        side.until(PING)?;
    }
    Ok(begun.elapsed() / (2 * rounds as u32))
}

/// Messages one way, answered once at the end.
fn flow(side: &mut Side, messages: usize) -> Result<Duration, Error> {
    const WINDOW: usize = 64;
    let begun = Instant::now();
    let mut left = messages;
    while left > 0 {
        let now = left.min(if side.is_short() { 16 * WINDOW } else { WINDOW });
        for _ in 1..now {
            side.send(FLOW)?;
        }
        side.send(LAST)?;
        side.until(LAST)?;
        left -= now;
    }
    Ok(begun.elapsed())
}

fn median_and_best(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    (values.get(values.len() / 2).copied().unwrap_or(0.0), values.first().copied().unwrap_or(0.0))
}

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args();
    arguments.find(|argument| argument == name)?;
    arguments.next()
}

fn main() -> Result<(), Error> {
    let large = match argument("--large").as_deref() {
        Some("ring") => Large::Ring,
        Some("kernel") => Large::Kernel,
        Some(other) => return Err(format!("--large is ring or kernel, not {other}").into()),
        None => Large::Measured,
    };
    let cpus: Vec<usize> =
        argument("--cpus").as_deref().unwrap_or("0,1").split(',').map(str::parse).collect::<Result<_, _>>()?;
    let [here, there] = *cpus.as_slice() else { return Err("--cpus takes two".into()) };
    let short = std::env::args().any(|argument| argument == "--short");
    let config = Config { large, ..Config::default() };
    if let Ok(name) = std::env::var(OTHER) {
        return answer(&name, there, config);
    }

    pin(here);
    let name = format!("pingpong-{}", std::process::id());
    let node = Node::open(&name, config)?;
    let mut side = Side {
        node,
        peer: None,
        sources: vec![],
        sinks: VecDeque::new(),
        waiting: VecDeque::new(),
        turn: 0,
        longest: 0,
    };
    side.buffers(0, false);
    let mut other =
        Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(OTHER, &name).spawn()?;
    side.until(PING)?;
    let Some(peer) = side.peer else { return Err("nobody has connected".into()) };
    side.longest = side.node.longest(peer)?;
    match side.node.kernel_copy(peer) {
        Ok(()) => println!("the kernel copies from the peer"),
        Err(why) => println!("the kernel doesn't copy from the peer: {why}"),
    }

    println!(
        "| bytes | half round trip, us: median / best | GB/s: median / best | M msgs/s: median / best | rotating: us | rotating: GB/s |"
    );
    println!("|---|---|---|---|---|---|");
    for len in SIZES {
        let budget = if short { 20 } else { 20_000 };
        let trips = (budget * 4096 / (4096 + len)).max(5);
        let messages = (budget * 10 * 4096 / (4096 + len)).max(32);
        let mut columns = Vec::new();
        for rotating in [false, true] {
            side.buffers(len, rotating);
            // To warm up, and to have the other end make its buffers.
            latency(&mut side, trips / 10 + 2)?;
            let (mut latencies, mut times) = (Vec::new(), Vec::new());
            for _ in 0..if short { 1 } else { ROUNDS } {
                latencies.push(latency(&mut side, trips)?.as_secs_f64() * 1e6);
                times.push(flow(&mut side, messages)?.as_secs_f64() / messages as f64);
            }
            columns.push((median_and_best(latencies), median_and_best(times)));
        }
        let [((latency, best), (time, quickest)), ((far, _), (slow, _))] = columns.as_slice() else { continue };
        let rate = |time: f64| len as f64 / time / 1e9;
        println!(
            "| {len} | {latency:.3} / {best:.3} | {:.2} / {:.2} | {:.2} / {:.2} | {far:.3} | {:.2} |",
            rate(*time),
            rate(*quickest),
            1e-6 / time,
            1e-6 / quickest,
            rate(*slow)
        );
    }
    // A pass of its own, so that looking at every byte doesn't count.
    for len in SIZES {
        side.buffers(len, false);
        latency(&mut side, 3)?;
        let expected = pattern(len);
        let wrong = side.sinks.iter().filter(|sink| **sink != expected && sink.iter().any(|byte| *byte != 0)).count();
        let right = side.sinks.iter().filter(|sink| **sink == expected).count();
        if wrong != 0 || right < 1 {
            return Err(format!("{len} bytes: {wrong} buffers hold something else, {right} what was sent").into());
        }
    }
    println!("payload verified; {:?}", side.node.counters());
    side.buffers(0, false);
    side.send(END)?;
    if !other.wait()?.success() {
        return Err("the other process failed".into());
    }
    Ok(())
}
