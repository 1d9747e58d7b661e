//! Interrupt sources: the 768 bits of the chip's interrupt status.
//!
//! Source: `chip.h IS_*`.

use crate::units::{RcvCtxt, SdmaEngine, SendCtxt};

/// Number of sources, in 12 registers of 64 bits.
pub const SOURCES: u16 = 768;

/// The number of one interrupt source, 0 to 767.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(pub u16);

impl Source {
    /// Error of the CCE block.
    pub const CCE_ERR: Self = Self(0);
    /// Error of the receive engine.
    pub const RXE_ERR: Self = Self(1);
    /// Error of the MISC block.
    pub const MISC_ERR: Self = Self(2);
    /// Error of the PIO send path.
    pub const PIO_ERR: Self = Self(4);
    /// Error of the SDMA send path.
    pub const SDMA_ERR: Self = Self(5);
    /// Error on egress.
    pub const EGRESS_ERR: Self = Self(6);
    /// Error of the transmit engine.
    pub const TXE_ERR: Self = Self(7);
    /// A packet's PBC asked for an interrupt.
    pub const PBC: Self = Self(240);
    /// General-purpose pins.
    pub const GPIO: Self = Self(241);
    /// The cage of HFI 0.
    pub const QSFP1: Self = Self(242);
    /// The cage of HFI 1.
    pub const QSFP2: Self = Self(243);
    /// Critical temperature.
    pub const TCRIT: Self = Self(244);
    /// The DC common block.
    pub const DCC: Self = Self(248);
    /// The link control block.
    pub const LCB: Self = Self(249);
    /// The 8051.
    pub const DC8051: Self = Self(250);
    /// The LBM block.
    pub const LBM: Self = Self(251);

    /// Error of an SDMA engine.
    pub const fn sdma_error(engine: SdmaEngine) -> Self {
        Self(16 + engine.0 as u16)
    }

    /// Error of a send context.
    pub const fn send_ctxt_error(ctxt: SendCtxt) -> Self {
        Self(32 + ctxt.0)
    }

    /// A descriptor with an interrupt request completed.
    pub const fn sdma_int(engine: SdmaEngine) -> Self {
        Self(192 + engine.0 as u16)
    }

    /// The engine's descriptor count ran out.
    pub const fn sdma_progress(engine: SdmaEngine) -> Self {
        Self(208 + engine.0 as u16)
    }

    /// The engine has gone idle.
    pub const fn sdma_idle(engine: SdmaEngine) -> Self {
        Self(224 + engine.0 as u16)
    }

    /// Packets are in a receive context.
    pub const fn rcv_avail(ctxt: RcvCtxt) -> Self {
        Self(256 + ctxt.0)
    }

    /// An urgent packet is in a receive context.
    pub const fn rcv_urgent(ctxt: RcvCtxt) -> Self {
        Self(416 + ctxt.0)
    }

    /// Credits of a send context were returned.
    pub const fn send_credit(ctxt: SendCtxt) -> Self {
        Self(576 + ctxt.0)
    }

    /// The index of the 64-bit status register that holds the bit.
    pub const fn word(self) -> u32 {
        self.0 as u32 / 64
    }

    /// The bit in that register.
    pub const fn bit(self) -> u64 {
        1 << (self.0 % 64)
    }
}
