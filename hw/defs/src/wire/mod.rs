//! Packet formats: what lies on the wire and in the adapter's queues.

pub mod bth;
pub mod icrc;
pub mod kdeth;
pub mod lrh;
pub mod lrh16;
pub mod opx;
pub mod pbc;
pub mod rhf;

/// Bytes of the header of an OPX packet: LRH 8, BTH 12, KDETH 36.
pub const OPX_HEADER_BYTES: usize = 56;
/// Dwords of the ICRC that the chip appends.
pub const ICRC_DWORDS: u32 = 1;
