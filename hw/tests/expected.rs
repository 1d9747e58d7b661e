//! Expected receive: memory behind TIDs, flows that keep packets in order, suppressed headers.

mod common;

use common::{Bench, receive, send_pio};
use opx_bus::{PciFunction, SharedMem};
use opx_defs::csr;
use opx_defs::flow::FlowPsn;
use opx_defs::tid::{Tid, TidCtrl};
use opx_defs::units::{Blocks, Dwords, JobKey, Lid, Pkey, RcvCtxt, Sc, Sl};
use opx_defs::wire::bth::Bth;
use opx_defs::wire::kdeth::Kdeth;
use opx_defs::wire::lrh::{Lrh, NextHeader};
use opx_emu::{DropReason, EmuBus, Icode};
use opx_hw::recv::{Flow, PacketKind};
use opx_hw::{ContextError, ExpectedBuffer, Hfi, Memory, RecvConfig, RecvContext, SendContext};
use proptest::prelude::*;
use std::time::Duration;

const KEY: JobKey = JobKey(1);

fn config() -> RecvConfig {
    RecvConfig {
        header_entries: 64,
        eager_buffers: 8,
        eager_buffer_size: 16384,
        expected_entries: 64,
        flows: true,
        head_batch: 8,
        ..RecvConfig::default()
    }
}

struct Ends {
    _bench: Bench,
    hfi: Hfi<EmuBus>,
    recv: RecvContext<EmuBus>,
    send: SendContext<EmuBus>,
    fill: u16,
}

impl Ends {
    fn new(config: RecvConfig) -> Self {
        let bench = Bench::new(Icode::Silicon);
        let hfi = bench.active();
        let recv = hfi.recv_context(config).unwrap();
        let send = hfi.send_context(Blocks(256)).unwrap();
        Self { _bench: bench, hfi, recv, send, fill: 0 }
    }

    fn send(&mut self, to: Packet, payload: &[u8]) {
        self.fill = send_pio(&self.send, self.fill, &to.bytes(payload)) % 256;
        self.settle();
    }

    fn settle(&self) {
        self.hfi.bus().pause(Duration::from_micros(50));
    }

    /// The chip's next packet, its error bits, and nothing behind it.
    fn take(&mut self) -> Option<(PacketKind, u64)> {
        let received = self.recv.poll()?;
        self.recv.release();
        Some((received.kind(), received.errors()))
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self._bench.adapter.counts().dropped(reason)
    }
}

/// An expected packet.
#[derive(Clone, Copy)]
struct Packet {
    context: RcvCtxt,
    flow: u8,
    psn: FlowPsn,
    kdeth: Kdeth,
}

impl Packet {
    fn new(recv: &RecvContext<EmuBus>, tid: Tid, offset: u32) -> Self {
        let kdeth = Kdeth::expected(KEY, tid, offset).unwrap();
        Self { context: recv.number(), flow: 0, psn: FlowPsn::default(), kdeth }
    }

    fn on(self, flow: &Flow<EmuBus>, psn: FlowPsn) -> Self {
        Self { flow: flow.index(), psn, ..self }
    }

    fn suppress(self) -> Self {
        Self { kdeth: self.kdeth.suppress(), ..self }
    }

    fn bytes(self, payload: &[u8]) -> Vec<u8> {
        let length = Dwords((56 + payload.len() as u32 + 4) / 4);
        let (dlid, slid) = (Lid(1), Lid(1));
        let lrh = Lrh { sc: Sc(0), sl: Sl(0), next: NextHeader::Bth, dlid, slid, length };
        let dest_qp = 0x80_0000 | u32::from(self.flow) << 11 | u32::from(self.context.0);
        let bth = Bth { opcode: 0xc2, pkey: Pkey(0x8001), dest_qp };
        let mut header = [0; 56];
        header[..8].copy_from_slice(&lrh.encode());
        header[8..16].copy_from_slice(&bth.encode());
        header[16..20].copy_from_slice(&self.psn.bits().to_be_bytes());
        header[20..28].copy_from_slice(&self.kdeth.encode());
        common::packet(&header, payload)
    }
}

fn data(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i * 13 + i / 256) as u8 ^ seed).collect()
}

fn read(memory: &Memory, at: usize, len: usize) -> Vec<u8> {
    let mut found = vec![0; len];
    memory.memory().read(at, &mut found);
    found
}

/// Sends `bytes` to a buffer, in packets of at most `most` bytes that each stay within one TID; the flow counts along.
fn send_all(ends: &mut Ends, buffer: &ExpectedBuffer<EmuBus>, flow: &Flow<EmuBus>, bytes: &[u8], most: usize) -> u32 {
    let mut psn = FlowPsn { generation: flow.generation(), seq: 0 };
    let (mut at, mut sent) = (0, 0);
    let mut offset = buffer.offset();
    for tid in buffer.tids() {
        while offset < tid.bytes() && at < bytes.len() {
            let len = most.min((tid.bytes() - offset) as usize).min(bytes.len() - at);
            let last = at + len == bytes.len();
            let mut packet = Packet::new(&ends.recv, *tid, offset).on(flow, psn);
            if !last {
                packet = packet.suppress();
            }
            ends.send(packet, &bytes[at..at + len]);
            (at, offset, psn, sent) = (at + len, offset + len as u32, psn.next(), sent + 1);
        }
        offset = 0;
    }
    assert_eq!(at, bytes.len());
    sent
}

#[test]
fn a_message_goes_straight_to_its_memory_with_one_header() {
    let mut ends = Ends::new(config());
    let memory = ends.hfi.memory(256 << 10).unwrap();
    let range = 4096 + 1024..4096 + 1024 + 150_000;
    let buffer = ends.recv.expect(&memory, range.clone()).unwrap();
    assert_eq!((buffer.offset(), buffer.len()), (1024, 150_000));
    let mut flow = ends.recv.flow(true).unwrap();
    let sent = data(range.len(), 1);
    let packets = send_all(&mut ends, &buffer, &flow, &sent, 4096);
    assert_eq!(read(&memory, range.start, range.len()), sent);
    assert_eq!(read(&memory, range.end, 64), [0; 64], "nothing beyond the end");
    // Only the last packet shows.
    assert_eq!(ends.take(), Some((PacketKind::Expected, 0)));
    assert_eq!(ends.take(), None);
    let state = flow.state().unwrap();
    assert_eq!((u32::from(state.psn().seq), state.seq_mismatch()), (packets, false));
    assert_eq!(ends._bench.adapter.counts().headers_suppressed, u64::from(packets) - 1);
    assert_eq!(flow.advance(7).unwrap(), FlowPsn { generation: flow.generation(), seq: 7 });
    assert_eq!(flow.state().unwrap().psn().seq, 7);
}

#[test]
fn halves_of_a_pair_are_one_to_the_sender() {
    let mut ends = Ends::new(RecvConfig { flows: false, ..config() });
    let memory = ends.hfi.memory(64 << 10).unwrap();
    // 8 + 4 KiB: two entries of one pair.
    let buffer = ends.recv.expect(&memory, 0..12 << 10).unwrap();
    assert_eq!(buffer.tids().len(), 1);
    assert_eq!((buffer.tids()[0].ctrl(), buffer.tids()[0].bytes()), (TidCtrl::Both, 12 << 10));
    // A packet across the two.
    let sent = data(4096, 3);
    let packet = Packet::new(&ends.recv, buffer.tids()[0], 6144);
    ends.send(packet, &sent);
    assert_eq!(ends.take(), Some((PacketKind::Expected, 0)));
    assert_eq!(read(&memory, 6144, 4096), sent);
}

#[test]
fn a_lost_packet_is_asked_for_again_in_a_new_generation() {
    let mut ends = Ends::new(config());
    let memory = ends.hfi.memory(64 << 10).unwrap();
    let buffer = ends.recv.expect(&memory, 0..65536).unwrap();
    let tid = buffer.tids()[0];
    let mut flow = ends.recv.flow(true).unwrap();
    let old = flow.generation();
    let packet = |ends: &Ends, flow: &Flow<EmuBus>, generation, n: u16| {
        Packet::new(&ends.recv, tid, u32::from(n) * 1024).on(flow, FlowPsn { generation, seq: n }).suppress()
    };
    for n in [0, 1, 3, 4] {
        let to = packet(&ends, &flow, old, n);
        ends.send(to, &data(1024, n as u8));
    }
    // Packet 2 is missing: those behind it come with their headers, and the error.
    for _ in 0..2 {
        let (kind, errors) = ends.take().unwrap();
        assert_eq!((kind, errors >> 56 & 7), (PacketKind::Expected, 2));
    }
    assert_eq!(ends.recv.counts().by_error.flow_sequence, 2);
    let state = flow.state().unwrap();
    assert_eq!((state.psn().seq, state.seq_mismatch(), state.gen_mismatch()), (2, true, false));
    let next = flow.rearm().unwrap();
    assert_eq!(next.seq, 2);
    assert_ne!(next.generation, old);
    // A straggler of before: no payload, but a header with an error.
    memory.memory().zero(0, 65536);
    let straggler = packet(&ends, &flow, old, 5);
    ends.send(straggler, &data(1024, 5));
    assert_eq!(ends.take().map(|(_, errors)| errors >> 56 & 7), Some(4));
    assert_eq!(ends.recv.counts().by_error.flow_generation, 1);
    assert_eq!(read(&memory, 5 * 1024, 1024), [0; 1024]);
    assert!(flow.state().unwrap().gen_mismatch());
    // The rest in the new generation.
    for n in 2..8 {
        let mut to = packet(&ends, &flow, next.generation, n);
        if n == 7 {
            to.kdeth.dw0 &= !(1 << 29);
        }
        ends.send(to, &data(1024, n as u8));
        assert_eq!(read(&memory, usize::from(n) * 1024, 1024), data(1024, n as u8));
    }
    assert_eq!(ends.take(), Some((PacketKind::Expected, 0)));
    assert_eq!(ends.take(), None);
}

#[test]
fn a_closed_flow_takes_nothing() {
    let mut ends = Ends::new(config());
    let memory = ends.hfi.memory(4096).unwrap();
    let buffer = ends.recv.expect(&memory, 0..4096).unwrap();
    let flow = ends.recv.flow(false).unwrap();
    let (index, generation) = (flow.index(), flow.generation());
    let packet = Packet::new(&ends.recv, buffer.tids()[0], 0).on(&flow, FlowPsn { generation, seq: 0 });
    drop(flow);
    ends.send(packet, &data(64, 1));
    assert_eq!((ends.take(), ends.dropped(DropReason::Expected)), (None, 1));
    assert_eq!(read(&memory, 0, 64), [0; 64]);
    // The next user of the flow has another generation.
    let again = ends.recv.flow(false).unwrap();
    assert_eq!((again.index(), again.generation()), (index, (generation + 1) & 0xf_ffff));
    ends.send(packet, &data(64, 1));
    assert_eq!(ends.take().map(|(_, errors)| errors >> 56 & 7), Some(4));
    assert_eq!(read(&memory, 0, 64), [0; 64]);
    // All 32 of them, and no more.
    let rest: Vec<_> = (0..31).map(|_| ends.recv.flow(false).unwrap()).collect();
    assert!(matches!(ends.recv.flow(false), Err(ContextError::Exhausted { what: "flow", count: 32, .. })));
    drop(rest);
    ends.recv.flow(false).unwrap();
}

#[test]
fn tid_errors_are_counted_and_survived() {
    let mut ends = Ends::new(RecvConfig { flows: false, ..config() });
    assert!(matches!(ends.recv.flow(false), Err(ContextError::Exhausted { what: "flow", count: 0, .. })));
    let memory = ends.hfi.memory(4096).unwrap();
    let buffer = ends.recv.expect(&memory, 0..4096).unwrap();
    let tid = buffer.tids()[0];
    // A TID without a buffer; one of another context; a packet that is too long for its TID.
    let empty = Tid::of_entry(40, 1).unwrap();
    let foreign = Tid::of_entry(1000, 1).unwrap();
    for (tid, offset, len) in [(empty, 0, 64), (foreign, 0, 64), (tid, 4000, 128)] {
        let packet = Packet::new(&ends.recv, tid, offset);
        ends.send(packet, &data(len, 1));
        let (kind, errors) = ends.take().unwrap();
        assert_eq!((kind, errors), (PacketKind::Expected, opx_defs::wire::rhf::Rhf::TID_ERR));
    }
    assert_eq!((ends.recv.counts().errors, ends.recv.counts().by_error.tid), (3, 3));
    assert_eq!(read(&memory, 0, 4096), [0; 4096]);
    let good = Packet::new(&ends.recv, tid, 4000);
    ends.send(good, &data(96, 9));
    assert_eq!(ends.take(), Some((PacketKind::Expected, 0)));
    assert_eq!(read(&memory, 4000, 96), data(96, 9));
}

#[test]
fn memory_is_kept_for_the_next_time() {
    let ends = Ends::new(config());
    let memory = ends.hfi.memory(1 << 20).unwrap();
    let first = ends.recv.expect(&memory, 0..1 << 20).unwrap();
    assert_eq!(first.tids().len(), 1, "a piece of 1 MiB");
    let tids = first.tids().to_vec();
    drop(first);
    let second = ends.recv.expect(&memory, 0..1 << 20).unwrap();
    let part = ends.recv.expect(&memory, 70_000..80_000).unwrap();
    assert_eq!((second.tids(), part.tids(), part.offset()), (&tids[..], &tids[..], 70_000));
    let counts = ends.recv.expected_counts();
    assert_eq!((counts.buffers, counts.hits, counts.misses), (3, 2, 1));
}

#[test]
fn memory_that_goes_is_never_written_again() {
    let mut ends = Ends::new(RecvConfig { flows: false, ..config() });
    let own = SharedMem::new(65536).unwrap();
    let memory = ends.hfi.map(&own).unwrap();
    let buffer = ends.recv.expect(&memory, 0..65536).unwrap();
    let idle = ends.hfi.map(&own).unwrap();
    drop(idle);
    assert!(buffer.is_valid(), "another handle to the same memory never had anything");
    let packet = Packet::new(&ends.recv, buffer.tids()[0], 0);
    ends.send(packet, &data(64, 1));
    assert_eq!(ends.take(), Some((PacketKind::Expected, 0)));
    let copy = memory.clone();
    drop(memory);
    assert!(buffer.is_valid(), "not before the last handle goes");
    drop(copy);
    assert!(!buffer.is_valid());
    own.zero(0, 65536);
    ends.send(packet, &data(64, 2));
    assert_eq!(ends.take().map(|(_, errors)| errors), Some(opx_defs::wire::rhf::Rhf::TID_ERR));
    let mut now = [0xff; 64];
    own.read(0, &mut now);
    assert_eq!(now, [0; 64]);
    drop(buffer);
    // Mapped anew it gets entries of its own, although it has the same address in the process.
    let memory = ends.hfi.map(&own).unwrap();
    let buffer = ends.recv.expect(&memory, 0..65536).unwrap();
    assert_eq!((ends.recv.expected_counts().hits, ends.recv.expected_counts().invalidated), (0, 1));
    let packet = Packet::new(&ends.recv, buffer.tids()[0], 0);
    ends.send(packet, &data(64, 3));
    own.read(0, &mut now);
    assert_eq!(now[..], data(64, 3));
    assert_eq!(ends._bench.adapter.counts().dma_faults, 0);
}

#[test]
fn forgetting_a_part_is_enough_for_what_overlaps() {
    let ends = Ends::new(config());
    let memory = ends.hfi.memory(65536).unwrap();
    let buffer = ends.recv.expect(&memory, 0..65536).unwrap();
    let other = ends.recv.expect(&memory, 0..65536).unwrap();
    ends.recv.forget(&memory, 40_000..40_001);
    assert!(!buffer.is_valid() && !other.is_valid());
    let again = ends.recv.expect(&memory, 0..65536).unwrap();
    assert!(again.is_valid());
    assert_ne!(again.tids(), buffer.tids());
}

#[test]
fn limits_are_told_and_room_is_made() {
    let ends = Ends::new(RecvConfig { expected_entries: 8, expected_bytes: 64 << 10, ..config() });
    let memory = ends.hfi.memory(1 << 20).unwrap();
    let page = |n: usize| n * 8192..n * 8192 + 100;
    let mut held: Vec<_> = (0..8).map(|n| ends.recv.expect(&memory, page(n)).unwrap()).collect();
    let error = ends.recv.expect(&memory, page(8)).unwrap_err();
    assert!(matches!(error, ContextError::NoEntries { lacking: 1, .. }), "{error}");
    assert!(error.to_string().contains("receive context 1 needs 1 more entries"), "{error}");
    held.truncate(2);
    let error = ends.recv.expect(&memory, 0..128 << 10).unwrap_err();
    assert!(matches!(error, ContextError::NoEntries { .. } | ContextError::TooManyBytes { .. }), "{error}");
    let error = ends.recv.expect(&memory, 512 << 10..640 << 10).unwrap_err();
    assert!(matches!(error, ContextError::TooManyBytes { lacking: 73_728, most: 65_536, .. }), "{error}");
    ends.recv.expect(&memory, 512 << 10..544 << 10).unwrap();
    assert!(held.iter().all(ExpectedBuffer::is_valid), "what is in use stays");
    for range in [0..0, std::ops::Range { start: 5, end: 4 }, 0..(1 << 20) + 1] {
        assert!(matches!(ends.recv.expect(&memory, range), Err(ContextError::BadParameter { .. })));
    }
}

#[test]
fn buffers_and_flows_outlive_their_context_harmlessly() {
    let Ends { hfi, recv, .. } = &mut Ends::new(config());
    let recv = std::mem::replace(recv, hfi.recv_context(config()).unwrap());
    let memory = hfi.memory(4096).unwrap();
    let buffer = recv.expect(&memory, 0..4096).unwrap();
    let mut flow = recv.flow(true).unwrap();
    let number = recv.number();
    drop(recv);
    assert!(!buffer.is_valid());
    assert!(matches!(flow.rearm(), Err(ContextError::Closed { .. })));
    // The next owner of entries and flows isn't disturbed by what is left of the first.
    let next = hfi.recv_context(config()).unwrap();
    assert_eq!(next.number(), number);
    let own = next.expect(&memory, 0..4096).unwrap();
    let own_flow = next.flow(true).unwrap();
    let before = hfi.bus().read64(csr::RCV_TID_FLOW_TABLE.element(number.0.into(), own_flow.index().into()));
    drop((buffer, flow));
    let after = hfi.bus().read64(csr::RCV_TID_FLOW_TABLE.element(number.0.into(), own_flow.index().into()));
    assert_eq!((own.is_valid(), before), (true, after));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Buffers of any place and length, held or not, in any order: each gets exactly what was sent to it.
    #[test]
    fn every_buffer_gets_its_own(
        ranges in proptest::collection::vec((0usize..60_000, 1usize..20_000, any::<bool>()), 1..12)
    ) {
        let mut ends = Ends::new(RecvConfig { expected_bytes: 128 << 10, ..config() });
        let memory = ends.hfi.memory(80 << 10).unwrap();
        let mut held = Vec::new();
        for (n, (start, len, keep)) in ranges.into_iter().enumerate() {
            // Payload and offsets count in dwords.
            let range = start & !3..(start & !3) + ((len + 3) & !3);
            let Ok(buffer) = ends.recv.expect(&memory, range.clone()) else { continue };
            let flow = ends.recv.flow(true).unwrap();
            let sent = data(range.len(), n as u8);
            let before = read(&memory, 0, 80 << 10);
            send_all(&mut ends, &buffer, &flow, &sent, 4096);
            let after = read(&memory, 0, 80 << 10);
            prop_assert_eq!(ends.take(), Some((PacketKind::Expected, 0)));
            prop_assert_eq!(&after[range.clone()], &sent[..]);
            prop_assert_eq!(&after[..range.start], &before[..range.start]);
            prop_assert_eq!(&after[range.end..], &before[range.end..]);
            if keep {
                held.push(buffer);
            }
        }
        prop_assert_eq!(ends._bench.adapter.counts().total_dropped(), 0);
        let _ = receive(&mut ends.recv);
    }
}

fn for_transfers(entries: u32) -> Ends {
    Ends::new(RecvConfig { expected_entries: 0, transfer_entries: entries, flows: false, ..config() })
}

#[test]
fn a_transfers_entries_are_gone_when_it_ends() {
    let mut ends = for_transfers(16);
    let memory = ends.hfi.memory(64 << 10).unwrap();
    let mut buffer = ends.recv.expect_transfer(&memory, 4096 + 64..20_000).unwrap();
    assert_eq!((buffer.offset(), buffer.len()), (64, 20_000 - 4096 - 64));
    let packet = Packet::new(&ends.recv, buffer.tids()[0], 4096);
    assert_eq!(buffer.place(packet.kdeth), Some(4096 - 64));
    assert!(buffer.has_pair(0) && !buffer.has_pair(1));
    ends.send(packet, &data(4096, 1));
    assert_eq!(ends.take(), Some((PacketKind::Expected, 0)));
    assert_eq!(read(&memory, 8192, 4096), data(4096, 1));
    buffer.end(Duration::ZERO);
    ends.send(packet, &data(4096, 2));
    assert!(ends.take().is_some_and(|(_, errors)| errors != 0));
    assert_eq!(read(&memory, 8192, 4096), data(4096, 1));
    // Dropping it does the same.
    let buffer = ends.recv.expect_transfer(&memory, 0..4096).unwrap();
    let packet = Packet::new(&ends.recv, buffer.tids()[0], 0);
    drop(buffer);
    ends.send(packet, &data(4096, 3));
    assert!(ends.take().is_some_and(|(_, errors)| errors != 0));
    assert_eq!(read(&memory, 0, 4096), [0; 4096]);
}

#[test]
fn entries_that_are_revoked_are_nobodys_until_the_transfer_ends() {
    let mut ends = for_transfers(8);
    let memory = ends.hfi.memory(1 << 20).unwrap();
    let mut buffers: Vec<_> = (0..4).map(|_| ends.recv.expect_transfer(&memory, 0..4096).unwrap()).collect();
    let packet = Packet::new(&ends.recv, buffers[0].tids()[0], 0);
    buffers[0].revoke();
    buffers[0].revoke();
    ends.send(packet, &data(4096, 1));
    assert!(ends.take().is_some_and(|(_, errors)| errors != 0));
    assert_eq!(read(&memory, 0, 4096), [0; 4096]);
    assert!(matches!(ends.recv.expect_transfer(&memory, 0..4096), Err(ContextError::NoEntries { .. })));
    buffers[0].end(Duration::ZERO);
    let next = ends.recv.expect_transfer(&memory, 0..4096).unwrap();
    assert_eq!(next.tids()[0].pair(), 0);
    // What has ended has no say in them any more.
    buffers[0].revoke();
    drop(buffers);
    ends.send(packet, &data(4096, 2));
    assert_eq!(ends.take(), Some((PacketKind::Expected, 0)));
    assert_eq!(read(&memory, 0, 4096), data(4096, 2));
}

#[test]
fn entries_rest_and_a_transfer_gets_as_much_as_there_are() {
    let ends = for_transfers(8);
    let memory = ends.hfi.memory(1 << 20).unwrap();
    let rest = Duration::from_millis(5);
    let mut pairs = Vec::new();
    for _ in 0..6 {
        let mut buffer = ends.recv.expect_transfer(&memory, 0..4096).unwrap();
        pairs.push(buffer.tids()[0].pair());
        buffer.end(if pairs.len() == 2 { rest } else { Duration::ZERO });
        buffer.end(Duration::ZERO);
    }
    assert_eq!(pairs, [0, 1, 2, 3, 0, 2], "the second rests");
    // 127 pages are seven entries, and three pairs are left.
    let buffer = ends.recv.expect_transfer(&memory, 0..127 * 4096).unwrap();
    assert_eq!(buffer.len(), (127 - 1) * 4096, "all but the seventh piece");
    assert!(matches!(ends.recv.expect_transfer(&memory, 0..4096), Err(ContextError::NoEntries { .. })));
    ends.hfi.bus().pause(rest);
    assert_eq!(ends.recv.expect_transfer(&memory, 0..4096).unwrap().tids()[0].pair(), 1);
    let range = |start: usize, end| ends.recv.expect_transfer(&memory, start..end).map(|buffer| buffer.len());
    assert!(matches!(range(0, (1 << 20) + 1), Err(ContextError::BadParameter { .. })));
    drop(buffer);
    assert!(matches!(range(0, 4096), Err(ContextError::NoEntries { .. })), "what was dropped rests, too");
}

#[test]
fn transfers_and_kept_buffers_have_entries_of_their_own() {
    let ends = Ends::new(RecvConfig { expected_entries: 16, transfer_entries: 16, ..config() });
    let memory = ends.hfi.memory(64 << 10).unwrap();
    let kept = ends.recv.expect(&memory, 0..8192).unwrap();
    let once = ends.recv.expect_transfer(&memory, 0..8192).unwrap();
    assert_eq!((kept.tids()[0].pair(), once.tids()[0].pair()), (0, 8));
    drop(ends.recv);
    drop(once);
}
