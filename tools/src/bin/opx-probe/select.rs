//! Which registers are meant: a name, a pattern, or an offset in BAR 0.

use crate::csr::number;
use crate::render::shown;
use opx_defs::csr::{self, Csr};
use opx_defs::units::BarOff;

/// Bytes of an HFI1's BAR 0.
const BAR0_LEN: u64 = 64 << 20;
/// Registers read by one command, at most.
const MOST: u64 = 4096;
/// Names offered in place of an unknown one.
const NEAREST: usize = 3;

/// One 8-byte register: element `element` of instance `index` of a row of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// The row.
    pub csr: &'static Csr,
    /// The instance.
    pub index: u32,
    /// The element of a table; 0 where there is one.
    pub element: u32,
}

/// Text that means no register.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No such name.
    #[error("no register is named `{name}`; {}", suggestion(nearest))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Names like it.
        nearest: Vec<&'static str>,
    },
    /// Nothing fits the pattern.
    #[error("no register's name fits `{pattern}`; see opx-probe csr list")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// Not a number.
    #[error("`{text}` is no offset; write it in decimal, or in hexadecimal with 0x")]
    BadNumber {
        /// What was asked for.
        text: String,
    },
    /// Between registers.
    #[error("offset {offset:#x} is not a multiple of 8, as registers' offsets are; the one around it is at {:#x}", offset & !7)]
    Unaligned {
        /// What was asked for.
        offset: u64,
    },
    /// Beyond BAR 0.
    #[error("offset {offset:#x} is outside of BAR 0 ({BAR0_LEN:#x} bytes)")]
    OutsideBar {
        /// What was asked for.
        offset: u64,
    },
    /// In BAR 0, but not in the catalogue: reading it might raise an error of the chip.
    #[error("no known register is at {offset}{}", before.map_or_else(String::new, |csr| format!("; the last one before starts at {}: {}", csr.offset, csr.name)))]
    NoRegister {
        /// What was asked for.
        offset: BarOff,
        /// The row before it.
        before: Option<&'static Csr>,
    },
    /// No such instance.
    #[error("{name} has no instance {index}; there {}", instances(*count))]
    NoInstance {
        /// The register, or the pattern.
        name: String,
        /// What was asked for.
        index: u32,
        /// How many there are, of the register with the most.
        count: u32,
    },
    /// An offset means one instance already.
    #[error("--index goes with a name; an offset is one register already")]
    IndexOfOffset,
    /// More than anyone reads.
    #[error(
        "these are {count} registers, at most {MOST} are read at once; choose an instance with --index, or a narrower pattern"
    )]
    TooMany {
        /// How many.
        count: u64,
    },
}

fn suggestion(nearest: &[&str]) -> String {
    match nearest {
        [] => "see opx-probe csr list".to_owned(),
        names => format!("the nearest: {}", names.join(", ")),
    }
}

fn instances(count: u32) -> String {
    if count == 1 { "is only one, 0".to_owned() } else { format!("are {count}, 0 to {}", count.saturating_sub(1)) }
}

/// The rows of the catalogue that `text`, a name or a pattern, means.
pub fn rows(text: &str) -> Result<Vec<&'static Csr>, SelectError> {
    if text.contains(['*', '?']) {
        let pattern = text.to_ascii_uppercase();
        let rows: Vec<_> = csr::all().filter(|csr| fits(pattern.as_bytes(), csr.name.as_bytes())).collect();
        if rows.is_empty() {
            return Err(SelectError::NoMatch { pattern: shown(text) });
        }
        return Ok(rows);
    }
    csr::by_name(text)
        .map(|csr| vec![csr])
        .ok_or_else(|| SelectError::Unknown { name: shown(text), nearest: nearest(text) })
}

/// The registers that `text` means, one instance of them if there is an `index`.
pub fn picks(text: &str, index: Option<u32>) -> Result<Vec<Pick>, SelectError> {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        let pick = at_offset(text)?;
        return if index.is_some() { Err(SelectError::IndexOfOffset) } else { Ok(vec![pick]) };
    }
    let mut rows = rows(text)?;
    if let Some(index) = index {
        let count = rows.iter().map(|csr| csr.count).max().unwrap_or(0);
        rows.retain(|csr| index < csr.count);
        if rows.is_empty() {
            return Err(SelectError::NoInstance { name: shown(text), index, count });
        }
    }
    let of_row = |csr: &Csr| u64::from(if index.is_some() { 1 } else { csr.count }) * u64::from(csr.len);
    let count = rows.iter().map(|csr| of_row(csr)).sum();
    if count > MOST {
        return Err(SelectError::TooMany { count });
    }
    let instances = |csr: &'static Csr| index.map_or(0..csr.count, |index| index..index + 1);
    let picks = rows.into_iter().flat_map(|csr| {
        instances(csr).flat_map(move |index| (0..csr.len).map(move |element| Pick { csr, index, element }))
    });
    Ok(picks.collect())
}

fn at_offset(text: &str) -> Result<Pick, SelectError> {
    let offset = number(text).ok_or_else(|| SelectError::BadNumber { text: shown(text) })?;
    if offset >= BAR0_LEN {
        return Err(SelectError::OutsideBar { offset });
    }
    if !offset.is_multiple_of(8) {
        return Err(SelectError::Unaligned { offset });
    }
    let offset = BarOff(offset as u32);
    match csr::by_offset(offset) {
        Some((csr, index, element)) => Ok(Pick { csr, index, element }),
        None => {
            let before = csr::all().filter(|csr| csr.offset < offset).max_by_key(|csr| csr.offset);
            Err(SelectError::NoRegister { offset, before })
        }
    }
}

/// Whether a name fits a pattern: `*` stands for any text, `?` for one character.
pub fn fits(pattern: &[u8], name: &[u8]) -> bool {
    // Where to go on when what follows the last `*` doesn't fit: let the `*` take one character more.
    let mut retry: Option<(usize, usize)> = None;
    let (mut p, mut n) = (0, 0);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, n + 1));
                p += 1;
            }
            Some(&c) if c == b'?' || name.get(n) == Some(&c) => (p, n) = (p + 1, n + 1),
            _ => match retry {
                Some((star, from)) => {
                    (p, n) = (star, from);
                    retry = Some((star, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == b'*')
}

/// Registers whose names are most like `text`.
fn nearest(text: &str) -> Vec<&'static str> {
    alike(text, csr::all().map(|csr| csr.name))
}

/// The names most like `text`, in either case; none when there is none with at least half in common.
pub fn alike(text: &str, names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let text: String = text.chars().take(80).flat_map(char::to_uppercase).collect();
    let mut near: Vec<_> = names
        .map(|name| (name.to_ascii_uppercase(), name))
        .map(|(upper, name)| (text.is_empty() || !upper.contains(&text), strsim::osa_distance(&text, &upper), name))
        .filter(|(other, distance, name)| !other || distance * 2 <= name.len().max(text.len()))
        .collect();
    near.sort();
    near.into_iter().take(NEAREST).map(|(.., name)| name).collect()
}

/// Each register of a row: every instance, and in it every element.
pub fn every(csr: &'static Csr) -> impl Iterator<Item = Pick> {
    (0..csr.count).flat_map(move |index| (0..csr.len).map(move |element| Pick { csr, index, element }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str, index: Option<u32>) -> String {
        let text = picks(text, index).unwrap_err().to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    }

    fn named(text: &str, index: Option<u32>) -> Vec<(&'static str, u32, u32)> {
        picks(text, index).unwrap().iter().map(|pick| (pick.csr.name, pick.index, pick.element)).collect()
    }

    #[test]
    fn names_and_offsets_mean_the_same() {
        assert_eq!(named("CCE_REVISION", None), [("CCE_REVISION", 0, 0)]);
        assert_eq!(named("cce_revision", Some(0)), [("CCE_REVISION", 0, 0)]);
        assert_eq!(named("0", None), [("CCE_REVISION", 0, 0)]);
        assert_eq!(named("0x8", None), named("8", None));
        assert_eq!(named("0x1900300", None), named("SEND_CTXT_CTRL", Some(3)));
        assert_eq!(named("0X1900300", None), [("SEND_CTXT_CTRL", 3, 0)]);
        for csr in csr::all() {
            let last = BarOff(csr.element(csr.count - 1, csr.len - 1).0);
            assert_eq!(named(&last.0.to_string(), None), [(csr.name, csr.count - 1, csr.len - 1)]);
        }
    }

    #[test]
    fn tables_are_taken_whole() {
        assert_eq!(named("SEND_DMA_CTRL", None).len(), 16);
        let flows = named("RCV_TID_FLOW_TABLE", Some(2));
        assert_eq!((flows.len(), flows[31]), (32, ("RCV_TID_FLOW_TABLE", 2, 31)));
    }

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, want) in [
            ("*", "ABC", true),
            ("A*C", "ABC", true),
            ("A*C", "ABCD", false),
            ("*B*", "ABC", true),
            ("A?C", "ABC", true),
            ("A?", "ABC", false),
            ("**", "", true),
            ("?", "", false),
            ("*AB", "AABAB", true),
            ("A*B*C", "AXBXBXC", true),
            ("A*B*C", "AXBXBXD", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), want, "{pattern} {name}");
        }
        let all = named("send_ctxt_*", Some(3));
        assert!(all.len() > 5 && all.iter().all(|(name, index, _)| name.starts_with("SEND_CTXT_") && *index == 3));
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        assert_eq!(
            refusal("CCE_REVISON", None),
            "no register is named `CCE_REVISON`; the nearest: CCE_REVISION, CCE_REVISION2"
        );
        assert!(refusal("LOCAL_GUID", None).contains("DC_DC8051_CFG_LOCAL_GUID"));
        assert_eq!(refusal("", None), "no register is named ``; see opx-probe csr list");
        assert_eq!(refusal("frob", None), "no register is named `frob`; see opx-probe csr list");
        assert!(refusal("a\nb", None).contains("`a\\nb`"));
        assert!(refusal("NOTHING_*", None).contains("`NOTHING_*`"));
        assert!(refusal("CCE_REVISION", Some(1)).ends_with("no instance 1; there is only one, 0"));
        assert!(refusal("SEND_CTXT_*", Some(160)).ends_with("no instance 160; there are 160, 0 to 159"));
        assert!(refusal("RCV_ARRAY", None).contains("131072 registers"));
    }

    #[test]
    fn offsets_are_checked() {
        assert!(refusal("0x4", None).contains("not a multiple of 8"));
        assert!(refusal("0x4", None).ends_with("at 0x0"));
        for outside in ["0x4000000", "67108864", "0xfffffffffffffff8"] {
            assert!(refusal(outside, None).contains("outside of BAR 0 (0x4000000 bytes)"), "{outside}");
        }
        for bad in ["0x", "0xg", "12z", "0x+8", "0x10000000000000000", "8 "] {
            assert!(refusal(bad, None).contains("is no offset"), "{bad}");
        }
        assert!(
            refusal("0x700000", None)
                .starts_with("no known register is at 0x0700000; the last one before starts at 0x0602130: DC_DC8051")
        );
        assert!(refusal("0x8", Some(1)).contains("--index goes with a name"));
    }
}
