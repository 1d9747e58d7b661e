//! Steering: by rules of the receive-side mapping, by queue pair, and where bypass packets go.

mod common;

use common::{Bench, receive, send_pio};
use opx_bus::PciFunction;
use opx_defs::csr;
use opx_defs::rsm::{RsmRule, bit};
use opx_defs::units::{Blocks, Dwords, Lid, Pkey, RcvCtxt, Sc, Vl};
use opx_defs::wire::lrh16::{L2_16B, L4_ETHERNET, L4_IB_LOCAL, LRH16_BYTES, Lrh16};
use opx_defs::wire::pbc::Pbc;
use opx_defs::wire::rhf::RcvType;
use opx_emu::{DropReason, EmuBus, Icode};
use opx_hw::recv::PacketKind;
use opx_hw::{ContextError, Hfi, RecvConfig, RecvContext, SendContext};
use std::time::Duration;

fn config() -> RecvConfig {
    RecvConfig { header_entries: 64, eager_buffers: 8, eager_buffer_size: 16384, ..RecvConfig::default() }
}

struct Ends {
    bench: Bench,
    hfi: Hfi<EmuBus>,
    recv: Vec<RecvContext<EmuBus>>,
    send: SendContext<EmuBus>,
    fill: u16,
}

impl Ends {
    /// `contexts` receive contexts, and a sender that none of its checks holds back.
    fn new(contexts: usize) -> Self {
        let bench = Bench::new(Icode::Silicon);
        let hfi = bench.active();
        let recv = (0..contexts).map(|_| hfi.recv_context(config()).unwrap()).collect();
        let send = hfi.send_context(Blocks(256)).unwrap();
        hfi.bus().write64(csr::SEND_CTXT_CHECK_ENABLE.at(send.number().0.into()), 0);
        Self { bench, hfi, recv, send, fill: 0 }
    }

    fn numbers(&self) -> Vec<RcvCtxt> {
        self.recv.iter().map(RecvContext::number).collect()
    }

    /// Sends a packet (PBC and all) and tells which context it came to, with its kind, header and payload.
    fn send(&mut self, packet: &[u8]) -> Option<(usize, PacketKind, Vec<u8>, Vec<u8>)> {
        self.fill = send_pio(&self.send, self.fill, packet) % 256;
        self.hfi.bus().pause(Duration::from_micros(50));
        let mut found = None;
        for (i, context) in self.recv.iter_mut().enumerate() {
            while let Some(received) = context.poll() {
                assert_eq!((received.errors(), found.is_some()), (0, false));
                let (mut header, mut payload) = (vec![0; 120], vec![0; received.payload_len()]);
                let len = context.copy_header(&received, &mut header);
                assert_eq!(len, received.header_len());
                header.truncate(len);
                context.copy_payload(&received, &mut payload);
                found = Some((i, received.kind(), header, payload));
                context.release();
            }
        }
        found
    }

    fn lands_in(&mut self, packet: &[u8]) -> Option<usize> {
        self.send(packet).map(|(context, ..)| context)
    }
}

/// A 16B packet whose payload ends with what would be its tail.
fn packet16(l4: u8, entropy: u16, payload: &[u8]) -> Vec<u8> {
    assert_eq!(payload.len() % 8, 0);
    let header = Lrh16 {
        slid: Lid(1),
        dlid: Lid(1),
        qwords: ((LRH16_BYTES + payload.len()) / 8) as u16,
        sc: Sc(0),
        rc: 0,
        fecn: false,
        becn: false,
        l2: L2_16B,
        l4,
        pkey: Pkey(0x8001),
        entropy,
        age: 0,
    };
    let dwords = Dwords((8 + LRH16_BYTES as u32 + payload.len() as u32) / 4);
    let mut bytes = Pbc::new(dwords, Vl(0), Sc(0)).bypass().credit_return().0.to_le_bytes().to_vec();
    bytes.extend(header.encode());
    bytes.extend(payload);
    bytes
}

/// A KDETH packet to `context`, changed.
fn packet9(context: RcvCtxt, change: impl FnOnce(&mut [u8; 56])) -> Vec<u8> {
    let mut header = common::header(Lid(1), Lid(1), context, opx_defs::units::JobKey(1), 64);
    change(&mut header);
    common::packet(&header, &[7; 64])
}

#[test]
fn bypass_packets_come_as_their_own_kind() {
    let mut ends = Ends::new(2);
    let payload: Vec<u8> = (0..200).collect();
    let packet = packet16(L4_IB_LOCAL, 5, &payload);
    assert_eq!(ends.send(&packet), None, "nobody wants them");
    assert_eq!(ends.bench.adapter.counts().dropped(DropReason::NoContext), 1);
    ends.hfi.bypass_to(Some(ends.recv[1].number())).unwrap();
    let (context, kind, header, got) = ends.send(&packet).unwrap();
    assert_eq!((context, kind, got), (1, PacketKind::Bypass, payload));
    let header = Lrh16::decode(header.try_into().unwrap());
    assert_eq!((header.l4, header.entropy, header.dlid, header.qwords), (L4_IB_LOCAL, 5, Lid(1), 27));
    ends.hfi.bypass_to(None).unwrap();
    assert_eq!(ends.send(&packet), None);
}

#[test]
fn a_rule_spreads_bypass_packets_over_contexts() {
    let mut ends = Ends::new(5);
    let numbers = ends.numbers();
    let rule = RsmRule::new(RcvType::Bypass)
        .field1(bit::L2, 3, L2_16B)
        .field2(bit::L4, 0xff, L4_ETHERNET)
        .index1(bit::ENTROPY, 2);
    let steering = ends.hfi.steer(rule, &numbers[..4]).unwrap();
    ends.hfi.bypass_to(Some(numbers[4])).unwrap();
    for entropy in 0..16u16 {
        let at = ends.lands_in(&packet16(L4_ETHERNET, entropy, &[0; 64]));
        assert_eq!(at, Some(usize::from(entropy % 4)), "entropy {entropy}");
        // What doesn't match goes where all others go.
        assert_eq!(ends.lands_in(&packet16(L4_IB_LOCAL, entropy, &[0; 64])), Some(4));
    }
    drop(steering);
    assert_eq!(ends.lands_in(&packet16(L4_ETHERNET, 2, &[0; 64])), Some(4));
}

#[test]
fn a_rule_takes_kdeth_packets_from_the_context_that_they_name() {
    let mut ends = Ends::new(3);
    let numbers = ends.numbers();
    // As the driver does for expected packets with a mark of congestion, here for eager ones, by the context that they name.
    let rule = RsmRule::new(RcvType::Eager).field1(bit::FECN, 1, 1).index1(bit::DEST_QP, 1);
    let mut to = [numbers[2]; 2];
    to[usize::from(numbers[0].0 & 1)] = numbers[1];
    let steering = ends.hfi.steer(rule, &to).unwrap();
    let marked = |context| packet9(context, |header| header[12] |= 0x80);
    assert_eq!(ends.lands_in(&packet9(numbers[0], |_| {})), Some(0));
    assert_eq!(ends.lands_in(&marked(numbers[0])), Some(1));
    assert_eq!(ends.lands_in(&marked(numbers[1])), Some(2));
    drop(steering);
    assert_eq!(ends.lands_in(&marked(numbers[0])), Some(0));
}

#[test]
fn queue_pairs_lead_to_contexts() {
    let mut ends = Ends::new(2);
    let numbers = ends.numbers();
    // UD send only: 8 bytes of DETH behind the BTH.
    let ib = |queue_pair: u8| {
        packet9(RcvCtxt(0), |header| (header[8], header[13], header[14], header[15]) = (0x64, 0, 0, queue_pair))
    };
    assert_eq!(ends.lands_in(&ib(7)), None);
    ends.hfi.map_queue_pair(6, Some(numbers[0])).unwrap();
    ends.hfi.map_queue_pair(8, Some(numbers[1])).unwrap();
    for (queue_pair, context) in [(6, 0), (7, 0), (8, 1), (9, 1)] {
        let (at, kind, header, payload) = ends.send(&ib(queue_pair)).unwrap();
        assert_eq!((at, kind, header.len(), payload.len()), (context, PacketKind::Ib, 28, 56 + 64 - 28));
    }
    assert_eq!(ends.lands_in(&ib(10)), None);
    ends.hfi.map_queue_pair(8, None).unwrap();
    assert_eq!(ends.lands_in(&ib(9)), None);
    assert_eq!(ends.lands_in(&ib(7)), Some(0));
}

#[test]
fn rules_and_places_run_out_and_come_back() {
    let ends = Ends::new(1);
    let number = ends.recv[0].number();
    let one = RsmRule::new(RcvType::Bypass);
    for _ in 0..3 {
        let all: Vec<_> = (0..4).map(|_| ends.hfi.steer(one, &[number]).unwrap()).collect();
        assert_eq!(all.iter().map(opx_hw::Steering::slot).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let error = ends.hfi.steer(one, &[number]).unwrap_err();
        assert!(error.to_string().contains("no steering rule is free: all 4"), "{error}");
        drop(all);
        let large = one.index1(bit::ENTROPY, 8);
        let wide = ends.hfi.steer(large, &[number; 256]).unwrap();
        let error = ends.hfi.steer(one, &[number]).unwrap_err();
        assert!(matches!(error, ContextError::NoRoom { asked: 1, largest: 0, .. }), "{error}");
        drop(wide);
    }
    let bus = ends.hfi.bus();
    for slot in 0..4 {
        assert_eq!(bus.read64(csr::RCV_RSM_CFG.at(slot)), 0);
    }
    assert_eq!(bus.read64(csr::RCV_RSM_MAP_TABLE.at(0)), u64::MAX);
    for wrong in [ends.hfi.steer(one, &[]), ends.hfi.steer(one, &[RcvCtxt(160)]), ends.hfi.steer(one, &[RcvCtxt(256)])]
    {
        assert!(matches!(wrong, Err(ContextError::BadParameter { .. })));
    }
    assert!(ends.hfi.map_queue_pair(0, Some(RcvCtxt(1000))).is_err());
}

#[test]
fn a_job_key_doesnt_keep_out_what_has_none() {
    let mut ends = Ends::new(1);
    let number = ends.recv[0].number();
    ends.hfi.bypass_to(Some(number)).unwrap();
    assert_eq!(ends.lands_in(&packet16(L4_IB_LOCAL, 0, &[1; 8])), Some(0));
    let foreign = packet9(number, |header| header[24] = 9);
    assert_eq!(ends.lands_in(&foreign), None);
    assert_eq!(ends.bench.adapter.counts().dropped(DropReason::JobKey), 1);
    assert!(receive(&mut ends.recv[0]).is_none());
}

/// Its number is somebody else's next, who didn't ask for them.
#[test]
fn a_context_that_is_dropped_has_nothing_led_to_it() {
    let mut ends = Ends::new(1);
    let number = ends.recv[0].number();
    ends.hfi.bypass_to(Some(number)).unwrap();
    ends.hfi.map_queue_pair(6, Some(number)).unwrap();
    let bus = ends.hfi.bus().clone();
    assert_eq!(bus.read64(csr::RCV_QP_MAP_TABLE.at(0)), u64::from(number.0) << 24);
    ends.recv.clear();
    assert_eq!(bus.read64(csr::RCV_QP_MAP_TABLE.at(0)), 0);
    assert_eq!(csr::RCV_BYPASS::BYPASS_CONTEXT.get(bus.read64(csr::RCV_BYPASS.off())), 0);
}
