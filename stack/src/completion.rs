//! What an endpoint tells its owner when an operation ends, with the buffer that the operation had.

use crate::Address;
use crate::buffer::Buffer;

/// An operation has ended. Each operation that was accepted ends in exactly one completion, but for injected messages and
/// those that were asked to end silently, which have none unless they fail. A multi-receive has one for each message as well.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completion {
    /// A message was sent, as far as its [`Level`] says.
    Sent {
        /// The context given with the operation.
        context: u64,
        /// The buffer given with the operation.
        buffer: Buffer,
    },
    /// A message was received.
    Received {
        /// The context given with the operation.
        context: u64,
        /// The message's tag, if it has one.
        tag: Option<u64>,
        /// Data that its sender gave for this completion.
        data: Option<u32>,
        /// Who sent it.
        source: Address,
        /// Bytes of the message, at the start of the buffer.
        len: usize,
        /// The buffer given with the operation.
        buffer: Buffer,
    },
    /// A message was received into the buffer of a multi-receive, which takes more.
    MultiReceived {
        /// The context given with the multi-receive.
        context: u64,
        /// Data that its sender gave for this completion.
        data: Option<u32>,
        /// Who sent it.
        source: Address,
        /// Where it begins in the buffer, in bytes.
        offset: usize,
        /// Bytes of the message.
        len: usize,
    },
    /// A message for the buffer of a multi-receive failed; the buffer takes more.
    MultiReceiveFailed {
        /// The context given with the multi-receive.
        context: u64,
        /// Who sent it.
        source: Address,
        /// Why.
        error: OperationError,
    },
    /// The buffer of a multi-receive is used up and all that began to come into it has ended: the last completion of its
    /// context (the one that libfabric marks with FI_MULTI_RECV).
    MultiReceiveDone {
        /// The context given with the multi-receive.
        context: u64,
        /// The buffer given with it.
        buffer: Buffer,
    },
    /// A write, or an atomic operation without a result, has got as far as its [`Level`] says.
    Written {
        /// The context given with the operation.
        context: u64,
        /// The buffer given with the operation.
        buffer: Buffer,
    },
    /// A read has ended.
    Read {
        /// The context given with the operation.
        context: u64,
        /// The buffer given with the operation, with what was read.
        buffer: Buffer,
    },
    /// An atomic operation with a result has ended.
    Fetched {
        /// The context given with the operation.
        context: u64,
        /// The operands; with values to compare, both one after the other.
        operands: Buffer,
        /// What the elements were.
        result: Buffer,
    },
    /// A peer has written to this endpoint's memory, with data for this completion.
    RemoteWrite {
        /// The data.
        data: u32,
        /// Who wrote.
        source: Address,
        /// Bytes that were written.
        len: u64,
    },
    /// An operation failed.
    Failed {
        /// The context given with the operation.
        context: u64,
        /// Why.
        error: OperationError,
        /// The buffer given with the operation; what of it was written isn't said. Of an atomic operation with a result it is
        /// operand, values to compare and result one after the other.
        buffer: Buffer,
    },
}

impl Completion {
    /// The same, or a failure when a device didn't copy the memory of its buffers.
    pub(crate) fn checked(self) -> Self {
        let error = OperationError::Device;
        match self {
            Self::Sent { context, buffer }
            | Self::Received { context, buffer, .. }
            | Self::Written { context, buffer }
            | Self::Read { context, buffer }
                if buffer.take_fault() =>
            {
                Self::Failed { context, error, buffer }
            }
            Self::Fetched { context, operands, result } if operands.take_fault() | result.take_fault() => {
                Self::Failed { context, error, buffer: [operands, result].into_iter().collect() }
            }
            other => other,
        }
    }
}

/// How far an operation must have got for its completion (`fi_endpoint(3)`: FI_INJECT_COMPLETE, FI_TRANSMIT_COMPLETE,
/// FI_DELIVERY_COMPLETE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Level {
    /// The buffer can be used again; the message may still be lost with this process.
    Inject,
    /// The peer's endpoint has all of it.
    #[default]
    Transmit,
    /// The peer's endpoint has used all of it, and what was sent before: who looks at the peer's memory sees it. Only for writes
    /// and atomic operations, as in OPX.
    Delivery,
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
    /// The peer has offered memory to fetch the message from that isn't there any more.
    #[error(
        "{0} has unmapped the memory of its message before it was fetched; it must keep that until its send completes"
    )]
    Unmapped(Address),
    /// Part of the message came in a way that may have spoilt it: a packet of a transfer that had ended long before was written
    /// into the buffer.
    #[error("a late packet of another message was written into the receive buffer; have the message sent again")]
    Overwritten,
    /// The endpoint was closed first.
    #[error("the endpoint was closed")]
    Closed,
    /// The endpoint can't go on; [`crate::EventQueue`] tells why.
    #[error("the endpoint can't go on; its event queue tells why")]
    EndpointFailed,
    /// The peer has taken the request and gives no answer.
    #[error(
        "{0} doesn't answer the request that it has taken; check key, place and access rights, and whether the region is still \
         registered there"
    )]
    Unanswered(Address),
    /// A device didn't copy its memory, to send from or to receive into it: what was sent, or is in the buffer, is not what it must be.
    /// The log tells why.
    #[error("a device didn't copy its memory; the log tells why")]
    Device,
    /// It was cancelled.
    #[error("the operation was cancelled")]
    Cancelled,
}
