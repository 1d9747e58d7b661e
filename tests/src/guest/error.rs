//! What can go wrong around a guest, and which of it means that there can be none here.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a guest didn't run or didn't do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// QEMU or a package can't be had on this machine: the scenario is skipped.
    #[error("no guest can be run here: {0}")]
    Unavailable(String),
    /// A file or folder can't be used.
    #[error("can't {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A package lacks what is expected in it.
    #[error("{0}")]
    Content(String),
    /// A program that the runner needs failed.
    #[error("{program} failed: {why}")]
    Program {
        /// Its name.
        program: String,
        /// Exit status and the last lines it said.
        why: String,
    },
    /// Something didn't come in time.
    #[error("waited {} s for {what}; last lines of {}:\n{last}", limit.as_secs(), log.display())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// The log to look at.
        log: PathBuf,
        /// Its end.
        last: String,
    },
    /// The guest ended while something was still awaited.
    #[error("the guest ended before {what}; last lines of {}:\n{last}", log.display())]
    Ended {
        /// What was waited for.
        what: String,
        /// The log to look at.
        log: PathBuf,
        /// Its end.
        last: String,
    },
    /// The scenario's own judgement.
    #[error("{0}")]
    Judged(String),
}

impl GuestError {
    /// For `map_err`: an error about `path`.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { what, path: path.clone(), source }
    }
}
