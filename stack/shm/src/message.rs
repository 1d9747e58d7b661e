//! What a node hears: messages, offers, and what becomes of peers and transfers.

use crate::error::{NotTaken, PeerGone, PullError};
use crate::large::{OfferId, Offered, PullId, Sink, Source};
use crate::link::Link;
use crate::ring::{Receiver, Record, Sent};
use crate::slab::Key;

/// A peer, from its connection to [`Event::Gone`]. It is never used for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub(crate) Key);

/// What a message carries besides its payload: the caller's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Header {
    /// What kind of message it is.
    pub kind: u16,
    /// Two words.
    pub words: [u64; 2],
}

/// A message, where it lies in memory that the peer shares. Its payload can be copied out; the peer could be changing it
/// meanwhile, so it can't be looked at in place. What was copied doesn't change.
#[derive(Debug)]
pub struct Message<'a> {
    /// From whom.
    pub peer: PeerId,
    /// The caller's words.
    pub header: Header,
    /// An earlier message of the peer has been left ([`Taken::NotNow`]); this one would overtake it.
    pub overtakes: bool,
    pub(crate) body: Body<'a>,
}

/// Where a message's payload is.
#[derive(Debug)]
pub(crate) enum Body<'a> {
    Ring(&'a Receiver, Record),
    Left(&'a [u8]),
}

impl Message<'_> {
    /// Bytes of the payload.
    #[inline]
    pub fn len(&self) -> usize {
        match self.body {
            Body::Ring(_, record) => record.len,
            Body::Left(bytes) => bytes.len(),
        }
    }

    /// Whether it has no payload.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies payload out, from `offset` on: as many bytes as there are, at most as many as fit. Tells how many.
    #[inline]
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> usize {
        match self.body {
            Body::Ring(receiver, record) => receiver.read(&record, offset, bytes),
            Body::Left(left) => {
                let from = left.get(offset..).unwrap_or_default();
                let count = from.len().min(bytes.len());
                bytes.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                count
            }
        }
    }

    /// Copies the payload out.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        self.read(0, &mut bytes);
        bytes
    }
}

/// What a handler says of a message or an offer, see [`crate::Node::poll_some`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It has been seen to.
    Yes,
    /// It is to come again.
    NotNow,
}

/// What [`crate::Node::next`] has found.
#[derive(Debug)]
pub enum Next<'a> {
    /// A message.
    Message(Waiting<'a>),
    /// Nothing of the peer whose turn it is.
    Nothing,
    /// Something else, which only [`crate::Node::poll_some`] does, or may do.
    Other,
}

/// A message that waits to be taken; dropped, it waits on.
#[derive(Debug)]
#[must_use = "it waits until it is taken"]
pub struct Waiting<'a> {
    pub(crate) link: &'a mut Link,
    pub(crate) record: Record,
    pub(crate) rings: &'a mut u64,
}

impl Waiting<'_> {
    /// From whom.
    #[inline(always)]
    pub fn peer(&self) -> PeerId {
        PeerId(self.link.peer)
    }

    /// What its sender says about it.
    #[inline(always)]
    pub fn header(&self) -> Header {
        Header { kind: self.record.head.kind, words: self.record.head.words }
    }

    /// Bytes of the payload.
    #[inline(always)]
    #[expect(clippy::len_without_is_empty, reason = "nobody asks whether there is nothing to be copied")]
    pub fn len(&self) -> usize {
        self.record.len
    }

    /// Copies payload out, as [`Message::read`] does.
    #[inline(always)]
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> usize {
        self.link.receiver.read(&self.record, offset, bytes)
    }

    /// Has seen to it. Tells whether its sender has written more, or is about to.
    #[inline(always)]
    pub fn take(self) -> bool {
        self.link.silent = 0;
        if self.link.receiver.consume(&self.record) == Sent::Ring {
            *self.rings += self.link.ring_if(Sent::Ring);
        }
        let more = self.link.receiver.has_more();
        if more {
            // What its sender has gone on to write comes while the next one is seen to.
            self.link.receiver.prefetch();
        }
        more
    }
}

/// What has happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A message; the messages of a peer come in the order in which they were sent.
    Message(Message<'a>),
    /// A peer offers memory. It comes in order with the peer's messages.
    Offer {
        /// From whom.
        peer: PeerId,
        /// What the peer says about it.
        header: Header,
        /// As [`Message::overtakes`].
        overtakes: bool,
        /// To be pulled or declined.
        offered: Offered,
    },
    /// A peer has connected by itself.
    Connected(PeerId),
    /// Offered memory has arrived, or won't.
    Pulled {
        /// Which pull.
        pull: PullId,
        /// The buffer.
        sink: Sink,
        /// Bytes that were written to it.
        result: Result<usize, PullError>,
    },
    /// Memory that was offered is the caller's alone again.
    Released {
        /// Which offer.
        offer: OfferId,
        /// The memory.
        source: Source,
        /// Whether the peer has fetched what it wanted of it.
        result: Result<(), NotTaken>,
    },
    /// A peer has ended, and messages of it are left ([`Taken::NotNow`]), which still come. [`Event::Gone`] follows.
    Leaving {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: PeerGone,
    },
    /// A peer is gone; what it had sent before was delivered.
    Gone {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: PeerGone,
    },
}
