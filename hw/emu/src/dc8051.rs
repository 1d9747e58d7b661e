//! The 8051 microcontroller that runs the link.

use crate::board::Board;
use opx_defs::units::BarOff;

/// Something for the 8051 to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dc8051Event {}

/// The block's registers.
#[derive(Debug, Default)]
pub struct Dc8051 {}

impl Dc8051 {
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
