//! Interrupt moderation: how many packets, or how much time, an interrupt waits for.
//!
//! Source: `chip.c:adjust_rcv_timeout, update_usrhead, rcv_intr_timeout`, `sdma.c:sdma_idle_cnt`.

use opx_defs::csr;
use std::time::Duration;

/// A core clock of silicon, picoseconds (`chip.h:ASIC_CCLOCK_PS`).
const CCLOCK_PS: u128 = 1242;
/// A receive context's timeout is counted in so many core clocks.
const TIMEOUT_UNIT: u64 = 64;

/// When a receive context raises its interrupt: after so many packets, or so long after the first, whichever comes first.
///
/// ```
/// use opx_hw::Moderation;
/// use std::time::Duration;
/// // One interrupt for each packet.
/// let eager = Moderation { packets: 1, ..Moderation::default() };
/// // Few interrupts; a lone packet waits for 20 us.
/// let lazy = Moderation { packets: 64, timeout: Duration::from_micros(20), adaptive: false };
/// assert!(eager.packets < lazy.packets);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moderation {
    /// Packets, 1 to 255; more count as 255.
    pub packets: u8,
    /// The longest time that the first of them waits. The chip counts it in steps of 79.5 ns, to 20 us.
    pub timeout: Duration,
    /// Whether the time is halved each time that an interrupt came with fewer packets, and doubled again, up to `timeout`,
    /// when there were as many.
    pub adaptive: bool,
}

impl Default for Moderation {
    /// Linux's: 16 packets, 840 ns, adaptive.
    fn default() -> Self {
        Self { packets: 16, timeout: Duration::from_nanos(840), adaptive: true }
    }
}

/// Core clocks in a time (`chip.c:ns_to_cclock`).
pub(crate) fn core_clocks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() * 1000 / CCLOCK_PS).unwrap_or(u64::MAX)
}

/// A context's moderation as it is now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moderator {
    packets: u8,
    adaptive: bool,
    most: u64,
    timeout: u64,
}

impl Moderator {
    pub fn new(moderation: Moderation) -> Self {
        let field = csr::RCV_AVAIL_TIME_OUT::TIME_OUT_RELOAD;
        let longest = field.mask() >> field.shift;
        // A timeout of 0 would never come.
        let most = (core_clocks(moderation.timeout) / TIMEOUT_UNIT).clamp(1, longest);
        Self { packets: moderation.packets.max(1), adaptive: moderation.adaptive, most, timeout: most }
    }

    /// RCV_AVAIL_TIME_OUT.
    pub fn timeout(&self) -> u64 {
        csr::RCV_AVAIL_TIME_OUT::TIME_OUT_RELOAD.put(self.timeout)
    }

    /// The part of RCV_HDR_HEAD that starts the count anew.
    pub fn count(&self) -> u64 {
        csr::RCV_HDR_HEAD::COUNTER.put(self.packets.into())
    }

    /// Adapts to an interrupt that came with so many packets; the new RCV_AVAIL_TIME_OUT when that changes. To be written
    /// before RCV_HDR_HEAD.
    pub fn adjust(&mut self, packets: u64) -> Option<u64> {
        let next =
            if packets < self.packets.into() { (self.timeout / 2).max(1) } else { (self.timeout * 2).min(self.most) };
        if !self.adaptive || next == self.timeout {
            return None;
        }
        self.timeout = next;
        Some(self.timeout())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linuxs_defaults_come_out_as_its_register_values() {
        let moderator = Moderator::new(Moderation::default());
        assert_eq!((moderator.timeout(), moderator.count()), (10, csr::RCV_HDR_HEAD::COUNTER.put(16)));
        assert_eq!(core_clocks(Duration::from_nanos(250)), 201);
    }

    #[test]
    fn the_timeout_follows_the_traffic_within_its_bounds() {
        let mut moderator = Moderator::new(Moderation::default());
        let few: Vec<_> = (0..5).map(|_| moderator.adjust(3)).collect();
        assert_eq!(few, [Some(5), Some(2), Some(1), None, None]);
        let many: Vec<_> = (0..5).map(|_| moderator.adjust(16)).collect();
        assert_eq!(many, [Some(2), Some(4), Some(8), Some(10), None]);
        let mut fixed = Moderator::new(Moderation { adaptive: false, ..Moderation::default() });
        assert_eq!((fixed.adjust(0), fixed.adjust(99)), (None, None));
        let extreme = Moderator::new(Moderation { packets: 0, timeout: Duration::from_secs(9), adaptive: true });
        assert_eq!((extreme.timeout(), extreme.packets), (0xff, 1));
        assert_eq!(Moderator::new(Moderation { timeout: Duration::ZERO, ..Moderation::default() }).timeout(), 1);
    }
}
