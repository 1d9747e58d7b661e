//! Send contexts: a share of the PIO memory, its credits, its egress checks.

use crate::error::{ChipError, ContextError, Gone, Stuck};
use crate::hfi::{Inner, lock};
use crate::regs::limit;
use opx_bus::{ALL_ONES, PciFunction};
use opx_defs::chip;
use opx_defs::credit::CreditReturn;
use opx_defs::csr;
use opx_defs::units::{BarOff, Blocks, SendCtxt};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A context's window in the BAR has 64 KiB.
const MAX_BLOCKS: u16 = 1024;
const WINDOW_BYTES: u32 = 0x1_0000;
const BLOCK_BYTES: u32 = chip::PIO_BLOCK_SIZE as u32;
/// Where the windows begin, and how far on the view is that starts a packet (`pio.c:sc_alloc`, SOP_DISTANCE).
const PIO_BASE: u32 = (chip::TXE + chip::TXE_PIO_SEND_OFFSET) as u32;
const SOP_DISTANCE: u32 = (chip::TXE_PIO_SIZE / 2) as u32;
/// Credits that are returned by themselves, in percent of the context's (`init.c:user_credit_return_threshold`).
const THRESHOLD_PERCENT: u32 = 33;
/// Opcodes of OPX and PSM have the two highest bits set (`chip.h:USER_OPCODE_CHECK_VAL`).
const OPCODE_VALUE: u64 = 0xc0;
const OPCODE_MASK: u64 = 0xc0;
/// Lanes that are not allowed: VL 15, for management.
const DISALLOWED_VLS: u64 = 1 << 15;
/// The chip needs that after the last packet to return its credits: 350 cclks of 1.242 ns, rounded up
/// (`hfi.h:PACKET_EGRESS_TIMEOUT`).
const CREDIT_RETURN_PAUSE: Duration = Duration::from_micros(1);

/// A send context. Dropping it disables it and gives its memory back.
pub struct SendContext<B: PciFunction> {
    inner: Arc<Inner<B>>,
    number: SendCtxt,
    base: u32,
    depth: Blocks,
}

impl<B: PciFunction> fmt::Debug for SendContext<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendContext").field("number", &self.number).field("depth", &self.depth).finish()
    }
}

/// Checks that every packet of a user context passes on egress: `hfi.h:hfi1_pkt_default_send_ctxt_mask(SC_USER)` with
/// job key and partition key (`chip.c:hfi1_set_ctxt_jkey, hfi1_set_ctxt_pkey`), static rates allowed
/// (`chip.c:hfi1_init_ctxt`). 0x2fefff.
fn checks() -> u64 {
    use csr::SEND_CTXT_CHECK_ENABLE as c;
    let enabled = [
        c::CHECK_ENABLE,
        c::CHECK_VL,
        c::CHECK_JOB_KEY,
        c::CHECK_PARTITION_KEY,
        c::CHECK_SLID,
        c::CHECK_OPCODE,
        c::CHECK_VL_MAPPING,
        c::CHECK_BYPASS_VL_MAPPING,
        c::DISALLOW_RAW,
        c::DISALLOW_RAW_IPV6,
        c::DISALLOW_GRH,
        c::DISALLOW_BYPASS,
        c::DISALLOW_NON_KDETH_PACKETS,
        c::DISALLOW_TOO_SMALL_IB_PACKETS,
        c::DISALLOW_TOO_SMALL_BYPASS_PACKETS,
        c::DISALLOW_PBC_TEST,
        c::DISALLOW_BAD_PKT_LEN,
        c::DISALLOW_TOO_LONG_IB_PACKETS,
        c::DISALLOW_TOO_LONG_BYPASS_PACKETS,
        c::DISALLOW_BYPASS_BAD_PKT_LEN,
    ];
    enabled.iter().fold(0, |mask, field| mask | field.mask())
}

impl<B: PciFunction> SendContext<B> {
    pub(crate) fn new(inner: &Arc<Inner<B>>, depth: Blocks) -> Result<Self, ContextError> {
        let adapter = inner.adapter();
        if inner.frozen.get() {
            return Err(ContextError::Frozen { adapter });
        }
        if depth.0 == 0 || depth.0 > MAX_BLOCKS {
            let (parameter, rule) = ("blocks of a send context", "from 1 to 1024");
            return Err(ContextError::BadParameter { adapter, parameter, value: depth.0.into(), rule });
        }
        let (number, base) = lock(&inner.pool).take_send(depth.0)?;
        // From here on, dropping it gives everything back.
        let context = Self { inner: Arc::clone(inner), number: SendCtxt(number), base, depth };
        context.set_up();
        context.enable()?;
        Ok(context)
    }

    fn index(&self) -> u32 {
        self.number.0.into()
    }

    fn credit_offset(&self) -> usize {
        let number = usize::from(self.number.0);
        64 * number + 8 * (number & 7)
    }

    /// `pio.c:sc_alloc` for SC_USER, then `chip.c:hfi1_set_ctxt_jkey, hfi1_set_ctxt_pkey`.
    fn set_up(&self) {
        use csr::{SEND_CTXT_CHECK_JOB_KEY as job, SEND_CTXT_CHECK_OPCODE as opcode, SEND_CTXT_CREDIT_CTRL as credit};
        let (regs, n, options) = (&self.inner.regs, self.index(), &self.inner.options);
        let ctrl = csr::SEND_CTXT_CTRL::CTXT_BASE.put(self.base.into())
            | csr::SEND_CTXT_CTRL::CTXT_DEPTH.put(self.depth.0.into());
        regs.write_at(&csr::SEND_CTXT_CTRL, n, ctrl);
        regs.write_at(&csr::SEND_CTXT_ERR_MASK, n, ALL_ONES);
        regs.write_at(&csr::SEND_CTXT_CHECK_PARTITION_KEY, n, options.pkey.0.into());
        regs.write_at(&csr::SEND_CTXT_CHECK_OPCODE, n, opcode::VALUE.put(OPCODE_VALUE) | opcode::MASK.put(OPCODE_MASK));
        // The chip adds 8 * (context % 8) to the address of the context's line.
        let line = self.inner.credit_memory.iova(64 * usize::from(self.number.0));
        regs.write_at(&csr::SEND_CTXT_CREDIT_RETURN_ADDR, n, line.0);
        let threshold = (u32::from(self.depth.0) * THRESHOLD_PERCENT / 100).max(1);
        let control = credit::THRESHOLD.put(threshold.into()) | credit::EARLY_RETURN.mask();
        regs.write_at(&csr::SEND_CTXT_CREDIT_CTRL, n, control);
        regs.write_at(&csr::SEND_CTXT_CHECK_VL, n, DISALLOWED_VLS);
        let key = job::MASK.mask() | job::VALUE.put(options.job_key.0.into());
        regs.write_at(&csr::SEND_CTXT_CHECK_JOB_KEY, n, key);
        regs.write_at(&csr::SEND_CTXT_CHECK_ENABLE, n, checks());
    }

    /// `pio.c:sc_enable`.
    fn enable(&self) -> Result<(), ContextError> {
        use csr::SEND_PIO_INIT_CTXT as init;
        let (regs, n) = (&self.inner.regs, self.index());
        self.inner.credit_memory.write_u64(self.credit_offset(), 0);
        let errors = regs.read_at(&csr::SEND_CTXT_ERR_STATUS, n)?;
        if errors != 0 {
            regs.write_at(&csr::SEND_CTXT_ERR_CLEAR, n, errors);
        }
        {
            let _one_at_a_time = lock(&self.inner.pio_init);
            let start = init::PIO_CTXT_NUM.put(n.into()) | init::PIO_SINGLE_CTXT_INIT.mask();
            regs.write(&csr::SEND_PIO_INIT_CTXT, start);
            regs.pause(Duration::from_micros(2));
            let done = |value| !init::PIO_INIT_IN_PROGRESS.is_set(value);
            let wanted = "PIO_INIT_IN_PROGRESS clear";
            let value = regs.wait(&csr::SEND_PIO_INIT_CTXT, 0, limit::PIO_INIT, wanted, done)?;
            if init::PIO_INIT_ERR.is_set(value) {
                return Err(ContextError::PioInit { adapter: self.inner.adapter(), context: self.number.0, value });
            }
        }
        let enable = csr::SEND_CTXT_CTRL::CTXT_ENABLE;
        let ctrl = regs.read_at(&csr::SEND_CTXT_CTRL, n)?;
        regs.write_at(&csr::SEND_CTXT_CTRL, n, ctrl | enable.mask());
        // Without this read a store to the window could arrive before the context is enabled.
        let ctrl = regs.read_at(&csr::SEND_CTXT_CTRL, n)?;
        if !enable.is_set(ctrl) {
            let register = format!("{}[{n}]", csr::SEND_CTXT_CTRL.name);
            let adapter = self.inner.adapter();
            let wanted = "CTXT_ENABLE";
            return Err(Stuck { adapter, register, wanted, value: ctrl, limit: Duration::ZERO }.into());
        }
        Ok(())
    }

    /// `pio.c:sc_disable`; tells whether all packets left.
    fn disable(&self) -> Result<bool, Gone> {
        let (regs, n) = (&self.inner.regs, self.index());
        let ctrl = regs.read_at(&csr::SEND_CTXT_CTRL, n)?;
        let left = self.wait_for_egress()?;
        regs.pause(CREDIT_RETURN_PAUSE);
        regs.write_at(&csr::SEND_CTXT_CTRL, n, ctrl & !csr::SEND_CTXT_CTRL::CTXT_ENABLE.mask());
        regs.pause(Duration::from_micros(1));
        regs.read_at(&csr::SEND_CTXT_CTRL, n)?;
        Ok(left)
    }

    /// Waits until the context has nothing left on the way out or is halted: `pio.c:sc_wait_for_packet_egress`. The
    /// limit begins anew when packets leave.
    fn wait_for_egress(&self) -> Result<bool, Gone> {
        use csr::SEND_EGRESS_CTXT_STATUS as egress;
        let (regs, n) = (&self.inner.regs, self.index());
        let mut before = 0;
        // Occupancy has 14 bits, so this ends.
        for _ in 0..=egress::CTXT_EGRESS_PACKET_OCCUPANCY.mask() {
            let looked = regs.wait(&csr::SEND_EGRESS_CTXT_STATUS, n, limit::EGRESS, "no packets", |value| {
                let occupancy = egress::CTXT_EGRESS_PACKET_OCCUPANCY.get(value);
                let changed = before != 0 && occupancy != before;
                before = occupancy;
                occupancy == 0 || changed || egress::CTXT_EGRESS_HALT_STATUS.is_set(value) || self.is_halted()
            });
            match looked {
                Err(ChipError::Gone(gone)) => return Err(gone),
                Err(ChipError::Stuck(stuck)) => {
                    log::warn!("{stuck}");
                    return Ok(false);
                }
                Ok(value) if egress::CTXT_EGRESS_PACKET_OCCUPANCY.get(value) == 0 => return Ok(true),
                Ok(value) if egress::CTXT_EGRESS_HALT_STATUS.is_set(value) || self.is_halted() => return Ok(true),
                Ok(_) => {}
            }
        }
        Ok(false)
    }

    /// Hardware number.
    pub fn number(&self) -> SendCtxt {
        self.number
    }

    /// Blocks in its ring.
    pub fn depth(&self) -> Blocks {
        self.depth
    }

    /// The function it is on.
    pub fn bus(&self) -> &B {
        self.inner.regs.bus()
    }

    /// Where block `index` (counted on without end or modulo the depth) lies in BAR 0. The first block of a packet is
    /// written in the view that starts packets, all others in the other one.
    #[inline]
    pub fn block_offset(&self, index: u16, sop: bool) -> BarOff {
        let block = u32::from(index % self.depth.0);
        let view = if sop { SOP_DISTANCE } else { 0 };
        BarOff(PIO_BASE + view + self.index() * WINDOW_BYTES + block * BLOCK_BYTES)
    }

    /// The credit-return word as it is in memory now.
    #[inline]
    pub fn credit_return(&self) -> CreditReturn {
        CreditReturn(self.inner.credit_memory.read_u64(self.credit_offset()))
    }

    /// Whether an error or a freeze halted it; also when the adapter is gone.
    pub fn is_halted(&self) -> bool {
        self.inner.frozen.get()
            || match self.inner.regs.read_at(&csr::SEND_CTXT_STATUS, self.index()) {
                Ok(status) => csr::SEND_CTXT_STATUS::CTXT_HALTED.is_set(status),
                Err(_) => true,
            }
    }

    /// The errors that halted it; all ones when the adapter is gone.
    pub fn error_status(&self) -> u64 {
        self.inner.regs.read_at(&csr::SEND_CTXT_ERR_STATUS, self.index()).unwrap_or(ALL_ONES)
    }

    /// Lets the chip write the credit-return word now (`pio.c:sc_return_credits`).
    pub fn force_credit_return(&self) {
        let (regs, n) = (&self.inner.regs, self.index());
        // A rising edge is what forces it; the read keeps the two writes apart.
        regs.write_at(&csr::SEND_CTXT_CREDIT_FORCE, n, csr::SEND_CTXT_CREDIT_FORCE::FORCE_RETURN.mask());
        let _ = regs.read_at(&csr::SEND_CTXT_CREDIT_FORCE, n);
        regs.write_at(&csr::SEND_CTXT_CREDIT_FORCE, n, 0);
    }

    /// Starts it again after an error halted it. Packets that were in it are lost, and credits count from 0 again.
    ///
    /// # Errors
    /// When it isn't halted, or the chip doesn't enable it.
    pub fn restart(&mut self) -> Result<(), ContextError> {
        if self.inner.frozen.get() {
            return Err(ContextError::Frozen { adapter: self.inner.adapter() });
        }
        // pio.c:sc_restart: the error is reported a little before the context is halted.
        let halted = |value| csr::SEND_CTXT_STATUS::CTXT_HALTED.is_set(value);
        self.inner.regs.wait(&csr::SEND_CTXT_STATUS, self.index(), limit::CONTEXT_HALT, "CTXT_HALTED", halted)?;
        self.disable()?;
        self.enable()
    }
}

impl<B: PciFunction> Drop for SendContext<B> {
    /// `pio.c:sc_free`.
    fn drop(&mut self) {
        let (regs, n) = (&self.inner.regs, self.index());
        let left = self.disable();
        for csr in [
            &csr::SEND_CTXT_CTRL,
            &csr::SEND_CTXT_CHECK_ENABLE,
            &csr::SEND_CTXT_ERR_MASK,
            &csr::SEND_CTXT_CHECK_PARTITION_KEY,
            &csr::SEND_CTXT_CHECK_OPCODE,
            &csr::SEND_CTXT_CHECK_JOB_KEY,
            &csr::SEND_CTXT_CREDIT_RETURN_ADDR,
            &csr::SEND_CTXT_CREDIT_CTRL,
        ] {
            regs.write_at(csr, n, 0);
        }
        // Credits are written to memory that stays until the adapter is closed, so that needs no wait.
        if let Ok(false) = left {
            log::warn!("{}: send context {} kept packets, it isn't used again", self.inner.info.name, self.number);
            lock(&self.inner.pool).retire();
            return;
        }
        lock(&self.inner.pool).give_back_send(self.number.0, self.base);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_a_user_context() {
        assert_eq!(checks(), 0x2f_efff);
        assert_eq!((PIO_BASE, SOP_DISTANCE), (0x200_0000, 0x100_0000));
    }
}
