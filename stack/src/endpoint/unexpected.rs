//! Messages that came before anybody asked for them: looking at them, claiming and discarding them (fi_tagged(3): FI_PEEK,
//! FI_CLAIM, FI_DISCARD).

use super::Endpoint;
use crate::Address;
use crate::Pattern;
use crate::buffer::Buffer;
use crate::operations::{Envelope, Kept, Posted, ReceiveError, Target, Unexpected};
use crate::posted::{Claimed, Peeked, RejectedClaim};
use opx_bus::PciFunction;

/// A message that was claimed and neither received nor discarded.
#[derive(Debug)]
pub(super) struct Claim {
    envelope: Envelope,
    message: Unexpected,
}

/// Untagged messages, of one source or anybody's.
fn untagged(source: Option<Address>) -> Pattern {
    Pattern { tag: 0, ignore: 0, source }
}

fn peeked(tagged: bool, (tag, source, message): (u64, Address, &Unexpected)) -> Peeked {
    Peeked { tag: tagged.then_some(tag), source, len: message.len(), data: message.data }
}

impl<B: PciFunction> Endpoint<B> {
    /// The first untagged message, from `source` or from anybody, that came before it was asked for. It stays. In a forked child there
    /// is none.
    pub fn peek(&mut self, source: Option<Address>) -> Option<Peeked> {
        self.peek_first(false, &untagged(source))
    }

    /// The first message that came before it was asked for, of those that `pattern` takes. It stays. In a forked child there is none.
    pub fn tag_peek(&mut self, pattern: Pattern) -> Option<Peeked> {
        self.peek_first(true, &pattern)
    }

    fn peek_first(&mut self, tagged: bool, pattern: &Pattern) -> Option<Peeked> {
        let matcher = if tagged { &mut self.tagged } else { &mut self.untagged };
        if !self.process.is_here() {
            return None;
        }
        matcher.peek(pattern).map(|found| peeked(tagged, found))
    }

    /// Takes the message that [`Endpoint::peek`] tells of, so that only [`Endpoint::receive_claimed`] gets it.
    pub fn claim(&mut self, source: Option<Address>) -> Option<Claimed> {
        self.claim_first(false, &untagged(source))
    }

    /// Takes the message that [`Endpoint::tag_peek`] tells of, so that only [`Endpoint::receive_claimed`] gets it.
    ///
    /// ```
    /// # use opx_emu::{Config as Chip, Icode, Lab, Pacing};
    /// # use opx_hw::{Hfi, LinkMode, Options};
    /// use opx_bus::PciFunction;
    /// use opx_stack::{Completion, Config, Endpoint, Pattern};
    /// # let lab = Lab::new(Pacing::Virtual);
    /// # let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    /// # let hfi = Hfi::open(adapter.bus(), Options::default())?;
    /// # hfi.link_up(LinkMode::Loopback)?;
    /// let mut a = Endpoint::open(&hfi, Config::default())?;
    /// let mut b = Endpoint::open(&hfi, Config::default())?;
    /// a.tag_inject(b.address(), 7, b"hello")?;
    /// let claimed = loop {
    ///     a.progress()?;
    ///     b.progress()?;
    ///     if let Some(claimed) = b.tag_claim(Pattern::exact(7)) {
    ///         break claimed;
    ///     }
    ///     hfi.bus().relax();
    /// };
    /// // A buffer just as long as the message.
    /// let buffer = vec![0; claimed.message().len as usize];
    /// b.receive_claimed(claimed, buffer, 1).unwrap();
    /// let Some(Completion::Received { buffer, .. }) = b.poll_completion() else { panic!() };
    /// assert_eq!(buffer.into_vec(), b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tag_claim(&mut self, pattern: Pattern) -> Option<Claimed> {
        self.claim_first(true, &pattern)
    }

    fn claim_first(&mut self, tagged: bool, pattern: &Pattern) -> Option<Claimed> {
        let matcher = if tagged { &mut self.tagged } else { &mut self.untagged };
        if !self.process.is_here() {
            return None;
        }
        let (tag, source, message) = matcher.claim(pattern)?;
        let told = peeked(tagged, (tag, source, &message));
        let envelope = Envelope { tag: told.tag, data: told.data, source };
        // Its memory goes on counting as that of an unexpected message, which bounds the table.
        let handle = self.claims.insert(Claim { envelope, message }).ok()?;
        Some(Claimed::new(handle, told, &self.dropped_claims))
    }

    /// Receives a claimed message into `buffer`.
    ///
    /// # Errors
    /// [`ReceiveError::Again`] when too many receives are under way, [`ReceiveError::OfAnother`] when it was claimed at another
    /// endpoint; claim and buffer come back with the error.
    pub fn receive_claimed(
        &mut self,
        claimed: Claimed,
        buffer: impl Into<Buffer>,
        context: u64,
    ) -> Result<(), Box<RejectedClaim>> {
        let buffer = buffer.into();
        let message = claimed.message();
        let pattern = Pattern { tag: message.tag.unwrap_or(0), ignore: 0, source: Some(message.source) };
        if let Err(error) = self.may_post(pattern) {
            return Err(Box::new(RejectedClaim { error, claimed, buffer }));
        }
        match claimed.at(&self.dropped_claims).and_then(|handle| self.claims.remove(handle)) {
            Some(Claim { envelope, message }) => {
                claimed.use_up();
                self.tally.hmem.posted(envelope.tag.is_some(), &buffer);
                self.take_unexpected(Posted { context, buffer }, envelope.tag, envelope.source, message);
                Ok(())
            }
            None => Err(Box::new(RejectedClaim { error: ReceiveError::OfAnother, claimed, buffer })),
        }
    }

    /// Discards the message that [`Endpoint::peek`] tells of: what of it is still to come is dropped, and the sender of one that
    /// was only offered is told. `None` when there is none.
    ///
    /// # Errors
    /// [`ReceiveError::Again`] when too many answers to offers wait for their turn.
    pub fn discard(&mut self, source: Option<Address>) -> Result<Option<Peeked>, ReceiveError> {
        self.discard_first(false, &untagged(source))
    }

    /// Discards the message that [`Endpoint::tag_peek`] tells of, as [`Endpoint::discard`] does.
    ///
    /// # Errors
    /// As [`Endpoint::discard`].
    pub fn tag_discard(&mut self, pattern: Pattern) -> Result<Option<Peeked>, ReceiveError> {
        self.discard_first(true, &pattern)
    }

    fn discard_first(&mut self, tagged: bool, pattern: &Pattern) -> Result<Option<Peeked>, ReceiveError> {
        if !self.process.is_here() {
            return Err(ReceiveError::Forked);
        }
        // Each discarded offer leaves an answer behind, for as long as its peer lets none out.
        if self.queues.answers() >= self.config.operations {
            return Err(ReceiveError::Again(*pattern));
        }
        let matcher = if tagged { &mut self.tagged } else { &mut self.untagged };
        let Some((tag, source, message)) = matcher.claim(pattern) else { return Ok(None) };
        let told = peeked(tagged, (tag, source, &message));
        self.forget_unexpected(source, message);
        Ok(Some(told))
    }

    /// Discards the messages whose claims were dropped, as far as their senders can be told.
    pub(super) fn discard_dropped_claims(&mut self) {
        while self.claims.len() > 0 && self.queues.answers() < self.config.operations {
            let Some(handle) = self.dropped_claims.pop() else { break };
            if let Some(Claim { envelope, message }) = self.claims.remove(handle) {
                self.forget_unexpected(envelope.source, message);
                self.stir();
            }
        }
    }

    /// The memory of a message that is no unexpected one any more.
    pub(super) fn uncount_unexpected(&mut self, message: &Unexpected) {
        self.unexpected_bytes -= message.footprint().min(self.unexpected_bytes);
    }

    fn forget_unexpected(&mut self, source: Address, message: Unexpected) {
        self.uncount_unexpected(&message);
        self.discard_message(source, message);
    }

    /// Discards a message that isn't counted any more.
    pub(super) fn discard_message(&mut self, source: Address, message: Unexpected) {
        match message.what {
            Kept::Eager(..) => {}
            Kept::MultiPacket { incoming, .. } => self.drop_incoming(incoming),
            Kept::Offer(offer) => self.refuse(source, offer),
        }
    }

    /// Gives a message that had come before to a receive.
    pub(super) fn take_unexpected(&mut self, posted: Posted, tag: Option<u64>, source: Address, message: Unexpected) {
        self.uncount_unexpected(&message);
        self.tally.claimed[usize::from(tag.is_some())] += 1;
        let envelope = Envelope { tag, data: message.data, source };
        match message.what {
            Kept::Eager(medium, bytes) => self.complete_receive(posted, envelope, medium, &bytes, &[]),
            Kept::MultiPacket { incoming, .. } => self.claim_incoming(incoming, Target::Receive(posted), source),
            Kept::Offer(offer) => self.accept(posted, envelope, offer),
        }
    }
}
