//! What the running kernel can do of zero-copy receive, decided before anything is registered.

use crate::kernel::Kernel;
use crate::linux::Linux;
use crate::sys;
use std::fmt;
use std::io;

/// What may be used. A kernel that can't be asked has none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Features {
    /// A pool can be attached to a second ring.
    pub import: bool,
    /// A pool works without a network device's queue, by copying.
    pub no_device: bool,
    /// A pool can be handed out as a file descriptor.
    pub export: bool,
    /// Returned buffers can be pushed into the pool.
    pub flush: bool,
    /// The kernel reports copies and exhaustion as events.
    pub events: bool,
    /// Buffers larger than a page may be asked for.
    pub buffer_size: bool,
    /// Which types of events there are: a bit mask of [`crate::EventTypes`].
    pub event_types: u32,
    /// The kernel counts copies in memory that it shares with the pool.
    pub statistics: Option<StatisticsLayout>,
}

/// How the kernel wants its statistics placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatisticsLayout {
    /// Bytes of them.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// One thing that a kernel has or lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feature {
    /// A pool on a second ring.
    Import,
    /// A pool without a network device.
    NoDevice,
    /// A pool as a file descriptor.
    Export,
    /// Having returned buffers taken.
    Flush,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Import => "attach a pool to a second ring (ZCRX_REG_IMPORT)",
            Self::NoDevice => "receive without a network device (ZCRX_REG_NODEV)",
            Self::Export => "hand out a pool (ZCRX_CTRL_EXPORT)",
            Self::Flush => "take returned buffers when told to (ZCRX_CTRL_FLUSH_RQ)",
        })
    }
}

/// Why there is no zero-copy receive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// The kernel has no such query.
    #[error("this kernel can't be asked about zero-copy receive (no IORING_REGISTER_QUERY); use Linux 7.1 or newer")]
    NoQuery,
    /// The kernel answers, and says no.
    #[error("this kernel has no io_uring zero-copy receive that can be used here; use Linux 7.1 or newer")]
    NoZcrx,
    /// It has zero-copy receive, but can't do this of it.
    #[error("this kernel's zero-copy receive can't {0}; use Linux 7.2 or newer")]
    Lacks(Feature),
    /// io_uring is turned off or not allowed.
    #[error(
        "io_uring isn't allowed here: {0}; look at kernel.io_uring_disabled and the container's system call filter"
    )]
    Forbidden(#[source] io::Error),
    /// Something else.
    #[error("asking the kernel about zero-copy receive failed: {0}")]
    Other(#[source] io::Error),
}

/// Asks the running kernel.
///
/// # Errors
/// See [`Unsupported`]: each says why there is none.
///
/// ```
/// match opx_zcrx::query() {
///     Ok(features) => println!("zero-copy receive without a network device: {}", features.no_device),
///     Err(why) => println!("no zero-copy receive: {why}"),
/// }
/// ```
pub fn query() -> Result<Features, Unsupported> {
    Features::of(&Linux)
}

/// Whether the running kernel has zero-copy receive at all.
pub fn kernel_supports_zcrx() -> bool {
    query().is_ok()
}

impl Features {
    /// Asks a kernel.
    pub(crate) fn of<K: Kernel>(kernel: &K) -> Result<Self, Unsupported> {
        let answer = kernel.query().map_err(refusal)?;
        let mut features = Self {
            import: answer.register_flags & u64::from(sys::REG_IMPORT) != 0,
            no_device: answer.register_flags & u64::from(sys::REG_NODEV) != 0,
            export: answer.nr_ctrl_opcodes > sys::CTRL_EXPORT,
            flush: answer.nr_ctrl_opcodes > sys::CTRL_FLUSH_RQ,
            events: answer.features & sys::FEATURE_EVENT != 0 && answer.nr_ctrl_opcodes > sys::CTRL_ARM_EVENT,
            buffer_size: answer.features & sys::FEATURE_RX_PAGE_SIZE != 0,
            event_types: 0,
            statistics: None,
        };
        if features.events {
            // Without an answer there are events, but none to ask for.
            let events = kernel.query_events().unwrap_or_default();
            features.event_types = events.event_flags;
            let (size, align) = (events.stats_size, events.stats_off_alignment);
            // Two words are read of them.
            features.statistics =
                (size >= 16 && align.is_power_of_two()).then_some(StatisticsLayout { size, align: align.max(8) });
        }
        Ok(features)
    }

    /// An error if this isn't there.
    pub(crate) fn need(&self, feature: Feature) -> Result<(), Unsupported> {
        let has = match feature {
            Feature::Import => self.import,
            Feature::NoDevice => self.no_device,
            Feature::Export => self.export,
            Feature::Flush => self.flush,
        };
        if has { Ok(()) } else { Err(Unsupported::Lacks(feature)) }
    }
}

fn refusal(error: io::Error) -> Unsupported {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS | libc::EBADF) => Unsupported::NoQuery,
        Some(libc::EOPNOTSUPP) => Unsupported::NoZcrx,
        Some(libc::EPERM | libc::EACCES) => Unsupported::Forbidden(error),
        _ => Unsupported::Other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Answers, Fake};
    use crate::sys::{EventAnswer, ZcrxAnswer};

    fn features(zcrx: ZcrxAnswer, events: Result<EventAnswer, i32>) -> Features {
        Features::of(&Fake::new(Answers { zcrx: Ok(zcrx), events, ..Answers::default() })).unwrap()
    }

    /// Z2: what Linux 7.2 answers, an answer in part, one without anything.
    #[test]
    fn an_answer_is_taken_bit_by_bit() {
        let full =
            ZcrxAnswer { register_flags: 3, area_flags: 1, nr_ctrl_opcodes: 3, features: 3, ..Default::default() };
        let events = EventAnswer { event_flags: 3, stats_size: 16, stats_off_alignment: 8, ..Default::default() };
        let all = Features {
            import: true,
            no_device: true,
            export: true,
            flush: true,
            events: true,
            buffer_size: true,
            event_types: 3,
            statistics: Some(StatisticsLayout { size: 16, align: 8 }),
        };
        assert_eq!(features(full, Ok(events)), all);

        // The kernel knows events, but its second answer is missing, short or senseless.
        let without = Features { event_types: 0, statistics: None, ..all };
        assert_eq!(features(full, Err(libc::EOPNOTSUPP)), without);
        let short = EventAnswer { event_flags: 3, stats_size: 8, stats_off_alignment: 8, ..Default::default() };
        assert_eq!(features(full, Ok(short)), Features { statistics: None, ..all });
        let askew = EventAnswer { event_flags: 3, stats_size: 16, stats_off_alignment: 0, ..Default::default() };
        assert_eq!(features(full, Ok(askew)), Features { statistics: None, ..all });

        let partial = ZcrxAnswer { register_flags: 1, nr_ctrl_opcodes: 1, features: 2, ..Default::default() };
        let some = Features { import: true, flush: true, ..Features::default() };
        assert_eq!(features(partial, Ok(events)), some, "events without arming are none");
        assert_eq!(features(ZcrxAnswer::default(), Ok(events)), Features::default());
    }

    /// Z2.
    #[test]
    fn refusals_keep_their_reason() {
        let refused = |errno| {
            let fake = Fake::new(Answers { zcrx: Err(errno), ..Answers::default() });
            Features::of(&fake).unwrap_err()
        };
        assert!(matches!(refused(libc::EINVAL), Unsupported::NoQuery));
        assert!(matches!(refused(libc::EOPNOTSUPP), Unsupported::NoZcrx));
        assert!(matches!(refused(libc::EPERM), Unsupported::Forbidden(_)));
        assert!(matches!(refused(libc::EFAULT), Unsupported::Other(_)));
    }

    #[test]
    fn the_running_kernel_gives_an_answer_or_a_reason() {
        match query() {
            // Every kernel that has the pool at all can flush and export it.
            Ok(features) => assert!(features.flush || !features.export, "{features:?}"),
            Err(Unsupported::Other(error)) => panic!("unexpected refusal: {error}"),
            Err(_) => {}
        }
    }
}
