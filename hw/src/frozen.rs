//! What handles look at to know whether a freeze has passed over them.
//!
//! It is one number, the epoch: a handle that was set up in an earlier one is out of order. The orders in which these values
//! are written and read are what `tests/loom.rs` has models of.

use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use opx_defs::chip;
use opx_defs::units::SdmaEngine;

/// What is known of freezes. Changed by one thread at a time, read by all.
#[derive(Debug, Default)]
pub(crate) struct Frozen {
    /// A freeze is being dealt with.
    now: AtomicBool,
    /// Counts freezes.
    epoch: AtomicU32,
    /// The link went down and isn't ACTIVE again.
    link_down: AtomicBool,
    /// The chip is too hot and stays frozen.
    for_good: AtomicBool,
    /// SEND_DMA_HEAD of each engine as it was when a freeze stopped it, below the epoch that began with that freeze. The
    /// unfreeze clears the registers.
    heads: [AtomicU64; chip::TXE_NUM_SDMA_ENGINES as usize],
}

/// Why nothing can be set up at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standstill {
    /// A freeze is being dealt with.
    Frozen,
    /// The chip is too hot and stays frozen.
    Overheated,
    /// The link is down.
    LinkDown,
}

impl Frozen {
    /// Whether the chip is frozen at this moment.
    pub fn get(&self) -> bool {
        self.now.load(Ordering::Acquire)
    }

    /// Number of freezes so far. A handle of an earlier epoch has to recover.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether a handle of that epoch is out of order.
    #[inline]
    pub fn is_stale(&self, epoch: u32) -> bool {
        self.get() || self.epoch() != epoch
    }

    /// The epoch that what is set up from here on belongs to.
    pub fn running(&self) -> Result<u32, Standstill> {
        // First the epoch: a freeze that begins after that makes it one of the past.
        let epoch = self.epoch();
        if self.is_for_good() {
            return Err(Standstill::Overheated);
        }
        if self.get() { Err(Standstill::Frozen) } else { Ok(epoch) }
    }

    /// The same for what sends.
    pub fn sending(&self) -> Result<u32, Standstill> {
        let epoch = self.running()?;
        if self.link_down.load(Ordering::Acquire) { Err(Standstill::LinkDown) } else { Ok(epoch) }
    }

    /// The slot that an engine of that epoch would have done next when a freeze stopped it: all before it are done. However
    /// many freezes came after that one.
    pub fn head_since(&self, epoch: u32, engine: SdmaEngine) -> Option<u32> {
        let kept = self.heads.get(usize::from(engine.0))?.load(Ordering::Acquire);
        let (stopped_by, slot) = ((kept >> 32) as u32, kept as u32);
        (stopped_by == epoch.wrapping_add(1)).then_some(slot)
    }

    /// The chip is frozen for good.
    pub fn is_for_good(&self) -> bool {
        self.for_good.load(Ordering::Acquire)
    }

    /// The next freeze won't end.
    pub fn stays(&self) {
        self.for_good.store(true, Ordering::Release);
    }

    /// The link went down. Before the freeze that this is the cause of.
    pub fn link_is_down(&self) {
        self.link_down.store(true, Ordering::Release);
    }

    /// The link is ACTIVE: senders may recover.
    pub fn link_is_active(&self) {
        self.link_down.store(false, Ordering::Release);
    }

    /// A freeze begins: before anything of it is done to the chip.
    pub fn begin(&self) {
        // Who sees the new epoch sees this as well.
        self.now.store(true, Ordering::Release);
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Where the freeze that has begun has stopped an engine that was running.
    pub fn keep_head(&self, engine: SdmaEngine, slot: u32) {
        if let Some(head) = self.heads.get(usize::from(engine.0)) {
            head.store(u64::from(self.epoch()) << 32 | u64::from(slot), Ordering::Release);
        }
    }

    /// The freeze is over.
    pub fn end(&self) {
        self.now.store(false, Ordering::Release);
    }
}
