//! The first block of a packet: PBC and header, as one piece of memory that is stored as it is.

use opx_bus::BlockSource;
use opx_defs::wire::OPX_HEADER_BYTES;
use opx_defs::wire::opx::Header;
use opx_defs::wire::pbc::Pbc;
use zerocopy::{Immutable, IntoBytes, transmute_ref};

/// PBC and header. Made once for each way that packets go, it is a model: for a packet, the few words that differ are set.
///
/// ```
/// use opx_defs::units::{Psn, Vl};
/// # use opx_defs::units::{JobKey, Lid, Pkey, Sc, Sl};
/// # use opx_defs::wire::opx::{Inject, Route};
/// # let route = Route {
/// #     slid: Lid(1), dlid: Lid(2), primary_lid: Lid(1), src_rx: 5, dst_rx: 7,
/// #     sc: Sc(0), sl: Sl(0), pkey: Pkey(0x8001), job_key: JobKey(1), qp_prefix: 0x80, generation: Default::default(),
/// # };
/// let header = Inject { tag: Some(9), cq_data: None, data: b"hello" }.encode(&route).unwrap();
/// let mut head = opx_pio::Head::new(header.pbc(Vl(0)), &header);
/// head.header.set_psn(Psn::new(3));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C, align(64))]
pub struct Head {
    pbc: u64,
    /// LRH, BTH, KDETH and software's header.
    pub header: Header,
}

const _: () = assert!(size_of::<Head>() == 8 + OPX_HEADER_BYTES);

impl Head {
    /// A packet's first block.
    pub fn new(pbc: Pbc, header: &Header) -> Self {
        Self { pbc: pbc.0.to_le(), header: *header }
    }

    /// The per-buffer control word.
    #[inline]
    pub fn pbc(&self) -> Pbc {
        Pbc(u64::from_le(self.pbc))
    }

    /// As the block that is stored.
    #[inline]
    pub(crate) fn blocks(&self) -> BlockSource<'_> {
        BlockSource::of_block(transmute_ref!(self))
    }

    /// Sets the per-buffer control word.
    #[inline]
    pub fn set_pbc(&mut self, pbc: Pbc) {
        self.pbc = pbc.0.to_le();
    }
}
