//! The ways of writes, reads and atomic operations, and which one such an operation goes.

use super::{Explanation, Facts, Reason, Slower};
use crate::Address;
use crate::atomics::{AtomicOp, Form, Op};
use crate::requests::{Packet, packet};
use opx_defs::wire::opx::INJECT_MAX_BYTES;
use std::fmt;

/// A way for what is asked of a peer's memory, in the order of preference: what is possible and comes first is taken.
///
/// One of several packets goes the way of its first one, which is as long as any. The last one may be short enough for the processor, and
/// a short one that would overtake packets which the engine still has goes by the engine, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OneSidedPath {
    /// There are no bytes, so nothing goes (but the offer of a write with completion data).
    Nothing,
    /// Fetched in one copy by the other process: what messages do.
    OneCopy,
    /// In packets through memory that both processes see.
    SharedMemory,
    /// In one packet, which the processor writes to the adapter.
    OnePacket,
    /// One packet asks for it, and the target sends it.
    Answer,
    /// In packets that the target's adapter puts where they belong (TID): what messages do.
    Expected,
    /// In packets that the SDMA engine fetches.
    Sdma,
    /// In packets that the processor writes to the adapter.
    Pio,
}

impl OneSidedPath {
    /// All of them, in order of preference.
    pub const ALL: [Self; 8] = [
        Self::Nothing,
        Self::OneCopy,
        Self::SharedMemory,
        Self::OnePacket,
        Self::Answer,
        Self::Expected,
        Self::Sdma,
        Self::Pio,
    ];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing to do",
            Self::OneCopy => "one copy through shared memory",
            Self::SharedMemory => "packets through shared memory",
            Self::OnePacket => "one packet by PIO",
            Self::Answer => "the target's answer",
            Self::Expected => "expected receive",
            Self::Sdma => "packets by SDMA",
            Self::Pio => "packets by PIO",
        }
    }
}

impl fmt::Display for OneSidedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What is asked of a peer's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To write. With completion data it is offered first, then its target asks for it, and its bytes go as any other's.
    Write,
    /// To read.
    Read,
    /// An atomic operation, by the buffers that it has. One with a result has its operands sent, and its result comes as the target
    /// sends it; only a READ has none.
    Atomic(AtomicOp, Form),
}

impl Kind {
    /// Whether all that is sent is a question.
    fn is_read(self) -> bool {
        match self {
            Self::Read => true,
            Self::Atomic(op, Form::Fetch) => op.op() == Op::Read,
            Self::Write | Self::Atomic(..) => false,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Write => "written",
            Self::Read => "read",
            Self::Atomic(_, Form::Update) => "updated",
            Self::Atomic(_, Form::Fetch) => "fetched",
            Self::Atomic(_, Form::Compare) => "compared",
        }
    }
}

/// A write, a read or an atomic operation that is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OneSided {
    /// Whose memory.
    pub peer: Address,
    /// What is done.
    pub kind: Kind,
    /// Bytes at the peer.
    pub len: usize,
    /// It is made by [`crate::Endpoint::inject_write`] or [`crate::Endpoint::inject_atomic`].
    pub injected: bool,
}

impl OneSided {
    /// `len` bytes at a peer.
    pub const fn new(peer: Address, kind: Kind, len: usize) -> Self {
        Self { peer, kind, len, injected: false }
    }

    /// A write.
    pub const fn write(peer: Address, len: usize) -> Self {
        Self::new(peer, Kind::Write, len)
    }

    /// A read.
    pub const fn read(peer: Address, len: usize) -> Self {
        Self::new(peer, Kind::Read, len)
    }

    /// An atomic operation on `len` bytes of elements.
    pub const fn atomic(peer: Address, op: AtomicOp, form: Form, len: usize) -> Self {
        Self::new(peer, Kind::Atomic(op, form), len)
    }

    /// The same, by [`crate::Endpoint::inject_write`] or [`crate::Endpoint::inject_atomic`].
    #[must_use]
    pub const fn injected(self) -> Self {
        Self { injected: true, ..self }
    }
}

impl fmt::Display for OneSided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, kind, len, injected } = self;
        let call = if *injected { ", injected" } else { "" };
        write!(f, "{len} bytes, {}{call}, at {peer}", kind.name())
    }
}

impl Facts {
    /// The way of an operation, by what the endpoint goes by when it sends its packets; none when it can't be sent at all.
    pub(crate) fn one_sided_path(&self, asked: &OneSided) -> Option<OneSidedPath> {
        let OneSided { kind, len, injected, .. } = *asked;
        let first = packet(kind, len, &self.limits);
        Some(if injected && len > INJECT_MAX_BYTES || self.no_memory == Some(Reason::Ended) {
            return None;
        } else if len == 0 {
            OneSidedPath::Nothing
        } else if self.no_memory.is_none() {
            OneSidedPath::SharedMemory
        } else if kind.is_read() {
            OneSidedPath::Answer
        } else if self.limits.by_engine(first.payload) {
            OneSidedPath::Sdma
        } else if first.len == len {
            OneSidedPath::OnePacket
        } else {
            OneSidedPath::Pio
        })
    }

    /// Why an operation doesn't go a way, whatever others there are.
    pub(crate) fn one_sided_obstacle(&self, path: OneSidedPath, asked: &OneSided) -> Option<Reason> {
        let OneSided { kind, len, injected, .. } = *asked;
        let Packet { len: in_first, payload } = packet(kind, len, &self.limits);
        let by_engine = self.limits.by_engine(payload);
        let too_long = |most, limit| (len > most).then_some(Reason::TooLong { len, most, limit });
        if self.no_memory == Some(Reason::Ended) {
            return self.no_memory;
        }
        match path {
            OneSidedPath::OneCopy | OneSidedPath::Expected => Some(Reason::MessagesOnly),
            _ if injected && len > INJECT_MAX_BYTES => too_long(INJECT_MAX_BYTES, "what is injected"),
            OneSidedPath::Nothing => too_long(0, "no bytes"),
            OneSidedPath::SharedMemory => self.no_memory,
            OneSidedPath::Answer => (!kind.is_read()).then_some(Reason::NotRead),
            _ if kind.is_read() => Some(Reason::Target),
            OneSidedPath::OnePacket if in_first < len => too_long(in_first, self.packet_limit()),
            OneSidedPath::OnePacket | OneSidedPath::Pio if by_engine => {
                Some(Reason::PacketTooLong { payload, most: self.limits.by_processor, limit: self.processor_limit() })
            }
            OneSidedPath::OnePacket | OneSidedPath::Pio => None,
            OneSidedPath::Sdma if by_engine => None,
            OneSidedPath::Sdma if self.thresholds.no_sdma => Some(Reason::Off("no_sdma")),
            OneSidedPath::Sdma => {
                Some(Reason::PacketTooShort { payload, most: self.limits.by_processor, limit: self.processor_limit() })
            }
        }
    }

    /// What sets how long a packet may be.
    fn packet_limit(&self) -> &'static str {
        if self.limits.data == self.thresholds.packet_max {
            "packet_max"
        } else {
            "two thirds of the send context, pio_blocks"
        }
    }

    /// What sets how long a packet may be that the processor writes.
    fn processor_limit(&self) -> &'static str {
        let Self { thresholds, limits, .. } = self;
        let by_length = !thresholds.no_sdma && limits.by_processor == thresholds.pio_max;
        if by_length { "pio_max" } else { "the send context, pio_blocks" }
    }

    /// Whether an operation would go a slower way than `expected`.
    pub(crate) fn slower_one_sided(&self, asked: &OneSided, expected: OneSidedPath) -> Option<Slower<OneSidedPath>> {
        let path = self.one_sided_path(asked).filter(|path| *path > expected)?;
        // What has no obstacle would have been taken before. What is the target's to decide isn't held against us.
        let why = self.one_sided_obstacle(expected, asked).filter(|_| path != OneSidedPath::Answer)?;
        Some(Slower { expected, path, why })
    }

    pub(crate) fn explain_one_sided(&self, asked: OneSided) -> Explanation<OneSided, OneSidedPath> {
        let path = self.one_sided_path(&asked);
        let others = OneSidedPath::ALL.into_iter().filter(|other| Some(*other) != path);
        let rejected = others.map(|other| {
            let obstacle = self.one_sided_obstacle(other, &asked);
            // Nothing is in its way but one that comes first; then there is one.
            (other, obstacle.unwrap_or(Reason::PreferredOneSided(path.unwrap_or(other))))
        });
        Explanation { asked, path, rejected: rejected.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomics::Datatype;
    use crate::thresholds::Thresholds;
    use opx_defs::units::{Blocks, Lid};
    use proptest::prelude::*;

    const PEER: Address = Address { lid: Lid(2), rx: 1 };

    fn facts(thresholds: Thresholds, blocks: u16) -> Facts {
        Facts { no_memory: Some(Reason::OtherNode), thresholds, limits: thresholds.limits(Blocks(blocks)) }
    }

    #[test]
    fn ways_go_by_the_length_of_packets() {
        let usual = Thresholds::default();
        let no_sdma = Thresholds { no_sdma: true, ..usual };
        let sum = AtomicOp::new(Op::Sum, Datatype::Uint64).unwrap();
        let read = AtomicOp::new(Op::Read, Datatype::Uint64).unwrap();
        let swap = AtomicOp::new(Op::Cswap, Datatype::Uint64).unwrap();
        let (fetch, compare) = (Kind::Atomic(sum, Form::Fetch), Kind::Atomic(swap, Form::Compare));
        for (thresholds, blocks, kind, len, path) in [
            (usual, 256, Kind::Write, 0, OneSidedPath::Nothing),
            (usual, 256, Kind::Write, 512, OneSidedPath::OnePacket),
            (usual, 256, Kind::Write, 513, OneSidedPath::Sdma),
            (Thresholds { pio_max: 8192, ..usual }, 256, Kind::Write, 8193, OneSidedPath::Pio),
            (no_sdma, 256, Kind::Write, 8192, OneSidedPath::OnePacket),
            (no_sdma, 256, Kind::Write, 8193, OneSidedPath::Pio),
            // A context of four blocks has room for three of payload.
            (usual, 4, Kind::Write, 192, OneSidedPath::OnePacket),
            (usual, 4, Kind::Write, 193, OneSidedPath::Sdma),
            // What it is asked with comes before the operands, of which a comparison has two.
            (usual, 256, fetch, 496, OneSidedPath::OnePacket),
            (usual, 256, fetch, 504, OneSidedPath::Sdma),
            (usual, 256, compare, 248, OneSidedPath::OnePacket),
            (usual, 256, compare, 256, OneSidedPath::Sdma),
            (usual, 256, Kind::Read, 1, OneSidedPath::Answer),
            (usual, 256, Kind::Atomic(read, Form::Fetch), 8, OneSidedPath::Answer),
        ] {
            let asked = OneSided { kind, ..OneSided::write(PEER, len) };
            assert_eq!(facts(thresholds, blocks).one_sided_path(&asked), Some(path), "{asked} {thresholds:?}");
        }
        let injected = |len| facts(usual, 256).one_sided_path(&OneSided::write(PEER, len).injected());
        assert_eq!([injected(16), injected(17)], [Some(OneSidedPath::OnePacket), None]);
        let near = Facts { no_memory: None, ..facts(usual, 256) };
        assert_eq!(near.one_sided_path(&OneSided::read(PEER, 1 << 20)), Some(OneSidedPath::SharedMemory));
    }

    #[test]
    fn an_explanation_is_read_by_people() {
        let text = facts(Thresholds::default(), 256).explain_one_sided(OneSided::write(PEER, 10_000)).to_string();
        assert_eq!(
            text,
            "10000 bytes, written, at endpoint 0x2/1: packets by SDMA\n  \
             not nothing to do: 10000 bytes are more than 0, the most that go this way (no bytes)\n  \
             not one copy through shared memory: only messages go this way: what is asked of memory goes in packets, each of which \
             is checked against the memory's region\n  \
             not packets through shared memory: the peer is at another LID\n  \
             not one packet by PIO: 10000 bytes are more than 8192, the most that go this way (packet_max)\n  \
             not the target's answer: only reads go this way\n  \
             not expected receive: only messages go this way: what is asked of memory goes in packets, each of which is checked \
             against the memory's region\n  \
             not packets by PIO: packets have 8192 bytes of payload, and the processor writes those of up to 512 (pio_max)"
        );
    }

    proptest! {
        #[test]
        fn every_way_is_taken_or_has_a_reason(
            len in 0usize..40_000,
            what in 0usize..6,
            injected: bool,
            near: bool,
            pio_max in 0usize..10_000,
            no_sdma: bool,
            blocks in 1u16..300,
            packet_max in prop::sample::select(vec![2048usize, 4096, 8192]),
        ) {
            let sum = AtomicOp::new(Op::Sum, Datatype::Uint64).unwrap();
            let read = AtomicOp::new(Op::Read, Datatype::Uint64).unwrap();
            let kind = [
                Kind::Write,
                Kind::Read,
                Kind::Atomic(sum, Form::Update),
                Kind::Atomic(sum, Form::Fetch),
                Kind::Atomic(sum, Form::Compare),
                Kind::Atomic(read, Form::Fetch),
            ][what];
            let len = if what < 2 { len } else { len / 8 * 8 };
            let mut facts = facts(Thresholds { pio_max, no_sdma, packet_max, ..Thresholds::default() }, blocks);
            if near {
                facts.no_memory = None;
            }
            let asked = OneSided { peer: PEER, kind, len, injected };
            let explanation = facts.explain_one_sided(asked);
            let taken = explanation.path;
            prop_assert_eq!(explanation.rejected.len() + usize::from(taken.is_some()), OneSidedPath::ALL.len());
            // The first way that nothing is in the way of is the one that is taken.
            let free = OneSidedPath::ALL.into_iter().find(|path| facts.one_sided_obstacle(*path, &asked).is_none());
            prop_assert_eq!(taken, free);
        }
    }
}
