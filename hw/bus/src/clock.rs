//! The real clock, for buses whose function runs in real time.

use crate::clock_choice::{ClockChoice, ClockSource};
use crate::cycles::CycleClock;
use opx_defs::time::Instant;
use std::time::Duration;

/// Monotonic time since the clock was made, or a little before, and ways to let it pass. The time is read from the
/// processor's cycle counter where that can be trusted ([`ClockChoice`]), else from the system's clock. Pauses always keep to
/// the system's: the two differ by 100 ppm at most when the clock's rate is measured, and then by what NTP does to the system's.
///
/// ```
/// use opx_bus::clock::RealClock;
/// use std::time::Duration;
/// let clock = RealClock::default();
/// let start = clock.now();
/// clock.pause(Duration::from_millis(1));
/// assert!(clock.now().since(start) > Duration::from_micros(900));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct RealClock {
    reads: Reads,
}

#[derive(Debug, Clone, Copy)]
enum Reads {
    System(std::time::Instant),
    Cycles(CycleClock),
}

impl Default for RealClock {
    /// A clock that starts now. The first one of a process takes some milliseconds, for the choice.
    fn default() -> Self {
        let reads = match ClockChoice::of_this_process().start_cycles() {
            Some(clock) => Reads::Cycles(clock),
            None => Reads::System(std::time::Instant::now()),
        };
        Self { reads }
    }
}

impl RealClock {
    /// Pauses shorter than this are spun: a sleep would take longer.
    const SPIN_BELOW: Duration = Duration::from_micros(20);

    /// Time since the clock was made.
    #[inline]
    pub fn now(&self) -> Instant {
        Instant::from_nanos(match &self.reads {
            Reads::Cycles(clock) => clock.nanos(),
            Reads::System(start) => u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
        })
    }

    /// What it reads.
    pub const fn source(&self) -> ClockSource {
        match self.reads {
            Reads::Cycles(_) => ClockSource::Cycles,
            Reads::System(_) => ClockSource::System,
        }
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
