//! The two processors that the ends run on, and how far they are apart.

use super::Side;
use anyhow::{Context, Result};
use std::fmt;
use std::hint::spin_loop;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Times that the line goes there and back.
const TRIPS: u64 = 20_000;

/// Their numbers: of the end that asks, and of the one that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    asks: usize,
    answers: usize,
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once(',').and_then(|(one, other)| Some((one.parse().ok()?, other.parse().ok()?)));
        match numbers {
            Some((asks, answers)) if asks != answers => Ok(Self { asks, answers }),
            _ => Err("name two different processors, as 0,1".to_owned()),
        }
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.asks, self.answers)
    }
}

impl Cores {
    /// The processor of a side.
    pub fn of(self, side: Side) -> usize {
        match side {
            Side::Asks => self.asks,
            Side::Answers => self.answers,
        }
    }

    /// Keeps this thread on the processor of a side.
    ///
    /// # Errors
    /// When there is no such processor.
    pub fn pin(self, side: Side) -> Result<()> {
        let mut set = rustix::thread::CpuSet::new();
        let core = self.of(side);
        if core < rustix::thread::CpuSet::MAX_CPU {
            set.set(core);
        }
        rustix::thread::sched_setaffinity(None, &set)
            .with_context(|| format!("can't run on processor {core}; see --cores"))
    }

    /// How long a cache line takes from one to the other, one way: the best of some tries.
    ///
    /// # Errors
    /// When there is no such processor, or no thread.
    pub fn line_back_and_forth(self) -> Result<Duration> {
        let ball = AtomicU64::new(0);
        let back_and_forth = |side: Side, mine: u64| {
            self.pin(side)?;
            let begin = Instant::now();
            for trip in 0..TRIPS {
                // A processor that is shared with others may take its time.
                while ball.load(Ordering::Acquire) != 2 * trip + mine {
                    spin_loop();
                }
                ball.store(2 * trip + mine + 1, Ordering::Release);
            }
            anyhow::Ok(begin.elapsed() / (2 * TRIPS as u32))
        };
        std::thread::scope(|scope| {
            // Whoever can't be pinned doesn't come, and the other would wait for ever: so that is tried first.
            scope
                .spawn(|| self.pin(Side::Asks).and_then(|()| self.pin(Side::Answers)))
                .join()
                .map_err(|_| no_thread())??;
            let mut best = Duration::MAX;
            for _ in 0..3 {
                ball.store(0, Ordering::Relaxed);
                let one = scope.spawn(|| back_and_forth(Side::Asks, 0));
                let other = scope.spawn(|| back_and_forth(Side::Answers, 1));
                let time = one.join().map_err(|_| no_thread())??;
                other.join().map_err(|_| no_thread())??;
                best = best.min(time);
            }
            Ok(best)
        })
    }
}

fn no_thread() -> anyhow::Error {
    anyhow::anyhow!("a thread fell over")
}
