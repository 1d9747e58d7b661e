//! Where a PCI function sits: domain, bus, device, function.

use std::fmt;
use std::str::FromStr;

/// A PCI address, written `0000:af:00.0`; the domain may be left out when it is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// Text that is no PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a PCI address; write it as 0000:af:00.0 or af:00.0 (hexadecimal domain:bus:device.function)")]
pub struct AddressError(String);

/// A hexadecimal number of at least `min` and at most `max` digits.
fn hex(text: &str, min: usize, max: usize) -> Option<u32> {
    // from_str_radix takes a sign, sysfs does not.
    let digits = (min..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

fn parse(text: &str) -> Option<PciAddress> {
    let (front, function) = text.rsplit_once('.')?;
    let (front, device) = front.rsplit_once(':')?;
    let (domain, bus) = front.rsplit_once(':').unwrap_or(("0000", front));
    let address = PciAddress {
        domain: hex(domain, 4, 8)?,
        bus: u8::try_from(hex(bus, 2, 2)?).ok()?,
        device: u8::try_from(hex(device, 2, 2)?).ok()?,
        function: u8::try_from(hex(function, 1, 1)?).ok()?,
    };
    // Five bits of device number, three of function number.
    (address.device < 32 && address.function < 8).then_some(address)
}

impl FromStr for PciAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // User input is cut off where it would make the message unreadable.
        parse(text).ok_or_else(|| AddressError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        for (text, want) in
            [("0000:af:00.0", "0000:af:00.0"), ("af:00.0", "0000:af:00.0"), ("10000:AF:1f.7", "10000:af:1f.7")]
        {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), want);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            ".",
            ":",
            "af:00",
            "af00.0",
            "0000:af:00.8",
            "0000:af:20.0",
            "000:af:00.0",
            "0000:af:0.0",
            "0000:+f:00.0",
            "0:0000:af:00.0",
            "0000:af:00.0 ",
            "zz:00.0",
            "é:00.0",
            "../../etc",
            "fffffffff:af:00.0",
        ] {
            let error = text.parse::<PciAddress>().unwrap_err().to_string();
            assert!(error.contains("0000:af:00.0"), "{text}: {error}");
        }
    }
}
