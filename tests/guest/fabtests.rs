//! The scenarios named after libfabric's fabtests in a guest, on an adapter behind stock vfio-pci and a translating IOMMU.

use crate::hfi1::{self, LIMIT};
use crate::programs;
use crate::vfio::{Steps, VFIO, initrd_of};
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Iommu, Kernel, Run,
};

/// Which tests of `kernel_vfio` are run, and how many these are, unless this variable has the beginnings of others' names.
const TESTS: (&str, &str, u32) = ("OPX_GUEST_FABTESTS", "fabtests::adapter:: fabtests::mixed::", 38);

/// A scenario that fails, or too few of them, fails it.
pub fn run(run: &Run) -> Result<(), GuestError> {
    let (tests, least) = std::env::var(TESTS.0).map_or((TESTS.1.to_owned(), TESTS.2), |tests| (tests, 1));
    if !tests.chars().all(|c| c.is_ascii_alphanumeric() || "_: ".contains(c)) {
        return Err(GuestError::Content(format!("{} has what is no name of a test: {tests}", TESTS.0)));
    }
    let environment = Environment::get(Kernel::Trixie)?;
    let script = format!("TESTS='{tests}'\n{}", include_str!("fabtests.sh"));
    let initrd = initrd_of(&environment, &script, &VFIO, programs::on_an_adapter()?)?.build(End::PowerOff);
    // The form of the chip that loads no firmware: each scenario brings the adapter up, and scenario `vfio` does so with the other.
    let arguments = ["--icode", "simulator"].map(str::to_owned).to_vec();
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 1, arguments })?;
    let adapters = emulator.sockets().to_vec();
    let options = GuestOptions { adapters, iommu: Iommu::Translating, ..GuestOptions::default() };
    let mut guest = Guest::start(run, &environment, &initrd, &options)?;
    // Many steps in one.
    guest.wait_for("exit fabtests: ", 2 * LIMIT)?;
    let steps = Steps::take(&mut guest, &environment)?;
    steps.tests_passed("fabtests", least)?;
    hfi1::judge_adapters(emulator).map(drop)
}
