//! `opx-probe temperature`: the chip's thermometer and its limits.

use crate::cli::Target;
use crate::places::Places;
use crate::registers::Registers;
use crate::view::{View, pairs, show};
use crate::{Outcome, choose};
use opx_bus::{BusError, PciFunction};
use opx_defs::chip;
use opx_defs::csr::{self, Field};
use serde::Serialize;

/// What it shows, degrees Celsius.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Temperature {
    /// Now.
    pub celsius: Option<f64>,
    /// Below this it is too cold.
    pub low: Option<f64>,
    /// Above this it is too hot.
    pub high: Option<f64>,
    /// Above this the chip has to be stopped.
    pub critical: Option<f64>,
    /// Why there is no value.
    pub missing: Option<&'static str>,
}

impl Temperature {
    /// `chip.c:hfi1_tempsense_rd, thermal_init`: only silicon has the sensor, and only while it is polled is there a value.
    pub fn read<B: PciFunction>(registers: &Registers<B>) -> Result<Self, BusError> {
        use csr::ASIC_STS_THERM as therm;
        let missing = |why| Ok(Self { celsius: None, low: None, high: None, critical: None, missing: Some(why) });
        if csr::CCE_REVISION2::IMPL_CODE.get(registers.get(&csr::CCE_REVISION2)?) != chip::ICODE_RTL_SILICON {
            return missing("only silicon has a sensor");
        }
        if !csr::ASIC_CFG_THERM_POLL_EN::EN.is_set(registers.get(&csr::ASIC_CFG_THERM_POLL_EN)?) {
            return missing("the sensor isn't polled: no driver has switched that on");
        }
        let value = registers.get(&csr::ASIC_STS_THERM)?;
        let celsius = |field: Field| Some(field.get(value) as f64 / 4.0);
        Ok(Self {
            celsius: celsius(therm::CURR_TEMP),
            low: celsius(therm::LO_TEMP),
            high: celsius(therm::HI_TEMP),
            critical: celsius(therm::CRIT_TEMP),
            missing: None,
        })
    }

    fn over(&self, limit: Option<f64>) -> bool {
        // A limit of 0 was never set.
        self.celsius.zip(limit).is_some_and(|(now, limit)| limit > 0.0 && now > limit)
    }
}

impl View for Temperature {
    fn text(&self) -> String {
        if let Some(why) = self.missing {
            return format!("temperature unknown: {why}\n");
        }
        let shown = |celsius: Option<f64>| celsius.map_or("-".to_owned(), |celsius| format!("{celsius:.2} °C"));
        pairs([
            ("now", shown(self.celsius)),
            ("low", shown(self.low)),
            ("high", shown(self.high)),
            ("critical", shown(self.critical)),
        ])
    }

    fn trouble(&self) -> bool {
        self.over(self.high) || self.over(self.critical)
    }
}

/// Shows it.
pub fn run(places: &Places, target: &Target) -> anyhow::Result<Outcome> {
    let registers = choose::adapter(places, target)?;
    show(&registers, target, &Temperature::read(&registers)?)
}
