//! The chip: its blocks, and which of them an access, an event or a packet goes to.

use crate::asic::Asic;
use crate::board::Board;
use crate::cce::Cce;
use crate::config::Config;
use crate::dc8051::Dc8051;
use crate::dcc::Dcc;
use crate::event::Event;
use crate::lcb::Lcb;
use crate::misc::Misc;
use crate::rxe::Rxe;
use crate::txe::Txe;
use crate::unmodelled::UnmodelledMap;
use crate::wire::{Doorbell, Item};
use opx_defs::time::Instant;
use opx_defs::units::BarOff;
use std::sync::Arc;

/// Bytes of BAR 0.
pub const BAR0_LEN: u64 = 64 << 20;

/// One adapter chip.
#[derive(Debug)]
pub struct Chip {
    pub(crate) board: Board,
    cce: Cce,
    asic: Asic,
    misc: Misc,
    dcc: Dcc,
    lcb: Lcb,
    dc8051: Dc8051,
    rxe: Rxe,
    txe: Txe,
    pub(crate) unmodelled: UnmodelledMap,
}

impl Chip {
    /// A chip as it is after power-on.
    pub fn new(config: Config, doorbell: Arc<Doorbell>) -> Self {
        Self {
            rxe: Rxe::new(&config),
            txe: Txe::new(&config),
            board: Board::new(config, doorbell),
            cce: Cce::default(),
            asic: Asic::default(),
            misc: Misc::default(),
            dcc: Dcc::default(),
            lcb: Lcb::default(),
            dc8051: Dc8051::default(),
            unmodelled: UnmodelledMap::default(),
        }
    }

    /// Reads an aligned register.
    pub fn read64(&mut self, offset: BarOff) -> u64 {
        let board = &mut self.board;
        let value = match offset.0 {
            0..0x10_0000 => self.cce.read(board, offset),
            0x10_0000..0x40_0000 => board.interrupts.read(offset),
            0x40_0000..0x50_0000 => self.asic.read(board, offset),
            0x50_0000..0x60_0000 => self.misc.read(board, offset),
            0x60_0000..0x60_1000 => self.dcc.read(board, offset),
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

    /// Writes an aligned register.
    pub fn write64(&mut self, offset: BarOff, value: u64) {
        let board = &mut self.board;
        let taken = match offset.0 {
            0..0x10_0000 => self.cce.write(board, offset, value),
            0x10_0000..0x40_0000 => board.interrupts.write(offset, value),
            0x40_0000..0x50_0000 => self.asic.write(board, offset, value),
            0x50_0000..0x60_0000 => self.misc.write(board, offset, value),
            0x60_0000..0x60_1000 => self.dcc.write(board, offset, value),
            0x60_1000..0x60_2000 => self.lcb.write(board, offset, value),
            0x60_2000..0x60_3000 => self.dc8051.write(board, offset, value),
            0x100_0000..0x180_0000 => self.rxe.write(board, offset, value),
            0x180_0000..0x400_0000 => self.txe.write(board, offset, value),
            _ => false,
        };
        if !taken {
            self.unmodelled.write(offset);
        }
    }

    /// Writes a 64-byte block to the PIO window.
    pub fn write_block(&mut self, offset: BarOff, block: &[u64; 8]) {
        if offset.0 >= 0x200_0000 && u64::from(offset.0) < BAR0_LEN {
            self.txe.write_block(&mut self.board, offset, block);
        } else {
            self.unmodelled.write(offset);
        }
    }

    /// When the chip next has something to do.
    pub fn next_due(&self) -> Option<Instant> {
        let wires = &self.board.wires;
        let cable = wires.cable.as_ref();
        if wires.own.has_room_news() || cable.is_some_and(|cable| cable.out.has_room_news()) {
            return Some(Instant::ZERO);
        }
        [self.board.events.next_due(), wires.own.next_due(), cable.and_then(|cable| cable.into.next_due())]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does the next thing that is due at `now`; `false` when there is none.
    pub fn step(&mut self, now: Instant) -> bool {
        let wires = &self.board.wires;
        if wires.own.take_room() || wires.cable.as_ref().is_some_and(|cable| cable.out.take_room()) {
            self.txe.on_link_room(&mut self.board);
            return true;
        }
        let own = wires.own.next_due().unwrap_or(Instant::FAR);
        let cable = wires.cable.as_ref().and_then(|cable| cable.into.next_due()).unwrap_or(Instant::FAR);
        let event = self.board.events.next_due().unwrap_or(Instant::FAR);
        if event <= own && event <= cable {
            let Some((at, event)) = self.board.events.take(now) else { return false };
            self.board.now = self.board.now.max(at);
            self.on_event(event);
            return true;
        }
        let lane = if own <= cable { Some(&wires.own) } else { wires.cable.as_ref().map(|cable| &cable.into) };
        let Some((at, item)) = lane.and_then(|lane| lane.receive(now)) else { return false };
        self.board.now = self.board.now.max(at);
        match item {
            Item::Packet(packet) => self.rxe.on_packet(&mut self.board, packet),
            Item::Message(_) => {}
        }
        true
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Rxe(event) => self.rxe.on_event(&mut self.board, event),
            Event::Txe(event) => self.txe.on_event(&mut self.board, event),
            _ => {}
        }
    }
}
