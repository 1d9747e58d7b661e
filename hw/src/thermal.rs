//! The chip's thermometer.
//!
//! Source: `chip.c:thermal_init, hfi1_tempsense_rd`.

use crate::error::{ChipError, FirmwareError, Gone, ThermalError};
use crate::hfi::{Hfi, Inner};
use crate::regs::{Regs, limit};
use opx_bus::PciFunction;
use opx_defs::chip;
use opx_defs::csr;
use std::time::Duration;

/// SBus address of the sensor (`chip.c:SBUS_THERMAL`).
const SENSOR: u8 = 0x4f;
/// Time in which polling stops, and for the first conversion.
const POLLING_STOPS: Duration = Duration::from_millis(100);
const FIRST_CONVERSION: Duration = Duration::from_millis(22);
/// Clock divider, 100 MHz to 2 MHz, and the sensor's mode.
const DIVIDER: u32 = 0x32;
const MONITOR: u32 = 1;

/// A temperature in quarters of a degree Celsius.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quarters(pub u16);

impl std::fmt::Display for Quarters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02} °C", self.0 / 4, self.0 % 4 * 25)
    }
}

/// What the thermometer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Temperature {
    /// Now.
    pub current: Quarters,
    /// Below this it is too cold.
    pub low: Quarters,
    /// Above this it is too hot.
    pub high: Quarters,
    /// Above this the chip has to be stopped.
    pub critical: Quarters,
    /// Whether each limit was passed: low, high, critical (a bit each, from the lowest on).
    pub triggers: u8,
}

impl<B: PciFunction> Hfi<B> {
    /// The chip's temperature. The first call sets the sensor up, which takes an eighth of a second.
    ///
    /// The chip reads the sensor by a program on the SBus master, which Linux loads for PCIe generation 3 and this driver
    /// doesn't. On an adapter that Linux never ran since power-on, it may show 0.
    ///
    /// ```
    /// # use opx_emu::{Config, Lab, Pacing};
    /// # use opx_hw::{Hfi, Options};
    /// # let firmware = tempfile::tempdir()?;
    /// # opx_emu::firmware::write_files(firmware.path())?;
    /// # let options = Options { firmware_dir: Some(firmware.path().to_owned()), ..Options::default() };
    /// # let adapter = Lab::new(Pacing::Virtual).add(Config::default());
    /// let temperature = Hfi::open(adapter.bus(), options)?.temperature()?;
    /// assert_eq!(temperature.current.to_string(), "48.00 °C");
    /// assert!(temperature.current < temperature.critical);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the implementation has no sensor (anything but silicon), or the SBus isn't to be had.
    pub fn temperature(&self) -> Result<Temperature, ThermalError> {
        self.inner.temperature()
    }
}

impl<B: PciFunction> Inner<B> {
    fn temperature(&self) -> Result<Temperature, ThermalError> {
        use csr::ASIC_STS_THERM as therm;
        if u64::from(self.info.icode) != chip::ICODE_RTL_SILICON {
            return Err(ThermalError::None { adapter: self.adapter(), icode: self.info.icode });
        }
        if self.regs.read_any(&csr::ASIC_CFG_SCRATCH, 0)? & chip::CR_THERM_INIT == 0 {
            self.init_sensor()?;
        }
        let value = self.regs.read(&csr::ASIC_STS_THERM)?;
        let quarters = |field: csr::Field| Quarters(field.get(value) as u16);
        Ok(Temperature {
            current: quarters(therm::CURR_TEMP),
            low: quarters(therm::LO_TEMP),
            high: quarters(therm::HI_TEMP),
            critical: quarters(therm::CRIT_TEMP),
            triggers: therm::LOW.get(value) as u8,
        })
    }

    fn init_sensor(&self) -> Result<(), FirmwareError> {
        let regs = &self.regs;
        let (sbus, what) = (chip::CR_SBUS, "the chip's SBus");
        self.asic.holding(regs, sbus, sbus, limit::SBUS_RESOURCE, what, || {
            regs.write(&csr::ASIC_CFG_THERM_POLL_EN, 0);
            regs.pause(POLLING_STOPS);
            request(regs, 0, chip::RESET_SBUS_RECEIVER, 0)?;
            // The block's reset on, clock, mode, reset off: it begins to convert.
            for (register, data) in [(0, 1), (1, DIVIDER), (3, MONITOR), (0, 2)] {
                request(regs, register, chip::WRITE_SBUS_RECEIVER, data)?;
            }
            regs.pause(FIRST_CONVERSION);
            regs.write(&csr::ASIC_CFG_THERM_POLL_EN, csr::ASIC_CFG_THERM_POLL_EN::EN.mask());
            Ok::<_, FirmwareError>(())
        })?;
        self.asic.set_bits(regs, chip::CR_THERM_INIT)
    }
}

/// One request over the SBus in slow mode: `firmware.c:sbus_request_slow`.
fn request<B: PciFunction>(regs: &Regs<B>, register: u8, command: u64, data: u32) -> Result<(), ChipError> {
    use csr::{ASIC_CFG_SBUS_REQUEST as ask, ASIC_STS_SBUS_RESULT as result};
    let value = ask::RECEIVER_ADDR.put(SENSOR.into())
        | ask::DATA_ADDR.put(register.into())
        | ask::COMMAND.put(command)
        | ask::DATA_IN.put(data.into());
    regs.write(&csr::ASIC_CFG_SBUS_REQUEST, value);
    regs.write(&csr::ASIC_CFG_SBUS_EXECUTE, csr::ASIC_CFG_SBUS_EXECUTE::EXECUTE.mask());
    let done = |value| result::DONE.is_set(value) && result::RCV_DATA_VALID.is_set(value);
    let ended = regs.wait(&csr::ASIC_STS_SBUS_RESULT, 0, limit::SBUS_COUNTERS, "DONE and RCV_DATA_VALID", done);
    regs.write(&csr::ASIC_CFG_SBUS_EXECUTE, 0);
    ended?;
    let ready = |value| !result::DONE.is_set(value);
    regs.wait(&csr::ASIC_STS_SBUS_RESULT, 0, limit::SBUS_COUNTERS, "DONE clear", ready)?;
    Ok(())
}

impl From<Gone> for ThermalError {
    fn from(gone: Gone) -> Self {
        Self::Firmware(gone.into())
    }
}
