//! Tag matching: posted receives on one side, unexpected messages on the other, both in order.
//!
//! The rules are those of fi_tagged(3): a message goes to the receive that was posted first of those that take it, and a
//! receive takes the message that arrived first. A receive takes a message when their tags agree in all bits that it doesn't
//! ignore, and when it is for anybody's messages or for those of the message's source (FI_DIRECTED_RECV).
//!
//! Cost doesn't depend on how many receives are posted or how many messages are kept. Receives without ignored bits, directed
//! or not, are found by one look into a hash table; the others by one look for each mask in use, of which "any tag" is one.
//! Nothing is allocated once there have been as many receives and messages at once as there will be, while the masks stay the
//! same. How many there may be of either is the caller's to limit; memory is bounded by the most there were at once.
//!
//! Untagged messages, fi_msg(3), are matched by a second matcher, with tag 0 and nothing ignored.
//!
//! ```
//! use opx_defs::units::Lid;
//! use opx_stack::Address;
//! use opx_stack::matching::{Matcher, Pattern};
//!
//! let source = Address { lid: Lid(1), rx: 3 };
//! let mut matcher = Matcher::<&str, &str>::new();
//! matcher.post(Pattern::exact(7), "a receive");
//! assert_eq!(matcher.arrive(8, source), None);
//! matcher.keep(8, source, "a message that nobody waits for");
//! assert_eq!(matcher.arrive(7, source), Some("a receive"));
//! assert_eq!(matcher.claim(&Pattern::exact(8)), Some((8, source, "a message that nobody waits for")));
//! ```

mod index;
mod messages;
mod pattern;
mod receives;
mod slab;
#[cfg(test)]
mod tests;

pub use pattern::Pattern;

use crate::Address;
use index::Seed;
use messages::Messages;
use receives::{Posting, Receives};
use slab::Name;

/// No place.
const NONE: u32 = u32::MAX;

/// Names a posted receive. When the receive is gone, it names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PostId(Name);

/// Names an unexpected message. When the message is gone, it names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnexpectedId(Name);

/// Posted receives `R` and unexpected messages `U`.
///
/// It puts neither to the other by itself: who posts looks for a message first ([`Matcher::claim`]), and who has a message
/// looks for a receive first ([`Matcher::arrive`]).
#[derive(Debug)]
pub struct Matcher<R, U> {
    receives: Receives<R>,
    messages: Messages<U>,
}

impl<R, U> Default for Matcher<R, U> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R, U> Matcher<R, U> {
    /// Nothing posted, nothing kept.
    pub fn new() -> Self {
        let seed = Seed::random();
        Self { receives: Receives::new(seed.clone()), messages: Messages::new(seed) }
    }

    /// Posts a receive behind all others (fi_trecv). The caller has seen that no message waits for it.
    #[inline]
    pub fn post(&mut self, pattern: Pattern, receive: R) -> PostId {
        let (id, place) = self.place(&pattern);
        place.put(receive);
        id
    }

    /// As [`Matcher::post`]: the place for the receive, which is put there next. Made there, it isn't moved.
    #[inline(always)]
    pub(crate) fn place(&mut self, pattern: &Pattern) -> (PostId, Posting<'_, R>) {
        let (name, place) = self.receives.post(pattern);
        (PostId(name), place)
    }

    /// Whether a receive waits for such a message.
    #[inline]
    pub fn would_match(&self, tag: u64, source: Address) -> bool {
        self.receives.find(tag, source).is_some()
    }

    /// The first posted receive that takes a message. It stays posted and in its place: one for several messages
    /// (FI_MULTI_RECV) is filled by [`Matcher::get_mut`] and leaves by [`Matcher::take`] when it is full.
    #[inline]
    pub fn find(&self, tag: u64, source: Address) -> Option<PostId> {
        self.receives.name(self.receives.find(tag, source)?).map(PostId)
    }

    /// Takes the first posted receive that takes a message.
    #[inline]
    pub fn arrive(&mut self, tag: u64, source: Address) -> Option<R> {
        self.receives.pop(tag, source)
    }

    /// As [`Matcher::arrive`], when receives are posted as they are as a rule: with no bits ignored, and all for anybody's messages
    /// or all for one source's. `take` takes what the receive has, of which nothing must be left to be dropped then; when it gives
    /// `None`, the receive stays as it was. `None` doesn't mean that there is none.
    #[inline(always)]
    pub(crate) fn take_usual<T>(
        &mut self,
        message: (u64, Address),
        take: impl FnOnce(&mut R) -> Option<T>,
    ) -> Option<T> {
        self.receives.take_usual(message, take)
    }

    /// A posted receive.
    #[inline]
    pub fn get(&self, id: PostId) -> Option<&R> {
        self.receives.get(self.receives.locate(id.0)?)
    }

    /// A posted receive, to be changed.
    #[inline]
    pub fn get_mut(&mut self, id: PostId) -> Option<&mut R> {
        self.receives.get_mut(self.receives.locate(id.0)?)
    }

    /// Takes a receive out: it is used up.
    #[inline]
    pub fn take(&mut self, id: PostId) -> Option<R> {
        self.receives.remove(self.receives.locate(id.0)?)
    }

    /// Takes a receive out that nobody wants any more (fi_cancel). `None` when it has been taken before.
    pub fn cancel(&mut self, id: PostId) -> Option<R> {
        self.take(id)
    }

    /// Takes all receives out, in the order in which they were posted.
    pub fn withdraw(&mut self) -> Vec<R> {
        self.receives.drain()
    }

    /// Receives posted.
    #[inline]
    pub fn posted(&self) -> usize {
        self.receives.len()
    }

    /// Receives posted so far, those that are gone included.
    #[inline]
    pub fn posted_so_far(&self) -> u64 {
        self.receives.posted_so_far()
    }

    /// Keeps a message behind all others. The caller has seen that no receive waits for it.
    #[inline]
    pub fn keep(&mut self, tag: u64, source: Address, message: U) -> UnexpectedId {
        UnexpectedId(self.messages.keep(tag, source, message))
    }

    /// The first kept message that a pattern takes: its tag, source and content. It stays (FI_PEEK).
    #[inline]
    pub fn peek(&mut self, pattern: &Pattern) -> Option<(u64, Address, &U)> {
        let at = self.messages.find(pattern)?;
        self.messages.get(at)
    }

    /// Takes the first kept message that a pattern takes: its tag, source and content. For FI_PEEK with FI_CLAIM the caller
    /// keeps it until it is received or discarded; nobody else can get it.
    #[inline]
    pub fn claim(&mut self, pattern: &Pattern) -> Option<(u64, Address, U)> {
        if self.messages.is_empty() { None } else { self.messages.pop(pattern) }
    }

    /// A kept message, to be changed: more of it has come.
    #[inline]
    pub fn kept_mut(&mut self, id: UnexpectedId) -> Option<&mut U> {
        self.messages.get_mut(self.messages.locate(id.0)?)
    }

    /// Takes a kept message out: its tag, source and content.
    pub fn take_kept(&mut self, id: UnexpectedId) -> Option<(u64, Address, U)> {
        self.messages.remove(self.messages.locate(id.0)?)
    }

    /// Messages kept.
    #[inline]
    pub fn kept(&self) -> usize {
        self.messages.len()
    }
}

/// One step of work that must not grow with the number of receives or messages: tests count them.
#[inline(always)]
fn step() {
    #[cfg(test)]
    tests::STEPS.set(tests::STEPS.get() + 1);
}
