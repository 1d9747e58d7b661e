//! What the machine's kernel driver says of the HFI service, OPX's bulk transfers by the adapter's firmware: for whoever asks for it
//! and is refused.

use std::fmt;
use std::fs;
use std::path::Path;

/// Where the kernel's driver says whether it offers the service. Source: `fi_opx_ep.c:opx_hfi_drv_bulksvc_enabled`.
const PARAMETER: &str = "module/hfi1/parameters/use_bulksvc";

/// What the kernel's driver says of the HFI service (`use_bulksvc` of hfi1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelService {
    /// There is no such driver, or it knows nothing of the service.
    Absent,
    /// It has it switched off.
    Off,
    /// It offers it.
    On,
}

impl KernelService {
    /// What this machine's driver says.
    ///
    /// ```
    /// println!("{}", opx_stack::KernelService::find());
    /// ```
    pub fn find() -> Self {
        Self::find_below(Path::new("/sys"))
    }

    fn find_below(sys: &Path) -> Self {
        match fs::read(sys.join(PARAMETER)).as_deref() {
            Ok([b'Y' | b'y' | b'1', ..]) => Self::On,
            Ok([_, ..]) => Self::Off,
            Ok([]) | Err(_) => Self::Absent,
        }
    }
}

impl fmt::Display for KernelService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "no kernel driver of this machine's has it",
            Self::Off => "this machine's hfi1 driver has it switched off (use_bulksvc)",
            Self::On => "this machine's hfi1 driver has it switched on (use_bulksvc), for other adapters",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hfi_service_is_found_where_the_kernel_driver_says_so() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(KernelService::find_below(sys.path()), KernelService::Absent, "without the driver");
        let file = sys.path().join(PARAMETER);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        for (text, expected) in [
            ("Y\n", KernelService::On),
            ("y", KernelService::On),
            ("1\n", KernelService::On),
            ("N\n", KernelService::Off),
            ("0\n", KernelService::Off),
            ("", KernelService::Absent),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(KernelService::find_below(sys.path()), expected, "{text:?}");
        }
    }
}
