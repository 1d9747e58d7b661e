//! The adapter behind vfio-pci is taken away while our driver works with it.

use crate::hfi1;
use crate::vfio::{Steps, VFIO, count, initrd};
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Iommu, Kernel, Run,
};
use std::time::{Duration, Instant};

const SCRIPT: &str = include_str!("vfio_unplug.sh");
/// So many packets are traffic.
const PACKETS: u64 = 100;
/// Between two looks at the adapter's counts.
const LOOK: Duration = Duration::from_millis(20);
/// Longest time until the driver works.
const START_LIMIT: Duration = Duration::from_secs(600);

/// As a hot-plug slot does it: the guest's kernel asks the driver to let go, and waits for that. (QEMU's own device_del
/// isn't of use: QEMU 11.1.3 fails an assertion when it deletes a vfio-user-pci device.)
pub fn orderly(run: &Run) -> Result<(), GuestError> {
    let then = "wait $running; show gone $?; wait_for 'empty slot' [ ! -e $device ]";
    let script = ["take='echo 1 >$device/remove'\n", SCRIPT, then].concat();
    let steps = scenario(run, &script, End::PowerOff, |_| Ok(()))?;
    steps.refused("gone", "the adapter is gone (the system takes it away: it is unplugged or unbound); ")
}

/// As when it breaks: all reads give all ones. Then the kernel tries for a minute to reset what the driver has closed, so
/// the driver's end, and an orderly one of the guest, aren't waited for.
pub fn surprise(run: &Run) -> Result<(), GuestError> {
    let script = ["take=true\n", SCRIPT, "show gone none"].concat();
    let steps = scenario(run, &script, End::Reset, |emulator| emulator.ask("remove 0").map(drop))?;
    // Which register is read first then, if not config space, is a matter of chance.
    steps.told("gone", "the adapter is gone")
}

/// `take` takes the adapter away.
fn scenario(
    run: &Run,
    script: &str,
    end: End,
    take: impl FnOnce(&Emulator) -> Result<(), GuestError>,
) -> Result<Steps, GuestError> {
    let environment = Environment::get(Kernel::Trixie)?;
    let initrd = initrd(&environment, script, &VFIO)?.build(end);
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 1, arguments: Vec::new() })?;
    let adapters = emulator.sockets().to_vec();
    let options = GuestOptions { adapters, iommu: Iommu::Translating, ..GuestOptions::default() };
    let mut guest = Guest::start(run, &environment, &initrd, &options)?;
    guest.wait_for("opx: working", START_LIMIT)?;
    let end = Instant::now() + START_LIMIT;
    while count(&emulator, "received")? < PACKETS {
        if Instant::now() > end {
            return Err(GuestError::Judged(format!("no traffic; see {}", guest.console().display())));
        }
        std::thread::sleep(LOOK);
    }
    take(&emulator)?;
    guest.send("taken")?;
    let steps = Steps::take(&mut guest, &environment)?;
    hfi1::judge_adapters(emulator)?;
    Ok(steps)
}
