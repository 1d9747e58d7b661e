//! What the fuzz targets share: an adapter on a bench with a simulated clock, opened and with its link up.
#![forbid(unsafe_code)]

use opx_emu::{Adapter, Config, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use std::time::Duration;

/// A bench with one adapter: Intel's functional simulator, which needs no firmware, and small, so that it comes up soon.
pub fn adapter() -> Adapter {
    let config = Config {
        icode: Icode::FunctionalSimulator,
        link_time: Duration::from_millis(1),
        rcv_contexts: 16,
        send_contexts: 16,
        sdma_engines: 4,
        rcv_array_entries: 4096,
        ..Config::default()
    };
    Lab::new(Pacing::Virtual).add(config)
}

/// Opens an adapter and brings its link up, looped back to itself.
///
/// # Panics
/// When it doesn't come up, which is what a target is to find.
pub fn bring_up(adapter: &Adapter) -> Hfi<EmuBus> {
    let hfi = Hfi::open(adapter.bus(), Options::default()).expect("the adapter opens");
    hfi.link_up(LinkMode::Loopback).expect("the link comes up");
    hfi
}

/// Logged messages are formatted, as they would be for a user, and thrown away.
pub fn log_everything() {
    struct Nowhere;
    impl log::Log for Nowhere {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            let _ = record.args().to_string();
        }
        fn flush(&self) {}
    }
    if log::set_logger(&Nowhere).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
}
