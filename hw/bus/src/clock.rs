//! The real clock, for buses whose function runs in real time.

use opx_defs::time::Instant;
use std::time::Duration;

/// Monotonic time since the clock was made, and ways to let it pass.
#[derive(Debug, Clone, Copy)]
pub struct RealClock {
    start: std::time::Instant,
}

impl Default for RealClock {
    fn default() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl RealClock {
    /// Pauses shorter than this are spun: a sleep would take longer.
    const SPIN_BELOW: Duration = Duration::from_micros(20);

    /// Time since the clock was made.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Lets `duration` pass.
    pub fn pause(&self, duration: Duration) {
        if duration >= Self::SPIN_BELOW {
            std::thread::sleep(duration);
            return;
        }
        let start = std::time::Instant::now();
        while start.elapsed() < duration {
            std::hint::spin_loop();
        }
    }

    /// Gives the processor to whoever needs it: the thing waited for may run on the same one.
    pub fn relax(&self) {
        std::thread::yield_now();
    }
}
