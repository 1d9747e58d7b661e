//! Egress checks: which packets a send context or an SDMA engine may put on the wire.

use crate::headers::Headers;
use opx_defs::csr::{self, Csr, SEND_CTXT_CHECK_ENABLE as ENABLE, SEND_EGRESS_ERR_INFO as INFO};
use opx_defs::wire::kdeth::Kdeth;
use opx_defs::wire::lrh::{LRH_BYTES, Lrh, NextHeader};
use opx_defs::wire::pbc::Pbc;

/// The six check registers, which lie at the same place in a send context and in an SDMA engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checks {
    enable: u64,
    vl: u64,
    job_key: u64,
    pkey: u64,
    slid: u64,
    opcode: u64,
}

const fn within(csr: Csr) -> u32 {
    csr.offset.0 & 0xff
}

const CHECK_ENABLE: u32 = within(csr::SEND_CTXT_CHECK_ENABLE);
const CHECK_VL: u32 = within(csr::SEND_CTXT_CHECK_VL);
const CHECK_JOB_KEY: u32 = within(csr::SEND_CTXT_CHECK_JOB_KEY);
const CHECK_PARTITION_KEY: u32 = within(csr::SEND_CTXT_CHECK_PARTITION_KEY);
const CHECK_SLID: u32 = within(csr::SEND_CTXT_CHECK_SLID);
const CHECK_OPCODE: u32 = within(csr::SEND_CTXT_CHECK_OPCODE);
const _: () = assert!(CHECK_OPCODE == within(csr::SEND_DMA_CHECK_OPCODE));

/// What the checks compare with, the same for all senders.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// SEND_SC2VLT0 to 3.
    pub sc2vlt: [u64; 4],
    /// SEND_LEN_CHECK0 and 1.
    pub len_check: [u64; 2],
    /// SEND_BTH_QP.
    pub bth_qp: u64,
}

impl Rules {
    /// The lane that a service class maps to.
    fn vl_of(&self, sc: u8) -> Option<u8> {
        let row = self.sc2vlt.get(usize::from(sc / 8))?;
        row.to_le_bytes().get(usize::from(sc % 8)).map(|vl| vl & 0x1f)
    }

    /// Most dwords, LRH to ICRC, of a packet on a lane; `None` for a lane that has no limit.
    ///
    /// Source: `chip.c:set_send_length`.
    fn max_dwords(&self, vl: u8) -> Option<u32> {
        let [low, high] = self.len_check;
        let field = match vl {
            0..=3 => low >> (12 * vl),
            4..=7 => high >> (12 * (vl - 4)),
            15 => csr::SEND_LEN_CHECK1::LEN_VL15.get(high),
            _ => return None,
        };
        Some(field as u32 & 0xfff)
    }

    fn is_kdeth(&self, headers: &Headers) -> bool {
        u64::from(headers.bth.qp_prefix()) == csr::SEND_BTH_QP::KDETH_QP.get(self.bth_qp)
    }
}

impl Checks {
    /// Reads one of the registers by its offset in the context or engine.
    pub fn read(&self, register: u32) -> Option<u64> {
        Some(match register {
            CHECK_ENABLE => self.enable,
            CHECK_VL => self.vl,
            CHECK_JOB_KEY => self.job_key,
            CHECK_PARTITION_KEY => self.pkey,
            CHECK_SLID => self.slid,
            CHECK_OPCODE => self.opcode,
            _ => return None,
        })
    }

    /// Writes one; `false` when the offset is none of them.
    pub fn write(&mut self, register: u32, value: u64) -> bool {
        let place = match register {
            CHECK_ENABLE => &mut self.enable,
            CHECK_VL => &mut self.vl,
            CHECK_JOB_KEY => &mut self.job_key,
            CHECK_PARTITION_KEY => &mut self.pkey,
            CHECK_SLID => &mut self.slid,
            CHECK_OPCODE => &mut self.opcode,
            _ => return false,
        };
        *place = value;
        true
    }

    /// Looks at a packet (`body`: all between PBC and ICRC) and gives the SEND_EGRESS_ERR_INFO bits of what is wrong
    /// with it, 0 when it may go.
    ///
    /// The bit positions of CHECK_ENABLE and SEND_EGRESS_ERR_INFO are the same (`hfi.h HFI1_PKT_*`, `chip_registers.h`).
    pub fn refusal(&self, rules: &Rules, pbc: Pbc, body: &[u8]) -> u64 {
        if !ENABLE::CHECK_ENABLE.is_set(self.enable) {
            return 0;
        }
        let mut wrong = 0;
        let vl = pbc.vl().0;
        if self.vl & 1 << vl != 0 {
            wrong |= INFO::VL_ERR.mask();
        }
        // Bits 23 and 29 of the PBC make broken packets for tests.
        if pbc.test_bad_icrc() || pbc.0 & 1 << 29 != 0 {
            wrong |= INFO::PBC_TEST_ERR.mask();
        }
        if pbc.0 >> 32 & 0xffff != 0 {
            wrong |= INFO::PBC_STATIC_RATE_CONTROL_ERR.mask();
        }
        wrong |= if pbc.is_bypass() { self.bypass(rules, pbc, body) } else { self.ib(rules, pbc, body) };
        // 16B lengths have an enable of their own (bit 21) but no bit of their own in the register.
        let mut enabled = self.enable;
        if pbc.is_bypass() {
            enabled = INFO::BAD_PKT_LEN_ERR.set(enabled, ENABLE::DISALLOW_BYPASS_BAD_PKT_LEN.get(self.enable));
            enabled = INFO::VL_MAPPING_ERR.set(enabled, ENABLE::CHECK_BYPASS_VL_MAPPING.get(self.enable));
        }
        wrong & enabled
    }

    fn ib(&self, rules: &Rules, pbc: Pbc, body: &[u8]) -> u64 {
        let mut wrong = 0;
        // LRH to ICRC: without the two dwords of the PBC, with the one that the chip appends.
        let dwords = pbc.length().0.saturating_sub(1);
        if rules.max_dwords(pbc.vl().0).is_some_and(|most| dwords > most) {
            wrong |= INFO::TOO_LONG_IB_PACKET_ERR.mask();
        }
        let Some(lrh) = body.first_chunk::<LRH_BYTES>().map(|raw| Lrh::decode(*raw)) else {
            return wrong | INFO::TOO_SMALL_IB_PACKETS_ERR.mask();
        };
        if lrh.length.0 != dwords {
            wrong |= INFO::BAD_PKT_LEN_ERR.mask();
        }
        match lrh.next {
            NextHeader::Other(0) => wrong |= INFO::RAW_ERR.mask(),
            NextHeader::Other(_) => wrong |= INFO::RAW_IPV6_ERR.mask(),
            NextHeader::Grh => wrong |= INFO::GRH_ERR.mask(),
            NextHeader::Bth => {}
        }
        if masked_differs(self.slid, lrh.slid.0 as u16) && !directed(pbc, lrh.slid.0, 0xffff) {
            wrong |= INFO::SLID_ERR.mask();
        }
        let sc = lrh.sc.0 & 0xf | u8::from(pbc.sc4()) << 4;
        if rules.vl_of(sc) != Some(pbc.vl().0) {
            wrong |= INFO::VL_MAPPING_ERR.mask();
        }
        let Some(headers) = Headers::read(body) else {
            let raw = matches!(lrh.next, NextHeader::Other(_));
            return if raw { wrong } else { wrong | INFO::TOO_SMALL_IB_PACKETS_ERR.mask() };
        };
        let (value, mask) = (self.opcode as u8, (self.opcode >> 8) as u8);
        if (headers.bth.opcode ^ value) & mask != 0 {
            wrong |= INFO::OPCODE_ERR.mask();
        }
        if !pkey_matches(headers.bth.pkey.0, self.pkey as u16) {
            wrong |= INFO::PARTITION_KEY_ERR.mask();
        }
        if rules.is_kdeth(&headers) {
            wrong |= INFO::KDETH_PACKETS_ERR.mask();
            match headers.kdeth(body) {
                Some(kdeth) if !self.job_key_matches(kdeth) => wrong |= INFO::JOB_KEY_ERR.mask(),
                Some(_) => {}
                None => wrong |= INFO::TOO_SMALL_IB_PACKETS_ERR.mask(),
            }
        } else {
            wrong |= INFO::NON_KDETH_PACKETS_ERR.mask();
        }
        wrong
    }

    fn bypass(&self, rules: &Rules, pbc: Pbc, body: &[u8]) -> u64 {
        let mut wrong = INFO::BYPASS_ERR.mask();
        let dwords = pbc.length().0.saturating_sub(2);
        if rules.max_dwords(pbc.vl().0).is_some_and(|most| dwords > most) {
            wrong |= INFO::TOO_LONG_BYPASS_PACKETS_ERR.mask();
        }
        let Some(raw) = body.first_chunk::<16>() else {
            return wrong | INFO::TOO_SMALL_BYPASS_PACKETS_ERR.mask();
        };
        let raw = u128::from_le_bytes(*raw);
        let field = |low: u32, width: u32| (raw >> low) as u32 & ((1 << width) - 1);
        // Only 16B packets (L2 is 2) have these fields; the length is in qwords (`hfi.h OPA_16B_*`).
        if field(32 + 29, 2) == 2 {
            if field(20, 11) * 2 != dwords {
                wrong |= INFO::BAD_PKT_LEN_ERR.mask();
            }
            if rules.vl_of(field(32 + 20, 5) as u8) != Some(pbc.vl().0) {
                wrong |= INFO::VL_MAPPING_ERR.mask();
            }
            let slid = field(0, 20) | field(32 + 8, 4) << 20;
            if masked_differs(self.slid, slid as u16) && !directed(pbc, slid, 0xff_ffff) {
                wrong |= INFO::SLID_ERR.mask();
            }
            if !pkey_matches(field(64 + 16, 16) as u16, self.pkey as u16) {
                wrong |= INFO::PARTITION_KEY_ERR.mask();
            }
        }
        wrong
    }

    fn job_key_matches(&self, kdeth: Kdeth) -> bool {
        !masked_differs(self.job_key, kdeth.job_key().0)
    }
}

/// Whether `found` differs from a register's value (bits 15:0) in the bits of its mask (31:16).
fn masked_differs(register: u64, found: u16) -> bool {
    (found ^ register as u16) & (register >> 16) as u16 != 0
}

/// Whether this is a directed-route management packet, which has the permissive LID for its source. Linux's driver sends
/// them from contexts whose SLID check is on and holds the port's LID (ud.c:hfi1_make_ud_req_9B, chip.c:set_lidlmc), so the
/// check lets them go. That it does so on VL15 only is assumed.
fn directed(pbc: Pbc, slid: u32, permissive: u32) -> bool {
    pbc.vl().0 == 15 && slid == permissive
}

/// The rule of membership: same partition, and a full member's key only where a full member's key is set.
///
/// Source: `chip.c`'s callers of `verbs.c:egress_pkey_matches_entry`.
fn pkey_matches(found: u16, allowed: u16) -> bool {
    (found ^ allowed) & 0x7fff == 0 && (found & 0x8000 == 0 || allowed & 0x8000 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::units::{Dwords, Lid, Pkey, Sc, Sl, Vl};
    use opx_defs::wire::bth::Bth;
    use opx_defs::wire::pbc::Pbc;

    fn rules() -> Rules {
        Rules {
            sc2vlt: [0x0706_0504_0302_0100, 0x0f00_0000_0000_0000, 0, 0],
            len_check: [100, 100 << 48],
            bth_qp: 0x80 << 16,
        }
    }

    fn checks() -> Checks {
        Checks {
            enable: 0x3f_ffff & !ENABLE::DISALLOW_KDETH_PACKETS.mask(),
            vl: 0x8000,
            job_key: 0xffff_0000 | 0x21,
            pkey: 0x8001,
            slid: 0xffff_0000 | 5,
            opcode: 0xc0c0,
        }
    }

    fn packet() -> (Pbc, Vec<u8>) {
        let lrh = Lrh { sc: Sc(0), sl: Sl(0), next: NextHeader::Bth, dlid: Lid(5), slid: Lid(5), length: Dwords(15) };
        let mut body = lrh.encode().to_vec();
        body.extend(Bth { opcode: 0xc0, pkey: Pkey(0x8001), dest_qp: 0x80_0003 }.encode());
        body.extend([0; 4]);
        body.extend((1u32 << 30).to_le_bytes());
        body.extend(0x21u32.to_le_bytes());
        body.extend([0; 28]);
        (Pbc::new(Dwords(16), Vl(0), Sc(0)), body)
    }

    struct Sample {
        checks: Checks,
        rules: Rules,
        pbc: Pbc,
        body: Vec<u8>,
    }

    /// What a change of the packet or the registers brings.
    fn refusal(change: impl FnOnce(&mut Sample)) -> u64 {
        let (pbc, body) = packet();
        let mut sample = Sample { checks: checks(), rules: rules(), pbc, body };
        change(&mut sample);
        sample.checks.refusal(&sample.rules, sample.pbc, &sample.body)
    }

    #[test]
    fn a_right_packet_may_go() {
        assert_eq!(refusal(|_| {}), 0);
    }

    #[test]
    fn each_check_finds_its_fault() {
        assert_eq!(refusal(|s| s.checks.vl = 1), INFO::VL_ERR.mask());
        assert_eq!(refusal(|s| s.checks.job_key ^= 1), INFO::JOB_KEY_ERR.mask());
        assert_eq!(refusal(|s| s.checks.pkey = 1), INFO::PARTITION_KEY_ERR.mask());
        assert_eq!(refusal(|s| s.checks.slid = 0xffff_0006), INFO::SLID_ERR.mask());
        assert_eq!(refusal(|s| s.body[8] = 4), INFO::OPCODE_ERR.mask());
        assert_eq!(refusal(|s| s.rules.sc2vlt[0] = 3), INFO::VL_MAPPING_ERR.mask());
        assert_eq!(refusal(|s| s.body[1] &= !3), INFO::RAW_ERR.mask());
        assert_eq!(refusal(|s| s.body[1] = s.body[1] & !3 | 1), INFO::RAW_IPV6_ERR.mask());
        assert_eq!(refusal(|s| s.body[1] |= 3) & INFO::GRH_ERR.mask(), INFO::GRH_ERR.mask());
        assert_eq!(refusal(|s| s.checks.enable |= 1 << 12), INFO::KDETH_PACKETS_ERR.mask());
        assert_eq!(refusal(|s| s.body[13] = 0), INFO::NON_KDETH_PACKETS_ERR.mask());
        assert_eq!(refusal(|s| s.body.truncate(30)), INFO::TOO_SMALL_IB_PACKETS_ERR.mask());
        assert_eq!(refusal(|s| s.pbc.0 |= 1 << 23), INFO::PBC_TEST_ERR.mask());
        assert_eq!(refusal(|s| s.body[5] ^= 1), INFO::BAD_PKT_LEN_ERR.mask());
        assert_eq!(refusal(|s| s.rules.len_check[0] = 14), INFO::TOO_LONG_IB_PACKET_ERR.mask());
        assert_eq!(refusal(|s| s.pbc.0 |= 1 << 32), INFO::PBC_STATIC_RATE_CONTROL_ERR.mask());
        assert_eq!(refusal(|s| s.pbc.0 |= 1 << 28), INFO::BYPASS_ERR.mask());
    }

    #[test]
    fn the_permissive_source_may_go_on_vl15_only() {
        let permissive = |s: &mut Sample| {
            s.checks.vl = 0;
            s.checks.opcode = 0;
            s.rules.len_check[1] = 100 << 48;
            s.body[6..8].copy_from_slice(&[0xff, 0xff]);
        };
        assert_eq!(refusal(permissive), INFO::SLID_ERR.mask());
        let on_vl15 = |s: &mut Sample| {
            permissive(s);
            s.pbc = Pbc::new(Dwords(16), Vl(15), Sc(15));
            s.body[0] = s.body[0] & 0xf | 0xf0;
        };
        assert_eq!(refusal(on_vl15), 0);
    }

    #[test]
    fn sixteen_byte_headers_have_checks_of_their_own() {
        // SLID 5, 7 qwords, SC 0, L2 2, pkey 0x8001; PBC of 2 + 14 dwords.
        let header = 5u128 | 7 << 20 | 2 << (32 + 29) | 0x8001 << (64 + 16);
        let with = |header: u128| {
            refusal(|s| {
                s.checks.enable &= !(1 << 11);
                s.pbc.0 |= 1 << 28;
                s.body[..16].copy_from_slice(&header.to_le_bytes());
            })
        };
        assert_eq!(with(header), 0);
        assert_eq!(with(header ^ 1), INFO::SLID_ERR.mask());
        assert_eq!(with(header ^ 1 << 20), INFO::BAD_PKT_LEN_ERR.mask());
        assert_eq!(with(header ^ 1 << 52), INFO::VL_MAPPING_ERR.mask());
        assert_eq!(with(header ^ 1 << 81), INFO::PARTITION_KEY_ERR.mask());
    }

    #[test]
    fn nothing_is_checked_without_the_main_enable() {
        assert_eq!(refusal(|s| (s.checks.enable &= !1, s.body.clear()).1), 0);
    }

    #[test]
    fn registers_read_back() {
        let mut checks = Checks::default();
        for (i, register) in [CHECK_ENABLE, CHECK_VL, CHECK_JOB_KEY, CHECK_PARTITION_KEY, CHECK_SLID, CHECK_OPCODE]
            .into_iter()
            .enumerate()
        {
            assert!(checks.write(register, i as u64 + 1));
            assert_eq!(checks.read(register), Some(i as u64 + 1));
        }
        assert!(!checks.write(0xb0, 1));
    }
}
