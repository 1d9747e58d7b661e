//! What a pattern needs of whatever carries messages: one end of a connection with one peer.

use anyhow::Result;
use opx_stack::SharedRange;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    /// So many bytes of whatever is at hand.
    Any(usize),
    /// These.
    These(&'a [u8]),
}

impl Message<'_> {
    /// Bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Any(len) => *len,
            Self::These(bytes) => bytes.len(),
        }
    }
}

/// What became of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// There will be [`Event::Sent`].
    Later,
    /// There won't be: it was copied.
    Now,
    /// There was no room; to be tried again after a poll.
    Again,
}

/// Memory of one end's that the other may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its key.
    pub key: u64,
    /// Where it begins.
    pub place: u64,
}

/// What is done to the other end's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Bytes are written.
    Write,
    /// Bytes are read.
    Read,
    /// Numbers of 8 bytes are added, and what they were is read.
    Fetch,
}

/// What has come.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// These.
    Bytes(&'a [u8]),
    /// So much of shared memory, which isn't copied before it is looked at.
    Shared(&'a SharedRange),
}

impl Content<'_> {
    /// All of it.
    pub fn to_vec(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::Shared(range) => {
                let mut bytes = vec![0; range.len()];
                range.read(0, &mut bytes);
                bytes
            }
        }
    }

    /// What its first and its second 8 bytes say, 0 where there are none.
    pub fn words(self) -> [u64; 2] {
        let mut words = [0; 16];
        match self {
            Self::Bytes(bytes) => words.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from),
            Self::Shared(range) => range.read(0, &mut words),
        }
        let (words, _) = words.as_chunks::<8>();
        std::array::from_fn(|at| words.get(at).map_or(0, |word| u64::from_le_bytes(*word)))
    }
}

/// What a poll finds.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A message that was sent is out of the sender's hands.
    Sent,
    /// The other end's memory was written, or read.
    Done {
        /// What was read; nothing of a write.
        bytes: &'a [u8],
    },
    /// A message was received.
    Received {
        /// Its tag.
        tag: u64,
        /// Its content.
        content: Content<'a>,
    },
}

/// One end.
pub trait Transport {
    /// Its name, for tables.
    fn label(&self) -> String;

    /// Posts a receive of up to `len` bytes for the next message with `tag`.
    fn post(&mut self, tag: u64, len: usize) -> Result<()>;

    /// Sends to the peer.
    fn send(&mut self, tag: u64, message: Message<'_>) -> Result<Sent>;

    /// Whether it can do that to the other end's memory.
    fn can(&self, access: Access) -> bool;

    /// Lets the other end use `content`, from now on until this is called again.
    fn expose(&mut self, content: &[u8]) -> Result<Window>;

    /// Does something to the other end's memory, from its beginning on: writes or adds these bytes, or reads as many. There will be
    /// [`Event::Done`], unless there was no room.
    fn access(&mut self, access: Access, window: Window, message: Message<'_>) -> Result<Sent>;

    /// Moves everything on; tells of one thing that has happened.
    fn poll(&mut self) -> Result<Option<Event<'_>>>;

    /// From now on each operation takes other memory than those before, until so many bytes were used; 0: the same again, for
    /// long messages as other libraries' programs take it, one piece of memory for all that are under way.
    fn rotate(&mut self, bytes: usize);

    /// Nothing was to be done: lets others run.
    fn relax(&mut self) {}
}
