//! The node as the checks see it: its facts, and the adapters among them.

use super::facts::Facts;
use opx_hw::discover::is_hfi1;

/// A node.
#[derive(Debug)]
pub struct Node<'a> {
    /// All there is to look at.
    pub facts: &'a Facts,
    /// Its adapters, in the order of their addresses.
    pub adapters: Vec<Adapter>,
}

/// An adapter of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// PCI address.
    pub address: String,
    /// Vendor and device, "8086:24f0".
    pub ids: String,
    /// The driver that is bound.
    pub driver: Option<String>,
    /// The IOMMU group.
    pub group: Option<String>,
}

impl Adapter {
    /// A file of it in sysfs.
    pub fn file(&self, name: &str) -> String {
        function_file(&self.address, name)
    }
}

/// A file of a PCI function in sysfs.
pub fn function_file(address: &str, name: &str) -> String {
    format!("sys/bus/pci/devices/{address}/{name}")
}

impl<'a> Node<'a> {
    /// Looks for its adapters.
    pub fn new(facts: &'a Facts) -> Self {
        let hex = |address: &str, name: &str| {
            let text = facts.text(&function_file(address, name))?;
            u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
        };
        let adapters = facts.names("sys/bus/pci/devices").into_iter().filter_map(|address| {
            let (vendor, device) = (hex(&address, "vendor")?, hex(&address, "device")?);
            is_hfi1(vendor, device).then(|| Adapter {
                ids: format!("{vendor:04x}:{device:04x}"),
                driver: facts.link(&function_file(&address, "driver")),
                group: facts.link(&function_file(&address, "iommu_group")),
                address,
            })
        });
        Self { facts, adapters: adapters.collect() }
    }

    /// Whether the kernel's command line has a word, or a word that begins with `key=` and has `value` in its list.
    pub fn booted_with(&self, key: &str, value: &str) -> bool {
        let line = self.facts.text("proc/cmdline").unwrap_or_default();
        line.split_whitespace().filter_map(|word| word.split_once('=')).any(|(word, list)| {
            // A dash and an underscore are one to the kernel.
            word.replace('-', "_") == key && list.split(',').any(|item| item == value)
        })
    }

    /// A line of `/proc/self/status`, such as "Cpus_allowed_list".
    pub fn status(&self, key: &str) -> Option<String> {
        let text = self.facts.text("proc/self/status")?;
        text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned()))
    }

    /// Lines of the kernel's log that have all of `parts` in them; the last is the newest.
    pub fn log_lines(&self, parts: &[&str]) -> Vec<&str> {
        let log = self.facts.log().unwrap_or_default();
        log.iter().map(String::as_str).filter(|line| parts.iter().all(|part| line.contains(part))).collect()
    }

    /// Whether this is a virtual machine.
    pub fn is_virtual(&self) -> bool {
        self.cpu_flag("hypervisor")
    }

    /// Whether the first processor has a feature.
    pub fn cpu_flag(&self, flag: &str) -> bool {
        let text = self.facts.text("proc/cpuinfo").unwrap_or_default();
        let flags = text.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
        flags.split_whitespace().any(|word| word == flag)
    }
}

/// Reads a list of processors such as "0-3,8". What makes no sense in it is left out.
pub fn cpus(list: &str) -> Vec<u32> {
    /// More than any kernel has.
    const MOST: u32 = 1 << 16;
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u32>().ok()?..=last.trim().parse::<u32>().ok()?.min(MOST))
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(cpus("0-3,8"), [0, 1, 2, 3, 8]);
        assert!(cpus("").is_empty());
        assert_eq!(cpus("7,x,3-1,2"), [7, 2]);
        assert_eq!(cpus("0-4294967295").len(), (1 << 16) + 1);
    }
}
