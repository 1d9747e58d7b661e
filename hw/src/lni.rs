//! Link negotiation: what this side offers, what the peer's VerifyCap frame says, and the short cut of loopback.

use crate::dc8051::FirmwareVersion;
use crate::error::{ChipError, Gone, LinkError};
use crate::hfi::Inner;
use crate::init_tx;
use crate::link::Link;
use crate::regs::limit;
use opx_bus::PciFunction;
use opx_defs::chip;
use opx_defs::csr;
use std::time::Duration;

/// Checksums of the link layer that may be agreed on, `chip.h:SUPPORTED_CRCS`: 14 and 48 bits.
const CAP_CRC_14B: u8 = 1;
const CAP_CRC_48B: u8 = 2;
const CAP_CRC_PER_LANE: u8 = 4;
const SUPPORTED_CRCS: u8 = CAP_CRC_14B | CAP_CRC_48B;
/// Width of four lanes in a VerifyCap frame (`chip.c:opa_to_vc_link_widths`).
const WIDTH_4X: u32 = 1 << 3;
/// From this version on, lane rates are masks (`chip.c:set_local_link_attributes`).
const RATE_IS_MASK: FirmwareVersion = FirmwareVersion::new(0, 20, 0);
/// From this version on, the 8051 can ask its host to reset the LCB.
const ASKS_FOR_LCB_RESET: FirmwareVersion = FirmwareVersion::new(1, 25, 0);

/// Mbit/s of a lane rate that the peer and this side have in common; 25G when the peer's makes no sense
/// (`chip.c:handle_verify_cap`).
fn lane_rate(version: FirmwareVersion, remote: u8, local: u8) -> u32 {
    let fast = if version < RATE_IS_MASK { remote != 0 } else { remote & local & 3 != 1 };
    if fast { 25_000 } else { 12_500 }
}

/// The LCB's checksum mode, lowest common bit first (`chip.c:handle_verify_cap`).
fn crc_mode(peer: u8) -> u64 {
    let common = SUPPORTED_CRCS & peer;
    if common & CAP_CRC_14B != 0 {
        chip::LCB_CRC_14B
    } else if common & CAP_CRC_48B != 0 {
        chip::LCB_CRC_48B
    } else if common & CAP_CRC_PER_LANE != 0 {
        chip::LCB_CRC_12B_16B_PER_LANE
    } else {
        chip::LCB_CRC_16B
    }
}

impl<B: PciFunction> Inner<B> {
    /// Credits of this side's VL 15 buffer: 8 management packets with their headers (`chip.c:init_early_variables`).
    pub(crate) fn local_vl15_credits(&self) -> u16 {
        let unit = 8 << chip::CM_VAU;
        (8 * (2048 + 128) / unit) as u16
    }

    /// One-time setup of the LCB: `chip.c:init_lcb`.
    pub(crate) fn init_lcb(&self) {
        if self.info.is_simulator() {
            return;
        }
        self.regs.write(&csr::DC_LCB_CFG_TX_FIFOS_RESET, 1);
        self.regs.write(&csr::DC_LCB_CFG_LANE_WIDTH, 0);
        self.regs.write(&csr::DC_LCB_CFG_REINIT_AS_SLAVE, 0);
        self.regs.write(&csr::DC_LCB_CFG_CNT_FOR_SKIP_STALL, 0x110);
        self.regs.write(&csr::DC_LCB_CFG_CLK_CNTR, 8);
        self.regs.write(&csr::DC_LCB_CFG_LOOPBACK, 2);
        self.regs.write(&csr::DC_LCB_CFG_TX_FIFOS_RESET, 0);
    }

    /// `chip.c:set_host_lcb_access`.
    pub(crate) fn host_takes_lcb(&self) {
        use csr::DC_DC8051_CFG_CSR_ACCESS_SEL as sel;
        self.regs.write(&csr::DC_DC8051_CFG_CSR_ACCESS_SEL, sel::DCC.mask() | sel::LCB.mask());
    }

    /// The LCB becomes the 8051's, its errors masked: `chip.c:set_8051_lcb_access`.
    fn give_lcb_to_8051(&self) {
        self.regs.write(&csr::DC_LCB_ERR_EN, 0);
        self.regs.write(&csr::DC_DC8051_CFG_CSR_ACCESS_SEL, csr::DC_DC8051_CFG_CSR_ACCESS_SEL::DCC.mask());
    }

    /// What this side offers: `chip.c:set_local_link_attributes`.
    pub(crate) fn set_local_attributes(&self, link: &mut Link) -> Result<(), LinkError> {
        let (regs, vl15) = (&self.regs, u32::from(self.local_vl15_credits()));
        let dc = &mut link.dc8051;
        let version = dc.version;
        // Only 25G is enabled.
        link.local_tx_rate = if version < RATE_IS_MASK { 1 } else { 2 };
        link.lane_rate_mbps = 25_000;
        link.crc_mode = 0;
        let old = dc.read_config(regs, chip::TX_SETTINGS)?;
        // All four lanes; the polarities stay as they are.
        let tx = old & 0x00ff_ff00 | 0xf | u32::from(link.local_tx_rate) << chip::MAX_RATE_SHIFT;
        dc.load_config(regs, "set the transmit rate", chip::TX_SETTINGS, tx)?;
        dc.set_interface_version(regs)?;
        let phy = 1 << chip::CONTINIOUS_REMOTE_UPDATE_SUPPORT_SHIFT;
        dc.load_config(regs, "set the local PHY", chip::VERIFY_CAP_LOCAL_PHY, phy)?;
        // Z: a transmit allocation unit of 8 bytes (vAU 0) isn't supported.
        let fabric = (chip::CM_VAU << chip::VAU_SHIFT) as u32
            | 1 << chip::Z_SHIFT
            | u32::from(init_tx::LOCAL_VCU) << chip::VCU_SHIFT
            | vl15 << chip::VL15BUF_SHIFT
            | u32::from(SUPPORTED_CRCS) << chip::CRC_SIZES_SHIFT;
        dc.load_config(regs, "set the local fabric", chip::VERIFY_CAP_LOCAL_FABRIC, fabric)?;
        let misc = if version >= ASKS_FOR_LCB_RESET { 1 << chip::EXT_CFG_LCB_RESET_SUPPORTED_SHIFT } else { 0 };
        let mode = WIDTH_4X << chip::LINK_WIDTH_SHIFT | misc << chip::MISC_CONFIG_BITS_SHIFT;
        dc.load_config(regs, "set the local link mode", chip::VERIFY_CAP_LOCAL_LINK_MODE, mode)?;
        let (_, minor) = self.info.chip_revision();
        let id = u32::from(self.info.device) << chip::LOCAL_DEVICE_ID_SHIFT | u32::from(minor);
        dc.load_config(regs, "set the local device id", chip::LOCAL_DEVICE_ID, id)?;
        Ok(())
    }

    /// Loopback in the LCB: `chip.c:init_loopback, do_quick_linkup`.
    pub(crate) fn quick_link_up(&self, link: &mut Link) -> Result<(), LinkError> {
        if u64::from(self.info.icode) == chip::ICODE_FPGA_EMULATION {
            let (adapter, icode) = (self.adapter(), self.info.icode);
            return Err(LinkError::NotPossible { adapter, what: "a loopback in the LCB", icode });
        }
        self.regs.modify(&csr::DC_DC8051_CFG_MODE, |v| v | chip::DISABLE_SELF_GUID_CHECK)?;
        link.dc8051.lcb_shut_down(&self.regs, false)?;
        self.regs.write(&csr::DC_LCB_CFG_LOOPBACK, 2);
        self.regs.write(&csr::DC_LCB_CFG_LANE_WIDTH, 0);
        self.regs.write(&csr::DC_LCB_CFG_TX_FIFOS_RESET, 0);
        if self.info.is_simulator() {
            self.regs.write(&csr::DC_LCB_CFG_RUN, 1);
            self.wait_transfer_active(limit::TRANSFER_ACTIVE)?;
            self.regs.write(&csr::DC_LCB_CFG_ALLOW_LINK_UP, 1);
        }
        self.give_lcb_to_8051();
        link.dc8051.change_phy_state(&self.regs, "link up at once", chip::PLS_QUICK_LINKUP)?;
        Ok(())
    }

    fn wait_transfer_active(&self, limit: Duration) -> Result<(), ChipError> {
        let wanted = "the link transfer active";
        self.regs.wait(&csr::DC_LCB_STS_LINK_TRANSFER_ACTIVE, 0, limit, wanted, |value| value != 0)?;
        Ok(())
    }

    /// Brings a logical state down that doesn't go by itself: `chip.c:force_logical_link_state_down`.
    pub(crate) fn force_logical_down(&self) -> Result<(), Gone> {
        let regs = &self.regs;
        regs.write(&csr::DC_LCB_CFG_TX_FIFOS_RESET, 1);
        regs.write(&csr::DC_LCB_CFG_IGNORE_LOST_RCLK, csr::DC_LCB_CFG_IGNORE_LOST_RCLK::EN.mask());
        regs.write(&csr::DC_LCB_CFG_LANE_WIDTH, 0);
        regs.write(&csr::DC_LCB_CFG_REINIT_AS_SLAVE, 0);
        regs.write(&csr::DC_LCB_CFG_CNT_FOR_SKIP_STALL, 0x110);
        regs.write(&csr::DC_LCB_CFG_LOOPBACK, 2);
        regs.write(&csr::DC_LCB_CFG_TX_FIFOS_RESET, 0);
        regs.read(&csr::DC_LCB_CFG_TX_FIFOS_RESET)?;
        regs.pause(Duration::from_micros(3));
        regs.write(&csr::DC_LCB_CFG_ALLOW_LINK_UP, 1);
        regs.write(&csr::DC_LCB_CFG_RUN, 1);
        if let Err(error) = self.wait_transfer_active(Duration::from_millis(100)) {
            match error {
                ChipError::Gone(gone) => return Err(gone),
                ChipError::Stuck(stuck) => log::warn!("{stuck}; going on"),
            }
        }
        regs.write(&csr::DC_LCB_CFG_TX_FIFOS_RESET, 1);
        regs.write(&csr::DC_LCB_CFG_ALLOW_LINK_UP, 0);
        regs.write(&csr::DC_LCB_CFG_IGNORE_LOST_RCLK, 0);
        Ok(())
    }

    /// Both ends have exchanged what they can: set up the LCB for it and let the 8051 go on to link up
    /// (`chip.c:handle_verify_cap`).
    pub(crate) fn verify_cap(&self, link: &mut Link) -> Result<(), LinkError> {
        let regs = &self.regs;
        link.dc8051.lcb_shut_down(regs, false)?;
        let fabric = u64::from(link.dc8051.read_config(regs, chip::VERIFY_CAP_REMOTE_FABRIC)?);
        let width = u64::from(link.dc8051.read_config(regs, chip::VERIFY_CAP_REMOTE_LINK_WIDTH)?);
        let field = |shift: u64, mask: u64| fabric >> shift & mask;
        // The peer's receive unit. It sees our Z and moves from 0 to 1 by itself.
        let vau = field(chip::VAU_SHIFT, chip::VAU_MASK).max(1);
        self.set_allocation_unit(vau)?;
        self.set_vl15_credits(0)?;
        link.vl15_credits = field(chip::VL15BUF_SHIFT, chip::VL15BUF_MASK) as u16;
        let mode = crc_mode(field(chip::CRC_SIZES_SHIFT, chip::CRC_SIZES_MASK) as u8);
        regs.write(&csr::DC_LCB_CFG_CRC_MODE, csr::DC_LCB_CFG_CRC_MODE::TX_VAL.put(mode));
        link.crc_mode = mode as u8;
        // Credits travel beside the flits with 14 bits (parameter crc_14b_sideband).
        let sideband = csr::SEND_CM_CTRL::FORCE_CREDIT_MODE;
        regs.modify(&csr::SEND_CM_CTRL, |v| sideband.set(v, (mode == chip::LCB_CRC_14B).into()))?;
        let remote_rate = (width >> chip::REMOTE_TX_RATE_SHIFT & chip::REMOTE_TX_RATE_MASK) as u8;
        link.lane_rate_mbps = lane_rate(link.dc8051.version, remote_rate, link.local_tx_rate);
        init_tx::assign_remote_au_table(regs, field(chip::VCU_SHIFT, chip::VCU_MASK) as u8);
        regs.write(&csr::DC_LCB_CFG_TX_FIFOS_RESET, 0);
        self.give_lcb_to_8051();
        link.dc8051.change_phy_state(regs, "go to link up", chip::PLS_LINKUP)?;
        Ok(())
    }

    /// `chip.c:set_up_vau`.
    pub(crate) fn set_allocation_unit(&self, vau: u64) -> Result<(), Gone> {
        self.regs.modify(&csr::SEND_CM_GLOBAL_CREDIT, |v| csr::SEND_CM_GLOBAL_CREDIT::AU.set(v, vau))
    }

    /// Only VL 15 has credits: `chip.c:set_up_vl15`.
    pub(crate) fn set_vl15_credits(&self, credits: u16) -> Result<(), Gone> {
        use csr::SEND_CM_GLOBAL_CREDIT as global;
        self.regs.modify(&csr::SEND_CM_GLOBAL_CREDIT, |v| {
            global::TOTAL_CREDIT_LIMIT.set(global::SHARED_LIMIT.set(v, 0), credits.into())
        })?;
        self.regs.write(&csr::SEND_CM_CREDIT_VL15, credits.into());
        Ok(())
    }

    /// Lanes that transmit; the simulator and quick link-up leave that at 0 and mean 4
    /// (`chip.c:get_linkup_widths, link_width_to_bits`).
    pub(crate) fn linkup_lanes(&self, link: &Link) -> Result<u8, ChipError> {
        let mode = link.dc8051.read_config(&self.regs, chip::VERIFY_CAP_LOCAL_LINK_MODE)?;
        match mode >> 12 & 0xf {
            lanes @ 1..=4 => Ok(lanes as u8),
            _ => Ok(4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_checksums_are_chosen_as_in_the_driver() {
        let (old, new) = (FirmwareVersion::new(0, 19, 0), FirmwareVersion::new(1, 27, 0));
        assert_eq!((lane_rate(old, 0, 1), lane_rate(old, 1, 1)), (12_500, 25_000));
        assert_eq!((lane_rate(new, 1, 3), lane_rate(new, 3, 3), lane_rate(new, 3, 2)), (12_500, 25_000, 25_000));
        assert_eq!(lane_rate(new, 0, 2), 25_000);
        assert_eq!((crc_mode(7), crc_mode(6), crc_mode(4)), (1, 2, 0));
    }
}
