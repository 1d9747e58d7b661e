//! Sends and receives that are under way.

use crate::buffer::{Buffer, SharedRange};
use crate::completion::{Level, OperationError};
use crate::observe::Path;
use crate::observe::explain::Slower;
use crate::observe::hmem::Medium;
use crate::table::Handle;
use crate::{Address, Pattern};
use opx_bus::SharedMem;
use opx_defs::tid::Tid;
use opx_defs::units::Psn;
use opx_defs::wire::opx::RzvTidCts;
use opx_hw::Memory;
use std::collections::VecDeque;

/// A message to be sent. The shorthands of the endpoint ([`crate::Endpoint::send`], [`crate::Endpoint::tag_send`]) make one
/// with nothing special; all of it is for [`crate::Endpoint::send_message`].
///
/// ```
/// use opx_stack::{Address, Level, Outgoing};
/// # use opx_defs::units::Lid;
/// # let to = Address { lid: Lid(1), rx: 5 };
/// let message = Outgoing { tag: Some(7), data: Some(99), silent: true, ..Outgoing::new(to, b"hello".to_vec(), 1) };
/// assert_eq!(message.level, Level::Transmit);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub to: Address,
    /// What a tagged receive looks at; without, the message goes to an untagged one.
    pub tag: Option<u64>,
    /// Data for the receiver's completion.
    pub data: Option<u32>,
    /// The message.
    pub buffer: Buffer,
    /// Comes back with the completion.
    pub context: u64,
    /// How far it must have got.
    pub level: Level,
    /// No completion unless it fails (FI_SELECTIVE_COMPLETION without FI_COMPLETION). The buffer is dropped then.
    pub silent: bool,
    /// The slowest way that it may go; otherwise what [`crate::Config::expect`] says counts.
    pub expect: Option<Path>,
}

impl Outgoing {
    /// An untagged message with nothing special.
    pub fn new(to: Address, buffer: impl Into<Buffer>, context: u64) -> Self {
        let buffer = buffer.into();
        Self { to, tag: None, data: None, buffer, context, level: Level::default(), silent: false, expect: None }
    }
}

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Send {
    pub(crate) context: u64,
    pub(crate) to: Address,
    pub(crate) buffer: Buffer,
    pub(crate) silent: bool,
    /// Packets handed to the reliability protocol and not acknowledged yet.
    pub(crate) unacknowledged: u64,
    /// Of its packets, those that the engine may be taking from the buffer.
    pub(crate) reading: u32,
    /// It has failed; its buffer comes back when the engine is done with it.
    pub(crate) failed: Option<OperationError>,
    pub(crate) kind: SendKind,
}

/// By which protocol.
#[derive(Debug)]
pub(crate) enum SendKind {
    /// One packet that holds it all.
    Eager,
    /// Several packets, without asking first.
    MultiPacket {
        /// PSN of the first, which names the message.
        uid: Psn,
        /// Bytes that have gone out.
        sent: usize,
    },
    /// Its memory is offered to a peer on this machine.
    Offered,
    /// The receiver asks for pieces.
    Rendezvous {
        /// Pieces asked for and not sent yet.
        grants: VecDeque<Grant>,
        /// Bytes that haven't been asked for.
        ungranted: u64,
        /// What went with the offer.
        along: Along,
        /// The memory behind the buffer, when the engine can take the data from there.
        source: Source,
        /// The receiver has ended it: its buffer is too small.
        truncated: bool,
    },
}

/// What of a message goes with its offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Along {
    /// Bytes from its start.
    pub(crate) bytes: usize,
    /// Also the last 7, so that up to as many needn't be asked for.
    pub(crate) tail: bool,
}

/// Where the data of a send is taken from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// That wasn't looked at yet.
    Unknown,
    /// It is copied.
    Copied,
    /// From this memory, where the buffer begins at so many bytes.
    Mapped(Memory, usize),
}

/// The expected buffers of a piece, and how far they are filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tids {
    pub(crate) tids: Vec<Tid>,
    /// The one that the next byte goes to, and where in it.
    pub(crate) index: usize,
    pub(crate) offset: u32,
}

impl Tids {
    /// Those that an answer names; `None` when they can't hold exactly what it asks for in packets that can be sent: all of them
    /// are needed, packets begin at multiples of 64 bytes and consist of whole qwords.
    pub(crate) fn of(cts: &RzvTidCts<'_>) -> Option<Self> {
        let tids: Vec<Tid> = cts.pairs.iter().map(|pair| Tid::decode(pair.get())).collect::<Option<_>>()?;
        let bytes = |tids: &[Tid]| tids.iter().map(|tid| u64::from(tid.bytes())).sum::<u64>();
        let (last, before) = tids.split_last()?;
        let end = u64::from(cts.offset).checked_add(cts.iov.bytes)?;
        let begins = tids.first().is_some_and(|first| cts.offset < first.bytes());
        let ends = bytes(before) < end && end <= bytes(before) + u64::from(last.bytes());
        let cut = cts.offset.is_multiple_of(64) && cts.iov.bytes.is_multiple_of(8);
        (begins && ends && cut).then_some(Self { tids, index: 0, offset: cts.offset })
    }

    /// Where the next byte goes, and how many bytes may follow.
    pub(crate) fn room(&self) -> Option<(Tid, u32, usize)> {
        let tid = *self.tids.get(self.index)?;
        Some((tid, self.offset, tid.bytes().checked_sub(self.offset)? as usize))
    }

    fn advance(&mut self, len: usize) {
        self.offset += len as u32;
        if self.tids.get(self.index).is_some_and(|tid| self.offset >= tid.bytes()) {
            (self.index, self.offset) = (self.index + 1, 0);
        }
    }
}

impl Grant {
    /// The next `len` bytes are sent.
    pub(crate) fn advance(&mut self, len: usize) {
        self.rbuf = self.rbuf.wrapping_add(len as u64);
        self.from += len;
        self.left = self.left.saturating_sub(len);
        if let Some(tids) = &mut self.expected {
            tids.advance(len);
        }
    }
}

/// A piece that a receiver has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The receiver's name for the transfer.
    pub(crate) cookie: u64,
    /// Where the next byte goes at the receiver.
    pub(crate) rbuf: u64,
    /// The next byte in the send buffer.
    pub(crate) from: usize,
    /// Bytes left.
    pub(crate) left: usize,
    /// Where the receiver's adapter puts them, if it does.
    pub(crate) expected: Option<Tids>,
}

impl Send {
    /// A message of which one packet goes out now; its buffer is taken out of it.
    #[inline]
    pub(crate) fn new(message: &mut Outgoing, kind: SendKind) -> Self {
        let Outgoing { to, context, silent, .. } = *message;
        let buffer = std::mem::take(&mut message.buffer);
        Self { context, to, buffer, silent, unacknowledged: 1, reading: 0, failed: None, kind }
    }

    /// Whether it goes in several eager packets.
    pub(crate) fn is_multi_packet(&self) -> bool {
        matches!(self.kind, SendKind::MultiPacket { .. })
    }

    /// Whether all of it was sent and acknowledged.
    pub(crate) fn is_done(&self) -> bool {
        let all_sent = match &self.kind {
            SendKind::Eager => true,
            // Its end is told.
            SendKind::Offered => false,
            SendKind::MultiPacket { sent, .. } => *sent == self.buffer.len(),
            SendKind::Rendezvous { grants, ungranted, along, truncated, .. } => {
                // A receiver that has the tail already may leave it out without saying so.
                let unasked = if along.tail { 7 } else { 0 };
                *truncated || grants.is_empty() && *ungranted <= unasked
            }
        };
        all_sent && self.unacknowledged == 0 && self.reading == 0 && self.failed.is_none()
    }
}

/// A posted receive.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) context: u64,
    pub(crate) buffer: Buffer,
}

/// What is told of a message that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) tag: Option<u64>,
    pub(crate) data: Option<u32>,
    pub(crate) source: Address,
}

/// What a matcher holds: who waits for messages.
#[derive(Debug)]
pub(crate) enum Receive {
    /// A buffer for one message.
    One(Posted),
    /// One for many.
    Many(MultiReceiveId),
}

/// Names a multi-receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MultiReceiveId(pub(crate) Handle);

/// A message's place in the buffer of a multi-receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) of: MultiReceiveId,
    /// Bytes from the start of the buffer.
    pub(crate) offset: usize,
}

/// A message that comes in pieces.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) into: Target,
    pub(crate) envelope: Envelope,
    pub(crate) len: usize,
    /// Bytes that haven't come.
    pub(crate) missing: u64,
    pub(crate) coming: Coming,
}

/// How the pieces of a message come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coming {
    /// In packets that were asked for.
    Asked,
    /// In packets that come by themselves. The number of the first names the message.
    Assembled(Psn),
    /// Out of its sender's memory, from where it is fetched. No packet has a part in that.
    Fetched,
}

/// Where a message goes that comes in pieces.
#[derive(Debug)]
pub(crate) enum Target {
    /// The receive that asked for it.
    Receive(Posted),
    /// A place in the buffer of a multi-receive: just that place.
    Part(SharedRange, Part),
    /// Nobody has asked for it: `len` bytes.
    Early(Vec<u8>),
    /// Nobody will ask for it.
    Nowhere,
}

impl Target {
    /// Whether no receive waits for it.
    pub(crate) fn is_unasked(&self) -> bool {
        matches!(self, Self::Early(_) | Self::Nowhere)
    }

    /// Whether it goes into the buffer of a multi-receive.
    pub(crate) fn is_part(&self) -> bool {
        matches!(self, Self::Part(..))
    }

    /// The memory that an adapter reaches it by, where it begins there, and its bytes; `None` when it doesn't or mustn't.
    pub(crate) fn reachable(&self) -> Option<(&SharedMem, usize, usize)> {
        match self {
            Self::Receive(posted) => {
                let (memory, start) = posted.buffer.reachable()?;
                Some((memory, start, posted.buffer.len()))
            }
            Self::Part(place, _) => Some((place.memory(), place.start(), place.len())),
            Self::Early(_) | Self::Nowhere => None,
        }
    }

    /// Writes bytes of the message that belong at `at`. What doesn't fit is dropped.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        match self {
            Self::Receive(posted) => posted.buffer.write(at, bytes),
            Self::Part(place, _) => place.write(at, bytes),
            Self::Early(early) => {
                if let Some(to) = early.get_mut(at..at.saturating_add(bytes.len())) {
                    to.copy_from_slice(bytes);
                }
            }
            Self::Nowhere => {}
        }
    }
}

impl Incoming {
    /// Takes bytes that belong at `at`: `false` when they don't. What doesn't fit the receive's buffer is dropped.
    pub(crate) fn take(&mut self, at: u64, bytes: &[u8]) -> bool {
        let inside = at.checked_add(bytes.len() as u64).is_some_and(|end| end <= self.len as u64);
        if !inside || bytes.len() as u64 > self.missing {
            return false;
        }
        self.into.write(at as usize, bytes);
        self.missing -= bytes.len() as u64;
        true
    }
}

/// A message that came before anybody asked for it.
#[derive(Debug)]
pub(crate) struct Unexpected {
    pub(crate) data: Option<u32>,
    pub(crate) what: Kept,
}

/// How much of it came.
#[derive(Debug)]
pub(crate) enum Kept {
    /// All of it, and how it came.
    Eager(Medium, Vec<u8>),
    /// The first of several packets; more of it comes into the table of incoming messages.
    MultiPacket {
        /// Its place there.
        incoming: Handle,
        /// Bytes of the whole message.
        len: usize,
    },
    /// Its offer.
    Offer(Offered),
}

/// The offer of a message.
#[derive(Debug)]
pub(crate) enum Offered {
    /// It comes in packets, once it is asked for.
    OnWire(Offer),
    /// It is fetched out of the memory of a peer on this machine.
    InMemory(opx_shm::Offered),
}

impl Offered {
    /// How it came.
    pub(crate) fn medium(&self) -> Medium {
        match self {
            Self::OnWire(_) => Medium::Adapter,
            Self::InMemory(_) => Medium::Memory,
        }
    }

    /// Bytes of the message.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::OnWire(offer) => offer.len,
            Self::InMemory(offered) => offered.len(),
        }
    }
}

impl Unexpected {
    /// Bytes of the message, with those that haven't come.
    pub(crate) fn len(&self) -> u64 {
        match &self.what {
            Kept::Eager(_, message) => message.len() as u64,
            Kept::MultiPacket { len, .. } => *len as u64,
            Kept::Offer(offer) => offer.len(),
        }
    }

    /// Bytes of memory that it takes.
    pub(crate) fn footprint(&self) -> usize {
        const BOOKKEEPING: usize = 128;
        BOOKKEEPING
            + match &self.what {
                Kept::Eager(_, message) => message.len(),
                Kept::MultiPacket { len, .. } => *len,
                Kept::Offer(Offered::OnWire(offer)) => offer.immediate.len(),
                Kept::Offer(Offered::InMemory(_)) => 0,
            }
    }
}

/// The offer of a rendezvous over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) len: u64,
    /// The sender's name for the transfer; 0 when it wants no answer but data requests.
    pub(crate) origin_counter: u64,
    pub(crate) src_vaddr: u64,
    pub(crate) src_device: u64,
    pub(crate) src_iface: u64,
    /// The first bytes of the message, sent along.
    pub(crate) immediate: Vec<u8>,
    /// The last 7, when they were sent along too.
    pub(crate) tail: Option<[u8; 7]>,
}

/// The receives and messages of an endpoint.
pub(crate) type Matcher = crate::matching::Matcher<Receive, Unexpected>;

/// What was asked for and can't be done now, with the buffer given back.
#[derive(Debug)]
pub struct Rejected<E> {
    /// Why.
    pub error: E,
    /// The buffer.
    pub buffer: Buffer,
}

/// Why a send wasn't accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Slots, window or operations are used up; make progress and try again.
    #[error("no room for another packet to {0}; make progress and try again")]
    Again(Address),
    /// The message is longer than the protocol can say.
    #[error("a message of {0} bytes is too long for an injected send; use an ordinary one")]
    TooLong(usize),
    /// The peer hasn't answered for too long.
    #[error("{0} doesn't answer; check its process and the link")]
    Unreachable(Address),
    /// The link has been down for too long.
    #[error("no way to {0}: the link has been down for too long (reliability.link_down_wait); check cable and switch")]
    LinkDown(Address),
    /// A message was to be told of only once the peer has used it.
    #[error(
        "a message can't be sent at the level Delivery, which only writes and atomic operations have; use Transmit"
    )]
    Delivery,
    /// It would go a slower way than was asked for.
    #[error(transparent)]
    Slower(Slower),
    /// One peer more than is set.
    #[error("there are {0} peers already, the limit; raise reliability.max_flows")]
    TooManyPeers(u32),
    /// The endpoint belongs to the process that this one was forked from.
    #[error(
        "the endpoint belongs to the process that this one was forked from; use it there, or open one after forking"
    )]
    Forked,
}

/// Why a receive wasn't accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Too many operations are under way; make progress and try again.
    #[error("too many receives are posted for {0:?}; make progress and try again")]
    Again(Pattern),
    /// The message was claimed at another endpoint.
    #[error("the message was claimed at another endpoint; receive it there")]
    OfAnother,
    /// The endpoint belongs to the process that this one was forked from.
    #[error(
        "the endpoint belongs to the process that this one was forked from; use it there, or open one after forking"
    )]
    Forked,
}
