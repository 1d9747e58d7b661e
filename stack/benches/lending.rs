//! What lending a message saves over copying it: instructions by single steps, and nanoseconds by criterion, with an adapter of plain
//! memory.
//!
//! `cargo bench -p opx-stack --bench lending`; with `-- --test` only to see that it runs. Who benches plays the chip: messages
//! of one packet from a peer that isn't there, which lie in eager buffers. Each is posted for, found by a poll, taken and
//! dropped.

use anyhow::Context;
use criterion::Criterion;
use opx_bench::{Cases, Goal, PlainBus, Table};
use opx_bus::{BlockStore, PciFunction, SharedMem};
use opx_defs::csr;
use opx_defs::rcvarray::RcvArrayEntry;
use opx_defs::units::{Dwords, Iova, Psn};
use opx_defs::wire::opx::{Eager, Header, Route};
use opx_defs::wire::rhf::{RcvType, Rhf};
use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::{Buffer, Completion, Config, Endpoint, Pattern, View};
use std::hint::black_box;
use std::time::Instant;

#[global_allocator]
static ALLOC: opx_bench::Allocator = opx_bench::ALLOCATOR;

const SIZES: [usize; 3] = [1024, 4096, 8192];
/// Who sends; nobody is there.
const PEER: u8 = 77;

/// An endpoint, and the chip, which brings it messages.
struct Rig {
    bus: PlainBus<EmuBus>,
    end: Endpoint<PlainBus<EmuBus>>,
    route: Route,
    headers: SharedMem,
    credits: (SharedMem, usize),
    config: Config,
    entry: u32,
    seq: u8,
    psn: u32,
    /// The eager buffer that is being filled, and how far.
    eager: (u32, u32),
    message: Vec<u8>,
    header: (usize, Header),
    _lab: Lab,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.bus.attach();
    }
}

impl Rig {
    fn new() -> anyhow::Result<Self> {
        let lab = Lab::new(Pacing::Virtual);
        let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
        let bus = PlainBus::new(adapter.bus(), BlockStore::best())?;
        let hfi = Hfi::open(bus.clone(), Options::default())?;
        hfi.link_up(LinkMode::Loopback)?;
        let config = Config { lent_buffers: 16, lent_min: 0, ..Config::default() };
        let end = Endpoint::open(&hfi, config.clone())?;
        let me = end.address();
        let rx = me.rx.into();
        let (headers, at) = bus.host(Iova(bus.read64(csr::RCV_HDR_ADDR.at(rx)))).context("the header queue")?;
        anyhow::ensure!(at == 0, "the header queue begins inside a block");
        let ctxt = end.send_context().0;
        let line = Iova(bus.read64(csr::SEND_CTXT_CREDIT_RETURN_ADDR.at(ctxt.into())));
        let credits = bus.host(line.plus(8 * u64::from(ctxt & 7))).context("the credit word")?;
        // Every message is the same, wherever in the eager buffers it lies.
        let base = csr::RCV_EGR_CTRL::EGR_BASE_INDEX.get(bus.read64(csr::RCV_EGR_CTRL.at(rx))) as u32 * 8;
        let first = RcvArrayEntry(bus.read64(csr::RCV_ARRAY.at(base)));
        let (eager, _) = bus.host(first.addr()).context("the eager buffers")?;
        eager.write(0, &vec![0x5a; eager.len()]);
        bus.detach();
        let route = hfi.route(PEER, me.lid, me.rx);
        let header = (0, Eager { tag: Some(7), cq_data: None, tail: &[], body: &[] }.header(&route)?);
        let message = vec![0x5a; 8192];
        let (entry, seq, psn) = (0, Rhf::FIRST_SEQ, 0);
        Ok(Self {
            bus,
            end,
            route,
            headers,
            credits,
            config,
            entry,
            seq,
            psn,
            eager: (0, 0),
            message,
            header,
            _lab: lab,
        })
    }

    /// The chip writes a message of `len` bytes, and takes what the endpoint answers.
    fn arrive(&mut self, len: usize) {
        if self.header.0 != len {
            let eager = Eager { tag: Some(7), cq_data: None, tail: &[], body: &self.message[..len] };
            self.header = (len, eager.header(&self.route).expect("a header"));
        }
        self.header.1.set_psn(Psn::new(self.psn));
        self.psn = (self.psn + 1) & Psn::MAX.get();
        let (index, offset) = self.eager;
        let units = (len as u32 + 4).div_ceil(64);
        let (index, offset) = if (offset + units) * 64 > self.config.eager_buffer_size {
            ((index + 1) % self.config.eager_buffers, 0)
        } else {
            (index, offset)
        };
        self.eager = (index, offset + units);
        let entry = self.entry as usize * 128;
        self.headers.write(entry + 64, &self.header.1.0);
        let length = Dwords((60 + len as u32) / 4);
        let rhf = Rhf::new(length, RcvType::Eager, self.seq, Dwords(16)).eager(index as u16, offset as u16);
        self.headers.write_u64(entry + 120, rhf.0);
        self.entry = (self.entry + 1) % self.config.header_entries;
        self.seq = Rhf::next_seq(self.seq);
        let left = self.end.pio_counters().blocks;
        self.credits.0.write_u64(self.credits.1, left % 2048);
    }

    /// Receives a message that has arrived into `buffer`.
    fn receive(&mut self, buffer: Buffer) -> Buffer {
        assert!(self.end.tag_receive(Pattern::exact(7), buffer, 1).is_ok());
        loop {
            assert!(self.end.progress().is_ok());
            if let Some(Completion::Received { buffer, .. }) = self.end.poll_completion() {
                return buffer;
            }
        }
    }

    fn pass(&mut self, len: usize, buffer: Buffer) -> Buffer {
        self.arrive(len);
        self.receive(buffer)
    }
}

/// A buffer of each kind.
fn copied() -> Buffer {
    vec![0; 8192].into()
}

fn lent() -> Buffer {
    View::up_to(8192).into()
}

/// What is copied once: from memory of the adapter's to a slice.
struct Copied(SharedMem, Vec<u8>);

impl Copied {
    fn new() -> anyhow::Result<Self> {
        Ok(Self(SharedMem::new(1 << 20)?, vec![0; 8192]))
    }

    fn copy(&mut self, at: usize, len: usize) {
        self.0.read(at, black_box(&mut self.1[..len]));
    }
}

/// Nanoseconds of `work`, as it is in a loop.
fn time(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..64).for_each(|_| work());
    start.elapsed().as_secs_f64() * 1e9 / 64.0
}

fn main() -> anyhow::Result<()> {
    let mut cases = Cases::default();
    for len in SIZES {
        for make in [copied, lent] {
            let rig = (Rig::new()?, make());
            cases.add_with(
                "a message",
                rig,
                move |(rig, _)| rig.arrive(len),
                |(rig, buffer)| *buffer = rig.receive(std::mem::take(buffer)),
            );
        }
        cases.add_with("a copy", Copied::new()?, |_| (), move |copied| copied.copy(0, len));
    }
    let counted = cases.count()?;
    let rounds = if opx_bench::is_short() { 10 } else { 2000 };
    let mut table = Table::new("lending");
    for (len, counts) in SIZES.into_iter().zip(counted.chunks(3)) {
        let [by_copy, by_loan, copy] = counts else { continue };
        let name = |what: &str| format!("{len} bytes: {what}");
        table.add(&name("post, take and drop, copied"), by_copy.median() as f64, "instructions", Goal::None);
        table.add(&name("the same, lent"), by_loan.median() as f64, "instructions", Goal::None);
        let saved = by_copy.median() as f64 - by_loan.median() as f64;
        // At 1 KiB it is only told.
        let goal = if len < 4096 { Goal::None } else { Goal::AtLeast(1.0) };
        table.add(&name("saved, in copies"), saved / copy.median() as f64, "", goal);
        let mut rig = Rig::new()?;
        let [mut own, mut view] = [copied(), lent()];
        let mut once = Copied::new()?;
        // The least of several is what nothing else has disturbed.
        let (mut least_copied, mut least_lent, mut least_copy) = (f64::MAX, f64::MAX, f64::MAX);
        // In turns, so that whatever else the machine does meets all of them.
        for round in 0..rounds {
            least_copied = least_copied.min(time(|| own = rig.pass(len, std::mem::take(&mut own))));
            least_lent = least_lent.min(time(|| view = rig.pass(len, std::mem::take(&mut view))));
            let at = round % 64 * 8192;
            least_copy = least_copy.min(time(|| once.copy(at, len)));
        }
        table.add(&name("time, copied / lent"), least_copied / least_lent, "", Goal::None);
        table.add(&name("time saved, in copies"), (least_copied - least_lent) / least_copy, "", Goal::None);
        anyhow::ensure!(matches!(&view, Buffer::View(view) if view.is_lent()), "it wasn't lent");
    }
    let mut rig = Rig::new()?;
    let mut view = lent();
    for _ in 0..1000 {
        view = rig.pass(4096, std::mem::take(&mut view));
    }
    let allocated = opx_bench::allocations(|| {
        for _ in 0..10_000 {
            view = rig.pass(4096, std::mem::take(&mut view));
        }
    });
    table.add("allocations in 10,000 lent messages", allocated as f64, "", Goal::AtMost(0.0));
    table.write()?;

    let mut criterion = Criterion::default().configure_from_args();
    for len in SIZES {
        for (how, make) in [("copied", copied as fn() -> Buffer), ("lent", lent)] {
            let mut rig = Rig::new()?;
            let mut buffer = make();
            criterion.bench_function(&format!("lending/{len} bytes, {how}"), |bencher| {
                bencher.iter(|| buffer = rig.pass(len, std::mem::take(&mut buffer)));
            });
        }
    }
    criterion.final_summary();
    anyhow::ensure!(table.met(), "a goal isn't met");
    Ok(())
}
