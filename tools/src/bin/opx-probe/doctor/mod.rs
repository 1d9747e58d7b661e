//! `opx-probe doctor`: what keeps the adapters of a node from working, or from working well, and how to mend it.

mod checks;
mod facts;
mod finding;
mod live;
mod node;
#[cfg(test)]
mod tests;

use crate::render::{self, wrapped};
use crate::{Outcome, cli};
use checks::CHECKS;
use facts::Facts;
use finding::Finding;
pub use finding::State;
use node::Node;
use serde::Serialize;

/// All that was found.
#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    /// How many findings are bad, warnings, and unknown.
    bad: usize,
    warnings: usize,
    unknown: usize,
    findings: Vec<Finding>,
}

/// Looks at everything.
fn examine(facts: &Facts) -> Report {
    let node = Node::new(facts);
    let findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check.run(&node)).collect();
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (bad, warnings, unknown) = (count(State::Bad), count(State::Warn), count(State::Unknown));
    Report { version: render::JSON_VERSION, bad, warnings, unknown, findings }
}

/// Examines the node, or saves what an examination looks at.
pub fn run(args: &cli::Doctor) -> anyhow::Result<Outcome> {
    let facts = match &args.from {
        Some(dir) => Facts::saved(dir)?,
        None => Facts::live(),
    };
    let report = examine(&facts);
    if let Some(dir) = &args.save {
        let files = facts.save(dir)?;
        return Ok(format!("{files} facts saved to {}; look at them with --from\n", dir.display()).into());
    }
    let text = if args.json { render::json(&report)? } else { report.text(args.from.is_some()) };
    Ok(Outcome { text, problem: None, trouble: report.bad + report.warnings > 0 })
}

impl Report {
    fn text(&self, saved: bool) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let subject = finding.adapter.as_ref().map_or(String::new(), |adapter| format!("{adapter}: "));
            let state = render::state(finding.state.word(), finding.state);
            let what = wrapped(&format!("{}: {subject}{}", finding.check, finding.text), 6);
            text += &format!("{state}  {what}\n");
            if let Some(mend) = &finding.mend {
                text += &format!("      {}\n", wrapped(&format!("-> {mend}"), 9));
            }
        }
        let whose = if saved { "the saved node" } else { "this node" };
        text += &match (self.bad, self.warnings) {
            (0, 0) => format!("nothing is wrong with {whose}\n"),
            (bad, warnings) => format!("{bad} bad, {warnings} to be warned of on {whose}\n"),
        };
        text
    }
}
