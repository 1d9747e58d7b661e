//! The DC common block: port configuration, logical link state, checks of arriving packets, port counters.
//!
//! Source: `chip.c:set_logical_state`, `wait_logical_linkstate`, `set_lidlmc`, `handle_dcc_err`.

use crate::board::{Board, LogicalState};
use crate::packet::Packet;
use crate::stats::DropReason;
use crate::triplet::Triplet;
use opx_defs::csr::{self, DCC_CFG_PORT_CONFIG, DCC_CFG_PORT_CONFIG1, DCC_CFG_RESET, DCC_ERR_FLG, Field};
use opx_defs::source::Source;
use opx_defs::units::BarOff;
use opx_defs::wire::lrh::{LRH_BYTES, Lrh};
use std::collections::BTreeMap;

/// Codes in DCC_ERR_INFO_PORTRCV (`chip.c port_rcv_txt`).
const PORTRCV_BAD_LENGTH: u64 = 1;
const PORTRCV_BAD_DLID: u64 = 5;

/// First LID of the multicast range; 0xffff is permissive.
const MULTICAST: u32 = 0xc000;

/// Reset lines that a write to DCC_CFG_RESET has just asserted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResetPulses {
    /// The LCB.
    pub lcb: bool,
    /// The 8051.
    pub dc8051: bool,
}

/// The block's registers.
#[derive(Debug)]
pub struct Dcc {
    reset: u64,
    /// DCC_CFG_PORT_CONFIG but for LINK_STATE, which is the board's.
    port_config: u64,
    port_config1: u64,
    sc_vl: [u64; 2],
    led: u64,
    errors: Triplet,
    info: [u64; 5],
    error_counts: [u64; 5],
    /// Counters that software has set: value written, and what the hardware counted then.
    zeroed: BTreeMap<BarOff, (u64, u64)>,
}

impl Default for Dcc {
    fn default() -> Self {
        Self {
            reset: csr::DCC_CFG_RESET.reset,
            port_config: 0,
            port_config1: 0,
            sc_vl: [0; 2],
            led: 0,
            errors: Triplet::new(Source::DCC),
            info: [0; 5],
            error_counts: [0; 5],
            zeroed: BTreeMap::new(),
        }
    }
}

impl Dcc {
    /// Reset of the whole DC.
    pub fn reset(&mut self, board: &mut Board) {
        self.errors.reset(board);
        *self = Self::default();
        board.set_logical(LogicalState::Down);
    }

    /// After the interrupt block was reset under it.
    pub fn refresh(&self, board: &mut Board) {
        self.errors.refresh(board);
    }

    /// An error of the block.
    pub fn raise(&mut self, board: &mut Board, errors: u64) {
        self.errors.raise(board, errors);
    }

    /// The host touched the LCB's registers while the 8051 owned them (`chip.c:set_8051_lcb_access`).
    pub fn access_blocked(&mut self, board: &mut Board) {
        self.errors.raise(board, DCC_ERR_FLG::CSR_ACCESS_BLOCKED_HOST.mask());
    }

    fn port_receive_error(&mut self, board: &mut Board, flag: Field, code: u64, packet: &Packet) {
        if let Some(count) = self.error_counts.get_mut(1) {
            *count = count.wrapping_add(1);
        }
        if self.errors.status() & DCC_ERR_FLG::RCVPORT_ERR.mask() == 0 {
            let flit = |at: usize| {
                let bytes = packet.bytes.get(at..).and_then(|bytes| bytes.first_chunk::<8>());
                bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
            };
            let [portrcv, hdr0, hdr1, ..] = &mut self.info;
            (*portrcv, *hdr0, *hdr1) = (code, flit(0), flit(8));
        }
        self.errors.raise(board, flag.mask() | DCC_ERR_FLG::RCVPORT_ERR.mask());
    }

    /// Whether the port takes this packet; drops are counted.
    pub fn accept(&mut self, board: &mut Board, packet: &Packet) -> bool {
        let vl15 = packet.vl.0 == 15;
        if board.link.logical < LogicalState::Init || !vl15 && board.link.logical < LogicalState::Armed {
            if board.link.logical == LogicalState::Init {
                self.errors.raise(board, DCC_ERR_FLG::NONVL15_STATE_ERR.mask());
            }
            board.drop_packet(DropReason::PortState);
            return false;
        }
        if !packet.bypass && !self.accept_header(board, packet, vl15) {
            return false;
        }
        let port = &mut board.port;
        let flits = (packet.bytes.len() as u64).div_ceil(8);
        let vl = match packet.vl.0 {
            15 => 8,
            vl @ 0..8 => usize::from(vl),
            _ => usize::MAX,
        };
        port.rcv_packets = port.rcv_packets.wrapping_add(1);
        port.rcv_data = port.rcv_data.wrapping_add(flits);
        if let (Some(data), Some(packets)) = (port.vl_rcv_data.get_mut(vl), port.vl_rcv_packets.get_mut(vl)) {
            *data = data.wrapping_add(flits);
            *packets = packets.wrapping_add(1);
        }
        true
    }

    fn accept_header(&mut self, board: &mut Board, packet: &Packet, vl15: bool) -> bool {
        let Some(lrh) = packet.bytes.first_chunk::<LRH_BYTES>().map(|bytes| Lrh::decode(*bytes)) else {
            board.drop_packet(DropReason::BadLength);
            self.port_receive_error(board, DCC_ERR_FLG::LATE_SHORT_ERR, PORTRCV_BAD_LENGTH, packet);
            return false;
        };
        if lrh.length.bytes() as usize != packet.bytes.len() {
            board.drop_packet(DropReason::BadLength);
            self.port_receive_error(board, DCC_ERR_FLG::BAD_PKT_LENGTH_ERR, PORTRCV_BAD_LENGTH, packet);
            return false;
        }
        // With no LID set the mask is 0 and every packet is for this port.
        let target = DCC_CFG_PORT_CONFIG1::TARGET_DLID.get(self.port_config1) as u32;
        let mask = DCC_CFG_PORT_CONFIG1::DLID_MASK.get(self.port_config1) as u32;
        if !vl15 && lrh.dlid.0 < MULTICAST && lrh.dlid.0 & mask != target & mask {
            board.drop_packet(DropReason::ForeignDlid);
            self.port_receive_error(board, DCC_ERR_FLG::BAD_DLID_TARGET_ERR, PORTRCV_BAD_DLID, packet);
            return false;
        }
        true
    }

    /// The driver may ask for ARMED in INIT, and for ACTIVE in ARMED; other states are the hardware's
    /// (`mad.c logical_state_transitions`, `chip.c:set_link_state`).
    fn request_state(board: &mut Board, wanted: u64) {
        let next = match (board.link.logical, wanted) {
            (LogicalState::Init, 3) => LogicalState::Armed,
            (LogicalState::Armed, 4) => LogicalState::Active,
            _ => return,
        };
        board.set_logical(next);
    }

    fn info_index(offset: BarOff) -> Option<usize> {
        let first = csr::DCC_ERR_INFO_PORTRCV.offset.0;
        let delta = offset.0.checked_sub(first)?;
        (delta < 40).then_some(delta as usize / 8)
    }

    fn error_count_index(offset: BarOff) -> Option<usize> {
        let first = csr::DCC_ERR_UNCORRECTABLE_CNT.offset.0;
        let delta = offset.0.checked_sub(first)?;
        (delta < 40).then_some(delta as usize / 8)
    }

    /// What a performance counter has counted; `None` when there is none at `offset`.
    fn counted(board: &Board, offset: BarOff) -> Option<u64> {
        let port = &board.port;
        let is = |row: csr::Csr| row.off() == offset;
        let vl = |row: csr::Csr, counts: &[u64; 9]| {
            row.locate(offset).and_then(|(index, _)| counts.get(index as usize).copied())
        };
        if is(csr::DCC_PRF_PORT_XMIT_DATA_CNT) {
            Some(port.xmit_data)
        } else if is(csr::DCC_PRF_PORT_RCV_DATA_CNT) {
            Some(port.rcv_data)
        } else if is(csr::DCC_PRF_PORT_XMIT_PKTS_CNT) {
            Some(port.xmit_packets)
        } else if is(csr::DCC_PRF_PORT_RCV_PKTS_CNT) {
            Some(port.rcv_packets)
        } else if csr::DCC_PRF_PORT_VL_RCV_DATA_CNT.locate(offset).is_some() {
            vl(csr::DCC_PRF_PORT_VL_RCV_DATA_CNT, &port.vl_rcv_data)
        } else if csr::DCC_PRF_PORT_VL_RCV_PKTS_CNT.locate(offset).is_some() {
            vl(csr::DCC_PRF_PORT_VL_RCV_PKTS_CNT, &port.vl_rcv_packets)
        } else {
            // Congestion marks, bubbles, multicast, corrected errors: none happen here.
            matches!(offset.0, 0x60_0128..=0x60_0140 | 0x60_0180..=0x60_0378).then_some(0)
        }
    }

    /// Reads a register; `None` when there is none.
    pub fn read(&mut self, board: &mut Board, offset: BarOff) -> Option<u64> {
        if let Some(index) = Self::info_index(offset) {
            return self.info.get(index).copied();
        }
        if let Some(index) = Self::error_count_index(offset) {
            return self.error_counts.get(index).copied();
        }
        if let Some(counted) = Self::counted(board, offset) {
            let (written, then) = self.zeroed.get(&offset).copied().unwrap_or_default();
            return Some(written.wrapping_add(counted.wrapping_sub(then)));
        }
        let is = |row: csr::Csr| row.off() == offset;
        Some(if is(csr::DCC_CFG_RESET) {
            self.reset
        } else if is(csr::DCC_CFG_PORT_CONFIG) {
            DCC_CFG_PORT_CONFIG::LINK_STATE.set(self.port_config, board.link.logical as u64)
        } else if is(csr::DCC_CFG_PORT_CONFIG1) {
            self.port_config1
        } else if is(csr::DCC_CFG_SC_VL_TABLE_15_0) {
            let [low, _] = self.sc_vl;
            low
        } else if is(csr::DCC_CFG_SC_VL_TABLE_31_16) {
            let [_, high] = self.sc_vl;
            high
        } else if is(csr::DCC_CFG_LED_CNTRL) {
            self.led
        } else if is(csr::DCC_ERR_FLG) {
            self.errors.status()
        } else if is(csr::DCC_ERR_FLG_EN) {
            self.errors.mask()
        } else if is(csr::DCC_ERR_FLG_CLR) {
            0
        } else {
            return None;
        })
    }

    /// Writes a register; `None` when there is none, else which reset lines it asserted.
    pub fn write(&mut self, board: &mut Board, offset: BarOff, value: u64) -> Option<ResetPulses> {
        if let Some(slot) = Self::info_index(offset).and_then(|index| self.info.get_mut(index)) {
            *slot = value;
            return Some(ResetPulses::default());
        }
        if let Some(slot) = Self::error_count_index(offset).and_then(|index| self.error_counts.get_mut(index)) {
            *slot = value;
            return Some(ResetPulses::default());
        }
        if let Some(counted) = Self::counted(board, offset) {
            self.zeroed.insert(offset, (value, counted));
            return Some(ResetPulses::default());
        }
        let is = |row: csr::Csr| row.off() == offset;
        if is(csr::DCC_CFG_RESET) {
            let rising = value & !self.reset;
            self.reset = value;
            return Some(ResetPulses {
                lcb: DCC_CFG_RESET::RESET_LCB.is_set(rising),
                dc8051: DCC_CFG_RESET::RESET_8051.is_set(rising),
            });
        } else if is(csr::DCC_CFG_PORT_CONFIG) {
            Self::request_state(board, DCC_CFG_PORT_CONFIG::LINK_STATE.get(value));
            self.port_config = DCC_CFG_PORT_CONFIG::LINK_STATE.set(value, 0);
        } else if is(csr::DCC_CFG_PORT_CONFIG1) {
            self.port_config1 = value;
        } else if is(csr::DCC_CFG_SC_VL_TABLE_15_0) {
            let [low, _] = &mut self.sc_vl;
            *low = value;
        } else if is(csr::DCC_CFG_SC_VL_TABLE_31_16) {
            let [_, high] = &mut self.sc_vl;
            *high = value;
        } else if is(csr::DCC_CFG_LED_CNTRL) {
            self.led = value;
        } else if is(csr::DCC_ERR_FLG_EN) {
            self.errors.set_mask(board, value);
        } else if is(csr::DCC_ERR_FLG_CLR) {
            self.errors.clear(board, value);
        } else if !is(csr::DCC_ERR_FLG) {
            return None;
        }
        Some(ResetPulses::default())
    }
}
