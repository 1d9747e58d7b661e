//! A bell that a thread sleeps beside until another rings it. Ringing takes a lock only when somebody sleeps.

use crate::sync::{AtomicBool, Condvar, Mutex, Ordering, fence};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// A bell for one sleeper and one ringer.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// Somebody sleeps, or is about to.
    asleep: AtomicBool,
    lock: Mutex<()>,
    rung: Condvar,
}

impl Bell {
    /// What was done before this is seen by the sleeper, who looks at it now.
    pub fn ring(&self) {
        // Either this sees the sleeper or he, who says that he sleeps and then looks, sees what was done.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) {
            // Once it can be had he has looked before, and sleeps, or will look.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.rung.notify_one();
        }
    }

    /// Sleeps until `ready`, at most `limit` by the machine's clock; `false` when that is over. `ready` is asked after each
    /// ring.
    pub fn sleep_until(&self, limit: Duration, ready: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let is_ready = loop {
            if ready() {
                break true;
            }
            let Some(left) = limit.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else { break false };
            guard = self.rung.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        self.asleep.store(false, Ordering::Relaxed);
        is_ready
    }
}
