//! The way in: packets from the header queue, through the reliability protocol, to the operations they belong to.

use super::transmit::Answering;
use super::{Endpoint, Held, lid16};
use crate::Address;
use crate::completion::{Completion, OperationError};
use crate::operations::{Grant, Incoming, Offer, Posted, SendKind, Unexpected};
use crate::table::Handle;
use opx_bus::PciFunction;
use opx_defs::time::Instant;
use opx_defs::wire::opx::{Answer, Header, Iov, Opcode, Packet, RzvCts, RzvRts, Ud};
use opx_hw::recv::PacketKind;
use opx_reliability::{Arrival, Verdict};

/// Packets taken from the header queue in one call, so that sending gets its turn.
const BATCH: usize = 64;
/// Pieces that a receiver may have asked for and not got yet.
const MOST_GRANTS: usize = 128;

impl<B: PciFunction> Endpoint<B> {
    /// Takes packets from the header queue; `true` when there was one.
    pub(super) fn receive(&mut self, now: Instant) -> bool {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut taken = 0;
        while taken < BATCH {
            let Some(received) = self.recv.poll() else { break };
            taken += 1;
            self.counters.packets_in += 1;
            let header = Header(self.recv.header(&received));
            let right = received.errors() == 0 && received.kind() == PacketKind::Eager;
            let usable = right && header.payload_len() <= scratch.len();
            let len = if usable { self.recv.copy_payload(&received, &mut scratch[..]) } else { 0 };
            self.recv.release();
            if usable {
                self.with_faults(now, header, &scratch[..len]);
            } else {
                self.counters.packets_in_error += 1;
            }
        }
        if taken == 0 && !self.receive_faults.is_off() {
            // Nothing overtakes any more: what is held back comes late enough now.
            while let Some((header, payload)) = self.receive_faults.due(true) {
                self.take_packet(now, header, &payload);
                taken += 1;
            }
        }
        self.scratch = scratch;
        taken > 0
    }

    fn with_faults(&mut self, now: Instant, header: Header, payload: &[u8]) {
        if self.receive_faults.is_off() {
            return self.take_packet(now, header, payload);
        }
        for _ in 0..self.receive_faults.deal(&header, payload) {
            self.take_packet(now, header, payload);
        }
        self.receive_faults.passed();
        while let Some((header, payload)) = self.receive_faults.due(false) {
            self.take_packet(now, header, &payload);
        }
    }

    /// One good packet from the wire.
    fn take_packet(&mut self, now: Instant, header: Header, payload: &[u8]) {
        let origin = header.origin_in(self.config.generation);
        // Whoever it says that it is, an answer or a packet of a flow, it has left from there.
        if header.validate_in(self.config.generation).is_err() || lid16(origin.lid) != header.slid() {
            self.counters.malformed += 1;
            return;
        }
        if header.opcode() == Opcode::Ud {
            match Ud::decode_in(self.config.generation, &header, payload) {
                Ok(ud) => self.reliability.on_ud(now, origin, &ud),
                Err(_) => self.counters.malformed += 1,
            }
            return;
        }
        if self.has_no_room_for(&header, payload) {
            // Not taken at all: its sender will send it again.
            self.counters.no_room += 1;
            return;
        }
        // Nothing is kept beyond the limit, even for a receive that waits: by its turn another packet may have taken that.
        let full = self.unexpected_bytes + payload.len() > self.config.unexpected_bytes;
        let spare = &mut self.spare;
        let hold = || {
            if full {
                return None;
            }
            let mut copy = spare.pop().unwrap_or_default();
            copy.clear();
            copy.extend_from_slice(payload);
            Some(Held { header, payload: copy })
        };
        let early = header.opcode() == Opcode::RzvData;
        let arrival = Arrival { origin, psn: header.psn(), ack_req: header.ack_req(), early };
        match self.reliability.on_data(arrival, hold) {
            Verdict::ApplyEarly => self.dispatch(&header, payload),
            Verdict::Deliver => {
                self.dispatch(&header, payload);
                while let Some((_, held)) = self.reliability.next_in_order() {
                    self.dispatch(&held.header, &held.payload);
                    if self.spare.len() < BATCH {
                        self.spare.push(held.payload);
                    }
                }
            }
            Verdict::Held | Verdict::Duplicate | Verdict::Dropped(_) => {}
        }
    }

    /// Whether a packet would open an unexpected message beyond the limit.
    fn has_no_room_for(&self, header: &Header, payload: &[u8]) -> bool {
        if self.unexpected_bytes + payload.len() <= self.config.unexpected_bytes {
            return false;
        }
        let tag = match Packet::decode_in(self.config.generation, header, payload) {
            Ok(Packet::Inject(message)) => message.tag,
            Ok(Packet::Eager(message)) => message.tag,
            Ok(Packet::RzvRts(offer)) => offer.tag,
            _ => None,
        };
        let source = header.origin_in(self.config.generation).into();
        tag.is_some_and(|tag| !self.matcher.would_match(tag, source))
    }

    /// A packet whose turn it is: delivered exactly once and in order.
    fn dispatch(&mut self, header: &Header, payload: &[u8]) {
        let source = Address::from(header.origin_in(self.config.generation));
        match Packet::decode_in(self.config.generation, header, payload) {
            Ok(Packet::Inject(message)) => match message.tag {
                Some(tag) => self.message(tag, source, &[message.data]),
                None => self.counters.malformed += 1,
            },
            Ok(Packet::Eager(message)) => match message.tag {
                Some(tag) => self.message(tag, source, &[message.tail, message.body]),
                None => self.counters.malformed += 1,
            },
            Ok(Packet::RzvRts(offer)) => self.offer(source, &offer),
            Ok(Packet::RzvCts(cts)) => self.clear_to_send(source, &cts),
            Ok(Packet::RzvData(data, bytes)) => self.data(source, Handle(data.target_cookie), data.rbuf, bytes),
            // Multi-packet eager messages, expected receive and RMA aren't built yet; nothing here sends them.
            Ok(_) | Err(_) => self.counters.malformed += 1,
        }
    }

    /// A whole message, in parts.
    fn message(&mut self, tag: u64, source: Address, parts: &[&[u8]]) {
        match self.matcher.arrive(tag, source) {
            Some(posted) => self.complete_receive(posted, tag, source, parts),
            None => self.keep(tag, source, Unexpected::Eager(parts.concat())),
        }
    }

    fn keep(&mut self, tag: u64, source: Address, message: Unexpected) {
        self.counters.unexpected_messages += 1;
        self.unexpected_bytes += message.footprint();
        self.matcher.keep(tag, source, message);
    }

    /// Copies a whole message into its buffer.
    pub(super) fn complete_receive(&mut self, posted: Posted, tag: u64, source: Address, parts: &[&[u8]]) {
        let Posted { context, mut buffer } = posted;
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > buffer.len() {
            let error = OperationError::Truncated { message: len as u64, buffer: buffer.len() as u64 };
            return self.fail(context, error, buffer);
        }
        let mut at = 0;
        for part in parts {
            buffer[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.counters.received_messages += 1;
        self.completions.push_back(Completion::Received { context, tag, source, len, buffer });
    }

    /// A rendezvous offer.
    fn offer(&mut self, source: Address, rts: &RzvRts<'_>) {
        let Some(tag) = rts.tag else {
            self.counters.malformed += 1;
            return;
        };
        let immediate = &rts.immediate;
        let block = immediate.block.map_or(&[][..], |block| &block[..]);
        let offer = Offer {
            len: rts.len,
            origin_counter: rts.origin_counter,
            src_vaddr: rts.src_vaddr,
            src_device: rts.src_device,
            src_iface: rts.src_iface,
            immediate: [immediate.bytes, immediate.qwords, block].concat(),
        };
        match self.matcher.arrive(tag, source) {
            Some(posted) => self.accept(posted, tag, source, &offer),
            None => self.keep(tag, source, Unexpected::Offer(offer)),
        }
    }

    /// Takes a rendezvous offer for a receive: asks for the data, or says that it doesn't fit.
    pub(super) fn accept(&mut self, posted: Posted, tag: u64, source: Address, offer: &Offer) {
        let Posted { context, mut buffer } = posted;
        if offer.len > buffer.len() as u64 {
            // An OPX sender without a counter would follow a null pointer on this answer.
            if offer.origin_counter != 0 {
                self.unanswered.push_back(Answering::truncated(source, offer.origin_counter));
            }
            let error = OperationError::Truncated { message: offer.len, buffer: buffer.len() as u64 };
            return self.fail(context, error, buffer);
        }
        // The decoder has checked that what came along is part of the length.
        let sent_along = offer.immediate.len();
        let missing = offer.len - sent_along as u64;
        buffer[..sent_along].copy_from_slice(&offer.immediate);
        let len = offer.len as usize;
        let incoming = Incoming { context, tag, source, buffer, len, missing };
        match self.incoming.insert(incoming) {
            Ok(handle) if missing > 0 => {
                let iov = Iov {
                    rbuf: sent_along as u64,
                    sbuf: offer.src_vaddr,
                    bytes: missing,
                    sbuf_device: offer.src_device,
                    sbuf_iface: offer.src_iface as u32,
                };
                self.unanswered.push_back(Answering::send(source, offer.origin_counter, handle, iov));
            }
            Ok(handle) => self.finish_receive(handle),
            // There is a place for every posted receive, see `tag_receive`.
            Err(incoming) => self.fail(incoming.context, OperationError::Closed, incoming.buffer),
        }
    }

    /// The receiver's answer to an offer of ours.
    fn clear_to_send(&mut self, source: Address, cts: &RzvCts) {
        let handle = Handle(cts.origin_counter);
        let Some(send) = self.sends.get_mut(handle).filter(|send| send.to == source) else {
            self.counters.stale += 1;
            return;
        };
        let buffer = send.buffer.len() as u64;
        let SendKind::Rendezvous { grants, ungranted, truncated } = &mut send.kind else {
            self.counters.stale += 1;
            return;
        };
        match cts.answer {
            Answer::Truncated => {
                grants.clear();
                *truncated = true;
                self.finish_send(handle);
            }
            Answer::Send { target_cookie, iov, second, .. } => {
                let was_idle = grants.is_empty();
                for piece in [Some(iov), second].into_iter().flatten() {
                    let inside = piece.sbuf.checked_add(piece.bytes).is_some_and(|end| end <= buffer);
                    if !inside || piece.bytes == 0 || piece.bytes > *ungranted || grants.len() >= MOST_GRANTS {
                        self.counters.malformed += 1;
                        continue;
                    }
                    *ungranted -= piece.bytes;
                    grants.push_back(Grant {
                        cookie: target_cookie,
                        rbuf: piece.rbuf,
                        from: piece.sbuf as usize,
                        left: piece.bytes as usize,
                    });
                }
                if was_idle && !grants.is_empty() {
                    self.sending.push_back(handle);
                }
            }
        }
    }

    /// Data of a rendezvous that we asked for.
    fn data(&mut self, source: Address, handle: Handle, at: u64, bytes: &[u8]) {
        let Some(incoming) = self.incoming.get_mut(handle).filter(|incoming| incoming.source == source) else {
            self.counters.stale += 1;
            return;
        };
        let room = usize::try_from(at).ok().and_then(|at| incoming.buffer.get_mut(..incoming.len)?.get_mut(at..));
        match room {
            Some(room) if bytes.len() <= room.len() && bytes.len() as u64 <= incoming.missing => {
                room[..bytes.len()].copy_from_slice(bytes);
                incoming.missing -= bytes.len() as u64;
                if incoming.missing == 0 {
                    self.finish_receive(handle);
                }
            }
            _ => self.counters.malformed += 1,
        }
    }

    fn finish_receive(&mut self, handle: Handle) {
        if let Some(incoming) = self.incoming.remove(handle) {
            let Incoming { context, tag, source, len, buffer, .. } = incoming;
            self.counters.received_messages += 1;
            self.completions.push_back(Completion::Received { context, tag, source, len, buffer });
        }
    }
}
