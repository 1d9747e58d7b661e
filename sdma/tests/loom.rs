//! Models of a queue that several threads share, run in every order that the memory model allows, and of an owner that sleeps
//! until a packet is done, in every order of its accesses and the engine's. `.ci/loom` runs them; otherwise there is nothing
//! here.
#![cfg(loom)]
#![allow(dead_code, unreachable_pub, reason = "the files hold more than the models use")]

#[path = "../src/bell.rs"]
mod bell;
#[path = "../src/fragment.rs"]
mod fragment;
#[path = "../src/header.rs"]
mod header;
#[path = "../../hw/tests/machine/mod.rs"]
mod machine;
#[path = "../src/packet.rs"]
mod packet;
#[path = "../src/share.rs"]
mod share;

/// What `src/sync.rs` is outside of a model.
mod sync {
    pub use loom::sync::atomic::{AtomicBool, Ordering, fence};
    pub use loom::sync::{Arc, Condvar, Mutex};
    use std::collections::VecDeque;

    /// In place of crossbeam's, which does the same without a lock.
    #[derive(Debug)]
    pub struct ArrayQueue<T> {
        items: Mutex<VecDeque<T>>,
        capacity: usize,
    }

    impl<T> ArrayQueue<T> {
        pub fn new(capacity: usize) -> Self {
            Self { items: Mutex::new(VecDeque::new()), capacity }
        }

        pub fn capacity(&self) -> usize {
            self.capacity
        }

        pub fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().unwrap();
            if items.len() == self.capacity {
                return Err(item);
            }
            items.push_back(item);
            Ok(())
        }

        pub fn pop(&self) -> Option<T> {
            self.items.lock().unwrap().pop_front()
        }

        pub fn is_empty(&self) -> bool {
            self.items.lock().unwrap().is_empty()
        }
    }
}

/// In place of the queue, which its owner alone touches: what it was told of is done at the next look.
mod queue {
    use crate::packet::Packet;
    use std::collections::VecDeque;
    use std::marker::PhantomData;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Outcome {
        Sent,
        Failed,
    }

    #[derive(Debug)]
    pub struct SdmaQueue<B, T> {
        queued: VecDeque<T>,
        told: usize,
        pub submitted: u32,
        bus: PhantomData<B>,
    }

    impl<B, T> SdmaQueue<B, T> {
        pub fn new() -> Self {
            Self { queued: VecDeque::new(), told: 0, submitted: 0, bus: PhantomData }
        }

        pub fn is_running(&self) -> bool {
            true
        }

        pub fn free(&self) -> u32 {
            64
        }

        pub fn submit(&mut self, _: Packet<'_>, token: T) -> Result<(), (String, T)> {
            self.queued.push_back(token);
            self.submitted += 1;
            Ok(())
        }

        pub fn doorbell(&mut self) {
            self.told = self.queued.len();
        }

        pub fn poll(&mut self) -> Option<(T, Outcome)> {
            self.told = self.told.checked_sub(1)?;
            Some((self.queued.pop_front()?, Outcome::Sent))
        }
    }
}

use fragment::Fragment;
use machine::{Device, Interrupt, Machine, ModelBus, Rig};
use opx_bus::{PciFunction, SharedMem};
use opx_defs::csr;
use opx_defs::source::Source;
use opx_defs::units::{BarOff, Iova, SdmaEngine};
use opx_emu::EmuBus;
use queue::Outcome;
use share::{NotDone, SharedPacket, SharedQueue, Submitter};
use std::time::Duration;

/// Time doesn't pass in a model.
const LIMIT: Duration = Duration::from_secs(3600);
const PACKETS: u32 = 2;

fn shared<T>() -> SharedQueue<EmuBus, T> {
    SharedQueue::new(queue::SdmaQueue::new())
}

fn packet() -> SharedPacket {
    SharedPacket::new(&[Fragment::raw(Iova(0), 64)]).expect("it is one")
}

fn submit<T: std::fmt::Debug>(submitter: &mut Submitter<T>, token: T) {
    submitter.submit(packet(), token).expect("there is room");
}

#[test]
fn no_packet_is_sent_after_its_submitter_has_gone() {
    loom::model(|| {
        let mut queue = shared();
        let (token, mut submitter) = (std::sync::Arc::new(()), queue.submitter(PACKETS as usize));
        let threads_token = std::sync::Arc::clone(&token);
        let thread = loom::thread::spawn(move || {
            (0..PACKETS).for_each(|_| submit(&mut submitter, std::sync::Arc::clone(&threads_token)));
        });
        queue.pump();
        queue.pump();
        thread.join().expect("it ends");
        let taken = queue.queue_mut().submitted;
        for _ in 0..3 {
            queue.pump();
        }
        assert_eq!(queue.queue_mut().submitted, taken, "sent although nobody holds its memory");
        assert_eq!(std::sync::Arc::strong_count(&token), 1, "a token was kept");
    });
}

#[test]
fn a_lane_is_given_up_when_nothing_of_it_is_left() {
    loom::model(|| {
        let mut queue = shared();
        let mut first = queue.submitter(PACKETS as usize);
        let thread = loom::thread::spawn(move || (0..PACKETS).for_each(|n| submit(&mut first, n)));
        queue.pump();
        thread.join().expect("it ends");
        // The engine may still have a packet of the first.
        let mut second = queue.submitter(1);
        submit(&mut second, 7);
        while second.underway() > 0 {
            queue.pump();
            assert!(matches!(second.poll(), None | Some((7, Outcome::Sent))));
        }
    });
}

#[test]
fn each_token_comes_back_once_to_its_own_submitter() {
    loom::model(|| {
        let mut queue = shared();
        let threads = [10, 20].map(|first| {
            let mut submitter = queue.submitter(1);
            loom::thread::spawn(move || {
                submit(&mut submitter, first);
                assert_eq!(submitter.wait(LIMIT), Ok((first, Outcome::Sent)));
                assert_eq!((submitter.poll(), submitter.underway()), (None, 0));
            })
        });
        while queue.queue_mut().submitted < 2 {
            if !queue.pump() {
                loom::thread::yield_now();
            }
        }
        queue.pump();
        threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    });
}

#[test]
fn no_packet_that_is_done_is_slept_through() {
    loom::model(|| {
        let mut queue = shared();
        let mut submitter = queue.submitter(PACKETS as usize);
        let thread = loom::thread::spawn(move || {
            (0..PACKETS).for_each(|n| submit(&mut submitter, n));
            for n in 0..PACKETS {
                assert_eq!(submitter.wait(LIMIT), Ok((n, Outcome::Sent)));
            }
            assert_eq!(submitter.wait(LIMIT), Err(NotDone::Nothing));
        });
        while queue.queue_mut().submitted < PACKETS {
            if !queue.pump() {
                loom::thread::yield_now();
            }
        }
        queue.pump();
        thread.join().expect("it ends");
    });
}

#[test]
fn a_queue_that_goes_wakes_who_waits() {
    loom::model(|| {
        let mut queue = shared();
        let mut submitter = queue.submitter(1);
        let thread = loom::thread::spawn(move || {
            // Whatever came of it: it isn't waited for in vain.
            if submitter.submit(packet(), 7).is_ok() {
                assert!(matches!(submitter.wait(LIMIT), Ok((7, Outcome::Sent)) | Err(NotDone::Closed)));
            }
        });
        queue.pump();
        queue.pump();
        drop(queue);
        thread.join().expect("it ends");
    });
}

/// An engine of the chip.
struct Engine {
    number: SdmaEngine,
    /// Where it tells its head.
    line: (SharedMem, usize),
    head: u64,
    tail: u64,
    count: u64,
}

impl Device for Engine {
    fn write(&mut self, _: &mut Interrupt, offset: BarOff, value: u64) -> bool {
        let n = self.number.0.into();
        if offset == csr::SEND_DMA_TAIL.at(n) {
            self.tail = value;
        } else if offset == csr::SEND_DMA_DESC_CNT.at(n) {
            self.count = csr::SEND_DMA_DESC_CNT::CNT.get(value);
        } else {
            return false;
        }
        true
    }

    fn read(&self, offset: BarOff) -> Option<u64> {
        (offset == csr::SEND_DMA_HEAD.at(self.number.0.into())).then_some(self.head)
    }
}

/// The engine does its descriptors: first its register tells of it, then memory, then come the interrupts.
fn fetch(machine: &Machine<Engine>) {
    let (number, line) = machine.step(|engine, _| (engine.number, engine.line.clone()));
    while machine.until(|engine| engine.head != engine.tail) {
        let (head, counted_down) = machine.step(|engine, _| {
            engine.head += 1;
            let counted_down = engine.count == 1;
            engine.count = engine.count.saturating_sub(1);
            (engine.head, counted_down)
        });
        line.0.write_u64(line.1, head);
        machine.step(|engine, interrupt| {
            if counted_down {
                interrupt.raise(Source::sdma_progress(number));
            }
            if engine.head == engine.tail {
                interrupt.raise(Source::sdma_idle(number));
            }
        });
    }
}

type Queue = opx_sdma::SdmaQueue<ModelBus<Engine>, u32>;

fn owner(rig: &Rig<Engine>) -> (Queue, Engine) {
    let mut queue = Queue::new(rig.hfi.sdma_engine(64).expect("there are engines"));
    // Takes its interrupt.
    assert!(!queue.wait(LIMIT).expect("it has one"));
    for n in 0..PACKETS {
        let fragment = opx_sdma::Fragment::raw(Iova(0), 64);
        queue.submit(&[fragment], n).expect("there is room");
    }
    let number = queue.engine().number();
    let line = rig.bus.host(Iova(rig.bus.read64(csr::SEND_DMA_HEAD_ADDR.at(number.0.into()))));
    (queue, Engine { number, line, head: 0, tail: 0, count: 0 })
}

#[test]
fn no_completion_is_slept_through() {
    let wait = |queue: &mut Queue| {
        for n in 0..PACKETS {
            assert!(queue.wait(LIMIT).expect("the engine is good"));
            assert_eq!(queue.poll(), Some((n, opx_sdma::Outcome::Sent)));
        }
        assert_eq!(queue.pending(), 0);
    };
    Rig::new().explore(owner, wait, fetch);
}
