//! Scenarios named after the programs of libfabric's fabtests: what each of those tries, tried here. docs/fabtests.md has the
//! list, with those that don't apply.
//!
//! Each is a function of the [`Setting`] that it runs in: a bus, and the way that messages take there, which is judged at its end.
//! [`crate::fabtests!`] makes a test of each in each way.

mod benchmarks;
mod ends;
mod functional;
mod memory;
pub mod processes;
mod several;
mod unit;

pub use benchmarks::*;
pub use functional::*;
pub use memory::*;
pub use several::*;
pub use unit::*;

use crate::rig::Rig;
use opx_bus::{PacketFaults, PciFunction};
use opx_stack::{Config, Counters, SharedMemory};
use std::hash::{BuildHasher, RandomState};

/// The way that messages take between the endpoints of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through the adapter.
    Adapter,
    /// Through the adapter, with packets lost, doubled, late and broken on their way into each endpoint.
    Faults {
        /// What chance begins with.
        seed: u64,
    },
    /// Through the machine's memory.
    SharedMemory,
    /// As if each two endpoints had a machine: an endpoint's neighbour is reached through memory, all others through the adapter
    /// with faults.
    Mixed {
        /// What chance begins with.
        seed: u64,
    },
}

/// What a scenario runs in.
pub struct Setting<B> {
    /// The bus, and what it needs to live.
    rig: Rig<B>,
    way: Way,
    /// The job, as shared memory names it: no other test has it, nor another run of this one.
    job: String,
}

impl<B: PciFunction> Setting<B> {
    /// On this bus, by this way.
    pub fn new(rig: Rig<B>, way: Way) -> Self {
        let job = format!("fabtests-{:016x}", RandomState::new().hash_one(std::process::id()));
        Self { rig, way, job }
    }

    /// For the endpoint of that number.
    fn config(&self, end: usize) -> Config {
        let seed = match self.way {
            Way::Adapter | Way::SharedMemory => Config::default().seed,
            Way::Faults { seed } | Way::Mixed { seed } => seed,
        };
        let receive_faults = match self.way {
            Way::Adapter | Way::SharedMemory => PacketFaults::default(),
            Way::Faults { .. } | Way::Mixed { .. } => {
                PacketFaults { loss: 1.0, duplicate: 1.0, reorder: 2.0, corrupt: 1.0 }
            }
        };
        let shared_memory = match self.way {
            Way::Adapter | Way::Faults { .. } => SharedMemory::off(),
            Way::SharedMemory => SharedMemory::of_job(&*self.job),
            Way::Mixed { .. } => SharedMemory::of_job(format!("{}-{}", self.job, end / 2)),
        };
        Config { seed: seed + end as u64, receive_faults, shared_memory, ..Config::default() }
    }

    /// Judges by what the endpoints of a scenario have counted whether its messages took their way.
    fn judge(&self, ends: &[Counters]) {
        // Acknowledgements are packets, too, so who only sends has some as well.
        let by_adapter = |end: &Counters| end.packets_in > 0;
        let by_memory = |end: &Counters| end.sent_locally + end.received_locally > 0;
        match self.way {
            Way::Adapter | Way::Faults { .. } => {
                assert!(ends.iter().any(by_adapter) && !ends.iter().any(by_memory), "by the adapter: {ends:#?}");
            }
            // What is asked of a peer's memory is no message.
            Way::SharedMemory => {
                let asked = ends.iter().any(|end| by_memory(end) || end.requests > 0);
                assert!(asked && !ends.iter().any(by_adapter), "by memory: {ends:#?}");
            }
            Way::Mixed { .. } => {
                assert!(ends.iter().any(|end| by_adapter(end) && by_memory(end)), "by both: {ends:#?}");
            }
        }
    }
}

/// Makes a test of every scenario, on the bus that `$open` gives (an expression of a type that implements
/// [`crate::rig::OpenBus`]), for every way on which it makes sense.
#[macro_export]
macro_rules! fabtests {
    ($open:expr) => {
        mod fabtests {
            mod adapter {
                $crate::fabtests!($open; $crate::fabtests::Way::Adapter; of_messages);
                $crate::fabtests!($open; $crate::fabtests::Way::Adapter; of_the_adapter);
            }
            mod faults {
                $crate::fabtests!($open; $crate::fabtests::Way::Faults { seed: 7 }; of_messages);
                $crate::fabtests!($open; $crate::fabtests::Way::Faults { seed: 7 }; of_the_adapter);
            }
            mod other_faults {
                $crate::fabtests!($open; $crate::fabtests::Way::Faults { seed: 1 << 40 }; of_messages);
                $crate::fabtests!($open; $crate::fabtests::Way::Faults { seed: 1 << 40 }; of_the_adapter);
            }
            mod shared_memory {
                $crate::fabtests!($open; $crate::fabtests::Way::SharedMemory; of_messages);
            }
            mod mixed {
                $crate::fabtests!($open; $crate::fabtests::Way::Mixed { seed: 7 }; of_more_than_two);
            }
        }
    };
    ($open:expr; $way:expr; of_messages) => {
        $crate::fabtests!($open; $way;
            // functional
            rdm, inject_test, cq_data, unexpected_msg, flood, loopback, rdm_tagged_peek, recv_cancel, multi_recv, resmgmt_test,
            rdm_atomic, multi_mr, unmap_mem, multi_ep,
            // unit
            mr_test, cntr_test, cq_test,
            // benchmarks
            rdm_pingpong, rdm_tagged_pingpong, rdm_cntr_pingpong, rma_pingpong, rdm_bw, rdm_tagged_bw, rma_bw,
            rma_tx_completion,
            // ubertest
            ubertest
        );
        $crate::fabtests!($open; $way; of_more_than_two);
    };
    // Those with a peer that isn't the neighbour.
    ($open:expr; $way:expr; of_more_than_two) => {
        $crate::fabtests!($open; $way; av_xfer, rdm_multi_client, rdm_multi_domain, rdm_stress, multinode);
    };
    // Without a message, and about the protocols on the wire.
    ($open:expr; $way:expr; of_the_adapter) => {
        $crate::fabtests!($open; $way; dom_test, setopt_test);
    };
    ($open:expr; $way:expr; $($test:ident),*) => {
        $(#[test]
        fn $test() {
            let rig = $crate::rig::OpenBus::open(&$open);
            $crate::fabtests::$test($crate::fabtests::Setting::new(rig, $way));
        })*
    };
}
