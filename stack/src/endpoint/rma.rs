//! What this endpoint asks of its peers' memory: writes and reads, the packets of all requests, and what comes of them.
//!
//! A write goes as DATA packets that each name key and place. It is done when they are acknowledged: OPX's targets give no other
//! answer, and tell nothing of what they refuse. A write with completion data is offered first (RMA_RTS), then its target asks for
//! it. A read is one packet, whatever its length, answered with DATA packets. Requests to one peer go out in their order.

use super::Endpoint;
use super::local;
use super::output::reserve;
use super::queues::{Progress, Work};
use super::rendezvous::Role;
use crate::Address;
use crate::buffer::Buffer;
use crate::completion::{Completion, Level, OperationError};
use crate::one_sided::{Read, Remote, RequestError, Write};
use crate::operations::{Rejected, SendError};
use crate::requests::{Packet, Request, What, packet};
use crate::table::Handle;
use crate::thresholds::Limits;
use opx_bus::PciFunction;
use opx_defs::time::Instant;
use opx_defs::wire::opx::{
    Atomic as WireAtomic, Dput, DputOp, Fetch, Header, INJECT_MAX_BYTES, Iov, Origin, RmaCts, RmaOp, RmaRts, Way,
};
use std::time::Duration;

/// Looks at a request in `answer_wait`; one more, because the first may come at once.
const LOOKS: u32 = 4;

impl<B: PciFunction> Endpoint<B> {
    /// Writes `buffer` to a peer's memory. The buffer comes back in the completion, which tells that the peer's endpoint has all of
    /// it.
    ///
    /// # Errors
    /// [`SendError::Again`] when there are too many requests; the buffer comes back with the error.
    ///
    /// ```
    /// # use opx_emu::{Config as Chip, Icode, Lab, Pacing};
    /// # use opx_hw::{Hfi, LinkMode, Options};
    /// # use opx_bus::{PciFunction, SharedMem};
    /// # use opx_stack::{Completion, Config, Endpoint, Remote};
    /// # use opx_stack::regions::{Access, Registration};
    /// # let lab = Lab::new(Pacing::Virtual);
    /// # let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    /// # let hfi = Hfi::open(adapter.bus(), Options::default())?;
    /// # hfi.link_up(LinkMode::Loopback)?;
    /// # let mut a = Endpoint::open(&hfi, Config::default())?;
    /// # let mut b = Endpoint::open(&hfi, Config::default())?;
    /// let region = b.regions().register(Registration::of(SharedMem::new(4096)?, Access::ATOMIC))?;
    /// let remote = Remote { peer: b.address(), key: region.key(), place: 64 };
    ///
    /// a.write(remote, b"hello".to_vec(), 1).unwrap();
    /// a.read(remote, vec![0; 5], 2).unwrap();
    /// let mut ended = Vec::new();
    /// while ended.len() < 2 {
    ///     a.progress()?;
    ///     b.progress()?;
    ///     ended.extend(a.poll_completion());
    ///     hfi.bus().relax();
    /// }
    /// assert!(ended.contains(&Completion::Read { context: 2, buffer: b"hello".to_vec().into() }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write(&mut self, to: Remote, buffer: impl Into<Buffer>, context: u64) -> Result<(), Rejected<RequestError>> {
        self.write_with(Write::new(to, buffer, context))
    }

    /// Writes to a peer's memory.
    ///
    /// # Errors
    /// As [`Endpoint::write`].
    pub fn write_with(&mut self, write: Write) -> Result<(), Rejected<RequestError>> {
        let Write { to, buffer, data, context, level, silent, expect } = write;
        let what = data.map_or(What::Write, |data| What::WriteWithData { data, offered: false, granted: None });
        let missing = usize::from(data.is_some());
        self.request(Request { level, silent, missing, expect, ..Request::new(context, to, what, buffer) })
    }

    /// Writes up to 16 bytes to a peer's memory; they are copied and there is no completion.
    ///
    /// # Errors
    /// [`SendError::Again`] when there is no room now, [`SendError::TooLong`] for more than 16 bytes.
    pub fn inject_write(&mut self, to: Remote, data: &[u8]) -> Result<(), RequestError> {
        self.inject_put(to, WireAtomic::NONE, data)
    }

    /// Reads from a peer's memory into `buffer`, as many bytes as it has. It comes back in the completion.
    ///
    /// # Errors
    /// As [`Endpoint::write`].
    pub fn read(
        &mut self,
        from: Remote,
        buffer: impl Into<Buffer>,
        context: u64,
    ) -> Result<(), Rejected<RequestError>> {
        self.read_with(Read::new(from, buffer, context))
    }

    /// Reads from a peer's memory.
    ///
    /// # Errors
    /// As [`Endpoint::write`].
    pub fn read_with(&mut self, read: Read) -> Result<(), Rejected<RequestError>> {
        let Read { from, buffer, context, silent, expect } = read;
        let len = buffer.len();
        let request = Request::new(context, from, What::Read, Buffer::default());
        self.request(Request { silent, len, missing: len, expect, result: Some(buffer), ..request })
    }

    /// Sends a write or an update of one packet that nobody waits for.
    pub(super) fn inject_put(&mut self, to: Remote, atomic: WireAtomic, data: &[u8]) -> Result<(), RequestError> {
        if !self.process.is_here() {
            return Err(SendError::Forked.into());
        }
        if data.len() > INJECT_MAX_BYTES {
            return Err(SendError::TooLong(data.len()).into());
        }
        within_memory(&to, data.len())?;
        if data.is_empty() {
            return Ok(());
        }
        if self.queues.has_requests(to.peer) {
            // It would overtake those.
            return Err(SendError::Again(to.peer).into());
        }
        let dput = put(DputOp::Put, atomic, (to.key, to.place), data.len(), true);
        let padding = self.limits.padding(data.len());
        let Ok(header) = dput.encode(&self.models.to(to.peer.into()), padding) else {
            return Err(SendError::TooLong(data.len()).into());
        };
        let padded = padding.pad(data.len());
        let slot = self.reserve(to.peer, padded)?;
        self.slots.write_payload(slot.0, 0, data);
        self.slots.pad_payload(slot.0, data.len(), padded - data.len());
        self.commit(slot, header, padded);
        self.counters.requests += 1;
        Ok(())
    }

    /// Takes a request: sends its first packet, or puts it in line.
    pub(super) fn request(&mut self, request: Request) -> Result<(), Rejected<RequestError>> {
        let (to, len) = (request.remote.peer, request.len);
        let refused = match (self.process.is_here(), self.has_completion_room()) {
            (true, true) => None,
            (true, false) => Some(SendError::Again(to)),
            (false, _) => Some(SendError::Forked),
        };
        if let Some(error) = refused {
            return Err(Rejected { error: error.into(), buffer: request.into_buffer() });
        }
        if let Err(error) = within_memory(&request.remote, len) {
            return Err(Rejected { error, buffer: request.into_buffer() });
        }
        if let Some(expected) = request.expect.or(self.config.expect_one_sided)
            && let Err(error) = self.check_path(&request, expected)
        {
            return Err(Rejected { error, buffer: request.into_buffer() });
        }
        if len == 0 && !matches!(request.what, What::WriteWithData { .. }) {
            // There is no packet without data. (OPX sends none either and never completes it.)
            self.counters.requests += 1;
            self.counters.requests_done += 1;
            self.completions.extend(request.completion());
            return Ok(());
        }
        let (in_line, of_device) = (self.queues.has_requests(to), request.is_devices());
        let handle = match self.requests.insert(request) {
            Ok(handle) => handle,
            Err(request) => {
                let error = SendError::Again(to).into();
                return Err(Rejected { error, buffer: request.into_buffer() });
            }
        };
        let more = if in_line { Ok(true) } else { self.send_part(self.hfi.bus().now(), to, handle) };
        match more {
            Ok(_) | Err(SendError::Again(_)) => {}
            Err(error) => {
                let buffer = self.requests.remove(handle).map(Request::into_buffer).unwrap_or_default();
                return Err(Rejected { error: error.into(), buffer });
            }
        }
        self.counters.requests += 1;
        if of_device && let Some(request) = self.requests.get_mut(handle) {
            self.tally.hmem.asked(local::medium(self.local.as_deref(), to), &request.what);
        }
        self.stir();
        // Its packets may be acknowledged while it waits, so they don't always fail with the peer.
        self.by_peer.insert((to, Role::Requester, handle.0));
        if more == Ok(false) {
            self.finish_request(handle);
        } else {
            self.queues.push(to, Work::Request(handle));
        }
        Ok(())
    }

    /// Sends the next packet of a request whose turn it is.
    pub(super) fn send_request(&mut self, now: Instant, to: Address, handle: Handle) -> Progress {
        match self.send_part(now, to, handle) {
            Ok(true) => Progress::More,
            Ok(false) => {
                self.finish_request(handle);
                Progress::Done
            }
            Err(SendError::Again(_)) => self.why_not(to),
            Err(_) => {
                self.fail_request(handle, OperationError::Unreachable(to));
                Progress::Done
            }
        }
    }

    /// Sends the next packet of a request, if it has one; `true` when there are more.
    fn send_part(&mut self, now: Instant, to: Address, handle: Handle) -> Result<bool, SendError> {
        let way = self.models.to(to.into());
        let Some(request) = self.requests.get_mut(handle).filter(|request| request.has_more()) else {
            return Ok(false);
        };
        let was_faulty = request.is_faulty();
        let Part { header, payload, len, from } =
            match part(request, handle, &way, &self.limits, &mut self.scratch, &mut self.gathered) {
                Some(part) => part,
                // It was checked that it can be said.
                None => return Err(SendError::TooLong(request.len)),
            };
        let slot = reserve(&mut self.local, &mut self.slots, &mut self.reliability, now, to, payload)
            .inspect_err(|_| request.forget_fault_unless(was_faulty))?;
        match from {
            From::Scratch(filled) => {
                self.slots.write_payload(slot.0, 0, &self.scratch[..filled]);
                self.slots.pad_payload(slot.0, filled, payload - filled);
            }
            From::Buffer => {
                let bytes = request.buffer.gather(request.sent, len, &mut self.gathered);
                self.slots.write_payload(slot.0, 0, bytes);
                self.slots.pad_payload(slot.0, len, payload - len);
            }
        }
        self.slots.set_operation(slot.0, handle);
        if let What::WriteWithData { offered, .. } = &mut request.what {
            *offered = true;
        }
        request.sent += len;
        request.unacknowledged += 1;
        request.last = slot.1;
        request.patience.renew();
        let more = request.has_more();
        self.commit(slot, header, payload);
        Ok(more)
    }

    /// A packet of a request is acknowledged.
    pub(super) fn request_acknowledged(&mut self, handle: Handle) {
        if let Some(request) = self.requests.get_mut(handle) {
            request.unacknowledged = request.unacknowledged.saturating_sub(1);
            request.patience.stirred = true;
            self.finish_request(handle);
        }
    }

    /// Completes a request if all of it is done.
    pub(super) fn finish_request(&mut self, handle: Handle) {
        let Some(request) = self.requests.get_mut(handle).filter(|request| request.is_done()) else { return };
        let to = Origin::from(request.remote.peer);
        if request.level == Level::Delivery
            && request.result.is_none()
            && !self.local.as_ref().is_some_and(|local| local.is_there(request.remote.peer))
            && !self.reliability.has_acknowledged(to, request.last)
        {
            // All of it is there, and may be kept behind a packet that isn't.
            if !std::mem::replace(&mut request.parked, true) {
                self.parked.push_back(handle);
            }
            return;
        }
        if let Some(request) = self.take_request(handle) {
            self.counters.requests_done += 1;
            self.completions.extend(request.completion());
        }
    }

    /// Something was acknowledged: looks at the requests that wait for what was sent before them.
    pub(super) fn finish_parked(&mut self) {
        for _ in 0..self.parked.len() {
            let Some(handle) = self.parked.pop_front() else { break };
            if let Some(request) = self.requests.get_mut(handle) {
                request.parked = false;
                self.finish_request(handle);
            }
        }
    }

    fn take_request(&mut self, handle: Handle) -> Option<Request> {
        let request = self.requests.remove(handle)?;
        self.by_peer.remove(&(request.remote.peer, Role::Requester, handle.0));
        Some(request)
    }

    pub(super) fn fail_request(&mut self, handle: Handle, error: OperationError) {
        if let Some(request) = self.take_request(handle) {
            self.counters.requests_failed += 1;
            let (context, buffer) = (request.context, request.into_buffer());
            self.completions.push(Completion::Failed { context, error, buffer });
        }
    }

    /// The target of a write with completion data asks for it.
    pub(super) fn write_granted(&mut self, source: Address, cts: &RmaCts) {
        let handle = Handle(cts.request);
        let Some(request) = self.requests.get_mut(handle).filter(|request| request.remote.peer == source) else {
            self.counters.stale += 1;
            return;
        };
        let len = request.len as u64;
        let What::WriteWithData { offered: true, granted: granted @ None, .. } = &mut request.what else {
            self.counters.stale += 1;
            return;
        };
        if (cts.iov.sbuf, cts.iov.bytes) != (0, len) {
            self.counters.malformed += 1;
            return;
        }
        *granted = Some((cts.target, cts.iov.rbuf));
        request.missing = 0;
        request.patience.renew();
        if len > 0 {
            self.queues.push(source, Work::Request(handle));
        } else {
            self.finish_request(handle);
        }
    }

    /// Bytes that were asked for.
    pub(super) fn answered(&mut self, source: Address, dput: &Dput, bytes: &[u8]) {
        let handle = Handle(dput.name);
        let Some(request) = self.requests.get_mut(handle).filter(|request| request.remote.peer == source) else {
            self.counters.stale += 1;
            return;
        };
        let sent = request.sent as u64;
        let asked_for = dput.place.checked_add(bytes.len() as u64).is_some_and(|end| end <= sent);
        match &mut request.result {
            None => self.counters.stale += 1,
            Some(result) if asked_for && bytes.len() <= request.missing => {
                result.write(dput.place as usize, bytes);
                request.missing -= bytes.len();
                request.patience.renew();
                if request.missing == 0 {
                    self.finish_request(handle);
                }
            }
            Some(_) => self.counters.malformed += 1,
        }
    }

    /// How long until the requests that wait are looked at again.
    pub(super) fn look_interval(&self) -> Duration {
        self.config.answer_wait / LOOKS
    }

    /// Looks at the requests that wait for an answer: of a target that has taken one and says nothing is asked whether it is there,
    /// and if it is and still says nothing, the request fails.
    pub(super) fn look_at_requests(&mut self, now: Instant) {
        self.next_look = now + self.look_interval();
        if self.requests.len() == 0 {
            return;
        }
        for handle in self.requests.handles() {
            let Some(request) = self.requests.get_mut(handle) else { continue };
            let to = request.remote.peer;
            let waits = request.waits_for_answer();
            let patience = &mut request.patience;
            if !waits || std::mem::take(&mut patience.stirred) {
                patience.idle = 0;
                continue;
            }
            patience.idle = patience.idle.saturating_add(1);
            if u32::from(patience.idle) <= LOOKS {
                continue;
            }
            let lost = patience.asked || self.ask_whether_there(now, to, handle) == Progress::Done;
            if lost {
                self.fail_request(handle, OperationError::Unanswered(to));
            }
        }
    }

    /// Sends a read of no bytes, to which no answer is due but that it has come: [`Progress::Done`] when it can't be sent at all.
    fn ask_whether_there(&mut self, now: Instant, to: Address, handle: Handle) -> Progress {
        let Some(request) = self.requests.get_mut(handle) else { return Progress::Done };
        let iov = Iov { sbuf: request.remote.place, ..Iov::default() };
        let cts = get(WireAtomic::NONE, handle, request.remote.key, iov);
        let Ok((header, payload)) = cts.encode(&self.models.to(to.into()), &mut self.scratch[..]) else {
            return Progress::Done;
        };
        let slot = match self.reserve_work(now, to, Some(handle), payload) {
            Ok(slot) => slot,
            Err(progress) => return progress,
        };
        self.slots.write_payload(slot.0, 0, &self.scratch[..payload]);
        if let Some(request) = self.requests.get_mut(handle) {
            request.unacknowledged += 1;
            request.last = slot.1;
            request.patience.idle = 0;
            request.patience.asked = true;
        }
        self.commit(slot, header, payload);
        Progress::More
    }
}

/// That bytes at a place don't go beyond the end of all places.
fn within_memory(remote: &Remote, len: usize) -> Result<(), RequestError> {
    match remote.place.checked_add(len as u64) {
        Some(_) => Ok(()),
        None => Err(RequestError::Place { place: remote.place, len }),
    }
}

/// A packet of a request.
struct Part {
    header: Header,
    /// Bytes of payload on the wire.
    payload: usize,
    /// Bytes at the target that it is about.
    len: usize,
    from: From,
}

/// Where a packet's payload is.
enum From {
    /// So many bytes of it in the scratch space.
    Scratch(usize),
    /// In the request's buffer.
    Buffer,
}

/// The next packet of a request that has more.
fn part(
    request: &Request,
    handle: Handle,
    way: &Way<'_>,
    limits: &Limits,
    scratch: &mut [u8],
    gathered: &mut Vec<u8>,
) -> Option<Part> {
    let Request { remote: Remote { key, place, .. }, sent, .. } = *request;
    let left = request.len - sent;
    let place = place.wrapping_add(sent as u64);
    let Packet { len, payload } = packet(request.what.kind(), left, limits);
    let data = |op, atomic, (name, place)| {
        let padding = limits.padding(len);
        // As OPX's, the last packet asks for its acknowledgement.
        let header = put(op, atomic, (name, place), len, len == left).encode(way, padding).ok()?;
        Some(Part { header, payload, len, from: From::Buffer })
    };
    let asked = |(header, payload), len| Part { header, payload, len, from: From::Scratch(payload) };
    match &request.what {
        What::Write => data(DputOp::Put, WireAtomic::NONE, (key, place)),
        What::Update(op) => data(DputOp::Put, op.to_wire(), (key, place)),
        What::WriteWithData { granted: Some((name, rbuf)), .. } => {
            let place = rbuf.wrapping_add(sent as u64);
            data(DputOp::PutCq, WireAtomic::NONE, (*name, place))
        }
        What::WriteWithData { data: cq_data, .. } => {
            let iov = Iov { rbuf: place, bytes: left as u64, ..Iov::default() };
            let rts = RmaRts { cq_data: *cq_data, atomic: WireAtomic::NONE, key, request: handle.0, iov };
            Some(asked(rts.encode(way, scratch).ok()?, 0))
        }
        What::Read | What::AtomicRead(_) => {
            let atomic = match &request.what {
                What::AtomicRead(op) => op.to_wire(),
                _ => WireAtomic::NONE,
            };
            // `rbuf` comes back with the bytes and is ours to choose.
            let iov = Iov { rbuf: sent as u64, sbuf: place, bytes: len as u64, ..Iov::default() };
            Some(asked(get(atomic, handle, key, iov).encode(way, scratch).ok()?, len))
        }
        What::Fetch(op, compare) => {
            if gathered.len() < 2 * len {
                gathered.resize(2 * len, 0);
            }
            let (operand, rest) = gathered.split_at_mut(len);
            let rest = &mut rest[..len];
            request.buffer.read(sent, operand);
            let compare = compare.as_ref().map(|compare| {
                compare.read(sent, rest);
                &*rest
            });
            let fetch = Fetch { rbuf: sent as u64, request: handle.0, operand, compare };
            let dput = fetch.encode(op.to_wire(), key, place, scratch).ok()?;
            let filled = usize::from(dput.len);
            let header = dput.encode(way, limits.padding(filled)).ok()?;
            Some(Part { header, payload, len, from: From::Scratch(filled) })
        }
    }
}

/// A DATA packet that names a place.
fn put(op: DputOp, atomic: WireAtomic, (name, place): (u64, u64), len: usize, last: bool) -> Dput {
    Dput { op, atomic, name, place, len: len as u16, ack_req: last }
}

/// A read's packet.
fn get(atomic: WireAtomic, handle: Handle, key: u64, iov: Iov) -> RmaCts {
    RmaCts { op: RmaOp::Get, atomic, request: handle.0, target: key, iov }
}
