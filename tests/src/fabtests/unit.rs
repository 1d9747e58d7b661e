//! fabtests/unit, of what a bus has a part in: cntr_test, cq_test, dom_test, setopt_test. mr_test is with the memory.

use super::Setting;
use super::ends::{Ends, LIMIT, data};
use opx_bus::PciFunction;
use opx_stack::{
    Address, Completion, Counter, Counting, Domain, Endpoint, EndpointId, PollSet, SendError, Thresholds, WaitError,
};
use std::time::Duration;

/// Endpoints of a domain, driven by their owner, who sleeps meanwhile.
pub(super) struct Set<B: PciFunction> {
    pub set: PollSet<B>,
    ids: Vec<EndpointId>,
    setting: Setting<B>,
}

impl<B: PciFunction> Set<B> {
    pub fn open(setting: Setting<B>, count: usize) -> Self {
        let mut set = Domain::open(&setting.rig.bring_up()).unwrap().poll_set();
        let ids = (0..count).map(|n| set.open(setting.config(n)).unwrap()).collect();
        Self { set, ids, setting }
    }

    pub fn end(&mut self, end: usize) -> &mut Endpoint<B> {
        self.set.endpoint(self.ids[end]).unwrap()
    }

    pub fn address(&mut self, end: usize) -> Address {
        self.end(end).address()
    }

    /// Injects as soon as there is room.
    pub fn inject(&mut self, from: usize, to: Address, bytes: &[u8]) {
        let bus = self.set.domain().hfi().bus().clone();
        let start = bus.now();
        loop {
            assert!(bus.now().since(start) < LIMIT, "no room to inject: {:#?}", self.end(from).counters());
            match self.end(from).inject(to, bytes) {
                Ok(()) => return,
                Err(SendError::Again(_)) => {
                    self.set.progress().unwrap();
                }
                Err(error) => panic!("{error}"),
            }
            bus.relax();
        }
    }

    pub fn count(&mut self, end: usize, counting: Counting) {
        self.set.count(self.ids[end], counting).unwrap();
    }

    pub fn drive(&mut self, mut until: impl FnMut() -> bool) {
        self.set.drive_until(Some(LIMIT), |_| until()).unwrap();
    }

    /// The next completion, and at which end.
    pub fn wait(&mut self) -> (usize, Completion) {
        let done = self.set.wait(Some(LIMIT)).unwrap();
        (self.ids.iter().position(|id| *id == done.endpoint).unwrap(), done.completion)
    }
}

impl<B: PciFunction> Drop for Set<B> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let counters: Vec<_> = (0..self.ids.len()).map(|end| self.end(end).counters()).collect();
            self.setting.judge(&counters);
        }
    }
}

/// Counters of operations that are done and of those that failed, by kind.
pub fn cntr_test<B: PciFunction>(setting: Setting<B>) {
    let mut set = Set::open(setting, 2);
    let to = set.address(1);
    let (sent, received) = (Counter::new(), Counter::new());
    set.count(0, Counting::sends(&sent));
    set.count(1, Counting::receives(&received));
    for n in 1..=20 {
        set.end(1).receive(None, vec![0; 64], 0).unwrap();
        set.inject(0, to, &[1; 8]);
        set.drive(|| received.read() == n && sent.read() == n);
    }
    // One that is too long counts as failed where it was received.
    set.end(1).receive(None, vec![0; 4], 0).unwrap();
    set.inject(0, to, &[1; 8]);
    set.drive(|| received.errors() == 1 && sent.read() == 21);
    assert_eq!((received.read(), sent.errors()), (20, 0));
    received.set(5);
    received.add(2);
    assert_eq!((received.read(), received.wait(7, None)), (7, Ok(7)));
}

/// Completions of two endpoints in one queue: waited for asleep, each given once, and nothing when there is nothing.
pub fn cq_test<B: PciFunction>(setting: Setting<B>) {
    let mut set = Set::open(setting, 2);
    assert!(matches!(set.set.wait(Some(Duration::from_millis(20))), Err(WaitError::TimedOut)));
    let to = set.address(1);
    for n in 0..30 {
        set.end(1).receive(None, vec![0; 200], n).unwrap();
        set.end(0).send(to, data(n, 200), n).unwrap();
    }
    let mut sent = Vec::new();
    let mut received = 0;
    for _ in 0..60 {
        let (end, completion) = set.wait();
        match completion {
            Completion::Sent { context, .. } => {
                assert_eq!(end, 0);
                sent.push(context);
            }
            Completion::Received { context, buffer, .. } => {
                assert_eq!((end, context), (1, received), "in the order that they were sent in");
                assert_eq!(buffer, data(context, 200));
                received += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    // In the order in which they were acknowledged.
    sent.sort();
    assert_eq!(sent, Vec::from_iter(0..30));
    assert!(set.set.poll().unwrap().is_none());
}

/// Domains of one adapter, opened and closed in turn, each with an endpoint.
pub fn dom_test<B: PciFunction>(setting: Setting<B>) {
    let hfi = setting.rig.bring_up();
    for _ in 0..3 {
        let domains: Vec<_> = (0..4).map(|_| Domain::open(&hfi).unwrap()).collect();
        let mut sets: Vec<_> = domains.iter().map(Domain::poll_set).collect();
        let addresses: Vec<_> = sets
            .iter_mut()
            .enumerate()
            .map(|(n, set)| {
                let id = set.open(setting.config(n)).unwrap();
                set.endpoint(id).unwrap().address()
            })
            .collect();
        assert!((1..4).all(|n| !addresses[..n].contains(&addresses[n])), "{addresses:?}");
    }
}

/// Settings that are changed while the endpoint runs hold for what comes after; those that can't be are refused.
pub fn setopt_test<B: PciFunction>(setting: Setting<B>) {
    let mut ends = Ends::open(setting, 2);
    let usual = ends[0].thresholds();
    assert!(ends[0].set_thresholds(Thresholds { rendezvous_min: 1, ..usual }).is_err());
    assert_eq!(ends[0].thresholds(), usual);
    for (thresholds, by_rendezvous) in [
        (Thresholds { rendezvous_min: 1000, eager_max: 999, ..usual }, true),
        (Thresholds { no_multi_packet: true, packet_max: 2048, ..usual }, true),
        (usual, false),
    ] {
        ends[0].set_thresholds(thresholds).unwrap();
        let before = ends[0].counters().offers_sent;
        ends.pass(0, 1, Some(1), 6000);
        assert_eq!(ends[0].counters().offers_sent > before, by_rendezvous, "{thresholds:?}");
    }
    ends.quiet();
}
