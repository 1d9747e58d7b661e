//! Interrupts: which source raises which vector, and what the general one reports.

use crate::error::{Gone, LinkError, OpenError};
use crate::error_registers::{self, BitCounts, ErrorRegister, REGISTERS};
use crate::freeze::Cause;
use crate::hfi::{Inner, lock};
use crate::info::Sizes;
use crate::link::LinkState;
use crate::regs::Regs;
use opx_bus::{ALL_ONES, Irq, PciFunction};
use opx_defs::csr::{self, Csr, Field};
use opx_defs::source::Source;
use opx_defs::units::{SdmaEngine, SendCtxt};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

/// After so many rounds the bits of an error register that don't clear are masked off (`chip.c:MAX_CLEAR_COUNT`).
const MAX_CLEAR_COUNT: u32 = 20;
/// Sources that the general interrupt handles (`init.c:enable_general_intr`).
const GENERAL: [RangeInclusive<u16>; 6] = [0..=2, 4..=7, 16..=191, 240..=241, 244..=244, 248..=255];
const WORDS: usize = csr::CCE_INT_MASK.count as usize;

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ pub $name:ident: AtomicU64,)*) => {
        /// How often what was reported. The counters only grow.
        #[derive(Debug, Default)]
        pub struct Counts {
            $($(#[doc = $doc])+ pub $name: AtomicU64,)*
            pub(crate) bits: BitCounts,
        }

        impl Counts {
            fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*].into_iter()
            }
        }
    };
}

counts! {
    /// General interrupts that had something to report.
    pub interrupts: AtomicU64,
    /// Freezes of the chip, after errors and links that went down.
    pub freezes: AtomicU64,
    /// Waits for a freeze or its end that were given up.
    pub freeze_timeouts: AtomicU64,
    /// Errors of the CCE block.
    pub cce_errors: AtomicU64,
    /// Errors of the receive engine.
    pub receive_errors: AtomicU64,
    /// Errors of the MISC block.
    pub misc_errors: AtomicU64,
    /// Errors of the PIO path.
    pub pio_errors: AtomicU64,
    /// Errors of the SDMA path.
    pub sdma_errors: AtomicU64,
    /// Errors on egress, such as a packet that a check refused.
    pub egress_errors: AtomicU64,
    /// Errors of the transmit engine's registers.
    pub transmit_errors: AtomicU64,
    /// Errors of an SDMA engine.
    pub engine_errors: AtomicU64,
    /// Send contexts that halted.
    pub context_halts: AtomicU64,
    /// Flags of the DC.
    pub dcc_flags: AtomicU64,
    /// Flags of the LCB.
    pub lcb_flags: AtomicU64,
    /// Events of the 8051.
    pub dc8051_events: AtomicU64,
    /// Links that came up to ACTIVE.
    pub link_ups: AtomicU64,
    /// Links that went down.
    pub link_downs: AtomicU64,
    /// How often the 8051's heartbeat was lost.
    pub lost_heartbeats: AtomicU64,
    /// Critical temperatures.
    pub overheated: AtomicU64,
    /// Sources that shouldn't have been raised.
    pub unexpected: AtomicU64,
}

impl Counts {
    /// How often a bit of an error register was seen, such as `csr::CCE_ERR_STATUS::LA_TRIGGERED` of
    /// `csr::CCE_ERR_STATUS`; 0 for another register.
    pub fn error(&self, status: &Csr, bit: Field) -> u64 {
        self.bits.of(status, bit)
    }

    /// Everything that was counted, by name: the fields of this struct, then each bit of an error register that was seen,
    /// such as `CCE_ERR_STATUS.LA_TRIGGERED`.
    pub fn all(&self) -> impl Iterator<Item = (String, u64)> {
        self.named().map(|(name, count)| (name.to_owned(), count)).chain(self.bits.seen())
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What [`crate::Hfi::service_interrupts`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serviced {
    /// Whether anything was reported.
    pub any: bool,
    /// Whether the chip froze, and was unfrozen, for an error: contexts and engines have to recover. A link that goes
    /// down does the same to them.
    pub frozen: bool,
    /// What the link does now.
    pub link: LinkState,
}

/// What was written to CCE_INT_MASK. A mask may be all ones, so it is never read back.
#[derive(Debug, Default)]
pub(crate) struct InterruptMask {
    words: [u64; WORDS],
    /// Sources that the general interrupt handles.
    general: [u64; WORDS],
}

/// Enables the vectors, all sources masked, cleared and mapped to vector 0: `chip.c:set_up_interrupts,
/// reset_interrupts, clear_all_interrupts`.
pub(crate) fn set_up<B: PciFunction>(regs: &Regs<B>, sizes: Sizes, vectors: u16) -> Result<Vec<Irq>, OpenError> {
    for index in 0..csr::CCE_INT_MASK.count {
        regs.write_at(&csr::CCE_INT_MASK, index, 0);
        regs.write_at(&csr::CCE_INT_CLEAR, index, ALL_ONES);
    }
    for register in &REGISTERS {
        regs.write(register.clear, ALL_ONES);
    }
    for ctxt in 0..sizes.send_contexts {
        regs.write_at(&csr::SEND_CTXT_ERR_CLEAR, ctxt, ALL_ONES);
    }
    for engine in 0..sizes.sdma_engines {
        regs.write_at(&csr::SEND_DMA_ENG_ERR_CLEAR, engine, ALL_ONES);
    }
    for index in 0..csr::CCE_INT_MAP.count {
        regs.write_at(&csr::CCE_INT_MAP, index, 0);
    }
    regs.read(&csr::CCE_REVISION)?;
    let irqs = regs.bus().irq_enable(vectors)?;
    if irqs.len() < usize::from(vectors) {
        let source = std::io::Error::other(format!("the bus gave {} of them", irqs.len()));
        return Err(opx_bus::BusError::Irq { name: regs.adapter(), count: vectors, source }.into());
    }
    Ok(irqs)
}

impl<B: PciFunction> Inner<B> {
    /// `init.c:enable_general_intr`; credit interrupts stay off, nothing here waits for them.
    pub(crate) fn enable_general_interrupts(&self) {
        let mut mask = lock(&self.mask);
        for source in GENERAL.into_iter().flatten().map(Source) {
            let word = source.word() as usize;
            mask.words[word] |= source.bit();
            mask.general[word] |= source.bit();
        }
        for (index, word) in (0..).zip(mask.words) {
            self.regs.write_at(&csr::CCE_INT_MASK, index, word);
        }
    }

    /// Lets `source` raise `vector` (`chip.c:remap_intr, set_intr_bits`).
    pub(crate) fn route(&self, source: Source, vector: u16) -> Result<(), Gone> {
        let mut mask = lock(&self.mask);
        let (register, shift) = (u32::from(source.0 / 8), 8 * (source.0 % 8));
        let map = self.regs.read_any(&csr::CCE_INT_MAP, register)?;
        self.regs.write_at(&csr::CCE_INT_MAP, register, map & !(0xff << shift) | u64::from(vector & 0xff) << shift);
        self.clear_source(source);
        mask.general[source.word() as usize] &= !source.bit();
        let word = &mut mask.words[source.word() as usize];
        *word |= source.bit();
        self.regs.write_at(&csr::CCE_INT_MASK, source.word(), *word);
        Ok(())
    }

    /// Masks `source` and gives it back to vector 0, which handles it from then on if it is one of the general ones.
    pub(crate) fn unroute(&self, source: Source) {
        let mut mask = lock(&self.mask);
        let word = &mut mask.words[source.word() as usize];
        *word &= !source.bit();
        self.regs.write_at(&csr::CCE_INT_MASK, source.word(), *word);
        self.clear_source(source);
        let (register, shift) = (u32::from(source.0 / 8), 8 * (source.0 % 8));
        if let Ok(map) = self.regs.read_any(&csr::CCE_INT_MAP, register) {
            self.regs.write_at(&csr::CCE_INT_MAP, register, map & !(0xff << shift));
        }
        if GENERAL.iter().any(|range| range.contains(&source.0)) {
            mask.general[source.word() as usize] |= source.bit();
            let word = &mut mask.words[source.word() as usize];
            *word |= source.bit();
            self.regs.write_at(&csr::CCE_INT_MASK, source.word(), *word);
        }
    }

    /// Clears a source's status; its vector can then be raised again.
    pub(crate) fn clear_source(&self, source: Source) {
        self.regs.write_at(&csr::CCE_INT_CLEAR, source.word(), source.bit());
    }

    /// The same; the clear has arrived when this returns (`chip.c:clear_recv_intr`): what comes after a look at memory that
    /// follows raises the interrupt again.
    pub(crate) fn clear_source_now(&self, source: Source) -> Result<(), Gone> {
        self.clear_source(source);
        self.regs.read_any(&csr::CCE_INT_CLEAR, source.word())?;
        Ok(())
    }

    /// `chip.c:general_interrupt`.
    pub(crate) fn service_interrupts(&self) -> Result<Serviced, LinkError> {
        self.regs.check_ours()?;
        let general = lock(&self.mask).general;
        let mut raised = [0; WORDS];
        for (index, (raised, general)) in (0..).zip(raised.iter_mut().zip(general)) {
            if general == 0 {
                continue;
            }
            *raised = self.regs.read_any(&csr::CCE_INT_STATUS, index)? & general;
            if *raised != 0 {
                self.regs.write_at(&csr::CCE_INT_CLEAR, index, *raised);
            }
        }
        let any = raised.iter().any(|word| *word != 0);
        if any {
            count(&self.counts.interrupts);
        }
        let mut frozen = false;
        // What was raised is cleared by now: nobody else will see to it, even if one of them can't be handled.
        let mut failed = None;
        for (word, raised) in (0u16..).zip(raised) {
            for bit in (0..64).filter(|bit| raised & 1 << bit != 0) {
                match self.service(Source(word * 64 + bit)) {
                    Ok(froze) => frozen |= froze,
                    Err(error) if error.is_gone() => return Err(error),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
        }
        if frozen {
            self.freeze_and_unfreeze(Cause::Error)?;
        }
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(Serviced { any, frozen, link: lock(&self.shown).0 })
    }

    /// `chip.c:is_interrupt`; tells whether the chip has frozen.
    fn service(&self, source: Source) -> Result<bool, LinkError> {
        let c = &self.counts;
        let counter = match source {
            Source::CCE_ERR => &c.cce_errors,
            Source::RXE_ERR => &c.receive_errors,
            Source::MISC_ERR => &c.misc_errors,
            Source::PIO_ERR => &c.pio_errors,
            Source::SDMA_ERR => &c.sdma_errors,
            Source::EGRESS_ERR => &c.egress_errors,
            Source::TXE_ERR => &c.transmit_errors,
            Source::DCC => &c.dcc_flags,
            Source::LCB => &c.lcb_flags,
            Source::DC8051 => {
                count(&c.dc8051_events);
                self.service_link()?;
                return Ok(false);
            }
            Source::TCRIT => {
                count(&c.overheated);
                self.overheated();
                return Ok(false);
            }
            Source(engine @ 16..=31) => {
                self.service_engine_error((engine - 16) as u8)?;
                return Ok(false);
            }
            Source(ctxt @ 32..=191) => {
                count(&c.context_halts);
                self.service_context_error(SendCtxt(ctxt - 32))?;
                return Ok(false);
            }
            _ => {
                count(&c.unexpected);
                return Ok(false);
            }
        };
        let Some(register) = REGISTERS.iter().find(|register| register.source == source) else { return Ok(false) };
        let seen = self.clear_down(counter, register)?;
        if source == Source::EGRESS_ERR {
            self.collect_refusals()?;
        }
        Ok(seen & register.freezing() != 0)
    }

    /// Reads and clears an error register until it is empty: `chip.c:interrupt_clear_down`. Gives the bits that were set.
    fn clear_down(&self, counter: &AtomicU64, register: &ErrorRegister) -> Result<u64, Gone> {
        let mut seen = 0;
        for round in 0.. {
            let errors = self.regs.read_any(register.status, 0)?;
            if errors == 0 {
                break;
            }
            if errors & !seen != 0 {
                let names = error_registers::names(register.status, errors);
                log::warn!("{}: {}: {names}", self.info.name, register.status.name);
            }
            seen |= errors;
            count(counter);
            self.counts.bits.add(register.status, errors);
            self.regs.write(register.clear, errors);
            if round >= MAX_CLEAR_COUNT {
                log::warn!("{}: {} {errors:#x} doesn't clear, masking it", self.info.name, register.status.name);
                let enabled = self.regs.read_any(register.mask, 0)?;
                self.regs.write(register.mask, enabled & !errors);
                break;
            }
        }
        Ok(seen)
    }

    /// A send context halted. Its status is cleared by the context's restart, not here (`chip.c:is_sendctxt_err_int`).
    fn service_context_error(&self, ctxt: SendCtxt) -> Result<(), Gone> {
        if u32::from(ctxt.0) >= self.info.sizes.send_contexts {
            return Ok(());
        }
        let status = self.regs.read_at(&csr::SEND_CTXT_ERR_STATUS, ctxt.0.into())?;
        log::debug!("{}: send context {ctxt} halted, error status {status:#x}", self.info.name);
        if csr::SEND_CTXT_ERR_STATUS::PIO_DISALLOWED_PACKET_ERR.is_set(status) {
            self.collect_refusals()?;
        }
        Ok(())
    }

    /// Takes an engine's errors from its register and keeps them for the engine's owner.
    fn service_engine_error(&self, engine: u8) -> Result<(), Gone> {
        let Some(kept) = self.sdma_errors.get(usize::from(engine)) else { return Ok(()) };
        let engine = SdmaEngine(engine);
        if u32::from(engine.0) >= self.info.sizes.sdma_engines {
            return Ok(());
        }
        let (regs, n) = (&self.regs, engine.0.into());
        let clear = |errors| regs.write_at(&csr::SEND_DMA_ENG_ERR_CLEAR, n, errors);
        if kept.take(|| regs.read_at(&csr::SEND_DMA_ENG_ERR_STATUS, n), clear)? != 0 {
            count(&self.counts.engine_errors);
        }
        Ok(())
    }
}
