//! Who looks on at the wire: sees each packet that comes off it, as it comes off.

use opx_defs::time::Instant;
use std::fmt;
use std::sync::Arc;

type See = dyn Fn(Instant, &[u8]) + Send + Sync;

/// One who looks on, or nobody.
#[derive(Default)]
pub struct Tap(Option<Arc<See>>);

impl Tap {
    /// One who is told of each packet: when it came off the wire, and its bytes from LRH to ICRC.
    pub fn new(see: impl Fn(Instant, &[u8]) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(see)))
    }

    /// A packet came off the wire.
    #[inline]
    pub fn packet(&self, now: Instant, bytes: &[u8]) {
        if let Some(see) = &self.0 {
            see(now, bytes);
        }
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Tap(..)" } else { "Tap(none)" })
    }
}
