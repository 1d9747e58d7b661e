//! An endpoint with what those keep who drive it: its name in the domain, and what it counts where.

use super::counter::Counting;
use super::event_queue::Reporter;
use super::{EndpointFailed, EndpointId};
use crate::error::EndpointError;
use crate::{Counters, Endpoint};
use opx_bus::PciFunction;
use std::sync::Arc;

/// What is done for one endpoint before another's turn comes: short messages come one by one.
const MOST_AT_ONCE: u32 = 16;

#[derive(Debug)]
pub(crate) struct Driven<B: PciFunction> {
    pub(crate) id: EndpointId,
    pub(crate) engine: Endpoint<B>,
    pub(crate) failed: Option<EndpointFailed>,
    reporter: Reporter,
    counting: Counting,
    /// What has been counted.
    counted: Counters,
}

impl<B: PciFunction> Driven<B> {
    pub(crate) fn new(id: EndpointId, mut engine: Endpoint<B>, reporter: Reporter) -> Self {
        engine.set_reporter(reporter.clone());
        Self { id, engine, failed: None, reporter, counting: Counting::default(), counted: Counters::default() }
    }

    /// Counts from now on, in place of what was counted before.
    pub(crate) fn count(&mut self, counting: Counting) {
        self.publish();
        self.counting = counting;
        self.counted = self.engine.counters();
    }

    /// Moves everything on. An endpoint that can't go on fails all its operations and tells so.
    #[inline]
    pub(crate) fn turn(&mut self) -> Result<bool, EndpointFailed> {
        let mut done = 0;
        while done < MOST_AT_ONCE {
            match self.engine.progress() {
                Ok(true) => done += 1,
                Ok(false) => break,
                // A forked child's copy: not the endpoint has failed, and its parent's events are none of the child's business.
                Err(EndpointError::Forked) => return Err(EndpointFailed::forked(self.id)),
                Err(error) => return Err(self.fail(error)),
            }
        }
        // Also when nothing was done: what is posted may complete at once.
        self.publish();
        Ok(done > 0)
    }

    #[cold]
    pub(crate) fn fail(&mut self, error: EndpointError) -> EndpointFailed {
        let why = Arc::new(error);
        log::error!("{}: {why}", self.engine.address());
        self.engine.end();
        self.publish();
        self.counting.fail();
        self.reporter.failed(Arc::clone(&why));
        let failed = EndpointFailed { endpoint: self.id, why };
        self.failed = Some(failed.clone());
        failed
    }

    /// Lets its counters show what has happened.
    #[inline]
    pub(crate) fn publish(&mut self) {
        let Counting { sends, receives, requests } = &self.counting;
        if sends.is_none() && receives.is_none() && requests.is_none() {
            return;
        }
        let now = self.engine.counters();
        let was = std::mem::replace(&mut self.counted, now);
        for (counter, done, failed) in [
            (sends, now.sends_done - was.sends_done, now.sends_failed - was.sends_failed),
            (receives, now.received_messages - was.received_messages, now.receives_failed - was.receives_failed),
            (requests, now.requests_done - was.requests_done, now.requests_failed - was.requests_failed),
        ] {
            let Some(counter) = counter else { continue };
            if done > 0 {
                counter.add(done);
            }
            if failed > 0 {
                counter.add_errors(failed);
            }
        }
    }
}
