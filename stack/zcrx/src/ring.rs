//! The ring: what one thread receives with.

use crate::buffer::Buffer;
use crate::completion::BadCompletion;
use crate::error::{CreateError, ExportError, ImportError, OpenError, ReceiveError, StreamError};
use crate::features::{Feature, Features, Unsupported};
use crate::here::{self, Local};
use crate::kernel::{Completion, Kernel, Queue};
use crate::linux::{Linux, LinuxQueue};
use crate::options::{EventTypes, Options};
use crate::owner::{Inbox, RingHandle};
use crate::pool::{EVENT, Exported, Pool, count};
use crate::receive::{State, StreamId, Streams, Verdict, verdict};
use crate::refill::RefillState;
use crate::signal::Signal;
use crate::statistics::{Statistics, Tally};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A ring that has nothing to receive into looks again after this time, even if no return woke it: another process may
/// have returned buffers.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Longest time in which a ring's streams are stopped when it is dropped.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// What came.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Bytes of a stream, in the order in which they were sent.
    Data {
        /// The stream.
        stream: StreamId,
        /// The bytes.
        data: Buffer,
    },
    /// The stream ended: the peer closed it, or [`Ring::stop`] did.
    End {
        /// The stream.
        stream: StreamId,
    },
    /// The stream ended early.
    Failed {
        /// The stream.
        stream: StreamId,
        /// Why.
        error: StreamError,
    },
}

/// A ring. It belongs to the thread that made it; a [`RingHandle`] has that thread do what others want.
///
/// ```
/// use opx_zcrx::{Event, Fake, Options, Ring, Source};
/// use std::io::Write;
/// use std::net::{TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut sender = TcpStream::connect(listener.local_addr()?)?;
/// let (receiver, _) = listener.accept()?;
///
/// // With `Ring::open`, and rights to use it, the running kernel's.
/// let ring = Ring::open_on(&Fake::default(), &Options::new().zero_copy_rx(Source::NoDevice))?;
/// ring.create_pool()?;
/// ring.receive(receiver)?;
/// sender.write_all(b"hello")?;
/// let data = loop {
///     match ring.next_event() {
///         Some(Event::Data { data, .. }) => break data,
///         _ => ring.wait(None)?,
///     }
/// };
/// drop(ring);
/// assert_eq!(&data[..], b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It can't be passed to another thread:
/// ```compile_fail,E0277
/// fn pass<T: Send>(_: T) {}
/// fn try_it(ring: opx_zcrx::Ring) {
///     pass(ring);
/// }
/// ```
pub struct Ring<Q: Queue = LinuxQueue>(pub(crate) Rc<Inner<Q>>);

/// A ring's parts.
pub(crate) struct Inner<Q: Queue> {
    features: Box<dyn Fn() -> Result<Features, Unsupported>>,
    options: Options,
    inbox: Arc<Inbox<Q>>,
    signal: Arc<Signal>,
    streams: RefCell<Streams>,
    /// What came besides bytes.
    events: RefCell<VecDeque<Event>>,
    /// Streams in want of a buffer.
    starving: Cell<u32>,
    tally: Tally,
    pool: RefCell<Option<Pool>>,
    queue: Q,
}

impl<Q: Queue> fmt::Debug for Ring<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("pool", &self.0.pool).finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes a ring of the running kernel.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        Self::open_on(&Linux, options)
    }
}

impl<Q: Queue> Ring<Q> {
    /// Makes a ring of this kernel.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_on<K: Kernel<Queue = Q> + Clone + 'static>(kernel: &K, options: &Options) -> Result<Self, OpenError> {
        options.validate()?;
        let queue = kernel.open(&options.setup()).map_err(OpenError::Kernel)?;
        let signal = Arc::new(Signal::new().map_err(OpenError::Kernel)?);
        let kernel = kernel.clone();
        let inner = Rc::new(Inner {
            features: Box::new(move || Features::of(&kernel)),
            options: options.clone(),
            inbox: Arc::new(Inbox::new(signal.clone())),
            signal,
            streams: RefCell::default(),
            events: RefCell::default(),
            starving: Cell::new(0),
            tally: Tally::default(),
            pool: RefCell::new(None),
            queue,
        });
        let local: Weak<Inner<Q>> = Rc::downgrade(&inner);
        here::add(local);
        Ok(Self(inner))
    }

    /// What other threads reach the ring by.
    pub fn handle(&self) -> RingHandle<Q> {
        RingHandle(self.0.inbox.clone())
    }

    /// What the ring was made with.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Makes the ring's own pool, as its options say.
    ///
    /// # Errors
    /// See [`CreateError`]. What the kernel lacks is found before anything is registered.
    pub fn create_pool(&self) -> Result<(), CreateError> {
        if self.has_pool() {
            return Err(CreateError::HasPool);
        }
        if self.0.options.source.is_none() {
            return Err(CreateError::NoSource);
        }
        let features = (self.0.features)()?;
        let pool = Pool::create(&self.0.queue, features, &self.0.options, &self.0.signal)?;
        self.0.tally.begin(&pool);
        *self.0.pool.borrow_mut() = Some(pool);
        Ok(())
    }

    /// Hands out the ring's own pool, for another ring. From then on returning a buffer takes a lock.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub fn export_pool(&self) -> Result<Exported, ExportError> {
        let pool = self.0.pool.borrow();
        let pool = pool.as_ref().ok_or(ExportError::NoPool)?;
        if !pool.owner {
            return Err(ExportError::NotOwner);
        }
        pool.features.need(Feature::Export)?;
        let fd = self.0.queue.export(pool.id).map_err(ExportError::Kernel)?;
        Ok(pool.exported(fd))
    }

    /// Attaches another ring's pool to this one.
    ///
    /// # Errors
    /// See [`ImportError`]. Whatever happens, the pool's file descriptor is closed.
    pub fn import_pool(&self, exported: Exported) -> Result<(), ImportError> {
        if self.has_pool() {
            return Err(ImportError::HasPool);
        }
        exported.features.need(Feature::Import)?;
        let id = self.0.queue.import(exported.fd.as_fd()).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => ImportError::NotPermitted,
            Some(libc::EINVAL) => ImportError::Ring(error),
            _ => ImportError::Kernel(error),
        })?;
        let pool = Pool::imported(exported, id, &self.0.signal);
        self.0.tally.begin(&pool);
        *self.0.pool.borrow_mut() = Some(pool);
        Ok(())
    }

    /// Whether the ring has a pool, of its own or another's.
    pub fn has_pool(&self) -> bool {
        self.0.pool.borrow().is_some()
    }

    /// What is so of the ring's pool, if it has one.
    pub fn pool(&self) -> Option<PoolInfo> {
        self.0.pool.borrow().as_ref().map(|pool| PoolInfo {
            buffer_size: pool.buffer_size(),
            own: pool.owner,
            napi_id: pool.napi_id,
            queue_id: pool.queue_id,
            refill: pool.refill(),
        })
    }

    /// What was counted since the last time.
    pub fn take_statistics(&self) -> Statistics {
        self.0.tally.take(self.0.pool.borrow().as_ref())
    }

    /// Receives from a connected TCP socket until it ends. What comes is told by [`Ring::next_event`].
    ///
    /// # Errors
    /// See [`ReceiveError`].
    pub fn receive(&self, socket: impl Into<OwnedFd>) -> Result<StreamId, ReceiveError> {
        let id = self.0.pool.borrow().as_ref().ok_or(ReceiveError::NoPool)?.id;
        let mut streams = self.0.streams.borrow_mut();
        let stream = streams.add(socket.into()).ok_or(ReceiveError::TooMany)?;
        if let Some(added) = streams.get(stream) {
            let begun = self.0.queue.receive(added.socket.as_fd(), id, stream.user_data());
            if let Err(error) = begun {
                streams.remove(stream);
                return Err(ReceiveError::Kernel(error));
            }
        }
        Ok(stream)
    }

    /// Stops receiving from a stream. What had come already is told before its end is.
    pub fn stop(&self, stream: StreamId) {
        self.0.stop(stream, false);
    }

    /// Waits until something has come, or for so long; does meanwhile what other threads want of this ring. It may
    /// return early, without anything.
    ///
    /// # Errors
    /// The kernel's. They are not of one stream.
    pub fn wait(&self, limit: Option<Duration>) -> io::Result<()> {
        let inner = &*self.0;
        self.work();
        let starving = inner.starving.get() > 0;
        let limit = if !inner.events.borrow().is_empty() {
            Some(Duration::ZERO)
        } else if starving {
            Some(limit.map_or(LOOK_AGAIN, |limit| limit.min(LOOK_AGAIN)))
        } else {
            limit
        };
        // Others may return buffers without this thread while it waits.
        if let Some(pool) = inner.pool.borrow().as_ref() {
            pool.get_up();
        }
        let waited = inner.queue.wait(inner.signal.as_fd(), limit);
        if let Some(pool) = inner.pool.borrow().as_ref() {
            pool.sit();
        }
        inner.signal.clear();
        self.work();
        waited
    }

    /// The next thing that has come. It doesn't wait.
    #[inline]
    pub fn next_event(&self) -> Option<Event> {
        self.0.next_event()
    }

    /// Does what other threads want, and what waited for a buffer.
    fn work(&self) {
        while let Some(job) = self.0.inbox.next() {
            job(self);
        }
        if let Some(pool) = self.0.pool.borrow().as_ref() {
            pool.serve(&self.0.queue);
        }
        if self.0.starving.get() > 0 {
            let long = self.0.tally.look_again(Instant::now(), LOOK_AGAIN);
            self.0.feed(long);
        }
    }
}

/// How a ring's pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolInfo {
    /// Bytes of a buffer: what became of the hint.
    pub buffer_size: u32,
    /// Whether this ring made it.
    pub own: bool,
    /// The NAPI instance of the owner's queue.
    pub napi_id: Option<u32>,
    /// The owner's hardware queue; -1 without one.
    pub queue_id: i32,
    /// How the refill ring stands.
    pub refill: RefillState,
}

impl<Q: Queue> Inner<Q> {
    pub(crate) fn inbox(&self) -> &Arc<Inbox<Q>> {
        &self.inbox
    }

    fn next_event(&self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.borrow_mut().pop_front() {
                return Some(event);
            }
            let completion = self.queue.next()?;
            if let Some(event) = self.complete(&completion) {
                return Some(event);
            }
        }
    }

    /// What a completion brings.
    fn complete(&self, completion: &Completion) -> Option<Event> {
        if completion.user_data == EVENT {
            self.pool_event(completion.result);
            return None;
        }
        let stream = StreamId::of(completion.user_data);
        // Bytes are lent first: of whatever stream they are, the buffer has to go back.
        let data = (completion.result > 0).then(|| {
            let pool = self.pool.borrow();
            pool.as_ref().map_or(Err(BadCompletion::NoPool), |pool| {
                let lent = pool.lend(completion);
                if lent.is_err() {
                    count(&pool.core().counts.bad_completions);
                }
                lent
            })
        });
        let verdict = verdict(completion.result, completion.more);
        let state = self.streams.borrow_mut().get(stream)?.state;
        let told = state == State::Stopping { told: true };
        if verdict != Verdict::Goes {
            self.stopped(stream, verdict, state);
        }
        match data {
            _ if told => None,
            Some(Ok(data)) => Some(Event::Data { stream, data }),
            Some(Err(error)) => {
                self.stop(stream, true);
                Some(Event::Failed { stream, error: error.into() })
            }
            None => None,
        }
    }

    /// The kernel stopped receiving from a stream.
    #[cold]
    fn stopped(&self, stream: StreamId, verdict: Verdict, state: State) {
        match (verdict, state) {
            (_, State::Stopping { told }) => self.end(stream, (!told).then_some(Event::End { stream })),
            (Verdict::Starves, _) => {
                self.tally.starved();
                self.starving.set(self.starving.get() + 1);
                if let Some(stream) = self.streams.borrow_mut().get(stream) {
                    stream.state = State::Starving;
                }
                self.feed(false);
            }
            (Verdict::Again | Verdict::Goes, _) => self.again(stream),
            (Verdict::Closed | Verdict::Stopped, _) => self.end(stream, Some(Event::End { stream })),
            (Verdict::Failed(errno), _) => self.fail(stream, io::Error::from_raw_os_error(errno)),
        }
    }

    /// Receives from a stream once more.
    fn again(&self, stream: StreamId) {
        self.tally.rearmed();
        let Some(id) = self.pool.borrow().as_ref().map(|pool| pool.id) else { return };
        let begun = match self.streams.borrow_mut().get(stream) {
            Some(armed) => {
                armed.state = State::Armed;
                self.queue.receive(armed.socket.as_fd(), id, stream.user_data())
            }
            None => return,
        };
        if let Err(error) = begun {
            self.fail(stream, error);
        }
    }

    fn fail(&self, stream: StreamId, error: io::Error) {
        self.end(stream, Some(Event::Failed { stream, error: error.into() }));
    }

    fn end(&self, stream: StreamId, event: Option<Event>) {
        self.streams.borrow_mut().remove(stream);
        self.events.borrow_mut().extend(event);
    }

    fn stop(&self, stream: StreamId, told: bool) {
        let state = match self.streams.borrow_mut().get(stream) {
            Some(stream) => std::mem::replace(&mut stream.state, State::Stopping { told }),
            None => return,
        };
        match state {
            State::Armed => {
                if let Err(error) = self.queue.cancel(stream.user_data()) {
                    self.fail(stream, error);
                }
            }
            State::Starving => {
                self.starving.set(self.starving.get() - 1);
                self.end(stream, (!told).then_some(Event::End { stream }));
            }
            State::Stopping { .. } => {}
        }
    }

    /// Has the kernel take what was returned, and counts that.
    fn flush_and_count(&self) -> Option<u64> {
        let pool = self.pool.borrow();
        let pool = pool.as_ref()?;
        // Counted first: what comes later may not have been taken.
        let returned = pool.returned();
        pool.core().flush_by(&self.queue, pool.id);
        Some(returned)
    }

    /// Goes on with the streams for which there may be a buffer now: one was returned since they were last begun, or they
    /// have waited for `long`.
    #[cold]
    fn feed(&self, long: bool) {
        if let Some(pool) = self.pool.borrow().as_ref() {
            pool.starves();
        }
        let Some(returned) = self.flush_and_count() else { return };
        let mut fed = Vec::new();
        for stream in self.streams.borrow_mut().iter_mut() {
            if stream.state == State::Starving && (long || stream.fed != returned) {
                stream.fed = returned;
                fed.push(stream.id);
            }
        }
        self.starving.set(self.starving.get() - fed.len() as u32);
        fed.into_iter().for_each(|stream| self.again(stream));
    }

    /// The pool's event of this type. It is told once, until it is asked for again.
    #[cold]
    fn pool_event(&self, event: i32) {
        let event = event.cast_unsigned();
        self.tally.event(event == EventTypes::EXHAUSTED, event == EventTypes::COPIED);
        let armed = self.pool.borrow().as_ref().map(|pool| self.queue.arm_event(pool.id, event));
        if let Some(Err(error)) = armed {
            self.tally.not_rearmed(&error);
        }
    }

    /// Stops all streams and waits for that: what the kernel still completes is given back, since other rings may be left
    /// with the pool.
    fn wind_down(&self) {
        let all: Vec<StreamId> = self.streams.borrow_mut().iter_mut().map(|stream| stream.id).collect();
        all.into_iter().for_each(|stream| self.stop(stream, true));
        let end = Instant::now() + STOP_LIMIT;
        loop {
            while self.next_event().is_some() {}
            let left = end.saturating_duration_since(Instant::now());
            if self.streams.borrow_mut().iter_mut().next().is_none() || left.is_zero() {
                return;
            }
            if self.queue.wait(self.signal.as_fd(), Some(left)).is_err() {
                return;
            }
            self.signal.clear();
        }
    }
}

impl<Q: Queue> Local for Inner<Q> {
    fn flush(&self, pool: usize) -> bool {
        // Not while the pool is being made or dropped.
        let Ok(own) = self.pool.try_borrow() else { return false };
        match own.as_ref() {
            Some(own) if own.core().address() == pool => {
                own.core().flush_by(&self.queue, own.id);
                true
            }
            _ => false,
        }
    }

    fn any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }
}

impl<Q: Queue> Drop for Inner<Q> {
    fn drop(&mut self) {
        self.inbox.close();
        self.wind_down();
        // Before the queue: after it the kernel may hold the pool no more.
        let pool = self.pool.borrow_mut().take();
        drop(pool);
    }
}
