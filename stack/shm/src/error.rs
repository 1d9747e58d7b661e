//! What can go wrong, an enum for each operation.

use std::io;

/// Why a node wasn't opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No name, or one of more than 80 bytes.
    #[error("a name has 1 to {longest} bytes, this one {0}", longest = crate::socket::LONGEST_NAME)]
    Name(usize),
    /// Another process has the name.
    #[error("the name {0:?} is taken by a living process; choose another or end that")]
    NameTaken(String),
    /// Rings have a power of two of bytes.
    #[error("a ring can't have {0} bytes; ring_bytes is a power of two from 4096 to 16777216")]
    RingBytes(u32),
    /// The system refused.
    #[error("can't open a node for shared memory: {0}")]
    Io(#[from] io::Error),
}

/// Why a peer wasn't connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No name, or one of more than 80 bytes.
    #[error("a name has 1 to {longest} bytes, this one {0}", longest = crate::socket::LONGEST_NAME)]
    Name(usize),
    /// Nobody has that name.
    #[error(
        "no process has the name {0:?}: it hasn't opened its node yet, has ended, or is in another network namespace"
    )]
    NoSuchPeer(String),
    /// More processes than the kernel keeps waiting want to connect to it.
    #[error("{0:?} has more connections waiting than it takes; try again once it has polled")]
    Again(String),
    /// The name belongs to another user.
    #[error("{name:?} is a process of user {uid}; with Trust::Anyone it is connected all the same")]
    NotTrusted {
        /// The name.
        name: String,
        /// Its user.
        uid: u32,
    },
    /// One more than is set.
    #[error("there are {0} peers already, the limit; raise max_peers")]
    TooManyPeers(usize),
    /// A forked child used its parent's node.
    #[error(transparent)]
    Forked(#[from] Forked),
    /// The system refused.
    #[error("can't connect: {0}")]
    Io(#[from] io::Error),
}

/// A forked child used what its parent opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node belongs to the parent of this process; open one of its own after fork")]
pub struct Forked;

/// Why a message wasn't sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The ring is full.
    #[error("no room at present; poll and try again")]
    Again,
    /// Longer than [`crate::Node::longest`].
    #[error("a message has at most {longest} bytes, this one {len}; offer it as memory")]
    TooLong {
        /// Bytes of the message.
        len: usize,
        /// The most.
        longest: usize,
    },
    /// The peer is gone.
    #[error(transparent)]
    Gone(#[from] PeerGone),
    /// A forked child used its parent's node.
    #[error(transparent)]
    Forked(#[from] Forked),
}

/// A peer that can't be reached any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerGone {
    /// Its process ended without a word, as when it is killed.
    #[error("the peer's process has ended")]
    Died,
    /// It closed the connection.
    #[error("the peer has closed the connection")]
    Closed,
    /// This process closed the connection, or never had it.
    #[error("there is no such peer, or it was closed here")]
    Unknown,
    /// It didn't take this process as a peer.
    #[error("the peer refused: {0}")]
    Refused(Refusal),
    /// It wrote what no working peer writes.
    #[error("the peer was dropped because it broke the protocol: {0}")]
    Broken(&'static str),
}

/// Why a peer didn't take a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is another user's process.
    #[error("it takes connections of its own user only")]
    NotTrusted,
    /// It has its most peers.
    #[error("it has as many peers as it may (max_peers)")]
    TooManyPeers,
    /// The segment wasn't to its liking.
    #[error("it can't use the segment that it was given")]
    Segment,
    /// It speaks another version.
    #[error("it speaks another version of the protocol")]
    Version,
    /// A reason that this version doesn't know.
    #[error("reason {0}")]
    Other(u8),
}

/// Why a node couldn't be driven.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PollError {
    /// A forked child used its parent's node.
    #[error(transparent)]
    Forked(#[from] Forked),
    /// The system refused.
    #[error("can't wait for events: {0}")]
    Io(#[from] io::Error),
}

/// Why offered memory didn't arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The peer is gone.
    #[error(transparent)]
    Gone(#[from] PeerGone),
    /// The peer has unmapped what it offered.
    #[error("the peer's memory isn't there any more")]
    Unmapped,
    /// A forked child used its parent's node.
    #[error(transparent)]
    Forked(#[from] Forked),
}

/// Why offered memory wasn't fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotTaken {
    /// The peer doesn't want it.
    #[error("the peer declined the offer")]
    Declined,
    /// The peer is gone.
    #[error(transparent)]
    Gone(#[from] PeerGone),
}

/// Why the kernel doesn't copy from a peer's memory, so that it goes through the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelCopy {
    /// The peer hasn't answered yet.
    #[error("the peer hasn't answered yet")]
    NotKnown,
    /// Switched off by [`crate::Large::Ring`].
    #[error("switched off")]
    Off,
    /// EPERM.
    #[error(
        "the kernel doesn't permit it: one of the processes isn't dumpable, belongs to another user or namespace, or \
         kernel.yama.ptrace_scope isn't 0"
    )]
    NotPermitted,
    /// Its process has no number in this process's namespace.
    #[error("the peer is in another pid namespace")]
    OtherNamespace,
    /// ENOSYS: built without it, or hidden by a sandbox.
    #[error("this kernel or sandbox has no process_vm_readv")]
    NoSystemCall,
    /// What it read wasn't what the peer has there.
    #[error("the process number that the kernel gave isn't the peer's")]
    OtherProcess,
    /// Another errno.
    #[error("process_vm_readv failed with errno {0}")]
    Errno(i32),
}
