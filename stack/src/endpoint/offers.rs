//! Offers of long messages, over the wire or of a peer's memory on this machine: to whom they belong, and whether they are taken.

use super::Endpoint;
use super::multi_receive::Found;
use crate::Address;
use crate::completion::OperationError;
use crate::operations::{Envelope, Kept, Offered, Part, Posted, Target, Unexpected};
use crate::thresholds::Protocol;
use opx_bus::PciFunction;

impl<B: PciFunction> Endpoint<B> {
    /// An offer came.
    pub(super) fn offered(&mut self, envelope: Envelope, offer: Offered) {
        self.counters.offers += 1;
        match self.find_receive(&envelope, offer.len()) {
            Found::Receive(posted) => self.accept(posted, envelope, offer),
            Found::Part(part) => self.accept_part(part, envelope, offer),
            Found::TooLong => self.refuse(envelope.source, offer),
            Found::Nobody => {
                self.keep(&envelope, Unexpected { data: envelope.data, what: Kept::Offer(offer) });
            }
        }
    }

    /// Takes an offer for a receive, or says that it doesn't fit.
    pub(super) fn accept(&mut self, posted: Posted, envelope: Envelope, offer: Offered) {
        let (len, room) = (offer.len(), posted.buffer.room() as u64);
        if len > room {
            self.refuse(envelope.source, offer);
            let error = OperationError::Truncated { message: len, buffer: room };
            return self.fail(posted.context, error, posted.buffer);
        }
        let (medium, tagged) = (offer.medium(), envelope.tag.is_some());
        self.tally.hmem.received(medium, tagged, Protocol::Rendezvous, &posted.buffer, len as usize);
        self.take_offer(Target::Receive(posted), envelope, offer);
    }

    /// Takes an offer for a place in a multi-receive.
    pub(super) fn accept_part(&mut self, part: Part, envelope: Envelope, offer: Offered) {
        self.tally.multi_offers += 1;
        let into = self.place(part, usize::try_from(offer.len()).unwrap_or(usize::MAX));
        self.take_offer(into, envelope, offer);
    }

    /// Asks for what is offered, or fetches it. There is room for it.
    fn take_offer(&mut self, into: Target, envelope: Envelope, offer: Offered) {
        match offer {
            Offered::OnWire(offer) => self.ask_for(into, envelope, &offer),
            Offered::InMemory(offered) => self.fetch_locally(into, envelope, offered),
        }
    }

    /// Tells the sender of an offer that nobody will take it.
    pub(super) fn refuse(&mut self, to: Address, offer: Offered) {
        match offer {
            Offered::OnWire(offer) => self.refuse_on_wire(to, &offer),
            Offered::InMemory(offered) => self.decline_locally(offered),
        }
    }
}
