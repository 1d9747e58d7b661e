//! Rung "sdma errors": packets that halt an engine among good ones; each packet ends once, and the engine goes on after its
//! restart.

use super::raw::{MAX_PAYLOAD, RawReceiver};
use crate::report::Tally;
use crate::rig::{Failure, Outcome, Rig, Watch};
use opx_bus::{DmaBlock, PciFunction};
use opx_defs::status::SdmaErrors;
use opx_hw::RecvConfig;
use opx_sdma::{Fragment, Outcome as Ended, SdmaError, SdmaQueue, WaitError};
use std::time::Duration;

const RING: u32 = 64;
/// Packets given to the engine at a time.
const BATCH: u32 = 12;
/// The bad one's place, in turn: the first, one in the midst, the last, none.
const BAD: [Option<u32>; 4] = [Some(0), Some(7), Some(BATCH - 1), None];
const ROUNDS: usize = 6;
const SLOT: usize = 64 + MAX_PAYLOAD;
const LIMIT: Duration = Duration::from_secs(10);

/// Gives an engine packets that are shorter than their PBC says, and checks what becomes of them and of their neighbours.
pub fn sdma_errors<B: PciFunction>(rig: &Rig<B>) -> Outcome {
    let mut receiver = RawReceiver::new(rig, RecvConfig::default())?;
    let mut queue = SdmaQueue::<B, u32>::new(rig.hfi.sdma_engine(RING)?);
    let memory = rig.hfi.bus().dma_alloc(BATCH as usize * SLOT)?;
    let mut halts = 0;
    for (round, bad) in BAD.into_iter().cycle().take(ROUNDS * BAD.len()).enumerate() {
        submit(&receiver, &mut queue, &memory, bad)?;
        let good = bad.unwrap_or(BATCH);
        let ended = match bad {
            None => all_sent(&mut queue)?,
            Some(_) => {
                halts += 1;
                let sleep = round % 2 == 0;
                let mut ended = expect_halt(rig, &mut queue, sleep)?;
                queue.restart()?;
                ended.extend(std::iter::from_fn(|| queue.poll()));
                ended
            }
        };
        let expected = (0..BATCH).map(|n| (n, if n < good { Ended::Sent } else { Ended::Failed }));
        if !ended.iter().copied().eq(expected) {
            return Err(Failure::wrong(format!("with packet {bad:?} of {BATCH} bad, packets ended so: {ended:?}")));
        }
        arrive(rig, &mut receiver, good)?;
    }
    if queue.counters().restarts != halts {
        return Err(Failure::wrong(format!("{halts} halts, and {} restarts", queue.counters().restarts)));
    }
    Ok(Tally { faults: halts, ..receiver.tally })
}

/// Queues a batch, the next packets that the receiver expects.
fn submit<B: PciFunction>(
    receiver: &RawReceiver<B>,
    queue: &mut SdmaQueue<B, u32>,
    memory: &DmaBlock,
    bad: Option<u32>,
) -> Result<(), Failure> {
    let mut payload = [0; MAX_PAYLOAD];
    for n in 0..BATCH {
        let at = n as usize * SLOT;
        let (pbc, header, len) = receiver.packet(receiver.next + n, 200 + n as usize * 300, &mut payload)?;
        memory.write(at, &pbc.0.to_le_bytes());
        memory.write(at + 8, header.as_bytes());
        memory.write(at + 64, &payload[..len]);
        // A dword is missing at its end.
        let len = if bad == Some(n) { len - 4 } else { len };
        let fragments = [at..at + 64, at + 64..at + 64 + len].map(|range| Fragment::of(memory, range));
        let fragments: Vec<_> = fragments.into_iter().flatten().collect();
        queue.submit(&fragments, n).map_err(|(error, _)| Failure::wrong(error.to_string()))?;
    }
    queue.doorbell();
    Ok(())
}

/// Sleeps until all have ended.
fn all_sent<B: PciFunction>(queue: &mut SdmaQueue<B, u32>) -> Result<Vec<(u32, Ended)>, Failure> {
    let mut ended = Vec::new();
    while queue.pending() > 0 {
        match queue.wait(LIMIT) {
            Ok(true) => ended.extend(std::iter::from_fn(|| queue.poll())),
            Ok(false) => return Err(Failure::wrong(format!("slept {LIMIT:?} for packets that never were done"))),
            Err(error) => return Err(Failure::wrong(error.to_string())),
        }
    }
    Ok(ended)
}

/// Waits until the engine says what is wrong; the packets that ended before.
fn expect_halt<B: PciFunction>(
    rig: &Rig<B>,
    queue: &mut SdmaQueue<B, u32>,
    sleep: bool,
) -> Result<Vec<(u32, Ended)>, Failure> {
    let mut ended = Vec::new();
    let mut watch = Watch::of(rig);
    loop {
        let looked = if sleep {
            match queue.wait(LIMIT) {
                Ok(true) => Ok(()),
                Ok(false) => return Err(Failure::wrong(format!("no interrupt told of a halt within {LIMIT:?}"))),
                Err(WaitError::Engine(error)) => Err(error),
                Err(error) => return Err(Failure::wrong(error.to_string())),
            }
        } else {
            queue.check()
        };
        match looked {
            Err(SdmaError::Halted { errors, .. }) if errors.contains(SdmaErrors::LENGTH_MISMATCH) => return Ok(ended),
            Err(error) => {
                return Err(Failure::wrong(format!("{error}; it should have been {}", SdmaErrors::LENGTH_MISMATCH)));
            }
            Ok(()) => ended.extend(std::iter::from_fn(|| queue.poll())),
        }
        watch.step(false)?;
    }
}

/// Waits for the good packets of a batch. That no other arrives the next batch shows, which has the same numbers.
fn arrive<B: PciFunction>(rig: &Rig<B>, receiver: &mut RawReceiver<B>, good: u32) -> Result<(), Failure> {
    let mut watch = Watch::of(rig);
    let end = receiver.next + good;
    while receiver.next < end {
        let busy = receiver.take()?;
        watch.step(busy)?;
    }
    if receiver.next > end {
        return Err(Failure::wrong(format!("packet {end} arrived although its engine had halted before it")));
    }
    Ok(())
}
