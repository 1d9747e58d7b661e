//! The DC common block: port configuration, logical link state, port counters.

use crate::board::Board;
use opx_defs::units::BarOff;

/// The block's registers.
#[derive(Debug, Default)]
pub struct Dcc {}

impl Dcc {
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
}
