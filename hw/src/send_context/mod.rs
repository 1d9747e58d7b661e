//! Send contexts: a share of the PIO memory, its credits, its egress checks.

mod config;
mod refusals;

pub use config::{SendConfig, SendKind, Threshold};
pub(crate) use refusals::Refusals;

use crate::error::{ChipError, ContextError, Gone, Stuck};
use crate::hfi::{Inner, lock};
use crate::regs::limit;
use opx_bus::{ALL_ONES, BusError, PciFunction};
use opx_defs::chip;
use opx_defs::credit::CreditReturn;
use opx_defs::csr;
use opx_defs::source::Source;
use opx_defs::status::{EgressRefusals, SendCtxtErrors};
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
/// The chip needs that after the last packet to return its credits: 350 cclks of 1.242 ns, rounded up
/// (`hfi.h:PACKET_EGRESS_TIMEOUT`).
const CREDIT_RETURN_PAUSE: Duration = Duration::from_micros(1);
/// How long a context's packets may take to leave although some leave now and then. Linux's driver sets no such limit.
const EGRESS_IN_ALL: Duration = Duration::from_secs(2);

/// A send context. Dropping it disables it and gives its memory back.
pub struct SendContext<B: PciFunction> {
    inner: Arc<Inner<B>>,
    number: SendCtxt,
    base: u32,
    config: SendConfig,
    /// Blocks freed and not told of that make the chip return credits.
    threshold: Blocks,
    vector: Option<u16>,
    /// How often the chip had frozen when it was set up; a later freeze puts it out of order.
    epoch: u32,
}

impl<B: PciFunction> fmt::Debug for SendContext<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendContext").field("number", &self.number).field("config", &self.config).finish()
    }
}

impl<B: PciFunction> SendContext<B> {
    pub(crate) fn new(inner: &Arc<Inner<B>>, config: SendConfig) -> Result<Self, ContextError> {
        // Before any register: a freeze in between makes it one of the past.
        let epoch = inner.running_epoch()?;
        let depth = config.blocks;
        if depth.0 == 0 || depth.0 > MAX_BLOCKS {
            let (adapter, parameter, rule) = (inner.adapter(), "blocks of a send context", "from 1 to 1024");
            return Err(ContextError::BadParameter { adapter, parameter, value: depth.0.into(), rule });
        }
        let threshold = match config.threshold {
            Some(threshold) => threshold.of(depth),
            None => config.kind.threshold(depth, inner.options.mtu),
        };
        let (number, base) = lock(&inner.pool).take_send(depth.0)?;
        // From here on, dropping it gives everything back.
        let inner = Arc::clone(inner);
        let mut context = Self { inner, number: SendCtxt(number), base, config, threshold, vector: None, epoch };
        if config.interrupts {
            let vector = lock(&context.inner.pool).take_vector()?;
            context.vector = Some(vector);
            context.inner.route(context.source(), vector)?;
        }
        context.set_up();
        context.enable().map_err(|error| context.inner.unless_frozen_since(epoch, error))?;
        context.forget_refusals();
        Ok(context)
    }

    /// Whoever collects refusals holds the pool's lock from his look at the errors until he has kept them. So once the
    /// errors are cleared, which enabling does, nothing of a context's past comes in after this.
    fn forget_refusals(&self) {
        let _pool = lock(&self.inner.pool);
        self.inner.refusals.forget(self.number);
    }

    fn index(&self) -> u32 {
        self.number.0.into()
    }

    fn source(&self) -> Source {
        Source::send_credit(self.number)
    }

    fn credit_offset(&self) -> usize {
        let number = usize::from(self.number.0);
        64 * number + 8 * (number & 7)
    }

    /// `pio.c:sc_alloc`, then `chip.c:hfi1_set_ctxt_jkey, hfi1_set_ctxt_pkey` for users.
    fn set_up(&self) {
        use csr::SEND_CTXT_CHECK_JOB_KEY as job;
        let (regs, n, options, kind) = (&self.inner.regs, self.index(), &self.inner.options, self.config.kind);
        let ctrl = csr::SEND_CTXT_CTRL::CTXT_BASE.put(self.base.into())
            | csr::SEND_CTXT_CTRL::CTXT_DEPTH.put(self.depth().0.into());
        regs.write_at(&csr::SEND_CTXT_CTRL, n, ctrl);
        regs.write_at(&csr::SEND_CTXT_ERR_MASK, n, ALL_ONES);
        regs.write_at(&csr::SEND_CTXT_CHECK_PARTITION_KEY, n, options.pkey.0.into());
        regs.write_at(&csr::SEND_CTXT_CHECK_OPCODE, n, kind.opcodes());
        // The chip adds 8 * (context % 8) to the address of the context's line.
        let line = self.inner.credit_memory.iova(64 * usize::from(self.number.0));
        regs.write_at(&csr::SEND_CTXT_CREDIT_RETURN_ADDR, n, line.0);
        self.write_credit_control(self.threshold, false);
        regs.write_at(&csr::SEND_CTXT_CHECK_VL, n, kind.disallowed_vls());
        let key = if kind.has_job_key() { job::MASK.mask() | job::VALUE.put(options.job_key.0.into()) } else { 0 };
        regs.write_at(&csr::SEND_CTXT_CHECK_JOB_KEY, n, key);
        regs.write_at(&csr::SEND_CTXT_CHECK_ENABLE, n, kind.checks());
    }

    fn write_credit_control(&self, threshold: Blocks, interrupt: bool) {
        use csr::SEND_CTXT_CREDIT_CTRL as credit;
        let control = credit::THRESHOLD.put(threshold.0.into())
            | credit::EARLY_RETURN.put(self.config.early_return.into())
            | credit::CREDIT_INTR.put(interrupt.into());
        self.inner.regs.write_at(&csr::SEND_CTXT_CREDIT_CTRL, self.index(), control);
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
    /// limit begins anew when packets leave, up to [`EGRESS_IN_ALL`]: a slow wire doesn't hold the owner up for ever.
    fn wait_for_egress(&self) -> Result<bool, Gone> {
        use csr::SEND_EGRESS_CTXT_STATUS as egress;
        let (regs, n) = (&self.inner.regs, self.index());
        let mut before = 0;
        let start = regs.bus().now();
        while regs.bus().now().since(start) < EGRESS_IN_ALL {
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
        log::warn!("{}: packets still leave send context {n} after {EGRESS_IN_ALL:?}", self.inner.info.name);
        Ok(false)
    }

    /// Hardware number.
    pub fn number(&self) -> SendCtxt {
        self.number
    }

    /// Blocks in its ring.
    #[inline]
    pub fn depth(&self) -> Blocks {
        self.config.blocks
    }

    /// How it was set up.
    pub fn config(&self) -> &SendConfig {
        &self.config
    }

    /// Blocks freed and not told of that make the chip return credits by itself.
    pub fn threshold(&self) -> Blocks {
        self.threshold
    }

    /// The function it is on.
    pub fn bus(&self) -> &B {
        self.inner.regs.bus()
    }

    /// Where block `index` (counted on without end or modulo the depth) lies in BAR 0. The first block of a packet is
    /// written in the view that starts packets, all others in the other one.
    pub fn block_offset(&self, index: u16, sop: bool) -> BarOff {
        let (start, plain) = self.windows();
        let block = u32::from(index % self.depth().0);
        (if sop { start } else { plain }).plus(block * BLOCK_BYTES)
    }

    /// Where its first block lies in BAR 0, in the view that starts packets and in the plain one.
    pub fn windows(&self) -> (BarOff, BarOff) {
        let plain = PIO_BASE + self.index() * WINDOW_BYTES;
        (BarOff(plain + SOP_DISTANCE), BarOff(plain))
    }

    /// The credit-return word as it is in memory now.
    #[inline]
    pub fn credit_return(&self) -> CreditReturn {
        CreditReturn(self.inner.credit_memory.read_u64(self.credit_offset()))
    }

    /// Whether an error or a freeze halted it; also when the adapter is gone.
    pub fn is_halted(&self) -> bool {
        self.is_stale()
            || match self.inner.regs.read_at(&csr::SEND_CTXT_STATUS, self.index()) {
                Ok(status) => csr::SEND_CTXT_STATUS::CTXT_HALTED.is_set(status),
                Err(_) => true,
            }
    }

    /// Whether the chip froze since it was set up: packets that are written to it are lost until [`SendContext::recover`].
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.epoch != self.inner.frozen.epoch()
    }

    /// The errors that halted it; all ones when the adapter is gone.
    pub fn error_status(&self) -> SendCtxtErrors {
        let status = self.inner.regs.read_at(&csr::SEND_CTXT_ERR_STATUS, self.index()).unwrap_or(ALL_ONES);
        SendCtxtErrors::from_bits_retain(status)
    }

    /// The checks that refused a packet, when that is why it halted. The chip has one register for all senders: where
    /// several were refused at a time, the checks of the others are among them. Stays until the restart.
    ///
    /// # Errors
    /// When the adapter is gone.
    pub fn refusals(&self) -> Result<EgressRefusals, Gone> {
        self.inner.collect_refusals()?;
        Ok(self.inner.refusals.get(self.number))
    }

    /// Blocks freed since it was enabled, modulo [`CREDIT_MODULUS`](opx_defs::credit::CREDIT_MODULUS), as the chip knows
    /// it now: also those that it hasn't told of (`pio.c:seqfile_dump_sci`).
    ///
    /// # Errors
    /// When the adapter is gone.
    pub fn freed_now(&self) -> Result<Blocks, Gone> {
        let status = self.inner.regs.read_at(&csr::SEND_CTXT_CREDIT_STATUS, self.index())?;
        Ok(Blocks(csr::SEND_CTXT_CREDIT_STATUS::CURRENT_FREE_COUNTER.get(status) as u16))
    }

    /// Packets written to it that haven't left.
    ///
    /// # Errors
    /// When the adapter is gone.
    pub fn packets_inside(&self) -> Result<u16, Gone> {
        use csr::SEND_EGRESS_CTXT_STATUS as egress;
        let status = self.inner.regs.read_at(&csr::SEND_EGRESS_CTXT_STATUS, self.index())?;
        Ok(egress::CTXT_EGRESS_PACKET_OCCUPANCY.get(status) as u16)
    }

    /// Changes when credits come back by themselves: `pio.c:sc_set_cr_threshold`. Credits that the old threshold held back
    /// are returned.
    pub fn set_threshold(&mut self, threshold: Threshold) {
        let new = threshold.of(self.depth());
        if new != self.threshold {
            self.threshold = new;
            self.write_credit_control(new, false);
            self.force_credit_return();
        }
    }

    /// Lets every credit return raise the interrupt, and every freed block be returned at once: a wait must not depend on a
    /// threshold that what is under way may never reach. Then returns what is free already
    /// (`pio.c:hfi1_sc_wantpiobuf_intr`).
    ///
    /// Sleep as follows: arm; look at the credits; [`SendContext::sleep`]; look at the credits; and so on; disarm. A return
    /// between look and sleep has raised the interrupt, so that the sleep ends at once.
    ///
    /// # Errors
    /// When it was set up without interrupts, or the adapter is gone.
    pub fn arm_credit_interrupt(&self) -> Result<(), ContextError> {
        if self.vector.is_none() {
            let (adapter, parameter, rule) =
                (self.inner.adapter(), "interrupts of a send context", "on to sleep on it");
            return Err(ContextError::BadParameter { adapter, parameter, value: 0, rule });
        }
        self.inner.clear_source_now(self.source())?;
        self.write_credit_control(Blocks(1), true);
        self.force_credit_return();
        Ok(())
    }

    /// Sleeps until the credit interrupt is raised, at most `limit`; `true` when it was.
    ///
    /// # Errors
    /// When it was set up without interrupts, or the bus can't wait.
    pub fn sleep(&self, limit: Duration) -> Result<bool, BusError> {
        let Some(irq) = self.vector.and_then(|vector| self.inner.irqs.get(usize::from(vector))) else {
            return Ok(false);
        };
        let raised = self.inner.regs.bus().wait_irq(irq, limit)?;
        // Before the caller looks: what is returned after its look then raises the interrupt again. An adapter that is gone
        // shows at the next register.
        let _ = self.inner.clear_source_now(self.source());
        Ok(raised)
    }

    /// Ends what [`SendContext::arm_credit_interrupt`] began.
    pub fn disarm_credit_interrupt(&self) {
        self.write_credit_control(self.threshold, false);
    }

    /// Lets the chip write the credit-return word now (`pio.c:sc_return_credits`).
    pub fn force_credit_return(&self) {
        let (regs, n) = (&self.inner.regs, self.index());
        // A rising edge is what forces it; the read keeps the two writes apart.
        regs.write_at(&csr::SEND_CTXT_CREDIT_FORCE, n, csr::SEND_CTXT_CREDIT_FORCE::FORCE_RETURN.mask());
        let _ = regs.read_at(&csr::SEND_CTXT_CREDIT_FORCE, n);
        regs.write_at(&csr::SEND_CTXT_CREDIT_FORCE, n, 0);
    }

    /// Starts it again after an error or a freeze halted it. Packets that were in it are lost, and credits count from 0
    /// again.
    ///
    /// # Errors
    /// When it isn't halted, or the chip doesn't enable it; after a freeze as [`SendContext::recover`].
    pub fn restart(&mut self) -> Result<(), ContextError> {
        if self.is_stale() {
            return self.recover();
        }
        // pio.c:sc_restart: the error is reported a little before the context is halted.
        let halted = |value| csr::SEND_CTXT_STATUS::CTXT_HALTED.is_set(value);
        self.inner.regs.wait(&csr::SEND_CTXT_STATUS, self.index(), limit::CONTEXT_HALT, "CTXT_HALTED", halted)?;
        self.reset()
    }

    /// Puts it in order after a freeze, when [`SendContext::is_stale`]; otherwise does nothing
    /// (`pio.c:pio_freeze, pio_kernel_unfreeze`, `file_ops.c:ctxt_reset`). Packets whose credits hadn't come back are lost,
    /// and credits count from 0 again.
    ///
    /// # Errors
    /// While the chip is frozen or its link is down, and when the chip doesn't enable it.
    pub fn recover(&mut self) -> Result<(), ContextError> {
        if !self.is_stale() {
            return Ok(());
        }
        let epoch = self.inner.sending_epoch()?;
        self.reset().map_err(|error| self.inner.unless_frozen_since(epoch, error))?;
        self.epoch = epoch;
        Ok(())
    }

    /// Disables and enables it, whatever state it is in: for a context that lost its credits or whose packets don't leave.
    /// What is in it and doesn't leave in time is lost, and credits count from 0 again.
    ///
    /// # Errors
    /// When the chip doesn't enable it.
    pub fn reset(&mut self) -> Result<(), ContextError> {
        self.disable()?;
        self.enable()?;
        self.forget_refusals();
        Ok(())
    }
}

impl<B: PciFunction> Drop for SendContext<B> {
    /// `pio.c:sc_free`.
    fn drop(&mut self) {
        if !self.inner.regs.is_ours() {
            return;
        }
        if let Some(vector) = self.vector.take() {
            self.disarm_credit_interrupt();
            self.inner.unroute(self.source());
            lock(&self.inner.pool).give_back_vector(vector);
        }
        let (regs, n) = (&self.inner.regs, self.index());
        let left = self.disable();
        for csr in [
            &csr::SEND_CTXT_CTRL,
            &csr::SEND_CTXT_CHECK_ENABLE,
            &csr::SEND_CTXT_ERR_MASK,
            &csr::SEND_CTXT_CHECK_PARTITION_KEY,
            &csr::SEND_CTXT_CHECK_OPCODE,
            &csr::SEND_CTXT_CHECK_JOB_KEY,
            &csr::SEND_CTXT_CHECK_VL,
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
    use crate::{Hfi, LinkMode, Options};
    use opx_emu::{Config, Icode, Lab, Pacing};

    /// Credits come back to where the context was told, and from 0 again after it was put in order.
    fn is_good<B: PciFunction>(context: &SendContext<B>) {
        assert!(!context.is_halted() && !context.is_stale());
        assert_eq!(context.credit_return().counter(), Blocks(0));
        let pbc =
            opx_defs::wire::pbc::Pbc::new(opx_defs::units::Dwords(16), opx_defs::units::Vl(3), opx_defs::units::Sc(0));
        // A packet on a lane that the port lacks is drained; its block counts as free all the same.
        context.bus().write_block(context.block_offset(0, true), &[pbc.credit_return().0, 0, 0, 0, 0, 0, 0, 0]);
        context.bus().pause(Duration::from_millis(1));
        assert_eq!(context.credit_return().counter(), Blocks(1));
    }

    #[test]
    fn a_context_from_before_a_freeze_is_halted_until_it_recovers() {
        let lab = Lab::new(Pacing::Virtual);
        let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
        let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        let mut context = hfi.send_context(Blocks(8)).unwrap();
        is_good(&context);
        for how in [SendContext::recover, SendContext::restart] {
            hfi.inner.frozen.begin();
            assert!(context.is_stale() && context.is_halted());
            assert!(matches!(how(&mut context), Err(ContextError::Frozen { .. })));
            assert!(matches!(hfi.send_context(Blocks(8)), Err(ContextError::Frozen { .. })));
            hfi.inner.frozen.end();
            assert!(context.is_stale() && context.is_halted(), "the end of the freeze alone doesn't help");
            how(&mut context).unwrap();
            is_good(&context);
        }
        // Where there is nothing to recover from, nothing is done.
        context.recover().unwrap();
        assert_eq!(context.credit_return().counter(), Blocks(1));
        // A freeze isn't in the way of its end.
        hfi.inner.frozen.begin();
        drop(context);
        hfi.inner.frozen.end();
        assert_eq!(hfi.pio_room().contexts, 160);
    }

    /// A collect that came too late for the owner before must not blame the next one, nor one that is restarted.
    #[test]
    fn refusals_of_the_past_are_forgotten() {
        let lab = Lab::new(Pacing::Virtual);
        let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
        let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
        let number = hfi.send_context(Blocks(8)).unwrap().number();
        hfi.inner.refusals.keep(number, 1);
        let mut context = hfi.send_context(Blocks(8)).unwrap();
        assert_eq!(context.number(), number);
        assert!(context.refusals().unwrap().is_empty());
        hfi.inner.refusals.keep(number, 1);
        assert!(!context.refusals().unwrap().is_empty());
        context.reset().unwrap();
        assert!(context.refusals().unwrap().is_empty());
    }

    #[test]
    fn windows_are_where_the_chip_has_them() {
        assert_eq!((PIO_BASE, SOP_DISTANCE), (0x200_0000, 0x100_0000));
    }
}
