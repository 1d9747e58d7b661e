//! Firmware files of the right format, for drivers that load them into an emulated adapter.
//!
//! Header and sizes are as Linux's driver demands (`firmware.c:obtain_one_firmware`). The code is filler: the emulated
//! adapter doesn't run it. It is signed as Intel's is, with a key of this file, so that the security engine passes it.

use crate::misc::{EXPONENT, montgomery_r2, signed_number};
use num_bigint::BigUint;
use opx_bus::Chance;
use sha2::{Digest, Sha256};
use std::io;
use std::path::Path;

/// Names Linux's driver asks for, and bytes of code in each.
const FILES: [(&str, usize); 4] =
    [("hfi1_dc8051.fw", 16384), ("hfi1_fabric.fw", 8192), ("hfi1_sbus.fw", 4096), ("hfi1_pcie.fw", 8192)];

/// Bytes of modulus, signature and R2.
const KEY: usize = 256;
/// Bytes of the exponent.
const EXPONENT_LEN: usize = 4;
/// Bytes of the fixed header.
const CSS_HEADER: usize = 128;
/// Bytes before the code, R2 and mu not counted: they are put in after the header was made.
const PLAIN: usize = CSS_HEADER + KEY + EXPONENT_LEN + KEY;

/// The modulus of the key the files are signed with, least significant dword first.
///
/// The key was made once for this file. It is no secret and protects nothing: no adapter of silicon takes it.
#[rustfmt::skip]
const MODULUS: [u32; 64] = [
    0xab51_df9d, 0xf197_3a49, 0x413a_f64c, 0x3b8c_d291, 0x3ad7_be43, 0xd292_cc97, 0xcb14_d94e, 0xb251_b95d,
    0x027e_dda5, 0x0739_d2b2, 0x2021_9882, 0x5ea5_3f48, 0x8c16_5dc3, 0x9c5c_0c19, 0x5a42_f250, 0x3f0e_e7dd,
    0x0f47_8d9e, 0xa3da_f9a8, 0xa894_9ff5, 0x779a_480b, 0xd30c_377d, 0xa6b3_ee61, 0x0807_675f, 0x714a_da6f,
    0x891f_7b1e, 0x723c_13cd, 0xdd3d_3604, 0x56f5_7210, 0xe6d0_b105, 0x03db_4cb3, 0xf297_934d, 0xa988_dac6,
    0xf370_d61e, 0x864c_3b26, 0x6c25_f030, 0xd917_6e44, 0x27cc_689b, 0x1454_b075, 0x9278_b58a, 0x32e7_f712,
    0x952c_8cb0, 0x5cf0_c1d5, 0xce65_64e2, 0x66a9_95e9, 0x32cc_7cb3, 0x3e2c_f645, 0x40b9_ddf7, 0x490d_e05e,
    0xe67b_c6b6, 0x9bd7_9d9f, 0xba60_ea5e, 0xa7ed_5fcc, 0x2f53_6a40, 0xbcee_d048, 0xed43_582f, 0x97d9_1cda,
    0xf9de_d523, 0xe629_fd43, 0x9858_3814, 0xd31f_96be, 0xb622_267e, 0xf6de_e33a, 0x277c_e14c, 0xcbac_f952,
];
/// The private exponent that belongs to [`MODULUS`]; as public as it.
#[rustfmt::skip]
const PRIVATE_EXPONENT: [u32; 64] = [
    0x3423_cb1f, 0xa530_b7fe, 0xeb8e_1c7a, 0x89a6_40fd, 0x1e49_dc7d, 0xea4c_2e8a, 0xc0b7_3075, 0x2875_81f2,
    0x3391_f5a4, 0x1883_eea8, 0x18b7_46f3, 0x0670_f23e, 0x8485_10f2, 0x7027_7f76, 0x1af3_cc2c, 0xb885_8a1b,
    0x21e6_66f2, 0xb24d_8d3c, 0xc927_b239, 0x7e9a_a878, 0x8f51_a805, 0x7c8b_3752, 0x912f_a292, 0xbc75_fb69,
    0x8c41_799b, 0xd689_8097, 0x6d0f_4a3c, 0x894a_ad94, 0xb397_168e, 0x5ce8_bec0, 0x0603_c1f3, 0x3592_7068,
    0x8845_6202, 0x6481_610f, 0x9cd4_f836, 0x7a39_3a22, 0x9ee5_69a9, 0x36f2_806b, 0x6a1d_1313, 0xee1d_dbe5,
    0x9449_88bc, 0x98ea_f51c, 0xe3f0_c35b, 0x4187_8ed1, 0x994a_55c2, 0x8b42_0b79, 0x95c4_b52a, 0x735c_005b,
    0xa091_2d59, 0x9f15_30fc, 0xa435_c089, 0xe46e_8461, 0x53cd_40f9, 0x81d0_a3ac, 0x63e2_84f8, 0x6a7a_767e,
    0xb8bd_e174, 0x851b_c016, 0x0727_9ec8, 0xede3_ea7b, 0xa3b2_2684, 0xa63d_9326, 0x6645_3615, 0x0a0b_c396,
];
/// -1 / modulus, modulo 2^64.
const MU: u64 = 0xada1_383b_5e9d_614b;

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
pub(crate) fn image(code: usize, seed: u64) -> Vec<u8> {
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
        dwords(EXPONENT_LEN),
    ];
    let mut image: Vec<u8> = header.iter().flat_map(|dword: &u32| dword.to_le_bytes()).collect();
    image.resize(CSS_HEADER, 0);
    let code: Vec<u8> = (0..code).map(|_| chance.next_u64() as u8).collect();

    let modulus = BigUint::from_slice(&MODULUS);
    let digest = Sha256::new().chain_update(&image).chain_update(&code).finalize();
    let signature = signed_number(&digest.into()).modpow(&BigUint::from_slice(&PRIVATE_EXPONENT), &modulus);
    image.extend(little_endian(&modulus));
    image.extend(EXPONENT.to_le_bytes());
    image.extend(little_endian(&signature));
    image.extend(little_endian(&montgomery_r2(&modulus)));
    image.extend(MU.to_le_bytes());
    image.extend(code);
    image
}

/// The bytes of a number of 2048 bits.
fn little_endian(number: &BigUint) -> Vec<u8> {
    let mut bytes = number.to_bytes_le();
    bytes.resize(KEY, 0);
    bytes
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

    #[test]
    fn the_files_open_to_the_digest_of_header_and_code() {
        for (seed, (name, code)) in (1..).zip(FILES) {
            let file = image(code, seed);
            let number = |range: std::ops::Range<usize>| BigUint::from_bytes_le(&file[range]);
            let modulus = number(128..384);
            let opened = number(388..644).modpow(&number(384..388), &modulus);
            let mut digest = [0; 32];
            digest.copy_from_slice(&Sha256::digest([&file[..128], &file[908..]].concat()));
            assert_eq!(opened, signed_number(&digest), "{name}");
            // Montgomery's constants, from their definitions.
            assert_eq!(number(644..900), BigUint::from(2_u8).modpow(&BigUint::from(4096_u16), &modulus), "{name}");
            assert_eq!((number(900..908) * &modulus + 1_u8) % (BigUint::from(1_u8) << 64_u8), BigUint::ZERO, "{name}");
        }
    }
}
