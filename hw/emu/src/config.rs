//! What kind of adapter to make: implementation code, identity and sizes.

use opx_defs::units::Guid;
use std::time::Duration;

/// The implementation code in CCE_REVISION2: what the chip says it is made of.
///
/// Source: `chip.h ICODE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Icode {
    /// Real silicon: firmware is loaded, and the link is negotiated by the 8051.
    #[default]
    Silicon = 0,
    /// Intel's functional simulator: no firmware, and the link comes up by itself.
    FunctionalSimulator = 3,
}

/// One adapter's identity and sizes. The default is what Linux's driver sees on silicon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Implementation code.
    pub icode: Icode,
    /// Port GUID; 0 lets the lab choose one by `hfi_id` and position.
    pub guid: Guid,
    /// Which of the two HFIs of its ASIC it is, 0 or 1.
    pub hfi_id: u8,
    /// Board id, 0 to 15.
    pub board_id: u8,
    /// Low half of CCE_REVISION.
    pub revision: u32,
    /// Receive contexts.
    pub rcv_contexts: u16,
    /// Send contexts.
    pub send_contexts: u16,
    /// SDMA engines.
    pub sdma_engines: u8,
    /// Bytes of PIO memory, shared out among send contexts.
    pub pio_bytes: u32,
    /// Bytes of SDMA memory, shared out among engines.
    pub sdma_bytes: u32,
    /// RcvArray entries.
    pub rcv_array_entries: u32,
    /// Time the 8051s take to train a link. Linux's driver fails when a link comes up before its device is registered:
    /// give a guest 2 s.
    pub link_time: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            icode: Icode::Silicon,
            guid: Guid(0),
            hfi_id: 0,
            board_id: 0,
            revision: 0x0302_0710,
            rcv_contexts: 160,
            send_contexts: 160,
            sdma_engines: 16,
            pio_bytes: 1 << 20,
            sdma_bytes: 1 << 20,
            rcv_array_entries: 32768,
            link_time: Duration::from_millis(100),
        }
    }
}
