//! The sender: writes packets block by block into a send context's buffer.

use crate::credits::Credits;
use crate::error::PioError;
use crate::head::Head;
use opx_bus::{BlockSource, BusError, PciFunction, SharedMem};
use opx_defs::status::SendCtxtErrors;
use opx_defs::time::Instant;
use opx_defs::units::{BarOff, Blocks, Dwords};
use opx_defs::wire::pbc::Pbc;
use opx_hw::{ContextError, Gone, SendContext};
use std::time::Duration;

/// Bytes of a PIO block.
pub const BLOCK: usize = 64;
/// Dwords of PBC and header: the first block.
const HEAD_DWORDS: u32 = 16;
/// Credits that don't come back for so long, while some are needed, are looked for. Linux gives up on a context after
/// 50 ms (`pio.c:sc_wait_for_packet_egress`); a look through a socket takes longer than one at a register.
const STUCK: Duration = Duration::from_millis(500);
/// A forced return that brought nothing is repeated after so long.
const ASK_AGAIN: Duration = Duration::from_micros(100);
/// A sleeper looks around this often, for a chip that froze or is gone raises no interrupt.
const LOOK: Duration = Duration::from_millis(100);

/// What a sender has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PioCounters {
    /// Packets written.
    pub packets: u64,
    /// Blocks written.
    pub blocks: u64,
    /// Times that a packet didn't fit.
    pub no_credit: u64,
    /// Credit returns that were forced.
    pub forced_returns: u64,
    /// Credit words that can't be right, and were ignored.
    pub bad_credit_words: u64,
    /// Times that credits were taken from the register because the word in memory didn't tell of them.
    pub register_returns: u64,
    /// Times that it slept for credits.
    pub sleeps: u64,
    /// Restarts after a halt, a freeze or lost credits.
    pub restarts: u64,
}

/// Sends packets through one send context.
///
/// ```
/// # use opx_emu::{Config, Icode, Lab, Pacing};
/// # use opx_hw::{Hfi, LinkMode, Options};
/// # use opx_defs::units::*;
/// # use opx_defs::wire::opx::Inject;
/// # use opx_pio::{Head, PioSender};
/// # let lab = Lab::new(Pacing::Virtual);
/// # let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
/// let hfi = Hfi::open(adapter.bus(), Options::default())?;
/// hfi.link_up(LinkMode::Loopback)?;
/// let mut sender = PioSender::new(hfi.send_context(Blocks(64))?);
/// let header = Inject { tag: Some(1), cq_data: None, data: b"hi" }.encode(&hfi.route(1, hfi.lid(), 1))?;
/// sender.send(&Head::new(header.pbc(Vl(0)), &header), &[])?;
/// assert_eq!(sender.outstanding(), Blocks(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PioSender<B: PciFunction> {
    ctxt: SendContext<B>,
    credits: Credits,
    /// The context's buffer in BAR 0, in the view that starts packets, as all places here: its first byte and the one behind
    /// its last.
    buffer: (BarOff, BarOff),
    /// How far before it the plain view is.
    sop_distance: u32,
    /// Where the next packet goes.
    next: BarOff,
    /// Up to here packets can be stored without a look at anything: credit reaches there, and so does the buffer.
    limit: BarOff,
    /// Credit was taken for blocks up to here. Those from here to `next` have been stored since.
    counted: BarOff,
    /// When a return was last forced, unless credits have come back since.
    forced: Option<Instant>,
    /// When credits first were missing since some came back.
    missing_since: Option<Instant>,
    /// The chip was seen to have halted the context.
    halted: bool,
    /// Blocks written before the last restart.
    written_before: u64,
    counters: PioCounters,
}

impl<B: PciFunction> PioSender<B> {
    /// A sender on an enabled, unused send context.
    pub fn new(ctxt: SendContext<B>) -> Self {
        let (sop, plain) = ctxt.windows();
        Self {
            credits: Credits::new(ctxt.depth()),
            buffer: (sop, sop.plus(u32::from(ctxt.depth().0) * BLOCK as u32)),
            sop_distance: sop.0 - plain.0,
            ctxt,
            next: sop,
            limit: sop,
            counted: sop,
            written_before: 0,
            forced: None,
            missing_since: None,
            halted: false,
            counters: PioCounters::default(),
        }
    }

    /// Blocks that are free, after a look at what the chip has returned.
    pub fn available(&mut self) -> Blocks {
        self.take_returns();
        self.credits.available()
    }

    /// Blocks written that haven't been returned yet, after a look at what the chip has returned.
    pub fn outstanding(&mut self) -> Blocks {
        self.take_returns();
        self.credits.outstanding()
    }

    /// The send context.
    pub fn context(&self) -> &SendContext<B> {
        &self.ctxt
    }

    /// The send context, to change its threshold.
    pub fn context_mut(&mut self) -> &mut SendContext<B> {
        &mut self.ctxt
    }

    /// What was done so far.
    pub fn counters(&self) -> PioCounters {
        let blocks = self.credits.taken().wrapping_add(self.uncounted().0.into());
        PioCounters { blocks: self.written_before.wrapping_add(blocks), ..self.counters }
    }

    /// Sends one packet: its first block, then the payload. Bytes beyond the payload, up to a whole block, are zeros that
    /// the chip doesn't send.
    ///
    /// # Errors
    /// See [`PioError`]; nothing has been written then.
    #[inline(always)]
    pub fn send(&mut self, head: &Head, payload: &[u8]) -> Result<(), PioError> {
        let (whole, rest) = BlockSource::of_bytes(payload);
        if rest.is_empty() && self.send_quickly(head.pbc(), payload.len(), head.blocks(), whole) {
            return Ok(());
        }
        self.send_slowly(head, payload)
    }

    /// Sends one packet without payload: its one block, which begins with `pbc`.
    ///
    /// # Errors
    /// See [`PioError`]; nothing has been written then.
    #[inline(always)]
    pub fn send_block(&mut self, pbc: Pbc, block: BlockSource<'_>) -> Result<(), PioError> {
        let (head, rest) = block.split_at(1);
        if self.send_quickly(pbc, 0, head, rest) { Ok(()) } else { self.send_stored_slowly(pbc, head, rest, 0) }
    }

    /// Sends one packet that lies in shared memory from `offset` on: PBC, header, and `payload` bytes. Whole blocks are
    /// stored: `offset` and what lies between the payload's end and the next multiple of 64 bytes must be inside. The chip
    /// doesn't send what is beyond the payload.
    ///
    /// # Errors
    /// See [`PioError`]; nothing has been written then.
    ///
    /// # Panics
    /// As the accesses of [`SharedMem`], when the packet's blocks aren't inside.
    #[inline(always)]
    pub fn send_stored(&mut self, memory: &SharedMem, offset: usize, payload: usize) -> Result<(), PioError> {
        let (head, rest) = memory.blocks(offset, 1 + payload.div_ceil(BLOCK)).split_at(1);
        let pbc = Pbc(memory.read_u64(offset));
        if self.send_quickly(pbc, payload, head, rest) {
            return Ok(());
        }
        self.send_stored_slowly(pbc, head, rest, payload)
    }

    /// Sends a packet that is as nearly all are, or says that it isn't: its length is right, the context is in order, credit
    /// is known to be there, and no block lies beyond the end of the buffer.
    #[inline(always)]
    fn send_quickly(&mut self, pbc: Pbc, payload: usize, head: BlockSource<'_>, rest: BlockSource<'_>) -> bool {
        // The PBC's length has 12 bits: what equals it is short, so that nothing behind that check wraps.
        let dwords = payload.wrapping_add(3) / 4;
        let blocks = payload.wrapping_add(BLOCK - 1) / BLOCK + 1;
        let start = self.next;
        let end = BarOff(start.0.wrapping_add(blocks.wrapping_mul(BLOCK) as u32));
        // Before the look at the epoch: what was loaded before that is loaded again afterwards.
        let bus = self.ctxt.bus();
        if pbc.length().0 as usize != dwords.wrapping_add(HEAD_DWORDS as usize)
            || end > self.limit
            || self.ctxt.is_stale()
        {
            return false;
        }
        self.next = end;
        self.counters.packets = self.counters.packets.wrapping_add(1);
        bus.write_blocks(start, head);
        if !rest.is_empty() {
            bus.write_blocks(BarOff(start.0.wrapping_sub(self.sop_distance).wrapping_add(BLOCK as u32)), rest);
        }
        true
    }

    /// Everything, for packets that aren't as nearly all are.
    #[cold]
    #[inline(never)]
    fn send_slowly(&mut self, head: &Head, payload: &[u8]) -> Result<(), PioError> {
        self.begin(head.pbc(), payload.len())?;
        self.start_packet(head.blocks());
        let (whole, rest) = BlockSource::of_bytes(payload);
        self.write(whole);
        if !rest.is_empty() {
            self.write_rest(rest);
        }
        self.extend();
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn send_stored_slowly(
        &mut self,
        pbc: Pbc,
        head: BlockSource<'_>,
        rest: BlockSource<'_>,
        payload: usize,
    ) -> Result<(), PioError> {
        self.begin(pbc, payload)?;
        self.start_packet(head);
        self.write(rest);
        self.extend();
        Ok(())
    }

    /// Checks a packet's length and takes its blocks.
    fn begin(&mut self, pbc: Pbc, payload: usize) -> Result<(), PioError> {
        let length = pbc.length();
        if length.0 as usize != payload.div_ceil(4).saturating_add(HEAD_DWORDS as usize) {
            return Err(self.wrong_length(length, payload));
        }
        let needed = length.blocks();
        self.settle();
        if self.ctxt.is_stale() || !self.credits.take(needed) {
            self.take_slowly(needed)?;
        }
        self.counters.packets = self.counters.packets.wrapping_add(1);
        Ok(())
    }

    #[cold]
    fn wrong_length(&self, pbc: Dwords, payload: usize) -> PioError {
        let packet = Dwords(u32::try_from(payload.div_ceil(4)).unwrap_or(u32::MAX).saturating_add(HEAD_DWORDS));
        PioError::Length { ctxt: self.ctxt.number(), pbc, packet }
    }

    /// Waits until `blocks` are free, at most `limit`; `true` when they are. Sleeps on the credit interrupt: the context
    /// must have been set up with interrupts. No return is missed between a look and the sleep.
    ///
    /// # Errors
    /// As [`PioSender::send`] but for `NoCredit`, or when it was set up without interrupts or the bus can't wait.
    pub fn wait_credit(&mut self, blocks: Blocks, limit: Duration) -> Result<bool, WaitError> {
        if self.has_room(blocks)? {
            return Ok(true);
        }
        self.ctxt.arm_credit_interrupt()?;
        self.counters.forced_returns += 1;
        let waited = self.sleep_until_room(blocks, limit);
        self.ctxt.disarm_credit_interrupt();
        waited
    }

    fn sleep_until_room(&mut self, blocks: Blocks, limit: Duration) -> Result<bool, WaitError> {
        let start = self.ctxt.bus().now();
        loop {
            if self.has_room(blocks)? {
                return Ok(true);
            }
            let left = limit.saturating_sub(self.ctxt.bus().now().since(start));
            if left.is_zero() {
                return Ok(false);
            }
            self.counters.sleeps += 1;
            self.ctxt.sleep(left.min(LOOK))?;
        }
    }

    fn has_room(&mut self, needed: Blocks) -> Result<bool, PioError> {
        self.check()?;
        if needed > self.ctxt.depth() {
            return Err(PioError::TooLong { ctxt: self.ctxt.number(), needed, depth: self.ctxt.depth() });
        }
        if needed <= self.credits.available() {
            return Ok(true);
        }
        self.look_for_credits()?;
        Ok(needed <= self.credits.available())
    }

    /// Takes what the chip has returned and tells whether it has halted the context or froze: an error that would otherwise
    /// show once credit runs out.
    ///
    /// # Errors
    /// [`PioError::Refused`], [`PioError::Halted`], [`PioError::Frozen`], [`PioError::Gone`].
    pub fn check(&mut self) -> Result<(), PioError> {
        let ctxt = self.ctxt.number();
        if self.ctxt.is_stale() {
            return Err(PioError::Frozen { ctxt });
        }
        if !self.take_returns() {
            return Ok(());
        }
        self.halted = true;
        let gone = |_: Gone| PioError::Gone { ctxt };
        let errors = self.ctxt.error_status();
        if errors == SendCtxtErrors::from_bits_retain(u64::MAX) {
            return Err(PioError::Gone { ctxt });
        }
        if errors.contains(SendCtxtErrors::DISALLOWED_PACKET) {
            return Err(PioError::Refused { ctxt, checks: self.ctxt.refusals().map_err(gone)? });
        }
        Err(PioError::Halted { ctxt, errors })
    }

    /// As [`PioSender::check`], and sees that what was written leaves: to be called now and then by who has credit left, for
    /// whom nothing else tells that packets are stuck or credits lost. When no credit has come back for 500 ms while calls
    /// saw some outstanding, looks where they are. Asks for credits below the threshold and reads registers, so not for
    /// every packet.
    ///
    /// # Errors
    /// As [`PioSender::check`]; [`PioError::Stalled`], [`PioError::CreditsLost`].
    pub fn check_progress(&mut self) -> Result<(), PioError> {
        self.check()?;
        if self.credits.outstanding() == Blocks(0) {
            return Ok(());
        }
        self.ask_for_credits(self.ctxt.bus().now());
        self.look_for_credits()
    }

    /// Restarts the context after a halt, after a freeze, or when its credits were lost: all its blocks are free again.
    /// Packets that were in it may be lost; which ones isn't known.
    ///
    /// # Errors
    /// When the chip doesn't do it in time; after a freeze also while the link is down.
    pub fn restart(&mut self) -> Result<(), ContextError> {
        if self.halted || self.ctxt.is_stale() {
            self.ctxt.restart()?
        } else {
            self.ctxt.reset()?
        }
        self.settle();
        self.written_before = self.written_before.wrapping_add(self.credits.taken());
        self.credits = Credits::new(self.ctxt.depth());
        self.next = self.buffer.0;
        self.extend();
        self.forced = None;
        self.missing_since = None;
        self.halted = false;
        self.counters.restarts += 1;
        Ok(())
    }

    /// Takes blocks when those that are known to be free don't do.
    fn take_slowly(&mut self, needed: Blocks) -> Result<(), PioError> {
        let (ctxt, depth) = (self.ctxt.number(), self.ctxt.depth());
        if needed > depth {
            return Err(PioError::TooLong { ctxt, needed, depth });
        }
        // The word in host memory is only looked at when it is needed: it shares a cache line with the chip's writes.
        self.check()?;
        if self.credits.take(needed) {
            return Ok(());
        }
        self.ask_for_credits(self.ctxt.bus().now());
        self.look_for_credits()?;
        if self.credits.take(needed) {
            return Ok(());
        }
        self.counters.no_credit += 1;
        Err(PioError::NoCredit { ctxt, needed, available: self.credits.available() })
    }

    /// Below the threshold the chip returns nothing by itself, so a small context could starve: asks, and asks again, for
    /// what leaves after the answer is below it, too.
    fn ask_for_credits(&mut self, now: Instant) {
        if self.forced.is_none_or(|then| now.since(then) >= ASK_AGAIN) {
            self.ctxt.force_credit_return();
            self.forced = Some(now);
            self.counters.forced_returns += 1;
        }
    }

    /// Credits are missing: when that lasts, finds out where they are.
    fn look_for_credits(&mut self) -> Result<(), PioError> {
        let ctxt = self.ctxt.number();
        let now = self.ctxt.bus().now();
        let since = *self.missing_since.get_or_insert(now);
        if now.since(since) < STUCK {
            return Ok(());
        }
        self.missing_since = None;
        let gone = |_: Gone| PioError::Gone { ctxt };
        let before = self.credits.outstanding();
        // First the packets: the last one that leaves between two looks is then among those that are freed.
        let packets = self.ctxt.packets_inside().map_err(gone)?;
        // The register also knows of blocks that the chip hasn't told of, or that it told of in vain.
        let freed = self.ctxt.freed_now().map_err(gone)?;
        if self.credits.returned(freed) && self.credits.outstanding() != before {
            self.counters.register_returns += 1;
            self.forced = None;
            return Ok(());
        }
        match packets {
            0 => Err(PioError::CreditsLost { ctxt, missing: self.credits.outstanding() }),
            packets => Err(PioError::Stalled { ctxt, packets }),
        }
    }

    /// Takes what the chip has returned; `true` when it says that the context is halted.
    fn take_returns(&mut self) -> bool {
        self.settle();
        let word = self.ctxt.credit_return();
        let before = self.credits.outstanding();
        if !self.credits.returned(word.counter()) {
            self.counters.bad_credit_words += 1;
        }
        if self.credits.outstanding() != before {
            self.forced = None;
            self.missing_since = None;
        }
        self.extend();
        word.halted()
    }

    /// Blocks that were stored since credit was last taken.
    fn uncounted(&self) -> Blocks {
        Blocks((self.next.0.wrapping_sub(self.counted.0) / BLOCK as u32) as u16)
    }

    /// Takes credit for what was stored, so that `credits` is right, and goes around the end of the buffer. Until
    /// [`PioSender::extend`] no packet is sent quickly.
    fn settle(&mut self) {
        let taken = self.credits.take(self.uncounted());
        debug_assert!(taken, "packets were stored beyond the credit");
        if self.next == self.buffer.1 {
            self.next = self.buffer.0;
        }
        (self.limit, self.counted) = (self.next, self.next);
    }

    /// Lets packets be sent quickly as far as credit and the buffer reach. What is before `next` has its credit.
    fn extend(&mut self) {
        let room = self.buffer.1.0.wrapping_sub(self.next.0);
        let credit = u32::from(self.credits.available().0) * BLOCK as u32;
        self.limit = BarOff(self.next.0.wrapping_add(credit.min(room)));
        self.counted = self.next;
    }

    /// Writes a packet's first block through the view that starts packets.
    fn start_packet(&mut self, head: BlockSource<'_>) {
        self.ctxt.bus().write_blocks(self.next, head);
        self.step(1);
    }

    /// Writes further blocks through the plain view, around the end of the buffer. No more than credit was taken for.
    fn write(&mut self, blocks: BlockSource<'_>) {
        let room = self.buffer.1.0.wrapping_sub(self.next.0) as usize;
        let (first, second) = blocks.split_at(room / BLOCK);
        self.write_run(first);
        self.write_run(second);
    }

    fn write_run(&mut self, blocks: BlockSource<'_>) {
        self.ctxt.bus().write_blocks(BarOff(self.next.0.wrapping_sub(self.sop_distance)), blocks);
        self.step(blocks.len());
    }

    /// Writes the payload's last bytes and zeros behind them.
    fn write_rest(&mut self, bytes: &[u8]) {
        let mut block = [0; 8];
        for (qword, bytes) in block.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            *qword = u64::from_le_bytes(whole).to_le();
        }
        self.write_run(BlockSource::of_block(&block));
    }

    /// `blocks` never go beyond the end of the buffer.
    fn step(&mut self, blocks: usize) {
        let next = BarOff(self.next.0.wrapping_add((blocks * BLOCK) as u32));
        self.next = if next == self.buffer.1 { self.buffer.0 } else { next };
    }
}

/// Why a wait for credits ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The context can't send.
    #[error(transparent)]
    Pio(#[from] PioError),
    /// It was set up without interrupts.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The bus can't wait.
    #[error(transparent)]
    Bus(#[from] BusError),
}
