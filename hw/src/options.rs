//! How an adapter is opened.

use crate::error::OpenError;
use opx_defs::units::{JobKey, Pkey};
use std::path::PathBuf;

/// The largest packet payload that the hardware carries, bytes.
pub const MAX_MTU: u32 = 10240;

/// Settings of an adapter that stay while it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the firmware files are; `None` for `/lib/firmware`.
    pub firmware_dir: Option<PathBuf>,
    /// Largest payload on VL 0: 2048, 4096, 8192 or 10240 bytes.
    pub mtu: u32,
    /// The job key that packets from this adapter's send contexts must carry.
    pub job_key: JobKey,
    /// The partition key that packets must carry, in and out.
    pub pkey: Pkey,
    /// MSI-X vectors to enable: one for the adapter, the others for contexts and engines that want one.
    pub vectors: u16,
}

impl Default for Options {
    fn default() -> Self {
        // One general vector, one for each engine, and 32 receive contexts.
        Self { firmware_dir: None, mtu: MAX_MTU, job_key: JobKey(1), pkey: Pkey(0x8001), vectors: 1 + 16 + 32 }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        if !matches!(self.mtu, 2048 | 4096 | 8192 | MAX_MTU) {
            let problem = "it must be 2048, 4096, 8192 or 10240 bytes";
            return Err(OpenError::BadOption { option: "mtu", value: self.mtu.into(), problem });
        }
        if self.vectors == 0 || self.vectors > 255 {
            let problem = "it must be from 1 to 255";
            return Err(OpenError::BadOption { option: "vectors", value: self.vectors.into(), problem });
        }
        // The management partition isn't for data (file_ops.c:set_ctxt_pkey).
        if self.pkey.0 & 0x7fff == 0x7fff || self.pkey.0 & 0x7fff == 0 {
            let problem = "it must be neither 0 nor that of the management partition";
            return Err(OpenError::BadOption { option: "pkey", value: self.pkey.0.into(), problem });
        }
        Ok(())
    }
}
