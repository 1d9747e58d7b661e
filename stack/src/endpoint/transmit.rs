//! The way out: packets into slots, slots to the adapter, replays, acknowledgements.

use super::Endpoint;
use crate::Address;
use crate::completion::{Completion, OperationError};
use crate::config::MAX_PAYLOAD;
use crate::error::EndpointError;
use crate::operations::{Grant, SendError, SendKind};
use crate::slots::SlotId;
use crate::table::Handle;
use opx_bus::PciFunction;
use opx_defs::time::Instant;
use opx_defs::wire::opx::{Answer, Header, Iov, Opcode, Origin, Padding, RzvCts, RzvData, RzvOp, UdOp};
use opx_pio::{Head, PioError};
use opx_reliability::{Event, SendError as Refused, Transmit};
use opx_sdma::{Fragment, Outcome, SdmaError};

/// The answer to a rendezvous offer, until there is room to send it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answering {
    pub(super) to: Address,
    pub(super) cts: RzvCts,
}

impl Answering {
    /// Asks for `bytes` from `sbuf` on, to be put at `rbuf`.
    pub(super) fn send(to: Address, origin_counter: u64, cookie: Handle, iov: Iov) -> Self {
        let answer = Answer::Send { op: RzvOp::Rzv, target_cookie: cookie.0, iov, second: None };
        Self { to, cts: RzvCts { origin_counter, answer } }
    }

    /// Tells that the receive buffer is too small.
    pub(super) fn truncated(to: Address, origin_counter: u64) -> Self {
        Self { to, cts: RzvCts { origin_counter, answer: Answer::Truncated } }
    }
}

impl<B: PciFunction> Endpoint<B> {
    /// Puts a packet with the first `payload` bytes of `scratch` in line for sending.
    pub(super) fn post(
        &mut self,
        now: Instant,
        to: Address,
        operation: Option<Handle>,
        header: Header,
        payload: usize,
    ) -> Result<(), SendError> {
        let slot = self.reserve(now, to, operation, payload)?;
        self.slots.write_payload(slot.0, 0, &self.scratch[..payload]);
        self.commit(slot, header, payload);
        Ok(())
    }

    /// Takes a slot and a sequence number for a packet, or neither.
    fn reserve(
        &mut self,
        now: Instant,
        to: Address,
        operation: Option<Handle>,
        payload: usize,
    ) -> Result<(SlotId, opx_defs::units::Psn), SendError> {
        let slot = self.slots.take(operation).ok_or(SendError::Again(to))?;
        match self.reliability.send(now, Origin::from(to), payload as u32, |_| slot) {
            Ok(psn) => Ok((slot, psn)),
            Err(refused) => {
                self.slots.untake(slot);
                Err(match refused {
                    Refused::Unreachable { .. } => SendError::Unreachable(to),
                    Refused::TooManyPeers { limit } => SendError::TooManyPeers(limit),
                    Refused::LinkDown => SendError::LinkDown(to),
                    _ => SendError::Again(to),
                })
            }
        }
    }

    fn commit(&mut self, (slot, psn): (SlotId, opx_defs::units::Psn), mut header: Header, payload: usize) {
        header.set_psn(psn);
        self.slots.seal(slot, header.pbc(self.config.vl), header.as_bytes(), payload as u32);
        self.outbox.push_back(slot);
    }

    /// Sends what rendezvous need sent: answers first, then data, each transfer in turn.
    pub(super) fn pump(&mut self, now: Instant) -> bool {
        let mut busy = false;
        // Each once: a peer that takes nothing must not hold up the answers to others.
        for _ in 0..self.unanswered.len() {
            let Some(answering) = self.unanswered.pop_front() else { break };
            let route = self.route(answering.to);
            let Ok((header, payload)) = answering.cts.encode(&route, &mut self.scratch[..]) else { continue };
            match self.post(now, answering.to, None, header, payload) {
                Err(SendError::Again(_)) => self.unanswered.push_back(answering),
                Ok(()) | Err(_) => busy = true,
            }
        }
        // One packet a turn; the round ends when a whole round sent nothing.
        let mut blocked = 0;
        while blocked < self.sending.len() {
            let Some(handle) = self.sending.pop_front() else { break };
            match self.send_piece(now, handle) {
                Piece::Sent => {
                    self.sending.push_back(handle);
                    (busy, blocked) = (true, 0);
                }
                Piece::Again => {
                    self.sending.push_back(handle);
                    blocked += 1;
                }
                Piece::Nothing => {}
            }
        }
        busy
    }

    /// Sends the next packet of a rendezvous.
    fn send_piece(&mut self, now: Instant, handle: Handle) -> Piece {
        let Some(send) = self.sends.get_mut(handle) else { return Piece::Nothing };
        let to = send.to;
        let SendKind::Rendezvous { grants, .. } = &send.kind else { return Piece::Nothing };
        let Some(&grant) = grants.front() else { return Piece::Nothing };
        let len = grant.left.min(MAX_PAYLOAD);
        let padding = if len > self.config.pio_max { Padding::Qword } else { Padding::Block };
        let padded = padding.pad(len);
        let data = RzvData {
            op: RzvOp::Rzv,
            target_cookie: grant.cookie,
            rbuf: grant.rbuf,
            len: len as u16,
            ack_req: len == grant.left,
        };
        let Ok(header) = data.encode(&self.route(to), padding) else { return Piece::Nothing };
        let slot = match self.reserve(now, to, Some(handle), padded) {
            Ok(slot) => slot,
            Err(SendError::Again(_)) => return Piece::Again,
            Err(_) => return Piece::Nothing,
        };
        // The table entry was there a moment ago and nothing in between removes any.
        if let Some(send) = self.sends.get_mut(handle) {
            self.slots.write_payload(slot.0, 0, &send.buffer[grant.from..grant.from + len]);
            self.slots.pad_payload(slot.0, len, padded - len);
            send.unacknowledged += 1;
            if let SendKind::Rendezvous { grants, .. } = &mut send.kind {
                match grants.front_mut() {
                    Some(front) if front.left > len => {
                        *front = Grant {
                            rbuf: front.rbuf.wrapping_add(len as u64),
                            from: front.from + len,
                            left: front.left - len,
                            ..*front
                        };
                    }
                    _ => {
                        grants.pop_front();
                    }
                }
            }
        }
        self.commit(slot, header, padded);
        Piece::Sent
    }

    /// Runs the reliability protocol: timers, replays, acknowledgements, peers given up.
    pub(super) fn run_protocol(&mut self, now: Instant) -> bool {
        let mut busy = false;
        if self.reliability.poll_timeout().is_some_and(|timer| now >= timer) {
            self.reliability.on_timeout(now);
            busy = true;
        }
        while let Some(transmit) = self.reliability.poll_transmit(now) {
            busy = true;
            match transmit {
                Transmit::Replay { packet: &slot, .. } => {
                    // A packet that hasn't left yet needs no second place in line.
                    if !self.slots.is_queued(slot) {
                        self.slots.queue(slot);
                        self.outbox.push_back(slot);
                        self.counters.retransmits += 1;
                        match self.slots.header(slot).opcode_in(self.config.generation) {
                            Opcode::RzvRts(_) => self.counters.replay_rts += 1,
                            Opcode::RzvCts => self.counters.replay_cts += 1,
                            Opcode::RzvData => self.counters.replay_rzv += 1,
                            _ => {}
                        }
                    }
                }
                Transmit::Ud { peer, ud } => {
                    let header = ud.encode(&self.route(peer.into()));
                    if self.pio.send(&Head::new(header.pbc(self.config.vl), &header), &[]).is_err() {
                        self.counters.service_dropped += 1;
                        if ud.op == UdOp::Ping {
                            self.reliability.ping_lost();
                        }
                    }
                }
            }
        }
        // Before the releases: the packets of a peer that was given up come back as well, and weren't acknowledged.
        while let Some(event) = self.reliability.poll_event() {
            busy = true;
            match event {
                Event::PeerUnreachable { peer, .. } => {
                    log::warn!("{}: {} doesn't answer", self.hfi.bus().name(), Address::from(peer));
                    self.give_up(|with| with == Address::from(peer));
                }
                Event::LinkLost => {
                    log::error!(
                        "{}: the link has been down for {:?}: what was being sent fails",
                        self.hfi.bus().name(),
                        self.config.reliability.link_down_wait
                    );
                    // Also what has nothing outstanding and waits for its peer.
                    self.give_up(|_| true);
                }
                Event::PeerOutOfStep { peer } => log::warn!(
                    "{}: {} is out of step: it talked to an earlier owner of this address; start it anew",
                    self.hfi.bus().name(),
                    Address::from(peer)
                ),
            }
        }
        while let Some(slot) = self.reliability.poll_released() {
            busy = true;
            if let Some(handle) = self.slots.acknowledged(slot) {
                self.packet_acknowledged(handle);
            }
        }
        busy
    }

    fn packet_acknowledged(&mut self, handle: Handle) {
        if let Some(send) = self.sends.get_mut(handle) {
            send.unacknowledged = send.unacknowledged.saturating_sub(1);
            self.finish_send(handle);
        }
    }

    /// Completes a send if all of it is done.
    pub(super) fn finish_send(&mut self, handle: Handle) {
        if self.sends.get_mut(handle).is_some_and(|send| send.is_done())
            && let Some(send) = self.sends.remove(handle)
        {
            self.completions.push_back(Completion::Sent { context: send.context, buffer: send.buffer });
        }
    }

    /// Fails every operation with peers that can't be reached.
    fn give_up(&mut self, with: impl Fn(Address) -> bool) {
        for handle in self.sends.handles() {
            if self.sends.get_mut(handle).is_some_and(|send| with(send.to))
                && let Some(send) = self.sends.remove(handle)
            {
                self.fail(send.context, OperationError::Unreachable(send.to), send.buffer);
            }
        }
        for handle in self.incoming.handles() {
            if self.incoming.get_mut(handle).is_some_and(|incoming| with(incoming.source))
                && let Some(incoming) = self.incoming.remove(handle)
            {
                self.fail(incoming.context, OperationError::Unreachable(incoming.source), incoming.buffer);
            }
        }
        self.unanswered.retain(|answering| !with(answering.to));
    }

    /// Writes packets to the adapter, in order, as far as it has room; takes back what it is done with.
    pub(super) fn flush(&mut self) -> Result<bool, EndpointError> {
        let mut busy = false;
        while let Some((slot, outcome)) = self.sdma.poll() {
            // Sent or failed is the same to the slot: only an acknowledgement says that the packet arrived.
            self.slots.engine_done(slot);
            // Packets that ended because the engine halted don't show that it works.
            self.sdma_done.0 += u64::from(outcome == Outcome::Sent);
            busy = true;
        }
        // What is written to a chip that has to be recovered from a freeze is lost.
        while let Some(&slot) = self.outbox.front().filter(|_| self.hfi.freezes() == self.freezes) {
            if !self.slots.is_retained(slot) {
                // Acknowledged while it waited to be sent again.
                self.outbox.pop_front();
                self.slots.written(slot, false);
                continue;
            }
            let payload = self.slots.payload(slot);
            // Behind packets that the engine still has, a short one goes by the engine too: it would overtake them, and a
            // receiver that sees a gap asks for what is only late.
            let by_engine = payload > self.config.pio_max || self.sdma.pending() > 0;
            let sent = if by_engine { self.send_by_sdma(slot) } else { self.send_by_pio(slot)? };
            if !sent {
                break;
            }
            self.outbox.pop_front();
            busy = true;
        }
        self.sdma.doorbell();
        Ok(busy)
    }

    fn send_by_sdma(&mut self, slot: SlotId) -> bool {
        let (iova, len) = self.slots.fragment(slot);
        match self.sdma.submit(&[Fragment::raw(iova, len)], slot) {
            Ok(()) => {
                self.slots.written(slot, true);
                true
            }
            Err((SdmaError::RingFull { .. }, _)) => {
                // The engine can only make room if it knows of what was queued.
                self.sdma.doorbell();
                false
            }
            Err((error, _)) => {
                log::error!("{}: {error}", self.hfi.bus().name());
                self.slots.written(slot, false);
                true
            }
        }
    }

    fn send_by_pio(&mut self, slot: SlotId) -> Result<bool, EndpointError> {
        let (memory, offset, payload) = self.slots.stored(slot);
        match self.pio.send_stored(memory, offset, payload) {
            Ok(()) => {
                self.slots.written(slot, false);
                Ok(true)
            }
            // An adapter that is gone is seen to where that is looked after.
            Err(PioError::NoCredit { .. } | PioError::Gone { .. }) => Ok(false),
            // Since this packet's turn began: the next progress recovers all of the endpoint.
            Err(PioError::Frozen { .. }) => Ok(false),
            Err(error @ (PioError::TooLong { .. } | PioError::Length { .. })) => {
                // The engine takes any packet.
                log::debug!("{}: {error}", self.hfi.bus().name());
                Ok(self.send_by_sdma(slot))
            }
            // All contexts of an adapter whose link went down need a restart, and can't have it before the link is up.
            Err(_) if !self.hfi.link_state().is_up() => Ok(false),
            Err(halted) => self.mend_send_context(&halted).map(|_| false),
        }
    }
}

/// What came of a turn.
enum Piece {
    /// A packet is in line.
    Sent,
    /// There was no room.
    Again,
    /// There is nothing to send.
    Nothing,
}
