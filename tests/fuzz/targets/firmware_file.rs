//! Any bytes as a firmware file: never a panic, and the parts of what is accepted make up the whole file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match opx_hw::check_firmware(bytes.to_vec()) {
        Ok([header, modulus, signature, r2, mu, code]) => {
            // The exponent isn't given to the chip.
            const EXPONENT: usize = 4;
            assert_eq!((header, modulus, signature, r2, mu), (128, 256, 256, 256, 8));
            assert!(code > 0);
            assert_eq!(header + modulus + EXPONENT + signature + r2 + mu + code, bytes.len());
        }
        Err(refused) => drop(refused.to_string()),
    }
});
