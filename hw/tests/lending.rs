//! Lent payloads: they stay as they were whatever arrives meanwhile, whoever holds them for however long, and the adapter never
//! waits for them.

mod common;

use common::{Bench, header, packet, receive, send_pio};
use opx_bus::PciFunction;
use opx_defs::units::{Blocks, JobKey, Lid};
use opx_emu::{EmuBus, Icode};
use opx_hw::recv::{Lent, NotLent};
use opx_hw::{ContextError, Hfi, Received, RecvConfig, RecvContext, SendContext};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

const SPARE: u32 = 3;

/// A ring that is gone round after few packets.
fn small() -> RecvConfig {
    RecvConfig {
        header_entries: 64,
        eager_buffers: 8,
        eager_buffer_size: 16384,
        spare_buffers: SPARE,
        head_batch: 4,
        ..RecvConfig::default()
    }
}

struct Ends {
    recv: RecvContext<EmuBus>,
    send: SendContext<EmuBus>,
    fill: u16,
    sent: u64,
}

/// What packet number `n` carries.
fn payload(n: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (n.wrapping_mul(0x9e37_79b9) ^ at.wrapping_mul(31)) as u8).collect()
}

impl Ends {
    fn new(hfi: &Hfi<EmuBus>, config: RecvConfig) -> Self {
        let recv = hfi.recv_context(config).unwrap();
        Self { recv, send: hfi.send_context(Blocks(256)).unwrap(), fill: 0, sent: 0 }
    }

    /// Sends the next packet and takes it; gives its number.
    fn pass(&mut self, len: usize) -> (u64, Received) {
        let n = self.sent;
        let header = header(Lid(1), Lid(1), self.recv.number(), JobKey(1), len);
        self.fill = send_pio(&self.send, self.fill, &packet(&header, &payload(n, len))) % 256;
        self.sent += 1;
        self.recv.bus().pause(Duration::from_micros(20));
        let received = receive(&mut self.recv).unwrap_or_else(|| panic!("packet {n} is missing"));
        assert_eq!((received.errors(), received.payload_len()), (0, len));
        (n, received)
    }

    /// Passes a packet that is copied.
    fn copy(&mut self, len: usize) {
        let (n, received) = self.pass(len);
        let mut bytes = vec![0; len];
        assert_eq!(self.recv.copy_payload(&received, &mut bytes), len);
        assert_eq!(bytes, payload(n, len), "packet {n}");
        self.recv.release();
    }

    /// Passes a packet that is to be lent.
    fn lend(&mut self, len: usize) -> Result<(u64, Lent), NotLent> {
        let (n, received) = self.pass(len);
        let lent = self.recv.lend(&received);
        if lent.is_err() {
            let mut bytes = vec![0; len];
            assert_eq!(self.recv.copy_payload(&received, &mut bytes), len);
            assert_eq!(bytes, payload(n, len), "packet {n}, copied");
        }
        self.recv.release();
        lent.map(|lent| (n, lent))
    }
}

fn check(n: u64, lent: &Lent) {
    let expected = payload(n, lent.len());
    assert_eq!(lent.to_vec(), expected, "packet {n}");
    let words: Vec<u8> = lent.words().iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
    assert_eq!(words, expected[..lent.len() / 8 * 8], "packet {n} by words");
}

#[test]
fn what_is_held_stays_while_the_ring_goes_round() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    for one_packet_per_buffer in [false, true] {
        let mut ends = Ends::new(&hfi, RecvConfig { one_packet_per_buffer, ..small() });
        let mut held = Vec::new();
        // From several buffers, and from a buffer that is full before the next packet is lent.
        for _ in 0..SPARE {
            held.push(ends.lend(4104).unwrap());
            for _ in 0..5 {
                ends.copy(4096);
            }
        }
        for _ in 0..100 {
            ends.copy(4096);
        }
        for (n, lent) in &held {
            check(*n, lent);
        }
        let counts = ends.recv.counts();
        assert_eq!((counts.lent, counts.buffers_replaced), (SPARE.into(), SPARE.into()));
        assert_eq!(ends.recv.lendable(), 0);
        drop(held);
        assert_eq!(ends.recv.lendable(), SPARE as usize);
    }
    assert_eq!(bench.adapter.counts().dma_faults, 0);
}

#[test]
fn what_is_held_for_ever_stops_nothing() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut ends = Ends::new(&hfi, small());
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..300 {
        match ends.lend(8000) {
            Ok(lent) => held.push(lent),
            Err(why) => {
                assert_eq!(why, NotLent::NoSpare);
                refused += 1;
            }
        }
    }
    assert!(refused > 250 && held.len() >= SPARE as usize, "{refused} refused");
    for (n, lent) in &held {
        check(*n, lent);
    }
    // As soon as one is back, one can be lent.
    let kept = held.split_off(2);
    drop(held);
    assert_eq!(ends.recv.lendable(), 1);
    let (n, lent) = ends.lend(8000).unwrap();
    check(n, &lent);
    drop(kept);
}

#[test]
fn a_buffer_that_came_back_in_time_stays_where_it_is() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut ends = Ends::new(&hfi, small());
    for _ in 0..100 {
        let (n, lent) = ends.lend(4096).unwrap();
        let second = lent.clone();
        drop(lent);
        check(n, &second);
    }
    let counts = ends.recv.counts();
    assert_eq!((counts.lent, counts.buffers_replaced), (100, 0));
    for _ in 0..10 {
        ends.copy(4096);
    }
    assert_eq!(ends.recv.lendable(), SPARE as usize);
}

#[test]
fn views_are_dropped_by_any_thread_in_any_order() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut ends = Ends::new(&hfi, RecvConfig { spare_buffers: 8, ..small() });
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|keeps| {
                let (give, take) = mpsc::channel::<(u64, Lent)>();
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    while let Ok((n, lent)) = take.recv() {
                        kept.push((n, lent));
                        if kept.len() > keeps {
                            // One thread drops what came first, one what came last, one something between.
                            let (n, lent) = kept.swap_remove(n as usize * keeps % kept.len());
                            check(n, &lent);
                        }
                    }
                    for (n, lent) in kept {
                        check(n, &lent);
                    }
                });
                give
            })
            .collect();
        let mut lent = 0;
        for n in 0..600 {
            if let Ok(view) = ends.lend(1000 + n % 7 * 500) {
                threads[n % 3].send(view).unwrap();
                lent += 1;
            }
        }
        // How many more depends on how soon the threads drop them.
        assert!(lent >= 8, "{lent} lent");
    });
    for _ in 0..20 {
        ends.copy(8000);
    }
    assert_eq!(ends.recv.lendable(), 8, "all are back");
    let counts = ends.recv.counts();
    assert!(counts.buffers_replaced > 0);
}

#[test]
fn views_outlive_the_context() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut ends = Ends::new(&hfi, small());
    let (in_ring, outside) = {
        let outside = ends.lend(4096).unwrap();
        for _ in 0..30 {
            ends.copy(4096);
        }
        (ends.lend(4096).unwrap(), outside)
    };
    drop(ends);
    // Another context goes over the same entries of the RcvArray.
    let mut next = Ends::new(&hfi, small());
    for _ in 0..100 {
        next.copy(8000);
    }
    drop((next, hfi));
    check(outside.0, &outside.1);
    check(in_ring.0, &in_ring.1);
    let other = std::thread::spawn(move || check(in_ring.0, &in_ring.1));
    other.join().unwrap();
    assert_eq!(bench.adapter.counts().dma_faults, 0);
}

#[test]
fn a_context_that_starts_over_leaves_views_alone() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut ends = Ends::new(&hfi, small());
    let mut held = vec![ends.lend(4096).unwrap()];
    for _ in 0..10 {
        ends.copy(4096);
    }
    held.push(ends.lend(4096).unwrap());
    let replaced = ends.recv.counts().buffers_replaced;
    ends.recv.recover().unwrap();
    assert_eq!(ends.recv.counts().buffers_replaced, replaced + 1, "the one in the ring");
    for _ in 0..100 {
        ends.copy(8000);
    }
    for (n, lent) in &held {
        check(*n, lent);
    }
    assert_eq!(ends.recv.lendable(), SPARE as usize - 2);
    drop(held);
    assert_eq!(ends.recv.lendable(), SPARE as usize);
}

#[test]
fn what_was_released_or_has_no_payload_isnt_lent() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut ends = Ends::new(&hfi, small());
    let (_, old) = ends.pass(8000);
    ends.recv.release_now();
    for _ in 0..2 {
        ends.pass(8000);
        ends.recv.release_now();
    }
    assert_eq!(ends.recv.lend(&old).unwrap_err(), NotLent::Released);
    let (_, bare) = ends.pass(0);
    assert_eq!(ends.recv.lend(&bare).unwrap_err(), NotLent::NoPayload);
    ends.recv.release();
    let mut plain = Ends::new(&hfi, RecvConfig { spare_buffers: 0, ..small() });
    assert_eq!(plain.lend(4096).unwrap_err(), NotLent::NoSpare);
    let most = hfi.recv_context(RecvConfig { spare_buffers: 4097, ..small() }).unwrap_err();
    assert!(matches!(most, ContextError::BadParameter { parameter: "spare_buffers", value: 4097, .. }), "{most}");
}

#[test]
fn a_small_ring_goes_on_whatever_the_size_of_packets() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    // The chip is told what is free only after more packets than the ring holds, if the settings are taken at their word.
    for one_packet_per_buffer in [false, true] {
        let config = RecvConfig { one_packet_per_buffer, head_batch: 32, spare_buffers: 0, ..small() };
        let mut ends = Ends::new(&hfi, config);
        for _ in 0..200 {
            ends.copy(10240);
        }
    }
}

/// What a test does with a context.
#[derive(Debug, Clone)]
enum Step {
    Copy(usize),
    Lend(usize),
    /// Drops the view at this place, modulo their number.
    Drop(usize),
    Clone(usize),
    Recover,
}

fn step() -> impl Strategy<Value = Step> {
    let len = (1usize..1280).prop_map(|qwords| qwords * 8);
    prop_oneof![
        3 => len.clone().prop_map(Step::Copy),
        5 => len.prop_map(Step::Lend),
        4 => any::<usize>().prop_map(Step::Drop),
        1 => any::<usize>().prop_map(Step::Clone),
        1 => Just(Step::Recover),
    ]
}

/// Which buffers are lent, by the order in which the chip went into them.
#[derive(Default)]
struct Model {
    /// Views by buffer; a buffer is here from its first view until it is back.
    lent: BTreeMap<u64, usize>,
    /// The buffer that is being filled: of those before it, and of all after a recovery, the context is done.
    filled: u64,
    index: u16,
}

impl Model {
    fn arrived(&mut self, received: &Received) {
        if received.rhf().eager_index() != self.index {
            self.index = received.rhf().eager_index();
            self.next_buffer();
        }
    }

    fn next_buffer(&mut self) {
        self.filled += 1;
        self.settle();
    }

    fn settle(&mut self) {
        self.lent.retain(|buffer, views| *views > 0 || *buffer == self.filled);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn buffers_are_lent_as_long_as_somebody_holds_them(
        steps in proptest::collection::vec(step(), 1..120), spare in 0u32..5, one_packet_per_buffer: bool,
    ) {
        let bench = Bench::new(Icode::FunctionalSimulator);
        let hfi = bench.active();
        let mut ends = Ends::new(&hfi, RecvConfig { spare_buffers: spare, one_packet_per_buffer, ..small() });
        let mut model = Model::default();
        let mut held: Vec<(u64, u64, Lent)> = Vec::new();
        for step in steps {
            match step {
                Step::Copy(len) => {
                    let (n, received) = ends.pass(len);
                    model.arrived(&received);
                    let mut bytes = vec![0; len];
                    prop_assert_eq!(ends.recv.copy_payload(&received, &mut bytes), len);
                    prop_assert_eq!(bytes, payload(n, len));
                }
                Step::Lend(len) => {
                    let (n, received) = ends.pass(len);
                    model.arrived(&received);
                    let room = model.lent.contains_key(&model.filled) || model.lent.len() < spare as usize;
                    match ends.recv.lend(&received) {
                        Ok(lent) => {
                            prop_assert!(room, "more are lent than there are spare ones");
                            *model.lent.entry(model.filled).or_default() += 1;
                            held.push((n, model.filled, lent));
                        }
                        Err(why) => {
                            prop_assert_eq!(why, NotLent::NoSpare);
                            prop_assert!(!room, "{:?}", model.lent);
                        }
                    }
                }
                Step::Drop(at) if !held.is_empty() => {
                    let (n, buffer, lent) = held.swap_remove(at % held.len());
                    check(n, &lent);
                    drop(lent);
                    *model.lent.get_mut(&buffer).unwrap() -= 1;
                }
                Step::Clone(at) if !held.is_empty() => {
                    let (n, buffer, lent) = &held[at % held.len()];
                    let copy = (*n, *buffer, lent.clone());
                    *model.lent.get_mut(buffer).unwrap() += 1;
                    held.push(copy);
                }
                Step::Recover => {
                    ends.recv.recover().unwrap();
                    model.index = 0;
                    model.next_buffer();
                }
                Step::Drop(_) | Step::Clone(_) => {}
            }
            ends.recv.release_now();
            model.settle();
            prop_assert_eq!(ends.recv.lendable(), spare as usize - model.lent.len());
        }
        for (n, _, lent) in &held {
            check(*n, lent);
        }
    }
}
