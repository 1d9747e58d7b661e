//! The chip: its blocks, and which of them an access, an event or a packet goes to.

use crate::asic::Asic;
use crate::board::{Board, Cable};
use crate::cce::Cce;
use crate::config::Config;
use crate::dc8051::Dc8051;
use crate::dcc::Dcc;
use crate::event::Event;
use crate::faults::{HOLD_TIME, WireFaults};
use crate::forge::{Forger, Forgeries, ForgeryCounts};
use crate::inject::ChipFault;
use crate::lcb::Lcb;
use crate::misc::Misc;
use crate::packet::Packet;
use crate::pci_config::{Effects, PciConfig};
use crate::qsfp::QsfpModule;
use crate::rxe::Rxe;
use crate::stats::{Counts, DropReason};
use crate::tap::Tap;
use crate::txe::Txe;
use crate::unmodelled::UnmodelledMap;
use crate::wire::{Doorbell, Item, Lane, Pace};
use opx_bus::chance::FaultCounts;
use opx_bus::{ALL_ONES, PacketFaults};
use opx_defs::csr::{self, Field};
use opx_defs::source::Source;
use opx_defs::time::Instant;
use opx_defs::units::BarOff;
use std::sync::Arc;

/// Bytes of BAR 0.
pub const BAR0_LEN: u64 = 64 << 20;
/// First byte of the PIO window.
const PIO: u32 = 0x200_0000;

/// One adapter chip.
#[derive(Debug)]
pub struct Chip {
    pub(crate) board: Board,
    pub(crate) config: PciConfig,
    cce: Cce,
    asic: Asic,
    misc: Misc,
    dcc: Dcc,
    lcb: Lcb,
    dc8051: Dc8051,
    rxe: Rxe,
    txe: Txe,
    forger: Forger,
    faults: WireFaults,
    tap: Tap,
    pub(crate) unmodelled: UnmodelledMap,
}

impl Chip {
    /// A chip as it is after power-on.
    pub fn new(config: Config, doorbell: Arc<Doorbell>) -> Self {
        Self {
            rxe: Rxe::new(&config),
            txe: Txe::new(&config),
            board: Board::new(config, doorbell),
            config: PciConfig::default(),
            cce: Cce::default(),
            asic: Asic::default(),
            misc: Misc::default(),
            dcc: Dcc::default(),
            lcb: Lcb::default(),
            dc8051: Dc8051::default(),
            forger: Forger::default(),
            faults: WireFaults::default(),
            tap: Tap::default(),
            unmodelled: UnmodelledMap::default(),
        }
    }

    /// Reads the aligned register that `offset` lies in.
    pub fn read64(&mut self, offset: BarOff) -> u64 {
        if u64::from(offset.0) >= BAR0_LEN {
            // No function answers there.
            return ALL_ONES;
        }
        let offset = BarOff(offset.0 & !7);
        let board = &mut self.board;
        let value = match offset.0 {
            0..0x10_0000 => self.cce.read(board, offset),
            0x10_0000..0x40_0000 => board.interrupts.read(offset),
            0x40_0000..0x50_0000 => self.asic.read(board, offset),
            0x50_0000..0x60_0000 => self.misc.read(board, offset),
            // Nothing answers in a DC that is held in reset.
            0x60_0000..0x60_3000 if self.cce.holds_dc() => Some(0),
            0x60_0000..0x60_1000 => self.dcc.read(board, offset),
            0x60_1000..0x60_2000 if !self.dc8051.host_owns_lcb() => {
                self.dcc.access_blocked(board);
                Some(0)
            }
            0x60_1000..0x60_2000 => self.lcb.read(board, offset),
            0x60_2000..0x60_3000 => self.dc8051.read(board, offset),
            0x100_0000..0x180_0000 => self.rxe.read(board, offset),
            0x180_0000..0x400_0000 => self.txe.read(board, offset),
            _ => None,
        };
        value.unwrap_or_else(|| {
            self.unmodelled.read(offset);
            0
        })
    }

    /// Writes the aligned register that `offset` lies in.
    pub fn write64(&mut self, offset: BarOff, value: u64) {
        if u64::from(offset.0) >= BAR0_LEN {
            return;
        }
        let offset = BarOff(offset.0 & !7);
        let board = &mut self.board;
        let taken = match offset.0 {
            0..0x10_0000 => self.write_cce(offset, value),
            0x10_0000..0x40_0000 => board.interrupts.write(offset, value),
            0x40_0000..0x50_0000 => self.asic.write(board, offset, value),
            0x50_0000..0x60_0000 => self.misc.write(board, offset, value),
            0x60_0000..0x60_3000 if self.cce.holds_dc() => true,
            0x60_0000..0x60_1000 => self.write_dcc(offset, value),
            0x60_1000..0x60_2000 if !self.dc8051.host_owns_lcb() => {
                self.dcc.access_blocked(board);
                true
            }
            0x60_1000..0x60_2000 => self.lcb.write(board, offset, value),
            0x60_2000..0x60_3000 => self.dc8051.write(board, offset, value),
            0x100_0000..0x180_0000 => self.rxe.write(board, offset, value),
            0x180_0000..0x400_0000 => self.txe.write(board, offset, value),
            _ => false,
        };
        if !taken {
            self.unmodelled.write(offset);
        }
        self.settle();
    }

    fn write_cce(&mut self, offset: BarOff, value: u64) -> bool {
        let held = self.cce.holds_dc();
        let taken = self.cce.write(&mut self.board, offset, value);
        match (held, self.cce.holds_dc()) {
            (false, true) => {
                self.dc8051.reset(&mut self.board);
                self.lcb.reset(&mut self.board);
                self.dcc.reset(&mut self.board);
            }
            (true, false) => self.dc8051.start(&mut self.board),
            _ => {}
        }
        taken
    }

    fn write_dcc(&mut self, offset: BarOff, value: u64) -> bool {
        let Some(pulses) = self.dcc.write(&mut self.board, offset, value) else { return false };
        if pulses.lcb {
            self.lcb.reset(&mut self.board);
        }
        if pulses.dc8051 {
            self.dc8051.stop(&mut self.board);
            self.dc8051.start(&mut self.board);
        }
        true
    }

    /// Writes a 64-byte block to the PIO window.
    pub fn write_block(&mut self, offset: BarOff, block: &[u64; 8]) {
        if offset.0 >= PIO && u64::from(offset.0) + 64 <= BAR0_LEN && offset.0.is_multiple_of(8) {
            self.txe.write_block(&mut self.board, offset, block);
            self.settle();
            return;
        }
        for (at, qword) in (offset.0..).step_by(8).zip(block) {
            self.write64(BarOff(at), *qword);
        }
    }

    /// Whether software is in the middle of storing a PIO packet.
    #[cfg(feature = "server")]
    pub fn in_pio_packet(&self) -> bool {
        self.txe.in_pio_packet()
    }

    /// Reads any bytes of BAR 0; each register they touch is read once.
    pub fn read_bytes(&mut self, offset: u64, data: &mut [u8]) {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let skip = (at % 8) as usize;
            let step = (8 - skip).min(rest.len());
            let value = u32::try_from(at).map_or(ALL_ONES, |at| self.read64(BarOff(at)));
            let (part, after) = rest.split_at_mut(step);
            for (byte, from) in part.iter_mut().zip(value.to_le_bytes().into_iter().skip(skip)) {
                *byte = from;
            }
            (at, rest) = (at + step as u64, after);
        }
    }

    /// Writes any bytes of BAR 0.
    pub fn write_bytes(&mut self, offset: u64, data: &[u8]) {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let Ok(register) = u32::try_from(at) else { return };
            let skip = (at % 8) as usize;
            if skip == 0
                && register >= PIO
                && register.is_multiple_of(64)
                && let Some((block, after)) = rest.split_first_chunk::<64>()
            {
                let mut qwords = [0; 8];
                for (qword, bytes) in qwords.iter_mut().zip(block.as_chunks::<8>().0) {
                    *qword = u64::from_le_bytes(*bytes);
                }
                self.write_block(BarOff(register), &qwords);
                (at, rest) = (at + 64, after);
                continue;
            }
            let step = (8 - skip).min(rest.len());
            let (part, after) = rest.split_at(step);
            self.write_part(BarOff(register), skip, part);
            (at, rest) = (at + step as u64, after);
        }
    }

    /// Writes up to 8 bytes from byte `skip` of a register on. The other bytes keep their value where the register is plain
    /// storage (Linux writes the MSI-X table in dwords), and are 0 where a 1 would mean an action.
    fn write_part(&mut self, offset: BarOff, skip: usize, part: &[u8]) {
        let register = BarOff(offset.0 & !7);
        let mut bytes = [0; 8];
        if part.len() < 8 && csr::by_offset(register).is_some_and(|(row, _, _)| row.access == csr::Access::ReadWrite) {
            bytes = self.read64(register).to_le_bytes();
        }
        for (byte, from) in bytes.iter_mut().skip(skip).zip(part) {
            *byte = *from;
        }
        self.write64(register, u64::from_le_bytes(bytes));
    }

    /// Writes config space, and does what that asks for.
    pub fn config_write(&mut self, offset: u16, data: &[u8]) {
        let effects = self.config.write(offset, data);
        self.apply(effects);
    }

    fn apply(&mut self, effects: Effects) {
        if effects.reset {
            self.function_reset();
        }
        self.board.dma.master = effects.master;
        self.board.interrupts.msix.set_function_mask(effects.function_mask);
    }

    /// Function-level reset: all but the DC, which has its own reset line, and what the two HFIs share (`init_chip`).
    fn function_reset(&mut self) {
        let board = &mut self.board;
        board.counts.resets += 1;
        board.events.retain(|event| matches!(event, Event::Dc8051(_) | Event::HeldPacket));
        board.frozen = false;
        self.cce.reset(board);
        self.asic.reset(board);
        self.misc.reset(board);
        self.rxe.reset(board);
        self.txe.reset(board);
        board.interrupts.reset();
        self.dcc.refresh(board);
        self.lcb.refresh(board);
        self.dc8051.refresh(board);
        self.settle();
    }

    /// A reset that a kernel does for a user, who finds command register, BARs and MSI-X as they were.
    pub fn reset_keeping_config(&mut self) {
        /// Device control, where bit 15 starts the reset.
        const DEVICE_CONTROL: u16 = 0x78;
        let saved = self.config.save();
        let mut control = [0; 2];
        self.config.read(DEVICE_CONTROL, &mut control);
        let [low, high] = control;
        self.config_write(DEVICE_CONTROL, &[low, high | 0x80]);
        let effects = self.config.restore(saved);
        self.apply(effects);
    }

    /// A cable is plugged in.
    pub fn plug(&mut self, out: Arc<Lane>, into: Arc<Lane>) {
        self.board.wires.cable = Some(Cable { out, into });
        self.dc8051.plugged(&mut self.board);
        self.settle();
    }

    /// The cable is pulled out, with what is on it.
    pub fn unplug(&mut self) {
        if let Some(cable) = self.board.wires.cable.take() {
            // Should its other end be in no port but with somebody who passes on what comes out of it.
            cable.out.ring_receiver();
            self.dc8051.unplugged(&mut self.board);
            self.settle();
        }
    }

    /// Whether this lane's cable is plugged in.
    #[cfg(feature = "tcp")]
    pub fn sends_into(&self, lane: &Arc<Lane>) -> bool {
        self.board.wires.cable.as_ref().is_some_and(|cable| Arc::ptr_eq(&cable.out, lane))
    }

    /// Spoils arriving packets from now on.
    pub fn set_wire_faults(&mut self, faults: PacketFaults, seed: u64) {
        self.faults.set(faults, seed);
    }

    /// Somebody looks on at the wire from now on.
    pub fn set_tap(&mut self, tap: Tap) {
        self.tap = tap;
    }

    /// Puts a packet on the lane to this chip; `false` when that is full.
    pub fn arrive(&mut self, packet: Packet) -> bool {
        let wires = &self.board.wires;
        let lane = wires.cable.as_ref().map_or(&wires.own, |cable| &cable.into);
        lane.send(self.board.now, packet).is_ok()
    }

    /// How often each fault was dealt.
    pub fn fault_counts(&self) -> FaultCounts {
        self.faults.counts()
    }

    /// Forges copies of arriving packets from now on.
    pub fn set_forgeries(&mut self, shares: Forgeries, seed: u64) {
        self.forger.set(shares, seed);
    }

    /// How many packets were forged.
    pub fn forgery_counts(&self) -> ForgeryCounts {
        self.forger.counts()
    }

    /// Sets the pace of the cable's lane to this chip; `false` when no cable is plugged in.
    pub fn set_pace(&mut self, pace: Pace) -> bool {
        let into = self.board.wires.cable.as_ref().map(|cable| &cable.into);
        into.inspect(|lane| lane.set_pace(pace)).is_some()
    }

    /// Statistics of the model.
    pub fn counts(&self) -> Counts {
        let board = &self.board;
        Counts { dma_faults: board.dma.faults, interrupts: board.interrupts.msix.sent, ..board.counts }
    }

    /// Puts a module into the cage of this function, or takes it out.
    pub fn set_module(&mut self, module: Option<QsfpModule>) {
        let cage = self.board.config.hfi_id;
        self.asic.set_module(&mut self.board, cage, module);
    }

    /// Sets what the EPROM holds.
    pub fn set_eprom(&mut self, contents: Vec<u8>) {
        self.asic.set_eprom(contents);
    }

    /// When the chip next has something to do.
    pub fn next_due(&self) -> Option<Instant> {
        let wires = &self.board.wires;
        let cable = wires.cable.as_ref();
        if wires.own.has_room_news() || cable.is_some_and(|cable| cable.out.has_room_news()) {
            return Some(Instant::ZERO);
        }
        let event = self.board.events.next_due().unwrap_or(Instant::FAR);
        let own = self.arrival(&wires.own).unwrap_or(Instant::FAR);
        let cable = cable.and_then(|cable| self.arrival(&cable.into)).unwrap_or(Instant::FAR);
        let due = event.min(own).min(cable);
        (due != Instant::FAR).then_some(due)
    }

    /// Whether packets come off the lanes. They wait there while the receive engine may not drop and has no room, as long as
    /// the link is up.
    fn takes_packets(&self) -> bool {
        self.rxe.is_ready() || !self.board.link.transfer_active
    }

    /// When something comes off a lane; the 8051's messages don't wait for packets.
    fn arrival(&self, lane: &Lane) -> Option<Instant> {
        if self.takes_packets() { lane.next_due() } else { lane.next_message_due() }
    }

    /// Does the next thing that is due at `now`; `false` when there is none.
    pub fn step(&mut self, now: Instant) -> bool {
        let wires = &self.board.wires;
        if wires.own.take_room() || wires.cable.as_ref().is_some_and(|cable| cable.out.take_room()) {
            self.txe.on_link_room(&mut self.board);
            self.settle();
            return true;
        }
        let own = self.arrival(&wires.own).unwrap_or(Instant::FAR);
        let cable = wires.cable.as_ref().and_then(|cable| self.arrival(&cable.into)).unwrap_or(Instant::FAR);
        let event = self.board.events.next_due().unwrap_or(Instant::FAR);
        if event <= own && event <= cable {
            let Some((at, event)) = self.board.events.take(now) else { return false };
            self.board.now = self.board.now.max(at);
            self.on_event(event);
        } else {
            let lane = if own <= cable { Some(&wires.own) } else { wires.cable.as_ref().map(|cable| &cable.into) };
            let ready = self.takes_packets();
            let item = lane.and_then(|lane| if ready { lane.receive(now) } else { lane.receive_message(now) });
            let Some((at, item)) = item else { return false };
            self.board.now = self.board.now.max(at);
            match item {
                Item::Packet(packet) => self.on_wire_packet(packet),
                Item::Message(message) => self.dc8051.on_message(&mut self.board, message),
            }
        }
        self.settle();
        true
    }

    fn on_event(&mut self, event: Event) {
        let board = &mut self.board;
        match event {
            Event::Frozen => {
                board.frozen = true;
                self.rxe.on_freeze_change(board);
                self.txe.on_freeze_change(board);
            }
            Event::Unfrozen => {
                board.frozen = false;
                self.rxe.on_freeze_change(board);
                self.txe.on_freeze_change(board);
            }
            Event::RsaDone => self.misc.on_done(board),
            Event::Dc8051(event) => self.dc8051.on_event(board, &mut self.lcb, event),
            Event::HeldPacket => {
                let mut freed = Vec::new();
                self.faults.release(board.now, |packet| freed.push(packet));
                freed.into_iter().for_each(|packet| self.deliver(packet));
            }
            Event::Rxe(event) => self.rxe.on_event(board, event),
            Event::Txe(event) => self.txe.on_event(board, event),
        }
    }

    /// A packet came off the wire: forged copies of it come first, then the wire's faults, then the port's checks.
    fn on_wire_packet(&mut self, packet: Packet) {
        self.forger.copies(&packet).into_iter().for_each(|copy| self.deliver(copy));
        if self.faults.is_idle() {
            self.deliver(packet);
            return;
        }
        let mut arrived = Vec::new();
        if self.faults.pass(self.board.now, packet, |packet| arrived.push(packet)) {
            self.board.after(HOLD_TIME, Event::HeldPacket);
        }
        arrived.into_iter().for_each(|packet| self.deliver(packet));
    }

    fn deliver(&mut self, packet: Packet) {
        let board = &mut self.board;
        if !board.link.transfer_active {
            board.drop_packet(DropReason::LinkDown);
            return;
        }
        self.tap.packet(board.now, &packet.bytes);
        board.counts.packets_received += 1;
        board.counts.bytes_received += packet.bytes.len() as u64;
        if self.dcc.accept(board, &packet) {
            self.rxe.on_packet(board, packet);
        }
    }

    /// Has a fault that it was told to have.
    pub(crate) fn suffer(&mut self, fault: ChipFault) {
        /// `OPA_LINKDOWN_REASON_FM_BOUNCE`.
        const FM_BOUNCE: u8 = 37;
        const CONFIG_PARITY: Field = csr::SEND_EGRESS_ERR_STATUS::TX_CONFIG_PARITY_ERR;
        const LOST_HEARTBEAT: Field = csr::DC_DC8051_ERR_FLG::LOST_8051_HEART_BEAT;
        let board = &mut self.board;
        match fault {
            ChipFault::FreezeUnseen => {
                self.cce.hide_freeze();
                self.txe.raise(board, &csr::SEND_EGRESS_ERR_STATUS, CONFIG_PARITY.mask());
            }
            ChipFault::UnfreezeUnseen => {
                self.cce.keep_frozen();
                self.txe.raise(board, &csr::SEND_EGRESS_ERR_STATUS, CONFIG_PARITY.mask());
            }
            ChipFault::Overheated => board.raise(Source::TCRIT),
            ChipFault::LostInterrupt => board.interrupts.lose_next(),
            ChipFault::SpuriousInterrupt => board.interrupts.send_spurious(),
            ChipFault::LinkSignalLost => self.dc8051.signal_lost(board),
            ChipFault::LinkDownByNeighbor => self.dc8051.told_down(board, FM_BOUNCE),
            ChipFault::Dc8051Dead => self.dc8051.die(board, LOST_HEARTBEAT.mask()),
            ChipFault::Dc8051Mute => self.dc8051.die(board, 0),
            fault => {
                let Some((status, field)) = fault.error() else { return };
                let errors = field.mask();
                match status.offset.0 {
                    0..0x10_0000 => self.cce.raise(board, errors),
                    0x50_0000..0x60_0000 => self.misc.raise(board, errors),
                    0x60_0000..0x60_1000 => self.dcc.raise(board, errors),
                    0x60_1000..0x60_2000 => self.lcb.raise(board, errors),
                    0x60_2000..0x60_3000 => self.dc8051.messages.raise(board, errors),
                    _ => self.txe.raise(board, &status, errors),
                }
            }
        }
    }

    /// Passes on what an access or an event changed in more than its own block.
    fn settle(&mut self) {
        if let Some(fault) = self.board.chip_fault.take() {
            self.suffer(fault);
        }
        if std::mem::take(&mut self.board.link_changed) {
            self.txe.on_link_change(&mut self.board);
            if !self.board.link.transfer_active {
                // Packets that wait for room on a link that is gone go out to nowhere.
                self.txe.on_link_room(&mut self.board);
            }
        }
    }
}
