//! io_uring zero-copy receive without a device, on the kernel of trixie-backports: opx-zcrx's tests, its stress program, and
//! what a byte costs.

use crate::hfi1::LIMIT;
use crate::programs;
use crate::vfio::Steps;
use opx_tests::guest::{End, Environment, Guest, GuestError, GuestOptions, Initrd, Kernel, Run};
use std::time::Duration;

/// Tests that need this kernel, and run on any.
const TESTS: u32 = 18;

/// How many bytes the stress program moves through one pool, unless this variable has another number.
const BYTES: (&str, u64) = ("OPX_ZCRX_BYTES", 256 << 20);
/// Bytes that each means receives when their cost is counted, in MiB.
const COUNTED: u32 = 8;

/// The tests and the stress program.
pub fn run(run: &Run) -> Result<(), GuestError> {
    let bytes = match std::env::var(BYTES.0) {
        Err(_) => BYTES.1,
        Ok(bytes) => bytes.parse().map_err(|_| GuestError::Content(format!("{} is no number: {bytes}", BYTES.0)))?,
    };
    let script = format!("{}BYTES={bytes}\n{}", include_str!("steps.sh"), include_str!("zcrx.sh"));
    let (environment, mut guest) = start(run, &script, Vec::new())?;
    guest.wait_for("exit stress: ", LIMIT + Duration::from_secs(bytes >> 20))?;
    let steps = Steps::take(&mut guest, &environment)?;
    steps.tests_passed("kernel", TESTS)?;
    steps.tests_passed("user", 1)?;
    for (step, bytes) in [("stress", bytes), ("pools", 64 << 20)] {
        steps.passed_with(step, &format!("zcrx-stress ok: kernel=linux bytes={bytes} "))?;
    }
    Ok(())
}

/// What a byte costs by a pool and by plain receive, on a processor whose time is its count of instructions.
pub fn cost(run: &Run) -> Result<(), GuestError> {
    let script = format!("{}step cost zcrx-cost {COUNTED}\n", include_str!("steps.sh"));
    // One processor: with two, each one's time goes on while the other's instructions are counted.
    let counted = ["-smp", "1", "-icount", "shift=0,sleep=off"].map(str::to_owned).to_vec();
    let (environment, mut guest) = start(run, &script, counted)?;
    let steps = Steps::take(&mut guest, &environment)?;
    steps.passed_with("cost", "")?;
    let said = steps.said("out", "cost");
    // Nanoseconds a KiB, each means twice: the first time it finds its memory cold.
    let cost = |means: &str| {
        let costs =
            said.iter().filter_map(|line| line.strip_prefix(means)?.split_whitespace().next()?.parse::<u64>().ok());
        let costs: Vec<u64> = costs.collect();
        match costs[..] {
            [_, warm] => Ok(warm),
            _ => Err(GuestError::Judged(format!("{means} was counted {} times, not twice: {said:?}", costs.len()))),
        }
    };
    let (pool, plain) = (cost("io_uring receive into a pool, without a device: ")?, cost("plain receive: ")?);
    if pool > plain {
        return Err(GuestError::Judged(format!("a KiB costs {pool} instructions by a pool, {plain} by plain receive")));
    }
    Ok(())
}

/// Boots the kernel with the programs.
fn start(run: &Run, script: &str, qemu_arguments: Vec<String>) -> Result<(Environment, Guest), GuestError> {
    let environment = Environment::get(Kernel::Backports)?;
    let mut initrd = Initrd::new(&environment, script)?;
    for (name, path) in programs::zcrx()? {
        // The test program has the name of its file, which says little there.
        let name = if name == "kernel" { "zcrx-kernel" } else { name.as_str() };
        initrd.local_file(&path, &format!("usr/bin/{name}"))?;
    }
    initrd.file("etc/passwd", 0o644, "root:x:0:0:root:/root:\nuser:x:1000:1000:user:/:\n");
    let options = GuestOptions { qemu_arguments, ..GuestOptions::default() };
    let guest = Guest::start(run, &environment, &initrd.build(End::PowerOff), &options)?;
    Ok((environment, guest))
}
