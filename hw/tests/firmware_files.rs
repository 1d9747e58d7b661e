//! Firmware files that are missing, short or damaged.

mod common;

use common::{Bench, options};
use opx_emu::Icode;
use opx_hw::{FirmwareError, Hfi, OpenError};
use std::fs;
use std::path::Path;

fn open(bench: &Bench, dir: &Path) -> FirmwareError {
    match Hfi::open(bench.bus(), options(dir)).unwrap_err() {
        OpenError::Firmware(error) => error,
        other => panic!("not about firmware: {other}"),
    }
}

/// Opens a fresh adapter with a damaged file.
fn damaged(file: &str, damage: impl FnOnce(&mut Vec<u8>)) -> FirmwareError {
    let bench = Bench::new(Icode::Silicon);
    let path = bench.firmware.path().join(file);
    let mut bytes = fs::read(&path).unwrap();
    damage(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let error = open(&bench, bench.firmware.path());
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    error
}

#[test]
fn missing_files_are_named() {
    let bench = Bench::new(Icode::Silicon);
    let error = open(&bench, Path::new("/nowhere"));
    assert!(matches!(error, FirmwareError::Unreadable { .. }));
    assert!(error.to_string().starts_with("can't read firmware file /nowhere/hfi1_fabric.fw: "), "{error}");
    fs::remove_file(bench.firmware.path().join("hfi1_dc8051.fw")).unwrap();
    assert!(open(&bench, bench.firmware.path()).to_string().contains("hfi1_dc8051.fw"));
}

#[test]
fn the_simulator_needs_none() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    Hfi::open(bench.bus(), options(Path::new("/nowhere"))).unwrap();
}

#[test]
fn damage_is_told_by_kind() {
    let short = damaged("hfi1_dc8051.fw", |bytes| bytes.truncate(100));
    assert!(matches!(short, FirmwareError::TooShort { len: 100, .. }), "{short}");
    let empty = damaged("hfi1_fabric.fw", Vec::clear);
    assert!(matches!(empty, FirmwareError::TooShort { len: 0, .. }), "{empty}");
    let header = damaged("hfi1_dc8051.fw", |bytes| bytes[0] = 9);
    assert!(matches!(header, FirmwareError::BadHeader { field: "module_type", actual: 9, .. }), "{header}");
    let size = damaged("hfi1_fabric.fw", |bytes| bytes.extend([0; 64]));
    assert!(matches!(size, FirmwareError::BadSize { .. }), "{size}");
    let huge = damaged("hfi1_fabric.fw", |bytes| bytes.resize(2 << 20, 0));
    assert!(matches!(huge, FirmwareError::TooLarge { .. }), "{huge}");
    let plain = damaged("hfi1_dc8051.fw", |bytes| bytes.truncate(bytes.len() - 264));
    assert!(matches!(plain, FirmwareError::NotAugmented { .. }), "{plain}");
}

#[test]
fn the_alternate_files_are_used_when_the_first_are_missing_or_refused() {
    let bench = Bench::new(Icode::Silicon);
    let dir = bench.firmware.path();
    for name in ["dc8051", "fabric"] {
        fs::copy(dir.join(format!("hfi1_{name}.fw")), dir.join(format!("hfi1_{name}_d.fw"))).unwrap();
    }
    // A modulus of zeros is no key: the chip refuses it.
    let path = dir.join("hfi1_fabric.fw");
    let mut bytes = fs::read(&path).unwrap();
    bytes[128..384].fill(0);
    fs::write(&path, bytes).unwrap();
    Hfi::open(bench.bus(), options(dir)).unwrap();
    fs::remove_file(&path).unwrap();
    Hfi::open(bench.bus(), options(dir)).unwrap();
}

#[test]
fn a_key_that_the_chip_refuses_is_told() {
    let bench = Bench::new(Icode::Silicon);
    let path = bench.firmware.path().join("hfi1_dc8051.fw");
    let mut bytes = fs::read(&path).unwrap();
    bytes[128..384].fill(0);
    fs::write(&path, bytes).unwrap();
    let error = open(&bench, bench.firmware.path());
    assert!(matches!(error, FirmwareError::Refused { what: "8051", .. }), "{error}");
    assert!(error.to_string().contains("the key doesn't match"), "{error}");
}
