//! How long a peer takes to answer, and how long to wait for it (RFC 6298).

use std::time::Duration;

/// Smoothed answer time of one peer, in nanoseconds; times above 4 s count as 4 s.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rtt {
    /// 0 for not known.
    smoothed: u32,
    variation: u32,
}

impl Rtt {
    /// Takes a measurement.
    pub(crate) fn sample(&mut self, took: Duration) {
        let took = u32::try_from(took.as_nanos()).unwrap_or(u32::MAX).max(1);
        if self.smoothed == 0 {
            *self = Self { smoothed: took, variation: took / 2 };
        } else {
            let off = u64::from(self.smoothed.abs_diff(took));
            self.variation = ((u64::from(self.variation) * 3 + off) / 4) as u32;
            self.smoothed = (((u64::from(self.smoothed) * 7 + u64::from(took)) / 8) as u32).max(1);
        }
    }

    /// The usual answer time, if one is known.
    pub(crate) fn smoothed(&self) -> Option<Duration> {
        (self.smoothed != 0).then(|| Duration::from_nanos(self.smoothed.into()))
    }

    /// After how long an answer is late, if that is known.
    pub(crate) fn late(&self) -> Option<Duration> {
        let late = Duration::from_nanos(u64::from(self.smoothed) + 4 * u64::from(self.variation));
        (self.smoothed != 0).then_some(late)
    }

    /// How long to wait for an ACK before the first ping: what the peer usually takes, at least `floor`; `usual` as long as
    /// that isn't known.
    pub(crate) fn before_asking(&self, floor: Duration, usual: Duration, ceiling: Duration) -> Duration {
        self.late().map_or(usual, |late| late.max(floor)).min(ceiling)
    }

    /// How long to wait for the answer to the ping after `unanswered` ones, between `usual` and `ceiling`.
    pub(crate) fn after_asking(&self, unanswered: u8, usual: Duration, ceiling: Duration) -> Duration {
        let once = self.late().unwrap_or(usual).max(usual);
        once.saturating_mul(1 << unanswered.min(16)).min(ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Duration = Duration::from_micros(100);
    const USUAL: Duration = Duration::from_micros(500);
    const CEILING: Duration = Duration::from_millis(20);

    #[test]
    fn the_wait_grows_with_silence_and_is_bounded() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.before_asking(FLOOR, USUAL, CEILING), USUAL);
        assert_eq!(rtt.after_asking(0, USUAL, CEILING), USUAL);
        assert_eq!(rtt.after_asking(2, USUAL, CEILING), USUAL * 4);
        assert_eq!(rtt.after_asking(u8::MAX, USUAL, CEILING), CEILING);
        rtt.sample(Duration::from_millis(1));
        assert_eq!(rtt.before_asking(FLOOR, USUAL, CEILING), Duration::from_millis(3));
        assert_eq!(rtt.after_asking(0, USUAL, CEILING), Duration::from_millis(3));
        for _ in 0..100 {
            rtt.sample(Duration::from_micros(10));
        }
        // A ping that is repeated too soon is swallowed; the first one isn't.
        assert_eq!(rtt.before_asking(FLOOR, USUAL, CEILING), FLOOR);
        assert_eq!(rtt.after_asking(0, USUAL, CEILING), USUAL);
        rtt.sample(Duration::from_secs(1000));
        assert_eq!(rtt.before_asking(FLOOR, USUAL, CEILING), CEILING);
    }
}
