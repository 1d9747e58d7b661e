//! What nearly every short message is, read from the words of its header by a few comparisons: an INJECT packet of G4.

use super::{Flavour, INJECT_MAX_BYTES, KVER, Opcode, Origin};
use crate::units::{Lid, Psn};
use crate::wire::OPX_HEADER_BYTES;

/// An INJECT packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// Who sent it.
    pub origin: Origin,
    /// Its number.
    pub psn: Psn,
    /// Tag, if the message is tagged.
    pub tag: Option<u64>,
    /// Data for the receiver's completion.
    pub cq_data: Option<u32>,
    len: usize,
    /// The message, little-endian, zero beyond its end.
    low: u64,
    high: u64,
}

impl Short {
    /// Reads the seven words of a header. `None` doesn't mean that something is wrong, but that [`super::Header::arrival`] has to
    /// look.
    #[inline(always)]
    pub fn read(words: &[u64; OPX_HEADER_BYTES / 8]) -> Option<Self> {
        // LRH: BTH follows, and the packet has 15 dwords, big-endian.
        const H0: (u64, u64) = (3 << 8 | 0xff0f << 32, 2 << 8 | 0x0f00 << 32);
        // BTH: the opcode but for its flavour; no sub-context.
        const H1: (u64, u64) = (0xfc | 7 << 48, Opcode::Inject(Flavour { tagged: false, cq: false }).byte() as u64);
        // KDETH: version 1; no sub-context and no plane.
        const H2: (u64, u64) = (3 << 62 | 7 << 32 | 1 << 24, KVER);
        let [h0, h1, h2, h3, low, high, tag] = *words;
        let (len, lid) = (h1 >> 51 & 0x1f, h2 >> 25 & 0x7f | (h2 >> 35 & 0x1f) << 7 | (h2 >> 50 & 0xfff) << 12);
        // It has left from where it says that it is from.
        let from_there = (h0 >> 48) as u16 == (lid as u16).swap_bytes();
        if h0 & H0.0 != H0.1 || h1 & H1.0 != H1.1 || h2 & H2.0 != H2.1 || len > INJECT_MAX_BYTES as u64 || !from_there {
            return None;
        }
        Some(Self {
            origin: Origin { lid: Lid(lid as u32), rx: (h2 >> 40) as u8 },
            psn: Psn::new(h2 as u32 & Psn::MAX.get()),
            tag: (h1 & 2 != 0).then_some(tag),
            cq_data: (h1 & 1 != 0).then_some((h3 >> 32) as u32),
            len: len as usize,
            low,
            high,
        })
    }

    /// Bytes of the message.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The message, and zeros.
    pub fn bytes(&self) -> [u8; INJECT_MAX_BYTES] {
        (u128::from(self.high) << 64 | u128::from(self.low)).to_le_bytes()
    }

    /// Copies the message to the start of `to`; `false` when that is too small.
    #[inline(always)]
    pub fn copy_to(&self, to: &mut [u8]) -> bool {
        let Some(to) = to.get_mut(..self.len) else { return false };
        match to {
            // Two words that overlap, in place of a loop. The second one is what comes last of both.
            [_, _, _, _, _, _, _, _, ..] => {
                let last = (u128::from(self.high) << 64 | u128::from(self.low))
                    >> ((self.len.wrapping_sub(8) as u32 * 8) & 127);
                if let Some(first) = to.first_chunk_mut() {
                    *first = self.low.to_le_bytes();
                }
                if let Some(end) = to.last_chunk_mut() {
                    *end = (last as u64).to_le_bytes();
                }
            }
            _ => copy_few(to, self.low),
        }
        true
    }
}

/// Fewer than 8 bytes.
#[inline(never)]
fn copy_few(to: &mut [u8], word: u64) {
    for (to, from) in to.iter_mut().zip(word.to_le_bytes()) {
        *to = from;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Generation, Inject, Route};
    use super::*;
    use crate::units::{JobKey, Pkey, Sc, Sl};
    use proptest::prelude::*;

    #[test]
    fn it_says_what_the_long_way_says() {
        let read = core::cell::Cell::new(0);
        proptest!(|(
            lids in (0u32..0x10000, 0u32..0x10000), high_lid in 0u32..0x100, rx in any::<(u8, u8)>(), psn in 0u32..1 << 24,
            tag in any::<Option<u64>>(), cq_data in any::<Option<u32>>(), message in prop::collection::vec(any::<u8>(), 0..=16),
            generation in prop::sample::select(&[Generation::G1, Generation::G2, Generation::G4, Generation::G4, Generation::G4][..]),
            // What to spoil: nothing, or a bit anywhere.
            spoilt in prop::option::of((0usize..7, 0u32..64)), room in 0usize..20,
        )| {
            let primary_lid = Lid(lids.0 | high_lid << 16);
            let route = Route {
                slid: Lid(lids.0), dlid: Lid(lids.1), primary_lid, src_rx: rx.0, dst_rx: rx.1, sc: Sc(1), sl: Sl(2),
                pkey: Pkey(0x8001), job_key: JobKey(77), qp_prefix: 0x80, generation,
            };
            let mut header = Inject { tag, cq_data, data: &message }.encode(&route).unwrap();
            header.set_psn(Psn::new(psn));
            if let Some((word, bit)) = spoilt {
                header.0[word * 8 + bit as usize / 8] ^= 1 << (bit % 8);
            }
            let short = Short::read(&header.words());
            prop_assert!(short.is_some() || generation != Generation::G4 || spoilt.is_some());
            if let Some(short) = short {
                read.set(read.get() + 1);
                let arrival = header.arrival(Generation::G4).unwrap();
                prop_assert_eq!((arrival.origin, arrival.psn, arrival.ack_req), (short.origin, short.psn, false));
                prop_assert_eq!(arrival.origin.lid.0 as u16, header.slid().0 as u16);
                let Opcode::Inject(flavour) = arrival.opcode else { panic!("{header:?}") };
                let inject = Inject::of_arrival(Generation::G4, &header, flavour).unwrap();
                prop_assert_eq!((inject.tag, inject.cq_data, inject.data.len()), (short.tag, short.cq_data, short.len()));
                prop_assert_eq!(&short.bytes()[..short.len()], inject.data);
                let mut to = [0xee; 20];
                let to = &mut to[..room];
                prop_assert_eq!(short.copy_to(to), room >= short.len());
                if room >= short.len() {
                    prop_assert_eq!(&to[..short.len()], inject.data);
                    prop_assert!(to[short.len()..].iter().all(|byte| *byte == 0xee));
                } else {
                    prop_assert!(to.iter().all(|byte| *byte == 0xee));
                }
            }
        });
        assert!(read.get() > 50, "{} packets were read", read.get());
    }
}
