//! Tests of the chip's common blocks: each does what Linux's driver does, and expects what it expects.

mod faults;
mod fuzz;
mod link;
mod registers;

use crate::{Adapter, Config, EmuBus, Icode, Lab, Pacing, firmware};
use opx_bus::{PciFunction, poll};
use opx_defs::csr::{self, Csr};
use std::time::Duration;

fn qwords(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|qword| u64::from_le_bytes(qword.try_into().unwrap()))
}

pub struct Node {
    pub adapter: Adapter,
    pub bus: EmuBus,
}

pub fn node(lab: &Lab, icode: Icode) -> Node {
    let adapter = lab.add(Config { icode, link_time: Duration::from_millis(2), ..Config::default() });
    let bus = adapter.bus();
    bus.write64(csr::CCE_DC_CTRL.off(), 0);
    Node { adapter, bus }
}

pub fn one(icode: Icode) -> (Lab, Node) {
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

    pub fn load(&self, field: u64, value: u32) {
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

    /// Loads a good 8051 image, leaving out what `skip` names.
    pub fn load_code(&self, skip: &str) -> u64 {
        self.load_image(&firmware::image(512, 1), skip)
    }

    /// `firmware.c:load_security_variables` with the parts of an augmented file, leaving out what `skip` names.
    pub fn load_variables(&self, file: &[u8], skip: &str) {
        for (name, row, start) in [("modulus", csr::MISC_CFG_RSA_MODULUS, 128), ("r2", csr::MISC_CFG_RSA_R2, 644)] {
            if name != skip {
                self.put_array(row, &file[start..start + 256]);
            }
        }
        if skip != "mu" {
            self.put_array(csr::MISC_CFG_RSA_MU, &file[900..908]);
        }
        if skip != "header" {
            qwords(&file[..128]).for_each(|qword| self.put(csr::MISC_CFG_SHA_PRELOAD, qword));
        }
    }

    fn put_array(&self, row: Csr, bytes: &[u8]) {
        (0..).zip(qwords(bytes)).for_each(|(index, qword)| self.bus.write64(row.at(index), qword));
    }

    /// The part of `firmware.c:load_8051_firmware` from the security variables to the engine's status.
    pub fn load_image(&self, file: &[u8], skip: &str) -> u64 {
        self.load_variables(file, skip);
        self.put(csr::MISC_CFG_FW_CTRL, 0);
        self.put(csr::DC_DC8051_CFG_RAM_ACCESS_SETUP, 0x101);
        self.put(csr::DC_DC8051_CFG_RAM_ACCESS_CTRL, 1 << 24);
        qwords(&file[908..]).for_each(|qword| self.put(csr::DC_DC8051_CFG_RAM_ACCESS_WR_DATA, qword));
        self.put(csr::DC_DC8051_CFG_RAM_ACCESS_CTRL, 0);
        self.put(csr::DC_DC8051_CFG_RAM_ACCESS_SETUP, 0);
        if skip != "flag" {
            self.put(csr::MISC_CFG_FW_CTRL, 2);
        }
        self.run_rsa(file, skip)
    }

    /// `firmware.c:run_rsa`.
    pub fn run_rsa(&self, file: &[u8], skip: &str) -> u64 {
        if skip != "signature" {
            self.put_array(csr::MISC_CFG_RSA_SIGNATURE, &file[388..644]);
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

    pub fn firmware_ready(&self) -> bool {
        self.get(csr::DC_DC8051_STS_CUR_STATE) >> 16 & 0xff == 0xa0
    }

    pub fn physical(&self) -> u64 {
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
    pub fn lcb_shutdown(&self) {
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

    pub fn host_messages(&self) -> u64 {
        let flags = self.get(csr::DC_DC8051_ERR_FLG);
        if flags == 0 {
            return 0;
        }
        self.put(csr::DC_DC8051_ERR_CLR, flags);
        self.get(csr::DC_DC8051_DBG_ERR_INFO_SET_BY_8051)
    }

    pub fn poll_link(&self) {
        self.load(9, 0xf);
        self.load(8, 0x1234);
        self.load(6, 0x0200_000f);
        assert_eq!(self.command(3, 0x20).0, 2);
        assert_eq!(self.physical(), 0x20);
    }

    /// `chip.c:handle_verify_cap`.
    pub fn answer_verify_cap(&self) {
        self.until("VerifyCap", || self.host_messages() & 1 << 6 != 0);
        assert_eq!(self.physical(), 0x46);
        self.lcb_shutdown();
        self.put(csr::DC_LCB_CFG_CRC_MODE, 1);
        self.put(csr::DC_LCB_CFG_TX_FIFOS_RESET, 0);
        self.put(csr::DC_DC8051_CFG_CSR_ACCESS_SEL, 2);
        assert_eq!(self.command(3, 0x50).0, 2);
    }

    pub fn wait_linkup(&self) {
        self.until("LINKUP", || self.host_messages() & 1 << 7 != 0);
        assert_eq!((self.physical(), self.logical()), (0x50, 2));
    }
}
