//! Looks at HFI1 adapters and at the node that they are in: which there are, what one is and holds, and what keeps it from
//! working.
#![forbid(unsafe_code)]

mod bind;
mod choose;
mod cli;
mod contexts;
mod counters;
mod csr;
mod doctor;
mod eprom;
mod errors;
mod export;
mod firmware;
mod info;
mod link;
mod list;
mod loaded;
mod manual;
mod names;
mod places;
mod qsfp;
mod record;
mod registers;
mod render;
mod sdma;
mod select;
mod snapshot;
mod temperature;
mod top;
mod view;

use cli::Command;
use opx_tools::cli::{complain, parse};
use std::io::{self, Write};
use std::process::ExitCode;

/// Exit code when what was looked at isn't as it should be.
const TROUBLE: u8 = 1;

/// What a command has to say: text for stdout, and what was wrong, if anything was.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For stdout.
    pub text: String,
    /// For stderr: what couldn't be done; then the exit code is 2.
    pub problem: Option<String>,
    /// Whether what was looked at isn't as it should be; then the exit code is 1.
    pub trouble: bool,
}

impl From<String> for Outcome {
    fn from(text: String) -> Self {
        Self { text, problem: None, trouble: false }
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
        Command::Csr(args) => csr::run(&cli.places, &args.command),
        Command::Bind(args) => bind::bind(&cli.places, args),
        Command::Unbind(args) => bind::unbind(&cli.places, args),
        Command::Link(target) => link::run(&cli.places, target),
        Command::Contexts(args) => contexts::run(&cli.places, args),
        Command::Sdma(target) => sdma::run(&cli.places, target),
        Command::Counters(args) => counters::run(&cli.places, args),
        Command::Qsfp(target) => qsfp::run(&cli.places, target),
        Command::Eprom(args) => eprom::run(&cli.places, args),
        Command::Temperature(target) => temperature::run(&cli.places, target),
        Command::Firmware(args) => firmware::run(&cli.places, args),
        Command::Errors(target) => errors::run(&cli.places, target),
        Command::Record(args) => record::run(&cli.places, args),
        Command::Top(args) => top::run(&cli.places, args),
        Command::Export(args) => export::run(&cli.places, args),
        Command::Completions(args) => Ok(manual::completions(args)),
        Command::Man(args) => manual::man(args),
        Command::Doctor(args) => doctor::run(args),
    };
    let outcome = outcome.unwrap_or_else(|error| Outcome { problem: Some(format!("{error}")), ..Outcome::default() });
    // Takes colours away when it isn't a terminal.
    let mut out = anstream::stdout();
    match out.write_all(outcome.text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => {}
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => return complain(&format!("can't write to stdout: {error}")),
    }
    match outcome.problem {
        Some(problem) => complain(&problem),
        None if outcome.trouble => ExitCode::from(TROUBLE),
        None => ExitCode::SUCCESS,
    }
}
