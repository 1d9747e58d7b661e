//! Messages that are lent: a packet whose message goes to a view leaves its eager buffer to the view.

use super::{Endpoint, Held, lid16};
use crate::buffer::Buffer;
use crate::matching::PostId;
use crate::operations::{Envelope, Posted, Receive};
use crate::view::{Head, View};
use opx_bus::PciFunction;
use opx_defs::wire::opx::{Eager, Header, INJECT_MAX_BYTES, Opcode};
use opx_hw::recv::{Lent, Received};
use opx_reliability::{Arrival, Verdict};

/// A packet that a view waits for.
struct Lendable {
    receive: PostId,
    envelope: Envelope,
    arrival: Arrival,
    /// The message's first bytes, which are in the header, and how many follow in the payload.
    head: Head,
    body: usize,
}

impl<B: PciFunction> Endpoint<B> {
    /// Takes a good packet whose message goes to a view, if there is an eager buffer to spare. `false` when it has to be copied:
    /// then nothing has been done.
    #[inline(never)]
    pub(super) fn take_for_view(&mut self, received: &Received, header: &Header) -> bool {
        // Faults are put into copies.
        if !self.receive_faults.is_off() {
            return false;
        }
        let Some(packet) = self.lendable(received, header) else { return false };
        let Ok(lent) = self.recv.lend(received) else {
            self.none_spare = true;
            return false;
        };
        self.recv.release();
        self.take_lent(header, &packet, lent);
        true
    }

    /// Whether a packet is long enough to be lent, and is for a view, if it is its turn.
    fn lendable(&self, received: &Received, header: &Header) -> Option<Lendable> {
        let generation = self.config.generation;
        let Opcode::Eager(_) = header.opcode_in(generation) else { return None };
        // The payload's length is looked at, not the payload.
        let stand_in = self.scratch.get(..received.payload_len())?;
        let message = Eager::decode_in(generation, header, stand_in).ok()?;
        let (tag, len) = (message.tag, message.message_len());
        // The decoder has found it valid. `Header::arrival` has one caller only, so that it is part of it.
        let origin = header.origin_in(generation);
        if self.is_short(len) || lid16(origin.lid) != header.slid() {
            return None;
        }
        let envelope = Envelope { tag, data: message.cq_data, source: origin.into() };
        let matcher = self.matcher_of(tag);
        let receive = matcher.find(tag.unwrap_or(0), envelope.source)?;
        let Receive::One(Posted { buffer: Buffer::View(view), .. }) = matcher.get(receive)? else { return None };
        // The others fail, and need no buffer for that.
        (len <= view.room()).then_some(())?;
        let head = Head::new(message.tail);
        let arrival = Arrival { origin, psn: header.psn(), ack_req: header.ack_req(), early: false };
        Some(Lendable { receive, envelope, arrival, head, body: message.body.len() })
    }

    fn is_short(&self, len: usize) -> bool {
        len < self.config.lent_min.max(INJECT_MAX_BYTES + 1)
    }

    /// A packet that has been lent; when it isn't its turn it is copied after all. As [`Endpoint::take_packet`], for a message that a
    /// receive waits for.
    fn take_lent(&mut self, header: &Header, packet: &Lendable, mut lent: Lent) {
        let full = self.unexpected_bytes + lent.len() > self.config.unexpected_bytes;
        let spare = &mut self.spare;
        let hold = || {
            if full {
                return None;
            }
            let mut copy = spare.pop().unwrap_or_default();
            copy.resize(lent.len(), 0);
            lent.read(0, &mut copy);
            Some(Held { header: *header, payload: copy })
        };
        let verdict = self.reliability.on_data(packet.arrival, hold);
        self.watch_lent(verdict.into(), header, &lent);
        if verdict == Verdict::Deliver {
            lent.truncate(packet.body);
            self.deliver_lent(packet, lent);
            self.deliver_held();
        }
    }

    fn deliver_lent(&mut self, packet: &Lendable, lent: Lent) {
        let envelope = packet.envelope;
        // It was there when the packet was looked at, and nothing since has taken any.
        let Some(Receive::One(Posted { context, mut buffer })) = self.matcher_mut(envelope.tag).take(packet.receive)
        else {
            return;
        };
        if let Buffer::View(view) = &mut buffer {
            view.put(packet.head, lent);
        }
        self.counters.lent_messages += 1;
        self.received(Posted { context, buffer }, envelope, packet.head.bytes().len() + packet.body);
    }

    /// A view has got a copy of a message that came in one packet.
    #[cold]
    pub(super) fn copied_whole(&mut self, view: &mut View) {
        view.filled();
        let why = if self.is_short(view.len()) {
            &mut self.counters.copied_short
        } else if self.none_spare {
            &mut self.counters.copied_none_spare
        } else {
            &mut self.counters.copied_early
        };
        *why += 1;
        // What is delivered behind this packet came before its turn.
        self.none_spare = false;
    }
}
