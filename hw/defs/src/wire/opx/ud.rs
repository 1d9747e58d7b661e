//! UD: the reliability protocol's own packets, which have no PSN and no payload.

use super::{Begin, Generation, Header, Malformed, Opcode};
use crate::units::{Lid, Psn};

/// Names a flow: the packets from one receive context to another. The data's sender is `src` in ACK and NACK, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Primary LID of the data's sender.
    pub slid: Lid,
    /// Primary LID of the data's receiver.
    pub dlid: Lid,
    /// Receive context of the data's sender.
    pub src_rx: u8,
    /// Receive context of the data's receiver.
    pub dst_rx: u8,
}

/// What a UD packet says about a range of PSNs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UdOp {
    /// Sender to receiver: what do you have of these?
    Ping,
    /// Receiver to sender: I have these.
    Ack,
    /// Receiver to sender: send these again.
    Nack,
}

/// A UD packet. Source: `fi_opx_reliability.c:fi_opx_hfi1_tx_reliability_inject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ud {
    /// What it says.
    pub op: UdOp,
    /// The flow.
    pub key: FlowKey,
    /// The first PSN of the range.
    pub start: Psn,
    /// How many PSNs; the range never goes past the highest PSN.
    pub count: u32,
}

impl Ud {
    /// The longest range that begins at `start`, up to the highest PSN.
    pub const fn longest_from(start: Psn) -> u32 {
        Psn::SPACE - start.get()
    }

    /// The header; there is no payload. A range that goes past the highest PSN is cut there, an empty one made 1 long:
    /// OPX peers abort on either.
    pub fn encode(&self, way: &impl Begin) -> Header {
        let mut header = way.begin(Opcode::Ud);
        let op = match self.op {
            UdOp::Ping => 1,
            UdOp::Ack => 2,
            UdOp::Nack => 3,
        };
        let key = self.key;
        let (h6, suffix) = if way.generation() == Generation::G1 {
            header.set_small(Generation::G1, op);
            let side = |lid: Lid, rx: u8| u64::from(lid.0 & 0xff_ffff) | u64::from(rx) << 24;
            (side(key.slid, key.src_rx) | side(key.dlid, key.dst_rx) << 32, 0)
        } else {
            // The upper four bits.
            header.set_small(way.generation(), op << 1);
            // Receive contexts are stored big-endian with the sub-context in the first byte.
            let suffix = u64::from(key.src_rx) << 40 | u64::from(key.dst_rx) << 56;
            (u64::from(key.slid.0) | u64::from(key.dlid.0) << 32, suffix)
        };
        header.set_word::<3>(header.word::<3>() | suffix);
        header.set_word::<4>(u64::from(self.count.clamp(1, Self::longest_from(self.start))));
        header.set_word::<5>(u64::from(self.start.get()));
        header.set_word::<6>(h6);
        header
    }

    /// Reads a packet of G4.
    ///
    /// # Errors
    /// As [`Ud::decode_in`].
    pub fn decode(header: &Header, payload: &[u8]) -> Result<Self, Malformed> {
        Self::decode_in(Generation::G4, header, payload)
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// When it isn't a UD packet, of no kind known, has a payload, names a sub-context, or its range is empty or goes past
    /// the highest PSN.
    pub fn decode_in(generation: Generation, header: &Header, payload: &[u8]) -> Result<Self, Malformed> {
        if header.opcode() != Opcode::Ud {
            return Err(Malformed::Opcode(header.opcode().byte()));
        }
        if !header.payload_in(generation, payload)?.is_empty() {
            return Err(Malformed::Field { name: "UD payload length", value: header.payload_len() as u64 });
        }
        let g1 = generation == Generation::G1;
        let small = header.small(generation);
        let op = match if g1 { small << 1 } else { small } {
            2 => UdOp::Ping,
            4 => UdOp::Ack,
            6 => UdOp::Nack,
            _ => return Err(Malformed::Field { name: "UD opcode", value: u64::from(header.0[14]) }),
        };
        let (h3, h6) = (header.word::<3>(), header.word::<6>());
        if !g1 && h3 & 0x00ff_00ff_0000_0000 != 0 {
            return Err(Malformed::Unsupported { name: "flow sub-context", value: h3 >> 32 });
        }
        let (count, start) = (header.word::<4>(), header.word::<5>());
        if start > u64::from(Psn::MAX.get()) {
            return Err(Malformed::Field { name: "UD first PSN", value: start });
        }
        let start = Psn::new(start as u32);
        if count == 0 || count > u64::from(Self::longest_from(start)) {
            return Err(Malformed::Field { name: "UD count", value: count });
        }
        let lid = |side: u64| Lid(if g1 { side as u32 & 0xff_ffff } else { side as u32 });
        let (src_rx, dst_rx) = if g1 { (h6 >> 24, h6 >> 56) } else { (h3 >> 40, h3 >> 56) };
        let key = FlowKey { slid: lid(h6), dlid: lid(h6 >> 32), src_rx: src_rx as u8, dst_rx: dst_rx as u8 };
        Ok(Self { op, key, start, count: count as u32 })
    }
}
