//! What this package asks of a kernel. [`Linux`](crate::Linux) asks the real one, [`Fake`](crate::Fake) is one in memory.

use crate::memory::Memory;
use crate::options::Setup;
use crate::sys::{EventAnswer, ZcrxAnswer};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

pub(crate) mod sealed {
    //! Only this package's kernels are trusted with memory that is lent as bytes.
    pub trait Sealed {}
}

/// A kernel. Only this package has any: what they write into shared memory is relied on.
pub trait Kernel: sealed::Sealed {
    /// Its rings.
    type Queue: Queue;

    /// What it can do of zero-copy receive (`IO_URING_QUERY_ZCRX`).
    ///
    /// # Errors
    /// Why it can't be asked, or that it has none.
    fn query(&self) -> io::Result<ZcrxAnswer>;

    /// What it can tell of events (`IO_URING_QUERY_ZCRX_EVENT`).
    ///
    /// # Errors
    /// As [`Kernel::query`].
    fn query_events(&self) -> io::Result<EventAnswer>;

    /// Makes a ring that belongs to the calling thread.
    ///
    /// # Errors
    /// The kernel's.
    fn open(&self, setup: &Setup) -> io::Result<Self::Queue>;
}

/// A ring of a kernel.
pub trait Queue: sealed::Sealed + 'static {
    /// Registers a pool.
    ///
    /// # Errors
    /// The kernel's, as are those of the other functions.
    fn register(&self, wanted: &Registration<'_>) -> io::Result<Registered>;

    /// Attaches an exported pool: its number on this ring.
    ///
    /// # Errors
    /// See [`Queue::register`].
    fn import(&self, pool: BorrowedFd<'_>) -> io::Result<u32>;

    /// Exports pool number `id`.
    ///
    /// # Errors
    /// See [`Queue::register`].
    fn export(&self, id: u32) -> io::Result<OwnedFd>;

    /// Takes all that is in the refill ring of pool number `id`.
    ///
    /// # Errors
    /// See [`Queue::register`].
    fn flush(&self, id: u32) -> io::Result<()>;

    /// Asks for one more event of this type.
    ///
    /// # Errors
    /// See [`Queue::register`].
    fn arm_event(&self, id: u32, event: u32) -> io::Result<()>;

    /// Begins to receive from `socket` into pool number `id`; completions carry `user_data`.
    ///
    /// # Errors
    /// When the submission queue is full and can't be submitted.
    fn receive(&self, socket: BorrowedFd<'_>, id: u32, user_data: u64) -> io::Result<()>;

    /// Ends what was begun with `user_data`. Its last completion tells.
    ///
    /// # Errors
    /// As [`Queue::receive`].
    fn cancel(&self, user_data: u64) -> io::Result<()>;

    /// Submits what was begun and, unless there are completions already, waits for one, for `wake` to become readable, or
    /// for the end of the time.
    ///
    /// # Errors
    /// See [`Queue::register`]. The end of the time is none.
    fn wait(&self, wake: BorrowedFd<'_>, limit: Option<Duration>) -> io::Result<()>;

    /// The next completion that has come.
    fn next(&self) -> Option<Completion>;

    /// Whether one has come.
    fn ready(&self) -> bool;
}

/// A completion of a ring with 32-byte entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// What it completes.
    pub user_data: u64,
    /// Bytes, or a negative error number.
    pub result: i32,
    /// Whether more will come of the same (`IORING_CQE_F_MORE`).
    pub more: bool,
    /// Where the bytes are: the area's number and the offset in it (`struct io_uring_zcrx_cqe`).
    pub offset: u64,
}

/// What a pool is registered with.
#[derive(Debug)]
pub struct Registration<'a> {
    pub(crate) memory: &'a Arc<Memory>,
    /// Number of the interface and of its queue; without them, no device.
    pub queue: Option<(u32, u32)>,
    /// Entries of the refill ring.
    pub refill_entries: u32,
    /// Bytes of a buffer; 0 for a page.
    pub buffer_len: u32,
    /// User data of event completions, and the bit mask of their types.
    pub events: Option<(u64, u32)>,
    /// Where the statistics go in the region.
    pub stats: Option<u64>,
}

/// A registered pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    /// Its number on the ring.
    pub id: u32,
    /// Entries of the refill ring: a power of two.
    pub refill_entries: u32,
    /// Offset of the count of entries taken, in the region.
    pub head: u32,
    /// Of the count of entries published.
    pub tail: u32,
    /// Of the first entry.
    pub entries: u32,
    /// What an entry's offset has in its upper bits: the area's number.
    pub area_token: u64,
}
