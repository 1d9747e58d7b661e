//! The program `opx-emu`, serving adapters to a guest.

use super::lines::Lines;
use super::process::{Kept, command, output};
use super::{GuestError, Run};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Longest time to build it from nothing.
const BUILD_LIMIT: Duration = Duration::from_secs(900);
/// Longest time until it serves, and until it ends.
const START_LIMIT: Duration = Duration::from_secs(120);

/// What is served.
#[derive(Debug, Clone)]
pub struct EmulatorOptions {
    /// Number of adapters.
    pub adapters: usize,
    /// Further arguments, such as `--cable`.
    pub arguments: Vec<String>,
}

/// A running `opx-emu`. Dropping it ends it.
#[derive(Debug)]
pub struct Emulator {
    process: Kept,
    sockets: Vec<PathBuf>,
    control: PathBuf,
    log: Lines,
}

impl Emulator {
    /// Builds `opx-emu` for release, unless the variable OPX_EMU names one or it is installed, and starts it.
    ///
    /// # Errors
    /// When it can't be built or doesn't serve.
    pub fn start(run: &Run, options: &EmulatorOptions) -> Result<Self, GuestError> {
        let program = build()?;
        let sockets: Vec<PathBuf> = (0..options.adapters).map(|n| run.socket(&format!("adapter{n}"))).collect();
        let log = Lines::new(run.logs().join("emulator.log"))?;
        let mut emulator = command(&program);
        for socket in &sockets {
            emulator.arg("--socket").arg(socket);
        }
        let control = run.socket("control");
        emulator.arg("--control").arg(&control);
        emulator.args(&options.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Kept::new(emulator.spawn().map_err(GuestError::file("start", &program))?);
        if let Some(stdout) = process.child().stdout.take() {
            log.follow(stdout);
        }
        if let Some(stderr) = process.child().stderr.take() {
            log.follow(stderr);
        }
        for socket in &sockets {
            let ready = format!("ready {}", socket.display());
            log.wait(0, &ready, START_LIMIT, |line| line == ready)?;
        }
        Ok(Self { process, sockets, control, log })
    }

    /// Where the adapters are.
    pub fn sockets(&self) -> &[PathBuf] {
        &self.sockets
    }

    /// Gives a command on the control socket, such as `pull`, and returns the answer without its `ok`.
    ///
    /// # Errors
    /// When there is no answer in time, or it is an error.
    pub fn ask(&self, command: &str) -> Result<String, GuestError> {
        let failed = GuestError::file("give a command on", &self.control);
        let mut control = UnixStream::connect(&self.control).map_err(&failed)?;
        control.set_read_timeout(Some(START_LIMIT)).map_err(&failed)?;
        writeln!(control, "{command}").map_err(&failed)?;
        let mut answer = String::new();
        BufReader::new(control).read_line(&mut answer).map_err(&failed)?;
        match answer.trim().strip_prefix("ok") {
            Some(rest) => Ok(rest.trim().to_owned()),
            None => Err(GuestError::Program { program: "opx-emu".to_owned(), why: format!("{command}: {answer}") }),
        }
    }

    /// Ends it and gives what it reports: counts, drops, registers that aren't modelled.
    ///
    /// # Errors
    /// When it had ended already, fails, or doesn't end.
    pub fn end(mut self) -> Result<Vec<String>, GuestError> {
        if let Some(status) = self.process.wait(Duration::ZERO) {
            return Err(GuestError::Program { program: "opx-emu".to_owned(), why: format!("it had ended: {status}") });
        }
        let said = self.log.all().len();
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        self.log.wait_for_end(START_LIMIT)?;
        match self.process.wait(START_LIMIT) {
            Some(status) if status.success() => Ok(self.log.all().split_off(said)),
            status => {
                Err(GuestError::Program { program: "opx-emu".to_owned(), why: format!("at its end: {status:?}") })
            }
        }
    }
}

/// The path of `opx-emu`.
fn build() -> Result<PathBuf, GuestError> {
    if let Some(path) = std::env::var_os("OPX_EMU") {
        return Ok(path.into());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    // Where the programs are installed, there is no repository to build from.
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join("opx-emu")));
    if let Some(beside) = beside.filter(|beside| !workspace.join("Cargo.toml").exists() && beside.is_file()) {
        return Ok(beside);
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace);
    cargo.args(["build", "--release", "--package", "opx-tools", "--bin", "opx-emu", "--message-format=json"]);
    let said = output(cargo, BUILD_LIMIT)?;
    let said = String::from_utf8_lossy(&said);
    let artifacts = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut programs = artifacts.filter_map(|artifact| Some(PathBuf::from(artifact.get("executable")?.as_str()?)));
    programs.next_back().ok_or_else(|| GuestError::Content("cargo names no program for opx-emu".to_owned()))
}
