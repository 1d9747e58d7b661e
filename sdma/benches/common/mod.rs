//! A queue on plain memory: what the driver's own work costs, without a device behind it.
#![allow(dead_code)]

use opx_bench::PlainBus;
use opx_bus::{BlockStore, DmaBlock, PciFunction, SharedMem};
use opx_defs::csr;
use opx_defs::sdma::HeaderEdit;
use opx_defs::units::Iova;
use opx_emu::{Config, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_sdma::{Fragment, HeaderEntry, Packet, SdmaQueue};

/// Descriptors of the ring.
pub const RING: u32 = 1024;
/// Packets of a run.
pub const RUN: usize = 128;

/// A queue, its memory, and a chip that does everything at once.
pub struct Bench {
    queue: SdmaQueue<PlainBus<EmuBus>, usize>,
    bus: PlainBus<EmuBus>,
    /// The ring's block, and where the head lies in it.
    host: SharedMem,
    entry: HeaderEntry,
    memory: DmaBlock,
    pieces: Vec<Fragment>,
    run: Vec<Fragment>,
    edits: Vec<[HeaderEdit; 5]>,
    lab: Lab,
}

impl Bench {
    /// A queue that is set up and warm.
    pub fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let lab = Lab::new(Pacing::Virtual);
        let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
        let bus = PlainBus::new(adapter.bus(), BlockStore::best())?;
        let hfi = Hfi::open(bus.clone(), Options::default())?;
        hfi.link_up(LinkMode::Loopback)?;
        let memory = hfi.bus().dma_alloc(1 << 16)?;
        let mut queue = SdmaQueue::new(hfi.sdma_engine(RING)?);
        let ring = Iova(bus.read64(csr::SEND_DMA_BASE_ADDR.at(0)));
        let (host, _) = bus.host(ring).ok_or("the ring was allocated")?;
        let entry = queue.open_header()?;
        bus.detach();
        let pieces = (0..4).map(|n| Fragment::raw(memory.iova(n * 8192), 512)).collect();
        let run = (0..RUN).map(|n| Fragment::raw(memory.iova(n * 512), 512)).collect();
        let edit = |dword, start, value| HeaderEdit::new(dword, start, 16, value).ok_or("an edit of the header");
        let edits =
            |n| Ok::<_, &str>([edit(6, 0, n)?, edit(6, 16, n)?, edit(15, 0, n)?, edit(15, 16, 0)?, edit(7, 0, n)?]);
        let edits = (0..RUN as u16).map(edits).collect::<Result<_, _>>()?;
        let mut bench = Self { queue, bus, host, entry, memory, pieces, run, edits, lab };
        let header = [Fragment::raw(bench.memory.iova(0), 64), Fragment::raw(bench.memory.iova(64), 64)];
        bench.queue.submit(Packet::new(&header).storing(&bench.entry), 0).map_err(|(error, _)| error)?;
        bench.queue.doorbell();
        bench.work();
        assert_eq!(bench.take(), 1);
        Ok(bench)
    }

    /// The chip does all that it was told.
    pub fn work(&self) {
        let tail = self.bus.bar0().read_u64(csr::SEND_DMA_TAIL.at(0).0 as usize);
        self.host.write_u64(RING as usize * 16, tail);
    }

    /// Queues packets of one fragment and tells the engine.
    pub fn submit_singles(&mut self) {
        for n in 0..RUN {
            assert!(self.queue.submit(&[self.pieces[0]], n).is_ok());
        }
        self.queue.doorbell();
    }

    /// Queues a run of packets of one fragment with one token and tells the engine.
    pub fn submit_run(&mut self) {
        let one = |fragment| Packet::new(std::slice::from_ref(fragment));
        assert!(self.queue.submit_run(self.run.iter().map(one), RUN).is_ok());
        self.queue.doorbell();
    }

    /// Queues a run of packets of two fragments, header and payload, with one token and tells the engine.
    pub fn submit_run_of_pairs(&mut self) {
        assert!(self.queue.submit_run(self.run.chunks_exact(2).map(Packet::new), RUN).is_ok());
        self.queue.doorbell();
    }

    /// Queues a run of packets with a stored header, five edits and one fragment each, with one token, and tells the engine.
    pub fn submit_run_edited(&mut self) {
        let Self { queue, entry, edits, run, .. } = self;
        let packet = |(edits, payload)| Packet::edited(entry, edits, std::slice::from_ref(payload));
        assert!(queue.submit_run(edits.iter().map(|edits| &edits[..]).zip(run.iter()).map(packet), RUN).is_ok());
        queue.doorbell();
    }

    /// Queues packets of four fragments and tells the engine.
    pub fn submit_fours(&mut self) {
        for n in 0..RUN {
            assert!(self.queue.submit(&self.pieces, n).is_ok());
        }
        self.queue.doorbell();
    }

    /// Takes what is done.
    pub fn take(&mut self) -> usize {
        let mut done = 0;
        while self.queue.poll().is_some() {
            done += 1;
        }
        done
    }

    /// Tail writes so far.
    pub fn doorbells(&self) -> u64 {
        self.queue.counters().doorbells
    }

    /// Descriptors so far.
    pub fn descriptors(&self) -> u64 {
        self.queue.counters().descriptors
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The adapter is closed properly.
        self.bus.attach();
    }
}
