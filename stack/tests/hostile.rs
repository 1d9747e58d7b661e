//! Packets that no honest peer sends, written by hand through a send context of the same adapter.

use opx_bus::{PciFunction, SharedMem};
use opx_defs::units::{Blocks, Lid, Psn, Vl};
use opx_defs::wire::opx::{
    Answer, Atomic, Dput, DputOp, Fetch, FlowKey, Header, Iov, Padding, RmaCts, RmaOp, RmaRts, Route, RzvCts, RzvOp,
    Ud, UdOp,
};
use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_pio::{Head, PioSender};
use opx_stack::regions::{Access, MemoryRegion, Registration};
use opx_stack::{Address, Asked, Completion, Config, Endpoint, Remote, Write};
use std::time::Duration;

/// The context that the forged packets say they are from; it belongs to nobody.
const NOBODY: u8 = 77;

/// An endpoint, and somebody who writes what he likes.
struct Bench {
    hfi: Hfi<EmuBus>,
    endpoint: Endpoint<EmuBus>,
    forger: PioSender<EmuBus>,
    /// The number of nobody's next packet.
    psn: Psn,
}

fn bench() -> Bench {
    bench_with(Config::default())
}

fn bench_with(config: Config) -> Bench {
    let lab = Lab::new(Pacing::Virtual);
    let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    let endpoint = Endpoint::open(&hfi, config).unwrap();
    let forger = PioSender::new(hfi.send_context(Blocks(64)).unwrap());
    Bench { hfi, endpoint, forger, psn: Psn::new(0) }
}

impl Bench {
    fn nobody(&self) -> Address {
        Address { rx: NOBODY, ..self.endpoint.address() }
    }

    /// The way from nobody to the endpoint.
    fn route(&self) -> Route {
        let to = self.endpoint.address();
        self.hfi.route(NOBODY, to.lid, to.rx)
    }

    /// Sends a packet and lets the endpoint take it.
    fn forge(&mut self, header: &Header, payload: &[u8]) {
        let before = self.endpoint.counters().packets_in;
        self.forger.send(&Head::new(header.pbc(Vl(0)), header), payload).unwrap();
        let limit = self.hfi.bus().now() + Duration::from_secs(1);
        while self.endpoint.counters().packets_in == before {
            assert!(self.hfi.bus().now() < limit, "it didn't arrive");
            if !self.endpoint.progress().unwrap() {
                self.hfi.bus().relax();
            }
        }
        self.endpoint.progress().unwrap();
    }
}

impl Bench {
    /// Sends nobody's next packet and lets the endpoint take it, if it wants to.
    fn next(&mut self, mut header: Header, payload: &[u8]) {
        header.set_psn(self.psn);
        let no_room = self.endpoint.counters().no_room;
        self.forge(&header, payload);
        if self.endpoint.counters().no_room == no_room {
            self.psn = self.psn.next();
        }
    }

    fn data(&mut self, dput: Dput, payload: &[u8]) {
        let mut payload = payload.to_vec();
        payload.resize(payload.len().next_multiple_of(64), 0xaa);
        let header = dput.encode(&self.route(), Padding::Block).unwrap();
        self.next(header, &payload);
    }

    fn put(&mut self, atomic: Atomic, key: u64, place: u64, len: usize) {
        let dput = Dput { op: DputOp::Put, atomic, name: key, place, len: len as u16, ack_req: false };
        self.data(dput, &vec![0xaa; len]);
    }

    fn fetch(&mut self, atomic: Atomic, key: u64, place: u64, len: usize, compare: bool) {
        let bytes = vec![0xaa; len];
        let fetch = Fetch { rbuf: 0, request: 1, operand: &bytes, compare: compare.then_some(&bytes) };
        let mut payload = vec![0; 8192];
        let dput = fetch.encode(atomic, key, place, &mut payload).unwrap();
        self.data(dput, &payload[..dput.len.into()]);
    }

    fn get(&mut self, atomic: Atomic, key: u64, place: u64, len: u64) {
        let iov = Iov { sbuf: place, bytes: len, ..Iov::default() };
        let cts = RmaCts { op: RmaOp::Get, atomic, request: 1, target: key, iov };
        let mut payload = [0; 64];
        let (header, len) = cts.encode(&self.route(), &mut payload).unwrap();
        self.next(header, &payload[..len]);
    }

    fn offer(&mut self, atomic: Atomic, key: u64, place: u64, len: u64) {
        let iov = Iov { rbuf: place, bytes: len, ..Iov::default() };
        let rts = RmaRts { cq_data: 7, atomic, key, request: 1, iov };
        let mut payload = [0; 64];
        let (header, len) = rts.encode(&self.route(), &mut payload).unwrap();
        self.next(header, &payload[..len]);
    }

    fn refused(&self) -> (u64, u64, u64, u64) {
        let counters = self.endpoint.counters();
        (counters.refused_keys, counters.refused_access, counters.refused_places, counters.refused_atomics)
    }

    /// 256 bytes in the middle of 4096, of which peers may reach no others.
    fn region(&self, access: Access) -> (MemoryRegion, SharedMem) {
        let memory = SharedMem::new(4096).unwrap();
        let registration = Registration { range: 1024..1280, ..Registration::of(memory.clone(), access) };
        (self.endpoint.regions().register(registration).unwrap(), memory)
    }
}

fn is_untouched(memory: &SharedMem) -> bool {
    let mut bytes = [0; 4096];
    memory.read(0, &mut bytes);
    bytes == [0; 4096]
}

const UINT64_SUM: Atomic = Atomic { datatype: 7, op: 2 };
const UINT64_READ: Atomic = Atomic { datatype: 7, op: 10 };
const UINT64_CSWAP: Atomic = Atomic { datatype: 7, op: 12 };

#[test]
fn packets_that_ask_for_memory_get_only_what_was_registered_for_them() {
    let mut bench = bench();
    let (all, memory) = bench.region(Access::ATOMIC);
    let key = all.key();
    // Keys that never were, and one that was.
    let (closed, _) = bench.region(Access::ATOMIC);
    let old = closed.key();
    drop(closed);
    for key in [0, 1, key ^ 1, key.swap_bytes(), old, u64::MAX] {
        bench.put(Atomic::NONE, key, 0, 8);
        bench.put(UINT64_SUM, key, 0, 8);
        bench.get(Atomic::NONE, key, 0, 8);
        bench.get(UINT64_READ, key, 0, 8);
        bench.fetch(UINT64_SUM, key, 0, 8, false);
        bench.fetch(UINT64_CSWAP, key, 0, 8, true);
        bench.offer(Atomic::NONE, key, 0, 8);
    }
    assert_eq!(bench.refused(), (42, 0, 0, 0));
    let outside = [(249, 8), (256, 8), (257, 8), (u64::MAX, 8), (u64::MAX - 7, 8), (u64::MAX - 300, 264), (0, 264)];
    for (place, len) in outside {
        bench.put(Atomic::NONE, key, place, len);
        bench.put(UINT64_SUM, key, place, len);
        bench.get(Atomic::NONE, key, place, len as u64);
        bench.get(UINT64_READ, key, place, len as u64);
        bench.fetch(UINT64_SUM, key, place, len, false);
        bench.fetch(UINT64_CSWAP, key, place, len, true);
        bench.offer(Atomic::NONE, key, place, len as u64);
    }
    // Lengths that no packet has.
    for len in [1 << 32, u64::MAX, 1 << 63] {
        bench.get(Atomic::NONE, key, 0, len);
        bench.get(UINT64_READ, key, 8, len);
        bench.offer(Atomic::NONE, key, 1, len);
    }
    assert_eq!(bench.refused(), (42, 0, 58, 0));
    for access in [Access::REMOTE_READ, Access::REMOTE_WRITE, Access::LOCAL_READ | Access::LOCAL_WRITE] {
        let (region, memory) = bench.region(access);
        let before = bench.refused().1;
        bench.fetch(UINT64_SUM, region.key(), 0, 8, false);
        bench.fetch(UINT64_CSWAP, region.key(), 0, 8, true);
        if !access.intersects(Access::REMOTE_READ) {
            bench.get(Atomic::NONE, region.key(), 0, 8);
            bench.get(UINT64_READ, region.key(), 0, 8);
            bench.fetch(UINT64_READ, region.key(), 0, 8, false);
        }
        if !access.intersects(Access::REMOTE_WRITE) {
            bench.put(Atomic::NONE, region.key(), 0, 8);
            bench.put(UINT64_SUM, region.key(), 0, 8);
            bench.offer(Atomic::NONE, region.key(), 0, 8);
            bench.offer(UINT64_SUM, region.key(), 0, 8);
        }
        let both = access.intersects(Access::LOCAL_READ);
        let more = if both {
            7
        } else if access == Access::REMOTE_READ {
            4
        } else {
            3
        };
        assert_eq!(bench.refused().1 - before, 2 + more, "{access}");
        assert!(is_untouched(&memory));
    }
    assert!(is_untouched(&memory));
    assert_eq!((bench.endpoint.counters().malformed, bench.endpoint.counters().replies), (0, 0));
    assert_eq!(bench.endpoint.poll_completion(), None);
    let told = std::iter::from_fn(|| bench.endpoint.poll_refusal()).count();
    assert_eq!(told, 64, "not all is kept");
}

#[test]
fn atomic_operations_that_do_not_exist_do_nothing() {
    let mut bench = bench();
    let (region, memory) = bench.region(Access::ATOMIC);
    let key = region.key();
    let wire = |datatype, op| Atomic { datatype, op };
    // No such number; one of a plain write; a pair that isn't; in a form that isn't.
    let never = [wire(14, 2), wire(7, 19), wire(255, 2), wire(7, 255), wire(254, 254), wire(10, 0), wire(8, 9)];
    for atomic in never {
        bench.put(atomic, key, 0, 32);
        bench.get(atomic, key, 0, 32);
        bench.fetch(atomic, key, 0, 32, false);
        bench.fetch(atomic, key, 0, 32, true);
        bench.offer(atomic, key, 0, 32);
    }
    assert_eq!(bench.refused(), (0, 0, 0, 35));
    bench.put(UINT64_READ, key, 0, 8);
    bench.put(UINT64_CSWAP, key, 0, 8);
    bench.get(UINT64_SUM, key, 0, 8);
    bench.get(UINT64_CSWAP, key, 0, 8);
    bench.fetch(UINT64_CSWAP, key, 0, 8, false);
    bench.fetch(UINT64_SUM, key, 0, 8, true);
    bench.offer(UINT64_READ, key, 0, 8);
    // Elements that aren't whole.
    bench.put(UINT64_SUM, key, 0, 7);
    bench.get(UINT64_READ, key, 0, 12);
    bench.fetch(UINT64_SUM, key, 0, 9, false);
    bench.fetch(UINT64_CSWAP, key, 0, 15, true);
    bench.offer(UINT64_SUM, key, 0, 9);
    assert_eq!(bench.refused(), (0, 0, 0, 47));
    // Operands and what they are compared with of two lengths, none at all, and a request that isn't.
    for (op, len) in [(DputOp::AtomicCompareFetch, 31), (DputOp::AtomicFetch, 16), (DputOp::AtomicFetch, 3)] {
        let dput = Dput { op, atomic: UINT64_SUM, name: key, place: 0, len, ack_req: false };
        bench.data(dput, &[0xaa; 64]);
    }
    for op in [DputOp::Fence, DputOp::Ipc, DputOp::RzvTruncated] {
        bench.data(Dput { op, atomic: Atomic::NONE, name: key, place: 0, len: 8, ack_req: false }, &[0xaa; 64]);
    }
    assert_eq!(bench.endpoint.counters().malformed, 6);
    assert!(is_untouched(&memory));
    assert_eq!(bench.endpoint.counters().replies, 0);
}

#[test]
fn a_long_atomic_read_that_ends_amid_an_element_is_not_begun() {
    let mut bench = bench();
    // Too much for one packet, so that it is read as it is sent.
    let memory = SharedMem::new(1 << 16).unwrap();
    let region = bench.endpoint.regions().register(Registration::of(memory, Access::ATOMIC)).unwrap();
    bench.get(UINT64_READ, region.key(), 0, 20_004);
    assert_eq!((bench.refused(), bench.endpoint.counters().replies), ((0, 0, 0, 1), 0));
    assert_eq!(bench.endpoint.poll_refusal().map(|refusal| refusal.asked), Some(Asked::Atomic));
    bench.get(UINT64_READ, region.key(), 0, 20_000);
    assert_eq!((bench.refused(), bench.endpoint.counters().replies), ((0, 0, 0, 1), 1));
}

#[test]
fn a_long_atomic_read_is_not_kept_for_its_peer() {
    let mut bench = bench_with(Config { slots: 1, ..Config::default() });
    let memory = SharedMem::new(1 << 16).unwrap();
    let region = bench.endpoint.regions().register(Registration::of(memory, Access::ATOMIC)).unwrap();
    // Its first packet takes the only slot until that is acknowledged.
    bench.get(UINT64_READ, region.key(), 0, 20_000);
    assert_eq!((bench.refused(), bench.endpoint.counters().replies), ((0, 0, 0, 0), 1));
    drop(region);
    let me = bench.endpoint.address();
    let key = FlowKey { slid: me.lid, dlid: me.lid, src_rx: me.rx, dst_rx: NOBODY };
    let ack = Ud { op: UdOp::Ack, key, start: Psn::new(0), count: 1 };
    bench.forge(&ack.encode(&bench.route()), &[]);
    let limit = bench.hfi.bus().now() + Duration::from_secs(1);
    while bench.refused() != (1, 0, 0, 0) {
        assert!(bench.hfi.bus().now() < limit, "the rest went out of memory of its own");
        if !bench.endpoint.progress().unwrap() {
            bench.hfi.bus().relax();
        }
    }
}

#[test]
fn who_never_takes_answers_is_owed_few() {
    let mut bench = bench();
    let (region, _memory) = bench.region(Access::ATOMIC);
    let key = region.key();
    let most = Config::default().answers as u64;
    for n in 0..2000 {
        match n % 3 {
            0 => bench.get(Atomic::NONE, key, 0, 256),
            1 => bench.fetch(UINT64_SUM, key, 0, 8, false),
            _ => bench.offer(Atomic::NONE, key, 0, 8),
        }
    }
    let counters = bench.endpoint.counters();
    assert!(counters.no_room > 0, "{counters:?}");
    // Offers are owed their data as well.
    assert!(counters.replies <= 2 * most + 2, "{counters:?}");
}

#[test]
fn answers_that_nobody_asked_for_write_nothing() {
    let mut bench = bench();
    let remote = Remote { peer: bench.nobody(), key: 5, place: 0 };
    bench.endpoint.read(remote, vec![0; 100], 1).unwrap();
    bench.endpoint.write_with(Write { data: Some(9), ..Write::new(remote, vec![0; 100], 2) }).unwrap();
    // The first of its kind: bits that name the kind, index 0 of the first generation; the write is the second.
    let read = 1 << 32 | 1 << 30;
    let answer = |bench: &mut Bench, name: u64, place: u64, len: u16| {
        let dput = Dput { op: DputOp::Get, atomic: Atomic::ANSWER, name, place, len, ack_req: false };
        bench.data(dput, &vec![0xaa; len.into()]);
    };
    for name in [0, 1, 1 << 32, 1 << 32 | 2 << 30, 1 << 32 | 3 << 30, read + 2, read | 1 << 33, u64::MAX, read + 1] {
        answer(&mut bench, name, 0, 8);
    }
    assert_eq!((bench.endpoint.counters().stale, bench.endpoint.counters().malformed), (9, 0));
    for (place, len) in [(93, 8), (100, 1), (u64::MAX, 8), (u64::MAX - 7, 8), (0, 101), (1 << 32, 8)] {
        answer(&mut bench, read, place, len);
    }
    assert_eq!(bench.endpoint.counters().malformed, 6);
    // A grant of what was not offered, to whom it wasn't, or not all of it.
    let grant = |bench: &mut Bench, request: u64, sbuf: u64, bytes: u64| {
        let cts = RmaCts {
            op: RmaOp::PutCq,
            atomic: Atomic::NONE,
            request,
            target: 3,
            iov: Iov { sbuf, bytes, ..Iov::default() },
        };
        let mut payload = [0; 64];
        let (header, len) = cts.encode(&bench.route(), &mut payload).unwrap();
        bench.next(header, &payload[..len]);
    };
    for name in [0, read, read + 2] {
        grant(&mut bench, name, 0, 100);
    }
    for (sbuf, bytes) in [(0, 99), (0, 101), (1, 100), (u64::MAX, 100), (0, 0)] {
        grant(&mut bench, read + 1, sbuf, bytes);
    }
    assert_eq!((bench.endpoint.counters().stale, bench.endpoint.counters().malformed), (12, 11));
    // The right one, in two pieces of which one comes twice: no more than was asked for is taken.
    answer(&mut bench, read, 0, 50);
    answer(&mut bench, read, 0, 51);
    assert_eq!(bench.endpoint.counters().malformed, 12);
    answer(&mut bench, read, 50, 50);
    let Some(Completion::Read { context: 1, buffer }) = bench.endpoint.poll_completion() else { panic!() };
    assert_eq!(buffer, vec![0xaa; 100]);
    grant(&mut bench, read + 1, 0, 100);
    grant(&mut bench, read + 1, 0, 100);
    assert_eq!(bench.endpoint.counters().stale, 13, "once is enough");
}

#[test]
fn data_of_a_write_with_completion_data_stays_in_its_place() {
    let mut bench = bench();
    let (region, memory) = bench.region(Access::ATOMIC);
    bench.offer(Atomic::NONE, region.key(), 8, 64);
    let landing = 1 << 32 | 2 << 30;
    let put = |bench: &mut Bench, atomic: Atomic, name: u64, place: u64, len: u16| {
        let dput = Dput { op: DputOp::PutCq, atomic, name, place, len, ack_req: false };
        bench.data(dput, &vec![0xaa; len.into()]);
    };
    for name in [0, 1 << 32, landing + 1, landing | 1 << 33] {
        put(&mut bench, Atomic::NONE, name, 8, 8);
    }
    for (place, len) in [(0, 8), (7, 8), (65, 8), (72, 1), (8, 65), (u64::MAX, 8), (1 << 32, 8)] {
        put(&mut bench, Atomic::NONE, landing, place, len);
    }
    put(&mut bench, UINT64_SUM, landing, 8, 8);
    assert_eq!((bench.endpoint.counters().stale, bench.endpoint.counters().malformed), (4, 8));
    assert!(is_untouched(&memory));
    put(&mut bench, Atomic::NONE, landing, 8, 40);
    put(&mut bench, Atomic::NONE, landing, 8, 40);
    assert_eq!(bench.endpoint.counters().malformed, 9, "more than is missing");
    assert_eq!(bench.endpoint.poll_completion(), None);
    put(&mut bench, Atomic::NONE, landing, 48, 24);
    let source = bench.nobody();
    assert_eq!(bench.endpoint.poll_completion(), Some(Completion::RemoteWrite { data: 7, source, len: 64 }));
    put(&mut bench, Atomic::NONE, landing, 48, 24);
    assert_eq!(bench.endpoint.counters().stale, 5);
    let mut bytes = [0; 4096];
    memory.read(0, &mut bytes);
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == if (1032..1096).contains(&at) { 0xaa } else { 0 }));
}

#[test]
fn an_answer_that_asks_for_bytes_outside_of_the_message_gets_none() {
    const LEN: u64 = 100_000;
    // The first bytes go with the offer, so that a multiple of 64 is left; a line more in case expected packets are wanted.
    const LEFT: u64 = (LEN / 64 - 1) * 64;
    let mut bench = bench();
    let nobody = bench.nobody();
    bench.endpoint.tag_send(nobody, 1, vec![7; LEN as usize], 5).unwrap();
    let sent = |bench: &Bench| bench.endpoint.sdma_counters().packets + bench.endpoint.pio_counters().packets;
    let mut psn = Psn::new(0);
    let mut ask = |bench: &mut Bench, origin_counter: u64, sbuf: u64, bytes: u64| {
        let iov = Iov { rbuf: 0, sbuf, bytes, sbuf_device: 0, sbuf_iface: 0 };
        let answer = Answer::Send { op: RzvOp::Rzv, target_cookie: 1, iov, second: None };
        let mut payload = [0; 64];
        let (mut header, len) = RzvCts { origin_counter, answer }.encode(&bench.route(), &mut payload).unwrap();
        header.set_psn(psn);
        psn = psn.next();
        bench.forge(&header, &payload[..len]);
    };
    // The first operation of an endpoint: index 0 of the first generation.
    let handle = 1 << 32;
    let outside = [
        (LEN - 63, 64),
        (LEN, 1),
        (u64::MAX - 10, 64),
        (u64::MAX, u64::MAX),
        (LEN - LEFT - 1, LEFT + 2),
        (0, 0),
        (1 << 40, 64),
    ];
    for (n, (sbuf, bytes)) in outside.into_iter().enumerate() {
        ask(&mut bench, handle, sbuf, bytes);
        assert_eq!(bench.endpoint.counters().malformed, n as u64 + 1, "{bytes} bytes from {sbuf:#x}");
    }
    // A name that isn't known, an earlier and a later owner of the place.
    for other in [0, 1, handle + 1, 2 << 32, u64::MAX] {
        ask(&mut bench, other, 0, 64);
    }
    assert_eq!(bench.endpoint.counters().stale, 5);
    let offers = sent(&bench);
    assert!(offers >= 1);

    // All that is left, to its last byte, is what may be asked for; and not twice.
    ask(&mut bench, handle, LEN - LEFT, LEFT);
    assert_eq!((bench.endpoint.counters().malformed, bench.endpoint.counters().stale), (7, 5));
    bench.endpoint.progress().unwrap();
    assert!(sent(&bench) > offers + 10, "its data goes out");
    ask(&mut bench, handle, LEN - LEFT, 64);
    assert_eq!(bench.endpoint.counters().malformed, 8);
}

#[test]
fn an_acknowledgement_in_the_name_of_another_node_does_nothing() {
    let mut bench = bench();
    let me = bench.endpoint.address();
    let elsewhere = Address { lid: Lid(me.lid.0 + 1), rx: NOBODY };
    bench.endpoint.tag_send(elsewhere, 1, vec![7; 10], 5).unwrap();
    let key = FlowKey { slid: me.lid, dlid: elsewhere.lid, src_rx: me.rx, dst_rx: NOBODY };
    let ack = Ud { op: UdOp::Ack, key, start: Psn::new(0), count: 1 };
    // It says that it is from there and left from here.
    let forged = Route { primary_lid: elsewhere.lid, ..bench.route() };
    bench.forge(&ack.encode(&forged), &[]);
    assert_eq!(bench.endpoint.poll_completion(), None);
    assert_eq!((bench.endpoint.counters().malformed, bench.endpoint.reliability_counters().acks_received), (1, 0));
}
