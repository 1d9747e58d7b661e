//! Puts, gets and atomics: DATA packets of every kind, the requests for them, and the rendezvous answer that names expected
//! buffers.

use super::rendezvous::Iov;
use super::{BLOCK, Begin, Generation, Header, MAX_PAYLOAD_BYTES, Malformed, Opcode, Padding, Unencodable};
use super::{at_most, first, qword, room, split};
use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

/// What a DATA or CTS packet is part of ("DPUT opcode").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DputOp {
    /// A rendezvous.
    Rzv,
    /// A write, or an atomic without a result.
    Put,
    /// A read, and the answer to one.
    Get,
    /// The end of writes through shared memory.
    Fence,
    /// An atomic that gives the old value.
    AtomicFetch,
    /// An atomic that compares and gives the old value.
    AtomicCompareFetch,
    /// A rendezvous of several pieces.
    RzvNonContiguous,
    /// The receive buffer of a rendezvous is too small.
    RzvTruncated,
    /// A rendezvous into expected buffers.
    RzvTid,
    /// A write with data for the target's completion.
    PutCq,
    /// A rendezvous through another process' device memory.
    Ipc,
}

impl DputOp {
    pub(super) const fn code(self) -> u64 {
        match self {
            Self::Rzv => 0,
            Self::Put => 1,
            Self::Get => 2,
            Self::Fence => 3,
            Self::AtomicFetch => 4,
            Self::AtomicCompareFetch => 5,
            Self::RzvNonContiguous => 6,
            Self::RzvTruncated => 7,
            Self::RzvTid => 8,
            Self::PutCq => 9,
            Self::Ipc => 10,
        }
    }

    pub(super) const fn from_code(code: u64) -> Result<Self, Malformed> {
        Ok(match code {
            0 => Self::Rzv,
            1 => Self::Put,
            2 => Self::Get,
            3 => Self::Fence,
            4 => Self::AtomicFetch,
            5 => Self::AtomicCompareFetch,
            6 => Self::RzvNonContiguous,
            7 => Self::RzvTruncated,
            8 => Self::RzvTid,
            9 => Self::PutCq,
            10 => Self::Ipc,
            value => return Err(Malformed::Field { name: "DPUT opcode", value }),
        })
    }
}

/// Type and operation of an atomic, in libfabric's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Atomic {
    /// `enum fi_datatype`.
    pub datatype: u8,
    /// `enum fi_op`.
    pub op: u8,
}

impl Atomic {
    /// No atomic: of puts and requests.
    pub const NONE: Self = Self { datatype: 0xff, op: 0xff };
    /// No atomic, as a rendezvous says it.
    pub const RENDEZVOUS: Self = Self { datatype: 0, op: 0 };
    /// No atomic, as the answer to a get says it. The answer to an atomic has its datatype, and no operation either.
    pub const ANSWER: Self = Self { datatype: 0xff, op: 0 };

    /// Whether a put or a request is a plain one: an OPX target takes it for an atomic if either number isn't 0xff.
    pub const fn is_none(self) -> bool {
        self.datatype == Self::NONE.datatype && self.op == Self::NONE.op
    }

    const fn bits(self) -> u64 {
        self.datatype as u64 | (self.op as u64) << 8
    }

    const fn of(bits: u64) -> Self {
        Self { datatype: bits as u8, op: (bits >> 8) as u8 }
    }
}

/// A DATA packet of any kind. Source: `fi_opx_hfi1.c:fi_opx_hfi1_do_dput`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dput {
    /// What it is part of.
    pub op: DputOp,
    /// Which atomic, if it is one.
    pub atomic: Atomic,
    /// The receiver's name of the transfer, or the key of its memory region.
    pub name: u64,
    /// Where it goes at the receiver: an address, or a place in the region.
    pub place: u64,
    /// Bytes of data, at least 1; the payload may be padded beyond, except in the expected form.
    pub len: u16,
    /// Asks the receiver for an ACK at once.
    pub ack_req: bool,
}

impl Dput {
    /// The header. The payload is `len` bytes of data, padded as said; the caller lays it behind.
    ///
    /// # Errors
    /// When there is no data or more than a packet carries.
    pub fn encode(&self, way: &impl Begin, padding: Padding) -> Result<Header, Unencodable> {
        at_most("data", usize::from(self.len), MAX_PAYLOAD_BYTES)?;
        if self.len == 0 {
            return Err(Unencodable::Field { name: "data length", value: 0 });
        }
        let mut header = way.begin(Opcode::RzvData);
        header.0[16] = u8::from(self.ack_req) << 7;
        let len = u64::from(self.len);
        // A receiver takes `last_bytes` of a packet that asks for an ACK, `bytes` of any other.
        let last = if self.ack_req { len << 32 } else { 0 };
        let op = if way.generation() == Generation::G1 { self.op.code() } else { self.op.code() << 4 };
        header.set_word::<4>(op | u64::from(way.src_rx()) << 8 | self.atomic.bits() << 16 | last | len << 48);
        header.set_word::<5>(self.name);
        // High half big-endian, low half little-endian: the SDMA engine adds its offset to the low one.
        header.set_word::<6>(u64::from(((self.place >> 32) as u32).swap_bytes()) | self.place << 32);
        header.set_payload_len(padding.pad(usize::from(self.len)));
        Ok(header)
    }

    /// What a DATA packet is part of.
    pub(super) fn op(generation: Generation, header: &Header) -> Result<DputOp, Malformed> {
        let byte = u64::from(header.0[32]);
        DputOp::from_code(if generation == Generation::G1 { byte } else { byte >> 4 })
    }

    /// Reads a packet; gives its data too.
    ///
    /// # Errors
    /// When it isn't a DATA packet, has no data or fewer bytes than it says.
    pub fn decode_in<'a>(
        generation: Generation,
        header: &Header,
        payload: &'a [u8],
    ) -> Result<(Self, &'a [u8]), Malformed> {
        if header.opcode() != Opcode::RzvData {
            return Err(Malformed::Opcode(header.opcode().byte()));
        }
        let payload = header.payload_in(generation, payload)?;
        let (op, h4) = (Self::op(generation, header)?, header.word::<4>());
        let ack_req = header.ack_req();
        let len = match op {
            // Of expected packets the length in LRH is the true one.
            DputOp::RzvTid => payload.len(),
            _ => usize::from(if ack_req { h4 >> 32 } else { h4 >> 48 } as u16),
        };
        if len == 0 || len > MAX_PAYLOAD_BYTES {
            return Err(Malformed::Field { name: "data length", value: len as u64 });
        }
        Ok((Self::of_words(op, header, len), first(payload, len)?))
    }

    /// What the header says of `len` bytes of data.
    pub(super) fn of_words(op: DputOp, header: &Header, len: usize) -> Self {
        let (h4, h6) = (header.word::<4>(), header.word::<6>());
        let place = u64::from((h6 as u32).swap_bytes()) << 32 | h6 >> 32;
        let atomic = Atomic::of(h4 >> 16);
        Self { op, atomic, name: header.word::<5>(), place, len: len as u16, ack_req: header.ack_req() }
    }
}

/// What a DATA packet of an atomic with a result carries: where the result goes, then the operands.
///
/// An operation that doesn't fit one packet goes as several, each complete in itself: `rbuf` moves on with
/// [`Dput::place`]. The answer is DATA of [`DputOp::Get`] whose `name` is `request` and whose `place` is `rbuf`.
/// Source: `fi_opx_hfi1_inlines.h:opx_hfi1_dput_write_payload_atomic_fetch` and `..._atomic_compare_fetch`.
///
/// ```
/// use opx_defs::wire::opx::{Atomic, DputOp, Fetch};
///
/// let fetch = Fetch { rbuf: 0x1000, request: 7, operand: &[1, 0, 0, 0], compare: None };
/// let mut payload = [0; 64];
/// let dput = fetch.encode(Atomic { datatype: 5, op: 2 }, 0xabcd, 0x40, &mut payload)?;
/// assert_eq!((dput.op, dput.len), (DputOp::AtomicFetch, 20));
/// assert_eq!(Fetch::decode(&dput, &payload[..20]), Ok(fetch));
/// # Ok::<(), opx_defs::wire::opx::Unencodable>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch<'a> {
    /// Where the result goes at the requester.
    pub rbuf: u64,
    /// The requester's name of the request.
    pub request: u64,
    /// The operands: at least a byte.
    pub operand: &'a [u8],
    /// The values to compare, of the operands' length, if the operation has them.
    pub compare: Option<&'a [u8]>,
}

impl<'a> Fetch<'a> {
    /// Bytes before the operands.
    pub const FIXED_BYTES: usize = 16;

    /// The payload in `out`, and the DATA packet that carries it, in one go; its [`Dput::len`] says how long the payload is.
    /// `key` names the target's memory region and `place` the target in it.
    ///
    /// # Errors
    /// When there are no operands or more than a packet carries, when the values to compare aren't as long as they are, or when
    /// `out` is too small.
    pub fn encode(&self, atomic: Atomic, key: u64, place: u64, out: &mut [u8]) -> Result<Dput, Unencodable> {
        let compare = self.compare.unwrap_or_default();
        if self.operand.is_empty() {
            return Err(Unencodable::Field { name: "operand length", value: 0 });
        }
        if self.compare.is_some_and(|compare| compare.len() != self.operand.len()) {
            return Err(Unencodable::Field { name: "length of values to compare", value: compare.len() as u64 });
        }
        let len = Self::FIXED_BYTES.saturating_add(self.operand.len()).saturating_add(compare.len());
        at_most("atomic operands", len, MAX_PAYLOAD_BYTES)?;
        let fixed = [self.rbuf.to_le_bytes(), self.request.to_le_bytes()];
        let bytes = fixed.as_flattened().iter().chain(self.operand).chain(compare);
        for (to, from) in room(out, len)?.iter_mut().zip(bytes) {
            *to = *from;
        }
        let op = if self.compare.is_some() { DputOp::AtomicCompareFetch } else { DputOp::AtomicFetch };
        Ok(Dput { op, atomic, name: key, place, len: len as u16, ack_req: false })
    }

    /// Reads what came with a DATA packet.
    ///
    /// # Errors
    /// When the packet isn't one of an atomic with a result, has no operands, or operands and values to compare can't be of one
    /// length.
    pub fn decode(dput: &Dput, data: &'a [u8]) -> Result<Self, Malformed> {
        let (fixed, operands) = split(data, Self::FIXED_BYTES)?;
        if operands.is_empty() {
            return Err(Malformed::Short { have: data.len(), need: Self::FIXED_BYTES + 1 });
        }
        let (operand, compare) = match dput.op {
            DputOp::AtomicFetch => (operands, None),
            DputOp::AtomicCompareFetch if operands.len().is_multiple_of(2) => {
                let (operand, compare) = split(operands, operands.len() / 2)?;
                (operand, Some(compare))
            }
            DputOp::AtomicCompareFetch => {
                return Err(Malformed::Field { name: "operands and values to compare", value: operands.len() as u64 });
            }
            other => return Err(Malformed::Unsupported { name: "DPUT opcode", value: other.code() }),
        };
        Ok(Self { rbuf: qword(fixed, 0)?, request: qword(fixed, 1)?, operand, compare })
    }
}

/// Which request an RMA packet makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RmaOp {
    /// Reads from the region whose key is `target`; `request` names the read.
    Get,
    /// Answers an [`RmaRts`] whose `request` this is; `target` names the transfer at the target.
    PutCq,
}

/// A CTS that isn't part of a rendezvous: a read request, or the answer to a write with completion data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RmaCts {
    /// Which.
    pub op: RmaOp,
    /// Which atomic, if it is one.
    pub atomic: Atomic,
    /// See [`RmaOp`].
    pub request: u64,
    /// See [`RmaOp`].
    pub target: u64,
    /// What is wanted.
    pub iov: Iov,
}

impl RmaCts {
    /// The header, and the payload in `out`; gives the payload's length.
    ///
    /// # Errors
    /// When `out` is too small.
    pub fn encode(&self, way: &impl Begin, out: &mut [u8]) -> Result<(Header, usize), Unencodable> {
        self.iov.write(room(out, BLOCK)?);
        let op = match self.op {
            RmaOp::Get => DputOp::Get,
            RmaOp::PutCq => DputOp::PutCq,
        };
        let mut header = way.begin(Opcode::RzvCts);
        header.set_word::<4>(op.code() | self.atomic.bits() << 32 | 1 << 48);
        header.set_word::<5>(self.request);
        header.set_word::<6>(self.target);
        header.set_payload_len(BLOCK);
        Ok((header, BLOCK))
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// When it isn't such a CTS, or is too short.
    pub fn decode_in(generation: Generation, header: &Header, payload: &[u8]) -> Result<Self, Malformed> {
        if header.opcode() != Opcode::RzvCts {
            return Err(Malformed::Opcode(header.opcode().byte()));
        }
        let h4 = header.word::<4>();
        let op = match DputOp::from_code(h4 & 0xff)? {
            DputOp::Get => RmaOp::Get,
            DputOp::PutCq => RmaOp::PutCq,
            _ => return Err(Malformed::Unsupported { name: "DPUT opcode", value: h4 & 0xff }),
        };
        if h4 >> 48 != 1 {
            return Err(Malformed::Field { name: "CTS vectors", value: h4 >> 48 });
        }
        Ok(Self {
            op,
            atomic: Atomic::of(h4 >> 32),
            request: header.word::<5>(),
            target: header.word::<6>(),
            iov: Iov::read(header.payload_in(generation, payload)?)?,
        })
    }
}

/// The offer of a write with data for the target's completion. Source: `fi_opx_hfi1.c:opx_hfi1_tx_rma_rts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RmaRts {
    /// Data for the target's completion.
    pub cq_data: u32,
    /// Which atomic, if it is one.
    pub atomic: Atomic,
    /// Key of the target's memory region.
    pub key: u64,
    /// Name of the write at its origin.
    pub request: u64,
    /// What is to be written, and where.
    pub iov: Iov,
}

impl RmaRts {
    /// The header, and the payload in `out`; gives the payload's length.
    ///
    /// # Errors
    /// When `out` is too small.
    pub fn encode(&self, way: &impl Begin, out: &mut [u8]) -> Result<(Header, usize), Unencodable> {
        self.iov.write(room(out, BLOCK)?);
        let mut header = way.begin(Opcode::RmaRts);
        header.set_cq_data(self.cq_data);
        // OPX lays its opcodes of two kinds over each other here, and no receiver looks.
        let op = DputOp::PutCq.code() | u64::from(Opcode::RmaRts.byte());
        header.set_word::<4>(op | self.atomic.bits() << 32 | 1 << 48);
        header.set_word::<5>(self.key);
        header.set_word::<6>(self.request);
        header.set_payload_len(BLOCK);
        Ok((header, BLOCK))
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// When it isn't an RMA_RTS, or is too short.
    pub fn decode_in(generation: Generation, header: &Header, payload: &[u8]) -> Result<Self, Malformed> {
        if header.opcode() != Opcode::RmaRts {
            return Err(Malformed::Opcode(header.opcode().byte()));
        }
        let h4 = header.word::<4>();
        if h4 >> 48 != 1 {
            return Err(Malformed::Field { name: "RMA vectors", value: h4 >> 48 });
        }
        Ok(Self {
            cq_data: header.cq_data(),
            atomic: Atomic::of(h4 >> 32),
            key: header.word::<5>(),
            request: header.word::<6>(),
            iov: Iov::read(header.payload_in(generation, payload)?)?,
        })
    }
}

/// An answer to an RTS that names the expected buffers in which the data goes.
///
/// Source: `fi_opx_hfi1.c:opx_hfi1_rx_rzv_rts_send_cts`.
#[derive(Debug, Clone, Copy)]
pub struct RzvTidCts<'a> {
    /// The sender's name of the transfer, from the RTS.
    pub origin_counter: u64,
    /// Name of the transfer at the receiver, to be repeated in the data.
    pub target_cookie: u64,
    /// The piece that is asked for.
    pub iov: Iov,
    /// Where in the first expected buffer the data begins.
    pub offset: u32,
    /// Bytes asked for that came with the RTS already.
    pub adjust: i32,
    /// The expected buffers.
    pub pairs: &'a [U32],
}

impl PartialEq for RzvTidCts<'_> {
    fn eq(&self, other: &Self) -> bool {
        let fields = |cts: &Self| (cts.origin_counter, cts.target_cookie, cts.iov, cts.offset, cts.adjust);
        fields(self) == fields(other) && self.pairs == other.pairs
    }
}

impl Eq for RzvTidCts<'_> {}

impl<'a> RzvTidCts<'a> {
    const FIXED: usize = BLOCK + 16;

    /// The header, and the payload in `out`; gives the payload's length.
    ///
    /// # Errors
    /// When there are more buffers than a packet names, or `out` is too small.
    pub fn encode(&self, way: &impl Begin, out: &mut [u8]) -> Result<(Header, usize), Unencodable> {
        let len = Self::FIXED + self.pairs.len() * 4;
        at_most("expected buffers", len, MAX_PAYLOAD_BYTES)?;
        let out = room(out, len)?;
        self.iov.write(out);
        let fixed = [self.offset, self.pairs.len() as u32, self.adjust as u32, 0];
        let words = fixed.into_iter().chain(self.pairs.iter().map(|pair| pair.get()));
        for (to, word) in out.as_chunks_mut::<4>().0.iter_mut().skip(BLOCK / 4).zip(words) {
            *to = word.to_le_bytes();
        }
        let mut header = way.begin(Opcode::RzvCts);
        header.set_word::<4>(DputOp::RzvTid.code() | (self.pairs.len() as u64) << 32 | 1 << 48);
        header.set_word::<5>(self.origin_counter);
        header.set_word::<6>(self.target_cookie);
        header.set_payload_len(len);
        Ok((header, len))
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// When it isn't such a CTS, is too short, or its counts disagree.
    pub fn decode_in(generation: Generation, header: &Header, payload: &'a [u8]) -> Result<Self, Malformed> {
        if header.opcode() != Opcode::RzvCts {
            return Err(Malformed::Opcode(header.opcode().byte()));
        }
        let h4 = header.word::<4>();
        if h4 & 0xff != DputOp::RzvTid.code() {
            return Err(Malformed::Unsupported { name: "DPUT opcode", value: h4 & 0xff });
        }
        if h4 >> 48 != 1 {
            return Err(Malformed::Field { name: "CTS vectors", value: h4 >> 48 });
        }
        let (head, rest) = split(header.payload_in(generation, payload)?, BLOCK)?;
        let (fixed, rest) = split(rest, 16)?;
        let (low, high) = (qword(fixed, 0)?, qword(fixed, 1)?);
        let count = low >> 32;
        if count != h4 >> 32 & 0xffff {
            return Err(Malformed::Field { name: "expected buffers", value: count });
        }
        let pairs = first(rest, count as usize * 4)?;
        let short = Malformed::Short { have: rest.len(), need: count as usize * 4 };
        Ok(Self {
            origin_counter: header.word::<5>(),
            target_cookie: header.word::<6>(),
            iov: Iov::read(head)?,
            offset: low as u32,
            adjust: high as i32,
            pairs: <[U32]>::ref_from_bytes(pairs).map_err(|_| short)?,
        })
    }
}
