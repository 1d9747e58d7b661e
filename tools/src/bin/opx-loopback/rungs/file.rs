//! Rung "file": a real file's bytes in large messages, hashed where they leave and where they arrive.

use crate::report::{FileHashes, Tally};
use crate::rig::{Failure, Outcome, Rig, Watch};
use anyhow::Context;
use opx_bus::PciFunction;
use opx_stack::{Address, Completion, Endpoint, Pattern, SendError};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

/// Bytes of a message.
const CHUNK: usize = 1 << 20;
/// Messages under way at a time.
const WINDOW: u64 = 8;
/// Tag of the message that tells the file's length.
const TAG_LENGTH: u64 = 1 << 62;
/// Tag of chunk 0; chunk `n` has the tag `n` higher.
const TAG_CHUNK: u64 = 1 << 61;

/// The sending side: reads, hashes and sends the file.
struct Outgoing {
    file: File,
    len: u64,
    hash: Sha256,
    next: u64,
    done: u64,
    /// A chunk that was read and not accepted yet.
    waiting: Option<Vec<u8>>,
    announced: bool,
}

impl Outgoing {
    fn new(file: File) -> anyhow::Result<Self> {
        let len = file.metadata().context("can't tell the file's length")?.len();
        Ok(Self { file, len, hash: Sha256::new(), next: 0, done: 0, waiting: None, announced: false })
    }

    fn chunks(&self) -> u64 {
        self.len.div_ceil(CHUNK as u64)
    }

    fn is_done(&self) -> bool {
        // The announcement is a message too.
        self.done == self.chunks() + 1
    }

    /// Sends what may be sent now.
    fn start<B: PciFunction>(&mut self, end: &mut Endpoint<B>, to: Address) -> Result<(), Failure> {
        if !self.announced {
            match end.tag_send(to, TAG_LENGTH, self.len.to_le_bytes().to_vec(), TAG_LENGTH) {
                Ok(()) => self.announced = true,
                Err(no) if matches!(no.error, SendError::Again(_)) => return Ok(()),
                Err(no) => return Err(Failure::wrong(no.error.to_string())),
            }
        }
        while self.next < self.chunks() && self.next + 1 < self.done + WINDOW {
            let chunk = match self.waiting.take() {
                Some(chunk) => chunk,
                None => self.read()?,
            };
            match end.tag_send(to, TAG_CHUNK + self.next, chunk, self.next) {
                Ok(()) => self.next += 1,
                Err(no) if matches!(no.error, SendError::Again(_)) => {
                    self.waiting = Some(no.buffer.into_vec());
                    break;
                }
                Err(no) => return Err(Failure::wrong(no.error.to_string())),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Vec<u8>, Failure> {
        let len = (self.len - self.next * CHUNK as u64).min(CHUNK as u64) as usize;
        let mut chunk = vec![0; len];
        let read = self.file.read_exact(&mut chunk);
        read.map_err(|error| Failure::wrong(format!("the file can't be read any further: {error}")))?;
        self.hash.update(&chunk);
        Ok(chunk)
    }
}

/// The receiving side: asks for chunks and hashes them in order.
struct Arriving {
    len: Option<u64>,
    hash: Sha256,
    posted: u64,
    hashed: u64,
    /// Chunks that came before their turn.
    early: BTreeMap<u64, Vec<u8>>,
    bytes: u64,
}

impl Arriving {
    fn new<B: PciFunction>(end: &mut Endpoint<B>) -> Result<Self, Failure> {
        let posted = end.tag_receive(Pattern::exact(TAG_LENGTH), vec![0; 8], TAG_LENGTH);
        posted.map_err(|no| Failure::wrong(no.error.to_string()))?;
        Ok(Self { len: None, hash: Sha256::new(), posted: 0, hashed: 0, early: BTreeMap::new(), bytes: 0 })
    }

    fn chunks(&self) -> Option<u64> {
        Some(self.len?.div_ceil(CHUNK as u64))
    }

    fn is_done(&self) -> bool {
        self.chunks() == Some(self.hashed)
    }

    /// Asks for what may be asked for now.
    fn start<B: PciFunction>(&mut self, end: &mut Endpoint<B>) -> Result<(), Failure> {
        let Some((len, chunks)) = self.len.zip(self.chunks()) else { return Ok(()) };
        while self.posted < chunks && self.posted < self.hashed + WINDOW {
            let chunk = (len - self.posted * CHUNK as u64).min(CHUNK as u64) as usize;
            let posted = end.tag_receive(Pattern::exact(TAG_CHUNK + self.posted), vec![0; chunk], self.posted);
            posted.map_err(|no| Failure::wrong(no.error.to_string()))?;
            self.posted += 1;
        }
        Ok(())
    }

    fn take(&mut self, context: u64, len: usize, mut buffer: Vec<u8>) -> Result<(), Failure> {
        buffer.truncate(len);
        if context == TAG_LENGTH {
            let bytes = buffer.try_into().map_err(|_| Failure::wrong("the file's length came in the wrong form"))?;
            self.len = Some(u64::from_le_bytes(bytes));
            return Ok(());
        }
        self.early.insert(context, buffer);
        while let Some(chunk) = self.early.remove(&self.hashed) {
            self.hash.update(&chunk);
            self.bytes += chunk.len() as u64;
            self.hashed += 1;
        }
        Ok(())
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends a file from one endpoint of this adapter to another.
pub fn file<B: PciFunction>(
    rig: &Rig<B>,
    file: File,
    mut progress: impl FnMut(u64, u64),
    hashes: &mut FileHashes,
) -> Outcome {
    let mut pair = rig.pair(rig.faults.unwrap_or_default())?;
    let mut outgoing = Outgoing::new(file).map_err(|error| Failure::wrong(format!("{error:#}")))?;
    let mut arriving = Arriving::new(&mut pair.b)?;
    let to = pair.b.address();
    while !(outgoing.is_done() && arriving.is_done()) {
        outgoing.start(&mut pair.a, to)?;
        arriving.start(&mut pair.b)?;
        pair.step()?;
        while let Some(completion) = pair.a.poll_completion() {
            sent(&mut outgoing, completion)?;
            pair.alive();
        }
        while let Some(completion) = pair.b.poll_completion() {
            received(&mut arriving, completion)?;
            pair.alive();
            progress(arriving.bytes, outgoing.len);
        }
    }
    let tally = Tally { messages: arriving.hashed + 1, bytes: arriving.bytes, ..Tally::default() };
    let tally = pair.close(tally)?;
    let (left, arrived) = (hex(outgoing.hash), hex(arriving.hash));
    *hashes = FileHashes { sent: Some(left.clone()), arrived: Some(arrived.clone()) };
    if left != arrived {
        return Err(Failure::wrong("what arrived isn't what was sent"));
    }
    Ok(tally)
}

fn sent(outgoing: &mut Outgoing, completion: Completion) -> Result<(), Failure> {
    match completion {
        Completion::Sent { .. } => {
            outgoing.done += 1;
            Ok(())
        }
        Completion::Failed { error, .. } => Err(Failure::wrong(error.to_string())),
        _ => Err(Failure::wrong("the sending end received a message")),
    }
}

fn received(arriving: &mut Arriving, completion: Completion) -> Result<(), Failure> {
    match completion {
        Completion::Received { context, len, buffer, .. } => arriving.take(context, len, buffer.into_vec()),
        Completion::Failed { error, .. } => Err(Failure::wrong(error.to_string())),
        _ => Err(Failure::wrong("the receiving end sent a message")),
    }
}

/// The endpoint at the other end of a cable: both ends open one endpoint, so it has the same receive context.
fn other_end<B: PciFunction>(rig: &Rig<B>, end: &Endpoint<B>) -> Address {
    let peer = rig.hfi.link_info().map_or(end.address().lid, |link| link.peer_lid);
    Address { lid: peer, rx: end.address().rx }
}

/// Sends a file to the other end of the cable.
pub fn send_file<B: PciFunction>(
    rig: &Rig<B>,
    file: File,
    mut progress: impl FnMut(u64, u64),
    hashes: &mut FileHashes,
) -> Outcome {
    let mut end = open_end(rig)?;
    let to = other_end(rig, &end);
    let mut outgoing = Outgoing::new(file).map_err(|error| Failure::wrong(format!("{error:#}")))?;
    let mut watch = Watch::of(rig);
    while !outgoing.is_done() {
        outgoing.start(&mut end, to)?;
        let busy = end.progress()?;
        watch.step(busy)?;
        while let Some(completion) = end.poll_completion() {
            sent(&mut outgoing, completion)?;
            watch.alive();
            progress(outgoing.done.saturating_sub(1) * CHUNK as u64, outgoing.len);
        }
    }
    hashes.sent = Some(hex(outgoing.hash.clone()));
    let tally = Tally { messages: outgoing.done, bytes: outgoing.len, ..Tally::default() };
    Ok(with_counts(tally, &end))
}

/// Receives a file from the other end of the cable.
pub fn receive_file<B: PciFunction>(
    rig: &Rig<B>,
    mut progress: impl FnMut(u64, u64),
    hashes: &mut FileHashes,
) -> Outcome {
    let mut end = open_end(rig)?;
    let mut arriving = Arriving::new(&mut end)?;
    let mut watch = Watch::of(rig);
    while !arriving.is_done() {
        arriving.start(&mut end)?;
        let busy = end.progress()?;
        watch.step(busy)?;
        while let Some(completion) = end.poll_completion() {
            received(&mut arriving, completion)?;
            watch.alive();
            progress(arriving.bytes, arriving.len.unwrap_or(0));
        }
    }
    linger(rig, &mut end)?;
    hashes.arrived = Some(hex(arriving.hash));
    let tally = Tally { messages: arriving.hashed + 1, bytes: arriving.bytes, ..Tally::default() };
    Ok(with_counts(tally, &end))
}

/// Answers the other end's questions until it has been silent for a while: it may not know yet that all has arrived.
fn linger<B: PciFunction>(rig: &Rig<B>, end: &mut Endpoint<B>) -> Result<(), Failure> {
    const SILENCE: std::time::Duration = std::time::Duration::from_secs(1);
    let bus = rig.hfi.bus();
    let mut last = bus.now();
    while bus.now().since(last) < SILENCE {
        let before = end.counters().packets_in;
        if !end.progress()? {
            bus.relax();
        }
        if end.counters().packets_in != before {
            last = bus.now();
        }
    }
    Ok(())
}

fn open_end<B: PciFunction>(rig: &Rig<B>) -> Result<Endpoint<B>, Failure> {
    let mut config = rig.config.clone();
    config.receive_faults = rig.faults.unwrap_or_default();
    config.seed = rig.seed;
    Ok(Endpoint::open(&rig.hfi, config)?)
}

fn with_counts<B: PciFunction>(mut tally: Tally, end: &Endpoint<B>) -> Tally {
    tally.faults = end.receive_fault_counts().total();
    tally.retransmits = end.reliability_counters().replays_sent;
    tally
}
