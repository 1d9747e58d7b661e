//! Counters of the port, of contexts and of engines: the catalogue, and what they show at a moment.

mod table;

use crate::error::{ChipError, Gone};
use crate::hfi::{Hfi, Inner, lock};
use crate::interrupts::Counts;
use opx_bus::PciFunction;
use opx_defs::chip;
use opx_defs::csr::{self, Csr, Field};
use std::sync::atomic::{AtomicU64, Ordering};

/// What there is one counter for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// The whole adapter.
    One,
    /// Each virtual lane: 0 to 7, and 8 for lane 15.
    Vl,
    /// Each receive context.
    Context,
    /// Each SDMA engine.
    Engine,
}

/// Bits after which the hardware's counter begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 32.
    B32,
    /// 64, or so many that it doesn't matter.
    B64,
}

/// Where a counter is read.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// A register, from instance so-and-so on.
    Register(&'static Csr, u32),
    /// The driver counts a bit of an error register.
    Error(&'static Csr, Field),
    /// The driver counts something else.
    Software(fn(&Counts) -> &AtomicU64),
}

/// A row of the catalogue.
#[derive(Debug)]
pub struct Counter {
    /// hfi1's name.
    pub name: &'static str,
    /// What it counts.
    pub about: &'static str,
    /// What there is one for.
    pub per: Per,
    /// How wide the hardware's counter is.
    pub width: Width,
    /// Whether the value goes on when the hardware's counter begins anew, as long as it is read at least once in between
    /// (hfi1's CNTR_SYNTH).
    pub synthesised: bool,
    place: Place,
}

static SOFTWARE: [Counter; 2] = [
    Counter {
        name: "SwLinkDown",
        about: "links that went down",
        per: Per::One,
        width: Width::B64,
        synthesised: false,
        place: Place::Software(|counts| &counts.link_downs),
    },
    Counter {
        name: "SwLinkUp",
        about: "links that came up",
        per: Per::One,
        width: Width::B64,
        synthesised: false,
        place: Place::Software(|counts| &counts.link_ups),
    },
];

/// The catalogue.
pub fn catalogue() -> impl Iterator<Item = &'static Counter> {
    table::REGISTERS.iter().chain(table::ERRORS).chain(&SOFTWARE)
}

impl Counter {
    /// The register that it is read from, for those that the hardware counts.
    pub fn register(&self) -> Option<&'static Csr> {
        self.place().map(|(csr, _)| csr)
    }

    /// The register that it is read from, and the first of its instances that are this counter's; none for what the
    /// driver counts.
    pub fn place(&self) -> Option<(&'static Csr, u32)> {
        match self.place {
            Place::Register(csr, first) => Some((csr, first)),
            Place::Error(..) | Place::Software(_) => None,
        }
    }
}

/// What a counter shows.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Which counter.
    pub counter: &'static Counter,
    /// Which lane, context or engine, when there is one for each.
    pub index: Option<u16>,
    /// Its value.
    pub value: u64,
}

/// What all counters showed at a moment.
///
/// ```
/// # use opx_emu::{Config, Icode, Lab, Pacing};
/// # use opx_hw::{Hfi, LinkMode, Options};
/// # let adapter = Lab::new(Pacing::Virtual).add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
/// let hfi = Hfi::open(adapter.bus(), Options::default())?;
/// let before = hfi.counters()?;
/// hfi.link_up(LinkMode::Loopback)?;
/// let grown = hfi.counters()?.since(&before);
/// assert_eq!(grown.get("SwLinkUp", None), Some(1));
/// assert_eq!(grown.get("DcXmitPkts", None), Some(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Counters(Vec<Reading>);

impl Counters {
    /// Each reading, in the order of the catalogue.
    pub fn iter(&self) -> impl Iterator<Item = &Reading> {
        self.0.iter()
    }

    /// The value of a counter by its name, and by its lane, context or engine when there is one for each.
    pub fn get(&self, name: &str, index: Option<u16>) -> Option<u64> {
        self.0
            .iter()
            .find(|reading| reading.counter.name == name && reading.index == index)
            .map(|reading| reading.value)
    }

    /// How much each has grown since `earlier`; one that wasn't read then counts from 0.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let same = |a: &Reading, b: &Reading| std::ptr::eq(a.counter, b.counter) && a.index == b.index;
        let mut before = earlier.0.iter().peekable();
        let grown = self.0.iter().map(|now| {
            // Both are in the order of the catalogue; counters may be missing in either.
            let then = match before.next_if(|then| same(then, now)) {
                Some(then) => then.value,
                None => earlier.0.iter().find(|then| same(then, now)).map_or(0, |then| then.value),
            };
            Reading { value: now.value.saturating_sub(then), ..*now }
        });
        Self(grown.collect())
    }
}

/// The next value of a counter that goes on when the hardware's begins anew: `chip.c:read_dev_port_cntr`.
fn synthesise(width: Width, before: u64, now: u64) -> u64 {
    match width {
        Width::B32 => {
            let (upper, lower) = (before >> 32, before & 0xffff_ffff);
            match (lower > now, upper) {
                (false, _) => upper << 32 | now,
                (true, 0xffff_ffff) => u64::MAX,
                (true, _) => (upper + 1) << 32 | now,
            }
        }
        // One that has wrapped is saturated.
        Width::B64 if now < before => u64::MAX,
        Width::B64 => now,
    }
}

impl<B: PciFunction> Hfi<B> {
    /// Reads every counter of the catalogue. Those of the LCB are the 8051's while the link is up, which is asked for them;
    /// they are left out where it can't be (a simulator, a dead 8051). Hundreds of register reads: for now and then.
    ///
    /// # Errors
    /// When the adapter is gone.
    pub fn counters(&self) -> Result<Counters, Gone> {
        self.inner.counters()
    }
}

impl<B: PciFunction> Inner<B> {
    fn counters(&self) -> Result<Counters, Gone> {
        self.regs.check_ours()?;
        let mut kept = lock(&self.synthesised);
        let mut readings = Vec::new();
        let mut place = 0;
        for counter in catalogue() {
            let (count, single) = match counter.per {
                Per::One => (1, true),
                Per::Vl => (9, false),
                Per::Context => (self.info.sizes.recv_contexts as u16, false),
                Per::Engine => (self.info.sizes.sdma_engines as u16, false),
            };
            for index in 0..count {
                let at = place;
                place += 1;
                let Some(now) = self.read_counter(counter, index.into())? else { continue };
                if kept.len() <= at {
                    kept.resize(at + 1, 0);
                }
                let value = match kept.get_mut(at) {
                    Some(kept) if counter.synthesised => {
                        *kept = synthesise(counter.width, *kept, now);
                        *kept
                    }
                    _ => now,
                };
                readings.push(Reading { counter, index: (!single).then_some(index), value });
            }
        }
        Ok(Counters(readings))
    }

    fn read_counter(&self, counter: &Counter, index: u32) -> Result<Option<u64>, Gone> {
        match counter.place {
            Place::Register(csr, _) if is_lcb(csr) => self.read_lcb_counter(csr),
            Place::Register(csr, first) => self.regs.read_any(csr, first + index).map(Some),
            Place::Error(csr, field) => Ok(Some(self.counts.error(csr, field))),
            Place::Software(count) => Ok(Some(count(&self.counts).load(Ordering::Relaxed))),
        }
    }

    /// `chip.c:read_lcb_csr, read_lcb_via_8051`.
    fn read_lcb_counter(&self, csr: &Csr) -> Result<Option<u64>, Gone> {
        let mut link = lock(&self.link);
        if !link.state.is_up() {
            // In between the LCB changes hands; a link that isn't begun or went down has left it to the host.
            let hosts =
                csr::DC_DC8051_CFG_CSR_ACCESS_SEL::LCB.is_set(self.regs.read(&csr::DC_DC8051_CFG_CSR_ACCESS_SEL)?);
            return if hosts { self.regs.read_any(csr, 0).map(Some) } else { Ok(None) };
        }
        if self.info.is_simulator() || !link.dc8051.is_alive() {
            return Ok(None);
        }
        let number = u64::from(csr.off().0 - csr::DC_LCB_CFG_RUN.off().0) / 8;
        match link.dc8051.command(&self.regs, "read an LCB register", chip::HCMD_READ_LCB_CSR, number) {
            Ok(low) => {
                // chip.c:do_8051_command: 48 bits in the answer, the others beside it.
                let beside = self.regs.read(&csr::DC_DC8051_CFG_EXT_DEV_1)?;
                Ok(Some(low | csr::DC_DC8051_CFG_EXT_DEV_1::REQ_DATA.get(beside) << 48))
            }
            Err(crate::CommandError::Chip(ChipError::Gone(gone))) => Err(gone),
            Err(error) => {
                log::debug!("{error}");
                Ok(None)
            }
        }
    }
}

/// Whether a register is the LCB's.
fn is_lcb(csr: &Csr) -> bool {
    csr.name.starts_with("DC_LCB_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn values_go_on_when_the_hardware_begins_anew() {
        use Width::{B32, B64};
        assert_eq!(synthesise(B32, 0, 5), 5);
        assert_eq!(synthesise(B32, 0xffff_fff0, 5), 1 << 32 | 5);
        assert_eq!(synthesise(B32, 7 << 32 | 9, 8), 8 << 32 | 8);
        assert_eq!(synthesise(B32, u64::MAX, 3), u64::MAX);
        assert_eq!(
            (synthesise(B64, 9, 10), synthesise(B64, 10, 9), synthesise(B64, u64::MAX, 4)),
            (10, u64::MAX, u64::MAX)
        );
    }

    /// Every counter names a register that is in the catalogue of registers, within it, and no place twice.
    #[test]
    fn the_table_fits_the_registers() {
        let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
        for counter in catalogue() {
            assert!(names.insert(counter.name), "{} twice", counter.name);
            assert!(!counter.about.is_empty());
            match counter.place {
                Place::Register(csr, first) => {
                    let count = match counter.per {
                        Per::One => 1,
                        Per::Vl => 9,
                        Per::Context => 160,
                        Per::Engine => 16,
                    };
                    assert!(first + count <= csr.count, "{} has {} instances", csr.name, csr.count);
                    for index in first..first + count {
                        assert!(
                            places.insert(csr.at(index)),
                            "{}: {}[{index}] has two counters",
                            counter.name,
                            csr.name
                        );
                        assert_eq!(csr::by_offset(csr.at(index)).map(|(csr, ..)| csr.name), Some(csr.name));
                    }
                    assert_eq!(
                        counter.width == Width::B32,
                        csr.name.ends_with("32") || csr.name.ends_with("FETCHED_CNT")
                    );
                }
                Place::Error(csr, field) => assert!(csr.fields.contains(&field), "{}", counter.name),
                Place::Software(_) => {}
            }
        }
        // Each element of the counter arrays that has a name has a counter.
        assert!(places.len() > 300 && names.len() > 290, "{} {}", places.len(), names.len());
    }
}
