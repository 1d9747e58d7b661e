//! The running kernel, and its rings.

use crate::kernel::{Completion, Kernel, Queue, Registered, Registration, sealed::Sealed};
use crate::options::Setup;
use crate::sys::{self, EventAnswer, ZcrxAnswer};
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// User data of what watches the ring's wake-up.
const WAKE: u64 = u64::MAX - 1;
/// User data of cancellations, whose own completions tell nothing.
const CANCEL: u64 = u64::MAX - 2;

type Ring = IoUring<squeue::Entry, cqueue::Entry32>;

/// The running kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Linux;

/// A ring of the running kernel.
pub struct LinuxQueue {
    ring: RefCell<Ring>,
    /// Whether the wake-up is being watched.
    watching: Cell<bool>,
}

impl std::fmt::Debug for LinuxQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinuxQueue").finish_non_exhaustive()
    }
}

impl Sealed for Linux {}
impl Sealed for LinuxQueue {}

impl Kernel for Linux {
    type Queue = LinuxQueue;

    fn query(&self) -> io::Result<ZcrxAnswer> {
        sys::query_zcrx()
    }

    fn query_events(&self) -> io::Result<EventAnswer> {
        sys::query_events()
    }

    fn open(&self, setup: &Setup) -> io::Result<LinuxQueue> {
        let mut builder = Ring::builder();
        builder.dontfork().setup_cqsize(setup.completions);
        if setup.zero_copy {
            builder.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().setup_taskrun_flag();
            builder.setup_submit_all().setup_r_disabled();
        }
        let ring = builder.build(setup.entries)?;
        if setup.zero_copy {
            // Who enables the ring is the thread that it belongs to (io_uring/register.c:io_register_enable_rings).
            ring.submitter().register_enable_rings()?;
        }
        Ok(LinuxQueue { ring: RefCell::new(ring), watching: Cell::new(false) })
    }
}

impl LinuxQueue {
    fn with_fd<T>(&self, work: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        work(self.ring.borrow().as_fd())
    }

    fn push(&self, entry: &squeue::Entry) -> io::Result<()> {
        let mut ring = self.ring.borrow_mut();
        if sys::push(&mut ring.submission(), entry) {
            return Ok(());
        }
        ring.submit()?;
        if sys::push(&mut ring.submission(), entry) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EBUSY)) }
    }
}

impl Queue for LinuxQueue {
    fn register(&self, wanted: &Registration<'_>) -> io::Result<Registered> {
        let wanted = sys::Wanted {
            memory: wanted.memory,
            queue: wanted.queue,
            refill_entries: wanted.refill_entries,
            buffer_len: wanted.buffer_len,
            events: wanted.events,
            stats: wanted.stats,
        };
        let given = self.with_fd(|ring| sys::register_pool(ring, &wanted))?;
        Ok(Registered {
            id: given.id,
            refill_entries: given.refill_entries,
            head: given.head,
            tail: given.tail,
            entries: given.rqes,
            area_token: given.area_token,
        })
    }

    fn import(&self, pool: BorrowedFd<'_>) -> io::Result<u32> {
        self.with_fd(|ring| sys::import_pool(ring, pool))
    }

    fn export(&self, id: u32) -> io::Result<OwnedFd> {
        self.with_fd(|ring| sys::export_pool(ring, id))
    }

    fn flush(&self, id: u32) -> io::Result<()> {
        let mut ctrl = sys::Ctrl { zcrx_id: id, op: sys::CTRL_FLUSH_RQ, ..sys::Ctrl::default() };
        self.with_fd(|ring| sys::control(ring, &mut ctrl)).map(drop)
    }

    fn arm_event(&self, id: u32, event: u32) -> io::Result<()> {
        let mut ctrl = sys::Ctrl { zcrx_id: id, op: sys::CTRL_ARM_EVENT, value: event, ..sys::Ctrl::default() };
        self.with_fd(|ring| sys::control(ring, &mut ctrl)).map(drop)
    }

    fn receive(&self, socket: BorrowedFd<'_>, id: u32, user_data: u64) -> io::Result<()> {
        // Length 0: until the stream ends.
        let receive = opcode::RecvZc::new(Fd(socket.as_raw_fd()), 0).ifq(id).build();
        self.push(&receive.user_data(user_data))
    }

    fn cancel(&self, user_data: u64) -> io::Result<()> {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::user_data(user_data)).build();
        self.push(&cancel.user_data(CANCEL))
    }

    fn wait(&self, wake: BorrowedFd<'_>, limit: Option<Duration>) -> io::Result<()> {
        if !self.watching.get() {
            let readable = libc::POLLIN as u32;
            let watch = opcode::PollAdd::new(Fd(wake.as_raw_fd()), readable).multi(true).build();
            self.push(&watch.user_data(WAKE))?;
            self.watching.set(true);
        }
        let want = usize::from(!self.ready());
        let ring = self.ring.borrow();
        let submitter = ring.submitter();
        let result = match limit {
            Some(limit) if want > 0 => {
                let limit = Timespec::new().sec(limit.as_secs()).nsec(limit.subsec_nanos());
                submitter.submit_with_args(want, &SubmitArgs::new().timespec(&limit))
            }
            _ => submitter.submit_and_wait(want),
        };
        match result {
            Ok(_) => Ok(()),
            // The end of the time; a signal; completions that wait for room, which the caller makes now.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn next(&self) -> Option<Completion> {
        loop {
            let entry = self.ring.borrow_mut().completion().next()?;
            let more = cqueue::more(entry.flags());
            match entry.user_data() {
                WAKE if !more => self.watching.set(false),
                WAKE | CANCEL => {}
                user_data => {
                    let [offset, _] = *entry.big_cqe();
                    return Some(Completion { user_data, result: entry.result(), more, offset });
                }
            }
        }
    }

    fn ready(&self) -> bool {
        !self.ring.borrow_mut().completion().is_empty()
    }
}
