//! What an adapter is found as, what will be done to it, whether that may be, and how it is given back.
//!
//! A reset of the function leaves the link side (DC), the pins of the modules and config space as they are, so that these
//! are what has to be put back; all else goes with the reset that ends every use of an adapter.

use crate::cli::Cli;
use opx_bus::{ALL_ONES, BusError, PciFunction};
use opx_defs::chip;
use opx_defs::csr::{self, Csr};
use opx_tools::adapter::AdapterSpec;
use serde::Serialize;

/// PCI_COMMAND.
const COMMAND: u16 = 4;
/// Pins that a driver moves when it starts (`chip.c:init_chip`): they belong to both adapters of the chip and aren't reset.
const PINS: [&Csr; 2] = [&csr::ASIC_QSFP1_OUT, &csr::ASIC_QSFP2_OUT];

/// What the link does before anything is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundLink {
    /// The link side is held in reset, as after power-on.
    InReset,
    /// Down, or on its way up.
    Down,
    /// Up at the adapter itself: what an owner that was killed in a loopback leaves behind.
    Loopback,
    /// Up, for management packets only.
    Init,
    /// Set up by a fabric manager, but not used yet.
    Armed,
    /// Up in a fabric.
    Active,
}

impl FoundLink {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::InReset => "held in reset",
            Self::Down => "down",
            Self::Loopback => "up in loopback",
            Self::Init => "INIT",
            Self::Armed => "ARMED",
            Self::Active => "ACTIVE",
        }
    }

    /// Whether a fabric manager has set it up, so that others count on it.
    pub fn is_in_fabric(self) -> bool {
        matches!(self, Self::Armed | Self::Active)
    }
}

/// What was found, and has to be put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The link.
    pub link: FoundLink,
    command: u16,
    pins: [u64; PINS.len()],
}

impl Found {
    /// Looks at an adapter, and changes nothing.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub fn read<B: PciFunction>(bus: &B) -> Result<Self, BusError> {
        let mut command = [0; 2];
        bus.config_read(COMMAND, &mut command)?;
        if bus.read64(csr::CCE_REVISION.off()) == ALL_ONES {
            let why = bus.gone().unwrap_or_else(|| "CCE_REVISION reads as all ones".to_owned());
            return Err(BusError::Gone { name: bus.name().to_owned(), why });
        }
        let pins = PINS.map(|pin| bus.read64(pin.off()));
        Ok(Self { link: link(bus), command: u16::from_le_bytes(command), pins })
    }

    /// Puts back what was found; the adapter must not be in use any more. Gives what couldn't be put back.
    ///
    /// The link stays offline, whatever it was: only a driver that stays can have it up.
    pub fn put_back<B: PciFunction>(&self, bus: &B) -> Result<(), BusError> {
        for (pin, value) in PINS.into_iter().zip(self.pins) {
            bus.write64(pin.off(), value);
        }
        if self.link == FoundLink::InReset {
            bus.write64(csr::CCE_DC_CTRL.off(), csr::CCE_DC_CTRL::DC_RESET.mask());
        }
        // The writes have arrived when this is answered, and the adapter still is there.
        let now = Self::read(bus)?;
        bus.config_write(COMMAND, &self.command.to_le_bytes())?;
        let in_reset = |found: &Self| found.link == FoundLink::InReset;
        if (now.pins, in_reset(&now)) != (self.pins, in_reset(self)) {
            log::warn!("{}: found as {self:?}, left as {now:?}", bus.name());
        }
        Ok(())
    }
}

fn link<B: PciFunction>(bus: &B) -> FoundLink {
    let read = |csr: &Csr| bus.read64(csr.off());
    // chip.c:read_guid: its registers mean nothing then.
    if csr::CCE_DC_CTRL::DC_RESET.is_set(read(&csr::CCE_DC_CTRL)) {
        return FoundLink::InReset;
    }
    let state = csr::DCC_CFG_PORT_CONFIG::LINK_STATE.get(read(&csr::DCC_CFG_PORT_CONFIG));
    let (own, other) = (read(&csr::DC_DC8051_CFG_LOCAL_GUID), read(&csr::DC_DC8051_STS_REMOTE_GUID));
    // In loopback the 8051 has met nobody.
    let alone = other == 0 || other == own;
    match state {
        chip::LSTATE_INIT..=chip::LSTATE_ACTIVE if alone => FoundLink::Loopback,
        chip::LSTATE_INIT => FoundLink::Init,
        chip::LSTATE_ARMED => FoundLink::Armed,
        chip::LSTATE_ACTIVE => FoundLink::Active,
        _ => FoundLink::Down,
    }
}

/// Why an adapter isn't touched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{adapter}: its link is {} in a fabric, and would be taken out of it; give --take-down-link if that may be (`opx-probe link` shows what it is joined to)",
    link.name()
)]
pub struct InFabric {
    adapter: String,
    link: FoundLink,
}

/// Whether an adapter that was found like this may be used.
///
/// # Errors
/// When others count on its link, and nobody said that it may be taken.
pub fn check(cli: &Cli, found: &Found) -> Result<(), InFabric> {
    if found.link.is_in_fabric() && !cli.take_down_link {
        return Err(InFabric { adapter: cli.adapter.to_string(), link: found.link });
    }
    Ok(())
}

/// What will be done to an adapter, line by line.
pub fn plan(cli: &Cli, found: &Found) -> Vec<String> {
    let mut lines = vec![
        format!("{}, link {}: what is done to it", cli.adapter, found.link.name()),
        "its function and chip are reset, initialised, and given their firmware".to_owned(),
    ];
    lines.push(match (cli.role, found.link.is_in_fabric()) {
        (None, false) => "its link goes into loopback at the adapter: nothing leaves it".to_owned(),
        (None, true) => "its link is TAKEN OUT OF THE FABRIC into loopback at the adapter".to_owned(),
        (Some(_), false) => "its link comes up with what is at the other end of its cable".to_owned(),
        (Some(_), true) => "its link is TAKEN DOWN and comes up with the other end of its cable".to_owned(),
    });
    if cli.role.is_none() {
        lines.push("packets that its checks refuse are sent on purpose, so it counts errors".to_owned());
    }
    lines.push(match cli.adapter {
        AdapterSpec::Emulated => "it is made for this command and gone afterwards".to_owned(),
        _ if found.link == FoundLink::InReset => {
            "afterwards the link side is held in reset again, pins and PCI command register are as found".to_owned()
        }
        _ => "afterwards its link is offline, pins and PCI command register are as found".to_owned(),
    });
    lines
}

/// The lines of a plan as text.
pub fn shown(plan: &[String]) -> String {
    let mut text = String::new();
    for (n, line) in plan.iter().enumerate() {
        text += &if n == 0 { format!("{line}\n") } else { format!("  - {line}\n") };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use opx_bus::fault::{Fault, Faulty};
    use opx_emu::{Config, EmuBus, Lab, Pacing};

    fn adapter(values: &[(&Csr, u64)]) -> Faulty<EmuBus> {
        let fault = |(csr, value): &(&Csr, u64)| Fault::Stuck { offset: csr.off(), mask: u64::MAX, value: *value };
        let bus = Lab::new(Pacing::Virtual).add(Config::default()).bus();
        Faulty::new(bus, values.iter().map(fault).collect())
    }

    fn found(state: u64, other: u64) -> Found {
        Found::read(&adapter(&[
            (&csr::CCE_DC_CTRL, 0),
            (&csr::DCC_CFG_PORT_CONFIG, csr::DCC_CFG_PORT_CONFIG::LINK_STATE.put(state)),
            (&csr::DC_DC8051_CFG_LOCAL_GUID, 7),
            (&csr::DC_DC8051_STS_REMOTE_GUID, other),
        ]))
        .unwrap()
    }

    fn cli(args: &[&str]) -> Cli {
        Cli::try_parse_from([&["x", "--adapter", "af:00.0"], args].concat()).unwrap()
    }

    #[test]
    fn what_the_link_does_is_told_apart() {
        let state = |state, other| found(state, other).link;
        assert_eq!(state(chip::LSTATE_DOWN, 0), FoundLink::Down);
        assert_eq!(state(chip::LSTATE_INIT, 9), FoundLink::Init);
        assert_eq!(state(chip::LSTATE_ARMED, 9), FoundLink::Armed);
        assert_eq!(state(chip::LSTATE_ACTIVE, 9), FoundLink::Active);
        assert_eq!([state(chip::LSTATE_ACTIVE, 7), state(chip::LSTATE_ACTIVE, 0)], [FoundLink::Loopback; 2]);
        let held = Found::read(&adapter(&[(&csr::CCE_DC_CTRL, 1)])).unwrap();
        assert_eq!(held.link, FoundLink::InReset);
    }

    #[test]
    fn a_link_that_others_count_on_is_left_alone() {
        for (state, refused) in [
            (chip::LSTATE_DOWN, false),
            (chip::LSTATE_INIT, false),
            (chip::LSTATE_ARMED, true),
            (chip::LSTATE_ACTIVE, true),
        ] {
            let found = found(state, 9);
            assert_eq!(check(&cli(&[]), &found).is_err(), refused, "{found:?}");
            assert_eq!(check(&cli(&["--take-down-link"]), &found), Ok(()));
            assert_eq!(shown(&plan(&cli(&[]), &found)).contains("TAKEN OUT OF THE FABRIC"), refused);
        }
        let error = check(&cli(&[]), &found(chip::LSTATE_ACTIVE, 9)).unwrap_err().to_string();
        assert!(
            error.starts_with("0000:af:00.0: its link is ACTIVE in a fabric") && error.contains("--take-down-link")
        );
        assert_eq!(check(&cli(&[]), &found(chip::LSTATE_ACTIVE, 7)), Ok(()));
    }

    #[test]
    fn the_plan_fits_80_columns() {
        for args in [&[][..], &["--role", "receiver"], &["--take-down-link"]] {
            for state in [chip::LSTATE_DOWN, chip::LSTATE_ACTIVE] {
                let text = shown(&plan(&cli(args), &found(state, 9)));
                assert!(text.lines().all(|line| line.len() <= 80), "{text}");
            }
        }
    }

    #[test]
    fn an_adapter_is_given_back_as_it_was_found() {
        let bus = Lab::new(Pacing::Virtual).add(Config::default()).bus();
        let command = |bus: &EmuBus| {
            let mut bytes = [0; 2];
            bus.config_read(COMMAND, &mut bytes).unwrap();
            bytes
        };
        for held in [1, 0] {
            bus.write64(csr::CCE_DC_CTRL.off(), held);
            bus.write64(csr::ASIC_QSFP1_OUT.off(), 5);
            bus.config_write(COMMAND, &[2, 0]).unwrap();
            let (found, before) = (Found::read(&bus).unwrap(), command(&bus));
            bus.write64(csr::CCE_DC_CTRL.off(), 0);
            bus.write64(csr::ASIC_QSFP1_OUT.off(), 0x1f);
            bus.config_write(COMMAND, &[6, 0]).unwrap();
            found.put_back(&bus).unwrap();
            assert_eq!((Found::read(&bus).unwrap(), command(&bus)), (found, before));
            assert_eq!(found.link == FoundLink::InReset, held == 1);
        }
    }

    #[test]
    fn an_adapter_that_is_gone_is_told() {
        let gone = adapter(&[(&csr::CCE_REVISION, ALL_ONES)]);
        assert!(matches!(Found::read(&gone), Err(BusError::Gone { .. })));
    }
}
