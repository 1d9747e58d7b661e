//! Send DMA: an engine fetches packets from host memory by a ring of descriptors.
//!
//! A packet is queued whole or not at all, several packets are told to the engine by one register write, and each
//! packet's token comes back exactly once: sent, or failed when the engine halted.
#![forbid(unsafe_code)]

mod queue;
mod ring;

pub use queue::{Fragment, MAX_FRAGMENTS, Outcome, SdmaCounters, SdmaError, SdmaQueue};
