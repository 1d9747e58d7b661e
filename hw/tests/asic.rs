//! What the two functions of a chip share, beside the firmware's paths: thermometer, cage, EPROM.

mod common;

use common::Bench;
use opx_bus::PciFunction;
use opx_bus::fault::{Fault, Faulty};
use opx_defs::{chip, csr};
use opx_emu::{Icode, QsfpModule};
use opx_hw::{EpromError, FirmwareError, Hfi, QsfpError, ThermalError};
use proptest::prelude::*;

#[test]
fn the_temperature_is_read() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.open();
    let start = hfi.bus().now();
    let first = hfi.temperature().unwrap();
    assert_eq!((first.current.0, first.high.0, first.critical.0, first.triggers), (192, 380, 420, 0));
    assert_eq!(first.critical.to_string(), "105.00 °C");
    // Set up once, and polled from then on.
    let set_up = hfi.bus().now();
    assert!(set_up.since(start).as_millis() >= 122);
    assert_eq!(hfi.bus().read64(csr::ASIC_CFG_THERM_POLL_EN.off()), 1);
    assert_eq!(hfi.temperature().unwrap(), first);
    assert_eq!(hfi.bus().now(), set_up);
    assert_eq!(hfi.bus().read64(csr::ASIC_CFG_SCRATCH.off()), chip::CR_THERM_INIT);
    let simulator = Bench::new(Icode::FunctionalSimulator).open();
    assert!(matches!(simulator.temperature(), Err(ThermalError::None { icode: 3, .. })));
}

#[test]
fn a_module_is_read() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.open();
    assert!(!hfi.has_module().unwrap());
    assert!(matches!(hfi.module(), Err(QsfpError::Empty { .. })));
    bench.adapter.set_module(Some(QsfpModule::copper("ACME Cables", "100G-CU-3", "X0042", 3)));
    assert!(hfi.has_module().unwrap());
    let module = hfi.module().unwrap();
    assert!(module.is_sound());
    assert_eq!((module.vendor(), module.part_number()), ("ACME Cables".to_owned(), "100G-CU-3".to_owned()));
    assert_eq!((module.serial_number(), module.revision()), ("X0042".to_owned(), "A1".to_owned()));
    assert_eq!((module.date(), module.vendor_oui()), ("151031".to_owned(), [0, 0x11, 0x75]));
    assert_eq!((module.technology(), module.length_m()), ("copper, not equalised", Some(3)));
    assert_eq!((module.attenuation_db(), module.power_dw(), module.temperature_256ths()), (Some((3, 5)), 15, 0));
    // The bus is free again.
    assert_eq!(hfi.bus().read64(csr::ASIC_CFG_SCRATCH.off()), 0);
    assert_eq!(hfi.bus().read64(csr::ASIC_CFG_MUTEX.off()), 0);
    bench.adapter.set_module(None);
    assert!(matches!(hfi.module(), Err(QsfpError::Empty { .. })));
    assert_eq!(bench.adapter.unmodelled(), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Whatever is in it comes out as it is: lower half, page 0, and of pages 1 to 3 those that it says it has.
    #[test]
    fn any_memory_is_read_as_it_is(mut bytes in proptest::collection::vec(any::<u8>(), 640)) {
        bytes[127] = 0;
        let bench = Bench::new(Icode::FunctionalSimulator);
        let hfi = bench.open();
        bench.adapter.set_module(Some(QsfpModule::from_bytes(bytes.clone())));
        let module = hfi.module().unwrap();
        if bytes[2] & 4 != 0 {
            bytes[256..].fill(0);
        } else {
            if bytes[195] & 0x40 == 0 {
                bytes[256..384].fill(0);
            }
            if bytes[195] & 0x80 == 0 {
                bytes[384..512].fill(0);
            }
        }
        prop_assert_eq!(module.bytes(), &bytes[..]);
        // No text in it brings anything down.
        let _ = (module.vendor(), module.part_number(), module.technology(), module.is_sound());
    }
}

#[test]
fn a_bus_that_hangs_or_is_taken_is_told() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let module = || Some(QsfpModule::copper("A", "B", "C", 1));
    let with = |fault| {
        bench.adapter.set_module(module());
        let bus = Faulty::new(bench.bus(), Vec::new());
        let hfi = Hfi::open(bus.clone(), bench.options()).unwrap();
        bus.add(fault);
        hfi.module().unwrap_err()
    };
    let lines = csr::ASIC_QSFP1_IN.off();
    let clock = with(Fault::Stuck { offset: lines, mask: 1, value: 0 });
    assert!(matches!(clock, QsfpError::Held { line: "clock", .. }), "{clock}");
    let data = with(Fault::Stuck { offset: lines, mask: 2, value: 0 });
    assert!(matches!(data, QsfpError::Held { line: "data", .. }), "{data}");
    let silent = with(Fault::Stuck { offset: lines, mask: 2, value: 2 });
    assert!(matches!(silent, QsfpError::NoAnswer { device: 0xa0, place: 0, .. }), "{silent}");
    // The other function has the chain: on a discrete chip both chains are one lock.
    let other = chip::CR_I2C2 << chip::CR_DYN_SHIFT;
    let taken = with(Fault::Stuck { offset: csr::ASIC_CFG_SCRATCH.off(), mask: other, value: other });
    assert!(matches!(taken, QsfpError::Firmware(FirmwareError::Shared { what: "the I2C bus", .. })), "{taken}");
}

/// An EPROM of segments with a file of 3000 bytes that goes over from the first segment into the second.
fn segments(file: &[u8], oprom_size: u32) -> Vec<u8> {
    let mut eprom = vec![0xff; 512 << 10];
    let directory = 12 + 12 * 2;
    let first = 1000;
    let start = (128 << 10) - directory - first;
    eprom[start..start + first].copy_from_slice(&file[..first]);
    let next = (128 << 10) + oprom_size as usize;
    eprom[next..next + file.len() - first].copy_from_slice(&file[first..]);
    let mut dwords = vec![1, 0, 64, 2, start as u32, file.len() as u32];
    dwords.extend([oprom_size, 2 | 1 << 16, u32::from_le_bytes(*b"eprm")]);
    let at = (128 << 10) - directory;
    for (place, dword) in eprom[at..at + directory].chunks_mut(4).zip(dwords) {
        place.copy_from_slice(&dword.to_le_bytes());
    }
    eprom
}

#[test]
fn the_eprom_is_read() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.open();
    let contents: Vec<u8> = (0..200_000u32).map(|n| (n * 7 + n / 251) as u8).collect();
    bench.adapter.set_eprom(contents.clone());
    for (offset, len) in [(0, 0), (0, 1), (255, 2), (1, 255), (256, 256), (100, 1000), (131_072, 4096)] {
        let mut bytes = vec![0; len];
        hfi.read_eprom(offset as u32, &mut bytes).unwrap();
        assert_eq!(bytes, contents[offset..offset + len], "{len} bytes at {offset}");
    }
    let mut last = [0; 4];
    hfi.read_eprom((1 << 24) - 4, &mut last).unwrap();
    assert_eq!(last, [0xff; 4]);
    let beyond = hfi.read_eprom((1 << 24) - 3, &mut last).unwrap_err();
    assert!(matches!(beyond, EpromError::Beyond { len: 4, .. }), "{beyond}");
    assert!(hfi.read_eprom(u32::MAX, &mut last).is_err());
    assert_eq!(hfi.bus().read64(csr::ASIC_CFG_SCRATCH.off()), 0);
}

#[test]
fn the_platform_configuration_is_found_in_both_kinds_of_eprom() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.open();
    assert!(matches!(hfi.platform_config(), Err(EpromError::NoFile { .. })));
    let mut partitions = vec![0xff; 128 << 10];
    partitions.extend(b"APO=configuration");
    partitions.extend(b"egamiAPO");
    bench.adapter.set_eprom(partitions);
    assert_eq!(hfi.platform_config().unwrap(), b"APO=configuration");
    let file: Vec<u8> = (0..3000u32).map(|n| n as u8 ^ (n >> 8) as u8).collect();
    bench.adapter.set_eprom(segments(&file, 4096));
    assert_eq!(hfi.platform_config().unwrap(), file);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a directory says, the answer is a file or an error, and comes soon.
    #[test]
    fn a_damaged_directory_is_an_error(dwords in proptest::collection::vec(any::<u32>(), 9), small in any::<bool>()) {
        let bench = Bench::new(Icode::FunctionalSimulator);
        let hfi = bench.open();
        let mut eprom = segments(&[0; 3000], 0);
        let at = (128 << 10) - 36;
        for (n, (place, dword)) in eprom[at..at + 32].chunks_mut(4).zip(dwords).enumerate() {
            // Often almost right: the version and few files.
            let dword = if small { [1, dword, 64, 2, dword >> 8, dword & 0xfff, dword & 0xffff, 2 | 1 << 16][n] } else { dword };
            place.copy_from_slice(&dword.to_le_bytes());
        }
        bench.adapter.set_eprom(eprom);
        if let Ok(file) = hfi.platform_config() {
            prop_assert!(file.len() <= 4096);
        }
    }
}
