//! Who still holds which eager buffer: a count for each, and the stack on which they come back to their context.
//!
//! The context holds a buffer while the chip may write to it, and each view of something in it holds it as well. Whoever is
//! the last to let go decides where it goes: when that is the context, it simply keeps the buffer; when it is a view, it puts
//! it on the stack, from which the context takes all at once. Views may be dropped by any thread; nobody waits for anybody.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// No buffer.
const NONE: u32 = u32::MAX;

/// The counts of some buffers.
#[derive(Debug)]
pub(super) struct Loans {
    buffers: Box<[Held]>,
    /// The buffer that came back last.
    returned: AtomicU32,
}

#[derive(Debug)]
struct Held {
    /// By the context, and by views.
    by: AtomicU64,
    /// The buffer that came back before this one, while it is on the stack.
    next: AtomicU32,
}

impl Loans {
    /// Counts of `buffers` buffers that the context holds.
    pub fn new(buffers: u32) -> Self {
        let held = |_| Held { by: AtomicU64::new(1), next: AtomicU32::new(NONE) };
        Self { buffers: (0..buffers).map(held).collect(), returned: AtomicU32::new(NONE) }
    }

    fn held(&self, buffer: u32) -> Option<&Held> {
        self.buffers.get(buffer as usize)
    }

    /// One more view of it. Who calls that holds the buffer.
    #[inline]
    pub fn lend(&self, buffer: u32) {
        if let Some(held) = self.held(buffer) {
            held.by.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A view is dropped.
    #[inline]
    pub fn give_back(&self, buffer: u32) {
        let Some(held) = self.held(buffer) else { return };
        // What was read through the view comes before whatever is written once the buffer is back.
        if held.by.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.put_on_stack(buffer, held);
        }
    }

    #[cold]
    fn put_on_stack(&self, buffer: u32, held: &Held) {
        // Buffers are only ever taken off all at once, so that one which comes back twice meanwhile does no harm.
        let mut top = self.returned.load(Ordering::Relaxed);
        loop {
            held.next.store(top, Ordering::Relaxed);
            match self.returned.compare_exchange_weak(top, buffer, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// The context lets go of a buffer. `true` when nobody else holds it: then it is the context's as before. Otherwise it
    /// comes back by [`Loans::take_returned`].
    pub fn let_go(&self, buffer: u32) -> bool {
        let Some(held) = self.held(buffer) else { return true };
        let last = held.by.fetch_sub(1, Ordering::AcqRel) == 1;
        if last {
            held.by.store(1, Ordering::Relaxed);
        }
        last
    }

    /// Takes what came back, and gives each buffer to `to`: the context's, as it was before it was lent.
    pub fn take_returned(&self, mut to: impl FnMut(u32)) {
        if self.returned.load(Ordering::Relaxed) == NONE {
            return;
        }
        let mut top = self.returned.swap(NONE, Ordering::Acquire);
        while let Some(held) = self.held(top) {
            let next = held.next.load(Ordering::Relaxed);
            held.by.store(1, Ordering::Relaxed);
            to(top);
            top = next;
        }
    }
}
