//! The receive engine's global registers: partition keys, packet steering.

use crate::error::Gone;
use crate::regs::Regs;
use opx_bus::{ALL_ONES, PciFunction};
use opx_defs::csr;
use opx_defs::units::Pkey;

/// Bytes of a bypass packet's header that go to the header queue, in dwords (`chip.c:init_rxe`).
const BYPASS_HEADER_DWORDS: u64 = 4;
/// Partition of the management packets, as a limited and as a full member.
const LIMITED_MANAGEMENT: u16 = 0x7fff;
const FULL_MANAGEMENT: u16 = 0xffff;

/// `chip.c:init_rxe`. Packets that no context is named for go to the control context, which isn't enabled: the QP map
/// table was set to 0 with the other memories, and there are no rules of the receive-side mapping yet.
pub(crate) fn init<B: PciFunction>(regs: &Regs<B>, pkey: Pkey) -> Result<(), Gone> {
    use csr::RCV_CTRL as ctrl;
    set_pkeys(regs, pkey, false)?;
    regs.write(&csr::RCV_ERR_MASK, ALL_ONES);
    regs.modify(&csr::RCV_CTRL, |v| {
        // bringup_serdes sets the PSN's width.
        v | ctrl::RCV_QP_MAP_ENABLE.mask() | ctrl::RCV_BYPASS_ENABLE.mask() | ctrl::RCV_EXTENDED_PSN_ENABLE.mask()
    })?;
    crate::steer::init(regs)?;
    regs.modify(&csr::RCV_BYPASS, |v| csr::RCV_BYPASS::HDR_SIZE.set(v, BYPASS_HEADER_DWORDS))
}

/// `chip.c:set_partition_keys, add_full_mgmt_pkey`: the data partition, the management partition, and full membership
/// of the latter when the neighbour allows it.
pub(crate) fn set_pkeys<B: PciFunction>(regs: &Regs<B>, pkey: Pkey, full_management: bool) -> Result<(), Gone> {
    let full = if full_management { FULL_MANAGEMENT } else { 0 };
    let keys = u64::from(pkey.0) | u64::from(LIMITED_MANAGEMENT) << 16 | u64::from(full) << 32;
    regs.write_at(&csr::RCV_PARTITION_KEY, 0, keys);
    for index in 1..csr::RCV_PARTITION_KEY.count {
        regs.write_at(&csr::RCV_PARTITION_KEY, index, 0);
    }
    regs.modify(&csr::RCV_CTRL, |v| v | csr::RCV_CTRL::RCV_PARTITION_KEY_ENABLE.mask())
}
