//! `opx-probe completions` and `opx-probe man`: completions for shells, and manual pages, made from the command line's own
//! description.

use crate::Outcome;
use crate::cli::{Cli, Completions, Man};
use clap::CommandFactory;
use std::fs;

/// Completions of a shell, for stdout.
pub fn completions(args: &Completions) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "opx-probe", &mut text);
    String::from_utf8_lossy(&text).into_owned().into()
}

/// Manual pages, one for each command, into a folder.
pub fn man(args: &Man) -> anyhow::Result<Outcome> {
    let failed = |error: std::io::Error| anyhow::anyhow!("can't write manual pages to {}: {error}", args.dir.display());
    fs::create_dir_all(&args.dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.dir).map_err(failed)?;
    let pages = fs::read_dir(&args.dir).map_err(failed)?.count();
    Ok(format!("{pages} pages in {}\n", args.dir.display()).into())
}
