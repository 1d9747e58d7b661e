//! A hash table of queues: the things with the same key, in the order in which they were put in.
//!
//! Nothing is stored here but links between numbered places, one node for each thing. The first of a queue is a link of its
//! bucket's chain and the others form a ring with it, so that a queue of any length is one step of the chain, and anything
//! can be taken out wherever it is. A node that is taken out leaves no trace: there are never more buckets than four times the
//! places that were in use at once.
//!
//! Peers choose tags. They can't make chains long on purpose, for the hash has a key: foldhash's, from its process-wide seed
//! and from what the system gives at random.

use super::slab::Place;
use super::{NONE, step};
use crate::Address;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// The chain of a node that isn't the first of its queue.
const FOLLOWS: u32 = NONE - 1;
const FEWEST_BUCKETS: usize = 8;

/// The key of the hash.
#[derive(Debug, Clone)]
pub(super) struct Seed(SeedableRandomState);

impl Seed {
    pub(super) fn random() -> Self {
        Self(SeedableRandomState::with_seed(RandomState::new().hash_one(0), SharedSeed::global_random()))
    }
}

/// What things are looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Key {
    tag: u64,
    /// A source, or [`ANYBODY`].
    source: u64,
    class: u32,
}

/// More than any source.
const ANYBODY: u64 = u64::MAX;

impl Key {
    /// Of the bits of `tag` that `ignore` leaves, for anybody or one source. Keys of several classes don't get in each
    /// other's way.
    #[inline(always)]
    pub(super) fn new(tag: u64, ignore: u64, source: Option<Address>, class: u32) -> Self {
        let source = match source {
            // Whole: an address that gets more fields must not lose them here.
            Some(Address { lid, rx }) => u64::from(lid.0) << 8 | u64::from(rx),
            None => ANYBODY,
        };
        Self { tag: tag & !ignore, source, class }
    }

    #[inline(always)]
    pub(super) fn class(&self) -> u32 {
        self.class
    }

    #[inline(always)]
    pub(super) fn is_directed(&self) -> bool {
        self.source != ANYBODY
    }

    #[inline(always)]
    fn hash(&self, seed: &Seed) -> u32 {
        let mut hasher = seed.0.build_hasher();
        hasher.write_u64(self.tag);
        hasher.write_u64(self.source ^ u64::from(self.class) << 40);
        hasher.finish() as u32
    }
}

/// The links of one thing. Without a thing they mean nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Node {
    pub(super) key: Key,
    hash: u32,
    /// The first of the next queue in the bucket, [`NONE`] at the end, or [`FOLLOWS`].
    chain: u32,
    /// The ring of those with the same key: behind the last comes the first.
    next: u32,
    prev: u32,
}

/// What has a node.
pub(super) trait Linked {
    fn node(&self) -> &Node;
    fn node_mut(&mut self) -> &mut Node;
}

impl Node {
    /// What is behind it in its chain, when it, at `at`, is the only one with `key`.
    #[inline(always)]
    pub(super) fn behind(&self, at: u32, key: Key) -> Option<u32> {
        (self.key == key && self.next == at).then_some(self.chain)
    }
}

impl Linked for Node {
    #[inline(always)]
    fn node(&self) -> &Node {
        self
    }

    #[inline(always)]
    fn node_mut(&mut self) -> &mut Node {
        self
    }
}

impl<T> Linked for Place<T, Node> {
    #[inline(always)]
    fn node(&self) -> &Node {
        &self.links
    }

    #[inline(always)]
    fn node_mut(&mut self) -> &mut Node {
        &mut self.links
    }
}

/// The table. All calls get the same places.
#[derive(Debug)]
pub(super) struct Index {
    seed: Seed,
    /// The first link of each chain: a power of two of them, and at least twice as many as places.
    buckets: Vec<u32>,
}

impl Index {
    pub(super) fn new(seed: Seed) -> Self {
        Self { seed, buckets: vec![NONE; FEWEST_BUCKETS] }
    }

    /// The place of the first thing with `key`.
    #[inline(always)]
    pub(super) fn first(&self, places: &[impl Linked], key: Key) -> Option<u32> {
        let mut at = *self.buckets.get(self.bucket(key.hash(&self.seed)))?;
        loop {
            step();
            // The chain ends at a number that no place has.
            let node = places.get(at as usize)?.node();
            if node.key == key {
                return Some(at);
            }
            at = node.chain;
        }
    }

    #[inline(always)]
    fn bucket(&self, hash: u32) -> usize {
        hash as usize & self.buckets.len().wrapping_sub(1)
    }

    /// Puts a thing behind all others with `key`. It will be at `place`, with the node that is given.
    #[inline(always)]
    pub(super) fn push(&mut self, places: &mut [impl Linked], place: u32, key: Key) -> Node {
        if place as usize >= self.buckets.len() / 2 {
            self.grow(places, place);
        }
        let hash = key.hash(&self.seed);
        let mut node = Node { key, hash, chain: NONE, next: place, prev: place };
        let bucket = self.bucket(hash);
        let Some(head) = self.buckets.get_mut(bucket) else { return node };
        node.chain = *head;
        let mut at = *head;
        loop {
            step();
            let Some(first) = places.get_mut(at as usize) else {
                *head = place;
                return node;
            };
            let first = first.node_mut();
            if first.key == key {
                let last = std::mem::replace(&mut first.prev, place);
                if let Some(last) = places.get_mut(last as usize) {
                    last.node_mut().next = place;
                }
                return Node { chain: FOLLOWS, next: at, prev: last, ..node };
            }
            at = first.chain;
        }
    }

    /// The head of the chain in which things with `key` are.
    #[inline(always)]
    pub(super) fn head(&mut self, key: Key) -> Option<&mut u32> {
        let bucket = self.bucket(key.hash(&self.seed));
        self.buckets.get_mut(bucket)
    }

    /// Takes the first thing with `key` out.
    #[inline(always)]
    pub(super) fn pop(&mut self, places: &mut [impl Linked], key: Key) -> Option<u32> {
        let bucket = self.bucket(key.hash(&self.seed));
        let head = self.buckets.get_mut(bucket)?;
        let mut before = NONE;
        let mut at = *head;
        let (next, prev, chain) = loop {
            step();
            let node = places.get(at as usize)?.node();
            if node.key == key {
                break (node.next, node.prev, node.chain);
            }
            before = at;
            at = node.chain;
        };
        let heir = if next == at {
            chain
        } else {
            bequeath(places, next, prev, chain);
            next
        };
        if before == NONE {
            *head = heir;
        } else if let Some(before) = places.get_mut(before as usize) {
            before.node_mut().chain = heir;
        }
        Some(at)
    }

    /// Takes the thing at `place` out, which is in.
    #[inline]
    pub(super) fn remove(&mut self, places: &mut [impl Linked], place: u32) {
        step();
        let Some(node) = places.get(place as usize) else { return };
        let &Node { hash, chain, next, prev, .. } = node.node();
        let mut heir = chain;
        if next != place {
            bequeath(places, next, prev, chain);
            if chain == FOLLOWS {
                return;
            }
            heir = next;
        }
        let bucket = self.bucket(hash);
        let Some(head) = self.buckets.get_mut(bucket) else { return };
        if *head == place {
            *head = heir;
            return;
        }
        let mut at = *head;
        while let Some(before) = places.get_mut(at as usize) {
            step();
            let chain = &mut before.node_mut().chain;
            if *chain == place {
                *chain = heir;
                return;
            }
            at = *chain;
        }
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) {
        self.buckets.fill(NONE);
    }

    /// More buckets, so that the chains stay short.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, places: &mut [impl Linked], place: u32) {
        let more = 2 * (place as usize + 1).next_power_of_two();
        for first in std::mem::replace(&mut self.buckets, vec![NONE; more]) {
            let mut at = first;
            while let Some(place) = places.get_mut(at as usize) {
                let node = place.node_mut();
                let bucket = self.bucket(node.hash);
                let rest = std::mem::replace(&mut node.chain, self.buckets[bucket]);
                self.buckets[bucket] = at;
                at = rest;
            }
        }
    }

    /// Buckets.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }
}

/// The thing between `prev` and `next` leaves its ring. If it was the first, `next` is now, with its chain.
#[inline(always)]
fn bequeath(places: &mut [impl Linked], next: u32, prev: u32, chain: u32) {
    if let Some(place) = places.get_mut(prev as usize) {
        place.node_mut().next = next;
    }
    if let Some(place) = places.get_mut(next as usize) {
        let node = place.node_mut();
        node.prev = prev;
        if chain != FOLLOWS {
            node.chain = chain;
        }
    }
}
