//! Two endpoints on one emulated adapter in simulated time.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod device;
pub mod memory;

use opx_bus::{Chance, PciFunction};
use opx_emu::{Adapter, Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::{Completion, Config, Endpoint};
use std::time::Duration;

/// An adapter whose wire comes back, and two endpoints on it.
pub struct Bench {
    pub hfi: Hfi<EmuBus>,
    pub adapter: Adapter,
    pub a: Endpoint<EmuBus>,
    pub b: Endpoint<EmuBus>,
}

pub fn bench(config: Config) -> Bench {
    let lab = Lab::new(Pacing::Virtual);
    let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    let a = Endpoint::open(&hfi, config.clone()).unwrap();
    let b = Endpoint::open(&hfi, config).unwrap();
    Bench { hfi, adapter, a, b }
}

/// Bytes that tell their seed.
pub fn data(seed: u64, len: usize) -> Vec<u8> {
    let mut chance = Chance::new(seed);
    (0..len).map(|_| chance.below(256) as u8).collect()
}

impl Bench {
    /// Runs until `until` holds, at most a simulated minute.
    pub fn run(&mut self, mut until: impl FnMut(&mut Self) -> bool) {
        let limit = self.hfi.bus().now() + Duration::from_secs(60);
        while !until(self) {
            assert!(self.hfi.bus().now() < limit, "no end: {:?} {:?}", self.a.counters(), self.b.counters());
            let busy = self.a.progress().unwrap() | self.b.progress().unwrap();
            if !busy {
                self.hfi.bus().relax();
            }
        }
    }

    /// The next completion of an endpoint.
    fn next(&mut self, mut poll: impl FnMut(&mut Self) -> Option<Completion>) -> Completion {
        let mut next = None;
        self.run(|bench| {
            next = poll(bench);
            next.is_some()
        });
        next.unwrap()
    }

    pub fn next_at_a(&mut self) -> Completion {
        self.next(|bench| bench.a.poll_completion())
    }

    pub fn next_at_b(&mut self) -> Completion {
        self.next(|bench| bench.b.poll_completion())
    }

    /// Until all that was sent is acknowledged.
    pub fn quiet(&mut self) {
        self.run(|bench| bench.a.is_quiet() && bench.b.is_quiet());
    }
}
