//! Rungs "messages", "rendezvous" and "reliability": tagged messages both ways between two endpoints, some asked for before
//! they come and some after, compared byte by byte and by their order.

use crate::data;
use crate::report::Tally;
use crate::rig::{Failure, Outcome, Pair, Rig};
use opx_bus::PacketFaults;
use opx_bus::PciFunction;
use opx_stack::{Completion, Endpoint, Pattern, SendError};

/// Messages under way at a time.
const WINDOW: u32 = 48;
/// Tags in use: fewer than messages under way, so that the order within a tag counts.
const TAGS: u64 = 8;

/// Messages of one packet.
pub fn messages<B: PciFunction>(rig: &Rig<B>) -> Outcome {
    let eager_max = rig.config.thresholds.eager_max;
    exchange(rig, rig.faults.unwrap_or_default(), 3000, |n| match n {
        0..100 => n as usize,
        n => (n as usize * 1009) % (eager_max + 1),
    })
}

/// Messages that go by rendezvous, from one byte above the threshold to 2 MiB.
pub fn rendezvous<B: PciFunction>(rig: &Rig<B>) -> Outcome {
    let threshold = rig.config.thresholds.eager_max;
    exchange(rig, rig.faults.unwrap_or_default(), 96, |n| match n {
        0..70 => threshold + 1 + n as usize * 131,
        n => (64 << 10) + (n as usize * 769_001) % (2 << 20),
    })
}

/// Both kinds under faults; without faults asked for, under a mix of its own.
pub fn reliability<B: PciFunction>(rig: &Rig<B>) -> Outcome {
    let faults = rig.faults.unwrap_or(PacketFaults { loss: 2.0, duplicate: 1.0, reorder: 2.0, corrupt: 1.0 });
    let outcome = exchange(rig, faults, 2000, |n| match n % 50 {
        49 => 20_000 + (n as usize * 7919) % 300_000,
        _ => (n as usize * 613) % 8192,
    })?;
    if !faults.is_none() && outcome.faults == 0 {
        return Err(Failure::wrong("no fault was injected, so nothing was recovered from"));
    }
    let must_resend = faults.loss > 0.0 || faults.corrupt > 0.0;
    if must_resend && outcome.retransmits == 0 {
        return Err(Failure::wrong("packets were lost and none was sent again"));
    }
    Ok(outcome)
}

/// One direction of an exchange.
#[derive(Default)]
struct Direction {
    sent: u32,
    send_done: u32,
    posted: u32,
    received: u32,
}

/// Sends `count` messages, every other one in the other direction, and checks each.
fn exchange<B: PciFunction>(rig: &Rig<B>, faults: PacketFaults, count: u32, len: impl Fn(u32) -> usize) -> Outcome {
    let mut pair = rig.pair(faults)?;
    let mut ways = [Direction::default(), Direction::default()];
    let mut tally = Tally::default();
    let each = count / 2;
    while ways.iter().any(|way| way.received < each || way.send_done < each) {
        for (n, way) in ways.iter_mut().enumerate() {
            let Pair { a, b, .. } = &mut pair;
            let (from, to) = if n == 0 { (a, b) } else { (b, a) };
            start(rig, way, n as u32, each, from, to, &len)?;
        }
        pair.step()?;
        for end in 0..2 {
            while let Some(completion) = if end == 0 { pair.a.poll_completion() } else { pair.b.poll_completion() } {
                pair.alive();
                let sending = &mut ways[end];
                match completion {
                    Completion::Sent { context, .. } => {
                        if context >= u64::from(sending.sent) {
                            return Err(Failure::wrong(format!("message {context} was completed before it was sent")));
                        }
                        sending.send_done += 1;
                    }
                    Completion::Received { context, tag, len: got, buffer, source, .. } => {
                        let from = if end == 0 { pair.b.address() } else { pair.a.address() };
                        let n = context as u32 * 2 + 1 - end as u32;
                        if source != from || tag != Some(context % TAGS) || got != len(n) {
                            return Err(Failure::wrong(format!(
                                "message {n} arrived from {source} with tag {tag:?} and {got} bytes"
                            )));
                        }
                        if let Some(at) = data::first_difference(rig.seed ^ u64::from(n) << 32, &buffer.bytes()[..got])
                        {
                            return Err(Failure::wrong(format!(
                                "message {n} of {got} bytes differs from byte {at} on"
                            )));
                        }
                        ways[1 - end].received += 1;
                        tally.messages += 1;
                        tally.bytes += got as u64;
                    }
                    Completion::Failed { error, .. } => return Err(Failure::wrong(error.to_string())),
                    other => return Err(Failure::wrong(format!("nobody asked for {other:?}"))),
                }
            }
        }
    }
    pair.close(tally)
}

/// Starts what may be started in one direction: in every other group of messages the receives come late.
fn start<B: PciFunction>(
    rig: &Rig<B>,
    way: &mut Direction,
    n: u32,
    each: u32,
    from: &mut Endpoint<B>,
    to: &mut Endpoint<B>,
    len: &impl Fn(u32) -> usize,
) -> Result<(), Failure> {
    let post_up_to = |way: &Direction| {
        let late = way.posted / WINDOW % 2 == 1;
        // Late means: not before half a window was sent (or all of them).
        if late {
            way.sent.saturating_sub(if way.sent == each { 0 } else { WINDOW / 2 })
        } else {
            way.received + WINDOW
        }
    };
    while way.posted < each && way.posted < post_up_to(way) {
        let buffer = vec![0; len(way.posted * 2 + n)];
        let pattern = Pattern::exact(u64::from(way.posted) % TAGS);
        to.tag_receive(pattern, buffer, way.posted.into()).map_err(|no| Failure::wrong(no.error.to_string()))?;
        way.posted += 1;
    }
    while way.sent < each && way.sent < way.received + WINDOW {
        let number = way.sent * 2 + n;
        let message = data::make(rig.seed ^ u64::from(number) << 32, len(number));
        match from.tag_send(to.address(), u64::from(way.sent) % TAGS, message, way.sent.into()) {
            Ok(()) => way.sent += 1,
            Err(no) if matches!(no.error, SendError::Again(_)) => break,
            Err(no) => return Err(Failure::wrong(no.error.to_string())),
        }
    }
    Ok(())
}
