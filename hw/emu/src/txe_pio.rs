//! PIO send contexts: the blocks that software stores into, the packets they make, and credit return.

use crate::board::Board;
use crate::egress::Checks;
use crate::inject::PioFault;
use opx_defs::credit::{CREDIT_MODULUS, CreditReason, CreditReturn};
use opx_defs::csr::{self, SEND_CTXT_CREDIT_CTRL as CREDIT_CTRL, SEND_CTXT_CTRL as CTRL, SEND_CTXT_ERR_STATUS as ERR};
use opx_defs::source::Source;
use opx_defs::units::{Blocks, Iova, SendCtxt};
use opx_defs::wire::pbc::Pbc;
use std::collections::VecDeque;

/// Blocks that fit in a context's 64 KiB window.
const WINDOW_BLOCKS: u64 = 1024;

/// One 64-byte block of a context's buffer.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    data: [u64; 8],
    /// Which qwords have been stored.
    written: u8,
    /// Stored through the start-of-packet view.
    sop: bool,
    /// Part of a packet that has not left.
    in_use: bool,
}

/// A packet on its way out.
#[derive(Debug)]
pub struct Outgoing {
    /// The PBC.
    pub pbc: Pbc,
    /// LRH to the end of the payload.
    pub body: Vec<u8>,
    /// Whether its lane was usable when the packet was complete (SEND_CTRL.UNSUPPORTED_VL).
    pub vl_supported: bool,
}

#[derive(Debug)]
struct Queued {
    packet: Outgoing,
    blocks: u16,
    /// What goes wrong with it, when something was planned.
    fault: Option<PioFault>,
}

/// One send context.
#[derive(Debug)]
pub struct SendContext {
    number: SendCtxt,
    ctrl: u64,
    credit_ctrl: u64,
    credit_addr: u64,
    credit_force: u64,
    err_status: u64,
    err_mask: u64,
    /// The egress checks.
    pub checks: Checks,
    halted: bool,
    blocks: Vec<Block>,
    /// First block of the packet that is being filled.
    fill: usize,
    /// Blocks of it that are known to be complete.
    filled: usize,
    /// First block that has not left.
    drain: usize,
    queue: VecDeque<Queued>,
    /// The packet that goes over the wire, when its blocks aren't free before its end.
    leaving: Option<Queued>,
    /// Blocks of the packets in both.
    held: u16,
    /// Blocks freed since the context was enabled, modulo 2048.
    free: u16,
    /// The same as last told to the host.
    returned: u16,
    /// What goes wrong with the next credit return.
    spoilt_return: Option<PioFault>,
    /// The context is in the arbiter's list.
    pub listed: bool,
}

const fn within(csr: csr::Csr) -> u32 {
    csr.offset.0 & 0xff
}

const R_CTRL: u32 = within(csr::SEND_CTXT_CTRL);
const R_STATUS: u32 = within(csr::SEND_CTXT_STATUS);
const R_CREDIT_CTRL: u32 = within(csr::SEND_CTXT_CREDIT_CTRL);
const R_CREDIT_STATUS: u32 = within(csr::SEND_CTXT_CREDIT_STATUS);
const R_CREDIT_ADDR: u32 = within(csr::SEND_CTXT_CREDIT_RETURN_ADDR);
const R_CREDIT_FORCE: u32 = within(csr::SEND_CTXT_CREDIT_FORCE);
const R_ERR_STATUS: u32 = within(csr::SEND_CTXT_ERR_STATUS);
const R_ERR_MASK: u32 = within(csr::SEND_CTXT_ERR_MASK);
const R_ERR_CLEAR: u32 = within(csr::SEND_CTXT_ERR_CLEAR);

impl SendContext {
    /// A context that is off.
    pub fn new(number: SendCtxt) -> Self {
        Self {
            number,
            ctrl: 0,
            credit_ctrl: 0,
            credit_addr: 0,
            credit_force: 0,
            err_status: 0,
            err_mask: 0,
            checks: Checks::default(),
            halted: false,
            blocks: Vec::new(),
            fill: 0,
            filled: 0,
            drain: 0,
            queue: VecDeque::new(),
            leaving: None,
            held: 0,
            free: 0,
            returned: 0,
            spoilt_return: None,
            listed: false,
        }
    }

    fn is_enabled(&self) -> bool {
        CTRL::CTXT_ENABLE.is_set(self.ctrl)
    }

    /// Reads a register by its offset in the context.
    pub fn read(&self, register: u32) -> Option<u64> {
        Some(match register {
            R_CTRL => self.ctrl,
            R_STATUS => self.halted.into(),
            R_CREDIT_CTRL => self.credit_ctrl,
            R_CREDIT_STATUS => {
                csr::SEND_CTXT_CREDIT_STATUS::LAST_RETURNED_COUNTER.put(self.returned.into())
                    | csr::SEND_CTXT_CREDIT_STATUS::CURRENT_FREE_COUNTER.put(self.free.into())
            }
            R_CREDIT_ADDR => self.credit_addr,
            R_CREDIT_FORCE => self.credit_force,
            R_ERR_STATUS => self.err_status,
            R_ERR_MASK => self.err_mask,
            R_ERR_CLEAR => 0,
            _ => return self.checks.read(register),
        })
    }

    /// Writes a register by its offset in the context; `false` when there is none.
    pub fn write(&mut self, board: &mut Board, register: u32, value: u64) -> bool {
        match register {
            R_CTRL => self.write_ctrl(value),
            R_CREDIT_CTRL => self.credit_ctrl = value,
            R_CREDIT_ADDR => self.credit_addr = value,
            R_CREDIT_FORCE => {
                // `pio.c:sc_return_credits`: the rise of the bit forces a return; the driver writes 0 afterwards.
                let rises = value & !self.credit_force & 1 != 0;
                self.credit_force = value & 1;
                if rises && self.is_enabled() {
                    self.return_credit(board, CreditReason::Force);
                }
            }
            R_ERR_MASK => {
                let new = self.err_status & value & !self.err_mask;
                self.err_mask = value;
                if new != 0 {
                    board.raise(Source::send_ctxt_error(self.number));
                }
            }
            R_ERR_CLEAR => self.err_status &= !value,
            R_STATUS | R_CREDIT_STATUS | R_ERR_STATUS => {}
            _ => return self.checks.write(register, value),
        }
        true
    }

    fn write_ctrl(&mut self, value: u64) {
        let was = self.is_enabled();
        self.ctrl = value;
        if was != self.is_enabled() {
            // `pio.c:sc_enable` starts its counters at 0 together with the chip's. On the way down the driver has waited
            // for the packets to leave; what is left is lost.
            self.restart();
        }
    }

    /// PIO initialisation (SEND_PIO_INIT_CTXT): the halt ends here, errors stay until they are cleared (`pio.c:sc_enable`).
    pub fn init(&mut self) {
        self.halted = false;
        self.restart();
    }

    fn restart(&mut self) {
        self.blocks.clear();
        if self.is_enabled() {
            let depth = CTRL::CTXT_DEPTH.get(self.ctrl).min(WINDOW_BLOCKS);
            self.blocks.resize(depth as usize, Block::default());
        }
        self.queue.clear();
        self.leaving = None;
        self.held = 0;
        (self.fill, self.filled, self.drain) = (0, 0, 0);
        (self.free, self.returned) = (0, 0);
        self.spoilt_return = None;
    }

    /// Freeze: what is in the buffer is lost, and the blocks of complete packets count as free.
    pub fn flush(&mut self) {
        while let Some(queued) = self.leaving.take().or_else(|| self.queue.pop_front()) {
            self.release(queued.blocks);
        }
        for block in &mut self.blocks {
            *block = Block::default();
        }
        self.filled = 0;
    }

    /// SEND_EGRESS_CTXT_STATUS.
    pub fn egress_status(&self) -> u64 {
        let packets = self.queue.len() + usize::from(self.leaving.is_some());
        csr::SEND_EGRESS_CTXT_STATUS::CTXT_EGRESS_PACKET_OCCUPANCY.put(packets as u64)
            | csr::SEND_EGRESS_CTXT_STATUS::CTXT_EGRESS_HALT_STATUS.put(self.halted.into())
    }

    /// Stores qwords into a block, from `first` on. `vl_supported`: tells whether a lane may be used now.
    pub fn store(
        &mut self,
        board: &mut Board,
        index: usize,
        sop: bool,
        first: usize,
        qwords: &[u64],
        vl_supported: impl Fn(u8) -> bool,
    ) {
        if !self.is_enabled() || self.halted {
            return;
        }
        let before = self.queue.len();
        if let Err(error) = self.try_store(index, sop, first, qwords).and_then(|()| self.assemble(vl_supported)) {
            return self.fail(board, error);
        }
        if self.queue.len() > before && self.is_short() {
            board.counts.credit_short += 1;
        }
        for packet in before..self.queue.len() {
            if let Some(fault) = board.plans.pio.due(self.number.0) {
                self.suffer(board, packet, fault);
            }
        }
    }

    /// Has a fault that it was told to have, at a packet of its queue.
    fn suffer(&mut self, board: &mut Board, packet: usize, fault: PioFault) {
        match fault {
            PioFault::LostReturn | PioFault::GarbledReturn => self.spoilt_return = Some(fault),
            PioFault::LostCredits | PioFault::Stall => {
                if let Some(queued) = self.queue.get_mut(packet) {
                    queued.fault = Some(fault);
                }
            }
            halting => {
                if let Some(error) = halting.error() {
                    self.fail(board, error);
                }
            }
        }
    }

    /// Whether software has no credit left for another packet of the last one's length.
    fn is_short(&self) -> bool {
        let untold = usize::from(self.free.wrapping_sub(self.returned) % CREDIT_MODULUS);
        let last = self.queue.back().map_or(0, |queued| usize::from(queued.blocks));
        usize::from(self.held) + untold + last > self.blocks.len()
    }

    fn try_store(&mut self, index: usize, sop: bool, first: usize, qwords: &[u64]) -> Result<(), csr::Field> {
        let Some(block) = self.blocks.get_mut(index) else { return Err(ERR::PIO_WRITE_OUT_OF_BOUNDS_ERR) };
        let Some(place) = block.data.get_mut(first..first + qwords.len()) else {
            return Err(ERR::PIO_WRITE_CROSSES_BOUNDARY_ERR);
        };
        if block.in_use {
            // The software has no credit for it: the packet in it has not left.
            return Err(ERR::PIO_WRITE_OVERFLOW_ERR);
        }
        if block.written != 0 && block.sop != sop {
            return Err(ERR::PIO_INCONSISTENT_SOP_ERR);
        }
        place.copy_from_slice(qwords);
        block.sop = sop;
        // There are eight qwords in a block, or `place` would be none.
        block.written |= (((1u16 << qwords.len()) - 1) << first) as u8;
        Ok(())
    }

    /// Makes packets of complete blocks. Write combining may bring blocks in any order, so a packet is complete when all
    /// its blocks are; the first must have come through the start-of-packet view and the others must not.
    fn assemble(&mut self, vl_supported: impl Fn(u8) -> bool) -> Result<(), csr::Field> {
        loop {
            let Some(first) = self.blocks.get(self.fill) else { return Ok(()) };
            if first.in_use || first.written != 0xff {
                return Ok(());
            }
            if !first.sop {
                return Err(ERR::PIO_INCONSISTENT_SOP_ERR);
            }
            let pbc = Pbc(first.data[0]);
            let needed = usize::from(pbc.length().blocks().0.max(1));
            self.filled = self.filled.max(1);
            while self.filled < needed {
                let Some(block) = self.blocks.get(self.around(self.fill + self.filled)) else { return Ok(()) };
                if block.written != 0 && block.sop {
                    // The next packet begins within this one, or this one is longer than the whole buffer.
                    return Err(ERR::PIO_INCONSISTENT_SOP_ERR);
                }
                if block.in_use || block.written != 0xff {
                    return Ok(());
                }
                self.filled += 1;
            }
            self.take(pbc, needed, vl_supported(pbc.vl().0));
        }
    }

    /// The block at `index`, counted on around the end of the buffer, at most once.
    fn around(&self, index: usize) -> usize {
        index.checked_sub(self.blocks.len()).unwrap_or(index)
    }

    fn take(&mut self, pbc: Pbc, needed: usize, vl_supported: bool) {
        let bytes = pbc.length().bytes() as usize;
        // Without the PBC, there is room for the ICRC.
        let mut body = Vec::with_capacity(needed * 64);
        for i in 0..needed {
            let at = self.around(self.fill + i);
            if let Some(block) = self.blocks.get_mut(at) {
                block.in_use = true;
                // The PBC isn't part of the packet.
                let qwords = block.data.map(u64::to_le_bytes);
                body.extend_from_slice(qwords.get(usize::from(i == 0)..).unwrap_or_default().as_flattened());
            }
        }
        body.truncate(bytes.saturating_sub(8));
        self.fill = self.around(self.fill + needed);
        self.filled = 0;
        self.held += needed as u16;
        self.queue.push_back(Queued {
            packet: Outgoing { pbc, body, vl_supported },
            blocks: needed as u16,
            fault: None,
        });
    }

    /// Whether a packet has been begun and isn't complete.
    #[cfg(feature = "server")]
    pub fn in_packet(&self) -> bool {
        self.blocks.get(self.fill).is_some_and(|block| !block.in_use && block.written != 0)
    }

    /// The packet that goes next.
    pub fn front(&self) -> Option<&Outgoing> {
        self.queue.front().filter(|queued| queued.fault != Some(PioFault::Stall)).map(|queued| &queued.packet)
    }

    /// Takes the body out of the packet that goes next; its blocks stay in use until [`SendContext::launch`] or later.
    pub fn take_body(&mut self) -> Vec<u8> {
        self.queue.front_mut().map(|queued| std::mem::take(&mut queued.packet.body)).unwrap_or_default()
    }

    /// The packet at the front begins to go over the wire; `true` when its end must be told to [`SendContext::left`].
    ///
    /// With EARLY_RETURN its blocks are free now that it has been read out of them, otherwise once it is over the wire. That
    /// is INFERRED: the sources have no more than the bit's name (`hfi1_user.h HFI1_CAP_EARLY_CREDIT_RETURN`).
    pub fn launch(&mut self, board: &mut Board) -> bool {
        if CREDIT_CTRL::EARLY_RETURN.is_set(self.credit_ctrl) {
            self.leave(board);
            return false;
        }
        self.left(board);
        self.leaving = self.queue.pop_front();
        true
    }

    /// The packet that went over the wire is at its end.
    pub fn left(&mut self, board: &mut Board) {
        if let Some(queued) = self.leaving.take() {
            self.free(board, &queued);
        }
    }

    /// The packet at the front was read out, or dropped.
    pub fn leave(&mut self, board: &mut Board) {
        if let Some(queued) = self.queue.pop_front() {
            self.free(board, &queued);
        }
    }

    /// A packet's blocks are free, and credit may be due.
    fn free(&mut self, board: &mut Board, queued: &Queued) {
        let before = self.free;
        self.release(queued.blocks);
        if queued.fault == Some(PioFault::LostCredits) {
            self.free = before;
        }
        let waiting = self.free.wrapping_sub(self.returned) % CREDIT_MODULUS;
        if queued.packet.pbc.wants_credit_return() {
            self.return_credit(board, CreditReason::Pbc);
        } else if u64::from(waiting) >= CREDIT_CTRL::THRESHOLD.get(self.credit_ctrl) {
            self.return_credit(board, CreditReason::Threshold);
        }
    }

    /// Frees the blocks of the packet that was first.
    fn release(&mut self, blocks: u16) {
        self.held -= blocks;
        for _ in 0..blocks {
            if let Some(block) = self.blocks.get_mut(self.drain) {
                (block.in_use, block.written) = (false, 0);
                self.drain = self.around(self.drain + 1);
            }
        }
        self.free = (self.free + blocks) % CREDIT_MODULUS;
    }

    fn return_credit(&mut self, board: &mut Board, reason: CreditReason) {
        self.returned = self.free;
        let counter = match self.spoilt_return.take() {
            Some(PioFault::LostReturn) => return,
            Some(_) => self.free.wrapping_add(1000) % CREDIT_MODULUS,
            None => self.free,
        };
        let word = CreditReturn::new(Blocks(counter), self.halted, reason);
        let group = csr::SEND_CTXT_CREDIT_RETURN_ADDR::ADDRESS.mask() & self.credit_addr;
        let at = Iova(group).plus(8 * u64::from(self.number.0 & 7));
        // A fault here can't be told to anybody; it is counted with the other DMA faults.
        let _ = board.dma.write_u64(at, word.0);
        if CREDIT_CTRL::CREDIT_INTR.is_set(self.credit_ctrl) {
            board.raise(Source::send_credit(self.number));
        }
    }

    /// An error: the context halts, and the packets in it are lost.
    pub fn fail(&mut self, board: &mut Board, error: csr::Field) {
        // One interrupt for each rise of a bit: `chip.c:is_sendctxt_err_int` never clears the status, so a level would
        // interrupt for ever.
        let new = error.mask() & !self.err_status & self.err_mask != 0;
        self.err_status |= error.mask();
        self.halted = true;
        self.flush();
        self.return_credit(board, CreditReason::Error);
        if new {
            board.raise(Source::send_ctxt_error(self.number));
        }
    }
}
