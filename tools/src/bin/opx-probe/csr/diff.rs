//! `opx-probe csr diff`: what two dumps differ in, or a dump and an adapter as it is now.

use super::dump::Dump;
use super::{changes, label};
use crate::places::Places;
use crate::render::{hex64, json};
use crate::select::every;
use crate::{Outcome, choose, cli, render};
use serde::Serialize;

/// All that differs.
#[derive(Debug, Serialize)]
struct Diff {
    version: u32,
    old: String,
    new: String,
    registers: Vec<Difference>,
}

/// One register.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Difference {
    register: String,
    /// None where it was left alone, or isn't in the dump.
    old: Option<String>,
    new: Option<String>,
    changes: Vec<String>,
}

/// Compares them; a difference is a trouble.
pub fn run(places: &Places, args: &cli::CsrDiff) -> anyhow::Result<Outcome> {
    let old = Dump::load(&args.old)?;
    let (new, name) = match &args.new {
        Some(path) => (Dump::load(path)?, path.display().to_string()),
        None => {
            let registers = choose::adapter(places, &args.target)?;
            let rows: Vec<_> = old.registers.values().map(|(csr, _)| *csr).collect();
            let new = Dump::take(&registers, &rows)?;
            let name = new.adapter.clone();
            (new, name)
        }
    };
    let registers = compare(&old, &new);
    let trouble = !registers.is_empty();
    let diff = Diff { version: render::JSON_VERSION, old: args.old.display().to_string(), new: name, registers };
    let text = if args.target.json { json(&diff)? } else { diff.text() };
    Ok(Outcome { text, problem: None, trouble })
}

fn compare(old: &Dump, new: &Dump) -> Vec<Difference> {
    let rows: std::collections::BTreeMap<_, _> =
        old.registers.iter().chain(&new.registers).map(|(name, (csr, _))| (*name, *csr)).collect();
    let value = |dump: &Dump, name: &str, at: usize| *dump.registers.get(name)?.1.get(at)?;
    let of_row = |(name, csr)| {
        every(csr).enumerate().filter_map(move |(at, pick)| {
            let (before, after) = (value(old, name, at), value(new, name, at));
            (before != after).then(|| Difference {
                register: label(pick),
                old: before.map(hex64),
                new: after.map(hex64),
                changes: before.zip(after).map_or_else(Vec::new, |(before, after)| changes(csr.fields, before, after)),
            })
        })
    };
    rows.into_iter().flat_map(of_row).collect()
}

impl Diff {
    fn text(&self) -> String {
        let mut text = String::new();
        for Difference { register, old, new, changes } in &self.registers {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
            text += &format!("{register}: {} -> {}\n", shown(old), shown(new));
            for change in changes {
                text += &format!("  {change}\n");
            }
        }
        match self.registers.len() {
            0 => format!("{} and {} hold the same\n", self.old, self.new),
            count => text + &format!("{count} registers differ\n"),
        }
    }
}
