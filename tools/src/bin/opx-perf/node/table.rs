//! The result of rounds on one node: medians, and our ratio to the best of the others, for near and for far processors.

use super::{Library, WINDOW};
use crate::pattern::{Job, Measured, Pattern};
use crate::report::{Line, Report};
use anyhow::Result;
use hdrhistogram::Histogram;
use std::fmt::Write;
use std::time::Duration;

/// A line that takes longer than this from one processor to the other crosses between their caches.
const FAR: Duration = Duration::from_nanos(120);

/// Of shorter messages the rate is told, not the bandwidth.
const RATE: usize = 1 << 10;

/// One round: how far the processors were apart before and after, and what each library took for each job.
struct Round {
    before: Duration,
    after: Duration,
    results: Vec<Vec<Option<Duration>>>,
}

/// All rounds.
pub struct Table {
    libraries: Vec<Library>,
    jobs: Vec<Job>,
    rounds: Vec<Round>,
}

/// Where the processors were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placement {
    Near,
    Far,
    /// It changed within the round.
    Mixed,
}

impl Placement {
    /// In a word.
    fn name(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
            Self::Mixed => "mixed",
        }
    }
}

impl Round {
    fn placement(&self) -> Placement {
        match (self.before < FAR, self.after < FAR) {
            (true, true) => Placement::Near,
            (false, false) => Placement::Far,
            _ => Placement::Mixed,
        }
    }
}

impl Table {
    /// Nothing measured yet.
    pub fn new(libraries: &[Library], jobs: &[Job]) -> Self {
        Self { libraries: libraries.to_vec(), jobs: jobs.to_vec(), rounds: Vec::new() }
    }

    /// Takes a round.
    pub fn add(&mut self, before: Duration, after: Duration, results: Vec<Vec<Option<Duration>>>) {
        self.rounds.push(Round { before, after, results });
    }

    /// The tables, as Markdown.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (placement, rounds) in self.by_placement() {
            let name = match placement {
                Placement::Near => "Processors near each other",
                Placement::Far => "Processors far apart",
                Placement::Mixed => "Rounds in which that changed",
            };
            self.write(&mut text, name, &rounds);
        }
        text
    }

    /// The same for programs and pictures. Only all messages of a measurement are timed, so that there are no percentiles.
    ///
    /// # Errors
    /// None that there is.
    pub fn report(&self) -> Result<Report> {
        let mut report = Report::new("none".to_owned(), "two processes of this node, through its memory");
        for (placement, rounds) in self.by_placement() {
            for (number, job) in self.jobs.iter().enumerate() {
                for (at, library) in self.libraries.iter().enumerate() {
                    let times = rounds.iter().filter_map(|round| *round.results.get(at)?.get(number)?);
                    let measured = times.map(|time| Ok(Measured { time, times: Histogram::new(1)? }));
                    let measured = measured.collect::<Result<Vec<_>>>()?;
                    if !measured.is_empty() {
                        let line = Line::new(&library.to_string(), job, &measured);
                        report.lines.push(Line { processors: Some(placement.name()), ..line });
                    }
                }
            }
        }
        Ok(report)
    }

    /// The rounds of each placement that there was.
    fn by_placement(&self) -> impl Iterator<Item = (Placement, Vec<&Round>)> {
        let all = [Placement::Near, Placement::Far, Placement::Mixed].into_iter();
        let with_rounds = all.map(|placement| {
            (placement, self.rounds.iter().filter(|round| round.placement() == placement).collect::<Vec<_>>())
        });
        with_rounds.filter(|(_, rounds)| !rounds.is_empty())
    }

    fn write(&self, text: &mut String, name: &str, rounds: &[&Round]) {
        let nanos = |time: Duration| time.as_nanos();
        let lines = rounds.iter().flat_map(|round| [round.before, round.after]);
        let (least, most) = (lines.clone().min().map_or(0, nanos), lines.max().map_or(0, nanos));
        // Writing to a string doesn't fail.
        let _ = writeln!(text, "**{name}**: {} rounds; a cache line takes {least} to {most} ns\n", rounds.len());
        let _ = write!(text, "| what |");
        for library in &self.libraries {
            let _ = write!(text, " {library} |");
        }
        let (ours, has_others) = (self.libraries.iter().position(Library::is_ours), self.libraries.len() > 1);
        let compared = ours.filter(|_| has_others);
        let _ = writeln!(text, "{}", if compared.is_some() { " ours to the best other |" } else { "" });
        let columns = 1 + self.libraries.len() + usize::from(compared.is_some());
        let _ = writeln!(text, "{}|", "|---".repeat(columns));
        for (number, job) in self.jobs.iter().enumerate() {
            let values: Vec<Option<f64>> =
                (0..self.libraries.len()).map(|at| median(job, rounds, at, number)).collect();
            let _ = write!(text, "| {} |", what(job));
            for value in &values {
                let _ = write!(text, " {} |", value.map_or("–".to_owned(), digits));
            }
            if let Some(ours) = compared {
                let others = values.iter().enumerate().filter(|(at, _)| *at != ours).filter_map(|(_, value)| *value);
                let better = if job.pattern.is_latency() { f64::min } else { f64::max };
                let ratio = values.get(ours).copied().flatten().zip(others.reduce(better));
                let _ =
                    write!(text, " {} |", ratio.map_or("–".to_owned(), |(ours, best)| format!("{:.2}", ours / best)));
            }
            text.push('\n');
        }
        text.push('\n');
    }
}

/// What a row says.
fn what(job: &Job) -> String {
    let size = match job.size {
        size if size >= 1 << 20 => format!("{} MiB", size >> 20),
        size if size >= 1 << 10 => format!("{} KiB", size >> 10),
        size => format!("{size} B"),
    };
    let memory = if job.rotating { ", in memory that rotates" } else { "" };
    let name = match job.pattern {
        Pattern::Latency => "half round trip".to_owned(),
        Pattern::Bandwidth if job.size < RATE => "messages".to_owned(),
        other => other.name(),
    };
    let window = if job.pattern.is_latency() || job.window == WINDOW {
        String::new()
    } else {
        format!(", {} at a time", job.window)
    };
    match job.pattern {
        latency if latency.is_latency() => format!("{name}, {size}{memory}: us"),
        Pattern::Bandwidth if job.size < RATE => format!("{name} of {size}{window}{memory}: M/s"),
        _ if job.size < RATE => format!("{name}, {size}{window}{memory}: M/s"),
        _ => format!("{name}, {size}{window}{memory}: GB/s"),
    }
}

/// The median of a library's rounds.
fn median(job: &Job, rounds: &[&Round], library: usize, number: usize) -> Option<f64> {
    let times = rounds.iter().filter_map(|round| (*round.results.get(library)?.get(number)?)?.as_secs_f64().into());
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    let time = times.get(times.len() / 2)?;
    let messages = job.count as f64;
    Some(match job.pattern {
        Pattern::Latency => time * 1e6 / messages / 2.0,
        latency if latency.is_latency() => time * 1e6 / messages,
        _ if job.size < RATE => messages / time / 1e6,
        _ => messages * job.size as f64 / time / 1e9,
    })
}

fn digits(value: f64) -> String {
    if value < 10.0 { format!("{value:.3}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_told_by_placement_with_their_medians() {
        let jobs = super::super::jobs(Some(1000));
        let libraries = ["ucx", "mpich"].map(|name| name.parse().unwrap());
        let mut table = Table::new(&libraries, &jobs);
        let nanos = Duration::from_nanos;
        for (before, after, micros) in [(50, 60, 4), (50, 60, 2), (60, 50, 9), (250, 240, 8), (50, 250, 1)] {
            let ucx = jobs.iter().map(|job| (!job.rotating).then_some(Duration::from_micros(1000 * micros)));
            let mpich = jobs.iter().map(|_| Some(Duration::from_micros(2000 * micros)));
            table.add(nanos(before), nanos(after), vec![ucx.collect(), mpich.collect()]);
        }
        let text = table.text();
        assert!(text.contains("near each other**: 3 rounds; a cache line takes 50 to 60 ns"), "{text}");
        assert!(text.contains("far apart**: 1 rounds") && text.contains("changed**: 1 rounds"), "{text}");
        // Half of a round trip, the median of 2, 4 and 9 us.
        assert!(text.contains("| half round trip, 8 B: us | 2.000 | 4.000 |"), "{text}");
        assert!(text.contains("in memory that rotates: GB/s | – | "), "{text}");

        let report = table.report().unwrap();
        // Two libraries, of which one has nothing of what rotates, in three placements.
        let rotating = jobs.iter().filter(|job| job.rotating).count();
        assert_eq!(report.lines.len(), 3 * (2 * jobs.len() - rotating));
        let near = report.lines.iter().find(|line| line.processors == Some("near") && line.transport == "ucx").unwrap();
        assert_eq!((near.size, near.rounds, near.microseconds), (8, 3, 2.0));
        assert!(report.lines.iter().any(|line| line.rotating && line.transport == "mpich"));
    }

    #[test]
    fn operations_on_memory_are_told_by_their_names() {
        let job = |pattern, size, window| super::super::job(pattern, size, window, false, Some(10));
        for (job, expected) in [
            (job(Pattern::WriteLatency, 8, 1), "write-latency, 8 B: us"),
            (job(Pattern::Read, 8, 16), "read, 8 B, 16 at a time: M/s"),
            (job(Pattern::Fetch, 4096, WINDOW), "fetch, 4 KiB: GB/s"),
            (job(Pattern::Bandwidth, 0, 1), "messages of 0 B, 1 at a time: M/s"),
        ] {
            assert_eq!(what(&job), expected);
        }
    }
}
