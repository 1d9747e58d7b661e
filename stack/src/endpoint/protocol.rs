//! The reliability protocol's turn: timers, replays, acknowledgements, peers given up.

use super::Endpoint;
use super::rendezvous::Role;
use crate::Address;
use crate::buffer::Buffer;
use crate::completion::{Completion, OperationError};
use crate::fabric::Reporter;
use crate::observe::Event as Seen;
use crate::operations::{Coming, Incoming, Send, SendKind, Target};
use crate::table::{Handle, Kind};
use opx_bus::PciFunction;
use opx_defs::time::Instant;
use opx_defs::wire::opx::{Opcode, UdOp};
use opx_pio::Head;
use opx_reliability::{Event, Transmit};
use std::collections::HashSet;

impl<B: PciFunction> Endpoint<B> {
    /// Runs the reliability protocol: timers, replays, acknowledgements, peers given up.
    pub(super) fn run_protocol(&mut self, now: Instant) -> bool {
        let mut busy = false;
        if self.reliability.poll_timeout().is_some_and(|timer| now >= timer) {
            self.reliability.on_timeout(now);
            busy = true;
        }
        while let Some(transmit) = self.reliability.poll_transmit(now) {
            busy = true;
            match transmit {
                Transmit::Replay { packet: &slot, .. } => {
                    // A packet that hasn't left yet needs no second place in line.
                    if !self.slots.is_queued(slot) {
                        self.slots.queue(slot);
                        self.slots.make_eager(slot);
                        self.outbox.push_back(slot);
                        self.counters.retransmits += 1;
                        self.tally.engine_replays += u64::from(self.slots.is_by_engine(slot));
                        self.watch_slot(Seen::Replayed, slot);
                        match self.slots.header(slot).opcode_in(self.config.generation) {
                            Opcode::RzvRts(_) => self.counters.replay_rts += 1,
                            Opcode::RzvCts => self.counters.replay_cts += 1,
                            Opcode::RzvData => self.counters.replay_rzv += 1,
                            _ => {}
                        }
                    }
                }
                Transmit::Ud { peer, ud } => {
                    let header = ud.encode(&self.models.to(peer));
                    let sent = self.pio.send(&Head::new(header.pbc(self.config.vl), &header), &[]).is_ok();
                    self.watch_arrival(now, if sent { Seen::ServiceSent } else { Seen::ServiceDropped }, &header, &[]);
                    if !sent {
                        self.counters.service_dropped += 1;
                        if ud.op == UdOp::Ping {
                            self.reliability.ping_lost();
                        }
                    }
                }
            }
        }
        // Before the releases: the packets of a peer that was given up come back as well, and weren't acknowledged.
        let mut lost = Lost::Nobody;
        while let Some(event) = self.reliability.poll_event() {
            busy = true;
            match event {
                Event::PeerUnreachable { peer, .. } => {
                    let peer = Address::from(peer);
                    log::warn!("{}: {peer} doesn't answer", self.hfi.bus().name());
                    self.report(|reporter| reporter.unreachable(peer));
                    self.watch_event(now, Seen::PeerLost);
                    lost.add(peer);
                }
                Event::LinkLost => {
                    log::error!(
                        "{}: the link has been down for {:?}: what was being sent fails",
                        self.hfi.bus().name(),
                        self.config.reliability.link_down_wait
                    );
                    self.report(Reporter::link_lost);
                    lost = Lost::All;
                }
                Event::PeerOutOfStep { peer } => {
                    let peer = Address::from(peer);
                    log::warn!(
                        "{}: {peer} is out of step: it talked to an earlier owner of this address; start it anew",
                        self.hfi.bus().name()
                    );
                    self.report(|reporter| reporter.out_of_step(peer));
                }
            }
        }
        while let Some(slot) = self.reliability.poll_released() {
            busy = true;
            let to = self.slots.to(slot);
            let operation = self.slots.acknowledged(slot);
            if lost.has(to) {
                if let Some(handle) = operation {
                    match handle.kind() {
                        Kind::Request => self.fail_request(handle, OperationError::Unreachable(to)),
                        _ => self.fail_send(handle, OperationError::Unreachable(to)),
                    }
                }
                continue;
            }
            self.queues.acknowledged(to);
            let Some(handle) = operation else { continue };
            if handle.kind() == Kind::Request {
                self.request_acknowledged(handle);
            } else if let Some(send) = self.sends.get_mut(handle) {
                send.unacknowledged = send.unacknowledged.saturating_sub(1);
                self.finish_send(handle);
            }
        }
        if !self.parked.is_empty() {
            self.finish_parked();
        }
        // What has nothing outstanding and waits for its peer fails, too.
        match lost {
            Lost::Nobody => {}
            Lost::Some(peers) => peers.into_iter().for_each(|peer| self.give_up(peer)),
            Lost::All => {
                self.give_up_all();
                self.stop_reading();
            }
        }
        busy
    }

    /// Completes a send if all of it is done.
    pub(super) fn finish_send(&mut self, handle: Handle) {
        if self.sends.get_mut(handle).is_some_and(|send| send.is_done())
            && let Some(send) = self.take_send(handle)
        {
            self.send_done(send.context, send.buffer, send.silent);
        }
    }

    /// A message has got as far as it was asked to. Whoever doesn't want to know that is still told of a device that didn't copy,
    /// as a failure.
    #[inline]
    pub(super) fn send_done(&mut self, context: u64, buffer: Buffer, silent: bool) {
        self.counters.sends_done = self.counters.sends_done.wrapping_add(1);
        if !silent || buffer.is_faulty() {
            self.completions.push(Completion::Sent { context, buffer });
        }
    }

    /// The same, of bytes of the process' own: no device has a part in them.
    // Not inlined: the short ways that aren't done at once would save registers for it.
    #[inline(never)]
    pub(super) fn send_of_bytes_done(&mut self, context: u64, buffer: Buffer, silent: bool) {
        self.counters.sends_done = self.counters.sends_done.wrapping_add(1);
        if !silent && let Some(place) = self.completions.next_place() {
            place.put(Completion::Sent { context, buffer });
        }
    }

    pub(super) fn fail_send(&mut self, handle: Handle, error: OperationError) {
        if let Some(send) = self.take_send_unless_read(handle, error) {
            self.counters.sends_failed += 1;
            self.completions.push(Completion::Failed { context: send.context, error, buffer: send.buffer });
        }
    }

    pub(super) fn take_send(&mut self, handle: Handle) -> Option<Send> {
        let send = self.sends.remove(handle)?;
        if !matches!(send.kind, SendKind::Eager) {
            self.by_peer.remove(&(send.to, Role::Sender, handle.0));
        }
        Some(send)
    }

    /// Adds a message that comes in pieces, or gives it back when there are too many.
    pub(super) fn add_incoming(&mut self, incoming: Incoming) -> Result<Handle, Incoming> {
        let (unasked, part) = (incoming.into.is_unasked(), incoming.into.is_part());
        let handle = self.incoming.insert(incoming)?;
        self.unasked += usize::from(unasked);
        self.parts += usize::from(part);
        Ok(handle)
    }

    pub(super) fn take_incoming(&mut self, handle: Handle) -> Option<Incoming> {
        let incoming = self.incoming.remove(handle)?;
        self.unasked -= usize::from(incoming.into.is_unasked());
        self.parts -= usize::from(incoming.into.is_part());
        self.by_peer.remove(&(incoming.envelope.source, Role::Receiver, handle.0));
        // Nothing is written to its buffer any more when that goes back.
        self.expected.forget(handle, self.config.tid_rest);
        Some(incoming)
    }

    pub(super) fn fail_incoming(&mut self, incoming: Incoming, error: OperationError) {
        self.fail_target(incoming.into, incoming.envelope.source, error);
    }

    /// Tells whom it concerns that a message from `source` won't come whole.
    pub(super) fn fail_target(&mut self, into: Target, source: Address, error: OperationError) {
        match into {
            Target::Receive(posted) => self.fail(posted.context, error, posted.buffer),
            Target::Part(_, part) => self.part_failed(part, source, error),
            // It is an unexpected message, and whoever asks for it is told.
            Target::Early(_) | Target::Nowhere => {}
        }
    }

    /// Fails the operations with a peer that wait for it; those with packets outstanding have failed with their packets.
    pub(super) fn give_up(&mut self, peer: Address) {
        self.queues.forget(peer);
        let all = (peer, Role::Sender, 0)..=(peer, Role::Target, u64::MAX);
        let waiting: Vec<_> = self.by_peer.range(all).copied().collect();
        for (peer, role, handle) in waiting {
            self.give_up_one(peer, role, Handle(handle));
        }
    }

    fn give_up_all(&mut self) {
        self.queues.clear();
        for (peer, role, handle) in std::mem::take(&mut self.by_peer) {
            self.give_up_one(peer, role, Handle(handle));
        }
    }

    fn give_up_one(&mut self, peer: Address, role: Role, handle: Handle) {
        let error = self.why_ended(peer);
        match role {
            Role::Sender => self.fail_send(handle, error),
            Role::Requester => self.fail_request(handle, error),
            Role::Replier => self.drop_reply(handle),
            Role::Target => self.drop_landing(handle),
            Role::Receiver => {
                if let Some(incoming) = self.take_incoming(handle) {
                    if let Coming::Assembled(uid) = incoming.coming {
                        self.assembling.remove(&(peer, uid));
                    }
                    self.fail_incoming(incoming, error);
                }
            }
        }
    }
}

/// Peers that were given up in one turn.
enum Lost {
    Nobody,
    Some(HashSet<Address>),
    All,
}

impl Lost {
    fn add(&mut self, peer: Address) {
        match self {
            Self::Nobody => *self = Self::Some(HashSet::from([peer])),
            Self::Some(peers) => {
                peers.insert(peer);
            }
            Self::All => {}
        }
    }

    fn has(&self, peer: Address) -> bool {
        match self {
            Self::Nobody => false,
            Self::Some(peers) => peers.contains(&peer),
            Self::All => true,
        }
    }
}
