//! Which adapter a program works on: named on the command line, opened on one of three buses.

use opx_bus::{BlockSource, BusError, DmaBlock, Irq, PciFunction, SharedMem};
use opx_defs::time::Instant;
use opx_defs::units::BarOff;
use opx_emu::{Adapter, Config, EmuBus, Lab, Pacing};
use opx_hw::pci_address::PciAddress;
use opx_hw::vfio::{self, Roots, VfioBus};
use opx_hw::vfio_user::{self, VfioUserBus};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// An adapter as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdapterSpec {
    /// `emulated`: one made for this process.
    Emulated,
    /// `vfio-user:SOCKET`: one that another process serves.
    VfioUser(PathBuf),
    /// `0000:af:00.0` or `af:00.0`: one of this machine.
    Vfio(PciAddress),
}

/// Text that names no adapter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no adapter; give `emulated`, `vfio-user:SOCKET` or a PCI address such as `0000:af:00.0`")]
pub struct SpecError(String);

impl FromStr for AdapterSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match (text, text.strip_prefix("vfio-user:")) {
            ("emulated", _) => Ok(Self::Emulated),
            (_, Some(path)) if !path.is_empty() => Ok(Self::VfioUser(path.into())),
            // User input is cut off where it would make the message unreadable.
            _ => text.parse().map(Self::Vfio).map_err(|_| SpecError(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for AdapterSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Emulated => f.write_str("emulated"),
            Self::VfioUser(path) => write!(f, "vfio-user:{}", path.display()),
            Self::Vfio(address) => address.fmt(f),
        }
    }
}

/// How an adapter is made or opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// How time passes for an emulated adapter.
    pub pacing: Pacing,
    /// What kind of emulated adapter to make.
    pub config: Config,
    /// How long a vfio-user server may take.
    pub limits: vfio_user::Limits,
    /// Where the kernel shows itself.
    pub roots: Roots,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pacing: Pacing::Real,
            config: Config::default(),
            limits: vfio_user::Limits::default(),
            roots: Roots::default(),
        }
    }
}

/// An adapter that can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// None of this machine.
    #[error(transparent)]
    Vfio(#[from] vfio::OpenError),
    /// None that another process serves.
    #[error(transparent)]
    VfioUser(#[from] vfio_user::OpenError),
}

/// Opens an adapter, or makes an emulated one.
///
/// # Errors
/// In one line that says what is wrong and what to do.
pub fn open(spec: &AdapterSpec, options: &Options) -> Result<AnyBus, OpenError> {
    Ok(match spec {
        AdapterSpec::Emulated => AnyBus::Emulated(Lab::new(options.pacing).add(options.config.clone()).bus()),
        AdapterSpec::VfioUser(path) => AnyBus::VfioUser(VfioUserBus::open_with(path, options.limits)?),
        AdapterSpec::Vfio(address) => AnyBus::Vfio(VfioBus::open_with(*address, &options.roots)?),
    })
}

/// Any of the buses, chosen at run time.
#[derive(Debug, Clone)]
pub enum AnyBus {
    /// In this process.
    Emulated(EmuBus),
    /// In another process.
    VfioUser(VfioUserBus),
    /// In this machine.
    Vfio(VfioBus),
}

impl AnyBus {
    /// The emulated adapter itself, to spoil its packets or to look at its statistics.
    pub fn emulated(&self) -> Option<&Adapter> {
        match self {
            Self::Emulated(bus) => Some(bus.adapter()),
            Self::VfioUser(_) | Self::Vfio(_) => None,
        }
    }
}

/// Calls a method of whichever bus it is.
macro_rules! dispatch {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match $self {
            AnyBus::Emulated(bus) => bus.$method($($argument),*),
            AnyBus::VfioUser(bus) => bus.$method($($argument),*),
            AnyBus::Vfio(bus) => bus.$method($($argument),*),
        }
    };
}

impl PciFunction for AnyBus {
    fn name(&self) -> &str {
        dispatch!(self.name())
    }

    fn bar0_len(&self) -> u64 {
        dispatch!(self.bar0_len())
    }

    #[inline]
    fn read64(&self, offset: BarOff) -> u64 {
        dispatch!(self.read64(offset))
    }

    #[inline]
    fn write64(&self, offset: BarOff, value: u64) {
        dispatch!(self.write64(offset, value));
    }

    #[inline]
    fn write_block(&self, offset: BarOff, block: &[u64; 8]) {
        dispatch!(self.write_block(offset, block));
    }

    #[inline]
    fn write_blocks(&self, offset: BarOff, blocks: BlockSource<'_>) {
        dispatch!(self.write_blocks(offset, blocks));
    }

    fn config_read(&self, offset: u16, data: &mut [u8]) -> Result<(), BusError> {
        dispatch!(self.config_read(offset, data))
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Result<(), BusError> {
        dispatch!(self.config_write(offset, data))
    }

    fn dma_alloc(&self, len: usize) -> Result<DmaBlock, BusError> {
        dispatch!(self.dma_alloc(len))
    }

    fn dma_map(&self, memory: &SharedMem) -> Result<DmaBlock, BusError> {
        dispatch!(self.dma_map(memory))
    }

    fn irq_enable(&self, count: u16) -> Result<Vec<Irq>, BusError> {
        dispatch!(self.irq_enable(count))
    }

    fn reset(&self) -> Result<(), BusError> {
        dispatch!(self.reset())
    }

    fn gone(&self) -> Option<String> {
        dispatch!(self.gone())
    }

    #[inline]
    fn now(&self) -> Instant {
        dispatch!(self.now())
    }

    fn pause(&self, duration: Duration) {
        dispatch!(self.pause(duration));
    }

    #[inline]
    fn relax(&self) {
        dispatch!(self.relax());
    }

    fn wait_irq(&self, irq: &Irq, limit: Duration) -> Result<bool, BusError> {
        dispatch!(self.wait_irq(irq, limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for (text, want) in [
            ("emulated", "emulated"),
            ("vfio-user:/run/a.sock", "vfio-user:/run/a.sock"),
            ("af:00.0", "0000:af:00.0"),
            ("0000:af:00.1", "0000:af:00.1"),
        ] {
            assert_eq!(text.parse::<AdapterSpec>().unwrap().to_string(), want);
        }
        for text in ["", "vfio-user:", "vfio-user", "Emulated", "hfi1_0", "af:00"] {
            let error = text.parse::<AdapterSpec>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` names no adapter")), "{error}");
        }
    }

    #[test]
    fn an_emulated_adapter_is_made_and_can_be_reached_by_both_ways() {
        let options = Options { pacing: Pacing::Virtual, ..Options::default() };
        let bus = open(&AdapterSpec::Emulated, &options).unwrap();
        let mut id = [0; 4];
        bus.config_read(0, &mut id).unwrap();
        assert_eq!(id, [0x86, 0x80, 0xf0, 0x24]);
        let before = bus.emulated().unwrap().counts().resets;
        bus.reset().unwrap();
        assert_eq!(bus.emulated().unwrap().counts().resets, before + 1);
    }

    #[test]
    fn what_cant_be_opened_is_one_line() {
        for text in ["vfio-user:/nonexistent/sock", "ffff:ff:1f.7"] {
            let error = open(&text.parse().unwrap(), &Options::default()).unwrap_err().to_string();
            assert!(!error.contains('\n') && error.contains(text.trim_start_matches("vfio-user:")), "{error}");
        }
    }
}
