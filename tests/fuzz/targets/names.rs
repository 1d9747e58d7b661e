//! Any text where a user names a PCI address or a fault: never a panic, and what is taken is written as it is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use opx_emu::Fault;
use opx_hw::pci_address::PciAddress;

fuzz_target!(|text: &str| {
    match text.parse::<PciAddress>() {
        Ok(address) => assert_eq!(address.to_string().parse(), Ok(address)),
        Err(refused) => assert!(refused.to_string().len() < 1000),
    }
    match text.parse::<Fault>() {
        Ok(fault) => assert_eq!(fault.to_string(), text),
        Err(refused) => assert!(refused.to_string().len() < 1000),
    }
});
