//! The 8051's link: polling, negotiation with the far port, going up and down.
//!
//! A real 8051 trains four lanes and exchanges frames on them; here the far 8051 is told each step in a message, and
//! time passes where training would take it.
//!
//! Source: `chip.c:set_link_state`, `handle_verify_cap`, `handle_link_up`, `goto_offline`, `do_quick_linkup`.

use crate::board::{Board, LogicalState};
use crate::config::Icode;
use crate::dc8051::{Dc8051, Dc8051Event, code, field, host_msg};
use crate::event::Event;
use crate::lcb::Lcb;
use crate::wire::{LinkMessage, VerifyCap};
use std::time::Duration;

/// Time from the last handshake to LINKUP.
const CONFIG_LT_TIME: Duration = Duration::from_micros(200);
/// Time in which lanes fall quiet on the way to OFFLINE.
const QUIET_TIME: Duration = Duration::from_micros(500);

/// Physical states (chip.h PLS_*).
mod pls {
    pub const POLLING: u8 = 0x20;
    pub const DISABLED: u8 = 0x30;
    pub const VERIFY_CAP: u8 = 0x46;
    pub const CONFIG_LT: u8 = 0x48;
    pub const LINKUP: u8 = 0x50;
    pub const OFFLINE: u8 = 0x90;
    pub const OFFLINE_QUIET_DURATION: u8 = 0x95;
    pub const QUICK_LINKUP: u8 = 0xe2;
}

/// Link-down reasons in field 0x16 (chip.c link_down_reason_strs).
mod reason {
    pub const TRANSFER_ACTIVE_LOW: u8 = 0x0a;
    pub const RECEIVED_LINKDOWN: u8 = 0x0b;
    pub const HOST_OFFLINE: u8 = 0x0c;
}

/// ERROR bits of a failed negotiation (chip.h FAILED_LNI_*).
mod error {
    pub const VERIFY_CAP: u32 = 1 << 9;
    pub const CONFIG_LT: u32 = 1 << 11;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Offline,
    /// On the way to OFFLINE.
    Quieting,
    Disabled,
    /// Looking for a far port, or training with it.
    Polling,
    /// Own capabilities are sent.
    VerifyCap,
    /// The host has said go.
    GoingUp,
    Up,
}

/// What is known of the far port in this negotiation.
#[derive(Debug, Clone, Copy, Default)]
struct Peer {
    polling: bool,
    capabilities: Option<VerifyCap>,
    ready: Option<u64>,
}

/// State of the physical link.
#[derive(Debug, Default)]
pub struct Link {
    phase: Phase,
    peer: Peer,
    remote_guid: u64,
    /// Counts steps: an event of an abandoned step is told by it.
    step: u32,
}

impl Link {
    /// The port's physical state.
    pub fn state(&self) -> u8 {
        match self.phase {
            Phase::Offline => pls::OFFLINE,
            Phase::Quieting => pls::OFFLINE_QUIET_DURATION,
            Phase::Disabled => pls::DISABLED,
            Phase::Polling => pls::POLLING,
            Phase::VerifyCap => pls::VERIFY_CAP,
            Phase::GoingUp => pls::CONFIG_LT,
            Phase::Up => pls::LINKUP,
        }
    }

    /// Whether the link is up.
    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// GUID of the far port.
    pub fn remote_guid(&self) -> u64 {
        self.remote_guid
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.step = self.step.wrapping_add(1);
    }

    fn after(&mut self, board: &mut Board, time: Duration) {
        self.step = self.step.wrapping_add(1);
        board.after_only(time, Event::Dc8051(Dc8051Event::Link(self.step)));
    }

    /// The 8051 has started: nothing is known, the lanes are quiet.
    pub fn quiet(&mut self, board: &mut Board) {
        self.peer = Peer::default();
        self.enter(Phase::Offline);
        down_signals(board);
    }
}

fn down_signals(board: &mut Board) {
    if board.link.transfer_active {
        board.link.transfer_active = false;
        board.link_changed = true;
    }
    board.link.loopback = false;
    board.set_logical(LogicalState::Down);
}

impl Dc8051 {
    /// CHANGE_PHY_STATE: the host asks for a physical state.
    pub(crate) fn change_phy(&mut self, board: &mut Board, lcb: &Lcb, state: u8, why: u8) -> u8 {
        let idle = matches!(self.link.phase, Phase::Offline | Phase::Disabled);
        match state {
            pls::POLLING if idle => self.poll(board),
            pls::QUICK_LINKUP if idle => self.quick_linkup(board, lcb),
            pls::LINKUP if self.link.phase == Phase::VerifyCap && self.link.peer.capabilities.is_some() => {
                self.link.enter(Phase::GoingUp);
                self.say_ready(board, false);
                self.go_up_when_ready(board);
            }
            pls::OFFLINE => {
                // The driver reads the reason of a link that went down by itself after asking for OFFLINE
                // (chip.c:handle_link_down), so that doesn't change it.
                if !idle {
                    self.tell_down(board, Some(why));
                    self.set_reason(reason::HOST_OFFLINE);
                }
                self.link.peer = Peer::default();
                down_signals(board);
                self.link.enter(Phase::Quieting);
                self.link.after(board, QUIET_TIME);
            }
            pls::DISABLED if idle => self.link.enter(Phase::Disabled),
            _ => return code::INVALID,
        }
        code::SUCCESS
    }

    fn poll(&mut self, board: &mut Board) {
        /// Field 9, misc configuration bit 0: the SerDes feed their output back (chip.c LOOPBACK_SERDES_CONFIG_BIT_MASK_SHIFT).
        const SERDES_LOOPBACK: u32 = 1 << 24;
        self.messages.forget_errors();
        self.link.peer = Peer::default();
        self.link.enter(Phase::Polling);
        board.link.loopback = self.ram.field(field::LOCAL_LINK_MODE) & SERDES_LOOPBACK != 0;
        board.tell(LinkMessage::Polling { reply: false });
    }

    fn quick_linkup(&mut self, board: &mut Board, lcb: &Lcb) {
        self.messages.forget_errors();
        self.link.peer = Peer::default();
        self.link.enter(Phase::GoingUp);
        board.link.loopback = lcb.loops_back();
        if board.link.loopback {
            // The node is its own neighbour. The time matters: Linux's driver fails when the link comes up before its
            // device is registered (ib_cache_event_task).
            self.link.peer.ready = Some(board.config.guid.0);
            let time = board.config.link_time;
            self.link.after(board, time);
        } else {
            self.say_ready(board, false);
        }
    }

    fn say_ready(&self, board: &mut Board, reply: bool) {
        let guid = board.config.guid.0;
        board.tell(LinkMessage::Ready { guid, reply });
    }

    fn go_up_when_ready(&mut self, board: &mut Board) {
        if self.link.phase == Phase::GoingUp && self.link.peer.ready.is_some() {
            self.link.after(board, CONFIG_LT_TIME);
        }
    }

    /// Time for the next step of the link has passed.
    pub(crate) fn link_step(&mut self, board: &mut Board, lcb: &Lcb, step: u32) {
        if step != self.link.step {
            return;
        }
        match self.link.phase {
            Phase::Quieting => self.link.enter(Phase::Offline),
            Phase::Polling if board.config.icode == Icode::FunctionalSimulator => {
                // The functional simulator has no VerifyCap.
                self.link.enter(Phase::GoingUp);
                self.say_ready(board, false);
                self.go_up_when_ready(board);
            }
            Phase::Polling => {
                self.link.enter(Phase::VerifyCap);
                board.tell(LinkMessage::VerifyCap(VerifyCap {
                    tx_settings: self.ram.field(field::TX_SETTINGS),
                    phy: self.ram.field(field::LOCAL_PHY),
                    fabric: self.ram.field(field::LOCAL_FABRIC),
                    link_width: self.ram.field(field::LOCAL_LINK_MODE),
                    device: self.ram.field(field::LOCAL_DEVICE_ID),
                }));
                self.verify_cap_when_both(board);
            }
            Phase::GoingUp => self.link_up(board, lcb),
            Phase::Offline | Phase::Disabled | Phase::VerifyCap | Phase::Up => {}
        }
    }

    /// Both ports' capabilities are known: the host is shown the far port's.
    fn verify_cap_when_both(&mut self, board: &mut Board) {
        /// Field 0x0d: the far port allows management.
        const MGMT_ALLOWED: u32 = 1 << 23;
        let (Phase::VerifyCap, Some(peer)) = (self.link.phase, self.link.peer.capabilities) else { return };
        self.ram.set_field(field::REMOTE_PHY, peer.phy);
        self.ram.set_field(field::REMOTE_FABRIC, peer.fabric);
        let rate = peer.tx_settings >> 24;
        self.ram.set_field(field::REMOTE_LINK_WIDTH, peer.link_width & 0xffff | rate << 16);
        self.ram.set_field(field::REMOTE_DEVICE_ID, peer.device);
        self.ram.set_field(field::LOCAL_LNI_INFO, 0xf << 16);
        self.ram.set_field(field::REMOTE_LNI_INFO, MGMT_ALLOWED);
        self.messages.tell(board, host_msg::VERIFY_CAP_FRAME, 0);
    }

    fn link_up(&mut self, board: &mut Board, lcb: &Lcb) {
        /// Four lanes each way, in field 9.
        const LANES: u32 = 0x4400;
        /// The best link quality, without which the fabric manager's performance manager complains.
        const QUALITY: u32 = 5 << 24;
        if board.config.icode == Icode::Silicon && !lcb.fifos_run() {
            // The host left the LCB's FIFOs in reset: no flit gets out.
            self.fail(board, error::CONFIG_LT);
            return;
        }
        self.link.enter(Phase::Up);
        self.link.remote_guid = self.link.peer.ready.unwrap_or(0);
        let mode = self.ram.field(field::LOCAL_LINK_MODE);
        self.ram.set_field(field::LOCAL_LINK_MODE, mode & !0xff00 | LANES);
        self.ram.set_field(field::LINK_QUALITY, QUALITY);
        self.set_reason(0);
        board.link.transfer_active = true;
        board.link_changed = true;
        board.set_logical(LogicalState::Init);
        self.messages.tell(board, host_msg::LINKUP_ACHIEVED, 0);
    }

    fn set_reason(&mut self, why: u8) {
        let field = self.ram.field(field::LINK_DOWN_REASON);
        self.ram.set_field(field::LINK_DOWN_REASON, field & !0xff | u32::from(why));
    }

    /// Tells the far port; in loopback there is none.
    fn tell_down(&self, board: &mut Board, why: Option<u8>) {
        if !board.link.loopback {
            board.tell(LinkMessage::Down(why));
        }
    }

    /// The negotiation failed: the host hears of it and starts again.
    fn fail(&mut self, board: &mut Board, error: u32) {
        let state = u32::from(self.link.state());
        self.ram.set_field(field::LAST_LOCAL_STATE, state);
        self.ram.set_field(field::LAST_REMOTE_STATE, state);
        self.tell_down(board, None);
        self.link.quiet(board);
        self.messages.tell(board, 0, error);
    }

    /// The far port is gone, or says that it goes.
    fn peer_down(&mut self, board: &mut Board, why: Option<u8>) {
        match self.link.phase {
            Phase::Up => {
                self.set_reason(if why.is_some() { reason::RECEIVED_LINKDOWN } else { reason::TRANSFER_ACTIVE_LOW });
                let quality = self.ram.field(field::LINK_QUALITY) & 0xff00_ffff & !(7 << 24);
                self.ram.set_field(field::LINK_QUALITY, quality | u32::from(why.unwrap_or(0)) << 16);
                self.link.quiet(board);
                self.messages.tell(board, host_msg::LINK_GOING_DOWN, 0);
            }
            Phase::VerifyCap => self.fail(board, error::VERIFY_CAP),
            Phase::GoingUp => self.fail(board, error::CONFIG_LT),
            Phase::Polling => {
                self.link.peer = Peer::default();
                self.link.enter(Phase::Polling);
            }
            Phase::Offline | Phase::Quieting | Phase::Disabled => {}
        }
    }

    /// The far 8051 said something about the link.
    pub(crate) fn link_message(&mut self, board: &mut Board, message: LinkMessage) {
        match message {
            LinkMessage::Polling { reply } => match self.link.phase {
                Phase::Polling => {
                    if !reply {
                        board.tell(LinkMessage::Polling { reply: true });
                    }
                    if !self.link.peer.polling {
                        self.link.peer.polling = true;
                        let time = board.config.link_time;
                        self.link.after(board, time);
                    }
                }
                _ if reply => {}
                // It has begun anew without saying that it went down.
                _ => self.peer_down(board, None),
            },
            LinkMessage::VerifyCap(capabilities) => {
                if matches!(self.link.phase, Phase::Polling | Phase::VerifyCap) {
                    self.link.peer.capabilities = Some(capabilities);
                    self.verify_cap_when_both(board);
                }
            }
            LinkMessage::Ready { guid, reply } => {
                if matches!(self.link.phase, Phase::Polling | Phase::VerifyCap | Phase::GoingUp)
                    && self.link.peer.ready.is_none()
                {
                    self.link.peer.ready = Some(guid);
                    if self.link.phase == Phase::GoingUp && !reply {
                        self.say_ready(board, true);
                    }
                    self.go_up_when_ready(board);
                }
            }
            LinkMessage::Down(why) => self.peer_down(board, why),
            LinkMessage::Idle(_) => {}
        }
    }

    /// A cable was plugged in.
    pub(crate) fn plugged(&mut self, board: &mut Board) {
        if self.link.phase == Phase::Polling && !board.link.loopback {
            board.tell(LinkMessage::Polling { reply: false });
        }
    }

    /// The signal is gone for a moment: both ends see that.
    pub(crate) fn signal_lost(&mut self, board: &mut Board) {
        self.tell_down(board, None);
        self.peer_down(board, None);
    }

    /// The far port says that it goes down; that it then does is its own affair.
    pub(crate) fn told_down(&mut self, board: &mut Board, why: u8) {
        self.tell_down(board, None);
        self.peer_down(board, Some(why));
    }

    /// The cable was pulled out; it is no longer there to say anything on.
    pub(crate) fn unplugged(&mut self, board: &mut Board) {
        if !board.link.loopback {
            self.peer_down(board, None);
        }
    }

    /// The core stops, and with it the lanes: the far port sees its signal go.
    pub(crate) fn lose_link(&mut self, board: &mut Board) {
        if !matches!(self.link.phase, Phase::Offline | Phase::Disabled) {
            self.tell_down(board, None);
        }
        self.link.quiet(board);
    }
}
