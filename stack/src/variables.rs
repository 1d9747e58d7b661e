//! The settings of an endpoint that libfabric's OPX provider takes from the environment, under its names; together with those
//! of the reliability protocol, and with those that have no effect here, of which is warned.

use crate::{Config, SharedMemory};
use opx_defs::units::Sl;
use std::fmt;

/// A setting of the endpoint with a name in the environment. Source of names, ranges and defaults: `fi_opx_init.c`,
/// `fi_opx_ep.c`, `fi_opx.7.md`.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it sets.
    pub help: &'static str,
    /// The values that it may have.
    pub values: Values,
    set: fn(&mut Config, u64),
    get: fn(&Config) -> u64,
}

/// The values that a variable may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Values {
    /// A number in this range, both ends included.
    Range(u64, u64),
    /// A power of two in this range, or 0.
    PowerOfTwo(u64, u64),
    /// One of these numbers.
    OneOf(&'static [u64]),
    /// 1, true, yes, on, or 0, false, no, off.
    Switch,
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(least, most) => write!(f, "a number from {least} to {most}"),
            Self::PowerOfTwo(least, most) => write!(f, "0 or a power of two from {least} to {most}"),
            Self::OneOf(all) => {
                f.write_str("one of")?;
                for (n, value) in all.iter().enumerate() {
                    write!(f, "{} {value}", if n == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::Switch => f.write_str("0 or 1 (no or yes, off or on, false or true)"),
        }
    }
}

impl Values {
    fn parse(self, text: &str) -> Option<u64> {
        let text = text.trim();
        if self == Self::Switch {
            let is = |words: [&str; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
            return match text {
                _ if is(["1", "true", "yes", "on"]) => Some(1),
                _ if is(["0", "false", "no", "off"]) => Some(0),
                _ => None,
            };
        }
        let value = text.parse().ok()?;
        let fits = match self {
            Self::Range(least, most) => (least..=most).contains(&value),
            Self::PowerOfTwo(least, most) => (least..=most).contains(&value) && (value == 0 || value.is_power_of_two()),
            Self::OneOf(all) => all.contains(&value),
            Self::Switch => false,
        };
        fits.then_some(value)
    }
}

impl Variable {
    /// All of them, without those of the reliability protocol ([`opx_reliability::Variable::ALL`]).
    pub const ALL: [Self; 11] = [
        Self {
            name: "FI_OPX_RZV_MIN_PAYLOAD_BYTES",
            help: "bytes of the shortest message that goes by rendezvous",
            values: Values::Range(64, 65536),
            set: |config, value| config.thresholds.rendezvous_min = value as usize,
            get: |config| config.thresholds.rendezvous_min as u64,
        },
        Self {
            name: "FI_OPX_MP_EAGER_DISABLE",
            help: "no message goes in several eager packets",
            values: Values::Switch,
            set: |config, value| config.thresholds.no_multi_packet = value != 0,
            get: |config| config.thresholds.no_multi_packet.into(),
        },
        Self {
            name: "FI_OPX_SDMA_DISABLE",
            help: "the processor writes all packets",
            values: Values::Switch,
            set: |config, value| config.thresholds.no_sdma = value != 0,
            get: |config| config.thresholds.no_sdma.into(),
        },
        Self {
            name: "FI_OPX_SDMA_MIN_PAYLOAD_BYTES",
            help: "bytes of the shortest message that SDMA takes, once its receiver has asked for it",
            values: Values::Range(64, 2_147_483_646),
            set: |config, value| config.thresholds.sdma_min = value as usize,
            get: |config| config.thresholds.sdma_min as u64,
        },
        Self {
            name: "FI_OPX_SDMA_BOUNCE_BUF_THRESHOLD",
            help: "bytes of the shortest message that SDMA takes from where it lies; shorter ones are copied first",
            values: Values::Range(64, 2_147_483_646),
            set: |config, value| config.thresholds.sdma_bounce_max = value as usize,
            get: |config| config.thresholds.sdma_bounce_max as u64,
        },
        Self {
            name: "FI_OPX_TID_DISABLE",
            help: "nothing is asked for in expected packets (TID)",
            values: Values::Switch,
            set: |config, value| config.thresholds.no_tid = value != 0,
            get: |config| config.thresholds.no_tid.into(),
        },
        Self {
            name: "FI_OPX_TID_MIN_PAYLOAD_BYTES",
            help: "bytes of the shortest message that is asked for in expected packets",
            // fi_opx_hfi1.h:OPX_TID_MIN_PAYLOAD_BYTES_MIN, and what FI_PARAM_INT holds.
            values: Values::Range(4096, 2_147_483_647),
            set: |config, value| config.thresholds.tid_min = value as usize,
            get: |config| config.thresholds.tid_min as u64,
        },
        Self {
            name: "FI_OPX_MAX_PKT_SIZE",
            help: "most payload bytes in a packet (10240 is for adapters of the next generation)",
            values: Values::OneOf(&[2048, 4096, 8192]),
            set: |config, value| config.thresholds.packet_max = value as usize,
            get: |config| config.thresholds.packet_max as u64,
        },
        Self {
            name: "FI_OPX_SL",
            help: "service level; service class and virtual lane stay those of the configuration",
            values: Values::Range(0, 31),
            set: |config, value| config.sl = Sl(value as u8),
            get: |config| config.sl.0.into(),
        },
        Self {
            name: "FI_OPX_SHM_ENABLE",
            help: "endpoints of the same job on this machine are reached through its memory",
            values: Values::Switch,
            set: |config, value| config.shared_memory.enabled = value != 0,
            get: |config| config.shared_memory.enabled.into(),
        },
        Self {
            name: "FI_OPX_HFISVC",
            help: "the HFI service, which this generation of adapters lacks: an endpoint that asks for it isn't opened",
            values: Values::Switch,
            set: |config, value| config.hfi_service = value != 0,
            get: |config| config.hfi_service.into(),
        },
    ];

    /// What the setting is in `config`; of a switch, 1 for on.
    pub fn value(&self, config: &Config) -> u64 {
        (self.get)(config)
    }
}

/// Why a variable of OPX's has no effect on an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// What it sets isn't here: why not.
    NotHere(&'static str),
    /// Use this one.
    Renamed(&'static str),
    /// What has its new name is set.
    Superseded(&'static str),
    /// OPX ignores it, too.
    Obsolete,
    /// It is for other adapters.
    OtherAdapters,
    /// It is a setting of the adapter, which is opened before the endpoint.
    OfTheAdapter(&'static str),
}

/// A name that a variable had before, which OPX takes when the new one isn't set (`fi_opx_ep.c`).
struct Former {
    name: &'static str,
    now: &'static str,
    /// Whether it said the opposite.
    inverted: bool,
}

const FORMER: [Former; 2] = [
    Former { name: "FI_OPX_DELIVERY_COMPLETION_THRESHOLD", now: "FI_OPX_SDMA_BOUNCE_BUF_THRESHOLD", inverted: false },
    Former { name: "FI_OPX_EXPECTED_RECEIVE_ENABLE", now: "FI_OPX_TID_DISABLE", inverted: true },
];

/// The variables that name the job, the first that is set counts (`fi_opx_domain.c`). OPX has a name for those without one; two
/// fabrics of a machine would share it here, where adapters are more than those that the kernel knows.
const JOB: [&str; 3] = ["FI_OPX_UUID", "SLURM_JOB_ID", "I_MPI_HYDRA_UUID"];

const NO_SHARING: &str = "an endpoint has a context of its own";
const NO_WRITEV: &str =
    "packets are written straight into the engine's ring, without calls of a driver that it could bound";
const OWN_THREADS: &str = "threads run where their process may: start it with taskset or numactl";
const NO_GDRCOPY: &str = "a device's memory is copied by what it was made with (DeviceMemory)";
const A_SETTING: &str = "records are switched on by a setting (Config::recorder) or a capture (Endpoint::set_tap)";

const WITHOUT_EFFECT: [(&str, Why); 27] = [
    ("FI_OPX_CONTEXT_SHARING", Why::NotHere(NO_SHARING)),
    ("FI_OPX_ENDPOINTS_PER_HFI_CONTEXT", Why::NotHere(NO_SHARING)),
    ("FI_OPX_HFI_SELECT", Why::OfTheAdapter("whoever opens one names it")),
    ("FI_OPX_VERBOSE_SELECTION", Why::OfTheAdapter("opx-probe list shows all")),
    ("FI_OPX_FORCE_CPUAFFINITY", Why::NotHere(OWN_THREADS)),
    ("FI_OPX_PROG_AFFINITY", Why::NotHere(OWN_THREADS)),
    ("FI_OPX_DEV_REG_SEND_THRESHOLD", Why::NotHere(NO_GDRCOPY)),
    ("FI_OPX_DEV_REG_RECV_THRESHOLD", Why::NotHere(NO_GDRCOPY)),
    ("FI_OPX_GPU_IPC_INTRANODE", Why::NotHere("a device's memory goes to peers on this machine as messages do")),
    ("FI_OPX_MIXED_NETWORK", Why::Renamed("FI_OPX_OPA100_INTEROP")),
    ("FI_OPX_AUTO_PROGRESS_INTERVAL_USEC", Why::Obsolete),
    ("FI_OPX_SDMA_MAX_PKTS", Why::NotHere(NO_WRITEV)),
    ("FI_OPX_SDMA_MAX_PKTS_TID", Why::NotHere(NO_WRITEV)),
    ("FI_OPX_SDMA_MAX_WRITEVS_PER_CYCLE", Why::NotHere(NO_WRITEV)),
    ("FI_OPX_SDMA_MAX_IOVS_PER_WRITEV", Why::NotHere(NO_WRITEV)),
    ("FI_OPX_MMAP_GUARD", Why::NotHere("what is mapped is used within its bounds only")),
    (
        "FI_OPX_RELIABILITY_SERVICE_DROP_PACKET_MASK",
        Why::NotHere("packets are dropped by a setting, for tests (Config::receive_faults)"),
    ),
    ("FI_OPX_TRACER_OUT_PATH", Why::NotHere(A_SETTING)),
    ("FI_OPX_TRACER_BUFFER_SIZE", Why::NotHere(A_SETTING)),
    ("FI_OPX_TRACER_FILTER", Why::NotHere(A_SETTING)),
    ("FI_OPX_OPA100_INTEROP", Why::OtherAdapters),
    ("FI_OPX_ROUTE_CONTROL", Why::OtherAdapters),
    ("FI_OPX_MULTI_HFI_STRIPING", Why::OtherAdapters),
    ("FI_OPX_RZV_STRIPING_MIN_PAYLOAD_BYTES", Why::OtherAdapters),
    ("FI_OPX_PORT", Why::OtherAdapters),
    ("FI_OPX_PKEY", Why::OfTheAdapter("opx_hw::Options::pkey")),
    ("FI_OPX_SELINUX", Why::OfTheAdapter("opx_hw::Options::job_key, see opx_stack::job_key_of_this_process")),
];

/// What is to be told of a variable that is set.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Warning {
    /// It has a value that it can't have.
    BadValue {
        /// The variable.
        variable: Variable,
        /// Its value.
        value: String,
        /// What is used instead.
        used: u64,
    },
    /// The same, of one of the reliability protocol's.
    Reliability(opx_reliability::BadValue),
    /// It is taken, but has another name by now.
    Former {
        /// Its name.
        name: &'static str,
        /// Its name by now.
        now: &'static str,
    },
    /// It names the job, and no job can be called so.
    Job {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// It has no effect.
    NoEffect {
        /// Its name.
        name: &'static str,
        /// Why not.
        why: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadValue { variable: Variable { name, values, .. }, value, used } => {
                write!(f, "{name}={value:?} must be {values}; using {used}")
            }
            Self::Reliability(bad) => bad.fmt(f),
            Self::Former { name, now } => write!(f, "{name} is taken for now; its name is {now}"),
            Self::Job { name, value } => {
                write!(
                    f,
                    "{name}={value:?} must be 1 to 48 visible ASCII characters; no peer is reached through memory"
                )
            }
            Self::NoEffect { name, why } => write!(f, "{name} {why}"),
        }
    }
}

impl Why {
    fn text(self) -> String {
        match self {
            Self::NotHere(why) => format!("has no effect: {why}"),
            Self::Renamed(to) => format!("isn't its name any more, and has no effect; use {to}"),
            Self::Superseded(by) => format!("isn't its name any more, and has no effect as {by} is set"),
            Self::Obsolete => "has no effect any more".to_owned(),
            Self::OtherAdapters => "has no effect: it is for other adapters".to_owned(),
            Self::OfTheAdapter(what) => format!("has no effect on an endpoint: it is the adapter's ({what})"),
        }
    }
}

/// One line of [`settings`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The variable.
    pub name: &'static str,
    /// What it sets.
    pub help: &'static str,
    /// The values that it may have.
    pub values: Values,
    /// What it is when the variable isn't set; of a switch, 1 for on.
    pub default: u64,
}

/// All variables that have an effect, those of the reliability protocol included.
///
/// ```
/// for setting in opx_stack::settings() {
///     println!("{}: {}; {} (default {})", setting.name, setting.help, setting.values, setting.default);
/// }
/// # assert!(opx_stack::settings().iter().any(|it| it.name == "FI_OPX_RELIABILITY_SERVICE_USEC_MAX" && it.default == 500));
/// ```
pub fn settings() -> Vec<Setting> {
    let config = Config::default();
    let own = Variable::ALL.iter().map(|it| {
        let &Variable { name, help, values, .. } = it;
        Setting { name, help, values, default: it.value(&config) }
    });
    let reliability = opx_reliability::Variable::ALL.iter().map(|it| {
        let &opx_reliability::Variable { name, help, least, most, power_of_two, .. } = it;
        let values = if power_of_two { Values::PowerOfTwo(least, most) } else { Values::Range(least, most) };
        Setting { name, help, values, default: it.value(&config.reliability) }
    });
    own.chain(reliability).collect()
}

impl Config {
    /// Takes what `lookup` knows of OPX's variables. A value that can't be changes nothing; it is given back, to be told the
    /// user, and so are variables that have no effect.
    ///
    /// ```
    /// use opx_stack::Config;
    /// let mut config = Config::default();
    /// let warnings = config.set_from(|name| match name {
    ///     "FI_OPX_RZV_MIN_PAYLOAD_BYTES" => Some("8000".to_owned()),
    ///     "FI_OPX_SDMA_DISABLE" => Some("perhaps".to_owned()),
    ///     _ => None,
    /// });
    /// assert_eq!((config.thresholds.rendezvous_min, config.thresholds.no_sdma), (8000, false));
    /// assert_eq!(
    ///     warnings[0].to_string(),
    ///     "FI_OPX_SDMA_DISABLE=\"perhaps\" must be 0 or 1 (no or yes, off or on, false or true); using 0"
    /// );
    /// ```
    pub fn set_from(&mut self, lookup: impl Fn(&str) -> Option<String>) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for variable in Variable::ALL {
            let Some(value) = lookup(variable.name) else { continue };
            match variable.values.parse(&value) {
                Some(value) => (variable.set)(self, value),
                None => warnings.push(Warning::BadValue { variable, value, used: variable.value(self) }),
            }
        }
        warnings.extend(FORMER.iter().filter_map(|former| self.set_former(former, &lookup)));
        if let Some((name, value)) = JOB.iter().find_map(|name| Some((*name, lookup(name)?))) {
            if SharedMemory::is_job(&value) {
                self.shared_memory.job = Some(value);
            } else {
                warnings.push(Warning::Job { name, value });
            }
        }
        warnings.extend(self.reliability.set_from(&lookup).into_iter().map(Warning::Reliability));
        let set = WITHOUT_EFFECT.iter().filter(|(name, _)| lookup(name).is_some());
        warnings.extend(set.map(|&(name, why)| Warning::NoEffect { name, why: why.text() }));
        warnings
    }

    /// Takes a variable by the name that it had before.
    fn set_former(&mut self, former: &Former, lookup: impl Fn(&str) -> Option<String>) -> Option<Warning> {
        let &Former { name, now, inverted } = former;
        let value = lookup(name)?;
        if lookup(now).is_some() {
            return Some(Warning::NoEffect { name, why: Why::Superseded(now).text() });
        }
        let variable = Variable::ALL.into_iter().find(|variable| variable.name == now)?;
        match variable.values.parse(&value) {
            Some(value) => {
                (variable.set)(self, if inverted { u64::from(value == 0) } else { value });
                Some(Warning::Former { name, now })
            }
            None => {
                let used = if inverted { u64::from(variable.value(self) == 0) } else { variable.value(self) };
                Some(Warning::BadValue { variable: Variable { name, ..variable }, value, used })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn set(name: &str, text: &str) -> (Config, Vec<String>) {
        let mut config = Config::default();
        let warnings = config.set_from(|asked| (asked == name).then(|| text.to_owned()));
        assert_eq!(config.thresholds.check(), Ok(()), "{name} = {text}");
        (config, warnings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_variable_sets_its_setting_and_nonsense_leaves_the_default() {
        for variable in Variable::ALL {
            let default = variable.value(&Config::default());
            let (good, bad): (Vec<String>, Vec<String>) = match variable.values {
                Values::Range(least, most) => (
                    [least, most].iter().map(u64::to_string).collect(),
                    least.checked_sub(1).into_iter().chain([most + 1]).map(|value| value.to_string()).collect(),
                ),
                Values::OneOf(all) => (all.iter().map(u64::to_string).collect(), vec!["1".into(), "10240".into()]),
                Values::Switch => (vec!["0".into(), "1".into()], vec!["2".into()]),
                Values::PowerOfTwo(..) => unreachable!("the endpoint has none"),
            };
            for text in good {
                let (config, warnings) = set(variable.name, &text);
                assert_eq!((variable.value(&config).to_string(), warnings), (text, vec![]), "{}", variable.name);
            }
            for text in bad.into_iter().chain(["", "-1", "x", "99999999999999999999"].map(str::to_owned)) {
                let (config, warnings) = set(variable.name, &text);
                assert_eq!((variable.value(&config), warnings.len()), (default, 1), "{} = {text:?}", variable.name);
                assert!(warnings[0].starts_with(variable.name) && warnings[0].contains(&text), "{}", warnings[0]);
            }
        }
    }

    #[test]
    fn switches_understand_what_libfabric_does() {
        for (text, on) in [("YES", 1), ("on", 1), ("True", 1), ("no", 0), ("OFF", 0), (" false ", 0)] {
            assert_eq!(Values::Switch.parse(text), Some(on), "{text:?}");
        }
    }

    #[test]
    fn what_has_no_effect_says_so() {
        for (name, _) in WITHOUT_EFFECT {
            let (_, warnings) = set(name, "1");
            assert_eq!(warnings.len(), 1, "{name}");
            assert!(warnings[0].starts_with(name) && warnings[0].contains("no effect"), "{}", warnings[0]);
        }
    }

    #[test]
    fn the_defaults_are_those_of_opx_and_each_name_is_there_once() {
        let defaults = Variable::ALL.map(|variable| variable.value(&Config::default()));
        assert_eq!(defaults, [16385, 0, 0, 16385, 16385, 0, 4096, 8192, 0, 1, 0]);
        let settings = settings();
        let former = FORMER.iter().map(|it| it.name);
        let names = settings.iter().map(|it| it.name).chain(former).chain(WITHOUT_EFFECT.iter().map(|it| it.0));
        let different: HashSet<_> = names.clone().collect();
        assert_eq!(different.len(), names.count());
        assert_eq!(settings.len(), 17);
    }

    #[test]
    fn former_names_are_taken_unless_the_new_one_is_set() {
        let both = |config: &Config| (config.thresholds.no_tid, config.thresholds.sdma_bounce_max);
        for (name, text, expected) in [
            ("FI_OPX_EXPECTED_RECEIVE_ENABLE", "0", (true, 16385)),
            ("FI_OPX_EXPECTED_RECEIVE_ENABLE", "yes", (false, 16385)),
            ("FI_OPX_DELIVERY_COMPLETION_THRESHOLD", "5000", (false, 5000)),
            ("FI_OPX_DELIVERY_COMPLETION_THRESHOLD", "63", (false, 16385)),
        ] {
            let (config, warnings) = set(name, text);
            assert_eq!((both(&config), warnings.len()), (expected, 1), "{name} = {text}");
            assert!(warnings[0].starts_with(name), "{}", warnings[0]);
        }
        let mut config = Config::default();
        let all = ["FI_OPX_EXPECTED_RECEIVE_ENABLE", "FI_OPX_TID_DISABLE"];
        let warnings = config.set_from(|name| all.contains(&name).then(|| "0".to_owned()));
        assert!(!config.thresholds.no_tid && warnings.len() == 1);
        assert!(warnings[0].to_string().contains("no effect as FI_OPX_TID_DISABLE is set"), "{}", warnings[0]);
    }

    #[test]
    fn the_job_has_the_name_that_its_launcher_gives_it() {
        let named = |lookup: &[(&str, &str)]| {
            let mut config = Config::default();
            let find = |name: &str| Some(lookup.iter().find(|(known, _)| *known == name)?.1.to_owned());
            let warnings = config.set_from(find).len();
            (config.shared_memory.job, warnings)
        };
        assert_eq!(named(&[]), (None, 0));
        assert_eq!(named(&[("I_MPI_HYDRA_UUID", "b"), ("SLURM_JOB_ID", "4711")]), (Some("4711".into()), 0));
        assert_eq!(named(&[("SLURM_JOB_ID", "4711"), ("FI_OPX_UUID", "a")]), (Some("a".into()), 0));
        assert_eq!(named(&[("FI_OPX_UUID", "a b")]), (None, 1));
    }

    #[test]
    fn settings_of_the_reliability_protocol_are_taken_along() {
        let (config, warnings) = set("FI_OPX_RELIABILITY_SERVICE_PRE_ACK_RATE", "32");
        assert_eq!((config.reliability.pre_ack_rate, warnings), (32, vec![]));
        assert_eq!(set("FI_OPX_RELIABILITY_SERVICE_PRE_ACK_RATE", "33").1.len(), 1);
    }
}
