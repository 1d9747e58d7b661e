//! The objects that applications know from libfabric: fabric, domain, address vector, completion queue, event queue, counter, and
//! endpoints that are driven for their owner.
//!
//! | libfabric | here |
//! |---|---|
//! | `fi_fabric` | [`Fabric`] |
//! | `fi_domain` | [`Domain`] |
//! | `fi_av_open` | [`AddressVector`] |
//! | `fi_endpoint`, FI_PROGRESS_MANUAL | [`PollSet::open`], or an [`crate::Endpoint`] by itself |
//! | `fi_endpoint`, FI_PROGRESS_AUTO | [`Domain::endpoint`] |
//! | `fi_cq_open`, FI_PROGRESS_MANUAL | [`PollSet`] |
//! | `fi_cq_open`, FI_PROGRESS_AUTO | [`CompletionQueue`] |
//! | `fi_eq_open` | [`EventQueue`], one a domain |
//! | `fi_cntr_open` | [`Counter`] |
//! | `fi_mr_reg` | [`Domain::regions`] |
//!
//! A child that is forked from the process that opened them has copies of them that it can drop, and is refused everything else: an
//! error that says so where there is one to give, and nothing to read or to count elsewhere. It waits for no lock, as the thread that
//! held one when the child was forked isn't there to give it back.

mod address_vector;
mod completion_queue;
mod counter;
mod domain;
mod driven;
mod endpoint;
mod event_queue;
mod poll_set;
mod progress;
mod sleep;

pub use address_vector::{AddressVector, FiAddr, InsertError};
pub use completion_queue::{Completed, CompletionQueue, WaitError};
pub use counter::{Counter, CounterError, Counting};
pub use domain::Domain;
pub use endpoint::{EndpointGuard, SharedEndpoint};
pub use event_queue::{Event, EventQueue, Reported};
pub use poll_set::{AccessError, PollSet};
pub use sleep::SleepCounts;

pub(crate) use event_queue::Reporter;

use crate::error::EndpointError;
use opx_bus::PciFunction;
use opx_hw::Hfi;
use std::fmt;
use std::sync::Arc;

/// The adapters that a process uses. A process may have several, of different buses.
///
/// ```
/// # use opx_emu::{Config as Chip, Icode, Lab, Pacing};
/// # use opx_hw::{Hfi, Options};
/// use opx_stack::{Domain, Fabric};
/// # let lab = Lab::new(Pacing::Virtual);
/// # let bus = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() }).bus();
/// let fabric = Fabric::new([Hfi::open(bus, Options::default())?]);
/// let hfi = fabric.adapter("emulated").ok_or("no such adapter")?;
/// let domain = Domain::open(hfi)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Fabric<B: PciFunction> {
    adapters: Vec<Hfi<B>>,
}

impl<B: PciFunction> Fabric<B> {
    /// These adapters.
    pub fn new(adapters: impl IntoIterator<Item = Hfi<B>>) -> Self {
        Self { adapters: adapters.into_iter().collect() }
    }

    /// Its adapters.
    pub fn adapters(&self) -> &[Hfi<B>] {
        &self.adapters
    }

    /// The adapter of that name, as [`PciFunction::name`] has it.
    pub fn adapter(&self, name: &str) -> Option<&Hfi<B>> {
        self.adapters.iter().find(|hfi| hfi.bus().name() == name)
    }
}

/// Names an endpoint of a domain, in completions and events. No other of the domain has had it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub(crate) u32);

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "endpoint #{}", self.0)
    }
}

/// An endpoint can't go on.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{endpoint} can't go on: {why}")]
#[non_exhaustive]
pub struct EndpointFailed {
    /// Which.
    pub endpoint: EndpointId,
    /// Why.
    pub why: Arc<EndpointError>,
}

impl EndpointFailed {
    /// What a forked child is told of its copy of an endpoint.
    #[cold]
    pub(crate) fn forked(endpoint: EndpointId) -> Self {
        Self { endpoint, why: Arc::new(EndpointError::Forked) }
    }
}
