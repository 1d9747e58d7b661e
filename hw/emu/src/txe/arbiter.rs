//! The arbiter: whose packet goes next, whether it may, and what happens when the link has no room.

use super::{Txe, TxeEvent, VL15};
use crate::board::{Board, LogicalState};
use crate::event::Event;
use crate::packet::Packet;
use crate::stats::DropReason;
use crate::txe_pio::{Outgoing, SendContext};
use crate::txe_sdma::Engine;
use opx_defs::csr::{self, SEND_EGRESS_ERR_STATUS as EGRESS_ERR};
use opx_defs::source::Source;
use opx_defs::units::{SdmaEngine, SendCtxt};
use opx_defs::wire::pbc::Pbc;
use std::time::Duration;

/// Who a packet comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// A send context.
    Pio(SendCtxt),
    /// An SDMA engine.
    Sdma(SdmaEngine),
}

/// From a packet's last byte in the chip to its first on the wire.
const LAUNCH_LATENCY: Duration = Duration::from_nanos(100);

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

impl Txe {
    /// Asks for the next packet to go when the wire is free.
    pub(super) fn arm_egress(&mut self, board: &mut Board) {
        let open = csr::SEND_CTRL::SEND_ENABLE.is_set(self.ctrl) && !board.frozen && self.held.is_none();
        if open && !self.egress_pending && !self.ready.is_empty() {
            self.egress_pending = true;
            let at = self.free_at.max(board.now + LAUNCH_LATENCY);
            board.events.at(at, Event::Txe(TxeEvent::Egress));
        }
    }

    pub(super) fn front(&self, sender: Sender) -> Option<&Outgoing> {
        match sender {
            Sender::Pio(number) => self.contexts.get(usize::from(number.0))?.front(),
            Sender::Sdma(number) => self.engines.get(usize::from(number.0))?.front(),
        }
    }

    /// The packet at a sender's front goes over the wire, until `free_at`.
    fn launch(&mut self, board: &mut Board, sender: Sender) {
        let Sender::Pio(number) = sender else { return self.leave(board, sender) };
        if self.contexts.get_mut(usize::from(number.0)).is_some_and(|context| context.launch(board)) {
            board.events.at(self.free_at, Event::Txe(TxeEvent::Left(number)));
        }
        self.relist(sender);
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
    pub(super) fn egress(&mut self, board: &mut Board) {
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
                board.counts.sdma_packets += u64::from(matches!(sender, Sender::Sdma(_)));
                if pbc.wants_interrupt() {
                    board.raise(Source::PBC);
                }
                self.launch(board, sender);
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

    /// Drops the held packet when its sender was restarted under it.
    pub(super) fn forget_held(&mut self, sender: Sender) {
        if matches!(&self.held, Some((held, _)) if *held == sender) && self.front(sender).is_none() {
            self.held = None;
        }
    }
}

/// Puts the ICRC on. Bypass packets bring their own tail.
fn seal(pbc: Pbc, body: Vec<u8>) -> Packet {
    if pbc.is_bypass() {
        Packet { bytes: body, vl: pbc.vl(), sc4: pbc.sc4(), bypass: true }
    } else {
        Packet::seal(body, pbc.vl(), pbc.sc4(), false, pbc.test_bad_icrc())
    }
}
