//! Errors inside the chip that freeze it while Linux's own driver and PSM2 send: the driver takes it through freeze and
//! unfreeze, and every byte comes across.

use crate::counters::Counters;
use crate::hfi1::{self, Cabled, Setup};
use opx_tests::guest::{GuestError, Run};

/// Faults under RC's traffic, and the kernel's counters of them.
const RC: [(&str, &str); 4] = [
    ("egress-config-parity", "TxConfigParityErr"),
    ("egress-credit-return-parity", "TxCreditReturnParityErr"),
    ("txe-pio-csr-parity", "PioCsrParityErr"),
    ("txe-sdma-csr-parity", "SDmaCsrParityErr"),
];

/// The same under PSM2's.
const PSM2: [(&str, &str); 2] =
    [("egress-launch-csr-parity", "TxLaunchCsrParityErr"), ("txe-sdma-rpy-tag", "SDmaRpyTagErr")];

/// The scenario.
pub fn run(run: &Run) -> Result<(), GuestError> {
    let all = || RC.iter().chain(&PSM2);
    let list = |faults: &[(&str, &str)]| faults.iter().map(|(fault, _)| *fault).collect::<Vec<_>>().join(" ");
    let names = all().map(|(_, counter)| *counter).collect::<Vec<_>>().join(" ");
    let variables = format!("NAMES='{names}'\nRC_FAULTS='{}'\nPSM2_FAULTS='{}'\n", list(&RC), list(&PSM2));
    let setup = Setup { variables, script: include_str!("hfi1_freeze.sh"), ..Setup::default() };
    let mut cabled = Cabled::start(run, &setup)?;
    for (fault, _) in all() {
        cabled.answer("freeze", |emulator| {
            (0..2).try_for_each(|adapter| emulator.ask(&format!("inject {adapter} {fault}")).map(drop))
        })?;
    }
    cabled.judge(&[])?;
    let counters = Counters::read(&cabled.guest.lines());
    for (fault, counter) in all() {
        for adapter in 0..2 {
            let rise = counters.rise(adapter, counter, "before", "after")?;
            if rise != 1 {
                let text = format!("hfi1_{adapter}: the kernel counts {rise} times {counter} after one {fault}");
                return Err(GuestError::Judged(text));
            }
        }
    }
    hfi1::judge_adapters(cabled.emulator).map(drop)
}
