//! The receive engine: global registers, the way of a packet to its context, and the contexts' registers.

use crate::board::Board;
use crate::config::Config;
use crate::inject::ReceiveFault;
use crate::packet::Packet;
use crate::rcvarray::RcvArray;
use crate::rxe_context::{Arrival, RcvContext};
use crate::rxe_route::Routes;
use crate::stats::DropReason;
use crate::triplet::Triplet;
use crate::wire::LINK_CREDIT_BYTES;
use opx_defs::csr;
use opx_defs::freezing;
use opx_defs::source::Source;
use opx_defs::units::{BarOff, RcvCtxt};
use opx_defs::wire::rhf::Rhf;

/// Something that the receive engine does later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RxeEvent {
    /// The packets of a context have waited for RCV_AVAIL_TIME_OUT.
    Available(RcvCtxt),
    /// The flags of a packet are written that came later than its tail: a fault that was asked for.
    LateEntry(RcvCtxt),
}

/// Places in RCV_COUNTER_ARRAY32 that the model counts in.
///
/// Source: `chip_registers.h` and `chip.c:dev_cntrs` (C_RX_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RcvCounter {
    /// The length in the header isn't the packet's.
    LenErr = 0,
    /// Too short for its headers.
    Short = 1,
    /// Wrong ICRC.
    Icrc = 6,
    /// A context had no eager buffer, and the packet was dropped.
    TidFull = 18,
    /// A TID or an eager entry that holds no usable buffer.
    TidInvalid = 19,
    /// Wrong generation in an expected packet.
    FlowGen = 20,
    /// A context had no eager buffer, and the packet waits.
    EagerStall = 22,
    /// Wrong sequence number in an expected packet.
    FlowSeq = 23,
}

/// The engine's counters.
#[derive(Debug, Default)]
pub struct RcvCounters {
    small: [u64; 24],
    packets: u64,
    dwords: u64,
}

impl RcvCounters {
    /// Counts one.
    pub fn count(&mut self, counter: RcvCounter) {
        if let Some(count) = self.small.get_mut(counter as usize) {
            *count += 1;
        }
    }
}

/// The block's registers.
#[derive(Debug)]
pub struct Rxe {
    routes: Routes,
    pkeys: [u64; 4],
    err_info: u64,
    errors: Triplet,
    counters: RcvCounters,
    array: RcvArray,
    contexts: Vec<RcvContext>,
    /// Bytes of packets that wait in contexts which may not drop.
    stalled: usize,
}

const CONTEXTS: BarOff = csr::RCV_CTXT_CTRL.offset;
const ARRAY: BarOff = csr::RCV_ARRAY.offset;
const PAGES: BarOff = csr::RCV_HDR_TAIL.offset;

/// Which part of the block an offset lies in.
enum Place {
    Global,
    Context(usize, u32),
    Array(u32),
    Page(usize, u32),
}

fn place(offset: BarOff) -> Place {
    let at = offset.0;
    if at >= PAGES.0 {
        Place::Page((at - PAGES.0) as usize / 0x1000, at & 0xfff)
    } else if at >= ARRAY.0 {
        Place::Array((at - ARRAY.0) / 8)
    } else if at >= CONTEXTS.0 {
        Place::Context((at - CONTEXTS.0) as usize / 0x100, at & 0xff)
    } else {
        Place::Global
    }
}

impl Rxe {
    /// A receive engine of the sizes in `config`.
    pub fn new(config: &Config) -> Self {
        Self {
            routes: Routes::default(),
            pkeys: [0; 4],
            err_info: 0,
            errors: Triplet::new(Source::RXE_ERR),
            counters: RcvCounters::default(),
            array: RcvArray::new(config.rcv_array_entries),
            contexts: (0..config.rcv_contexts).map(|number| RcvContext::new(RcvCtxt(number))).collect(),
            stalled: 0,
        }
    }

    /// Function-level reset.
    pub fn reset(&mut self, board: &mut Board) {
        self.errors.reset(board);
        *self = Self::new(&board.config);
    }

    /// Whether it takes more packets; while it doesn't, they wait on the wire and the sender runs out of credit.
    pub fn is_ready(&self) -> bool {
        self.stalled < LINK_CREDIT_BYTES
    }

    /// Reads a register; `None` when there is none.
    pub fn read(&mut self, _board: &mut Board, offset: BarOff) -> Option<u64> {
        match place(offset) {
            Place::Global => self.read_global(offset),
            Place::Context(number, register) => self.contexts.get(number)?.read_kernel(register),
            Place::Array(index) => self.array.read(index),
            Place::Page(number, register) => self.contexts.get(number)?.read_user(register),
        }
    }

    fn read_global(&self, offset: BarOff) -> Option<u64> {
        let at = |row: csr::Csr| row.locate(offset).map(|(index, _)| index as usize);
        let routes = &self.routes;
        Some(match offset {
            o if o == csr::RCV_CTRL.off() => routes.ctrl,
            o if o == csr::RCV_STATUS.off() => {
                let mut status = csr::RCV_STATUS::RX_RBUF_INIT_DONE.mask();
                if self.stalled != 0 {
                    status |= csr::RCV_STATUS::RX_RBUF_PKT_PENDING.mask();
                }
                status
            }
            o if o == csr::RCV_CONTEXTS.off() => self.contexts.len() as u64,
            o if o == csr::RCV_ARRAY_CNT.off() => self.array.len(),
            o if o == csr::RCV_BTH_QP.off() => routes.bth_qp,
            o if o == csr::RCV_MULTICAST.off() => routes.multicast,
            o if o == csr::RCV_BYPASS.off() => routes.bypass,
            o if o == csr::RCV_VL15.off() => routes.vl15,
            o if o == csr::RCV_ERR_INFO.off() => self.err_info,
            o if o == csr::RCV_ERR_STATUS.off() => self.errors.status(),
            o if o == csr::RCV_ERR_MASK.off() => self.errors.mask(),
            o if o == csr::RCV_ERR_CLEAR.off() => 0,
            _ => {
                return if let Some(i) = at(csr::RCV_QP_MAP_TABLE) {
                    routes.qp_map.get(i).copied()
                } else if let Some(i) = at(csr::RCV_PARTITION_KEY) {
                    self.pkeys.get(i).copied()
                } else if let Some(i) = at(csr::RCV_COUNTER_ARRAY32) {
                    self.counters.small.get(i).map(|count| count & 0xffff_ffff)
                } else if let Some(i) = at(csr::RCV_COUNTER_ARRAY64) {
                    Some(if i == 0 { self.counters.packets } else { self.counters.dwords })
                } else if let Some(i) = at(csr::RCV_RSM_CFG) {
                    routes.rsm_cfg.get(i).copied()
                } else if let Some(i) = at(csr::RCV_RSM_SELECT) {
                    routes.rsm_select.get(i).copied()
                } else if let Some(i) = at(csr::RCV_RSM_MATCH) {
                    routes.rsm_match.get(i).copied()
                } else {
                    routes.rsm_map.get(at(csr::RCV_RSM_MAP_TABLE)?).copied()
                };
            }
        })
    }

    /// Writes a register; `false` when there is none.
    pub fn write(&mut self, board: &mut Board, offset: BarOff, value: u64) -> bool {
        match place(offset) {
            Place::Global => self.write_global(board, offset, value),
            Place::Array(index) => self.array.write(index, value),
            Place::Context(number, register) => {
                self.with_context(number, |context, _, _| context.write_kernel(board, register, value))
            }
            Place::Page(number, register) => self.with_context(number, |context, array, counters| {
                let taken = context.write_user(board, register, value);
                context.resume(board, array, counters);
                taken
            }),
        }
    }

    /// Lets `act` work on a context, and keeps the sum of what waits.
    fn with_context(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut RcvContext, &RcvArray, &mut RcvCounters) -> bool,
    ) -> bool {
        let Some(context) = self.contexts.get_mut(number) else { return false };
        let before = context.stalled_bytes();
        let taken = act(context, &self.array, &mut self.counters);
        self.stalled = self.stalled - before + context.stalled_bytes();
        taken
    }

    fn write_global(&mut self, board: &mut Board, offset: BarOff, value: u64) -> bool {
        let at = |row: csr::Csr| row.locate(offset).map(|(index, _)| index as usize);
        let routes = &mut self.routes;
        let place = match offset {
            o if o == csr::RCV_CTRL.off() => {
                routes.ctrl = value & !csr::RCV_CTRL::RX_RBUF_INIT.mask();
                if csr::RCV_CTRL::RX_RBUF_INIT.is_set(value) {
                    // `chip.c:init_rbufs`: the packet buffer starts empty.
                    self.drop_stalled(board);
                }
                return true;
            }
            o if o == csr::RCV_ERR_MASK.off() => {
                self.errors.set_mask(board, value);
                return true;
            }
            o if o == csr::RCV_ERR_CLEAR.off() => {
                self.errors.clear(board, value);
                return true;
            }
            o if o == csr::RCV_ERR_INFO.off() => {
                // Writing the overrun bit clears it (`mad.c`, port error info).
                self.err_info &= !(value & csr::RCV_ERR_INFO::RCV_EXCESS_BUFFER_OVERRUN.mask());
                return true;
            }
            o if [csr::RCV_STATUS, csr::RCV_CONTEXTS, csr::RCV_ARRAY_CNT, csr::RCV_ERR_STATUS]
                .iter()
                .any(|row| row.off() == o) =>
            {
                return true;
            }
            o if o == csr::RCV_BTH_QP.off() => Some(&mut routes.bth_qp),
            o if o == csr::RCV_MULTICAST.off() => Some(&mut routes.multicast),
            o if o == csr::RCV_BYPASS.off() => Some(&mut routes.bypass),
            o if o == csr::RCV_VL15.off() => Some(&mut routes.vl15),
            _ => {
                if let Some(i) = at(csr::RCV_QP_MAP_TABLE) {
                    routes.qp_map.get_mut(i)
                } else if let Some(i) = at(csr::RCV_PARTITION_KEY) {
                    self.pkeys.get_mut(i)
                } else if let Some(i) = at(csr::RCV_COUNTER_ARRAY32) {
                    // `mad.c:clear_linkup_counters` writes 0 to one of them.
                    self.counters.small.get_mut(i)
                } else if let Some(i) = at(csr::RCV_COUNTER_ARRAY64) {
                    Some(if i == 0 { &mut self.counters.packets } else { &mut self.counters.dwords })
                } else if let Some(i) = at(csr::RCV_RSM_CFG) {
                    routes.rsm_cfg.get_mut(i)
                } else if let Some(i) = at(csr::RCV_RSM_SELECT) {
                    routes.rsm_select.get_mut(i)
                } else if let Some(i) = at(csr::RCV_RSM_MATCH) {
                    routes.rsm_match.get_mut(i)
                } else {
                    at(csr::RCV_RSM_MAP_TABLE).and_then(|i| routes.rsm_map.get_mut(i))
                }
            }
        };
        place.map(|place| *place = value).is_some()
    }

    fn drop_stalled(&mut self, board: &mut Board) {
        for context in &mut self.contexts {
            context.drop_stalled(board, DropReason::ReceiverOff);
        }
        self.stalled = 0;
    }

    /// A packet that came off the wire and passed the DC's checks.
    ///
    /// Source: hfi1's `driver.c` for what the driver is shown; that the order is port, checksum, context, keys is INFERRED.
    pub fn on_packet(&mut self, board: &mut Board, packet: Packet) {
        if board.frozen || !csr::RCV_CTRL::RCV_PORT_ENABLE.is_set(self.routes.ctrl) {
            return board.drop_packet(DropReason::ReceiverOff);
        }
        self.counters.packets += 1;
        self.counters.dwords += packet.bytes.len() as u64 / 4;
        let mut errors = 0;
        // Software may leave the checksum out of bypass packets, and the driver doesn't look at it.
        if !packet.bypass && !packet.icrc_ok() {
            errors |= Rhf::ICRC_ERR;
            self.counters.count(RcvCounter::Icrc);
        }
        let Some(route) = self.routes.find(&packet) else {
            let reason = if errors == 0 { DropReason::BadLength } else { DropReason::BadIcrc };
            self.counters.count(RcvCounter::Short);
            return board.drop_packet(reason);
        };
        if let Some(headers) = route.headers {
            if headers.lrh.length.bytes() as usize != packet.bytes.len() {
                errors |= Rhf::LEN_ERR;
                self.counters.count(RcvCounter::LenErr);
            }
            let checked = csr::RCV_CTRL::RCV_PARTITION_KEY_ENABLE.is_set(self.routes.ctrl) && packet.vl.0 != 15;
            if checked && !self.pkey_is_known(headers.bth.pkey.0) {
                return board.drop_packet(DropReason::PartitionKey);
            }
        }
        let number = usize::from(route.context.0);
        if !self.contexts.get(number).is_some_and(RcvContext::is_enabled) {
            return board.drop_packet(DropReason::NoContext);
        }
        let fault = board.plans.receive.due(route.context.0);
        if let Some(error) = fault.and_then(ReceiveFault::error) {
            self.errors.raise(board, error.mask());
            if error.mask() & freezing::RECEIVE != 0 {
                board.freeze();
            }
        }
        let bypass_header = csr::RCV_BYPASS::HDR_SIZE.get(self.routes.bypass) as usize * 4;
        let arrival = Arrival { packet, route, errors, bypass_header, fault };
        self.with_context(number, |context, array, counters| {
            context.offer(board, array, counters, arrival);
            true
        });
    }

    /// Whether a key of the same partition is in the table; of two limited members neither hears the other.
    fn pkey_is_known(&self, found: u16) -> bool {
        let keys = self.pkeys.iter().flat_map(|row| (0..4).map(move |i| (row >> (16 * i)) as u16));
        keys.filter(|key| key & 0x7fff != 0).any(|key| (key ^ found) & 0x7fff == 0 && (key | found) & 0x8000 != 0)
    }

    /// An event asked for earlier.
    pub fn on_event(&mut self, board: &mut Board, event: RxeEvent) {
        match event {
            RxeEvent::LateEntry(number) => {
                if let Some(context) = self.contexts.get_mut(usize::from(number.0)) {
                    context.write_late_entries(board);
                }
            }
            RxeEvent::Available(number) => {
                if let Some(context) = self.contexts.get_mut(usize::from(number.0)) {
                    context.on_timer(board);
                }
            }
        }
    }

    /// The chip froze or was unfrozen; see `board.frozen`.
    pub fn on_freeze_change(&mut self, board: &mut Board) {
        if board.frozen {
            self.drop_stalled(board);
        }
    }
}
