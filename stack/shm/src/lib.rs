//! Messages between processes of one machine, through shared memory.
//!
//! A [`Node`] is a process's end. It has a name, connects to other nodes by theirs, and exchanges messages with them: a small
//! header of the caller's own and opaque bytes, delivered in order and exactly once to each peer as long as that lives. Small
//! messages pass through rings of cache lines without a lock, a system call or a fence. Larger memory is offered, and
//! fetched in one copy ([`Node::offer`], [`Node::pull`]).
//!
//! ```
//! use opx_shm::{Config, Event, Header, Node};
//!
//! // Two nodes of one process here; as a rule each is in its own.
//! let names = [1, 2].map(|number| format!("doc-{}-{number}", std::process::id()));
//! let mut one = Node::open(&names[0], Config::default())?;
//! let mut other = Node::open(&names[1], Config::default())?;
//!
//! let peer = one.connect(&names[1])?;
//! one.try_send(peer, Header { kind: 7, words: [1, 2] }, &[b"hello, ", b"world"])?;
//!
//! let mut heard = Vec::new();
//! while heard.is_empty() {
//!     other.wait(None)?;
//!     other.poll(|event| {
//!         if let Event::Message(message) = event {
//!             assert_eq!((message.header.kind, message.header.words), (7, [1, 2]));
//!             heard = message.to_vec();
//!         }
//!     })?;
//! }
//! assert_eq!(heard, b"hello, world");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it leaves behind
//!
//! Nothing. Segments are memory without a name (memfd), handed over on sockets of the abstract namespace: both go with the
//! last process that has them, however that ends. A peer that ends is noticed ([`Event::Gone`]) after what it had sent.
//!
//! # Whom it trusts
//!
//! Peers are processes of the same user, as the kernel says, unless [`Trust`] is set otherwise; and even those may write
//! anything into what is shared. They can lose or spoil what they send and receive themselves, and nothing else: each index
//! and length is read once and checked, segments can't be cut short (sealed), and work per poll is bounded.
//!
//! # Sleeping
//!
//! [`Node::wait`] sleeps until there is something to do and takes no processor time meanwhile. To sleep on other things as
//! well, [`Node::arm`] and sleep on [`Node::fd`]. Senders don't pay for that possibility: they look at a word that they
//! have in their cache anyway, and the fence that this would need is had by who goes to sleep (`membarrier`).

mod barrier;
mod choose;
mod config;
mod error;
mod large;
mod link;
mod message;
mod node;
mod ring;
mod segment;
mod slab;
mod socket;
mod sync;
mod sys;

pub use config::{Config, Large, Trust};
pub use error::{
    ConnectError, Forked, KernelCopy, NotTaken, OpenError, PeerGone, PollError, PullError, Refusal, SendError,
};
pub use large::{OfferId, Offered, PullId, Sink, Source};
pub use message::{Event, Header, Message, Next, PeerId, Taken, Waiting};
pub use node::{Counters, Node};
