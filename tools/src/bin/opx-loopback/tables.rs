//! The tables of a report, as the terminal and the page show them: columns, numbers with their digits, and what a verdict is called.

use crate::report::{Report, Verdict, rate, time};
use crate::sweep::LINK_GBPS;
use comfy_table::{Cell, CellAlignment, presets};

/// Columns that hold words; all others hold numbers.
const OF_WORDS: [&str; 2] = ["rung", "verdict"];

/// A table.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// What it is about.
    pub title: &'static str,
    /// What the columns hold.
    pub header: Vec<String>,
    /// As many cells each.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    fn new<const N: usize>(title: &'static str, header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> Self {
        Self { title, header: header.map(str::to_owned).into(), rows: rows.map(Vec::from).collect() }
    }

    /// The rungs, in order.
    pub fn rungs(report: &Report) -> Self {
        let rows = report.rungs.iter().map(|line| {
            let (verdict, ran) = match &line.verdict {
                Verdict::Passed => ("passed".to_owned(), true),
                Verdict::Failed(why) => (format!("FAILED: {why}"), true),
                Verdict::NotRun(why) => (format!("not run: {why}"), false),
            };
            let number = |text: String| if ran { text } else { "-".to_owned() };
            [
                line.rung.to_owned(),
                number(line.tally.messages.to_string()),
                number(line.tally.bytes.to_string()),
                number(line.tally.faults.to_string()),
                number(line.tally.retransmits.to_string()),
                number(time(line.time)),
                number(rate(line.tally.bytes, line.time)),
                verdict,
            ]
        });
        Self::new("rungs", ["rung", "messages", "bytes", "faults", "resent", "time", "rate", "verdict"], rows)
    }

    /// Latency by size; none when it wasn't measured.
    pub fn latency(report: &Report) -> Option<Self> {
        let rows = report.latency.iter().map(|row| {
            let [min, p50, p99, max] = [row.min_us, row.p50_us, row.p99_us, row.max_us].map(|us| format!("{us:.2}"));
            [row.size.to_string(), row.messages.to_string(), min, p50, p99, max]
        });
        let header = ["bytes", "messages", "least µs", "half µs", "99 % µs", "most µs"];
        (!report.latency.is_empty()).then(|| Self::new("latency", header, rows))
    }

    /// Bandwidth by size; none when it wasn't measured.
    pub fn bandwidth(report: &Report) -> Option<Self> {
        let rows = report.bandwidth.iter().map(|row| {
            let [min, median, max] = [row.gbps.min, row.gbps.median, row.gbps.max].map(|gbps| format!("{gbps:.3}"));
            let messages = (row.messages * row.rounds as u64).to_string();
            let share = format!("{:.1} %", row.share_of_link * 100.0);
            let copied = if row.copied { "yes" } else { "no" };
            [row.size.to_string(), row.window.to_string(), messages, min, median, max, share, copied.to_owned()]
        });
        let of_link = format!("of {LINK_GBPS:.1} Gb/s");
        let header =
            ["bytes", "window", "messages", "least Gb/s", "median Gb/s", "most Gb/s", of_link.as_str(), "copied"];
        (!report.bandwidth.is_empty()).then(|| Self::new("bandwidth", header, rows))
    }

    /// For a terminal; with its title before the first column's, unless that says it.
    pub fn text(&self) -> String {
        let mut table = comfy_table::Table::new();
        let is_of_words: Vec<bool> = self.header.iter().map(|name| OF_WORDS.contains(&name.as_str())).collect();
        let mut header = self.header.clone();
        if let ([false, ..], Some(first)) = (&is_of_words[..], header.first_mut()) {
            *first = format!("{}: {first}", self.title);
        }
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
        for row in &self.rows {
            table.add_row(row.iter().zip(&is_of_words).map(|(cell, is_of_words)| {
                let side = if *is_of_words { CellAlignment::Left } else { CellAlignment::Right };
                Cell::new(cell).set_alignment(side)
            }));
        }
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use crate::report::{Bandwidth, Line, Spread, Tally, TimesOf};
    use crate::safety::FoundLink;
    use std::time::Duration;

    fn report() -> Report {
        Report::new(Level::Full, "emulated".to_owned(), FoundLink::Down, TimesOf::Emulator, 1)
    }

    #[test]
    fn a_rung_that_wasnt_run_has_no_numbers() {
        let mut report = report();
        let verdict = Verdict::NotRun("why".to_owned());
        report.rungs.push(Line { rung: "x", tally: Tally::default(), time: Duration::ZERO, verdict });
        let table = Table::rungs(&report);
        assert_eq!(table.rows, [["x", "-", "-", "-", "-", "-", "-", "not run: why"].map(str::to_owned)]);
    }

    #[test]
    fn what_wasnt_measured_has_no_table() {
        let mut report = report();
        assert_eq!((Table::latency(&report), Table::bandwidth(&report)), (None, None));
        let gbps = Spread { min: 1.0, median: 48.0, max: 50.0 };
        let (size, window, messages, rounds) = (64, 4, 10, 5);
        report.bandwidth.push(Bandwidth { size, window, messages, rounds, copied: true, gbps, share_of_link: 0.5 });
        let table = Table::bandwidth(&report).unwrap();
        assert_eq!(table.rows[0], ["64", "4", "50", "1.000", "48.000", "50.000", "50.0 %", "yes"]);
        assert!(table.text().contains("bandwidth: bytes") && table.text().contains("of 96.0 Gb/s"));
    }
}
