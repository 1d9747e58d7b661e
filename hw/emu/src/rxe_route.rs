//! Receive-side mapping: which receive context a packet goes to.
//!
//! Source: `chip.c:init_qos`, `init_fecn_handling`, `init_rxe`, `init_kdeth_qp`, `hfi1_rcvctrl`. That management packets
//! and KDETH packets are sorted out first, and that a rule goes before the queue-pair map, is INFERRED from them.

use crate::headers::Headers;
use crate::packet::Packet;
use opx_defs::csr;
use opx_defs::units::RcvCtxt;
use opx_defs::wire::kdeth::Kdeth;
use opx_defs::wire::rhf::RcvType;

/// A table of bytes in registers of eight.
pub type ByteTable = [u64; 32];

fn entry(table: &ByteTable, index: u8) -> u8 {
    let word = table.get(usize::from(index / 8)).copied().unwrap_or(0);
    word.to_le_bytes().get(usize::from(index % 8)).copied().unwrap_or(0)
}

/// The registers that decide.
#[derive(Debug, Default)]
pub struct Routes {
    /// RCV_CTRL.
    pub ctrl: u64,
    /// RCV_BTH_QP.
    pub bth_qp: u64,
    /// RCV_MULTICAST.
    pub multicast: u64,
    /// RCV_BYPASS.
    pub bypass: u64,
    /// RCV_VL15.
    pub vl15: u64,
    /// RCV_QP_MAP_TABLE.
    pub qp_map: ByteTable,
    /// RCV_RSM_CFG.
    pub rsm_cfg: [u64; 4],
    /// RCV_RSM_SELECT.
    pub rsm_select: [u64; 4],
    /// RCV_RSM_MATCH.
    pub rsm_match: [u64; 4],
    /// RCV_RSM_MAP_TABLE.
    pub rsm_map: ByteTable,
}

/// Where a packet goes, and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The context.
    pub context: RcvCtxt,
    /// Type in the RHF.
    pub kind: RcvType,
    /// Headers, unless it is a bypass packet.
    pub headers: Option<Headers>,
    /// The KDETH section, if it has one.
    pub kdeth: Option<Kdeth>,
    /// It says that it has a KDETH section but is too short for it.
    pub kdeth_short: bool,
}

/// LIDs from here on are multicast LIDs (`ib_verbs.h IB_MULTICAST_LID_BASE`).
const MULTICAST_LIDS: u32 = 0xc000;
const VL15: u8 = 15;
/// In the map table: no context (`chip.c:init_rxe`, B-step).
const NO_CONTEXT: u8 = 0xff;

impl Routes {
    /// The route of a packet; `None` for packets that the chip doesn't take: of an unknown kind, too short, or bypass
    /// packets while they aren't enabled.
    pub fn find(&self, packet: &Packet) -> Option<Route> {
        let bytes = packet.body();
        if packet.bypass {
            if !csr::RCV_CTRL::RCV_BYPASS_ENABLE.is_set(self.ctrl) {
                return None;
            }
            let default = RcvCtxt(csr::RCV_BYPASS::BYPASS_CONTEXT.get(self.bypass) as u16);
            let context = self.rule(RcvType::Bypass, bytes, true).unwrap_or(default);
            return Some(Route { context, kind: RcvType::Bypass, headers: None, kdeth: None, kdeth_short: false });
        }
        let headers = Headers::read(bytes)?;
        let prefix = u64::from(headers.bth.qp_prefix());
        let is_kdeth = prefix == csr::RCV_BTH_QP::KDETH_QP.get(self.bth_qp);
        let kdeth = if is_kdeth { headers.kdeth(bytes) } else { None };
        let kind = match kdeth {
            _ if !is_kdeth => RcvType::Ib,
            Some(kdeth) if kdeth.tid_ctrl() != 0 => RcvType::Expected,
            _ => RcvType::Eager,
        };
        let context = if packet.vl.0 == VL15 {
            RcvCtxt(self.vl15 as u16 & 0xff)
        } else if let Some(context) = self.rule(kind, bytes, false) {
            context
        } else if is_kdeth {
            RcvCtxt(headers.bth.kdeth_context().into())
        } else if headers.lrh.dlid.0 >= MULTICAST_LIDS && headers.lrh.dlid.0 != 0xffff {
            RcvCtxt(self.multicast as u16 & 0xff)
        } else if csr::RCV_CTRL::RCV_QP_MAP_ENABLE.is_set(self.ctrl) {
            RcvCtxt(entry(&self.qp_map, (headers.bth.dest_qp >> 1) as u8).into())
        } else {
            RcvCtxt(0)
        };
        Some(Route { context, kind, headers: Some(headers), kdeth, kdeth_short: is_kdeth && kdeth.is_none() })
    }

    /// The context that the first matching rule gives.
    fn rule(&self, kind: RcvType, bytes: &[u8], bypass: bool) -> Option<RcvCtxt> {
        if !csr::RCV_CTRL::RCV_RSM_ENABLE.is_set(self.ctrl) {
            return None;
        }
        for ((cfg, select), matching) in self.rsm_cfg.iter().zip(&self.rsm_select).zip(&self.rsm_match) {
            // A rule is there when its CFG isn't 0 (`chip.c:add_rsm_rule`, `clear_rsm_rule`).
            if *cfg == 0 || csr::RCV_RSM_CFG::PACKET_TYPE.get(*cfg) != kind.code() {
                continue;
            }
            let [mask1, value1, mask2, value2, ..] = matching.to_le_bytes();
            let field = |offset: u64, width: u64| bits(bytes, bypass, offset & 0x1ff, width);
            if field(csr::RCV_RSM_SELECT::FIELD1_OFFSET.get(*select), 8) & u16::from(mask1) != u16::from(value1)
                || field(csr::RCV_RSM_SELECT::FIELD2_OFFSET.get(*select), 8) & u16::from(mask2) != u16::from(value2)
            {
                continue;
            }
            let index = |offset, width: csr::Field| field(offset, width.get(*select)) as u8;
            let first = index(csr::RCV_RSM_SELECT::INDEX1_OFFSET.get(*select), csr::RCV_RSM_SELECT::INDEX1_WIDTH);
            let second = index(csr::RCV_RSM_SELECT::INDEX2_OFFSET.get(*select), csr::RCV_RSM_SELECT::INDEX2_WIDTH);
            // The two parts are combined by exclusive or: that is how `chip.c:init_qos` fills the table.
            let at = (csr::RCV_RSM_CFG::OFFSET.get(*cfg) as u8).wrapping_add(first ^ second);
            let context = entry(&self.rsm_map, at);
            if context != NO_CONTEXT {
                return Some(RcvCtxt(context.into()));
            }
        }
        None
    }
}

/// `width` (at most 16) bits of a packet from bit `offset`. Bits are numbered in qwords: big-endian ones for 9B packets,
/// little-endian ones for 16B (INFERRED from the rules in `chip.c`). Bits beyond the packet read as 0.
fn bits(bytes: &[u8], bypass: bool, offset: u64, width: u64) -> u16 {
    (0..width.min(16)).fold(0, |value, i| {
        let bit = (offset + i) as usize;
        let word = bytes.get(bit / 64 * 8..).and_then(<[u8]>::first_chunk::<8>).copied().unwrap_or_default();
        let word = if bypass { u64::from_le_bytes(word) } else { u64::from_be_bytes(word) };
        value | ((word >> (bit % 64) & 1) as u16) << i
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::units::Vl;

    fn packet(change: impl FnOnce(&mut Vec<u8>)) -> Packet {
        let mut bytes = vec![0; 64];
        bytes[1] = 2;
        bytes[13] = 0x80;
        bytes[15] = 7;
        bytes[20..24].copy_from_slice(&(1u32 << 30).to_le_bytes());
        change(&mut bytes);
        Packet::seal(bytes, Vl(0), false, false, false)
    }

    fn routes() -> Routes {
        let mut routes = Routes { ctrl: 0x33, bth_qp: 0x80 << 16, vl15: 1, multicast: 2, ..Routes::default() };
        routes.qp_map[1] = 0x0b0a_0908_0706_0504;
        routes
    }

    fn context(routes: &Routes, packet: &Packet) -> Option<(u16, RcvType)> {
        routes.find(packet).map(|route| (route.context.0, route.kind))
    }

    #[test]
    fn each_kind_has_its_way() {
        let routes = routes();
        assert_eq!(context(&routes, &packet(|_| {})), Some((7, RcvType::Eager)));
        assert_eq!(context(&routes, &packet(|b| b[23] |= 1 << 2)), Some((7, RcvType::Expected)));
        assert_eq!(context(&routes, &packet(|b| (b[13], b[15]) = (0, 0x12))), Some((5, RcvType::Ib)));
        assert_eq!(context(&routes, &packet(|b| (b[13], b[2]) = (0, 0xc0))), Some((2, RcvType::Ib)));
        let mut management = packet(|b| b[13] = 0);
        management.vl = Vl(15);
        assert_eq!(context(&routes, &management), Some((1, RcvType::Ib)));
        assert_eq!(context(&routes, &packet(|b| b[1] = 0)), None);
        let short = Packet::seal(packet(|_| {}).bytes[..40].to_vec(), Vl(0), false, false, false);
        assert!(routes.find(&short).is_some_and(|route| route.kdeth_short));
        let mut bypass = packet(|_| {});
        bypass.bypass = true;
        assert_eq!(context(&routes, &bypass), Some((0, RcvType::Bypass)));
        assert_eq!(context(&Routes::default(), &bypass), None);
    }

    #[test]
    fn the_drivers_rules_match_what_they_are_for() {
        let mut routes = routes();
        // Rule 0 of `chip.c:init_fecn_handling`: expected packets with F and SH go by the low byte of DestQP.
        routes.rsm_cfg[0] = 0xf0 << 32 | 1;
        routes.rsm_select[0] = 95 | 133 << 16 | 64 << 32 | 8 << 44;
        routes.rsm_match[0] = 0x0101_0101;
        routes.rsm_map[31] = 0x0909_0909_0909_0909;
        routes.rsm_map[30] = u64::MAX;
        let marked = packet(|b| (b[23], b[12], b[15]) = (b[23] | 1 << 2 | 1 << 5, 0x80, 8));
        assert_eq!(context(&routes, &marked), Some((9, RcvType::Expected)));
        // An empty place in the table, and a packet without SH, leave the packet to its own context.
        let elsewhere = packet(|b| (b[23], b[12], b[15]) = (b[23] | 1 << 2 | 1 << 5, 0x80, 3));
        assert_eq!(context(&routes, &elsewhere), Some((3, RcvType::Expected)));
        let plain = packet(|b| (b[23], b[12], b[15]) = (b[23] | 1 << 2, 0x80, 8));
        assert_eq!(context(&routes, &plain), Some((8, RcvType::Expected)));
    }
}
