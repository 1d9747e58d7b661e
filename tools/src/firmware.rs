//! Where a program takes an adapter's firmware from: a folder that was named, or files made for an emulated adapter.

use crate::adapter::AdapterSpec;
use anyhow::Context;
use std::path::{Path, PathBuf};

/// A folder with firmware files.
#[derive(Debug)]
pub enum Firmware {
    /// One that was there.
    Given(PathBuf),
    /// One with files made for an emulated adapter; removed when this is dropped.
    Made(tempfile::TempDir),
}

impl Firmware {
    /// The folder that was named, or else the right one for the adapter.
    ///
    /// # Errors
    /// When files have to be made and can't be.
    pub fn find(named: Option<&Path>, adapter: &AdapterSpec) -> anyhow::Result<Self> {
        if let Some(dir) = named {
            return Ok(Self::Given(dir.to_owned()));
        }
        // An adapter behind a socket is an emulated one, too, and takes files of the right form.
        if matches!(adapter, AdapterSpec::Emulated | AdapterSpec::VfioUser(_)) {
            let dir = tempfile::tempdir().context(
                "can't make a folder for the emulated adapter's firmware; set TMPDIR to one that can be written to",
            )?;
            opx_emu::firmware::write_files(dir.path()).context("can't write the emulated adapter's firmware")?;
            return Ok(Self::Made(dir));
        }
        Ok(Self::Given("/lib/firmware".into()))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        match self {
            Self::Given(dir) => dir,
            Self::Made(dir) => dir.path(),
        }
    }
}
