//! The transmit engine: PIO send contexts, SDMA engines, egress checks.

use crate::board::Board;
use crate::config::Config;
use opx_defs::units::BarOff;

/// Something that the transmit engine does later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxeEvent {}

/// The block's registers.
#[derive(Debug, Default)]
pub struct Txe {}

impl Txe {
    /// Function-level reset.
    pub fn reset(&mut self, _board: &mut Board) {}

    /// Reads a register; `None` when there is none.
    pub fn read(&mut self, _board: &mut Board, _offset: BarOff) -> Option<u64> {
        None
    }

    /// Writes a register; `false` when there is none.
    pub fn write(&mut self, _board: &mut Board, _offset: BarOff, _value: u64) -> bool {
        false
    }

    /// A transmit engine of the sizes in `config`.
    pub fn new(_config: &Config) -> Self {
        Self::default()
    }

    /// Writes one 64-byte block to the PIO window.
    pub fn write_block(&mut self, board: &mut Board, offset: BarOff, block: &[u64; 8]) {
        for (i, qword) in (0u32..).zip(block) {
            self.write(board, offset.plus(i * 8), *qword);
        }
    }

    /// An event asked for earlier.
    pub fn on_event(&mut self, _board: &mut Board, event: TxeEvent) {
        match event {}
    }

    /// A packet was refused by a full link, and there is room now.
    pub fn on_link_room(&mut self, _board: &mut Board) {}

    /// The link came up, went down, or its logical state changed; see `board.link`.
    pub fn on_link_change(&mut self, _board: &mut Board) {}

    /// The chip froze or was unfrozen; see `board.frozen`.
    pub fn on_freeze_change(&mut self, _board: &mut Board) {}
}
