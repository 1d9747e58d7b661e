//! Where a model of threads and a device learns of each access to shared memory: with `--cfg loom` only, otherwise nothing.

#[cfg(loom)]
static STEP: std::sync::OnceLock<fn()> = std::sync::OnceLock::new();

/// What is called from now on before each access to shared memory, by the thread that makes it.
#[cfg(loom)]
pub fn before_each_access(step: fn()) {
    // The first stays: all models of a program have the same.
    let _ = STEP.set(step);
}

/// An access follows.
#[inline(always)]
pub(crate) fn access() {
    #[cfg(loom)]
    if let Some(step) = STEP.get() {
        step();
    }
}
