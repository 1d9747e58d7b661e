//! What goes wrong with packets and engines.

use opx_bus::BusError;
use opx_defs::status::SdmaErrors;
use opx_defs::units::SdmaEngine as EngineNumber;
use opx_hw::{ContextError, Gone};
use std::time::Duration;

/// Why a packet wasn't queued (no descriptor of it was written), or why the engine doesn't do what is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdmaError {
    /// The ring has too few free slots; try again after some packets completed.
    #[error("SDMA engine {engine}: {needed} descriptors needed, {free} free; try again after completions")]
    RingFull {
        /// The engine.
        engine: EngineNumber,
        /// Slots that the packet takes.
        needed: u32,
        /// Slots that are free.
        free: u32,
    },
    /// The fragments aren't a packet.
    #[error("SDMA engine {engine}: {why}")]
    BadPacket {
        /// The engine.
        engine: EngineNumber,
        /// What is wrong with them.
        why: &'static str,
    },
    /// The engine stores no more headers.
    #[error("SDMA engine {engine}: all 32 entries for headers are taken; drop one first")]
    NoHeaderEntry {
        /// The engine.
        engine: EngineNumber,
    },
    /// The engine has halted on an error; restart it.
    #[error("SDMA engine {engine} halted ({errors}); restart it")]
    Halted {
        /// The engine.
        engine: EngineNumber,
        /// Why.
        errors: SdmaErrors,
    },
    /// The engine has done nothing for a while, although it has packets, none of them waits for the wire and it shows no
    /// error.
    #[error("SDMA engine {engine} did nothing for {limit:?} with {pending} packets queued; restart it")]
    Stalled {
        /// The engine.
        engine: EngineNumber,
        /// Packets that are queued.
        pending: usize,
        /// How long it may do nothing.
        limit: Duration,
    },
    /// A freeze of the chip has stopped the engine: an error of the chip as a whole, or a link that went down.
    #[error(
        "SDMA engine {engine} was stopped by a freeze of the chip; let Hfi::service_interrupts end it, bring the link up, then restart the queue"
    )]
    Frozen {
        /// The engine.
        engine: EngineNumber,
    },
    /// The queue was stopped, or its restart failed.
    #[error("SDMA engine {engine} is stopped; restart the queue")]
    Stopped {
        /// The engine.
        engine: EngineNumber,
    },
    /// The adapter doesn't answer any more.
    #[error("SDMA engine {engine}: the adapter is gone; open it again")]
    Gone {
        /// The engine.
        engine: EngineNumber,
    },
}

/// Why a wait for a packet ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The engine doesn't do what is queued.
    #[error(transparent)]
    Engine(#[from] SdmaError),
    /// The engine has no interrupt, or the adapter doesn't answer.
    #[error(transparent)]
    Adapter(#[from] ContextError),
    /// The interrupt can't be waited for.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl From<Gone> for WaitError {
    fn from(gone: Gone) -> Self {
        Self::Adapter(gone.into())
    }
}
