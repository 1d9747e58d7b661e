//! Programmed I/O: the processor writes whole packets into a send context's buffer, 64 bytes at a time.
//!
//! The first block of a packet goes to the start-of-packet view of the buffer, the others to the plain view; blocks come
//! back as credits. A sender that has no credit says so at once and never waits.
#![forbid(unsafe_code)]

mod credits;
mod sender;

pub use credits::Credits;
pub use sender::{BLOCK, PioCounters, PioError, PioSender};
