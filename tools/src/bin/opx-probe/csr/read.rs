//! `opx-probe csr read`: registers by name, pattern or offset, with their fields.

use super::{access, bits, label};
use crate::cli;
use crate::places::Places;
use crate::registers::{Reading, Registers};
use crate::render::{hex64, json, table, wrapped};
use crate::select::{Pick, picks};
use crate::{Outcome, choose, render};
use opx_bus::{BusError, PciFunction};
use opx_defs::csr::Field;
use serde::Serialize;
use std::fmt::Write;

/// What was read.
#[derive(Debug, Serialize)]
struct Readings {
    version: u32,
    adapter: String,
    registers: Vec<Register>,
}

/// One register.
#[derive(Debug, Serialize)]
struct Register {
    name: &'static str,
    index: u32,
    element: u32,
    offset: String,
    /// None when it was left alone.
    value: Option<String>,
    /// Why it was left alone.
    skipped: Option<&'static str>,
    access: &'static str,
    fields: Vec<FieldValue>,
    doc: &'static str,
    source: &'static str,
    #[serde(skip)]
    pick: Pick,
}

/// One field's value.
#[derive(Debug, Serialize)]
struct FieldValue {
    name: &'static str,
    high: u32,
    low: u32,
    value: String,
    #[serde(skip)]
    number: u64,
}

/// Reads registers.
pub fn run(places: &Places, args: &cli::CsrRead) -> anyhow::Result<Outcome> {
    // Before an adapter is looked for: bad input is told first.
    let picks = picks(&args.register, args.index)?;
    let registers = choose::adapter(places, &args.target)?;
    let dump = Readings {
        version: render::JSON_VERSION,
        adapter: registers.bus().name().to_owned(),
        registers: picks.into_iter().map(|pick| read(&registers, pick)).collect::<Result<_, _>>()?,
    };
    if let Some(first) = dump.registers.first()
        && let Some(why) = first.skipped
        && dump.registers.iter().all(|register| register.skipped.is_some())
    {
        anyhow::bail!("{}: {} isn't read: {why}", dump.adapter, label(first.pick));
    }
    let text = if args.target.json { json(&dump)? } else { dump.text() };
    Ok(text.into())
}

fn read<B: PciFunction>(registers: &Registers<B>, pick: Pick) -> Result<Register, BusError> {
    let Pick { csr, index, element } = pick;
    let (value, skipped) = match registers.read(csr, index, element)? {
        Reading::Value(value) => (Some(value), None),
        Reading::Skipped(why) => (None, Some(why)),
    };
    let decode = |value: u64| csr.fields.iter().map(|field| FieldValue::new(*field, value)).collect();
    Ok(Register {
        name: csr.name,
        index,
        element,
        offset: csr.element(index, element).to_string(),
        value: value.map(hex64),
        skipped,
        access: access(csr.access),
        fields: value.map_or_else(Vec::new, decode),
        doc: csr.doc.trim(),
        source: csr.source,
        pick,
    })
}

impl FieldValue {
    fn new(field: Field, register: u64) -> Self {
        let number = field.get(register);
        let (high, low) = bits(field);
        Self { name: field.name, high, low, value: format!("{number:#x}"), number }
    }
}

impl Register {
    fn text(&self, explain: bool) -> String {
        let value = match (&self.value, self.skipped) {
            (Some(value), _) => value.clone(),
            (None, why) => format!("not read: {}", why.unwrap_or("no reason given")),
        };
        let mut text = format!("{} at {} ({}): {value}\n", label(self.pick), self.offset, self.access);
        if explain {
            let _ = writeln!(text, "  {}", wrapped(&format!("{} [{}]", self.doc, self.source), 2));
        }
        let rows = self.fields.iter().map(|field| {
            let bits =
                if field.high == field.low { field.low.to_string() } else { format!("{}:{}", field.high, field.low) };
            vec![field.name.to_owned(), bits, field.value.clone(), field.number.to_string()]
        });
        if !self.fields.is_empty() {
            for line in table(&["field", "bits", "hex", "decimal"], rows).lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }
}

impl Readings {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut last = None;
        for register in &self.registers {
            // Once is enough for the instances of one row.
            let explain = last != Some(register.name);
            if explain && last.is_some() {
                text.push('\n');
            }
            text += &register.text(explain);
            last = Some(register.name);
        }
        text
    }
}
