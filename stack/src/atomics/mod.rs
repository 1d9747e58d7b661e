//! Atomic operations on elements in memory: what each does, as libfabric's OPX does it, for whoever has the bytes.
//!
//! An [`AtomicOp`] is an operation and a datatype that has it; a pair that doesn't exist is refused when it is made, where OPX
//! takes it and does nothing. The operation is applied to bytes, element by element; alignment doesn't matter. Nothing here
//! knows of other threads: an operation is atomic when the caller has the bytes for himself. On memory that others reach,
//! [`crate::regions`] sees to that.
//!
//! The semantics are those of the C code on x86-64 in `fi_opx_rma_ops.h`: integers wrap; comparisons with what is no number are
//! false, so MIN and MAX keep a target that is none and ignore an operand that is none; -0 equals 0, so neither replaces the other;
//! logical operations leave 0 or 1 of the datatype; products of complex numbers are infinite where Annex G wants them so. An
//! element that an operation doesn't change isn't written.
//!
//! ```
//! use opx_stack::atomics::{AtomicOp, Datatype, Op};
//!
//! let sum = AtomicOp::new(Op::Sum, Datatype::Uint32)?;
//! let mut counters = [1u32.to_le_bytes(), 2u32.to_le_bytes()].concat();
//! let operands = [10u32.to_le_bytes(), 20u32.to_le_bytes()].concat();
//! let mut before = [0; 8];
//! sum.fetch_apply(&mut counters, &operands, &mut before)?;
//! assert_eq!(counters, [11, 0, 0, 0, 22, 0, 0, 0]);
//! assert_eq!(before, [1, 0, 0, 0, 2, 0, 0, 0]);
//!
//! assert!(AtomicOp::new(Op::Min, Datatype::FloatComplex).is_err());
//! # Ok::<(), opx_stack::atomics::AtomicError>(())
//! ```

mod element;
mod kernel;
mod op;

pub use op::{Datatype, Op};

use kernel::Kernel;
use opx_defs::wire::opx::Atomic;
use std::fmt;

pub(crate) use element::{MAX_SIZE, Raw};

/// Why an atomic operation can't be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AtomicError {
    /// The number of an operation that OPX doesn't have.
    #[error("there is no atomic operation number {0}; the highest is 18, FI_MSWAP")]
    UnknownOp(u8),
    /// The number of a datatype that OPX doesn't have.
    #[error("there is no atomic datatype number {0}; the highest is 13, FI_LONG_DOUBLE_COMPLEX")]
    UnknownDatatype(u8),
    /// The datatype doesn't have the operation.
    #[error(
        "{datatype} has no {op}: bitwise operations are for integers, and complex numbers have no order (of comparisons only \
         FI_CSWAP)"
    )]
    Unsupported {
        /// The operation.
        op: Op,
        /// The datatype.
        datatype: Datatype,
    },
    /// The operation can't be done in this way.
    #[error("{op} can't be done as {form}; {}", .form.takes())]
    Form {
        /// The operation.
        op: Op,
        /// The way.
        form: Form,
    },
    /// The bytes aren't whole elements, or there are none.
    #[error("{len} bytes aren't one or more whole elements of {datatype}, {} bytes each", .datatype.size())]
    Partial {
        /// Bytes given.
        len: usize,
        /// The datatype.
        datatype: Datatype,
    },
    /// A buffer isn't as long as the target.
    #[error("the {what} has {have} bytes where the target has {need}")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Its bytes.
        have: usize,
        /// The target's.
        need: usize,
    },
}

/// A way to do an atomic operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Changes the target.
    Update,
    /// Changes the target and gives what it was.
    Fetch,
    /// Compares, changes the target and gives what it was.
    Compare,
}

impl Form {
    const fn takes(self) -> &'static str {
        match self {
            Self::Update => "that takes FI_MIN to FI_BXOR and FI_ATOMIC_WRITE",
            Self::Fetch => "that takes FI_MIN to FI_ATOMIC_WRITE",
            Self::Compare => "that takes FI_CSWAP to FI_MSWAP",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Update => "an update without a result",
            Self::Fetch => "an update with a result",
            Self::Compare => "a comparison",
        })
    }
}

/// An operation on elements of a datatype that has it.
#[derive(Clone, Copy)]
pub struct AtomicOp {
    op: Op,
    datatype: Datatype,
    kernel: Kernel,
}

impl fmt::Debug for AtomicOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtomicOp").field("op", &self.op).field("datatype", &self.datatype).finish()
    }
}

impl PartialEq for AtomicOp {
    fn eq(&self, other: &Self) -> bool {
        (self.op, self.datatype) == (other.op, other.datatype)
    }
}

impl Eq for AtomicOp {}

impl AtomicOp {
    /// The operation on elements of `datatype`.
    ///
    /// # Errors
    /// [`AtomicError::Unsupported`].
    pub fn new(op: Op, datatype: Datatype) -> Result<Self, AtomicError> {
        let kernel = kernel::kernel(op, datatype).ok_or(AtomicError::Unsupported { op, datatype })?;
        Ok(Self { op, datatype, kernel })
    }

    /// What a packet asks for.
    ///
    /// # Errors
    /// When a number is unknown, or the datatype doesn't have the operation.
    pub fn from_wire(wire: Atomic) -> Result<Self, AtomicError> {
        let op = Op::from_code(wire.op).ok_or(AtomicError::UnknownOp(wire.op))?;
        let datatype = Datatype::from_code(wire.datatype).ok_or(AtomicError::UnknownDatatype(wire.datatype))?;
        Self::new(op, datatype)
    }

    /// As a packet says it.
    pub const fn to_wire(&self) -> Atomic {
        Atomic { datatype: self.datatype.code(), op: self.op.code() }
    }

    /// The operation.
    pub const fn op(&self) -> Op {
        self.op
    }

    /// What the elements are.
    pub const fn datatype(&self) -> Datatype {
        self.datatype
    }

    /// Whether it can be done in this way.
    pub const fn has_form(&self, form: Form) -> bool {
        match form {
            // A read without a result would be nothing.
            Form::Update => !self.op.compares() && !matches!(self.op, Op::Read),
            Form::Fetch => !self.op.compares(),
            Form::Compare => self.op.compares(),
        }
    }

    /// Applies the operation to each element of `target`.
    ///
    /// # Errors
    /// [`AtomicError::Form`] for READ and for comparisons, [`AtomicError::Partial`], [`AtomicError::Length`]; nothing has changed
    /// then.
    pub fn apply(&self, target: &mut [u8], operand: &[u8]) -> Result<(), AtomicError> {
        self.check(Form::Update, target.len(), operand.len(), None, None)?;
        self.each(target, Some(operand), None, None);
        Ok(())
    }

    /// Applies the operation to each element of `target`; `result` gets what they were. A READ takes no operand: an empty one,
    /// or any of the target's length.
    ///
    /// # Errors
    /// As [`AtomicOp::apply`], but READ is welcome.
    pub fn fetch_apply(&self, target: &mut [u8], operand: &[u8], result: &mut [u8]) -> Result<(), AtomicError> {
        self.check(Form::Fetch, target.len(), operand.len(), None, Some(result.len()))?;
        self.each(target, Some(operand).filter(|operand| !operand.is_empty()), None, Some(result));
        Ok(())
    }

    /// Compares, and applies the operation to each element of `target`; `result` gets what they were.
    ///
    /// # Errors
    /// [`AtomicError::Form`] for anything but CSWAP to MSWAP, else as [`AtomicOp::apply`].
    ///
    /// ```
    /// # use opx_stack::atomics::{AtomicOp, Datatype, Op};
    /// let swap = AtomicOp::new(Op::Cswap, Datatype::Int16)?;
    /// let (mut target, mut was) = ([7, 0, 8, 0], [0; 4]);
    /// swap.compare(&mut target, &[7, 0, 7, 0], &[1, 0, 1, 0], &mut was)?;
    /// assert_eq!((target, was), ([1, 0, 8, 0], [7, 0, 8, 0]));
    /// # Ok::<(), opx_stack::atomics::AtomicError>(())
    /// ```
    pub fn compare(
        &self,
        target: &mut [u8],
        compare: &[u8],
        operand: &[u8],
        result: &mut [u8],
    ) -> Result<(), AtomicError> {
        self.check(Form::Compare, target.len(), operand.len(), Some(compare.len()), Some(result.len()))?;
        self.each(target, Some(operand), Some(compare), Some(result));
        Ok(())
    }

    /// Whether buffers of these lengths will do.
    pub(crate) fn check(
        &self,
        form: Form,
        target: usize,
        operand: usize,
        compare: Option<usize>,
        result: Option<usize>,
    ) -> Result<(), AtomicError> {
        if !self.has_form(form) {
            return Err(AtomicError::Form { op: self.op, form });
        }
        // Sizes are powers of two.
        if target == 0 || target & (self.datatype.size() - 1) != 0 {
            return Err(AtomicError::Partial { len: target, datatype: self.datatype });
        }
        let operand = if self.op == Op::Read && operand == 0 { target } else { operand };
        for (what, have) in [("operand", Some(operand)), ("value to compare", compare), ("result", result)] {
            if let Some(have) = have
                && have != target
            {
                return Err(AtomicError::Length { what, have, need: target });
            }
        }
        Ok(())
    }

    /// The new bytes of one element, if it changes.
    pub(crate) fn element(&self, target: &Raw, operand: &Raw, compare: &Raw) -> Option<Raw> {
        (self.kernel)(target, operand, compare)
    }

    /// Goes through elements whose lengths have been checked.
    fn each(&self, target: &mut [u8], operand: Option<&[u8]>, compare: Option<&[u8]>, result: Option<&mut [u8]>) {
        if let Some(result) = result {
            result.copy_from_slice(target);
        }
        let size = self.datatype.size();
        let mut at = 0;
        while let Some(element) = target.get_mut(at..at + size) {
            let (operand, compare) = (raw(operand, at, size), raw(compare, at, size));
            if let Some(new) = self.element(&raw(Some(element), 0, size), &operand, &compare) {
                element.copy_from_slice(&new[..size]);
            }
            at += size;
        }
    }
}

/// The element of `size` bytes at `at`, zeros if there is none.
// Inlined where the size is known.
#[inline(always)]
pub(crate) fn raw(bytes: Option<&[u8]>, at: usize, size: usize) -> Raw {
    let mut raw = [0; MAX_SIZE];
    if let Some(bytes) = bytes.and_then(|bytes| bytes.get(at..at.checked_add(size)?)) {
        raw[..size].copy_from_slice(bytes);
    }
    raw
}

#[cfg(test)]
mod tests;
