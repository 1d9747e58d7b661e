//! Each check on egress that refuses a packet is told by its name, and the restart makes the context good again.

mod common;

use common::Bench;
use opx_bus::PciFunction;
use opx_defs::csr;
use opx_defs::status::EgressRefusals as Refused;
use opx_defs::units::{Blocks, Vl};
use opx_defs::wire::opx::Header;
use opx_defs::wire::pbc::Pbc;
use opx_emu::EmuBus;
use opx_hw::{SendConfig, SendKind};
use opx_pio::{Head, PioError, PioSender};

/// Sends one packet and gives the checks that refuse it; none when it leaves.
fn checks(bench: &Bench, sender: &mut PioSender<EmuBus>, pbc: Pbc, header: &Header, payload: &[u8]) -> Refused {
    sender.send(&Head::new(pbc, header), payload).unwrap();
    bench.settle();
    match sender.check() {
        Ok(()) => Refused::empty(),
        Err(PioError::Refused { ctxt, checks }) => {
            assert_eq!(ctxt, sender.context().number());
            assert!(!checks.is_empty(), "the chip says which check it was");
            checks
        }
        Err(error) => panic!("{error}"),
    }
}

/// What refuses the packet that `change` makes of a good one, in a context of `kind`. Shows that the sender is in order again.
fn refusal(kind: SendKind, change: impl FnOnce(&mut Pbc, &mut Header)) -> Refused {
    let mut bench = Bench::new();
    let mut sender = bench.sender_with(SendConfig { kind, ..SendConfig::new(Blocks(16)) });
    let mut header = bench.header(0);
    let mut pbc = header.pbc(Vl(0));
    change(&mut pbc, &mut header);
    let refused = checks(&bench, &mut sender, pbc, &header, &[]);
    assert!(bench.arrived().is_empty(), "a refused packet doesn't leave");
    if !refused.is_empty() {
        sender.restart().unwrap();
        if kind == SendKind::User {
            bench.is_in_order(&mut sender);
        }
        assert_eq!(sender.check(), Ok(()));
        assert_eq!(sender.context().refusals().unwrap(), Refused::empty());
    }
    refused
}

const USER: SendKind = SendKind::User;

#[test]
fn job_key() {
    assert_eq!(refusal(USER, |_, header| header.0[24] ^= 1), Refused::JOB_KEY);
}

#[test]
fn partition_key() {
    assert_eq!(refusal(USER, |_, header| header.0[11] ^= 2), Refused::PARTITION_KEY);
}

#[test]
fn source_lid() {
    assert_eq!(refusal(USER, |_, header| header.0[7] ^= 2), Refused::SLID);
}

#[test]
fn opcode() {
    assert_eq!(refusal(USER, |_, header| header.0[8] = 0x04), Refused::OPCODE);
}

#[test]
fn lane() {
    let refused = refusal(USER, |pbc, _| pbc.0 |= 15 << 12);
    assert_eq!(refused, Refused::VL | Refused::VL_MAPPING);
}

#[test]
fn lane_of_the_service_class() {
    // Class 15 maps to lane 15, the packet is on lane 0.
    assert_eq!(refusal(USER, |_, header| header.0[0] |= 0xf0), Refused::VL_MAPPING);
}

#[test]
fn a_lane_that_the_port_lacks_is_drained_without_a_halt() {
    let mut bench = Bench::new();
    let mut sender = bench.sender(8);
    assert_eq!(refusal(USER, |pbc, _| pbc.0 |= 1 << 12), Refused::empty());
    let header = bench.header(0);
    assert_eq!(checks(&bench, &mut sender, Pbc(header.pbc(Vl(0)).0 | 1 << 12), &header, &[]), Refused::empty());
    // SEND_EGRESS_ERR_STATUS.TX_ILLEGAL_VL_ERR, for the general interrupt.
    assert!(bench.hfi.service_interrupts().unwrap().any);
    bench.is_in_order(&mut sender);
}

#[test]
fn raw_packets() {
    assert_eq!(refusal(USER, |_, header| header.0[1] &= !3), Refused::RAW);
    assert_eq!(refusal(USER, |_, header| header.0[1] = header.0[1] & !3 | 1), Refused::RAW_IPV6);
}

#[test]
fn global_route_headers() {
    assert!(refusal(USER, |_, header| header.0[1] |= 3).contains(Refused::GRH));
}

#[test]
fn packets_of_another_format() {
    assert!(refusal(USER, |pbc, _| pbc.0 |= 1 << 28).contains(Refused::BYPASS));
}

#[test]
fn packets_without_kdeth() {
    assert_eq!(refusal(USER, |_, header| header.0[13] = 0), Refused::NON_KDETH_PACKETS);
}

#[test]
fn packets_that_are_to_be_spoilt() {
    assert_eq!(refusal(USER, |pbc, _| pbc.0 |= 1 << 23), Refused::PBC_TEST);
}

#[test]
fn length_in_the_header() {
    assert_eq!(refusal(USER, |_, header| header.0[5] ^= 1), Refused::BAD_PKT_LEN);
}

#[test]
fn length_beyond_the_mtu() {
    let bench = Bench::new();
    let mut sender = bench.sender(300);
    let len = bench.hfi.options().mtu as usize + 512;
    let header = bench.header(len);
    let refused = checks(&bench, &mut sender, header.pbc(Vl(0)), &header, &vec![0; len]);
    assert!(refused.contains(Refused::TOO_LONG_IB_PACKET), "{refused}");
}

#[test]
fn kdeth_packets_where_only_the_system_sends() {
    assert_eq!(refusal(SendKind::Ack, |_, _| {}), Refused::KDETH_PACKETS);
    assert_eq!(refusal(SendKind::Management, |_, _| {}), Refused::KDETH_PACKETS | Refused::VL);
}

/// A management packet: lane and service class 15, no KDETH.
fn management(bench: &Bench) -> (Pbc, Header) {
    let mut header = bench.header(0);
    header.0[0] |= 0xf0;
    header.0[13] = 0;
    (Pbc(header.pbc(Vl(15)).0), header)
}

#[test]
fn management_packets_leave_by_the_management_context_only() {
    let bench = Bench::new();
    let with = |kind| bench.sender_with(SendConfig { kind, ..SendConfig::new(Blocks(16)) });
    let (pbc, header) = management(&bench);
    // chip.c:port_cntrs, C_TX_PKT_VL15.
    let sent = || bench.hfi.bus().read64(csr::SEND_COUNTER_ARRAY64.at(12 + 8));
    let mut sender = with(SendKind::Management);
    for count in 1..=40 {
        assert_eq!(checks(&bench, &mut sender, pbc, &header, &[]), Refused::empty());
        assert_eq!(sent(), count);
    }
    for kind in [SendKind::User, SendKind::Kernel, SendKind::Ack] {
        let refused = checks(&bench, &mut with(kind), pbc, &header, &[]);
        assert!(refused.contains(Refused::VL), "{kind:?}: {refused}");
    }
    assert_eq!(sent(), 40);
}

#[test]
fn system_contexts_send_any_data_packet() {
    let bench = Bench::new();
    let with = |kind| bench.sender_with(SendConfig { kind, ..SendConfig::new(Blocks(16)) });
    let mut verbs = bench.header(0);
    (verbs.0[8], verbs.0[13]) = (0x04, 0);
    let sent = || bench.hfi.bus().read64(csr::SEND_COUNTER_ARRAY64.at(12));
    for (count, kind) in (1..).zip([SendKind::Kernel, SendKind::Ack]) {
        assert_eq!(checks(&bench, &mut with(kind), verbs.pbc(Vl(0)), &verbs, &[]), Refused::empty());
        assert_eq!(sent(), count);
    }
    let kdeth = bench.header(0);
    assert_eq!(checks(&bench, &mut with(SendKind::Kernel), kdeth.pbc(Vl(0)), &kdeth, &[]), Refused::empty());
}

#[test]
fn who_reads_the_register_first_keeps_it_for_all() {
    let bench = Bench::new();
    let [mut one, mut two, mut good] = [(); 3].map(|()| bench.sender(16));
    let (mut key, mut lid) = (bench.header(0), bench.header(0));
    key.0[24] ^= 1;
    lid.0[7] ^= 2;
    one.send(&Head::new(key.pbc(Vl(0)), &key), &[]).unwrap();
    two.send(&Head::new(lid.pbc(Vl(0)), &lid), &[]).unwrap();
    good.send(&bench.head(0), &[]).unwrap();
    bench.settle();
    // The general interrupt, and one of the senders after it.
    bench.hfi.service_interrupts().unwrap();
    assert_eq!(bench.hfi.bus().read64(csr::SEND_EGRESS_ERR_INFO.off()), 0);
    let both = Refused::JOB_KEY | Refused::SLID;
    for sender in [&mut one, &mut two] {
        let ctxt = sender.context().number();
        let refused = sender.check().unwrap_err();
        assert_eq!(refused, PioError::Refused { ctxt, checks: both });
        let text = refused.to_string();
        assert!(text.contains("JOB_KEY | SLID") && text.contains("restart the context"), "{text}");
    }
    assert_eq!(good.check(), Ok(()));
    assert_eq!(good.context().refusals().unwrap(), Refused::empty());
    one.restart().unwrap();
    assert_eq!(one.context().refusals().unwrap(), Refused::empty());
    assert_eq!(two.context().refusals().unwrap(), both);
}
