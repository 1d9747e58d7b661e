//! Our own programs for a guest: linked statically, since its root has no libraries, and the firmware they load.

use opx_tests::guest::{GuestError, Initrd, output};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Longest time to build them from nothing.
const BUILD_LIMIT: Duration = Duration::from_secs(900);
/// The target is named, so that build scripts and macros, which run here, aren't linked statically.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds them into a folder of their own, below the target folder; names and paths.
pub fn build() -> Result<Vec<(String, PathBuf)>, GuestError> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace);
    cargo.args(["build", "--release", "--package", "opx-tools", "--bin", "opx-probe", "--bin", "opx-loopback"]);
    cargo.args(["--target", TARGET, "--message-format=json", "--target-dir"]);
    cargo.arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("static"));
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static").env_remove("CARGO_ENCODED_RUSTFLAGS");
    // The guest's memory holds them; nobody debugs there.
    cargo.env("CARGO_PROFILE_RELEASE_STRIP", "true");
    let said = output(cargo, BUILD_LIMIT)?;
    let said = String::from_utf8_lossy(&said);
    let artifacts = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let paths = artifacts.filter_map(|artifact| Some(PathBuf::from(artifact.get("executable")?.as_str()?)));
    let named = |path: PathBuf| Some((path.file_name()?.to_str()?.to_owned(), path));
    Ok(paths.filter_map(named).collect())
}

/// Puts firmware of the right form for the emulated adapter where the driver looks for it.
pub fn firmware(initrd: &mut Initrd<'_>) -> Result<(), GuestError> {
    let failed = |error: std::io::Error| GuestError::Content(format!("can't make firmware files: {error}"));
    let folder = tempfile::tempdir().map_err(failed)?;
    opx_emu::firmware::write_files(folder.path()).map_err(failed)?;
    for entry in fs::read_dir(folder.path()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Some(name) = entry.file_name().to_str() {
            initrd.local_file(&entry.path(), &format!("usr/lib/firmware/{name}"))?;
        }
    }
    Ok(())
}
