//! Firmware files: a signed header in CSS format, what the chip needs to check the signature, and the code.

use crate::error::FirmwareError;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of the CSS header that the signature covers.
const CSS_BYTES: usize = 128;
const KEY_BYTES: usize = 256;
const EXPONENT_BYTES: usize = 4;
const MU_BYTES: usize = 8;
/// CSS header, modulus, exponent, signature: `firmware.c:struct firmware_file`.
const PLAIN_PREFIX: usize = CSS_BYTES + KEY_BYTES + EXPONENT_BYTES + KEY_BYTES;
/// R2 and mu, which were put behind the signature after the header was made: `firmware.c:AUGMENT_SIZE`.
const AUGMENT_BYTES: usize = KEY_BYTES + MU_BYTES;
/// The chip's code memories are some tens of KiB.
const MOST_BYTES: u64 = 1 << 20;

/// A firmware file that passed every check of `firmware.c:obtain_one_firmware`. The chip itself checks the signature.
#[derive(Debug)]
pub(crate) struct FirmwareFile {
    pub path: PathBuf,
    bytes: Vec<u8>,
}

impl FirmwareFile {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, FirmwareError> {
        let unreadable = |source| FirmwareError::Unreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let len = file.metadata().map_err(unreadable)?.len();
        if len > MOST_BYTES {
            return Err(FirmwareError::TooLarge { path: path.to_owned(), len, most: MOST_BYTES });
        }
        let mut bytes = Vec::new();
        // The bound holds for what isn't a plain file, too.
        file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
        Self::check(path, bytes)
    }

    /// `firmware.c:verify_css_header, obtain_one_firmware, payload_check`.
    fn check(path: &Path, bytes: Vec<u8>) -> Result<Self, FirmwareError> {
        let path = path.to_owned();
        let len = bytes.len();
        if len < CSS_BYTES {
            return Err(FirmwareError::TooShort { path, len, least: CSS_BYTES - 1 });
        }
        let dword = |index: usize| {
            let mut b = [0; 4];
            b.copy_from_slice(&bytes[index * 4..index * 4 + 4]);
            u32::from_le_bytes(b)
        };
        // module_id and date (dwords 3 and 5) are free; size (6) is checked below.
        let fields = [
            (0, "module_type", 6),
            (1, "header_len", PLAIN_PREFIX as u32 / 4),
            (2, "header_version", 0x1_0000),
            (4, "module_vendor", 0x8086),
            (7, "key_size", KEY_BYTES as u32 / 4),
            (8, "modulus_size", KEY_BYTES as u32 / 4),
            (9, "exponent_size", EXPONENT_BYTES as u32 / 4),
        ];
        for (index, field, expected) in fields {
            let actual = dword(index);
            if actual != expected {
                return Err(FirmwareError::BadHeader { path, field, actual, expected });
            }
        }
        let actual = dword(6);
        let size = u64::from(actual) * 4;
        if size == len as u64 {
            return Err(FirmwareError::NotAugmented { path });
        }
        if size + AUGMENT_BYTES as u64 != len as u64 {
            let expected = (len as u64).saturating_sub(AUGMENT_BYTES as u64) / 4;
            return Err(FirmwareError::BadSize { path, actual, expected, len });
        }
        if len <= PLAIN_PREFIX + AUGMENT_BYTES {
            return Err(FirmwareError::TooShort { path, len, least: PLAIN_PREFIX + AUGMENT_BYTES });
        }
        Ok(Self { path, bytes })
    }

    fn part(&self, start: usize, len: usize) -> &[u8] {
        self.bytes.get(start..start + len).unwrap_or_default()
    }

    pub fn css_header(&self) -> &[u8] {
        self.part(0, CSS_BYTES)
    }

    pub fn modulus(&self) -> &[u8] {
        self.part(CSS_BYTES, KEY_BYTES)
    }

    pub fn signature(&self) -> &[u8] {
        self.part(CSS_BYTES + KEY_BYTES + EXPONENT_BYTES, KEY_BYTES)
    }

    pub fn r2(&self) -> &[u8] {
        self.part(PLAIN_PREFIX, KEY_BYTES)
    }

    pub fn mu(&self) -> &[u8] {
        self.part(PLAIN_PREFIX + KEY_BYTES, MU_BYTES)
    }

    pub fn code(&self) -> &[u8] {
        self.bytes.get(PLAIN_PREFIX + AUGMENT_BYTES..).unwrap_or_default()
    }
}

/// Checks the bytes of a firmware file as [`crate::Hfi::open`] does, and gives the lengths of its parts: header, modulus,
/// signature, R2, mu, code. For tests that have no file.
///
/// # Errors
/// When it is no firmware file.
#[doc(hidden)]
pub fn check_firmware(bytes: Vec<u8>) -> Result<[usize; 6], FirmwareError> {
    let file = FirmwareFile::check(Path::new("memory"), bytes)?;
    Ok([file.css_header(), file.modulus(), file.signature(), file.r2(), file.mu(), file.code()].map(<[u8]>::len))
}

/// The bytes as little-endian qwords; a last part is filled up with zeros (`firmware.c:write_8051`).
pub(crate) fn qwords(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks(8).map(|chunk| {
        let mut b = [0; 8];
        b[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(b)
    })
}

/// The bytes as little-endian dwords; a last part is filled up with zeros.
pub(crate) fn dwords(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks(4).map(|chunk| {
        let mut b = [0; 4];
        b[..chunk.len()].copy_from_slice(chunk);
        u32::from_le_bytes(b)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(code: usize) -> Vec<u8> {
        let len = PLAIN_PREFIX + AUGMENT_BYTES + code;
        let mut bytes = vec![0; len];
        let header = [6, 0xa1, 0x1_0000, 1, 0x8086, 0, (len - AUGMENT_BYTES) as u32 / 4, 64, 64, 1u32];
        for (chunk, value) in bytes.chunks_exact_mut(4).zip(header) {
            chunk.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    fn check(bytes: Vec<u8>) -> Result<FirmwareFile, FirmwareError> {
        FirmwareFile::check(Path::new("a.fw"), bytes)
    }

    #[test]
    fn the_parts_lie_one_after_the_other() {
        let mut bytes = image(12);
        bytes[908] = 7;
        bytes[128] = 1;
        bytes[388] = 2;
        bytes[644] = 3;
        bytes[900] = 4;
        let file = check(bytes).unwrap();
        assert_eq!((file.modulus()[0], file.signature()[0], file.r2()[0], file.mu()[0]), (1, 2, 3, 4));
        assert_eq!((file.code()[0], file.code().len(), file.mu().len()), (7, 12, 8));
        assert_eq!(dwords(file.code()).next(), Some(7));
        assert_eq!(qwords(&[1, 0, 0, 0, 0, 0, 0, 0, 2]).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn each_header_field_is_checked() {
        for field in [0, 1, 2, 4, 7, 8, 9] {
            let mut bytes = image(8);
            bytes[field * 4] ^= 1;
            let error = check(bytes).unwrap_err();
            assert!(matches!(error, FirmwareError::BadHeader { .. }), "field {field}: {error}");
        }
    }

    #[test]
    fn lengths_are_checked() {
        assert!(matches!(check(vec![0; 127]), Err(FirmwareError::TooShort { .. })));
        assert!(matches!(check(image(0)), Err(FirmwareError::TooShort { .. })));
        let mut longer = image(8);
        longer.extend([0; 4]);
        assert!(matches!(check(longer), Err(FirmwareError::BadSize { .. })));
        let mut plain = image(8);
        plain.truncate(plain.len() - AUGMENT_BYTES);
        assert!(matches!(check(plain), Err(FirmwareError::NotAugmented { .. })));
        let mut short = image(8);
        short.truncate(200);
        assert!(matches!(check(short), Err(FirmwareError::BadSize { .. })));
    }
}
