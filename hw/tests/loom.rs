//! Models of how the driver's threads learn of freezes and of an engine's errors, run in every order that the memory model
//! allows. `.ci/loom` runs them; otherwise there is nothing here.
#![cfg(loom)]
#![allow(dead_code, unreachable_pub, reason = "the files hold more than the models use")]

#[path = "../src/frozen.rs"]
mod frozen;
#[path = "../src/kept_errors.rs"]
mod kept_errors;

/// What `src/sync.rs` is outside of a model.
mod sync {
    pub use loom::sync::Mutex;
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
}

use frozen::{Frozen, Standstill};
use kept_errors::KeptErrors;
use opx_defs::units::SdmaEngine;
use std::convert::Infallible;
use std::sync::Arc;
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
        self.frozen.keep_head(ENGINE, self.head.read());
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
        chip.head.write(7);
        let owner = {
            let chip = Arc::clone(&chip);
            loom::thread::spawn(move || chip.frozen.head_since(0, ENGINE))
        };
        chip.freeze();
        assert_eq!(chip.frozen.head_since(0, ENGINE), Some(7));
        chip.head.write(9);
        chip.freeze();
        let head = owner.join().expect("the owner ends");
        assert!(matches!(head, None | Some(7)), "{head:?}");
        assert_eq!((chip.frozen.head_since(0, ENGINE), chip.frozen.head_since(1, ENGINE)), (None, Some(9)));
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
