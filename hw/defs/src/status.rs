//! Error bits of send contexts, egress checks and SDMA engines by name, for messages that people read.
//!
//! Source: `chip_registers.h SEND_CTXT_ERR_STATUS_*, SEND_EGRESS_ERR_INFO_*, SEND_DMA_ENG_ERR_STATUS_*`; the names are those of `chip.c`'s tables.

use bitflags::bitflags;
use core::fmt;

bitflags! {
    /// Why a send context has halted: SEND_CTXT_ERR_STATUS.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct SendCtxtErrors: u64 {
        /// A block was written in the wrong view: a packet begins in the start-of-packet view and goes on in the other.
        const INCONSISTENT_SOP = 1 << 0;
        /// An egress check refused a packet.
        const DISALLOWED_PACKET = 1 << 1;
        /// A store crossed a block's boundary.
        const WRITE_CROSSES_BOUNDARY = 1 << 2;
        /// A block was written that hadn't been returned.
        const WRITE_OVERFLOW = 1 << 3;
        /// A block beyond the context's buffer was written.
        const WRITE_OUT_OF_BOUNDS = 1 << 4;
        const _ = !0;
    }
}

bitflags! {
    /// Which checks refused a packet on egress: SEND_EGRESS_ERR_INFO. The register collects for all senders until it is
    /// cleared, so that there may be bits of other packets among them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct EgressRefusals: u64 {
        /// The sender may not use the virtual lane.
        const VL = 1 << 1;
        /// The job key isn't the sender's.
        const JOB_KEY = 1 << 2;
        /// The partition key isn't the sender's.
        const PARTITION_KEY = 1 << 3;
        /// The source LID isn't the port's.
        const SLID = 1 << 4;
        /// The opcode isn't one that the sender may use.
        const OPCODE = 1 << 5;
        /// The service class doesn't map to the PBC's lane.
        const VL_MAPPING = 1 << 6;
        /// A raw packet.
        const RAW = 1 << 8;
        /// A raw IPv6 packet.
        const RAW_IPV6 = 1 << 9;
        /// A packet with a global route header.
        const GRH = 1 << 10;
        /// A packet that isn't 9B.
        const BYPASS = 1 << 11;
        /// A KDETH packet.
        const KDETH_PACKETS = 1 << 12;
        /// A packet without KDETH.
        const NON_KDETH_PACKETS = 1 << 13;
        /// A packet shorter than its headers.
        const TOO_SMALL_IB_PACKETS = 1 << 14;
        /// A bypass packet shorter than its headers.
        const TOO_SMALL_BYPASS_PACKETS = 1 << 15;
        /// A PBC that asks for a spoilt packet.
        const PBC_TEST = 1 << 16;
        /// PBC and LRH disagree on the length.
        const BAD_PKT_LEN = 1 << 17;
        /// A packet longer than the lane's MTU.
        const TOO_LONG_IB_PACKET = 1 << 18;
        /// A bypass packet longer than the lane's MTU.
        const TOO_LONG_BYPASS_PACKETS = 1 << 19;
        /// A PBC that asks for a static rate.
        const PBC_STATIC_RATE_CONTROL = 1 << 20;
        const _ = !0;
    }
}

bitflags! {
    /// Why an SDMA engine has halted: SEND_DMA_ENG_ERR_STATUS.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct SdmaErrors: u64 {
        /// The packet's length isn't whole dwords.
        const WRONG_DW = 1 << 0;
        /// A descriptor's generation isn't the ring's.
        const GEN_MISMATCH = 1 << 1;
        /// The packet is longer than the engine takes.
        const TOO_LONG = 1 << 2;
        /// The tail is beyond the ring.
        const TAIL_OUT_OF_BOUNDS = 1 << 3;
        /// A packet doesn't begin with a first descriptor.
        const FIRST_DESC = 1 << 4;
        /// Memory couldn't be read.
        const MEM_READ = 1 << 5;
        /// The engine was told to halt.
        const HALT = 1 << 6;
        /// Descriptors and PBC disagree on the length.
        const LENGTH_MISMATCH = 1 << 7;
        /// A packet has too many descriptors.
        const PACKET_DESC_OVERFLOW = 1 << 8;
        /// Header generation names an entry that isn't there.
        const HEADER_SELECT = 1 << 10;
        /// Header generation edits outside of the header.
        const HEADER_ADDRESS = 1 << 11;
        /// The header is longer than an entry.
        const HEADER_LENGTH = 1 << 12;
        /// A fetch took too long.
        const TIMEOUT = 1 << 13;
        /// Memory error in the descriptor table.
        const DESC_TABLE_UNC = 1 << 14;
        /// Memory error in packet assembly.
        const ASSEMBLY_UNC = 1 << 15;
        /// Memory error in packet tracking.
        const PACKET_TRACKING_UNC = 1 << 16;
        /// Memory error in header storage.
        const HEADER_STORAGE_UNC = 1 << 17;
        /// Memory error in the header request queue.
        const HEADER_REQUEST_FIFO_UNC = 1 << 18;
        const _ = !0;
    }
}

impl SdmaErrors {
    /// The errors that halt the engine (`sdma.c:ALL_SDMA_ENG_HALT_ERRS`): all that have a name. The others are single bits
    /// that flipped and were mended (`chip.c:access_sdma_desc_table_cor_err_cnt` and its like, bits 19 to 23).
    pub const HALTING: Self = Self::from_bits_retain(0x7_fdff);
}

macro_rules! show_names {
    ($($flags:ident)*) => {
        $(impl fmt::Display for $flags {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if self.bits() == u64::MAX {
                    // No status has all bits; a frozen or lost adapter reads so.
                    return f.write_str("all ones: the chip is frozen or gone");
                }
                bitflags::parser::to_writer(self, f)
            }
        })*
    };
}

show_names!(SendCtxtErrors EgressRefusals SdmaErrors);

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::csr::{SEND_CTXT_ERR_STATUS, SEND_DMA_ENG_ERR_STATUS, SEND_EGRESS_ERR_INFO};
    use std::string::ToString;

    #[test]
    fn names_are_those_of_the_catalogue() {
        let squeeze = |name: &str| name.replace('_', "");
        for (name, flag) in SendCtxtErrors::all().iter_names() {
            let field = SEND_CTXT_ERR_STATUS.fields.iter().find(|field| field.mask() == flag.bits());
            let field = field.map(|field| squeeze(field.name)).unwrap_or_default();
            assert!(field.contains(&squeeze(name)), "{name} is {field} in the catalogue");
        }
        for (name, flag) in EgressRefusals::all().iter_names() {
            let field = SEND_EGRESS_ERR_INFO.fields.iter().find(|field| field.mask() == flag.bits());
            let field = field.map(|field| squeeze(field.name)).unwrap_or_default();
            assert!(field.contains(&squeeze(name)), "{name} is {field} in the catalogue");
        }
        assert_eq!(EgressRefusals::all().iter_names().count(), SEND_EGRESS_ERR_INFO.fields.len());
        for (name, flag) in SdmaErrors::all().iter_names() {
            let field = SEND_DMA_ENG_ERR_STATUS.fields.iter().find(|field| field.mask() == flag.bits());
            let field = field.map(|field| squeeze(field.name)).unwrap_or_default();
            assert!(field.contains(&squeeze(name)), "{name} is {field} in the catalogue");
        }
    }

    #[test]
    fn people_read_names() {
        let errors = SdmaErrors::MEM_READ | SdmaErrors::HALT;
        assert_eq!(errors.to_string(), "MEM_READ | HALT");
        assert_eq!(SdmaErrors::from_bits_retain(1 << 5 | 1 << 40).to_string(), "MEM_READ | 0x10000000000");
        assert!(SendCtxtErrors::from_bits_retain(u64::MAX).to_string().contains("gone"));
    }
}
