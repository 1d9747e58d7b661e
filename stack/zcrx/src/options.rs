//! What a ring and its pool are made with.

use crate::sys::MOST_REFILL_ENTRIES;

/// The largest area: what is received lies in memory that can't be swapped.
const MOST_AREA: u64 = 1 << 36;

/// Where received bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Any TCP connection; the kernel copies.
    NoDevice,
    /// One queue of a network interface, which writes received bytes where they stay.
    Queue(HardwareQueue),
}

/// A receive queue of a network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardwareQueue {
    /// The interface's name.
    pub interface: String,
    /// Its number: 1 and up.
    pub index: u32,
    /// The queue's number, from 0; negative when none was assigned.
    pub queue: i32,
}

/// Finds the NAPI instance of an interface's queue, for busy polling.
pub type ResolveNapi = fn(index: u32, queue: u32) -> Option<u32>;

/// Which events a pool asks the kernel for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTypes {
    /// The device found no free buffer (`ZCRX_EVENT_ALLOC_FAIL`).
    pub exhausted: bool,
    /// Bytes were copied that need not have been (`ZCRX_EVENT_COPY`). Without a device, all are.
    pub copied: bool,
}

impl EventTypes {
    pub(crate) const EXHAUSTED: u32 = 0;
    pub(crate) const COPIED: u32 = 1;

    /// The bit mask.
    pub(crate) fn mask(self) -> u32 {
        u32::from(self.exhausted) << Self::EXHAUSTED | u32::from(self.copied) << Self::COPIED
    }
}

/// What a ring and its pool are made with.
///
/// ```
/// use opx_zcrx::{Options, Source};
///
/// let owner = Options::new().zero_copy_rx(Source::NoDevice).num_buffers(64);
/// let importer = Options::new().zc_rx_import();
/// assert!(owner.validate().is_ok() && importer.validate().is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) source: Option<Source>,
    pub(crate) import: bool,
    pub(crate) entries: u32,
    pub(crate) completions: u32,
    pub(crate) num_buffers: u32,
    pub(crate) buffer_size_hint: u32,
    pub(crate) refill_entries: u32,
    pub(crate) events: Option<EventTypes>,
    pub(crate) resolve_napi: Option<ResolveNapi>,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// A ring without a pool. Sizes of a pool, should it get one: 1024 buffers of a page.
    pub fn new() -> Self {
        Self {
            source: None,
            import: false,
            entries: 64,
            completions: 1024,
            num_buffers: 1024,
            buffer_size_hint: 0,
            refill_entries: 1024,
            events: Some(EventTypes { exhausted: true, copied: false }),
            resolve_napi: None,
        }
    }

    /// The ring can have a pool of its own.
    #[must_use]
    pub fn zero_copy_rx(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// The ring can be attached to another's pool.
    #[must_use]
    pub fn zc_rx_import(mut self) -> Self {
        self.import = true;
        self
    }

    /// Sizes of the submission and completion queue, in entries.
    #[must_use]
    pub fn entries(mut self, submissions: u32, completions: u32) -> Self {
        (self.entries, self.completions) = (submissions, completions);
        self
    }

    /// How many buffers the pool has.
    #[must_use]
    pub fn num_buffers(mut self, count: u32) -> Self {
        self.num_buffers = count;
        self
    }

    /// How large a buffer should be, in bytes: a power of two, at least a page. 0 stands for a page. The pool tells what
    /// became of it.
    #[must_use]
    pub fn buffer_size_hint(mut self, bytes: u32) -> Self {
        self.buffer_size_hint = bytes;
        self
    }

    /// How many returned buffers the kernel can be given at once: at most 32768, rounded up to a power of two.
    #[must_use]
    pub fn refill_entries(mut self, count: u32) -> Self {
        self.refill_entries = count;
        self
    }

    /// Which events to ask for; `None` for neither events nor the kernel's statistics.
    #[must_use]
    pub fn events(mut self, events: Option<EventTypes>) -> Self {
        self.events = events;
        self
    }

    /// How to find the queue's NAPI instance. Only asked for a ring with a hardware queue of its own; importers get what
    /// the owner found.
    #[must_use]
    pub fn resolve_napi(mut self, resolve: ResolveNapi) -> Self {
        self.resolve_napi = Some(resolve);
        self
    }

    /// The number of the hardware queue; -1 without one.
    pub fn queue_id(&self) -> i32 {
        match &self.source {
            Some(Source::Queue(queue)) => queue.queue,
            _ => -1,
        }
    }

    /// The number of the NAPI instance, if there is one to find.
    pub(crate) fn napi_id(&self) -> Option<u32> {
        match (&self.source, self.resolve_napi) {
            (Some(Source::Queue(queue)), Some(resolve)) => resolve(queue.index, u32::try_from(queue.queue).ok()?),
            _ => None,
        }
    }

    /// How the ring is to be set up.
    pub(crate) fn setup(&self) -> Setup {
        let zero_copy = self.source.is_some() || self.import;
        Setup { entries: self.entries, completions: self.completions, zero_copy }
    }

    /// Whether all that is needed is given.
    ///
    /// # Errors
    /// What isn't.
    pub fn validate(&self) -> Result<(), BadOptions> {
        if self.entries == 0 || self.completions == 0 {
            return Err(BadOptions::NoEntries);
        }
        if let Some(Source::Queue(queue)) = &self.source {
            if queue.interface.is_empty() {
                return Err(BadOptions::NoInterface);
            }
            if queue.index == 0 {
                return Err(BadOptions::NoIndex(queue.interface.clone()));
            }
            if queue.queue < 0 {
                return Err(BadOptions::NoQueue(queue.interface.clone()));
            }
        }
        if self.source.is_some() {
            if self.num_buffers == 0 {
                return Err(BadOptions::NoBuffers);
            }
            if u64::from(self.num_buffers) * u64::from(self.buffer_size_hint.max(4096)) > MOST_AREA {
                return Err(BadOptions::TooLarge);
            }
            if self.refill_entries == 0 || self.refill_entries > MOST_REFILL_ENTRIES {
                return Err(BadOptions::RefillEntries(self.refill_entries));
            }
        }
        Ok(())
    }
}

/// How a ring is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Entries of the submission queue.
    pub entries: u32,
    /// Entries of the completion queue.
    pub completions: u32,
    /// With all that a pool needs: 32-byte completions, one issuing thread, and task work only when it asks
    /// (`CQE32`, `SINGLE_ISSUER`, `DEFER_TASKRUN`, `COOP_TASKRUN`, `R_DISABLED`, `SUBMIT_ALL`).
    pub zero_copy: bool,
}

/// What is wrong with [`Options`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadOptions {
    /// No room in a queue.
    #[error("a ring needs at least one entry for submissions and one for completions")]
    NoEntries,
    /// The interface has no name.
    #[error("the interface's name is missing; name one, or use Source::NoDevice")]
    NoInterface,
    /// The interface has no number.
    #[error("interface {0} needs its number (if_nametoindex), which is 1 or more")]
    NoIndex(String),
    /// The queue has no number.
    #[error("interface {0} needs the number of a receive queue, 0 or more")]
    NoQueue(String),
    /// A pool without buffers.
    #[error("a pool needs at least one buffer")]
    NoBuffers,
    /// More memory than can be meant.
    #[error("the pool would have more than 64 GiB; take fewer or smaller buffers")]
    TooLarge,
    /// No such refill ring.
    #[error("a refill ring has 1 to 32768 entries, not {0}")]
    RefillEntries(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(interface: &str, index: u32, queue: i32) -> Options {
        let queue = HardwareQueue { interface: interface.to_owned(), index, queue };
        Options::new().zero_copy_rx(Source::Queue(queue))
    }

    /// Z15: either option makes the ring fit for a pool.
    #[test]
    fn a_ring_is_set_up_for_what_it_may_do() {
        for (options, zero_copy) in [
            (Options::new(), false),
            (Options::new().zc_rx_import(), true),
            (Options::new().zero_copy_rx(Source::NoDevice), true),
            (Options::new().zero_copy_rx(Source::NoDevice).zc_rx_import(), true),
            (queue("eth0", 2, 1), true),
        ] {
            assert_eq!(options.setup().zero_copy, zero_copy, "{options:?}");
        }
    }

    /// Z15.
    #[test]
    fn required_fields_are_asked_for() {
        let ok = |options: Options| options.validate();
        assert_eq!(ok(Options::new()), Ok(()));
        assert_eq!(ok(Options::new().zc_rx_import().num_buffers(0)), Ok(()), "an importer needs no sizes");
        assert_eq!(ok(Options::new().zero_copy_rx(Source::NoDevice)), Ok(()), "nor an interface without a device");
        assert_eq!(ok(queue("eth0", 2, 0)), Ok(()));
        assert_eq!(ok(queue("", 2, 0)), Err(BadOptions::NoInterface));
        assert_eq!(ok(queue("eth0", 0, 0)), Err(BadOptions::NoIndex("eth0".to_owned())));
        assert_eq!(ok(queue("eth0", 2, -1)), Err(BadOptions::NoQueue("eth0".to_owned())));
        let owner = || Options::new().zero_copy_rx(Source::NoDevice);
        assert_eq!(ok(owner().num_buffers(0)), Err(BadOptions::NoBuffers));
        assert_eq!(ok(owner().num_buffers(u32::MAX)), Err(BadOptions::TooLarge));
        assert_eq!(ok(owner().refill_entries(0)), Err(BadOptions::RefillEntries(0)));
        assert_eq!(ok(owner().refill_entries(32769)), Err(BadOptions::RefillEntries(32769)));
        assert_eq!(ok(owner().entries(0, 8)), Err(BadOptions::NoEntries));
    }

    /// Z15: only a ring with a queue of its own looks for the NAPI instance.
    #[test]
    fn the_napi_instance_is_the_owners_to_find() {
        fn resolve(index: u32, queue: u32) -> Option<u32> {
            Some(100 * index + queue)
        }
        assert_eq!(queue("eth0", 2, 7).resolve_napi(resolve).napi_id(), Some(207));
        assert_eq!(queue("eth0", 2, -1).resolve_napi(resolve).napi_id(), None);
        assert_eq!(Options::new().zc_rx_import().resolve_napi(resolve).napi_id(), None);
        assert_eq!(Options::new().zero_copy_rx(Source::NoDevice).resolve_napi(resolve).napi_id(), None);
        assert_eq!(queue("eth0", 2, 7).napi_id(), None);
    }
}
