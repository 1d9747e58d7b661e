//! The link: its states from offline to ACTIVE, and what the 8051's messages do to them.
//!
//! Linux does this in work items behind interrupts. Here [`Hfi::link_advance`] takes what the 8051 has to tell and goes
//! on from there; [`Hfi::link_up`] calls it until the link is ACTIVE, [`Hfi::service_interrupts`] when the 8051 raises
//! its interrupt.

use crate::dc8051::{Dc8051, Messages};
use crate::error::{ChipError, CommandError, Gone, LinkError};
use crate::firmware::Firmware;
use crate::freeze::Cause;
use crate::hfi::{Hfi, Inner, lock};
use crate::regs::{Regs, limit};
use crate::{init_rx, init_tx};
use opx_bus::{ALL_ONES, PciFunction, poll};
use opx_defs::chip;
use opx_defs::csr;
use opx_defs::units::{Guid, Lid};
use std::fmt;
use std::sync::TryLockError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a loopback may take: nobody else is involved, but firmware is.
const LOOPBACK_LIMIT: Duration = Duration::from_secs(10);
/// The hardware settles after link up (`intr.c:LINK_UP_DELAY`).
const LINK_UP_DELAY: Duration = Duration::from_micros(500);
/// Reason for going offline when the adapter is closed: `OPA_LINKDOWN_REASON_REBOOT`.
const REASON_REBOOT: u64 = 35;

/// What the link is brought up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkMode {
    /// The adapter itself, in the LCB: no cable needed.
    Loopback,
    /// Whatever the cable leads to.
    Cable {
        /// How long the other end may take.
        timeout: Duration,
    },
}

/// Why a link went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DownReason {
    /// The signal was lost.
    SignalLost,
    /// The neighbour said that it goes down, with its reason code.
    Neighbor(u8),
    /// This side asked for it.
    Local,
    /// The chip reached its critical temperature.
    Overheated,
    /// The 8051 gave another code; 0 when it gave none.
    Other(u8),
}

/// What a link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Nothing.
    Offline,
    /// Looks for the other end.
    Polling,
    /// Both ends agreed on how to talk.
    GoingUp,
    /// Up, for management packets only.
    Init,
    /// Set up, but the neighbour isn't known to be.
    Armed,
    /// Up.
    Active,
    /// Was up and went down. Send contexts and engines have to recover once it is ACTIVE again.
    Down(DownReason),
}

impl LinkState {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Polling => "polling",
            Self::GoingUp => "going up",
            Self::Init => "INIT",
            Self::Armed => "ARMED",
            Self::Active => "ACTIVE",
            Self::Down(_) => "down",
        }
    }

    /// Whether the physical link is up.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Init | Self::Armed | Self::Active)
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Down(DownReason::SignalLost) => f.write_str(" (signal lost)"),
            Self::Down(DownReason::Neighbor(code)) => write!(f, " (the neighbour went down, reason {code})"),
            Self::Down(DownReason::Local) => f.write_str(" (asked for)"),
            Self::Down(DownReason::Overheated) => f.write_str(" (the chip is too hot)"),
            Self::Down(DownReason::Other(code)) => write!(f, " (8051's reason {code:#x})"),
            _ => Ok(()),
        }
    }
}

/// What is known about a link that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkInfo {
    /// The port's LID.
    pub lid: Lid,
    /// The LID of the other end; the same in loopback.
    pub peer_lid: Lid,
    /// The other end's GUID.
    pub neighbor_guid: Guid,
    /// Whether the other end is an adapter (and not a switch).
    pub neighbor_is_hfi: bool,
    /// Number of the other end's port.
    pub neighbor_port: u8,
    /// Lanes.
    pub lanes: u8,
    /// Megabits a second on each lane.
    pub lane_rate_mbps: u32,
    /// Checksum of the link layer: 0 for 16, 1 for 14, 2 for 48 bits, 3 for one on each lane.
    pub crc_mode: u8,
    /// Largest payload, bytes.
    pub mtu: u32,
}

/// The driver's side of the link.
#[derive(Debug)]
pub(crate) struct Link {
    pub dc8051: Dc8051,
    pub firmware: Option<Firmware>,
    pub state: LinkState,
    loopback: bool,
    /// It was told to go offline, and hasn't been seen there (`HLS_GOING_OFFLINE`).
    going_offline: bool,
    /// No VerifyCap frames will come: quick link-up, and any link of the functional simulator.
    pub without_verify_cap: bool,
    /// The neighbour is at least ARMED.
    neighbor_normal: bool,
    /// What the peer's receive buffer has for VL 15, told in its VerifyCap frame.
    pub vl15_credits: u16,
    pub local_tx_rate: u8,
    pub lane_rate_mbps: u32,
    pub crc_mode: u8,
    /// How the last negotiation failed, beginning with a separator, or empty.
    last_failure: String,
}

impl Link {
    pub fn new(dc8051: Dc8051, firmware: Option<Firmware>) -> Self {
        Self {
            dc8051,
            firmware,
            state: LinkState::Offline,
            loopback: false,
            going_offline: false,
            without_verify_cap: false,
            neighbor_normal: false,
            vl15_credits: 0,
            local_tx_rate: 0,
            lane_rate_mbps: 0,
            crc_mode: 0,
            last_failure: String::new(),
        }
    }

    /// Tells the other end that this one goes away (`chip.c:hfi1_quiet_serdes`), without waiting for anything.
    pub fn quiet<B: PciFunction>(&mut self, regs: &Regs<B>) {
        if self.state == LinkState::Offline || matches!(self.state, LinkState::Down(_)) || !self.dc8051.answers() {
            return;
        }
        let state = REASON_REBOOT << 8 | chip::PLS_OFFLINE;
        if let Err(error) = self.dc8051.change_phy_state(regs, "go offline", state) {
            log::debug!("{error}");
        }
    }
}

impl<B: PciFunction> Hfi<B> {
    /// Brings the link up to ACTIVE, as the node's own fabric manager. Does nothing when it is up already.
    ///
    /// Between two adapters, the one with the lower GUID gets LID 1 and the other LID 2.
    ///
    /// # Errors
    /// When the chip, its firmware or the other end doesn't do its part in time.
    pub fn link_up(&self, mode: LinkMode) -> Result<LinkInfo, LinkError> {
        self.link_begin(mode)?;
        let limit = match mode {
            LinkMode::Loopback => LOOPBACK_LIMIT,
            LinkMode::Cable { timeout } => timeout,
        };
        let active = poll::until(self.bus(), limit, || match self.link_advance() {
            Ok(LinkState::Active) => self.link_info().map(Ok),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        });
        active.unwrap_or_else(|_| {
            let last = lock(&self.inner.link).last_failure.clone();
            Err(LinkError::Timeout { adapter: self.inner.adapter(), state: self.link_state().name(), limit, last })
        })
    }

    /// Begins to bring the link up; [`Hfi::link_advance`] goes on. For who drives both ends of a cable himself.
    ///
    /// # Errors
    /// When the chip refuses, or the link can't be had.
    pub fn link_begin(&self, mode: LinkMode) -> Result<(), LinkError> {
        let inner = &*self.inner;
        inner.regs.check_ours()?;
        let mut link = lock(&inner.link);
        let loopback = mode == LinkMode::Loopback;
        if inner.frozen.is_for_good() {
            return Err(LinkError::Overheated { adapter: inner.adapter() });
        }
        if link.state.is_up() && link.loopback == loopback && link.dc8051.is_alive() {
            return Ok(());
        }
        inner.begin_anew(&mut link)?;
        link.loopback = loopback;
        link.without_verify_cap = loopback || inner.info.is_simulator();
        link.last_failure.clear();
        inner.start_polling(&mut link)
    }

    /// Takes what the 8051 has to tell and goes on with the link as far as it gets without waiting for the other end.
    ///
    /// # Errors
    /// When the chip doesn't do its part.
    pub fn link_advance(&self) -> Result<LinkState, LinkError> {
        self.inner.regs.check_ours()?;
        self.inner.advance(&mut lock(&self.inner.link))
    }
}

impl<B: PciFunction> Inner<B> {
    fn enter(&self, link: &mut Link, state: LinkState) {
        log::info!("{}: link {} -> {state}", self.info.name, link.state);
        link.state = state;
        let mut shown = lock(&self.shown);
        shown.0 = state;
        if !state.is_up() {
            shown.1 = None;
        }
    }

    /// What the 8051's interrupt asks for. Whoever works on the link just now sees its messages himself.
    pub(crate) fn service_link(&self) -> Result<(), LinkError> {
        match self.link.try_lock() {
            Ok(mut link) => self.advance(&mut link).map(drop),
            Err(TryLockError::Poisoned(link)) => self.advance(&mut link.into_inner()).map(drop),
            Err(TryLockError::WouldBlock) => Ok(()),
        }
    }

    fn advance(&self, link: &mut Link) -> Result<LinkState, LinkError> {
        if link.state == LinkState::Down(DownReason::Overheated) {
            return Ok(link.state);
        }
        if let Some(messages) = link.dc8051.take_messages(&self.regs, &self.counts)? {
            self.handle(link, messages)?;
        }
        if link.state == LinkState::Armed && link.neighbor_normal {
            self.activate(link)?;
        }
        Ok(link.state)
    }

    /// `chip.c:handle_8051_interrupt`.
    fn handle(&self, link: &mut Link, messages: Messages) -> Result<(), LinkError> {
        let Messages { host_msg, errors } = messages;
        let told = |bit: u64| host_msg & bit != 0;
        if told(chip::EXT_DEVICE_CFG_REQ) {
            link.dc8051.answer_request(&self.regs)?;
        }
        // The 8051 clears these errors only when polling starts, so they mean nothing in other states.
        let negotiating = matches!(link.state, LinkState::Polling | LinkState::GoingUp);
        if negotiating && errors & chip::FAILED_LNI != 0 {
            return self.negotiate_again(link, errors & chip::FAILED_LNI);
        }
        if told(chip::LINK_GOING_DOWN) {
            if link.state.is_up() {
                return self.went_down(link);
            }
            return if negotiating { self.negotiate_again(link, 0) } else { Ok(()) };
        }
        if told(chip::VERIFY_CAP_FRAME) && link.state == LinkState::Polling && !link.without_verify_cap {
            self.verify_cap(link)?;
            self.enter(link, LinkState::GoingUp);
        }
        let expected = if link.without_verify_cap { LinkState::Polling } else { LinkState::GoingUp };
        if told(chip::LINKUP_ACHIEVED) && link.state == expected {
            self.came_up(link)?;
        }
        if told(chip::BC_SMA_MSG) {
            self.read_sma_message(link)?;
        }
        Ok(())
    }

    /// `chip.c:handle_sma_message`.
    fn read_sma_message(&self, link: &mut Link) -> Result<(), LinkError> {
        if !link.dc8051.is_alive() {
            // It waits for its restart; each command would only run out of time.
            return Ok(());
        }
        let read =
            link.dc8051.command(&self.regs, "read an idle message", chip::HCMD_READ_LCB_IDLE_MSG, chip::IDLE_SMA);
        let message = match read {
            Ok(message) => message,
            // The flag stays until the next command, so it may tell of a message that was read already.
            Err(error @ CommandError::Refused { .. }) => {
                log::debug!("{error}");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let payload = message >> chip::IDLE_PAYLOAD_SHIFT & 0xff;
        log::debug!("{}: SMA idle message {payload:#x} in state {}", self.info.name, link.state);
        match (payload, link.state) {
            (chip::SMA_IDLE_ARM, LinkState::Init | LinkState::Armed) | (chip::SMA_IDLE_ACTIVE, LinkState::Armed) => {
                link.neighbor_normal = true
            }
            _ => {}
        }
        Ok(())
    }

    /// `chip.c:send_idle_sma`.
    fn send_sma_message(&self, link: &mut Link, message: u64) -> Result<(), CommandError> {
        let data = message << chip::IDLE_PAYLOAD_SHIFT | chip::IDLE_SMA;
        link.dc8051.command(&self.regs, "send an idle message", chip::HCMD_SEND_LCB_IDLE_MSG, data).map(drop)
    }

    /// Goes to polling: `chip.c:start_link, set_link_state(HLS_DN_POLL)`.
    fn start_polling(&self, link: &mut Link) -> Result<(), LinkError> {
        // The DC controls the LED from now on.
        self.regs.write(&csr::DCC_CFG_LED_CNTRL, 0);
        if link.state != LinkState::Offline || link.going_offline {
            self.go_offline(link, 0)?;
        }
        self.set_pkeys(false)?;
        link.neighbor_normal = false;
        if let Some(firmware) = &link.firmware {
            firmware.reset_fabric_serdes(&self.regs, self.asic)?;
        }
        self.set_local_attributes(link)?;
        let started = if link.loopback {
            self.quick_link_up(link)
        } else {
            link.dc8051.change_phy_state(&self.regs, "poll", chip::PLS_POLLING).map_err(LinkError::from)
        };
        self.enter(link, LinkState::Polling);
        if let Err(error) = started {
            if !error.is_gone() {
                self.go_offline(link, 0)?;
            }
            return Err(error);
        }
        Ok(())
    }

    /// The negotiation failed: offline, and once more (`chip.c:handle_link_down`).
    fn negotiate_again(&self, link: &mut Link, errors: u64) -> Result<(), LinkError> {
        let local = link.dc8051.read_config(&self.regs, chip::LAST_LOCAL_STATE_COMPLETE)?;
        let remote = link.dc8051.read_config(&self.regs, chip::LAST_REMOTE_STATE_COMPLETE)?;
        link.last_failure = format!(
            "; the last negotiation failed in state {} (8051 errors {errors:#x}, last local frame {local:#x}, remote {remote:#x})",
            link.state
        );
        log::debug!("{}{}", self.info.name, link.last_failure);
        self.go_offline(link, 0)?;
        self.start_polling(link)
    }

    /// From link-up to ARMED: `chip.c:handle_link_up`, then what a fabric manager does.
    fn came_up(&self, link: &mut Link) -> Result<(), LinkError> {
        let info = self.reach_init(link)?;
        self.enter(link, LinkState::Init);
        lock(&self.shown).1 = Some(info);
        self.configure_fabric(info.lid)?;
        self.set_logical_state(chip::LSTATE_ARMED, "LINK_STATE ARMED")?;
        self.enter(link, LinkState::Armed);
        self.send_sma_message(link, chip::SMA_IDLE_ARM)?;
        // The simulator has no SMA messages (chip.c:set_link_state), and in loopback the neighbour is this port.
        link.neighbor_normal |= link.loopback || self.info.is_simulator();
        Ok(())
    }

    fn activate(&self, link: &mut Link) -> Result<(), LinkError> {
        self.set_logical_state(chip::LSTATE_ACTIVE, "LINK_STATE ACTIVE")?;
        self.counts.link_ups.fetch_add(1, Ordering::Relaxed);
        self.frozen.link_is_active();
        self.enter(link, LinkState::Active);
        self.send_sma_message(link, chip::SMA_IDLE_ACTIVE)?;
        Ok(())
    }

    /// What happens on the way to INIT: `chip.c:set_link_state(HLS_UP_INIT)`, `intr.c:handle_linkup_change`.
    fn reach_init(&self, link: &mut Link) -> Result<LinkInfo, LinkError> {
        let up = |state| state == chip::PLS_LINKUP;
        link.dc8051.wait_physical_state(&self.regs, limit::LINK_STATE, "PORT 0x50 (link up)", up)?;
        self.wait_logical_state(chip::LSTATE_INIT, "LINK_STATE INIT")?;
        self.open_port(true)?;
        if link.without_verify_cap {
            // The values that a VerifyCap frame would have told are this side's own.
            self.set_allocation_unit(chip::CM_VAU)?;
            link.vl15_credits = self.local_vl15_credits();
            init_tx::assign_remote_au_table(&self.regs, init_tx::LOCAL_VCU);
        }
        let neighbor_guid = Guid(self.regs.read_any(&csr::DC_DC8051_STS_REMOTE_GUID, 0)?);
        let node_type = self.regs.read(&csr::DC_DC8051_STS_REMOTE_NODE_TYPE)?;
        let port = self.regs.read(&csr::DC_DC8051_STS_REMOTE_PORT_NO)?;
        self.regs.pause(LINK_UP_DELAY);
        let neighbor_is_hfi = csr::DC_DC8051_STS_REMOTE_NODE_TYPE::VAL.get(node_type) == 0;
        let managed = neighbor_is_hfi
            || link.dc8051.read_config(&self.regs, chip::REMOTE_LNI_INFO)? >> chip::MGMT_ALLOWED_SHIFT & 1 != 0;
        self.set_pkeys(managed)?;
        let lanes = self.linkup_lanes(link)?;
        self.set_vl15_credits(link.vl15_credits)?;
        let (lid, peer_lid) = self.choose_lids(link, neighbor_guid)?;
        Ok(LinkInfo {
            lid,
            peer_lid,
            neighbor_guid,
            neighbor_is_hfi,
            neighbor_port: csr::DC_DC8051_STS_REMOTE_PORT_NO::VAL.get(port) as u8,
            lanes,
            lane_rate_mbps: link.lane_rate_mbps,
            crc_mode: link.crc_mode,
            mtu: self.options.mtu,
        })
    }

    /// Without a fabric manager both ends must come to the same answer by themselves: the lower GUID has LID 1.
    fn choose_lids(&self, link: &Link, neighbor: Guid) -> Result<(Lid, Lid), LinkError> {
        let own = self.info.guid;
        match own.cmp(&neighbor) {
            _ if link.loopback => Ok((Lid(1), Lid(1))),
            std::cmp::Ordering::Less => Ok((Lid(1), Lid(2))),
            std::cmp::Ordering::Greater => Ok((Lid(2), Lid(1))),
            std::cmp::Ordering::Equal => Err(LinkError::SameGuid { adapter: self.adapter(), guid: own }),
        }
    }

    /// `chip.c:set_logical_state, wait_logical_linkstate`.
    fn set_logical_state(&self, state: u64, wanted: &'static str) -> Result<(), ChipError> {
        self.regs.modify(&csr::DCC_CFG_PORT_CONFIG, |v| csr::DCC_CFG_PORT_CONFIG::LINK_STATE.set(v, state))?;
        self.wait_logical_state(state, wanted)
    }

    fn wait_logical_state(&self, state: u64, wanted: &'static str) -> Result<(), ChipError> {
        let reached = |value| csr::DCC_CFG_PORT_CONFIG::LINK_STATE.get(value) == state;
        self.regs.wait(&csr::DCC_CFG_PORT_CONFIG, 0, limit::LINK_STATE, wanted, reached)?;
        Ok(())
    }

    /// `chip.c:goto_offline`.
    fn go_offline(&self, link: &mut Link, reason: u64) -> Result<(), LinkError> {
        link.going_offline = true;
        link.dc8051.change_phy_state(&self.regs, "go offline", reason << 8 | chip::PLS_OFFLINE)?;
        let any = |state| state & 0xf0 == chip::PLS_OFFLINE;
        link.dc8051.wait_physical_state(&self.regs, limit::OFFLINE, "PORT 0x9x (offline)", any)?;
        let quiet = |state| state == chip::PLS_OFFLINE_QUIET;
        link.dc8051.wait_physical_state(&self.regs, limit::OFFLINE_QUIET, "PORT 0x90 (offline, quiet)", quiet)?;
        // The LCB is the host's from here on.
        self.host_takes_lcb();
        self.regs.write(&csr::DC_LCB_ERR_EN, ALL_ONES);
        if let Err(error) = self.wait_logical_state(chip::LSTATE_DOWN, "LINK_STATE DOWN") {
            match error {
                ChipError::Gone(_) => return Err(error.into()),
                ChipError::Stuck(_) => self.force_logical_down()?,
            }
        }
        link.dc8051.wait_ready(&self.regs, limit::QUIET_8051)?;
        link.going_offline = false;
        self.enter(link, LinkState::Offline);
        Ok(())
    }

    /// A link that was up went down: `chip.c:handle_link_down`, `intr.c:handle_linkup_change`. The freeze at the end
    /// makes sure that nothing half-sent stays on egress.
    fn went_down(&self, link: &mut Link) -> Result<(), LinkError> {
        self.counts.link_downs.fetch_add(1, Ordering::Relaxed);
        // Whatever doesn't work on the way, the 8051, its reason or the credit manager's reset: what was half-sent has to go.
        let offline = self.go_offline(link, 0);
        let reason = self.read_down_reason(link);
        self.open_port(false)?;
        let reset = init_tx::reset_link_credits(&self.regs);
        self.freeze_and_unfreeze(Cause::LinkDown)?;
        let reason = reason.unwrap_or_else(|error| {
            log::warn!("{error}");
            DownReason::Other(0)
        });
        self.enter(link, LinkState::Down(reason));
        offline?;
        Ok(reset?)
    }

    fn set_pkeys(&self, full_management: bool) -> Result<(), Gone> {
        let _port = lock(&self.port);
        init_rx::set_pkeys(&self.regs, self.options.pkey, full_management)
    }

    /// `chip.c:read_link_down_reason`.
    fn read_down_reason(&self, link: &Link) -> Result<DownReason, ChipError> {
        Ok(match u64::from(link.dc8051.read_config(&self.regs, chip::LINK_DOWN_REASON)? & 0xff) {
            chip::LDR_LINK_TRANSFER_ACTIVE_LOW => DownReason::SignalLost,
            chip::LDR_RECEIVED_LINKDOWN_IDLE_MSG => {
                let quality = link.dc8051.read_config(&self.regs, chip::LINK_QUALITY_INFO)?;
                DownReason::Neighbor((quality >> chip::DOWN_REMOTE_REASON_SHIFT) as u8)
            }
            chip::LDR_RECEIVED_HOST_OFFLINE_REQ => DownReason::Local,
            code => DownReason::Other(code as u8),
        })
    }

    /// Prepares a port that isn't in use, or in another way, for the next try.
    fn begin_anew(&self, link: &mut Link) -> Result<(), LinkError> {
        if !link.dc8051.is_alive() {
            link.dc8051.restart(&self.regs)?;
        }
        if link.state.is_up() {
            self.went_down(link)?;
        }
        if let LinkState::Down(_) = link.state {
            // Only its reason is forgotten.
            self.enter(link, LinkState::Offline);
        }
        Ok(())
    }

    /// The chip is too hot: it is frozen for good and its link shut down as far and as fast as that goes, without waiting
    /// for anything (`chip.c:handle_temp_err`).
    pub(crate) fn overheated(&self) {
        log::error!("{}: critical temperature; the chip is frozen and its link shut down", self.info.name);
        self.freeze_for_good();
        let mut link = lock(&self.link);
        link.quiet(&self.regs);
        if let Err(error) = link.dc8051.shut_down(&self.regs) {
            log::warn!("{error}");
        }
        self.enter(&mut link, LinkState::Down(DownReason::Overheated));
    }
}
