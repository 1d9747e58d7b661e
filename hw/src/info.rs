//! What an adapter is: identity, sizes, versions.

use crate::dc8051::FirmwareVersion;
use crate::error::{Gone, OpenError};
use crate::regs::Regs;
use opx_bus::PciFunction;
use opx_defs::chip;
use opx_defs::csr;
use opx_defs::units::Guid;

/// How much of everything the chip has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Send contexts.
    pub send_contexts: u32,
    /// Receive contexts, the control context included.
    pub recv_contexts: u32,
    /// SDMA engines.
    pub sdma_engines: u32,
    /// 64-byte blocks of PIO memory.
    pub pio_blocks: u32,
    /// 64-byte blocks of SDMA memory.
    pub sdma_blocks: u32,
    /// RcvArray entries.
    pub rcv_array: u32,
}

impl Sizes {
    /// Reads the sizes and checks that the driver's tables hold them.
    pub(crate) fn read<B: PciFunction>(regs: &Regs<B>) -> Result<Self, OpenError> {
        let bounded = |csr: &csr::Csr, least: u64, most: u64| -> Result<u32, OpenError> {
            let value = regs.read(csr)?;
            if value < least || value > most {
                let (adapter, register) = (regs.adapter(), csr.name);
                let problem = "an HFI1 has no such number of them";
                return Err(OpenError::Unsupported { adapter, register, value, problem });
            }
            Ok(value as u32)
        };
        // CTXT_BASE has 14 bits, SDMA_MEMORY_INDEX 16, and the RcvArray's window is 1 MiB.
        Ok(Self {
            send_contexts: bounded(&csr::SEND_CONTEXTS, 1, chip::TXE_NUM_CONTEXTS)?,
            recv_contexts: bounded(&csr::RCV_CONTEXTS, 1, chip::RXE_NUM_CONTEXTS)?,
            sdma_engines: bounded(&csr::SEND_DMA_ENGINES, 1, chip::TXE_NUM_SDMA_ENGINES)?,
            pio_blocks: bounded(&csr::SEND_PIO_MEM_SIZE, 128, 0x4000 * 64)? / 64,
            sdma_blocks: bounded(&csr::SEND_DMA_MEM_SIZE, 64, 0x1_0000 * 64)? / 64,
            rcv_array: bounded(&csr::RCV_ARRAY_CNT, 8, csr::RCV_ARRAY.count.into())?,
        })
    }
}

/// What an adapter is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Name of the PCI function.
    pub name: String,
    /// PCI device id: 0x24f0 discrete, 0x24f1 integrated.
    pub device: u16,
    /// CCE_REVISION.
    pub revision: u64,
    /// Which of the chip's two functions this is.
    pub hfi_id: u8,
    /// Implementation code: 0 silicon, 1 and 2 simulation and emulation of its RTL, 3 functional simulator.
    pub icode: u8,
    /// Implementation revision.
    pub implementation_revision: u64,
    /// The port's GUID.
    pub guid: Guid,
    /// How much of everything it has.
    pub sizes: Sizes,
    /// Version of the 8051's firmware, `None` when it has none.
    pub firmware: Option<FirmwareVersion>,
}

impl Info {
    /// Chip revision as in Linux's `boardversion`: major 7 is this chip, minor's upper nibble is the stepping.
    pub fn chip_revision(&self) -> (u8, u8) {
        use csr::CCE_REVISION as f;
        (f::CHIP_REV_MAJOR.get(self.revision) as u8, f::CHIP_REV_MINOR.get(self.revision) as u8)
    }

    /// Serial number, made from the GUID as in `chip.c:hfi1_init_dd`.
    pub fn serial(&self) -> u32 {
        (self.guid.0 & 0xff_ffff | self.guid.0 >> 11 & 0xf00_0000) as u32
    }

    /// Whether it is the functional simulator.
    pub(crate) fn is_simulator(&self) -> bool {
        u64::from(self.icode) == chip::ICODE_FUNCTIONAL_SIMULATOR
    }
}

/// Reads and checks CCE_REVISION and CCE_REVISION2 (`chip.c:hfi1_init_dd`).
pub(crate) fn read_revision<B: PciFunction>(regs: &Regs<B>) -> Result<(u64, u64), OpenError> {
    use csr::{CCE_REVISION as rev, CCE_REVISION2 as rev2};
    let revision = regs.read(&csr::CCE_REVISION)?;
    let unsupported =
        |register, value, problem| Err(OpenError::Unsupported { adapter: regs.adapter(), register, value, problem });
    if rev::CHIP_REV_MAJOR.get(revision) != 7 {
        return unsupported("CCE_REVISION", revision, "the chip's major revision isn't 7");
    }
    if rev::CHIP_REV_MINOR.get(revision) >> 4 == 0 {
        return unsupported(
            "CCE_REVISION",
            revision,
            "an A-step chip, whose faults need work-arounds that aren't built",
        );
    }
    let revision2 = regs.read(&csr::CCE_REVISION2)?;
    if rev2::IMPL_CODE.get(revision2) > chip::ICODE_FUNCTIONAL_SIMULATOR {
        return unsupported("CCE_REVISION2", revision2, "an unknown implementation of the chip");
    }
    Ok((revision, revision2))
}

/// `chip.c:read_guid`; the DC must be out of reset.
pub(crate) fn read_guid<B: PciFunction>(regs: &Regs<B>) -> Result<Guid, Gone> {
    regs.write(&csr::CCE_DC_CTRL, 0);
    Ok(Guid(regs.read(&csr::DC_DC8051_CFG_LOCAL_GUID)?))
}
