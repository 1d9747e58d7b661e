//! Rendezvous: a long message is offered, its receiver asks for it, and then its bytes come with their place in the buffer.

use super::Endpoint;
use super::queues::{Progress, Work};
use crate::Address;
use crate::buffer::Buffer;
use crate::completion::OperationError;
use crate::observe::hmem::Data;
use crate::operations::{Along, Coming, Envelope, Grant, Incoming, Offer, Offered, SendKind, Target, Tids};
use crate::table::Handle;
use crate::thresholds::Thresholds;
use opx_bus::PciFunction;
use opx_defs::time::Instant;
use opx_defs::wire::opx::{Answer, Atomic, Dput, DputOp, Immediate, Iov, Padding, RzvCts, RzvOp, RzvRts, RzvTidCts};

/// Pieces that a receiver may have asked for and not got yet.
const MOST_GRANTS: usize = 128;
/// Most bytes that go with an offer: 7, 7 qwords and a block.
const MOST_IMMEDIATE: usize = 127;

/// The answer to a rendezvous offer, until there is room to send it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answering {
    /// All that it says.
    Plain(RzvCts),
    /// That of a part of a transfer in expected packets.
    Expected {
        /// The transfer.
        handle: Handle,
        /// Which part.
        part: u16,
    },
}

impl Answering {
    /// Asks for one piece of a message, or two.
    pub(super) fn send(origin_counter: u64, cookie: Handle, iov: Iov, second: Option<Iov>) -> Self {
        let answer = Answer::Send { op: RzvOp::Rzv, target_cookie: cookie.0, iov, second };
        Self::Plain(RzvCts { origin_counter, answer })
    }

    /// Tells that the receive buffer is too small.
    fn truncated(origin_counter: u64) -> Self {
        Self::Plain(RzvCts { origin_counter, answer: Answer::Truncated })
    }
}

/// What of a message goes with its offer, and room for it: an offer is sized before anything is read.
pub(super) struct Start {
    along: Along,
    bytes: [u8; MOST_IMMEDIATE],
    tail: [u8; 7],
}

impl Start {
    pub(super) fn of(along: Along) -> Self {
        Self { along, bytes: [0; MOST_IMMEDIATE], tail: [0; 7] }
    }

    /// Reads it from the message.
    pub(super) fn read(&mut self, buffer: &Buffer) {
        let Self { along, bytes, tail } = self;
        if let Some(bytes) = bytes.get_mut(..along.bytes) {
            buffer.read(0, bytes);
        }
        if along.tail {
            buffer.read(buffer.len().saturating_sub(tail.len()), tail);
        }
    }

    /// The offer of a message.
    pub(super) fn offer(
        &self,
        (tag, cq_data): (Option<u64>, Option<u32>),
        buffer: &Buffer,
        handle: Handle,
    ) -> Option<RzvRts<'_>> {
        let start = self.bytes.get(..self.along.bytes)?;
        let (small, block) = match self.along.tail.then(|| start.split_last_chunk()).flatten() {
            Some((small, block)) => (small, Some(block)),
            None => (start, None),
        };
        let (bytes, qwords) = small.split_at(small.len() % 8);
        let immediate = Immediate { bytes, qwords, block, tail: self.along.tail.then_some(self.tail) };
        let (src_device, src_iface) = buffer.kind().on_wire();
        Some(RzvRts {
            tag,
            cq_data,
            len: buffer.len() as u64,
            src_vaddr: self.along.bytes as u64,
            src_device,
            src_iface,
            origin_counter: handle.0,
            immediate,
        })
    }
}

/// What of a message goes with its offer: so much that whole lines are left, and a line more where the receiver
/// may want to begin at one of its own (`fi_opx_hfi1.c:opx_hfi1_tx_send_rzv`).
pub(super) fn sent_along(thresholds: &Thresholds, buffer: &Buffer) -> Along {
    let len = buffer.len();
    if !buffer.kind().goes_along() {
        return Along { bytes: 0, tail: false };
    }
    let tail = thresholds.by_tids(len as u64) && len >= MOST_IMMEDIATE;
    Along { bytes: len % 64 + if tail { 64 } else { 0 }, tail }
}

impl<B: PciFunction> Endpoint<B> {
    /// A rendezvous offer came.
    pub(super) fn offered_on_wire(&mut self, source: Address, rts: &RzvRts<'_>) {
        let immediate = &rts.immediate;
        let block = immediate.block.map_or(&[][..], |block| &block[..]);
        let offer = Offer {
            len: rts.len,
            origin_counter: rts.origin_counter,
            src_vaddr: rts.src_vaddr,
            src_device: rts.src_device,
            src_iface: rts.src_iface,
            immediate: [immediate.bytes, immediate.qwords, block].concat(),
            tail: immediate.tail,
        };
        let envelope = Envelope { tag: rts.tag, data: rts.cq_data, source };
        self.offered(envelope, Offered::OnWire(offer));
    }

    /// Asks for the data of an offer, for which there is room.
    pub(super) fn ask_for(&mut self, mut into: Target, envelope: Envelope, offer: &Offer) {
        // The decoder has checked that what came along is part of the length.
        let along = offer.immediate.len();
        let missing = offer.len - along as u64;
        into.write(0, &offer.immediate);
        let incoming = Incoming { into, envelope, len: offer.len as usize, missing, coming: Coming::Asked };
        match self.add_incoming(incoming) {
            Ok(handle) if missing > 0 => {
                self.by_peer.insert((envelope.source, Role::Receiver, handle.0));
                self.ask(handle, &envelope, offer);
            }
            Ok(handle) => self.finish_receive(handle),
            // There is a place for every posted receive, see `Endpoint::post_receive`.
            Err(incoming) => self.fail_incoming(incoming, OperationError::Closed),
        }
    }

    /// Asks for the data of an offer that was accepted.
    fn ask(&mut self, handle: Handle, envelope: &Envelope, offer: &Offer) {
        let into = self.incoming.get_mut(handle).map(|it| std::mem::replace(&mut it.into, Target::Nowhere));
        let Some(mut into) = into else { return };
        let missing = self.ask_for_data(handle, envelope, &mut into, offer);
        if let Some(incoming) = self.incoming.get_mut(handle) {
            (incoming.into, incoming.missing) = (into, missing);
        }
    }

    /// Tells the sender of an offer that nobody will ask for its data.
    pub(super) fn refuse_on_wire(&mut self, to: Address, offer: &Offer) {
        // An OPX sender without a counter would follow a null pointer on this answer.
        if offer.origin_counter != 0 {
            self.stir();
            self.queues.push(to, Work::Answer(Answering::truncated(offer.origin_counter)));
        }
    }

    pub(super) fn send_answer(&mut self, now: Instant, to: Address, answer: Answering) -> Progress {
        let encoded = match answer {
            Answering::Plain(cts) => Some(cts.encode(&self.models.to(to.into()), &mut self.scratch[..])),
            Answering::Expected { handle, part } => self.expected_answer(to, handle, part),
        };
        match encoded {
            Some(Ok((header, payload))) => self.post_work(now, to, header, payload),
            Some(Err(_)) | None => Progress::Done,
        }
    }

    /// The receiver's answer to an offer of ours.
    pub(super) fn clear_to_send(&mut self, source: Address, cts: &RzvCts) {
        match cts.answer {
            Answer::Truncated => {
                let handle = Handle(cts.origin_counter);
                if let Some(SendKind::Rendezvous { grants, truncated, .. }) = self.offered_by_us(source, handle) {
                    grants.clear();
                    *truncated = true;
                    self.finish_send(handle);
                }
            }
            Answer::Send { target_cookie, iov, second, .. } => {
                let (handle, mut granted) = (Handle(cts.origin_counter), false);
                for piece in [Some(iov), second].into_iter().flatten() {
                    granted |= self.grant(source, handle, target_cookie, &piece, None).is_some();
                }
                if let Some(send) = self.sends.get_mut(handle).filter(|_| granted) {
                    let by_sdma = self.config.thresholds.by_sdma(send.buffer.len());
                    self.tally.hmem.data(if by_sdma { Data::Sdma } else { Data::Pio }, &send.buffer);
                }
            }
        }
    }

    /// The receiver's answer to an offer of ours, with expected buffers.
    pub(super) fn clear_to_send_expected(&mut self, source: Address, cts: &RzvTidCts<'_>) {
        let Some(tids) = Tids::of(cts) else {
            self.counters.malformed += 1;
            return;
        };
        let (handle, expected) = (Handle(cts.origin_counter), (tids, cts.adjust));
        let granted = self.grant(source, handle, cts.target_cookie, &cts.iov, Some(expected));
        if let Some(send) = self.sends.get_mut(handle).filter(|_| granted.is_some()) {
            self.tally.hmem.data(Data::Tid, &send.buffer);
        }
    }

    fn offered_by_us(&mut self, source: Address, handle: Handle) -> Option<&mut SendKind> {
        let send = self.sends.get_mut(handle).filter(|send| send.to == source && send.failed.is_none());
        match send.map(|send| &mut send.kind) {
            Some(kind @ SendKind::Rendezvous { .. }) => Some(kind),
            _ => {
                self.counters.stale += 1;
                None
            }
        }
    }

    /// A piece that is asked for; with `expected`, where it goes, and how many bytes more are asked for than weren't sent along.
    /// `None` when it isn't one.
    fn grant(
        &mut self,
        source: Address,
        handle: Handle,
        cookie: u64,
        piece: &Iov,
        expected: Option<(Tids, i32)>,
    ) -> Option<()> {
        let Some(buffer) = self.sends.get_mut(handle).map(|send| send.buffer.len() as u64) else {
            self.counters.stale += 1;
            return None;
        };
        let Some(SendKind::Rendezvous { grants, ungranted, along, .. }) = self.offered_by_us(source, handle) else {
            return None;
        };
        // What came along may be asked for again. A receiver that wanted expected buffers and got none says so of plain pieces
        // only by where they begin.
        let again = (along.bytes as u64).saturating_sub(piece.sbuf);
        let left = match &expected {
            Some((_, adjust)) => ungranted.checked_add_signed(i64::from(*adjust)).filter(|left| *left <= buffer),
            None => Some(*ungranted + again),
        };
        let left = left.and_then(|left| left.checked_sub(piece.bytes));
        let inside = piece.sbuf.checked_add(piece.bytes).is_some_and(|end| end <= buffer);
        let Some(left) = left.filter(|_| inside && piece.bytes > 0 && grants.len() < MOST_GRANTS) else {
            self.counters.malformed += 1;
            return None;
        };
        *ungranted = left;
        let was_idle = grants.is_empty();
        grants.push_back(Grant {
            cookie,
            rbuf: piece.rbuf,
            from: piece.sbuf as usize,
            left: piece.bytes as usize,
            expected: expected.map(|(tids, _)| tids),
        });
        if was_idle {
            self.queues.push(source, Work::Transfer(handle));
        }
        Some(())
    }

    /// Sends the next packet of a rendezvous.
    pub(super) fn send_piece(&mut self, now: Instant, to: Address, handle: Handle) -> Progress {
        let from_memory = self.mapped_source(handle);
        let Some(send) = self.sends.get_mut(handle).filter(|send| send.failed.is_none()) else { return Progress::Done };
        let SendKind::Rendezvous { grants, .. } = &send.kind else { return Progress::Done };
        let Some(grant) = grants.front() else { return Progress::Done };
        let by_sdma = self.config.thresholds.by_sdma(send.buffer.len()) || from_memory.is_some();
        let most = if by_sdma { self.limits.sdma_data } else { self.limits.pio_data };
        let (most, place) = match grant.expected.as_ref().map(|tids| tids.room()) {
            Some(Some((tid, offset, room))) => (most.min(room), Some((tid, offset))),
            // That there is room for all of a piece was looked at when it was asked for.
            Some(None) => return Progress::Done,
            None => (most, None),
        };
        let len = grant.left.min(most);
        // Of expected packets only the length in LRH counts.
        let padding = if by_sdma || place.is_some() { Padding::Qword } else { Padding::Block };
        let padded = padding.pad(len);
        let op = if grant.expected.is_some() { DputOp::RzvTid } else { DputOp::Rzv };
        let data = Dput {
            op,
            atomic: Atomic::RENDEZVOUS,
            name: grant.cookie,
            place: grant.rbuf,
            len: len as u16,
            ack_req: len == grant.left,
        };
        let Ok(mut header) = data.encode(&self.models.to(to.into()), padding) else { return Progress::Done };
        if let Some((tid, offset)) = place
            && header.expect(tid, offset).is_none()
        {
            return Progress::Done;
        }
        let from = grant.from;
        let slot = match self.reserve_work(now, to, Some(handle), padded) {
            Ok(slot) => slot,
            Err(progress) => {
                self.tally.refused(progress != Progress::PeerFull);
                return progress;
            }
        };
        if place.is_some() {
            self.slots.set_expected(slot.0);
            self.counters.expected.tid_sent_pkts += 1;
        }
        self.tally.pieces += 1;
        let mut more = false;
        // The table entry was there a moment ago and nothing in between removes any.
        if let Some(send) = self.sends.get_mut(handle) {
            // Whole qwords can be left where they are.
            let whole = if from_memory.is_some() { len / 8 * 8 } else { 0 };
            let bytes = send.buffer.gather(from + whole, len - whole, &mut self.gathered);
            self.counters.rendezvous_bytes_copied += bytes.len() as u64;
            self.slots.write_payload(slot.0, 0, bytes);
            self.slots.pad_payload(slot.0, len - whole, padded - len);
            if let Some((memory, start)) = from_memory.filter(|_| whole > 0) {
                self.slots.take_from(slot.0, memory, start + from, whole, handle);
            }
            send.unacknowledged += 1;
            if let SendKind::Rendezvous { grants, .. } = &mut send.kind {
                if let Some(front) = grants.front_mut() {
                    front.advance(len);
                    if front.left == 0 {
                        grants.pop_front();
                    }
                }
                more = !grants.is_empty();
            }
        }
        self.commit_by(slot, header, padded, by_sdma);
        if more { Progress::More } else { Progress::Done }
    }

    /// Data of a rendezvous that we asked for.
    pub(super) fn data(&mut self, source: Address, handle: Handle, at: u64, bytes: &[u8]) {
        // What is fetched isn't touched by packets, whoever guesses its handle: it is being written to.
        let asked = |it: &&mut Incoming| it.envelope.source == source && it.coming == Coming::Asked;
        let Some(incoming) = self.incoming.get_mut(handle).filter(asked) else {
            self.counters.stale += 1;
            return;
        };
        if !incoming.take(at, bytes) {
            self.counters.malformed += 1;
            return;
        }
        self.counters.rendezvous_bytes_copied += bytes.len() as u64;
        if incoming.missing == 0 {
            self.finish_rendezvous(handle);
        }
    }
}

/// Which end of a rendezvous, or of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Sender,
    Receiver,
    /// It asked for something.
    Requester,
    /// It owes an answer.
    Replier,
    /// It is written to.
    Target,
}
