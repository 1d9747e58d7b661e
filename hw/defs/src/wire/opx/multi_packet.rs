//! MP_EAGER_FIRST and MP_EAGER_NTH: messages of several packets that need no rendezvous.

use super::{
    Begin, Generation, Header, MAX_PAYLOAD_BYTES, Malformed, Opcode, Unencodable, at_most, first, packed, room,
};
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
    /// The message's first 16 bytes in G1, which go in the header; none in later generations.
    pub head: &'a [u8],
    /// The bytes after those, a multiple of 4.
    pub data: &'a [u8],
}

/// Bytes that a G1 packet has in its header.
const G1_HEAD: usize = 16;

impl<'a> MpFirst<'a> {
    /// A packet with the first `chunk` bytes of a `message`, and in G1 with the 16 bytes after those.
    pub fn of(
        generation: Generation,
        tag: Option<u64>,
        cq_data: Option<u32>,
        message: &'a [u8],
        chunk: usize,
    ) -> Result<Self, Unencodable> {
        let message_len = u16::try_from(message.len()).map_err(|_| Unencodable::TooLong {
            what: "multi-packet message",
            have: message.len(),
            limit: u16::MAX.into(),
        })?;
        let head = Self::in_header(generation);
        let need = head + chunk;
        let (head, rest) = message.split_at(head.min(message.len()));
        let data = rest.get(..chunk).ok_or(Unencodable::Buffer { have: message.len(), need })?;
        Ok(Self { tag, cq_data, message_len, head, data })
    }

    /// The header of the first packet of a message, for which its bytes needn't be there yet: [`MpFirst::fill`] takes them. The payload
    /// is `chunk` bytes.
    ///
    /// # Errors
    /// When the chunk isn't whole dwords, is more than the message, or too long, as the message may be.
    pub fn begin(
        way: &impl Begin,
        tag: Option<u64>,
        cq_data: Option<u32>,
        message_len: usize,
        chunk: usize,
    ) -> Result<Header, Unencodable> {
        at_most("multi-packet message", message_len, u16::MAX.into())?;
        at_most("first chunk", chunk, MAX_PAYLOAD_BYTES.min(message_len))?;
        at_most("first chunk", chunk + Self::in_header(way.generation()), message_len)?;
        if !chunk.is_multiple_of(4) {
            return Err(Unencodable::Field { name: "first chunk length", value: chunk as u64 });
        }
        let mut header = Header::message(way, Opcode::MpFirst, tag, cq_data);
        if way.generation() == Generation::G1 {
            header.set_small(Generation::G1, G1_HEAD as u8);
            header.set_word::<2>(header.word::<2>() | (message_len as u64) << 32);
        } else {
            header.set_word::<4>(message_len as u64);
        }
        header.set_payload_len(chunk);
        Ok(header)
    }

    /// Bytes of a message that are in the header of its first packet, before those in the payload.
    pub fn in_header(generation: Generation) -> usize {
        if generation == Generation::G1 { G1_HEAD } else { 0 }
    }

    /// Puts the message's first bytes where they belong in a header that was begun; gives those that are the payload.
    pub fn fill<'b>(generation: Generation, header: &mut Header, start: &'b [u8]) -> &'b [u8] {
        let (head, payload) = start.split_at(Self::in_header(generation).min(start.len()));
        if generation == Generation::G1 {
            set_head(header, head);
        }
        payload
    }

    /// The header, and the payload in `out`; gives the payload's length.
    ///
    /// # Errors
    /// When the data isn't whole dwords, is more than the message, or doesn't fit.
    pub fn encode(&self, way: &impl Begin, out: &mut [u8]) -> Result<(Header, usize), Unencodable> {
        let len = self.data.len();
        if self.head.len() != Self::in_header(way.generation()) {
            return Err(Unencodable::Field { name: "first chunk in the header", value: self.head.len() as u64 });
        }
        let mut header = Self::begin(way, self.tag, self.cq_data, self.message_len.into(), len)?;
        room(out, len)?.copy_from_slice(self.data);
        Self::fill(way.generation(), &mut header, self.head);
        Ok((header, len))
    }

    /// Reads a packet of G4.
    ///
    /// # Errors
    /// When it isn't an MP_EAGER_FIRST or has more data than the message.
    pub fn decode(header: &'a Header, payload: &'a [u8]) -> Result<Self, Malformed> {
        Self::decode_in(Generation::G4, header, payload)
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// When it isn't an MP_EAGER_FIRST or has more data than the message.
    pub fn decode_in(generation: Generation, header: &'a Header, payload: &'a [u8]) -> Result<Self, Malformed> {
        let Opcode::MpFirst(flavour) = header.opcode_in(generation) else {
            return Err(Malformed::Opcode(header.opcode().byte()));
        };
        let data = header.payload_in(generation, payload)?;
        let (len, head) = if generation == Generation::G1 {
            if usize::from(header.small(generation)) != G1_HEAD {
                let value = u64::from(header.small(generation));
                return Err(Malformed::Field { name: "first chunk in the header", value });
            }
            (header.word::<2>() >> 32 & 0x3fff_ffff, &header.0[32..48])
        } else {
            (header.word::<4>() & 0xffff, &[][..])
        };
        let message_len = u16::try_from(len).unwrap_or(0);
        if data.len() + head.len() > usize::from(message_len) {
            return Err(Malformed::Field { name: "multi-packet message length", value: len });
        }
        let (tag, cq_data) = header.envelope(flavour);
        Ok(Self { tag, cq_data, message_len, head, data })
    }
}

/// Puts the first bytes of a G1 packet's data in its header.
fn set_head(header: &mut Header, head: &[u8]) {
    let (low, high) = head.split_at(head.len().min(8));
    header.set_word::<4>(packed(low));
    header.set_word::<5>(packed(high));
}

/// The header of a later packet with so many bytes of payload.
fn begin_nth(way: &impl Begin, uid: Psn, offset: u32, body: usize) -> Result<Header, Unencodable> {
    at_most("chunk", body, MAX_PAYLOAD_BYTES)?;
    if !body.is_multiple_of(8) {
        return Err(Unencodable::Field { name: "chunk length", value: body as u64 });
    }
    let mut header = way.begin(Opcode::MpNth);
    header.set_word::<6>(u64::from(offset) | u64::from(uid.get()) << 32);
    header.set_payload_len(body);
    Ok(header)
}

/// A later packet: the last `n % 8` bytes of its data are in the header, or in G1 up to 16 of its first.
///
/// Source: `fi_opx_hfi1_transport.h:fi_opx_hfi1_tx_send_mp_egr_nth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MpNth<'a> {
    /// PSN of the message's first packet, which names the message.
    pub uid: Psn,
    /// Place of this packet's data in the message.
    pub offset: u32,
    /// The data's first bytes in G1, up to 16 of them; none in later generations.
    pub head: &'a [u8],
    /// The data between, a multiple of 8.
    pub body: &'a [u8],
    /// The data's last bytes, 0 to 7 of them; none in G1.
    pub tail: &'a [u8],
}

impl<'a> MpNth<'a> {
    /// A packet for `data`, which lies at `offset` of the message, in G2 to G4.
    pub fn of(uid: Psn, offset: u32, data: &'a [u8]) -> Self {
        Self::of_in(Generation::G4, uid, offset, data)
    }

    /// A packet for `data`, which lies at `offset` of the message.
    pub fn of_in(generation: Generation, uid: Psn, offset: u32, data: &'a [u8]) -> Self {
        let (head, body) = Self::split(generation, data.len());
        let (head, rest) = data.split_at(head);
        let (body, tail) = rest.split_at(body);
        Self { uid, offset, head, body, tail }
    }

    /// Of so many bytes of data, those before the payload and those in it.
    fn split(generation: Generation, len: usize) -> (usize, usize) {
        // G1: fi_opx_hfi1_transport.h:fi_opx_hfi1_tx_send_mp_egr_last of 2.1.
        let head = match len {
            _ if generation != Generation::G1 => 0,
            short @ 0..=G1_HEAD => short,
            whole if whole.is_multiple_of(8) => G1_HEAD,
            odd => 8 + odd % 8,
        };
        (head, (len - head) / 8 * 8)
    }

    /// The header of a packet for `len` bytes at `offset`, and its payload's length. The bytes needn't be there yet:
    /// [`MpNth::fill`] puts those of them into the header that belong there.
    ///
    /// # Errors
    /// When they are too many for a packet.
    pub fn begin(way: &impl Begin, uid: Psn, offset: u32, len: usize) -> Result<(Header, usize), Unencodable> {
        let (_, body) = Self::split(way.generation(), len);
        Ok((begin_nth(way, uid, offset, body)?, body))
    }

    /// Puts what isn't payload into a header that was begun.
    pub fn fill(&self, generation: Generation, header: &mut Header) {
        if generation == Generation::G1 {
            header.set_small(Generation::G1, self.head.len() as u8);
            // 16 bytes of the data, whatever of them counts.
            let mut start = [0; G1_HEAD];
            for (to, from) in start.iter_mut().zip(self.head.iter().chain(self.body)) {
                *to = *from;
            }
            set_head(header, &start);
        } else {
            header.set_small(generation, self.tail.len() as u8);
            header.set_word::<4>(packed(self.tail));
        }
    }

    /// The header, and the payload in `out`; gives the payload's length.
    ///
    /// # Errors
    /// When the parts aren't of the lengths they must have, or `out` is too small.
    pub fn encode(&self, way: &impl Begin, out: &mut [u8]) -> Result<(Header, usize), Unencodable> {
        let g1 = way.generation() == Generation::G1;
        at_most("chunk head", self.head.len(), if g1 { G1_HEAD } else { 0 })?;
        at_most("chunk tail", self.tail.len(), if g1 { 0 } else { 7 })?;
        let mut header = begin_nth(way, self.uid, self.offset, self.body.len())?;
        room(out, self.body.len())?.copy_from_slice(self.body);
        self.fill(way.generation(), &mut header);
        Ok((header, self.body.len()))
    }

    /// Reads a packet of G4.
    ///
    /// # Errors
    /// When it isn't an MP_EAGER_NTH or a length can't be.
    pub fn decode(header: &'a Header, payload: &'a [u8]) -> Result<Self, Malformed> {
        Self::decode_in(Generation::G4, header, payload)
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// When it isn't an MP_EAGER_NTH or a length can't be.
    pub fn decode_in(generation: Generation, header: &'a Header, payload: &'a [u8]) -> Result<Self, Malformed> {
        if header.opcode_in(generation) != Opcode::MpNth {
            return Err(Malformed::Opcode(header.opcode().byte()));
        }
        let body = header.payload_in(generation, payload)?;
        let (small, most) =
            (usize::from(header.small(generation)), if generation == Generation::G1 { G1_HEAD } else { 7 });
        if small > most {
            return Err(Malformed::Field { name: "chunk in the header", value: small as u64 });
        }
        if !body.len().is_multiple_of(8) {
            return Err(Malformed::Field { name: "chunk length", value: body.len() as u64 });
        }
        let place = header.word::<6>();
        let uid = (place >> 32) as u32;
        if uid > Psn::MAX.get() {
            return Err(Malformed::Field { name: "multi-packet id", value: u64::from(uid) });
        }
        let (in_header, none) = (first(&header.0[32..48], small)?, &[][..]);
        let (head, tail) = if generation == Generation::G1 { (in_header, none) } else { (none, in_header) };
        Ok(Self { uid: Psn::new(uid), offset: place as u32, head, body, tail })
    }
}
