//! When to sleep, on what and for how long: the same for a thread of ours and for an owner who drives endpoints himself.

use super::driven::Driven;
use crate::endpoint::Rest;
use crate::error::EndpointError;
use opx_bus::{Irq, PciFunction};
use opx_defs::time::Instant;
use opx_hw::Hfi;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Turns that found nothing to do before one sleeps: what comes meanwhile needs no interrupt.
const EMPTY_TURNS: u32 = 64;
/// How long one sleeps first while something waits for the adapter; twice as long each time that it helped nothing.
const FIRST_NAP: Duration = Duration::from_micros(20);
/// The longest nap: what waits for the adapter that long waits for the link, which is looked at no more often.
const LONGEST_NAP: Duration = Duration::from_millis(250);
/// The longest nap when packets raise no interrupt.
const BLIND_NAP: Duration = Duration::from_millis(1);

/// What sleeping has come to so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SleepCounts {
    /// How often it was slept, the sleep that lasts included.
    pub sleeps: u64,
    /// Of those sleeps, the ones that an interrupt or a call ended.
    pub woken: u64,
    /// Of those sleeps, the ones that ended when time was up.
    pub timed_out: u64,
}

impl SleepCounts {
    /// Whether somebody sleeps now.
    pub fn is_asleep(&self) -> bool {
        self.sleeps > self.woken + self.timed_out
    }
}

/// The same, as it is counted.
#[derive(Debug, Default)]
pub(crate) struct SleepCounters {
    sleeps: AtomicU64,
    woken: AtomicU64,
    timed_out: AtomicU64,
}

impl SleepCounters {
    pub(crate) fn read(&self) -> SleepCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        SleepCounts { sleeps: of(&self.sleeps), woken: of(&self.woken), timed_out: of(&self.timed_out) }
    }
}

/// Sleeps for some endpoints of one adapter.
#[derive(Debug)]
pub(crate) struct Sleeper {
    /// Wakes whoever sleeps.
    wake: Option<Irq>,
    /// All interrupts as one; made anew when there are others.
    any: Option<Irq>,
    empty_turns: u32,
    nap: Duration,
    counts: Arc<SleepCounters>,
}

/// Until when one may sleep.
#[derive(Debug)]
pub(crate) struct Until {
    /// When there is something to do at the latest.
    at: Instant,
    rest: Rest,
    blind: bool,
}

impl Until {
    pub(crate) fn new(at: Instant) -> Self {
        Self { at, rest: Rest::Long, blind: false }
    }

    /// Asks an endpoint, and arms its interrupt; `false` when there is something to do.
    pub(crate) fn ask<B: PciFunction>(&mut self, driven: &mut Driven<B>) -> Result<bool, EndpointError> {
        match driven.engine.rest()? {
            Rest::None => return Ok(false),
            Rest::Short => self.rest = Rest::Short,
            Rest::Long => {}
        }
        self.blind |= driven.engine.irq().is_none();
        self.at = self.at.min(driven.engine.poll_timeout());
        Ok(true)
    }
}

impl Sleeper {
    pub(crate) fn new(wake: Option<Irq>, counts: Arc<SleepCounters>) -> Self {
        Self { wake, any: None, empty_turns: 0, nap: FIRST_NAP, counts }
    }

    pub(crate) fn counts(&self) -> SleepCounts {
        self.counts.read()
    }

    /// Whether the next sleep needs to be told of the endpoints' interrupts.
    pub(crate) fn is_forgetful(&self) -> bool {
        self.any.is_none()
    }

    /// The endpoints are no longer the same.
    pub(crate) fn forget(&mut self) {
        self.any = None;
    }

    /// A turn is over: whether it is time to sleep.
    pub(crate) fn tired(&mut self, busy: bool) -> bool {
        if busy {
            (self.empty_turns, self.nap) = (0, FIRST_NAP);
            return false;
        }
        self.empty_turns = self.empty_turns.saturating_add(1);
        self.empty_turns > EMPTY_TURNS
    }

    /// Sleeps until one of these interrupts, the adapter's own or what wakes is raised, or there is something to do.
    pub(crate) fn sleep<B: PciFunction>(&mut self, hfi: &Hfi<B>, endpoints: Vec<Irq>, until: &Until) {
        if let Err(why) = self.try_to_sleep(hfi, endpoints, until) {
            // It can be polled all the same. An adapter that is gone is found so by its endpoints.
            log::warn!("{}: can't sleep: {why}", hfi.bus().name());
            hfi.bus().pause(BLIND_NAP);
        }
        if hfi.irq().is_some_and(|irq| irq.take().unwrap_or(false))
            && let Err(error) = hfi.service_interrupts()
        {
            log::warn!("{error}");
        }
    }

    fn try_to_sleep<B: PciFunction>(
        &mut self,
        hfi: &Hfi<B>,
        mut endpoints: Vec<Irq>,
        until: &Until,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let any = match &self.any {
            Some(any) => any,
            None => {
                endpoints.extend(hfi.irq().into_iter().chain(&self.wake).cloned());
                self.any.insert(Irq::any_of(&endpoints)?)
            }
        };
        let mut limit = until.at.since(hfi.bus().now());
        if until.rest == Rest::Short {
            limit = limit.min(if until.blind { self.nap.min(BLIND_NAP) } else { self.nap });
            self.nap = (self.nap * 2).min(LONGEST_NAP);
        }
        self.counts.sleeps.fetch_add(1, Ordering::Release);
        let woken = hfi.bus().wait_irq(any, limit)?;
        if let Some(wake) = &self.wake {
            let _ = wake.take();
        }
        if woken {
            self.counts.woken.fetch_add(1, Ordering::Release);
            // What has come may bring more; time that has passed brings one turn.
            (self.empty_turns, self.nap) = (0, FIRST_NAP);
        } else {
            self.counts.timed_out.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }
}
