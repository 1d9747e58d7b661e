//! Scenarios of more than two endpoints or of everything at once: av_xfer, multi_ep, rdm_multi_client, rdm_multi_domain, rdm_stress,
//! multinode, ubertest.

use super::ends::{Ends, LENGTHS, LIMIT, Message, data};
use super::{Setting, Way};
use opx_bus::{Chance, PciFunction};
use opx_stack::atomics::{AtomicOp, Datatype, Op};
use opx_stack::regions::Access;
use opx_stack::{AddressVector, Atomic, Buffer, Completion, Domain, FiAddr, Outgoing, Pattern, Read, View, Write};

/// Peers are named by an address vector: one that is removed and inserted again is talked to as before.
pub fn av_xfer<B: PciFunction>(setting: Setting<B>) {
    let mut ends = Ends::open(setting, 3);
    let mut peers = AddressVector::new();
    let numbers: Vec<FiAddr> = (0..3).map(|end| peers.insert(ends.address(end)).unwrap()).collect();
    for round in 0..4 {
        for to in [1, 2] {
            ends.receive(to, Some(round), 100, round);
            let message = Outgoing {
                tag: Some(round),
                ..Outgoing::new(peers.address(numbers[to]).unwrap(), data(round, 100), 0)
            };
            ends.send(0, message);
            let (context, message) = ends.received(to);
            assert_eq!(
                (context, message.bytes, peers.find(message.source)),
                (round, data(round, 100), Some(numbers[0]))
            );
            assert_eq!(ends.sent(0), 0);
        }
        let gone = numbers[1 + round as usize % 2];
        let address = peers.address(gone).unwrap();
        peers.remove(gone);
        assert_eq!((peers.address(gone), peers.find(address)), (None, None));
        assert_eq!(peers.insert(address), Ok(gone), "the number that is free");
    }
    ends.quiet();
}

/// Several pairs of endpoints at once.
pub fn multi_ep<B: PciFunction>(setting: Setting<B>) {
    let mut ends = Ends::open(setting, 6);
    for len in [8, 3000, 30_000] {
        for end in 0..6 {
            let to = ends.address(end ^ 1);
            ends.receive(end, None, len, 1);
            ends.send(end, Outgoing::new(to, data(end as u64, len), 2));
        }
        for end in 0..6 {
            let mut both = [ends.next(end), ends.next(end)];
            both.sort_by_key(|completion| matches!(completion, Completion::Sent { .. }));
            let [Completion::Received { source, buffer, .. }, Completion::Sent { .. }] = &both else {
                panic!("{both:?}")
            };
            assert_eq!((*source, buffer), (ends.address(end ^ 1), &data(end as u64 ^ 1, len).into()));
        }
    }
    ends.quiet();
}

/// Clients that come and go, while the server stays. (Through the adapter one that comes back at the address of an earlier one is
/// told of as a peer out of step: there is no handshake in OPX's protocol. Through memory there is.)
pub fn rdm_multi_client<B: PciFunction>(setting: Setting<B>) {
    let comes_back = setting.way == Way::SharedMemory;
    let mut ends = Ends::open(setting, 1);
    for client in 1..=4 {
        ends.add();
        for len in [16, 5000, 50_000] {
            ends.pass(client, 0, None, len);
            ends.pass(0, client, None, len);
        }
    }
    for _ in 0..3 {
        // Nobody goes with something unanswered.
        ends.quiet();
        ends.close_last();
        ends.pass(1, 0, Some(1), 100);
    }
    if !comes_back {
        return;
    }
    for _ in 0..5 {
        let before = ends.address(1);
        ends.quiet();
        ends.close_last();
        ends.add();
        assert_eq!(ends.address(1), before);
        for len in [16, 5000, 50_000] {
            // The server knows it by its first message.
            ends.pass(1, 0, None, len);
            ends.pass(0, 1, None, len);
        }
    }
}

/// Messages between endpoints of different domains.
pub fn rdm_multi_domain<B: PciFunction>(setting: Setting<B>) {
    let hfi = setting.rig.bring_up();
    let mut sets: Vec<_> = (0..3).map(|_| Domain::open(&hfi).unwrap().poll_set()).collect();
    let ids: Vec<_> = (0..).zip(&mut sets).map(|(n, set)| set.open(setting.config(n)).unwrap()).collect();
    let addresses: Vec<_> = (0..3).map(|n| sets[n].endpoint(ids[n]).unwrap().address()).collect();
    for len in [10, 6000, 60_000] {
        for n in 0..3 {
            let (end, to) = (sets[n].endpoint(ids[n]).unwrap(), addresses[(n + 1) % 3]);
            end.receive(None, vec![0; len], 1).unwrap();
            end.send(to, data(n as u64, len), 2).unwrap();
        }
        let mut ends = [(0, 0); 3];
        let done = setting.rig.wait(LIMIT, || {
            for (n, set) in sets.iter_mut().enumerate() {
                match set.poll().unwrap().map(|done| done.completion) {
                    Some(Completion::Received { buffer, source, .. }) => {
                        assert_eq!((source, buffer), (addresses[(n + 2) % 3], data((n as u64 + 2) % 3, len).into()));
                        ends[n].0 += 1;
                    }
                    Some(Completion::Sent { .. }) => ends[n].1 += 1,
                    Some(other) => panic!("{other:?}"),
                    None => {}
                }
            }
            (ends == [(1, 1); 3]).then_some(())
        });
        assert_eq!(done, Some(()), "{ends:?}");
    }
    let counters = sets.iter_mut().zip(ids).map(|(set, id)| set.endpoint(id).unwrap().counters());
    setting.judge(&counters.collect::<Vec<_>>());
}

/// Everything at once, in an order that chance gives: messages asked for before and after, writes, reads and atomic operations between
/// three endpoints.
pub fn rdm_stress<B: PciFunction>(setting: Setting<B>) {
    const OPERATIONS: usize = 150;
    let mut ends = Ends::open(setting, 3);
    let mut chance = Chance::new(99);
    let mut below = |most: usize| chance.below(most as u64) as usize;
    let windows: Vec<_> = (0..3).map(|end| ends.window(end, 1 << 18, Access::ATOMIC)).collect();
    let sum = AtomicOp::new(Op::Sum, Datatype::Uint64).unwrap();
    let (mut expected, mut sums) = ([0; 3], [0u64; 3]);
    for n in 0..OPERATIONS as u64 {
        let (from, step, len) = (below(3), 1 + below(2), LENGTHS[below(LENGTHS.len())]);
        let to = (from + step) % 3;
        match below(5) {
            kind @ 0..2 => {
                let message = Outgoing::new(ends.address(to), data(n, len), n);
                let message = Outgoing { tag: Some(n), silent: true, ..message };
                // Asked for before it is sent, or after.
                if kind == 0 {
                    ends.receive(to, Some(n), len, n);
                }
                ends.send(from, message);
                if kind == 1 {
                    ends.receive(to, Some(n), len, n);
                }
                expected[to] += 1;
            }
            2 => {
                ends.write(from, &Write::new(windows[to].at(64), data(n, len), n));
                expected[from] += 1;
            }
            3 => {
                ends.read(from, &Read::new(windows[to].at(64), vec![0; len], n));
                expected[from] += 1;
            }
            _ => {
                ends.atomic(from, &Atomic::update(windows[to].at(0), sum, n.to_le_bytes().to_vec(), n));
                sums[to] += n;
                expected[from] += 1;
            }
        }
    }
    for (end, expected) in expected.into_iter().enumerate() {
        for _ in 0..expected {
            match ends.next(end) {
                Completion::Received { context, tag, buffer, .. } => {
                    assert_eq!(tag, Some(context));
                    assert!(buffer == data(context, buffer.len()), "message {context}");
                }
                Completion::Written { .. } | Completion::Read { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    ends.quiet();
    let words: Vec<_> = windows.iter().map(|window| window.region.memory().read_u64(0)).collect();
    assert_eq!(words, sums);
}

/// The patterns of runmultinode on five ranks: each to all, ring, to the first, from the first; by messages and by writes.
pub fn multinode<B: PciFunction>(setting: Setting<B>) {
    const RANKS: usize = 5;
    type Pattern = (&'static str, fn(usize, usize) -> bool);
    let patterns: [Pattern; 4] = [
        ("full mesh", |from, to| from != to),
        ("ring", |from, to| to == (from + 1) % RANKS),
        ("gather", |from, to| from != 0 && to == 0),
        ("broadcast", |from, to| from == 0 && to != 0),
    ];
    let mut ends = Ends::open(setting, RANKS);
    let windows: Vec<_> = (0..RANKS).map(|end| ends.window(end, RANKS << 15, Access::REMOTE_WRITE)).collect();
    for (name, is_edge) in patterns {
        let all = (0..RANKS).flat_map(|from| (0..RANKS).map(move |to| (from, to)));
        let edges: Vec<_> = all.filter(|(from, to)| is_edge(*from, *to)).collect();
        for len in [40, 9000, 30_000] {
            let seed = |from: usize, to: usize| (from * 10 + to + len) as u64;
            for &(from, to) in &edges {
                ends.receive(to, Some(from as u64), len, from as u64);
            }
            for &(from, to) in &edges {
                let message = Outgoing::new(ends.address(to), data(seed(from, to), len), 0);
                ends.send(from, Outgoing { tag: Some(from as u64), silent: true, ..message });
            }
            for &(_, to) in &edges {
                let (context, message) = ends.received(to);
                assert!(message.bytes == data(seed(context as usize, to), len), "{name}: {context} to {to}");
            }
            for &(from, to) in &edges {
                let bytes = data(seed(from, to) + 1, len);
                let write = Write { data: Some(from as u32), ..Write::new(windows[to].at(from << 15), bytes, 0) };
                ends.write(from, &Write { silent: true, ..write });
            }
            for &(_, to) in &edges {
                let Completion::RemoteWrite { data: from, .. } = ends.next(to) else { panic!("{name}") };
                let bytes = windows[to].bytes((from as usize) << 15, len);
                assert!(bytes == data(seed(from as usize, to) + 1, len), "{name}: {from} to {to}");
            }
        }
    }
    ends.quiet();
}

/// Every way to send with every way to receive, at every length: the product that fi_ubertest goes through.
pub fn ubertest<B: PciFunction>(setting: Setting<B>) {
    let mut ends = Ends::open_with(setting, 2, |config| opx_stack::Config { lent_buffers: 8, ..config });
    let (from, to) = (ends.address(0), ends.address(1));
    let kinds: [fn(Vec<u8>) -> Buffer; 4] = [
        Buffer::from,
        |bytes| {
            let memory = opx_bus::SharedMem::new(bytes.len().max(1)).unwrap();
            memory.write(0, &bytes);
            opx_stack::SharedRange::new(memory, 0, bytes.len()).unwrap().into()
        },
        |bytes| bytes.chunks(1000).map(|part| Buffer::from(part.to_vec())).collect(),
        |bytes| View::up_to(bytes.len()).into(),
    ];
    let mut context = 0;
    for len in LENGTHS {
        // What is lent can't be sent before it has been received.
        for source in &kinds[..3] {
            for target in &kinds {
                for (tag, told) in [(None, None), (Some(5), None), (None, Some(6)), (Some(7), Some(8))] {
                    context += 1;
                    let bytes = data(context, len);
                    let room = target(vec![0; len]);
                    match tag {
                        Some(tag) => {
                            ends[1].tag_receive(Pattern { source: Some(from), ..Pattern::exact(tag) }, room, context)
                        }
                        None => ends[1].receive(Some(from), room, context),
                    }
                    .unwrap();
                    let message = Outgoing { tag, data: told, ..Outgoing::new(to, source(bytes.clone()), context) };
                    ends.send(0, message);
                    let message = Message { tag, data: told, source: from, bytes };
                    assert_eq!(ends.received(1), (context, message));
                    assert_eq!(ends.sent(0), context);
                }
            }
        }
    }
    ends.quiet();
}
