//! Atomics and fences of what has models: `tests/loom.rs` puts loom's in their place.

use std::sync::atomic::compiler_fence;
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Half of a pair of fences, on the side where messages pass: keeps a store before it from being overtaken by a load after
/// it. It costs no instruction when the other half has the kernel put a full fence into every thread (see
/// [`crate::barrier`]), and is a full fence itself when the kernel can't (`full`).
#[inline(always)]
pub(crate) fn light_fence(full: bool) {
    if full {
        fence(Ordering::SeqCst);
    } else {
        compiler_fence(Ordering::SeqCst);
    }
}
