//! Config space: ids, and the PCI Express link as it was trained.

use opx_bus::{BusError, PciFunction};
use serde::Serialize;

const STATUS: u16 = 0x06;
const REVISION: u16 = 0x08;
const SUBSYSTEM: u16 = 0x2c;
const CAPABILITIES: u16 = 0x34;
/// In STATUS: there is a list of capabilities.
const HAS_CAPABILITIES: u16 = 1 << 4;
/// Id of the PCI Express capability, and where in it the link's figures are.
const PCIE: u8 = 0x10;
const LINK_CAPABILITIES: u16 = 0x0c;
const LINK_STATUS: u16 = 0x12;
/// A list of capabilities has no room for more in the first 256 bytes; a broken one may be a ring.
const MOST_CAPABILITIES: usize = 48;

/// What config space says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pci {
    /// Vendor and device.
    pub device: String,
    /// Subsystem vendor and device.
    pub subsystem: String,
    /// Revision of the device.
    pub revision: u8,
    /// The link; none when there is no PCI Express capability.
    pub link: Option<Link>,
}

/// The PCI Express link.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Link {
    /// Speed now, GT/s; none for a code that isn't known.
    pub speed_gts: Option<f64>,
    /// Lanes now.
    pub width: u8,
    /// Highest speed, GT/s.
    pub max_speed_gts: Option<f64>,
    /// Most lanes.
    pub max_width: u8,
}

impl Pci {
    /// Reads it.
    pub fn read<B: PciFunction>(bus: &B) -> Result<Self, BusError> {
        let ids = |offset| Ok::<_, BusError>(format!("{:04x}:{:04x}", word(bus, offset)?, word(bus, offset + 2)?));
        let link = match pcie_capability(bus)? {
            Some(at) => {
                let most = word(bus, at.wrapping_add(LINK_CAPABILITIES))?;
                let now = word(bus, at.wrapping_add(LINK_STATUS))?;
                let (speed_gts, width) = speed_and_width(now);
                let (max_speed_gts, max_width) = speed_and_width(most);
                Some(Link { speed_gts, width, max_speed_gts, max_width })
            }
            None => None,
        };
        let [revision] = bytes(bus, REVISION)?;
        Ok(Self { device: ids(0)?, subsystem: ids(SUBSYSTEM)?, revision, link })
    }
}

/// Both registers have the speed in bits 3:0 and the width in bits 9:4.
fn speed_and_width(register: u16) -> (Option<f64>, u8) {
    let speed = match register & 0xf {
        1 => Some(2.5),
        2 => Some(5.0),
        3 => Some(8.0),
        4 => Some(16.0),
        5 => Some(32.0),
        _ => None,
    };
    (speed, (register >> 4 & 0x3f) as u8)
}

fn pcie_capability<B: PciFunction>(bus: &B) -> Result<Option<u16>, BusError> {
    if word(bus, STATUS)? & HAS_CAPABILITIES == 0 {
        return Ok(None);
    }
    let [mut at] = bytes(bus, CAPABILITIES)?;
    for _ in 0..MOST_CAPABILITIES {
        at &= !3;
        if at < 0x40 {
            break;
        }
        let [id, next] = bytes(bus, at.into())?;
        if id == PCIE {
            return Ok(Some(at.into()));
        }
        at = next;
    }
    Ok(None)
}

fn word<B: PciFunction>(bus: &B, offset: u16) -> Result<u16, BusError> {
    bytes(bus, offset).map(u16::from_le_bytes)
}

fn bytes<B: PciFunction, const N: usize>(bus: &B, offset: u16) -> Result<[u8; N], BusError> {
    let mut bytes = [0; N];
    bus.config_read(offset, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_emu::{Config, Lab, Pacing};

    #[test]
    fn figures_of_the_link_are_decoded() {
        assert_eq!(speed_and_width(0x1103), (Some(8.0), 16));
        assert_eq!(speed_and_width(0x0081), (Some(2.5), 8));
        assert_eq!(speed_and_width(0x0000), (None, 0));
        assert_eq!(speed_and_width(0xffff), (None, 63));
    }

    #[test]
    fn an_emulated_adapter_says_what_the_real_one_does() {
        let bus = Lab::new(Pacing::Virtual).add(Config::default()).bus();
        let pci = Pci::read(&bus).unwrap();
        assert_eq!((pci.device.as_str(), pci.subsystem.as_str()), ("8086:24f0", "8086:2628"));
        let full = Link { speed_gts: Some(8.0), width: 16, max_speed_gts: Some(8.0), max_width: 16 };
        assert_eq!(pci.link, Some(full));
    }
}
