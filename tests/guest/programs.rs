//! Our own programs for a guest, linked statically since its root has no libraries, and firmware for them.

use opx_tests::guest::{GuestError, Initrd, output};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Longest time to build them from nothing.
const BUILD_LIMIT: Duration = Duration::from_secs(900);
/// The target is named, so that build scripts and macros, which run here, aren't linked statically.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the tools and the tests on an adapter into a folder of their own, below the target folder; names and paths.
pub fn build() -> Result<Vec<(String, PathBuf)>, GuestError> {
    let tools = ["build", "--release", "--package", "opx-tools", "--bin", "opx-probe", "--bin", "opx-loopback"];
    let mut programs = cargo(tools.into_iter())?;
    programs.extend(on_an_adapter()?);
    Ok(programs)
}

/// Builds the tests on an adapter of the machine that they run on, as [`build`].
pub fn on_an_adapter() -> Result<Vec<(String, PathBuf)>, GuestError> {
    let tests = ["test", "--no-run", "--release", "--package", "opx-tests"];
    cargo(tests.into_iter().chain(["--features", "kernel-vfio", "--test", "kernel_vfio"]))
}

/// Builds the test of two network namespaces, as [`build`].
pub fn wire() -> Result<Vec<(String, PathBuf)>, GuestError> {
    cargo(["test", "--no-run", "--release", "--package", "opx-tests", "--test", "wire_namespaces"].into_iter())
}

/// Builds the tests of opx-zcrx, its stress program, and what counts its cost, as [`build`].
pub fn zcrx() -> Result<Vec<(String, PathBuf)>, GuestError> {
    let package = ["--release", "--package", "opx-zcrx"];
    let mut programs = cargo(["test", "--no-run", "--test", "kernel"].into_iter().chain(package))?;
    // Not with the tests: an example among those is built as one.
    let examples = ["build", "--example", "zcrx-stress", "--example", "zcrx-cost"];
    programs.extend(cargo(examples.into_iter().chain(package))?);
    Ok(programs)
}

fn cargo<'a>(arguments: impl Iterator<Item = &'a str>) -> Result<Vec<(String, PathBuf)>, GuestError> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace).args(arguments);
    cargo.args(["--target", TARGET, "--message-format=json", "--target-dir"]);
    cargo.arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("static"));
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static").env_remove("CARGO_ENCODED_RUSTFLAGS");
    // The guest's memory holds them; nobody debugs there.
    cargo.env("CARGO_PROFILE_RELEASE_STRIP", "true");
    let said = output(cargo, BUILD_LIMIT)?;
    let said = String::from_utf8_lossy(&said);
    let artifacts = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    // A test's file has a hash in its name, so the name is the target's.
    let named = |artifact: serde_json::Value| {
        let path = PathBuf::from(artifact.get("executable")?.as_str()?);
        Some((artifact.get("target")?.get("name")?.as_str()?.to_owned(), path))
    };
    Ok(artifacts.filter_map(named).collect())
}

/// Puts firmware of the right form for the emulated adapter into a folder of the guest.
pub fn firmware(initrd: &mut Initrd<'_>, into: &str) -> Result<(), GuestError> {
    let failed = |error: std::io::Error| GuestError::Content(format!("can't make firmware files: {error}"));
    let folder = tempfile::tempdir().map_err(failed)?;
    opx_emu::firmware::write_files(folder.path()).map_err(failed)?;
    for entry in fs::read_dir(folder.path()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Some(name) = entry.file_name().to_str() {
            initrd.local_file(&entry.path(), &format!("{into}/{name}"))?;
        }
    }
    Ok(())
}
