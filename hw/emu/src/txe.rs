//! The transmit engine: global registers, the arbiter that puts packets on the wire, and its contexts and engines.

use crate::board::{Board, LogicalState};
use crate::config::Config;
use crate::egress::Rules;
use crate::event::Event;
use crate::packet::Packet;
use crate::stats::DropReason;
use crate::triplet::Triplet;
use crate::txe_pio::SendContext;
use crate::txe_sdma::Engine;
use opx_defs::csr::{self, Csr, SEND_EGRESS_ERR_STATUS as EGRESS_ERR};
use opx_defs::source::Source;
use opx_defs::time::Instant;
use opx_defs::units::{BarOff, SdmaEngine, SendCtxt};
use opx_defs::wire::pbc::Pbc;
use std::collections::VecDeque;
use std::time::Duration;

/// Something that the transmit engine does later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxeEvent {
    /// The next packet goes.
    Egress,
    /// An SDMA engine reads descriptors.
    Fetch(SdmaEngine),
    /// An SDMA engine has been idle for its time.
    Idle(SdmaEngine),
}

/// Who a packet comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Pio(SendCtxt),
    Sdma(SdmaEngine),
}

/// From a packet's last byte in the chip to its first on the wire.
const LAUNCH_LATENCY: Duration = Duration::from_nanos(100);
/// Time that PIO initialisation takes; the driver waits 2 us, and then 25 us at most (`pio.c:pio_init_wait_progress`).
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
            Place::Global => self.read_global(board, offset),
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

    /// Drops the held packet when its sender was restarted under it.
    fn forget_held(&mut self, sender: Sender) {
        if matches!(&self.held, Some((held, _)) if *held == sender) && self.front(sender).is_none() {
            self.held = None;
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

    fn store(&mut self, board: &mut Board, offset: BarOff, qwords: &[u64]) {
        let sop = offset.0 >= PIO_SOP;
        let at = offset.0 & (PIO_SOP - PIO - 1);
        let number = (at >> 16) as usize;
        let ctrl = self.ctrl;
        let Some(context) = self.contexts.get_mut(number) else {
            return self.pio_errors.raise(board, csr::SEND_PIO_ERR_STATUS::PIO_WRITE_BAD_CTXT_ERR.mask());
        };
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

    /// Asks for the next packet to go when the wire is free.
    fn arm_egress(&mut self, board: &mut Board) {
        let open = csr::SEND_CTRL::SEND_ENABLE.is_set(self.ctrl) && !board.frozen && self.held.is_none();
        if open && !self.egress_pending && !self.ready.is_empty() {
            self.egress_pending = true;
            let at = self.free_at.max(board.now + LAUNCH_LATENCY);
            board.events.at(at, Event::Txe(TxeEvent::Egress));
        }
    }

    fn front(&self, sender: Sender) -> Option<&crate::txe_pio::Outgoing> {
        match sender {
            Sender::Pio(number) => self.contexts.get(usize::from(number.0))?.front(),
            Sender::Sdma(number) => self.engines.get(usize::from(number.0))?.front(),
        }
    }

    /// The packet at a sender's front is done with.
    fn leave(&mut self, board: &mut Board, sender: Sender) {
        match sender {
            Sender::Pio(number) => {
                if let Some(context) = self.contexts.get_mut(usize::from(number.0)) {
                    context.leave(board);
                }
            }
            Sender::Sdma(number) => {
                if let Some(engine) = self.engines.get_mut(usize::from(number.0)) {
                    engine.leave(board);
                }
            }
        }
        self.relist(sender);
    }

    /// Puts a sender at the end of the list, or out of it when it has nothing more.
    fn relist(&mut self, sender: Sender) {
        let more = self.front(sender).is_some();
        let listed = match sender {
            Sender::Pio(number) => self.contexts.get_mut(usize::from(number.0)).map(|c| &mut c.listed),
            Sender::Sdma(number) => self.engines.get_mut(usize::from(number.0)).map(|e| &mut e.listed),
        };
        if let Some(listed) = listed {
            *listed = more;
            if more {
                self.ready.push_back(sender);
            }
        }
    }

    /// The next packet goes, is refused, or is dropped.
    fn egress(&mut self, board: &mut Board) {
        self.egress_pending = false;
        if board.frozen || self.held.is_some() || !csr::SEND_CTRL::SEND_ENABLE.is_set(self.ctrl) {
            return;
        }
        let Some(sender) = self.ready.pop_front() else { return };
        let Some((pbc, verdict)) = self.judge(board, sender) else {
            self.relist(sender);
            return self.arm_egress(board);
        };
        match verdict {
            Verdict::Go => {
                let body = match sender {
                    Sender::Pio(number) => self.contexts.get_mut(usize::from(number.0)).map(SendContext::take_body),
                    Sender::Sdma(number) => self.engines.get_mut(usize::from(number.0)).map(Engine::take_body),
                };
                let packet = seal(pbc, body.unwrap_or_default());
                self.transmit(board, sender, pbc, packet);
            }
            Verdict::Drop(reason) => {
                board.drop_packet(reason);
                self.count32(5);
                self.leave(board, sender);
            }
            Verdict::Halted => {
                board.drop_packet(DropReason::EgressCheck);
                self.relist(sender);
            }
        }
        self.arm_egress(board);
    }

    fn transmit(&mut self, board: &mut Board, sender: Sender, pbc: Pbc, packet: Packet) {
        let bytes = packet.bytes.len() as u64;
        match board.transmit(packet) {
            Ok(()) => {
                // 100 Gb/s: 12.5 bytes a nanosecond.
                self.free_at = board.now + Duration::from_nanos((bytes * 2).div_ceil(25));
                self.count_sent(pbc, bytes);
                if pbc.wants_interrupt() {
                    board.raise(Source::PBC);
                }
                self.leave(board, sender);
            }
            Err(packet) => {
                self.count64(2, 1);
                self.held = Some((sender, packet));
            }
        }
    }

    /// What becomes of the packet at a sender's front; `None` when there is none.
    ///
    /// Source: `chip.c:handle_egress_err`, `handle_send_egress_err_info`, `is_sendctxt_err_int`. That data packets are
    /// dropped unless the port is ACTIVE, and management packets unless it is up, is INFERRED from the error's name.
    fn judge(&mut self, board: &mut Board, sender: Sender) -> Option<(Pbc, Verdict)> {
        let packet = self.front(sender)?;
        let (pbc, vl) = (packet.pbc, packet.pbc.vl().0);
        if !packet.vl_supported {
            self.egress_errors.raise(board, EGRESS_ERR::TX_ILLEGAL_VL_ERR.mask());
            self.count32(0);
            return Some((pbc, Verdict::Drop(DropReason::EgressCheck)));
        }
        let checks = match sender {
            Sender::Pio(number) => self.contexts.get(usize::from(number.0))?.checks,
            Sender::Sdma(number) => self.engines.get(usize::from(number.0))?.checks,
        };
        let refusal = checks.refusal(&self.rules, pbc, &self.front(sender)?.body);
        if refusal != 0 {
            self.err_info |= refusal;
            return Some((pbc, self.refuse(board, sender)));
        }
        let needed = if vl == VL15 { LogicalState::Init } else { LogicalState::Active };
        if board.link.logical < needed {
            let (error, reason) = if board.link.logical == LogicalState::Down {
                (EGRESS_ERR::TX_LINKDOWN_ERR, DropReason::LinkDown)
            } else {
                (EGRESS_ERR::TX_INCORRECT_LINK_STATE_ERR, DropReason::PortState)
            };
            self.egress_errors.raise(board, error.mask());
            return Some((pbc, Verdict::Drop(reason)));
        }
        Some((pbc, Verdict::Go))
    }

    /// A check has refused a packet: a send context halts, an SDMA engine goes on without it.
    fn refuse(&mut self, board: &mut Board, sender: Sender) -> Verdict {
        // What the source register holds isn't documented and the driver only prints it: INFERRED number and kind.
        const SDMA: u64 = 1 << 16;
        match sender {
            Sender::Pio(number) => {
                self.err_source = number.0.into();
                if let Some(context) = self.contexts.get_mut(usize::from(number.0)) {
                    context.fail(board, csr::SEND_CTXT_ERR_STATUS::PIO_DISALLOWED_PACKET_ERR);
                }
                Verdict::Halted
            }
            Sender::Sdma(number) => {
                self.err_source = SDMA | u64::from(number.0);
                let bit = EGRESS_ERR::TX_SDMA0_DISALLOWED_PACKET_ERR.mask() << number.0;
                self.egress_errors.raise(board, bit);
                Verdict::Drop(DropReason::EgressCheck)
            }
        }
    }

    fn count32(&mut self, index: usize) {
        if let Some(count) = self.counters32.get_mut(index) {
            *count += 1;
        }
    }

    fn count64(&mut self, index: usize, by: u64) {
        if let Some(count) = self.counters64.get_mut(index) {
            *count += by;
        }
    }

    /// `chip.c:dev_cntrs` and `port_cntrs` (C_TX_*): packets, dwords; flits and packets by lane.
    fn count_sent(&mut self, pbc: Pbc, bytes: u64) {
        let lane = if pbc.vl().0 == VL15 { 8 } else { usize::from(pbc.vl().0 & 7) };
        self.count64(0, 1);
        self.count64(1, bytes / 4);
        self.count64(3 + lane, bytes.div_ceil(8));
        self.count64(12 + lane, 1);
    }

    /// An event asked for earlier.
    pub fn on_event(&mut self, board: &mut Board, event: TxeEvent) {
        match event {
            TxeEvent::Egress => self.egress(board),
            TxeEvent::Fetch(number) => {
                let ctrl = self.ctrl;
                let Some(engine) = self.engines.get_mut(usize::from(number.0)) else { return };
                engine.on_fetch(board, |vl| usable(ctrl, vl));
                if engine.front().is_some() && !engine.listed {
                    engine.listed = true;
                    self.ready.push_back(Sender::Sdma(number));
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

    /// A packet was refused by a full link, and there is room now.
    pub fn on_link_room(&mut self, board: &mut Board) {
        if let Some((sender, packet)) = self.held.take() {
            match self.front(sender).map(|front| front.pbc) {
                // The port may have left ACTIVE while the packet waited.
                Some(pbc) if board.link.logical >= LogicalState::Init => self.transmit(board, sender, pbc, packet),
                Some(_) => {
                    board.drop_packet(DropReason::LinkDown);
                    self.leave(board, sender);
                }
                None => {}
            }
        }
        self.arm_egress(board);
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

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It goes on the wire.
    Go,
    /// It is dropped, and its sender goes on.
    Drop(DropReason),
    /// Its sender has halted, and with it went all its packets.
    Halted,
}

/// Puts the ICRC on. Bypass packets bring their own tail.
fn seal(pbc: Pbc, body: Vec<u8>) -> Packet {
    if pbc.is_bypass() {
        Packet { bytes: body, vl: pbc.vl(), sc4: pbc.sc4(), bypass: true }
    } else {
        Packet::seal(body, pbc.vl(), pbc.sc4(), false, pbc.test_bad_icrc())
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
