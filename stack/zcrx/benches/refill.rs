//! What it takes to return a buffer on the thread that received it: instructions, and what a hot path does without.

use opx_bench::{Cases, Counted, Goal, Table};
use opx_zcrx::{Buffer, Completion, Event, Fake, FakeQueue, Options, Ring, Source};
use std::hint::black_box;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// A ring whose completions are made up.
struct Bench {
    fake: Fake,
    ring: Ring<FakeQueue>,
    /// What is to be returned next.
    buffer: Option<Buffer>,
    /// Keeps the stream from ending.
    _peer: TcpStream,
}

impl Bench {
    fn new() -> anyhow::Result<Self> {
        let fake = Fake::default();
        let options = Options::new().zero_copy_rx(Source::NoDevice).num_buffers(4096).refill_entries(4096);
        let ring = Ring::open_on(&fake, &options)?;
        ring.create_pool()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let peer = TcpStream::connect(listener.local_addr()?)?;
        ring.receive(listener.accept()?.0)?;
        Ok(Self { fake, ring, buffer: None, _peer: peer })
    }

    /// Receives one more, and has the kernel take what was returned, so that the ring has room as it has as a rule.
    fn receive(&mut self) {
        self.fake.take_back(0, u32::MAX);
        self.ring.wait(Some(Duration::ZERO)).expect("it doesn't wait");
        self.fake.complete(0, Completion { user_data: 0, result: 1500, more: true, offset: 4096 });
        match self.ring.next_event() {
            Some(Event::Data { data, .. }) => self.buffer = Some(data),
            other => panic!("{other:?}"),
        }
    }

    #[inline]
    fn take(&mut self) -> Buffer {
        self.buffer.take().expect("one was received")
    }
}

/// What the other case has besides the return.
#[inline(never)]
fn keep(buffer: Buffer) {
    std::mem::forget(black_box(buffer));
}

/// The drop of a received buffer, as a program would do it.
#[inline(never)]
fn give_back(buffer: Buffer) {
    drop(black_box(buffer));
}

fn main() -> anyhow::Result<()> {
    let mut cases = Cases::default();
    // The first ring of a thread is the one whose buffers it returns without a lock.
    let returning = Bench::new()?;
    cases.add_with("keep", Bench::new()?, Bench::receive, |bench| keep(bench.take()));
    cases.add_with("give back", returning, Bench::receive, |bench| give_back(bench.take()));
    let counted = cases.count()?;
    let [kept, returned] = &counted[..] else { anyhow::bail!("two cases were counted") };

    let mut table = Table::new("zcrx");
    let refill = returned.median() as f64 - kept.median() as f64;
    table.add("refill by the thread that received", refill, "instructions", Goal::AtMost(20.0));
    table.add("the longest of them", returned.most() as f64 - kept.median() as f64, "instructions", Goal::None);
    let all = |of: fn(&Counted) -> u64| of(returned) as f64;
    let none = Goal::AtMost(0.0);
    table.add("locked instructions of all refills", all(|c| c.total().locked), "", none);
    table.add("fences of all refills", all(|c| c.total().fences), "", none);
    table.add("divisions of all refills", all(|c| c.total().divisions), "", none);
    table.add("system calls of all refills", all(|c| c.total().system_calls), "", none);
    table.write()?;
    anyhow::ensure!(table.met(), "a goal isn't met");
    Ok(())
}
