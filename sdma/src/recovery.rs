//! What becomes of an engine that doesn't go on, and of the packets that it has.

use crate::error::SdmaError;
use crate::queue::{Outcome, SdmaQueue};
use crate::ring::Ring;
use opx_bus::{ALL_ONES, PciFunction};
use opx_defs::status::SdmaErrors;
use opx_hw::ContextError;
use std::time::Duration;

impl<B: PciFunction, T> SdmaQueue<B, T> {
    /// Whether the engine does what is queued; reads registers, so not for every packet.
    ///
    /// # Errors
    /// [`SdmaError::Halted`], [`SdmaError::Frozen`], [`SdmaError::Stopped`] or [`SdmaError::Gone`]; [`SdmaError::Stalled`]
    /// when earlier calls have seen the engine at the same place for the stall limit, and none of its packets waits for the
    /// wire.
    pub fn check(&mut self) -> Result<(), SdmaError> {
        let engine = self.engine.number();
        if !self.running {
            return Err(SdmaError::Stopped { engine });
        }
        match self.engine.error_status() {
            _ if self.engine.is_stale() => return Err(SdmaError::Frozen { engine }),
            ALL_ONES => return Err(SdmaError::Gone { engine }),
            status => {
                let errors = SdmaErrors::from_bits_retain(status);
                if errors.intersects(SdmaErrors::HALTING) {
                    return Err(SdmaError::Halted { engine, errors });
                }
            }
        }
        self.check_progress()
    }

    /// How long the engine may do nothing before [`SdmaQueue::check`] complains; 500 ms unless told otherwise.
    pub fn set_stall_limit(&mut self, limit: Duration) {
        self.stall_limit = limit;
    }

    fn check_progress(&mut self) -> Result<(), SdmaError> {
        if self.rung == self.ring.head() {
            self.progress = None;
            return Ok(());
        }
        self.sync();
        let (now, head) = (self.engine.bus().now(), self.ring.head());
        let since = match self.progress {
            Some((before, since)) if before == head && self.rung != head => since,
            _ => {
                self.progress = Some((head, now));
                return Ok(());
            }
        };
        if now.since(since) < self.stall_limit {
            return Ok(());
        }
        let engine = self.engine.number();
        match self.engine.egress_occupancy() {
            // The link or the receiver holds it up, not the engine.
            Ok(1..) => Ok(()),
            Ok(0) => Err(SdmaError::Stalled { engine, pending: self.pending(), limit: self.stall_limit }),
            Err(_) => Err(SdmaError::Gone { engine }),
        }
    }

    /// Stops the engine. All packets end: sent if the engine was done with them, failed if not. The queue takes none until
    /// [`SdmaQueue::restart`].
    ///
    /// # Errors
    /// When the engine doesn't halt: its packets stay pending then, because it may still read their memory. When the adapter
    /// is gone they fail, since it reads none.
    pub fn stop(&mut self) -> Result<(), ContextError> {
        if !self.running {
            return Ok(());
        }
        let halted = self.engine.halt();
        match &halted {
            // What was done before is known from the head, which the clean-up sets to 0.
            Ok(Some(head)) => self.take_register(*head, self.engine.head_from_memory()),
            // After a freeze the head in memory says nothing; see `poll`.
            Ok(None) => {}
            Err(error) if error.is_gone() => {}
            Err(_) => return halted.map(drop),
        }
        self.running = false;
        while let Some(end) = self.end_of_oldest()
            && let Some(token) = self.take_until(end)
        {
            let sent = end <= self.ring.head();
            self.counters.failed += u64::from(!sent);
            self.ended.push_back((token, if sent { Outcome::Sent } else { Outcome::Failed }));
        }
        self.taken = 0;
        self.counters.descriptors = self.counters.descriptors.wrapping_add(self.ring.tail());
        self.ring = Ring::new(self.engine.entries());
        self.rung = 0;
        self.progress = None;
        self.headers.forget();
        halted.map(drop)
    }

    /// Cleans the engine up after a halt and starts it anew. Packets that it hadn't done come back as failed.
    ///
    /// # Errors
    /// As [`SdmaQueue::stop`], and when the engine can't be started: while the chip is frozen or its link is down. Packets
    /// have ended then, and the queue is stopped: try again.
    pub fn restart(&mut self) -> Result<(), ContextError> {
        self.stop()?;
        self.engine.resume()?;
        self.running = true;
        self.counters.restarts += 1;
        Ok(())
    }

    /// Whether the queue takes packets.
    pub fn is_running(&self) -> bool {
        self.running
    }
}
