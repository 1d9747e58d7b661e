//! Expected receive: memory of the caller's behind TIDs, so that packets' payload goes straight there.

mod cache;
mod groups;
mod transfer;

pub use cache::ExpectedCounts;
pub use transfer::TransferBuffer;
pub(super) use transfer::Transfers;

use super::{Memory, RecvConfig, RecvContext};
use crate::error::ContextError;
use crate::hfi::{Inner, lock};
use cache::{Cache, Change, Full};
use opx_bus::PciFunction;
use opx_defs::csr;
use opx_defs::rcvarray::RcvArrayEntry;
use opx_defs::tid::Tid;
use opx_defs::units::RcvCtxt;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

type Mapping = Arc<super::memory::Mapping>;

/// Somebody who keeps entries for memory and can be told that it goes.
pub(super) trait Forget: Send + Sync + 'static {
    /// The memory at these addresses goes.
    fn forget(&self, range: Range<u64>);
}

/// The expected entries of one context.
pub(super) struct Expected<B: PciFunction> {
    inner: Arc<Inner<B>>,
    context: RcvCtxt,
    /// First entry in the RcvArray.
    first: u32,
    cache: Mutex<State>,
}

struct State {
    cache: Cache<Mapping>,
    /// The context is closed: its entries may be somebody else's by now.
    closed: bool,
}

impl<B: PciFunction> Expected<B> {
    pub fn new(inner: &Arc<Inner<B>>, context: RcvCtxt, first: u32, config: &RecvConfig) -> Arc<Self> {
        let entries = u16::try_from(config.expected_entries).unwrap_or(0);
        let cache = Cache::new(entries, config.expected_bytes);
        let state = State { cache, closed: false };
        Arc::new(Self { inner: Arc::clone(inner), context, first, cache: Mutex::new(state) })
    }

    /// `chip.c:hfi1_put_tid`.
    fn write(&self, entry: u16, value: RcvArrayEntry) {
        self.inner.regs.write_at(&csr::RCV_ARRAY, self.first + u32::from(entry), value.0);
    }

    fn apply(&self, entry: u16, change: Change, memory: Option<&Mapping>) {
        let value = match (change, memory) {
            (Change::Fill { address, len }, Some(memory)) => RcvArrayEntry::new(memory.iova(address), len),
            _ => None,
        };
        // An address that the chip can't take would be the bus's mistake; packets for such an entry end in TID errors.
        self.write(entry, value.unwrap_or(RcvArrayEntry::INVALID));
    }

    /// Lets go of memory that has no entry any more. The chip must have seen that before the memory is unmapped
    /// (`user_exp_rcv.c:__clear_tid_node`).
    fn let_go(&self, state: &mut State) {
        if state.cache.has_freed() {
            let freed = state.cache.take_freed();
            let _ = self.inner.regs.read_at(&csr::RCV_CTXT_CTRL, self.context.0.into());
            drop(freed);
        }
    }

    /// The context is closed: all entries become empty, and nothing is written any more.
    pub fn close(&self) {
        let mut state = lock(&self.cache);
        state.cache.invalidate(0..u64::MAX, &mut |entry, change, memory| self.apply(entry, change, memory));
        state.closed = true;
        self.let_go(&mut state);
    }
}

impl<B: PciFunction> Forget for Expected<B> {
    fn forget(&self, range: Range<u64>) {
        let mut state = lock(&self.cache);
        state.cache.invalidate(range, &mut |entry, change, memory| self.apply(entry, change, memory));
        self.let_go(&mut state);
    }
}

/// Memory that is ready for expected packets, and the TIDs to tell the sender. Dropping it gives the memory back to the
/// context, which keeps the entries for the next time.
pub struct ExpectedBuffer<B: PciFunction> {
    expected: Arc<Expected<B>>,
    entries: Vec<u16>,
    tids: Vec<Tid>,
    offset: u32,
    len: usize,
}

impl<B: PciFunction> ExpectedBuffer<B> {
    /// What to tell the sender: the memory in order, the first byte [`ExpectedBuffer::offset`] bytes into it.
    pub fn tids(&self) -> &[Tid] {
        &self.tids
    }

    /// Where in the memory behind the first TID the buffer begins, in bytes.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none; never true.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether packets still get there: not any more once the memory or the context is gone. Packets on their way then
    /// come with an error. Nor is it to a child that was forked.
    pub fn is_valid(&self) -> bool {
        if !self.expected.inner.regs.is_ours() {
            return false;
        }
        let state = lock(&self.expected.cache);
        self.entries.iter().all(|entry| state.cache.is_live(*entry))
    }
}

impl<B: PciFunction> fmt::Debug for ExpectedBuffer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tids, offset, len, .. } = self;
        f.debug_struct("ExpectedBuffer").field("tids", tids).field("offset", offset).field("len", len).finish()
    }
}

impl<B: PciFunction> Drop for ExpectedBuffer<B> {
    fn drop(&mut self) {
        // A child that was forked leaves its parent's entries alone.
        if !self.expected.inner.regs.is_ours() {
            return;
        }
        let mut state = lock(&self.expected.cache);
        for entry in &self.entries {
            state.cache.release(*entry);
        }
        self.expected.let_go(&mut state);
    }
}

impl<B: PciFunction> RecvContext<B> {
    /// Makes `range` of `memory` ready for expected packets. What an earlier buffer left behind is used again; idle memory
    /// is given up where room is needed.
    ///
    /// ```
    /// # fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// # use opx_emu::{Config, Icode, Lab, Pacing};
    /// # use opx_hw::{Hfi, Options, RecvConfig};
    /// # let lab = Lab::new(Pacing::Virtual);
    /// # let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
    /// # let hfi = Hfi::open(adapter.bus(), Options::default())?;
    /// let context = hfi.recv_context(RecvConfig { expected_entries: 64, flows: true, ..RecvConfig::default() })?;
    /// let memory = hfi.memory(1 << 20)?;
    /// let buffer = context.expect(&memory, 5000..300_000)?;
    /// // 5000 is 904 bytes into the second page; what the sender needs is this:
    /// assert_eq!(buffer.offset(), 904);
    /// assert!(buffer.tids().iter().map(|tid| tid.bytes()).sum::<u32>() >= 904 + 295_000);
    /// # Ok(())
    /// # }
    /// # run().unwrap();
    /// ```
    ///
    /// # Errors
    /// When the range isn't in the memory, or more entries or bytes are in use than it needs to fit.
    pub fn expect(&self, memory: &Memory, range: Range<usize>) -> Result<ExpectedBuffer<B>, ContextError> {
        let adapter = || self.inner.adapter();
        if range.start >= range.end || range.end > memory.len() {
            let rule = "inside of the memory, and not empty";
            let value = range.end as u64;
            return Err(ContextError::BadParameter { adapter: adapter(), parameter: "end of the range", value, rule });
        }
        self.inner.regs.check_ours()?;
        let mapping = memory.mapping();
        mapping.kept_by(&self.expected);
        let base = mapping.range().start;
        let addresses = base + range.start as u64..base + range.end as u64;
        let expected = &self.expected;
        let mut state = lock(&expected.cache);
        let mut entries = Vec::new();
        let mut apply = |entry, change, memory: Option<&Mapping>| expected.apply(entry, change, memory);
        let taken = state.cache.acquire(addresses.clone(), mapping, &mut entries, &mut apply);
        let mut tids: Vec<Tid> = Vec::with_capacity(entries.len());
        let mut offset = 0;
        for (n, entry) in entries.iter().enumerate() {
            let Some((start, len)) = state.cache.place(*entry) else { continue };
            if n == 0 {
                offset = addresses.start.saturating_sub(start) as u32;
            }
            let Some(tid) = Tid::of_entry(*entry, len / Tid::PAGE) else { continue };
            match tids.last_mut().and_then(|last| last.merge(tid).map(|both| (last, both))) {
                Some((last, both)) => *last = both,
                None => tids.push(tid),
            }
        }
        // Before any packet is asked for, the entries have to be there.
        let there = self.inner.regs.read_at(&csr::RCV_CTXT_CTRL, self.index());
        if there.is_err() {
            entries.drain(..).for_each(|entry| state.cache.release(entry));
        }
        expected.let_go(&mut state);
        drop(state);
        there?;
        match taken {
            Ok(()) => {
                let len = range.end - range.start;
                Ok(ExpectedBuffer { expected: Arc::clone(expected), entries, tids, offset, len })
            }
            Err(Full::Entries(lacking)) => {
                Err(ContextError::NoEntries { adapter: adapter(), context: self.number.0, lacking })
            }
            Err(Full::Bytes(lacking)) => {
                let most = self.config.expected_bytes;
                Err(ContextError::TooManyBytes { adapter: adapter(), context: self.number.0, lacking, most })
            }
        }
    }

    /// Forgets what the context keeps of a part of `memory`: packets for it come with an error from now on. Dropping the
    /// memory does that by itself.
    pub fn forget(&self, memory: &Memory, range: Range<usize>) {
        if !self.inner.regs.is_ours() {
            return;
        }
        let all = memory.mapping().range();
        let at = |offset: usize| all.start.saturating_add(offset as u64).min(all.end);
        self.expected.forget(at(range.start)..at(range.end));
    }

    /// How often what happened to memory for expected packets; nothing did in a child that was forked.
    pub fn expected_counts(&self) -> ExpectedCounts {
        if !self.inner.regs.is_ours() {
            return ExpectedCounts::default();
        }
        lock(&self.expected.cache).cache.counts
    }
}
