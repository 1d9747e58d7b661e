//! The address vector: peers by a small number, and their numbers by what packets say of their source.

use crate::Address;
use foldhash::fast::RandomState;
use opx_defs::units::Lid;
use opx_defs::wire::opx::{EndpointName, Generation};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::num::NonZeroU32;

/// A peer's number in an [`AddressVector`] (`fi_addr_t` of FI_AV_TABLE): from 0 on, in the order of insertion while nothing is
/// removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FiAddr(u32);

impl FiAddr {
    /// The number, for a table of the application's own.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The peer with that number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }
}

impl fmt::Display for FiAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {}", self.0)
    }
}

/// Why a peer isn't inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError {
    /// It isn't the name of an endpoint.
    #[error("{len} bytes aren't the name of an endpoint in {generation}, which has {wanted} and no sub-context")]
    Name {
        /// Its bytes.
        len: usize,
        /// Those of a name.
        wanted: usize,
        /// The generation whose names were asked for.
        generation: Generation,
    },
    /// No endpoint has that address.
    #[error("{0} can't be that of a peer: a LID is from 1 to 0xffffff")]
    Lid(Address),
    /// There are as many peers as there may be.
    #[error("there are {limit} peers already, the limit of this address vector; make it larger or remove some")]
    Full {
        /// How many there may be.
        limit: usize,
    },
}

/// The peers of some endpoints. It belongs to whoever made it: lookups take no lock, so an application whose threads insert
/// while others send puts a lock of its choice around it, or gives each thread one.
///
/// A peer takes 4 bytes in the table, and 10 to 21 in the way back.
///
/// ```
/// use opx_defs::units::Lid;
/// use opx_stack::{Address, AddressVector};
/// let mut peers = AddressVector::new();
/// let peer = peers.insert(Address { lid: Lid(7), rx: 3 })?;
/// assert_eq!(peers.address(peer), Some(Address { lid: Lid(7), rx: 3 }));
/// // A completion tells where a message came from.
/// assert_eq!(peers.find(Address { lid: Lid(7), rx: 3 }), Some(peer));
/// # Ok::<(), opx_stack::InsertError>(())
/// ```
#[derive(Debug, Clone)]
pub struct AddressVector {
    entries: Vec<Option<Packed>>,
    free: Vec<FiAddr>,
    numbers: HashMap<Packed, FiAddr, RandomState>,
    limit: usize,
}

/// An address in 4 bytes: the longest LIDs, those of 16B packets, have 24 bits. Never 0, as no endpoint has LID 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Packed(NonZeroU32);

impl Packed {
    fn new(address: Address) -> Option<Self> {
        let lid = Some(address.lid.0).filter(|lid| (1..1 << 24).contains(lid))?;
        NonZeroU32::new(lid << 8 | u32::from(address.rx)).map(Self)
    }

    fn address(self) -> Address {
        Address { lid: Lid(self.0.get() >> 8), rx: self.0.get() as u8 }
    }
}

impl Default for AddressVector {
    fn default() -> Self {
        Self::new()
    }
}

impl AddressVector {
    /// Peers at most, unless told otherwise.
    pub const LIMIT: usize = 1 << 24;

    /// An empty one, with room for [`AddressVector::LIMIT`] peers.
    pub fn new() -> Self {
        Self::with_limit(Self::LIMIT)
    }

    /// An empty one, with room for `limit` peers (at most 2^31).
    pub fn with_limit(limit: usize) -> Self {
        let limit = limit.min(1 << 31);
        Self { entries: Vec::new(), free: Vec::new(), numbers: HashMap::default(), limit }
    }

    /// Peers.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Adds a peer. One that is there already keeps its number.
    ///
    /// # Errors
    /// When no endpoint can have that address, or there are too many.
    pub fn insert(&mut self, address: Address) -> Result<FiAddr, InsertError> {
        let packed = Packed::new(address).ok_or(InsertError::Lid(address))?;
        let place = match self.numbers.entry(packed) {
            Entry::Occupied(known) => return Ok(*known.get()),
            Entry::Vacant(place) => place,
        };
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.entries.len() < self.limit => {
                self.entries.push(None);
                FiAddr(self.entries.len() as u32 - 1)
            }
            None => return Err(InsertError::Full { limit: self.limit }),
        };
        place.insert(number);
        if let Some(entry) = self.entries.get_mut(number.index()) {
            *entry = Some(packed);
        }
        Ok(number)
    }

    /// Adds the peer that `name` names: the bytes of OPX's `fi_getname`, in the form of the peer's generation.
    ///
    /// ```
    /// use opx_defs::units::Lid;
    /// use opx_defs::wire::opx::{EndpointName, Generation};
    /// use opx_stack::{Address, AddressVector};
    /// let name = EndpointName { unit: 0, rx: 3, lid: Lid(7), gid_high: 0 };
    /// let bytes = name.to_bytes(Generation::G1);
    /// let mut peers = AddressVector::new();
    /// let peer = peers.insert_name(Generation::G1, &bytes[..EndpointName::len(Generation::G1)])?;
    /// assert_eq!(peers.address(peer), Some(Address { lid: Lid(7), rx: 3 }));
    /// # Ok::<(), opx_stack::InsertError>(())
    /// ```
    ///
    /// # Errors
    /// As [`AddressVector::insert`], and when the bytes aren't a name.
    pub fn insert_name(&mut self, generation: Generation, name: &[u8]) -> Result<FiAddr, InsertError> {
        let wanted = EndpointName::len(generation);
        match EndpointName::from_bytes(generation, name) {
            Some(name) => self.insert(Address { lid: name.lid, rx: name.rx }),
            None => Err(InsertError::Name { len: name.len(), wanted, generation }),
        }
    }

    /// A peer's address; `None` for one that was removed or never there.
    #[inline]
    pub fn address(&self, peer: FiAddr) -> Option<Address> {
        self.entries.get(peer.index()).copied().flatten().map(Packed::address)
    }

    /// The peer with that address, such as the source of a message.
    #[inline]
    pub fn find(&self, address: Address) -> Option<FiAddr> {
        self.numbers.get(&Packed::new(address)?).copied()
    }

    /// Takes a peer out; the next one that is inserted may get its number. Operations that are under way go on. Gives its
    /// address if it was there.
    pub fn remove(&mut self, peer: FiAddr) -> Option<Address> {
        let packed = self.entries.get_mut(peer.index())?.take()?;
        self.numbers.remove(&packed);
        self.free.push(peer);
        Some(packed.address())
    }

    /// All peers.
    pub fn iter(&self) -> impl Iterator<Item = (FiAddr, Address)> {
        (0..).map(FiAddr).zip(&self.entries).filter_map(|(peer, entry)| Some((peer, (*entry)?.address())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Insert(u32, u8),
        Remove(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0u32..6, 0u8..4).prop_map(|(lid, rx)| Step::Insert(lid, rx)),
            2 => (0u32..12).prop_map(Step::Remove),
        ];
        proptest::collection::vec(step, 0..80)
    }

    proptest! {
        #[test]
        fn it_does_what_a_plain_map_does(steps in steps()) {
            let mut peers = AddressVector::with_limit(10);
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Insert(lid, rx) => {
                        let address = Address { lid: Lid(lid), rx };
                        let known = model.iter().find(|(_, known)| **known == address).map(|(peer, _)| *peer);
                        match peers.insert(address) {
                            Ok(peer) => {
                                prop_assert!(known.is_none_or(|known| known == peer) && peer.index() < 10);
                                prop_assert!(model.insert(peer, address).is_none_or(|there| there == address));
                            }
                            Err(InsertError::Lid(_)) => prop_assert_eq!(lid, 0),
                            Err(refused) => {
                                prop_assert_eq!(refused, InsertError::Full { limit: 10 });
                                prop_assert!(model.len() == 10 && known.is_none());
                            }
                        }
                    }
                    Step::Remove(number) => {
                        prop_assert_eq!(peers.remove(FiAddr(number)), model.remove(&FiAddr(number)));
                    }
                }
                prop_assert_eq!(peers.len(), model.len());
                prop_assert!(peers.iter().eq(model.iter().map(|(peer, address)| (*peer, *address))));
                for number in 0..12 {
                    prop_assert_eq!(peers.address(FiAddr(number)), model.get(&FiAddr(number)).copied());
                }
                for lid in 0..6 {
                    for rx in 0..4 {
                        let address = Address { lid: Lid(lid), rx };
                        let known = model.iter().find(|(_, known)| **known == address).map(|(peer, _)| *peer);
                        prop_assert_eq!(peers.find(address), known);
                    }
                }
            }
        }
    }
}
