//! The short way in through shared memory, for what most messages are: whole in the ring, for a receive that waits in bytes of the
//! process' own. Everything else goes the long way (`driving`), and nothing has been done to it here.

use super::super::Endpoint;
use super::{Local, kind};
use crate::buffer::Buffer;
use crate::completion::Completion;
use crate::operations::{Posted, Receive};
use opx_bus::PciFunction;
use opx_shm::{Header, Next};

/// Messages of a poll.
const TURN: u32 = 16;

/// What has been heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Heard {
    Nothing,
    /// Messages, and it isn't time yet to look after anything else.
    Messages,
    /// Something, and everything else is to be looked after as well.
    Something,
}

impl<B: PciFunction> Endpoint<B> {
    /// Takes messages as long as they are such ones; tells whether there were any, and whether there is something else, or may be.
    // Inlined into the one place that polls: that is cheaper than to save the registers that it needs.
    #[inline(always)]
    pub(super) fn hear_plain(&mut self) -> (bool, bool) {
        let Some(Local { node: Some(node), last, addresses, .. }) = self.local.as_deref_mut() else {
            return (false, true);
        };
        let (mut heard, mut silent) = (false, 0);
        for _ in 0..TURN {
            let message = match node.next() {
                Next::Message(message) => message,
                Next::Nothing => {
                    silent += 1;
                    if silent >= node.watched() {
                        return (heard, false);
                    }
                    continue;
                }
                Next::Other => return (heard, true),
            };
            let source = match *last {
                Some((peer, source)) if peer == message.peer() => source,
                _ => {
                    let Some(source) = addresses.get(&message.peer()).copied() else { return (heard, true) };
                    *last = Some((message.peer(), source));
                    source
                }
            };
            let (Header { kind: bits, words: [tag, data] }, len) = (message.header(), message.len());
            // Data is told in 32 bits, and is 0 where there is none.
            let (is_tagged, is_right) = (bits & kind::TAGGED != 0, data >> 32 == 0);
            if bits & !(kind::TAGGED | kind::WITH_DATA) != kind::MESSAGE || !is_right {
                return (heard, true);
            }
            if !is_tagged && self.multi_receives.len() != 0 {
                return (heard, true);
            }
            let matcher = if is_tagged { &mut self.tagged } else { &mut self.untagged };
            let (key, tag) = if is_tagged { (tag, Some(tag)) } else { (0, None) };
            let taken = matcher.take_usual((key, source), |receive| match receive {
                Receive::One(Posted { context, buffer: Buffer::Bytes(bytes) }) if bytes.len() >= len => {
                    Some((*context, std::mem::take(bytes)))
                }
                _ => None,
            });
            let Some((context, mut bytes)) = taken else { return (heard, true) };
            message.read(0, &mut bytes);
            let more = message.take();
            let data = (bits & kind::WITH_DATA != 0).then_some(data as u32);
            if let Some(place) = self.completions.next_place() {
                place.put(Completion::Received { context, tag, data, source, len, buffer: Buffer::Bytes(bytes) });
            }
            // Counts of 64 bits don't wrap; saying so takes the check for it out of the short way.
            self.counters.received_locally = self.counters.received_locally.wrapping_add(1);
            self.counters.received_messages = self.counters.received_messages.wrapping_add(1);
            // A ring with nothing more has been looked at.
            (heard, silent) = (true, usize::from(!more));
            if silent >= node.watched() {
                break;
            }
        }
        (heard, false)
    }
}
