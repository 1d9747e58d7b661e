//! Models of a ring and its doorbell, run in every order that the memory model allows. `.ci/loom` runs them; otherwise there
//! is nothing here.
#![cfg(loom)]
#![allow(dead_code, unreachable_pub, reason = "the files hold more than the models use")]

#[path = "../src/ring.rs"]
mod ring;

/// What `src/sync.rs` is outside of a model. A light fence that is matched by a heavy one is as good as a full fence.
mod sync {
    pub use loom::sync::atomic::{AtomicU64, Ordering, fence};

    pub fn light_fence(_full: bool) {
        fence(Ordering::SeqCst);
    }
}

/// What of `src/large.rs` the ring knows.
mod large {
    use opx_bus::SharedMem;

    #[derive(Clone, Copy)]
    pub enum Piece<'a> {
        Bytes(&'a [u8]),
        Mapped(&'a SharedMem, usize, usize),
    }
}

/// What `src/segment.rs` is outside of a model: a ring of a few slots.
mod segment {
    use super::sync::AtomicU64;
    use opx_bus::SharedMem;
    use std::sync::Arc;

    pub const SLOTS: usize = 4;
    /// Bytes, of which none is kept.
    const BYTES: u32 = 16 << 10;

    #[derive(Debug)]
    struct Shared {
        sender: AtomicU64,
        receiver: AtomicU64,
        slots: Vec<[AtomicU64; 8]>,
        gate: AtomicU64,
        bytes_back: AtomicU64,
    }

    #[derive(Debug, Clone)]
    pub struct Lines(Arc<Shared>);

    impl Lines {
        pub fn model() -> Self {
            let slots = (0..SLOTS).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect();
            Self(Arc::new(Shared {
                sender: AtomicU64::new(0),
                receiver: AtomicU64::new(0),
                gate: AtomicU64::new(0),
                bytes_back: AtomicU64::new(0),
                slots,
            }))
        }

        pub fn view(&self) -> &Self {
            self
        }

        pub fn mask(&self) -> u32 {
            SLOTS as u32 - 1
        }

        pub fn sender(&self) -> &AtomicU64 {
            &self.0.sender
        }

        pub fn receiver(&self) -> &AtomicU64 {
            &self.0.receiver
        }

        pub fn gate(&self) -> &AtomicU64 {
            &self.0.gate
        }

        pub fn slot(&self, position: u32) -> &[AtomicU64; 8] {
            &self.0.slots[position as usize % SLOTS]
        }

        pub fn bytes_back(&self) -> &AtomicU64 {
            &self.0.bytes_back
        }

        pub fn bytes_mask(&self) -> u32 {
            BYTES - 1
        }

        pub fn byte(&self, _position: u32) -> usize {
            0
        }

        /// Payload isn't kept; messages are told by their words.
        pub fn write(&self, _at: usize, _bytes: &[u8]) {}

        pub fn prefetch(&self, _at: usize) {}

        pub fn prefetch_slot(&self, _position: u32) {}

        pub fn read(&self, _at: usize, _bytes: &mut [u8]) {}

        pub fn copy_in(&self, _at: usize, _memory: &SharedMem, _from: usize, _len: usize) {}

        pub fn copy_out(&self, _at: usize, _memory: &SharedMem, _to: usize, _len: usize) {}
    }
}

use loom::sync::{Condvar, Mutex};
use ring::{Head, Receiver, Sender, Sent, Unsent};
use segment::{Lines, SLOTS};
use std::ops::Range;
use std::sync::Arc;
use sync::{Ordering, fence};

/// A socket whose reader sleeps: what is rung before it sleeps wakes it, too. A lost ring is a deadlock, which loom tells.
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn new() -> Arc<Self> {
        Arc::new(Self { rung: Mutex::new(false), changed: Condvar::new() })
    }

    fn ring_if(&self, sent: Sent) {
        if sent == Sent::Ring {
            *self.rung.lock().unwrap() = true;
            self.changed.notify_one();
        }
    }

    fn sleep(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

fn send(sender: &mut Sender, number: u64) -> Result<Sent, Unsent> {
    sender.send(Head { class: 1, kind: 0, words: [number, !number] }, &[])
}

fn take(receiver: &mut Receiver, to_sender: Option<&Bell>) -> Option<u64> {
    let record = receiver.next().expect("an honest sender")?;
    let [number, same] = record.head.words;
    assert_eq!(same, !number, "a message that wasn't there as a whole");
    let sent = receiver.consume(&record);
    if let Some(bell) = to_sender {
        bell.ring_if(sent);
    }
    Some(number)
}

/// Takes messages until there are `count`, asleep whenever there is none.
fn receive(receiver: &mut Receiver, bell: &Bell, to_sender: Option<&Bell>, count: u64) {
    receive_by(receiver, bell, 0..count, |receiver| take(receiver, to_sender));
}

/// Takes messages with these numbers.
fn receive_by(
    receiver: &mut Receiver,
    bell: &Bell,
    mut numbers: Range<u64>,
    take: impl Fn(&mut Receiver) -> Option<u64>,
) {
    while !numbers.is_empty() {
        if let Some(number) = take(receiver) {
            assert_eq!(Some(number), numbers.next(), "in order, once");
            continue;
        }
        // `node.rs:cool`, then `look`.
        receiver.go_cold();
        fence(Ordering::SeqCst);
        if receiver.is_empty() {
            bell.sleep();
        }
        receiver.go_hot();
    }
}

#[test]
fn a_receiver_that_sleeps_is_woken_by_every_first_message() {
    loom::model(|| {
        let lines = Lines::model();
        let bell = Bell::new();
        let (mut sender, mut receiver) = (Sender::new(lines.clone(), true), Receiver::new(lines, true));
        let producer = {
            let bell = Arc::clone(&bell);
            loom::thread::spawn(move || {
                for number in 0..2 {
                    bell.ring_if(send(&mut sender, number).expect("there is room"));
                }
            })
        };
        receive(&mut receiver, &bell, None, 2);
        producer.join().expect("the producer ends");
    });
}

/// A long message says in between how much of it is there: whoever sleeps beside that is woken by the whole.
#[test]
fn a_message_that_isnt_whole_is_none() {
    loom::model(|| {
        let lines = Lines::model();
        let bell = Bell::new();
        let (mut sender, mut receiver) = (Sender::new(lines.clone(), true), Receiver::new(lines, true));
        let producer = {
            let bell = Arc::clone(&bell);
            loom::thread::spawn(move || {
                let head = Head { class: 1, kind: 0, words: [0, !0] };
                bell.ring_if(sender.send(head, &[&[7; 2049]]).expect("there is room"));
            })
        };
        receive(&mut receiver, &bell, None, 1);
        producer.join().expect("the producer ends");
    });
}

/// A payload of two slots is there once the first of them is. What the slots held before isn't taken for it.
#[test]
fn a_message_of_two_slots_is_whole() {
    fn send(sender: &mut Sender, number: u8) -> Sent {
        let head = Head { class: 1, kind: 0, words: [u64::from(number); 2] };
        sender.send(head, &[&[number; 64]]).expect("there is room")
    }
    fn take(receiver: &mut Receiver) -> Option<u64> {
        let record = receiver.next().expect("an honest sender")?;
        let mut payload = [0; 64];
        assert_eq!(receiver.read(&record, 0, &mut payload), 64);
        assert_eq!(payload, [record.head.words[0] as u8; 64], "a message that wasn't there as a whole");
        let _ = receiver.consume(&record);
        Some(record.head.words[0])
    }
    loom::model(|| {
        let lines = Lines::model();
        let bell = Bell::new();
        let (mut sender, mut receiver) = (Sender::new(lines.clone(), true), Receiver::new(lines, true));
        // All slots have been used.
        for number in 1..=SLOTS as u8 / 2 {
            let _ = send(&mut sender, number);
            assert_eq!(take(&mut receiver), Some(number.into()));
        }
        let producer = {
            let bell = Arc::clone(&bell);
            loom::thread::spawn(move || (3..=4).for_each(|number| bell.ring_if(send(&mut sender, number))))
        };
        receive_by(&mut receiver, &bell, 3..5, take);
        producer.join().expect("the producer ends");
    });
}

#[test]
fn a_sender_that_waits_for_room_is_woken() {
    loom::model(|| {
        let lines = Lines::model();
        let (to_receiver, to_sender) = (Bell::new(), Bell::new());
        let (mut sender, mut receiver) = (Sender::new(lines.clone(), true), Receiver::new(lines, true));
        // The ring is full.
        for number in 0..SLOTS as u64 {
            to_receiver.ring_if(send(&mut sender, number).expect("there is room"));
        }
        let producer = {
            let (to_receiver, to_sender) = (Arc::clone(&to_receiver), Arc::clone(&to_sender));
            loom::thread::spawn(move || {
                loop {
                    match send(&mut sender, SLOTS as u64) {
                        Ok(sent) => return to_receiver.ring_if(sent),
                        Err(why) => assert_eq!(why, Unsent::Full),
                    }
                    // `node.rs:arm`, then `look`.
                    sender.want_room();
                    fence(Ordering::SeqCst);
                    if !sender.has_got_room() {
                        to_sender.sleep();
                    }
                    sender.stop_wanting();
                }
            })
        };
        receive(&mut receiver, &to_receiver, Some(&to_sender), SLOTS as u64 + 1);
        producer.join().expect("the producer ends");
    });
}
