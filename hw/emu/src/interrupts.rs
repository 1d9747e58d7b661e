//! The interrupt block: 768 sources, their mask and map, and when a vector's message goes out.
//!
//! Source: `chip.c:general_interrupt`, `receive_interrupt_common`, `remap_intr`, `check_int_registers`.

use crate::msix::Msix;
use opx_defs::csr;
use opx_defs::source::{SOURCES, Source};
use opx_defs::units::{BarOff, Vector};

const WORDS: usize = SOURCES as usize / 64;

/// Which of CCE_INT_COUNTER_ARRAY32 counts a source (chip.c CCE_*_INT_CNT).
fn counter_of(source: usize) -> usize {
    match source {
        0..192 => 0,
        192..240 => 1,
        240..256 => 2,
        256..416 => 3,
        416..576 => 4,
        _ => 5,
    }
}

/// Interrupt status and delivery.
#[derive(Debug)]
pub struct Interrupts {
    status: [u64; WORDS],
    mask: [u64; WORDS],
    /// Sources whose cause still stands: clearing their status sets it again.
    level: [u64; WORDS],
    map: Vec<u8>,
    /// Vectors with a message out that software has not answered by clearing one of its sources. Without this, each
    /// status bit would send its own message, and the driver would meet interrupts "but no status bits set".
    outstanding: [u64; 4],
    clear_without_int: [u64; 4],
    /// Sources that were set, by kind: error, SDMA, miscellaneous, receive available, receive urgent, send credit.
    counters: [u32; 6],
    /// A fault: the next message of vector 0 is lost.
    loses_next: bool,
    /// The MSI-X table and eventfds.
    pub msix: Msix,
}

impl Default for Interrupts {
    fn default() -> Self {
        Self {
            status: [0; WORDS],
            mask: [0; WORDS],
            level: [0; WORDS],
            map: vec![0; SOURCES.into()],
            outstanding: [0; 4],
            clear_without_int: [0; 4],
            counters: [0; 6],
            loses_next: false,
            msix: Msix::default(),
        }
    }
}

impl Interrupts {
    /// Function-level reset.
    pub fn reset(&mut self) {
        let mut msix = std::mem::take(&mut self.msix);
        msix.reset();
        *self = Self { msix, ..Self::default() };
    }

    /// Sets a source's status bit once; an edge.
    pub fn raise(&mut self, source: Source) {
        self.set(source.word() as usize, source.bit());
    }

    /// Says whether a source's cause stands; while it does, clearing the status sets it again.
    pub fn level(&mut self, source: Source, on: bool) {
        let (word, bit) = (source.word() as usize, source.bit());
        let Some(level) = self.level.get_mut(word) else { return };
        if on {
            let rose = *level & bit == 0;
            *level |= bit;
            if rose {
                self.set(word, bit);
            }
        } else {
            *level &= !bit;
        }
    }

    /// The next message of vector 0 gets lost.
    pub fn lose_next(&mut self) {
        self.loses_next = true;
    }

    /// A message of vector 0 without cause.
    pub fn send_spurious(&mut self) {
        self.msix.fire(Vector(0));
    }

    /// Whether a source's status bit is set.
    #[cfg(test)]
    pub fn is_set(&self, source: Source) -> bool {
        self.status.get(source.word() as usize).is_some_and(|word| word & source.bit() != 0)
    }

    fn set(&mut self, word: usize, bits: u64) {
        let Some(status) = self.status.get_mut(word) else { return };
        let rising = bits & !*status;
        *status |= bits;
        let mut left = rising;
        while left != 0 {
            let kind = counter_of(word * 64 + left.trailing_zeros() as usize);
            left &= left - 1;
            if let Some(count) = self.counters.get_mut(kind) {
                *count = count.wrapping_add(1);
            }
        }
        self.deliver(word, bits);
    }

    fn vector_of(&self, word: usize, bit: u32) -> Vector {
        Vector(self.map.get(word * 64 + bit as usize).copied().unwrap_or(0).into())
    }

    /// Sends the messages of those `bits` of a word that are set and unmasked, unless their vector has one out.
    fn deliver(&mut self, word: usize, bits: u64) {
        let (Some(status), Some(mask)) = (self.status.get(word), self.mask.get(word)) else { return };
        let mut ready = status & mask & bits;
        while ready != 0 {
            let bit = ready.trailing_zeros();
            ready &= ready - 1;
            let vector = self.vector_of(word, bit);
            let (at, vector_bit) = (usize::from(vector.0 / 64), 1u64 << (vector.0 % 64));
            if let Some(outstanding) = self.outstanding.get_mut(at)
                && *outstanding & vector_bit == 0
            {
                *outstanding |= vector_bit;
                if vector == Vector(0) && std::mem::take(&mut self.loses_next) {
                    continue;
                }
                self.msix.fire(vector);
            }
        }
    }

    /// Software cleared `bits`: their vectors may send again, and do at once when another source of theirs stands. A source
    /// whose cause stands, such as an error register that isn't cleared, is there again at once. That it is a level is
    /// INFERRED: `chip.c:interrupt_clear_down` clears the error registers and doesn't look at CCE_INT_STATUS again.
    fn clear(&mut self, word: usize, bits: u64) {
        let level = self.level.get(word).copied().unwrap_or(0);
        if let Some(status) = self.status.get_mut(word) {
            *status = *status & !bits | level;
        }
        let mut released = [0u64; 4];
        let mut left = bits;
        while left != 0 {
            let vector = self.vector_of(word, left.trailing_zeros());
            left &= left - 1;
            if let Some(set) = released.get_mut(usize::from(vector.0 / 64)) {
                *set |= 1 << (vector.0 % 64);
            }
        }
        let mut any = 0;
        for (outstanding, released) in self.outstanding.iter_mut().zip(released) {
            any |= *outstanding & released;
            *outstanding &= !released;
        }
        if any != 0 {
            for word in 0..WORDS {
                self.deliver(word, u64::MAX);
            }
        }
    }

    /// Sources that are set and enabled, and whose vector waits for software.
    fn blocked(&self, word: usize) -> u64 {
        let ready = self.status.get(word).copied().unwrap_or(0) & self.mask.get(word).copied().unwrap_or(0);
        (0..64).filter(|bit| ready & (1 << bit) != 0).fold(0, |blocked, bit| {
            let vector = self.vector_of(word, bit);
            let out = self.outstanding.get(usize::from(vector.0 / 64)).is_some_and(|o| o & (1 << (vector.0 % 64)) != 0);
            blocked | u64::from(out) << bit
        })
    }

    /// Reads a register of the block.
    pub fn read(&self, offset: BarOff) -> Option<u64> {
        let at = |row: csr::Csr| row.locate(offset).map(|(index, _)| index as usize);
        if let Some(i) = at(csr::CCE_INT_STATUS) {
            self.status.get(i).copied()
        } else if let Some(i) = at(csr::CCE_INT_MASK) {
            self.mask.get(i).copied()
        } else if at(csr::CCE_INT_CLEAR).is_some() || at(csr::CCE_INT_FORCE).is_some() {
            // Handlers read CLEAR only to flush their write.
            Some(0)
        } else if let Some(i) = at(csr::CCE_INT_BLOCKED) {
            Some(self.blocked(i))
        } else if let Some(i) = at(csr::CCE_INT_MAP) {
            let bytes = self.map.get(i * 8..i * 8 + 8)?;
            Some(bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
        } else if let Some(i) = at(csr::CCE_INT_COUNTER_ARRAY32) {
            self.counters.get(i).map(|count| u64::from(*count))
        } else if let Some(i) = at(csr::CCE_MSIX_INT_GRANTED) {
            self.outstanding.get(i).copied()
        } else if let Some(i) = at(csr::CCE_MSIX_VEC_CLR_WITHOUT_INT) {
            self.clear_without_int.get(i).copied()
        } else {
            self.msix.read(offset)
        }
    }

    /// Writes a register of the block.
    pub fn write(&mut self, offset: BarOff, value: u64) -> bool {
        let at = |row: csr::Csr| row.locate(offset).map(|(index, _)| index as usize);
        if let Some(i) = at(csr::CCE_INT_CLEAR) {
            self.clear(i, value);
        } else if let Some(i) = at(csr::CCE_INT_FORCE) {
            self.set(i, value);
        } else if let Some(i) = at(csr::CCE_INT_MASK) {
            if let Some(mask) = self.mask.get_mut(i) {
                *mask = value;
            }
            self.deliver(i, u64::MAX);
        } else if let Some(i) = at(csr::CCE_INT_MAP) {
            if let Some(bytes) = self.map.get_mut(i * 8..i * 8 + 8) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
        } else if let Some(i) = at(csr::CCE_MSIX_VEC_CLR_WITHOUT_INT) {
            if let Some(word) = self.clear_without_int.get_mut(i) {
                *word = value;
            }
        } else if at(csr::CCE_INT_STATUS).is_none()
            && at(csr::CCE_INT_BLOCKED).is_none()
            && at(csr::CCE_MSIX_INT_GRANTED).is_none()
            && at(csr::CCE_INT_COUNTER_ARRAY32).is_none()
        {
            return self.msix.write(offset, value);
        }
        true
    }
}
