//! What the owner wants to receive: posting and cancelling.

use super::Endpoint;
use crate::Address;
use crate::Pattern;
use crate::buffer::Buffer;
use crate::completion::OperationError;
use crate::operations::{Posted, Receive, ReceiveError, Rejected};
use crate::posted::ReceiveId;
use opx_bus::PciFunction;

impl<B: PciFunction> Endpoint<B> {
    /// Posts `buffer` for the first untagged message, from `source` or from anybody, of those that have come and those that
    /// will.
    ///
    /// # Errors
    /// [`ReceiveError::Again`] when too many receives are under way; the buffer comes back with the error.
    pub fn receive(
        &mut self,
        source: Option<Address>,
        buffer: impl Into<Buffer>,
        context: u64,
    ) -> Result<ReceiveId, Rejected<ReceiveError>> {
        self.post_receive(false, Pattern { tag: 0, ignore: 0, source }, buffer.into(), context)
    }

    /// Posts `buffer` for the first message that `pattern` takes, of those that have come and those that will.
    ///
    /// # Errors
    /// As [`Endpoint::receive`].
    #[inline]
    pub fn tag_receive(
        &mut self,
        pattern: Pattern,
        buffer: impl Into<Buffer>,
        context: u64,
    ) -> Result<ReceiveId, Rejected<ReceiveError>> {
        let buffer = buffer.into();
        let counted = matches!(buffer, Buffer::Device(_) | Buffer::Vector(_));
        // As nearly always: there is plenty of room, and nothing waits that it might be for.
        if !counted && self.tagged.kept() == 0 && self.may_surely_post() {
            let (id, place) = self.tagged.place(&pattern);
            place.put(Receive::One(Posted { context, buffer }));
            return Ok(ReceiveId::posted(true, id));
        }
        self.post_receive(true, pattern, buffer, context)
    }

    /// Whether there is room for another receive even when every incoming message is one.
    #[inline(always)]
    fn may_surely_post(&self) -> bool {
        let most = (self.tagged.posted().wrapping_add(self.untagged.posted())).wrapping_add(self.incoming.len());
        let limit = self.config.operations;
        self.process.is_here() && most < limit && self.queues.answers() < limit && self.has_completion_room()
    }

    #[inline(never)]
    fn post_receive(
        &mut self,
        tagged: bool,
        pattern: Pattern,
        buffer: Buffer,
        context: u64,
    ) -> Result<ReceiveId, Rejected<ReceiveError>> {
        if let Err(error) = self.may_post(pattern) {
            return Err(Rejected { error, buffer });
        }
        self.tally.hmem.posted(tagged, &buffer);
        let posted = Posted { context, buffer };
        let matcher = if tagged { &mut self.tagged } else { &mut self.untagged };
        match matcher.claim(&pattern) {
            None => Ok(ReceiveId::posted(tagged, matcher.post(pattern, Receive::One(posted)))),
            Some((tag, source, message)) => {
                self.take_unexpected(posted, tagged.then_some(tag), source, message);
                Ok(ReceiveId::MATCHED)
            }
        }
    }

    /// Whether there is room for another receive.
    #[inline]
    pub(super) fn may_post(&self, pattern: Pattern) -> Result<(), ReceiveError> {
        if !self.process.is_here() {
            return Err(ReceiveError::Forked);
        }
        // Answers that a peer doesn't let out count too: each refused offer leaves one behind and takes no place.
        let posted = self.tagged.posted() + self.untagged.posted();
        let under_way = (posted + self.incoming.len() - self.unasked - self.parts).max(self.queues.answers());
        let room = under_way < self.config.operations && self.has_completion_room();
        if room { Ok(()) } else { Err(ReceiveError::Again(pattern)) }
    }

    /// Cancels a receive that no message has come for (fi_cancel(3)): it completes as failed with
    /// [`OperationError::Cancelled`], a multi-receive when what has begun to come into it has ended. `false` when a message
    /// had been found for it already, all of a multi-receive is used, or it has ended: then it completes by that; and in a forked
    /// child.
    ///
    /// ```
    /// # use opx_emu::{Config as Chip, Icode, Lab, Pacing};
    /// # use opx_hw::{Hfi, LinkMode, Options};
    /// use opx_stack::{Completion, Config, Endpoint, OperationError, Pattern};
    /// # let lab = Lab::new(Pacing::Virtual);
    /// # let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    /// # let hfi = Hfi::open(adapter.bus(), Options::default())?;
    /// # hfi.link_up(LinkMode::Loopback)?;
    /// let mut endpoint = Endpoint::open(&hfi, Config::default())?;
    /// let receive = endpoint.tag_receive(Pattern::exact(7), vec![0; 64], 1).unwrap();
    /// assert!(endpoint.cancel(receive));
    /// let Some(Completion::Failed { context: 1, error, .. }) = endpoint.poll_completion() else { panic!() };
    /// assert_eq!(error, OperationError::Cancelled);
    /// assert!(!endpoint.cancel(receive), "only once");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(&mut self, receive: ReceiveId) -> bool {
        if !self.process.is_here() {
            return false;
        }
        let matcher = if receive.tagged { &mut self.tagged } else { &mut self.untagged };
        let Some(taken) = receive.post.and_then(|post| matcher.cancel(post)) else { return false };
        self.end_receive(taken, OperationError::Cancelled);
        true
    }

    /// Fails a receive that has been taken out of those that are posted.
    pub(super) fn end_receive(&mut self, receive: Receive, error: OperationError) {
        match receive {
            Receive::One(posted) => self.fail(posted.context, error, posted.buffer),
            Receive::Many(id) => self.close_multi_receive(id, Some(error)),
        }
    }
}
