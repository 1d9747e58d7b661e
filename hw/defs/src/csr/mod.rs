//! The register catalogue: one row for each control/status register of the chip, used by driver, emulated adapter and
//! opx-probe alike.
//!
//! Each register `NAME` is a constant of type [`Csr`] and, with the same name, a module that holds its fields:
//! `NAME::FIELD` is a [`Field`]. Names and offsets are those of the Linux driver's `chip_registers.h`.

mod asic;
mod cce;
mod dc8051;
mod dcc;
mod lcb;
mod misc;
mod rxe;
mod txe;

pub use asic::*;
pub use cce::*;
pub use dc8051::*;
pub use dcc::*;
pub use lcb::*;
pub use misc::*;
pub use rxe::*;
pub use txe::*;

use crate::units::BarOff;

/// How software may use a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Writes are ignored.
    ReadOnly,
    /// Reads back what was written (some fields may be the hardware's).
    ReadWrite,
    /// Reads have no meaning.
    WriteOnly,
    /// Writing a 1 clears the bit here or in the status register beside it.
    WriteOneToClear,
    /// Writing a 1 sets the bit in the status register beside it.
    WriteOneToSet,
}

/// A range of bits in a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Name as in `chip_registers.h`, without the register's name.
    pub name: &'static str,
    /// Lowest bit.
    pub shift: u32,
    /// Number of bits, 1 to 64.
    pub width: u32,
}

impl Field {
    /// A field of the bits `high..=low`.
    pub const fn new(name: &'static str, high: u32, low: u32) -> Self {
        assert!(high >= low && high < 64);
        Self { name, shift: low, width: high - low + 1 }
    }

    /// The field's bits in place.
    #[inline]
    pub const fn mask(self) -> u64 {
        (u64::MAX >> (64 - self.width)) << self.shift
    }

    /// The field's value in a register value.
    #[inline]
    pub const fn get(self, register: u64) -> u64 {
        (register & self.mask()) >> self.shift
    }

    /// Whether any bit of the field is set.
    #[inline]
    pub const fn is_set(self, register: u64) -> bool {
        register & self.mask() != 0
    }

    /// `value` moved to the field's place; bits that don't fit are dropped.
    #[inline]
    pub const fn put(self, value: u64) -> u64 {
        (value << self.shift) & self.mask()
    }

    /// `register` with the field replaced by `value`.
    #[inline]
    pub const fn set(self, register: u64, value: u64) -> u64 {
        (register & !self.mask()) | self.put(value)
    }
}

/// One row of the catalogue: a register, or an array of equal ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Csr {
    /// Name as in `chip_registers.h`.
    pub name: &'static str,
    /// Offset of instance 0 in BAR0, bytes.
    pub offset: BarOff,
    /// Distance between instances, bytes.
    pub stride: u32,
    /// Number of instances: contexts, engines, or the length of a table.
    pub count: u32,
    /// Registers of 8 bytes in each instance (1 but for tables inside a context).
    pub len: u32,
    /// What software may do with it.
    pub access: Access,
    /// Value after a function-level reset; 0 where the chip's build or its surroundings decide, or nobody knows.
    pub reset: u64,
    /// Named bit ranges.
    pub fields: &'static [Field],
    /// What it is for.
    pub doc: &'static str,
    /// Where that was read, `file:function` of the Linux driver.
    pub source: &'static str,
}

impl Csr {
    /// Offset of a register that has one instance (instance 0 of the others).
    pub const fn off(&self) -> BarOff {
        self.offset
    }

    /// Offset of instance `index`.
    ///
    /// # Panics
    /// When `index` is not below [`Csr::count`]: a mistake of the caller, as with a slice.
    pub const fn at(&self, index: u32) -> BarOff {
        assert!(index < self.count, "register instance out of range");
        BarOff(self.offset.0 + index * self.stride)
    }

    /// Offset of element `element` of the table in instance `index`.
    ///
    /// # Panics
    /// When either is out of range.
    pub const fn element(&self, index: u32, element: u32) -> BarOff {
        assert!(element < self.len, "table element out of range");
        BarOff(self.at(index).0 + element * 8)
    }

    /// The instance and element that live at `offset`, if it belongs to this row.
    pub const fn locate(&self, offset: BarOff) -> Option<(u32, u32)> {
        if offset.0 < self.offset.0 {
            return None;
        }
        let delta = offset.0 - self.offset.0;
        let (index, rest) = (delta / self.stride, delta % self.stride);
        if index < self.count && rest.is_multiple_of(8) && rest / 8 < self.len { Some((index, rest / 8)) } else { None }
    }
}

/// Every register of the catalogue, by block; blocks and registers in the order of their offsets.
pub static BLOCKS: &[(&str, &[&Csr])] = &[
    ("CCE", cce::ALL),
    ("ASIC", asic::ALL),
    ("MISC", misc::ALL),
    ("DCC", dcc::ALL),
    ("LCB", lcb::ALL),
    ("8051", dc8051::ALL),
    ("RXE", rxe::ALL),
    ("TXE", txe::ALL),
];

/// Every register of the catalogue.
pub fn all() -> impl Iterator<Item = &'static Csr> {
    BLOCKS.iter().flat_map(|(_, csrs)| csrs.iter().copied())
}

/// Looks a register up by its name.
pub fn by_name(name: &str) -> Option<&'static Csr> {
    all().find(|csr| csr.name.eq_ignore_ascii_case(name))
}

/// Parts of BAR0 where the registers of one vector, context or engine stand together, one set after the other:
/// first byte, bytes of a set, sets.
const REPEATED: [(u32, u32, u32); 5] = [
    (0x10_0000, 0x10, 256),
    (0x110_0000, 0x100, 160),
    (0x130_0000, 0x1000, 160),
    (0x190_0000, 0x100, 160),
    (0x1a0_0000, 0x100, 16),
];

/// Looks up which register lives at `offset`: the row, the instance and the element.
///
/// Two binary searches, so that it can be called for every traced access.
pub fn by_offset(offset: BarOff) -> Option<(&'static Csr, u32, u32)> {
    let first = REPEATED
        .iter()
        .find(|(base, size, sets)| (*base..base + size * sets).contains(&offset.0))
        .map_or(offset.0, |(base, size, _)| base + (offset.0 - base) % size);
    let starts_by = |csr: &&Csr| csr.offset.0 <= first;
    let block = BLOCKS.partition_point(|(_, csrs)| csrs.first().is_some_and(starts_by)).checked_sub(1)?;
    let (_, csrs) = BLOCKS.get(block)?;
    let csr = csrs.get(csrs.partition_point(starts_by).checked_sub(1)?)?;
    csr.locate(offset).map(|(index, element)| (*csr, index, element))
}

macro_rules! access {
    (ro) => {
        $crate::csr::Access::ReadOnly
    };
    (rw) => {
        $crate::csr::Access::ReadWrite
    };
    (wo) => {
        $crate::csr::Access::WriteOnly
    };
    (w1c) => {
        $crate::csr::Access::WriteOneToClear
    };
    (w1s) => {
        $crate::csr::Access::WriteOneToSet
    };
}

macro_rules! or {
    ($default:expr;) => {
        $default
    };
    ($default:expr; $value:expr) => {
        $value
    };
}

/// Writes a block's rows: `NAME = offset [count; stride] x len, access, reset value, "source" { FIELD [high:low], … }`.
macro_rules! csrs {
    ($(
        #[doc = $doc:literal]
        $name:ident = $offset:literal $([$count:literal; $stride:literal])? $(x $len:literal)?,
        $access:ident, reset $reset:literal, $source:literal {
            $($field:ident [$high:literal : $low:literal],)*
        }
    )*) => {
        $(
            #[doc = $doc]
            pub const $name: $crate::csr::Csr = $crate::csr::Csr {
                name: stringify!($name),
                offset: $crate::units::BarOff($offset),
                stride: $crate::csr::or!(8; $($stride)?),
                count: $crate::csr::or!(1; $($count)?),
                len: $crate::csr::or!(1; $($len)?),
                access: $crate::csr::access!($access),
                reset: $reset,
                fields: &[$($name::$field,)*],
                doc: $doc,
                source: $source,
            };

            #[allow(non_snake_case, missing_docs)]
            pub mod $name {
                $(pub const $field: $crate::csr::Field = $crate::csr::Field::new(stringify!($field), $high, $low);)*
            }
        )*

        pub(super) static ALL: &[&$crate::csr::Csr] = &[$(&$name,)*];
    };
}

pub(crate) use {access, csrs, or};
