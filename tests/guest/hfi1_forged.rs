//! Packets with a foreign partition key, job key, source or destination, under a right ICRC, among those of PSM2 and RC: the
//! chip or the driver sees through each, nobody's data suffers, and the kernel's counters agree with what was forged.

use crate::counters::{Counters, told};
use crate::hfi1::{self, Cabled, Setup};
use opx_tests::guest::{GuestError, Run};

/// Percentages of the packets before which a forged copy arrives. Only PSM2's packets have a job key.
const SHARES: [(&str, u32); 4] = [("pkey", 3), ("jkey", 10), ("slid", 3), ("dlid", 3)];

/// What the kernel counts, below /sys/class/infiniband/ADAPTER.
const NAMES: [&str; 8] = [SENT, RECEIVED, REFUSED, TAKEN, FLOW_SEQUENCE, DUPLICATES, SEQUENCE_NAKS, TIMEOUTS];
/// Packets that the port sent, took, and refused.
const SENT: &str = "DcXmitPkts";
const RECEIVED: &str = "DcRcvPkts";
const REFUSED: &str = "DcRecvErr";
/// Packets that came to the receive engine.
const TAKEN: &str = "RxPkt";
/// Expected packets out of order.
const FLOW_SEQUENCE: &str = "RxTidFLSMs,32";
/// What RC makes of packets that it has had, that are missing, and that aren't acknowledged in time.
const DUPLICATES: &str = "RcDupRew";
const SEQUENCE_NAKS: &str = "RcSeqNak";
const TIMEOUTS: &str = "RcTimeOut";

/// Answers to queries with a forged source, at most. When no subnet administrator listens, Linux's management layer answers a
/// query itself, and to where it says that it comes from (`mad.c:generate_unmatched_resp`); `sa_query.c:update_ib_cpi` asks four
/// times, and anew after an event.
const MOST_MISLED: u64 = 8;

/// The scenario.
pub fn run(run: &Run) -> Result<(), GuestError> {
    let variables = format!("NAMES='{}'\n", NAMES.join(" "));
    let setup = Setup { variables, script: include_str!("hfi1_forged.sh"), ..Setup::default() };
    let mut cabled = Cabled::start(run, &setup)?;
    cabled.answer("forge", |emulator| {
        let shares = SHARES.map(|(forgery, share)| format!("{forgery}={share}")).join(" ");
        (0..2)
            .try_for_each(|adapter| emulator.ask(&format!("forge {adapter} {shares} seed={}", 17 + adapter)).map(drop))
    })?;
    let mut answers = Vec::new();
    cabled.answer("stop", |emulator| {
        for adapter in 0..2 {
            emulator.ask(&format!("forge {adapter}"))?;
            answers.push(emulator.ask(&format!("counts {adapter}"))?);
        }
        Ok(())
    })?;
    // The driver tells each packet that the port refuses, as far as its own limit for such lines goes.
    cabled.judge(&["handle_dcc_err: "])?;
    let counters = Counters::read(&cabled.guest.lines());
    for (adapter, answer) in answers.iter().enumerate() {
        judge(&counters, adapter, answer)?;
    }
    hfi1::judge_adapters(cabled.emulator).map(drop)
}

/// Holds what the kernel counted at `adapter`, and why the adapter dropped packets, against what was forged there.
fn judge(counters: &Counters, adapter: usize, answer: &str) -> Result<(), GuestError> {
    let [pkey, jkey, slid, dlid] = ["pkey", "jkey", "slid", "dlid"].map(|name| told(answer, name));
    let all = |adapter, name| counters.rise(adapter, name, "before", "rc");
    let in_rc = |name| counters.rise(adapter, name, "psm2", "rc");
    let expect = |what: &str, holds: bool| {
        let text = || format!("hfi1_{adapter}: {what} doesn't hold: the adapter tells {answer}, counted {counters:?}");
        if holds { Ok(()) } else { Err(GuestError::Judged(text())) }
    };
    expect(
        "some of each kind were forged",
        SHARES.iter().map(|(forgery, _)| told(answer, forgery)).all(|count| count >= 50),
    )?;
    let (sent, received, refused) = (all(1 - adapter, SENT)?, all(adapter, RECEIVED)?, all(adapter, REFUSED)?);
    // The other port sent these itself, see `MOST_MISLED`.
    let misled = told(answer, "ForeignDlid").saturating_sub(dlid);
    expect("few answers went to forged sources", misled <= MOST_MISLED)?;
    expect("received = sent + forged, but for foreign destinations", received + misled == sent + pkey + jkey + slid)?;
    expect("refused = forged destinations and answers to forged sources", refused == dlid + misled)?;
    expect("the receive engine sees what the port lets through", all(adapter, TAKEN)? == received)?;
    // No counter of the kernel's has these two.
    expect("the adapter drops each foreign partition key", told(answer, "PartitionKey") == pkey)?;
    expect("the adapter drops each foreign job key", told(answer, "JobKey") == jkey)?;
    // A copy that RC takes for good makes a duplicate of the packet after it. What RC sends twice by itself, because a slow
    // machine let a time run out, is one as well.
    let late = counters.rise(1 - adapter, TIMEOUTS, "psm2", "rc")?;
    expect("RC takes no forged packet", late > 0 || in_rc(DUPLICATES)? == 0 && in_rc(SEQUENCE_NAKS)? == 0)?;
    println!(
        "hfi1_{adapter}: forged: partition key {pkey}, job key {jkey}, SLID {slid} ({misled} answered), DLID {dlid}; sent \
         {sent}, received {received}, refused {refused}, flow sequence {}, duplicates {}, far timeouts {late}",
        all(adapter, FLOW_SEQUENCE)?,
        all(adapter, DUPLICATES)?,
    );
    Ok(())
}
