//! Errors of an SDMA engine: in its register, until the general interrupt takes them from there and keeps them for the engine's
//! owner.

use crate::sync::Mutex;
use std::sync::PoisonError;

/// The errors of one engine that were taken from its register. The lock is held over the register's accesses: at no moment
/// does an error seem to be in neither place, and none is taken that the owner has just dealt with.
#[derive(Debug, Default)]
pub(crate) struct KeptErrors(Mutex<u64>);

impl KeptErrors {
    fn with<T>(&self, change: impl FnOnce(&mut u64) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Moves what is in the register here; the result is that.
    pub fn take<E>(&self, read: impl FnOnce() -> Result<u64, E>, clear: impl FnOnce(u64)) -> Result<u64, E> {
        self.with(|kept| {
            let errors = read()?;
            if errors != 0 {
                *kept |= errors;
                clear(errors);
            }
            Ok(errors)
        })
    }

    /// All errors, those in the register and those kept.
    pub fn all<E>(&self, read: impl FnOnce() -> Result<u64, E>) -> Result<u64, E> {
        self.with(|kept| Ok(read()? | *kept))
    }

    /// Those that were kept by the time the register was read.
    pub fn kept(&self) -> u64 {
        self.with(|kept| *kept)
    }

    /// The engine starts anew: its register is cleared, and what was kept has been dealt with.
    pub fn forget(&self, clear: impl FnOnce()) {
        self.with(|kept| {
            clear();
            *kept = 0;
        });
    }
}
