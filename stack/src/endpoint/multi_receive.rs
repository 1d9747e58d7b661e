//! Multi-receive (FI_MULTI_RECV): one buffer takes many untagged messages, one after the other.
//!
//! Each message begins at a multiple of 8 bytes, and one without content takes 8 as well, so that a buffer's completions are
//! bounded by its length. A buffer is used up when less than [`crate::Thresholds::min_multi_receive`] is left of it, or when a
//! message comes that is longer than what is left: that one goes to the receive posted next. (OPX ends the process then; an
//! unexpected one it leaves lying and takes later ones in its stead, which puts them out of order.) A message that is longer
//! than a whole buffer fails, as with any receive.

use super::Endpoint;
use crate::Address;
use crate::Pattern;
use crate::buffer::{Buffer, SharedRange};
use crate::completion::{Completion, OperationError};
use crate::operations::{
    Envelope, Kept, MultiReceiveId, Part, Posted, Receive, ReceiveError, Rejected, Target, Unexpected,
};
use crate::posted::ReceiveId;
use opx_bus::PciFunction;

/// What a message begins at a multiple of, in bytes from the buffer's start; the least that it takes.
const ALIGN: usize = 8;

/// A buffer for many messages.
#[derive(Debug)]
pub(super) struct MultiReceive {
    context: u64,
    buffer: SharedRange,
    /// It is used up when less than this is left.
    min: usize,
    filled: Filled,
    /// Messages that have begun to come and haven't ended.
    under_way: usize,
    /// Whether it takes more.
    open: bool,
    /// What ended it before it was used up.
    error: Option<OperationError>,
}

/// What is left of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Filled {
    /// Bytes used, with those between messages.
    used: usize,
    len: usize,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// At this offset.
    At(usize),
    /// Elsewhere: not enough is left.
    Elsewhere,
    /// Nowhere: it is longer than the whole buffer.
    TooLong,
}

impl Filled {
    fn left(self) -> usize {
        self.len - self.used
    }

    /// Takes a place for a message of `len` bytes.
    fn take(&mut self, len: u64) -> Fit {
        let fits = usize::try_from(len).ok().filter(|len| *len <= self.left());
        let (fit, taken) = match fits {
            Some(len) => (Fit::At(self.used), len),
            // It uses something up too, so that nobody can have more errors than the buffer has room for.
            None if self.used == 0 => (Fit::TooLong, 0),
            None => return Fit::Elsewhere,
        };
        let taken = taken.max(1).checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX);
        self.used = self.used.saturating_add(taken).min(self.len);
        fit
    }
}

/// What a message goes to.
#[derive(Debug)]
pub(super) enum Found {
    /// A receive of its own.
    Receive(Posted),
    /// A place in a multi-receive.
    Part(Part),
    /// It is longer than the whole buffer of a multi-receive, which has been told.
    TooLong,
    /// Nobody waits for it.
    Nobody,
}

impl<B: PciFunction> Endpoint<B> {
    /// Posts `buffer` for many untagged messages, from `source` or from anybody, one after the other, of those that have come
    /// and those that will. Each tells where it lies by a [`Completion::MultiReceived`]; the last completion is
    /// [`Completion::MultiReceiveDone`], or [`Completion::Failed`] when it was cancelled. What was received can be looked at
    /// while more comes.
    ///
    /// ```
    /// # use opx_emu::{Config as Chip, Icode, Lab, Pacing};
    /// # use opx_hw::{Hfi, LinkMode, Options};
    /// use opx_bus::{PciFunction, SharedMem};
    /// use opx_stack::{Completion, Config, Endpoint};
    /// # let lab = Lab::new(Pacing::Virtual);
    /// # let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    /// # let hfi = Hfi::open(adapter.bus(), Options::default())?;
    /// # hfi.link_up(LinkMode::Loopback)?;
    /// let mut a = Endpoint::open(&hfi, Config::default())?;
    /// let mut b = Endpoint::open(&hfi, Config::default())?;
    /// let memory = SharedMem::new(1 << 20)?;
    /// b.multi_receive(None, memory.clone(), 1).unwrap();
    /// a.inject(b.address(), b"one")?;
    /// a.inject(b.address(), b"two")?;
    /// let mut seen = Vec::new();
    /// while seen.len() < 2 {
    ///     a.progress()?;
    ///     b.progress()?;
    ///     if let Some(Completion::MultiReceived { offset, len, .. }) = b.poll_completion() {
    ///         let mut bytes = vec![0; len];
    ///         memory.read(offset, &mut bytes);
    ///         seen.push((offset, bytes));
    ///     }
    ///     hfi.bus().relax();
    /// }
    /// assert_eq!(seen, [(0, b"one".to_vec()), (8, b"two".to_vec())]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReceiveError::Again`] when too many receives are under way; the buffer comes back with the error.
    pub fn multi_receive(
        &mut self,
        source: Option<Address>,
        buffer: impl Into<SharedRange>,
        context: u64,
    ) -> Result<ReceiveId, Rejected<ReceiveError>> {
        let buffer = buffer.into();
        let pattern = Pattern { tag: 0, ignore: 0, source };
        let parts_full = self.parts >= self.config.operations;
        if let Err(error) = self.may_post(pattern) {
            return Err(Rejected { error, buffer: buffer.into() });
        }
        if parts_full || !self.multi_receives.has_room() {
            return Err(Rejected { error: ReceiveError::Again(pattern), buffer: buffer.into() });
        }
        let filled = Filled { used: 0, len: buffer.len() };
        let min = self.config.thresholds.min_multi_receive;
        let multi = MultiReceive { context, buffer, min, filled, under_way: 0, open: true, error: None };
        let id = match self.multi_receives.insert(multi) {
            Ok(handle) => MultiReceiveId(handle),
            Err(multi) => return Err(Rejected { error: ReceiveError::Again(pattern), buffer: multi.buffer.into() }),
        };
        self.tally.multi_receives += 1;
        if self.take_waiting(id, &pattern) {
            self.tally.multi_posted += 1;
            let posted = self.untagged.post(pattern, Receive::Many(id));
            return Ok(ReceiveId::posted(false, posted));
        }
        self.close_multi_receive(id, None);
        Ok(ReceiveId::MATCHED)
    }

    /// Takes messages that have come before, in their order; `false` when the buffer is used up by that.
    fn take_waiting(&mut self, id: MultiReceiveId, pattern: &Pattern) -> bool {
        loop {
            let Some((_, source, message)) = self.untagged.peek(pattern) else { return true };
            let (len, pieces) = (message.len(), !matches!(message.what, Kept::Eager(..)));
            // There is no room for one more that comes in pieces, and none may be left out.
            if pieces && self.parts >= self.config.operations {
                return false;
            }
            let Some(multi) = self.multi_receives.get_mut(id.0) else { return false };
            let fit = multi.filled.take(len);
            let takes_more = multi.filled.left() >= multi.min;
            if fit == Fit::Elsewhere {
                return false;
            }
            let Some((_, _, message)) = self.untagged.claim(pattern) else { return true };
            self.uncount_unexpected(&message);
            match fit {
                Fit::At(offset) => {
                    let part = self.begin_part(id, offset);
                    self.take_part(part, source, message);
                }
                _ => {
                    self.too_long(id, source, len);
                    self.discard_message(source, message);
                }
            }
            if !takes_more {
                return false;
            }
        }
    }

    /// Puts a message that had come before into its place.
    fn take_part(&mut self, part: Part, source: Address, message: Unexpected) {
        self.tally.multi_claimed += 1;
        let envelope = Envelope { tag: None, data: message.data, source };
        match message.what {
            Kept::Eager(_, bytes) => self.fill_part(part, envelope, &bytes, &[]),
            Kept::MultiPacket { incoming, len } => {
                let place = self.place(part, len);
                self.claim_incoming(incoming, place, source);
            }
            Kept::Offer(offer) => self.accept_part(part, envelope, offer),
        }
    }

    /// What an untagged message of `len` bytes goes to, while there are multi-receives.
    #[inline(never)]
    pub(super) fn find_among_multi_receives(&mut self, envelope: &Envelope, len: u64) -> Found {
        while let Some(at) = self.untagged.find(0, envelope.source) {
            let Some(Receive::Many(id)) = self.untagged.get(at) else {
                return match self.untagged.take(at) {
                    Some(Receive::One(posted)) => Found::Receive(posted),
                    _ => Found::Nobody,
                };
            };
            let id = *id;
            let Some(multi) = self.multi_receives.get_mut(id.0) else {
                self.untagged.take(at);
                continue;
            };
            let fit = multi.filled.take(len);
            let used_up = fit == Fit::Elsewhere || multi.filled.left() < multi.min;
            let found = match fit {
                Fit::At(offset) => Some(Found::Part(self.begin_part(id, offset))),
                Fit::TooLong => {
                    self.too_long(id, envelope.source, len);
                    Some(Found::TooLong)
                }
                Fit::Elsewhere => None,
            };
            if used_up {
                self.untagged.take(at);
                self.close_multi_receive(id, None);
            }
            if let Some(found) = found {
                return found;
            }
        }
        Found::Nobody
    }

    fn begin_part(&mut self, of: MultiReceiveId, offset: usize) -> Part {
        if let Some(multi) = self.multi_receives.get_mut(of.0) {
            multi.under_way += 1;
        }
        Part { of, offset }
    }

    fn too_long(&mut self, id: MultiReceiveId, source: Address, len: u64) {
        if let Some(multi) = self.multi_receives.get_mut(id.0) {
            let error = OperationError::Truncated { message: len, buffer: multi.filled.len as u64 };
            let context = multi.context;
            self.completions.push(Completion::MultiReceiveFailed { context, source, error });
        }
    }

    /// A part's place, for a message that comes in pieces.
    pub(super) fn place(&mut self, part: Part, len: usize) -> Target {
        let multi = self.multi_receives.get_mut(part.of.0);
        match multi.and_then(|multi| multi.buffer.slice(part.offset, len)) {
            Some(place) => Target::Part(place, part),
            // It stays as long as a part of it is under way.
            None => Target::Nowhere,
        }
    }

    /// Copies a whole message into its place.
    pub(super) fn fill_part(&mut self, part: Part, envelope: Envelope, head: &[u8], body: &[u8]) {
        self.tally.multi_eager += 1;
        if let Some(multi) = self.multi_receives.get_mut(part.of.0) {
            multi.buffer.write(part.offset, head);
            multi.buffer.write(part.offset + head.len(), body);
        }
        self.part_received(part, envelope, head.len() + body.len());
    }

    pub(super) fn part_received(&mut self, part: Part, envelope: Envelope, len: usize) {
        let Envelope { data, source, .. } = envelope;
        let Some(multi) = self.multi_receives.get_mut(part.of.0) else { return };
        multi.under_way -= 1;
        let (context, offset) = (multi.context, part.offset);
        self.counters.received_messages += 1;
        self.completions.push(Completion::MultiReceived { context, data, source, offset, len });
        self.release_if_ended(part.of);
    }

    pub(super) fn part_failed(&mut self, part: Part, source: Address, error: OperationError) {
        let Some(multi) = self.multi_receives.get_mut(part.of.0) else { return };
        multi.under_way -= 1;
        let context = multi.context;
        self.completions.push(Completion::MultiReceiveFailed { context, source, error });
        self.release_if_ended(part.of);
    }

    /// Ends a multi-receive that isn't among the posted receives: at once, or with the last message under way.
    pub(super) fn close_multi_receive(&mut self, id: MultiReceiveId, error: Option<OperationError>) {
        if let Some(multi) = self.multi_receives.get_mut(id.0) {
            multi.open = false;
            multi.error = error;
        }
        self.release_if_ended(id);
    }

    /// Gives a buffer back that takes no more, when nothing comes into it any more.
    fn release_if_ended(&mut self, id: MultiReceiveId) {
        if self.multi_receives.get_mut(id.0).is_none_or(|multi| multi.open || multi.under_way > 0) {
            return;
        }
        let Some(MultiReceive { context, buffer, error, .. }) = self.multi_receives.remove(id.0) else { return };
        let buffer = Buffer::from(buffer);
        self.completions.push(match error {
            None => Completion::MultiReceiveDone { context, buffer },
            Some(error) => Completion::Failed { context, error, buffer },
        });
    }
}
