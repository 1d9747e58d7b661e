//! A domain: an adapter with what its endpoints have in common.

use super::EndpointId;
use super::completion_queue::CompletionQueue;
use super::driven::Driven;
use super::endpoint::SharedEndpoint;
use super::event_queue::{EventQueue, Reporter};
use super::poll_set::PollSet;
use super::progress::{Member, Progress};
use super::sleep::SleepCounts;
use crate::error::OpenError;
use crate::regions::{Regions, RegionsConfig};
use crate::{Config, Endpoint};
use opx_bus::PciFunction;
use opx_hw::Hfi;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// An open adapter with what its endpoints share: memory regions, events, and a thread for those that make progress by
/// themselves. Clones mean the same one.
///
/// How an endpoint makes progress is said by what it is opened in. Those of a [`PollSet`] are driven by the set's owner, without a
/// lock. Those of [`Domain::endpoint`] are driven by a thread of the domain's, which is there while there are such endpoints. It
/// sleeps while there is nothing to do, and wakes when a packet comes, an operation is posted or a timer is due; when nothing is
/// outstanding either, only each [`Config::health_interval`] (250 ms unless told), once for all endpoints, to see whether the
/// adapter is still there. It sleeps in real time, so an emulated adapter has to be one of real time, too.
///
/// ```
/// # use opx_emu::{Config as Chip, Icode, Lab, Pacing};
/// # use opx_hw::{Hfi, LinkMode, Options};
/// use opx_stack::{Completion, Config, Domain, Pattern};
/// use std::time::Duration;
/// # let lab = Lab::new(Pacing::Real);
/// # let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
/// let hfi = Hfi::open(adapter.bus(), Options::default())?;
/// hfi.link_up(LinkMode::Loopback)?;
/// let domain = Domain::open(&hfi)?;
/// let queue = domain.completion_queue(1024);
/// let a = domain.endpoint(Config::default(), &queue)?;
/// let b = domain.endpoint(Config::default(), &queue)?;
///
/// b.lock()?.tag_receive(Pattern::exact(7), vec![0; 64], 1).unwrap();
/// a.lock()?.tag_send(b.address(), 7, b"hello".to_vec(), 2).unwrap();
/// // Any thread can sleep until something has completed.
/// let done = queue.wait(Some(Duration::from_secs(10)))?;
/// assert!([a.id(), b.id()].contains(&done.endpoint));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Domain<B: PciFunction> {
    inner: Arc<Inner<B>>,
}

struct Inner<B: PciFunction> {
    hfi: Hfi<B>,
    regions: Regions,
    events: EventQueue,
    progress: Progress<B>,
    next_id: AtomicU32,
}

impl<B: PciFunction> Clone for Domain<B> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<B: PciFunction> fmt::Debug for Domain<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").field("hfi", &self.inner.hfi).finish_non_exhaustive()
    }
}

impl<B: PciFunction> Domain<B> {
    /// A domain of an adapter, with room for 4096 memory regions whose keys are drawn.
    ///
    /// # Errors
    /// When the process has no file descriptor left, or was forked from the one that opened the adapter.
    pub fn open(hfi: &Hfi<B>) -> Result<Self, OpenError> {
        Self::open_with(hfi, RegionsConfig::default())
    }

    /// A domain of an adapter.
    ///
    /// # Errors
    /// As [`Domain::open`].
    pub fn open_with(hfi: &Hfi<B>, regions: RegionsConfig) -> Result<Self, OpenError> {
        if !hfi.is_ours() {
            return Err(OpenError::Forked);
        }
        let progress = Progress::new(hfi).map_err(|source| OpenError::System { what: "make an eventfd", source })?;
        let inner = Inner {
            hfi: hfi.clone(),
            regions: Regions::new(regions),
            events: EventQueue::new(hfi.link_state().is_up()),
            progress,
            next_id: AtomicU32::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The adapter.
    pub fn hfi(&self) -> &Hfi<B> {
        &self.inner.hfi
    }

    /// The memory regions that its endpoints share.
    pub fn regions(&self) -> &Regions {
        &self.inner.regions
    }

    /// What happens to the adapter and to its endpoints.
    pub fn events(&self) -> &EventQueue {
        &self.inner.events
    }

    /// A set for endpoints that its owner drives.
    pub fn poll_set(&self) -> PollSet<B> {
        PollSet::new(self.clone())
    }

    /// A completion queue for `size` completions.
    pub fn completion_queue(&self, size: usize) -> CompletionQueue {
        CompletionQueue::new(size, self.inner.progress.wake().clone(), self.inner.progress.process())
    }

    /// Opens an endpoint that the domain's thread drives, and that completes in `queue`, a queue of this domain. Packets for it
    /// raise an interrupt, whatever `config` says.
    ///
    /// # Errors
    /// As [`Endpoint::open`], when the thread can't be started, and when the domain or the queue belongs to the process that this one
    /// was forked from.
    pub fn endpoint(&self, config: Config, queue: &CompletionQueue) -> Result<SharedEndpoint<B>, OpenError> {
        if !self.inner.progress.is_here() || !queue.is_here() {
            return Err(OpenError::Forked);
        }
        let (generation, completions) = (config.generation, queue.size().min(config.completions));
        let engine = Endpoint::open_with(
            self.hfi(),
            Config { interrupts: true, completions, ..config },
            self.regions().clone(),
        )?;
        let (id, address) = (self.next_id(), engine.address());
        let driven = Driven::new(id, engine, Reporter::new(id, self.events().clone()));
        let wake = self.inner.progress.wake().clone();
        let member = Arc::new(Member::new(driven, queue.clone(), wake));
        // From here on dropping it takes it away again.
        let endpoint = SharedEndpoint::new(id, address, generation, Arc::clone(&member), self.clone());
        let added = self.inner.progress.add(member);
        added.map_err(|source| OpenError::System { what: "start the domain's thread", source })?;
        Ok(endpoint)
    }

    /// What the thread's sleeping has come to so far.
    pub fn sleep_counts(&self) -> SleepCounts {
        self.inner.progress.counts()
    }

    /// Whether there is a thread: while there are endpoints for it that can go on. A forked child has none.
    pub fn has_thread(&self) -> bool {
        self.inner.progress.is_running()
    }

    pub(crate) fn progress(&self) -> &Progress<B> {
        &self.inner.progress
    }

    pub(crate) fn next_id(&self) -> EndpointId {
        EndpointId(self.inner.next_id.fetch_add(1, Ordering::Relaxed))
    }
}
