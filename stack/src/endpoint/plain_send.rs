//! The short way out, for what most messages are: bytes of the process' own that fit one packet which the processor writes, or the
//! ring to a peer that is reached through memory. Everything else goes the long way (`send`), and nothing has been done to it here.

use super::Endpoint;
use crate::buffer::Buffer;
use crate::completion::Level;
use crate::operations::{Outgoing, SendError, SendKind};
use crate::slots::SlotId;
use opx_bus::PciFunction;
use opx_defs::wire::opx::INJECT_MAX_BYTES;

impl<B: PciFunction> Endpoint<B> {
    /// Sends such a message and takes its buffer, or says why that can't be done; `None` when it isn't one.
    #[inline(always)]
    pub(super) fn send_plain(&mut self, message: &mut Outgoing) -> Option<Result<(), SendError>> {
        let Buffer::Bytes(bytes) = &message.buffer else { return None };
        let len = bytes.len();
        let plain = message.level != Level::Delivery
            && message.expect.is_none()
            && self.config.expect.is_none()
            && self.process.is_here()
            && self.has_completion_room();
        if !plain {
            return None;
        }
        match self.local_peer(message.to) {
            Ok(Some(peer)) => return self.send_plain_locally(peer, message),
            Ok(None) if len <= self.limits.eager && !self.limits.by_engine(len) && self.sends.has_room() => {}
            _ => return None,
        }
        // No error is left to the long way: it would be counted once more.
        if len <= INJECT_MAX_BYTES { self.send_in_header(message) } else { self.send_in_payload(message) }
    }

    /// A message that its packet's header holds.
    #[inline(always)]
    fn send_in_header(&mut self, message: &mut Outgoing) -> Option<Result<(), SendError>> {
        let Outgoing { to, tag, data, buffer: Buffer::Bytes(bytes), .. } = message else { return None };
        let mut block = self.models.inject().with_message((*to).into(), *tag, *data, bytes).ok()?;
        let (slot, psn) = match self.reserve_on_wire(*to, 0) {
            Ok(slot) => slot,
            Err(error) => return Some(Err(error)),
        };
        block.set_psn(psn);
        self.sent_plain(slot, message);
        self.send_block(slot, &block);
        Some(Ok(()))
    }

    /// One whose packet has a payload.
    #[inline(never)]
    fn send_in_payload(&mut self, message: &mut Outgoing) -> Option<Result<(), SendError>> {
        let Outgoing { to, tag, data, buffer: Buffer::Bytes(bytes), .. } = message else { return None };
        let mut block = self.models.eager().for_message((*to).into(), *tag, *data, bytes.len()).ok()?;
        let body = self.models.eager().put_tail(&mut block, bytes);
        let payload = body.len();
        let (slot, psn) = match self.reserve_on_wire(*to, payload) {
            Ok(slot) => slot,
            Err(error) => return Some(Err(error)),
        };
        block.set_psn(psn);
        self.slots.write_qwords(slot, body);
        self.slots.seal(slot, &block, payload);
        self.sent_plain(slot, message);
        self.send_sealed(slot, false);
        Some(Ok(()))
    }

    /// A message is as good as sent: there is a packet for it.
    #[inline(always)]
    fn sent_plain(&mut self, slot: SlotId, message: &mut Outgoing) {
        if message.level == Level::Inject {
            self.send_of_bytes_done(message.context, std::mem::take(&mut message.buffer), message.silent);
        } else {
            self.follow(slot, message, SendKind::Eager);
        }
        self.counters.sent_messages = self.counters.sent_messages.wrapping_add(1);
        // What waits has to be seen to.
        self.stir();
    }
}
