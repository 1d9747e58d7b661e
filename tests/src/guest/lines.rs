//! A log that grows line by line, from several sources, and can be waited on.

use super::GuestError;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines kept in memory and in a file.
#[derive(Debug, Clone)]
pub struct Lines {
    shared: Arc<(Mutex<State>, Condvar)>,
    path: PathBuf,
}

#[derive(Debug)]
struct State {
    file: File,
    lines: Vec<String>,
    /// Sources that may still write.
    open: usize,
}

impl Lines {
    /// A new log at `path`.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn new(path: PathBuf) -> Result<Self, GuestError> {
        let file = File::create(&path).map_err(GuestError::file("make", &path))?;
        let state = State { file, lines: Vec::new(), open: 0 };
        Ok(Self { shared: Arc::new((Mutex::new(state), Condvar::new())), path })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads `source` to its end in a thread.
    pub fn follow(&self, mut source: impl Read + Send + 'static) {
        self.lock().open += 1;
        let log = self.clone();
        std::thread::spawn(move || {
            let (mut buffer, mut rest) = ([0; 4096], Vec::new());
            while let Ok(len @ 1..) = source.read(&mut buffer) {
                rest.extend_from_slice(&buffer[..len]);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    log.push(&line);
                }
            }
            if !rest.is_empty() {
                log.push(&rest);
            }
            log.lock().open -= 1;
            log.shared.1.notify_all();
        });
    }

    fn push(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line).trim_end_matches(['\r', '\n']).to_owned();
        let mut state = self.lock();
        let _ = writeln!(state.file, "{line}");
        state.lines.push(line);
        self.shared.1.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines up to now.
    pub fn all(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// The last lines, for a message.
    pub fn last(&self) -> String {
        /// As many as help.
        const MOST: usize = 15;
        let state = self.lock();
        state.lines[state.lines.len().saturating_sub(MOST)..].join("\n")
    }

    /// Waits for a line, from line `from` on, that `wanted` accepts; gives its number and text.
    ///
    /// # Errors
    /// When it doesn't come within `limit`, or all sources end without it.
    pub fn wait(
        &self,
        from: usize,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&str) -> bool,
    ) -> Result<(usize, String), GuestError> {
        let end = Instant::now() + limit;
        let (mut at, mut state) = (from, self.lock());
        loop {
            while let Some(line) = state.lines.get(at) {
                if wanted(line) {
                    return Ok((at, line.clone()));
                }
                at += 1;
            }
            let left = end.saturating_duration_since(Instant::now());
            let (what, log) = (what.to_owned(), self.path.clone());
            if state.open == 0 {
                drop(state);
                return Err(GuestError::Ended { what, log, last: self.last() });
            }
            if left.is_zero() {
                drop(state);
                return Err(GuestError::Timeout { what, limit, log, last: self.last() });
            }
            state = self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until all sources have ended.
    ///
    /// # Errors
    /// When they haven't within `limit`.
    pub fn wait_for_end(&self, limit: Duration) -> Result<(), GuestError> {
        match self.wait(usize::MAX, "the end", limit, |_| false) {
            Err(GuestError::Ended { .. }) => Ok(()),
            other => other.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_once_whole_and_the_end_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let log = Lines::new(dir.path().join("log")).unwrap();
        let limit = Duration::from_secs(10);
        log.follow(&b"one\r\ntwo\nthr"[..]);
        log.wait_for_end(limit).unwrap();
        assert_eq!(log.wait(0, "two", limit, |line| line == "two").unwrap(), (1, "two".to_owned()));
        assert_eq!(log.all(), ["one", "two", "thr"]);
        assert!(matches!(log.wait(2, "two", limit, |line| line == "two"), Err(GuestError::Ended { .. })));
        assert_eq!(std::fs::read_to_string(log.path()).unwrap(), "one\ntwo\nthr\n");
    }
}
