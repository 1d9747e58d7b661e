//! What a receive takes.

use crate::Address;

/// What a receive takes: tags that agree with `tag` in all bits that `ignore` leaves, from `source` or from anybody
/// (`tag`, `ignore` and `src_addr` of fi_tagged(3); a source is FI_DIRECTED_RECV).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    /// Tag.
    pub tag: u64,
    /// Bits of the tag that don't matter.
    pub ignore: u64,
    /// Only messages from here.
    pub source: Option<Address>,
}

impl Pattern {
    /// Exactly `tag`, from anybody.
    pub const fn exact(tag: u64) -> Self {
        Self { tag, ignore: 0, source: None }
    }

    /// Whether a message with `tag` from `source` is one of those.
    #[inline]
    pub fn takes(&self, tag: u64, source: Address) -> bool {
        (self.tag ^ tag) & !self.ignore == 0 && self.source.is_none_or(|wanted| wanted == source)
    }
}
