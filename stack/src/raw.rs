//! Memory that a caller vouches for, by its address: for bindings, whose callers own buffers that Rust knows nothing of.
#![allow(unsafe_code)]

use std::fmt;
use std::ptr::{self, NonNull};
use std::slice;

/// Memory at an address that its owner keeps for an operation. As part of a [`crate::Buffer`] it goes into an operation and comes
/// back with the completion, as every buffer does; dropping it does nothing to the memory.
///
/// Nothing but this type's own constructor is unsafe: whoever calls it says that the memory will be there.
pub struct RawBuffer {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: the constructor asks for memory that any thread may use; only whoever has the value uses it.
unsafe impl Send for RawBuffer {}
// SAFETY: through a shared reference it is only read.
unsafe impl Sync for RawBuffer {}

impl RawBuffer {
    /// The `len` bytes at `at`.
    ///
    /// ```
    /// use opx_stack::{Buffer, RawBuffer};
    /// let mut memory = [0; 4];
    /// // SAFETY: `memory` is there, and not used, until the buffer is gone.
    /// let mut buffer = Buffer::from(unsafe { RawBuffer::from_raw_parts(memory.as_mut_ptr(), 4) });
    /// buffer.write(0, b"opx!");
    /// drop(buffer);
    /// assert_eq!(&memory, b"opx!");
    /// ```
    ///
    /// # Safety
    /// Until the value is dropped:
    /// * the memory is there, initialised, and may be read from any thread; for a receive, also written;
    /// * nobody else writes to it; for a receive, nobody else reads it either.
    ///
    /// A value that was given to an operation lives until its completion has been read and dropped. An operation that is cancelled,
    /// or whose endpoint fails or is closed, ends with a completion as well. An endpoint that is dropped with operations pending
    /// drops their buffers, one that is forgotten never does. `len` is at most `isize::MAX`, and `at` isn't null, unless `len`
    /// is 0.
    pub unsafe fn from_raw_parts(at: *mut u8, len: usize) -> Self {
        match NonNull::new(at) {
            Some(at) => Self { at, len },
            None => Self { at: NonNull::dangling(), len: 0 },
        }
    }

    /// Its address.
    pub fn as_ptr(&self) -> *mut u8 {
        self.at.as_ptr()
    }

    /// Bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the constructor's caller has promised that they are there, initialised, and written by nobody else.
        unsafe { slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }

    /// Its memory, to be read by a peer on this machine. Whoever takes it keeps the buffer until it is released.
    pub(crate) fn source(&self) -> opx_shm::Source {
        // SAFETY: the constructor's caller has promised that the memory may be read from any thread, and that nobody writes to it,
        // until this value is dropped; it is kept until the source is released.
        unsafe { opx_shm::Source::raw(self.at.as_ptr(), self.len) }
    }

    /// Its memory, to be written. Whoever takes it keeps the buffer, and leaves it alone, until it is given back.
    pub(crate) fn sink(&mut self) -> opx_shm::Sink {
        // SAFETY: the constructor's caller has promised that the memory may be written from any thread, is initialised and used by
        // nobody else until this value is dropped; it is kept, and not used, until the sink is given back.
        unsafe { opx_shm::Sink::raw(self.at.as_ptr(), self.len) }
    }

    /// Overwrites bytes from `at` on; of those beyond its end, none.
    #[inline]
    pub(crate) fn write(&mut self, at: usize, from: &[u8]) {
        let len = self.len.saturating_sub(at).min(from.len());
        if len > 0 {
            // SAFETY: the constructor's caller has promised that all `self.len` bytes can be written and are used by nobody
            // else; `at + len` is within them, and `from` is a Rust slice, which the memory is no part of.
            unsafe { ptr::copy_nonoverlapping(from.as_ptr(), self.at.as_ptr().add(at), len) };
        }
    }
}

impl fmt::Debug for RawBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawBuffer({:p}, {} bytes)", self.at, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Buffer;

    #[test]
    fn it_writes_within_its_memory_only() {
        let mut memory = [9; 8];
        // SAFETY: `memory` lives until the end, and isn't used before the buffer's last use.
        let mut raw = unsafe { RawBuffer::from_raw_parts(memory.as_mut_ptr().add(2), 4) };
        raw.write(0, &[1, 2]);
        raw.write(3, &[3, 4, 5]);
        raw.write(4, &[6]);
        raw.write(usize::MAX, &[7]);
        assert_eq!((raw.bytes(), raw.len()), (&[1, 2, 9, 3][..], 4));
        assert_eq!(memory, [9, 9, 1, 2, 9, 3, 9, 9]);
        // As a buffer it is read in place, and a clone, which may outlive it, has memory of its own.
        let mut buffer = Buffer::from(raw);
        let clone = buffer.clone();
        buffer.write(1, &[8]);
        let mut read = [0; 2];
        buffer.read(1, &mut read);
        assert_eq!((read, buffer.gather(0, 4, &mut Vec::new())), ([8, 9], &[1, 8, 9, 3][..]));
        assert_eq!((clone, buffer.into_vec()), (vec![1, 2, 9, 3].into(), vec![1, 8, 9, 3]));
        // SAFETY: there is no memory.
        let none = unsafe { RawBuffer::from_raw_parts(ptr::null_mut(), 0) };
        assert!(none.is_empty() && none.bytes().is_empty());
    }
}
