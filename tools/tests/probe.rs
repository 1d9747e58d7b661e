//! opx-probe as its users run it: on a made-up sysfs, on an emulated adapter, and on sockets that opx-emu serves.

mod serve;

use opx_hw::vfio_user::VfioUserBus;
use serde_json::Value;
use serve::{Serving, next_output, until};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A machine of its own: a sysfs tree, and a folder for sockets.
struct Machine {
    dir: TempDir,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sys/bus/pci/devices")).unwrap();
        fs::create_dir_all(dir.path().join("run/opx")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn function(&self, address: &str, device: &str, driver: Option<&str>, group: Option<u32>) {
        let dir = self.path("sys/bus/pci/devices").join(address);
        fs::create_dir_all(&dir).unwrap();
        for (file, text) in [("vendor", "0x8086"), ("device", device), ("numa_node", "1")] {
            fs::write(dir.join(file), format!("{text}\n")).unwrap();
        }
        let link = |name: &str, target: String| symlink(target, dir.join(name)).unwrap();
        driver.into_iter().for_each(|driver| link("driver", format!("../../drivers/{driver}")));
        group.into_iter().for_each(|group| link("iommu_group", format!("../../../kernel/iommu_groups/{group}")));
    }

    fn file(&self, address: &str, name: &str, text: &str) {
        let path = self.path("sys/bus/pci/devices").join(address).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    fn probe(&self, args: &[&str]) -> Output {
        next_output(&mut self.command(args))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_opx-probe"));
        command
            .args(args)
            .arg("--sysfs")
            .arg(self.path("sys"))
            .arg("--run")
            .arg(self.path("run"))
            .arg("--dev")
            .arg(self.path("dev"))
            .arg("--proc")
            .arg(self.path("proc"))
            .env_remove("XDG_RUNTIME_DIR");
        command
    }

    /// Runs it and expects success; what it printed.
    fn text(&self, args: &[&str]) -> String {
        let output = self.probe(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let value: Value = serde_json::from_str(&self.text(&args)).unwrap();
        assert_eq!(value["version"], 1);
        value
    }

    /// Runs it and expects failure; the one line that it complained with.
    fn complaint(&self, args: &[&str]) -> String {
        complaint(&self.probe(args))
    }
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let line = text.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'), "{line}");
    line.strip_prefix("opx-probe: ").unwrap_or_else(|| panic!("{line}")).to_owned()
}

fn spec(socket: &Path) -> String {
    format!("vfio-user:{}", socket.display())
}

#[test]
fn adapters_of_a_machine_are_listed() {
    let machine = Machine::new();
    machine.function("0000:af:00.0", "0x24f0", Some("vfio-pci"), Some(17));
    machine.function("0000:b0:00.0", "0x24f1", Some("hfi1"), Some(18));
    machine.function("0000:b1:00.0", "0x24f0", None, None);
    for (name, text) in [("current_link_speed", "8.0 GT/s PCIe"), ("max_link_speed", "8.0 GT/s PCIe")] {
        machine.file("0000:af:00.0", name, text);
    }
    for name in ["current_link_width", "max_link_width"] {
        machine.file("0000:af:00.0", name, "16");
    }
    machine.file("0000:b0:00.0", "infiniband/opap176s0/node_guid", "0011:7501:0102:0304");
    machine.file("0000:b0:00.0", "infiniband/opap176s0/serial", "0x00ab12cd");
    machine.file("0000:b0:00.0", "infiniband/opap176s0/ports/1/state", "4: ACTIVE");
    machine.function("0000:00:1f.0", "0x1234", None, None);
    let listing = machine.json(&["list"]);
    let adapters = listing["adapters"].as_array().unwrap();
    assert_eq!(adapters.len(), 3);
    let first = &adapters[0];
    assert_eq!(first["adapter"], "0000:af:00.0");
    assert_eq!((&first["device"], &first["driver"]), (&"8086:24f0".into(), &"vfio-pci".into()));
    assert_eq!((&first["iommu_group"], &first["numa_node"]), (&17.into(), &1.into()));
    assert_eq!((&first["usable"], &first["problem"]), (&true.into(), &Value::Null));
    assert!(adapters[1]["problem"].as_str().unwrap().starts_with("bound to hfi1"));
    assert!(adapters[2]["problem"].as_str().unwrap().starts_with("no IOMMU group"));

    let text = machine.text(&["list"]);
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[1], ["0000:af:00.0", "-", "vfio-pci", "17", "1", "8GT/s", "x16", "-"]);
    // hfi1's device has the name that udev gave it; the serial number and the state are found all the same.
    assert_eq!(lines[2], ["0000:b0:00.0", "0x00ab12cd", "hfi1", "18", "1", "-", "ACTIVE"]);
    assert!(text.contains("0000:b0:00.0: bound to hfi1: sudo opx-probe bind 0000:b0:00.0\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(adapters[1]["guid"], "0011:7501:0102:0304");
    assert_eq!((&first["pcie"]["speed_gts"], &first["pcie"]["max_width"]), (&8.0.into(), &16.into()));
}

#[test]
fn no_adapter_is_told_with_where_it_was_looked_for() {
    let machine = Machine::new();
    let line = machine.complaint(&["list"]);
    let devices = machine.path("sys/bus/pci/devices");
    let sockets = machine.path("run/opx/*.sock");
    assert!(line.starts_with("no adapter found: looked for PCI functions 8086:24f0 and 8086:24f1"), "{line}");
    assert!(line.contains(&devices.display().to_string()) && line.contains(&sockets.display().to_string()), "{line}");
    let output = machine.probe(&["list", "--json"]);
    assert!(complaint(&output).starts_with("no adapter found"));
    let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(listing, serde_json::json!({ "version": 1, "adapters": [] }));
    for args in [&["info"][..], &["csr", "read", "CCE_REVISION"]] {
        assert!(machine.complaint(args).starts_with("no adapter found"));
    }
}

#[test]
fn served_adapters_are_found_and_the_only_one_is_the_default() {
    let machine = Machine::new();
    let socket = machine.path("run/opx/one.sock");
    let _served = Serving::start(&[&socket], &[]);
    let listing = machine.json(&["list"]);
    assert_eq!(listing["adapters"].as_array().unwrap().len(), 1);
    let entry = &listing["adapters"][0];
    assert_eq!((&entry["adapter"], &entry["kind"]), (&spec(&socket).into(), &"vfio-user".into()));
    assert_eq!((&entry["device"], &entry["usable"]), (&"8086:24f0".into(), &true.into()));
    assert_eq!(machine.json(&["info"])["adapter"], spec(&socket));

    // A socket that nobody serves any more is listed with what is wrong, and is no choice.
    let dead = machine.path("run/opx/dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    fs::write(machine.path("run/opx/file.sock"), "").unwrap();
    let listing = machine.json(&["list"]);
    assert_eq!(listing["adapters"].as_array().unwrap().len(), 2);
    assert!(listing["adapters"][0]["problem"].as_str().unwrap().contains("nobody listens"));
    // Among others one that is still busy with the client before isn't seen.
    let said = |args: &[&str]| {
        let output = machine.probe(args);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    until("the only one isn't chosen", || said(&["info", "--json"]).contains(&format!("{:?}", spec(&socket))));

    let other = machine.path("run/opx/other.sock");
    let _other = Serving::start(&[&other], &[]);
    let all = format!("there are 2 adapters: choose one with --adapter: {}, {}\n", spec(&socket), spec(&other));
    until("there aren't two to choose from", || said(&["info"]) == format!("opx-probe: {all}"));
}

#[test]
fn sockets_in_the_users_runtime_folder_are_found() {
    let machine = Machine::new();
    fs::create_dir_all(machine.path("user/opx")).unwrap();
    let socket = machine.path("user/opx/a.sock");
    let _served = Serving::start(&[&socket], &[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_opx-probe"));
    command.args(["list", "--sysfs"]).arg(machine.path("sys")).arg("--run").arg(machine.path("run"));
    let output = command.env("XDG_RUNTIME_DIR", machine.path("user")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains(&spec(&socket)));
}

#[test]
fn a_named_socket_that_is_no_adapter_is_an_error() {
    let machine = Machine::new();
    machine.function("0000:af:00.0", "0x24f0", Some("vfio-pci"), Some(17));
    let missing = machine.path("none.sock").display().to_string();
    let output = machine.probe(&["list", "--socket", &missing]);
    assert!(complaint(&output).contains("no such socket"));
    assert!(String::from_utf8(output.stdout).unwrap().contains("0000:af:00.0"));

    // One that is in use answers no one else.
    let busy = machine.path("busy.sock");
    let _served = Serving::start(&[&busy], &[]);
    let _client = VfioUserBus::open(&busy).unwrap();
    let line = complaint(&machine.command(&["list", "--socket", &busy.display().to_string()]).output().unwrap());
    assert!(line.contains("busy with another client"), "{line}");
}

#[test]
fn an_adapters_identity_is_told() {
    let machine = Machine::new();
    let info = machine.json(&["info", "--adapter", "emulated"]);
    assert_eq!(info["pci"]["device"], "8086:24f0");
    assert_eq!((&info["pci"]["link"]["speed_gts"], &info["pci"]["link"]["width"]), (&8.0.into(), &16.into()));
    assert_eq!((&info["chip"]["major"], &info["chip"]["stepping"]), (&7.into(), &"B0".into()));
    assert_eq!(info["chip"]["icode_name"], "RTL_SILICON");
    assert_eq!(info["sizes"]["rcv_array_entries"], 32768);
    // Nobody has taken the link side out of reset, and the probe doesn't.
    assert_eq!((&info["dc_in_reset"], &info["port"]), (&true.into(), &Value::Null));
    assert!(info["zero_copy_receive"]["supported"].is_boolean());

    let text = machine.text(&["info", "--adapter", "emulated"]);
    assert!(text.contains("8 GT/s x16") && text.contains("DC is held in reset"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("zero-copy receive")), "{text}");
    assert!(!text.contains('\x1b'));
}

#[test]
fn registers_are_read_and_decoded() {
    let machine = Machine::new();
    let socket = machine.path("a.sock");
    let _served = Serving::start(&[&socket], &[]);
    for adapter in ["emulated", &spec(&socket)] {
        let dump = machine.json(&["csr", "read", "cce_revision", "--adapter", adapter]);
        assert_eq!(dump["adapter"].as_str().unwrap().split(':').next(), adapter.split(':').next());
        let register = &dump["registers"][0];
        assert_eq!((&register["name"], &register["offset"]), (&"CCE_REVISION".into(), &"0x0000000".into()));
        assert_eq!(register["value"], "0x0000000003020710");
        let field = &register["fields"][0];
        assert_eq!((&field["name"], &field["value"]), (&"CHIP_REV_MINOR".into(), &"0x10".into()));
        assert_eq!((&field["high"], &field["low"]), (&7.into(), &0.into()));
        assert_eq!(machine.json(&["csr", "read", "0", "--adapter", adapter])["registers"][0]["name"], "CCE_REVISION");

        let contexts = machine.json(&["csr", "read", "SEND_CTXT_*", "--index", "3", "--adapter", adapter]);
        let contexts = contexts["registers"].as_array().unwrap();
        assert!(contexts.len() > 5 && contexts.iter().all(|register| register["index"] == 3), "{contexts:?}");
        let by_offset = machine.json(&["csr", "read", "0x1900300", "--adapter", adapter]);
        assert_eq!(by_offset["registers"][0], contexts[0]);
    }
    let text = machine.text(&["csr", "read", "SEND_CONTEXTS", "--adapter", "emulated"]);
    assert!(text.starts_with("SEND_CONTEXTS at 0x1800010 (ro): 0x00000000000000a0\n"), "{text}");
}

#[test]
fn registers_that_must_not_be_read_are_left_alone() {
    let machine = Machine::new();
    let dump = machine.json(&["csr", "read", "ASIC_EEP_*", "--adapter", "emulated"]);
    let registers = dump["registers"].as_array().unwrap();
    let data = registers.iter().find(|register| register["name"] == "ASIC_EEP_DATA").unwrap();
    assert!(data["value"].is_null() && data["skipped"].as_str().unwrap().contains("EPROM"), "{data}");
    assert!(registers.iter().any(|register| register["value"].is_string()));
    for (name, why) in [("ASIC_EEP_DATA", "EPROM"), ("CCE_CTRL", "only be written"), ("DCC_CFG_RESET", "held in reset")]
    {
        let line = machine.complaint(&["csr", "read", name, "--adapter", "emulated"]);
        assert!(line.starts_with(&format!("emulated: {name} isn't read")) && line.contains(why), "{line}");
    }
}

#[test]
fn the_catalogue_needs_no_adapter() {
    let machine = Machine::new();
    let all = machine.json(&["csr", "list"]);
    let all = all["registers"].as_array().unwrap();
    assert_eq!(all.len(), opx_defs::csr::all().count());
    let contexts = all.iter().find(|row| row["name"] == "SEND_CTXT_CTRL").unwrap();
    assert_eq!((&contexts["count"], &contexts["offset"]), (&160.into(), &"0x1900000".into()));
    let some = machine.text(&["csr", "list", "CCE_REV*"]);
    assert_eq!(some.lines().count(), 3, "{some}");
    assert_eq!(machine.text(&["csr", "list"]).lines().count(), 1 + all.len());
}

#[test]
fn bad_input_is_one_line() {
    let machine = Machine::new();
    let bare = Command::new(env!("CARGO_BIN_EXE_opx-probe")).output().unwrap();
    assert!(complaint(&bare).starts_with("say what to do"));
    for (args, part) in [
        (&[][..], "requires a subcommand"),
        (&["frob"], "frob"),
        (&["csr"], "requires a subcommand"),
        (&["csr", "read"], "NAME|OFFSET"),
        (&["csr", "read", "CCE_REVISON"], "the nearest: CCE_REVISION,"),
        (&["csr", "read", "NOTHING*"], "`NOTHING*`"),
        (&["csr", "read", "0x3"], "not a multiple of 8"),
        (&["csr", "read", "0x4000000"], "outside of BAR 0"),
        (&["csr", "read", "0x700000"], "no known register is at"),
        (&["csr", "read", "0xnine"], "is no offset"),
        (&["csr", "read", "CCE_REVISION", "--index", "1"], "there is only one, 0"),
        (&["csr", "read", "CCE_REVISION", "--index", "-1"], "-1"),
        (&["csr", "read", "SEND_CTXT_CTRL", "--index", "160"], "0 to 159"),
        (&["csr", "read", "*"], "at most 4096"),
        (&["csr", "list", "--adapter", "emulated"], "--adapter"),
        (&["csr", "read", "CCE_REVISION", "--adapter", "hfi1_0"], "names no adapter"),
        (&["csr", "write", "SEND_CTXT_CTRL", "1", "--adapter", "emulated"], "these are 160 registers"),
        (&["csr", "write", "CCE_REVISION", "1", "--adapter", "emulated"], "CCE_REVISION can only be read"),
        (&["csr", "write", "RCV_CTRL", "RCV_PORT_ENABEL=1", "--adapter", "emulated"], "there is RCV_PORT_ENABLE"),
        (&["csr", "write", "RCV_CTRL"], "VALUE"),
        (&["csr", "diff", "/nonexistent"], "can't read the dump /nonexistent"),
        (&["info", "--load", "x"], "--adapter"),
        (&["info", "--adapter", "ffff:ff:1f.7"], "doesn't exist"),
        (&["info", "--adapter", "vfio-user:/nonexistent/a.sock"], "no such socket"),
    ] {
        let line = machine.complaint(args);
        assert!(line.contains(part), "{args:?}: {line}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_opx-probe"))
        .args(["csr", "list", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn binding_is_shown_and_refused() {
    let machine = Machine::new();
    machine.function("0000:af:00.0", "0x24f0", Some("hfi1"), Some(17));
    assert!(machine.complaint(&["bind", "af:00.0"]).contains("sudo modprobe vfio-pci"));
    fs::create_dir_all(machine.path("sys/bus/pci/drivers/vfio-pci")).unwrap();
    let text = machine.text(&["bind", "af:00.0", "--dry-run"]);
    assert_eq!(text.lines().count(), 3, "{text}");
    let steps = machine.json(&["bind", "af:00.0", "--dry-run"]);
    assert_eq!((&steps["from"], &steps["to"], &steps["dry_run"]), (&"hfi1".into(), &"vfio-pci".into(), &true.into()));
    assert!(steps["steps"][1]["path"].as_str().unwrap().ends_with("drivers/hfi1/unbind"));
    // There is no driver_override in this tree: what can't be written is told.
    let line = machine.complaint(&["bind", "af:00.0"]);
    assert!(line.starts_with("0000:af:00.0: can't write \"vfio-pci\" to"), "{line}");
    assert!(machine.complaint(&["unbind", "0000:12:00.0"]).contains("there are 0000:af:00.0"));
    assert!(machine.complaint(&["bind", "frob"]).contains("frob"));
}

#[test]
fn a_saved_node_is_examined() {
    let machine = Machine::new();
    fs::write(machine.path("facts.json"), r#"{ "version": 1 }"#).unwrap();
    let from = machine.path("").display().to_string();
    let output = machine.probe(&["doctor", "--from", &from]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("BAD   adapter: no HFI1") && !text.contains('\x1b'), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let output = machine.probe(&["doctor", "--from", &from, "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["version"], &report["findings"][0]["trouble"]), (&1.into(), &"no-adapter".into()));
    assert!(machine.complaint(&["doctor", "--from", "/nonexistent"]).contains("is no folder with saved facts"));
}

/// Whatever this machine is, its facts can be saved, and say elsewhere what they say here.
#[test]
fn this_machine_can_be_saved_and_examined_elsewhere() {
    let machine = Machine::new();
    let copy = machine.path("copy").display().to_string();
    assert!(machine.text(&["doctor", "--save", &copy]).contains("facts saved to"));
    let findings = |args: &[&str]| {
        let report: Value = serde_json::from_slice(&machine.probe(args).stdout).unwrap();
        report["findings"].as_array().unwrap().iter().map(|finding| finding["trouble"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(findings(&["doctor", "--json"]), findings(&["doctor", "--json", "--from", &copy]));
}

#[test]
fn a_register_is_written_only_when_asked_to() {
    let machine = Machine::new();
    let socket = machine.path("a.sock");
    let _served = Serving::start(&[&socket], &[]);
    let write = ["csr", "write", "SEND_CTXT_CREDIT_CTRL", "--index", "3", "THRESHOLD=5", "--adapter", &spec(&socket)];
    let text = machine.text(&write);
    assert!(
        text.contains("THRESHOLD 0x0 -> 0x5") && text.ends_with("nothing was written: give --write to do it\n"),
        "{text}"
    );
    let written = machine.json(&[&write[..], &["--write"]].concat());
    assert_eq!((&written["written"], &written["now"]), (&true.into(), &"0x0000000000000005".into()));
    assert_eq!(written["changes"], serde_json::json!(["THRESHOLD 0x0 -> 0x5"]));
}

#[test]
fn dumps_are_kept_compared_and_loaded() {
    let machine = Machine::new();
    let file = machine.path("dump.json").display().to_string();
    let text = machine.text(&["csr", "dump", "--save", &file, "--adapter", "emulated"]);
    assert!(text.contains(" registers saved to "), "{text}");
    let same = machine.text(&["csr", "diff", &file, "--adapter", "emulated"]);
    assert!(same.ends_with("hold the same\n"), "{same}");

    let changed = machine.path("changed.json").display().to_string();
    let dump = fs::read_to_string(&file).unwrap();
    let mut dump: Value = serde_json::from_str(&dump).unwrap();
    dump["registers"]["SEND_CTXT_CTRL"][3] = "0x1".into();
    fs::write(&changed, dump.to_string()).unwrap();
    let output = machine.probe(&["csr", "diff", &file, &changed]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("SEND_CTXT_CTRL[3]: ") && text.contains("CTXT_ENABLE 0x0 -> 0x1"), "{text}");
    assert!(text.ends_with("1 registers differ\n"), "{text}");

    let loaded = ["csr", "read", "SEND_CTXT_CTRL", "--index", "3", "--adapter", "emulated", "--load", &changed];
    assert_eq!(machine.json(&loaded)["registers"][0]["value"], "0x0000000000000001");
    fs::write(&changed, "{").unwrap();
    assert!(machine.complaint(&loaded).contains("is no whole dump of registers"));
    let real = machine.complaint(&["info", "--adapter", "0000:af:00.0", "--load", &file]);
    assert!(real.contains("isn't written to a real adapter"), "{real}");
}
