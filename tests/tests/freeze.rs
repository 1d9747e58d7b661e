//! Freezes of the chip under traffic by PIO and SDMA: each handle tells of the freeze, each recovers by itself, and then packets
//! go on.

use opx_bus::{DmaBlock, PciFunction};
use opx_defs::units::{Blocks, Psn, Vl};
use opx_defs::wire::opx::{Eager, Header, Route};
use opx_emu::{Adapter, ChipFault, Config, EmuBus, Fault, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options, RecvConfig, RecvContext};
use opx_pio::{Head, PioError, PioSender};
use opx_sdma::{Fragment, Outcome, SdmaError, SdmaQueue};
use opx_stack::{Completion, Endpoint, Pattern};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const PACKETS: u32 = 32;
const SLOT: usize = 1024;

struct Path {
    hfi: Hfi<EmuBus>,
    adapter: Adapter,
    recv: RecvContext<EmuBus>,
    pio: PioSender<EmuBus>,
    sdma: SdmaQueue<EmuBus, u32>,
    memory: DmaBlock,
    route: Route,
    _lab: Lab,
}

impl Path {
    fn new() -> Self {
        let lab = Lab::new(Pacing::Virtual);
        let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
        let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        let job_key = hfi.options().job_key;
        let recv = hfi.recv_context(RecvConfig { job_key, ..RecvConfig::default() }).unwrap();
        let rx = recv.number().0 as u8;
        Self {
            route: hfi.route(rx, hfi.lid(), rx),
            recv,
            pio: PioSender::new(hfi.send_context(Blocks(400)).unwrap()),
            sdma: SdmaQueue::new(hfi.sdma_engine(64).unwrap()),
            memory: hfi.bus().dma_alloc(PACKETS as usize * SLOT).unwrap(),
            hfi,
            adapter,
            _lab: lab,
        }
    }

    /// Sends even numbers by PIO and odd ones by SDMA, and lets everything arrive that does; the tokens of those that the
    /// engine has.
    fn send(&mut self) -> Vec<u32> {
        let mut queued = Vec::new();
        for n in 0..PACKETS {
            let mut payload = [0; SLOT];
            let (mut header, len) =
                Eager::of(Some(n.into()), None, &[n as u8; 300]).encode(&self.route, &mut payload).unwrap();
            header.set_psn(Psn::new(n));
            let pbc = header.pbc(Vl(0));
            if n % 2 == 0 {
                self.pio.send(&Head::new(pbc, &header), &payload[..len]).unwrap();
            } else {
                let at = n as usize * SLOT;
                self.memory.write(at, &pbc.0.to_le_bytes());
                self.memory.write(at + 8, header.as_bytes());
                self.memory.write(at + 64, &payload[..len]);
                self.sdma.submit(&[Fragment::of(&self.memory, at..at + 64 + len).unwrap()], n).unwrap();
                self.sdma.doorbell();
                queued.push(n);
            }
            self.hfi.bus().pause(Duration::from_micros(1));
        }
        self.hfi.bus().pause(Duration::from_millis(1));
        queued
    }

    /// Numbers of the packets that have arrived, each seen to be whole.
    fn arrived(&mut self) -> Vec<u32> {
        let mut payload = [0; SLOT];
        let mut arrived = Vec::new();
        while let Some(received) = self.recv.poll() {
            let len = self.recv.copy_payload(&received, &mut payload);
            let header = Header(self.recv.header(&received));
            if received.errors() == 0 {
                let eager = Eager::decode(&header, &payload[..len]).unwrap();
                let n = header.psn().get();
                assert_eq!([eager.tail, eager.body].concat(), [n as u8; 300]);
                arrived.push(n);
            }
            self.recv.release();
        }
        arrived
    }

    fn ended(&mut self) -> Vec<(u32, Outcome)> {
        std::iter::from_fn(|| self.sdma.poll()).collect()
    }

    /// All of a round arrives once, in the order in which it was sent on each way.
    fn works(&mut self, after: Fault) {
        let queued = self.send();
        let arrived = self.arrived();
        for way in 0..2 {
            let arrived: Vec<_> = arrived.iter().copied().filter(|n| n % 2 == way).collect();
            assert!(arrived.iter().copied().eq((0..PACKETS).filter(|n| n % 2 == way)), "after {after}: {arrived:?}");
        }
        let sent: Vec<_> = queued.into_iter().map(|n| (n, Outcome::Sent)).collect();
        assert_eq!(self.ended(), sent, "after {after}");
        self.pio.check_progress().unwrap();
        self.sdma.check().unwrap();
    }
}

#[test]
fn senders_queues_and_receive_contexts_recover_from_freezes() {
    let mut path = Path::new();
    let names = ["txe-pio-csr-parity", "egress-config-parity", "sdma-csr-parity", "rxe-rbuf-empty"];
    for round in 0..3 {
        for fault in names.map(|name| name.parse::<Fault>().unwrap()) {
            let unit = match fault {
                Fault::Sdma(_) => path.sdma.engine().number().0.into(),
                Fault::Receive(_) => path.recv.number().0,
                _ => 0,
            };
            assert!(path.adapter.inject(fault, unit, round * 4));
            let freezes = path.hfi.freezes();
            let queued = path.send();
            assert_eq!(path.adapter.faults_waiting(), 0, "{fault} has happened");
            assert!(path.hfi.service_interrupts().unwrap().frozen, "{fault}");
            assert_eq!(path.hfi.freezes(), freezes + 1, "{fault}");

            // What was under way is lost, what had arrived isn't, and nothing comes twice.
            let mut arrived = path.arrived();
            assert!(arrived.len() < PACKETS as usize, "{fault}: {arrived:?}");
            arrived.sort_unstable();
            assert!(arrived.windows(2).all(|pair| pair[0] < pair[1]), "{fault}: {arrived:?}");

            let (pio, sdma) = (path.pio.check().unwrap_err(), path.sdma.check().unwrap_err());
            assert!(matches!(pio, PioError::Frozen { .. }), "{fault}: {pio}");
            assert!(matches!(sdma, SdmaError::Frozen { .. }), "{fault}: {sdma}");
            path.recv.recover().unwrap();
            path.pio.restart().unwrap();
            path.sdma.restart().unwrap();
            let ended = path.ended();
            assert!(ended.iter().map(|(n, _)| *n).eq(queued), "{fault}: each packet ends once: {ended:?}");
            assert!(path.arrived().is_empty(), "{fault}: nothing comes back");
            path.works(fault);
        }
    }
    assert_eq!(path.adapter.counts().dma_faults, 0);
}

/// Counts a thread that works, until it ends, however that is.
struct Working<'a>(&'a AtomicU32);

impl<'a> Working<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Sends messages by PIO, SDMA and rendezvous from one endpoint to another, and sees that each arrives whole.
fn exchange(a: &mut Endpoint<EmuBus>, b: &mut Endpoint<EmuBus>, bus: &EmuBus, seed: u8) {
    const MESSAGES: usize = 9;
    let message = |n: usize| vec![seed.wrapping_add(n as u8); [100, 3000, 30_000][n % 3]];
    for n in 0..MESSAGES {
        b.tag_receive(Pattern::exact(n as u64), vec![0; message(n).len()], n as u64).unwrap();
        a.tag_send(b.address(), n as u64, message(n), n as u64).unwrap();
    }
    let (mut arrived, mut sent) = ([false; MESSAGES], 0);
    opx_bus::poll::until(bus, Duration::from_secs(120), || {
        a.progress().unwrap();
        b.progress().unwrap();
        while let Some(completion) = b.poll_completion() {
            let Completion::Received { context, len, buffer, .. } = completion else { panic!("{completion:?}") };
            assert!(!std::mem::replace(&mut arrived[context as usize], true), "message {context} comes once");
            assert!(buffer.bytes()[..len] == message(context as usize), "message {context} is whole");
        }
        while let Some(completion) = a.poll_completion() {
            assert!(matches!(completion, Completion::Sent { .. }), "{completion:?}");
            sent += 1;
        }
        (sent == MESSAGES && arrived == [true; MESSAGES]).then_some(())
    })
    .unwrap_or_else(|_| panic!("{sent} sent, {arrived:?} arrived: {:?} {:?}", a.counters(), b.counters()));
}

/// Each thread has endpoints of its own on one adapter and recovers them by itself; another one deals with the freezes.
#[test]
fn threads_go_on_while_another_one_deals_with_freezes() {
    const THREADS: u8 = 3;
    const ROUNDS: u8 = 8;
    let lab = Lab::new(Pacing::Real);
    let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    // Only the one thread looks after the adapter.
    let config = opx_stack::Config { health_interval: Duration::from_secs(3600), ..opx_stack::Config::default() };
    let faults = [ChipFault::EgressConfigParity, ChipFault::PioStateMachine, ChipFault::SdmaCsrParity];
    // All are open before the first freeze, during which none can be.
    let open = |()| {
        let mut end = Endpoint::open(&hfi, config.clone()).unwrap();
        // Its first look at the adapter, which comes at once.
        end.progress().unwrap();
        end
    };
    let ends: Vec<_> = (0..THREADS).map(|_| [(); 2].map(open)).collect();
    let working = AtomicU32::new(0);
    let recoveries = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .zip(ends)
            .map(|(thread, mut ends)| {
                let working = Working::new(&working);
                let (hfi, adapter) = (&hfi, &adapter);
                scope.spawn(move || {
                    let _working = working;
                    let [a, b] = &mut ends;
                    for round in 0..ROUNDS {
                        let fault = faults[usize::from(round + thread) % faults.len()];
                        assert!(adapter.inject(Fault::Chip(fault), 0, u64::from(round) * 3));
                        exchange(a, b, hfi.bus(), thread * 64 + round);
                    }
                    ends.map(|end| end.counters().recoveries)
                })
            })
            .collect();
        let irq = hfi.irq().unwrap();
        while working.load(Ordering::Acquire) > 0 {
            hfi.bus().wait_irq(irq, Duration::from_millis(10)).unwrap();
            hfi.service_interrupts().unwrap();
        }
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(hfi.freezes() > 0 && recoveries.iter().all(|recoveries| *recoveries > 0), "{recoveries:?}");
    assert_eq!(adapter.counts().dma_faults, 0);
}
