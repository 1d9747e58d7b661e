//! Receive contexts in each of their set-ups: how entries are found, how buffers are filled, what happens when they are
//! full, and that nobody who sleeps is left sleeping.

mod common;

use common::{Bench, header, packet, receive, send_pio};
use opx_bus::{Irq, PciFunction};
use opx_defs::units::{BarOff, Blocks, JobKey, Lid, Vl};
use opx_defs::wire::rhf::Rhf;
use opx_emu::{DropReason, EmuBus, Icode, Packet};
use opx_hw::recv::{Detect, EntrySize, PacketKind};
use opx_hw::{Hfi, LinkMode, Options, RecvConfig, RecvContext, SendContext};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const KEY: JobKey = JobKey(1);

fn small() -> RecvConfig {
    RecvConfig {
        header_entries: 64,
        eager_buffers: 8,
        eager_buffer_size: 16384,
        head_batch: 4,
        ..RecvConfig::default()
    }
}

struct Ends<B: PciFunction> {
    recv: RecvContext<B>,
    send: SendContext<B>,
    fill: u16,
    sent: u8,
}

impl<B: PciFunction> Ends<B> {
    fn new(hfi: &Hfi<B>, config: RecvConfig) -> Self {
        let recv = hfi.recv_context(config).unwrap();
        Self { recv, send: hfi.send_context(Blocks(256)).unwrap(), fill: 0, sent: 0 }
    }

    /// Stores a packet without letting it arrive; its payload is its number.
    fn post(&mut self, len: usize) {
        let header = header(Lid(1), Lid(1), self.recv.number(), KEY, len);
        self.fill = send_pio(&self.send, self.fill, &packet(&header, &vec![self.sent; len])) % 256;
        self.sent = self.sent.wrapping_add(1);
    }

    fn send(&mut self, len: usize) {
        self.post(len);
        self.recv.bus().pause(Duration::from_micros(20));
    }

    /// Takes the packet that is number `n`, of `len` bytes.
    fn take(&mut self, n: u8, len: usize) -> Rhf {
        let received = receive(&mut self.recv).unwrap_or_else(|| panic!("packet {n} is missing"));
        assert_eq!((received.kind(), received.errors(), received.payload_len()), (PacketKind::Eager, 0, len));
        let sent = header(Lid(1), Lid(1), self.recv.number(), KEY, len);
        assert_eq!(self.recv.header(&received), sent);
        let mut payload = vec![0; len];
        assert_eq!(self.recv.copy_payload(&received, &mut payload), len);
        assert_eq!(payload, vec![n; len]);
        received.rhf()
    }
}

#[test]
fn entries_of_each_size_are_found_in_each_way() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    for header_entry in [EntrySize::Bytes64, EntrySize::Bytes128] {
        for detect in [Detect::Sequence, Detect::Tail] {
            let mut ends = Ends::new(&hfi, RecvConfig { header_entry, detect, ..small() });
            for n in 0..200u8 {
                let len = usize::from(n) * 16;
                ends.send(len);
                ends.take(n, len);
                ends.recv.release();
            }
            assert!(ends.recv.poll().is_none());
            assert_eq!((ends.recv.counts().packets, ends.recv.counts().head_updates), (200, 200 / 4));
        }
    }
    assert_eq!(bench.adapter.counts().total_dropped(), 0);
}

#[test]
fn a_packet_with_a_grh_is_told_from_one_without() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    for header_entry in [EntrySize::Bytes64, EntrySize::Bytes128] {
        for detect in [Detect::Sequence, Detect::Tail] {
            let mut ends = Ends::new(&hfi, RecvConfig { header_entry, detect, ..small() });
            for len in [0, 64, 4000] {
                // Someone else's: the same, with a GRH between LRH and BTH.
                let plain = header(Lid(1), Lid(1), ends.recv.number(), KEY, len + 40);
                let mut routed = [&plain[..8], &[0x5a; 40], &plain[8..], &vec![7; len]].concat();
                routed[1] |= 3;
                assert!(bench.adapter.arrive(Packet::seal(routed, Vl(0), false, false, false)));
                let received = receive(&mut ends.recv).expect("it has a key of this context");
                assert_eq!(
                    (received.kind(), received.errors()),
                    (PacketKind::Routed, 0),
                    "{header_entry:?} {detect:?}"
                );
                let number = ends.sent;
                ends.send(len);
                ends.take(number, len);
                ends.recv.release();
            }
            assert_eq!(ends.recv.counts().bad_entries, 0);
        }
    }
}

#[test]
fn eager_buffers_of_every_size_go_round() {
    // The smallest only hold packets of a small MTU.
    for (mtu, sizes) in [(2048, &[4096, 8192][..]), (10240, &[16384, 32768, 65536, 131_072, 262_144])] {
        let bench = Bench::new(Icode::Silicon);
        let hfi = Hfi::open(bench.bus(), Options { mtu, ..bench.options() }).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        for (size, one_packet_per_buffer) in sizes.iter().flat_map(|size| [(*size, false), (*size, true)]) {
            let config = RecvConfig { eager_buffer_size: size, one_packet_per_buffer, head_batch: 1, ..small() };
            let mut ends = Ends::new(&hfi, config);
            let len = 2000;
            let fit = if one_packet_per_buffer { 1 } else { size / 2048 };
            for n in 0..3 * 8 * fit {
                ends.send(len);
                let rhf = ends.take(n as u8, len);
                let place = (u32::from(rhf.eager_index()), u32::from(rhf.eager_offset()) * 64);
                assert_eq!(place, (n / fit % 8, n % fit * 2048), "packet {n} of {size}-byte buffers");
                ends.recv.release();
            }
        }
        assert_eq!(bench.adapter.counts().total_dropped(), 0);
    }
}

#[test]
fn full_eager_buffers_drop_and_go_on() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut ends = Ends::new(&hfi, small());
    // Eight buffers, two packets in each.
    for _ in 0..20 {
        ends.send(8000);
    }
    assert_eq!(bench.adapter.counts().dropped(DropReason::EagerFull), 4);
    for n in 0..16 {
        ends.take(n, 8000);
    }
    assert!(ends.recv.poll().is_none());
    // What has no payload needs no buffer.
    ends.send(0);
    ends.take(20, 0);
    ends.recv.release_now();
    ends.send(8000);
    ends.take(21, 8000);
}

#[test]
fn a_context_that_waits_when_full_loses_nothing() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut ends = Ends::new(&hfi, RecvConfig { wait_when_full: true, ..small() });
    for n in 0..100u8 {
        ends.send(if n < 70 { 0 } else { 4000 });
    }
    for n in 0..100u8 {
        ends.take(n, if n < 70 { 0 } else { 4000 });
        if n % 5 == 4 {
            ends.recv.release_now();
        }
    }
    assert_eq!((bench.adapter.counts().total_dropped(), ends.recv.overflows().unwrap()), (0, 0));
}

#[test]
fn overflows_count_from_the_beginning_of_each_context() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    for _ in 0..2 {
        let mut ends = Ends::new(&hfi, small());
        assert_eq!(ends.recv.overflows().unwrap(), 0);
        for _ in 0..70 {
            ends.send(0);
        }
        assert_eq!(ends.recv.overflows().unwrap(), 7);
    }
}

#[test]
fn a_context_starts_over() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    for detect in [Detect::Sequence, Detect::Tail] {
        let mut ends = Ends::new(&hfi, RecvConfig { detect, ..small() });
        for n in 0..70u8 {
            ends.send(64);
            ends.take(n, 64);
            ends.recv.release();
        }
        ends.send(64);
        ends.recv.recover().unwrap();
        assert!(!ends.recv.is_stale());
        assert!(ends.recv.poll().is_none(), "what was in the queue is lost");
        for n in 71..141u8 {
            ends.send(64);
            ends.take(n, 64);
            ends.recv.release();
        }
        assert_eq!(ends.recv.counts().recoveries, 1);
    }
}

/// A bus that lets events happen before a chosen access.
#[derive(Clone)]
struct Racing {
    inner: EmuBus,
    race: Arc<Race>,
}

struct Race {
    /// Accesses before it happens; `u32::MAX` for never.
    left: AtomicU32,
    /// How many events happen then.
    events: AtomicU32,
}

impl Racing {
    fn new(inner: EmuBus) -> Self {
        Self { inner, race: Arc::new(Race { left: AtomicU32::new(u32::MAX), events: AtomicU32::new(0) }) }
    }

    /// Before the access after `accesses` others, `events` events happen.
    fn plan(&self, accesses: u32, events: u32) {
        self.race.events.store(events, Ordering::Relaxed);
        self.race.left.store(accesses, Ordering::Relaxed);
    }

    /// Whether it hasn't happened; it won't any more.
    fn cancel(&self) -> bool {
        self.race.left.swap(u32::MAX, Ordering::Relaxed) != u32::MAX
    }

    fn access(&self) {
        match self.race.left.load(Ordering::Relaxed) {
            u32::MAX => {}
            0 => {
                self.race.left.store(u32::MAX, Ordering::Relaxed);
                for _ in 0..self.race.events.load(Ordering::Relaxed) {
                    self.inner.relax();
                }
            }
            left => self.race.left.store(left - 1, Ordering::Relaxed),
        }
    }
}

impl PciFunction for Racing {
    fn read64(&self, offset: BarOff) -> u64 {
        self.access();
        self.inner.read64(offset)
    }

    fn write64(&self, offset: BarOff, value: u64) {
        self.access();
        self.inner.write64(offset, value);
    }

    fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
        self.inner.write_block(offset, block);
    }

    opx_bus::delegate!(inner: name bar0_len config_read config_write dma_alloc dma_map irq_enable reset gone now pause relax wait_irq);
}

struct Sleeper {
    _bench: Bench,
    bus: Racing,
    ends: Ends<Racing>,
    irq: Irq,
    taken: u8,
}

impl Sleeper {
    fn new(detect: Detect) -> Self {
        let bench = Bench::new(Icode::Silicon);
        let bus = Racing::new(bench.bus());
        let hfi = Hfi::open(bus.clone(), bench.options()).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        let ends = Ends::new(&hfi, RecvConfig { interrupts: true, detect, ..small() });
        let irq = ends.recv.irq().unwrap().clone();
        Self { _bench: bench, bus, ends, irq, taken: 0 }
    }

    /// Takes what is there.
    fn drain(&mut self) -> u32 {
        let mut taken = 0;
        while let Some(received) = self.ends.recv.poll() {
            let mut payload = [0; 64];
            assert_eq!(self.ends.recv.copy_payload(&received, &mut payload), 64);
            assert_eq!((received.errors(), payload), (0, [self.taken; 64]));
            self.taken = self.taken.wrapping_add(1);
            self.ends.recv.release();
            taken += 1;
        }
        taken
    }

    /// Goes to sleep as one does, and is awake again only because of a packet.
    fn sleep(&mut self) {
        let _ = self.irq.take();
        if !self.ends.recv.arm().unwrap() {
            assert!(self.bus.wait_irq(&self.irq, Duration::from_millis(10)).unwrap(), "nobody woke it");
        }
    }
}

#[test]
fn a_packet_at_any_moment_of_going_to_sleep_wakes() {
    for detect in [Detect::Sequence, Detect::Tail] {
        let mut sleeper = Sleeper::new(detect);
        let (mut slept, mut warned, mut most) = (0, 0, 0);
        // Each access of going to sleep, each number of events before it, each number of events already past.
        for past in 0..8 {
            for events in 0..8 {
                for access in 0.. {
                    sleeper.ends.post(64);
                    (0..past).for_each(|_| sleeper.bus.relax());
                    sleeper.bus.plan(access, events);
                    let _ = sleeper.irq.take();
                    let there = sleeper.ends.recv.arm().unwrap();
                    let beyond = sleeper.bus.cancel();
                    let at = format!("{past} events before, {events} at access {access}");
                    if there {
                        warned += 1;
                        let found = receive(&mut sleeper.ends.recv);
                        assert!(found.is_some(), "said to be there, but isn't: {at}");
                    } else {
                        slept += 1;
                        let woken = sleeper.bus.wait_irq(&sleeper.irq, Duration::from_millis(10)).unwrap();
                        assert!(woken, "never woken: {at}");
                        assert!(sleeper.ends.recv.poll().is_some(), "woken for nothing: {at}");
                    }
                    sleeper.ends.recv.release();
                    sleeper.bus.pause(Duration::from_micros(20));
                    if beyond {
                        most = most.max(access);
                        break;
                    }
                }
            }
        }
        assert!(slept > 20 && warned > 50 && most > 3, "slept {slept} times, warned {warned}, {most} accesses");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Bursts of packets at any time against a receiver that sleeps whenever it has nothing to do.
    #[test]
    fn all_that_is_sent_is_taken_by_somebody_who_sleeps(
        bursts in proptest::collection::vec((1u8..20, 0u32..10, 0u32..8, 0u32..8), 1..40),
        tail: bool,
    ) {
        let mut sleeper = Sleeper::new(if tail { Detect::Tail } else { Detect::Sequence });
        let mut missing = 0;
        for (packets, past, access, events) in bursts {
            for _ in 0..packets {
                sleeper.ends.post(64);
                missing += 1;
            }
            (0..past).for_each(|_| sleeper.bus.relax());
            sleeper.bus.plan(access, events);
            // Not all of them: the next burst meets a receiver at work.
            let leave = u32::from(packets / 3);
            while missing > leave {
                sleeper.sleep();
                missing -= sleeper.drain();
            }
            sleeper.bus.cancel();
        }
        while missing > 0 {
            sleeper.sleep();
            missing -= sleeper.drain();
        }
    }
}
