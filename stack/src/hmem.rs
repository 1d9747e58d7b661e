//! Which kinds of device memory may be looked for: libfabric's variable FI_HMEM.

use std::fmt;

/// Kinds of memory as libfabric names them (`hmem.c:ofi_hmem_set_iface_filter`), without the machine's own, "system".
const NAMES: [&str; 5] = ["cuda", "rocr", "ze", "neuron", "synapseai"];

/// The kinds of device memory that FI_HMEM allows: a list of names with semicolons between them, whatever their case. The machine's own
/// memory, "system", always is; by itself it means that devices aren't looked for.
///
/// ```
/// use opx_stack::Interfaces;
/// let (interfaces, unknown) = Interfaces::parse("system;CUDA;systemx");
/// assert!(interfaces.allows("cuda") && !interfaces.allows("rocr"));
/// assert_eq!(unknown, ["systemx"]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interfaces([bool; NAMES.len()]);

impl Default for Interfaces {
    /// All of them.
    fn default() -> Self {
        Self([true; NAMES.len()])
    }
}

impl fmt::Display for Interfaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("system")?;
        NAMES.iter().filter(|name| self.allows(name)).try_for_each(|name| write!(f, ";{name}"))
    }
}

impl Interfaces {
    /// What FI_HMEM says; all when it isn't set. Names that aren't known are warned of.
    pub fn from_env() -> Self {
        let Some(text) = std::env::var_os("FI_HMEM") else { return Self::default() };
        let text = text.to_string_lossy();
        let (interfaces, unknown) = Self::parse(&text);
        for name in unknown {
            log::warn!("FI_HMEM names {name:?}, which is no kind of memory: it must be system or one of {NAMES:?}");
        }
        interfaces
    }

    /// What a value of FI_HMEM says, and the names in it that aren't known. An empty one allows all, as in libfabric.
    pub fn parse(text: &str) -> (Self, Vec<&str>) {
        if text.is_empty() {
            return (Self::default(), Vec::new());
        }
        let mut interfaces = Self([false; NAMES.len()]);
        let mut unknown = Vec::new();
        for entry in text.split(';').filter(|entry| !entry.is_empty()) {
            match NAMES.iter().position(|name| entry.eq_ignore_ascii_case(name)) {
                Some(at) => interfaces.0[at] = true,
                None if entry.eq_ignore_ascii_case("system") => {}
                None => unknown.push(entry),
            }
        }
        (interfaces, unknown)
    }

    /// Whether memory of this kind may be looked for; `false` for names that aren't known.
    pub fn allows(&self, name: &str) -> bool {
        NAMES.iter().zip(self.0).any(|(known, allowed)| allowed && name.eq_ignore_ascii_case(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fi_hmem_system_means_no_devices_and_names_like_it_are_told() {
        let parse = |text| {
            let (interfaces, unknown) = Interfaces::parse(text);
            (interfaces.to_string(), unknown)
        };
        let all = "system;cuda;rocr;ze;neuron;synapseai".to_owned();
        assert_eq!(parse(""), (all.clone(), vec![]));
        assert_eq!(parse(&all), (all.clone(), vec![]));
        assert_eq!(parse("system"), ("system".to_owned(), vec![]));
        assert_eq!(parse("System;ZE"), ("system;ze".to_owned(), vec![]));
        assert_eq!(parse("systemx"), ("system".to_owned(), vec!["systemx"]));
        assert_eq!(parse("syste;;cuda"), ("system;cuda".to_owned(), vec!["syste"]));
        assert!(!Interfaces::default().allows("system"), "it is no device");
    }
}
