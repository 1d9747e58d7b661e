//! Faults that the adapter is told to have: each once, at a chosen packet of a chosen unit.
//!
//! A fault here is the chip's own (a parity error, a credit that doesn't come back), something that no software brings
//! about. What the wire does to packets is in `faults.rs`.

mod chip;
mod pio;
pub(crate) mod receive;
mod sdma;

pub use chip::ChipFault;
pub use pio::PioFault;
pub use receive::ReceiveFault;
pub use sdma::SdmaFault;

use std::fmt;
use std::str::FromStr;

/// An enum of faults with their names in words.
macro_rules! faults {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name, as commands and reports have it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}
use faults;

/// A fault that the adapter can be told to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Of a send context; the unit is its number.
    Pio(PioFault),
    /// Of an SDMA engine; the unit is its number.
    Sdma(SdmaFault),
    /// Of a receive context; the unit is its number.
    Receive(ReceiveFault),
    /// Of the chip as a whole; its only unit is 0, and every packet that it sends counts.
    Chip(ChipFault),
}

impl Fault {
    /// Every fault.
    pub fn all() -> impl Iterator<Item = Self> {
        let pio = PioFault::ALL.iter().copied().map(Self::Pio);
        let sdma = SdmaFault::ALL.iter().copied().map(Self::Sdma);
        let receive = ReceiveFault::ALL.iter().copied().map(Self::Receive);
        let chip = ChipFault::ALL.iter().copied().map(Self::Chip);
        pio.chain(sdma).chain(receive).chain(chip)
    }

    /// Its name, as commands and reports have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pio(fault) => fault.name(),
            Self::Sdma(fault) => fault.name(),
            Self::Receive(fault) => fault.name(),
            Self::Chip(fault) => fault.name(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = NoSuchFault;

    fn from_str(name: &str) -> Result<Self, NoSuchFault> {
        Self::all().find(|fault| fault.name() == name).ok_or(NoSuchFault)
    }
}

/// No fault has that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such fault; see docs/faults.md")]
pub struct NoSuchFault;

/// Faults of one kind that are still to come.
#[derive(Debug)]
pub(crate) struct Plan<F> {
    /// Unit, packets of it that still go well, and what happens then.
    coming: Vec<(u16, u64, F)>,
}

impl<F> Default for Plan<F> {
    fn default() -> Self {
        Self { coming: Vec::new() }
    }
}

impl<F: Copy> Plan<F> {
    /// Nothing is planned: what `due` would say.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.coming.is_empty()
    }

    /// Plans `fault` for the packet of `unit` that follows `after` others.
    pub fn add(&mut self, unit: u16, after: u64, fault: F) {
        self.coming.push((unit, after, fault));
    }

    /// Counts a packet of `unit`; the fault that happens at it. Of several planned for one packet, the others wait for the
    /// next.
    #[inline]
    pub fn due(&mut self, unit: u16) -> Option<F> {
        if self.is_empty() { None } else { self.count(unit) }
    }

    fn count(&mut self, unit: u16) -> Option<F> {
        let mut due = None;
        for (index, (of, after, fault)) in self.coming.iter_mut().enumerate() {
            if *of != unit {
            } else if *after > 0 {
                *after -= 1;
            } else if due.is_none() {
                due = Some((index, *fault));
            }
        }
        let (index, fault) = due?;
        self.coming.remove(index);
        Some(fault)
    }
}

/// All that is planned for one adapter.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    pub pio: Plan<PioFault>,
    pub sdma: Plan<SdmaFault>,
    pub receive: Plan<ReceiveFault>,
    pub chip: Plan<ChipFault>,
}

impl Plans {
    /// Most faults that wait at a time; what is planned beyond is refused.
    const MOST: usize = 1024;

    /// Faults that haven't happened yet.
    pub fn waiting(&self) -> usize {
        self.pio.coming.len() + self.sdma.coming.len() + self.receive.coming.len() + self.chip.coming.len()
    }

    /// Plans a fault; `false` when too many wait already.
    pub fn add(&mut self, fault: Fault, unit: u16, after: u64) -> bool {
        if self.waiting() >= Self::MOST {
            return false;
        }
        match fault {
            Fault::Pio(fault) => self.pio.add(unit, after, fault),
            Fault::Sdma(fault) => self.sdma.add(unit, after, fault),
            Fault::Receive(fault) => self.receive.add(unit, after, fault),
            Fault::Chip(fault) => self.chip.add(0, after, fault),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_happens_once_at_its_packet() {
        let mut plan = Plan::default();
        assert!(plan.is_empty());
        plan.add(3, 2, 'a');
        plan.add(3, 2, 'b');
        plan.add(4, 0, 'c');
        let happened: Vec<_> = [3, 3, 4, 3, 3, 3, 4].into_iter().map(|unit| plan.due(unit)).collect();
        assert_eq!(happened, [None, None, Some('c'), Some('a'), Some('b'), None, None]);
        assert!(plan.is_empty());
    }

    #[test]
    fn names_are_unique_and_lead_back() {
        for fault in Fault::all() {
            assert_eq!(fault.name().parse(), Ok(fault));
        }
        assert_eq!("gremlins".parse::<Fault>(), Err(NoSuchFault));
    }
}
