//! `opx-probe record`: the flight recorders of a process that runs or has ended, and state dumps, rendered for reading.

mod dump;
mod file;
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
use std::io::Read;
use std::path::Path;

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
    /// Files of the process that make no sense, or none yet.
    unread: Vec<Unread>,
}

/// A file that isn't shown.
#[derive(Debug, Serialize)]
struct Unread {
    /// The file.
    file: String,
    /// Why.
    problem: String,
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
    let mut all = Records {
        version: render::JSON_VERSION,
        process: None,
        recorders: Vec::new(),
        dumps: Vec::new(),
        unread: Vec::new(),
    };
    match find::sought(places, args)? {
        Sought::File(path) => all.take(&path, args.last)?,
        Sought::Process(process, files) => {
            all.process = Some(process);
            for path in &files {
                if let Err(error) = all.take(path, args.last) {
                    // A dump may be half written, or be an older process's; the others are none the worse.
                    let file = render::shown(&path.display().to_string());
                    all.unread.push(Unread { file, problem: format!("{error:#}") });
                }
            }
            if let (true, true, [first, ..]) = (all.recorders.is_empty(), all.dumps.is_empty(), &all.unread[..]) {
                anyhow::bail!("{}", first.problem);
            }
        }
    }
    let text = if args.json { render::json(&all)? } else { all.text(args.all) };
    Ok(text.into())
}

impl Records {
    /// Reads a file of either kind.
    fn take(&mut self, path: &Path, last: Option<usize>) -> anyhow::Result<()> {
        let unreadable = |error| anyhow::anyhow!("can't read {}: {error}", path.display());
        let mut first = Vec::new();
        file::open(path).and_then(|file| file.take(1).read_to_end(&mut first)).map_err(unreadable)?;
        // State dumps begin with the process's number in parentheses.
        if first == b"(" {
            let text = file::bytes(path).map_err(unreadable)?;
            self.dumps.push(Dump::read(path, &String::from_utf8_lossy(&text), last)?);
        } else {
            self.recorders.push(Recorder::read(path, last)?);
        }
        Ok(())
    }

    fn text(&self, all: bool) -> String {
        let mut parts = Vec::new();
        if let Some(process) = &self.process {
            parts.push(process.text());
        }
        parts.extend(self.recorders.iter().map(Recorder::text));
        parts.extend(self.dumps.iter().map(|dump| dump.text(all)));
        parts.extend(self.unread.iter().map(|unread| format!("not shown: {}\n", unread.problem)));
        parts.join("\n")
    }
}
