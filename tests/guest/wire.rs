//! A TCP wire between two network namespaces, over a path that loses and delays packets, on the kernel of trixie-backports: it has
//! netem, and zero-copy receive for the wire to use.

use crate::programs;
use crate::vfio::Steps;
use opx_tests::guest::{End, Environment, Guest, GuestError, GuestOptions, Initrd, Kernel, Run};

/// Bytes that cross. Everything is emulated here, the processors that run the emulated adapters too.
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
    initrd.program_of(&network, "usr/bin/ip")?;
    initrd.program_of(&network, "usr/sbin/tc")?;
    for (name, path) in programs::emulator()? {
        initrd.local_file(&path, &format!("usr/bin/{name}"))?;
    }
    let mut guest = Guest::start(run, &environment, &initrd.build(End::PowerOff), &GuestOptions::default())?;
    let steps = Steps::take(&mut guest, &environment)?;
    let (received, sent) = (steps.json("receiver")?, steps.json("sender")?);
    steps.expect("receiver", "the verdict", &received["passed"], &true.into())?;
    steps.expect("sender", "the verdict", &sent["passed"], &true.into())?;
    steps.expect("receiver", "the bytes", &received["rungs"][0]["bytes"], &BYTES.into())?;
    steps.expect("receiver", "the hash", &received["file"]["arrived"], &sent["file"]["sent"])?;
    for end in ["listening", "connecting"] {
        steps.passed_with(end, "joined, by io_uring receive into a pool, without a device")?;
    }
    Ok(())
}
