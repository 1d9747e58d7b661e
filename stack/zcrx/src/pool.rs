//! The pool: memory, the refill ring, and what rings on several threads share of them.

use crate::buffer::Buffer;
use crate::completion::{BadCompletion, Layout};
use crate::error::CreateError;
use crate::features::{Feature, Features};
use crate::here;
use crate::kernel::{Completion, Queue, Registered, Registration};
use crate::memory::{Home, Keeper, Memory, RefillWords, page_size};
use crate::options::{HardwareQueue, Options, Source};
use crate::refill::{After, Refill, RefillState};
use crate::signal::Signal;
use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

/// User data of event completions.
pub(crate) const EVENT: u64 = u64::MAX;

/// What all rings of a pool share, and buffers that are out.
#[derive(Debug)]
pub(crate) struct Core {
    refill: Refill<RefillWords>,
    memory: Arc<Memory>,
    layout: Layout,
    /// What an entry has in its upper bits.
    area_token: u64,
    /// Where the kernel's statistics are in the region.
    stats: Option<u64>,
    can_flush: bool,
    /// Somebody without a ring wants the kernel to take what was returned.
    flush_wanted: AtomicBool,
    /// A ring has nothing to receive into and waits for a return.
    starving: AtomicBool,
    /// What wakes the pool's rings; its owner's comes first.
    rings: Mutex<Vec<Arc<Signal>>>,
    pub(crate) counts: Counts,
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) flushes: AtomicU64,
    pub(crate) flush_failures: AtomicU64,
    pub(crate) bad_completions: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Home for Core {
    #[inline]
    fn give_back_at_once(&self, entry: u64) -> bool {
        here::seat() == self.address() && self.refill.give_back_at_once(entry)
    }

    fn give_back_slowly(&self, entry: u64) -> bool {
        self.refill.give_back_slowly(entry, here::mark(), |after| self.after_return(after))
    }

    fn close(&self) -> bool {
        self.refill.close()
    }
}

impl Core {
    /// What is left to do when a buffer was returned otherwise than by the thread in the seat.
    fn after_return(&self, after: After) {
        if after == After::Flush {
            self.have_flushed();
        }
        // Ordered by the lock that the return was done under: see `Pool::starves`.
        if self.starving.load(Ordering::Relaxed) && self.starving.swap(false, Ordering::Relaxed) {
            self.rings().iter().for_each(|ring| ring.raise());
        }
    }

    /// Has the kernel take what was returned: by a ring of this thread, since another's isn't allowed to be used here, or
    /// by the thread of another ring.
    fn have_flushed(&self) {
        if !self.can_flush || here::find(|ring| ring.flush(self.address()).then_some(())).is_some() {
            return;
        }
        if !self.flush_wanted.swap(true, Ordering::Relaxed) {
            match self.rings().first() {
                Some(ring) => ring.raise(),
                None => count(&self.counts.flush_failures),
            }
        }
    }

    /// Has the kernel take what was returned, by a ring of this thread.
    pub(crate) fn flush_by(&self, queue: &impl Queue, id: u32) {
        self.flush_wanted.store(false, Ordering::Relaxed);
        if !self.can_flush {
            return;
        }
        let mut before = usize::MAX;
        loop {
            count(&self.counts.flushes);
            if let Err(error) = queue.flush(id) {
                count(&self.counts.flush_failures);
                static ONCE: Once = Once::new();
                ONCE.call_once(|| log::warn!("the kernel didn't take returned receive buffers: {error}"));
                return;
            }
            // More may wait than the ring holds.
            let after = self.refill.catch_up(here::mark());
            let left = self.refill.state().overflow;
            if after == After::Nothing || left >= before {
                return;
            }
            before = left;
        }
    }

    /// What tells this pool from others while it lives.
    #[inline]
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn rings(&self) -> MutexGuard<'_, Vec<Arc<Signal>>> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kernel's counts of copies and copied bytes since the pool was made.
    pub(crate) fn kernel_counts(&self) -> Option<(u64, u64)> {
        let at = self.stats?;
        let word = |offset| Some(self.memory.counter(offset)?.load(Ordering::Relaxed));
        Some((word(at)?, word(at + 8)?))
    }
}

/// A pool, as one ring has it.
#[derive(Debug)]
pub(crate) struct Pool {
    core: Arc<Keeper<Core>>,
    /// Its number on the ring.
    pub(crate) id: u32,
    /// Whether the ring made it.
    pub(crate) owner: bool,
    pub(crate) features: Features,
    pub(crate) napi_id: Option<u32>,
    pub(crate) queue_id: i32,
    signal: Arc<Signal>,
    mark: usize,
    /// Buffers handed out that the refill ring doesn't know of yet.
    dispensed: Cell<u64>,
}

/// A pool on its way to another ring. Dropped, it is as if it had never been handed out.
///
/// It holds a file descriptor, which is closed when it is imported or dropped.
#[derive(Debug)]
pub struct Exported {
    pub(crate) fd: OwnedFd,
    core: Arc<Keeper<Core>>,
    pub(crate) features: Features,
    napi_id: Option<u32>,
    queue_id: i32,
}

impl Exported {
    /// The NAPI instance of the owner's queue, if it was found.
    pub fn napi_id(&self) -> Option<u32> {
        self.napi_id
    }

    /// The owner's hardware queue; -1 without one.
    pub fn queue_id(&self) -> i32 {
        self.queue_id
    }
}

impl std::os::fd::AsFd for Exported {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Pool {
    /// Makes a pool and registers it with the calling thread's ring.
    pub(crate) fn create(
        queue: &impl Queue,
        features: Features,
        options: &Options,
        signal: &Arc<Signal>,
    ) -> Result<Self, CreateError> {
        let device = match &options.source {
            Some(Source::Queue(device)) => Some(device),
            Some(Source::NoDevice) => {
                features.need(Feature::NoDevice)?;
                features.need(Feature::Flush)?;
                None
            }
            None => return Err(CreateError::NoSource),
        };
        let page = page_size();
        let size = buffer_size(options.buffer_size_hint, page, features.buffer_size && device.is_some());
        let (memory, registered, size, stats) = match register(queue, &features, options, device, size, page) {
            Err(Refused::Kernel(error))
                if size > page
                    && matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ERANGE | libc::EOPNOTSUPP)) =>
            {
                log::warn!("the kernel refuses receive buffers of {size} bytes ({error}); they get {page} bytes");
                register(queue, &features, options, device, page, page)
            }
            other => other,
        }
        .map_err(|refused| refused.explain(device))?;
        let Registered { refill_entries, head, tail, entries, .. } = registered;
        let words = memory.refill_words(refill_entries, head, tail, entries).ok_or(CreateError::BadAnswer)?;
        // Without a device the kernel takes returned buffers only when it is told to: before it runs out of them.
        let watermark = match device {
            Some(_) => refill_entries,
            None => (refill_entries / 2).min(options.num_buffers.div_ceil(4)),
        };
        let expected = u64::from(options.num_buffers) * u64::from(size / page);
        let core = Core {
            refill: Refill::new(words, refill_entries, watermark, usize::try_from(expected).unwrap_or(0)),
            memory,
            layout: Layout { buffers: options.num_buffers, buffer_size: size },
            area_token: registered.area_token,
            stats,
            can_flush: features.flush,
            flush_wanted: AtomicBool::new(false),
            starving: AtomicBool::new(false),
            rings: Mutex::default(),
            counts: Counts::default(),
        };
        let exported = (Arc::new(Keeper::new(core)), features, options.napi_id(), options.queue_id());
        Ok(Self::new(exported, registered.id, true, signal))
    }

    /// What was imported under this number.
    pub(crate) fn imported(exported: Exported, id: u32, signal: &Arc<Signal>) -> Self {
        let Exported { fd, core, features, napi_id, queue_id } = exported;
        // The kernel holds on to the pool by itself now.
        drop(fd);
        Self::new((core, features, napi_id, queue_id), id, false, signal)
    }

    fn new(
        (core, features, napi_id, queue_id): (Arc<Keeper<Core>>, Features, Option<u32>, i32),
        id: u32,
        owner: bool,
        signal: &Arc<Signal>,
    ) -> Self {
        let pool = Self {
            core,
            id,
            owner,
            features,
            napi_id,
            queue_id,
            signal: signal.clone(),
            mark: here::own_mark(),
            dispensed: Cell::new(0),
        };
        pool.core.rings().push(signal.clone());
        pool.sit();
        pool
    }

    /// What is handed out with the file descriptor that the kernel made for it.
    pub(crate) fn exported(&self, fd: OwnedFd) -> Exported {
        self.get_up();
        self.core.refill.share();
        let (core, features) = (self.core.clone(), self.features);
        Exported { fd, core, features, napi_id: self.napi_id, queue_id: self.queue_id }
    }

    /// What is shared.
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Bytes of a buffer.
    pub(crate) fn buffer_size(&self) -> u32 {
        self.core.layout.buffer_size
    }

    /// How the refill ring stands.
    pub(crate) fn refill(&self) -> RefillState {
        self.core.refill.state()
    }

    /// This thread returns buffers without a lock from now on, unless the pool is shared, or it does so with another pool.
    pub(crate) fn sit(&self) {
        if here::seat() == 0 && self.core.refill.sit(self.mark) {
            here::set_seat(self.core.address());
        }
    }

    /// Until it sits again it doesn't: it is about to wait, or to share the pool.
    pub(crate) fn get_up(&self) {
        if here::seat() == self.core.address() {
            here::set_seat(0);
            self.core.refill.get_up(self.mark);
        }
    }

    /// The bytes of a completion.
    #[inline]
    pub(crate) fn lend(&self, completion: &Completion) -> Result<Buffer, BadCompletion> {
        let core = &self.core;
        let place = core.layout.locate(completion.offset, completion.result)?;
        let end = BadCompletion::Outside { offset: place.offset, end: core.memory.area_len() };
        let span = core.memory.span(place.offset, place.len).ok_or(end)?;
        self.dispensed.set(self.dispensed.get() + 1);
        Ok(Buffer::new(core.lend(span, core.area_token | place.buffer)))
    }

    /// Buffers returned so far, by whomever.
    pub(crate) fn returned(&self) -> u64 {
        self.core.refill.state().returned
    }

    /// This ring has nothing to receive into: the next return wakes it. Looked at before, [`Pool::returned`] may miss one
    /// that comes meanwhile; looked at afterwards it can't.
    pub(crate) fn starves(&self) {
        self.core.starving.store(true, Ordering::Relaxed);
    }

    /// Does what other threads want done by a thread with a ring.
    pub(crate) fn serve(&self, queue: &impl Queue) {
        if self.core.flush_wanted.load(Ordering::Relaxed) {
            self.core.flush_by(queue, self.id);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.get_up();
        self.core.refill.dispensed(self.dispensed.get());
        let mut rings = self.core.rings();
        rings.retain(|ring| !Arc::ptr_eq(ring, &self.signal));
        // What was wanted of this ring is another's to do.
        if let Some(next) = rings.first() {
            next.raise();
        }
    }
}

/// Why a pool wasn't registered.
enum Refused {
    Memory(u64, io::Error),
    Kernel(io::Error),
}

impl Refused {
    fn explain(self, device: Option<&HardwareQueue>) -> CreateError {
        let error = match self {
            Self::Memory(bytes, error) => return CreateError::Memory { bytes, error },
            Self::Kernel(error) => error,
        };
        match (error.raw_os_error(), device) {
            (Some(libc::EPERM), _) => CreateError::NotPermitted,
            (Some(libc::ENOMEM), _) => CreateError::Locked,
            (_, Some(device)) => {
                CreateError::Interface { interface: device.interface.clone(), queue: device.queue, error }
            }
            (_, None) => CreateError::Kernel(error),
        }
    }
}

/// The size of a buffer for a hint: what can be had of it, and a warning where that is another.
fn buffer_size(hint: u32, page: u32, larger: bool) -> u32 {
    static WARNED: Once = Once::new();
    let size = if hint >= page && hint.is_power_of_two() && (hint == page || larger) { hint } else { page };
    if hint != 0 && hint != size {
        let why = if hint < page || !hint.is_power_of_two() {
            "a size is a power of two, and at least a page"
        } else {
            "more than a page takes a device whose driver can do it"
        };
        WARNED.call_once(|| log::warn!("receive buffers get {size} bytes instead of {hint}: {why}"));
    }
    size
}

/// Maps memory for buffers of this size and registers it. Refused, it is unmapped again.
fn register(
    queue: &impl Queue,
    features: &Features,
    options: &Options,
    device: Option<&HardwareQueue>,
    size: u32,
    page: u32,
) -> Result<(Arc<Memory>, Registered, u32, Option<u64>), Refused> {
    let page_bytes = u64::from(page);
    // The kernel rounds the number of entries up; its header takes less than a page.
    let refill = page_bytes + u64::from(options.refill_entries.next_power_of_two()) * 16;
    let wanted = options.events.and(features.statistics);
    let (stats, end) = match wanted {
        Some(layout) => {
            let at = refill.next_multiple_of(u64::from(layout.align));
            (Some(at), at + u64::from(layout.size))
        }
        None => (None, refill),
    };
    let (area, region) = (u64::from(options.num_buffers) * u64::from(size), end.next_multiple_of(page_bytes));
    let memory = Memory::map(area, region).map_err(|error| Refused::Memory(area + region, error))?;
    let memory = Arc::new(memory);
    let types = options.events.map_or(0, |events| events.mask()) & features.event_types;
    let registration = Registration {
        memory: &memory,
        queue: device.map(|device| (device.index, device.queue.cast_unsigned())),
        refill_entries: options.refill_entries,
        buffer_len: if size > page { size } else { 0 },
        events: (types != 0).then_some((EVENT, types)),
        stats,
    };
    let registered = queue.register(&registration).map_err(Refused::Kernel)?;
    Ok((memory, registered, size, stats))
}
