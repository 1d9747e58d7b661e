//! Operations under way, what each lends the provider, and the registrations of its memory.

use super::abi::{Fid, MrObject};
use crate::transport::Access;
use std::collections::VecDeque;
use std::ffi::c_void;
use std::ops::{Index, IndexMut};
use std::ptr;

/// An operation: what it lends the provider, and its buffer. It stays where it is while the operation is under way.
#[repr(C)]
pub(super) struct Slot {
    pub(super) context: [u64; 8],
    pub(super) index: usize,
    pub(super) kind: Kind,
    pub(super) buffer: Vec<u8>,
    /// Where the answer of an atomic operation goes.
    pub(super) result: Vec<u8>,
    /// Registrations of the two, where the provider wants them.
    pub(super) local: [Registered; 2],
}

/// What an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Receive,
    Send,
    Access(Access),
}

/// All slots of an endpoint.
pub(super) struct Slots {
    #[expect(clippy::vec_box, reason = "the provider has pointers to them while the list grows")]
    all: Vec<Box<Slot>>,
    /// Those that nobody uses, the last used last.
    free: VecDeque<usize>,
    /// Those without memory, which take no part before one is needed.
    spare: Vec<usize>,
    /// See [`Transport::rotate`](crate::transport::Transport::rotate).
    rotation: usize,
}

impl Slots {
    pub(super) const fn new() -> Self {
        Self { all: Vec::new(), free: VecDeque::new(), spare: Vec::new(), rotation: 0 }
    }

    /// A place for an operation with a buffer of `len` bytes.
    pub(super) fn take(&mut self, len: usize, kind: Kind) -> &mut Slot {
        let free = match self.rotation {
            0 => self.free.pop_back(),
            bytes if self.free.len() * len < bytes => None,
            _ => self.free.pop_front(),
        };
        let index = free.or_else(|| self.spare.pop()).unwrap_or_else(|| {
            let index = self.all.len();
            let local = [Registered::NONE, Registered::NONE];
            let (buffer, result) = (Vec::new(), Vec::new());
            self.all.push(Box::new(Slot { context: [0; 8], index, kind, buffer, result, local }));
            index
        });
        let slot = &mut self.all[index];
        slot.kind = kind;
        slot.buffer.resize(len, 0);
        slot
    }

    /// The operation has ended: its slot is used again.
    pub(super) fn end(&mut self, index: usize) {
        self.free.push_back(index);
    }

    /// The operation was refused: who tries again gets the same slot, as another one may have to be grown for it.
    pub(super) fn refuse(&mut self, index: usize) {
        if self.rotation == 0 {
            self.free.push_back(index);
        } else {
            self.free.push_front(index);
        }
    }

    /// From now on slots rotate until so many bytes were used, or don't (0). Those that nobody uses lose their memory: it is of
    /// other lengths, and of those that were many once only as many are to be grown as the bytes take.
    pub(super) fn rotate(&mut self, bytes: usize) {
        self.rotation = bytes;
        for index in self.free.drain(..) {
            let slot = &mut self.all[index];
            // The registrations first.
            slot.local = [Registered::NONE, Registered::NONE];
            (slot.buffer, slot.result) = (Vec::new(), Vec::new());
            self.spare.push(index);
        }
    }

    /// Closes all registrations, which has to be before their domain's end.
    pub(super) fn unregister(&mut self) {
        self.all.iter_mut().for_each(|slot| slot.local = [Registered::NONE, Registered::NONE]);
    }
}

impl Index<usize> for Slots {
    type Output = Slot;

    fn index(&self, index: usize) -> &Slot {
        &self.all[index]
    }
}

impl IndexMut<usize> for Slots {
    fn index_mut(&mut self, index: usize) -> &mut Slot {
        &mut self.all[index]
    }
}

/// A registration, closed when it is dropped; or none.
pub(super) struct Registered {
    pub(super) mr: *mut MrObject,
    /// What it is of.
    pub(super) memory: (*const u8, usize),
}

impl Registered {
    pub(super) const NONE: Self = Self { mr: ptr::null_mut(), memory: (ptr::null(), 0) };

    pub(super) fn desc(&self) -> *mut c_void {
        if self.mr.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: the provider gave it, and it isn't closed.
        unsafe { (*self.mr).mem_desc }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if !self.mr.is_null() {
            let fid = self.mr.cast::<Fid>();
            // SAFETY: it was registered and is closed once; the domain outlives it, and no operation has its memory any more.
            unsafe { ((*(*fid).ops).close)(fid) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    fn bytes(slots: &Slots) -> usize {
        slots.all.iter().map(|slot| slot.buffer.capacity()).sum()
    }

    #[test]
    fn who_is_refused_gets_the_same_memory_again() {
        for rotation in [0, 8 * KIB] {
            let mut slots = Slots::new();
            slots.rotate(rotation);
            for round in 0..20 {
                let first = slots.take(KIB, Kind::Send).index;
                slots.refuse(first);
                // Until all that rotates is there, each takes memory of its own.
                if round > 8 {
                    assert_eq!(slots.take(KIB, Kind::Send).index, first, "of {rotation}");
                    slots.refuse(first);
                }
                let used = slots.take(KIB, Kind::Send).index;
                slots.end(used);
            }
            assert!(bytes(&slots) <= rotation.max(KIB), "{} of {rotation}", bytes(&slots));
        }
    }

    #[test]
    fn only_as_many_as_the_rotation_takes_are_grown() {
        let mut slots = Slots::new();
        slots.rotate(64 * KIB);
        let many: Vec<_> = (0..1000).map(|_| slots.take(8, Kind::Receive).index).collect();
        many.into_iter().for_each(|index| slots.end(index));
        slots.rotate(64 * KIB);
        assert_eq!(bytes(&slots), 0);
        for round in 0..1000 {
            let index = slots.take(16 * KIB, Kind::Send).index;
            // Some are refused first.
            if round % 3 == 0 { slots.refuse(index) } else { slots.end(index) }
        }
        assert_eq!(bytes(&slots), 64 * KIB);
        assert_eq!(slots.all.len(), 1000);

        slots.rotate(0);
        assert_eq!(bytes(&slots), 0);
    }
}
