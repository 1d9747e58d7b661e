//! The transmit engine's global registers: error masks, credit tables, service class maps.

use crate::error::{ChipError, Gone};
use crate::hfi::Inner;
use crate::info::Sizes;
use crate::regs::{Regs, limit};
use opx_bus::{ALL_ONES, PciFunction};
use opx_defs::chip;
use opx_defs::csr::{self, Csr};

/// `hfi.h:HFI1_CREDIT_RETURN_RATE`.
const CREDIT_RETURN_RATE: u64 = 100;
/// Credits come in units of 2^vCU allocation units; the parameter's default is 1, so vCU is 0.
pub(crate) const LOCAL_VCU: u8 = 0;

/// `chip.c:init_txe, init_sc2vl_tables`.
pub(crate) fn init<B: PciFunction>(regs: &Regs<B>, sizes: Sizes, icode: u8) -> Result<(), Gone> {
    init_sc2vl(regs);
    for mask in [&csr::SEND_PIO_ERR_MASK, &csr::SEND_DMA_ERR_MASK, &csr::SEND_ERR_MASK, &csr::SEND_EGRESS_ERR_MASK] {
        regs.write(mask, ALL_ONES);
    }
    for ctxt in 0..sizes.send_contexts {
        regs.write_at(&csr::SEND_CTXT_ERR_MASK, ctxt, ALL_ONES);
    }
    for engine in 0..sizes.sdma_engines {
        regs.write_at(&csr::SEND_DMA_ENG_ERR_MASK, engine, ALL_ONES);
    }
    assign_au_table(regs, LOCAL_VCU, &csr::SEND_CM_LOCAL_AU_TABLE0_TO3, &csr::SEND_CM_LOCAL_AU_TABLE4_TO7);
    // The functional simulator chokes on the timer.
    if u64::from(icode) != chip::ICODE_FUNCTIONAL_SIMULATOR {
        regs.write(&csr::SEND_CM_TIMER_CTRL, CREDIT_RETURN_RATE);
    }
    regs.read(&csr::SEND_CM_LOCAL_AU_TABLE4_TO7)?;
    Ok(())
}

/// The virtual lane of each service class: 0 to 7 and 15 have their own, all others lane 0.
fn vl_of(sc: u64) -> u64 {
    if sc < 8 || sc == 15 { sc } else { 0 }
}

/// `chip.c:init_sc2vl_tables`: the transmit engine's and the DC's map are the same.
fn init_sc2vl<B: PciFunction>(regs: &Regs<B>) {
    let table = |first: u64, count: u64, bits: u64| {
        (0..count).fold(0, |table, entry| table | vl_of(first + entry) << (entry * bits))
    };
    let send = [&csr::SEND_SC2VLT0, &csr::SEND_SC2VLT1, &csr::SEND_SC2VLT2, &csr::SEND_SC2VLT3];
    for (first, csr) in (0..32).step_by(8).zip(send) {
        regs.write(csr, table(first, 8, 8));
    }
    regs.write(&csr::DCC_CFG_SC_VL_TABLE_15_0, table(0, 16, 4));
    regs.write(&csr::DCC_CFG_SC_VL_TABLE_31_16, table(16, 16, 4));
}

/// How many allocation units each code of a credit return stands for: `chip.c:assign_cm_au_table`.
fn assign_au_table<B: PciFunction>(regs: &Regs<B>, vcu: u8, low: &Csr, high: &Csr) {
    let cu = 1u64 << (vcu & 7);
    regs.write(low, 1 << 16 | (2 * cu) << 32 | (4 * cu) << 48);
    regs.write(high, (8 * cu) | (16 * cu) << 16 | (32 * cu) << 32 | (64 * cu) << 48);
}

/// The peer's credit returns, in its credit units.
pub(crate) fn assign_remote_au_table<B: PciFunction>(regs: &Regs<B>, vcu: u8) {
    assign_au_table(regs, vcu, &csr::SEND_CM_REMOTE_AU_TABLE0_TO3, &csr::SEND_CM_REMOTE_AU_TABLE4_TO7);
}

/// `chip.c:reset_link_credits`: no credits, and the credit manager's own counters back to zero.
pub(crate) fn reset_link_credits<B: PciFunction>(regs: &Regs<B>) -> Result<(), ChipError> {
    for vl in 0..csr::SEND_CM_CREDIT_VL.count {
        regs.write_at(&csr::SEND_CM_CREDIT_VL, vl, 0);
    }
    regs.write(&csr::SEND_CM_CREDIT_VL15, 0);
    regs.write(&csr::SEND_CM_GLOBAL_CREDIT, 0);
    let reset = csr::SEND_CTRL::CM_RESET;
    regs.modify(&csr::SEND_CTRL, |v| v | reset.mask())?;
    let done = |value| !reset.is_set(value);
    regs.wait(&csr::SEND_CTRL, 0, limit::UNBOUNDED_IN_LINUX, "CM_RESET clear", done)?;
    Ok(())
}

impl<B: PciFunction> Inner<B> {
    /// `pio.c:pio_send_control(PSC_GLOBAL_ENABLE)`: data goes out on VL 0 only, the others have no MTU.
    pub(crate) fn send_enable(&self) -> Result<(), Gone> {
        use csr::SEND_CTRL as ctrl;
        self.regs.modify(&csr::SEND_CTRL, |v| ctrl::UNSUPPORTED_VL.set(v, 0xfe) | ctrl::SEND_ENABLE.mask())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_classes_map_as_in_the_driver() {
        assert_eq!((vl_of(3), vl_of(8), vl_of(15), vl_of(31)), (3, 0, 15, 0));
    }
}
