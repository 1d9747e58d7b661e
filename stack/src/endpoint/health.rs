//! Looking after the adapter: is it there, is its link up, do its engines run; and putting them in order after a freeze.

use super::Endpoint;
use crate::error::EndpointError;
use crate::observe::Event;
use opx_bus::{ALL_ONES, PciFunction};
use opx_defs::csr;
use opx_defs::time::Instant;
use opx_hw::ContextError;
use opx_pio::PioError;
use opx_sdma::SdmaError;
use std::time::Duration;

impl<B: PciFunction> Endpoint<B> {
    /// After a freeze: puts receive context, send context and engine in order. What was in them is sent again by the
    /// reliability protocol. While the link is down nothing can be sent, so this is done when it is up again; bringing it up
    /// is the business of the adapter's owner.
    pub(super) fn recover(&mut self) -> Result<bool, EndpointError> {
        let freezes = self.hfi.freezes();
        // The receive context doesn't need the link, so it is in order before the others: once is enough.
        let received = if self.recv.is_stale() { self.recv.recover() } else { Ok(()) };
        let recovered = received.and_then(|()| self.sdma.restart()).and_then(|()| self.pio.restart());
        match recovered {
            Ok(()) => {
                self.freezes = freezes;
                self.counters.recoveries += 1;
                self.watch_event(self.hfi.bus().now(), Event::Recovered);
                log::info!("{}: {} recovered from a freeze", self.hfi.bus().name(), self.address);
                Ok(true)
            }
            Err(ContextError::Frozen { .. } | ContextError::LinkDown { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks whether the adapter still answers and the engines still run; reads registers, so not often.
    pub(super) fn look_after_adapter(&mut self, now: Instant) -> Result<(), EndpointError> {
        self.next_health = next_look(now, self.config.health_interval);
        self.counters.link_checks += 1;
        self.dump_if_asked();
        let bus = self.hfi.bus();
        let silent = self.healthy_packets == self.counters.packets_in;
        self.healthy_packets = self.counters.packets_in;
        let why = bus.gone().or_else(|| {
            let gone = silent && bus.read64(csr::CCE_REVISION.off()) == ALL_ONES;
            gone.then(|| "CCE_REVISION reads as all ones".to_owned())
        });
        if let Some(why) = why {
            return Err(EndpointError::Gone { adapter: bus.name().to_owned(), why });
        }
        let link_is_up = self.hfi.link_state().is_up();
        if let Some(reporter) = &self.reporter {
            reporter.link(link_is_up);
        }
        if std::mem::replace(&mut self.link_was_up, link_is_up) != link_is_up {
            self.watch_event(now, if link_is_up { Event::LinkUp } else { Event::LinkDown });
        }
        if link_is_up {
            self.reliability.link_up(now);
        } else {
            self.reliability.link_down(now);
        }
        // What the adapter has to report, link events and errors, for whichever endpoint looks first: whether its interrupt
        // came or not, because one may get lost, and the chip sends no other before this one was seen to.
        if let Some(irq) = self.hfi.irq() {
            let _ = irq.take();
        }
        self.service_adapter()?;
        if self.hfi.freezes() != self.freezes {
            return Ok(());
        }
        // A sender that has credit left hears of a halt, or of packets that are stuck, only when it asks.
        let halted = self.pio.check_progress().err().filter(|_| link_is_up);
        let halted = halted.map(|halted| self.mend_send_context(&halted)).transpose()?;
        let stuck = link_is_up && self.sdma.pending() > 0 && self.sdma_done.0 == self.sdma_done.1;
        self.sdma_done.1 = self.sdma_done.0;
        let checked = if stuck { self.sdma.check() } else { Ok(()) };
        if let Err(SdmaError::Frozen { .. }) = checked {
            return Ok(());
        }
        if let Err(halted) = checked {
            log::warn!("{}: {halted}", self.hfi.bus().name());
            self.count_halt(&format!("SDMA engine {}", self.sdma.engine().number()), &halted.to_string())?;
            unless_frozen(self.sdma.restart())?;
        } else if !stuck && halted != Some(true) {
            self.halts_in_a_row = 0;
        }
        Ok(())
    }

    /// Restarts the send context when that helps; `true` when it did. What was in it is sent again by the reliability
    /// protocol.
    pub(super) fn mend_send_context(&mut self, halted: &PioError) -> Result<bool, EndpointError> {
        let stalled = matches!(halted, PioError::Stalled { .. });
        // One that froze meanwhile, by another's doing, is left to `recover`.
        if matches!(halted, PioError::Frozen { .. }) || !(stalled || halted.needs_restart()) {
            return Ok(false);
        }
        log::warn!("{}: {halted}", self.hfi.bus().name());
        // Packets that don't leave may be the link's fault: for how long that is borne, the reliability protocol decides.
        if !stalled {
            self.count_halt(&format!("send context {}", self.pio.context().number()), &halted.to_string())?;
        }
        unless_frozen(self.pio.restart())?;
        Ok(true)
    }

    /// An event that can't be handled, such as the 8051 not answering, leaves the packets alone.
    fn service_adapter(&self) -> Result<(), EndpointError> {
        match self.hfi.service_interrupts() {
            Err(error) if error.is_gone() => Err(error.into()),
            Err(error) => {
                log::warn!("{error}");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    fn count_halt(&mut self, what: &str, last: &str) -> Result<(), EndpointError> {
        const MOST_HALTS: u32 = 16;
        self.halts_in_a_row += 1;
        if self.halts_in_a_row < MOST_HALTS {
            return Ok(());
        }
        Err(EndpointError::Halting {
            adapter: self.hfi.bus().name().to_owned(),
            what: what.to_owned(),
            times: self.halts_in_a_row,
            last: last.to_owned(),
        })
    }
}

/// When the adapter is looked at next: at a multiple of the interval, so that who sleeps is woken once for all endpoints.
pub(super) fn next_look(now: Instant, interval: Duration) -> Instant {
    let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
    Instant::from_nanos((now.as_nanos() / interval).saturating_add(1).saturating_mul(interval))
}

/// What came of putting an engine in order. When the chip froze or its link went down just then, that is no error:
/// `recover` does it once they are up again.
fn unless_frozen(restarted: Result<(), ContextError>) -> Result<(), EndpointError> {
    match restarted {
        Ok(()) | Err(ContextError::Frozen { .. } | ContextError::LinkDown { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
