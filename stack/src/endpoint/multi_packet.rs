//! Multi-packet eager messages: too long for one packet, too short to be worth asking for.

use super::Endpoint;
use super::multi_receive::Found;
use super::queues::Progress;
use super::rendezvous::Role;
use crate::Address;
use crate::completion::OperationError;
use crate::observe::counters::Tally;
use crate::observe::hmem::Medium;
use crate::operations::{Coming, Envelope, Incoming, Kept, Posted, SendKind, Target, Unexpected};
use crate::table::Handle;
use crate::thresholds::Protocol;
use opx_bus::PciFunction;
use opx_defs::time::Instant;
use opx_defs::units::Psn;
use opx_defs::wire::opx::{MpFirst, MpNth};

/// Such a message has found its place.
fn count(tally: &mut Tally, envelope: &Envelope, into: &Target, len: usize) {
    if let Target::Receive(Posted { buffer, .. }) = into
        && len <= buffer.room()
    {
        tally.hmem.received(Medium::Adapter, envelope.tag.is_some(), Protocol::MultiPacket, buffer, len);
    }
}

impl<B: PciFunction> Endpoint<B> {
    /// Sends the next packet of such a message.
    pub(super) fn send_nth(&mut self, now: Instant, to: Address, handle: Handle) -> Progress {
        let (way, chunk) = (self.models.to(to.into()), self.limits.chunk);
        let Some(send) = self.sends.get_mut(handle) else { return Progress::Done };
        let SendKind::MultiPacket { uid, sent } = send.kind else { return Progress::Done };
        let len = chunk.min(send.buffer.len() - sent);
        let begun = MpNth::begin(&way, uid, sent as u32, len);
        let Ok((mut header, payload)) = begun else { return Progress::Done };
        let slot = match self.reserve_work(now, to, Some(handle), payload) {
            Ok(slot) => slot,
            Err(progress) => {
                self.tally.nth_refused += 1;
                return progress;
            }
        };
        self.tally.nth_sent += 1;
        let mut more = false;
        // The table entry was there a moment ago and nothing in between removes any.
        if let Some(send) = self.sends.get_mut(handle) {
            let generation = self.config.generation;
            let data = send.buffer.gather(sent, len, &mut self.gathered);
            let nth = MpNth::of_in(generation, uid, sent as u32, data);
            nth.fill(generation, &mut header);
            self.slots.write_payload(slot.0, 0, nth.body);
            send.unacknowledged += 1;
            send.kind = SendKind::MultiPacket { uid, sent: sent + len };
            more = sent + len < send.buffer.len();
        }
        self.commit(slot, header, payload);
        if more { Progress::More } else { Progress::Done }
    }

    /// The first packet of such a message came.
    pub(super) fn first_packet(&mut self, uid: Psn, source: Address, first: &MpFirst<'_>) {
        self.tally.first_received += 1;
        let len = usize::from(first.message_len);
        let envelope = Envelope { tag: first.tag, data: first.cq_data, source };
        let into = match self.find_receive(&envelope, len as u64) {
            Found::Receive(posted) => Target::Receive(posted),
            Found::Part(part) => self.place(part, len),
            Found::TooLong => Target::Nowhere,
            Found::Nobody => Target::Early(vec![0; len]),
        };
        count(&mut self.tally, &envelope, &into, len);
        let unasked = matches!(into, Target::Early(_));
        let mut incoming = Incoming { into, envelope, len, missing: len as u64, coming: Coming::Assembled(uid) };
        // The decoder has checked that these are no more than the message.
        incoming.take(0, first.head);
        incoming.take(first.head.len() as u64, first.data);
        let done = incoming.missing == 0;
        let handle = match self.add_incoming(incoming) {
            Ok(handle) => handle,
            Err(incoming) => return self.fail_incoming(incoming, OperationError::Closed),
        };
        if unasked {
            self.keep(&envelope, Unexpected { data: envelope.data, what: Kept::MultiPacket { incoming: handle, len } });
        }
        if !done {
            self.assembling.insert((source, uid), handle);
            self.tally.most_assembling = self.tally.most_assembling.max(self.assembling.len() as u64);
            // The rest may never come: its sender may end in the middle.
            self.by_peer.insert((source, Role::Receiver, handle.0));
        } else if !unasked {
            self.tally.whole_with_first += 1;
            self.finish_receive(handle);
        }
    }

    /// A later packet came.
    pub(super) fn nth_packet(&mut self, source: Address, nth: &MpNth<'_>) {
        self.tally.nth_received += 1;
        let Some(&handle) = self.assembling.get(&(source, nth.uid)) else {
            self.tally.nth_unknown += 1;
            self.counters.stale += 1;
            return;
        };
        let Some(incoming) = self.incoming.get_mut(handle) else { return };
        let mut at = u64::from(nth.offset);
        for part in [nth.head, nth.body, nth.tail] {
            if !incoming.take(at, part) {
                self.counters.malformed += 1;
                return;
            }
            at += part.len() as u64;
        }
        if incoming.missing == 0 {
            self.assembling.remove(&(source, nth.uid));
            self.by_peer.remove(&(source, Role::Receiver, handle.0));
            if !matches!(incoming.into, Target::Early(_)) {
                self.tally.whole_with_nth += 1;
                self.finish_receive(handle);
            }
        }
    }

    /// A message of which at least the first packet has come is asked for.
    pub(super) fn claim_incoming(&mut self, handle: Handle, mut into: Target, source: Address) {
        let Some(incoming) = self.incoming.get_mut(handle) else {
            // It was given up with its sender.
            return self.fail_target(into, source, OperationError::Unreachable(source));
        };
        self.unasked = self.unasked - 1 + usize::from(into.is_unasked());
        self.parts += usize::from(into.is_part());
        if let Target::Early(early) = &incoming.into {
            into.write(0, early);
        }
        count(&mut self.tally, &incoming.envelope, &into, incoming.len);
        incoming.into = into;
        if incoming.missing == 0 {
            self.tally.whole_when_asked += 1;
            self.finish_receive(handle);
        }
    }

    /// Nobody will ask for a message of which at least the first packet has come: what is still to come is dropped.
    pub(super) fn drop_incoming(&mut self, handle: Handle) {
        // It is gone when it was given up with its sender.
        let Some(incoming) = self.incoming.get_mut(handle) else { return };
        incoming.into = Target::Nowhere;
        if incoming.missing == 0 {
            self.take_incoming(handle);
        }
    }
}
