//! SDMA engines: the ring, the state of the engine, completion and its interrupts.

use crate::board::Board;
use crate::egress::Checks;
use crate::event::Event;
use crate::inject::SdmaFault;
use crate::sdma_assembly::{Assembly, HeaderStore, Step};
use crate::triplet::Triplet;
use crate::txe::TxeEvent;
use crate::txe_pio::Outgoing;
use opx_defs::csr::{self, SEND_DMA_CTRL as CTRL, SEND_DMA_ENG_ERR_STATUS as ERR, SEND_DMA_STATUS as STATUS};
use opx_defs::sdma::SdmaDesc;
use opx_defs::source::Source;
use opx_defs::time::Instant;
use opx_defs::units::{Iova, SdmaEngine};
use std::collections::VecDeque;
use std::time::Duration;
use zerocopy::IntoBytes;

/// Descriptors that one event works on.
const BATCH: usize = 16;
/// Packets that wait in the engine's memory for the wire.
const LAUNCHES: usize = 4;
/// From the doorbell to the first descriptor: a read over PCI Express.
const FETCH_LATENCY: Duration = Duration::from_nanos(300);
/// Between two batches of descriptors.
const FETCH_GAP: Duration = Duration::from_nanos(50);
/// Clocks of 805 MHz in so many nanoseconds.
const CLOCKS: u64 = 805;
const NANOS: u64 = 1000;
/// No ring is that long.
const WILD_HEAD: u64 = 0xbeef;

/// A packet that is complete, and what its descriptors ask for.
#[derive(Debug)]
struct Launch {
    packet: Outgoing,
    done: Done,
    /// What goes wrong when it completes.
    fault: Option<SdmaFault>,
}

/// What the descriptors of a packet ask for when they are done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Ring slots that the packet took.
    pub slots: u16,
    /// The head goes to host memory.
    pub head_to_host: bool,
    /// An interrupt is asked for.
    pub interrupt: bool,
}

/// One engine.
#[derive(Debug)]
pub struct Engine {
    number: SdmaEngine,
    ctrl: u64,
    halted: bool,
    cleaned: bool,
    base: u64,
    len_gen: u64,
    /// The next descriptor's generation, checked once the top bit of LEN_GEN.GENERATION has been set.
    generation: u64,
    tail: u64,
    head: u64,
    /// The next descriptor to fetch.
    fetch: u64,
    head_addr: u64,
    priority_threshold: u64,
    reload: u64,
    desc_cnt: u64,
    fetched: u64,
    memory: u64,
    errors: Triplet,
    /// The egress checks.
    pub checks: Checks,
    assembly: Assembly,
    headers: HeaderStore,
    launches: VecDeque<Launch>,
    /// An error that halts the engine once the packets before it have left.
    failing: Option<csr::Field>,
    /// The engine was told to have stopped by itself.
    stalled: bool,
    /// What the packet that is being assembled was told to suffer.
    fault: Option<SdmaFault>,
    /// An error of the whole block that the engine met and the block hasn't taken yet.
    block_error: Option<(u64, bool)>,
    fetch_pending: bool,
    /// When the idle interrupt is due, if the engine stays idle.
    idle_at: Option<Instant>,
    idle_pending: bool,
    /// The engine is in the arbiter's list.
    pub listed: bool,
}

const fn within(csr: csr::Csr) -> u32 {
    csr.offset.0 & 0xff
}

const R_CTRL: u32 = within(csr::SEND_DMA_CTRL);
const R_STATUS: u32 = within(csr::SEND_DMA_STATUS);
const R_BASE: u32 = within(csr::SEND_DMA_BASE_ADDR);
const R_LEN_GEN: u32 = within(csr::SEND_DMA_LEN_GEN);
const R_TAIL: u32 = within(csr::SEND_DMA_TAIL);
const R_HEAD: u32 = within(csr::SEND_DMA_HEAD);
const R_HEAD_ADDR: u32 = within(csr::SEND_DMA_HEAD_ADDR);
const R_PRIORITY: u32 = within(csr::SEND_DMA_PRIORITY_THLD);
const R_IDLE: u32 = within(csr::SEND_DMA_IDLE_CNT);
const R_RELOAD: u32 = within(csr::SEND_DMA_RELOAD_CNT);
const R_DESC_CNT: u32 = within(csr::SEND_DMA_DESC_CNT);
const R_FETCHED: u32 = within(csr::SEND_DMA_DESC_FETCHED_CNT);
const R_ERR_STATUS: u32 = within(csr::SEND_DMA_ENG_ERR_STATUS);
const R_ERR_MASK: u32 = within(csr::SEND_DMA_ENG_ERR_MASK);
const R_ERR_CLEAR: u32 = within(csr::SEND_DMA_ENG_ERR_CLEAR);
const R_MEMORY: u32 = within(csr::SEND_DMA_MEMORY);

impl Engine {
    /// An engine that is off.
    pub fn new(number: SdmaEngine) -> Self {
        Self {
            number,
            ctrl: 0,
            halted: false,
            cleaned: false,
            base: 0,
            len_gen: 0,
            generation: 0,
            tail: 0,
            head: 0,
            fetch: 0,
            head_addr: 0,
            priority_threshold: 0,
            reload: 0,
            desc_cnt: 0,
            fetched: 0,
            memory: 0,
            errors: Triplet::new(Source::sdma_error(number)),
            checks: Checks::default(),
            assembly: Assembly::default(),
            headers: HeaderStore::default(),
            launches: VecDeque::new(),
            failing: None,
            stalled: false,
            fault: None,
            block_error: None,
            fetch_pending: false,
            idle_at: None,
            idle_pending: false,
            listed: false,
        }
    }

    /// Function-level reset.
    pub fn reset(&mut self, board: &mut Board) {
        self.errors.reset(board);
        *self = Self::new(self.number);
    }

    fn is_running(&self) -> bool {
        CTRL::SDMA_ENABLE.is_set(self.ctrl) && !self.halted
    }

    /// Descriptors in the ring: bits 15:6 hold the number divided by 64, so that they read as the number itself.
    fn ring(&self) -> u64 {
        self.len_gen & csr::SEND_DMA_LEN_GEN::LENGTH.mask()
    }

    /// Reads a register by its offset in the engine.
    pub fn read(&self, board: &Board, register: u32) -> Option<u64> {
        Some(match register {
            R_CTRL => self.ctrl,
            R_STATUS => STATUS::ENG_HALTED.put(self.halted.into()) | STATUS::ENG_CLEANED_UP.put(self.cleaned.into()),
            R_BASE => self.base,
            R_LEN_GEN => self.len_gen,
            R_TAIL => self.tail,
            R_HEAD => self.head,
            R_HEAD_ADDR => self.head_addr,
            R_PRIORITY => self.priority_threshold,
            R_IDLE => {
                let left = self.idle_at.map_or(0, |at| at.since(board.now).as_nanos() as u64);
                left.saturating_mul(CLOCKS) / NANOS
            }
            R_RELOAD => self.reload,
            R_DESC_CNT => self.desc_cnt,
            R_FETCHED => self.fetched,
            R_ERR_STATUS => self.errors.status(),
            R_ERR_MASK => self.errors.mask(),
            R_ERR_CLEAR => 0,
            R_MEMORY => self.memory,
            _ => return self.checks.read(register),
        })
    }

    /// Writes a register by its offset in the engine; `false` when there is none.
    pub fn write(&mut self, board: &mut Board, register: u32, value: u64) -> bool {
        match register {
            R_CTRL => self.write_ctrl(board, value),
            R_BASE => self.base = value,
            R_LEN_GEN => {
                // `sdma.c:sdma_setlengen`: the rise of the top bit loads the generation and turns its check on.
                const TOP: u64 = 4;
                let generation = csr::SEND_DMA_LEN_GEN::GENERATION;
                if generation.get(value) & TOP != 0 && generation.get(self.len_gen) & TOP == 0 {
                    self.generation = generation.get(value) & 3;
                }
                self.len_gen = value;
            }
            R_TAIL => {
                self.tail = value & 0xffff;
                if self.tail != 0 && self.tail >= self.ring() {
                    self.fail(board, ERR::SDMA_TAIL_OUT_OF_BOUNDS_ERR);
                } else {
                    self.idle_at = None;
                    self.kick(board, FETCH_LATENCY);
                }
            }
            R_HEAD_ADDR => self.head_addr = value,
            R_PRIORITY => self.priority_threshold = value,
            R_RELOAD => self.reload = value,
            R_DESC_CNT => self.desc_cnt = csr::SEND_DMA_DESC_CNT::CNT.get(value),
            R_ERR_MASK => self.errors.set_mask(board, value),
            R_ERR_CLEAR => self.errors.clear(board, value),
            R_MEMORY => self.memory = value,
            R_STATUS | R_HEAD | R_IDLE | R_FETCHED | R_ERR_STATUS => {}
            _ => return self.checks.write(register, value),
        }
        true
    }

    fn write_ctrl(&mut self, board: &mut Board, value: u64) {
        let old = self.ctrl;
        self.ctrl = value & !CTRL::SDMA_CLEANUP.mask();
        let rises = |field: csr::Field| field.is_set(value) && !field.is_set(old);
        if rises(CTRL::SDMA_HALT) {
            // `sdma.c`, state s10: the driver goes on only after the interrupt of this error, even when the engine
            // stood already.
            self.fail(board, ERR::SDMA_HALT_ERR);
        }
        if CTRL::SDMA_CLEANUP.is_set(value) {
            self.clean();
            self.cleaned = true;
        }
        if rises(CTRL::SDMA_ENABLE) && !CTRL::SDMA_HALT.is_set(value) && (!self.halted || self.cleaned) {
            (self.halted, self.cleaned) = (false, false);
            self.kick(board, FETCH_LATENCY);
        }
    }

    /// The ring starts over.
    fn clean(&mut self) {
        self.forget();
        (self.head, self.tail, self.fetch) = (0, 0, 0);
    }

    /// What it had fetched and not sent is forgotten: the head still points to it.
    fn forget(&mut self) {
        self.fetch = self.head;
        self.assembly.clear();
        self.launches.clear();
        (self.failing, self.idle_at, self.stalled, self.fault) = (None, None, false, None);
    }

    /// The engine halts on an error.
    fn fail(&mut self, board: &mut Board, error: csr::Field) {
        (self.halted, self.cleaned) = (true, false);
        self.forget();
        self.errors.raise(board, error.mask());
    }

    /// `chip.c:handle_freeze`, `sdma.c:sdma_unfreeze`: a frozen engine is halted and clean, without an error; after the
    /// unfreeze it is neither. The head stays readable until the unfreeze, and is 0 from then on. INFERRED:
    /// `sdma.c:sdma_sw_clean_up_task` takes it from the register in a freeze, and `sdma_hw_start_up` begins at 0 after it.
    pub fn on_freeze_change(&mut self, frozen: bool) {
        if frozen {
            self.forget();
        } else {
            self.clean();
        }
        (self.halted, self.cleaned) = (frozen, frozen);
    }

    /// Whether there are descriptors to fetch and room for what they make.
    fn has_work(&self) -> bool {
        let able = self.is_running() && self.failing.is_none() && !self.stalled;
        able && self.fetch != self.tail && self.launches.len() < LAUNCHES
    }

    /// Asks for descriptors to be fetched, if there are any and there is room for what they make.
    fn kick(&mut self, board: &mut Board, after: Duration) {
        if self.has_work() && !self.fetch_pending && !board.frozen {
            self.fetch_pending = true;
            board.after(after, Event::Txe(TxeEvent::Fetch(self.number)));
        }
    }

    /// Fetches a batch of descriptors. `vl_supported`: tells whether a lane may be used now.
    pub fn on_fetch(&mut self, board: &mut Board, vl_supported: impl Fn(u8) -> bool) {
        self.fetch_pending = false;
        for _ in 0..BATCH {
            if !self.has_work() {
                break;
            }
            let begins = !self.assembly.is_open();
            if begins && let Some(fault) = board.plans.sdma.due(self.number.0.into()) {
                self.suffer(board, fault);
                if !self.has_work() {
                    break;
                }
            }
            if let Err(error) = self.fetch_one(board, &vl_supported) {
                self.failing = Some(error);
            }
        }
        self.fail_when_drained(board);
        self.kick(board, FETCH_GAP);
    }

    /// A fault that the adapter was told to have meets the packet that comes next.
    fn suffer(&mut self, board: &mut Board, fault: SdmaFault) {
        if fault == SdmaFault::Stall {
            self.stalled = true;
        } else if let Some(error) = fault.engine_error() {
            self.failing = Some(error);
        } else if let Some(bits) = fault.mended() {
            self.errors.raise(board, bits);
        } else if let Some(error) = fault.block_error() {
            self.block_error = Some(error);
        } else {
            self.fault = Some(fault);
        }
    }

    /// An error of the whole block that was met since the last call: bits of SEND_DMA_ERR_STATUS, and whether the chip
    /// freezes on it.
    pub fn take_block_error(&mut self) -> Option<(u64, bool)> {
        self.block_error.take()
    }

    fn fail_when_drained(&mut self, board: &mut Board) {
        if self.launches.is_empty()
            && let Some(error) = self.failing.take()
        {
            self.fail(board, error);
        }
    }

    fn fetch_one(&mut self, board: &mut Board, vl_supported: impl Fn(u8) -> bool) -> Result<(), csr::Field> {
        let ring = self.ring();
        // The length may have been changed under the tail.
        if self.tail >= ring || self.fetch >= ring {
            return Err(ERR::SDMA_TAIL_OUT_OF_BOUNDS_ERR);
        }
        let mut desc = SdmaDesc::default();
        let at = Iova(self.base).plus(self.fetch * size_of::<SdmaDesc>() as u64);
        board.dma.read(at, desc.as_mut_bytes()).map_err(|_| ERR::SDMA_MEM_READ_ERR)?;
        self.fetched = self.fetched.wrapping_add(1) & 0xffff_ffff;
        // Slots that carry header edits have no generation (`sdma.c:submit_tx`).
        let checked = csr::SEND_DMA_LEN_GEN::GENERATION.get(self.len_gen) & 4 != 0 && !self.assembly.expects_edits();
        if checked && desc.generation_bits() != self.generation {
            return Err(ERR::SDMA_GEN_MISMATCH_ERR);
        }
        self.fetch += 1;
        if self.fetch >= ring {
            self.fetch = 0;
            self.generation = (self.generation + 1) & 3;
        }
        if let Step::Packet { pbc, body, done } = self.assembly.add(&mut board.dma, &mut self.headers, desc)? {
            let packet = Outgoing { pbc, body, vl_supported: vl_supported(pbc.vl().0) };
            self.launches.push_back(Launch { packet, done, fault: self.fault.take() });
        }
        Ok(())
    }

    /// SEND_EGRESS_SEND_DMA_STATUS.
    pub fn egress_status(&self) -> u64 {
        csr::SEND_EGRESS_SEND_DMA_STATUS::SDMA_EGRESS_PACKET_OCCUPANCY.put(self.launches.len() as u64)
    }

    /// The packet that goes next.
    pub fn front(&self) -> Option<&Outgoing> {
        self.launches.front().map(|launch| &launch.packet)
    }

    /// Takes the body out of the packet that goes next; it stays in the queue until [`Engine::leave`].
    pub fn take_body(&mut self) -> Vec<u8> {
        self.launches.front_mut().map(|launch| std::mem::take(&mut launch.packet.body)).unwrap_or_default()
    }

    /// The packet at the front has left, or was dropped on the way: its descriptors are done.
    pub fn leave(&mut self, board: &mut Board) {
        let Some(Launch { done, fault, .. }) = self.launches.pop_front() else { return };
        let ring = self.ring();
        let head = self.head + u64::from(done.slots);
        self.head = if head >= ring { head.saturating_sub(ring) } else { head };
        let told = match fault {
            Some(SdmaFault::LostHead) => None,
            Some(SdmaFault::WildHead) => Some(WILD_HEAD),
            _ => Some(self.head),
        };
        if let Some(head) = told.filter(|_| done.head_to_host) {
            // A fault here can't be told to anybody; the driver reads the register instead.
            let _ = board.dma.write_u64(Iova(self.head_addr & !7), head);
        }
        let slots = u64::from(done.slots);
        let counted_down = self.desc_cnt != 0 && self.desc_cnt <= slots;
        self.desc_cnt = self.desc_cnt.saturating_sub(slots);
        if CTRL::SDMA_INT_ENABLE.is_set(self.ctrl) && fault != Some(SdmaFault::LostInterrupt) {
            if done.interrupt {
                board.raise(Source::sdma_int(self.number));
            }
            if counted_down {
                board.raise(Source::sdma_progress(self.number));
            }
        }
        let told = fault != Some(SdmaFault::LostInterrupt);
        if self.head == self.tail && self.launches.is_empty() && told {
            self.start_idle_timer(board);
        }
        self.fail_when_drained(board);
        self.kick(board, FETCH_GAP);
    }

    fn start_idle_timer(&mut self, board: &mut Board) {
        if self.reload == 0 {
            return;
        }
        // Longer times than the 32 bits of the counter can't be set on the chip either.
        let wait = Duration::from_nanos(self.reload.min(u32::MAX.into()) * NANOS / CLOCKS);
        self.idle_at = Some(board.now + wait);
        if !self.idle_pending {
            self.idle_pending = true;
            board.after(wait, Event::Txe(TxeEvent::Idle(self.number)));
        }
    }

    /// The idle timer.
    pub fn on_idle(&mut self, board: &mut Board) {
        self.idle_pending = false;
        match self.idle_at {
            Some(at) if at > board.now => {
                self.idle_pending = true;
                board.after(at.since(board.now), Event::Txe(TxeEvent::Idle(self.number)));
            }
            Some(_) => {
                self.idle_at = None;
                if CTRL::SDMA_INT_ENABLE.is_set(self.ctrl) {
                    board.raise(Source::sdma_idle(self.number));
                }
            }
            None => {}
        }
    }
}
