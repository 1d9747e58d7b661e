//! What moves shared memory on: hearing what has come, doing what waits, sleeping, and the ends of peers.

use super::super::Endpoint;
use super::{Heard, Local, Todo, Way, kind, way};
use crate::completion::OperationError;
use crate::error::EndpointError;
use opx_bus::PciFunction;
use opx_defs::time::Instant;
use opx_shm::{Event, PeerGone, PeerId, Taken};
use std::collections::HashSet;

/// Of so many polls that find messages one looks after everything else as well.
const TURNS: u32 = 4;

impl Local {
    #[inline]
    fn has_work(&self) -> bool {
        let nothing = self.todo.is_empty() && self.released.is_empty() && self.used.is_empty();
        self.waiting > 0 || !nothing
    }
}

impl<B: PciFunction> Endpoint<B> {
    /// Takes what has come through shared memory, the short way where that can be.
    #[inline(always)]
    pub(in super::super) fn hear(&mut self) -> Result<Heard, EndpointError> {
        let has_work = match &self.local {
            None => return Ok(Heard::Nothing),
            Some(local) => local.has_work(),
        };
        let (heard, other) = if has_work { (false, true) } else { self.hear_plain() };
        if other {
            let more = self.hear_peers()?;
            return Ok(if heard | more { Heard::Something } else { Heard::Nothing });
        }
        let Some(local) = self.local.as_mut().filter(|_| heard) else { return Ok(Heard::Nothing) };
        local.turns = local.turns.wrapping_add(1);
        Ok(if local.turns.is_multiple_of(TURNS) { Heard::Something } else { Heard::Messages })
    }

    /// Takes what has come through shared memory; `true` when there was something.
    #[inline(never)]
    pub(in super::super) fn hear_peers(&mut self) -> Result<bool, EndpointError> {
        self.hear_with(Self::heard)
    }

    #[inline]
    fn hear_with(&mut self, each: impl Fn(&mut Self, Event<'_>) -> Taken) -> Result<bool, EndpointError> {
        let Some(mut node) = self.local.as_mut().and_then(|local| local.node.take()) else { return Ok(false) };
        let heard = node.poll_some(|event| each(self, event));
        if let Some(local) = &mut self.local {
            local.node = Some(node);
            if local.has_work() {
                self.work_locally();
            }
        }
        Ok(heard? > 0)
    }

    #[inline]
    fn heard(&mut self, event: Event<'_>) -> Taken {
        match event {
            Event::Message(message) => {
                // Somebody new is asked who it is before it is listened to.
                let known = self.local.as_mut().and_then(|local| local.address_of(message.peer));
                let Some(source) = known else { return Taken::NotNow };
                match message.header.kind & kind::BITS {
                    kind::MESSAGE => return self.message_from_ring(source, &message),
                    kind::PACKET => return self.packet_from_ring(source, &message),
                    kind::USED => self.used_by_peer(source, message.header.words[0]),
                    _ => self.counters.malformed += 1,
                }
            }
            Event::Offer { peer, header, overtakes, offered } => {
                let known = self.local.as_mut().and_then(|local| local.address_of(peer));
                let Some(source) = known else { return Taken::NotNow };
                return self.offered_locally(source, &header, overtakes, offered);
            }
            Event::Connected(peer) => self.do_locally(Todo::Meet(peer)),
            Event::Pulled { pull, sink, result } => self.pull_ended(pull, sink, result),
            Event::Released { offer, source, result } => self.offer_ended(offer, source, result),
            Event::Leaving { peer, reason } => self.peer_ended(peer, reason),
            Event::Gone { peer, reason } => {
                self.peer_ended(peer, reason);
                if let Some(local) = &mut self.local {
                    local.last = None;
                    local.addresses.remove(&peer);
                }
            }
            _ => {}
        }
        Taken::Yes
    }

    /// Does something with the node: now, or when it is back.
    pub(super) fn do_locally(&mut self, todo: Todo) {
        // Whoever sleeps for this endpoint doesn't know of it.
        self.stir();
        if let Some(local) = &mut self.local {
            local.todo.push_back(todo);
            if local.node.is_some() {
                self.work_locally();
            }
        }
    }

    #[cold]
    #[inline(never)]
    pub(in super::super) fn work_locally(&mut self) {
        while let Some(todo) = self.local.as_mut().and_then(|local| local.todo.pop_front()) {
            match todo {
                Todo::Meet(peer) => self.meet(peer),
                Todo::Pull(offered, handle) => self.pull(offered, handle),
                Todo::Decline(offered) => {
                    if let Some(Local { node: Some(node), .. }) = self.local.as_deref_mut() {
                        node.decline(offered);
                    }
                }
            }
        }
        self.pass_waiting();
        self.tell_peers();
        self.release_passed();
        if self.queues.is_ready() {
            self.stir();
        }
    }

    /// Somebody has connected, under a name that tells an address.
    fn meet(&mut self, peer: PeerId) {
        let Some(Local { node: Some(node), names, ports, me, .. }) = self.local.as_deref_mut() else { return };
        let address = node.peer_name(peer).and_then(|name| names.address(name));
        let address = address.filter(|address| address != me && ports.iter().any(|port| port.lid == address.lid));
        let Some(address) = address else {
            log::warn!("{me}: {:?} isn't one of this job's endpoints", node.peer_name(peer).unwrap_or_default());
            self.counters.malformed += 1;
            return node.close(peer);
        };
        if let Some(Way::There(before)) =
            way(ports, address).filter(|way| !matches!(way, Way::There(it) if *it == peer))
        {
            // Names are taken once: who has the same has ended, or one of the two isn't who it says.
            if !node.has_ended(before) {
                log::warn!("{me}: somebody says to be {address}, which is there already");
                self.counters.malformed += 1;
                return node.close(peer);
            }
            let reason = node.ending(before).unwrap_or(PeerGone::Died);
            self.peer_ended(before, reason);
        }
        if let Some(local) = &mut self.local {
            local.addresses.insert(peer, address);
            if let Some(way @ (Way::Undecided | Way::Gone)) = local.way_mut(address) {
                *way = Way::There(peer);
            }
        }
    }

    /// A peer has ended: what was under way with it fails.
    pub(super) fn peer_ended(&mut self, peer: PeerId, reason: PeerGone) {
        let Some(local) = &mut self.local else { return };
        // Messages of it may still come.
        let Some(address) = local.addresses.get(&peer).copied() else { return };
        if !matches!(local.way(address), Some(Way::There(it)) if it == peer) {
            return;
        }
        local.set_way(address, Way::Gone);
        self.lose_line(peer, address);
        if !matches!(reason, PeerGone::Closed | PeerGone::Unknown) {
            log::warn!("{}: {address} has ended: {reason}", self.address);
            self.report(|reporter| reporter.unreachable(address));
        }
        self.give_up(address);
        self.stir();
    }

    /// Prepares to sleep until the descriptor of [`Local::irq`] is readable; `true` when there is something to do.
    pub(in super::super) fn arm_locally(&mut self) -> Result<bool, EndpointError> {
        // Whoever made room for what was left didn't say so.
        if self.has_left_messages() && self.hear_peers()? {
            return Ok(true);
        }
        let Some(Local { node: Some(node), todo, released, .. }) = self.local.as_deref_mut() else {
            return Ok(false);
        };
        Ok(!todo.is_empty() || !released.is_empty() || !node.arm()?)
    }

    /// Whether messages of peers on this machine wait for room, which whatever the owner does may make.
    pub(crate) fn has_left_messages(&self) -> bool {
        self.local.as_ref().and_then(|local| local.node.as_ref()).is_some_and(|node| node.has_left())
    }

    /// What waits for a peer that took no more connections tries again, once it is time for that.
    pub(in super::super) fn try_crowded_again(&mut self, now: Instant) {
        for peer in self.local.as_mut().map(|local| local.crowded.due(now)).unwrap_or_default() {
            self.queues.acknowledged(peer);
        }
    }

    /// Ends the transfers of long messages, by leaving the peers that they are with: as long as those may read the memory, or
    /// write to it, it isn't its owner's.
    pub(in super::super) fn end_transfers(&mut self, error: OperationError) {
        if let Some(local) = &mut self.local {
            local.ending = Some(error);
        }
        while self.leave_peers_with_transfers() {
            if let Err(error) = self.hear_with(Self::heard_of_ends) {
                log::warn!("{}: {error}", self.address);
                break;
            }
        }
        if let Some(local) = &mut self.local {
            local.ending = None;
        }
    }

    /// As [`Endpoint::heard`], but begins nothing: the receives that are posted still are about to end.
    fn heard_of_ends(&mut self, event: Event<'_>) -> Taken {
        match event {
            Event::Message(_) | Event::Offer { .. } => Taken::NotNow,
            event => self.heard(event),
        }
    }

    /// Closes the connections with the peers that long messages are under way with; `false` when there are none.
    fn leave_peers_with_transfers(&mut self) -> bool {
        let Some(Local { node: Some(node), offers, pulls, addresses, .. }) = self.local.as_deref_mut() else {
            return false;
        };
        let mut with = HashSet::new();
        for (handle, _) in offers.values() {
            with.extend(self.sends.get_mut(*handle).map(|send| send.to));
        }
        for (handle, _) in pulls.values() {
            with.extend(self.incoming.get_mut(*handle).map(|incoming| incoming.envelope.source));
        }
        let theirs = addresses.iter().filter(|(_, address)| with.contains(address));
        let theirs: Vec<PeerId> = theirs.map(|(peer, _)| *peer).collect();
        theirs.iter().for_each(|peer| node.close(*peer));
        !theirs.is_empty()
    }
}
