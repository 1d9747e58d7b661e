//! Long messages through shared memory: the sender offers its memory, and the receiver's process fetches it in one copy.

use super::super::Endpoint;
use super::messages::{envelope, header, not_sent};
use super::{Local, Todo};
use crate::Address;
use crate::buffer::{Buffer, SharedRange};
use crate::completion::{Completion, OperationError};
use crate::observe::hmem::Medium;
use crate::operations::{Coming, Envelope, Incoming, Outgoing, Posted, Send, SendError, SendKind, Target};
use crate::table::Handle;
use crate::thresholds::Protocol;
use opx_bus::{PciFunction, SharedMem};
use opx_shm::{Header, NotTaken, OfferId, Offered, PeerId, PullError, PullId, Sink, Source, Taken};

/// The memory of a buffer, and whether it has left the buffer. Whatever the other process can't read as it lies is copied.
fn source(buffer: &mut Buffer) -> (Source, bool) {
    match buffer {
        Buffer::Bytes(bytes) => (Source::from(std::mem::take(bytes)), true),
        Buffer::Raw(raw) => (raw.source(), false),
        Buffer::Shared(range) if let Some(source) = mapped(range, Source::mapped) => (source, false),
        other => {
            let mut bytes = vec![0; other.len()];
            other.read(0, &mut bytes);
            (Source::from(bytes), false)
        }
    }
}

/// Shared memory as what opx-shm takes.
fn mapped<T>(range: &SharedRange, of: impl FnOnce(SharedMem, usize, usize) -> Option<T>) -> Option<T> {
    of(range.memory().clone(), range.start(), range.len())
}

/// Room for `len` bytes: the receive's own memory, which leaves its buffer then, or a copy's.
fn sink(into: &mut Target, len: usize) -> (Sink, bool) {
    match into {
        Target::Receive(Posted { buffer: Buffer::Bytes(bytes), .. }) if bytes.len() >= len => {
            (Sink::from(std::mem::take(bytes)), true)
        }
        Target::Receive(Posted { buffer: Buffer::Raw(raw), .. }) if raw.len() >= len => (raw.sink(), false),
        Target::Receive(Posted { buffer: Buffer::Shared(range), .. })
            if range.len() >= len
                && let Some(sink) = mapped(range, Sink::mapped) =>
        {
            (sink, false)
        }
        _ => (Sink::from(vec![0; len]), false),
    }
}

impl<B: PciFunction> Endpoint<B> {
    /// A message that is too long for the ring.
    pub(super) fn offer_locally(&mut self, peer: PeerId, message: &mut Outgoing) -> Result<(), SendError> {
        let Outgoing { to, tag, data, .. } = *message;
        let has_room = self.sends.has_room();
        let local = self.local.as_mut().filter(|local| has_room && !local.is_in_line(to));
        let Some(Local { node: Some(node), offers, .. }) = local.map(|local| &mut **local) else {
            return Err(SendError::Again(to));
        };
        // What lies elsewhere is copied only if there is room for its offer.
        node.check_room(peer, 0).map_err(|error| not_sent(error, to))?;
        let (memory, moved) = source(&mut message.buffer);
        match node.offer(peer, header(tag, data), memory) {
            Ok(offer) => {
                self.tally.hmem.sent(Medium::Memory, tag.is_some(), Protocol::Rendezvous, &message.buffer);
                if let Ok(handle) = self.sends.insert(Send::new(message, SendKind::Offered)) {
                    offers.insert(offer, (handle, moved));
                }
                self.counters.sent_messages += 1;
                self.counters.sent_locally += 1;
                self.counters.offers_sent += 1;
                Ok(())
            }
            Err((error, memory)) => {
                if moved {
                    message.buffer = memory.into_vec().unwrap_or_default().into();
                }
                Err(not_sent(error, to))
            }
        }
    }

    /// The memory of a message is its owner's again.
    pub(super) fn offer_ended(&mut self, offer: OfferId, memory: Source, result: Result<(), NotTaken>) {
        let Some((handle, moved)) = self.local.as_mut().and_then(|local| local.offers.remove(&offer)) else { return };
        let Some(mut send) = self.take_send(handle) else { return };
        if moved {
            send.buffer = memory.into_vec().unwrap_or_default().into();
        }
        let Send { context, buffer, to, silent, .. } = send;
        // A receiver that has no room, or doesn't want it, ends it as well.
        if let Err(NotTaken::Gone(_)) = result {
            self.counters.sends_failed += 1;
            let error = self.why_ended(to);
            return self.completions.push(Completion::Failed { context, error, buffer });
        }
        self.send_done(context, buffer, silent);
    }

    /// A peer offers a message.
    pub(super) fn offered_locally(
        &mut self,
        source: Address,
        said: &Header,
        overtakes: bool,
        offered: Offered,
    ) -> Taken {
        let Some(envelope) = envelope(said, source) else {
            self.counters.malformed += 1;
            self.do_locally(Todo::Decline(offered));
            return Taken::Yes;
        };
        if overtakes || !self.has_room_for(&envelope, 0, false) {
            return Taken::NotNow;
        }
        self.counters.received_locally += 1;
        self.offered(envelope, crate::operations::Offered::InMemory(offered));
        Taken::Yes
    }

    /// Fetches a message for which there is room.
    pub(in super::super) fn fetch_locally(&mut self, into: Target, envelope: Envelope, offered: Offered) {
        let missing = offered.len();
        let incoming = Incoming { into, envelope, len: missing as usize, missing, coming: Coming::Fetched };
        match self.add_incoming(incoming) {
            Ok(handle) => self.do_locally(Todo::Pull(offered, handle)),
            // There is a place for every posted receive, see `Endpoint::post_receive`.
            Err(incoming) => {
                self.do_locally(Todo::Decline(offered));
                self.fail_incoming(incoming, OperationError::Closed);
            }
        }
    }

    /// Tells a sender that nobody wants its message.
    pub(in super::super) fn decline_locally(&mut self, offered: Offered) {
        self.do_locally(Todo::Decline(offered));
    }

    /// Why what is under way with a peer that is left fails.
    pub(in super::super) fn why_ended(&self, peer: Address) -> OperationError {
        let ending = self.local.as_ref().and_then(|local| local.ending);
        ending.unwrap_or(OperationError::Unreachable(peer))
    }

    /// Begins to fetch a message.
    pub(super) fn pull(&mut self, offered: Offered, handle: Handle) {
        let Some(Local { node: Some(node), pulls, .. }) = self.local.as_deref_mut() else { return };
        let Some(incoming) = self.incoming.get_mut(handle) else { return node.decline(offered) };
        let (sink, moved) = sink(&mut incoming.into, incoming.len);
        pulls.insert(node.pull(offered, sink), (handle, moved));
    }

    /// A message has been fetched, or won't be.
    pub(super) fn pull_ended(&mut self, pull: PullId, sink: Sink, result: Result<usize, PullError>) {
        let Some((handle, moved)) = self.local.as_mut().and_then(|local| local.pulls.remove(&pull)) else { return };
        let Some(incoming) = self.incoming.get_mut(handle) else { return };
        if let Some(bytes) = sink.into_vec() {
            match &mut incoming.into {
                Target::Receive(posted) if moved => posted.buffer = bytes.into(),
                into if result.is_ok() => into.write(0, &bytes),
                _ => {}
            }
        }
        if result == Ok(incoming.len) {
            incoming.missing = 0;
            return self.finish_receive(handle);
        }
        if let Some(incoming) = self.take_incoming(handle) {
            let source = incoming.envelope.source;
            let error = not_fetched(result, source, self.why_ended(source));
            self.counters.unmapped += u64::from(matches!(error, OperationError::Unmapped(_)));
            self.fail_incoming(incoming, error);
        }
    }
}

/// Why a message wasn't fetched: its sender has ended, or is there and its memory isn't.
fn not_fetched(result: Result<usize, PullError>, source: Address, ended: OperationError) -> OperationError {
    match result {
        Err(PullError::Unmapped) => OperationError::Unmapped(source),
        _ => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, SharedMemory};
    use opx_defs::units::Lid;
    use opx_emu::{Config as Chip, Icode, Lab, Pacing};
    use opx_hw::{Hfi, LinkMode, Options};
    use opx_shm::PeerGone;

    #[test]
    fn a_sender_that_has_unmapped_its_message_is_not_one_that_is_gone() {
        let source = Address { lid: Lid(1), rx: 2 };
        let error = |why| not_fetched(Err(why), source, OperationError::Unreachable(source));
        assert_eq!(error(PullError::Unmapped), OperationError::Unmapped(source));
        assert_eq!(error(PeerGone::Died.into()), OperationError::Unreachable(source));
    }

    #[test]
    fn a_message_that_its_sender_has_unmapped_is_counted() {
        let adapter = Lab::new(Pacing::Virtual).add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
        let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        let job = format!("unmapped-{}", std::process::id());
        let config = Config { shared_memory: SharedMemory::of_job(job), ..Config::default() };
        let mut sender = Endpoint::open(&hfi, config.clone()).unwrap();
        let mut receiver = Endpoint::open(&hfi, config).unwrap();
        receiver.receive(None, vec![0; 100_000], 1).unwrap();
        sender.send(receiver.address(), vec![1; 100_000], 2).unwrap();
        // The first message comes through the ring, for which its sender has to do something.
        let mut begun = || {
            receiver.progress().unwrap();
            receiver.local.as_ref().and_then(|local| local.pulls.keys().next().copied())
        };
        let pull = std::iter::repeat_with(&mut begun).take(10_000).flatten().next().unwrap();
        assert_eq!(receiver.counters().unmapped, 0);
        receiver.pull_ended(pull, Sink::from(vec![0; 100_000]), Err(PullError::Unmapped));
        let Some(Completion::Failed { context: 1, error, buffer }) = receiver.poll_completion() else { panic!() };
        assert_eq!((error, buffer.len()), (OperationError::Unmapped(sender.address()), 100_000));
        assert_eq!((receiver.counters().unmapped, receiver.counters().receives_failed), (1, 1));
        assert!(receiver.named_counters().any(|counter| counter == ("endpoint", "unmapped", 1)));
    }
}
