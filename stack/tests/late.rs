//! Expected packets that come late, twice or to the wrong place: written by hand, in the name of a sender that isn't there.

mod common;

use common::memory::Guarded;
use opx_bus::PciFunction;
use opx_defs::tid::Tid;
use opx_defs::units::{Blocks, Lid, Psn, Vl};
use opx_defs::wire::opx::{
    Atomic, Dput, DputOp, Eager, FlowKey, Header, Immediate, Iov, Padding, Route, RzvRts, RzvTidCts, Ud, UdOp,
};
use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_pio::{Head, PioSender};
use opx_stack::{Address, Completion, Config, Endpoint, OperationError, Pattern};
use std::time::Duration;
use zerocopy::little_endian::U32;

const NOBODY: u8 = 77;
const LEN: usize = 5 * 4096;
const REST: Duration = Duration::from_millis(200);

struct Bench {
    hfi: Hfi<EmuBus>,
    endpoint: Endpoint<EmuBus>,
    forger: PioSender<EmuBus>,
    psn: Psn,
    /// Receives so far: each is the next one in the endpoint's table of one place.
    receives: u64,
}

impl Bench {
    fn new(config: Config) -> Self {
        let adapter = Lab::new(Pacing::Virtual).add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
        let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        let endpoint = Endpoint::open(&hfi, config).unwrap();
        let forger = PioSender::new(hfi.send_context(Blocks(256)).unwrap());
        Self { hfi, endpoint, forger, psn: Psn::new(0), receives: 0 }
    }

    fn route(&self) -> Route {
        let to = self.endpoint.address();
        self.hfi.route(NOBODY, to.lid, to.rx)
    }

    fn forge(&mut self, header: &Header, payload: &[u8]) {
        let before = self.endpoint.counters();
        self.forger.send(&Head::new(header.pbc(Vl(0)), header), payload).unwrap();
        let limit = self.hfi.bus().now() + Duration::from_secs(1);
        let came = |now: opx_stack::Counters| now.packets_in != before.packets_in;
        while !came(self.endpoint.counters()) {
            assert!(self.hfi.bus().now() < limit, "it didn't arrive");
            if !self.endpoint.progress().unwrap() {
                self.hfi.bus().relax();
            }
        }
        self.endpoint.progress().unwrap();
    }

    /// Puts a packet into the endpoint's header queue, which nobody looks into.
    fn leave(&mut self, header: &Header, payload: &[u8]) {
        self.forger.send(&Head::new(header.pbc(Vl(0)), header), payload).unwrap();
        self.hfi.bus().pause(Duration::from_micros(100));
    }

    /// Offers a message of [`LEN`] bytes to a new receive into `target`; gives the receive's name.
    fn offer(&mut self, target: &Guarded) -> u64 {
        self.offer_of(target, LEN)
    }

    /// The same, of a message of another length.
    fn offer_of(&mut self, target: &Guarded, len: usize) -> u64 {
        self.endpoint.tag_receive(Pattern::exact(1), target.buffer(), 9).unwrap();
        self.offer_to_anybody(len);
        self.receives += 1;
        self.receives << 32
    }

    /// Offers a message of `len` bytes.
    fn offer_to_anybody(&mut self, len: usize) {
        let message = vec![0x11; len];
        let immediate = Immediate::of(&message, true);
        let rts = RzvRts {
            tag: Some(1),
            cq_data: None,
            len: len as u64,
            src_vaddr: 0x1_0000 + immediate.message_bytes() as u64,
            src_device: 0,
            src_iface: 0,
            origin_counter: 7,
            immediate,
        };
        let mut payload = [0; 256];
        let (mut header, len) = rts.encode(&self.route(), &mut payload).unwrap();
        header.set_psn(self.psn);
        self.psn = self.psn.next();
        self.forge(&header, &payload[..len]);
    }

    fn packet(&self, name: u64, place: usize, len: usize) -> Header {
        let (op, atomic) = (DputOp::RzvTid, Atomic::RENDEZVOUS);
        let dput = Dput { op, atomic, name, place: place as u64, len: len as u16, ack_req: false };
        let mut header = dput.encode(&self.route(), Padding::Qword).unwrap();
        header.set_psn(self.psn);
        header
    }

    /// Sends a page of `byte` to `tid`, `offset` bytes into it, as part of a receive.
    fn put(&mut self, name: u64, place: usize, tid: Tid, offset: u32, byte: u8) -> Header {
        let mut header = self.packet(name, place, 4096);
        header.expect(tid, offset).unwrap();
        self.psn = self.psn.next();
        self.forge(&header, &[byte; 4096]);
        header
    }

    /// The same, as a packet that the endpoint doesn't take for the next one.
    fn late(&mut self, name: u64, place: usize, tid: Tid, offset: u32) {
        let psn = self.psn;
        self.put(name, place, tid, offset, 0x22);
        self.psn = psn;
    }

    fn completion(&mut self) -> Option<Completion> {
        self.endpoint.poll_completion()
    }

    /// Runs the endpoint until it has given up the sender, of which it receives a message.
    fn lose_sender(&mut self) {
        let limit = self.hfi.bus().now() + Duration::from_secs(5);
        let failed = loop {
            assert!(self.hfi.bus().now() < limit);
            if !self.endpoint.progress().unwrap() {
                self.hfi.bus().relax();
            }
            if let Some(completion) = self.completion() {
                break completion;
            }
        };
        assert!(matches!(failed, Completion::Failed { error: OperationError::Unreachable(_), .. }), "{failed:?}");
    }

    /// All of a message in the memory behind the first pair, and then as many packets about nothing as one look into the header
    /// queue takes; nobody has looked.
    fn leave_whole(&mut self, name: u64) {
        for page in 0..5 {
            let mut header = self.packet(name, page * 4096, 4096);
            header.expect(tids(0), page as u32 * 4096).unwrap();
            self.psn = self.psn.next();
            self.leave(&header, &[0x11; 4096]);
        }
        let me = self.endpoint.address();
        let key = FlowKey { slid: me.lid, dlid: me.lid, src_rx: me.rx, dst_rx: NOBODY };
        let header = Ud { op: UdOp::Ack, key, start: Psn::new(0), count: 1 }.encode(&self.route());
        for _ in 0..64 {
            self.leave(&header, &[]);
        }
    }
}

/// The first two entries of a context: four pages and one, for five.
fn tids(pair: u16) -> Tid {
    Tid::of_entry(2 * pair, 4).unwrap().merge(Tid::of_entry(2 * pair + 1, 1).unwrap()).unwrap()
}

/// A whole message in the memory behind a pair.
fn fill(bench: &mut Bench, name: u64, pair: u16) {
    for page in 0..5 {
        bench.put(name, page * 4096, tids(pair), page as u32 * 4096, 0x11);
    }
}

fn is_whole(completion: Option<Completion>) -> bool {
    matches!(completion, Some(Completion::Received { context: 9, len: LEN, .. }))
}

/// One message after the other comes whole, into these pairs of entries.
fn messages_get(bench: &mut Bench, target: &Guarded, pairs: &[u16], why: &str) {
    for pair in pairs {
        let name = bench.offer(target);
        fill(bench, name, *pair);
        assert!(is_whole(bench.completion()), "pair {pair}, {why}");
    }
}

fn is_overwritten(completion: Option<Completion>) -> bool {
    matches!(completion, Some(Completion::Failed { context: 9, error: OperationError::Overwritten, .. }))
}

/// Settings by which a sender that says nothing is soon given up.
fn impatient() -> Config {
    let give_up_after = Duration::from_millis(500);
    let reliability = opx_reliability::Config { give_up_after, ..opx_reliability::Config::default() };
    Config { reliability, ..Config::default() }
}

#[test]
fn a_late_packet_finds_no_way_to_memory_that_was_given_back() {
    let mut bench = Bench::new(Config::default());
    let target = Guarded::new(4096, LEN);
    let first = bench.offer(&target);
    fill(&mut bench, first, 0);
    assert!(is_whole(bench.completion()));
    assert!(target.bytes(LEN) == [0x11; LEN]);
    target.fill(0x3c);
    let errors = bench.endpoint.counters().packets_in_error;
    bench.late(first, 0, tids(0), 0);
    assert_eq!(bench.endpoint.counters().packets_in_error, errors + 1, "the chip tells of it");
    assert!(target.bytes(LEN) == [0x3c; LEN] && target.is_unharmed());
    // The next transfer has other entries, so that it isn't touched either.
    let second = bench.offer(&target);
    assert_ne!(second, first);
    bench.late(first, 0, tids(0), 4096);
    assert_eq!(bench.endpoint.counters().packets_in_error, errors + 2);
    assert!(target.bytes(LEN)[64..] == [0x3c; LEN - 64], "but for what came with the offer");
    assert_eq!(bench.endpoint.counters().expected.tid_misplaced, 0);
}

#[test]
fn a_packet_that_is_there_twice_changes_nothing_but_that_entries_rest() {
    // Four pairs.
    let mut bench = Bench::new(Config { tid_entries: 8, ..Config::default() });
    let target = Guarded::new(4096, LEN);
    let name = bench.offer(&target);
    let header = bench.put(name, 0, tids(0), 0, 0x11);
    bench.forge(&header, &[0x11; 4096]);
    for page in 1..5 {
        bench.put(name, page * 4096, tids(0), page as u32 * 4096, 0x11);
    }
    assert!(is_whole(bench.completion()));
    assert_eq!(bench.endpoint.counters().expected.tid_misplaced, 0);
    // Who knows how often it is there.
    messages_get(&mut bench, &target, &[1, 2, 3, 1], "not 0");
}

#[test]
fn packets_come_in_any_order_and_some_by_software() {
    let mut bench = Bench::new(Config::default());
    let target = Guarded::new(4096, LEN);
    let name = bench.offer(&target);
    let first = bench.psn;
    for (n, page) in [4, 0, 3, 1].into_iter().enumerate() {
        bench.psn = Psn::new(first.get() + [4, 0, 3, 1][n]);
        bench.put(name, page * 4096, tids(0), page as u32 * 4096, 0x11);
    }
    assert_eq!(bench.completion(), None);
    bench.psn = Psn::new(first.get() + 2);
    let header = bench.packet(name, 2 * 4096, 4096);
    bench.forge(&header, &[0x11; 4096]);
    assert!(is_whole(bench.completion()));
    assert!(target.bytes(LEN) == [0x11; LEN] && target.is_unharmed());
    let counts = bench.endpoint.counters();
    assert_eq!((counts.expected.tid_rcv_pkts, counts.expected.tid_rcv_pkts_replays), (4, 1));
    assert_eq!(counts.rendezvous_bytes_copied, 4096);
}

#[test]
fn entries_of_a_transfer_that_was_disturbed_rest_and_others_wait_for_their_turn() {
    // Four pairs.
    let mut bench = Bench::new(Config { tid_entries: 8, ..Config::default() });
    let target = Guarded::new(4096, LEN);
    // Each entry is used once, then the first again.
    messages_get(&mut bench, &target, &[0, 1, 2, 3, 0], "in turn");
    // One page of this one is sent again.
    let name = bench.offer(&target);
    let again = bench.packet(name, 0, 4096);
    bench.psn = bench.psn.next();
    bench.forge(&again, &[0x11; 4096]);
    for page in 1..5 {
        bench.put(name, page * 4096, tids(1), page as u32 * 4096, 0x11);
    }
    assert!(is_whole(bench.completion()));
    messages_get(&mut bench, &target, &[2, 3, 0, 2, 3, 0], "not 1");
    bench.hfi.bus().pause(REST);
    messages_get(&mut bench, &target, &[2, 3, 0, 1], "with 1 again");
}

#[test]
fn a_packet_of_another_message_in_the_memory_of_this_one_fails_it() {
    let mut bench = Bench::new(Config::default());
    let target = Guarded::new(4096, LEN);
    let name = bench.offer(&target);
    bench.put(name, 0, tids(0), 0, 0x11);
    // As if the entry had been another transfer's a moment ago.
    bench.put(0xdead << 32, 0, tids(0), 0, 0x22);
    assert_eq!(bench.endpoint.counters().expected.tid_misplaced, 1);
    for page in 1..5 {
        bench.put(name, page * 4096, tids(0), page as u32 * 4096, 0x11);
    }
    let Some(Completion::Failed { context: 9, error, .. }) = bench.completion() else { panic!() };
    assert_eq!(error, OperationError::Overwritten);
    assert!(target.is_unharmed());
    // Nor in the name of another node, which isn't taken for a packet at all.
    let name = bench.offer(&target);
    let malformed = bench.endpoint.counters().malformed;
    let route = Route { primary_lid: Lid(bench.route().primary_lid.0 + 1), ..bench.route() };
    let (op, atomic) = (DputOp::RzvTid, Atomic::RENDEZVOUS);
    let dput = Dput { op, atomic, name, place: 0, len: 4096, ack_req: false };
    let mut header = dput.encode(&route, Padding::Qword).unwrap();
    header.expect(tids(1), 0).unwrap();
    bench.forge(&header, &[0x22; 4096]);
    assert_eq!(bench.endpoint.counters().malformed, malformed + 1);
    fill(&mut bench, name, 1);
    assert!(matches!(bench.completion(), Some(Completion::Failed { error: OperationError::Overwritten, .. })));
    // Nor may a packet say another place than where it was put.
    let name = bench.offer(&target);
    bench.put(name, 4096, tids(2), 0, 0x11);
    fill(&mut bench, name, 2);
    assert!(matches!(bench.completion(), Some(Completion::Failed { error: OperationError::Overwritten, .. })));
    assert_eq!(bench.endpoint.counters().expected.overwritten, 3);
}

#[test]
fn with_whole_pages_no_sender_reaches_what_lies_around_the_buffer() {
    let mut bench = Bench::new(Config::default());
    // 100 bytes into a page: what is expected begins with the next one.
    let target = Guarded::new(4096 + 100, LEN);
    let name = bench.offer(&target);
    let tid = Tid::of_entry(0, 4).unwrap();
    for page in 0..4 {
        bench.put(name, page * 4096, tid, page as u32 * 4096, 0x22);
    }
    let errors = bench.endpoint.counters().packets_in_error;
    for entry in 1..16 {
        bench.late(name, 0, Tid::of_entry(entry, 1).unwrap(), 0);
    }
    assert_eq!(bench.endpoint.counters().packets_in_error, errors + 15, "there are no other entries");
    assert!(target.is_unharmed());
}

#[test]
fn an_answer_with_impossible_buffers_gets_nothing() {
    let mut bench = Bench::new(Config::default());
    let source = Guarded::with(0, &[7; LEN]);
    let nobody = Address { rx: NOBODY, ..bench.endpoint.address() };
    bench.endpoint.tag_send(nobody, 1, source.buffer(), 5).unwrap();
    let sent = bench.endpoint.counters().expected.tid_sent_pkts;
    let [one, other] = [0, 2].map(|entry| Tid::of_entry(entry, 4).unwrap().encode());
    let bad: [(u64, u64, u32, i32, &[u32]); 13] = [
        (0, 16384, 0, 0, &[]),
        (0, 16384, 0, 0, &[0]),
        (0, 16384, 0, 0, &[one, one]),
        (0, 16448, 0, 0, &[one]),
        (0, 16380, 0, 0, &[one]),
        (0, 8192, 16384, 0, &[one]),
        (0, 8192, 16448, 0, &[one, other]),
        (0, 8192, 100, 0, &[one]),
        (0, 16384, 64, 0, &[one]),
        (u64::MAX - 63, 16384, 0, 0, &[one]),
        (LEN as u64 - 8192, 16384, 0, 0, &[one]),
        (0, 16384, 0, i32::MIN, &[one]),
        (0, 16384, 0, i32::MAX, &[one]),
    ];
    for (n, (sbuf, bytes, offset, adjust, pairs)) in bad.into_iter().enumerate() {
        let pairs: Vec<U32> = pairs.iter().map(|pair| (*pair).into()).collect();
        let iov = Iov { rbuf: 0, sbuf, bytes, sbuf_device: 0, sbuf_iface: 0 };
        let cts = RzvTidCts { origin_counter: 1 << 32, target_cookie: 1, iov, offset, adjust, pairs: &pairs };
        let mut payload = [0; 256];
        let (mut header, len) = cts.encode(&bench.route(), &mut payload).unwrap();
        header.set_psn(bench.psn);
        bench.psn = bench.psn.next();
        bench.forge(&header, &payload[..len]);
        assert_eq!(bench.endpoint.counters().malformed, n as u64 + 1, "answer {n}");
    }
    assert_eq!(bench.endpoint.counters().expected.tid_sent_pkts, sent);
}

#[test]
fn a_sender_that_ends_in_the_middle_leaves_nothing_that_can_be_written_to() {
    let mut bench = Bench::new(impatient());
    let target = Guarded::new(4096, LEN);
    let name = bench.offer(&target);
    bench.put(name, 0, tids(0), 0, 0x11);
    bench.lose_sender();
    target.fill(0x3c);
    let errors = bench.endpoint.counters().packets_in_error;
    bench.late(name, 4096, tids(0), 4096);
    assert_eq!(bench.endpoint.counters().packets_in_error, errors + 1);
    assert!(target.bytes(LEN) == [0x3c; LEN]);
}

#[test]
fn entries_of_a_transfer_that_ended_early_rest() {
    // Four pairs.
    let mut bench = Bench::new(Config { tid_entries: 8, ..impatient() });
    let target = Guarded::new(4096, LEN);
    let name = bench.offer(&target);
    bench.put(name, 0, tids(0), 0, 0x11);
    bench.lose_sender();
    // The rest of it may be on its way to the first pair still.
    messages_get(&mut bench, &target, &[1, 2, 3, 1], "not 0");
    bench.hfi.bus().pause(REST);
    messages_get(&mut bench, &target, &[2, 3, 1, 0], "with 0 again");
}

#[test]
fn what_another_peer_puts_into_a_message_is_none_of_its_data() {
    let mut bench = Bench::new(Config::default());
    let target = Guarded::new(4096, LEN);
    let name = bench.offer(&target);
    // All that it says is right, but it isn't its sender who says it.
    let to = bench.endpoint.address();
    let (op, atomic) = (DputOp::RzvTid, Atomic::RENDEZVOUS);
    let dput = Dput { op, atomic, name, place: 0, len: 4096, ack_req: false };
    let mut header = dput.encode(&bench.hfi.route(NOBODY + 1, to.lid, to.rx), Padding::Qword).unwrap();
    header.expect(tids(0), 0).unwrap();
    bench.forge(&header, &[0x22; 4096]);
    for page in 1..5 {
        bench.put(name, page * 4096, tids(0), page as u32 * 4096, 0x11);
    }
    assert_eq!(bench.completion(), None, "its first page hasn't come");
    bench.put(name, 0, tids(0), 0, 0x11);
    assert!(is_overwritten(bench.completion()));
    assert_eq!(bench.endpoint.counters().expected.tid_misplaced, 1);
}

#[test]
fn a_packet_of_another_kind_in_the_memory_of_a_message_fails_it() {
    let mut bench = Bench::new(Config::default());
    let target = Guarded::new(4096, LEN);
    let name = bench.offer(&target);
    // The chip looks at its TID alone.
    let eager = Eager { tag: Some(2), cq_data: None, tail: &[], body: &[0x22; 4096] };
    let mut header = eager.header(&bench.route()).unwrap();
    header.expect(tids(0), 0).unwrap();
    bench.forge(&header, &[0x22; 4096]);
    assert_eq!(bench.endpoint.counters().expected.tid_misplaced, 1);
    fill(&mut bench, name, 0);
    assert!(is_overwritten(bench.completion()));
}

#[test]
fn a_packet_that_goes_on_behind_the_message_fails_it() {
    let mut bench = Bench::new(Config::default());
    let target = Guarded::new(4096, LEN);
    // It ends amid the last page, all of which is the buffer's.
    let name = bench.offer_of(&target, LEN - 2048);
    bench.put(name, 4 * 4096, tids(0), 4 * 4096, 0x22);
    for page in 0..4 {
        bench.put(name, page * 4096, tids(0), page as u32 * 4096, 0x11);
    }
    assert_eq!(bench.completion(), None, "its last bytes haven't come");
    let mut header = bench.packet(name, 4 * 4096, 2048);
    header.expect(tids(0), 4 * 4096).unwrap();
    bench.forge(&header, &[0x11; 2048]);
    assert!(is_overwritten(bench.completion()));
    assert!(target.is_unharmed());
    assert_eq!(bench.endpoint.counters().malformed, 0);
}

#[test]
fn a_message_is_not_told_of_before_all_is_known_of_what_was_put_there() {
    let mut bench = Bench::new(Config::default());
    let target = Guarded::new(4096, LEN);
    let name = bench.offer(&target);
    bench.leave_whole(name);
    // Behind all of them, before the entries were taken away: it was put there.
    let mut header = bench.packet(0xdead << 32, 0, 4096);
    header.expect(tids(0), 0).unwrap();
    bench.leave(&header, &[0x22; 4096]);
    bench.endpoint.progress().unwrap();
    assert_eq!(bench.completion(), None, "there are more headers to be looked at");
    bench.endpoint.progress().unwrap();
    assert!(is_overwritten(bench.completion()));
}

#[test]
fn what_comes_before_a_message_is_told_of_finds_no_way_to_its_memory() {
    let mut bench = Bench::new(Config::default());
    let target = Guarded::new(4096, LEN);
    let name = bench.offer(&target);
    bench.leave_whole(name);
    bench.endpoint.progress().unwrap();
    assert_eq!(bench.completion(), None, "there are more headers to be looked at");
    let errors = bench.endpoint.counters().packets_in_error;
    let mut header = bench.packet(name, 0, 4096);
    header.expect(tids(0), 0).unwrap();
    bench.leave(&header, &[0x22; 4096]);
    bench.endpoint.progress().unwrap();
    assert!(is_whole(bench.completion()));
    assert!(target.bytes(LEN) == [0x11; LEN], "nothing was written to it");
    assert_eq!(bench.endpoint.counters().packets_in_error, errors + 1);
}

#[test]
fn entries_are_given_to_others_only_when_all_is_known_of_what_was_put_there() {
    // Four pairs: the others are of messages of which nothing comes.
    let mut bench = Bench::new(Config { tid_entries: 8, ..Config::default() });
    let target = Guarded::new(4096, LEN);
    let name = bench.offer(&target);
    let idle = [0; 3].map(|_| Guarded::new(4096, LEN));
    for target in &idle {
        bench.offer(target);
    }
    bench.offer_to_anybody(LEN);
    bench.leave_whole(name);
    bench.endpoint.progress().unwrap();
    assert_eq!(bench.completion(), None, "there are more headers to be looked at");
    let next = Guarded::new(4096, LEN);
    bench.endpoint.tag_receive(Pattern::exact(1), next.buffer(), 10).unwrap();
    // Once more, by a sender that misbehaves: nobody would notice that it isn't in the first message's memory.
    let mut header = bench.packet(name, 0, 4096);
    header.expect(tids(0), 0).unwrap();
    bench.leave(&header, &[0x22; 4096]);
    bench.endpoint.progress().unwrap();
    assert!(is_whole(bench.completion()));
    assert!(!next.bytes(LEN).contains(&0x22));
    assert_eq!(bench.endpoint.counters().expected.rts_fallback_eager_reg_rzv, 1, "it comes to software");
    // From now on there are entries.
    bench.endpoint.tag_receive(Pattern::exact(1), target.buffer(), 9).unwrap();
    bench.offer_to_anybody(LEN);
    assert_eq!(bench.endpoint.counters().expected.rts_fallback_eager_reg_rzv, 1);
}
