//! An adapter that is opened after its last owner was killed in mid-transfer: nothing of the dead owner's lands any more.
//!
//! Over VFIO the kernel resets an adapter whose owner dies. Here the owner is forgotten instead: what it mapped stays mapped,
//! and every byte of it is compared.

mod common;

use common::{Bench, header, packet};
use opx_bus::{BusError, DmaBlock, Irq, PciFunction, SharedMem};
use opx_defs::sdma::SdmaDesc;
use opx_defs::time::Instant;
use opx_defs::units::{BarOff, JobKey};
use opx_emu::{EmuBus, Icode};
use opx_hw::{Hfi, LinkMode, RecvConfig};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// PCI_COMMAND and its bus-master bit.
const COMMAND: u16 = 4;
const BUS_MASTER: u8 = 4;
const KEY: JobKey = JobKey(1);

/// What was done on a bus, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    RegisterWrite,
    MasterOff,
    MasterOn,
    Reset,
    DmaAlloc,
    Interrupts,
}

/// A bus on which each access takes a while, so that an adapter that is still at work goes on working meanwhile.
#[derive(Clone)]
struct Slow {
    bus: EmuBus,
    log: Arc<Mutex<Vec<Did>>>,
    blocks: Arc<Mutex<Vec<SharedMem>>>,
    /// Memory to compare with what it was when bus mastering was taken away.
    watched: Arc<Vec<SharedMem>>,
    before: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Slow {
    fn new(bus: EmuBus, watched: Vec<SharedMem>) -> Self {
        let watched = Arc::new(watched);
        Self { bus, log: Arc::default(), blocks: Arc::default(), watched, before: Arc::default() }
    }

    fn takes_time(&self) {
        self.bus.pause(Duration::from_micros(1));
    }

    fn did(&self, what: Did) {
        self.log.lock().unwrap().push(what);
    }
}

fn contents(blocks: &[SharedMem]) -> Vec<Vec<u8>> {
    let copy = |memory: &SharedMem| {
        let mut bytes = vec![0; memory.len()];
        memory.read(0, &mut bytes);
        bytes
    };
    blocks.iter().map(copy).collect()
}

impl PciFunction for Slow {
    fn name(&self) -> &str {
        self.bus.name()
    }
    fn bar0_len(&self) -> u64 {
        self.bus.bar0_len()
    }
    fn read64(&self, offset: BarOff) -> u64 {
        self.takes_time();
        self.bus.read64(offset)
    }
    fn write64(&self, offset: BarOff, value: u64) {
        self.did(Did::RegisterWrite);
        self.bus.write64(offset, value);
    }
    fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
        self.bus.write_block(offset, block);
    }
    fn config_read(&self, offset: u16, data: &mut [u8]) -> Result<(), BusError> {
        self.takes_time();
        self.bus.config_read(offset, data)
    }
    fn config_write(&self, offset: u16, data: &[u8]) -> Result<(), BusError> {
        self.takes_time();
        self.bus.config_write(offset, data)?;
        if offset == COMMAND && data[0] & BUS_MASTER == 0 {
            self.did(Did::MasterOff);
            *self.before.lock().unwrap() = contents(&self.watched);
        } else if offset == COMMAND {
            self.did(Did::MasterOn);
        }
        Ok(())
    }
    fn dma_alloc(&self, len: usize) -> Result<DmaBlock, BusError> {
        self.did(Did::DmaAlloc);
        let block = self.bus.dma_alloc(len)?;
        self.blocks.lock().unwrap().push(block.memory().clone());
        Ok(block)
    }
    fn irq_enable(&self, count: u16) -> Result<Vec<Irq>, BusError> {
        self.did(Did::Interrupts);
        self.bus.irq_enable(count)
    }
    fn reset(&self) -> Result<(), BusError> {
        self.did(Did::Reset);
        self.bus.reset()
    }
    fn gone(&self) -> Option<String> {
        self.bus.gone()
    }
    fn now(&self) -> Instant {
        self.bus.now()
    }
    fn pause(&self, duration: Duration) {
        self.bus.pause(duration);
    }
    fn relax(&self) {
        self.bus.relax();
    }
    fn wait_irq(&self, irq: &Irq, limit: Duration) -> Result<bool, BusError> {
        self.bus.wait_irq(irq, limit)
    }
}

/// An owner that gives an engine much to send to its own receive context and dies: all of its memory, still mapped.
fn killed_in_mid_transfer(bench: &Bench) -> Vec<SharedMem> {
    let bus = Slow::new(bench.bus(), Vec::new());
    let hfi = Hfi::open(bus.clone(), bench.options()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    let config =
        RecvConfig { header_entries: 2048, eager_buffers: 1024, eager_buffer_size: 16384, ..RecvConfig::default() };
    let recv = hfi.recv_context(config).unwrap();
    let engine = hfi.sdma_engine(2048).unwrap();
    let memory = bus.dma_alloc(8192).unwrap();
    let header = header(hfi.lid(), hfi.lid(), recv.number(), KEY, 1024);
    let packet = packet(&header, &[0x5a; 1024]);
    memory.write(0, &packet);
    for slot in 0..2000 {
        let desc = SdmaDesc::new(memory.iova(0), packet.len() as u32).first().last();
        engine.write_descriptor(slot, desc.head_to_host().interrupt());
    }
    engine.ring_doorbell(2000);
    // The first packets have arrived, most are still to go.
    bus.pause(Duration::from_micros(5));
    let blocks = bus.blocks.lock().unwrap().clone();
    std::mem::forget((hfi, recv, engine, memory));
    blocks
}

#[test]
fn an_adapter_whose_owner_dies_works_on() {
    for icode in [Icode::Silicon, Icode::FunctionalSimulator] {
        let bench = Bench::new(icode);
        let memory = killed_in_mid_transfer(&bench);
        let before = contents(&memory);
        bench.bus().pause(Duration::from_micros(5));
        let after = contents(&memory);
        let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        // Header queue, eager buffers and head: this is what the next owner has to stop.
        assert!(changed >= 3, "only {changed} blocks changed");
    }
}

#[test]
fn nothing_of_a_dead_owner_lands_once_the_adapter_is_opened() {
    for icode in [Icode::Silicon, Icode::FunctionalSimulator] {
        let bench = Bench::new(icode);
        let memory = killed_in_mid_transfer(&bench);
        let resets = bench.adapter.counts().resets;
        let bus = Slow::new(bench.bus(), memory.clone());
        let hfi = Hfi::open(bus.clone(), bench.options()).unwrap();
        assert_eq!(bench.adapter.counts().resets, resets + 1);

        // Reset before anything else, and quiet before there is memory or interrupts to use.
        let log = bus.log.lock().unwrap().clone();
        let first = |what| log.iter().position(|did| *did == what).unwrap();
        assert_eq!(first(Did::MasterOff), 0, "the first thing that is done to the adapter");
        let reset = first(Did::Reset);
        for later in [Did::MasterOn, Did::DmaAlloc, Did::Interrupts] {
            assert!(first(later) > reset, "{later:?}");
        }

        // The new owner brings the link up and sends, and still nothing of the old one's moves.
        hfi.link_up(LinkMode::Loopback).unwrap();
        let mut recv = hfi.recv_context(RecvConfig::default()).unwrap();
        let engine = hfi.sdma_engine(64).unwrap();
        let block = bus.dma_alloc(4096).unwrap();
        let header = header(hfi.lid(), hfi.lid(), recv.number(), KEY, 64);
        common::send_sdma(&engine, 0, &block, &packet(&header, &[7; 64]));
        assert!(common::receive(&mut recv).is_some());
        bus.pause(Duration::from_millis(10));
        let before = bus.before.lock().unwrap().clone();
        assert_eq!(before.len(), memory.len());
        for (n, (before, after)) in before.iter().zip(contents(&memory)).enumerate() {
            assert!(*before == after, "block {n} of {} bytes was written to", before.len());
        }
    }
}
