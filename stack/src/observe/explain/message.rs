//! The ways of messages, and which one a message goes.

use super::{Explanation, Facts, Reason, Slower};
use crate::Address;
use crate::thresholds::Protocol;
use opx_defs::wire::opx::INJECT_MAX_BYTES;
use std::fmt;

/// A way for a message, from the quickest to set up and the one that costs least a byte to the slowest. The order is that of
/// preference: what is possible and comes first is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Path {
    /// Through memory that both processes see.
    SharedMemory,
    /// In the header of one packet: up to 16 bytes, copied.
    Inject,
    /// In one packet; up to 16 bytes in its header.
    Eager,
    /// In several packets, without asking first.
    MultiPacket,
    /// Offered; its data goes by SDMA, and the receiver's adapter writes it where it belongs (TID).
    RendezvousTid,
    /// Offered; its data goes by SDMA and the receiver copies it.
    RendezvousSdma,
    /// Offered; the processor writes its data to the adapter, and the receiver copies it.
    RendezvousPio,
}

impl Path {
    /// All of them, in order of preference.
    pub const ALL: [Self; 7] = [
        Self::SharedMemory,
        Self::Inject,
        Self::Eager,
        Self::MultiPacket,
        Self::RendezvousTid,
        Self::RendezvousSdma,
        Self::RendezvousPio,
    ];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SharedMemory => "shared memory",
            Self::Inject => "inject",
            Self::Eager => "eager",
            Self::MultiPacket => "multi-packet eager",
            Self::RendezvousTid => "rendezvous by expected receive",
            Self::RendezvousSdma => "rendezvous by SDMA",
            Self::RendezvousPio => "rendezvous by PIO",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A message that is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Where it goes.
    pub to: Address,
    /// Its bytes.
    pub len: usize,
    /// It has a tag.
    pub tagged: bool,
    /// It is sent by [`crate::Endpoint::inject`] or one of its kind.
    pub injected: bool,
}

impl Message {
    /// A tagged message that is sent by [`crate::Endpoint::tag_send`].
    pub const fn tagged(to: Address, len: usize) -> Self {
        Self { to, len, tagged: true, injected: false }
    }

    /// An untagged message that is sent by [`crate::Endpoint::send`].
    pub const fn untagged(to: Address, len: usize) -> Self {
        Self { to, len, tagged: false, injected: false }
    }

    /// The same, by [`crate::Endpoint::inject`] or [`crate::Endpoint::tag_inject`].
    #[must_use]
    pub const fn injected(self) -> Self {
        Self { injected: true, ..self }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, len, tagged, injected } = self;
        let kind = if *tagged { "tagged" } else { "untagged" };
        let call = if *injected { ", injected" } else { "" };
        write!(f, "{len} bytes, {kind}{call}, to {to}")
    }
}

impl Facts {
    /// The way of a message, by what [`crate::Endpoint::send_message`] and its kind go by; none when it can't be sent at all.
    pub(crate) fn path(&self, message: &Message) -> Option<Path> {
        let Message { len, tagged, injected, .. } = *message;
        if injected && len > INJECT_MAX_BYTES || self.no_memory == Some(Reason::Ended) {
            return None;
        }
        Some(match self.limits.protocol(tagged, len) {
            _ if self.no_memory.is_none() => Path::SharedMemory,
            _ if injected => Path::Inject,
            Protocol::Eager => Path::Eager,
            Protocol::MultiPacket => Path::MultiPacket,
            Protocol::Rendezvous if self.thresholds.by_sdma(len) => Path::RendezvousSdma,
            Protocol::Rendezvous => Path::RendezvousPio,
        })
    }

    /// Why a message doesn't go a way, whatever others there are.
    pub(crate) fn obstacle(&self, path: Path, message: &Message) -> Option<Reason> {
        let Message { len, tagged, injected, .. } = *message;
        let Self { thresholds, limits, .. } = self;
        if self.no_memory == Some(Reason::Ended) {
            return self.no_memory;
        }
        let too_long = |most, limit| (len > most).then_some(Reason::TooLong { len, most, limit });
        let too_short = |least, limit| (len < least).then_some(Reason::TooShort { len, least, limit });
        match path {
            Path::SharedMemory if injected && self.no_memory.is_none() => {
                too_long(INJECT_MAX_BYTES, "an injected message")
            }
            Path::SharedMemory => self.no_memory,
            Path::Inject if !injected => Some(Reason::NotInjected),
            Path::Inject => too_long(INJECT_MAX_BYTES, "a packet's header"),
            // Whoever injects wants no buffer kept and no completion.
            _ if injected => Some(Reason::Preferred(Path::Inject)),
            Path::Eager => too_long(limits.eager, self.eager_limit()),
            Path::MultiPacket if thresholds.no_multi_packet => Some(Reason::Off("no_multi_packet")),
            Path::MultiPacket if !tagged => Some(Reason::Untagged),
            Path::MultiPacket => too_long(limits.multi_packet, "rendezvous_min"),
            Path::RendezvousTid if thresholds.no_tid => Some(Reason::Off("no_tid")),
            Path::RendezvousTid | Path::RendezvousSdma if thresholds.no_sdma => Some(Reason::Off("no_sdma")),
            Path::RendezvousTid => {
                let short =
                    too_short(thresholds.tid_min, "tid_min").or_else(|| too_short(thresholds.sdma_min, "sdma_min"));
                Some(short.unwrap_or(Reason::Receiver))
            }
            Path::RendezvousSdma => too_short(thresholds.sdma_min, "sdma_min"),
            Path::RendezvousPio if thresholds.by_sdma(len) => {
                Some(Reason::TooLong { len, most: thresholds.sdma_min - 1, limit: "sdma_min" })
            }
            Path::RendezvousPio => None,
        }
    }

    /// What sets how long an eager message may be.
    fn eager_limit(&self) -> &'static str {
        let Self { thresholds, limits, .. } = self;
        match limits.eager {
            most if most == thresholds.eager_max => "eager_max",
            most if most == thresholds.rendezvous_min - 1 => "rendezvous_min",
            most if most == thresholds.packet_max => "packet_max",
            _ => "two thirds of the send context, pio_blocks",
        }
    }

    /// Whether a message would go a slower way than `expected`.
    pub(crate) fn slower(&self, message: &Message, expected: Path) -> Option<Slower> {
        let path = self.path(message).filter(|path| *path > expected)?;
        // What has no obstacle would have been taken before. What is the receiver's to decide isn't the sender's fault.
        let why = self.obstacle(expected, message).filter(|why| *why != Reason::Receiver)?;
        Some(Slower { expected, path, why })
    }

    pub(crate) fn explain(&self, message: Message) -> Explanation {
        let path = self.path(&message);
        let others = Path::ALL.into_iter().filter(|other| Some(*other) != path);
        let rejected = others.map(|other| {
            let obstacle = self.obstacle(other, &message);
            // Nothing is in its way but one that comes first; then there is one.
            (other, obstacle.unwrap_or(Reason::Preferred(path.unwrap_or(other))))
        });
        Explanation { asked: message, path, rejected: rejected.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thresholds::Thresholds;
    use opx_defs::units::{Blocks, Lid};
    use proptest::prelude::*;

    const PEER: Address = Address { lid: Lid(2), rx: 1 };

    fn facts() -> Facts {
        let thresholds = Thresholds::default();
        Facts { no_memory: Some(Reason::OtherNode), thresholds, limits: thresholds.limits(Blocks(256)) }
    }

    #[test]
    fn ways_go_by_length_and_kind() {
        let facts = facts();
        let path = |message| facts.path(&message);
        for (len, tagged, untagged) in [
            (0, Path::Eager, Path::Eager),
            (8192, Path::Eager, Path::Eager),
            (8193, Path::MultiPacket, Path::RendezvousPio),
            (16384, Path::MultiPacket, Path::RendezvousPio),
            (16385, Path::RendezvousSdma, Path::RendezvousSdma),
        ] {
            assert_eq!(path(Message::tagged(PEER, len)), Some(tagged), "{len}");
            assert_eq!(path(Message::untagged(PEER, len)), Some(untagged), "{len}");
        }
        assert_eq!(path(Message::tagged(PEER, 16).injected()), Some(Path::Inject));
        assert_eq!(path(Message::tagged(PEER, 17).injected()), None);
    }

    #[test]
    fn an_explanation_is_read_by_people() {
        let text = facts().explain(Message::untagged(PEER, 10_000)).to_string();
        assert_eq!(
            text,
            "10000 bytes, untagged, to endpoint 0x2/1: rendezvous by PIO\n  \
             not shared memory: the peer is at another LID\n  \
             not inject: only what is sent by inject goes this way: send keeps the buffer until the peer has it\n  \
             not eager: 10000 bytes are more than 8192, the most that go this way (eager_max)\n  \
             not multi-packet eager: only tagged messages go this way\n  \
             not rendezvous by expected receive: 10000 bytes are less than 16385, the least that go this way (sdma_min)\n  \
             not rendezvous by SDMA: 10000 bytes are less than 16385, the least that go this way (sdma_min)"
        );
    }

    proptest! {
        #[test]
        fn every_way_is_taken_or_has_a_reason(len in 0usize..40_000, tagged: bool, injected: bool, sdma_min in 64usize..50_000) {
            let thresholds = Thresholds { sdma_min, ..Thresholds::default() };
            let facts = Facts { thresholds, ..facts() };
            let explanation = facts.explain(Message { to: PEER, len, tagged, injected });
            let taken = explanation.path;
            prop_assert_eq!(explanation.rejected.len() + usize::from(taken.is_some()), Path::ALL.len());
            for (path, reason) in explanation.rejected.iter().copied() {
                prop_assert_ne!(Some(path), taken);
                // What comes before the one that is taken has a reason of its own.
                if taken.is_none_or(|taken| path < taken) {
                    prop_assert!(!matches!(reason, Reason::Preferred(by) if by == path));
                }
            }
            // The first way that nothing is in the way of is the one that is taken.
            let free = Path::ALL.into_iter().find(|path| facts.obstacle(*path, &explanation.asked).is_none());
            prop_assert_eq!(taken, free);
        }
    }
}
