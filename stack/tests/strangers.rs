//! Packets written by hand that meddle with what is another peer's, or that say more of a message than it has.

mod common;

use common::device::{Fake, GPU};
use opx_bus::{PciFunction, SharedMem};
use opx_defs::units::{Blocks, Lid, Psn, Vl};
use opx_defs::wire::opx::{
    Answer, Atomic, Dput, DputOp, Eager, FlowKey, Header, Immediate, Iov, MpFirst, MpNth, Padding, RmaCts, RmaOp,
    RmaRts, Route, RzvCts, RzvOp, RzvRts, Ud, UdOp,
};
use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_pio::{Head, PioSender};
use opx_stack::regions::{Access, Registration};
use opx_stack::{
    Address, Completion, Config, Endpoint, OperationError, Pattern, ReceiveError, Remote, SharedRange, View, Write,
};
use std::collections::HashMap;
use std::time::Duration;

/// The contexts of two peers that aren't there. The first one has something to do with the endpoint, the other one hasn't.
const PEER: u8 = 77;
const STRANGER: u8 = 78;

/// The first message, in or out, the first request and the first write with completion data that comes in: index 0 of the first
/// generation, and the bits that name the kind.
const MESSAGE: u64 = 1 << 32;
const REQUEST: u64 = 1 << 32 | 1 << 30;
const LANDING: u64 = 1 << 32 | 2 << 30;

/// An endpoint, and somebody who writes in the name of both peers.
struct Bench {
    hfi: Hfi<EmuBus>,
    endpoint: Endpoint<EmuBus>,
    forger: PioSender<EmuBus>,
    /// The numbers of their next packets.
    psns: HashMap<u8, Psn>,
}

impl Bench {
    fn new(config: Config) -> Self {
        let adapter = Lab::new(Pacing::Virtual).add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
        let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        let endpoint = Endpoint::open(&hfi, config).unwrap();
        let forger = PioSender::new(hfi.send_context(Blocks(256)).unwrap());
        Self { hfi, endpoint, forger, psns: HashMap::new() }
    }

    fn address(&self, rx: u8) -> Address {
        Address { rx, ..self.endpoint.address() }
    }

    /// The way from a peer to the endpoint.
    fn route(&self, from: u8) -> Route {
        let to = self.endpoint.address();
        self.hfi.route(from, to.lid, to.rx)
    }

    /// Runs the endpoint until `until` holds, at most a simulated minute.
    fn run(&mut self, until: impl Fn(&Endpoint<EmuBus>) -> bool) {
        let limit = self.hfi.bus().now() + Duration::from_secs(60);
        while !until(&self.endpoint) {
            assert!(self.hfi.bus().now() < limit, "no end: {:?}", self.endpoint.counters());
            if !self.endpoint.progress().unwrap() {
                self.hfi.bus().relax();
            }
        }
    }

    /// Sends a packet and lets the endpoint take it.
    fn forge(&mut self, header: &Header, payload: &[u8]) {
        let before = self.endpoint.counters().packets_in;
        self.forger.send(&Head::new(header.pbc(Vl(0)), header), payload).unwrap();
        self.run(|endpoint| endpoint.counters().packets_in > before);
        self.endpoint.progress().unwrap();
    }

    /// Sends a peer's next packet and lets the endpoint take it; gives its number.
    fn next(&mut self, from: u8, mut header: Header, payload: &[u8]) -> Psn {
        let psn = *self.psns.entry(from).or_insert(Psn::new(0));
        header.set_psn(psn);
        let no_room = self.endpoint.counters().no_room;
        self.forge(&header, payload);
        if self.endpoint.counters().no_room == no_room {
            self.psns.insert(from, psn.next());
        }
        psn
    }

    /// Bytes of 0xaa for a place of something.
    fn data(&mut self, from: u8, op: DputOp, name: u64, place: u64, len: usize) {
        let atomic = match op {
            DputOp::Rzv => Atomic::RENDEZVOUS,
            DputOp::Get => Atomic::ANSWER,
            _ => Atomic::NONE,
        };
        let dput = Dput { op, atomic, name, place, len: len as u16, ack_req: false };
        let header = dput.encode(&self.route(from), Padding::Block).unwrap();
        self.next(from, header, &vec![0xaa; len.next_multiple_of(64)]);
    }

    /// The offer of a write with completion data.
    fn offer_write(&mut self, from: u8, key: u64, len: u64) {
        let iov = Iov { bytes: len, ..Iov::default() };
        let rts = RmaRts { cq_data: 7, atomic: Atomic::NONE, key, request: 1, iov };
        let mut payload = [0; 64];
        let (header, len) = rts.encode(&self.route(from), &mut payload).unwrap();
        self.next(from, header, &payload[..len]);
    }

    /// The grant of a write with completion data.
    fn grant_write(&mut self, from: u8, request: u64, bytes: u64) {
        let iov = Iov { bytes, ..Iov::default() };
        let cts = RmaCts { op: RmaOp::PutCq, atomic: Atomic::NONE, request, target: 3, iov };
        let mut payload = [0; 64];
        let (header, len) = cts.encode(&self.route(from), &mut payload).unwrap();
        self.next(from, header, &payload[..len]);
    }

    /// The offer of a message of `len` bytes, of which none go along.
    fn offer_message(&mut self, from: u8, tag: u64, len: u64) {
        self.offer_with(from, tag, len, Immediate { bytes: &[], qwords: &[], block: None, tail: None });
    }

    /// The same, with what goes along.
    fn offer_with(&mut self, from: u8, tag: u64, len: u64, immediate: Immediate<'_>) {
        self.offer_of(from, tag, len, immediate, 7);
    }

    /// The same, of a sender that calls it so.
    fn offer_of(&mut self, from: u8, tag: u64, len: u64, immediate: Immediate<'_>, origin_counter: u64) {
        let rts = RzvRts {
            tag: Some(tag),
            cq_data: None,
            len,
            src_vaddr: 0x1_0000,
            src_device: 0,
            src_iface: 0,
            origin_counter,
            immediate,
        };
        let mut payload = [0; 256];
        let (header, len) = rts.encode(&self.route(from), &mut payload).unwrap();
        self.next(from, header, &payload[..len]);
    }

    /// What a receiver says of an offer.
    fn answer(&mut self, from: u8, origin_counter: u64, answer: Answer) {
        let mut payload = [0; 64];
        let (header, len) = RzvCts { origin_counter, answer }.encode(&self.route(from), &mut payload).unwrap();
        self.next(from, header, &payload[..len]);
    }

    /// The first 512 bytes of a message of several packets; gives the message's name.
    fn first(&mut self, from: u8, tag: u64, len: u16) -> Psn {
        self.first_of(from, Some(tag), len)
    }

    /// The same, with a tag or without.
    fn first_of(&mut self, from: u8, tag: Option<u64>, len: u16) -> Psn {
        let first = MpFirst { tag, cq_data: None, message_len: len, head: &[], data: &[0xaa; 512] };
        let mut payload = [0; 512];
        let (header, len) = first.encode(&self.route(from), &mut payload).unwrap();
        self.next(from, header, &payload[..len])
    }

    /// More of it.
    fn nth(&mut self, from: u8, uid: Psn, offset: u32, len: usize) {
        let (bytes, mut payload) = (vec![0xaa; len], vec![0; len]);
        let (header, len) = MpNth::of(uid, offset, &bytes).encode(&self.route(from), &mut payload).unwrap();
        self.next(from, header, &payload[..len]);
    }

    /// Packets that named nothing, and packets that made no sense.
    fn refused(&self) -> (u64, u64) {
        let counters = self.endpoint.counters();
        (counters.stale, counters.malformed)
    }

    fn completion(&mut self) -> Option<Completion> {
        self.endpoint.poll_completion()
    }

    /// Whether a message of `len` bytes has come whole.
    fn has_received(&mut self, context: u64, len: usize) -> bool {
        let Some(Completion::Received { context: told, buffer, .. }) = self.completion() else { return false };
        told == context && buffer == vec![0xaa; len]
    }
}

fn is_untouched(memory: &SharedMem) -> bool {
    let mut bytes = vec![0; memory.len()];
    memory.read(0, &mut bytes);
    bytes.iter().all(|byte| *byte == 0)
}

#[test]
fn requests_are_answered_and_granted_by_their_peer_alone() {
    let mut bench = Bench::new(Config::default());
    let peer = bench.address(PEER);
    bench.endpoint.read(Remote { peer, key: 5, place: 0 }, vec![0; 64], 1).unwrap();
    bench.data(STRANGER, DputOp::Get, REQUEST, 0, 64);
    assert_eq!((bench.refused(), bench.completion()), ((1, 0), None));
    bench.data(PEER, DputOp::Get, REQUEST, 0, 64);
    assert_eq!(bench.completion(), Some(Completion::Read { context: 1, buffer: vec![0xaa; 64].into() }));

    let write = Write { data: Some(9), ..Write::new(Remote { peer, key: 5, place: 0 }, vec![0; 64], 2) };
    bench.endpoint.write_with(write).unwrap();
    // The next generation of the same place.
    let write = REQUEST + (1 << 32);
    bench.grant_write(STRANGER, write, 64);
    assert_eq!(bench.refused(), (2, 0));
    bench.grant_write(PEER, write, 64);
    assert_eq!(bench.refused(), (2, 0));
}

#[test]
fn a_write_with_completion_data_that_was_not_offered_yet_cannot_be_granted() {
    let mut bench = Bench::new(Config { slots: 1, ..Config::default() });
    let peer = bench.address(PEER);
    // What goes before it takes the only slot, and is never acknowledged.
    bench.endpoint.inject(peer, b"first").unwrap();
    let write = Write { data: Some(9), ..Write::new(Remote { peer, key: 5, place: 0 }, vec![0; 64], 2) };
    bench.endpoint.write_with(write).unwrap();
    bench.grant_write(PEER, REQUEST, 64);
    assert_eq!(bench.refused(), (1, 0));
}

#[test]
fn what_one_peer_writes_with_completion_data_no_other_one_does() {
    let mut bench = Bench::new(Config::default());
    let memory = SharedMem::new(4096).unwrap();
    let region = bench.endpoint.regions().register(Registration::of(memory.clone(), Access::ATOMIC)).unwrap();
    bench.offer_write(PEER, region.key(), 64);
    bench.data(STRANGER, DputOp::PutCq, LANDING, 0, 64);
    assert_eq!((bench.refused(), bench.completion()), ((1, 0), None));
    assert!(is_untouched(&memory));
    bench.data(PEER, DputOp::PutCq, LANDING, 0, 64);
    let source = bench.address(PEER);
    assert_eq!(bench.completion(), Some(Completion::RemoteWrite { data: 7, source, len: 64 }));
}

#[test]
fn a_message_is_asked_for_by_its_receiver_alone() {
    let mut bench = Bench::new(Config::default());
    bench.endpoint.tag_send(bench.address(PEER), 1, vec![7; 100_000], 5).unwrap();
    let iov = Iov { sbuf: 1024, bytes: 64, ..Iov::default() };
    let ask = Answer::Send { op: RzvOp::Rzv, target_cookie: 1, iov, second: None };
    bench.answer(STRANGER, MESSAGE, ask);
    bench.answer(STRANGER, MESSAGE, Answer::Truncated);
    assert_eq!(bench.refused(), (2, 0));
    bench.answer(PEER, MESSAGE, ask);
    assert_eq!((bench.refused(), bench.completion()), ((2, 0), None));
}

#[test]
fn nothing_more_is_sent_of_a_message_that_does_not_fit() {
    let reliability = opx_reliability::Config { window: 2, ..opx_reliability::Config::default() };
    let mut bench = Bench::new(Config { reliability, ..Config::default() });
    bench.endpoint.tag_send(bench.address(PEER), 1, vec![7; 100_000], 5).unwrap();
    let iov = Iov { sbuf: 1024, bytes: 64_000, ..Iov::default() };
    bench.answer(PEER, MESSAGE, Answer::Send { op: RzvOp::Rzv, target_cookie: 1, iov, second: None });
    // A piece of it is under way behind the offer, and the peer takes no more before it has acknowledged something.
    let sent = |bench: &Bench| bench.endpoint.sdma_counters().packets;
    bench.run(|endpoint| endpoint.sdma_counters().packets > 0);
    let before = sent(&bench);
    bench.answer(PEER, MESSAGE, Answer::Truncated);
    acknowledge(&mut bench, PEER, 1);
    bench.endpoint.progress().unwrap();
    assert_eq!((sent(&bench), bench.completion()), (before, None));
    acknowledge(&mut bench, PEER, 2);
    bench.run(|endpoint| endpoint.is_quiet());
    assert!(matches!(bench.completion(), Some(Completion::Sent { context: 5, .. })));
    assert_eq!((sent(&bench), bench.refused()), (before, (0, 0)));
}

#[test]
fn a_sender_that_names_no_counter_is_not_told_that_its_message_does_not_fit() {
    // An OPX sender would follow a null pointer.
    let mut bench = Bench::new(Config::default());
    for (origin_counter, answers) in [(0, 0), (7, 1)] {
        bench.endpoint.tag_receive(Pattern::exact(1), vec![0; 10], 1).unwrap();
        let before = bench.endpoint.pio_counters().packets;
        bench.offer_of(PEER, 1, 1024, Immediate::of(&[], false), origin_counter);
        assert!(matches!(bench.completion(), Some(Completion::Failed { context: 1, .. })));
        bench.endpoint.progress().unwrap();
        assert_eq!(bench.endpoint.pio_counters().packets - before, answers, "counter {origin_counter}");
    }
}

#[test]
fn receives_whose_messages_are_under_way_count() {
    let mut bench = Bench::new(Config { operations: 2, ..Config::default() });
    for n in 0..2 {
        bench.endpoint.tag_receive(Pattern::exact(n), vec![0; 1024], n).unwrap();
        bench.offer_message(PEER, n, 1024);
    }
    let refused = bench.endpoint.tag_receive(Pattern::exact(2), vec![0; 1024], 2).unwrap_err();
    assert_eq!(refused.error, ReceiveError::Again(Pattern::exact(2)));
    bench.data(PEER, DputOp::Rzv, MESSAGE, 0, 1024);
    assert!(bench.has_received(0, 1024));
    bench.endpoint.tag_receive(Pattern::exact(2), vec![0; 1024], 2).unwrap();
}

#[test]
fn more_pieces_of_a_message_than_a_receiver_may_wait_for_are_not_kept() {
    let mut bench = Bench::new(Config { slots: 1, ..Config::default() });
    // Its offer takes the only slot, so that no piece of it goes out.
    bench.endpoint.tag_send(bench.address(PEER), 1, vec![7; 100_000], 5).unwrap();
    for n in 0..200 {
        let iov = Iov { sbuf: 1024 + n * 64, bytes: 64, ..Iov::default() };
        bench.answer(PEER, MESSAGE, Answer::Send { op: RzvOp::Rzv, target_cookie: 1, iov, second: None });
    }
    assert_eq!(bench.refused(), (0, 200 - 128));
}

#[test]
fn data_of_a_message_that_was_asked_for_stays_in_its_place() {
    let mut bench = Bench::new(Config::default());
    bench.endpoint.tag_receive(Pattern::exact(1), vec![0; 2000], 1).unwrap();
    bench.offer_message(PEER, 1, 1024);
    bench.data(STRANGER, DputOp::Rzv, MESSAGE, 0, 1024);
    assert_eq!((bench.refused(), bench.completion()), ((1, 0), None));
    // Outside of the message, although inside of the buffer; and far away.
    for (place, len) in [(1024, 8), (1000, 64), (u64::MAX, 8), (u64::MAX - 7, 8), (1 << 32, 8), (0, 1025)] {
        bench.data(PEER, DputOp::Rzv, MESSAGE, place, len);
    }
    assert_eq!((bench.refused(), bench.completion()), ((1, 6), None));
    bench.data(PEER, DputOp::Rzv, MESSAGE, 0, 960);
    bench.data(PEER, DputOp::Rzv, MESSAGE, 0, 128);
    assert_eq!((bench.refused(), bench.completion()), ((1, 7), None), "more than is missing");
    bench.data(PEER, DputOp::Rzv, MESSAGE, 960, 64);
    let Some(Completion::Received { context: 1, len: 1024, buffer, .. }) = bench.completion() else { panic!() };
    assert!(buffer.bytes()[..1024] == [0xaa; 1024] && buffer.bytes()[1024..] == [0; 976]);
}

#[test]
fn packets_of_a_message_of_several_stay_in_it() {
    let mut bench = Bench::new(Config::default());
    bench.endpoint.tag_receive(Pattern::exact(1), vec![0; 2000], 1).unwrap();
    let uid = bench.first(PEER, 1, 1000);
    bench.nth(STRANGER, uid, 512, 488);
    bench.nth(PEER, uid.next(), 512, 488);
    assert_eq!((bench.refused(), bench.completion()), ((2, 0), None));
    for (offset, len) in [(1000, 8), (996, 8), (u32::MAX, 8), (0, 1008)] {
        bench.nth(PEER, uid, offset, len);
    }
    // It doesn't come in data that is asked for, either.
    bench.data(PEER, DputOp::Rzv, MESSAGE, 512, 488);
    assert_eq!((bench.refused(), bench.completion()), ((3, 4), None));
    bench.nth(PEER, uid, 512, 480);
    bench.nth(PEER, uid, 0, 16);
    assert_eq!((bench.refused(), bench.completion()), ((3, 5), None), "more than is missing");
    bench.nth(PEER, uid, 992, 8);
    let Some(Completion::Received { context: 1, len: 1000, buffer, .. }) = bench.completion() else { panic!() };
    assert!(buffer.bytes()[..1000] == [0xaa; 1000] && buffer.bytes()[1000..] == [0; 1000]);
    // Its name is nobody's now.
    bench.nth(PEER, uid, 512, 480);
    assert_eq!(bench.refused(), (4, 5));
    // The next one is whole, too.
    bench.endpoint.tag_receive(Pattern::exact(2), vec![0; 1000], 2).unwrap();
    let uid = bench.first(PEER, 2, 1000);
    bench.nth(PEER, uid, 512, 488);
    assert!(bench.has_received(2, 1000));
}

/// Settings by which a peer that says nothing is soon given up.
fn impatient() -> Config {
    let give_up_after = Duration::from_millis(500);
    let reliability = opx_reliability::Config { give_up_after, ..opx_reliability::Config::default() };
    Config { reliability, ..Config::default() }
}

#[test]
fn nothing_is_left_of_a_message_whose_sender_was_given_up() {
    let mut bench = Bench::new(impatient());
    bench.endpoint.tag_receive(Pattern::exact(1), vec![0; 1000], 1).unwrap();
    let uid = bench.first(PEER, 1, 1000);
    let peer = bench.address(PEER);
    bench.endpoint.tag_inject(peer, 1, b"hello").unwrap();
    bench.run(|endpoint| endpoint.counters().receives_failed == 1);
    let Some(Completion::Failed { context: 1, error, .. }) = bench.completion() else { panic!() };
    assert_eq!(error, OperationError::Unreachable(peer));
    bench.nth(PEER, uid, 512, 488);
    assert_eq!((bench.refused(), bench.completion()), ((1, 0), None));
}

#[test]
fn a_write_that_was_offered_is_forgotten_with_its_peer() {
    let mut bench = Bench::new(impatient());
    let memory = SharedMem::new(4096).unwrap();
    let region = bench.endpoint.regions().register(Registration::of(memory.clone(), Access::ATOMIC)).unwrap();
    bench.offer_write(PEER, region.key(), 64);
    assert!(!bench.endpoint.is_quiet());
    bench.run(Endpoint::is_quiet);
    bench.data(PEER, DputOp::PutCq, LANDING, 0, 64);
    assert_eq!((bench.refused(), bench.completion()), ((1, 0), None));
    assert!(is_untouched(&memory));
}

#[test]
fn writes_with_completion_data_are_left_to_their_sender_while_many_are_untold() {
    let mut bench = Bench::new(Config { operations: 2, ..Config::default() });
    let memory = SharedMem::new(4096).unwrap();
    let region = bench.endpoint.regions().register(Registration::of(memory, Access::ATOMIC)).unwrap();
    for _ in 0..20 {
        // Nothing comes of it but that it is told.
        bench.offer_write(PEER, region.key(), 0);
    }
    assert_eq!(bench.endpoint.counters().no_room, 12);
    assert_eq!(std::iter::from_fn(|| bench.completion()).count(), 8);
    bench.offer_write(PEER, region.key(), 0);
    assert!(matches!(bench.completion(), Some(Completion::RemoteWrite { data: 7, len: 0, .. })));
}

/// An endpoint that waits for a message in a view, and the header of one for it, 4096 bytes long, as `route` says.
fn lending(unexpected_bytes: usize) -> (Bench, impl Fn(&Route) -> Header) {
    let bench = Bench::new(Config { lent_buffers: 3, lent_min: 1024, unexpected_bytes, ..Config::default() });
    let header = |route: &Route| Eager { tag: Some(1), cq_data: None, tail: &[], body: &[0xaa; 4096] }.header(route);
    (bench, move |route| header(route).unwrap())
}

#[test]
fn a_message_in_the_name_of_another_node_is_neither_lent_nor_copied() {
    let (mut bench, header) = lending(1 << 20);
    bench.endpoint.tag_receive(Pattern::exact(1), View::up_to(5000), 1).unwrap();
    let route = bench.route(PEER);
    // It says that it is from there and left from here.
    let forged = Route { primary_lid: Lid(route.primary_lid.0 + 1), ..route };
    bench.next(STRANGER, header(&forged), &[0xaa; 4096]);
    assert_eq!((bench.refused(), bench.completion()), ((0, 1), None));
    assert_eq!(bench.endpoint.counters().lent_messages, 0);
    bench.next(PEER, header(&route), &[0xaa; 4096]);
    assert!(matches!(bench.completion(), Some(Completion::Received { context: 1, len: 4096, .. })));
    assert_eq!(bench.endpoint.counters().lent_messages, 1);
}

#[test]
fn nothing_is_kept_before_its_turn_beyond_the_limit_even_for_a_receive_that_waits() {
    for lent in [false, true] {
        let (mut bench, header) = lending(4000);
        if lent {
            bench.endpoint.tag_receive(Pattern::exact(1), View::up_to(5000), 1).unwrap();
        } else {
            bench.endpoint.tag_receive(Pattern::exact(1), vec![0; 5000], 1).unwrap();
        }
        let header = header(&bench.route(PEER));
        // The second packet comes first, again and again.
        bench.psns.insert(PEER, Psn::new(1));
        for _ in 0..3 {
            bench.next(PEER, header, &[0xaa; 4096]);
            bench.psns.insert(PEER, Psn::new(1));
        }
        let counters = bench.endpoint.reliability_counters();
        assert_eq!((counters.dropped_no_room, counters.uepkt_received), (3, 0), "lent: {lent}");
        assert_eq!(bench.completion(), None);
        // In its turn it needs no room.
        bench.psns.insert(PEER, Psn::new(0));
        bench.next(PEER, header, &[0xaa; 4096]);
        assert!(matches!(bench.completion(), Some(Completion::Received { context: 1, len: 4096, .. })), "lent: {lent}");
    }
}

/// The endpoint's packets up to this one are acknowledged by a peer.
fn acknowledge(bench: &mut Bench, from: u8, packets: u32) {
    let (me, peer) = (bench.endpoint.address(), bench.address(from));
    let key = FlowKey { slid: me.lid, dlid: peer.lid, src_rx: me.rx, dst_rx: peer.rx };
    let ack = Ud { op: UdOp::Ack, key, start: Psn::new(0), count: packets };
    let header = ack.encode(&bench.route(from));
    bench.forge(&header, &[]);
}

#[test]
fn a_request_that_waits_for_its_answer_fails_with_its_peer() {
    let mut bench = Bench::new(impatient());
    let peer = bench.address(PEER);
    bench.endpoint.read(Remote { peer, key: 5, place: 0 }, vec![0; 64], 1).unwrap();
    acknowledge(&mut bench, PEER, 1);
    // From here on it does nothing, which shows by what else is sent to it.
    bench.endpoint.tag_inject(peer, 1, b"hello").unwrap();
    bench.run(|endpoint| endpoint.counters().requests_failed == 1);
    let Some(Completion::Failed { context: 1, error, buffer }) = bench.completion() else { panic!() };
    assert_eq!((error, buffer.len()), (OperationError::Unreachable(peer), 64));
}

#[test]
fn a_message_that_has_come_whole_outlives_its_sender() {
    let mut bench = Bench::new(impatient());
    let uid = bench.first(PEER, 1, 1000);
    bench.nth(PEER, uid, 512, 488);
    let peer = bench.address(PEER);
    bench.endpoint.tag_send(peer, 1, b"hello".to_vec(), 5).unwrap();
    bench.run(|endpoint| endpoint.counters().sends_failed == 1);
    assert!(matches!(bench.completion(), Some(Completion::Failed { context: 5, .. })));
    bench.endpoint.tag_receive(Pattern::exact(1), vec![0; 1000], 1).unwrap();
    assert!(bench.has_received(1, 1000));
}

#[test]
fn answers_that_a_peer_never_let_out_end_with_it() {
    let impatient = impatient();
    let reliability = opx_reliability::Config { window: 1, ..impatient.reliability };
    let mut bench = Bench::new(Config { operations: 4, reliability, ..impatient });
    // Messages that don't fit: their sender is told, one at a time.
    for n in 0..5 {
        bench.endpoint.tag_receive(Pattern::exact(1), vec![0; 10], n).unwrap();
        bench.offer_message(PEER, 1, 1024);
        assert!(matches!(bench.completion(), Some(Completion::Failed { .. })));
    }
    assert!(bench.endpoint.tag_receive(Pattern::exact(1), vec![0; 10], 5).is_err());
    let given_up = |endpoint: &Endpoint<EmuBus>| endpoint.reliability_counters().peers_given_up == 1;
    bench.run(given_up);
    bench.endpoint.progress().unwrap();
    bench.endpoint.tag_receive(Pattern::exact(1), vec![0; 10], 5).unwrap();
}

#[test]
fn messages_in_pieces_that_nobody_waits_for_are_few() {
    let mut bench = Bench::new(Config { operations: 2, ..Config::default() });
    for n in 0..2 {
        bench.first(PEER, n, 1000);
    }
    assert_eq!(bench.endpoint.counters().no_room, 0);
    bench.first(PEER, 2, 1000);
    assert_eq!(bench.endpoint.counters().no_room, 1);
    // One that is waited for is taken.
    bench.endpoint.tag_receive(Pattern::exact(2), vec![0; 1000], 2).unwrap();
    let uid = bench.first(PEER, 2, 1000);
    bench.nth(PEER, uid, 512, 488);
    assert!(bench.has_received(2, 1000));
}

#[test]
fn messages_in_pieces_that_are_discarded_leave_their_places() {
    let mut bench = Bench::new(Config { operations: 2, ..Config::default() });
    for n in 0..20 {
        let uid = bench.first(PEER, n, 1000);
        // Some before the rest of them has come.
        if n % 2 == 0 {
            bench.nth(PEER, uid, 512, 488);
        }
        assert!(bench.endpoint.tag_discard(Pattern::exact(n)).unwrap().is_some(), "message {n}");
        if n % 2 == 1 {
            bench.nth(PEER, uid, 512, 488);
        }
    }
    assert_eq!((bench.endpoint.counters().no_room, bench.refused()), (0, (0, 0)));
}

/// OPX sends only tagged messages in several packets, but takes others, and counts them.
#[test]
fn an_untagged_message_of_several_packets_into_memory_of_a_device_is_counted() {
    let mut bench = Bench::new(Config::default());
    let fake = Fake::new(GPU, false);
    bench.endpoint.receive(None, fake.range(3, 1024), 1).unwrap();
    let uid = bench.first_of(PEER, None, 1024);
    bench.nth(PEER, uid, 512, 512);
    assert!(bench.has_received(1, 1024));
    let counted = bench.endpoint.named_counters().filter(|(group, _, count)| *group == "hmem" && *count > 0);
    let counted: Vec<_> = counted.map(|(_, name, count)| (name, count)).collect();
    assert_eq!(counted, [("hfi.kind[msg].recv.mp_eager", 1), ("posted_recv_msg", 1)]);
}

#[test]
fn claims_that_are_dropped_wait_while_a_peer_lets_no_answers_out() {
    let impatient = impatient();
    let reliability = opx_reliability::Config { window: 1, ..impatient.reliability };
    let mut bench = Bench::new(Config { operations: 4, unexpected_bytes: 4096, reliability, ..impatient });
    let mut taken = 0;
    while bench.endpoint.counters().no_room == 0 {
        assert!(taken < 100, "nothing bounds the answers that wait");
        bench.offer_message(PEER, taken, 1024);
        // Its sender is to be told, one at a time.
        drop(bench.endpoint.tag_claim(Pattern::exact(taken)));
        taken += 1;
    }
    // They go with their peer.
    bench.run(|endpoint| endpoint.reliability_counters().peers_given_up == 1);
    bench.endpoint.progress().unwrap();
    bench.offer_message(PEER, taken, 1024);
    assert_eq!(bench.endpoint.counters().no_room, 1);
}

#[test]
fn messages_in_pieces_that_a_multi_receive_takes_are_few() {
    let mut bench = Bench::new(Config { operations: 2, ..Config::default() });
    let uids = [0; 2].map(|_| bench.first_of(PEER, None, 1000));
    bench.endpoint.multi_receive(None, SharedMem::new(1 << 16).unwrap(), 1).unwrap();
    // Another one could take none now.
    let refused = bench.endpoint.multi_receive(None, SharedMem::new(1 << 16).unwrap(), 2).unwrap_err();
    assert!(matches!(refused.error, ReceiveError::Again(_)), "{:?}", refused.error);
    for (uid, at) in uids.into_iter().zip([0, 1000]) {
        bench.nth(PEER, uid, 512, 488);
        let told = bench.completion();
        assert!(
            matches!(told, Some(Completion::MultiReceived { context: 1, offset, len: 1000, .. }) if offset == at),
            "{told:?}"
        );
    }
    bench.endpoint.multi_receive(None, SharedMem::new(1 << 16).unwrap(), 2).unwrap();
}

#[test]
fn a_message_in_pieces_that_is_longer_than_a_multi_receive_goes_nowhere() {
    let mut bench = Bench::new(Config::default());
    let memory = SharedMem::new(4096).unwrap();
    let buffer = SharedRange::new(memory.clone(), 0, 900).unwrap();
    bench.endpoint.multi_receive(None, buffer, 1).unwrap();
    let uid = bench.first_of(PEER, None, 1000);
    let Some(Completion::MultiReceiveFailed { context: 1, error, .. }) = bench.completion() else { panic!() };
    assert_eq!(error, OperationError::Truncated { message: 1000, buffer: 900 });
    assert!(matches!(bench.completion(), Some(Completion::MultiReceiveDone { context: 1, .. })));
    bench.nth(PEER, uid, 512, 488);
    assert_eq!((bench.refused(), bench.completion()), ((0, 0), None), "the rest was to be expected");
    assert!(is_untouched(&memory));
}

#[test]
fn what_waits_unasked_counts_with_all_of_its_bytes() {
    // Of a message in pieces also those that haven't come: room for one, not for two.
    let mut bench = Bench::new(Config { unexpected_bytes: 4500, ..Config::default() });
    bench.first(PEER, 1, 4000);
    bench.first(PEER, 2, 4000);
    assert_eq!(bench.endpoint.counters().no_room, 1);
    // Of offers what goes along, which is as much again as one takes without.
    let message = [0xaa; 1024 + 127];
    let offers = |goes_along: bool| {
        let mut bench = Bench::new(Config { unexpected_bytes: 1 << 16, ..Config::default() });
        let along = if goes_along { Immediate::of(&message, true) } else { Immediate::of(&[], false) };
        let mut taken = 0;
        while bench.endpoint.counters().no_room == 0 {
            bench.offer_with(PEER, taken, message.len() as u64, along);
            taken += 1;
        }
        taken
    };
    assert!(offers(true) * 3 < offers(false) * 2);
}
