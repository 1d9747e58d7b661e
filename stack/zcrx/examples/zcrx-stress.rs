//! Moves bytes through a small pool that several rings share, and checks every one: `zcrx-stress --help`.
//!
//! Each ring has a thread and some connections over loopback. What a ring receives is checked and dropped by other threads,
//! each fourth buffer by its own. On a kernel without zero-copy receive the same is done on the fake kernel.

use opx_zcrx::{
    Buffer, Event, Fake, Kernel, Linux, Options, Queue, Ring, RingHandle, Source, Statistics, StreamId, share_pools,
};
use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const HELP: &str = "usage: zcrx-stress [--bytes N] [--buffers N] [--owners N] [--importers N] [--connections N]
                   [--checkers N] [--kernel auto|linux|fake]
  --bytes        to be moved in all; K, M, G may follow (default 64M)
  --buffers      of each pool (default 64)
  --owners       rings with a pool of their own (default 1)
  --importers    rings that import a pool (default 2)
  --connections  of each ring (default 2)
  --checkers     threads that check and drop what rings receive (default 2)
  --kernel       the running one, the fake one, or the first that works (default auto)";

type Failed = Box<dyn Error + Send + Sync>;

/// What is to be done.
#[derive(Debug, Clone)]
struct Plan {
    bytes: u64,
    buffers: u32,
    owners: usize,
    importers: usize,
    connections: usize,
    checkers: usize,
    kernel: String,
}

impl Plan {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failed> {
        let mut plan = Self {
            bytes: 64 << 20,
            buffers: 64,
            owners: 1,
            importers: 2,
            connections: 2,
            checkers: 2,
            kernel: "auto".to_owned(),
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(HELP)?;
            let number = || size(&value).ok_or_else(|| format!("{name} takes a number, not {value}\n{HELP}"));
            match name.as_str() {
                "--bytes" => plan.bytes = number()?,
                "--buffers" => plan.buffers = u32::try_from(number()?)?,
                "--owners" => plan.owners = usize::try_from(number()?)?,
                "--importers" => plan.importers = usize::try_from(number()?)?,
                "--connections" => plan.connections = usize::try_from(number()?)?,
                "--checkers" => plan.checkers = usize::try_from(number()?)?,
                "--kernel" => plan.kernel = value,
                _ => return Err(HELP.into()),
            }
        }
        Ok(plan)
    }
}

/// A number with K, M or G behind it.
fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 10),
        Some(digits) if text.ends_with('M') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Writes the bytes of stream `seed` from place `at` on: a word's are what a multiplication makes of its number.
fn pattern(seed: u64, at: u64, into: &mut [u8]) {
    let word = |number: u64| (number ^ seed << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).to_le_bytes();
    let skip = (at % 8) as usize;
    let (head, rest) = into.split_at_mut(((8 - skip) % 8).min(into.len()));
    head.copy_from_slice(&word(at / 8)[skip..][..head.len()]);
    for (number, bytes) in (at.div_ceil(8)..).zip(rest.chunks_mut(8)) {
        bytes.copy_from_slice(&word(number)[..bytes.len()]);
    }
}

/// Received bytes that are to be checked.
struct Piece {
    seed: u64,
    at: u64,
    data: Buffer,
}

impl Piece {
    fn check(&self, expected: &mut Vec<u8>) -> Result<u64, Failed> {
        expected.resize(self.data.len(), 0);
        pattern(self.seed, self.at, expected);
        if self.data[..] == expected[..] {
            return Ok(self.data.len() as u64);
        }
        let wrong = self.data.iter().zip(&*expected).position(|(is, should)| is != should).unwrap_or(0);
        Err(format!("stream {}: byte {} is wrong", self.seed, self.at + wrong as u64).into())
    }
}

fn main() -> ExitCode {
    match Plan::parse(std::env::args().skip(1)).and_then(|plan| choose(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zcrx-stress: {error}");
            ExitCode::FAILURE
        }
    }
}

/// On the running kernel if that is wanted and works, else on the fake one.
fn choose(plan: &Plan) -> Result<(), Failed> {
    let try_it = || -> Result<(), Failed> { Ok(Ring::open(&options(plan))?.create_pool()?) };
    match plan.kernel.as_str() {
        "fake" => run(Fake::default(), plan, "fake"),
        "linux" => try_it().and_then(|()| run(Linux, plan, "linux")),
        "auto" => match try_it() {
            Ok(()) => run(Linux, plan, "linux"),
            Err(why) => {
                println!("on the fake kernel, since on the running one: {why}");
                run(Fake::default(), plan, "fake")
            }
        },
        other => Err(format!("no kernel {other}\n{HELP}").into()),
    }
}

fn options(plan: &Plan) -> Options {
    Options::new().zero_copy_rx(Source::NoDevice).zc_rx_import().num_buffers(plan.buffers).refill_entries(plan.buffers)
}

/// A ring on a thread of its own.
struct Worker<Q: Queue> {
    ring: RingHandle<Q>,
    thread: thread::JoinHandle<Result<(), Failed>>,
    end: Arc<AtomicBool>,
}

impl<Q: Queue> Worker<Q> {
    fn start<K: Kernel<Queue = Q> + Clone + Send + 'static>(kernel: K, options: Options) -> Result<Self, Failed> {
        let (send, receive) = mpsc::channel();
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let thread = thread::spawn(move || -> Result<(), Failed> {
            let ring = Ring::open_on(&kernel, &options)?;
            send.send(ring.handle())?;
            while !ended.load(Ordering::Relaxed) {
                ring.wait(None)?;
            }
            Ok(())
        });
        match receive.recv() {
            Ok(ring) => Ok(Self { ring, thread, end }),
            Err(_) => Err(thread.join().map_err(|_| "a ring's thread fell over")?.err().unwrap_or_else(|| "".into())),
        }
    }

    fn end(self) -> Result<(), Failed> {
        let end = self.end;
        self.ring.run_and_wait(move |_| end.store(true, Ordering::Relaxed))?;
        self.thread.join().map_err(|_| "a ring's thread fell over")?
    }
}

/// Receives from all sockets to their end. The statistics are the ring's.
fn receive<Q: Queue>(
    ring: &Ring<Q>,
    sockets: Vec<(u64, TcpStream)>,
    checkers: &[mpsc::SyncSender<Piece>],
    moved: &AtomicU64,
) -> Result<Statistics, Failed> {
    let mut streams: HashMap<StreamId, (u64, u64)> = HashMap::new();
    for (seed, socket) in sockets {
        streams.insert(ring.receive(socket)?, (seed, 0));
    }
    let (mut expected, mut turn) = (Vec::new(), 0_usize);
    while !streams.is_empty() {
        match ring.next_event() {
            Some(Event::Data { stream, data }) => {
                let (seed, at) = streams.get_mut(&stream).ok_or("bytes of an unknown stream")?;
                let piece = Piece { seed: *seed, at: *at, data };
                *at += piece.data.len() as u64;
                turn += 1;
                match checkers.get(turn % 4).or(checkers.first()) {
                    Some(checker) if turn % 4 != 3 => checker.send(piece)?,
                    _ => drop(moved.fetch_add(piece.check(&mut expected)?, Ordering::Relaxed)),
                }
            }
            Some(Event::End { stream }) => drop(streams.remove(&stream)),
            Some(Event::Failed { stream, error }) => return Err(format!("{stream:?}: {error}").into()),
            Some(_) => {}
            None => ring.wait(Some(Duration::from_secs(30)))?,
        }
    }
    Ok(ring.take_statistics())
}

fn run<K: Kernel + Clone + Send + 'static>(kernel: K, plan: &Plan, name: &str) -> Result<(), Failed> {
    let rings = plan.owners + plan.importers;
    let streams = (rings * plan.connections) as u64;
    if streams == 0 {
        return Err("there is nothing to receive: it takes a ring with a connection".into());
    }
    let start = Instant::now();
    let mut workers = Vec::new();
    for _ in 0..rings {
        workers.push(Worker::start(kernel.clone(), options(plan))?);
    }
    let handles: Vec<_> = workers.iter().map(|worker| worker.ring.clone()).collect();
    share_pools(&handles, plan.owners.max(1))?;

    let moved = Arc::new(AtomicU64::new(0));
    let failure = Arc::new(Mutex::new(None::<Failed>));
    let fail = {
        let failure = failure.clone();
        move |error: Failed| drop(failure.lock().map(|mut first| first.get_or_insert(error).to_string()))
    };
    let mut threads = Vec::new();
    let mut checkers = Vec::new();
    for _ in 0..plan.checkers.min(3) {
        // Few may wait: what waits is what a pool lacks.
        let (send, pieces) = mpsc::sync_channel::<Piece>(4);
        checkers.push(send);
        let (moved, fail) = (moved.clone(), fail.clone());
        threads.push(thread::spawn(move || {
            let mut expected = Vec::new();
            for piece in pieces {
                match piece.check(&mut expected) {
                    Ok(len) => drop(moved.fetch_add(len, Ordering::Relaxed)),
                    Err(error) => fail(error),
                }
            }
        }));
    }
    let statistics = Arc::new(Mutex::new(Vec::new()));
    let mut seed = 0;
    for ring in &handles {
        let mut sockets = Vec::new();
        for _ in 0..plan.connections {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let sender = TcpStream::connect(listener.local_addr()?)?;
            sockets.push((seed, listener.accept()?.0));
            let share = plan.bytes / streams + u64::from(seed < plan.bytes % streams);
            let fail = fail.clone();
            threads.push(thread::spawn(move || send_all(sender, seed, share).unwrap_or_else(fail)));
            seed += 1;
        }
        let (ring, checkers, moved) = (ring.clone(), checkers.clone(), moved.clone());
        let (statistics, fail) = (statistics.clone(), fail.clone());
        threads.push(thread::spawn(move || {
            let received = ring.run_and_wait(move |ring| receive(ring, sockets, &checkers, &moved));
            match received.map_err(Failed::from).and_then(|received| received) {
                Ok(counts) => drop(statistics.lock().map(|mut all| all.push(counts))),
                Err(error) => fail(error),
            }
        }));
    }
    drop(checkers);
    for thread in threads {
        thread.join().map_err(|_| "a thread fell over")?;
    }
    for worker in workers {
        worker.end()?;
    }
    if let Some(error) = failure.lock().map_err(|_| "a thread fell over")?.take() {
        return Err(error);
    }
    let total = moved.load(Ordering::Relaxed);
    if total != plan.bytes {
        return Err(format!("{total} bytes came of {}", plan.bytes).into());
    }
    let statistics = statistics.lock().map_err(|_| "a thread fell over")?;
    let sum = |count: fn(&Statistics) -> u64| statistics.iter().map(count).sum::<u64>();
    let seconds = start.elapsed().as_secs_f64();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "zcrx-stress ok: kernel={name} bytes={total} rings={rings} importers={} connections={streams} buffers={} \
         seconds={seconds:.1} starved={} rearmed={} bad_completions={}",
        plan.importers,
        plan.buffers,
        sum(|counts| counts.starved),
        sum(|counts| counts.rearmed),
        sum(|counts| counts.bad_completions),
    )?;
    // The owners' and importers' counts of a pool are the same ones.
    for (ring, counts) in statistics.iter().enumerate() {
        writeln!(out, "zcrx-stress ring {ring}: {counts:?}")?;
    }
    Ok(())
}

fn send_all(mut to: TcpStream, seed: u64, bytes: u64) -> Result<(), Failed> {
    let mut piece = vec![0; 64 << 10];
    let mut at = 0;
    while at < bytes {
        let len = piece.len().min(usize::try_from(bytes - at).unwrap_or(usize::MAX));
        pattern(seed, at, &mut piece[..len]);
        to.write_all(&piece[..len])?;
        at += len as u64;
    }
    Ok(())
}
