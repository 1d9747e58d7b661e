//! io_uring zero-copy receive without a device, on the kernel of trixie-backports: opx-zcrx's tests, and its stress program.

use crate::programs;
use crate::vfio::Steps;
use opx_tests::guest::{End, Environment, Guest, GuestError, GuestOptions, Initrd, Kernel, Run};

/// Tests that need this kernel, and run on any.
const TESTS: u32 = 18;

/// The scenario.
pub fn run(run: &Run) -> Result<(), GuestError> {
    let environment = Environment::get(Kernel::Backports)?;
    let mut initrd = Initrd::new(&environment, &[include_str!("steps.sh"), include_str!("zcrx.sh")].concat())?;
    for (name, path) in programs::zcrx()? {
        // The test program has the name of its file, which says little there.
        let name = if name == "kernel" { "zcrx-kernel" } else { name.as_str() };
        initrd.local_file(&path, &format!("usr/bin/{name}"))?;
    }
    initrd.file("etc/passwd", 0o644, "root:x:0:0:root:/root:\nuser:x:1000:1000:user:/:\n");
    let mut guest = Guest::start(run, &environment, &initrd.build(End::PowerOff), &GuestOptions::default())?;
    let steps = Steps::take(&mut guest, &environment)?;
    steps.tests_passed("kernel", TESTS)?;
    steps.tests_passed("user", 1)?;
    for (step, bytes) in [("stress", 256 << 20), ("pools", 64 << 20)] {
        steps.passed_with(step, &format!("zcrx-stress ok: kernel=linux bytes={bytes} "))?;
    }
    Ok(())
}
