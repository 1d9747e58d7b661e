//! The ASIC block, which the two HFIs of a chip share: mutex, scratch, SBus, EPROM, pins, thermometer.
//!
//! Source: `firmware.c:acquire_hw_mutex`, `sbus_request_slow`, `sbus_read`; `eprom.c`; `qsfp.c`; `chip.c:hfi1_tempsense_rd`.

use crate::board::Board;
use crate::qsfp::{Plugged, QsfpModule};
use crate::triplet::Triplet;
use opx_defs::csr::{
    self, ASIC_CFG_SBUS_EXECUTE, ASIC_CFG_SBUS_REQUEST, ASIC_EEP_ADDR_CMD, ASIC_STS_SBUS_COUNTERS,
    ASIC_STS_SBUS_RESULT, ASIC_STS_THERM,
};
use opx_defs::source::Source;
use opx_defs::units::BarOff;
use std::collections::BTreeMap;

/// Bytes of the EPROM.
const EPROM_LEN: usize = 16 << 20;

/// SBus commands (firmware.c WRITE_SBUS_RECEIVER, READ_SBUS_RECEIVER).
const SBUS_WRITE: u64 = 0x21;
const SBUS_READ: u64 = 0x22;
/// Result codes (firmware.c SBUS_READ_COMPLETE; the code for writes is not looked at).
const RESULT_WRITTEN: u64 = 1;
const RESULT_READ: u64 = 4;

/// The serial bus to the SerDes and sensors: a register file of 8-bit addresses in each of 256 receivers.
#[derive(Debug, Default)]
struct Sbus {
    request: u64,
    execute: u64,
    result: u64,
    executed: u16,
    /// Written registers by (receiver, address); at most 65536.
    registers: BTreeMap<(u8, u8), u32>,
}

impl Sbus {
    /// Executes the request, and tells the dword of code it wrote.
    fn run(&mut self) -> Option<u32> {
        let receiver = ASIC_CFG_SBUS_REQUEST::RECEIVER_ADDR.get(self.request) as u8;
        let address = ASIC_CFG_SBUS_REQUEST::DATA_ADDR.get(self.request) as u8;
        let data = ASIC_CFG_SBUS_REQUEST::DATA_IN.get(self.request) as u32;
        self.executed = self.executed.wrapping_add(1);
        let (mut code, mut out, mut written_code) = (RESULT_WRITTEN, 0, None);
        match ASIC_CFG_SBUS_REQUEST::COMMAND.get(self.request) {
            SBUS_WRITE => {
                self.registers.insert((receiver, address), data);
                // Where images are streamed to: the SerDes' 0x0a, the SBus master's 0x14, its PCIe window 0x04 (firmware.c).
                written_code = matches!(address, 0x04 | 0x0a | 0x14).then_some(data);
            }
            SBUS_READ => {
                code = RESULT_READ;
                out = self.registers.get(&(receiver, address)).copied().unwrap_or(0);
            }
            _ => self.registers.retain(|(at, _), _| *at != receiver),
        }
        self.result = ASIC_STS_SBUS_RESULT::DONE.mask()
            | ASIC_STS_SBUS_RESULT::RCV_DATA_VALID.mask()
            | ASIC_STS_SBUS_RESULT::RESULT_CODE.put(code)
            | ASIC_STS_SBUS_RESULT::DATA_OUT.put(out.into());
        written_code
    }

    fn set_request(&mut self, value: u64) -> Option<u32> {
        self.request = value;
        if ASIC_CFG_SBUS_EXECUTE::FAST_MODE.is_set(self.execute) { self.run() } else { None }
    }

    fn set_execute(&mut self, value: u64) -> Option<u32> {
        let rises = ASIC_CFG_SBUS_EXECUTE::EXECUTE.is_set(value & !self.execute);
        self.execute = value;
        if rises {
            return self.run();
        }
        if !ASIC_CFG_SBUS_EXECUTE::EXECUTE.is_set(value) {
            self.result &= !(ASIC_STS_SBUS_RESULT::DONE.mask() | ASIC_STS_SBUS_RESULT::RCV_DATA_VALID.mask());
        }
        None
    }

    fn counters(&self) -> u64 {
        ASIC_STS_SBUS_COUNTERS::EXECUTE_CNT.put(self.executed.into())
            | ASIC_STS_SBUS_COUNTERS::RCV_DATA_VALID_CNT.put(self.executed.into())
    }
}

/// Commands to the flash chip (eprom.c CMD_*).
const EPROM_READ: u64 = 0x03;

#[derive(Debug)]
struct Eprom {
    ctl_stat: u64,
    addr_cmd: u64,
    /// What it holds; blank beyond.
    contents: Vec<u8>,
    /// Where the next read of the data register reads, while a read command is open.
    at: Option<usize>,
}

impl Eprom {
    fn command(&mut self, value: u64) {
        self.addr_cmd = value;
        let address = ASIC_EEP_ADDR_CMD::EP_ADDR.get(value) as usize;
        self.at = (value >> 24 & 0xff == EPROM_READ).then_some(address);
    }

    fn next(&mut self) -> u64 {
        let Some(at) = self.at else { return 0xffff_ffff };
        self.at = Some((at + 4) % EPROM_LEN);
        (0..4).rev().fold(0, |word, i| word << 8 | u64::from(self.contents.get(at + i).copied().unwrap_or(0xff)))
    }
}

/// A group of pins with their interrupt.
#[derive(Debug)]
struct Pins {
    oe: u64,
    invert: u64,
    out: u64,
    /// Levels when the adapter doesn't drive them.
    pulled_up: u64,
    /// The module in the cage.
    module: Option<Plugged>,
    /// What was sensed last.
    sensed: u64,
    interrupt: Triplet,
}

/// Registers of a group of pins, by offset in the group: IN, OE, INVERT, OUT, MASK, STATUS, CLEAR, FORCE.
impl Pins {
    fn new(pulled_up: u64, source: Source) -> Self {
        Self { oe: 0, invert: 0, out: 0, pulled_up, module: None, sensed: pulled_up, interrupt: Triplet::new(source) }
    }

    /// I2C's two lines are open drain through OE: a set bit pulls the line low (qsfp.c:hfi1_setsda). The others are driven
    /// with OUT.
    fn levels(&self) -> u64 {
        const OPEN_DRAIN: u64 = 3;
        const DATA: u64 = 2;
        /// Low when a module is there.
        const PRESENT_N: u64 = 0x10;
        let held = match &self.module {
            Some(module) => PRESENT_N | if module.pulls_data() { DATA } else { 0 },
            None => 0,
        };
        self.pulled_up & !(self.oe & OPEN_DRAIN) & !held
    }

    /// A module is put into the cage or taken out.
    fn set_module(&mut self, board: &mut Board, module: Option<QsfpModule>) {
        self.module = module.map(Plugged::new);
        self.sense(board);
    }

    /// The interrupt status latches what comes to be sensed: the level, flipped by INVERT. That it takes edges is INFERRED
    /// from chip.c:init_qsfp_int, which clears the status against spurious interrupts before it inverts the lines that idle
    /// high, and from chip.c:interrupt_clear_down, which gives up on a status that doesn't go to 0.
    fn sense(&mut self, board: &mut Board) {
        let sensed = self.levels() ^ (self.invert & self.pulled_up);
        let risen = sensed & !self.sensed;
        self.sensed = sensed;
        self.interrupt.raise(board, risen);
    }

    fn read(&self, register: u32) -> u64 {
        match register {
            0 => self.levels(),
            1 => self.oe,
            2 => self.invert,
            3 => self.out,
            4 => self.interrupt.mask(),
            5 => self.interrupt.status(),
            _ => 0,
        }
    }

    fn write(&mut self, board: &mut Board, register: u32, value: u64) {
        match register {
            1 => {
                self.oe = value;
                if let Some(module) = &mut self.module {
                    module.on_lines(value & 1 == 0, value & 2 == 0);
                }
            }
            2 => self.invert = value,
            3 => self.out = value,
            4 => self.interrupt.set_mask(board, value),
            6 => self.interrupt.clear(board, value),
            7 => self.interrupt.raise(board, value),
            _ => {}
        }
        self.sense(board);
    }
}

const GPIO: u32 = csr::ASIC_GPIO_IN.offset.0;
const QSFP1: u32 = csr::ASIC_QSFP1_IN.offset.0;
const QSFP2: u32 = csr::ASIC_QSFP2_IN.offset.0;
/// Lines of an empty cage: clock, data, reset, interrupt and presence, all high.
const EMPTY_CAGE: u64 = 0x1f;

/// The block's registers.
#[derive(Debug)]
pub struct Asic {
    sbus: Sbus,
    eprom: Eprom,
    scratch: [u64; 4],
    mutex: u64,
    gpio: Pins,
    cages: [Pins; 2],
    /// Registers that only keep what is written: drive strength, thermometer polling, PCIe SerDes hand-over.
    plain: BTreeMap<BarOff, u64>,
}

impl Default for Asic {
    fn default() -> Self {
        Self {
            sbus: Sbus::default(),
            eprom: Eprom { ctl_stat: csr::ASIC_EEP_CTL_STAT.reset, addr_cmd: 0, contents: Vec::new(), at: None },
            scratch: [0; 4],
            mutex: 0,
            gpio: Pins::new(0, Source::GPIO),
            cages: [Pins::new(EMPTY_CAGE, Source::QSFP1), Pins::new(EMPTY_CAGE, Source::QSFP2)],
            plain: BTreeMap::new(),
        }
    }
}

impl Asic {
    /// Function-level reset of one HFI: what is shared stays, but a reset "enforces a 0 on all out pins" (`init_chip`).
    pub fn reset(&mut self, board: &mut Board) {
        for (pins, source) in self.cages.iter_mut().zip([Source::QSFP1, Source::QSFP2]) {
            pins.interrupt.reset(board);
            // A module stays where it is.
            let module = pins.module.take().map(Plugged::into_module);
            *pins = Pins::new(EMPTY_CAGE, source);
            pins.module = module.map(Plugged::new);
        }
        self.gpio.interrupt.reset(board);
        self.gpio = Pins::new(0, Source::GPIO);
    }

    /// Sets what the EPROM holds.
    pub fn set_eprom(&mut self, mut contents: Vec<u8>) {
        contents.truncate(EPROM_LEN);
        self.eprom.contents = contents;
    }

    /// Puts a module into a cage, or takes it out.
    pub fn set_module(&mut self, board: &mut Board, cage: u8, module: Option<QsfpModule>) {
        let [first, second] = &mut self.cages;
        let cage = if cage == 0 { first } else { second };
        cage.set_module(board, module);
    }

    fn pins(&mut self, offset: BarOff) -> Option<(&mut Pins, u32)> {
        let [first, second] = &mut self.cages;
        let (pins, base) = match offset.0 {
            GPIO..QSFP1 => (&mut self.gpio, GPIO),
            QSFP1..QSFP2 => (first, QSFP1),
            QSFP2..0x40_02c0 => (second, QSFP2),
            _ => return None,
        };
        Some((pins, (offset.0 - base) / 8))
    }

    /// Degrees at which nothing is wrong: 48 now, limits 0 and 95, critical 105; in quarters.
    fn thermometer() -> u64 {
        ASIC_STS_THERM::CURR_TEMP.put(48 * 4)
            | ASIC_STS_THERM::LO_TEMP.put(0)
            | ASIC_STS_THERM::HI_TEMP.put(95 * 4)
            | ASIC_STS_THERM::CRIT_TEMP.put(105 * 4)
    }

    fn scratch_index(offset: BarOff) -> Option<usize> {
        let delta = offset.0.checked_sub(csr::ASIC_CFG_SCRATCH.offset.0)?;
        (delta < 32).then_some(delta as usize / 8)
    }

    fn is_plain(offset: BarOff) -> bool {
        let is = |row: csr::Csr| row.locate(offset).is_some();
        is(csr::ASIC_CFG_DRV_STR)
            || is(csr::ASIC_CFG_THERM_POLL_EN)
            || is(csr::ASIC_PCIE_SD_HOST_CMD)
            || is(csr::ASIC_PCIE_SD_INTRPT_DATA_CODE)
            || is(csr::ASIC_PCIE_SD_INTRPT_ENABLE)
            || is(csr::ASIC_PCIE_SD_INTRPT_LIST)
    }

    /// Reads a register; `None` when there is none.
    pub fn read(&mut self, _board: &mut Board, offset: BarOff) -> Option<u64> {
        if let Some(index) = Self::scratch_index(offset) {
            return self.scratch.get(index).copied();
        }
        if let Some((pins, register)) = self.pins(offset) {
            return Some(pins.read(register));
        }
        let is = |row: csr::Csr| row.off() == offset;
        Some(if is(csr::ASIC_CFG_SBUS_REQUEST) {
            self.sbus.request
        } else if is(csr::ASIC_CFG_SBUS_EXECUTE) {
            self.sbus.execute
        } else if is(csr::ASIC_STS_SBUS_RESULT) {
            self.sbus.result
        } else if is(csr::ASIC_STS_SBUS_COUNTERS) {
            self.sbus.counters()
        } else if is(csr::ASIC_CFG_MUTEX) {
            self.mutex
        } else if is(csr::ASIC_STS_THERM) {
            Self::thermometer()
        } else if is(csr::ASIC_EEP_CTL_STAT) {
            self.eprom.ctl_stat
        } else if is(csr::ASIC_EEP_ADDR_CMD) {
            self.eprom.addr_cmd
        } else if is(csr::ASIC_EEP_DATA) {
            self.eprom.next()
        } else if is(csr::ASIC_PCIE_SD_HOST_STATUS) || is(csr::ASIC_PCIE_SD_INTRPT_STATUS) {
            // There is no SerDes to hand over to: the link trained to 8 GT/s before the function was seen.
            0
        } else if Self::is_plain(offset) {
            self.plain.get(&offset).copied().unwrap_or(0)
        } else {
            return None;
        })
    }

    /// Writes a register; `false` when there is none.
    pub fn write(&mut self, board: &mut Board, offset: BarOff, value: u64) -> bool {
        if let Some(index) = Self::scratch_index(offset) {
            if let Some(word) = self.scratch.get_mut(index) {
                *word = value;
            }
            return true;
        }
        if let Some((pins, register)) = self.pins(offset) {
            pins.write(board, register, value);
            return true;
        }
        let is = |row: csr::Csr| row.off() == offset;
        if is(csr::ASIC_CFG_SBUS_REQUEST) {
            board.firmware.take_sbus_code(self.sbus.set_request(value));
        } else if is(csr::ASIC_CFG_SBUS_EXECUTE) {
            board.firmware.take_sbus_code(self.sbus.set_execute(value));
        } else if is(csr::ASIC_CFG_MUTEX) {
            // Held by the other HFI: only a release gets through (firmware.c:acquire_hw_mutex relies on that).
            if value == 0 || self.mutex == 0 {
                self.mutex = value;
            }
        } else if is(csr::ASIC_EEP_CTL_STAT) {
            self.eprom.ctl_stat = value;
        } else if is(csr::ASIC_EEP_ADDR_CMD) {
            self.eprom.command(value);
        } else if Self::is_plain(offset) {
            self.plain.insert(offset, value);
        } else {
            return is(csr::ASIC_STS_SBUS_RESULT)
                || is(csr::ASIC_STS_SBUS_COUNTERS)
                || is(csr::ASIC_STS_THERM)
                || is(csr::ASIC_EEP_DATA)
                || is(csr::ASIC_PCIE_SD_HOST_STATUS)
                || is(csr::ASIC_PCIE_SD_INTRPT_STATUS);
        }
        true
    }
}
