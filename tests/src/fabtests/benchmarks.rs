//! fabtests/benchmarks, for what they move: rdm_pingpong, rdm_tagged_pingpong, rdm_cntr_pingpong, rma_pingpong, rdm_bw,
//! rdm_tagged_bw, rma_bw, rma_tx_completion. How fast is told by opx-perf.

use super::Setting;
use super::ends::{Ends, LENGTHS, data};
use super::unit::Set;
use opx_bus::PciFunction;
use opx_stack::regions::Access;
use opx_stack::{Completion, Counter, Counting, Level, Outgoing, Read, Write};

fn pingpong<B: PciFunction>(setting: Setting<B>, tag: Option<u64>) {
    let mut ends = Ends::open(setting, 2);
    for len in LENGTHS {
        for _ in 0..5 {
            ends.pass(0, 1, tag, len);
            ends.pass(1, 0, tag, len);
        }
    }
    ends.quiet();
}

/// Messages there and back.
pub fn rdm_pingpong<B: PciFunction>(setting: Setting<B>) {
    pingpong(setting, None);
}

/// Tagged messages there and back.
pub fn rdm_tagged_pingpong<B: PciFunction>(setting: Setting<B>) {
    pingpong(setting, Some(0x1234_5678_9abc_def0));
}

/// Messages there and back; what has come is known by counters alone.
pub fn rdm_cntr_pingpong<B: PciFunction>(setting: Setting<B>) {
    let mut set = Set::open(setting, 2);
    let counters = [0, 1].map(|_| (Counter::new(), Counter::new()));
    for (end, (sent, received)) in counters.iter().enumerate() {
        set.count(end, Counting::sends(sent).and_receives(received));
    }
    for n in 1..=40 {
        for (from, to) in [(0, 1), (1, 0)] {
            let address = set.address(to);
            set.end(to).receive(None, vec![0; 4000], 0).unwrap();
            set.end(from).send(address, data(n, 4000), 0).unwrap();
            set.drive(|| counters[to].1.read() == n && counters[from].0.read() == n);
        }
    }
    assert!(counters.iter().all(|(sent, received)| (sent.errors(), received.errors()) == (0, 0)));
}

/// Writes there and back: each end answers when it is told of one.
pub fn rma_pingpong<B: PciFunction>(setting: Setting<B>) {
    let mut ends = Ends::open(setting, 2);
    let windows = [0, 1].map(|end| ends.window(end, 1 << 18, Access::REMOTE_WRITE));
    for (told, len) in (0..).zip(LENGTHS) {
        for (from, to) in [(0, 1), (1, 0)] {
            let bytes = data(len as u64 + from as u64, len);
            ends.write(from, &Write { data: Some(told), ..Write::new(windows[to].remote, bytes.clone(), 1) });
            let source = ends.address(from);
            assert_eq!(ends.next(to), Completion::RemoteWrite { data: told, source, len: len as u64 });
            assert_eq!(windows[to].bytes(0, len), bytes);
            assert!(matches!(ends.next(from), Completion::Written { context: 1, .. }));
        }
    }
    ends.quiet();
}

/// A window of messages one way, then an answer.
fn bandwidth<B: PciFunction>(setting: Setting<B>, tag: Option<u64>) {
    const WINDOW: u64 = 16;
    let mut ends = Ends::open(setting, 2);
    let to = ends.address(1);
    for len in LENGTHS {
        for n in 0..WINDOW {
            ends.receive(1, tag, len, n);
        }
        for n in 0..WINDOW {
            ends.send(0, Outgoing { tag, ..Outgoing::new(to, data(n, len), n) });
        }
        let mut left = Vec::from_iter(0..WINDOW);
        while !left.is_empty() {
            let (context, message) = ends.received(1);
            assert!(message.bytes == data(context, len), "message {context} of {len} bytes");
            left.retain(|n| *n != context);
        }
        for _ in 0..WINDOW {
            ends.sent(0);
        }
        ends.pass(1, 0, tag, 4);
    }
    ends.quiet();
}

/// Windows of messages.
pub fn rdm_bw<B: PciFunction>(setting: Setting<B>) {
    bandwidth(setting, None);
}

/// Windows of tagged messages.
pub fn rdm_tagged_bw<B: PciFunction>(setting: Setting<B>) {
    bandwidth(setting, Some(u64::MAX));
}

/// Windows of writes and of reads.
pub fn rma_bw<B: PciFunction>(setting: Setting<B>) {
    const WINDOW: usize = 8;
    let mut ends = Ends::open(setting, 2);
    let window = ends.window(1, WINDOW << 18, Access::ATOMIC);
    let place = |n: usize| n << 18;
    for len in LENGTHS {
        for n in 0..WINDOW {
            ends.write(0, &Write::new(window.at(place(n)), data((n + len) as u64, len), n as u64));
        }
        (0..WINDOW).for_each(|_| assert!(matches!(ends.next(0), Completion::Written { .. })));
        for n in 0..WINDOW {
            ends.read(0, &Read::new(window.at(place(n)), vec![0; len], n as u64));
        }
        for _ in 0..WINDOW {
            let Completion::Read { context, buffer } = ends.next(0) else { panic!() };
            assert!(buffer == data(context + len as u64, len), "read {context} of {len} bytes");
        }
    }
    ends.quiet();
}

/// Writes that complete when the peer has them, and when they are in its memory: then they can be seen there at once.
pub fn rma_tx_completion<B: PciFunction>(setting: Setting<B>) {
    let mut ends = Ends::open(setting, 2);
    let window = ends.window(1, 1 << 18, Access::REMOTE_WRITE);
    for (n, len) in (0..).zip(LENGTHS) {
        for (seed, level) in (100 * n..).zip([Level::Inject, Level::Transmit, Level::Delivery]) {
            let bytes = data(seed, len);
            ends.write(0, &Write { level, ..Write::new(window.remote, bytes.clone(), n) });
            assert!(matches!(ends.next(0), Completion::Written { context, .. } if context == n));
            if level == Level::Delivery {
                assert!(window.bytes(0, len) == bytes, "{len} bytes");
            }
        }
    }
    ends.quiet();
}
