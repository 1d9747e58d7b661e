//! What the hardware blocks share: time, host memory, interrupts, the wire, and the signals between them.

use crate::config::Config;
use crate::dma::DmaSpace;
use crate::event::{Event, EventQueue};
use crate::inject::{ChipFault, Plans};
use crate::interrupts::Interrupts;
use crate::misc::HashedStream;
use crate::packet::Packet;
use crate::stats::{Counts, DropReason};
use crate::wire::{Doorbell, Lane, LinkMessage};
use opx_defs::source::Source;
use opx_defs::time::Instant;
use std::sync::Arc;
use std::time::Duration;

/// State of the logical link.
///
/// Source: `chip.h LSTATE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogicalState {
    /// No link.
    Down = 1,
    /// The link carries only management packets (VL15).
    Init = 2,
    /// As INIT, and ready to carry data.
    Armed = 3,
    /// The link carries data.
    Active = 4,
}

/// What the link tells the data path.
#[derive(Debug)]
pub struct LinkSignals {
    /// The LCB transfers flits: packets can be sent and received.
    pub transfer_active: bool,
    /// The LCB feeds its transmit side back into its receive side.
    pub loopback: bool,
    /// State of the logical link.
    pub logical: LogicalState,
}

/// What was loaded since the security engine last judged an image.
#[derive(Debug, Default)]
pub struct FirmwareSignals {
    /// Code was written to the 8051's code memory.
    pub cram_written: bool,
    /// Dwords of code sent over SBus.
    pub sbus_words: u64,
    /// Header and code of the image as they were written, on their way through the engine's hash.
    pub stream: HashedStream,
    /// What lies in the 8051's code memory was found good.
    pub authorised: bool,
}

impl FirmwareSignals {
    /// Code that came over SBus, if any did.
    pub fn take_sbus_code(&mut self, code: Option<u32>) {
        if let Some(dword) = code {
            self.sbus_words = self.sbus_words.saturating_add(1);
            self.stream.put(&dword.to_le_bytes());
        }
    }
}

/// Counters of packets through the port, as the DCC keeps them.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Flits (8 bytes) sent.
    pub xmit_data: u64,
    /// Packets sent.
    pub xmit_packets: u64,
    /// Flits received.
    pub rcv_data: u64,
    /// Packets received.
    pub rcv_packets: u64,
    /// Flits received, by lane (8 is VL15).
    pub vl_rcv_data: [u64; 9],
    /// Packets received, by lane.
    pub vl_rcv_packets: [u64; 9],
}

/// A port's ends of the lanes of a cable.
#[derive(Debug, Clone)]
pub struct Cable {
    /// To the far port.
    pub out: Arc<Lane>,
    /// From it.
    pub into: Arc<Lane>,
}

/// The lanes that a port sends into.
#[derive(Debug)]
pub struct Wires {
    /// From the port to itself, for LCB loopback.
    pub own: Arc<Lane>,
    /// The cable, while one is plugged in.
    pub cable: Option<Cable>,
}

/// What all blocks of one chip share.
#[derive(Debug)]
pub struct Board {
    /// Identity and sizes.
    pub config: Config,
    /// The simulated (or real) time of this access or event.
    pub now: Instant,
    /// Host memory.
    pub dma: DmaSpace,
    /// What happens later.
    pub events: EventQueue,
    /// Interrupt status and delivery.
    pub interrupts: Interrupts,
    /// The link.
    pub link: LinkSignals,
    /// The chip is frozen: the engines stand still until it is unfrozen.
    pub frozen: bool,
    /// Firmware images on their way to the processors.
    pub firmware: FirmwareSignals,
    /// The link changed, or its logical state: the transmit engine has yet to be told.
    pub link_changed: bool,
    /// Faults that the adapter was told to have.
    pub plans: Plans,
    /// A fault of the whole chip whose packet has just left.
    pub chip_fault: Option<ChipFault>,
    /// Counters of the port.
    pub port: PortCounters,
    /// The wires.
    pub wires: Wires,
    /// Statistics of the model.
    pub counts: Counts,
}

impl Board {
    /// A board with nothing plugged in.
    pub fn new(config: Config, doorbell: Arc<Doorbell>) -> Self {
        Self {
            config,
            now: Instant::ZERO,
            dma: DmaSpace::default(),
            events: EventQueue::default(),
            interrupts: Interrupts::default(),
            link: LinkSignals { transfer_active: false, loopback: false, logical: LogicalState::Down },
            frozen: false,
            firmware: FirmwareSignals::default(),
            link_changed: false,
            plans: Plans::default(),
            chip_fault: None,
            port: PortCounters::default(),
            wires: Wires { own: Arc::new(Lane::new(Arc::clone(&doorbell), doorbell)), cable: None },
            counts: Counts::default(),
        }
    }

    /// Sets an interrupt source's status once; an edge.
    pub fn raise(&mut self, source: Source) {
        self.interrupts.raise(source);
    }

    /// Says whether the cause of an interrupt source stands; while it does, clearing the status sets it again.
    pub fn level(&mut self, source: Source, on: bool) {
        self.interrupts.level(source, on);
    }

    /// Sets the state of the logical link.
    pub fn set_logical(&mut self, state: LogicalState) {
        if self.link.logical != state {
            self.link.logical = state;
            self.link_changed = true;
        }
    }

    /// Asks the engines to come to rest: software did, or an error of the freeze kind happened.
    pub fn freeze(&mut self) {
        /// Time for the engines to finish what they are at; the driver allows 20 ms (FREEZE_STATUS_TIMEOUT).
        const FREEZE_TIME: Duration = Duration::from_micros(2);
        self.events.cancel(&Event::Unfrozen);
        if !self.frozen {
            self.after_only(FREEZE_TIME, Event::Frozen);
        }
    }

    /// Lets the engines run again.
    pub fn unfreeze(&mut self) {
        const UNFREEZE_TIME: Duration = Duration::from_micros(1);
        self.events.cancel(&Event::Frozen);
        if self.frozen {
            self.after_only(UNFREEZE_TIME, Event::Unfrozen);
        }
    }

    /// Asks for an event `after` now in place of those of its kind that were asked for before.
    pub fn after_only(&mut self, after: Duration, event: Event) {
        self.events.cancel(&event);
        self.after(after, event);
    }

    /// Asks for an event `after` now.
    pub fn after(&mut self, after: Duration, event: Event) {
        self.events.after(self.now, after, event);
    }

    /// Counts a dropped packet.
    pub fn drop_packet(&mut self, reason: DropReason) {
        self.counts.drop(reason);
    }

    /// The lane that packets go out on now.
    fn lane_out(&self) -> Option<&Arc<Lane>> {
        if !self.link.transfer_active {
            None
        } else if self.link.loopback {
            Some(&self.wires.own)
        } else {
            self.wires.cable.as_ref().map(|cable| &cable.out)
        }
    }

    /// Puts a packet on the wire. When the receiver has no room, the packet is given back and `Txe::on_link_room` is
    /// called once there is some. With the link down the packet is dropped and counted.
    pub fn transmit(&mut self, packet: Packet) -> Result<(), Packet> {
        let bytes = packet.bytes.len() as u64;
        let now = self.now;
        let Some(lane) = self.lane_out() else {
            self.drop_packet(DropReason::LinkDown);
            return Ok(());
        };
        if let Err(packet) = lane.send(now, packet) {
            self.counts.link_full += 1;
            return Err(packet);
        }
        self.counts.packets_sent += 1;
        self.counts.bytes_sent += bytes;
        self.port.xmit_packets += 1;
        self.port.xmit_data += bytes.div_ceil(8);
        self.chip_fault = self.plans.chip.due(0);
        Ok(())
    }

    /// Tells the far 8051 something.
    pub fn tell(&mut self, message: LinkMessage) {
        let lane = if self.link.loopback { Some(&self.wires.own) } else { self.wires.cable.as_ref().map(|c| &c.out) };
        if let Some(lane) = lane {
            lane.tell(self.now, message);
        }
    }
}
