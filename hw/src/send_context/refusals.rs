//! Which checks refused packets, kept for each send context until it is restarted.
//!
//! The chip has one register for all senders, SEND_EGRESS_ERR_INFO, that collects until it is cleared. Whoever reads it,
//! the general interrupt or a context that found itself halted, does so for all.

use crate::error::Gone;
use crate::hfi::{Inner, lock};
use opx_bus::PciFunction;
use opx_defs::chip;
use opx_defs::csr;
use opx_defs::status::EgressRefusals;
use opx_defs::units::SendCtxt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was collected for each send context.
#[derive(Debug)]
pub(crate) struct Refusals([AtomicU64; chip::TXE_NUM_CONTEXTS as usize]);

impl Default for Refusals {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; chip::TXE_NUM_CONTEXTS as usize])
    }
}

impl Refusals {
    fn cell(&self, ctxt: SendCtxt) -> Option<&AtomicU64> {
        self.0.get(usize::from(ctxt.0))
    }

    pub fn get(&self, ctxt: SendCtxt) -> EgressRefusals {
        EgressRefusals::from_bits_retain(self.cell(ctxt).map_or(0, |kept| kept.load(Ordering::Acquire)))
    }

    pub fn keep(&self, ctxt: SendCtxt, info: u64) {
        if let Some(kept) = self.cell(ctxt) {
            kept.fetch_or(info, Ordering::AcqRel);
        }
    }

    pub fn forget(&self, ctxt: SendCtxt) {
        if let Some(kept) = self.cell(ctxt) {
            kept.store(0, Ordering::Release);
        }
    }
}

impl<B: PciFunction> Inner<B> {
    /// Takes what SEND_EGRESS_ERR_INFO holds and keeps it for every context that a refused packet has halted:
    /// `chip.c:handle_send_egress_err_info`. SEND_EGRESS_ERR_SOURCE is read first, as there, but what it holds isn't known.
    pub(crate) fn collect_refusals(&self) -> Result<EgressRefusals, Gone> {
        let disallowed = csr::SEND_CTXT_ERR_STATUS::PIO_DISALLOWED_PACKET_ERR;
        self.regs.check_ours()?;
        // The lock: what one reader has cleared, the other finds kept.
        let pool = lock(&self.pool);
        let source = self.regs.read(&csr::SEND_EGRESS_ERR_SOURCE)?;
        let info = self.regs.read(&csr::SEND_EGRESS_ERR_INFO)?;
        if info == 0 {
            return Ok(EgressRefusals::empty());
        }
        self.regs.write(&csr::SEND_EGRESS_ERR_INFO, info);
        let refusals = EgressRefusals::from_bits_retain(info);
        log::warn!("{}: a packet was refused on egress: {refusals} (source {source:#x})", self.info.name);
        for ctxt in pool.send_taken() {
            if disallowed.is_set(self.regs.read_at(&csr::SEND_CTXT_ERR_STATUS, ctxt.into())?) {
                self.refusals.keep(SendCtxt(ctxt), info);
            }
        }
        Ok(refusals)
    }
}
