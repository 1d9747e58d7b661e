//! The other half of [`crate::sync::light_fence`]: a full fence in every thread of every process that takes part, so that
//! they need none per message. Only somebody who is about to sleep pays for it.
//!
//! Linux: `membarrier(2)`, MEMBARRIER_CMD_GLOBAL_EXPEDITED.

use rustix::thread::{MembarrierCommand, membarrier};
use std::sync::atomic::{Ordering, fence};

/// Has this process take part. False when the kernel can't: then whoever sends to it, or is sent something by it, has to
/// fence by itself.
pub(crate) fn take_part() -> bool {
    membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok() && heavy_fence()
}

/// A full fence in every thread that takes part. False when the kernel refuses, which it doesn't after [`take_part`]; the
/// fence is then this thread's only.
pub(crate) fn heavy_fence() -> bool {
    fence(Ordering::SeqCst);
    membarrier(MembarrierCommand::GlobalExpedited).is_ok()
}
