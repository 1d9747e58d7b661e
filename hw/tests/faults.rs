//! An adapter that goes away, gets stuck, or refuses: always an error that says so, never a hang or a panic.

mod common;

use common::Bench;
use opx_bus::dma::DmaUnmap;
use opx_bus::fault::{Fault, Faulty};
use opx_bus::{ALL_ONES, DmaBlock, PciFunction, SharedMem, poll};
use opx_defs::chip;
use opx_defs::csr::{self, Csr, Field};
use opx_defs::units::{Blocks, Iova, RcvCtxt};
use opx_emu::{ChipFault, EmuBus, Icode};
use opx_hw::{ContextError, DownReason, Hfi, LinkError, LinkMode, LinkState, OpenError, RecvConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const BOTH: [Icode; 2] = [Icode::Silicon, Icode::FunctionalSimulator];

#[derive(Debug, thiserror::Error)]
enum AnyError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Context(#[from] ContextError),
}

impl AnyError {
    fn is_gone(&self) -> bool {
        match self {
            Self::Open(error) => error.is_gone(),
            Self::Link(error) => error.is_gone(),
            Self::Context(error) => error.is_gone(),
        }
    }
}

fn recv_config() -> RecvConfig {
    RecvConfig { interrupts: true, eager_buffers: 8, eager_buffer_size: 16384, ..RecvConfig::default() }
}

/// Everything from opening to an engine that runs; how many registers were read until closing begins.
fn everything(bench: &Bench, bus: Faulty<EmuBus>) -> Result<u64, AnyError> {
    let hfi = Hfi::open(bus.clone(), bench.options())?;
    hfi.link_up(LinkMode::Loopback)?;
    hfi.service_interrupts()?;
    let _send = hfi.send_context(Blocks(64))?;
    let mut recv = hfi.recv_context(recv_config())?;
    recv.arm().map_err(ContextError::from)?;
    let mut engine = hfi.sdma_engine(64)?;
    engine.enable_interrupts()?;
    engine.restart()?;
    Ok(bus.reads())
}

#[test]
fn an_adapter_that_goes_away_at_any_read_is_told() {
    for icode in BOTH {
        let bench = Bench::new(icode);
        let reads = everything(&bench, Faulty::new(bench.bus(), Vec::new())).unwrap();
        assert!(reads > 300, "only {reads} reads");
        for after in 0..reads {
            let bus = Faulty::new(bench.bus(), vec![Fault::GoneAfterReads { after }]);
            let error = everything(&bench, bus).unwrap_err();
            assert!(error.is_gone(), "after {after} of {reads} reads: {error}");
            let text = error.to_string();
            assert!(text.contains("the adapter is gone") && text.contains("an injected fault"), "{text}");
        }
        // Closing doesn't mind.
        everything(&bench, Faulty::new(bench.bus(), vec![Fault::GoneAfterReads { after: reads }])).unwrap();
    }
}

/// Why a link went down can't be read: it is down all the same, and what was half-sent is frozen out.
#[test]
fn a_link_goes_down_although_its_reason_cannot_be_read() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let bus = Faulty::new(bench.bus(), Vec::new());
    let hfi = Hfi::open(bus.clone(), bench.options()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    while hfi.service_interrupts().unwrap().any {}
    let send = hfi.send_context(Blocks(64)).unwrap();
    let offset = csr::DC_DC8051_CFG_RAM_ACCESS_STATUS.off();
    let mask = csr::DC_DC8051_CFG_RAM_ACCESS_STATUS::ACCESS_COMPLETED.mask();
    bus.add(Fault::Stuck { offset, mask, value: 0 });
    assert!(bench.adapter.inject(opx_emu::Fault::Chip(ChipFault::LinkSignalLost), 0, 0));
    let header = common::header(hfi.lid(), hfi.lid(), RcvCtxt(1), hfi.options().job_key, 64);
    common::send_pio(&send, 0, &common::packet(&header, &[0; 64]));
    let down = poll::until(&bus, Duration::from_secs(60), || {
        let link = hfi.service_interrupts().unwrap().link;
        matches!(link, LinkState::Down(_)).then_some(link)
    });
    assert_eq!(down.unwrap(), LinkState::Down(DownReason::Other(0)));
    assert!(send.is_stale() && hfi.freezes() == 1);
}

/// The same when the credit manager doesn't finish its reset, which is told.
#[test]
fn a_link_goes_down_although_its_credits_cannot_be_reset() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let bus = Faulty::new(bench.bus(), Vec::new());
    let hfi = Hfi::open(bus.clone(), bench.options()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    while hfi.service_interrupts().unwrap().any {}
    let send = hfi.send_context(Blocks(64)).unwrap();
    let mask = csr::SEND_CTRL::CM_RESET.mask();
    bus.add(Fault::Stuck { offset: csr::SEND_CTRL.off(), mask, value: mask });
    assert!(bench.adapter.inject(opx_emu::Fault::Chip(ChipFault::LinkSignalLost), 0, 0));
    let header = common::header(hfi.lid(), hfi.lid(), RcvCtxt(1), hfi.options().job_key, 64);
    common::send_pio(&send, 0, &common::packet(&header, &[0; 64]));
    let error = poll::until(&bus, Duration::from_secs(60), || hfi.service_interrupts().err());
    assert!(error.unwrap().to_string().contains("CM_RESET clear"));
    assert!(matches!(hfi.link_state(), LinkState::Down(_)));
    assert!(send.is_stale() && hfi.freezes() == 1);
}

/// The same when the 8051 doesn't take the link offline, which is told; the next try sees to it.
#[test]
fn a_link_goes_down_although_it_does_not_get_offline() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let bus = Faulty::new(bench.bus(), Vec::new());
    let hfi = Hfi::open(bus.clone(), bench.options()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    while hfi.service_interrupts().unwrap().any {}
    let mut send = hfi.send_context(Blocks(64)).unwrap();
    let (offset, mask) = (csr::DC_DC8051_STS_CUR_STATE.off(), csr::DC_DC8051_STS_CUR_STATE::PORT.mask());
    bus.add(Fault::Stuck { offset, mask, value: csr::DC_DC8051_STS_CUR_STATE::PORT.put(chip::PLS_LINKUP) });
    assert!(bench.adapter.inject(opx_emu::Fault::Chip(ChipFault::LinkSignalLost), 0, 0));
    let header = common::header(hfi.lid(), hfi.lid(), RcvCtxt(1), hfi.options().job_key, 64);
    common::send_pio(&send, 0, &common::packet(&header, &[0; 64]));
    let error = poll::until(&bus, Duration::from_secs(60), || hfi.service_interrupts().err());
    assert!(error.unwrap().to_string().contains("offline"));
    assert!(matches!(hfi.link_state(), LinkState::Down(_)));
    assert!(send.is_stale() && hfi.freezes() == 1);
    assert!(matches!(send.recover(), Err(ContextError::LinkDown { .. })));
    // As long as it isn't offline it isn't brought up.
    assert!(hfi.link_up(LinkMode::Loopback).unwrap_err().to_string().contains("offline"));
    bus.mend();
    hfi.link_up(LinkMode::Loopback).unwrap();
    send.recover().unwrap();
}

/// Memory that an engine holds stays mapped when the engine doesn't stop, until the adapter is closed.
#[test]
fn memory_outlives_an_engine_that_does_not_stop() {
    struct Unmaps(AtomicUsize);
    impl DmaUnmap for Unmaps {
        fn dma_unmap(&self, _: Iova, _: &SharedMem) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    for stops in [true, false] {
        let bench = Bench::new(Icode::FunctionalSimulator);
        let bus = Faulty::new(bench.bus(), Vec::new());
        let hfi = Hfi::open(bus.clone(), bench.options()).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        let unmaps = Arc::new(Unmaps(AtomicUsize::new(0)));
        let mut engine = hfi.sdma_engine(64).unwrap();
        engine.hold(DmaBlock::new(SharedMem::new(4096).unwrap(), Iova(0), Arc::clone(&unmaps) as Arc<dyn DmaUnmap>));
        if !stops {
            let (offset, mask) = (csr::SEND_DMA_STATUS.at(0), csr::SEND_DMA_STATUS::ENG_HALTED.mask());
            bus.add(Fault::Stuck { offset, mask, value: 0 });
        }
        drop(engine);
        assert_eq!(unmaps.0.load(Ordering::Relaxed), usize::from(stops));
        drop(hfi);
        assert_eq!(unmaps.0.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn an_adapter_that_went_away_is_told_by_every_operation() {
    let bench = Bench::new(Icode::Silicon);
    let bus = Faulty::new(bench.bus(), Vec::new());
    let hfi = Hfi::open(bus.clone(), bench.options()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    let mut send = hfi.send_context(Blocks(64)).unwrap();
    let mut recv = hfi.recv_context(recv_config()).unwrap();
    let mut engine = hfi.sdma_engine(64).unwrap();
    bus.add(Fault::GoneAfterReads { after: 0 });
    assert!(send.is_halted());
    assert_eq!((send.error_status().bits(), engine.error_status()), (ALL_ONES, ALL_ONES));
    send.force_credit_return();
    assert!(send.restart().unwrap_err().is_gone());
    assert!(engine.restart().unwrap_err().is_gone());
    assert!(recv.poll().is_none());
    assert!(recv.arm().is_err());
    assert!(recv.overflows().is_err());
    assert!(hfi.service_interrupts().unwrap_err().is_gone());
    assert!(hfi.send_context(Blocks(1)).unwrap_err().is_gone());
    assert!(hfi.recv_context(recv_config()).unwrap_err().is_gone());
    assert!(hfi.sdma_engine(64).unwrap_err().is_gone());
    assert!(hfi.link_advance().unwrap_err().is_gone());
}

struct Case {
    icode: Icode,
    csr: &'static Csr,
    index: u32,
    field: Field,
    value: u64,
    wanted: &'static str,
}

fn stuck(icode: Icode, csr: &'static Csr, index: u32, field: Field, value: u64, wanted: &'static str) -> Case {
    Case { icode, csr, index, field, value, wanted }
}

/// Each status that is waited for, stuck at what it isn't waited for.
fn cases() -> Vec<Case> {
    use Icode::{FunctionalSimulator as S, Silicon as R};
    vec![
        stuck(
            R,
            &csr::DC_DC8051_CFG_RAM_ACCESS_STATUS,
            0,
            csr::DC_DC8051_CFG_RAM_ACCESS_STATUS::ACCESS_COMPLETED,
            0,
            "waiting for DC_DC8051_CFG_RAM_ACCESS_STATUS to show ACCESS_COMPLETED",
        ),
        stuck(R, &csr::MISC_CFG_FW_CTRL, 0, csr::MISC_CFG_FW_CTRL::RSA_STATUS, 1, "RSA_STATUS is 1"),
        stuck(R, &csr::MISC_CFG_FW_CTRL, 0, csr::MISC_CFG_FW_CTRL::RSA_STATUS, 0, "refuses the fabric serdes firmware"),
        stuck(
            R,
            &csr::DC_DC8051_STS_CUR_STATE,
            0,
            csr::DC_DC8051_STS_CUR_STATE::FIRMWARE,
            0,
            "waiting for DC_DC8051_STS_CUR_STATE to show FIRMWARE 0xa0",
        ),
        stuck(
            R,
            &csr::DC_DC8051_STS_CUR_STATE,
            0,
            csr::DC_DC8051_STS_CUR_STATE::PORT,
            0x40,
            "waiting for DC_DC8051_STS_CUR_STATE to show PORT 0x50",
        ),
        stuck(
            S,
            &csr::DC_DC8051_CFG_HOST_CMD_1,
            0,
            csr::DC_DC8051_CFG_HOST_CMD_1::COMPLETED,
            0,
            "waiting for DC_DC8051_CFG_HOST_CMD_1 to show COMPLETED",
        ),
        stuck(
            S,
            &csr::DC_DC8051_CFG_HOST_CMD_1,
            0,
            csr::DC_DC8051_CFG_HOST_CMD_1::RETURN_CODE,
            3,
            "the 8051 refused to set the transmit rate",
        ),
        stuck(
            S,
            &csr::DC_LCB_STS_LINK_TRANSFER_ACTIVE,
            0,
            Field::new("", 0, 0),
            0,
            "waiting for DC_LCB_STS_LINK_TRANSFER_ACTIVE",
        ),
        stuck(
            S,
            &csr::DCC_CFG_PORT_CONFIG,
            0,
            csr::DCC_CFG_PORT_CONFIG::LINK_STATE,
            1,
            "waiting for DCC_CFG_PORT_CONFIG to show LINK_STATE INIT",
        ),
        stuck(
            S,
            &csr::DCC_CFG_PORT_CONFIG,
            0,
            csr::DCC_CFG_PORT_CONFIG::LINK_STATE,
            2,
            "waiting for DCC_CFG_PORT_CONFIG to show LINK_STATE ARMED",
        ),
        stuck(S, &csr::DC_DC8051_ERR_FLG, 0, Field::new("", 15, 0), 0, "the link is still polling after 10s"),
        stuck(R, &csr::ASIC_CFG_MUTEX, 0, Field::new("", 7, 0), 2, "the chip's mutex is held by the other function"),
        stuck(R, &csr::ASIC_CFG_SCRATCH, 0, Field::new("", 8, 8), 1, "the chip's SBus is held by the other function"),
        stuck(S, &csr::SEND_CM_CREDIT_VL, 1, Field::new("", 15, 0), 5, "SEND_CM_CREDIT_VL[1] reads 0x5"),
        stuck(
            S,
            &csr::SEND_PIO_INIT_CTXT,
            0,
            csr::SEND_PIO_INIT_CTXT::PIO_INIT_IN_PROGRESS,
            1,
            "waiting for SEND_PIO_INIT_CTXT to show PIO_INIT_IN_PROGRESS clear",
        ),
        stuck(
            S,
            &csr::SEND_PIO_INIT_CTXT,
            0,
            csr::SEND_PIO_INIT_CTXT::PIO_INIT_ERR,
            1,
            "SEND_PIO_INIT_CTXT reports an error (0x",
        ),
        stuck(
            S,
            &csr::SEND_CTXT_CTRL,
            159,
            csr::SEND_CTXT_CTRL::CTXT_ENABLE,
            0,
            "waiting for SEND_CTXT_CTRL[159] to show CTXT_ENABLE",
        ),
        stuck(S, &csr::RCV_CTXT_CTRL, 1, csr::RCV_CTXT_CTRL::ENABLE, 0, "waiting for RCV_CTXT_CTRL[1] to show ENABLE"),
        stuck(
            S,
            &csr::SEND_DMA_ENG_ERR_STATUS,
            0,
            csr::SEND_DMA_ENG_ERR_STATUS::SDMA_HALT_ERR,
            0,
            "waiting for SEND_DMA_ENG_ERR_STATUS[0] to show SDMA_HALT_ERR",
        ),
        stuck(
            S,
            &csr::SEND_DMA_STATUS,
            0,
            csr::SEND_DMA_STATUS::ENG_HALTED,
            0,
            "waiting for SEND_DMA_STATUS[0] to show ENG_HALTED",
        ),
        stuck(
            S,
            &csr::SEND_DMA_STATUS,
            0,
            csr::SEND_DMA_STATUS::ENG_CLEANED_UP,
            0,
            "waiting for SEND_DMA_STATUS[0] to show ENG_CLEANED_UP",
        ),
        stuck(S, &csr::SEND_CTRL, 0, csr::SEND_CTRL::SEND_ENABLE, 1, "after the reset SEND_CTRL is 0x1, not 0"),
        stuck(S, &csr::RCV_CTXT_CTRL, 9, csr::RCV_CTXT_CTRL::ENABLE, 1, "after the reset RCV_CTXT_CTRL[9] is 0x1"),
        stuck(S, &csr::SEND_DMA_CTRL, 3, csr::SEND_DMA_CTRL::SDMA_ENABLE, 1, "after the reset SEND_DMA_CTRL[3] is 0x1"),
        stuck(S, &csr::SEND_CONTEXTS, 0, Field::new("", 15, 0), 5000, "SEND_CONTEXTS is 0x1388"),
        stuck(S, &csr::CCE_REVISION2, 0, csr::CCE_REVISION2::IMPL_CODE, 7, "an unknown implementation"),
    ]
}

#[test]
fn each_wait_ends_and_names_what_it_waited_for() {
    for Case { icode, csr, index, field, value, wanted } in cases() {
        let bench = Bench::new(icode);
        let fault = Fault::Stuck { offset: csr.at(index), mask: field.mask(), value: field.put(value) };
        let error = everything(&bench, Faulty::new(bench.bus(), vec![fault])).unwrap_err();
        assert!(error.to_string().contains(wanted), "{}: {error}", csr.name);
        assert!(error.to_string().starts_with("emulated: "), "{error}");
        assert!(!error.is_gone(), "{error}");
    }
}

#[test]
fn a_context_that_does_not_halt_or_drain_is_told() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let bus = Faulty::new(bench.bus(), Vec::new());
    let hfi = Hfi::open(bus.clone(), bench.options()).unwrap();
    let mut send = hfi.send_context(Blocks(64)).unwrap();
    let error = send.restart().unwrap_err().to_string();
    assert!(error.contains("timed out after 500ms waiting for SEND_CTXT_STATUS[159] to show CTXT_HALTED"), "{error}");
    // A context whose packets never leave isn't used again.
    let status = csr::SEND_EGRESS_CTXT_STATUS.at(159);
    bus.add(Fault::Stuck { offset: status, mask: 0x1_3fff, value: 3 });
    drop(send);
    assert_eq!(hfi.send_context(Blocks(64)).unwrap().number().0, 158);
    // Nor is an engine that doesn't stop; its memory stays until the adapter is closed.
    let engine = hfi.sdma_engine(64).unwrap();
    bus.add(Fault::Stuck { offset: csr::SEND_DMA_STATUS.at(0), mask: ALL_ONES, value: 0 });
    drop(engine);
    assert_eq!(hfi.sdma_engine(64).unwrap().number().0, 1);
}

#[test]
fn refused_memory_is_told_at_each_allocation() {
    let bench = Bench::new(Icode::Silicon);
    let counted = Faulty::new(bench.bus(), Vec::new());
    everything(&bench, counted.clone()).unwrap();
    let allocations = counted.allocations();
    assert!(allocations >= 5);
    for after in 0..allocations {
        let bus = Faulty::new(bench.bus(), vec![Fault::NoMemoryAfter { after }]);
        let error = everything(&bench, bus).unwrap_err().to_string();
        assert!(error.contains("of DMA memory"), "after {after} allocations: {error}");
    }
}

#[test]
fn refused_interrupts_and_reset_are_told() {
    let bench = Bench::new(Icode::Silicon);
    let refused = |fault| everything(&bench, Faulty::new(bench.bus(), vec![fault])).unwrap_err().to_string();
    assert!(refused(Fault::NoIrqs).starts_with("emulated: can't enable 49 MSI-X vectors: "));
    assert!(refused(Fault::NoReset).starts_with("emulated: function reset failed: "));
}

#[test]
fn lost_writes_do_not_go_unnoticed() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let lost = |csr: &Csr, index| {
        let bus = Faulty::new(bench.bus(), vec![Fault::LostWrites { offset: csr.at(index) }]);
        everything(&bench, bus).unwrap_err().to_string()
    };
    assert!(lost(&csr::SEND_CTXT_CTRL, 159).contains("SEND_CTXT_CTRL[159]"));
    assert!(lost(&csr::RCV_CTXT_CTRL, 1).contains("RCV_CTXT_CTRL[1]"));
    assert!(lost(&csr::SEND_CM_CREDIT_VL, 0).contains("SEND_CM_CREDIT_VL[0] reads 0x0"));
    assert!(lost(&csr::DC_DC8051_CFG_HOST_CMD_0, 0).contains("DC_DC8051_CFG_HOST_CMD_1"));
    assert!(lost(&csr::SEND_DMA_CTRL, 0).contains("SDMA_HALT_ERR"));
}

/// A simulated second costs nothing, so waits are as long as they are; but none may be endless.
#[test]
fn waits_are_bounded_in_simulated_time() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let start = bench.bus().now();
    for Case { icode, csr, index, field, value, .. } in cases() {
        if icode == Icode::FunctionalSimulator {
            let fault = Fault::Stuck { offset: csr.at(index), mask: field.mask(), value: field.put(value) };
            everything(&bench, Faulty::new(bench.bus(), vec![fault])).unwrap_err();
        }
    }
    assert!(bench.bus().now().since(start) < Duration::from_secs(120));
}

#[test]
fn a_flipped_bit_in_a_firmware_file_is_refused_by_the_chip() {
    for (name, what) in [("hfi1_dc8051.fw", "8051"), ("hfi1_fabric.fw", "fabric serdes")] {
        // By file position: header (unused part), modulus, signature, R2, mu, code.
        for at in [127, 200, 400, 700, 903, 2000] {
            let bench = Bench::new(Icode::Silicon);
            let file = bench.options().firmware_dir.unwrap().join(name);
            let mut bytes = std::fs::read(&file).unwrap();
            bytes[at] ^= 4;
            std::fs::write(&file, bytes).unwrap();
            let error = Hfi::open(bench.bus(), bench.options()).unwrap_err().to_string();
            let refusal = format!("the chip refuses the {what} firmware: RSA_STATUS is 3, its authorisation failed");
            assert!(error.contains(&refusal), "{name} byte {at}: {error}");
        }
    }
}
