//! opx-perf as its users run it: both ends in one process, two ends of a cable, and what it says of bad input.

mod serve;

use serde_json::Value;
use serve::Serving;
use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

fn perf(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_opx-perf"));
    command.args(args);
    command
}

fn run(args: &[&str]) -> Output {
    perf(args).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The lines of a report as transport, pattern, bytes and messages.
fn lines(report: &Value) -> Vec<(String, String, u64, u64)> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    let all = report["lines"].as_array().unwrap().iter();
    all.map(|line| {
        assert!(line["microseconds"].as_f64().unwrap() > 0.0, "{line}");
        let number = |key: &str| line[key].as_u64().unwrap();
        (text(line, "transport"), text(line, "pattern"), number("size"), number("messages"))
    })
    .collect()
}

#[test]
fn an_adapter_looped_back_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("plot.svg");
    let common = ["--sizes", "0,17,20k", "--count", "20", "--rounds", "2", "--posted", "50000"];
    let report = json(&perf(common).args(["--json", "--plot"]).arg(&plot).output().unwrap());
    assert_eq!((&report["version"], &report["adapter"]), (&Value::from(1), &Value::from("emulated")));
    let expected = ["latency", "bandwidth"].map(|pattern| [0, 17, 20 << 10].map(|size| (pattern, size)));
    let expected: Vec<_> =
        expected.iter().flatten().map(|(pattern, size)| ("opx".to_owned(), (*pattern).to_owned(), *size, 40)).collect();
    assert_eq!(lines(&report), expected);
    for line in report["lines"].as_array().unwrap() {
        let counted: u64 =
            line["histogram"].as_array().unwrap().iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum();
        assert_eq!(counted, if line["pattern"] == "latency" { 40 } else { 0 });
    }
    assert!(std::fs::read_to_string(plot).unwrap().contains("bandwidth, MB/s"));

    let text =
        String::from_utf8(run(&["--sizes", "8", "--count", "20", "--rounds", "1", "--histogram"]).stdout).unwrap();
    assert!(text.contains("M msg/s") && text.contains(" ns ") && text.contains('#'), "{text}");
}

#[test]
fn two_processes_measure_a_cable() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let _serving = Serving::start(&[&a, &b], &["--cable"]);
    let adapter = |path: &std::path::Path| format!("vfio-user:{}", path.display());
    let mut server = perf(["--role", "server", "--adapter", &adapter(&b)]).stdout(Stdio::piped()).spawn().unwrap();
    let client = run(&["--role", "client", "--adapter", &adapter(&a), "--sizes", "8,20k", "--count", "20", "--json"]);
    assert_eq!(lines(&json(&client)).len(), 4);
    assert!(server.wait().unwrap().success());
}

const ON_MEMORY: &str = "write-latency,write,read-latency,read,fetch-latency,fetch";

#[test]
fn operations_on_memory_are_measured() {
    let common =
        ["--pattern", ON_MEMORY, "--sizes", "0,8,4k,20k", "--count", "20", "--rounds", "2", "--window", "4", "--json"];
    let report = json(&run(&common));
    let of =
        |pattern: &str| lines(&report).iter().filter(|line| line.1 == pattern).map(|line| line.2).collect::<Vec<_>>();
    for pattern in ["write-latency", "write", "read-latency", "read"] {
        assert_eq!(of(pattern), [8, 4096, 20 << 10], "{pattern}");
    }
    for pattern in ["fetch-latency", "fetch"] {
        assert_eq!(of(pattern), [8, 4096], "{pattern}");
    }
    for line in report["lines"].as_array().unwrap() {
        let timed = line["pattern"].as_str().unwrap().ends_with("latency");
        assert_eq!(line["percentiles"].is_null(), !timed, "{line}");
    }
}

/// With OPX_LIBFABRIC_REQUIRED set, as in CI, the library must be there.
#[test]
fn libfabric_is_measured_beside_it_where_it_is_installed() {
    let output = run(&["--sizes", "8,20k", "--count", "20", "--rounds", "1", "--json", "--libfabric", "shm"]);
    let missing = String::from_utf8_lossy(&output.stderr).contains("install libfabric");
    if missing && std::env::var_os("OPX_LIBFABRIC_REQUIRED").is_none() {
        println!("skipped: libfabric isn't installed here");
        return;
    }
    let lines = lines(&json(&output));
    let of = |transport: &str| lines.iter().filter(|line| line.0 == transport).count();
    assert_eq!((of("opx"), of("libfabric shm")), (4, 4));
    let deep =
        ["--sizes", "8,20k", "--count", "20", "--rounds", "1", "--json", "--libfabric", "tcp", "--posted", "300"];
    assert_eq!(self::lines(&json(&run(&deep))).len(), 8);
    for provider in ["shm", "tcp"] {
        let on_memory = [
            "--pattern",
            ON_MEMORY,
            "--sizes",
            "8,4k,20k",
            "--count",
            "20",
            "--rounds",
            "1",
            "--window",
            "4",
            "--json",
        ];
        let report = json(&perf(on_memory).args(["--libfabric", provider]).output().unwrap());
        let all = self::lines(&report);
        let of = |transport: &str| all.iter().filter(|line| line.0 == transport).count();
        assert_eq!((of("opx"), of(&format!("libfabric {provider}"))), (16, 16), "{provider}");
    }
}

#[test]
fn bad_input_is_one_line_and_exit_code_2() {
    for (args, expected) in [
        (&["--sizes", "1G"][..], "give bytes as 8, 4k or 1M"),
        (&["--role", "client"], "--cable"),
        (&["--adapter", "nonsense"], "names no adapter"),
        (&["--window", "0"], "--window"),
        (&["--pattern", "fetch", "--sizes", "12"], "multiple of 8"),
        (&["--libfabric", "shm", "--library", "/nonexistent.so", "--sizes", "8"], "can't load /nonexistent.so"),
        (&["--plot", "/nonexistent/p.svg", "--sizes", "8", "--count", "1"], "/nonexistent/p.svg"),
    ] {
        let output = run(args);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(told.starts_with("opx-perf: ") && told.lines().count() == 1 && told.contains(expected), "{told}");
    }
}

#[test]
fn libraries_are_measured_between_two_processes() {
    let missing = !std::path::Path::new("/usr/lib/x86_64-linux-gnu/libfabric.so.1").exists();
    if missing && std::env::var_os("OPX_LIBFABRIC_REQUIRED").is_none() {
        eprintln!("skipped: there is no libfabric");
        return;
    }
    // One processor serves as well, but slowly: two are what a run takes.
    let output = run(&["--node", "libfabric:shm,libfabric:tcp", "--rounds", "1", "--count", "4"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("| what | libfabric:shm | libfabric:tcp |"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("| bandwidth")).count(), 8, "{text}");

    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("plot.svg");
    let asked =
        ["--node", "opx,libfabric:shm", "--pattern", "latency,bandwidth,write,fetch-latency", "--sizes", "8,4k"];
    let more = ["--window", "1,8", "--rounds", "1", "--count", "20", "--json", "--plot"];
    let report = json(&perf(asked).args(more).arg(&plot).output().unwrap());
    let of = |transport: &str| lines(&report).into_iter().filter(|line| line.0 == transport).count();
    assert_eq!((of("opx"), of("libfabric:shm")), (12, 12), "{report}");
    assert!(report["lines"].as_array().unwrap().iter().all(|line| line["processors"].is_string()));
    let plot = std::fs::read_to_string(plot).unwrap();
    assert!(plot.contains("libfabric:shm, write, window 8"), "{plot}");

    for (arguments, reason) in [
        (&["--node", "telegraph"][..], "openmpi"),
        (&["--node", "opx", "--histogram"], "--histogram"),
        (&["--node", "opx", "--adapter", "vfio-user:/a"], "--adapter"),
        (&["--node", "libfabric:shm", "--cores", "0,0"], "different processors"),
        (&["--node", "libfabric:shm", "--cores", "0,999", "--rounds", "1"], "processor 999"),
        (&["--node", "libfabric:nothing", "--rounds", "1"], "nothing"),
        (&["--node", "libfabric:shm", "--role", "client", "--adapter", "vfio-user:/a"], "--role"),
    ] {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}
