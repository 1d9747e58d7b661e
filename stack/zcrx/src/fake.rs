//! A kernel in memory: zero-copy receive without a device as Linux 7.2 does it, for tests and for machines without it.
//!
//! It receives from real sockets into the pool's memory when its ring is waited on, takes returned buffers only when it is
//! told to, and refuses what Linux refuses. Tests make it lack features, fail calls, and complete what they like.

use crate::kernel::{Completion, Kernel, Queue, Registered, Registration, sealed::Sealed};
use crate::memory::{ENTRIES, HEAD, Lender, TAIL, page_size};
use crate::options::{EventTypes, Setup};
use crate::sys::{EventAnswer, ZcrxAnswer};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

/// What the fake kernel says of itself. By default all that Linux 7.2 has.
#[derive(Debug, Clone, Copy)]
pub struct Answers {
    /// To [`Kernel::query`], or an error number.
    pub zcrx: Result<ZcrxAnswer, i32>,
    /// To [`Kernel::query_events`], or an error number.
    pub events: Result<EventAnswer, i32>,
    /// What the counters of refill rings start at.
    pub refill_start: u32,
}

impl Default for Answers {
    fn default() -> Self {
        let zcrx = ZcrxAnswer {
            register_flags: 3,
            area_flags: 1,
            nr_ctrl_opcodes: 3,
            features: 3,
            rq_hdr_size: 8,
            rq_hdr_alignment: 64,
            reserved: 0,
        };
        let events = EventAnswer { event_flags: 3, stats_size: 16, stats_off_alignment: 8, ..EventAnswer::default() };
        Self { zcrx: Ok(zcrx), events: Ok(events), refill_start: 0 }
    }
}

/// Something that was asked of the fake kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// A ring.
    Open,
    /// To register a pool.
    Register,
    /// To attach one.
    Import,
    /// To hand one out.
    Export,
    /// To take what was returned.
    Flush,
    /// To tell of one more event.
    ArmEvent,
    /// To receive.
    Receive,
}

/// When it was asked, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// What.
    pub operation: Operation,
    /// On which ring, in the order in which they were opened.
    pub ring: usize,
    /// By which thread.
    pub thread: ThreadId,
    /// With what: the size of a buffer where a pool is registered, the type of an event, else 0.
    pub value: u32,
}

/// A kernel in memory.
#[derive(Debug, Clone, Default)]
pub struct Fake(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    answers: Answers,
    calls: Vec<Call>,
    /// What is to fail next, and with which error number.
    faults: VecDeque<(Operation, i32)>,
    pools: Vec<FakePool>,
    /// Which pool an exported file descriptor is of.
    exported: HashMap<RawFd, usize>,
    /// Completions that a test made up, by ring.
    made_up: Vec<(usize, Completion)>,
    rings: usize,
}

#[derive(Debug)]
struct FakePool {
    lender: Lender,
    stats: Option<u64>,
    memory: Arc<crate::memory::Memory>,
    events: Option<(u64, u32)>,
    /// Events that were told and not asked for again.
    fired: u32,
    owner: usize,
}

/// A ring of the fake kernel.
#[derive(Debug)]
pub struct FakeQueue {
    kernel: Fake,
    number: usize,
    fit: bool,
    capacity: usize,
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Pools by their number on this ring.
    pools: Vec<usize>,
    armed: Vec<Armed>,
    completions: VecDeque<Completion>,
}

#[derive(Debug)]
struct Armed {
    user_data: u64,
    socket: OwnedFd,
    pool: usize,
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

impl Fake {
    /// A kernel that answers so.
    pub fn new(answers: Answers) -> Self {
        let fake = Self::default();
        fake.state().answers = answers;
        fake
    }

    /// Lets the next such call fail with this error number; each is used once, in order.
    pub fn fail_next(&self, operation: Operation, error: i32) {
        self.state().faults.push_back((operation, error));
    }

    /// All that was asked so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// How often this was asked.
    pub fn count(&self, operation: Operation) -> usize {
        self.state().calls.iter().filter(|call| call.operation == operation).count()
    }

    /// Completes something on a ring. If it says that bytes were received, their buffer counts as lent once more.
    pub fn complete(&self, ring: usize, completion: Completion) {
        let mut state = self.state();
        let pool = state.pools.iter_mut().find(|pool| pool.owner == ring);
        if let Some(pool) = pool.filter(|_| completion.result > 0) {
            pool.lender.lend_at(completion.offset);
        }
        state.made_up.push((ring, completion));
    }

    /// Takes at most so many returned buffers from the refill ring of pool `pool`, in the order in which they were made.
    pub fn take_back(&self, pool: usize, most: u32) -> u32 {
        self.state().pools.get_mut(pool).map_or(0, |pool| pool.lender.take_back(most))
    }

    /// Buffers of a pool that are free.
    pub fn free_buffers(&self, pool: usize) -> usize {
        self.state().pools.get(pool).map_or(0, |pool| pool.lender.free())
    }

    /// Entries of a pool's refill ring that returned what wasn't lent.
    pub fn wrong_returns(&self, pool: usize) -> u64 {
        self.state().pools.get(pool).map_or(0, |pool| pool.lender.refused())
    }

    /// Adds to a pool's statistics.
    pub fn add_copies(&self, pool: usize, copies: u64, bytes: u64) {
        if let Some(pool) = self.state().pools.get(pool) {
            pool.add_copies(copies, bytes);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call; an error when it is to fail.
    fn called(&self, operation: Operation, ring: usize, value: u32) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.calls.push(Call { operation, ring, thread: std::thread::current().id(), value });
        let fault = state.faults.iter().position(|(fails, _)| *fails == operation);
        match fault.and_then(|at| state.faults.remove(at)) {
            Some((_, error)) => Err(errno(error)),
            None => Ok(state),
        }
    }
}

impl FakePool {
    fn add_copies(&self, copies: u64, bytes: u64) {
        let Some(at) = self.stats else { return };
        for (offset, more) in [(at, copies), (at + 8, bytes)] {
            if let Some(counter) = self.memory.counter(offset) {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    /// An event's completion, if it is asked for and wasn't told since.
    fn fire(&mut self, event: u32) -> Option<Completion> {
        let (user_data, types) = self.events?;
        if types & !self.fired & 1 << event == 0 {
            return None;
        }
        self.fired |= 1 << event;
        Some(Completion { user_data, result: event.cast_signed(), more: false, offset: 0 })
    }
}

impl Sealed for Fake {}
impl Sealed for FakeQueue {}

impl Kernel for Fake {
    type Queue = FakeQueue;

    fn query(&self) -> io::Result<ZcrxAnswer> {
        self.state().answers.zcrx.map_err(errno)
    }

    fn query_events(&self) -> io::Result<EventAnswer> {
        self.state().answers.events.map_err(errno)
    }

    fn open(&self, setup: &Setup) -> io::Result<FakeQueue> {
        let number = self.state().rings;
        self.called(Operation::Open, number, 0)?.rings += 1;
        Ok(FakeQueue {
            kernel: self.clone(),
            number,
            fit: setup.zero_copy,
            capacity: setup.completions as usize,
            inner: RefCell::default(),
        })
    }
}

impl FakeQueue {
    fn called(&self, operation: Operation, value: u32) -> io::Result<MutexGuard<'_, State>> {
        self.kernel.called(operation, self.number, value)
    }

    fn attach(&self, pool: usize) -> u32 {
        let pools = &mut self.inner.borrow_mut().pools;
        pools.push(pool);
        pools.len() as u32 - 1
    }

    fn pool(&self, id: u32) -> io::Result<usize> {
        self.inner.borrow().pools.get(id as usize).copied().ok_or_else(|| errno(libc::ENXIO))
    }

    /// Receives what there is, for as long as there are buffers and room for completions.
    fn receive_all(&self) {
        let mut state = self.kernel.state();
        let mut inner = self.inner.borrow_mut();
        let Inner { armed, completions, .. } = &mut *inner;
        let mut bytes = vec![0; page_size() as usize];
        armed.retain(|armed| {
            loop {
                let Some(pool) = state.pools.get_mut(armed.pool) else { return false };
                let full = completions.len() + 1 >= self.capacity;
                let mut stop = |result: i32| {
                    completions.push_back(Completion { user_data: armed.user_data, result, more: false, offset: 0 });
                    false
                };
                if full {
                    return stop(-libc::ENOSPC);
                }
                // Looked at first: what is taken from the socket must have a place.
                match recv(&armed.socket, &mut bytes[..1], RecvFlags::DONTWAIT | RecvFlags::PEEK) {
                    Ok((_, 0)) => return stop(0),
                    Ok(_) if pool.lender.free() == 0 => return stop(-libc::ENOMEM),
                    Ok(_) => {}
                    Err(Errno::AGAIN | Errno::INTR) => return true,
                    Err(error) => return stop(-error.raw_os_error()),
                }
                let most = bytes.len().min(pool.lender.buffer_size() as usize);
                let len = match recv(&armed.socket, &mut bytes[..most], RecvFlags::DONTWAIT) {
                    Ok((_, len)) => len,
                    Err(_) => continue,
                };
                let Some(offset) = pool.lender.lend(&bytes[..len]) else { return stop(-libc::EFAULT) };
                let result = i32::try_from(len).unwrap_or(i32::MAX);
                completions.push_back(Completion { user_data: armed.user_data, result, more: true, offset });
                pool.add_copies(1, len as u64);
                if pool.owner == self.number {
                    completions.extend(pool.fire(EventTypes::COPIED));
                }
            }
        });
    }

    fn take_made_up(&self) {
        let mut state = self.kernel.state();
        let mut inner = self.inner.borrow_mut();
        state.made_up.retain(|(ring, completion)| {
            if *ring != self.number {
                return true;
            }
            inner.completions.push_back(*completion);
            if !completion.more {
                inner.armed.retain(|armed| armed.user_data != completion.user_data);
            }
            false
        });
    }
}

impl Queue for FakeQueue {
    fn register(&self, wanted: &Registration<'_>) -> io::Result<Registered> {
        let mut state = self.called(Operation::Register, wanted.buffer_len)?;
        if !self.fit || wanted.refill_entries == 0 || wanted.refill_entries > 32768 {
            return Err(errno(libc::EINVAL));
        }
        let size = if wanted.buffer_len == 0 { page_size() } else { wanted.buffer_len };
        if wanted.queue.is_none() && size != page_size() {
            return Err(errno(libc::EOPNOTSUPP));
        }
        let entries = wanted.refill_entries.next_power_of_two();
        let end = u64::from(ENTRIES) + u64::from(entries) * 16;
        let fits = |at: u64| at.is_multiple_of(8) && at >= end && at + 16 <= wanted.memory.region_len();
        if end > wanted.memory.region_len() || wanted.stats.is_some_and(|at| !fits(at)) {
            return Err(errno(libc::EINVAL));
        }
        let start = state.answers.refill_start;
        state.pools.push(FakePool {
            lender: Lender::new(wanted.memory.clone(), size, entries, start),
            stats: wanted.stats,
            memory: wanted.memory.clone(),
            events: wanted.events,
            fired: 0,
            owner: self.number,
        });
        let id = self.attach(state.pools.len() - 1);
        Ok(Registered { id, refill_entries: entries, head: HEAD, tail: TAIL, entries: ENTRIES, area_token: 0 })
    }

    fn import(&self, pool: BorrowedFd<'_>) -> io::Result<u32> {
        let state = self.called(Operation::Import, 0)?;
        if !self.fit {
            return Err(errno(libc::EINVAL));
        }
        let pool = state.exported.get(&pool.as_raw_fd()).ok_or_else(|| errno(libc::EBADF))?;
        Ok(self.attach(*pool))
    }

    fn export(&self, id: u32) -> io::Result<OwnedFd> {
        let mut state = self.called(Operation::Export, 0)?;
        let pool = self.pool(id)?;
        let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
        state.exported.insert(fd.as_raw_fd(), pool);
        Ok(fd)
    }

    fn flush(&self, id: u32) -> io::Result<()> {
        let mut state = self.called(Operation::Flush, 0)?;
        let pool = self.pool(id)?;
        if let Some(pool) = state.pools.get_mut(pool) {
            pool.lender.take_back(u32::MAX);
        }
        Ok(())
    }

    fn arm_event(&self, id: u32, event: u32) -> io::Result<()> {
        let mut state = self.called(Operation::ArmEvent, event)?;
        let pool = self.pool(id)?;
        match state.pools.get_mut(pool) {
            Some(pool) if event < 2 && pool.fired & 1 << event != 0 => {
                pool.fired &= !(1 << event);
                Ok(())
            }
            _ => Err(errno(libc::EINVAL)),
        }
    }

    fn receive(&self, socket: BorrowedFd<'_>, id: u32, user_data: u64) -> io::Result<()> {
        drop(self.called(Operation::Receive, 0)?);
        let armed = Armed { user_data, socket: socket.try_clone_to_owned()?, pool: self.pool(id)? };
        self.inner.borrow_mut().armed.push(armed);
        Ok(())
    }

    fn cancel(&self, user_data: u64) -> io::Result<()> {
        let mut inner = self.inner.borrow_mut();
        let Some(at) = inner.armed.iter().position(|armed| armed.user_data == user_data) else { return Ok(()) };
        inner.armed.swap_remove(at);
        inner.completions.push_back(Completion { user_data, result: -libc::ECANCELED, more: false, offset: 0 });
        Ok(())
    }

    fn wait(&self, wake: BorrowedFd<'_>, limit: Option<Duration>) -> io::Result<()> {
        self.take_made_up();
        self.receive_all();
        if self.ready() {
            return Ok(());
        }
        {
            let inner = self.inner.borrow();
            let mut wanted = vec![PollFd::from_borrowed_fd(wake, PollFlags::IN)];
            let sockets = inner.armed.iter().map(|armed| armed.socket.as_fd());
            wanted.extend(sockets.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)));
            let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
            match poll(&mut wanted, limit.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.receive_all();
        Ok(())
    }

    fn next(&self) -> Option<Completion> {
        self.take_made_up();
        self.inner.borrow_mut().completions.pop_front()
    }

    fn ready(&self) -> bool {
        !self.inner.borrow().completions.is_empty()
    }
}
