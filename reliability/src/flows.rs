//! What an endpoint's flows look like from outside: one line each of a state dump.

use crate::Reliability;
use opx_defs::units::Psn;
use opx_defs::wire::opx::Origin;

/// A flow of packets to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TxFlowState {
    /// Where to.
    pub peer: Origin,
    /// The PSN of the next new packet.
    pub next: Psn,
    /// It has more bytes outstanding than is allowed.
    pub throttled: bool,
    /// The peer asked for packets that it hasn't got yet: nothing new is sent before.
    pub nacked: bool,
    /// The peer was given up.
    pub dead: bool,
    /// Bytes of the packets that aren't acknowledged.
    pub bytes: u32,
    /// Packets that aren't acknowledged.
    pub replays: u32,
    /// The PSNs of the oldest and the newest packet that are outstanding, when there are any.
    pub outstanding: Option<(Psn, Psn)>,
}

/// A flow of packets from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RxFlowState {
    /// Where from.
    pub peer: Origin,
    /// The expected PSN, counted on without wrapping.
    pub next: u64,
    /// Packets kept, or used, ahead of their turn.
    pub early: usize,
    /// The lowest and the highest PSN of those, counted likewise.
    pub span: Option<(u64, u64)>,
}

impl<P, Q> Reliability<P, Q> {
    /// The flows to peers, in the order in which they began.
    ///
    /// ```
    /// # use opx_defs::{time::Instant, units::{Lid, Psn}, wire::opx::Origin};
    /// # use opx_reliability::{Config, Reliability};
    /// # let (me, peer) = (Origin { lid: Lid(1), rx: 5 }, Origin { lid: Lid(2), rx: 7 });
    /// let mut core: Reliability<Psn, ()> = Reliability::new(Config::default(), me)?;
    /// core.send(Instant::ZERO, peer, 64, |psn| psn)?;
    /// let flow = core.tx_flows().next().unwrap();
    /// assert_eq!((flow.peer, flow.replays, flow.outstanding), (peer, 1, Some((Psn::new(0), Psn::new(0)))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tx_flows(&self) -> impl Iterator<Item = TxFlowState> + '_ {
        let most = self.config.max_outstanding_bytes;
        self.sender.flow_states().map(move |flow| TxFlowState { throttled: flow.bytes > most, ..flow })
    }

    /// The flows from peers, in the order in which they began.
    ///
    /// ```
    /// # use opx_defs::{units::{Lid, Psn}, wire::opx::Origin};
    /// # use opx_reliability::{Arrival, Config, Reliability};
    /// # let (me, origin) = (Origin { lid: Lid(1), rx: 5 }, Origin { lid: Lid(2), rx: 7 });
    /// let mut core: Reliability<(), &str> = Reliability::new(Config::default(), me)?;
    /// core.on_data(Arrival { origin, psn: Psn::new(3), ack_req: false, early: false }, || Some("too early"));
    /// let flow = core.rx_flows().next().unwrap();
    /// assert_eq!((flow.next, flow.early, flow.span), (0, 1, Some((3, 3))));
    /// # Ok::<(), opx_reliability::ConfigError>(())
    /// ```
    pub fn rx_flows(&self) -> impl Iterator<Item = RxFlowState> + '_ {
        self.receiver.flow_states()
    }
}
