//! Each fault of an engine: how the driver sees it, and that it goes on afterwards.

mod common;

use common::{LIMIT, Rig};
use opx_bus::PciFunction;
use opx_defs::csr;
use opx_defs::sdma::{HeaderEdit, SdmaDesc};
use opx_defs::status::SdmaErrors;
use opx_defs::units::Iova;
use opx_emu::{EmuBus, Fault, SdmaFault};
use opx_hw::SdmaEngine;
use opx_sdma::{Fragment, Outcome, Packet, SdmaError, SdmaQueue};
use std::time::Duration;

type Queue = SdmaQueue<EmuBus, u32>;

fn queue(rig: &Rig) -> Queue {
    let mut queue = SdmaQueue::new(rig.hfi.sdma_engine(128).unwrap());
    queue.set_stall_limit(Duration::from_millis(10));
    queue
}

/// Queues packets of 400 bytes and tells the engine.
fn send(rig: &Rig, queue: &mut Queue, packets: std::ops::Range<u32>) {
    for n in packets {
        queue.submit(&[rig.place(n, 400)], n).unwrap();
    }
    queue.doorbell();
}

fn ended(queue: &mut Queue) -> Vec<(u32, Outcome)> {
    std::iter::from_fn(|| queue.poll()).collect()
}

/// Packets go through, and nothing else is left of what happened before.
fn works(rig: &mut Rig, queue: &mut Queue) {
    let bus = rig.bus().clone();
    bus.pause(Duration::from_millis(1));
    rig.arrived();
    send(rig, queue, 100..130);
    let (mut done, mut arrived) = (Vec::new(), Vec::new());
    opx_bus::poll::until(&bus, LIMIT, || {
        done.extend(ended(queue));
        arrived.extend(rig.arrived());
        (done.len() == 30 && arrived.len() == 30).then_some(())
    })
    .unwrap();
    assert!(done.iter().copied().eq((100..130).map(|n| (n, Outcome::Sent))));
    assert!(arrived.iter().map(|(n, _)| *n).eq(100..130));
    queue.check().unwrap();
}

/// What [`SdmaQueue::check`] complains of, in time.
fn complaint(rig: &Rig, queue: &mut Queue) -> SdmaError {
    rig.until(|| queue.check().err())
}

/// Sends seven packets; the fourth meets the fault. The queue halts with `expected`, and is restarted.
fn halts(fault: SdmaFault, expected: SdmaErrors) {
    let mut rig = Rig::new();
    let mut queue = queue(&rig);
    assert!(rig.adapter.inject(Fault::Sdma(fault), queue.engine().number().0.into(), 3));
    send(&rig, &mut queue, 0..7);
    let error = complaint(&rig, &mut queue);
    let SdmaError::Halted { errors, .. } = error else { panic!("{fault:?}: {error}") };
    assert!(errors.contains(expected), "{fault:?}: {error}");
    recovers(&mut rig, &mut queue, 3, 7);
}

/// The first `good` of `all` packets were sent, the others fail; then all is well.
fn recovers(rig: &mut Rig, queue: &mut Queue, good: u32, all: u32) {
    queue.restart().unwrap();
    let outcome = |n| if n < good { Outcome::Sent } else { Outcome::Failed };
    assert!(ended(queue).into_iter().filter(|(n, _)| *n < all).eq((0..all).map(|n| (n, outcome(n)))));
    rig.bus().pause(Duration::from_millis(1));
    assert!(rig.arrived().into_iter().map(|(n, _)| n).eq(0..good));
    works(rig, queue);
    assert_eq!((queue.counters().restarts, queue.counters().failed), (1, (all - good).into()));
}

#[test]
fn a_fetch_that_times_out_halts() {
    halts(SdmaFault::Timeout, SdmaErrors::TIMEOUT);
}

#[test]
fn broken_data_from_memory_halts() {
    halts(SdmaFault::MemRead, SdmaErrors::MEM_READ);
}

#[test]
fn a_wrong_header_address_halts() {
    halts(SdmaFault::HeaderAddress, SdmaErrors::HEADER_ADDRESS);
}

#[test]
fn memory_errors_of_the_engine_halt() {
    for (fault, error) in [
        (SdmaFault::DescTable, SdmaErrors::DESC_TABLE_UNC),
        (SdmaFault::Assembly, SdmaErrors::ASSEMBLY_UNC),
        (SdmaFault::PacketTracking, SdmaErrors::PACKET_TRACKING_UNC),
        (SdmaFault::HeaderStorage, SdmaErrors::HEADER_STORAGE_UNC),
        (SdmaFault::HeaderRequestFifo, SdmaErrors::HEADER_REQUEST_FIFO_UNC),
    ] {
        halts(fault, error);
    }
}

/// The same fault at every packet that is tried: each restart brings the queue one packet further.
#[test]
fn an_engine_that_halts_again_and_again_fails_packet_by_packet() {
    let mut rig = Rig::new();
    let mut queue = queue(&rig);
    for n in 0..10 {
        assert!(rig.adapter.inject(Fault::Sdma(SdmaFault::Assembly), 0, n * 2));
    }
    for n in 0..10 {
        send(&rig, &mut queue, n..n + 1);
        let ended = rig.until(|| {
            if queue.check().is_err() {
                queue.restart().unwrap();
            }
            queue.poll()
        });
        assert_eq!(ended, (n, if n % 2 == 0 { Outcome::Failed } else { Outcome::Sent }));
    }
    rig.bus().pause(Duration::from_millis(1));
    assert!(rig.arrived().into_iter().map(|(n, _)| n).eq([1, 3, 5, 7, 9]));
}

#[test]
fn flipped_bits_that_were_mended_change_nothing() {
    for fault in [
        SdmaFault::DescTableMended,
        SdmaFault::AssemblyMended,
        SdmaFault::PacketTrackingMended,
        SdmaFault::HeaderStorageMended,
        SdmaFault::HeaderRequestFifoMended,
        SdmaFault::RequestTrackingMended,
    ] {
        let mut rig = Rig::new();
        let mut queue = queue(&rig);
        assert!(rig.adapter.inject(Fault::Sdma(fault), 0, 3));
        send(&rig, &mut queue, 0..7);
        let mut done = Vec::new();
        // Asleep as well: the interrupt of the error must not keep it awake for ever.
        while done.len() < 7 {
            assert!(queue.wait(LIMIT).unwrap());
            done.extend(ended(&mut queue));
        }
        assert!(done.into_iter().eq((0..7).map(|n| (n, Outcome::Sent))));
        assert!(queue.counters().sleeps <= 7 * 2 + 1, "{fault:?}: {:?}", queue.counters());
        rig.hfi.service_interrupts().unwrap();
        works(&mut rig, &mut queue);
        assert_eq!(queue.counters().restarts, 0);
    }
}

#[test]
fn an_engine_that_stops_without_an_error_is_noticed() {
    let mut rig = Rig::new();
    let mut queue = queue(&rig);
    assert!(rig.adapter.inject(Fault::Sdma(SdmaFault::Stall), 0, 3));
    send(&rig, &mut queue, 0..7);
    let start = rig.bus().now();
    let error = complaint(&rig, &mut queue);
    assert!(matches!(error, SdmaError::Stalled { pending: 7, .. }), "{error}");
    assert!(rig.bus().now().since(start) >= Duration::from_millis(10));
    recovers(&mut rig, &mut queue, 3, 7);
}

#[test]
fn a_sleeper_is_told_of_an_engine_that_stops_without_an_error() {
    let mut rig = Rig::new();
    let mut queue = queue(&rig);
    assert!(rig.adapter.inject(Fault::Sdma(SdmaFault::Stall), 0, 0));
    send(&rig, &mut queue, 0..1);
    let error = queue.wait(LIMIT).unwrap_err().to_string();
    assert!(error.contains("did nothing for 10ms with 1 packets queued"), "{error}");
    recovers(&mut rig, &mut queue, 0, 1);
}

/// An engine whose packets the wire doesn't take isn't at fault.
#[test]
fn an_engine_that_the_link_holds_up_is_not_stalled() {
    let rig = Rig::new();
    let mut queue = queue(&rig);
    let ctrl = rig.bus().read64(csr::SEND_CTRL.off());
    rig.bus().write64(csr::SEND_CTRL.off(), ctrl & !csr::SEND_CTRL::SEND_ENABLE.mask());
    send(&rig, &mut queue, 0..7);
    for _ in 0..10 {
        rig.bus().pause(Duration::from_millis(10));
        queue.check().unwrap();
    }
    rig.bus().write64(csr::SEND_CTRL.off(), ctrl);
    rig.until(|| (ended(&mut queue).last() == Some(&(6, Outcome::Sent))).then_some(()));
}

#[test]
fn a_head_that_was_lost_is_found_in_the_register() {
    let mut rig = Rig::new();
    let mut queue = queue(&rig);
    assert!(rig.adapter.inject(Fault::Sdma(SdmaFault::LostHead), 0, 6));
    send(&rig, &mut queue, 0..7);
    rig.bus().pause(Duration::from_millis(1));
    assert_eq!(ended(&mut queue).len(), 6);
    queue.sync();
    assert_eq!(ended(&mut queue), [(6, Outcome::Sent)]);
    works(&mut rig, &mut queue);
    assert_eq!(queue.counters().restarts, 0);
}

#[test]
fn a_head_outside_of_the_ring_is_not_believed() {
    let mut rig = Rig::new();
    let mut queue = queue(&rig);
    assert!(rig.adapter.inject(Fault::Sdma(SdmaFault::WildHead), 0, 6));
    send(&rig, &mut queue, 0..7);
    rig.bus().pause(Duration::from_millis(1));
    assert!(ended(&mut queue).into_iter().eq((0..7).map(|n| (n, Outcome::Sent))));
    assert_eq!(queue.counters().bad_heads, 1);
    works(&mut rig, &mut queue);
}

#[test]
fn a_lost_interrupt_costs_no_more_than_the_limit() {
    let rig = Rig::new();
    let mut queue = queue(&rig);
    queue.set_stall_limit(LIMIT);
    assert!(rig.adapter.inject(Fault::Sdma(SdmaFault::LostInterrupt), 0, 0));
    send(&rig, &mut queue, 0..1);
    let start = rig.bus().now();
    assert!(queue.wait(Duration::from_millis(5)).unwrap());
    assert!(rig.bus().now().since(start) >= Duration::from_millis(5));
    assert_eq!(queue.poll(), Some((0, Outcome::Sent)));
}

/// Errors of the block stop the chip as a whole.
#[test]
fn errors_of_the_block_freeze_the_chip() {
    for (fault, bit) in [(SdmaFault::RpyTag, 0), (SdmaFault::CsrParity, 1), (SdmaFault::RequestTracking, 2)] {
        let rig = Rig::new();
        let mut queue = queue(&rig);
        assert!(rig.adapter.inject(Fault::Sdma(fault), 0, 3));
        // Long ones: some are still to go when the chip has come to rest.
        for n in 0..60 {
            queue.submit(&[rig.place(n, 8000)], n).unwrap();
        }
        queue.doorbell();
        rig.until(|| (rig.bus().read64(csr::CCE_STATUS.off()) & 0xf == 0xf).then_some(()));
        assert_eq!(rig.bus().read64(csr::SEND_DMA_ERR_STATUS.off()), 1 << bit);
        // Nothing moves any more, and what the memory says is true.
        let done = ended(&mut queue);
        rig.bus().pause(Duration::from_millis(1));
        assert!(ended(&mut queue).is_empty() && (3..60).contains(&done.len()), "{} done", done.len());
    }
}

/// Where the first freeze stopped the engine isn't forgotten over the next ones.
#[test]
fn packets_that_were_done_before_several_freezes_are_known() {
    let rig = Rig::new();
    let (mut queue, mut other) = (queue(&rig), queue(&rig));
    for n in 0..12 {
        queue.submit(&[rig.place(n, 400)], n).unwrap();
        if n == 7 {
            queue.doorbell();
        }
    }
    rig.bus().pause(Duration::from_millis(1));
    for _ in 0..2 {
        assert!(rig.adapter.inject(Fault::Sdma(SdmaFault::CsrParity), other.engine().number().0.into(), 0));
        other.submit(&[rig.place(20, 400)], 0).unwrap();
        other.doorbell();
        rig.until(|| rig.hfi.service_interrupts().unwrap().frozen.then_some(()));
        other.restart().unwrap();
    }
    queue.restart().unwrap();
    let outcome = |n| if n < 8 { Outcome::Sent } else { Outcome::Failed };
    assert_eq!(ended(&mut queue), (0..12).map(|n| (n, outcome(n))).collect::<Vec<_>>());
}

/// A descriptor that software never writes, put where packet `n` of seven is.
fn provoked(expected: SdmaErrors, spoil: impl FnOnce(&SdmaEngine<EmuBus>, Iova)) {
    let mut rig = Rig::new();
    let mut queue = queue(&rig);
    for n in 0..7 {
        queue.submit(&[rig.place(n, 400)], n).unwrap();
    }
    spoil(queue.engine(), rig.memory.iova(3 * common::SLOT));
    queue.doorbell();
    let error = complaint(&rig, &mut queue);
    let SdmaError::Halted { errors, .. } = error else { panic!("{error}") };
    assert!(errors.contains(expected), "{error}");
    recovers(&mut rig, &mut queue, 3, 7);
}

#[test]
fn a_wrong_generation_halts() {
    provoked(SdmaErrors::GEN_MISMATCH, |engine, at| {
        engine.write_descriptor(3, SdmaDesc::new(at, 464).first().last().generation(1));
    });
}

#[test]
fn a_packet_without_a_first_descriptor_halts() {
    provoked(SdmaErrors::FIRST_DESC, |engine, at| engine.write_descriptor(3, SdmaDesc::new(at, 464).last()));
}

#[test]
fn odd_bytes_halt() {
    provoked(SdmaErrors::WRONG_DW, |engine, at| engine.write_descriptor(3, SdmaDesc::new(at, 463).first().last()));
}

#[test]
fn a_length_that_is_not_the_pbcs_halts() {
    provoked(SdmaErrors::LENGTH_MISMATCH, |engine, at| {
        engine.write_descriptor(3, SdmaDesc::new(at, 468).first().last())
    });
}

#[test]
fn memory_that_is_not_mapped_halts() {
    provoked(SdmaErrors::MEM_READ, |engine, _| {
        engine.write_descriptor(3, SdmaDesc::new(Iova(0x7777_0000_0000), 464).first().last());
    });
}

#[test]
fn a_packet_that_is_too_long_halts() {
    provoked(SdmaErrors::TOO_LONG, |engine, at| {
        engine.write_descriptor(3, SdmaDesc::new(at, 8192).first());
        engine.write_descriptor(4, SdmaDesc::new(at, 8192).last());
    });
}

#[test]
fn a_header_that_was_never_stored_halts() {
    provoked(SdmaErrors::HEADER_SELECT, |engine, _| {
        engine.write_descriptor(3, SdmaDesc::stored_header(9, 16, &[HeaderEdit::new(9, 0, 16, 1).unwrap()]));
    });
}

#[test]
fn a_stored_header_of_one_dword_halts() {
    provoked(SdmaErrors::HEADER_LENGTH, |engine, _| {
        engine.write_descriptor(3, SdmaDesc::stored_header(9, 1, &[HeaderEdit::new(9, 0, 16, 1).unwrap()]));
    });
}

#[test]
fn too_many_descriptors_halt() {
    let mut rig = Rig::new();
    let mut queue = queue(&rig);
    let at = rig.place(0, 400).iova();
    let dword = [Fragment::raw(at, 4)];
    for n in 0..70 {
        queue.submit(&dword, n).unwrap();
    }
    for slot in 0..70 {
        let desc = SdmaDesc::new(at, 4);
        queue.engine().write_descriptor(slot, if slot == 0 { desc.first() } else { desc });
    }
    queue.doorbell();
    let error = complaint(&rig, &mut queue);
    let SdmaError::Halted { errors, .. } = error else { panic!("{error}") };
    assert!(errors.contains(SdmaErrors::PACKET_DESC_OVERFLOW), "{error}");
    recovers(&mut rig, &mut queue, 0, 70);
}

#[test]
fn a_tail_beyond_the_ring_halts() {
    let mut rig = Rig::new();
    let mut queue = queue(&rig);
    send(&rig, &mut queue, 0..3);
    rig.bus().pause(Duration::from_millis(1));
    rig.bus().write64(csr::SEND_DMA_TAIL.at(0), 128);
    let error = complaint(&rig, &mut queue);
    let SdmaError::Halted { errors, .. } = error else { panic!("{error}") };
    assert!(errors.contains(SdmaErrors::TAIL_OUT_OF_BOUNDS), "{error}");
    recovers(&mut rig, &mut queue, 3, 3);
}

#[test]
fn a_halt_by_another_hand_is_noticed() {
    let mut rig = Rig::new();
    let mut queue = queue(&rig);
    send(&rig, &mut queue, 0..3);
    rig.bus().pause(Duration::from_millis(1));
    rig.bus().write64(csr::SEND_DMA_CTRL.at(0), csr::SEND_DMA_CTRL::SDMA_HALT.mask());
    let error = complaint(&rig, &mut queue);
    assert!(matches!(error, SdmaError::Halted { errors, .. } if errors.contains(SdmaErrors::HALT)), "{error}");
    recovers(&mut rig, &mut queue, 3, 3);
}

/// A packet that egress refuses: the engine goes on without it, and the port counts it.
#[test]
fn a_packet_on_a_lane_that_is_not_used_is_dropped() {
    let mut rig = Rig::new();
    let mut queue = queue(&rig);
    let whole = rig.place(0, 400);
    // The PBC's lane: bits 15:12.
    let pbc = rig.memory.read_u64(0);
    rig.memory.write_u64(0, pbc | 5 << 12);
    queue.submit(&[whole], 0).unwrap();
    queue.doorbell();
    let ended = rig.until(|| queue.poll());
    assert_eq!(ended, (0, Outcome::Sent), "the engine is done with it");
    rig.hfi.service_interrupts().unwrap();
    assert_eq!(rig.hfi.counts().egress_errors.load(std::sync::atomic::Ordering::Relaxed), 1);
    rig.bus().pause(Duration::from_millis(1));
    assert!(rig.arrived().is_empty());
    works(&mut rig, &mut queue);
}

#[test]
fn an_adapter_that_is_gone_fails_all() {
    let rig = Rig::new();
    let mut queue = queue(&rig);
    send(&rig, &mut queue, 0..3);
    rig.remove();
    assert!(matches!(queue.check(), Err(SdmaError::Gone { .. })));
    assert!(queue.restart().unwrap_err().is_gone());
    assert!(ended(&mut queue).into_iter().eq((0..3).map(|n| (n, Outcome::Failed))));
    let (error, token) = queue.submit(Packet::new(&[Fragment::raw(Iova(0), 64)]), 9).unwrap_err();
    assert!(matches!(error, SdmaError::Stopped { .. }) && token == 9, "{error}");
    assert!(queue.restart().unwrap_err().is_gone());
    assert!(ended(&mut queue).is_empty(), "each only once");
}
