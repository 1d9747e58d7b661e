//! Rungs "latency" and "bandwidth": messages by size between two endpoints, timed by the adapter's clock.
//!
//! Both ends are driven by one thread, so the times are those of both ends' software, of the adapter, and of the way between.

use crate::data;
use crate::report::{Bandwidth, Bucket, Latency, Spread, Tally};
use crate::rig::{Failure, Outcome, Pair, Rig};
use hdrhistogram::Histogram;
use opx_bus::{PacketFaults, PciFunction, SharedMem};
use opx_stack::{Buffer, Completion, Pattern, SendError, SharedRange};

/// Bytes of the messages that go to and fro.
const LATENCY_SIZES: [usize; 6] = [8, 64, 512, 4096, 16 << 10, 256 << 10];
/// Bytes of the messages that go one way.
const BANDWIDTH_SIZES: [usize; 9] = [64, 512, 4096, 8192, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
/// From here on messages lie in memory that the adapter reaches, so that no processor copies them.
const WITHOUT_COPIES: usize = 64 << 10;
/// Rounds of each size that count; one more comes before them.
const ROUNDS: usize = 5;
/// Bytes of a round, about.
const ROUND_BYTES: usize = 8 << 20;
/// Messages of a round.
const FEWEST: usize = 8;
const MOST: usize = 2000;

/// What the link carries of payload (docs/performance.md).
pub const LINK_GBPS: f64 = 96.0;

/// Messages to and fro, one at a time: half of each round trip.
pub fn latency<B: PciFunction>(rig: &Rig<B>, into: &mut Vec<Latency>) -> Outcome {
    let mut pair = rig.pair(PacketFaults::default())?;
    let mut tally = Tally::default();
    for size in LATENCY_SIZES {
        into.push(ping_pong(rig, &mut pair, size, &mut tally)?);
    }
    pair.close(tally)
}

fn ping_pong<B: PciFunction>(
    rig: &Rig<B>,
    pair: &mut Pair<'_, B>,
    size: usize,
    tally: &mut Tally,
) -> Result<Latency, Failure> {
    let count = (ROUND_BYTES / 8 / size).clamp(100, MOST);
    let warmup = count / 10;
    let bus = rig.hfi.bus();
    // Three digits: a bucket is at most a thousandth wide.
    let mut halves = Histogram::<u64>::new(3).map_err(|error| Failure::wrong(error.to_string()))?;
    let mut spare: Vec<Buffer> = Vec::new();
    for n in 0..warmup + count {
        let seed = rig.seed ^ n as u64;
        // The content of the first is looked at, to see that these are the messages that are timed.
        let checked = n == 0;
        let mut message = spare.pop().unwrap_or_else(|| vec![0; size].into());
        if checked {
            message = data::make(seed, size).into();
        }
        let start = bus.now();
        for there in [true, false] {
            post(pair, there, spare.pop().unwrap_or_else(|| vec![0; size].into()))?;
            message = carry(pair, there, message, &mut spare)?;
        }
        if n >= warmup {
            // A half of the round trip; nothing is as fast as no time.
            let half = (bus.now().since(start).as_nanos() as u64 / 2).max(1);
            halves.record(half).map_err(|error| Failure::wrong(error.to_string()))?;
        }
        if checked && data::first_difference(seed, &message.bytes()).is_some() {
            return Err(Failure::wrong(format!("a message of {size} bytes came back changed")));
        }
        spare.push(message);
        tally.messages += 2;
        tally.bytes += 2 * size as u64;
    }
    pair.settle()?;
    drain(pair, &mut Vec::new())?;
    Ok(Latency::new(size, &halves))
}

fn post<B: PciFunction>(pair: &mut Pair<'_, B>, at_b: bool, buffer: Buffer) -> Result<(), Failure> {
    let end = if at_b { &mut pair.b } else { &mut pair.a };
    end.tag_receive(Pattern::exact(0), buffer, 0).map(drop).map_err(|no| Failure::wrong(no.error.to_string()))
}

/// Sends a message to the other end and waits until it is there. Gives the buffer that it came in.
fn carry<B: PciFunction>(
    pair: &mut Pair<'_, B>,
    to_b: bool,
    message: Buffer,
    spare: &mut Vec<Buffer>,
) -> Result<Buffer, Failure> {
    let mut waiting = Some(message);
    loop {
        if let Some(message) = waiting.take() {
            let Pair { a, b, .. } = &mut *pair;
            let (from, to) = if to_b { (a, b) } else { (b, a) };
            match from.tag_send(to.address(), 0, message, 0) {
                Ok(()) => {}
                Err(no) if matches!(no.error, SendError::Again(_)) => waiting = Some(no.buffer),
                Err(no) => return Err(Failure::wrong(no.error.to_string())),
            }
        }
        pair.step()?;
        if let Some(arrived) = drain(pair, spare)?.pop() {
            return Ok(arrived);
        }
    }
}

/// Takes what has ended at both ends: buffers of sends are spare, those of receives are given.
fn drain<B: PciFunction>(pair: &mut Pair<'_, B>, spare: &mut Vec<Buffer>) -> Result<Vec<Buffer>, Failure> {
    let mut arrived = Vec::new();
    for end in [true, false] {
        while let Some(completion) = if end { pair.a.poll_completion() } else { pair.b.poll_completion() } {
            pair.alive();
            match completion {
                Completion::Sent { buffer, .. } => spare.push(buffer),
                Completion::Received { buffer, .. } => arrived.push(buffer),
                Completion::Failed { error, .. } => return Err(Failure::wrong(error.to_string())),
                other => return Err(Failure::wrong(format!("nobody asked for {other:?}"))),
            }
        }
    }
    Ok(arrived)
}

/// Messages one way, several under way at a time, until the other end has them all.
pub fn bandwidth<B: PciFunction>(rig: &Rig<B>, into: &mut Vec<Bandwidth>) -> Outcome {
    let mut pair = rig.pair(PacketFaults::default())?;
    let mut tally = Tally::default();
    for size in BANDWIDTH_SIZES {
        let count = (ROUND_BYTES / size).clamp(FEWEST, MOST);
        let window = if size < WITHOUT_COPIES { 64 } else { 8 };
        let mut stream = Stream::new(size, count, window)?;
        stream.round(rig, &mut pair)?;
        let rounds = (0..ROUNDS).map(|_| stream.round(rig, &mut pair)).collect::<Result<Vec<_>, _>>()?;
        tally.messages += (count * ROUNDS) as u64;
        tally.bytes += (size * count * ROUNDS) as u64;
        let gbps = Spread::of(&rounds);
        into.push(Bandwidth {
            size,
            window,
            messages: count as u64,
            rounds: ROUNDS,
            copied: size < WITHOUT_COPIES,
            share_of_link: gbps.median / LINK_GBPS,
            gbps,
        });
    }
    pair.close(tally)
}

/// Messages of one size, with the buffers that they are in.
struct Stream {
    size: usize,
    count: usize,
    outgoing: Vec<Buffer>,
    incoming: Vec<Buffer>,
}

impl Stream {
    fn new(size: usize, count: usize, window: usize) -> Result<Self, Failure> {
        let buffer = || -> Result<Buffer, Failure> {
            if size < WITHOUT_COPIES {
                return Ok(vec![0; size].into());
            }
            let memory = SharedMem::new(size).map_err(|error| Failure::wrong(error.to_string()))?;
            SharedRange::new(memory, 0, size).map(Buffer::from).ok_or_else(|| Failure::wrong("a message is too long"))
        };
        let some = |count: usize| (0..count).map(|_| buffer()).collect::<Result<Vec<_>, _>>();
        Ok(Self { size, count, outgoing: some(window)?, incoming: some(2 * window)? })
    }

    /// Gigabits of payload a second.
    fn round<B: PciFunction>(&mut self, rig: &Rig<B>, pair: &mut Pair<'_, B>) -> Result<f64, Failure> {
        let bus = rig.hfi.bus();
        let (mut posted, mut sent, mut received) = (0, 0, 0);
        let start = bus.now();
        while received < self.count {
            while posted < self.count
                && let Some(buffer) = self.incoming.pop()
            {
                post(pair, true, buffer)?;
                posted += 1;
            }
            while sent < self.count
                && let Some(buffer) = self.outgoing.pop()
            {
                let to = pair.b.address();
                match pair.a.tag_send(to, 0, buffer, 0) {
                    Ok(()) => sent += 1,
                    Err(no) if matches!(no.error, SendError::Again(_)) => {
                        self.outgoing.push(no.buffer);
                        break;
                    }
                    Err(no) => return Err(Failure::wrong(no.error.to_string())),
                }
            }
            pair.step()?;
            let arrived = drain(pair, &mut self.outgoing)?;
            received += arrived.len();
            self.incoming.extend(arrived);
        }
        let nanos = bus.now().since(start).as_nanos().max(1) as f64;
        pair.settle()?;
        drain(pair, &mut self.outgoing)?;
        Ok((self.size * self.count * 8) as f64 / nanos)
    }
}

impl Latency {
    fn new(size: usize, halves: &Histogram<u64>) -> Self {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let at = |share| micros(halves.value_at_quantile(share));
        // Eight steps between a time and its double.
        let steps = halves
            .iter_log(64, 2f64.powf(0.125))
            .map(|step| Bucket { up_to_ns: step.value_iterated_to(), count: step.count_since_last_iteration() });
        Self {
            size,
            messages: halves.len(),
            min_us: micros(halves.min()),
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: micros(halves.max()),
            histogram: steps.skip_while(|bucket| bucket.count == 0).collect(),
        }
    }
}
