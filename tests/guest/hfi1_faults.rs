//! A cable that loses, corrupts, doubles and reorders packets between two adapters under Linux's own driver: PSM2 and RC
//! bring every byte across, and the kernel's counters agree with the faults dealt.

use crate::counters::{self, Counters};
use crate::hfi1;
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Initrd, Kernel, Run,
};
use std::time::Duration;

/// Longest time until the guest asks for something. The traffic takes most of it.
const LIMIT: Duration = Duration::from_secs(240);

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
    let environment = Environment::get(Kernel::Trixie)?;
    let names = format!("NAMES='{}'\n", NAMES.join(" "));
    let script = [hfi1::SHELL, &names, include_str!("hfi1_faults.sh")].concat();
    let mut initrd = Initrd::new(&environment, &script)?;
    hfi1::stock_software(&mut initrd, "")?;
    let arguments = ["--cable", "--link-time", "2"].map(str::to_owned).to_vec();
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 2, arguments })?;
    let options = GuestOptions { adapters: emulator.sockets().to_vec(), memory: 3072, ..GuestOptions::default() };
    let mut guest = Guest::start(run, &environment, &initrd.build(End::PowerOff), &options)?;
    guest.wait_for("opx-ask: spoil", LIMIT)?;
    for adapter in 0..2 {
        let shares = ["loss", "dup", "reorder", "corrupt"].map(|fault| format!("{fault}={SHARE}")).join(" ");
        emulator.ask(&format!("faults {adapter} {shares} seed={}", 7 + adapter))?;
    }
    guest.send("done")?;
    guest.wait_for("opx-ask: mend", LIMIT)?;
    let mut dealt = Vec::new();
    for adapter in 0..2 {
        emulator.ask(&format!("faults {adapter}"))?;
        dealt.push(Faults::read(&emulator.ask(&format!("counts {adapter}"))?));
    }
    guest.send("done")?;
    guest.wait_for("opx-counter: mended hfi1_1 RcTimeOut", LIMIT)?;
    let counters = Counters::read(&guest.lines());
    // The driver tells each packet with a wrong ICRC that comes to one of its own contexts.
    hfi1::judge(&environment, guest, emulator, &["errs [ icrc ]"])?;
    for (adapter, faults) in dealt.iter().enumerate() {
        judge(&counters, adapter, faults)?;
    }
    Ok(())
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
        [dealt.lost, dealt.doubled, dealt.reordered, dealt.corrupted].iter().all(|count| *count >= 100)
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
