//! The handle to an open adapter, and how it is closed.

use crate::asic::Asic;
use crate::error::{ContextError, LinkError, OpenError};
use crate::freeze::Port;
use crate::frozen::Frozen;
use crate::info::Info;
use crate::interrupts::{Counts, InterruptMask, Serviced};
use crate::kept_errors::KeptErrors;
use crate::link::{Link, LinkInfo, LinkState};
use crate::open::KDETH_PREFIX;
use crate::options::Options;
use crate::pool::{PioRoom, Pool};
use crate::recv::{RecvConfig, RecvContext};
use crate::regs::Regs;
use crate::sdma_engine::SdmaEngine;
use crate::send_context::{Refusals, SendConfig, SendContext};
use crate::steer::Steer;
use opx_bus::{DmaBlock, Irq, PciFunction};
use opx_defs::chip;
use opx_defs::csr;
use opx_defs::units::{Blocks, Lid, Sc, Sl};
use opx_defs::wire::opx::{Generation, Route};
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An open adapter. Clones are handles to the same one; it is closed when the last of them and of the contexts and
/// engines made from it is dropped.
///
/// ```
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use opx_emu::{Config, Icode, Lab, Pacing};
/// use opx_hw::{Hfi, LinkMode, Options};
/// let lab = Lab::new(Pacing::Virtual);
/// let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
/// let hfi = Hfi::open(adapter.bus(), Options::default())?;
/// let link = hfi.link_up(LinkMode::Loopback)?;
/// assert_eq!(link.lid, hfi.lid());
/// # Ok(())
/// # }
/// # run().unwrap();
/// ```
pub struct Hfi<B: PciFunction> {
    pub(crate) inner: Arc<Inner<B>>,
}

impl<B: PciFunction> Clone for Hfi<B> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<B: PciFunction> fmt::Debug for Hfi<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hfi").field("name", &self.inner.info.name).field("link", &self.link_state()).finish()
    }
}

/// What all handles to an adapter share. Memory comes last: the chip is quiet before it goes.
pub(crate) struct Inner<B: PciFunction> {
    pub regs: Regs<B>,
    pub options: Options,
    pub info: Info,
    pub asic: Asic,
    pub irqs: Vec<Irq>,
    pub mask: Mutex<InterruptMask>,
    pub counts: Counts,
    /// What counters showed that go on when the hardware's begin anew, in the order of the catalogue.
    pub synthesised: Mutex<Vec<u64>>,
    /// Errors of SDMA engines that the general interrupt took from their registers.
    pub sdma_errors: [KeptErrors; chip::TXE_NUM_SDMA_ENGINES as usize],
    pub pool: Mutex<Pool>,
    /// The checks that refused packets of send contexts.
    pub refusals: Refusals,
    /// Which receive context gets packets that don't name one.
    pub steer: Mutex<Steer>,
    /// Only one context can be initialised at a time (`pio.c:sc_enable`).
    pub pio_init: Mutex<()>,
    pub link: Mutex<Link>,
    /// What the link shows to others while it is being worked on.
    pub shown: Mutex<(LinkState, Option<LinkInfo>)>,
    /// Whether the chip is frozen, and how often it was.
    pub frozen: Frozen,
    /// One freeze is dealt with at a time. Taken after `link`, never before it.
    pub freezing: Mutex<()>,
    /// Whether packets may come in; who changes RCV_CTRL holds it. Taken after `link` and `freezing`.
    pub port: Mutex<Port>,
    /// One line of 64 bytes for each send context's credit-return word.
    pub credit_memory: DmaBlock,
    /// Where receive contexts that are being disabled write their tail.
    pub dummy_tail: DmaBlock,
}

/// Takes a lock; what a panicking thread left behind is still consistent enough to be closed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: PciFunction> Hfi<B> {
    /// Opens the adapter behind `bus`: checks what it is, resets it, initialises the chip and loads its firmware.
    /// The link stays down.
    ///
    /// # Errors
    /// When it isn't an HFI1, doesn't answer, or can't be initialised.
    pub fn open(bus: B, options: Options) -> Result<Self, OpenError> {
        Ok(Self { inner: Arc::new(crate::open::open(bus, options)?) })
    }

    /// What the adapter is.
    pub fn info(&self) -> &Info {
        &self.inner.info
    }

    /// The function it is on.
    pub fn bus(&self) -> &B {
        self.inner.regs.bus()
    }

    /// The options it was opened with.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// The way of a packet from receive context `src_rx` of this adapter to context `dst_rx` of the port `dlid`: on service
    /// level and class 0, with the adapter's partition and job key. The LID is 0 until the link was up.
    pub fn route(&self, src_rx: u8, dlid: Lid, dst_rx: u8) -> Route {
        let lid = self.lid();
        Route {
            slid: lid,
            dlid,
            primary_lid: lid,
            src_rx,
            dst_rx,
            sc: Sc(0),
            sl: Sl(0),
            pkey: self.options().pkey,
            job_key: self.options().job_key,
            qp_prefix: KDETH_PREFIX as u8,
            generation: Generation::default(),
        }
    }

    /// The port's LID; 0 until the link was up.
    pub fn lid(&self) -> Lid {
        self.link_info().map_or(Lid(0), |link| link.lid)
    }

    /// Whether this process opened the adapter, and wasn't forked from the one that did: a child that goes on to use its copy may
    /// wait for ever for a lock that a thread of its parent's held.
    pub fn is_ours(&self) -> bool {
        self.inner.regs.is_ours()
    }

    /// What the link is doing, as far as is known without asking the chip. To a child that was forked it is offline: none of its
    /// packets gets there.
    pub fn link_state(&self) -> LinkState {
        if self.is_ours() { lock(&self.inner.shown).0 } else { LinkState::Offline }
    }

    /// What is known about the link, when it is up; nothing in a child that was forked.
    pub fn link_info(&self) -> Option<LinkInfo> {
        if self.is_ours() { lock(&self.inner.shown).1 } else { None }
    }

    /// The interrupt of the adapter itself: when it is raised, call [`Hfi::service_interrupts`].
    pub fn irq(&self) -> Option<&Irq> {
        self.inner.irqs.first()
    }

    /// Takes a send context of `blocks` 64-byte blocks for a user's data packets and enables it.
    ///
    /// # Errors
    /// As [`Hfi::send_context_with`].
    pub fn send_context(&self, blocks: Blocks) -> Result<SendContext<B>, ContextError> {
        self.send_context_with(SendConfig::new(blocks))
    }

    /// Takes a send context and enables it.
    ///
    /// # Errors
    /// When contexts, PIO memory or vectors ran out, `config` can't be used, or the chip doesn't enable it.
    pub fn send_context_with(&self, config: SendConfig) -> Result<SendContext<B>, ContextError> {
        SendContext::new(&self.inner, config)
    }

    /// What is free for further send contexts; nothing is for a child that was forked.
    pub fn pio_room(&self) -> PioRoom {
        if self.is_ours() { lock(&self.inner.pool).pio_room() } else { PioRoom::default() }
    }

    /// Takes a receive context and enables it.
    ///
    /// # Errors
    /// When contexts, RcvArray entries, vectors or memory ran out, or `config` can't be used.
    pub fn recv_context(&self, config: RecvConfig) -> Result<RecvContext<B>, ContextError> {
        RecvContext::new(&self.inner, config)
    }

    /// Takes an SDMA engine with a ring of `entries` descriptors and starts it.
    ///
    /// # Errors
    /// When engines or memory ran out, `entries` can't be used, or the engine doesn't start.
    pub fn sdma_engine(&self, entries: u32) -> Result<SdmaEngine<B>, ContextError> {
        SdmaEngine::new(&self.inner, entries)
    }

    /// Takes and handles what the general interrupt reports: errors are counted and cleared, events of the link move
    /// the link on. To be called when [`Hfi::irq`] is raised, or now and then.
    ///
    /// # Errors
    /// When the adapter is gone, or an event of the link can't be handled.
    pub fn service_interrupts(&self) -> Result<Serviced, LinkError> {
        self.inner.service_interrupts()
    }

    /// How often the chip was frozen so far. When it grows, contexts and engines that were there before have to recover.
    /// Reads no register.
    #[inline]
    pub fn freezes(&self) -> u32 {
        self.inner.frozen.epoch()
    }

    /// How often the general interrupt reported what.
    pub fn counts(&self) -> &Counts {
        &self.inner.counts
    }
}

impl<B: PciFunction> Inner<B> {
    /// The adapter's name, for errors.
    pub fn adapter(&self) -> String {
        self.regs.adapter()
    }
}

impl<B: PciFunction> Drop for Inner<B> {
    /// `init.c:shutdown_device`, without the waits: contexts and engines are gone already, so nothing is in flight but
    /// what the fabric still sends, and the closed port drops that.
    fn drop(&mut self) {
        if !self.regs.is_ours() {
            return;
        }
        for index in 0..csr::CCE_INT_MASK.count {
            self.regs.write_at(&csr::CCE_INT_MASK, index, 0);
        }
        let link = self.link.get_mut().unwrap_or_else(PoisonError::into_inner);
        link.quiet(&self.regs);
        self.regs.write(&csr::RCV_CTRL, 0);
        self.regs.write(&csr::SEND_CTRL, 0);
        // Makes sure that the writes arrived before the memory goes; whether the adapter is there no longer matters.
        let _ = self.regs.read(&csr::SEND_CTRL);
        log::debug!(
            "{}: closed, {} interrupts serviced",
            self.regs.adapter(),
            self.counts.interrupts.load(Ordering::Relaxed)
        );
    }
}
