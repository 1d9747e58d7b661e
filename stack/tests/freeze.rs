//! Freezes and links that go down under traffic: every message arrives all the same, once, whole and in order.

use opx_bus::{BusError, Chance, DmaBlock, Irq, PciFunction, poll};
use opx_defs::csr;
use opx_defs::time::Instant;
use opx_defs::units::{BarOff, Guid};
use opx_emu::{Adapter, ChipFault, Config as Chip, EmuBus, Fault, Icode, Lab, Pacing, PioFault};
use opx_hw::{Hfi, LinkMode, LinkState, Options};
use opx_stack::{Completion, Config, Endpoint, Pattern, SendError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CABLE: LinkMode = LinkMode::Cable { timeout: Duration::from_secs(5) };

fn data(seed: u64, len: usize) -> Vec<u8> {
    let mut chance = Chance::new(seed);
    (0..len).map(|_| chance.below(256) as u8).collect()
}

/// Lengths that go by PIO, by SDMA and by rendezvous.
fn length(n: u32) -> usize {
    match n % 8 {
        0..4 => 8 + n as usize % 400,
        4..7 => 1000 + n as usize * 37 % 7000,
        _ => 20_000 + n as usize * 997 % 50_000,
    }
}

/// Messages from one endpoint to another.
struct Flow {
    sent: u32,
    received: u32,
    acknowledged: u32,
}

impl Flow {
    /// Sends and receives `count` messages; calls `each_turn` with how many have arrived.
    fn run(
        count: u32,
        a: &mut Endpoint<EmuBus>,
        b: &mut Endpoint<EmuBus>,
        bus: &EmuBus,
        mut each_turn: impl FnMut(u32),
    ) {
        let mut flow = Self { sent: 0, received: 0, acknowledged: 0 };
        let mut arrived = vec![false; count as usize];
        let limit = bus.now() + Duration::from_secs(120);
        for n in 0..count {
            b.tag_receive(Pattern::exact(7), vec![0; length(n)], n.into()).unwrap();
        }
        while flow.received < count || flow.acknowledged < count {
            assert!(bus.now() < limit, "{} of {count} arrived: {:?} {:?}", flow.received, a.counters(), b.counters());
            while flow.sent < count && flow.sent < flow.acknowledged + 16 {
                let n = flow.sent;
                match a.tag_send(b.address(), 7, data(n.into(), length(n)), n.into()) {
                    Ok(()) => flow.sent += 1,
                    Err(rejected) => {
                        assert!(matches!(rejected.error, SendError::Again(_)), "{}", rejected.error);
                        break;
                    }
                }
            }
            let busy = a.progress().unwrap() | b.progress().unwrap();
            while let Some(completion) = b.poll_completion() {
                let Completion::Received { context, len, buffer, .. } = completion else { panic!("{completion:?}") };
                // A long message, asked for piece by piece, completes after short ones that came later.
                assert!(!std::mem::replace(&mut arrived[context as usize], true), "message {context} comes once");
                assert_eq!(len, length(context as u32));
                assert!(buffer.bytes()[..len] == data(context, len), "message {context} is whole");
                flow.received += 1;
            }
            while let Some(completion) = a.poll_completion() {
                assert!(matches!(completion, Completion::Sent { .. }), "{completion:?}");
                flow.acknowledged += 1;
            }
            each_turn(flow.received);
            if !busy {
                bus.relax();
            }
        }
    }
}

fn loopback() -> (Adapter, Hfi<EmuBus>) {
    let adapter = Lab::new(Pacing::Virtual).add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    (adapter, hfi)
}

#[test]
fn messages_survive_freezes_at_any_packet() {
    let (adapter, hfi) = loopback();
    let config = Config { health_interval: Duration::from_millis(1), ..Config::default() };
    let mut a = Endpoint::open(&hfi, config.clone()).unwrap();
    let mut b = Endpoint::open(&hfi, config).unwrap();
    let faults = [ChipFault::EgressConfigParity, ChipFault::PioStateMachine, ChipFault::SdmaCsrParity];
    // Freezes follow one another in all distances, during recovery as well.
    for (index, after) in [0, 1, 2, 3, 5, 8, 13, 40, 41, 80, 200, 201, 400, 700].into_iter().enumerate() {
        assert!(adapter.inject(Fault::Chip(faults[index % faults.len()]), 0, after));
    }
    let bus = hfi.bus().clone();
    Flow::run(200, &mut a, &mut b, &bus, |_| {});
    assert!(hfi.freezes() >= 5, "{} freezes", hfi.freezes());
    for end in [&a, &b] {
        assert!(end.counters().recoveries >= 5);
    }
    assert_eq!(adapter.counts().dma_faults, 0);
}

#[test]
fn messages_survive_a_link_that_goes_down_again_and_again() {
    let (adapter, hfi) = loopback();
    let config = Config { health_interval: Duration::from_millis(1), ..Config::default() };
    let mut a = Endpoint::open(&hfi, config.clone()).unwrap();
    let mut b = Endpoint::open(&hfi, config).unwrap();
    for after in (0..40).map(|n| n * 25) {
        assert!(adapter.inject(Fault::Chip(ChipFault::LinkSignalLost), 0, after));
    }
    let bus = hfi.bus().clone();
    Flow::run(300, &mut a, &mut b, &bus, |_| {
        if matches!(hfi.link_state(), LinkState::Down(_)) {
            hfi.link_up(LinkMode::Loopback).unwrap();
        }
    });
    assert!(hfi.freezes() >= 20, "{} links down", hfi.freezes());
    assert_eq!(adapter.counts().dma_faults, 0);
}

/// Two adapters on a cable that is pulled and put back under traffic, many times.
#[test]
fn messages_survive_a_cable_that_is_pulled_and_put_back() {
    const PULLS: u32 = 12;
    let lab = Lab::new(Pacing::Virtual);
    let adapters = [1, 2].map(|n| {
        let link_time = Duration::from_millis(2);
        lab.add(Chip { icode: Icode::Silicon, guid: Guid(n), link_time, ..Chip::default() })
    });
    lab.cable(&adapters[0], &adapters[1]);
    let firmware = tempfile::tempdir().unwrap();
    opx_emu::firmware::write_files(firmware.path()).unwrap();
    let options = Options { firmware_dir: Some(firmware.path().to_owned()), ..Options::default() };
    let hfis = adapters.each_ref().map(|adapter| Hfi::open(adapter.bus(), options.clone()).unwrap());
    let bring_up = || {
        hfis.iter().for_each(|hfi| hfi.link_begin(CABLE).unwrap());
        poll::until(hfis[0].bus(), Duration::from_secs(5), || {
            let states = hfis.each_ref().map(|hfi| hfi.link_advance().unwrap());
            (states == [LinkState::Active; 2]).then_some(())
        })
        .unwrap();
    };
    bring_up();
    let config = Config { health_interval: Duration::from_millis(1), ..Config::default() };
    let mut a = Endpoint::open(&hfis[0], config.clone()).unwrap();
    let mut b = Endpoint::open(&hfis[1], config).unwrap();
    let bus = hfis[0].bus().clone();
    let mut pulls = 0;
    Flow::run(300, &mut a, &mut b, &bus, |received| {
        if hfis.iter().all(|hfi| matches!(hfi.link_state(), LinkState::Down(_))) {
            lab.cable(&adapters[0], &adapters[1]);
            bring_up();
        } else if pulls < PULLS && received >= pulls * 20 + 10 && hfis.iter().all(|hfi| hfi.link_state().is_up()) {
            lab.pull(&adapters[(pulls % 2) as usize]);
            pulls += 1;
        }
    });
    assert_eq!(pulls, PULLS);
    for hfi in &hfis {
        assert_eq!(hfi.freezes(), PULLS);
    }
    for adapter in &adapters {
        assert_eq!((adapter.counts().dma_faults, adapter.unmodelled()), (0, vec![]));
    }
}

/// The message that tells of a freeze is lost, and so the chip sends no other: the endpoints find the freeze by looking.
#[test]
fn messages_survive_a_freeze_whose_interrupt_is_lost() {
    let (adapter, hfi) = loopback();
    let config = Config { health_interval: Duration::from_millis(1), ..Config::default() };
    let mut a = Endpoint::open(&hfi, config.clone()).unwrap();
    let mut b = Endpoint::open(&hfi, config).unwrap();
    let bus = hfi.bus().clone();
    while hfi.service_interrupts().unwrap().any {}
    let _ = hfi.irq().unwrap().take();
    assert!(adapter.inject(Fault::Chip(ChipFault::LostInterrupt), 0, 3));
    assert!(adapter.inject(Fault::Chip(ChipFault::EgressConfigParity), 0, 6));
    Flow::run(50, &mut a, &mut b, &bus, |_| {});
    assert_eq!(hfi.freezes(), 1);
}

/// While the link is down, an endpoint waits for it and does nothing else.
#[test]
fn contexts_are_put_in_order_once_while_the_link_is_down() {
    let (adapter, hfi) = loopback();
    let config = Config { health_interval: Duration::from_secs(1), ..Config::default() };
    let mut a = Endpoint::open(&hfi, config).unwrap();
    assert!(adapter.inject(Fault::Chip(ChipFault::LinkSignalLost), 0, 0));
    a.tag_inject(a.address(), 7, b"x").unwrap();
    let down = || matches!(hfi.link_state(), LinkState::Down(_));
    let bus = hfi.bus();
    a.progress().unwrap();
    poll::until(bus, Duration::from_secs(1), || hfi.service_interrupts().map(|_| down().then_some(())).unwrap())
        .unwrap();
    a.progress().unwrap();
    let start = bus.now();
    (0..1000).for_each(|_| assert!(!a.progress().unwrap() || down()));
    let took = bus.now().since(start);
    assert!(took < Duration::from_millis(1), "a context that is disabled takes 20 us each time: {took:?}");
}

type Hook = Box<dyn FnMut() + Send>;

/// A bus on which something happens while a register is read.
#[derive(Clone)]
struct Meddling {
    inner: EmuBus,
    /// At which register, at which of its next reads, and what.
    hook: Arc<Mutex<Option<(BarOff, u32, Hook)>>>,
}

impl PciFunction for Meddling {
    fn read64(&self, offset: BarOff) -> u64 {
        let mut planned = self.hook.lock().unwrap();
        let due = match planned.as_mut() {
            Some((at, reads, _)) if *at == offset => {
                *reads -= 1;
                *reads == 0
            }
            _ => false,
        };
        let hook = if due { planned.take() } else { None };
        drop(planned);
        let read = self.inner.read64(offset);
        if let Some((_, _, mut happen)) = hook {
            happen();
        }
        read
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn bar0_len(&self) -> u64 {
        self.inner.bar0_len()
    }

    fn write64(&self, offset: BarOff, value: u64) {
        self.inner.write64(offset, value);
    }

    fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
        self.inner.write_block(offset, block);
    }

    fn config_read(&self, offset: u16, data: &mut [u8]) -> Result<(), BusError> {
        self.inner.config_read(offset, data)
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Result<(), BusError> {
        self.inner.config_write(offset, data)
    }

    fn dma_alloc(&self, len: usize) -> Result<DmaBlock, BusError> {
        self.inner.dma_alloc(len)
    }

    fn irq_enable(&self, count: u16) -> Result<Vec<Irq>, BusError> {
        self.inner.irq_enable(count)
    }

    fn reset(&self) -> Result<(), BusError> {
        self.inner.reset()
    }

    fn gone(&self) -> Option<String> {
        self.inner.gone()
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn pause(&self, duration: Duration) {
        self.inner.pause(duration);
    }

    fn relax(&self) {
        self.inner.relax();
    }

    fn wait_irq(&self, irq: &Irq, limit: Duration) -> Result<bool, BusError> {
        self.inner.wait_irq(irq, limit)
    }
}

/// An endpoint finds its send context halted, and before it restarts it somebody else sees to a link that went down.
#[test]
fn a_link_that_goes_down_while_a_context_is_restarted_is_no_error() {
    let lab = Lab::new(Pacing::Virtual);
    let adapters =
        [1, 2].map(|n| lab.add(Chip { icode: Icode::FunctionalSimulator, guid: Guid(n), ..Chip::default() }));
    lab.cable(&adapters[0], &adapters[1]);
    let bus = Meddling { inner: adapters[0].bus(), hook: Arc::default() };
    let hfi = Hfi::open(bus.clone(), Options::default()).unwrap();
    let other = Hfi::open(adapters[1].bus(), Options::default()).unwrap();
    hfi.link_begin(CABLE).unwrap();
    other.link_begin(CABLE).unwrap();
    poll::until(&bus, Duration::from_secs(5), || {
        let states = [hfi.link_advance().unwrap(), other.link_advance().unwrap()];
        (states == [LinkState::Active; 2]).then_some(())
    })
    .unwrap();
    let config = Config { health_interval: Duration::from_millis(1), ..Config::default() };
    let mut a = Endpoint::open(&hfi, config).unwrap();
    // The first look at the adapter, which comes at once.
    a.progress().unwrap();
    while hfi.service_interrupts().unwrap().any {}
    let context = a.send_context();
    assert!(adapters[0].inject(Fault::Pio(PioFault::WriteOverflow), context.0, 0));
    a.tag_inject(a.address(), 7, b"x").unwrap();
    a.progress().unwrap();
    bus.pause(Duration::from_micros(100));
    while hfi.service_interrupts().unwrap().any {}
    // The next one to read why it halted is the endpoint.
    let pull: Hook = Box::new({
        let (hfi, bus, adapter) = (hfi.clone(), bus.clone(), adapters[0].clone());
        move || {
            lab.pull(&adapter);
            let down = || matches!(hfi.link_state(), LinkState::Down(_)).then_some(());
            poll::until(&bus, Duration::from_secs(5), || hfi.service_interrupts().map(|_| down()).unwrap()).unwrap();
        }
    });
    *bus.hook.lock().unwrap() = Some((csr::SEND_CTXT_ERR_STATUS.at(context.0.into()), 1, pull));
    bus.pause(Duration::from_millis(2));
    a.progress().unwrap();
    assert!(bus.hook.lock().unwrap().is_none() && hfi.freezes() == 1, "it happened just then");
}
