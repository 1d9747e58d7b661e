//! The 8051 microcontroller that runs the link: reset lines, memories, host commands, messages to the host.
//!
//! Its program is not run: what the program does is written here and, for the link, in `link.rs`.
//!
//! Source: `chip.c:do_8051_command`, `handle_8051_interrupt`; `firmware.c:load_8051_firmware`, `read_8051_data`.

use crate::board::Board;
use crate::config::Icode;
use crate::event::Event;
use crate::lcb::Lcb;
use crate::link::Link;
use crate::triplet::Triplet;
use crate::wire::LinkMessage;
use opx_defs::csr::{
    self, DC_DC8051_CFG_EXT_DEV_0, DC_DC8051_CFG_EXT_DEV_1, DC_DC8051_CFG_HOST_CMD_0, DC_DC8051_CFG_HOST_CMD_1,
    DC_DC8051_CFG_RAM_ACCESS_CTRL, DC_DC8051_CFG_RAM_ACCESS_SETUP, DC_DC8051_CFG_RAM_ACCESS_STATUS, DC_DC8051_CFG_RST,
    DC_DC8051_DBG_ERR_INFO_SET_BY_8051, DC_DC8051_ERR_FLG, DC_DC8051_STS_CUR_STATE,
};
use opx_defs::source::Source;
use opx_defs::units::BarOff;
use std::collections::VecDeque;
use std::time::Duration;

/// Something for the 8051 to do; the number tells events of an earlier life from those of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dc8051Event {
    /// The firmware has started.
    Booted(u32),
    /// A host command is done.
    Command(u32),
    /// The next step of the link.
    Link(u32),
}

/// Firmware state that accepts host commands (chip.c:wait_fm_ready).
const FIRMWARE_READY: u64 = 0xa0;
/// Time from reset to ready.
const BOOT_TIME: Duration = Duration::from_millis(5);
/// Time for a host command; the driver looks every 2 us.
const COMMAND_TIME: Duration = Duration::from_micros(1);
/// Idle messages kept for the host; the oldest are lost beyond it.
const IDLE_MESSAGES: usize = 16;

/// Return codes of host commands (chip.h HCMD_*).
pub mod code {
    /// Done.
    pub const SUCCESS: u8 = 2;
    /// The command or its data make no sense now.
    pub const INVALID: u8 = 1;
    /// There is no such command.
    pub const NOT_SUPPORTED: u8 = 3;
}

/// HOST_MSG bits (chip.h).
pub mod host_msg {
    /// An idle message came.
    pub const BC_SMA_MSG: u16 = 1 << 2;
    /// The far port's VerifyCap came.
    pub const VERIFY_CAP_FRAME: u16 = 1 << 6;
    /// The link is up.
    pub const LINKUP_ACHIEVED: u16 = 1 << 7;
    /// The link goes down.
    pub const LINK_GOING_DOWN: u16 = 1 << 8;
}

/// Fields of the data RAM (chip.h).
pub mod field {
    /// Lane enables, polarity, maximum rate.
    pub const TX_SETTINGS: u8 = 0x06;
    /// Own PHY capabilities.
    pub const LOCAL_PHY: u8 = 0x07;
    /// Own fabric capabilities.
    pub const LOCAL_FABRIC: u8 = 0x08;
    /// Own link mode; after negotiation also the lane counts.
    pub const LOCAL_LINK_MODE: u8 = 0x09;
    /// Own device id.
    pub const LOCAL_DEVICE_ID: u8 = 0x0a;
    /// Enabled receive lanes.
    pub const LOCAL_LNI_INFO: u8 = 0x0c;
    /// Whether the far port allows management.
    pub const REMOTE_LNI_INFO: u8 = 0x0d;
    /// Firmware version.
    pub const MISC_STATUS: u8 = 0x0e;
    /// The far port's PHY capabilities.
    pub const REMOTE_PHY: u8 = 0x0f;
    /// The far port's fabric capabilities.
    pub const REMOTE_FABRIC: u8 = 0x10;
    /// The far port's widths and rates.
    pub const REMOTE_LINK_WIDTH: u8 = 0x11;
    /// Last step of the negotiation here.
    pub const LAST_LOCAL_STATE: u8 = 0x12;
    /// Last step of the negotiation there.
    pub const LAST_REMOTE_STATE: u8 = 0x13;
    /// Link quality, and the far port's reason for going down.
    pub const LINK_QUALITY: u8 = 0x14;
    /// The far port's device id.
    pub const REMOTE_DEVICE_ID: u8 = 0x15;
    /// Why the link went down; firmware patch version.
    pub const LINK_DOWN_REASON: u8 = 0x16;
    /// Number of general fields.
    pub const GENERAL: u8 = 0x17;
    /// Fields of each lane, and lanes.
    pub const PER_LANE: u8 = 8;
    /// Lanes.
    pub const LANES: u8 = 4;
}

/// Bytes of the data RAM and of the code RAM.
const DATA_LEN: usize = 4096;
const CODE_LEN: usize = 32768;

/// The data RAM, in which configuration fields are mirrored for the host.
#[derive(Debug)]
pub struct Ram(Vec<u8>);

impl Ram {
    fn at(field: u8, lane: u8) -> Option<usize> {
        if lane < field::LANES {
            let at = usize::from(field::GENERAL) * 4 + usize::from(lane) * usize::from(field::PER_LANE) * 4;
            (field < field::PER_LANE).then_some(at + usize::from(field) * 4)
        } else {
            (field < field::GENERAL).then_some(usize::from(field) * 4)
        }
    }

    /// A general field.
    pub fn field(&self, field: u8) -> u32 {
        self.lane_field(field, field::LANES).unwrap_or(0)
    }

    fn lane_field(&self, field: u8, lane: u8) -> Option<u32> {
        let at = Self::at(field, lane)?;
        self.0.get(at..).and_then(|bytes| bytes.first_chunk::<4>()).map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// Sets a general field.
    pub fn set_field(&mut self, field: u8, value: u32) {
        self.set_lane_field(field, field::LANES, value);
    }

    fn set_lane_field(&mut self, field: u8, lane: u8, value: u32) -> bool {
        let slot = Self::at(field, lane).and_then(|at| self.0.get_mut(at..)).and_then(|b| b.first_chunk_mut::<4>());
        match slot {
            Some(slot) => {
                *slot = value.to_le_bytes();
                true
            }
            None => false,
        }
    }
}

/// What the 8051 tells the host, and whether the host has looked.
#[derive(Debug)]
pub struct HostMessages {
    message: u16,
    error: u32,
    /// Message bits that the host has read since they were set.
    seen: u16,
    flags: Triplet,
}

impl HostMessages {
    fn new() -> Self {
        Self { message: 0, error: 0, seen: 0, flags: Triplet::new(Source::DC8051) }
    }

    /// A command or a new event drops the bits that the host has read. Others stay: the driver issues commands before its
    /// interrupt handler has read the register, and a lost message would leave the port stuck.
    fn drop_seen(&mut self) {
        self.message &= !self.seen;
        self.seen = 0;
    }

    /// Tells the host something.
    pub fn tell(&mut self, board: &mut Board, message: u16, error: u32) {
        self.drop_seen();
        self.message |= message;
        self.error |= error;
        self.flags.raise(board, DC_DC8051_ERR_FLG::SET_BY_8051.mask());
    }

    /// Sets flags of the 8051's own.
    pub fn raise(&mut self, board: &mut Board, flags: u64) {
        self.flags.raise(board, flags);
    }

    /// Negotiation errors stand until the next polling begins (handle_8051_interrupt's comment).
    pub fn forget_errors(&mut self) {
        self.error = 0;
    }

    fn read(&mut self) -> u64 {
        self.seen |= self.message;
        DC_DC8051_DBG_ERR_INFO_SET_BY_8051::HOST_MSG.put(self.message.into())
            | DC_DC8051_DBG_ERR_INFO_SET_BY_8051::ERROR.put(self.error.into())
    }
}

/// The microcontroller.
#[derive(Debug)]
pub struct Dc8051 {
    pub(crate) ram: Ram,
    code: Vec<u8>,
    setup: u64,
    ctrl: u64,
    rst: u64,
    mode: u64,
    access_sel: u64,
    host_cmd: [u64; 2],
    ext_dev: [u64; 2],
    pub(crate) messages: HostMessages,
    ready: bool,
    /// By a fault: it takes no commands until the core is reset, and this flag comes back however often it is cleared.
    mute: bool,
    stands: u64,
    /// Counts resets of the core.
    life: u32,
    idle: VecDeque<u64>,
    pub(crate) link: Link,
}

impl Default for Dc8051 {
    fn default() -> Self {
        Self {
            ram: Ram(vec![0; DATA_LEN]),
            code: vec![0; CODE_LEN],
            setup: 0,
            ctrl: 0,
            rst: csr::DC_DC8051_CFG_RST.reset,
            mode: 0,
            // The host owns LCB and DCC: init_lcb writes them before any hand-over.
            access_sel: 3,
            host_cmd: [0; 2],
            ext_dev: [0; 2],
            messages: HostMessages::new(),
            ready: false,
            mute: false,
            stands: 0,
            life: 0,
            idle: VecDeque::new(),
            link: Link::default(),
        }
    }
}

impl Dc8051 {
    /// Reset of the whole DC: the core stops and its memories are lost.
    pub fn reset(&mut self, board: &mut Board) {
        self.stop(board);
        board.firmware.authorised = false;
        self.messages.flags.reset(board);
        let (life, link) = (self.life, std::mem::take(&mut self.link));
        *self = Self { life, link, ..Self::default() };
    }

    /// After the interrupt block was reset under it.
    pub fn refresh(&self, board: &mut Board) {
        self.messages.flags.refresh(board);
    }

    /// Whether the host may touch the LCB's registers.
    pub fn host_owns_lcb(&self) -> bool {
        csr::DC_DC8051_CFG_CSR_ACCESS_SEL::LCB.is_set(self.access_sel)
    }

    /// The core is put in reset: the link is lost.
    pub fn stop(&mut self, board: &mut Board) {
        self.ready = false;
        (self.mute, self.stands) = (false, 0);
        self.life = self.life.wrapping_add(1);
        self.idle.clear();
        self.lose_link(board);
    }

    /// It takes no more commands. `flag` tells of it and can't be cleared (`chip.c:handle_8051_interrupt`, lost heartbeat).
    pub fn die(&mut self, board: &mut Board, flag: u64) {
        (self.mute, self.stands) = (true, flag);
        self.messages.flags.raise(board, flag);
    }

    /// The core is let out of reset: it starts when there is code that may run.
    pub fn start(&mut self, board: &mut Board) {
        let core_held = DC_DC8051_CFG_RST::M8051W.is_set(self.rst);
        if core_held || self.ready {
            return;
        }
        if board.config.icode == Icode::FunctionalSimulator {
            // The driver doesn't wait for the simulator's firmware (chip.c:wait_fm_ready).
            self.booted(board);
        } else if board.firmware.authorised {
            self.life = self.life.wrapping_add(1);
            // "In the simulator, the fake 8051 is always ready" (firmware.c:wait_fm_ready).
            if board.config.icode == Icode::FunctionalSimulator {
                self.booted(board);
                return;
            }
            board.after_only(BOOT_TIME, Event::Dc8051(Dc8051Event::Booted(self.life)));
        }
    }

    fn booted(&mut self, board: &mut Board) {
        /// Version 1.27.0, as Intel's last release.
        const MISC_STATUS: u32 = 27 << 16 | 1 << 24;
        self.ready = true;
        self.ram.set_field(field::MISC_STATUS, MISC_STATUS);
        self.ram.set_field(field::LINK_DOWN_REASON, 0);
        self.ram.set_field(field::TX_SETTINGS, 0xf);
        self.ram.set_field(field::LOCAL_LNI_INFO, 0xf << 16);
        self.link.quiet(board);
    }

    /// An event asked for earlier.
    pub fn on_event(&mut self, board: &mut Board, lcb: &mut Lcb, event: Dc8051Event) {
        match event {
            Dc8051Event::Booted(life) if life == self.life => self.booted(board),
            Dc8051Event::Command(life) if life == self.life => self.run_command(board, lcb),
            Dc8051Event::Link(step) => self.link_step(board, lcb, step),
            Dc8051Event::Booted(_) | Dc8051Event::Command(_) => {}
        }
    }

    /// The far 8051 said something.
    pub fn on_message(&mut self, board: &mut Board, message: LinkMessage) {
        if !self.ready {
            return;
        }
        if let LinkMessage::Idle(data) = message {
            if self.idle.len() >= IDLE_MESSAGES {
                self.idle.pop_front();
            }
            self.idle.push_back(data);
            self.messages.tell(board, host_msg::BC_SMA_MSG, 0);
        } else {
            self.link_message(board, message);
        }
    }

    fn set_host_cmd(&mut self, board: &mut Board, value: u64) {
        let [cmd0, cmd1] = &mut self.host_cmd;
        let new = DC_DC8051_CFG_HOST_CMD_0::REQ_NEW.is_set(value & !*cmd0);
        *cmd0 = value;
        if !DC_DC8051_CFG_HOST_CMD_0::REQ_NEW.is_set(value) {
            *cmd1 = 0;
        } else if new && self.ready {
            self.messages.drop_seen();
            board.after_only(COMMAND_TIME, Event::Dc8051(Dc8051Event::Command(self.life)));
        }
    }

    fn run_command(&mut self, board: &mut Board, lcb: &mut Lcb) {
        let [request, _] = self.host_cmd;
        if self.mute || !DC_DC8051_CFG_HOST_CMD_0::REQ_NEW.is_set(request) {
            return;
        }
        let data = DC_DC8051_CFG_HOST_CMD_0::REQ_DATA.get(request);
        let (code, response) = self.command(board, lcb, DC_DC8051_CFG_HOST_CMD_0::REQ_TYPE.get(request), data);
        let [_, answer] = &mut self.host_cmd;
        *answer = DC_DC8051_CFG_HOST_CMD_1::COMPLETED.mask()
            | DC_DC8051_CFG_HOST_CMD_1::RETURN_CODE.put(code.into())
            | DC_DC8051_CFG_HOST_CMD_1::RSP_DATA.put(response);
    }

    /// Carries a host command out: its return code and 48-bit answer (chip.h HCMD_*).
    fn command(&mut self, board: &mut Board, lcb: &mut Lcb, kind: u64, data: u64) -> (u8, u64) {
        let lcb_register = |index: u64| BarOff(csr::DC_LCB_CFG_RUN.offset.0 + (index as u32 & 0xff) * 8);
        match kind {
            // LOAD_CONFIG_DATA, READ_CONFIG_DATA.
            0x01 | 0x02 => {
                let (lane, field) = ((data >> 32) as u8, (data >> 40) as u8);
                if kind == 0x02 {
                    return match self.ram.lane_field(field, lane) {
                        Some(value) => (code::SUCCESS, value.into()),
                        None => (code::INVALID, 0),
                    };
                }
                let known = self.ram.set_lane_field(field, lane, data as u32);
                (if known { code::SUCCESS } else { code::INVALID }, 0)
            }
            // CHANGE_PHY_STATE.
            0x03 => (self.change_phy(board, lcb, data as u8, (data >> 8) as u8), 0),
            // SEND_LCB_IDLE_MSG.
            0x04 => {
                if !board.link.transfer_active {
                    return (code::INVALID, 0);
                }
                board.tell(LinkMessage::Idle(data));
                (code::SUCCESS, 0)
            }
            // MISC: requesting and granting access to the LCB; the driver moves ACCESS_SEL itself.
            0x05 => match data >> 40 & 0xff {
                1 | 2 => (code::SUCCESS, 0),
                _ => (code::INVALID, 0),
            },
            // READ_LCB_IDLE_MSG.
            0x06 => {
                let message = self.idle.pop_front();
                if !self.idle.is_empty() {
                    // The bit is one for all of them: say again that there is more.
                    self.messages.tell(board, host_msg::BC_SMA_MSG, 0);
                }
                message.map_or((code::INVALID, 0), |message| (code::SUCCESS, message))
            }
            // READ_LCB_CSR: 48 bits here, the rest beside it.
            0x07 => {
                let Some(value) = lcb.read(board, lcb_register(data)) else { return (code::INVALID, 0) };
                let [_, ext] = &mut self.ext_dev;
                *ext = DC_DC8051_CFG_EXT_DEV_1::REQ_DATA.put(value >> 48);
                (code::SUCCESS, value & 0xffff_ffff_ffff)
            }
            // WRITE_LCB_CSR: 40 bits here, the rest beside it.
            0x08 => {
                let [ext, _] = self.ext_dev;
                let value = data >> 8 & 0xff_ffff_ffff
                    | DC_DC8051_CFG_EXT_DEV_0::RETURN_CODE.get(ext) << 40
                    | (DC_DC8051_CFG_EXT_DEV_0::RSP_DATA.get(ext) & 0xffff) << 48;
                let known = lcb.write(board, lcb_register(data), value);
                (if known { code::SUCCESS } else { code::INVALID }, 0)
            }
            0xff => (code::SUCCESS, data),
            _ => (code::NOT_SUPPORTED, 0),
        }
    }

    fn set_rst(&mut self, board: &mut Board, value: u64) {
        let rising = value & !self.rst;
        let falling = self.rst & !value;
        self.rst = value;
        if DC_DC8051_CFG_RST::CRAM.is_set(rising) {
            board.firmware.authorised = false;
            self.code.fill(0);
        }
        if DC_DC8051_CFG_RST::DRAM.is_set(rising) {
            self.ram.0.fill(0);
        }
        if DC_DC8051_CFG_RST::M8051W.is_set(rising) {
            self.stop(board);
        }
        if DC_DC8051_CFG_RST::M8051W.is_set(falling) {
            self.start(board);
        }
    }

    fn memory_at(&mut self) -> Option<&mut [u8; 8]> {
        let address = DC_DC8051_CFG_RAM_ACCESS_CTRL::ADDRESS.get(self.ctrl) as usize & !7;
        let code = DC_DC8051_CFG_RAM_ACCESS_SETUP::RAM_SEL.is_set(self.setup);
        let memory = if code { &mut self.code } else { &mut self.ram.0 };
        memory.get_mut(address..).and_then(|bytes| bytes.first_chunk_mut::<8>())
    }

    fn next_address(&mut self) {
        if DC_DC8051_CFG_RAM_ACCESS_SETUP::AUTO_INCR_ADDR.is_set(self.setup) {
            let address = DC_DC8051_CFG_RAM_ACCESS_CTRL::ADDRESS.get(self.ctrl) + 8;
            self.ctrl = DC_DC8051_CFG_RAM_ACCESS_CTRL::ADDRESS.set(self.ctrl, address);
        }
    }

    fn write_memory(&mut self, board: &mut Board, value: u64) {
        if !DC_DC8051_CFG_RAM_ACCESS_CTRL::WRITE_ENA.is_set(self.ctrl) {
            return;
        }
        if let Some(bytes) = self.memory_at() {
            *bytes = value.to_le_bytes();
        }
        if DC_DC8051_CFG_RAM_ACCESS_SETUP::RAM_SEL.is_set(self.setup) {
            // New code must pass the security engine again.
            board.firmware.cram_written = true;
            board.firmware.stream.put(&value.to_le_bytes());
            board.firmware.authorised = false;
        }
        self.next_address();
    }

    /// Reads a register; `None` when there is none.
    pub fn read(&mut self, board: &mut Board, offset: BarOff) -> Option<u64> {
        let is = |row: csr::Csr| row.off() == offset;
        let ([cmd0, cmd1], [ext0, ext1]) = (self.host_cmd, self.ext_dev);
        let up = self.link.is_up();
        Some(if is(csr::DC_DC8051_STS_CUR_STATE) {
            DC_DC8051_STS_CUR_STATE::PORT.put(self.link.state().into())
                | DC_DC8051_STS_CUR_STATE::FIRMWARE.put(if self.ready { FIRMWARE_READY } else { 0 })
        } else if is(csr::DC_DC8051_CFG_HOST_CMD_0) {
            cmd0
        } else if is(csr::DC_DC8051_CFG_HOST_CMD_1) {
            cmd1
        } else if is(csr::DC_DC8051_CFG_RAM_ACCESS_SETUP) {
            self.setup
        } else if is(csr::DC_DC8051_CFG_RAM_ACCESS_CTRL) {
            self.ctrl
        } else if is(csr::DC_DC8051_CFG_RAM_ACCESS_STATUS) {
            // Memory answers within the register access.
            DC_DC8051_CFG_RAM_ACCESS_STATUS::ACCESS_COMPLETED.mask()
        } else if is(csr::DC_DC8051_CFG_RAM_ACCESS_RD_DATA) {
            self.memory_at().map_or(0, |bytes| u64::from_le_bytes(*bytes))
        } else if is(csr::DC_DC8051_CFG_LOCAL_GUID) {
            board.config.guid.0
        } else if is(csr::DC_DC8051_STS_REMOTE_GUID) {
            if up { self.link.remote_guid() } else { 0 }
        } else if is(csr::DC_DC8051_STS_REMOTE_PORT_NO) {
            up.into()
        } else if is(csr::DC_DC8051_STS_REMOTE_NODE_TYPE)
            || is(csr::DC_DC8051_STS_LOCAL_FM_SECURITY)
            || is(csr::DC_DC8051_STS_REMOTE_FM_SECURITY)
            || is(csr::DC_DC8051_CFG_RAM_ACCESS_WR_DATA)
            || is(csr::DC_DC8051_ERR_CLR)
        {
            // Node type 0 is an HFI; there is no FM security.
            0
        } else if is(csr::DC_DC8051_CFG_RST) {
            self.rst
        } else if is(csr::DC_DC8051_CFG_MODE) {
            self.mode
        } else if is(csr::DC_DC8051_DBG_ERR_INFO_SET_BY_8051) {
            self.messages.read()
        } else if is(csr::DC_DC8051_ERR_FLG) {
            self.messages.flags.status()
        } else if is(csr::DC_DC8051_ERR_EN) {
            self.messages.flags.mask()
        } else if is(csr::DC_DC8051_CFG_CSR_ACCESS_SEL) {
            self.access_sel
        } else if is(csr::DC_DC8051_CFG_EXT_DEV_0) {
            ext0
        } else if is(csr::DC_DC8051_CFG_EXT_DEV_1) {
            ext1
        } else {
            return None;
        })
    }

    /// Writes a register; `false` when there is none.
    pub fn write(&mut self, board: &mut Board, offset: BarOff, value: u64) -> bool {
        let is = |row: csr::Csr| row.off() == offset;
        if is(csr::DC_DC8051_CFG_HOST_CMD_0) {
            self.set_host_cmd(board, value);
        } else if is(csr::DC_DC8051_CFG_RAM_ACCESS_WR_DATA) {
            self.write_memory(board, value);
        } else if is(csr::DC_DC8051_CFG_RAM_ACCESS_SETUP) {
            self.setup = value;
        } else if is(csr::DC_DC8051_CFG_RAM_ACCESS_CTRL) {
            self.ctrl = value;
        } else if is(csr::DC_DC8051_CFG_RST) {
            self.set_rst(board, value);
        } else if is(csr::DC_DC8051_CFG_MODE) {
            self.mode = value;
        } else if is(csr::DC_DC8051_ERR_CLR) {
            self.messages.flags.clear(board, value & !self.stands);
        } else if is(csr::DC_DC8051_ERR_EN) {
            self.messages.flags.set_mask(board, value);
        } else if is(csr::DC_DC8051_CFG_CSR_ACCESS_SEL) {
            self.access_sel = value & 3;
        } else if is(csr::DC_DC8051_CFG_EXT_DEV_0) {
            let [ext0, _] = &mut self.ext_dev;
            *ext0 = value;
        } else {
            return is(csr::DC_DC8051_CFG_HOST_CMD_1)
                || is(csr::DC_DC8051_CFG_RAM_ACCESS_STATUS)
                || is(csr::DC_DC8051_CFG_RAM_ACCESS_RD_DATA)
                || is(csr::DC_DC8051_DBG_ERR_INFO_SET_BY_8051)
                || is(csr::DC_DC8051_ERR_FLG)
                || is(csr::DC_DC8051_CFG_EXT_DEV_1)
                || is(csr::DC_DC8051_CFG_LOCAL_GUID)
                || (0x60_2040..=0x60_2060).contains(&offset.0)
                || is(csr::DC_DC8051_STS_REMOTE_PORT_NO);
        }
        true
    }
}
