//! Data of a rendezvous in expected form: its payload goes where a TID says, and software gets the header alone.

use super::{Dput, DputOp, Generation, Header, MAX_PAYLOAD_BYTES, Malformed, Opcode};
use crate::tid::Tid;
use crate::units::JobKey;
use crate::wire::kdeth::Kdeth;

impl Header {
    /// The chip's part of KDETH. Only of RZV_DATA packets: others have something else in its place.
    pub fn kdeth(&self) -> Kdeth {
        Kdeth { dw0: (self.word::<2>() >> 32) as u32, dw1: self.word::<3>() as u32 }
    }

    /// Whether it is RZV_DATA whose payload goes where a TID says.
    #[inline]
    pub fn is_expected(&self) -> bool {
        self.opcode() == Opcode::RzvData && self.kdeth().tid_ctrl() != 0
    }

    /// Makes RZV_DATA go to `offset` bytes in the memory behind `tid`; `None` when that can't be said, see [`Kdeth::expected`].
    pub fn expect(&mut self, tid: Tid, offset: u32) -> Option<()> {
        let kdeth = Kdeth::expected(self.kdeth().job_key(), tid, offset)?;
        self.set_word::<2>(Self::with_dw0(self.word::<2>(), kdeth));
        Some(())
    }

    /// Header word H2 of RZV_DATA so that its payload comes to software: what an expected packet is when it is sent again
    /// (`fi_opx_hfi1.c:fi_opx_hfi1_do_dput_sdma_tid` keeps a replay's header without TID).
    ///
    /// ```
    /// use opx_defs::wire::opx::Header;
    /// // KDETH version 1, TIDCTRL 3, TID 5; PSN 0x000401.
    /// assert_eq!(Header::eager_h2(0x4c05_0110_0104_0000), 0x4000_0000_0104_0000);
    /// ```
    pub const fn eager_h2(h2: u64) -> u64 {
        Self::with_dw0(h2, Kdeth::eager(JobKey(0)))
    }

    const fn with_dw0(h2: u64, kdeth: Kdeth) -> u64 {
        h2 & 0xffff_ffff | (kdeth.dw0 as u64) << 32
    }
}

impl Dput {
    /// Reads RZV_DATA whose payload the chip has put where its TID said; the length is that in LRH.
    ///
    /// # Errors
    /// When it isn't such a packet, or has no data.
    pub fn decode_expected(generation: Generation, header: &Header) -> Result<Self, Malformed> {
        if !header.is_expected() {
            return Err(Malformed::Opcode(header.opcode().byte()));
        }
        header.validate_in(generation)?;
        let (op, len) = (Self::op(generation, header)?, header.payload_len());
        if op != DputOp::RzvTid {
            return Err(Malformed::Field { name: "DPUT opcode of an expected packet", value: op.code() });
        }
        if len == 0 || len > MAX_PAYLOAD_BYTES {
            return Err(Malformed::Field { name: "data length", value: len as u64 });
        }
        Ok(Self::of_words(op, header, len))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Atomic, Padding, Route};
    use super::*;
    use crate::units::{Lid, Pkey, Psn, Sc, Sl};

    fn route(generation: Generation) -> Route {
        let (slid, dlid, primary_lid) = (Lid(1), Lid(2), Lid(1));
        let (sc, sl, pkey, job_key) = (Sc(0), Sl(0), Pkey(0x8001), JobKey(0x83e8));
        Route { slid, dlid, primary_lid, src_rx: 5, dst_rx: 7, sc, sl, pkey, job_key, qp_prefix: 0x80, generation }
    }

    #[test]
    fn an_expected_packet_is_read_without_its_payload_and_sent_again_as_an_eager_one() {
        for generation in Generation::ALL {
            let dput = Dput {
                op: DputOp::RzvTid,
                atomic: Atomic::RENDEZVOUS,
                name: 77,
                place: 0x1_2345_6780,
                len: 4104,
                ack_req: true,
            };
            let mut header = dput.encode(&route(generation), Padding::Qword).unwrap();
            header.set_psn(Psn::new(0x40_1234));
            let eager = header;
            assert!(!header.is_expected() && Dput::decode_expected(generation, &header).is_err());
            let tid = Tid::of_entry(11, 512).unwrap();
            assert_eq!(header.expect(tid, 4), None, "not a multiple of 64");
            header.expect(tid, 0x1_0040).unwrap();
            assert!(header.is_expected() && header.is_free_of_order(generation));
            let kdeth = header.kdeth();
            assert_eq!((kdeth.tid(), kdeth.tid_ctrl(), kdeth.offset_bytes()), (5, 2, 0x1_0040));
            assert_eq!((header.psn(), header.ack_req()), (Psn::new(0x40_1234), true));
            assert_eq!(Dput::decode_expected(generation, &header), Ok(dput));
            header.set_word::<2>(Header::eager_h2(header.word::<2>()));
            assert_eq!(header, eager);
        }
    }

    #[test]
    fn only_data_of_a_rendezvous_in_expected_buffers_is_expected() {
        let put = Dput { op: DputOp::Put, atomic: Atomic::NONE, name: 1, place: 0, len: 64, ack_req: false };
        let mut header = put.encode(&route(Generation::G4), Padding::Qword).unwrap();
        header.expect(Tid::of_entry(0, 1).unwrap(), 0).unwrap();
        assert!(matches!(Dput::decode_expected(Generation::G4, &header), Err(Malformed::Field { .. })));
    }
}
