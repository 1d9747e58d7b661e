//! Packets of the wire that go through shared memory: what is asked of a peer's memory, and the answers.
//!
//! They take a slot as all packets do. It is free once the packet is in the ring, or, when its operation is to be done only after
//! the peer has used it, once the peer has said so.

use super::super::Endpoint;
use super::super::output::Slot;
use super::{Line, Local, kind};
use crate::Address;
use crate::completion::Level;
use crate::observe::Event as Seen;
use crate::operations::SendError;
use crate::slots::{SlotId, Slots};
use crate::table::Kind;
use opx_bus::PciFunction;
use opx_defs::units::Psn;
use opx_defs::wire::OPX_HEADER_BYTES;
use opx_defs::wire::opx::{Header as WireHeader, Packet};
use opx_shm::{Header, Message, PeerId, Taken};

impl Local {
    /// Takes a slot for a packet to a peer on this machine; `None` for another.
    pub(in super::super) fn reserve(&mut self, slots: &mut Slots, to: Address) -> Result<Option<Slot>, SendError> {
        if self.peer(to)?.is_none() {
            return Ok(None);
        }
        if self.is_in_line(to) {
            return Err(SendError::Again(to));
        }
        let slot = slots.take(to).ok_or(SendError::Again(to))?;
        Ok(Some((slot, Psn::new(0))))
    }

    /// Puts a packet into its peer's ring; `false` when there is no room.
    fn try_to_pass(&mut self, slots: &mut Slots, slot: SlotId, tell: bool) -> bool {
        let to = slots.to(slot);
        let Some(super::Way::There(peer)) = self.way(to) else {
            self.released.push_back((slot, false));
            return true;
        };
        let Some(node) = &mut self.node else { return false };
        let header = slots.header(slot);
        self.scratch.resize(slots.payload(slot), 0);
        slots.copy_payload(slot, &mut self.scratch);
        let said = Header { kind: kind::PACKET | if tell { kind::TELL } else { 0 }, words: [0; 2] };
        match node.try_send(peer, said, &[header.as_bytes(), &self.scratch]) {
            Ok(()) if tell => self.lines.entry(to).or_default().untold.push_back(slot),
            Ok(()) => self.released.push_back((slot, true)),
            Err(opx_shm::SendError::Again) => return false,
            Err(error) => {
                log::debug!("{}: a packet to {to} is lost: {error}", self.me);
                self.released.push_back((slot, false));
            }
        }
        true
    }
}

impl<B: PciFunction> Endpoint<B> {
    /// Sends a packet that is whole in its slot to a peer on this machine, or puts it in line.
    #[inline(never)]
    pub(in super::super) fn pass(&mut self, slot: SlotId) {
        self.stir();
        let (to, tell) = (self.slots.to(slot), self.is_to_be_told(slot));
        let Some(local) = &mut self.local else { return };
        if local.try_to_pass(&mut self.slots, slot, tell) {
            self.watch_slot(Seen::Sent, slot);
        } else {
            local.lines.entry(to).or_default().waiting.push_back(slot);
            local.waiting += 1;
            self.watch_slot(Seen::Queued, slot);
        }
    }

    /// Whether its peer has to say that it has used a packet: the last one of what is to be done there, and one that asks whether
    /// the peer is alive.
    fn is_to_be_told(&mut self, slot: SlotId) -> bool {
        let handle = self.slots.operation(slot).filter(|handle| handle.kind() == Kind::Request);
        let Some(request) = handle.and_then(|handle| self.requests.get_mut(handle)) else { return false };
        let last = request.level == Level::Delivery && request.result.is_none() && !request.has_more();
        last || request.patience.asked
    }

    /// Sends packets that waited for room.
    pub(super) fn pass_waiting(&mut self) {
        let Some(local) = self.local.as_mut().filter(|local| local.waiting > 0) else { return };
        let peers: Vec<Address> =
            local.lines.iter().filter(|(_, line)| !line.waiting.is_empty()).map(|(to, _)| *to).collect();
        for to in peers {
            loop {
                let Some(local) = &mut self.local else { return };
                let Some(slot) = local.lines.get(&to).and_then(|line| line.waiting.front().copied()) else { break };
                let tell = self.is_to_be_told(slot);
                let Some(local) = &mut self.local else { return };
                if !local.try_to_pass(&mut self.slots, slot, tell) {
                    break;
                }
                if let Some(line) = local.lines.get_mut(&to) {
                    line.waiting.pop_front();
                    local.waiting -= 1;
                }
                self.watch_slot(Seen::Sent, slot);
            }
            if self.local.as_ref().is_some_and(|local| !local.is_in_line(to)) {
                self.queues.acknowledged(to);
            }
        }
    }

    /// Sees to the operations of packets that are in their peers' hands, or that never will be.
    pub(super) fn release_passed(&mut self) {
        while let Some((slot, passed)) = self.local.as_mut().and_then(|local| local.released.pop_front()) {
            let to = self.slots.to(slot);
            let operation = self.slots.acknowledged(slot).filter(|handle| handle.kind() == Kind::Request);
            self.stir();
            match operation {
                Some(handle) if passed => self.request_acknowledged(handle),
                Some(handle) => self.fail_request(handle, self.why_ended(to)),
                None => {}
            }
        }
    }

    /// A packet came.
    pub(super) fn packet_from_ring(&mut self, source: Address, message: &Message<'_>) -> Taken {
        let mut header = WireHeader([0; OPX_HEADER_BYTES]);
        let payload = message.len().checked_sub(OPX_HEADER_BYTES).filter(|len| *len <= self.scratch.len());
        let Some(payload) = payload else {
            self.counters.malformed += 1;
            return Taken::Yes;
        };
        message.read(0, &mut header.0);
        let arrival = header.arrival(self.config.generation).ok();
        // Who its peer is was said when it connected.
        let right = arrival.filter(|arrival| Address::from(arrival.origin) == source && !header.is_expected());
        if right.is_none() {
            self.counters.malformed += 1;
            return Taken::Yes;
        }
        let overtakes = message.overtakes && !header.is_free_of_order(self.config.generation);
        if overtakes || self.owes_too_much(&header, source) {
            return Taken::NotNow;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        message.read(OPX_HEADER_BYTES, &mut scratch[..payload]);
        let now = self.hfi.bus().now();
        self.watch_arrival(now, Seen::Delivered, &header, &scratch[..payload]);
        // Messages, and what belongs to them, don't come this way.
        match Packet::decode_in(self.config.generation, &header, &scratch[..payload]) {
            Ok(packet) => self.dispatch_one_sided(source, &packet),
            Err(_) => self.counters.malformed += 1,
        }
        self.scratch = scratch;
        if message.header.kind & kind::TELL != 0
            && let Some(local) = &mut self.local
        {
            match local.used.iter_mut().find(|(peer, _)| *peer == message.peer) {
                Some((_, count)) => *count = count.saturating_add(1),
                None => local.used.push((message.peer, 1)),
            }
        }
        Taken::Yes
    }

    /// A peer tells how many of our packets it has used.
    pub(super) fn used_by_peer(&mut self, source: Address, count: u64) {
        let Some(local) = &mut self.local else { return };
        let untold = local.lines.get_mut(&source).map(|Line { untold, .. }| untold);
        let there = untold.as_ref().map_or(0, |untold| untold.len());
        let count = usize::try_from(count).ok().filter(|count| *count <= there);
        let (Some(untold), Some(count)) = (untold, count) else {
            self.counters.stale += 1;
            return;
        };
        local.released.extend(untold.drain(..count).map(|slot| (slot, true)));
    }

    /// Tells peers how many of their packets were used.
    pub(super) fn tell_peers(&mut self) {
        let Some(Local { node: Some(node), used, .. }) = self.local.as_deref_mut() else { return };
        used.retain(|(peer, count)| {
            let said = Header { kind: kind::USED, words: [*count, 0] };
            matches!(node.try_send(*peer, said, &[]), Err(opx_shm::SendError::Again))
        });
    }

    /// A peer has ended, and with it the packets that it hasn't got or not used.
    pub(super) fn lose_line(&mut self, peer: PeerId, address: Address) {
        let Some(local) = &mut self.local else { return };
        local.used.retain(|(other, _)| *other != peer);
        if let Some(Line { waiting, untold }) = local.lines.remove(&address) {
            local.waiting -= waiting.len();
            local.released.extend(untold.into_iter().chain(waiting).map(|slot| (slot, false)));
        }
    }
}
