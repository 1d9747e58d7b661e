//! What a packet is made of, and what must be true of it.

use crate::fragment::Fragment;
use crate::header::HeaderEntry;
use opx_defs::sdma::{
    DESC_MAX_BYTES, HEADER_DWORDS, HeaderEdit, MAX_EDITS, PACKET_MAX_BYTES, PACKET_MAX_DESCS, SdmaDesc,
};

/// Most descriptors that the chip takes for one packet (`sdma.h MAX_DESC`).
pub const MAX_FRAGMENTS: usize = PACKET_MAX_DESCS as usize;

/// A packet for [`crate::SdmaQueue::submit`]: fragments of memory, the first of which begins with the PBC. A slice of
/// fragments is one.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    pub(crate) fragments: &'a [Fragment],
    pub(crate) header: Header<'a>,
    pub(crate) interrupt: bool,
}

/// Where a packet's header comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Header<'a> {
    /// The fragments.
    Fragments,
    /// The fragments; the first of them is stored by the engine as well.
    Stored(&'a HeaderEntry),
    /// The engine, with changes; the fragments are the payload.
    Edited(&'a HeaderEntry, &'a [HeaderEdit]),
}

impl<'a> Packet<'a> {
    /// A packet of these fragments: PBC, header and payload.
    #[inline]
    pub const fn new(fragments: &'a [Fragment]) -> Self {
        Self { fragments, header: Header::Fragments, interrupt: false }
    }

    /// The same; the engine also stores the first fragment as a header: PBC and header, 8 to 64 bytes in whole dwords.
    #[must_use]
    pub const fn storing(self, entry: &'a HeaderEntry) -> Self {
        Self { header: Header::Stored(entry), ..self }
    }

    /// A packet whose PBC and header are those that an earlier packet has stored, changed by 1 to 9 edits; `payload` has at
    /// least one fragment. PBC and LRH say how long a packet is: if it has another length than the stored one, edit both.
    #[inline]
    pub const fn edited(entry: &'a HeaderEntry, edits: &'a [HeaderEdit], payload: &'a [Fragment]) -> Self {
        Self { fragments: payload, header: Header::Edited(entry, edits), interrupt: false }
    }

    /// The same; its completion raises the engine's interrupt at once, not only when the engine goes idle.
    #[must_use]
    pub const fn interrupt(self) -> Self {
        Self { interrupt: true, ..self }
    }

    /// Slots that it takes in the ring.
    #[inline]
    pub(crate) fn slots(&self) -> u32 {
        let edits = match self.header {
            Header::Edited(_, edits) => 1 + SdmaDesc::edit_slots(edits.len()),
            _ => 0,
        };
        self.fragments.len() as u32 + edits
    }

    /// What is wrong with it, if anything is. `stored`: dwords of the header in its entry.
    #[inline]
    pub(crate) fn problem(&self, stored: impl Fn(&HeaderEntry) -> Option<u8>) -> Option<&'static str> {
        let mut total = match self.header {
            Header::Fragments => 0,
            header => match header_problem(header, self.fragments, stored) {
                Ok(bytes) => bytes,
                Err(why) => return Some(why),
            },
        };
        if self.fragments.is_empty() || self.fragments.len() > MAX_FRAGMENTS {
            return Some("a packet has 1 to 64 fragments");
        }
        for fragment in self.fragments {
            if fragment.len().wrapping_sub(1) >= DESC_MAX_BYTES {
                return Some("a fragment has 1 to 16383 bytes");
            }
            // At most 64 times 16383 bytes.
            total += fragment.len();
        }
        if total > PACKET_MAX_BYTES {
            return Some("a packet has at most 16383 bytes, PBC and header included");
        }
        if !total.is_multiple_of(4) {
            return Some("the fragments of a packet add up to whole dwords");
        }
        None
    }
}

/// The checks that concern a stored header; bytes of the header that aren't in the fragments.
fn header_problem(
    header: Header<'_>,
    fragments: &[Fragment],
    stored: impl Fn(&HeaderEntry) -> Option<u8>,
) -> Result<u32, &'static str> {
    const FOREIGN: &str = "the entry for the header belongs to another queue";
    match header {
        Header::Fragments => Ok(0),
        Header::Stored(entry) => {
            let len = fragments.first().map_or(0, |first| first.len());
            let fits = (8..=HEADER_DWORDS * 4).contains(&len) && len.is_multiple_of(4);
            stored(entry).ok_or(FOREIGN)?;
            if fits { Ok(0) } else { Err("a header to be stored is a fragment of 8 to 64 bytes, in whole dwords") }
        }
        Header::Edited(entry, edits) => {
            let dwords = stored(entry).ok_or(FOREIGN)?;
            if dwords == 0 {
                return Err("no header is stored in the entry; send a packet that stores one first");
            }
            if edits.is_empty() || edits.len() > MAX_EDITS {
                return Err("a stored header is changed by 1 to 9 edits");
            }
            if fragments.len() as u32 + 1 + SdmaDesc::edit_slots(edits.len()) > PACKET_MAX_DESCS {
                return Err("a packet has at most 64 descriptors, those of the edits included");
            }
            Ok(u32::from(dwords) * 4)
        }
    }
}

impl<'a> From<&'a [Fragment]> for Packet<'a> {
    #[inline]
    fn from(fragments: &'a [Fragment]) -> Self {
        Self::new(fragments)
    }
}

impl<'a, const N: usize> From<&'a [Fragment; N]> for Packet<'a> {
    #[inline]
    fn from(fragments: &'a [Fragment; N]) -> Self {
        Self::new(fragments)
    }
}

impl<'a> From<&'a Vec<Fragment>> for Packet<'a> {
    #[inline]
    fn from(fragments: &'a Vec<Fragment>) -> Self {
        Self::new(fragments)
    }
}
