//! Tests of firmware load, host commands and the link.

use super::{Node, node, one};
use crate::{Icode, Lab, Pacing};
use opx_bus::PciFunction;
use opx_defs::csr;
use opx_defs::units::BarOff;
use std::time::Duration;

fn link_over_cable(lab: &Lab) -> (Node, Node) {
    let (a, b) = (node(lab, Icode::Silicon), node(lab, Icode::Silicon));
    lab.cable(&a.adapter, &b.adapter);
    for node in [&a, &b] {
        node.load_8051();
    }
    a.poll_link();
    b.poll_link();
    a.answer_verify_cap();
    b.answer_verify_cap();
    a.wait_linkup();
    b.wait_linkup();
    (a, b)
}

#[test]
fn the_security_engine_fails_when_a_step_is_missing() {
    for skip in ["modulus", "r2", "mu", "header", "signature", "flag"] {
        let (_lab, node) = one(Icode::Silicon);
        node.put(csr::DC_DC8051_CFG_RST, 0x1f);
        node.put(csr::DC_DC8051_CFG_RST, 1);
        assert_eq!(node.load_code(skip), 3, "without {skip}");
        node.put(csr::MISC_ERR_CLEAR, 0x30);
        assert_ne!(node.get(csr::MISC_ERR_STATUS) & 0x30, 0, "the error stands");
        node.put(csr::DC_DC8051_CFG_RST, 0);
        node.bus.pause(Duration::from_millis(20));
        assert!(!node.firmware_ready());
        // A complete load then works.
        node.load_8051();
        node.put(csr::MISC_ERR_CLEAR, 0x30);
        assert_eq!(node.get(csr::MISC_ERR_STATUS) & 0x30, 0);
    }
}

#[test]
fn the_8051_answers_commands_and_keeps_its_code() {
    let (_lab, node) = one(Icode::Silicon);
    node.bus.pause(Duration::from_millis(20));
    assert!(!node.firmware_ready(), "no firmware yet");
    node.load_8051();
    assert_eq!(node.field(0xe) >> 16, 1 << 8 | 27);
    node.load(0xb, 1 << 16);
    assert_eq!(node.field(0xb), 1 << 16);
    assert_eq!(node.command(1, 5 << 40 | 2 << 32 | 99).0, 2, "lane field");
    assert_eq!(node.field(0x17 + 2 * 8 + 5), 99);
    assert_eq!(node.command(1, 0x17 << 40 | 4 << 32).0, 1, "no such field");
    assert_eq!(node.command(0xff, 0x1234).0, 2);
    assert_eq!(node.command(0x77, 0).0, 3);
    assert_eq!(node.get(csr::DC_DC8051_CFG_HOST_CMD_1) & 1, 0, "COMPLETED dropped");
    // chip.c:_dc_shutdown, _dc_start.
    node.put(csr::DC_DC8051_CFG_RST, 1);
    assert!(!node.firmware_ready());
    node.put(csr::DC_DC8051_CFG_RST, 0);
    node.until("restart", || node.firmware_ready());
}

#[test]
fn quick_linkup_reaches_active_in_loopback() {
    for icode in [Icode::Silicon, Icode::FunctionalSimulator] {
        let (_lab, node) = one(icode);
        if icode == Icode::Silicon {
            node.load_8051();
        } else {
            node.until("firmware", || node.firmware_ready());
        }
        assert_eq!((node.physical(), node.logical()), (0x90, 1));
        node.set_logical(3);
        assert_eq!(node.logical(), 1, "ARMED only from INIT");
        node.quick_linkup();
        node.wait_linkup();
        let own = node.get(csr::DC_DC8051_CFG_LOCAL_GUID);
        assert_eq!(node.get(csr::DC_DC8051_STS_REMOTE_GUID), own);
        node.set_logical(4);
        assert_eq!(node.logical(), 2, "ACTIVE only from ARMED");
        node.set_logical(3);
        node.set_logical(4);
        assert_eq!(node.logical(), 4);
        // Idle messages come back in loopback.
        assert_eq!(node.command(4, 1 << 8 | 3).0, 2);
        node.until("idle message", || node.host_messages() & 1 << 2 != 0);
        assert_eq!(node.command(6, 3), (2, 0x103));
        // LCB registers by way of the 8051; the host's own accesses are blocked.
        assert_eq!(node.command(8, 0xa << 8 | 0xb).0, 2);
        assert_eq!(node.command(7, 0xb), (2, 0xa));
        assert_eq!(node.bus.read64(BarOff(0x60_1058)), 0);
        assert_ne!(node.get(csr::DCC_ERR_FLG) & 1 << 39, 0);
        assert_eq!(node.command(3, 0x90).0, 2);
        node.until("offline", || node.physical() == 0x90);
        assert_eq!(node.logical(), 1);
    }
}

#[test]
fn two_ports_negotiate_over_a_cable() {
    let lab = Lab::new(Pacing::Virtual);
    let (a, b) = link_over_cable(&lab);
    assert_eq!(a.get(csr::DC_DC8051_STS_REMOTE_GUID), b.get(csr::DC_DC8051_CFG_LOCAL_GUID));
    assert_eq!(a.field(0x10), 0x1234);
    assert_eq!(a.field(0x11) >> 16 & 0xff, 2);
    assert_eq!(a.field(9) >> 8 & 0xff, 0x44);
    assert_eq!(a.field(0x14) >> 24 & 7, 5);
    a.command(4, 2 << 8 | 3);
    b.until("idle message", || b.host_messages() & 1 << 2 != 0);
    assert_eq!(b.command(6, 3), (2, 0x203));
    // One side goes offline: the other hears why.
    assert_eq!(a.command(3, 33 << 8 | 0x90).0, 2);
    b.until("link down", || b.host_messages() & 1 << 8 != 0);
    assert_eq!((b.physical(), b.logical()), (0x90, 1));
    assert_eq!((b.field(0x16) & 0xff, b.field(0x14) >> 16 & 0xff), (0xb, 33));
    assert_eq!(a.field(0x16) & 0xff, 0xc);
}

#[test]
fn a_message_that_the_host_has_not_read_survives_a_command() {
    let lab = Lab::new(Pacing::Virtual);
    let (a, b) = link_over_cable(&lab);
    a.command(4, 1 << 8 | 3);
    b.bus.pause(Duration::from_millis(1));
    b.command(0xff, 0);
    assert_ne!(b.get(csr::DC_DC8051_DBG_ERR_INFO_SET_BY_8051) & 1 << 2, 0);
    b.command(0xff, 0);
    assert_eq!(b.get(csr::DC_DC8051_DBG_ERR_INFO_SET_BY_8051) & 1 << 2, 0, "read, then dropped");
}

#[test]
fn a_pulled_cable_takes_the_link_down_and_replugging_brings_it_back() {
    let lab = Lab::new(Pacing::Virtual);
    let (a, b) = link_over_cable(&lab);
    lab.pull(&b.adapter);
    for node in [&a, &b] {
        node.until("link down", || node.host_messages() & 1 << 8 != 0);
        assert_eq!((node.physical(), node.logical(), node.field(0x16) & 0xff), (0x90, 1, 0xa));
        // chip.c:handle_link_down goes offline before it reads the reason.
        assert_eq!(node.command(3, 0x90).0, 2);
        node.until("offline", || node.physical() == 0x90);
        assert_eq!(node.field(0x16) & 0xff, 0xa);
        node.put(csr::DC_DC8051_CFG_CSR_ACCESS_SEL, 3);
        node.poll_link();
    }
    a.bus.pause(Duration::from_millis(10));
    assert_eq!(a.physical(), 0x20);
    lab.cable(&a.adapter, &b.adapter);
    a.answer_verify_cap();
    b.answer_verify_cap();
    a.wait_linkup();
    b.wait_linkup();
}

#[test]
fn functional_simulators_link_without_verify_cap() {
    let lab = Lab::new(Pacing::Virtual);
    let (a, b) = (node(&lab, Icode::FunctionalSimulator), node(&lab, Icode::FunctionalSimulator));
    lab.cable(&a.adapter, &b.adapter);
    for node in [&a, &b] {
        node.until("firmware", || node.firmware_ready());
        assert_eq!(node.command(3, 0x20).0, 2);
    }
    a.wait_linkup();
    b.wait_linkup();
}

#[test]
fn a_negotiation_that_breaks_off_is_reported() {
    let lab = Lab::new(Pacing::Virtual);
    let (a, b) = (node(&lab, Icode::Silicon), node(&lab, Icode::Silicon));
    lab.cable(&a.adapter, &b.adapter);
    for node in [&a, &b] {
        node.load_8051();
        node.poll_link();
    }
    a.until("VerifyCap", || a.host_messages() & 1 << 6 != 0);
    assert_eq!(b.command(3, 0x90).0, 2);
    a.until("failed LNI", || a.host_messages() >> 16 & 1 << 9 != 0);
    assert_eq!(a.physical(), 0x90);
}

#[test]
fn waiting_for_an_interrupt_moves_the_simulated_clock() {
    let (_lab, node) = one(Icode::Silicon);
    let irqs = node.bus.irq_enable(1).unwrap();
    let start = node.bus.now();
    assert!(!node.bus.wait_irq(&irqs[0], Duration::from_secs(3)).unwrap());
    assert_eq!(node.bus.now() - start, Duration::from_secs(3));
    node.load_8051();
    node.put(csr::DC_DC8051_ERR_EN, u64::MAX);
    node.bus.write64(csr::CCE_INT_MASK.at(3), 1 << (250 - 192));
    let start = node.bus.now();
    node.quick_linkup();
    assert!(node.bus.wait_irq(&irqs[0], Duration::from_secs(3)).unwrap());
    assert!(node.bus.now() - start < Duration::from_millis(5));
    node.bus.relax();
}

#[test]
fn a_real_chip_runs_by_itself() {
    let lab = Lab::new(Pacing::Real);
    let (a, b) = link_over_cable(&lab);
    let irqs = b.bus.irq_enable(1).unwrap();
    b.put(csr::DC_DC8051_ERR_EN, u64::MAX);
    b.bus.write64(csr::CCE_INT_MASK.at(3), 1 << (250 - 192));
    a.command(4, 1 << 8 | 3);
    assert!(b.bus.wait_irq(&irqs[0], Duration::from_secs(5)).unwrap());
    lab.pull(&a.adapter);
    b.until("link down", || b.host_messages() & 1 << 8 != 0);
}
