//! `opx-probe csr dump`: every register that can be read, as a file that can be compared and loaded later.

use crate::places::Places;
use crate::registers::{Reading, Registers};
use crate::select::{Pick, every};
use crate::{Outcome, choose, cli, render};
use opx_bus::{BusError, PciFunction};
use opx_defs::csr::{self, Access, Csr};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// What a file of this kind says it is.
const KIND: &str = "opx-probe csr dump";
/// Version of the file.
const VERSION: u32 = 1;
/// No dump of this chip is longer.
const MOST_BYTES: u64 = 64 << 20;

/// A file that is no dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// It can't be read.
    #[error("can't read the dump {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It can't be written.
    #[error("can't save the dump to {}: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It makes no sense.
    #[error("{} is no whole dump of registers: {problem}; make one with `opx-probe csr dump --save FILE`", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// As it is in a file.
#[derive(Debug, Serialize, Deserialize)]
struct Form {
    kind: String,
    version: u32,
    adapter: String,
    /// By name: each instance and in it each element; null for what was left alone.
    registers: BTreeMap<String, Vec<Option<String>>>,
}

/// Registers and what they held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// Whose.
    pub adapter: String,
    /// By name: each instance and in it each element.
    pub registers: BTreeMap<&'static str, (&'static Csr, Vec<Option<u64>>)>,
}

impl Dump {
    /// Reads the registers of rows that can be read.
    pub fn take<B: PciFunction>(registers: &Registers<B>, rows: &[&'static Csr]) -> Result<Self, BusError> {
        let mut all = BTreeMap::new();
        for csr in rows.iter().copied().filter(|csr| csr.access != Access::WriteOnly) {
            let values = every(csr).map(|Pick { csr, index, element }| match registers.read(csr, index, element)? {
                Reading::Value(value) => Ok(Some(value)),
                Reading::Skipped(_) => Ok(None),
            });
            all.insert(csr.name, (csr, values.collect::<Result<_, BusError>>()?));
        }
        Ok(Self { adapter: registers.bus().name().to_owned(), registers: all })
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, DumpError> {
        let unreadable = |source| DumpError::Unreadable { path: path.to_owned(), source };
        let corrupt = |problem: String| DumpError::Corrupt { path: path.to_owned(), problem };
        let mut text = Vec::new();
        let len =
            File::open(path).map_err(unreadable)?.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(unreadable)?;
        if len as u64 > MOST_BYTES {
            return Err(corrupt(format!("it is longer than {MOST_BYTES} bytes")));
        }
        let form: Form = serde_json::from_slice(&text).map_err(|error| corrupt(error.to_string()))?;
        Self::check(form).map_err(corrupt)
    }

    fn check(form: Form) -> Result<Self, String> {
        if form.kind != KIND {
            return Err(format!("its kind isn't \"{KIND}\""));
        }
        if form.version != VERSION {
            return Err(format!("its version is {}, this program knows {VERSION}", form.version));
        }
        let mut registers = BTreeMap::new();
        for (name, texts) in form.registers {
            let csr = csr::by_name(&name).ok_or_else(|| format!("no register is named `{}`", render::shown(&name)))?;
            let should = u64::from(csr.count) * u64::from(csr.len);
            if texts.len() as u64 != should {
                return Err(format!("{} has {should} values, not {}", csr.name, texts.len()));
            }
            let value = |text: Option<String>| match text {
                None => Ok(None),
                Some(text) => super::number(&text)
                    .map(Some)
                    .ok_or_else(|| format!("{}: `{}` is no value", csr.name, render::shown(&text))),
            };
            registers.insert(csr.name, (csr, texts.into_iter().map(value).collect::<Result<_, _>>()?));
        }
        Ok(Self { adapter: form.adapter, registers })
    }

    fn text(&self) -> serde_json::Result<String> {
        let value = |value: &Option<u64>| value.map(|value| format!("{value:#x}"));
        let registers =
            self.registers.iter().map(|(name, (_, values))| ((*name).to_owned(), values.iter().map(value).collect()));
        let form = Form {
            kind: KIND.to_owned(),
            version: VERSION,
            adapter: self.adapter.clone(),
            registers: registers.collect(),
        };
        Ok(serde_json::to_string(&form)? + "\n")
    }

    /// Each value that there is, and where.
    pub fn values(&self) -> impl Iterator<Item = (Pick, u64)> {
        self.registers.values().flat_map(|(csr, values)| {
            every(csr).zip(values).filter_map(|(pick, value)| value.map(|value| (pick, value)))
        })
    }
}

/// Dumps registers, to a file or to stdout.
pub fn run(places: &Places, args: &cli::CsrDump) -> anyhow::Result<Outcome> {
    let rows = crate::select::rows(&args.register)?;
    let registers = choose::adapter(places, &args.target)?;
    let dump = Dump::take(&registers, &rows)?;
    let text = dump.text()?;
    let Some(path) = &args.save else { return Ok(text.into()) };
    let unwritable = |source| DumpError::Unwritable { path: path.clone(), source };
    File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(unwritable)?;
    Ok(format!("{}: {} registers saved to {}\n", dump.adapter, dump.values().count(), path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_emu::{Config, Lab, Pacing};

    fn dump() -> Dump {
        let registers = Registers::new(Lab::new(Pacing::Virtual).add(Config::default()).bus()).unwrap();
        Dump::take(&registers, &csr::all().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_dump_is_read_back_as_it_was() {
        let dump = dump();
        assert!(dump.values().count() > 5000, "{}", dump.values().count());
        let form = serde_json::from_str(&dump.text().unwrap()).unwrap();
        assert_eq!(Dump::check(form).unwrap(), dump);
    }

    #[test]
    fn a_corrupt_file_is_one_clear_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump");
        let whole = dump().text().unwrap();
        let refusal = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let error = Dump::load(&path).unwrap_err().to_string();
            assert!(!error.contains('\n') && error.contains("is no whole dump of registers"), "{error}");
            error
        };
        refusal("");
        refusal(&whole[..whole.len() / 2]);
        refusal("[1, 2]");
        refusal("\u{0}\u{1}");
        assert!(refusal(&whole.replace("csr dump", "something")).contains("its kind isn't"));
        assert!(refusal(&whole.replace("\"version\":1", "\"version\":7")).contains("its version is 7"));
        assert!(
            refusal(&whole.replace("SEND_CTXT_CTRL", "SEND_CTXT_FROB"))
                .contains("no register is named `SEND_CTXT_FROB`")
        );
        assert!(
            refusal(&whole.replace("\"RCV_CONTEXTS\":[", "\"RCV_CONTEXTS\":[null,")).contains("has 1 values, not 2")
        );
        assert!(refusal(&whole.replace("\"RCV_CONTEXTS\":[\"0x", "\"RCV_CONTEXTS\":[\"zz")).contains("is no value"));
        assert!(Dump::load(&dir.path().join("none")).unwrap_err().to_string().starts_with("can't read the dump"));
    }
}
