//! What the owner holds of receives and of messages that came unasked: names of the former, claims of the latter.

use crate::Address;
use crate::buffer::Buffer;
use crate::matching::PostId;
use crate::operations::ReceiveError;
use crate::table::Handle;
use opx_bus::ProcessMark;
use std::sync::{Arc, Mutex, PoisonError};

/// Names a receive at the endpoint that took it, to cancel it ([`crate::Endpoint::cancel`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReceiveId {
    pub(crate) tagged: bool,
    /// None when a message had come before.
    pub(crate) post: Option<PostId>,
}

impl ReceiveId {
    /// Of a receive that a message waited for.
    pub(crate) const MATCHED: Self = Self { tagged: false, post: None };

    #[inline]
    pub(crate) fn posted(tagged: bool, post: PostId) -> Self {
        Self { tagged, post: Some(post) }
    }
}

/// What is told of a message that came before anybody asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peeked {
    /// The message's tag, if it has one.
    pub tag: Option<u64>,
    /// Who sent it.
    pub source: Address,
    /// Its length in bytes, all of it, also when only a part has come.
    pub len: u64,
    /// Data that its sender gave for the receive's completion.
    pub data: Option<u32>,
}

/// A message that was taken out of those that wait, so that no receive gets it but the one that names it
/// ([`crate::Endpoint::receive_claimed`]), fi_tagged(3)'s FI_CLAIM.
///
/// A claim that is dropped discards its message when the endpoint next has something to do, at the latest when it looks after the
/// adapter (`Config::health_interval`). One that is forgotten keeps the message's memory until the endpoint is closed; it counts as unexpected (`Config::unexpected_bytes`) all that time.
#[derive(Debug)]
#[must_use = "a claim that is dropped discards its message"]
pub struct Claimed {
    /// None once it has been used.
    handle: Option<Handle>,
    message: Peeked,
    dropped: DroppedClaims,
}

impl Claimed {
    pub(crate) fn new(handle: Handle, message: Peeked, dropped: &DroppedClaims) -> Self {
        Self { handle: Some(handle), message, dropped: dropped.clone() }
    }

    /// The message.
    pub fn message(&self) -> &Peeked {
        &self.message
    }

    /// Its place in the endpoint's table, if it is that endpoint's.
    pub(crate) fn at(&self, endpoint: &DroppedClaims) -> Option<Handle> {
        self.handle.filter(|_| Arc::ptr_eq(&self.dropped.0, &endpoint.0))
    }

    /// It has been used: nothing is left to be discarded.
    pub(crate) fn use_up(mut self) {
        self.handle = None;
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        // A child that was forked may find the lock taken for ever, and has nothing to discard.
        if let Some(handle) = self.handle
            && self.dropped.1.is_here()
        {
            self.dropped.0.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
        }
    }
}

/// Claims that were dropped and whose messages wait to be discarded.
#[derive(Debug, Clone)]
pub(crate) struct DroppedClaims(Arc<Mutex<Vec<Handle>>>, ProcessMark);

impl Default for DroppedClaims {
    fn default() -> Self {
        Self(Arc::default(), ProcessMark::here())
    }
}

impl DroppedClaims {
    pub(crate) fn pop(&self) -> Option<Handle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// A claimed message that can't be received now, with everything given back.
#[derive(Debug)]
pub struct RejectedClaim {
    /// Why.
    pub error: ReceiveError,
    /// The claim, as good as before.
    pub claimed: Claimed,
    /// The buffer.
    pub buffer: Buffer,
}
