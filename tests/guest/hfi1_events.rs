//! Cable pulled and put back, also under traffic and many times; driver taken out and put back; functions reset; an orderly
//! power-off: Linux's own driver recovers from each.

use crate::hfi1;
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Initrd, Kernel, Run,
};
use std::time::Duration;

/// Link bounces in a row.
const BOUNCES: u32 = 20;

/// Longest time until the guest asks for the next event, or ends.
const LIMIT: Duration = Duration::from_secs(300);

/// The scenario.
pub fn run(run: &Run) -> Result<(), GuestError> {
    let environment = Environment::get(Kernel::Trixie)?;
    let bounces = format!("BOUNCES={BOUNCES}\n");
    let script = [hfi1::SHELL, &bounces, include_str!("hfi1_events.sh")].concat();
    let mut initrd = Initrd::new(&environment, &script)?;
    hfi1::stock_software(&mut initrd, "")?;
    let arguments = ["--cable", "--link-time", "2"].map(str::to_owned).to_vec();
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 2, arguments })?;
    let options = GuestOptions { adapters: emulator.sockets().to_vec(), memory: 3072, ..GuestOptions::default() };
    let mut guest = Guest::start(run, &environment, &initrd.build(End::PowerOff), &options)?;
    // Two pulls, the bounces, and two times out of the fabric, each with its plug.
    for _ in 0..2 * (2 + BOUNCES + 2) {
        let asked = guest.wait_for("opx-ask: ", LIMIT)?;
        emulator.ask(asked.trim_start_matches("opx-ask: "))?;
        guest.send("done")?;
    }
    hfi1::judge(&environment, guest, emulator, &[]).map(drop)
}
