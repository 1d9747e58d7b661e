//! Multi-packet eager messages: too long for one packet, too short to be worth asking for.

use super::Endpoint;
use super::queues::Progress;
use super::rendezvous::Role;
use crate::Address;
use crate::completion::OperationError;
use crate::operations::{Envelope, Incoming, Kept, Posted, SendKind, Unexpected};
use crate::table::Handle;
use opx_bus::PciFunction;
use opx_defs::time::Instant;
use opx_defs::units::Psn;
use opx_defs::wire::opx::{MpFirst, MpNth};

impl<B: PciFunction> Endpoint<B> {
    /// Sends the next packet of such a message.
    pub(super) fn send_nth(&mut self, now: Instant, to: Address, handle: Handle) -> Progress {
        let (route, chunk) = (self.route(to), self.chunk);
        let Some(send) = self.sends.get_mut(handle) else { return Progress::Done };
        let SendKind::MultiPacket { uid, sent } = send.kind else { return Progress::Done };
        let len = chunk.min(send.buffer.len() - sent);
        let data = send.buffer.gather(sent, len, &mut self.gathered);
        let nth = MpNth::of_in(self.config.generation, uid, sent as u32, data);
        let Ok((header, payload)) = nth.encode(&route, &mut self.scratch[..]) else { return Progress::Done };
        let slot = match self.reserve_work(now, to, Some(handle), payload) {
            Ok(slot) => slot,
            Err(progress) => return progress,
        };
        self.slots.write_payload(slot.0, 0, &self.scratch[..payload]);
        let mut more = false;
        if let Some(send) = self.sends.get_mut(handle) {
            send.unacknowledged += 1;
            send.kind = SendKind::MultiPacket { uid, sent: sent + len };
            more = sent + len < send.buffer.len();
        }
        self.commit(slot, header, payload);
        if more { Progress::More } else { Progress::Done }
    }

    /// The first packet of such a message came.
    pub(super) fn first_packet(&mut self, uid: Psn, source: Address, first: &MpFirst<'_>) {
        let len = usize::from(first.message_len);
        let envelope = Envelope { tag: first.tag, data: first.cq_data, source };
        let posted = self.find_receive(&envelope);
        let early = if posted.is_none() { vec![0; len] } else { Vec::new() };
        let mut incoming = Incoming { posted, envelope, early, len, missing: len as u64, uid: Some(uid) };
        // The decoder has checked that these are no more than the message.
        incoming.take(0, first.head);
        incoming.take(first.head.len() as u64, first.data);
        let (unasked, done) = (incoming.posted.is_none(), incoming.missing == 0);
        let handle = match self.incoming.insert(incoming) {
            Ok(handle) => handle,
            Err(incoming) => return self.fail_incoming(incoming, OperationError::Closed),
        };
        if unasked {
            self.unasked += 1;
            self.keep(&envelope, Unexpected { data: envelope.data, what: Kept::MultiPacket { incoming: handle, len } });
        }
        if !done {
            self.assembling.insert((source, uid), handle);
            // The rest may never come: its sender may end in the middle.
            self.by_peer.insert((source, Role::Receiver, handle.0));
        } else if !unasked {
            self.finish_receive(handle);
        }
    }

    /// A later packet came.
    pub(super) fn nth_packet(&mut self, source: Address, nth: &MpNth<'_>) {
        let Some(&handle) = self.assembling.get(&(source, nth.uid)) else {
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
            if incoming.posted.is_some() {
                self.finish_receive(handle);
            }
        }
    }

    /// A message of which at least the first packet has come is asked for.
    pub(super) fn claim_incoming(&mut self, handle: Handle, mut posted: Posted, source: Address) {
        let Some(incoming) = self.incoming.get_mut(handle) else {
            // It was given up with its sender.
            return self.fail(posted.context, OperationError::Unreachable(source), posted.buffer);
        };
        self.unasked -= 1;
        posted.buffer.write(0, &std::mem::take(&mut incoming.early));
        incoming.posted = Some(posted);
        if incoming.missing == 0 {
            self.finish_receive(handle);
        }
    }
}
