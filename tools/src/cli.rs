//! The command line: bad input is one line and exit code 2.

use clap::Parser;
use clap::error::ErrorKind;
use std::io::Write;
use std::process::ExitCode;

/// Exit code for input that makes no sense, and for adapters that can't be had.
pub const BAD_INPUT: u8 = 2;

/// Reads the command line.
///
/// # Errors
/// The exit code, when the program is to end at once: help was asked for, or the arguments make no sense.
pub fn parse<A: Parser>() -> Result<A, ExitCode> {
    A::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nobody is left to tell when stdout is closed.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => {
            let text = error.render().to_string();
            complain(&one_line(text.strip_prefix("error: ").unwrap_or(&text)))
        }
    })
}

/// Tells what is wrong on stderr, in one line; the exit code to end with.
pub fn complain(what: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {}", one_line(&what.to_string()));
    ExitCode::from(BAD_INPUT)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_have_bounds() {
        assert_eq!((percent("0"), percent("2.5"), percent("100")), (Ok(0.0), Ok(2.5), Ok(100.0)));
        for text in ["-1", "100.1", "NaN", "inf", "", "5%", "x"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_paragraph_becomes_a_line() {
        assert_eq!(one_line("\nmissing:\n  --socket <PATH>\n\nUsage: x\n"), "missing: --socket <PATH>");
    }
}
