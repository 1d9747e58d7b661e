//! TIDs for one transfer each: their entries are written when the transfer begins, emptied when it ends, and rest for a while
//! before another transfer gets them.
//!
//! For senders that don't number their packets by flows. The chip can't tell a late packet of theirs from one of now, so an
//! entry must not stay when its buffer goes back to its owner, and must not soon mean other memory. What is expensive, letting
//! the adapter reach the memory, isn't undone: [`Memory`] can be kept.

use super::super::{Memory, RecvContext};
use super::cache::pieces_of;
use crate::error::ContextError;
use crate::hfi::{Inner, lock};
use opx_bus::PciFunction;
use opx_defs::csr;
use opx_defs::rcvarray::RcvArrayEntry;
use opx_defs::tid::Tid;
use opx_defs::time::Instant;
use opx_defs::units::RcvCtxt;
use opx_defs::wire::kdeth::Kdeth;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PAGE: u64 = Tid::PAGE as u64;

/// The entries of one context for transfers.
pub(in super::super) struct Transfers<B: PciFunction> {
    inner: Arc<Inner<B>>,
    context: RcvCtxt,
    /// Where TID 0 of the context lies in the RcvArray.
    first: u32,
    pairs: Range<u16>,
    state: Mutex<State>,
}

struct State {
    /// Pairs that can be had, the one that was given back longest ago first.
    ready: VecDeque<u16>,
    /// Pairs that rest, and until when.
    resting: BinaryHeap<Reverse<(Instant, u16)>>,
    /// The context is closed: its entries may be somebody else's by now.
    closed: bool,
}

impl State {
    fn wake(&mut self, now: Instant) {
        while let Some(Reverse((until, pair))) = self.resting.peek().copied()
            && until <= now
        {
            self.resting.pop();
            self.ready.push_back(pair);
        }
    }
}

impl<B: PciFunction> Transfers<B> {
    /// `entries` of them, behind `before` that are used otherwise; both are multiples of 8.
    pub fn new(inner: &Arc<Inner<B>>, context: RcvCtxt, first: u32, before: u32, entries: u32) -> Arc<Self> {
        let pair = |entry: u32| u16::try_from(entry / 2).unwrap_or(0);
        let pairs = pair(before)..pair(before + entries);
        let state =
            State { ready: pairs.clone().collect(), resting: BinaryHeap::with_capacity(pairs.len()), closed: false };
        Arc::new(Self { inner: Arc::clone(inner), context, first, pairs, state: Mutex::new(state) })
    }

    /// `chip.c:hfi1_put_tid`.
    fn write(&self, entry: u16, value: RcvArrayEntry) {
        self.inner.regs.write_at(&csr::RCV_ARRAY, self.first + u32::from(entry), value.0);
    }

    /// The context is closed: all entries become empty, and nothing is written any more.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        for pair in self.pairs.clone() {
            self.write(2 * pair, RcvArrayEntry::INVALID);
            self.write(2 * pair + 1, RcvArrayEntry::INVALID);
        }
        (state.closed, state.ready, state.resting) = (true, VecDeque::new(), BinaryHeap::new());
    }
}

/// Memory that is ready for the expected packets of one transfer. Dropping it ends that.
pub struct TransferBuffer<B: PciFunction> {
    transfers: Arc<Transfers<B>>,
    entries: Vec<u16>,
    tids: Vec<Tid>,
    offset: u32,
    len: usize,
    revoked: bool,
    ended: bool,
    /// Stays mapped until no entry names it.
    _memory: Memory,
}

impl<B: PciFunction> TransferBuffer<B> {
    /// For how long entries should rest after a transfer whose packets may still be under way, and do when the buffer is
    /// dropped without [`TransferBuffer::end`]. A switch keeps no packet for that long (the defaults of the OPA fabric manager are 8 ms at the head of a
    /// queue and 33 ms in all), and packets that wait in the sender's adapter leave before the copies that replace them.
    pub const REST: Duration = Duration::from_millis(200);

    /// What to tell the sender: the memory in order, the first byte [`TransferBuffer::offset`] bytes into it.
    pub fn tids(&self) -> &[Tid] {
        &self.tids
    }

    /// Where in the memory behind the first TID the buffer begins, in bytes.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// Bytes, from the start of the range that was asked for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none; never true.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where a packet's payload goes, in bytes from the start of the buffer; `None` when not into it.
    pub fn place(&self, kdeth: Kdeth) -> Option<usize> {
        let mut before = 0;
        for tid in &self.tids {
            if tid.pair() == kdeth.tid() && tid.ctrl().code() == u32::from(kdeth.tid_ctrl()) {
                let at = (before + kdeth.offset_bytes() as usize).checked_sub(self.offset as usize)?;
                return (at < self.len).then_some(at);
            }
            before += tid.bytes() as usize;
        }
        None
    }

    /// Whether one of its TIDs is of this pair.
    pub fn has_pair(&self, pair: u16) -> bool {
        self.entries.iter().any(|entry| entry / 2 == pair)
    }

    /// Packets get there no longer: on return the chip has let go of the memory. No other transfer gets its entries before
    /// [`TransferBuffer::end`]; packets for them come with an error meanwhile. A second call does nothing.
    pub fn revoke(&mut self) {
        let transfers = &self.transfers;
        // A child that was forked leaves alone what is its parent's.
        if !transfers.inner.regs.is_ours() {
            return;
        }
        let state = lock(&transfers.state);
        if std::mem::replace(&mut self.revoked, true) || state.closed {
            return;
        }
        for entry in &self.entries {
            transfers.write(*entry, RcvArrayEntry::INVALID);
        }
        // The answer comes behind all that the chip had still to write. An adapter that is gone writes nothing.
        let _ = transfers.inner.regs.read_at(&csr::RCV_CTXT_CTRL, transfers.context.0.into());
    }

    /// The transfer is over: what [`TransferBuffer::revoke`] does, and then its entries rest for so long before another one gets
    /// them. A second call does nothing.
    pub fn end(&mut self, rest: Duration) {
        self.revoke();
        let transfers = &self.transfers;
        let regs = &transfers.inner.regs;
        if !regs.is_ours() {
            return;
        }
        let mut state = lock(&transfers.state);
        if std::mem::replace(&mut self.ended, true) || state.closed {
            return;
        }
        let until = regs.bus().now() + rest;
        let mut last = None;
        for pair in self.entries.iter().map(|entry| entry / 2) {
            if last != Some(pair) && rest.is_zero() {
                state.ready.push_back(pair);
            } else if last != Some(pair) {
                state.resting.push(Reverse((until, pair)));
            }
            last = Some(pair);
        }
    }
}

impl<B: PciFunction> fmt::Debug for TransferBuffer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tids, offset, len, .. } = self;
        f.debug_struct("TransferBuffer").field("tids", tids).field("offset", offset).field("len", len).finish()
    }
}

impl<B: PciFunction> Drop for TransferBuffer<B> {
    fn drop(&mut self) {
        self.end(Self::REST);
    }
}

impl<B: PciFunction> RecvContext<B> {
    /// Makes `range` of `memory` ready for the expected packets of one transfer, or as much from its start as there are entries
    /// for. All bytes of the pages that the range touches can be written by the sender.
    ///
    /// ```
    /// # fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// # use opx_emu::{Config, Icode, Lab, Pacing};
    /// # use opx_hw::{Hfi, Options, RecvConfig};
    /// # use std::time::Duration;
    /// # let lab = Lab::new(Pacing::Virtual);
    /// # let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
    /// # let hfi = Hfi::open(adapter.bus(), Options::default())?;
    /// let context = hfi.recv_context(RecvConfig { transfer_entries: 64, ..RecvConfig::default() })?;
    /// let memory = hfi.memory(1 << 20)?;
    /// let mut buffer = context.expect_transfer(&memory, 4096..1 << 20)?;
    /// assert_eq!((buffer.offset(), buffer.len()), (0, (1 << 20) - 4096));
    /// // All packets have come, each once and none of them again.
    /// buffer.end(Duration::ZERO);
    /// # Ok(())
    /// # }
    /// # run().unwrap();
    /// ```
    ///
    /// # Errors
    /// When the range isn't in the memory, or there is no entry at all.
    pub fn expect_transfer(&self, memory: &Memory, range: Range<usize>) -> Result<TransferBuffer<B>, ContextError> {
        let adapter = || self.inner.adapter();
        if range.start >= range.end || range.end > memory.len() {
            let rule = "inside of the memory, and not empty";
            let value = range.end as u64;
            return Err(ContextError::BadParameter { adapter: adapter(), parameter: "end of the range", value, rule });
        }
        self.inner.regs.check_ours()?;
        let transfers = &self.transfers;
        let mut state = lock(&transfers.state);
        state.wake(self.inner.regs.bus().now());
        let pages = (range.start as u64 & !(PAGE - 1))..(range.end as u64).next_multiple_of(PAGE);
        let mut buffer = TransferBuffer {
            transfers: Arc::clone(transfers),
            entries: Vec::new(),
            tids: Vec::new(),
            offset: (range.start as u64 - pages.start) as u32,
            len: 0,
            revoked: false,
            ended: false,
            _memory: memory.clone(),
        };
        let (base, mut odd, mut end) = (memory.mapping().range().start, None, pages.start);
        for (at, len) in pieces_of(pages) {
            // Halves of a pair can be told to the sender as one.
            let next = odd.take();
            let Some(entry) = next.or_else(|| state.ready.pop_front().map(|pair| 2 * pair)) else { break };
            odd = (entry % 2 == 0).then_some(entry + 1);
            buffer.entries.push(entry);
            let there =
                RcvArrayEntry::new(memory.mapping().iova(base + at), len).zip(Tid::of_entry(entry, len / Tid::PAGE));
            // An address that the chip can't take would be the bus's mistake.
            let Some((value, tid)) = there else { break };
            transfers.write(entry, value);
            end = at + u64::from(len);
            match buffer.tids.last_mut().and_then(|last| last.merge(tid).map(|both| (last, both))) {
                Some((last, both)) => *last = both,
                None => buffer.tids.push(tid),
            }
        }
        drop(state);
        buffer.len = (end as usize).min(range.end).saturating_sub(range.start);
        if buffer.len == 0 {
            let error = ContextError::NoEntries { adapter: adapter(), context: self.number.0, lacking: 1 };
            // Nobody was told of them.
            buffer.end(Duration::ZERO);
            return Err(error);
        }
        Ok(buffer)
    }
}
