//! Loading firmware into the chip: the fabric serdes over the SBus, the 8051 through its code memory, both checked by the
//! chip's security engine.

use crate::asic::{Asic, Sbus};
use crate::dc8051::Dc8051;
use crate::error::{ChipError, FirmwareError};
use crate::firmware_file::{FirmwareFile, dwords, qwords};
use crate::regs::{Regs, limit};
use opx_bus::PciFunction;
use opx_defs::chip;
use opx_defs::csr::{self, Csr};
use std::path::{Path, PathBuf};
use std::time::Duration;

const RSA_INIT: u64 = 1;
const RSA_START: u64 = 2;
const RSA_IDLE: u64 = 0;
const RSA_ACTIVE: u64 = 1;
const RSA_DONE: u64 = 2;

/// SBus addresses of the fabric serdes and their broadcast groups, for HFI 0 and 1 (`firmware.c:fabric_serdes_addrs`).
const FABRIC_SERDES: [[u8; 4]; 2] = [[0x01, 0x02, 0x03, 0x04], [0x28, 0x29, 0x2a, 0x2b]];
const FABRIC_BROADCAST: [u8; 2] = [0xe4, 0xe5];
const ALL_FABRIC_BROADCAST: u8 = 0xe1;

/// Two authorisations must be 50 us apart, with a margin (`firmware.c:__obtain_firmware`).
const BETWEEN_LOADS: Duration = Duration::from_micros(100);

/// The firmware that this kind of chip needs.
#[derive(Debug)]
pub(crate) struct Firmware {
    dc8051: FirmwareFile,
    /// Only silicon has serdes with firmware.
    fabric: Option<FirmwareFile>,
    dir: PathBuf,
    alternate: bool,
}

impl Firmware {
    /// Reads the files for implementation `icode` from `dir`; `None` when that needs none. Silicon falls back to the
    /// debug-signed files, named `_d` (`firmware.c:hfi1_firmware_init, __obtain_firmware`).
    ///
    /// Linux also wants hfi1_sbus.fw and hfi1_pcie.fw. They are only for the transition to PCIe generation 3, which is
    /// the business of whoever owns the slot.
    pub fn obtain(dir: &Path, icode: u8) -> Result<Option<Self>, FirmwareError> {
        match u64::from(icode) {
            chip::ICODE_FUNCTIONAL_SIMULATOR => Ok(None),
            chip::ICODE_RTL_SILICON => match Self::silicon(dir, false) {
                Ok(firmware) => Ok(Some(firmware)),
                // The message names the file that should be there.
                Err(first) => Self::silicon(dir, true).map(Some).map_err(|_| first),
            },
            _ => {
                let dc8051 = FirmwareFile::read(&dir.join("hfi_dc8051.bin"))?;
                Ok(Some(Self { dc8051, fabric: None, dir: dir.to_owned(), alternate: true }))
            }
        }
    }

    fn silicon(dir: &Path, alternate: bool) -> Result<Self, FirmwareError> {
        let suffix = if alternate { "_d" } else { "" };
        let fabric = FirmwareFile::read(&dir.join(format!("hfi1_fabric{suffix}.fw")))?;
        let dc8051 = FirmwareFile::read(&dir.join(format!("hfi1_dc8051{suffix}.fw")))?;
        Ok(Self { dc8051, fabric: Some(fabric), dir: dir.to_owned(), alternate })
    }

    /// Loads everything: `firmware.c:load_firmware`. When the chip refuses the files, the alternate ones are tried.
    pub fn load<B: PciFunction>(
        &mut self,
        regs: &Regs<B>,
        asic: Asic,
        dc8051: &mut Dc8051,
    ) -> Result<(), FirmwareError> {
        match self.load_once(regs, asic, dc8051) {
            Err(first @ FirmwareError::Refused { .. }) if !self.alternate => {
                let Ok(alternate) = Self::silicon(&self.dir, true) else { return Err(first) };
                log::warn!("{first}; trying the alternate files");
                *self = alternate;
                regs.pause(BETWEEN_LOADS);
                self.load_once(regs, asic, dc8051)
            }
            result => result,
        }
    }

    fn load_once<B: PciFunction>(&self, regs: &Regs<B>, asic: Asic, dc8051: &mut Dc8051) -> Result<(), FirmwareError> {
        if self.fabric.is_some() {
            asic.with_sbus(regs, |sbus| {
                let id = usize::from(asic.hfi_id & 1);
                // firmware.c:set_serdes_broadcast: written whole, never read first, as its manufacturer says.
                for receiver in FABRIC_SERDES[id].into_iter().rev() {
                    let groups = u32::from(ALL_FABRIC_BROADCAST) << 4 | u32::from(FABRIC_BROADCAST[id]) << 16;
                    sbus.write(receiver, 0xfd, groups);
                }
                self.load_fabric(&sbus, asic)
            })?;
            regs.pause(BETWEEN_LOADS);
        }
        self.load_8051(regs, dc8051)
    }

    /// Resets the fabric serdes, which only loading them again does: `firmware.c:fabric_serdes_reset`. The 8051 must be
    /// offline.
    pub fn reset_fabric_serdes<B: PciFunction>(&self, regs: &Regs<B>, asic: Asic) -> Result<(), FirmwareError> {
        if self.fabric.is_none() {
            return Ok(());
        }
        asic.with_sbus(regs, |sbus| self.load_fabric(&sbus, asic))
    }

    /// `firmware.c:load_fabric_serdes_firmware`.
    fn load_fabric<B: PciFunction>(&self, sbus: &Sbus<'_, B>, asic: Asic) -> Result<(), FirmwareError> {
        let Some(file) = &self.fabric else { return Ok(()) };
        let all = FABRIC_BROADCAST[usize::from(asic.hfi_id & 1)];
        load_security_variables(sbus.regs, file);
        // Serdes in reset, its processor off; 100 reference clocks of 156.25 MHz are 640 ns.
        sbus.write(all, 0x07, 0x11);
        sbus.regs.pause(Duration::from_micros(1));
        sbus.write(all, 0x07, 0x10);
        // Instruction memory override on, code, override off, ECC on.
        sbus.write(all, 0x00, 0x4000_0000);
        for dword in dwords(file.code()) {
            sbus.write(all, 0x0a, dword);
        }
        sbus.write(all, 0x00, 0);
        sbus.write(all, 0x0b, 0x000c_0000);
        run_rsa(sbus.regs, "fabric serdes", file.signature())?;
        // Processor on, core interrupts on.
        sbus.write(all, 0x07, 0x02);
        sbus.write(all, 0x08, 0);
        Ok(())
    }

    /// `firmware.c:load_8051_firmware`.
    fn load_8051<B: PciFunction>(&self, regs: &Regs<B>, dc8051: &mut Dc8051) -> Result<(), FirmwareError> {
        use csr::DC_DC8051_CFG_RST as reset;
        let all =
            reset::M8051W.mask() | reset::CRAM.mask() | reset::DRAM.mask() | reset::IRAM.mask() | reset::SFR.mask();
        regs.write(&csr::DC_DC8051_CFG_RST, all);
        // Everything but the core leaves reset.
        regs.write(&csr::DC_DC8051_CFG_RST, reset::M8051W.mask());
        load_security_variables(regs, &self.dc8051);
        regs.write(&csr::MISC_CFG_FW_CTRL, 0);
        dc8051.write_code(regs, qwords(self.dc8051.code()))?;
        regs.write(&csr::MISC_CFG_FW_CTRL, csr::MISC_CFG_FW_CTRL::FW_8051_LOADED.mask());
        run_rsa(regs, "8051", self.dc8051.signature())?;
        regs.write(&csr::DC_DC8051_CFG_RST, 0);
        dc8051.wait_ready(regs, limit::START_8051)?;
        dc8051.read_version(regs)?;
        log::info!("{}: 8051 firmware {}", regs.adapter(), dc8051.version);
        dc8051.set_interface_version(regs)?;
        Ok(())
    }
}

fn write_array<B: PciFunction>(regs: &Regs<B>, array: &Csr, bytes: &[u8]) {
    for (index, qword) in (0..array.count * array.len).zip(qwords(bytes)) {
        regs.write_off(array.off().plus(index * 8), qword);
    }
}

/// `firmware.c:load_security_variables`.
fn load_security_variables<B: PciFunction>(regs: &Regs<B>, file: &FirmwareFile) {
    log::debug!("{}: loading {}", regs.adapter(), file.path.display());
    write_array(regs, &csr::MISC_CFG_RSA_MODULUS, file.modulus());
    write_array(regs, &csr::MISC_CFG_RSA_R2, file.r2());
    write_array(regs, &csr::MISC_CFG_RSA_MU, file.mu());
    // The header goes through one register, as a stream.
    for qword in qwords(file.css_header()) {
        regs.write(&csr::MISC_CFG_SHA_PRELOAD, qword);
    }
}

/// Lets the chip check the signature of what was loaded: `firmware.c:run_rsa`.
fn run_rsa<B: PciFunction>(regs: &Regs<B>, what: &'static str, signature: &[u8]) -> Result<(), FirmwareError> {
    use csr::MISC_ERR_STATUS as errors;
    let field = csr::MISC_CFG_FW_CTRL::RSA_STATUS;
    write_array(regs, &csr::MISC_CFG_RSA_SIGNATURE, signature);
    regs.write(&csr::MISC_CFG_RSA_CMD, RSA_INIT);
    // This read also keeps the two commands apart.
    let status = field.get(regs.read(&csr::MISC_CFG_FW_CTRL)?);
    if status != RSA_IDLE {
        return Err(FirmwareError::EngineBusy { adapter: regs.adapter(), what, status });
    }
    regs.write(&csr::MISC_CFG_RSA_CMD, RSA_START);
    let ended =
        regs.wait(&csr::MISC_CFG_FW_CTRL, 0, limit::RSA, "RSA_STATUS done", |value| field.get(value) != RSA_ACTIVE);
    if let Err(gone @ ChipError::Gone(_)) = ended {
        return Err(gone.into());
    }
    // Errors of this run stay set, older ones are cleared.
    regs.write(&csr::MISC_ERR_CLEAR, errors::MISC_FW_AUTH_FAILED_ERR.mask() | errors::MISC_KEY_MISMATCH_ERR.mask());
    let flags = regs.read(&csr::MISC_ERR_STATUS)?;
    let status = field.get(ended?);
    if status == RSA_DONE {
        return Ok(());
    }
    let detail = if errors::MISC_KEY_MISMATCH_ERR.is_set(flags) {
        ", the key doesn't match"
    } else if errors::MISC_FW_AUTH_FAILED_ERR.is_set(flags) {
        ", its authorisation failed"
    } else {
        ""
    };
    Err(FirmwareError::Refused { adapter: regs.adapter(), what, status, detail })
}
