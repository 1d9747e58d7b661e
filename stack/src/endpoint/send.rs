//! What the owner sends: which protocol a message goes by, and its first packet.

use super::Endpoint;
use super::output::reserve;
use super::queues::Work;
use super::rendezvous::{self, Role};
use crate::Address;
use crate::buffer::Buffer;
use crate::completion::Level;
use crate::observe::hmem::Medium;
use crate::operations::{Along, Outgoing, Rejected, Send, SendError, SendKind, Source};
use crate::slots::SlotId;
use crate::table::Handle;
use crate::thresholds::Protocol;
use opx_bus::PciFunction;
use opx_defs::wire::opx::{INJECT_MAX_BYTES, MpFirst};
use std::collections::VecDeque;
use std::mem::take;

impl<B: PciFunction> Endpoint<B> {
    /// Sends `buffer` as an untagged message. The buffer comes back in the completion, which tells that the receiver's endpoint
    /// has all of it.
    ///
    /// # Errors
    /// [`SendError::Again`] when there is no room now; the buffer comes back with the error.
    #[inline]
    pub fn send(&mut self, to: Address, buffer: impl Into<Buffer>, context: u64) -> Result<(), Rejected<SendError>> {
        self.send_message(Outgoing::new(to, buffer, context))
    }

    /// Sends `buffer` as a message with `tag`.
    ///
    /// # Errors
    /// As [`Endpoint::send`].
    #[inline]
    pub fn tag_send(
        &mut self,
        to: Address,
        tag: u64,
        buffer: impl Into<Buffer>,
        context: u64,
    ) -> Result<(), Rejected<SendError>> {
        self.send_message(Outgoing { tag: Some(tag), ..Outgoing::new(to, buffer, context) })
    }

    /// Sends up to 16 bytes; they are copied and there is no completion.
    ///
    /// # Errors
    /// [`SendError::Again`] when there is no room now, [`SendError::TooLong`] for more than 16 bytes.
    pub fn inject(&mut self, to: Address, data: &[u8]) -> Result<(), SendError> {
        self.inject_message(to, None, None, data)
    }

    /// Sends up to 16 bytes with `tag`; they are copied and there is no completion.
    ///
    /// # Errors
    /// As [`Endpoint::inject`].
    #[inline]
    pub fn tag_inject(&mut self, to: Address, tag: u64, data: &[u8]) -> Result<(), SendError> {
        self.inject_message(to, Some(tag), None, data)
    }

    /// Sends up to 16 bytes with what else a message can carry; they are copied and there is no completion.
    ///
    /// # Errors
    /// As [`Endpoint::inject`].
    #[inline]
    pub fn inject_message(
        &mut self,
        to: Address,
        tag: Option<u64>,
        data: Option<u32>,
        message: &[u8],
    ) -> Result<(), SendError> {
        if !self.process.is_here() {
            return Err(SendError::Forked);
        }
        if let Some(peer) = self.local_peer(to)? {
            return self.inject_locally(peer, to, (tag, data), message);
        }
        let packet = self.models.inject().with_message(to.into(), tag, data, message);
        let Ok(mut block) = packet else { return Err(SendError::TooLong(message.len())) };
        let slot = self.reserve_on_wire(to, 0)?;
        block.set_psn(slot.1);
        self.send_block(slot.0, &block);
        // Counts of 64 bits don't wrap; saying so takes the check for it out of the short way.
        self.injected = self.injected.wrapping_add(1);
        Ok(())
    }

    /// Sends a message.
    ///
    /// # Errors
    /// As [`Endpoint::send`].
    #[inline]
    pub fn send_message(&mut self, mut message: Outgoing) -> Result<(), Rejected<SendError>> {
        let sent = match self.send_plain(&mut message) {
            Some(sent) => sent,
            None => self.send_otherwise(&mut message),
        };
        match sent {
            Ok(()) => {
                // Without its buffer there is nothing to be dropped.
                std::mem::forget(message);
                Ok(())
            }
            Err(error) => Err(Rejected { error, buffer: message.buffer }),
        }
    }

    /// Takes the buffer of a message that it accepts, of any kind.
    #[inline(never)]
    fn send_otherwise(&mut self, message: &mut Outgoing) -> Result<(), SendError> {
        if !self.process.is_here() {
            return Err(SendError::Forked);
        }
        if !self.has_completion_room() {
            return Err(SendError::Again(message.to));
        }
        if message.level == Level::Delivery {
            return Err(SendError::Delivery);
        }
        let local = self.local_peer(message.to)?;
        if (message.expect.is_some() || self.config.expect.is_some())
            && let Some(slower) = self.slower_than_expected(message)
        {
            return Err(SendError::Slower(slower));
        }
        match local {
            Some(peer) => self.send_locally(peer, message),
            None => {
                let sent = match self.limits.protocol(message.tag.is_some(), message.buffer.len()) {
                    Protocol::Eager => self.send_eager(message),
                    Protocol::MultiPacket => self.send_first(message),
                    Protocol::Rendezvous => self.send_offer(message),
                };
                self.counters.sent_messages = self.counters.sent_messages.wrapping_add(u64::from(sent.is_ok()));
                sent
            }
        }
    }

    /// A message in one packet.
    fn send_eager(&mut self, message: &mut Outgoing) -> Result<(), SendError> {
        let to = message.to;
        if !self.sends.has_room() {
            return Err(SendError::Again(to));
        }
        let len = message.buffer.len();
        let in_header = len <= INJECT_MAX_BYTES;
        let Outgoing { tag, data, .. } = *message;
        let made = match in_header {
            true => self.models.inject().for_header(to.into(), tag, data, len),
            false => self.models.eager().for_message(to.into(), tag, data, len),
        };
        let mut block = made.map_err(|_| SendError::TooLong(len))?;
        let payload = if in_header { 0 } else { len & !7 };
        let (slot, psn) = self.reserve(to, payload)?;
        block.set_psn(psn);
        self.tally.hmem.sent(Medium::Adapter, tag.is_some(), Protocol::Eager, &message.buffer);
        let bytes = message.buffer.gather(0, len, &mut self.gathered);
        if in_header {
            block.put_message(bytes);
        } else {
            let body = self.models.eager().put_tail(&mut block, bytes);
            self.slots.write_payload(slot, 0, body);
        }
        match message.level {
            Level::Inject => self.send_done(message.context, take(&mut message.buffer), message.silent),
            Level::Transmit | Level::Delivery => self.follow(slot, message, SendKind::Eager),
        }
        self.commit_block(slot, &block, payload, self.limits.by_engine(payload));
        Ok(())
    }

    /// The first packet of a message of several.
    fn send_first(&mut self, message: &mut Outgoing) -> Result<(), SendError> {
        let to = message.to;
        if !self.sends.has_room() {
            return Err(SendError::Again(to));
        }
        let (way, generation, chunk) = (self.models.to(to.into()), self.config.generation, self.limits.chunk);
        let len = message.buffer.len();
        let header = MpFirst::begin(&way, message.tag, message.data, len, chunk);
        let mut header = header.map_err(|_| SendError::TooLong(len))?;
        let slot = self.reserve(to, chunk).inspect_err(|_| self.tally.first_refused += 1)?;
        let sent = MpFirst::in_header(generation) + chunk;
        let bytes = message.buffer.gather(0, sent, &mut self.gathered);
        self.slots.write_payload(slot.0, 0, MpFirst::fill(generation, &mut header, bytes));
        self.tally.first_sent += 1;
        self.tally.hmem.sent(Medium::Adapter, message.tag.is_some(), Protocol::MultiPacket, &message.buffer);
        self.follow(slot.0, message, SendKind::MultiPacket { uid: slot.1, sent });
        if let Some(handle) = self.slots.operation(slot.0) {
            self.queues.push(to, Work::Transfer(handle));
            // What has left of it may be acknowledged while the rest waits, so it doesn't always fail with a packet.
            self.by_peer.insert((to, Role::Sender, handle.0));
        }
        self.commit(slot, header, chunk);
        Ok(())
    }

    /// The offer of a message that goes by rendezvous.
    fn send_offer(&mut self, message: &mut Outgoing) -> Result<(), SendError> {
        let (to, tag, data) = (message.to, message.tag, message.data);
        let along = rendezvous::sent_along(&self.config.thresholds, &message.buffer);
        let ungranted = (message.buffer.len() - along.bytes) as u64;
        let (grants, source) = (VecDeque::new(), Source::Unknown);
        let kind = SendKind::Rendezvous { grants, ungranted, along, source, truncated: false };
        let handle = match self.sends.insert(Send::new(message, kind)) {
            Ok(handle) => handle,
            Err(send) => {
                message.buffer = send.buffer;
                return Err(SendError::Again(to));
            }
        };
        let posted = self.post_offer(to, (tag, data), along, handle);
        posted.inspect_err(|_| {
            message.buffer = self.sends.remove(handle).map(|send| send.buffer).unwrap_or_default();
        })
    }

    /// Sends the packet of such an offer.
    fn post_offer(
        &mut self,
        to: Address,
        envelope: (Option<u64>, Option<u32>),
        along: Along,
        handle: Handle,
    ) -> Result<(), SendError> {
        let Some(send) = self.sends.get_mut(handle) else { return Err(SendError::Again(to)) };
        let mut start = rendezvous::Start::of(along);
        let rts = start.offer(envelope, &send.buffer, handle);
        let made = rts.and_then(|rts| rts.header(&self.models.to(to.into())).ok());
        let Some((header, payload)) = made else { return Err(SendError::TooLong(send.buffer.len())) };
        let now = self.hfi.bus().now();
        let slot = reserve(&mut self.local, &mut self.slots, &mut self.reliability, now, to, payload)?;
        start.read(&send.buffer);
        if let (Some(rts), Some(out)) = (start.offer(envelope, &send.buffer, handle), self.scratch.get_mut(..payload)) {
            rts.fill(out);
            self.slots.write_payload(slot.0, 0, out);
        }
        self.tally.hmem.sent(Medium::Adapter, envelope.0.is_some(), Protocol::Rendezvous, &send.buffer);
        self.slots.set_operation(slot.0, handle);
        self.by_peer.insert((to, Role::Sender, handle.0));
        self.counters.offers_sent += 1;
        self.commit(slot, header, payload);
        Ok(())
    }

    /// Makes the packet in `slot` part of a send operation; there is room for one more.
    #[inline(always)]
    pub(super) fn follow(&mut self, slot: SlotId, message: &mut Outgoing, kind: SendKind) {
        match self.sends.insert(Send::new(message, kind)) {
            Ok(handle) => self.slots.set_operation(slot, handle),
            Err(send) => drop(send),
        }
    }
}
