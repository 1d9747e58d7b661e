//! What came out of a receive context so far, and what was wrong with it.

use opx_defs::wire::rhf::{RcvType, Rhf};

/// How often what came out of a header queue. The counters only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecvCounts {
    /// Packets given out.
    pub packets: u64,
    /// Packets given out that carried an error flag.
    pub errors: u64,
    /// Which errors those were; a packet may have several.
    pub by_error: ErrorCounts,
    /// Entries that were skipped because their RHF names something impossible.
    pub bad_entries: u64,
    /// How often the chip was told what is free.
    pub head_updates: u64,
    /// Packets found by looking at the tail register because the chip's copy of it in memory was old.
    pub lost_tails: u64,
    /// How often the context was started over after a freeze.
    pub recoveries: u64,
    /// Payloads that were lent.
    pub lent: u64,
    /// Eager buffers that were still lent when the context was done with them, and were replaced by spare ones.
    pub buffers_replaced: u64,
}

/// How many packets had which error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ErrorCounts {
    /// Wrong checksum: the packet was changed on its way.
    pub icrc: u64,
    /// The chip's memory changed it.
    pub ecc: u64,
    /// Its length isn't that in its header.
    pub length: u64,
    /// An expected packet whose TID has no buffer, or one that is too short; or an eager buffer that can't be used.
    pub tid: u64,
    /// The link layer saw an error.
    pub dc: u64,
    /// The link layer saw an error that it couldn't correct.
    pub dc_uncorrectable: u64,
    /// The KDETH section is too short.
    pub kdeth_length: u64,
    /// Wrong sequence number in an expected packet.
    pub flow_sequence: u64,
    /// Wrong generation in an expected packet.
    pub flow_generation: u64,
    /// Broken packets by the check that they failed: opcode, too short for KDETH, header checksum, KDETH version, context,
    /// TID (`common.h RHF_RTE_ERROR_*`, 1 to 6); others first.
    pub broken: [u64; 7],
    /// How many of all these were expected packets, eager packets, others.
    pub of_kind: [u64; 3],
}

impl ErrorCounts {
    #[cold]
    pub(super) fn note(&mut self, rhf: Rhf) {
        for (flag, count) in [
            (Rhf::ICRC_ERR, &mut self.icrc),
            (Rhf::ECC_ERR, &mut self.ecc),
            (Rhf::LEN_ERR, &mut self.length),
            (Rhf::TID_ERR, &mut self.tid),
            (Rhf::DC_ERR, &mut self.dc),
            (Rhf::DC_UNC_ERR, &mut self.dc_uncorrectable),
            (Rhf::KHDR_LEN_ERR, &mut self.kdeth_length),
        ] {
            *count += u64::from(rhf.0 & flag != 0);
        }
        let kind = match rhf.kind() {
            RcvType::Expected => 0,
            RcvType::Eager => 1,
            _ => 2,
        };
        self.of_kind[kind] += 1;
        match rhf.kind() {
            RcvType::Expected => {
                self.flow_sequence += u64::from(rhf.is_flow_seq_err());
                self.flow_generation += u64::from(rhf.is_flow_gen_err());
            }
            RcvType::Error => {
                let check = usize::from(rhf.type_error());
                let place = if check < self.broken.len() { check } else { 0 };
                self.broken[place] += 1;
            }
            _ => {}
        }
    }
}
