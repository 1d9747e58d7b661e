//! The link control block: its configuration, loopback, errors, counters.
//!
//! Modelled as far as link-up and the driver's checks need it: there are no flits, no replay and no lanes.
//!
//! Source: `chip.c:init_lcb`, `lcb_shutdown`, `do_quick_linkup`, `force_logical_link_state_down`.

use crate::board::Board;
use crate::triplet::Triplet;
use opx_defs::csr;
use opx_defs::source::Source;
use opx_defs::units::BarOff;
use std::collections::BTreeMap;

/// `DC_LCB_CFG_LOOPBACK` value that feeds the transmit side back.
const LOOPBACK_LCB: u64 = 2;

/// The block's registers.
#[derive(Debug)]
pub struct Lcb {
    /// Configuration registers that were written since the last reset of the block.
    config: BTreeMap<BarOff, u64>,
    errors: Triplet,
    /// Counters that software has set: value written, and what the hardware counted then.
    zeroed: BTreeMap<BarOff, (u64, u64)>,
}

impl Default for Lcb {
    fn default() -> Self {
        Self { config: BTreeMap::new(), errors: Triplet::new(Source::LCB), zeroed: BTreeMap::new() }
    }
}

/// Registers that keep what is written.
const CONFIG: [csr::Csr; 14] = [
    csr::DC_LCB_CFG_RUN,
    csr::DC_LCB_CFG_TX_FIFOS_RESET,
    csr::DC_LCB_CFG_TX_FIFOS_RADR,
    csr::DC_LCB_CFG_RX_FIFOS_RADR,
    csr::DC_LCB_CFG_IGNORE_LOST_RCLK,
    csr::DC_LCB_CFG_REINIT_AS_SLAVE,
    csr::DC_LCB_CFG_CNT_FOR_SKIP_STALL,
    csr::DC_LCB_CFG_CRC_MODE,
    csr::DC_LCB_CFG_LN_DCLK,
    csr::DC_LCB_CFG_LOOPBACK,
    csr::DC_LCB_CFG_LANE_WIDTH,
    csr::DC_LCB_CFG_CLK_CNTR,
    csr::DC_LCB_CFG_LINK_KILL_EN,
    csr::DC_LCB_CFG_ALLOW_LINK_UP,
];

impl Lcb {
    /// Reset of the block: DCC_CFG_RESET.RESET_LCB, or the whole DC. The driver writes its configuration again afterwards.
    pub fn reset(&mut self, board: &mut Board) {
        self.errors.reset(board);
        *self = Self::default();
    }

    /// After the interrupt block was reset under it.
    pub fn refresh(&self, board: &mut Board) {
        self.errors.refresh(board);
    }

    /// An error of the block.
    pub fn raise(&mut self, board: &mut Board, errors: u64) {
        self.errors.raise(board, errors);
    }

    fn get(&self, row: csr::Csr) -> u64 {
        self.config.get(&row.off()).copied().unwrap_or(row.reset)
    }

    /// Whether the transmit side is fed back into the receive side.
    pub fn loops_back(&self) -> bool {
        self.get(csr::DC_LCB_CFG_LOOPBACK) == LOOPBACK_LCB
    }

    /// Whether the transmit FIFOs run: without them no link comes up.
    pub fn fifos_run(&self) -> bool {
        self.get(csr::DC_LCB_CFG_TX_FIFOS_RESET) == 0
    }

    /// Flits pass: over a link that is up, or in a loopback that the host itself started.
    fn transfer_active(&self, board: &Board) -> bool {
        let own = self.get(csr::DC_LCB_CFG_RUN) & 1 != 0 && self.loops_back() && self.fifos_run();
        board.link.transfer_active || own
    }

    fn is_counter(offset: BarOff) -> bool {
        matches!(offset.0, 0x60_1320..=0x60_1390 | 0x60_1400..=0x60_1420 | 0x60_14b0 | 0x60_1580 | 0x60_15f8..=0x60_1608)
    }

    /// What the hardware has counted; errors and replays never happen here.
    fn counted(board: &Board, offset: BarOff) -> u64 {
        match offset {
            at if at == csr::DC_LCB_PRF_RX_FLIT_CNT.off() => board.port.rcv_data,
            at if at == csr::DC_LCB_PRF_TX_FLIT_CNT.off() => board.port.xmit_data,
            at if at == csr::DC_LCB_PRF_CLK_CNTR.off() => board.now.as_nanos() / 1000 * 805,
            // A cable of a few metres.
            at if at == csr::DC_LCB_STS_ROUND_TRIP_LTP_CNT.off() => 8,
            _ => 0,
        }
    }

    /// Reads a register; `None` when there is none.
    pub fn read(&mut self, board: &mut Board, offset: BarOff) -> Option<u64> {
        let is = |row: csr::Csr| row.off() == offset;
        if let Some(row) = CONFIG.iter().find(|row| row.off() == offset) {
            return Some(self.get(*row));
        }
        if Self::is_counter(offset) {
            let counted = Self::counted(board, offset);
            let (written, then) = self.zeroed.get(&offset).copied().unwrap_or_default();
            return Some(written.wrapping_add(counted.wrapping_sub(then)));
        }
        Some(if is(csr::DC_LCB_ERR_FLG) {
            self.errors.status()
        } else if is(csr::DC_LCB_ERR_EN) {
            self.errors.mask()
        } else if is(csr::DC_LCB_ERR_CLR) {
            0
        } else if is(csr::DC_LCB_STS_LINK_TRANSFER_ACTIVE) {
            self.transfer_active(board).into()
        } else {
            return None;
        })
    }

    /// Writes a register; `false` when there is none.
    pub fn write(&mut self, board: &mut Board, offset: BarOff, value: u64) -> bool {
        let is = |row: csr::Csr| row.off() == offset;
        if CONFIG.iter().any(|row| row.off() == offset) {
            self.config.insert(offset, value);
        } else if Self::is_counter(offset) {
            self.zeroed.insert(offset, (value, Self::counted(board, offset)));
        } else if is(csr::DC_LCB_ERR_CLR) {
            self.errors.clear(board, value);
        } else if is(csr::DC_LCB_ERR_EN) {
            self.errors.set_mask(board, value);
        } else {
            return is(csr::DC_LCB_ERR_FLG) || is(csr::DC_LCB_STS_LINK_TRANSFER_ACTIVE);
        }
        true
    }
}
