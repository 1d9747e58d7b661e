//! Sleeping until there is something to do, and what the kernel has to tell.

use super::{MOST_READY, Node, SILENT, leave, token, want};
use crate::barrier;
use crate::error::{PeerGone, PollError};
use crate::link::Link;
use crate::slab::{Key, Slab};
use rustix::event::{Timespec, epoll};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

impl Node {
    /// Sleeps until there is something to do, for `timeout` at most; tells whether there may be. A message, a new peer, the
    /// end of one, and room for what was refused with [`crate::SendError::Again`] wake it.
    ///
    /// # Errors
    /// In a forked child, and when the system refuses.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, PollError> {
        if !self.arm()? {
            return Ok(true);
        }
        self.look(timeout)
    }

    /// Readable when there is something to do, if [`Node::arm`] allowed to sleep.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Has peers ring from now on. False when there is something to do at once; otherwise one may sleep until [`Node::fd`] is
    /// readable, and has to poll then.
    ///
    /// # Errors
    /// In a forked child.
    pub fn arm(&mut self) -> Result<bool, PollError> {
        self.check_fork()?;
        self.look_now = true;
        let transfers = &self.transfers;
        if !self.events.is_empty()
            || !self.gone.is_empty()
            || !transfers.reading.is_empty()
            || !transfers.copied.is_empty()
        {
            return Ok(false);
        }
        for key in &self.noting {
            if let Some(link) = self.links.get_mut(*key) {
                want(link, *key, &mut self.wanting);
            }
        }
        for key in &transfers.serving {
            if let Some(link) = self.links.get_mut(*key) {
                want(link, *key, &mut self.wanting);
            }
        }
        for key in &self.wanting {
            if let Some(link) = self.links.get_mut(*key) {
                link.sender.want_room();
            }
        }
        let has_room =
            |links: &Slab<Box<Link>>, key: &Key| links.get(*key).is_some_and(|link| link.sender.has_got_room());
        self.cool(|_| true);
        let room = self.wanting.iter().any(|key| has_room(&self.links, key));
        if room {
            self.stop_wanting();
        }
        let links = &self.links;
        let nothing = self.hot.iter().all(|key| links.get(*key).is_some_and(|link| link.is_held));
        Ok(nothing && !room)
    }

    pub(super) fn stop_wanting(&mut self) {
        for key in std::mem::take(&mut self.wanting) {
            if let Some(link) = self.links.get_mut(key) {
                link.sender.stop_wanting();
                link.is_wanting = false;
            }
        }
    }

    /// Has those peers ring that `which` names. They stay hot if something is there already.
    pub(super) fn cool(&mut self, which: impl Fn(&Link) -> bool) {
        for key in &self.hot {
            if let Some(link) = self.links.get_mut(*key)
                && which(link)
            {
                link.receiver.go_cold();
            }
        }
        barrier::heavy_fence();
        let links = &mut self.links;
        self.hot.retain(|key| {
            let Some(link) = links.get_mut(*key) else { return false };
            if link.receiver.is_cold() && link.receiver.is_empty() && link.going.is_none() {
                link.is_hot = false;
                return false;
            }
            link.receiver.go_hot();
            true
        });
    }

    /// Has peers ring that have been silent, when there are many.
    pub(super) fn retire(&mut self) {
        if self.hot.len() <= self.config.hot_peers {
            return;
        }
        let mut silent = false;
        for key in &self.hot {
            if let Some(link) = self.links.get_mut(*key) {
                link.silent = link.silent.saturating_add(1);
                silent |= link.silent > SILENT;
            }
        }
        if silent {
            let before = self.hot.len();
            self.cool(|link| link.silent > SILENT);
            self.counters.retired += (before - self.hot.len()) as u64;
        }
    }

    /// Hears what the kernel has to tell, and waits for it.
    #[cold]
    #[inline(never)]
    pub(super) fn look(&mut self, timeout: Option<Duration>) -> Result<bool, PollError> {
        self.look_now = false;
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut ready = [const { MaybeUninit::<epoll::Event>::uninit() }; MOST_READY];
        let ready = match epoll::wait(&self.epoll, &mut ready, timeout.as_ref()) {
            Ok((ready, _)) => ready,
            Err(rustix::io::Errno::INTR) => &mut [],
            Err(why) => return Err(io::Error::from(why).into()),
        };
        self.stop_wanting();
        for event in &*ready {
            let token = event.data.u64();
            let key = token & !token::KIND;
            match token & token::KIND {
                token::SOCKET => {
                    self.hear(key);
                    self.unwatch(key);
                }
                token::PROCESS => {
                    // What it said last is still to be heard.
                    self.hear(key);
                    if let Some(link) = self.links.get_mut(key) {
                        leave(link, key, PeerGone::Died, &mut self.hot);
                    }
                    self.unwatch(key);
                }
                token::ARRIVING => {
                    if let Some(socket) = self.arriving.remove(key) {
                        self.greet(socket);
                    }
                }
                _ => self.accept(),
            }
        }
        Ok(!ready.is_empty())
    }
}
