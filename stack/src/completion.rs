//! What an endpoint tells its owner when an operation ends, with the buffer that the operation had.

use crate::Address;

/// An operation has ended. Each operation that was accepted ends in exactly one completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// A message was sent and its receiver has all of it.
    Sent {
        /// The context given with the operation.
        context: u64,
        /// The buffer given with the operation.
        buffer: Vec<u8>,
    },
    /// A message was received.
    Received {
        /// The context given with the operation.
        context: u64,
        /// The message's tag.
        tag: u64,
        /// Who sent it.
        source: Address,
        /// Bytes of the message, at the start of the buffer.
        len: usize,
        /// The buffer given with the operation.
        buffer: Vec<u8>,
    },
    /// An operation failed.
    Failed {
        /// The context given with the operation.
        context: u64,
        /// Why.
        error: OperationError,
        /// The buffer given with the operation; what of it was written isn't said.
        buffer: Vec<u8>,
    },
}

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The message is longer than the receive buffer.
    #[error("the message has {message} bytes, the receive buffer {buffer}; post a larger one")]
    Truncated {
        /// Bytes of the message.
        message: u64,
        /// Bytes of the buffer.
        buffer: u64,
    },
    /// The peer hasn't answered for too long.
    #[error("{0} doesn't answer; check its process and the link")]
    Unreachable(Address),
    /// The endpoint was closed first.
    #[error("the endpoint was closed")]
    Closed,
}
