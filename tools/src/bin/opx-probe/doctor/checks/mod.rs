//! The checks, in the order in which someone sets a node up.

mod access;
mod adapter;
mod binding;
mod firmware;
mod iommu;
mod kernel;
mod log;
mod memory;
mod pcie;
mod placement;
mod vfio;

#[cfg(test)]
pub use memory::MEMLOCK_BYTES;

use super::finding::{Finding, Findings};
use super::node::Node;

/// One check.
pub struct Check {
    /// Its name.
    pub name: &'static str,
    run: fn(&Node<'_>, &mut Findings),
}

/// All checks.
pub static CHECKS: [Check; 18] = [
    Check { name: "adapter", run: adapter::check },
    Check { name: "iommu", run: iommu::check },
    Check { name: "iommu group", run: iommu::groups },
    Check { name: "interrupts", run: iommu::interrupts },
    Check { name: "vfio", run: vfio::check },
    Check { name: "driver", run: binding::check },
    Check { name: "permission", run: access::permission },
    Check { name: "use", run: access::in_use },
    Check { name: "memory", run: memory::check },
    Check { name: "huge pages", run: memory::huge_pages },
    Check { name: "firmware", run: firmware::check },
    Check { name: "pcie link", run: pcie::link },
    Check { name: "pcie settings", run: pcie::settings },
    Check { name: "pcie errors", run: pcie::errors },
    Check { name: "placement", run: placement::check },
    Check { name: "processors", run: placement::processors },
    Check { name: "kernel", run: kernel::check },
    Check { name: "kernel log", run: log::check },
];

impl Check {
    /// Looks.
    pub fn run(&self, node: &Node<'_>) -> Vec<Finding> {
        let mut found = Findings::of(self.name);
        (self.run)(node, &mut found);
        found.done()
    }
}
