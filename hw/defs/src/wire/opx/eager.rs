//! INJECT and EAGER: messages that fit one packet.

use super::{
    Begin, Flavour, Generation, Header, INJECT_MAX_BYTES, MAX_PAYLOAD_BYTES, Malformed, Opcode, Unencodable, at_most,
    first, packed, room,
};

/// A message of up to 16 bytes, all of it in the header. Source: `fi_opx_hfi1_transport.h:fi_opx_hfi1_tx_inject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inject<'a> {
    /// Tag, if the message is tagged.
    pub tag: Option<u64>,
    /// Data for the receiver's completion.
    pub cq_data: Option<u32>,
    /// The message.
    pub data: &'a [u8],
}

impl<'a> Inject<'a> {
    /// The packet; it has no payload.
    ///
    /// # Errors
    /// When the message is longer than 16 bytes.
    pub fn encode(&self, way: &impl Begin) -> Result<Header, Unencodable> {
        at_most("message", self.data.len(), INJECT_MAX_BYTES)?;
        let mut header = Header::message(way, Opcode::Inject, self.tag, self.cq_data);
        header.set_small(way.generation(), self.data.len() as u8);
        let (low, high) = self.data.split_at(self.data.len().min(8));
        header.set_word::<4>(packed(low));
        header.set_word::<5>(packed(high));
        Ok(header)
    }

    /// Reads a packet of G4.
    ///
    /// # Errors
    /// When it isn't an INJECT or says that it has more than 16 bytes.
    pub fn decode(header: &'a Header, payload: &[u8]) -> Result<Self, Malformed> {
        Self::decode_in(Generation::G4, header, payload)
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// When it isn't an INJECT or says that it has more than 16 bytes.
    pub fn decode_in(generation: Generation, header: &'a Header, payload: &[u8]) -> Result<Self, Malformed> {
        let Opcode::Inject(flavour) = header.opcode_in(generation) else {
            return Err(Malformed::Opcode(header.opcode().byte()));
        };
        header.payload_in(generation, payload)?;
        Self::of_arrival(generation, header, flavour)
    }

    /// Reads a packet whose [`Header::arrival`] said that it is an INJECT.
    ///
    /// # Errors
    /// When it says that it has more than 16 bytes.
    #[inline]
    pub fn of_arrival(generation: Generation, header: &'a Header, flavour: Flavour) -> Result<Self, Malformed> {
        let len = usize::from(header.small(generation));
        if len > INJECT_MAX_BYTES {
            return Err(Malformed::Field { name: "inject length", value: len as u64 });
        }
        let (tag, cq_data) = header.envelope(flavour);
        Ok(Self { tag, cq_data, data: first(&header.0[32..48], len)? })
    }
}

/// A message in one packet: its first `len % 8` bytes in the header, the rest as payload.
///
/// Source: `fi_opx_hfi1_transport.h:opx_hfi1_tx_send_egr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eager<'a> {
    /// Tag, if the message is tagged.
    pub tag: Option<u64>,
    /// Data for the receiver's completion.
    pub cq_data: Option<u32>,
    /// The message's first bytes, 0 to 7 of them.
    pub tail: &'a [u8],
    /// The message's other bytes, a multiple of 8.
    pub body: &'a [u8],
}

impl<'a> Eager<'a> {
    /// A packet for `message`.
    pub fn of(tag: Option<u64>, cq_data: Option<u32>, message: &'a [u8]) -> Self {
        let (tail, body) = message.split_at(message.len() % 8);
        Self { tag, cq_data, tail, body }
    }

    /// Bytes of the whole message.
    pub fn message_len(&self) -> usize {
        self.tail.len() + self.body.len()
    }

    /// The header, and the payload in `out`; gives the payload's length.
    ///
    /// # Errors
    /// When the parts aren't of the lengths they must have, or `out` is too small.
    pub fn encode(&self, way: &impl Begin, out: &mut [u8]) -> Result<(Header, usize), Unencodable> {
        let header = self.header(way)?;
        room(out, self.body.len())?.copy_from_slice(self.body);
        Ok((header, self.body.len()))
    }

    /// The header; the payload is the body as it is.
    ///
    /// # Errors
    /// When the parts aren't of the lengths they must have.
    pub fn header(&self, way: &impl Begin) -> Result<Header, Unencodable> {
        at_most("eager tail", self.tail.len(), 7)?;
        at_most("eager body", self.body.len(), MAX_PAYLOAD_BYTES)?;
        if !self.body.len().is_multiple_of(8) {
            return Err(Unencodable::Field { name: "eager body length", value: self.body.len() as u64 });
        }
        let mut header = Header::message(way, Opcode::Eager, self.tag, self.cq_data);
        header.set_small(way.generation(), self.tail.len() as u8);
        header.set_word::<4>((self.body.len() as u64 / 8) << 48);
        header.set_word::<5>(packed(self.tail));
        if way.generation() == Generation::G1 {
            // The first 8 bytes of the message, whatever of them counts.
            let mut start = [0; 8];
            for (to, from) in start.iter_mut().zip(self.tail.iter().chain(self.body)) {
                *to = *from;
            }
            header.set_word::<5>(u64::from_le_bytes(start));
        }
        header.set_payload_len(self.body.len());
        Ok(header)
    }

    /// Reads a packet of G4, see [`Eager::decode_in`].
    ///
    /// # Errors
    /// When it isn't an EAGER or has fewer bytes than it says.
    pub fn decode(header: &'a Header, payload: &'a [u8]) -> Result<Self, Malformed> {
        Self::decode_in(Generation::G4, header, payload)
    }

    /// Reads a packet. The body's length is taken from H4: a vector send pads the payload beyond it.
    ///
    /// # Errors
    /// When it isn't an EAGER or has fewer bytes than it says.
    pub fn decode_in(generation: Generation, header: &'a Header, payload: &'a [u8]) -> Result<Self, Malformed> {
        let Opcode::Eager(flavour) = header.opcode_in(generation) else {
            return Err(Malformed::Opcode(header.opcode().byte()));
        };
        let payload = header.payload_in(generation, payload)?;
        let tail = usize::from(header.small(generation));
        if tail > 7 {
            return Err(Malformed::Field { name: "eager tail length", value: tail as u64 });
        }
        let body = first(payload, (header.word::<4>() >> 48) as usize * 8)?;
        let (tag, cq_data) = header.envelope(flavour);
        Ok(Self { tag, cq_data, tail: first(&header.0[40..48], tail)?, body })
    }
}
