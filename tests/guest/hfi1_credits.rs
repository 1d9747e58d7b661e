//! Credits that run short under Linux's own driver: send contexts of a tenth of their usual size, and a wire of 5 Mb/s that
//! holds 4 KiB. PSM2 and RC wait, and get every byte across.

use crate::counters::{Counters, told};
use crate::hfi1::{self, Cabled, Setup};
use opx_tests::guest::{GuestError, Run};

/// User contexts share the PIO memory evenly. RC sends messages up to this size by PIO, and the driver's own contexts then
/// hold three of them (pio.c:init_sc_pools_and_sizes).
const MODULE: &str = "num_user_contexts=140 piothreshold=2048";

/// What the kernel counts, below /sys/class/infiniband/ADAPTER.
const NAMES: [&str; 4] = [SENT, RECEIVED, PIO_WAITS, LINK_WAITS];
const SENT: &str = "DcXmitPkts";
const RECEIVED: &str = "DcRcvPkts";
/// Times the driver had to wait for credit of a send context.
const PIO_WAITS: &str = "PioWait";
/// Waits of the port for credit of the link.
const LINK_WAITS: &str = "TxWait";

/// The scenario.
pub fn run(run: &Run) -> Result<(), GuestError> {
    let variables = format!("NAMES='{}'\n", NAMES.join(" "));
    let (script, programs) = (include_str!("hfi1_credits.sh"), &["usr/bin/ibv_srq_pingpong"]);
    let setup = Setup { variables, script, programs, module: MODULE, ..Setup::default() };
    let mut cabled = Cabled::start(run, &setup)?;
    let mut answers = Vec::new();
    for (asked, setting) in [("slow", "rate=5 credit=4096"), ("fast", "")] {
        cabled.answer(asked, |emulator| {
            for adapter in 0..2 {
                emulator.ask(&format!("pace {adapter} {setting}"))?;
                answers.push(emulator.ask(&format!("counts {adapter}"))?);
            }
            Ok(())
        })?;
    }
    cabled.judge(&[])?;
    let counters = Counters::read(&cabled.guest.lines());
    let mut waits = 0;
    for adapter in 0..2 {
        let rise = |adapter, name, from, to| counters.rise(adapter, name, from, to);
        let (fast, slow) = (&answers[adapter], &answers[2 + adapter]);
        let (pio, link) = (rise(adapter, PIO_WAITS, "before", "short")?, rise(adapter, LINK_WAITS, "before", "short")?);
        println!("hfi1_{adapter}: PIO waits {pio}, link waits {link}; the adapter: at first {fast}; then {slow}");
        let expect = |what: &str, holds: bool| {
            let text =
                || format!("hfi1_{adapter}: {what} doesn't hold: the adapter tells {slow}, counted {counters:?}");
            if holds { Ok(()) } else { Err(GuestError::Judged(text())) }
        };
        expect("PSM2's contexts run short of credit on a fast wire", told(fast, "credit_short") > 0)?;
        waits += pio;
        expect("the port waits for credit of the link", link > 0)?;
        expect("and that as often as the adapter tells", link == told(slow, "link_full"))?;
        let (sent, received) = (rise(1 - adapter, SENT, "before", "end")?, rise(adapter, RECEIVED, "before", "end")?);
        expect("received = sent", received == sent)?;
    }
    // Which of the two sends more at a time than its context takes is a matter of who is ahead.
    if waits == 0 {
        let text = format!("the driver never waited for credit of a send context: {counters:?}");
        return Err(GuestError::Judged(text));
    }
    hfi1::judge_adapters(cabled.emulator).map(drop)
}
