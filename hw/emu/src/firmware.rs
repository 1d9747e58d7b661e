//! Firmware files of the right format, for drivers that load them into an emulated adapter.
//!
//! Header and sizes are as Linux's driver demands (`firmware.c:obtain_one_firmware`); code, key and signature are filler:
//! the emulated adapter doesn't run the code, and its security engine doesn't compute the signature.

use opx_bus::Chance;
use std::io;
use std::path::Path;

/// Names Linux's driver asks for, and bytes of code in each.
const FILES: [(&str, usize); 4] =
    [("hfi1_dc8051.fw", 16384), ("hfi1_fabric.fw", 8192), ("hfi1_sbus.fw", 4096), ("hfi1_pcie.fw", 8192)];

/// Bytes of modulus, signature and R2.
const KEY: usize = 256;
/// Bytes of the exponent and of mu.
const EXPONENT: usize = 4;
const MU: usize = 8;
/// Bytes of the fixed header.
const CSS_HEADER: usize = 128;
/// Bytes before the code, R2 and mu not counted: they are put in after the header was made.
const PLAIN: usize = CSS_HEADER + KEY + EXPONENT + KEY;

/// Writes `hfi1_dc8051.fw`, `hfi1_fabric.fw`, `hfi1_sbus.fw` and `hfi1_pcie.fw` to `dir`. The content is the same each time.
///
/// # Errors
/// When a file can't be written.
pub fn write_files(dir: &Path) -> io::Result<()> {
    for (seed, (name, code)) in (1..).zip(FILES) {
        std::fs::write(dir.join(name), image(code, seed))?;
    }
    Ok(())
}

/// One file with `code` bytes of code, a multiple of 8.
fn image(code: usize, seed: u64) -> Vec<u8> {
    let mut chance = Chance::new(seed);
    let dwords = |bytes: usize| u32::try_from(bytes / 4).unwrap_or(u32::MAX);
    let header = [
        6,
        dwords(PLAIN),
        0x1_0000,
        0,
        0x8086,
        0x2026_0101,
        dwords(PLAIN + code),
        dwords(KEY),
        dwords(KEY),
        dwords(EXPONENT),
    ];
    let mut image: Vec<u8> = header.iter().flat_map(|dword: &u32| dword.to_le_bytes()).collect();
    image.resize(CSS_HEADER, 0);
    for part in [KEY, EXPONENT, KEY, KEY, MU, code] {
        image.extend((0..part).map(|_| chance.next_u64() as u8));
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_pass_the_checks_of_linux() {
        let dir = tempfile::tempdir().unwrap();
        write_files(dir.path()).unwrap();
        for (name, code) in FILES {
            let bytes = std::fs::read(dir.path().join(name)).unwrap();
            let dword = |index: usize| u32::from_le_bytes(bytes[index * 4..index * 4 + 4].try_into().unwrap());
            // firmware.c:verify_css_header, and the size of an augmented file.
            assert_eq!([0, 1, 2, 4, 7, 8, 9].map(dword), [6, 0xa1, 0x10000, 0x8086, 64, 64, 1], "{name}");
            assert_eq!(dword(6) as usize * 4 + 264, bytes.len());
            assert_eq!(bytes.len() - 908, code);
        }
    }
}
