//! Where the headers of packets begin: field by field from a [`Route`], or from the models that an endpoint has made once, one for
//! each kind of packet.
//!
//! Source of the idea: `fi_opx_ep.c:fi_opx_ep_tx_model_init, fi_opx_ep_rx_tx_model_init`, the models of an endpoint.

use super::{Generation, Header, Model, Opcode, Origin, Route};
use crate::units::{Lid, Vl};

/// What a packet is made from: its way, and who sends it.
pub trait Begin {
    /// A header without payload, PSN 0 and nothing of the kind's own.
    fn begin(&self, opcode: Opcode) -> Header;

    /// Whose packets are spoken.
    fn generation(&self) -> Generation;

    /// The sender's receive context.
    fn src_rx(&self) -> u8;
}

impl Begin for Route {
    fn begin(&self, opcode: Opcode) -> Header {
        Header::new(self, opcode)
    }

    fn generation(&self) -> Generation {
        self.generation
    }

    fn src_rx(&self) -> u8 {
        self.src_rx
    }
}

/// The models of an endpoint: of each kind of packet the header that all of them share, without receiver.
///
/// ```
/// use opx_defs::units::{JobKey, Lid, Pkey, Sc, Sl, Vl};
/// use opx_defs::wire::opx::{Generation, Models, MpNth, Origin, Route};
/// # use opx_defs::units::Psn;
/// let route = Route {
///     slid: Lid(1), dlid: Lid(2), primary_lid: Lid(1), src_rx: 5, dst_rx: 7,
///     sc: Sc(0), sl: Sl(0), pkey: Pkey(0x8001), job_key: JobKey(0x83e8), qp_prefix: 0x80, generation: Generation::G4,
/// };
/// let models = Models::new(&route, Vl(0));
/// let part = MpNth { uid: Psn::new(3), offset: 64, head: &[], body: &[1; 8], tail: &[2; 3] };
/// let mut payload = [0; 8];
/// let way = models.to(Origin { lid: Lid(2), rx: 7 });
/// assert_eq!(part.encode(&way, &mut payload), part.encode(&route, &mut payload));
/// ```
#[derive(Debug, Clone)]
pub struct Models {
    route: Route,
    inject: Model,
    eager: Model,
    /// By [`place`].
    headers: [Header; KINDS],
}

const KINDS: usize = 9;

/// Where the model of a kind is.
const fn place(opcode: Opcode) -> Option<usize> {
    Some(match opcode {
        Opcode::Inject(_) => 0,
        Opcode::Eager(_) => 1,
        Opcode::MpFirst(_) => 2,
        Opcode::MpNth => 3,
        Opcode::RzvRts(_) => 4,
        Opcode::RzvCts => 5,
        Opcode::RzvData => 6,
        Opcode::RmaRts => 7,
        Opcode::Ud => 8,
        Opcode::Other(_) => return None,
    })
}

impl Models {
    /// Models of packets that leave as `route` says, on `vl`. Its receiver doesn't matter.
    pub fn new(route: &Route, vl: Vl) -> Self {
        let route = Route { dlid: Lid(0), dst_rx: 0, ..*route };
        let none = super::Flavour { tagged: false, cq: false };
        let kinds = [
            Opcode::Inject(none),
            Opcode::Eager(none),
            Opcode::MpFirst(none),
            Opcode::MpNth,
            Opcode::RzvRts(none),
            Opcode::RzvCts,
            Opcode::RzvData,
            Opcode::RmaRts,
            Opcode::Ud,
        ];
        let (inject, eager) = (Model::inject(&route, vl), Model::eager(&route, vl));
        Self { route, inject, eager, headers: kinds.map(|kind| Header::new(&route, kind)) }
    }

    /// The model of packets with messages in their header, which are made of whole words.
    #[inline(always)]
    pub fn inject(&self) -> &Model {
        &self.inject
    }

    /// The model of packets with a whole message in their payload, likewise.
    #[inline(always)]
    pub fn eager(&self) -> &Model {
        &self.eager
    }

    /// Packets for a receiver.
    #[inline]
    pub fn to(&self, to: Origin) -> Way<'_> {
        Way { models: self, to }
    }

    /// What all of its packets have in common.
    pub fn route(&self) -> &Route {
        &self.route
    }
}

/// An endpoint's models and a receiver.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    models: &'a Models,
    to: Origin,
}

impl Begin for Way<'_> {
    #[inline]
    fn begin(&self, opcode: Opcode) -> Header {
        let Some(model) = place(opcode).and_then(|place| self.models.headers.get(place)) else {
            return Header::new(&Route { dlid: self.to.lid, dst_rx: self.to.rx, ..self.models.route }, opcode);
        };
        let (lid, flavour) = ((self.to.lid.0 as u16).swap_bytes(), u64::from(opcode.byte_in(self.generation())));
        let mut header = *model;
        header.set_word::<0>(header.word::<0>() | u64::from(lid) << 16);
        header.set_word::<1>(header.word::<1>() | flavour | u64::from(self.to.rx) << 56);
        header
    }

    #[inline]
    fn generation(&self) -> Generation {
        self.models.route.generation
    }

    #[inline]
    fn src_rx(&self) -> u8 {
        self.models.route.src_rx
    }
}
