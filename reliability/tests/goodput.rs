//! How much of a link's rate is left for data when it loses packets, by loss and window: a table under review.
//!
//! `OPX_BLESS=1 cargo test -p opx-reliability --test goodput` writes the table anew.

mod netsim;

use netsim::{Link, Net, Traffic};
use opx_bus::chance::{Chance, PacketFaults};
use opx_defs::wire::opx::Generation;
use opx_reliability::Config;
use std::fmt::Write;
use std::time::Duration;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goodput.txt");
const PACKETS: u32 = 20_000;
const BYTES: u32 = 8192;

/// Gigabits of data a second over a link of 100 Gb/s and 2 µs each way that loses `loss` percent, of data and answers alike.
fn goodput(config: Config, loss: f64, seed: u64) -> f64 {
    let mut net = Net::new(Chance::new(seed), config, Generation::G4, 0, 2);
    net.traffic = Traffic { most_bytes: BYTES, least_bytes: BYTES, ..net.traffic };
    for link in &mut net.links {
        *link = Link::new(100, Duration::from_micros(2));
        link.faults = PacketFaults { loss, ..PacketFaults::default() };
    }
    // More than is waited for, so that the end of a stream isn't part of the figure.
    net.nodes[0].tasks[1].total = PACKETS * 2;
    while net.got(0, 1) < u64::from(PACKETS) * u64::from(BYTES) {
        assert!(net.step().unwrap() && net.transmitted < 10_000_000, "no end at {:?}", net.now);
    }
    (net.got(0, 1) * 8) as f64 / net.now.as_nanos() as f64
}

#[test]
fn one_percent_of_loss_costs_at_most_five_percent() {
    for seed in 0..5 {
        let whole = goodput(Config::default(), 0.0, seed);
        let lossy = goodput(Config::default(), 1.0, seed);
        assert!(whole > 98.0, "{whole:.2} Gb/s without loss");
        assert!(lossy >= whole * 0.95, "{lossy:.2} of {whole:.2} Gb/s, seed {seed}");
    }
}

#[test]
fn the_table_is_the_reviewed_one() {
    let windows = [16, 64, 256, 1024, 8192];
    let mut table = String::from(
        "# Gb/s of data over 100 Gb/s and 2 us each way, 8192 bytes a packet; data and answers are lost alike.\n\
         # Below: packets that may be unacknowledged. The last column is OPX's way: no selective ACKs, one PSN a NACK.\n",
    );
    let _ = write!(table, "{:>7}", "loss %");
    windows.iter().for_each(|window| write!(table, "{window:>9}").unwrap());
    let _ = writeln!(table, "{:>9}", "OPX 8192");
    for loss in [0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0] {
        let _ = write!(table, "{loss:>7}");
        for window in windows {
            let _ = write!(table, "{:>9.1}", goodput(Config { window, ..Config::default() }, loss, 1));
        }
        let _ = writeln!(table, "{:>9.1}", goodput(Config::as_opx(), loss, 1));
    }
    if std::env::var_os("OPX_BLESS").is_some() {
        std::fs::write(TABLE, &table).unwrap();
    }
    let reviewed = std::fs::read_to_string(TABLE).unwrap_or_default();
    assert_eq!(table, reviewed, "the table has changed; look at it, then run with OPX_BLESS=1\n{table}");
}
