//! What the driver's tests share: adapters on a bench with a simulated clock, and packets to send.
#![allow(dead_code)]

use opx_bus::PciFunction;
use opx_defs::sdma::SdmaDesc;
use opx_defs::units::{Blocks, Dwords, Guid, JobKey, Lid, Pkey, RcvCtxt, Sc, Sl, Vl};
use opx_defs::wire::bth::Bth;
use opx_defs::wire::lrh::{Lrh, NextHeader};
use opx_defs::wire::pbc::Pbc;
use opx_emu::{Adapter, Config, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options, Received, RecvContext, SdmaEngine, SendContext};
use std::path::Path;
use std::time::Duration;

/// A bench with one adapter, and the firmware it needs.
pub struct Bench {
    pub lab: Lab,
    pub adapter: Adapter,
    pub firmware: tempfile::TempDir,
}

impl Bench {
    pub fn new(icode: Icode) -> Self {
        // Training takes time that only a cable's tests are about.
        let lab = Lab::new(Pacing::Virtual);
        let adapter = lab.add(Config { icode, link_time: Duration::from_millis(2), ..Config::default() });
        Self { lab, adapter, firmware: firmware() }
    }

    pub fn bus(&self) -> EmuBus {
        self.adapter.bus()
    }

    pub fn options(&self) -> Options {
        options(self.firmware.path())
    }

    pub fn open(&self) -> Hfi<EmuBus> {
        Hfi::open(self.bus(), self.options()).unwrap()
    }

    /// Opened, with its link ACTIVE in loopback.
    pub fn active(&self) -> Hfi<EmuBus> {
        let hfi = self.open();
        hfi.link_up(LinkMode::Loopback).unwrap();
        hfi
    }
}

pub fn options(firmware: &Path) -> Options {
    Options { firmware_dir: Some(firmware.to_owned()), ..Options::default() }
}

/// A folder with firmware files of the right format.
pub fn firmware() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    opx_emu::firmware::write_files(dir.path()).unwrap();
    dir
}

/// Two adapters joined by a cable.
pub fn pair(icode: Icode) -> (Lab, [Adapter; 2]) {
    let lab = Lab::new(Pacing::Virtual);
    let make = |guid, hfi_id| lab.add(Config { icode, guid: Guid(guid), hfi_id, ..Config::default() });
    let adapters = [make(0x0011_7501_0100_0b02, 0), make(0x0011_7501_0200_0b01, 0)];
    lab.cable(&adapters[0], &adapters[1]);
    (lab, adapters)
}

/// The 56 bytes of LRH, BTH and KDETH of an eager packet with `payload` bytes, a multiple of 4.
pub fn header(slid: Lid, dlid: Lid, to: RcvCtxt, job_key: JobKey, payload: usize) -> [u8; 56] {
    let length = Dwords((56 + payload as u32 + 4) / 4);
    let lrh = Lrh { sc: Sc(0), sl: Sl(0), next: NextHeader::Bth, dlid, slid, length };
    let bth = Bth { opcode: 0xc0, pkey: Pkey(0x8001), dest_qp: 0x80_0000 | u32::from(to.0) };
    let mut bytes = [0; 56];
    bytes[..8].copy_from_slice(&lrh.encode());
    bytes[8..16].copy_from_slice(&bth.encode());
    bytes[20..24].copy_from_slice(&(1u32 << 30).to_le_bytes());
    bytes[24..26].copy_from_slice(&job_key.0.to_le_bytes());
    for (i, byte) in bytes[28..].iter_mut().enumerate() {
        *byte = i as u8;
    }
    bytes
}

/// A packet as it goes into the chip: PBC, header, payload.
pub fn packet(header: &[u8; 56], payload: &[u8]) -> Vec<u8> {
    assert_eq!(payload.len() % 4, 0);
    let dwords = Dwords((8 + 56 + payload.len() as u32) / 4);
    let mut bytes = Pbc::new(dwords, Vl(0), Sc(0)).credit_return().0.to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(payload);
    bytes
}

/// Writes a packet to a send context's blocks from `fill` on; the result is the new fill.
pub fn send_pio<B: PciFunction>(context: &SendContext<B>, fill: u16, packet: &[u8]) -> u16 {
    let blocks = packet.chunks(64);
    let count = blocks.len() as u16;
    for (i, chunk) in (0..).zip(blocks) {
        let mut block = [0u64; 8];
        for (qword, bytes) in block.iter_mut().zip(chunk.chunks(8)) {
            let mut b = [0; 8];
            b[..bytes.len()].copy_from_slice(bytes);
            *qword = u64::from_le_bytes(b);
        }
        context.bus().write_block(context.block_offset(fill + i, i == 0), &block);
    }
    fill + count
}

/// Puts one packet of two descriptors in an engine's ring and rings.
pub fn send_sdma<B: PciFunction>(engine: &SdmaEngine<B>, tail: u32, memory: &opx_bus::DmaBlock, packet: &[u8]) -> u32 {
    memory.write(0, packet);
    let generation = u64::from(tail / engine.entries());
    let first = SdmaDesc::new(memory.iova(0), 64).first().generation(generation);
    engine.write_descriptor(tail, first);
    let generation = u64::from((tail + 1) / engine.entries());
    let rest = SdmaDesc::new(memory.iova(64), packet.len() as u32 - 64);
    engine.write_descriptor(tail + 1, rest.last().head_to_host().interrupt().generation(generation));
    engine.ring_doorbell(tail + 2);
    tail + 2
}

/// Waits for a packet, at most 10 ms.
pub fn receive<B: PciFunction>(context: &mut RecvContext<B>) -> Option<Received> {
    let bus = context.bus().clone();
    opx_bus::poll::until(&bus, Duration::from_millis(10), || context.poll()).ok()
}

/// What blocks hold after `blocks` of them were written.
pub fn blocks(n: u16) -> Blocks {
    Blocks(n)
}
