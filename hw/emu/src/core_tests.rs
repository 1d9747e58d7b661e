//! Tests of the chip's common blocks: each does what Linux's driver does, and expects what it expects.

use crate::{Adapter, Config, EmuBus, Icode, Lab, Pacing};
use opx_bus::{PciFunction, poll};
use opx_defs::csr::{self, Csr};
use opx_defs::units::BarOff;
use std::time::Duration;

pub(crate) struct Node {
    pub adapter: Adapter,
    pub bus: EmuBus,
}

pub(crate) fn node(lab: &Lab, icode: Icode) -> Node {
    let adapter = lab.add(Config { icode, link_time: Duration::from_millis(2), ..Config::default() });
    let bus = adapter.bus();
    bus.write64(csr::CCE_DC_CTRL.off(), 0);
    Node { adapter, bus }
}

pub(crate) fn one(icode: Icode) -> (Lab, Node) {
    let lab = Lab::new(Pacing::Virtual);
    let node = node(&lab, icode);
    (lab, node)
}

const WAIT: Duration = Duration::from_millis(500);

impl Node {
    pub fn get(&self, row: Csr) -> u64 {
        self.bus.read64(row.off())
    }

    pub fn put(&self, row: Csr, value: u64) {
        self.bus.write64(row.off(), value);
    }

    pub fn until(&self, what: &str, mut ready: impl FnMut() -> bool) {
        poll::until(&self.bus, WAIT, || ready().then_some(())).unwrap_or_else(|_| panic!("{what}: not in time"));
    }

    /// `chip.c:do_8051_command`.
    pub fn command(&self, kind: u64, data: u64) -> (u64, u64) {
        self.put(csr::DC_DC8051_CFG_HOST_CMD_0, kind << 8 | data << 16);
        self.put(csr::DC_DC8051_CFG_HOST_CMD_0, kind << 8 | data << 16 | 1);
        let answer = poll::until(&self.bus, WAIT, || {
            Some(self.get(csr::DC_DC8051_CFG_HOST_CMD_1)).filter(|answer| answer & 1 != 0)
        });
        self.put(csr::DC_DC8051_CFG_HOST_CMD_0, 0);
        let answer = answer.expect("the 8051 answers");
        (answer >> 8 & 0xff, answer >> 16)
    }

    fn load(&self, field: u64, value: u32) {
        assert_eq!(self.command(1, field << 40 | 4 << 32 | u64::from(value)).0, 2);
    }

    /// `chip.c:read_8051_config`.
    pub fn field(&self, field: u64) -> u32 {
        self.put(csr::DC_DC8051_CFG_RAM_ACCESS_SETUP, 0);
        self.put(csr::DC_DC8051_CFG_RAM_ACCESS_CTRL, field * 4);
        self.put(csr::DC_DC8051_CFG_RAM_ACCESS_CTRL, (field * 4) | 1 << 16);
        assert_ne!(self.get(csr::DC_DC8051_CFG_RAM_ACCESS_STATUS) & 1 << 16, 0);
        let data = self.get(csr::DC_DC8051_CFG_RAM_ACCESS_RD_DATA);
        self.put(csr::DC_DC8051_CFG_RAM_ACCESS_CTRL, 0);
        (data >> (field % 2 * 32)) as u32
    }

    /// `firmware.c:load_security_variables` and `run_rsa`, leaving out what `skip` names.
    fn load_code(&self, skip: &str) -> u64 {
        for index in 0..32 {
            for (name, row) in [("modulus", csr::MISC_CFG_RSA_MODULUS), ("r2", csr::MISC_CFG_RSA_R2)] {
                if name != skip {
                    self.bus.write64(row.at(index), 0x1111 + u64::from(index));
                }
            }
        }
        if skip != "mu" {
            self.put(csr::MISC_CFG_RSA_MU, 77);
        }
        (0..16).filter(|_| skip != "header").for_each(|n| self.put(csr::MISC_CFG_SHA_PRELOAD, n));
        self.put(csr::MISC_CFG_FW_CTRL, 0);
        self.put(csr::DC_DC8051_CFG_RAM_ACCESS_SETUP, 0x101);
        self.put(csr::DC_DC8051_CFG_RAM_ACCESS_CTRL, 1 << 24);
        (0..64).for_each(|n| self.put(csr::DC_DC8051_CFG_RAM_ACCESS_WR_DATA, n));
        self.put(csr::DC_DC8051_CFG_RAM_ACCESS_CTRL, 0);
        self.put(csr::DC_DC8051_CFG_RAM_ACCESS_SETUP, 0);
        if skip != "flag" {
            self.put(csr::MISC_CFG_FW_CTRL, 2);
        }
        if skip != "signature" {
            (0..32).for_each(|n| self.bus.write64(csr::MISC_CFG_RSA_SIGNATURE.at(n), 5));
        }
        self.put(csr::MISC_CFG_RSA_CMD, 1);
        let status = || self.get(csr::MISC_CFG_FW_CTRL) >> 2 & 3;
        assert_eq!(status(), 0, "idle after INIT");
        self.put(csr::MISC_CFG_RSA_CMD, 2);
        self.until("RSA", || status() >= 2);
        status()
    }

    /// `firmware.c:load_8051_firmware`.
    pub fn load_8051(&self) {
        self.put(csr::DC_DC8051_CFG_RST, 0x1f);
        self.put(csr::DC_DC8051_CFG_RST, 1);
        assert_eq!(self.load_code(""), 2);
        self.put(csr::DC_DC8051_CFG_RST, 0);
        self.until("firmware", || self.firmware_ready());
    }

    fn firmware_ready(&self) -> bool {
        self.get(csr::DC_DC8051_STS_CUR_STATE) >> 16 & 0xff == 0xa0
    }

    fn physical(&self) -> u64 {
        self.get(csr::DC_DC8051_STS_CUR_STATE) & 0xff
    }

    pub fn logical(&self) -> u64 {
        self.get(csr::DCC_CFG_PORT_CONFIG) >> 48 & 7
    }

    /// `chip.c:set_logical_state`.
    pub fn set_logical(&self, state: u64) {
        let old = self.get(csr::DCC_CFG_PORT_CONFIG);
        self.put(csr::DCC_CFG_PORT_CONFIG, old & !(7 << 48) | state << 48);
    }

    /// `chip.c:lcb_shutdown`.
    fn lcb_shutdown(&self) {
        self.put(csr::DC_LCB_CFG_RUN, 0);
        self.put(csr::DC_LCB_CFG_TX_FIFOS_RESET, 1);
        let old = self.get(csr::DCC_CFG_RESET);
        self.put(csr::DCC_CFG_RESET, old | 5);
        self.put(csr::DCC_CFG_RESET, old);
    }

    /// `chip.c:do_quick_linkup` in LCB loopback.
    pub fn quick_linkup(&self) {
        self.lcb_shutdown();
        self.put(csr::DC_LCB_CFG_LOOPBACK, 2);
        self.put(csr::DC_LCB_CFG_LANE_WIDTH, 0);
        self.put(csr::DC_LCB_CFG_TX_FIFOS_RESET, 0);
        self.put(csr::DC_DC8051_CFG_CSR_ACCESS_SEL, 2);
        assert_eq!(self.command(3, 0xe2).0, 2);
    }

    fn host_messages(&self) -> u64 {
        let flags = self.get(csr::DC_DC8051_ERR_FLG);
        if flags == 0 {
            return 0;
        }
        self.put(csr::DC_DC8051_ERR_CLR, flags);
        self.get(csr::DC_DC8051_DBG_ERR_INFO_SET_BY_8051)
    }

    fn poll_link(&self) {
        self.load(9, 0xf);
        self.load(8, 0x1234);
        self.load(6, 0x0200_000f);
        assert_eq!(self.command(3, 0x20).0, 2);
        assert_eq!(self.physical(), 0x20);
    }

    /// `chip.c:handle_verify_cap`.
    fn answer_verify_cap(&self) {
        self.until("VerifyCap", || self.host_messages() & 1 << 6 != 0);
        assert_eq!(self.physical(), 0x46);
        self.lcb_shutdown();
        self.put(csr::DC_LCB_CFG_CRC_MODE, 1);
        self.put(csr::DC_LCB_CFG_TX_FIFOS_RESET, 0);
        self.put(csr::DC_DC8051_CFG_CSR_ACCESS_SEL, 2);
        assert_eq!(self.command(3, 0x50).0, 2);
    }

    fn wait_linkup(&self) {
        self.until("LINKUP", || self.host_messages() & 1 << 7 != 0);
        assert_eq!((self.physical(), self.logical()), (0x50, 2));
    }
}

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
fn identity() {
    let lab = Lab::new(Pacing::Virtual);
    let adapter = lab.add(Config { hfi_id: 1, board_id: 5, ..Config::default() });
    let bus = adapter.bus();
    assert_eq!(bus.read64(csr::CCE_REVISION.off()), 0x5_0302_0710);
    assert_eq!(bus.read64(csr::CCE_REVISION2.off()), 1);
    assert_eq!(bus.read64(csr::CCE_DC_CTRL.off()), 1);
    // chip.c:read_guid.
    bus.write64(csr::CCE_DC_CTRL.off(), 0);
    let guid = bus.read64(csr::DC_DC8051_CFG_LOCAL_GUID.off());
    assert_eq!((guid >> 40, guid >> 39 & 1), (0x001175, 1));
    assert_eq!(bus.read64(BarOff(0x400_0000)), u64::MAX);
    assert_eq!(bus.bar0_len(), 64 << 20);
    let mut id = [0; 4];
    bus.config_read(0, &mut id).unwrap();
    assert_eq!(id, [0x86, 0x80, 0xf0, 0x24]);
    assert!(bus.config_read(4094, &mut id).is_err());
}

#[test]
fn check_int_registers() {
    let (_lab, node) = one(Icode::Silicon);
    // chip.c:check_int_registers.
    node.put(csr::CCE_INT_MASK, 0);
    assert_eq!(node.get(csr::CCE_INT_MASK), 0);
    node.put(csr::CCE_INT_CLEAR, u64::MAX);
    assert_eq!(node.get(csr::CCE_INT_STATUS), 0);
    node.put(csr::CCE_INT_FORCE, u64::MAX);
    assert_eq!(node.get(csr::CCE_INT_STATUS), u64::MAX);
    node.put(csr::CCE_INT_CLEAR, u64::MAX);
    assert_eq!(node.get(csr::CCE_INT_STATUS), 0);
}

#[test]
fn one_message_is_out_for_a_vector_until_its_source_is_cleared() {
    let (_lab, node) = one(Icode::Silicon);
    let irqs = node.bus.irq_enable(4).unwrap();
    let taken = || irqs.iter().map(|irq| irq.take().unwrap()).collect::<Vec<_>>();
    // Sources 8 and 9 to vector 2, all others to vector 0.
    node.bus.write64(csr::CCE_INT_MAP.at(1), 0x0202);
    node.put(csr::CCE_INT_FORCE, 0x300);
    assert_eq!(taken(), [false; 4], "masked");
    node.put(csr::CCE_INT_MASK, 0x300);
    assert_eq!(taken(), [false, false, true, false]);
    node.put(csr::CCE_INT_FORCE, 0x100);
    assert_eq!(taken(), [false; 4], "one is out already");
    assert_eq!(node.get(csr::CCE_INT_BLOCKED), 0x300);
    node.put(csr::CCE_INT_CLEAR, 0x100);
    assert_eq!(taken(), [false, false, true, false], "the other source still stands");
    node.put(csr::CCE_INT_CLEAR, 0x200);
    assert_eq!(taken(), [false; 4]);
    assert_eq!(node.adapter.counts().interrupts, 2);
    assert_eq!(node.get(csr::CCE_INT_COUNTER_ARRAY32), 2);
}

#[test]
fn a_standing_error_asserts_its_source_again() {
    let (_lab, node) = one(Icode::Silicon);
    node.put(csr::CCE_INT_MASK, 0);
    node.put(csr::ASIC_QSFP1_INVERT, 0);
    node.put(csr::ASIC_QSFP1_MASK, 0x10);
    let status = || node.bus.read64(csr::CCE_INT_STATUS.at(3));
    let qsfp1 = 1 << (242 - 192);
    assert_eq!(status() & qsfp1, qsfp1, "the empty cage's presence line is high");
    node.bus.write64(csr::CCE_INT_CLEAR.at(3), qsfp1);
    assert_eq!(status() & qsfp1, qsfp1);
    // chip.c:init_qsfp_int: without a module both lines are inverted.
    node.put(csr::ASIC_QSFP1_INVERT, 0x18);
    node.put(csr::ASIC_QSFP1_CLEAR, 0x18);
    node.bus.write64(csr::CCE_INT_CLEAR.at(3), qsfp1);
    assert_eq!(status() & qsfp1, 0);
}

#[test]
fn software_may_use_the_msix_table() {
    let (_lab, node) = one(Icode::Silicon);
    let irqs = node.bus.irq_enable(1).unwrap();
    assert_eq!(node.get(csr::CCE_MSIX_TABLE_UPPER), 1 << 32);
    // Linux writes it in dwords.
    node.adapter.bar0_write(0x10_000c, &1u32.to_le_bytes());
    node.put(csr::CCE_INT_MASK, 1);
    node.put(csr::CCE_INT_FORCE, 1);
    assert!(!irqs[0].take().unwrap());
    assert_eq!(node.bus.read64(BarOff(0x11_0000)), 1, "pending");
    node.adapter.bar0_write(0x10_000c, &0u32.to_le_bytes());
    assert!(irqs[0].take().unwrap());
    assert_eq!(node.bus.read64(BarOff(0x11_0000)), 0);
}

#[test]
fn the_mutex_is_refused_while_the_other_holds_it() {
    let (_lab, node) = one(Icode::Silicon);
    node.put(csr::ASIC_CFG_MUTEX, 2);
    node.put(csr::ASIC_CFG_MUTEX, 1);
    assert_eq!(node.get(csr::ASIC_CFG_MUTEX), 2);
    node.put(csr::ASIC_CFG_MUTEX, 0);
    node.put(csr::ASIC_CFG_MUTEX, 1);
    assert_eq!(node.get(csr::ASIC_CFG_MUTEX), 1);
}

#[test]
fn sbus_answers_slow_and_fast() {
    let (_lab, node) = one(Icode::Silicon);
    let request = |address: u64, command: u64, data: u64| 0x4f | address << 8 | command << 16 | data << 32;
    // firmware.c:sbus_request_slow.
    node.put(csr::ASIC_CFG_SBUS_REQUEST, request(3, 0x21, 0xabcd));
    node.put(csr::ASIC_CFG_SBUS_EXECUTE, 1);
    assert_eq!(node.get(csr::ASIC_STS_SBUS_RESULT) & 3, 3);
    node.put(csr::ASIC_CFG_SBUS_EXECUTE, 0);
    assert_eq!(node.get(csr::ASIC_STS_SBUS_RESULT) & 3, 0);
    // firmware.c:sbus_read in fast mode.
    node.put(csr::ASIC_CFG_SBUS_EXECUTE, 2);
    node.put(csr::ASIC_CFG_SBUS_REQUEST, request(3, 0x22, 0));
    let result = node.get(csr::ASIC_STS_SBUS_RESULT);
    assert_eq!((result >> 2 & 7, result >> 32), (4, 0xabcd));
    let counters = node.get(csr::ASIC_STS_SBUS_COUNTERS);
    assert_eq!(counters & 0xffff, counters >> 16);
    assert_eq!(counters & 0xffff, 2);
}

#[test]
fn the_eprom_is_blank_until_it_is_set() {
    let (_lab, node) = one(Icode::Silicon);
    let page = |address: u64| {
        // eprom.c:read_page.
        node.put(csr::ASIC_EEP_ADDR_CMD, 3 << 24 | address);
        let words = [node.get(csr::ASIC_EEP_DATA), node.get(csr::ASIC_EEP_DATA)];
        node.put(csr::ASIC_EEP_ADDR_CMD, 0);
        words
    };
    assert_eq!(page(0x20000), [0xffff_ffff; 2]);
    node.adapter.set_eprom(vec![1, 2, 3, 4, 5]);
    assert_eq!(page(0), [0x0403_0201, 0xffff_ff05]);
}

#[test]
fn the_empty_cage_reads_as_absent_and_its_lines_obey() {
    let (_lab, node) = one(Icode::Silicon);
    assert_eq!(node.get(csr::ASIC_QSFP1_IN), 0x1f);
    node.put(csr::ASIC_QSFP1_OE, 1);
    assert_eq!(node.get(csr::ASIC_QSFP1_IN), 0x1e, "clock pulled low");
    node.put(csr::ASIC_QSFP1_OE, 0);
    assert_eq!(node.get(csr::ASIC_QSFP1_IN), 0x1f);
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
fn freeze_takes_time_and_ends() {
    let (_lab, node) = one(Icode::Silicon);
    node.put(csr::CCE_CTRL, 1 << 8);
    assert_eq!(node.get(csr::CCE_STATUS), 0);
    node.until("freeze", || node.get(csr::CCE_STATUS) == 0xf);
    node.put(csr::CCE_CTRL, 1 << 9);
    assert_eq!(node.get(csr::CCE_STATUS), 0xf);
    node.until("unfreeze", || node.get(csr::CCE_STATUS) == 0);
    // Taken back before it happened.
    node.put(csr::CCE_CTRL, 1 << 8);
    node.put(csr::CCE_CTRL, 1 << 9);
    node.bus.pause(Duration::from_millis(1));
    assert_eq!(node.get(csr::CCE_STATUS), 0);
}

#[test]
fn a_function_reset_keeps_scratch_dc_ctrl_and_the_link() {
    let (_lab, node) = one(Icode::Silicon);
    node.load_8051();
    node.quick_linkup();
    node.wait_linkup();
    node.put(csr::ASIC_CFG_SCRATCH, 0x10000);
    node.put(csr::CCE_SCRATCH, 7);
    node.put(csr::CCE_INT_MASK, 1);
    node.put(csr::ASIC_QSFP1_OUT, 0x1f);
    node.bus.config_write(4, &[6, 0]).unwrap();
    node.bus.reset().unwrap();
    let mut command = [0; 2];
    node.bus.config_read(4, &mut command).unwrap();
    assert_eq!(command, [6, 0]);
    assert_eq!(node.get(csr::ASIC_CFG_SCRATCH), 0x10000);
    assert_eq!(node.get(csr::CCE_DC_CTRL), 0);
    assert_eq!([csr::CCE_SCRATCH, csr::CCE_INT_MASK, csr::ASIC_QSFP1_OUT].map(|row| node.get(row)), [0; 3]);
    assert_eq!(node.physical(), 0x50);
    assert_eq!(node.adapter.counts().resets, 1);
    // With the DC held, as Linux does it, the link goes too.
    node.put(csr::CCE_DC_CTRL, 1);
    node.bus.reset().unwrap();
    assert_eq!(node.get(csr::CCE_DC_CTRL), 1);
    node.put(csr::CCE_DC_CTRL, 0);
    assert_eq!((node.physical(), node.logical(), node.firmware_ready()), (0x90, 1, false));
}

#[test]
fn dma_memory_is_unmapped_with_its_block() {
    let (_lab, node) = one(Icode::Silicon);
    let block = node.bus.dma_alloc(8192).unwrap();
    let other = node.bus.dma_alloc(4096).unwrap();
    assert_ne!(block.iova(0), other.iova(0));
    block.write_u64(8, 99);
    let at = block.iova(8);
    let read = || node.adapter.unit.lock().board.dma.read_u64(at);
    assert!(read().is_err(), "bus mastering is off");
    node.bus.config_write(4, &[6, 0]).unwrap();
    assert_eq!(read().unwrap(), 99);
    drop(block);
    assert!(read().is_err());
    assert_eq!(node.adapter.counts().dma_faults, 2);
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

mod fuzz {
    use super::*;
    use crate::wire::LINK_CREDIT_BYTES;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Op {
        Read(u64, usize),
        Write(u64, Vec<u8>),
        Register(usize, u32, u64),
        Config(u16, Vec<u8>),
        Pause(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        let registers = csr::all().count();
        prop_oneof![
            1 => (0u64..0x500_0000, 0usize..80).prop_map(|(at, len)| Op::Read(at, len)),
            1 => (0u64..0x500_0000, proptest::collection::vec(any::<u8>(), 0..80)).prop_map(|(at, data)| Op::Write(at, data)),
            8 => (0..registers, any::<u32>(), prop_oneof![any::<u64>(), 0u64..16, (0u32..64).prop_map(|bit| 1 << bit)])
                .prop_map(|(row, index, value)| Op::Register(row, index, value)),
            1 => (0u16..4200, proptest::collection::vec(any::<u8>(), 0..9)).prop_map(|(at, data)| Op::Config(at, data)),
            1 => (0u64..3_000_000).prop_map(Op::Pause),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(192))]
        #[test]
        fn no_access_does_harm(ops in proptest::collection::vec(op(), 1..300)) {
            let (_lab, node) = one(Icode::FunctionalSimulator);
            let rows: Vec<_> = csr::all().collect();
            for op in ops {
                match op {
                    Op::Read(at, len) => node.adapter.bar0_read(at, &mut vec![0; len]),
                    Op::Write(at, data) => node.adapter.bar0_write(at, &data),
                    Op::Register(row, index, value) => {
                        let at = rows[row].at(index % rows[row].count);
                        node.bus.write64(at, value);
                        node.bus.read64(at);
                    }
                    Op::Config(at, data) => {
                        node.adapter.config_write(at, &data);
                        node.adapter.config_read(at, &mut vec![0; data.len()]);
                    }
                    Op::Pause(nanos) => node.bus.pause(Duration::from_nanos(nanos)),
                }
            }
            prop_assert!(node.adapter.unmodelled().len() <= 4097);
            let chip = node.adapter.unit.lock();
            prop_assert!(chip.board.events.len() < 20_000, "{} events", chip.board.events.len());
            prop_assert!(chip.board.wires.own.bytes() <= LINK_CREDIT_BYTES);
        }
    }
}
