//! Which way offered memory is fetched: whichever has been faster for this peer and size.
//!
//! The kernel's copy keeps one processor busy and takes about the same time wherever the two run. The copy through the ring keeps
//! both busy: which of them is faster follows from how far apart the processors are, and from whether the memory is in a
//! cache. That can change at any time, as processes are moved and other memory is sent, so that the slower way is tried again now
//! and then: some fetches in a row, as one alone says nothing among others of the other way.

use std::time::Duration;

/// A way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Way {
    #[default]
    Ring,
    Kernel,
}

/// Up to 64 KiB, up to 512 KiB, and longer.
const CLASSES: usize = 3;
/// Fetches that make a measurement. The first half isn't looked at: what was under way by the other way is in its time.
const BATCH: usize = 8;
/// The slower way is tried after so many fetches, and the later the slower it is.
const TRY_AGAIN: u64 = 256;

/// What is known of a way.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// Picoseconds per byte; 0 when it wasn't tried yet.
    time: u64,
    /// Fetches of this batch, and the times of its second half.
    count: usize,
    times: [u64; BATCH / 2],
}

impl Known {
    /// What a fetch took; `true` when it was the last of a batch.
    fn took(&mut self, picoseconds: u64) -> bool {
        if let Some(time) = self.count.checked_sub(BATCH / 2).and_then(|at| self.times.get_mut(at)) {
            *time = picoseconds;
        }
        self.count = (self.count + 1) % BATCH;
        if self.count != 0 {
            return false;
        }
        // Of four the second best: either process may have been away for some time, or one fetch been half done before.
        self.times.sort_unstable();
        let [_, time, ..] = self.times;
        self.time = if self.time == 0 { time } else { u64::midpoint(self.time, time) }.max(1);
        true
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Class {
    ring: Known,
    kernel: Known,
    /// The way that is taken, and for how many fetches.
    way: Way,
    left: u64,
    /// It is the slower one.
    is_trial: bool,
}

impl Class {
    fn faster(&self) -> Way {
        if self.ring.time <= self.kernel.time { Way::Ring } else { Way::Kernel }
    }

    /// Takes the faster way until it is time to try the other.
    fn take_faster(&mut self) {
        let (ring, kernel) = (self.ring.time, self.kernel.time);
        self.way = self.faster();
        self.left = ring.max(kernel).saturating_mul(TRY_AGAIN) / ring.min(kernel).max(1);
        self.is_trial = false;
    }

    fn next_run(&mut self) {
        self.way = match (self.ring.time, self.kernel.time) {
            (0, _) => Way::Ring,
            (_, 0) => Way::Kernel,
            _ if self.is_trial => return self.take_faster(),
            _ if self.faster() == Way::Ring => Way::Kernel,
            _ => Way::Ring,
        };
        (self.left, self.is_trial) = (BATCH as u64, true);
    }
}

/// What was measured with one peer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Chooser {
    classes: [Class; CLASSES],
}

fn class(len: usize) -> usize {
    match len {
        0..=0xffff => 0,
        0x1_0000..=0x7_ffff => 1,
        _ => 2,
    }
}

impl Chooser {
    /// The way to take.
    pub(crate) fn choose(&mut self, len: usize) -> Way {
        let Some(class) = self.classes.get_mut(class(len)) else { return Way::Ring };
        if class.left == 0 {
            class.next_run();
        }
        class.left = class.left.saturating_sub(1);
        class.way
    }

    /// What it took.
    pub(crate) fn took(&mut self, way: Way, len: usize, time: Duration) {
        let Some(class) = self.classes.get_mut(class(len)) else { return };
        let Ok(picoseconds) = u64::try_from(time.as_nanos().saturating_mul(1000) / (len.max(1) as u128)) else {
            return;
        };
        let known = match way {
            Way::Ring => &mut class.ring,
            Way::Kernel => &mut class.kernel,
        };
        let are_known = known.took(picoseconds) && class.ring.time != 0 && class.kernel.time != 0;
        if are_known && !class.is_trial && class.way != class.faster() {
            class.take_faster();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(chooser: &mut Chooser, ring: u64, kernel: u64, fetches: usize) -> (usize, usize) {
        let mut counts = (0, 0);
        for _ in 0..fetches {
            let way = chooser.choose(1 << 20);
            let micros = match way {
                Way::Ring => {
                    counts.0 += 1;
                    ring
                }
                Way::Kernel => {
                    counts.1 += 1;
                    kernel
                }
            };
            chooser.took(way, 1 << 20, Duration::from_micros(micros));
        }
        counts
    }

    #[test]
    fn the_faster_way_is_taken_and_a_change_is_noticed() {
        let mut chooser = Chooser::default();
        let (ring, kernel) = run(&mut chooser, 43, 81, 1000);
        assert!(ring > 950 && kernel >= 3, "{ring} {kernel}");
        // The processes are moved apart.
        let (ring, kernel) = run(&mut chooser, 470, 81, 1000);
        assert!(kernel > 900 && ring >= 3, "{ring} {kernel}");
        // And back.
        let (ring, _) = run(&mut chooser, 43, 81, 5000);
        assert!(ring > 2500, "{ring}");
        // Other memory is sent, which only the way in use tells.
        let (_, kernel) = run(&mut chooser, 300, 81, 1000);
        assert!(kernel > 900, "{kernel}");
    }

    /// A trial costs a few hundredths, however much slower that way is.
    #[test]
    fn the_slower_a_way_the_seldomer_it_is_tried() {
        for slower in [2, 6, 50] {
            let mut chooser = Chooser::default();
            run(&mut chooser, 100, 100 * slower, 2000);
            let (ring, kernel) = run(&mut chooser, 100, 100 * slower, 100_000);
            let lost = kernel as f64 * (slower - 1) as f64 / (ring + kernel) as f64;
            assert!(kernel > 0 && lost < 0.04, "{lost} by {slower}");
        }
    }

    #[test]
    fn one_that_was_slow_by_chance_changes_nothing() {
        let mut chooser = Chooser::default();
        run(&mut chooser, 43, 60, 100);
        for _ in 0..10 {
            let way = chooser.choose(1 << 20);
            chooser.took(way, 1 << 20, Duration::from_millis(4));
            let (ring, kernel) = run(&mut chooser, 43, 60, 40);
            assert!(ring > kernel, "{ring} {kernel}");
        }
    }

    /// Fetches are ended long after they were begun, among those of the other way.
    #[test]
    fn those_that_are_under_way_arent_taken_for_what_comes_after() {
        let mut chooser = Chooser::default();
        let mut under_way = std::collections::VecDeque::new();
        let mut ring = 0;
        for _ in 0..2000 {
            let way = chooser.choose(1 << 20);
            ring += usize::from(way == Way::Ring);
            under_way.push_back(way);
            if under_way.len() > 64
                && let Some(way) = under_way.pop_front()
            {
                let micros = if way == Way::Ring { 43 } else { 81 };
                chooser.took(way, 1 << 20, Duration::from_micros(micros));
            }
        }
        assert!(ring > 1700, "{ring}");
    }

    #[test]
    fn extremes_do_no_harm() {
        let mut chooser = Chooser::default();
        for way in [Way::Ring, Way::Kernel] {
            for (len, time) in [(0, Duration::MAX), (usize::MAX, Duration::ZERO), (1, Duration::MAX)] {
                for _ in 0..30 {
                    chooser.took(way, len, time);
                    chooser.choose(len);
                }
            }
        }
    }
}
