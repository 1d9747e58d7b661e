//! Locks and atomics of what has models: `tests/loom.rs` puts loom's in their place.

pub(crate) use std::sync::Mutex;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
