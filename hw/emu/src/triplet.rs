//! An error register triplet: STATUS, MASK and CLEAR (FLG, EN and CLR in the DC), and the interrupt source it feeds.
//!
//! Source: `chip.c:interrupt_clear_down`.

use crate::board::Board;
use opx_defs::source::Source;

/// Sticky error bits that hold their source up while one of them is unmasked.
#[derive(Debug)]
pub struct Triplet {
    status: u64,
    mask: u64,
    source: Source,
}

impl Triplet {
    /// No errors, all masked.
    pub const fn new(source: Source) -> Self {
        Self { status: 0, mask: 0, source }
    }

    /// STATUS.
    pub const fn status(&self) -> u64 {
        self.status
    }

    /// MASK.
    pub const fn mask(&self) -> u64 {
        self.mask
    }

    /// Holds the source up again after the interrupt block was reset.
    pub fn refresh(&self, board: &mut Board) {
        self.update(board);
    }

    fn update(&self, board: &mut Board) {
        board.level(self.source, self.status & self.mask != 0);
    }

    /// The hardware sets error bits.
    pub fn raise(&mut self, board: &mut Board, bits: u64) {
        // A new error is an edge of its own, even while an older one holds the source up.
        if bits & self.mask & !self.status != 0 {
            board.raise(self.source);
        }
        self.status |= bits;
        self.update(board);
    }

    /// Software writes MASK.
    pub fn set_mask(&mut self, board: &mut Board, mask: u64) {
        self.mask = mask;
        self.update(board);
    }

    /// Software writes CLEAR.
    pub fn clear(&mut self, board: &mut Board, bits: u64) {
        self.status &= !bits;
        self.update(board);
    }

    /// Reset: nothing set, all masked.
    pub fn reset(&mut self, board: &mut Board) {
        (self.status, self.mask) = (0, 0);
        self.update(board);
    }
}
