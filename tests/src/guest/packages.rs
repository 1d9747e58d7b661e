//! Debian packages unpacked into a cache folder, by a private apt: nothing of the machine is changed, no root is needed.

use super::GuestError;
use super::process::{command, output};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Longest time for one run of apt: a kernel has 160 MB.
const APT_LIMIT: Duration = Duration::from_secs(600);
/// Longest time to unpack one package.
const UNPACK_LIMIT: Duration = Duration::from_secs(120);
/// What signs Debian's archive. It comes with Debian; without it nothing is fetched.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The suites that packages come from.
pub const TRIXIE: &str = "trixie";
/// Newer kernels and QEMU.
pub const BACKPORTS: &str = "trixie-backports";

/// A set of packages that is unpacked together.
#[derive(Debug, Clone, Copy)]
pub struct Set {
    /// Its folder in the cache.
    pub name: &'static str,
    /// The suite that is preferred.
    pub suite: &'static str,
    /// Packages asked for.
    pub packages: &'static [&'static str],
    /// Only packages whose names start with one of these are taken, of what is asked for and what that depends on.
    /// Empty: all.
    pub only: &'static [&'static str],
}

/// The cache folder.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The folder that `OPX_GUEST_CACHE` names, or one among the user's caches.
    ///
    /// # Errors
    /// When there is no place for it.
    pub fn open() -> Result<Self, GuestError> {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = var("OPX_GUEST_CACHE")
            .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("opx-guest")))
            .or_else(|| var("HOME").map(|dir| dir.join(".cache/opx-guest")))
            .ok_or_else(|| GuestError::Unavailable("no HOME; set OPX_GUEST_CACHE to a folder".to_owned()))?;
        let folder = std::path::absolute(&folder).map_err(GuestError::file("find", &folder))?;
        fs::create_dir_all(&folder).map_err(GuestError::file("make the folder", &folder))?;
        Ok(Self { folder })
    }

    /// The folder that `set` is unpacked in. The network is only used when the cache doesn't have it.
    ///
    /// # Errors
    /// [`GuestError::Unavailable`] when it isn't there and can't be fetched.
    pub fn get(&self, set: &Set) -> Result<PathBuf, GuestError> {
        let lock_path = self.folder.join("lock");
        let lock = fs::File::create(&lock_path).map_err(GuestError::file("make", &lock_path))?;
        // Another run may be fetching the same. It holds the lock only as long as apt takes, which is bounded.
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|e| GuestError::file("lock", &lock_path)(e.into()))?;
        let (root, stamp) = (self.folder.join(set.name), self.folder.join(format!("{}.stamp", set.name)));
        let wanted = format!("{set:?}\n");
        if root.is_dir() && fs::read_to_string(&stamp).is_ok_and(|made| made.starts_with(&wanted)) {
            return Ok(root);
        }
        let unavailable = |error: GuestError| GuestError::Unavailable(error.to_string());
        let archives = self.fetch(set).map_err(unavailable)?;
        let partial = self.folder.join(format!("{}.partial", set.name));
        for old in [&root, &partial] {
            if old.exists() {
                fs::remove_dir_all(old).map_err(GuestError::file("remove", old))?;
            }
        }
        fs::create_dir_all(&partial).map_err(GuestError::file("make the folder", &partial))?;
        for archive in &archives {
            let mut unpack = command("dpkg-deb");
            unpack.arg("-x").arg(archive).arg(&partial);
            output(unpack, UNPACK_LIMIT).map_err(unavailable)?;
        }
        fs::rename(&partial, &root).map_err(GuestError::file("rename", &partial))?;
        let names = archives.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy());
        let list: Vec<String> = names.map(|name| name.into_owned() + "\n").collect();
        fs::write(&stamp, wanted + &list.concat()).map_err(GuestError::file("write", &stamp))?;
        // What is unpacked isn't needed packed; a failure costs space only.
        let _ = fs::remove_dir_all(self.folder.join("archives").join(set.name));
        Ok(root)
    }

    /// Downloads a set's packages and gives their files, in the order of their names.
    fn fetch(&self, set: &Set) -> Result<Vec<PathBuf>, GuestError> {
        let apt = Apt::new(&self.folder.join("apt"))?;
        let mut plan = apt.get();
        plan.args(["-qq", "--print-uris", "--no-install-recommends", "-t", set.suite, "install"]).args(set.packages);
        let plan = match output(plan, APT_LIMIT) {
            Ok(plan) => plan,
            // The first time, or an index that is too old.
            Err(_) => {
                apt.update()?;
                let mut again = apt.get();
                again.args(["-qq", "--print-uris", "--no-install-recommends", "-t", set.suite, "install"]);
                again.args(set.packages);
                output(again, APT_LIMIT)?
            }
        };
        let archives = self.folder.join("archives").join(set.name);
        fs::create_dir_all(&archives).map_err(GuestError::file("make the folder", &archives))?;
        match self.download(&apt, set, &plan, &archives) {
            Ok(files) => Ok(files),
            Err(_) => {
                // A mirror keeps only the newest version: the plan may be older than the mirror.
                apt.update()?;
                let mut again = apt.get();
                again.args(["-qq", "--print-uris", "--no-install-recommends", "-t", set.suite, "install"]);
                again.args(set.packages);
                let plan = output(again, APT_LIMIT)?;
                self.download(&apt, set, &plan, &archives)
            }
        }
    }

    fn download(&self, apt: &Apt, set: &Set, plan: &[u8], archives: &Path) -> Result<Vec<PathBuf>, GuestError> {
        let plan = String::from_utf8_lossy(plan);
        // A line is: 'address' file size hash. A file is: name_version_architecture.deb, with %3a for a colon.
        let files: BTreeSet<&str> = plan.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        let wanted = |file: &&str| set.only.is_empty() || set.only.iter().any(|start| file.starts_with(start));
        let files: Vec<&str> = files.into_iter().filter(wanted).collect();
        if files.is_empty() {
            return Err(GuestError::Content(format!("apt plans no package for {:?}", set.packages)));
        }
        let named = files.iter().filter_map(|file| {
            let mut parts = file.split('_');
            Some(format!("{}={}", parts.next()?, parts.next()?.replace("%3a", ":")))
        });
        let mut download = apt.get();
        download.current_dir(archives).arg("-qq").arg("download").args(named);
        output(download, APT_LIMIT)?;
        Ok(files.iter().map(|file| archives.join(file)).collect())
    }
}

/// An apt of our own: its state, cache and sources are in `folder`.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: &Path) -> Result<Self, GuestError> {
        for sub in ["state/lists/partial", "cache/archives/partial"] {
            let sub = folder.join(sub);
            fs::create_dir_all(&sub).map_err(GuestError::file("make the folder", &sub))?;
        }
        let apt = Self { folder: folder.to_owned() };
        // No package is installed as far as this apt knows, so it plans all that is needed.
        fs::write(folder.join("status"), "").map_err(GuestError::file("write", &folder.join("status")))?;
        if !Path::new(KEYRING).is_file() {
            return Err(GuestError::Content(format!(
                "{KEYRING} is missing; install the package debian-archive-keyring"
            )));
        }
        let mirror = mirror()?;
        let source = |suite| format!("deb [arch=amd64 signed-by={KEYRING}] {mirror} {suite} main non-free-firmware\n");
        let sources = folder.join("sources.list");
        fs::write(&sources, source(TRIXIE) + &source(BACKPORTS)).map_err(GuestError::file("write", &sources))?;
        Ok(apt)
    }

    fn get(&self) -> Command {
        let mut command = command("apt-get");
        for (key, file) in [
            ("Dir::State", "state"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "sources.list"),
        ] {
            command.arg("-o").arg(format!("{key}={}", self.folder.join(file).display()));
        }
        for option in [
            "Dir::Etc::sourceparts=/dev/null",
            "Dir::Etc::preferences=/dev/null",
            "Dir::Etc::preferencesparts=/dev/null",
            "APT::Architecture=amd64",
            "APT::Architectures=amd64",
            "APT::Get::List-Cleanup=false",
            "Acquire::Languages=none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            "Acquire::Retries=3",
            // An update that couldn't fetch all indexes is no success.
            "APT::Update::Error-Mode=any",
            "Acquire::http::Timeout=30",
        ] {
            command.args(["-o", option]);
        }
        // apt gives up root for user _apt, who can't write here.
        command.args(["-o", "APT::Sandbox::User="]);
        command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn update(&self) -> Result<(), GuestError> {
        let mut update = self.get();
        update.args(["-qq", "update"]);
        output(update, APT_LIMIT).map(drop)
    }
}

/// The address of a Debian mirror: `OPX_GUEST_MIRROR`, or the one that this machine's own apt uses.
fn mirror() -> Result<String, GuestError> {
    if let Ok(mirror) = std::env::var("OPX_GUEST_MIRROR") {
        return Ok(mirror);
    }
    let mut targets = command("apt-get");
    targets.args(["indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]);
    let targets = output(targets, APT_LIMIT)?;
    let targets = String::from_utf8_lossy(&targets);
    mirror_among(&targets).ok_or_else(|| {
        let why = "this machine's apt has no Debian archive; set OPX_GUEST_MIRROR to a mirror's address";
        GuestError::Content(why.to_owned())
    })
}

/// The first address of Debian's main archive among lines of release, component and address. Security updates are in
/// an archive of their own, which has no backports.
fn mirror_among(targets: &str) -> Option<String> {
    /// Releases of Debian since non-free-firmware, and their changing names.
    const RELEASES: [&str; 8] = ["bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"];
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (release, component, address) = (words.next()?, words.next()?, words.next()?);
        (RELEASES.contains(&release) && component == "main").then(|| address.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_found_among_others() {
        let targets = "stable-security main http://mirror.test/security/\n\
                       nodistro main https://other.test/\n\
                       trixie contrib http://mirror.test/contrib/\n\
                       trixie main http://mirror.test/debian/\n";
        assert_eq!(mirror_among(targets).as_deref(), Some("http://mirror.test/debian/"));
        assert_eq!(mirror_among("noble main http://mirror.test/ubuntu/\n"), None);
        assert_eq!(mirror_among(""), None);
    }
}
