//! Rung "interrupts": forced ones through the general vector, and a packet's own through its context's vector.

use super::raw::RawReceiver;
use crate::rig::{Failure, Outcome, Rig, Watch};
use opx_bus::PciFunction;
use opx_defs::csr;
use opx_defs::source::Source;
use opx_defs::units::Blocks;
use opx_hw::RecvConfig;
use opx_pio::{Head, PioSender};
use std::time::Duration;

const ROUNDS: u32 = 100;
const LIMIT: Duration = Duration::from_secs(2);

/// Raises interrupts in each way and checks that each arrives, once.
pub fn interrupts<B: PciFunction>(rig: &Rig<B>) -> Outcome {
    let bus = rig.hfi.bus();
    let Some(general) = rig.hfi.irq() else {
        return Err(Failure::CannotRun("the adapter was opened without interrupts".to_owned()));
    };
    // A message that was taken and not answered would keep its vector from being raised again.
    let answer = || -> Result<(), Failure> {
        loop {
            rig.hfi.service_interrupts()?;
            if !general.take().map_err(|error| Failure::Adapter(error.into()))? {
                return Ok(());
            }
        }
    };
    answer()?;

    let mut raised = 0;
    for round in 0..ROUNDS {
        // PBC_INT stands for no condition of the chip, so forcing it disturbs nothing.
        let source = Source::PBC;
        bus.write64(csr::CCE_INT_FORCE.at(source.word()), source.bit());
        if !bus.wait_irq(general, LIMIT)? {
            return Err(Failure::wrong(format!("forced interrupt {round} didn't arrive within {LIMIT:?}")));
        }
        answer()?;
        if bus.read64(csr::CCE_INT_STATUS.at(source.word())) & source.bit() != 0 {
            return Err(Failure::wrong("a forced interrupt can't be cleared"));
        }
        raised += 1;
    }

    let mut receiver = RawReceiver::new(rig, RecvConfig { interrupts: true, ..RecvConfig::default() })?;
    let mut sender = PioSender::new(rig.hfi.send_context(Blocks(64))?);
    let irq = receiver.recv.irq().cloned();
    let Some(irq) = irq else {
        return Err(Failure::wrong("a receive context with interrupts has no vector"));
    };
    let mut watch = Watch::of(rig);
    for n in 0..ROUNDS {
        if receiver.recv.arm()? {
            return Err(Failure::wrong(format!("a packet is there before packet {n} was sent")));
        }
        // Four bytes travel in the header: there is no payload to supply.
        let (pbc, header, _) = receiver.packet(n, 4, &mut [])?;
        sender.send(&Head::new(pbc, &header), &[]).map_err(|error| Failure::wrong(error.to_string()))?;
        if !bus.wait_irq(&irq, LIMIT)? {
            return Err(Failure::wrong(format!("packet {n} raised no interrupt within {LIMIT:?}")));
        }
        while receiver.next == n {
            let busy = receiver.take()?;
            watch.step(busy)?;
        }
        raised += 1;
    }
    let mut tally = receiver.tally;
    tally.messages = raised;
    Ok(tally)
}
