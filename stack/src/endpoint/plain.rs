//! The short way in, for what most short messages are: one in its packet's header, in its turn, for a receive that waits in bytes
//! of the process' own. Everything else goes the long way (`arrivals`), and nothing has been done to it here.

use super::Endpoint;
use crate::Address;
use crate::buffer::Buffer;
use crate::completion::Completion;
use crate::operations::{Posted, Receive};
use opx_bus::PciFunction;
use opx_defs::wire::opx::{Generation, Short};
use opx_defs::wire::rhf::Rhf;

impl<B: PciFunction> Endpoint<B> {
    /// To be called when that may have changed: whether packets may go the short way.
    pub(super) fn note_plain(&mut self) {
        self.plain = self.config.generation == Generation::G4 && self.receive_faults.is_off() && self.watch.is_none();
    }

    /// Takes the next packet, whose flags these are, if it is such a message; `None` when it isn't.
    // Inlined into each place that polls: that is cheaper than to save the registers that it needs.
    #[inline(always)]
    pub(super) fn take_plain(&mut self, flags: Rhf) -> Option<()> {
        if !self.plain {
            return None;
        }
        let short = Short::read(&self.recv.bare_header(flags)?)?;
        let turn = self.reliability.turn_of(short.origin, short.psn)?;
        let (tag, data, source, len) = (short.tag, short.cq_data, Address::from(short.origin), short.len());
        if tag.is_none() && self.multi_receives.len() != 0 {
            return None;
        }
        let matcher = if tag.is_some() { &mut self.tagged } else { &mut self.untagged };
        let taken = matcher.take_usual((tag.unwrap_or(0), source), |receive| match receive {
            Receive::One(Posted { context, buffer: Buffer::Bytes(bytes) }) if bytes.len() >= len => {
                Some((*context, std::mem::take(bytes)))
            }
            _ => None,
        });
        let (context, mut bytes) = taken?;
        turn.take();
        self.recv.take_bare();
        self.counters.packets_in = self.counters.packets_in.wrapping_add(1);
        self.counters.received_messages = self.counters.received_messages.wrapping_add(1);
        short.copy_to(&mut bytes);
        let place = self.completions.next_place()?;
        place.put(Completion::Received { context, tag, data, source, len, buffer: Buffer::Bytes(bytes) });
        Some(())
    }
}
