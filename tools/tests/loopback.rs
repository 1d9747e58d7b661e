//! opx-loopback as its users run it: on every kind of adapter, with a file, with faults, and with input that makes no sense.

mod serve;

use opx_bus::Chance;
use rustix::process::Signal;
use serde_json::Value;
use serve::{Serving, next_client, next_output};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

const FAULTS: [&str; 8] = ["--loss", "5", "--dup", "2", "--reorder", "5", "--corrupt", "1"];

/// The rungs that it lists.
fn ladder() -> &'static [String] {
    static RUNGS: OnceLock<Vec<String>> = OnceLock::new();
    RUNGS.get_or_init(|| {
        let listed = String::from_utf8(run(&["--list"]).stdout).unwrap();
        let rungs: Vec<String> = listed.lines().map(str::to_owned).collect();
        assert!(rungs.len() >= 14 && rungs.first().is_some_and(|rung| rung == "registers"), "{rungs:?}");
        rungs
    })
}

fn loopback(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_opx-loopback"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> Output {
    next_output(&mut loopback(args))
}

/// Runs it and expects every rung to have passed; the JSON report.
fn report(args: &[&str]) -> Value {
    passed(run(&[args, &["--json"]].concat()))
}

/// As [`report`], of faults: what the driver logs of them is none of the run's errors.
fn fault_report(args: &[&str]) -> Value {
    passed(loopback(&[args, &["--json"]].concat()).env("RUST_LOG", "off").output().unwrap())
}

fn passed(output: Output) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    assert_eq!(err, "");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["version"], &report["passed"]), (&1.into(), &true.into()));
    report
}

fn rungs(report: &Value) -> Vec<&str> {
    let rungs = report["rungs"].as_array().unwrap();
    rungs.iter().map(|rung| rung["rung"].as_str().unwrap()).collect()
}

/// A file of random bytes, and its SHA-256.
fn file(dir: &TempDir, len: usize) -> (PathBuf, String) {
    let mut chance = Chance::new(len as u64);
    let bytes: Vec<u8> = (0..len).map(|_| chance.next_u64() as u8).collect();
    let path = dir.path().join(format!("{len}.bin"));
    fs::write(&path, &bytes).unwrap();
    (path, Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_rung_passes_in_real_time() {
    let report = report(&[]);
    assert_eq!(rungs(&report), ladder());
    for rung in report["rungs"].as_array().unwrap() {
        assert!(rung["messages"].as_u64().unwrap() > 0 && rung["bytes"].as_u64().unwrap() > 0, "{rung}");
    }
    assert!(report["rungs"][ladder().len() - 1]["faults"].as_u64().unwrap() > 0);
    assert!(report["rungs"][ladder().len() - 1]["retransmits"].as_u64().unwrap() > 0);
}

#[test]
fn both_kinds_of_chip_pass() {
    assert_eq!(rungs(&report(&["--virtual-time", "--icode", "simulator"])), ladder());
    assert_eq!(rungs(&report(&["--virtual-time", "--icode", "silicon"])), ladder());
}

#[test]
fn a_file_arrives_whole_through_a_spoilt_wire() {
    let dir = tempfile::tempdir().unwrap();
    // A length that is a multiple of nothing.
    for len in [1, 5_000_011] {
        let (path, hash) = file(&dir, len);
        let report = report(&[&["--file", text(&path)], &FAULTS[..]].concat());
        let line = &report["rungs"][ladder().len()];
        assert_eq!((&line["rung"], &line["bytes"]), (&"file".into(), &len.into()));
        assert_eq!(report["file"]["sent"], hash);
        assert_eq!(report["file"]["arrived"], hash);
    }
}

#[test]
fn a_seed_gives_the_same_run_to_the_last_count() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = file(&dir, 3_000_000);
    let run = |seed| report(&[&["--virtual-time", "--seed", seed, "--file", text(&path)], &FAULTS[..]].concat());
    let first = run("3");
    assert_eq!(first, run("3"));
    assert_ne!(first["rungs"][ladder().len()], run("4")["rungs"][ladder().len()]);
}

#[test]
fn an_adapter_behind_a_socket_passes_too() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("a.sock");
    let mut serving = Serving::start(&[&socket], &[]);
    let (path, hash) = file(&dir, 2_000_003);
    let spec = format!("vfio-user:{}", socket.display());
    // A second user of the same server, after the first one.
    assert_eq!(rungs(&report(&["--adapter", &spec])), ladder());
    let report = report(&[&["--adapter", &spec, "--file", text(&path)], &FAULTS[..]].concat());
    assert_eq!((&report["file"]["sent"], &report["file"]["arrived"]), (&hash.clone().into(), &hash.into()));
    assert!(report["rungs"][ladder().len()]["faults"].as_u64().unwrap() > 0);
    serving.signal(Signal::TERM);
    assert!(serving.child.wait().unwrap().success());
}

#[test]
fn faults_on_the_servers_wire_are_recovered_from() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a.sock", "b.sock"].map(|name| dir.path().join(name));
    let _serving = Serving::start(&[&a, &b], &[&["--cable"], &FAULTS[..]].concat());
    let (path, hash) = file(&dir, 3_000_017);
    let (sent, arrived) = transfer(&a, &b, &path, &[]);
    assert_eq!((&sent["file"]["sent"], &arrived["file"]["arrived"]), (&hash.clone().into(), &hash.into()));
    assert!(sent["rungs"][0]["retransmits"].as_u64().unwrap() > 0);
}

/// Sends a file between two processes at the two ends of a cable; their reports.
fn transfer(a: &Path, b: &Path, path: &Path, more: &[&str]) -> (Value, Value) {
    let [sent, arrived] = next_client(|| {
        let (receiver, sender) = start_transfer(a, b, path, more);
        [sender, receiver].map(|end| end.wait_with_output().unwrap())
    });
    (passed(sent), passed(arrived))
}

fn start_transfer(a: &Path, b: &Path, path: &Path, more: &[&str]) -> (Child, Child) {
    let spec = |socket: &Path| format!("vfio-user:{}", socket.display());
    let end = |args: &[&str]| loopback(&[args, more, &["--json"]].concat()).spawn().unwrap();
    let receiver = end(&["--adapter", &spec(b), "--role", "receiver"]);
    let sender = end(&["--adapter", &spec(a), "--role", "sender", "--file", text(path)]);
    (receiver, sender)
}

#[test]
fn a_file_crosses_a_cable_between_two_processes() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a.sock", "b.sock"].map(|name| dir.path().join(name));
    let _serving = Serving::start(&[&a, &b], &["--cable"]);
    let (path, hash) = file(&dir, 6_000_007);
    // In both directions, with the adapters used a second time.
    for (from, to) in [(&a, &b), (&b, &a)] {
        let (sent, arrived) = transfer(from, to, &path, &["--loss", "2"]);
        assert_eq!((&sent["file"]["sent"], &sent["file"]["arrived"]), (&hash.clone().into(), &Value::Null));
        assert_eq!((&arrived["file"]["sent"], &arrived["file"]["arrived"]), (&Value::Null, &hash.clone().into()));
    }
}

#[test]
fn a_file_crosses_a_tcp_wire_between_two_emulators() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, control] = ["a.sock", "b.sock", "control"].map(|name| dir.path().join(name));
    let mut listening = Serving::start(&[&a], &["--wire", "listen:127.0.0.1:0"]);
    let address = listening.line();
    let address = address.strip_prefix("wire ").unwrap();
    let place = format!("connect:{address}");
    let mut connecting = Serving::start(&[&b], &["--wire", &place, "--control", text(&control)]);
    let (path, hash) = file(&dir, 6_000_007);
    for (from, to) in [(&a, &b), (&b, &a)] {
        let (sent, arrived) = transfer(from, to, &path, &["--loss", "2"]);
        assert_eq!((&sent["file"]["sent"], &arrived["file"]["arrived"]), (&hash.clone().into(), &hash.clone().into()));
        // The cable out and in again: the next two drivers find a wire that works.
        let mut commands = std::os::unix::net::UnixStream::connect(&control).unwrap();
        let mut answers = BufReader::new(commands.try_clone().unwrap()).lines();
        for command in ["pull", "plug"] {
            writeln!(commands, "{command}").unwrap();
            assert_eq!(answers.next().unwrap().unwrap(), "ok");
        }
    }
    for (serving, place) in [(&mut listening, "listen:127.0.0.1:0"), (&mut connecting, &place)] {
        serving.signal(Signal::TERM);
        let mut said = String::new();
        serving.out.read_to_string(&mut said).unwrap();
        assert!(said.contains(&format!("wire {place}: ")) && said.contains("last failure: "), "{said}");
        assert!(serving.child.wait().unwrap().success());
    }
}

/// The one line that it complained with.
fn complaint(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(2), 1), "{stderr}");
    assert!(stderr.starts_with("opx-loopback: "), "{stderr}");
    stderr
}

#[test]
fn a_server_that_dies_in_mid_transfer_is_an_error_and_no_hang() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a.sock", "b.sock"].map(|name| dir.path().join(name));
    let serving = Serving::start(&[&a, &b], &["--cable"]);
    // Sparse, and far more than can be sent before the server is gone.
    let path = dir.path().join("large.bin");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let (receiver, sender) = start_transfer(&a, &b, &path, &[]);
    let mut serving = serving;
    // The transfer is under way once the adapters have moved packets; their statistics tell.
    loop {
        serving.signal(Signal::USR1);
        let mut packets = 0;
        for _ in 0..2 {
            while !serving.line().contains(".sock:") {}
            let line = serving.line();
            let number = line.trim_start().strip_prefix("packets sent ").and_then(|rest| rest.split(' ').next());
            packets += number.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        }
        if packets > 2000 {
            break;
        }
    }
    serving.signal(Signal::KILL);
    for end in [receiver, sender] {
        let error = complaint(&end.wait_with_output().unwrap());
        assert!(error.contains("gone") && error.contains("vfio-user:"), "{error}");
        assert!(error.contains("couldn't be given back as it was found"), "{error}");
    }
}

#[test]
fn two_runs_at_once_dont_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (path, hash) = file(&dir, 1_000_003);
    let runs = [1, 2].map(|seed: u32| {
        let seed = seed.to_string();
        loopback(&[&["--json", "--seed", &seed, "--file", text(&path)], &FAULTS[..]].concat()).spawn().unwrap()
    });
    for run in runs {
        let report = passed(run.wait_with_output().unwrap());
        assert_eq!(report["file"]["arrived"], hash);
    }
}

#[test]
fn bad_input_is_one_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    fs::write(&empty, "").unwrap();
    let missing = dir.path().join("missing");
    // Nobody writes to it: opening it would wait for ever.
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let not_a_server = dir.path().join("silent.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&not_a_server).unwrap();
    let vfio_user = |path: &Path| format!("vfio-user:{}", path.display());
    let (silent, absent, folder) = (vfio_user(&not_a_server), vfio_user(&missing), vfio_user(dir.path()));
    for (args, part) in [
        (&["--adapter", "ffff:ff:1f.7"][..], "no such PCI function"),
        (&["--adapter", "hfi1_0"], "names no adapter"),
        (&["--adapter", &silent], "no answer within"),
        (&["--adapter", &absent], "no such socket"),
        (&["--adapter", &folder], "not a socket"),
        (&["--file", text(&missing)], "No such file"),
        (&["--file", text(&empty)], "is empty"),
        (&["--file", text(dir.path())], "isn't a regular file"),
        (&["--file", text(&pipe)], "isn't a regular file"),
        (&["--loss", "101"], "0 to 100"),
        (&["--dup", "-1"], "0 to 100"),
        (&["--reorder", "NaN"], "0 to 100"),
        (&["--corrupt", "much"], "0 to 100"),
        (&["--seed", "-1"], "--seed"),
        (&["--firmware", text(&missing)], "hfi1_"),
        (&["--role", "sender"], "--cable"),
        (&["--virtual-time", "--adapter", &absent], "--virtual-time"),
        (&["--no-such-option"], "--no-such-option"),
    ] {
        let error = complaint(&loopback(args).output().unwrap());
        assert!(error.contains(part), "{args:?}: {error}");
    }
}

#[test]
fn the_table_is_for_people() {
    let output = run(&["--virtual-time"]);
    let table = String::from_utf8(output.stdout).unwrap();
    for word in
        ladder().iter().map(String::as_str).chain(["messages", "bytes", "faults", "resent", "time", "rate", "verdict"])
    {
        assert!(table.contains(word), "{word} is missing:\n{table}");
    }
    assert_eq!(table.matches("passed").count(), ladder().len());
}

#[test]
fn a_server_that_hangs_at_any_time_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = file(&dir, 60_000_000);
    let mut told = 0;
    // Found by counting the packets that the adapter has sent: in the rungs below the endpoints, and above them.
    for packets in [300, 2_000, 5_000, 12_000] {
        let socket = dir.path().join(format!("{packets}.sock"));
        let mut serving = Serving::start(&[&socket], &[]);
        let run = loopback(&["--adapter", &format!("vfio-user:{}", socket.display()), "--file", text(&path)]).spawn();
        loop {
            serving.signal(Signal::USR1);
            while !serving.line().contains(".sock:") {}
            let line = serving.line();
            let number = line.trim_start().strip_prefix("packets sent ").and_then(|rest| rest.split(' ').next());
            if number.and_then(|number| number.parse::<u32>().ok()).is_some_and(|sent| sent > packets) {
                break;
            }
        }
        serving.signal(Signal::STOP);
        let output = run.unwrap().wait_with_output().unwrap();
        // The signal may come after the last byte.
        if output.status.code() != Some(0) {
            let error = complaint(&output);
            assert!(error.contains("gone") && error.contains("no answer to"), "{error}");
            told += 1;
        }
        serving.signal(Signal::KILL);
    }
    assert!(told > 0, "no run was cut short");
}

#[test]
fn a_reader_that_leaves_and_a_full_disk_are_no_panic() {
    for (stdout, code) in
        [(Stdio::from(std::io::pipe().unwrap().1), 0), (fs::File::create("/dev/full").unwrap().into(), 2)]
    {
        let output = loopback(&["--virtual-time", "--json"]).stdout(stdout).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(!error.contains("panicked") && error.lines().count() <= 1, "{error}");
    }
}

#[test]
fn a_report_that_cant_be_written_loses_no_result() {
    let dir = tempfile::tempdir().unwrap();
    let full = dir.path().join("r.json");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    let output = loopback(&["--virtual-time", "--report", text(&full)]).output().unwrap();
    assert!(complaint(&output).contains("can't be written to"));
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("passed").count(), ladder().len());
}

#[test]
fn faults_are_listed_and_survived_one_by_one() {
    let listed = run(&["--faults", "list"]);
    assert_eq!(listed.status.code(), Some(0));
    let names = String::from_utf8(listed.stdout).unwrap();
    assert!(names.lines().eq(opx_emu::Fault::all().map(opx_emu::Fault::name)));

    let some = "egress-config-parity,link-signal-lost,8051-dead,chip-overheated,cce-la-triggered";
    let report = fault_report(&["--faults", some, "--after", "7", "--icode", "simulator"]);
    let rows = report["faults"].as_array().unwrap();
    let seen = |n: usize| rows[n]["seen"].as_str().unwrap();
    assert_eq!(rows.len(), 5);
    assert!(seen(0).contains("SEND_EGRESS_ERR_STATUS.TX_CONFIG_PARITY_ERR: 1"), "{}", seen(0));
    assert!(seen(1).contains("link_downs: 1; ") && seen(1).contains("recoveries of an endpoint: 2"), "{}", seen(1));
    assert!(seen(2).contains("lost_heartbeats: 1"), "{}", seen(2));
    assert!(seen(3).contains("the adapter had to be opened again"), "{}", seen(3));
    assert!(seen(4).contains("CCE_ERR_STATUS.LA_TRIGGERED: 1"), "{}", seen(4));
}

#[test]
fn every_fault_is_survived() {
    let report = fault_report(&["--faults", "--icode", "simulator"]);
    let rows = report["faults"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["fault"].as_str().unwrap()).collect();
    assert_eq!(names, opx_emu::Fault::all().map(opx_emu::Fault::name).collect::<Vec<_>>());
    let seen = |name: &str| rows[names.iter().position(|other| *other == name).unwrap()]["seen"].as_str().unwrap();
    for (name, wanted) in [
        ("pio-stall", "restarts of a send context: 1"),
        ("pio-lost-credits", "restarts of a send context: 1"),
        ("sdma-stall", "restarts of an SDMA engine: 1"),
        ("receive-icrc", "broken packets: 1"),
        ("8051-dead", "lost_heartbeats: 1"),
    ] {
        assert!(seen(name).contains(wanted), "{name}: {}", seen(name));
    }
}

/// A fault that never happens isn't survived.
#[test]
fn a_fault_that_is_not_survived_makes_the_exit_code_1() {
    let args = ["--faults", "cce-la-triggered", "--after", "1000000", "--icode", "simulator"];
    let output = run(&args);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("FAILED: unit 0 had fewer than 1000000 packets"), "{text}");
    for args in [&["--faults", "gremlins"][..], &["--after", "3"], &["--faults", "--role", "receiver"]] {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
}
