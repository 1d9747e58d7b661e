//! A Debian kernel: its image uncompressed, and its modules in the order of their dependencies.

use super::GuestError;
use super::environment::program;
use super::process::output;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest time to uncompress one file.
const UNPACK_LIMIT: Duration = Duration::from_secs(120);

/// An unpacked kernel package.
#[derive(Debug, Clone)]
pub struct Image {
    release: String,
    vmlinux: PathBuf,
    host: PathBuf,
    /// Module files by name, with underscores.
    modules: HashMap<String, PathBuf>,
}

impl Image {
    /// Finds the kernel below `root` and uncompresses it, once. `host` has the unpackers.
    pub(crate) fn new(root: PathBuf, host: &Path) -> Result<Self, GuestError> {
        let (release, packed_path) = find_image(&root)?;
        let folder = root.join("usr/lib/modules").join(&release);
        let vmlinux = folder.join("vmlinux");
        if !vmlinux.exists() {
            // QEMU boots an ELF kernel at its PVH entry: it saves the guest 2.5 s of uncompressing under emulation.
            let packed = fs::read(&packed_path).map_err(GuestError::file("read", &packed_path))?;
            let payload = payload(&packed).ok_or_else(|| {
                GuestError::Content(format!("{}: not a bzImage with a payload", packed_path.display()))
            })?;
            let part = folder.join(format!("payload-{}", std::process::id()));
            fs::write(&part, payload).map_err(GuestError::file("write", &part))?;
            let image = uncompress(host, &part)?;
            fs::write(&part, &image).map_err(GuestError::file("write", &part))?;
            fs::rename(&part, &vmlinux).map_err(GuestError::file("rename", &part))?;
        }
        let mut modules = HashMap::new();
        find_modules(&folder, &mut modules).map_err(GuestError::file("read the folder", &folder))?;
        Ok(Self { release, vmlinux, host: host.to_owned(), modules })
    }

    /// Its release, as `uname -r` prints it.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Where a module lies below the folder of its release, uncompressed; `None` when the package lacks it.
    pub(crate) fn module_place(&self, name: &str) -> Option<String> {
        let path = self.modules.get(&name.replace('-', "_"))?.to_str()?;
        let (_, place) = path.split_once(&format!("/{}/", self.release))?;
        Some(place.strip_suffix(".xz").or(place.strip_suffix(".zst")).unwrap_or(place).to_owned())
    }

    /// The uncompressed kernel.
    pub fn vmlinux(&self) -> &Path {
        &self.vmlinux
    }

    /// Adds a module to `order`, after those that it depends on: names and contents, uncompressed.
    ///
    /// # Errors
    /// When the package lacks a module.
    pub fn add_module(&self, name: &str, order: &mut Vec<(String, Vec<u8>)>) -> Result<(), GuestError> {
        let name = name.replace('-', "_");
        if order.iter().any(|(there, _)| *there == name) {
            return Ok(());
        }
        let missing = || GuestError::Content(format!("kernel {} has no module {name}", self.release));
        let path = self.modules.get(&name).ok_or_else(missing)?;
        let bytes = match path.extension().and_then(|extension| extension.to_str()) {
            Some("ko") => fs::read(path).map_err(GuestError::file("read", path))?,
            _ => uncompress(&self.host, path)?,
        };
        for other in depends(&bytes) {
            // What isn't a file is built in.
            if self.modules.contains_key(&other.replace('-', "_")) {
                self.add_module(&other, order)?;
            }
        }
        order.push((name, bytes));
        Ok(())
    }
}

/// The kernel below `root`: its release and its image, which lies beside the modules in newer packages.
fn find_image(root: &Path) -> Result<(String, PathBuf), GuestError> {
    let folder = root.join("usr/lib/modules");
    let entries = fs::read_dir(&folder).map_err(GuestError::file("read the folder", &folder))?;
    for release in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let places = [folder.join(&release).join("vmlinuz"), root.join("boot").join(format!("vmlinuz-{release}"))];
        if let Some(image) = places.into_iter().find(|place| place.is_file()) {
            return Ok((release, image));
        }
    }
    Err(GuestError::Content(format!("{}: has no kernel image for its modules", root.display())))
}

/// Finds `*.ko` and their compressed forms.
fn find_modules(folder: &Path, found: &mut HashMap<String, PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find_modules(&entry.path(), found)?;
        } else if let Some((name, "" | ".xz" | ".zst")) = entry.file_name().to_str().and_then(|n| n.split_once(".ko")) {
            found.insert(name.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

/// What a module says it depends on: the string `depends=` of its section .modinfo.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|bytes| bytes == KEY) else { return Vec::new() };
    let value = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The compressed kernel in a bzImage. Source: Documentation/arch/x86/boot.rst, setup_sects, payload_offset and
/// payload_length.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let start = (sectors + 1) * 512 + word(0x248)?;
    // The last four bytes are the uncompressed size.
    image.get(start..(start + word(0x24c)?).checked_sub(4)?)
}

/// Uncompresses a file by what it starts with.
fn uncompress(host: &Path, path: &Path) -> Result<Vec<u8>, GuestError> {
    let bytes = fs::read(path).map_err(GuestError::file("read", path))?;
    let tool = match bytes.get(..4) {
        Some([0xfd, b'7', b'z', b'X']) => "usr/bin/xz",
        Some([0x28, 0xb5, 0x2f, 0xfd]) => "usr/bin/zstd",
        _ => return Err(GuestError::Content(format!("{}: neither xz nor zstd", path.display()))),
    };
    let mut unpack = program(host, tool);
    unpack.arg("-dc").arg(path);
    output(unpack, UNPACK_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_modinfo() {
        assert_eq!(depends(b"\x7fELF\0license=GPL\0depends=ib_core,rdmavt\0name=hfi1\0"), ["ib_core", "rdmavt"]);
        assert!(depends(b"\0depends=\0name=x\0").is_empty());
        assert!(depends(b"depends").is_empty());
    }

    #[test]
    fn a_payload_is_cut_out_and_nonsense_refused() {
        let mut image = vec![0; 2048];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&8_u32.to_le_bytes());
        image[1040..1048].copy_from_slice(b"kernSIZE");
        assert_eq!(payload(&image), Some(&b"kern"[..]));
        image[0x24c..0x250].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(payload(&image), None);
        assert_eq!(payload(&[0; 100]), None);
    }
}
