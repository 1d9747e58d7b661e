//! `opx-probe csr`: registers by name, pattern or offset, with their fields; or the list of all that are known.

use crate::cli;
use crate::places::Places;
use crate::registers::{Reading, Registers};
use crate::render::{hex64, json, table};
use crate::select::{Pick, picks, rows};
use crate::{Outcome, choose, render};
use opx_bus::{BusError, PciFunction};
use opx_defs::csr::{Access, BLOCKS, Csr, Field};
use serde::Serialize;
use std::fmt::Write;

/// What was read.
#[derive(Debug, Serialize)]
struct Dump {
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

/// The catalogue, or the part that was asked for.
#[derive(Debug, Serialize)]
struct Catalogue {
    version: u32,
    registers: Vec<Row>,
}

/// One row of the catalogue.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    block: &'static str,
    offset: String,
    count: u32,
    stride: u32,
    len: u32,
    access: &'static str,
    reset: String,
    fields: Vec<FieldBits>,
    doc: &'static str,
    source: &'static str,
}

/// Where a field is.
#[derive(Debug, Serialize)]
struct FieldBits {
    name: &'static str,
    high: u32,
    low: u32,
}

/// Reads registers, or lists them.
pub fn run(places: &Places, args: &cli::Csr) -> anyhow::Result<Outcome> {
    if args.list {
        return catalogue(args);
    }
    // Before an adapter is looked for: bad input is told first.
    let picks = picks(args.register.as_deref().unwrap_or_default(), args.index)?;
    let registers = choose::adapter(places, args.adapter.as_ref())?;
    let dump = Dump {
        version: render::JSON_VERSION,
        adapter: registers.bus().name().to_owned(),
        registers: picks.into_iter().map(|pick| read(&registers, pick)).collect::<Result<_, _>>()?,
    };
    if let Some(first) = dump.registers.first()
        && let Some(why) = first.skipped
        && dump.registers.iter().all(|register| register.skipped.is_some())
    {
        anyhow::bail!("{}: {} isn't read: {why}", dump.adapter, first.label());
    }
    let text = if args.json { json(&dump)? } else { dump.text() };
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
    /// The name with its instance and element, where there are several.
    fn label(&self) -> String {
        let mut label = self.name.to_owned();
        let csr = self.pick.csr;
        if csr.count > 1 || csr.len > 1 {
            let _ = write!(label, "[{}]", self.index);
        }
        if csr.len > 1 {
            let _ = write!(label, "[{}]", self.element);
        }
        label
    }

    fn text(&self, explain: bool) -> String {
        let value = match (&self.value, self.skipped) {
            (Some(value), _) => value.clone(),
            (None, why) => format!("not read: {}", why.unwrap_or("no reason given")),
        };
        let mut text = format!("{} at {} ({}): {value}\n", self.label(), self.offset, self.access);
        if explain {
            let _ = writeln!(text, "  {} [{}]", self.doc, self.source);
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

impl Dump {
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

fn catalogue(args: &cli::Csr) -> anyhow::Result<Outcome> {
    let wanted = rows(args.register.as_deref().unwrap_or("*"))?;
    let registers: Vec<Row> = BLOCKS
        .iter()
        .flat_map(|(block, csrs)| csrs.iter().map(move |csr| (*block, *csr)))
        .filter(|(_, csr)| wanted.contains(csr))
        .map(|(block, csr)| Row::new(block, csr))
        .collect();
    if args.json {
        return Ok(json(&Catalogue { version: render::JSON_VERSION, registers })?.into());
    }
    let rows = registers.into_iter().map(|row| {
        let instances = if row.len > 1 { format!("{} x {}", row.count, row.len) } else { row.count.to_string() };
        vec![
            row.name.to_owned(),
            row.block.to_owned(),
            row.offset,
            instances,
            row.access.to_owned(),
            row.doc.to_owned(),
        ]
    });
    Ok(table(&["register", "block", "offset", "instances", "access", "what it is for"], rows).into())
}

impl Row {
    fn new(block: &'static str, csr: &'static Csr) -> Self {
        let field = |field: &Field| {
            let (high, low) = bits(*field);
            FieldBits { name: field.name, high, low }
        };
        Self {
            name: csr.name,
            block,
            offset: csr.offset.to_string(),
            count: csr.count,
            stride: csr.stride,
            len: csr.len,
            access: access(csr.access),
            reset: hex64(csr.reset),
            fields: csr.fields.iter().map(field).collect(),
            doc: csr.doc.trim(),
            source: csr.source,
        }
    }
}

/// Highest and lowest bit.
fn bits(field: Field) -> (u32, u32) {
    (field.shift + field.width - 1, field.shift)
}

fn access(access: Access) -> &'static str {
    match access {
        Access::ReadOnly => "ro",
        Access::ReadWrite => "rw",
        Access::WriteOnly => "wo",
        Access::WriteOneToClear => "w1c",
        Access::WriteOneToSet => "w1s",
    }
}
