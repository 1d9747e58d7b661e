//! Messages by a provider of libfabric, loaded when it is asked for. libfabric's functions are pointers in tables behind its objects.
#![allow(unsafe_code)]

mod abi;
mod endpoint;
mod library;
mod slot;
mod transport;

pub use endpoint::Libfabric;

use crate::transport::Access;
use anyhow::Result;
use library::Api;
use std::path::Path;
use std::sync::Arc;

/// Two endpoints of `provider` in this process that know each other. What of `needs` the provider doesn't have they can't do.
///
/// # Errors
/// When the library or the provider isn't there, or refuses.
pub fn pair(library: &Path, provider: &str, needs: &[Access]) -> Result<(Libfabric, Libfabric)> {
    let api = Arc::new(Api::load(library)?);
    let (mut one, mut other) = (Libfabric::open(&api, provider, needs)?, Libfabric::open(&api, provider, needs)?);
    let names = (one.name()?, other.name()?);
    one.know(&names.1)?;
    other.know(&names.0)?;
    Ok((one, other))
}

/// An endpoint of `provider` whose peer is in another process: `exchange` gives it this one's name for the other's. What of `needs`
/// the provider doesn't have it can't do.
///
/// # Errors
/// When the library or the provider isn't there, or refuses.
pub fn one(
    library: &Path,
    provider: &str,
    needs: &[Access],
    exchange: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
) -> Result<Libfabric> {
    let mut one = Libfabric::open(&Arc::new(Api::load(library)?), provider, needs)?;
    let theirs = exchange(&one.name()?)?;
    one.know(&theirs)?;
    Ok(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_isnt_there_is_told_with_what_to_do() {
        let error = pair(Path::new("/nonexistent/libfabric.so.1"), "shm", &[]).err().unwrap();
        assert!(error.to_string().contains("--library"), "{error}");
        // A library, but not this one.
        let error = pair(Path::new("libc.so.6"), "shm", &[]).err().unwrap();
        assert!(error.to_string().contains("is it libfabric?"), "{error}");
    }
}
