//! A process's end: its peers, and what goes on with them.

mod connections;
mod sleep;
#[cfg(test)]
mod tests;
mod transfers;

use crate::barrier;
use crate::config::Config;
use crate::error::{Forked, KernelCopy, OpenError, PeerGone, PollError, SendError};
use crate::large::Transfers;
use crate::link::{Link, class};
use crate::message::{Event, Header, Message, PeerId};
use crate::ring::{Broken, Head, Sent, Unsent};
use crate::segment;
use crate::slab::{Key, Slab};
use crate::socket::{self, Introduction};
use crate::sys::ForkGuard;
use connections::watch;
use rustix::event::epoll;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use transfers::other;

/// Of so many polls one looks at what only the kernel knows: new peers, peers that have ended, doorbells.
const LOOK: u32 = 256;
/// And of so many one tries to listen, if descriptors had run out.
const LISTEN: u32 = 1 << 16;
/// Messages of one peer before it is another's turn.
const TURN: usize = 16;
/// Connections that haven't said who they are.
const MOST_ARRIVING: usize = 64;
/// Things that the kernel tells at once.
const MOST_READY: usize = 64;
/// Looks in which a peer says nothing before it has to ring, if there are more than are looked at otherwise.
const SILENT: u8 = 4;
/// Answers that wait for a peer to read. A peer has as many offers open at most.
const MOST_NOTES: usize = 1 << 16;
/// Records of a socket that are read at once.
const MOST_HEARD: usize = 16;

/// What a file descriptor is, in the upper two bits of what epoll gives back.
mod token {
    pub(super) const LISTENER: u64 = 0;
    pub(super) const ARRIVING: u64 = 1 << 62;
    pub(super) const SOCKET: u64 = 2 << 62;
    pub(super) const PROCESS: u64 = 3 << 62;
    pub(super) const KIND: u64 = 3 << 62;
}

/// What happened how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Messages that found no room.
    pub again: u64,
    /// Peers that had to be woken.
    pub rings: u64,
    /// Peers that were silent and have to ring from then on.
    pub retired: u64,
    /// Connections that were refused.
    pub refused: u64,
    /// Records that belonged to no transfer.
    pub strays: u64,
    /// Pulls through the ring.
    pub ring_pulls: u64,
    /// Pulls by the kernel.
    pub kernel_pulls: u64,
    /// Pulls that the kernel began and the ring finished.
    pub kernel_refusals: u64,
}

/// A process's end of the shared memory.
///
/// It is driven by [`Node::poll`]; no thread is behind it.
pub struct Node {
    guard: ForkGuard,
    links: Slab<Box<Link>>,
    /// Those that are looked at.
    hot: Vec<Key>,
    polls: u32,
    /// Look at the next poll.
    look_now: bool,
    /// Some of what follows isn't empty.
    is_busy: bool,
    events: VecDeque<Event<'static>>,
    transfers: Transfers,
    /// Links with notes that found no room.
    noting: Vec<Key>,
    /// Links that have refused something for lack of room.
    wanting: Vec<Key>,
    /// Links that are gone and read out.
    gone: Vec<Key>,
    arriving: Slab<OwnedFd>,
    config: Config,
    name: String,
    listener: OwnedFd,
    /// Nobody is told when somebody connects.
    is_deaf: bool,
    epoll: OwnedFd,
    /// What the probe in `this` points to.
    #[expect(dead_code, reason = "peers read it")]
    probe: Box<u64>,
    this: Introduction,
    counters: Counters,
}

impl Node {
    /// Opens a node under a name that no other process of this network namespace has. Nodes of different jobs are kept apart by
    /// their names, so these should begin with the job's id.
    ///
    /// # Errors
    /// When the name is taken or too long, a setting can't be, or the system refuses.
    pub fn open(name: &str, config: Config) -> Result<Self, OpenError> {
        if !socket::is_name(name) {
            return Err(OpenError::Name(name.len()));
        }
        if !segment::is_ring(config.ring_bytes) {
            return Err(OpenError::RingBytes(config.ring_bytes));
        }
        let guard = ForkGuard::new()?;
        let listener = socket::publish(name).map_err(|why| match why.kind() {
            io::ErrorKind::AddrInUse => OpenError::NameTaken(name.to_owned()),
            _ => OpenError::Io(why),
        })?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from)?;
        watch(&epoll, &listener, token::LISTENER)?;
        // Nothing secret, but nothing that would be there by chance.
        let probe = Box::new(std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), name));
        let at = std::ptr::from_ref(&*probe).expose_provenance() as u64;
        let this = Introduction { fences: barrier::take_part(), probe: (at, *probe) };
        Ok(Self {
            guard,
            links: Slab::default(),
            hot: Vec::new(),
            polls: 0,
            look_now: true,
            is_busy: false,
            events: VecDeque::new(),
            transfers: Transfers::default(),
            noting: Vec::new(),
            wanting: Vec::new(),
            gone: Vec::new(),
            arriving: Slab::default(),
            config,
            name: name.to_owned(),
            listener,
            is_deaf: false,
            epoll,
            probe,
            this,
            counters: Counters::default(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What happened how often.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// A peer's name: what it was connected by, or says to be.
    pub fn peer_name(&self, peer: PeerId) -> Option<&str> {
        self.links.get(peer.0).map(|link| &*link.name)
    }

    /// Bytes of the longest message to a peer, which follow from the size of its ring.
    ///
    /// # Errors
    /// When there is no such peer.
    pub fn longest(&self, peer: PeerId) -> Result<usize, PeerGone> {
        self.links.get(peer.0).map(|link| link.sender.longest()).ok_or(PeerGone::Unknown)
    }

    /// Whether the kernel copies from a peer's memory, or why not.
    ///
    /// # Errors
    /// The reason.
    pub fn kernel_copy(&self, peer: PeerId) -> Result<(), KernelCopy> {
        self.links.get(peer.0).map_or(Err(KernelCopy::NotKnown), |link| link.kernel)
    }

    #[inline(always)]
    fn check_fork(&self) -> Result<(), Forked> {
        if self.guard.is_child() { Err(Forked) } else { Ok(()) }
    }

    /// Sends a message, whose payload is these parts one after the other. It is in the ring when this returns: the peer gets
    /// it even if this process ends.
    ///
    /// # Errors
    /// [`SendError::Again`] when there is no room: poll, or [`Node::wait`] for some. Otherwise see [`SendError`].
    #[inline]
    pub fn try_send(&mut self, peer: PeerId, header: Header, parts: &[&[u8]]) -> Result<(), SendError> {
        let head = Head { class: class::MESSAGE, kind: header.kind, words: header.words };
        self.send(peer.0, head, parts)
    }

    #[inline]
    fn send(&mut self, key: Key, head: Head, parts: &[&[u8]]) -> Result<(), SendError> {
        self.check_fork()?;
        let link = self.links.get_mut(key).ok_or(PeerGone::Unknown)?;
        if let Some((why, _)) = link.going {
            return Err(why.into());
        }
        match link.sender.send(head, parts) {
            Ok(Sent::Quiet) => Ok(()),
            Ok(sent) => {
                self.counters.rings += link.ring_if(sent);
                Ok(())
            }
            Err(why) => Err(self.unsent(key, why, parts)),
        }
    }

    #[cold]
    #[inline(never)]
    fn unsent(&mut self, key: Key, why: Unsent, parts: &[&[u8]]) -> SendError {
        let Some(link) = self.links.get_mut(key) else { return PeerGone::Unknown.into() };
        match why {
            Unsent::Full => {
                self.counters.again += 1;
                want(link, key, &mut self.wanting);
                SendError::Again
            }
            Unsent::TooLong => {
                let len = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
                SendError::TooLong { len, longest: link.sender.longest() }
            }
            Unsent::Broken(Broken(why)) => {
                leave(link, key, PeerGone::Broken(why), &mut self.hot);
                PeerGone::Broken(why).into()
            }
        }
    }

    fn tell(&mut self, event: Event<'static>) {
        self.events.push_back(event);
        self.is_busy = true;
    }

    /// Does what there is to do, and hands over what has come: messages of each peer in order, a few at a time. Tells how much
    /// that was; 0 doesn't mean that nothing is there, as a message may come any time. When nothing is to be done it takes a
    /// look at the rings of those peers that were heard of lately, and nothing else.
    ///
    /// # Errors
    /// In a forked child, and when the system refuses.
    #[inline]
    pub fn poll(&mut self, mut handler: impl FnMut(Event<'_>)) -> Result<usize, PollError> {
        self.check_fork()?;
        self.polls = self.polls.wrapping_add(1);
        if self.polls.is_multiple_of(LOOK) || self.look_now {
            self.look(Some(Duration::ZERO))?;
            self.retire();
            if self.polls.is_multiple_of(LISTEN) {
                self.listen();
            }
        }
        let mut count = 0;
        if self.is_busy {
            count += self.work(&mut handler);
        }
        let Self { links, hot, transfers, events, counters, gone, is_busy, .. } = self;
        for key in &*hot {
            let Some(link) = links.get_mut(*key) else { continue };
            for turn in 0..TURN {
                let record = match link.receiver.next() {
                    Ok(Some(record)) if link.going.is_none() || may_read(link) => record,
                    next => {
                        if turn == 0 && (next.is_err() || link.going.is_some()) {
                            at_end(link, next.err());
                            gone.push(*key);
                            *is_busy = true;
                        }
                        break;
                    }
                };
                link.silent = 0;
                count = count.wrapping_add(1);
                let is_message = record.head.class == class::MESSAGE;
                if is_message {
                    let header = Header { kind: record.head.kind, words: record.head.words };
                    let peer = PeerId(link.peer);
                    handler(Event::Message(Message { peer, header, receiver: &link.receiver, record }));
                } else {
                    other(link, *key, &record, transfers, events, counters);
                    *is_busy |= !events.is_empty() || !transfers.serving.is_empty();
                }
                if link.receiver.consume(&record) == Sent::Ring {
                    counters.rings += link.ring_if(Sent::Ring);
                }
                // What it led to is told before the next message.
                if !is_message && !events.is_empty() {
                    break;
                }
            }
        }
        if self.is_busy {
            count += self.work(&mut handler);
        }
        Ok(count)
    }

    /// All but messages.
    #[cold]
    #[inline(never)]
    fn work(&mut self, handler: &mut impl FnMut(Event<'_>)) -> usize {
        for key in std::mem::take(&mut self.gone) {
            self.bury(key);
        }
        for key in std::mem::take(&mut self.noting) {
            if self.links.get_mut(key).is_some_and(|link| !link.send_notes()) {
                self.noting.push(key);
            }
        }
        for _ in 0..self.transfers.serving.len() {
            self.serve();
        }
        for _ in 0..self.transfers.reading.len() {
            if let Some(id) = self.transfers.reading.pop_front() {
                self.kernel_step(id);
            }
        }
        let count = self.events.len();
        for event in self.events.drain(..) {
            handler(event);
        }
        self.is_busy = !self.noting.is_empty()
            || !self.transfers.serving.is_empty()
            || !self.transfers.reading.is_empty()
            || !self.gone.is_empty();
        count
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name)
            .field("links", &self.links)
            .field("transfers", &self.transfers)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A child's copy has no say in it.
        if self.guard.is_child() {
            return;
        }
        for (_, link) in self.links.iter() {
            let _ = socket::tell(link.socket.as_fd(), &socket::Record::Bye, None);
        }
    }
}

/// From now on it is looked at.
fn heat(link: &mut Link, key: Key, hot: &mut Vec<Key>) {
    link.silent = 0;
    link.receiver.go_hot();
    if !link.is_hot {
        link.is_hot = true;
        hot.push(key);
    }
}

/// It is gone once it was read out. A peer that lives on could write for ever.
fn leave(link: &mut Link, key: Key, why: PeerGone, hot: &mut Vec<Key>) {
    if link.going.is_none() {
        link.going = Some((why, link.receiver.slots()));
    }
    heat(link, key, hot);
}

fn want(link: &mut Link, key: Key, wanting: &mut Vec<Key>) {
    if !link.is_wanting {
        link.is_wanting = true;
        wanting.push(key);
    }
}

/// Whether another message of a peer that is gone is read. There can't be more than fit into its ring, unless it goes on
/// writing.
#[cold]
#[inline(never)]
fn may_read(link: &mut Link) -> bool {
    match &mut link.going {
        None => true,
        Some((_, 0)) => false,
        Some((_, left)) => {
            *left -= 1;
            true
        }
    }
}

/// Nothing more is read of a peer: all was, or nothing after this makes sense.
#[cold]
#[inline(never)]
fn at_end(link: &mut Link, broken: Option<Broken>) {
    if let (None, Some(Broken(why))) = (link.going, broken) {
        link.going = Some((PeerGone::Broken(why), 0));
    }
}
