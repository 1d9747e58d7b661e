//! The MISC block: the security engine that checks a firmware image before a processor may run it.
//!
//! An image passes when its steps came in order, its signature opens to the digest of its header and code, and R2 and mu
//! belong to the modulus. Any modulus is taken: which one silicon holds to be its own (MISC_KEY_MISMATCH_ERR) isn't known.
//!
//! Source: `firmware.c:load_security_variables`, `load_8051_firmware`, `run_rsa` for the steps. What is signed and how was
//! found from Intel's four files in firmware-intel-misc, all of which open so. INFERRED: that the engine hashes code as it is
//! written, and that it fails for a wrong R2 or mu, which its multiplications need.

use crate::board::Board;
use crate::event::Event;
use crate::triplet::Triplet;
use num_bigint::BigUint;
use opx_defs::csr::{self, MISC_CFG_FW_CTRL, MISC_ERR_STATUS};
use opx_defs::source::Source;
use opx_defs::units::BarOff;
use sha2::{Digest, Sha256};
use std::iter;
use std::time::Duration;

/// Qwords of a 2048-bit number.
const KEY_QWORDS: usize = 32;
/// Qwords of the CSS header that is streamed into the hash.
const HEADER_QWORDS: u32 = 16;
/// Time for one run of the engine. The driver waits up to 100 ms (`RSA_ENGINE_TIMEOUT`).
const RSA_TIME: Duration = Duration::from_millis(1);

/// What a signature is raised to. A file names its exponent, but the chip has no register for it: Intel's all have this one.
pub(crate) const EXPONENT: u32 = 0x1_0001;

/// The number that the signature of a digest opens to: PKCS#1 v1.5 block type 1 around the bare digest, without the name
/// of its algorithm. Intel's tools put the digest in with its first byte least significant.
pub(crate) fn signed_number(digest: &[u8; 32]) -> BigUint {
    const PADDING: usize = KEY_QWORDS * 8 - 32 - 3;
    let bytes: Vec<u8> = digest.iter().copied().chain([0]).chain(iter::repeat_n(0xff, PADDING)).chain([1, 0]).collect();
    BigUint::from_bytes_le(&bytes)
}

/// R2 of a modulus, which takes a number into Montgomery's form: R squared, R being 2^2048. The modulus isn't 0.
pub(crate) fn montgomery_r2(modulus: &BigUint) -> BigUint {
    (BigUint::from(1_u32) << (2 * 64 * KEY_QWORDS)) % modulus
}

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

/// What the engine hashes as it goes by: the header, then the code, so nothing of an image's length is kept.
#[derive(Debug, Default)]
pub struct HashedStream(Sha256);

impl HashedStream {
    /// The next bytes of the image.
    pub fn put(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// A new image begins.
    fn restart(&mut self) {
        self.0.reset();
    }

    fn digest(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }
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

    fn number(&self) -> BigUint {
        let bytes: Vec<u8> = self.qwords.iter().flat_map(|qword| qword.to_le_bytes()).collect();
        BigUint::from_bytes_le(&bytes)
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

    /// An error of the block.
    pub fn raise(&mut self, board: &mut Board, errors: u64) {
        self.errors.raise(board, errors);
    }

    /// Whether R2 and mu are those of the modulus: 2^4096 modulo it, and -1 divided by it modulo 2^64. No even one has a mu.
    fn is_key_sound(&self, modulus: &BigUint) -> bool {
        let [lowest, ..] = self.modulus.qwords;
        self.mu.is_some_and(|mu| mu.wrapping_mul(lowest) == u64::MAX) && self.r2.number() == montgomery_r2(modulus)
    }

    /// Whether the signature, opened with the modulus, is that of what was hashed.
    fn is_signed(&self, modulus: &BigUint, digest: &[u8; 32]) -> bool {
        self.signature.number().modpow(&EXPONENT.into(), modulus) == signed_number(digest)
    }

    /// Whether the image that was loaded last passed: nothing was missing, the flag says if it is an 8051 image, and it is
    /// signed.
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
        // modpow and the remainder need a modulus that isn't 0: is_complete saw to that.
        let modulus = self.modulus.number();
        let good = material && code && self.is_key_sound(&modulus) && self.is_signed(&modulus, &load.stream.digest());
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
        board.firmware.stream.restart();
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
                board.firmware.stream.restart();
            }
            self.modulus.write(index, value);
        } else if is(csr::MISC_CFG_RSA_MU) {
            self.mu = Some(value);
        } else if is(csr::MISC_CFG_SHA_PRELOAD) {
            self.preloaded = self.preloaded.saturating_add(1);
            board.firmware.stream.put(&value.to_le_bytes());
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

#[cfg(test)]
mod tests {
    use crate::Icode;
    use crate::core_tests::{Node, one};
    use crate::firmware::image;
    use opx_bus::PciFunction;
    use opx_defs::csr;

    /// An 8051 image is taken or refused as a whole file, as firmware.c:load_8051_firmware would give it to the chip.
    fn load(node: &Node, file: &[u8]) -> (u64, bool, bool) {
        node.put(csr::DC_DC8051_CFG_RST, 0x1f);
        node.put(csr::DC_DC8051_CFG_RST, 1);
        let status = node.load_image(file, "");
        node.put(csr::MISC_ERR_CLEAR, 0x30);
        let failed = node.get(csr::MISC_ERR_STATUS) & 0x20 != 0;
        node.put(csr::DC_DC8051_CFG_RST, 0);
        node.bus.pause(std::time::Duration::from_millis(100));
        (status, failed, node.firmware_ready())
    }

    #[test]
    fn one_flipped_bit_of_an_image_fails_authentication() {
        let good = image(512, 9);
        // By file position: css_header, modulus, signature, r2, mu, code (firmware.c:augmented_firmware_file).
        let parts = [("header", 0, 128), ("modulus", 128, 256), ("signature", 388, 256), ("R2", 644, 256)];
        for (name, start, len) in parts.into_iter().chain([("mu", 900, 8), ("code", 908, 512)]) {
            for (at, bit) in [(0, 0), (len / 2, 3), (len - 1, 7)] {
                let (_lab, node) = one(Icode::Silicon);
                let mut file = good.clone();
                file[start + at] ^= 1 << bit;
                assert_eq!(load(&node, &file), (3, true, false), "{name} byte {at} bit {bit}");
                assert_eq!(load(&node, &good), (2, false, true), "after {name}");
            }
        }
    }

    #[test]
    fn code_sent_by_sbus_is_checked() {
        let good = image(512, 10);
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 0x10;
        let (_lab, node) = one(Icode::Silicon);
        // The addresses of firmware.c: fabric SerDes, SBus master, its PCIe window.
        for (receiver, address) in [(0xe4, 0x0a), (0xfd, 0x14), (0xfd, 0x04)] {
            for (file, status) in [(&good, 2), (&bad, 3), (&good, 2)] {
                node.load_variables(file, "");
                node.put(csr::ASIC_CFG_SBUS_EXECUTE, 2);
                for dword in file[908..].chunks_exact(4) {
                    let data = u64::from(u32::from_le_bytes(dword.try_into().unwrap()));
                    node.put(csr::ASIC_CFG_SBUS_REQUEST, data << 32 | 0x21 << 16 | address << 8 | receiver);
                }
                node.put(csr::ASIC_CFG_SBUS_EXECUTE, 0);
                assert_eq!(node.run_rsa(file, ""), status, "{receiver:#x}:{address:#x}");
            }
        }
    }

    #[test]
    fn code_in_another_order_fails_authentication() {
        let mut file = image(512, 11);
        file[908..].rotate_left(8);
        let (_lab, node) = one(Icode::Silicon);
        assert_eq!(load(&node, &file), (3, true, false));
    }
}
