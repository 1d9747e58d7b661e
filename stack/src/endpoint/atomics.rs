//! Atomic operations on peers' memory: what their owner calls. Their packets are those of [`super::rma`].
//!
//! An update without a result goes as a write that says what it does, one with a result as DATA packets that are each a request of
//! their own, and a READ as a read. OPX splits operands wherever a packet ends, elements too; here every packet has whole ones, so
//! that its target can do them.

use super::Endpoint;
use crate::atomics::{AtomicOp, Form, Op};
use crate::one_sided::{Atomic, Remote, RequestError};
use crate::operations::Rejected;
use crate::requests::{Request, What};
use opx_bus::PciFunction;

impl<B: PciFunction> Endpoint<B> {
    /// Does an atomic operation on a peer's memory. The buffers come back in the completion.
    ///
    /// # Errors
    /// [`crate::SendError::Again`] when there are too many requests, [`RequestError::Atomic`] when the buffers don't fit the
    /// operation; the buffers come back with the error: operand, values to compare and result one after the other.
    ///
    /// ```
    /// # use opx_emu::{Config as Chip, Icode, Lab, Pacing};
    /// # use opx_hw::{Hfi, LinkMode, Options};
    /// # use opx_bus::{PciFunction, SharedMem};
    /// # use opx_stack::{Completion, Config, Endpoint, Remote};
    /// # use opx_stack::regions::{Access, Registration};
    /// # let lab = Lab::new(Pacing::Virtual);
    /// # let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    /// # let hfi = Hfi::open(adapter.bus(), Options::default())?;
    /// # hfi.link_up(LinkMode::Loopback)?;
    /// # let mut a = Endpoint::open(&hfi, Config::default())?;
    /// # let mut b = Endpoint::open(&hfi, Config::default())?;
    /// use opx_stack::Atomic;
    /// use opx_stack::atomics::{AtomicOp, Datatype, Op};
    ///
    /// let region = b.regions().register(Registration::of(SharedMem::new(4096)?, Access::ATOMIC))?;
    /// let counter = Remote { peer: b.address(), key: region.key(), place: 64 };
    /// let sum = AtomicOp::new(Op::Sum, Datatype::Uint64)?;
    ///
    /// a.atomic(Atomic::update(counter, sum, 5u64.to_le_bytes().to_vec(), 1)).unwrap();
    /// a.atomic(Atomic::fetch(counter, sum, 1u64.to_le_bytes().to_vec(), vec![0; 8], 2)).unwrap();
    /// let was = loop {
    ///     a.progress()?;
    ///     b.progress()?;
    ///     if let Some(Completion::Fetched { context: 2, result, .. }) = a.poll_completion() {
    ///         break result;
    ///     }
    ///     hfi.bus().relax();
    /// };
    /// assert_eq!((was, region.memory().read_u64(64)), (5u64.to_le_bytes().to_vec().into(), 6));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn atomic(&mut self, atomic: Atomic) -> Result<(), Rejected<RequestError>> {
        let (form, len) = match atomic.check() {
            Ok(checked) => checked,
            Err(error) => return Err(Rejected { error: error.into(), buffer: atomic.into_buffer() }),
        };
        let Atomic { at, op, operand, compare, result, context, level, silent, expect } = atomic;
        let what = match form {
            Form::Update => What::Update(op),
            Form::Fetch if op.op() == Op::Read => What::AtomicRead(op),
            Form::Fetch | Form::Compare => What::Fetch(op, compare),
        };
        let missing = if result.is_some() { len } else { 0 };
        self.request(Request {
            level,
            silent,
            len,
            missing,
            expect,
            result,
            ..Request::new(context, at, what, operand)
        })
    }

    /// Does an atomic operation without a result, with operands of up to 16 bytes; they are copied and there is no completion:
    /// `fi_inject_atomic`.
    ///
    /// # Errors
    /// As [`Endpoint::atomic`], and [`crate::SendError::TooLong`] for more than 16 bytes.
    pub fn inject_atomic(&mut self, at: Remote, op: AtomicOp, operand: &[u8]) -> Result<(), RequestError> {
        op.check(Form::Update, operand.len(), operand.len(), None, None)?;
        self.inject_put(at, op.to_wire(), operand)
    }
}
