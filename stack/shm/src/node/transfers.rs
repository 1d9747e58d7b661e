//! Memory that is offered and fetched, and the records of this crate's own that it takes.

use super::{Counters, MOST_NOTES, Node, leave};
use crate::choose::Way;
use crate::config::Large;
use crate::error::{Forked, KernelCopy, NotTaken, PeerGone, PullError, SendError};
use crate::large::{MOST_PIECES, Offer, OfferId, Offered, PIECE, Piece, Pull, PullId, Sink, Source, Step, Transfers};
use crate::link::{Link, Note, class};
use crate::message::{Event, Header, PeerId};
use crate::ring::{Head, Record};
use crate::slab::Key;
use crate::socket;
use std::collections::VecDeque;
use std::os::fd::AsFd;

impl Node {
    /// Offers memory to a peer, with a header of the caller's own. It is held until [`Event::Released`].
    ///
    /// # Errors
    /// As [`Node::try_send_if_wanted`], with the memory.
    pub fn offer(&mut self, peer: PeerId, header: Header, source: Source) -> Result<OfferId, (SendError, Source)> {
        let (address, len) = (source.address(), source.len() as u64);
        let Some(id) = self.transfers.offers.insert(Offer { link: peer.0, source, served: None }) else {
            return Err((SendError::Again, Source::from(Vec::new())));
        };
        let words = [id, address, len].map(u64::to_le_bytes);
        let head = Head { class: class::OFFER, kind: header.kind, words: header.words };
        match self.send(peer.0, head, &[words.as_flattened()], true) {
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

    pub(super) fn way(&mut self, offered: &Offered, room: usize) -> Way {
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
    pub(super) fn note(&mut self, key: Key, note: Note) {
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
    pub(super) fn pulled(&mut self, id: Key, result: Result<(), PullError>) {
        let Some(pull) = self.transfers.pulls.remove(id) else { return };
        let (key, offer, way, bytes) = (pull.link, pull.offer, pull.way, pull.at);
        match (way, result) {
            (_, Err(_)) => {}
            (Way::Ring, _) => self.counters.ring_pulls += 1,
            (Way::Kernel, _) => self.counters.kernel_pulls += 1,
        }
        // Its owner knows by itself what went through the ring to the end.
        if way == Way::Kernel || bytes == 0 || result.is_err() {
            self.note(key, done(offer, false));
        }
        self.tell(Event::Pulled { pull: PullId(id), sink: pull.into_sink(), result: result.map(|()| bytes) });
    }

    /// Has the kernel copy some more of a pull.
    pub(super) fn kernel_step(&mut self, id: Key) {
        let Some(pull) = self.transfers.pulls.get_mut(id) else { return };
        let key = pull.link;
        let Some(link) = self.links.get_mut(key) else { return };
        let step = match link.pid {
            Some(pid) => pull.kernel_step(pid),
            None => Step::Refused(KernelCopy::OtherNamespace),
        };
        match step {
            Step::More => {
                // One after the other: the first is of use sooner, and all of them no later.
                self.transfers.reading.push_front(id);
                self.is_busy = true;
            }
            Step::Done => {
                link.took(pull);
                self.transfers.copied.push_back(id);
                self.is_busy = true;
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

    /// Ends pulls that the kernel has copied. A peer's number could be another process's by now, and memory is freed by who closes:
    /// what was read counts if the peer was there and had it afterwards. Of several pulls of a peer that is asked once.
    pub(super) fn end_copied(&mut self) {
        let mut last = None;
        while let Some(id) = self.transfers.copied.pop_front() {
            let Some(key) = self.transfers.pulls.get(id).map(|pull| pull.link) else { continue };
            let gone = match last {
                Some((link, gone)) if link == key => gone,
                _ => self.whether_gone(key),
            };
            last = Some((key, gone));
            self.pulled(id, gone.map_or(Ok(()), |why| Err(why.into())));
        }
    }

    /// Asks the kernel whether a peer is there.
    fn whether_gone(&mut self, key: Key) -> Option<PeerGone> {
        let Some(link) = self.links.get(key) else { return Some(PeerGone::Unknown) };
        let process = link.process.as_ref().map(|process| process.as_fd());
        let (ended, speaks) = socket::news(process, link.socket.as_fd());
        if speaks {
            self.hear(key);
        }
        let going = self.links.get(key).map_or(Some(PeerGone::Unknown), |link| link.going.map(|(why, _)| why));
        going.or(ended.then_some(PeerGone::Died))
    }

    /// Writes the next pieces of what a link's peer has asked for, one offer after the other, as long as there is room.
    pub(super) fn serve(&mut self) {
        let Some(key) = self.transfers.serving.pop_front() else { return };
        let Some(link) = self.links.get_mut(key).filter(|link| link.going.is_none()) else { return };
        let longest = PIECE.min(link.sender.longest());
        for _ in 0..MOST_PIECES {
            let Some(id) = link.serving.front().copied() else { break };
            let offer = self.transfers.offers.get_mut(id);
            let Some((source, served)) = offer.and_then(|offer| Some((&offer.source, offer.served.as_mut()?))) else {
                link.serving.pop_front();
                continue;
            };
            let head = Head { class: class::PIECE, kind: 0, words: [served.pull, served.at as u64] };
            let end = served.end.min(served.at + longest);
            // Whoever shares the memory could have made it shorter; then the rest is zeros.
            let zeros = Piece::Bytes([0; PIECE].get(..end - served.at).unwrap_or(&[0; PIECE]));
            let piece = source.piece(served.at, end - served.at).unwrap_or(zeros);
            match link.sender.send_piece(head, piece) {
                Ok(sent) => {
                    self.counters.rings += link.ring_if(sent);
                    served.at = end;
                }
                Err(_) => break,
            }
            if served.at == served.end {
                link.serving.pop_front();
                if let Some(offer) = self.transfers.offers.remove(id) {
                    let event = Event::Released { offer: OfferId(id), source: offer.source, result: Ok(()) };
                    self.events.push_back(event);
                }
            }
        }
        if !link.serving.is_empty() {
            self.transfers.serving.push_back(key);
        }
    }
}

pub(super) fn ask(offer: u64, pull: Key, at: usize, len: usize) -> Note {
    (Head { class: class::ASK, kind: 0, words: [offer, pull] }, [at as u64, len as u64])
}

pub(super) fn done(offer: u64, declined: bool) -> Note {
    (Head { class: class::DONE, kind: 0, words: [offer, declined.into()] }, [0; 2])
}

/// The offer that a record is, if it is one: its number, address and length.
#[inline(never)]
pub(super) fn offer(link: &Link, record: &Record) -> Option<[u64; 3]> {
    if record.head.class != class::OFFER || record.len != 24 {
        return None;
    }
    let mut payload = [0; 24];
    link.receiver.read(record, 0, &mut payload);
    Some(words(payload))
}

/// What is told of an offer.
pub(super) fn told_of(link: &Link, key: Key, header: Header, [id, address, len]: [u64; 3]) -> Event<'static> {
    let (peer, overtakes) = (PeerId(link.peer), !link.left.is_empty());
    Event::Offer { peer, header, overtakes, offered: Offered { link: key, id, address, len } }
}

/// A record that is neither a message nor an offer.
#[inline(never)]
pub(super) fn other(
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
        class::ASK if record.len == 16 => {
            link.receiver.read(record, 0, &mut payload);
            let [offset, len, _] = words(payload);
            if transfers.ask(key, first, second, offset, len) {
                if link.serving.is_empty() {
                    transfers.serving.push_back(key);
                }
                link.serving.push_back(first);
                return;
            }
        }
        class::PIECE => {
            if let Some(pull) = transfers.pulls.get_mut(first)
                && pull.link == key
                && pull.take(second, &link.receiver, record)
            {
                if pull.at == pull.len
                    && let Some(pull) = transfers.pulls.remove(first)
                {
                    counters.ring_pulls += 1;
                    link.took(&pull);
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

pub(super) fn words(bytes: [u8; 24]) -> [u64; 3] {
    let (words, _) = bytes.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
    std::array::from_fn(|_| words.next().unwrap_or(0))
}
