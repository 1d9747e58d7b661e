//! Test data that can be made again from a seed, so that what arrives is compared with what must have been sent.

use opx_bus::Chance;

/// Fills `bytes` with the data that belongs to `seed`.
pub fn fill(seed: u64, bytes: &mut [u8]) {
    let mut chance = Chance::new(seed);
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&chance.next_u64().to_le_bytes()[..chunk.len()]);
    }
}

/// `len` bytes of the data that belongs to `seed`.
pub fn make(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(seed, &mut bytes);
    bytes
}

/// Where `bytes` differ from the data that belongs to `seed`.
pub fn first_difference(seed: u64, bytes: &[u8]) -> Option<usize> {
    let mut chance = Chance::new(seed);
    for (n, chunk) in bytes.chunks(8).enumerate() {
        let expected = chance.next_u64().to_le_bytes();
        if let Some(at) = chunk.iter().zip(expected).position(|(byte, right)| *byte != right) {
            return Some(n * 8 + at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found() {
        for len in [0, 1, 7, 8, 9, 100] {
            let mut bytes = make(5, len);
            assert_eq!(first_difference(5, &bytes), None);
            if len > 0 {
                bytes[len - 1] ^= 1;
                assert_eq!(first_difference(5, &bytes), Some(len - 1));
            }
        }
    }
}
