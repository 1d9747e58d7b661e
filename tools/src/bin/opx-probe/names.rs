//! Names of the chip's constants, as the driver has them.

use opx_defs::chip;

/// The name of a constant of the chip, without its prefix. Where two have the same value the later one says more.
pub fn constant(topic: &str, prefix: &str, value: u64) -> String {
    let topic = chip::NAMED.iter().find(|(name, _)| *name == topic);
    let name = topic.and_then(|(_, all)| all.iter().rev().find(|(_, number)| *number == value));
    name.map_or("unknown", |(name, _)| name.strip_prefix(prefix).unwrap_or(name)).to_owned()
}
