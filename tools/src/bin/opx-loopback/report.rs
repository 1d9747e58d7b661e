//! What a run found: tables for people, JSON for programs. docs/opx-loopback.md has the form of the JSON.

use crate::level::Level;
use crate::node::Node;
use crate::safety::FoundLink;
use crate::tables::Table;
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

impl Line {
    /// Adds another round of the same rung, that with `seed`. A round that wasn't begun says nothing.
    pub fn add(&mut self, round: &Self, seed: u64) {
        let Tally { messages, bytes, faults, retransmits } = round.tally;
        match &round.verdict {
            Verdict::NotRun(_) => return,
            Verdict::Passed => {}
            Verdict::Failed(why) => self.verdict = Verdict::Failed(format!("with --seed {seed}: {why}")),
        }
        self.tally.messages += messages;
        self.tally.bytes += bytes;
        self.tally.faults += faults;
        self.tally.retransmits += retransmits;
        self.time += round.time;
    }
}

/// SHA-256 of a file's bytes, where they left and where they arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileHashes {
    /// Of what was sent, when this process sent it.
    pub sent: Option<String>,
    /// Of what arrived, when it arrived at this process.
    pub arrived: Option<String>,
}

/// What the times are of: a reader must not take a model's for silicon's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimesOf {
    /// An adapter of this machine.
    Hardware,
    /// An emulated adapter that works as fast as it can.
    Emulator,
    /// An emulated adapter on a simulated clock.
    SimulatedClock,
}

impl TimesOf {
    /// What has to be said beside every time; nothing for hardware.
    pub fn caution(self) -> Option<&'static str> {
        match self {
            Self::Hardware => None,
            Self::Emulator => {
                Some("Times and rates are those of an emulated adapter: they tell how fast the model is, not the chip.")
            }
            Self::SimulatedClock => {
                Some("Times are SIMULATED: the clock is the model's, and no rate here is one of silicon.")
            }
        }
    }
}

/// How long messages of a size take from one end to the other: half of each round trip.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// Bytes of a message.
    pub size: usize,
    /// Round trips that count.
    pub messages: u64,
    /// The fastest, microseconds.
    pub min_us: f64,
    /// Half were faster.
    pub p50_us: f64,
    /// 99 in a hundred were.
    pub p99_us: f64,
    /// The slowest.
    pub max_us: f64,
    /// How often it took how long.
    pub histogram: Vec<Bucket>,
}

/// A step of a histogram: what took longer than the step before, and at most so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Longest time in it.
    pub up_to_ns: u64,
    /// How many there were.
    pub count: u64,
}

/// How much passes in messages of a size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bandwidth {
    /// Bytes of a message.
    pub size: usize,
    /// Messages under way at a time.
    pub window: usize,
    /// Messages of a round.
    pub messages: u64,
    /// Rounds.
    pub rounds: usize,
    /// Whether a processor copies them; else they lie in memory that the adapter reaches.
    pub copied: bool,
    /// Gigabits of payload a second.
    pub gbps: Spread,
    /// The median as a share of what the link carries of payload.
    pub share_of_link: f64,
}

/// The spread of several rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of values of which there is at least one; else it is no number.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |n: usize| sorted.get(n).copied().unwrap_or(f64::NAN);
        Self { min: at(0), median: at(sorted.len() / 2), max: at(sorted.len().saturating_sub(1)) }
    }
}

/// A counter of errors that has grown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorCount {
    /// hfi1's name for it.
    pub counter: &'static str,
    /// Which context, lane or engine, where there is one for each.
    pub index: Option<u16>,
    /// What it counts.
    pub about: &'static str,
    /// What it showed when the link had come up.
    pub before: u64,
    /// What it showed at the end.
    pub after: u64,
    /// Of that, while latency and bandwidth were measured; the rungs below provoke errors, these don't.
    pub while_measuring: u64,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// How much was tried.
    pub level: Level,
    /// The adapter.
    pub adapter: String,
    /// What its link did before.
    pub found_link: FoundLink,
    /// Seed of faults and data.
    pub seed: u64,
    /// Whether time was simulated.
    pub virtual_time: bool,
    /// What the times are of.
    pub times_of: TimesOf,
    /// The rungs, in order.
    pub rungs: Vec<Line>,
    /// Latency by size.
    pub latency: Vec<Latency>,
    /// Bandwidth by size.
    pub bandwidth: Vec<Bandwidth>,
    /// Counters of errors that have grown; none when the counters weren't read at the end.
    pub errors: Option<Vec<ErrorCount>>,
    /// The file, if one was sent.
    pub file: Option<FileHashes>,
    /// Why the run ended before its time; then it didn't pass.
    pub cut_short: Option<String>,
    /// The machine; only of a report that is written to a file.
    pub node: Option<Node>,
    /// Whether every rung passed.
    pub passed: bool,
}

impl Report {
    /// An empty report.
    pub fn new(level: Level, adapter: String, found_link: FoundLink, times_of: TimesOf, seed: u64) -> Self {
        Self {
            version: JSON_VERSION,
            level,
            adapter,
            found_link,
            seed,
            virtual_time: times_of == TimesOf::SimulatedClock,
            times_of,
            rungs: Vec::new(),
            latency: Vec::new(),
            bandwidth: Vec::new(),
            errors: None,
            file: None,
            cut_short: None,
            node: None,
            passed: false,
        }
    }

    /// Closes the report: a run passes when at least one rung ran and all of them passed.
    pub fn close(&mut self) {
        let whole = self.cut_short.is_none() && !self.rungs.is_empty();
        self.passed = whole && self.rungs.iter().all(|line| line.verdict == Verdict::Passed);
    }

    /// The tables, and below them the file's hashes.
    pub fn text(&self) -> String {
        let mut text = Table::rungs(self).text();
        for table in [Table::latency(self), Table::bandwidth(self)].into_iter().flatten() {
            text += &format!("\n{}", table.text());
        }
        if let Some(caution) = self.times_of.caution() {
            text += &format!("\n{caution}");
        }
        if let Some(FileHashes { sent, arrived }) = &self.file {
            for (what, hash) in [("sent", sent), ("arrived", arrived)] {
                if let Some(hash) = hash {
                    text.push_str(&format!("\n{what:<8} SHA-256 {hash}"));
                }
            }
        }
        text
    }
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// A time as people read it.
pub fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// Bytes in a time as people read it.
pub fn rate(bytes: u64, time: Duration) -> String {
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
            let mut report = Report::new(Level::Quick, "emulated".to_owned(), FoundLink::Down, TimesOf::Emulator, 1);
            report.rungs = verdicts.iter().cloned().map(line).collect();
            report.close();
            report.passed
        };
        assert!(!passes(&[]));
        assert!(passes(&[Verdict::Passed, Verdict::Passed]));
        assert!(!passes(&[Verdict::Passed, Verdict::Failed("x".to_owned())]));
        assert!(!passes(&[Verdict::Passed, Verdict::NotRun("x".to_owned())]));
        let mut cut = Report::new(Level::Quick, "x".to_owned(), FoundLink::Down, TimesOf::Emulator, 1);
        cut.rungs = vec![line(Verdict::Passed)];
        cut.cut_short = Some("gone".to_owned());
        cut.close();
        assert!(!cut.passed);
    }
}
