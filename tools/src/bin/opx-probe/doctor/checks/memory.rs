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
