//! Unexpected messages, as a list in the order of arrival and in one [`Index`] for each way in which they are looked for.
//!
//! A receive takes some bits of the tag, and any or one source. The first one that asks so builds a view: an index of all
//! messages by just that. From then on each message is put into the view as it comes and taken out as it goes, so that the
//! earliest that such a receive takes is found at once.
//!
//! The two views without ignored bits stay. Others are dropped when they weren't asked during more work than it takes to
//! build them anew, so that no number of masks that came once makes each message dear; and there are at most [`MOST_VIEWS`] of
//! them, so that memory is bounded by the messages. An application that goes on asking with still more masks has its messages
//! looked through one by one for those, as far as the first that is taken; that counts as work, so that views that aren't asked
//! meanwhile make room.

use super::index::{Index, Key, Node, Seed};
use super::slab::{Name, Slab};
use super::{NONE, Pattern, step};
use crate::Address;

/// Views with ignored bits. MPI libraries get along with a handful of masks.
const MOST_VIEWS: usize = 32;
/// What a view may go unasked for, beyond the work of building it: that of so many messages.
const PATIENCE: u64 = 64;

#[derive(Debug)]
pub(super) struct Messages<U> {
    slab: Slab<Message<U>, Links>,
    first: u32,
    last: u32,
    /// From anybody, and from one source.
    exact: [Option<View>; 2],
    masked: Vec<View>,
    /// Messages kept and looked through so far.
    work: u64,
    seed: Seed,
}

#[derive(Debug)]
struct Message<U> {
    tag: u64,
    source: Address,
    value: U,
}

/// The neighbours in order of arrival.
#[derive(Debug, Default)]
struct Links {
    next: u32,
    prev: u32,
}

#[derive(Debug)]
struct View {
    ignore: u64,
    directed: bool,
    /// The work that had been done when it was last asked.
    asked: u64,
    index: Index,
    /// One for each message's place.
    nodes: Vec<Node>,
}

impl View {
    #[inline]
    fn push(&mut self, at: u32, tag: u64, source: Address) {
        let place = at as usize;
        if place >= self.nodes.len() {
            self.nodes.resize(place + 1, Node::default());
        }
        let key = Key::new(tag, self.ignore, self.directed.then_some(source), 0);
        let node = self.index.push(&mut self.nodes, at, key);
        self.nodes[place] = node;
    }

    #[inline]
    fn remove(&mut self, at: u32) {
        self.index.remove(&mut self.nodes, at);
    }

    #[inline]
    fn first(&self, pattern: &Pattern) -> Option<u32> {
        self.index.first(&self.nodes, Key::new(pattern.tag, pattern.ignore, pattern.source, 0))
    }
}

impl<U> Messages<U> {
    pub(super) fn new(seed: Seed) -> Self {
        let (exact, masked) = ([None, None], Vec::new());
        Self { slab: Slab::new(), first: NONE, last: NONE, exact, masked, work: 0, seed }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn keep(&mut self, tag: u64, source: Address, value: U) -> Name {
        let at = self.slab.vacant();
        let name = self.slab.fill(at, Message { tag, source, value }, Links { next: NONE, prev: self.last });
        match self.slab.links_mut(self.last) {
            Some(last) => last.next = at,
            None => self.first = at,
        }
        self.last = at;
        self.work = self.work.wrapping_add(1);
        if !self.masked.is_empty() {
            self.drop_idle_views();
        }
        for view in self.exact.iter_mut().flatten() {
            view.push(at, tag, source);
        }
        for view in &mut self.masked {
            view.push(at, tag, source);
        }
        name
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// The place of the first message that a pattern takes.
    pub(super) fn find(&mut self, pattern: &Pattern) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        let directed = pattern.source.is_some();
        if pattern.ignore == 0 {
            if let Some(view) = &self.exact[usize::from(directed)] {
                return view.first(pattern);
            }
            let view = self.view(pattern);
            return self.exact[usize::from(directed)].insert(view).first(pattern);
        }
        let known = self.masked.iter_mut().find(|view| {
            step();
            view.ignore == pattern.ignore && view.directed == directed
        });
        if let Some(view) = known {
            view.asked = self.work;
            return view.first(pattern);
        }
        if self.masked.len() >= MOST_VIEWS {
            self.drop_idle_views();
        }
        if self.masked.len() >= MOST_VIEWS {
            return self.look_through(pattern);
        }
        let view = self.view(pattern);
        let found = view.first(pattern);
        self.masked.push(view);
        found
    }

    /// Takes out the first message that a pattern takes.
    #[inline(never)]
    pub(super) fn pop(&mut self, pattern: &Pattern) -> Option<(u64, Address, U)> {
        let at = self.find(pattern)?;
        self.remove(at)
    }

    /// A view of all messages, for such patterns.
    fn view(&self, pattern: &Pattern) -> View {
        let index = Index::new(self.seed.clone());
        let (ignore, directed) = (pattern.ignore, pattern.source.is_some());
        let mut view = View { ignore, directed, asked: self.work, index, nodes: Vec::new() };
        for (at, message) in self.list() {
            view.push(at, message.tag, message.source);
        }
        view
    }

    fn look_through(&mut self, pattern: &Pattern) -> Option<u32> {
        let mut seen = 0;
        let found = self.list().inspect(|_| seen += 1).find(|(_, message)| pattern.takes(message.tag, message.source));
        let found = found.map(|(at, _)| at);
        self.work = self.work.wrapping_add(seen);
        found
    }

    fn drop_idle_views(&mut self) {
        let limit = self.slab.len() as u64 + PATIENCE;
        self.masked.retain(|view| self.work.wrapping_sub(view.asked) <= limit);
    }

    /// Places and messages, in order of arrival.
    fn list(&self) -> impl Iterator<Item = (u32, &Message<U>)> {
        let entry = |at: u32| self.slab.get(at).map(|message| (at, message));
        std::iter::successors(entry(self.first), move |(at, _)| {
            step();
            entry(self.slab.links(*at)?.next)
        })
    }

    pub(super) fn locate(&self, name: Name) -> Option<u32> {
        self.slab.locate(name)
    }

    pub(super) fn get(&self, at: u32) -> Option<(u64, Address, &U)> {
        self.slab.get(at).map(|message| (message.tag, message.source, &message.value))
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut U> {
        Some(&mut self.slab.get_mut(at)?.value)
    }

    pub(super) fn remove(&mut self, at: u32) -> Option<(u64, Address, U)> {
        let &Links { next, prev } = self.slab.links(at)?;
        let Message { tag, source, value } = self.slab.remove(at)?;
        match self.slab.links_mut(prev) {
            Some(before) => before.next = next,
            None => self.first = next,
        }
        match self.slab.links_mut(next) {
            Some(after) => after.prev = prev,
            None => self.last = prev,
        }
        for view in self.exact.iter_mut().flatten() {
            view.remove(at);
        }
        for view in &mut self.masked {
            view.remove(at);
        }
        Some((tag, source, value))
    }
}

#[cfg(test)]
impl<U> Messages<U> {
    /// Views with ignored bits.
    pub(super) fn views(&self) -> usize {
        self.masked.len()
    }
}
