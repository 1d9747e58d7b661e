//! What those need who drive an endpoint for its owner: sleeping until there is something to do, and when not to.

use super::Endpoint;
use crate::completion::OperationError;
use crate::completions::Completions;
use crate::error::EndpointError;
use crate::fabric::Reporter;
use opx_bus::{Irq, PciFunction};
use opx_defs::time::Instant;
use opx_hw::Hfi;

/// How long one may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Not at all.
    None,
    /// Not long: something waits for the adapter, and no interrupt tells when that is done.
    Short,
    /// Until a packet comes or [`Endpoint::poll_timeout`].
    Long,
}

impl<B: PciFunction> Endpoint<B> {
    /// The adapter that it is on.
    pub fn hfi(&self) -> &Hfi<B> {
        &self.hfi
    }

    /// The interrupt that packets raise, if it was made with one ([`crate::Config::interrupts`]). It says that there may be
    /// something to do only after [`Endpoint::arm`].
    pub fn irq(&self) -> Option<&Irq> {
        self.recv.irq()
    }

    /// What becomes readable when there is something to do for peers on this machine, after [`Endpoint::arm`]; `None` when the
    /// machine's shared memory isn't used ([`crate::SharedMemory`]). It stays so until [`Endpoint::progress`].
    pub fn doorbell(&self) -> Option<&Irq> {
        self.local.as_ref().map(|local| local.irq())
    }

    /// All that wakes who sleeps for this endpoint.
    pub(crate) fn irqs(&self) -> impl Iterator<Item = Irq> {
        self.irq().into_iter().chain(self.doorbell()).cloned()
    }

    /// Prepares to sleep on [`Endpoint::irq`] and [`Endpoint::doorbell`] until [`Endpoint::poll_timeout`]: `true` when there is something to do already,
    /// so don't.
    ///
    /// # Errors
    /// When the adapter is gone.
    pub fn arm(&mut self) -> Result<bool, EndpointError> {
        if self.is_stirred() {
            return Ok(true);
        }
        if let Some(irq) = self.recv.irq() {
            // What it told of has been seen to.
            let _ = irq.take();
            if self.recv.arm()? {
                return Ok(true);
            }
        }
        self.arm_locally()
    }

    /// How long one may sleep; arms the interrupt.
    pub(crate) fn rest(&mut self) -> Result<Rest, EndpointError> {
        let stirred = self.is_stirred();
        if let Some(irq) = self.recv.irq() {
            let _ = irq.take();
            // Nothing comes to a context that waits for the end of a freeze, and it can't be armed before that.
            if self.hfi.freezes() == self.freezes && self.recv.arm()? {
                return Ok(Rest::None);
            }
        }
        if self.arm_locally()? {
            return Ok(Rest::None);
        }
        Ok(if stirred || self.recv.irq().is_none() { Rest::Short } else { Rest::Long })
    }

    /// Whether there may be something to do although nothing arrived and no timer is due.
    pub(crate) fn is_stirred(&self) -> bool {
        self.wake == Instant::ZERO || self.hfi.freezes() != self.freezes
    }

    /// There may be something to do at once.
    #[inline(always)]
    pub(super) fn stir(&mut self) {
        self.wake = Instant::ZERO;
    }

    /// Whether an operation can be accepted that will have a completion.
    #[inline]
    pub(super) fn has_completion_room(&self) -> bool {
        self.completions.len() < self.completion_limit
    }

    /// From now on no operation is accepted while so many completions wait.
    pub(crate) fn set_completion_limit(&mut self, limit: usize) {
        self.completion_limit = limit;
    }

    /// The completions that wait.
    pub(crate) fn completions(&mut self) -> &mut Completions {
        &mut self.completions
    }

    /// Who is told of its events from now on.
    pub(crate) fn set_reporter(&mut self, reporter: Reporter) {
        self.reporter = Some(reporter);
    }

    #[cold]
    pub(super) fn report(&self, tell: impl FnOnce(&Reporter)) {
        if let Some(reporter) = &self.reporter {
            tell(reporter);
        }
    }

    /// It can't go on: all operations fail, and come with their buffers.
    pub(crate) fn end(&mut self) {
        self.fail_all(OperationError::EndpointFailed);
        // Nobody listens to them any more: peers on this machine are to know, as those on the wire do by its silence.
        self.local = None;
        self.completion_limit = 0;
    }
}
