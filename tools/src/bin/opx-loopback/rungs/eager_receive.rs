//! Rung "eager receive": few small eager buffers and a short header queue, filled, wrapped, and run over.

use super::raw::{MAX_PAYLOAD, RawReceiver};
use crate::rig::{Failure, Outcome, Rig, Watch};
use opx_bus::PciFunction;
use opx_defs::units::Blocks;
use opx_hw::RecvConfig;
use opx_pio::{Head, PioError, PioSender};

const PACKETS: u32 = 1200;
const LEN: usize = 3000;
const BUFFERS: u32 = 8;
const BUFFER: u32 = 16 << 10;
/// What the eager buffers hold for sure: one is being filled, one waits to be told free, one may not be entered.
const FITS: u32 = (BUFFERS - 3) * (BUFFER / (LEN as u32 + 128));
/// More than they can hold.
const TOO_MANY: u32 = 3 * FITS;

/// Fills and empties the buffers again and again, then sends more than they hold: what doesn't fit is dropped whole, what
/// arrives is right, and afterwards the context goes on.
pub fn eager_receive<B: PciFunction>(rig: &Rig<B>) -> Outcome {
    let config = RecvConfig {
        header_entries: 64,
        eager_buffers: BUFFERS,
        eager_buffer_size: BUFFER,
        // Late news of what is free would take room from what fits.
        head_batch: 4,
        ..RecvConfig::default()
    };
    let mut receiver = RawReceiver::new(rig, config)?;
    let mut sender = PioSender::new(rig.hfi.send_context(Blocks(512))?);
    let mut watch = Watch::of(rig);

    let mut sent = 0;
    while receiver.next < PACKETS {
        // Let it fill up in one round, keep it almost empty in the next.
        let ahead = if receiver.next / 100 % 2 == 0 { FITS } else { 2 };
        let mut busy = false;
        while sent < PACKETS && sent - receiver.next < ahead && send(&mut sender, &receiver, sent)? {
            (sent, busy) = (sent + 1, true);
        }
        if sent - receiver.next < ahead && sent < PACKETS && !busy {
            busy |= receiver.take_up_to(1)?;
        } else if wait_all_sent(&mut sender) {
            busy |= receiver.take_up_to(FITS as usize / 2)?;
        }
        if busy {
            watch.alive();
        }
        watch.step(busy)?;
    }

    // Nothing is taken while more comes than fits.
    let first = sent;
    while sent < first + TOO_MANY {
        if send(&mut sender, &receiver, sent)? {
            sent += 1;
        }
        watch.step(false)?;
    }
    // What was overtaken by a later packet was dropped, so packets are sent until one gets through.
    let (mut arrived, mut last) = (0, None);
    for _ in 0..TOO_MANY {
        let probe = sent;
        while !send(&mut sender, &receiver, probe)? {
            watch.step(false)?;
        }
        sent += 1;
        while !wait_all_sent(&mut sender) {
            watch.step(false)?;
        }
        while let Some(n) = receiver.take_one()? {
            if n < first || n > probe || last.is_some_and(|last| n <= last) {
                return Err(Failure::wrong(format!("packet {n} arrived after {last:?} when the buffers were full")));
            }
            (arrived, last) = (arrived + 1, Some(n));
        }
        if last.is_some_and(|last| last >= first + TOO_MANY) {
            break;
        }
        watch.step(false)?;
    }
    let Some(last) = last.filter(|last| *last >= first + TOO_MANY) else {
        return Err(Failure::wrong("nothing arrived any more after the buffers were full"));
    };
    if arrived > last - first {
        return Err(Failure::wrong(format!("{arrived} packets arrived where about {FITS} fit, so none was dropped")));
    }

    // And then it goes on.
    receiver.next = last + 1;
    while receiver.next < sent {
        let busy = receiver.take()?;
        watch.step(busy)?;
    }
    for n in 0..FITS {
        while !send(&mut sender, &receiver, sent + n)? {
            watch.step(false)?;
        }
        while receiver.next == sent + n {
            let busy = receiver.take()?;
            watch.step(busy)?;
        }
    }
    Ok(receiver.tally)
}

/// Sends packet `n`; `false` when there is no credit.
fn send<B: PciFunction>(sender: &mut PioSender<B>, receiver: &RawReceiver<B>, n: u32) -> Result<bool, Failure> {
    let mut payload = [0; MAX_PAYLOAD];
    let (pbc, header, len) = receiver.packet(n, LEN, &mut payload)?;
    match sender.send(&Head::new(pbc.credit_return(), &header), &payload[..len]) {
        Ok(()) => Ok(true),
        Err(PioError::NoCredit { .. }) => Ok(false),
        Err(error) => Err(Failure::wrong(error.to_string())),
    }
}

/// Whether the chip has sent everything: each packet asked for its credits.
fn wait_all_sent<B: PciFunction>(sender: &mut PioSender<B>) -> bool {
    sender.outstanding() == Blocks(0)
}
