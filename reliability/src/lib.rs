//! OPX's reliability protocol as a core without I/O, clock or threads: PSN, replay, ACK, NACK and PING.
//!
//! Packets between two receive contexts form a flow in each direction. The sender numbers them (24-bit PSN), keeps each until
//! it is acknowledged and asks (PING) what arrived; the receiver puts them in order and answers (ACK, NACK). A [`Reliability`]
//! is both halves for one endpoint. It never sees a packet's bytes: the caller hands in handles, `P` for a packet sent
//! (header and payload as they went out, to be sent again unchanged) and `Q` for a packet received before its turn.
//!
//! The caller's loop, with packets and time of its own:
//!
//! ```
//! use opx_defs::time::Instant;
//! use opx_defs::units::{Lid, Psn};
//! use opx_defs::wire::opx::{Origin, UdOp};
//! use opx_reliability::{Arrival, Config, Reliability, Transmit, Verdict};
//! # use std::time::Duration;
//!
//! let (a, b) = (Origin { lid: Lid(1), rx: 5 }, Origin { lid: Lid(2), rx: 7 });
//! let mut alice: Reliability<&str, &str> = Reliability::new(Config::default(), a)?;
//! let mut bob: Reliability<&str, &str> = Reliability::new(Config::default(), b)?;
//! let start = Instant::ZERO;
//!
//! // Alice sends two packets; the first is lost.
//! alice.send(start, b, 5, |_psn| "hello")?;
//! let psn = alice.send(start, b, 5, |_psn| "world")?;
//! let arrival = Arrival { origin: a, psn, ack_req: false, early: false };
//! assert_eq!(bob.on_data(arrival, || Some("world")), Verdict::Held);
//!
//! // Her timer fires: she asks, Bob answers, she sends the first again.
//! let later = alice.poll_timeout().unwrap();
//! alice.on_timeout(later);
//! let Some(Transmit::Ud { ud: ping, .. }) = alice.poll_transmit(later) else { panic!() };
//! bob.on_ud(later, a, &ping);
//! while let Some(Transmit::Ud { ud, .. }) = bob.poll_transmit(later) {
//!     alice.on_ud(later, b, &ud);
//! }
//! let Some(Transmit::Replay { psn, packet, .. }) = alice.poll_transmit(later) else { panic!() };
//! assert_eq!(*packet, "hello");
//!
//! // Bob has both now, in order, and says so.
//! let arrival = Arrival { origin: a, psn, ack_req: false, early: false };
//! assert_eq!(bob.on_data(arrival, || None), Verdict::Deliver);
//! assert_eq!(bob.next_in_order(), Some((a, "world")));
//! let Some(Transmit::Ud { ud: ack, .. }) = bob.poll_transmit(later) else { panic!() };
//! assert_eq!(ack.op, UdOp::Ack);
//! # let later = alice.poll_timeout().unwrap_or(later);
//! # alice.on_timeout(later);
//! # while let Some(Transmit::Ud { ud, .. }) = alice.poll_transmit(later) { bob.on_ud(later, a, &ud); }
//! # while let Some(Transmit::Ud { ud, .. }) = bob.poll_transmit(later) { alice.on_ud(later, b, &ud); }
//! # alice.on_ud(later, b, &ack);
//! # while alice.poll_released().is_some() {}
//! assert!(alice.is_idle());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What differs from OPX
//! The packets are OPX's and so are the answers to pings. Different, and unseen by an OPX peer except as fewer packets:
//! * Pings slow down while a peer is silent or takes nothing, and follow its answer time; OPX pings every 500 µs for ever. When
//!   nothing was heard for [`Config::give_up_after`] the caller gets [`Event::PeerUnreachable`]; OPX never gives up.
//! * An ACK for packets that were sent later makes the sender repeat the missing earlier ones, without a NACK; if they turn
//!   out to have been only late, it waits longer the next time.
//! * A receiver tells at once of packets behind a gap, and when the gap is filled ([`Config::selective_acks`]).
//! * After a NACK nothing new is sent until its packets are acknowledged; OPX waits for all that are outstanding.
//! * A PSN that was never received is never acknowledged, however far it is from the expected one.
//! * Everything that a peer can make grow is bounded by [`Config`].
#![forbid(unsafe_code)]

mod config;
mod counters;
mod flows;
mod peers;
mod receiver;
mod replay;
mod rtt;
mod sender;
mod timers;
mod tx_flow;
mod variables;

pub use config::{Config, ConfigError};
pub use counters::Counters;
pub use flows::{RxFlowState, TxFlowState};
pub use variables::{BadValue, Variable};

use opx_defs::time::Instant;
use opx_defs::units::Psn;
use opx_defs::wire::opx::{FlowKey, Origin, Ud, UdOp};
use receiver::Receiver;
use sender::Sender;
use std::collections::VecDeque;
use thiserror::Error;

/// Why a packet can't be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// Too many packets to the peer are unacknowledged.
    #[error("too many packets to the peer are unacknowledged, try again")]
    Window,
    /// Too many bytes to the peer are unacknowledged.
    #[error("too many bytes to the peer are unacknowledged, try again")]
    OutstandingBytes,
    /// The peer asked for packets again; nothing new until it has those.
    #[error("the peer lost packets and must get them first, try again")]
    Throttled,
    /// Too many packets to all peers together are unacknowledged, for the share of them that are this peer's.
    #[error("the peer has its share of the packets that may be unacknowledged (replay_pool), try again")]
    ReplayPool,
    /// The link has been down for too long, see [`Event::LinkLost`].
    #[error("the link has been down for too long (link_down_wait); check the cable and the switch")]
    LinkDown,
    /// The peer was given up, see [`Event::PeerUnreachable`].
    #[error("peer LID {} context {} is unreachable: nothing was heard of it for too long (give_up_after)", peer.lid, peer.rx)]
    Unreachable {
        /// The peer.
        peer: Origin,
    },
    /// Another peer is more than is set.
    #[error("already {limit} peers, which is the limit (max_flows)")]
    TooManyPeers {
        /// The limit.
        limit: u32,
    },
}

impl SendError {
    /// Whether the same call can succeed later.
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::Window | Self::OutstandingBytes | Self::Throttled | Self::ReplayPool)
    }
}

/// A data packet that arrived, as far as its header concerns the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Who sent it: `Header::origin`.
    pub origin: Origin,
    /// Its number: `Header::psn`.
    pub psn: Psn,
    /// Whether it asks for an ACK: `Header::ack_req`.
    pub ack_req: bool,
    /// Whether it may be used before its turn: rendezvous data, which names an absolute place.
    pub early: bool,
}

/// What to do with a data packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Use it now, then everything that [`Reliability::next_in_order`] gives.
    Deliver,
    /// Use it now, although earlier packets are missing. Only for packets with [`Arrival::early`].
    ApplyEarly,
    /// It was kept and will come from [`Reliability::next_in_order`].
    Held,
    /// It was there before; drop it.
    Duplicate,
    /// Drop it; the sender will send it again.
    Dropped(DropReason),
}

/// Why a data packet is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Its PSN is too far from the expected one.
    OutOfWindow,
    /// There is no room to keep it until its turn.
    NoRoom,
    /// It is from a new peer and there are too many.
    TooManyFlows,
}

/// The turn of a packet, see [`Reliability::turn_of`].
#[derive(Debug)]
pub struct Turn<'a>(&'a mut u64);

impl Turn<'_> {
    /// The packet is used now: the one after it is expected.
    #[inline(always)]
    pub fn take(self) {
        *self.0 = self.0.wrapping_add(1);
    }
}

/// A packet to be sent now. Any of them may be lost by the caller (no credits, say): later pings repair it; see
/// [`Reliability::ping_lost`].
#[derive(Debug, PartialEq, Eq)]
pub enum Transmit<'a, P> {
    /// A packet that was sent before, to be sent again as it is.
    Replay {
        /// Where to.
        peer: Origin,
        /// Its number.
        psn: Psn,
        /// The caller's handle.
        packet: &'a P,
    },
    /// A packet of the protocol's own.
    Ud {
        /// Where to.
        peer: Origin,
        /// What it says.
        ud: Ud,
    },
}

/// Something the caller should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Nothing was heard of a peer for [`Config::give_up_after`]: no answer, no ping, no data. (Or it answers, but as one that
    /// has forgotten what it acknowledged.) Its packets were released; nothing more can be sent to it.
    PeerUnreachable {
        /// The peer.
        peer: Origin,
        /// PSNs from the oldest unacknowledged to the newest.
        unacked: u32,
    },
    /// The link was down for [`Config::link_down_wait`]. Every peer with something unacknowledged is given up, each with its own
    /// [`Event::PeerUnreachable`]; nothing can be sent until [`Reliability::link_up`].
    LinkLost,
    /// A peer's packets come, but never its first one: it probably talked to another endpoint with this LID and context
    /// before. Told once, when no more of its packets can be kept.
    PeerOutOfStep {
        /// The peer.
        peer: Origin,
    },
}

/// Both halves of the protocol for one endpoint.
///
/// Calls that take a time must be given one that never goes back. After any call, fetch everything from
/// [`Reliability::next_in_order`], [`Reliability::poll_transmit`], [`Reliability::poll_released`] and
/// [`Reliability::poll_event`].
#[derive(Debug)]
pub struct Reliability<P, Q> {
    config: Config,
    me: Origin,
    sender: Sender<P>,
    receiver: Receiver<Q>,
    counters: Counters,
    events: VecDeque<Event>,
}

/// The sooner of two times, if there is one.
#[inline]
fn sooner(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl<P, Q> Reliability<P, Q> {
    /// The protocol for the endpoint with primary LID and receive context `me`.
    ///
    /// # Errors
    /// When a setting can't be.
    pub fn new(config: Config, me: Origin) -> Result<Self, ConfigError> {
        Self::starting_at(config, me, 0)
    }

    /// As [`Reliability::new`], with all flows beginning at another PSN than 0; bits above the 24th count as wraps that
    /// have been. For tests: both ends must agree, and OPX begins at 0.
    ///
    /// # Errors
    /// When a setting can't be.
    pub fn starting_at(config: Config, me: Origin, first: u64) -> Result<Self, ConfigError> {
        config.check()?;
        let psn = Psn::new((first % u64::from(Psn::SPACE)) as u32);
        Ok(Self {
            config,
            me,
            sender: Sender::new(&config, me, psn),
            receiver: Receiver::new(&config, me, first),
            counters: Counters::default(),
            events: VecDeque::new(),
        })
    }

    /// Numbers and registers a packet; the caller then sends it. `make` gets the PSN and gives the handle that is kept for
    /// sending it again; `payload_bytes` counts, with the header, as outstanding.
    ///
    /// Send what [`Reliability::poll_transmit`] gives first: a peer that lost packets can't use new ones.
    ///
    /// ```
    /// # use opx_defs::{time::Instant, units::{Lid, Psn}, wire::opx::Origin};
    /// # use opx_reliability::{Config, Reliability, SendError};
    /// # let peer = Origin { lid: Lid(2), rx: 7 };
    /// let config = Config { window: 1, ..Config::default() };
    /// let mut core: Reliability<Psn, ()> = Reliability::new(config, Origin { lid: Lid(1), rx: 5 })?;
    /// assert_eq!(core.send(Instant::ZERO, peer, 64, |psn| psn), Ok(Psn::new(0)));
    /// assert_eq!(core.send(Instant::ZERO, peer, 64, |psn| psn), Err(SendError::Window));
    /// # Ok::<(), opx_reliability::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// When too much is unacknowledged ([`SendError::is_temporary`]; `make` isn't called then), or the peer was given up, or
    /// it is one peer too many.
    #[inline]
    pub fn send(
        &mut self,
        now: Instant,
        peer: Origin,
        payload_bytes: u32,
        make: impl FnOnce(Psn) -> P,
    ) -> Result<Psn, SendError> {
        self.sender.send(&self.config, &mut self.counters, now, peer, payload_bytes, make)
    }

    /// Takes a data packet (any but UD). `hold` is called when it must be kept: it puts the packet aside and gives the
    /// handle, or `None` when there is no room.
    ///
    /// ```
    /// # use opx_defs::{units::{Lid, Psn}, wire::opx::Origin};
    /// # use opx_reliability::{Arrival, Config, Reliability, Verdict};
    /// # let (me, origin) = (Origin { lid: Lid(1), rx: 5 }, Origin { lid: Lid(2), rx: 7 });
    /// let mut core: Reliability<(), &str> = Reliability::new(Config::default(), me)?;
    /// let arrival = |psn| Arrival { origin, psn: Psn::new(psn), ack_req: false, early: false };
    /// assert_eq!(core.on_data(arrival(1), || Some("second")), Verdict::Held);
    /// assert_eq!(core.on_data(arrival(0), || Some("first")), Verdict::Deliver);
    /// assert_eq!(core.next_in_order(), Some((origin, "second")));
    /// # Ok::<(), opx_reliability::ConfigError>(())
    /// ```
    ///
    /// An acknowledgement is given out with the next [`Reliability::poll_transmit`]: use the packet, and those of
    /// [`Reliability::next_in_order`], before.
    #[inline]
    pub fn on_data(&mut self, arrival: Arrival, hold: impl FnOnce() -> Option<Q>) -> Verdict {
        self.receiver.on_data(&self.config, &mut self.counters, arrival, hold, &mut self.events)
    }

    /// The turn of a data packet that asks for no ACK, when it is what nearly every packet is: the next one of its flow, with none
    /// kept and none due. Whoever can use the packet at once takes the turn ([`Turn::take`]); nothing else is to be done for it
    /// then. Otherwise [`Reliability::on_data`] takes the packet.
    ///
    /// ```
    /// # use opx_defs::{units::{Lid, Psn}, wire::opx::Origin};
    /// # use opx_reliability::{Arrival, Config, Reliability, Verdict};
    /// # let (me, origin) = (Origin { lid: Lid(1), rx: 5 }, Origin { lid: Lid(2), rx: 7 });
    /// let mut core: Reliability<(), ()> = Reliability::new(Config::default(), me)?;
    /// let first = Arrival { origin, psn: Psn::new(0), ack_req: false, early: false };
    /// assert!(core.turn_of(origin, first.psn).is_none(), "of an unknown peer");
    /// assert_eq!(core.on_data(first, || None), Verdict::Deliver);
    /// assert!(core.turn_of(origin, Psn::new(2)).is_none(), "not yet");
    /// core.turn_of(origin, Psn::new(1)).unwrap().take();
    /// core.turn_of(origin, Psn::new(2)).unwrap().take();
    /// # Ok::<(), opx_reliability::ConfigError>(())
    /// ```
    #[inline(always)]
    pub fn turn_of(&mut self, origin: Origin, psn: Psn) -> Option<Turn<'_>> {
        self.receiver.turn_of(origin, psn).map(Turn)
    }

    /// The next kept packet whose turn has come. Fetch all before the next [`Reliability::on_data`].
    pub fn next_in_order(&mut self) -> Option<(Origin, Q)> {
        self.receiver.next_in_order()
    }

    /// Takes a UD packet that came from `from` (`Header::origin`). One about a flow that `from` isn't a side of, or about
    /// PSNs that can't be, is counted and has no effect.
    pub fn on_ud(&mut self, now: Instant, from: Origin, ud: &Ud) {
        let FlowKey { slid, dlid, src_rx, dst_rx } = ud.key;
        let (src, dst) = (Origin { lid: slid, rx: src_rx }, Origin { lid: dlid, rx: dst_rx });
        let asked = ud.op == UdOp::Ping;
        let (theirs, ours) = if asked { (src, dst) } else { (dst, src) };
        if theirs != from || ours != self.me {
            self.counters.ud_foreign += 1;
            return;
        }
        if asked {
            self.counters.pings_received += 1;
            self.sender.on_ping(now, from);
            self.receiver.on_ping(&self.config, &mut self.counters, now, from, ud);
        } else {
            self.sender.on_answer(&self.config, &mut self.counters, now, from, ud);
        }
    }

    /// The next packet to be sent: answers, then replays, then pings. None while the link is down.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit<'_, P>> {
        if !self.sender.link_is_up() {
            return None;
        }
        if let Some((peer, ud)) = self.receiver.next_answer() {
            return Some(Transmit::Ud { peer, ud });
        }
        // The replay comes last in the code because it borrows; a ping is only made when there is none.
        if !self.sender.has_replay(now) {
            let (peer, ud) = self.sender.next_ping(&self.config, now)?;
            self.counters.pings_sent += 1;
            return Some(Transmit::Ud { peer, ud });
        }
        let (peer, psn, packet) = self.sender.next_replay()?;
        self.counters.replays_sent += 1;
        Some(Transmit::Replay { peer, psn, packet })
    }

    /// Tells that a ping that [`Reliability::poll_transmit`] gave couldn't be sent: the adapter has no room. No more of them
    /// are given in this interval, and [`Config::max_congested_pings`] in each of the next until none waits.
    ///
    /// ```
    /// # use opx_defs::{time::Instant, units::{Lid, Psn}, wire::opx::Origin};
    /// # use opx_reliability::{Config, Reliability};
    /// let mut core: Reliability<Psn, ()> = Reliability::new(Config::default(), Origin { lid: Lid(1), rx: 5 })?;
    /// for n in 0..100 {
    ///     core.send(Instant::ZERO, Origin { lid: Lid(2 + n), rx: 7 }, 64, |psn| psn).unwrap();
    /// }
    /// let now = core.poll_timeout().unwrap();
    /// core.on_timeout(now);
    /// assert!(core.poll_transmit(now).is_some());
    /// core.ping_lost();
    /// assert!(core.poll_transmit(now).is_none());
    /// let then = core.poll_timeout().unwrap();
    /// assert_eq!(std::iter::from_fn(|| core.poll_transmit(then).map(drop)).count(), 4);
    /// # Ok::<(), opx_reliability::ConfigError>(())
    /// ```
    pub fn ping_lost(&mut self) {
        self.sender.ping_lost();
    }

    /// The next packet that was acknowledged (or whose peer was given up). An ACK can be faster than the engine that sends
    /// the packet: the caller must not reuse the memory before that engine is done with it, either.
    pub fn poll_released(&mut self) -> Option<P> {
        self.sender.released.pop_front()
    }

    /// The next thing that the caller should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether [`Reliability::poll_transmit`], [`Reliability::poll_released`] or [`Reliability::poll_event`] may have
    /// something to give; pings that wait for their time don't count.
    #[inline]
    pub fn has_something(&self) -> bool {
        self.receiver.has_answer() || self.sender.has_something() || !self.events.is_empty()
    }

    /// When to call [`Reliability::on_timeout`] next, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        sooner(self.sender.poll_timeout(&self.config), self.receiver.poll_timeout())
    }

    /// When the first timer of a peer fires, [`Instant::FAR`] if there is none: all of [`Reliability::poll_timeout`] that a
    /// packet that is sent can change, for who asks each time. It counts while the link is down as well.
    #[inline(always)]
    pub fn first_timer(&self) -> Instant {
        self.sender.first_timer()
    }

    /// Does what is due; cheap when nothing is.
    pub fn on_timeout(&mut self, now: Instant) {
        self.receiver.on_timeout(&self.config, &mut self.counters, now);
        let receiver = &self.receiver;
        self.sender
            .on_timeout(&self.config, &mut self.counters, now, &mut self.events, |peer| receiver.data_from(peer));
    }

    /// The link went down. Packets may still be registered; nothing is given out to be sent, and no peer is blamed, until
    /// [`Reliability::link_up`] or for [`Config::link_down_wait`].
    ///
    /// ```
    /// # use opx_defs::{time::Instant, units::{Lid, Psn}, wire::opx::Origin};
    /// # use opx_reliability::{Config, Event, Reliability, SendError};
    /// # let peer = Origin { lid: Lid(2), rx: 7 };
    /// let mut core: Reliability<Psn, ()> = Reliability::new(Config::default(), Origin { lid: Lid(1), rx: 5 })?;
    /// let start = Instant::ZERO;
    /// core.send(start, peer, 64, |psn| psn).unwrap();
    /// core.link_down(start);
    /// let limit = core.poll_timeout().unwrap();
    /// assert_eq!(limit, start + Config::default().link_down_wait);
    /// core.on_timeout(limit);
    /// assert_eq!(core.poll_event(), Some(Event::LinkLost));
    /// assert_eq!(core.poll_event(), Some(Event::PeerUnreachable { peer, unacked: 1 }));
    /// assert_eq!(core.send(limit, peer, 64, |psn| psn), Err(SendError::Unreachable { peer }));
    /// # Ok::<(), opx_reliability::ConfigError>(())
    /// ```
    pub fn link_down(&mut self, now: Instant) {
        self.sender.link_down(now);
    }

    /// The link is up (again): asks peers what is lost of what was sent before.
    pub fn link_up(&mut self, now: Instant) {
        self.sender.link_up(now);
    }

    /// Whether every packet sent has been acknowledged (or given up).
    pub fn is_idle(&self) -> bool {
        self.sender.is_idle()
    }

    /// Bytes to `peer` that are unacknowledged, headers included.
    pub fn outstanding_bytes(&self, peer: Origin) -> u64 {
        self.sender.outstanding(peer)
    }

    /// Whether a peer has acknowledged a packet that was sent to it lately, and all before that one: then it has used it. A packet
    /// that was [released](Reliability::poll_released) may still be kept there, behind one that is missing.
    ///
    /// ```
    /// # use opx_defs::{time::Instant, units::Lid, wire::opx::{FlowKey, Origin, Ud, UdOp}};
    /// # use opx_reliability::{Config, Reliability};
    /// # let (me, peer) = (Origin { lid: Lid(1), rx: 5 }, Origin { lid: Lid(2), rx: 7 });
    /// let mut core: Reliability<(), ()> = Reliability::new(Config::default(), me)?;
    /// let first = core.send(Instant::ZERO, peer, 64, |_| ()).unwrap();
    /// let second = core.send(Instant::ZERO, peer, 64, |_| ()).unwrap();
    /// let key = FlowKey { slid: me.lid, dlid: peer.lid, src_rx: me.rx, dst_rx: peer.rx };
    /// core.on_ud(Instant::ZERO, peer, &Ud { op: UdOp::Ack, key, start: second, count: 1 });
    /// assert!(core.poll_released().is_some() && !core.has_acknowledged(peer, second));
    /// core.on_ud(Instant::ZERO, peer, &Ud { op: UdOp::Ack, key, start: first, count: 1 });
    /// assert!(core.has_acknowledged(peer, second));
    /// # Ok::<(), opx_reliability::ConfigError>(())
    /// ```
    pub fn has_acknowledged(&self, peer: Origin, psn: Psn) -> bool {
        self.sender.has_acknowledged(peer, psn)
    }

    /// Packets to all peers together that take room in the replay pool.
    pub fn replays_in_use(&self) -> u32 {
        self.sender.replays_in_use()
    }

    /// Peers that are remembered: as receivers of our packets, and as senders.
    pub fn flows(&self) -> (usize, usize) {
        (self.sender.flow_count(), self.receiver.flow_count())
    }

    /// Packets kept until their turn, or until they are fetched.
    pub fn held(&self) -> usize {
        self.receiver.held()
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
