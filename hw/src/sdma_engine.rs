//! SDMA engines: a descriptor ring in host memory that the chip reads, and the handshakes that start and stop it.
//!
//! Linux's driver has a state machine of interrupts and work items for each engine (`sdma.c:__sdma_process_event`). Here the
//! owner walks through the same states himself: [`SdmaEngine::halt`] leads from s99 (running) to s50 (halted) or s80
//! (frozen), [`SdmaEngine::restart`] on to s40 (clean-up) or s82 (clean by the freeze) and back to s99.

use crate::error::{ChipError, ContextError, Gone};
use crate::hfi::{Inner, lock};
use crate::kept_errors::KeptErrors;
use crate::moderation::core_clocks;
use crate::regs::limit;
use opx_bus::shared_mem::Pairs;
use opx_bus::{ALL_ONES, DmaBlock, Irq, PciFunction, SharedMem};
use opx_defs::csr;
use opx_defs::sdma::SdmaDesc;
use opx_defs::source::Source;
use opx_defs::status::SdmaErrors;
use opx_defs::units::SdmaEngine as EngineNumber;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// LEN_GEN counts the ring in these.
const LENGTH_UNIT: u32 = 64;
/// The driver's limit (`sdma.c:SDMA_DESCQ_CNT`'s comment, `sdma_get_descq_cnt`). TAIL and HEAD have 16 bits, LENGTH has 10,
/// so that the register would take 65472; nobody is known to have tried more than 32768.
const MAX_ENTRIES: u32 = 32768;
const DESC_BYTES: usize = size_of::<SdmaDesc>();
/// Written once without and once with the generation's highest bit, which turns the check on
/// (`sdma.c:sdma_setlengen`).
const GENERATION_CHECK: u64 = 4;
/// The engine counts as idle after that (`sdma.c:sdma_idle_cnt`).
const IDLE: Duration = Duration::from_nanos(250);

/// An SDMA engine. Dropping it stops it and frees its ring.
pub struct SdmaEngine<B: PciFunction> {
    inner: Arc<Inner<B>>,
    number: EngineNumber,
    entries: u32,
    vector: Option<u16>,
    /// Which freezes it has seen; see `freeze.rs`.
    epoch: u32,
    /// The ring, and behind it a line for the head.
    ring: SharedMem,
    /// Its mapping. Taken out only when the engine doesn't stop.
    memory: Option<DmaBlock>,
    /// What else is mapped for as long as the engine may read it.
    held: Vec<DmaBlock>,
}

/// Writes descriptors into an engine's ring; see [`SdmaEngine::writer`].
#[derive(Debug, Clone, Copy)]
pub struct RingWriter<'a> {
    ring: Pairs<'a>,
    mask: u32,
}

impl RingWriter<'_> {
    /// Writes a descriptor. `slot` counts on without end or modulo the ring's length.
    #[inline(always)]
    pub fn write(self, slot: u32, desc: SdmaDesc) {
        self.ring.write((slot & self.mask) as usize * DESC_BYTES, desc.qw0.get(), desc.qw1.get());
    }
}

impl<B: PciFunction> fmt::Debug for SdmaEngine<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SdmaEngine").field("number", &self.number).field("entries", &self.entries).finish()
    }
}

/// Checks that packets pass on egress: `hfi.h:hfi1_pkt_base_sdma_integrity`. 0x2ec3f7.
fn checks() -> u64 {
    use csr::SEND_DMA_CHECK_ENABLE as c;
    let enabled = [
        c::CHECK_ENABLE,
        c::CHECK_VL,
        c::CHECK_JOB_KEY,
        c::CHECK_SLID,
        c::CHECK_OPCODE,
        c::CHECK_VL_MAPPING,
        c::CHECK_BYPASS_VL_MAPPING,
        c::DISALLOW_RAW,
        c::DISALLOW_RAW_IPV6,
        c::DISALLOW_TOO_SMALL_IB_PACKETS,
        c::DISALLOW_TOO_SMALL_BYPASS_PACKETS,
        c::DISALLOW_BAD_PKT_LEN,
        c::DISALLOW_TOO_LONG_IB_PACKETS,
        c::DISALLOW_TOO_LONG_BYPASS_PACKETS,
        c::DISALLOW_BYPASS_BAD_PKT_LEN,
    ];
    enabled.iter().fold(0, |mask, field| mask | field.mask())
}

impl<B: PciFunction> SdmaEngine<B> {
    pub(crate) fn new(inner: &Arc<Inner<B>>, entries: u32) -> Result<Self, ContextError> {
        let adapter = inner.adapter();
        let epoch = inner.sending_epoch()?;
        if !entries.is_power_of_two() || !(LENGTH_UNIT..=MAX_ENTRIES).contains(&entries) {
            let (parameter, rule) = ("entries of an SDMA ring", "a power of two from 64 to 32768");
            return Err(ContextError::BadParameter { adapter, parameter, value: entries.into(), rule });
        }
        let memory = inner.regs.bus().dma_alloc(entries as usize * DESC_BYTES + 64)?;
        let number = EngineNumber(lock(&inner.pool).take_sdma()?);
        // From here on, dropping it gives everything back.
        let inner = Arc::clone(inner);
        let engine = Self {
            inner,
            number,
            entries,
            vector: None,
            epoch,
            ring: memory.memory().clone(),
            memory: Some(memory),
            held: Vec::new(),
        };
        engine.set_up();
        engine.start().map_err(|error| engine.inner.unless_frozen_since(epoch, error))?;
        Ok(engine)
    }

    fn index(&self) -> u32 {
        self.number.0.into()
    }

    fn head_offset(&self) -> usize {
        self.entries as usize * DESC_BYTES
    }

    /// `sdma.c:init_sdma_regs`.
    fn set_up(&self) {
        use csr::SEND_DMA_MEMORY as memory;
        let (regs, n, sizes) = (&self.inner.regs, self.index(), self.inner.info.sizes);
        if let Some(block) = &self.memory {
            regs.write_at(&csr::SEND_DMA_BASE_ADDR, n, block.iova(0).0);
            regs.write_at(&csr::SEND_DMA_HEAD_ADDR, n, block.iova(self.head_offset()).0);
        }
        self.set_length();
        regs.write_at(&csr::SEND_DMA_TAIL, n, 0);
        regs.write_at(&csr::SEND_DMA_RELOAD_CNT, n, core_clocks(IDLE));
        regs.write_at(&csr::SEND_DMA_DESC_CNT, n, 0);
        // All engines share the chip's SDMA memory equally.
        let blocks = u64::from(sizes.sdma_blocks / sizes.sdma_engines);
        let index = memory::SDMA_MEMORY_INDEX.put(blocks * u64::from(n));
        regs.write_at(&csr::SEND_DMA_MEMORY, n, index | memory::SDMA_MEMORY_CNT.put(blocks));
        regs.write_at(&csr::SEND_DMA_ENG_ERR_MASK, n, ALL_ONES);
        regs.write_at(&csr::SEND_DMA_CHECK_ENABLE, n, checks());
        regs.write_at(&csr::SEND_DMA_CHECK_OPCODE, n, 0);
        // Mask and value 0: any job key passes, the ring is the owner's own (sdma.c leaves it at its reset value).
        regs.write_at(&csr::SEND_DMA_CHECK_JOB_KEY, n, 0);
    }

    /// `sdma.c:sdma_setlengen`.
    fn set_length(&self) {
        use csr::SEND_DMA_LEN_GEN as len_gen;
        let length = len_gen::LENGTH.put((self.entries / LENGTH_UNIT).into());
        self.inner.regs.write_at(&csr::SEND_DMA_LEN_GEN, self.index(), length);
        let checked = length | len_gen::GENERATION.put(GENERATION_CHECK);
        self.inner.regs.write_at(&csr::SEND_DMA_LEN_GEN, self.index(), checked);
    }

    /// There is one for each engine.
    fn errors(&self) -> Option<&KeptErrors> {
        self.inner.sdma_errors.get(usize::from(self.number.0))
    }

    fn forget_errors(&self, clear: impl FnOnce()) {
        if let Some(errors) = self.errors().filter(|_| self.inner.regs.is_ours()) {
            errors.forget(clear);
        }
    }

    /// From down to running: `sdma.c` states s10 (halt), s15 (clean up), s99 (running).
    fn start(&self) -> Result<(), ContextError> {
        let (regs, n) = (&self.inner.regs, self.index());
        self.forget_errors(|| ());
        regs.write_at(&csr::SEND_DMA_CTRL, n, csr::SEND_DMA_CTRL::SDMA_HALT.mask());
        // The engine reports its halt as an error, which the general interrupt may have taken already.
        let halt = csr::SEND_DMA_ENG_ERR_STATUS::SDMA_HALT_ERR;
        let reported = |value| halt.is_set(value | self.errors().map_or(0, KeptErrors::kept));
        regs.wait(&csr::SEND_DMA_ENG_ERR_STATUS, n, limit::SDMA_HALT, "SDMA_HALT_ERR", reported)?;
        self.clean_up_and_run()
    }

    fn wait_halted(&self) -> Result<(), ChipError> {
        let halted = |value| csr::SEND_DMA_STATUS::ENG_HALTED.is_set(value);
        self.inner.regs.wait(&csr::SEND_DMA_STATUS, self.index(), limit::SDMA_HALT, "ENG_HALTED", halted)?;
        Ok(())
    }

    /// The same, unless a freeze passes over the engine meanwhile: its end leaves it neither at work nor halted.
    fn wait_standing(&self) -> Result<(), ChipError> {
        let frozen = &self.inner.frozen;
        let passed = || frozen.epoch() != self.epoch && !frozen.get();
        let stands = |value| csr::SEND_DMA_STATUS::ENG_HALTED.is_set(value) || passed();
        self.inner.regs.wait(&csr::SEND_DMA_STATUS, self.index(), limit::SDMA_HALT, "ENG_HALTED", stands)?;
        Ok(())
    }

    fn wait_cleaned_up(&self) -> Result<(), ChipError> {
        let clean = |value| csr::SEND_DMA_STATUS::ENG_CLEANED_UP.is_set(value);
        let wanted = "ENG_CLEANED_UP";
        self.inner.regs.wait(&csr::SEND_DMA_STATUS, self.index(), limit::UNBOUNDED_IN_LINUX, wanted, clean)?;
        Ok(())
    }

    /// `sdma.c:sdma_err_halt_wait, sdma_hw_clean_up_task`, then [`SdmaEngine::run`].
    fn clean_up_and_run(&self) -> Result<(), ContextError> {
        use csr::SEND_DMA_CTRL as ctrl;
        let (regs, n) = (&self.inner.regs, self.index());
        self.wait_halted()?;
        let errors = regs.read_at(&csr::SEND_DMA_ENG_ERR_STATUS, n)?;
        if errors != 0 {
            regs.write_at(&csr::SEND_DMA_ENG_ERR_CLEAR, n, errors);
        }
        regs.write_at(&csr::SEND_DMA_CTRL, n, ctrl::SDMA_CLEANUP.mask() | ctrl::SDMA_INT_ENABLE.mask());
        self.wait_cleaned_up()?;
        self.run()
    }

    /// `sdma.c:sdma_hw_start_up`, and on to s99 (running).
    fn run(&self) -> Result<(), ContextError> {
        use csr::SEND_DMA_CTRL as ctrl;
        let (regs, n) = (&self.inner.regs, self.index());
        self.set_length();
        regs.write_at(&csr::SEND_DMA_TAIL, n, 0);
        self.ring.write_u64(self.head_offset(), 0);
        let fifo = csr::SEND_DMA_ENG_ERR_CLEAR::SDMA_HEADER_REQUEST_FIFO_UNC_ERR;
        self.forget_errors(|| regs.write_at(&csr::SEND_DMA_ENG_ERR_CLEAR, n, fifo.mask()));
        regs.write_at(&csr::SEND_DMA_CTRL, n, ctrl::SDMA_ENABLE.mask() | ctrl::SDMA_INT_ENABLE.mask());
        // The read makes sure that the engine runs before the first doorbell.
        regs.read_at(&csr::SEND_DMA_CTRL, n)?;
        Ok(())
    }

    /// Takes over memory that descriptors will point to. It is unmapped after the engine has stopped: when the engine is
    /// dropped, or, when it doesn't stop, with the adapter.
    pub fn hold(&mut self, memory: DmaBlock) {
        self.held.push(memory);
    }

    /// Number of the engine.
    pub fn number(&self) -> EngineNumber {
        self.number
    }

    /// Descriptors in its ring, a power of two.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// The function it is on.
    pub fn bus(&self) -> &B {
        self.inner.regs.bus()
    }

    /// Writes a descriptor. `slot` counts on without end or modulo the ring's length.
    #[inline]
    pub fn write_descriptor(&self, slot: u32, desc: SdmaDesc) {
        self.writer().write(slot, desc);
    }

    /// What writes descriptors into the ring.
    #[inline]
    pub fn writer(&self) -> RingWriter<'_> {
        RingWriter { ring: self.ring.pairs(), mask: self.entries.wrapping_sub(1) }
    }

    /// Tells the engine that descriptors up to, but not with, slot `tail` are written.
    #[inline]
    pub fn ring_doorbell(&self, tail: u32) {
        let tail = tail & (self.entries - 1);
        self.inner.regs.write_at(&csr::SEND_DMA_TAIL, self.index(), tail.into());
    }

    /// The slot that the engine does next, as it last wrote it to memory after a descriptor that asked for that. A broken
    /// engine may have written one that isn't in the ring.
    #[inline]
    pub fn head_from_memory(&self) -> u32 {
        self.ring.read_u64(self.head_offset()) as u32 & 0xffff
    }

    /// The slot that the engine does next, from its register; `None` when the adapter is gone or a freeze has stopped the
    /// engine.
    pub fn head_from_register(&self) -> Option<u32> {
        let head = self.inner.regs.read_at(&csr::SEND_DMA_HEAD, self.index()).ok()?;
        (!self.is_stale()).then_some(head as u32 & 0xffff)
    }

    /// Errors that halted the engine (bits of SEND_DMA_ENG_ERR_STATUS); all ones when the adapter is gone or a freeze has
    /// stopped the engine.
    pub fn error_status(&self) -> u64 {
        if self.is_stale() || !self.inner.regs.is_ours() {
            return ALL_ONES;
        }
        let register = || self.inner.regs.read_at(&csr::SEND_DMA_ENG_ERR_STATUS, self.index());
        match self.errors() {
            Some(errors) => errors.all(register),
            None => register(),
        }
        .unwrap_or(ALL_ONES)
    }

    /// Whether a freeze (an error of the chip as a whole, or a link that went down) has stopped the engine since it was
    /// started. Reads no register.
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.inner.frozen.is_stale(self.epoch)
    }

    /// Packets of the engine that wait for the wire.
    ///
    /// # Errors
    /// When the adapter is gone.
    pub fn egress_occupancy(&self) -> Result<u32, Gone> {
        let status = self.inner.regs.read_at(&csr::SEND_EGRESS_SEND_DMA_STATUS, self.index())?;
        Ok(csr::SEND_EGRESS_SEND_DMA_STATUS::SDMA_EGRESS_PACKET_OCCUPANCY.get(status) as u32)
    }

    /// Stops the engine: it reads no memory afterwards, and writes none but its head. Gives the slot that it would have done
    /// next: the descriptors before that are done, those from there on aren't, though some of their packets may have left.
    /// `None` when that isn't known: a freeze stopped it and isn't over.
    ///
    /// # Errors
    /// When the engine doesn't halt, or the adapter is gone.
    pub fn halt(&mut self) -> Result<Option<u32>, ContextError> {
        let (regs, n) = (&self.inner.regs, self.index());
        // s80 after a freeze. Otherwise an engine that an error has halted stays so; one that runs is told to.
        let ctrl = if self.is_stale() { 0 } else { csr::SEND_DMA_CTRL::SDMA_HALT.mask() };
        regs.write_at(&csr::SEND_DMA_CTRL, n, ctrl);
        // While the chip comes to rest the engine may still be at work.
        self.wait_standing()?;
        // The read also makes sure that a head on its way to memory has arrived.
        let head = regs.read_at(&csr::SEND_DMA_HEAD, n)?;
        let frozen = &self.inner.frozen;
        Ok(if self.is_stale() { frozen.head_since(self.epoch, self.number) } else { Some(head as u32 & 0xffff) })
    }

    /// Stops the engine, forgets what is in the ring and starts it anew, at slot 0 and generation 0.
    ///
    /// # Errors
    /// When the engine doesn't halt, doesn't clean up, or the adapter is gone; while the chip is frozen or its link is down.
    /// The engine then stays stopped: try again.
    pub fn restart(&mut self) -> Result<(), ContextError> {
        self.halt()?;
        self.resume()
    }

    /// Starts an engine that [`SdmaEngine::halt`] has stopped, at slot 0 and generation 0.
    ///
    /// # Errors
    /// As [`SdmaEngine::restart`].
    pub fn resume(&mut self) -> Result<(), ContextError> {
        let epoch = self.inner.sending_epoch()?;
        let cleaned_by_freeze = epoch != self.epoch;
        self.epoch = epoch;
        // `sdma.c`, s82: a freeze is halt and clean-up in one.
        let started = if cleaned_by_freeze { self.run() } else { self.clean_up_and_run() };
        started.map_err(|error| self.inner.unless_frozen_since(epoch, error))
    }

    /// What raises the engine's vector: a descriptor that asks for it, a number of descriptors done, an idle engine, and,
    /// unlike in Linux, an error as well: who sleeps until a packet is done wants to know that it won't be.
    fn sources(&self) -> [Source; 4] {
        let n = self.number;
        [Source::sdma_int(n), Source::sdma_progress(n), Source::sdma_idle(n), Source::sdma_error(n)]
    }

    /// Gives the engine an interrupt of its own, raised by descriptors that ask for one, after a number of descriptors
    /// ([`SdmaEngine::set_progress`]), when the engine goes idle, and when it halts on an error (`msix.c`,
    /// `chip.c:remap_sdma_interrupts`).
    ///
    /// # Errors
    /// When no vector is free or the adapter is gone.
    pub fn enable_interrupts(&mut self) -> Result<&Irq, ContextError> {
        self.inner.regs.check_ours()?;
        let vector = match self.vector {
            Some(vector) => vector,
            None => {
                let vector = lock(&self.inner.pool).take_vector()?;
                self.vector = Some(vector);
                for source in self.sources() {
                    self.inner.route(source, vector)?;
                }
                vector
            }
        };
        let (adapter, count) = (self.inner.adapter(), self.inner.irqs.len() as u32);
        let missing = ContextError::Exhausted { adapter, what: "interrupt vector", count };
        self.inner.irqs.get(usize::from(vector)).ok_or(missing)
    }

    /// The interrupt, when there is one.
    pub fn irq(&self) -> Option<&Irq> {
        self.vector.and_then(|vector| self.inner.irqs.get(usize::from(vector)))
    }

    /// Asks for an interrupt after so many more descriptors; 0 for none. It is raised once (`sdma.c:sdma_set_desc_cnt`).
    pub fn set_progress(&self, descriptors: u16) {
        let count = csr::SEND_DMA_DESC_CNT::CNT.put(descriptors.into());
        self.inner.regs.write_at(&csr::SEND_DMA_DESC_CNT, self.index(), count);
    }

    /// Changes how long the engine must have had nothing to do before it raises the idle interrupt, 250 ns at first and 81 us
    /// at most (how many bits the register has isn't known; 16 are taken to be there).
    pub fn set_idle_time(&mut self, time: Duration) {
        let clocks = core_clocks(time).clamp(1, 0xffff);
        self.inner.regs.write_at(&csr::SEND_DMA_RELOAD_CNT, self.index(), clocks);
    }

    /// Lets the interrupt be raised anew. Look at the head's register after that, then sleep: what completes in between
    /// raises it again. (The head in memory may be late: `sdma.c:sdma_make_progress`.)
    ///
    /// # Errors
    /// When the adapter is gone.
    pub fn arm(&mut self) -> Result<(), Gone> {
        let [int, progress, idle, error] = self.sources();
        let regs = &self.inner.regs;
        // The first three are in one register; the read makes sure that the clears arrived.
        let errors = regs.read_at(&csr::SEND_DMA_ENG_ERR_STATUS, self.index())?;
        let mended = errors & !SdmaErrors::HALTING.bits();
        if mended != 0 {
            // Nothing came of them, but they would raise the interrupt for ever.
            log::warn!("{}: SDMA engine {} mended flipped bits: {mended:#x}", self.inner.adapter(), self.number);
            regs.write_at(&csr::SEND_DMA_ENG_ERR_CLEAR, self.index(), mended);
        }
        regs.write_at(&csr::CCE_INT_CLEAR, error.word(), error.bit());
        regs.write_at(&csr::CCE_INT_CLEAR, int.word(), int.bit() | progress.bit() | idle.bit());
        regs.read_any(&csr::CCE_INT_CLEAR, int.word())?;
        Ok(())
    }

    /// Stops the engine for good; an error means that it may still read the ring or write the head.
    fn stop(&self) -> Result<(), ChipError> {
        use csr::SEND_DMA_CTRL as ctrl;
        let (regs, n) = (&self.inner.regs, self.index());
        regs.write_at(&csr::SEND_DMA_CTRL, n, ctrl::SDMA_HALT.mask());
        self.wait_halted()?;
        regs.write_at(&csr::SEND_DMA_CTRL, n, ctrl::SDMA_CLEANUP.mask());
        self.wait_cleaned_up()?;
        regs.write_at(&csr::SEND_DMA_CTRL, n, 0);
        let errors = regs.read_at(&csr::SEND_DMA_ENG_ERR_STATUS, n)?;
        regs.write_at(&csr::SEND_DMA_ENG_ERR_CLEAR, n, errors);
        for csr in [&csr::SEND_DMA_BASE_ADDR, &csr::SEND_DMA_HEAD_ADDR, &csr::SEND_DMA_CHECK_ENABLE] {
            regs.write_at(csr, n, 0);
        }
        regs.read_at(&csr::SEND_DMA_CTRL, n)?;
        Ok(())
    }
}

impl<B: PciFunction> Drop for SdmaEngine<B> {
    fn drop(&mut self) {
        if !self.inner.regs.is_ours() {
            return;
        }
        let stopped = self.stop();
        if let Some(vector) = self.vector {
            for source in self.sources() {
                self.inner.unroute(source);
            }
            lock(&self.inner.pool).give_back_vector(vector);
        }
        let mut pool = lock(&self.inner.pool);
        match stopped {
            Err(ChipError::Stuck(stuck)) => {
                log::warn!("{stuck}; SDMA engine {} isn't used again", self.number);
                pool.retire();
                for memory in self.memory.take().into_iter().chain(self.held.drain(..)) {
                    pool.keep(memory);
                }
            }
            // A function that is gone does no DMA.
            Ok(()) | Err(ChipError::Gone(_)) => pool.give_back_sdma(self.number.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checks_are_those_of_the_driver() {
        assert_eq!(checks(), 0x2e_c3f7);
    }
}
