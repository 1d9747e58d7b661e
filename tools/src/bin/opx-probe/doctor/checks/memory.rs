//! What a process may lock and open, and whether there are huge pages.

use super::access::capable;
use crate::doctor::finding::Findings;
use crate::doctor::node::Node;

/// Bytes that a process with one endpoint of default size maps for the adapter, and so must be allowed to lock; a power of
/// two above what a test counts.
pub const MEMLOCK_BYTES: u64 = 32 << 20;
/// Files that a process with one endpoint opens at most: an eventfd for each vector, and those of VFIO.
const FILES: u64 = 256;
/// Linux's capability to lock memory without limit.
const CAP_IPC_LOCK: u32 = 14;
/// The pages that DMA memory is asked for.
const HUGE: &str = "sys/kernel/mm/hugepages/hugepages-2048kB";

/// A line of /proc/self/limits: soft and hard limit, `None` for unlimited.
fn limit(node: &Node<'_>, name: &str) -> Option<(Option<u64>, Option<u64>)> {
    let text = node.facts.text("proc/self/limits")?;
    let mut words = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
    let mut next = || match words.next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    };
    Some((next()?, next()?))
}

/// Checks the limits.
pub fn check(node: &Node<'_>, found: &mut Findings) {
    let is_low = |limit: Option<u64>, need: u64| limit.is_some_and(|limit| limit < need);
    match limit(node, "Max locked memory") {
        None => found.unknown("how much memory may be locked can't be read", "see ulimit -l"),
        Some(_) if capable(node, CAP_IPC_LOCK) => found.ok("memory may be locked without limit (CAP_IPC_LOCK)"),
        Some((soft, hard)) if is_low(soft, MEMLOCK_BYTES) => {
            let allowed = soft.unwrap_or(0);
            let mend = if is_low(hard, MEMLOCK_BYTES) {
                "two lines \"* soft memlock unlimited\" and \"* hard memlock unlimited\" in /etc/security/limits.d/opx.conf and a new login, or LimitMEMLOCK=infinity in the service".to_owned()
            } else {
                format!("ulimit -l {}", MEMLOCK_BYTES >> 10)
            };
            found.bad(
                "memlock",
                format!("a process here may lock {allowed} bytes; an endpoint of default size needs {MEMLOCK_BYTES}"),
                mend,
            );
        }
        Some(_) => found.ok(format!("enough memory may be locked (an endpoint needs {MEMLOCK_BYTES} bytes)")),
    }
    match limit(node, "Max open files") {
        Some((soft, _)) if is_low(soft, FILES) => found.warn(
            "few-files",
            format!("a process here may open {} files; with all vectors it takes {FILES}", soft.unwrap_or(0)),
            "ulimit -n 1024, or LimitNOFILE= in the service",
        ),
        _ => {}
    }
}

/// DMA memory of 2 MiB and more is taken from huge pages where there are some: one entry of the IOMMU in place of 512.
pub fn huge_pages(node: &Node<'_>, found: &mut Findings) {
    let more = format!("echo 64 | sudo tee /{HUGE}/nr_hugepages, and vm.nr_hugepages=64 in /etc/sysctl.d/opx.conf");
    let count = |name: &str| node.facts.number(&format!("{HUGE}/{name}"));
    match (count("nr_hugepages"), count("free_hugepages")) {
        (None, _) => found.warn(
            "no-huge-pages",
            "this kernel has no huge pages of 2 MiB",
            "boot a kernel with CONFIG_HUGETLBFS=y",
        ),
        (Some(0), _) => found.warn("no-huge-pages", "no huge pages are set aside: DMA memory takes 4 KiB pages", more),
        (Some(all), Some(0)) => {
            found.warn(
                "huge-pages-used-up",
                format!("all {all} huge pages are in use: DMA memory takes 4 KiB pages"),
                more,
            );
        }
        (Some(all), free) => found.ok(format!("{} of {all} huge pages of 2 MiB are free", free.unwrap_or(all))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_bus::{BusError, DmaBlock, PciFunction, SharedMem, delegate};
    use opx_defs::units::BarOff;
    use opx_emu::{Config, EmuBus, Icode, Lab, Pacing};
    use opx_hw::{Hfi, Options};
    use opx_stack::Endpoint;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Counts the memory that is mapped for the adapter.
    #[derive(Clone)]
    struct Counting {
        inner: EmuBus,
        bytes: Arc<AtomicU64>,
    }

    impl PciFunction for Counting {
        fn read64(&self, offset: BarOff) -> u64 {
            self.inner.read64(offset)
        }

        fn write64(&self, offset: BarOff, value: u64) {
            self.inner.write64(offset, value);
        }

        fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
            self.inner.write_block(offset, block);
        }

        fn dma_alloc(&self, len: usize) -> Result<DmaBlock, BusError> {
            let block = self.inner.dma_alloc(len)?;
            self.bytes.fetch_add(block.memory().len() as u64, Ordering::Relaxed);
            Ok(block)
        }

        fn dma_map(&self, memory: &SharedMem) -> Result<DmaBlock, BusError> {
            self.bytes.fetch_add(memory.len() as u64, Ordering::Relaxed);
            self.inner.dma_map(memory)
        }

        delegate!(inner: name bar0_len config_read config_write irq_enable reset gone now pause relax wait_irq);
    }

    /// The figure that people are told is the least power of two that is enough.
    #[test]
    fn an_endpoint_needs_what_is_told() {
        let config = Config { icode: Icode::FunctionalSimulator, ..Config::default() };
        let bus = Counting { inner: Lab::new(Pacing::Virtual).add(config).bus(), bytes: Arc::default() };
        let hfi = Hfi::open(bus.clone(), Options::default()).unwrap();
        let _endpoint = Endpoint::open(&hfi, opx_stack::Config::default()).unwrap();
        let bytes = bus.bytes.load(Ordering::Relaxed);
        assert_eq!(bytes.next_power_of_two(), MEMLOCK_BYTES, "{bytes}");
    }
}
