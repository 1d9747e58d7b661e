//! Messages received as views: lent where that can be, copied and counted where it can't, the same bytes in any case; and views
//! that are held, dropped anywhere and outlive their endpoint stop nothing.

mod common;

use common::{Bench, bench, data};
use opx_bus::{Chance, PacketFaults, PciFunction};
use opx_defs::units::{Blocks, Psn, Vl};
use opx_defs::wire::opx::Eager;
use opx_emu::{ChipFault, Fault};
use opx_pio::{Head, PioSender};
use opx_stack::{Buffer, Completion, Config, Endpoint, OperationError, Pattern, View};
use proptest::prelude::*;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

const LENT: u32 = 3;
const MOST: usize = 100_000;

/// A ring that is gone round after few messages.
fn config() -> Config {
    Config { eager_buffers: 8, eager_buffer_size: 16384, lent_buffers: LENT, lent_min: 1024, ..Config::default() }
}

/// A message received at `b`: its context and its view.
fn received(completion: Completion) -> (u64, View) {
    let Completion::Received { context, len, buffer: Buffer::View(view), .. } = completion else {
        panic!("{completion:?}")
    };
    assert_eq!(view.len(), len);
    (context, *view)
}

/// The bytes of message `n`, of `len` bytes, in each way in which they can be had.
fn check(n: u64, len: usize, view: &View) {
    let expected = data(n, len);
    assert!(view.to_vec() == expected, "message {n} of {len} bytes");
    let words = view.words().iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
    assert!(view.head().iter().copied().chain(words).eq(expected.iter().copied()), "message {n} by words");
    let mut part = vec![0; len.min(100)];
    let at = len / 3;
    let read = view.read(at, &mut part);
    assert_eq!((&part[..read], read), (&expected[at..at + read], part.len().min(len - at)));
}

impl Bench {
    /// Passes message `n` of `len` bytes into `view`.
    fn pass(&mut self, n: u64, len: usize, view: View) -> View {
        self.b.tag_receive(Pattern::exact(7), view, n).unwrap();
        self.a.tag_send(self.b.address(), 7, data(n, len), n).unwrap();
        let (context, view) = received(self.next_at_b());
        assert_eq!(context, n);
        self.quiet();
        while self.a.poll_completion().is_some() {}
        view
    }
}

#[test]
fn a_message_is_lent_if_it_came_in_one_packet() {
    let mut bench = bench(config());
    let lengths = [0, 1, 7, 8, 16, 17, 600, 1023, 1024, 1025, 1031, 4096, 8185, 8192, 8193, 16384, 16385, 70_001];
    for (n, len) in (0..).zip(lengths) {
        let before = bench.b.counters();
        let view = bench.pass(n, len, View::up_to(MOST));
        check(n, len, &view);
        assert_eq!(view.is_lent(), (1024..=8192).contains(&len), "{len} bytes");
        let after = bench.b.counters();
        let counts = [
            after.lent_messages - before.lent_messages,
            after.copied_short - before.copied_short,
            after.copied_pieces - before.copied_pieces,
        ];
        let expected = match len {
            0..1024 => [0, 1, 0],
            1024..=8192 => [1, 0, 0],
            _ => [0, 0, 1],
        };
        assert_eq!(counts, expected, "{len} bytes");
        assert_eq!(after.received_messages - before.received_messages, 1);
    }
    assert_eq!((bench.b.counters().copied_none_spare, bench.b.counters().copied_early), (0, 0));
}

#[test]
fn a_view_takes_one_message_after_another() {
    let mut bench = bench(config());
    let mut view = View::up_to(MOST);
    for (n, len) in (0..).zip([5000, 20, 5000, 5000, 40_000, 0, 20_000, 8, 5000, 0]) {
        view = bench.pass(n, len, view);
        check(n, len, &view);
    }
    view.clear();
    assert!(view.is_empty() && !view.is_lent());
}

#[test]
fn a_message_that_came_first_is_copied() {
    let mut bench = bench(config());
    for (n, len) in [(1, 5000), (2, 12_000), (3, 50_000), (4, 10)] {
        bench.a.tag_send(bench.b.address(), n, data(n, len), n).unwrap();
        bench.run(|bench| bench.b.counters().unexpected_messages == n);
        bench.b.tag_receive(Pattern::exact(n), View::up_to(MOST), n).unwrap();
        let (_, view) = received(bench.next_at_b());
        check(n, len, &view);
        assert!(!view.is_lent());
    }
    let counters = bench.b.counters();
    assert_eq!((counters.copied_early, counters.copied_pieces, counters.copied_short), (1, 2, 1));
}

#[test]
fn a_message_that_is_too_long_for_its_view_fails() {
    let mut bench = bench(config());
    for (n, len) in [(1, 5000), (2, 12_000), (3, 50_000), (4, 101)] {
        bench.b.tag_receive(Pattern::exact(n), View::up_to(100), n).unwrap();
        bench.a.tag_send(bench.b.address(), n, data(n, len), n).unwrap();
        let Completion::Failed { error, buffer, .. } = bench.next_at_b() else { panic!("it fits") };
        assert_eq!(error, OperationError::Truncated { message: len as u64, buffer: 100 });
        assert!(buffer.len() <= 100, "{} bytes", buffer.len());
    }
    let view = bench.pass(9, 100, View::up_to(100));
    check(9, 100, &view);
    assert_eq!(bench.b.counters().lent_messages, 0);
}

#[test]
fn nothing_is_lent_where_faults_are_put_into_what_comes() {
    let receive_faults = PacketFaults { duplicate: 100.0, ..PacketFaults::default() };
    let mut bench = bench(Config { receive_faults, ..config() });
    for n in 0..5 {
        let view = bench.pass(n, 5000, View::up_to(MOST));
        check(n, 5000, &view);
        assert!(!view.is_lent());
    }
    assert!(bench.b.receive_fault_counts().doubled >= 5);
}

#[test]
fn what_is_held_for_ever_stops_nothing() {
    let mut bench = bench(config());
    let mut held = Vec::new();
    for n in 0..200 {
        let len = 3000 + n as usize % 5000;
        held.push((n, len, bench.pass(n, len, View::up_to(MOST))));
    }
    for (n, len, view) in &held {
        check(*n, *len, view);
    }
    let counters = bench.b.counters();
    let lent = held.iter().filter(|(_, _, view)| view.is_lent()).count() as u64;
    assert!(lent >= LENT.into() && lent < 20, "{lent} lent");
    assert_eq!((counters.lent_messages, counters.copied_none_spare), (lent, 200 - lent));
    assert_eq!(bench.a.counters().retransmits, 0, "nothing was dropped");
    // What is lent can be sent on, and then be lent again.
    let (n, len, view) = held.swap_remove(0);
    assert!(view.is_lent());
    bench.b.tag_receive(Pattern::exact(7), View::up_to(MOST), n).unwrap();
    bench.a.tag_send(bench.b.address(), 7, view, n).unwrap();
    let (_, view) = received(bench.next_at_b());
    check(n, len, &view);
    drop(held);
    let view = bench.pass(300, 5000, View::up_to(MOST));
    assert!(view.is_lent());
}

#[test]
fn views_are_held_and_dropped_by_several_threads() {
    let mut bench = bench(config());
    std::thread::scope(|scope| {
        let keepers: Vec<_> = (1..4usize)
            .map(|keeps| {
                let (give, take) = mpsc::channel::<(u64, usize, View)>();
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    while let Ok(message) = take.recv() {
                        kept.push(message);
                        if kept.len() > keeps {
                            let (n, len, view) = kept.swap_remove(kept.len() / keeps % kept.len());
                            check(n, len, &view);
                        }
                    }
                });
                give
            })
            .collect();
        for n in 0..300 {
            let len = 1500 + n as usize * 37 % 6000;
            let view = bench.pass(n, len, View::up_to(MOST));
            keepers[n as usize % 3].send((n, len, view)).unwrap();
        }
    });
    // How many more depends on how soon the threads drop them.
    assert!(bench.b.counters().lent_messages >= LENT.into());
    for n in 0..50 {
        assert!(bench.pass(n, 8000, View::up_to(MOST)).is_lent(), "all are back");
    }
}

#[test]
fn views_outlive_their_endpoint() {
    let mut bench = bench(config());
    let views: Vec<_> = (0..20).map(|n| (n, bench.pass(n, 4000, View::up_to(MOST)))).collect();
    assert!(views[0].1.is_lent());
    let Bench { hfi, adapter, a, b } = bench;
    drop((a, b));
    // Others take their contexts, and their entries of the RcvArray.
    let next = (Endpoint::open(&hfi, config()).unwrap(), Endpoint::open(&hfi, config()).unwrap());
    let mut bench = Bench { hfi, adapter, a: next.0, b: next.1 };
    for n in 50..100 {
        let view = bench.pass(n, 8000, View::up_to(MOST));
        check(n, 8000, &view);
    }
    assert_eq!(bench.adapter.counts().dma_faults, 0);
    drop(bench);
    std::thread::spawn(move || views.iter().for_each(|(n, view)| check(*n, 4000, view))).join().unwrap();
}

#[test]
fn views_outlast_freezes() {
    let mut bench = bench(Config { health_interval: Duration::from_millis(1), ..config() });
    let mut held = Vec::new();
    for n in 0..60 {
        if n % 10 == 5 {
            assert!(bench.adapter.inject(Fault::Chip(ChipFault::EgressConfigParity), 0, n % 4));
        }
        let view = bench.pass(n, 5000, View::up_to(MOST));
        check(n, 5000, &view);
        if n % 12 == 4 {
            held.push((n, view));
        }
    }
    assert!(bench.hfi.freezes() >= 3 && bench.b.counters().recoveries >= 3, "{}", bench.hfi.freezes());
    assert!(held.iter().filter(|(_, view)| view.is_lent()).count() >= 3);
    for (n, view) in &held {
        check(*n, 5000, view);
    }
    assert_eq!(bench.adapter.counts().dma_faults, 0);
}

#[test]
fn packets_that_lie_about_their_message_are_neither_lent_nor_copied() {
    let mut bench = bench(config());
    let mut forger = PioSender::new(bench.hfi.send_context(Blocks(256)).unwrap());
    let to = bench.b.address();
    let route = bench.hfi.route(77, to.lid, to.rx);
    bench.b.tag_receive(Pattern { ignore: u64::MAX, ..Pattern::exact(0) }, View::up_to(MOST), 5).unwrap();
    let message = data(1, 4096);
    let good = Eager { tag: Some(7), cq_data: None, tail: &[], body: &message }.header(&route).unwrap();
    let mut forge = |bench: &mut Bench, change: &dyn Fn(&mut opx_defs::wire::opx::Header), psn: u32| {
        let mut header = good;
        header.set_psn(Psn::new(psn));
        change(&mut header);
        let before = bench.b.counters().packets_in;
        forger.send(&Head::new(header.pbc(Vl(0)), &header), &message).unwrap();
        bench.run(|bench| bench.b.counters().packets_in > before);
    };
    // More bytes than the packet has, in the body's length and in that of the head.
    forge(&mut bench, &|header| header.set_word::<4>(513 << 48), 0);
    assert_eq!(bench.b.counters().malformed, 1);
    forge(&mut bench, &|header| header.set_word::<4>(u64::MAX), 1);
    assert_eq!(bench.b.counters().malformed, 2);
    // From far ahead of its turn, and again and again: each is copied, and none keeps a buffer.
    for _ in 0..50 {
        forge(&mut bench, &|_| {}, 4);
    }
    assert_eq!((bench.b.poll_completion(), bench.b.counters().lent_messages), (None, 0));
    // When its turn comes the packet is there.
    forge(&mut bench, &|_| {}, 2);
    let (context, view) = received(bench.next_at_b());
    assert_eq!((context, view.is_lent(), view.to_vec() == message), (5, true, true));
    // One that says of less than it carries gives no more than it says.
    bench.b.tag_receive(Pattern { ignore: u64::MAX, ..Pattern::exact(0) }, View::up_to(MOST), 6).unwrap();
    bench.b.tag_receive(Pattern { ignore: u64::MAX, ..Pattern::exact(0) }, View::up_to(MOST), 7).unwrap();
    forge(&mut bench, &|header| header.set_word::<4>(256 << 48), 3);
    let (context, short) = received(bench.next_at_b());
    assert_eq!((context, short.is_lent(), short.to_vec() == message[..2048]), (6, true, true));
    let (context, late) = received(bench.next_at_b());
    assert_eq!((context, late.is_lent(), late.to_vec() == message), (7, false, true));
    let counters = bench.b.counters();
    assert_eq!((counters.lent_messages, counters.copied_early), (2, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the wire does and whoever holds what, each message comes once, whole, and what is held stays.
    #[test]
    fn messages_come_once_and_stay(
        seed: u64, lent in 0u32..4,
        loss in 0u32..3, messages in proptest::collection::vec((0usize..12_000, any::<u16>()), 1..80),
    ) {
        let mut bench = bench(Config { lent_buffers: lent, lent_min: 0, ..config() });
        let faults = PacketFaults { loss: f64::from(loss) * 0.03, duplicate: 0.03, reorder: 0.05, ..PacketFaults::default() };
        bench.adapter.set_wire_faults(faults, seed);
        let mut chance = Chance::new(seed);
        let (mut held, mut sent, mut done) = (Vec::<(u64, usize, View)>::new(), 0, 0);
        let limit = bench.hfi.bus().now() + Duration::from_secs(60);
        while done < messages.len() {
            prop_assert!(bench.hfi.bus().now() < limit, "{done} of {}: {:?}", messages.len(), bench.b.counters());
            if sent < messages.len() && sent < done + 4 {
                let (n, len) = (sent as u64, messages[sent].0);
                // Some are asked for afterwards.
                if chance.below(4) > 0 {
                    bench.b.tag_receive(Pattern::exact(n), View::up_to(MOST), n).unwrap();
                    bench.a.tag_send(bench.b.address(), n, data(n, len), n).unwrap();
                } else {
                    bench.a.tag_send(bench.b.address(), n, data(n, len), n).unwrap();
                    bench.b.progress().unwrap();
                    bench.b.tag_receive(Pattern::exact(n), View::up_to(MOST), n).unwrap();
                }
                sent += 1;
            }
            let busy = bench.a.progress().unwrap() | bench.b.progress().unwrap();
            while let Some(completion) = bench.b.poll_completion() {
                let (n, view) = received(completion);
                check(n, messages[n as usize].0, &view);
                held.push((n, messages[n as usize].0, view));
                done += 1;
                // Some stay for long, some go at once.
                while held.len() > usize::from(messages[n as usize].1 % 30) {
                    let (n, len, view) = held.swap_remove(chance.below(held.len() as u64) as usize);
                    check(n, len, &view);
                }
            }
            while bench.a.poll_completion().is_some() {}
            if !busy {
                bench.hfi.bus().relax();
            }
        }
        for (n, len, view) in &held {
            check(*n, *len, view);
        }
        let c = bench.b.counters();
        let all = c.lent_messages + c.copied_none_spare + c.copied_short + c.copied_early + c.copied_pieces;
        prop_assert_eq!((c.received_messages, all), (messages.len() as u64, messages.len() as u64));
        prop_assert!(lent > 0 || c.lent_messages == 0);
        prop_assert_eq!(bench.adapter.counts().dma_faults, 0);
    }
}
