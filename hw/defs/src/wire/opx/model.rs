//! Packet models: what all packets of one kind from one endpoint have in common, worked out once, so that a send fills in only
//! what differs. Source of the idea: `fi_opx_hfi1_transport.h`, the "SCB models" of an endpoint.

use super::{
    Flavour, Generation, Header, INJECT_MAX_BYTES, MAX_PAYLOAD_BYTES, Opcode, Origin, Route, Unencodable, at_most,
};
use crate::units::{Psn, Vl};
use crate::wire::pbc::Pbc;

/// PBC and header, as 8 words that lie in memory little-endian: what the first block of a PIO packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block(pub [u64; 8]);

impl Block {
    /// A packet's first block.
    #[inline]
    pub fn of(pbc: Pbc, header: &Header) -> Self {
        let [h0, h1, h2, h3, h4, h5, h6] = header.words();
        Self([pbc.0, h0, h1, h2, h3, h4, h5, h6])
    }

    /// The PBC.
    #[inline]
    pub const fn pbc(&self) -> Pbc {
        Pbc(self.0[0])
    }

    /// Puts a message of up to 16 bytes into a packet that was made for it.
    #[inline]
    pub fn put_message(&mut self, message: &[u8]) {
        (self.0[5], self.0[6]) = packed16(message);
    }

    /// Fills in the sequence number of a packet that isn't RZV_DATA, which has had none.
    #[inline]
    pub fn set_psn(&mut self, psn: Psn) {
        self.0[3] |= u64::from(psn.get());
    }
}

/// A model of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    block: Block,
    /// Where the field begins, in H1, that each kind of packet uses for itself.
    small_at: u32,
    g1: bool,
}

impl Model {
    /// The model of packets with messages in their header, on `vl`; receiver, PSN and message aren't in it.
    pub fn inject(route: &Route, vl: Vl) -> Self {
        Self::new(route, Opcode::Inject(Flavour { tagged: false, cq: false }), vl)
    }

    /// The model of packets with messages in their payload, on `vl`; receiver, PSN, length and message aren't in it.
    pub fn eager(route: &Route, vl: Vl) -> Self {
        Self::new(route, Opcode::Eager(Flavour { tagged: false, cq: false }), vl)
    }

    fn new(route: &Route, opcode: Opcode, vl: Vl) -> Self {
        let nowhere = Route { dlid: crate::units::Lid(0), dst_rx: 0, ..*route };
        let header = Header::new(&nowhere, opcode);
        let g1 = route.generation == Generation::G1;
        Self { block: Block::of(header.pbc(vl), &header), small_at: if g1 { 48 } else { 51 }, g1 }
    }

    /// The PBC of its packets.
    pub const fn pbc(&self) -> Pbc {
        Pbc(self.block.0[0])
    }

    /// A packet with a message of up to 16 bytes, to be numbered.
    ///
    /// # Errors
    /// When the message is longer.
    #[inline(always)]
    pub fn with_message(
        &self,
        to: Origin,
        tag: Option<u64>,
        cq_data: Option<u32>,
        message: &[u8],
    ) -> Result<Block, Unencodable> {
        let mut block = self.for_header(to, tag, cq_data, message.len())?;
        block.put_message(message);
        Ok(block)
    }

    /// A packet for a message of `len` bytes, up to 16, to be numbered and to be given the message ([`Block::put_message`]).
    ///
    /// # Errors
    /// When the message is longer.
    #[inline(always)]
    pub fn for_header(
        &self,
        to: Origin,
        tag: Option<u64>,
        cq_data: Option<u32>,
        len: usize,
    ) -> Result<Block, Unencodable> {
        if len > INJECT_MAX_BYTES {
            at_most("message", len, INJECT_MAX_BYTES)?;
        }
        Ok(self.addressed(to, tag, cq_data, len))
    }

    /// A packet for a message of `len` bytes, to be numbered and to be given the message ([`Model::put_tail`]), whose body is the
    /// payload: its bytes but for the first `len % 8`.
    ///
    /// # Errors
    /// When the body is longer than a packet's payload can be.
    #[inline(always)]
    pub fn for_message(
        &self,
        to: Origin,
        tag: Option<u64>,
        cq_data: Option<u32>,
        len: usize,
    ) -> Result<Block, Unencodable> {
        // Of both lengths in the header: LRH's, big-endian.
        const LENGTH: u64 = 0xffff << 32;
        let (tail, qwords) = (len % 8, len / 8);
        if qwords > MAX_PAYLOAD_BYTES / 8 {
            at_most("eager body", qwords.saturating_mul(8), MAX_PAYLOAD_BYTES)?;
        }
        let dwords = (qwords as u64).wrapping_mul(2);
        let mut block = self.addressed(to, tag, cq_data, tail);
        let bare = ((block.0[1] >> 32) as u16).swap_bytes();
        block.0[0] = block.0[0].wrapping_add(dwords);
        block.0[1] = block.0[1] & !LENGTH | u64::from(bare.wrapping_add(dwords as u16).swap_bytes()) << 32;
        block.0[5] = (qwords as u64) << 48;
        Ok(block)
    }

    /// Puts what a message has in its header into a packet that was made for it, and gives the body.
    #[inline(always)]
    pub fn put_tail<'a>(&self, block: &mut Block, message: &'a [u8]) -> &'a [u8] {
        let (tail, body) = message.split_at(message.len() % 8);
        // In G1 the first 8 bytes of the message, whatever of them counts.
        block.0[6] = packed16(message.get(..8).filter(|_| self.g1).unwrap_or(tail)).0;
        body
    }

    /// A packet to a receiver, with tag and data, and the field that its kind uses for itself.
    #[inline(always)]
    fn addressed(&self, to: Origin, tag: Option<u64>, cq_data: Option<u32>, small: usize) -> Block {
        let flavour = u64::from(Flavour { tagged: tag.is_some(), cq: cq_data.is_some() }.bits());
        let [pbc, h0, h1, h2, h3, ..] = self.block.0;
        Block([
            pbc,
            h0 | u64::from((to.lid.0 as u16).swap_bytes()) << 16,
            h1 | flavour | (small as u64).wrapping_shl(self.small_at) | u64::from(to.rx) << 56,
            h2,
            h3 | u64::from(cq_data.unwrap_or(0)) << 32,
            0,
            0,
            tag.unwrap_or(0),
        ])
    }
}

/// Up to 16 bytes as two little-endian words, zero beyond; of more bytes, the first and the last 8.
#[inline]
fn packed16(bytes: &[u8]) -> (u64, u64) {
    if let (Some(low), Some(high)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        // What both have is shifted out of the second.
        let shared = 16usize.saturating_sub(bytes.len()) as u32 * 8;
        return (u64::from_le_bytes(*low), u64::from_le_bytes(*high).checked_shr(shared).unwrap_or(0));
    }
    if let (Some(low), Some(high)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (low, high) = (u64::from(u32::from_le_bytes(*low)), u64::from(u32::from_le_bytes(*high)));
        return (low | high << ((bytes.len() as u32 - 4) * 8), 0);
    }
    (bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0)
}

#[cfg(test)]
mod tests {
    use super::super::{Eager, Inject};
    use super::*;
    use crate::units::{JobKey, Lid, Pkey, Sc, Sl};
    use proptest::prelude::*;

    #[test]
    fn packets_of_a_model_are_those_that_are_made_one_by_one() {
        proptest!(|(
            generation in prop::sample::select(&Generation::ALL[..]),
            lids in (0u32..0x10000, 0u32..0x10000), rx in any::<(u8, u8)>(), keys in any::<(u16, u16)>(),
            sc in 0u8..15, sl in 0u8..32, vl in 0u8..8, psn in 0u32..1 << 24,
            tag in any::<Option<u64>>(), cq_data in any::<Option<u32>>(), message in prop::collection::vec(any::<u8>(), 0..=17),
            len in prop_oneof![0usize..100, MAX_PAYLOAD_BYTES - 20..MAX_PAYLOAD_BYTES + 20],
        )| {
            let route = Route {
                slid: Lid(lids.0), dlid: Lid(lids.1), primary_lid: Lid(lids.0), src_rx: rx.0, dst_rx: rx.1,
                sc: Sc(sc), sl: Sl(sl), pkey: Pkey(keys.0), job_key: JobKey(keys.1), qp_prefix: 0x80, generation,
            };
            let to = Origin { lid: route.dlid, rx: route.dst_rx };
            let block = Model::inject(&route, Vl(vl)).with_message(to, tag, cq_data, &message);
            match (Inject { tag, cq_data, data: &message }).encode(&route) {
                Err(error) => prop_assert_eq!(block, Err(error)),
                Ok(mut header) => {
                    header.set_psn(Psn::new(psn));
                    let mut block = block.unwrap();
                    block.set_psn(Psn::new(psn));
                    prop_assert_eq!(block, Block::of(header.pbc(Vl(vl)), &header));
                }
            }
            let bytes: [u8; MAX_PAYLOAD_BYTES + 20] = core::array::from_fn(|byte| byte as u8 ^ rx.0);
            let long = &bytes[..len];
            let eager = Eager::of(tag, cq_data, long);
            let model = Model::eager(&route, Vl(vl));
            match (model.for_message(to, tag, cq_data, len), eager.header(&route)) {
                (Ok(mut block), Ok(mut header)) => {
                    header.set_psn(Psn::new(psn));
                    block.set_psn(Psn::new(psn));
                    prop_assert_eq!(model.put_tail(&mut block, long), eager.body);
                    prop_assert_eq!(block, Block::of(header.pbc(Vl(vl)), &header));
                }
                (block, header) => prop_assert_eq!(block.err(), header.err()),
            }
        });
    }
}
