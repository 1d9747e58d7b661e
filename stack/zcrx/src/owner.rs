//! Work for a ring's thread from other threads: a ring is used by the thread that made it, and by no other.

use crate::error::OwnerGone;
use crate::here;
use crate::kernel::Queue;
use crate::linux::LinuxQueue;
use crate::ring::{Inner, Ring};
use crate::signal::Signal;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, ThreadId};

/// A piece of work for a ring's thread.
type Job<Q> = Box<dyn FnOnce(&Ring<Q>) + Send>;

/// Where other threads leave work.
pub(crate) struct Inbox<Q: Queue> {
    owner: ThreadId,
    signal: Arc<Signal>,
    /// `None` when the ring is gone.
    jobs: Mutex<Option<VecDeque<Job<Q>>>>,
}

impl<Q: Queue> Inbox<Q> {
    pub(crate) fn new(signal: Arc<Signal>) -> Self {
        Self { owner: thread::current().id(), signal, jobs: Mutex::new(Some(VecDeque::new())) }
    }

    /// The next piece of work.
    pub(crate) fn next(&self) -> Option<Job<Q>> {
        self.jobs().as_mut()?.pop_front()
    }

    /// Takes no more work; who waits for some learns that it won't be done.
    pub(crate) fn close(&self) {
        let jobs = self.jobs().take();
        // Outside of the lock: what the jobs hold may have something to say when it is dropped.
        drop(jobs);
    }

    fn jobs(&self) -> MutexGuard<'_, Option<VecDeque<Job<Q>>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A ring for other threads: they have its own thread do what they want.
pub struct RingHandle<Q: Queue = LinuxQueue>(pub(crate) Arc<Inbox<Q>>);

impl<Q: Queue> Clone for RingHandle<Q> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Q: Queue> fmt::Debug for RingHandle<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingHandle").field("owner", &self.0.owner).finish_non_exhaustive()
    }
}

impl<Q: Queue> RingHandle<Q> {
    /// Has the ring's thread do `work` when it next waits for something to receive, and waits for the result. On that
    /// thread itself it is done at once.
    ///
    /// # Errors
    /// [`OwnerGone`] when the ring is gone, or goes before the work was done.
    ///
    /// ```
    /// use opx_zcrx::{Fake, Options, Ring};
    ///
    /// let ring = Ring::open_on(&Fake::default(), &Options::new())?;
    /// let handle = ring.handle();
    /// let other = std::thread::spawn(move || handle.run_and_wait(|ring| ring.has_pool()));
    /// while !other.is_finished() {
    ///     ring.wait(Some(std::time::Duration::from_millis(1)))?;
    /// }
    /// assert_eq!(other.join().unwrap(), Ok(false));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_and_wait<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ring<Q>) -> T + Send + 'static,
    ) -> Result<T, OwnerGone> {
        if self.0.owner == thread::current().id() {
            let ring = here::find(|ring| {
                let ring = ring.any().downcast::<Inner<Q>>().ok()?;
                Arc::ptr_eq(ring.inbox(), &self.0).then_some(Ring(ring))
            });
            return ring.map(|ring| work(&ring)).ok_or(OwnerGone);
        }
        let (send, receive) = mpsc::sync_channel(1);
        let job: Job<Q> = Box::new(move |ring| {
            // Who asked waits for it.
            let _ = send.send(work(ring));
        });
        self.0.jobs().as_mut().ok_or(OwnerGone)?.push_back(job);
        self.0.signal.raise();
        receive.recv().map_err(|_| OwnerGone)
    }
}
