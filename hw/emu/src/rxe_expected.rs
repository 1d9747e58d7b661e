//! Expected receive: TIDs that name buffers in the RcvArray, and the flow table that keeps their packets in order.

use crate::board::Board;
use crate::dma::DmaFault;
use crate::rcvarray::RcvArray;
use opx_defs::csr;
use opx_defs::units::Iova;
use opx_defs::wire::kdeth::Kdeth;

/// Where an expected packet's payload goes: one range, or two when it crosses from the first entry of a pair to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    first: Iova,
    first_len: usize,
    second: Iova,
}

impl Target {
    /// Finds the place of `len` bytes; `None` when the TID isn't the context's, is empty, or is too small.
    ///
    /// Source: `user_exp_rcv.c`, `exp_rcv.h`: TIDCTRL 1 is the even entry of a pair, 2 the odd one; PSM2 sends 3 for both as
    /// one address space that starts at 0.
    pub fn find(array: &RcvArray, tid_ctrl: u64, kdeth: Kdeth, len: usize) -> Option<Self> {
        let pairs = csr::RCV_TID_CTRL::TID_PAIR_CNT.get(tid_ctrl) * 4;
        if u64::from(kdeth.tid()) >= pairs {
            return None;
        }
        let base = csr::RCV_TID_CTRL::TID_BASE_INDEX.get(tid_ctrl) as u32 * 8 + u32::from(kdeth.tid()) * 2;
        let offset = kdeth.offset_bytes();
        let entry = |odd: u32| {
            let entry = array.buffer(base + odd)?;
            Some((entry.addr(), entry.len()?))
        };
        let len32 = u32::try_from(len).ok()?;
        let within = |(addr, size): (Iova, u32), at: u32| {
            (at.checked_add(len32)? <= size).then(|| Self {
                first: addr.plus(at.into()),
                first_len: len,
                second: Iova(0),
            })
        };
        match kdeth.tid_ctrl() {
            1 => within(entry(0)?, offset),
            2 => within(entry(1)?, offset),
            3 => {
                let (even, odd) = (entry(0)?, entry(1)?);
                if offset >= even.1 {
                    return within(odd, offset - even.1);
                }
                let first_len = len32.min(even.1 - offset);
                (len32 - first_len <= odd.1).then(|| Self {
                    first: even.0.plus(offset.into()),
                    first_len: first_len as usize,
                    second: odd.0,
                })
            }
            _ => None,
        }
    }

    /// Writes the payload.
    pub fn write(self, board: &mut Board, payload: &[u8]) -> Result<(), DmaFault> {
        let (first, second) = payload.split_at_checked(self.first_len).unwrap_or((payload, &[]));
        board.dma.write(self.first, first)?;
        if second.is_empty() { Ok(()) } else { board.dma.write(self.second, second) }
    }
}

/// An entry of the flow table.
///
/// Source: PSM2's use of the table and `tid_rdma.c`. What a packet's payload does after a sequence error is INFERRED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow(pub u64);

/// What becomes of an expected packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowVerdict {
    /// An entry goes to the header queue.
    pub header: bool,
    /// The payload is written.
    pub payload: bool,
    /// RcvTypeErr in the RHF: 2 sequence, 4 generation.
    pub error: u64,
}

impl Flow {
    const SEQ: u64 = 0x7ff;
    const VALID: u64 = 1 << 32;
    const HDR_SUPP: u64 = 1 << 33;
    const KEEP_AFTER_SEQ_ERR: u64 = 1 << 34;
    const KEEP_ON_GEN_ERR: u64 = 1 << 35;
    const KEEP_PAYLOAD_ON_GEN_ERR: u64 = 1 << 36;
    const SEQ_MISMATCH: u64 = 1 << 37;
    const GEN_MISMATCH: u64 = 1 << 38;
    const STATUS: u64 = Self::SEQ_MISMATCH | Self::GEN_MISMATCH;

    /// Software writes the entry: the two status bits are cleared by ones, the rest is stored.
    pub fn write(&mut self, value: u64) {
        let status = self.0 & Self::STATUS & !value;
        self.0 = value & !Self::STATUS | status;
    }

    /// Whether packets are judged by it.
    pub fn is_valid(self) -> bool {
        self.0 & Self::VALID != 0
    }

    /// Judges a packet and moves the flow on. `may_suppress`: the packet's SH bit, when nothing speaks against it.
    pub fn judge(&mut self, psn: u32, may_suppress: bool) -> FlowVerdict {
        if !self.is_valid() {
            return FlowVerdict { header: true, payload: true, error: 0 };
        }
        let psn = u64::from(psn) & 0x7fff_ffff;
        let expected = self.0 & 0x7fff_ffff;
        if (psn ^ expected) >> 11 != 0 {
            self.0 |= Self::GEN_MISMATCH;
            return FlowVerdict {
                header: self.0 & Self::KEEP_ON_GEN_ERR != 0,
                payload: self.0 & Self::KEEP_PAYLOAD_ON_GEN_ERR != 0,
                error: 4,
            };
        }
        if psn != expected {
            self.0 |= Self::SEQ_MISMATCH;
            let keep = self.0 & Self::KEEP_AFTER_SEQ_ERR != 0;
            return FlowVerdict { header: keep, payload: keep, error: 2 };
        }
        self.0 = self.0 & !Self::SEQ | (self.0 + 1) & Self::SEQ;
        FlowVerdict { header: !(may_suppress && self.0 & Self::HDR_SUPP != 0), payload: true, error: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::rcvarray::RcvArrayEntry;

    const EVEN: Iova = Iova(0x10_0000);
    const ODD: Iova = Iova(0x20_0000);

    fn find(dw0: u32, len: usize) -> Option<Target> {
        let mut array = RcvArray::new(64);
        array.write(16 + 6, RcvArrayEntry::new(EVEN, 8192).unwrap().0);
        array.write(16 + 7, RcvArrayEntry::new(ODD, 4096).unwrap().0);
        // Base 16, 4 pairs.
        Target::find(&array, 2 | 1 << 32, Kdeth { dw0, dw1: 0 }, len)
    }

    fn dw0(tid: u32, ctrl: u32, offset: u32) -> u32 {
        1 << 30 | ctrl << 26 | tid << 16 | (offset / 4)
    }

    #[test]
    fn a_pair_is_one_address_space_for_ctrl_3() {
        let one = |first: Iova, len| Some(Target { first, first_len: len, second: Iova(0) });
        assert_eq!(find(dw0(3, 1, 100), 8092), one(EVEN.plus(100), 8092));
        assert_eq!(find(dw0(3, 1, 104), 8092), None);
        assert_eq!(find(dw0(3, 2, 0), 4096), one(ODD, 4096));
        assert_eq!(find(dw0(3, 2, 4), 4096), None);
        assert_eq!(find(dw0(3, 3, 8192 + 64), 64), one(ODD.plus(64), 64));
        assert_eq!(find(dw0(3, 3, 8000), 400), Some(Target { first: EVEN.plus(8000), first_len: 192, second: ODD }));
        assert_eq!(find(dw0(3, 3, 8000), 192 + 4097), None);
        assert_eq!(find(1 << 30 | 3 << 26 | 3 << 16 | 1 << 15 | 128, 64), one(ODD, 64));
    }

    #[test]
    fn foreign_and_empty_tids_have_no_place() {
        assert_eq!(find(dw0(4, 1, 0), 4), None);
        assert_eq!(find(dw0(2, 1, 0), 4), None);
        assert_eq!(find(dw0(3, 0, 0), 4), None);
        assert_eq!(find(dw0(3, 1, 0), usize::MAX), None);
    }

    #[test]
    fn a_flow_counts_and_suppresses() {
        let mut flow = Flow(Flow::VALID | Flow::HDR_SUPP | Flow::KEEP_AFTER_SEQ_ERR | 5 << 11 | 0x7ff);
        let psn = |generation: u32, seq: u32| generation << 11 | seq;
        assert_eq!(flow.judge(psn(5, 0x7ff) | 1 << 31, true), FlowVerdict { header: false, payload: true, error: 0 });
        assert_eq!(flow.0 & 0x7ff, 0, "the sequence number wraps without touching the generation");
        assert_eq!(flow.0 >> 11 & 0xf_ffff, 5);
        assert_eq!(flow.judge(psn(5, 0), false), FlowVerdict { header: true, payload: true, error: 0 });
        assert_eq!(flow.judge(psn(5, 3), true), FlowVerdict { header: true, payload: true, error: 2 });
        assert_eq!(flow.judge(psn(6, 1), true), FlowVerdict { header: false, payload: false, error: 4 });
        assert_eq!(flow.0 & Flow::STATUS, Flow::STATUS);
        flow.write(flow.0 & !Flow::STATUS | Flow::SEQ_MISMATCH);
        assert_eq!(flow.0 & Flow::STATUS, Flow::GEN_MISMATCH);
    }

    #[test]
    fn the_state_that_the_driver_leaves_drops_everything() {
        // `chip.c` and PSM2: generation and sequence all ones, valid, nothing kept.
        let mut flow = Flow(Flow::VALID | 0x7fff_ffff);
        assert_eq!(flow.judge(0, true), FlowVerdict { header: false, payload: false, error: 4 });
    }
}
