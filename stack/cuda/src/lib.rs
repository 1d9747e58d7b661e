//! CUDA's memory as buffers of [`opx_stack`].
//!
//! libcuda is loaded when it is asked for: nothing of CUDA is needed to build, and a machine without it has an error of its own
//! ([`LoadError::NotThere`]). Which memory an address is of is asked of the driver, as libfabric's OPX provider does
//! (`fi_opx_domain.h:opx_hmem_get_iface`): a device's, managed (treated as the host's, but never expected), or none of CUDA's. Its
//! bytes are copied by the driver (`cuMemcpy`) through the endpoint's packets; no adapter reaches a GPU by itself here.
//!
//! **It has never run on a GPU.** None has been at hand; what is tried is a library that stands in for libcuda.
//!
//! ```
//! match opx_cuda::Cuda::from_env() {
//!     Ok(cuda) => println!("{} CUDA devices", cuda.devices()),
//!     Err(no) => println!("no CUDA: {no}"),
//! }
//! ```
#![deny(unsafe_code)]

mod driver;

pub use driver::{Cuda, CudaMemory};

use std::path::PathBuf;

/// Why CUDA can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// FI_HMEM doesn't name it.
    #[error("CUDA isn't looked for, as FI_HMEM says {0}; add cuda to it, or unset it")]
    Excluded(String),
    /// There is no such library.
    #[error("{} isn't there: {why}; it comes with NVIDIA's driver", file.display())]
    NotThere {
        /// Its name.
        file: PathBuf,
        /// What the loader says.
        why: String,
    },
    /// It isn't libcuda, or too old.
    #[error("{} has no {symbol}; it isn't libcuda, or one before CUDA 7", file.display())]
    Missing {
        /// The library.
        file: PathBuf,
        /// What it lacks.
        symbol: &'static str,
    },
    /// It doesn't start: there is no device, or the kernel's driver is another version's.
    #[error("CUDA doesn't start: {0}; see what nvidia-smi says")]
    Refused(#[from] CudaError),
}

/// The driver refuses something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call} fails with {name} ({code})")]
#[non_exhaustive]
pub struct CudaError {
    /// Which function.
    pub call: &'static str,
    /// What it returned.
    pub code: i32,
    /// The name of that.
    pub name: String,
}

/// Why memory isn't made a buffer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BufferError {
    /// The driver refuses.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// It goes beyond what was allocated.
    #[error("{len} bytes at {address:#x} aren't inside of one allocation, which has {size} bytes from {base:#x} on")]
    Outside {
        /// Where they begin.
        address: u64,
        /// How many they are.
        len: usize,
        /// Where the allocation begins.
        base: u64,
        /// Its bytes.
        size: usize,
    },
}
