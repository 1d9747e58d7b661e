//! Requests that are under way: what this endpoint asks of its peers' memory, and what it owes to peers who ask for its own.

use crate::Address;
use crate::atomics::{AtomicOp, Form, Op};
use crate::buffer::Buffer;
use crate::completion::{Completion, Level};
use crate::config::MAX_PAYLOAD;
use crate::memory_kind;
use crate::observe::OneSidedPath;
use crate::observe::explain::Kind;
use crate::one_sided::Remote;
use crate::thresholds::Limits;
use opx_defs::units::Psn;
use opx_defs::wire::opx::Fetch;

/// A write, read or atomic operation on its way.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) context: u64,
    pub(crate) remote: Remote,
    pub(crate) what: What,
    pub(crate) level: Level,
    pub(crate) silent: bool,
    /// Bytes at the target.
    pub(crate) len: usize,
    /// What goes there: empty for a read.
    pub(crate) buffer: Buffer,
    /// Where what comes from there goes, if anything does.
    pub(crate) result: Option<Buffer>,
    /// Bytes at the target that packets have been sent for.
    pub(crate) sent: usize,
    /// Bytes of the result that haven't come; of a write with completion data, whether the target hasn't answered its offer.
    pub(crate) missing: usize,
    /// Packets handed to the reliability protocol and not acknowledged yet.
    pub(crate) unacknowledged: u32,
    /// The last of them.
    pub(crate) last: Psn,
    /// The slowest way that it may go.
    pub(crate) expect: Option<OneSidedPath>,
    /// Waits for the packets before its own to be acknowledged.
    pub(crate) parked: bool,
    pub(crate) patience: Patience,
}

/// What is asked for.
#[derive(Debug)]
pub(crate) enum What {
    /// A write.
    Write,
    /// A write with data for a completion at the target.
    WriteWithData {
        data: u32,
        /// The offer has been sent.
        offered: bool,
        /// The target's name of it and where it wants it, once it has said so.
        granted: Option<(u64, u64)>,
    },
    /// A read.
    Read,
    /// An atomic operation without a result.
    Update(AtomicOp),
    /// An atomic read.
    AtomicRead(AtomicOp),
    /// An atomic operation with a result, and what it compares.
    Fetch(AtomicOp, Option<Buffer>),
}

impl What {
    /// What it is for those who ask how it goes.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Write | Self::WriteWithData { .. } => Kind::Write,
            Self::Read => Kind::Read,
            Self::Update(op) => Kind::Atomic(*op, Form::Update),
            Self::AtomicRead(op) | Self::Fetch(op, None) => Kind::Atomic(*op, Form::Fetch),
            Self::Fetch(op, Some(_)) => Kind::Atomic(*op, Form::Compare),
        }
    }
}

/// The size of a request's packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Bytes at the target that it is about.
    pub(crate) len: usize,
    /// Bytes of payload on the wire; of a packet that only asks, none are counted.
    pub(crate) payload: usize,
}

/// The next packet of a request of which so much is left.
pub(crate) fn packet(kind: Kind, left: usize, limits: &Limits) -> Packet {
    let data = |len: usize, filled: usize| Packet { len, payload: limits.padding(filled).pad(filled) };
    match kind {
        Kind::Write => {
            let len = left.min(limits.data);
            data(len, len)
        }
        Kind::Read => Packet { len: left, payload: 0 },
        // As much as a target can do at its turn, and keep.
        Kind::Atomic(op, Form::Fetch) if op.op() == Op::Read => {
            Packet { len: left.min(whole(&op, MAX_PAYLOAD)), payload: 0 }
        }
        Kind::Atomic(op, Form::Update) => {
            let len = left.min(whole(&op, limits.data));
            data(len, len)
        }
        Kind::Atomic(op, form) => {
            let operands = if form == Form::Compare { 2 } else { 1 };
            // One element at least: a packet that is too long for the processor after all is the engine's.
            let elements = whole(&op, limits.data.saturating_sub(Fetch::FIXED_BYTES) / operands);
            let len = left.min(elements.max(op.datatype().size()));
            data(len, Fetch::FIXED_BYTES + operands * len)
        }
    }
}

/// So many of `bytes` as are whole elements.
fn whole(op: &AtomicOp, bytes: usize) -> usize {
    // Sizes are powers of two.
    bytes & !(op.datatype().size() - 1)
}

/// How long a request has waited for an answer that doesn't come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Patience {
    /// Something of it happened since the last look.
    pub(crate) stirred: bool,
    /// Looks in a row that found nothing new.
    pub(crate) idle: u8,
    /// The target was asked whether it is there.
    pub(crate) asked: bool,
}

impl Patience {
    pub(crate) fn renew(&mut self) {
        (self.stirred, self.asked) = (true, false);
    }
}

impl Request {
    pub(crate) fn new(context: u64, remote: Remote, what: What, buffer: Buffer) -> Self {
        Self {
            context,
            remote,
            what,
            level: Level::default(),
            silent: false,
            len: buffer.len(),
            buffer,
            result: None,
            sent: 0,
            missing: 0,
            unacknowledged: 0,
            last: Psn::new(0),
            expect: None,
            parked: false,
            patience: Patience::default(),
        }
    }

    /// Whether there are packets that can be sent now.
    pub(crate) fn has_more(&self) -> bool {
        match self.what {
            What::WriteWithData { offered, granted, .. } => !offered || granted.is_some() && self.sent < self.len,
            _ => self.sent < self.len,
        }
    }

    /// How far it must have got to be done, if it isn't.
    pub(crate) fn is_done(&self) -> bool {
        let answered = self.missing == 0 && self.sent == self.len;
        // What was asked for and has come needs no other proof.
        answered && (self.result.is_some() || self.level == Level::Inject || self.unacknowledged == 0)
    }

    /// Whether all has been sent and acknowledged, and the target doesn't answer.
    pub(crate) fn waits_for_answer(&self) -> bool {
        self.missing > 0 && self.unacknowledged == 0 && !self.has_more()
    }

    /// Its completion, if it is to have one.
    pub(crate) fn completion(self) -> Option<Completion> {
        // A device that didn't copy is told of by a completion.
        if self.silent && !self.is_faulty() {
            return None;
        }
        let Self { context, what, buffer, result, .. } = self;
        Some(match (what, result) {
            (What::Read, Some(buffer)) => Completion::Read { context, buffer },
            (What::Fetch(_, Some(compare)), Some(result)) => {
                Completion::Fetched { context, operands: [buffer, compare].into_iter().collect(), result }
            }
            (_, Some(result)) => Completion::Fetched { context, operands: buffer, result },
            (_, None) => Completion::Written { context, buffer },
        })
    }

    fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        let compare = if let What::Fetch(_, compare) = &self.what { compare.as_ref() } else { None };
        [Some(&self.buffer), compare, self.result.as_ref()].into_iter().flatten()
    }

    /// Whether one of its buffers is a device's memory.
    #[inline]
    pub(crate) fn is_devices(&self) -> bool {
        self.buffers().any(Buffer::is_devices)
    }

    /// See [`Buffer::is_faulty`].
    pub(crate) fn is_faulty(&self) -> bool {
        memory_kind::has_faults() && self.buffers().any(Buffer::is_faulty)
    }

    /// See [`Buffer::forget_fault_unless`].
    #[cold]
    pub(crate) fn forget_fault_unless(&self, before: bool) {
        self.buffers().for_each(|buffer| buffer.forget_fault_unless(before));
    }

    /// All its buffers, as they came.
    pub(crate) fn into_buffer(self) -> Buffer {
        match (self.what, self.result) {
            (What::Read, Some(result)) => result,
            (What::Fetch(_, compare), result) => [Some(self.buffer), compare, result].into_iter().flatten().collect(),
            (_, Some(result)) => [self.buffer, result].into_iter().collect(),
            (_, None) => self.buffer,
        }
    }
}

/// Bytes that a peer has asked for.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) to: Address,
    /// The peer's name of its request.
    pub(crate) request: u64,
    /// Where the next byte goes at the peer.
    pub(crate) rbuf: u64,
    pub(crate) source: Source,
}

impl Reply {
    /// Takes it out of its place, which stays.
    pub(crate) fn take(&mut self) -> Self {
        let nothing = Source::Saved { bytes: Vec::new(), sent: 0, datatype: 0 };
        Self { source: std::mem::replace(&mut self.source, nothing), ..*self }
    }
}

/// Where they come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A memory region: it is looked up again for each packet.
    Region {
        key: u64,
        /// Of the next byte.
        place: u64,
        left: u64,
        /// An atomic read.
        read: Option<AtomicOp>,
    },
    /// What an atomic operation found, of elements of a datatype.
    Saved {
        bytes: Vec<u8>,
        /// The first of them have been sent: what was asked for in one packet may take several of ours.
        sent: usize,
        datatype: u8,
    },
}

/// A write with completion data that comes in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Landing {
    pub(crate) source: Address,
    /// The peer's name of it.
    pub(crate) request: u64,
    pub(crate) data: u32,
    pub(crate) key: u64,
    pub(crate) place: u64,
    pub(crate) len: u64,
    /// Where it lies at the peer.
    pub(crate) sbuf: u64,
    /// Type and operation of an atomic, as they came.
    pub(crate) atomic: opx_defs::wire::opx::Atomic,
    /// Bytes that haven't come.
    pub(crate) missing: u64,
}
