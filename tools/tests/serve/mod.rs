//! opx-emu as a child of a test: started, ready, and ended whatever the test does.
// Each test file uses a part of it.
#![allow(dead_code)]

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What a client is told while the server has another.
const BUSY: &str = "busy with another client";
/// For what hangs; nothing depends on how fast it is.
pub const LIMIT: Duration = Duration::from_secs(300);

/// A running opx-emu.
pub struct Serving {
    /// The process.
    pub child: Child,
    /// What it prints.
    pub out: BufReader<ChildStdout>,
}

impl Serving {
    /// Starts the program and waits until it listens on `sockets`.
    pub fn start(sockets: &[&Path], more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_opx-emu"));
        for socket in sockets {
            command.arg("--socket").arg(socket);
        }
        let mut child = command.args(more).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut serving = Self { child, out };
        for socket in sockets {
            assert_eq!(serving.line(), format!("ready {}", socket.display()));
        }
        serving
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LIMIT, "{what} in {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs something that connects to servers whose clients before may just have gone: as often as it takes until no server is
/// busy with one of them any more.
pub fn next_client<T: AsRef<[Output]>>(mut run: impl FnMut() -> T) -> T {
    let begin = Instant::now();
    loop {
        let outputs = run();
        if begin.elapsed() > LIMIT || !outputs.as_ref().iter().any(is_busy) {
            return outputs;
        }
    }
}

/// As [`next_client`], of one command.
pub fn next_output(command: &mut Command) -> Output {
    let [output] = next_client(|| [command.output().unwrap()]);
    output
}

fn is_busy(output: &Output) -> bool {
    [&output.stdout, &output.stderr].iter().any(|said| String::from_utf8_lossy(said).contains(BUSY))
}
