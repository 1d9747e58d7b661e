//! How a send context is set up: what it is for decides its checks, its lanes and when credits come back.

use opx_defs::csr;
use opx_defs::units::Blocks;

/// Opcodes of OPX and PSM have the two highest bits set (`chip.h:USER_OPCODE_CHECK_VAL`).
const USER_OPCODE_VALUE: u64 = 0xc0;
const USER_OPCODE_MASK: u64 = 0xc0;
/// Data lanes and the management lane, one bit each (`pio.c:init_pervl_scs`).
const DATA_VLS: u64 = 0x00ff;
const VL15: u64 = 1 << 15;
/// Credits that a user's context returns by itself, in percent of its blocks (`init.c:user_credit_return_threshold`).
const USER_THRESHOLD_PERCENT: u32 = 33;
/// Bytes of a header queue entry of the receiver: what Linux adds to the MTU for headers (`pio.c:sc_mtu_to_threshold`).
const ENTRY_BYTES: u32 = 128;
const BLOCK_BYTES: u32 = 64;

/// What a send context is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SendKind {
    /// Data packets of a user: KDETH packets with the adapter's job and partition key, no lane for management.
    #[default]
    User,
    /// Data packets of the system: any 9B or 16B packet on the data lanes.
    Kernel,
    /// Acknowledgements of the system: as `Kernel`, without KDETH packets.
    Ack,
    /// Management packets, on lane 15 only.
    Management,
}

impl SendKind {
    /// SEND_CTXT_CHECK_ENABLE: `hfi.h:hfi1_pkt_default_send_ctxt_mask`, with the partition key check that
    /// `chip.c:hfi1_set_ctxt_pkey` adds for users. Static rates are allowed (`chip.c:hfi1_init_ctxt`), and so are KDETH
    /// packets of users (`chip.c:hfi1_set_ctxt_jkey`).
    pub(super) fn checks(self) -> u64 {
        use csr::SEND_CTXT_CHECK_ENABLE as c;
        let base = [
            c::CHECK_ENABLE,
            c::CHECK_VL,
            c::CHECK_JOB_KEY,
            c::CHECK_SLID,
            c::CHECK_OPCODE,
            c::CHECK_VL_MAPPING,
            c::CHECK_BYPASS_VL_MAPPING,
            c::DISALLOW_RAW,
            c::DISALLOW_RAW_IPV6,
            c::DISALLOW_TOO_SMALL_IB_PACKETS,
            c::DISALLOW_TOO_SMALL_BYPASS_PACKETS,
            c::DISALLOW_PBC_TEST,
            c::DISALLOW_BAD_PKT_LEN,
            c::DISALLOW_TOO_LONG_IB_PACKETS,
            c::DISALLOW_TOO_LONG_BYPASS_PACKETS,
            c::DISALLOW_BYPASS_BAD_PKT_LEN,
        ];
        let own: &[csr::Field] = match self {
            Self::User => &[c::CHECK_PARTITION_KEY, c::DISALLOW_GRH, c::DISALLOW_BYPASS, c::DISALLOW_NON_KDETH_PACKETS],
            Self::Kernel => &[],
            Self::Ack | Self::Management => &[c::DISALLOW_KDETH_PACKETS],
        };
        base.iter().chain(own).fold(0, |mask, field| mask | field.mask())
    }

    /// SEND_CTXT_CHECK_OPCODE: only users' opcodes are looked at (`pio.c:sc_alloc`).
    pub(super) fn opcodes(self) -> u64 {
        use csr::SEND_CTXT_CHECK_OPCODE as opcode;
        match self {
            Self::User => opcode::VALUE.put(USER_OPCODE_VALUE) | opcode::MASK.put(USER_OPCODE_MASK),
            _ => 0,
        }
    }

    /// SEND_CTXT_CHECK_VL, the lanes that are not allowed: `pio.c:sc_alloc, init_pervl_scs`.
    pub(super) fn disallowed_vls(self) -> u64 {
        match self {
            Self::User | Self::Kernel | Self::Ack => VL15,
            Self::Management => DATA_VLS,
        }
    }

    /// SEND_CTXT_CHECK_JOB_KEY is set for users only: a mask of 0 lets every key pass.
    pub(super) fn has_job_key(self) -> bool {
        self == Self::User
    }

    /// The threshold that `pio.c:sc_alloc` chooses, `mtu` bytes being the largest payload.
    pub(super) fn threshold(self, depth: Blocks, mtu: u32) -> Blocks {
        match self {
            Self::User => Threshold::Percent(USER_THRESHOLD_PERCENT).of(depth),
            Self::Ack => Threshold::Percent(50).of(depth),
            Self::Kernel | Self::Management => {
                Threshold::Percent(50).of(depth).min(Threshold::RoomFor { mtu }.of(depth))
            }
        }
    }
}

/// So many blocks that were freed and not told of make the chip return credits by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Threshold {
    /// That many.
    Blocks(Blocks),
    /// A part of the context's blocks (`pio.c:sc_percent_to_threshold`).
    Percent(u32),
    /// All but those that a packet of `mtu` bytes and its header take (`pio.c:sc_mtu_to_threshold`).
    RoomFor {
        /// Bytes of payload.
        mtu: u32,
    },
}

impl Threshold {
    /// In a context of `depth` blocks. At least 1, for at 0 the chip might never return anything, and no more than there
    /// are blocks.
    pub fn of(self, depth: Blocks) -> Blocks {
        let all = u32::from(depth.0);
        let blocks = match self {
            Self::Blocks(blocks) => blocks.0.into(),
            Self::Percent(percent) => all * percent.min(100) / 100,
            Self::RoomFor { mtu } => all.saturating_sub(mtu.saturating_add(ENTRY_BYTES).div_ceil(BLOCK_BYTES)),
        };
        Blocks(blocks.clamp(1, all.max(1)) as u16)
    }
}

/// How a send context is set up.
///
/// ```
/// use opx_defs::units::Blocks;
/// use opx_hw::{SendConfig, SendKind};
/// let management = SendConfig { kind: SendKind::Management, ..SendConfig::new(Blocks(102)) };
/// assert!(management.early_return);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendConfig {
    /// 64-byte blocks of PIO memory, 1 to 1024. A packet takes one for PBC and header and one for each 64 bytes of payload.
    pub blocks: Blocks,
    /// What it is for.
    pub kind: SendKind,
    /// When credits come back by themselves; `None` for what Linux takes for the kind.
    pub threshold: Option<Threshold>,
    /// Credits come back when a packet has left the context's buffer, not only when it is on the wire.
    pub early_return: bool,
    /// Whether one can sleep until credits come back; takes an interrupt vector.
    pub interrupts: bool,
}

impl SendConfig {
    /// A user's context of `blocks` blocks, with early return and without interrupts.
    pub fn new(blocks: Blocks) -> Self {
        Self { blocks, kind: SendKind::User, threshold: None, early_return: true, interrupts: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_those_of_linux() {
        // What hfi1's masks come to for each type, with static rates allowed (bit 20 off).
        assert_eq!(SendKind::User.checks(), 0x2f_efff);
        assert_eq!(SendKind::Kernel.checks(), 0x2f_c3f7);
        assert_eq!(SendKind::Ack.checks(), 0x2f_d3f7);
        assert_eq!(SendKind::Management.checks(), 0x2f_d3f7);
        assert_eq!((SendKind::User.opcodes(), SendKind::Kernel.opcodes()), (0xc0c0, 0));
        assert_eq!((SendKind::User.disallowed_vls(), SendKind::Management.disallowed_vls()), (0x8000, 0xff));
    }

    #[test]
    fn thresholds_are_those_of_linux() {
        assert_eq!(SendKind::User.threshold(Blocks(100), 8192), Blocks(33));
        assert_eq!(SendKind::Ack.threshold(Blocks(32), 8192), Blocks(16));
        // 102 blocks are no room for 8 KiB, so one block is enough to be told of; with 2 KiB half of them are fewer.
        assert_eq!(SendKind::Management.threshold(Blocks(102), 8192), Blocks(1));
        assert_eq!(SendKind::Management.threshold(Blocks(102), 2048), Blocks(51));
        assert_eq!(SendKind::Kernel.threshold(Blocks(160), 8192), Blocks(30));
        assert_eq!(Threshold::Percent(33).of(Blocks(1)), Blocks(1));
        assert_eq!(Threshold::Blocks(Blocks(0)).of(Blocks(9)), Blocks(1));
        assert_eq!(Threshold::Blocks(Blocks(10)).of(Blocks(9)), Blocks(9));
        assert_eq!(Threshold::RoomFor { mtu: u32::MAX }.of(Blocks(9)), Blocks(1));
    }
}
