//! What can go wrong, by what was asked for.

use crate::features::Unsupported;
use crate::options::BadOptions;
use std::io;

/// Why a ring can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The options make no sense.
    #[error(transparent)]
    Options(#[from] BadOptions),
    /// The kernel refuses.
    #[error(
        "can't make an io_uring: {0}; look at kernel.io_uring_disabled, the container's system call filter and RLIMIT_MEMLOCK"
    )]
    Kernel(#[source] io::Error),
}

/// Why a ring gets no pool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The ring's options name no source.
    #[error("the ring was made without Options::zero_copy_rx, so it can't have a pool of its own")]
    NoSource,
    /// It has one.
    #[error("the ring has a pool already")]
    HasPool,
    /// The kernel lacks something.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The process may not.
    #[error(
        "the kernel lets only processes with CAP_NET_ADMIN use zero-copy receive: run as root or with that capability"
    )]
    NotPermitted,
    /// There is no memory.
    #[error("can't map {bytes} bytes for receive buffers: {error}; ask for fewer or smaller ones")]
    Memory {
        /// How much was asked for.
        bytes: u64,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// The kernel refuses to lock the memory.
    #[error("the kernel can't lock the pool's memory; raise RLIMIT_MEMLOCK or ask for fewer buffers")]
    Locked,
    /// The interface can't.
    #[error("interface {interface}, queue {queue}: {error}; header/data split and flow steering must be set up for it")]
    Interface {
        /// Its name.
        interface: String,
        /// The queue.
        queue: i32,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// The kernel refuses for another reason.
    #[error("the kernel refuses the pool: {0}")]
    Kernel(#[source] io::Error),
    /// What the kernel registered isn't what it was given.
    #[error(
        "the kernel put the refill ring where no memory was given for it; please report this with the kernel's version"
    )]
    BadAnswer,
}

/// Why a pool isn't handed out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// There is none.
    #[error("the ring has no pool")]
    NoPool,
    /// It is another ring's.
    #[error("the pool was imported; only the ring that made it hands it out")]
    NotOwner,
    /// The kernel can't.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The kernel refuses.
    #[error("the kernel refuses to hand out the pool: {0}")]
    Kernel(#[source] io::Error),
}

/// Why a pool can't be attached to a ring.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// It has one.
    #[error("the ring has a pool already")]
    HasPool,
    /// The kernel can't.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The process may not.
    #[error(
        "the kernel lets only processes with CAP_NET_ADMIN use zero-copy receive: run as root or with that capability"
    )]
    NotPermitted,
    /// The ring isn't made for it.
    #[error("the kernel refuses the pool on this ring: {0}; make the ring with Options::zc_rx_import")]
    Ring(#[source] io::Error),
    /// The kernel refuses for another reason.
    #[error("the kernel refuses to attach the pool: {0}")]
    Kernel(#[source] io::Error),
}

/// Why nothing can be received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// There is no pool to receive into.
    #[error("the ring has no pool; make or import one first")]
    NoPool,
    /// Too many streams.
    #[error("the ring has too many streams")]
    TooMany,
    /// The kernel refuses.
    #[error("the kernel takes no more submissions: {0}")]
    Kernel(#[source] io::Error),
}

/// Why a stream ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The kernel's reason.
    #[error("receiving failed: {0}")]
    Kernel(#[from] io::Error),
    /// The kernel completed a receive in a way that makes no sense. Bytes are missing, so the stream can't go on.
    #[error(transparent)]
    BadCompletion(#[from] crate::completion::BadCompletion),
}

/// The thread that a ring belongs to is gone, or dropped the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ring's thread is gone, so nothing can be done on the ring any more")]
pub struct OwnerGone;
