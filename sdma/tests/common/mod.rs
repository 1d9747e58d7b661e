//! What the tests share: an adapter in loopback, packets to send to it, and what arrives.
#![allow(dead_code)]

use opx_bus::{DmaBlock, PciFunction};
use opx_defs::units::{Psn, Vl};
use opx_defs::wire::opx::{Eager, Header, Route};
use opx_emu::{Adapter, Config, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options, RecvConfig, RecvContext};
use opx_sdma::Fragment;
use std::time::Duration;

pub const LIMIT: Duration = Duration::from_secs(10);
/// Bytes between two packets in memory.
pub const SLOT: usize = 8192;

/// An adapter with its link in loopback and a receive context.
pub struct Rig {
    pub hfi: Hfi<EmuBus>,
    pub adapter: Adapter,
    pub recv: RecvContext<EmuBus>,
    pub route: Route,
    pub memory: DmaBlock,
    lab: Lab,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Pacing::Virtual)
    }

    pub fn with(pacing: Pacing) -> Self {
        let lab = Lab::new(pacing);
        let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
        let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        let job_key = hfi.options().job_key;
        let recv = hfi.recv_context(RecvConfig { job_key, ..RecvConfig::default() }).unwrap();
        let rx = recv.number().0 as u8;
        let route = hfi.route(rx, hfi.lid(), rx);
        let memory = hfi.bus().dma_alloc(64 * SLOT).unwrap();
        Self { hfi, adapter, recv, route, memory, lab }
    }

    pub fn bus(&self) -> &EmuBus {
        self.hfi.bus()
    }

    /// The bytes of packet `n`: PBC, header and payload.
    pub fn packet(&self, n: u32, len: usize) -> Vec<u8> {
        let data: Vec<u8> = (0..len).map(|i| (i as u32 * 7 + n) as u8).collect();
        let mut payload = vec![0; 16384];
        let (mut header, len) = Eager::of(Some(n.into()), None, &data).encode(&self.route, &mut payload).unwrap();
        header.set_psn(Psn::new(n));
        let mut bytes = header.pbc(Vl(0)).0.to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(&payload[..len]);
        bytes
    }

    /// Writes packet `n` to its place in memory.
    pub fn place(&self, n: u32, len: usize) -> Fragment {
        let at = n as usize % 64 * SLOT;
        let bytes = self.packet(n, len);
        self.memory.write(at, &bytes);
        Fragment::of(&self.memory, at..at + bytes.len()).unwrap()
    }

    /// Numbers of the packets that have arrived, each with all of its bytes but the PBC.
    pub fn arrived(&mut self) -> Vec<(u32, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(received) = self.recv.poll() {
            assert_eq!(received.errors(), 0);
            let mut payload = vec![0; received.payload_len()];
            self.recv.copy_payload(&received, &mut payload);
            let header = Header(self.recv.header(&received));
            all.push((header.psn().get(), [&header.0[..], &payload].concat()));
            self.recv.release();
        }
        all
    }

    /// Takes the adapter out of its slot.
    pub fn remove(&self) {
        self.lab.remove(&self.adapter);
    }

    /// Lets time pass until `done` has an answer.
    pub fn until<R>(&self, mut done: impl FnMut() -> Option<R>) -> R {
        opx_bus::poll::until(self.bus(), LIMIT, &mut done).expect("it happens in time")
    }
}
