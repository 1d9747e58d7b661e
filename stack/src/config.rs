//! What an endpoint is made with.

use opx_bus::PacketFaults;
use opx_defs::units::{JobKey, Sc, Sl, Vl};
use std::time::Duration;

/// Settings of an endpoint; [`Config::default`] is right for most. Job key and partition key are the adapter's, see
/// [`opx_hw::Options`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Service level.
    pub sl: Sl,
    /// Service class that the level maps to.
    pub sc: Sc,
    /// Virtual lane that the class maps to.
    pub vl: Vl,
    /// Longest message, in bytes, that goes as one eager packet; longer ones go by rendezvous. At most
    /// [`MAX_PAYLOAD`].
    pub eager_max: usize,
    /// Longest payload, in bytes, that the processor writes itself (PIO); longer packets go by SDMA.
    pub pio_max: usize,
    /// Packet slots: packets that may be unacknowledged at a time.
    pub slots: usize,
    /// Send operations that may be under way at a time, and receives likewise.
    pub operations: usize,
    /// Bytes of messages that nobody has asked for yet; more are left to their sender to send again.
    pub unexpected_bytes: usize,
    /// Blocks of the send context.
    pub pio_blocks: u16,
    /// Descriptors of the SDMA ring.
    pub sdma_entries: u32,
    /// Entries of the header queue.
    pub header_entries: u32,
    /// Number of eager buffers.
    pub eager_buffers: u32,
    /// Bytes of each eager buffer.
    pub eager_buffer_size: u32,
    /// The reliability protocol's settings.
    pub reliability: opx_reliability::Config,
    /// Faults put into received packets, for tests on adapters whose wire can't be spoilt.
    pub receive_faults: PacketFaults,
    /// Seed of those faults.
    pub seed: u64,
    /// How long the adapter may be silent before it is looked at.
    pub health_interval: Duration,
}

/// Most payload bytes in a packet.
pub const MAX_PAYLOAD: usize = 8192;

impl Default for Config {
    fn default() -> Self {
        Self {
            sl: Sl(0),
            sc: Sc(0),
            vl: Vl(0),
            eager_max: MAX_PAYLOAD,
            pio_max: 512,
            slots: 1024,
            operations: 4096,
            unexpected_bytes: 64 << 20,
            pio_blocks: 256,
            sdma_entries: 2048,
            header_entries: 2048,
            eager_buffers: 32,
            eager_buffer_size: 256 << 10,
            reliability: opx_reliability::Config::default(),
            receive_faults: PacketFaults::default(),
            seed: 1,
            health_interval: Duration::from_millis(100),
        }
    }
}

/// The job key that Linux's driver gives to the processes of a user, so that packets pass between nodes with and
/// without it: the low 16 bits of the user id, kept out of the range 0 to 63 that the kernel uses; an administrator's
/// key is in 0 to 31 (`hfi.h:generate_jkey`).
pub fn job_key_of_user(uid: u32, is_admin: bool) -> JobKey {
    let key = uid as u16;
    JobKey(match key {
        _ if is_admin => key & 0x1f,
        0..64 => key | 0x8000,
        _ => key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_keys_are_those_of_the_kernel() {
        assert_eq!(job_key_of_user(0, true), JobKey(0));
        assert_eq!(job_key_of_user(1000, true), JobKey(8));
        assert_eq!(job_key_of_user(33, false), JobKey(0x8021));
        assert_eq!(job_key_of_user(1000, false), JobKey(1000));
        assert_eq!(job_key_of_user(0x1_03e8, false), JobKey(1000));
    }
}
