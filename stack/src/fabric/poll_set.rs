//! Endpoints that their owner drives, and their completions: a completion queue of one thread, without a lock.

use super::counter::Counting;
use super::driven::Driven;
use super::event_queue::Reporter;
use super::sleep::{SleepCounts, Sleeper, Until};
use super::{Completed, Domain, EndpointFailed, EndpointId, WaitError};
use crate::error::OpenError;
use crate::{Config, Endpoint};
use opx_bus::{PciFunction, ProcessMark};
use opx_defs::time::Instant;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Endpoints of a domain that make progress only when their owner says so (FI_PROGRESS_MANUAL), and where their operations
/// complete. All of it belongs to one thread at a time: there is no lock on any path.
///
/// Each endpoint keeps up to [`Config::completions`] that nobody has read; while there are as many it accepts no operation that
/// would complete, so nothing is lost.
///
/// ```
/// # use opx_bus::PciFunction;
/// # use opx_emu::{Config as Chip, Icode, Lab, Pacing};
/// # use opx_hw::{Hfi, LinkMode, Options};
/// use opx_stack::{Completion, Config, Domain, Pattern};
/// use std::time::Duration;
/// # let lab = Lab::new(Pacing::Virtual);
/// # let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
/// let hfi = Hfi::open(adapter.bus(), Options::default())?;
/// hfi.link_up(LinkMode::Loopback)?;
/// let domain = Domain::open(&hfi)?;
/// let mut set = domain.poll_set();
/// let (a, b) = (set.open(Config::default())?, set.open(Config::default())?);
///
/// let to = set.endpoint(b)?.address();
/// set.endpoint(b)?.tag_receive(Pattern::exact(7), vec![0; 64], 1).unwrap();
/// set.endpoint(a)?.tag_send(to, 7, b"hello".to_vec(), 2).unwrap();
/// // Drives both, and sleeps on their interrupts while there is nothing to do.
/// let mut received = 0;
/// for _ in 0..2 {
///     let done = set.wait(Some(Duration::from_secs(1)))?;
///     if let Completion::Received { len, buffer, .. } = done.completion {
///         assert_eq!((done.endpoint, &buffer.into_vec()[..len]), (b, &b"hello"[..]));
///         received += 1;
///     }
/// }
/// assert_eq!(received, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PollSet<B: PciFunction> {
    domain: Domain<B>,
    /// In the order of their ids.
    members: Vec<Driven<B>>,
    /// Whose completions are looked at first.
    next: usize,
    sleeper: Sleeper,
    /// Endpoints that can't go on, until their owner is told.
    untold: VecDeque<EndpointFailed>,
    /// A forked child has a copy that must touch nothing.
    process: ProcessMark,
}

/// Why an endpoint can't be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// It isn't there.
    #[error("{0} isn't in this set; it was closed, or is another set's")]
    NotHere(EndpointId),
    /// It can't go on.
    #[error(transparent)]
    Failed(#[from] EndpointFailed),
}

impl<B: PciFunction> PollSet<B> {
    pub(crate) fn new(domain: Domain<B>) -> Self {
        Self {
            process: domain.progress().process(),
            domain,
            members: Vec::new(),
            next: 0,
            sleeper: Sleeper::new(None, Arc::default()),
            untold: VecDeque::new(),
        }
    }

    /// The domain.
    pub fn domain(&self) -> &Domain<B> {
        &self.domain
    }

    /// Opens an endpoint in this set; packets for it raise an interrupt, whatever `config` says.
    ///
    /// # Errors
    /// As [`Endpoint::open`].
    pub fn open(&mut self, config: Config) -> Result<EndpointId, OpenError> {
        if !self.process.is_here() {
            return Err(OpenError::Forked);
        }
        let id = self.domain.next_id();
        let engine = Endpoint::open_with(
            self.domain.hfi(),
            Config { interrupts: true, ..config },
            self.domain.regions().clone(),
        )?;
        self.members.push(Driven::new(id, engine, Reporter::new(id, self.domain.events().clone())));
        self.sleeper.forget();
        Ok(id)
    }

    fn position(&self, id: EndpointId) -> Result<usize, AccessError> {
        self.members.binary_search_by_key(&id, |driven| driven.id).map_err(|_| AccessError::NotHere(id))
    }

    fn driven(&mut self, id: EndpointId) -> Result<&mut Driven<B>, AccessError> {
        let at = self.position(id)?;
        if !self.process.is_here() {
            return Err(EndpointFailed::forked(id).into());
        }
        self.members.get_mut(at).ok_or(AccessError::NotHere(id))
    }

    /// The endpoint `id`, to post operations.
    ///
    /// # Errors
    /// When it isn't there, can't go on, or belongs to the process that this one was forked from.
    #[inline]
    pub fn endpoint(&mut self, id: EndpointId) -> Result<&mut Endpoint<B>, AccessError> {
        let driven = self.driven(id)?;
        match &driven.failed {
            None => Ok(&mut driven.engine),
            Some(failed) => Err(failed.clone().into()),
        }
    }

    /// Lets an endpoint count what completes from now on.
    ///
    /// # Errors
    /// When it isn't there, or the set belongs to the process that this one was forked from.
    pub fn count(&mut self, id: EndpointId, counting: Counting) -> Result<(), AccessError> {
        self.driven(id)?.count(counting);
        Ok(())
    }

    /// Closes an endpoint. Operations that were under way fail; their completions, and those that nobody had read, are given.
    ///
    /// # Errors
    /// When it isn't there, or the set belongs to the process that this one was forked from.
    pub fn close(&mut self, id: EndpointId) -> Result<Vec<Completed>, AccessError> {
        let at = self.position(id)?;
        if !self.process.is_here() {
            return Err(EndpointFailed::forked(id).into());
        }
        let mut driven = self.members.remove(at);
        self.sleeper.forget();
        driven.engine.cancel_all();
        driven.publish();
        Ok(driven
            .engine
            .completions()
            .drain(usize::MAX)
            .map(|completion| Completed { endpoint: id, completion })
            .collect())
    }

    /// Moves everything on that can be moved without waiting. `true` when something was done.
    ///
    /// # Errors
    /// When an endpoint can't go on. It is told once for each; the others go on, and so can the caller. All operations of the
    /// endpoint have failed then, and their completions can be read. A forked child is told of one at each call.
    pub fn progress(&mut self) -> Result<bool, EndpointFailed> {
        if !self.process.is_here() {
            return self.members.first().map_or(Ok(false), |driven| Err(EndpointFailed::forked(driven.id)));
        }
        let busy = self.turn();
        self.untold.pop_front().map_or(Ok(busy), Err)
    }

    fn turn(&mut self) -> bool {
        let mut busy = false;
        for driven in &mut self.members {
            if driven.failed.is_some() {
                continue;
            }
            match driven.turn() {
                Ok(did) => busy |= did,
                Err(failed) => {
                    self.untold.push_back(failed);
                    self.sleeper.forget();
                    busy = true;
                }
            }
        }
        busy
    }

    /// Takes the next completion, if there is one; makes no progress. Endpoints take turns. In a forked child there is none.
    pub fn read(&mut self) -> Option<Completed> {
        if !self.process.is_here() {
            return None;
        }
        let count = self.members.len();
        for step in 0..count {
            let at = if self.next + step < count { self.next + step } else { (self.next + step).saturating_sub(count) };
            let Some(driven) = self.members.get_mut(at) else { continue };
            if let Some(completion) = driven.engine.poll_completion() {
                self.next = if at + 1 < count { at + 1 } else { 0 };
                return Some(Completed { endpoint: driven.id, completion });
            }
        }
        None
    }

    /// Takes the next completion; makes progress when there is none (`fi_cq_read`).
    ///
    /// # Errors
    /// As [`PollSet::progress`].
    pub fn poll(&mut self) -> Result<Option<Completed>, EndpointFailed> {
        if let Some(completed) = self.read() {
            return Ok(Some(completed));
        }
        self.progress()?;
        Ok(self.read())
    }

    /// Takes the next completion; drives the endpoints until there is one, at most for `limit`, without one for as long as it takes.
    /// Sleeps while there is nothing to do.
    ///
    /// # Errors
    /// When time is up, an endpoint can't go on, or there is none left that can.
    pub fn wait(&mut self, limit: Option<Duration>) -> Result<Completed, WaitError> {
        let mut completed = None;
        self.drive_until(limit, |set| {
            completed = set.read();
            completed.is_some()
        })?;
        // It holds until there is one.
        completed.ok_or(WaitError::TimedOut)
    }

    /// Drives the endpoints until `done`, which is asked after each turn, at most for `limit`. Sleeps while there is nothing to do:
    /// so `done` must depend on these endpoints only, such as on what they count.
    ///
    /// # Errors
    /// As [`PollSet::wait`].
    pub fn drive_until(
        &mut self,
        limit: Option<Duration>,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), WaitError> {
        let bus = self.domain.hfi().bus().clone();
        let end = limit.map_or(Instant::FAR, |limit| bus.now() + limit);
        loop {
            if done(self) {
                return Ok(());
            }
            if !self.process.is_here() {
                return Err(WaitError::Forked);
            }
            // Only now, as what an endpoint that failed has completed comes first.
            if let Some(failed) = self.untold.pop_front() {
                return Err(failed.into());
            }
            let busy = self.turn();
            let tired = self.sleeper.tired(busy);
            if busy {
                continue;
            }
            if self.members.iter().all(|driven| driven.failed.is_some()) {
                return Err(WaitError::NoEndpoint);
            }
            if bus.now() >= end {
                return Err(WaitError::TimedOut);
            }
            if tired {
                self.sleep(end);
            } else {
                bus.relax();
            }
        }
    }

    fn sleep(&mut self, end: Instant) {
        let Self { domain, members, sleeper, untold, .. } = self;
        let mut until = Until::new(end);
        for driven in members.iter_mut().filter(|driven| driven.failed.is_none()) {
            match until.ask(driven) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return untold.push_back(driven.fail(error)),
            }
        }
        let mut irqs = Vec::new();
        if sleeper.is_forgetful() {
            let going_on = members.iter().filter(|driven| driven.failed.is_none());
            irqs.extend(going_on.flat_map(|driven| driven.engine.irqs()));
        }
        sleeper.sleep(domain.hfi(), irqs, &until);
    }

    /// What sleeping in [`PollSet::wait`] has come to so far.
    pub fn sleep_counts(&self) -> SleepCounts {
        self.sleeper.counts()
    }
}
