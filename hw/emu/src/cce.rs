//! The CCE block: identity, freeze, scratch, errors, the DC's reset line.
//!
//! Source: `chip.c:hfi1_init_dd`, `handle_freeze`, `wait_for_freeze_status`, `init_chip`.

use crate::board::Board;
use crate::triplet::Triplet;
use opx_defs::csr::{self, CCE_CTRL, CCE_DC_CTRL, CCE_REVISION, CCE_REVISION2, CCE_STATUS};
use opx_defs::source::Source;
use opx_defs::units::BarOff;

/// The block's registers.
#[derive(Debug)]
pub struct Cce {
    scratch: [u64; 4],
    errors: Triplet,
    dc_ctrl: u64,
    pcie_ctrl: u64,
    /// What CCE_STATUS wrongly says of the receive engine, by a fault: not frozen while it is, or frozen for good.
    hides_freeze: bool,
    keeps_frozen: bool,
}

impl Default for Cce {
    fn default() -> Self {
        Self {
            scratch: [0; 4],
            errors: Triplet::new(Source::CCE_ERR),
            dc_ctrl: csr::CCE_DC_CTRL.reset,
            pcie_ctrl: 0,
            hides_freeze: false,
            keeps_frozen: false,
        }
    }
}

impl Cce {
    /// Function-level reset. The DC's reset line stays as it is: the driver holds it over the reset (`init_chip`).
    pub fn reset(&mut self, board: &mut Board) {
        self.errors.reset(board);
        *self = Self { dc_ctrl: self.dc_ctrl, ..Self::default() };
    }

    /// An error of the block.
    pub fn raise(&mut self, board: &mut Board, errors: u64) {
        self.errors.raise(board, errors);
    }

    /// From now on the receive engine's freeze goes unseen.
    pub fn hide_freeze(&mut self) {
        self.hides_freeze = true;
    }

    /// From now on the receive engine seems frozen.
    pub fn keep_frozen(&mut self) {
        self.keeps_frozen = true;
    }

    fn freeze_status(&self, frozen: bool) -> u64 {
        use CCE_STATUS as status;
        let senders = status::SDMA_FROZE.mask() | status::TXE_FROZE.mask() | status::TXE_PIO_FROZE.mask();
        let receiver = frozen && !self.hides_freeze || self.keeps_frozen;
        (if frozen { senders } else { 0 }) | status::RXE_FROZE.put(receiver.into())
    }

    /// Whether the DC is held in reset.
    pub fn holds_dc(&self) -> bool {
        CCE_DC_CTRL::DC_RESET.is_set(self.dc_ctrl)
    }

    /// Reads a register; `None` when there is none.
    pub fn read(&mut self, board: &mut Board, offset: BarOff) -> Option<u64> {
        if let Some((index, _)) = csr::CCE_SCRATCH.locate(offset) {
            return self.scratch.get(index as usize).copied();
        }
        if csr::CCE_COUNTER_ARRAY32.locate(offset).is_some() {
            // Stalls of the PCIe interface: there are none here.
            return Some(0);
        }
        let config = &board.config;
        let is = |row: csr::Csr| row.off() == offset;
        Some(if is(csr::CCE_REVISION) {
            u64::from(config.revision) | CCE_REVISION::BOARD_ID_LOWER_NIBBLE.put(config.board_id.into())
        } else if is(csr::CCE_REVISION2) {
            CCE_REVISION2::HFI_ID.put(config.hfi_id.into()) | CCE_REVISION2::IMPL_CODE.put(config.icode as u64)
        } else if is(csr::CCE_CTRL) {
            // Action bits: they clear by themselves.
            0
        } else if is(csr::CCE_STATUS) {
            self.freeze_status(board.frozen)
        } else if is(csr::CCE_ERR_STATUS) {
            self.errors.status()
        } else if is(csr::CCE_ERR_MASK) {
            self.errors.mask()
        } else if is(csr::CCE_ERR_CLEAR) {
            0
        } else if is(csr::CCE_DC_CTRL) {
            self.dc_ctrl
        } else if is(csr::CCE_PCIE_CTRL) {
            self.pcie_ctrl
        } else {
            return None;
        })
    }

    /// Writes a register; `false` when there is none.
    pub fn write(&mut self, board: &mut Board, offset: BarOff, value: u64) -> bool {
        let is = |row: csr::Csr| row.off() == offset;
        if let Some((index, _)) = csr::CCE_SCRATCH.locate(offset) {
            if let Some(word) = self.scratch.get_mut(index as usize) {
                *word = value;
            }
        } else if is(csr::CCE_CTRL) {
            if CCE_CTRL::SPC_FREEZE.is_set(value) {
                board.freeze();
            }
            if CCE_CTRL::SPC_UNFREEZE.is_set(value) {
                board.unfreeze();
            }
        } else if is(csr::CCE_ERR_MASK) {
            self.errors.set_mask(board, value);
        } else if is(csr::CCE_ERR_CLEAR) {
            self.errors.clear(board, value);
        } else if is(csr::CCE_DC_CTRL) {
            self.dc_ctrl = value & CCE_DC_CTRL::DC_RESET.mask();
        } else if is(csr::CCE_PCIE_CTRL) {
            self.pcie_ctrl = value;
        } else {
            return is(csr::CCE_REVISION)
                || is(csr::CCE_REVISION2)
                || is(csr::CCE_STATUS)
                || is(csr::CCE_ERR_STATUS)
                || csr::CCE_COUNTER_ARRAY32.locate(offset).is_some();
        }
        true
    }
}
