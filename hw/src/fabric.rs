//! What a fabric manager would set on the port: LID, MTU, credits, arbitration. The node is its own manager.

use crate::error::{ChipError, Gone, LinkError};
use crate::hfi::Inner;
use crate::options::MAX_MTU;
use crate::regs::{Regs, limit};
use opx_bus::PciFunction;
use opx_defs::chip;
use opx_defs::csr::{self, Csr};
use opx_defs::units::Lid;

/// Payload of a management packet, the MTU of VL 15.
const MANAGEMENT_MTU: u64 = 2048;
/// Header bytes that count in the length check beside the MTU: a header queue entry of 32 dwords without RHF, and the
/// ICRC (`chip.c:lrh_max_header_bytes`).
const MAX_HEADER_BYTES: u64 = (32 - 2 + 1) * 4;
/// Lanes for data.
const DATA_VLS: u32 = chip::TXE_NUM_DATA_VL as u32;
/// A LID has no low bits that are masked (LMC 0), 16 bits in a 9B packet.
const LID_MASK: u64 = 0xffff;
/// Weight of VL 0 in the low-priority list, as the stock fabric manager sets it.
const VL0_WEIGHT: u64 = 0xa0;

/// Limits of one lane, in allocation units of the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct VlLimit {
    dedicated: u16,
    shared: u16,
}

/// Who may use how much of the neighbour's receive buffer: `buffer_control` of `mad.c`, for VL 0 to 7 and 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct BufferControl {
    shared: u16,
    vls: [VlLimit; DATA_VLS as usize + 1],
}

/// What the stock fabric manager gives an adapter with one data lane (0x880 units of 64 bytes): 0xc6 for VL 0 alone,
/// 0x68 for VL 15 alone, and the rest for both.
const BUFFER_CONTROL: BufferControl = {
    let mut vls = [VlLimit { dedicated: 0, shared: 0 }; DATA_VLS as usize + 1];
    vls[0] = VlLimit { dedicated: 0xc6, shared: 0x752 };
    vls[DATA_VLS as usize] = VlLimit { dedicated: 0x68, shared: 0x752 };
    BufferControl { shared: 0x752, vls }
};

impl BufferControl {
    fn total(&self) -> u64 {
        self.vls.iter().fold(u64::from(self.shared), |sum, vl| sum + u64::from(vl.dedicated))
    }
}

/// The register of the lane's limits; lane 8 in the table is VL 15.
fn credit_csr(lane: usize) -> (&'static Csr, u32) {
    if lane < DATA_VLS as usize { (&csr::SEND_CM_CREDIT_VL, lane as u32) } else { (&csr::SEND_CM_CREDIT_VL15, 0) }
}

/// The lane's bit in SEND_CM_CREDIT_USED_STATUS.
fn status_bit(lane: usize) -> u64 {
    let vl = if lane < DATA_VLS as usize { lane as u32 } else { 15 };
    1 << (48 + vl)
}

fn write_vl<B: PciFunction>(regs: &Regs<B>, lane: usize, limit: VlLimit) {
    let (csr, index) = credit_csr(lane);
    regs.write_at(csr, index, u64::from(limit.dedicated) | u64::from(limit.shared) << 16);
}

fn wait_status<B: PciFunction>(regs: &Regs<B>, mask: u64) -> Result<(), ChipError> {
    let done = |value| value & mask == 0;
    let wanted = "the changed lanes' credits returned";
    match regs.wait(&csr::SEND_CM_CREDIT_USED_STATUS, 0, limit::CREDIT_STATUS, wanted, done) {
        Err(error @ ChipError::Gone(_)) => Err(error),
        // Linux goes on: credits may be lost, and a bounce of the link would bring them back.
        Err(error) => {
            log::warn!("{error}; going on");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// Changes limits on a live link in the order that the hardware needs: `chip.c:set_buffer_control`.
fn set_buffer_control<B: PciFunction>(regs: &Regs<B>, new: &BufferControl) -> Result<(), ChipError> {
    use csr::{SEND_CM_CREDIT_VL as vl_field, SEND_CM_GLOBAL_CREDIT as global};
    let mut current = BufferControl::default();
    for (lane, limit) in current.vls.iter_mut().enumerate() {
        let (csr, index) = credit_csr(lane);
        let value = regs.read_at(csr, index)?;
        limit.dedicated = vl_field::DEDICATED_LIMIT_VL.get(value) as u16;
        limit.shared = vl_field::SHARED_LIMIT_VL.get(value) as u16;
    }
    let value = regs.read(&csr::SEND_CM_GLOBAL_CREDIT)?;
    current.shared = global::SHARED_LIMIT.get(value) as u16;
    let (old_total, new_total) = (global::TOTAL_CREDIT_LIMIT.get(value), new.total());
    let set_total = |total| regs.modify(&csr::SEND_CM_GLOBAL_CREDIT, |v| global::TOTAL_CREDIT_LIMIT.set(v, total));
    let set_shared =
        |shared: u16| regs.modify(&csr::SEND_CM_GLOBAL_CREDIT, |v| global::SHARED_LIMIT.set(v, shared.into()));

    let lanes = || new.vls.iter().enumerate();
    let changing: Vec<bool> = new.vls.iter().zip(&current.vls).map(|(new, old)| new != old).collect();
    let bits = |lane: &dyn Fn(usize) -> bool| lanes().filter(|(i, _)| lane(*i)).fold(0, |m, (i, _)| m | status_bit(i));

    if new_total > old_total {
        set_total(new_total)?;
    }
    let all = new.shared < current.shared;
    if all {
        set_shared(0)?;
        current.shared = 0;
    }
    for (lane, limit) in current.vls.iter_mut().enumerate().filter(|(lane, _)| changing[*lane]) {
        limit.shared = 0;
        write_vl(regs, lane, *limit);
    }
    wait_status(regs, bits(&|lane| all || changing[lane]))?;

    let lowered: Vec<bool> = new.vls.iter().zip(&current.vls).map(|(n, c)| n.dedicated < c.dedicated).collect();
    for (lane, limit) in current.vls.iter_mut().enumerate().filter(|(lane, _)| lowered[*lane]) {
        limit.dedicated = new.vls[lane].dedicated;
        write_vl(regs, lane, *limit);
    }
    wait_status(regs, bits(&|lane| lowered[lane]))?;
    // Now everything that grows: dedicated limits first, shared ones after all of them.
    for (lane, limit) in current.vls.iter_mut().enumerate() {
        if new.vls[lane].dedicated > limit.dedicated {
            limit.dedicated = new.vls[lane].dedicated;
            write_vl(regs, lane, *limit);
        }
    }
    for (lane, limit) in current.vls.iter_mut().enumerate() {
        if new.vls[lane].shared > limit.shared {
            limit.shared = new.vls[lane].shared;
            write_vl(regs, lane, *limit);
        }
    }
    if new.shared > current.shared {
        set_shared(new.shared)?;
    }
    if new_total < old_total {
        set_total(new_total)?;
    }
    Ok(())
}

/// The code of an MTU in DCC_CFG_PORT_CONFIG (`chip.c:set_send_length`).
fn mtu_code(mtu: u32) -> u64 {
    if mtu == MAX_MTU { 7 } else { u64::from((mtu >> 8).max(1).ilog2()) + 1 }
}

/// SEND_LEN_CHECK0 and 1: the longest packet of each lane, LRH to ICRC, in dwords (`chip.c:set_send_length`).
fn length_checks(mtu: u32) -> (u64, u64) {
    let dwords = |mtu: u64| (mtu + MAX_HEADER_BYTES) >> 2;
    let unused = dwords(0);
    let low = dwords(mtu.into()) | unused << 12 | unused << 24 | unused << 36;
    let high = unused | unused << 12 | unused << 24 | unused << 36 | dwords(MANAGEMENT_MTU) << 48;
    (low, high)
}

impl<B: PciFunction> Inner<B> {
    /// Sets everything that a fabric manager sets between INIT and ARMED.
    pub(crate) fn configure_fabric(&self, lid: Lid) -> Result<(), LinkError> {
        self.set_lid(lid)?;
        self.set_mtu()?;
        self.set_arbitration()?;
        set_buffer_control(&self.regs, &BUFFER_CONTROL)?;
        self.check_credits()
    }

    /// `chip.c:set_lidlmc`, with the source LID check of every send context and engine.
    fn set_lid(&self, lid: Lid) -> Result<(), Gone> {
        use csr::{DCC_CFG_PORT_CONFIG1 as port, SEND_CTXT_CHECK_SLID as slid};
        let lid = u64::from(lid.0) & LID_MASK;
        self.regs
            .modify(&csr::DCC_CFG_PORT_CONFIG1, |v| port::DLID_MASK.set(port::TARGET_DLID.set(v, lid), LID_MASK))?;
        let check = slid::VALUE.put(lid) | slid::MASK.put(LID_MASK);
        for ctxt in 0..self.info.sizes.send_contexts {
            self.regs.write_at(&csr::SEND_CTXT_CHECK_SLID, ctxt, check);
        }
        for engine in 0..self.info.sizes.sdma_engines {
            self.regs.write_at(&csr::SEND_DMA_CHECK_SLID, engine, check);
        }
        Ok(())
    }

    /// `chip.c:set_send_length`: VL 0 has the MTU of the options, the other data lanes none.
    fn set_mtu(&self) -> Result<(), Gone> {
        let (low, high) = length_checks(self.options.mtu);
        self.regs.write(&csr::SEND_LEN_CHECK0, low);
        self.regs.write(&csr::SEND_LEN_CHECK1, high);
        let code = mtu_code(self.options.mtu);
        self.regs.modify(&csr::DCC_CFG_PORT_CONFIG, |v| csr::DCC_CFG_PORT_CONFIG::MTU_CAP.set(v, code))
    }

    /// `chip.c:set_vl_weights`: VL 0 in the low-priority list, nothing in the high one.
    fn set_arbitration(&self) -> Result<(), Gone> {
        use csr::SEND_LOW_PRIORITY_LIST as list;
        for entry in 0..csr::SEND_LOW_PRIORITY_LIST.count {
            let weight = if entry == 0 { list::WEIGHT.put(VL0_WEIGHT) } else { 0 };
            self.regs.write_at(&csr::SEND_LOW_PRIORITY_LIST, entry, weight);
            self.regs.write_at(&csr::SEND_HIGH_PRIORITY_LIST, entry, 0);
        }
        self.regs.modify(&csr::SEND_CTRL, |v| v | csr::SEND_CTRL::VL_ARBITER_ENABLE.mask())
    }

    /// A lane must have credits exactly when it has an MTU (`chip.c:data_vls_operational`).
    fn check_credits(&self) -> Result<(), LinkError> {
        for vl in 0..DATA_VLS {
            let credits = self.regs.read_at(&csr::SEND_CM_CREDIT_VL, vl)?;
            if (credits != 0) != (vl == 0) {
                return Err(LinkError::Credits { adapter: self.adapter(), vl, credits });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Register values that a stock fabric manager leaves behind on an ACTIVE port.
    #[test]
    fn values_are_those_of_the_stock_fabric_manager() {
        assert_eq!(length_checks(10240), (0x01f_01f_01f_a1f, 0x021f_01f0_1f01_f01f));
        assert_eq!((mtu_code(10240), mtu_code(8192), mtu_code(2048)), (7, 6, 4));
        assert_eq!(BUFFER_CONTROL.total(), chip::CM_GLOBAL_CREDITS);
        assert_eq!(status_bit(8), 1 << 63);
    }
}
