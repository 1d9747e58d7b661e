//! The command line: bad input is one line and exit code 2.

use crate::manual;
use clap::error::ErrorKind;
use clap::{Parser, ValueEnum};
use opx_emu::Icode;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Exit code for input that makes no sense, and for adapters that can't be had.
pub const BAD_INPUT: u8 = 2;

/// Reads the command line.
///
/// # Errors
/// The exit code, when the program is to end at once: help or manual pages were asked for, or the arguments make no sense.
pub fn parse<A: Parser>() -> Result<A, ExitCode> {
    if let Some(folder) = manual::asked(std::env::args_os().skip(1)) {
        return Err(manual::write::<A>(&folder).map_or_else(|error| complain(&error), |()| ExitCode::SUCCESS));
    }
    A::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nobody is left to tell when stdout is closed.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => complain(&"say what to do; --help tells what there is"),
        _ => {
            let text = error.render().to_string();
            // What may have been meant stands in a paragraph of its own.
            let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: ")).map(|tip| format!("; {tip}"));
            complain(&format!("{}{}", one_line(text.strip_prefix("error: ").unwrap_or(&text)), tip.unwrap_or_default()))
        }
    })
}

/// Tells what is wrong on stderr, in one line that begins with the program's name; the exit code to end with.
pub fn complain(what: &dyn std::fmt::Display) -> ExitCode {
    let program = std::env::args_os().next().map(PathBuf::from);
    let program = program.as_deref().and_then(Path::file_name).unwrap_or(OsStr::new("opx"));
    let _ = writeln!(std::io::stderr(), "{}: {}", program.display(), one_line(&what.to_string()));
    ExitCode::from(BAD_INPUT)
}

/// An error and its causes in one line; a cause that the message before it already tells isn't told again.
pub fn with_causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line.as_str() {
        "" => cause,
        line if line.contains(&cause) => line.to_owned(),
        line => format!("{line}: {cause}"),
    })
}

/// What an emulated adapter says it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IcodeArg {
    /// Real silicon: firmware is loaded, the link is negotiated.
    Silicon,
    /// Intel's functional simulator: no firmware.
    Simulator,
}

impl From<IcodeArg> for Icode {
    fn from(icode: IcodeArg) -> Self {
        match icode {
            IcodeArg::Silicon => Self::Silicon,
            IcodeArg::Simulator => Self::FunctionalSimulator,
        }
    }
}

/// The first paragraph, in one line.
pub fn one_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .skip_while(|line| line.is_empty())
        .take_while(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Reads a percentage, for clap's `value_parser`.
///
/// # Errors
/// When it is no number from 0 to 100.
pub fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("give a percentage from 0 to 100".to_owned()),
    }
}

/// Reads a time in seconds, for clap's `value_parser`.
///
/// # Errors
/// When it is no number from 0 to 3600.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("give seconds from 0 to 3600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_bounds() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(seconds("3600"), Ok(Duration::from_secs(3600)));
        for text in ["-1", "3601", "NaN", "inf", "", "2s"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn percentages_have_bounds() {
        assert_eq!((percent("0"), percent("2.5"), percent("100")), (Ok(0.0), Ok(2.5), Ok(100.0)));
        for text in ["-1", "100.1", "NaN", "inf", "", "5%", "x"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn causes_are_told_once() {
        let error = anyhow::anyhow!("no such file").context("can't read x: no such file").context("rung \"y\"");
        assert_eq!(with_causes(&error), "rung \"y\": can't read x: no such file");
    }

    #[test]
    fn a_paragraph_becomes_a_line() {
        assert_eq!(one_line("\nmissing:\n  --socket <PATH>\n\nUsage: x\n"), "missing: --socket <PATH>");
    }
}
