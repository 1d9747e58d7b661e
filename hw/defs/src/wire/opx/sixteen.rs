//! OPX's packets in 16B form: a local route header of 16 bytes, then BTH, KDETH and software's words as in 9B.
//!
//! Source: `fi_opx_ep.c:fi_opx_ep_tx_model_init_16B`, `fi_opx_hfi1_packet.h:fi_opx_hfi1_stl_packet_hdr_16B`,
//! `fi_opx_hfi1_jkr.h`. OPX speaks it with adapters of the CN5000 generation; to this one it always speaks 9B.

use super::{Header, Origin, Route};
use crate::units::{Dwords, Lid, SendCtxt, Vl};
use crate::wire::OPX_HEADER_BYTES;
use crate::wire::lrh::LRH_BYTES;
use crate::wire::lrh16::{L2_16B, L4_IB_LOCAL, LRH16_BYTES, Lrh16};
use crate::wire::pbc::Pbc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the header: one qword more than a PIO block has beside the PBC.
pub const HEADER16_BYTES: usize = LRH16_BYTES + OPX_HEADER_BYTES - LRH_BYTES;
/// The qword behind the payload, with the ICRC and the link transfer mark.
const TAIL_QWORDS: u32 = 1;

/// The 64 header bytes of a packet in 16B form, as they lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Header16(pub [u8; HEADER16_BYTES]);

impl Header16 {
    /// The local route header.
    pub fn lrh(&self) -> Lrh16 {
        Lrh16::decode(self.0.first_chunk().copied().unwrap_or_default())
    }

    /// Bytes of payload that the LRH speaks of: a multiple of 8.
    pub fn payload_len(&self) -> usize {
        usize::from(self.lrh().qwords).saturating_sub(HEADER16_BYTES / 8 + TAIL_QWORDS as usize) * 8
    }
}

/// What 16B packets of one endpoint have in common beside what [`super::Models`] has: from the BTH on a packet is the same in both
/// forms, so one model of each kind does for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model16 {
    lrh: Lrh16,
    vl: Vl,
}

impl Model16 {
    /// Of packets that leave as `route` says through `ctxt`, on `vl`. OPX tells flows apart for the fabric's routing by both
    /// ends' contexts.
    pub fn new(route: &Route, vl: Vl, ctxt: SendCtxt) -> Self {
        let lrh = Lrh16 {
            slid: route.slid,
            dlid: Lid(0),
            qwords: 0,
            sc: route.sc,
            // In order: what OPX takes unless FI_OPX_ROUTE_CONTROL says otherwise.
            rc: 0,
            fecn: false,
            becn: false,
            l2: L2_16B,
            l4: L4_IB_LOCAL,
            pkey: route.pkey,
            entropy: ctxt.0,
            age: 0,
        };
        Self { lrh, vl }
    }

    /// The 16B form of a packet for `to` whose 9B header and bytes of payload are given: the payload is padded to whole qwords.
    pub fn packet(&self, to: Origin, header: &Header, payload: usize) -> Header16 {
        let qwords = (HEADER16_BYTES + payload.next_multiple_of(8)) as u32 / 8 + TAIL_QWORDS;
        let entropy = self.lrh.entropy | u16::from(to.rx) << 8;
        let lrh = Lrh16 { dlid: to.lid, qwords: qwords as u16, entropy, ..self.lrh };
        let mut bytes = [0; HEADER16_BYTES];
        let (first, rest) = bytes.split_at_mut(LRH16_BYTES);
        first.copy_from_slice(&lrh.encode());
        rest.copy_from_slice(header.0.split_at(LRH_BYTES).1);
        Header16(bytes)
    }

    /// The PBC of such a packet for this chip, which calls it a bypass packet and is to write its ICRC
    /// (`chip.h PBC_PACKET_BYPASS, PBC_INSERT_BYPASS_ICRC`). Other than for 9B, the length has the tail in it.
    pub fn pbc(&self, header: &Header16) -> Pbc {
        let length = Dwords(u32::from(header.lrh().qwords) * 2 + 2);
        Pbc::new(length, self.vl, self.lrh.sc).bypass().insert_bypass_icrc()
    }
}
