//! SIGUSR2: every endpoint writes its state, the application's own handler is called as before, and the process lives on. Each case
//! runs in a process of its own, this test program once more.

mod common;

use common::bench;
use opx_bus::PciFunction;
use opx_stack::Config;
use opx_stack::observe::dump_on_sigusr2;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const CASE: &str = "OPX_SIGUSR2_CASE";
const USR2: i32 = signal_hook::consts::SIGUSR2;
static CALLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn handler(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    CALLED.fetch_add(1, Ordering::SeqCst);
}

fn install() {
    vmm_sys_util::signal::register_signal_handler(USR2, handler).unwrap();
}

fn signal() {
    signal_hook::low_level::raise(USR2).unwrap();
}

/// What the process of a case does.
#[test]
fn the_process_of_a_case() {
    let Ok(case) = std::env::var(CASE) else { return };
    if case == "before" {
        install();
    }
    if case != "not asked for" {
        dump_on_sigusr2().unwrap();
        dump_on_sigusr2().unwrap();
    }
    if case == "after" {
        install();
    }
    let mut bench = bench(Config::default());
    // One that is opened later hasn't missed anything.
    let turns = |bench: &mut common::Bench| {
        let end = bench.hfi.bus().now() + Duration::from_millis(600);
        bench.run(|bench| bench.hfi.bus().now() >= end);
    };
    turns(&mut bench);
    assert_eq!(dumps(Path::new(".")).len(), 0, "nothing without a signal");
    if case == "unwritable" {
        std::fs::remove_dir(std::env::current_dir().unwrap()).unwrap();
    }
    for times in 1..=2 {
        signal();
        turns(&mut bench);
        let expected = if matches!(&case[..], "before" | "after") { times } else { 0 };
        assert_eq!(CALLED.load(Ordering::SeqCst), expected, "the application's handler");
    }
    println!("process {} lived on", std::process::id());
}

/// The files that endpoints wrote.
fn dumps(directory: &Path) -> Vec<String> {
    let Ok(files) = std::fs::read_dir(directory) else { return Vec::new() };
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".out")).collect()
}

fn run(case: &str, prefix: &str) -> (Output, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let script = format!("{prefix} exec \"$0\" --exact the_process_of_a_case --nocapture --test-threads=1");
    let mut command = Command::new("sh");
    let output =
        command.args(["-c", &script]).arg(program).env(CASE, case).current_dir(directory.path()).output().unwrap();
    let dumps = dumps(directory.path());
    (output, dumps)
}

fn lives_on(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("lived on"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_endpoint_writes_its_state() {
    let (output, dumps) = run("asked for", "");
    lives_on(&output);
    // Two endpoints, in the file that is theirs, by the process's number.
    assert_eq!(dumps.len(), 2, "{dumps:?}");
    for name in dumps {
        let parts: Vec<_> = name.trim_end_matches(".out").rsplitn(4, '-').collect();
        let [rx, lid, pid, _host] = parts[..] else { panic!("{name}") };
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(rx.len() == 4 && lid.len() == 6 && text.contains(&format!("process {pid} lived on")), "{name}: {text}");
    }
}

#[test]
fn a_handler_that_was_there_before_is_called_once_for_each_signal() {
    let (output, dumps) = run("before", "");
    lives_on(&output);
    assert_eq!(dumps.len(), 2);
}

#[test]
fn a_handler_that_is_installed_later_takes_over() {
    let (output, dumps) = run("after", "");
    lives_on(&output);
    assert_eq!(dumps.len(), 0, "nobody calls the earlier one");
}

#[test]
fn a_signal_that_was_ignored_writes_and_does_nothing_else() {
    let (output, dumps) = run("asked for", "trap '' USR2;");
    lives_on(&output);
    assert_eq!(dumps.len(), 2);
}

#[test]
fn a_process_that_did_not_ask_for_it_is_ended_as_ever() {
    let (output, dumps) = run("not asked for", "");
    assert_eq!(output.status.signal(), Some(USR2), "{output:?}");
    assert_eq!(dumps.len(), 0);
}

#[test]
fn a_working_directory_that_cannot_be_written_harms_nobody() {
    let (output, dumps) = run("unwritable", "");
    lives_on(&output);
    assert_eq!(dumps.len(), 0);
}
