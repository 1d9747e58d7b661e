//! Every fault that the receive engine can have: how it shows in what the driver hands up or counts, and that it goes on.

mod common;

use common::{Bench, header, packet, receive, send_pio};
use opx_bus::PciFunction;
use opx_defs::csr::{self, CCE_CTRL};
use opx_defs::units::{Blocks, JobKey, Lid};
use opx_emu::{DropReason, EmuBus, Fault, Icode, ReceiveFault};
use opx_hw::recv::{Detect, PacketKind};
use opx_hw::{Hfi, RecvConfig, RecvContext, RecvCounts, SendContext};
use std::sync::atomic::Ordering;
use std::time::Duration;

struct Ends {
    bench: Bench,
    hfi: Hfi<EmuBus>,
    recv: RecvContext<EmuBus>,
    send: SendContext<EmuBus>,
    fill: u16,
}

impl Ends {
    fn new(detect: Detect) -> Self {
        let bench = Bench::new(Icode::Silicon);
        let hfi = bench.active();
        let config = RecvConfig { detect, eager_buffers: 8, eager_buffer_size: 16384, ..RecvConfig::default() };
        let config = RecvConfig { interrupts: true, ..config };
        let recv = hfi.recv_context(config).unwrap();
        let send = hfi.send_context(Blocks(256)).unwrap();
        Self { bench, hfi, recv, send, fill: 0 }
    }

    fn inject(&self, fault: ReceiveFault) {
        assert!(self.bench.adapter.inject(Fault::Receive(fault), self.recv.number().0, 1));
    }

    fn packet(&self) -> Vec<u8> {
        packet(&header(Lid(1), Lid(1), self.recv.number(), JobKey(1), 64), &[5; 64])
    }

    fn send(&mut self) {
        let packet = self.packet();
        self.send_this(&packet);
    }

    fn send_this(&mut self, packet: &[u8]) {
        self.fill = send_pio(&self.send, self.fill, packet) % 256;
        self.hfi.bus().pause(Duration::from_micros(1));
    }

    /// The next packet's kind and errors.
    fn take(&mut self) -> Option<(PacketKind, u64)> {
        let received = receive(&mut self.recv)?;
        self.recv.release();
        Some((received.kind(), received.errors()))
    }

    /// A good packet gets through.
    fn goes_on(&mut self) {
        self.send();
        assert_eq!(self.take(), Some((PacketKind::Eager, 0)));
    }
}

#[test]
fn every_flag_is_handed_up_and_counted() {
    type Count = fn(&RecvCounts) -> u64;
    let flags: [(ReceiveFault, Count); 7] = [
        (ReceiveFault::Icrc, |c| c.by_error.icrc),
        (ReceiveFault::Ecc, |c| c.by_error.ecc),
        (ReceiveFault::Length, |c| c.by_error.length),
        (ReceiveFault::Tid, |c| c.by_error.tid),
        (ReceiveFault::Dc, |c| c.by_error.dc),
        (ReceiveFault::DcUncorrectable, |c| c.by_error.dc_uncorrectable),
        (ReceiveFault::KdethLength, |c| c.by_error.kdeth_length),
    ];
    let mut ends = Ends::new(Detect::Sequence);
    for (i, (fault, count)) in (1..).zip(flags) {
        ends.inject(fault);
        ends.goes_on();
        ends.send();
        assert_eq!(ends.take(), Some((PacketKind::Eager, fault.flag().unwrap())), "{}", fault.name());
        let counts = ends.recv.counts();
        assert_eq!((counts.errors, count(&counts)), (i, 1), "{}", fault.name());
        ends.goes_on();
    }
}

#[test]
fn packets_of_type_error_are_handed_up_as_broken() {
    let mut ends = Ends::new(Detect::Sequence);
    let faults = [ReceiveFault::Opcode, ReceiveFault::HeaderChecksum, ReceiveFault::Context, ReceiveFault::TidHeader];
    for fault in faults {
        ends.inject(fault);
        ends.goes_on();
        ends.send();
        let code = fault.broken().unwrap();
        assert_eq!(ends.take(), Some((PacketKind::Broken, code << 56)), "{}", fault.name());
        assert_eq!(ends.recv.counts().by_error.broken[code as usize], 1);
        ends.goes_on();
    }
}

#[test]
fn a_broken_kdeth_header_is_told() {
    let mut ends = Ends::new(Detect::Sequence);
    let mut packet = ends.packet();
    // KDETH version 0: the send context's own check is off.
    ends.hfi.bus().write64(csr::SEND_CTXT_CHECK_ENABLE.at(ends.send.number().0.into()), 0);
    packet[8 + 23] &= 0x3f;
    ends.send_this(&packet);
    assert_eq!(ends.take(), Some((PacketKind::Broken, 4 << 56)));
    assert_eq!(ends.recv.counts().by_error.broken[4], 1);
    ends.goes_on();
}

#[test]
fn a_wrong_partition_stays_out() {
    let mut ends = Ends::new(Detect::Sequence);
    ends.hfi.bus().write64(csr::SEND_CTXT_CHECK_ENABLE.at(ends.send.number().0.into()), 0);
    let mut packet = ends.packet();
    packet[8 + 10..8 + 12].copy_from_slice(&[0x80, 0x55]);
    ends.send_this(&packet);
    assert_eq!(ends.take(), None);
    assert_eq!(ends.bench.adapter.counts().dropped(DropReason::PartitionKey), 1);
    ends.goes_on();
}

#[test]
fn a_lost_tail_is_found_when_going_to_sleep() {
    let mut ends = Ends::new(Detect::Tail);
    ends.inject(ReceiveFault::LostTail);
    ends.goes_on();
    ends.send();
    ends.hfi.bus().pause(Duration::from_micros(50));
    assert!(ends.recv.poll().is_none(), "the chip's copy of the tail doesn't show it");
    assert!(ends.recv.arm().unwrap());
    assert_eq!((ends.take(), ends.recv.counts().lost_tails), (Some((PacketKind::Eager, 0)), 1));
    ends.goes_on();
    // Without that, the next packet's tail shows both.
    ends.inject(ReceiveFault::LostTail);
    ends.goes_on();
    ends.send();
    ends.send();
    assert_eq!((ends.take(), ends.take()), (Some((PacketKind::Eager, 0)), Some((PacketKind::Eager, 0))));
    assert_eq!(ends.recv.counts().lost_tails, 1);
}

#[test]
fn a_late_entry_is_waited_for() {
    for detect in [Detect::Sequence, Detect::Tail] {
        let mut ends = Ends::new(detect);
        // Once round the queue, so that an old entry lies where the late one will be.
        for _ in 0..2048 {
            ends.goes_on();
        }
        ends.inject(ReceiveFault::LateEntry);
        ends.goes_on();
        ends.send();
        let tail = |ends: &Ends| ends.hfi.bus().read64(csr::RCV_HDR_TAIL.at(ends.recv.number().0.into()));
        assert_eq!(tail(&ends), 2 * 32, "the tail is there already");
        assert!(ends.recv.poll().is_none());
        assert!(ends.recv.arm().unwrap(), "it isn't a time to sleep");
        assert_eq!(ends.take(), Some((PacketKind::Eager, 0)));
        ends.goes_on();
        assert_eq!(ends.recv.counts().errors, 0);
    }
}

#[test]
fn every_error_of_the_receive_engine_is_taken_and_survived() {
    let mut ends = Ends::new(Detect::Sequence);
    let (mut frozen, mut others) = (0, 0);
    for fault in ReceiveFault::ALL.iter().filter(|fault| fault.error().is_some()) {
        let before = ends.hfi.counts().receive_errors.load(Ordering::Relaxed);
        ends.inject(*fault);
        ends.goes_on();
        ends.send();
        ends.hfi.bus().pause(Duration::from_micros(20));
        ends.hfi.service_interrupts().unwrap();
        let after = ends.hfi.counts().receive_errors.load(Ordering::Relaxed);
        assert_eq!(after, before + 1, "{}", fault.name());
        assert_eq!(ends.hfi.bus().read64(csr::RCV_ERR_STATUS.off()), 0);
        let chip_frozen = ends.hfi.bus().read64(csr::CCE_STATUS.off()) & 0xf != 0;
        if chip_frozen || ends.recv.is_stale() {
            frozen += 1;
            // Packets that come meanwhile are lost; then the context is started over.
            ends.hfi.bus().write64(csr::CCE_CTRL.off(), CCE_CTRL::SPC_UNFREEZE.mask());
            ends.hfi.bus().pause(Duration::from_micros(20));
            ends.recv.recover().unwrap();
            ends.send = {
                let again = ends.hfi.send_context(Blocks(256)).unwrap();
                ends.fill = 0;
                again
            };
        } else {
            others += 1;
            assert_eq!(ends.take(), Some((PacketKind::Eager, 0)), "{}", fault.name());
        }
        ends.goes_on();
    }
    // All 64 bits; 44 of them freeze the chip.
    assert_eq!((frozen, others), (44, 20));
    assert_eq!(ends.recv.counts().recoveries, frozen);
}
