//! `opx-probe counters`: the hardware's counters under hfi1's names, once or again and again with their rates.

use crate::choose::Bus;
use crate::cli;
use crate::places::Places;
use crate::registers::{Reading, Registers};
use crate::render::{self, table};
use crate::select::{alike, fits};
use crate::view::{View, show};
use crate::{Outcome, choose};
use opx_bus::{BusError, PciFunction};
use opx_defs::chip;
use opx_defs::csr;
use opx_hw::counters::{Counter, Per, catalogue};
use serde::Serialize;
use std::io::{self, Write};
use std::time::Duration;

/// No counter of that name.
#[derive(Debug, thiserror::Error)]
#[error("no counter's name fits `{pattern}`{}", if nearest.is_empty() { "; see opx-probe counters --all".to_owned() } else { format!("; the nearest: {}", nearest.join(", ")) })]
pub struct NoCounter {
    pattern: String,
    nearest: Vec<&'static str>,
}

/// What counters show.
#[derive(Debug, Clone, Serialize)]
pub struct Counters {
    /// In the order of the catalogue.
    pub counters: Vec<Value>,
}

/// One counter.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Value {
    /// hfi1's name.
    pub name: &'static str,
    /// Which lane, context or engine, where there is one for each.
    pub index: Option<u32>,
    /// What it shows.
    pub value: u64,
    /// What it counts.
    pub about: &'static str,
}

impl Value {
    /// The name with the index.
    pub fn label(&self) -> String {
        self.index.map_or(self.name.to_owned(), |index| format!("{}[{index}]", self.name))
    }
}

impl Counters {
    /// Reads the counters of rows; those that can't be read now are left out.
    pub fn read<B: PciFunction>(registers: &Registers<B>, rows: &[&'static Counter]) -> Result<Self, BusError> {
        let contexts = registers.get(&csr::RCV_CONTEXTS)?.min(chip::RXE_NUM_CONTEXTS) as u32;
        let engines = registers.get(&csr::SEND_DMA_ENGINES)?.min(chip::TXE_NUM_SDMA_ENGINES) as u32;
        let mut counters = Vec::new();
        for row in rows {
            let Some((csr, first)) = row.place() else { continue };
            let count = match row.per {
                Per::One => 1,
                Per::Vl => 9,
                Per::Context => contexts,
                Per::Engine => engines,
            };
            for index in (0..count).take_while(|index| first + index < csr.count) {
                if let Reading::Value(value) = registers.read(csr, first + index, 0)? {
                    let index = (row.per != Per::One).then_some(index);
                    counters.push(Value { name: row.name, index, value, about: row.about });
                }
            }
        }
        Ok(Self { counters })
    }
}

/// The rows that a pattern means, those that the hardware counts.
pub fn rows(pattern: &str) -> Result<Vec<&'static Counter>, NoCounter> {
    let wanted = pattern.to_ascii_uppercase();
    let of_hardware = || catalogue().filter(|row| row.place().is_some());
    let rows: Vec<_> =
        of_hardware().filter(|row| fits(wanted.as_bytes(), row.name.to_ascii_uppercase().as_bytes())).collect();
    if rows.is_empty() {
        let nearest = alike(pattern, of_hardware().map(|row| row.name));
        return Err(NoCounter { pattern: render::shown(pattern), nearest });
    }
    Ok(rows)
}

impl View for Counters {
    fn text(&self) -> String {
        if self.counters.is_empty() {
            return "every counter shows 0, or can't be read now (--all shows them)\n".to_owned();
        }
        let rows = self.counters.iter().map(|c| vec![c.label(), c.value.to_string(), c.about.to_owned()]);
        table(&["counter", "value", "what it counts"], rows)
    }
}

/// Shows them.
pub fn run(places: &Places, args: &cli::Counters) -> anyhow::Result<Outcome> {
    let rows = rows(&args.name)?;
    let registers = choose::adapter(places, &args.target)?;
    if let Some(seconds) = args.watch {
        return watch(&registers, &rows, seconds, args);
    }
    let mut counters = Counters::read(&registers, &rows)?;
    if !args.all && args.name == "*" {
        counters.counters.retain(|counter| counter.value != 0);
    }
    show(&registers, &args.target, &counters)
}

/// What has grown since a look before.
#[derive(Debug, Serialize)]
struct Growth {
    version: u32,
    seconds: f64,
    counters: Vec<Rate>,
}

/// How fast a counter grows.
#[derive(Debug, Serialize)]
struct Rate {
    name: &'static str,
    index: Option<u32>,
    value: u64,
    grown: u64,
    per_second: f64,
}

fn growth(before: &Counters, after: &Counters, seconds: f64) -> Growth {
    let rate = |(before, after): (&Value, &Value)| {
        // One that began anew is taken to have begun at 0.
        let grown = after.value.checked_sub(before.value).unwrap_or(after.value);
        Rate { name: after.name, index: after.index, value: after.value, grown, per_second: grown as f64 / seconds }
    };
    // Some may come or go between two looks, as the LCB changes hands.
    let pairs = after.counters.iter().filter_map(|after| {
        let same = |before: &&Value| (before.name, before.index) == (after.name, after.index);
        Some((before.counters.iter().find(same)?, after))
    });
    Growth { version: render::JSON_VERSION, seconds, counters: pairs.map(rate).collect() }
}

/// Writes as it goes: a table a time, or a line of JSON.
fn watch(
    registers: &Registers<Bus>,
    rows: &[&'static Counter],
    interval: Duration,
    args: &cli::Counters,
) -> anyhow::Result<Outcome> {
    let mut out = io::stdout();
    let mut before = Counters::read(registers, rows)?;
    let mut at = registers.bus().now();
    for _ in 0..args.count.unwrap_or(u64::MAX) {
        if registers.bus().inner().emulated().is_some() {
            // Its clock is simulated; whoever watches isn't.
            std::thread::sleep(interval);
        }
        registers.bus().pause(interval);
        let after = Counters::read(registers, rows)?;
        let now = registers.bus().now();
        let mut growth = growth(&before, &after, now.since(at).as_secs_f64().max(1e-9));
        if !args.all {
            growth.counters.retain(|rate| rate.grown > 0);
        }
        let text = if args.target.json {
            serde_json::to_string(&growth)? + "\n"
        } else if growth.counters.is_empty() {
            format!("nothing was counted in {:.1} s\n", growth.seconds)
        } else {
            let rows = growth.counters.iter().map(|rate| {
                let label = rate.index.map_or(rate.name.to_owned(), |index| format!("{}[{index}]", rate.name));
                vec![label, rate.value.to_string(), rate.grown.to_string(), format!("{:.1}", rate.per_second)]
            });
            table(&["counter", "value", "grown", "per second"], rows)
        };
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => return Err(error.into()),
        }
        (before, at) = (after, now);
    }
    Ok(Outcome::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(values: &[(Option<u32>, u64)]) -> Counters {
        let value = |(index, value): &(Option<u32>, u64)| Value { name: "A", index: *index, value: *value, about: "" };
        Counters { counters: values.iter().map(value).collect() }
    }

    #[test]
    fn growth_is_told_by_the_second() {
        let before = counters(&[(None, 10), (Some(1), 7), (Some(2), 9)]);
        let after = counters(&[(None, 30), (Some(2), 4), (Some(3), 1)]);
        let growth = growth(&before, &after, 2.0);
        let rates: Vec<_> = growth.counters.iter().map(|rate| (rate.index, rate.grown, rate.per_second)).collect();
        assert_eq!(rates, [(None, 20, 10.0), (Some(2), 4, 2.0)]);
    }

    #[test]
    fn names_are_hfi1s() {
        assert_eq!(rows("dcxmitpkts").unwrap().len(), 1);
        assert!(rows("*").unwrap().len() > 50);
        let error = rows("DcXmitPkt").err().unwrap().to_string();
        assert!(error.contains("the nearest: DcXmitPkts"), "{error}");
    }
}
