//! The way out: packets into slots, slots to the adapter in order, and back when the adapter is done with them.

use super::Endpoint;
use super::local::Local;
use super::queues::{Progress, Work};
use crate::Address;
use crate::error::EndpointError;
use crate::observe::Event;
use crate::operations::SendError;
use crate::slots::{SlotId, Slots};
use crate::table::{Handle, Kind};
use opx_bus::PciFunction;
use opx_defs::time::Instant;
use opx_defs::units::Psn;
use opx_defs::wire::opx::{Block, Header, Origin};
use opx_pio::PioError;
use opx_reliability::{Reliability, SendError as Refused};
use opx_sdma::{Outcome, SdmaError};

/// A packet's slot and its number.
pub(super) type Slot = (SlotId, Psn);

/// Takes a slot and a sequence number for a packet, or neither.
#[inline]
pub(super) fn reserve<Q>(
    local: &mut Option<Box<Local>>,
    slots: &mut Slots,
    reliability: &mut Reliability<SlotId, Q>,
    now: Instant,
    to: Address,
    payload: usize,
) -> Result<Slot, SendError> {
    if let Some(local) = local
        && let Some(slot) = local.reserve(slots, to)?
    {
        return Ok(slot);
    }
    reserve_on_wire(slots, reliability, now, to, payload)
}

/// The same for a peer of which is known that it is reached through the adapter.
#[inline(always)]
fn reserve_on_wire<Q>(
    slots: &mut Slots,
    reliability: &mut Reliability<SlotId, Q>,
    now: Instant,
    to: Address,
    payload: usize,
) -> Result<Slot, SendError> {
    let slot = slots.take(to).ok_or(SendError::Again(to))?;
    match reliability.send(now, Origin::from(to), payload as u32, |_| slot) {
        Ok(psn) => Ok((slot, psn)),
        Err(refused) => {
            slots.untake(slot);
            Err(match refused {
                Refused::Unreachable { .. } => SendError::Unreachable(to),
                Refused::TooManyPeers { limit } => SendError::TooManyPeers(limit),
                Refused::LinkDown => SendError::LinkDown(to),
                _ => SendError::Again(to),
            })
        }
    }
}

impl<B: PciFunction> Endpoint<B> {
    /// Takes a slot and a sequence number for a packet, or neither.
    #[inline]
    pub(super) fn reserve(&mut self, to: Address, payload: usize) -> Result<Slot, SendError> {
        reserve(&mut self.local, &mut self.slots, &mut self.reliability, self.hfi.bus().now(), to, payload)
    }

    /// As [`Endpoint::reserve`], for a peer that is reached through the adapter.
    #[inline(always)]
    pub(super) fn reserve_on_wire(&mut self, to: Address, payload: usize) -> Result<Slot, SendError> {
        reserve_on_wire(&mut self.slots, &mut self.reliability, self.hfi.bus().now(), to, payload)
    }

    /// As [`Endpoint::reserve`], for what waits in line: tells whether it has to wait for its peer or for room.
    pub(super) fn reserve_work(
        &mut self,
        now: Instant,
        to: Address,
        operation: Option<Handle>,
        payload: usize,
    ) -> Result<Slot, Progress> {
        match reserve(&mut self.local, &mut self.slots, &mut self.reliability, now, to, payload) {
            Ok(slot) => {
                if let Some(handle) = operation {
                    self.slots.set_operation(slot.0, handle);
                }
                Ok(slot)
            }
            Err(SendError::Again(_)) => Err(self.why_not(to)),
            // Its operations have failed with the peer.
            Err(_) => Err(Progress::Done),
        }
    }

    /// What a packet has to wait for that was told to come again.
    pub(super) fn why_not(&self, to: Address) -> Progress {
        let local = self.local.as_ref();
        if self.slots.available() == 0 {
            Progress::NoRoom
        } else if !self.replays_used_up() || local.is_some_and(|local| local.is_there(to)) {
            Progress::PeerFull
        } else if local.is_some() {
            Progress::NoReplay
        } else {
            Progress::NoRoom
        }
    }

    fn replays_used_up(&self) -> bool {
        self.reliability.replays_in_use() >= self.config.reliability.replay_pool
    }

    /// Puts a packet that is no operation's own, with the first `payload` bytes of `scratch`, in line for sending.
    pub(super) fn post_work(&mut self, now: Instant, to: Address, header: Header, payload: usize) -> Progress {
        match self.reserve_work(now, to, None, payload) {
            Ok(slot) => {
                self.slots.write_payload(slot.0, 0, &self.scratch[..payload]);
                self.commit(slot, header, payload);
                Progress::Done
            }
            Err(progress) => progress,
        }
    }

    /// Finishes a packet whose payload is in its slot, and sends it if nothing is before it.
    #[inline]
    pub(super) fn commit(&mut self, slot: Slot, header: Header, payload: usize) {
        self.commit_by(slot, header, payload, self.limits.by_engine(payload));
    }

    /// The same, for a packet of which is known by what it goes: the engine, or the processor.
    #[inline]
    pub(super) fn commit_by(&mut self, (slot, psn): Slot, mut header: Header, payload: usize, by_engine: bool) {
        header.set_psn(psn);
        self.commit_block(slot, &Block::of(header.pbc(self.config.vl), &header), payload, by_engine);
    }

    /// The same, for a packet whose first block is made and numbered.
    #[inline]
    pub(super) fn commit_block(&mut self, slot: SlotId, block: &Block, payload: usize, by_engine: bool) {
        self.slots.seal(slot, block, payload);
        if self.local.as_ref().is_some_and(|local| local.is_there(self.slots.to(slot))) {
            return self.pass(slot);
        }
        if by_engine {
            self.slots.set_by_engine(slot);
        }
        self.send_sealed(slot, by_engine);
    }

    /// Puts a packet that is one block into its slot and sends it, or puts it in line.
    #[inline(always)]
    pub(super) fn send_block(&mut self, slot: SlotId, block: &Block) {
        let stored = self.slots.seal_block(slot, block);
        // A context that isn't stale needs no look at freezes.
        if self.outbox.is_empty() && self.sdma.pending() == 0 && self.pio.send_block(block.pbc(), stored).is_ok() {
            return self.watch_slot(Event::Sent, slot);
        }
        self.line_up(slot);
    }

    #[cold]
    #[inline(never)]
    fn line_up(&mut self, slot: SlotId) {
        self.stir();
        self.slots.queue(slot);
        self.outbox.push_back(slot);
        self.watch_slot(Event::Queued, slot);
    }

    /// Sends a packet that is whole in its slot, or puts it in line.
    #[inline(always)]
    pub(super) fn send_sealed(&mut self, slot: SlotId, by_engine: bool) {
        // What waits has to be seen to.
        self.stir();
        // At once if it can be; else when its turn comes, as everything that isn't as usual.
        if self.outbox.is_empty() && !by_engine && self.sdma.pending() == 0 && self.hfi.freezes() == self.freezes {
            let (memory, offset, payload) = self.slots.stored(slot);
            if self.pio.send_stored(memory, offset, payload).is_ok() {
                return self.watch_slot(Event::Sent, slot);
            }
        }
        self.line_up(slot);
    }

    /// Sends what waits in line.
    pub(super) fn pump(&mut self, now: Instant) -> bool {
        let mut busy = false;
        // Peers one after the other that get no packet before another one gives some back.
        let mut passed_over = 0;
        while let Some((to, work)) = self.queues.next() {
            let progress = match work {
                Work::Answer(answer) => self.send_answer(now, to, answer),
                Work::Transfer(handle) => self.send_transfer(now, to, handle),
                Work::Request(handle) => self.send_request(now, to, handle),
            };
            self.queues.done(to, progress);
            match progress {
                Progress::NoRoom => break,
                Progress::NoReplay => {
                    passed_over += 1;
                    if passed_over >= self.queues.ready() {
                        break;
                    }
                }
                Progress::PeerFull => {}
                Progress::More | Progress::Done => (busy, passed_over) = (true, 0),
            }
        }
        busy
    }

    fn send_transfer(&mut self, now: Instant, to: Address, handle: Handle) -> Progress {
        match handle.kind() {
            Kind::Reply => return self.send_reply(now, handle),
            Kind::Landing => return self.send_grant(now, to, handle),
            Kind::Message | Kind::Request => {}
        }
        match self.sends.get_mut(handle).map(|send| send.is_multi_packet()) {
            Some(true) => self.send_nth(now, to, handle),
            Some(false) => self.send_piece(now, to, handle),
            // It ended meanwhile.
            None => Progress::Done,
        }
    }

    /// Takes back slots that the engine is done with; `true` when there was one.
    pub(super) fn take_back_slots(&mut self) -> bool {
        let mut busy = false;
        while let Some((slot, outcome)) = self.sdma.poll() {
            // Sent or failed is the same to the slot: only an acknowledgement says that the packet arrived.
            if let Some(reader) = self.slots.engine_done(slot) {
                self.read_once(reader);
            }
            // Packets that ended because the engine halted don't show that it works.
            self.sdma_done.0 += u64::from(outcome == Outcome::Sent);
            busy = true;
        }
        busy
    }

    /// Writes packets to the adapter, in order, as far as it has room; takes back what it is done with.
    pub(super) fn flush(&mut self) -> Result<bool, EndpointError> {
        let mut busy = self.take_back_slots();
        // What is written to a chip that has to be recovered from a freeze is lost.
        while let Some(&slot) = self.outbox.front().filter(|_| self.hfi.freezes() == self.freezes) {
            if !self.slots.is_retained(slot) {
                // Acknowledged while it waited to be sent again.
                self.outbox.pop_front();
                self.slots.written(slot, false);
                continue;
            }
            if let Some(reader) = self.slots.reader(slot)
                && self.sends.get_mut(reader).is_none_or(|send| send.failed.is_some())
            {
                self.slots.bring_in(slot);
            }
            // Behind packets that the engine still has, a short one goes by the engine too: it would overtake them, and a
            // receiver that sees a gap asks for what is only late.
            let by_engine = self.slots.is_by_engine(slot) || self.sdma.pending() > 0;
            let sent = if by_engine { self.send_by_sdma(slot) } else { self.send_by_pio(slot)? };
            if !sent {
                break;
            }
            self.outbox.pop_front();
            self.watch_slot(if by_engine { Event::SentByEngine } else { Event::Sent }, slot);
            busy = true;
        }
        self.sdma.doorbell();
        Ok(busy)
    }

    fn send_by_sdma(&mut self, slot: SlotId) -> bool {
        match self.sdma.submit(self.slots.fragments(slot).as_slice(), slot) {
            Ok(()) => {
                self.slots.written(slot, true);
                if let Some(send) = self.slots.reader(slot).and_then(|reader| self.sends.get_mut(reader)) {
                    send.reading += 1;
                }
                true
            }
            Err((SdmaError::RingFull { .. }, _)) => {
                // The engine can only make room if it knows of what was queued.
                self.sdma.doorbell();
                false
            }
            Err((error, _)) => {
                log::error!("{}: {error}", self.hfi.bus().name());
                self.slots.written(slot, false);
                true
            }
        }
    }

    fn send_by_pio(&mut self, slot: SlotId) -> Result<bool, EndpointError> {
        let (memory, offset, payload) = self.slots.stored(slot);
        match self.pio.send_stored(memory, offset, payload) {
            Ok(()) => {
                self.slots.written(slot, false);
                Ok(true)
            }
            // An adapter that is gone is seen to where that is looked after.
            Err(PioError::NoCredit { .. } | PioError::Gone { .. }) => Ok(false),
            // Since this packet's turn began: the next progress recovers all of the endpoint.
            Err(PioError::Frozen { .. }) => Ok(false),
            Err(error @ (PioError::TooLong { .. } | PioError::Length { .. })) => {
                // The engine takes any packet.
                log::debug!("{}: {error}", self.hfi.bus().name());
                Ok(self.send_by_sdma(slot))
            }
            // All contexts of an adapter whose link went down need a restart, and can't have it before the link is up.
            Err(_) if !self.hfi.link_state().is_up() => Ok(false),
            Err(halted) => self.mend_send_context(&halted).map(|_| false),
        }
    }
}
