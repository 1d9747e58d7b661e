//! Sends and receives that are under way.

use crate::buffer::{Buffer, SharedRange};
use crate::completion::Level;
use crate::table::Handle;
use crate::{Address, Pattern};
use opx_defs::units::Psn;
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
}

impl Outgoing {
    /// An untagged message with nothing special.
    pub fn new(to: Address, buffer: impl Into<Buffer>, context: u64) -> Self {
        let buffer = buffer.into();
        Self { to, tag: None, data: None, buffer, context, level: Level::default(), silent: false }
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
    /// The receiver asks for pieces.
    Rendezvous {
        /// Pieces asked for and not sent yet.
        grants: VecDeque<Grant>,
        /// Bytes that haven't been asked for.
        ungranted: u64,
        /// The receiver has ended it: its buffer is too small.
        truncated: bool,
    },
}

/// A piece that a receiver has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The receiver's name for the transfer.
    pub(crate) cookie: u64,
    /// Where the next byte goes at the receiver.
    pub(crate) rbuf: u64,
    /// The next byte in the send buffer.
    pub(crate) from: usize,
    /// Bytes left.
    pub(crate) left: usize,
}

impl Send {
    /// A message of which one packet goes out now.
    pub(crate) fn new(message: Outgoing, kind: SendKind) -> Self {
        let Outgoing { to, buffer, context, silent, .. } = message;
        Self { context, to, buffer, silent, unacknowledged: 1, kind }
    }

    /// Whether it goes in several eager packets.
    pub(crate) fn is_multi_packet(&self) -> bool {
        matches!(self.kind, SendKind::MultiPacket { .. })
    }

    /// Whether all of it was sent and acknowledged.
    pub(crate) fn is_done(&self) -> bool {
        let all_sent = match &self.kind {
            SendKind::Eager => true,
            SendKind::MultiPacket { sent, .. } => *sent == self.buffer.len(),
            SendKind::Rendezvous { grants, ungranted, truncated } => *truncated || grants.is_empty() && *ungranted == 0,
        };
        all_sent && self.unacknowledged == 0
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
    /// Its name among those of several packets.
    pub(crate) uid: Option<Psn>,
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
    /// All of it.
    Eager(Vec<u8>),
    /// The first of several packets; more of it comes into the table of incoming messages.
    MultiPacket {
        /// Its place there.
        incoming: Handle,
        /// Bytes of the whole message.
        len: usize,
    },
    /// Its offer.
    Offer(Offer),
}

impl Unexpected {
    /// Bytes of the message, with those that haven't come.
    pub(crate) fn len(&self) -> u64 {
        match &self.what {
            Kept::Eager(message) => message.len() as u64,
            Kept::MultiPacket { len, .. } => *len as u64,
            Kept::Offer(offer) => offer.len,
        }
    }

    /// Bytes of memory that it takes.
    pub(crate) fn footprint(&self) -> usize {
        const BOOKKEEPING: usize = 128;
        BOOKKEEPING
            + match &self.what {
                Kept::Eager(message) => message.len(),
                Kept::MultiPacket { len, .. } => *len,
                Kept::Offer(offer) => offer.immediate.len(),
            }
    }
}

/// A rendezvous offer.
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
