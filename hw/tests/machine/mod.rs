//! A chip for models of threads that loom runs. A driver opens the emulated adapter; then a few of its registers, and one
//! interrupt, become a device that the model plays, step by step, in a thread of its own.
//!
//! A step is a register access or an access to shared memory. Writes to registers may be posted: they arrive in order, and
//! no later than the next read or the sleep. A sleep has no limit here: a wake-up that is lost is a deadlock, which loom tells.
#![allow(dead_code, unreachable_pub, reason = "each model uses a part of it")]

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex, MutexGuard};
use opx_bus::{BusError, DmaBlock, Irq, PciFunction, SharedMem};
use opx_defs::csr;
use opx_defs::source::Source;
use opx_defs::time::Instant;
use opx_defs::units::{BarOff, Iova};
use opx_emu::{Config, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// In words: what the driver and the emulated adapter need.
const STACK: usize = 0x1_0000;

/// The part of the chip that a model is about.
pub trait Device: Send + 'static {
    /// A write arrives; `false` when the register isn't one of its own.
    fn write(&mut self, interrupt: &mut Interrupt, offset: BarOff, value: u64) -> bool;

    /// A read of a register, if it is one of its own.
    fn read(&self, offset: BarOff) -> Option<u64>;
}

/// Sources that raise one vector, all in one word of CCE_INT_STATUS: one message until one of them is cleared, and another
/// then if one still stands (docs/emulator.md, interrupts).
#[derive(Default)]
pub struct Interrupt {
    status: u64,
    word: u32,
    /// A message was sent, and no source cleared since.
    out: bool,
    /// A message that nobody has taken yet.
    fired: bool,
}

impl Interrupt {
    /// Sets a source's status.
    pub fn raise(&mut self, source: Source) {
        self.word = source.word();
        self.status |= source.bit();
        self.deliver();
    }

    fn clear(&mut self, word: u32, bits: u64) {
        if word == self.word && bits != 0 {
            self.status &= !bits;
            self.out = false;
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        if self.status != 0 && !self.out {
            (self.out, self.fired) = (true, true);
        }
    }
}

struct Parts<D> {
    device: D,
    interrupt: Interrupt,
    posted: VecDeque<(BarOff, u64)>,
    /// The driver has ended.
    over: bool,
    driver_sleeps: bool,
    device_sleeps: bool,
}

/// The device of one run of a model.
pub struct Machine<D> {
    parts: Mutex<Parts<D>>,
    driver: Condvar,
    chip: Condvar,
    emulated: EmuBus,
    /// Writes are posted.
    late: bool,
}

impl<D: Device> Machine<D> {
    fn parts(&self) -> MutexGuard<'_, Parts<D>> {
        self.parts.lock().expect("no thread panics with it locked")
    }

    /// What was posted arrives.
    fn arrive(&self, parts: &mut Parts<D>) {
        while let Some((offset, value)) = parts.posted.pop_front() {
            if let Some((word, _)) = csr::CCE_INT_CLEAR.locate(offset) {
                parts.interrupt.clear(word, value);
            } else if !parts.device.write(&mut parts.interrupt, offset, value) {
                self.emulated.write64(offset, value);
            }
        }
        self.wake(parts);
    }

    fn wake(&self, parts: &mut Parts<D>) {
        if parts.device_sleeps {
            self.chip.notify_one();
        }
        if parts.driver_sleeps && parts.interrupt.fired {
            self.driver.notify_one();
        }
    }

    fn write(&self, offset: BarOff, value: u64) {
        let mut parts = self.parts();
        parts.posted.push_back((offset, value));
        if !self.late {
            self.arrive(&mut parts);
        }
    }

    fn read(&self, offset: BarOff) -> u64 {
        let mut parts = self.parts();
        self.arrive(&mut parts);
        match parts.device.read(offset) {
            Some(value) => value,
            None => self.emulated.read64(offset),
        }
    }

    /// The driver sleeps until the interrupt is raised.
    fn wait(&self) {
        let mut parts = self.parts();
        self.arrive(&mut parts);
        while !parts.interrupt.fired {
            parts.driver_sleeps = true;
            parts = self.driver.wait(parts).expect("no thread panics with it locked");
        }
        (parts.driver_sleeps, parts.interrupt.fired) = (false, false);
    }

    /// The device does something.
    pub fn step<T>(&self, step: impl FnOnce(&mut D, &mut Interrupt) -> T) -> T {
        let mut parts = self.parts();
        let Parts { device, interrupt, .. } = &mut *parts;
        let result = step(device, interrupt);
        self.wake(&mut parts);
        result
    }

    /// The device stands still until it has something to do; `false` when the driver has ended.
    pub fn until(&self, has_work: impl Fn(&D) -> bool) -> bool {
        let mut parts = self.parts();
        while !has_work(&parts.device) && !parts.over {
            parts.device_sleeps = true;
            parts = self.chip.wait(parts).expect("no thread panics with it locked");
        }
        parts.device_sleeps = false;
        has_work(&parts.device)
    }

    fn end(&self) {
        let mut parts = self.parts();
        self.arrive(&mut parts);
        parts.over = true;
        self.wake(&mut parts);
    }
}

loom::lazy_static! {
    /// Accesses to shared memory are seen in one order.
    static ref ORDER: AtomicUsize = AtomicUsize::new(0);
}

thread_local! {
    /// loom runs all threads of a model in one of the system's. Set while the model plays the chip.
    static PLAYED: Cell<bool> = const { Cell::new(false) };
}

fn access() {
    if PLAYED.get() {
        ORDER.fetch_add(1, Ordering::AcqRel);
    }
}

type Played<D> = Arc<std::sync::Mutex<Option<Arc<Machine<D>>>>>;
type Blocks = Arc<std::sync::Mutex<Vec<(Iova, SharedMem)>>>;

/// The bus: the emulated adapter's, but for what a model plays.
pub struct ModelBus<D> {
    emulated: EmuBus,
    played: Played<D>,
    blocks: Blocks,
}

impl<D> Clone for ModelBus<D> {
    fn clone(&self) -> Self {
        Self { emulated: self.emulated.clone(), played: Arc::clone(&self.played), blocks: Arc::clone(&self.blocks) }
    }
}

impl<D> ModelBus<D> {
    fn played(&self) -> Option<Arc<Machine<D>>> {
        self.played.lock().expect("nobody panics with it locked").clone()
    }

    /// The driver's memory at an I/O address, and the offset in it.
    pub fn host(&self, iova: Iova) -> (SharedMem, usize) {
        let blocks = self.blocks.lock().expect("nobody panics with it locked");
        let found = blocks.iter().rev().find_map(|(start, memory)| {
            let at = iova.0.checked_sub(start.0).filter(|at| *at < memory.len() as u64)?;
            Some((memory.clone(), at as usize))
        });
        found.expect("the address is one of the driver's")
    }
}

impl<D: Device> PciFunction for ModelBus<D> {
    fn name(&self) -> &str {
        "model"
    }

    fn bar0_len(&self) -> u64 {
        self.emulated.bar0_len()
    }

    fn read64(&self, offset: BarOff) -> u64 {
        match self.played() {
            Some(machine) => machine.read(offset),
            None => self.emulated.read64(offset),
        }
    }

    fn write64(&self, offset: BarOff, value: u64) {
        match self.played() {
            Some(machine) => machine.write(offset, value),
            None => self.emulated.write64(offset, value),
        }
    }

    fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
        self.emulated.write_block(offset, block);
    }

    fn config_read(&self, offset: u16, data: &mut [u8]) -> Result<(), BusError> {
        self.emulated.config_read(offset, data)
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Result<(), BusError> {
        self.emulated.config_write(offset, data)
    }

    fn dma_alloc(&self, len: usize) -> Result<DmaBlock, BusError> {
        let block = self.emulated.dma_alloc(len)?;
        let mut blocks = self.blocks.lock().expect("nobody panics with it locked");
        // Addresses are used again.
        blocks.retain(|(iova, _)| *iova != block.iova(0));
        blocks.push((block.iova(0), block.memory().clone()));
        Ok(block)
    }

    fn irq_enable(&self, count: u16) -> Result<Vec<Irq>, BusError> {
        self.emulated.irq_enable(count)
    }

    fn reset(&self) -> Result<(), BusError> {
        self.emulated.reset()
    }

    fn gone(&self) -> Option<String> {
        self.emulated.gone()
    }

    fn now(&self) -> Instant {
        self.emulated.now()
    }

    fn pause(&self, duration: Duration) {
        self.emulated.pause(duration);
    }

    fn relax(&self) {
        self.emulated.relax();
    }

    fn wait_irq(&self, irq: &Irq, limit: Duration) -> Result<bool, BusError> {
        match self.played() {
            Some(machine) => {
                machine.wait();
                Ok(true)
            }
            None => self.emulated.wait_irq(irq, limit),
        }
    }
}

/// An adapter for the models of one test: opened once, since that is the same in each run.
pub struct Rig<D: Device> {
    pub hfi: Hfi<ModelBus<D>>,
    pub bus: ModelBus<D>,
    _lab: Lab,
}

impl<D: Device> Rig<D> {
    pub fn new() -> Arc<Self> {
        opx_bus::before_each_access(access);
        let lab = Lab::new(Pacing::Virtual);
        let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
        let bus = ModelBus { emulated: adapter.bus(), played: Arc::default(), blocks: Arc::default() };
        let hfi = Hfi::open(bus.clone(), Options::default()).expect("the emulated adapter opens");
        hfi.link_up(LinkMode::Loopback).expect("its link comes up");
        Arc::new(Self { hfi, bus, _lab: lab })
    }

    /// Runs a driver and a device in every order, with writes that arrive at once, then with posted ones. `set_up` makes the
    /// driver's part and the device; from then on the device is the model's.
    pub fn explore<T: Send + 'static>(
        self: Arc<Self>,
        set_up: impl Fn(&Self) -> (T, D) + Send + Sync + Clone + 'static,
        driver: impl Fn(&mut T) + Send + Sync + Clone + 'static,
        device: impl Fn(&Machine<D>) + Send + Sync + Clone + 'static,
    ) {
        for late in [false, true] {
            let (rig, set_up, driver, device) = (Arc::clone(&self), set_up.clone(), driver.clone(), device.clone());
            loom::model(move || rig.run(late, &set_up, driver.clone(), device.clone()));
        }
    }

    fn run<T: Send + 'static>(
        self: &Arc<Self>,
        late: bool,
        set_up: &(impl Fn(&Self) -> (T, D) + Send + Sync),
        driver: impl Fn(&mut T) + Send + 'static,
        device: impl Fn(&Machine<D>) + Send + 'static,
    ) {
        let (mut part, played) = elsewhere(|| set_up(self));
        let machine = Arc::new(Machine {
            parts: Mutex::new(Parts {
                device: played,
                interrupt: Interrupt::default(),
                posted: VecDeque::new(),
                over: false,
                driver_sleeps: false,
                device_sleeps: false,
            }),
            driver: Condvar::new(),
            chip: Condvar::new(),
            emulated: self.bus.emulated.clone(),
            late,
        });
        *self.bus.played.lock().expect("nobody panics with it locked") = Some(Arc::clone(&machine));
        PLAYED.set(true);
        let chip = {
            let machine = Arc::clone(&machine);
            spawn(move || device(&machine))
        };
        let owner = spawn(move || {
            driver(&mut part);
            machine.end();
            part
        });
        let part = owner.join().expect("the driver ends");
        chip.join().expect("the device ends");
        PLAYED.set(false);
        *self.bus.played.lock().expect("nobody panics with it locked") = None;
        elsewhere(|| drop(part));
    }
}

fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> loom::thread::JoinHandle<T> {
    loom::thread::Builder::new().stack_size(STACK).spawn(run).expect("loom spawns it")
}

/// Runs what is no part of the model in a thread with a stack of the usual size.
fn elsewhere<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(run).join()).expect("it doesn't panic")
}
