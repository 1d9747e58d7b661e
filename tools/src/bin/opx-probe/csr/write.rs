//! `opx-probe csr write`: changes one register, and says what that changes before and after.

use super::{access, changes, label, number};
use crate::places::Places;
use crate::registers::Reading;
use crate::render::{hex64, json, shown};
use crate::select::{Pick, alike, picks};
use crate::{Outcome, choose, cli, render};
use opx_bus::PciFunction as _;
use opx_defs::csr::{Access, Csr};
use serde::Serialize;

/// Why nothing is written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// More than one register.
    #[error("these are {count} registers, and one is written at a time; choose it with --index, or by its offset")]
    Several {
        /// How many.
        count: usize,
    },
    /// One that takes no writes.
    #[error("{register} can only be read")]
    ReadOnly {
        /// Its name.
        register: String,
    },
    /// Neither a number nor fields.
    #[error(
        "`{text}` is no value; write a number (0x for hexadecimal) for the whole register, or FIELD=NUMBER for some of its bits"
    )]
    BadValue {
        /// What was given.
        text: String,
    },
    /// Both, or two numbers.
    #[error("give either one number for the whole register, or FIELD=NUMBER as often as you like")]
    Mixed,
    /// No such field.
    #[error("{register} has no field `{field}`{}", hint(nearest))]
    NoField {
        /// The register.
        register: &'static str,
        /// What was asked for.
        field: String,
        /// Names like it, or all.
        nearest: Vec<&'static str>,
    },
    /// It doesn't fit.
    #[error("{value:#x} doesn't fit into {field}, which has {width} bits")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// What was given.
        value: u64,
        /// Bits.
        width: u32,
    },
    /// Fields need the rest of the register.
    #[error("{register} can't be read now, so give the whole register: {why}")]
    Unreadable {
        /// Its name.
        register: String,
        /// Why.
        why: &'static str,
    },
}

fn hint(nearest: &[&str]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; there is {}", nearest.join(", ")) }
}

/// What is written, or would be.
#[derive(Debug, Serialize)]
struct Written {
    version: u32,
    adapter: String,
    register: String,
    offset: String,
    access: &'static str,
    /// None where it can't be read.
    old: Option<String>,
    new: String,
    /// What it reads as afterwards.
    now: Option<String>,
    changes: Vec<String>,
    written: bool,
}

/// What to write.
#[derive(Debug, PartialEq, Eq)]
enum Value {
    Whole(u64),
    /// Bits to replace, and what with.
    Fields {
        mask: u64,
        value: u64,
    },
}

fn parse(csr: &Csr, texts: &[String]) -> Result<Value, WriteError> {
    let bad = |text: &str| WriteError::BadValue { text: shown(text) };
    if let [text] = texts
        && !text.contains('=')
    {
        return number(text).map(Value::Whole).ok_or_else(|| bad(text));
    }
    let (mut mask, mut value) = (0, 0);
    for text in texts {
        let Some((name, digits)) = text.split_once('=') else {
            return Err(if number(text).is_some() { WriteError::Mixed } else { bad(text) });
        };
        let Some(field) = csr.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)) else {
            let names = csr.fields.iter().map(|field| field.name);
            let mut nearest = alike(name, names.clone());
            if nearest.is_empty() {
                nearest = names.take(8).collect();
            }
            return Err(WriteError::NoField { register: csr.name, field: shown(name), nearest });
        };
        let bits = number(digits).ok_or_else(|| bad(text))?;
        if field.get(field.put(bits)) != bits {
            return Err(WriteError::TooLarge { field: field.name, value: bits, width: field.width });
        }
        mask |= field.mask();
        value = field.set(value, bits);
    }
    Ok(Value::Fields { mask, value })
}

/// Writes it, or says what would be written.
pub fn run(places: &Places, args: &cli::CsrWrite) -> anyhow::Result<Outcome> {
    let picks = picks(&args.register, args.index)?;
    let [pick] = picks[..] else { return Err(WriteError::Several { count: picks.len() }.into()) };
    let Pick { csr, index, element } = pick;
    let register = label(pick);
    if csr.access == Access::ReadOnly {
        return Err(WriteError::ReadOnly { register }.into());
    }
    let value = parse(csr, &args.value)?;
    let registers = choose::adapter(places, &args.target)?;
    let reading = registers.read(csr, index, element)?;
    let old = match reading {
        Reading::Value(old) => Some(old),
        Reading::Skipped(_) => None,
    };
    let new = match (value, reading) {
        (Value::Whole(new), _) => new,
        (Value::Fields { mask, value }, Reading::Value(old)) => old & !mask | value,
        // Bits of a register that can only be written stand for themselves.
        (Value::Fields { value, .. }, _) if csr.access == Access::WriteOnly => value,
        (Value::Fields { .. }, Reading::Skipped(why)) => return Err(WriteError::Unreadable { register, why }.into()),
    };
    let mut now = None;
    if args.write {
        registers.write(csr, index, element, new)?;
        if let Reading::Value(value) = registers.read(csr, index, element)? {
            now = Some(value);
        }
    }
    let written = Written {
        version: render::JSON_VERSION,
        adapter: registers.bus().name().to_owned(),
        register,
        offset: csr.element(index, element).to_string(),
        access: access(csr.access),
        old: old.map(hex64),
        new: hex64(new),
        now: now.map(hex64),
        changes: changes(csr.fields, old.unwrap_or(0), new),
        written: args.write,
    };
    let text = if args.target.json { json(&written)? } else { written.text() };
    Ok(text.into())
}

impl Written {
    fn text(&self) -> String {
        let old = self.old.as_deref().unwrap_or("(not read)");
        let mut text = format!("{} at {} ({}): {old} -> {}\n", self.register, self.offset, self.access, self.new);
        for change in &self.changes {
            text += &format!("  {change}\n");
        }
        match (&self.now, self.written) {
            (_, false) => text += "nothing was written: give --write to do it\n",
            (Some(now), true) if *now != self.new => text += &format!("written; it reads as {now}\n"),
            (_, true) => text += "written\n",
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::csr;

    #[test]
    fn values_are_numbers_or_fields() {
        let parse = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            parse(&csr::SEND_CTXT_CTRL, &texts).map_err(|error| error.to_string())
        };
        assert_eq!(parse(&["0x10"]), Ok(Value::Whole(16)));
        let fields = Value::Fields { mask: 1 | 0x3fff << 32, value: 1 | 7 << 32 };
        assert_eq!(parse(&["ctxt_enable=1", "CTXT_BASE=7"]), Ok(fields));
        for (texts, says) in [
            (&["CTXT_ENABEL=1"][..], "has no field `CTXT_ENABEL`; there is CTXT_ENABLE"),
            (&["frob=1"], "there is CTXT_ENABLE, CTXT_BASE, CTXT_DEPTH"),
            (&["CTXT_ENABLE=2"], "0x2 doesn't fit into CTXT_ENABLE, which has 1 bits"),
            (&["frob"], "`frob` is no value"),
            (&["+1"], "`+1` is no value"),
            (&["CTXT_ENABLE=x"], "is no value"),
            (&["1", "2"], "either one number"),
            (&["CTXT_ENABLE=1", "2"], "either one number"),
        ] {
            let error = parse(texts).unwrap_err();
            assert!(error.contains(says), "{texts:?}: {error}");
        }
    }
}
