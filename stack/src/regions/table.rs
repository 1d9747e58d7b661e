//! From keys to regions: a table of fixed size that is read without a lock and without waiting for who changes it.

use arc_swap::ArcSwapOption;
use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Places that a key can be in. Half as many sets as there may be values leave two to a set; that seventeen come to one is a matter
/// of one in ten thousand million.
const WAYS: usize = 16;

/// What has a key.
pub trait Keyed {
    /// The key: the same all its life.
    fn key(&self) -> u64;
}

/// Why a value isn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// As many as there may be.
    Full,
    /// Another one has the key.
    Taken,
    /// All places of the key's set are taken by others.
    Crowded,
}

/// The table. As a cache's lines, values lie in sets, and the key says in which: to find one takes as long however many there are.
pub struct Table<T> {
    sets: Box<[Set<T>]>,
    limit: usize,
    /// How many there are; held while one comes or goes.
    live: Mutex<usize>,
}

/// A key may be an old one: what counts is the value's own.
struct Set<T> {
    keys: [AtomicU64; WAYS],
    values: [ArcSwapOption<T>; WAYS],
}

impl<T: Keyed> Table<T> {
    /// A table for at most `limit` values.
    pub fn new(limit: usize) -> Self {
        let sets = limit.next_power_of_two().div_ceil(2);
        let set = || Set {
            keys: array::from_fn(|_| AtomicU64::new(0)),
            values: array::from_fn(|_| ArcSwapOption::const_empty()),
        };
        Self { sets: (0..sets).map(|_| set()).collect(), limit, live: Mutex::new(0) }
    }

    fn set(&self, key: u64) -> &Set<T> {
        // Keys of a user's may be anything: multiples of a page, small numbers. Each bit of them has a say (murmur3's finaliser).
        let mut hash = key;
        for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
            hash = (hash ^ hash >> 33).wrapping_mul(factor);
        }
        // A power of two.
        &self.sets[(hash ^ hash >> 33) as usize & (self.sets.len() - 1)]
    }

    /// The value with this key.
    pub fn get(&self, key: u64) -> Option<Arc<T>> {
        let set = self.set(key);
        set.keys.iter().zip(&set.values).find_map(|(known, value)| {
            if known.load(Ordering::Acquire) != key {
                return None;
            }
            value.load_full().filter(|value| value.key() == key)
        })
    }

    /// Adds a value.
    pub fn insert(&self, value: Arc<T>) -> Result<(), Refused> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let key = value.key();
        if self.get(key).is_some() {
            return Err(Refused::Taken);
        }
        if *live >= self.limit {
            return Err(Refused::Full);
        }
        let set = self.set(key);
        let free = set.keys.iter().zip(&set.values).find(|(_, value)| value.load().is_none());
        let (known, place) = free.ok_or(Refused::Crowded)?;
        known.store(key, Ordering::Release);
        place.store(Some(value));
        *live += 1;
        Ok(())
    }

    /// Takes a value out: from now on its key finds nothing.
    pub fn remove(&self, value: &Arc<T>) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |place: &&ArcSwapOption<T>| place.load().as_ref().is_some_and(|there| Arc::ptr_eq(there, value));
        if let Some(place) = self.set(value.key()).values.iter().find(same) {
            place.store(None);
            *live -= 1;
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[derive(Debug, PartialEq)]
    struct Value(u64, u32);

    impl Keyed for Value {
        fn key(&self) -> u64 {
            self.0
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_with_a_bound(
            limit in prop_oneof![0usize..16, 100usize..130],
            steps in prop::collection::vec((any::<bool>(), prop_oneof![0u64..8, (0u64..40).prop_map(|k| k << 52), 0u64..300]), 0..400),
        ) {
            let table = Table::new(limit);
            let mut model: HashMap<u64, Arc<Value>> = HashMap::new();
            for (number, (insert, key)) in steps.into_iter().enumerate() {
                if insert {
                    let value = Arc::new(Value(key, number as u32));
                    let must = match model.contains_key(&key) {
                        true => Err(Refused::Taken),
                        false if model.len() >= limit => Err(Refused::Full),
                        false => Ok(()),
                    };
                    prop_assert_eq!(table.insert(Arc::clone(&value)), must);
                    if must.is_ok() {
                        model.insert(key, value);
                    }
                } else if let Some(value) = model.remove(&key) {
                    table.remove(&value);
                    // Twice does nothing.
                    table.remove(&value);
                }
                prop_assert_eq!(table.get(key), model.get(&key).cloned());
                prop_assert_eq!(table.len(), model.len());
            }
            for (key, value) in &model {
                prop_assert!(table.get(*key).is_some_and(|found| Arc::ptr_eq(&found, value)));
            }
        }
    }

    #[test]
    fn keys_of_every_kind_spread() {
        for keys in [|i| i, |i| i << 12, |i| i << 48, |i: u64| i.reverse_bits(), |i| 0x7fff_0000_0000 + i * 4096] {
            let table = Table::new(4096);
            let values: Vec<_> = (0..4096).map(|i| Arc::new(Value(keys(i), 0))).collect();
            values.iter().for_each(|value| table.insert(Arc::clone(value)).unwrap());
            assert_eq!(table.insert(Arc::new(Value(u64::MAX / 3, 0))), Err(Refused::Full));
        }
    }
}
