//! Receive: header queue, eager and expected buffers, checks, interrupts.

use super::rig::{BASE, EAGERS, ENTRIES, ENTRY, EXPECTED, Kdeth, PLAIN, Rig, bytes};
use crate::forge::Forgeries;
use crate::packet::Packet;
use crate::stats::DropReason;
use crate::wire::LINK_CREDIT_BYTES;
use opx_defs::csr;
use opx_defs::rcvarray::RcvArrayEntry;
use opx_defs::source::Source;
use opx_defs::units::{RcvCtxt, Vl};
use opx_defs::wire::rhf::{RcvType, Rhf};
use proptest::prelude::*;
use std::time::Duration;

const TO: u32 = 1;
const FROM: u32 = 0;
const DEPTH: usize = 1000;
const AVAIL: Source = Source::rcv_avail(RcvCtxt(TO as u16));

struct Receiver {
    rig: Rig,
    block: usize,
}

impl Receiver {
    fn new(ctrl: u64) -> Self {
        let mut rig = Rig::new();
        rig.rcv_context(TO, ctrl);
        rig.send_context(FROM, DEPTH as u64);
        Self { rig, block: 0 }
    }

    /// Sends without letting it arrive.
    fn post(&mut self, packet: &Kdeth, spoil: bool) {
        let mut pbc = packet.pbc();
        pbc.0 |= u64::from(spoil) << 23;
        self.block = self.rig.pio(FROM, DEPTH, self.block, pbc, &packet.body());
    }

    fn send(&mut self, packet: &Kdeth) {
        self.post(packet, false);
        self.rig.settle();
    }

    fn entries(&mut self) -> u32 {
        self.rig.read(csr::RCV_HDR_TAIL.at(TO)) as u32 / ENTRY
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.rig.chip.board.counts.dropped(reason)
    }
}

fn small(seed: usize) -> Kdeth {
    Kdeth::eager(TO, bytes(60, seed))
}

#[test]
fn a_full_header_queue_drops_and_counts() {
    let mut r = Receiver::new(PLAIN);
    for i in 0..40 {
        r.send(&small(i));
    }
    // One entry stays empty, so that a full queue isn't an empty one.
    assert_eq!(r.entries(), ENTRIES - 1);
    assert_eq!(r.rig.read(csr::RCV_HDR_OVFL_CNT.at(TO)), 40 - 31);
    assert_eq!(r.dropped(DropReason::HeaderQueueFull), 9);
    r.rig.head(TO, 1, 1);
    r.send(&small(50));
    assert_eq!(r.entries(), 0, "it wraps");
    let (rhf, _, payload) = r.rig.received(TO, 31);
    assert_eq!((rhf.seq(), payload), (32 % 13, small(50).payload));
}

#[test]
fn a_full_header_queue_can_hold_packets_back() {
    let mut r = Receiver::new(PLAIN | 1 << 3);
    for i in 0..40 {
        r.send(&small(i));
    }
    assert_eq!((r.entries(), r.rig.read(csr::RCV_CTXT_STATUS.at(TO))), (ENTRIES - 1, 1));
    assert_ne!(r.rig.read(csr::RCV_STATUS.off()) & 1 << 6, 0);
    assert_eq!(r.rig.chip.board.counts.total_dropped(), 0);
    // The nine that wait come in order as soon as there is room.
    r.rig.head(TO, 20, 1);
    assert_eq!((r.entries(), r.rig.read(csr::RCV_CTXT_STATUS.at(TO))), (8, 0));
    for i in 0..9 {
        assert_eq!(r.rig.received(TO, (31 + i) % ENTRIES).2, small(31 + i as usize).payload);
    }
}

#[test]
fn what_a_receiver_holds_back_is_bounded() {
    let mut r = Receiver::new(PLAIN | 3 << 2);
    let large = Kdeth::eager(TO, bytes(4096, 0));
    // Eight fit in the eager buffers, 34 in the receive buffer, 33 on the link; the rest has to stay.
    for _ in 0..85 {
        r.send(&large);
    }
    let counts = r.rig.chip.board.counts;
    assert!(counts.packets_sent < 80, "{counts:?}");
    assert!(counts.link_full > 0);
    assert_ne!(r.rig.read(csr::SEND_EGRESS_CTXT_STATUS.at(FROM)) & 0x3fff, 0);
    // Nothing is lost: when software reads, all that was sent arrives.
    let taken = counts.packets_sent;
    for step in 0..200u32 {
        let tail = r.entries();
        let (rhf, ..) = r.rig.received(TO, (tail + ENTRIES - 1) % ENTRIES);
        r.rig.write(csr::RCV_EGR_INDEX_HEAD.at(TO), rhf.eager_index().into());
        r.rig.head(TO, tail, 1);
        r.rig.settle();
        if step > 10 && r.rig.read(csr::SEND_EGRESS_CTXT_STATUS.at(FROM)) & 0x3fff == 0 {
            break;
        }
    }
    let counts = r.rig.chip.board.counts;
    assert!(counts.packets_sent > taken);
    assert_eq!((counts.packets_sent, counts.total_dropped()), (counts.packets_received, 0));
    assert_eq!(r.rig.read(csr::SEND_EGRESS_CTXT_STATUS.at(FROM)) & 0x3fff, 0);
}

#[test]
fn eager_buffers_are_packed_and_go_round() {
    let mut r = Receiver::new(PLAIN);
    // 3000 bytes and the ICRC take 47 units of 64: two in a buffer of 8 KiB, the third goes to the next.
    let packet = |i| Kdeth::eager(TO, bytes(3000, i));
    for i in 0..16 {
        r.send(&packet(i));
        let (rhf, _, payload) = r.rig.received(TO, i as u32);
        let place = (u32::from(rhf.eager_index()), rhf.eager_offset());
        assert_eq!(place, (i as u32 / 2, i as u16 % 2 * 47));
        assert_eq!(payload, packet(i).payload);
    }
    // Buffer 0 is the one at the head: it isn't entered again.
    r.send(&packet(16));
    assert_eq!((r.entries(), r.dropped(DropReason::EagerFull)), (16, 1));
    assert_eq!(r.rig.read(csr::RCV_COUNTER_ARRAY32.at(18)), 1);
    r.rig.write(csr::RCV_EGR_INDEX_HEAD.at(TO), 1);
    r.send(&packet(17));
    let (rhf, _, payload) = r.rig.received(TO, 16);
    assert_eq!((rhf.eager_index(), rhf.eager_offset(), payload), (0, 0, packet(17).payload));
    r.send(&packet(18));
    r.send(&packet(19));
    assert_eq!(r.dropped(DropReason::EagerFull), 2);
}

#[test]
fn one_packet_for_each_eager_buffer() {
    let mut r = Receiver::new(PLAIN & !(7 << 8) | 1 << 1 | 1 << 2);
    for i in 0..EAGERS as usize + 1 {
        r.send(&small(i));
    }
    for i in 0..EAGERS {
        let (rhf, _, payload) = r.rig.received(TO, i);
        assert_eq!((u32::from(rhf.eager_index()), rhf.eager_offset(), payload), (i, 0, small(i as usize).payload));
    }
    // The context may not drop: the ninth waits for the first buffer.
    assert_eq!((r.entries(), r.rig.read(csr::RCV_COUNTER_ARRAY32.at(22))), (EAGERS, 1));
    r.rig.write(csr::RCV_EGR_INDEX_HEAD.at(TO), 1);
    assert_eq!(r.entries(), EAGERS + 1);
    assert_eq!(r.rig.received(TO, EAGERS).0.eager_index(), 0);
}

#[test]
fn a_bad_checksum_is_told() {
    let mut r = Receiver::new(PLAIN);
    r.post(&small(1), true);
    r.rig.settle();
    let (rhf, ..) = r.rig.received(TO, 0);
    assert_eq!(rhf.errors(), Rhf::ICRC_ERR);
    assert_eq!(r.rig.read(csr::RCV_COUNTER_ARRAY32.at(6)), 1);
}

#[test]
fn keys_are_checked() {
    let mut r = Receiver::new(PLAIN);
    r.rig.write(csr::RCV_KEY_CTRL.at(TO), 1 << 33 | 7);
    r.send(&small(1));
    r.send(&Kdeth { job_key: 7, ..small(2) });
    assert_eq!((r.entries(), r.dropped(DropReason::JobKey)), (1, 1));
    r.rig.write(csr::RCV_KEY_CTRL.at(TO), 0);
    r.rig.write(csr::RCV_CTRL.off(), 1 | 1 << 2);
    r.rig.write(csr::RCV_PARTITION_KEY.at(1), 0x0001 << 48 | 0x8022);
    for (pkey, taken) in
        [(0x8001, true), (0x0001, false), (0x0022, true), (0x8022, true), (0x8023, false), (0x8000, false)]
    {
        let before = r.entries();
        r.send(&Kdeth { pkey, ..small(3) });
        assert_eq!(r.entries() != before, taken, "{pkey:#x}");
    }
    assert_eq!(r.dropped(DropReason::PartitionKey), 3);
}

#[test]
fn forged_copies_meet_the_checks_that_there_are() {
    let mut r = Receiver::new(PLAIN);
    let all = Forgeries { partition_key: 100.0, job_key: 100.0, source_lid: 100.0, destination_lid: 0.0 };
    r.rig.chip.set_forgeries(all, 1);
    // Without keys the port takes all of them.
    r.send(&small(1));
    assert_eq!(r.entries(), 4);
    r.rig.write(csr::RCV_KEY_CTRL.at(TO), 1 << 33);
    r.rig.write(csr::RCV_CTRL.off(), 1 | 1 << 2);
    r.rig.write(csr::RCV_PARTITION_KEY.at(0), 0x8001);
    r.send(&small(2));
    // The chip doesn't look at the SLID.
    assert_eq!(r.entries(), 6);
    assert_eq!((r.dropped(DropReason::PartitionKey), r.dropped(DropReason::JobKey)), (1, 1));
    assert_eq!(r.rig.chip.forgery_counts().source_lid, 2);
}

#[test]
fn nobody_home() {
    let mut r = Receiver::new(PLAIN);
    r.send(&Kdeth { context: 2, ..small(0) });
    r.send(&Kdeth { context: 200, ..small(0) });
    assert_eq!(r.dropped(DropReason::NoContext), 2);
    r.rig.write(csr::RCV_CTRL.off(), 0);
    r.send(&small(0));
    assert_eq!((r.entries(), r.dropped(DropReason::ReceiverOff)), (0, 1));
}

#[test]
fn an_expected_packet_finds_its_place() {
    let mut r = Receiver::new(PLAIN);
    let (even, odd) = (EXPECTED, EXPECTED + 0x4000);
    for (i, at, len) in [(0, even, 8192), (1, odd, 4096)] {
        // The context's TIDs begin at entry 80; pair 3.
        let entry = RcvArrayEntry::new(BASE.plus(at as u64), len).unwrap();
        r.rig.write(csr::RCV_ARRAY.at(80 + 6 + i), entry.0);
    }
    let dw0 = |ctrl: u32, offset: u32| 1 << 30 | ctrl << 26 | 3 << 16 | (offset / 4);
    let read = |r: &Receiver, at: usize, len: usize| {
        let mut found = vec![0; len];
        r.rig.memory.read(at, &mut found);
        found
    };
    r.send(&Kdeth { dw0: dw0(3, 8000), ..Kdeth::eager(TO, bytes(400, 4)) });
    let (rhf, header, _) = r.rig.received(TO, 0);
    assert_eq!((rhf.kind(), rhf.errors(), rhf.uses_eager(), header.len()), (RcvType::Expected, 0, false, 56));
    assert_eq!(read(&r, even + 8000, 192), bytes(400, 4)[..192]);
    assert_eq!(read(&r, odd, 208), bytes(400, 4)[192..]);
    assert_eq!(read(&r, odd + 208, 8), [0; 8], "the checksum isn't written");

    r.send(&Kdeth { dw0: dw0(2, 3800), ..Kdeth::eager(TO, bytes(400, 5)) });
    assert_eq!(r.rig.received(TO, 1).0.errors(), Rhf::TID_ERR);
    assert_eq!(r.rig.read(csr::RCV_COUNTER_ARRAY32.at(19)), 1);
    r.post(&Kdeth { dw0: dw0(1, 0), ..Kdeth::eager(TO, bytes(400, 6)) }, true);
    r.rig.settle();
    assert_eq!(r.rig.received(TO, 2).0.errors(), Rhf::ICRC_ERR);
    assert_eq!(read(&r, even, 16), [0; 16], "nothing of a broken packet is written");

    // Flow 5 of the context: header suppression, then a packet out of sequence.
    r.rig.write(csr::RCV_CTXT_CTRL.at(TO), PLAIN | 1 | 1 << 4);
    r.rig.write(csr::RCV_TID_FLOW_TABLE.element(TO, 5), 7 << 32 | 9 << 11);
    let flow = |seq: u32, seed| Kdeth {
        flow: 5,
        psn: 9 << 11 | seq,
        dw0: dw0(1, seq * 64) | 1 << 29,
        ..Kdeth::eager(TO, bytes(64, seed))
    };
    r.send(&flow(0, 7));
    r.send(&flow(1, 8));
    assert_eq!((r.entries(), read(&r, even + 64, 64)), (3, bytes(64, 8)));
    r.send(&flow(3, 9));
    let (rhf, ..) = r.rig.received(TO, 3);
    assert_eq!((rhf.kind(), rhf.type_error()), (RcvType::Expected, 2));
    assert_eq!(r.rig.read(csr::RCV_TID_FLOW_TABLE.element(TO, 5)), 0x27 << 32 | 9 << 11 | 2);
    assert_eq!(r.rig.read(csr::RCV_COUNTER_ARRAY32.at(23)), 1);
}

#[test]
fn broken_kdeth_headers_are_of_type_error() {
    let mut r = Receiver::new(PLAIN);
    r.send(&Kdeth { dw0: 0, ..small(0) });
    let (rhf, ..) = r.rig.received(TO, 0);
    assert_eq!((rhf.kind(), rhf.type_error()), (RcvType::Error, 4));
    let mut body = small(0).body();
    body.truncate(40);
    body[5] = 11;
    let packet = Packet::seal(body, Vl(0), false, false, false);
    r.rig.arrive(packet);
    let (rhf, header, _) = r.rig.received(TO, 1);
    assert_eq!((rhf.kind(), rhf.type_error(), header.len()), (RcvType::Error, 2, 20));
}

#[test]
fn an_infiniband_packet_is_split_by_its_opcode() {
    let mut r = Receiver::new(PLAIN);
    r.rig.write(csr::RCV_CTRL.off(), 3);
    r.rig.write(csr::RCV_QP_MAP_TABLE.at(0), u64::from(TO) << 8);
    let mut body = small(3).body();
    // UD send only to queue pair 3, with a solicited event.
    (body[8], body[9], body[13], body[14], body[15]) = (0x64, 0x80, 0, 0, 3);
    r.rig.pio(FROM, DEPTH, 0, small(3).pbc(), &body);
    r.rig.settle();
    let (rhf, header, payload) = r.rig.received(TO, 0);
    assert_eq!((rhf.kind(), rhf.errors()), (RcvType::Ib, 0));
    assert_eq!((header, payload), (body[..28].to_vec(), body[28..].to_vec()));
    assert!(r.rig.took(Source::rcv_urgent(RcvCtxt(TO as u16))));
}

#[test]
fn the_interrupt_counts_and_waits() {
    let mut r = Receiver::new(PLAIN);
    r.rig.write(csr::RCV_AVAIL_TIME_OUT.at(TO), 100);
    r.rig.head(TO, 0, 3);
    r.post(&small(0), false);
    r.rig.run(Duration::from_micros(2));
    r.post(&small(1), false);
    r.rig.run(Duration::from_micros(2));
    assert!(!r.rig.took(AVAIL));
    r.post(&small(2), false);
    r.rig.run(Duration::from_micros(2));
    assert!(r.rig.took(AVAIL), "three packets");
    r.post(&small(3), false);
    r.rig.settle();
    assert!(!r.rig.took(AVAIL), "not again before the head is written");
    r.rig.head(TO, 3, 3);
    assert!(!r.rig.took(AVAIL));
    r.rig.run(Duration::from_micros(7));
    assert!(!r.rig.took(AVAIL));
    r.rig.run(Duration::from_micros(2));
    assert!(r.rig.took(AVAIL), "the fourth has waited for 8 us");
    r.rig.head(TO, 4, 3);
    r.rig.settle();
    assert!(!r.rig.took(AVAIL), "nothing waits");
}

#[test]
fn count_and_time_of_the_interrupt_that_were_set_before_the_context_was_enabled_have_no_effect() {
    let mut r = Receiver::new(PLAIN);
    let off_and_on = |r: &mut Receiver| {
        r.rig.write(csr::RCV_CTXT_CTRL.at(TO), PLAIN);
        r.rig.write(csr::RCV_AVAIL_TIME_OUT.at(TO), 100);
        r.rig.head(TO, 0, 3);
        r.rig.write(csr::RCV_CTXT_CTRL.at(TO), PLAIN | 1);
    };
    off_and_on(&mut r);
    r.post(&small(0), false);
    r.rig.run(Duration::from_micros(2));
    assert!(r.rig.took(AVAIL), "it waits neither for three nor for 8 us");
    off_and_on(&mut r);
    r.rig.head(TO, 0, 3);
    r.send(&small(1));
    assert!(!r.rig.took(AVAIL), "nor for a time, once there is a count");
    r.send(&small(2));
    r.send(&small(3));
    assert!(r.rig.took(AVAIL));
}

#[test]
fn packets_that_wait_when_the_interrupt_is_enabled_raise_it() {
    let mut r = Receiver::new(PLAIN & !csr::RCV_CTXT_CTRL::INTR_AVAIL.mask());
    r.send(&small(0));
    assert!(!r.rig.took(AVAIL));
    r.rig.set(csr::RCV_CTXT_CTRL.at(TO), csr::RCV_CTXT_CTRL::INTR_AVAIL.mask());
    assert!(r.rig.took(AVAIL));
}

#[test]
fn urgent_packets_interrupt() {
    let mut r = Receiver::new(PLAIN);
    r.send(&Kdeth { dw0: 1 << 30 | 1 << 28, ..small(0) });
    assert!(r.rig.took(Source::rcv_urgent(RcvCtxt(TO as u16))));
}

#[test]
fn a_context_starts_over_as_the_driver_needs() {
    let mut r = Receiver::new(PLAIN);
    r.send(&small(0));
    assert_eq!((r.entries(), r.rig.tail(TO)), (1, u64::from(ENTRY)));
    r.rig.took(AVAIL);
    r.rig.write(csr::RCV_CTXT_CTRL.at(TO), PLAIN);
    assert_eq!(r.entries(), 0, "no tail while it is off");
    // The driver writes the head before it enables the context.
    r.rig.head(TO, 0, 0);
    r.rig.settle();
    assert!(!r.rig.took(AVAIL));
    assert_ne!(r.rig.tail(TO), 0);
    r.rig.write(csr::RCV_CTXT_CTRL.at(TO), PLAIN | 1);
    assert_eq!(r.rig.tail(TO), 0, "the copy of the tail starts over too");
    r.send(&small(1));
    let (rhf, _, payload) = r.rig.received(TO, 0);
    assert_eq!((rhf.seq(), rhf.eager_index(), rhf.eager_offset(), payload), (1, 0, 0, small(1).payload));
}

#[test]
fn unreachable_memory_drops_the_packet() {
    let mut r = Receiver::new(PLAIN);
    r.rig.write(csr::RCV_HDR_ADDR.at(TO), 64);
    r.send(&small(0));
    assert_eq!((r.entries(), r.dropped(DropReason::DmaFault)), (0, 1));
    // The eager buffer isn't lost for it: the next packet goes to the same place or the one after it.
    r.rig.write(csr::RCV_HDR_ADDR.at(TO), BASE.plus(0x10_0000).0);
    r.send(&small(1));
    assert_eq!(r.rig.received(TO, 0).2, small(1).payload);
}

proptest! {
    #[test]
    fn no_packet_upsets_the_chip(
        packets in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..200), any::<[u8; 4]>(), any::<bool>()), 1..30),
        ctrl in any::<u64>(),
        registers in proptest::collection::vec((0u32..13, any::<u64>()), 0..8),
        global in any::<u64>(),
    ) {
        let mut r = Receiver::new(ctrl);
        r.rig.write(csr::RCV_CTRL.off(), global | 1);
        for i in 0..4 {
            r.rig.write(csr::RCV_RSM_CFG.at(i), global);
            r.rig.write(csr::RCV_RSM_SELECT.at(i), ctrl);
        }
        for (register, value) in registers {
            r.rig.write(csr::RCV_CTXT_CTRL.at(TO).plus(register * 8), value & 0xff_ffff_ffff);
        }
        for (mut bytes, [lnh, vl, prefix, head], seal) in packets {
            if let Some(first) = bytes.get_mut(..24) {
                first[1] = first[1] & !3 | lnh & 3;
                if prefix > 50 {
                    (first[13], first[15]) = (0x80, TO as u8);
                }
            }
            let bypass = vl & 0x20 != 0;
            let packet = if seal {
                Packet::seal(bytes, Vl(vl & 15), false, bypass, false)
            } else {
                Packet { bytes, vl: Vl(vl & 15), sc4: vl & 16 != 0, bypass }
            };
            r.rig.arrive(packet);
            r.rig.write(csr::RCV_HDR_HEAD.at(TO), head.into());
        }
        r.rig.settle();
        prop_assert_eq!(r.rig.chip.board.events.len(), 0);
    }
}

#[test]
fn a_full_wire_takes_no_more_packets() {
    let mut rig = Rig::new();
    let packet = Packet::seal(bytes(8192 - 4, 0), Vl(0), false, false, false);
    let taken = (0..100).take_while(|_| rig.chip.arrive(packet.clone())).count();
    assert_eq!(taken, LINK_CREDIT_BYTES / 8192);
    rig.settle();
    assert!(rig.chip.arrive(packet));
}
