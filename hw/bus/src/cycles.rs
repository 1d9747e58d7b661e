//! The processor's time-stamp counter as a clock: how it is read, and its rate, measured once and kept in fixed point.
//!
//! Unsafe code lives here because the instructions that read the counter and what the processor says of it have no safe
//! name. Who may use this clock is decided in `clock_choice.rs`.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

pub(crate) use arch::Counter;

#[cfg(target_arch = "x86_64")]
mod arch {
    use core::arch::asm;

    /// The counter of this processor, which can be read in order.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Counter(());

    impl Counter {
        /// `None` where it can't be read in order. CPUID 0x80000001, EDX bit 27: the processor has `rdtscp`.
        pub(crate) fn find() -> Option<Self> {
            (extended(0x8000_0001)? >> 27 & 1 != 0).then_some(Self(()))
        }

        /// Whether it runs at one rate in every state of the processor: CPUID 0x80000007, EDX bit 8. From that bit Linux
        /// takes "constant_tsc" and "nonstop_tsc" (`arch/x86/kernel/cpu/intel.c:early_init_intel`, `amd.c:early_init_amd`).
        pub(crate) fn is_invariant(self) -> bool {
            extended(0x8000_0007).is_some_and(|edx| edx >> 8 & 1 != 0)
        }

        /// Reads it, after all loads before this: what another thread read before it published something is no later than
        /// what a thread that has seen that reads. `rdtsc` could run ahead of the load (`arch/x86/include/asm/msr.h:rdtsc_ordered`).
        #[inline]
        pub(crate) fn ticks(self) -> u64 {
            let (low, high): (u64, u64);
            // SAFETY: `find` has seen that the processor has the instruction. It only writes these registers, to their full
            // width. It isn't called `nomem`, so the compiler doesn't move it over a load either.
            unsafe {
                asm!("rdtscp", out("rax") low, out("rdx") high, out("rcx") _, options(nostack, preserves_flags));
            }
            high << 32 | low
        }
    }

    /// EDX of an extended leaf of CPUID.
    #[allow(unused_unsafe, reason = "`__cpuid` is a safe function from a later release of Rust on")]
    fn extended(leaf: u32) -> Option<u32> {
        // SAFETY: every 64-bit processor has CPUID.
        let cpuid = |leaf| unsafe { core::arch::x86_64::__cpuid(leaf) };
        (cpuid(0x8000_0000).eax >= leaf).then(|| cpuid(leaf).edx)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    /// There is none on this architecture.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Counter {}

    impl Counter {
        pub(crate) fn find() -> Option<Self> {
            None
        }

        pub(crate) fn is_invariant(self) -> bool {
            match self {}
        }

        pub(crate) fn ticks(self) -> u64 {
            match self {}
        }
    }
}

/// Nanoseconds of a tick, with 32 binary places: at some GHz it is exact to 1e-9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scale(u64);

impl Scale {
    const PLACES: u32 = 32;

    /// That on which `ticks` last `nanos`; `None` when there is none.
    fn new(ticks: u64, nanos: u64) -> Option<Self> {
        let scale = (u128::from(nanos) << Self::PLACES).checked_div(u128::from(ticks))?;
        u64::try_from(scale).ok().filter(|scale| *scale > 0).map(Self)
    }

    /// That on which the counter ran between two readings; `None` when they are too close to tell it to 100 ppm.
    fn between(earlier: &Reading, later: &Reading) -> Option<Self> {
        /// 100 ppm.
        const ACCURACY: u64 = 10_000;
        let ticks = later.ticks.checked_sub(earlier.ticks)?;
        // Each reading lies at most half its width off its middle.
        let error = earlier.width.saturating_add(later.width) / 2;
        if ticks / ACCURACY < error {
            return None;
        }
        Self::new(ticks, later.nanos.checked_sub(earlier.nanos)?)
    }

    /// How long `ticks` last. The product has 128 bits; the result has room for 584 years.
    #[inline]
    const fn nanos(self, ticks: u64) -> u64 {
        ((ticks as u128 * self.0 as u128) >> Self::PLACES) as u64
    }
}

/// The counter and the system's clock, read at once.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// The counter in the middle of the reading.
    ticks: u64,
    /// Ticks that the reading took.
    width: u64,
    /// The system's clock, nanoseconds.
    nanos: u64,
}

impl Reading {
    /// The narrowest of some: between the parts of one the processor may have been taken away.
    fn take(counter: Counter, start: Instant) -> Option<Self> {
        const TRIES: usize = 8;
        let once = || {
            let before = counter.ticks();
            let elapsed = start.elapsed();
            let width = counter.ticks().checked_sub(before)?;
            Some(Self { ticks: before + width / 2, width, nanos: u64::try_from(elapsed.as_nanos()).ok()? })
        };
        (0..TRIES).filter_map(|_| once()).min_by_key(|reading| reading.width)
    }
}

/// The counter and its rate, of which clocks are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cycles {
    counter: Counter,
    scale: Scale,
}

impl Cycles {
    /// Measures the rate by the system's clock (`CLOCK_MONOTONIC`), in 2 ms as a rule, in 10 ms at most; `None` when that
    /// wasn't long enough to know it to 100 ppm.
    pub(crate) fn measure(counter: Counter) -> Option<Self> {
        const TRIES: usize = 5;
        const STEP: Duration = Duration::from_millis(2);
        let start = Instant::now();
        let first = Reading::take(counter, start)?;
        (0..TRIES).find_map(|_| {
            std::thread::sleep(STEP);
            let scale = Scale::between(&first, &Reading::take(counter, start)?)?;
            Some(Self { counter, scale })
        })
    }

    /// A clock that starts now.
    pub(crate) fn start(self) -> CycleClock {
        /// Ticks by which the start lies back. A counter that is this little behind, on another processor, then makes no
        /// time before the start, which would look like one centuries ahead.
        const MARGIN: u64 = 1 << 12;
        CycleClock { cycles: self, start: self.counter.ticks().wrapping_sub(MARGIN) }
    }
}

/// Time since a start, by the counter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CycleClock {
    cycles: Cycles,
    start: u64,
}

impl CycleClock {
    /// Nanoseconds since the start. Should the counter be set back (the machine slept), they jump ahead and run on from
    /// there: whoever waits then waits too short, but not for ever.
    #[inline]
    pub(crate) fn nanos(&self) -> u64 {
        self.cycles.scale.nanos(self.cycles.counter.ticks().wrapping_sub(self.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 30 years.
    const UPTIME: u64 = 30 * 365 * 86400 * 1_000_000_000;

    fn reading(ticks: u64, width: u64, nanos: u64) -> Reading {
        Reading { ticks, width, nanos }
    }

    #[test]
    fn a_scale_needs_time_and_ticks() {
        assert_eq!(Scale::new(0, 1000), None);
        assert_eq!(Scale::new(1000, 0), None);
        assert_eq!(Scale::new(1, u64::MAX), None);
        assert_eq!(Scale::new(1000, 1000), Some(Scale(1 << 32)));
    }

    #[test]
    fn a_rate_is_taken_only_from_readings_that_tell_it() {
        let first = reading(5_000, 100, 20);
        let scale = Scale::between(&first, &reading(5_005_000, 100, 2_000_020)).unwrap();
        assert_eq!(scale, Scale::new(5, 2).unwrap());
        // 100 ppm of 5,000,000 ticks are 500.
        assert!(Scale::between(&first, &reading(5_005_000, 900, 2_000_020)).is_some());
        assert!(Scale::between(&first, &reading(5_005_000, 902, 2_000_020)).is_none());
        assert!(Scale::between(&first, &reading(4_999, 0, 2_000_020)).is_none());
        assert!(Scale::between(&first, &reading(5_005_000, 100, 19)).is_none());
        assert!(Scale::between(&first, &first).is_none());
    }

    proptest! {
        #[test]
        fn more_ticks_are_never_less_time(mhz in 100u64..20_000, a: u64, b: u64, few in 0u64..10_000) {
            let scale = Scale::new(mhz * 1000, 1_000_000).unwrap();
            // Counts whose time fits.
            let most = u64::try_from(u128::from(u64::MAX) * u128::from(mhz) / 1001).unwrap_or(u64::MAX);
            let (a, b) = (a.min(b) % most, a.max(b) % most);
            prop_assert!(scale.nanos(a.min(b)) <= scale.nanos(a.max(b)));
            prop_assert!(scale.nanos(a) <= scale.nanos(a.saturating_add(few).min(most)));
        }

        #[test]
        fn in_years_a_time_stays_as_accurate_as_its_rate(mhz in 100u64..20_000, nanos in 0..UPTIME) {
            let scale = Scale::new(mhz * 1000, 1_000_000).unwrap();
            let ticks = u128::from(nanos) * u128::from(mhz) / 1000;
            prop_assume!(ticks <= u128::from(u64::MAX));
            let found = scale.nanos(ticks as u64);
            // The last binary place of the scale, and a tick and a nanosecond cut off.
            let error = nanos / 100_000_000 * 3 + 1000 / mhz + 2;
            prop_assert!(found <= nanos && nanos - found <= error, "{nanos} became {found}");
        }
    }
}
