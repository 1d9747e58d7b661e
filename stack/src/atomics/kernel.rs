//! What an operation does to one element: a function for each pair of operation and datatype that there is.

use super::element::{Bits, Complex, Element, LongDouble, Raw};
use super::{Datatype, Op};

/// A kernel that stores a function of target and operand.
macro_rules! combine {
    ($type:ty, |$target:ident, $operand:ident| $value:expr) => {
        |target, operand, _| {
            let ($target, $operand) = (<$type>::load(target), <$type>::load(operand));
            Some(stored::<$type>($value, target))
        }
    };
}

/// A kernel that stores the operand if the value to compare is in a relation to the target.
macro_rules! swap_if {
    ($type:ty, $relation:tt) => {
        |target, operand, compare| replace::<$type>(<$type>::load(compare) $relation <$type>::load(target), operand, target)
    };
}

/// The target's new value, if it gets one: from the old one, the operand and the value to compare.
pub type Kernel = fn(target: &Raw, operand: &Raw, compare: &Raw) -> Option<Raw>;

/// The function of a pair, if the datatype has the operation.
///
/// Bitwise operations are the integers' alone. libfabric's OPX has them for floats too (wrongly so for those of 16 and 32 bytes:
/// `fi_opx_rma_ops.h:FI_OPX_RX_ATOMIC_DO_BXOR` goes over some words twice). Complex numbers have no order, and CSWAP_NE isn't
/// theirs either: OPX has a `fi_opx_rx_atomic_NOOP` for all of these, so that a peer would take them and do nothing.
pub fn kernel(op: Op, datatype: Datatype) -> Option<Kernel> {
    match datatype {
        Datatype::Int8 => integer::<i8>(op),
        Datatype::Uint8 => integer::<u8>(op),
        Datatype::Int16 => integer::<i16>(op),
        Datatype::Uint16 => integer::<u16>(op),
        Datatype::Int32 => integer::<i32>(op),
        Datatype::Uint32 => integer::<u32>(op),
        Datatype::Int64 => integer::<i64>(op),
        Datatype::Uint64 => integer::<u64>(op),
        Datatype::Float => ordered::<f32>(op),
        Datatype::Double => ordered::<f64>(op),
        Datatype::FloatComplex => any::<Complex<f32>>(op),
        Datatype::DoubleComplex => any::<Complex<f64>>(op),
        Datatype::LongDouble => ordered::<LongDouble>(op),
        Datatype::LongDoubleComplex => any::<Complex<LongDouble>>(op),
    }
}

fn integer<T: Bits + PartialOrd>(op: Op) -> Option<Kernel> {
    Some(match op {
        Op::Bor => combine!(T, |target, operand| target.or(operand)),
        Op::Band => combine!(T, |target, operand| target.and(operand)),
        Op::Bxor => combine!(T, |target, operand| target.xor(operand)),
        Op::Mswap => |target, operand, mask| {
            let (old, new, mask) = (T::load(target), T::load(operand), T::load(mask));
            Some(stored(new.and(mask).or(old.and(mask.not())), target))
        },
        _ => return ordered::<T>(op),
    })
}

fn ordered<T: Element + PartialOrd>(op: Op) -> Option<Kernel> {
    Some(match op {
        Op::Min => |target, operand, _| replace::<T>(T::load(operand) < T::load(target), operand, target),
        Op::Max => |target, operand, _| replace::<T>(T::load(operand) > T::load(target), operand, target),
        Op::CswapNe => swap_if!(T, !=),
        Op::CswapLe => swap_if!(T, <=),
        Op::CswapLt => swap_if!(T, <),
        Op::CswapGe => swap_if!(T, >=),
        Op::CswapGt => swap_if!(T, >),
        _ => return any::<T>(op),
    })
}

fn any<T: Element>(op: Op) -> Option<Kernel> {
    Some(match op {
        Op::Sum => combine!(T, |target, operand| target.sum(operand)),
        Op::Prod => combine!(T, |target, operand| target.product(operand)),
        Op::Lor => combine!(T, |target, operand| T::truth(target.is_true() || operand.is_true())),
        Op::Land => combine!(T, |target, operand| T::truth(target.is_true() && operand.is_true())),
        Op::Lxor => combine!(T, |target, operand| T::truth(target.is_true() != operand.is_true())),
        Op::Read => |_, _, _| None,
        Op::Write => |target, operand, _| replace::<T>(true, operand, target),
        Op::Cswap => swap_if!(T, ==),
        _ => return None,
    })
}

/// The target with `value` in it.
fn stored<T: Element>(value: T, target: &Raw) -> Raw {
    let mut raw = copied::<T>(target);
    value.store(&mut raw);
    raw
}

/// The target with the operand in it, if `condition` holds.
fn replace<T: Element>(condition: bool, operand: &Raw, target: &Raw) -> Option<Raw> {
    condition.then(|| {
        let mut raw = copied::<T>(target);
        T::assign(operand, &mut raw);
        raw
    })
}

/// The element, padding and all. More of it was hardly written yet: the processor would wait for that.
#[inline(always)]
fn copied<T: Element>(from: &Raw) -> Raw {
    let mut raw = Raw::default();
    raw[..T::SIZE].copy_from_slice(&from[..T::SIZE]);
    raw
}
