//! A report as one HTML page that needs nothing else: tables, pictures, and the JSON itself for programs.

use crate::plots;
use crate::report::Report;
use crate::tables::Table;
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
    put(&mut page, "Rungs", &Table::rungs(report));
    if let Some(latency) = Table::latency(report) {
        put(&mut page, "Latency", &latency);
        writeln!(page, "{}", plots::latency(&report.latency)?)?;
    }
    if let Some(bandwidth) = Table::bandwidth(report) {
        put(&mut page, "Bandwidth", &bandwidth);
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

fn errors(page: &mut String, report: &Report) -> Result<()> {
    let errors = report.errors.as_deref();
    let Some(errors @ [_, ..]) = errors else {
        let what =
            if errors.is_some() { "No counter of errors has grown." } else { "The counters of errors weren't read." };
        writeln!(page, "<h2>Errors</h2>\n<p>{what}</p>")?;
        return Ok(());
    };
    let rows: Vec<Vec<String>> = errors
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

fn put(page: &mut String, title: &str, shown: &Table) {
    table(page, title, &shown.header.iter().map(String::as_str).collect::<Vec<_>>(), &shown.rows);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use crate::report::TimesOf;
    use crate::safety::FoundLink;

    #[test]
    fn counters_that_nobody_read_havent_stayed_as_they_were() {
        let mut report = Report::new(Level::Quick, "emulated".to_owned(), FoundLink::Down, TimesOf::Emulator, 1);
        assert!(page(&report).unwrap().contains("weren't read"));
        report.errors = Some(Vec::new());
        assert!(page(&report).unwrap().contains("No counter of errors has grown"));
    }
}
