//! The scenarios named after libfabric's fabtests between two processes, whose messages go through the machine's memory.
//!
//! Each process has an emulated adapter of its own, with the same LID. A test starts itself once more for the second process.

use opx_emu::{Config, EmuBus, Icode, Lab, Pacing};
use opx_stack::Address;
use opx_tests::fabtests::processes::{self, Process};
use opx_tests::rig::Rig;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

/// The job, in the second process.
const JOB: &str = "OPX_TESTS_JOB";
/// What stands before an endpoint's context.
const CONTEXT: &str = "opx: context ";

type Scenario = fn(&mut Process<EmuBus>, Address);

fn open(job: &str, second: bool) -> Process<EmuBus> {
    let lab = Lab::new(Pacing::Real);
    let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
    Process::open(Rig::new(adapter.bus(), (lab, adapter)), job, second)
}

/// The context that a process tells, as the peer of an endpoint.
fn peer(lines: impl Iterator<Item = std::io::Result<String>>, me: Address) -> Address {
    let mut lines = lines.map(Result::unwrap);
    // The test runner's words may be on the same line.
    let rx = lines.find_map(|line| line.split_once(CONTEXT)?.1.parse().ok()).expect("the other process has opened");
    Address { rx, ..me }
}

/// The second process; it is killed if the test fails.
struct Second(Child);

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

impl Second {
    fn start(test: &str, job: &str, first: Address) -> (Self, BufReader<ChildStdout>) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(JOB, job)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{CONTEXT}{}", first.rx).unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        (Self(child), said)
    }
}

fn run(test: &str, scenario: Scenario) {
    if let Ok(job) = std::env::var(JOB) {
        let mut process = open(&job, true);
        let me = process.address();
        println!("\n{CONTEXT}{}", me.rx);
        let mut lines = std::io::stdin().lines();
        scenario(&mut process, peer(&mut lines, me));
        // Until the first process has all that it waits for.
        assert!(lines.next().is_none());
        return;
    }
    let job = format!("processes-{:016x}", RandomState::new().hash_one(std::process::id()));
    let mut process = open(&job, false);
    let me = process.address();
    let (mut second, said) = Second::start(test, &job, me);
    let mut lines = said.lines();
    scenario(&mut process, peer(&mut lines, me));
    drop(second.0.stdin.take());
    assert!(second.0.wait().unwrap().success(), "{:?}", lines.collect::<Vec<_>>());
}

macro_rules! tests {
    ($($test:ident),*) => {
        $(#[test]
        fn $test() {
            run(stringify!($test), processes::$test);
        })*
    };
}

tests!(rdm, rdm_pingpong, rma_pingpong, rdm_atomic, rdm_stress);
