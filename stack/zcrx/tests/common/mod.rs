//! What the tests share: connections, patterns, and what a process holds.
#![allow(dead_code, reason = "each test program uses a part")]

use opx_zcrx::{Event, Queue, Ring, RingHandle, StreamId};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A connection over loopback: who sends, and who receives.
pub fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (sender, listener.accept().unwrap().0)
}

/// Byte number `at` of stream `seed`.
pub fn byte(seed: u64, at: u64) -> u8 {
    ((seed.wrapping_mul(131) ^ at ^ (at >> 8).wrapping_mul(31) ^ (at >> 16).wrapping_mul(17)) & 0xff) as u8
}

/// Sends `total` bytes of a stream's pattern from a thread of its own, and closes it.
pub fn send_pattern(mut to: TcpStream, seed: u64, total: u64) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut at = 0;
        while at < total {
            let end = total.min(at + 50_000);
            let piece: Vec<u8> = (at..end).map(|at| byte(seed, at)).collect();
            to.write_all(&piece).unwrap();
            at = end;
        }
    })
}

/// A stream's bytes are checked as they come.
#[derive(Debug, Default)]
pub struct Checker {
    /// For each stream its seed and how many bytes came.
    streams: BTreeMap<StreamId, (u64, u64)>,
    pub ended: usize,
}

impl Checker {
    pub fn expect(&mut self, stream: StreamId, seed: u64) {
        self.streams.insert(stream, (seed, 0));
    }

    pub fn check(&mut self, stream: StreamId, data: &[u8]) {
        let (seed, at) = self.streams.get_mut(&stream).expect("bytes of a stream that is received from");
        for (is, at) in data.iter().zip(*at..) {
            assert_eq!(*is, byte(*seed, at), "byte {at} of stream {seed}");
        }
        *at += data.len() as u64;
    }

    pub fn total(&self) -> u64 {
        self.streams.values().map(|(_, at)| at).sum()
    }
}

/// Receives and checks until so many streams have ended; what is received is dropped at once.
pub fn receive_until_end<Q: Queue>(ring: &Ring<Q>, checker: &mut Checker, streams: usize) {
    while checker.ended < streams {
        match ring.next_event() {
            Some(Event::Data { stream, data }) => checker.check(stream, &data),
            Some(Event::End { .. }) => checker.ended += 1,
            Some(other) => panic!("{other:?}"),
            None => ring.wait(Some(Duration::from_secs(20))).unwrap(),
        }
    }
}

/// The next thing that comes. It does come: the time only ends a test that would hang.
pub fn next<Q: Queue>(ring: &Ring<Q>) -> Event {
    for _ in 0..1000 {
        match ring.next_event() {
            Some(event) => return event,
            None => ring.wait(Some(Duration::from_millis(200))).unwrap(),
        }
    }
    panic!("nothing comes");
}

/// The next bytes.
pub fn next_data<Q: Queue>(ring: &Ring<Q>) -> opx_zcrx::Buffer {
    match next(ring) {
        Event::Data { data, .. } => data,
        other => panic!("{other:?}"),
    }
}

/// Tests that count what the process holds run one at a time, as do all others in their program.
pub fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// File descriptors of this process, and bytes that it has mapped for pools. Those are the ones advised to be huge pages
/// (flag `hg`), which stacks and heaps aren't.
pub fn held() -> (usize, u64) {
    let fds = fs::read_dir("/proc/self/fd").unwrap().count();
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut size, mut bytes) = (0, 0);
    for line in maps.lines() {
        let (key, rest) = line.split_once(':').unwrap_or_default();
        match key {
            "Size" => size = rest.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024,
            "VmFlags" if rest.split_whitespace().any(|flag| flag == "hg") => bytes += size,
            _ => {}
        }
    }
    (fds, bytes)
}

/// What a small pool takes of that.
pub const SMALL_POOL: u64 = 2 << 20;

/// Sends `total` bytes of a pattern over a connection of their own, receives and checks them.
pub fn carry<Q: Queue>(ring: &Ring<Q>, total: u64) {
    let (sender, receiver) = connection();
    let mut checker = Checker::default();
    checker.expect(ring.receive(receiver).unwrap(), 1);
    let sender = send_pattern(sender, 1, total);
    receive_until_end(ring, &mut checker, 1);
    sender.join().unwrap();
    assert_eq!(checker.total(), total);
}

/// A ring on a thread of its own, which does whatever it is told, until it is told to end.
pub struct Worker<Q: Queue> {
    pub handle: RingHandle<Q>,
    pub thread: JoinHandle<()>,
    end: Arc<AtomicBool>,
}

impl<Q: Queue> Worker<Q> {
    pub fn start(open: impl FnOnce() -> Ring<Q> + Send + 'static) -> Self {
        let (send, receive) = mpsc::channel();
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let thread = thread::spawn(move || {
            let ring = open();
            send.send(ring.handle()).unwrap();
            while !ended.load(Ordering::Relaxed) {
                ring.wait(None).unwrap();
            }
        });
        Self { handle: receive.recv().unwrap(), thread, end }
    }

    pub fn end(self) {
        let end = self.end;
        self.handle.run_and_wait(move |_| end.store(true, Ordering::Relaxed)).unwrap();
        self.thread.join().unwrap();
    }
}
