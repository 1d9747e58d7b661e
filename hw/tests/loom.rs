//! Models of how the driver's threads learn of freezes and of an engine's errors, run in every order that the memory model
//! allows, and of a receiver that sleeps until a packet comes, in every order of its accesses and the chip's. `.ci/loom` runs them; otherwise there is nothing here.
#![cfg(loom)]
#![allow(dead_code, unreachable_pub, reason = "the files hold more than the models use")]

#[path = "../src/frozen.rs"]
mod frozen;
#[path = "../src/kept_errors.rs"]
mod kept_errors;
mod machine;

/// What `src/sync.rs` is outside of a model.
mod sync {
    pub use loom::sync::Mutex;
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
}

use frozen::{Frozen, Standstill};
use kept_errors::KeptErrors;
use machine::{Device, Interrupt, Machine, ModelBus, Rig};
use opx_bus::{PciFunction, SharedMem};
use opx_defs::csr;
use opx_defs::source::Source;
use opx_defs::units::{BarOff, Dwords, RcvCtxt, SdmaEngine};
use opx_defs::wire::rhf::{RcvType, Rhf};
use opx_hw::{RecvConfig, RecvContext};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use sync::{AtomicU32, Ordering};

const ENGINE: SdmaEngine = SdmaEngine(0);

/// A register of the chip: accesses to it are seen in the order in which they arrive there.
#[derive(Default)]
struct Register(AtomicU32);

impl Register {
    fn read(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    fn write(&self, value: u32) {
        self.0.store(value, Ordering::Release);
    }
}

/// What a freeze changes: whether a context is enabled, and an engine's head.
#[derive(Default)]
struct Chip {
    frozen: Frozen,
    enabled: Register,
    head: Register,
}

impl Chip {
    /// `freeze.rs:freeze_and_unfreeze`.
    fn freeze(&self) {
        self.frozen.begin();
        if self.enabled.read() == 1 {
            self.frozen.keep_head(ENGINE, self.head.read());
        }
        self.head.write(0);
        self.enabled.write(0);
        self.frozen.end();
    }
}

#[test]
fn a_handle_that_a_freeze_undoes_knows_it() {
    loom::model(|| {
        let chip = Arc::new(Chip::default());
        let owner = {
            let chip = Arc::clone(&chip);
            loom::thread::spawn(move || {
                let made = chip.frozen.running();
                if made.is_ok() {
                    chip.enabled.write(1);
                }
                made
            })
        };
        chip.freeze();
        match owner.join().expect("the owner ends") {
            Ok(epoch) => assert!(chip.enabled.read() == 1 || chip.frozen.is_stale(epoch), "set up, undone, not told"),
            Err(why) => assert_eq!(why, Standstill::Frozen),
        }
    });
}

#[test]
fn a_sender_doesnt_start_on_a_link_that_is_down() {
    loom::model(|| {
        let chip = Arc::new(Chip::default());
        let owner = {
            let chip = Arc::clone(&chip);
            loom::thread::spawn(move || chip.frozen.sending())
        };
        chip.frozen.link_is_down();
        chip.freeze();
        // Whoever was let through has to ask again, and is then told.
        match owner.join().expect("the owner ends") {
            Ok(epoch) => assert!(chip.frozen.is_stale(epoch)),
            Err(why) => assert!(matches!(why, Standstill::Frozen | Standstill::LinkDown)),
        }
        assert_eq!(chip.frozen.sending(), Err(Standstill::LinkDown));
        chip.frozen.link_is_active();
        assert_eq!(chip.frozen.sending(), Ok(1));
    });
}

#[test]
fn a_head_is_from_before_the_freeze_or_known_to_be_none() {
    loom::model(|| {
        let chip = Arc::new(Chip::default());
        chip.head.write(7);
        let owner = {
            let chip = Arc::clone(&chip);
            // `sdma_engine.rs:head_from_register`.
            loom::thread::spawn(move || {
                let head = chip.head.read();
                (!chip.frozen.is_stale(0)).then_some(head)
            })
        };
        chip.freeze();
        let head = owner.join().expect("the owner ends");
        assert!(matches!(head, None | Some(7)), "{head:?}");
    });
}

#[test]
fn the_head_of_one_freeze_isnt_taken_for_that_of_another() {
    loom::model(|| {
        let chip = Arc::new(Chip::default());
        chip.enabled.write(1);
        chip.head.write(7);
        let owner = {
            let chip = Arc::clone(&chip);
            loom::thread::spawn(move || chip.frozen.head_since(0, ENGINE))
        };
        chip.freeze();
        chip.freeze();
        assert_eq!(chip.frozen.head_since(0, ENGINE), Some(7), "the engine stood when the second one came");
        chip.enabled.write(1);
        chip.head.write(9);
        chip.freeze();
        let head = owner.join().expect("the owner ends");
        assert!(matches!(head, None | Some(7)), "{head:?}");
        assert_eq!((chip.frozen.head_since(0, ENGINE), chip.frozen.head_since(2, ENGINE)), (None, Some(9)));
    });
}

#[test]
fn a_freeze_for_good_lets_nobody_in() {
    loom::model(|| {
        let chip = Arc::new(Chip::default());
        let owner = {
            let chip = Arc::clone(&chip);
            loom::thread::spawn(move || chip.frozen.running())
        };
        chip.frozen.stays();
        chip.frozen.begin();
        match owner.join().expect("the owner ends") {
            Ok(epoch) => assert!(chip.frozen.is_stale(epoch)),
            Err(why) => assert!(matches!(why, Standstill::Overheated | Standstill::Frozen)),
        }
        assert_eq!(chip.frozen.running(), Err(Standstill::Overheated));
    });
}

/// An engine with an error in its register.
#[derive(Default)]
struct Engine {
    register: Register,
    errors: KeptErrors,
}

impl Engine {
    fn read(&self) -> Result<u64, Infallible> {
        Ok(self.register.read().into())
    }

    /// `interrupts.rs:service_engine_error`.
    fn service(&self) {
        let Ok(_) = self.errors.take(|| self.read(), |_| self.register.write(0));
    }

    /// `sdma_engine.rs:error_status`.
    fn status(&self) -> u64 {
        let Ok(all) = self.errors.all(|| self.read());
        all
    }
}

#[test]
fn an_error_is_seen_at_every_moment_until_it_is_dealt_with() {
    loom::model(|| {
        let engine = Arc::new(Engine::default());
        engine.register.write(1);
        let interrupt = {
            let engine = Arc::clone(&engine);
            loom::thread::spawn(move || engine.service())
        };
        assert_eq!(engine.status(), 1);
        // `sdma_engine.rs:start`, which reads the register by itself.
        let register = engine.register.read();
        assert_eq!(u64::from(register) | engine.errors.kept(), 1);
        interrupt.join().expect("the interrupt ends");
        assert_eq!(engine.status(), 1);
    });
}

#[test]
fn an_engine_that_starts_anew_has_no_errors_of_before() {
    loom::model(|| {
        let engine = Arc::new(Engine::default());
        engine.register.write(1);
        let interrupt = {
            let engine = Arc::clone(&engine);
            loom::thread::spawn(move || engine.service())
        };
        // `sdma_engine.rs:clean_up_and_run, run`.
        engine.register.write(0);
        engine.errors.forget(|| engine.register.write(0));
        interrupt.join().expect("the interrupt ends");
        assert_eq!(engine.status(), 0);
    });
}

const PACKETS: u32 = 2;

/// A receive context of the chip.
struct Arrivals {
    ctxt: RcvCtxt,
    /// The header queue, and the bytes of an entry.
    entries: SharedMem,
    entry: u32,
    head: u64,
    tail: u64,
    /// The interrupt was raised since the head was last written.
    fired: bool,
}

impl Arrivals {
    /// Raises the interrupt for one packet (`chip.c:rcv_intr_count`), once for each head that is written.
    fn tell(&mut self, interrupt: &mut Interrupt) {
        if !self.fired && self.head != self.tail {
            self.fired = true;
            interrupt.raise(Source::rcv_avail(self.ctxt));
        }
    }
}

impl Device for Arrivals {
    fn write(&mut self, interrupt: &mut Interrupt, offset: BarOff, value: u64) -> bool {
        let is_head = offset == csr::RCV_HDR_HEAD.at(self.ctxt.0.into());
        if is_head {
            (self.head, self.fired) = (csr::RCV_HDR_HEAD::HEAD.get(value), false);
            self.tell(interrupt);
        }
        is_head
    }

    fn read(&self, offset: BarOff) -> Option<u64> {
        (offset == csr::RCV_HDR_TAIL.at(self.ctxt.0.into())).then_some(self.tail)
    }
}

/// Packets arrive: each is counted, then its flags are written, then comes the interrupt.
fn arrive(machine: &Machine<Arrivals>) {
    let (entries, entry) = machine.step(|queue, _| (queue.entries.clone(), queue.entry));
    for n in 0..PACKETS {
        machine.step(|queue, _| queue.tail += u64::from(entry / 4));
        // Without payload: 56 bytes of header before the flags, and the ICRC.
        let flags = Rhf::new(Dwords(15), RcvType::Eager, Rhf::FIRST_SEQ + n as u8, Dwords((entry - 64) / 4));
        entries.write_u64((entry * (n + 1) - 8) as usize, flags.0);
        machine.step(Arrivals::tell);
    }
}

fn receiver(rig: &Rig<Arrivals>) -> (RecvContext<ModelBus<Arrivals>>, Arrivals) {
    let config = RecvConfig {
        header_entries: 64,
        eager_buffers: 8,
        eager_buffer_size: 16384,
        interrupts: true,
        ..RecvConfig::default()
    };
    let recv = rig.hfi.recv_context(config).expect("there are contexts");
    let entries = recv.memory().0.memory().clone();
    let entry = config.header_entry.bytes();
    let arrivals = Arrivals { ctxt: recv.number(), entries, entry, head: 0, tail: 0, fired: false };
    (recv, arrivals)
}

#[test]
fn no_packet_is_slept_through() {
    let take_all = |recv: &mut RecvContext<ModelBus<Arrivals>>| {
        let irq = recv.irq().expect("it has an interrupt").clone();
        let mut taken = 0;
        while taken < PACKETS {
            if recv.poll().is_some() {
                recv.release();
                taken += 1;
            } else if recv.arm().expect("the adapter is there") {
                // Counted, but not yet written.
                loom::thread::yield_now();
            } else {
                recv.bus().wait_irq(&irq, Duration::from_secs(1)).expect("the model's wait");
            }
        }
    };
    Rig::new().explore(receiver, take_all, arrive);
}
