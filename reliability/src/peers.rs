//! Which flow belongs to which peer: an open hash table of one word an entry, whose hash a peer can't foresee, so that it can't
//! make its flows collide.

use opx_defs::wire::opx::Origin;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Number of a flow in its half's list, below 2^20.
pub(crate) type FlowId = u32;

const ID_BITS: u32 = 24;
const NO_FLOW: FlowId = (1 << ID_BITS) - 1;
const FEWEST: usize = 16;
const FREE: u64 = u64::MAX;

/// Puts a flow's state at the end of a list that grows by an eighth: doubling, as lists do by themselves, would leave up to half
/// of the memory of a hundred thousand flows unused.
#[cold]
pub(crate) fn push<T>(list: &mut Vec<T>, state: T) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 8).max(FEWEST));
    }
    list.push(state);
}

/// Flows by peer.
#[derive(Debug)]
pub(crate) struct Peers {
    /// LID, context and the flow's number; [`FREE`] for none. A power of two of them, at most half in use.
    table: Box<[u64]>,
    used: usize,
    seed: u64,
    /// The entry that was found last: packets come and go in trains.
    last: u64,
}

#[inline(always)]
fn key(peer: Origin) -> u64 {
    u64::from(peer.lid.0) << 8 | u64::from(peer.rx)
}

impl Peers {
    /// Bytes that one flow takes at most.
    #[cfg(test)]
    pub(crate) const MOST_BYTES: usize = 4 * size_of::<u64>();

    pub(crate) fn new() -> Self {
        Self { table: vec![FREE; FEWEST].into_boxed_slice(), used: 0, seed: RandomState::new().hash_one(0), last: FREE }
    }

    /// One multiplication, folded. Whose keys collide depends on the seed.
    #[inline(always)]
    fn hash(&self, key: u64) -> usize {
        let wide = u128::from(self.seed ^ key) * 0x9e37_79b9_7f4a_7c15;
        (wide as u64 ^ (wide >> 64) as u64) as usize
    }

    /// As [`Peers::find`], for who will probably ask for the same one again.
    #[inline(always)]
    pub(crate) fn find_again(&mut self, peer: Origin) -> Option<FlowId> {
        let key = key(peer);
        if self.last >> ID_BITS != key {
            self.last = self.entry(key)?;
        }
        Some(self.last as FlowId & NO_FLOW)
    }

    /// The flow of a peer, or a number that no flow has.
    #[inline(always)]
    pub(crate) fn find(&self, peer: Origin) -> Option<FlowId> {
        self.entry(key(peer)).map(|entry| entry as FlowId & NO_FLOW)
    }

    #[inline(always)]
    fn entry(&self, key: u64) -> Option<u64> {
        let mask = self.table.len().wrapping_sub(1);
        let mut at = self.hash(key);
        loop {
            // There is always a free entry: no more than half are in use.
            let entry = *self.table.get(at & mask)?;
            if entry >> ID_BITS == key {
                // One peer, of the highest LID and context that can be said, is found in a free entry: with a number that no
                // flow has.
                return Some(entry);
            }
            if entry == FREE {
                return None;
            }
            at = at.wrapping_add(1);
        }
    }

    /// Adds a peer that isn't there.
    pub(crate) fn insert(&mut self, peer: Origin, flow: FlowId) {
        if (self.used + 1) * 2 > self.table.len() {
            let larger = vec![FREE; self.table.len() * 2].into_boxed_slice();
            for entry in std::mem::replace(&mut self.table, larger).into_iter().filter(|entry| *entry != FREE) {
                self.place(entry);
            }
        }
        self.used += 1;
        let entry = key(peer) << ID_BITS | u64::from(flow);
        // The one found last may have been a free one, in which the peer whose key is all ones is found.
        self.last = entry;
        self.place(entry);
    }

    fn place(&mut self, entry: u64) {
        let (hash, mask) = (self.hash(entry >> ID_BITS), self.table.len() - 1);
        for at in 0..=mask {
            if let Some(free) = self.table.get_mut(hash.wrapping_add(at) & mask).filter(|entry| **entry == FREE) {
                *free = entry;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::units::Lid;

    /// Entries that are looked at, at most, to find any of `peers`.
    fn longest_look(table: &Peers, peers: &[Origin]) -> usize {
        let mask = table.table.len() - 1;
        let look = |peer: &Origin| {
            let start = table.hash(key(*peer));
            (0..=mask).position(|at| table.table[start.wrapping_add(at) & mask] >> ID_BITS == key(*peer)).unwrap() + 1
        };
        peers.iter().map(look).max().unwrap()
    }

    fn filled(mut table: Peers, peers: &[Origin]) -> Peers {
        peers.iter().zip(0..).for_each(|(peer, id)| table.insert(*peer, id));
        table
    }

    #[test]
    fn peers_that_collide_in_one_table_do_not_in_another() {
        // All entries that a table of this size has, from where the search for them begins.
        const PEERS: usize = 1000;
        let known = Peers::new();
        let mask = (PEERS * 2).next_power_of_two() - 1;
        let all = (0..u32::MAX).map(|n| Origin { lid: Lid(n), rx: n as u8 });
        let evil: Vec<_> = all.filter(|peer| known.hash(key(*peer)) & mask == 0).take(PEERS).collect();
        // Whoever knew the seed could have each found only after all the others.
        assert_eq!(longest_look(&filled(Peers { seed: known.seed, ..Peers::new() }, &evil), &evil), PEERS);
        // One in a few thousand is unlucky.
        let mut looks: Vec<_> = (0..20).map(|_| longest_look(&filled(Peers::new(), &evil), &evil)).collect();
        looks.sort_unstable();
        assert!(looks[15] < 100, "{looks:?} entries");
    }

    #[test]
    fn peers_that_differ_in_a_few_bits_only_are_found_soon() {
        let lists = [
            (|n| Origin { lid: Lid(n), rx: 0 }) as fn(u32) -> Origin,
            |n| Origin { lid: Lid(7), rx: n as u8 },
            |n| Origin { lid: Lid(n << 8), rx: 3 },
            |n| Origin { lid: Lid(n << 16), rx: 3 },
            |n| Origin { lid: Lid(n.reverse_bits()), rx: 3 },
            |n| Origin { lid: Lid(n >> 8), rx: n as u8 },
        ];
        for (list, of) in lists.into_iter().enumerate() {
            let peers: Vec<_> = (0..if list == 1 { 256 } else { 50_000 }).map(of).collect();
            let look = longest_look(&filled(Peers::new(), &peers), &peers);
            assert!(look < 400, "list {list}: {look} entries");
        }
    }

    #[test]
    fn every_peer_finds_its_flow() {
        let mut peers = Peers::new();
        let peer = |n: u32| Origin { lid: Lid(n.wrapping_mul(0x9e37_79b9)), rx: n as u8 };
        for n in 0..10_000 {
            assert_eq!(peers.find(peer(n)), None);
            peers.insert(peer(n), n);
        }
        for n in 0..10_000 {
            assert_eq!(peers.find(peer(n)), Some(n));
            assert_eq!((peers.find_again(peer(n)), peers.find_again(peer(n))), (Some(n), Some(n)));
        }
        let nobody = Origin { lid: Lid(0), rx: 0 };
        assert_eq!(peers.find(nobody), Some(0), "the first one");
        assert_eq!(peers.find(Origin { rx: 1, ..nobody }), None);
        let highest = Origin { lid: Lid(u32::MAX), rx: u8::MAX };
        assert_eq!((peers.find(highest), peers.find_again(highest)), (Some(NO_FLOW), Some(NO_FLOW)));
        peers.insert(highest, 3);
        assert_eq!((peers.find(highest), peers.find_again(highest)), (Some(3), Some(3)));
        assert!(peers.table.len() * 8 <= 10_000 * Peers::MOST_BYTES);
    }
}
