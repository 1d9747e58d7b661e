//! Plain receive, for where there is no zero-copy: the kernel copies into this process' memory.

use crate::ingress::{Data, Incoming};
use crate::receive::StreamId;
use crate::receive::Streams;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Most bytes received at once.
const AT_ONCE: usize = 64 << 10;

/// Sockets received from by plain system calls.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    streams: RefCell<Streams>,
    incoming: RefCell<VecDeque<Incoming>>,
    /// Where the kernel puts what comes: [`AT_ONCE`] bytes, from the first time on.
    bytes: RefCell<Vec<u8>>,
}

impl Plain {
    pub(crate) fn receive(&self, socket: OwnedFd) -> Option<StreamId> {
        self.streams.borrow_mut().add(socket)
    }

    pub(crate) fn stop(&self, stream: StreamId) {
        if self.streams.borrow_mut().remove(stream).is_some() {
            self.incoming.borrow_mut().push_back(Incoming::End { stream });
        }
    }

    /// Waits for something to receive, unless something is there, and receives once from each stream that has some.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> io::Result<()> {
        let mut streams = self.streams.borrow_mut();
        let mut incoming = self.incoming.borrow_mut();
        let limit = if incoming.is_empty() { limit } else { Some(Duration::ZERO) };
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let readable: Vec<StreamId> = {
            let all: Vec<_> = streams.iter_mut().map(|stream| &*stream).collect();
            let mut wanted: Vec<PollFd<'_>> =
                all.iter().map(|stream| PollFd::from_borrowed_fd(stream.socket.as_fd(), PollFlags::IN)).collect();
            match poll(&mut wanted, limit.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let has = |wanted: &PollFd<'_>| !wanted.revents().is_empty();
            all.iter().zip(&wanted).filter(|(_, wanted)| has(wanted)).map(|(stream, _)| stream.id).collect()
        };
        let mut bytes = self.bytes.borrow_mut();
        bytes.resize(AT_ONCE, 0);
        for id in readable {
            let Some(stream) = streams.get(id) else { continue };
            match recv(&stream.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => {
                    streams.remove(id);
                    incoming.push_back(Incoming::End { stream: id });
                }
                Ok((_, len)) => {
                    let data = bytes.get(..len).unwrap_or_default().to_vec();
                    incoming.push_back(Incoming::Data { stream: id, data: Data::Copied(data) });
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => {
                    streams.remove(id);
                    incoming.push_back(Incoming::Failed { stream: id, error: io::Error::from(error).into() });
                }
            }
        }
        Ok(())
    }

    pub(crate) fn next(&self) -> Option<Incoming> {
        self.incoming.borrow_mut().pop_front()
    }
}
