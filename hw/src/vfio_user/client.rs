//! One connection to a vfio-user server: requests and checked replies, every wait with a bound.
//!
//! The client of the crate `vfio_user` is not used: it takes an error reply for success, waits without limit for bytes
//! that a refused request never brings, asserts on lengths that the server chose, and has no posted writes. A register
//! access to a server that died must end in an error, so the framing is done here; it is short.

use super::message::{Command, HEADER_LEN, Header, MAX_REPLY};
use opx_bus::ProcessMark;
use opx_bus::poll::TimedOut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, sendmsg, shutdown, socket_with,
};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::ops::RangeInclusive;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// File descriptors that fit in one message, whatever the server says: the crate `vfio_user` takes no more.
pub(super) const MAX_FDS: usize = 16;

/// Why nothing more can be said to the server.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer to {command:?}: {source}")]
    Silent { command: Command, source: TimedOut },
    #[error("the server closed the connection")]
    Closed,
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    #[error("socket error: {0}")]
    Io(io::Error),
    #[error("{0}")]
    Earlier(String),
    /// The socket is shared with the process that this one was forked from, and one of its threads may hold the lock for ever.
    #[error("it belongs to the process that this one was forked from")]
    Forked,
}

/// A request that wasn't answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The server said no; it can be asked for other things.
    #[error("the server refused {command:?}: {source}")]
    Refused { command: Command, source: io::Error },
    /// The connection is of no use any more.
    #[error(transparent)]
    Gone(#[from] Failure),
}

/// A connection. One request is under way at a time; posted writes keep their place in the stream.
#[derive(Debug)]
pub(super) struct Client {
    socket: OwnedFd,
    limit: Duration,
    stream: Mutex<Stream>,
    /// Some of a packet's blocks are gathered.
    gathered: AtomicBool,
    gone: OnceLock<String>,
    process: ProcessMark,
}

#[derive(Debug)]
struct Stream {
    next_id: u16,
    buffer: Vec<u8>,
    /// Messages with the blocks of packets that aren't complete.
    gathered: Vec<u8>,
    /// Blocks that they lack.
    missing: u32,
}

/// Bytes of gathered blocks that are sent at the latest: a packet of 10 KiB fits.
const GATHERED: usize = 1 << 14;

impl Stream {
    /// The header of the next request.
    fn header(&mut self, command: Command, len: usize, posted: bool) -> Header {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        Header::request(id, command, len, posted)
    }
}

impl Client {
    /// Connects. Each request and each reply may then take `limit`.
    pub fn connect(path: &Path, limit: Duration) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // The send timeout also bounds connect(), that would wait for room in the backlog of a server that hangs.
        set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(limit))?;
        let start = Instant::now();
        loop {
            match connect(&socket, &address) {
                Err(Errno::INTR) if start.elapsed() < limit => {}
                result => break result?,
            }
        }
        let stream = Stream {
            next_id: 0,
            buffer: vec![0; MAX_REPLY + 1],
            gathered: Vec::with_capacity(2 * GATHERED),
            missing: 0,
        };
        let gathered = AtomicBool::new(false);
        Ok(Self {
            socket,
            limit,
            stream: Mutex::new(stream),
            gathered,
            gone: OnceLock::new(),
            process: ProcessMark::here(),
        })
    }

    /// Changes the bound on requests.
    pub fn set_limit(&mut self, limit: Duration) -> io::Result<()> {
        set_socket_timeout(&self.socket, Timeout::Send, Some(limit))?;
        set_socket_timeout(&self.socket, Timeout::Recv, Some(limit))?;
        self.limit = limit;
        Ok(())
    }

    /// That this process has connected, and wasn't forked from the one that did.
    pub fn check_ours(&self) -> Result<(), Failure> {
        if self.process.is_here() { Ok(()) } else { Err(Failure::Forked) }
    }

    /// Why the server is gone, when it is known to be.
    pub fn gone(&self) -> Option<&str> {
        self.gone.get().map(String::as_str)
    }

    /// Looks whether the server has hung up, without waiting.
    pub fn check(&self) -> Option<&str> {
        if self.gone.get().is_none() && self.process.is_here() {
            let mut fds = [PollFd::new(&self.socket, PollFlags::RDHUP)];
            let hung_up = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if poll(&mut fds, Some(&now)).is_ok() && fds.iter().any(|fd| fd.revents().intersects(hung_up)) {
                self.fail(Failure::Closed);
            }
        }
        self.gone()
    }

    /// Gives up on the connection for a reason of the caller's.
    pub fn give_up(&self, why: String) {
        self.fail(Failure::Earlier(why));
    }

    /// Gives up on the connection; every later request fails at once.
    fn fail(&self, failure: Failure) -> Failure {
        if !self.process.is_here() {
            return failure;
        }
        self.gone.get_or_init(|| failure.to_string());
        // Threads that wait for a reply wake up, and the server is free for its next client.
        let _ = shutdown(&self.socket, Shutdown::Both);
        failure
    }

    /// Sends a request with `body` and `fds` and hands the reply's body, whose length must be in `expected`, to `parse`,
    /// that returns what is wrong with it if anything is.
    pub fn request<T>(
        &self,
        command: Command,
        body: &[&[u8]],
        fds: &[BorrowedFd<'_>],
        expected: RangeInclusive<usize>,
        parse: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T, RequestError> {
        self.check_ours()?;
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + self.limit;
        let result = self.send(&mut stream, command, body, fds, false, deadline).and_then(|id| {
            // One byte of room more than the reply may have, to notice when it has more.
            let max = (HEADER_LEN + expected.end() + 1).min(stream.buffer.len());
            let Some(buffer) = stream.buffer.get_mut(..max) else { return Err(Failure::Closed) };
            self.receive(command, id, buffer, expected, deadline)
        });
        match result {
            Ok(Reply::Body(body)) => {
                parse(body).map_err(|what| self.fail(Failure::Protocol(format!("{command:?}: {what}"))).into())
            }
            Ok(Reply::Refused(source)) => Err(RequestError::Refused { command, source }),
            Err(failure) => Err(self.fail(failure).into()),
        }
    }

    /// Sends a request and doesn't wait for a reply: the server executes it before any later request.
    pub fn post(&self, command: Command, body: &[&[u8]]) {
        if !self.process.is_here() {
            return;
        }
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(failure) = self.send(&mut stream, command, body, &[], true, Instant::now() + self.limit) {
            self.fail(failure);
        }
    }

    /// As [`Client::post`], but the message may wait for the other blocks of its packet, so that a packet is one system call:
    /// the adapter does nothing with a part of it. Any other message, and [`Client::flush`], takes along what is gathered.
    /// `begins`: the blocks of the packet that begins with this one.
    pub fn post_block(&self, command: Command, body: &[&[u8]], begins: Option<u32>) {
        if !self.process.is_here() {
            return;
        }
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let len = body.iter().map(|part| part.len()).sum();
        let header = stream.header(command, len, true);
        stream.gathered.extend_from_slice(&header.to_bytes());
        body.iter().for_each(|part| stream.gathered.extend_from_slice(part));
        stream.missing = stream.missing.saturating_add(begins.unwrap_or(0)).saturating_sub(1);
        let wait = stream.missing != 0 && stream.gathered.len() < GATHERED;
        self.gathered.store(wait, Ordering::Release);
        if !wait && let Err(failure) = self.send_gathered(&mut stream, command, Instant::now() + self.limit) {
            self.fail(failure);
        }
    }

    /// Sends what is gathered.
    #[inline]
    pub fn flush(&self) {
        if self.gathered.load(Ordering::Acquire) && self.process.is_here() {
            let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
            let deadline = Instant::now() + self.limit;
            if let Err(failure) = self.send_gathered(&mut stream, Command::RegionWrite, deadline) {
                self.fail(failure);
            }
        }
    }

    fn send_gathered(&self, stream: &mut Stream, command: Command, deadline: Instant) -> Result<(), Failure> {
        self.gathered.store(false, Ordering::Release);
        stream.missing = 0;
        if stream.gathered.is_empty() {
            return Ok(());
        }
        let sent = match self.gone() {
            Some(why) => Err(Failure::Earlier(why.to_owned())),
            None => self.send_parts(command, &mut [IoSlice::new(&stream.gathered)], &[], deadline),
        };
        stream.gathered.clear();
        sent
    }

    fn send(
        &self,
        stream: &mut Stream,
        command: Command,
        body: &[&[u8]],
        fds: &[BorrowedFd<'_>],
        posted: bool,
        deadline: Instant,
    ) -> Result<u16, Failure> {
        if let Some(why) = self.gone() {
            return Err(Failure::Earlier(why.to_owned()));
        }
        self.send_gathered(stream, command, deadline)?;
        let header = stream.header(command, body.iter().map(|part| part.len()).sum(), posted);
        let bytes = header.to_bytes();
        let mut parts = [IoSlice::new(&bytes), IoSlice::new(&[]), IoSlice::new(&[]), IoSlice::new(&[])];
        for (slot, part) in parts.iter_mut().skip(1).zip(body) {
            *slot = IoSlice::new(part);
        }
        self.send_parts(command, &mut parts, fds, deadline)?;
        Ok(header.id)
    }

    /// Sends bytes, and descriptors with the first of them.
    fn send_parts(
        &self,
        command: Command,
        mut parts: &mut [IoSlice<'_>],
        mut fds: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), Failure> {
        let mut left: usize = parts.iter().map(|part| part.len()).sum();
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(Failure::Io(io::ErrorKind::InvalidInput.into()));
            }
            match sendmsg(&self.socket, parts, &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => {
                    left = left.saturating_sub(sent);
                    if left == 0 {
                        return Ok(());
                    }
                    IoSlice::advance_slices(&mut parts, sent);
                    // The descriptors went with the first byte.
                    fds = &[];
                }
                Err(Errno::INTR) => {}
                // The kernel's own send timeout is coarse: it has been seen to take twice its time.
                Err(Errno::AGAIN) => self.wait(command, PollFlags::OUT, deadline)?,
                Err(error) => return Err(self.socket_failure(command, error)),
            }
        }
    }

    fn receive<'a>(
        &self,
        command: Command,
        id: u16,
        buffer: &'a mut [u8],
        expected: RangeInclusive<usize>,
        deadline: Instant,
    ) -> Result<Reply<'a>, Failure> {
        let mut have = 0;
        let mut header = None;
        // A reply is read as a whole when it has arrived as a whole, which is the common case.
        while header.is_none_or(|header: Header| have < header.size as usize) {
            // Not left to the socket's own timeout, which is coarse and begins anew with each call.
            self.wait(command, PollFlags::IN, deadline)?;
            let Some(room) = buffer.get_mut(have..) else { break };
            match recv(&self.socket, room, RecvFlags::empty()) {
                Ok((_, 0)) => return Err(Failure::Closed),
                Ok((_, count)) => have += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.socket_failure(command, error)),
            }
            if header.is_none()
                && have >= HEADER_LEN
                && let Some(arrived) = Header::from_bytes(buffer)
            {
                check(&arrived, command, id, &expected).map_err(Failure::Protocol)?;
                header = Some(arrived);
            }
        }
        let Some(header) = header else { return Err(Failure::Closed) };
        if have != header.size as usize {
            return Err(Failure::Protocol(format!(
                "{} bytes after the reply to {command:?}",
                have - header.size as usize
            )));
        }
        if header.is_error() {
            let source = match i32::try_from(header.error) {
                Ok(errno @ 1..) => io::Error::from_raw_os_error(errno),
                _ => io::Error::other("it gave no reason"),
            };
            return Ok(Reply::Refused(source));
        }
        Ok(Reply::Body(buffer.get(HEADER_LEN..have).unwrap_or_default()))
    }

    /// Waits until the socket is ready for `what`.
    fn wait(&self, command: Command, what: PollFlags, deadline: Instant) -> Result<(), Failure> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.socket_failure(command, Errno::AGAIN));
            }
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.socket, what)], Some(&left)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(Failure::Io(error.into())),
            }
        }
    }

    fn socket_failure(&self, command: Command, error: Errno) -> Failure {
        match error {
            Errno::AGAIN => Failure::Silent { command, source: TimedOut { limit: self.limit } },
            Errno::PIPE | Errno::CONNRESET => Failure::Closed,
            error => Failure::Io(error.into()),
        }
    }
}

enum Reply<'a> {
    Body(&'a [u8]),
    Refused(io::Error),
}

/// Checks a reply's header against the request it should answer.
fn check(header: &Header, command: Command, id: u16, expected: &RangeInclusive<usize>) -> Result<(), String> {
    let &Header { size, .. } = header;
    if !header.is_reply() {
        return Err(format!("a request (command {}) came in place of the reply to {command:?}", header.command));
    }
    if header.id != id && header.is_error() {
        // The server of the crate `vfio_user` tells of errors even where no reply is wanted.
        return Err(format!("it refused posted command {} (errno {})", header.command, header.error));
    }
    if header.id != id {
        return Err(format!("the reply to {command:?} has id {}, expected {id}", header.id));
    }
    if header.command != command as u16 {
        return Err(format!("the reply to {command:?} is for command {}", header.command));
    }
    let (min, max) = (if header.is_error() { 0 } else { *expected.start() }, *expected.end());
    let body = (size as usize).checked_sub(HEADER_LEN);
    if !body.is_some_and(|body| (min..=max).contains(&body)) {
        return Err(format!(
            "the reply to {command:?} has {size} bytes, expected {} to {}",
            HEADER_LEN + min,
            HEADER_LEN + max
        ));
    }
    Ok(())
}
