//! The adapter behind vfio-pci is taken away while our driver works with it.

use crate::vfio::{ADAPTER, Steps, initrd};
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Iommu, Kernel, Run,
};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Longest time until the driver works.
const START_LIMIT: Duration = Duration::from_secs(120);

/// As a hot-plug slot does it: the guest's kernel asks the driver to let go, then the slot is empty.
pub fn orderly(run: &Run) -> Result<(), GuestError> {
    let monitor = run.socket("monitor");
    let arguments = ["-monitor".to_owned(), format!("unix:{},server=on,wait=off", monitor.display())].to_vec();
    let script = [include_str!("vfio_unplug.sh"), "wait_for 10 'empty slot' [ ! -e $device ]"].concat();
    scenario(run, &script, arguments, "the system takes it away: it is unplugged or unbound", |emulator| {
        let failed = |error| GuestError::Content(format!("QEMU's monitor: {error}"));
        let mut monitor = UnixStream::connect(&monitor).map_err(failed)?;
        writeln!(monitor, "device_del adapter0").map_err(failed)?;
        Ok(Some(emulator))
    })
}

/// As when it breaks: it doesn't answer any more.
pub fn surprise(run: &Run) -> Result<(), GuestError> {
    let script = include_str!("vfio_unplug.sh");
    scenario(run, script, Vec::new(), "", |emulator| emulator.end().map(|_| None))
}

/// `take` takes the adapter away; `why` is what opx-loopback has to give as the reason.
fn scenario(
    run: &Run,
    script: &str,
    qemu_arguments: Vec<String>,
    why: &str,
    take: impl FnOnce(Emulator) -> Result<Option<Emulator>, GuestError>,
) -> Result<(), GuestError> {
    let environment = Environment::get(Kernel::Trixie)?;
    let initrd = initrd(&environment, script)?.build(End::PowerOff);
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 1, arguments: Vec::new() })?;
    let adapters = emulator.sockets().to_vec();
    let options = GuestOptions { adapters, iommu: Iommu::Translating, qemu_arguments, ..GuestOptions::default() };
    let mut guest = Guest::start(run, &environment, &initrd, &options)?;
    guest.wait_for("opx: working", START_LIMIT)?;
    let left = take(emulator)?;
    guest.send("taken")?;
    let steps = Steps::take(&mut guest, &environment)?;
    steps.refused("gone", why)?;
    steps.refused("gone", "the adapter is gone")?;
    steps.refused("gone", ADAPTER)?;
    left.map_or(Ok(()), |emulator| emulator.end().map(drop))
}
