//! What this machine tells beside its files: the kernel's log, and which processes have device files open.

use super::facts::Process;
use crate::render::shown;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// Records that are read, at most: the kernel's buffer is bounded, but it may be filled while it is read.
const MOST_RECORDS: usize = 100_000;
/// Bytes of a record, at most (`CONSOLE_EXT_LOG_MAX` of Linux's printk).
const RECORD: usize = 8192;

/// The kernel's log; `None` when this user may not read it.
pub fn kernel_log() -> Option<String> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg").ok()?;
    let mut text = String::new();
    let mut record = [0; RECORD];
    for _ in 0..MOST_RECORDS {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(len) => text.push_str(&message(record.get(..len).unwrap_or_default())),
            // Overwritten while it was read: the next one is there.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::PIPE) => {}
            Err(error) if Errno::from_io_error(&error) == Some(Errno::AGAIN) => break,
            Err(_) if text.is_empty() => return None,
            Err(_) => break,
        }
    }
    Some(text)
}

/// A record is `priority,number,time,flags;message`, and lines with more about it that begin with a blank.
fn message(record: &[u8]) -> String {
    let record = String::from_utf8_lossy(record);
    let line = record.lines().next().unwrap_or_default();
    line.split_once(';').map_or(line, |(_, message)| message).to_owned() + "\n"
}

/// Which processes have files of VFIO or of hfi1 open, by file.
pub fn holders() -> BTreeMap<String, Vec<Process>> {
    let mut holders: BTreeMap<String, Vec<Process>> = BTreeMap::new();
    for pid in pids() {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let targets =
            files.flatten().filter_map(|file| fs::read_link(file.path()).ok()?.into_os_string().into_string().ok());
        for file in targets.filter(|target| target.starts_with("/dev/vfio/") || target.starts_with("/dev/hfi1")) {
            let process = Process { pid, name: name(pid) };
            let of_file = holders.entry(file).or_default();
            if !of_file.contains(&process) {
                of_file.push(process);
            }
        }
    }
    holders
}

/// Whether a process of this name runs.
pub fn runs(wanted: &str) -> bool {
    pids().any(|pid| name(pid) == wanted)
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn name(pid: u32) -> String {
    let mut name = Vec::new();
    // What was read until something went wrong is as good as nothing.
    let _ = File::open(format!("/proc/{pid}/comm")).and_then(|file| file.take(64).read_to_end(&mut name));
    // Any user names a process as they like.
    shown(String::from_utf8_lossy(&name).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_give_their_message() {
        assert_eq!(message(b"6,339,5140900,-;DMAR: IOMMU enabled\n SUBSYSTEM=pci\n"), "DMAR: IOMMU enabled\n");
        assert_eq!(message(b"odd"), "odd\n");
    }

    #[test]
    fn this_process_runs() {
        let own = name(std::process::id());
        assert!(runs(&own) && !runs("no such process"));
    }
}
