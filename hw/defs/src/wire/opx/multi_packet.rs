//! MP_EAGER_FIRST and MP_EAGER_NTH: messages of several packets that need no rendezvous.

use super::{Header, MAX_PAYLOAD_BYTES, Malformed, Opcode, Route, Unencodable, at_most, first, packed, room};
use crate::units::Psn;

/// The first packet. Source: `fi_opx_hfi1_transport.h:opx_hfi1_tx_send_mp_egr_first_common`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MpFirst<'a> {
    /// Tag, if the message is tagged; OPX sends only tagged ones.
    pub tag: Option<u64>,
    /// Data for the receiver's completion.
    pub cq_data: Option<u32>,
    /// Bytes of the whole message.
    pub message_len: u16,
    /// The message's first bytes, a multiple of 4.
    pub data: &'a [u8],
}

impl<'a> MpFirst<'a> {
    /// The header, and the payload in `out`; gives the payload's length.
    ///
    /// # Errors
    /// When the data isn't whole dwords, is more than the message, or doesn't fit.
    pub fn encode(&self, route: &Route, out: &mut [u8]) -> Result<(Header, usize), Unencodable> {
        let len = self.data.len();
        at_most("first chunk", len, MAX_PAYLOAD_BYTES.min(usize::from(self.message_len)))?;
        if !len.is_multiple_of(4) {
            return Err(Unencodable::Field { name: "first chunk length", value: len as u64 });
        }
        room(out, len)?.copy_from_slice(self.data);
        let mut header = Header::message(route, Opcode::MpFirst, self.tag, self.cq_data);
        header.set_word::<4>(u64::from(self.message_len));
        header.set_payload_len(len);
        Ok((header, len))
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// When it isn't an MP_EAGER_FIRST or has more data than the message.
    pub fn decode(header: &'a Header, payload: &'a [u8]) -> Result<Self, Malformed> {
        let Opcode::MpFirst(flavour) = header.opcode() else { return Err(Malformed::Opcode(header.opcode().byte())) };
        let data = header.payload(payload)?;
        let message_len = header.word::<4>() as u16;
        if data.len() > usize::from(message_len) {
            return Err(Malformed::Field { name: "multi-packet message length", value: u64::from(message_len) });
        }
        let (tag, cq_data) = header.envelope(flavour);
        Ok(Self { tag, cq_data, message_len, data })
    }
}

/// A later packet: the last `n % 8` bytes of its data are in the header.
///
/// Source: `fi_opx_hfi1_transport.h:fi_opx_hfi1_tx_send_mp_egr_nth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MpNth<'a> {
    /// PSN of the message's first packet, which names the message.
    pub uid: Psn,
    /// Place of this packet's data in the message.
    pub offset: u32,
    /// This packet's data but the last bytes, a multiple of 8.
    pub body: &'a [u8],
    /// The data's last bytes, 0 to 7 of them.
    pub tail: &'a [u8],
}

impl<'a> MpNth<'a> {
    /// A packet for `data`, which lies at `offset` of the message.
    pub fn of(uid: Psn, offset: u32, data: &'a [u8]) -> Self {
        let (body, tail) = data.split_at(data.len() / 8 * 8);
        Self { uid, offset, body, tail }
    }

    /// The header, and the payload in `out`; gives the payload's length.
    ///
    /// # Errors
    /// When the parts aren't of the lengths they must have, or `out` is too small.
    pub fn encode(&self, route: &Route, out: &mut [u8]) -> Result<(Header, usize), Unencodable> {
        at_most("chunk tail", self.tail.len(), 7)?;
        at_most("chunk", self.body.len(), MAX_PAYLOAD_BYTES)?;
        if !self.body.len().is_multiple_of(8) {
            return Err(Unencodable::Field { name: "chunk length", value: self.body.len() as u64 });
        }
        room(out, self.body.len())?.copy_from_slice(self.body);
        let mut header = Header::new(route, Opcode::MpNth);
        header.set_small(self.tail.len() as u8);
        header.set_word::<4>(packed(self.tail));
        header.set_word::<6>(u64::from(self.offset) | u64::from(self.uid.get()) << 32);
        header.set_payload_len(self.body.len());
        Ok((header, self.body.len()))
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// When it isn't an MP_EAGER_NTH or a length can't be.
    pub fn decode(header: &'a Header, payload: &'a [u8]) -> Result<Self, Malformed> {
        if header.opcode() != Opcode::MpNth {
            return Err(Malformed::Opcode(header.opcode().byte()));
        }
        let body = header.payload(payload)?;
        let tail = usize::from(header.small());
        if tail > 7 {
            return Err(Malformed::Field { name: "chunk tail length", value: tail as u64 });
        }
        if !body.len().is_multiple_of(8) {
            return Err(Malformed::Field { name: "chunk length", value: body.len() as u64 });
        }
        let place = header.word::<6>();
        let uid = (place >> 32) as u32;
        if uid > Psn::MAX.get() {
            return Err(Malformed::Field { name: "multi-packet id", value: u64::from(uid) });
        }
        Ok(Self { uid: Psn::new(uid), offset: place as u32, body, tail: first(&header.0[32..40], tail)? })
    }
}
