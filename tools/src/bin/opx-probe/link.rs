//! `opx-probe link`: the fabric link, as its registers show it.

use crate::cli::Target;
use crate::names::constant;
use crate::places::Places;
use crate::registers::{Reading, Registers};
use crate::view::{View, pairs, show, yes};
use crate::{Outcome, choose};
use opx_bus::{BusError, PciFunction};
use opx_defs::csr::{self, Csr, Field};
use opx_defs::units::{Guid, Lid};
use serde::Serialize;

/// A state by its code and its name.
#[derive(Debug, Clone, Serialize)]
pub struct State {
    /// As the chip has it.
    pub code: u64,
    /// As the driver calls it.
    pub name: String,
}

/// The link.
#[derive(Debug, Clone, Serialize)]
pub struct Link {
    /// The link side of the chip is held in reset; nothing else is known then.
    pub dc_in_reset: bool,
    /// None while it is.
    pub port: Option<Port>,
}

/// The port.
#[derive(Debug, Clone, Serialize)]
pub struct Port {
    /// This end.
    pub guid: String,
    /// Its LID, 0 before a fabric manager gave it one.
    pub lid: u64,
    /// Logical state.
    pub logical_state: State,
    /// Physical state.
    pub physical_state: State,
    /// What the 8051's firmware says of itself; 0xa0 is ready for commands.
    pub firmware_state: String,
    /// Largest payload, bytes.
    pub mtu: Option<u64>,
    /// Which side of the chip owns the LCB's registers.
    pub lcb_owner: &'static str,
    /// Whether the LCB runs; none while the 8051 has it.
    pub lcb_runs: Option<bool>,
    /// Whether packets may be sent and received.
    pub sends: bool,
    /// Whether packets are received.
    pub receives: bool,
    /// The other end; none before the link is up.
    pub peer: Option<Peer>,
}

/// The other end.
#[derive(Debug, Clone, Serialize)]
pub struct Peer {
    /// Its node's GUID.
    pub guid: String,
    /// What it is.
    pub kind: &'static str,
    /// Number of its port.
    pub port: u64,
}

/// `chip.c:set_send_length`: 7 is 10240, and below that powers of two from 256 on.
fn mtu(code: u64) -> Option<u64> {
    match code {
        7 => Some(10240),
        1..=6 => Some(128 << code),
        _ => None,
    }
}

impl Link {
    /// Reads it.
    pub fn read<B: PciFunction>(registers: &Registers<B>) -> Result<Self, BusError> {
        let dc_in_reset = registers.dc_in_reset()?;
        Ok(Self { dc_in_reset, port: if dc_in_reset { None } else { Some(Port::read(registers)?) } })
    }
}

impl Port {
    fn read<B: PciFunction>(registers: &Registers<B>) -> Result<Self, BusError> {
        use csr::DC_DC8051_CFG_CSR_ACCESS_SEL as owner;
        let field = |csr: &Csr, field: Field| registers.get(csr).map(|value| field.get(value));
        let config = registers.get(&csr::DCC_CFG_PORT_CONFIG)?;
        let logical = csr::DCC_CFG_PORT_CONFIG::LINK_STATE.get(config);
        let state = registers.get(&csr::DC_DC8051_STS_CUR_STATE)?;
        let physical = csr::DC_DC8051_STS_CUR_STATE::PORT.get(state);
        let owners = registers.get(&csr::DC_DC8051_CFG_CSR_ACCESS_SEL)?;
        // From Init on (intr.c:handle_linkup_change).
        let peer = if logical >= 2 {
            let kind = field(&csr::DC_DC8051_STS_REMOTE_NODE_TYPE, csr::DC_DC8051_STS_REMOTE_NODE_TYPE::VAL)?;
            Some(Peer {
                guid: Guid(registers.get(&csr::DC_DC8051_STS_REMOTE_GUID)?).to_string(),
                kind: if kind == 0 { "adapter" } else { "switch" },
                port: field(&csr::DC_DC8051_STS_REMOTE_PORT_NO, csr::DC_DC8051_STS_REMOTE_PORT_NO::VAL)?,
            })
        } else {
            None
        };
        let lcb_runs = match registers.read(&csr::DC_LCB_CFG_RUN, 0, 0)? {
            Reading::Value(value) => Some(value & 1 != 0),
            Reading::Skipped(_) => None,
        };
        Ok(Self {
            guid: Guid(registers.get(&csr::DC_DC8051_CFG_LOCAL_GUID)?).to_string(),
            lid: field(&csr::DCC_CFG_PORT_CONFIG1, csr::DCC_CFG_PORT_CONFIG1::TARGET_DLID)?,
            logical_state: State { code: logical, name: constant("lstate", "LSTATE_", logical) },
            physical_state: State { code: physical, name: constant("pls", "PLS_", physical) },
            firmware_state: format!("{:#x}", csr::DC_DC8051_STS_CUR_STATE::FIRMWARE.get(state)),
            mtu: mtu(csr::DCC_CFG_PORT_CONFIG::MTU_CAP.get(config)),
            lcb_owner: if owner::DCC.is_set(owners) && !owner::LCB.is_set(owners) { "8051" } else { "host" },
            lcb_runs,
            sends: csr::SEND_CTRL::SEND_ENABLE.is_set(registers.get(&csr::SEND_CTRL)?),
            receives: csr::RCV_CTRL::RCV_PORT_ENABLE.is_set(registers.get(&csr::RCV_CTRL)?),
            peer,
        })
    }
}

impl View for Link {
    fn text(&self) -> String {
        let Some(port) = &self.port else {
            return pairs([("link", "unknown: the DC is held in reset (CCE_DC_CTRL.DC_RESET)".to_owned())]);
        };
        let peer = match &port.peer {
            Some(peer) => format!("{}, port {} of {}", peer.kind, peer.port, peer.guid),
            None => "unknown: the link isn't up".to_owned(),
        };
        let lcb = match port.lcb_runs {
            Some(true) => "runs",
            Some(false) => "stands",
            None => "isn't asked",
        };
        pairs([
            ("logical state", format!("{} ({})", port.logical_state.name, port.logical_state.code)),
            ("physical state", format!("{} ({:#x})", port.physical_state.name, port.physical_state.code)),
            ("8051", format!("firmware state {}", port.firmware_state)),
            ("LCB", format!("the {}'s, {lcb}", port.lcb_owner)),
            ("GUID", port.guid.clone()),
            ("LID", Lid(port.lid as u32).to_string()),
            ("largest payload", port.mtu.map_or("not set".to_owned(), |mtu| format!("{mtu} bytes"))),
            ("sends", yes(port.sends)),
            ("receives", yes(port.receives)),
            ("other end", peer),
        ])
    }
}

/// Shows it.
pub fn run(places: &Places, target: &Target) -> anyhow::Result<Outcome> {
    let registers = choose::adapter(places, target)?;
    show(&registers, target, &Link::read(&registers)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_codes() {
        assert_eq!([0, 1, 4, 6, 7].map(mtu), [None, Some(256), Some(2048), Some(8192), Some(10240)]);
    }
}
