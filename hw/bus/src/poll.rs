//! Waiting for the hardware: every wait has a bound, and the wait between looks grows.

use crate::PciFunction;
use std::time::Duration;

/// The hardware didn't do what it was asked for in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("timed out after {limit:?}")]
pub struct TimedOut {
    /// How long was waited.
    pub limit: Duration,
}

/// Looks until `ready` gives a value, at most for `limit`; looks at least once more after the limit.
///
/// # Errors
/// [`TimedOut`] when `ready` gave nothing in time.
pub fn until<B: PciFunction, T>(bus: &B, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Result<T, TimedOut> {
    const FIRST_PAUSE: Duration = Duration::from_micros(1);
    const LONGEST_PAUSE: Duration = Duration::from_millis(1);
    let start = bus.now();
    let mut pause = FIRST_PAUSE;
    loop {
        // The clock is read before the look: a caller that was held up between the two still gets a last look.
        let late = bus.now().since(start) >= limit;
        if let Some(value) = ready() {
            return Ok(value);
        }
        if late {
            return Err(TimedOut { limit });
        }
        bus.pause(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
