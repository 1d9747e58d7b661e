//! Looks at HFI1 adapters without disturbing them: which there are, what one is, and what its registers hold.
#![forbid(unsafe_code)]

mod choose;
mod cli;
mod csr;
mod info;
mod link;
mod list;
mod places;
mod registers;
mod render;
mod select;

use cli::Command;
use opx_tools::cli::{complain, parse};
use std::io::{self, Write};
use std::process::ExitCode;

/// What a command has to say: text for stdout, and what was wrong, if anything was.
pub struct Outcome {
    /// For stdout.
    pub text: String,
    /// For stderr; then the exit code tells of it, too.
    pub problem: Option<String>,
}

impl From<String> for Outcome {
    fn from(text: String) -> Self {
        Self { text, problem: None }
    }
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("off")).init();
    let cli = match parse::<cli::Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let outcome = match &cli.command {
        Command::List(args) => list::run(&cli.places, args),
        Command::Info(args) => info::run(&cli.places, args),
        Command::Csr(args) => csr::run(&cli.places, args),
    };
    let outcome = outcome.unwrap_or_else(|error| Outcome { text: String::new(), problem: Some(format!("{error}")) });
    let mut out = io::stdout();
    match out.write_all(outcome.text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => {}
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => return complain(&format!("can't write to stdout: {error}")),
    }
    outcome.problem.map_or(ExitCode::SUCCESS, |problem| complain(&problem))
}
