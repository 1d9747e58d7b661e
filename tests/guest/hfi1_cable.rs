//! Two cabled adapters under Linux's own driver and fabric manager, then PSM2 and verbs between them.

use crate::hfi1;
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Initrd, Kernel, Run,
};
use std::time::Duration;

/// Longest time for all of it. It takes about half a minute on two processors.
const LIMIT: Duration = Duration::from_secs(300);

/// The scenario.
pub fn run(run: &Run) -> Result<(), GuestError> {
    let environment = Environment::get(Kernel::Trixie)?;
    let mut initrd = Initrd::new(&environment, include_str!("hfi1_cable.sh"))?;
    hfi1::stock_software(&mut initrd, "")?;
    let arguments = ["--cable", "--link-time", "2"].map(str::to_owned).to_vec();
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 2, arguments })?;
    let options = GuestOptions { adapters: emulator.sockets().to_vec(), memory: 3072, ..GuestOptions::default() };
    let mut guest = Guest::start(run, &environment, &initrd.build(End::PowerOff), &options)?;
    let status = guest.finish(LIMIT)?;
    for line in guest.kernel_warnings() {
        println!("kernel: {line}");
    }
    for line in emulator.end()? {
        println!("{line}");
    }
    if status != 0 {
        let log = guest.console().display();
        return Err(GuestError::Judged(format!(
            "the scenario exits with {status} on {}; see {log}",
            hfi1::describe(&environment)
        )));
    }
    Ok(())
}
