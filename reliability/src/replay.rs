//! The replay pool: a fixed number of entries for packets that were sent and not yet acknowledged, shared by all flows and
//! found by flow and PSN.
//!
//! An entry stays until all earlier packets of its flow are acknowledged, too; its packet is given back before.

use crate::peers::FlowId;
use opx_defs::time::Instant;
use opx_defs::units::Psn;

/// No entry.
const NONE: u32 = u32::MAX;

/// One packet.
#[derive(Debug)]
pub(crate) struct Entry<P> {
    /// Flow and PSN.
    key: u64,
    /// The next entry of the same bucket, or the next free one.
    next: u32,
    /// When it was last sent.
    pub(crate) sent: Instant,
    /// The caller's handle, until it is acknowledged.
    pub(crate) packet: Option<P>,
    pub(crate) bytes: u32,
    /// Of an acknowledged packet: how many packets from it on are known to be acknowledged as well.
    pub(crate) run: u32,
    /// Times it was sent again.
    pub(crate) resends: u8,
    /// Waiting to be sent again.
    pub(crate) queued: bool,
}

#[derive(Debug)]
pub(crate) struct ReplayPool<P> {
    entries: Box<[Entry<P>]>,
    /// The first entry of each list of free ones and of each bucket.
    free: u32,
    buckets: Box<[u32]>,
    shift: u32,
    /// What a flow may have of it, see [`ReplayPool::share`].
    share: u32,
}

/// A flow may have so many entries for each that is free.
const SHARE: u32 = 4;

fn key(flow: FlowId, psn: Psn) -> u64 {
    u64::from(flow) << 24 | u64::from(psn.get())
}

impl<P> ReplayPool<P> {
    /// A pool of `limit` entries, which is more than 0.
    pub(crate) fn new(limit: u32) -> Self {
        let buckets = (limit as usize).next_power_of_two().max(2);
        // All of it now: later nothing is allocated any more.
        let free = |next: u32| Entry {
            key: u64::MAX,
            next: if next < limit { next } else { NONE },
            sent: Instant::ZERO,
            packet: None,
            bytes: 0,
            run: 0,
            resends: 0,
            queued: false,
        };
        Self {
            entries: (1..=limit).map(free).collect(),
            free: 0,
            buckets: vec![NONE; buckets].into_boxed_slice(),
            shift: 64 - buckets.trailing_zeros(),
            share: limit * SHARE,
        }
    }

    /// Entries in use.
    pub(crate) fn used(&self) -> u32 {
        (self.entries.len() as u32).saturating_sub(self.share / SHARE)
    }

    #[inline(always)]
    pub(crate) fn has_room(&self) -> bool {
        // Not by the count: the same comparison is made to get at the entry.
        (self.free as usize) < self.entries.len()
    }

    /// How many entries a flow may have before it gets another one: some for each that is free, so that no number of flows
    /// that give nothing back leaves none for the others (Choudhury and Hahne's dynamic thresholds). The first one is free to all.
    #[inline(always)]
    pub(crate) fn share(&self) -> u32 {
        self.share
    }

    #[inline(always)]
    fn bucket(&self, key: u64) -> usize {
        // Fibonacci hashing: the PSNs of one flow spread evenly. Neither flow numbers nor PSNs are a peer's to choose.
        key.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_shr(self.shift) as usize
    }

    /// Adds the packet that `make` gives; doesn't ask for it when there is no room.
    #[inline(always)]
    pub(crate) fn insert(
        &mut self,
        flow: FlowId,
        psn: Psn,
        sent: Instant,
        bytes: u32,
        make: impl FnOnce(Psn) -> P,
    ) -> bool {
        let key = key(flow, psn);
        let bucket = self.bucket(key);
        // There is no free entry when `free` is none.
        let (Some(head), Some(place)) = (self.buckets.get_mut(bucket), self.entries.get_mut(self.free as usize)) else {
            return false;
        };
        let next = std::mem::replace(head, std::mem::replace(&mut self.free, place.next));
        // The rest is as it was made: an entry that is given back is put right then.
        (place.key, place.next, place.sent, place.bytes) = (key, next, sent, bytes);
        place.packet = Some(make(psn));
        self.share = self.share.wrapping_sub(SHARE);
        true
    }

    fn index(&self, key: u64) -> Option<usize> {
        let mut at = *self.buckets.get(self.bucket(key))?;
        loop {
            let entry = self.entries.get(at as usize)?;
            if entry.key == key {
                return Some(at as usize);
            }
            at = entry.next;
        }
    }

    pub(crate) fn get(&self, flow: FlowId, psn: Psn) -> Option<&Entry<P>> {
        self.entries.get(self.index(key(flow, psn))?)
    }

    pub(crate) fn get_mut(&mut self, flow: FlowId, psn: Psn) -> Option<&mut Entry<P>> {
        let index = self.index(key(flow, psn))?;
        self.entries.get_mut(index)
    }

    /// Takes an entry out; gives its packet if it still had it.
    pub(crate) fn remove(&mut self, flow: FlowId, psn: Psn) -> Option<Option<P>> {
        let key = key(flow, psn);
        let bucket = self.bucket(key);
        let mut before = None;
        let mut at = *self.buckets.get(bucket)?;
        let after = loop {
            let entry = self.entries.get(at as usize)?;
            if entry.key == key {
                break entry.next;
            }
            before = Some(at);
            at = entry.next;
        };
        match before {
            None => *self.buckets.get_mut(bucket)? = after,
            Some(before) => self.entries.get_mut(before as usize)?.next = after,
        }
        let entry = self.entries.get_mut(at as usize)?;
        entry.next = std::mem::replace(&mut self.free, at);
        (entry.key, entry.run, entry.resends, entry.queued) = (u64::MAX, 0, 0, false);
        self.share += SHARE;
        Some(entry.packet.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_map_of_a_fixed_size(steps in prop::collection::vec((0u32..4, 0u32..30, any::<bool>()), 0..300)) {
            let (mut pool, mut model) = (ReplayPool::new(16), BTreeMap::new());
            for (n, (flow, psn, add)) in steps.into_iter().enumerate() {
                let (psn, key) = (Psn::new(psn), (flow, psn));
                if !add {
                    prop_assert_eq!(pool.remove(flow, psn).flatten(), model.remove(&key));
                } else if !model.contains_key(&key) && pool.insert(flow, psn, Instant::ZERO, 1, |_| n) {
                    model.insert(key, n);
                }
                prop_assert_eq!(pool.used() as usize, model.len());
                prop_assert_eq!(pool.has_room(), model.len() < 16);
                prop_assert_eq!(pool.share() as usize, 4 * (16 - model.len()));
                for flow in 0..4 {
                    for psn in 0..30 {
                        let got = pool.get(flow, Psn::new(psn)).and_then(|entry| entry.packet);
                        prop_assert_eq!(got, model.get(&(flow, psn)).copied());
                    }
                }
            }
        }
    }
}
