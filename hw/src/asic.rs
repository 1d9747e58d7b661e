//! What the two functions of a chip share: the hardware mutex, the resource bits in the scratch register, the SBus.

use crate::error::{FirmwareError, Gone};
use crate::regs::{Regs, limit};
use opx_bus::{PciFunction, poll};
use opx_defs::chip;
use opx_defs::csr;
use std::time::Duration;

/// Waits between two tries for the mutex (`firmware.c:acquire_hw_mutex`).
const MUTEX_PAUSE: Duration = Duration::from_millis(20);
/// Waits between two tries for a resource (`firmware.c:acquire_chip_resource`).
const RESOURCE_PAUSE: Duration = Duration::from_micros(100);

/// The shared part of the chip, seen by one of its functions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asic {
    /// 0 or 1: which function this is.
    pub hfi_id: u8,
}

impl Asic {
    /// `firmware.c:acquire_hw_mutex`.
    fn acquire_mutex<B: PciFunction>(self, regs: &Regs<B>) -> Result<(), FirmwareError> {
        let mine = 1u64 << self.hfi_id;
        if regs.read_any(&csr::ASIC_CFG_MUTEX, 0)? & 0xff == mine {
            return Ok(());
        }
        let mut held = 0;
        for attempt in 0..2 {
            let start = regs.bus().now();
            loop {
                regs.write(&csr::ASIC_CFG_MUTEX, mine);
                held = regs.read_any(&csr::ASIC_CFG_MUTEX, 0)? & 0xff;
                if held == mine {
                    return Ok(());
                }
                if regs.bus().now().since(start) > limit::HW_MUTEX {
                    break;
                }
                regs.pause(MUTEX_PAUSE);
            }
            if attempt == 0 {
                // Its holder is gone: nothing holds it that long.
                log::warn!("{}: breaking the chip's mutex, held by {held:#x}", regs.adapter());
                regs.write(&csr::ASIC_CFG_MUTEX, 0);
            }
        }
        let what = "the chip's mutex";
        Err(FirmwareError::Shared { adapter: regs.adapter(), what, value: held, limit: limit::HW_MUTEX * 2 })
    }

    /// `firmware.c:release_hw_mutex`.
    fn release_mutex<B: PciFunction>(self, regs: &Regs<B>) -> Result<(), Gone> {
        if regs.read_any(&csr::ASIC_CFG_MUTEX, 0)? & 0xff == 1 << self.hfi_id {
            regs.write(&csr::ASIC_CFG_MUTEX, 0);
        }
        Ok(())
    }

    fn mask(self, resource: u64) -> u64 {
        if self.hfi_id == 0 { resource } else { resource << chip::CR_DYN_SHIFT }
    }

    /// Changes the resource bits under the mutex.
    fn change<B: PciFunction>(
        self,
        regs: &Regs<B>,
        change: impl FnOnce(u64) -> Option<u64>,
    ) -> Result<Result<(), u64>, FirmwareError> {
        self.acquire_mutex(regs)?;
        let old = regs.read_any(&csr::ASIC_CFG_SCRATCH, 0)?;
        let done = match change(old) {
            Some(new) => {
                regs.write(&csr::ASIC_CFG_SCRATCH, new);
                // Makes the write visible to the other function's driver before the mutex is given back.
                regs.read_any(&csr::ASIC_CFG_SCRATCH, 0)?;
                Ok(())
            }
            None => Err(old),
        };
        self.release_mutex(regs)?;
        Ok(done)
    }

    /// Gives back everything that a dead owner of this function held (`firmware.c:init_chip_resources`).
    pub fn clear_resources<B: PciFunction>(self, regs: &Regs<B>) -> Result<(), FirmwareError> {
        let mine = self.mask(chip::CR_DYN_MASK);
        self.change(regs, |bits| Some(bits & !mine)).map(drop)
    }

    /// `firmware.c:acquire_chip_resource`; neither function may hold any of `others`.
    fn acquire<B: PciFunction>(
        self,
        regs: &Regs<B>,
        resource: u64,
        others: u64,
        limit: Duration,
        what: &'static str,
    ) -> Result<(), FirmwareError> {
        let any = others | others << chip::CR_DYN_SHIFT;
        let mine = self.mask(resource);
        let start = regs.bus().now();
        loop {
            match self.change(regs, |bits| (bits & any == 0).then_some(bits | mine))? {
                Ok(()) => return Ok(()),
                Err(value) if regs.bus().now().since(start) >= limit => {
                    return Err(FirmwareError::Shared { adapter: regs.adapter(), what, value, limit });
                }
                Err(_) => regs.pause(RESOURCE_PAUSE),
            }
        }
    }

    /// `firmware.c:release_chip_resource`.
    fn release<B: PciFunction>(self, regs: &Regs<B>, resource: u64) -> Result<(), FirmwareError> {
        let mine = self.mask(resource);
        self.change(regs, |bits| Some(bits & !mine)).map(drop)
    }

    /// Sets bits that belong to neither function and stay.
    pub fn set_bits<B: PciFunction>(self, regs: &Regs<B>, bits: u64) -> Result<(), FirmwareError> {
        self.change(regs, |old| Some(old | bits)).map(drop)
    }

    /// Does `work` with a resource of the chip taken, and gives it back however that ends.
    pub fn holding<B: PciFunction, T, E: From<FirmwareError>>(
        self,
        regs: &Regs<B>,
        resource: u64,
        others: u64,
        limit: Duration,
        what: &'static str,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.acquire(regs, resource, others, limit, what)?;
        let done = work();
        self.release(regs, resource)?;
        done
    }

    /// Does `work` with the SBus taken and in fast mode (`firmware.c:set_sbus_fast_mode, clear_sbus_fast_mode`).
    pub fn with_sbus<B: PciFunction>(
        self,
        regs: &Regs<B>,
        work: impl FnOnce(Sbus<'_, B>) -> Result<(), FirmwareError>,
    ) -> Result<(), FirmwareError> {
        use csr::ASIC_STS_SBUS_COUNTERS as counters;
        self.acquire(regs, chip::CR_SBUS, chip::CR_SBUS, limit::SBUS_RESOURCE, "the chip's SBus")?;
        regs.write(&csr::ASIC_CFG_SBUS_EXECUTE, csr::ASIC_CFG_SBUS_EXECUTE::FAST_MODE.mask());
        let result = work(Sbus { regs });
        // Every request must have been carried out before fast mode ends; Linux goes on after the limit, and so do we.
        let mut gone = None;
        let _ = poll::until(regs.bus(), limit::SBUS_COUNTERS, || match regs.read(&csr::ASIC_STS_SBUS_COUNTERS) {
            Ok(value) => (counters::EXECUTE_CNT.get(value) == counters::RCV_DATA_VALID_CNT.get(value)).then_some(()),
            Err(error) => {
                gone = Some(error);
                Some(())
            }
        });
        if let Some(gone) = gone {
            return Err(gone.into());
        }
        regs.write(&csr::ASIC_CFG_SBUS_EXECUTE, 0);
        self.release(regs, chip::CR_SBUS)?;
        result
    }
}

/// The SBus in fast mode: each write of the request register is carried out at once.
#[derive(Debug)]
pub(crate) struct Sbus<'a, B> {
    pub regs: &'a Regs<B>,
}

impl<B: PciFunction> Sbus<'_, B> {
    /// Writes a receiver's register: `firmware.c:sbus_request` with WRITE_SBUS_RECEIVER.
    pub fn write(&self, receiver: u8, register: u8, data: u32) {
        use csr::ASIC_CFG_SBUS_REQUEST as request;
        let value = request::RECEIVER_ADDR.put(receiver.into())
            | request::DATA_ADDR.put(register.into())
            | request::COMMAND.put(chip::WRITE_SBUS_RECEIVER)
            | request::DATA_IN.put(data.into());
        self.regs.write(&csr::ASIC_CFG_SBUS_REQUEST, value);
    }
}
