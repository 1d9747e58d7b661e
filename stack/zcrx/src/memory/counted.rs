//! A value that lives until a count of its own says that nobody uses it any more.

use std::ops::Deref;
use std::ptr::NonNull;

/// A pointer to a value that keeps its own count, so that copying and dropping the pointer costs nothing.
#[derive(Debug)]
pub(crate) struct Counted<T>(NonNull<T>);

// SAFETY: it is as good as a reference to the value, and whichever thread is the last drops the value.
unsafe impl<T: Send + Sync> Send for Counted<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Counted<T> {}

impl<T> Clone for Counted<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Counted<T> {}

impl<T> Counted<T> {
    /// Puts a value where it stays.
    pub(crate) fn new(value: T) -> Self {
        Self(NonNull::from(Box::leak(Box::new(value))))
    }

    /// Drops the value.
    ///
    /// # Safety
    /// The value's count has said that nobody uses it any more; no copy of this pointer is used afterwards.
    pub(crate) unsafe fn free(self) {
        // SAFETY: made by `new` from a box, and freed once: see above.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the value lives until `free`, after which no copy is used.
        unsafe { self.0.as_ref() }
    }
}
