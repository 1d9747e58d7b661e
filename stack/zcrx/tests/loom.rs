//! Models of how threads return buffers while others sit down, get up and close, run in every order that the memory model
//! allows: each entry reaches the kernel once, none is written over, and exactly one thread frees. `.ci/loom` runs them;
//! otherwise there is nothing here.
#![cfg(loom)]
#![allow(dead_code, unreachable_pub, reason = "the file holds more than the models use")]

#[path = "../src/refill.rs"]
mod refill;

/// What `src/sync.rs` is outside of a model.
mod sync {
    pub use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    pub use loom::sync::{Mutex, MutexGuard};
}

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::thread;
use refill::{Refill, Words};

const OWNER: usize = 1;
const OTHER: usize = 2;
const THIRD: usize = 3;
/// What an entry is while the kernel may not read it.
const EMPTY: u64 = u64::MAX;

/// The shared words. Without order between its accesses an entry would be seen empty by the kernel, or not yet empty by the
/// thread that writes it next, in some run of the model.
struct Shared {
    head: AtomicU32,
    tail: AtomicU32,
    entries: Vec<AtomicU64>,
}

impl Words for Arc<Shared> {
    fn head(&self) -> u32 {
        self.head.load(Ordering::Acquire)
    }

    fn start(&self) -> u32 {
        0
    }

    fn put(&self, at: u64, entry: u64) {
        let at = at as usize % self.entries.len();
        assert_eq!(self.entries[at].load(Ordering::Relaxed), EMPTY, "written over before the kernel took it");
        self.entries[at].store(entry, Ordering::Relaxed);
    }

    fn publish(&self, tail: u32) {
        self.tail.store(tail, Ordering::Release);
    }
}

/// What the kernel takes: all that is published.
fn take(shared: &Shared) -> Vec<u64> {
    let mut head = shared.head.load(Ordering::Relaxed);
    let mut taken = Vec::new();
    while head != shared.tail.load(Ordering::Acquire) {
        let slot = &shared.entries[head as usize % shared.entries.len()];
        let entry = slot.load(Ordering::Relaxed);
        assert_ne!(entry, EMPTY, "published before it was written");
        slot.store(EMPTY, Ordering::Relaxed);
        taken.push(entry);
        head += 1;
        shared.head.store(head, Ordering::Release);
    }
    taken
}

fn ring(entries: u32) -> (Arc<Shared>, Arc<Refill<Arc<Shared>>>) {
    let shared = Arc::new(Shared {
        head: AtomicU32::new(0),
        tail: AtomicU32::new(0),
        entries: (0..entries).map(|_| AtomicU64::new(EMPTY)).collect(),
    });
    let refill = Arc::new(Refill::new(shared.clone(), entries, entries, 0));
    (shared, refill)
}

/// Returns a buffer as a pool does. A thread knows whether it sits.
fn give_back(refill: &Refill<Arc<Shared>>, entry: u64, me: usize, sits: bool) {
    if !(sits && refill.give_back_at_once(entry)) {
        assert!(!refill.give_back_slowly(entry, me, |_| {}), "the ring is open");
    }
}

/// All that was returned, once each.
fn settle(shared: &Shared, refill: &Refill<Arc<Shared>>, mut taken: Vec<u64>, returned: u64) {
    loop {
        let more = take(shared);
        refill.catch_up(OWNER);
        if more.is_empty() && refill.state().used == 0 {
            break;
        }
        taken.extend(more);
    }
    taken.sort_unstable();
    assert_eq!(taken, (0..returned).collect::<Vec<_>>());
}

/// The thread in the seat returns without a lock, another with it, and the kernel takes meanwhile.
#[test]
fn returns_meet_the_thread_in_the_seat() {
    loom::model(|| {
        let (shared, refill) = ring(2);
        assert!(refill.sit(OWNER));
        let other = thread::spawn({
            let refill = refill.clone();
            move || give_back(&refill, 0, OTHER, false)
        });
        let kernel = thread::spawn({
            let shared = shared.clone();
            move || take(&shared)
        });
        give_back(&refill, 1, OWNER, true);
        give_back(&refill, 2, OWNER, true);
        other.join().unwrap();
        let taken = kernel.join().unwrap();
        refill.get_up(OWNER);
        settle(&shared, &refill, taken, 3);
    });
}

/// It gets up to wait, and sits down again, while others return.
#[test]
fn returns_meet_a_thread_that_gets_up_and_sits_down() {
    loom::model(|| {
        let (shared, refill) = ring(4);
        assert!(refill.sit(OWNER));
        let others = [(0, OTHER), (1, THIRD)].map(|(entry, me)| {
            let refill = refill.clone();
            thread::spawn(move || give_back(&refill, entry, me, false))
        });
        give_back(&refill, 2, OWNER, true);
        refill.get_up(OWNER);
        assert!(refill.sit(OWNER));
        give_back(&refill, 3, OWNER, true);
        for other in others {
            other.join().unwrap();
        }
        refill.get_up(OWNER);
        settle(&shared, &refill, Vec::new(), 4);
    });
}

/// The seat passes from one thread to another, until the pool is shared.
#[test]
fn the_seat_passes_to_another_thread() {
    loom::model(|| {
        let (shared, refill) = ring(4);
        assert!(refill.sit(OWNER));
        let other = thread::spawn({
            let refill = refill.clone();
            move || {
                let sits = refill.sit(OTHER);
                give_back(&refill, 0, OTHER, sits);
                refill.get_up(OTHER);
            }
        });
        give_back(&refill, 1, OWNER, true);
        refill.get_up(OWNER);
        refill.share();
        assert!(!refill.sit(THIRD));
        give_back(&refill, 2, OWNER, false);
        other.join().unwrap();
        settle(&shared, &refill, Vec::new(), 3);
    });
}

/// The pool is closed while the last buffers come back: who frees is exactly one, after all others are through.
#[test]
fn exactly_one_frees() {
    loom::model(|| {
        let (_, refill) = ring(2);
        refill.dispensed(2);
        let (returned, freed) = (Arc::new([AtomicU64::new(0), AtomicU64::new(0)]), Arc::new(AtomicU64::new(0)));
        let others = [(0, OTHER), (1, THIRD)].map(|(entry, me)| {
            let (refill, returned, freed) = (refill.clone(), returned.clone(), freed.clone());
            thread::spawn(move || {
                let used = || assert_eq!(freed.load(Ordering::Relaxed), 0, "used after it was freed");
                // The last use of what was lent.
                used();
                returned[entry as usize].store(1, Ordering::Relaxed);
                if refill.give_back_slowly(entry, me, |_| used()) {
                    free(&returned[..], &freed);
                }
            })
        });
        if refill.close() {
            free(&returned[..], &freed);
        }
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(freed.load(Ordering::Relaxed), 1);
    });
}

/// Who frees sees all that the others did with what they had.
fn free(returned: &[AtomicU64], freed: &AtomicU64) {
    assert!(returned.iter().all(|returned| returned.load(Ordering::Relaxed) == 1), "freed while some are out");
    assert_eq!(freed.fetch_add(1, Ordering::Relaxed), 0, "freed twice");
}
