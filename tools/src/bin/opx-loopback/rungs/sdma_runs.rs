//! Rung "sdma runs": packets whose headers the engines store and change, of up to 64 fragments, spread over several engines by
//! their load, by a sender that sleeps until some are done.

use super::raw::{MAX_PAYLOAD, RawReceiver};
use crate::rig::{Failure, Outcome, Rig, Watch};
use opx_bus::{DmaBlock, PciFunction};
use opx_defs::sdma::{HeaderEdit, MAX_EDITS};
use opx_defs::units::Vl;
use opx_hw::RecvConfig;
use opx_sdma::{Fragment, HeaderEntry, MAX_FRAGMENTS, Packet, SdmaError, SdmaQueue, SdmaSet};
use std::time::Duration;

const RUNS: u32 = 40;
/// Packets of one run: equal lengths, so that nearly all of the header stays as it is.
const RUN: u32 = 25;
const ENGINES: usize = 3;
const SPREAD: u32 = 1000;
/// Small, so that it is full all the time.
const RING: u32 = 256;
const SLOTS: usize = 48;
/// PBC and header.
const HEAD: usize = 64;
const SLOT: usize = HEAD + MAX_PAYLOAD;
const LIMIT: Duration = Duration::from_secs(10);

/// Sends runs by one engine, in order and with stored headers, then single packets by whichever engine has room.
pub fn sdma_runs<B: PciFunction>(rig: &Rig<B>) -> Outcome {
    let mut receiver = RawReceiver::new(rig, RecvConfig::default())?;
    let memory = rig.hfi.bus().dma_alloc(SLOTS * SLOT)?;
    runs(rig, &mut receiver, &memory)?;
    spread(rig, &mut receiver, &memory)?;
    Ok(receiver.tally)
}

/// What the engine has stored for a run.
struct Stored {
    entry: HeaderEntry,
    head: [u8; HEAD],
}

/// The changes that make `head` out of what is stored; none when that takes more than a packet can name.
fn edits(stored: &[u8; HEAD], head: &[u8; HEAD]) -> Option<Vec<HeaderEdit>> {
    let mut edits = Vec::new();
    for (n, (old, new)) in stored.chunks_exact(2).zip(head.chunks_exact(2)).enumerate() {
        if old != new {
            let value = u16::from_le_bytes([new[0], new[1]]);
            edits.push(HeaderEdit::new(n as u8 / 2, n as u8 % 2 * 16, 16, value)?);
        }
    }
    (1..=MAX_EDITS).contains(&edits.len()).then_some(edits)
}

/// Cuts the payload into `count` pieces or fewer, of any number of bytes.
fn pieces(memory: &DmaBlock, at: usize, len: usize, count: usize) -> Vec<Fragment> {
    let step = len.div_ceil(count).max(1);
    let piece = |from| Fragment::of(memory, at + from..at + len.min(from + step));
    (0..len).step_by(step).filter_map(piece).collect()
}

/// Puts packet `n` into a slot; its head and the length of its payload.
fn place<B: PciFunction>(
    receiver: &RawReceiver<B>,
    memory: &DmaBlock,
    slot: usize,
    n: u32,
    len: usize,
) -> Result<([u8; HEAD], usize), Failure> {
    let mut payload = [0; MAX_PAYLOAD];
    let (pbc, header, len) = receiver.packet(n, len, &mut payload)?;
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&pbc.0.to_le_bytes());
    head[8..].copy_from_slice(header.as_bytes());
    memory.write(slot * SLOT, &head);
    memory.write(slot * SLOT + HEAD, &payload[..len]);
    Ok((head, len))
}

fn runs<B: PciFunction>(rig: &Rig<B>, receiver: &mut RawReceiver<B>, memory: &DmaBlock) -> Result<(), Failure> {
    let mut queue = SdmaQueue::<B, usize>::new(rig.hfi.sdma_engine(RING)?);
    let mut free: Vec<usize> = (0..SLOTS).collect();
    let mut stored: Option<Stored> = None;
    let (mut sent, mut edited) = (0, 0);
    let mut watch = Watch::of(rig);
    while receiver.next < RUNS * RUN {
        while sent < RUNS * RUN
            && let Some(slot) = free.pop()
        {
            let run = sent / RUN;
            let (head, len) = place(receiver, memory, slot, sent, 100 + run as usize * 197)?;
            // What is known of the header is forgotten with each run, its entry is used again.
            if sent % RUN == 0 {
                stored = None;
            }
            let at = slot * SLOT + HEAD;
            let submitted = match stored.as_ref().and_then(|stored| Some((stored, edits(&stored.head, &head)?))) {
                Some((stored, edits)) => {
                    edited += 1;
                    // Three slots of the ring are for the edits.
                    let payload = pieces(memory, at, len, 1 + sent as usize % (MAX_FRAGMENTS - 3));
                    queue.submit(Packet::edited(&stored.entry, &edits, &payload), slot)
                }
                None => {
                    let entry = queue.open_header().map_err(|error| Failure::wrong(error.to_string()))?;
                    let mut fragments: Vec<_> = Fragment::of(memory, slot * SLOT..at).into_iter().collect();
                    fragments.extend(pieces(memory, at, len, MAX_FRAGMENTS - 1));
                    let submitted = queue.submit(Packet::new(&fragments).storing(&entry), slot);
                    if submitted.is_ok() {
                        stored = Some(Stored { entry, head });
                    }
                    submitted
                }
            };
            match submitted {
                Ok(()) => sent += 1,
                Err((SdmaError::RingFull { .. }, slot)) => {
                    free.push(slot);
                    break;
                }
                Err((error, _)) => return Err(Failure::wrong(error.to_string())),
            }
        }
        if queue.pending() > 0 && !queue.wait(LIMIT).map_err(|error| Failure::wrong(error.to_string()))? {
            return Err(Failure::wrong(format!("slept {LIMIT:?} for packets that never were done")));
        }
        while let Some((slot, outcome)) = queue.poll() {
            if outcome != opx_sdma::Outcome::Sent {
                return Err(Failure::wrong("a packet of a run failed"));
            }
            free.push(slot);
        }
        let busy = receiver.take()?;
        if busy {
            watch.alive();
        }
        watch.step(busy)?;
    }
    if edited < RUNS * RUN / 2 {
        return Err(Failure::wrong(format!("only {edited} packets had a stored header")));
    }
    queue.check().map_err(|error| Failure::wrong(error.to_string()))
}

fn spread<B: PciFunction>(rig: &Rig<B>, receiver: &mut RawReceiver<B>, memory: &DmaBlock) -> Result<(), Failure> {
    let engines: Result<Vec<_>, _> = (0..ENGINES).map(|_| rig.hfi.sdma_engine(RING)).collect();
    let queues = engines?.into_iter().map(SdmaQueue::<B, usize>::new).collect();
    let mut set = SdmaSet::new(queues, 1).map_err(|error| Failure::wrong(error.to_string()))?;
    let mut free: Vec<usize> = (0..SLOTS).collect();
    let first = receiver.next;
    let (mut sent, mut arrived, mut done) = (0, vec![false; SPREAD as usize], [0u32; ENGINES]);
    let mut watch = Watch::of(rig);
    while arrived.contains(&false) || done.iter().sum::<u32>() < SPREAD {
        let mut busy = false;
        while sent < SPREAD
            && let Some(slot) = free.pop()
        {
            let (_, len) = place(receiver, memory, slot, first + sent, sent as usize * 61 % 4000)?;
            let fragments = pieces(memory, slot * SLOT, HEAD + len, 1 + sent as usize % MAX_FRAGMENTS);
            match set.submit_anywhere(Vl(0), &fragments, slot) {
                Ok(_) => (sent, busy) = (sent + 1, true),
                Err((SdmaError::RingFull { .. }, slot)) => {
                    free.push(slot);
                    break;
                }
                Err((error, _)) => return Err(Failure::wrong(error.to_string())),
            }
        }
        set.doorbells();
        while let Some((at, slot, outcome)) = set.poll() {
            if outcome != opx_sdma::Outcome::Sent {
                return Err(Failure::wrong(format!("a packet of engine {at} of the set failed")));
            }
            done[at] += 1;
            free.push(slot);
            busy = true;
        }
        while let Some(n) = receiver.take_one()? {
            match n.checked_sub(first).and_then(|n| arrived.get_mut(n as usize)) {
                Some(arrived) if !*arrived => *arrived = true,
                _ => return Err(Failure::wrong(format!("packet {n} arrived twice, or was never sent"))),
            }
            watch.alive();
            busy = true;
        }
        watch.step(busy)?;
    }
    receiver.next = first + SPREAD;
    match done.iter().position(|packets| *packets == 0) {
        Some(idle) => Err(Failure::wrong(format!("engine {idle} of the set got nothing: {done:?}"))),
        None => Ok(()),
    }
}
