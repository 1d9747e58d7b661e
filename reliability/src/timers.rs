//! When to look at which flow: a heap that knows each flow's place, so that a time can be set, moved and taken back in a
//! logarithmic number of steps, with no more than one entry for a flow.

use crate::peers::{FlowId, push};
use opx_defs::time::Instant;

/// Not in the heap.
const NOWHERE: u32 = u32::MAX;

/// One time for each flow, or none.
#[derive(Debug)]
pub(crate) struct Timers {
    heap: Vec<(Instant, FlowId)>,
    /// Where a flow's entry is in the heap.
    place: Vec<u32>,
    /// The least time.
    earliest: Instant,
}

impl Timers {
    /// Times for up to `busy` flows at once, so that setting one never allocates.
    pub(crate) fn new(busy: u32) -> Self {
        Self { heap: Vec::with_capacity(busy as usize), place: Vec::new(), earliest: Instant::FAR }
    }

    /// Makes one more flow known.
    pub(crate) fn add_flow(&mut self) {
        push(&mut self.place, NOWHERE);
    }

    pub(crate) fn first(&self) -> Option<(Instant, FlowId)> {
        self.heap.first().copied()
    }

    /// The least time; [`Instant::FAR`] when there is none.
    #[inline(always)]
    pub(crate) fn earliest(&self) -> Instant {
        self.earliest
    }

    /// Sets or moves a flow's time.
    pub(crate) fn set(&mut self, flow: FlowId, at: Instant) {
        self.move_to(flow, at);
        self.note_earliest();
    }

    fn note_earliest(&mut self) {
        self.earliest = self.heap.first().map_or(Instant::FAR, |(at, _)| *at);
    }

    fn move_to(&mut self, flow: FlowId, at: Instant) {
        let Some(place) = self.place.get(flow as usize).copied() else { return };
        if place == NOWHERE {
            self.heap.push((at, flow));
            self.rise(self.heap.len() - 1, (at, flow));
        } else {
            self.settle(place as usize, (at, flow));
        }
    }

    /// Takes a flow's time back, if there is one.
    pub(crate) fn clear(&mut self, flow: FlowId) {
        let Some(place) = self.place.get_mut(flow as usize) else { return };
        let gap = std::mem::replace(place, NOWHERE) as usize;
        if gap == NOWHERE as usize {
            return;
        }
        let Some(last) = self.heap.pop() else { return };
        if gap < self.heap.len() {
            self.settle(gap, last);
        }
        self.note_earliest();
    }

    /// Puts an entry at `at`, then up or down to where it belongs.
    fn settle(&mut self, at: usize, entry: (Instant, FlowId)) {
        if at > 0 && self.heap.get((at - 1) / 2).is_some_and(|parent| entry < *parent) {
            self.rise(at, entry);
        } else {
            self.sink(at, entry);
        }
    }

    fn rise(&mut self, mut at: usize, entry: (Instant, FlowId)) {
        while at > 0 {
            let above = (at - 1) / 2;
            let Some(parent) = self.heap.get(above).copied().filter(|parent| entry < *parent) else { break };
            self.put(at, parent);
            at = above;
        }
        self.put(at, entry);
    }

    fn sink(&mut self, mut at: usize, entry: (Instant, FlowId)) {
        loop {
            let left = 2 * at + 1;
            let Some(children) = self.heap.get(left..(left + 2).min(self.heap.len())) else { break };
            let Some((child, least)) = children.iter().copied().zip(left..).map(|(e, i)| (i, e)).min_by_key(|c| c.1)
            else {
                break;
            };
            if entry <= least {
                break;
            }
            self.put(at, least);
            at = child;
        }
        self.put(at, entry);
    }

    fn put(&mut self, at: usize, entry: (Instant, FlowId)) {
        if let (Some(to), Some(place)) = (self.heap.get_mut(at), self.place.get_mut(entry.1 as usize)) {
            *to = entry;
            *place = at as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_map_with_a_least_value(steps in prop::collection::vec((0u32..20, prop::option::of(0u64..50)), 0..200)) {
            let (mut timers, mut model) = (Timers::new(20), BTreeMap::new());
            for _ in 0..20 {
                timers.add_flow();
            }
            for (flow, at) in steps {
                match at.map(Instant::from_nanos) {
                    Some(at) => {
                        timers.set(flow, at);
                        model.insert(flow, at);
                    }
                    None => {
                        timers.clear(flow);
                        model.remove(&flow);
                    }
                }
                prop_assert_eq!(timers.first(), model.iter().map(|(flow, at)| (*at, *flow)).min());
                prop_assert_eq!(timers.heap.len(), model.len());
                prop_assert_eq!(timers.earliest(), model.values().min().copied().unwrap_or(Instant::FAR));
            }
        }
    }
}
