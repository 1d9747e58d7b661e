//! What an entry of the header queue says: checked before anything of it is used, as a function of plain values.

use opx_defs::wire::OPX_HEADER_BYTES;
use opx_defs::wire::lrh::{LRH_BYTES, Lrh, NextHeader};
use opx_defs::wire::rhf::{RcvType, Rhf};

/// The ICRC at the end of a 9B packet, which the length counts.
const ICRC_BYTES: u32 = 4;
/// A GRH between LRH and BTH.
const GRH_BYTES: u32 = 40;
/// Eager buffers are filled in steps of this many bytes.
const EAGER_UNIT: u32 = 64;
/// Bytes of the flags at the end of an entry.
pub(super) const RHF_BYTES: u32 = 8;

/// Sizes of a receive context's queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a header queue entry, flags included.
    pub entry_bytes: u32,
    /// Number of eager buffers.
    pub eager_buffers: u32,
    /// Bytes of each.
    pub eager_buffer_size: u32,
}

/// What kind of packet arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketKind {
    /// KDETH without a TID: the payload is in an eager buffer.
    Eager,
    /// KDETH with a TID: the payload went where that says.
    Expected,
    /// InfiniBand transport.
    Ib,
    /// A packet with another header than that of 9B, such as 16B; its payload runs to the end of its tail.
    Bypass,
    /// Broken: the chip couldn't tell where it belongs.
    Broken,
    /// KDETH behind a GRH, with or without a TID: BTH and KDETH are 40 bytes further on in the header, and what doesn't fit
    /// in the entry begins the payload. Nothing sends such packets to a context of ours; they are to be left alone.
    Routed,
}

impl PacketKind {
    /// What follows the payload, and the length counts. Software lays out the tail of a bypass packet: it is part of the
    /// payload.
    const fn tail_bytes(self) -> u32 {
        if matches!(self, Self::Bypass) { 0 } else { ICRC_BYTES }
    }

    /// The same once the LRH has been looked at, as the flags don't tell of a GRH (Linux looks at the LNH as well, `driver.c:hfi1_setup_9B_packet`).
    pub(super) fn behind(self, lrh: [u8; LRH_BYTES]) -> Self {
        let grh = Lrh::decode(lrh).next == NextHeader::Grh;
        if grh && matches!(self, Self::Eager | Self::Expected) { Self::Routed } else { self }
    }
}

/// Where the parts of a packet lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// What kind of packet it is.
    pub kind: PacketKind,
    /// Bytes of header; it ends where the flags begin.
    pub header_len: u32,
    /// Where the payload begins, in bytes from the start of the eager buffers.
    pub payload_at: u32,
    /// Bytes of payload in the eager buffer.
    pub payload_len: u32,
}

/// Why an entry can't be what the chip wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadEntry {
    /// Type 5, 6 or 7.
    #[error("its type is undefined")]
    Type,
    /// The header begins behind the flags, or is too short for its type.
    #[error("its header doesn't lie in the entry")]
    Header,
    /// The packet is shorter than its header.
    #[error("the packet is shorter than its header")]
    Short,
    /// There is no eager buffer of that number, or the payload doesn't fit behind that offset.
    #[error("the payload isn't inside an eager buffer")]
    Buffer,
    /// An eager packet with payload says that it uses no buffer.
    #[error("the payload is nowhere")]
    NoPayload,
}

/// Reads an entry's flags. They don't tell whether there is a GRH: a packet whose kind is KDETH here may yet be
/// [`PacketKind::Routed`].
///
/// ```
/// use opx_defs::units::Dwords;
/// use opx_defs::wire::rhf::{RcvType, Rhf};
/// use opx_hw::recv::{Layout, PacketKind, parse};
/// let layout = Layout { entry_bytes: 128, eager_buffers: 8, eager_buffer_size: 16384 };
/// // 56 bytes of header, 100 of payload and the ICRC; the header starts at dword 16; buffer 3, 128 bytes into it.
/// let rhf = Rhf::new(Dwords(40), RcvType::Eager, 1, Dwords(16)).eager(3, 2);
/// let parsed = parse(rhf, &layout).unwrap();
/// assert_eq!((parsed.kind, parsed.header_len), (PacketKind::Eager, 56));
/// assert_eq!((parsed.payload_at, parsed.payload_len), (3 * 16384 + 128, 100));
/// ```
///
/// # Errors
/// When the chip can't have written that.
pub fn parse(rhf: Rhf, layout: &Layout) -> Result<Parsed, BadEntry> {
    let (kind, least_header) = match rhf.kind() {
        RcvType::Eager => (PacketKind::Eager, OPX_HEADER_BYTES as u32),
        RcvType::Expected => (PacketKind::Expected, OPX_HEADER_BYTES as u32),
        RcvType::Ib => (PacketKind::Ib, 0),
        RcvType::Error => (PacketKind::Broken, 0),
        RcvType::Bypass => (PacketKind::Bypass, 0),
        RcvType::Invalid(_) => return Err(BadEntry::Type),
    };
    // The header is followed by the flags without a gap.
    let flags_at = layout.entry_bytes.saturating_sub(RHF_BYTES);
    let header_len = flags_at.checked_sub(rhf.header_offset().bytes()).ok_or(BadEntry::Header)?;
    if header_len < least_header {
        return Err(BadEntry::Header);
    }
    let overhead = header_len + kind.tail_bytes();
    let must_have_length = rhf.uses_eager() || kind == PacketKind::Eager && rhf.errors() == 0;
    if must_have_length && rhf.length().bytes() < overhead {
        return Err(BadEntry::Short);
    }
    if must_have_length && !rhf.uses_eager() && rhf.length().bytes() > overhead {
        return Err(BadEntry::NoPayload);
    }
    let payload_len = payload_len(rhf, kind, header_len);
    let in_buffer = u32::from(rhf.eager_offset()) * EAGER_UNIT;
    let outside =
        u32::from(rhf.eager_index()) >= layout.eager_buffers || in_buffer + payload_len > layout.eager_buffer_size;
    if rhf.uses_eager() && outside {
        return Err(BadEntry::Buffer);
    }
    Ok(Parsed { kind, header_len, payload_at: payload_at(rhf, layout), payload_len })
}

/// What the usual packets look like: eager ones without errors, whose header is as long as that of all KDETH packets. They
/// are told from others by one comparison.
///
/// That length says that there is no GRH: the chip takes as many bytes behind the BTH, wherever that is
/// (`chip.c:set_hdrq_regs`). It says so where the entry has room for both; in one that hasn't, nothing is usual, and the
/// packet itself is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usual {
    /// With payload, and without.
    pattern: u64,
    bare_pattern: u64,
    buffers: u32,
    buffer_size: u64,
}

impl Usual {
    /// Bytes of its header.
    pub const HEADER: u32 = OPX_HEADER_BYTES as u32;
    /// Bytes of the header of one with a GRH.
    const WITH_GRH: u32 = Self::HEADER + GRH_BYTES;
    /// Errors, type, whether a buffer is used, and where the header begins.
    const LOOKED_AT: u64 = Rhf::ERRORS | 7 << 12 | 1 << 15 | 0x1ff << 44;

    /// That of a context with queues of this layout.
    pub fn new(layout: &Layout) -> Self {
        if layout.entry_bytes < Self::WITH_GRH + RHF_BYTES {
            return Self::never();
        }
        let header_at = u64::from(layout.entry_bytes.saturating_sub(Self::HEADER + RHF_BYTES)) / 4;
        let pattern = RcvType::Eager.code() << 12 | header_at << 44;
        Self {
            pattern: pattern | 1 << 15,
            bare_pattern: pattern | (u64::from(Self::HEADER + ICRC_BYTES) / 4),
            buffers: layout.eager_buffers,
            buffer_size: layout.eager_buffer_size.into(),
        }
    }

    /// Nothing is usual: every packet has to be looked at closely.
    pub fn never() -> Self {
        Self { pattern: u64::MAX, bare_pattern: u64::MAX, buffers: 0, buffer_size: 0 }
    }

    /// Whether these are the flags of one without payload. `false` doesn't mean that something is wrong.
    #[inline]
    pub fn is_bare(&self, rhf: Rhf) -> bool {
        const LENGTH: u64 = 0xfff;
        rhf.0 & (Self::LOOKED_AT | LENGTH) == self.bare_pattern
    }

    /// Whether these are the flags of one with payload, and that lies inside of one buffer. `false` doesn't mean that something
    /// is wrong, but that [`parse`] has to look.
    #[inline]
    pub fn is(&self, rhf: Rhf) -> bool {
        let index = u32::from(rhf.eager_index());
        // Each of the numbers has at most 18 bits, so that nothing overflows, but for a packet that is shorter than its
        // header: its length is huge here.
        let len = rhf.length().0.wrapping_mul(4).wrapping_sub(Self::HEADER + ICRC_BYTES);
        let in_buffer = u64::from(rhf.eager_offset()).wrapping_mul(EAGER_UNIT.into());
        rhf.0 & Self::LOOKED_AT == self.pattern
            && index < self.buffers
            && in_buffer.wrapping_add(len.into()) <= self.buffer_size
    }
}

/// Bytes of payload in the eager buffer, when the flags are in order.
#[inline]
pub(super) const fn payload_len(rhf: Rhf, kind: PacketKind, header_len: u32) -> u32 {
    if rhf.uses_eager() { rhf.length().0.wrapping_mul(4).saturating_sub(header_len + kind.tail_bytes()) } else { 0 }
}

/// Where the payload begins in the eager buffers.
pub(super) const fn payload_at(rhf: Rhf, layout: &Layout) -> u32 {
    if !rhf.uses_eager() {
        return 0;
    }
    let in_buffer = (rhf.eager_offset() as u32).wrapping_mul(EAGER_UNIT);
    (rhf.eager_index() as u32).wrapping_mul(layout.eager_buffer_size).wrapping_add(in_buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::units::Dwords;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the flags are, what comes out lies inside of the entry and of one eager buffer.
        #[test]
        fn what_is_parsed_is_inside(raw: u64, entry in 0usize..2, buffers in 1u32..=256, order in 12u32..=18) {
            let entry_bytes = [64, 128][entry];
            let layout = Layout { entry_bytes, eager_buffers: buffers * 8, eager_buffer_size: 1 << order };
            if let Ok(parsed) = parse(Rhf(raw), &layout) {
                prop_assert!(parsed.header_len + RHF_BYTES <= entry_bytes);
                if matches!(parsed.kind, PacketKind::Eager | PacketKind::Expected) {
                    prop_assert!(parsed.header_len >= OPX_HEADER_BYTES as u32);
                }
                let (from, to) = (parsed.payload_at, parsed.payload_at + parsed.payload_len);
                prop_assert!(to <= (buffers * 8) << order);
                prop_assert!(parsed.payload_len == 0 || from >> order == (to - 1) >> order, "spans two buffers");
                prop_assert!(from % 64 == 0);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// The short way never says anything else than the long one.
        #[test]
        fn the_usual_packet_is_no_exception(
            length in 0u32..400, index in 0u16..20, offset in 0u16..300, header in 0u32..40, noise: u64, noisy: bool,
        ) {
            let layout = Layout { entry_bytes: 128, eager_buffers: 16, eager_buffer_size: 16384 };
            let clean = Rhf::new(Dwords(length), RcvType::Eager, 1, Dwords(header)).eager(index, offset);
            let rhf = Rhf(clean.0 ^ if noisy { noise & noise.rotate_left(17) & noise.rotate_left(41) } else { 0 });
            if Usual::new(&layout).is(rhf) {
                let parsed = parse(rhf, &layout).unwrap();
                prop_assert_eq!((parsed.kind, parsed.header_len), (PacketKind::Eager, Usual::HEADER));
            }
            let bare = Rhf(rhf.0 & !(1 << 15));
            if Usual::new(&layout).is_bare(bare) {
                let parsed = parse(bare, &layout).unwrap();
                prop_assert_eq!((parsed.kind, parsed.header_len), (PacketKind::Eager, Usual::HEADER));
                prop_assert_eq!(parsed.payload_len, 0);
            }
            prop_assert!(!Usual::never().is(rhf) && !Usual::never().is_bare(rhf));
        }
    }

    #[test]
    fn the_usual_packet_takes_the_short_way() {
        let layout = Layout { entry_bytes: 128, eager_buffers: 8, eager_buffer_size: 4096 };
        let rhf = Rhf::new(Dwords(40), RcvType::Eager, 1, Dwords(16)).eager(7, 60);
        let usual = Usual::new(&layout);
        assert!(usual.is(rhf));
        assert_eq!(parse(rhf, &layout).map(|p| (p.payload_at, p.payload_len)), Ok((7 * 4096 + 60 * 64, 100)));
        assert!(usual.is_bare(Rhf::new(Dwords(15), RcvType::Eager, 1, Dwords(16))));
        let short = Rhf::new(Dwords(14), RcvType::Eager, 1, Dwords(16)).eager(7, 60);
        assert_eq!((usual.is(short), parse(short, &layout)), (false, Err(BadEntry::Short)));
        // A small entry has no room for a GRH as well: there the same flags may be those of a packet that has one.
        let small = Layout { entry_bytes: 64, ..layout };
        assert!(!Usual::new(&small).is(Rhf::new(Dwords(40), RcvType::Eager, 1, Dwords(0)).eager(7, 60)));
    }

    #[test]
    fn a_grh_makes_another_kind_of_kdeth_packets_only() {
        let lrh = |lnh| [0, lnh, 0, 1, 0, 25, 0, 2];
        for (kind, behind_grh) in [
            (PacketKind::Eager, PacketKind::Routed),
            (PacketKind::Expected, PacketKind::Routed),
            (PacketKind::Ib, PacketKind::Ib),
            (PacketKind::Bypass, PacketKind::Bypass),
            (PacketKind::Broken, PacketKind::Broken),
        ] {
            assert_eq!((kind.behind(lrh(2)), kind.behind(lrh(3))), (kind, behind_grh));
        }
    }

    #[test]
    fn a_bypass_packet_keeps_its_tail() {
        let layout = Layout { entry_bytes: 64, eager_buffers: 8, eager_buffer_size: 4096 };
        // 16 bytes of header right before the flags; 40 bytes behind it.
        let rhf = Rhf::new(Dwords(14), RcvType::Bypass, 1, Dwords(10)).eager(0, 0);
        let parsed = parse(rhf, &layout).unwrap();
        assert_eq!((parsed.kind, parsed.header_len), (PacketKind::Bypass, 16));
        assert_eq!(parsed.payload_len, 40);
        assert_eq!(parse(Rhf(rhf.0 | 5 << 12), &layout), Err(BadEntry::Type));
    }
}
