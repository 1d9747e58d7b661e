//! Rung "pio": packets of every length written by the processor, with the context's buffer wrapping at every place.

use super::raw::{MAX_PAYLOAD, RawReceiver, ctxt, length};
use crate::rig::{Failure, Outcome, Rig, Watch};
use opx_bus::PciFunction;
use opx_defs::units::Blocks;
use opx_hw::RecvConfig;
use opx_pio::{Head, PioError, PioSender};

const PACKETS: u32 = 1500;
/// Not a multiple of anything that packets take, so that packets wrap everywhere.
const DEPTH: Blocks = Blocks(151);

/// Sends packets by PIO and checks that all arrive in order and that every credit comes back.
pub fn pio<B: PciFunction>(rig: &Rig<B>) -> Outcome {
    let mut receiver = RawReceiver::new(rig, RecvConfig::default())?;
    let mut sender = PioSender::new(rig.hfi.send_context(DEPTH)?);
    let name = ctxt(sender.context().number());
    let mut watch = Watch::of(rig);
    let mut payload = vec![0; MAX_PAYLOAD];
    let mut sent = 0;
    while receiver.next < PACKETS {
        let mut busy = false;
        while sent < PACKETS {
            let (pbc, header, len) = receiver.packet(sent, length(sent), &mut payload)?;
            match sender.send(&Head::new(pbc, &header), &payload[..len]) {
                Ok(()) => (sent, busy) = (sent + 1, true),
                Err(PioError::NoCredit { .. }) => break,
                Err(error) => return Err(Failure::wrong(error.to_string())),
            }
        }
        if receiver.take()? {
            watch.alive();
            busy = true;
        }
        watch.step(busy)?;
    }
    // The last credits come only when they are asked for: they stay below the threshold.
    sender.context().force_credit_return();
    while sender.available() != DEPTH {
        watch.step(false).map_err(|error| match error {
            Failure::Wrong(_) => Failure::wrong(format!("{name}: {} blocks never came back", sender.outstanding())),
            other => other,
        })?;
    }
    if sender.counters().no_credit == 0 {
        return Err(Failure::wrong(format!("{name} never ran out of credit, so its accounting wasn't tried")));
    }
    Ok(receiver.tally)
}
