//! What is counted of a ring and its pool.

use crate::pool::Pool;
use std::cell::Cell;
use std::io;
use std::sync::Once;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Counts since the last time they were taken. Those marked *pool* are of all its rings together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Pieces that the kernel copied into the pool (*pool*; the kernel counts parts of packets, not completions).
    pub copies: u64,
    /// Bytes of them (*pool*).
    pub copied_bytes: u64,
    /// Events that told of a copy.
    pub copy_events: u64,
    /// Events that told of exhaustion.
    pub exhausted_events: u64,
    /// Times that a stream stopped for want of a free buffer.
    pub starved: u64,
    /// Times that a stream was begun again.
    pub rearmed: u64,
    /// Events that couldn't be asked for again.
    pub rearm_failures: u64,
    /// Times that the kernel was told to take returned buffers (*pool*).
    pub flushes: u64,
    /// Times that it refused, or that no ring was left to tell it (*pool*).
    pub flush_failures: u64,
    /// Completions that made no sense (*pool*).
    pub bad_completions: u64,
}

/// A ring's counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    own: Cell<Statistics>,
    /// The pool's counts when they were last taken.
    seen: Cell<Statistics>,
    /// When the streams in want of a buffer were last begun again whether or not one was returned.
    looked: Cell<Option<Instant>>,
}

impl Tally {
    fn add(&self, change: impl FnOnce(&mut Statistics)) {
        let mut own = self.own.get();
        change(&mut own);
        self.own.set(own);
    }

    pub(crate) fn starved(&self) {
        self.add(|own| own.starved += 1);
    }

    pub(crate) fn rearmed(&self) {
        self.add(|own| own.rearmed += 1);
    }

    pub(crate) fn event(&self, exhausted: bool, copied: bool) {
        self.add(|own| {
            own.exhausted_events += u64::from(exhausted);
            own.copy_events += u64::from(copied);
        });
    }

    pub(crate) fn not_rearmed(&self, error: &io::Error) {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| log::warn!("the kernel won't tell of this event again: {error}"));
        self.add(|own| own.rearm_failures += 1);
    }

    /// Whether it is time to look again: once in each `period`.
    pub(crate) fn look_again(&self, now: Instant, period: Duration) -> bool {
        let due = self.looked.get().is_none_or(|looked| now.saturating_duration_since(looked) >= period);
        if due {
            self.looked.set(Some(now));
        }
        due
    }

    /// From here on the pool's counts are this ring's to tell.
    pub(crate) fn begin(&self, pool: &Pool) {
        self.seen.set(of_pool(pool));
    }

    pub(crate) fn take(&self, pool: Option<&Pool>) -> Statistics {
        let own = self.own.take();
        let Some(pool) = pool else { return own };
        let now = of_pool(pool);
        let seen = self.seen.replace(now);
        Statistics {
            copies: now.copies.wrapping_sub(seen.copies),
            copied_bytes: now.copied_bytes.wrapping_sub(seen.copied_bytes),
            flushes: now.flushes.wrapping_sub(seen.flushes),
            flush_failures: now.flush_failures.wrapping_sub(seen.flush_failures),
            bad_completions: now.bad_completions.wrapping_sub(seen.bad_completions),
            ..own
        }
    }
}

fn of_pool(pool: &Pool) -> Statistics {
    let (copies, copied_bytes) = pool.core().kernel_counts().unwrap_or_default();
    let counts = &pool.core().counts;
    Statistics {
        copies,
        copied_bytes,
        flushes: counts.flushes.load(Ordering::Relaxed),
        flush_failures: counts.flush_failures.load(Ordering::Relaxed),
        bad_completions: counts.bad_completions.load(Ordering::Relaxed),
        ..Statistics::default()
    }
}
