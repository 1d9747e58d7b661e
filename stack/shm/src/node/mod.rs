//! A process's end: its peers, and what goes on with them.

mod connections;
mod sleep;
#[cfg(test)]
mod tests;
mod transfers;

use crate::barrier;
use crate::config::Config;
use crate::error::{Forked, KernelCopy, OpenError, PeerGone, PollError, SendError};
use crate::large::{Offered, Transfers};
use crate::link::{Left, LeftWhat, Link, class};
use crate::message::{Body, Event, Header, Message, Next, PeerId, Taken, Waiting};
use crate::ring::{Broken, Head, Record, Sent, Unsent};
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
use transfers::{offer, other, told_of};

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
    /// Of those, the one that [`Node::next`] looks at first.
    turn: usize,
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
    /// Links with messages that weren't taken.
    leaving: Vec<Key>,
    /// Links that are gone, of which something is left.
    ended: Vec<Key>,
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
            turn: 0,
            polls: 0,
            look_now: true,
            is_busy: false,
            events: VecDeque::new(),
            transfers: Transfers::default(),
            noting: Vec::new(),
            wanting: Vec::new(),
            leaving: Vec::new(),
            ended: Vec::new(),
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

    /// Why a peer ends of which messages are still to come; `None` as long as it wasn't heard to.
    pub fn ending(&self, peer: PeerId) -> Option<PeerGone> {
        self.links.get(peer.0).and_then(|link| link.going).map(|(why, _)| why)
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

    /// Whether messages or offers were left ([`Taken::NotNow`]): they come again with the next poll, and wake nobody.
    pub fn has_left(&self) -> bool {
        !self.leaving.is_empty()
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
        self.send(peer.0, head, parts, false)
    }

    /// As [`Node::try_send`], but not as long as the peer has left messages ([`Taken::NotNow`]): then there is no room. What is
    /// sent so never keeps back memory that the peer fetches, however many messages it leaves.
    ///
    /// # Errors
    /// As [`Node::try_send`].
    #[inline]
    pub fn try_send_if_wanted(&mut self, peer: PeerId, header: Header, parts: &[&[u8]]) -> Result<(), SendError> {
        let head = Head { class: class::MESSAGE, kind: header.kind, words: header.words };
        self.send(peer.0, head, parts, true)
    }

    /// Whether [`Node::try_send_if_wanted`] would take a message of `len` bytes now, for who has to fetch them first. An offer takes as
    /// much room as a message of none.
    ///
    /// # Errors
    /// As [`Node::try_send`].
    pub fn check_room(&mut self, peer: PeerId, len: usize) -> Result<(), SendError> {
        self.check_fork()?;
        let link = self.links.get_mut(peer.0).ok_or(PeerGone::Unknown)?;
        if let Some((why, _)) = link.going {
            return Err(why.into());
        }
        let room = if link.sender.is_wanted() { link.sender.check_room(len) } else { Err(Unsent::Full) };
        match room {
            Err(Unsent::TooLong) => Err(SendError::TooLong { len, longest: link.sender.longest() }),
            room => room.map_err(|why| self.unsent(peer.0, why, &[])),
        }
    }

    #[inline(always)]
    fn send(&mut self, key: Key, head: Head, parts: &[&[u8]], if_wanted: bool) -> Result<(), SendError> {
        self.check_fork()?;
        let link = self.links.get_mut(key).ok_or(PeerGone::Unknown)?;
        if let Some((why, _)) = link.going {
            return Err(why.into());
        }
        if if_wanted && !link.sender.is_wanted() {
            return Err(self.unsent(key, Unsent::Full, parts));
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
        self.poll_some(|event| {
            handler(event);
            Taken::Yes
        })
    }

    /// The short way to the next message, where nothing else is to be done: no event to tell, no transfer to move on, no message
    /// that was left, and no turn of the kernel's. It stays until it is taken. A call looks at one peer, each at another one of the
    /// [`Node::watched`]. Where [`Next::Other`] comes [`Node::poll_some`] does what there is to do; who never calls that hears
    /// of nothing else.
    ///
    /// ```
    /// use opx_shm::{Config, Event, Header, Next, Node};
    ///
    /// let names = [3, 4].map(|number| format!("doc-{}-{number}", std::process::id()));
    /// let mut one = Node::open(&names[0], Config::default())?;
    /// let mut other = Node::open(&names[1], Config::default())?;
    /// let peer = one.connect(&names[1])?;
    /// one.try_send(peer, Header { kind: 7, words: [1, 2] }, &[b"hello"])?;
    /// let mut heard = false;
    /// while !heard {
    ///     match other.next() {
    ///         Next::Message(message) => {
    ///             assert_eq!((message.header().kind, message.len()), (7, 5));
    ///             message.take();
    ///             heard = true;
    ///         }
    ///         Next::Nothing => {}
    ///         // The peer has connected, for example.
    ///         Next::Other => {
    ///             other.poll(|event| heard |= matches!(event, Event::Message(_)))?;
    ///         }
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    #[expect(clippy::should_implement_trait, reason = "what it gives lends from it")]
    pub fn next(&mut self) -> Next<'_> {
        let at = if self.turn < self.hot.len() { self.turn } else { 0 };
        let polls = self.polls.wrapping_add(u32::from(at == 0));
        let busy = self.is_busy | self.look_now | !self.leaving.is_empty();
        if busy || at == 0 && polls.is_multiple_of(LOOK) || self.guard.is_child() {
            return Next::Other;
        }
        (self.polls, self.turn) = (polls, at.wrapping_add(1));
        let Some(key) = self.hot.get(at) else { return Next::Nothing };
        let Some(link) = self.links.get_mut(*key) else { return Next::Other };
        match link.receiver.next() {
            _ if link.going.is_some() => Next::Other,
            Ok(None) => Next::Nothing,
            Ok(Some(record)) if record.head.class == class::MESSAGE => {
                Next::Message(Waiting { link, record, rings: &mut self.counters.rings })
            }
            _ => Next::Other,
        }
    }

    /// How many peers are looked at.
    #[inline]
    pub fn watched(&self) -> usize {
        self.hot.len()
    }

    /// As [`Node::poll`], for a caller who may have no room for what comes: a message or an offer that is [`Taken::NotNow`] is
    /// left, and comes again with the next call. What its peer has sent after it is shown too, and may be taken before it
    /// ([`Message::overtakes`]). Meanwhile the peer sends no more by [`Node::try_send_if_wanted`] and [`Node::offer`], so that
    /// about as much is left as its ring holds. Nobody is kept from sleeping by what is left ([`Node::arm`]): who could take it
    /// later has to poll then. All other events are taken, whatever the handler says.
    ///
    /// # Errors
    /// As [`Node::poll`].
    #[inline]
    pub fn poll_some(&mut self, mut handler: impl FnMut(Event<'_>) -> Taken) -> Result<usize, PollError> {
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
        if !self.leaving.is_empty() {
            count += self.take_left(&mut handler);
        }
        let Self { links, hot, transfers, events, counters, gone, ended, is_busy, leaving, .. } = self;
        for key in &*hot {
            let Some(link) = links.get_mut(*key) else { continue };
            for turn in 0..TURN {
                let record = match link.receiver.next() {
                    Ok(Some(record)) if link.going.is_none() || may_read(link) => record,
                    next => {
                        if turn == 0 && (next.is_err() || link.going.is_some()) {
                            at_end(link, next.err());
                            if read_out(link) {
                                gone.push(*key);
                                *is_busy = true;
                            } else if !std::mem::replace(&mut link.has_ended, true) {
                                ended.push(*key);
                                *is_busy = true;
                            }
                        }
                        break;
                    }
                };
                (link.silent, link.is_held) = (0, false);
                let header = Header { kind: record.head.kind, words: record.head.words };
                let mut is_message = true;
                // A message goes to its handler from where it is made: it is moved by nobody.
                let taken = if record.head.class == class::MESSAGE {
                    let (peer, body) = (PeerId(link.peer), Body::Ring(&link.receiver, record));
                    handler(Event::Message(Message { peer, header, overtakes: !link.left.is_empty(), body }))
                } else if let Some(offer) = offer(link, &record) {
                    handler(told_of(link, *key, header, offer))
                } else {
                    is_message = false;
                    other(link, *key, &record, transfers, events, counters);
                    *is_busy |= !events.is_empty() || !transfers.serving.is_empty();
                    Taken::Yes
                };
                if taken == Taken::NotNow && !leave_it(link, *key, &record, leaving) {
                    break;
                }
                count = count.wrapping_add(1);
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

    /// Shows what was left once more.
    #[cold]
    #[inline(never)]
    fn take_left(&mut self, handler: &mut impl FnMut(Event<'_>) -> Taken) -> usize {
        let mut count = 0;
        let Self { links, leaving, counters, .. } = self;
        leaving.retain(|key| {
            let Some(link) = links.get_mut(*key) else { return false };
            while let Some(Left { header, what, room }) = link.left.pop_front() {
                // Nothing before it is left any more.
                let peer = PeerId(link.peer);
                let taken = match &what {
                    LeftWhat::Message(bytes) => {
                        let body = Body::Left(bytes);
                        handler(Event::Message(Message { peer, header, overtakes: false, body }))
                    }
                    LeftWhat::Offer([id, address, len]) => {
                        let offered = Offered { link: *key, id: *id, address: *address, len: *len };
                        handler(Event::Offer { peer, header, overtakes: false, offered })
                    }
                };
                if taken == Taken::NotNow {
                    link.left.push_front(Left { header, what, room });
                    return true;
                }
                link.left_room -= room;
                count += 1;
            }
            link.is_held = false;
            let opened = link.receiver.open();
            counters.rings += link.ring_if(opened);
            false
        });
        count
    }

    /// All but messages.
    #[cold]
    #[inline(never)]
    fn work(&mut self, handler: &mut impl FnMut(Event<'_>) -> Taken) -> usize {
        for key in std::mem::take(&mut self.ended) {
            self.tell_of_end(key);
        }
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
        if !self.transfers.copied.is_empty() {
            self.end_copied();
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

/// Whether nothing of what a link that goes has sent is left. If there is, who sleeps isn't kept from it by that.
#[cold]
#[inline(never)]
fn read_out(link: &mut Link) -> bool {
    link.is_held = !link.left.is_empty();
    !link.is_held
}

/// A message wasn't taken: makes room for what is behind it. `false` when it stays in the ring, because too much is left. That isn't,
/// as long as the peer heeds that no messages are wanted.
#[cold]
#[inline(never)]
fn leave_it(link: &mut Link, key: Key, record: &Record, leaving: &mut Vec<Key>) -> bool {
    let room = link.left_room.saturating_add(record.room());
    link.is_held = room > 2 * link.receiver.room();
    if link.is_held {
        // It wasn't read after all.
        if let Some((_, left)) = &mut link.going {
            *left = left.saturating_add(1);
        }
        return false;
    }
    let header = Header { kind: record.head.kind, words: record.head.words };
    let what = match offer(link, record) {
        Some(offer) => LeftWhat::Offer(offer),
        None => {
            let mut bytes = vec![0; record.len];
            link.receiver.read(record, 0, &mut bytes);
            LeftWhat::Message(bytes)
        }
    };
    if link.left.is_empty() {
        link.receiver.shut();
        leaving.push(key);
    }
    link.left_room = room;
    link.left.push_back(Left { header, what, room: record.room() });
    true
}

/// Nothing more is read of a peer: all was, or nothing after this makes sense.
#[cold]
#[inline(never)]
fn at_end(link: &mut Link, broken: Option<Broken>) {
    if let (None, Some(Broken(why))) = (link.going, broken) {
        link.going = Some((PeerGone::Broken(why), 0));
    }
}
