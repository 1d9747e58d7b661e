//! The MISC block: the security engine that checks a firmware image before a processor may run it.
//!
//! What is modelled is the order of steps and their outcome. The arithmetic is not: any signature is good as long as
//! modulus, R2, mu, header and signature were all written, code was loaded, and the loaded flag is as it should be.
//!
//! Source: `firmware.c:load_security_variables`, `load_8051_firmware`, `run_rsa`.

use crate::board::Board;
use crate::event::Event;
use crate::triplet::Triplet;
use opx_defs::csr::{self, MISC_CFG_FW_CTRL, MISC_ERR_STATUS};
use opx_defs::source::Source;
use opx_defs::units::BarOff;
use std::time::Duration;

/// Qwords of a 2048-bit number.
const KEY_QWORDS: usize = 32;
/// Qwords of the CSS header that is streamed into the hash.
const HEADER_QWORDS: u32 = 16;
/// Time for one run of the engine. The driver waits up to 100 ms (`RSA_ENGINE_TIMEOUT`).
const RSA_TIME: Duration = Duration::from_millis(1);

/// `MISC_CFG_RSA_CMD` values.
const CMD_INIT: u64 = 1;
const CMD_START: u64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RsaStatus {
    Idle = 0,
    Active = 1,
    Done = 2,
    Failed = 3,
}

/// A 2048-bit operand: its qwords, and which of them were written.
#[derive(Debug, Clone, Copy, Default)]
struct Operand {
    qwords: [u64; KEY_QWORDS],
    written: u32,
}

impl Operand {
    fn write(&mut self, index: u32, value: u64) {
        if let Some(qword) = self.qwords.get_mut(index as usize) {
            *qword = value;
            self.written |= 1 << index;
        }
    }

    fn is_complete(&self) -> bool {
        self.written == u32::MAX && self.qwords.iter().any(|qword| *qword != 0)
    }
}

/// The block's registers.
#[derive(Debug)]
pub struct Misc {
    modulus: Operand,
    r2: Operand,
    signature: Operand,
    mu: Option<u64>,
    preloaded: u32,
    loaded_flag: bool,
    command: u64,
    status: RsaStatus,
    errors: Triplet,
    /// Error bits that stand until a run goes well.
    held: u64,
}

impl Default for Misc {
    fn default() -> Self {
        Self {
            modulus: Operand::default(),
            r2: Operand::default(),
            signature: Operand::default(),
            mu: None,
            preloaded: 0,
            loaded_flag: false,
            command: 0,
            status: RsaStatus::Idle,
            errors: Triplet::new(Source::MISC_ERR),
            held: 0,
        }
    }
}

impl Misc {
    /// Function-level reset.
    pub fn reset(&mut self, board: &mut Board) {
        self.errors.reset(board);
        *self = Self::default();
    }

    /// Whether the image in the 8051's code memory passed: nothing was missing, and the flag says it is an 8051 image.
    fn verdict(&self, board: &Board) -> (bool, u64) {
        if !self.modulus.is_complete() {
            return (false, MISC_ERR_STATUS::MISC_KEY_MISMATCH_ERR.mask());
        }
        let material = self.r2.is_complete()
            && self.signature.is_complete()
            && self.mu.is_some()
            && self.preloaded == HEADER_QWORDS;
        let load = &board.firmware;
        // An 8051 image is announced by FW_8051_LOADED; without it the engine would hash an image still being written.
        let code = if load.cram_written { self.loaded_flag } else { load.sbus_words > 0 };
        let good = material && code;
        (good, if good { 0 } else { MISC_ERR_STATUS::MISC_FW_AUTH_FAILED_ERR.mask() })
    }

    fn run_command(&mut self, board: &mut Board, command: u64) {
        self.command = command;
        match command {
            CMD_INIT if self.status != RsaStatus::Active => {
                self.status = RsaStatus::Idle;
                // A new init lets the last run's failure be cleared (run_rsa's comment); a key mismatch stands.
                self.held &= MISC_ERR_STATUS::MISC_KEY_MISMATCH_ERR.mask();
            }
            CMD_START if self.status == RsaStatus::Idle => {
                self.status = RsaStatus::Active;
                board.after(RSA_TIME, Event::RsaDone);
            }
            _ => {}
        }
    }

    /// The engine has finished.
    pub fn on_done(&mut self, board: &mut Board) {
        if self.status != RsaStatus::Active {
            return;
        }
        let (good, errors) = self.verdict(board);
        self.held = errors;
        self.status = if good { RsaStatus::Done } else { RsaStatus::Failed };
        self.errors.raise(board, errors);
        if board.firmware.cram_written {
            board.firmware.authorised = good;
        }
        // The next image brings its own signature and header.
        board.firmware.cram_written = false;
        board.firmware.sbus_words = 0;
        self.signature.written = 0;
        self.preloaded = 0;
    }

    /// Reads a register; `None` when there is none.
    pub fn read(&mut self, _board: &mut Board, offset: BarOff) -> Option<u64> {
        let operand = |row: csr::Csr, operand: &Operand| {
            row.locate(offset).and_then(|(index, _)| operand.qwords.get(index as usize).copied())
        };
        let number = operand(csr::MISC_CFG_RSA_R2, &self.r2)
            .or_else(|| operand(csr::MISC_CFG_RSA_SIGNATURE, &self.signature))
            .or_else(|| operand(csr::MISC_CFG_RSA_MODULUS, &self.modulus));
        if number.is_some() {
            return number;
        }
        let is = |row: csr::Csr| row.off() == offset;
        Some(if is(csr::MISC_CFG_FW_CTRL) {
            MISC_CFG_FW_CTRL::FW_8051_LOADED.put(self.loaded_flag.into())
                | MISC_CFG_FW_CTRL::RSA_STATUS.put(self.status as u64)
        } else if is(csr::MISC_CFG_RSA_CMD) {
            self.command
        } else if is(csr::MISC_CFG_RSA_MU) {
            self.mu.unwrap_or(0)
        } else if is(csr::MISC_ERR_STATUS) {
            self.errors.status()
        } else if is(csr::MISC_ERR_MASK) {
            self.errors.mask()
        } else if is(csr::MISC_ERR_CLEAR) || is(csr::MISC_CFG_SHA_PRELOAD) {
            0
        } else {
            return None;
        })
    }

    /// Writes a register; `false` when there is none.
    pub fn write(&mut self, board: &mut Board, offset: BarOff, value: u64) -> bool {
        let is = |row: csr::Csr| row.off() == offset;
        if let Some((index, _)) = csr::MISC_CFG_RSA_R2.locate(offset) {
            self.r2.write(index, value);
        } else if let Some((index, _)) = csr::MISC_CFG_RSA_SIGNATURE.locate(offset) {
            self.signature.write(index, value);
        } else if let Some((index, _)) = csr::MISC_CFG_RSA_MODULUS.locate(offset) {
            if index == 0 {
                // A new set of security variables begins.
                (self.modulus.written, self.r2.written, self.mu, self.preloaded) = (0, 0, None, 0);
                board.firmware.cram_written = false;
                board.firmware.sbus_words = 0;
            }
            self.modulus.write(index, value);
        } else if is(csr::MISC_CFG_RSA_MU) {
            self.mu = Some(value);
        } else if is(csr::MISC_CFG_SHA_PRELOAD) {
            self.preloaded = self.preloaded.saturating_add(1);
        } else if is(csr::MISC_CFG_FW_CTRL) {
            // RSA_STATUS is the engine's.
            self.loaded_flag = MISC_CFG_FW_CTRL::FW_8051_LOADED.is_set(value);
        } else if is(csr::MISC_CFG_RSA_CMD) {
            self.run_command(board, value);
        } else if is(csr::MISC_ERR_MASK) {
            self.errors.set_mask(board, value);
        } else if is(csr::MISC_ERR_CLEAR) {
            // The engine holds its own error bits up (run_rsa's comment).
            self.errors.clear(board, value & !self.held);
        } else {
            return is(csr::MISC_ERR_STATUS);
        }
        true
    }
}
