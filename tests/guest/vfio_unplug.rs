//! The adapter behind vfio-pci is taken away while our driver works with it.

use crate::vfio::{ADAPTER, Steps, initrd};
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Iommu, Kernel, Run,
};
use std::time::Duration;

const SCRIPT: &str = include_str!("vfio_unplug.sh");
/// Longest time until the driver works.
const START_LIMIT: Duration = Duration::from_secs(120);

/// As a hot-plug slot does it: the guest's kernel asks the driver to let go, and waits for that. (QEMU's own device_del
/// isn't of use: QEMU 11.1.3 fails an assertion when it deletes a vfio-user-pci device.)
pub fn orderly(run: &Run) -> Result<(), GuestError> {
    let script = ["take='echo 1 >$device/remove'\n", SCRIPT, "wait_for 10 'empty slot' [ ! -e $device ]"].concat();
    scenario(run, &script, "the system takes it away: it is unplugged or unbound", |_| Ok(()))
}

/// As when it breaks, or is pulled out: all reads give all ones.
pub fn surprise(run: &Run) -> Result<(), GuestError> {
    let script = ["take=true\n", SCRIPT].concat();
    scenario(run, &script, "config space reads as all ones", |emulator| emulator.ask("remove 0").map(drop))
}

/// `take` takes the adapter away; `why` is what opx-loopback has to give as the reason.
fn scenario(
    run: &Run,
    script: &str,
    why: &str,
    take: impl FnOnce(&Emulator) -> Result<(), GuestError>,
) -> Result<(), GuestError> {
    let environment = Environment::get(Kernel::Trixie)?;
    let initrd = initrd(&environment, script)?.build(End::PowerOff);
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 1, arguments: Vec::new() })?;
    let adapters = emulator.sockets().to_vec();
    let options = GuestOptions { adapters, iommu: Iommu::Translating, ..GuestOptions::default() };
    let mut guest = Guest::start(run, &environment, &initrd, &options)?;
    guest.wait_for("opx: working", START_LIMIT)?;
    take(&emulator)?;
    guest.send("taken")?;
    let steps = Steps::take(&mut guest, &environment)?;
    steps.refused("gone", why)?;
    steps.refused("gone", "the adapter is gone")?;
    steps.refused("gone", ADAPTER)?;
    emulator.end().map(drop)
}
