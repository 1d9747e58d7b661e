//! What taking packets and reading the time cost: instructions by single steps, nanoseconds by criterion, with a header queue of
//! plain memory.
//!
//! `cargo bench -p opx-hw --bench receive`; with `-- --test` only to see that it runs.

use criterion::Criterion;
use opx_bench::{Cases, Goal, PlainBus, Table};
use opx_bus::clock::RealClock;
use opx_bus::clock_choice::ClockSource;
use opx_bus::{BlockStore, DmaBlock, PciFunction};
use opx_defs::units::Dwords;
use opx_defs::wire::rhf::{RcvType, Rhf};
use opx_emu::{Config, EmuBus, Icode, Lab, Pacing};
use opx_hw::recv::{Detect, Received};
use opx_hw::{Hfi, Options, RecvConfig, RecvContext};
use std::hint::black_box;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: opx_bench::Allocator = opx_bench::ALLOCATOR;

const ENTRIES: usize = 2048;
const BUFFER: usize = 16384;

/// A context, and somebody who writes packets to its queue as the chip does.
struct Rig {
    bus: PlainBus<EmuBus>,
    recv: RecvContext<PlainBus<EmuBus>>,
    entry: usize,
    seq: u8,
}

impl Rig {
    fn new(lab: &Lab, detect: Detect) -> Self {
        let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
        let bus = PlainBus::new(adapter.bus(), BlockStore::best()).expect("memory");
        let hfi = Hfi::open(bus.clone(), Options::default()).expect("an emulated adapter opens");
        let config = RecvConfig { detect, eager_buffer_size: BUFFER as u32, ..RecvConfig::default() };
        assert_eq!(config.header_entries as usize, ENTRIES);
        let recv = hfi.recv_context(config).expect("the first context can be had");
        bus.detach();
        Self { bus, recv, entry: 0, seq: Rhf::FIRST_SEQ }
    }

    /// The chip writes a packet of `payload` bytes.
    fn arrive(&mut self, payload: u32) {
        let (headers, _): (&DmaBlock, _) = self.recv.memory();
        let length = Dwords((60 + payload) / 4);
        let mut rhf = Rhf::new(length, RcvType::Eager, self.seq, Dwords(16));
        if payload > 0 {
            rhf = rhf.eager((self.entry / 8 % 32) as u16, (self.entry % 8 * 32) as u16);
        }
        headers.write_u64(self.entry * 128 + 120, rhf.0);
        self.entry = (self.entry + 1) % ENTRIES;
        self.seq = Rhf::next_seq(self.seq);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.bus.attach();
    }
}

/// Packets, polls, or looks at a clock, of a counted piece: the difference between two such numbers is what one takes in a loop.
const FEW: usize = 16;
const MANY: usize = 116;

fn empty_polls(count: usize) -> impl FnMut(&mut Rig) {
    move |rig| {
        for _ in 0..count {
            if let Some(received) = rig.recv.poll() {
                black_box(received);
            }
        }
    }
}

fn arrivals(count: usize, payload: u32) -> impl FnMut(&mut Rig) {
    move |rig| (0..count).for_each(|_| rig.arrive(payload))
}

/// Takes packets as they come and gives each to `with`.
fn packets(count: usize, with: impl Fn(&RecvContext<PlainBus<EmuBus>>, &Received)) -> impl FnMut(&mut Rig) {
    move |rig| {
        let mut left = count;
        while left > 0 {
            // By reference, so that only the context's own work counts and not that of moving what it gave.
            if let Some(received) = &rig.recv.poll() {
                with(&rig.recv, received);
                left -= 1;
            }
        }
    }
}

fn looks(count: usize) -> impl FnMut(&mut RealClock) {
    move |clock| {
        for _ in 0..count {
            // Each look is as the first one after other work: nothing of the clock is in registers.
            black_box(black_box(&*clock).now());
        }
    }
}

fn looks_at_simulated_time(count: usize) -> impl FnMut(&mut Rig) {
    move |rig| {
        for _ in 0..count {
            black_box(rig.bus.now());
        }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("a goal was missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, Box<dyn std::error::Error>> {
    let lab = Lab::new(Pacing::Virtual);
    let rig = || Rig::new(&lab, Detect::Sequence);
    let by_tail = || Rig::new(&lab, Detect::Tail);
    let mut cases = Cases::default();
    let mut rows = Vec::new();
    // Each row has a case with few and one with many.
    macro_rules! row {
        ($name:literal, $goal:expr, $rig:expr, $count:ident => $before:expr, $work:expr) => {
            for $count in [FEW, MANY] {
                cases.add_with($name, $rig, $before, $work);
            }
            rows.push(($name, $goal));
        };
    }
    let hand_up = |_: &RecvContext<PlainBus<EmuBus>>, received: &Received| {
        black_box(received);
    };
    let with_header = |recv: &RecvContext<PlainBus<EmuBus>>, received: &Received| {
        black_box(&recv.header(received));
    };
    row!("an empty poll", Goal::AtMost(12.0), rig(), n => |_| (), empty_polls(n));
    row!("an empty poll, entries found by tail", Goal::AtMost(12.0), by_tail(), n => |_| (), empty_polls(n));
    row!("an entry found, decoded and handed up", Goal::AtMost(50.0), rig(), n => arrivals(n, 1024), packets(n, hand_up));
    row!("the same without payload", Goal::None, rig(), n => arrivals(n, 0), packets(n, hand_up));
    row!("the same with a copy of its header", Goal::None, rig(), n => arrivals(n, 1024), packets(n, with_header));
    row!("the time, simulated", Goal::AtMost(15.0), rig(), n => |_| (), looks_at_simulated_time(n));
    // Elsewhere it is the system's clock, which isn't ours to count.
    let clock = RealClock::default();
    if clock.source() == ClockSource::Cycles {
        row!("the time, by the processor's cycle counter", Goal::AtMost(15.0), clock, n => |_| (), looks(n));
    }
    let counted = cases.count()?;
    let mut table = Table::new("receive");
    let mut dirty = 0;
    for (pair, (name, goal)) in counted.chunks(2).zip(rows) {
        let [few, many] = pair else { continue };
        let value = many.median().saturating_sub(few.median()) as f64 / (MANY - FEW) as f64;
        table.add(name, value, "instructions", goal);
        let total = many.total();
        dirty += total.fences + total.locked + total.divisions + total.system_calls;
    }
    table.add("fences, locks, divisions and system calls in all of them", dirty as f64, "", Goal::AtMost(0.0));

    let mut warm = rig();
    let mut payload = [0; 1024];
    let allocations = opx_bench::allocations(|| {
        for _ in 0..1000 {
            warm.arrive(1024);
            if let Some(received) = warm.recv.poll() {
                black_box(warm.recv.header(&received));
                warm.recv.copy_payload(&received, &mut payload);
            }
            warm.recv.release();
        }
    });
    table.add("allocations in 1000 packets", allocations as f64, "", Goal::AtMost(0.0));
    table.write()?;

    let mut criterion = Criterion::default().configure_from_args();
    let mut rig = Rig::new(&lab, Detect::Sequence);
    criterion.bench_function("receive/empty poll", |bencher| bencher.iter(|| black_box(rig.recv.poll())));
    criterion.bench_function("receive/packet of 1 KiB with its header and payload", |bencher| {
        bencher.iter(|| {
            rig.arrive(1024);
            if let Some(received) = rig.recv.poll() {
                black_box(rig.recv.header(&received));
                rig.recv.copy_payload(&received, black_box(&mut payload));
            }
            rig.recv.release();
        });
    });
    criterion.final_summary();
    Ok(table.met())
}
