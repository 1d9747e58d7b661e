//! A packet on its way: the bytes from LRH to ICRC and what travels beside them.

use opx_defs::units::Vl;
use opx_defs::wire::icrc::masked_header;

/// Bytes of the ICRC.
pub const ICRC_BYTES: usize = 4;

/// The largest packet that goes to another process, bytes: Omni-Path's largest payload (`hfi.h HFI1_DEFAULT_MAX_MTU`) and room for
/// its headers, in whole units of credit.
#[cfg(feature = "tcp")]
pub const LARGEST_PACKET: usize = 10240 + 256;

/// A packet on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// LRH, headers, payload, ICRC. (16B packets: their own header, payload, tail with the ICRC.)
    pub bytes: Vec<u8>,
    /// Virtual lane.
    pub vl: Vl,
    /// Bit 4 of the service class, which travels beside a 9B header.
    pub sc4: bool,
    /// Whether it is a bypass (16B and other) packet.
    pub bypass: bool,
}

impl Packet {
    /// A packet from all bytes before the ICRC; the ICRC is appended. `spoil`: with a wrong one, for tests of the far end
    /// (PBC's TEST_BAD_ICRC).
    pub fn seal(mut bytes: Vec<u8>, vl: Vl, sc4: bool, bypass: bool, spoil: bool) -> Self {
        let mut icrc = icrc(&bytes, bypass);
        if spoil {
            icrc = !icrc;
        }
        bytes.extend_from_slice(&icrc.to_le_bytes());
        Self { bytes, vl, sc4, bypass }
    }

    /// Bytes before the ICRC.
    pub fn body(&self) -> &[u8] {
        self.bytes.len().checked_sub(ICRC_BYTES).and_then(|len| self.bytes.get(..len)).unwrap_or_default()
    }

    /// Whether the ICRC is right.
    pub fn icrc_ok(&self) -> bool {
        match self.bytes.split_last_chunk::<ICRC_BYTES>() {
            Some((body, sent)) => icrc(body, self.bypass) == u32::from_le_bytes(*sent),
            None => false,
        }
    }

    /// Flips one bit, chosen by `random`.
    pub fn flip(&mut self, random: u64) {
        let bits = self.bytes.len() as u64 * 8;
        if bits == 0 {
            return;
        }
        let bit = random % bits;
        if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| self.bytes.get_mut(at)) {
            *byte ^= 1 << (bit % 8);
        }
    }
}

/// CRC-32 over the packet, the fields that may change on the way counted as ones.
fn icrc(body: &[u8], bypass: bool) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    match body.split_first_chunk::<20>() {
        // Which bits of a 16B header the checksum leaves out isn't known; the model's own ends agree on all of them.
        Some((header, rest)) if !bypass => {
            hasher.update(&masked_header(*header));
            hasher.update(rest);
        }
        _ => hasher.update(body),
    }
    hasher.finalize()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn packet(spoil: bool) -> Packet {
        Packet::seal((0..=199).collect(), Vl(0), false, false, spoil)
    }

    #[test]
    fn every_flip_outside_of_the_masked_fields_is_found() {
        let good = packet(false);
        assert!(good.icrc_ok());
        assert!(!packet(true).icrc_ok());
        for bit in 0..good.bytes.len() as u64 * 8 {
            let mut bad = good.clone();
            bad.flip(bit);
            let masked = (4..8).contains(&bit) || (96..104).contains(&bit);
            assert_eq!(bad.icrc_ok(), masked, "bit {bit}");
        }
    }

    #[test]
    fn short_packets_are_harmless() {
        let mut empty = Packet { bytes: Vec::new(), vl: Vl(0), sc4: false, bypass: false };
        empty.flip(5);
        assert!(!empty.icrc_ok());
        assert!(empty.body().is_empty());
        assert!(Packet::seal(vec![1, 2, 3], Vl(0), false, false, false).icrc_ok());
    }
}
