//! Locks and atomics at which the threads of chips meet. The models in `tests/loom.rs` put loom's in their place.

pub use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub use std::sync::{Condvar, Mutex, MutexGuard};
