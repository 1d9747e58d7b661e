//! fabtests as they run there, one process at each end, for peers that reach each other through the machine's memory: rdm,
//! rdm_pingpong, rma_pingpong, rdm_atomic, rdm_stress.
//!
//! Both processes call the same function: each does its own part, and sees what comes of the other's.

use super::ends::{Ends, LENGTHS, Message, Window, data};
use super::memory::operations;
use super::{Setting, Way};
use crate::rig::Rig;
use opx_bus::{Chance, PciFunction};
use opx_stack::atomics::{AtomicOp, Datatype, Form, Op};
use opx_stack::regions::Access;
use opx_stack::{Address, Atomic, Completion, Config, Endpoint, Outgoing, Read, Remote, Write};

/// One of two processes, with its endpoint.
pub struct Process<B: PciFunction> {
    ends: Ends<B>,
    second: bool,
    /// In the second process it has the context that the first one's endpoint has there: a job's addresses are different.
    _spacer: Option<Endpoint<B>>,
}

/// Its own endpoint.
const ME: usize = 0;

impl<B: PciFunction> Process<B> {
    /// The first or the second process of a job, each on an adapter of its own.
    pub fn open(rig: Rig<B>, job: &str, second: bool) -> Self {
        let mut ends = Ends::open(Setting { job: job.to_owned(), ..Setting::new(rig, Way::SharedMemory) }, 0);
        let spacer = second.then(|| Endpoint::open(&ends.hfi, Config::default()).unwrap());
        ends.add();
        Self { ends, second, _spacer: spacer }
    }

    /// The address of its endpoint.
    pub fn address(&self) -> Address {
        self.ends.address(ME)
    }

    /// Sends a message to the peer and waits until it is done.
    fn send(&mut self, peer: Address, tag: u64, bytes: Vec<u8>) {
        self.ends.send(ME, Outgoing { tag: Some(tag), ..Outgoing::new(peer, bytes, tag) });
        assert_eq!(self.ends.sent(ME), tag);
    }

    /// Receives a message of the peer's.
    fn receive(&mut self, peer: Address, tag: u64, len: usize) -> Vec<u8> {
        self.ends.receive(ME, Some(tag), len, tag);
        let (context, Message { source, bytes, .. }) = self.ends.received(ME);
        assert_eq!((context, source), (tag, peer));
        bytes
    }

    /// Memory for the peer's use, and the peer's for ours.
    fn windows(&mut self, peer: Address, len: usize) -> (Window, Remote) {
        let window = self.ends.window(ME, len, Access::ATOMIC);
        self.send(peer, 0, window.remote.key.to_le_bytes().to_vec());
        let key = self.receive(peer, 0, 8);
        (window, Remote { peer, key: u64::from_le_bytes(key.try_into().unwrap()), place: 0 })
    }

    /// Both are here, and all that was sent was used.
    fn meet(&mut self, peer: Address) {
        self.ends.quiet();
        self.send(peer, 1, Vec::new());
        self.receive(peer, 1, 0);
        self.ends.quiet();
    }
}

/// Messages of every length there and back, so many times: what comes back is what was sent.
fn there_and_back<B: PciFunction>(process: &mut Process<B>, peer: Address, times: u64) {
    for (n, len) in (0..).zip(LENGTHS) {
        for tag in 100 * n..100 * n + times {
            if process.second {
                let bytes = process.receive(peer, tag, len);
                process.send(peer, tag, bytes);
            } else {
                process.send(peer, tag, data(tag, len));
                assert!(process.receive(peer, tag, len) == data(tag, len), "{len} bytes");
            }
        }
    }
    process.meet(peer);
}

/// A message of every length each way.
pub fn rdm<B: PciFunction>(process: &mut Process<B>, peer: Address) {
    there_and_back(process, peer, 1);
}

/// Messages there and back.
pub fn rdm_pingpong<B: PciFunction>(process: &mut Process<B>, peer: Address) {
    there_and_back(process, peer, 20);
}

/// Writes there and back: each process answers when it is told of one.
pub fn rma_pingpong<B: PciFunction>(process: &mut Process<B>, peer: Address) {
    let (window, remote) = process.windows(peer, 1 << 18);
    for (n, len) in (0..).zip(LENGTHS) {
        for turn in [false, true] {
            let bytes = data(u64::from(n) + u64::from(turn), len);
            if process.second == turn {
                process.ends.write(ME, &Write { data: Some(n), ..Write::new(remote, bytes, 1) });
                assert!(matches!(process.ends.next(ME), Completion::Written { context: 1, .. }));
            } else {
                let told = Completion::RemoteWrite { data: n, source: peer, len: len as u64 };
                assert_eq!(process.ends.next(ME), told);
                assert!(window.bytes(0, len) == bytes, "{len} bytes");
            }
        }
    }
    process.meet(peer);
}

/// Every operation on every datatype in every form, by both processes at once, each on a place of its own at the other.
pub fn rdm_atomic<B: PciFunction>(process: &mut Process<B>, peer: Address) {
    let (_window, remote) = process.windows(peer, 4096);
    for (n, op) in (0..).zip(operations()) {
        let len = op.datatype().size() * 3;
        let small = |seed| data(seed, len).into_iter().map(|byte| byte % 3).collect::<Vec<_>>();
        let (target, operand, compare) = (small(n), small(n + 1), small(n + 2));
        for form in [Form::Update, Form::Fetch, Form::Compare].into_iter().filter(|form| op.has_form(*form)) {
            let ends = &mut process.ends;
            // What goes to one peer is done there in order.
            ends.write(ME, &Write::new(remote, target.clone(), 1));
            assert!(matches!(ends.next(ME), Completion::Written { context: 1, .. }));
            let (mut model, mut was) = (target.clone(), vec![0; len]);
            let operand = if op.op() == Op::Read { vec![] } else { operand.clone() };
            match form {
                Form::Update => {
                    op.apply(&mut model, &operand).unwrap();
                    ends.atomic(ME, &Atomic::update(remote, op, operand, 2));
                    assert!(matches!(ends.next(ME), Completion::Written { context: 2, .. }));
                }
                Form::Fetch | Form::Compare => {
                    let asked = if form == Form::Fetch {
                        op.fetch_apply(&mut model, &operand, &mut was).unwrap();
                        Atomic::fetch(remote, op, operand, vec![0; len], 2)
                    } else {
                        op.compare(&mut model, &compare, &operand, &mut was).unwrap();
                        Atomic::compare(remote, op, compare.clone(), operand, vec![0; len], 2)
                    };
                    ends.atomic(ME, &asked);
                    let Completion::Fetched { result, .. } = ends.next(ME) else { panic!("{op:?}") };
                    assert_eq!(result, was, "{op:?} {form}");
                }
            }
            ends.read(ME, &Read::new(remote, vec![0; len], 3));
            let Completion::Read { buffer, .. } = ends.next(ME) else { panic!("{op:?}") };
            assert_eq!(buffer, model, "{op:?} {form}");
        }
    }
    process.meet(peer);
}

/// Everything at once by both processes, in an order that chance gives: messages, writes, reads and atomic operations.
pub fn rdm_stress<B: PciFunction>(process: &mut Process<B>, peer: Address) {
    const OPERATIONS: u64 = 400;
    /// Where sums are, before the bytes that are written and read.
    const SUMS: u64 = 64;
    // Kind and length of each operation of the first and of the second process.
    let plan = |second: bool| {
        let mut chance = Chance::new(99 + u64::from(second));
        (0..OPERATIONS).map(move |n| (n, chance.below(5), LENGTHS[chance.below(LENGTHS.len() as u64) as usize]))
    };
    let (window, remote) = process.windows(peer, 1 << 18);
    let place = Remote { place: SUMS, ..remote };
    let sum = AtomicOp::new(Op::Sum, Datatype::Uint64).unwrap();
    let mut theirs = plan(!process.second).filter(|(_, kind, _)| *kind < 2);
    let mut expected = 0;
    for (n, kind, len) in plan(process.second) {
        let ends = &mut process.ends;
        expected += 1;
        match kind {
            // Some are asked for before they come and some after.
            0..2 => {
                let message = Outgoing::new(peer, data(n, len), n);
                ends.send(ME, Outgoing { tag: Some(n), ..message });
            }
            2 => ends.write(ME, &Write::new(place, data(n, len), n)),
            3 => ends.read(ME, &Read::new(place, vec![0; len], n)),
            _ => ends.atomic(ME, &Atomic::update(remote, sum, n.to_le_bytes().to_vec(), n)),
        }
        if n % 3 != 0
            && let Some((n, _, len)) = theirs.next()
        {
            ends.receive(ME, Some(n), len, n);
            expected += 1;
        }
    }
    for (n, _, len) in theirs {
        process.ends.receive(ME, Some(n), len, n);
        expected += 1;
    }
    for _ in 0..expected {
        match process.ends.next(ME) {
            Completion::Received { context, tag, len, buffer, source, .. } => {
                assert_eq!((tag, len, source), (Some(context), buffer.len(), peer));
                assert!(buffer == data(context, len), "message {context}");
            }
            Completion::Sent { .. } | Completion::Written { .. } | Completion::Read { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    process.meet(peer);
    let added: u64 = plan(!process.second).filter(|(_, kind, _)| *kind == 4).map(|(n, ..)| n).sum();
    assert_eq!(window.region.memory().read_u64(0), added);
}
