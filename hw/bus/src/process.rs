//! Whether this process is the one that opened something, or a child forked from it: found out by one load.
//!
//! A page that the kernel wipes in every child (MADV_WIPEONFORK) holds a mark; who opened something remembers the mark. Where
//! the kernel can't do that, as in emulation of user programs by QEMU, the process is asked for its id each time.

use crate::SharedMem;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static PAGE: OnceLock<Option<SharedMem>> = OnceLock::new();
/// Marks given so far. A child goes on counting where its parent was, so that it never has a mark of an ancestor.
static GIVEN: AtomicU64 = AtomicU64::new(0);
static NO_PAGE: AtomicU64 = AtomicU64::new(0);

/// The process that made it.
///
/// ```
/// use opx_bus::ProcessMark;
/// assert!(ProcessMark::here().is_here());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ProcessMark {
    cell: &'static AtomicU64,
    mark: u64,
    /// The process, when there is no page that is wiped.
    id: Option<u32>,
}

impl ProcessMark {
    /// This process.
    pub fn here() -> Self {
        let page = PAGE.get_or_init(|| {
            SharedMem::wiped_on_fork().inspect_err(|error| log::info!("no memory that is wiped on fork: {error}")).ok()
        });
        match page.as_ref().and_then(|page| page.words().first()) {
            Some(cell) => Self { cell, mark: Self::mark(cell), id: None },
            None => Self { cell: &NO_PAGE, mark: u64::MAX, id: Some(std::process::id()) },
        }
    }

    /// This process' mark, which it gets when it is asked for the first time.
    fn mark(cell: &AtomicU64) -> u64 {
        let mark = cell.load(Ordering::Relaxed);
        if mark != 0 {
            return mark;
        }
        let new = GIVEN.fetch_add(1, Ordering::Relaxed) + 1;
        match cell.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => new,
            Err(other) => other,
        }
    }

    /// Whether it is still that process that asks, and none forked from it.
    #[inline(always)]
    pub fn is_here(&self) -> bool {
        self.is_surely_here() || self.has_same_id()
    }

    /// The same without a call: `true` is certain, and after `false` [`ProcessMark::is_here`] is to be asked.
    #[inline(always)]
    pub fn is_surely_here(&self) -> bool {
        self.cell.load(Ordering::Relaxed) == self.mark
    }

    #[cold]
    #[inline(never)]
    fn has_same_id(&self) -> bool {
        self.id.is_some_and(|id| id == std::process::id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself_and_a_wiped_page_is_another_process() {
        let (first, second) = (ProcessMark::here(), ProcessMark::here());
        assert!(first.is_here() && second.is_here());
        assert_eq!(first.is_surely_here(), first.id.is_none());
        assert_eq!(first.mark, second.mark);
        // What a child sees, and what it is when it has opened something itself.
        static WIPED: AtomicU64 = AtomicU64::new(0);
        let in_child = ProcessMark { cell: &WIPED, ..first };
        assert_eq!(in_child.is_here(), first.id.is_some());
        let own = ProcessMark { cell: &WIPED, mark: ProcessMark::mark(&WIPED), id: None };
        assert!(own.is_here());
        assert_ne!(own.mark, first.mark);
        assert_eq!(in_child.is_here(), first.id.is_some());
    }

    #[test]
    fn without_such_a_page_the_process_id_tells() {
        let here = ProcessMark { cell: &NO_PAGE, mark: u64::MAX, id: Some(std::process::id()) };
        assert!(here.is_here());
        assert!(!ProcessMark { id: Some(std::process::id() + 1), ..here }.is_here());
    }
}
