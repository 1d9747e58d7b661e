//! `opx-probe csr list`: the registers that are known; needs no adapter.

use super::{access, bits};
use crate::render::{hex64, json, table};
use crate::select::rows;
use crate::{Outcome, cli, render};
use opx_defs::csr::{BLOCKS, Csr, Field};
use serde::Serialize;

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

/// Lists them.
pub fn run(args: &cli::CsrList) -> anyhow::Result<Outcome> {
    let wanted = rows(&args.register)?;
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
