//! What peers ask of this endpoint's memory: each packet is looked up by its key, and what isn't allowed isn't done.
//!
//! OPX has no way to tell a peer that it was refused, so that is told to the owner here: counted, and kept for
//! [`Endpoint::poll_refusal`]. Answers are read from memory when there is room to send them, a packet at a time, so that what a
//! peer asks for takes no memory here but its place in line; and of those places a peer has so many.

use super::Endpoint;
use super::output::reserve;
use super::queues::{Progress, Work};
use super::rendezvous::Role;
use crate::Address;
use crate::atomics::{AtomicOp, Form, Op};
use crate::completion::Completion;
use crate::config::MAX_PAYLOAD;
use crate::one_sided::{Asked, Refusal};
use crate::operations::SendError;
use crate::regions::{Access, RegionError, Regions};
use crate::requests::{Landing, Reply, Source};
use crate::table::Handle;
use opx_bus::PciFunction;
use opx_defs::time::Instant;
use opx_defs::wire::opx::{Atomic as WireAtomic, Dput, DputOp, Fetch, Header, Iov, Opcode, RmaCts, RmaOp, RmaRts};

/// Refusals that are kept until the owner looks.
const MOST_REFUSALS: usize = 64;
/// Buffers of answers that are kept for their memory.
const MOST_SPARE: usize = 16;

impl<B: PciFunction> Endpoint<B> {
    /// The oldest of the peers' packets that weren't obeyed and that this hasn't told of. Few are kept; all are counted
    /// ([`crate::Counters::refused_keys`] and the like). In a forked child there is none.
    pub fn poll_refusal(&mut self) -> Option<Refusal> {
        if self.refusals.is_empty() || !self.process.is_here() {
            return None;
        }
        self.refusals.pop_front()
    }

    /// Whether a packet asks for more than its sender is owed already, or would tell of a write while too much is untold.
    #[inline(never)]
    pub(super) fn owes_too_much(&self, header: &Header, from: Address) -> bool {
        if !header.asks_for_answer(self.config.generation) {
            return false;
        }
        let untold = header.opcode() == Opcode::RmaRts && self.completions.len() >= 4 * self.config.operations;
        untold || self.owed.get(&from).is_some_and(|owed| *owed >= self.config.answers)
    }

    /// Data that isn't a rendezvous'.
    pub(super) fn data_of_request(&mut self, source: Address, dput: &Dput, bytes: &[u8]) {
        match dput.op {
            DputOp::Get => self.answered(source, dput, bytes),
            DputOp::Put => {
                if let Err(error) = change(&self.regions, dput.name, dput.place, dput.atomic, bytes) {
                    self.refuse_access(source, asked_to_change(dput.atomic), error);
                }
            }
            DputOp::PutCq => self.land(source, dput, bytes),
            DputOp::AtomicFetch | DputOp::AtomicCompareFetch => match Fetch::decode(dput, bytes) {
                Ok(fetch) => self.fetch(source, dput, &fetch),
                Err(_) => self.counters.malformed += 1,
            },
            // Data of rendezvous isn't a request's. The others are those of OPX's own shared memory, which isn't spoken here.
            _ => self.counters.malformed += 1,
        }
    }

    /// A read, or the answer to an offer.
    pub(super) fn request_of_peer(&mut self, source: Address, cts: &RmaCts) {
        match cts.op {
            RmaOp::PutCq => self.write_granted(source, cts),
            RmaOp::Get => self.get(source, cts),
        }
    }

    fn get(&mut self, source: Address, cts: &RmaCts) {
        let (key, Iov { rbuf, sbuf: place, bytes: left, .. }) = (cts.target, cts.iov);
        if left == 0 {
            // Somebody wants to know whether we are here.
            return;
        }
        let asked = if cts.atomic.is_none() { Asked::Read } else { Asked::Atomic };
        match self.source_of(key, place, left, cts.atomic) {
            Ok(found) => self.reply(Reply { to: source, request: cts.request, rbuf, source: found }),
            Err(error) => self.refuse_access(source, asked, error),
        }
    }

    /// Where the answer to a read comes from.
    fn source_of(&mut self, key: u64, place: u64, left: u64, atomic: WireAtomic) -> Result<Source, RegionError> {
        let found = self.regions.lookup(key, place, left, Access::REMOTE_READ)?;
        if atomic.is_none() {
            return Ok(Source::Region { key, place, left, read: None });
        }
        let op = AtomicOp::from_wire(atomic)?;
        // There is no operand, which only a READ does without.
        op.check(Form::Fetch, found.len(), 0, None, Some(found.len()))?;
        if found.len() > MAX_PAYLOAD {
            // Too much to be kept for a peer. It gets what is there when there is room to send it, as OPX's targets do it.
            return Ok(Source::Region { key, place, left, read: Some(op) });
        }
        // Now, because what comes after it may change what is there: the order of atomic operations is promised.
        let mut bytes = self.spare_result(found.len());
        found.fetch_apply(&op, &[], &mut bytes)?;
        Ok(Source::Saved { bytes, sent: 0, datatype: atomic.datatype })
    }

    /// An atomic operation with a result: it is done now, and its result kept if it can't be sent now.
    fn fetch(&mut self, source: Address, dput: &Dput, fetch: &Fetch<'_>) {
        let len = fetch.operand.len();
        let mut bytes = self.spare_result(len);
        let done = AtomicOp::from_wire(dput.atomic).map_err(RegionError::Atomic).and_then(|op| {
            let rights = if op.op() == Op::Read { Access::REMOTE_READ } else { Access::ATOMIC };
            let found = self.regions.lookup(dput.name, dput.place, len as u64, rights)?;
            match fetch.compare {
                Some(compare) => found.compare(&op, compare, fetch.operand, &mut bytes),
                None => found.fetch_apply(&op, fetch.operand, &mut bytes),
            }
        });
        if let Err(error) = done {
            self.keep_spare(bytes);
            return self.refuse_access(source, Asked::Atomic, error);
        }
        let result = Source::Saved { bytes, sent: 0, datatype: dput.atomic.datatype };
        self.reply(Reply { to: source, request: fetch.request, rbuf: fetch.rbuf, source: result });
    }

    /// Answers a request: at once if it can be.
    fn reply(&mut self, mut reply: Reply) {
        let to = reply.to;
        self.counters.replies += 1;
        let now = self.hfi.bus().now();
        // Behind others it waits for its turn.
        if !self.owed.contains_key(&to) {
            match self.send_reply_part(now, &mut reply) {
                Ok(true) | Err(SendError::Again(_)) => {}
                Ok(false) | Err(_) => return self.end_reply(reply),
            }
        }
        match self.replies.insert(reply) {
            Ok(handle) => {
                self.owe(to);
                self.by_peer.insert((to, Role::Replier, handle.0));
                self.queues.push(to, Work::Transfer(handle));
                self.stir();
            }
            // Never as many: each peer has few.
            Err(reply) => self.end_reply(reply),
        }
    }

    /// Sends the next packet of an answer whose turn it is.
    pub(super) fn send_reply(&mut self, now: Instant, handle: Handle) -> Progress {
        let Some(mut reply) = self.replies.get_mut(handle).map(Reply::take) else { return Progress::Done };
        let to = reply.to;
        let sent = self.send_reply_part(now, &mut reply);
        if let Some(place) = self.replies.get_mut(handle) {
            *place = reply;
        }
        match sent {
            Ok(true) => Progress::More,
            Err(SendError::Again(_)) => self.why_not(to),
            Ok(false) | Err(_) => {
                self.drop_reply(handle);
                Progress::Done
            }
        }
    }

    /// Sends the next packet of an answer; `true` when there are more.
    fn send_reply_part(&mut self, now: Instant, reply: &mut Reply) -> Result<bool, SendError> {
        if self.slots.available() == 0 {
            // Before anything is read in vain.
            return Err(SendError::Again(reply.to));
        }
        let (left, datatype) = match &reply.source {
            Source::Region { left, read, .. } => {
                let datatype = read.map_or(WireAtomic::ANSWER.datatype, |op| op.to_wire().datatype);
                (usize::try_from(*left).unwrap_or(usize::MAX), datatype)
            }
            Source::Saved { bytes, sent, datatype } => (bytes.len() - sent, *datatype),
        };
        let len = left.min(self.limits.data);
        let (padding, to) = (self.limits.padding(len), reply.to);
        let read = match &reply.source {
            Source::Saved { bytes, sent, .. } => Ok(&bytes[*sent..sent + len]),
            Source::Region { key, place, read, .. } => {
                if self.gathered.len() < len {
                    self.gathered.resize(len, 0);
                }
                let bytes = &mut self.gathered[..len];
                // Again for each packet, because the region may be closed by now.
                let found = self.regions.lookup(*key, *place, len as u64, Access::REMOTE_READ);
                let done = found.and_then(|found| match read {
                    Some(op) => found.fetch_apply(op, &[], bytes),
                    None => found.read(0, bytes),
                });
                done.map(|()| &*bytes)
            }
        };
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(error) => {
                self.refuse_access(reply.to, Asked::Read, error);
                return Ok(false);
            }
        };
        // OPX's SDMA engine asks for an ACK of the last packet; its processor doesn't.
        let ack_req = len == left && self.limits.by_engine(len);
        let atomic = WireAtomic { datatype, ..WireAtomic::ANSWER };
        let dput = Dput { op: DputOp::Get, atomic, name: reply.request, place: reply.rbuf, len: len as u16, ack_req };
        let Ok(header) = dput.encode(&self.models.to(to.into()), padding) else { return Ok(false) };
        let padded = padding.pad(len);
        let slot = reserve(&mut self.local, &mut self.slots, &mut self.reliability, now, reply.to, padded)?;
        self.slots.write_payload(slot.0, 0, bytes);
        self.slots.pad_payload(slot.0, len, padded - len);
        self.commit(slot, header, padded);
        reply.rbuf = reply.rbuf.wrapping_add(len as u64);
        match &mut reply.source {
            Source::Region { place, left, .. } => {
                (*place, *left) = (place.wrapping_add(len as u64), *left - len as u64);
            }
            Source::Saved { sent, .. } => *sent += len,
        }
        Ok(len < left)
    }

    /// An answer ends, sent or not.
    pub(super) fn drop_reply(&mut self, handle: Handle) {
        if let Some(reply) = self.replies.remove(handle) {
            self.by_peer.remove(&(reply.to, Role::Replier, handle.0));
            self.disown(reply.to);
            self.end_reply(reply);
        }
    }

    fn end_reply(&mut self, reply: Reply) {
        if let Source::Saved { bytes, .. } = reply.source {
            self.keep_spare(bytes);
        }
    }

    /// Room for a result.
    fn spare_result(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = self.spare_results.pop().unwrap_or_default();
        bytes.clear();
        bytes.resize(len, 0);
        bytes
    }

    fn keep_spare(&mut self, bytes: Vec<u8>) {
        if self.spare_results.len() < MOST_SPARE {
            self.spare_results.push(bytes);
        }
    }

    /// A peer is owed one thing more.
    fn owe(&mut self, to: Address) {
        *self.owed.entry(to).or_default() += 1;
    }

    /// And one less.
    fn disown(&mut self, to: Address) {
        if let Some(owed) = self.owed.get_mut(&to) {
            *owed -= 1;
            if *owed == 0 {
                self.owed.remove(&to);
            }
        }
    }

    /// A peer offers a write with completion data: asks for it, if it may be done.
    pub(super) fn write_offered(&mut self, source: Address, rts: &RmaRts) {
        let RmaRts { cq_data, atomic, key, request, iov: Iov { rbuf: place, sbuf, bytes: len, .. } } = *rts;
        let allowed = self.regions.lookup(key, place, len, Access::REMOTE_WRITE).and_then(|found| {
            if atomic.is_none() || found.is_empty() {
                return Ok(());
            }
            Ok(AtomicOp::from_wire(atomic)?.check(Form::Update, found.len(), found.len(), None, None)?)
        });
        if let Err(error) = allowed {
            return self.refuse_access(source, asked_to_change(atomic), error);
        }
        let landing = Landing { source, request, data: cq_data, key, place, len, sbuf, atomic, missing: len };
        if let Ok(handle) = self.landings.insert(landing) {
            self.owe(source);
            self.by_peer.insert((source, Role::Target, handle.0));
            self.queues.push(source, Work::Transfer(handle));
            self.stir();
        }
        if len == 0 {
            // Nothing will come.
            self.completions.push(Completion::RemoteWrite { data: cq_data, source, len });
        }
    }

    /// Asks for a write that was offered.
    pub(super) fn send_grant(&mut self, now: Instant, to: Address, handle: Handle) -> Progress {
        let Some(landing) = self.landings.get_mut(handle) else { return Progress::Done };
        let Landing { request, atomic, place: rbuf, sbuf, len: bytes, .. } = *landing;
        let iov = Iov { rbuf, sbuf, bytes, ..Iov::default() };
        let cts = RmaCts { op: RmaOp::PutCq, atomic, request, target: handle.0, iov };
        let Ok((header, payload)) = cts.encode(&self.models.to(to.into()), &mut self.scratch[..]) else {
            return Progress::Done;
        };
        let progress = self.post_work(now, to, header, payload);
        if progress == Progress::Done && bytes == 0 {
            self.drop_landing(handle);
        }
        progress
    }

    /// Data of a write with completion data.
    fn land(&mut self, source: Address, dput: &Dput, bytes: &[u8]) {
        let handle = Handle(dput.name);
        let Some(landing) = self.landings.get_mut(handle).filter(|landing| landing.source == source) else {
            self.counters.stale += 1;
            return;
        };
        let len = bytes.len() as u64;
        let end = dput.place.checked_add(len);
        let inside =
            dput.place >= landing.place && end.is_some_and(|end| end <= landing.place.saturating_add(landing.len));
        if !inside || len > landing.missing || dput.atomic != landing.atomic {
            self.counters.malformed += 1;
            return;
        }
        if let Err(error) = change(&self.regions, landing.key, dput.place, dput.atomic, bytes) {
            // The region has been closed meanwhile: the rest finds nothing any more.
            self.drop_landing(handle);
            return self.refuse_access(source, asked_to_change(dput.atomic), error);
        }
        landing.missing -= len;
        if landing.missing == 0 {
            let Landing { data, len, .. } = *landing;
            self.completions.push(Completion::RemoteWrite { data, source, len });
            self.drop_landing(handle);
        }
    }

    pub(super) fn drop_landing(&mut self, handle: Handle) {
        if let Some(landing) = self.landings.remove(handle) {
            self.by_peer.remove(&(landing.source, Role::Target, handle.0));
            self.disown(landing.source);
        }
    }

    /// Counts what a peer may not do, and keeps it for the owner.
    fn refuse_access(&mut self, source: Address, asked: Asked, error: RegionError) {
        let counters = &mut self.counters;
        let counter = match error {
            RegionError::UnknownKey { .. } => &mut counters.refused_keys,
            RegionError::Access { .. } => &mut counters.refused_access,
            RegionError::Before { .. } | RegionError::Outside { .. } => &mut counters.refused_places,
            // Forked isn't told of here: a child's endpoint takes no packets.
            RegionError::Atomic(_) | RegionError::Forked => &mut counters.refused_atomics,
        };
        *counter += 1;
        if self.refusals.len() < MOST_REFUSALS {
            self.refusals.push_back(Refusal { source, asked, error });
        }
    }
}

fn asked_to_change(atomic: WireAtomic) -> Asked {
    if atomic.is_none() { Asked::Write } else { Asked::Atomic }
}

/// Writes to a region, or changes what is there.
fn change(regions: &Regions, key: u64, place: u64, atomic: WireAtomic, bytes: &[u8]) -> Result<(), RegionError> {
    let found = regions.lookup(key, place, bytes.len() as u64, Access::REMOTE_WRITE)?;
    if atomic.is_none() {
        return found.write(0, bytes);
    }
    found.apply(&AtomicOp::from_wire(atomic)?, bytes)
}
