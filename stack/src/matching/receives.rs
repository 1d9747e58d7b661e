//! Posted receives, in one [`Index`] by what they take of a message.
//!
//! A message is looked for once under each combination of ignored bits, and of any or one source, that a posted receive has:
//! each mask in use is a class. What is found first in each of them is the earliest of its class, and the one that was posted
//! first of these is the match. Receives without ignored bits are a class that is always there.

use super::index::{Index, Key, Node, Seed};
use super::slab::{Name, Slab, Vacant};
use super::{Pattern, step};
use crate::Address;

#[derive(Debug)]
pub(super) struct Receives<R> {
    slab: Slab<Receive<R>, Node>,
    index: Index,
    /// Receives without ignored bits that wait for anybody's messages, and those for one source's.
    exact: Counts,
    masks: Masks,
    /// Receives posted so far: the order among those that wait.
    order: u64,
}

#[derive(Debug)]
struct Receive<R> {
    order: u64,
    value: R,
}

/// A place for a receive.
#[derive(Debug)]
pub(crate) struct Posting<'a, R> {
    place: Vacant<'a, Receive<R>>,
    order: u64,
}

impl<R> Posting<'_, R> {
    #[inline(always)]
    pub(crate) fn put(self, value: R) {
        self.place.put(Receive { order: self.order, value });
    }
}

/// The class of receives that ignore nothing.
const EXACT: u32 = 0;

impl<R> Receives<R> {
    pub(super) fn new(seed: Seed) -> Self {
        let (exact, masks) = (Counts::default(), Masks::default());
        Self { slab: Slab::new(), index: Index::new(seed), exact, masks, order: 0 }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// All that were ever posted.
    #[inline]
    pub(super) fn posted_so_far(&self) -> u64 {
        self.order
    }

    /// A place for a receive, which is put there next.
    #[inline(always)]
    pub(super) fn post(&mut self, pattern: &Pattern) -> (Name, Posting<'_, R>) {
        let directed = pattern.source.is_some();
        let class = if pattern.ignore == 0 {
            self.exact.add(directed);
            EXACT
        } else {
            self.masks.enter(pattern.ignore, directed)
        };
        let key = Key::new(pattern.tag, pattern.ignore, pattern.source, class);
        let order = self.order.wrapping_add(1);
        self.order = order;
        let at = self.slab.vacant();
        let node = self.index.push(self.slab.places_mut(), at, key);
        let (name, place) = self.slab.occupy(at, node);
        (name, Posting { place, order })
    }

    /// Takes out the first receive that takes a message.
    #[inline(always)]
    pub(super) fn pop(&mut self, tag: u64, source: Address) -> Option<R> {
        if self.slab.is_empty() {
            return None;
        }
        if self.are_several() {
            return self.pop_of_several(tag, source);
        }
        let directed = self.exact.directed != 0;
        let at = self.index.pop(self.slab.places_mut(), Key::new(tag, 0, directed.then_some(source), EXACT))?;
        self.exact.sub(directed);
        Some(self.slab.remove(at)?.value)
    }

    /// Whether the first receive that takes a message is the first of several that are found in several ways.
    #[inline(always)]
    fn are_several(&self) -> bool {
        self.masks.used != 0 || self.exact.directed != 0 && self.exact.anybody != 0
    }

    /// Takes out the first receive that takes a message when receives are what they are as a rule: all exact, and all directed or
    /// none. `take` takes what it has, of which nothing is left to be dropped then, or says that it isn't to be taken out.
    #[inline(always)]
    pub(super) fn take_usual<T>(
        &mut self,
        (tag, source): (u64, Address),
        take: impl FnOnce(&mut R) -> Option<T>,
    ) -> Option<T> {
        if self.are_several() {
            return None;
        }
        let directed = self.exact.directed != 0;
        let key = Key::new(tag, 0, directed.then_some(source), EXACT);
        let head = self.index.head(key)?;
        let mut stay = self.slab.stay(*head)?;
        // The only one that was posted so, and no other in its way.
        let Some(behind) = stay.links().behind(*head, key) else { return self.take_from_chain(key, take) };
        let taken = take(&mut stay.get_mut()?.value)?;
        *head = behind;
        stay.leave();
        self.exact.sub(directed);
        Some(taken)
    }

    /// The same, wherever the first receive with `key` is.
    #[inline(never)]
    fn take_from_chain<T>(&mut self, key: Key, take: impl FnOnce(&mut R) -> Option<T>) -> Option<T> {
        let at = self.index.first(self.slab.places(), key)?;
        let taken = take(self.get_mut(at)?)?;
        self.index.pop(self.slab.places_mut(), key)?;
        self.exact.sub(key.is_directed());
        self.slab.stay(at)?.leave();
        Some(taken)
    }

    #[inline(never)]
    fn pop_of_several(&mut self, tag: u64, source: Address) -> Option<R> {
        self.remove(self.find(tag, source)?)
    }

    /// The place of the first receive that takes a message.
    pub(super) fn find(&self, tag: u64, source: Address) -> Option<u32> {
        let mut found = None;
        if self.exact.anybody != 0 {
            found = self.earlier(found, Key::new(tag, 0, None, EXACT));
        }
        if self.exact.directed != 0 {
            found = self.earlier(found, Key::new(tag, 0, Some(source), EXACT));
        }
        for mask in self.masks.in_use() {
            step();
            if mask.counts.anybody != 0 {
                found = self.earlier(found, Key::new(tag, mask.ignore, None, mask.class));
            }
            if mask.counts.directed != 0 {
                found = self.earlier(found, Key::new(tag, mask.ignore, Some(source), mask.class));
            }
        }
        found
    }

    /// The earlier one of `found` and the first with `key`.
    #[inline]
    fn earlier(&self, found: Option<u32>, key: Key) -> Option<u32> {
        let other = self.index.first(self.slab.places(), key);
        let (Some(a), Some(b)) = (found, other) else { return found.or(other) };
        let order = |at| self.slab.get(at).map(|receive| receive.order);
        if order(a) < order(b) { found } else { other }
    }

    #[inline]
    pub(super) fn locate(&self, name: Name) -> Option<u32> {
        self.slab.locate(name)
    }

    #[inline]
    pub(super) fn name(&self, at: u32) -> Option<Name> {
        self.slab.name(at)
    }

    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&R> {
        Some(&self.slab.get(at)?.value)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut R> {
        Some(&mut self.slab.get_mut(at)?.value)
    }

    /// Takes out what is at a place, where something is.
    pub(super) fn remove(&mut self, at: u32) -> Option<R> {
        let key = self.slab.links(at)?.key;
        self.index.remove(self.slab.places_mut(), at);
        match key.class() {
            EXACT => self.exact.sub(key.is_directed()),
            class => self.masks.leave(class, key.is_directed()),
        }
        Some(self.slab.remove(at)?.value)
    }

    /// Takes all out, in the order in which they were posted.
    pub(super) fn drain(&mut self) -> Vec<R> {
        let mut all: Vec<Receive<R>> = self.slab.drain().collect();
        self.index.clear();
        (self.exact, self.masks) = (Counts::default(), Masks::default());
        all.sort_unstable_by_key(|receive| receive.order);
        all.into_iter().map(|receive| receive.value).collect()
    }
}

#[cfg(test)]
impl<R> Receives<R> {
    /// Places, buckets and masks.
    pub(super) fn footprint(&self) -> usize {
        self.slab.places().len() + self.index.len() + self.masks.masks.len()
    }
}

/// How many receives wait for anybody's messages, and how many for those of one source.
#[derive(Debug, Default)]
struct Counts {
    anybody: u32,
    directed: u32,
}

impl Counts {
    #[inline(always)]
    fn add(&mut self, directed: bool) {
        let count = if directed { &mut self.directed } else { &mut self.anybody };
        *count = count.wrapping_add(1);
    }

    #[inline(always)]
    fn sub(&mut self, directed: bool) {
        let count = if directed { &mut self.directed } else { &mut self.anybody };
        *count = count.wrapping_sub(1);
    }
}

/// Receives that ignore the same bits.
#[derive(Debug)]
struct Mask {
    class: u32,
    ignore: u64,
    counts: Counts,
}

/// The masks of posted receives.
#[derive(Debug, Default)]
struct Masks {
    /// Those in use come first; the others lend their class to new ones.
    masks: Vec<Mask>,
    used: usize,
    /// Where the mask of a class is; the first class has number 1.
    places: Vec<u32>,
}

impl Masks {
    #[inline(always)]
    fn in_use(&self) -> &[Mask] {
        self.masks.get(..self.used).unwrap_or_default()
    }

    /// One more receive ignores such bits: its class.
    #[inline(never)]
    fn enter(&mut self, ignore: u64, directed: bool) -> u32 {
        let known = self.in_use().iter().position(|mask| {
            step();
            mask.ignore == ignore
        });
        let at = known.unwrap_or_else(|| {
            let at = self.used;
            if at == self.masks.len() {
                self.places.push(at as u32);
                self.masks.push(Mask { class: self.places.len() as u32, ignore, counts: Counts::default() });
            }
            self.masks[at].ignore = ignore;
            self.used += 1;
            at
        });
        let mask = &mut self.masks[at];
        mask.counts.add(directed);
        mask.class
    }

    /// One receive of a class less.
    #[inline(never)]
    fn leave(&mut self, class: u32, directed: bool) {
        let at = self.places[class as usize - 1] as usize;
        let counts = &mut self.masks[at].counts;
        counts.sub(directed);
        if counts.anybody == 0 && counts.directed == 0 {
            self.used -= 1;
            self.masks.swap(at, self.used);
            for at in [at, self.used] {
                self.places[self.masks[at].class as usize - 1] = at as u32;
            }
        }
    }
}
