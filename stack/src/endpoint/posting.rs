//! What the owner wants to receive: posting, looking, claiming, cancelling.

use super::Endpoint;
use crate::Address;
use crate::Pattern;
use crate::buffer::Buffer;
use crate::operations::{Envelope, Kept, Posted, ReceiveError, Rejected, Unexpected};
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
    ) -> Result<(), Rejected<ReceiveError>> {
        self.post_receive(false, Pattern { tag: 0, ignore: 0, source }, buffer.into(), context)
    }

    /// Posts `buffer` for the first message that `pattern` takes, of those that have come and those that will.
    ///
    /// # Errors
    /// As [`Endpoint::receive`].
    pub fn tag_receive(
        &mut self,
        pattern: Pattern,
        buffer: impl Into<Buffer>,
        context: u64,
    ) -> Result<(), Rejected<ReceiveError>> {
        self.post_receive(true, pattern, buffer.into(), context)
    }

    fn post_receive(
        &mut self,
        tagged: bool,
        pattern: Pattern,
        buffer: Buffer,
        context: u64,
    ) -> Result<(), Rejected<ReceiveError>> {
        // Answers that a peer doesn't let out count too: each refused offer leaves one behind and takes no place.
        let posted = self.tagged.posted() + self.untagged.posted();
        let under_way = (posted + self.incoming.len() - self.unasked).max(self.queues.answers());
        if under_way >= self.config.operations {
            return Err(Rejected { error: ReceiveError::Again(pattern), buffer });
        }
        let posted = Posted { context, buffer };
        let matcher = if tagged { &mut self.tagged } else { &mut self.untagged };
        match matcher.claim(&pattern) {
            None => {
                matcher.post(pattern, posted);
            }
            Some((tag, source, message)) => self.take_unexpected(posted, tagged.then_some(tag), source, message),
        }
        Ok(())
    }

    /// Gives a message that had come before to a receive.
    fn take_unexpected(&mut self, posted: Posted, tag: Option<u64>, source: Address, message: Unexpected) {
        self.unexpected_bytes -= message.footprint().min(self.unexpected_bytes);
        let envelope = Envelope { tag, data: message.data, source };
        match message.what {
            Kept::Eager(bytes) => self.complete_receive(posted, envelope, &bytes, &[]),
            Kept::MultiPacket { incoming, .. } => self.claim_incoming(incoming, posted, source),
            Kept::Offer(offer) => self.accept(posted, envelope, &offer),
        }
    }
}
