//! Messages through shared memory: out of a buffer into the ring, and out of the ring into the buffer that waits for it.

use super::super::Endpoint;
use super::super::multi_receive::Found;
use super::kind;
use crate::Address;
use crate::buffer::Buffer;
use crate::observe::hmem::Medium;
use crate::operations::{Envelope, Kept, Outgoing, SendError, Unexpected};
use crate::thresholds::Protocol;
use opx_bus::PciFunction;
use opx_defs::wire::opx::INJECT_MAX_BYTES;
use opx_shm::{Header, Message, PeerId, Taken};

/// What a ring's message says of a message.
#[inline(always)]
pub(super) fn header(tag: Option<u64>, data: Option<u32>) -> Header {
    let tagged = if tag.is_some() { kind::TAGGED } else { 0 };
    let with_data = if data.is_some() { kind::WITH_DATA } else { 0 };
    Header { kind: kind::MESSAGE | tagged | with_data, words: [tag.unwrap_or(0), data.unwrap_or(0).into()] }
}

/// The same, as it came; `None` when it makes no sense.
pub(super) fn envelope(header: &Header, source: Address) -> Option<Envelope> {
    let Header { kind: bits, words: [tag, data] } = *header;
    if bits & !(kind::TAGGED | kind::WITH_DATA) != kind::MESSAGE {
        return None;
    }
    let tag = (bits & kind::TAGGED != 0).then_some(tag);
    let data = if bits & kind::WITH_DATA != 0 { Some(u32::try_from(data).ok()?) } else { None };
    Some(Envelope { tag, data, source })
}

impl<B: PciFunction> Endpoint<B> {
    /// The peer at an address, if it is reached through shared memory.
    #[inline]
    pub(in super::super) fn local_peer(&mut self, to: Address) -> Result<Option<PeerId>, SendError> {
        match &mut self.local {
            None => Ok(None),
            Some(local) => local.peer(to),
        }
    }

    /// As [`Endpoint::inject_message`].
    #[inline]
    pub(in super::super) fn inject_locally(
        &mut self,
        peer: PeerId,
        to: Address,
        (tag, data): (Option<u64>, Option<u32>),
        message: &[u8],
    ) -> Result<(), SendError> {
        if message.len() > INJECT_MAX_BYTES {
            return Err(SendError::TooLong(message.len()));
        }
        self.put_into_ring(peer, to, header(tag, data), message)?;
        self.counters.sends_done += 1;
        Ok(())
    }

    // Inlined into the short ways, and into the long one as well.
    #[inline(always)]
    fn put_into_ring(&mut self, peer: PeerId, to: Address, header: Header, message: &[u8]) -> Result<(), SendError> {
        let Some(local) = &mut self.local else { return Err(SendError::Again(to)) };
        if local.is_in_line(to) {
            return Err(SendError::Again(to));
        }
        let Some(node) = &mut local.node else { return Err(SendError::Again(to)) };
        match node.try_send_if_wanted(peer, header, &[message]) {
            Ok(()) => {
                self.counters.sent_messages += 1;
                self.counters.sent_locally += 1;
                Ok(())
            }
            Err(error) => Err(not_sent(error, to)),
        }
    }

    /// As [`Endpoint::send_message`], of bytes; `None`, and nothing has been done, when the ring doesn't hold so many.
    #[inline]
    pub(in super::super) fn send_plain_locally(
        &mut self,
        peer: PeerId,
        message: &mut Outgoing,
    ) -> Option<Result<(), SendError>> {
        let Outgoing { to, tag, data, buffer: Buffer::Bytes(bytes), .. } = message else { return None };
        match self.put_into_ring(peer, *to, header(*tag, *data), bytes) {
            Ok(()) => {
                // The peer gets it whatever becomes of this process.
                self.send_of_bytes_done(message.context, std::mem::take(&mut message.buffer), message.silent);
                Some(Ok(()))
            }
            Err(SendError::TooLong(_)) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// As [`Endpoint::send_message`]; takes the buffer of a message that it accepts.
    pub(in super::super) fn send_locally(&mut self, peer: PeerId, message: &mut Outgoing) -> Result<(), SendError> {
        let node = self.local.as_ref().and_then(|local| local.node.as_ref());
        let longest = node.and_then(|node| node.longest(peer).ok()).unwrap_or(0);
        if message.buffer.len() > longest {
            return self.offer_locally(peer, message);
        }
        let Outgoing { to, tag, data, ref buffer, .. } = *message;
        // What lies elsewhere is copied only if there is room for it.
        if !matches!(buffer, Buffer::Bytes(_) | Buffer::Raw(_)) {
            self.check_ring(peer, to, buffer.len())?;
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        let bytes = buffer.gather(0, buffer.len(), &mut gathered);
        let sent = self.put_into_ring(peer, to, header(tag, data), bytes);
        self.gathered = gathered;
        sent?;
        self.tally.hmem.sent(Medium::Memory, tag.is_some(), Protocol::Eager, &message.buffer);
        // The peer gets it whatever becomes of this process.
        self.send_done(message.context, std::mem::take(&mut message.buffer), message.silent);
        Ok(())
    }

    /// Whether a ring has room for a message of so many bytes.
    fn check_ring(&mut self, peer: PeerId, to: Address, len: usize) -> Result<(), SendError> {
        let local = self.local.as_mut().filter(|local| !local.is_in_line(to));
        let node = local.and_then(|local| local.node.as_mut()).ok_or(SendError::Again(to))?;
        node.check_room(peer, len).map_err(|error| not_sent(error, to))
    }

    /// A message came.
    #[inline]
    pub(super) fn message_from_ring(&mut self, source: Address, message: &Message<'_>) -> Taken {
        let Some(envelope) = envelope(&message.header, source) else {
            self.counters.malformed += 1;
            return Taken::Yes;
        };
        let len = message.len();
        if message.overtakes || !self.has_room_for(&envelope, len, true) {
            return Taken::NotNow;
        }
        self.counters.received_locally += 1;
        match self.find_receive(&envelope, len as u64) {
            Found::Receive(mut posted) => {
                if let Buffer::Bytes(bytes) = &mut posted.buffer
                    && let Some(place) = bytes.get_mut(..len)
                {
                    message.read(0, place);
                    self.received(posted, envelope, len);
                } else {
                    self.with_bytes(message, |endpoint, bytes| {
                        endpoint.complete_receive(posted, envelope, Medium::Memory, bytes, &[]);
                    });
                }
            }
            Found::Part(part) => {
                self.with_bytes(message, |endpoint, bytes| endpoint.fill_part(part, envelope, bytes, &[]));
            }
            Found::TooLong => {}
            Found::Nobody => {
                let what = Kept::Eager(Medium::Memory, message.to_vec());
                self.keep(&envelope, Unexpected { data: envelope.data, what });
            }
        }
        Taken::Yes
    }

    fn with_bytes(&mut self, message: &Message<'_>, with: impl FnOnce(&mut Self, &[u8])) {
        let mut bytes = self.local.as_mut().map(|local| std::mem::take(&mut local.scratch)).unwrap_or_default();
        bytes.resize(message.len(), 0);
        message.read(0, &mut bytes);
        with(self, &bytes);
        if let Some(local) = &mut self.local {
            local.scratch = bytes;
        }
    }

    /// Whether a message can be taken: one that nobody waits for only as long as not too much is kept, and one in pieces for a
    /// multi-receive only as long as it hasn't too many of them.
    #[inline]
    pub(super) fn has_room_for(&self, envelope: &Envelope, len: usize, whole: bool) -> bool {
        let full = self.unexpected_bytes + len > self.config.unexpected_bytes;
        let crowded = self.unasked >= self.config.operations || self.parts >= self.config.operations;
        !(full || crowded) || !self.has_to_wait(envelope.tag, envelope.source, full, whole)
    }
}

/// Why a message isn't in the ring.
#[cold]
pub(super) fn not_sent(error: opx_shm::SendError, to: Address) -> SendError {
    match error {
        opx_shm::SendError::Again => SendError::Again(to),
        opx_shm::SendError::TooLong { len, .. } => SendError::TooLong(len),
        opx_shm::SendError::Forked(_) => SendError::Forked,
        _ => SendError::Unreachable(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::units::Lid;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_say_what_was_said_and_others_are_refused(tag: Option<u64>, data: Option<u32>, any: u16, words: [u64; 2]) {
            let source = Address { lid: Lid(1), rx: 2 };
            prop_assert_eq!(envelope(&header(tag, data), source), Some(Envelope { tag, data, source }));
            let taken = envelope(&Header { kind: any, words }, source);
            if let Some(Envelope { tag, data, .. }) = taken {
                let said = header(tag, data);
                prop_assert_eq!(said.kind, any);
                prop_assert!(tag.is_none_or(|tag| tag == words[0]) && data.is_none_or(|data| u64::from(data) == words[1]));
            }
        }
    }
}
