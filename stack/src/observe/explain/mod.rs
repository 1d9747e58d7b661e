//! Which way a message, a write, a read or an atomic operation goes, and why it doesn't go another: for who wonders why a transfer is
//! slow, and for tests that want to be told when it becomes so.
//!
//! Which way it is, is what the sending code itself asks (`thresholds::Limits`, `requests::packet`); here are the names and the reasons.

mod message;
mod one_sided;

pub use message::{Message, Path};
pub use one_sided::{Kind, OneSided, OneSidedPath};

use crate::thresholds::{Limits, Thresholds};
use std::fmt;

/// Why a message, a write, a read or an atomic operation doesn't go a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The endpoint wasn't told its job, without which it knows nobody on its machine.
    #[error("no job is named, whose endpoints could be on this machine (shared_memory.job, FI_OPX_UUID)")]
    NoJob,
    /// The peer is on another machine, as far as is known.
    #[error("the peer is at another LID")]
    OtherNode,
    /// The peer takes no part in the shared memory.
    #[error(
        "the peer takes no part in this machine's memory: it is elsewhere, has it switched off or is of another job, or in \
         another network namespace"
    )]
    NoNode,
    /// The peer was reached through this machine's memory, and has ended. It isn't looked for elsewhere.
    #[error("the peer was in this machine's memory and has ended; a new one at its address is found there")]
    Ended,
    /// The peer is another user's.
    #[error("the peer is another user's process")]
    OtherUser,
    /// The system refused, or there are too many peers.
    #[error("the peer couldn't be connected when something was sent to it first; the log tells why")]
    NotConnected,
    /// It is too long.
    #[error("{len} bytes are more than {most}, the most that go this way ({limit})")]
    TooLong {
        /// Its bytes.
        len: usize,
        /// The most that go this way.
        most: usize,
        /// What sets that.
        limit: &'static str,
    },
    /// It has to be sent by another call.
    #[error("only what is sent by inject goes this way: send keeps the buffer until the peer has it")]
    NotInjected,
    /// Only tagged messages go this way.
    #[error("only tagged messages go this way")]
    Untagged,
    /// It was switched off.
    #[error("it is switched off ({0})")]
    Off(&'static str),
    /// A way that costs less takes the message.
    #[error("{0} takes it before")]
    Preferred(Path),
    /// A way that costs less takes the write, read or atomic operation.
    #[error("{0} takes it before")]
    PreferredOneSided(OneSidedPath),
    /// The processor doesn't write packets as long as its are.
    #[error("packets have {payload} bytes of payload, and the processor writes those of up to {most} ({limit})")]
    PacketTooLong {
        /// Bytes of payload of its first packet.
        payload: usize,
        /// The longest payload that the processor writes.
        most: usize,
        /// What sets that.
        limit: &'static str,
    },
    /// The processor writes packets as short as its are.
    #[error("packets have {payload} bytes of payload, and the engine fetches only those of more than {most} ({limit})")]
    PacketTooShort {
        /// Bytes of payload of its first packet.
        payload: usize,
        /// The longest payload that the processor writes.
        most: usize,
        /// What sets that.
        limit: &'static str,
    },
    /// Only messages go this way.
    #[error(
        "only messages go this way: what is asked of memory goes in packets, each of which is checked against the memory's region"
    )]
    MessagesOnly,
    /// Only what brings data from the target goes this way.
    #[error("only reads go this way")]
    NotRead,
    /// The target decides how it sends what is read.
    #[error("the target sends the data, and decides how by its own thresholds")]
    Target,
    /// It is too short.
    #[error("{len} bytes are less than {least}, the least that go this way ({limit})")]
    TooShort {
        /// Its bytes.
        len: usize,
        /// The least that go this way.
        least: usize,
        /// What sets that.
        limit: &'static str,
    },
    /// The receiver decides: it is offered so that it may go this way, and does if the receiver's adapter reaches the buffer.
    #[error("the receiver decides, by whether its adapter reaches the buffer; it is offered so that it may")]
    Receiver,
}

/// Which way something goes, and why it doesn't go the others.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation<Q = Message, P = Path> {
    /// What was asked about.
    pub asked: Q,
    /// Its way; none when it can't be sent at all.
    pub path: Option<P>,
    /// All other ways, in order of preference.
    pub rejected: Vec<(P, Reason)>,
}

impl<Q, P: Copy + PartialEq> Explanation<Q, P> {
    /// Why it doesn't go a way; `None` for the way that it goes.
    pub fn why_not(&self, path: P) -> Option<Reason> {
        self.rejected.iter().find(|(rejected, _)| *rejected == path).map(|(_, reason)| *reason)
    }
}

impl<Q: fmt::Display, P: fmt::Display> fmt::Display for Explanation<Q, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.asked)?;
        match &self.path {
            Some(path) => write!(f, "{path}")?,
            None => f.write_str("can't be sent this way")?,
        }
        self.rejected.iter().try_for_each(|(path, reason)| write!(f, "\n  not {path}: {reason}"))
    }
}

/// Something would go a slower way than was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was to go by {expected} or better and would go by {path}: {expected} doesn't take it, because {why}")]
#[non_exhaustive]
pub struct Slower<P = Path> {
    /// The slowest way that was asked for.
    pub expected: P,
    /// The way that it would go.
    pub path: P,
    /// Why it doesn't go the way that was asked for.
    pub why: Reason,
}

/// What decides, of an endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Why the peer isn't reached through memory, if it isn't.
    pub(crate) no_memory: Option<Reason>,
    pub(crate) thresholds: Thresholds,
    pub(crate) limits: Limits,
}
