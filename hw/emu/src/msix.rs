//! MSI-X: the vector table and pending bits in BAR 0, and the eventfds behind the vectors.

use opx_bus::Irq;
use opx_defs::csr;
use opx_defs::units::{BarOff, Vector};

/// Vectors of the function (the MSI-X capability says so too).
pub const VECTORS: u16 = 256;

const MASKED: u64 = 1 << 32;

#[derive(Debug, Clone, Copy)]
struct Entry {
    address: u64,
    /// Message data in the low half, vector control in the high half.
    data: u64,
}

/// The table, the pending bits, and whom a vector wakes.
#[derive(Debug)]
pub struct Msix {
    table: Vec<Entry>,
    pending: [u64; 4],
    irqs: Vec<Option<Irq>>,
    /// Software wrote to the table. Where the host owns the table (VFIO and vfio-user trap it), it never reaches the
    /// device and its reset value "masked" means nothing.
    table_used: bool,
    /// All vectors are masked by the capability's function mask.
    function_mask: bool,
    /// Messages sent.
    pub sent: u64,
}

impl Default for Msix {
    fn default() -> Self {
        let entry = Entry { address: 0, data: MASKED };
        Self {
            table: vec![entry; VECTORS.into()],
            pending: [0; 4],
            irqs: vec![None; VECTORS.into()],
            table_used: false,
            function_mask: false,
            sent: 0,
        }
    }
}

impl Msix {
    /// Function-level reset. The eventfds stay: they belong to whoever holds the function open.
    pub fn reset(&mut self) {
        let (irqs, sent) = (std::mem::take(&mut self.irqs), self.sent);
        *self = Self { irqs, sent, ..Self::default() };
    }

    fn is_masked(&self, vector: usize) -> bool {
        self.function_mask || self.table_used && self.table.get(vector).is_none_or(|entry| entry.data & MASKED != 0)
    }

    /// Sends the vector's message, or keeps it pending while the vector is masked or leads nowhere.
    pub fn fire(&mut self, vector: Vector) {
        let at = usize::from(vector.0);
        let masked = self.is_masked(at);
        match self.irqs.get(at) {
            Some(Some(irq)) if !masked => {
                irq.raise();
                self.sent += 1;
            }
            _ => {
                if let Some(word) = self.pending.get_mut(at / 64) {
                    *word |= 1 << (at % 64);
                }
            }
        }
    }

    fn fire_pending(&mut self) {
        for vector in 0..VECTORS {
            let (word, bit) = (usize::from(vector / 64), 1u64 << (vector % 64));
            if let Some(pending) = self.pending.get_mut(word)
                && *pending & bit != 0
            {
                *pending &= !bit;
                self.fire(Vector(vector));
            }
        }
    }

    /// Puts eventfds behind the vectors from `first` on; `None` takes one away.
    pub fn set_irqs(&mut self, first: Vector, irqs: Vec<Option<Irq>>) {
        for (slot, irq) in self.irqs.iter_mut().skip(first.0.into()).zip(irqs) {
            *slot = irq;
        }
        self.fire_pending();
    }

    /// The capability's function mask was written.
    pub fn set_function_mask(&mut self, masked: bool) {
        self.function_mask = masked;
        self.fire_pending();
    }

    /// Reads the table and the pending bits.
    pub fn read(&self, offset: BarOff) -> Option<u64> {
        if let Some((vector, _)) = csr::CCE_MSIX_TABLE_LOWER.locate(offset) {
            return self.table.get(vector as usize).map(|entry| entry.address);
        }
        if let Some((vector, _)) = csr::CCE_MSIX_TABLE_UPPER.locate(offset) {
            return self.table.get(vector as usize).map(|entry| entry.data);
        }
        pba_word(offset).and_then(|word| self.pending.get(word).copied())
    }

    /// Writes the table; the pending bits are the hardware's.
    pub fn write(&mut self, offset: BarOff, value: u64) -> bool {
        let lower = csr::CCE_MSIX_TABLE_LOWER.locate(offset);
        let Some((vector, _)) = lower.or_else(|| csr::CCE_MSIX_TABLE_UPPER.locate(offset)) else {
            return pba_word(offset).is_some();
        };
        self.table_used = true;
        if let Some(entry) = self.table.get_mut(vector as usize) {
            if lower.is_some() {
                entry.address = value;
            } else {
                // Vector control has only the mask bit.
                entry.data = value & (MASKED | 0xffff_ffff);
            }
        }
        self.fire_pending();
        true
    }
}

/// The qword of the pending bit array at `offset`.
fn pba_word(offset: BarOff) -> Option<usize> {
    csr::CCE_MSIX_PBA.locate(offset).map(|(word, _)| word as usize)
}
