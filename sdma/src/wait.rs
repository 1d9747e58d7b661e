//! Sleeping until a packet is done.

use crate::error::WaitError;
use crate::queue::SdmaQueue;
use opx_bus::PciFunction;
use std::time::Duration;

impl<B: PciFunction, T> SdmaQueue<B, T> {
    /// Rings the doorbell, then sleeps on the engine's interrupt until a packet is done, at most `limit`; `true` when
    /// [`SdmaQueue::poll`] has something to give. `false` at once when nothing is queued.
    ///
    /// The interrupt comes when the oldest packet is done (by a count of descriptors), when a packet that asks for one is
    /// done, when the engine goes idle, and when it halts. An interrupt that is lost costs at most `limit`.
    ///
    /// # Errors
    /// [`WaitError::Engine`] when the engine doesn't go on, as [`SdmaQueue::check`] says it; restart it. Others when no
    /// interrupt vector is free or the adapter is gone.
    pub fn wait(&mut self, limit: Duration) -> Result<bool, WaitError> {
        self.doorbell();
        if self.is_something_done() {
            return Ok(true);
        }
        let irq = self.engine.enable_interrupts()?.clone();
        let bus = self.engine.bus().clone();
        let start = bus.now();
        loop {
            // Clear, look, then sleep: what completes after the look raises the interrupt that was cleared before.
            self.engine.arm()?;
            // The count of descriptors begins where the engine is now.
            self.sync();
            let Some(end) = self.end_of_oldest() else { return Ok(false) };
            let left = end.saturating_sub(self.ring.head());
            self.engine.set_progress(u16::try_from(left).unwrap_or(u16::MAX));
            self.sync();
            if self.is_something_done() {
                return Ok(true);
            }
            self.check()?;
            let Some(rest) = limit.checked_sub(bus.now().since(start)).filter(|rest| !rest.is_zero()) else {
                return Ok(false);
            };
            self.counters.sleeps += 1;
            // An engine that stalls raises no interrupt.
            bus.wait_irq(&irq, rest.min(self.stall_limit))?;
        }
    }

    fn is_something_done(&self) -> bool {
        !self.ended.is_empty() || self.end_of_oldest().is_some_and(|end| end <= self.ring.head())
    }
}
