//! An interrupt vector as an eventfd.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, read, write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// One MSI-X vector's eventfd. Clones share it.
#[derive(Debug, Clone)]
pub struct Irq {
    fd: Arc<OwnedFd>,
}

impl Irq {
    /// A new eventfd, not raised.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self::from(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// The eventfd.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Raises it, as the device does.
    pub fn raise(&self) {
        // Only a counter at its maximum refuses, and then it is raised already.
        let _ = write(&*self.fd, &1u64.to_ne_bytes());
    }

    /// Takes the event: `true` when it had been raised since the last call.
    ///
    /// # Errors
    /// When the eventfd can't be read.
    pub fn take(&self) -> io::Result<bool> {
        let mut count = [0; 8];
        match read(&*self.fd, &mut count) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it is raised, at most `limit`, and takes the event.
    ///
    /// # Errors
    /// When the eventfd can't be polled or read.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        let deadline = std::time::Instant::now() + limit;
        loop {
            if self.take()? {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            match poll(&mut [PollFd::new(&*self.fd, PollFlags::IN)], Some(&left)) {
                // A signal cuts the wait short; the deadline still holds.
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl From<OwnedFd> for Irq {
    fn from(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_taken_once() {
        let irq = Irq::new().unwrap();
        assert!(!irq.take().unwrap());
        irq.raise();
        irq.raise();
        assert!(irq.wait(Duration::from_secs(1)).unwrap());
        assert!(!irq.wait(Duration::ZERO).unwrap());
    }
}
