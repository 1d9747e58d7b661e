//! The completions that wait to be fetched, in order: a ring that grows when it is full, and whose way in and out is short.

use crate::completion::Completion;
use crate::memory_kind::has_faults;

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Completions {
    /// None, or a power of two of them.
    places: Vec<Option<Completion>>,
    /// Completions put in, and taken out, so far, wrapping.
    put: usize,
    taken: usize,
}

impl Completions {
    const FEWEST: usize = 64;

    /// How many wait.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.put.wrapping_sub(self.taken)
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.put == self.taken
    }

    #[inline(always)]
    fn place(&mut self, number: usize) -> Option<&mut Option<Completion>> {
        let mask = self.places.len().wrapping_sub(1);
        self.places.get_mut(number & mask)
    }

    /// A place behind the others for one more, which counts from now on. Whoever makes that only afterwards has it made there. Its
    /// buffer isn't a device's.
    #[inline(always)]
    pub(crate) fn next_place(&mut self) -> Option<Place<'_>> {
        if self.len() == self.places.len() {
            self.grow();
        }
        let number = self.put;
        self.put = number.wrapping_add(1);
        self.place(number).map(Place)
    }

    /// Puts one behind the others; as a failure when a device didn't copy its memory.
    pub(crate) fn push(&mut self, completion: Completion) {
        if has_faults() {
            return self.push_checked(completion);
        }
        if let Some(place) = self.next_place() {
            place.put(completion);
        }
    }

    #[cold]
    #[inline(never)]
    fn push_checked(&mut self, completion: Completion) {
        let completion = completion.checked();
        if let Some(place) = self.next_place() {
            place.put(completion);
        }
    }

    /// Takes the first one.
    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Option<Completion> {
        if self.put == self.taken {
            return None;
        }
        let first = self.place(self.taken)?.take();
        self.taken = self.taken.wrapping_add(1);
        first
    }

    /// Takes the first `most`, one after the other.
    pub(crate) fn drain(&mut self, most: usize) -> impl Iterator<Item = Completion> {
        std::iter::from_fn(|| self.pop()).take(most)
    }

    /// All that wait.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Completion> {
        self.places.iter().flatten()
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let len = self.len();
        let mut places: Vec<_> = self.drain(usize::MAX).map(Some).collect();
        places.resize((len * 2).max(Self::FEWEST).next_power_of_two(), None);
        *self = Self { places, put: len, taken: 0 };
    }
}

/// A free place.
pub(crate) struct Place<'a>(&'a mut Option<Completion>);

impl Place<'_> {
    /// Puts a completion there.
    #[inline(always)]
    pub(crate) fn put(self, completion: Completion) {
        // An assignment would look whether there is anything to be dropped.
        std::mem::forget(self.0.replace(completion));
    }
}

impl Extend<Completion> for Completions {
    fn extend<I: IntoIterator<Item = Completion>>(&mut self, all: I) {
        all.into_iter().for_each(|completion| self.push(completion));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn it_is_a_queue(steps in proptest::collection::vec((any::<bool>(), 1usize..100), 1..100)) {
            let (mut ours, mut model, mut count) = (Completions::default(), VecDeque::new(), 0);
            for (put, times) in steps {
                for _ in 0..times {
                    if put {
                        let completion = Completion::Sent { context: count, buffer: vec![count as u8].into() };
                        model.push_back(completion.clone());
                        ours.push(completion);
                        count += 1;
                    } else {
                        prop_assert_eq!(ours.pop(), model.pop_front());
                    }
                }
                prop_assert_eq!((ours.len(), ours.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(ours.iter().count(), model.len());
            }
            let most = model.len() / 2;
            prop_assert_eq!(ours.drain(most).collect::<Vec<_>>(), model.drain(..most).collect::<Vec<_>>());
            prop_assert_eq!(ours.drain(usize::MAX).collect::<Vec<_>>(), model.drain(..).collect::<Vec<_>>());
        }
    }
}
