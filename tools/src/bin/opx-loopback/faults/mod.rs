//! `--faults`: each fault that an emulated adapter can be told to have, in the midst of traffic, with a row for what came of
//! it.

mod seen;
mod trial;

use crate::cli::{Cli, Which};
use crate::output::{print, progress_bar};
use crate::report::{Tally, Verdict};
use crate::rig::{Failure, Outcome};
use comfy_table::{Table, presets};
use opx_emu::Fault;
use opx_tools::firmware::Firmware;
use serde::Serialize;
use trial::Trial;

/// Version of the JSON form; a change that could break a reader raises it.
const JSON_VERSION: u32 = 1;

/// What came of one fault.
#[derive(Debug, Serialize)]
struct Row {
    fault: &'static str,
    /// What the driver's caller can see of it.
    seen: String,
    #[serde(flatten)]
    verdict: Verdict,
}

#[derive(Debug, Serialize)]
struct FaultReport {
    version: u32,
    seed: u64,
    after: u64,
    faults: Vec<Row>,
    passed: bool,
}

/// Runs the ladder of faults; `true` when every one was survived.
pub fn run(cli: &Cli, which: &Which) -> anyhow::Result<bool> {
    let faults = match which {
        Which::List => {
            print(&Fault::all().map(Fault::name).collect::<Vec<_>>().join("\n"))?;
            return Ok(true);
        }
        Which::These(faults) => faults,
    };
    let bar = progress_bar(cli);
    bar.set_length(faults.len() as u64);
    let rows = try_each(cli, faults, |fault| {
        bar.set_message(fault.name());
        bar.inc(1);
    })?;
    bar.finish_and_clear();
    let passed = !rows.is_empty() && rows.iter().all(|row| row.verdict == Verdict::Passed);
    let report = FaultReport { version: JSON_VERSION, seed: cli.seed, after: cli.after, faults: rows, passed };
    print(&if cli.json { serde_json::to_string_pretty(&report)? } else { table(&report) })?;
    Ok(passed)
}

/// Has each of the faults, on an adapter of its own; `begin` is told of each.
fn try_each(cli: &Cli, faults: &[Fault], begin: impl Fn(Fault)) -> anyhow::Result<Vec<Row>> {
    let firmware = Firmware::find(cli.firmware.as_deref(), &cli.adapter)?;
    let mut rows = Vec::new();
    for fault in faults {
        begin(*fault);
        let (seen, verdict) = match Trial::new(cli, Some(firmware.dir().to_owned()))?.run(*fault, cli.after) {
            Ok(seen) => (seen, Verdict::Passed),
            Err(why) => (String::new(), Verdict::Failed(why.to_string())),
        };
        rows.push(Row { fault: fault.name(), seen, verdict });
    }
    Ok(rows)
}

/// All of them as one rung, which passes when every one was survived.
pub fn rung(cli: &Cli) -> Outcome {
    let faults: Vec<Fault> = Fault::all().collect();
    let rows = try_each(cli, &faults, |_| {}).map_err(|error| Failure::wrong(format!("{error:#}")))?;
    let lost: Vec<String> = rows
        .iter()
        .filter_map(|row| match &row.verdict {
            Verdict::Passed => None,
            Verdict::Failed(why) | Verdict::NotRun(why) => Some(format!("{}: {why}", row.fault)),
        })
        .collect();
    match lost.first() {
        None => Ok(Tally { faults: rows.len() as u64, ..Tally::default() }),
        Some(first) => Err(Failure::wrong(format!("{} of {} weren't survived; {first}", lost.len(), rows.len()))),
    }
}

fn table(report: &FaultReport) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(["fault", "verdict", "what the caller sees"]);
    for row in &report.faults {
        let verdict = match &row.verdict {
            Verdict::Passed => "survived".to_owned(),
            Verdict::Failed(why) => format!("FAILED: {why}"),
            Verdict::NotRun(why) => format!("not run: {why}"),
        };
        table.add_row([row.fault, &verdict, &row.seen]);
    }
    let survived = report.faults.iter().filter(|row| row.verdict == Verdict::Passed).count();
    format!("{table}\n{survived} of {} faults were survived", report.faults.len())
}
