//! The eager buffers, and views of what lies in them: a packet's payload can be lent in place of being copied.
//!
//! The chip fills the buffers in turn and stops at the first that hasn't been given back (RcvEgrIndexHead): somebody who keeps
//! one would stop all that comes after it. So a buffer that is still lent when the context is done with it leaves the ring,
//! and a spare one takes its place: its entry in the RcvArray is written anew before the head goes past it. When its last
//! view is dropped it is a spare one itself. A buffer is only lent when there is a spare one for it, so that the ring is
//! always whole and whatever is held for ever stops nothing.
//!
//! Linux writes eager entries before it enables a context (`init.c:hfi1_setup_eagerbufs`) and expected ones, which lie in the
//! same array, at any time (`user_exp_rcv.c`). That an eager entry may be written while the context runs is INFERRED: the chip
//! has left the buffer, and doesn't enter it again before the head has passed it.

use super::loans::Loans;
use opx_bus::{DmaBlock, SharedMem};
use opx_defs::rcvarray::RcvArrayEntry;
use opx_defs::wire::rhf::Rhf;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Why a payload can't be lent; it can be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotLent {
    /// All spare buffers have taken the place of others that are held.
    #[error("no eager buffer is left to take the place of a lent one; drop views, or raise spare_buffers")]
    NoSpare,
    /// There is none in an eager buffer.
    #[error("the packet has no payload in an eager buffer")]
    NoPayload,
    /// The packet was released, or another context's.
    #[error("the packet isn't one that this context took and hasn't released")]
    Released,
}

/// A place in the ring.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The buffer that is there.
    buffer: u32,
    /// A view of something in it was made: a spare one is promised.
    lent: bool,
}

/// What views need of the buffers.
struct Home {
    memory: SharedMem,
    loans: Loans,
}

/// The eager buffers of a context, those in the ring and spare ones.
pub(super) struct EagerBuffers {
    memory: DmaBlock,
    /// Bytes of each.
    size: u32,
    ring: Box<[Place]>,
    spare: Vec<u32>,
    /// Spare buffers promised to lent ones in the ring.
    promised: usize,
    home: Arc<Home>,
}

impl EagerBuffers {
    /// `ring` buffers of `size` bytes in `memory`, and `spare` more behind them.
    pub fn new(memory: DmaBlock, size: u32, ring: u32, spare: u32) -> Self {
        let home = Home { memory: memory.memory().clone(), loans: Loans::new(ring + spare) };
        Self {
            memory,
            size,
            ring: (0..ring).map(|buffer| Place { buffer, lent: false }).collect(),
            spare: (ring..ring + spare).collect(),
            promised: 0,
            home: Arc::new(home),
        }
    }

    /// The memory behind them.
    pub fn memory(&self) -> &DmaBlock {
        &self.memory
    }

    /// What the RcvArray says of each buffer, spare ones too; an address that it can't say where there is one.
    pub fn check(&self) -> Result<(), u64> {
        for buffer in (0..self.ring.len() as u32).chain(self.spare.iter().copied()) {
            let address = self.address(buffer);
            RcvArrayEntry::new(address, self.size).ok_or(address.0)?;
        }
        Ok(())
    }

    /// The ring's entries for the RcvArray, from the first on.
    pub fn entries(&self) -> impl Iterator<Item = RcvArrayEntry> + '_ {
        self.ring.iter().map(|place| self.entry(place.buffer))
    }

    fn address(&self, buffer: u32) -> opx_defs::units::Iova {
        self.memory.iova(buffer as usize * self.size as usize)
    }

    fn entry(&self, buffer: u32) -> RcvArrayEntry {
        // None of them is invalid: see `check`.
        RcvArrayEntry::new(self.address(buffer), self.size).unwrap_or(RcvArrayEntry::INVALID)
    }

    /// Where the payload begins that these flags tell of, in the memory.
    #[inline]
    pub fn payload_at(&self, rhf: Rhf) -> Option<u32> {
        let place = self.ring.get(usize::from(rhf.eager_index()))?;
        Some(place.buffer * self.size + u32::from(rhf.eager_offset()) * 64)
    }

    /// Buffers that could still be lent.
    pub fn lendable(&mut self) -> usize {
        let spare = &mut self.spare;
        // As many as there are fit: nothing is allocated.
        self.home.loans.take_returned(|buffer| spare.push(buffer));
        self.spare.len().saturating_sub(self.promised)
    }

    /// A view of the `len` bytes that these flags tell of.
    pub fn lend(&mut self, rhf: Rhf, len: u32) -> Result<Lent, NotLent> {
        let index = usize::from(rhf.eager_index());
        let offset = u32::from(rhf.eager_offset()) * 64;
        let is_new = self.ring.get(index).is_some_and(|place| !place.lent);
        if is_new && self.spare.len() <= self.promised && self.lendable() == 0 {
            return Err(NotLent::NoSpare);
        }
        let place = self.ring.get_mut(index).filter(|_| offset + len <= self.size).ok_or(NotLent::Released)?;
        place.lent = true;
        self.promised += usize::from(is_new);
        self.home.loans.lend(place.buffer);
        Ok(Lent { at: place.buffer * self.size + offset, len, buffer: place.buffer, home: Arc::clone(&self.home) })
    }

    /// The context is done with the buffers from place `from` up to, but not with, `to`. Those that are still lent leave
    /// the ring: `replace` is given the place and the entry of the buffer that is there now. Gives their number.
    #[inline]
    pub fn pass(&mut self, from: u32, to: u32, replace: impl FnMut(u32, RcvArrayEntry)) -> u64 {
        if self.promised == 0 { 0 } else { self.pass_lent(from, to, replace) }
    }

    #[cold]
    fn pass_lent(&mut self, from: u32, to: u32, mut replace: impl FnMut(u32, RcvArrayEntry)) -> u64 {
        let (mut place, mut replaced) = (from, 0);
        while place != to && self.promised > 0 {
            replaced += u64::from(self.let_go(place, &mut replace));
            place = if place as usize + 1 >= self.ring.len() { 0 } else { place + 1 };
        }
        replaced
    }

    /// The same with all of them.
    pub fn pass_all(&mut self, mut replace: impl FnMut(u32, RcvArrayEntry)) -> u64 {
        (0..self.ring.len() as u32).map(|place| u64::from(self.let_go(place, &mut replace))).sum()
    }

    fn let_go(&mut self, at: u32, replace: &mut impl FnMut(u32, RcvArrayEntry)) -> bool {
        let Some(place) = self.ring.get_mut(at as usize).filter(|place| place.lent) else { return false };
        place.lent = false;
        self.promised -= 1;
        if self.home.loans.let_go(place.buffer) {
            return false;
        }
        // There is one: it was promised.
        let Some(spare) = self.spare.pop() else { return false };
        place.buffer = spare;
        replace(at, self.entry(spare));
        true
    }
}

/// A packet's payload where the chip put it.
///
/// It may be kept, passed to another thread, and dropped in any order; several may lie in one eager buffer, which is the
/// context's again when the last of them is dropped. It outlives the context. Who keeps many gets copies of what comes
/// next: there are only so many spare buffers, see [`super::RecvConfig::spare_buffers`].
///
/// There is no slice of it. Its memory is mapped for a device, which is told to leave it alone and can't be made to, and
/// what others may write to can't be a Rust reference: it is [`SharedMem`] like all memory of an adapter's. (The pool of
/// `opx-zcrx` does give slices, because there it is the kernel that leaves the memory alone.) [`Lent::words`] are those bytes
/// without a copy, [`Lent::read`] copies some of them.
pub struct Lent {
    home: Arc<Home>,
    buffer: u32,
    /// Where it begins in the memory: a multiple of 64.
    at: u32,
    len: u32,
}

impl Lent {
    /// Bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Leaves out what lies behind the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Copies bytes from `at` on, as many as there are and fit; the result is how many.
    pub fn read(&self, at: usize, to: &mut [u8]) -> usize {
        let len = self.len().saturating_sub(at).min(to.len());
        if len > 0 {
            self.home.memory.read(self.at as usize + at, &mut to[..len]);
        }
        len
    }

    /// All of it.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        self.read(0, &mut bytes);
        bytes
    }

    /// Its whole words of 8 bytes, in the machine's byte order and without a copy; what is left at the end is for
    /// [`Lent::read`].
    #[inline]
    pub fn words(&self) -> &[AtomicU64] {
        let first = self.at as usize / 8;
        self.home.memory.words().get(first..first + self.len() / 8).unwrap_or_default()
    }
}

impl Clone for Lent {
    fn clone(&self) -> Self {
        self.home.loans.lend(self.buffer);
        Self { home: Arc::clone(&self.home), ..*self }
    }
}

impl Drop for Lent {
    #[inline]
    fn drop(&mut self) {
        self.home.loans.give_back(self.buffer);
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_bus::PciFunction;
    use opx_defs::units::Dwords;
    use opx_defs::wire::rhf::RcvType;
    use opx_emu::{Config, Lab, Pacing};

    #[test]
    fn flags_that_tell_of_more_than_a_buffer_has_lend_nothing() {
        const SIZE: u32 = 4096;
        let adapter = Lab::new(Pacing::Virtual).add(Config::default());
        let memory = adapter.bus().dma_alloc(3 * SIZE as usize).unwrap();
        let mut buffers = EagerBuffers::new(memory, SIZE, 2, 1);
        let flags = |index, line| Rhf::new(Dwords(0), RcvType::Eager, 1, Dwords(0)).eager(index, line);
        for (index, line, len) in
            [(0, 64, 1), (0, 63, 65), (1, 0, SIZE + 1), (1, 0x7ff, 64), (2, 0, 64), (0x7ff, 0, 64)]
        {
            let lent = buffers.lend(flags(index, line), len).map(|lent| lent.len());
            assert_eq!(lent, Err(NotLent::Released), "{len} bytes at line {line} of {index}");
        }
        assert_eq!(buffers.lend(flags(1, 63), 64).map(|lent| lent.len()), Ok(64));
    }
}
