//! A table whose keys stay wrong once what they named is gone.

/// The lower 32 bits are the place, 30 above them count how often it was used anew.
pub(crate) type Key = u64;

const GENERATIONS: u32 = (1 << 30) - 1;

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Takes a value in. None when there are 2^32 already.
    pub(crate) fn insert(&mut self, value: T) -> Option<Key> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.places.len()).ok()?;
                self.places.push(Place { generation: 0, value: None });
                index
            }
        };
        let place = self.places.get_mut(index as usize)?;
        place.value = Some(value);
        Some(u64::from(place.generation) << 32 | u64::from(index))
    }

    #[inline(always)]
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let place = self.places.get(key as u32 as usize)?;
        if place.generation != (key >> 32) as u32 { None } else { place.value.as_ref() }
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key as u32 as usize)?;
        if place.generation != (key >> 32) as u32 { None } else { place.value.as_mut() }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let place = self.places.get_mut(key as u32 as usize)?;
        place.generation = (place.generation + 1) & GENERATIONS;
        self.free.push(key as u32);
        place.value.take()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            place.value.as_ref().map(|value| (u64::from(place.generation) << 32 | index as u64, value))
        })
    }

    /// Removes all for which `gone` holds.
    pub(crate) fn remove_all(&mut self, gone: impl Fn(&T) -> bool) -> Vec<(Key, T)> {
        let keys: Vec<Key> = self.iter().filter(|(_, value)| gone(value)).map(|(key, _)| key).collect();
        keys.into_iter().filter_map(|key| Some((key, self.remove(key)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_keys_stay_wrong() {
        let mut slab = Slab::default();
        let first = slab.insert("first").unwrap();
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second").unwrap();
        assert_eq!((first as u32, slab.len()), (second as u32, 1));
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
        assert_eq!(slab.get(u64::MAX), None);
        assert_eq!(slab.remove_all(|_| true), [(second, "second")]);
    }
}
