//! PIO: packets of blocks stored in any order, credit return, errors.

use super::rig::{ENTRIES, ENTRY, Kdeth, PLAIN, Rig, bytes};
use crate::board::LogicalState;
use crate::inject::PioFault;
use crate::stats::DropReason;
use opx_defs::csr::{self, SEND_CTXT_ERR_STATUS as ERR};
use opx_defs::source::Source;
use opx_defs::units::{BarOff, RcvCtxt, SendCtxt};
use opx_defs::wire::pbc::Pbc;
use opx_defs::wire::rhf::RcvType;
use proptest::prelude::*;
use std::time::Duration;

const CTXT: u32 = 3;
const TO: u32 = 1;

fn rig(depth: u64) -> Rig {
    let mut rig = Rig::new();
    rig.rcv_context(TO, PLAIN);
    rig.send_context(CTXT, depth);
    rig
}

fn errors(rig: &mut Rig) -> u64 {
    rig.read(csr::SEND_CTXT_ERR_STATUS.at(CTXT))
}

fn free_and_returned(rig: &mut Rig) -> (u64, u64) {
    let status = rig.read(csr::SEND_CTXT_CREDIT_STATUS.at(CTXT));
    (status >> 32, status & 0x7ff)
}

#[test]
fn a_packet_arrives_whole() {
    let mut rig = rig(16);
    let packet = Kdeth::eager(TO, bytes(300, 1));
    rig.pio(CTXT, 16, 0, packet.pbc(), &packet.body());
    assert_eq!(rig.read(csr::SEND_EGRESS_CTXT_STATUS.at(CTXT)) & 0x3fff, 1, "it leaves later");
    rig.settle();
    assert_eq!(rig.read(csr::SEND_EGRESS_CTXT_STATUS.at(CTXT)), 0);
    let (rhf, header, payload) = rig.received(TO, 0);
    assert_eq!((rhf.kind(), rhf.seq(), rhf.errors(), rhf.length().bytes()), (RcvType::Eager, 1, 0, 360));
    assert_eq!(rhf.header_offset().0, ENTRY - 2 - 14);
    assert_eq!((header, payload), (packet.body()[..56].to_vec(), packet.payload));
    assert_eq!(rig.tail(TO), u64::from(ENTRY));
    assert_eq!(rig.read(csr::RCV_HDR_TAIL.at(TO)), u64::from(ENTRY));
    assert!(rig.took(Source::rcv_avail(RcvCtxt(TO as u16))));
    assert_eq!(rig.read(csr::SEND_COUNTER_ARRAY64.at(0)), 1);
    assert_eq!(rig.read(csr::SEND_COUNTER_ARRAY64.at(12)), 1);
    assert_eq!(rig.read(csr::RCV_COUNTER_ARRAY64.at(0)), 1);
}

#[test]
fn credit_that_runs_short_is_counted() {
    let mut rig = rig(16);
    rig.write(csr::SEND_CTXT_CREDIT_CTRL.at(CTXT), 0);
    // Six blocks each, and no credit comes back before the first has left: the third doesn't fit any more.
    let packet = Kdeth::eager(TO, bytes(300, 1));
    let mut at = 0;
    for short in [0, 1] {
        at = rig.pio(CTXT, 16, at, packet.pbc(), &packet.body());
        assert_eq!(rig.chip.counts().credit_short, short);
    }
    // They leave, and at a threshold of 0 their credit comes back at once.
    rig.settle();
    rig.pio(CTXT, 16, at, packet.pbc(), &packet.body());
    assert_eq!(rig.chip.counts().credit_short, 1);
}

#[test]
fn packets_wrap_at_every_place_of_the_buffer() {
    const DEPTH: usize = 7;
    let mut rig = rig(DEPTH as u64);
    let mut at = 0;
    for i in 0..100 {
        // 1 to 7 blocks, so that a packet may begin and end anywhere, and even fill the buffer.
        let packet = Kdeth::eager(TO, bytes(i % DEPTH * 64, i));
        let next = rig.pio(CTXT, DEPTH, at, packet.pbc(), &packet.body());
        rig.settle();
        let index = i as u32 % ENTRIES;
        let (rhf, _, payload) = rig.received(TO, index);
        assert_eq!((rhf.errors(), payload), (0, packet.payload), "packet {i} at block {at}");
        rig.write(csr::RCV_EGR_INDEX_HEAD.at(TO), rhf.eager_index().into());
        rig.head(TO, (index + 1) % ENTRIES, 1);
        at = next;
    }
    assert_eq!(errors(&mut rig), 0);
}

#[test]
fn stores_may_come_in_any_order() {
    let mut rig = rig(16);
    let packet = Kdeth::eager(TO, bytes(150, 5).split_off(2));
    let second = Kdeth::eager(TO, bytes(64, 6));
    let blocks = Rig::blocks(packet.pbc(), &packet.body());
    // The second packet is complete before the first; its qwords come backwards.
    rig.pio(CTXT, 16, blocks.len(), second.pbc(), &second.body());
    let mut qwords: Vec<(usize, usize)> = (0..blocks.len()).flat_map(|b| (0..8).map(move |q| (b, q))).collect();
    qwords.reverse();
    for (block, qword) in qwords {
        let at = Rig::block_at(CTXT, block, block == 0).plus(qword as u32 * 8);
        rig.write(at, blocks[block][qword]);
    }
    rig.settle();
    assert_eq!(rig.received(TO, 0).2, packet.payload);
    assert_eq!(rig.received(TO, 1).2, second.payload);
}

#[test]
fn credit_comes_back_for_each_reason() {
    let mut rig = rig(16);
    let one = Kdeth::eager(TO, Vec::new());
    let send = |rig: &mut Rig, at: usize, pbc: Pbc| rig.pio(CTXT, 16, at, pbc, &one.body());
    rig.set(csr::SEND_CTXT_CREDIT_CTRL.at(CTXT), 1 << 17);
    let source = Source::send_credit(SendCtxt(CTXT as u16));

    // Below the threshold of 16 nothing is returned.
    send(&mut rig, 0, one.pbc());
    rig.settle();
    assert_eq!((rig.credit(CTXT), free_and_returned(&mut rig)), (0, (1, 0)));
    assert!(!rig.took(source));

    send(&mut rig, 1, one.pbc().credit_return());
    rig.settle();
    assert_eq!((rig.credit(CTXT), free_and_returned(&mut rig)), (1 << 12 | 2, (2, 2)));
    assert!(rig.took(source));

    rig.write(csr::SEND_CTXT_CREDIT_CTRL.at(CTXT), 2);
    send(&mut rig, 2, one.pbc());
    rig.settle();
    assert_eq!(rig.credit(CTXT), 1 << 12 | 2);
    send(&mut rig, 3, one.pbc());
    rig.settle();
    assert_eq!(rig.credit(CTXT), 1 << 13 | 4);
    assert!(!rig.took(source));

    send(&mut rig, 4, one.pbc());
    rig.settle();
    rig.write(csr::SEND_CTXT_CREDIT_FORCE.at(CTXT), 1);
    assert_eq!(rig.credit(CTXT), 1 << 15 | 5);
    send(&mut rig, 5, one.pbc());
    rig.settle();
    rig.write(csr::SEND_CTXT_CREDIT_FORCE.at(CTXT), 1);
    assert_eq!(rig.credit(CTXT), 1 << 15 | 5, "only a rise forces a return");

    rig.chip.write_block(Rig::block_at(CTXT, 16, true), &[0; 8]);
    assert_eq!(rig.credit(CTXT), 1 << 14 | 1 << 11 | 6);
}

#[test]
fn credit_comes_back_sooner_with_early_return() {
    let packet = Kdeth::eager(TO, bytes(4096, 1));
    let early = csr::SEND_CTXT_CREDIT_CTRL::EARLY_RETURN.mask();
    let returned_after = |early: u64| {
        let mut rig = rig(80);
        rig.write(csr::SEND_CTXT_CREDIT_CTRL.at(CTXT), 1 | early);
        rig.pio(CTXT, 80, 0, packet.pbc(), &packet.body());
        (0u64..).find(|_| {
            let status = rig.read(csr::SEND_EGRESS_CTXT_STATUS.at(CTXT));
            let there = rig.credit(CTXT) != 0;
            assert_eq!(status, u64::from(!there), "it is inside until its credit comes back");
            rig.run(Duration::from_nanos(1));
            there
        })
    };
    let (early, late) = (returned_after(early).unwrap(), returned_after(0).unwrap());
    // The packet with its ICRC takes so long at 12.5 bytes a nanosecond.
    assert_eq!(late - early, ((packet.body().len() as u64 + 4) * 2).div_ceil(25));
}

#[test]
fn a_context_that_starts_anew_knows_nothing_of_a_packet_on_the_wire() {
    let mut rig = rig(80);
    let packet = Kdeth::eager(TO, bytes(4096, 1));
    for stop in [0, 1] {
        rig.write(csr::SEND_CTXT_CREDIT_CTRL.at(CTXT), 1);
        rig.pio(CTXT, 80, 0, packet.pbc(), &packet.body());
        rig.run(Duration::from_nanos(200));
        assert_eq!(free_and_returned(&mut rig), (0, 0));
        if stop == 0 {
            rig.write(csr::SEND_CTXT_CTRL.at(CTXT), 0);
        } else {
            // An error: what is inside is lost, and its blocks are free.
            rig.chip.write_block(Rig::block_at(CTXT, 100, true), &[0; 8]);
            assert_eq!(free_and_returned(&mut rig).0, 65);
            rig.write(csr::SEND_CTXT_CTRL.at(CTXT), 0);
        }
        rig.send_context(CTXT, 80);
        rig.settle();
        assert_eq!(free_and_returned(&mut rig), (0, 0));
    }
}

#[test]
fn the_credit_counter_wraps_at_2048() {
    let mut rig = rig(1000);
    rig.write(csr::RCV_CTXT_CTRL.at(TO), 0);
    let packet = Kdeth::eager(TO, bytes(64 * 99, 0));
    let mut at = 0;
    for _ in 0..21 {
        at = rig.pio(CTXT, 1000, at, packet.pbc().credit_return(), &packet.body());
        rig.settle();
    }
    assert_eq!(rig.credit(CTXT), 1 << 12 | (2100 - 2048));
}

/// What a send context error must bring, and that the driver's restart ends it.
fn halts(rig: &mut Rig, error: csr::Field) {
    assert_eq!(errors(rig), error.mask());
    assert_eq!(rig.read(csr::SEND_CTXT_STATUS.at(CTXT)), 1);
    assert_eq!(rig.read(csr::SEND_EGRESS_CTXT_STATUS.at(CTXT)), 1 << 16);
    assert_eq!(rig.credit(CTXT) >> 11 & 1, 1);
    let source = Source::send_ctxt_error(SendCtxt(CTXT as u16));
    assert!(rig.took(source));
    assert!(!rig.took(source), "an edge, although nobody cleared the status");
    // `pio.c:sc_restart`: disable, then enable.
    rig.write(csr::SEND_CTXT_CTRL.at(CTXT), 0);
    rig.send_context(CTXT, 8);
    assert_eq!((errors(rig), rig.read(csr::SEND_CTXT_STATUS.at(CTXT))), (0, 0));
    let packet = Kdeth::eager(TO, bytes(100, 9));
    let tail = rig.tail(TO);
    rig.pio(CTXT, 8, 0, packet.pbc(), &packet.body());
    rig.settle();
    assert_ne!(rig.tail(TO), tail, "the context sends again");
}

#[test]
fn errors_of_the_start_of_packet_view() {
    let packet = Kdeth::eager(TO, bytes(100, 1));
    let blocks = Rig::blocks(packet.pbc(), &packet.body());
    // First block not through the view.
    let mut r = rig(8);
    r.chip.write_block(Rig::block_at(CTXT, 0, false), &blocks[0]);
    halts(&mut r, ERR::PIO_INCONSISTENT_SOP_ERR);
    // A later block through it.
    let mut r = rig(8);
    r.chip.write_block(Rig::block_at(CTXT, 0, true), &blocks[0]);
    r.chip.write_block(Rig::block_at(CTXT, 1, true), &blocks[1]);
    halts(&mut r, ERR::PIO_INCONSISTENT_SOP_ERR);
    // Both in one block.
    let mut r = rig(8);
    r.write(Rig::block_at(CTXT, 0, true), 1);
    r.write(Rig::block_at(CTXT, 0, false).plus(8), 1);
    halts(&mut r, ERR::PIO_INCONSISTENT_SOP_ERR);
    // A packet longer than the buffer.
    let mut r = rig(8);
    let long = Kdeth::eager(TO, bytes(600, 1));
    r.pio(CTXT, 8, 0, long.pbc(), &long.body()[..500]);
    halts(&mut r, ERR::PIO_INCONSISTENT_SOP_ERR);
}

#[test]
fn errors_of_place() {
    let mut r = rig(8);
    r.chip.write_block(Rig::block_at(CTXT, 8, true), &[0; 8]);
    halts(&mut r, ERR::PIO_WRITE_OUT_OF_BOUNDS_ERR);
    let mut r = rig(8);
    r.chip.write_block(Rig::block_at(CTXT, 0, true).plus(8), &[0; 8]);
    halts(&mut r, ERR::PIO_WRITE_CROSSES_BOUNDARY_ERR);
    // No credit: with sending off the first packet can't leave its blocks.
    let mut r = rig(8);
    r.write(csr::SEND_CTRL.off(), 0);
    let packet = Kdeth::eager(TO, bytes(400, 1));
    r.pio(CTXT, 8, 0, packet.pbc(), &packet.body());
    r.settle();
    assert_eq!(r.read(csr::SEND_EGRESS_CTXT_STATUS.at(CTXT)), 1);
    r.chip.write_block(Rig::block_at(CTXT, 0, true), &[0; 8]);
    r.write(csr::SEND_CTRL.off(), 1);
    halts(&mut r, ERR::PIO_WRITE_OVERFLOW_ERR);
}

#[test]
fn a_refused_packet_halts_the_context() {
    let mut rig = rig(8);
    rig.write(csr::SEND_EGRESS_ERR_INFO.off(), u64::MAX);
    rig.write(csr::SEND_CTXT_CHECK_ENABLE.at(CTXT), 1 | 1 << 4);
    rig.write(csr::SEND_CTXT_CHECK_SLID.at(CTXT), 0xffff_0002);
    let packet = Kdeth::eager(TO, bytes(100, 1));
    rig.pio(CTXT, 8, 0, packet.pbc(), &packet.body());
    rig.settle();
    assert_eq!(rig.tail(TO), 0);
    assert_eq!(rig.read(csr::SEND_EGRESS_ERR_INFO.off()), 1 << 4);
    assert_eq!(rig.read(csr::SEND_EGRESS_ERR_SOURCE.off()), u64::from(CTXT));
    rig.write(csr::SEND_EGRESS_ERR_INFO.off(), 1 << 4);
    assert_eq!(rig.read(csr::SEND_EGRESS_ERR_INFO.off()), 0);
    assert_eq!(rig.chip.board.counts.dropped(DropReason::EgressCheck), 1);
    rig.write(csr::SEND_CTXT_CHECK_ENABLE.at(CTXT), 0);
    halts(&mut rig, ERR::PIO_DISALLOWED_PACKET_ERR);
}

#[test]
fn stores_outside_of_all_contexts_are_a_block_error() {
    let mut rig = rig(8);
    rig.write(csr::SEND_PIO_ERR_MASK.off(), u64::MAX);
    rig.write(BarOff(0x200_0000 + 200 * 0x1_0000), 1);
    assert_eq!(rig.read(csr::SEND_PIO_ERR_STATUS.off()), 1);
    assert!(rig.took(Source::PIO_ERR));
    rig.write(csr::SEND_PIO_ERR_CLEAR.off(), 1);
    assert!(rig.took(Source::PIO_ERR), "the level set it again before it was cleared");
    assert!(!rig.took(Source::PIO_ERR));
    rig.write(csr::SEND_PIO_INIT_CTXT.off(), 200 << 8 | 2);
    assert_ne!(rig.read(csr::SEND_PIO_INIT_CTXT.off()) & 8, 0);
}

#[test]
fn data_waits_for_active_and_management_for_init() {
    let mut rig = rig(16);
    rig.write(csr::RCV_VL15.off(), TO.into());
    rig.logical(LogicalState::Init);
    let packet = Kdeth::eager(TO, bytes(8, 1));
    let at = rig.pio(CTXT, 16, 0, packet.pbc().credit_return(), &packet.body());
    rig.settle();
    assert_eq!(rig.read(csr::SEND_EGRESS_ERR_STATUS.off()), 1 << 5);
    assert_eq!(rig.credit(CTXT), 1 << 12 | 2, "blocks of a dropped packet are free");
    let mut management = packet.body();
    management[0] |= 0xf0;
    rig.pio(CTXT, 16, at, Pbc(packet.pbc().0 | 15 << 12), &management);
    rig.settle();
    assert_eq!(rig.tail(TO), u64::from(ENTRY));
    assert_eq!(rig.chip.board.counts.dropped(DropReason::PortState), 1);
}

#[test]
fn an_unsupported_lane_is_drained_not_kept() {
    let mut rig = rig(16);
    rig.write(csr::SEND_CTRL.off(), 1 | 0xff << 3 | 1 << 2);
    assert_eq!(rig.read(csr::SEND_CTRL.off()), 1 | 0xff << 3, "the CM reset is over at once");
    let packet = Kdeth::eager(TO, bytes(8, 1));
    rig.pio(CTXT, 16, 0, packet.pbc(), &packet.body());
    rig.settle();
    assert_eq!(rig.read(csr::SEND_EGRESS_ERR_STATUS.off()), 1 << 12);
    assert_eq!(rig.read(csr::SEND_EGRESS_CTXT_STATUS.at(CTXT)), 0);
    assert_eq!((rig.tail(TO), rig.read(csr::SEND_COUNTER_ARRAY32.at(0))), (0, 1));
}

#[test]
fn a_freeze_empties_the_context() {
    let mut rig = rig(16);
    rig.write(csr::SEND_CTRL.off(), 0);
    let packet = Kdeth::eager(TO, bytes(8, 1));
    rig.pio(CTXT, 16, 0, packet.pbc(), &packet.body());
    rig.freeze(true);
    assert_eq!(rig.read(csr::SEND_EGRESS_CTXT_STATUS.at(CTXT)), 0);
    rig.pio(CTXT, 16, 2, packet.pbc(), &packet.body());
    rig.write(csr::SEND_CTRL.off(), 1);
    rig.freeze(false);
    rig.settle();
    assert_eq!(rig.tail(TO), 0);
}

/// Tells the chip of a fault at the next packet, and sends `count` packets of one block.
fn send_with(fault: PioFault, count: usize) -> Rig {
    let mut rig = rig(8);
    rig.write(csr::SEND_CTXT_CREDIT_CTRL.at(CTXT), 1);
    rig.chip.board.plans.pio.add(CTXT as u16, 0, fault);
    let packet = Kdeth::eager(TO, Vec::new());
    for at in 0..count {
        rig.pio(CTXT, 8, at, packet.pbc(), &packet.body());
    }
    rig.settle();
    rig
}

#[test]
fn the_chip_halts_a_context_when_told_to() {
    for (fault, error) in [
        (PioFault::InconsistentSop, ERR::PIO_INCONSISTENT_SOP_ERR),
        (PioFault::DisallowedPacket, ERR::PIO_DISALLOWED_PACKET_ERR),
        (PioFault::WriteCrossesBoundary, ERR::PIO_WRITE_CROSSES_BOUNDARY_ERR),
        (PioFault::WriteOverflow, ERR::PIO_WRITE_OVERFLOW_ERR),
        (PioFault::WriteOutOfBounds, ERR::PIO_WRITE_OUT_OF_BOUNDS_ERR),
    ] {
        let mut rig = send_with(fault, 1);
        assert_eq!(rig.tail(TO), 0, "the packet is lost");
        halts(&mut rig, error);
    }
}

#[test]
fn credits_go_wrong_when_told_to() {
    const PER_ENTRY: u64 = ENTRY as u64;
    let threshold = |counter: u64| 1 << 13 | counter;
    // The packet arrives, its block is never free again.
    let mut rig = send_with(PioFault::LostCredits, 2);
    assert_eq!((rig.tail(TO), rig.credit(CTXT), free_and_returned(&mut rig)), (2 * PER_ENTRY, threshold(1), (1, 1)));
    // The word isn't written; the next one is right.
    let mut rig = send_with(PioFault::LostReturn, 1);
    assert_eq!((rig.tail(TO), rig.credit(CTXT), free_and_returned(&mut rig)), (PER_ENTRY, 0, (1, 1)));
    assert_eq!(send_with(PioFault::LostReturn, 2).credit(CTXT), threshold(2));
    // The word is nonsense; the next one is right.
    assert_eq!(send_with(PioFault::GarbledReturn, 1).credit(CTXT), threshold(1001));
    assert_eq!(send_with(PioFault::GarbledReturn, 2).credit(CTXT), threshold(2));
}

#[test]
fn a_stalled_packet_holds_up_its_context_until_that_is_enabled_anew() {
    let mut rig = send_with(PioFault::Stall, 3);
    assert_eq!((rig.tail(TO), rig.credit(CTXT)), (0, 0));
    assert_eq!(rig.read(csr::SEND_EGRESS_CTXT_STATUS.at(CTXT)), 3);
    rig.write(csr::SEND_CTXT_CTRL.at(CTXT), 0);
    rig.send_context(CTXT, 8);
    let packet = Kdeth::eager(TO, Vec::new());
    rig.pio(CTXT, 8, 0, packet.pbc(), &packet.body());
    rig.settle();
    assert_eq!(rig.tail(TO), u64::from(ENTRY));
}

proptest! {
    #[test]
    fn no_stores_upset_the_chip(
        depth in 0u64..2047,
        checks in any::<u64>(),
        stores in proptest::collection::vec((0u32..0x200_0000, prop_oneof![any::<u64>(), 0u64..200], any::<bool>()), 0..60),
    ) {
        let mut rig = rig(depth);
        rig.write(csr::SEND_CTXT_CHECK_ENABLE.at(CTXT), checks);
        for (at, value, block) in stores {
            // Most stores go to the context that is on.
            let at = if at % 4 == 0 { at } else { at & 0x100_0fff | CTXT << 16 };
            let at = BarOff((0x200_0000 + at) & !7);
            if block {
                rig.chip.write_block(BarOff(at.0 & !63), &[value; 8]);
            } else {
                rig.write(at, value);
            }
            rig.run(std::time::Duration::from_nanos(value % 64));
        }
        rig.settle();
        prop_assert_eq!(rig.read(csr::SEND_EGRESS_CTXT_STATUS.at(CTXT)) & 0x3fff, 0);
        prop_assert_eq!(rig.chip.board.events.len(), 0);
    }
}
