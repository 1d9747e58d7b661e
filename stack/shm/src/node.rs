//! A process's end: its peers, and what goes on with them.

use crate::barrier;
use crate::choose::Way;
use crate::config::{Config, Large, Trust};
use crate::error::{
    ConnectError, Forked, KernelCopy, NotTaken, OpenError, PeerGone, PollError, PullError, Refusal, SendError,
};
use crate::large::{self, MOST_PIECES, Offer, OfferId, Offered, PIECE, Pull, PullId, Sink, Source, Step, Transfers};
use crate::link::{Link, class};
use crate::message::{Event, Header, Message, PeerId};
use crate::ring::{Broken, Head, Receiver, Record, Sender, Sent, Unsent};
use crate::segment::{self, Direction, Lines};
use crate::slab::{Key, Slab};
use crate::socket::{self, Heard, Introduction};
use crate::sys::ForkGuard;
use opx_bus::SharedMem;
use rustix::event::{Timespec, epoll};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

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

    /// Connects to a peer, or names the one that it is connected with already. Messages can be sent at once; the peer takes
    /// them when it polls.
    ///
    /// # Errors
    /// When nobody has that name, or it isn't to be trusted.
    pub fn connect(&mut self, name: &str) -> Result<PeerId, ConnectError> {
        self.check_fork()?;
        if !socket::is_name(name) {
            return Err(ConnectError::Name(name.len()));
        }
        let socket = socket::reach(name).map_err(|why| match why.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::NoSuchPeer(name.to_owned()),
            io::ErrorKind::WouldBlock => ConnectError::Again(name.to_owned()),
            _ => ConnectError::Io(why),
        })?;
        let (pid, uid) = socket::credentials(socket.as_fd())?;
        if !self.trusts(uid) {
            return Err(ConnectError::NotTrusted { name: name.to_owned(), uid });
        }
        if let Some(peer) = self.known(name, pid) {
            return Ok(peer);
        }
        if self.links.len() >= self.config.max_peers {
            return Err(ConnectError::TooManyPeers(self.links.len()));
        }
        let (file, memory) = segment::create(self.config.ring_bytes)?;
        let hello =
            socket::Record::Hello { this: self.this, ring_bytes: self.config.ring_bytes, name: self.name.clone() };
        socket::tell(socket.as_fd(), &hello, Some(file.as_fd()))?;
        // Whether it fences isn't known yet.
        let link = link(name, pid, socket, &memory, Direction::Out, true);
        let key = self.add(link, None)?;
        Ok(PeerId(key))
    }

    fn trusts(&self, uid: u32) -> bool {
        self.config.trust == Trust::Anyone || uid == rustix::process::geteuid().as_raw()
    }

    /// The peer that has this name and is this process.
    fn known(&self, name: &str, pid: Option<rustix::process::Pid>) -> Option<PeerId> {
        self.links
            .iter()
            .find(|(_, link)| link.pid.is_some() && link.pid == pid && &*link.name == name && link.going.is_none())
            .map(|(_, link)| PeerId(link.peer))
    }

    fn add(&mut self, link: Link, peer: Option<PeerId>) -> io::Result<Key> {
        let key = self.links.insert(Box::new(link)).ok_or(io::ErrorKind::OutOfMemory)?;
        let Some(link) = self.links.get_mut(key) else { return Err(io::ErrorKind::OutOfMemory.into()) };
        link.peer = peer.map_or(key, |peer| peer.0);
        let watched = watch(&self.epoll, &link.socket, token::SOCKET | key).and_then(|()| {
            link.process.as_ref().map_or(Ok(()), |process| watch(&self.epoll, process, token::PROCESS | key))
        });
        if let Err(why) = watched {
            self.links.remove(key);
            return Err(why);
        }
        heat(link, key, &mut self.hot);
        Ok(key)
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

    /// Offers memory to a peer, with a header of the caller's own. It is held until [`Event::Released`].
    ///
    /// # Errors
    /// As [`Node::try_send`], with the memory.
    pub fn offer(&mut self, peer: PeerId, header: Header, source: Source) -> Result<OfferId, (SendError, Source)> {
        let bytes = source.as_slice();
        let (address, len) = (bytes.as_ptr().expose_provenance() as u64, bytes.len() as u64);
        let Some(id) = self.transfers.offers.insert(Offer { link: peer.0, source, served: None }) else {
            return Err((SendError::Again, Source::from(Vec::new())));
        };
        let words = [id, address, len].map(u64::to_le_bytes);
        let head = Head { class: class::OFFER, kind: header.kind, words: header.words };
        match self.send(peer.0, head, &[words.as_flattened()]) {
            Ok(()) => Ok(OfferId(id)),
            Err(why) => match self.transfers.offers.remove(id) {
                Some(offer) => Err((why, offer.source)),
                None => Ok(OfferId(id)),
            },
        }
    }

    /// Fetches offered memory, as much of it as there is room for. It ends with [`Event::Pulled`].
    pub fn pull(&mut self, offered: Offered, sink: Sink) -> PullId {
        let way = self.way(&offered, sink.len());
        let key = offered.link;
        let pull = Pull::new(&offered, sink, way);
        let (offer, len) = (pull.offer, pull.len);
        let Some(id) = self.transfers.pulls.insert(pull) else { return PullId(Key::MAX) };
        let going = match self.links.get(key) {
            _ if self.guard.is_child() => Some(PullError::Forked(Forked)),
            None => Some(PeerGone::Unknown.into()),
            Some(link) => link.going.map(|(why, _)| why.into()),
        };
        if let Some(why) = going {
            self.pulled(id, Err(why));
        } else if len == 0 {
            self.pulled(id, Ok(()));
        } else if way == Way::Ring {
            self.note(key, ask(offer, id, 0, len));
        } else {
            self.kernel_step(id);
        }
        PullId(id)
    }

    fn way(&mut self, offered: &Offered, room: usize) -> Way {
        let len = usize::try_from(offered.len).unwrap_or(usize::MAX).min(room);
        match self.links.get_mut(offered.link) {
            Some(link) if link.kernel.is_ok() => match self.config.large {
                Large::Measured => link.chooser.choose(len),
                Large::Ring => Way::Ring,
                Large::Kernel => Way::Kernel,
            },
            _ => Way::Ring,
        }
    }

    /// Declines offered memory.
    pub fn decline(&mut self, offered: Offered) {
        self.note(offered.link, done(offered.id, true));
    }

    /// Sends a record of this crate's own, now or when there is room.
    fn note(&mut self, key: Key, note: crate::link::Note) {
        if self.guard.is_child() {
            return;
        }
        let Some(link) = self.links.get_mut(key) else { return };
        if link.notes.len() >= MOST_NOTES {
            return leave(link, key, PeerGone::Broken("it reads nothing of what it is told"), &mut self.hot);
        }
        link.notes.push_back(note);
        if !link.send_notes() && !self.noting.contains(&key) {
            self.noting.push(key);
            self.is_busy = true;
        }
    }

    /// A pull has ended.
    fn pulled(&mut self, id: Key, result: Result<(), PullError>) {
        let Some(pull) = self.transfers.pulls.remove(id) else { return };
        let (key, offer, way, bytes) = (pull.link, pull.offer, pull.way, pull.at);
        match (way, result) {
            (_, Err(_)) => {}
            (Way::Ring, _) => self.counters.ring_pulls += 1,
            (Way::Kernel, _) => self.counters.kernel_pulls += 1,
        }
        if result.is_ok()
            && bytes != 0
            && let Some(link) = self.links.get_mut(key)
        {
            link.chooser.took(way, bytes, pull.started.elapsed());
        }
        // Its owner knows by itself what went through the ring to the end.
        if way == Way::Kernel || bytes == 0 || result.is_err() {
            self.note(key, done(offer, false));
        }
        self.tell(Event::Pulled { pull: PullId(id), sink: pull.into_sink(), result: result.map(|()| bytes) });
    }

    fn tell(&mut self, event: Event<'static>) {
        self.events.push_back(event);
        self.is_busy = true;
    }

    /// Has the kernel copy some more of a pull.
    fn kernel_step(&mut self, id: Key) {
        let Some(pull) = self.transfers.pulls.get_mut(id) else { return };
        let key = pull.link;
        let Some(link) = self.links.get_mut(key) else { return };
        let step = match link.pid {
            Some(pid) => pull.kernel_step(pid),
            None => Step::Refused(KernelCopy::OtherNamespace),
        };
        match step {
            Step::More => {
                self.transfers.reading.push_back(id);
                self.is_busy = true;
            }
            Step::Done => {
                // The number could be another process's by now, and memory is freed by who closes: what was read counts if
                // the peer was there and had it afterwards.
                let ended = link.process.as_ref().is_some_and(|process| socket::has_ended(process.as_fd()));
                self.hear(key);
                let going = self.links.get(key).map_or(Some(PeerGone::Unknown), |link| link.going.map(|(why, _)| why));
                let why = going.or(ended.then_some(PeerGone::Died));
                self.pulled(id, why.map_or(Ok(()), |why| Err(why.into())));
            }
            Step::Failed(why) => self.pulled(id, Err(why)),
            Step::Refused(why) => {
                link.kernel = Err(why);
                self.counters.kernel_refusals += 1;
                pull.way = Way::Ring;
                let note = ask(pull.offer, id, pull.at, pull.len - pull.at);
                self.note(key, note);
            }
        }
    }

    /// Closes the connection with a peer. What it has sent and wasn't polled is lost; what was sent to it isn't.
    /// [`Event::Gone`] comes all the same.
    pub fn close(&mut self, peer: PeerId) {
        if self.guard.is_child() {
            return;
        }
        let keys: Vec<Key> = self.links.iter().filter(|(_, link)| link.peer == peer.0).map(|(key, _)| key).collect();
        for key in keys {
            if let Some(link) = self.links.get_mut(key) {
                let _ = socket::tell(link.socket.as_fd(), &socket::Record::Bye, None);
                leave(link, key, PeerGone::Unknown, &mut self.hot);
                self.bury(key);
            }
        }
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

    /// Writes the next pieces of the next offer that goes through a ring.
    fn serve(&mut self) {
        let Some(id) = self.transfers.serving.pop_front() else { return };
        let Some(offer) = self.transfers.offers.get_mut(id) else { return };
        let (Some(link), Some(served)) = (self.links.get_mut(offer.link), &mut offer.served) else { return };
        if link.going.is_some() {
            return;
        }
        let longest = PIECE.min(link.sender.longest());
        for _ in 0..MOST_PIECES {
            let head = Head { class: class::PIECE, kind: 0, words: [served.pull, served.at as u64] };
            let end = served.end.min(served.at + longest);
            // Whoever shares the memory could have made it shorter; then the rest is zeros.
            let piece = offer.source.as_slice().get(served.at..end).unwrap_or(&[0; PIECE]);
            let piece = piece.get(..end - served.at).unwrap_or(piece);
            match link.sender.send(head, &[piece]) {
                Ok(sent) => {
                    self.counters.rings += link.ring_if(sent);
                    served.at = end;
                }
                Err(_) => break,
            }
            if served.at == served.end {
                if let Some(offer) = self.transfers.offers.remove(id) {
                    self.tell(Event::Released { offer: OfferId(id), source: offer.source, result: Ok(()) });
                }
                return;
            }
        }
        self.transfers.serving.push_back(id);
    }

    /// Forgets a link that is gone, and tells those who waited for it.
    fn bury(&mut self, key: Key) {
        let Some(link) = self.links.remove(key) else { return };
        self.listen();
        self.hot.retain(|hot| *hot != key);
        self.wanting.retain(|wanting| *wanting != key);
        let reason = link.going.map_or(PeerGone::Unknown, |(why, _)| why);
        for (id, pull) in self.transfers.pulls.remove_all(|pull| pull.link == key) {
            let result = Err(reason.into());
            self.tell(Event::Pulled { pull: PullId(id), sink: pull.into_sink(), result });
        }
        for (id, offer) in self.transfers.offers.remove_all(|offer| offer.link == key) {
            let result = Err(NotTaken::Gone(reason));
            self.tell(Event::Released { offer: OfferId(id), source: offer.source, result });
        }
        if !self.links.iter().any(|(_, other)| other.peer == link.peer) {
            self.tell(Event::Gone { peer: PeerId(link.peer), reason });
        }
    }

    /// Sleeps until there is something to do, for `timeout` at most; tells whether there may be. A message, a new peer, the
    /// end of one, and room for what was refused with [`SendError::Again`] wake it.
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
        if !self.events.is_empty() || !self.gone.is_empty() || !transfers.reading.is_empty() {
            return Ok(false);
        }
        for key in &self.noting {
            if let Some(link) = self.links.get_mut(*key) {
                want(link, *key, &mut self.wanting);
            }
        }
        for id in &transfers.serving {
            if let Some(offer) = transfers.offers.get(*id)
                && let Some(link) = self.links.get_mut(offer.link)
            {
                want(link, offer.link, &mut self.wanting);
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
        Ok(self.hot.is_empty() && !room)
    }

    fn stop_wanting(&mut self) {
        for key in std::mem::take(&mut self.wanting) {
            if let Some(link) = self.links.get_mut(key) {
                link.sender.stop_wanting();
                link.is_wanting = false;
            }
        }
    }

    /// Has those peers ring that `which` names. They stay hot if something is there already.
    fn cool(&mut self, which: impl Fn(&Link) -> bool) {
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

    /// Listens again, after descriptors had run out.
    fn listen(&mut self) {
        if self.is_deaf && watch(&self.epoll, &self.listener, token::LISTENER).is_ok() {
            self.is_deaf = false;
        }
    }

    /// Has peers ring that have been silent, when there are many.
    fn retire(&mut self) {
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
    fn look(&mut self, timeout: Option<Duration>) -> Result<bool, PollError> {
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
                token::SOCKET => self.hear(key),
                token::PROCESS => {
                    // What it said last is still to be heard.
                    self.hear(key);
                    if let Some(link) = self.links.get_mut(key) {
                        leave(link, key, PeerGone::Died, &mut self.hot);
                    }
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

    /// Reads a link's socket.
    fn hear(&mut self, key: Key) {
        for _ in 0..MOST_HEARD {
            let Some(link) = self.links.get_mut(key) else { return };
            match socket::hear(link.socket.as_fd()) {
                Heard::Nothing => return,
                Heard::Record(socket::Record::Doorbell, None) => heat(link, key, &mut self.hot),
                Heard::Record(socket::Record::Welcome(peer), None) if !link.is_up => {
                    link.is_up = true;
                    meet(link, self.this, peer, self.config.large);
                }
                Heard::Record(socket::Record::Bye, None) => leave(link, key, PeerGone::Closed, &mut self.hot),
                Heard::Record(socket::Record::Refused(why), None) if !link.is_up => {
                    leave(link, key, PeerGone::Refused(why), &mut self.hot);
                }
                Heard::End => {
                    leave(link, key, PeerGone::Died, &mut self.hot);
                    return;
                }
                Heard::Record(..) | Heard::Junk => {
                    leave(link, key, PeerGone::Broken("its socket said what none says"), &mut self.hot);
                    return;
                }
            }
        }
    }

    /// Takes those who want to connect.
    fn accept(&mut self) {
        for _ in 0..MOST_ARRIVING {
            match socket::accept(self.listener.as_fd()) {
                Ok(Some(socket)) => self.greet(socket),
                Ok(None) => return,
                Err(why) => {
                    log::warn!("{}: a peer can't be taken: {why}", self.name);
                    self.counters.refused += 1;
                    // It would be ready, in vain, until there are descriptors again.
                    self.is_deaf = epoll::delete(&self.epoll, &self.listener).is_ok();
                    return;
                }
            }
        }
    }

    /// Hears who somebody is that has connected.
    fn greet(&mut self, socket: OwnedFd) {
        let refuse = |node: &mut Self, socket: &OwnedFd, why| {
            node.counters.refused += 1;
            let _ = socket::tell(socket.as_fd(), &socket::Record::Refused(why), None);
        };
        let Ok((pid, uid)) = socket::credentials(socket.as_fd()) else { return };
        if !self.trusts(uid) {
            log::warn!("{}: a process of user {uid} was refused", self.name);
            return refuse(self, &socket, Refusal::NotTrusted);
        }
        let (peer, ring_bytes, name, file) = match socket::hear(socket.as_fd()) {
            Heard::Record(socket::Record::Hello { this, ring_bytes, name }, Some(file)) => {
                (this, ring_bytes, name, file)
            }
            Heard::Nothing => {
                if self.arriving.len() < MOST_ARRIVING
                    && let Some(key) = self.arriving.insert(socket)
                    && let Some(socket) = self.arriving.get(key)
                    && watch(&self.epoll, socket, token::ARRIVING | key).is_err()
                {
                    self.arriving.remove(key);
                }
                return;
            }
            Heard::End => return,
            Heard::Record(..) | Heard::Junk => return refuse(self, &socket, Refusal::Version),
        };
        if self.links.len() >= self.config.max_peers {
            return refuse(self, &socket, Refusal::TooManyPeers);
        }
        let memory = match segment::adopt(file, ring_bytes) {
            Ok(memory) => memory,
            Err(why) => {
                log::warn!("{}: {name:?} was refused: {why}", self.name);
                return refuse(self, &socket, Refusal::Segment);
            }
        };
        let known = self.known(&name, pid);
        let mut link = link(&name, pid, socket, &memory, Direction::Back, true);
        link.is_up = true;
        meet(&mut link, self.this, peer, self.config.large);
        if socket::tell(link.socket.as_fd(), &socket::Record::Welcome(self.this), None).is_err() {
            return;
        }
        // It was in the list of those who arrive.
        let _ = epoll::delete(&self.epoll, &link.socket);
        match self.add(link, known) {
            Ok(key) if known.is_none() => self.tell(Event::Connected(PeerId(key))),
            Ok(_) => {}
            Err(why) => log::warn!("{}: {name:?} can't be taken: {why}", self.name),
        }
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

fn watch(epoll: &OwnedFd, fd: &OwnedFd, token: u64) -> io::Result<()> {
    Ok(epoll::add(epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?)
}

fn link(
    name: &str,
    pid: Option<rustix::process::Pid>,
    socket: OwnedFd,
    memory: &SharedMem,
    out: Direction,
    full_fences: bool,
) -> Link {
    let back = if out == Direction::Out { Direction::Back } else { Direction::Out };
    Link {
        name: name.into(),
        peer: 0,
        pid,
        process: pid.and_then(|pid| socket::watch(pid).ok()),
        socket,
        sender: Sender::new(Lines::new(memory.clone(), out), full_fences),
        receiver: Receiver::new(Lines::new(memory.clone(), back), full_fences),
        is_up: false,
        going: None,
        kernel: Err(KernelCopy::NotKnown),
        chooser: crate::choose::Chooser::default(),
        notes: VecDeque::new(),
        is_hot: false,
        is_wanting: false,
        silent: 0,
    }
}

/// Both have introduced themselves.
fn meet(link: &mut Link, this: Introduction, peer: Introduction, large: Large) {
    let full = !(this.fences && peer.fences);
    link.sender.set_full_fences(full);
    link.receiver.set_full_fences(full);
    let (at, value) = peer.probe;
    link.kernel = if large == Large::Ring { Err(KernelCopy::Off) } else { large::try_kernel(link.pid, at, value) };
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

fn ask(offer: u64, pull: Key, at: usize, len: usize) -> crate::link::Note {
    (Head { class: class::ASK, kind: 0, words: [offer, pull] }, [at as u64, len as u64])
}

fn done(offer: u64, declined: bool) -> crate::link::Note {
    (Head { class: class::DONE, kind: 0, words: [offer, declined.into()] }, [0; 2])
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

/// A record that isn't a message.
#[inline(never)]
fn other(
    link: &mut Link,
    key: Key,
    record: &Record,
    transfers: &mut Transfers,
    events: &mut VecDeque<Event<'static>>,
    counters: &mut Counters,
) {
    let mut payload = [0; 24];
    let [first, second] = record.head.words;
    match record.head.class {
        class::OFFER if record.len == 24 => {
            link.receiver.read(record, 0, &mut payload);
            let [id, address, len] = words(payload);
            let header = Header { kind: record.head.kind, words: record.head.words };
            let offered = Offered { link: key, id, address, len };
            events.push_back(Event::Offer { peer: PeerId(link.peer), header, offered });
            return;
        }
        class::ASK if record.len == 16 => {
            link.receiver.read(record, 0, &mut payload);
            let [offset, len, _] = words(payload);
            if transfers.ask(key, first, second, offset, len) {
                return;
            }
        }
        class::PIECE => {
            if let Some(pull) = transfers.pulls.get_mut(first)
                && pull.link == key
                && let Some(room) = pull.room(second, record.len)
            {
                link.receiver.read(record, 0, room);
                pull.at += record.len;
                if pull.at == pull.len
                    && let Some(pull) = transfers.pulls.remove(first)
                {
                    counters.ring_pulls += 1;
                    link.chooser.took(Way::Ring, pull.len, pull.started.elapsed());
                    let result = Ok(pull.len);
                    events.push_back(Event::Pulled { pull: PullId(first), sink: pull.into_sink(), result });
                }
                return;
            }
        }
        class::DONE => {
            if let Some(source) = transfers.finish(key, first) {
                let result = if second == 0 { Ok(()) } else { Err(NotTaken::Declined) };
                events.push_back(Event::Released { offer: OfferId(first), source, result });
                return;
            }
        }
        _ => {}
    }
    counters.strays += 1;
}

fn words(bytes: [u8; 24]) -> [u64; 3] {
    let (words, _) = bytes.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
    std::array::from_fn(|_| words.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(what: &str, large: Large) -> (Node, Node, PeerId) {
        let open = |side: &str| {
            let name = format!("unit-{what}-{side}-{}", std::process::id());
            Node::open(&name, Config { large, ..Config::default() }).unwrap()
        };
        let (mut one, mut other) = (open("one"), open("other"));
        let peer = one.connect(other.name()).unwrap();
        other.poll(|_| {}).unwrap();
        one.look(Some(Duration::ZERO)).unwrap();
        assert_eq!(one.kernel_copy(peer), if large == Large::Ring { Err(KernelCopy::Off) } else { Ok(()) });
        (one, other, peer)
    }

    /// Polls both until a pull of `one` has ended.
    fn pulled(one: &mut Node, other: &mut Node) -> (Sink, Result<usize, PullError>) {
        let mut ended = None;
        while ended.is_none() {
            other.poll(|_| {}).unwrap();
            one.poll(|event| {
                if let Event::Pulled { sink, result, .. } = event {
                    ended = Some((sink, result));
                }
            })
            .unwrap();
        }
        ended.unwrap()
    }

    #[test]
    fn what_the_kernel_refuses_comes_through_the_ring() {
        let (mut one, mut other, peer) = pair("refused", Large::Kernel);
        let memory: Vec<u8> = (0..100_000).map(|i| i as u8).collect();
        let back = other.connect(one.name()).unwrap();
        other.offer(back, Header::default(), Source::from(memory.clone())).unwrap();
        let mut offer = None;
        while offer.is_none() {
            one.poll(|event| {
                if let Event::Offer { offered, .. } = event {
                    offer = Some(offered);
                }
            })
            .unwrap();
        }
        // As if the peer were in another namespace, which the first try didn't show.
        one.links.get_mut(peer.0).unwrap().pid = None;
        one.pull(offer.unwrap(), Sink::from(vec![0; 100_000]));
        let (sink, result) = pulled(&mut one, &mut other);
        assert_eq!((result, sink.into_vec()), (Ok(100_000), Some(memory)));
        assert_eq!(one.kernel_copy(peer), Err(KernelCopy::OtherNamespace));
        let counters = one.counters();
        assert_eq!((counters.kernel_refusals, counters.kernel_pulls, counters.ring_pulls), (1, 0, 1));
    }

    #[test]
    fn memory_that_isnt_there_is_an_error() {
        let (mut one, mut other, peer) = pair("unmapped", Large::Kernel);
        for (address, len) in [(8, 100), (u64::MAX - 10, 100), (0, u64::MAX)] {
            one.pull(Offered { link: peer.0, id: 77, address, len }, Sink::from(vec![0; 200]));
            assert_eq!(pulled(&mut one, &mut other).1, Err(PullError::Unmapped), "{address:#x}");
        }
        assert_eq!(one.kernel_copy(peer), Ok(()));
    }

    #[test]
    fn answers_that_nobody_reads_are_bounded() {
        let (mut one, _other, peer) = pair("deaf", Large::Ring);
        let mut most = 0;
        for id in 0..MOST_NOTES as u64 * 2 {
            one.decline(Offered { link: peer.0, id, address: 0, len: 1 });
            most = most.max(one.links.get(peer.0).map_or(0, |link| link.notes.len()));
        }
        assert_eq!(most, MOST_NOTES);
        let refused = one.try_send(peer, Header::default(), &[]);
        assert!(matches!(refused, Err(SendError::Gone(PeerGone::Broken(_)))), "{refused:?}");
    }
}
