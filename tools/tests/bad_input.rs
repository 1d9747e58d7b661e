//! Input that makes no sense, adapters that can't be had and readers that leave, for every command of every program: one clear line
//! and an exit code.

mod serve;

use serve::Serving;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const PROBE: &str = env!("CARGO_BIN_EXE_opx-probe");
const LOOPBACK: &str = env!("CARGO_BIN_EXE_opx-loopback");
const PERF: &str = env!("CARGO_BIN_EXE_opx-perf");
const EMU: &str = env!("CARGO_BIN_EXE_opx-emu");

/// The commands of opx-probe that look at one adapter.
const LOOKING: [&[&str]; 14] = [
    &["info"],
    &["link"],
    &["contexts"],
    &["sdma"],
    &["counters"],
    &["qsfp"],
    &["eprom"],
    &["temperature"],
    &["firmware"],
    &["errors"],
    &["csr", "read", "CCE_REVISION"],
    &["csr", "dump"],
    &["csr", "write", "RCV_CTRL", "0", "--write"],
    &["export", "--listen", "127.0.0.1:0"],
];

fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("XDG_RUNTIME_DIR");
    command
}

/// The one line that a program complains with.
fn complaint(program: &str, args: &[&str]) -> String {
    let output = command(program, args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{program} {args:?}: {error}");
    let name = Path::new(program).file_name().unwrap().to_str().unwrap();
    assert!(error.starts_with(&format!("{name}: ")), "{error}");
    assert!(output.stdout.is_empty(), "{program} {args:?}");
    error
}

/// A machine with one adapter that is ready to be opened, but for what the caller does to it.
struct Node {
    dir: TempDir,
}

impl Node {
    fn new() -> Self {
        let node = Self { dir: tempfile::tempdir().unwrap() };
        let device = node.device();
        fs::create_dir_all(&device).unwrap();
        for folder in ["sys/bus/pci/drivers/vfio-pci", "sys/bus/pci/drivers/hfi1", "dev/vfio", "proc", "run"] {
            fs::create_dir_all(node.path(folder)).unwrap();
        }
        for (file, text) in [("vendor", "0x8086"), ("device", "0x24f0")] {
            fs::write(device.join(file), format!("{text}\n")).unwrap();
        }
        for file in ["dev/vfio/vfio", "dev/vfio/17"] {
            fs::write(node.path(file), "").unwrap();
        }
        symlink("../../../../kernel/iommu_groups/17", device.join("iommu_group")).unwrap();
        node.driver(Some("vfio-pci"));
        node
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn device(&self) -> PathBuf {
        self.path("sys/bus/pci/devices/0000:af:00.0")
    }

    fn driver(&self, name: Option<&str>) {
        let _ = fs::remove_file(self.device().join("driver"));
        if let Some(name) = name {
            symlink(format!("../../drivers/{name}"), self.device().join("driver")).unwrap();
        }
    }

    /// What opx-probe's command says of the adapter `at`.
    fn says(&self, args: &[&str], at: &[&str]) -> String {
        let places = ["sys", "run", "dev", "proc"].map(|name| self.path(name).display().to_string());
        let [sys, run, dev, proc] = &places;
        complaint(PROBE, &[args, at, &["--sysfs", sys, "--run", run, "--dev", dev, "--proc", proc]].concat())
    }
}

#[test]
fn adapters_that_cant_be_had_are_told_by_every_command() {
    let at = ["--adapter", "af:00.0"];
    type Trouble = fn(&Node);
    let troubles: [(&str, Trouble); 6] = [
        ("bound to driver hfi1, not to vfio-pci", |node| node.driver(Some("hfi1"))),
        ("bound to no driver", |node| node.driver(None)),
        ("no IOMMU group", |node| fs::remove_file(node.device().join("iommu_group")).unwrap()),
        ("is not an HFI1", |node| fs::write(node.device().join("device"), "0x1234\n").unwrap()),
        // A kernel without VFIO, or one whose module isn't loaded.
        ("load the driver: modprobe vfio-pci", |node| fs::remove_file(node.path("dev/vfio/vfio")).unwrap()),
        ("no such PCI function", |node| fs::remove_dir_all(node.device()).unwrap()),
    ];
    for (says, trouble) in troubles {
        let node = Node::new();
        trouble(&node);
        for args in LOOKING {
            let line = node.says(args, &at);
            assert!(line.contains("0000:af:00.0: ") && line.contains(says), "{args:?}: {line}");
        }
    }
}

#[test]
fn names_that_mean_nothing_are_told_by_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("file"), "{ \"kind\": \"opx-probe csr dump\"").unwrap();
    let missing = format!("vfio-user:{}", path("none.sock"));
    for args in LOOKING {
        for (more, says) in [
            (&["--adapter", "hfi1_0"][..], "names no adapter"),
            (&["--adapter", &missing], "no such socket; start the server first"),
            (&["--adapter", "ffff:ff:1f.7"], "no such PCI function"),
            (&["--adapterr", "emulated"], "--adapterr"),
        ] {
            let line = complaint(PROBE, &[args, more].concat());
            assert!(line.contains(says), "{args:?} {more:?}: {line}");
        }
        // A dump that was cut off.
        if args.first() != Some(&"export") {
            let line = complaint(PROBE, &[args, &["--adapter", "emulated", "--load", &path("file")]].concat());
            assert!(line.contains(&path("file")), "{args:?}: {line}");
        }
    }
    for (program, args, says) in [
        (PROBE, &["inof"][..], "info"),
        (PROBE, &["csr", "raed"], "read"),
        (PROBE, &["csr", "read", "CCE_REVISOIN", "--adapter", "emulated"], "CCE_REVISION"),
        (PROBE, &["counters", "RcvOverflwo", "--adapter", "emulated"], "RcvOverflow"),
        (PROBE, &["csr", "diff", &path("file")], "file"),
        (PROBE, &["doctor", "--from", &path("none")], "no folder with saved facts"),
        (PROBE, &["bind", "af:00"], "af:00"),
        (PROBE, &["unbind", "ffff:ff:1f.7", "--dry-run"], "ffff:ff:1f.7"),
        (PROBE, &["top", "--adapter", "emulated"], "top needs a terminal"),
        (PROBE, &["man", "/proc/none"], "/proc/none"),
        (LOOPBACK, &["--adapter", "hfi1_0"], "names no adapter"),
        (LOOPBACK, &["--adapter", "ffff:ff:1f.7"], "no such PCI function"),
        (LOOPBACK, &["--lvel", "full"], "--level"),
        (PERF, &["--adapter", "hfi1_0"], "names no adapter"),
        (PERF, &["--adapter", &missing], "no such socket"),
        (PERF, &["--adapter", "ffff:ff:1f.7"], "no such PCI function"),
        (PERF, &["--pattern", "latencyy"], "latency"),
        (PERF, &["--sizes", "8x"], "8x"),
        (EMU, &[], "--socket"),
        (EMU, &["--socket", "/proc/none/a.sock"], "/proc/none/a.sock"),
        (EMU, &["--socket", &path("a.sock"), "--cable"], "--cable"),
        (EMU, &["--socket", &path("a.sock"), "--wire", "listen"], "listen"),
    ] {
        let line = complaint(program, args);
        assert!(line.contains(says), "{program} {args:?}: {line}");
    }
}

#[test]
fn an_adapter_that_another_uses_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("a.sock");
    let _serving = Serving::start(&[&socket], &[]);
    // A client that says nothing keeps the server as one that works does.
    let _client = UnixStream::connect(&socket).unwrap();
    let adapter = format!("vfio-user:{}", socket.display());
    for (program, args) in [(PROBE, &["info"][..]), (PROBE, &["contexts"]), (PROBE, &["csr", "dump"]), (LOOPBACK, &[])]
    {
        let line = complaint(program, &[args, &["--adapter", &adapter]].concat());
        assert!(line.contains("busy with another client") && line.contains("a.sock"), "{args:?}: {line}");
    }
    // A list has the others, too.
    let output = command(PROBE, &["list", "--socket", socket.to_str().unwrap()]).output().unwrap();
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
    assert!(line.contains("busy with another client"), "{line}");
}

/// Runs it with a reader that takes a few bytes and leaves, or none.
fn left_alone(program: &str, args: &[&str], bytes: usize) -> Output {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let child = command(program, args).stdout(writer).spawn().unwrap();
    let mut some = vec![0; bytes];
    // Fewer may come.
    let _ = reader.read(&mut some);
    drop(reader);
    child.wait_with_output().unwrap()
}

#[test]
fn a_reader_that_leaves_ends_nothing_badly() {
    let commands = LOOKING.into_iter().filter(|args| args.first() != Some(&"export"));
    let mut all: Vec<(&str, Vec<&str>)> =
        commands.map(|args| (PROBE, [args, &["--adapter", "emulated"]].concat())).collect();
    for args in [
        &["list", "--json"][..],
        &["doctor"],
        &["csr", "list"],
        &["completions", "bash"],
        &["counters", "--all", "--adapter", "emulated"],
        &["counters", "--watch", "0.001", "--all", "--adapter", "emulated"],
        &["--help"],
        &["info", "--help"],
    ] {
        all.push((PROBE, args.to_vec()));
    }
    all.push((LOOPBACK, vec!["--list"]));
    all.push((LOOPBACK, vec!["--dry-run"]));
    all.push((LOOPBACK, vec!["--faults", "list"]));
    all.push((LOOPBACK, vec!["--help"]));
    all.push((PERF, vec!["--sizes", "8", "--count", "10", "--rounds", "1"]));
    all.push((EMU, vec!["--help"]));
    for (program, args) in all {
        for bytes in [0, 16] {
            let output = left_alone(program, &args, bytes);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            // 1 where there is trouble; list has no adapter here.
            let fine = matches!(output.status.code(), Some(0 | 1)) || args.first() == Some(&"list");
            assert!(
                fine && !error.contains("panicked") && error.lines().count() <= 1,
                "{program} {args:?}: {output:?}"
            );
        }
    }
}
