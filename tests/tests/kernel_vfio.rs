//! The contract suite, and the scenarios named after libfabric's fabtests, on an adapter of this machine, through the kernel's
//! VFIO. They are for whoever has one, and for guests:
//! OPX_ADAPTER=0000:af:00.0 cargo test -p opx-tests --features kernel-vfio --test kernel_vfio -- --test-threads=1

use opx_hw::vfio::VfioBus;
use opx_tests::rig::{OpenBus, Rig};

struct Kernel;

impl OpenBus for Kernel {
    type Bus = VfioBus;

    fn open(&self) -> Rig<VfioBus> {
        let address = std::env::var("OPX_ADAPTER").expect("OPX_ADAPTER has the adapter's PCI address");
        let bus = VfioBus::open(address.parse().unwrap()).unwrap();
        Rig::new(bus, ())
    }
}

mod contract {
    opx_tests::contract_suite!(crate::Kernel);
}

opx_tests::fabtests!(crate::Kernel);
