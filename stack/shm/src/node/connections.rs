//! Who is there: connecting, being connected to, hearing what sockets say, and taking leave.

use super::{MOST_ARRIVING, MOST_HEARD, Node, heat, leave, token};
use crate::choose::Chooser;
use crate::config::{Large, Trust};
use crate::error::{ConnectError, KernelCopy, NotTaken, PeerGone, Refusal};
use crate::large::{self, OfferId, PullId};
use crate::link::Link;
use crate::message::{Event, PeerId};
use crate::ring::{Receiver, Sender};
use crate::segment::{self, Direction, Lines};
use crate::slab::Key;
use crate::socket::{self, Heard, Introduction};
use opx_bus::SharedMem;
use rustix::event::epoll;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

impl Node {
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

    /// Whether a living process has that name. It isn't connected by that; whoever it is takes no notice.
    pub fn is_there(&self, name: &str) -> bool {
        !self.guard.is_child() && socket::is_name(name) && socket::reach(name).is_ok()
    }

    pub(super) fn trusts(&self, uid: u32) -> bool {
        self.config.trust == Trust::Anyone || uid == rustix::process::geteuid().as_raw()
    }

    /// The peer that has this name and is this process. A node that has ended may have left its name to another one of its
    /// process, and has said so before: that is heard first.
    pub(super) fn known(&mut self, name: &str, pid: Option<rustix::process::Pid>) -> Option<PeerId> {
        let is_it = |link: &Link| link.pid.is_some() && link.pid == pid && &*link.name == name && link.going.is_none();
        let keys: Vec<Key> = self.links.iter().filter(|(_, link)| is_it(link)).map(|(key, _)| key).collect();
        for key in keys {
            self.hear(key);
        }
        self.links.iter().find(|(_, link)| is_it(link)).map(|(_, link)| PeerId(link.peer))
    }

    pub(super) fn add(&mut self, link: Link, peer: Option<PeerId>) -> io::Result<Key> {
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

    /// Whether a peer has ended or closed the connection: as the kernel knows it now, and not only what was told.
    pub fn has_ended(&mut self, peer: PeerId) -> bool {
        if self.guard.is_child() {
            return false;
        }
        for key in self.links_with(peer) {
            // What it said last is still to be heard.
            self.hear(key);
            if let Some(link) = self.links.get_mut(key)
                && link
                    .process
                    .as_ref()
                    .is_some_and(|process| socket::news(Some(process.as_fd()), link.socket.as_fd()).0)
            {
                leave(link, key, PeerGone::Died, &mut self.hot);
            }
        }
        !self.links.iter().any(|(_, link)| link.peer == peer.0 && link.going.is_none())
    }

    fn links_with(&self, peer: PeerId) -> Vec<Key> {
        self.links.iter().filter(|(_, link)| link.peer == peer.0).map(|(key, _)| key).collect()
    }

    /// Closes the connection with a peer. What it has sent and wasn't polled is lost; what was sent to it isn't.
    /// [`Event::Gone`] comes all the same.
    pub fn close(&mut self, peer: PeerId) {
        if self.guard.is_child() {
            return;
        }
        for key in self.links_with(peer) {
            if let Some(link) = self.links.get_mut(key) {
                let _ = socket::tell(link.socket.as_fd(), &socket::Record::Bye, None);
                leave(link, key, PeerGone::Unknown, &mut self.hot);
                self.bury(key);
            }
        }
    }

    /// Forgets a link that is gone, and tells those who waited for it.
    pub(super) fn bury(&mut self, key: Key) {
        let Some(link) = self.links.remove(key) else { return };
        self.listen();
        self.hot.retain(|hot| *hot != key);
        self.leaving.retain(|leaving| *leaving != key);
        self.wanting.retain(|wanting| *wanting != key);
        let reason = link.going.map_or(PeerGone::Unknown, |(why, _)| why);
        self.end_transfers(key, reason);
        if !self.links.iter().any(|(_, other)| other.peer == link.peer) {
            self.tell(Event::Gone { peer: PeerId(link.peer), reason });
        }
    }

    fn end_transfers(&mut self, key: Key, reason: PeerGone) {
        for (id, pull) in self.transfers.pulls.remove_all(|pull| pull.link == key) {
            let result = Err(reason.into());
            self.tell(Event::Pulled { pull: PullId(id), sink: pull.into_sink(), result });
        }
        for (id, offer) in self.transfers.offers.remove_all(|offer| offer.link == key) {
            let result = Err(NotTaken::Gone(reason));
            self.tell(Event::Released { offer: OfferId(id), source: offer.source, result });
        }
    }

    /// A link goes of which messages are left: nobody waits longer for what its peer won't do any more.
    pub(super) fn tell_of_end(&mut self, key: Key) {
        let Some((peer, reason)) = self.links.get(key).and_then(|link| Some((link.peer, link.going?.0))) else {
            return;
        };
        self.end_transfers(key, reason);
        if !self.links.iter().any(|(other, link)| other != key && link.peer == peer && link.going.is_none()) {
            self.tell(Event::Leaving { peer: PeerId(peer), reason });
        }
    }

    /// Hears no more of a link that goes: what would be heard is known, and would wake whoever sleeps before the link is read out.
    pub(super) fn unwatch(&self, key: Key) {
        if let Some(link) = self.links.get(key).filter(|link| link.going.is_some()) {
            for fd in [Some(&link.socket), link.process.as_ref()].into_iter().flatten() {
                let _ = epoll::delete(&self.epoll, fd);
            }
        }
    }

    /// Listens again, after descriptors had run out.
    pub(super) fn listen(&mut self) {
        if self.is_deaf && watch(&self.epoll, &self.listener, token::LISTENER).is_ok() {
            self.is_deaf = false;
        }
    }

    /// Reads a link's socket.
    pub(super) fn hear(&mut self, key: Key) {
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
    pub(super) fn accept(&mut self) {
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
    pub(super) fn greet(&mut self, socket: OwnedFd) {
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
        // Who has gone already may have sent something, and has said after that how it went.
        let _ = socket::tell(link.socket.as_fd(), &socket::Record::Welcome(self.this), None);
        // It was in the list of those who arrive.
        let _ = epoll::delete(&self.epoll, &link.socket);
        match self.add(link, known) {
            Ok(key) if known.is_none() => self.tell(Event::Connected(PeerId(key))),
            Ok(_) => {}
            Err(why) => log::warn!("{}: {name:?} can't be taken: {why}", self.name),
        }
    }
}

pub(super) fn watch(epoll: &OwnedFd, fd: &OwnedFd, token: u64) -> io::Result<()> {
    Ok(epoll::add(epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?)
}

pub(super) fn link(
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
        chooser: Chooser::default(),
        pulled: None,
        notes: VecDeque::new(),
        serving: VecDeque::new(),
        is_hot: false,
        is_wanting: false,
        left: VecDeque::new(),
        left_room: 0,
        is_held: false,
        has_ended: false,
        silent: 0,
    }
}

/// Both have introduced themselves.
pub(super) fn meet(link: &mut Link, this: Introduction, peer: Introduction, large: Large) {
    let full = !(this.fences && peer.fences);
    link.sender.set_full_fences(full);
    link.receiver.set_full_fences(full);
    let (at, value) = peer.probe;
    link.kernel = if large == Large::Ring { Err(KernelCopy::Off) } else { large::try_kernel(link.pid, at, value) };
}
