//! Which files are meant: one that was named, or those of a process.
//!
//! A process has its flight recorders mapped, so that its memory map tells where they are. State dumps lie in the folder that it
//! works in. Of a process that has ended, files are looked for in the folder where this one works, and in `/dev/shm`.

use super::file;
use crate::cli::Record;
use crate::places::Places;
use crate::render::shown;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How often is looked for state dumps that were asked for.
const LOOK: Duration = Duration::from_millis(50);
/// Where recorders are best kept.
const MEMORY: &str = "/dev/shm";
/// Names that are offered in place of one that isn't there.
const OFFERED: usize = 4;

/// What was asked for.
#[derive(Debug)]
pub enum Sought {
    /// A file.
    File(PathBuf),
    /// A process, and its files.
    Process(Process, Vec<PathBuf>),
}

/// A process.
#[derive(Debug, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name; none when it has ended.
    pub command: Option<String>,
}

impl Process {
    /// In a line.
    pub fn text(&self) -> String {
        match &self.command {
            Some(command) => format!("process {} ({command}) runs\n", self.pid),
            None => format!("process {} has ended\n", self.pid),
        }
    }
}

/// Nothing is there to be shown.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// No such file.
    #[error("{}: no such file{}", path.display(), offered("in that folder there are", offers))]
    NoFile {
        /// What was named.
        path: PathBuf,
        /// What there is.
        offers: Vec<String>,
    },
    /// No such process, and none that was.
    #[error(
        "no process {pid}, and no file of one (*-{pid}-*.rec or .out) here or in {MEMORY}{}",
        offered("processes with a flight recorder", offers)
    )]
    NoProcess {
        /// Its number.
        pid: u32,
        /// Those with a recorder.
        offers: Vec<String>,
    },
    /// Its memory map can't be read.
    #[error("no permission to look at process {pid}; be its user or root")]
    Permission {
        /// Its number.
        pid: u32,
    },
    /// It has none.
    #[error("process {pid} ({command}) has no flight recorder (Config::recorder, opx-loopback --recorder DIR) and no state dump in {}{}", folder.display(), offered("processes with a flight recorder", offers))]
    NoRecorder {
        /// Its number.
        pid: u32,
        /// Its name.
        command: String,
        /// Where it works.
        folder: PathBuf,
        /// Those with a recorder.
        offers: Vec<String>,
    },
    /// The signal would end it.
    #[error("process {pid} ({command}) doesn't catch SIGUSR2, which would end it: it has to call dump_on_sigusr2")]
    NotCaught {
        /// Its number.
        pid: u32,
        /// Its name.
        command: String,
    },
    /// It can't be sent.
    #[error("can't send SIGUSR2 to process {pid}: {why}")]
    Signal {
        /// Its number.
        pid: u32,
        /// Why.
        why: rustix::io::Errno,
    },
    /// No dump came.
    #[error("process {pid} ({command}) has written no state dump to {} in {wait:?}: none of its endpoints makes progress, or it needs longer (--wait)", folder.display())]
    NoDump {
        /// Its number.
        pid: u32,
        /// Its name.
        command: String,
        /// Where it works.
        folder: PathBuf,
        /// How long they were waited for.
        wait: Duration,
    },
    /// Only a process can be asked.
    #[error("--dump asks a process; give its number")]
    DumpOfFile,
}

fn offered(what: &str, offers: &[String]) -> String {
    if offers.is_empty() { String::new() } else { format!("; {what}: {}", offers.join(", ")) }
}

/// Finds what was asked for.
///
/// # Errors
/// When there is nothing.
pub fn sought(places: &Places, args: &Record) -> Result<Sought, FindError> {
    let path = Path::new(&args.what);
    // A number is a process, unless it is a file.
    match args.what.parse::<u32>() {
        Ok(pid) if !path.exists() => of_process(places, pid, args.dump.then_some(args.wait)),
        _ if args.dump => Err(FindError::DumpOfFile),
        _ if path.exists() => Ok(Sought::File(path.to_owned())),
        _ => Err(FindError::NoFile { path: shown(&args.what).into(), offers: neighbours(path) }),
    }
}

/// Files of a process, with dumps that it is asked for and that are waited for so long.
fn of_process(places: &Places, pid: u32, dump: Option<Duration>) -> Result<Sought, FindError> {
    let proc = places.roots().proc;
    let folder = proc.join(pid.to_string());
    let Some(command) = command(&folder) else {
        let here = [Path::new("."), Path::new(MEMORY)];
        let files: Vec<PathBuf> = here.into_iter().flat_map(|dir| files_of(dir, pid)).collect();
        if files.is_empty() {
            return Err(FindError::NoProcess { pid, offers: offers(&proc) });
        }
        return Ok(Sought::Process(Process { pid, command: None }, files));
    };
    let maps = fs::read_to_string(folder.join("maps")).map_err(|_| FindError::Permission { pid })?;
    let mut files: Vec<PathBuf> = recorders(&maps).into_iter().collect();
    let works_in = fs::read_link(folder.join("cwd")).map_err(|_| FindError::Permission { pid })?;
    let dumps = || files_of(&works_in, pid).into_iter().filter(|path| path.extension().is_some_and(|end| end == "out"));
    if let Some(wait) = dump {
        let before = SystemTime::now();
        ask(&folder, pid, &command)?;
        let begin = Instant::now();
        let written = |path: &PathBuf| {
            let time = fs::metadata(path).and_then(|file| file.modified());
            // A file system's clock may lag behind by a tick of the kernel's.
            let since = before.checked_sub(Duration::from_millis(20)).unwrap_or(before);
            time.is_ok_and(|time| time >= since) && ends_whole(path)
        };
        while dumps().filter(written).count() < files.len().max(1) && begin.elapsed() < wait {
            std::thread::sleep(LOOK);
        }
        let written: Vec<PathBuf> = dumps().filter(written).collect();
        if written.is_empty() {
            return Err(FindError::NoDump { pid, command, folder: works_in, wait });
        }
        files.extend(written);
    } else {
        files.extend(dumps());
    }
    if files.is_empty() {
        return Err(FindError::NoRecorder { pid, command, folder: works_in, offers: offers(&proc) });
    }
    Ok(Sought::Process(Process { pid, command: Some(command) }, files))
}

/// Whether all of a state dump has been written: the backtrace is its end.
fn ends_whole(path: &Path) -> bool {
    file::bytes(path)
        .is_ok_and(|bytes| bytes.ends_with(b"\n") && String::from_utf8_lossy(&bytes).contains("- Backtrace -"))
}

/// Asks for state dumps, if that doesn't end the process.
fn ask(folder: &Path, pid: u32, command: &str) -> Result<(), FindError> {
    let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
    if !catches(&status, Signal::USR2) {
        return Err(FindError::NotCaught { pid, command: command.to_owned() });
    }
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(FindError::Permission { pid })?;
    kill_process(target, Signal::USR2).map_err(|why| FindError::Signal { pid, why })
}

/// Whether the line SigCgt of /proc/PID/status has a signal.
fn catches(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw() - 1) & 1 != 0
}

fn command(folder: &Path) -> Option<String> {
    // Any user names a process as they like.
    let name = fs::read(folder.join("comm")).ok()?;
    Some(shown(String::from_utf8_lossy(&name).trim()))
}

/// The recorders in a memory map.
fn recorders(maps: &str) -> BTreeSet<PathBuf> {
    // Address, rights, offset, device, inode, path.
    let paths = maps.lines().filter_map(|line| line.find('/').and_then(|at| line.get(at..)));
    paths.filter(|path| path.ends_with(".rec")).map(PathBuf::from).collect()
}

/// Processes with a recorder, as far as this user may see.
fn offers(proc: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(proc) else { return Vec::new() };
    let with_recorder = entries.flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let maps = fs::read_to_string(entry.path().join("maps")).ok()?;
        (!recorders(&maps).is_empty()).then(|| format!("{pid} ({})", command(&entry.path()).unwrap_or_default()))
    });
    with_recorder.take(OFFERED).collect()
}

/// Files of a process in a folder, by their names: host, process, LID, context.
fn files_of(dir: &Path, pid: u32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let of_process = |path: &PathBuf| {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let kind = path.extension().is_some_and(|end| end == "rec" || end == "out");
        let parts: Vec<&str> = name.rsplitn(4, '-').collect();
        kind && matches!(parts.as_slice(), [_, _, process, _] if process.parse() == Ok(pid))
    };
    // Neither pipes nor links: the folder may be somebody else's.
    let regular = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let mut files: Vec<PathBuf> = regular.map(|entry| entry.path()).filter(of_process).collect();
    files.sort();
    files
}

/// Recorders and state dumps beside a file that isn't there.
fn neighbours(path: &Path) -> Vec<String> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let wanted = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".rec") || name.ends_with(".out")).collect();
    names.sort_by_key(|name| (strsim::osa_distance(&wanted, name), name.clone()));
    names.truncate(OFFERED);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorders_are_found_in_a_memory_map() {
        let maps = "7f00-7f10 rw-s 00000000 00:1b 12    /dev/shm/a b-1-000001-0500.rec\n\
                    7f10-7f20 rw-s 00001000 00:1b 12    /dev/shm/a b-1-000001-0500.rec\n\
                    7f20-7f30 r-xp 00000000 08:01 13    /lib/libc.so\n7f30-7f40 rw-p 00000000 00:00 0\n\
                    7f40-7f50 rw-s 00000000 00:1b 12    /dev/shm/gone.rec (deleted)\n";
        assert_eq!(recorders(maps), BTreeSet::from(["/dev/shm/a b-1-000001-0500.rec".into()]));
    }

    #[test]
    fn files_are_known_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        for name in
            ["a-b-12-000001-0500.rec", "h-12-000001-0600.out", "h-13-000001-0600.out", "12.rec", "h-12-000001-06.txt"]
        {
            fs::write(dir.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("12.rec", dir.path().join("other-12-000777-0077.rec")).unwrap();
        let names = |pid| {
            files_of(dir.path(), pid)
                .iter()
                .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(12), ["a-b-12-000001-0500.rec", "h-12-000001-0600.out"]);
        assert!(names(1).is_empty());
        assert_eq!(neighbours(&dir.path().join("h-12-000001-0600.rec"))[0], "h-12-000001-0600.out");
    }

    #[test]
    fn a_name_of_any_bytes_is_a_name() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(command(dir.path()), None);
        fs::write(dir.path().join("comm"), b"a\x1b[2J\nb\xff\n").unwrap();
        assert_eq!(command(dir.path()).unwrap(), "a\\u{1b}[2J\\nb\u{fffd}");
    }

    #[test]
    fn a_signal_is_sent_to_who_catches_it() {
        assert!(catches("Name:\tx\nSigCgt:\t0000000000000800\n", Signal::USR2));
        assert!(!catches("SigCgt:\t0000000000000400\n", Signal::USR2) && !catches("", Signal::USR2));
    }
}
