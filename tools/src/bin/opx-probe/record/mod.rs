//! `opx-probe record`: the flight recorders of a process that runs or has ended, and state dumps, rendered for reading.

mod dump;
mod find;
mod row;

use crate::cli::Record;
use crate::places::Places;
use crate::view::pairs;
use crate::{Outcome, render};
use dump::Dump;
use find::{Process, Sought};
use opx_stack::observe::recorder::Reader;
use row::Row;
use serde::Serialize;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// No state dump is longer (docs/observability.md); of a longer file so much is read.
const MOST_BYTES: u64 = 16 << 20;

/// All that was asked for.
#[derive(Debug, Serialize)]
struct Records {
    version: u32,
    /// The process that was named; none when a file was.
    process: Option<Process>,
    /// Flight recorders.
    recorders: Vec<Recorder>,
    /// State dumps.
    dumps: Vec<Dump>,
}

/// A flight recorder.
#[derive(Debug, Serialize)]
struct Recorder {
    /// Its file.
    file: String,
    /// The process that wrote it.
    process: u32,
    /// The endpoint, as "LID/context".
    endpoint: String,
    /// The generation of OPX's packets that it speaks, "G1" to "G4".
    generation: String,
    /// What is recorded, oldest first.
    records: Vec<Row>,
}

impl Recorder {
    fn read(path: &Path, last: Option<usize>) -> anyhow::Result<Self> {
        let reader = Reader::open(path)?;
        let me = reader.endpoint;
        let rows = reader.records()?.iter().map(|record| Row::new(record, reader.generation, me)).collect();
        Ok(Self {
            file: path.display().to_string(),
            process: reader.process,
            endpoint: format!("{}/{}", me.lid, me.rx),
            generation: format!("{:?}", reader.generation),
            records: row::last(rows, last),
        })
    }

    fn text(&self) -> String {
        let mut text = pairs([
            ("flight recorder", self.file.clone()),
            ("process", self.process.to_string()),
            ("endpoint", format!("{}, speaks {}", self.endpoint, self.generation)),
        ]);
        text += &row::table(&self.records);
        text
    }
}

/// Shows them.
pub fn run(places: &Places, args: &Record) -> anyhow::Result<Outcome> {
    let mut all = Records { version: render::JSON_VERSION, process: None, recorders: Vec::new(), dumps: Vec::new() };
    match find::sought(places, args)? {
        Sought::File(path) => all.take(&path, args.last)?,
        Sought::Process(process, files) => {
            all.process = Some(process);
            files.iter().try_for_each(|path| all.take(path, args.last))?;
        }
    }
    let text = if args.json { render::json(&all)? } else { all.text(args.all) };
    Ok(text.into())
}

impl Records {
    /// Reads a file of either kind.
    fn take(&mut self, path: &Path, last: Option<usize>) -> anyhow::Result<()> {
        let unreadable = |error| anyhow::anyhow!("can't read {}: {error}", path.display());
        let mut start = Vec::new();
        let mut file = File::open(path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.is_dir() {
            anyhow::bail!("{} is a folder; name a file in it, .rec or .out", path.display());
        }
        file.by_ref().take(8).read_to_end(&mut start).map_err(unreadable)?;
        // State dumps begin with the process's number in parentheses.
        if start.first() != Some(&b'(') {
            self.recorders.push(Recorder::read(path, last)?);
            return Ok(());
        }
        file.take(MOST_BYTES).read_to_end(&mut start).map_err(unreadable)?;
        self.dumps.push(Dump::read(path, &String::from_utf8_lossy(&start), last)?);
        Ok(())
    }

    fn text(&self, all: bool) -> String {
        let mut parts = Vec::new();
        if let Some(process) = &self.process {
            parts.push(process.text());
        }
        parts.extend(self.recorders.iter().map(Recorder::text));
        parts.extend(self.dumps.iter().map(|dump| dump.text(all)));
        parts.join("\n")
    }
}
