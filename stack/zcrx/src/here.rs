//! The rings of the calling thread, for what only that thread may do with them.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    /// The thread's mark; 0 until it has a ring.
    static MARK: Cell<usize> = const { Cell::new(0) };
    /// The pool whose seat the thread has, by its address; 0 for none. One at a time: so it is one comparison.
    static SEAT: Cell<usize> = const { Cell::new(0) };
    static RINGS: RefCell<Vec<Weak<dyn Local>>> = const { RefCell::new(Vec::new()) };
}

/// A ring as its thread finds it.
pub(crate) trait Local {
    /// Has the kernel take what was returned to the pool with this address; false when this ring doesn't have it.
    fn flush(&self, pool: usize) -> bool;

    /// Itself.
    fn any(self: Rc<Self>) -> Rc<dyn Any>;
}

/// The pool whose seat the calling thread has.
#[inline]
pub(crate) fn seat() -> usize {
    SEAT.get()
}

/// From now on the calling thread has the seat of this pool; 0 for none.
pub(crate) fn set_seat(pool: usize) {
    SEAT.set(pool);
}

/// The calling thread's mark: 0 for one that never had a ring.
pub(crate) fn mark() -> usize {
    MARK.get()
}

/// The calling thread's mark, which no other thread has.
pub(crate) fn own_mark() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    if MARK.get() == 0 {
        MARK.set(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    MARK.get()
}

/// Adds a ring of this thread.
pub(crate) fn add(ring: Weak<dyn Local>) {
    RINGS.with_borrow_mut(|rings| {
        rings.retain(|ring| ring.strong_count() > 0);
        rings.push(ring);
    });
}

/// The first of this thread's rings that `pick` takes.
pub(crate) fn find<T>(pick: impl FnMut(Rc<dyn Local>) -> Option<T>) -> Option<T> {
    // Late in a thread's end there are no rings any more.
    let rings: Vec<_> = RINGS.try_with(|rings| rings.borrow().iter().filter_map(Weak::upgrade).collect()).ok()?;
    rings.into_iter().find_map(pick)
}
