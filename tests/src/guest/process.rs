//! Child processes that never outlive the runner: ended on drop, and by the kernel when the runner is killed.

use super::GuestError;
use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A command that the kernel kills when the thread that started it is gone; where there is no `setpriv`, only [`Kept`]
/// ends it.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let setpriv = std::env::split_paths(&paths).map(|dir| dir.join("setpriv")).find(|path| path.is_file());
    let Some(setpriv) = setpriv else { return Command::new(program) };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A child that is killed when this is dropped.
#[derive(Debug)]
pub struct Kept(Child);

impl Kept {
    /// Takes care of `child`.
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// The child.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Waits for its end; `None` when it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        /// Between two looks. There is no wait with a limit for a child.
        const LOOK: Duration = Duration::from_millis(10);
        let end = Instant::now() + limit;
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < end => std::thread::sleep(LOOK),
                _ => return None,
            }
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a command is named in an error: the program and its last words, which tell most.
fn shown(command: &Command) -> String {
    const WORDS: usize = 4;
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::display).collect();
    let start = words.iter().position(|word| word.to_string() == "--").map_or(0, |at| at + 1);
    let words: Vec<String> = words.iter().skip(start).map(ToString::to_string).collect();
    match words.len() {
        len if len > WORDS + 1 => format!("{} ... {}", words[0], words[len - WORDS..].join(" ")),
        _ => words.join(" "),
    }
}

/// Runs a command to its end and gives what it wrote to stdout.
///
/// # Errors
/// When it can't be started, fails, or takes longer than `limit`.
pub fn output(mut command: Command, limit: Duration) -> Result<Vec<u8>, GuestError> {
    let program = shown(&command);
    let failed = |why: String| GuestError::Program { program: program.clone(), why };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Kept::new(command.spawn().map_err(|e| failed(e.to_string()))?);
    let (send, receive) = mpsc::channel();
    let read = |index: usize, source: Option<Box<dyn Read + Send>>| {
        let send = send.clone();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = source.map(|mut source| source.read_to_end(&mut bytes));
            let _ = send.send((index, bytes));
        });
    };
    let (stdout, stderr) = (child.child().stdout.take(), child.child().stderr.take());
    read(0, stdout.map(|s| Box::new(s) as _));
    read(1, stderr.map(|s| Box::new(s) as _));
    let end = Instant::now() + limit;
    let mut texts = [Vec::new(), Vec::new()];
    for _ in 0..2 {
        let left = end.saturating_duration_since(Instant::now());
        let (index, bytes) =
            receive.recv_timeout(left).map_err(|_| failed(format!("it still runs after {} s", limit.as_secs())))?;
        texts[index] = bytes;
    }
    let [stdout, stderr] = texts;
    let left = end.saturating_duration_since(Instant::now());
    let status = child.wait(left).ok_or_else(|| failed(format!("it still runs after {} s", limit.as_secs())))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        return Err(failed(format!("{status}: {}", last.into_iter().rev().collect::<Vec<_>>().join("; "))));
    }
    Ok(stdout)
}
