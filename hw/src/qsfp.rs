//! The module in the adapter's cage: what its EEPROM says (SFF-8636), read over I2C.
//!
//! Source: `qsfp.c`, `qsfp.h`.

use crate::asic::Asic;
use crate::eprom::DISCRETE;
use crate::error::QsfpError;
use crate::hfi::{Hfi, Inner};
use crate::i2c::I2c;
use crate::regs::{Regs, limit};
use opx_bus::PciFunction;
use opx_defs::chip;
use opx_defs::csr;
use std::time::Duration;

/// The module's address on the bus (`qsfp.h:QSFP_DEV`).
const DEVICE: u8 = 0xa0;
/// Where the page of the upper half is chosen (`qsfp.h:QSFP_PAGE_SELECT_BYTE_OFFS`).
const PAGE_SELECT: u8 = 127;
/// Half of what is seen at a time, and what one read may not cross (`qsfp.h:QSFP_RW_BOUNDARY`).
const HALF: usize = 128;
/// A module takes 5 to 10 ms over a write (`qsfp.c:qsfp_read`).
const AFTER_WRITE: Duration = Duration::from_millis(5);
/// Paging is off when this bit of byte 2 is set (`qsfp.c:refresh_qsfp_cache`).
const FLAT: u8 = 4;

/// What a module says of itself: the lower half of its memory, and pages 0 to 3 of the upper half; a page that it doesn't
/// have is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    bytes: [u8; 5 * HALF],
}

impl Module {
    fn at(&self, offset: usize) -> u8 {
        self.bytes.get(offset).copied().unwrap_or(0)
    }

    /// Text that ends in spaces; what isn't printable is a question mark.
    fn text(&self, offset: usize, len: usize) -> String {
        let bytes = self.bytes.get(offset..offset + len).unwrap_or_default();
        let printable = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '?' };
        bytes.iter().map(printable).collect::<String>().trim_end().to_owned()
    }

    /// All bytes: the lower half, then pages 0 to 3, 128 bytes each.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Who made it.
    pub fn vendor(&self) -> String {
        self.text(148, 16)
    }

    /// The maker's IEEE number.
    pub fn vendor_oui(&self) -> [u8; 3] {
        [self.at(165), self.at(166), self.at(167)]
    }

    /// Part number.
    pub fn part_number(&self) -> String {
        self.text(168, 16)
    }

    /// Revision.
    pub fn revision(&self) -> String {
        self.text(184, 2)
    }

    /// Serial number.
    pub fn serial_number(&self) -> String {
        self.text(196, 16)
    }

    /// Date of manufacture, YYMMDD.
    pub fn date(&self) -> String {
        self.text(212, 6)
    }

    /// What carries the signal, in words.
    pub fn technology(&self) -> &'static str {
        const NAMES: [&str; 16] = [
            "850 nm VCSEL",
            "1310 nm VCSEL",
            "1550 nm VCSEL",
            "1310 nm FP",
            "1310 nm DFB",
            "1550 nm DFB",
            "1310 nm EML",
            "1550 nm EML",
            "copper, other",
            "1490 nm DFB",
            "copper, not equalised",
            "copper, equalised",
            "undefined",
            "copper, active at both ends",
            "copper, active at the far end",
            "copper, active at the near end",
        ];
        NAMES.get(usize::from(self.at(147) >> 4)).copied().unwrap_or("undefined")
    }

    /// Whether it is a copper cable (`qsfp.h:QSFP_IS_CU`).
    pub fn is_copper(&self) -> bool {
        0xed00_u16 >> (self.at(147) >> 4) & 1 != 0
    }

    /// Metres of a copper cable (optical modules don't know theirs).
    pub fn length_m(&self) -> Option<u8> {
        self.is_copper().then(|| self.at(146))
    }

    /// Attenuation of a copper cable at 12.5G and at 25G, dB.
    pub fn attenuation_db(&self) -> Option<(u8, u8)> {
        self.is_copper().then(|| (self.at(186), self.at(187)))
    }

    /// Most power that it takes, tenths of a watt (`qsfp.c:get_qsfp_power_class, pwr_codes`).
    pub fn power_dw(&self) -> u8 {
        let code = self.at(129);
        match (code & 3, code >> 6) {
            (1, _) => 40,
            (2, _) => 45,
            (3, _) => 50,
            (_, 0) => 15,
            (_, 1) => 20,
            (_, 2) => 25,
            (_, _) => 35,
        }
    }

    /// Degrees Celsius inside of it, in 256ths; modules without a thermometer, such as passive cables, say 0.
    pub fn temperature_256ths(&self) -> i16 {
        i16::from_be_bytes([self.at(22), self.at(23)])
    }

    /// Whether the check bytes of page 0 fit what they stand for (SFF-8636: sums of bytes 128 to 190 and 192 to 222).
    pub fn is_sound(&self) -> bool {
        let sum = |range: std::ops::Range<usize>| {
            self.bytes.get(range).unwrap_or_default().iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte))
        };
        sum(128..191) == self.at(191) && sum(192..223) == self.at(223)
    }
}

impl<B: PciFunction> Hfi<B> {
    /// Whether a module is in the adapter's cage (`qsfp.c:qsfp_mod_present`).
    ///
    /// # Errors
    /// When the adapter is gone.
    pub fn has_module(&self) -> Result<bool, crate::Gone> {
        self.inner.has_module()
    }

    /// Reads the module in the adapter's cage. That takes a tenth of a second or more.
    ///
    /// ```
    /// # use opx_emu::{Config, Icode, Lab, Pacing, QsfpModule};
    /// # use opx_hw::{Hfi, Options};
    /// # let adapter = Lab::new(Pacing::Virtual).add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
    /// adapter.set_module(Some(QsfpModule::copper("ACME", "CABLE-3M", "42", 3)));
    /// let module = Hfi::open(adapter.bus(), Options::default())?.module()?;
    /// assert_eq!((module.vendor(), module.length_m()), ("ACME".to_owned(), Some(3)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When there is none, it doesn't answer, or the bus is in use.
    pub fn module(&self) -> Result<Module, QsfpError> {
        self.inner.read_module()
    }
}

impl<B: PciFunction> Inner<B> {
    fn has_module(&self) -> Result<bool, crate::Gone> {
        has_module(&self.regs, self.asic)
    }

    fn read_module(&self) -> Result<Module, QsfpError> {
        read_module(&self.regs, self.asic, self.info.device)
    }
}

/// `qsfp.c:qsfp_mod_present`.
pub(crate) fn has_module<B: PciFunction>(regs: &Regs<B>, asic: Asic) -> Result<bool, crate::Gone> {
    let lines = if asic.hfi_id == 0 { &csr::ASIC_QSFP1_IN } else { &csr::ASIC_QSFP2_IN };
    Ok(!csr::ASIC_QSFP1_IN::MODPRST_N.is_set(regs.read(lines)?))
}

/// `qsfp.c:refresh_qsfp_cache`, under the chip's resource.
pub(crate) fn read_module<B: PciFunction>(regs: &Regs<B>, asic: Asic, device: u16) -> Result<Module, QsfpError> {
    if !has_module(regs, asic)? {
        return Err(QsfpError::Empty { adapter: regs.adapter() });
    }
    let chain = if asic.hfi_id == 0 { chip::CR_I2C1 } else { chip::CR_I2C2 };
    // The two chains of a discrete chip are one lock (firmware.c:__acquire_chip_resource).
    let others = if device == DISCRETE { chip::CR_I2C1 | chip::CR_I2C2 } else { chain };
    asic.holding(regs, chain, others, limit::I2C_RESOURCE, "the I2C bus", || {
        let i2c = I2c::new(regs, asic.hfi_id);
        let mut bytes = [0; 5 * HALF];
        let [lower, zero, one, two, three] = bytes.as_chunks_mut::<HALF>().0 else { return Ok(Module { bytes }) };
        select_page(regs, &i2c, 0)?;
        i2c.read(DEVICE, 0, lower)?;
        i2c.read(DEVICE, HALF as u8, zero)?;
        if lower[2] & FLAT == 0 {
            // Which further pages there are: byte 195.
            let has = zero[195 - HALF];
            for (page, bytes, there) in [(1, one, has & 0x40 != 0), (2, two, has & 0x80 != 0), (3, three, true)] {
                if there {
                    select_page(regs, &i2c, page)?;
                    i2c.read(DEVICE, HALF as u8, bytes)?;
                }
            }
        }
        Ok(Module { bytes })
    })
}

fn select_page<B: PciFunction>(regs: &Regs<B>, i2c: &I2c<'_, B>, page: u8) -> Result<(), QsfpError> {
    let written = i2c.write(DEVICE, PAGE_SELECT, &[page]);
    regs.pause(AFTER_WRITE);
    written
}
