//! The completion queue of endpoints that a domain's thread drives: any thread reads it, and sleeps until there is something.

use super::driven::Driven;
use super::{EndpointFailed, EndpointId};
use crate::completion::Completion;
use opx_bus::{Irq, PciFunction, ProcessMark};
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// An operation of an endpoint has ended. One that failed comes in its turn, as [`Completion::Failed`]: there is no second queue
/// for errors (`fi_cq_readerr`) that one could forget to read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completed {
    /// Whose.
    pub endpoint: EndpointId,
    /// What ended, how, and the operation's buffer.
    pub completion: Completion,
}

/// Why a waiting read has nothing to give.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It took too long.
    #[error("nothing has completed in the time given")]
    TimedOut,
    /// Somebody has called [`CompletionQueue::signal`].
    #[error("the wait was ended by a signal")]
    Signalled,
    /// An endpoint can't go on. It is told once; all completions of the endpoint's have been given before.
    #[error(transparent)]
    EndpointFailed(#[from] EndpointFailed),
    /// The queue belongs to the process that this one was forked from.
    #[error("the queue belongs to the process that this one was forked from; use it there, or open one after forking")]
    Forked,
    /// There is no endpoint that could complete something.
    #[error("no endpoint that can complete anything is bound to the queue; open one first")]
    NoEndpoint,
}

/// Where operations of one or more [`crate::SharedEndpoint`]s complete (`fi_cq(3)`). Any thread can read it and wait for it;
/// clones mean the same one. Made by [`crate::Domain::completion_queue`], where there is an example.
///
/// It holds so many completions and no more. While it is full, its endpoints keep what completes meanwhile, and accept no
/// operation that would complete here (`Again`, as FI_RM_ENABLED has it), so nothing is lost and what is kept is bounded by what
/// was accepted before.
#[derive(Debug, Clone)]
pub struct CompletionQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    size: usize,
    queue: Mutex<Queue>,
    arrived: Condvar,
    /// Completions in the queue: whoever finds none takes no lock.
    len: AtomicUsize,
    /// Readable while there is something to read, once somebody has asked for it.
    readable: OnceLock<Irq>,
    /// Wakes the domain's thread.
    wake: Irq,
    /// A forked child may find the queue locked for ever.
    process: ProcessMark,
}

#[derive(Debug, Default)]
struct Queue {
    completed: VecDeque<Completed>,
    failed: VecDeque<EndpointFailed>,
    /// Endpoints that can complete something.
    endpoints: usize,
    /// An endpoint keeps completions that found no room.
    starved: bool,
    waiting: usize,
    signalled: bool,
}

impl CompletionQueue {
    /// One of the process that has the domain.
    pub(crate) fn new(size: usize, wake: Irq, process: ProcessMark) -> Self {
        let (queue, arrived, len) = (Mutex::default(), Condvar::new(), AtomicUsize::new(0));
        let size = size.max(1);
        Self { shared: Arc::new(Shared { size, queue, arrived, len, readable: OnceLock::new(), wake, process }) }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is this process', and not that of the one that this was forked from.
    pub(crate) fn is_here(&self) -> bool {
        self.shared.process.is_here()
    }

    /// Completions that it holds at most.
    pub fn size(&self) -> usize {
        self.shared.size
    }

    /// Takes the next completion, if there is one; in a forked child there is none.
    pub fn read(&self) -> Option<Completed> {
        if self.shared.len.load(Ordering::Acquire) == 0 || !self.is_here() {
            return None;
        }
        self.take(&mut self.queue())
    }

    /// Takes up to `most` completions and puts them behind those in `to`; gives how many.
    pub fn read_many(&self, to: &mut Vec<Completed>, most: usize) -> usize {
        if self.shared.len.load(Ordering::Acquire) == 0 || !self.is_here() {
            return 0;
        }
        let mut queue = self.queue();
        let before = to.len();
        to.extend((0..most).map_while(|_| self.take(&mut queue)));
        to.len() - before
    }

    /// Takes the next completion; waits for it at most `limit`, without one for as long as it takes.
    ///
    /// # Errors
    /// When time is up, [`CompletionQueue::signal`] was called, or nothing can come any more.
    pub fn wait(&self, limit: Option<Duration>) -> Result<Completed, WaitError> {
        if !self.is_here() {
            return Err(WaitError::Forked);
        }
        let end = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut queue = self.queue();
        loop {
            if let Some(completed) = self.take(&mut queue) {
                return Ok(completed);
            }
            // While something found no room more is to come than what was read.
            if !queue.starved {
                if let Some(failed) = queue.failed.pop_front() {
                    self.settle(&queue);
                    return Err(failed.into());
                }
                if queue.endpoints == 0 {
                    return Err(WaitError::NoEndpoint);
                }
            }
            if std::mem::take(&mut queue.signalled) {
                self.settle(&queue);
                return Err(WaitError::Signalled);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(WaitError::TimedOut);
            }
            queue.waiting += 1;
            queue = match left {
                Some(left) => self.shared.arrived.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.shared.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
            queue.waiting -= 1;
        }
    }

    /// Ends one wait, or the next one if there is none (`fi_cq_signal`). In a forked child, whose waits end by themselves, it does nothing.
    pub fn signal(&self) {
        if !self.is_here() {
            return;
        }
        self.queue().signalled = true;
        self.shared.arrived.notify_all();
        if let Some(readable) = self.shared.readable.get() {
            readable.raise();
        }
    }

    /// A file descriptor that is readable while [`CompletionQueue::wait`] would return at once: for an application that sleeps in
    /// `poll` or `epoll` on other things as well (FI_WAIT_FD). Don't read from it.
    ///
    /// # Errors
    /// When the process has no file descriptor left, or was forked from the one that has the queue.
    pub fn fd(&self) -> std::io::Result<BorrowedFd<'_>> {
        if !self.is_here() {
            return Err(std::io::Error::other(WaitError::Forked));
        }
        if self.shared.readable.get().is_none() {
            // The first stays when two threads are here at a time.
            let _ = self.shared.readable.set(Irq::new()?);
        }
        let queue = self.queue();
        if !self.is_calm(&queue)
            && let Some(readable) = self.shared.readable.get()
        {
            readable.raise();
        }
        drop(queue);
        self.shared.readable.get().map(Irq::fd).ok_or_else(|| std::io::ErrorKind::Other.into())
    }

    fn take(&self, queue: &mut Queue) -> Option<Completed> {
        let completed = queue.completed.pop_front()?;
        self.shared.len.store(queue.completed.len(), Ordering::Release);
        // Half of the room before it is filled again, so that the thread isn't woken for each.
        if queue.starved && queue.completed.len() <= self.shared.size / 2 {
            queue.starved = false;
            self.shared.wake.raise();
        }
        self.settle(queue);
        Some(completed)
    }

    /// Whether a wait would sleep.
    fn is_calm(&self, queue: &Queue) -> bool {
        queue.completed.is_empty() && queue.failed.is_empty() && !queue.signalled && queue.endpoints > 0
    }

    /// Something was taken: nothing may be left.
    fn settle(&self, queue: &Queue) {
        if let Some(readable) = self.shared.readable.get()
            && self.is_calm(queue)
        {
            let _ = readable.take();
        }
    }

    fn tell(&self, queue: &Queue, news: usize) {
        if let Some(readable) = self.shared.readable.get() {
            readable.raise();
        }
        if news < queue.waiting {
            (0..news).for_each(|_| self.shared.arrived.notify_one());
        } else if queue.waiting > 0 {
            self.shared.arrived.notify_all();
        }
    }

    /// Another endpoint completes here.
    pub(crate) fn bind(&self) {
        self.queue().endpoints += 1;
    }

    /// An endpoint completes here no more. What it hasn't found room for is none of the queue's business.
    pub(crate) fn unbind(&self) {
        let mut queue = self.queue();
        queue.endpoints = queue.endpoints.saturating_sub(1);
        self.tell(&queue, usize::MAX);
    }

    /// An endpoint can't go on.
    pub(crate) fn fail(&self, failed: EndpointFailed) {
        let mut queue = self.queue();
        queue.endpoints = queue.endpoints.saturating_sub(1);
        queue.failed.push_back(failed);
        self.tell(&queue, usize::MAX);
    }

    /// Takes an endpoint's completions, as far as there is room; whether that was all of them.
    pub(crate) fn fill<B: PciFunction>(&self, driven: &mut Driven<B>) -> bool {
        let endpoint = driven.id;
        let completions = driven.engine.completions();
        if completions.is_empty() {
            driven.engine.set_completion_limit(self.shared.size);
            return true;
        }
        let mut queue = self.queue();
        let count = completions.len().min(self.shared.size.saturating_sub(queue.completed.len()));
        let completed = completions.drain(count).map(|completion| Completed { endpoint, completion });
        queue.completed.extend(completed);
        let all = completions.is_empty();
        queue.starved |= !all;
        self.shared.len.store(queue.completed.len(), Ordering::Release);
        if count > 0 {
            self.tell(&queue, count);
        }
        drop(queue);
        driven.engine.set_completion_limit(if all { self.shared.size } else { 0 });
        all
    }
}
