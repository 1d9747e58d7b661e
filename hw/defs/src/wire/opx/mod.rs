//! Packets of libfabric's OPX provider in 9B form, all four generations: the 56-byte header and what each kind puts in it.
//!
//! Every packet is LRH 8, BTH 12, KDETH 36 bytes, then payload. The seven qwords of the header are called H0 to H6.
//! H0 to H3 mean the same in all packets but RZV_DATA, whose PSN and origin lie elsewhere because SDMA hardware rewrites
//! those words. H4 to H6 belong to the packet's kind, see the submodules.
//!
//! Packets are written in the generation that their [`Route`] names. Functions that read have a form with a generation
//! (`..._in`) and one without, for G4.
//!
//! ```
//! use opx_defs::units::{JobKey, Lid, Pkey, Psn, Sc, Sl};
//! use opx_defs::wire::opx::{Generation, Inject, Origin, Packet, Route};
//!
//! let route = Route {
//!     slid: Lid(1), dlid: Lid(2), primary_lid: Lid(1), src_rx: 5, dst_rx: 7,
//!     sc: Sc(0), sl: Sl(0), pkey: Pkey(0x8001), job_key: JobKey(0x83e8), qp_prefix: 0x80,
//!     generation: Generation::G4,
//! };
//! let mut header = Inject { tag: Some(9), cq_data: None, data: b"hello" }.encode(&route).unwrap();
//! header.set_psn(Psn::new(3));
//!
//! assert_eq!(header.origin(), Origin { lid: Lid(1), rx: 5 });
//! let Ok(Packet::Inject(inject)) = Packet::decode(&header, &[]) else { panic!() };
//! assert_eq!((inject.tag, inject.data), (Some(9), &b"hello"[..]));
//! ```

mod eager;
mod expected;
mod generation;
mod model;
mod models;
mod multi_packet;
mod name;
mod rendezvous;
mod rma;
mod short;
mod sixteen;
mod ud;

pub use eager::{Eager, Inject};
pub use generation::{Generation, UnknownGeneration};
pub use model::{Block, Model};
pub use models::{Begin, Models, Way};
pub use multi_packet::{MpFirst, MpNth};
pub use name::EndpointName;
pub use rendezvous::{Answer, Immediate, Iov, Padding, RzvCts, RzvData, RzvOp, RzvRts};
pub use rma::{Atomic, Dput, DputOp, Fetch, RmaCts, RmaOp, RmaRts, RzvTidCts};
pub use short::Short;
pub use sixteen::{HEADER16_BYTES, Header16, Model16};
pub use ud::{FlowKey, Ud, UdOp};

use super::OPX_HEADER_BYTES;
use super::lrh::{Lrh, NextHeader};
use super::pbc::Pbc;
use crate::units::{Dwords, JobKey, Lid, Pkey, Psn, Sc, Sl, Vl};
use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The largest payload of one packet that OPX can be told to use (`FI_OPX_MAX_PKT_SIZE`).
pub const MAX_PAYLOAD_BYTES: usize = 10240;
/// The largest message that goes as INJECT.
pub const INJECT_MAX_BYTES: usize = 16;

/// LRH length of a packet without payload: 14 dwords of header and the ICRC.
const BARE_DWORDS: u32 = 15;
/// Bytes of the pieces in which rendezvous packets are laid out.
const BLOCK: usize = 64;
/// KDETH version 1, in bits 63:62 of H2.
const KVER: u64 = 1 << 62;

/// Everything about a packet's way and identity that isn't its kind, from the sender's point of view.
///
/// Sub-contexts are 0 here: a receive context is owned by one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// LID that the packet leaves from.
    pub slid: Lid,
    /// LID that it goes to.
    pub dlid: Lid,
    /// The LID under which the sender's flows are known; the same as `slid` on a one-port adapter.
    pub primary_lid: Lid,
    /// The sender's receive context: where answers go.
    pub src_rx: u8,
    /// The receiver's receive context.
    pub dst_rx: u8,
    /// Service class, 0 to 14: bit 4 would be read as part of the eager index by an OPX peer.
    pub sc: Sc,
    /// Service level.
    pub sl: Sl,
    /// Partition key.
    pub pkey: Pkey,
    /// Job key that the receiver's context expects.
    pub job_key: JobKey,
    /// Prefix of the queue pair that marks KDETH packets, 0x80 by default.
    pub qp_prefix: u8,
    /// Whose packets are spoken.
    pub generation: Generation,
}

/// Who sent a packet, as flows are keyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The sender's primary LID.
    pub lid: Lid,
    /// Its receive context.
    pub rx: u8,
}

/// Whether a message is tagged and whether it carries data for the receiver's completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flavour {
    /// Carries a tag to match.
    pub tagged: bool,
    /// Carries 32 bits for the completion queue.
    pub cq: bool,
}

impl Flavour {
    const fn bits(self) -> u8 {
        (self.tagged as u8) << 1 | self.cq as u8
    }

    const fn of(opcode: u8) -> Self {
        Self { tagged: opcode & 2 != 0, cq: opcode & 1 != 0 }
    }
}

/// What kind of packet it is: the BTH opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// Clear to send: the answer to a rendezvous.
    RzvCts,
    /// Data of a rendezvous (and of puts and gets).
    RzvData,
    /// The offer of a write with data for the target's completion.
    RmaRts,
    /// Reliability: ping, ACK, NACK.
    Ud,
    /// A later packet of a multi-packet eager message.
    MpNth,
    /// The first packet of a multi-packet eager message.
    MpFirst(Flavour),
    /// A message of up to 16 bytes in the header.
    Inject(Flavour),
    /// A message in one packet.
    Eager(Flavour),
    /// Request to send: the offer of a rendezvous.
    RzvRts(Flavour),
    /// Anything else.
    Other(u8),
}

impl Opcode {
    /// The byte in BTH, in G4.
    pub const fn byte(self) -> u8 {
        self.byte_in(Generation::G4)
    }

    /// The byte in BTH.
    pub const fn byte_in(self, generation: Generation) -> u8 {
        let old = matches!(generation, Generation::G1 | Generation::G2);
        match self {
            Self::RzvCts => 0xc1,
            Self::RzvData => 0xc2,
            Self::RmaRts => 0xc3,
            Self::Ud => 0xc6,
            Self::MpNth if old => 0xef,
            Self::MpNth => 0xeb,
            Self::MpFirst(flavour) if old => 0xf8 | flavour.bits(),
            Self::MpFirst(flavour) => 0xec | flavour.bits(),
            Self::Inject(flavour) => 0xf0 | flavour.bits(),
            Self::Eager(flavour) => 0xf4 | flavour.bits(),
            Self::RzvRts(flavour) if old => 0xfc | flavour.bits(),
            Self::RzvRts(flavour) => 0xf8 | flavour.bits(),
            Self::Other(byte) => byte,
        }
    }

    /// What a byte in BTH means, in G4.
    #[inline]
    pub fn from_byte(byte: u8) -> Self {
        Self::from_byte_in(Generation::G4, byte)
    }

    /// What a byte in BTH means.
    #[inline]
    pub fn from_byte_in(generation: Generation, byte: u8) -> Self {
        static MEANINGS: [[Opcode; 256]; 4] = [
            Opcode::meanings(Generation::G1),
            Opcode::meanings(Generation::G2),
            Opcode::meanings(Generation::G3),
            Opcode::meanings(Generation::G4),
        ];
        let generation = match generation {
            Generation::G1 => 0,
            Generation::G2 => 1,
            Generation::G3 => 2,
            Generation::G4 => 3,
        };
        MEANINGS[generation][usize::from(byte)]
    }

    const fn meanings(generation: Generation) -> [Self; 256] {
        let mut all = [Self::Other(0); 256];
        let mut byte = 0;
        while byte < all.len() {
            all[byte] = Self::meaning(generation, byte as u8);
            byte += 1;
        }
        all
    }

    const fn meaning(generation: Generation, byte: u8) -> Self {
        let old = matches!(generation, Generation::G1 | Generation::G2);
        match byte {
            0xc1 => Self::RzvCts,
            0xc2 => Self::RzvData,
            0xc3 => Self::RmaRts,
            0xc6 => Self::Ud,
            0xef if old => Self::MpNth,
            0xeb if !old => Self::MpNth,
            0xec..=0xef if !old => Self::MpFirst(Flavour::of(byte)),
            0xf0..=0xf3 => Self::Inject(Flavour::of(byte)),
            0xf4..=0xf7 => Self::Eager(Flavour::of(byte)),
            0xf8..=0xfb if old => Self::MpFirst(Flavour::of(byte)),
            0xf8..=0xfb => Self::RzvRts(Flavour::of(byte)),
            0xfc..=0xff if old => Self::RzvRts(Flavour::of(byte)),
            _ => Self::Other(byte),
        }
    }

    /// Whether packets of this kind have a PSN: all but the reliability protocol's own.
    pub const fn is_sequenced(self) -> bool {
        !matches!(self, Self::Ud)
    }
}

/// Why a received packet can't be taken for what its opcode says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// The packet isn't of the kind that was asked for, or of no kind known here.
    Opcode(u8),
    /// Fewer bytes than the header speaks of.
    Short {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        need: usize,
    },
    /// A field has a value that can't be.
    Field {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: u64,
    },
    /// A field asks for something that is legal in OPX and isn't built here.
    Unsupported {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: u64,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Opcode(byte) => write!(f, "unexpected packet opcode {byte:#04x}"),
            Self::Short { have, need } => write!(f, "packet has {have} bytes of payload where its header needs {need}"),
            Self::Field { name, value } => write!(f, "packet field {name} is {value:#x}, which can't be"),
            Self::Unsupported { name, value } => write!(f, "packet field {name} is {value:#x}, which isn't supported"),
        }
    }
}

impl core::error::Error for Malformed {}

/// Why a packet can't be built from what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unencodable {
    /// More data than this kind of packet carries.
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Bytes given.
        have: usize,
        /// Bytes that fit.
        limit: usize,
    },
    /// The buffer for the payload is too small.
    Buffer {
        /// Bytes of the buffer.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// A value doesn't fit its field or contradicts another.
    Field {
        /// Name of the field.
        name: &'static str,
        /// The value.
        value: u64,
    },
}

impl fmt::Display for Unencodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooLong { what, have, limit } => write!(f, "{what} is {have} bytes, a packet carries {limit}"),
            Self::Buffer { have, need } => write!(f, "payload buffer has {have} bytes, the packet needs {need}"),
            Self::Field { name, value } => write!(f, "{value:#x} can't be put in packet field {name}"),
        }
    }
}

impl core::error::Error for Unencodable {}

/// The 56 header bytes of an OPX packet, as they lie in memory. Any bytes are a `Header`; nothing is checked until asked.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Header(pub [u8; OPX_HEADER_BYTES]);

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let gap = if i != 0 && i % 8 == 0 { " " } else { "" };
            write!(f, "{gap}{byte:02x}")?;
        }
        Ok(())
    }
}

impl Header {
    /// A header without payload, PSN 0 and nothing of the kind's own.
    pub fn new(route: &Route, opcode: Opcode) -> Self {
        let lid = u64::from(route.primary_lid.0 & 0xff_ffff);
        let (job_key, rx) = (u64::from(route.job_key.0), u64::from(route.src_rx));
        let (h2, h3) = match (route.generation, opcode) {
            (Generation::G4, Opcode::RzvData) => (KVER, job_key | lid << 32),
            (_, Opcode::RzvData) => (KVER, job_key),
            (Generation::G1, Opcode::Ud) => (KVER | rx << 32, job_key),
            (Generation::G1, _) => (KVER | rx << 24, job_key),
            (Generation::G2 | Generation::G3, _) => (KVER | rx << 40, job_key),
            // fi_opx_hfi1_packet.h FI_OPX_PKT_PRIMARY_LID_TO_QW3: the LID fills what KDETH leaves free, in three pieces.
            (Generation::G4, _) => {
                (KVER | rx << 40 | (lid & 0x7f) << 25 | (lid >> 7 & 0x1f) << 35 | (lid >> 12 & 0xfff) << 50, job_key)
            }
        };
        // In G1 these carry the sender's context once more, and answers go to that one.
        let field = match (route.generation, opcode) {
            (Generation::G1, Opcode::RzvRts(_) | Opcode::RzvCts | Opcode::RzvData | Opcode::RmaRts) => route.src_rx,
            _ => 0,
        };
        let pkey = route.pkey.0.to_be_bytes();
        let lrh = Lrh {
            sc: route.sc,
            sl: route.sl,
            next: NextHeader::Bth,
            dlid: route.dlid,
            slid: route.slid,
            length: Dwords(BARE_DWORDS),
        };
        let mut header = Self([0; OPX_HEADER_BYTES]);
        header.set_word::<0>(u64::from_le_bytes(lrh.encode()));
        header.set_word::<1>(u64::from_le_bytes([
            opcode.byte_in(route.generation),
            0,
            pkey[0],
            pkey[1],
            0,
            route.qp_prefix,
            field,
            route.dst_rx,
        ]));
        header.set_word::<2>(h2);
        header.set_word::<3>(h3);
        header
    }

    /// Header word H`N`, little-endian.
    #[inline]
    pub fn word<const N: usize>(&self) -> u64 {
        u64::from_le_bytes(*self.word_bytes::<N>())
    }

    /// The bytes of header word H`N`.
    #[inline]
    pub fn word_bytes<const N: usize>(&self) -> &[u8; 8] {
        const { assert!(N < OPX_HEADER_BYTES / 8) };
        &self.0.as_chunks::<8>().0[N]
    }

    /// Sets header word H`N`, little-endian.
    #[inline]
    pub fn set_word<const N: usize>(&mut self, value: u64) {
        const { assert!(N < OPX_HEADER_BYTES / 8) };
        self.0.as_chunks_mut::<8>().0[N] = value.to_le_bytes();
    }

    /// All header words, little-endian.
    #[inline]
    pub fn words(&self) -> [u64; OPX_HEADER_BYTES / 8] {
        let mut words = [0; _];
        words.iter_mut().zip(self.0.as_chunks::<8>().0).for_each(|(to, from)| *to = u64::from_le_bytes(*from));
        words
    }

    /// The bytes as they lie in memory.
    pub const fn as_bytes(&self) -> &[u8; OPX_HEADER_BYTES] {
        &self.0
    }

    /// The local route header.
    #[inline]
    pub fn lrh(&self) -> Lrh {
        Lrh::decode(*self.word_bytes::<0>())
    }

    /// What kind of packet this is, in G4.
    #[inline]
    pub fn opcode(&self) -> Opcode {
        Opcode::from_byte(self.0[8])
    }

    /// What kind of packet this is.
    #[inline]
    pub fn opcode_in(&self, generation: Generation) -> Opcode {
        Opcode::from_byte_in(generation, self.0[8])
    }

    /// The LID that the packet left from.
    #[inline]
    pub fn slid(&self) -> Lid {
        self.lrh().slid
    }

    /// The LID that the packet was sent to.
    pub fn dlid(&self) -> Lid {
        self.lrh().dlid
    }

    /// The receive context that the packet was sent to.
    pub fn dst_rx(&self) -> u8 {
        self.0[15]
    }

    /// Who sent the packet, in G4.
    pub fn origin(&self) -> Origin {
        self.origin_in(Generation::G4)
    }

    /// Who sent the packet: up to G3 known by the LID that it left from, in G4 by the sender's primary LID.
    pub fn origin_in(&self, generation: Generation) -> Origin {
        let (h2, data) = (self.word::<2>(), self.opcode() == Opcode::RzvData);
        let rx = match (generation, self.opcode()) {
            (_, Opcode::RzvData) => self.0[33],
            (Generation::G1, Opcode::Ud) => self.0[20],
            (Generation::G1, _) => self.0[19],
            _ => self.0[21],
        };
        let lid = match generation {
            Generation::G4 if data => (self.word::<3>() >> 32) as u32 & 0xff_ffff,
            Generation::G4 => (h2 >> 25 & 0x7f | (h2 >> 35 & 0x1f) << 7 | (h2 >> 50 & 0xfff) << 12) as u32,
            _ => self.slid().0,
        };
        Origin { lid: Lid(lid), rx }
    }

    /// The packet's sequence number. In RZV_DATA it is where BTH has it, big-endian; elsewhere little-endian.
    pub fn psn(&self) -> Psn {
        let [a, b, c, d, ..] = *self.word_bytes::<2>();
        Psn::new(match self.opcode() {
            Opcode::RzvData => u32::from_be_bytes([0, b, c, d]),
            _ => u32::from_le_bytes([a, b, c, 0]),
        })
    }

    /// Sets the sequence number and leaves the rest of its word alone.
    #[inline]
    pub fn set_psn(&mut self, psn: Psn) {
        const RZV_DATA: u8 = Opcode::RzvData.byte();
        let (place, psn) = match self.0[8] {
            RZV_DATA => (0xffff_ff00, psn.get().swap_bytes()),
            _ => (0x00ff_ffff, psn.get()),
        };
        self.set_word::<2>(self.word::<2>() & !place | u64::from(psn));
    }

    /// Whether the sender asks for an ACK at once. Only RZV_DATA can.
    pub fn ack_req(&self) -> bool {
        self.opcode() == Opcode::RzvData && self.0[16] & 0x80 != 0
    }

    /// Whether the packet may be used before those that were sent before it.
    ///
    /// Data of a rendezvous says where it belongs (`fi_opx_reliability.c:fi_opx_reliability_rx_exception`). An answer is about
    /// nothing but what was asked for, whether that was an offer's data or the bytes of a get: in its turn it would wait behind
    /// messages that its receiver has no room for, and whoever waits for the answer before he asks for those would wait for ever.
    /// Writes, atomics and requests are used in order, as in OPX, which promises the order of atomics; and a write's completion
    /// data must not be told of before the writes that were sent before it.
    #[inline]
    pub fn is_free_of_order(&self, generation: Generation) -> bool {
        use rma::DputOp::{Get, PutCq, Rzv, RzvNonContiguous, RzvTid, RzvTruncated};
        match self.opcode() {
            Opcode::RzvData => matches!(rma::Dput::op(generation, self), Ok(Rzv | RzvNonContiguous | RzvTid | Get)),
            Opcode::RzvCts => {
                let op = rma::DputOp::from_code(u64::from(self.0[32]));
                matches!(op, Ok(Rzv | RzvNonContiguous | RzvTid | RzvTruncated | PutCq))
            }
            _ => false,
        }
    }

    /// Whether the packet is one whose receiver owes its sender an answer of data: a get, an atomic with a result, the offer of a
    /// write. (The answer to the offer of a message waits for a receive.)
    pub fn asks_for_answer(&self, generation: Generation) -> bool {
        use rma::DputOp::{AtomicCompareFetch, AtomicFetch, Get};
        match self.opcode() {
            Opcode::RzvData => matches!(rma::Dput::op(generation, self), Ok(AtomicFetch | AtomicCompareFetch)),
            Opcode::RzvCts => rma::DputOp::from_code(u64::from(self.0[32])) == Ok(Get),
            Opcode::RmaRts => true,
            _ => false,
        }
    }

    /// Bytes of payload that the LRH speaks of: a multiple of 4, padding included.
    #[inline]
    pub fn payload_len(&self) -> usize {
        self.lrh().length.0.saturating_sub(BARE_DWORDS) as usize * 4
    }

    /// Sets the length in LRH for a payload of `bytes`, rounded up to whole dwords.
    pub fn set_payload_len(&mut self, bytes: usize) {
        let dwords = BARE_DWORDS.saturating_add(u32::try_from(bytes.div_ceil(4)).unwrap_or(u32::MAX)).min(0xfff);
        [self.0[4], self.0[5]] = (dwords as u16).to_be_bytes();
    }

    /// The per-buffer control word to send this packet with on `vl`. Reliability packets ask for credits back, as OPX's do.
    pub fn pbc(&self, vl: Vl) -> Pbc {
        let lrh = self.lrh();
        // PBC counts itself, 2 dwords, but not the ICRC.
        let pbc = Pbc::new(Dwords(lrh.length.0 + 1), vl, lrh.sc);
        if self.opcode() == Opcode::Ud { pbc.credit_return() } else { pbc }
    }

    /// The field that each kind of packet uses for itself: a byte in G1, 5 bits since.
    #[inline]
    fn small(&self, generation: Generation) -> u8 {
        if generation == Generation::G1 { self.0[14] } else { self.0[14] >> 3 }
    }

    fn set_small(&mut self, generation: Generation, value: u8) {
        self.0[14] = if generation == Generation::G1 { value } else { value << 3 };
    }

    #[inline]
    fn cq_data(&self) -> u32 {
        (self.word::<3>() >> 32) as u32
    }

    fn set_cq_data(&mut self, data: u32) {
        self.set_word::<3>(self.word::<3>() & 0xffff_ffff | u64::from(data) << 32);
    }

    /// A header for a message of `opcode`'s kind with tag and completion data.
    fn message(way: &impl Begin, kind: fn(Flavour) -> Opcode, tag: Option<u64>, cq_data: Option<u32>) -> Self {
        let mut header = way.begin(kind(Flavour { tagged: tag.is_some(), cq: cq_data.is_some() }));
        header.set_cq_data(cq_data.unwrap_or(0));
        header.set_word::<6>(tag.unwrap_or(0));
        header
    }

    /// Tag and completion data of a message.
    #[inline]
    fn envelope(&self, flavour: Flavour) -> (Option<u64>, Option<u32>) {
        (flavour.tagged.then(|| self.word::<6>()), flavour.cq.then(|| self.cq_data()))
    }

    /// Checks what must hold for every packet, in G4.
    ///
    /// # Errors
    /// When the packet isn't LRH, BTH, KDETH version 1, or names a sub-context.
    pub fn validate(&self) -> Result<(), Malformed> {
        self.validate_in(Generation::G4)
    }

    /// Checks what must hold for every packet.
    ///
    /// # Errors
    /// When the packet isn't LRH, BTH, KDETH version 1, or names a sub-context; a packet of a later generation looks as if it
    /// did.
    pub fn validate_in(&self, generation: Generation) -> Result<(), Malformed> {
        let lrh = self.lrh();
        if lrh.next != NextHeader::Bth {
            return Err(Malformed::Field { name: "LRH next header", value: u64::from(self.0[1] & 3) });
        }
        if lrh.length.0 < BARE_DWORDS {
            return Err(Malformed::Field { name: "LRH length", value: u64::from(lrh.length.0) });
        }
        if self.0[23] >> 6 != 1 {
            return Err(Malformed::Field { name: "KDETH version", value: u64::from(self.0[23] >> 6) });
        }
        if generation == Generation::G1 {
            return Ok(());
        }
        if self.0[14] & 7 != 0 {
            return Err(Malformed::Unsupported { name: "sub-context", value: u64::from(self.0[14] & 7) });
        }
        let (origin_subctxt, tx_index) = match (self.opcode(), generation) {
            (Opcode::RzvData, Generation::G4) => (self.0[32] & 7, self.0[31]),
            (Opcode::RzvData, _) => (self.0[32] & 7, 0),
            (_, Generation::G4) => (self.0[20] & 7, self.0[19] & 1),
            // The whole byte: a G4 packet has part of its LID there.
            _ => (self.0[20], 0),
        };
        if origin_subctxt != 0 {
            return Err(Malformed::Unsupported { name: "origin sub-context", value: u64::from(origin_subctxt) });
        }
        if tx_index != 0 {
            return Err(Malformed::Unsupported { name: "plane", value: u64::from(tx_index) });
        }
        Ok(())
    }

    /// What every packet says, once it holds what must hold for every packet.
    ///
    /// # Errors
    /// As [`Header::validate_in`].
    #[inline]
    pub fn arrival(&self, generation: Generation) -> Result<Arrival, Malformed> {
        // Bits of H1 and H2 that are sub-contexts, the plane and the KDETH version in all packets of G4 but data.
        const SUBCTXT: u64 = 7 << 48;
        const FIXED: u64 = 3 << 62 | 7 << 32 | 1 << 24;
        let (opcode, h0, h1, h2) = (self.opcode_in(generation), self.word::<0>(), self.word::<1>(), self.word::<2>());
        let long_enough = (((h0 >> 32) as u16).swap_bytes() & 0xfff) as u32 >= BARE_DWORDS;
        let usual = h0 >> 8 & 3 == 2 && long_enough && h1 & SUBCTXT == 0 && h2 & FIXED == KVER;
        if generation == Generation::G4 && usual && opcode != Opcode::RzvData {
            let lid = h2 >> 25 & 0x7f | (h2 >> 35 & 0x1f) << 7 | (h2 >> 50 & 0xfff) << 12;
            let origin = Origin { lid: Lid(lid as u32), rx: (h2 >> 40) as u8 };
            return Ok(Arrival { opcode, origin, psn: Psn::new(h2 as u32 & Psn::MAX.get()), ack_req: false });
        }
        self.validate_in(generation)?;
        Ok(Arrival { opcode, origin: self.origin_in(generation), psn: self.psn(), ack_req: self.ack_req() })
    }

    /// As [`Header::validate_in`]; gives the part of `payload` that belongs to the packet.
    fn payload_in<'a>(&self, generation: Generation, payload: &'a [u8]) -> Result<&'a [u8], Malformed> {
        self.validate_in(generation)?;
        first(payload, self.payload_len())
    }
}

/// What every packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// What kind it is.
    pub opcode: Opcode,
    /// Who sent it.
    pub origin: Origin,
    /// Its number, if its kind has one.
    pub psn: Psn,
    /// Whether its sender asks for an ACK at once.
    pub ack_req: bool,
}

/// One packet, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packet<'a> {
    /// A short message.
    Inject(Inject<'a>),
    /// A message in one packet.
    Eager(Eager<'a>),
    /// The first packet of several.
    MpFirst(MpFirst<'a>),
    /// A later packet of several.
    MpNth(MpNth<'a>),
    /// A rendezvous' offer.
    RzvRts(RzvRts<'a>),
    /// A rendezvous' answer.
    RzvCts(RzvCts),
    /// A rendezvous' answer with expected buffers.
    RzvTidCts(RzvTidCts<'a>),
    /// A rendezvous' data.
    RzvData(RzvData, &'a [u8]),
    /// Data of a put, a get, an atomic, or of a rendezvous into expected buffers.
    Dput(Dput, &'a [u8]),
    /// A read request, or the answer to a write's offer.
    RmaCts(RmaCts),
    /// A write's offer.
    RmaRts(RmaRts),
    /// Reliability.
    Ud(Ud),
}

impl<'a> Packet<'a> {
    /// Decodes a G4 packet of any kind known here. `payload` may be longer than what the header speaks of.
    ///
    /// # Errors
    /// When the packet is of another kind, too short, or says something that can't be.
    pub fn decode(header: &'a Header, payload: &'a [u8]) -> Result<Self, Malformed> {
        Self::decode_in(Generation::G4, header, payload)
    }

    /// Decodes a packet of any kind known here. `payload` may be longer than what the header speaks of.
    ///
    /// # Errors
    /// When the packet is of another kind, too short, or says something that can't be.
    pub fn decode_in(generation: Generation, header: &'a Header, payload: &'a [u8]) -> Result<Self, Malformed> {
        match header.opcode_in(generation) {
            Opcode::Inject(_) => Inject::decode_in(generation, header, payload).map(Self::Inject),
            Opcode::Eager(_) => Eager::decode_in(generation, header, payload).map(Self::Eager),
            Opcode::MpFirst(_) => MpFirst::decode_in(generation, header, payload).map(Self::MpFirst),
            Opcode::MpNth => MpNth::decode_in(generation, header, payload).map(Self::MpNth),
            Opcode::RzvRts(_) => RzvRts::decode_in(generation, header, payload).map(Self::RzvRts),
            Opcode::RzvCts => match DputOp::from_code(u64::from(header.0[32]))? {
                DputOp::RzvTid => RzvTidCts::decode_in(generation, header, payload).map(Self::RzvTidCts),
                DputOp::Get | DputOp::PutCq => RmaCts::decode_in(generation, header, payload).map(Self::RmaCts),
                _ => RzvCts::decode_in(generation, header, payload).map(Self::RzvCts),
            },
            Opcode::RzvData => match Dput::op(generation, header)? {
                DputOp::Rzv | DputOp::RzvNonContiguous => {
                    RzvData::decode_in(generation, header, payload).map(|(packet, data)| Self::RzvData(packet, data))
                }
                _ => Dput::decode_in(generation, header, payload).map(|(packet, data)| Self::Dput(packet, data)),
            },
            Opcode::RmaRts => RmaRts::decode_in(generation, header, payload).map(Self::RmaRts),
            Opcode::Ud => Ud::decode_in(generation, header, payload).map(Self::Ud),
            Opcode::Other(byte) => Err(Malformed::Opcode(byte)),
        }
    }
}

/// The first `need` bytes.
fn first(bytes: &[u8], need: usize) -> Result<&[u8], Malformed> {
    bytes.get(..need).ok_or(Malformed::Short { have: bytes.len(), need })
}

/// Splits off the first `need` bytes.
fn split(bytes: &[u8], need: usize) -> Result<(&[u8], &[u8]), Malformed> {
    bytes.split_at_checked(need).ok_or(Malformed::Short { have: bytes.len(), need })
}

/// The little-endian qword number `index` of `bytes`.
fn qword(bytes: &[u8], index: usize) -> Result<u64, Malformed> {
    let words = bytes.as_chunks::<8>().0;
    let word = words.get(index).ok_or(Malformed::Short { have: bytes.len(), need: (index + 1) * 8 })?;
    Ok(u64::from_le_bytes(*word))
}

/// The first `need` bytes of a buffer for a payload.
fn room(out: &mut [u8], need: usize) -> Result<&mut [u8], Unencodable> {
    let have = out.len();
    out.get_mut(..need).ok_or(Unencodable::Buffer { have, need })
}

/// Fails when `have` bytes of `what` are more than `limit`.
fn at_most(what: &'static str, have: usize, limit: usize) -> Result<(), Unencodable> {
    if have > limit { Err(Unencodable::TooLong { what, have, limit }) } else { Ok(()) }
}

/// Up to 8 bytes as the qword that has them in memory order.
fn packed(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}
