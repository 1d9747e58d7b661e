//! Where results go: standard output, and files of reports.

use crate::cli::Cli;
use crate::page;
use crate::report::Report;
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// What the files in a folder are called.
const NAME: &str = "opx-loopback";

/// Prints the result.
pub fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        // Whoever reads has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("can't write to stdout"),
    }
}

/// A bar on a terminal; nothing elsewhere.
pub fn progress_bar(cli: &Cli) -> ProgressBar {
    if cli.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:18} [{bar:40}] {pos}/{len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(1).with_style(style)
}

/// Where a report goes.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    json: Option<PathBuf>,
    html: Option<PathBuf>,
}

impl Place {
    /// The place that `--report` names. It is made now if it isn't there, before an adapter is touched.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn check(path: &Path) -> anyhow::Result<Self> {
        let place = match path.extension().and_then(|extension| extension.to_str()) {
            _ if path.is_dir() => Self::folder(path),
            Some("json") => Self { json: Some(path.to_owned()), html: None },
            Some("html") => Self { json: None, html: Some(path.to_owned()) },
            Some(other) => {
                let shown = path.display();
                bail!("--report {shown}: a report isn't written as .{other}; name a folder, or a file .json or .html")
            }
            None => {
                fs::create_dir_all(path)
                    .with_context(|| format!("--report {}: can't make this folder", path.display()))?;
                Self::folder(path)
            }
        };
        for file in [&place.json, &place.html].into_iter().flatten() {
            // What is there stays until there is something to put in its place.
            let was_there = file.exists();
            let opened = fs::OpenOptions::new().append(true).create(true).open(file);
            opened.with_context(|| format!("--report {}: can't be written to", file.display()))?;
            if !was_there {
                fs::remove_file(file).with_context(|| format!("--report {}: can't be made", file.display()))?;
            }
        }
        Ok(place)
    }

    fn folder(path: &Path) -> Self {
        Self { json: Some(path.join(NAME).with_extension("json")), html: Some(path.join(NAME).with_extension("html")) }
    }

    /// Writes the report.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, report: &Report) -> anyhow::Result<()> {
        let put = |path: &Path, text: String| {
            fs::write(path, text).with_context(|| format!("--report {}: can't be written to", path.display()))
        };
        if let Some(path) = &self.json {
            put(path, serde_json::to_string_pretty(report)? + "\n")?;
        }
        if let Some(path) = &self.html {
            put(path, page::page(report)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gets_both_and_a_file_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| Some(dir.path().join(name));
        let both = Place { json: file("opx-loopback.json"), html: file("opx-loopback.html") };
        assert_eq!(Place::check(dir.path()).unwrap(), both);
        let made = dir.path().join("a/b");
        assert!(Place::check(&made).unwrap().html.is_some() && fs::read_dir(&made).unwrap().next().is_none());
        assert_eq!(Place::check(&dir.path().join("x.json")).unwrap(), Place { json: file("x.json"), html: None });
        assert_eq!(Place::check(&dir.path().join("x.html")).unwrap(), Place { json: None, html: file("x.html") });
    }

    #[test]
    fn what_cant_be_written_is_told_before_anything_is_done() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for name in ["x.pdf", "none/x.json", "file/y", "file"] {
            let error = Place::check(&dir.path().join(name)).unwrap_err().to_string();
            assert!(error.starts_with("--report ") && !error.contains('\n'), "{error}");
        }
    }
}
