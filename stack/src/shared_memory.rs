//! Which endpoints are reached through shared memory: those of a job on the ports of this machine, and by which names.

use crate::Address;
use opx_defs::units::{JobKey, Lid};

/// The most ports of a machine whose endpoints are reached through its memory, the endpoint's own included: OPX's
/// (`fi_opx.h`, OPX_MAX_HFIS).
pub const MOST_PORTS: usize = 16;
/// Bytes of the longest name of a job.
const LONGEST_JOB: usize = 48;

/// How an endpoint uses memory that it shares with other processes of its machine.
///
/// It does so if it is told the name of its job: endpoints of one job that are at this machine's ports exchange messages through
/// memory, all others through the adapter. The name is what keeps the jobs of a machine apart, whose addresses may be the same;
/// each fabric has a job of its own. Which way a peer is reached is decided when something is sent to it first.
///
/// ```
/// use opx_stack::{Config, SharedMemory};
/// let config = Config { shared_memory: SharedMemory::of_job("4711"), ..Config::default() };
/// assert!(config.shared_memory.is_on() && !Config::default().shared_memory.is_on());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedMemory {
    /// Off, everything goes through the adapter: `FI_OPX_SHM_ENABLE`.
    pub enabled: bool,
    /// The job: 1 to 48 visible ASCII characters. From the environment it is `FI_OPX_UUID`, `SLURM_JOB_ID` or
    /// `I_MPI_HYDRA_UUID`, the first that there is.
    pub job: Option<String>,
    /// LIDs of other ports of this machine, at most 15, when the job has more than one adapter here.
    pub lids: Vec<Lid>,
}

impl Default for SharedMemory {
    fn default() -> Self {
        Self { enabled: true, job: None, lids: Vec::new() }
    }
}

impl SharedMemory {
    /// On, among the endpoints of a job.
    pub fn of_job(name: impl Into<String>) -> Self {
        Self { job: Some(name.into()), ..Self::default() }
    }

    /// Off.
    pub fn off() -> Self {
        Self { enabled: false, ..Self::default() }
    }

    /// Whether it is used.
    pub fn is_on(&self) -> bool {
        self.enabled && self.job.is_some()
    }

    /// Whether a job can have that name.
    pub(crate) fn is_job(name: &str) -> bool {
        (1..=LONGEST_JOB).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

/// What the nodes of a job's endpoints are called.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn new(job: &str, key: JobKey) -> Self {
        Self { prefix: format!("opx.{job}.{:04x}-", key.0) }
    }

    /// The node of the endpoint at an address.
    pub(crate) fn of(&self, address: Address) -> String {
        format!("{}{:x}.{}", self.prefix, address.lid.0, address.rx)
    }

    /// The address of the endpoint whose node is called so.
    pub(crate) fn address(&self, name: &str) -> Option<Address> {
        let (lid, rx) = name.strip_prefix(&self.prefix)?.split_once('.')?;
        let address = Address { lid: Lid(u32::from_str_radix(lid, 16).ok()?), rx: rx.parse().ok()? };
        // There is one way to write it.
        (self.of(address) == name).then_some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_tells_its_address_and_nothing_else_does() {
        let names = Names::new("4711", JobKey(0x1f));
        let address = Address { lid: Lid(0x2a), rx: 7 };
        assert_eq!(names.of(address), "opx.4711.001f-2a.7");
        for other in
            ["opx.4711.001f-2a.07", "opx.4711.001f-2A.7", "opx.4711.001f-2a.256", "opx.4711.0020-2a.7", "", "x"]
        {
            assert_eq!(names.address(other), None, "{other}");
        }
        for job in ["", " ", "a b", "é", &"x".repeat(49)] {
            assert!(!SharedMemory::is_job(job), "{job:?}");
        }
    }

    proptest! {
        #[test]
        fn every_address_is_found_by_its_name(job in "[!-~]{1,48}", key: u16, lid in 0u32..1 << 24, rx: u8) {
            let names = Names::new(&job, JobKey(key));
            let address = Address { lid: Lid(lid), rx };
            let name = names.of(address);
            prop_assert!(SharedMemory::is_job(&job) && name.len() <= 80);
            prop_assert_eq!(names.address(&name), Some(address));
        }
    }
}
