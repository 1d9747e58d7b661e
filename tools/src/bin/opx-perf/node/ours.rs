//! An end by this project's own stack: an endpoint that reaches its peer, in the other process, through the machine's memory.
//!
//! An endpoint has an adapter. Each process has an emulated one, through which nothing goes; both have the same LID.

use super::Side;
use crate::opx::Opx;
use anyhow::{Context, Result};
use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::observe::Path;
use opx_stack::{Address, Config, Endpoint, SharedMemory};
use std::os::unix::process::parent_id;

/// Opens an end, and what has to live as long: the endpoint that has the other end's receive context here.
///
/// # Errors
/// When the endpoint can't be opened, or the other end is gone.
pub fn one(
    side: Side,
    exchange: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
) -> Result<(Opx<EmuBus>, Option<Endpoint<EmuBus>>)> {
    let adapter = Lab::new(Pacing::Real).add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default())?;
    hfi.link_up(LinkMode::Loopback)?;
    let before = (side == Side::Answers).then(|| Endpoint::open(&hfi, Config::default())).transpose()?;
    // Both ends are children of the same process.
    let shared_memory = SharedMemory::of_job(format!("opx-perf-{}", parent_id()));
    let end = Endpoint::open(&hfi, Config { shared_memory, expect: Some(Path::SharedMemory), ..Config::default() })?;
    let me = end.address();
    let theirs = exchange(&[me.rx])?;
    let peer = Address { rx: *theirs.first().context("the other end is gone")?, ..me };
    Ok((Opx::new(end, peer, None), before))
}
