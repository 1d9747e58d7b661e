//! Why a packet can't be sent, and what to do about it.

use opx_defs::status::{EgressRefusals, SendCtxtErrors};
use opx_defs::units::{Blocks, Dwords, SendCtxt};

/// Why a packet wasn't sent, or a wait ended. Nothing of the packet has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PioError {
    /// Too few blocks are free; try again when the chip has returned some.
    #[error("send context {ctxt}: {needed} blocks needed, {available} free; try again after credits return")]
    NoCredit {
        /// The context.
        ctxt: SendCtxt,
        /// Blocks that the packet takes.
        needed: Blocks,
        /// Blocks that are free.
        available: Blocks,
    },
    /// The packet is larger than the whole context.
    #[error("send context {ctxt}: a packet of {needed} blocks never fits into {depth}; send it by SDMA")]
    TooLong {
        /// The context.
        ctxt: SendCtxt,
        /// Blocks that the packet takes.
        needed: Blocks,
        /// Blocks that the context has.
        depth: Blocks,
    },
    /// The PBC's length and the packet's differ; the chip would halt the context.
    #[error("send context {ctxt}: PBC says {pbc} dwords, the packet has {packet}")]
    Length {
        /// The context.
        ctxt: SendCtxt,
        /// Length in the PBC.
        pbc: Dwords,
        /// Length of the packet with its PBC.
        packet: Dwords,
    },
    /// A check on egress refused a packet, and the chip has halted the context.
    #[error(
        "send context {ctxt} halted: the chip refused a packet ({checks}); correct what the checks name, restart the context and send again"
    )]
    Refused {
        /// The context.
        ctxt: SendCtxt,
        /// The checks that it didn't pass. Where packets of several contexts were refused at a time, theirs as well.
        checks: EgressRefusals,
    },
    /// The chip has halted the context on an error; restart it.
    #[error("send context {ctxt} halted ({errors}); restart it and send again what wasn't acknowledged")]
    Halted {
        /// The context.
        ctxt: SendCtxt,
        /// Why.
        errors: SendCtxtErrors,
    },
    /// The chip froze since the context was set up, for an error or because its link went down.
    #[error(
        "send context {ctxt}: the chip froze; call Hfi::service_interrupts, bring the link up, restart the context and send again what wasn't acknowledged"
    )]
    Frozen {
        /// The context.
        ctxt: SendCtxt,
    },
    /// All packets have left, and their blocks are not free: the chip has lost count of them.
    #[error("send context {ctxt}: {missing} blocks never came back although all packets left; restart it")]
    CreditsLost {
        /// The context.
        ctxt: SendCtxt,
        /// Blocks that are missing.
        missing: Blocks,
    },
    /// No packet has left for half a second: the link takes none.
    #[error(
        "send context {ctxt}: {packets} packets don't leave; check the link and who receives, or restart the context, which loses them"
    )]
    Stalled {
        /// The context.
        ctxt: SendCtxt,
        /// Packets inside.
        packets: u16,
    },
    /// The adapter doesn't answer.
    #[error("send context {ctxt}: the adapter doesn't answer; check that it is still plugged in, and open it again")]
    Gone {
        /// The context.
        ctxt: SendCtxt,
    },
}

impl PioError {
    /// Whether [`PioSender::restart`](crate::PioSender::restart) is what helps: nothing is sent before.
    pub fn needs_restart(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Halted { .. } | Self::Frozen { .. } | Self::CreditsLost { .. })
    }
}
