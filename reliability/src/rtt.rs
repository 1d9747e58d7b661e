//! How long a peer takes to answer, and how long to wait for it (RFC 6298).

use std::time::Duration;

/// Smoothed answer time of one peer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
}

impl Rtt {
    /// Takes a measurement.
    pub(crate) fn sample(&mut self, took: Duration) {
        match self.smoothed {
            None => {
                self.smoothed = Some(took);
                self.variation = took / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(took)) / 4;
                self.smoothed = Some((smoothed * 7 + took) / 8);
            }
        }
    }

    /// The usual answer time, if one is known.
    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// How long to wait for the answer to the ping after `unanswered` ones, between `floor` and `ceiling`.
    pub(crate) fn wait(&self, unanswered: u32, floor: Duration, ceiling: Duration) -> Duration {
        let once = self.smoothed.map_or(floor, |smoothed| smoothed.saturating_add(self.variation * 4)).max(floor);
        once.saturating_mul(1 << unanswered.min(16)).min(ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Duration = Duration::from_micros(500);
    const CEILING: Duration = Duration::from_millis(20);

    #[test]
    fn the_wait_grows_with_silence_and_is_bounded() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.wait(0, FLOOR, CEILING), FLOOR);
        assert_eq!(rtt.wait(2, FLOOR, CEILING), FLOOR * 4);
        assert_eq!(rtt.wait(u32::MAX, FLOOR, CEILING), CEILING);
        rtt.sample(Duration::from_millis(1));
        assert_eq!(rtt.wait(0, FLOOR, CEILING), Duration::from_millis(3));
        for _ in 0..100 {
            rtt.sample(Duration::from_micros(10));
        }
        assert_eq!(rtt.wait(0, FLOOR, CEILING), FLOOR);
        rtt.sample(Duration::from_secs(1000));
        assert_eq!(rtt.wait(0, FLOOR, CEILING), CEILING);
    }
}
