//! Opening an adapter: identity, reset, quiesce check, then the chip's blocks in the order of `chip.c:hfi1_init_dd`.

use crate::asic::Asic;
use crate::dc8051::Dc8051;
use crate::error::OpenError;
use crate::firmware::Firmware;
use crate::frozen::Frozen;
use crate::hfi::Inner;
use crate::info::{self, Info, Sizes};
use crate::interrupts::{self, Counts, InterruptMask};
use crate::link::{Link, LinkState};
use crate::options::Options;
use crate::pool::Pool;
use crate::regs::{Regs, limit};
use crate::{init_rx, init_tx};
use opx_bus::{ALL_ONES, PciFunction, poll};
use opx_defs::chip;
use opx_defs::csr::{self, Csr};
use std::path::PathBuf;
use std::sync::Mutex;

/// Chip registers 32 MiB, PIO window 32 MiB (`pcie.c:hfi1_pcie_ddinit`).
const BAR0_BYTES: u64 = 0x400_0000;
const VENDOR: u16 = 0x8086;
const DEVICES: [u16; 2] = [0x24f0, 0x24f1];
/// PCI_COMMAND, and its bits for memory space and bus master.
const COMMAND: u16 = 4;
const MEMORY_SPACE: u16 = 0x2;
const BUS_MASTER: u16 = 0x4;
const DEFAULT_FIRMWARE_DIR: &str = "/lib/firmware";

/// Opens an adapter.
pub(crate) fn open<B: PciFunction>(bus: B, options: Options) -> Result<Inner<B>, OpenError> {
    options.check()?;
    let device = identify(&bus)?;
    let regs = Regs::new(bus);
    // An earlier owner may have been killed in mid-transfer: its engines still read the memory that it had, and its contexts
    // still write there. That ends before anything else is done.
    set_bus_master(&regs, false)?;
    let (revision, revision2) = info::read_revision(&regs)?;
    let sizes = Sizes::read(&regs)?;
    reset(&regs, sizes)?;
    check_quiet(&regs, sizes)?;

    let hfi_id = csr::CCE_REVISION2::HFI_ID.get(revision2) as u8;
    let icode = csr::CCE_REVISION2::IMPL_CODE.get(revision2) as u8;
    let implementation_revision = csr::CCE_REVISION2::IMPL_REVISION.get(revision2);
    let guid = info::read_guid(&regs)?;
    let asic = Asic { hfi_id };

    // The files are read before the chip is initialised: without them there is no use in it.
    let dir = options.firmware_dir.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FIRMWARE_DIR));
    let mut firmware = Firmware::obtain(&dir, icode)?;

    set_bus_master(&regs, true)?;
    // chip.c:init_chip: the LED off, the modules' reset pins high.
    regs.write(&csr::DCC_CFG_LED_CNTRL, 0x10);
    regs.write(&csr::ASIC_QSFP1_OUT, 0x1f);
    regs.write(&csr::ASIC_QSFP2_OUT, 0x1f);
    asic.clear_resources(&regs)?;

    write_uninitialized(&regs, sizes)?;
    init_rx::init(&regs, options.pkey)?;
    init_tx::init(&regs, sizes, icode)?;
    init_other(&regs)?;

    let credit_memory = regs.bus().dma_alloc(64 * sizes.send_contexts as usize)?;
    let dummy_tail = regs.bus().dma_alloc(64)?;
    let irqs = interrupts::set_up(&regs, sizes, options.vectors)?;

    let mut dc8051 = Dc8051::new(icode);
    if let Some(firmware) = &mut firmware {
        firmware.load(&regs, asic, &mut dc8051)?;
    }
    let version = firmware.is_some().then_some(dc8051.version);
    let name = regs.adapter();
    let info = Info { name, device, revision, hfi_id, icode, implementation_revision, guid, sizes, firmware: version };
    let pool = Pool::new(regs.adapter(), sizes, options.vectors);
    let inner = Inner {
        options,
        info,
        asic,
        mask: Mutex::new(InterruptMask::default()),
        counts: Counts::default(),
        synthesised: Mutex::new(Vec::new()),
        sdma_errors: Default::default(),
        pool: Mutex::new(pool),
        refusals: crate::send_context::Refusals::default(),
        steer: Mutex::default(),
        pio_init: Mutex::new(()),
        link: Mutex::new(Link::new(dc8051, firmware)),
        shown: Mutex::new((LinkState::Offline, None)),
        irqs,
        frozen: Frozen::default(),
        freezing: Mutex::new(()),
        port: Mutex::default(),
        credit_memory,
        dummy_tail,
        regs,
    };
    inner.enable_general_interrupts();
    inner.init_lcb();
    inner.send_enable()?;
    log::info!("{}: open, GUID {}, icode {icode}", inner.info.name, inner.info.guid);
    Ok(inner)
}

/// The PCI device id, when it is one of this adapter and its BAR has the right size.
fn identify<B: PciFunction>(bus: &B) -> Result<u16, OpenError> {
    let mut ids = [0; 4];
    bus.config_read(0, &mut ids)?;
    let vendor = u16::from_le_bytes([ids[0], ids[1]]);
    let device = u16::from_le_bytes([ids[2], ids[3]]);
    if vendor != VENDOR || !DEVICES.contains(&device) {
        return Err(OpenError::NotAnHfi { adapter: bus.name().to_owned(), vendor, device });
    }
    let len = bus.bar0_len();
    if len != BAR0_BYTES {
        return Err(OpenError::BarLength { adapter: bus.name().to_owned(), len, expected: BAR0_BYTES });
    }
    Ok(device)
}

/// Stops what a dead owner left running and resets the chip: `chip.c:init_chip`.
fn reset<B: PciFunction>(regs: &Regs<B>, sizes: Sizes) -> Result<(), OpenError> {
    regs.write(&csr::SEND_CTRL, 0);
    for ctxt in 0..sizes.send_contexts {
        regs.write_at(&csr::SEND_CTXT_CTRL, ctxt, 0);
    }
    for engine in 0..sizes.sdma_engines {
        regs.write_at(&csr::SEND_DMA_CTRL, engine, 0);
    }
    regs.write(&csr::RCV_CTRL, 0);
    for ctxt in 0..sizes.recv_contexts {
        regs.write_at(&csr::RCV_CTXT_CTRL, ctxt, 0);
    }
    for index in 0..csr::CCE_INT_MASK.count {
        regs.write_at(&csr::CCE_INT_MASK, index, 0);
    }
    // The DC stays in reset across the function's reset; one read is long enough to hold it.
    regs.write(&csr::CCE_DC_CTRL, csr::CCE_DC_CTRL::DC_RESET.mask());
    regs.read(&csr::CCE_DC_CTRL)?;
    regs.bus().reset()?;
    let answers = || (regs.bus().read64(csr::CCE_REVISION.off()) != ALL_ONES).then_some(());
    if poll::until(regs.bus(), limit::AFTER_RESET, answers).is_err() {
        return Err(regs.gone(&csr::CCE_REVISION, 0).into());
    }
    regs.write(&csr::CCE_DC_CTRL, 0);
    Ok(())
}

/// Nothing of an earlier owner may still do DMA when the function becomes bus master.
fn check_quiet<B: PciFunction>(regs: &Regs<B>, sizes: Sizes) -> Result<(), OpenError> {
    let quiet = |csr: &Csr, index: u32, bits: u64| -> Result<(), OpenError> {
        match regs.read_at(csr, index)? & bits {
            0 => Ok(()),
            value => {
                let register = if csr.count > 1 { format!("{}[{index}]", csr.name) } else { csr.name.to_owned() };
                Err(OpenError::NotQuiet { adapter: regs.adapter(), register, value })
            }
        }
    };
    quiet(&csr::RCV_CTRL, 0, csr::RCV_CTRL::RCV_PORT_ENABLE.mask())?;
    quiet(&csr::SEND_CTRL, 0, csr::SEND_CTRL::SEND_ENABLE.mask())?;
    for ctxt in 0..sizes.recv_contexts {
        quiet(&csr::RCV_CTXT_CTRL, ctxt, csr::RCV_CTXT_CTRL::ENABLE.mask())?;
    }
    for ctxt in 0..sizes.send_contexts {
        quiet(&csr::SEND_CTXT_CTRL, ctxt, csr::SEND_CTXT_CTRL::CTXT_ENABLE.mask())?;
    }
    for engine in 0..sizes.sdma_engines {
        quiet(&csr::SEND_DMA_CTRL, engine, csr::SEND_DMA_CTRL::SDMA_ENABLE.mask())?;
        let occupancy = csr::SEND_EGRESS_SEND_DMA_STATUS::SDMA_EGRESS_PACKET_OCCUPANCY;
        quiet(&csr::SEND_EGRESS_SEND_DMA_STATUS, engine, occupancy.mask())?;
    }
    for index in 0..csr::CCE_INT_MASK.count {
        quiet(&csr::CCE_INT_MASK, index, ALL_ONES)?;
    }
    Ok(())
}

/// Lets the function do DMA or not (`pcie.c:hfi1_pcie_init, restore_pci_variables`; Linux's `pci_clear_master`). Reads that
/// it asked for already may still be answered, but a reset waits for those (`pci.c:pcie_flr`).
fn set_bus_master<B: PciFunction>(regs: &Regs<B>, on: bool) -> Result<(), OpenError> {
    let mut command = [0; 2];
    regs.bus().config_read(COMMAND, &mut command)?;
    let old = u16::from_le_bytes(command);
    let new = (old | MEMORY_SPACE) & !BUS_MASTER | if on { BUS_MASTER } else { 0 };
    if new != old {
        regs.bus().config_write(COMMAND, &new.to_le_bytes())?;
    }
    Ok(())
}

/// Memories whose check bits are undefined until they are written: `chip.c:write_uninitialized_csrs_and_memories`.
fn write_uninitialized<B: PciFunction>(regs: &Regs<B>, sizes: Sizes) -> Result<(), OpenError> {
    for index in 0..csr::CCE_INT_MAP.count {
        regs.write_at(&csr::CCE_INT_MAP, index, 0);
    }
    for ctxt in 0..sizes.send_contexts {
        regs.write_at(&csr::SEND_CTXT_CREDIT_RETURN_ADDR, ctxt, 0);
    }
    for ctxt in 0..sizes.recv_contexts {
        regs.write_at(&csr::RCV_HDR_ADDR, ctxt, 0);
        regs.write_at(&csr::RCV_HDR_TAIL_ADDR, ctxt, 0);
        for flow in 0..chip::RXE_NUM_TID_FLOWS as u32 {
            regs.write_off(csr::RCV_TID_FLOW_TABLE.element(ctxt, flow), 0);
        }
    }
    let empty = opx_defs::rcvarray::RcvArrayEntry::INVALID.0;
    for index in 0..sizes.rcv_array {
        regs.write_at(&csr::RCV_ARRAY, index, empty);
    }
    for index in 0..csr::RCV_QP_MAP_TABLE.count {
        regs.write_at(&csr::RCV_QP_MAP_TABLE, index, 0);
    }
    // Tens of thousands of writes later, see that they went somewhere.
    regs.read(&csr::CCE_REVISION)?;
    Ok(())
}

/// `chip.c:init_other, init_kdeth_qp`.
fn init_other<B: PciFunction>(regs: &Regs<B>) -> Result<(), OpenError> {
    regs.write(&csr::CCE_ERR_MASK, ALL_ONES);
    regs.write(&csr::MISC_ERR_MASK, chip::DRIVER_MISC_MASK);
    regs.write(&csr::DCC_ERR_FLG_EN, ALL_ONES);
    regs.write(&csr::DC_DC8051_ERR_EN, ALL_ONES);
    regs.write(&csr::SEND_BTH_QP, csr::SEND_BTH_QP::KDETH_QP.put(KDETH_PREFIX));
    regs.write(&csr::RCV_BTH_QP, csr::RCV_BTH_QP::KDETH_QP.put(KDETH_PREFIX));
    regs.read(&csr::RCV_BTH_QP)?;
    Ok(())
}

/// Bits 23:16 of the destination queue pair that mark a KDETH packet.
pub(crate) const KDETH_PREFIX: u64 = 0x80;
