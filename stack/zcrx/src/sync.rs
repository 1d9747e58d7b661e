//! What the refill ring uses of the standard library; a model of its threads puts loom's in its place.

pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard};
