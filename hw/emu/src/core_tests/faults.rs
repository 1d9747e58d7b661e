//! Faults of the chip as a whole, at its registers.

use crate::chip::Chip;
use crate::inject::ChipFault;
use crate::{Config, Icode};
use opx_defs::time::Instant;
use opx_defs::{csr, freezing};
use std::sync::Arc;

fn chip() -> Chip {
    let mut chip = Chip::new(Config { icode: Icode::FunctionalSimulator, ..Config::default() }, Arc::default());
    chip.write64(csr::CCE_DC_CTRL.off(), 0);
    chip
}

fn run(chip: &mut Chip) {
    while chip.step(Instant::from_nanos(1_000_000)) {}
}

#[test]
fn an_error_shows_in_its_bit_and_freezes_as_the_driver_expects() {
    let all = csr::CCE_STATUS::SDMA_FROZE.mask()
        | csr::CCE_STATUS::RXE_FROZE.mask()
        | csr::CCE_STATUS::TXE_FROZE.mask()
        | csr::CCE_STATUS::TXE_PIO_FROZE.mask();
    for fault in ChipFault::ALL {
        let Some((status, field)) = fault.error() else { continue };
        let mut chip = chip();
        chip.suffer(*fault);
        run(&mut chip);
        let name = fault.name();
        assert_eq!(chip.read64(status.off()) & field.mask(), field.mask(), "{name}");
        let freezes = freezing::bits_of(&status) & field.mask() != 0;
        assert_eq!(chip.read64(csr::CCE_STATUS.off()), if freezes { all } else { 0 }, "{name}");
        chip.write64(csr::CCE_CTRL.off(), csr::CCE_CTRL::SPC_UNFREEZE.mask());
        run(&mut chip);
        assert_eq!(chip.read64(csr::CCE_STATUS.off()), 0, "{name}");
    }
}

#[test]
fn a_freeze_can_go_unseen_and_seem_to_stay() {
    let froze = |fault| {
        let mut chip = chip();
        chip.suffer(fault);
        run(&mut chip);
        let frozen = chip.read64(csr::CCE_STATUS.off());
        chip.write64(csr::CCE_CTRL.off(), csr::CCE_CTRL::SPC_UNFREEZE.mask());
        run(&mut chip);
        (frozen, chip.read64(csr::CCE_STATUS.off()))
    };
    let receiver = csr::CCE_STATUS::RXE_FROZE.mask();
    assert_eq!(froze(ChipFault::FreezeUnseen), (0xf & !receiver, 0));
    assert_eq!(froze(ChipFault::UnfreezeUnseen), (0xf, receiver));
}

/// A lost heartbeat stands until the core is reset (`chip.c:handle_8051_interrupt`: "we receive constant interrupts").
#[test]
fn a_dead_8051_says_so_until_its_reset() {
    let flag = csr::DC_DC8051_ERR_FLG::LOST_8051_HEART_BEAT.mask();
    let mut chip = chip();
    chip.suffer(ChipFault::Dc8051Dead);
    chip.write64(csr::DC_DC8051_ERR_CLR.off(), flag);
    assert_eq!(chip.read64(csr::DC_DC8051_ERR_FLG.off()) & flag, flag);
    for reset in [csr::DC_DC8051_CFG_RST::M8051W.mask(), 0] {
        chip.write64(csr::DC_DC8051_CFG_RST.off(), reset);
    }
    chip.write64(csr::DC_DC8051_ERR_CLR.off(), flag);
    assert_eq!(chip.read64(csr::DC_DC8051_ERR_FLG.off()) & flag, 0);
}
