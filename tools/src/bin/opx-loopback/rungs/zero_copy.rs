//! Rung "zero copy": messages between memory that the adapter reaches. The engine takes them from there, and the adapter puts
//! them there; what lies around is looked at, too.

use crate::data;
use crate::report::Tally;
use crate::rig::{Failure, Outcome, Pair, Rig};
use opx_bus::{PciFunction, SharedMem};
use opx_stack::{Completion, Pattern, SendError, SharedRange};

/// Messages under way at a time, each with memory of its own on both sides.
const WINDOW: usize = 4;
const COUNT: usize = 48;
const LONGEST: usize = 2 << 20;
const PAGE: usize = 4096;
/// What is in all bytes that nobody may write.
const CANARY: u8 = 0xa5;

/// Where a message begins in its memory, and how long it is: whole pages, or anything.
fn place(n: usize) -> (usize, usize) {
    match n % 2 {
        0 => (PAGE, (64 << 10) + n * 9 * PAGE),
        _ => (PAGE + n * 619 % PAGE, 16_385 + n * 39_119 % (LONGEST / 2)),
    }
}

/// Messages that no processor copies.
pub fn zero_copy<B: PciFunction>(rig: &Rig<B>) -> Outcome {
    let memory = || SharedMem::new(LONGEST + 3 * PAGE).map_err(|error| Failure::wrong(error.to_string()));
    let memories = || (0..WINDOW).map(|_| memory()).collect::<Result<Vec<_>, _>>();
    let (sources, targets) = (memories()?, memories()?);
    let mut pair = rig.pair(rig.faults.unwrap_or_default())?;
    let mut tally = Tally::default();
    let (mut posted, mut started, mut sent, mut received) = (0, 0, [false; COUNT], [false; COUNT]);
    let done = |sent: &[bool; COUNT], received: &[bool; COUNT], n: usize| sent[n] && received[n];
    while !(0..COUNT).all(|n| done(&sent, &received, n)) {
        while started < COUNT && (started < WINDOW || done(&sent, &received, started - WINDOW)) {
            let ((start, len), slot) = (place(started), started % WINDOW);
            let range = |memory: &SharedMem| {
                SharedRange::new(memory.clone(), start, len).ok_or_else(|| Failure::wrong("a message is too long"))
            };
            let (Pair { a, b, .. }, n) = (&mut pair, started as u64);
            if posted == started {
                targets[slot].write(0, &vec![CANARY; targets[slot].len()]);
                sources[slot].write(start, &data::make(rig.seed ^ n, len));
                let post = b.tag_receive(Pattern::exact(n), range(&targets[slot])?, n);
                post.map_err(|no| Failure::wrong(no.error.to_string()))?;
                posted += 1;
            }
            match a.tag_send(b.address(), n, range(&sources[slot])?, n) {
                Ok(()) => started += 1,
                Err(no) if matches!(no.error, SendError::Again(_)) => break,
                Err(no) => return Err(Failure::wrong(no.error.to_string())),
            }
        }
        pair.step()?;
        while let Some(completion) = pair.a.poll_completion() {
            pair.alive();
            let Completion::Sent { context, .. } = completion else {
                return Err(Failure::wrong(format!("a send ended so: {completion:?}")));
            };
            sent[context as usize] = true;
        }
        while let Some(completion) = pair.b.poll_completion() {
            pair.alive();
            let Completion::Received { context, len, .. } = completion else {
                return Err(Failure::wrong(format!("a receive ended so: {completion:?}")));
            };
            let n = context as usize;
            check(rig.seed ^ context, n, len, &targets[n % WINDOW])?;
            received[n] = true;
            tally.messages += 1;
            tally.bytes += len as u64;
        }
    }
    if pair.b.counters().expected.tid_rcv_pkts == 0 {
        return Err(Failure::wrong("no packet came in expected form"));
    }
    pair.close(tally)
}

/// Whether a message is whole and nothing around it was written.
fn check(seed: u64, n: usize, got: usize, memory: &SharedMem) -> Result<(), Failure> {
    let (start, len) = place(n);
    let mut bytes = vec![0; memory.len()];
    memory.read(0, &mut bytes);
    if let Some(at) = data::first_difference(seed, &bytes[start..start + len]).filter(|_| got == len) {
        return Err(Failure::wrong(format!("message {n} of {len} bytes differs from byte {at} on")));
    }
    let around = bytes[..start].iter().chain(&bytes[start + len..]);
    if got != len || around.clone().any(|byte| *byte != CANARY) {
        return Err(Failure::wrong(format!("message {n} of {len} bytes has {got}, or was written beyond its place")));
    }
    Ok(())
}
