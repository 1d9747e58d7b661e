//! What a contract is given: a bus, and the adapter on it brought up.

use opx_bus::PciFunction;
use opx_hw::{Hfi, LinkMode, Options};
use std::any::Any;
use std::time::Duration;
use tempfile::TempDir;

/// Opens a bus for one test.
pub trait OpenBus {
    /// The bus.
    type Bus: PciFunction;

    /// Opens it. What must live as long as the bus (a server, a folder) comes with it.
    fn open(&self) -> Rig<Self::Bus>;
}

/// A bus, and what it needs to live.
pub struct Rig<B> {
    /// The bus.
    pub bus: B,
    /// Firmware for the adapter.
    firmware: TempDir,
    _keep: Box<dyn Any>,
}

impl<B: PciFunction> Rig<B> {
    /// A rig that keeps `keep` alive.
    pub fn new(bus: B, keep: impl Any) -> Self {
        let firmware = tempfile::tempdir().expect("a temporary folder");
        opx_emu::firmware::write_files(firmware.path()).expect("firmware files");
        Self { bus, firmware, _keep: Box::new(keep) }
    }

    /// The adapter, opened, with its link looped back and ACTIVE.
    pub fn bring_up(&self) -> Hfi<B> {
        let options = Options { firmware_dir: Some(self.firmware.path().to_owned()), ..Options::default() };
        let hfi = Hfi::open(self.bus.clone(), options).expect("the adapter opens");
        hfi.link_up(LinkMode::Loopback).expect("the link comes up");
        hfi
    }

    /// Polls until `ready` gives something, at most `limit` by the bus' clock.
    pub fn wait<T>(&self, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        let start = self.bus.now();
        loop {
            if let Some(value) = ready() {
                return Some(value);
            }
            if self.bus.now().since(start) > limit {
                return None;
            }
            self.bus.relax();
        }
    }
}
