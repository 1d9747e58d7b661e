//! Models of a sender that sleeps until credits return, run in every order of its accesses and the chip's. `.ci/loom` runs
//! them; otherwise there is nothing here.
#![cfg(loom)]

#[path = "../../hw/tests/machine/mod.rs"]
mod machine;

use machine::{Device, Interrupt, Machine, ModelBus, Rig};
use opx_bus::{PciFunction, SharedMem};
use opx_defs::credit::{CreditReason, CreditReturn};
use opx_defs::csr;
use opx_defs::source::Source;
use opx_defs::units::{BarOff, Blocks, Iova, SendCtxt, Vl};
use opx_defs::wire::opx::Inject;
use opx_hw::{SendConfig, Threshold};
use opx_pio::{Head, PioSender};
use std::time::Duration;

const PACKETS: u16 = 2;
/// Blocks of the context, and the threshold: the packets alone never reach it.
const DEPTH: Blocks = Blocks(PACKETS + 1);

/// The credits of a send context: how `pio.c` describes what the chip does with them.
struct Credits {
    ctxt: SendCtxt,
    line: (SharedMem, usize),
    freed: u16,
    returned: u16,
    threshold: u64,
    interrupt: bool,
    force: bool,
    /// Returns that were forced and not done yet.
    forced: u32,
}

/// A return on its way: first to memory, then comes the interrupt.
struct Return {
    word: CreditReturn,
    interrupt: bool,
}

impl Device for Credits {
    fn write(&mut self, _: &mut Interrupt, offset: BarOff, value: u64) -> bool {
        let n = self.ctxt.0.into();
        if offset == csr::SEND_CTXT_CREDIT_CTRL.at(n) {
            self.threshold = csr::SEND_CTXT_CREDIT_CTRL::THRESHOLD.get(value);
            self.interrupt = csr::SEND_CTXT_CREDIT_CTRL::CREDIT_INTR.is_set(value);
        } else if offset == csr::SEND_CTXT_CREDIT_FORCE.at(n) {
            let force = csr::SEND_CTXT_CREDIT_FORCE::FORCE_RETURN.is_set(value);
            self.forced += u32::from(force && !self.force);
            self.force = force;
        } else {
            return false;
        }
        true
    }

    fn read(&self, offset: BarOff) -> Option<u64> {
        (offset == csr::SEND_CTXT_CREDIT_FORCE.at(self.ctxt.0.into())).then_some(self.force.into())
    }
}

impl Credits {
    /// A packet leaves.
    fn leave(&mut self) -> Option<Return> {
        self.freed += 1;
        let due = u64::from(self.freed - self.returned) >= self.threshold;
        due.then(|| self.give_back(CreditReason::Threshold))
    }

    fn give_back(&mut self, reason: CreditReason) -> Return {
        self.returned = self.freed;
        Return { word: CreditReturn::new(Blocks(self.freed), false, reason), interrupt: self.interrupt }
    }

    fn forced(&mut self) -> Option<Return> {
        self.forced = self.forced.checked_sub(1)?;
        Some(self.give_back(CreditReason::Force))
    }
}

/// The chip: packets leave, and returns are forced, in whatever order that comes to it.
fn chip(machine: &Machine<Credits>) {
    let (ctxt, line) = machine.step(|credits, _| (credits.ctxt, credits.line.clone()));
    let tell = |told: Option<Return>| {
        let Some(Return { word, interrupt }) = told else { return };
        line.0.write_u64(line.1, word.0);
        if interrupt {
            machine.step(|_, sources| sources.raise(Source::send_credit(ctxt)));
        }
    };
    for _ in 0..PACKETS {
        tell(machine.step(|credits, _| credits.forced()));
        tell(machine.step(|credits, _| credits.leave()));
    }
    while machine.until(|credits| credits.forced > 0) {
        tell(machine.step(|credits, _| credits.forced()));
    }
}

/// A sender with packets in its context.
fn set_up(rig: &Rig<Credits>) -> (PioSender<ModelBus<Credits>>, Credits) {
    let threshold = Some(Threshold::Blocks(DEPTH));
    let config = SendConfig { interrupts: true, threshold, ..SendConfig::new(DEPTH) };
    let mut sender = PioSender::new(rig.hfi.send_context_with(config).expect("there are contexts"));
    let header = Inject { tag: Some(1), cq_data: None, data: b"hi" }.encode(&rig.hfi.route(1, rig.hfi.lid(), 1));
    let header = header.expect("a packet");
    for _ in 0..PACKETS {
        sender.send(&Head::new(header.pbc(Vl(0)), &header), &[]).expect("there is credit");
    }
    let ctxt = sender.context().number();
    let start = Iova(rig.bus.read64(csr::SEND_CTXT_CREDIT_RETURN_ADDR.at(ctxt.0.into())));
    let credits = Credits {
        ctxt,
        line: rig.bus.host(start.plus(8 * u64::from(ctxt.0 & 7))),
        freed: 0,
        returned: 0,
        threshold: sender.context().threshold().0.into(),
        interrupt: false,
        force: false,
        forced: 0,
    };
    (sender, credits)
}

#[test]
fn no_return_is_slept_through() {
    let wait = |sender: &mut PioSender<_>| {
        assert!(sender.wait_credit(DEPTH, Duration::from_secs(1)).expect("the context is good"));
    };
    Rig::new().explore(set_up, wait, chip);
}
