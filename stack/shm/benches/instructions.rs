//! Instructions of a message through shared memory: what its sender takes, and what the poll takes that delivers it.

use opx_bench::{Cases, Counted, Goal, Table};
use opx_shm::{Config, Event, Header, Node, PeerId};
use std::sync::atomic::{AtomicUsize, Ordering};

#[global_allocator]
static ALLOC: opx_bench::Allocator = opx_bench::ALLOCATOR;

/// Two nodes of this process.
struct Pair {
    one: Node,
    other: Node,
    peer: PeerId,
    payload: Vec<u8>,
    room: Vec<u8>,
}

impl Pair {
    fn new(len: usize) -> anyhow::Result<Self> {
        let open = || {
            static NUMBER: AtomicUsize = AtomicUsize::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            Node::open(&format!("bench-{}-{number}", std::process::id()), Config::default())
        };
        let (mut one, mut other) = (open()?, open()?);
        let peer = one.connect(other.name())?;
        other.poll(|_| {})?;
        one.poll(|_| {})?;
        Ok(Self { one, other, peer, payload: vec![7; len], room: vec![0; len] })
    }

    fn send(&mut self) {
        let header = Header { kind: 1, words: [2, 3] };
        assert!(self.one.try_send(self.peer, header, &[&self.payload]).is_ok());
    }

    fn read_out(&mut self) {
        while self.poll() != 0 {}
    }

    fn poll(&mut self) -> usize {
        let Self { other, room, .. } = self;
        let mut count = 0;
        let polled = other.poll(|event| {
            if let Event::Message(message) = event {
                count += message.read(0, room);
            }
        });
        assert!(polled.is_ok());
        count
    }
}

fn main() -> anyhow::Result<()> {
    const LENGTHS: [usize; 4] = [8, 64, 1024, 8192];
    let mut cases = Cases::default();
    for len in LENGTHS {
        // The ring is read out before each send, so that there is room.
        cases.add_with("", Pair::new(len)?, Pair::read_out, Pair::send);
        cases.add_with("", Pair::new(len)?, Pair::send, |pair| assert_eq!(pair.poll(), pair.payload.len()));
    }
    cases.add_with("", Pair::new(8)?, |_| {}, |pair| assert_eq!(pair.poll(), 0));
    let counted = cases.count()?;

    let mut table = Table::new("shm");
    // libfabric's shm takes 312 for an injected message of 8 bytes and 733 for the read of a completion queue that delivers it,
    // with its matching. That a message can be left to be shown again takes some 25 of a poll.
    let goals = [
        (Goal::AtMost(120.0), Goal::AtMost(300.0)),
        (Goal::AtMost(190.0), Goal::AtMost(375.0)),
        (Goal::AtMost(380.0), Goal::AtMost(500.0)),
        (Goal::AtMost(1700.0), Goal::AtMost(1700.0)),
    ];
    for ((len, (send, poll)), both) in LENGTHS.iter().zip(goals).zip(counted.chunks(2)) {
        let [sent, polled] = both else { continue };
        table.add(&format!("send, {len} B"), sent.median() as f64, "instructions", send);
        table.add(&format!("poll, {len} B"), polled.median() as f64, "instructions", poll);
        table.add(
            &format!("send and poll on average, {len} B"),
            sent.mean() + polled.mean(),
            "instructions",
            Goal::None,
        );
    }
    if let Some(empty) = counted.last() {
        table.add("empty poll", empty.median() as f64, "instructions", Goal::AtMost(120.0));
    }
    let most = |of: fn(&Counted) -> u64| counted.iter().map(of).sum::<u64>() as f64;
    // The process's look at what only the kernel knows is among the polls, once in 256.
    table.add("fences of all", most(|case| case.total().fences), "", Goal::AtMost(0.0));
    table.add("locked instructions of all", most(|case| case.total().locked), "", Goal::AtMost(0.0));
    table.add("divisions of all", most(|case| case.total().divisions), "", Goal::AtMost(0.0));
    let mut pair = Pair::new(8)?;
    let allocated = opx_bench::allocations(|| {
        for _ in 0..3000 {
            pair.send();
            pair.poll();
        }
    });
    table.add("allocations of 3000 messages", allocated as f64, "", Goal::AtMost(0.0));
    table.write()?;
    anyhow::ensure!(table.met(), "a goal isn't met");
    Ok(())
}
