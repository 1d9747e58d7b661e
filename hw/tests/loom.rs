//! Models of how the driver's threads learn of freezes and of an engine's errors, run in every order that the memory model
//! allows, and of a receiver that sleeps until a packet comes, in every order of its accesses and the chip's, and of lent eager buffers that
//! come back. `.ci/loom` runs them; otherwise there is nothing here.
#![cfg(loom)]
#![allow(dead_code, unreachable_pub, reason = "the files hold more than the models use")]

#[path = "../src/frozen.rs"]
mod frozen;
#[path = "../src/kept_errors.rs"]
mod kept_errors;
#[path = "../src/recv/loans.rs"]
mod loans;
mod machine;

/// What `src/sync.rs` is outside of a model.
mod sync {
    pub use loom::sync::Mutex;
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
}

use frozen::{Frozen, Standstill};
use kept_errors::KeptErrors;
use loans::Loans;
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

/// What counts who holds buffers.
trait Counts: Send + Sync + 'static {
    fn lend(&self, buffer: u32);
    fn give_back(&self, buffer: u32);
    fn let_go(&self, buffer: u32) -> bool;
    fn take_returned(&self, to: &mut Vec<u32>);
}

impl Counts for Loans {
    fn lend(&self, buffer: u32) {
        Self::lend(self, buffer);
    }

    fn give_back(&self, buffer: u32) {
        Self::give_back(self, buffer);
    }

    fn let_go(&self, buffer: u32) -> bool {
        Self::let_go(self, buffer)
    }

    fn take_returned(&self, to: &mut Vec<u32>) {
        Self::take_returned(self, |buffer| to.push(buffer));
    }
}

/// Two buffers are lent, the first twice; other threads drop the views while the context is done with both buffers and looks
/// for what came back. Each buffer is the context's again exactly once.
fn buffers_come_back(counts: impl Counts) {
    let counts = Arc::new(counts);
    let drops = [vec![0, 1], vec![0]].map(|buffers| {
        buffers.iter().for_each(|buffer| counts.lend(*buffer));
        let counts = Arc::clone(&counts);
        loom::thread::spawn(move || buffers.into_iter().for_each(|buffer| counts.give_back(buffer)))
    });
    let mut back: Vec<u32> = (0..2).filter(|buffer| counts.let_go(*buffer)).collect();
    counts.take_returned(&mut back);
    for thread in drops {
        thread.join().expect("the thread ends");
    }
    counts.take_returned(&mut back);
    back.sort_unstable();
    assert_eq!(back, [0, 1]);
    // They can be lent again.
    for buffer in back {
        counts.lend(buffer);
        assert!(!counts.let_go(buffer));
        counts.give_back(buffer);
    }
    let mut again = Vec::new();
    counts.take_returned(&mut again);
    assert_eq!(again.len(), 2);
}

#[test]
fn a_lent_buffer_comes_back_exactly_once() {
    loom::model(|| buffers_come_back(Loans::new(2)));
}

/// A buffer that came back is lent to another thread while the rest still comes back: the stack stays whole.
#[test]
fn a_buffer_is_lent_again_while_others_come_back() {
    loom::model(|| {
        let counts = Arc::new(Loans::new(2));
        let lend = |buffer| {
            counts.lend(buffer);
            assert!(!counts.let_go(buffer));
            let counts = Arc::clone(&counts);
            loom::thread::spawn(move || counts.give_back(buffer))
        };
        let mut threads = vec![lend(0), lend(1)];
        let mut back = Vec::new();
        counts.take_returned(|buffer| back.push(buffer));
        for buffer in back.clone() {
            threads.push(lend(buffer));
        }
        for thread in threads {
            thread.join().expect("the thread ends");
        }
        let lent_again = back.len();
        counts.take_returned(|buffer| back.push(buffer));
        assert_eq!(back.len(), 2 + lent_again);
        let mut last = back.split_off(lent_again);
        last.sort_unstable();
        assert_eq!(last, [0, 1]);
    });
}

/// What can be wrong with counts.
#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    None,
    /// A count is read, and then written.
    Torn,
    /// Who gives back looks afterwards whether it was the last.
    LooksAfterwards,
}

/// As [`Loans`], with a mistake.
struct Mistaken {
    held: [AtomicU32; 2],
    returned: [AtomicU32; 2],
    mistake: Mistake,
}

impl Mistaken {
    fn new(mistake: Mistake) -> Self {
        let all = |count| [AtomicU32::new(count), AtomicU32::new(count)];
        Self { held: all(1), returned: all(0), mistake }
    }

    /// Whether nobody holds it any more.
    fn less(&self, buffer: u32) -> bool {
        let held = &self.held[buffer as usize];
        match self.mistake {
            Mistake::None => held.fetch_sub(1, Ordering::SeqCst) == 1,
            Mistake::Torn => {
                let now = held.load(Ordering::SeqCst) - 1;
                held.store(now, Ordering::SeqCst);
                now == 0
            }
            Mistake::LooksAfterwards => {
                held.fetch_sub(1, Ordering::SeqCst);
                held.load(Ordering::SeqCst) == 0
            }
        }
    }
}

impl Counts for Mistaken {
    fn lend(&self, buffer: u32) {
        self.held[buffer as usize].fetch_add(1, Ordering::SeqCst);
    }

    fn give_back(&self, buffer: u32) {
        if self.less(buffer) {
            self.returned[buffer as usize].fetch_add(1, Ordering::SeqCst);
        }
    }

    fn let_go(&self, buffer: u32) -> bool {
        let last = self.less(buffer);
        if last {
            self.held[buffer as usize].store(1, Ordering::SeqCst);
        }
        last
    }

    fn take_returned(&self, to: &mut Vec<u32>) {
        for (buffer, returned) in (0..).zip(&self.returned) {
            for _ in 0..returned.swap(0, Ordering::SeqCst) {
                self.held[buffer as usize].store(1, Ordering::SeqCst);
                to.push(buffer);
            }
        }
    }
}

#[test]
fn counts_without_a_mistake_pass() {
    loom::model(|| buffers_come_back(Mistaken::new(Mistake::None)));
}

#[test]
#[should_panic]
fn a_count_that_isnt_one_step_is_found_out() {
    loom::model(|| buffers_come_back(Mistaken::new(Mistake::Torn)));
}

#[test]
#[should_panic]
fn a_count_that_is_looked_at_afterwards_is_found_out() {
    loom::model(|| buffers_come_back(Mistaken::new(Mistake::LooksAfterwards)));
}
