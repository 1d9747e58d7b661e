//! One TCP connection of a wire: a thread that reads and one that writes, until something ends it.

use super::frame::{Decoder, Frame, FrameError, Hello};
use crate::far_end::FarEnd;
use crate::lab::Adapter;
use crate::packet::LARGEST_PACKET;
use crate::wire::{Item, LEAST_GRANT, LINK_CREDIT_BYTES};
use opx_zcrx::{Data, Incoming, Ingress, Means, ReceiveError, StreamError};
use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shortest silence that an end may ask the other to avoid.
pub(super) const LEAST_SILENCE: Duration = Duration::from_millis(50);
/// Bytes that are gathered for one system call; a frame may go beyond.
const BATCH: usize = 64 << 10;
/// Buffers of a page in which the kernel puts what comes, where it does.
const BUFFERS: u32 = 256;

/// Why a connection ended, or didn't come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The name has no address.
    #[error("the address has no meaning here: {0}")]
    Resolve(#[source] io::Error),
    /// Nobody answers there.
    #[error("nobody answers: {0}")]
    Connect(#[source] io::Error),
    /// The system doesn't hand a connection over.
    #[error("can't take a connection: {0}")]
    Accept(#[source] io::Error),
    /// The peer sent something that is no frame.
    #[error("the peer sent {0}")]
    Frame(#[from] FrameError),
    /// The peer's first frame isn't its hello.
    #[error("the peer didn't say hello first")]
    NoHello,
    /// The peer's hello came again.
    #[error("the peer said hello twice")]
    SecondHello,
    /// What the peer says of itself can't be worked with.
    #[error("the peer's {what} is {value}, at least {least} is needed")]
    Unusable {
        /// What.
        what: &'static str,
        /// The peer's value.
        value: u64,
        /// The least that will do.
        least: u64,
    },
    /// The peer sent more packets than it was granted credit for.
    #[error("the peer sent more packets than it had credit for")]
    Overrun,
    /// The peer took back credit that it had granted.
    #[error("the peer took credit back: {then} bytes in all, then {now}")]
    CreditTakenBack {
        /// Granted first.
        then: u64,
        /// Granted later.
        now: u64,
    },
    /// No whole frame came for too long.
    #[error("no whole frame came for {} ms ({kept} bytes of one did)", limit.as_millis())]
    Silent {
        /// How long.
        limit: Duration,
        /// Bytes of the frame that began.
        kept: usize,
    },
    /// The peer took nothing of what was sent for too long.
    #[error("nothing that was sent was taken for {} ms", .0.as_millis())]
    Stuck(Duration),
    /// The peer ended the connection.
    #[error("the peer ended the connection{}", if *kept > 0 { " in the midst of a frame" } else { "" })]
    Ended {
        /// Bytes of the frame that had begun.
        kept: usize,
    },
    /// What comes can't be received.
    #[error("can't receive: {0}")]
    Receive(#[from] ReceiveError),
    /// The stream failed.
    #[error("receiving failed: {0}")]
    Stream(#[from] StreamError),
    /// The cable was pulled at this end.
    #[error("the cable was pulled at this end")]
    Pulled,
    /// A call of the system failed.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// A connection that is being carried on.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    adapter: &'a Adapter,
    stream: &'a TcpStream,
    silence: Duration,
    /// Credit that the peer has granted in all. The reader sets it.
    limit: AtomicU64,
    /// Credit that the peer was granted in all. The writer sets it, before the peer hears of it.
    granted: AtomicU64,
    /// It is at its end.
    closed: AtomicBool,
    /// Why, if the writer found out.
    failure: Mutex<Option<WireError>>,
}

impl<'a> Connection<'a> {
    pub(super) fn new(adapter: &'a Adapter, stream: &'a TcpStream, silence: Duration) -> Self {
        Self {
            adapter,
            stream,
            silence,
            limit: AtomicU64::new(0),
            granted: AtomicU64::new(LINK_CREDIT_BYTES as u64),
            closed: AtomicBool::new(false),
            failure: Mutex::default(),
        }
    }

    /// Greets, plugs the cable in once the peer has greeted, carries on until something ends the connection, and pulls the
    /// cable. `greeted` hears by which means is received, once the cable is plugged in.
    pub(super) fn run(&self, greeted: impl FnOnce(Means)) -> WireError {
        let why = match self.carry(greeted) {
            Ok(never) => match never {},
            Err(why) => why,
        };
        let found = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        found.unwrap_or(why)
    }

    fn carry(&self, greeted: impl FnOnce(Means)) -> Result<Infallible, WireError> {
        self.stream.set_nodelay(true)?;
        self.stream.set_write_timeout(Some(self.silence))?;
        self.say_hello()?;
        let mut frames = Frames::new(self.stream, self.silence)?;
        let Frame::Hello(hello) = frames.next()? else { return Err(WireError::NoHello) };
        let theirs = check(&hello)?;
        self.limit.store(hello.credit, Ordering::Release);
        let far = FarEnd::plug(self.adapter);
        greeted(frames.ingress.means());
        std::thread::scope(|scope| {
            let write = || self.write(&far, theirs.min(self.silence) / 4).unwrap_or_else(|why| self.writer_failed(why));
            std::thread::Builder::new().name("wire out".to_owned()).spawn_scoped(scope, write)?;
            let why = self.read(&mut frames, &far);
            self.closed.store(true, Ordering::Release);
            // Both wake the writer, wherever it is.
            let _ = self.stream.shutdown(Shutdown::Both);
            far.ring();
            why
        })
    }

    fn say_hello(&self) -> Result<(), WireError> {
        let mut bytes = Vec::new();
        Frame::Hello(Hello {
            largest_packet: LARGEST_PACKET as u32,
            credit: self.granted.load(Ordering::Relaxed),
            silence: u32::try_from(self.silence.as_millis()).unwrap_or(u32::MAX),
        })
        .encode(&mut bytes);
        self.send(&bytes)
    }

    /// Puts what comes on the cable. Nothing waits here: packets have room on the lane, for they have credit, and of link
    /// messages the lane loses those that are too many.
    fn read(&self, frames: &mut Frames, far: &FarEnd) -> Result<Infallible, WireError> {
        let mut credit = 0;
        loop {
            match frames.next()? {
                Frame::Hello(_) => return Err(WireError::SecondHello),
                Frame::Packet(packet) => {
                    credit += crate::wire::credit(&packet) as u64;
                    if credit > self.granted.load(Ordering::Acquire) {
                        return Err(WireError::Overrun);
                    }
                    far.put(Item::Packet(packet));
                }
                Frame::Message(message) => far.put(Item::Message(message)),
                Frame::Credit(now) => {
                    let then = self.limit.swap(now, Ordering::AcqRel);
                    if now < then {
                        return Err(WireError::CreditTakenBack { then, now });
                    }
                    far.ring();
                }
                Frame::KeepAlive => {}
            }
        }
    }

    /// Sends what the port puts on the cable as far as the peer has granted credit, credit for the peer, and at least
    /// something `every` so often.
    fn write(&self, far: &FarEnd, every: Duration) -> Result<(), WireError> {
        let (mut sent, mut granted) = (0, self.granted.load(Ordering::Relaxed));
        let (mut last, mut batch) = (Instant::now(), Vec::with_capacity(BATCH + LARGEST_PACKET));
        while !self.closed.load(Ordering::Acquire) {
            if !far.is_plugged() {
                return Err(WireError::Pulled);
            }
            batch.clear();
            if let Some(limit) = far.grant(granted) {
                granted = limit;
                self.granted.store(limit, Ordering::Release);
                Frame::Credit(limit).encode(&mut batch);
            }
            let mut left = self.limit.load(Ordering::Acquire).saturating_sub(sent);
            while batch.len() < BATCH
                && let Some((credit, item)) = far.take(left)
            {
                match item {
                    Item::Message(message) => Frame::Message(message).encode(&mut batch),
                    Item::Packet(packet) if (1..=LARGEST_PACKET).contains(&packet.bytes.len()) => {
                        (sent, left) = (sent + credit, left.saturating_sub(credit));
                        Frame::Packet(packet).encode(&mut batch);
                    }
                    // As on a cable that has no room for it: no port takes such a packet.
                    Item::Packet(packet) => log::debug!("a packet of {} bytes is lost", packet.bytes.len()),
                }
            }
            let idle = last.elapsed();
            if batch.is_empty() && idle >= every {
                Frame::KeepAlive.encode(&mut batch);
            }
            if batch.is_empty() {
                far.wait(left, every.saturating_sub(idle));
            } else {
                self.send(&batch)?;
                last = Instant::now();
            }
        }
        Ok(())
    }

    fn send(&self, bytes: &[u8]) -> Result<(), WireError> {
        let mut stream = self.stream;
        stream.write_all(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => WireError::Stuck(self.silence),
            _ => error.into(),
        })
    }

    /// The reader ends too, and what the writer says counts, unless it only saw the reader's end.
    fn writer_failed(&self, why: WireError) {
        if !self.closed.load(Ordering::Acquire) {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

/// What can't be worked with is refused; else the silence that the peer doesn't bear.
fn check(hello: &Hello) -> Result<Duration, WireError> {
    let silence = Duration::from_millis(hello.silence.into());
    for (what, value, least) in [
        ("largest packet", u64::from(hello.largest_packet), LARGEST_PACKET as u64),
        ("credit", hello.credit, LEAST_GRANT as u64),
        ("time to wait for a frame, in ms,", u64::from(hello.silence), LEAST_SILENCE.as_millis() as u64),
    ] {
        if value < least {
            return Err(WireError::Unusable { what, value, least });
        }
    }
    Ok(silence)
}

/// The frames that come.
#[derive(Debug)]
struct Frames {
    ingress: Ingress,
    decoder: Decoder,
    /// What came last, and how much of it is taken.
    data: Option<(Data, usize)>,
    silence: Duration,
    /// When the last whole frame came.
    heard: Instant,
}

impl Frames {
    fn new(stream: &TcpStream, silence: Duration) -> Result<Self, WireError> {
        let ingress = Ingress::auto(&opx_zcrx::Options::new().num_buffers(BUFFERS).refill_entries(BUFFERS));
        ingress.receive(stream.try_clone()?)?;
        Ok(Self { ingress, decoder: Decoder::default(), data: None, silence, heard: Instant::now() })
    }

    /// Waits for the next one. Whole frames count: bytes that trickle don't make a peer alive.
    fn next(&mut self) -> Result<Frame, WireError> {
        loop {
            if let Some((data, taken)) = &mut self.data {
                let mut bytes = data.get(*taken..).unwrap_or_default();
                if let Some(frame) = self.decoder.next(&mut bytes)? {
                    *taken = data.len() - bytes.len();
                    self.heard = Instant::now();
                    return Ok(frame);
                }
                self.data = None;
            }
            let kept = self.decoder.kept();
            match self.ingress.next() {
                Some(Incoming::Data { data, .. }) => self.data = Some((data, 0)),
                Some(Incoming::End { .. }) => return Err(WireError::Ended { kept }),
                Some(Incoming::Failed { error, .. }) => return Err(error.into()),
                Some(_) => {}
                None => {
                    let left = self.silence.saturating_sub(self.heard.elapsed());
                    if left.is_zero() {
                        return Err(WireError::Silent { limit: self.silence, kept });
                    }
                    self.ingress.wait(Some(left))?;
                }
            }
        }
    }
}
