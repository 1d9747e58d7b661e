//! opx-emu as a child of a test: started, ready, and ended whatever the test does.
// Each test file uses a part of it.
#![allow(dead_code)]

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

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
