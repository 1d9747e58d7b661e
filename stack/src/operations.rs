//! Sends and receives that are under way.

use crate::{Address, Pattern};
use std::collections::VecDeque;

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Send {
    pub(crate) context: u64,
    pub(crate) to: Address,
    pub(crate) buffer: Vec<u8>,
    /// Packets handed to the reliability protocol and not acknowledged yet.
    pub(crate) unacknowledged: u64,
    pub(crate) kind: SendKind,
}

/// By which protocol.
#[derive(Debug)]
pub(crate) enum SendKind {
    /// One packet that holds it all.
    Eager,
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
    /// Whether all of it was sent and acknowledged.
    pub(crate) fn is_done(&self) -> bool {
        let all_sent = match &self.kind {
            SendKind::Eager => true,
            SendKind::Rendezvous { grants, ungranted, truncated } => *truncated || grants.is_empty() && *ungranted == 0,
        };
        all_sent && self.unacknowledged == 0
    }
}

/// A buffer that waits for a message.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) context: u64,
    pub(crate) buffer: Vec<u8>,
}

/// A message on its way in by rendezvous.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) context: u64,
    pub(crate) tag: u64,
    pub(crate) source: Address,
    pub(crate) buffer: Vec<u8>,
    pub(crate) len: usize,
    /// Bytes that haven't come.
    pub(crate) missing: u64,
}

/// A message that came before anybody asked for it.
#[derive(Debug)]
pub(crate) enum Unexpected {
    /// All of it.
    Eager(Vec<u8>),
    /// Its offer.
    Offer(Offer),
}

impl Unexpected {
    /// Bytes of memory that it takes.
    pub(crate) fn footprint(&self) -> usize {
        const BOOKKEEPING: usize = 128;
        BOOKKEEPING
            + match self {
                Self::Eager(message) => message.len(),
                Self::Offer(offer) => offer.immediate.len(),
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
pub(crate) type Matcher = crate::matching::Matcher<Posted, Unexpected>;

/// What was asked for and can't be done now, with the buffer given back.
#[derive(Debug)]
pub struct Rejected<E> {
    /// Why.
    pub error: E,
    /// The buffer.
    pub buffer: Vec<u8>,
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
    /// One peer more than is set.
    #[error("there are {0} peers already, the limit; raise reliability.max_flows")]
    TooManyPeers(u32),
}

/// Why a receive wasn't accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Too many operations are under way; make progress and try again.
    #[error("too many receives are posted for {0:?}; make progress and try again")]
    Again(Pattern),
}
