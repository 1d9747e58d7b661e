//! What a run found: a table for people, JSON for programs.

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;
use std::time::Duration;

/// Version of the JSON form; a change that could break a reader raises it.
const JSON_VERSION: u32 = 1;

/// How a rung ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "reason", rename_all = "snake_case")]
pub enum Verdict {
    /// All of it was right.
    Passed,
    /// Something wasn't.
    Failed(String),
    /// It can't run on this adapter; it counts as neither.
    NotRun(String),
}

/// What a rung counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Messages (or packets, or accesses: the rung's unit of work).
    pub messages: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Faults injected.
    pub faults: u64,
    /// Packets sent again.
    pub retransmits: u64,
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The rung.
    pub rung: &'static str,
    /// What it counted.
    #[serde(flatten)]
    pub tally: Tally,
    /// How long it took, by the adapter's clock.
    #[serde(serialize_with = "seconds", rename = "seconds")]
    pub time: Duration,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// SHA-256 of a file's bytes, where they left and where they arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileHashes {
    /// Of what was sent, when this process sent it.
    pub sent: Option<String>,
    /// Of what arrived, when it arrived at this process.
    pub arrived: Option<String>,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// The adapter.
    pub adapter: String,
    /// Seed of faults and data.
    pub seed: u64,
    /// Whether time was simulated.
    pub virtual_time: bool,
    /// The rungs, in order.
    pub rungs: Vec<Line>,
    /// The file, if one was sent.
    pub file: Option<FileHashes>,
    /// Whether every rung passed.
    pub passed: bool,
}

impl Report {
    /// An empty report.
    pub fn new(adapter: String, seed: u64, virtual_time: bool) -> Self {
        Self { version: JSON_VERSION, adapter, seed, virtual_time, rungs: Vec::new(), file: None, passed: false }
    }

    /// Closes the report: a run passes when at least one rung ran and all of them passed.
    pub fn close(&mut self) {
        self.passed = !self.rungs.is_empty() && self.rungs.iter().all(|line| line.verdict == Verdict::Passed);
    }

    /// The table, and below it the file's hashes.
    pub fn text(&self) -> String {
        let mut text = self.table();
        if let Some(FileHashes { sent, arrived }) = &self.file {
            for (what, hash) in [("sent", sent), ("arrived", arrived)] {
                if let Some(hash) = hash {
                    text.push_str(&format!("\n{what:<8} SHA-256 {hash}"));
                }
            }
        }
        text
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table
            .load_style(presets::UTF8_HORIZONTAL_ONLY)
            .set_header(["rung", "messages", "bytes", "faults", "resent", "time", "rate", "verdict"]);
        for line in &self.rungs {
            let (verdict, ran) = match &line.verdict {
                Verdict::Passed => ("passed".to_owned(), true),
                Verdict::Failed(why) => (format!("FAILED: {why}"), true),
                Verdict::NotRun(why) => (format!("not run: {why}"), false),
            };
            let number =
                |text: String| Cell::new(if ran { text } else { "-".to_owned() }).set_alignment(CellAlignment::Right);
            table.add_row([
                Cell::new(line.rung),
                number(line.tally.messages.to_string()),
                number(line.tally.bytes.to_string()),
                number(line.tally.faults.to_string()),
                number(line.tally.retransmits.to_string()),
                number(time(line.time)),
                number(rate(line.tally.bytes, line.time)),
                Cell::new(verdict),
            ]);
        }
        table.to_string()
    }
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

fn rate(bytes: u64, time: Duration) -> String {
    if bytes == 0 || time.is_zero() {
        return "-".to_owned();
    }
    match bytes as f64 / time.as_secs_f64() {
        r if r < 1e6 => format!("{:.1} kB/s", r / 1e3),
        r if r < 1e9 => format!("{:.1} MB/s", r / 1e6),
        r => format!("{:.2} GB/s", r / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(verdict: Verdict) -> Line {
        Line { rung: "x", tally: Tally::default(), time: Duration::ZERO, verdict }
    }

    #[test]
    fn a_run_passes_only_if_every_rung_ran_and_passed() {
        let passes = |verdicts: &[Verdict]| {
            let mut report = Report::new("emulated".to_owned(), 1, false);
            report.rungs = verdicts.iter().cloned().map(line).collect();
            report.close();
            report.passed
        };
        assert!(!passes(&[]));
        assert!(passes(&[Verdict::Passed, Verdict::Passed]));
        assert!(!passes(&[Verdict::Passed, Verdict::Failed("x".to_owned())]));
        assert!(!passes(&[Verdict::Passed, Verdict::NotRun("x".to_owned())]));
    }
}
