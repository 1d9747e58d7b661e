//! The chip's error registers: which interrupt source stands for which, and how often each of their bits was seen.

use opx_defs::csr::{self, Csr, Field};
use opx_defs::freezing;
use opx_defs::source::Source;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// STATUS, CLEAR and MASK of a block (FLG, CLR and EN in the DC), and the source that they raise: `chip.c:misc_errs,
/// dc_errs`. The 8051's is read by whoever works on the link.
pub(crate) struct ErrorRegister {
    pub source: Source,
    pub status: &'static Csr,
    pub clear: &'static Csr,
    pub mask: &'static Csr,
}

impl ErrorRegister {
    /// Bits after which the chip has frozen.
    pub const fn freezing(&self) -> u64 {
        freezing::bits_of(self.status)
    }
}

macro_rules! registers {
    ($($source:ident: $status:ident $clear:ident $mask:ident;)*) => {
        pub(crate) static REGISTERS: [ErrorRegister; 10] = [$(ErrorRegister {
            source: Source::$source,
            status: &csr::$status,
            clear: &csr::$clear,
            mask: &csr::$mask,
        },)*];
    };
}

registers! {
    CCE_ERR: CCE_ERR_STATUS CCE_ERR_CLEAR CCE_ERR_MASK;
    RXE_ERR: RCV_ERR_STATUS RCV_ERR_CLEAR RCV_ERR_MASK;
    MISC_ERR: MISC_ERR_STATUS MISC_ERR_CLEAR MISC_ERR_MASK;
    PIO_ERR: SEND_PIO_ERR_STATUS SEND_PIO_ERR_CLEAR SEND_PIO_ERR_MASK;
    SDMA_ERR: SEND_DMA_ERR_STATUS SEND_DMA_ERR_CLEAR SEND_DMA_ERR_MASK;
    EGRESS_ERR: SEND_EGRESS_ERR_STATUS SEND_EGRESS_ERR_CLEAR SEND_EGRESS_ERR_MASK;
    TXE_ERR: SEND_ERR_STATUS SEND_ERR_CLEAR SEND_ERR_MASK;
    DCC: DCC_ERR_FLG DCC_ERR_FLG_CLR DCC_ERR_FLG_EN;
    LCB: DC_LCB_ERR_FLG DC_LCB_ERR_CLR DC_LCB_ERR_EN;
    DC8051: DC_DC8051_ERR_FLG DC_DC8051_ERR_CLR DC_DC8051_ERR_EN;
}

/// How often each bit of each error register was seen, as hfi1 counts them.
pub(crate) struct BitCounts {
    rows: [[AtomicU64; 64]; REGISTERS.len()],
}

impl Default for BitCounts {
    fn default() -> Self {
        Self { rows: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))) }
    }
}

impl fmt::Debug for BitCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(REGISTERS.iter().map(|register| (register.status.name, self.total(register.status))))
            .finish()
    }
}

impl BitCounts {
    fn row(&self, status: &Csr) -> Option<&[AtomicU64; 64]> {
        let found = REGISTERS.iter().zip(&self.rows).find(|(register, _)| register.status.offset == status.offset);
        found.map(|(_, row)| row)
    }

    /// Counts every bit that is set.
    pub fn add(&self, status: &Csr, bits: u64) {
        let Some(row) = self.row(status) else { return };
        for (_, count) in row.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 != 0) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often a bit was seen.
    pub fn of(&self, status: &Csr, field: Field) -> u64 {
        self.row(status).and_then(|row| row.get(field.shift as usize)).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Each bit that was seen, by its register's name and its own.
    pub fn seen(&self) -> impl Iterator<Item = (String, u64)> {
        REGISTERS
            .iter()
            .flat_map(|register| register.status.fields.iter().map(move |field| (register.status, *field)))
            .filter_map(|(status, field)| match self.of(status, field) {
                0 => None,
                count => Some((format!("{}.{}", status.name, field.name), count)),
            })
    }

    /// How often any bit of a register was seen.
    pub fn total(&self, status: &Csr) -> u64 {
        self.row(status).map_or(0, |row| row.iter().map(|count| count.load(Ordering::Relaxed)).sum())
    }
}

/// The names of the bits that are set, for people; bits without a name as a number.
pub(crate) fn names(status: &Csr, bits: u64) -> String {
    let mut known = 0;
    let mut names = Vec::new();
    for field in status.fields.iter().filter(|field| field.is_set(bits)) {
        known |= field.mask();
        names.push(field.name.to_owned());
    }
    if bits & !known != 0 {
        names.push(format!("{:#x}", bits & !known));
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_and_named() {
        let counts = BitCounts::default();
        counts.add(&csr::SEND_DMA_ERR_STATUS, 0b101 | 1 << 60);
        counts.add(&csr::SEND_DMA_ERR_STATUS, 0b001);
        use csr::SEND_DMA_ERR_STATUS as bits;
        assert_eq!(counts.of(&csr::SEND_DMA_ERR_STATUS, bits::SDMA_RPY_TAG_ERR), 2);
        assert_eq!(counts.of(&csr::SEND_DMA_ERR_STATUS, bits::SDMA_CSR_PARITY_ERR), 0);
        assert_eq!((counts.total(&csr::SEND_DMA_ERR_STATUS), counts.total(&csr::CCE_ERR_STATUS)), (4, 0));
        assert_eq!(names(&csr::SEND_DMA_ERR_STATUS, 1 | 1 << 60), "SDMA_RPY_TAG_ERR 0x1000000000000000");
    }
}
