//! Counters that tell how many operations have completed, without their completions being read.

use opx_bus::ProcessMark;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many operations have completed, and how many have failed (`fi_cntr(3)`). Any thread can read it and wait for it; clones
/// mean the same one. An endpoint counts into it what it was bound to it for, see [`crate::SharedEndpoint::count`] and
/// [`crate::PollSet::count`]. Injected messages and those that complete silently count, too.
///
/// ```
/// use opx_stack::{Counter, CounterError};
/// use std::time::Duration;
/// let counter = Counter::new();
/// let waiting = std::thread::spawn({
///     let counter = counter.clone();
///     move || counter.wait(3, None)
/// });
/// counter.add(3);
/// assert_eq!(waiting.join().unwrap(), Ok(3));
/// assert_eq!(counter.wait(4, Some(Duration::ZERO)), Err(CounterError::TimedOut { count: 3 }));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Counter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    count: AtomicU64,
    errors: AtomicU64,
    /// An endpoint that counted into it can't go on.
    failed: AtomicBool,
    /// Threads that wait: nobody is woken when there are none.
    waiting: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
    /// A forked child may find the lock taken for ever, and has nobody who counts.
    process: ProcessMark,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            lock: Mutex::default(),
            changed: Condvar::new(),
            process: ProcessMark::here(),
        }
    }
}

/// Why a wait for a counter has ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CounterError {
    /// It took too long.
    #[error("the counter has come to {count} only in the time given")]
    TimedOut {
        /// What it has come to.
        count: u64,
    },
    /// Operations have failed meanwhile.
    #[error("{errors} operations have failed meanwhile; read their completions for the reasons")]
    Errors {
        /// How many.
        errors: u64,
    },
    /// An endpoint that counts into it can't go on.
    #[error("an endpoint that counts here can't go on; its event queue tells why")]
    EndpointFailed,
    /// The counter belongs to the process that this one was forked from.
    #[error("the counter belongs to the process that this one was forked from; wait there, or make one after forking")]
    Forked,
}

impl Counter {
    /// One that shows 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Operations that have completed.
    pub fn read(&self) -> u64 {
        self.shared.count.load(Ordering::SeqCst)
    }

    /// Operations that have failed.
    pub fn errors(&self) -> u64 {
        self.shared.errors.load(Ordering::SeqCst)
    }

    /// Counts `more` that have completed.
    pub fn add(&self, more: u64) {
        self.shared.count.fetch_add(more, Ordering::SeqCst);
        self.wake();
    }

    /// Counts `more` that have failed.
    pub fn add_errors(&self, more: u64) {
        self.shared.errors.fetch_add(more, Ordering::SeqCst);
        self.wake();
    }

    /// Lets it show `count`.
    pub fn set(&self, count: u64) {
        self.shared.count.store(count, Ordering::SeqCst);
        self.wake();
    }

    /// Waits until it shows `threshold` or more, at most `limit`, and gives what it shows. Somebody else has to drive the
    /// endpoints: a domain's thread, or another one; who drives them himself waits with [`crate::PollSet::drive_until`].
    ///
    /// # Errors
    /// When time is up, an operation failed after the wait had begun, an endpoint can't go on, or the counter was made by the process
    /// that this one was forked from.
    pub fn wait(&self, threshold: u64, limit: Option<Duration>) -> Result<u64, CounterError> {
        if !self.shared.process.is_here() {
            return Err(CounterError::Forked);
        }
        let end = limit.and_then(|limit| Instant::now().checked_add(limit));
        let errors = self.errors();
        let shared = &*self.shared;
        let mut guard = shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the look: who counts after it sees that somebody waits, and then has to wait for the lock until this one sleeps.
        shared.waiting.fetch_add(1, Ordering::SeqCst);
        let result = loop {
            let count = self.read();
            if count >= threshold {
                break Ok(count);
            }
            let more = self.errors().saturating_sub(errors);
            if more > 0 {
                break Err(CounterError::Errors { errors: more });
            }
            if shared.failed.load(Ordering::SeqCst) {
                break Err(CounterError::EndpointFailed);
            }
            guard = match end.map(|end| end.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break Err(CounterError::TimedOut { count }),
                Some(left) => shared.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0,
                None => shared.changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
            };
        };
        shared.waiting.fetch_sub(1, Ordering::SeqCst);
        result
    }

    /// An endpoint that counts here can't go on.
    pub(crate) fn fail(&self) {
        self.shared.failed.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        // In a child that was forked nobody waits, whatever it says.
        if self.shared.waiting.load(Ordering::SeqCst) > 0 && self.shared.process.is_here() {
            drop(self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.shared.changed.notify_all();
        }
    }
}

/// What an endpoint counts, and where.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Counting {
    /// Messages that were sent (FI_SEND).
    pub sends: Option<Counter>,
    /// Messages that were received (FI_RECV).
    pub receives: Option<Counter>,
    /// Reads, writes and atomic operations that were done (FI_READ, FI_WRITE); injected ones aren't told of and don't count.
    pub requests: Option<Counter>,
}

impl Counting {
    /// Messages that were sent, into `counter`.
    pub fn sends(counter: &Counter) -> Self {
        Self { sends: Some(counter.clone()), ..Self::default() }
    }

    /// Messages that were received, into `counter`.
    pub fn receives(counter: &Counter) -> Self {
        Self { receives: Some(counter.clone()), ..Self::default() }
    }

    /// The same, and messages that were received into `counter`.
    pub fn and_receives(self, counter: &Counter) -> Self {
        Self { receives: Some(counter.clone()), ..self }
    }

    /// The same, and reads, writes and atomic operations into `counter`.
    pub fn and_requests(self, counter: &Counter) -> Self {
        Self { requests: Some(counter.clone()), ..self }
    }

    /// No operation of the endpoint will complete any more.
    pub(crate) fn fail(&self) {
        [&self.sends, &self.receives, &self.requests].into_iter().flatten().for_each(Counter::fail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_end_with_the_count_with_errors_and_with_the_endpoint() {
        let counter = Counter::new();
        let wait = |threshold| {
            let counter = counter.clone();
            std::thread::spawn(move || counter.wait(threshold, None))
        };
        let waiting: Vec<_> = (1..=4).map(wait).collect();
        counter.add(1);
        counter.add(3);
        assert!(waiting.into_iter().all(|thread| thread.join().unwrap().is_ok_and(|count| count >= 1)));
        counter.add_errors(1);
        assert_eq!(counter.wait(5, Some(Duration::ZERO)), Err(CounterError::TimedOut { count: 4 }), "not this wait's");
        let waiting = wait(9);
        while counter.shared.waiting.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        counter.add_errors(2);
        assert_eq!(waiting.join().unwrap(), Err(CounterError::Errors { errors: 2 }));
        let waiting = wait(9);
        counter.fail();
        assert_eq!(waiting.join().unwrap(), Err(CounterError::EndpointFailed));
        counter.set(9);
        assert_eq!(counter.wait(9, None), Ok(9));
    }
}
