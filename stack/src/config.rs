//! What an endpoint is made with.

use crate::observe::{OneSidedPath, Path, Recording};
use crate::{SharedMemory, Thresholds};
use opx_bus::PacketFaults;
use opx_defs::units::{JobKey, Sc, Sl, Vl};
use opx_defs::wire::opx::Generation;
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
    /// The sizes at which a message goes another way.
    pub thresholds: Thresholds,
    /// RcvArray entries for data that is asked for in expected packets: a multiple of 8, at most 2048. Each leads to at most
    /// 2 MiB.
    pub tid_entries: u32,
    /// A sender can only write to whole pages of a buffer: what shares its pages with something else is copied. Otherwise, as in
    /// OPX, a sender that misbehaves can write to what lies around the buffer in its first and last page.
    pub tid_whole_pages: bool,
    /// For how long entries rest after a transfer whose packets may still be under way, because some were sent again or it
    /// ended early; after others they only wait for their turn.
    pub tid_rest: Duration,
    /// Most bytes of the application's memory that stay mapped for the adapter after use. What is in use isn't bounded by it.
    pub mapped_bytes: usize,
    /// Packet slots: packets that may be unacknowledged at a time. With shared memory a sixteenth of them is for peers on this
    /// machine alone.
    pub slots: usize,
    /// Send operations that may be under way at a time, and receives likewise.
    pub operations: usize,
    /// Answers that a peer may be owed at a time, of reads, atomic operations with a result and offers of writes; more requests are
    /// left to it to send again.
    pub answers: usize,
    /// How long a peer may give no answer to a request that it has taken. Then it is asked whether it is there; from the answer to
    /// that on it has as much time again. A peer that computes gives no answer to that either, and is waited for.
    pub answer_wait: Duration,
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
    /// The HFI service (`FI_OPX_HFISVC`) was asked for, which this generation of adapters lacks: no endpoint is opened then.
    pub hfi_service: bool,
    /// Packets with 16B headers were asked for, as OPX sends them between adapters of the CN5000 generation: no endpoint is opened
    /// then. This generation takes them (bypass packets), but looks at nothing behind their first 16 bytes: it hands all of an
    /// adapter's to one context (`RCV_BYPASS`), whichever their BTH names, and puts none where a TID says.
    pub headers_16b: bool,
    /// Eager buffers, besides those, that can be lent to the application at a time ([`crate::View`]); with 0 all is copied.
    pub lent_buffers: u32,
    /// Shortest message, in bytes, that is lent: a shorter one is copied sooner than an eager buffer is missed for it.
    pub lent_min: usize,
    /// Whose packets are spoken: peers must be of the same libfabric releases, and nothing on the wire tells.
    pub generation: Generation,
    /// The reliability protocol's settings.
    pub reliability: opx_reliability::Config,
    /// Faults put into received packets, for tests on adapters whose wire can't be spoilt.
    pub receive_faults: PacketFaults,
    /// Seed of those faults.
    pub seed: u64,
    /// How often the adapter and its link are looked at, and whether a state dump was asked for; the first time is at once. The link may
    /// be down for as long as `reliability.link_down_wait` (`FI_OPX_LINK_DOWN_WAIT_TIME_MAX_SEC`) says.
    pub health_interval: Duration,
    /// Completions that may wait to be taken; while there are as many, no operation is accepted that would have one. Those that
    /// are under way are not lost: at most as many more are kept.
    pub completions: usize,
    /// Whether packets raise an interrupt, so that one can sleep until they come. Takes one of the adapter's vectors
    /// ([`opx_hw::Options::vectors`]). [`crate::PollSet`] and [`crate::Domain`] see to it by themselves.
    pub interrupts: bool,
    /// Whether there is a flight recorder, and where.
    pub recorder: Recording,
    /// Whether endpoints on this machine are reached through its memory.
    pub shared_memory: SharedMemory,
    /// The slowest way that messages may go; what would go a slower one is refused ([`crate::SendError::Slower`]).
    pub expect: Option<Path>,
    /// The slowest way that writes, reads and atomic operations may go; what would go a slower one is refused
    /// ([`crate::RequestError::Slower`]).
    pub expect_one_sided: Option<OneSidedPath>,
}

/// Most payload bytes in a packet.
pub const MAX_PAYLOAD: usize = 8192;

impl Default for Config {
    fn default() -> Self {
        Self {
            sl: Sl(0),
            sc: Sc(0),
            vl: Vl(0),
            thresholds: Thresholds::default(),
            tid_entries: 256,
            tid_whole_pages: true,
            tid_rest: TID_REST,
            mapped_bytes: 1 << 30,
            slots: 1024,
            operations: 4096,
            answers: 64,
            answer_wait: Duration::from_secs(2),
            unexpected_bytes: 64 << 20,
            pio_blocks: 256,
            sdma_entries: 2048,
            header_entries: 2048,
            eager_buffers: 32,
            eager_buffer_size: 256 << 10,
            hfi_service: false,
            headers_16b: false,
            lent_buffers: 0,
            lent_min: 2048,
            generation: Generation::default(),
            reliability: opx_reliability::Config::default(),
            receive_faults: PacketFaults::default(),
            seed: 1,
            completions: 1 << 16,
            interrupts: false,
            // fi_opx_hfi1.h:OPX_CONTEXT_STATUS_CHECK_INTERVAL_USEC.
            health_interval: Duration::from_millis(250),
            recorder: Recording::Off,
            shared_memory: SharedMemory::default(),
            expect: None,
            expect_one_sided: None,
        }
    }
}

/// See `opx_hw::TransferBuffer::REST`.
const TID_REST: Duration = Duration::from_millis(200);

impl Config {
    /// The defaults, with what the environment sets under the names of libfabric's OPX provider (see
    /// [`settings`](crate::settings)). A value that can't be, and a variable that has no effect, is warned of.
    ///
    /// ```
    /// let config = opx_stack::Config::from_env();
    /// assert_eq!(config.reliability.pre_ack_rate, 64, "unless FI_OPX_RELIABILITY_SERVICE_PRE_ACK_RATE says otherwise");
    /// ```
    pub fn from_env() -> Self {
        let mut config = Self::default();
        for warning in config.set_from(|name| std::env::var(name).ok()) {
            log::warn!("{warning}");
        }
        config
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

/// The job key that Linux's driver would give to this process: by its real user id (`file_ops.c` asks `current_uid`) and by
/// whether it may administer the system. The error is that of reading `/proc/self/status`.
///
/// ```
/// let job_key = opx_stack::job_key_of_this_process()?;
/// let options = opx_hw::Options { job_key, ..opx_hw::Options::default() };
/// # std::io::Result::Ok(())
/// ```
///
/// # Errors
/// When `/proc/self/status` can't be read or has no such lines.
pub fn job_key_of_this_process() -> std::io::Result<JobKey> {
    job_key_of_status(&std::fs::read_to_string("/proc/self/status")?)
        .ok_or_else(|| std::io::Error::other("/proc/self/status has no Uid and CapEff lines"))
}

fn job_key_of_status(status: &str) -> Option<JobKey> {
    const CAP_SYS_ADMIN: u32 = 21;
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    let uid = value("Uid:")?.parse().ok()?;
    let capabilities = u64::from_str_radix(value("CapEff:")?, 16).ok()?;
    Some(job_key_of_user(uid, capabilities >> CAP_SYS_ADMIN & 1 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_judged_by_its_real_user_and_its_capabilities() {
        let status = |uid: &str, caps: &str| format!("Name:\tx\nUid:\t{uid}\t0\t0\t0\nCapInh:\t0\nCapEff:\t{caps}\n");
        assert_eq!(job_key_of_status(&status("1000", "0000000000000000")), Some(JobKey(1000)));
        assert_eq!(job_key_of_status(&status("1000", "0000000000200000")), Some(JobKey(8)));
        assert_eq!(job_key_of_status(&status("0", "000001ffffffffff")), Some(JobKey(0)));
        assert_eq!(job_key_of_status(&status("0", "000001ffffdfffff")), Some(JobKey(0x8000)), "root without it");
        assert_eq!(job_key_of_status("Name:\tx\n"), None);
    }

    #[test]
    fn job_keys_are_those_of_the_kernel() {
        assert_eq!(job_key_of_user(0, true), JobKey(0));
        assert_eq!(job_key_of_user(1000, true), JobKey(8));
        assert_eq!(job_key_of_user(33, false), JobKey(0x8021));
        assert_eq!(job_key_of_user(1000, false), JobKey(1000));
        assert_eq!(job_key_of_user(0x1_03e8, false), JobKey(1000));
    }
}
