//! A TCP wire between two network namespaces, over a path that loses and delays packets, on the kernel of trixie-backports: it has
//! netem, and zero-copy receive for the wire to use.

use crate::programs;
use crate::vfio::Steps;
use opx_tests::guest::{End, Environment, Guest, GuestError, GuestOptions, Initrd, Kernel, Run};

/// Bytes that cross. The processors that run the emulated adapters are emulated, too.
const BYTES: usize = 4 << 20;

/// The scenario.
pub fn run(run: &Run) -> Result<(), GuestError> {
    let environment = Environment::get(Kernel::Backports)?;
    let network = environment.network()?;
    let script = [include_str!("steps.sh"), &format!("BYTES={BYTES}\n"), include_str!("wire.sh")].concat();
    let mut initrd = Initrd::new(&environment, &script)?;
    for module in ["veth", "sch_netem"] {
        initrd.module(module, "")?;
    }
    for program in ["usr/bin/ip", "usr/sbin/tc"] {
        initrd.program_of(&network, program)?;
    }
    for (name, path) in programs::wire()? {
        initrd.local_file(&path, &format!("usr/bin/{name}"))?;
    }
    let mut guest = Guest::start(run, &environment, &initrd.build(End::PowerOff), &GuestOptions::default())?;
    let steps = Steps::take(&mut guest, &environment)?;
    steps.tests_passed("wire", 1)?;
    let means = "io_uring receive into a pool, without a device";
    steps.passed_with("wire", &format!("received by {means}: {BYTES} bytes, loss by netem, 1 % and 1 ms each way; "))
}
