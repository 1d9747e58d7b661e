//! A bench with adapters on it, sharing one clock: real, with a thread for each chip, or simulated.

use crate::alarm::Alarm;
use crate::bus::EmuBus;
use crate::chip::Chip;
use crate::config::Config;
use crate::dma::MapError;
use crate::forge::{Forgeries, ForgeryCounts};
use crate::inject::Fault;
use crate::msix::VECTORS;
use crate::packet::Packet;
use crate::qsfp::QsfpModule;
use crate::stats::Counts;
use crate::tap::Tap;
use crate::unmodelled::Unmodelled;
use crate::wire::{Doorbell, Lane, Pace};
use opx_bus::chance::FaultCounts;
use opx_bus::clock::RealClock;
use opx_bus::iova::IovaAllocator;
use opx_bus::{ALL_ONES, Irq, PacketFaults, SharedMem};
use opx_defs::time::Instant;
use opx_defs::units::{BarOff, Guid, Iova, Vector};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How time passes for the adapters of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pacing {
    /// In real time: each chip has a thread that runs its events.
    Real,
    /// In simulated time, which passes only while someone waits on a bus: no threads, and the same calls with the same
    /// seeds give the same run.
    Virtual,
}

/// First and last I/O address handed out by the in-process bus: beyond 4 GiB, so that a truncated address shows.
const IOVA_START: Iova = Iova(1 << 32);
const IOVA_END: Iova = Iova(1 << 47);

/// One adapter: its chip, and what belongs to its place on the bench.
#[derive(Debug)]
pub(crate) struct Unit {
    pub name: String,
    chip: Mutex<Chip>,
    alarm: Alarm,
    pub iovas: Mutex<IovaAllocator>,
    /// Whether it was taken out of its slot.
    removed: AtomicBool,
}

impl Unit {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Chip> {
        // A panic elsewhere leaves the model as it was between two register accesses.
        self.chip.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the chip at `now`, and wakes its thread when that made work.
    pub(crate) fn with<T>(&self, now: Instant, act: impl FnOnce(&mut Chip) -> T) -> T {
        let mut chip = self.lock();
        chip.board.now = chip.board.now.max(now);
        let result = act(&mut chip);
        let wake = self.alarm.put_forward(chip.next_due());
        drop(chip);
        if wake {
            self.alarm.ring();
        }
        result
    }

    /// Runs what is due at `horizon`, at most a slice's worth; the time of the next event.
    fn run_slice(&self, horizon: Instant) -> Option<Instant> {
        let mut chip = self.lock();
        run_due(&mut chip, horizon);
        let due = chip.next_due();
        self.alarm.set(due);
        due
    }
}

/// Runs what is due at `horizon`, as much as one hold of the lock may take, so that register accesses get through; whether
/// that was all.
fn run_due(chip: &mut Chip, horizon: Instant) -> bool {
    /// Events.
    const SLICE: usize = 32;
    (0..SLICE).any(|_| !chip.step(horizon))
}

/// Somebody looks after a chip in place of its thread, and does at the end what is due by then: one who does much to it saves
/// waking another thread each time. What takes long is left to the thread.
#[cfg(feature = "server")]
pub(crate) struct Attention {
    unit: Arc<Unit>,
    clock: RealClock,
    before: crate::alarm::Planned,
}

#[cfg(feature = "server")]
impl Drop for Attention {
    fn drop(&mut self) {
        const SLICES: usize = 16;
        for _ in 1..SLICES {
            if run_due(&mut self.unit.lock(), self.clock.now() + SLACK) {
                break;
            }
        }
        let mut chip = self.unit.lock();
        run_due(&mut chip, self.clock.now() + SLACK);
        let wake = self.unit.alarm.leave(self.before, chip.next_due());
        drop(chip);
        if wake {
            self.unit.alarm.ring();
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // The chip's thread then finds the unit gone, and ends.
        self.alarm.ring();
    }
}

/// Events due within this time run at once: a thread can't be woken more exactly than that.
pub(crate) const SLACK: Duration = Duration::from_micros(50);

/// The loop of a chip's thread. It holds the unit only while it works on it.
fn run_chip(unit: &Weak<Unit>, doorbell: &Doorbell, clock: RealClock) {
    while let Some(strong) = unit.upgrade() {
        let now = clock.now();
        let due = strong.run_slice(now + SLACK);
        drop(strong);
        match due {
            Some(due) if due <= now + SLACK => std::thread::yield_now(),
            Some(due) => doorbell.wait(Some(due.since(clock.now()))),
            None => doorbell.wait(None),
        }
    }
}

#[derive(Debug)]
pub(crate) enum Clock {
    Real(RealClock),
    /// Nanoseconds, and the lock of whoever makes time pass.
    Virtual(AtomicU64, Mutex<()>),
}

#[derive(Debug)]
pub(crate) struct Bench {
    clock: Clock,
    units: Mutex<Vec<Arc<Unit>>>,
    cables: Mutex<Vec<(Weak<Unit>, Weak<Unit>)>>,
}

impl Bench {
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match &self.clock {
            Clock::Real(clock) => clock.now(),
            Clock::Virtual(now, _) => Instant::from_nanos(now.load(Ordering::Acquire)),
        }
    }

    fn units(&self) -> MutexGuard<'_, Vec<Arc<Unit>>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the simulated clock up to `target`, event by event; an earlier one of several adapters goes first. Whether there
    /// was an event.
    fn advance(&self, now: &AtomicU64, target: Instant) -> bool {
        let units = self.units();
        let mut any = false;
        'passing: loop {
            let next =
                units.iter().filter_map(|unit| Some((unit.lock().next_due()?, unit))).min_by_key(|(due, _)| *due);
            let Some((mut due, unit)) = next else { break };
            let mut chip = unit.lock();
            while due <= target {
                let at = due.as_nanos().max(now.load(Ordering::Acquire));
                now.store(at, Ordering::Release);
                if !chip.step(Instant::from_nanos(at)) {
                    break 'passing;
                }
                any = true;
                // Alone on the bench, it has the next event as well.
                match chip.next_due().filter(|_| units.len() == 1) {
                    Some(next) => due = next,
                    None => continue 'passing,
                }
            }
            break;
        }
        now.fetch_max(target.as_nanos(), Ordering::AcqRel);
        any
    }

    /// When the next event of any adapter is due.
    fn next_due(&self) -> Option<Instant> {
        self.units().iter().filter_map(|unit| unit.lock().next_due()).min()
    }

    pub(crate) fn pause(&self, duration: Duration) {
        match &self.clock {
            Clock::Real(clock) => clock.pause(duration),
            Clock::Virtual(now, passing) => {
                let _passing = passing.lock().unwrap_or_else(PoisonError::into_inner);
                self.advance(now, self.now() + duration);
            }
        }
    }

    pub(crate) fn relax(&self) {
        /// How far the simulated clock goes when nothing is nearer.
        const STEP: Duration = Duration::from_micros(1);
        match &self.clock {
            Clock::Real(clock) => clock.relax(),
            Clock::Virtual(now, passing) => {
                let _passing = passing.lock().unwrap_or_else(PoisonError::into_inner);
                let step = self.now() + STEP;
                let target = self.next_due().map_or(step, |due| due.clamp(self.now(), step));
                self.advance(now, target);
            }
        }
    }

    pub(crate) fn wait_irq(&self, irq: &Irq, limit: Duration) -> std::io::Result<bool> {
        let Clock::Virtual(now, passing) = &self.clock else { return irq.wait(limit) };
        let deadline = self.now() + limit;
        loop {
            if irq.take()? {
                return Ok(true);
            }
            if self.now() >= deadline {
                return Ok(false);
            }
            let _passing = passing.lock().unwrap_or_else(PoisonError::into_inner);
            let target = self.next_due().map_or(deadline, |due| due.max(self.now()).min(deadline));
            if !self.advance(now, target) {
                // Nothing happened: time passes all the same, so that the wait ends.
                self.advance(now, (target + Duration::from_micros(1)).min(deadline));
            }
        }
    }
}

/// A bench with adapters on it.
#[derive(Debug)]
pub struct Lab {
    bench: Arc<Bench>,
}

impl Lab {
    /// An empty bench.
    pub fn new(pacing: Pacing) -> Self {
        let clock = match pacing {
            Pacing::Real => Clock::Real(RealClock::default()),
            Pacing::Virtual => Clock::Virtual(AtomicU64::new(0), Mutex::new(())),
        };
        Self { bench: Arc::new(Bench { clock, units: Mutex::default(), cables: Mutex::default() }) }
    }

    /// Puts an adapter on it.
    pub fn add(&self, mut config: Config) -> Adapter {
        let mut units = self.bench.units.lock().unwrap_or_else(PoisonError::into_inner);
        if config.guid == Guid(0) {
            // Intel's OUI; bit 39 tells the two HFIs of an ASIC apart (chip.c:read_guid, GUID_HFI_INDEX_SHIFT).
            let index = 1 + units.len() as u64;
            config.guid = Guid(0x0011_7501_0000_0000 | u64::from(config.hfi_id & 1) << 39 | index << 16 | 0x0b01);
        }
        let name = match units.len() {
            0 => "emulated".to_owned(),
            index => format!("emulated:{index}"),
        };
        let doorbell = Arc::new(Doorbell::default());
        let unit = Arc::new(Unit {
            name,
            chip: Mutex::new(Chip::new(config, Arc::clone(&doorbell))),
            alarm: Alarm::new(Arc::clone(&doorbell)),
            iovas: Mutex::new(IovaAllocator::new(IOVA_START, IOVA_END)),
            removed: AtomicBool::new(false),
        });
        if let Clock::Real(clock) = &self.bench.clock {
            let (weak, clock) = (Arc::downgrade(&unit), *clock);
            let spawned = std::thread::Builder::new()
                .name(format!("chip {}", units.len()))
                .spawn(move || run_chip(&weak, &doorbell, clock));
            if let Err(error) = spawned {
                // The adapter then answers register accesses and does nothing by itself, as a hung chip does.
                log::error!("{}: can't start the chip's thread: {error}; its events will not run", unit.name);
            }
        }
        units.push(Arc::clone(&unit));
        Adapter { unit, bench: Arc::clone(&self.bench) }
    }

    /// Joins two adapters' ports with a cable; cables that were in them come out.
    pub fn cable(&self, a: &Adapter, b: &Adapter) {
        self.pull(a);
        self.pull(b);
        if Arc::ptr_eq(&a.unit, &b.unit) {
            return;
        }
        let (to_b, to_a) = (
            Arc::new(Lane::new(Arc::clone(a.unit.alarm.doorbell()), Arc::clone(b.unit.alarm.doorbell()))),
            Arc::new(Lane::new(Arc::clone(b.unit.alarm.doorbell()), Arc::clone(a.unit.alarm.doorbell()))),
        );
        let now = self.bench.now();
        a.unit.with(now, |chip| chip.plug(Arc::clone(&to_b), Arc::clone(&to_a)));
        b.unit.with(now, |chip| chip.plug(to_a, to_b));
        let mut cables = self.bench.cables.lock().unwrap_or_else(PoisonError::into_inner);
        cables.push((Arc::downgrade(&a.unit), Arc::downgrade(&b.unit)));
    }

    /// Takes an adapter out of its slot, for good: reads give all ones, writes are lost, DMA, interrupts and link end.
    pub fn remove(&self, adapter: &Adapter) {
        self.pull(adapter);
        adapter.unit.removed.store(true, Ordering::Release);
        adapter.set_irqs(Vector(0), vec![None; VECTORS.into()]);
        adapter.reset();
    }

    /// Pulls the cable out of an adapter's port, at both ends. A wire to another process takes that for a break and plugs itself
    /// in again, unless it is pulled at its own end.
    pub fn pull(&self, adapter: &Adapter) {
        let mut cables = self.bench.cables.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pulled = Vec::new();
        cables.retain(|ends| {
            let (Some(a), Some(b)) = (ends.0.upgrade(), ends.1.upgrade()) else { return false };
            let this = Arc::ptr_eq(&a, &adapter.unit) || Arc::ptr_eq(&b, &adapter.unit);
            if this {
                pulled.extend([a, b]);
            }
            !this
        });
        drop(cables);
        let now = self.bench.now();
        // A cable that leads out of the lab has one end in it.
        pulled.push(Arc::clone(&adapter.unit));
        for unit in pulled {
            unit.with(now, Chip::unplug);
        }
    }
}

/// One adapter on a bench. Clones mean the same one.
#[derive(Debug, Clone)]
pub struct Adapter {
    pub(crate) unit: Arc<Unit>,
    pub(crate) bench: Arc<Bench>,
}

impl Adapter {
    fn with<T>(&self, act: impl FnOnce(&mut Chip) -> T) -> T {
        self.unit.with(self.bench.now(), act)
    }

    /// Reads from the chip as it is now: what is due happens first. A chip's thread that has to wait for a processor doesn't
    /// show in registers that software polls (`chip.c:wait_for_freeze_status` gives up after 20 ms).
    fn look<T>(&self, act: impl FnOnce(&mut Chip) -> T) -> T {
        /// Events for one access; what else is due is left to the thread.
        const MOST: usize = 32;
        let Clock::Real(clock) = &self.bench.clock else { return self.with(act) };
        let now = clock.now();
        self.unit.with(now, |chip| {
            for _ in 0..MOST {
                if !chip.step(now) {
                    break;
                }
            }
            act(chip)
        })
    }

    /// Whether it was taken out of its slot.
    #[inline]
    pub(crate) fn is_removed(&self) -> bool {
        self.unit.removed.load(Ordering::Acquire)
    }

    /// How a person names it.
    pub fn name(&self) -> &str {
        &self.unit.name
    }

    /// A driver's way to it, in this process.
    pub fn bus(&self) -> EmuBus {
        EmuBus::new(self.clone())
    }

    /// Spoils packets that arrive at this adapter from now on, after their ICRC was put on.
    pub fn set_wire_faults(&self, faults: PacketFaults, seed: u64) {
        self.with(|chip| chip.set_wire_faults(faults, seed));
    }

    /// Lets the adapter have a fault at the packet of `unit` that follows `after` others from now on; `false` when too many
    /// faults wait already (1024).
    pub fn inject(&self, fault: Fault, unit: u16, after: u64) -> bool {
        self.with(|chip| chip.board.plans.add(fault, unit, after))
    }

    /// Puts a packet on the wire to this adapter, as if the far port had sent it; `false` when the wire is full. It goes
    /// through the cable, or through the port's own loop where no cable is plugged in.
    pub fn arrive(&self, packet: Packet) -> bool {
        self.with(|chip| chip.arrive(packet))
    }

    /// Lets somebody look on at the wire: `see` is called with each packet that comes off it to this adapter, from LRH to ICRC,
    /// after the wire's faults and before the port's checks. It is called by whoever moves the chip on, so it must neither wait
    /// nor use the adapter.
    ///
    /// ```
    /// # use opx_emu::{Config, Lab, Pacing};
    /// let adapter = Lab::new(Pacing::Virtual).add(Config::default());
    /// adapter.set_tap(|now, bytes| println!("{now:?}: {} bytes", bytes.len()));
    /// adapter.clear_tap();
    /// ```
    pub fn set_tap(&self, see: impl Fn(Instant, &[u8]) + Send + Sync + 'static) {
        self.with(|chip| chip.set_tap(Tap::new(see)));
    }

    /// Nobody looks on at the wire any longer.
    pub fn clear_tap(&self) {
        self.with(|chip| chip.set_tap(Tap::default()));
    }

    /// How many of the injected faults haven't happened yet.
    pub fn faults_waiting(&self) -> usize {
        self.with(|chip| chip.board.plans.waiting())
    }

    /// How often each fault was dealt.
    pub fn fault_counts(&self) -> FaultCounts {
        self.with(|chip| chip.fault_counts())
    }

    /// Lets forged copies of arriving packets arrive before them from now on.
    pub fn set_forgeries(&self, shares: Forgeries, seed: u64) {
        self.with(|chip| chip.set_forgeries(shares, seed));
    }

    /// How many packets were forged.
    pub fn forgery_counts(&self) -> ForgeryCounts {
        self.with(|chip| chip.forgery_counts())
    }

    /// Sets how fast packets come to this adapter, and how many may be on their way, until the cable is pulled; `false` when
    /// none is plugged in.
    pub fn set_pace(&self, pace: Pace) -> bool {
        self.with(|chip| chip.set_pace(pace))
    }

    /// Accesses to registers that aren't modelled.
    pub fn unmodelled(&self) -> Vec<Unmodelled> {
        self.with(|chip| chip.unmodelled.list())
    }

    /// Statistics of the model.
    pub fn counts(&self) -> Counts {
        self.with(|chip| chip.counts())
    }

    /// Puts a module into the adapter's cage, or takes it out. The link doesn't care: it is the lab's cables that join ports.
    pub fn set_module(&self, module: Option<QsfpModule>) {
        self.with(|chip| chip.set_module(module));
    }

    /// Sets what the EPROM holds, up to 16 MiB; the rest is blank.
    pub fn set_eprom(&self, contents: Vec<u8>) {
        self.with(|chip| chip.set_eprom(contents));
    }

    /// Reads BAR 0 in any width, as a server for another process needs it.
    pub fn bar0_read(&self, offset: u64, data: &mut [u8]) {
        if self.is_removed() {
            return data.fill(0xff);
        }
        self.look(|chip| chip.read_bytes(offset, data));
    }

    /// Writes BAR 0 in any width.
    pub fn bar0_write(&self, offset: u64, data: &[u8]) {
        if !self.is_removed() {
            self.with(|chip| chip.write_bytes(offset, data));
        }
    }

    /// Whether its time is the simulated one.
    #[cfg(feature = "tcp")]
    pub(crate) fn is_virtual(&self) -> bool {
        matches!(self.bench.clock, Clock::Virtual(..))
    }

    /// The time.
    #[cfg(feature = "tcp")]
    pub(crate) fn now(&self) -> Instant {
        self.bench.now()
    }

    /// What wakes its chip.
    #[cfg(feature = "tcp")]
    pub(crate) fn doorbell(&self) -> Arc<Doorbell> {
        Arc::clone(self.unit.alarm.doorbell())
    }

    /// Plugs in a cable that leads out of the lab.
    #[cfg(feature = "tcp")]
    pub(crate) fn plug(&self, out: Arc<Lane>, into: Arc<Lane>) {
        self.with(|chip| {
            chip.unplug();
            chip.plug(out, into);
        });
    }

    /// Pulls the cable that has this lane, if it is still in the port.
    #[cfg(feature = "tcp")]
    pub(crate) fn unplug(&self, out: &Arc<Lane>) {
        self.with(|chip| {
            if chip.sends_into(out) {
                chip.unplug();
            }
        });
    }

    /// Whether the cable that has this lane is in the port.
    #[cfg(feature = "tcp")]
    pub(crate) fn sends_into(&self, out: &Arc<Lane>) -> bool {
        self.unit.lock().sends_into(out)
    }

    /// The caller looks after the chip until it drops what it gets. In simulated time there is nothing to look after.
    #[cfg(feature = "server")]
    pub(crate) fn attend(&self) -> Option<Attention> {
        let Clock::Real(clock) = self.bench.clock else { return None };
        let before = {
            let _chip = self.unit.lock();
            self.unit.alarm.attend()
        };
        Some(Attention { unit: Arc::clone(&self.unit), clock, before })
    }

    /// Whether software is in the middle of storing a PIO packet.
    #[cfg(feature = "server")]
    pub(crate) fn in_pio_packet(&self) -> bool {
        self.unit.lock().in_pio_packet()
    }

    /// Reads config space.
    pub fn config_read(&self, offset: u16, data: &mut [u8]) {
        if self.is_removed() {
            return data.fill(0xff);
        }
        self.with(|chip| chip.config.read(offset, data));
    }

    /// Writes config space; a function-level reset is done at once.
    pub fn config_write(&self, offset: u16, data: &[u8]) {
        if !self.is_removed() {
            self.with(|chip| chip.config_write(offset, data));
        }
    }

    /// Lets the adapter reach `len` bytes at `offset` of `memory` at `iova`.
    ///
    /// # Errors
    /// When the range doesn't fit in the memory, or overlaps another.
    pub fn dma_map(&self, iova: Iova, len: u64, memory: SharedMem, offset: usize) -> Result<(), MapError> {
        self.with(|chip| chip.board.dma.map(iova, len, memory, offset))
    }

    /// Takes away the ranges that lie within `len` bytes from `iova`.
    pub fn dma_unmap(&self, iova: Iova, len: u64) {
        self.with(|chip| chip.board.dma.unmap(iova, len));
    }

    /// Takes every range away.
    pub fn dma_unmap_all(&self) {
        self.with(|chip| chip.board.dma.unmap_all());
    }

    /// Puts eventfds behind the MSI-X vectors from `first` on; `None` takes one away.
    pub fn set_irqs(&self, first: Vector, irqs: Vec<Option<Irq>>) {
        self.with(|chip| chip.board.interrupts.msix.set_irqs(first, irqs));
    }

    /// Resets the function as a kernel does for a user: config space keeps what the user set up.
    pub fn reset(&self) {
        self.with(Chip::reset_keeping_config);
    }

    /// Reads a register.
    pub(crate) fn read64(&self, offset: BarOff) -> u64 {
        if self.is_removed() { ALL_ONES } else { self.look(|chip| chip.read64(offset)) }
    }

    /// Writes a register.
    pub(crate) fn write64(&self, offset: BarOff, value: u64) {
        if !self.is_removed() {
            self.with(|chip| chip.write64(offset, value));
        }
    }

    /// Writes a 64-byte block.
    pub(crate) fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
        if !self.is_removed() {
            self.with(|chip| chip.write_block(offset, block));
        }
    }
}
