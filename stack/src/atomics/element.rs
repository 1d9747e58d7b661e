//! Elements as values: how each datatype is read from bytes and written to them, and its arithmetic, which is C's.

use rustc_apfloat::Float as _;
use rustc_apfloat::ieee::X87DoubleExtended;

/// Bytes of the largest element.
pub const MAX_SIZE: usize = 32;

/// An element's bytes; those beyond its size mean nothing.
pub type Raw = [u8; MAX_SIZE];

/// What every datatype has.
pub trait Element: Copy + PartialEq {
    /// Bytes, padding and all.
    const SIZE: usize;
    /// The value at the beginning of `raw`.
    fn load(raw: &Raw) -> Self;
    /// Puts the value at the beginning of `raw`; padding inside it stays.
    fn store(self, raw: &mut Raw);
    /// Copies a value bit by bit: what C's assignment does.
    fn assign(from: &Raw, to: &mut Raw);
    fn sum(self, other: Self) -> Self;
    fn product(self, other: Self) -> Self;
    /// Whether it is true in C: isn't zero.
    fn is_true(self) -> bool;
    /// What C's `true` and `false` become when they are assigned.
    fn truth(value: bool) -> Self;
}

/// Integers.
pub trait Bits: Element {
    fn or(self, other: Self) -> Self;
    fn and(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn not(self) -> Self;
}

/// Floating point of any width, as complex numbers need it.
pub trait Float: Element + PartialOrd {
    const ZERO: Self;
    const INFINITY: Self;
    fn one() -> Self;
    fn difference(self, other: Self) -> Self;
    fn is_nan(self) -> bool;
    fn is_infinite(self) -> bool;
    /// This magnitude with `sign`'s sign.
    fn with_sign_of(self, sign: Self) -> Self;
    /// Reads the value at byte `at`.
    fn load_at(raw: &Raw, at: usize) -> Self;
    /// Writes the value at byte `at`.
    fn store_at(self, raw: &mut Raw, at: usize);
    /// Bytes from one value to the next.
    const STRIDE: usize;
    /// Bytes of a value that mean something.
    const USED: usize;
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Element for $int {
            const SIZE: usize = size_of::<Self>();
            fn load(raw: &Raw) -> Self {
                let mut bytes = [0; size_of::<Self>()];
                bytes.copy_from_slice(&raw[..size_of::<Self>()]);
                Self::from_le_bytes(bytes)
            }
            fn store(self, raw: &mut Raw) {
                raw[..size_of::<Self>()].copy_from_slice(&self.to_le_bytes());
            }
            fn assign(from: &Raw, to: &mut Raw) {
                Self::load(from).store(to);
            }
            // A sum that C leaves undefined (of signed integers) wraps as gcc's code does.
            fn sum(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            fn product(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            fn is_true(self) -> bool {
                self != 0
            }
            fn truth(value: bool) -> Self {
                value.into()
            }
        }
        impl Bits for $int {
            fn or(self, other: Self) -> Self {
                self | other
            }
            fn and(self, other: Self) -> Self {
                self & other
            }
            fn xor(self, other: Self) -> Self {
                self ^ other
            }
            fn not(self) -> Self {
                !self
            }
        }
    )*};
}

integers!(i8, u8, i16, u16, i32, u32, i64, u64);

/// What `Float::load_at` and the rest of `Element` look like for all floats.
macro_rules! float_element {
    () => {
        const SIZE: usize = Self::STRIDE;
        fn load(raw: &Raw) -> Self {
            Self::load_at(raw, 0)
        }
        fn store(self, raw: &mut Raw) {
            self.store_at(raw, 0);
        }
        // Not by value: a signalling NaN has to stay one.
        fn assign(from: &Raw, to: &mut Raw) {
            to[..Self::USED].copy_from_slice(&from[..Self::USED]);
        }
        fn is_true(self) -> bool {
            self != Self::ZERO
        }
        fn truth(value: bool) -> Self {
            if value { Self::one() } else { Self::ZERO }
        }
    };
}

macro_rules! floats {
    ($($float:ty),*) => {$(
        impl Element for $float {
            float_element!();
            fn sum(self, other: Self) -> Self {
                self + other
            }
            fn product(self, other: Self) -> Self {
                self * other
            }
        }
        impl Float for $float {
            const ZERO: Self = 0.0;
            fn one() -> Self {
                1.0
            }
            const INFINITY: Self = <$float>::INFINITY;
            const STRIDE: usize = size_of::<Self>();
            const USED: usize = size_of::<Self>();
            fn difference(self, other: Self) -> Self {
                self - other
            }
            fn is_nan(self) -> bool {
                <$float>::is_nan(self)
            }
            fn is_infinite(self) -> bool {
                <$float>::is_infinite(self)
            }
            fn with_sign_of(self, sign: Self) -> Self {
                self.copysign(sign)
            }
            fn load_at(raw: &Raw, at: usize) -> Self {
                let mut bytes = [0; size_of::<Self>()];
                bytes.copy_from_slice(&raw[at..at + size_of::<Self>()]);
                Self::from_le_bytes(bytes)
            }
            fn store_at(self, raw: &mut Raw, at: usize) {
                raw[at..at + size_of::<Self>()].copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

floats!(f32, f64);

/// `long double` of the x86-64 ABI: the 80 bits of the x87, little-endian, and 6 bytes of padding that are neither read nor
/// written.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct LongDouble(X87DoubleExtended);

impl LongDouble {
    /// From its 80 bits. What the x87 takes for an invalid operand (an integer bit of 0 where the exponent isn't) is no number
    /// here as it is there.
    fn from_bits(bits: u128) -> Self {
        let integer_bit = bits & 1 << 63 != 0;
        if bits >> 64 & 0x7fff != 0 && !integer_bit {
            return Self(X87DoubleExtended::NAN);
        }
        Self(X87DoubleExtended::from_bits(bits))
    }

    fn to_bits(self) -> u128 {
        self.0.to_bits()
    }
}

impl Element for LongDouble {
    float_element!();
    fn sum(self, other: Self) -> Self {
        Self((self.0 + other.0).value)
    }
    fn product(self, other: Self) -> Self {
        Self((self.0 * other.0).value)
    }
}

impl Float for LongDouble {
    const ZERO: Self = Self(X87DoubleExtended::ZERO);
    fn one() -> Self {
        Self::from_bits(0x3fff << 64 | 1 << 63)
    }
    const INFINITY: Self = Self(X87DoubleExtended::INFINITY);
    const STRIDE: usize = 16;
    const USED: usize = 10;
    fn difference(self, other: Self) -> Self {
        Self((self.0 - other.0).value)
    }
    fn is_nan(self) -> bool {
        self.0.is_nan()
    }
    fn is_infinite(self) -> bool {
        self.0.is_infinite()
    }
    fn with_sign_of(self, sign: Self) -> Self {
        Self(self.0.copy_sign(sign.0))
    }
    fn load_at(raw: &Raw, at: usize) -> Self {
        let mut bytes = [0; 16];
        bytes[..Self::USED].copy_from_slice(&raw[at..at + Self::USED]);
        Self::from_bits(u128::from_le_bytes(bytes))
    }
    fn store_at(self, raw: &mut Raw, at: usize) {
        raw[at..at + Self::USED].copy_from_slice(&self.to_bits().to_le_bytes()[..Self::USED]);
    }
}

/// A complex number of C: real part, then imaginary part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Complex<T> {
    re: T,
    im: T,
}

impl<T: Float> Complex<T> {
    /// What the compiler's `__mulsc3`, `__muldc3` and `__mulxc3` do: the formula, and when that gives no number though an operand
    /// or a partial product was infinite, infinity as C's Annex G.5.1 wants it.
    fn multiply(self, other: Self) -> Self {
        let (Self { re: mut a, im: mut b }, Self { re: mut c, im: mut d }) = (self, other);
        let (ac, bd, ad, bc) = (a.product(c), b.product(d), a.product(d), b.product(c));
        let plain = Self { re: ac.difference(bd), im: ad.sum(bc) };
        if !plain.re.is_nan() || !plain.im.is_nan() {
            return plain;
        }
        // An infinity becomes a 1, what is finite a 0, what is no number a 0, each with its sign.
        let boxed = |x: T| if x.is_infinite() { T::one() } else { T::ZERO }.with_sign_of(x);
        let zeroed = |x: T| if x.is_nan() { T::ZERO.with_sign_of(x) } else { x };
        let mut infinite = false;
        if a.is_infinite() || b.is_infinite() {
            (a, b, c, d) = (boxed(a), boxed(b), zeroed(c), zeroed(d));
            infinite = true;
        }
        if c.is_infinite() || d.is_infinite() {
            (a, b, c, d) = (zeroed(a), zeroed(b), boxed(c), boxed(d));
            infinite = true;
        }
        if !infinite && [ac, bd, ad, bc].iter().any(|x| x.is_infinite()) {
            (a, b, c, d) = (zeroed(a), zeroed(b), zeroed(c), zeroed(d));
            infinite = true;
        }
        if !infinite {
            return plain;
        }
        Self {
            re: T::INFINITY.product(a.product(c).difference(b.product(d))),
            im: T::INFINITY.product(a.product(d).sum(b.product(c))),
        }
    }
}

impl<T: Float> Element for Complex<T> {
    const SIZE: usize = 2 * T::STRIDE;
    fn load(raw: &Raw) -> Self {
        Self { re: T::load_at(raw, 0), im: T::load_at(raw, T::STRIDE) }
    }
    fn store(self, raw: &mut Raw) {
        self.re.store_at(raw, 0);
        self.im.store_at(raw, T::STRIDE);
    }
    fn assign(from: &Raw, to: &mut Raw) {
        for at in [0, T::STRIDE] {
            to[at..at + T::USED].copy_from_slice(&from[at..at + T::USED]);
        }
    }
    fn sum(self, other: Self) -> Self {
        Self { re: self.re.sum(other.re), im: self.im.sum(other.im) }
    }
    fn product(self, other: Self) -> Self {
        self.multiply(other)
    }
    fn is_true(self) -> bool {
        self.re.is_true() || self.im.is_true()
    }
    fn truth(value: bool) -> Self {
        Self { re: T::truth(value), im: T::ZERO }
    }
}
