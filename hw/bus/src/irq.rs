//! An interrupt vector as an eventfd, and several of them as one.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::io::{Errno, read, write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// One MSI-X vector's eventfd, or several as one ([`Irq::any_of`]). Clones share it.
#[derive(Debug, Clone)]
pub struct Irq {
    fd: Arc<OwnedFd>,
    /// Those that it stands for; none for an eventfd of its own.
    members: Arc<[Irq]>,
}

impl Irq {
    /// A new eventfd, not raised.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self::from(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Stands for all of `members`: it is raised as long as one of them is. Taking it takes nothing from them, so who has
    /// waited for it takes the events of those that he looks after; raising it does nothing.
    ///
    /// ```
    /// use opx_bus::Irq;
    /// use std::time::Duration;
    /// let (one, other) = (Irq::new()?, Irq::new()?);
    /// let any = Irq::any_of(&[one.clone(), other.clone()])?;
    /// other.raise();
    /// assert!(any.wait(Duration::from_secs(1))?);
    /// assert!(!one.take()? && other.take()? && !any.take()?);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// When the process has no file descriptor left, or one of them is there twice.
    pub fn any_of(members: &[Self]) -> io::Result<Self> {
        if members.is_empty() {
            return Self::new();
        }
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for member in members {
            epoll::add(&fd, &*member.fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        }
        Ok(Self { fd: Arc::new(fd), members: members.into() })
    }

    /// The eventfd; of several, what tells like one that there is something to take.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Raises it, as the device does.
    pub fn raise(&self) {
        if !self.members.is_empty() {
            return;
        }
        // Only a counter at its maximum refuses, and then it is raised already.
        let _ = write(&*self.fd, &1u64.to_ne_bytes());
    }

    /// Takes the event: `true` when it had been raised since the last call.
    ///
    /// # Errors
    /// When the eventfd can't be read.
    pub fn take(&self) -> io::Result<bool> {
        if !self.members.is_empty() {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            return match poll(&mut [PollFd::new(&*self.fd, PollFlags::IN)], Some(&now)) {
                Ok(ready) => Ok(ready > 0),
                Err(Errno::INTR) => Ok(false),
                Err(error) => Err(error.into()),
            };
        }
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
        Self { fd: Arc::new(fd), members: Arc::default() }
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

    #[test]
    fn several_are_raised_until_the_last_of_them_is_taken() {
        let members = [0; 3].map(|_| Irq::new().unwrap());
        let any = Irq::any_of(&members).unwrap();
        assert!(!any.wait(Duration::ZERO).unwrap());
        members[0].raise();
        members[2].raise();
        assert!(any.take().unwrap() && any.take().unwrap());
        assert!(members[0].take().unwrap() && any.wait(Duration::ZERO).unwrap());
        assert!(members[2].take().unwrap() && !any.take().unwrap());
        any.raise();
        assert!(!any.take().unwrap());
        assert!(Irq::any_of(&[members[0].clone(), members[0].clone()]).is_err());
    }
}
