//! An endpoint's name: the bytes that OPX's `fi_getname` gives, which peers exchange by other means and put in their tables.

use super::Generation;
use crate::units::Lid;

/// An endpoint on an adapter with one port. Source: `fi_opx_addr.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointName {
    /// Number of the adapter in its node; nothing on the wire depends on it.
    pub unit: u8,
    /// Its receive context.
    pub rx: u8,
    /// Its port's LID.
    pub lid: Lid,
    /// The upper half of its port's GID, which G4 finds common planes by.
    pub gid_high: u64,
}

impl EndpointName {
    /// The upper half of a GID where no fabric manager says otherwise: InfiniBand's prefix of a link.
    pub const DEFAULT_GID_HIGH: u64 = 0xfe80_0000_0000_0000;

    /// Bytes of a name.
    pub const fn len(generation: Generation) -> usize {
        match generation {
            Generation::G4 => 40,
            _ => 8,
        }
    }

    /// The name's bytes: the first [`EndpointName::len`] of these.
    pub fn to_bytes(&self, generation: Generation) -> [u8; 40] {
        let [l0, l1, l2, l3] = self.lid.0.to_le_bytes();
        // A receive context is little-endian in G1, big-endian behind its sub-context since.
        let (low, high) = if generation == Generation::G1 { (self.rx, 0) } else { (0, self.rx) };
        let port = [self.unit, 0, low, high, l0, l1, l2, l3];
        let mut bytes = [0; 40];
        let gid = if generation == Generation::G4 { self.gid_high.to_ne_bytes() } else { [0; 8] };
        // The second plane is the first again; only G4 has any of it.
        for (to, from) in bytes.as_chunks_mut::<8>().0.iter_mut().zip([port, gid, port, gid]) {
            *to = from;
            if generation != Generation::G4 {
                break;
            }
        }
        bytes
    }

    /// Reads a name; `None` when its length isn't the generation's or it names a sub-context.
    pub fn from_bytes(generation: Generation, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::len(generation) {
            return None;
        }
        let (port, rest) = bytes.split_first_chunk::<8>()?;
        let [unit, _, low, high, lid @ ..] = *port;
        let (rx, other) = if generation == Generation::G1 { (low, high) } else { (high, low) };
        let gid_high = rest.first_chunk::<8>().map_or(0, |gid| u64::from_ne_bytes(*gid));
        (other == 0).then_some(Self { unit, rx, lid: Lid(u32::from_le_bytes(lid)), gid_high })
    }
}
