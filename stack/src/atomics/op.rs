//! The operations and datatypes of atomics, with libfabric's numbers, which are those on the wire.

use std::fmt;

/// What is done to an element of the target. The number is libfabric's `enum fi_op`.
///
/// The first twelve take the target's value and an operand; those from [`Op::Cswap`] on take a value to compare too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Op {
    /// The operand, if it is less than the target.
    Min = 0,
    /// The operand, if it is greater than the target.
    Max = 1,
    /// The sum; of integers modulo their width.
    Sum = 2,
    /// The product; of integers modulo their width.
    Prod = 3,
    /// 1 if either isn't zero, else 0.
    Lor = 4,
    /// 1 if both aren't zero, else 0.
    Land = 5,
    /// Either's bits.
    Bor = 6,
    /// Both's bits.
    Band = 7,
    /// 1 if exactly one isn't zero, else 0.
    Lxor = 8,
    /// The bits in which they differ.
    Bxor = 9,
    /// The target stays; its value is the result.
    Read = 10,
    /// The operand.
    Write = 11,
    /// The operand, if the value to compare equals the target.
    Cswap = 12,
    /// The operand, if the value to compare doesn't equal the target.
    CswapNe = 13,
    /// The operand, if the value to compare is less than or equal to the target.
    CswapLe = 14,
    /// The operand, if the value to compare is less than the target.
    CswapLt = 15,
    /// The operand, if the value to compare is greater than or equal to the target.
    CswapGe = 16,
    /// The operand, if the value to compare is greater than the target.
    CswapGt = 17,
    /// The operand's bits where the value to compare, here a mask, has ones; the target's elsewhere.
    Mswap = 18,
}

impl Op {
    /// All of them, by number.
    pub const ALL: [Self; 19] = [
        Self::Min,
        Self::Max,
        Self::Sum,
        Self::Prod,
        Self::Lor,
        Self::Land,
        Self::Bor,
        Self::Band,
        Self::Lxor,
        Self::Bxor,
        Self::Read,
        Self::Write,
        Self::Cswap,
        Self::CswapNe,
        Self::CswapLe,
        Self::CswapLt,
        Self::CswapGe,
        Self::CswapGt,
        Self::Mswap,
    ];

    /// The number on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The operation of a number, if there is one. libfabric's others (FI_DIFF, the collectives') aren't OPX's.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Whether it takes a value to compare.
    pub const fn compares(self) -> bool {
        self.code() >= Self::Cswap.code()
    }

    /// libfabric's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Min => "FI_MIN",
            Self::Max => "FI_MAX",
            Self::Sum => "FI_SUM",
            Self::Prod => "FI_PROD",
            Self::Lor => "FI_LOR",
            Self::Land => "FI_LAND",
            Self::Bor => "FI_BOR",
            Self::Band => "FI_BAND",
            Self::Lxor => "FI_LXOR",
            Self::Bxor => "FI_BXOR",
            Self::Read => "FI_ATOMIC_READ",
            Self::Write => "FI_ATOMIC_WRITE",
            Self::Cswap => "FI_CSWAP",
            Self::CswapNe => "FI_CSWAP_NE",
            Self::CswapLe => "FI_CSWAP_LE",
            Self::CswapLt => "FI_CSWAP_LT",
            Self::CswapGe => "FI_CSWAP_GE",
            Self::CswapGt => "FI_CSWAP_GT",
            Self::Mswap => "FI_MSWAP",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the elements are, little-endian. The number is libfabric's `enum fi_datatype`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Datatype {
    /// Signed, 1 byte.
    Int8 = 0,
    /// Unsigned, 1 byte.
    Uint8 = 1,
    /// Signed, 2 bytes.
    Int16 = 2,
    /// Unsigned, 2 bytes.
    Uint16 = 3,
    /// Signed, 4 bytes.
    Int32 = 4,
    /// Unsigned, 4 bytes.
    Uint32 = 5,
    /// Signed, 8 bytes.
    Int64 = 6,
    /// Unsigned, 8 bytes.
    Uint64 = 7,
    /// IEEE 754, 4 bytes.
    Float = 8,
    /// IEEE 754, 8 bytes.
    Double = 9,
    /// Two floats: real, imaginary.
    FloatComplex = 10,
    /// Two doubles: real, imaginary.
    DoubleComplex = 11,
    /// x87 extended: 10 bytes of value in 16.
    LongDouble = 12,
    /// Two long doubles: real, imaginary.
    LongDoubleComplex = 13,
}

impl Datatype {
    /// All of them, by number.
    pub const ALL: [Self; 14] = [
        Self::Int8,
        Self::Uint8,
        Self::Int16,
        Self::Uint16,
        Self::Int32,
        Self::Uint32,
        Self::Int64,
        Self::Uint64,
        Self::Float,
        Self::Double,
        Self::FloatComplex,
        Self::DoubleComplex,
        Self::LongDouble,
        Self::LongDoubleComplex,
    ];

    /// The number on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The datatype of a number, if there is one. libfabric's others (FI_INT128, FI_UINT128, the small floats) aren't OPX's.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Bytes of an element.
    pub const fn size(self) -> usize {
        match self {
            Self::Int8 | Self::Uint8 => 1,
            Self::Int16 | Self::Uint16 => 2,
            Self::Int32 | Self::Uint32 | Self::Float => 4,
            Self::Int64 | Self::Uint64 | Self::Double | Self::FloatComplex => 8,
            Self::DoubleComplex | Self::LongDouble => 16,
            Self::LongDoubleComplex => 32,
        }
    }

    /// libfabric's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int8 => "FI_INT8",
            Self::Uint8 => "FI_UINT8",
            Self::Int16 => "FI_INT16",
            Self::Uint16 => "FI_UINT16",
            Self::Int32 => "FI_INT32",
            Self::Uint32 => "FI_UINT32",
            Self::Int64 => "FI_INT64",
            Self::Uint64 => "FI_UINT64",
            Self::Float => "FI_FLOAT",
            Self::Double => "FI_DOUBLE",
            Self::FloatComplex => "FI_FLOAT_COMPLEX",
            Self::DoubleComplex => "FI_DOUBLE_COMPLEX",
            Self::LongDouble => "FI_LONG_DOUBLE",
            Self::LongDoubleComplex => "FI_LONG_DOUBLE_COMPLEX",
        }
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
