//! A state dump (`opx_stack::observe::dump`), taken apart and shown in 80 columns.

use super::row::{self, Row};
use crate::render::table;
use crate::view::pairs;
use serde::Serialize;
use std::path::Path;

/// What is no state dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// Something else.
    #[error("{path} is no state dump: {problem}; name a file that an endpoint wrote at SIGUSR2")]
    Format {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A part of one.
    #[error("{path} was cut off after {lines} lines: a state dump ends with a backtrace; copy it anew")]
    Truncated {
        /// The file.
        path: String,
        /// Lines of it.
        lines: usize,
    },
}

/// All that it tells.
#[derive(Debug, Serialize)]
pub struct Dump {
    /// The file.
    file: String,
    /// The process that wrote it.
    process: u32,
    /// The endpoint, as "LID/context".
    endpoint: String,
    /// Its adapter.
    adapter: String,
    /// Queues, counters, credits, rings.
    sections: Vec<Section>,
    /// From each peer.
    receive_flows: Vec<ReceiveFlow>,
    /// To each peer.
    send_flows: Vec<SendFlow>,
    /// The flight recorder; empty without one.
    records: Vec<Row>,
    /// Where the caller of `progress` was.
    backtrace: Vec<String>,
}

/// Values under a title.
#[derive(Debug, Serialize)]
struct Section {
    title: String,
    values: Vec<Value>,
}

/// One of them.
#[derive(Debug, Serialize)]
struct Value {
    name: String,
    value: String,
}

/// What comes from a peer.
#[derive(Debug, Serialize)]
struct ReceiveFlow {
    /// "LID.context" of the peer, hexadecimal as OPX writes it.
    peer: String,
    /// The next number that is expected.
    expected_psn: String,
    /// Packets that came early and are kept, and the first and last of them; hexadecimal.
    early: String,
    first_psn: String,
    last_psn: String,
}

/// What goes to a peer.
#[derive(Debug, Serialize)]
struct SendFlow {
    /// As of a receive flow.
    peer: String,
    /// The number of the next packet.
    next_psn: String,
    throttled: bool,
    nacked: bool,
    /// Bytes and packets that aren't acknowledged.
    outstanding_bytes: u64,
    outstanding: u64,
    /// "N/A" when there are none.
    first_psn: String,
    last_psn: String,
    /// The peer was given up.
    given_up: bool,
}

/// Which part of a dump its lines belong to.
enum Part {
    Sections,
    ReceiveFlows,
    SendFlows,
    Records,
    Backtrace,
}

impl Dump {
    /// Takes a dump apart; of its records, the last so many.
    ///
    /// # Errors
    /// When it isn't one, or not all of one.
    pub fn read(path: &Path, text: &str, last: Option<usize>) -> Result<Self, DumpError> {
        let path = path.display().to_string();
        let bad = |n: usize, problem: &str| DumpError::Format {
            path: path.clone(),
            problem: format!("line {}: {problem}", n + 1),
        };
        let first = text.lines().next().unwrap_or_default();
        let process =
            first.strip_prefix('(').and_then(|rest| rest.split_once(')')).and_then(|(pid, _)| pid.parse().ok());
        let process: u32 = process.ok_or_else(|| bad(0, "it has to begin with the number of a process"))?;
        let start = format!("({process}) ");
        let mut dump = Self {
            file: path.clone(),
            process,
            endpoint: String::new(),
            adapter: String::new(),
            sections: Vec::new(),
            receive_flows: Vec::new(),
            send_flows: Vec::new(),
            records: Vec::new(),
            backtrace: Vec::new(),
        };
        let mut part = Part::Sections;
        for (n, line) in text.lines().enumerate() {
            if matches!(part, Part::Backtrace) {
                dump.backtrace.push(line.trim().to_owned());
                continue;
            }
            let line = line.strip_prefix(&start).ok_or_else(|| bad(n, "it isn't of the same process"))?;
            match title(line) {
                Some("Flight recorder") => part = Part::Records,
                Some("Backtrace") => part = Part::Backtrace,
                Some(title) => dump.sections.push(Section { title: title.to_owned(), values: Vec::new() }),
                None if line.contains("# RX Flow RB Tree #") => part = Part::ReceiveFlows,
                None if line.contains("# TX Flow RB Tree #") => part = Part::SendFlows,
                None => dump.line(&part, line).ok_or_else(|| bad(n, "it makes no sense there"))?,
            }
        }
        if !matches!(part, Part::Backtrace) || dump.endpoint.is_empty() {
            return Err(DumpError::Truncated { path, lines: text.lines().count() });
        }
        dump.records = row::last(std::mem::take(&mut dump.records), last);
        Ok(dump)
    }

    /// Takes a line in; none when it can't be.
    fn line(&mut self, part: &Part, line: &str) -> Option<()> {
        match part {
            Part::Sections if self.sections.is_empty() => {
                if let Some(who) = line.strip_prefix("opx_ep : endpoint ") {
                    let (endpoint, adapter) = who.split_once(" on ")?;
                    (self.endpoint, self.adapter) = (endpoint.to_owned(), adapter.to_owned());
                }
                Some(())
            }
            Part::Sections => {
                let (name, value) = line.rsplit_once(": ")?;
                let value = Value { name: name.trim().to_owned(), value: value.trim().to_owned() };
                self.sections.last_mut()?.values.push(value);
                Some(())
            }
            Part::ReceiveFlows => {
                let Some((key, words)) = flow(line) else { return Some(()) };
                let [expected, early, first, last, _] = words.as_slice() else { return None };
                self.receive_flows.push(ReceiveFlow {
                    peer: end(key, 0)?,
                    expected_psn: (*expected).to_owned(),
                    early: (*early).to_owned(),
                    first_psn: (*first).to_owned(),
                    last_psn: (*last).to_owned(),
                });
                Some(())
            }
            Part::SendFlows => {
                let Some((key, words)) = flow(line) else { return Some(()) };
                let [next, throttled, nacked, bytes, count, first, last] = words.as_slice() else { return None };
                self.send_flows.push(SendFlow {
                    peer: end(key, 2)?,
                    next_psn: (*next).to_owned(),
                    throttled: *throttled != "0",
                    nacked: *nacked != "0",
                    outstanding_bytes: bytes.parse().ok()?,
                    outstanding: count.parse().ok()?,
                    first_psn: (*first).to_owned(),
                    last_psn: (*last).to_owned(),
                    given_up: line.ends_with("given up"),
                });
                Some(())
            }
            Part::Records => {
                self.records.push(Row::parse(line.strip_prefix("@ ")?, &self.endpoint)?);
                Some(())
            }
            Part::Backtrace => Some(()),
        }
    }

    /// As people read it: what isn't 0, or `all`, with the backtrace.
    pub fn text(&self, all: bool) -> String {
        let mut text = pairs([
            ("state dump", self.file.clone()),
            ("process", self.process.to_string()),
            ("endpoint", format!("{} on {}", self.endpoint, self.adapter)),
        ]);
        let mut silent = 0;
        for section in &self.sections {
            let zero = |value: &Value| matches!(value.value.as_str(), "0" | "- (0)");
            let told = section.values.iter().filter(|value| all || !zero(value));
            let told: Vec<Vec<String>> = told.map(|value| vec![value.name.clone(), value.value.clone()]).collect();
            silent += section.values.len() - told.len();
            if !told.is_empty() {
                text += &format!("\n{}\n{}", section.title, table(&[], told));
            }
        }
        if silent > 0 {
            text += &format!("\n{silent} values are 0 (--all shows them)\n");
        }
        if !self.receive_flows.is_empty() {
            let rows = self.receive_flows.iter().map(|flow| {
                [&flow.peer, &flow.expected_psn, &flow.early, &flow.first_psn, &flow.last_psn].map(String::clone).into()
            });
            text += "\nfrom each peer (hexadecimal)\n";
            text += &table(&["LID.context", "expected", "early", "first", "last"], rows);
        }
        if !self.send_flows.is_empty() {
            let rows = self.send_flows.iter().map(|flow| {
                let states = [(flow.throttled, "throttled"), (flow.nacked, "asked again"), (flow.given_up, "GIVEN UP")];
                let states: Vec<&str> = states.into_iter().filter_map(|(is, name)| is.then_some(name)).collect();
                let (bytes, count) = (flow.outstanding_bytes.to_string(), flow.outstanding.to_string());
                let psns = [&flow.first_psn, &flow.last_psn].map(String::clone);
                [flow.peer.clone(), flow.next_psn.clone(), bytes, count]
                    .into_iter()
                    .chain(psns)
                    .chain([states.join(", ")])
                    .collect()
            });
            text += "\nto each peer, and what isn't acknowledged\n";
            text += &table(&["LID.context", "next PSN", "bytes", "packets", "first", "last", "state"], rows);
        }
        if !self.records.is_empty() {
            text += &format!("\nflight recorder\n{}", row::table(&self.records));
        }
        if all {
            text += &format!("\nbacktrace\n{}\n", self.backtrace.join("\n"));
        }
        text
    }
}

/// The title in a line such as "---- title ----".
fn title(line: &str) -> Option<&str> {
    let inner = line.strip_prefix('-')?.strip_suffix('-')?.trim_matches('-');
    inner.strip_prefix(' ')?.strip_suffix(' ')
}

/// The key and the words of a flow's line; none for the lines around.
fn flow(line: &str) -> Option<(&str, Vec<&str>)> {
    let (key, rest) = line.strip_prefix("# [")?.split_once(']')?;
    let rest = rest.split_once('#').map_or(rest, |(words, _)| words);
    Some((key, rest.split_whitespace().collect()))
}

/// An end of a flow: LID and context from the `at`th part of its key on.
fn end(key: &str, at: usize) -> Option<String> {
    let parts: Vec<&str> = key.split('.').collect();
    Some(format!("{}.{}", parts.get(at)?, parts.get(at + 1)?))
}
