//! `opx-probe contexts`: send and receive contexts that are on, or all.

use crate::cli;
use crate::places::Places;
use crate::registers::Registers;
use crate::render::table;
use crate::view::{View, show};
use crate::{Outcome, choose};
use opx_bus::{BusError, PciFunction};
use opx_defs::chip;
use opx_defs::csr;
use serde::Serialize;

/// Contexts of both kinds.
#[derive(Debug, Clone, Serialize)]
pub struct Contexts {
    /// How many send contexts there are, and how many are on.
    pub send_total: u32,
    /// How many are on.
    pub send_enabled: u32,
    /// How many receive contexts there are.
    pub receive_total: u32,
    /// How many are on.
    pub receive_enabled: u32,
    /// Those that are on, or all.
    pub send: Vec<Send>,
    /// Those that are on, or all.
    pub receive: Vec<Receive>,
}

/// A send context.
#[derive(Debug, Clone, Serialize)]
pub struct Send {
    /// Its number.
    pub index: u32,
    /// Whether it is on.
    pub enabled: bool,
    /// Whether it has halted.
    pub halted: bool,
    /// First block of its PIO memory, 64 bytes each.
    pub base_blocks: u64,
    /// Blocks of it.
    pub depth_blocks: u64,
    /// Freed blocks that were returned last, modulo 2048.
    pub returned: u64,
    /// Freed blocks now, modulo 2048.
    pub free: u64,
    /// Freed blocks that make a return.
    pub threshold: u64,
    /// SEND_CTXT_ERR_STATUS.
    pub errors: String,
}

/// A receive context.
#[derive(Debug, Clone, Serialize)]
pub struct Receive {
    /// Its number.
    pub index: u32,
    /// Whether it is on.
    pub enabled: bool,
    /// Entries of its header queue.
    pub header_entries: u64,
    /// Up to where software has read, dwords.
    pub header_head: u64,
    /// Where the next header goes, dwords.
    pub header_tail: u64,
    /// Entries of eager buffers.
    pub eager_entries: u64,
    /// Entries of expected buffers.
    pub expected_entries: u64,
    /// The job key that packets must carry; none when any will do.
    pub job_key: Option<u64>,
    /// Packets dropped since the header queue was full.
    pub dropped: u64,
}

impl Contexts {
    /// Reads those that are on, or `all`.
    pub fn read<B: PciFunction>(registers: &Registers<B>, all: bool) -> Result<Self, BusError> {
        // What a broken chip says is bounded by what there can be.
        let send_total = registers.get(&csr::SEND_CONTEXTS)?.min(chip::TXE_NUM_CONTEXTS) as u32;
        let receive_total = registers.get(&csr::RCV_CONTEXTS)?.min(chip::RXE_NUM_CONTEXTS) as u32;
        let (mut send, mut receive) = (Vec::new(), Vec::new());
        let (mut send_enabled, mut receive_enabled) = (0, 0);
        for index in 0..send_total {
            let control = registers.at(&csr::SEND_CTXT_CTRL, index)?;
            let enabled = csr::SEND_CTXT_CTRL::CTXT_ENABLE.is_set(control);
            send_enabled += u32::from(enabled);
            if enabled || all {
                send.push(Send::read(registers, index, control)?);
            }
        }
        for index in 0..receive_total {
            let control = registers.at(&csr::RCV_CTXT_CTRL, index)?;
            let enabled = csr::RCV_CTXT_CTRL::ENABLE.is_set(control);
            receive_enabled += u32::from(enabled);
            if enabled || all {
                receive.push(Receive::read(registers, index, enabled)?);
            }
        }
        Ok(Self { send_total, send_enabled, receive_total, receive_enabled, send, receive })
    }
}

impl Send {
    fn read<B: PciFunction>(registers: &Registers<B>, index: u32, control: u64) -> Result<Self, BusError> {
        use csr::SEND_CTXT_CREDIT_STATUS as credit;
        use csr::SEND_CTXT_CTRL as ctrl;
        let status = registers.at(&csr::SEND_CTXT_CREDIT_STATUS, index)?;
        Ok(Self {
            index,
            enabled: ctrl::CTXT_ENABLE.is_set(control),
            halted: csr::SEND_CTXT_STATUS::CTXT_HALTED.is_set(registers.at(&csr::SEND_CTXT_STATUS, index)?),
            base_blocks: ctrl::CTXT_BASE.get(control),
            depth_blocks: ctrl::CTXT_DEPTH.get(control),
            returned: credit::LAST_RETURNED_COUNTER.get(status),
            free: credit::CURRENT_FREE_COUNTER.get(status),
            threshold: csr::SEND_CTXT_CREDIT_CTRL::THRESHOLD.get(registers.at(&csr::SEND_CTXT_CREDIT_CTRL, index)?),
            errors: format!("{:#x}", registers.at(&csr::SEND_CTXT_ERR_STATUS, index)?),
        })
    }
}

impl Receive {
    fn read<B: PciFunction>(registers: &Registers<B>, index: u32, enabled: bool) -> Result<Self, BusError> {
        use csr::RCV_KEY_CTRL as key;
        let key_control = registers.at(&csr::RCV_KEY_CTRL, index)?;
        // Units of 32 entries, of 8 entries, and of 4 pairs.
        let headers = csr::RCV_HDR_CNT::CNT.get(registers.at(&csr::RCV_HDR_CNT, index)?) * 32;
        let eager = csr::RCV_EGR_CTRL::EGR_CNT.get(registers.at(&csr::RCV_EGR_CTRL, index)?) * 8;
        let expected = csr::RCV_TID_CTRL::TID_PAIR_CNT.get(registers.at(&csr::RCV_TID_CTRL, index)?) * 8;
        Ok(Self {
            index,
            enabled,
            header_entries: headers,
            header_head: csr::RCV_HDR_HEAD::HEAD.get(registers.at(&csr::RCV_HDR_HEAD, index)?),
            header_tail: registers.at(&csr::RCV_HDR_TAIL, index)?,
            eager_entries: eager,
            expected_entries: expected,
            job_key: key::JOB_KEY_ENABLE.is_set(key_control).then(|| key::JOB_KEY_VALUE.get(key_control)),
            dropped: registers.at(&csr::RCV_HDR_OVFL_CNT, index)?,
        })
    }
}

impl View for Contexts {
    fn text(&self) -> String {
        let Self { send_total, send_enabled, receive_total, receive_enabled, .. } = self;
        let mut text = format!("send contexts: {send_enabled} of {send_total} are on\n");
        if !self.send.is_empty() {
            text += &table(
                &["send", "on", "halted", "first block", "blocks", "returned", "free", "threshold", "errors"],
                self.send.iter().map(|c| {
                    let on = |is: bool| if is { "yes" } else { "-" }.to_owned();
                    vec![
                        c.index.to_string(),
                        on(c.enabled),
                        on(c.halted),
                        c.base_blocks.to_string(),
                        c.depth_blocks.to_string(),
                        c.returned.to_string(),
                        c.free.to_string(),
                        c.threshold.to_string(),
                        c.errors.clone(),
                    ]
                }),
            );
        }
        text += &format!("receive contexts: {receive_enabled} of {receive_total} are on\n");
        if !self.receive.is_empty() {
            text += &table(
                &["receive", "on", "headers", "head", "tail", "eager", "expected", "job key", "dropped"],
                self.receive.iter().map(|c| {
                    vec![
                        c.index.to_string(),
                        if c.enabled { "yes" } else { "-" }.to_owned(),
                        c.header_entries.to_string(),
                        c.header_head.to_string(),
                        c.header_tail.to_string(),
                        c.eager_entries.to_string(),
                        c.expected_entries.to_string(),
                        c.job_key.map_or("any".to_owned(), |key| format!("{key:#x}")),
                        c.dropped.to_string(),
                    ]
                }),
            );
        }
        text
    }
}

/// Shows them.
pub fn run(places: &Places, args: &cli::Contexts) -> anyhow::Result<Outcome> {
    let registers = choose::adapter(places, &args.target)?;
    show(&registers, &args.target, &Contexts::read(&registers, args.all)?)
}
