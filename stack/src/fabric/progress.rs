//! The thread that drives a domain's endpoints: it sleeps until a packet comes, somebody posts an operation, or a timer is due.

use super::completion_queue::CompletionQueue;
use super::driven::Driven;
use super::sleep::{SleepCounters, SleepCounts, Sleeper, Until};
use opx_bus::{Irq, PciFunction, ProcessMark};
use opx_defs::time::Instant;
use opx_hw::Hfi;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Takes a lock; what a panicking thread left behind can still be closed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An endpoint that its owner and the thread share.
#[derive(Debug)]
pub(crate) struct Member<B: PciFunction> {
    pub(crate) queue: CompletionQueue,
    wake: Irq,
    state: Mutex<State<B>>,
}

#[derive(Debug)]
pub(crate) struct State<B: PciFunction> {
    /// None when its owner has closed it.
    pub(crate) driven: Option<Driven<B>>,
    /// When it was to be driven next when the thread went to sleep, if it did: whoever posts something that is due before wakes it.
    asleep_until: Option<Instant>,
    /// Whether its queue counts on it.
    bound: bool,
}

impl<B: PciFunction> Member<B> {
    pub(crate) fn new(driven: Driven<B>, queue: CompletionQueue, wake: Irq) -> Self {
        queue.bind();
        let state = State { driven: Some(driven), asleep_until: None, bound: true };
        Self { queue, wake, state: Mutex::new(state) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<B>> {
        lock(&self.state)
    }

    /// After its owner has done something with the endpoint: hands over what completed at once, and sees to it that the thread does
    /// the rest in time.
    pub(crate) fn settle(&self, state: &mut State<B>) {
        let Some(driven) = &mut state.driven else { return };
        let all = self.queue.fill(driven);
        driven.publish();
        let engine = &driven.engine;
        // There may be room now for what had to be left.
        let stirred = || engine.is_stirred() || engine.has_left_messages();
        if state.asleep_until.is_some_and(|until| stirred() || engine.poll_timeout() < until || !all) {
            state.asleep_until = None;
            self.wake.raise();
        }
    }

    /// Takes the endpoint away from the thread and the queue.
    pub(crate) fn close(&self) -> Option<Driven<B>> {
        let mut state = self.lock();
        if std::mem::take(&mut state.bound) {
            self.queue.unbind();
        }
        state.driven.take()
    }
}

/// What owners and the thread share of a domain.
#[derive(Debug)]
pub(crate) struct Progress<B: PciFunction> {
    shared: Arc<Shared<B>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    process: ProcessMark,
}

#[derive(Debug)]
struct Shared<B: PciFunction> {
    hfi: Hfi<B>,
    wake: Irq,
    /// Not held by the thread while it locks a member: an owner may open and close endpoints while he has locked others.
    members: Mutex<Members<B>>,
    counts: Arc<SleepCounters>,
}

#[derive(Debug)]
struct Members<B: PciFunction> {
    all: Vec<Arc<Member<B>>>,
    /// Others than at the last turn.
    changed: bool,
    /// Whether there is a thread; it ends when there is no endpoint.
    running: bool,
    stop: bool,
}

impl<B: PciFunction> Progress<B> {
    pub(crate) fn new(hfi: &Hfi<B>) -> std::io::Result<Self> {
        let members = Members { all: Vec::new(), changed: false, running: false, stop: false };
        let (members, counts) = (Mutex::new(members), Arc::default());
        let process = ProcessMark::here();
        let shared = Shared { hfi: hfi.clone(), wake: Irq::new()?, members, counts };
        Ok(Self { shared: Arc::new(shared), thread: Mutex::new(None), process })
    }

    /// What wakes the thread.
    pub(crate) fn wake(&self) -> &Irq {
        &self.shared.wake
    }

    pub(crate) fn counts(&self) -> SleepCounts {
        self.shared.counts.read()
    }

    /// Whether there is a thread.
    pub(crate) fn is_running(&self) -> bool {
        self.is_here() && lock(&self.shared.members).running
    }

    /// The process that has the thread.
    pub(crate) fn process(&self) -> ProcessMark {
        self.process
    }

    /// Whether this process has the thread, and none that it was forked from.
    pub(crate) fn is_here(&self) -> bool {
        self.process.is_here()
    }

    /// Drives one more.
    pub(crate) fn add(&self, member: Arc<Member<B>>) -> std::io::Result<()> {
        let mut thread = lock(&self.thread);
        let mut members = lock(&self.shared.members);
        if !members.running {
            // The one before has said that it ends, and holds no lock any more.
            if let Some(ended) = thread.take() {
                let _ = ended.join();
            }
            let mut driver = Driver::new(&self.shared);
            let name = format!("opx {}", self.shared.hfi.bus().name());
            *thread = Some(std::thread::Builder::new().name(name).spawn(move || while driver.turn() {})?);
            members.running = true;
        }
        members.all.push(member);
        members.changed = true;
        drop(members);
        self.shared.wake.raise();
        Ok(())
    }

    /// Drives one less.
    pub(crate) fn remove(&self, member: &Arc<Member<B>>) {
        let mut members = lock(&self.shared.members);
        members.all.retain(|other| !Arc::ptr_eq(other, member));
        members.changed = true;
        drop(members);
        self.shared.wake.raise();
    }
}

impl<B: PciFunction> Drop for Progress<B> {
    fn drop(&mut self) {
        // A forked child has no such thread, and may find the lock taken for ever.
        if !self.process.is_here() {
            return;
        }
        lock(&self.shared.members).stop = true;
        self.shared.wake.raise();
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }
}

/// What the thread does.
struct Driver<B: PciFunction> {
    shared: Arc<Shared<B>>,
    members: Vec<Arc<Member<B>>>,
    sleeper: Sleeper,
}

impl<B: PciFunction> Driver<B> {
    fn new(shared: &Arc<Shared<B>>) -> Self {
        let sleeper = Sleeper::new(Some(shared.wake.clone()), Arc::clone(&shared.counts));
        Self { shared: Arc::clone(shared), members: Vec::new(), sleeper }
    }

    /// One turn of the thread; `false` when it was the last.
    fn turn(&mut self) -> bool {
        {
            let mut members = lock(&self.shared.members);
            if members.stop || members.all.is_empty() {
                members.running = false;
                return false;
            }
            if std::mem::take(&mut members.changed) {
                self.members.clone_from(&members.all);
                self.sleeper.forget();
            }
        }
        let busy = self.drive();
        if self.sleeper.tired(busy) {
            self.sleep();
        } else if !busy {
            self.shared.hfi.bus().relax();
        }
        true
    }

    fn drive(&mut self) -> bool {
        let mut busy = false;
        let mut ended = Vec::new();
        for member in &self.members {
            let mut state = member.lock();
            state.asleep_until = None;
            let State { driven: Some(driven), bound, .. } = &mut *state else { continue };
            if driven.failed.is_none() {
                // That it failed is told below.
                busy |= driven.turn().unwrap_or(true);
            }
            let all = member.queue.fill(driven);
            // Its completions come before the bad news.
            if let Some(failed) = driven.failed.clone().filter(|_| all) {
                *bound = false;
                member.queue.fail(failed);
                ended.push(Arc::clone(member));
            }
        }
        if ended.is_empty() {
            return busy;
        }
        let mut members = lock(&self.shared.members);
        members.changed = true;
        members.all.retain(|member| !ended.iter().any(|ended| Arc::ptr_eq(ended, member)));
        true
    }

    fn sleep(&mut self) {
        let mut until = Until::new(Instant::FAR);
        let mut irqs = Vec::new();
        for member in &self.members {
            let mut state = member.lock();
            let State { driven: Some(driven), asleep_until, .. } = &mut *state else { continue };
            if driven.failed.is_some() {
                continue;
            }
            match until.ask(driven) {
                Ok(true) => *asleep_until = Some(driven.engine.poll_timeout()),
                Ok(false) => return,
                Err(error) => {
                    driven.fail(error);
                    return;
                }
            }
            if self.sleeper.is_forgetful() {
                irqs.extend(driven.engine.irqs());
            }
        }
        self.sleeper.sleep(&self.shared.hfi, irqs, &until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::EndpointId;
    use crate::fabric::event_queue::{EventQueue, Reporter};
    use crate::{Completion, Config, Endpoint, Pattern, SharedMemory};
    use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
    use opx_hw::{LinkMode, Options};
    use std::time::Duration;

    /// What the thread does, on this one and in simulated time.
    fn driver(endpoints: u32) -> (Lab, Hfi<EmuBus>, CompletionQueue, Driver<EmuBus>) {
        driver_of(endpoints, Config::default())
    }

    fn driver_of(endpoints: u32, config: Config) -> (Lab, Hfi<EmuBus>, CompletionQueue, Driver<EmuBus>) {
        let lab = Lab::new(Pacing::Virtual);
        let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
        let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        let shared = Progress::new(&hfi).unwrap().shared.clone();
        lock(&shared.members).stop = false;
        let queue = CompletionQueue::new(16, shared.wake.clone(), ProcessMark::here());
        for id in (0..endpoints).map(EndpointId) {
            let config = Config { interrupts: true, ..config.clone() };
            let engine = Endpoint::open(&hfi, config).unwrap();
            // They begin at different times.
            hfi.bus().pause(Duration::from_millis(17));
            let driven = Driven::new(id, engine, Reporter::new(id, EventQueue::default()));
            let member = Arc::new(Member::new(driven, queue.clone(), shared.wake.clone()));
            lock(&shared.members).all.push(member);
        }
        lock(&shared.members).changed = true;
        let driver = Driver::new(&shared);
        (lab, hfi, queue, driver)
    }

    fn drive(driver: &mut Driver<EmuBus>, time: Duration) {
        let bus = driver.shared.hfi.bus().clone();
        let end = bus.now() + time;
        while bus.now() < end {
            assert!(driver.turn());
        }
    }

    #[test]
    fn idle_it_wakes_only_to_see_whether_the_adapter_is_there() {
        let (_lab, _hfi, _queue, mut driver) = driver(4);
        drive(&mut driver, Duration::from_secs(1));
        let before = driver.sleeper.counts();
        drive(&mut driver, Duration::from_secs(60));
        let after = driver.sleeper.counts();
        assert!(
            (238..=241).contains(&(after.sleeps - before.sleeps)),
            "once for all endpoints, each 250 ms: {after:?}"
        );
        assert_eq!(after.woken, before.woken);
    }

    #[test]
    fn what_is_posted_while_it_sleeps_wakes_it_and_what_came_is_handed_over() {
        let (_lab, hfi, queue, mut driver) = driver(2);
        drive(&mut driver, Duration::from_millis(250));
        let members = driver.members.clone();
        let act = |member: &Member<EmuBus>, act: &dyn Fn(&mut Endpoint<EmuBus>)| {
            let mut state = member.lock();
            act(&mut state.driven.as_mut().unwrap().engine);
            member.settle(&mut state);
        };
        let to = members[1].lock().driven.as_ref().unwrap().engine.address();
        // As if it slept: this thread does both.
        driver.sleep_lightly();
        act(&members[1], &|engine| assert!(engine.receive(None, vec![0; 8], 1).is_ok()));
        assert!(!driver.shared.wake.take().unwrap(), "a receive has nothing due");
        driver.sleep_lightly();
        act(&members[0], &|engine| engine.send(to, vec![7; 8], 2).unwrap());
        assert!(driver.shared.wake.take().unwrap());
        act(&members[0], &|engine| engine.inject(to, &[1]).unwrap());
        assert!(!driver.shared.wake.take().unwrap(), "once is enough");
        let start = hfi.bus().now();
        let mut ends = Vec::new();
        while ends.len() < 2 {
            assert!(driver.turn());
            ends.extend(queue.read().map(|done| done.completion));
        }
        assert!(matches!(ends[0], Completion::Received { context: 1, .. }));
        assert!(matches!(ends[1], Completion::Sent { context: 2, .. }));
        assert!(hfi.bus().now().since(start) < Duration::from_millis(5));
    }

    #[test]
    fn room_that_is_made_while_it_sleeps_wakes_it_for_what_was_left() {
        let shared_memory = SharedMemory::of_job(format!("left-{}", std::process::id()));
        let config = Config { shared_memory, unexpected_bytes: 1100, ..Config::default() };
        let (_lab, _hfi, queue, mut driver) = driver_of(2, config);
        assert!(driver.turn());
        let [from, to] = [0, 1].map(|n| Arc::clone(&driver.members[n]));
        let act = |member: &Member<EmuBus>, act: &dyn Fn(&mut Endpoint<EmuBus>)| {
            let mut state = member.lock();
            act(&mut state.driven.as_mut().unwrap().engine);
            member.settle(&mut state);
        };
        let address = to.lock().driven.as_ref().unwrap().engine.address();
        for tag in 1..=2 {
            act(&from, &|engine| engine.tag_send(address, tag, vec![tag as u8; 900], tag).unwrap());
        }
        drive(&mut driver, Duration::from_millis(250));
        let _ = driver.shared.wake.take();
        // The second one finds no room, until there is a receive for it.
        driver.sleep_lightly();
        act(&to, &|engine| assert!(engine.tag_receive(Pattern::exact(2), vec![0; 900], 3).is_ok()));
        assert!(driver.shared.wake.take().unwrap());
        drive(&mut driver, Duration::from_millis(1));
        let ends: Vec<_> = std::iter::from_fn(|| queue.read()).map(|done| done.completion).collect();
        assert!(ends.iter().any(|end| matches!(end, Completion::Received { context: 3, .. })), "{ends:?}");
    }

    impl Driver<EmuBus> {
        /// As [`Driver::sleep`], without the sleep.
        fn sleep_lightly(&self) {
            for member in &self.members {
                let mut state = member.lock();
                let due = state.driven.as_ref().unwrap().engine.poll_timeout();
                state.asleep_until = Some(due);
            }
        }
    }
}
