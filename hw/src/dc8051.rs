//! The 8051, the microcontroller that runs the link: host commands, its data memory, start and restart.

use crate::error::{ChipError, CommandError, Gone};
use crate::interrupts::Counts;
use crate::regs::{Regs, limit};
use opx_bus::{ALL_ONES, PciFunction};
use opx_defs::chip;
use opx_defs::csr;
use opx_defs::source::Source;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// STS_CUR_STATE.FIRMWARE when it takes commands (`firmware.c:wait_fm_ready`).
const FIRMWARE_READY: u64 = 0xa0;

/// Version of the 8051's firmware; 0.0.0 on the functional simulator, that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FirmwareVersion {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
    /// Patch.
    pub patch: u8,
}

impl fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FirmwareVersion {
    pub(crate) const fn new(major: u8, minor: u8, patch: u8) -> Self {
        Self { major, minor, patch }
    }
}

/// What the driver knows about the 8051.
#[derive(Debug)]
pub(crate) struct Dc8051 {
    pub version: FirmwareVersion,
    /// The functional simulator's 8051 is always ready.
    simulated: bool,
    /// Commands that weren't answered one after the other.
    timeouts: u32,
    /// Its heartbeat was lost.
    lost: bool,
    /// DC_LCB_ERR_EN while the LCB is held in reset.
    lcb_err_en: u64,
}

/// What `DC_DC8051_DBG_ERR_INFO_SET_BY_8051` told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Messages {
    pub host_msg: u64,
    pub errors: u64,
}

impl Dc8051 {
    pub fn new(icode: u8) -> Self {
        let simulated = u64::from(icode) == chip::ICODE_FUNCTIONAL_SIMULATOR;
        Self { version: FirmwareVersion::default(), simulated, timeouts: 0, lost: false, lcb_err_en: 0 }
    }

    /// Whether it answered the last command.
    pub fn answers(&self) -> bool {
        self.timeouts == 0
    }

    /// Whether it answered the last command and its heart beats.
    pub fn is_alive(&self) -> bool {
        self.timeouts == 0 && !self.lost
    }

    /// Starts it anew. The link is lost, its code stays (`chip.c:do_8051_command`, the case of a timeout).
    pub fn restart<B: PciFunction>(&mut self, regs: &Regs<B>) -> Result<(), ChipError> {
        log::warn!("{}: restarting the 8051", regs.adapter());
        self.shut_down(regs)?;
        self.start(regs)?;
        (self.timeouts, self.lost) = (0, false);
        // The mask that its silence had changed.
        regs.write(&csr::DC_DC8051_ERR_EN, ALL_ONES);
        Ok(())
    }

    /// `firmware.c:wait_fm_ready`.
    pub fn wait_ready<B: PciFunction>(&self, regs: &Regs<B>, limit: Duration) -> Result<(), ChipError> {
        if self.simulated {
            return Ok(());
        }
        let field = csr::DC_DC8051_STS_CUR_STATE::FIRMWARE;
        let ready = |value| field.get(value) == FIRMWARE_READY;
        regs.wait(&csr::DC_DC8051_STS_CUR_STATE, 0, limit, "FIRMWARE 0xa0 (ready)", ready)?;
        Ok(())
    }

    /// Gives a command and waits for its end: `chip.c:do_8051_command`.
    pub fn command<B: PciFunction>(
        &mut self,
        regs: &Regs<B>,
        what: &'static str,
        command: u64,
        data: u64,
    ) -> Result<u64, CommandError> {
        use csr::{DC_DC8051_CFG_HOST_CMD_0 as cmd, DC_DC8051_CFG_HOST_CMD_1 as answer};
        match self.timeouts {
            0 => {}
            // The 8051 is stuck: one restart of the whole DC is worth a try.
            1 => {
                log::warn!("{}: restarting the 8051, its last command wasn't answered", regs.adapter());
                self.shut_down(regs)?;
                self.start(regs)?;
            }
            _ => return Err(CommandError::Dead { adapter: regs.adapter(), command }),
        }
        // Two writes: the first makes type and data stable, the second activates.
        let request = cmd::REQ_TYPE.put(command) | cmd::REQ_DATA.put(data);
        regs.write(&csr::DC_DC8051_CFG_HOST_CMD_0, request);
        regs.write(&csr::DC_DC8051_CFG_HOST_CMD_0, request | cmd::REQ_NEW.mask());
        let done = |value| answer::COMPLETED.is_set(value);
        let reply = regs.wait(&csr::DC_DC8051_CFG_HOST_CMD_1, 0, limit::COMMAND_8051, "COMPLETED", done);
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                self.timeouts += 1;
                return Err(error.into());
            }
        };
        self.timeouts = 0;
        regs.write(&csr::DC_DC8051_CFG_HOST_CMD_0, 0);
        match answer::RETURN_CODE.get(reply) {
            chip::HCMD_SUCCESS => Ok(answer::RSP_DATA.get(reply)),
            code => Err(CommandError::Refused { adapter: regs.adapter(), what, command, data, code }),
        }
    }

    /// `chip.c:set_physical_link_state`; `state` may carry a reason in bits 15:8.
    pub fn change_phy_state<B: PciFunction>(
        &mut self,
        regs: &Regs<B>,
        what: &'static str,
        state: u64,
    ) -> Result<(), CommandError> {
        self.command(regs, what, chip::HCMD_CHANGE_PHY_STATE, state).map(drop)
    }

    /// `chip.c:load_8051_config`, general fields.
    pub fn load_config<B: PciFunction>(
        &mut self,
        regs: &Regs<B>,
        what: &'static str,
        field: u64,
        value: u32,
    ) -> Result<(), CommandError> {
        let data = field << chip::LOAD_DATA_FIELD_ID_SHIFT
            | chip::GENERAL_CONFIG << chip::LOAD_DATA_LANE_ID_SHIFT
            | u64::from(value) << chip::LOAD_DATA_DATA_SHIFT;
        self.command(regs, what, chip::HCMD_LOAD_CONFIG_DATA, data).map(drop)
    }

    /// Reads a general field from the data memory: `chip.c:read_8051_config`, `firmware.c:read_8051_data`.
    pub fn read_config<B: PciFunction>(&self, regs: &Regs<B>, field: u64) -> Result<u32, ChipError> {
        use csr::{DC_DC8051_CFG_RAM_ACCESS_CTRL as ctrl, DC_DC8051_CFG_RAM_ACCESS_STATUS as status};
        let address = field * 4;
        regs.write(&csr::DC_DC8051_CFG_RAM_ACCESS_SETUP, 0);
        regs.write(&csr::DC_DC8051_CFG_RAM_ACCESS_CTRL, ctrl::ADDRESS.put(address));
        regs.write(&csr::DC_DC8051_CFG_RAM_ACCESS_CTRL, ctrl::ADDRESS.put(address) | ctrl::READ_ENA.mask());
        let done = |value| status::ACCESS_COMPLETED.is_set(value);
        regs.wait(&csr::DC_DC8051_CFG_RAM_ACCESS_STATUS, 0, limit::RAM_ACCESS, "ACCESS_COMPLETED", done)?;
        let qword = regs.read_any(&csr::DC_DC8051_CFG_RAM_ACCESS_RD_DATA, 0)?;
        regs.write(&csr::DC_DC8051_CFG_RAM_ACCESS_CTRL, 0);
        // The hardware reads 8 bytes at a multiple of 8.
        Ok(if address & 4 != 0 { (qword >> 32) as u32 } else { qword as u32 })
    }

    /// Writes the code memory: `firmware.c:write_8051`.
    pub fn write_code<B: PciFunction>(&self, regs: &Regs<B>, code: impl Iterator<Item = u64>) -> Result<(), ChipError> {
        use csr::{
            DC_DC8051_CFG_RAM_ACCESS_CTRL as ctrl, DC_DC8051_CFG_RAM_ACCESS_SETUP as setup,
            DC_DC8051_CFG_RAM_ACCESS_STATUS as status,
        };
        regs.write(&csr::DC_DC8051_CFG_RAM_ACCESS_SETUP, setup::RAM_SEL.mask() | setup::AUTO_INCR_ADDR.mask());
        regs.write(&csr::DC_DC8051_CFG_RAM_ACCESS_CTRL, ctrl::WRITE_ENA.mask());
        let done = |value| status::ACCESS_COMPLETED.is_set(value);
        for qword in code {
            regs.write(&csr::DC_DC8051_CFG_RAM_ACCESS_WR_DATA, qword);
            regs.wait(&csr::DC_DC8051_CFG_RAM_ACCESS_STATUS, 0, limit::RAM_ACCESS, "ACCESS_COMPLETED", done)?;
        }
        regs.write(&csr::DC_DC8051_CFG_RAM_ACCESS_CTRL, 0);
        regs.write(&csr::DC_DC8051_CFG_RAM_ACCESS_SETUP, 0);
        Ok(())
    }

    /// Tells the 8051 which interface this driver speaks: `chip.c:write_host_interface_version`.
    pub fn set_interface_version<B: PciFunction>(&mut self, regs: &Regs<B>) -> Result<(), CommandError> {
        let mask = (chip::HOST_INTERFACE_VERSION_MASK << chip::HOST_INTERFACE_VERSION_SHIFT) as u32;
        let version = (chip::HOST_INTERFACE_VERSION << chip::HOST_INTERFACE_VERSION_SHIFT) as u32;
        let old = self.read_config(regs, chip::RESERVED_REGISTERS)?;
        self.load_config(regs, "set the host interface version", chip::RESERVED_REGISTERS, old & !mask | version)
    }

    /// `chip.c:read_misc_status`.
    pub fn read_version<B: PciFunction>(&mut self, regs: &Regs<B>) -> Result<(), ChipError> {
        let status = self.read_config(regs, chip::MISC_STATUS)?;
        let patch = self.read_config(regs, chip::VERSION_PATCH)?;
        self.version = FirmwareVersion::new(
            (status >> chip::STS_FM_VERSION_MAJOR_SHIFT) as u8,
            (status >> chip::STS_FM_VERSION_MINOR_SHIFT) as u8,
            (patch >> chip::STS_FM_VERSION_PATCH_SHIFT) as u8,
        );
        Ok(())
    }

    /// Stops the LCB; its FIFOs stay in reset: `chip.c:lcb_shutdown`. The block's own reset is pulsed, or held when
    /// `hold` is set.
    pub fn lcb_shut_down<B: PciFunction>(&mut self, regs: &Regs<B>, hold: bool) -> Result<(), Gone> {
        use csr::DCC_CFG_RESET as reset;
        regs.write(&csr::DC_LCB_CFG_RUN, 0);
        regs.write(&csr::DC_LCB_CFG_TX_FIFOS_RESET, 1);
        self.lcb_err_en = regs.read_any(&csr::DC_LCB_ERR_EN, 0)?;
        let old = regs.read(&csr::DCC_CFG_RESET)?;
        regs.write(&csr::DCC_CFG_RESET, old | reset::RESET_LCB.mask() | reset::RESET_RX_FPE.mask());
        // The read makes sure that the write arrived.
        regs.read(&csr::DCC_CFG_RESET)?;
        if !hold {
            // Must hold for the longer of 16 cclks or 20 ns.
            regs.pause(Duration::from_micros(1));
            regs.write(&csr::DCC_CFG_RESET, old);
            regs.write(&csr::DC_LCB_ERR_EN, self.lcb_err_en);
        }
        Ok(())
    }

    /// `chip.c:_dc_shutdown`.
    pub fn shut_down<B: PciFunction>(&mut self, regs: &Regs<B>) -> Result<(), Gone> {
        self.lcb_shut_down(regs, true)?;
        regs.write(&csr::DC_DC8051_CFG_RST, csr::DC_DC8051_CFG_RST::M8051W.mask());
        Ok(())
    }

    /// `chip.c:_dc_start`.
    fn start<B: PciFunction>(&mut self, regs: &Regs<B>) -> Result<(), ChipError> {
        regs.write(&csr::DC_DC8051_CFG_RST, 0);
        self.wait_ready(regs, limit::START_8051)?;
        regs.write(&csr::DCC_CFG_RESET, chip::LCB_RX_FPE_TX_FPE_OUT_OF_RESET);
        regs.write(&csr::DC_LCB_ERR_EN, self.lcb_err_en);
        Ok(())
    }

    /// Takes what the 8051 has to tell, if it has something: `chip.c:interrupt_clear_down, handle_8051_interrupt`.
    pub fn take_messages<B: PciFunction>(&mut self, regs: &Regs<B>, counts: &Counts) -> Result<Option<Messages>, Gone> {
        use csr::{DC_DC8051_DBG_ERR_INFO_SET_BY_8051 as info, DC_DC8051_ERR_FLG as flag};
        let flags = regs.read(&csr::DC_DC8051_ERR_FLG)?;
        if flags == 0 {
            return Ok(None);
        }
        counts.bits.add(&csr::DC_DC8051_ERR_FLG, flags & !flag::SET_BY_8051.mask());
        // Whoever polls takes the interrupt as well, or its vector would wait for a handler. As there, it is cleared first:
        // what comes from here on raises it anew.
        regs.write_at(&csr::CCE_INT_CLEAR, Source::DC8051.word(), Source::DC8051.bit());
        regs.write(&csr::DC_DC8051_ERR_CLR, flags);
        if flag::LOST_8051_HEART_BEAT.is_set(flags) && !self.lost {
            // It would be reported for ever: mask it after the first time. Packets go on without it.
            log::warn!("{}: the 8051's heartbeat is lost; bring the link up again to restart it", regs.adapter());
            self.lost = true;
            counts.lost_heartbeats.fetch_add(1, Ordering::Relaxed);
            let enabled = regs.read_any(&csr::DC_DC8051_ERR_EN, 0)?;
            regs.write(&csr::DC_DC8051_ERR_EN, enabled & !csr::DC_DC8051_ERR_EN::LOST_8051_HEART_BEAT.mask());
        }
        if !flag::SET_BY_8051.is_set(flags) {
            return Ok(Some(Messages::default()));
        }
        let told = regs.read(&csr::DC_DC8051_DBG_ERR_INFO_SET_BY_8051)?;
        Ok(Some(Messages { host_msg: info::HOST_MSG.get(told), errors: info::ERROR.get(told) }))
    }

    /// Answers a request of the 8051 to its host: `chip.c:handle_8051_request`.
    pub fn answer_request<B: PciFunction>(&self, regs: &Regs<B>) -> Result<(), Gone> {
        use csr::{DC_DC8051_CFG_EXT_DEV_0 as answer, DC_DC8051_CFG_EXT_DEV_1 as request};
        let asked = regs.read(&csr::DC_DC8051_CFG_EXT_DEV_1)?;
        if !request::REQ_NEW.is_set(asked) {
            return Ok(());
        }
        // Without this the answer's COMPLETED wouldn't be seen to rise.
        regs.write(&csr::DC_DC8051_CFG_EXT_DEV_0, 0);
        let (code, data) = match request::REQ_TYPE.get(asked) {
            chip::HREQ_LCB_RESET => {
                regs.write(&csr::DCC_CFG_RESET, chip::LCB_RX_FPE_TX_FPE_INTO_RESET);
                regs.read(&csr::DCC_CFG_RESET)?;
                regs.pause(Duration::from_micros(1));
                regs.write(&csr::DCC_CFG_RESET, chip::LCB_RX_FPE_TX_FPE_OUT_OF_RESET);
                (chip::HREQ_SUCCESS, 0)
            }
            chip::HREQ_CONFIG_DONE => (chip::HREQ_SUCCESS, 0),
            chip::HREQ_INTERFACE_TEST => (chip::HREQ_SUCCESS, request::REQ_DATA.get(asked)),
            _ => (chip::HREQ_NOT_SUPPORTED, 0),
        };
        let reply = answer::COMPLETED.mask() | answer::RETURN_CODE.put(code) | answer::RSP_DATA.put(data);
        regs.write(&csr::DC_DC8051_CFG_EXT_DEV_0, reply);
        Ok(())
    }

    /// The physical link state (`chip.c:read_physical_state`).
    pub fn wait_physical_state<B: PciFunction>(
        &self,
        regs: &Regs<B>,
        limit: Duration,
        wanted: &'static str,
        ready: impl Fn(u64) -> bool,
    ) -> Result<u64, ChipError> {
        let field = csr::DC_DC8051_STS_CUR_STATE::PORT;
        let value = regs.wait(&csr::DC_DC8051_STS_CUR_STATE, 0, limit, wanted, |value| ready(field.get(value)))?;
        Ok(field.get(value))
    }
}
