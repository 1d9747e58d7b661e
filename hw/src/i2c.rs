//! I2C to the module in the cage, bit by bit on two open-drain pins.
//!
//! Source: `qsfp.c` for the pins, Linux's `i2c-algo-bit.c` for the order of edges and the acknowledgements.

use crate::error::{Gone, QsfpError};
use crate::regs::Regs;
use opx_bus::{PciFunction, poll};
use opx_defs::csr::{self, Csr};
use std::time::Duration;

/// Half a clock (`qsfp.c:init_i2c_bus`, algo.udelay).
const HALF: Duration = Duration::from_micros(5);
/// How long a module may hold the clock low (algo.timeout).
const STRETCH: Duration = Duration::from_millis(100);
/// Before a line is looked at: 1 us to pull up, 250 ns to hold (`qsfp.c:hfi1_getsda`).
const RISE: Duration = Duration::from_micros(2);

/// The bus of one cage. Whoever uses it holds the chip's resource for it.
pub(crate) struct I2c<'a, B> {
    regs: &'a Regs<B>,
    lines: &'static Csr,
    pull: &'static Csr,
}

impl<'a, B: PciFunction> I2c<'a, B> {
    /// The cage of function `hfi_id` (`qsfp.c:i2c_in_csr, i2c_oe_csr`).
    pub fn new(regs: &'a Regs<B>, hfi_id: u8) -> Self {
        let (lines, pull) = match hfi_id {
            0 => (&csr::ASIC_QSFP1_IN, &csr::ASIC_QSFP1_OE),
            _ => (&csr::ASIC_QSFP2_IN, &csr::ASIC_QSFP2_OE),
        };
        Self { regs, lines, pull }
    }

    /// OE 1 pulls the line low, 0 lets it go.
    fn set(&self, line: csr::Field, high: bool) -> Result<(), Gone> {
        let value = self.regs.read(self.pull)?;
        self.regs.write(self.pull, line.set(value, u64::from(!high)));
        // The read forces the write into the chip.
        self.regs.read(self.pull)?;
        Ok(())
    }

    fn data(&self, high: bool) -> Result<(), Gone> {
        self.set(csr::ASIC_QSFP1_OE::I2CDAT, high)?;
        self.regs.pause(HALF);
        Ok(())
    }

    fn clock_low(&self) -> Result<(), Gone> {
        self.set(csr::ASIC_QSFP1_OE::I2CCLK, false)?;
        self.regs.pause(HALF);
        Ok(())
    }

    /// Lets the clock go and waits until the module does, too.
    fn clock_high(&self) -> Result<(), QsfpError> {
        self.set(csr::ASIC_QSFP1_OE::I2CCLK, true)?;
        self.regs.pause(RISE);
        let high = poll::until(self.regs.bus(), STRETCH, || match self.regs.read(self.lines) {
            Ok(lines) => csr::ASIC_QSFP1_IN::I2CCLK.is_set(lines).then_some(Ok(())),
            Err(gone) => Some(Err(gone)),
        });
        match high {
            Ok(seen) => seen?,
            Err(_) => return Err(QsfpError::Held { adapter: self.regs.adapter(), line: "clock", limit: STRETCH }),
        }
        self.regs.pause(HALF);
        Ok(())
    }

    fn start(&self) -> Result<(), QsfpError> {
        self.data(true)?;
        self.clock_high()?;
        if !csr::ASIC_QSFP1_IN::I2CDAT.is_set(self.regs.read(self.lines)?) {
            return Err(QsfpError::Held { adapter: self.regs.adapter(), line: "data", limit: Duration::ZERO });
        }
        self.data(false)?;
        Ok(self.clock_low()?)
    }

    fn stop(&self) -> Result<(), QsfpError> {
        self.data(false)?;
        self.clock_high()?;
        Ok(self.data(true)?)
    }

    fn bit_out(&self, bit: bool) -> Result<(), QsfpError> {
        self.data(bit)?;
        self.clock_high()?;
        Ok(self.clock_low()?)
    }

    fn bit_in(&self) -> Result<bool, QsfpError> {
        self.data(true)?;
        self.clock_high()?;
        let bit = csr::ASIC_QSFP1_IN::I2CDAT.is_set(self.regs.read(self.lines)?);
        self.clock_low()?;
        Ok(bit)
    }

    /// A byte out; whether it was acknowledged.
    fn byte_out(&self, byte: u8) -> Result<bool, QsfpError> {
        for bit in (0..8).rev() {
            self.bit_out(byte >> bit & 1 != 0)?;
        }
        Ok(!self.bit_in()?)
    }

    fn byte_in(&self, acknowledge: bool) -> Result<u8, QsfpError> {
        let mut byte = 0;
        for _ in 0..8 {
            byte = byte << 1 | u8::from(self.bit_in()?);
        }
        self.bit_out(!acknowledge)?;
        Ok(byte)
    }

    fn send(&self, device: u8, bytes: &[u8]) -> Result<(), QsfpError> {
        for (place, byte) in [device].iter().chain(bytes).enumerate() {
            if !self.byte_out(*byte)? {
                return Err(QsfpError::NoAnswer { adapter: self.regs.adapter(), device, place });
            }
        }
        Ok(())
    }

    /// Writes bytes from `offset` on. `device` is the address as it is sent, its lowest bit 0.
    pub fn write(&self, device: u8, offset: u8, bytes: &[u8]) -> Result<(), QsfpError> {
        self.start()?;
        let sent = self.send(device, &[&[offset], bytes].concat());
        self.stop()?;
        sent
    }

    /// Reads bytes from `offset` on.
    pub fn read(&self, device: u8, offset: u8, bytes: &mut [u8]) -> Result<(), QsfpError> {
        self.start()?;
        let read = self.send(device, &[offset]).and_then(|()| {
            self.start()?;
            self.send(device | 1, &[])?;
            let last = bytes.len().saturating_sub(1);
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = self.byte_in(at < last)?;
            }
            Ok(())
        });
        self.stop()?;
        read
    }
}
