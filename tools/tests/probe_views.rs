//! What opx-probe shows, for review: every command on the emulated adapter, as text in 80 columns and as JSON; and the metrics
//! that it serves.
//!
//! The emulated adapter's clock is simulated, so that each run shows the same. What depends on the machine is masked.

use opx_bus::{BusError, Chance, DmaBlock, PciFunction, SharedMem, delegate};
use opx_defs::csr::{self, Access, Csr};
use opx_defs::units::BarOff;
use opx_emu::{Config, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::observe::Recording;
use opx_stack::{Endpoint, Pattern};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

fn probe(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_opx-probe")).args(args).env_remove("XDG_RUNTIME_DIR").output().unwrap()
}

/// Runs it and expects an exit code; what it printed.
fn printed(args: &[&str], code: i32) -> String {
    let output = probe(args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Text and JSON of a command; paths in `dir` are shown as [DIR].
fn both(name: &str, args: &[&str], code: i32, dir: Option<&Path>) {
    let mask = |text: String| match dir {
        Some(dir) => text.replace(&dir.display().to_string(), "[DIR]"),
        None => text,
    };
    let text = mask(printed(args, code));
    let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80 && !line.contains("[DIR]")).collect();
    // The list of registers has a line for each, to be searched.
    assert!(wide.is_empty() || name == "csr-list", "{name}: more than 80 columns: {wide:#?}");
    assert!(!text.contains('\x1b'), "{text}");
    insta::assert_snapshot!(format!("{name}.text"), text);
    let json = mask(printed(&[args, &["--json"]].concat(), code));
    let mut value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["version"], 1, "{name}");
    if let Some(kernel) = value.get_mut("zero_copy_receive") {
        *kernel = "[KERNEL]".into();
    }
    insta::assert_snapshot!(format!("{name}.json"), serde_json::to_string_pretty(&value).unwrap());
}

/// The commands that look at an adapter, as it is after a reset.
#[test]
fn views_of_an_adapter() {
    let firmware = tempfile::tempdir().unwrap();
    opx_emu::firmware::write_files(firmware.path()).unwrap();
    let folder = firmware.path().display().to_string();
    for (name, args) in [
        ("link", &["link"][..]),
        ("contexts", &["contexts"]),
        ("sdma", &["sdma"]),
        ("counters", &["counters", "DcXmit*"]),
        ("qsfp", &["qsfp"]),
        ("eprom", &["eprom", "--offset", "131072", "--length", "32"]),
        ("temperature", &["temperature"]),
        ("firmware", &["firmware", "--firmware", &folder]),
        ("errors", &["errors"]),
        ("csr-read", &["csr", "read", "SEND_CTXT_C*", "--index", "3"]),
        ("csr-write", &["csr", "write", "RCV_CTRL", "RCV_PORT_ENABLE=1", "--write"]),
    ] {
        let args = [args, &["--adapter", "emulated"]].concat();
        both(name, &args, 0, Some(firmware.path()));
    }
}

#[test]
fn identity_of_an_adapter() {
    let text = printed(&["info", "--adapter", "emulated"], 0);
    // What the kernel can do of zero-copy receive is the machine's.
    let text: String =
        text.lines().filter(|line| !line.starts_with("zero-copy")).map(|line| format!("{line}\n")).collect();
    insta::assert_snapshot!("info.text", text);
    let mut info: Value = serde_json::from_str(&printed(&["info", "--adapter", "emulated", "--json"], 0)).unwrap();
    info["zero_copy_receive"] = "[KERNEL]".into();
    insta::assert_snapshot!("info.json", serde_json::to_string_pretty(&info).unwrap());
}

/// A register of a list is shown by its row, the dump by a part of it.
#[test]
fn registers_listed_and_dumped() {
    both("csr-list", &["csr", "list", "CCE_REVISION"], 0, None);
    let dump = printed(&["csr", "dump", "SEND_DMA_ENGINES", "--adapter", "emulated"], 0);
    insta::assert_snapshot!("csr-dump", dump);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dump.json").display().to_string();
    let saved = printed(&["csr", "dump", "SEND_DMA_ENGINES", "--adapter", "emulated", "--save", &file], 0);
    insta::assert_snapshot!("csr-dump-saved.text", saved.replace(&dir.path().display().to_string(), "[DIR]"));
    assert_eq!(fs::read_to_string(&file).unwrap(), dump);
    let (old, new) = (dir.path().join("old.json"), dir.path().join("new.json"));
    fs::write(&old, &dump).unwrap();
    fs::write(&new, dump.replace("0x10", "0x8")).unwrap();
    let [old, new] = [old, new].map(|path| path.display().to_string());
    both("csr-diff", &["csr", "diff", &old, &new], 1, Some(dir.path()));
}

/// A node with one adapter of hfi1's.
fn node() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("sys/bus/pci/devices/0000:af:00.0");
    fs::create_dir_all(device.join("infiniband/hfi1_0/ports/1")).unwrap();
    for folder in ["sys/bus/pci/drivers/vfio-pci", "sys/bus/pci/drivers/hfi1", "run", "dev", "proc"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    for (file, text) in [
        ("vendor", "0x8086"),
        ("device", "0x24f0"),
        ("numa_node", "1"),
        ("current_link_speed", "8.0 GT/s PCIe"),
        ("max_link_speed", "8.0 GT/s PCIe"),
        ("current_link_width", "16"),
        ("max_link_width", "16"),
        ("infiniband/hfi1_0/node_guid", "0011:7501:0102:0304"),
        ("infiniband/hfi1_0/ports/1/state", "4: ACTIVE"),
    ] {
        fs::write(device.join(file), format!("{text}\n")).unwrap();
    }
    symlink("../../drivers/hfi1", device.join("driver")).unwrap();
    symlink("../../../../kernel/iommu_groups/17", device.join("iommu_group")).unwrap();
    fs::write(dir.path().join("facts.json"), r#"{ "version": 1 }"#).unwrap();
    dir
}

#[test]
fn views_of_a_node() {
    let node = node();
    let path = |name: &str| node.path().join(name).display().to_string();
    let places = ["--sysfs", &path("sys"), "--run", &path("run"), "--dev", &path("dev"), "--proc", &path("proc")];
    both("list", &[&["list"][..], &places].concat(), 0, Some(node.path()));
    let bind = [&["bind", "af:00.0", "--dry-run"][..], &places].concat();
    both("bind", &bind, 0, Some(node.path()));
    let driver = node.path().join("sys/bus/pci/devices/0000:af:00.0/driver");
    let bound_to = |name: &str| {
        fs::remove_file(&driver).unwrap();
        symlink(format!("../../drivers/{name}"), &driver).unwrap();
    };
    bound_to("vfio-pci");
    let unbind = [&["unbind", "af:00.0", "--dry-run"][..], &places].concat();
    both("unbind", &unbind, 0, Some(node.path()));
    bound_to("hfi1");
    both("doctor", &["doctor", "--from", &path("")], 1, None);
    // Somebody uses it through hfi1.
    let fds = node.path().join("proc/4711/fd");
    fs::create_dir_all(&fds).unwrap();
    fs::write(node.path().join("proc/4711/comm"), "osu_latency\n").unwrap();
    symlink(path("dev/hfi1_0"), fds.join("3")).unwrap();
    both("list-in-use", &[&["list"][..], &places].concat(), 0, Some(node.path()));
}

#[test]
fn counters_are_watched() {
    let args = ["counters", "--watch", "0.001", "--count", "2", "--adapter", "emulated"];
    let text = printed(&args, 0);
    assert_eq!(text, "nothing was counted in 0.0 s\n".repeat(2));
    let round =
        ["counters", "RcvHdrOvr", "--all", "--watch", "0.001", "--count", "1", "--adapter", "emulated", "--json"];
    let mut round: Value = serde_json::from_str(&printed(&round, 0)).unwrap();
    // One of them shows the form.
    round["counters"].as_array_mut().unwrap().truncate(1);
    insta::assert_snapshot!("counters-watched.json", serde_json::to_string_pretty(&round).unwrap());
    let lines = printed(&[&args[..], &["--json", "--all"]].concat(), 0);
    assert_eq!(lines.lines().count(), 2);
    for line in lines.lines() {
        let look: Value = serde_json::from_str(line).unwrap();
        assert!(look["seconds"].as_f64().unwrap() > 0.0 && look["counters"].as_array().unwrap().len() > 100);
    }
}

/// All registers of an adapter, as `csr dump` keeps them.
fn dump_of(bus: &EmuBus) -> Value {
    let owners = bus.read64(csr::DC_DC8051_CFG_CSR_ACCESS_SEL.off());
    let lcb_is_hosts = csr::DC_DC8051_CFG_CSR_ACCESS_SEL::LCB.is_set(owners);
    let readable = |csr: &Csr| {
        let lcb = csr.name.starts_with("DC_LCB_");
        csr.access != Access::WriteOnly && csr.name != "ASIC_EEP_DATA" && (!lcb || lcb_is_hosts)
    };
    let row = |csr: &'static Csr| {
        let values = (0..csr.count).flat_map(|index| (0..csr.len).map(move |element| csr.element(index, element)));
        (csr.name.to_owned(), values.map(|at| format!("{:#x}", bus.read64(at)).into()).collect::<Vec<Value>>().into())
    };
    let registers: serde_json::Map<String, Value> = csr::all().filter(|csr| readable(csr)).map(row).collect();
    serde_json::json!({ "kind": "opx-probe csr dump", "version": 1, "adapter": "0000:af:00.0", "registers": registers })
}

/// An adapter whose link is up and that has an endpoint open, seen through its dump.
#[test]
fn views_of_an_adapter_at_work() {
    let config = Config { icode: Icode::FunctionalSimulator, ..Config::default() };
    let adapter = Lab::new(Pacing::Virtual).add(config);
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    let _endpoint = Endpoint::open(&hfi, opx_stack::Config::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dump.json");
    fs::write(&file, dump_of(&adapter.bus()).to_string()).unwrap();
    let file = file.display().to_string();
    for command in ["link", "contexts", "sdma", "counters", "errors"] {
        let args = [command, "--adapter", "emulated", "--load", &file];
        both(&format!("{command}-at-work"), &args, 0, Some(dir.path()));
    }
    let same = printed(&["csr", "diff", &file, &file], 0);
    assert!(same.contains("hold the same"), "{same}");
}

/// Counts the memory that is mapped for the adapter.
#[derive(Clone)]
struct Counting {
    inner: EmuBus,
    bytes: Arc<AtomicU64>,
}

impl PciFunction for Counting {
    fn read64(&self, offset: BarOff) -> u64 {
        self.inner.read64(offset)
    }

    fn write64(&self, offset: BarOff, value: u64) {
        self.inner.write64(offset, value);
    }

    fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
        self.inner.write_block(offset, block);
    }

    fn dma_alloc(&self, len: usize) -> Result<DmaBlock, BusError> {
        let block = self.inner.dma_alloc(len)?;
        self.bytes.fetch_add(block.memory().len() as u64, Ordering::Relaxed);
        Ok(block)
    }

    fn dma_map(&self, memory: &SharedMem) -> Result<DmaBlock, BusError> {
        self.bytes.fetch_add(memory.len() as u64, Ordering::Relaxed);
        self.inner.dma_map(memory)
    }

    delegate!(inner: name bar0_len config_read config_write irq_enable reset gone now pause relax wait_irq);
}

/// The figure that people are told is the least power of two that is enough.
#[test]
fn an_endpoint_needs_the_memory_that_is_told() {
    let config = Config { icode: Icode::FunctionalSimulator, ..Config::default() };
    let bus = Counting { inner: Lab::new(Pacing::Virtual).add(config).bus(), bytes: Arc::default() };
    let hfi = Hfi::open(bus.clone(), Options::default()).unwrap();
    let _endpoint = Endpoint::open(&hfi, opx_stack::Config::default()).unwrap();
    let bytes = bus.bytes.load(Ordering::Relaxed).next_power_of_two();
    let node = node();
    fs::create_dir_all(node.path().join("proc/self")).unwrap();
    fs::write(node.path().join("proc/self/limits"), "Max locked memory  65536  65536  bytes\n").unwrap();
    let text = printed(&["doctor", "--json", "--from", &node.path().display().to_string()], 1);
    assert!(
        text.contains(&format!("may lock 65536 bytes; an endpoint of default size needs {bytes}")),
        "{bytes}: {text}"
    );
}

/// Exchanges messages between two endpoints on a simulated clock; leaves the recorder and the state dump of one of them, as those
/// of process 4711.
fn recorded(dir: &Path) -> [String; 2] {
    let config = Config { icode: Icode::FunctionalSimulator, ..Config::default() };
    let adapter = Lab::new(Pacing::Virtual).add(config);
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    let files = dir.join("files");
    fs::create_dir(&files).unwrap();
    let config =
        opx_stack::Config { recorder: Recording::Directory(files.clone()), seed: 1, ..opx_stack::Config::default() };
    let [mut a, mut b] = [0; 2].map(|_| Endpoint::open(&hfi, config.clone()).unwrap());
    for (tag, len) in [(1, 10), (2, 5000), (3, 40_000)] {
        b.tag_receive(Pattern::exact(tag), vec![0; len], tag).unwrap();
        a.tag_send(b.address(), tag, vec![7; len], tag).unwrap();
        let (mut sent, mut received) = (false, false);
        while !(sent && received) {
            if !(a.progress().unwrap() | b.progress().unwrap()) {
                hfi.bus().relax();
            }
            sent |= a.poll_completion().is_some();
            received |= b.poll_completion().is_some();
        }
    }
    let mut state = Vec::new();
    a.write_state(&mut state).unwrap();
    let state = String::from_utf8(state).unwrap().replace(&format!("({})", std::process::id()), "(4711)");
    // Where the caller of `progress` was is this test.
    let (told, _) = state.split_once(" Backtrace ").unwrap();
    let (record, dump) = (dir.join("a.rec"), dir.join("a.out"));
    fs::write(&dump, format!("{told} Backtrace ---\n   0: main\n")).unwrap();
    let mut names: Vec<_> = fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut bytes = fs::read(&names[0]).unwrap();
    bytes[32..40].copy_from_slice(&4711u64.to_le_bytes());
    fs::write(&record, bytes).unwrap();
    [record, dump].map(|path| path.display().to_string())
}

#[test]
fn records_and_dumps_of_an_endpoint() {
    let dir = tempfile::tempdir().unwrap();
    let [record, dump] = recorded(dir.path());
    both("record", &["record", &record, "--last", "12"], 0, Some(dir.path()));
    both("record-dump", &["record", &dump, "--last", "3"], 0, Some(dir.path()));
    // What the recorder has is what the dump has.
    let rows = |file: &str, at: &str| {
        let shown: Value = serde_json::from_str(&printed(&["record", file, "--json"], 0)).unwrap();
        shown[at][0]["records"].clone()
    };
    assert_eq!(rows(&record, "recorders"), rows(&dump, "dumps"));
    assert!(printed(&["record", &dump, "--all"], 0).contains("backtrace\n0: main\n"));
}

/// One file of a process that makes no sense doesn't hide the others, and none is waited for.
#[test]
fn files_of_a_process_that_make_no_sense_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let [record, dump] = recorded(dir.path());
    let place = dir.path().join("of the process");
    fs::create_dir(&place).unwrap();
    fs::rename(record, place.join("h-4711-000001-0500.rec")).unwrap();
    let dump = fs::read_to_string(dump).unwrap();
    fs::write(place.join("h-4711-000001-0500.out"), &dump).unwrap();
    let half: Vec<&str> = dump.lines().take(20).collect();
    fs::write(place.join("h-4711-000001-0400.out"), half.join("\n")).unwrap();
    let pipe = |name: &str| {
        let path = dir.path().join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        path.display().to_string()
    };
    pipe("of the process/h-4711-000001-0300.out");
    let proc = dir.path().join("files").display().to_string();
    let args = ["record", "4711", "--proc", &proc, "--last", "1"];
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_opx-probe"));
        let output = command.args(args).args(more).current_dir(&place).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(&[]);
    assert!(text.contains("flight recorder  ./h-4711-000001-0500.rec"), "{text}");
    let told = "not shown: ./h-4711-000001-0400.out was cut off after 20 lines";
    assert!(text.lines().any(|line| line.starts_with(told)), "{text}");
    let json: Value = serde_json::from_str(&run(&["--json"])).unwrap();
    let count = |name: &str| json[name].as_array().unwrap().len();
    assert_eq!((count("recorders"), count("dumps"), count("unread")), (1, 1, 1), "{json}");
    assert_eq!(json["unread"][0]["file"], "./h-4711-000001-0400.out");
    for name in ["x.rec", "x.out"] {
        assert!(one_line(&["record", &pipe(name)]).contains("isn't a regular file"));
    }
}

#[test]
fn broken_recorders_and_dumps_are_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let [record, dump] = recorded(dir.path());
    let bad = dir.path().join("bad.rec");
    let path = bad.display().to_string();
    let says = |bytes: &[u8]| {
        fs::write(&bad, bytes).unwrap();
        one_line(&["record", &path])
    };
    let (record, dump) = (fs::read(record).unwrap(), fs::read_to_string(dump).unwrap());
    for len in [8, 4096, record.len() - 1] {
        assert!(says(&record[..len]).contains("was cut off"), "{len}");
    }
    for bytes in [&b""[..], b"OPXREC", &[0; 5000], &[0xff; 200_000]] {
        assert!(says(bytes).contains("isn't a flight recorder's file"));
    }
    // A recorder whose entries are spoilt shows the others, whatever is in them.
    let mut chance = Chance::new(1);
    for _ in 0..50 {
        let mut spoilt = record.clone();
        spoilt.iter_mut().skip(64).step_by(97).for_each(|byte| *byte = chance.next_u64() as u8);
        fs::write(&bad, &spoilt).unwrap();
        printed(&["record", &path], 0);
    }
    let lines: Vec<&str> = dump.lines().collect();
    for keep in [1, 5, lines.len() / 2, lines.len() - 2] {
        assert!(says(lines[..keep].join("\n").as_bytes()).contains("was cut off"), "{keep}");
    }
    assert!(says(b"(x) ===").contains("is no state dump: line 1"));
    assert!(
        says(dump.replacen("(4711) opx_ep", "(4712) opx_ep", 1).as_bytes()).contains("line 2: it isn't of the same")
    );
    assert!(says(dump.replacen("(4711) @ ", "(4711) @ x", 1).as_bytes()).contains("it makes no sense there"));
    assert!(one_line(&["record", dir.path().to_str().unwrap()]).contains("is a folder"));
    assert!(one_line(&["record", &dir.path().join("b.rec").display().to_string()]).contains("there are: a.rec"));
    assert!(one_line(&["record", &path, "--dump"]).contains("--dump asks a process"));
}

/// The one line that it complains with.
fn one_line(args: &[&str]) -> String {
    let output = probe(args);
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty() && output.status.code() == Some(2), "{args:?}: {line}");
    assert!(line.starts_with("opx-probe: ") && line.lines().count() == 1, "{args:?}: {line}");
    line
}

/// A dump of an adapter in trouble is loaded, and its errors are told.
#[test]
fn errors_of_a_dump_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dump.json");
    let dump = printed(&["csr", "dump", "SEND_DMA_ENG_ERR_STATUS", "--adapter", "emulated"], 0);
    fs::write(&file, dump.replacen("0x0", "0x22", 1)).unwrap();
    let args = ["errors", "--adapter", "emulated", "--load", &file.display().to_string()];
    both("errors-standing", &args, 1, None);
}

#[test]
fn bad_names_and_places_are_one_line() {
    for (args, says) in [
        (&["counters", "DcXmitPktz", "--adapter", "emulated"][..], "the nearest: DcXmitPkts"),
        (&["eprom", "--offset", "16777216", "--adapter", "emulated"], "lie beyond the EPROM's 16 MiB"),
        (&["eprom", "--length", "65537", "--adapter", "emulated"], "65537"),
        (&["export", "--listen", "localhost", "--adapter", "emulated"], "localhost"),
        (&["export", "--listen", "192.0.2.1:1", "--adapter", "emulated"], "can't listen on 192.0.2.1:1"),
        (&["top", "--adapter", "emulated"], "top needs a terminal"),
        (&["completions", "frob"], "frob"),
        (&["lnik"], "link"),
    ] {
        let line = one_line(args);
        assert!(line.contains(says), "{args:?}: {line}");
    }
}

/// Every command has a manual page and is completed, and the manual in docs/ tells of it.
#[test]
fn each_command_is_documented() {
    let dir = tempfile::tempdir().unwrap();
    printed(&["man", &dir.path().display().to_string()], 0);
    let pages: BTreeSet<String> =
        fs::read_dir(dir.path()).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    let manual = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/opx-probe.md")).unwrap();
    let commands = [
        "list",
        "bind",
        "unbind",
        "doctor",
        "info",
        "link",
        "contexts",
        "sdma",
        "counters",
        "qsfp",
        "eprom",
        "temperature",
        "firmware",
        "errors",
        "csr",
        "record",
        "top",
        "export",
        "completions",
        "man",
    ];
    for command in commands {
        assert!(pages.contains(&format!("opx-probe-{command}.1")), "{command}: {pages:?}");
        assert!(manual.contains(&format!("\nopx-probe {command}")), "{command}");
    }
    for command in ["read", "write", "dump", "diff", "list"] {
        assert!(pages.contains(&format!("opx-probe-csr-{command}.1")), "csr {command}: {pages:?}");
    }
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = printed(&["completions", shell], 0);
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}");
    }
}

/// An opx-probe that serves metrics, ended with the test.
struct Exporter {
    child: Child,
    address: String,
}

impl Exporter {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_opx-probe"))
            .args(["export", "--listen", "127.0.0.1:0", "--adapter", "emulated"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("serving http://").unwrap().strip_suffix("/metrics").unwrap().to_owned();
        Self { child, address }
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text format of OpenMetrics 1.0: families with type before their samples, one family together, `# EOF` at the end.
fn check_openmetrics(text: &str) {
    let body = text.strip_suffix("# EOF\n").unwrap();
    let mut families = BTreeSet::new();
    let mut current = (String::new(), String::new());
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned()), "{name} twice");
            current = (name.to_owned(), kind.to_owned());
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.starts_with(&format!("{} ", current.0)), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap();
            let suffix = if current.1 == "counter" { "_total" } else { "" };
            assert_eq!(name, format!("{}{suffix}", current.0), "{line}");
            assert!(labels.ends_with('}') && labels.starts_with("adapter=\"emulated\""), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(families.len() >= 7, "{families:?}");
}

#[test]
fn metrics_are_scraped() {
    let exporter = Exporter::start();
    for _ in 0..2 {
        let answer = exporter.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(
            head.contains("Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
            "{head}"
        );
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        check_openmetrics(body);
        let of_counters: Vec<&str> = body.lines().filter(|line| line.starts_with("opx_counter_total")).collect();
        // Of the chip's counters the first shows the form.
        let first = |line: &&str| !of_counters.contains(line) || of_counters.first() == Some(line);
        let shown: Vec<&str> = body.lines().filter(first).collect();
        insta::assert_snapshot!("export.text", shown.join("\n"));
        assert!(body.contains("opx_counter_total{adapter=\"emulated\",name=\"RcvOverflow\"} 0\n"), "{body}");
        assert!(body.contains("opx_link_up{adapter=\"emulated\"} 0\n"), "{body}");
    }
    assert!(exporter.ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(exporter.ask("frob\r\n\r\n").starts_with("HTTP/1.1 400 "));
    // Who says nothing, or too much, keeps nobody else from an answer.
    drop(TcpStream::connect(&exporter.address).unwrap());
    assert!(exporter.ask(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000))).starts_with("HTTP/1.1 400 "));
    assert!(exporter.ask("GET /metrics HTTP/1.0\r\n\r\n").ends_with("# EOF\n"));
}
