//! What stands between threads: `tests/loom.rs` puts loom's, or a stand-in, in its place.

pub(crate) use crossbeam_queue::ArrayQueue;
pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};
pub(crate) use std::sync::{Arc, Condvar, Mutex};
