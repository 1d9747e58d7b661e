//! Receiving by the best means that there are: zero-copy from a device, zero-copy receive without one, plain receive.

use crate::buffer::Buffer;
use crate::error::{CreateError, OpenError, ReceiveError, StreamError};
use crate::kernel::{Kernel, Queue};
use crate::linux::{Linux, LinuxQueue};
use crate::options::{Options, Source};
use crate::plain::Plain;
use crate::receive::StreamId;
use crate::ring::{Event, Ring};
use crate::statistics::Statistics;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A means to receive, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Means {
    /// A device's queue writes received bytes where they stay.
    Device,
    /// The kernel copies them into a pool, without system calls for it.
    NoDevice,
    /// A system call copies them.
    Plain,
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "zero-copy receive from a device",
            Self::NoDevice => "io_uring receive into a pool, without a device",
            Self::Plain => "plain receive",
        })
    }
}

/// Why a better means wasn't taken.
#[derive(Debug, thiserror::Error)]
#[error("no {means}: {why}")]
pub struct Refusal {
    /// The means.
    pub means: Means,
    /// Why not.
    #[source]
    pub why: WhyNot,
}

/// Why a means isn't there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WhyNot {
    /// No hardware queue was named.
    #[error("no hardware queue is named in the options")]
    NotAsked,
    /// There is no ring.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no pool.
    #[error(transparent)]
    Create(#[from] CreateError),
}

/// Received bytes.
#[derive(Debug)]
pub enum Data {
    /// Lent by a pool.
    Lent(Buffer),
    /// Copied by plain receive.
    Copied(Vec<u8>),
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Lent(buffer) => buffer,
            Self::Copied(bytes) => bytes,
        }
    }
}

/// What came.
#[derive(Debug)]
#[non_exhaustive]
pub enum Incoming {
    /// Bytes of a stream, in the order in which they were sent.
    Data {
        /// The stream.
        stream: StreamId,
        /// The bytes.
        data: Data,
    },
    /// The stream ended.
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

/// Receives by the best means that there are. It belongs to the thread that made it.
///
/// ```
/// use opx_zcrx::{Incoming, Ingress, Means, Options};
/// use std::io::Write;
/// use std::net::{TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut sender = TcpStream::connect(listener.local_addr()?)?;
/// let ingress = Ingress::auto(&Options::new());
/// for refusal in ingress.refusals() {
///     println!("{refusal}");
/// }
/// ingress.receive(listener.accept()?.0)?;
/// sender.write_all(b"hello")?;
/// loop {
///     match ingress.next() {
///         Some(Incoming::Data { data, .. }) => break assert_eq!(&data[..], b"hello"),
///         _ => ingress.wait(None)?,
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Ingress<Q: Queue = LinuxQueue> {
    means: Means,
    refusals: Vec<Refusal>,
    by: By<Q>,
}

#[derive(Debug)]
enum By<Q: Queue> {
    Ring(Ring<Q>),
    Plain(Plain),
}

impl Ingress {
    /// With the running kernel. If the options name no source, a device isn't tried. Which means it came to be, and why
    /// not a better one, is logged.
    pub fn auto(options: &Options) -> Self {
        Self::auto_on(&Linux, options)
    }
}

impl<Q: Queue> Ingress<Q> {
    /// With this kernel; otherwise as [`Ingress::auto`].
    pub fn auto_on<K: Kernel<Queue = Q> + Clone + 'static>(kernel: &K, options: &Options) -> Self {
        let mut refusals = Vec::new();
        let mut try_it = |means: Means| {
            let tried = match means {
                Means::Device if !matches!(options.source, Some(Source::Queue(_))) => Err(WhyNot::NotAsked),
                Means::Device => ring(kernel, options),
                _ => ring(kernel, &options.clone().zero_copy_rx(Source::NoDevice)),
            };
            match tried {
                Ok(ring) => Some((means, By::Ring(ring))),
                Err(why) => {
                    refusals.push(Refusal { means, why });
                    None
                }
            }
        };
        let found = try_it(Means::Device).or_else(|| try_it(Means::NoDevice));
        let (means, by) = found.unwrap_or_else(|| (Means::Plain, By::Plain(Plain::default())));
        for refusal in &refusals {
            match refusal.why {
                WhyNot::NotAsked => log::debug!("{refusal}"),
                _ => log::info!("{refusal}"),
            }
        }
        log::info!("received by {means}");
        Self { means, refusals, by }
    }

    /// The means that was found.
    pub fn means(&self) -> Means {
        self.means
    }

    /// Why better ones weren't.
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// The ring, if there is one: for its handle, its statistics, and to share its pool.
    pub fn ring(&self) -> Option<&Ring<Q>> {
        match &self.by {
            By::Ring(ring) => Some(ring),
            By::Plain(_) => None,
        }
    }

    /// Receives from a connected TCP socket until it ends.
    ///
    /// # Errors
    /// See [`ReceiveError`].
    pub fn receive(&self, socket: impl Into<OwnedFd>) -> Result<StreamId, ReceiveError> {
        match &self.by {
            By::Ring(ring) => ring.receive(socket),
            By::Plain(plain) => plain.receive(socket.into()).ok_or(ReceiveError::TooMany),
        }
    }

    /// Stops receiving from a stream.
    pub fn stop(&self, stream: StreamId) {
        match &self.by {
            By::Ring(ring) => ring.stop(stream),
            By::Plain(plain) => plain.stop(stream),
        }
    }

    /// Waits until something has come, or for so long. It may return early.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&self, limit: Option<Duration>) -> io::Result<()> {
        match &self.by {
            By::Ring(ring) => ring.wait(limit),
            By::Plain(plain) => plain.wait(limit),
        }
    }

    /// The next thing that has come. It doesn't wait.
    #[allow(clippy::should_implement_trait, reason = "nothing has come yet doesn't mean that nothing will")]
    pub fn next(&self) -> Option<Incoming> {
        match &self.by {
            By::Ring(ring) => Some(match ring.next_event()? {
                Event::Data { stream, data } => Incoming::Data { stream, data: Data::Lent(data) },
                Event::End { stream } => Incoming::End { stream },
                Event::Failed { stream, error } => Incoming::Failed { stream, error },
            }),
            By::Plain(plain) => plain.next(),
        }
    }

    /// What was counted since the last time; nothing of plain receive.
    pub fn take_statistics(&self) -> Statistics {
        self.ring().map(Ring::take_statistics).unwrap_or_default()
    }
}

/// A ring with a pool.
fn ring<K: Kernel + Clone + 'static>(kernel: &K, options: &Options) -> Result<Ring<K::Queue>, WhyNot> {
    let ring = Ring::open_on(kernel, options)?;
    ring.create_pool()?;
    Ok(ring)
}
