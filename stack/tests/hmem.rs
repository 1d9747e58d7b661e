//! OPX's counters of operations on memory of devices: each counts its own, exactly, and nothing else's.

mod common;

use common::device::{Fake, GPU};
use common::{Bench, bench};
use opx_bus::SharedMem;
use opx_emu::EmuBus;
use opx_stack::atomics::{AtomicOp, Datatype, Op};
use opx_stack::observe::counters::absent;
use opx_stack::regions::{Access, Registration};
use opx_stack::{
    Address, Atomic, Buffer, Completion, Config, Endpoint, MemoryKind, OperationError, Outgoing, Pattern, Remote,
    SendError, SharedMemory, Write,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Counts = BTreeMap<&'static str, u64>;

fn counts(endpoint: &Endpoint<EmuBus>) -> Counts {
    let named = endpoint.named_counters().filter(|(group, ..)| *group == "hmem");
    named.map(|(_, name, value)| (name, value)).collect()
}

/// What has moved at one end, and by how much.
fn moved(before: &Counts, after: &Counts) -> Vec<(String, u64)> {
    let moved = after.iter().map(|(name, value)| ((*name).to_owned(), value - before[name]));
    moved.filter(|(_, by)| *by > 0).collect()
}

/// Both media, by OPX's names for them.
fn media(what: &str) -> [(&'static str, Bench); 2] {
    let job = format!("hmem-{what}-{}", std::process::id());
    [("hfi", SharedMemory::off()), ("intranode", SharedMemory::of_job(job))]
        .map(|(medium, shared_memory)| (medium, bench(Config { shared_memory, ..Config::default() })))
}

/// What moved at both ends while something happened.
fn during(bench: &mut Bench, happens: impl FnOnce(&mut Bench)) -> [Vec<(String, u64)>; 2] {
    let before = [counts(&bench.a), counts(&bench.b)];
    happens(bench);
    [moved(&before[0], &counts(&bench.a)), moved(&before[1], &counts(&bench.b))]
}

fn is_sent(completion: &Completion) -> bool {
    matches!(completion, Completion::Sent { .. })
}

fn is_received(completion: &Completion) -> bool {
    matches!(completion, Completion::Received { .. })
}

/// Sends a message into a receive that was posted before, or afterwards.
fn pass(bench: &mut Bench, tag: Option<u64>, [from, into]: [Buffer; 2], early: bool) {
    let to = bench.b.address();
    let (mut into, unexpected) = (Some(into), bench.b.counters().unexpected_messages);
    if early {
        bench.a.send_message(Outgoing { tag, ..Outgoing::new(to, from.clone(), 2) }).unwrap();
        bench.run(|bench| bench.b.counters().unexpected_messages > unexpected);
    }
    match tag {
        Some(tag) => bench.b.tag_receive(Pattern::exact(tag), into.take().unwrap(), 1).unwrap(),
        None => bench.b.receive(None, into.take().unwrap(), 1).unwrap(),
    };
    if !early {
        bench.a.send_message(Outgoing { tag, ..Outgoing::new(to, from, 2) }).unwrap();
    }
    assert!(is_received(&bench.next_at_b()) && is_sent(&bench.next_at_a()));
}

/// Two pieces of a device's memory.
fn two(fake: &Arc<Fake>, len: usize) -> Buffer {
    [fake.range(7, len / 2), fake.range(70_000, len - len / 2)].into_iter().collect()
}

/// As they are to be told: in the order of their names.
fn told(names: &[(&str, u64)]) -> Vec<(String, u64)> {
    let mut told: Vec<_> = names.iter().map(|(name, by)| ((*name).to_owned(), *by)).collect();
    told.sort();
    told
}

#[test]
fn messages_in_memory_of_devices_are_counted_as_opx_does() {
    let mut all = BTreeSet::new();
    for (medium, mut bench) in media("messages") {
        let (from, into) = (Fake::new(GPU, false), Fake::new(GPU, false));
        let wire = medium == "hfi";
        for tag in [Some(5), None] {
            let kind = if tag.is_some() { "tag" } else { "msg" };
            let posted = if tag.is_some() { "posted_recv_tag" } else { "posted_recv_msg" };
            let several = if tag.is_some() { ("mp_eager", None) } else { ("rzv", Some("dput_rzv_pio")) };
            // By length: how it goes, and how its data does when it was offered.
            let mut lengths = vec![(10, "inject", None), (3000, "eager", None)];
            if wire {
                lengths.push((12_000, several.0, several.1));
            }
            lengths.push((100_000, "rzv", wire.then_some("dput_rzv_sdma")));
            for (len, how, data) in lengths {
                let name = |side: &str, how: &str| format!("{medium}.kind[{kind}].{side}.{how}");
                let (send, recv) = (name("send", how), name("recv", how));
                let vector = match how {
                    "mp_eager" => send.clone(),
                    "rzv" => name("send", "rzv_noncontig"),
                    _ => name("send", "eager_noncontig"),
                };
                let sender = |send: &str| {
                    let data = data.map(|data| (data, 1));
                    told(&[(send, 1)].into_iter().chain(data).collect::<Vec<_>>())
                };
                let receiver = told(&[(posted, 1), (&recv, 1)]);
                for early in [false, true] {
                    let what = format!("{len} bytes by {send}, early: {early}");
                    let host = || Buffer::from(vec![0; len]);
                    let each = [
                        ([from.range(7, len), into.range(9, len)], sender(&send), receiver.clone()),
                        ([two(&from, len), two(&into, len)], sender(&vector), receiver.clone()),
                        ([from.range(7, len), host()], sender(&send), vec![]),
                        ([host(), into.range(9, len)], vec![], receiver.clone()),
                        ([host(), host()], vec![], vec![]),
                    ];
                    for (buffers, at_a, at_b) in each {
                        let got = during(&mut bench, |bench| pass(bench, tag, buffers, early));
                        all.extend(got.iter().flatten().map(|(name, _)| name.clone()));
                        assert_eq!(got, [at_a, at_b], "{what}");
                    }
                }
            }
        }
        bench.quiet();
    }
    // Nothing of messages is left out that can be: what is missing a peer would have to send that isn't one of ours.
    let names = counts(&bench(Config::default()).a).into_keys().filter(|name| name.contains("kind["));
    let missing: Vec<_> = names.filter(|name| !all.contains(*name)).collect();
    assert_eq!(missing, ["hfi.kind[msg].recv.mp_eager"]);
}

#[test]
fn tids_for_memory_of_devices_are_counted() {
    let mut bench = bench(Config::default());
    let (from, into) = (Fake::new(GPU, true), Fake::new(GPU, true));
    let host = || Buffer::from(SharedMem::new(64 << 10).unwrap());
    let cases = [
        (from.range(4096, 64 << 10), into.range(8192, 64 << 10), true, true),
        (from.range(4096, 64 << 10), host(), true, false),
        (host(), into.range(8192, 64 << 10), false, true),
    ];
    for (out, back, at_a, at_b) in cases {
        let got = during(&mut bench, |bench| pass(bench, Some(1), [out, back], false));
        let sent = told(&[("hfi.kind[tag].send.rzv", 1), ("dput_rzv_tid", 1)]);
        let received = told(&[("hfi.kind[tag].recv.rzv", 1), ("posted_recv_tag", 1), ("tid_update", 1)]);
        let expected = [(at_a, sent), (at_b, received)].map(|(is, told)| if is { told } else { vec![] });
        assert_eq!(got, expected);
    }
    assert_eq!(bench.b.counters().expected.rts_tid_setup_success, 3);
}

#[test]
fn what_is_asked_of_peers_is_counted_by_the_buffers_here() {
    let sum = AtomicOp::new(Op::Sum, Datatype::Uint64).unwrap();
    let read = AtomicOp::new(Op::Read, Datatype::Uint64).unwrap();
    let swap = AtomicOp::new(Op::Cswap, Datatype::Uint64).unwrap();
    for (medium, mut bench) in media("requests") {
        let fake = Fake::new(GPU, false);
        let region = bench.b.regions().register(Registration::of(SharedMem::new(8192).unwrap(), Access::ATOMIC));
        let region = region.unwrap();
        let at = Remote { peer: bench.b.address(), key: region.key(), place: 64 };
        let (device, host) = (|len| fake.range(8, len), |len| Buffer::from(vec![0; len]));
        let ask = |bench: &mut Bench, what: &dyn Fn(&mut Endpoint<EmuBus>), ends: fn(&Completion) -> bool| {
            let [here, there] = during(bench, |bench| {
                what(&mut bench.a);
                let end = bench.next_at_a();
                assert!(ends(&end), "{end:?}");
            });
            assert_eq!(there, vec![], "a target's memory is the host's");
            here
        };
        let written: fn(&Completion) -> bool = |it| matches!(it, Completion::Written { .. });
        let fetched: fn(&Completion) -> bool = |it| matches!(it, Completion::Fetched { .. });
        let is_read: fn(&Completion) -> bool = |it| matches!(it, Completion::Read { .. });
        let one = |name: &str| told(&[(&format!("{name}_{medium}"), 1)]);

        // The first one decides how the peer is reached.
        for len in [8, 5000] {
            assert_eq!(ask(&mut bench, &|a| a.write(at, device(len), 1).unwrap(), written), one("rma_write"));
            assert_eq!(ask(&mut bench, &|a| a.read(at, device(len), 1).unwrap(), is_read), one("rma_read"));
            assert_eq!(ask(&mut bench, &|a| a.write(at, host(len), 1).unwrap(), written), []);
            assert_eq!(ask(&mut bench, &|a| a.read(at, host(len), 1).unwrap(), is_read), []);
        }
        for (operand, result) in [(device(8), host(8)), (host(8), device(8))] {
            let fetch = |a: &mut Endpoint<_>| {
                a.atomic(Atomic::fetch(at, sum, operand.clone(), result.clone(), 1)).unwrap();
            };
            assert_eq!(ask(&mut bench, &fetch, fetched), one("rma_atomic_fetch"));
        }
        let fetch = |a: &mut Endpoint<_>| a.atomic(Atomic::fetch(at, read, host(0), device(8), 1)).unwrap();
        assert_eq!(ask(&mut bench, &fetch, fetched), one("rma_atomic_fetch"));
        for (operand, compare) in [(device(8), host(8)), (host(8), device(8))] {
            let compare = |a: &mut Endpoint<_>| {
                a.atomic(Atomic::compare(at, swap, operand.clone(), compare.clone(), host(8), 1)).unwrap();
            };
            assert_eq!(ask(&mut bench, &compare, fetched), one("rma_atomic_cmp_fetch"));
        }
        // OPX counts none of these.
        let update = |a: &mut Endpoint<_>| a.atomic(Atomic::update(at, sum, device(8), 1)).unwrap();
        assert_eq!(ask(&mut bench, &update, written), []);
        let with_data =
            |a: &mut Endpoint<_>| a.write_with(Write { data: Some(1), ..Write::new(at, device(8), 1) }).unwrap();
        assert_eq!(ask(&mut bench, &with_data, written), []);
        let host_only = |a: &mut Endpoint<_>| a.atomic(Atomic::fetch(at, sum, host(8), host(8), 1)).unwrap();
        assert_eq!(ask(&mut bench, &host_only, fetched), []);
    }
}

/// Managed memory is the host's; what is refused, has no bytes or doesn't fit isn't counted.
#[test]
fn what_isnt_in_memory_of_devices_or_doesnt_get_there_isnt_counted() {
    for (medium, mut bench) in media("others") {
        let managed = Fake::new(MemoryKind::Managed, false);
        let fake = Fake::new(GPU, false);
        for len in [10, 3000, 12_000, 100_000] {
            let buffers = [managed.range(7, len), managed.range(9, len)];
            assert_eq!(during(&mut bench, |bench| pass(bench, Some(1), buffers, false)), [vec![], vec![]]);
            let too_small = during(&mut bench, |bench| {
                let to = bench.b.address();
                bench.b.tag_receive(Pattern::exact(1), fake.range(0, len - 1), 1).unwrap();
                bench.a.tag_send(to, 1, vec![0; len], 2).unwrap();
                let end = bench.next_at_b();
                assert!(matches!(end, Completion::Failed { error: OperationError::Truncated { .. }, .. }), "{end:?}");
                assert!(is_sent(&bench.next_at_a()));
            });
            assert_eq!(too_small, [vec![], told(&[("posted_recv_tag", 1)])], "{len} bytes by {medium}");
        }
        let empty = during(&mut bench, |bench| pass(bench, Some(1), [fake.range(0, 0), fake.range(0, 0)], false));
        assert_eq!(empty, [vec![], told(&[("posted_recv_tag", 1)])]);
    }
    let mut bench = bench(Config { slots: 1, ..Config::default() });
    let (fake, to): (_, Address) = (Fake::new(GPU, false), bench.b.address());
    bench.a.tag_send(to, 1, vec![1], 1).unwrap();
    let refused = during(&mut bench, |bench| {
        for len in [10, 3000, 12_000, 100_000] {
            let refused = bench.a.tag_send(to, 2, fake.range(7, len), 2).unwrap_err();
            assert_eq!(refused.error, SendError::Again(to), "{len} bytes");
        }
    });
    assert_eq!(refused, [vec![], vec![]]);
}

#[test]
fn what_is_absent_has_a_reason_of_its_own() {
    let absent: BTreeMap<_, _> = absent().filter(|it| it.group == "hmem").map(|it| (it.name, it.why)).collect();
    assert_eq!(absent.len(), 7);
    assert_eq!(absent["tid_recv"], "OPX has the name and counts nothing under it");
}
