//! A received message that isn't copied where that can be avoided: room for one, and the message once it has come.

use opx_hw::recv::Lent;
use std::sync::atomic::AtomicU64;

/// Room for a message, and then the message. Posted as a receive's buffer ([`crate::Buffer::View`]), it takes the message as the
/// adapter put it into an eager buffer, without a copy, when the message came in one packet and the endpoint has an eager
/// buffer to spare ([`crate::Config::lent_buffers`]). Otherwise the message is copied into memory of the view's own, and
/// [`crate::Counters`] tells why.
///
/// It can be kept, passed to another thread, and dropped in any order; it outlives its endpoint. What was lent is the
/// endpoint's again when the last view of the same eager buffer is dropped or cleared. Who keeps many gets copies of what
/// comes next; nothing else waits for them.
///
/// There is no slice of a lent message, since its memory is one that a device can write to: see [`Lent`]. Its first bytes came
/// in the packet's header ([`View::head`]); the others can be looked at where they are ([`View::words`]).
///
/// ```
/// # use opx_emu::{Config as Chip, Icode, Lab, Pacing};
/// # use opx_hw::{Hfi, LinkMode, Options};
/// use opx_stack::{Buffer, Completion, Config, Endpoint, Pattern, View};
/// # let lab = Lab::new(Pacing::Virtual);
/// # let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
/// # let hfi = Hfi::open(adapter.bus(), Options::default())?;
/// # hfi.link_up(LinkMode::Loopback)?;
/// # let mut a = Endpoint::open(&hfi, Config::default())?;
/// let mut b = Endpoint::open(&hfi, Config { lent_buffers: 8, ..Config::default() })?;
/// b.tag_receive(Pattern::exact(7), View::up_to(8192), 1).unwrap();
/// a.tag_send(b.address(), 7, vec![5; 8192], 2).unwrap();
/// # let received = loop {
/// #     a.progress()?;
/// #     b.progress()?;
/// #     if let Some(completion) = b.poll_completion() {
/// #         break completion;
/// #     }
/// #     opx_bus::PciFunction::relax(hfi.bus());
/// # };
/// let Completion::Received { buffer: Buffer::View(view), .. } = received else { panic!() };
/// drop(b);
/// let sum = std::thread::spawn(move || {
///     assert!(view.is_lent());
///     view.to_vec().iter().map(|byte| u32::from(*byte)).sum::<u32>()
/// });
/// assert_eq!(sum.join().unwrap(), 5 * 8192);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct View {
    most: usize,
    /// A message has come; the next one takes its place.
    full: bool,
    /// The first bytes of a lent message.
    head: Head,
    body: Body,
}

/// Bytes of a message that came in a packet's header, at most 7.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Head {
    bytes: [u8; 8],
    len: usize,
}

impl Head {
    /// Of more than 8 bytes, the first 8.
    pub(crate) fn new(head: &[u8]) -> Self {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
        Self { bytes, len: head.len().min(8) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[derive(Debug, Clone)]
enum Body {
    Lent(Lent),
    Own(Vec<u8>),
}

impl View {
    /// Room for a message of at most `most` bytes. Nothing is allocated for it before it is needed.
    pub fn up_to(most: usize) -> Self {
        Self { most, full: false, head: Head::default(), body: Body::Own(Vec::new()) }
    }

    /// Bytes that it has room for.
    pub fn room(&self) -> usize {
        self.most
    }

    /// Bytes of the message.
    pub fn len(&self) -> usize {
        self.head.len
            + match &self.body {
                Body::Lent(lent) => lent.len(),
                Body::Own(bytes) => bytes.len(),
            }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the message is in an eager buffer, which the endpoint lacks for so long.
    pub fn is_lent(&self) -> bool {
        matches!(self.body, Body::Lent(_))
    }

    /// The bytes before [`View::words`]: 0 to 7 of a lent message, all of another.
    pub fn head(&self) -> &[u8] {
        match &self.body {
            Body::Lent(_) => self.head.bytes(),
            Body::Own(bytes) => bytes,
        }
    }

    /// What follows [`View::head`] of a lent message, as words of 8 bytes in the machine's byte order and without a copy.
    pub fn words(&self) -> &[AtomicU64] {
        match &self.body {
            Body::Lent(lent) => lent.words(),
            Body::Own(_) => &[],
        }
    }

    /// Copies bytes from `at` on, as many as there are and fit; the result is how many.
    pub fn read(&self, at: usize, to: &mut [u8]) -> usize {
        let head = self.head().get(at..).unwrap_or_default();
        let len = head.len().min(to.len());
        let (first, rest) = to.split_at_mut(len);
        first.copy_from_slice(&head[..len]);
        match &self.body {
            Body::Lent(lent) if !rest.is_empty() => len + lent.read((at + len).saturating_sub(self.head.len), rest),
            _ => len,
        }
    }

    /// All of the message.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        self.read(0, &mut bytes);
        bytes
    }

    /// All of the message; copied if it is lent.
    pub fn into_vec(self) -> Vec<u8> {
        match self.body {
            Body::Own(bytes) => bytes,
            Body::Lent(_) => self.to_vec(),
        }
    }

    /// Forgets the message, and gives back what was lent. Done by itself when the next message comes.
    pub fn clear(&mut self) {
        match &mut self.body {
            Body::Own(bytes) => bytes.clear(),
            lent @ Body::Lent(_) => *lent = Body::Own(Vec::new()),
        }
        (self.full, self.head) = (false, Head::default());
    }

    /// Takes a message that is lent but for its first bytes.
    pub(crate) fn put(&mut self, head: Head, body: Lent) {
        (self.head, self.body, self.full) = (head, Body::Lent(body), true);
    }

    /// Writes a part of a message that is copied. Memory grows to what is written, and not beyond the room.
    pub(crate) fn write(&mut self, at: usize, from: &[u8]) {
        if self.full {
            self.clear();
        }
        let from = &from[..from.len().min(self.most.saturating_sub(at))];
        if let Body::Own(bytes) = &mut self.body
            && !from.is_empty()
        {
            let end = at + from.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(from);
        }
    }

    /// All of a message has been written.
    pub(crate) fn filled(&mut self) {
        if self.full {
            // Nothing was: it is empty.
            self.clear();
        }
        self.full = true;
    }
}
