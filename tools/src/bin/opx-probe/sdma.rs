//! `opx-probe sdma`: the send-DMA engines.

use crate::cli::Target;
use crate::places::Places;
use crate::registers::Registers;
use crate::render::table;
use crate::view::{View, show};
use crate::{Outcome, choose};
use opx_bus::{BusError, PciFunction};
use opx_defs::chip;
use opx_defs::csr;
use serde::Serialize;

/// All engines.
#[derive(Debug, Clone, Serialize)]
pub struct Engines {
    /// One after the other.
    pub engines: Vec<Engine>,
}

/// An engine.
#[derive(Debug, Clone, Serialize)]
pub struct Engine {
    /// Its number.
    pub index: u32,
    /// Whether it is on.
    pub enabled: bool,
    /// Whether it has halted.
    pub halted: bool,
    /// Descriptors of its ring.
    pub ring: u64,
    /// The descriptor after the last one that is done.
    pub head: u64,
    /// The descriptor after the last one that is ready.
    pub tail: u64,
    /// Descriptors that wait or are at work.
    pub waiting: u64,
    /// Descriptors fetched so far.
    pub fetched: u64,
    /// Packets on their way out.
    pub packets_inside: u64,
    /// SEND_DMA_ENG_ERR_STATUS.
    pub errors: String,
}

impl Engines {
    /// Reads them.
    pub fn read<B: PciFunction>(registers: &Registers<B>) -> Result<Self, BusError> {
        let count = registers.get(&csr::SEND_DMA_ENGINES)?.min(chip::TXE_NUM_SDMA_ENGINES) as u32;
        Ok(Self { engines: (0..count).map(|index| Engine::read(registers, index)).collect::<Result<_, _>>()? })
    }
}

impl Engine {
    fn read<B: PciFunction>(registers: &Registers<B>, index: u32) -> Result<Self, BusError> {
        // Units of 64.
        let ring = csr::SEND_DMA_LEN_GEN::LENGTH.get(registers.at(&csr::SEND_DMA_LEN_GEN, index)?) * 64;
        let head = registers.at(&csr::SEND_DMA_HEAD, index)?;
        let tail = registers.at(&csr::SEND_DMA_TAIL, index)?;
        let waiting = if ring == 0 { 0 } else { (tail + ring - head.min(ring)) % ring };
        let inside = csr::SEND_EGRESS_SEND_DMA_STATUS::SDMA_EGRESS_PACKET_OCCUPANCY;
        Ok(Self {
            index,
            enabled: csr::SEND_DMA_CTRL::SDMA_ENABLE.is_set(registers.at(&csr::SEND_DMA_CTRL, index)?),
            halted: csr::SEND_DMA_STATUS::ENG_HALTED.is_set(registers.at(&csr::SEND_DMA_STATUS, index)?),
            ring,
            head,
            tail,
            waiting,
            fetched: registers.at(&csr::SEND_DMA_DESC_FETCHED_CNT, index)?,
            packets_inside: inside.get(registers.at(&csr::SEND_EGRESS_SEND_DMA_STATUS, index)?),
            errors: format!("{:#x}", registers.at(&csr::SEND_DMA_ENG_ERR_STATUS, index)?),
        })
    }

    /// In a word.
    pub fn state(&self) -> &'static str {
        match (self.enabled, self.halted) {
            (true, true) => "halted",
            (true, false) => "on",
            (false, _) => "off",
        }
    }
}

impl View for Engines {
    fn text(&self) -> String {
        table(
            &["engine", "state", "ring", "head", "tail", "waiting", "fetched", "inside", "errors"],
            self.engines.iter().map(|e| {
                vec![
                    e.index.to_string(),
                    e.state().to_owned(),
                    e.ring.to_string(),
                    e.head.to_string(),
                    e.tail.to_string(),
                    e.waiting.to_string(),
                    e.fetched.to_string(),
                    e.packets_inside.to_string(),
                    e.errors.clone(),
                ]
            }),
        )
    }
}

/// Shows them.
pub fn run(places: &Places, target: &Target) -> anyhow::Result<Outcome> {
    let registers = choose::adapter(places, target)?;
    show(&registers, target, &Engines::read(&registers)?)
}
