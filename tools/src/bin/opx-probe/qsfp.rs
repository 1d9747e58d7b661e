//! `opx-probe qsfp`: the module in the adapter's cage, from its own memory.

use crate::cli::Target;
use crate::places::Places;
use crate::view::{View, pairs, show, yes};
use crate::{Outcome, choose};
use opx_hw::{Board, Module};
use serde::Serialize;

/// What it says of itself.
#[derive(Debug, Serialize)]
struct Cable {
    vendor: String,
    vendor_oui: String,
    part_number: String,
    revision: String,
    serial_number: String,
    /// YYMMDD.
    date: String,
    technology: &'static str,
    copper: bool,
    length_m: Option<u8>,
    attenuation_db: Option<(u8, u8)>,
    power_w: f64,
    celsius: f64,
    /// Whether its check bytes fit.
    sound: bool,
}

impl From<&Module> for Cable {
    fn from(module: &Module) -> Self {
        let [a, b, c] = module.vendor_oui();
        Self {
            vendor: module.vendor(),
            vendor_oui: format!("{a:02x}:{b:02x}:{c:02x}"),
            part_number: module.part_number(),
            revision: module.revision(),
            serial_number: module.serial_number(),
            date: module.date(),
            technology: module.technology(),
            copper: module.is_copper(),
            length_m: module.length_m(),
            attenuation_db: module.attenuation_db(),
            power_w: f64::from(module.power_dw()) / 10.0,
            celsius: f64::from(module.temperature_256ths()) / 256.0,
            sound: module.is_sound(),
        }
    }
}

impl View for Cable {
    fn text(&self) -> String {
        let mut rows = vec![
            ("vendor", format!("{} ({})", self.vendor, self.vendor_oui)),
            ("part", format!("{}, revision {}", self.part_number, self.revision)),
            ("serial number", self.serial_number.clone()),
            ("made", format!("{} (YYMMDD)", self.date)),
            ("technology", self.technology.to_owned()),
            ("power", format!("{:.1} W at most", self.power_w)),
        ];
        if let Some(metres) = self.length_m {
            rows.push(("length", format!("{metres} m")));
        }
        if let Some((slow, fast)) = self.attenuation_db {
            rows.push(("attenuation", format!("{slow} dB at 12.5 Gb/s, {fast} dB at 25 Gb/s")));
        }
        if self.celsius != 0.0 {
            rows.push(("temperature", format!("{:.1} °C", self.celsius)));
        }
        rows.push(("check bytes fit", yes(self.sound)));
        pairs(rows)
    }

    fn trouble(&self) -> bool {
        !self.sound
    }
}

/// Shows it.
pub fn run(places: &Places, target: &Target) -> anyhow::Result<Outcome> {
    let registers = choose::adapter(places, target)?;
    let module = Board::new(registers.bus().clone())?.module()?;
    show(&registers, target, &Cable::from(&module))
}
