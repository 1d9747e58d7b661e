//! The transmit engine: global registers, and the registers of its contexts and engines.

mod arbiter;

use self::arbiter::Sender;
use crate::board::{Board, LogicalState};
use crate::config::Config;
use crate::egress::Rules;
use crate::packet::Packet;
use crate::triplet::Triplet;
use crate::txe_pio::SendContext;
use crate::txe_sdma::Engine;
use opx_defs::csr::{self, Csr};
use opx_defs::freezing;
use opx_defs::source::Source;
use opx_defs::time::Instant;
use opx_defs::units::{BarOff, SdmaEngine, SendCtxt};
use std::collections::VecDeque;
use std::time::Duration;

/// Something that the transmit engine does later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxeEvent {
    /// The next packet goes.
    Egress,
    /// A packet of a send context is over the wire.
    Left(SendCtxt),
    /// An SDMA engine reads descriptors.
    Fetch(SdmaEngine),
    /// An SDMA engine has been idle for its time.
    Idle(SdmaEngine),
}

/// Time that PIO initialisation takes; the driver waits 2 us, and then 25 us at most (`pio.c:pio_init_wait_progress`).
/// Because in real time the chip's clock may run ahead of the host's by more than that, it is over once software has seen
/// it in progress, too.
const INIT_TIME: Duration = Duration::from_micros(1);
const VL15: u8 = 15;

/// Registers that only store: the model has no use for them but software reads them back.
const STORED: [Csr; 13] = [
    csr::SEND_HIGH_PRIORITY_LIMIT,
    csr::SEND_STATIC_RATE_CONTROL,
    csr::SEND_LOW_PRIORITY_LIST,
    csr::SEND_HIGH_PRIORITY_LIST,
    csr::SEND_CONTEXT_SET_CTRL,
    csr::SEND_CM_CTRL,
    csr::SEND_CM_GLOBAL_CREDIT,
    csr::SEND_CM_TIMER_CTRL,
    csr::SEND_CM_LOCAL_AU_TABLE0_TO3,
    csr::SEND_CM_LOCAL_AU_TABLE4_TO7,
    csr::SEND_CM_REMOTE_AU_TABLE0_TO3,
    csr::SEND_CM_REMOTE_AU_TABLE4_TO7,
    csr::SEND_CM_CREDIT_VL,
];

/// The block's registers.
#[derive(Debug)]
pub struct Txe {
    ctrl: u64,
    pio_init: u64,
    /// PIO initialisation is in progress until then.
    init_until: Instant,
    pio_errors: Triplet,
    dma_errors: Triplet,
    egress_errors: Triplet,
    errors: Triplet,
    err_info: u64,
    err_source: u64,
    rules: Rules,
    stored: Vec<Vec<u64>>,
    credit_vl15: u64,
    counters32: [u64; 7],
    counters64: [u64; 30],
    contexts: Vec<SendContext>,
    /// The context that software stored into last.
    last_stored: usize,
    engines: Vec<Engine>,
    /// Senders with packets, in the order of their turns.
    ready: VecDeque<Sender>,
    egress_pending: bool,
    /// When the wire has taken the last packet.
    free_at: Instant,
    /// A packet that the link had no room for.
    held: Option<(Sender, Packet)>,
}

const CONTEXTS: BarOff = csr::SEND_CTXT_CTRL.offset;
const ENGINES: BarOff = csr::SEND_DMA_CTRL.offset;
/// Start of the PIO windows; the second half is the start-of-packet view.
const PIO: u32 = 0x200_0000;
const PIO_SOP: u32 = 0x300_0000;

/// Which part of the block an offset lies in.
enum Place {
    Global,
    Context(usize, u32),
    Engine(usize, u32),
    Buffer,
}

fn place(offset: BarOff) -> Place {
    let at = offset.0;
    if at >= PIO {
        Place::Buffer
    } else if at >= ENGINES.0 {
        Place::Engine((at - ENGINES.0) as usize / 0x100, at & 0xff)
    } else if at >= CONTEXTS.0 {
        Place::Context((at - CONTEXTS.0) as usize / 0x100, at & 0xff)
    } else {
        Place::Global
    }
}

fn usable(ctrl: u64, vl: u8) -> bool {
    vl == VL15 || vl < 8 && csr::SEND_CTRL::UNSUPPORTED_VL.get(ctrl) & 1 << vl == 0
}

impl Txe {
    /// A transmit engine of the sizes in `config`.
    pub fn new(config: &Config) -> Self {
        Self {
            ctrl: 0,
            pio_init: 0,
            init_until: Instant::ZERO,
            pio_errors: Triplet::new(Source::PIO_ERR),
            dma_errors: Triplet::new(Source::SDMA_ERR),
            egress_errors: Triplet::new(Source::EGRESS_ERR),
            errors: Triplet::new(Source::TXE_ERR),
            err_info: 0,
            err_source: 0,
            rules: Rules::default(),
            stored: STORED.iter().map(|row| vec![row.reset; row.count as usize]).collect(),
            credit_vl15: 0,
            counters32: [0; 7],
            counters64: [0; 30],
            contexts: (0..config.send_contexts).map(|number| SendContext::new(SendCtxt(number))).collect(),
            last_stored: 0,
            engines: (0..config.sdma_engines).map(|number| Engine::new(SdmaEngine(number))).collect(),
            ready: VecDeque::new(),
            egress_pending: false,
            free_at: Instant::ZERO,
            held: None,
        }
    }

    /// Function-level reset.
    pub fn reset(&mut self, board: &mut Board) {
        for triplet in [&mut self.pio_errors, &mut self.dma_errors, &mut self.egress_errors, &mut self.errors] {
            triplet.reset(board);
        }
        for engine in &mut self.engines {
            engine.reset(board);
        }
        *self = Self::new(&board.config);
    }

    /// An error in one of the engine's registers; some freeze the chip.
    pub fn raise(&mut self, board: &mut Board, status: &Csr, errors: u64) {
        if let Some((triplet, _)) = self.triplet_mut(status.off()) {
            triplet.raise(board, errors);
        }
        if freezing::bits_of(status) & errors != 0 {
            board.freeze();
        }
    }

    fn triplet(&self, offset: BarOff) -> Option<(&Triplet, u32)> {
        [
            (csr::SEND_PIO_ERR_STATUS, &self.pio_errors),
            (csr::SEND_DMA_ERR_STATUS, &self.dma_errors),
            (csr::SEND_EGRESS_ERR_STATUS, &self.egress_errors),
            (csr::SEND_ERR_STATUS, &self.errors),
        ]
        .into_iter()
        .find_map(|(status, triplet)| triplet_part(status, offset).map(|part| (triplet, part)))
    }

    fn triplet_mut(&mut self, offset: BarOff) -> Option<(&mut Triplet, u32)> {
        [
            (csr::SEND_PIO_ERR_STATUS, &mut self.pio_errors),
            (csr::SEND_DMA_ERR_STATUS, &mut self.dma_errors),
            (csr::SEND_EGRESS_ERR_STATUS, &mut self.egress_errors),
            (csr::SEND_ERR_STATUS, &mut self.errors),
        ]
        .into_iter()
        .find_map(|(status, triplet)| triplet_part(status, offset).map(|part| (triplet, part)))
    }

    /// Reads a register; `None` when there is none.
    pub fn read(&mut self, board: &mut Board, offset: BarOff) -> Option<u64> {
        match place(offset) {
            Place::Global => {
                let value = self.read_global(board, offset);
                if offset == csr::SEND_PIO_INIT_CTXT.off() {
                    self.init_until = Instant::ZERO;
                }
                value
            }
            Place::Context(number, register) => self.contexts.get(number)?.read(register),
            Place::Engine(number, register) => self.engines.get(number)?.read(board, register),
            // The buffers are write-only.
            Place::Buffer => None,
        }
    }

    fn read_global(&self, board: &Board, offset: BarOff) -> Option<u64> {
        let at = |row: Csr| row.locate(offset).map(|(index, _)| index as usize);
        if let Some(i) = at(csr::SEND_EGRESS_CTXT_STATUS) {
            return Some(self.contexts.get(i).map_or(0, SendContext::egress_status));
        }
        Some(match offset {
            o if o == csr::SEND_CTRL.off() => self.ctrl,
            o if o == csr::SEND_CONTEXTS.off() => self.contexts.len() as u64,
            o if o == csr::SEND_DMA_ENGINES.off() => self.engines.len() as u64,
            o if o == csr::SEND_PIO_MEM_SIZE.off() => board.config.pio_bytes.into(),
            o if o == csr::SEND_DMA_MEM_SIZE.off() => board.config.sdma_bytes.into(),
            o if o == csr::SEND_PIO_INIT_CTXT.off() => {
                let busy = csr::SEND_PIO_INIT_CTXT::PIO_INIT_IN_PROGRESS.put((board.now < self.init_until).into());
                self.pio_init | busy
            }
            o if o == csr::SEND_BTH_QP.off() => self.rules.bth_qp,
            o if o == csr::SEND_SC2VLT0.off() => self.rules.sc2vlt[0],
            o if o == csr::SEND_SC2VLT1.off() => self.rules.sc2vlt[1],
            o if o == csr::SEND_SC2VLT2.off() => self.rules.sc2vlt[2],
            o if o == csr::SEND_SC2VLT3.off() => self.rules.sc2vlt[3],
            o if o == csr::SEND_LEN_CHECK0.off() => self.rules.len_check[0],
            o if o == csr::SEND_LEN_CHECK1.off() => self.rules.len_check[1],
            // Credits are never in use: the model's flow control is the wire's.
            o if o == csr::SEND_CM_CREDIT_USED_STATUS.off() => 0,
            o if o == csr::SEND_CM_CREDIT_VL15.off() => self.credit_vl15,
            o if o == csr::SEND_EGRESS_ERR_INFO.off() => self.err_info,
            o if o == csr::SEND_EGRESS_ERR_SOURCE.off() => self.err_source,
            _ => {
                if let Some((triplet, part)) = self.triplet(offset) {
                    return Some([triplet.status(), triplet.mask(), 0].get(part as usize).copied().unwrap_or(0));
                }
                if let Some(i) = at(csr::SEND_EGRESS_SEND_DMA_STATUS) {
                    return Some(self.engines.get(i).map_or(0, Engine::egress_status));
                }
                if let Some(i) = at(csr::SEND_COUNTER_ARRAY32) {
                    return self.counters32.get(i).map(|count| count & 0xffff_ffff);
                }
                if let Some(i) = at(csr::SEND_COUNTER_ARRAY64) {
                    return self.counters64.get(i).copied();
                }
                let (row, i) = stored_at(offset)?;
                return self.stored.get(row)?.get(i).copied();
            }
        })
    }

    /// Writes a register, or a qword of the PIO window; `false` when there is none.
    pub fn write(&mut self, board: &mut Board, offset: BarOff, value: u64) -> bool {
        match place(offset) {
            Place::Global => self.write_global(board, offset, value),
            Place::Context(number, register) => {
                let taken = self.contexts.get_mut(number).is_some_and(|c| c.write(board, register, value));
                // The packet that waits for the wire may have been its own.
                self.forget_held(Sender::Pio(SendCtxt(number as u16)));
                taken
            }
            Place::Engine(number, register) => {
                let taken = self.engines.get_mut(number).is_some_and(|e| e.write(board, register, value));
                self.forget_held(Sender::Sdma(SdmaEngine(number as u8)));
                taken
            }
            Place::Buffer => {
                self.store(board, offset, &[value]);
                true
            }
        }
    }

    fn write_global(&mut self, board: &mut Board, offset: BarOff, value: u64) -> bool {
        if let Some((triplet, part)) = self.triplet_mut(offset) {
            match part {
                1 => triplet.set_mask(board, value),
                2 => triplet.clear(board, value),
                _ => {}
            }
            return true;
        }
        match offset {
            o if o == csr::SEND_CTRL.off() => {
                // `pio.c:__cm_reset` polls without limit for the reset bit to clear itself.
                self.ctrl = value & !csr::SEND_CTRL::CM_RESET.mask();
                self.arm_egress(board);
            }
            o if o == csr::SEND_PIO_INIT_CTXT.off() => self.init_contexts(board, value),
            o if o == csr::SEND_BTH_QP.off() => self.rules.bth_qp = value,
            o if o == csr::SEND_SC2VLT0.off() => self.rules.sc2vlt[0] = value,
            o if o == csr::SEND_SC2VLT1.off() => self.rules.sc2vlt[1] = value,
            o if o == csr::SEND_SC2VLT2.off() => self.rules.sc2vlt[2] = value,
            o if o == csr::SEND_SC2VLT3.off() => self.rules.sc2vlt[3] = value,
            o if o == csr::SEND_LEN_CHECK0.off() => self.rules.len_check[0] = value,
            o if o == csr::SEND_LEN_CHECK1.off() => self.rules.len_check[1] = value,
            o if o == csr::SEND_CM_CREDIT_VL15.off() => self.credit_vl15 = value,
            // `chip.c:handle_send_egress_err_info` writes back what it read.
            o if o == csr::SEND_EGRESS_ERR_INFO.off() => self.err_info &= !value,
            o if o == csr::SEND_EGRESS_ERR_SOURCE.off() => self.err_source &= !value,
            o if [
                csr::SEND_CONTEXTS,
                csr::SEND_DMA_ENGINES,
                csr::SEND_PIO_MEM_SIZE,
                csr::SEND_DMA_MEM_SIZE,
                csr::SEND_CM_CREDIT_USED_STATUS,
                csr::SEND_EGRESS_CTXT_STATUS,
                csr::SEND_EGRESS_SEND_DMA_STATUS,
            ]
            .iter()
            .any(|row| row.locate(o).is_some()) => {}
            _ => {
                let at = |row: Csr| row.locate(offset).map(|(index, _)| index as usize);
                let place = if let Some(i) = at(csr::SEND_COUNTER_ARRAY32) {
                    self.counters32.get_mut(i)
                } else if let Some(i) = at(csr::SEND_COUNTER_ARRAY64) {
                    self.counters64.get_mut(i)
                } else {
                    stored_at(offset).and_then(|(row, i)| self.stored.get_mut(row)?.get_mut(i))
                };
                return place.map(|place| *place = value).is_some();
            }
        }
        true
    }

    /// `pio.c:sc_enable`, `pio_reset_all`.
    fn init_contexts(&mut self, board: &mut Board, value: u64) {
        use csr::SEND_PIO_INIT_CTXT as INIT;
        self.pio_init = value & INIT::PIO_CTXT_NUM.mask();
        if INIT::PIO_ALL_CTXT_INIT.is_set(value) {
            for context in &mut self.contexts {
                context.init();
            }
        } else if INIT::PIO_SINGLE_CTXT_INIT.is_set(value) {
            match self.contexts.get_mut(INIT::PIO_CTXT_NUM.get(value) as usize) {
                Some(context) => context.init(),
                None => {
                    self.pio_init |= INIT::PIO_INIT_ERR.mask();
                    self.pio_errors.raise(board, csr::SEND_PIO_ERR_STATUS::PIO_INIT_SM_IN_ERR.mask());
                }
            }
        } else {
            return;
        }
        self.init_until = board.now + INIT_TIME;
        if let Some((sender, _)) = &self.held {
            self.forget_held(*sender);
        }
    }

    /// Writes one 64-byte block to the PIO window.
    pub fn write_block(&mut self, board: &mut Board, offset: BarOff, block: &[u64; 8]) {
        self.store(board, offset, block);
    }

    /// Whether a packet has been begun in the context that was stored into last, and isn't complete.
    #[cfg(feature = "server")]
    pub fn in_pio_packet(&self) -> bool {
        self.contexts.get(self.last_stored).is_some_and(SendContext::in_packet)
    }

    fn store(&mut self, board: &mut Board, offset: BarOff, qwords: &[u64]) {
        let sop = offset.0 >= PIO_SOP;
        let at = offset.0 & (PIO_SOP - PIO - 1);
        let number = (at >> 16) as usize;
        let ctrl = self.ctrl;
        let Some(context) = self.contexts.get_mut(number) else {
            return self.pio_errors.raise(board, csr::SEND_PIO_ERR_STATUS::PIO_WRITE_BAD_CTXT_ERR.mask());
        };
        self.last_stored = number;
        if board.frozen {
            return;
        }
        let (block, first) = ((at & 0xffff) as usize / 64, (at & 63) as usize / 8);
        context.store(board, block, sop, first, qwords, |vl| usable(ctrl, vl));
        if context.front().is_some() && !context.listed {
            context.listed = true;
            self.ready.push_back(Sender::Pio(SendCtxt(number as u16)));
            self.arm_egress(board);
        }
        self.forget_held(Sender::Pio(SendCtxt(number as u16)));
    }

    /// An event asked for earlier.
    pub fn on_event(&mut self, board: &mut Board, event: TxeEvent) {
        match event {
            TxeEvent::Egress => self.egress(board),
            TxeEvent::Left(number) => {
                if let Some(context) = self.contexts.get_mut(usize::from(number.0)) {
                    context.left(board);
                }
            }
            TxeEvent::Fetch(number) => {
                let ctrl = self.ctrl;
                let Some(engine) = self.engines.get_mut(usize::from(number.0)) else { return };
                engine.on_fetch(board, |vl| usable(ctrl, vl));
                if engine.front().is_some() && !engine.listed {
                    engine.listed = true;
                    self.ready.push_back(Sender::Sdma(number));
                }
                if let Some((bits, freezes)) = engine.take_block_error() {
                    // `chip.c:handle_sdma_err`: on these the driver finds the chip freezing by itself.
                    self.dma_errors.raise(board, bits);
                    if freezes {
                        board.freeze();
                    }
                }
                self.forget_held(Sender::Sdma(number));
                self.arm_egress(board);
            }
            TxeEvent::Idle(number) => {
                if let Some(engine) = self.engines.get_mut(usize::from(number.0)) {
                    engine.on_idle(board);
                }
            }
        }
    }

    /// The link came up, went down, or its logical state changed; see `board.link`.
    pub fn on_link_change(&mut self, board: &mut Board) {
        if board.link.logical == LogicalState::Down {
            // Nobody will tell of room on a link that is gone.
            self.on_link_room(board);
        } else {
            self.arm_egress(board);
        }
    }

    /// The chip froze or was unfrozen; see `board.frozen`.
    ///
    /// Source: `chip.c:handle_freeze`, `pio.c:pio_freeze`, `sdma.c:sdma_freeze`.
    pub fn on_freeze_change(&mut self, board: &mut Board) {
        for engine in &mut self.engines {
            engine.on_freeze_change(board.frozen);
        }
        if board.frozen {
            for context in &mut self.contexts {
                context.flush();
            }
            self.held = None;
        }
        self.arm_egress(board);
    }
}

/// 0 for STATUS, 1 for MASK, 2 for CLEAR of a triplet that begins at `status`.
fn triplet_part(status: Csr, offset: BarOff) -> Option<u32> {
    let delta = offset.0.checked_sub(status.offset.0)?;
    (delta < 24).then_some(delta / 8)
}

fn stored_at(offset: BarOff) -> Option<(usize, usize)> {
    STORED.iter().enumerate().find_map(|(row, csr)| csr.locate(offset).map(|(index, _)| (row, index as usize)))
}
