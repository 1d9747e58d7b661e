//! Scenarios in Linux guests, each a test of its own. What can't be run here is reported as ignored, with the reason;
//! with OPX_GUEST_REQUIRED or CI set, it fails.

mod counters;
mod fabtests;
mod hfi1;
mod hfi1_cable;
mod hfi1_credits;
mod hfi1_events;
mod hfi1_faults;
mod hfi1_forged;
mod hfi1_freeze;
mod hfi1_loopback;
mod hfi1_overflow;
mod programs;
mod stock;
mod two_guests;
mod vfio;
mod vfio_unplug;
mod visit;
mod wire;
mod zcrx;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use opx_tests::guest::{GuestError, Run};
use std::path::Path;
use std::process::ExitCode;

/// A scenario: it has a place for its files, and fails by its error.
type Scenario = fn(&Run) -> Result<(), GuestError>;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("fabtests", fabtests::run),
    ("hfi1_cable", hfi1_cable::silicon),
    ("hfi1_cable_backports", hfi1_cable::backports),
    ("hfi1_cable_iommu", hfi1_cable::translated),
    ("hfi1_credits", hfi1_credits::run),
    ("hfi1_events", hfi1_events::run),
    ("hfi1_faults", hfi1_faults::run),
    ("hfi1_forged", hfi1_forged::run),
    ("hfi1_freeze", hfi1_freeze::run),
    ("hfi1_functional", hfi1_cable::functional),
    ("hfi1_loopback", hfi1_loopback::silicon),
    ("hfi1_loopback_functional", hfi1_loopback::functional),
    ("hfi1_overflow_dropping", hfi1_overflow::dropping),
    ("hfi1_overflow_waiting", hfi1_overflow::waiting),
    ("two_guests", two_guests::run),
    ("vfio", vfio::trixie),
    ("vfio_backports", vfio::backports),
    ("vfio_surprise", vfio_unplug::surprise),
    ("vfio_unplug", vfio_unplug::orderly),
    ("vfio_without_iommu", vfio::without_iommu),
    ("visit", visit::run),
    ("wire", wire::run),
    ("zcrx", zcrx::run),
    ("zcrx_cost", zcrx::cost),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two processors for a guest, and its adapters, is what a machine has.
    arguments.test_threads.get_or_insert(1);
    let trial = |(name, scenario): &(&'static str, Scenario)| {
        let (name, scenario) = (*name, *scenario);
        Trial::ignorable_test(name, move || judge(name, scenario))
    };
    libtest_mimic::run(&arguments, SCENARIOS.iter().map(trial).collect()).exit_code()
}

fn judge(name: &str, scenario: Scenario) -> Result<Completion, Failed> {
    let logs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    let run = Run::new(&logs, name)?;
    match scenario(&run) {
        Ok(()) => Ok(Completion::Completed),
        Err(GuestError::Unavailable(why)) if !required() => Ok(Completion::ignored_with(why)),
        Err(error) => Err(format!("{error}\nThe logs are in {}", run.logs().display()).into()),
    }
}

/// Whether a scenario that can't be run is a failure.
fn required() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0" && value != "false");
    set("OPX_GUEST_REQUIRED") || set("CI")
}
