//! A new user's visit: all commands that the book shows for a node with an adapter, in its order, then those of the README, on
//! stock vfio-pci behind an IOMMU and Linux's own driver. Exit codes and output must be as they are shown.

use crate::vfio::{Steps, initrd};
use crate::{hfi1, vfio};
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Iommu, Kernel, Run,
};
use opx_tests::shown::{Command, blocks, compare};
use std::fs;
use std::path::Path;

/// What the visit brings about in the kernel's log, besides what bringing an adapter to vfio-pci does anyway.
const EXPECTED: [&str; 0] = [];

/// A command of the book, and how it must end.
struct Step {
    name: String,
    chapter: String,
    command: Command,
    exit: i32,
}

/// The scenario.
pub fn run(run: &Run) -> Result<(), GuestError> {
    let book = book()?;
    let environment = Environment::get(Kernel::Trixie)?;
    let mut initrd = initrd(&environment, include_str!("visit.sh"), &[])?;
    for module in ["vfio_pci", "vfio_iommu_type1"] {
        initrd.loadable_module(module)?;
    }
    hfi1::stock_software(&mut initrd, "")?;
    // What the Debian package brings, where it brings it.
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/debian");
    initrd.local_file(&packaged.join("modprobe.conf"), "usr/share/doc/opx-tools/examples/modprobe.conf")?;
    initrd.local_file(&packaged.join("60-opx.rules"), "usr/lib/udev/rules.d/60-opx.rules")?;
    initrd.file("etc/passwd", 0o644, "root:x:0:0:root:/root:\nuser:x:1000:1000:user:/home/user:\n");
    for step in &book {
        // The harness has the rights that sudo gives.
        let text = step.command.text.strip_prefix("sudo ").unwrap_or(&step.command.text);
        initrd.file(&format!("visit/{}", step.name), 0o644, format!("{text}\n"));
    }
    // The driver crashes when a link comes up before it has registered its InfiniBand devices (ib_cache_event_task).
    let arguments = ["--cable", "--link-time", "3"].map(str::to_owned).to_vec();
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 2, arguments })?;
    let adapters = emulator.sockets().to_vec();
    let options = GuestOptions { adapters, iommu: Iommu::Translating, memory: 2048, ..GuestOptions::default() };
    let mut guest = Guest::start(run, &environment, &initrd.build(End::PowerOff), &options)?;
    let steps = Steps::take_expecting(&mut guest, &environment, &[&vfio::EXPECTED[..], &EXPECTED].concat())?;
    for step in &book {
        judge(&steps, step)?;
    }
    // The udev rule's program says of an adapter's group that it is one, and of another that it isn't.
    for (name, exit) in [("udev-adapter", 0), ("udev-other", 1)] {
        let status = steps.status(name)?;
        if status != exit {
            return Err(steps.judged(format!("step {name} exits with {status} instead of {exit}")));
        }
    }
    hfi1::judge_adapters(emulator).map(drop)
}

/// The commands that need a node with an adapter, in the order of the book's chapters, then those of the README.
fn book() -> Result<Vec<Step>, GuestError> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let unread = |path: &Path, error| GuestError::Content(format!("can't read {}: {error}", path.display()));
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| unread(path, error));
    let summary = read(&docs.join("SUMMARY.md"))?;
    let chapters = summary.lines().filter_map(|line| line.split_once("](")?.1.strip_suffix(')'));
    // Then once more, by the README alone.
    let documents = chapters.map(|chapter| format!("docs/{chapter}")).chain(["README.md".to_owned()]);
    let mut book: Vec<Step> = Vec::new();
    for chapter in documents {
        let text = read(&docs.join("..").join(&chapter))?;
        for block in blocks(&text).into_iter().filter(|block| block.has("guest")) {
            for command in block.commands() {
                let right = if command.text.starts_with("sudo ") { "root" } else { "user" };
                let name = format!("{:03}-{right}", book.len());
                book.push(Step { name, chapter: chapter.clone(), command, exit: block.exit() });
            }
        }
    }
    Ok(book)
}

fn judge(steps: &Steps, step: &Step) -> Result<(), GuestError> {
    let Step { name, chapter, command, exit } = step;
    let (status, out, err) = (steps.status(name)?, steps.said("out", name), steps.said("err", name));
    let printed = [out, err].concat();
    let wrong = match compare(&command.output, &printed) {
        _ if status != *exit => format!("exits with {status} instead of {exit}"),
        Err(line) => format!("doesn't print {line:?} where the book shows it"),
        Ok(()) => return Ok(()),
    };
    let (line, text, printed) = (command.line, &command.text, printed.join("\n"));
    Err(steps.judged(format!("{chapter}:{line}: `{text}` {wrong}; it prints:\n{printed}\n")))
}
