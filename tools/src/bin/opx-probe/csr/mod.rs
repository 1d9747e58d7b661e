//! `opx-probe csr`: registers, read, written, kept and compared.

mod diff;
pub mod dump;
mod list;
mod read;
mod write;

use crate::Outcome;
use crate::cli::CsrCommand;
use crate::places::Places;
use crate::select::Pick;
use opx_defs::csr::{Access, Field};
use std::fmt::Write;

/// Does what was asked for.
pub fn run(places: &Places, command: &CsrCommand) -> anyhow::Result<Outcome> {
    match command {
        CsrCommand::Read(args) => read::run(places, args),
        CsrCommand::Write(args) => write::run(places, args),
        CsrCommand::Dump(args) => dump::run(places, args),
        CsrCommand::Diff(args) => diff::run(places, args),
        CsrCommand::List(args) => list::run(args),
    }
}

/// A register's name with its instance and element, where there are several.
pub fn label(pick: Pick) -> String {
    let Pick { csr, index, element } = pick;
    let mut label = csr.name.to_owned();
    if csr.count > 1 || csr.len > 1 {
        let _ = write!(label, "[{index}]");
    }
    if csr.len > 1 {
        let _ = write!(label, "[{element}]");
    }
    label
}

/// Highest and lowest bit.
pub fn bits(field: Field) -> (u32, u32) {
    (field.shift + field.width - 1, field.shift)
}

pub fn access(access: Access) -> &'static str {
    match access {
        Access::ReadOnly => "ro",
        Access::ReadWrite => "rw",
        Access::WriteOnly => "wo",
        Access::WriteOneToClear => "w1c",
        Access::WriteOneToSet => "w1s",
    }
}

/// A number as people write one: decimal, or hexadecimal with 0x.
pub fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // from_str_radix takes a sign.
    digits.starts_with(|first: char| first.is_digit(radix)).then(|| u64::from_str_radix(digits, radix).ok())?
}

/// The fields that two values differ in, as "NAME 0x1 -> 0x2".
pub fn changes(fields: &[Field], old: u64, new: u64) -> Vec<String> {
    let changed = fields.iter().filter(|field| field.get(old) != field.get(new));
    changed.map(|field| format!("{} {:#x} -> {:#x}", field.name, field.get(old), field.get(new))).collect()
}
