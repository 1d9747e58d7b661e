//! `opx-probe info`: what an adapter is and how it stands, from registers that can be read without changing anything.

use crate::cli;
use crate::link::{Link as FabricLink, Port};
use crate::names::constant;
use crate::places::Places;
use crate::registers::Registers;
use crate::render::{hex64, json, table};
use crate::temperature::Temperature;
use crate::{Outcome, choose, render};
use opx_bus::{BusError, PciFunction};
use opx_defs::csr;
use opx_defs::units::Lid;
use opx_hw::vfio::PioMapping;
use opx_tools::adapter::AnyBus;
use opx_tools::pci::{Link, Pci};
use serde::Serialize;

/// All that is told.
#[derive(Debug, Serialize)]
struct Info {
    version: u32,
    adapter: String,
    pci: Pci,
    chip: Chip,
    sizes: Sizes,
    /// The link side of the chip is held in reset.
    dc_in_reset: bool,
    /// None while it is.
    port: Option<Port>,
    temperature: Temperature,
    /// How stores to the PIO window reach the adapter.
    pio_window: String,
    zero_copy_receive: ZeroCopy,
}

/// CCE_REVISION and CCE_REVISION2, decoded.
#[derive(Debug, Serialize)]
struct Chip {
    revision: String,
    major: u64,
    minor: u64,
    stepping: String,
    architecture: u64,
    software: u64,
    board: u64,
    revision2: String,
    icode: u64,
    icode_name: String,
    implementation_revision: u64,
    hfi: u64,
}

/// How much there is of everything.
#[derive(Debug, Serialize)]
struct Sizes {
    receive_contexts: u64,
    send_contexts: u64,
    sdma_engines: u64,
    pio_bytes: u64,
    sdma_bytes: u64,
    rcv_array_entries: u64,
}

/// What the running kernel can do of zero-copy receive.
#[derive(Debug, Serialize)]
struct ZeroCopy {
    supported: bool,
    features: Vec<&'static str>,
    /// Why there is none.
    missing: Option<String>,
}

/// Shows it.
pub fn run(places: &Places, args: &cli::Info) -> anyhow::Result<Outcome> {
    let registers = choose::adapter(places, &args.target)?;
    let dc_in_reset = registers.dc_in_reset()?;
    let info = Info {
        version: render::JSON_VERSION,
        adapter: registers.bus().name().to_owned(),
        pci: Pci::read(registers.bus())?,
        chip: Chip::read(&registers)?,
        sizes: Sizes::read(&registers)?,
        dc_in_reset,
        port: FabricLink::read(&registers)?.port,
        temperature: Temperature::read(&registers)?,
        pio_window: pio_window(registers.bus().inner()),
        zero_copy_receive: ZeroCopy::ask(),
    };
    let text = if args.target.json { json(&info)? } else { info.text() };
    Ok(text.into())
}

impl Chip {
    fn read<B: PciFunction>(registers: &Registers<B>) -> Result<Self, BusError> {
        use csr::{CCE_REVISION as r, CCE_REVISION2 as r2};
        let revision = registers.get(&csr::CCE_REVISION)?;
        let revision2 = registers.get(&csr::CCE_REVISION2)?;
        let minor = r::CHIP_REV_MINOR.get(revision);
        let icode = r2::IMPL_CODE.get(revision2);
        Ok(Self {
            revision: hex64(revision),
            major: r::CHIP_REV_MAJOR.get(revision),
            minor,
            stepping: stepping(minor),
            architecture: r::ARCH.get(revision),
            software: r::SW.get(revision),
            board: r::BOARD_ID_LOWER_NIBBLE.get(revision),
            revision2: hex64(revision2),
            icode,
            icode_name: constant("icode", "ICODE_", icode),
            implementation_revision: r2::IMPL_REVISION.get(revision2),
            hfi: r2::HFI_ID.get(revision2),
        })
    }
}

/// The upper nibble of the minor revision is the stepping's letter (`hfi.h:is_ax, is_bx`).
fn stepping(minor: u64) -> String {
    match (minor >> 4, minor & 0xf) {
        (0, step) => format!("A{step}"),
        (1, step) => format!("B{step}"),
        _ => "unknown".to_owned(),
    }
}

impl Sizes {
    fn read<B: PciFunction>(registers: &Registers<B>) -> Result<Self, BusError> {
        Ok(Self {
            receive_contexts: registers.get(&csr::RCV_CONTEXTS)?,
            send_contexts: registers.get(&csr::SEND_CONTEXTS)?,
            sdma_engines: registers.get(&csr::SEND_DMA_ENGINES)?,
            pio_bytes: registers.get(&csr::SEND_PIO_MEM_SIZE)?,
            sdma_bytes: registers.get(&csr::SEND_DMA_MEM_SIZE)?,
            rcv_array_entries: registers.get(&csr::RCV_ARRAY_CNT)?,
        })
    }
}

fn pio_window(bus: &AnyBus) -> String {
    match bus {
        AnyBus::Emulated(_) => "calls within this process".to_owned(),
        AnyBus::VfioUser(_) => "messages on the socket".to_owned(),
        AnyBus::Vfio(bus) => match bus.pio_mapping() {
            PioMapping::WriteCombined => "write-combined, by resource0_wc".to_owned(),
            PioMapping::Uncached { why } => format!("uncached: {why}"),
        },
    }
}

impl ZeroCopy {
    fn ask() -> Self {
        match opx_zcrx::query() {
            Ok(has) => {
                let all = [
                    ("import", has.import),
                    ("no_device", has.no_device),
                    ("export", has.export),
                    ("flush", has.flush),
                    ("events", has.events),
                    ("buffer_size", has.buffer_size),
                ];
                let features = all.into_iter().filter_map(|(name, has)| has.then_some(name)).collect();
                Self { supported: true, features, missing: None }
            }
            Err(why) => Self { supported: false, features: Vec::new(), missing: Some(why.to_string()) },
        }
    }
}

fn speed(link: Option<Link>) -> String {
    let figures = |speed: Option<f64>, width: u8| match speed {
        Some(speed) => format!("{speed} GT/s x{width}"),
        None => format!("unknown speed x{width}"),
    };
    link.map_or("no PCI Express capability".to_owned(), |link| {
        format!("{} (of {})", figures(link.speed_gts, link.width), figures(link.max_speed_gts, link.max_width))
    })
}

impl Info {
    fn text(&self) -> String {
        let (pci, chip, sizes) = (&self.pci, &self.chip, &self.sizes);
        let mut lines = vec![
            ("adapter", self.adapter.clone()),
            ("PCI ids", format!("{}, subsystem {}, revision {:#04x}", pci.device, pci.subsystem, pci.revision)),
            ("PCIe link", speed(pci.link)),
            (
                "chip",
                format!(
                    "{} (revision {}.{}), architecture {}, software {}, board {}",
                    chip.stepping, chip.major, chip.minor, chip.architecture, chip.software, chip.board
                ),
            ),
            ("CCE_REVISION", format!("{}, CCE_REVISION2 {}", chip.revision, chip.revision2)),
            (
                "icode",
                format!(
                    "{} ({}), implementation revision {}",
                    chip.icode, chip.icode_name, chip.implementation_revision
                ),
            ),
            ("HFI", chip.hfi.to_string()),
            ("receive contexts", format!("{}, RcvArray entries {}", sizes.receive_contexts, sizes.rcv_array_entries)),
            ("send contexts", format!("{}, PIO memory {} bytes", sizes.send_contexts, sizes.pio_bytes)),
            ("SDMA engines", format!("{}, SDMA memory {} bytes", sizes.sdma_engines, sizes.sdma_bytes)),
        ];
        match &self.port {
            None => lines.push(("port", "unknown: the DC is held in reset (CCE_DC_CTRL.DC_RESET)".to_owned())),
            Some(port) => lines.extend([
                ("GUID", port.guid.clone()),
                ("LID", Lid(port.lid as u32).to_string()),
                ("logical state", format!("{} ({})", port.logical_state.name, port.logical_state.code)),
                (
                    "physical state",
                    format!(
                        "{} ({:#x}), firmware {}",
                        port.physical_state.name, port.physical_state.code, port.firmware_state
                    ),
                ),
            ]),
        }
        lines.push((
            "temperature",
            match (self.temperature.celsius, self.temperature.missing) {
                (Some(celsius), _) => format!("{celsius:.2} °C"),
                (None, why) => format!("unknown: {}", why.unwrap_or("no reason given")),
            },
        ));
        lines.push(("PIO window", self.pio_window.clone()));
        let zero_copy = &self.zero_copy_receive;
        lines.push((
            "zero-copy receive",
            match &zero_copy.missing {
                None => format!("yes: {}", zero_copy.features.join(", ")),
                Some(why) => format!("no: {why}"),
            },
        ));
        table(&[], lines.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_bus::fault::{Fault, Faulty};
    use opx_defs::csr::Csr;
    use opx_emu::{Config, EmuBus, Lab, Pacing};

    fn registers(values: &[(&Csr, u64)]) -> Registers<Faulty<EmuBus>> {
        let fault = |(csr, value): &(&Csr, u64)| Fault::Stuck { offset: csr.off(), mask: u64::MAX, value: *value };
        let bus = Lab::new(Pacing::Virtual).add(Config::default()).bus();
        Registers::new(Faulty::new(bus, values.iter().map(fault).collect())).unwrap()
    }

    #[test]
    fn a_port_that_is_up_is_told_by_name() {
        let port = FabricLink::read(&registers(&[
            (&csr::CCE_DC_CTRL, 0),
            (&csr::DCC_CFG_PORT_CONFIG, csr::DCC_CFG_PORT_CONFIG::LINK_STATE.put(4)),
            (&csr::DCC_CFG_PORT_CONFIG1, 0xffff_0007),
            (&csr::DC_DC8051_STS_CUR_STATE, 0xa0_0050),
            (&csr::DC_DC8051_CFG_LOCAL_GUID, 0x0011_7501_0102_0304),
        ]))
        .unwrap();
        let port = port.port.unwrap();
        assert_eq!((port.logical_state.code, port.logical_state.name.as_str()), (4, "ACTIVE"));
        assert_eq!((port.physical_state.code, port.physical_state.name.as_str()), (0x50, "LINKUP"));
        assert_eq!((port.guid.as_str(), port.lid, port.firmware_state.as_str()), ("0011:7501:0102:0304", 7, "0xa0"));
    }

    #[test]
    fn a_temperature_is_told_only_while_the_sensor_is_polled() {
        let quarters = csr::ASIC_STS_THERM::CURR_TEMP.put(4 * 52 + 1);
        let polled = [(&csr::ASIC_CFG_THERM_POLL_EN, 1), (&csr::ASIC_STS_THERM, quarters)];
        assert_eq!(Temperature::read(&registers(&polled)).unwrap().celsius, Some(52.25));
        let idle = [(&csr::ASIC_CFG_THERM_POLL_EN, 0), (&csr::ASIC_STS_THERM, quarters)];
        assert_eq!(Temperature::read(&registers(&idle)).unwrap().celsius, None);
        let simulator = [polled[0], polled[1], (&csr::CCE_REVISION2, csr::CCE_REVISION2::IMPL_CODE.put(3))];
        assert!(Temperature::read(&registers(&simulator)).unwrap().missing.unwrap().contains("silicon"));
    }

    #[test]
    fn codes_have_the_names_of_the_driver() {
        assert_eq!(constant("pls", "PLS_", 0x90), "OFFLINE_QUIET");
        assert_eq!(constant("lstate", "LSTATE_", 1), "DOWN");
        assert_eq!(constant("icode", "ICODE_", 3), "FUNCTIONAL_SIMULATOR");
        assert_eq!(constant("pls", "PLS_", 0xff), "unknown");
        assert_eq!([0x10, 0x11, 0x00, 0x20].map(stepping), ["B0", "B1", "A0", "unknown"]);
    }
}
