//! Rung "pio errors": packets that the chip's checks refuse, restarts, management packets, and sleep until credits return.

use super::raw::{RawReceiver, ctxt};
use crate::report::Tally;
use crate::rig::{Failure, Outcome, Rig, Watch};
use opx_bus::PciFunction;
use opx_defs::status::EgressRefusals;
use opx_defs::units::{Blocks, Sc, Vl};
use opx_defs::wire::opx::Header;
use opx_defs::wire::pbc::Pbc;
use opx_hw::{RecvConfig, SendConfig, SendKind};
use opx_pio::{Head, PioError, PioSender};
use std::time::Duration;

const DEPTH: Blocks = Blocks(16);
/// Good packets after each refused one: twice around the context's buffer.
const GOOD: u32 = 2 * DEPTH.0 as u32;
const SLEEPS: u32 = 100;
/// Packets that are sent before any is taken: fewer than the header queue has entries.
const UNTAKEN: u32 = 1024;
const MANAGEMENT: u32 = 100;
const LIMIT: Duration = Duration::from_secs(10);

/// Makes a packet bad.
type Spoil = fn(&mut Header);
/// One bad packet for each check that looks into it, and the check that must be named.
const BAD: [(Spoil, EgressRefusals); 6] = [
    (|header| header.0[24] ^= 1, EgressRefusals::JOB_KEY),
    (|header| header.0[11] ^= 2, EgressRefusals::PARTITION_KEY),
    (|header| header.0[7] ^= 2, EgressRefusals::SLID),
    (|header| header.0[8] = 0x04, EgressRefusals::OPCODE),
    (|header| header.0[5] ^= 1, EgressRefusals::BAD_PKT_LEN),
    (|header| header.0[13] = 0, EgressRefusals::NON_KDETH_PACKETS),
];

/// Provokes each error that a sender can provoke, and checks that it is named and that the context is good afterwards.
pub fn pio_errors<B: PciFunction>(rig: &Rig<B>) -> Outcome {
    let mut receiver = RawReceiver::new(rig, RecvConfig::default())?;
    let mut sender = PioSender::new(rig.hfi.send_context(DEPTH)?);
    for (spoil, check) in BAD {
        let (pbc, mut header, _) = receiver.packet(0, 0, &mut [])?;
        spoil(&mut header);
        expect_refusal(rig, &mut sender, pbc, &header, check)?;
        sender.restart()?;
        good_packets(rig, &mut receiver, &mut sender)?;
    }
    let (pbc, header, _) = receiver.packet(0, 0, &mut [])?;
    expect_refusal(rig, &mut sender, Pbc(pbc.0 | 15 << 12), &header, EgressRefusals::VL)?;
    drop(sender);
    let tally = Tally { faults: BAD.len() as u64 + 1, ..receiver.tally };
    sleep_for_credits(rig, &mut receiver)?;
    management(rig, &header)?;
    Ok(Tally { messages: receiver.tally.messages + u64::from(MANAGEMENT), bytes: receiver.tally.bytes, ..tally })
}

/// Sends a packet that `check` refuses.
fn expect_refusal<B: PciFunction>(
    rig: &Rig<B>,
    sender: &mut PioSender<B>,
    pbc: Pbc,
    header: &Header,
    check: EgressRefusals,
) -> Result<(), Failure> {
    let name = ctxt(sender.context().number());
    sender.send(&Head::new(pbc, header), &[]).map_err(|error| Failure::wrong(error.to_string()))?;
    let mut watch = Watch::of(rig);
    loop {
        match sender.check() {
            Ok(()) => watch.step(false).map_err(|error| match error {
                Failure::Wrong(_) => {
                    Failure::wrong(format!("{name}: no check refused a packet that {check} must refuse"))
                }
                other => other,
            })?,
            Err(PioError::Refused { checks, .. }) if checks.contains(check) => return Ok(()),
            Err(other) => return Err(Failure::wrong(format!("{other}; it should have been {check}"))),
        }
    }
}

/// Sends packets that must all arrive.
fn good_packets<B: PciFunction>(
    rig: &Rig<B>,
    receiver: &mut RawReceiver<B>,
    sender: &mut PioSender<B>,
) -> Result<(), Failure> {
    let mut watch = Watch::of(rig);
    let (mut sent, end) = (receiver.next, receiver.next + GOOD);
    let mut payload = [0; 256];
    while receiver.next < end {
        let mut busy = false;
        while sent < end {
            let (pbc, header, len) = receiver.packet(sent, sent as usize % 256, &mut payload)?;
            match sender.send(&Head::new(pbc, &header), &payload[..len]) {
                Ok(()) => (sent, busy) = (sent + 1, true),
                Err(PioError::NoCredit { .. }) => break,
                Err(error) => return Err(Failure::wrong(error.to_string())),
            }
        }
        if receiver.take()? {
            watch.alive();
            busy = true;
        }
        watch.step(busy).map_err(|error| stuck(error, &missing(receiver, "a restart"), sender))?;
    }
    Ok(())
}

/// Fills a context again and again and sleeps until all its blocks are free. Where the chip is so fast that it never gets
/// full, there is nothing to sleep for.
fn sleep_for_credits<B: PciFunction>(rig: &Rig<B>, receiver: &mut RawReceiver<B>) -> Result<(), Failure> {
    let mut sender =
        PioSender::new(rig.hfi.send_context_with(SendConfig { interrupts: true, ..SendConfig::new(DEPTH) })?);
    let name = ctxt(sender.context().number());
    let mut watch = Watch::of(rig);
    let mut sent = receiver.next;
    for _ in 0..SLEEPS {
        // A chip that is as fast as its driver gives credit back again and again: the receiver must have room for what leaves.
        while sent - receiver.next < UNTAKEN {
            let (pbc, header, len) = receiver.packet(sent, 4, &mut [])?;
            debug_assert_eq!(len, 0);
            match sender.send(&Head::new(pbc, &header), &[]) {
                Ok(()) => sent += 1,
                Err(PioError::NoCredit { .. }) => break,
                Err(error) => return Err(Failure::wrong(error.to_string())),
            }
        }
        match sender.wait_credit(DEPTH, LIMIT) {
            Ok(true) => {}
            Ok(false) => return Err(Failure::wrong(format!("{name}: no interrupt told of credits within {LIMIT:?}"))),
            Err(error) => return Err(Failure::wrong(error.to_string())),
        }
        watch.alive();
        while receiver.next < sent {
            let busy = receiver.take()?;
            watch.step(busy).map_err(|error| stuck(error, &missing(receiver, "a sleep"), &sender))?;
        }
    }
    Ok(())
}

fn missing<B: PciFunction>(receiver: &RawReceiver<B>, after: &str) -> String {
    let dropped = receiver.recv.overflows().unwrap_or_default();
    format!("packet {} after {after}; {dropped} were dropped because the header queue was full", receiver.next)
}

/// Says what didn't come, and what the sender knows of it.
fn stuck<B: PciFunction>(error: Failure, what: &str, sender: &PioSender<B>) -> Failure {
    match error {
        Failure::Wrong(why) => Failure::wrong(format!("{why}: {what}; {:?}", sender.counters())),
        other => other,
    }
}

/// Management packets leave by a context for them, and data packets don't.
fn management<B: PciFunction>(rig: &Rig<B>, data: &Header) -> Result<(), Failure> {
    let config = SendConfig { kind: SendKind::Management, ..SendConfig::new(Blocks(102)) };
    let mut sender = PioSender::new(rig.hfi.send_context_with(config)?);
    // Lane and class 15, and no KDETH. Nobody is there who takes them: what counts is that they leave.
    let mut header = *data;
    header.0[0] |= 0xf0;
    header.0[13] = 0;
    let head = Head::new(Pbc::new(header.pbc(Vl(15)).length(), Vl(15), Sc(15)).credit_return(), &header);
    let mut watch = Watch::of(rig);
    let mut sent = 0;
    while sent < MANAGEMENT || sender.outstanding() != Blocks(0) {
        if sent < MANAGEMENT {
            match sender.send(&head, &[]) {
                Ok(()) => sent += 1,
                Err(PioError::NoCredit { .. }) => {}
                Err(error) => return Err(Failure::wrong(error.to_string())),
            }
        }
        sender.check().map_err(|error| Failure::wrong(error.to_string()))?;
        watch.step(false).map_err(|error| stuck(error, "credits of management packets", &sender))?;
    }
    expect_refusal(rig, &mut sender, data.pbc(rig.config.vl), data, EgressRefusals::VL)
}
