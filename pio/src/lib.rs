//! Programmed I/O: the processor writes whole packets into a send context's buffer, 64 bytes at a time.
//!
//! The first block of a packet goes to the start-of-packet view of the buffer, the others to the plain view; blocks come
//! back as credits. A sender that has no credit says so at once and never waits unless told to; when its context has halted,
//! it says which check or error did that.
#![forbid(unsafe_code)]

mod credits;
mod error;
mod head;
mod sender;

pub use credits::Credits;
pub use error::PioError;
pub use head::Head;
pub use sender::{BLOCK, PioCounters, PioSender, WaitError};
