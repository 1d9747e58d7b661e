//! The table of results: Markdown to be read and quoted, JSON for programs.

use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// What a value should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
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

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    name: String,
    value: f64,
    unit: String,
    goal: Goal,
    met: bool,
}

/// Results of one bench.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    bench: String,
    machine: String,
    rows: Vec<Row>,
}

impl Table {
    /// An empty table of the bench `bench`.
    pub fn new(bench: &str) -> Self {
        Self { bench: bench.to_owned(), machine: machine(), rows: Vec::new() }
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
        let mut text = format!(
            "# {} on {}\n\n| what | value | unit | goal | met |\n|---|---|---|---|---|\n",
            self.bench, self.machine
        );
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

/// The processor's name.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("an unknown processor", |(_, name)| name).trim().to_owned()
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
