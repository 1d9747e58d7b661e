//! Expected receive: the data of a rendezvous goes straight into the receive buffer, and only headers come to software.
//!
//! The wire is OPX's, so that the chip can't tell a late packet from one of now: it looks at a packet's TID alone. What keeps
//! a packet that was late from doing harm is this:
//!
//! * TIDs are for one transfer. When that ends, well or badly, they are taken from the chip before the buffer goes back, and the
//!   chip answers for it: nothing is written to a buffer that its owner has.
//! * A sender says each TID in one packet only; what it sends again goes to software. So packets of a transfer can be under way
//!   after its end only if some were sent again, or it ended early. Then its TIDs rest until the fabric can't have them any
//!   more ([`crate::Config::tid_rest`]). The others go to the end of a line.
//! * Each packet that was put somewhere shows its header. If that isn't where it belongs, whoever receives there fails, as his
//!   data may be spoilt ([`OperationError::Overwritten`]). A transfer is complete only when all headers have been looked at
//!   that came before its TIDs were taken away, and no other one gets these before that.

use super::Endpoint;
use super::queues::Work;
use super::rendezvous::Answering;
use crate::Address;
use crate::completion::OperationError;
use crate::operations::{Envelope, Offer, Target};
use crate::table::Handle;
use opx_bus::PciFunction;
use opx_defs::tid::Tid;
use opx_defs::wire::opx::{Dput, Header, Iov, RzvTidCts, Unencodable};
use opx_hw::TransferBuffer;
use std::collections::HashMap;
use std::time::Duration;
use zerocopy::little_endian::U32;

/// Most bytes that one answer asks for in expected packets; what is longer has several.
const MOST_PER_ANSWER: usize = 8 << 20;
/// What OPX begins with in the memory behind a TID, and cuts packets at: offsets count in units of so many bytes.
const LINE: usize = 64;

/// How often what happened with expected packets, by the names of OPX's counters (`fi_opx_debug_counters.h`). The counters only
/// grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpectedReceive {
    /// Offers whose data was to be asked for in expected packets.
    pub rts_tid_eligible: u64,
    /// Offers whose data can't be: too short, or for memory that no device reaches.
    pub rts_tid_ineligible: u64,
    /// Of those that were, with TIDs for all that was wanted.
    pub rts_tid_setup_success: u64,
    /// With TIDs for a part.
    pub tid_update_success_partial: u64,
    /// Without any, as none were left, so that the data came as ever.
    pub rts_fallback_eager_reg_rzv: u64,
    /// Expected packets that came.
    pub tid_rcv_pkts: u64,
    /// Packets of such transfers that were sent again, so that their payload came to software.
    pub tid_rcv_pkts_replays: u64,
    /// Expected packets that weren't where they belong: late ones, or a peer that misbehaves.
    pub tid_misplaced: u64,
    /// Receives that failed for that.
    pub overwritten: u64,
    /// Expected packets sent.
    pub tid_sent_pkts: u64,
}

/// A part of a message that is asked for in expected packets.
#[derive(Debug)]
struct Part<B: PciFunction> {
    buffer: TransferBuffer<B>,
    /// Where it begins in the message.
    at: usize,
}

/// A message that comes, in part or all, in expected packets.
#[derive(Debug)]
struct Transfer<B: PciFunction> {
    source: Address,
    parts: Vec<Part<B>>,
    /// What its sender is asked with.
    origin_counter: u64,
    src_device: u64,
    src_iface: u32,
    /// Where the message begins at the sender.
    start: u64,
    /// Bytes that are asked for beyond those that weren't sent along.
    adjust: i32,
    /// Its packets may be under way although their copies have come.
    disturbed: bool,
    /// Something else was written to its memory.
    spoilt: bool,
    /// Packets taken when its TIDs were taken away; it isn't told of yet.
    ended_at: Option<u64>,
}

impl<B: PciFunction> Transfer<B> {
    /// Its TIDs are taken from the chip. Other transfers get them when all is known of what was put there.
    fn revoke(&mut self) {
        for part in &mut self.parts {
            part.buffer.revoke();
        }
    }

    fn end(&mut self, rest: Duration) {
        let rest = if self.disturbed { rest } else { Duration::ZERO };
        for part in &mut self.parts {
            part.buffer.end(rest);
        }
    }

    /// Whether a packet was put where it says that it belongs.
    fn has_at(&self, header: &Header, dput: &Dput) -> bool {
        self.parts.iter().any(|part| {
            let at = part.buffer.place(header.kdeth());
            at.is_some_and(|at| (part.at + at) as u64 == dput.place && at + usize::from(dput.len) <= part.buffer.len())
        })
    }
}

/// All such messages of an endpoint.
#[derive(Debug)]
pub(super) struct Transfers<B: PciFunction> {
    by_handle: HashMap<u64, Transfer<B>>,
    /// Those that are complete but for a last look.
    ending: Vec<Handle>,
}

impl<B: PciFunction> Transfers<B> {
    pub(super) fn new() -> Self {
        Self { by_handle: HashMap::new(), ending: Vec::new() }
    }

    /// A message is done with: nothing is written to its buffer any more.
    pub(super) fn forget(&mut self, handle: Handle, rest: Duration) {
        if self.by_handle.is_empty() {
            return;
        }
        if let Some(mut transfer) = self.by_handle.remove(&handle.0) {
            // When it is complete its TIDs are gone already.
            transfer.disturbed |= transfer.ended_at.is_none();
            transfer.end(rest);
        }
    }

    /// Whether something waits for a last look.
    #[inline]
    pub(super) fn has_ending(&self) -> bool {
        !self.ending.is_empty()
    }
}

/// What is asked for, and how.
struct Plan<B: PciFunction> {
    parts: Vec<Part<B>>,
    /// From and to, in the message: what comes as ever.
    plain: [Option<(usize, usize)>; 2],
    /// The end of the message comes from the offer.
    use_tail: usize,
}

impl<B: PciFunction> Endpoint<B> {
    /// Asks for the data of an offer that was accepted, of which the first `along` bytes have come. The result is how many bytes
    /// come.
    pub(super) fn ask_for_data(
        &mut self,
        handle: Handle,
        envelope: &Envelope,
        into: &mut Target,
        offer: &Offer,
    ) -> u64 {
        let (source, along) = (envelope.source, offer.immediate.len());
        // The answer is to be sent now, also when it was a receive that accepted the offer.
        self.stir();
        // Where its first byte lies at the sender.
        let start = offer.src_vaddr.wrapping_sub(along as u64);
        let iov = |from: usize, to: usize| Iov {
            rbuf: from as u64,
            sbuf: start.wrapping_add(from as u64),
            bytes: (to - from) as u64,
            sbuf_device: offer.src_device,
            sbuf_iface: offer.src_iface as u32,
        };
        let len = offer.len as usize;
        let Some(plan) = self.plan(into, offer) else {
            let answer = Answering::send(offer.origin_counter, handle, iov(along, len), None);
            self.queues.push(source, Work::Answer(answer));
            return (len - along) as u64;
        };
        if let Some(tail) = offer.tail.as_ref().and_then(|tail| tail.get(7 - plan.use_tail..)) {
            into.write(len - tail.len(), tail);
        }
        let mut asked: usize = plan.parts.iter().map(|part| part.buffer.len()).sum();
        let mut plain = plan.plain.iter().flatten();
        if let Some((from, to)) = plain.next() {
            let second = plain.next();
            asked += to - from + second.map_or(0, |(from, to)| to - from);
            let second = second.map(|(from, to)| iov(*from, *to));
            let answer = Answering::send(offer.origin_counter, handle, iov(*from, *to), second);
            self.queues.push(source, Work::Answer(answer));
        }
        for part in 0..plan.parts.len() as u16 {
            self.queues.push(source, Work::Answer(Answering::Expected { handle, part }));
        }
        let transfer = Transfer {
            source,
            parts: plan.parts,
            origin_counter: offer.origin_counter,
            src_device: offer.src_device,
            src_iface: offer.src_iface as u32,
            start,
            // Both are a few bytes more or less than the same.
            adjust: (asked as i64 - (len - along) as i64) as i32,
            disturbed: false,
            spoilt: false,
            ended_at: None,
        };
        self.expected.by_handle.insert(handle.0, transfer);
        asked as u64
    }

    /// What of a message can be asked for in expected packets, with TIDs for it; `None` when nothing can.
    ///
    /// As in `fi_opx_hfi1.c:opx_hfi1_rx_rzv_rts_tid_eligible` what is asked for begins at a multiple of 64 bytes (or of whole
    /// pages, see [`crate::Config::tid_whole_pages`]): before the first byte that hasn't come, if what came along reaches
    /// back so far, and otherwise behind it. It consists of whole qwords; the rest is part of the offer, or comes as ever.
    fn plan(&mut self, into: &Target, offer: &Offer) -> Option<Plan<B>> {
        let (along, len) = (offer.immediate.len(), offer.len as usize);
        let Some((reachable, base, room)) = into.reachable() else {
            self.counters.expected.rts_tid_ineligible += 1;
            return None;
        };
        let room_end = base + room;
        let align = if self.config.tid_whole_pages { Tid::PAGE as usize } else { LINE };
        // From here on in bytes of the memory.
        let (first, end) = (base + along, base + len);
        let before = first / align * align;
        let from = if before >= base { before } else { first.next_multiple_of(align) };
        let all_pages = !self.config.tid_whole_pages || end.next_multiple_of(align) <= room_end;
        let mut to = if all_pages { end } else { end / align * align };
        let odd = to.checked_sub(from).map_or(0, |bytes| bytes % 8);
        to -= odd;
        let long_enough = to > from && to - from >= self.config.thresholds.tid_min;
        if !self.config.thresholds.by_tids(offer.len - along as u64) || !long_enough {
            self.counters.expected.rts_tid_ineligible += 1;
            return None;
        }
        self.counters.expected.rts_tid_eligible += 1;
        let memory = self.mappings.get(&self.hfi, reachable);
        let of_device = matches!(into, Target::Receive(posted) if posted.buffer.is_devices());
        let (mut parts, mut at) = (Vec::new(), from);
        if let Some(memory) = memory {
            while at < to {
                let wanted = at..to.min(at + MOST_PER_ANSWER);
                self.tally.hmem.tid_updates += u64::from(of_device);
                let Ok(buffer) = self.recv.expect_transfer(&memory, wanted.clone()) else { break };
                at += buffer.len();
                parts.push(Part { buffer, at: wanted.start - base });
                if at < wanted.end {
                    break;
                }
            }
        }
        if parts.is_empty() {
            self.counters.expected.rts_fallback_eager_reg_rzv += 1;
            return None;
        }
        let counters = &mut self.counters.expected;
        *(if at == to { &mut counters.rts_tid_setup_success } else { &mut counters.tid_update_success_partial }) += 1;
        let use_tail = if at == to && to + odd == end && offer.tail.is_some() { odd } else { 0 };
        let piece = |from: usize, to: usize| (from < to).then(|| (from - base, to - base));
        Some(Plan { parts, plain: [piece(first, from), piece(at.max(first), end - use_tail)], use_tail })
    }

    /// The answer for one part of a transfer; `None` when that has ended.
    pub(super) fn expected_answer(
        &mut self,
        to: Address,
        handle: Handle,
        part: u16,
    ) -> Option<Result<(Header, usize), Unencodable>> {
        let transfer = self.expected.by_handle.get(&handle.0)?;
        let Part { buffer, at } = transfer.parts.get(usize::from(part))?;
        let pairs: Vec<U32> = buffer.tids().iter().map(|tid| tid.encode().into()).collect();
        let cts = RzvTidCts {
            origin_counter: transfer.origin_counter,
            target_cookie: handle.0,
            iov: Iov {
                rbuf: *at as u64,
                sbuf: transfer.start.wrapping_add(*at as u64),
                bytes: buffer.len() as u64,
                sbuf_device: transfer.src_device,
                sbuf_iface: transfer.src_iface,
            },
            offset: buffer.offset(),
            adjust: if part == 0 { transfer.adjust } else { 0 },
            pairs: &pairs,
        };
        Some(cts.encode(&self.models.to(to.into()), &mut self.scratch[..]))
    }

    /// An expected packet came, its payload is in place; `fresh` when the reliability protocol counts it.
    pub(super) fn placed(&mut self, source: Address, header: &Header, fresh: bool) {
        let counters = &mut self.counters.expected;
        counters.tid_rcv_pkts += u64::from(fresh);
        let Ok(dput) = Dput::decode_expected(self.config.generation, header) else { return self.misplaced(header) };
        let transfer = self.expected.by_handle.get_mut(&dput.name);
        let belongs = |transfer: &&mut Transfer<B>| transfer.source == source && transfer.has_at(header, &dput);
        let Some(transfer) = transfer.filter(belongs) else { return self.misplaced(header) };
        if !fresh {
            // It is there twice: the same bytes at the same place, but who knows how many more of it are under way.
            transfer.disturbed = true;
            return;
        }
        let handle = Handle(dput.name);
        let Some(incoming) = self.incoming.get_mut(handle) else { return };
        match incoming.missing.checked_sub(dput.len.into()) {
            Some(missing) => incoming.missing = missing,
            None => self.counters.malformed += 1,
        }
        if incoming.missing == 0 {
            self.finish_rendezvous(handle);
        }
    }

    /// A packet was put where it doesn't belong.
    #[cold]
    pub(super) fn misplaced(&mut self, header: &Header) {
        self.counters.expected.tid_misplaced += 1;
        let pair = header.kdeth().tid();
        for transfer in self.expected.by_handle.values_mut() {
            transfer.spoilt |= transfer.parts.iter().any(|part| part.buffer.has_pair(pair));
        }
    }

    /// Data of a transfer came to software: it was sent again.
    pub(super) fn replayed(&mut self, handle: Handle) {
        self.counters.expected.tid_rcv_pkts_replays += 1;
        if let Some(transfer) = self.expected.by_handle.get_mut(&handle.0) {
            transfer.disturbed = true;
        }
    }

    /// All of a message that comes by rendezvous is there.
    pub(super) fn finish_rendezvous(&mut self, handle: Handle) {
        let Some(transfer) = self.expected.by_handle.get_mut(&handle.0) else { return self.finish_receive(handle) };
        if transfer.ended_at.is_none() {
            transfer.revoke();
            transfer.ended_at = Some(self.counters.packets_in);
            self.expected.ending.push(handle);
        }
    }

    /// Completes the messages all of whose headers have been looked at: with `all`, all that came so far have been.
    #[cold]
    pub(super) fn finish_ended(&mut self, all: bool) {
        let queue = u64::from(self.config.header_entries);
        let mut ending = std::mem::take(&mut self.expected.ending);
        ending.retain(|handle| {
            // One that was given up meanwhile is gone.
            let Some(transfer) = self.expected.by_handle.get(&handle.0) else { return false };
            let looked_at = all || transfer.ended_at.is_none_or(|at| self.counters.packets_in >= at + queue);
            if !looked_at {
                return true;
            }
            if transfer.spoilt {
                self.counters.expected.overwritten += 1;
                if let Some(incoming) = self.take_incoming(*handle) {
                    self.fail_incoming(incoming, OperationError::Overwritten);
                }
            } else {
                self.finish_receive(*handle);
            }
            false
        });
        self.expected.ending = ending;
    }
}
