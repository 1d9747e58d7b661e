//! Rung "sdma": packets of every length fetched by an engine, in one to four pieces, with the ring wrapping.

use super::raw::{MAX_PAYLOAD, RawReceiver, length};
use crate::rig::{Failure, Outcome, Rig, Watch};
use opx_bus::PciFunction;
use opx_hw::RecvConfig;
use opx_sdma::{Fragment, SdmaError, SdmaQueue};

const PACKETS: u32 = 2000;
const RING: u32 = 128;
const SLOTS: usize = 96;
const SLOT: usize = 64 + MAX_PAYLOAD;

/// Sends packets by SDMA and checks that all arrive in order and that every packet completes once.
pub fn sdma<B: PciFunction>(rig: &Rig<B>) -> Outcome {
    let mut receiver = RawReceiver::new(rig, RecvConfig::default())?;
    let mut queue = SdmaQueue::<B, usize>::new(rig.hfi.sdma_engine(RING)?);
    let memory = rig.hfi.bus().dma_alloc(SLOTS * SLOT)?;
    let mut free: Vec<usize> = (0..SLOTS).collect();
    let mut watch = Watch::of(rig);
    let mut payload = vec![0; MAX_PAYLOAD];
    let (mut sent, mut completed) = (0, 0);
    while receiver.next < PACKETS || completed < PACKETS {
        let mut busy = false;
        while sent < PACKETS
            && let Some(slot) = free.pop()
        {
            let (pbc, header, len) = receiver.packet(sent, length(sent), &mut payload)?;
            let at = slot * SLOT;
            memory.write(at, &pbc.0.to_le_bytes());
            memory.write(at + 8, header.as_bytes());
            memory.write(at + 64, &payload[..len]);
            let fragments = pieces(sent, 64 + len).into_iter();
            let fragments: Vec<_> =
                fragments.filter_map(|(from, len)| Fragment::of(&memory, at + from..at + from + len)).collect();
            match queue.submit(&fragments, slot) {
                Ok(()) => (sent, busy) = (sent + 1, true),
                Err((SdmaError::RingFull { .. }, slot)) => {
                    free.push(slot);
                    break;
                }
                Err((error, _)) => return Err(Failure::wrong(error.to_string())),
            }
        }
        queue.doorbell();
        while let Some((slot, outcome)) = queue.poll() {
            if outcome != opx_sdma::Outcome::Sent {
                return Err(Failure::wrong(format!("packet {completed} failed")));
            }
            free.push(slot);
            completed += 1;
            busy = true;
        }
        if receiver.take()? {
            watch.alive();
            busy = true;
        }
        watch.step(busy).map_err(|error| match queue.check() {
            Err(halted) => Failure::wrong(halted.to_string()),
            Ok(()) => error,
        })?;
    }
    queue.check().map_err(|error| Failure::wrong(error.to_string()))?;
    Ok(receiver.tally)
}

/// Cuts `len` bytes of packet `n` into one to four pieces of whole dwords.
fn pieces(n: u32, len: usize) -> Vec<(usize, usize)> {
    let count = 1 + n as usize % 4;
    let step = (len / count).next_multiple_of(4).max(4);
    (0..len).step_by(step).map(|from| (from, step.min(len - from))).collect()
}
