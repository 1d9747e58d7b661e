//! Numbered places for things that come and go. Each has a generation, so that an old name names nothing, and the links `L` of
//! the lists that its thing is in.

use super::NONE;

/// The places. Those that are free are a list; the next thing takes the one that was left last.
#[derive(Debug)]
pub(super) struct Slab<T, L> {
    places: Vec<Place<T, L>>,
    free: u32,
    used: u32,
}

#[derive(Debug)]
pub(super) struct Place<T, L> {
    /// How often something has left.
    generation: u32,
    /// While it is free: the next free one.
    next: u32,
    pub(super) links: L,
    value: Option<T>,
}

/// A place for a thing that is counted already.
#[derive(Debug)]
pub(super) struct Vacant<'a, T>(Option<&'a mut Option<T>>);

impl<T> Vacant<'_, T> {
    #[inline(always)]
    pub(super) fn put(self, value: T) {
        if let Some(place) = self.0 {
            // An assignment would look whether there is anything to be dropped; the place is vacant.
            std::mem::forget(place.replace(value));
        }
    }
}

/// A thing at its place.
#[derive(Debug)]
pub(super) struct Stay<'a, T, L> {
    place: &'a mut Place<T, L>,
    at: u32,
    free: &'a mut u32,
    used: &'a mut u32,
}

impl<T, L> Stay<'_, T, L> {
    #[inline(always)]
    pub(super) fn links(&self) -> &L {
        &self.place.links
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self) -> Option<&mut T> {
        self.place.value.as_mut()
    }

    /// As [`Slab::remove`], when nothing is left of the thing that would have to be dropped.
    #[inline(always)]
    pub(super) fn leave(self) {
        std::mem::forget(self.place.value.take());
        self.place.generation = self.place.generation.wrapping_add(1);
        self.place.next = *self.free;
        *self.free = self.at;
        *self.used = self.used.wrapping_sub(1);
    }
}

/// Names one stay of a thing at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) at: u32,
    generation: u32,
}

impl<T, L: Default> Slab<T, L> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: NONE, used: 0 }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.used as usize
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The place that the next thing will be put into.
    #[inline(always)]
    pub(super) fn vacant(&mut self) -> u32 {
        if self.free == NONE {
            self.extend();
        }
        self.free
    }

    /// Puts a thing into the vacant place `at`.
    pub(super) fn fill(&mut self, at: u32, value: T, links: L) -> Name {
        let (name, place) = self.occupy(at, links);
        place.put(value);
        name
    }

    /// The vacant place `at`, for a thing that is put there next.
    #[inline(always)]
    pub(super) fn occupy(&mut self, at: u32, links: L) -> (Name, Vacant<'_, T>) {
        let Some(place) = self.places.get_mut(at as usize) else { return (Name { at, generation: 0 }, Vacant(None)) };
        self.free = place.next;
        self.used = self.used.wrapping_add(1);
        place.links = links;
        (Name { at, generation: place.generation }, Vacant(Some(&mut place.value)))
    }

    #[cold]
    #[inline(never)]
    fn extend(&mut self) {
        // Memory ends long before the numbers do: a place is more than 16 bytes.
        self.free = self.places.len() as u32;
        self.places.push(Place { generation: 0, next: NONE, links: L::default(), value: None });
    }

    /// All places, used or free.
    #[inline(always)]
    pub(super) fn places(&self) -> &[Place<T, L>] {
        &self.places
    }

    /// All places, for their links to be changed.
    #[inline(always)]
    pub(super) fn places_mut(&mut self) -> &mut [Place<T, L>] {
        &mut self.places
    }

    /// The place that a name means, if the thing is still there.
    #[inline]
    pub(super) fn locate(&self, name: Name) -> Option<u32> {
        let place = self.places.get(name.at as usize)?;
        (place.generation == name.generation && place.value.is_some()).then_some(name.at)
    }

    /// The name of what is at a place.
    #[inline]
    pub(super) fn name(&self, at: u32) -> Option<Name> {
        let place = self.places.get(at as usize)?;
        Some(Name { at, generation: place.generation })
    }

    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        self.places.get(at as usize)?.value.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.places.get_mut(at as usize)?.value.as_mut()
    }

    /// The links of what is at a place.
    #[inline(always)]
    pub(super) fn links(&self, at: u32) -> Option<&L> {
        Some(&self.places.get(at as usize)?.links)
    }

    /// The links of what is at a place, to be changed.
    #[inline(always)]
    pub(super) fn links_mut(&mut self, at: u32) -> Option<&mut L> {
        Some(&mut self.places.get_mut(at as usize)?.links)
    }

    /// Takes a thing out; its name never names another one (until 2^32 more have used its place).
    #[inline(always)]
    pub(super) fn remove(&mut self, at: u32) -> Option<T> {
        let place = self.places.get_mut(at as usize)?;
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        place.next = self.free;
        self.free = at;
        self.used = self.used.wrapping_sub(1);
        Some(value)
    }

    /// The thing at a place and its links, to be taken out by [`Stay::leave`].
    #[inline(always)]
    pub(super) fn stay(&mut self, at: u32) -> Option<Stay<'_, T, L>> {
        let Self { places, free, used } = self;
        Some(Stay { place: places.get_mut(at as usize)?, at, free, used })
    }

    /// Takes everything out, in no particular order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        (0..self.places.len() as u32).filter_map(|at| self.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_name_names_nothing() {
        let mut slab = Slab::new();
        let put = |slab: &mut Slab<char, u32>, what, links| {
            let at = slab.vacant();
            slab.fill(at, what, links)
        };
        let a = put(&mut slab, 'a', 1);
        let b = put(&mut slab, 'b', 2);
        assert_eq!(slab.remove(a.at), Some('a'));
        assert_eq!((slab.locate(a), slab.remove(a.at)), (None, None));
        let c = put(&mut slab, 'c', 3);
        assert_eq!(c.at, a.at);
        assert_eq!((slab.locate(a), slab.locate(b), slab.locate(c)), (None, Some(b.at), Some(c.at)));
        assert_eq!((slab.name(c.at), slab.links(c.at)), (Some(c), Some(&3)));
        assert_eq!((slab.drain().collect::<String>(), slab.len()), ("cb".to_owned(), 0));
        assert_eq!(slab.locate(c), None);
    }
}
