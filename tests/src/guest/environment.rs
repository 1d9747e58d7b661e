//! What a guest is made of: QEMU, a kernel, and the programs that judge, from Debian's packages.

use super::GuestError;
use super::kernel::Image;
use super::packages::{BACKPORTS, Cache, Set, TRIXIE};
use super::process::command;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Debian kernel that a guest boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Trixie's: 6.12.
    Trixie,
    /// That of trixie-backports: 7.2 at the time of writing.
    Backports,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trixie => "the kernel of trixie",
            Self::Backports => "the kernel of trixie-backports",
        })
    }
}

/// What runs on this machine: QEMU and unpackers.
const HOST: Set =
    Set { name: "host", suite: BACKPORTS, packages: &["qemu-system-x86", "seabios", "xz-utils", "zstd"], only: &[] };

/// What runs in the guest.
const JUDGES: Set = Set {
    name: "judges",
    suite: TRIXIE,
    packages: &[
        "busybox-static",
        "firmware-intel-misc",
        "ibverbs-providers",
        "ibverbs-utils",
        "infiniband-diags",
        "libfabric-bin",
        "libgcc-s1",
        "libpsm2-2",
        "opa-basic-tools",
        "opa-fm",
    ],
    only: &[],
};

/// What lays networks in the guest. Of its own, since few scenarios need it.
const NETWORK: Set = Set { name: "network", suite: TRIXIE, packages: &["iproute2"], only: &[] };

const IMAGES: &[&str] = &["linux-image-", "linux-binary-", "linux-modules-"];
const TRIXIE_KERNEL: Set = Set { name: "linux-trixie", suite: TRIXIE, packages: &["linux-image-amd64"], only: IMAGES };
const BACKPORTS_KERNEL: Set =
    Set { name: "linux-backports", suite: BACKPORTS, packages: &["linux-image-amd64"], only: IMAGES };

/// The packages, unpacked.
#[derive(Debug, Clone)]
pub struct Environment {
    host: PathBuf,
    judges: PathBuf,
    image: Image,
}

impl Environment {
    /// Takes everything from the cache, and fetches what isn't there.
    ///
    /// # Errors
    /// [`GuestError::Unavailable`] when it can't be had.
    pub fn get(kernel: Kernel) -> Result<Self, GuestError> {
        if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            return Err(GuestError::Unavailable("the packages are for Linux on x86-64".to_owned()));
        }
        let cache = Cache::open()?;
        let (host, judges) = (cache.get(&HOST)?, cache.get(&JUDGES)?);
        let kernel = cache.get(match kernel {
            Kernel::Trixie => &TRIXIE_KERNEL,
            Kernel::Backports => &BACKPORTS_KERNEL,
        })?;
        let image = Image::new(kernel, &host)?;
        Ok(Self { host, judges, image })
    }

    /// The folder of the packages that lay networks in the guest.
    ///
    /// # Errors
    /// [`GuestError::Unavailable`] when they can't be had.
    pub fn network(&self) -> Result<PathBuf, GuestError> {
        Cache::open()?.get(&NETWORK)
    }

    /// The folder of the packages that run in the guest.
    pub fn judges(&self) -> &Path {
        &self.judges
    }

    /// The kernel.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// A program of the packages that run on this machine.
    pub fn host_program(&self, path: &str) -> Command {
        program(&self.host, path)
    }

    /// QEMU's folder of data.
    pub(crate) fn shared_data(&self) -> PathBuf {
        self.host.join("usr/share")
    }
}

/// A program from unpacked packages, with their libraries: it doesn't matter what this machine has.
pub(crate) fn program(root: &Path, path: &str) -> Command {
    let mut command = command(loader(root));
    command.arg("--library-path").arg(library_path(root)).arg(root.join(path));
    command
}

/// The dynamic loader among unpacked packages.
pub(crate) fn loader(root: &Path) -> PathBuf {
    root.join("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
}

/// Where unpacked packages have their libraries.
pub(crate) fn library_path(root: &Path) -> PathBuf {
    root.join("usr/lib/x86_64-linux-gnu")
}
