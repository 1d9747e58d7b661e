//! Emulated adapters for the examples. With the adapter itself this is `Hfi::open` on its bus, and `Hfi::link_up`.
#![allow(dead_code, reason = "each example uses a part of it")]

use opx_defs::units::Guid;
use opx_emu::{Config, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, LinkState, Options};
use opx_stack::{EndpointId, PollSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn chip(guid: u64) -> Config {
    let link_time = Duration::from_millis(1);
    Config { icode: Icode::FunctionalSimulator, guid: Guid(guid), link_time, ..Config::default() }
}

/// An adapter whose wire comes back to it. The lab is where it lives.
pub fn adapter() -> anyhow::Result<(Lab, Hfi<EmuBus>)> {
    let lab = Lab::new(Pacing::Real);
    let hfi = Hfi::open(lab.add(chip(1)).bus(), Options::default())?;
    hfi.link_up(LinkMode::Loopback)?;
    Ok((lab, hfi))
}

/// Two adapters with a cable between them.
pub fn two_adapters() -> anyhow::Result<(Lab, Hfi<EmuBus>, Hfi<EmuBus>)> {
    let lab = Lab::new(Pacing::Real);
    let (left, right) = (lab.add(chip(1)), lab.add(chip(2)));
    lab.cable(&left, &right);
    let left = Hfi::open(left.bus(), Options::default())?;
    let right = Hfi::open(right.bus(), Options::default())?;
    // Each side's link comes up only with the other's.
    let cable = LinkMode::Cable { timeout: Duration::from_secs(60) };
    left.link_begin(cable)?;
    right.link_begin(cable)?;
    while (left.link_advance()?, right.link_advance()?) != (LinkState::Active, LinkState::Active) {
        std::thread::yield_now();
    }
    Ok((lab, left, right))
}

/// Drives an endpoint until nobody of `ranks` waits for an answer any more: whoever leaves before takes his answers along.
/// `quiet` counts those that have all of theirs.
pub fn leave_together(
    set: &mut PollSet<EmuBus>,
    endpoint: EndpointId,
    quiet: &AtomicUsize,
    ranks: usize,
) -> anyhow::Result<()> {
    let mut counted = false;
    while quiet.load(Ordering::Acquire) < ranks {
        set.progress()?;
        if !counted && set.endpoint(endpoint)?.is_quiet() {
            quiet.fetch_add(1, Ordering::Release);
            counted = true;
        }
    }
    Ok(())
}
