//! A cable that loses, corrupts, doubles and reorders packets between two adapters under Linux's own driver: PSM2 and RC
//! bring every byte across, and the kernel's counters agree with the faults dealt.

use crate::hfi1;
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Initrd, Kernel, Run,
};
use std::collections::HashMap;
use std::time::Duration;

/// Longest time until the guest asks for something. The traffic takes most of it.
const LIMIT: Duration = Duration::from_secs(240);

/// Percentage of the packets that meet each kind of fault.
const SHARE: u32 = 1;

/// What the kernel counts, below /sys/class/infiniband/ADAPTER.
const NAMES: [&str; 9] =
    [SENT, RECEIVED, REFUSED, BAD_ICRC, BAD_LENGTH, FLOW_SEQUENCE, RESENDS, SEQUENCE_NAKS, TIMEOUTS];
/// Packets that the port sent, and took.
const SENT: &str = "hw_counters/DcXmitPkts";
const RECEIVED: &str = "hw_counters/DcRcvPkts";
/// Packets that the port refused: their header has another length, or LID.
const REFUSED: &str = "hw_counters/DcRecvErr";
/// Packets that the receive engine found damaged.
const BAD_ICRC: &str = "hw_counters/RxICrcErr,32";
const BAD_LENGTH: &str = "hw_counters/RxLenErr,32";
/// Expected packets out of order: PSM2 sends them anew.
const FLOW_SEQUENCE: &str = "hw_counters/RxTidFLSMs,32";
/// What RC does about losses.
const RESENDS: &str = "ports/1/hw_counters/RcResend";
const SEQUENCE_NAKS: &str = "ports/1/hw_counters/RcSeqNak";
const TIMEOUTS: &str = "ports/1/hw_counters/RcTimeOut";

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
        dealt.push(Faults::read(&emulator.ask(&format!("counts {adapter}"))?)?);
    }
    guest.send("done")?;
    guest.wait_for("opx-counter: mended hfi1_1 RcTimeOut", LIMIT)?;
    let counters = Counters::read(&guest.lines());
    // The driver tells each packet with a wrong ICRC that comes to one of its own contexts.
    hfi1::judge(&environment, guest, emulator, &["errs [ icrc ]"])?;
    for (adapter, faults) in dealt.iter().enumerate() {
        counters.judge(adapter, faults)?;
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
    fn read(answer: &str) -> Result<Self, GuestError> {
        let number = |name: &str| {
            let value = answer.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok());
            value.ok_or_else(|| GuestError::Judged(format!("no {name} in the adapter's counts: {answer}")))
        };
        Ok(Self {
            lost: number("lost")?,
            doubled: number("doubled")?,
            reordered: number("reordered")?,
            corrupted: number("corrupted")?,
        })
    }
}

/// The kernel's counters, by moment, adapter and name.
struct Counters(HashMap<(String, String, String), u64>);

impl Counters {
    fn read(lines: &[String]) -> Self {
        let counter = |line: &String| {
            let mut words = line.strip_prefix("opx-counter: ")?.split(' ').map(str::to_owned);
            let key = (words.next()?, words.next()?, words.next()?);
            Some((key, words.next()?.parse().ok()?))
        };
        Self(lines.iter().filter_map(counter).collect())
    }

    /// By how much a counter rose between two moments.
    fn rise(&self, adapter: usize, name: &str, from: &str, to: &str) -> Result<u64, GuestError> {
        let name = name.rsplit('/').next().unwrap_or_default();
        let at = |moment: &str| self.0.get(&(moment.to_owned(), format!("hfi1_{adapter}"), name.to_owned()));
        let rise = || at(to)?.checked_sub(*at(from)?);
        rise().ok_or_else(|| GuestError::Judged(format!("hfi1_{adapter}: {name} isn't there, or fell")))
    }

    /// Holds what the kernel counted at `adapter` against the faults dealt there.
    fn judge(&self, adapter: usize, dealt: &Faults) -> Result<(), GuestError> {
        let far = 1 - adapter;
        let spoiled = |adapter, name| self.rise(adapter, name, "before", "spoiled");
        let mended = |adapter, name| self.rise(adapter, name, "spoiled", "mended");
        let expect = |what: &str, holds: bool| {
            let text = || format!("hfi1_{adapter}: {what} doesn't hold: dealt {dealt:?}, counted {:?}", self.0);
            if holds { Ok(()) } else { Err(GuestError::Judged(text())) }
        };
        expect("faults of each kind were dealt", {
            [dealt.lost, dealt.doubled, dealt.reordered, dealt.corrupted].iter().all(|count| *count >= 100)
        })?;
        // Not one packet is unaccounted for.
        let (sent, received) = (spoiled(far, SENT)?, spoiled(adapter, RECEIVED)?);
        let refused = spoiled(adapter, REFUSED)?;
        expect("received = sent - lost + doubled - refused", {
            received + refused + dealt.lost == sent + dealt.doubled
        })?;
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
        for name in [REFUSED, BAD_ICRC, BAD_LENGTH, FLOW_SEQUENCE, RESENDS, TIMEOUTS] {
            expect(&format!("{name} stays on a mended cable"), mended(adapter, name)? == 0)?;
        }
        Ok(())
    }
}
