//! What the kernel lets a process do.

use crate::doctor::finding::Findings;
use crate::doctor::node::Node;

/// The first kernel with all of zero-copy receive that opx-zcrx uses.
const ZERO_COPY: (u32, u32) = (7, 2);

/// The two first numbers of a release such as "6.12.107-amd64".
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Checks it.
pub fn check(node: &Node<'_>, found: &mut Findings) {
    let text = node.facts.text("proc/sys/kernel/osrelease").unwrap_or_default();
    match release(&text) {
        None => found.unknown("the kernel's release can't be read", "see uname -r"),
        Some(release) if release < ZERO_COPY => found.warn(
            "no-zero-copy-receive",
            format!("Linux {text} has no zero-copy receive for io_uring without a network device: TCP data is copied"),
            format!("boot Linux {}.{} or later; nothing else needs it", ZERO_COPY.0, ZERO_COPY.1),
        ),
        Some(_) => found.ok(format!("Linux {text}")),
    }
    if let Some(how) = node.facts.number("proc/sys/kernel/io_uring_disabled").filter(|how| *how > 0) {
        let whom = if how == 1 { "for processes outside of one group" } else { "for everyone" };
        found.warn(
            "io-uring-disabled",
            format!("io_uring is switched off {whom}: no zero-copy receive, no sleeping on completions"),
            "sudo sysctl kernel.io_uring_disabled=0, and the same in /etc/sysctl.d",
        );
    }
    let lockdown = node.facts.text("sys/kernel/security/lockdown").unwrap_or_default();
    if let Some(mode) = ["[integrity]", "[confidentiality]"].into_iter().find(|mode| lockdown.contains(mode)) {
        found.warn(
            "lockdown",
            format!("the kernel is locked down {mode}: no write-combining of the PIO window, no setpci, no modules without a signature"),
            "VFIO works all the same; for the rest switch off Secure Boot in the BIOS, or lockdown= on the command line",
        );
    }
    let off = node.facts.text("proc/cmdline").unwrap_or_default().split_whitespace().any(|word| word == "nopat");
    if off || !node.cpu_flag("pat") || !node.log_lines(&["PAT not supported"]).is_empty() {
        found.warn(
            "no-write-combining",
            "the processor's page attributes (PAT) are off: every store into the PIO window goes out alone",
            "take nopat off the kernel's command line; in a virtual machine, give it the processor's features (-cpu host)",
        );
    }
}
