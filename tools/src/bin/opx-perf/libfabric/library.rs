//! The loaded library: its functions by name, and what its numbers mean.

use super::abi::StrError;
use anyhow::{Context, Result, bail};
use libloading::{Library, Symbol};
use std::ffi::{CStr, c_int};
use std::path::Path;

/// The loaded library.
pub(super) struct Api {
    library: Library,
}

impl Api {
    pub(super) fn load(file: &Path) -> Result<Self> {
        // SAFETY: the user names the library; libfabric's initialisers have no preconditions.
        let library = unsafe { Library::new(file) };
        let library = library.with_context(|| {
            format!("can't load {}; install libfabric (Debian: libfabric1) or name it with --library", file.display())
        })?;
        Ok(Self { library })
    }

    /// A function by its name, which must be of type `F`.
    pub(super) fn get<F>(&self, name: &str) -> Result<Symbol<'_, F>> {
        // SAFETY: the callers name types that are those of `rdma/fabric.h`.
        unsafe { self.library.get(name.as_bytes()) }
            .with_context(|| format!("the library has no {name}: is it libfabric?"))
    }

    /// What went wrong, unless nothing did.
    pub(super) fn check(&self, what: &str, code: impl Into<i64>) -> Result<()> {
        let code = code.into();
        if code >= 0 {
            return Ok(());
        }
        let text = self.get::<StrError>("fi_strerror").ok().map(|explain| {
            // SAFETY: fi_strerror takes any number and gives a string that stays.
            unsafe { CStr::from_ptr(explain(code.unsigned_abs() as c_int)) }.to_string_lossy().into_owned()
        });
        bail!("libfabric's {what} fails: {} ({code})", text.unwrap_or_default())
    }
}
