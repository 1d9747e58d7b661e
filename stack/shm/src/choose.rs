//! Which way offered memory is fetched: whichever has been faster for this peer and size.
//!
//! The kernel's copy keeps one processor busy and takes the same time wherever the two run. The copy through the ring keeps
//! both busy: where they share a cache it is up to twice as fast, where they don't up to six times as slow. Which of it
//! holds can change at any time, as processes are moved, so that the slower way is tried again now and then.

use std::time::Duration;

/// A way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Ring,
    Kernel,
}

/// Up to 64 KiB, up to 512 KiB, and longer.
const CLASSES: usize = 3;
/// One in so many fetches tries the way that was slower.
const TRY_AGAIN: u32 = 256;

#[derive(Debug, Clone, Copy, Default)]
struct Class {
    /// Picoseconds per byte, averaged; 0 when it wasn't tried yet.
    ring: u64,
    kernel: u64,
    fetches: u32,
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
        class.fetches = class.fetches.wrapping_add(1);
        if class.ring == 0 {
            return Way::Ring;
        }
        if class.kernel == 0 {
            return Way::Kernel;
        }
        let ring_is_faster = class.ring <= class.kernel;
        let ring = if class.fetches % TRY_AGAIN == 0 { !ring_is_faster } else { ring_is_faster };
        if ring { Way::Ring } else { Way::Kernel }
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
        // A single fetch that was slow says little: either process may have been away. One can't be too fast by chance.
        *known = match *known {
            0 => picoseconds.max(1),
            old if picoseconds < old => picoseconds,
            old => old.saturating_mul(7).saturating_add(picoseconds) / 8,
        }
        .max(1);
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
        let (ring, _) = run(&mut chooser, 43, 81, 2000);
        assert!(ring > 1000, "{ring}");
    }

    #[test]
    fn extremes_do_no_harm() {
        let mut chooser = Chooser::default();
        for way in [Way::Ring, Way::Kernel] {
            for (len, time) in [(0, Duration::MAX), (usize::MAX, Duration::ZERO), (1, Duration::MAX)] {
                for _ in 0..3 {
                    chooser.took(way, len, time);
                    chooser.choose(len);
                }
            }
        }
    }
}
