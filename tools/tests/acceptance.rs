//! opx-loopback as an acceptance test: its levels, its report, what it does to an adapter that isn't its own, and what
//! opx-probe shows of its endpoints meanwhile.

mod serve;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use serve::{Serving, next_output, until};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn program(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("RUST_LOG", "off");
    command
}

fn loopback(args: &[&str]) -> Command {
    program(env!("CARGO_BIN_EXE_opx-loopback"), args)
}

fn probe(args: &[&str]) -> Output {
    next_output(&mut program(env!("CARGO_BIN_EXE_opx-probe"), args))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs it and expects an exit code; what it printed.
fn printed(args: &[&str], code: i32) -> String {
    let output = next_output(&mut loopback(args));
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// The one line that a program complained with.
fn complaint(output: &Output) -> String {
    let error = text(&output.stderr);
    assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
    error
}

fn spec(socket: &Path) -> String {
    format!("vfio-user:{}", socket.display())
}

/// Every key of a document, however deep.
fn keys(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(all) => {
            into.extend(all.keys().cloned());
            all.values().for_each(|value| keys(value, into));
        }
        Value::Array(all) => all.iter().for_each(|value| keys(value, into)),
        _ => {}
    }
}

#[test]
fn a_full_run_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("report");
    let place = folder.to_str().unwrap();
    let full = ["--level", "full", "--virtual-time", "--icode", "simulator"];
    let said = printed(&[&full[..], &["--report", place, "--json"]].concat(), 0);
    let report: Value = serde_json::from_str(&said).unwrap();
    let file: Value = serde_json::from_slice(&fs::read(folder.join("opx-loopback.json")).unwrap()).unwrap();
    assert_eq!(report, file);
    assert_eq!((&report["version"], &report["level"], &report["passed"]), (&1.into(), &"full".into(), &true.into()));
    assert_eq!(report["times_of"], "simulated_clock");

    let rungs = report["rungs"].as_array().unwrap();
    let names: Vec<&str> = rungs.iter().map(|rung| rung["rung"].as_str().unwrap()).collect();
    let listed = printed(&["--list", "--level", "full"], 0);
    assert_eq!(names, listed.lines().collect::<Vec<_>>());
    let faults = rungs.last().unwrap()["faults"].as_u64().unwrap();
    assert_eq!(faults, opx_emu::Fault::all().count() as u64);

    for row in report["latency"].as_array().unwrap() {
        let counts = row["histogram"].as_array().unwrap().iter().map(|bucket| bucket["count"].as_u64().unwrap());
        assert_eq!(counts.sum::<u64>(), row["messages"].as_u64().unwrap());
        let times = ["min_us", "p50_us", "p99_us", "max_us"].map(|name| row[name].as_f64().unwrap());
        assert!(times[0] > 0.0 && times.is_sorted(), "{row}");
    }
    let rows = report["bandwidth"].as_array().unwrap();
    for row in rows {
        let [min, median, max] = ["min", "median", "max"].map(|name| row["gbps"][name].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max, "{row}");
        assert!((row["share_of_link"].as_f64().unwrap() - median / 96.0).abs() < 1e-9, "{row}");
    }
    // The model's link carries 100 Gb/s less what goes with packets.
    let most = rows.iter().map(|row| row["gbps"]["median"].as_f64().unwrap()).fold(0.0, f64::max);
    assert!((80.0..100.0).contains(&most), "{most}");
    // The ladder provokes errors, measuring doesn't.
    let errors = report["errors"].as_array().unwrap();
    assert!(!errors.is_empty() && errors.iter().all(|error| error["while_measuring"] == 0), "{errors:?}");

    let page = fs::read_to_string(folder.join("opx-loopback.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 2);
    assert!(page.contains("Times are SIMULATED"));
    for outside in ["src=", "href=", "url(", "@import"] {
        assert!(!page.contains(outside), "the page needs something else: {outside}");
    }
    let json = page.split("id=\"report\">").nth(1).unwrap().split("</script>").next().unwrap();
    assert_eq!(serde_json::from_str::<Value>(json).unwrap(), report);

    let manual = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/opx-loopback.md")).unwrap();
    let mut all = BTreeSet::new();
    keys(&report, &mut all);
    let missing: Vec<&String> = all.iter().filter(|key| !manual.contains(&format!("\"{key}\""))).collect();
    assert!(missing.is_empty(), "docs/opx-loopback.md doesn't tell of {missing:?}");
}

#[test]
fn a_report_doesnt_say_whose_machine_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("a.sock");
    let _serving = Serving::start(&[&socket], &[]);
    let file = dir.path().join("r.html");
    let args = ["--adapter", &spec(&socket), "--report", file.to_str().unwrap()];
    printed(&args, 0);
    let page = fs::read_to_string(&file).unwrap();
    assert!(!page.contains(dir.path().to_str().unwrap()) && page.contains("vfio-user:a.sock"));
    // The emulated adapter's GUID begins with Intel's number.
    assert!(!page.contains("0011:7501") && !page.contains("00117501"));
    assert!(page.contains("\"host_name\":null") && page.contains("those of an emulated adapter"));
    printed(&[&args[..], &["--host-name"]].concat(), 0);
    let system = rustix::system::uname();
    let name = format!("\"host_name\":{}", serde_json::to_string(&system.nodename().to_string_lossy()).unwrap());
    assert!(fs::read_to_string(&file).unwrap().contains(&name));
}

#[test]
fn a_soak_goes_on_until_its_time_is_up() {
    // The ladder takes some 16 simulated milliseconds, a round 10.
    let args = ["--level", "soak", "--virtual-time", "--icode", "simulator", "--json"];
    let once: Value = serde_json::from_str(&printed(&[&args[..], &["--duration", "0.025"]].concat(), 0)).unwrap();
    let often: Value = serde_json::from_str(&printed(&[&args[..], &["--duration", "0.1"]].concat(), 0)).unwrap();
    let of = |report: &Value, name: &str| {
        let rungs = report["rungs"].as_array().unwrap();
        rungs.iter().find(|rung| rung["rung"] == name).unwrap()["messages"].as_u64().unwrap()
    };
    for name in ["messages", "rendezvous", "zero copy", "reliability"] {
        let (base, soak) = (of(&often, name), of(&often, &format!("soak: {name}")));
        assert!(soak >= 3 * base && soak % base == 0, "{name}: {soak} of {base}");
    }
    assert!(of(&once, "soak: messages") < of(&often, "soak: messages"));
}

#[test]
fn what_there_was_no_time_for_doesnt_pass() {
    let report: Value = serde_json::from_str(&printed(&["--virtual-time", "--duration", "0", "--json"], 1)).unwrap();
    let rungs = report["rungs"].as_array().unwrap();
    assert!(rungs.len() >= 14 && rungs.iter().all(|rung| rung["verdict"] == "not_run"), "{rungs:?}");
}

/// What a register of a served adapter holds.
fn register(socket: &Path, name: &str) -> String {
    let output = probe(&["csr", "read", name, "--adapter", &spec(socket), "--json"]);
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    read["registers"][0]["value"].as_str().unwrap().to_owned()
}

#[test]
fn an_adapter_is_given_back_as_it_was_found() {
    const REGISTERS: [&str; 3] = ["CCE_DC_CTRL", "ASIC_QSFP1_OUT", "ASIC_QSFP2_OUT"];
    let dir = tempfile::tempdir().unwrap();
    let (socket, recorders) = (dir.path().join("a.sock"), dir.path().join("recorders"));
    fs::create_dir(&recorders).unwrap();
    let _serving = Serving::start(&[&socket], &[]);
    let adapter = spec(&socket);
    let state = || REGISTERS.map(|name| register(&socket, name));
    let before = state();
    // Nothing is changed by looking.
    let plan = printed(&["--adapter", &adapter, "--dry-run"], 0);
    assert!(plan.starts_with(&format!("{adapter}, link held in reset: what is done to it\n  - ")), "{plan}");
    assert_eq!(state(), before);
    printed(&["--adapter", &adapter], 0);
    assert_eq!(state(), before);
    // Ended by a signal, in the midst of messages.
    let place = recorders.to_str().unwrap();
    let report = dir.path().join("cut.json");
    let args = ["--adapter", &adapter, "--level", "soak", "--duration", "1h", "--recorder", place, "--report"];
    let mut command = loopback(&[&args[..], &[report.to_str().unwrap()]].concat());
    let mut child = command.spawn().unwrap();
    until("no endpoint", || {
        // The server was still busy with the client before.
        if child.try_wait().unwrap().is_some() {
            child = command.spawn().unwrap();
        }
        fs::read_dir(&recorders).unwrap().next().is_some()
    });
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    match output.status.code() {
        // It had come to the soak already.
        Some(0) => assert!(text(&output.stdout).contains("soak: ")),
        _ => {
            assert!(complaint(&output).contains("stopped by a signal"));
            let report: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
            assert!(report["cut_short"].as_str().unwrap().contains("stopped by a signal"), "{report}");
            assert!(report["passed"] == false && report["rungs"][0]["verdict"] == "passed", "{report}");
        }
    }
    assert_eq!(state(), before);
}

/// Two ends of a cable between which a file without end is sent.
struct Transfer {
    ends: [Child; 2],
}

impl Transfer {
    fn start(sockets: [&Path; 2], dir: &Path) -> Self {
        let file = dir.join("endless");
        fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
        let end = |socket: &Path, more: &[&str]| {
            let adapter = spec(socket);
            let args = [&["--adapter", &adapter, "--recorder", dir.to_str().unwrap(), "--role"], more].concat();
            loopback(&args).current_dir(dir).spawn().unwrap()
        };
        let receiver = end(sockets[1], &["receiver"]);
        let transfer = Self { ends: [end(sockets[0], &["sender", "--file", file.to_str().unwrap()]), receiver] };
        // Its recorder is there once an endpoint is open, and that is when the link is up.
        let has_recorder = |pid: u32| {
            let named = |name: &str| name.ends_with(".rec") && name.contains(&format!("-{pid}-"));
            fs::read_dir(dir).unwrap().any(|entry| named(entry.unwrap().file_name().to_str().unwrap()))
        };
        until("no transfer", || transfer.ends.iter().all(|end| has_recorder(end.id())));
        transfer
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        for end in &mut self.ends {
            let _ = end.kill();
            let _ = end.wait();
        }
    }
}

#[test]
fn an_adapter_in_a_fabric_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a.sock", "b.sock"].map(|name| dir.path().join(name));
    let _serving = Serving::start(&[&a, &b], &["--cable"]);
    // Owners that are killed leave their links up.
    drop(Transfer::start([&a, &b], dir.path()));
    let adapter = spec(&a);
    let refusal = next_output(&mut loopback(&["--adapter", &adapter]));
    let error = complaint(&refusal);
    assert!(error.contains("its link is ACTIVE in a fabric") && error.contains("--take-down-link"), "{error}");
    assert!(refusal.stdout.is_empty());
    let dry = next_output(&mut loopback(&["--adapter", &adapter, "--dry-run"]));
    assert!(complaint(&dry).contains("ACTIVE in a fabric"));
    assert!(text(&dry.stdout).contains("TAKEN OUT OF THE FABRIC"));
    let link: Value = serde_json::from_slice(&probe(&["link", "--adapter", &adapter, "--json"]).stdout).unwrap();
    assert_eq!(link["port"]["logical_state"]["name"], "ACTIVE", "it was touched: {link}");

    printed(&["--adapter", &adapter, "--take-down-link"], 0);
    let link: Value = serde_json::from_slice(&probe(&["link", "--adapter", &adapter, "--json"]).stdout).unwrap();
    assert_ne!(link["port"]["logical_state"]["name"], "ACTIVE", "{link}");
    printed(&["--adapter", &adapter], 0);
}

#[test]
fn recorders_and_dumps_of_a_running_process_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a.sock", "b.sock"].map(|name| dir.path().join(name));
    let _serving = Serving::start(&[&a, &b], &["--cable"]);
    let transfer = Transfer::start([&a, &b], dir.path());
    let pid = transfer.ends[0].id().to_string();
    let shown = |args: &[&str]| {
        let output = probe(&[&["record", &pid], args].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    until("nothing is recorded", || shown(&["--last", "3"]).contains(" to 0x"));
    let said = shown(&["--last", "3"]);
    assert!(said.starts_with(&format!("process {pid} (opx-loopback) runs\n")), "{said}");
    let json: Value = serde_json::from_str(&shown(&["--last", "3", "--dump", "--wait", "300", "--json"])).unwrap();
    assert_eq!(json["process"]["command"], "opx-loopback");
    assert_eq!(json["recorders"].as_array().unwrap().len(), 1);
    let dump = &json["dumps"][0];
    assert_eq!(dump["process"].to_string(), pid);
    assert!(dump["sections"].as_array().unwrap().len() > 5 && dump["records"].as_array().unwrap().len() == 3);
    assert_eq!(dump["endpoint"], json["recorders"][0]["endpoint"]);
    // One that doesn't exist: those that do are offered.
    let error = complaint(&probe(&["record", "4294967295"]));
    assert!(error.contains("no process 4294967295"), "{error}");
    // A process that would be ended by the signal isn't asked; the server doesn't catch it.
    let server = _serving.child.id().to_string();
    let error = complaint(&probe(&["record", &server, "--dump"]));
    assert!(error.contains("doesn't catch SIGUSR2"), "{error}");
    drop(transfer);
    // Afterwards the files tell.
    let mut record = program(env!("CARGO_BIN_EXE_opx-probe"), &["record", &pid, "--last", "1"]);
    let output = record.current_dir(dir.path()).output().unwrap();
    assert!(text(&output.stdout).starts_with(&format!("process {pid} has ended\n")), "{}", text(&output.stderr));
}

#[test]
fn bad_input_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    for (args, says) in [
        (&["--level", "fulll"][..], "full"),
        (&["--duration", "-1"], "up to a week"),
        (&["--duration", "1 day"], "up to a week"),
        (&["--report", &path("x.pdf")], "name a folder, or a file .json or .html"),
        (&["--report", &path("none/x.json")], "none/x.json"),
        (&["--report", &path("file/x.json")], "file/x.json"),
        (&["--recorder", &path("none")], "no such folder"),
        (&["--host-name"], "--report"),
        (&["--level", "full", "--faults"], "--level"),
        (&["--dry-run", "--faults"], "--faults"),
    ] {
        let error = complaint(&loopback(args).output().unwrap());
        assert!(error.starts_with("opx-loopback: ") && error.contains(says), "{args:?}: {error}");
    }
}
