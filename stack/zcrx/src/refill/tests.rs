//! The refill ring against a kernel that takes entries when the test says so.

use super::*;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};

/// The marks of two threads, and of one that never had a ring.
const OWNER: usize = 1;
const OTHER: usize = 2;
const RINGLESS: usize = 0;

/// Shared words, and what the kernel took from them.
struct Shared {
    head: Cell<u32>,
    start: u32,
    published: Cell<u32>,
    entries: RefCell<Vec<Option<u64>>>,
    taken: RefCell<Vec<u64>>,
}

impl Shared {
    fn new(entries: u32, start: u32) -> Self {
        Self {
            head: Cell::new(start),
            start,
            published: Cell::new(start),
            entries: RefCell::new(vec![None; entries as usize]),
            taken: RefCell::default(),
        }
    }

    /// The kernel takes so many entries, or what there is.
    fn take(&self, most: u32) {
        let there = self.published.get().wrapping_sub(self.head.get()).min(most);
        for _ in 0..there {
            let at = self.head.get() as usize % self.entries.borrow().len();
            let entry = self.entries.borrow_mut()[at].take();
            self.taken.borrow_mut().push(entry.expect("what is published was written"));
            self.head.set(self.head.get().wrapping_add(1));
        }
    }
}

impl Words for &Shared {
    fn head(&self) -> u32 {
        self.head.get()
    }

    fn start(&self) -> u32 {
        self.start
    }

    fn put(&self, at: u64, entry: u64) {
        let mut entries = self.entries.borrow_mut();
        let slot = at as usize % entries.len();
        assert_eq!(entries[slot].replace(entry), None, "an entry that the kernel hasn't taken is written over");
    }

    fn publish(&self, tail: u32) {
        self.published.set(tail);
    }
}

fn ring(shared: &Shared) -> Refill<&Shared> {
    let entries = shared.entries.borrow().len() as u32;
    Refill::new(shared, entries, entries, 0)
}

/// Returns a buffer as a pool does.
fn give_back_then(ring: &Refill<&Shared>, entry: u64, me: usize, then: impl FnOnce(After)) -> bool {
    let sits = ring.writer.load(Ordering::Relaxed) == me;
    !(sits && ring.give_back_at_once(entry)) && ring.give_back_slowly(entry, me, then)
}

/// What a return leaves to do.
fn give_back(ring: &Refill<&Shared>, entry: u64, me: usize) -> After {
    let after = Cell::new(After::Nothing);
    assert!(!give_back_then(ring, entry, me, |what| after.set(what)), "the ring is open");
    after.get()
}

fn used_free_overflow(ring: &Refill<&Shared>) -> (u32, u32, usize) {
    let state = ring.state();
    (state.used, state.free, state.overflow)
}

/// Z8: what finds no room waits, and goes with a later return.
#[test]
fn a_full_ring_keeps_returns_for_later() {
    for seat in [false, true] {
        let shared = Shared::new(2, 0);
        let ring = ring(&shared);
        if seat {
            ring.sit(OWNER);
        }
        assert_eq!(used_free_overflow(&ring), (0, 2, 0));
        assert_eq!(give_back(&ring, 1, OWNER), After::Nothing);
        give_back(&ring, 2, OWNER);
        assert_eq!(give_back(&ring, 3, OWNER), After::Flush, "it is full");
        assert_eq!(used_free_overflow(&ring), (2, 0, 1));
        shared.take(2);
        assert_eq!(used_free_overflow(&ring), (0, 2, 1));
        give_back(&ring, 4, OWNER);
        assert_eq!(used_free_overflow(&ring), (2, 0, 0));
        shared.take(2);
        assert_eq!(*shared.taken.borrow(), [1, 2, 4, 3], "what was returned last goes before what waited");
    }
}

/// Z8: many wait; the numbers are those of folly's test of the same.
#[test]
fn a_long_overflow_drains_with_later_returns() {
    let shared = Shared::new(8, 0);
    let ring = ring(&shared);
    ring.sit(OWNER);
    for entry in 0..150 {
        give_back(&ring, entry, OWNER);
    }
    assert_eq!(used_free_overflow(&ring), (8, 0, 142));
    shared.take(8);
    assert_eq!(used_free_overflow(&ring), (0, 8, 142));
    give_back(&ring, 150, OWNER);
    assert_eq!(used_free_overflow(&ring), (8, 0, 135));
    shared.take(8);
    for entry in 151..161 {
        give_back(&ring, entry, OWNER);
    }
    assert_eq!(used_free_overflow(&ring), (8, 0, 137));
    shared.take(8);
    let mut next = 161;
    while ring.state().overflow > 0 {
        give_back(&ring, next, OWNER);
        next += 1;
        if ring.state().used == 8 {
            shared.take(8);
        }
    }
    assert_eq!(ring.state().returned, next);
    shared.take(8);
    let mut taken = shared.taken.take();
    taken.sort_unstable();
    assert_eq!(taken, (0..next).collect::<Vec<_>>());
}

/// Z8: more returns than entries, again and again.
#[test]
fn more_returns_than_entries_are_kept() {
    let shared = Shared::new(2, 0);
    let ring = ring(&shared);
    for entry in 0..8 {
        give_back(&ring, entry, OWNER);
    }
    assert_eq!(used_free_overflow(&ring), (2, 0, 6));
    shared.take(2);
    for entry in 8..10 {
        give_back(&ring, entry, OWNER);
    }
    assert_eq!(used_free_overflow(&ring), (2, 0, 6));
}

/// Z8: the counters that the kernel sees go past the end of 32 bits.
#[test]
fn counters_wrap() {
    for seat in [false, true] {
        let shared = Shared::new(4, u32::MAX - 3);
        let ring = ring(&shared);
        if seat {
            ring.sit(OWNER);
        }
        for entry in 0..20 {
            give_back(&ring, entry, OWNER);
            assert_eq!(ring.state().used, 1);
            shared.take(1);
        }
        assert_eq!(shared.published.get(), 16);
        assert_eq!(ring.state().returned, 20);
        assert_eq!(*shared.taken.borrow(), (0..20).collect::<Vec<_>>());
    }
}

/// A head beyond the tail makes no sense; nothing is written then.
#[test]
fn a_senseless_head_counts_as_a_full_ring() {
    let shared = Shared::new(4, 0);
    let ring = ring(&shared);
    shared.head.set(3);
    give_back(&ring, 1, OWNER);
    assert_eq!(used_free_overflow(&ring), (4, 0, 1));
    assert!(shared.entries.borrow().iter().all(Option::is_none));
}

/// Z10: where the kernel has to be told, it is told before the ring is full.
#[test]
fn a_flush_is_asked_for_at_the_watermark() {
    let shared = Shared::new(8, 0);
    let ring = Refill::new(&shared, 8, 3, 0);
    ring.sit(OWNER);
    assert_eq!(give_back(&ring, 1, OWNER), After::Nothing);
    assert_eq!(give_back(&ring, 2, OWNER), After::Nothing);
    assert_eq!(give_back(&ring, 3, OWNER), After::Nothing, "written without a look");
    assert_eq!(give_back(&ring, 4, OWNER), After::Flush);
    shared.take(8);
    assert_eq!(ring.catch_up(OWNER), After::Nothing);
    assert_eq!(give_back(&ring, 5, OWNER), After::Nothing);
}

/// What another thread returns goes to the kernel with the next return of the one in the seat, or when it gets up.
#[test]
fn others_leave_returns_to_the_thread_in_the_seat() {
    let shared = Shared::new(8, 0);
    let ring = ring(&shared);
    ring.sit(OWNER);
    give_back(&ring, 1, OTHER);
    give_back(&ring, 2, RINGLESS);
    assert_eq!(used_free_overflow(&ring), (0, 8, 2));
    give_back(&ring, 3, OWNER);
    assert_eq!(used_free_overflow(&ring), (3, 5, 0));
    give_back(&ring, 4, OTHER);
    assert_eq!(ring.catch_up(OTHER), After::Nothing, "not its business");
    assert_eq!(used_free_overflow(&ring), (3, 5, 1));
    ring.get_up(OTHER);
    ring.get_up(OWNER);
    assert_eq!(used_free_overflow(&ring), (4, 4, 0));
    give_back(&ring, 5, OTHER);
    assert_eq!(used_free_overflow(&ring), (5, 3, 0));
    ring.share();
    assert!(!ring.sit(OWNER));
    give_back(&ring, 6, OTHER);
    assert_eq!(used_free_overflow(&ring), (6, 2, 0), "nobody sits in a shared ring");
}

/// Z11: the last return of what was out when it was closed frees, no other.
#[test]
fn a_closed_ring_is_freed_by_the_last_return() {
    let shared = Shared::new(2, 0);
    let ring = ring(&shared);
    ring.sit(OWNER);
    let give_back = |entry| give_back_then(&ring, entry, OWNER, |_| {});
    ring.dispensed(5);
    // One in the ring, one that waits: returned both.
    for entry in 0..3 {
        assert!(!give_back(entry));
    }
    ring.get_up(OWNER);
    assert!(!ring.close());
    assert!(!give_back(3));
    assert!(give_back(4));
}

/// Z11.
#[test]
fn a_closed_ring_with_nothing_out_is_freed_at_once() {
    let shared = Shared::new(2, u32::MAX);
    let ring = ring(&shared);
    ring.dispensed(1);
    assert!(!give_back_then(&ring, 7, RINGLESS, |_| {}));
    assert!(ring.close());
}

proptest! {
    /// Z8: whoever returns, whoever sits, whenever the kernel takes: each entry reaches it once.
    #[test]
    fn each_return_reaches_the_kernel_once(
        start in prop_oneof![Just(0), Just(u32::MAX - 5), any::<u32>()],
        size in 0_u32..5,
        watermark in 1_u32..20,
        steps in prop::collection::vec((0_u8..8, 1_u32..6), 1..300),
    ) {
        let shared = Shared::new(1 << size, start);
        let ring = Refill::new(&shared, 1 << size, watermark, 0);
        let mut returned = 0;
        for (step, amount) in steps {
            match step {
                0 => drop(ring.sit(OWNER)),
                1 => ring.get_up(OWNER),
                2 => drop(ring.catch_up(OWNER)),
                3 => shared.take(amount),
                4 => drop(ring.sit(OTHER)),
                5 => ring.get_up(OTHER),
                who => {
                    for _ in 0..amount {
                        give_back(&ring, returned, if who == 6 { OWNER } else { OTHER });
                        returned += 1;
                    }
                }
            }
            prop_assert_eq!(ring.state().returned, returned);
        }
        ring.get_up(OWNER);
        ring.get_up(OTHER);
        while ring.state().used > 0 || ring.state().overflow > 0 {
            shared.take(u32::MAX);
            ring.catch_up(OWNER);
        }
        let mut taken = shared.taken.take();
        taken.sort_unstable();
        prop_assert_eq!(taken, (0..returned).collect::<Vec<_>>());
    }
}
