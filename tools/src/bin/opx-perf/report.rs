//! What was measured: a table for people, JSON for programs.

use crate::pattern::{Job, Measured, Pattern};
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;

/// Version of the JSON form; a change that could break a reader raises it.
const JSON_VERSION: u32 = 1;
/// Columns of a bar of the histogram.
const BAR: u64 = 40;

/// One measurement of one transport.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The transport.
    pub transport: String,
    /// The pattern.
    pub pattern: Pattern,
    /// Bytes of a message.
    pub size: usize,
    /// Messages under way at a time.
    pub window: u32,
    /// Whether each message was in other memory than those before.
    pub rotating: bool,
    /// How the two ends' processors were to each other, of two processes of one node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processors: Option<&'static str>,
    /// Messages that count, of all rounds.
    pub messages: u64,
    /// Rounds.
    pub rounds: usize,
    /// Microseconds a message or an operation, median of the rounds: half of the round trip of a ping-pong.
    pub microseconds: f64,
    /// The best round.
    pub best_microseconds: f64,
    /// Megabytes (10^6 bytes) per second, median of the rounds.
    pub megabytes_per_second: f64,
    /// Messages per second, median of the rounds.
    pub messages_per_second: f64,
    /// Percentiles of half the round trip, or of an operation, in microseconds; only where each was timed.
    pub percentiles: Option<Percentiles>,
    /// How often that took up to so many nanoseconds.
    pub histogram: Vec<Bucket>,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Percentiles {
    /// The fastest.
    pub min: f64,
    /// Half were faster.
    pub p50: f64,
    /// Nine in ten were.
    pub p90: f64,
    /// 99 in a hundred.
    pub p99: f64,
    /// 999 in a thousand.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

/// One step of a histogram; steps double.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Longest time in it.
    pub up_to_ns: u64,
    /// How many there were.
    pub count: u64,
}

impl Line {
    /// Puts the rounds of one measurement together; there is at least one.
    pub fn new(transport: &str, job: &Job, rounds: &[Measured]) -> Self {
        let per_round = job.count.max(1) as f64 * if job.pattern == Pattern::Latency { 2.0 } else { 1.0 };
        let mut times: Vec<f64> = rounds.iter().map(|round| round.time.as_secs_f64() * 1e6 / per_round).collect();
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
        let mut halves = hdrhistogram::Histogram::<u64>::new(3).ok();
        if let Some(all) = &mut halves {
            // Both have three digits, so nothing is refused.
            rounds.iter().for_each(|round| all.add(&round.times).unwrap_or_default());
        }
        let halves = halves.filter(|all| !all.is_empty());
        let percentiles = halves.as_ref().map(|all| {
            let micros = |ns: u64| ns as f64 / 1e3;
            let at = |share| micros(all.value_at_quantile(share));
            Percentiles {
                min: micros(all.min()),
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: micros(all.max()),
            }
        });
        let histogram = halves.map(|all| {
            let steps = all
                .iter_log(64, 2.0)
                .map(|step| Bucket { up_to_ns: step.value_iterated_to(), count: step.count_since_last_iteration() });
            steps.skip_while(|bucket| bucket.count == 0).collect()
        });
        Self {
            transport: transport.to_owned(),
            pattern: job.pattern,
            size: job.size,
            window: job.window,
            rotating: job.rotating,
            processors: None,
            messages: job.count * rounds.len() as u64,
            rounds: rounds.len(),
            microseconds: median,
            best_microseconds: times.first().copied().unwrap_or(f64::NAN),
            megabytes_per_second: job.size as f64 / median,
            messages_per_second: 1e6 / median,
            percentiles,
            histogram: histogram.unwrap_or_default(),
        }
    }
}

/// A whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// The adapter.
    pub adapter: String,
    /// Both ends in one process and on one thread, or one end of two.
    pub ends: &'static str,
    /// The measurements.
    pub lines: Vec<Line>,
}

impl Report {
    /// Nothing measured yet.
    pub fn new(adapter: String, ends: &'static str) -> Self {
        Self { version: JSON_VERSION, adapter, ends, lines: Vec::new() }
    }

    /// The table.
    pub fn text(&self, with_histograms: bool) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header([
            "transport",
            "pattern",
            "bytes",
            "window",
            "messages",
            "us",
            "best us",
            "p50",
            "p99",
            "max",
            "MB/s",
            "M msg/s",
        ]);
        for line in &self.lines {
            let percentile = |get: fn(&Percentiles) -> f64| {
                line.percentiles.as_ref().map_or_else(String::new, |all| format!("{:.3}", get(all)))
            };
            table.add_row([
                Cell::new(&line.transport),
                Cell::new(line.pattern.name()),
                number(line.size.to_string()),
                number(line.window.to_string()),
                number(line.messages.to_string()),
                number(format!("{:.3}", line.microseconds)),
                number(format!("{:.3}", line.best_microseconds)),
                number(percentile(|all| all.p50)),
                number(percentile(|all| all.p99)),
                number(percentile(|all| all.max)),
                number(format!("{:.1}", line.megabytes_per_second)),
                number(format!("{:.3}", line.messages_per_second / 1e6)),
            ]);
        }
        let mut text = table.trim_fmt();
        if with_histograms {
            self.lines.iter().filter(|line| !line.histogram.is_empty()).for_each(|line| text += &bars(line));
        }
        text
    }
}

/// A histogram in letters.
fn bars(line: &Line) -> String {
    let most = line.histogram.iter().map(|bucket| bucket.count).max().unwrap_or(0).max(1);
    let what = if line.pattern == Pattern::Latency { ", half round trips" } else { "" };
    let mut text = format!("\n\n{} {} of {} bytes{what}:", line.transport, line.pattern.name(), line.size);
    for bucket in &line.histogram {
        let bar = "#".repeat((bucket.count * BAR).div_ceil(most) as usize);
        text += &format!("\n{:>10} ns {:>9}  {bar}", bucket.up_to_ns, bucket.count);
    }
    text
}

fn number(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use std::time::Duration;

    fn measured(micros: u64, halves: &[u64]) -> Measured {
        let mut all = Histogram::new(3).unwrap();
        halves.iter().for_each(|half| all.record(*half).unwrap());
        Measured { time: Duration::from_micros(micros), times: all }
    }

    #[test]
    fn rounds_become_their_median_and_the_best() {
        let job = Job { pattern: Pattern::Bandwidth, size: 1000, window: 8, warmup: 0, count: 10, rotating: false };
        let line = Line::new("x", &job, &[measured(50, &[]), measured(20, &[]), measured(30, &[])]);
        assert_eq!((line.microseconds, line.best_microseconds, line.messages), (3.0, 2.0, 30));
        assert!((line.megabytes_per_second - 333.3).abs() < 0.1);
        assert!(line.percentiles.is_none() && line.histogram.is_empty());
    }

    #[test]
    fn a_ping_pong_is_told_by_half_of_its_round_trip() {
        let job = Job { pattern: Pattern::Latency, size: 8, window: 1, warmup: 0, count: 4, rotating: false };
        let line = Line::new("x", &job, &[measured(8, &[500, 900, 1000, 9000])]);
        assert_eq!(line.microseconds, 1.0);
        let percentiles = line.percentiles.unwrap();
        assert_eq!((percentiles.min, percentiles.p50), (0.5, 0.9));
        assert_eq!(line.histogram.iter().map(|bucket| bucket.count).sum::<u64>(), 4);
        assert!(line.histogram[0].count > 0, "{:?}", line.histogram);
    }
}
