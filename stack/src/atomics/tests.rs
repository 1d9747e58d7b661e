//! Every pair of operation and datatype against what C does: written out in Rust for integers and floats, by formula for
//! complex numbers, and in the words of a C program compiled by gcc for long doubles and for the infinite products.

use super::*;
use proptest::prelude::*;

/// What the datatypes have, by operation number: what OPX's dispatch table has, without bits of floats.
const INTEGERS: [u8; 19] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18];
const FLOATS: [u8; 15] = [0, 1, 2, 3, 4, 5, 8, 10, 11, 12, 13, 14, 15, 16, 17];
const COMPLEX: [u8; 8] = [2, 3, 4, 5, 8, 10, 11, 12];

fn op(op: Op, datatype: Datatype) -> AtomicOp {
    AtomicOp::new(op, datatype).unwrap()
}

/// One element through the form that the operation has; the new target.
fn one(op: &AtomicOp, target: &[u8], operand: &[u8], compare: &[u8]) -> Vec<u8> {
    let (mut new, mut result) = (target.to_vec(), vec![0xee; target.len()]);
    if op.op().compares() {
        op.compare(&mut new, compare, operand, &mut result).unwrap();
    } else {
        op.fetch_apply(&mut new, operand, &mut result).unwrap();
    }
    assert_eq!(result, target, "{op:?}");
    new
}

#[test]
fn each_datatype_has_its_operations_and_no_others() {
    for datatype in Datatype::ALL {
        assert_eq!(Datatype::from_code(datatype.code()), Some(datatype));
        let have: Vec<u8> =
            Op::ALL.iter().filter(|op| AtomicOp::new(**op, datatype).is_ok()).map(|op| op.code()).collect();
        let must: Vec<u8> = match datatype.code() {
            0..=7 => INTEGERS.to_vec(),
            8 | 9 | 12 => FLOATS.to_vec(),
            _ => COMPLEX.to_vec(),
        };
        assert_eq!(have, must, "{datatype}");
    }
    let sizes = [1, 1, 2, 2, 4, 4, 8, 8, 4, 8, 8, 16, 16, 32];
    assert_eq!(Datatype::ALL.map(Datatype::size), sizes);
}

#[test]
fn the_numbers_are_libfabrics() {
    // fi_domain.h, enum fi_op and enum fi_datatype.
    let ops = "MIN MAX SUM PROD LOR LAND BOR BAND LXOR BXOR ATOMIC_READ ATOMIC_WRITE CSWAP CSWAP_NE CSWAP_LE CSWAP_LT \
               CSWAP_GE CSWAP_GT MSWAP";
    for (code, name) in ops.split(' ').enumerate() {
        let op = Op::from_code(code as u8).unwrap();
        assert_eq!((op.code(), op.to_string()), (code as u8, format!("FI_{name}")));
    }
    let types = "INT8 UINT8 INT16 UINT16 INT32 UINT32 INT64 UINT64 FLOAT DOUBLE FLOAT_COMPLEX DOUBLE_COMPLEX LONG_DOUBLE \
                 LONG_DOUBLE_COMPLEX";
    for (code, name) in types.split(' ').enumerate() {
        let datatype = Datatype::from_code(code as u8).unwrap();
        assert_eq!((datatype.code(), datatype.to_string()), (code as u8, format!("FI_{name}")));
    }
    assert_eq!((Op::from_code(19), Datatype::from_code(14)), (None, None));
    let sum = AtomicOp::from_wire(Atomic { datatype: 7, op: 2 }).unwrap();
    assert_eq!((sum, sum.to_wire()), (op(Op::Sum, Datatype::Uint64), Atomic { datatype: 7, op: 2 }));
    assert_eq!(AtomicOp::from_wire(Atomic::NONE), Err(AtomicError::UnknownOp(255)));
    assert_eq!(AtomicOp::from_wire(Atomic { datatype: 14, op: 0 }), Err(AtomicError::UnknownDatatype(14)));
}

/// Integers and floats: what the new target is, in Rust's own words.
macro_rules! against_rust {
    ($name:ident, $int:ty, $datatype:ident, $zero:expr, $one:expr, $values:expr, $add:expr, $mul:expr) => {
        proptest! {
            #[test]
            fn $name(
                (t, o, c) in ($values, $values, $values),
                repeat in 1usize..4,
            ) {
                let (add, mul): (fn($int, $int) -> $int, fn($int, $int) -> $int) = ($add, $mul);
                let truth = |value: bool| if value { $one } else { $zero };
                for operation in Op::ALL {
                    let Ok(atomic) = AtomicOp::new(operation, Datatype::$datatype) else { continue };
                    let new: $int = match operation {
                        Op::Min if o < t => o,
                        Op::Max if o > t => o,
                        Op::Min | Op::Max | Op::Read => t,
                        Op::Sum => add(t, o),
                        Op::Prod => mul(t, o),
                        Op::Lor => truth(t != $zero || o != $zero),
                        Op::Land => truth(t != $zero && o != $zero),
                        Op::Lxor => truth((t != $zero) ^ (o != $zero)),
                        Op::Write => o,
                        Op::Cswap => if c == t { o } else { t },
                        Op::CswapNe => if c != t { o } else { t },
                        Op::CswapLe => if c <= t { o } else { t },
                        Op::CswapLt => if c < t { o } else { t },
                        Op::CswapGe => if c >= t { o } else { t },
                        Op::CswapGt => if c > t { o } else { t },
                        Op::Bor | Op::Band | Op::Bxor | Op::Mswap => {
                            let bytes = [t, o, c].map(|value| value.to_le_bytes());
                            let new: Vec<u8> = (0..size_of::<$int>()).map(|i| {
                                let [t, o, c] = [bytes[0][i], bytes[1][i], bytes[2][i]];
                                match operation {
                                    Op::Bor => t | o,
                                    Op::Band => t & o,
                                    Op::Bxor => t ^ o,
                                    _ => o & c | t & !c,
                                }
                            }).collect();
                            <$int>::from_le_bytes(new.try_into().unwrap())
                        }
                    };
                    let many = |value: $int| value.to_le_bytes().repeat(repeat);
                    let have = one(&atomic, &many(t), &many(o), &many(c));
                    let same = have.chunks(size_of::<$int>()).all(|have| {
                        let have = <$int>::from_le_bytes(have.try_into().unwrap());
                        // What is no number may be any.
                        have.to_le_bytes() == new.to_le_bytes() || have != have && new != new
                    });
                    prop_assert!(same, "{:?} {:?} {:?} {:?}: {:?}", operation, t, o, c, have);
                    let mut updated = many(t);
                    prop_assert_eq!(atomic.apply(&mut updated, &many(o)).is_ok(), atomic.has_form(Form::Update));
                    if atomic.has_form(Form::Update) {
                        prop_assert_eq!(updated, have);
                    }
                }
            }
        }
    };
}

macro_rules! integers {
    ($($name:ident $int:ty, $datatype:ident;)*) => {$(
        against_rust!(
            $name, $int, $datatype, 0, 1,
            prop_oneof![any::<$int>(), -2i8 as $int..=3i8 as $int, Just(<$int>::MIN), Just(<$int>::MAX)],
            <$int>::wrapping_add, <$int>::wrapping_mul
        );
    )*};
}

macro_rules! unsigned {
    ($($name:ident $int:ty, $datatype:ident;)*) => {$(
        against_rust!(
            $name, $int, $datatype, 0, 1,
            prop_oneof![any::<$int>(), 0..=3 as $int, Just(<$int>::MAX)],
            <$int>::wrapping_add, <$int>::wrapping_mul
        );
    )*};
}

integers! {
    int8 i8, Int8;
    int16 i16, Int16;
    int32 i32, Int32;
    int64 i64, Int64;
}

unsigned! {
    uint8 u8, Uint8;
    uint16 u16, Uint16;
    uint32 u32, Uint32;
    uint64 u64, Uint64;
}

fn floats32() -> impl Strategy<Value = f32> {
    let special = vec![0.0, -0.0, 1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE / 4.0, f32::MAX];
    prop_oneof![any::<f32>(), -3f32..3.0, prop::sample::select(special)]
}

fn floats64() -> impl Strategy<Value = f64> {
    let special = vec![0.0, -0.0, 1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE / 4.0, f64::MAX];
    prop_oneof![any::<f64>(), -3f64..3.0, prop::sample::select(special)]
}

against_rust!(float, f32, Float, 0.0, 1.0, floats32(), |a, b| a + b, |a, b| a * b);
against_rust!(double, f64, Double, 0.0, 1.0, floats64(), |a, b| a + b, |a, b| a * b);

#[test]
fn what_is_no_number_and_a_negative_zero() {
    for (operation, target, operand, new) in [
        // Comparisons are false: the target stays.
        (Op::Min, 1.0, f64::NAN, 1.0),
        (Op::Max, 1.0, f64::NAN, 1.0),
        (Op::Min, f64::NAN, 1.0, f64::NAN),
        (Op::Max, f64::NAN, 1.0, f64::NAN),
        (Op::Min, 0.0, -0.0, 0.0),
        (Op::Max, -0.0, 0.0, -0.0),
        // Not zero is true.
        (Op::Land, f64::NAN, 5.0, 1.0),
        (Op::Lor, -0.0, 0.0, 0.0),
        (Op::Lxor, f64::NAN, -0.0, 1.0),
    ] {
        let have = one(&op(operation, Datatype::Double), &target.to_le_bytes(), &operand.to_le_bytes(), &[]);
        assert_eq!(have, new.to_le_bytes(), "{operation} {target} {operand}");
    }
    let (target, swapped) = ((-0.0f64).to_le_bytes(), 5.0f64.to_le_bytes());
    assert_eq!(one(&op(Op::Cswap, Datatype::Double), &target, &swapped, &0.0f64.to_le_bytes()), swapped);
    let nan = f64::NAN.to_le_bytes();
    assert_eq!(one(&op(Op::Cswap, Datatype::Double), &nan, &swapped, &nan), nan);
    assert_eq!(one(&op(Op::CswapNe, Datatype::Double), &nan, &swapped, &nan), swapped);
}

#[test]
fn a_write_keeps_every_bit() {
    // A signalling NaN, which arithmetic would make a quiet one.
    let signalling = 0x7ff0_0000_0000_0001u64.to_le_bytes();
    assert_eq!(one(&op(Op::Write, Datatype::Double), &[0; 8], &signalling, &[]), signalling);
    let signalling = 0x7f80_0001u32.to_le_bytes();
    assert_eq!(one(&op(Op::Write, Datatype::Float), &[0; 4], &signalling, &[]), signalling);
}

fn complex64(re: f64, im: f64) -> Vec<u8> {
    [re.to_le_bytes(), im.to_le_bytes()].concat()
}

fn complex32(re: f32, im: f32) -> Vec<u8> {
    [re.to_le_bytes(), im.to_le_bytes()].concat()
}

proptest! {
    #[test]
    fn complex_numbers_by_formula(
        parts in prop::array::uniform6(prop_oneof![-1e3f64..1e3, Just(0.0), Just(-0.0), Just(1.0)]),
        equal: bool,
    ) {
        let [a, b, c, d, e, f] = parts;
        let (e, f) = if equal { (a, b) } else { (e, f) };
        let truth = |re: f64, im: f64| re != 0.0 || im != 0.0;
        for operation in COMPLEX.map(|code| Op::from_code(code).unwrap()) {
            let (re, im) = match operation {
                Op::Sum => (a + c, b + d),
                Op::Prod => (a * c - b * d, a * d + b * c),
                Op::Lor => (f64::from(u8::from(truth(a, b) || truth(c, d))), 0.0),
                Op::Land => (f64::from(u8::from(truth(a, b) && truth(c, d))), 0.0),
                Op::Lxor => (f64::from(u8::from(truth(a, b) != truth(c, d))), 0.0),
                Op::Write => (c, d),
                Op::Cswap if a == e && b == f => (c, d),
                _ => (a, b),
            };
            let double = op(operation, Datatype::DoubleComplex);
            let have = one(&double, &complex64(a, b), &complex64(c, d), &complex64(e, f));
            prop_assert_eq!(have, complex64(re, im), "{}", operation);

            let [a, b, c, d, e, f] = [a, b, c, d, e, f].map(|part| part as f32);
            let (re, im) = match operation {
                Op::Sum => (a + c, b + d),
                Op::Prod => (a * c - b * d, a * d + b * c),
                Op::Write => (c, d),
                Op::Cswap if a == e && b == f => (c, d),
                Op::Cswap | Op::Read => (a, b),
                _ => (re as f32, im as f32),
            };
            let float = op(operation, Datatype::FloatComplex);
            let have = one(&float, &complex32(a, b), &complex32(c, d), &complex32(e, f));
            prop_assert_eq!(have, complex32(re, im), "{}", operation);
        }
    }
}

#[test]
fn infinite_products_of_complex_numbers_are_those_of_c() {
    const INF: f64 = f64::INFINITY;
    const NAN: f64 = f64::NAN;
    // Operands and the product that gcc's __muldc3 gives.
    for ((a, b), (c, d), (re, im)) in [
        ((1.0, 2.0), (3.0, 4.0), (-5.0, 10.0)),
        ((-0.0, 1.0), (1.0, 0.0), (-0.0, 1.0)),
        ((INF, NAN), (1.0, 1.0), (INF, INF)),
        ((INF, INF), (0.0, 1.0), (-INF, INF)),
        ((1.0, 1.0), (NAN, -INF), (INF, -INF)),
        ((1e308, 1e308), (1e308, 1e308), (NAN, INF)),
        ((1e200, -1e200), (1e200, 1e200), (INF, NAN)),
        ((NAN, NAN), (1.0, 1.0), (NAN, NAN)),
        ((INF, 0.0), (0.0, 0.0), (NAN, NAN)),
        ((0.0, INF), (2.0, -3.0), (INF, INF)),
        ((1e308, NAN), (1e308, 1e308), (INF, INF)),
        ((NAN, 1e308), (-1e308, 10.0), (-INF, -INF)),
    ] {
        let same = |have: &[u8], must: f64| {
            let have = f64::from_le_bytes(have.try_into().unwrap());
            have.to_bits() == must.to_bits() || have.is_nan() && must.is_nan()
        };
        let have = one(&op(Op::Prod, Datatype::DoubleComplex), &complex64(a, b), &complex64(c, d), &[]);
        assert!(same(&have[..8], re) && same(&have[8..], im), "({a}, {b}) * ({c}, {d}) = {have:?}");
    }
}

/// The 16 bytes of a long double, with padding that shows whether it is touched.
fn long(bits: u128, padding: u8) -> Vec<u8> {
    let mut bytes = bits.to_le_bytes().to_vec();
    bytes[10..].fill(padding);
    bytes
}

fn is_nan(bits: u128) -> bool {
    bits >> 64 & 0x7fff == 0x7fff && bits & 0xffff_ffff_ffff_ffff != 1 << 63
}

#[test]
fn long_doubles_as_gcc_computes_them() {
    // Two numbers, their sum, their product, and whether the first is less than, equal to, greater than the second.
    const ROWS: [(u128, u128, u128, u128, bool, bool, bool); 15] = [
        // 1/3 and pi
        (
            0x3ffdaaaaaaaaaaaaaaab,
            0x4000c90fdaa22168c235,
            0x4000de652ff776be178a,
            0x3fff860a91c16b9b2c24,
            true,
            false,
            false,
        ),
        // Halfway between 1 and the next: to the even one.
        (
            0x3fff8000000000000000,
            0x3fbf8000000000000000,
            0x3fff8000000000000000,
            0x3fbf8000000000000000,
            false,
            false,
            true,
        ),
        (
            0x3fff8000000000000001,
            0x3fbf8000000000000000,
            0x3fff8000000000000002,
            0x3fbf8000000000000001,
            false,
            false,
            true,
        ),
        // The largest
        (
            0x7ffeffffffffffffffff,
            0x7ffeffffffffffffffff,
            0x7fff8000000000000000,
            0x7fff8000000000000000,
            false,
            true,
            false,
        ),
        // The smallest normal one and a half; denormals
        (
            0x00018000000000000000,
            0x3ffe8000000000000000,
            0x3ffe8000000000000000,
            0x00004000000000000000,
            true,
            false,
            false,
        ),
        (
            0x00000000000000000001,
            0x00000000000000000003,
            0x00000000000000000004,
            0x00000000000000000000,
            true,
            false,
            false,
        ),
        (
            0x00018000000000000000,
            0x80006000000000000000,
            0x00002000000000000000,
            0x80000000000000000000,
            false,
            false,
            true,
        ),
        // Zeros
        (
            0x80000000000000000000,
            0x00000000000000000000,
            0x00000000000000000000,
            0x80000000000000000000,
            false,
            true,
            false,
        ),
        (
            0x80000000000000000000,
            0x80000000000000000000,
            0x80000000000000000000,
            0x00000000000000000000,
            false,
            true,
            false,
        ),
        // Infinities
        (
            0x7fff8000000000000000,
            0xffff8000000000000000,
            0xffffc000000000000000,
            0xffff8000000000000000,
            false,
            false,
            true,
        ),
        (
            0x00000000000000000000,
            0x7fff8000000000000000,
            0x7fff8000000000000000,
            0xffffc000000000000000,
            true,
            false,
            false,
        ),
        // -1.5 and 2.25; 2^63 + 1 and 2^64 - 1; no number; 0.1 and -0.3
        (
            0xbfffc000000000000000,
            0x40009000000000000000,
            0x3ffec000000000000000,
            0xc000d800000000000000,
            true,
            false,
            false,
        ),
        (
            0x403e8000000000000001,
            0x403effffffffffffffff,
            0x403fc000000000000000,
            0x407e8000000000000000,
            true,
            false,
            false,
        ),
        (
            0x7fffc000000000000000,
            0x3fff8000000000000000,
            0x7fffc000000000000000,
            0x7fffc000000000000000,
            false,
            false,
            false,
        ),
        (
            0x3ffbcccccccccccccccd,
            0xbffd999999999999999a,
            0xbffcccccccccccccccce,
            0xbff9f5c28f5c28f5c290,
            false,
            false,
            true,
        ),
    ];
    for (a, b, sum, product, less, equal, greater) in ROWS {
        let (target, operand) = (long(a, 0x11), long(b, 0x22));
        let through = |operation, compare: u128| {
            one(&op(operation, Datatype::LongDouble), &target, &operand, &long(compare, 0x33))
        };
        // Padding of the target stays what it was.
        let same = |have: Vec<u8>, must: u128| {
            let bits =
                u128::from_le_bytes(long(u128::from_le_bytes(have.clone().try_into().unwrap()), 0).try_into().unwrap());
            have[10..] == [0x11; 6] && (bits == must || is_nan(bits) && is_nan(must))
        };
        assert!(same(through(Op::Sum, 0), sum), "{a:x} + {b:x} = {:x?}", through(Op::Sum, 0));
        assert!(same(through(Op::Prod, 0), product), "{a:x} * {b:x} = {:x?}", through(Op::Prod, 0));
        assert!(same(through(Op::Write, 0), b) && same(through(Op::Read, 0), a));
        assert!(same(through(Op::Min, 0), if greater { b } else { a }));
        assert!(same(through(Op::Max, 0), if less { b } else { a }));
        // Here the first is the target, and what is compared with it is the second.
        for (operation, swaps) in [
            (Op::Cswap, equal),
            (Op::CswapNe, !equal),
            (Op::CswapLe, greater || equal),
            (Op::CswapLt, greater),
            (Op::CswapGe, less || equal),
            (Op::CswapGt, less),
        ] {
            assert!(same(through(operation, b), if swaps { b } else { a }), "{operation} {a:x} {b:x}");
        }
        const ONE: u128 = 0x3fff_8000_0000_0000_0000;
        let (p, q) = (a << 49 != 0, b << 49 != 0);
        for (operation, truth) in [(Op::Lor, p || q), (Op::Land, p && q), (Op::Lxor, p != q)] {
            assert!(same(through(operation, 0), if truth { ONE } else { 0 }), "{operation} {a:x} {b:x}");
        }
    }
}

#[test]
fn encodings_that_the_x87_refuses_are_no_numbers() {
    // Pseudo-infinity, pseudo-NaN, unnormal.
    for bits in [0x7fff_0000_0000_0000_0000u128, 0x7fff_0000_0000_0000_0001, 0x3fff_4000_0000_0000_0000] {
        let strange = long(bits, 0);
        let one_half = long(0x3ffe_8000_0000_0000_0000, 0);
        let max = op(Op::Max, Datatype::LongDouble);
        assert_eq!(one(&max, &strange, &one_half, &[]), strange);
        assert_eq!(one(&max, &one_half, &strange, &[]), one_half);
        let sum = one(&op(Op::Sum, Datatype::LongDouble), &strange, &one_half, &[]);
        assert!(is_nan(u128::from_le_bytes(sum.try_into().unwrap())));
    }
    // A pseudo-denormal is the smallest normal number in other bits.
    let (pseudo, normal) = (long(0x8000_0000_0000_0000, 0), long(0x1_8000_0000_0000_0000, 0));
    let swapped = long(0x3ffe_8000_0000_0000_0000, 0);
    assert_eq!(one(&op(Op::Cswap, Datatype::LongDouble), &pseudo, &swapped, &normal), swapped);
}

#[test]
fn complex_long_doubles_as_gcc_computes_them() {
    // Real and imaginary parts of two numbers and of their product.
    const ROWS: [[u128; 6]; 5] = [
        [
            0x3ffdaaaaaaaaaaaaaaab,
            0x4000c90fdaa22168c235,
            0xc000c90fdaa22168c235,
            0x3ffbcccccccccccccccd,
            0xbfffae40f0aea57cec95,
            0xc0029d615dc569a66a4a,
        ],
        [
            0x7fff8000000000000000,
            0x7fffc000000000000000,
            0x3fff8000000000000000,
            0x3fff8000000000000000,
            0x7fff8000000000000000,
            0x7fff8000000000000000,
        ],
        [
            0x3fff8000000000000000,
            0x40008000000000000000,
            0x4000c000000000000000,
            0x40018000000000000000,
            0xc001a000000000000000,
            0x4002a000000000000000,
        ],
        [
            0x7ffeffffffffffffffff,
            0x7ffeffffffffffffffff,
            0x7ffeffffffffffffffff,
            0x7ffeffffffffffffffff,
            0xffffc000000000000000,
            0x7fff8000000000000000,
        ],
        [
            0x3fff8000000000000000,
            0x3fff8000000000000000,
            0x7fffc000000000000000,
            0xffff8000000000000000,
            0x7fff8000000000000000,
            0xffff8000000000000000,
        ],
    ];
    for [a, b, c, d, re, im] in ROWS {
        let target = [long(a, 0x11), long(b, 0x22)].concat();
        let operand = [long(c, 0x33), long(d, 0x44)].concat();
        let have = one(&op(Op::Prod, Datatype::LongDoubleComplex), &target, &operand, &[]);
        for (have, must, padding) in [(&have[..16], re, 0x11), (&have[16..], im, 0x22)] {
            let bits = u128::from_le_bytes(have.try_into().unwrap()) << 48 >> 48;
            assert!(bits == must || is_nan(bits) && is_nan(must), "{bits:x} where gcc has {must:x}");
            assert_eq!(have[10..], [padding; 6]);
        }
        let swap = op(Op::Cswap, Datatype::LongDoubleComplex);
        let swapped = one(&swap, &target, &operand, &target);
        assert_eq!(
            swapped[..10] == operand[..10] && swapped[16..26] == operand[16..26],
            ![a, b].map(is_nan).contains(&true)
        );
    }
}

/// A double as a long double: every one is exact.
fn widen(value: f64) -> u128 {
    let (bits, sign) = (value.to_bits() & !(1 << 63), u128::from(value.to_bits() >> 63) << 79);
    let (exponent, fraction) = (bits >> 52, bits & ((1 << 52) - 1));
    sign | match (exponent, fraction) {
        (0, 0) => 0,
        (0, _) => {
            let shift = fraction.leading_zeros();
            u128::from(15360 + 12 - u64::from(shift) + 1) << 64 | u128::from(fraction << shift)
        }
        (0x7ff, 0) => 0x7fff << 64 | 1 << 63,
        (0x7ff, _) => 0x7fff << 64 | 3 << 62,
        _ => u128::from(exponent + 15360) << 64 | 1 << 63 | u128::from(fraction << 11),
    }
}

proptest! {
    #[test]
    fn long_doubles_agree_with_doubles_where_those_are_exact(
        a in -0x40_0000i32..0x40_0000, b in -0x40_0000i32..0x40_0000, scale in -200i32..200, t in floats64(), o in floats64(), c in floats64(),
    ) {
        // 23 bits each: sum and product fit 53.
        let scale = 2f64.powi(scale);
        let (x, y) = (f64::from(a) * scale, f64::from(b) * scale);
        for (operation, exact) in [(Op::Sum, x + y), (Op::Prod, x * y)] {
            let have = one(&op(operation, Datatype::LongDouble), &long(widen(x), 0), &long(widen(y), 0), &[]);
            prop_assert_eq!(have, long(widen(exact), 0), "{} {} {}", operation, x, y);
        }
        // Comparisons are exact for all doubles.
        for operation in [0, 1, 12, 13, 14, 15, 16, 17].map(|code| Op::from_code(code).unwrap()) {
            let double = one(&op(operation, Datatype::Double), &t.to_le_bytes(), &o.to_le_bytes(), &c.to_le_bytes());
            let double = f64::from_le_bytes(double.try_into().unwrap());
            let [t, o, c] = [t, o, c].map(|value| long(widen(value), 0));
            let have = one(&op(operation, Datatype::LongDouble), &t, &o, &c);
            prop_assert_eq!(have, long(widen(double), 0), "{}", operation);
        }
    }

    #[test]
    fn no_bytes_do_harm(
        wire: (u8, u8), target in prop::collection::vec(any::<u8>(), 0..130), lengths: (u8, u8, u8), form in 0..3,
    ) {
        let (datatype, op) = (wire.0 % 16, wire.1 % 21);
        let Ok(atomic) = AtomicOp::from_wire(Atomic { datatype, op }) else { return Ok(()) };
        // Half of the buffers have the target's length.
        let buffer = |length: u8| vec![length; if length < 128 { target.len() } else { usize::from(length - 128) }];
        let (operand, compare, mut result) = (buffer(lengths.0), buffer(lengths.1), buffer(lengths.2));
        let mut new = target.clone();
        let done = match form {
            0 => atomic.apply(&mut new, &operand),
            1 => atomic.fetch_apply(&mut new, &operand, &mut result),
            _ => atomic.compare(&mut new, &compare, &operand, &mut result),
        };
        let form = [Form::Update, Form::Fetch, Form::Compare][form as usize];
        match done {
            Ok(()) => {
                prop_assert!(atomic.has_form(form) && !target.is_empty());
                prop_assert!(form == Form::Update || result == target);
            }
            Err(error) => {
                prop_assert_eq!(&new, &target);
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let sum = op(Op::Sum, Datatype::Uint32);
    let partial = |len| Err(AtomicError::Partial { len, datatype: Datatype::Uint32 });
    assert_eq!(sum.apply(&mut [0; 6], &[0; 6]), partial(6));
    assert_eq!(sum.apply(&mut [], &[]), partial(0));
    assert_eq!(sum.apply(&mut [0; 4], &[0; 8]), Err(AtomicError::Length { what: "operand", have: 8, need: 4 }));
    let mut result = [0; 8];
    let short = Err(AtomicError::Length { what: "result", have: 8, need: 4 });
    assert_eq!(sum.fetch_apply(&mut [0; 4], &[0; 4], &mut result), short);
    let form = |op, form| Err(AtomicError::Form { op, form });
    assert_eq!(sum.compare(&mut [0; 4], &[0; 4], &[0; 4], &mut [0; 4]), form(Op::Sum, Form::Compare));
    let swap = op(Op::Cswap, Datatype::Uint32);
    assert_eq!(swap.apply(&mut [0; 4], &[0; 4]), form(Op::Cswap, Form::Update));
    let long = AtomicError::Length { what: "value to compare", have: 2, need: 4 };
    assert_eq!(swap.compare(&mut [0; 4], &[0; 2], &[0; 4], &mut [0; 4]), Err(long));
    let read = op(Op::Read, Datatype::Uint32);
    assert_eq!(read.apply(&mut [0; 4], &[0; 4]), form(Op::Read, Form::Update));
    let (mut target, mut result) = ([1, 2, 3, 4], [0; 4]);
    assert_eq!(read.fetch_apply(&mut target, &[], &mut result), Ok(()));
    assert_eq!((target, result), ([1, 2, 3, 4], [1, 2, 3, 4]));
}
