//! Received bytes, lent by the pool.

use crate::memory::Loan;
use crate::pool::Core;
use std::fmt;
use std::ops::Deref;

/// Received bytes where the kernel put them: exactly those that one completion reported, for reading only.
///
/// It may be kept, passed to another thread, and dropped in any order; several may lie in one of the pool's buffers, which
/// goes back to the kernel when the last of them is dropped. It outlives its ring and its pool. Who keeps many keeps
/// others from receiving: the pool has only so many buffers.
///
/// What is received can't be written to:
/// ```compile_fail,E0596
/// fn overwrite(mut received: opx_zcrx::Buffer) {
///     received[0] = 1;
/// }
/// ```
pub struct Buffer(Loan<Core>);

impl Buffer {
    pub(crate) fn new(loan: Loan<Core>) -> Self {
        Self(loan)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len()).finish_non_exhaustive()
    }
}
