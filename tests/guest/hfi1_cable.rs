//! Two cabled adapters under Linux's own driver and fabric manager, then PSM2 and verbs between them.

use crate::hfi1;
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Initrd, Kernel, Run,
};

/// Silicon, on the kernel where all of it works.
pub fn silicon(run: &Run) -> Result<(), GuestError> {
    let report = cable(run, Kernel::Trixie, "silicon", true, End::PowerOff)?;
    hfi1::both_counted(&report, PSM2_COUNTS)
}

/// The functional simulator. The driver deadlocks on itself when such a link goes down (it takes the link's lock twice in
/// goto_offline), so the guest is reset at its end, not powered off.
pub fn functional(run: &Run) -> Result<(), GuestError> {
    let report = cable(run, Kernel::Trixie, "simulator", true, End::Reset)?;
    hfi1::both_counted(&report, PSM2_COUNTS)
}

/// Silicon on the newer kernel, where mapping the eager buffers for PSM2 fails in hfi1_file_mmap: verbs only.
pub fn backports(run: &Run) -> Result<(), GuestError> {
    let report = cable(run, Kernel::Backports, "silicon", false, End::PowerOff)?;
    hfi1::both_counted(&report, &["packets sent", "sent by SDMA"])
}

/// What PSM2's large messages use.
const PSM2_COUNTS: &[&str] = &["packets sent", "sent by SDMA", "placed by TID", "in flows", "headers suppressed"];

fn cable(run: &Run, kernel: Kernel, icode: &str, psm2: bool, end: End) -> Result<Vec<String>, GuestError> {
    let environment = Environment::get(kernel)?;
    let psm2 = if psm2 { "PSM2=yes\n" } else { "PSM2=\n" };
    let script = [hfi1::SHELL, psm2, include_str!("hfi1_cable.sh")].concat();
    let mut initrd = Initrd::new(&environment, &script)?;
    hfi1::stock_software(&mut initrd, "")?;
    // The driver crashes when the link comes up before it has registered its InfiniBand device (ib_cache_event_task).
    let arguments = ["--cable", "--icode", icode, "--link-time", "2"].map(str::to_owned).to_vec();
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 2, arguments })?;
    // The fabric manager alone takes 740 MB.
    let options = GuestOptions { adapters: emulator.sockets().to_vec(), memory: 3072, ..GuestOptions::default() };
    let guest = Guest::start(run, &environment, &initrd.build(end), &options)?;
    hfi1::judge(&environment, guest, emulator, &[])
}
