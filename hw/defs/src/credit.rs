//! The credit-return word that the chip writes to host memory for each send context.
//!
//! Source: `chip.h CR_*`, `pio.h`. It is written at `SEND_CTXT_CREDIT_RETURN_ADDR + 8 * (hardware context & 7)`.

use crate::units::Blocks;

/// The counter of freed blocks is kept modulo this.
pub const CREDIT_MODULUS: u16 = 2048;

/// A credit-return word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CreditReturn(pub u64);

impl CreditReturn {
    const HALTED: u64 = 1 << 11;
    const DUE_TO_PBC: u64 = 1 << 12;
    const DUE_TO_THRESHOLD: u64 = 1 << 13;
    const DUE_TO_ERROR: u64 = 1 << 14;
    const DUE_TO_FORCE: u64 = 1 << 15;

    /// The word for `counter` freed blocks, for `reason`, of a context that is or isn't halted.
    pub const fn new(counter: Blocks, halted: bool, reason: CreditReason) -> Self {
        let reason = match reason {
            CreditReason::Pbc => Self::DUE_TO_PBC,
            CreditReason::Threshold => Self::DUE_TO_THRESHOLD,
            CreditReason::Error => Self::DUE_TO_ERROR,
            CreditReason::Force => Self::DUE_TO_FORCE,
        };
        let halted = if halted { Self::HALTED } else { 0 };
        Self((counter.0 % CREDIT_MODULUS) as u64 | halted | reason)
    }

    /// Blocks freed since the context was enabled, modulo [`CREDIT_MODULUS`].
    pub const fn counter(self) -> Blocks {
        Blocks((self.0 & 0x7ff) as u16)
    }

    /// Why it was returned; `None` before the first return.
    pub const fn reason(self) -> Option<CreditReason> {
        Some(match self.0 {
            word if word & Self::DUE_TO_ERROR != 0 => CreditReason::Error,
            word if word & Self::DUE_TO_FORCE != 0 => CreditReason::Force,
            word if word & Self::DUE_TO_PBC != 0 => CreditReason::Pbc,
            word if word & Self::DUE_TO_THRESHOLD != 0 => CreditReason::Threshold,
            _ => return None,
        })
    }

    /// Whether the context has halted on an error.
    pub const fn halted(self) -> bool {
        self.0 & Self::HALTED != 0
    }
}

/// Why credits were returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreditReason {
    /// A packet asked for it in its PBC.
    Pbc,
    /// The threshold of unreturned blocks was reached.
    Threshold,
    /// The context halted.
    Error,
    /// Software wrote `SEND_CTXT_CREDIT_FORCE`.
    Force,
}
