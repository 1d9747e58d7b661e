//! Instructions of a short message between two endpoints through the machine's memory, matching on: posting a receive, sending, the
//! poll that delivers, and a poll that finds nothing.
//!
//! `cargo bench -p opx-stack --bench shared_memory`. libfabric's shm takes 312 for an injected message and 733 for the read that
//! delivers it, 1303 in all.

use opx_bench::{Cases, Goal, PlainBus, Table};
use opx_bus::BlockStore;
use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::{Address, Completion, Config, Endpoint, Pattern, SharedMemory};
use std::sync::atomic::{AtomicUsize, Ordering};

#[global_allocator]
static ALLOC: opx_bench::Allocator = opx_bench::ALLOCATOR;

/// Two endpoints, on adapters through which nothing goes.
struct Pair {
    bus: PlainBus<EmuBus>,
    one: Endpoint<PlainBus<EmuBus>>,
    other: Endpoint<PlainBus<EmuBus>>,
    to: Address,
    len: usize,
    /// Buffers that are used over and over.
    room: Vec<u8>,
    sent: Vec<u8>,
    /// A message is under way.
    is_sent: bool,
    _lab: Lab,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.bus.attach();
    }
}

impl Pair {
    fn new(len: usize) -> anyhow::Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let lab = Lab::new(Pacing::Virtual);
        let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
        let bus = PlainBus::new(adapter.bus(), BlockStore::best())?;
        let hfi = Hfi::open(bus.clone(), Options::default())?;
        hfi.link_up(LinkMode::Loopback)?;
        let job = format!("bench-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let config = Config { shared_memory: SharedMemory::of_job(job), ..Config::default() };
        let (one, other) = (Endpoint::open(&hfi, config.clone())?, Endpoint::open(&hfi, config)?);
        bus.detach();
        let to = other.address();
        let (room, sent) = (vec![0; len], vec![7; len]);
        let mut pair = Self { bus, one, other, to, len, room, sent, is_sent: false, _lab: lab };
        // They meet.
        pair.post();
        pair.send();
        while !pair.poll() {}
        // The one who has connected hears that the other is there, and that neither needs a fence for each message.
        pair.one.progress()?;
        anyhow::ensure!(pair.other.counters().received_locally == 1, "the message went another way");
        Ok(pair)
    }

    fn post(&mut self) {
        let buffer = std::mem::take(&mut self.room);
        assert!(self.other.tag_receive(Pattern::exact(7), buffer, 1).is_ok());
    }

    fn send(&mut self) {
        self.is_sent = true;
        if self.len <= 16 {
            assert!(self.one.tag_inject(self.to, 7, &self.sent).is_ok());
            return;
        }
        let buffer = std::mem::take(&mut self.sent);
        assert!(self.one.tag_send(self.to, 7, buffer, 2).is_ok());
        match self.one.poll_completion() {
            Some(Completion::Sent { buffer, .. }) => self.sent = buffer.into_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// One poll of the receiver; `true` when it delivered a message.
    fn poll(&mut self) -> bool {
        assert!(self.other.progress().is_ok());
        match self.other.poll_completion() {
            Some(Completion::Received { buffer, len, .. }) => {
                assert_eq!(len, self.len);
                self.room = buffer.into_vec();
                true
            }
            Some(other) => panic!("{other:?}"),
            None => false,
        }
    }

    /// Until nothing is under way.
    fn settle(&mut self) {
        let is_posted = self.room.is_empty();
        if is_posted && !self.is_sent {
            self.send();
        }
        while is_posted && !self.poll() {}
        self.is_sent = false;
    }
}

fn main() -> anyhow::Result<()> {
    let lengths = [8, 64, 1024, 8192];
    let mut cases = Cases::default();
    for len in lengths {
        cases.add_with(&format!("posting a tagged receive, {len} B"), Pair::new(len)?, Pair::settle, Pair::post);
        let posted = |pair: &mut Pair| {
            pair.settle();
            pair.post();
        };
        cases.add_with(&format!("sending, {len} B"), Pair::new(len)?, posted, Pair::send);
        let sent = |pair: &mut Pair| {
            pair.settle();
            pair.post();
            pair.send();
        };
        let name = format!("the poll that delivers it, {len} B");
        cases.add_with(&name, Pair::new(len)?, sent, |pair: &mut Pair| assert!(pair.poll()));
    }
    cases.add_with("an empty poll", Pair::new(8)?, Pair::settle, |pair: &mut Pair| assert!(!pair.poll()));
    let counted = cases.count()?;
    let mut table = Table::new("shared_memory");
    for (len, cases) in lengths.into_iter().zip(counted.chunks(3)) {
        for case in cases {
            table.add(&case.name, case.median() as f64, "instructions", Goal::None);
        }
        let whole: u64 = cases.iter().map(|case| case.median()).sum();
        // OPX's own shared memory takes as much, see docs/performance.md.
        let goal = if len == 8 { Goal::AtMost(918.0) } else { Goal::None };
        table.add(&format!("a whole message: post, send, deliver, {len} B"), whole as f64, "instructions", goal);
    }
    if let Some(empty) = counted.last() {
        table.add(&empty.name, empty.median() as f64, "instructions", Goal::None);
    }
    // Both poll: who sleeps has to be rung for.
    let total = |of: fn(&opx_bench::Counted) -> u64| counted.iter().map(of).sum::<u64>() as f64;
    let dirty = total(|case| case.total().fences + case.total().locked + case.total().divisions);
    table.add("fences, locks and divisions in all runs of them", dirty, "", Goal::AtMost(0.0));
    let calls = total(|case| case.total().system_calls);
    table.add("system calls in all runs of them", calls, "", Goal::None);
    let mut pair = Pair::new(8)?;
    let mut exchange = |count| {
        for _ in 0..count {
            pair.post();
            pair.send();
            while !pair.poll() {}
        }
    };
    exchange(10_000);
    let allocated = opx_bench::allocations(|| exchange(10_000));
    table.add("allocations in 10,000 messages", allocated as f64, "", Goal::AtMost(0.0));
    table.write()?;
    anyhow::ensure!(table.met(), "a goal isn't met");
    Ok(())
}
