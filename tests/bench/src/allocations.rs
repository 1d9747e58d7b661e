//! How often a piece of code allocates, and how much it keeps.

/// The allocator that counts. A bench that calls [`allocations`] says
/// `#[global_allocator] static ALLOC: opx_bench::Allocator = opx_bench::ALLOCATOR;`.
pub type Allocator = dhat::Alloc;

/// The value of that static.
pub const ALLOCATOR: Allocator = dhat::Alloc;

/// Allocations that `work` makes. The counting allocator must be the program's; others give 0.
///
/// # Panics
/// When two threads count at once.
pub fn allocations(work: impl FnOnce()) -> u64 {
    let _profiler = dhat::Profiler::builder().testing().build();
    let before = dhat::HeapStats::get().total_blocks;
    work();
    dhat::HeapStats::get().total_blocks - before
}

/// Bytes of memory that what `make` returns keeps allocated. The counting allocator must be the program's.
///
/// # Panics
/// When two threads count at once.
pub fn memory<T>(make: impl FnOnce() -> T) -> (T, u64) {
    let _profiler = dhat::Profiler::builder().testing().build();
    let before = dhat::HeapStats::get().curr_bytes;
    let made = make();
    let after = dhat::HeapStats::get().curr_bytes;
    (made, after.saturating_sub(before) as u64)
}
