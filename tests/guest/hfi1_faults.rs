//! A cable that loses, corrupts, doubles and reorders packets between two adapters under Linux's own driver: PSM2 and RC
//! bring every byte across, the kernel's counters agree with the faults dealt, and the fabric manager keeps the ports ACTIVE.

use crate::counters::{self, Counters};
use crate::hfi1::{self, Cabled, LIMIT, Setup};
use opx_tests::guest::{Emulator, GuestError, Run};

/// What the fabric manager says after each sweep, and how often it is told to sweep.
const SWEPT: &str = "DISCOVERY CYCLE END";
const SWEEPS: usize = 3;

/// Percentage of the packets that meet each kind of fault.
const SHARE: u32 = 1;

/// What the kernel counts, below /sys/class/infiniband/ADAPTER.
const NAMES: [&str; 9] =
    [SENT, RECEIVED, REFUSED, BAD_ICRC, BAD_LENGTH, FLOW_SEQUENCE, RESENDS, SEQUENCE_NAKS, TIMEOUTS];
/// Packets that the port sent, and took.
const SENT: &str = "DcXmitPkts";
const RECEIVED: &str = "DcRcvPkts";
/// Packets that the port refused: their header has another length, or LID.
const REFUSED: &str = "DcRecvErr";
/// Packets that the receive engine found damaged.
const BAD_ICRC: &str = "RxICrcErr,32";
const BAD_LENGTH: &str = "RxLenErr,32";
/// Expected packets out of order: PSM2 sends them anew.
const FLOW_SEQUENCE: &str = "RxTidFLSMs,32";
/// What RC does about losses.
const RESENDS: &str = "RcResend";
const SEQUENCE_NAKS: &str = "RcSeqNak";
const TIMEOUTS: &str = "RcTimeOut";

/// The scenario.
pub fn run(run: &Run) -> Result<(), GuestError> {
    let variables = format!("NAMES='{}'\nSWEEPS={SWEEPS}\n", NAMES.join(" "));
    let programs = &["usr/lib/opa-fm/bin/fm_cmd"];
    let setup = Setup { variables, programs, script: include_str!("hfi1_faults.sh"), ..Setup::default() };
    let mut cabled = Cabled::start(run, &setup)?;
    cabled.answer("spoil", spoil)?;
    let mut dealt = Vec::new();
    cabled.answer("mend", |emulator| {
        for adapter in 0..2 {
            emulator.ask(&format!("faults {adapter}"))?;
            dealt.push(Faults::read(&emulator.ask(&format!("counts {adapter}"))?));
        }
        Ok(())
    })?;
    // The fabric manager, over the same faults. Its first sweep is at its start.
    cabled.answer("spoil", spoil)?;
    let before = cabled.guest.lines().iter().filter(|line| line.contains(SWEPT)).count();
    for sweep in 1..=SWEEPS {
        cabled.answer("swept", |_| Ok(()))?;
        cabled.guest.wait_for_count(SWEPT, before + 1 + sweep, LIMIT)?;
    }
    cabled.answer("mend", |emulator| (0..2).try_for_each(|n| emulator.ask(&format!("faults {n}")).map(drop)))?;
    // The driver tells each packet with a wrong ICRC that comes to one of its own contexts.
    cabled.judge(&["errs [ icrc ]"])?;
    let counters = Counters::read(&cabled.guest.lines());
    hfi1::judge_adapters(cabled.emulator)?;
    for (adapter, faults) in dealt.iter().enumerate() {
        judge(&counters, adapter, faults)?;
    }
    Ok(())
}

/// The cable begins to spoil packets.
fn spoil(emulator: &Emulator) -> Result<(), GuestError> {
    let shares = ["loss", "dup", "reorder", "corrupt"].map(|fault| format!("{fault}={SHARE}")).join(" ");
    (0..2).try_for_each(|adapter| emulator.ask(&format!("faults {adapter} {shares} seed={}", 7 + adapter)).map(drop))
}

/// What was done to packets on their way to an adapter.
#[derive(Debug)]
struct Faults {
    lost: u64,
    doubled: u64,
    reordered: u64,
    corrupted: u64,
}

impl Faults {
    /// Takes them from an answer to `counts`.
    fn read(answer: &str) -> Self {
        let told = |name| counters::told(answer, name);
        Self {
            lost: told("lost"),
            doubled: told("doubled"),
            reordered: told("reordered"),
            corrupted: told("corrupted"),
        }
    }
}

/// Holds what the kernel counted at `adapter` against the faults dealt there.
fn judge(counters: &Counters, adapter: usize, dealt: &Faults) -> Result<(), GuestError> {
    let far = 1 - adapter;
    let spoiled = |adapter, name| counters.rise(adapter, name, "before", "spoiled");
    let mended = |adapter, name| counters.rise(adapter, name, "spoiled", "mended");
    let expect = |what: &str, holds: bool| {
        let text = || format!("hfi1_{adapter}: {what} doesn't hold: dealt {dealt:?}, counted {counters:?}");
        if holds { Ok(()) } else { Err(GuestError::Judged(text())) }
    };
    expect("faults of each kind were dealt", {
        [dealt.lost, dealt.doubled, dealt.reordered, dealt.corrupted].iter().all(|count| *count >= 50)
    })?;
    // Not one packet is unaccounted for.
    let (sent, received) = (spoiled(far, SENT)?, spoiled(adapter, RECEIVED)?);
    let refused = spoiled(adapter, REFUSED)?;
    let accounted = received + refused + dealt.lost == sent + dealt.doubled;
    expect("received = sent - lost + doubled - refused", accounted)?;
    // A corrupted packet is found by its ICRC, unless the port refused it before. There are more found than dealt by
    // those that were doubled as well (1 % of them), and fewer by flips of bits that the ICRC leaves out.
    let found = spoiled(adapter, BAD_ICRC)? + refused;
    let slack = dealt.corrupted * u64::from(SHARE) * 3 / 100 + 5;
    expect("corrupted = wrong ICRC + refused", found.abs_diff(dealt.corrupted) <= slack)?;
    expect("the receive engine finds no wrong length of its own", spoiled(adapter, BAD_LENGTH)? == 0)?;
    for name in [FLOW_SEQUENCE, RESENDS, SEQUENCE_NAKS] {
        expect(&format!("{name} rises"), spoiled(adapter, name)? > 0)?;
    }
    println!(
        "hfi1_{adapter}: {dealt:?}; sent {sent}, received {received}, refused {refused}, ICRC {}, flow sequence {}, \
         resends {}, sequence NAKs {}, timeouts {}",
        found - refused,
        spoiled(adapter, FLOW_SEQUENCE)?,
        spoiled(adapter, RESENDS)?,
        spoiled(adapter, SEQUENCE_NAKS)?,
        spoiled(adapter, TIMEOUTS)?
    );
    // Afterwards all is well.
    expect("received = sent on a mended cable", mended(far, SENT)? == mended(adapter, RECEIVED)?)?;
    // What was sent again isn't asked for: on a slow machine a time can run out by itself.
    for name in [REFUSED, BAD_ICRC, BAD_LENGTH] {
        expect(&format!("{name} stays on a mended cable"), mended(adapter, name)? == 0)?;
    }
    Ok(())
}
