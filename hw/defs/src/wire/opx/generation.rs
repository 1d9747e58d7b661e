//! The four generations of OPX's packets. Nothing in a packet tells which it is of: both ends must be set to the same.

use core::fmt;
use core::str::FromStr;

/// Whose packets are spoken, by libfabric's releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Generation {
    /// libfabric 2.1.
    G1,
    /// 2.2 and 2.3: sub-contexts, flow keys of 12 bytes, another form of multi-packet eager messages.
    G2,
    /// 2.4 and 2.5: multi-packet eager and RTS have other opcodes.
    G3,
    /// 2.6 and later: the sender's primary LID in every packet.
    #[default]
    G4,
}

impl Generation {
    /// All of them, the oldest first.
    pub const ALL: [Self; 4] = [Self::G1, Self::G2, Self::G3, Self::G4];

    /// Whether a receiver may acknowledge packets that it never had when the first packet of a flow is lost
    /// (`fi_opx_reliability.c:fi_opx_hfi1_rx_reliability_ping` before 2.4): the first one must then go alone.
    pub const fn needs_first_packet_alone(self) -> bool {
        matches!(self, Self::G1 | Self::G2)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::G1 => "G1",
            Self::G2 => "G2",
            Self::G3 => "G3",
            Self::G4 => "G4",
        })
    }
}

/// A name that is none of `G1` to `G4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownGeneration;

impl fmt::Display for UnknownGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a generation of packets is G1 (libfabric 2.1), G2 (2.2, 2.3), G3 (2.4, 2.5) or G4 (2.6 and later)")
    }
}

impl core::error::Error for UnknownGeneration {}

impl FromStr for Generation {
    type Err = UnknownGeneration;

    fn from_str(name: &str) -> Result<Self, UnknownGeneration> {
        match name {
            "G1" | "g1" => Ok(Self::G1),
            "G2" | "g2" => Ok(Self::G2),
            "G3" | "g3" => Ok(Self::G3),
            "G4" | "g4" => Ok(Self::G4),
            _ => Err(UnknownGeneration),
        }
    }
}
