//! The way in: packets from the header queue, through the reliability protocol, to the operations they belong to.

use super::multi_receive::Found;
use super::{Endpoint, Held, lid16};
use crate::Address;
use crate::buffer::Buffer;
use crate::completion::{Completion, OperationError};
use crate::observe::Event;
use crate::observe::hmem::Medium;
use crate::operations::{Coming, Envelope, Incoming, Kept, Matcher, Posted, Receive, Target, Unexpected};
use crate::table::Handle;
use crate::thresholds::Protocol;
use opx_bus::PciFunction;
use opx_defs::time::Instant;
use opx_defs::wire::opx::{DputOp, Header, Inject, Opcode, Packet, Ud};
use opx_hw::recv::PacketKind;
use opx_reliability::{Arrival, Verdict};

/// Packets taken from the header queue in one call, so that sending gets its turn.
const BATCH: usize = 64;

impl<B: PciFunction> Endpoint<B> {
    /// Takes packets from the header queue; `true` when there was one.
    pub(super) fn take_arrivals(&mut self, now: Instant) -> bool {
        let mut taken = 0;
        while taken < BATCH {
            let Some(received) = self.recv.poll() else { break };
            taken += 1;
            self.counters.packets_in += 1;
            let header = Header(self.recv.header(&received));
            let right = received.errors() == 0 && received.kind() == PacketKind::Eager;
            if right && received.payload_len() == 0 && self.receive_faults.is_off() {
                self.recv.release();
                self.take_packet(now, &header, &[]);
            } else if right && header.payload_len() <= self.scratch.len() {
                if self.config.lent_buffers != 0 && self.take_for_view(&received, &header) {
                    continue;
                }
                let mut scratch = std::mem::take(&mut self.scratch);
                let len = self.recv.copy_payload(&received, &mut scratch[..]);
                self.recv.release();
                self.with_faults(now, &header, &scratch[..len]);
                self.scratch = scratch;
                self.none_spare = false;
            } else if received.errors() == 0 && received.kind() == PacketKind::Expected && header.is_expected() {
                self.recv.release();
                for _ in 0..self.receive_faults.deal_placed() {
                    self.take_packet(now, &header, &[]);
                }
            } else {
                self.recv.release();
                self.counters.packets_in_error += 1;
                if received.errors() == 0 && received.kind() == PacketKind::Expected {
                    self.misplaced(&header);
                }
                self.watch_arrival(now, Event::Broken, &header, &[]);
            }
        }
        if self.expected.has_ending() {
            self.finish_ended(taken < BATCH);
        }
        if taken == 0 && !self.receive_faults.is_off() {
            // Nothing overtakes any more: what is held back comes late enough now.
            while let Some((header, payload)) = self.receive_faults.due(true) {
                self.take_packet(now, &header, &payload);
                taken += 1;
            }
        }
        taken > 0
    }

    fn with_faults(&mut self, now: Instant, header: &Header, payload: &[u8]) {
        if self.receive_faults.is_off() {
            return self.take_packet(now, header, payload);
        }
        for _ in 0..self.receive_faults.deal(header, payload) {
            self.take_packet(now, header, payload);
        }
        self.receive_faults.passed();
        while let Some((header, payload)) = self.receive_faults.due(false) {
            self.take_packet(now, &header, &payload);
        }
    }

    /// One good packet from the wire.
    fn take_packet(&mut self, now: Instant, header: &Header, payload: &[u8]) {
        let generation = self.config.generation;
        let arrival = header.arrival(generation);
        // Whoever it says that it is, an answer or a packet of a flow, it has left from there.
        let Some(arrival) = arrival.ok().filter(|arrival| lid16(arrival.origin.lid) == header.slid()) else {
            self.counters.malformed += 1;
            if header.is_expected() {
                self.misplaced(header);
            }
            return self.watch_arrival(now, Event::Malformed, header, payload);
        };
        let origin = arrival.origin;
        if arrival.opcode == Opcode::Ud {
            self.watch_arrival(now, Event::ServiceReceived, header, payload);
            match Ud::decode_in(generation, header, payload) {
                Ok(ud) => self.reliability.on_ud(now, origin, &ud),
                Err(_) => self.counters.malformed += 1,
            }
            return;
        }
        // Nothing is kept beyond the limit, even for a receive that waits: by its turn another packet may have taken that.
        let full = self.unexpected_bytes + payload.len() > self.config.unexpected_bytes;
        let crowded = self.unasked >= self.config.operations || self.parts >= self.config.operations;
        if (full || crowded) && self.must_wait(full, header, payload) {
            // Not taken at all: its sender will send it again.
            self.counters.no_room += 1;
            return self.watch_arrival(now, Event::NoRoom, header, payload);
        }
        // Data, or what is about it: the only packets that may be used early, and that ask for answers.
        let data = matches!(arrival.opcode, Opcode::RzvData | Opcode::RzvCts | Opcode::RmaRts);
        if data && self.owes_too_much(header, origin.into()) {
            self.counters.no_room += 1;
            return self.watch_arrival(now, Event::NoRoom, header, payload);
        }
        let spare = &mut self.spare;
        let hold = || {
            if full {
                return None;
            }
            let mut copy = spare.pop().unwrap_or_default();
            copy.clear();
            copy.extend_from_slice(payload);
            Some(Held { header: *header, payload: copy })
        };
        let early = data && header.is_free_of_order(generation);
        let numbered = Arrival { origin, psn: arrival.psn, ack_req: arrival.ack_req, early };
        let verdict = self.reliability.on_data(numbered, hold);
        self.watch_arrival(now, verdict.into(), header, payload);
        match verdict {
            Verdict::Deliver => {
                self.dispatch(arrival.opcode, header, payload, origin.into());
                self.deliver_held();
            }
            Verdict::ApplyEarly => self.dispatch_later(arrival.opcode, header, payload, origin.into()),
            Verdict::Held | Verdict::Duplicate | Verdict::Dropped(_) if header.is_expected() => {
                self.placed(origin.into(), header, false);
            }
            Verdict::Held | Verdict::Duplicate | Verdict::Dropped(_) => {}
        }
    }

    /// Packets that were held, and whose turn it is now.
    #[inline(always)]
    pub(super) fn deliver_held(&mut self) {
        while let Some((origin, held)) = self.reliability.next_in_order() {
            let opcode = held.header.opcode_in(self.config.generation);
            self.dispatch_later(opcode, &held.header, &held.payload, origin.into());
            if self.spare.len() < BATCH {
                self.spare.push(held.payload);
            }
        }
    }

    /// Whether a packet would open a message for which there is no room: one that nobody waits for, or one in pieces for a
    /// multi-receive.
    #[cold]
    fn must_wait(&self, full: bool, header: &Header, payload: &[u8]) -> bool {
        let (tag, whole) = match Packet::decode_in(self.config.generation, header, payload) {
            Ok(Packet::Inject(message)) => (message.tag, true),
            Ok(Packet::Eager(message)) => (message.tag, true),
            Ok(Packet::RzvRts(offer)) => (offer.tag, false),
            Ok(Packet::MpFirst(first)) => (first.tag, false),
            _ => return false,
        };
        self.has_to_wait(tag, header.origin_in(self.config.generation).into(), full, whole)
    }

    /// The same, of a message.
    #[cold]
    pub(super) fn has_to_wait(&self, tag: Option<u64>, source: Address, full: bool, whole: bool) -> bool {
        let matcher = self.matcher_of(tag);
        let most = self.config.operations;
        match matcher.find(tag.unwrap_or(0), source).and_then(|id| matcher.get(id)) {
            None => full || self.unasked >= most,
            Some(Receive::Many(_)) => !whole && self.parts >= most,
            Some(Receive::One(_)) => false,
        }
    }

    /// A packet whose turn it is: delivered exactly once and in order.
    #[inline(always)]
    fn dispatch(&mut self, opcode: Opcode, header: &Header, payload: &[u8], source: Address) {
        let generation = self.config.generation;
        if let Opcode::Inject(flavour) = opcode {
            match Inject::of_arrival(generation, header, flavour) {
                Ok(it) => self.message(Envelope { tag: it.tag, data: it.cq_data, source }, it.data, &[]),
                Err(_) => self.counters.malformed += 1,
            }
            return;
        }
        self.dispatch_other(header, payload, source);
    }

    /// The same, for what comes out of order: not part of every packet's way.
    #[inline(never)]
    fn dispatch_later(&mut self, opcode: Opcode, header: &Header, payload: &[u8], source: Address) {
        self.dispatch(opcode, header, payload, source);
    }

    #[inline(never)]
    pub(super) fn dispatch_other(&mut self, header: &Header, payload: &[u8], source: Address) {
        if header.is_expected() {
            return self.placed(source, header, true);
        }
        match Packet::decode_in(self.config.generation, header, payload) {
            Ok(Packet::Eager(it)) => {
                self.message(Envelope { tag: it.tag, data: it.cq_data, source }, it.tail, it.body);
            }
            Ok(Packet::MpFirst(first)) => self.first_packet(header.psn(), source, &first),
            Ok(Packet::MpNth(nth)) => self.nth_packet(source, &nth),
            Ok(Packet::RzvRts(rts)) => self.offered_on_wire(source, &rts),
            Ok(Packet::RzvCts(cts)) => self.clear_to_send(source, &cts),
            Ok(Packet::RzvData(data, bytes)) => self.data(source, Handle(data.target_cookie), data.rbuf, bytes),
            Ok(Packet::RzvTidCts(cts)) => self.clear_to_send_expected(source, &cts),
            Ok(Packet::Dput(dput, bytes)) if dput.op == DputOp::RzvTid => {
                self.replayed(Handle(dput.name));
                self.data(source, Handle(dput.name), dput.place, bytes);
            }
            Ok(packet) => self.dispatch_one_sided(source, &packet),
            Err(_) => self.counters.malformed += 1,
        }
    }

    /// What is asked of memory, and the answers. Everything else is no packet that is due.
    pub(super) fn dispatch_one_sided(&mut self, source: Address, packet: &Packet<'_>) {
        match packet {
            Packet::Dput(dput, bytes) => self.data_of_request(source, dput, bytes),
            Packet::RmaCts(cts) => self.request_of_peer(source, cts),
            Packet::RmaRts(rts) => self.write_offered(source, rts),
            _ => self.counters.malformed += 1,
        }
    }

    /// A whole message, in two parts.
    #[inline(always)]
    fn message(&mut self, envelope: Envelope, head: &[u8], body: &[u8]) {
        match self.find_receive(&envelope, (head.len() + body.len()) as u64) {
            Found::Receive(posted) => self.complete_receive(posted, envelope, Medium::Adapter, head, body),
            found => self.other_message(found, envelope, head, body),
        }
    }

    /// The same, for one that goes to no receive of its own.
    #[inline(never)]
    fn other_message(&mut self, found: Found, envelope: Envelope, head: &[u8], body: &[u8]) {
        match found {
            Found::Part(part) => self.fill_part(part, envelope, head, body),
            Found::Receive(_) | Found::TooLong => {}
            Found::Nobody => {
                let what = Kept::Eager(Medium::Adapter, [head, body].concat());
                self.keep(&envelope, Unexpected { data: envelope.data, what });
            }
        }
    }

    pub(super) fn matcher_of(&self, tag: Option<u64>) -> &Matcher {
        if tag.is_some() { &self.tagged } else { &self.untagged }
    }

    pub(super) fn matcher_mut(&mut self, tag: Option<u64>) -> &mut Matcher {
        if tag.is_some() { &mut self.tagged } else { &mut self.untagged }
    }

    /// What a message of `len` bytes goes to; a place in a multi-receive is taken from then on.
    #[inline(always)]
    pub(super) fn find_receive(&mut self, envelope: &Envelope, len: u64) -> Found {
        if envelope.tag.is_none() && self.multi_receives.len() != 0 {
            return self.find_among_multi_receives(envelope, len);
        }
        match self.matcher_mut(envelope.tag).arrive(envelope.tag.unwrap_or(0), envelope.source) {
            Some(Receive::One(posted)) => Found::Receive(posted),
            // No multi-receive is posted.
            Some(Receive::Many(_)) | None => Found::Nobody,
        }
    }

    /// Keeps a message that nobody waits for.
    pub(super) fn keep(&mut self, envelope: &Envelope, message: Unexpected) {
        self.counters.unexpected_messages += 1;
        self.unexpected_bytes += message.footprint();
        self.tally.offers_kept += u64::from(matches!(message.what, Kept::Offer(_)));
        self.matcher_mut(envelope.tag).keep(envelope.tag.unwrap_or(0), envelope.source, message);
        self.tally.kept(envelope.tag.is_some(), self.matcher_of(envelope.tag).kept());
    }

    /// Copies a whole message into its buffer.
    #[inline(always)]
    pub(super) fn complete_receive(
        &mut self,
        mut posted: Posted,
        envelope: Envelope,
        medium: Medium,
        head: &[u8],
        body: &[u8],
    ) {
        let Buffer::Bytes(bytes) = &mut posted.buffer else {
            return self.complete_elsewhere(posted, envelope, medium, head, body);
        };
        let (len, room) = (head.len() + body.len(), bytes.len());
        if len > room {
            let error = OperationError::Truncated { message: len as u64, buffer: room as u64 };
            return self.fail(posted.context, error, posted.buffer);
        }
        bytes[..head.len()].copy_from_slice(head);
        if !body.is_empty() {
            bytes[head.len()..len].copy_from_slice(body);
        }
        self.received(posted, envelope, len);
    }

    /// The same for buffers that aren't bytes of the process' own.
    #[inline(never)]
    fn complete_elsewhere(&mut self, mut posted: Posted, envelope: Envelope, medium: Medium, head: &[u8], body: &[u8]) {
        let (len, room) = (head.len() + body.len(), posted.buffer.room());
        if len > room {
            let error = OperationError::Truncated { message: len as u64, buffer: room as u64 };
            return self.fail(posted.context, error, posted.buffer);
        }
        self.tally.hmem.received(medium, envelope.tag.is_some(), Protocol::Eager, &posted.buffer, len);
        posted.buffer.write(0, head);
        posted.buffer.write(head.len(), body);
        if let Buffer::View(view) = &mut posted.buffer {
            self.copied_whole(view);
        }
        self.received(posted, envelope, len);
    }

    /// A message that came in pieces is whole.
    pub(super) fn finish_receive(&mut self, handle: Handle) {
        let Some(incoming) = self.take_incoming(handle) else { return };
        let Incoming { into, envelope, len, coming, .. } = incoming;
        let mut posted = match into {
            Target::Receive(posted) => posted,
            Target::Part(_, part) => return self.part_received(part, envelope, len),
            Target::Early(_) | Target::Nowhere => return,
        };
        let room = posted.buffer.room();
        if len > room {
            self.tally.truncated += u64::from(matches!(coming, Coming::Assembled(_)));
            let error = OperationError::Truncated { message: len as u64, buffer: room as u64 };
            return self.fail(posted.context, error, posted.buffer);
        }
        if let Buffer::View(view) = &mut posted.buffer {
            view.filled();
            self.counters.copied_pieces += 1;
        }
        self.received(posted, envelope, len);
    }

    #[inline(always)]
    pub(super) fn received(&mut self, posted: Posted, envelope: Envelope, len: usize) {
        let Posted { context, buffer } = posted;
        let Envelope { tag, data, source } = envelope;
        self.counters.received_messages += 1;
        self.completions.push(Completion::Received { context, tag, data, source, len, buffer });
    }
}
