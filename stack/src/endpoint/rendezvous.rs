//! Rendezvous: a long message is offered, its receiver asks for it, and then its bytes come with their place in the buffer.

use super::Endpoint;
use super::multi_receive::Found;
use super::queues::{Progress, Work};
use crate::Address;
use crate::buffer::Buffer;
use crate::completion::OperationError;
use crate::operations::{Envelope, Grant, Incoming, Kept, Offer, Posted, SendKind, Target, Unexpected};
use crate::table::Handle;
use opx_bus::PciFunction;
use opx_defs::time::Instant;
use opx_defs::wire::opx::{Answer, Immediate, Iov, Padding, Route, RzvCts, RzvData, RzvOp, RzvRts};

/// Pieces that a receiver may have asked for and not got yet.
const MOST_GRANTS: usize = 128;
/// Most bytes that go with an offer when nothing is asked for in expected buffers.
const MOST_IMMEDIATE: usize = 63;

/// The answer to a rendezvous offer, until there is room to send it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answering(RzvCts);

impl Answering {
    /// Asks for `bytes` from `sbuf` on, to be put at `rbuf`.
    fn send(origin_counter: u64, cookie: Handle, iov: Iov) -> Self {
        let answer = Answer::Send { op: RzvOp::Rzv, target_cookie: cookie.0, iov, second: None };
        Self(RzvCts { origin_counter, answer })
    }

    /// Tells that the receive buffer is too small.
    fn truncated(origin_counter: u64) -> Self {
        Self(RzvCts { origin_counter, answer: Answer::Truncated })
    }
}

/// The offer of a message in `scratch`; gives its header and its payload's length.
pub(super) fn offer(
    route: &Route,
    envelope: (Option<u64>, Option<u32>),
    buffer: &Buffer,
    handle: Handle,
    scratch: &mut [u8],
) -> Option<(opx_defs::wire::opx::Header, usize)> {
    let mut start = [0; MOST_IMMEDIATE];
    let len = buffer.len();
    let along = len % (MOST_IMMEDIATE + 1);
    let start = &mut start[..along];
    buffer.read(0, start);
    let (bytes, qwords) = start.split_at(along % 8);
    let immediate = Immediate { bytes, qwords, block: None, tail: None };
    let (tag, cq_data) = envelope;
    let rts = RzvRts {
        tag,
        cq_data,
        len: len as u64,
        src_vaddr: along as u64,
        src_device: 0,
        src_iface: 0,
        origin_counter: handle.0,
        immediate,
    };
    rts.encode(route, scratch).ok()
}

/// Bytes of a message of `len` that go with its offer.
pub(super) fn sent_along(len: usize) -> usize {
    len % (MOST_IMMEDIATE + 1)
}

impl<B: PciFunction> Endpoint<B> {
    /// A rendezvous offer came.
    pub(super) fn offered(&mut self, source: Address, rts: &RzvRts<'_>) {
        self.counters.offers += 1;
        let immediate = &rts.immediate;
        let block = immediate.block.map_or(&[][..], |block| &block[..]);
        let offer = Offer {
            len: rts.len,
            origin_counter: rts.origin_counter,
            src_vaddr: rts.src_vaddr,
            src_device: rts.src_device,
            src_iface: rts.src_iface,
            immediate: [immediate.bytes, immediate.qwords, block].concat(),
        };
        let envelope = Envelope { tag: rts.tag, data: rts.cq_data, source };
        match self.find_receive(&envelope, offer.len) {
            Found::Receive(posted) => self.accept(posted, envelope, &offer),
            Found::Part(part) => self.accept_part(part, envelope, &offer),
            Found::TooLong => self.refuse(source, &offer),
            Found::Nobody => {
                self.keep(&envelope, Unexpected { data: envelope.data, what: Kept::Offer(offer) });
            }
        }
    }

    /// Takes an offer for a receive: asks for the data, or says that it doesn't fit.
    pub(super) fn accept(&mut self, posted: Posted, envelope: Envelope, offer: &Offer) {
        let room = posted.buffer.room() as u64;
        if offer.len > room {
            self.refuse(envelope.source, offer);
            let error = OperationError::Truncated { message: offer.len, buffer: room };
            return self.fail(posted.context, error, posted.buffer);
        }
        self.ask_for(Target::Receive(posted), envelope, offer);
    }

    /// Asks for the data of an offer, for which there is room.
    pub(super) fn ask_for(&mut self, mut into: Target, envelope: Envelope, offer: &Offer) {
        // The decoder has checked that what came along is part of the length.
        let along = offer.immediate.len();
        let missing = offer.len - along as u64;
        into.write(0, &offer.immediate);
        match self.add_incoming(Incoming { into, envelope, len: offer.len as usize, missing, uid: None }) {
            Ok(handle) if missing > 0 => {
                let iov = Iov {
                    rbuf: along as u64,
                    sbuf: offer.src_vaddr,
                    bytes: missing,
                    sbuf_device: offer.src_device,
                    sbuf_iface: offer.src_iface as u32,
                };
                self.by_peer.insert((envelope.source, Role::Receiver, handle.0));
                self.queues.push(envelope.source, Work::Answer(Answering::send(offer.origin_counter, handle, iov)));
            }
            Ok(handle) => self.finish_receive(handle),
            // There is a place for every posted receive, see `Endpoint::post_receive`.
            Err(incoming) => self.fail_incoming(incoming, OperationError::Closed),
        }
    }

    /// Tells the sender of an offer that nobody will ask for its data.
    pub(super) fn refuse(&mut self, to: Address, offer: &Offer) {
        // An OPX sender without a counter would follow a null pointer on this answer.
        if offer.origin_counter != 0 {
            self.queues.push(to, Work::Answer(Answering::truncated(offer.origin_counter)));
        }
    }

    pub(super) fn send_answer(&mut self, now: Instant, to: Address, answer: Answering) -> Progress {
        match answer.0.encode(&self.route(to), &mut self.scratch[..]) {
            Ok((header, payload)) => self.post_work(now, to, header, payload),
            Err(_) => Progress::Done,
        }
    }

    /// The receiver's answer to an offer of ours.
    pub(super) fn clear_to_send(&mut self, source: Address, cts: &RzvCts) {
        let handle = Handle(cts.origin_counter);
        let Some(send) = self.sends.get_mut(handle).filter(|send| send.to == source) else {
            self.counters.stale += 1;
            return;
        };
        let buffer = send.buffer.len() as u64;
        let SendKind::Rendezvous { grants, ungranted, truncated } = &mut send.kind else {
            self.counters.stale += 1;
            return;
        };
        match cts.answer {
            Answer::Truncated => {
                grants.clear();
                *truncated = true;
                self.finish_send(handle);
            }
            Answer::Send { target_cookie, iov, second, .. } => {
                let was_idle = grants.is_empty();
                for piece in [Some(iov), second].into_iter().flatten() {
                    let inside = piece.sbuf.checked_add(piece.bytes).is_some_and(|end| end <= buffer);
                    if !inside || piece.bytes == 0 || piece.bytes > *ungranted || grants.len() >= MOST_GRANTS {
                        self.counters.malformed += 1;
                        continue;
                    }
                    *ungranted -= piece.bytes;
                    grants.push_back(Grant {
                        cookie: target_cookie,
                        rbuf: piece.rbuf,
                        from: piece.sbuf as usize,
                        left: piece.bytes as usize,
                    });
                }
                if was_idle && !grants.is_empty() {
                    self.queues.push(source, Work::Transfer(handle));
                }
            }
        }
    }

    /// Sends the next packet of a rendezvous.
    pub(super) fn send_piece(&mut self, now: Instant, to: Address, handle: Handle) -> Progress {
        let Some(send) = self.sends.get_mut(handle) else { return Progress::Done };
        let SendKind::Rendezvous { grants, .. } = &send.kind else { return Progress::Done };
        let Some(&grant) = grants.front() else { return Progress::Done };
        let by_sdma = self.config.thresholds.by_sdma(send.buffer.len());
        let (most, padding) =
            if by_sdma { (self.limits.sdma_data, Padding::Qword) } else { (self.limits.pio_data, Padding::Block) };
        let len = grant.left.min(most);
        let padded = padding.pad(len);
        let data = RzvData {
            op: RzvOp::Rzv,
            target_cookie: grant.cookie,
            rbuf: grant.rbuf,
            len: len as u16,
            ack_req: len == grant.left,
        };
        let Ok(header) = data.encode(&self.route(to), padding) else { return Progress::Done };
        let slot = match self.reserve_work(now, to, Some(handle), padded) {
            Ok(slot) => slot,
            Err(progress) => return progress,
        };
        let mut more = false;
        // The table entry was there a moment ago and nothing in between removes any.
        if let Some(send) = self.sends.get_mut(handle) {
            let bytes = send.buffer.gather(grant.from, len, &mut self.gathered);
            self.slots.write_payload(slot.0, 0, bytes);
            self.slots.pad_payload(slot.0, len, padded - len);
            send.unacknowledged += 1;
            if let SendKind::Rendezvous { grants, .. } = &mut send.kind {
                match grants.front_mut() {
                    Some(front) if front.left > len => {
                        *front = Grant {
                            rbuf: front.rbuf.wrapping_add(len as u64),
                            from: front.from + len,
                            left: front.left - len,
                            ..*front
                        };
                    }
                    _ => {
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
        let Some(incoming) =
            self.incoming.get_mut(handle).filter(|it| it.envelope.source == source && it.uid.is_none())
        else {
            self.counters.stale += 1;
            return;
        };
        if !incoming.take(at, bytes) {
            self.counters.malformed += 1;
        } else if incoming.missing == 0 {
            self.finish_receive(handle);
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
