//! What the running kernel can do of zero-copy receive, decided before anything is registered.

use crate::sys::{self, ZcrxAnswer};
use std::io;

/// What may be used. A kernel that can't be asked has none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// A pool can be attached to a second ring.
    pub import: bool,
    /// A pool works without a network device's queue, by copying.
    pub no_device: bool,
    /// A pool can be handed out as a file descriptor.
    pub export: bool,
    /// Returned buffers can be pushed into the pool.
    pub flush: bool,
    /// The kernel reports copies and exhaustion as events.
    pub events: bool,
    /// Buffers larger than a page may be asked for.
    pub buffer_size: bool,
}

/// Why there is no zero-copy receive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// The kernel has no such query.
    #[error("this kernel can't be asked about zero-copy receive (no IORING_REGISTER_QUERY); use Linux 7.1 or newer")]
    NoQuery,
    /// The kernel answers, and says no.
    #[error("this kernel has no io_uring zero-copy receive that can be used here; use Linux 7.1 or newer")]
    NoZcrx,
    /// io_uring is turned off or not allowed.
    #[error(
        "io_uring isn't allowed here: {0}; look at kernel.io_uring_disabled and the container's system call filter"
    )]
    Forbidden(#[source] io::Error),
    /// Something else.
    #[error("asking the kernel about zero-copy receive failed: {0}")]
    Other(#[source] io::Error),
}

/// Asks the running kernel.
///
/// # Errors
/// See [`Unsupported`]: each says why there is none.
pub fn query() -> Result<Features, Unsupported> {
    interpret(sys::query_zcrx())
}

fn interpret(answer: io::Result<ZcrxAnswer>) -> Result<Features, Unsupported> {
    const REG_IMPORT: u64 = 1;
    const REG_NODEV: u64 = 2;
    const CTRL_FLUSH_RQ: u32 = 0;
    const CTRL_EXPORT: u32 = 1;
    const CTRL_ARM_EVENT: u32 = 2;
    const FEATURE_RX_PAGE_SIZE: u32 = 1;

    match answer {
        Ok(answer) => Ok(Features {
            import: answer.register_flags & REG_IMPORT != 0,
            no_device: answer.register_flags & REG_NODEV != 0,
            export: answer.nr_ctrl_opcodes > CTRL_EXPORT,
            flush: answer.nr_ctrl_opcodes > CTRL_FLUSH_RQ,
            events: answer.nr_ctrl_opcodes > CTRL_ARM_EVENT,
            buffer_size: answer.features & FEATURE_RX_PAGE_SIZE != 0,
        }),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::EINVAL | libc::ENOSYS | libc::EBADF) => Unsupported::NoQuery,
            Some(libc::EOPNOTSUPP) => Unsupported::NoZcrx,
            Some(libc::EPERM | libc::EACCES) => Unsupported::Forbidden(error),
            _ => Unsupported::Other(error),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_bit_by_bit() {
        // What Linux 7.2 answers.
        let full =
            ZcrxAnswer { register_flags: 3, area_flags: 1, nr_ctrl_opcodes: 3, features: 3, ..Default::default() };
        let all =
            Features { import: true, no_device: true, export: true, flush: true, events: true, buffer_size: true };
        assert_eq!(interpret(Ok(full)).unwrap(), all);

        let partial = ZcrxAnswer { register_flags: 1, nr_ctrl_opcodes: 1, ..Default::default() };
        let some = Features { import: true, flush: true, ..Features::default() };
        assert_eq!(interpret(Ok(partial)).unwrap(), some);
        assert_eq!(interpret(Ok(ZcrxAnswer::default())).unwrap(), Features::default());
    }

    #[test]
    fn refusals_keep_their_reason() {
        let refused = |errno| interpret(Err(io::Error::from_raw_os_error(errno))).unwrap_err();
        assert!(matches!(refused(libc::EINVAL), Unsupported::NoQuery));
        assert!(matches!(refused(libc::EOPNOTSUPP), Unsupported::NoZcrx));
        assert!(matches!(refused(libc::EPERM), Unsupported::Forbidden(_)));
        assert!(matches!(refused(libc::EFAULT), Unsupported::Other(_)));
    }

    #[test]
    fn the_running_kernel_gives_an_answer_or_a_reason() {
        match query() {
            // Every kernel that has the pool at all can flush and export it.
            Ok(features) => assert!(features.flush || !features.export, "{features:?}"),
            Err(Unsupported::Other(error)) => panic!("unexpected refusal: {error}"),
            Err(_) => {}
        }
    }
}
