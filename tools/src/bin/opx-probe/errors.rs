//! `opx-probe errors`: the chip's error registers, each bit that is set as a sentence.

use crate::cli::Target;
use crate::places::Places;
use crate::registers::{Reading, Registers};
use crate::render::wrapped;
use crate::select::{Pick, every};
use crate::view::{View, show};
use crate::{Outcome, choose};
use opx_bus::{BusError, PciFunction};
use opx_defs::csr::{self, Csr, Field};
use opx_defs::freezing;
use serde::Serialize;

/// Errors that stand in registers.
#[derive(Debug, Clone, Serialize)]
pub struct Errors {
    /// Registers that were read.
    pub registers: u32,
    /// Registers that couldn't be read now.
    pub unread: u32,
    /// Each bit that is set.
    pub errors: Vec<StandingError>,
}

/// A bit that is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StandingError {
    /// The register, with its instance.
    pub register: String,
    /// The bit, by its name or its number.
    pub bit: String,
    /// Whether the chip has frozen for it.
    pub freezes: bool,
    /// What it means.
    pub sentence: String,
}

/// A bit of DC_DC8051_ERR_FLG that only says that the microcontroller has a message for the driver.
const NO_ERROR: &str = "SET_BY_8051";

/// Whether a register tells of errors: their status has one of these endings, in the DC the second.
fn tells_of_errors(csr: &Csr) -> bool {
    csr.name.ends_with("ERR_STATUS") || csr.name.ends_with("_ERR_FLG")
}

/// The part of the chip that a register belongs to.
fn part(csr: &Csr) -> &'static str {
    const PARTS: [(&str, &str); 13] = [
        ("CCE_", "the host interface"),
        ("RCV_", "the receive engine"),
        ("MISC_", "the security engine and the rest"),
        ("SEND_PIO_", "the path of programmed I/O"),
        ("SEND_DMA_ENG_", "an SDMA engine"),
        ("SEND_DMA_", "the path of send DMA"),
        ("SEND_EGRESS_", "the way out"),
        ("SEND_CTXT_", "a send context"),
        ("SEND_", "the send engine"),
        ("DCC_", "the link's data path"),
        ("DC_LCB_", "the link's lowest layer (LCB)"),
        ("DC_DC8051_", "the link's microcontroller (8051)"),
        ("ASIC_", "what both adapters of the chip share"),
    ];
    PARTS.iter().find(|(start, _)| csr.name.starts_with(start)).map_or("the chip", |(_, part)| part)
}

/// What a bit's name says. The names follow a pattern: a place, then what happened there.
fn sentence(csr: &Csr, bit: &str) -> String {
    const ENDINGS: [(&str, &str); 15] = [
        ("UNC_OR_PARITY_ERR", "an error of memory that can't be corrected, or of parity, in"),
        ("UNC_COR_ERR", "a corrected error of memory in"),
        ("UNC_ERR", "an error of memory that can't be corrected in"),
        ("COR_ERR", "a corrected error of memory in"),
        ("MBE", "an error of memory that can't be corrected in"),
        ("SBE", "a corrected error of memory in"),
        ("PARITY_MBE_ERR", "an error of parity in"),
        ("PARITY_ERR", "an error of parity in"),
        ("FSM_ENCODING_ERR", "an impossible state of"),
        ("OVERRUN_ERR", "an overrun of"),
        ("UNDERRUN_ERR", "an underrun of"),
        ("DISALLOWED_PACKET_ERR", "a packet was refused that came from"),
        ("TIMEOUT_ERR", "no answer in time to"),
        ("READ_BAD_ADDR_ERR", "a read of an address without a register, seen by"),
        ("WRITE_BAD_ADDR_ERR", "a write to an address without a register, seen by"),
    ];
    // The registers for which people look most often.
    const KNOWN: [(&str, &str); 21] = [
        (
            "PIO_INCONSISTENT_SOP_ERR",
            "a block was written in the wrong view: a packet begins in the start-of-packet view",
        ),
        ("PIO_DISALLOWED_PACKET_ERR", "a check on egress refused a packet; see SEND_EGRESS_ERR_INFO"),
        ("PIO_WRITE_CROSSES_BOUNDARY_ERR", "a store crossed the boundary of a block"),
        ("PIO_WRITE_OVERFLOW_ERR", "a block was written that hadn't been returned"),
        ("PIO_WRITE_OUT_OF_BOUNDS_ERR", "a block beyond the context's buffer was written"),
        ("SDMA_WRONG_DW_ERR", "a packet's length isn't whole dwords"),
        (
            "SDMA_GEN_MISMATCH_ERR",
            "a descriptor's generation isn't the ring's: the tail went too far, or memory was overwritten",
        ),
        ("SDMA_TOO_LONG_ERR", "a packet is longer than it may be"),
        ("SDMA_TAIL_OUT_OF_BOUNDS_ERR", "the tail lies beyond the ring"),
        ("SDMA_FIRST_DESC_ERR", "a packet doesn't begin with a first descriptor"),
        (
            "SDMA_MEM_READ_ERR",
            "memory couldn't be read: it isn't mapped for the adapter; see the kernel's log for a DMA fault",
        ),
        ("SDMA_HALT_ERR", "the engine was told to halt"),
        ("SDMA_LENGTH_MISMATCH_ERR", "a packet's descriptors don't add up to its length"),
        ("TX_LINKDOWN_ERR", "a packet was to go out while the link was down"),
        ("TX_INCORRECT_LINK_STATE_ERR", "a packet was to go out that the link's state doesn't allow"),
        ("TX_ILLEGAL_VL_ERR", "a packet was to go out on a lane that isn't set up"),
        ("RX_RBUF_FULL_ERR", "the receive buffer was full"),
        ("LOST_8051_HEART_BEAT", "the microcontroller doesn't run any more"),
        ("UNCORRECTABLE_ERR", "an error that can't be corrected; see DCC_ERR_INFO_UNCORRECTABLE"),
        ("FMCONFIG_ERR", "the fabric manager's configuration doesn't fit; see DCC_ERR_INFO_FMCONFIG"),
        ("RCVPORT_ERR", "a bad packet came in; see DCC_ERR_INFO_PORTRCV"),
    ];
    let part = part(csr);
    if let Some((_, known)) = KNOWN.iter().find(|(name, _)| *name == bit) {
        return format!("{part}: {known}");
    }
    let words = |name: &str| name.trim_matches('_').replace('_', " ").to_ascii_lowercase();
    match ENDINGS.iter().find_map(|(ending, what)| Some((bit.strip_suffix(ending)?, what))) {
        Some(("", what)) => format!("{part}: {what} it"),
        Some((place, what)) => format!("{part}: {what} {}", words(place)),
        None => format!("{part}: {}", words(bit.strip_suffix("_ERR").unwrap_or(bit))),
    }
}

fn bits_of(pick: Pick, value: u64) -> Vec<StandingError> {
    let Pick { csr, index, .. } = pick;
    let freezing = freezing::bits_of(csr);
    let register = if csr.count > 1 { format!("{}[{index}]", csr.name) } else { csr.name.to_owned() };
    let named = csr.fields.iter().fold(0, |mask, field| mask | field.mask());
    let standing = |field: &&Field| field.is_set(value) && field.name != NO_ERROR;
    let of_name = csr.fields.iter().filter(standing).map(|field| StandingError {
        register: register.clone(),
        bit: field.name.to_owned(),
        freezes: field.is_set(freezing),
        sentence: sentence(csr, field.name),
    });
    let nameless = (0..64).filter(|bit| value & !named & 1 << bit != 0).map(|bit| StandingError {
        register: register.clone(),
        bit: bit.to_string(),
        freezes: false,
        sentence: format!("{}: bit {bit}, of which no source tells the meaning", part(csr)),
    });
    of_name.chain(nameless).collect()
}

impl Errors {
    /// Reads all error registers.
    pub fn read<B: PciFunction>(registers: &Registers<B>) -> Result<Self, BusError> {
        let mut errors = Self { registers: 0, unread: 0, errors: Vec::new() };
        for pick in csr::all().filter(|csr| tells_of_errors(csr)).flat_map(every) {
            match registers.read(pick.csr, pick.index, pick.element)? {
                Reading::Value(value) => {
                    errors.registers += 1;
                    errors.errors.extend(bits_of(pick, value));
                }
                Reading::Skipped(_) => errors.unread += 1,
            }
        }
        Ok(errors)
    }
}

impl View for Errors {
    fn text(&self) -> String {
        let mut text = String::new();
        for error in &self.errors {
            text += &format!("{}.{}\n", error.register, error.bit);
            let freezes = if error.freezes { "; the chip freezes for it" } else { "" };
            text += &format!("  {}\n", wrapped(&format!("{}{freezes}", error.sentence), 2));
        }
        let count = match self.errors.len() {
            0 => "no error stands".to_owned(),
            1 => "1 error stands".to_owned(),
            count => format!("{count} errors stand"),
        };
        text += &format!("{count} in {} registers\n", self.registers);
        if self.unread > 0 {
            text += &format!("{} can't be read while the link side is in reset or the 8051's\n", self.unread);
        }
        text
    }

    fn trouble(&self) -> bool {
        !self.errors.is_empty()
    }
}

/// Shows them.
pub fn run(places: &Places, target: &Target) -> anyhow::Result<Outcome> {
    let registers = choose::adapter(places, target)?;
    show(&registers, target, &Errors::read(&registers)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(csr: &'static Csr, value: u64) -> Vec<StandingError> {
        bits_of(Pick { csr, index: 0, element: 0 }, value)
    }

    #[test]
    fn bits_become_sentences() {
        let found = errors(&csr::SEND_DMA_ERR_STATUS, 0b1010 | 1 << 60);
        let sentences: Vec<_> = found.iter().map(|error| error.sentence.as_str()).collect();
        assert_eq!(
            sentences,
            [
                "the path of send DMA: an error of parity in sdma csr",
                "the path of send DMA: a corrected error of memory in sdma pcie req tracking",
                "the path of send DMA: bit 60, of which no source tells the meaning",
            ]
        );
        assert_eq!(found.iter().map(|error| error.freezes).collect::<Vec<_>>(), [true, false, false]);
        let halted = errors(&csr::SEND_CTXT_ERR_STATUS, 1 << 3);
        assert_eq!(halted[0].sentence, "a send context: a block was written that hadn't been returned");
        assert_eq!(halted[0].register, "SEND_CTXT_ERR_STATUS[0]");
    }

    /// Every bit of every error register has a sentence in words.
    #[test]
    fn every_named_bit_has_a_sentence() {
        let rows: Vec<_> = csr::all().filter(|csr| tells_of_errors(csr)).collect();
        assert!(rows.len() >= 12, "{:?}", rows.iter().map(|csr| csr.name).collect::<Vec<_>>());
        for csr in rows {
            assert_ne!(part(csr), "the chip", "{}", csr.name);
            for field in csr.fields {
                let sentence = sentence(csr, field.name);
                assert!(sentence.contains(": ") && !sentence.contains('_') || sentence.contains("see "), "{sentence}");
                assert!(!sentence.ends_with(' '), "{sentence}");
            }
        }
    }
}
