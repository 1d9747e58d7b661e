//! What is asked of a peer's memory: writes, reads and atomic operations, as the owner gives them to an endpoint.

use crate::Address;
use crate::atomics::{AtomicError, AtomicOp, Form};
use crate::buffer::Buffer;
use crate::completion::Level;
use crate::observe::OneSidedPath;
use crate::observe::explain::Slower;
use crate::operations::SendError;
use crate::regions::RegionError;

/// A place in a peer's memory region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Remote {
    /// Whose.
    pub peer: Address,
    /// The region's key, which the peer has given away.
    pub key: u64,
    /// Where in the region: an offset or an address, as the peer has registered it ([`crate::regions::Base`]).
    pub place: u64,
}

/// A write to a peer's memory: FI_WRITE.
///
/// OPX has no way to say that a peer refuses it. A key that isn't known, a place outside or a missing right are told to the
/// peer's owner ([`crate::Endpoint::poll_refusal`]), and the write completes as if it had been done. Only one with completion data
/// fails then, with [`crate::OperationError::Unanswered`], if the peer refuses it at its beginning.
///
/// ```
/// use opx_stack::{Address, Level, Remote, Write};
/// # use opx_defs::units::Lid;
/// # let peer = Address { lid: Lid(1), rx: 5 };
/// let to = Remote { peer, key: 0x1234, place: 64 };
/// let write = Write { level: Level::Delivery, ..Write::new(to, b"hello".to_vec(), 1) };
/// assert_eq!(write.data, None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where to.
    pub to: Remote,
    /// What.
    pub buffer: Buffer,
    /// Data for a completion at the peer (FI_REMOTE_CQ_DATA): [`crate::Completion::RemoteWrite`].
    pub data: Option<u32>,
    /// Comes back with the completion.
    pub context: u64,
    /// How far it must have got.
    pub level: Level,
    /// No completion unless it fails. The buffer is dropped then.
    pub silent: bool,
    /// The slowest way that it may go, in place of [`crate::Config::expect_one_sided`].
    pub expect: Option<OneSidedPath>,
}

impl Write {
    /// A write with nothing special.
    pub fn new(to: Remote, buffer: impl Into<Buffer>, context: u64) -> Self {
        Self { to, buffer: buffer.into(), data: None, context, level: Level::default(), silent: false, expect: None }
    }
}

/// A read of a peer's memory: FI_READ. It completes when all of its bytes have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Where from.
    pub from: Remote,
    /// Where it goes: as many bytes as are read.
    pub buffer: Buffer,
    /// Comes back with the completion.
    pub context: u64,
    /// No completion unless it fails. The buffer is dropped then.
    pub silent: bool,
    /// The slowest way that it may go, in place of [`crate::Config::expect_one_sided`].
    pub expect: Option<OneSidedPath>,
}

impl Read {
    /// A read with nothing special.
    pub fn new(from: Remote, buffer: impl Into<Buffer>, context: u64) -> Self {
        Self { from, buffer: buffer.into(), context, silent: false, expect: None }
    }
}

/// An atomic operation on a peer's memory: FI_ATOMIC. Which form it has follows from the buffers that there are; those that there
/// are have one length, in whole elements.
///
/// A peer that refuses an update without a result tells its sender nothing, see [`Write`].
///
/// ```
/// use opx_stack::atomics::{AtomicOp, Datatype, Op};
/// use opx_stack::{Address, Atomic, Remote};
/// # use opx_defs::units::Lid;
/// # let peer = Address { lid: Lid(1), rx: 5 };
/// let counter = Remote { peer, key: 0x1234, place: 64 };
/// let sum = AtomicOp::new(Op::Sum, Datatype::Uint64)?;
/// let update = Atomic::update(counter, sum, 1u64.to_le_bytes().to_vec(), 1);
/// let fetch = Atomic::fetch(counter, sum, 1u64.to_le_bytes().to_vec(), vec![0; 8], 2);
/// assert!(update.result.is_none() && fetch.result.is_some());
/// # Ok::<(), opx_stack::atomics::AtomicError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Atomic {
    /// The elements.
    pub at: Remote,
    /// What is done to each.
    pub op: AtomicOp,
    /// An operand for each; empty for READ.
    pub operand: Buffer,
    /// A value to compare for each (a mask for MSWAP).
    pub compare: Option<Buffer>,
    /// Where what each was goes.
    pub result: Option<Buffer>,
    /// Comes back with the completion.
    pub context: u64,
    /// How far an update without a result must have got. One with a result completes when that has come.
    pub level: Level,
    /// No completion unless it fails. The buffers are dropped then.
    pub silent: bool,
    /// The slowest way that it may go, in place of [`crate::Config::expect_one_sided`].
    pub expect: Option<OneSidedPath>,
}

impl Atomic {
    /// Changes the elements: `fi_atomic`.
    pub fn update(at: Remote, op: AtomicOp, operand: impl Into<Buffer>, context: u64) -> Self {
        let operand = operand.into();
        Self {
            at,
            op,
            operand,
            compare: None,
            result: None,
            context,
            level: Level::default(),
            silent: false,
            expect: None,
        }
    }

    /// Changes the elements and gives what they were: `fi_fetch_atomic`.
    pub fn fetch(
        at: Remote,
        op: AtomicOp,
        operand: impl Into<Buffer>,
        result: impl Into<Buffer>,
        context: u64,
    ) -> Self {
        Self { result: Some(result.into()), ..Self::update(at, op, operand, context) }
    }

    /// Compares, changes the elements and gives what they were: `fi_compare_atomic`.
    pub fn compare(
        at: Remote,
        op: AtomicOp,
        compare: impl Into<Buffer>,
        operand: impl Into<Buffer>,
        result: impl Into<Buffer>,
        context: u64,
    ) -> Self {
        Self { compare: Some(compare.into()), ..Self::fetch(at, op, operand, result, context) }
    }

    /// Its form, and its bytes at the target.
    pub(crate) fn check(&self) -> Result<(Form, usize), AtomicError> {
        let form = match (&self.compare, &self.result) {
            (Some(_), _) => Form::Compare,
            (None, Some(_)) => Form::Fetch,
            (None, None) => Form::Update,
        };
        let len = self.result.as_ref().map_or(self.operand.len(), Buffer::len);
        let result = (form != Form::Update).then(|| self.result.as_ref().map_or(0, Buffer::len));
        let compare = self.compare.as_ref().map(Buffer::len);
        self.op.check(form, len, self.operand.len(), compare, result)?;
        Ok((form, len))
    }

    /// Its buffers: operand, value to compare and result one after the other.
    pub(crate) fn into_buffer(self) -> Buffer {
        match (self.compare, self.result) {
            (None, None) => self.operand,
            (compare, result) => [Some(self.operand), compare, result].into_iter().flatten().collect(),
        }
    }
}

/// Why a write, a read or an atomic operation wasn't accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Nothing can be sent to the peer now, or ever.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The atomic operation can't be.
    #[error(transparent)]
    Atomic(#[from] AtomicError),
    /// It would go a slower way than was asked for.
    #[error(transparent)]
    Slower(Slower<OneSidedPath>),
    /// No memory is there.
    #[error("{len} bytes at place {place:#x} go beyond the end of all memory; check place and length")]
    Place {
        /// Where they would begin.
        place: u64,
        /// How many they are.
        len: usize,
    },
}

/// A peer's packet that this endpoint didn't obey, see [`crate::Endpoint::poll_refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Whose.
    pub source: Address,
    /// What it asked for.
    pub asked: Asked,
    /// Why it was refused.
    pub error: RegionError,
}

/// What a packet asks of the memory of the endpoint that it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To write.
    Write,
    /// To read.
    Read,
    /// An atomic operation.
    Atomic,
}
