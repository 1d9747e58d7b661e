//! One receive context: its header queue, its eager buffers, its interrupt.

use crate::board::Board;
use crate::event::Event;
use crate::inject::ReceiveFault;
use crate::packet::Packet;
use crate::rcvarray::RcvArray;
use crate::rxe::{RcvCounter, RcvCounters, RxeEvent};
use crate::rxe_expected::{Flow, Target};
use crate::rxe_route::Route;
use crate::stats::DropReason;
use opx_defs::csr::{self, RCV_CTXT_CTRL as CTRL};
use opx_defs::source::Source;
use opx_defs::time::Instant;
use opx_defs::units::{Dwords, Iova, RcvCtxt};
use opx_defs::wire::kdeth::KDETH_VERSION;
use opx_defs::wire::rhf::{RcvType, Rhf};
use std::collections::VecDeque;
use std::time::Duration;

/// One tick of RCV_AVAIL_TIME_OUT: 64 clocks of 805 MHz.
const AVAIL_TICK: Duration = Duration::from_nanos(80);
/// By how much a late entry is late.
const LATE: Duration = Duration::from_micros(2);
/// RHF type errors of packets of type "error" (`common.h RHF_RTE_ERROR_*`).
const KHDR_MIN_LEN: u64 = 2;
const KHDR_KVER: u64 = 4;

/// A packet that has come as far as a context.
#[derive(Debug)]
pub struct Arrival {
    /// The packet.
    pub packet: Packet,
    /// Its way.
    pub route: Route,
    /// RHF error bits found on the way.
    pub errors: u64,
    /// Bytes of a bypass packet's header.
    pub bypass_header: usize,
    /// What goes wrong with it, because that was asked for.
    pub fault: Option<ReceiveFault>,
}

/// One receive context.
#[derive(Debug)]
pub struct RcvContext {
    number: RcvCtxt,
    ctrl: u64,
    egr_ctrl: u64,
    tid_ctrl: u64,
    key_ctrl: u64,
    hdr_addr: u64,
    hdr_cnt: u64,
    ent_size: u64,
    hdr_size: u64,
    tail_addr: u64,
    avail_timeout: u64,
    overflows: u64,
    hdr_head: u64,
    egr_head: u64,
    flows: [Flow; 32],
    /// Next header entry, dwords.
    tail: u32,
    seq: u8,
    /// The eager buffer that is being filled.
    egr_index: u32,
    /// How far it is filled, in 64-byte units; 0 only before the first packet.
    egr_offset: u32,
    /// A packet waits for room in the header queue.
    blocked: bool,
    stalled: VecDeque<Arrival>,
    stalled_bytes: usize,
    /// Packets since software last wrote the head.
    waiting: u32,
    /// The interrupt has been raised since then.
    fired: bool,
    /// When the oldest of the waiting packets has waited long enough.
    deadline: Option<Instant>,
    timer_pending: bool,
    /// Flags that are still to be written, and where: those of packets that are later than their tail.
    late: Vec<(Iova, u64)>,
}

const fn kernel(csr: csr::Csr) -> u32 {
    csr.offset.0 & 0xff
}

const fn user(csr: csr::Csr) -> u32 {
    csr.offset.0 & 0xfff
}

const R_CTRL: u32 = kernel(csr::RCV_CTXT_CTRL);
const R_STATUS: u32 = kernel(csr::RCV_CTXT_STATUS);
const R_EGR_CTRL: u32 = kernel(csr::RCV_EGR_CTRL);
const R_TID_CTRL: u32 = kernel(csr::RCV_TID_CTRL);
const R_KEY_CTRL: u32 = kernel(csr::RCV_KEY_CTRL);
const R_HDR_ADDR: u32 = kernel(csr::RCV_HDR_ADDR);
const R_HDR_CNT: u32 = kernel(csr::RCV_HDR_CNT);
const R_ENT_SIZE: u32 = kernel(csr::RCV_HDR_ENT_SIZE);
const R_HDR_SIZE: u32 = kernel(csr::RCV_HDR_SIZE);
const R_TAIL_ADDR: u32 = kernel(csr::RCV_HDR_TAIL_ADDR);
const R_TIMEOUT: u32 = kernel(csr::RCV_AVAIL_TIME_OUT);
const R_OVFL: u32 = kernel(csr::RCV_HDR_OVFL_CNT);
const U_TAIL: u32 = user(csr::RCV_HDR_TAIL);
const U_HEAD: u32 = user(csr::RCV_HDR_HEAD);
const U_EGR_HEAD: u32 = user(csr::RCV_EGR_INDEX_HEAD);
/// Not in `chip_registers.h`: INFERRED from `enum hfi1_ureg`.
const U_EGR_TAIL: u32 = 0x10;
/// Not in `chip_registers.h`: INFERRED from `enum hfi1_ureg`.
const U_EGR_OFFSET: u32 = 0x20;
const U_FLOWS: u32 = user(csr::RCV_TID_FLOW_TABLE);

/// Where the payload goes.
enum Eager {
    /// To this buffer, at this offset in 64-byte units.
    At { index: u32, offset: u32, iova: Iova },
    /// The RcvArray entry holds no buffer that could take the packet.
    Unusable,
    /// No buffer is free.
    Full,
}

impl RcvContext {
    /// A context that is off.
    pub fn new(number: RcvCtxt) -> Self {
        Self {
            number,
            ctrl: 0,
            egr_ctrl: 0,
            tid_ctrl: 0,
            key_ctrl: 0,
            hdr_addr: 0,
            hdr_cnt: 0,
            ent_size: 0,
            hdr_size: 0,
            tail_addr: 0,
            avail_timeout: 0,
            overflows: 0,
            hdr_head: 0,
            egr_head: 0,
            flows: [Flow(0); 32],
            tail: 0,
            seq: Rhf::FIRST_SEQ,
            egr_index: 0,
            egr_offset: 0,
            blocked: false,
            stalled: VecDeque::new(),
            stalled_bytes: 0,
            waiting: 0,
            fired: false,
            deadline: None,
            timer_pending: false,
            late: Vec::new(),
        }
    }

    /// Whether it takes packets.
    pub fn is_enabled(&self) -> bool {
        CTRL::ENABLE.is_set(self.ctrl)
    }

    /// Bytes of packets that wait for room.
    pub fn stalled_bytes(&self) -> usize {
        self.stalled_bytes
    }

    /// Drops the packets that wait.
    pub fn drop_stalled(&mut self, board: &mut Board, reason: DropReason) {
        for _ in self.stalled.drain(..) {
            board.drop_packet(reason);
        }
        self.stalled_bytes = 0;
        self.blocked = false;
    }

    /// Reads a register of the kernel's half.
    pub fn read_kernel(&self, register: u32) -> Option<u64> {
        Some(match register {
            R_CTRL => self.ctrl,
            R_STATUS => self.blocked.into(),
            R_EGR_CTRL => self.egr_ctrl,
            R_TID_CTRL => self.tid_ctrl,
            R_KEY_CTRL => self.key_ctrl,
            R_HDR_ADDR => self.hdr_addr,
            R_HDR_CNT => self.hdr_cnt,
            R_ENT_SIZE => self.ent_size,
            R_HDR_SIZE => self.hdr_size,
            R_TAIL_ADDR => self.tail_addr,
            R_TIMEOUT => self.avail_timeout,
            R_OVFL => self.overflows & 0xffff_ffff,
            _ => return None,
        })
    }

    /// Writes a register of the kernel's half; `false` when there is none.
    pub fn write_kernel(&mut self, board: &mut Board, register: u32, value: u64) -> bool {
        let place = match register {
            R_CTRL => {
                self.write_ctrl(board, value);
                return true;
            }
            R_STATUS => return true,
            R_EGR_CTRL => &mut self.egr_ctrl,
            R_TID_CTRL => &mut self.tid_ctrl,
            R_KEY_CTRL => &mut self.key_ctrl,
            R_HDR_ADDR => &mut self.hdr_addr,
            R_HDR_CNT => &mut self.hdr_cnt,
            R_ENT_SIZE => &mut self.ent_size,
            R_HDR_SIZE => &mut self.hdr_size,
            R_TAIL_ADDR => &mut self.tail_addr,
            R_TIMEOUT => &mut self.avail_timeout,
            R_OVFL => &mut self.overflows,
            _ => return false,
        };
        *place = value;
        true
    }

    /// Reads a register of the page that a user may map.
    pub fn read_user(&self, register: u32) -> Option<u64> {
        Some(match register {
            U_TAIL => self.tail.into(),
            U_HEAD => self.hdr_head,
            U_EGR_TAIL => self.egr_index.into(),
            U_EGR_HEAD => self.egr_head,
            U_EGR_OFFSET => self.egr_offset.into(),
            _ => self.flows.get(flow_index(register)?).map(|flow| flow.0)?,
        })
    }

    /// Writes a register of the page that a user may map; `false` when there is none. Packets that waited for room may go
    /// on afterwards: see [`RcvContext::resume`].
    pub fn write_user(&mut self, board: &mut Board, register: u32, value: u64) -> bool {
        match register {
            U_TAIL | U_EGR_TAIL | U_EGR_OFFSET => {}
            U_HEAD => {
                self.hdr_head = value;
                // `chip.c:hfi1_rcvctrl` writes 0 before it enables the context, and what counts only after that: with the
                // context off nothing is armed.
                if self.is_enabled() {
                    self.rearm(board);
                }
            }
            U_EGR_HEAD => self.egr_head = csr::RCV_EGR_INDEX_HEAD::HEAD.get(value),
            _ => match flow_index(register).and_then(|index| self.flows.get_mut(index)) {
                Some(flow) => flow.write(value),
                None => return false,
            },
        }
        true
    }

    fn write_ctrl(&mut self, board: &mut Board, value: u64) {
        let old = self.ctrl;
        self.ctrl = value;
        let rises = |field: csr::Field| field.is_set(value) && !field.is_set(old);
        if rises(CTRL::ENABLE) {
            // `chip.c:hfi1_rcvctrl`: the chip starts over at head and tail 0, sequence number 1.
            self.restart();
        }
        if CTRL::ENABLE.is_set(old) && !self.is_enabled() {
            self.drop_stalled(board, DropReason::NoContext);
            self.restart();
        }
        if self.is_enabled() && CTRL::TAIL_UPD.is_set(value) && (rises(CTRL::TAIL_UPD) || rises(CTRL::ENABLE)) {
            // `chip.c:hfi1_rcvctrl`: the tail in host memory starts at 0 as well.
            self.write_tail(board);
        }
        if rises(CTRL::INTR_AVAIL) {
            // At once for packets that wait already (INFERRED): `file_ops.c:poll_next` looks at the queue first, and would sleep
            // over a packet that came between its look and this.
            self.fired = false;
            self.check_interrupt(board);
        }
    }

    fn restart(&mut self) {
        (self.tail, self.seq) = (0, Rhf::FIRST_SEQ);
        (self.egr_index, self.egr_offset) = (0, 0);
        // `chip.c:hfi1_rcvctrl`: the interrupt's time and count "must be set after the context is enabled to take effect". That
        // they read as 0 until then is INFERRED.
        (self.hdr_head, self.avail_timeout) = (0, 0);
        (self.waiting, self.fired, self.deadline) = (0, false, None);
        self.late.clear();
    }

    // A DMA fault on the tail can't be told to anybody: the header queue is right, only the copy of the tail is old.
    fn write_tail(&self, board: &mut Board) {
        let _ = board.dma.write_u64(Iova(self.tail_addr & !7), self.tail.into());
    }

    /// Dwords of an entry and of the whole queue.
    fn queue_dwords(&self) -> Option<(u32, u32)> {
        // Source: `chip.c:encode_rcv_header_entry_size`.
        let entry = match csr::RCV_HDR_ENT_SIZE::ENT_SIZE.get(self.ent_size) {
            1 => 2,
            2 => 16,
            4 => 32,
            _ => return None,
        };
        let entries = csr::RCV_HDR_CNT::CNT.get(self.hdr_cnt) as u32 * 32;
        (entries != 0).then_some((entry, entries * entry))
    }

    fn head(&self) -> u32 {
        csr::RCV_HDR_HEAD::HEAD.get(self.hdr_head) as u32
    }

    /// Software wrote the head: packets that came after what it has read count anew.
    fn rearm(&mut self, board: &mut Board) {
        if let Some((entry, size)) = self.queue_dwords() {
            let head = self.head().min(size);
            let left = if self.tail >= head { self.tail - head } else { size - head + self.tail };
            self.waiting = left / entry;
        }
        (self.fired, self.deadline) = (false, None);
        self.check_interrupt(board);
    }

    /// Raises RcvAvail when enough packets wait or the oldest has waited long enough.
    fn check_interrupt(&mut self, board: &mut Board) {
        if self.fired || self.waiting == 0 || !self.is_enabled() || !CTRL::INTR_AVAIL.is_set(self.ctrl) {
            return;
        }
        let needed = csr::RCV_HDR_HEAD::COUNTER.get(self.hdr_head).max(1);
        if u64::from(self.waiting) >= needed || self.deadline.is_some_and(|deadline| deadline <= board.now) {
            (self.fired, self.deadline) = (true, None);
            board.raise(Source::rcv_avail(self.number));
            return;
        }
        let ticks = csr::RCV_AVAIL_TIME_OUT::TIME_OUT_RELOAD.get(self.avail_timeout) as u32;
        if ticks != 0 && self.deadline.is_none() {
            let wait = AVAIL_TICK * ticks;
            self.deadline = Some(board.now + wait);
            // One timer at a time, so that no number of writes can fill the event queue.
            if !self.timer_pending {
                self.timer_pending = true;
                board.after(wait, Event::Rxe(RxeEvent::Available(self.number)));
            }
        }
    }

    /// The timer of RCV_AVAIL_TIME_OUT.
    pub fn on_timer(&mut self, board: &mut Board) {
        self.timer_pending = false;
        match self.deadline {
            Some(deadline) if deadline > board.now => {
                self.timer_pending = true;
                board.after(deadline.since(board.now), Event::Rxe(RxeEvent::Available(self.number)));
            }
            Some(_) => self.check_interrupt(board),
            None => {}
        }
    }

    /// Writes the flags that were late.
    pub fn write_late_entries(&mut self, board: &mut Board) {
        for (at, flags) in std::mem::take(&mut self.late) {
            // As with any entry, a place that can't be reached can't be told to anybody.
            let _ = board.dma.write_u64(at, flags);
        }
    }

    /// A packet arrives; it waits behind those that wait already.
    pub fn offer(&mut self, board: &mut Board, array: &RcvArray, counters: &mut RcvCounters, arrival: Arrival) {
        let refused =
            if self.stalled.is_empty() { self.deliver(board, array, counters, arrival) } else { Some(arrival) };
        if let Some(arrival) = refused {
            self.stalled_bytes += arrival.packet.bytes.len();
            self.stalled.push_back(arrival);
        }
    }

    /// Software has made room, perhaps: delivers what waits, as far as it goes.
    pub fn resume(&mut self, board: &mut Board, array: &RcvArray, counters: &mut RcvCounters) {
        while let Some(arrival) = self.stalled.pop_front() {
            self.stalled_bytes -= arrival.packet.bytes.len();
            if let Some(arrival) = self.deliver(board, array, counters, arrival) {
                self.stalled_bytes += arrival.packet.bytes.len();
                self.stalled.push_front(arrival);
                return;
            }
        }
    }

    /// Puts a packet into the context's memory, drops it, or gives it back when it must wait.
    fn deliver(
        &mut self,
        board: &mut Board,
        array: &RcvArray,
        counters: &mut RcvCounters,
        arrival: Arrival,
    ) -> Option<Arrival> {
        let Some((entry, size)) = self.queue_dwords() else {
            board.drop_packet(DropReason::NoContext);
            return None;
        };
        if self.tail >= size {
            self.tail = 0;
        }
        let (packet, route, mut errors) = (&arrival.packet, arrival.route, arrival.errors);
        if csr::RCV_KEY_CTRL::JOB_KEY_ENABLE.is_set(self.key_ctrl)
            && let Some(kdeth) = route.kdeth
            && u64::from(kdeth.job_key().0) != csr::RCV_KEY_CTRL::JOB_KEY_VALUE.get(self.key_ctrl)
        {
            board.drop_packet(DropReason::JobKey);
            return None;
        }
        let mut kind = route.kind;
        if let Some(code) = arrival.fault.and_then(ReceiveFault::broken) {
            (kind, errors) = (RcvType::Error, errors | code << 56);
        }
        errors |= arrival.fault.and_then(ReceiveFault::flag).unwrap_or(0);
        if route.kdeth_short {
            (kind, errors) = (RcvType::Error, errors | KHDR_MIN_LEN << 56);
        } else if route.kdeth.is_some_and(|kdeth| kdeth.version() != KDETH_VERSION) {
            (kind, errors) = (RcvType::Error, errors | KHDR_KVER << 56);
        }

        let next = if self.tail + entry >= size { 0 } else { self.tail + entry };
        let queue_full = next == self.head();

        let header_len = self.header_bytes(&arrival, kind, entry);
        let body = packet.body();
        let payload = body.get(header_len..).unwrap_or_default();
        let mut eager = None;
        let mut expected = None;
        // A flow moves on with the packet, so it is judged on a copy until it is certain that the packet is taken.
        let mut flow = None;
        let mut keep_header = true;
        if kind == RcvType::Expected
            && let (Some(headers), Some(kdeth)) = (route.headers, route.kdeth)
        {
            let mut keep_payload = true;
            if CTRL::TID_FLOW_ENABLE.is_set(self.ctrl) && errors == 0 {
                let index = (headers.bth.dest_qp >> 11 & 0x1f) as usize;
                if let Some(mut entry) = self.flows.get(index).copied() {
                    let verdict = entry.judge(headers.psn, kdeth.suppress_header() && !kdeth.interrupt());
                    errors |= verdict.error << 56;
                    (keep_header, keep_payload) = (verdict.header, verdict.payload);
                    flow = Some((index, entry, verdict.error));
                }
            }
            // A packet with a broken checksum may name the wrong place: nothing of it is written (INFERRED).
            if keep_payload && errors & (Rhf::ICRC_ERR | Rhf::LEN_ERR) == 0 {
                match Target::find(array, self.tid_ctrl, kdeth, payload.len()) {
                    Some(target) => expected = Some(target),
                    None => {
                        errors |= Rhf::TID_ERR;
                        keep_header = true;
                        counters.count(RcvCounter::TidInvalid);
                    }
                }
            }
        }
        if keep_header && queue_full {
            return self.queue_is_full(board, arrival);
        }
        self.blocked = false;
        if kind != RcvType::Expected && !payload.is_empty() {
            // The eager buffer gets the ICRC as well (`driver.c`: lengths count it).
            let stored = packet.bytes.len() - header_len;
            match self.eager_place(array, stored) {
                Eager::At { index, offset, iova } => eager = Some((index, offset, iova)),
                Eager::Unusable => {
                    errors |= Rhf::TID_ERR;
                    counters.count(RcvCounter::TidInvalid);
                }
                Eager::Full => return self.eager_is_full(board, counters, arrival),
            }
        }

        let mut rhf = Rhf(Rhf::new(
            Dwords::holding(packet.bytes.len() as u32),
            kind,
            self.seq,
            Dwords(entry - 2 - header_len as u32 / 4),
        )
        .0 | errors
            | u64::from(packet.sc4) << 27);
        let mut written = Ok(());
        if let Some((index, offset, iova)) = eager {
            let stored = packet.bytes.get(header_len..).unwrap_or_default();
            rhf = rhf.eager(index as u16, offset as u16);
            written = board.dma.write(iova, stored);
            if written.is_ok() {
                self.egr_index = index;
                self.egr_offset = offset + (stored.len() as u32).div_ceil(64);
            }
        } else if let Some(target) = expected {
            written = target.write(board, payload);
        }
        if written.is_ok()
            && let Some((index, entry, error)) = flow
        {
            if let Some(place) = self.flows.get_mut(index) {
                *place = entry;
            }
            match error {
                2 => counters.count(RcvCounter::FlowSeq),
                4 => counters.count(RcvCounter::FlowGen),
                _ => {}
            }
        }
        if written.is_ok() && keep_header {
            // Order: payload, header, flags, tail, interrupt; whoever sees one sees all before it.
            let at = Iova(self.hdr_addr).plus(u64::from(self.tail) * 4);
            let header = body.get(..header_len).unwrap_or_default();
            let flags_at = at.plus(u64::from(entry - 2) * 4);
            written =
                board.dma.write(Iova(flags_at.0.wrapping_sub(header_len as u64)), header).and_then(|()| match arrival
                    .fault
                {
                    Some(ReceiveFault::LateEntry) => {
                        self.late.push((flags_at, rhf.0));
                        board.after(LATE, Event::Rxe(RxeEvent::LateEntry(self.number)));
                        Ok(())
                    }
                    _ => board.dma.write_u64(flags_at, rhf.0),
                });
        }
        if written.is_err() {
            board.drop_packet(DropReason::DmaFault);
            return None;
        }
        if rhf.errors() == 0 {
            board.counts.expected_packets += u64::from(expected.is_some());
            board.counts.flow_packets += u64::from(flow.is_some_and(|(_, entry, _)| entry.is_valid()));
        }
        if !keep_header {
            if rhf.errors() != 0 {
                board.drop_packet(DropReason::Expected);
            } else {
                board.counts.headers_suppressed += 1;
            }
            return None;
        }
        self.seq = Rhf::next_seq(self.seq);
        self.tail = next;
        if CTRL::TAIL_UPD.is_set(self.ctrl) && arrival.fault != Some(ReceiveFault::LostTail) {
            self.write_tail(board);
        }
        self.waiting += 1;
        self.check_interrupt(board);
        let urgent = route.kdeth.is_some_and(|kdeth| kdeth.interrupt())
            || route.kdeth.is_none() && route.headers.is_some_and(|headers| headers.solicited);
        if urgent {
            board.raise(Source::rcv_urgent(self.number));
        }
        None
    }

    /// Bytes that go to the header queue: whole dwords, and no more than an entry holds.
    fn header_bytes(&self, arrival: &Arrival, kind: RcvType, entry: u32) -> usize {
        let wanted = match (arrival.route.headers, kind) {
            (Some(headers), RcvType::Expected | RcvType::Eager) => {
                headers.end + csr::RCV_HDR_SIZE::HDR_SIZE.get(self.hdr_size) as usize * 4
            }
            (Some(headers), RcvType::Ib) => headers.end + headers.extended_bytes(),
            (Some(headers), _) => headers.end,
            (None, _) => arrival.bypass_header,
        };
        wanted.min(arrival.packet.body().len()).min((entry as usize - 2) * 4) & !3
    }

    fn queue_is_full(&mut self, board: &mut Board, arrival: Arrival) -> Option<Arrival> {
        if CTRL::DONT_DROP_RHQ_FULL.is_set(self.ctrl) {
            self.blocked = true;
            return Some(arrival);
        }
        self.overflows += 1;
        board.drop_packet(DropReason::HeaderQueueFull);
        None
    }

    fn eager_is_full(&mut self, board: &mut Board, counters: &mut RcvCounters, arrival: Arrival) -> Option<Arrival> {
        // A context without any eager buffer never gets one while it runs: waiting would be for ever.
        if CTRL::DONT_DROP_EGR_FULL.is_set(self.ctrl) && csr::RCV_EGR_CTRL::EGR_CNT.get(self.egr_ctrl) != 0 {
            counters.count(RcvCounter::EagerStall);
            return Some(arrival);
        }
        counters.count(RcvCounter::TidFull);
        board.drop_packet(DropReason::EagerFull);
        None
    }

    /// Finds room for `len` bytes in the eager buffers.
    ///
    /// Source: `chip.c:hfi1_rcvctrl`, `driver.c:get_egrbuf`. That a packet never crosses into the next buffer, and that the
    /// buffer at EGR_INDEX_HEAD isn't entered again, is INFERRED from what driver and PSM2 rely on.
    fn eager_place(&self, array: &RcvArray, len: usize) -> Eager {
        let count = csr::RCV_EGR_CTRL::EGR_CNT.get(self.egr_ctrl) as u32 * 8;
        if count == 0 {
            return Eager::Full;
        }
        let one_each = CTRL::ONE_PACKET_PER_EGR_BUFFER.is_set(self.ctrl);
        let base = csr::RCV_EGR_CTRL::EGR_BASE_INDEX.get(self.egr_ctrl) as u32 * 8;
        let room = |index: u32, offset: u32| {
            let entry = array.buffer(base + index)?;
            let mut size = entry.len()? as usize;
            if !one_each {
                let code = CTRL::EGR_BUF_SIZE.get(self.ctrl) as u32;
                size = size.min(if code == 0 { 0 } else { 4096 << (code - 1) });
            }
            let at = offset as usize * 64;
            (at + len <= size).then(|| entry.addr().plus(at as u64))
        };
        let index = self.egr_index % count;
        if self.egr_offset == 0 || !one_each {
            if let Some(iova) = room(index, self.egr_offset) {
                return Eager::At { index, offset: self.egr_offset, iova };
            }
            if self.egr_offset == 0 {
                return Eager::Unusable;
            }
        }
        let next = (index + 1) % count;
        if u64::from(next) == self.egr_head {
            return Eager::Full;
        }
        match room(next, 0) {
            Some(iova) => Eager::At { index: next, offset: 0, iova },
            None => Eager::Unusable,
        }
    }
}

fn flow_index(register: u32) -> Option<usize> {
    let index = register.checked_sub(U_FLOWS)? / 8;
    (index < 32).then_some(index as usize)
}
