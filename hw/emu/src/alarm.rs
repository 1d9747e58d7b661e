//! When a chip's thread wakes: when its next event is due, and sooner when somebody makes work for it.

use crate::sync::{AtomicU64, Ordering};
use crate::wire::Doorbell;
use crossbeam_utils::CachePadded;
use opx_defs::time::Instant;
use std::sync::Arc;

/// A chip's alarm.
#[derive(Debug)]
pub struct Alarm {
    doorbell: Arc<Doorbell>,
    /// When the chip's thread means to wake by itself. Changed only with the chip locked. On a line of its own: every
    /// register access looks at it, and the chip's thread writes it all the time.
    planned: CachePadded<AtomicU64>,
}

/// When a chip's thread meant to wake before somebody else looked after the chip.
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "only the server looks after chips"))]
#[derive(Debug, Clone, Copy)]
pub struct Planned(u64);

/// In place of a time: nothing is sooner.
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "only the server looks after chips"))]
const ATTENDED: u64 = 0;

impl Alarm {
    /// An alarm that isn't set.
    pub fn new(doorbell: Arc<Doorbell>) -> Self {
        Self { doorbell, planned: CachePadded::new(AtomicU64::new(u64::MAX)) }
    }

    /// What wakes the chip's thread.
    pub fn doorbell(&self) -> &Arc<Doorbell> {
        &self.doorbell
    }

    /// The chip's thread has seen that the chip's next event is at `due`. With the chip locked.
    pub fn set(&self, due: Option<Instant>) {
        self.planned.store(nanos(due), Ordering::Relaxed);
    }

    /// Somebody else did something with the chip, whose next event is now at `due`: whether the thread must be woken, once
    /// the chip is unlocked. With the chip locked.
    #[must_use]
    pub fn put_forward(&self, due: Option<Instant>) -> bool {
        let due = nanos(due);
        let sooner = due < self.planned.load(Ordering::Relaxed);
        if sooner {
            self.planned.store(due, Ordering::Relaxed);
        }
        sooner
    }

    /// From now on somebody else looks after the chip, until it [leaves](Alarm::leave): nobody has to wake the thread for what
    /// is done to the chip meanwhile. Gives when the thread means to wake. With the chip locked.
    #[cfg_attr(not(feature = "server"), allow(dead_code, reason = "only the server looks after chips"))]
    #[must_use]
    pub fn attend(&self) -> Planned {
        Planned(self.planned.swap(ATTENDED, Ordering::Relaxed))
    }

    /// Whoever looked after the chip leaves it with its next event at `due`: whether the thread must be woken, once the chip
    /// is unlocked. With the chip locked.
    #[cfg_attr(not(feature = "server"), allow(dead_code, reason = "only the server looks after chips"))]
    #[must_use]
    pub fn leave(&self, before: Planned, due: Option<Instant>) -> bool {
        // Another value is newer: the thread has looked meanwhile.
        let planned = match self.planned.load(Ordering::Relaxed) {
            ATTENDED => before.0,
            planned => planned,
        };
        let due = nanos(due);
        self.planned.store(planned.min(due), Ordering::Relaxed);
        due < planned
    }

    /// Wakes the chip's thread, or keeps it from falling asleep.
    pub fn ring(&self) {
        self.doorbell.ring();
    }
}

fn nanos(due: Option<Instant>) -> u64 {
    due.map_or(u64::MAX, Instant::as_nanos)
}
