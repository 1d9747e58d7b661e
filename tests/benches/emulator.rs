//! How fast the emulated adapter is: packets from the store into the send buffer, or from the descriptor in memory, over
//! its looped wire to the receive context's queue in memory, where the driver takes them.
//!
//! In this process time is simulated (`Pacing::Virtual`): one thread stores, runs the chip's events and takes the packets,
//! and what is told is processor time, the driver's share included. Behind a socket time is real, since client and server
//! are threads of their own, and what is told is time on the wall.

use criterion::{Criterion, Throughput};
use opx_bench::{Cases, Goal, Table};
use opx_bus::PciFunction;
use opx_defs::units::{Blocks, Vl};
use opx_defs::wire::opx::{Eager, Header};
use opx_emu::server::SocketServer;
use opx_emu::{Config, Lab, Pacing};
use opx_hw::vfio_user::VfioUserBus;
use opx_hw::{Hfi, RecvConfig, RecvContext};
use opx_pio::{Head, PioSender};
use opx_sdma::{Fragment, SdmaQueue};
use opx_tests::rig::Rig;
use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::time::{Duration, Instant};

/// Payload of a PIO packet: with PBC and header in the first block, it takes two.
const SMALL: usize = 8;
/// Payload of an SDMA packet.
const LARGE: usize = 8192;
/// Room for one SDMA packet, header and payload.
const SLOT: usize = 16384;
/// SDMA packets under way at most.
const BURST: u32 = 64;
/// PIO packets under way at most: they fit in the send context, and in the buffer of a socket.
const SMALL_BURST: u32 = 128;
/// PIO packets whose instructions are counted at a time: one step each takes its time.
const COUNTED: u32 = 4;

/// An adapter that sends to itself.
struct Loop<B: PciFunction> {
    rig: Rig<B>,
    _hfi: Hfi<B>,
    recv: RecvContext<B>,
    small: Header,
    large: Header,
    pio: PioSender<B>,
    sdma: SdmaQueue<B, u32>,
    memory: opx_bus::DmaBlock,
    /// Lets time pass while packets are under way.
    wait: fn(&B),
}

impl<B: PciFunction> Loop<B> {
    fn new(rig: Rig<B>, wait: fn(&B)) -> Self {
        let hfi = rig.bring_up();
        let job_key = hfi.options().job_key;
        let recv = hfi.recv_context(RecvConfig { job_key, ..RecvConfig::default() }).expect("a receive context");
        let rx = recv.number().0 as u8;
        let route = hfi.route(rx, hfi.lid(), rx);
        let header = |len: usize| {
            let (body, mut out) = (vec![7; len], vec![0; len]);
            Eager::of(Some(1), None, &body).encode(&route, &mut out).expect("a header").0
        };
        let (small, large) = (header(SMALL), header(LARGE));
        let pio = PioSender::new(hfi.send_context(Blocks(2 * SMALL_BURST as u16)).expect("a send context"));
        let sdma = SdmaQueue::new(hfi.sdma_engine(BURST * 2).expect("an SDMA engine"));
        let memory = hfi.bus().dma_alloc(SLOT * BURST as usize).expect("memory");
        for slot in 0..BURST as usize {
            memory.write(slot * SLOT, &large.pbc(Vl(0)).0.to_le_bytes());
            memory.write(slot * SLOT + 8, large.as_bytes());
        }
        Self { rig, _hfi: hfi, recv, small, large, pio, sdma, memory, wait }
    }

    /// Takes what has arrived.
    fn take(&mut self) -> u32 {
        let mut taken = 0;
        while let Some(received) = self.recv.poll() {
            assert_eq!(received.errors(), 0);
            self.recv.release();
            taken += 1;
        }
        taken
    }

    /// Sends `count` PIO packets and takes them all.
    fn small(&mut self, count: u32) {
        let (mut sent, mut taken) = (0, 0);
        let head = Head::new(self.small.pbc(Vl(0)), &self.small);
        while taken < count {
            let free = SMALL_BURST - (sent - taken);
            for _ in 0..free.min(count - sent) {
                if self.pio.send(&head, &[7; SMALL]).is_err() {
                    break;
                }
                sent += 1;
            }
            (self.wait)(&self.rig.bus);
            taken += self.take();
        }
    }

    /// Sends `count` SDMA packets and takes them all.
    fn large(&mut self, count: u32) {
        let (mut sent, mut done, mut taken) = (0, 0, 0);
        let len = 8 + self.large.as_bytes().len() as u32 + LARGE as u32;
        while taken < count || done < count {
            let free = BURST - (sent - taken.min(done));
            for _ in 0..free.min(count - sent) {
                let iova = self.memory.iova((sent % BURST) as usize * SLOT);
                if self.sdma.submit(&[Fragment::raw(iova, len)], sent).is_err() {
                    break;
                }
                sent += 1;
            }
            self.sdma.doorbell();
            (self.wait)(&self.rig.bus);
            taken += self.take();
            while self.sdma.poll().is_some() {
                done += 1;
            }
        }
    }
}

/// Processor time of this process.
fn processor() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn wall() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Measures one case, for criterion and for the table; packets a second, the median of some rounds.
fn case(criterion: &mut Criterion, name: &str, clock: fn() -> Duration, short: bool, mut run: impl FnMut(u32)) -> f64 {
    let mut group = criterion.benchmark_group("emulator");
    group.throughput(Throughput::Elements(1)).sample_size(10).warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_secs(1));
    let mut timed = |count: u32| {
        let start = clock();
        run(count);
        clock() - start
    };
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| timed(u32::try_from(rounds).unwrap_or(u32::MAX)));
    });
    group.finish();
    let (rounds, count) = if short { (1, 1000) } else { (15, 20_000) };
    let mut rates: Vec<f64> = (0..rounds).map(|_| f64::from(count) / timed(count).as_secs_f64()).collect();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(0.0)
}

/// Instructions of a PIO packet, the driver's share included.
fn count<B: PciFunction>(inside: &mut Loop<B>) -> Result<f64, opx_bench::Error> {
    let mut cases = Cases::default();
    cases.add("a burst", || inside.small(COUNTED));
    let bursts = cases.count()?;
    Ok(bursts.iter().map(|burst| burst.mean() / f64::from(COUNTED)).sum())
}

fn main() -> Result<(), Box<dyn Error>> {
    let short = std::env::args().any(|argument| argument == "--test");
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Table::new("emulator");
    let lab = Lab::new(Pacing::Virtual);
    let adapter = lab.add(Config::default());
    let rig = Rig::new(adapter.bus(), (lab, adapter));
    let mut inside = Loop::new(rig, |bus| bus.pause(Duration::from_micros(1)));
    table.add("in process, PIO of 8 B: a packet", count(&mut inside)?, "instructions", Goal::None);

    let mut add = |name: &str, rate: f64, bytes: usize, packets: Goal, gigabytes: Goal| {
        table.add(&format!("{name}: packets"), rate.round(), "1/s", packets);
        table.add(&format!("{name}: payload"), rate * bytes as f64 / 1e9, "GB/s", gigabytes);
    };
    let rate = case(&mut criterion, "in process, PIO", processor, short, |count| inside.small(count));
    add("in process, PIO of 8 B, a core", rate, SMALL, Goal::AtLeast(2e6), Goal::None);
    let rate = case(&mut criterion, "in process, SDMA", processor, short, |count| inside.large(count));
    add("in process, SDMA of 8 KiB, a core", rate, LARGE, Goal::None, Goal::None);
    drop(inside);

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("adapter.sock");
    let lab = Lab::new(Pacing::Real);
    let adapter = lab.add(Config::default());
    let server = SocketServer::start(adapter.clone(), &path)?;
    let bus = VfioUserBus::open(&path)?;
    let mut socket = Loop::new(Rig::new(bus, (server, folder, lab, adapter)), PciFunction::relax);
    let rate = case(&mut criterion, "vfio-user, PIO", wall, short, |count| socket.small(count));
    add("vfio-user, PIO of 8 B", rate, SMALL, Goal::AtLeast(5e5), Goal::None);
    let rate = case(&mut criterion, "vfio-user, SDMA", wall, short, |count| socket.large(count));
    add("vfio-user, SDMA of 8 KiB", rate, LARGE, Goal::None, Goal::AtLeast(2.0));

    criterion.final_summary();
    table.write()?;
    Ok(())
}
