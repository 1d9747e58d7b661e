//! Memory regions: what of a process' memory its peers may read, write and change, by key.
//!
//! [`Regions`] is shared by the endpoints of a domain. What is registered has a [`MemoryRegion`], which is the owner's, and a key,
//! which is the peers'. A packet that names a key, a place and a length is looked up ([`Regions::lookup`]): the key must be that
//! of a region, the region must grant what the packet asks for, and all of the bytes must be inside. What comes out is a
//! [`RegionSlice`]. libfabric's OPX checks neither rights nor bounds, and takes a key that it doesn't know for a null pointer.
//!
//! ```
//! use opx_bus::SharedMem;
//! use opx_stack::atomics::{AtomicOp, Datatype, Op};
//! use opx_stack::regions::{Access, Registration, Regions, RegionsConfig};
//!
//! let regions = Regions::new(RegionsConfig::default());
//! let memory = SharedMem::new(4096)?;
//! let region = regions.register(Registration::of(memory, Access::ATOMIC))?;
//!
//! // At the target of an atomic operation with a result: the key, the place and the length are the packet's.
//! let counter = regions.lookup(region.key(), 64, 8, Access::ATOMIC)?;
//! let mut before = [0; 8];
//! counter.fetch_apply(&AtomicOp::new(Op::Sum, Datatype::Uint64)?, &5u64.to_le_bytes(), &mut before)?;
//! assert_eq!((u64::from_le_bytes(before), region.memory().read_u64(64)), (0, 5));
//!
//! assert!(regions.lookup(region.key(), 4090, 8, Access::ATOMIC).is_err());
//! assert!(regions.lookup(region.key() ^ 1, 64, 8, Access::ATOMIC).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Keys
//!
//! A key is 64 random bits of the system's: knowing some tells nothing of others, and a key that was closed comes back with the
//! odds of one in 2^64. A user who must choose keys (libfabric's FI_MR_SCALABLE, where OPX takes any below 2^64 - 1 and, of two
//! regions with the same, hides one) can, if the table was made for that; a key that is taken is refused.
//!
//! # Places
//!
//! A place is an offset in the region, or an address of the owner's process, as [`Base`] says: OPX has the first in scalable mode
//! and the second with FI_MR_VIRT_ADDR (`fi_opx_mr.c:fi_opx_mr_reg_internal`, `base_addr`).
//!
//! # Atomic operations
//!
//! An atomic operation, all its elements together, is atomic against every other one through any region of the same
//! [`SharedMem`] of the same [`Regions`]: they take a lock that the memory has. Elements that lie in one aligned word of 8 bytes
//! are also changed by compare-exchange, so that they are atomic, one by one, against what the program itself does to
//! [`SharedMem::words`], and against another process that maps the same memory. Against plain reads and writes nothing is atomic,
//! as libfabric has it.
//!
//! # The end of a region
//!
//! Memory can't be unmapped under its registration, as it can where any address may be registered: [`SharedMem`] stays mapped for as
//! long as anybody has it, and a region has it. So there is no registration cache that would have to notice.
//!
//! When a [`MemoryRegion`] is dropped its key is dead at once. Slices that were found before go on; the memory stays for them.
//! [`MemoryRegion::close`] tells when the last of them is gone.

mod cells;
mod memory;
mod slice;
mod table;

pub use memory::RegionMemory;
pub use slice::RegionSlice;

use crate::atomics::AtomicError;
use bitflags::bitflags;
use opx_bus::{ProcessMark, SharedMem};
use std::array;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use table::{Keyed, Refused, Table};

/// Regions that there can be at most, in any table.
pub const MAX_REGIONS: usize = 1 << 16;

/// How often a key is drawn when the one before is taken or has no room.
const DRAWS: usize = 16;

/// Locks of atomic operations: memories share them.
const LOCKS: usize = 64;

/// What libfabric calls no key, FI_KEY_NOTAVAIL.
const NO_KEY: u64 = u64::MAX;

bitflags! {
    /// What may be done with a region. Atomic operations with a result read and write; those without only write.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Access: u8 {
        /// The owner sends from it.
        const LOCAL_READ = 1;
        /// The owner receives into it.
        const LOCAL_WRITE = 2;
        /// Peers read it.
        const REMOTE_READ = 4;
        /// Peers write to it.
        const REMOTE_WRITE = 8;
        /// Both of these: what atomic operations with a result need.
        const ATOMIC = 4 | 8;
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (index, (name, _)) in self.iter_names().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { ", " }, name.to_lowercase().replace('_', " "))?;
        }
        Ok(())
    }
}

/// How peers name places in a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Base {
    /// By the offset from the region's beginning.
    #[default]
    Offset,
    /// By the address that the owner's process sees.
    Address,
}

/// Who chooses a region's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeyChoice {
    /// Chance: nobody can guess it.
    #[default]
    Unguessable,
    /// The user: whoever can guess it is let in. The table must allow it, see [`RegionsConfig::chosen_keys`].
    Chosen(u64),
}

/// What is to be registered.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The memory.
    pub memory: RegionMemory,
    /// Which bytes of it.
    pub range: Range<usize>,
    /// What may be done with them.
    pub access: Access,
    /// How peers name places in them.
    pub base: Base,
    /// Who chooses the key.
    pub key: KeyChoice,
}

impl Registration {
    /// All of `memory`, by offset, with a key that can't be guessed.
    pub fn of(memory: impl Into<RegionMemory>, access: Access) -> Self {
        let memory = memory.into();
        Self { range: 0..memory.memory().len(), memory, access, base: Base::default(), key: KeyChoice::default() }
    }
}

/// How a table of regions is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionsConfig {
    /// Regions at most, up to [`MAX_REGIONS`]; each takes about 128 bytes whether it is used or not. 4096 unless told.
    pub limit: usize,
    /// Whether users may choose keys. Not unless told: a key that can be guessed keeps nobody out.
    pub chosen_keys: bool,
}

impl Default for RegionsConfig {
    fn default() -> Self {
        Self { limit: 4096, chosen_keys: false }
    }
}

/// Why memory isn't registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The range isn't one of the memory.
    #[error("bytes {start:#x} to {end:#x} aren't a range of memory of {len:#x} bytes")]
    Range {
        /// Where it would begin.
        start: usize,
        /// Where it would end.
        end: usize,
        /// Bytes of the memory.
        len: usize,
    },
    /// There are as many regions as there may be.
    #[error("{limit} memory regions are registered, which is the limit; close some or raise RegionsConfig::limit")]
    Full {
        /// How many there may be.
        limit: usize,
    },
    /// Keys can't be chosen here.
    #[error("key {0:#x} was chosen, but this table draws its keys; set RegionsConfig::chosen_keys to choose them")]
    NotChosen(u64),
    /// Another region has the key.
    #[error("key {0:#x} is that of another memory region; choose another or close that region first")]
    KeyTaken(u64),
    /// The key can't be one, or there is no room where it would be.
    #[error("key {0:#x} can't be used; choose another")]
    KeyUnusable(u64),
    /// The table belongs to the process that this one was forked from.
    #[error(
        "the regions belong to the process that this one was forked from; register there, or open a domain after forking"
    )]
    Forked,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers to make a key of: {0}")]
    Randomness(getrandom::Error),
}

/// Why a region refuses an access. The key is the one that was asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// No region has this key.
    #[error("no memory region has key {key:#x}: it was never one of this domain's, or its region is closed")]
    UnknownKey {
        /// The key.
        key: u64,
    },
    /// The region doesn't grant it.
    #[error(
        "the memory region with key {key:#x} doesn't grant {missing}; register it, and look it up, with that access"
    )]
    Access {
        /// Its key.
        key: u64,
        /// What it doesn't grant; of what wasn't asked for, what would do.
        missing: Access,
    },
    /// The place isn't in the region at all: it lies before it.
    #[error("place {place:#x} lies before the memory region with key {key:#x}, which begins at {base:#x}")]
    Before {
        /// Its key.
        key: u64,
        /// The place.
        place: u64,
        /// Where it begins.
        base: u64,
    },
    /// Not all of the bytes are in the region.
    #[error("{len:#x} bytes at offset {offset:#x} leave the memory region with key {key:#x}, of {size:#x} bytes")]
    Outside {
        /// Its key.
        key: u64,
        /// Where they begin, from the region's beginning.
        offset: u64,
        /// How many they are.
        len: u64,
        /// The region's bytes.
        size: u64,
    },
    /// The region belongs to the process that this one was forked from.
    #[error("the memory region belongs to the process that this one was forked from; use it there")]
    Forked,
    /// The atomic operation can't be done.
    #[error(transparent)]
    Atomic(#[from] AtomicError),
}

/// Registered memory, as table and slices share it.
struct Region {
    key: u64,
    memory: RegionMemory,
    /// Inside `memory`.
    range: Range<usize>,
    access: Access,
    /// What peers call its first byte.
    base: u64,
    /// Held by atomic operations; regions of the same memory have the same.
    atomics: Arc<Mutex<()>>,
    /// A forked child may find the lock taken for ever.
    process: ProcessMark,
}

impl Keyed for Region {
    fn key(&self) -> u64 {
        self.key
    }
}

struct Shared {
    table: Table<Region>,
    config: RegionsConfig,
    locks: [Arc<Mutex<()>>; LOCKS],
    process: ProcessMark,
}

/// The memory regions of a domain. Clones are handles to the same; any number of threads may use them at once.
///
/// To look a region up takes the same time however many there are, and neither lock nor allocation (but for a thread's first time).
/// See the module's introduction.
#[derive(Clone)]
pub struct Regions {
    shared: Arc<Shared>,
}

impl fmt::Debug for Regions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Regions").field("len", &self.len()).field("config", &self.shared.config).finish()
    }
}

impl Regions {
    /// A table without regions.
    pub fn new(config: RegionsConfig) -> Self {
        let config = RegionsConfig { limit: config.limit.min(MAX_REGIONS), ..config };
        let table = Table::new(config.limit);
        let locks = array::from_fn(|_| Arc::default());
        Self { shared: Arc::new(Shared { table, config, locks, process: ProcessMark::here() }) }
    }

    /// How many regions there are; in a forked child none.
    pub fn len(&self) -> usize {
        if self.shared.process.is_here() { self.shared.table.len() } else { 0 }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Registers memory: from now on peers who know the key have the access that is granted, until the region is dropped.
    ///
    /// # Errors
    /// When the range isn't inside, there are too many regions, the key can't be had, or this process was forked from the one whose
    /// regions these are.
    pub fn register(&self, registration: Registration) -> Result<MemoryRegion, RegisterError> {
        if !self.shared.process.is_here() {
            return Err(RegisterError::Forked);
        }
        let Registration { memory, range: Range { start, end }, access, base, key } = registration;
        let len = memory.memory().len();
        if start > end || end > len {
            return Err(RegisterError::Range { start, end, len });
        }
        let region = |key| {
            Arc::new(Region {
                key,
                memory: memory.clone(),
                range: start..end,
                access,
                base: match base {
                    Base::Offset => 0,
                    Base::Address => memory.memory().address() + start as u64,
                },
                atomics: Arc::clone(self.shared.lock_of(memory.memory())),
                process: self.shared.process,
            })
        };
        let region = match key {
            KeyChoice::Chosen(key) => self.add_chosen(region(key))?,
            KeyChoice::Unguessable => self.add_drawn(region)?,
        };
        Ok(MemoryRegion { region, shared: Arc::clone(&self.shared) })
    }

    fn add_chosen(&self, region: Arc<Region>) -> Result<Arc<Region>, RegisterError> {
        let (key, limit) = (region.key, self.shared.config.limit);
        if !self.shared.config.chosen_keys {
            return Err(RegisterError::NotChosen(key));
        }
        if key == NO_KEY {
            return Err(RegisterError::KeyUnusable(key));
        }
        match self.shared.table.insert(Arc::clone(&region)) {
            Ok(()) => Ok(region),
            Err(Refused::Full) => Err(RegisterError::Full { limit }),
            Err(Refused::Taken) => Err(RegisterError::KeyTaken(key)),
            Err(Refused::Crowded) => Err(RegisterError::KeyUnusable(key)),
        }
    }

    fn add_drawn(&self, region: impl Fn(u64) -> Arc<Region>) -> Result<Arc<Region>, RegisterError> {
        let limit = self.shared.config.limit;
        let mut key = NO_KEY;
        for _ in 0..DRAWS {
            key = getrandom::u64().map_err(RegisterError::Randomness)?;
            if key == NO_KEY {
                continue;
            }
            let region = region(key);
            match self.shared.table.insert(Arc::clone(&region)) {
                Ok(()) => return Ok(region),
                Err(Refused::Full) => return Err(RegisterError::Full { limit }),
                Err(Refused::Taken | Refused::Crowded) => {}
            }
        }
        Err(RegisterError::KeyUnusable(key))
    }

    /// The `len` bytes at `place` of the region with this key, for what `access` says. No bytes at a place in the region, or at its
    /// end, are found too.
    ///
    /// # Errors
    /// When no region has the key, it doesn't grant all of `access`, or not all of the bytes are inside.
    pub fn lookup(&self, key: u64, place: u64, len: u64, access: Access) -> Result<RegionSlice, RegionError> {
        let region = self.shared.table.get(key).ok_or(RegionError::UnknownKey { key })?;
        let base = region.base;
        let offset = place.checked_sub(base).ok_or(RegionError::Before { key, place, base })?;
        RegionSlice::new(region, offset, len, access)
    }
}

impl Shared {
    fn lock_of(&self, memory: &SharedMem) -> &Arc<Mutex<()>> {
        // Mappings begin at pages, and often at huge ones.
        let address = memory.address();
        &self.locks[(address >> 12 ^ address >> 21) as usize % LOCKS]
    }
}

/// Memory that is registered. When it is dropped, its key is dead.
pub struct MemoryRegion {
    region: Arc<Region>,
    shared: Arc<Shared>,
}

impl fmt::Debug for MemoryRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the key: who knows it is let in, and logs go far.
        let Region { range, access, base, .. } = &*self.region;
        let mut f = f.debug_struct("MemoryRegion");
        f.field("range", range).field("access", access).field("base", base).finish_non_exhaustive()
    }
}

impl MemoryRegion {
    /// The key, for peers who are to be let in.
    pub fn key(&self) -> u64 {
        self.region.key
    }

    /// What peers call its first byte: 0, or its address.
    pub fn base(&self) -> u64 {
        self.region.base
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.region.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What may be done with it.
    pub fn access(&self) -> Access {
        self.region.access
    }

    /// The memory it is in.
    pub fn memory(&self) -> &SharedMem {
        self.region.memory.memory()
    }

    /// Which bytes of the memory it is.
    pub fn range(&self) -> Range<usize> {
        self.region.range.clone()
    }

    /// Bytes of it by their offset, for the owner's own operations: the region counts as used while there is one.
    ///
    /// # Errors
    /// When the region doesn't grant all of `access`, or not all of the bytes are inside.
    pub fn slice(&self, offset: u64, len: u64, access: Access) -> Result<RegionSlice, RegionError> {
        RegionSlice::new(Arc::clone(&self.region), offset, len, access)
    }

    /// Ends the region: the key is dead at once. Gives the memory back when no operation uses it any more, else a [`Closing`] to
    /// ask again.
    ///
    /// # Errors
    /// [`Closing`] while operations use it.
    pub fn close(self) -> Result<RegionMemory, Closing> {
        let region = Arc::clone(&self.region);
        drop(self);
        Closing { region }.finish()
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        // A child that was forked has a copy of the table, and may find its lock taken for ever.
        if self.shared.process.is_here() {
            self.shared.table.remove(&self.region);
        }
    }
}

/// A region that is closed while operations still use it. May be dropped: then nobody is told when they have ended.
#[must_use = "operations still use the memory; ask `finish` until they don't"]
pub struct Closing {
    region: Arc<Region>,
}

impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closing").field("users", &self.users()).finish()
    }
}

impl Closing {
    /// How many slices there still are; none will be added.
    pub fn users(&self) -> usize {
        Arc::strong_count(&self.region) - 1
    }

    /// Gives the memory back when no operation uses it any more.
    ///
    /// # Errors
    /// Itself while operations use it.
    pub fn finish(self) -> Result<RegionMemory, Self> {
        match Arc::try_unwrap(self.region) {
            Ok(region) => Ok(region.memory),
            Err(region) => Err(Self { region }),
        }
    }
}

#[cfg(test)]
mod tests;
