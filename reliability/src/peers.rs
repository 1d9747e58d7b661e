//! Which flow belongs to which peer: a hash table whose hash a peer can't foresee, so that it can't make its flows collide.

use opx_defs::wire::opx::Origin;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};

/// Number of a flow in its half's list.
pub(crate) type FlowId = u32;

/// Flows by peer.
#[derive(Debug)]
pub(crate) struct Peers(HashMap<Peer, FlowId, Seed>);

impl Peers {
    pub(crate) fn new() -> Self {
        Self(HashMap::with_hasher(Seed(RandomState::new().hash_one(0))))
    }

    #[inline]
    pub(crate) fn find(&self, peer: Origin) -> Option<FlowId> {
        self.0.get(&Peer(peer)).copied()
    }

    pub(crate) fn insert(&mut self, peer: Origin, flow: FlowId) {
        self.0.insert(Peer(peer), flow);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Peer(Origin);

impl Hash for Peer {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(u64::from(self.0.lid.0) << 8 | u64::from(self.0.rx));
    }
}

#[derive(Debug, Clone, Copy)]
struct Seed(u64);

impl BuildHasher for Seed {
    type Hasher = Folding;

    #[inline]
    fn build_hasher(&self) -> Folding {
        Folding(self.0)
    }
}

/// One multiplication, folded. std's own hash costs more than everything else that is done for a packet.
#[derive(Debug)]
struct Folding(u64);

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = wide as u64 ^ (wide >> 64) as u64;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
