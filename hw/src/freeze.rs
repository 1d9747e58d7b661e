//! Freezes: what the chip does when an error or a dead link leaves packets half-way, and how contexts and engines learn of it.
//!
//! A freeze stops every engine and loses what was in it. The chip's part is done here, at once and by whoever finds it
//! (`chip.c:start_freeze_handling, handle_freeze`); each handle does its own part when its owner calls `recover`, as Linux
//! leaves the contexts of users to them (`file_ops.c:user_ctxt_reset`). Between the two stands one number, the epoch:
//! a handle that was set up in an earlier one is out of order, and looks at nothing else to know it.

use crate::error::ContextError;
use crate::hfi::Inner;
use opx_bus::PciFunction;
use opx_defs::chip;
use opx_defs::units::SdmaEngine;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What handles look at to know whether they are in order.
#[derive(Debug, Default)]
pub(crate) struct Frozen {
    /// A freeze is being dealt with.
    now: AtomicBool,
    /// Counts freezes.
    epoch: AtomicU32,
    /// The link went down and isn't ACTIVE again.
    link_down: AtomicBool,
    /// SEND_DMA_HEAD of each engine as it was while the chip was frozen; the unfreeze clears the registers.
    heads: [AtomicU32; chip::TXE_NUM_SDMA_ENGINES as usize],
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

    /// Whether the link went down and isn't ACTIVE again.
    pub fn is_link_down(&self) -> bool {
        self.link_down.load(Ordering::Acquire)
    }

    /// The slot that an engine would have done next when the last freeze stopped it: all before it are done.
    pub fn head(&self, engine: SdmaEngine) -> u32 {
        self.heads.get(usize::from(engine.0)).map_or(0, |head| head.load(Ordering::Acquire))
    }

    pub(crate) fn set(&self, frozen: bool) {
        // Who sees the new epoch sees this as well.
        self.now.store(frozen, Ordering::Release);
        if frozen {
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl<B: PciFunction> Inner<B> {
    /// The epoch that a receive context which is set up from here on belongs to. Taken before the first register is
    /// touched: a freeze in between then makes it one of the past.
    pub fn running_epoch(&self) -> Result<u32, ContextError> {
        let epoch = self.frozen.epoch();
        if self.frozen.get() { Err(ContextError::Frozen { adapter: self.adapter() }) } else { Ok(epoch) }
    }

    /// The same for a send context or engine that recovers: what it sends while the link is down is lost
    /// (`pio.c:pio_kernel_linkup`).
    pub fn sending_epoch(&self) -> Result<u32, ContextError> {
        let epoch = self.running_epoch()?;
        if self.frozen.is_link_down() { Err(ContextError::LinkDown { adapter: self.adapter() }) } else { Ok(epoch) }
    }
}
