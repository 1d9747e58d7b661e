//! Tag matching: posted receives on one side, unexpected messages on the other, both in order.
//!
//! A receive with no ignored bits and any source is found by its tag, whatever the number of others posted; only
//! receives with wildcards are looked through one by one. Unexpected messages are found by tag the same way.

use crate::Address;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// What a receive takes: tags that agree with `tag` in all bits that `ignore` leaves, from `source` or from anybody.
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
    pub fn exact(tag: u64) -> Self {
        Self { tag, ignore: 0, source: None }
    }

    fn takes(&self, tag: u64, source: Address) -> bool {
        (self.tag ^ tag) & !self.ignore == 0 && self.source.is_none_or(|wanted| wanted == source)
    }

    fn is_by_tag(&self) -> bool {
        self.ignore == 0 && self.source.is_none()
    }
}

/// Posted receives `R` and unexpected messages `U`.
#[derive(Debug)]
pub(crate) struct Matcher<R, U> {
    /// When a thing was posted or arrived: the order among them.
    next: u64,
    posted: usize,
    by_tag: HashMap<u64, VecDeque<(u64, R)>>,
    wild: BTreeMap<u64, (Pattern, R)>,
    unexpected: BTreeMap<u64, (u64, Address, U)>,
    unexpected_by_tag: HashMap<u64, VecDeque<u64>>,
}

impl<R, U> Matcher<R, U> {
    pub(crate) fn new() -> Self {
        Self {
            next: 0,
            posted: 0,
            by_tag: HashMap::new(),
            wild: BTreeMap::new(),
            unexpected: BTreeMap::new(),
            unexpected_by_tag: HashMap::new(),
        }
    }

    /// Posts a receive behind all others.
    pub(crate) fn post(&mut self, pattern: Pattern, receive: R) {
        let order = self.order();
        self.posted += 1;
        if pattern.is_by_tag() {
            self.by_tag.entry(pattern.tag).or_default().push_back((order, receive));
        } else {
            self.wild.insert(order, (pattern, receive));
        }
    }

    /// Whether a receive waits for such a message.
    pub(crate) fn would_match(&self, tag: u64, source: Address) -> bool {
        self.by_tag.contains_key(&tag) || self.wild.values().any(|(pattern, _)| pattern.takes(tag, source))
    }

    /// Takes the first posted receive that a message matches.
    pub(crate) fn arrive(&mut self, tag: u64, source: Address) -> Option<R> {
        let exact = self.by_tag.get(&tag).and_then(|queue| queue.front()).map(|(order, _)| *order);
        let wild = self.wild.iter().find(|(_, (pattern, _))| pattern.takes(tag, source)).map(|(order, _)| *order);
        let taken = match (exact, wild) {
            (Some(exact), wild) if wild.is_none_or(|wild| exact < wild) => {
                let queue = self.by_tag.get_mut(&tag)?;
                let taken = queue.pop_front();
                if queue.is_empty() {
                    self.by_tag.remove(&tag);
                }
                taken.map(|(_, receive)| receive)
            }
            (_, Some(wild)) => self.wild.remove(&wild).map(|(_, receive)| receive),
            _ => None,
        };
        self.posted -= usize::from(taken.is_some());
        taken
    }

    /// Keeps a message that no receive waited for.
    pub(crate) fn keep(&mut self, tag: u64, source: Address, message: U) {
        let order = self.order();
        self.unexpected.insert(order, (tag, source, message));
        self.unexpected_by_tag.entry(tag).or_default().push_back(order);
    }

    /// Takes the first kept message that a pattern takes: its tag, source and content.
    pub(crate) fn claim(&mut self, pattern: &Pattern) -> Option<(u64, Address, U)> {
        let order = if pattern.is_by_tag() {
            *self.unexpected_by_tag.get(&pattern.tag)?.front()?
        } else {
            let takes = |(_, (tag, source, _)): &(&u64, &(u64, Address, U))| pattern.takes(*tag, *source);
            *self.unexpected.iter().find(takes)?.0
        };
        let (tag, source, message) = self.unexpected.remove(&order)?;
        if let Some(queue) = self.unexpected_by_tag.get_mut(&tag) {
            // The first of its tag, unless the pattern named a source.
            queue.retain_first_not(order);
            if queue.is_empty() {
                self.unexpected_by_tag.remove(&tag);
            }
        }
        Some((tag, source, message))
    }

    /// Takes all posted receives out, in no particular order.
    pub(crate) fn withdraw(&mut self) -> Vec<R> {
        self.posted = 0;
        let by_tag = std::mem::take(&mut self.by_tag).into_values().flatten().map(|(_, receive)| receive);
        by_tag.chain(std::mem::take(&mut self.wild).into_values().map(|(_, receive)| receive)).collect()
    }

    /// Receives posted.
    pub(crate) fn posted(&self) -> usize {
        self.posted
    }

    /// Messages kept.
    #[cfg(test)]
    fn kept(&self) -> usize {
        self.unexpected.len()
    }

    fn order(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

trait RetainFirstNot {
    /// Removes the first element that equals `order`.
    fn retain_first_not(&mut self, order: u64);
}

impl RetainFirstNot for VecDeque<u64> {
    fn retain_first_not(&mut self, order: u64) {
        if let Some(at) = self.iter().position(|o| *o == order) {
            self.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::units::Lid;
    use proptest::prelude::*;

    fn from(rx: u8) -> Address {
        Address { lid: Lid(1), rx }
    }

    /// The plainest thing that does the same: two lists, looked through in order.
    #[derive(Default)]
    struct Model {
        posted: Vec<(Pattern, u32)>,
        kept: Vec<(u64, Address, u32)>,
    }

    proptest! {
        #[test]
        fn agrees_with_two_plain_lists(
            steps in proptest::collection::vec((any::<bool>(), 0u64..6, prop_oneof![3 => Just(0u64), 1 => 0u64..4], 0u8..3, any::<bool>()), 1..200),
        ) {
            let mut matcher = Matcher::new();
            let mut model = Model::default();
            for (n, (post, tag, ignore, rx, directed)) in steps.into_iter().enumerate() {
                let n = n as u32;
                if post {
                    let pattern = Pattern { tag, ignore, source: directed.then_some(from(rx)) };
                    let expected = model.kept.iter().position(|(t, s, _)| pattern.takes(*t, *s));
                    let expected = expected.map(|at| model.kept.remove(at));
                    prop_assert_eq!(matcher.claim(&pattern), expected);
                    if expected.is_none() {
                        matcher.post(pattern, n);
                        model.posted.push((pattern, n));
                    }
                } else {
                    let expected = model.posted.iter().position(|(p, _)| p.takes(tag, from(rx)));
                    prop_assert_eq!(matcher.would_match(tag, from(rx)), expected.is_some());
                    let expected = expected.map(|at| model.posted.remove(at).1);
                    prop_assert_eq!(matcher.arrive(tag, from(rx)), expected);
                    if expected.is_none() {
                        matcher.keep(tag, from(rx), n);
                        model.kept.push((tag, from(rx), n));
                    }
                }
                prop_assert_eq!(matcher.posted(), model.posted.len());
                prop_assert_eq!(matcher.kept(), model.kept.len());
            }
        }
    }
}
