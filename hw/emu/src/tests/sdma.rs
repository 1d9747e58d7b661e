//! SDMA: rings, generations, completion, errors, the halt and clean-up handshake.

use super::rig::{BASE, DATA, ENTRIES, HEAD, Kdeth, PLAIN, RING, Rig, bytes};
use crate::board::LogicalState;
use crate::stats::DropReason;
use opx_defs::csr::{self, SEND_DMA_ENG_ERR_STATUS as ERR};
use opx_defs::sdma::SdmaDesc;
use opx_defs::source::Source;
use opx_defs::units::SdmaEngine;
use proptest::prelude::*;
use std::time::Duration;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

const ENGINE: u32 = 2;
const TO: u32 = 1;
const SLOTS: u64 = 64;

/// What brings an error about.
type Cause<'a> = &'a dyn Fn(&mut Sdma);

struct Sdma {
    rig: Rig,
    /// Descriptors written since the start.
    slot: u64,
}

impl Sdma {
    fn new() -> Self {
        let mut rig = Rig::new();
        rig.rcv_context(TO, PLAIN);
        rig.engine(ENGINE);
        Self { rig, slot: 0 }
    }

    fn raw(&mut self, desc: SdmaDesc) {
        self.rig.memory.write(RING + (self.slot % SLOTS) as usize * 16, desc.as_bytes());
        self.slot += 1;
    }

    fn desc(&mut self, desc: SdmaDesc) {
        self.raw(desc.generation(self.slot / SLOTS));
    }

    fn doorbell(&mut self) {
        self.rig.write(csr::SEND_DMA_TAIL.at(ENGINE), self.slot % SLOTS);
    }

    /// Puts a packet into memory and its descriptors, cut at `cuts`, into the ring.
    fn packet(&mut self, packet: &Kdeth, cuts: &[usize], flags: impl Fn(SdmaDesc) -> SdmaDesc) {
        let mut all = packet.pbc().0.to_le_bytes().to_vec();
        all.extend(packet.body());
        let at = DATA + (self.slot % 8) as usize * 0x4000;
        self.rig.memory.write(at, &all);
        let mut ends = cuts.to_vec();
        ends.push(all.len());
        let mut start = 0;
        for (i, &end) in ends.iter().enumerate() {
            let mut desc = SdmaDesc::new(BASE.plus((at + start) as u64), (end - start) as u32);
            if i == 0 {
                desc = desc.first();
            }
            if i == ends.len() - 1 {
                desc = flags(desc.last());
            }
            self.desc(desc);
            start = end;
        }
    }

    fn head(&mut self) -> u64 {
        self.rig.read(csr::SEND_DMA_HEAD.at(ENGINE))
    }

    fn status(&mut self) -> (bool, bool) {
        let status = self.rig.read(csr::SEND_DMA_STATUS.at(ENGINE));
        (status >> 56 & 1 != 0, status >> 57 & 1 != 0)
    }

    fn errors(&mut self) -> u64 {
        self.rig.read(csr::SEND_DMA_ENG_ERR_STATUS.at(ENGINE))
    }

    fn took(&mut self, source: fn(SdmaEngine) -> Source) -> bool {
        self.rig.took(source(SdmaEngine(ENGINE as u8)))
    }
}

#[test]
fn packets_go_round_the_ring() {
    let mut sdma = Sdma::new();
    for i in 0..120 {
        let packet = Kdeth::eager(TO, bytes(40 * 4 + i * 8, i));
        sdma.packet(&packet, &[64, 100], SdmaDesc::head_to_host);
        sdma.doorbell();
        assert_eq!(
            sdma.rig.read(csr::SEND_DMA_DESC_FETCHED_CNT.at(ENGINE)),
            i as u64 * 3,
            "not inside of the doorbell"
        );
        sdma.rig.settle();
        let index = i as u32 % ENTRIES;
        let (rhf, _, payload) = sdma.rig.received(TO, index);
        assert_eq!((rhf.errors(), payload), (0, packet.payload), "packet {i}");
        let head = sdma.slot % SLOTS;
        assert_eq!((sdma.head(), sdma.rig.memory.read_u64(HEAD)), (head, head));
        sdma.rig.write(csr::RCV_EGR_INDEX_HEAD.at(TO), rhf.eager_index().into());
        sdma.rig.head(TO, (index + 1) % ENTRIES, 1);
    }
    assert_eq!((sdma.errors(), sdma.slot / SLOTS), (0, 5));
}

#[test]
fn each_interrupt_has_its_cause() {
    let mut sdma = Sdma::new();
    let packet = Kdeth::eager(TO, bytes(64, 0));
    sdma.rig.write(csr::SEND_DMA_DESC_CNT.at(ENGINE), 4);
    sdma.packet(&packet, &[64], |desc| desc);
    sdma.doorbell();
    sdma.rig.settle();
    assert!(!sdma.took(Source::sdma_int) && !sdma.took(Source::sdma_progress) && sdma.took(Source::sdma_idle));
    assert_eq!(sdma.rig.read(csr::SEND_DMA_DESC_CNT.at(ENGINE)), 2);
    sdma.packet(&packet, &[64], |desc| desc);
    sdma.doorbell();
    sdma.rig.settle();
    assert!(!sdma.took(Source::sdma_int) && sdma.took(Source::sdma_progress) && sdma.took(Source::sdma_idle));
    sdma.packet(&packet, &[], SdmaDesc::interrupt);
    sdma.doorbell();
    sdma.rig.settle();
    assert!(sdma.took(Source::sdma_int) && !sdma.took(Source::sdma_progress) && sdma.took(Source::sdma_idle));
    // The idle interrupt comes 250 ns after the last descriptor, not while more come.
    sdma.rig.write(csr::SEND_DMA_RELOAD_CNT.at(ENGINE), 805 * 10);
    sdma.packet(&packet, &[], |desc| desc);
    sdma.doorbell();
    sdma.rig.run(Duration::from_micros(5));
    assert_ne!(sdma.rig.read(csr::SEND_DMA_IDLE_CNT.at(ENGINE)), 0);
    sdma.packet(&packet, &[], |desc| desc);
    sdma.doorbell();
    sdma.rig.run(Duration::from_micros(8));
    assert!(!sdma.took(Source::sdma_idle));
    sdma.rig.run(Duration::from_micros(8));
    assert!(sdma.took(Source::sdma_idle));
}

#[test]
fn each_error_halts_and_the_handshake_starts_again() {
    let mut sdma = Sdma::new();
    let good = Kdeth::eager(TO, bytes(64, 0));
    let at = BASE.plus(DATA as u64);
    let cases: [(csr::Field, Cause); 9] = [
        (ERR::SDMA_GEN_MISMATCH_ERR, &|s| s.raw(SdmaDesc::new(at, 64).first().last().generation(1))),
        (ERR::SDMA_FIRST_DESC_ERR, &|s| s.desc(SdmaDesc::new(at, 64).last())),
        (ERR::SDMA_MEM_READ_ERR, &|s| s.desc(SdmaDesc::new(opx_defs::units::Iova(64), 64).first().last())),
        (ERR::SDMA_LENGTH_MISMATCH_ERR, &|s| s.desc(SdmaDesc::new(at, 68).first().last())),
        (ERR::SDMA_WRONG_DW_ERR, &|s| s.desc(SdmaDesc::new(at, 67).first().last())),
        (ERR::SDMA_TOO_LONG_ERR, &|s| {
            s.desc(SdmaDesc::new(at, 16000).first());
            s.desc(SdmaDesc::new(at, 400).last());
        }),
        (ERR::SDMA_HEADER_SELECT_ERR, &|s| {
            let mut desc = SdmaDesc::new(at, 64).first();
            desc.qw1 = U64::new(5 << 13);
            s.desc(desc);
        }),
        (ERR::SDMA_TAIL_OUT_OF_BOUNDS_ERR, &|s| s.rig.write(csr::SEND_DMA_TAIL.at(ENGINE), 64)),
        (ERR::SDMA_HALT_ERR, &|s| s.rig.write(csr::SEND_DMA_CTRL.at(ENGINE), 0xb)),
    ];
    for (error, cause) in cases {
        assert!(sdma.took(Source::sdma_error) || sdma.errors() == 0);
        // A good packet before the bad one still goes, and the head stands at the bad one.
        let before = sdma.rig.tail(TO);
        sdma.packet(&good, &[], SdmaDesc::head_to_host);
        sdma.doorbell();
        sdma.rig.run(Duration::from_micros(5));
        cause(&mut sdma);
        if sdma.slot > 1 {
            sdma.doorbell();
        }
        sdma.rig.settle();
        assert_eq!(sdma.errors(), error.mask());
        assert_ne!(sdma.rig.tail(TO), before, "{}", error.name);
        assert_eq!((sdma.head(), sdma.status()), (1, (true, false)), "{}", error.name);
        assert!(sdma.took(Source::sdma_error));
        sdma.rig.restart_engine(ENGINE);
        sdma.slot = 0;
        assert_eq!((sdma.errors(), sdma.status(), sdma.head()), (0, (false, false), 0));
        sdma.took(Source::sdma_error);
    }
}

#[test]
fn good_packets_before_a_bad_one_of_the_same_batch_go() {
    let mut sdma = Sdma::new();
    for i in 0..3 {
        sdma.packet(&Kdeth::eager(TO, bytes(1024, i)), &[], SdmaDesc::head_to_host);
    }
    sdma.desc(SdmaDesc::new(BASE, 64).last());
    sdma.doorbell();
    sdma.rig.settle();
    assert_eq!((sdma.errors(), sdma.head()), (ERR::SDMA_FIRST_DESC_ERR.mask(), 3));
    assert_eq!(sdma.rig.received(TO, 2).2, bytes(1024, 2));
}

#[test]
fn too_many_descriptors_of_a_packet() {
    let mut sdma = Sdma::new();
    sdma.rig.write(csr::SEND_DMA_CTRL.at(ENGINE), 2);
    sdma.rig.write(csr::SEND_DMA_CTRL.at(ENGINE), 0xc);
    sdma.rig.write(csr::SEND_DMA_LEN_GEN.at(ENGINE), 128);
    sdma.rig.write(csr::SEND_DMA_CTRL.at(ENGINE), 9);
    let at = BASE.plus(DATA as u64);
    for i in 0..70u64 {
        let desc = SdmaDesc::new(at, 4);
        let desc = if i == 0 { desc.first() } else { desc };
        sdma.rig.memory.write(RING + i as usize * 16, desc.as_bytes());
    }
    let halted = sdma.errors();
    sdma.rig.write(csr::SEND_DMA_ENG_ERR_CLEAR.at(ENGINE), halted);
    sdma.rig.write(csr::SEND_DMA_TAIL.at(ENGINE), 70);
    sdma.rig.settle();
    assert_eq!(sdma.errors(), ERR::SDMA_PACKET_DESC_OVERFLOW_ERR.mask());
}

#[test]
fn a_start_from_rest_gives_the_halt_error() {
    let mut rig = Rig::new();
    rig.write(csr::SEND_DMA_ENG_ERR_MASK.at(ENGINE), u64::MAX);
    // `sdma.c`, s00 to s10: HALT with ENABLE off.
    rig.write(csr::SEND_DMA_CTRL.at(ENGINE), 2);
    assert_eq!(rig.read(csr::SEND_DMA_ENG_ERR_STATUS.at(ENGINE)), 1 << 6);
    assert_eq!(rig.read(csr::SEND_DMA_STATUS.at(ENGINE)), 1 << 56);
    assert!(rig.took(Source::sdma_error(SdmaEngine(ENGINE as u8))));
    // An engine that wasn't cleaned up stays halted.
    rig.write(csr::SEND_DMA_CTRL.at(ENGINE), 9);
    assert_eq!(rig.read(csr::SEND_DMA_STATUS.at(ENGINE)), 1 << 56);
}

#[test]
fn a_freeze_halts_and_cleans_without_an_error() {
    let mut sdma = Sdma::new();
    sdma.rig.write(csr::SEND_CTRL.off(), 0);
    sdma.packet(&Kdeth::eager(TO, bytes(64, 0)), &[], SdmaDesc::head_to_host);
    sdma.doorbell();
    sdma.rig.settle();
    assert_eq!(sdma.rig.read(csr::SEND_EGRESS_SEND_DMA_STATUS.at(ENGINE)), 1);
    sdma.rig.freeze(true);
    sdma.rig.write(csr::SEND_CTRL.off(), 1);
    assert_eq!((sdma.status(), sdma.head(), sdma.errors()), ((true, true), 0, 0));
    sdma.rig.settle();
    assert_eq!(sdma.rig.tail(TO), 0);
    sdma.rig.freeze(false);
    assert_eq!(sdma.status(), (false, false));
    sdma.rig.restart_engine(ENGINE);
    sdma.slot = 0;
    sdma.packet(&Kdeth::eager(TO, bytes(64, 0)), &[], SdmaDesc::head_to_host);
    sdma.doorbell();
    sdma.rig.settle();
    assert_eq!(sdma.head(), 1);
}

#[test]
fn refused_and_dropped_packets_complete() {
    let mut sdma = Sdma::new();
    sdma.rig.write(csr::SEND_EGRESS_ERR_MASK.off(), u64::MAX);
    sdma.rig.write(csr::SEND_DMA_CHECK_ENABLE.at(ENGINE), 1 | 1 << 5);
    sdma.rig.write(csr::SEND_DMA_CHECK_OPCODE.at(ENGINE), 0xff04);
    sdma.packet(&Kdeth::eager(TO, bytes(64, 0)), &[], SdmaDesc::head_to_host);
    sdma.doorbell();
    sdma.rig.settle();
    assert_eq!(sdma.rig.read(csr::SEND_EGRESS_ERR_STATUS.off()), 1 << (16 + ENGINE));
    assert_eq!(sdma.rig.read(csr::SEND_EGRESS_ERR_INFO.off()), 1 << 5);
    assert!(sdma.rig.took(Source::EGRESS_ERR));
    assert_eq!((sdma.head(), sdma.status(), sdma.rig.tail(TO)), (1, (false, false), 0));
    sdma.rig.write(csr::SEND_DMA_CHECK_ENABLE.at(ENGINE), 0);
    sdma.rig.logical(LogicalState::Armed);
    sdma.packet(&Kdeth::eager(TO, bytes(64, 0)), &[], SdmaDesc::head_to_host);
    sdma.doorbell();
    sdma.rig.settle();
    assert_eq!((sdma.head(), sdma.rig.chip.board.counts.dropped(DropReason::PortState)), (2, 1));
}

#[test]
fn a_halt_takes_the_packet_off_a_full_link() {
    let mut sdma = Sdma::new();
    // A context that may not drop, and whose software doesn't read: everything backs up to the engine.
    sdma.rig.rcv_context(TO, PLAIN | 3 << 2);
    let packet = Kdeth::eager(TO, bytes(4096, 0));
    for _ in 0..60 {
        sdma.packet(&packet, &[], SdmaDesc::head_to_host);
    }
    sdma.doorbell();
    sdma.rig.settle();
    for _ in 0..60 {
        sdma.packet(&packet, &[], SdmaDesc::head_to_host);
        if sdma.slot % SLOTS == sdma.head() {
            break;
        }
    }
    sdma.doorbell();
    sdma.rig.settle();
    assert_ne!(sdma.rig.read(csr::SEND_EGRESS_SEND_DMA_STATUS.at(ENGINE)), 0);
    assert_ne!(sdma.rig.chip.board.counts.link_full, 0);
    sdma.rig.write(csr::SEND_DMA_CTRL.at(ENGINE), 0xb);
    assert_eq!(sdma.rig.read(csr::SEND_EGRESS_SEND_DMA_STATUS.at(ENGINE)), 0);
    assert_eq!(sdma.status(), (true, false));
}

proptest! {
    #[test]
    fn no_ring_upsets_the_chip(
        descs in proptest::collection::vec((any::<u64>(), any::<u64>(), 0u8..8), 1..64),
        writes in proptest::collection::vec((0u32..0x20, any::<u64>(), any::<bool>()), 0..20),
    ) {
        let mut sdma = Sdma::new();
        sdma.rig.write(csr::SEND_DMA_LEN_GEN.at(ENGINE), 64);
        let good = BASE.0 + DATA as u64;
        for (qw0, qw1, kind) in descs {
            // Some of them are nearly right, so that packets come out of the ring as well.
            let (qw0, qw1) = match kind {
                0 => (qw0, qw1),
                1..=4 => (3 << 62 | 64 << 48 | good, qw1 & 0x1fff),
                _ => (qw0 & 0x8fff << 48 | qw1 & 1 << 62 | good, qw1 & 0xffff_0000_ffff),
            };
            sdma.raw(SdmaDesc { qw0: U64::new(qw0), qw1: U64::new(qw1) });
        }
        sdma.rig.memory.write_u64(DATA, 16);
        sdma.doorbell();
        sdma.rig.settle();
        for (register, value, small) in writes {
            let at = csr::SEND_DMA_CTRL.at(ENGINE).plus(register * 8);
            sdma.rig.write(at, if small { value & 0xff } else { value });
            sdma.rig.run(Duration::from_micros(2));
        }
        sdma.rig.settle();
        prop_assert!(sdma.rig.chip.board.events.len() <= 3);
    }
}
