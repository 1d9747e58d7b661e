//! Send DMA: an engine fetches packets from host memory by a ring of descriptors.
//!
//! A packet is queued whole or not at all, several packets are told to the engine by one register write, and each
//! packet's token comes back exactly once: sent, or failed when the engine halted.
//!
//! * [`SdmaQueue`] is one engine and its ring, owned by one thread.
//! * [`Packet`] is what goes into it: [`Fragment`]s of registered memory, whole or with a header that the engine has stored
//!   ([`HeaderEntry`], what Linux calls AHG).
//! * [`SdmaSet`] holds several queues; [`EngineMap`] says which of them a virtual lane or a core uses.
//! * [`SharedQueue`] lets several threads use one queue, each with a share of its own.
#![forbid(unsafe_code)]

mod bell;
mod error;
mod fragment;
mod header;
mod map;
mod packet;
mod queue;
mod recovery;
mod ring;
mod set;
mod share;
mod sync;
mod wait;

pub use error::{SdmaError, WaitError};
pub use fragment::Fragment;
pub use header::HeaderEntry;
pub use map::{EngineMap, MapError};
pub use opx_defs::sdma::HeaderEdit;
pub use packet::{MAX_FRAGMENTS, Packet};
pub use queue::{Outcome, SdmaCounters, SdmaQueue};
pub use set::SdmaSet;
pub use share::{NotAPacket, NotDone, SharedPacket, SharedQueue, SubmitError, Submitter};
