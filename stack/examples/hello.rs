//! One endpoint says hello to another, over a cable between two emulated adapters:
//!
//!     cargo run -p opx-stack --example hello

mod emulated;

use anyhow::{Context, ensure};
use opx_stack::{Completion, Config, Domain, Pattern};
use std::time::Duration;

const TAG: u64 = 7;
const LIMIT: Option<Duration> = Some(Duration::from_secs(60));

fn main() -> anyhow::Result<()> {
    let (_lab, left, right) = emulated::two_adapters()?;

    // Each domain has a thread that drives its endpoints, and sleeps while there is nothing to do.
    let (ours, theirs) = (Domain::open(&left)?, Domain::open(&right)?);
    let (our_queue, their_queue) = (ours.completion_queue(16), theirs.completion_queue(16));
    let sender = ours.endpoint(Config::default(), &our_queue)?;
    let receiver = theirs.endpoint(Config::default(), &their_queue)?;

    // A buffer moves into the operation, and comes back with its completion.
    receiver.lock()?.tag_receive(Pattern::exact(TAG), vec![0; 64], 1).map_err(|refused| refused.error)?;
    sender
        .lock()?
        .tag_send(receiver.address(), TAG, b"hello, Omni-Path".to_vec(), 2)
        .map_err(|refused| refused.error)?;

    let Completion::Received { source, len, buffer, .. } = their_queue.wait(LIMIT)?.completion else {
        anyhow::bail!("that was no message");
    };
    let bytes = buffer.into_vec();
    let text = std::str::from_utf8(bytes.get(..len).context("longer than its buffer")?)?;
    println!("{} heard from {source}: {text}", receiver.address());
    ensure!(text == "hello, Omni-Path" && source == sender.address());
    ensure!(matches!(our_queue.wait(LIMIT)?.completion, Completion::Sent { context: 2, .. }));
    Ok(())
}
