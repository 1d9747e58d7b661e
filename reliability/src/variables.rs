//! The settings that libfabric's OPX provider takes from the environment, under its names. Reading the environment is the
//! caller's: the core does no I/O.

use crate::Config;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A setting with a name in the environment. Source of names, ranges and defaults: `fi_opx_init.c`, `fi_opx.7.md`.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it sets.
    pub help: &'static str,
    /// The values that it may have.
    pub least: u64,
    /// See `least`.
    pub most: u64,
    /// Whether it must also be a power of two or 0.
    pub power_of_two: bool,
    set: fn(&mut Config, u64),
    get: fn(&Config) -> u64,
}

/// A variable with a value that it can't have; the setting keeps what it had.
#[derive(Debug, Clone)]
pub struct BadValue {
    /// The variable.
    pub variable: Variable,
    /// Its value.
    pub value: String,
    /// What is used instead.
    pub used: u64,
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Variable { name, least, most, power_of_two, .. } = self.variable;
        let kind = if power_of_two { "0 or a power of two" } else { "a number" };
        write!(f, "{name}={:?} must be {kind} from {least} to {most}; using {}", self.value, self.used)
    }
}

const fn variable(
    name: &'static str,
    help: &'static str,
    range: RangeInclusive<u64>,
    set: fn(&mut Config, u64),
    get: fn(&Config) -> u64,
) -> Variable {
    Variable { name, help, least: *range.start(), most: *range.end(), power_of_two: false, set, get }
}

impl Variable {
    /// All of them.
    pub const ALL: [Self; 6] = [
        variable(
            "FI_OPX_RELIABILITY_SERVICE_USEC_MAX",
            "microseconds that a sender waits before it asks what has arrived",
            1..=20_000_000,
            |config, value| {
                config.ping_interval = Duration::from_micros(value);
                config.min_ping_interval = config.min_ping_interval.min(config.ping_interval);
                config.max_ping_interval = config.max_ping_interval.max(config.ping_interval);
            },
            |config| config.ping_interval.as_micros() as u64,
        ),
        Self {
            power_of_two: true,
            ..variable(
                "FI_OPX_RELIABILITY_SERVICE_PRE_ACK_RATE",
                "packets that a receiver acknowledges unasked at a time; 0 for never",
                0..=32768,
                |config, value| config.pre_ack_rate = value as u32,
                |config| config.pre_ack_rate.into(),
            )
        },
        variable(
            "FI_OPX_RELIABILITY_SERVICE_MAX_OUTSTANDING_BYTES",
            "bytes that a flow may have unacknowledged",
            8192..=150_994_944,
            |config, value| config.max_outstanding_bytes = value as u32,
            |config| config.max_outstanding_bytes.into(),
        ),
        variable(
            "FI_OPX_RELIABILITY_MAX_UNCONGESTED_PINGS",
            "pings in one interval while the adapter has room for them",
            1..=65535,
            |config, value| config.max_uncongested_pings = value as u32,
            |config| config.max_uncongested_pings.into(),
        ),
        variable(
            "FI_OPX_RELIABILITY_MAX_CONGESTED_PINGS",
            "pings in one interval once it had none, until no ping waits",
            1..=65535,
            |config, value| config.max_congested_pings = value as u32,
            |config| config.max_congested_pings.into(),
        ),
        variable(
            "FI_OPX_LINK_DOWN_WAIT_TIME_MAX_SEC",
            "seconds that the link may be down before what is unacknowledged is given up",
            1..=86_400,
            |config, value| config.link_down_wait = Duration::from_secs(value),
            |config| config.link_down_wait.as_secs(),
        ),
    ];

    /// What the setting is in `config`.
    pub fn value(&self, config: &Config) -> u64 {
        (self.get)(config)
    }

    fn parse(&self, text: &str) -> Option<u64> {
        let value = text.trim().parse().ok()?;
        let fits = (self.least..=self.most).contains(&value);
        (fits && (!self.power_of_two || value == 0 || value.is_power_of_two())).then_some(value)
    }
}

impl Config {
    /// Takes what `lookup` knows of OPX's variables. A value that can't be changes nothing and is given back, to be told the
    /// user.
    ///
    /// ```
    /// use opx_reliability::Config;
    ///
    /// let mut config = Config::default();
    /// let bad = config.set_from(|name| match name {
    ///     "FI_OPX_RELIABILITY_SERVICE_PRE_ACK_RATE" => Some("100".to_owned()),
    ///     "FI_OPX_RELIABILITY_MAX_CONGESTED_PINGS" => Some("8".to_owned()),
    ///     _ => None,
    /// });
    /// assert_eq!((config.pre_ack_rate, config.max_congested_pings), (64, 8));
    /// assert_eq!(
    ///     bad[0].to_string(),
    ///     "FI_OPX_RELIABILITY_SERVICE_PRE_ACK_RATE=\"100\" must be 0 or a power of two from 0 to 32768; using 64"
    /// );
    /// ```
    pub fn set_from(&mut self, lookup: impl Fn(&str) -> Option<String>) -> Vec<BadValue> {
        let mut bad = Vec::new();
        for variable in Variable::ALL {
            let Some(value) = lookup(variable.name) else { continue };
            match variable.parse(&value) {
                Some(value) => (variable.set)(self, value),
                None => bad.push(BadValue { variable, value, used: variable.value(self) }),
            }
        }
        bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_sets_its_setting_within_its_range() {
        for variable in Variable::ALL {
            let set = |text: &str| {
                let mut config = Config::default();
                let bad = config.set_from(|name| (name == variable.name).then(|| text.to_owned()));
                assert_eq!(config.check(), Ok(()), "{} = {text}", variable.name);
                (variable.value(&config), bad.len())
            };
            let default = variable.value(&Config::default());
            for value in [variable.least, variable.most] {
                assert_eq!(set(&value.to_string()), (value, 0), "{}", variable.name);
            }
            let below = variable.least.checked_sub(1).map(|value| value.to_string());
            for text in [below, Some((variable.most + 1).to_string()), Some(String::new()), Some("-1".into())] {
                let Some(text) = text else { continue };
                assert_eq!(set(&text), (default, 1), "{} = {text}", variable.name);
            }
        }
    }

    #[test]
    fn the_defaults_are_those_of_opx() {
        let defaults = Variable::ALL.map(|variable| variable.value(&Config::default()));
        assert_eq!(defaults, [500, 64, 7_340_032, 128, 4, 70]);
    }
}
