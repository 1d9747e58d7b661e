//! Lent bytes: a part of a home's memory, which goes back to the home when it is dropped, and keeps the home until then.

use super::{Counted, Span};
use std::ops::Deref;

/// What lends bytes. It lives until it is closed and all that it lent has come back.
pub(crate) trait Home {
    /// Takes back what `entry` stands for, if that is done in a few instructions. False when it wasn't.
    fn give_back_at_once(&self, entry: u64) -> bool;

    /// Takes back what `entry` stands for. True when this was the last of a closed home: then nobody uses it any more.
    fn give_back_slowly(&self, entry: u64) -> bool;

    /// Nothing is lent any more. True when all has come back already.
    fn close(&self) -> bool;
}

/// Keeps a home open.
#[derive(Debug)]
pub(crate) struct Keeper<T: Home>(Counted<T>);

impl<T: Home> Keeper<T> {
    /// Opens a home.
    pub(crate) fn new(home: T) -> Self {
        Self(Counted::new(home))
    }

    /// Lends `span` of the home's memory, which `entry` stands for. To be called once for each time that the kernel handed
    /// out the span, and counted as such by the home.
    #[inline]
    pub(crate) fn lend(&self, span: Span, entry: u64) -> Loan<T> {
        Loan { home: self.0, span, entry }
    }
}

impl<T: Home> Deref for Keeper<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Home> Drop for Keeper<T> {
    fn drop(&mut self) {
        if self.0.close() {
            // SAFETY: `close` said that nothing is out, and this was what kept the home open.
            unsafe { self.0.free() };
        }
    }
}

/// Lent bytes.
pub(crate) struct Loan<T: Home> {
    home: Counted<T>,
    span: Span,
    entry: u64,
}

impl<T: Home> Deref for Loan<T> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the home keeps its memory until this was given back. The kernel handed the span out: until it has found
        // the entry that gives it back in the refill ring it holds a reference for us (`user_refs` of io_uring/zcrx.c) and
        // writes nothing there. It drops references by itself only when the last ring and file descriptor of the pool are
        // gone, after which it receives nothing (zcrx_unregister_user).
        unsafe { self.span.bytes() }
    }
}

impl<T: Home> Drop for Loan<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.home.give_back_at_once(self.entry) {
            give_back_slowly(self.home, self.entry);
        }
    }
}

#[cold]
#[inline(never)]
fn give_back_slowly<T: Home>(home: Counted<T>, entry: u64) {
    if home.give_back_slowly(entry) {
        // SAFETY: the home said that this was the last use of it.
        unsafe { home.free() };
    }
}
