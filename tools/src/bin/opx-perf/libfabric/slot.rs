//! An operation under way, what it lends the provider, and the registrations of its memory.

use super::abi::{Fid, MrObject};
use crate::transport::Access;
use std::ffi::c_void;
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
