//! A report as one HTML page that needs nothing else: tables, pictures, and the JSON itself for programs.

use crate::plots;
use crate::report::{Report, Verdict, rate, time};
use anyhow::Result;
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222;background:#fff}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;border-bottom:1px solid #ccc;text-align:right}\
td:first-child,th:first-child,td.text{text-align:left}.passed{color:#060}.failed{color:#b00;font-weight:bold}\
.caution{background:#fec;padding:.6em 1em;border-left:4px solid #d80}svg{max-width:100%;height:auto}";

/// The page.
///
/// # Errors
/// When a picture can't be drawn.
pub fn page(report: &Report) -> Result<String> {
    let mut page = String::new();
    let (class, verdict) = if report.passed { ("passed", "passed") } else { ("failed", "DID NOT PASS") };
    let title = format!("opx-loopback, {} level: {verdict}", name(&report.level)?);
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1 class=\"{class}\">{title}</h1>\n"
    )?;
    if let Some(caution) = report.times_of.caution() {
        writeln!(page, "<p class=\"caution\">{}</p>", escape(caution))?;
    }
    if let Some(why) = &report.cut_short {
        writeln!(page, "<p class=\"failed\">Cut short: {}</p>", escape(why))?;
    }
    table(&mut page, "Run", &[], &run(report)?);
    table(
        &mut page,
        "Rungs",
        &["rung", "messages", "bytes", "faults", "sent again", "time", "rate", "verdict"],
        &rungs(report),
    );
    if !report.latency.is_empty() {
        let rows: Vec<Vec<String>> = report
            .latency
            .iter()
            .map(|row| {
                let times = [row.min_us, row.p50_us, row.p99_us, row.max_us].map(|us| format!("{us:.2}"));
                [row.size.to_string(), row.messages.to_string()].into_iter().chain(times).collect()
            })
            .collect();
        table(&mut page, "Latency", &["bytes", "messages", "least µs", "half µs", "99 % µs", "most µs"], &rows);
        writeln!(page, "{}", plots::latency(&report.latency)?)?;
    }
    if !report.bandwidth.is_empty() {
        let rows: Vec<Vec<String>> = report
            .bandwidth
            .iter()
            .map(|row| {
                let rates = [row.gbps.min, row.gbps.median, row.gbps.max].map(|gbps| format!("{gbps:.3}"));
                let first = [row.size.to_string(), row.window.to_string(), row.rounds.to_string()];
                let last =
                    [format!("{:.1} %", row.share_of_link * 100.0), if row.copied { "yes" } else { "no" }.to_owned()];
                first.into_iter().chain(rates).chain(last).collect()
            })
            .collect();
        let header = ["bytes", "window", "rounds", "least Gb/s", "median Gb/s", "most Gb/s", "of 96.0 Gb/s", "copied"];
        table(&mut page, "Bandwidth", &header, &rows);
        writeln!(page, "{}", plots::bandwidth(&report.bandwidth)?)?;
    }
    errors(&mut page, report)?;
    if let Some(node) = &report.node {
        table(&mut page, "Machine", &[], &flat(&serde_json::to_value(node)?));
    }
    // Nothing in it can end the element.
    let json = serde_json::to_string(report)?.replace('<', "\\u003c");
    write!(page, "<script type=\"application/json\" id=\"report\">{json}</script>\n</body>\n</html>\n")?;
    Ok(page)
}

/// A name as it is in JSON.
fn name(value: &impl serde::Serialize) -> Result<String> {
    Ok(serde_json::to_value(value)?.as_str().unwrap_or_default().to_owned())
}

fn run(report: &Report) -> Result<Vec<Vec<String>>> {
    let mut rows = vec![
        vec!["adapter".to_owned(), report.adapter.clone()],
        vec!["link before".to_owned(), report.found_link.name().to_owned()],
        vec!["times are of".to_owned(), name(&report.times_of)?.replace('_', " ")],
        vec!["seed".to_owned(), report.seed.to_string()],
    ];
    if let Some(file) = &report.file {
        for (what, hash) in [("SHA-256 sent", &file.sent), ("SHA-256 arrived", &file.arrived)] {
            rows.extend(hash.as_ref().map(|hash| vec![what.to_owned(), hash.clone()]));
        }
    }
    Ok(rows)
}

fn rungs(report: &Report) -> Vec<Vec<String>> {
    let row = |line: &crate::report::Line| {
        let verdict = match &line.verdict {
            Verdict::Passed => "passed".to_owned(),
            Verdict::Failed(why) => format!("FAILED: {why}"),
            Verdict::NotRun(why) => format!("not run: {why}"),
        };
        let tally = &line.tally;
        let numbers = [tally.messages, tally.bytes, tally.faults, tally.retransmits].map(|number| number.to_string());
        let last = [time(line.time), rate(tally.bytes, line.time), verdict];
        std::iter::once(line.rung.to_owned()).chain(numbers).chain(last).collect()
    };
    report.rungs.iter().map(row).collect()
}

fn errors(page: &mut String, report: &Report) -> Result<()> {
    if report.errors.is_empty() {
        writeln!(page, "<h2>Errors</h2>\n<p>No counter of errors has grown.</p>")?;
        return Ok(());
    }
    let rows: Vec<Vec<String>> = report
        .errors
        .iter()
        .map(|error| {
            let label = error.index.map_or(error.counter.to_owned(), |index| format!("{}[{index}]", error.counter));
            let numbers = [error.before, error.after, error.while_measuring].map(|number| number.to_string());
            std::iter::once(label).chain(numbers).chain([error.about.to_owned()]).collect()
        })
        .collect();
    let header = ["counter", "before", "after", "while measuring", "what it counts"];
    table(page, "Errors (some rungs provoke them)", &header, &rows);
    Ok(())
}

/// Rows of a document, its objects opened up.
fn flat(value: &serde_json::Value) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let Some(object) = value.as_object() else { return rows };
    for (name, value) in object {
        let name = name.replace('_', " ");
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::Object(_) => rows.extend(flat(value).into_iter().map(|row| {
                let mut row = row.into_iter();
                let key = row.next().unwrap_or_default();
                std::iter::once(format!("{name}: {key}")).chain(row).collect()
            })),
            serde_json::Value::Array(all) => {
                let all: Vec<String> =
                    all.iter().map(|one| one.as_str().map_or(one.to_string(), str::to_owned)).collect();
                rows.push(vec![name, all.join(", ")]);
            }
            serde_json::Value::String(text) => rows.push(vec![name, text.clone()]),
            other => rows.push(vec![name, other.to_string()]),
        }
    }
    rows
}

fn table(page: &mut String, title: &str, header: &[&str], rows: &[Vec<String>]) {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.map(|cell| {
            let class = if cell.parse::<f64>().is_err() && tag == "td" { " class=\"text\"" } else { "" };
            format!("<{tag}{class}>{}</{tag}>", escape(cell))
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    *page += &format!("<h2>{}</h2>\n<table>\n", escape(title));
    if !header.is_empty() {
        *page += &cells("th", &mut header.iter().copied());
    }
    for row in rows {
        *page += &cells("td", &mut row.iter().map(String::as_str));
    }
    *page += "</table>\n";
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
