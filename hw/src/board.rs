//! What is on the board beside the chip, read without resetting the chip or bringing it up: the module in the cage, the EPROM.

use crate::asic::Asic;
use crate::discover::is_hfi1;
use crate::error::{EpromError, Gone, OpenError, QsfpError};
use crate::qsfp::{self, Module};
use crate::regs::Regs;
use crate::{eprom, info};
use opx_bus::PciFunction;
use opx_defs::csr;

/// The board of an adapter that nobody has to have opened. Reading it takes the chip's locks, as hfi1 does, and drives the
/// pins of the module's bus and the EPROM's controller; all waits are bounded.
#[derive(Debug)]
pub struct Board<B: PciFunction> {
    regs: Regs<B>,
    asic: Asic,
    device: u16,
}

impl<B: PciFunction> Board<B> {
    /// The board of the adapter behind `bus`.
    ///
    /// ```
    /// # use opx_emu::{Config, Lab, Pacing, QsfpModule};
    /// # use opx_hw::Board;
    /// # let adapter = Lab::new(Pacing::Virtual).add(Config::default());
    /// adapter.set_module(Some(QsfpModule::copper("ACME", "CABLE-3M", "42", 3)));
    /// let board = Board::new(adapter.bus())?;
    /// assert_eq!(board.module()?.part_number(), "CABLE-3M");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When it isn't an HFI1, or doesn't answer.
    pub fn new(bus: B) -> Result<Self, OpenError> {
        let mut ids = [0; 4];
        bus.config_read(0, &mut ids)?;
        let [a, b, c, d] = ids;
        let (vendor, device) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        if !is_hfi1(vendor, device) {
            return Err(OpenError::NotAnHfi { adapter: bus.name().to_owned(), vendor, device });
        }
        let regs = Regs::new(bus);
        let (_, revision2) = info::read_revision(&regs)?;
        let asic = Asic { hfi_id: csr::CCE_REVISION2::HFI_ID.get(revision2) as u8 };
        Ok(Self { regs, asic, device })
    }

    /// Whether a module is in the cage.
    ///
    /// # Errors
    /// When the adapter is gone.
    pub fn has_module(&self) -> Result<bool, Gone> {
        qsfp::has_module(&self.regs, self.asic)
    }

    /// Reads the module in the cage, as [`crate::Hfi::module`] does.
    ///
    /// # Errors
    /// When there is none, it doesn't answer, or the bus is in use.
    pub fn module(&self) -> Result<Module, QsfpError> {
        // chip.c:init_chip: the module's reset pin high.
        let out = if self.asic.hfi_id == 0 { &csr::ASIC_QSFP1_OUT } else { &csr::ASIC_QSFP2_OUT };
        self.regs.write(out, 0x1f);
        qsfp::read_module(&self.regs, self.asic, self.device)
    }

    /// Reads bytes of the EPROM, as [`crate::Hfi::read_eprom`] does.
    ///
    /// # Errors
    /// When the adapter has none, the range lies beyond its 16 MiB, or it is in use.
    pub fn read_eprom(&self, offset: u32, bytes: &mut [u8]) -> Result<(), EpromError> {
        eprom::with_eprom(&self.regs, self.asic, self.device, |eprom| eprom.read(offset, bytes))
    }

    /// The platform configuration file in the EPROM.
    ///
    /// # Errors
    /// As [`Board::read_eprom`], and when there is no such file or what there is makes no sense.
    pub fn platform_config(&self) -> Result<Vec<u8>, EpromError> {
        eprom::with_eprom(&self.regs, self.asic, self.device, |eprom| eprom.platform_config())
    }
}
