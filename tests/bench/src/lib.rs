//! What the benches share: an exact instruction counter, a bus of plain memory, a count of allocations, and the
//! table of results.
#![forbid(unsafe_code)]

mod allocations;
mod count;
mod instruction;
mod plain;
mod table;

pub use allocations::{ALLOCATOR, Allocator, allocations, memory};
pub use count::{Cases, Counted, Error, Steps, is_short};
pub use plain::PlainBus;
pub use table::{Goal, Table, report};
