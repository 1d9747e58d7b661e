//! Which processors this runs on, and how far they are from the adapter.

use crate::doctor::finding::Findings;
use crate::doctor::node::{Node, cpus};
use std::collections::{BTreeMap, BTreeSet};

fn allowed(node: &Node<'_>) -> BTreeSet<u32> {
    cpus(&node.status("Cpus_allowed_list").unwrap_or_default()).into_iter().collect()
}

/// NUMA: memory and polling should be on the adapter's side.
pub fn check(node: &Node<'_>, found: &mut Findings) {
    let nodes = node.facts.names("sys/devices/system/node");
    let nodes = nodes.iter().filter(|name| name.strip_prefix("node").is_some_and(|n| n.parse::<u32>().is_ok())).count();
    for adapter in &node.adapters {
        let found = found.about(&adapter.address);
        let near = node.facts.number(&adapter.file("numa_node")).unwrap_or(-1);
        if nodes < 2 {
            found.ok("one NUMA node");
        } else if near < 0 {
            found.warn(
                "numa-unknown",
                format!("the firmware doesn't say on which of the {nodes} NUMA nodes it hangs"),
                "see the board's manual for the slot's socket, and bind processes there: numactl --cpunodebind=N --membind=N; a newer BIOS may tell",
            );
        } else {
            let list = node.facts.text(&format!("sys/devices/system/node/node{near}/cpulist")).unwrap_or_default();
            let here = allowed(node);
            if cpus(&list).iter().any(|cpu| here.contains(cpu)) {
                found.ok(format!("on NUMA node {near} (processors {list}), some of which may be used"));
            } else {
                found.warn(
                    "numa-remote",
                    format!(
                        "it hangs on NUMA node {near}, and this process may run on none of its processors ({list})"
                    ),
                    format!("numactl --cpunodebind={near} --membind={near} PROGRAM"),
                );
            }
        }
    }
}

/// Siblings, clock rates, interrupts that wander.
pub fn processors(node: &Node<'_>, found: &mut Findings) {
    let here = allowed(node);
    let file = |cpu: u32, name: &str| node.facts.text(&format!("sys/devices/system/cpu/cpu{cpu}/{name}"));
    let online = cpus(&node.facts.text("sys/devices/system/cpu/online").unwrap_or_default()).len();
    // Who may run anywhere is moved by the scheduler; only who was given processors can have been given siblings.
    if here.len() < online {
        let pair = here.iter().find_map(|cpu| {
            let siblings = cpus(&file(*cpu, "topology/thread_siblings_list")?);
            siblings.into_iter().find(|sibling| sibling > cpu && here.contains(sibling)).map(|sibling| (*cpu, sibling))
        });
        if let Some((a, b)) = pair {
            found.warn(
                "smt-siblings",
                format!("this process was given processors {a} and {b}, two threads of one core: two that poll halve each other"),
                "give it one thread of each core (taskset, Slurm: --hint=nomultithread)",
            );
        }
    }
    let mut governors: BTreeMap<String, u32> = BTreeMap::new();
    for governor in here.iter().filter_map(|cpu| file(*cpu, "cpufreq/scaling_governor")) {
        *governors.entry(governor).or_default() += 1;
    }
    governors.remove("performance");
    if let Some((governor, count)) = governors.first_key_value() {
        found.warn(
            "cpu-governor",
            format!("{count} processors have the governor \"{governor}\": their clock is low when a burst begins"),
            "sudo cpupower frequency-set -g performance",
        );
    }
    if node.facts.runs("irqbalance") {
        found.warn(
            "irqbalance",
            "irqbalance moves interrupts between processors",
            "sudo systemctl disable --now irqbalance, or --banirq in IRQBALANCE_ARGS",
        );
    }
    let clock = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    if let Some(source) = node.facts.text(clock).filter(|source| source != "tsc") {
        found.warn(
            "clock-not-tsc",
            format!("the kernel keeps time by {source}, not by the processor's counter: each look at the clock is slow"),
            "look for \"tsc\" in the kernel's log for the reason; a BIOS update may make the counters agree; where they can be trusted: tsc=reliable",
        );
    }
    if !found.has_trouble() {
        found.ok("clocks, siblings and interrupts are as they should be");
    }
}
