//! PBC, the per-buffer control qword that precedes each packet on its way into the chip.
//!
//! Source: `chip.h PBC_*`, `chip.c:create_pbc`.

use crate::units::{Dwords, Sc, Vl};

/// A per-buffer control word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pbc(pub u64);

/// Where the chip puts the KDETH header checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertHcrc {
    /// KDETH right after LRH and BTH.
    Local,
    /// KDETH behind a GRH.
    Global,
    /// Nowhere.
    No,
}

impl Pbc {
    const INSERT_BYPASS_ICRC: u64 = 1 << 24;
    const CREDIT_RETURN: u64 = 1 << 25;
    const BYPASS: u64 = 1 << 28;
    const DC_INFO: u64 = 1 << 30;
    const INTR: u64 = 1 << 31;

    /// A word for a packet of `length` dwords, these 2 of the PBC included and the ICRC not, on `vl`.
    pub const fn new(length: Dwords, vl: Vl, sc: Sc) -> Self {
        let dc_info = if sc.0 & 0x10 != 0 { Self::DC_INFO } else { 0 };
        Self((length.0 as u64 & 0xfff) | (vl.0 as u64 & 0xf) << 12 | dc_info)
    }

    /// The same, asking for credits to be returned when the packet's blocks are free.
    #[must_use]
    pub const fn credit_return(self) -> Self {
        Self(self.0 | Self::CREDIT_RETURN)
    }

    /// The same, asking for an interrupt.
    #[must_use]
    pub const fn interrupt(self) -> Self {
        Self(self.0 | Self::INTR)
    }

    /// The same, for a bypass packet (a 16B header).
    #[must_use]
    pub const fn bypass(self) -> Self {
        Self(self.0 | Self::BYPASS)
    }

    /// The same, for a bypass packet whose ICRC the chip is to write.
    #[must_use]
    pub const fn insert_bypass_icrc(self) -> Self {
        Self(self.0 | Self::INSERT_BYPASS_ICRC)
    }

    /// The same, with the header checksum at `place`.
    #[must_use]
    pub const fn insert_hcrc(self, place: InsertHcrc) -> Self {
        let code = match place {
            InsertHcrc::Local => 0,
            InsertHcrc::Global => 1,
            InsertHcrc::No => 2,
        };
        Self(self.0 & !(3 << 26) | code << 26)
    }

    /// Length in dwords, PBC included.
    pub const fn length(self) -> Dwords {
        Dwords(self.0 as u32 & 0xfff)
    }

    /// Virtual lane.
    pub const fn vl(self) -> Vl {
        Vl((self.0 >> 12) as u8 & 0xf)
    }

    /// Bit 4 of the service class.
    pub const fn sc4(self) -> bool {
        self.0 & Self::DC_INFO != 0
    }

    /// Whether credits are to be returned.
    pub const fn wants_credit_return(self) -> bool {
        self.0 & Self::CREDIT_RETURN != 0
    }

    /// Whether the packet isn't a 9B one.
    pub const fn is_bypass(self) -> bool {
        self.0 & Self::BYPASS != 0
    }

    /// Whether an interrupt is asked for.
    pub const fn wants_interrupt(self) -> bool {
        self.0 & Self::INTR != 0
    }

    /// Whether the chip is to spoil the ICRC, for tests.
    pub const fn test_bad_icrc(self) -> bool {
        self.0 & 1 << 23 != 0
    }
}
