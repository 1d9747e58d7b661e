//! RZV_RTS, RZV_CTS and RZV_DATA: a message that the receiver asks for after it has found a place for it.

use super::rma::{Atomic, Dput, DputOp};
use super::{
    BLOCK, Begin, Generation, Header, Malformed, Opcode, Unencodable, at_most, first, packed, qword, room, split,
};

/// RTS flag bits in H4: the source isn't contiguous, the source is in another process' device memory.
const RTS_FLAGS: u64 = 0xff << 16;

/// The part of a message that travels with its RTS, in message order: bytes, qwords, block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Immediate<'a> {
    /// The first 0 to 7 bytes.
    pub bytes: &'a [u8],
    /// Then 0 to 7 qwords.
    pub qwords: &'a [u8],
    /// Then one block of 64 bytes.
    pub block: Option<&'a [u8; BLOCK]>,
    /// The last 7 bytes of the whole message, for a receiver that takes the rest in whole expected buffers.
    pub tail: Option<[u8; 7]>,
}

impl<'a> Immediate<'a> {
    /// What OPX sends ahead of `message`: so much that a multiple of 64 bytes remains. With `expected`, also what a receiver
    /// needs that takes the rest in expected buffers.
    pub fn of(message: &'a [u8], expected: bool) -> Self {
        let (bytes, rest) = message.split_at(message.len() % 8);
        let (qwords, rest) = rest.split_at(rest.len() % BLOCK);
        match (expected, rest.first_chunk::<BLOCK>(), message.last_chunk::<7>()) {
            (true, Some(block), Some(tail)) => Self { bytes, qwords, block: Some(block), tail: Some(*tail) },
            _ => Self { bytes, qwords, block: None, tail: None },
        }
    }

    /// Bytes of the message that it holds; the tail isn't counted, it comes again.
    pub fn message_bytes(&self) -> usize {
        self.bytes.len() + self.qwords.len() + if self.block.is_some() { BLOCK } else { 0 }
    }

    fn has_fragments(&self) -> bool {
        !self.bytes.is_empty() || !self.qwords.is_empty()
    }
}

/// The offer of a message. Source: `fi_opx_hfi1.c:opx_hfi1_tx_send_rzv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RzvRts<'a> {
    /// Tag, if the message is tagged.
    pub tag: Option<u64>,
    /// Data for the receiver's completion.
    pub cq_data: Option<u32>,
    /// Bytes of the whole message.
    pub len: u64,
    /// Where what isn't sent along lies at the sender. The receiver hands it back, with an offset added.
    pub src_vaddr: u64,
    /// Device that the source is on; 0 for host memory.
    pub src_device: u64,
    /// Kind of device; 0 for host memory.
    pub src_iface: u64,
    /// Name of the transfer at the sender, handed back in CTS. OPX sends 0 when it wants no completion.
    pub origin_counter: u64,
    /// What is sent along.
    pub immediate: Immediate<'a>,
}

impl<'a> RzvRts<'a> {
    /// Bytes that remain to be asked for.
    pub fn src_len(&self) -> u64 {
        self.len.saturating_sub(self.immediate.message_bytes() as u64)
    }

    /// The header, and the payload in `out`; gives the payload's length: 64, 128 or 192 bytes.
    ///
    /// # Errors
    /// When the immediate parts aren't of the lengths they must have, or `out` is too small.
    pub fn encode(&self, way: &impl Begin, out: &mut [u8]) -> Result<(Header, usize), Unencodable> {
        let (header, len) = self.header(way)?;
        self.fill(room(out, len)?);
        Ok((header, len))
    }

    /// The header and the payload's length, which say nothing of what the immediate bytes are: those needn't be there yet.
    ///
    /// # Errors
    /// When the immediate parts aren't of the lengths they must have.
    pub fn header(&self, way: &impl Begin) -> Result<(Header, usize), Unencodable> {
        let immediate = &self.immediate;
        at_most("immediate bytes", immediate.bytes.len(), 7)?;
        at_most("immediate qwords", immediate.qwords.len(), 56)?;
        if !immediate.qwords.len().is_multiple_of(8) {
            return Err(Unencodable::Field { name: "immediate qwords", value: immediate.qwords.len() as u64 });
        }
        if immediate.message_bytes() as u64 > self.len {
            return Err(Unencodable::Field { name: "rendezvous length", value: self.len });
        }
        let blocks = 1 + usize::from(immediate.has_fragments()) + usize::from(immediate.block.is_some());
        let mut header = Header::message(way, Opcode::RzvRts, self.tag, self.cq_data);
        header.set_word::<4>(1 << 48);
        header.set_word::<5>(self.len);
        header.set_payload_len(blocks * BLOCK);
        Ok((header, blocks * BLOCK))
    }

    /// Writes the payload to `out`, which is as long as it.
    pub fn fill(&self, out: &mut [u8]) {
        let immediate = &self.immediate;
        let counts = u64::from(immediate.tail.is_some())
            | u64::from(immediate.block.is_some()) << 1
            | (immediate.qwords.len() as u64 / 8) << 2
            | (immediate.bytes.len() as u64) << 5;
        let info = packed(&immediate.tail.unwrap_or_default()) | counts << 56;
        let first_block: [u64; 8] =
            [0, self.src_vaddr, self.src_len(), self.src_device, self.src_iface, info, self.origin_counter, 0];
        out.fill(0);
        let fragments = immediate.has_fragments().then_some([packed(immediate.bytes)]);
        let parts = first_block.iter().chain(fragments.iter().flatten());
        for (to, from) in out.as_chunks_mut::<8>().0.iter_mut().zip(parts) {
            *to = from.to_le_bytes();
        }
        for (to, from) in out.iter_mut().skip(BLOCK + 8).zip(immediate.qwords) {
            *to = *from;
        }
        if let (Some(block), Some(to)) = (immediate.block, out.last_chunk_mut::<BLOCK>()) {
            *to = *block;
        }
    }

    /// Reads a packet of G4.
    ///
    /// # Errors
    /// As [`RzvRts::decode_in`].
    pub fn decode(header: &'a Header, payload: &'a [u8]) -> Result<Self, Malformed> {
        Self::decode_in(Generation::G4, header, payload)
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// When it isn't an RZV_RTS, is of the non-contiguous or inter-process form, is too short, or its lengths disagree.
    pub fn decode_in(generation: Generation, header: &'a Header, payload: &'a [u8]) -> Result<Self, Malformed> {
        let Opcode::RzvRts(flavour) = header.opcode_in(generation) else {
            return Err(Malformed::Opcode(header.opcode().byte()));
        };
        let (head, rest) = split(header.payload_in(generation, payload)?, BLOCK)?;
        let h4 = header.word::<4>();
        if h4 & RTS_FLAGS != 0 {
            return Err(Malformed::Unsupported { name: "rendezvous flags", value: (h4 & RTS_FLAGS) >> 16 });
        }
        if h4 >> 48 != 1 {
            return Err(Malformed::Field { name: "rendezvous vectors", value: h4 >> 48 });
        }
        let info = qword(head, 5)?;
        let counts = info >> 56;
        let (byte_count, qword_bytes) = ((counts >> 5) as usize & 7, (counts as usize >> 2 & 7) * 8);
        let (fragments, rest) = split(rest, if byte_count + qword_bytes != 0 { BLOCK } else { 0 })?;
        let (bytes, qwords) = fragments.split_at_checked(8).unwrap_or_default();
        let block = match counts & 2 {
            0 => None,
            _ => Some(rest.first_chunk::<BLOCK>().ok_or(Malformed::Short { have: rest.len(), need: BLOCK })?),
        };
        let tail = (counts & 1 != 0).then(|| {
            let [a, b, c, d, e, f, g, _] = info.to_le_bytes();
            [a, b, c, d, e, f, g]
        });
        let immediate =
            Immediate { bytes: first(bytes, byte_count)?, qwords: first(qwords, qword_bytes)?, block, tail };
        let (len, src_len) = (header.word::<5>(), qword(head, 2)?);
        if src_len.checked_add(immediate.message_bytes() as u64) != Some(len) {
            return Err(Malformed::Field { name: "rendezvous source length", value: src_len });
        }
        let (tag, cq_data) = header.envelope(flavour);
        Ok(Self {
            tag,
            cq_data,
            len,
            src_vaddr: qword(head, 1)?,
            src_device: qword(head, 3)?,
            src_iface: qword(head, 4)?,
            origin_counter: qword(head, 6)?,
            immediate,
        })
    }
}

/// Which kind of rendezvous a CTS or DATA packet belongs to. The other kinds of DATA (put, get, atomics) aren't read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RzvOp {
    /// A contiguous source.
    Rzv,
    /// A source of several pieces.
    NonContiguous,
}

impl RzvOp {
    const fn op(self) -> DputOp {
        match self {
            Self::Rzv => DputOp::Rzv,
            Self::NonContiguous => DputOp::RzvNonContiguous,
        }
    }

    fn of(op: DputOp) -> Result<Self, Malformed> {
        match op {
            DputOp::Rzv => Ok(Self::Rzv),
            DputOp::RzvNonContiguous => Ok(Self::NonContiguous),
            other => Err(Malformed::Unsupported { name: "DPUT opcode", value: other.code() }),
        }
    }
}

/// A piece of a message that the receiver asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Iov {
    /// Where it goes at the receiver.
    pub rbuf: u64,
    /// Where it lies at the sender: `src_vaddr` of the RTS and an offset.
    pub sbuf: u64,
    /// How long it is.
    pub bytes: u64,
    /// Device that the source is on, as in the RTS.
    pub sbuf_device: u64,
    /// Kind of the source's device, as in the RTS.
    pub sbuf_iface: u32,
}

impl Iov {
    /// Writes it as the first block of `out`.
    pub(super) fn write(&self, out: &mut [u8]) {
        let words: [u64; 8] =
            [self.rbuf, self.sbuf, self.bytes, 0, self.sbuf_device, u64::from(self.sbuf_iface) << 32, 0, 0];
        for (to, from) in out.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *to = from.to_le_bytes();
        }
    }

    /// Reads the first block of `block`.
    pub(super) fn read(block: &[u8]) -> Result<Self, Malformed> {
        let block = first(block, BLOCK)?;
        Ok(Self {
            rbuf: qword(block, 0)?,
            sbuf: qword(block, 1)?,
            bytes: qword(block, 2)?,
            sbuf_device: qword(block, 4)?,
            sbuf_iface: (qword(block, 5)? >> 32) as u32,
        })
    }
}

/// What a receiver answers to an RTS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Send these pieces.
    Send {
        /// Kind of rendezvous, to be repeated in the data.
        op: RzvOp,
        /// Name of the transfer at the receiver, to be repeated in the data.
        target_cookie: u64,
        /// The first piece.
        iov: Iov,
        /// A second one.
        second: Option<Iov>,
    },
    /// The receive buffer is too small; send nothing. Never to be answered to an OPX peer whose counter is 0.
    Truncated,
}

/// The answer to an RTS. Source: `fi_opx_hfi1.c:opx_hfi1_rx_rzv_rts_send_cts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RzvCts {
    /// The sender's name of the transfer, from the RTS.
    pub origin_counter: u64,
    /// The answer.
    pub answer: Answer,
}

impl RzvCts {
    /// The header, and the payload in `out`; gives the payload's length.
    ///
    /// # Errors
    /// When `out` is too small.
    pub fn encode(&self, way: &impl Begin, out: &mut [u8]) -> Result<(Header, usize), Unencodable> {
        let mut header = way.begin(Opcode::RzvCts);
        header.set_word::<5>(self.origin_counter);
        let Answer::Send { op, target_cookie, iov, second } = self.answer else {
            header.set_word::<4>(DputOp::RzvTruncated.code());
            return Ok((header, 0));
        };
        let count = 1 + usize::from(second.is_some());
        let out = room(out, count * BLOCK)?;
        for (block, iov) in out.as_chunks_mut::<BLOCK>().0.iter_mut().zip([Some(iov), second].iter().flatten()) {
            iov.write(block);
        }
        header.set_word::<4>(op.op().code() | (count as u64) << 48);
        header.set_word::<6>(target_cookie);
        header.set_payload_len(count * BLOCK);
        Ok((header, count * BLOCK))
    }

    /// Reads a packet of G4.
    ///
    /// # Errors
    /// As [`RzvCts::decode_in`].
    pub fn decode(header: &Header, payload: &[u8]) -> Result<Self, Malformed> {
        Self::decode_in(Generation::G4, header, payload)
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// When it isn't an RZV_CTS, answers something other than a plain rendezvous, or is too short.
    pub fn decode_in(generation: Generation, header: &Header, payload: &[u8]) -> Result<Self, Malformed> {
        if header.opcode() != Opcode::RzvCts {
            return Err(Malformed::Opcode(header.opcode().byte()));
        }
        let payload = header.payload_in(generation, payload)?;
        let (h4, origin_counter) = (header.word::<4>(), header.word::<5>());
        let op = match DputOp::from_code(h4 & 0xff)? {
            DputOp::RzvTruncated => return Ok(Self { origin_counter, answer: Answer::Truncated }),
            op => RzvOp::of(op)?,
        };
        let (head, rest) = split(payload, BLOCK)?;
        let second = match h4 >> 48 {
            1 => None,
            2 => Some(Iov::read(rest)?),
            value => return Err(Malformed::Field { name: "CTS vectors", value }),
        };
        let answer = Answer::Send { op, target_cookie: header.word::<6>(), iov: Iov::read(head)?, second };
        Ok(Self { origin_counter, answer })
    }
}

/// To what the data of a DATA packet is filled up. The receiver knows its true length from the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// To 8 bytes, as SDMA does.
    Qword,
    /// To whole 64-byte blocks, as PIO does.
    Block,
}

impl Padding {
    /// `bytes` filled up.
    pub const fn pad(self, bytes: usize) -> usize {
        match self {
            Self::Qword => bytes.next_multiple_of(8),
            Self::Block => bytes.next_multiple_of(BLOCK),
        }
    }
}

/// A piece of a message, to be put at an absolute place. Source: `fi_opx_hfi1.c:fi_opx_hfi1_do_dput`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RzvData {
    /// Kind of rendezvous, from the CTS.
    pub op: RzvOp,
    /// The receiver's name of the transfer, from the CTS.
    pub target_cookie: u64,
    /// Where it goes at the receiver.
    pub rbuf: u64,
    /// Bytes of data, at least 1; the payload may be padded beyond.
    pub len: u16,
    /// Asks the receiver for an ACK at once: for the last packet of an SDMA request.
    pub ack_req: bool,
}

impl RzvData {
    /// The header. The payload is `len` bytes of data, padded as said; the caller lays it behind.
    ///
    /// # Errors
    /// When there is no data or more than a packet carries.
    pub fn encode(&self, way: &impl Begin, padding: Padding) -> Result<Header, Unencodable> {
        let Self { op, target_cookie, rbuf, len, ack_req } = *self;
        let atomic = Atomic::RENDEZVOUS;
        Dput { op: op.op(), atomic, name: target_cookie, place: rbuf, len, ack_req }.encode(way, padding)
    }

    /// Reads a packet of G4; gives its data too.
    ///
    /// # Errors
    /// As [`RzvData::decode_in`].
    pub fn decode<'a>(header: &Header, payload: &'a [u8]) -> Result<(Self, &'a [u8]), Malformed> {
        Self::decode_in(Generation::G4, header, payload)
    }

    /// Reads a packet; gives its data too.
    ///
    /// # Errors
    /// When it isn't an RZV_DATA, is one of a put, get or atomic, has no data or fewer bytes than it says.
    pub fn decode_in<'a>(
        generation: Generation,
        header: &Header,
        payload: &'a [u8],
    ) -> Result<(Self, &'a [u8]), Malformed> {
        let (dput, data) = Dput::decode_in(generation, header, payload)?;
        let Dput { op, name, place, len, ack_req, .. } = dput;
        Ok((Self { op: RzvOp::of(op)?, target_cookie: name, rbuf: place, len, ack_req }, data))
    }
}
