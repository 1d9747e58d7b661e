//! What the checks look at: the kernel's files under a root, and what a plain copy of files can't hold (`facts.json`).
//!
//! Everything that is looked at is remembered, so that a saved copy holds just what the checks need and nothing else of
//! the machine.

use super::live;
use serde::{Deserialize, Serialize};
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Version of `facts.json`.
pub const FACTS_VERSION: u32 = 1;
/// Where a saved copy keeps what its files don't tell.
const EXTRA: &str = "facts.json";
/// Where a saved copy keeps lines of the kernel's log.
const LOG: &str = "kernel.log";
/// No file that is looked at is longer; of a longer one this much is read.
const MOST_BYTES: u64 = 4 << 20;
/// Lines of the kernel's log are kept when they have one of these in them: the rest is nobody's business.
const LOG_WORDS: [&str; 14] = [
    "dmar",
    "amd-vi",
    "iommu",
    "vfio",
    "hfi1",
    "pcieport",
    "aer:",
    "remapping",
    "rmrr",
    "x86/pat",
    "lockdown",
    "bar 0",
    "1:1",
    "pci bus error",
];

/// Facts that can't be taken or kept.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// No folder.
    #[error("{} is no folder with saved facts; make one with `opx-probe doctor --save DIR`", .0.display())]
    NoFolder(PathBuf),
    /// A damaged copy.
    #[error("{}: damaged: {problem}; save the facts again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// No room, no rights.
    #[error("can't save facts to {}: {source}", path.display())]
    Save {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

/// Who may use a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What a plain copy of files can't hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Extra {
    /// [`FACTS_VERSION`].
    pub version: u32,
    /// Device files, and who may use them.
    pub modes: BTreeMap<String, Mode>,
    /// Who has a device file open.
    pub holders: BTreeMap<String, Vec<Process>>,
    /// The port above each PCI function.
    pub parents: BTreeMap<String, String>,
    /// Services that run, of those that were asked for.
    pub running: BTreeSet<String>,
}

/// The facts of a machine: this one, or one whose facts were saved.
#[derive(Debug)]
pub struct Facts {
    root: PathBuf,
    /// None on this machine, where it can be asked for.
    saved: Option<Extra>,
    log: OnceCell<Option<Vec<String>>>,
    holders: OnceCell<BTreeMap<String, Vec<Process>>>,
    seen: RefCell<Seen>,
}

/// What was looked at.
#[derive(Debug, Default)]
struct Seen {
    files: BTreeMap<String, Vec<u8>>,
    links: BTreeMap<String, PathBuf>,
    folders: BTreeMap<String, Vec<String>>,
    extra: Extra,
}

impl Facts {
    /// The facts of this machine.
    pub fn live() -> Self {
        Self::under(Path::new("/"), None)
    }

    /// Facts that were saved in a folder.
    pub fn saved(dir: &Path) -> Result<Self, FactsError> {
        if !dir.is_dir() {
            return Err(FactsError::NoFolder(dir.to_owned()));
        }
        let path = dir.join(EXTRA);
        let damaged = |problem: String| FactsError::Damaged { path: path.clone(), problem };
        let extra = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?,
            // A tree that was copied by hand.
            Err(_) if dir.join("sys").is_dir() => Extra { version: FACTS_VERSION, ..Extra::default() },
            Err(_) => return Err(FactsError::NoFolder(dir.to_owned())),
        };
        if extra.version != FACTS_VERSION {
            return Err(damaged(format!("version {}, this program knows {FACTS_VERSION}", extra.version)));
        }
        Ok(Self::under(dir, Some(extra)))
    }

    fn under(root: &Path, saved: Option<Extra>) -> Self {
        let seen = Seen { extra: Extra { version: FACTS_VERSION, ..Extra::default() }, ..Seen::default() };
        Self { root: root.to_owned(), saved, log: OnceCell::new(), holders: OnceCell::new(), seen: RefCell::new(seen) }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's bytes, when it is there and may be read.
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(path)).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
        self.seen.borrow_mut().files.insert(path.to_owned(), bytes.clone());
        Some(bytes)
    }

    /// A file's text without blanks around it.
    pub fn text(&self, path: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&self.bytes(path)?).trim().to_owned())
    }

    /// A number in a file.
    pub fn number(&self, path: &str) -> Option<i64> {
        self.text(path)?.parse().ok()
    }

    /// Names in a folder, in order; none when there is no such folder.
    pub fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        self.seen.borrow_mut().folders.insert(path.to_owned(), names.clone());
        names
    }

    /// The last part of what a symbolic link points to: the name of a driver, the number of a group.
    pub fn link(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        let name = target.file_name()?.to_str()?.to_owned();
        self.seen.borrow_mut().links.insert(path.to_owned(), target);
        Some(name)
    }

    /// Whether there is a file or folder.
    pub fn exists(&self, path: &str) -> bool {
        let Ok(found) = fs::metadata(self.path(path)) else { return false };
        let mut seen = self.seen.borrow_mut();
        match found.is_dir() {
            true => drop(seen.folders.entry(path.to_owned()).or_default()),
            // Only that it is there counts.
            false => drop(seen.files.entry(path.to_owned()).or_default()),
        }
        true
    }

    /// Who may use a device file.
    pub fn mode(&self, path: &str) -> Option<Mode> {
        let mode = match &self.saved {
            Some(extra) => extra.modes.get(path).copied(),
            None => {
                let found = fs::metadata(self.path(path)).ok()?;
                Some(Mode { mode: found.mode() & 0o7777, uid: found.uid(), gid: found.gid() })
            }
        }?;
        self.seen.borrow_mut().extra.modes.insert(path.to_owned(), mode);
        Some(mode)
    }

    /// The processes that have a device file open, as far as this user may see.
    pub fn holders(&self, path: &str) -> Vec<Process> {
        let all = match &self.saved {
            Some(extra) => &extra.holders,
            None => self.holders.get_or_init(live::holders),
        };
        let holders = all.get(path).cloned().unwrap_or_default();
        self.seen.borrow_mut().extra.holders.insert(path.to_owned(), holders.clone());
        holders
    }

    /// Whether a process of this name runs.
    pub fn runs(&self, name: &str) -> bool {
        let runs = match &self.saved {
            Some(extra) => extra.running.contains(name),
            None => live::runs(name),
        };
        if runs {
            self.seen.borrow_mut().extra.running.insert(name.to_owned());
        }
        runs
    }

    /// The address of the PCI port above a function.
    pub fn parent(&self, address: &str) -> Option<String> {
        let by_path = || {
            let path = fs::canonicalize(self.path(&format!("sys/bus/pci/devices/{address}"))).ok()?;
            let parent = path.parent()?.file_name()?.to_str()?.to_owned();
            // At the top there is a host bridge, "pci0000:ae".
            parent.parse::<opx_hw::pci_address::PciAddress>().is_ok().then_some(parent)
        };
        let parent = self.saved.as_ref().and_then(|extra| extra.parents.get(address).cloned()).or_else(by_path)?;
        self.seen.borrow_mut().extra.parents.insert(address.to_owned(), parent.clone());
        Some(parent)
    }

    /// The lines of the kernel's log that may matter; `None` when this user may not read it.
    pub fn log(&self) -> Option<&[String]> {
        self.log
            .get_or_init(|| {
                let text = match &self.saved {
                    Some(_) => fs::read_to_string(self.path(LOG)).ok()?,
                    None => live::kernel_log()?,
                };
                let matters = |line: &&str| {
                    let line = line.to_ascii_lowercase();
                    LOG_WORDS.iter().any(|word| line.contains(word))
                };
                Some(text.lines().filter(matters).map(str::to_owned).collect())
            })
            .as_deref()
    }

    /// Writes what was looked at so far into a folder; how many files that were.
    pub fn save(&self, dir: &Path) -> Result<usize, FactsError> {
        let seen = self.seen.borrow();
        let failed = |path: &Path, source| FactsError::Save { path: path.to_owned(), source };
        let make = |path: &Path| fs::create_dir_all(path).map_err(|source| failed(path, source));
        let room = |path: &str| -> Result<PathBuf, FactsError> {
            let path = dir.join(path.trim_start_matches('/'));
            make(path.parent().unwrap_or(dir))?;
            Ok(path)
        };
        make(dir)?;
        for (path, bytes) in &seen.files {
            let path = room(path)?;
            fs::write(&path, bytes).map_err(|source| failed(&path, source))?;
        }
        for (path, target) in &seen.links {
            let path = room(path)?;
            let made = std::os::unix::fs::symlink(target, &path);
            made.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
                .map_err(|source| failed(&path, source))?;
        }
        // Of what else was in a folder, only the name.
        for (folder, names) in &seen.folders {
            let folder = dir.join(folder.trim_start_matches('/'));
            make(&folder)?;
            for path in names.iter().map(|name| folder.join(name)).filter(|path| fs::symlink_metadata(path).is_err()) {
                fs::write(&path, "").map_err(|source| failed(&path, source))?;
            }
        }
        if let Some(log) = self.log() {
            let path = room(LOG)?;
            fs::write(&path, log.join("\n") + "\n").map_err(|source| failed(&path, source))?;
        }
        let path = room(EXTRA)?;
        let text = serde_json::to_string_pretty(&seen.extra).map_err(|error| failed(&path, error.into()))?;
        fs::write(&path, text + "\n").map_err(|source| failed(&path, source))?;
        Ok(seen.files.len() + seen.links.len())
    }
}
