//! The table of results: Markdown to be read and quoted, JSON for programs.

use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::path::PathBuf;

/// What a value should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// It is only told.
    None,
    /// No more than that.
    AtMost(f64),
    /// No less than that.
    AtLeast(f64),
}

impl Goal {
    fn met(self, value: f64) -> bool {
        match self {
            Self::None => true,
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    fn text(self) -> String {
        match self {
            Self::None => String::new(),
            Self::AtMost(most) => format!("at most {most}"),
            Self::AtLeast(least) => format!("at least {least}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    name: String,
    value: f64,
    unit: String,
    goal: Goal,
    met: bool,
}

impl Row {
    /// Whether it depends on the machine and on what else runs there.
    fn is_rate(&self) -> bool {
        ["ns", "1/s", "GB/s"].contains(&self.unit.as_str())
    }
}

/// Results of one bench.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    bench: String,
    machine: String,
    /// Each case ran a few times only.
    short: bool,
    rows: Vec<Row>,
}

/// The tables of all benches.
#[derive(Debug, Serialize)]
struct Report {
    machine: String,
    /// Runnable threads on average over the last minute: times say little on a machine that does other things.
    load: String,
    benches: Vec<Table>,
}

impl Table {
    /// An empty table of the bench `bench`.
    pub fn new(bench: &str) -> Self {
        Self { bench: bench.to_owned(), machine: machine(), short: crate::is_short(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn add(&mut self, name: &str, value: f64, unit: &str, goal: Goal) {
        let met = goal.met(value);
        self.rows.push(Row { name: name.to_owned(), value, unit: unit.to_owned(), goal, met });
    }

    /// Whether each value is what it should be.
    pub fn met(&self) -> bool {
        self.rows.iter().all(|row| row.met)
    }

    /// The table to be read.
    pub fn markdown(&self) -> String {
        format!("# {} on {}\n\n{}", self.bench, self.machine, self.lines())
    }

    fn lines(&self) -> String {
        let mut text = "| what | value | unit | goal | met |\n|---|---|---|---|---|\n".to_owned();
        for Row { name, value, unit, goal, met } in &self.rows {
            let met = match (goal, met) {
                (Goal::None, _) => "",
                (_, true) => "yes",
                (_, false) => "NO",
            };
            // Whole numbers as they are, others to a tenth.
            let value = if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.1}") };
            let _ = writeln!(text, "| {name} | {value} | {unit} | {} | {met} |", goal.text());
        }
        text
    }

    /// Prints the table and writes it to `opx-bench/BENCH.md` and `.json` in cargo's target directory.
    ///
    /// # Errors
    /// When the files can't be written.
    pub fn write(&self) -> std::io::Result<()> {
        let dir = target_dir()?.join("opx-bench");
        std::fs::create_dir_all(&dir)?;
        let text = self.markdown();
        std::fs::write(dir.join(format!("{}.md", self.bench)), &text)?;
        std::fs::write(dir.join(format!("{}.json", self.bench)), serde_json::to_string_pretty(self)?)?;
        println!("{text}");
        Ok(())
    }
}

/// Joins the tables that the benches have written, prints the result and writes it to `all.md` and `all.json` beside them.
/// Tells whether each goal is met that doesn't depend on time.
///
/// # Errors
/// When no bench has run, or a file can't be read or written.
pub fn report() -> std::io::Result<bool> {
    let dir = target_dir()?.join("opx-bench");
    let mut benches = Vec::new();
    for entry in std::fs::read_dir(&dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "json") && path.file_stem().is_some_and(|name| name != "all") {
            benches.push(serde_json::from_str::<Table>(&std::fs::read_to_string(path)?)?);
        }
    }
    if benches.is_empty() {
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no bench has run"));
    }
    benches.sort_by(|a, b| a.bench.cmp(&b.bench));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let report = Report { machine: machine(), load: load.split(' ').next().unwrap_or_default().to_owned(), benches };
    let mut text = format!("{}; load {}\n", report.machine, report.load);
    for table in &report.benches {
        let short = if table.short { " (short run: times mean nothing)" } else { "" };
        let _ = write!(text, "\n**{}**{short}\n\n{}", table.bench, table.lines());
    }
    std::fs::write(dir.join("all.md"), &text)?;
    std::fs::write(dir.join("all.json"), serde_json::to_string_pretty(&report)?)?;
    println!("{text}");
    Ok(report.benches.iter().flat_map(|table| &table.rows).all(|row| row.met || row.is_rate()))
}

/// The processor's name, how many there are, and the kernel.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, name)| name).trim();
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {count} processors, Linux {}", kernel.trim())
}

/// Where cargo builds: the folder above this program that it marked.
fn target_dir() -> std::io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let marked = program.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
    Ok(marked.map_or_else(|| PathBuf::from("target"), PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_compared_and_shown() {
        let mut table = Table::new("sample");
        table.add("fast", 59.0, "instructions", Goal::AtMost(60.0));
        table.add("just told", 1.25, "ns", Goal::None);
        assert!(table.met());
        table.add("slow", 61.0, "instructions", Goal::AtMost(60.0));
        assert!(!table.met());
        let text = table.markdown();
        assert!(text.contains("| fast | 59 | instructions | at most 60 | yes |"), "{text}");
        assert!(text.contains("| just told | 1.2 | ns |  |  |"), "{text}");
        assert!(text.contains("| slow | 61 | instructions | at most 60 | NO |"), "{text}");
    }
}
