//! Scenarios named after the programs of libfabric's fabtests: what each of those tries, tried here. docs/fabtests.md has the
//! list, with those that don't apply.
//!
//! Each is a function of the [`Setting`] that it runs in: a bus, and the way that messages take there. [`crate::fabtests!`] makes
//! a test of each in each way.

mod benchmarks;
mod ends;
mod functional;
mod memory;
mod several;
mod unit;

pub use benchmarks::*;
pub use functional::*;
pub use memory::*;
pub use several::*;
pub use unit::*;

use crate::rig::Rig;
use opx_bus::PacketFaults;
use opx_stack::Config;

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
}

impl Way {
    /// Endpoints for it.
    fn config(self) -> Config {
        match self {
            Self::Adapter => Config::default(),
            Self::Faults { seed } => {
                let receive_faults = PacketFaults { loss: 1.0, duplicate: 1.0, reorder: 2.0, corrupt: 1.0 };
                Config { receive_faults, seed, ..Config::default() }
            }
        }
    }
}

/// What a scenario runs in.
pub struct Setting<B> {
    /// The bus, and what it needs to live.
    pub rig: Rig<B>,
    /// The way of its messages.
    pub way: Way,
}

/// Makes a test of every scenario, on the bus that `$open` gives (an expression of a type that implements
/// [`crate::rig::OpenBus`]), without and with faults.
#[macro_export]
macro_rules! fabtests {
    ($open:expr) => {
        mod fabtests {
            mod adapter {
                $crate::fabtests!($open; $crate::fabtests::Way::Adapter);
            }
            mod faults {
                $crate::fabtests!($open; $crate::fabtests::Way::Faults { seed: 7 });
            }
            mod other_faults {
                $crate::fabtests!($open; $crate::fabtests::Way::Faults { seed: 1 << 40 });
            }
        }
    };
    ($open:expr; $way:expr) => {
        $crate::fabtests!($open; $way;
            // functional
            rdm, inject_test, cq_data, unexpected_msg, flood, loopback, rdm_tagged_peek, recv_cancel, multi_recv, resmgmt_test,
            rdm_atomic, multi_mr, unmap_mem, av_xfer, multi_ep, rdm_multi_client, rdm_multi_domain, rdm_stress,
            // unit
            mr_test, cntr_test, cq_test, dom_test, setopt_test,
            // benchmarks
            rdm_pingpong, rdm_tagged_pingpong, rdm_cntr_pingpong, rma_pingpong, rdm_bw, rdm_tagged_bw, rma_bw,
            rma_tx_completion,
            // multinode and ubertest
            multinode, ubertest
        );
    };
    ($open:expr; $way:expr; $($test:ident),*) => {
        $(#[test]
        fn $test() {
            let rig = $crate::rig::OpenBus::open(&$open);
            $crate::fabtests::$test($crate::fabtests::Setting { rig, way: $way });
        })*
    };
}
