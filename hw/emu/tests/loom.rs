//! Models of how the threads of two chips meet, run in every order that the memory model allows: no wake-up is lost, and each
//! packet arrives. `.ci/loom` runs them; otherwise there is nothing here.
#![cfg(loom)]
#![allow(dead_code, reason = "the files hold more than the models use")]

#[path = "../src/alarm.rs"]
mod alarm;
#[path = "../src/packet.rs"]
mod packet;
#[path = "../src/wire.rs"]
mod wire;

/// What `src/sync.rs` is outside of a model.
mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub use loom::sync::{Mutex, MutexGuard};
    use std::sync::{LockResult, WaitTimeoutResult};
    use std::time::Duration;

    /// loom's, with the loops that the standard library's has.
    #[derive(Debug, Default)]
    pub struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub fn notify_one(&self) {
            self.0.notify_one();
        }

        pub fn wait_while<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            mut condition: impl FnMut(&mut T) -> bool,
        ) -> LockResult<MutexGuard<'a, T>> {
            while condition(&mut guard) {
                guard = self.0.wait(guard)?;
            }
            Ok(guard)
        }

        /// Time doesn't pass in a model: who waits for it is woken, or waits for ever.
        pub fn wait_timeout_while<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            _limit: Duration,
            condition: impl FnMut(&mut T) -> bool,
        ) -> LockResult<(MutexGuard<'a, T>, Option<WaitTimeoutResult>)> {
            match self.wait_while(guard, condition) {
                Ok(guard) => Ok((guard, None)),
                Err(poisoned) => Err(std::sync::PoisonError::new((poisoned.into_inner(), None))),
            }
        }
    }
}

use alarm::Alarm;
use loom::sync::Mutex;
use opx_defs::time::Instant;
use opx_defs::units::Vl;
use packet::Packet;
use std::sync::Arc;
use wire::{Doorbell, Item, LINK_CREDIT_BYTES, Lane, LinkMessage};

fn packet(len: usize) -> Packet {
    Packet { bytes: vec![0; len], vl: Vl(0), sc4: false, bypass: false }
}

/// A chip's thread, as `lab.rs:run_chip`: takes what has come, and sleeps when there is nothing. Until `enough` came.
fn receive(lane: &Lane, doorbell: &Doorbell, enough: usize) -> Vec<Item> {
    let mut got = Vec::new();
    while got.len() < enough {
        match lane.receive(Instant::FAR) {
            Some((_, item)) => got.push(item),
            None if lane.next_due().is_some() => {}
            None => doorbell.wait(None),
        }
    }
    got
}

#[test]
fn a_receiver_that_falls_asleep_is_woken_by_each_packet() {
    loom::model(|| {
        let [to, from] = [Arc::new(Doorbell::default()), Arc::new(Doorbell::default())];
        let lane = Arc::new(Lane::new(from, Arc::clone(&to)));
        let sender = {
            let lane = Arc::clone(&lane);
            loom::thread::spawn(move || {
                lane.send(Instant::ZERO, packet(8)).expect("room");
                lane.tell(Instant::ZERO, LinkMessage::Idle(1));
            })
        };
        let got = receive(&lane, &to, 2);
        assert!(matches!(got[..], [Item::Packet(_), Item::Message(LinkMessage::Idle(1))]), "{got:?}");
        sender.join().expect("the sender ends");
    });
}

#[test]
fn a_sender_that_found_no_room_is_told_when_there_is_some() {
    loom::model(|| {
        let [to, from] = [Arc::new(Doorbell::default()), Arc::new(Doorbell::default())];
        let lane = Arc::new(Lane::new(Arc::clone(&from), Arc::clone(&to)));
        lane.send(Instant::ZERO, packet(LINK_CREDIT_BYTES)).expect("an empty lane takes anything");
        let receiver = {
            let (lane, to) = (Arc::clone(&lane), Arc::clone(&to));
            loom::thread::spawn(move || receive(&lane, &to, 2).len())
        };
        // As `Board::transmit` and `Chip::step` do: a packet that was refused goes out when there is news of room.
        let mut refused = lane.send(Instant::ZERO, packet(64)).err();
        while let Some(packet) = refused {
            while !lane.has_room_news() {
                from.wait(None);
            }
            assert!(lane.take_room());
            refused = lane.send(Instant::ZERO, packet).err();
        }
        assert_eq!(receiver.join().expect("the receiver ends"), 2);
    });
}

#[test]
fn a_chip_whose_work_is_put_forward_does_it() {
    /// A chip with one event. Its thread sleeps until that is due, which in the model never comes.
    #[derive(Default)]
    struct Chip {
        due: Option<Instant>,
        done: bool,
    }
    loom::model(|| {
        let doorbell = Arc::new(Doorbell::default());
        let shared = Arc::new((Mutex::new(Chip::default()), Alarm::new(Arc::clone(&doorbell))));
        // `lab.rs:Unit::with`: register accesses by two threads, one of which makes work.
        let accesses = [None, Some(Instant::ZERO)].map(|work| {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || {
                let (chip, alarm) = &*shared;
                let mut chip = chip.lock().expect("no panic");
                chip.due = work.or(chip.due);
                let wake = alarm.put_forward(chip.due);
                drop(chip);
                if wake {
                    alarm.ring();
                }
            })
        });
        // `lab.rs:run_chip` and `Unit::run_slice`.
        let (chip, alarm) = &*shared;
        loop {
            let mut chip = chip.lock().expect("no panic");
            if chip.due.take().is_some() {
                chip.done = true;
            }
            alarm.set(chip.due);
            if chip.done {
                break;
            }
            drop(chip);
            doorbell.wait(None);
        }
        for access in accesses {
            access.join().expect("the access ends");
        }
    });
}

#[test]
fn what_somebody_who_looked_after_a_chip_leaves_is_done_by_its_thread() {
    /// Work for the chip's thread, and how much it has done.
    #[derive(Default)]
    struct Chip {
        due: Option<Instant>,
        done: bool,
    }
    loom::model(|| {
        let doorbell = Arc::new(Doorbell::default());
        let shared = Arc::new((Mutex::new(Chip::default()), Alarm::new(Arc::clone(&doorbell))));
        // `lab.rs:Attention`: work is made meanwhile and left to the thread.
        let attentive = {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || {
                let (chip, alarm) = &*shared;
                let before = {
                    let _chip = chip.lock().expect("no panic");
                    alarm.attend()
                };
                let mut chip = chip.lock().expect("no panic");
                chip.due = Some(Instant::from_nanos(1));
                let mut wake = alarm.put_forward(chip.due);
                wake |= alarm.leave(before, chip.due);
                drop(chip);
                if wake {
                    alarm.ring();
                }
            })
        };
        // `lab.rs:run_chip` and `Unit::run_slice`.
        let (chip, alarm) = &*shared;
        loop {
            let mut chip = chip.lock().expect("no panic");
            chip.done |= chip.due.take().is_some();
            alarm.set(chip.due);
            if chip.done {
                break;
            }
            drop(chip);
            doorbell.wait(None);
        }
        attentive.join().expect("it ends");
    });
}
