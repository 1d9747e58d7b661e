//! Header queues and eager buffers that run full under Linux's own driver: what comes then waits or is dropped, as the
//! driver has it, and RC and PSM2 bring every byte across.

use crate::counters::{Counters, told};
use crate::hfi1::{self, Cabled, Setup};
use opx_tests::guest::{GuestError, Run};

/// The fewest that the driver takes: more than 32 header entries, in steps of 32, and eight eager buffers of 16 KiB.
const SMALL: &str = "rcvhdrcnt=64 eager_buffer_size=131072";

/// Packets dropped because a header queue, or the eager buffers, were full, and times that a packet had to wait for an
/// eager buffer.
const NO_HEADER: &str = "RcvHdrOvr*";
const NO_EAGER: &str = "RxTIDFullEr,32";
const STALLS: &str = "RxCtxEgrS,32";
/// RC's answers to packets that are missing.
const SEQUENCE_NAKS: &str = "RcSeqNak";

/// The driver's default: for its own contexts, packets wait; only those for PSM2 are dropped.
pub fn waiting(run: &Run) -> Result<(), GuestError> {
    for outcome in overflow(run, SMALL)? {
        outcome.expect("packets waited", outcome.stalls > 0)?;
        outcome.expect("RC missed none", outcome.naks == 0 && outcome.no_eager == 0)?;
    }
    Ok(())
}

/// Without the bits NODROP_RHQ_FULL and NODROP_EGR_FULL, which are 8 and 9 of the default 0x4c09008cb9a.
pub fn dropping(run: &Run) -> Result<(), GuestError> {
    for outcome in overflow(run, &format!("{SMALL} cap_mask=0x4c09008c89a"))? {
        outcome.expect("both ran full", outcome.no_header > 100 && outcome.no_eager > 100)?;
        outcome.expect("no packet waited", outcome.stalls == 0)?;
        outcome.expect("RC asked again", outcome.naks > 0)?;
    }
    Ok(())
}

/// What became of an adapter's packets.
#[derive(Debug)]
struct Outcome {
    no_header: u64,
    no_eager: u64,
    stalls: u64,
    naks: u64,
}

impl Outcome {
    fn expect(&self, what: &str, holds: bool) -> Result<(), GuestError> {
        if holds { Ok(()) } else { Err(GuestError::Judged(format!("{what}: not so with {self:?}"))) }
    }
}

fn overflow(run: &Run, module: &str) -> Result<Vec<Outcome>, GuestError> {
    let variables = format!("NAMES='{}'\n", [NO_HEADER, NO_EAGER, STALLS, SEQUENCE_NAKS].join(" "));
    let setup = Setup { variables, script: include_str!("hfi1_overflow.sh"), module, ..Setup::default() };
    let mut cabled = Cabled::start(run, &setup)?;
    cabled.judge(&[])?;
    let counters = Counters::read(&cabled.guest.lines());
    let mut outcomes = Vec::new();
    for adapter in 0..2 {
        let count = |name| counters.at("end", adapter, name);
        let outcome = Outcome {
            no_header: count(NO_HEADER)?,
            no_eager: count(NO_EAGER)?,
            stalls: count(STALLS)?,
            naks: count(SEQUENCE_NAKS)?,
        };
        let dropped = cabled.emulator.ask(&format!("counts {adapter}"))?;
        println!("hfi1_{adapter}: {outcome:?}; the adapter: {dropped}");
        let agreed =
            outcome.no_header == told(&dropped, "HeaderQueueFull") && outcome.no_eager == told(&dropped, "EagerFull");
        outcome.expect(&format!("the kernel counts what the adapter dropped, {dropped}"), agreed)?;
        outcomes.push(outcome);
    }
    hfi1::judge_adapters(cabled.emulator)?;
    Ok(outcomes)
}
