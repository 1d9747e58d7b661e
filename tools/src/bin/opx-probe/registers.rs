//! Reads registers without changing what the adapter does, writes them when asked to, and notices when the adapter is gone.

use opx_bus::{ALL_ONES, BusError, PciFunction};
use opx_defs::chip;
use opx_defs::csr::{self, Access, Csr};
use opx_defs::units::BarOff;

/// What came of reading a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Its value.
    Value(u64),
    /// It was left alone, and why.
    Skipped(&'static str),
}

/// The registers of one adapter.
#[derive(Debug)]
pub struct Registers<B> {
    bus: B,
}

impl<B: PciFunction> Registers<B> {
    /// The registers of the adapter on `bus`, which has to be there.
    pub fn new(bus: B) -> Result<Self, BusError> {
        let registers = Self { bus };
        registers.get(&csr::CCE_REVISION)?;
        Ok(registers)
    }

    /// The bus.
    pub fn bus(&self) -> &B {
        &self.bus
    }

    /// Reads a register of which there is one, and that can always be read.
    pub fn get(&self, csr: &Csr) -> Result<u64, BusError> {
        self.load(csr.off())
    }

    /// Reads an instance of a register that can always be read.
    ///
    /// `index` must be in the register's range.
    pub fn at(&self, csr: &Csr, index: u32) -> Result<u64, BusError> {
        self.load(csr.at(index))
    }

    /// Whether the link side of the chip is held in reset; its registers mean nothing then (`chip.c:read_guid`).
    pub fn dc_in_reset(&self) -> Result<bool, BusError> {
        Ok(csr::CCE_DC_CTRL::DC_RESET.is_set(self.get(&csr::CCE_DC_CTRL)?))
    }

    /// Reads element `element` of instance `index` of a register, unless that would change something or mean nothing.
    ///
    /// `index` and `element` must be in the register's range.
    pub fn read(&self, csr: &Csr, index: u32, element: u32) -> Result<Reading, BusError> {
        if csr.access == Access::WriteOnly {
            return Ok(Reading::Skipped("it can only be written"));
        }
        if csr.name == csr::ASIC_EEP_DATA.name {
            // eprom.c:read_page: reading moves on to the next word.
            return Ok(Reading::Skipped("reading it takes a word from the EPROM's controller"));
        }
        let at = csr.element(index, element);
        if within(at, chip::DC_TOP_CSRS, chip::CHIP_DEBUG) && self.dc_in_reset()? {
            return Ok(Reading::Skipped(
                "the DC is held in reset (CCE_DC_CTRL.DC_RESET), where this register means nothing",
            ));
        }
        if within(at, chip::LCB_START, chip::LCB_END) && self.lcb_is_8051s()? {
            return Ok(Reading::Skipped(
                "the 8051 owns the LCB (DC_DC8051_CFG_CSR_ACCESS_SEL), and reading it would raise CSR_ACCESS_BLOCKED_HOST",
            ));
        }
        self.load(at).map(Reading::Value)
    }

    /// Writes element `element` of instance `index` of a register, which must be in its range.
    pub fn write(&self, csr: &Csr, index: u32, element: u32, value: u64) -> Result<(), BusError> {
        self.bus.write64(csr.element(index, element), value);
        // The write has arrived when this is answered.
        self.get(&csr::CCE_REVISION).map(drop)
    }

    /// `chip.c:set_8051_lcb_access`. Before either side was given the LCB, the host may use it (`chip.c:init_lcb`).
    fn lcb_is_8051s(&self) -> Result<bool, BusError> {
        use csr::DC_DC8051_CFG_CSR_ACCESS_SEL as sel;
        let owners = self.get(&csr::DC_DC8051_CFG_CSR_ACCESS_SEL)?;
        Ok(sel::DCC.is_set(owners) && !sel::LCB.is_set(owners))
    }

    /// A register may well read as all ones; CCE_REVISION never does.
    fn load(&self, at: BarOff) -> Result<u64, BusError> {
        let value = self.bus.read64(at);
        if value == ALL_ONES && self.bus.read64(csr::CCE_REVISION.off()) == ALL_ONES {
            let why = match self.bus.gone() {
                Some(why) => format!("{}, read at {at}, is all ones: {why}", name_at(at)),
                None => format!("{}, read at {at}, and CCE_REVISION are all ones", name_at(at)),
            };
            return Err(BusError::Gone { name: self.bus.name().to_owned(), why });
        }
        Ok(value)
    }
}

fn within(at: BarOff, start: u64, end: u64) -> bool {
    (start..end).contains(&at.0.into())
}

fn name_at(at: BarOff) -> &'static str {
    csr::by_offset(at).map_or("a register", |(csr, ..)| csr.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_bus::fault::{Fault, Faulty};
    use opx_emu::{Config, EmuBus, Lab, Pacing};

    fn adapter(faults: Vec<Fault>) -> Faulty<EmuBus> {
        Faulty::new(Lab::new(Pacing::Virtual).add(Config::default()).bus(), faults)
    }

    fn stuck(csr: &Csr, mask: u64, value: u64) -> Fault {
        Fault::Stuck { offset: csr.off(), mask, value }
    }

    #[test]
    fn a_lost_adapter_is_an_error_at_any_read() {
        let error = Registers::new(adapter(vec![Fault::GoneAfterReads { after: 0 }])).unwrap_err().to_string();
        assert!(error.starts_with("emulated: the adapter is gone (CCE_REVISION, read at 0x0000000"), "{error}");
        let registers = Registers::new(adapter(vec![Fault::GoneAfterReads { after: 1 }])).unwrap();
        let error = registers.read(&csr::SEND_CTXT_CTRL, 3, 0).unwrap_err().to_string();
        assert!(error.contains("SEND_CTXT_CTRL, read at 0x1900300"), "{error}");
    }

    #[test]
    fn all_ones_in_one_register_is_a_value() {
        let mask = stuck(&csr::CCE_INT_MASK, ALL_ONES, ALL_ONES);
        let registers = Registers::new(adapter(vec![mask])).unwrap();
        assert_eq!(registers.read(&csr::CCE_INT_MASK, 0, 0).unwrap(), Reading::Value(ALL_ONES));
    }

    #[test]
    fn what_reading_would_disturb_is_left_alone() {
        let bus = adapter(vec![stuck(&csr::CCE_DC_CTRL, ALL_ONES, 0)]);
        let registers = Registers::new(bus.clone()).unwrap();
        let read = |csr: &Csr| registers.read(csr, 0, 0).unwrap();
        let before = bus.reads();
        for csr in [csr::RCV_ARRAY, csr::CCE_CTRL, csr::ASIC_EEP_DATA] {
            assert!(matches!(read(&csr), Reading::Skipped(_)), "{}", csr.name);
        }
        assert_eq!(bus.reads(), before);

        assert!(matches!(read(&csr::DC_LCB_CFG_RUN), Reading::Value(_)));
        let owner = csr::DC_DC8051_CFG_CSR_ACCESS_SEL::DCC.mask();
        bus.add(stuck(&csr::DC_DC8051_CFG_CSR_ACCESS_SEL, ALL_ONES, owner));
        assert!(matches!(read(&csr::DC_LCB_CFG_RUN), Reading::Skipped(why) if why.contains("8051 owns")));
        assert!(matches!(read(&csr::DCC_CFG_PORT_CONFIG), Reading::Value(_)));

        bus.mend();
        bus.add(stuck(&csr::CCE_DC_CTRL, ALL_ONES, 1));
        for csr in [csr::DC_LCB_CFG_RUN, csr::DCC_CFG_PORT_CONFIG, csr::DC_DC8051_CFG_LOCAL_GUID] {
            assert!(matches!(read(&csr), Reading::Skipped(why) if why.contains("in reset")), "{}", csr.name);
        }
    }
}
