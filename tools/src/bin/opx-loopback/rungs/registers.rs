//! Rung "registers": identity, every register of the catalogue that can be read, and bits that must hold what is written.

use crate::report::Tally;
use crate::rig::{Failure, Outcome, Rig};
use opx_bus::{ALL_ONES, PciFunction};
use opx_defs::csr::{self, Access};

/// Reads all registers, and writes and reads back the scratch registers.
pub fn registers<B: PciFunction>(rig: &Rig<B>) -> Outcome {
    let bus = rig.hfi.bus();
    let mut tally = Tally::default();
    let mut read = |offset| {
        tally.messages += 1;
        tally.bytes += 8;
        bus.read64(offset)
    };

    let revision = read(csr::CCE_REVISION.off());
    for csr in csr::all() {
        // A read of this one moves the EPROM on to its next word, those are only written.
        if csr.access == Access::WriteOnly || csr.name == csr::ASIC_EEP_DATA.name {
            continue;
        }
        for index in [0, csr.count - 1] {
            let value = read(csr.at(index));
            if value == ALL_ONES && read(csr::CCE_REVISION.off()) != revision {
                return Err(Failure::Adapter(anyhow::anyhow!(
                    "{}: the adapter is gone (all ones from {} on)",
                    bus.name(),
                    csr.name
                )));
            }
        }
    }
    for (csr, least) in [
        (csr::RCV_CONTEXTS, 1),
        (csr::SEND_CONTEXTS, 1),
        (csr::SEND_DMA_ENGINES, 1),
        (csr::RCV_ARRAY_CNT, 8),
        (csr::SEND_PIO_MEM_SIZE, 64),
    ] {
        let value = read(csr.off());
        if value < least || value > u64::from(u32::MAX) {
            return Err(Failure::wrong(format!("{} is {value:#x}", csr.name)));
        }
    }

    let patterns = (0..64).map(|bit| 1u64 << bit).chain([0, 0x5555_5555_5555_5555, 0xaaaa_aaaa_aaaa_aaaa]);
    for pattern in patterns {
        for index in 0..csr::CCE_SCRATCH.count {
            // Another value in each, so that two registers that are one are noticed.
            bus.write64(csr::CCE_SCRATCH.at(index), pattern.rotate_left(index));
        }
        for index in 0..csr::CCE_SCRATCH.count {
            let (wrote, got) = (pattern.rotate_left(index), read(csr::CCE_SCRATCH.at(index)));
            if got != wrote {
                return Err(Failure::wrong(format!(
                    "CCE_SCRATCH[{index}] holds {got:#x} after {wrote:#x} was written"
                )));
            }
        }
    }
    for index in 0..csr::CCE_SCRATCH.count {
        bus.write64(csr::CCE_SCRATCH.at(index), 0);
    }
    Ok(tally)
}
