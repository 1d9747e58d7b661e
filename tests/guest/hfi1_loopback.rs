//! One adapter in LCB loopback under Linux's own driver: what `opx-loopback` relies on.

use crate::hfi1;
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Initrd, Kernel, Run,
};

/// Silicon.
pub fn silicon(run: &Run) -> Result<(), GuestError> {
    loopback(run, "silicon", End::PowerOff)
}

/// The functional simulator; see `hfi1_cable` for its end.
pub fn functional(run: &Run) -> Result<(), GuestError> {
    loopback(run, "simulator", End::Reset)
}

fn loopback(run: &Run, icode: &str, end: End) -> Result<(), GuestError> {
    let environment = Environment::get(Kernel::Trixie)?;
    let script = [hfi1::SHELL, include_str!("hfi1_loopback.sh")].concat();
    let mut initrd = Initrd::new(&environment, &script)?;
    hfi1::stock_software(&mut initrd, "loopback=2")?;
    // The driver crashes when the link comes up before it has registered its InfiniBand device (ib_cache_event_task).
    let arguments = ["--icode", icode, "--link-time", "3"].map(str::to_owned).to_vec();
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 1, arguments })?;
    let options = GuestOptions { adapters: emulator.sockets().to_vec(), ..GuestOptions::default() };
    let mut guest = Guest::start(run, &environment, &initrd.build(end), &options)?;
    // The driver expects to read POLLING whatever it has asked for, and a quick link-up skips that (chip.c:set_link_state).
    let expected = ["anticipated phy link state 0x20"];
    hfi1::judge_guest(&environment, &mut guest, &expected)?;
    hfi1::judge_adapters(emulator).map(drop)
}
