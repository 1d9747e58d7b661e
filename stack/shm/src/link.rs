//! A connection with one peer: two rings, the socket that is its doorbell, and the process at the other end.

use crate::choose::Chooser;
use crate::error::{KernelCopy, PeerGone};
use crate::large::Pull;
use crate::message::Header;
use crate::ring::{Head, Receiver, Sender, Sent, Unsent};
use crate::slab::Key;
use crate::socket;
use rustix::process::Pid;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// The classes of records in a ring.
pub(crate) mod class {
    /// The caller's message.
    pub(crate) const MESSAGE: u8 = 1;
    /// Memory is offered. Payload: its number, address and length.
    pub(crate) const OFFER: u8 = 2;
    /// Offered memory is asked for, through the ring. Words: the offer, the pull; payload: offset, length.
    pub(crate) const ASK: u8 = 3;
    /// A piece of it. Words: the pull, the offset.
    pub(crate) const PIECE: u8 = 4;
    /// Offered memory isn't needed any more. Words: the offer, 1 if it wasn't wanted.
    pub(crate) const DONE: u8 = 5;
}

/// A record of this crate's own that waits for room, with its two words of payload.
pub(crate) type Note = (Head, [u64; 2]);

/// A message or an offer that wasn't taken.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) header: Header,
    pub(crate) what: LeftWhat,
    /// Bytes that it had in the ring.
    pub(crate) room: usize,
}

#[derive(Debug)]
pub(crate) enum LeftWhat {
    Message(Vec<u8>),
    /// Number, address and length.
    Offer([u64; 3]),
}

#[derive(Debug)]
pub(crate) struct Link {
    /// The peer's name: what it was connected by, or says to be.
    pub(crate) name: Box<str>,
    /// As which peer the caller knows it. Not the link itself when both have connected to each other at the same time.
    pub(crate) peer: Key,
    pub(crate) pid: Option<Pid>,
    pub(crate) socket: OwnedFd,
    /// Becomes readable when the process ends. None when that can't be seen from here: then the socket tells.
    pub(crate) process: Option<OwnedFd>,
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    /// Whether the peer has answered.
    pub(crate) is_up: bool,
    /// Why it is going, and how many messages may still be read before it does.
    pub(crate) going: Option<(PeerGone, u32)>,
    /// Whether the kernel copies from the peer's memory, or why not.
    pub(crate) kernel: Result<(), KernelCopy>,
    pub(crate) chooser: Chooser,
    /// When the last pull ended.
    pub(crate) pulled: Option<Instant>,
    pub(crate) notes: VecDeque<Note>,
    /// Offers that the peer has asked for through the ring, in that order.
    pub(crate) serving: VecDeque<Key>,
    /// It is in the node's list of those that are looked at.
    pub(crate) is_hot: bool,
    /// It is in the node's list of those that lack room.
    pub(crate) is_wanting: bool,
    /// Messages that weren't taken, and the bytes that they had in the ring.
    pub(crate) left: VecDeque<Left>,
    pub(crate) left_room: usize,
    /// Its next message wasn't taken and can't be put with those.
    pub(crate) is_held: bool,
    /// That it is going has been told, although something is left.
    pub(crate) has_ended: bool,
    /// Rounds in which it had nothing to say.
    pub(crate) silent: u8,
}

impl Link {
    /// A pull has all its bytes. One comes after the other, so that its time begins when the one before has ended.
    pub(crate) fn took(&mut self, pull: &Pull) {
        let now = Instant::now();
        let since = self.pulled.replace(now).map_or(pull.started, |last| last.max(pull.started));
        self.chooser.took(pull.way, pull.at, now.saturating_duration_since(since));
    }

    /// Wakes the peer, if that is to be done.
    pub(crate) fn ring_if(&self, sent: Sent) -> u64 {
        if sent == Sent::Ring {
            self.ring();
            return 1;
        }
        0
    }

    #[cold]
    #[inline(never)]
    fn ring(&self) {
        socket::ring(self.socket.as_fd());
    }

    /// Sends the notes that found no room. False when there still is none.
    pub(crate) fn send_notes(&mut self) -> bool {
        while let Some((head, words)) = self.notes.front() {
            let [a, b] = words.map(u64::to_le_bytes);
            match self.sender.send(*head, &[&a, &b]) {
                Ok(sent) => {
                    self.ring_if(sent);
                    self.notes.pop_front();
                }
                Err(Unsent::Full) => return false,
                // The link goes; what waits for its answer is told so then.
                Err(_) => {
                    self.notes.clear();
                }
            }
        }
        true
    }
}
