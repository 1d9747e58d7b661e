//! Header queues and eager buffers that run full under Linux's own driver: what comes then waits or is dropped, as the
//! driver has it, and RC and PSM2 bring every byte across.

use crate::hfi1;
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Initrd, Kernel, Run,
};

/// The fewest header entries and eager buffers that the driver takes: more than 32, a multiple of 32; eight buffers of 16 KiB.
const SMALL: &str = "rcvhdrcnt=64 eager_buffer_size=131072";

/// The driver's own default: in its own contexts, packets wait.
pub fn waiting(run: &Run) -> Result<(), GuestError> {
    overflow(run, SMALL)
}

/// Without the bits NODROP_RHQ_FULL and NODROP_EGR_FULL, which are 8 and 9 of the default 0x4c09008cb9a.
pub fn dropping(run: &Run) -> Result<(), GuestError> {
    overflow(run, &format!("{SMALL} cap_mask=0x4c09008c89a"))
}

fn overflow(run: &Run, module: &str) -> Result<(), GuestError> {
    let environment = Environment::get(Kernel::Trixie)?;
    let script = [hfi1::SHELL, include_str!("hfi1_overflow.sh")].concat();
    let mut initrd = Initrd::new(&environment, &script)?;
    hfi1::stock_software(&mut initrd, module)?;
    let arguments = ["--cable", "--link-time", "2"].map(str::to_owned).to_vec();
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 2, arguments })?;
    let options = GuestOptions { adapters: emulator.sockets().to_vec(), memory: 3072, ..GuestOptions::default() };
    let mut guest = Guest::start(run, &environment, &initrd.build(End::PowerOff), &options)?;
    hfi1::judge_guest(&environment, &mut guest, &[])?;
    for line in guest.lines() {
        if line.starts_with("opx-counter") {
            println!("{line}");
        }
    }
    let report = hfi1::judge_adapters(emulator)?;
    println!("{report:#?}");
    Ok(())
}
