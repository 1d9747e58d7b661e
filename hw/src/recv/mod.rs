//! Receive contexts: a header queue that the chip fills, eager buffers behind it, memory for expected packets, and the
//! packets that come out.

mod config;
mod counts;
mod entry;
mod expected;
mod flow;
mod header_queue;
mod lending;
mod loans;
mod memory;
mod received;
mod sleep;

pub use config::{Detect, EntrySize, RecvConfig};
pub use counts::{ErrorCounts, RecvCounts};
pub use entry::{BadEntry, Layout, PacketKind, Parsed, parse};
pub use expected::{ExpectedBuffer, ExpectedCounts, TransferBuffer};
pub use flow::Flow;
pub use lending::{Lent, NotLent};
pub use memory::Memory;
pub use received::Received;

use crate::error::{ContextError, Gone, Stuck};
use crate::hfi::{Inner, lock};
use crate::moderation::{Moderation, Moderator};
use entry::Usual;
use expected::{Expected, Transfers};
use flow::FlowTable;
use header_queue::HeaderQueue;
use lending::EagerBuffers;
use opx_bus::{DmaBlock, PciFunction};
use opx_defs::csr;
use opx_defs::rcvarray::RcvArrayEntry;
use opx_defs::units::RcvCtxt;
use opx_defs::wire::OPX_HEADER_BYTES;
use opx_defs::wire::lrh::LRH_BYTES;
use opx_defs::wire::rhf::Rhf;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Dwords after the BTH that stay in the header queue: KDETH and software's header (`chip.h:DEFAULT_RCVHDRSIZE`).
const KDETH_DWORDS: u64 = 9;
/// What a disabled context may still have underway to memory (`init.c:shutdown_device`).
const SETTLE: Duration = Duration::from_micros(20);

/// A receive context. Dropping it disables it and frees its memory.
///
/// ```
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use opx_emu::{Config, Icode, Lab, Pacing};
/// use opx_hw::{Hfi, Options, RecvConfig};
/// let lab = Lab::new(Pacing::Virtual);
/// let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
/// let hfi = Hfi::open(adapter.bus(), Options::default())?;
/// let mut context = hfi.recv_context(RecvConfig::default())?;
/// while let Some(received) = context.poll() {
///     let header = context.header(&received);
///     println!("{:?} from {header:02x?}, errors {:#x}", received.kind(), received.errors());
///     context.release();
/// }
/// # Ok(())
/// # }
/// # run().unwrap();
/// ```
pub struct RecvContext<B: PciFunction> {
    queue: HeaderQueue,
    layout: Layout,
    usual: Usual,
    /// How far entries were released, and how far the chip was told so; it is told after so many words.
    released: usize,
    told: usize,
    told_every: usize,
    /// Eager buffer of the last packet, and what the chip knows about that.
    eager_head: u32,
    told_eager_head: u32,
    counts: RecvCounts,
    eager: EagerBuffers,
    inner: Arc<Inner<B>>,
    number: RcvCtxt,
    /// First entry in the RcvArray.
    first_entry: u32,
    config: RecvConfig,
    vector: Option<u16>,
    /// The freeze that it was set up after.
    epoch: u32,
    moderator: Moderator,
    /// Packets taken when the interrupt was last armed.
    armed_at: u64,
    expected: Arc<Expected<B>>,
    transfers: Arc<Transfers<B>>,
    flows: Arc<FlowTable<B>>,
}

impl<B: PciFunction> fmt::Debug for RecvContext<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvContext").field("number", &self.number).field("config", &self.config).finish()
    }
}

impl<B: PciFunction> RecvContext<B> {
    pub(crate) fn new(inner: &Arc<Inner<B>>, config: RecvConfig) -> Result<Self, ContextError> {
        let epoch = inner.running_epoch()?;
        config.check(inner)?;
        let bus = inner.regs.bus();
        let entry_bytes = config.header_entry.bytes();
        let headers = bus.dma_alloc(config.header_entries as usize * entry_bytes as usize)?;
        let tail = HeaderQueue::tail_bytes(config.detect).map(|len| bus.dma_alloc(len)).transpose()?;
        let (buffers, spare, size) = (config.eager_buffers, config.spare_buffers, config.eager_buffer_size);
        let eager = bus.dma_alloc((buffers + spare) as usize * size as usize)?;
        let eager = EagerBuffers::new(eager, size, buffers, spare);
        let entries = config.eager_buffers + config.tid_entries();
        let (number, first_entry) = lock(&inner.pool).take_recv(entries)?;
        let first_expected = first_entry + config.eager_buffers;
        let number = RcvCtxt(number);
        // From here on, dropping it gives everything back.
        let layout =
            Layout { entry_bytes, eager_buffers: config.eager_buffers, eager_buffer_size: config.eager_buffer_size };
        let mut context = Self {
            queue: HeaderQueue::new(headers, tail, config.header_entries, entry_bytes),
            layout,
            usual: if config.detect == Detect::Sequence { Usual::new(&layout) } else { Usual::never() },
            released: 0,
            told: 0,
            told_every: (config.heads_every(inner.options.mtu) * entry_bytes / 8) as usize,
            eager_head: 0,
            told_eager_head: 0,
            counts: RecvCounts::default(),
            eager,
            number,
            first_entry,
            config,
            vector: None,
            epoch,
            moderator: Moderator::new(Moderation::default()),
            armed_at: 0,
            expected: Expected::new(inner, number, first_expected, &config),
            transfers: Transfers::new(inner, number, first_expected, config.expected_entries, config.transfer_entries),
            flows: FlowTable::new(inner, number, config.flows),
            inner: Arc::clone(inner),
        };
        if config.interrupts {
            let vector = lock(&inner.pool).take_vector()?;
            context.vector = Some(vector);
            inner.route(context.source(), vector)?;
        }
        context.fill_rcv_array()?;
        context.set_up();
        context.enable().map_err(|error| context.inner.unless_frozen_since(epoch, error))?;
        Ok(context)
    }

    fn index(&self) -> u32 {
        self.number.0.into()
    }

    /// `init.c:hfi1_setup_eagerbufs`.
    fn fill_rcv_array(&self) -> Result<(), ContextError> {
        self.eager.check().map_err(|value| {
            let adapter = self.inner.adapter();
            let rule = "a page-aligned address of at most 48 bits: the bus mapped the eager buffers wrongly";
            ContextError::BadParameter { adapter, parameter: "I/O address", value, rule }
        })?;
        for (place, entry) in (0..).zip(self.eager.entries()) {
            self.inner.regs.write_at(&csr::RCV_ARRAY, self.first_entry + place, entry.0);
        }
        Ok(())
    }

    /// What stays as it is while the context is there: `file_ops.c:user_init`, `chip.c:set_hdrq_regs`.
    fn set_up(&self) {
        use csr::RCV_KEY_CTRL as key;
        let (regs, n, config) = (&self.inner.regs, self.index(), &self.config);
        regs.write_at(&csr::RCV_HDR_CNT, n, csr::RCV_HDR_CNT::CNT.put((config.header_entries / 32).into()));
        regs.write_at(&csr::RCV_HDR_ENT_SIZE, n, csr::RCV_HDR_ENT_SIZE::ENT_SIZE.put(config.header_entry.code()));
        regs.write_at(&csr::RCV_HDR_SIZE, n, csr::RCV_HDR_SIZE::HDR_SIZE.put(KDETH_DWORDS));
        regs.write_at(&csr::RCV_KEY_CTRL, n, key::JOB_KEY_ENABLE.mask() | u64::from(config.job_key.0));
        regs.write_at(&csr::RCV_HDR_OVFL_CNT, n, 0);
        self.flows.set_up();
    }

    /// `chip.c:hfi1_rcvctrl` for HFI1_RCVCTRL_CTXT_ENB.
    fn enable(&mut self) -> Result<(), ContextError> {
        use csr::{RCV_CTXT_CTRL as ctrl, RCV_EGR_CTRL as egr, RCV_TID_CTRL as tid};
        self.queue.reset();
        (self.released, self.told) = (self.queue.place(), self.queue.place());
        (self.eager_head, self.told_eager_head) = (0, 0);
        let (regs, n, config) = (&self.inner.regs, self.index(), &self.config);
        let (headers, tail) = self.queue.addresses();
        let old = regs.read_at(&csr::RCV_CTXT_CTRL, n)?;
        regs.write_at(&csr::RCV_HDR_ADDR, n, headers);
        regs.write_at(&csr::RCV_HDR_TAIL_ADDR, n, tail.unwrap_or(self.inner.dummy_tail.iova(0).0));
        regs.write_at(&csr::RCV_HDR_HEAD, n, 0);
        regs.write_at(&csr::RCV_EGR_INDEX_HEAD, n, 0);
        let eager = egr::EGR_CNT.put((config.eager_buffers / 8).into())
            | egr::EGR_BASE_INDEX.put((self.first_entry / 8).into());
        regs.write_at(&csr::RCV_EGR_CTRL, n, eager);
        // The count is in pairs of entries, in units of four.
        let expected = tid::TID_PAIR_CNT.put((config.tid_entries() / 8).into())
            | tid::TID_BASE_INDEX.put(((self.first_entry + config.eager_buffers) / 8).into());
        regs.write_at(&csr::RCV_TID_CTRL, n, if config.tid_entries() == 0 { 0 } else { expected });
        let cleared = ctrl::EGR_BUF_SIZE.mask()
            | ctrl::ONE_PACKET_PER_EGR_BUFFER.mask()
            | ctrl::DONT_DROP_EGR_FULL.mask()
            | ctrl::DONT_DROP_RHQ_FULL.mask()
            | ctrl::TID_FLOW_ENABLE.mask()
            | ctrl::TAIL_UPD.mask()
            | ctrl::INTR_AVAIL.mask();
        let when = |on, field: csr::Field| if on { field.mask() } else { 0 };
        // With one packet in each buffer the size comes from the RcvArray.
        let size = if config.one_packet_per_buffer { 0 } else { u64::from(config.eager_buffer_size.ilog2()) - 11 };
        let new = old & !cleared
            | ctrl::EGR_BUF_SIZE.put(size)
            | when(config.one_packet_per_buffer, ctrl::ONE_PACKET_PER_EGR_BUFFER)
            | when(config.wait_when_full, ctrl::DONT_DROP_EGR_FULL)
            | when(config.wait_when_full, ctrl::DONT_DROP_RHQ_FULL)
            | when(config.flows, ctrl::TID_FLOW_ENABLE)
            | when(tail.is_some(), ctrl::TAIL_UPD)
            | when(self.vector.is_some(), ctrl::INTR_AVAIL)
            | ctrl::ENABLE.mask();
        regs.write_at(&csr::RCV_CTXT_CTRL, n, new);
        if config.wait_when_full && regs.read_any(&csr::RCV_CTXT_STATUS, n)? != 0 {
            // The mark of a full queue sticks from before; moving the head clears it.
            regs.read_at(&csr::RCV_HDR_HEAD, n)?;
            regs.write_at(&csr::RCV_HDR_HEAD, n, 0x10);
            regs.write_at(&csr::RCV_HDR_HEAD, n, 0);
            regs.read_at(&csr::RCV_HDR_HEAD, n)?;
        }
        // These two take effect only when they are written after the context is enabled.
        regs.write_at(&csr::RCV_AVAIL_TIME_OUT, n, self.moderator.timeout());
        regs.write_at(&csr::RCV_HDR_HEAD, n, self.moderator.count());
        let value = regs.read_at(&csr::RCV_CTXT_CTRL, n)?;
        if !ctrl::ENABLE.is_set(value) {
            let register = format!("{}[{n}]", csr::RCV_CTXT_CTRL.name);
            let adapter = self.inner.adapter();
            return Err(Stuck { adapter, register, wanted: "ENABLE", value, limit: Duration::ZERO }.into());
        }
        Ok(())
    }

    /// `chip.c:hfi1_rcvctrl` for HFI1_RCVCTRL_CTXT_DIS; nothing is written to the context's queues afterwards.
    fn disable(&self) -> Result<(), Gone> {
        use csr::RCV_CTXT_CTRL as ctrl;
        let (regs, n) = (&self.inner.regs, self.index());
        let old = regs.read_at(&csr::RCV_CTXT_CTRL, n)?;
        let dummy = self.inner.dummy_tail.iova(0).0;
        // The chip may write the tail while it disables the context: to a place that stays.
        regs.write_at(&csr::RCV_HDR_TAIL_ADDR, n, dummy);
        let cleared = ctrl::ENABLE.mask() | ctrl::INTR_AVAIL.mask() | ctrl::TID_FLOW_ENABLE.mask();
        regs.write_at(&csr::RCV_CTXT_CTRL, n, old & !cleared | ctrl::TAIL_UPD.mask());
        // The read makes sure that it arrived; then what is underway needs a moment.
        regs.read_at(&csr::RCV_CTXT_CTRL, n)?;
        regs.pause(SETTLE);
        regs.write_at(&csr::RCV_HDR_TAIL_ADDR, n, dummy);
        Ok(())
    }

    /// Whether the chip was frozen since the context was set up. Nothing arrives any more until [`RecvContext::recover`].
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.inner.frozen.is_stale(self.epoch)
    }

    /// Starts the context over with empty queues, as is needed once the chip was frozen (`chip.c:rxe_kernel_unfreeze`). What
    /// was taken before must be released or is lost, as is what was in the queues; memory for expected packets and flows stay
    /// as they are, but packets for them may have been lost, too.
    ///
    /// # Errors
    /// When the chip is still frozen, the adapter is gone, or the chip doesn't enable the context.
    pub fn recover(&mut self) -> Result<(), ContextError> {
        let epoch = self.inner.running_epoch()?;
        self.disable()?;
        // The queues begin anew: nothing is in the ring that somebody still looks at.
        let (regs, first) = (&self.inner.regs, self.first_entry);
        self.counts.buffers_replaced +=
            self.eager.pass_all(|place, entry| regs.write_at(&csr::RCV_ARRAY, first + place, entry.0));
        self.enable().map_err(|error| self.inner.unless_frozen_since(epoch, error))?;
        self.epoch = epoch;
        self.counts.recoveries += 1;
        Ok(())
    }

    /// Hardware number: what a KDETH packet must name to get here.
    pub fn number(&self) -> RcvCtxt {
        self.number
    }

    /// How it was set up.
    pub fn config(&self) -> &RecvConfig {
        &self.config
    }

    /// The function it is on.
    pub fn bus(&self) -> &B {
        self.inner.regs.bus()
    }

    /// What came out of it so far.
    pub fn counts(&self) -> RecvCounts {
        self.counts
    }

    /// Packets that the chip dropped because the header queue was full.
    ///
    /// # Errors
    /// When the adapter is gone.
    pub fn overflows(&self) -> Result<u64, Gone> {
        self.inner.regs.read_at(&csr::RCV_HDR_OVFL_CNT, self.index())
    }

    /// The memory behind the header queue and the eager buffers, for tests that play the chip.
    #[doc(hidden)]
    pub fn memory(&self) -> (&DmaBlock, &DmaBlock) {
        (self.queue.memory(), self.eager.memory())
    }

    /// The memory of the tail, when entries are found by that, likewise.
    #[doc(hidden)]
    pub fn tail_memory(&self) -> Option<&DmaBlock> {
        self.queue.tail_memory()
    }

    /// Takes the next packet, if there is one. Entries that make no sense are counted and skipped. Packets with an error
    /// are handed up, too: see [`Received::errors`].
    #[inline]
    pub fn poll(&mut self) -> Option<Received> {
        let rhf = self.queue.peek()?;
        if self.usual.is(rhf) {
            self.eager_head = rhf.eager_index().into();
        } else if !self.usual.is_bare(rhf) {
            return self.take_unusual();
        }
        let flags_at = self.queue.flags_at();
        self.queue.advance();
        self.counts.packets = self.counts.packets.wrapping_add(1);
        Some(Received::new(rhf, flags_at, PacketKind::Eager, Usual::HEADER))
    }

    /// The flags of the next packet, if there is one. It stays.
    #[inline(always)]
    pub fn peek(&self) -> Option<Rhf> {
        self.queue.peek()
    }

    /// The words of the header of the next packet, whose flags [`RecvContext::peek`] has just given, when it is one as most short
    /// ones are: eager, without payload, errors or a GRH. It stays until it is taken, by [`RecvContext::take_bare`] or
    /// [`RecvContext::poll`].
    #[inline(always)]
    pub fn bare_header(&self, flags: Rhf) -> Option<[u64; OPX_HEADER_BYTES / 8]> {
        if self.usual.is_bare(flags) { self.queue.header_words() } else { None }
    }

    /// Takes the packet that [`RecvContext::bare_header`] has just shown, and releases it and all before it.
    #[inline(always)]
    pub fn take_bare(&mut self) {
        self.queue.advance();
        self.counts.packets = self.counts.packets.wrapping_add(1);
        self.release();
    }

    /// Whether no packet is there to be taken.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.peek().is_none()
    }

    #[inline(never)]
    fn take_unusual(&mut self) -> Option<Received> {
        match self.take(self.queue.next()?) {
            Ok(received) => Some(received),
            Err(_) => self.skip(),
        }
    }

    fn take(&mut self, rhf: Rhf) -> Result<Received, BadEntry> {
        let flags_at = self.queue.flags_at();
        let all_released = self.released == self.queue.place();
        self.queue.advance();
        self.queue.forget_tail();
        let parsed = parse(rhf, &self.layout);
        if parsed.is_err() && all_released {
            // Nobody will release what nobody gets.
            self.released = self.queue.place();
        }
        let parsed = parsed?;
        if rhf.uses_eager() {
            self.eager_head = rhf.eager_index().into();
        }
        if rhf.errors() != 0 {
            self.counts.errors += 1;
            self.counts.by_error.note(rhf);
        }
        self.counts.packets = self.counts.packets.wrapping_add(1);
        let received = Received::new(rhf, flags_at, parsed.kind, parsed.header_len);
        let mut lrh = [0; LRH_BYTES];
        self.copy_header(&received, &mut lrh);
        Ok(Received::new(rhf, flags_at, parsed.kind.behind(lrh), parsed.header_len))
    }

    /// Goes past entries that make no sense.
    #[cold]
    fn skip(&mut self) -> Option<Received> {
        self.counts.bad_entries += 1;
        // However fast the chip writes nonsense, this ends.
        for _ in 0..self.config.header_entries {
            if self.released == self.queue.place() {
                self.release();
            }
            match self.take(self.queue.next()?) {
                Ok(received) => return Some(received),
                Err(_) => self.counts.bad_entries += 1,
            }
        }
        None
    }

    /// The first 56 bytes of a packet's header: LRH, BTH and KDETH of an eager or expected packet. Those that it doesn't have
    /// are 0.
    #[inline]
    pub fn header(&self, received: &Received) -> [u8; OPX_HEADER_BYTES] {
        let mut header = [0; OPX_HEADER_BYTES];
        if received.header_len() < OPX_HEADER_BYTES {
            self.copy_header(received, &mut header);
            return header;
        }
        // A header begins at a whole dword; of the usual size it begins at a whole qword, as its entry does.
        let first = received.header_at() as usize / 8;
        let words = self.queue.memory().memory().words().get(first..first + OPX_HEADER_BYTES / 8);
        match words {
            Some(words) if received.header_at().is_multiple_of(8) => {
                for (bytes, word) in header.chunks_exact_mut(8).zip(words) {
                    bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
                }
            }
            _ => {
                self.copy_header(received, &mut header);
            }
        }
        header
    }

    /// Copies a packet's header, as much as there is and fits; the result is how much.
    pub fn copy_header(&self, received: &Received, to: &mut [u8]) -> usize {
        copy(
            self.queue.memory(),
            received.header_at(),
            (received.header_len() as u32).min(self.queue.header_room() as u32),
            to,
        )
    }

    /// Copies a packet's payload, as much as there is and fits; the result is how much.
    pub fn copy_payload(&self, received: &Received, to: &mut [u8]) -> usize {
        let Some(at) = self.eager.payload_at(received.rhf()) else { return 0 };
        copy(self.eager.memory(), at, received.payload_len() as u32, to)
    }

    /// A packet's payload as a view in place of a copy. It can be kept when the packet is released: see [`Lent`].
    ///
    /// # Errors
    /// When all spare buffers ([`RecvConfig::spare_buffers`]) are in use, the packet has no payload in an eager buffer, or it
    /// was released. It can be copied then.
    #[inline]
    pub fn lend(&mut self, received: &Received) -> Result<Lent, NotLent> {
        let (rhf, len) = (received.rhf(), received.payload_len() as u32);
        if len == 0 {
            return Err(NotLent::NoPayload);
        }
        // Released buffers that the chip wasn't told of are as they were; the others it may be writing to.
        let since_told = |place: u32| {
            let ahead = place.wrapping_sub(self.told_eager_head);
            if place >= self.told_eager_head { ahead } else { ahead.wrapping_add(self.config.eager_buffers) }
        };
        if since_told(rhf.eager_index().into()) > since_told(self.eager_head) {
            return Err(NotLent::Released);
        }
        let lent = match self.eager.lend(rhf, len) {
            // Spare buffers may be promised to buffers that nobody holds any more.
            Err(NotLent::NoSpare) if self.released == received.flags_at() as usize => {
                self.pass_eager_buffers();
                self.eager.lend(rhf, len)?
            }
            lent => lent?,
        };
        self.counts.lent = self.counts.lent.wrapping_add(1);
        Ok(lent)
    }

    /// Eager buffers that could still be lent, besides those of which something is lent already.
    pub fn lendable(&mut self) -> usize {
        self.eager.lendable()
    }

    /// All packets taken so far have been used up: what they lie in may be filled again. The chip is told once in a
    /// while.
    #[inline]
    pub fn release(&mut self) {
        self.released = self.queue.place();
        if self.queue.passed_since(self.told) >= self.told_every {
            self.update_heads();
        }
    }

    /// As [`RecvContext::release`], and tells the chip now.
    pub fn release_now(&mut self) {
        self.released = self.queue.place();
        if self.released != self.told {
            self.update_heads();
        }
    }

    /// The context is done with the eager buffers before that of the last packet taken.
    fn pass_eager_buffers(&mut self) {
        // Where somebody still looks at a buffer, another is there before the chip may enter it again. Both registers are
        // mapped uncached, so that the chip sees them in this order.
        let (regs, n, first) = (&self.inner.regs, self.index(), self.first_entry);
        let replace = |place, entry: RcvArrayEntry| regs.write_at(&csr::RCV_ARRAY, first + place, entry.0);
        let replaced = self.eager.pass(self.told_eager_head, self.eager_head, replace);
        self.counts.buffers_replaced = self.counts.buffers_replaced.wrapping_add(replaced);
        regs.write_at(&csr::RCV_EGR_INDEX_HEAD, n, self.eager_head.into());
        self.told_eager_head = self.eager_head;
    }

    /// `chip.c:update_usrhead`.
    fn update_heads(&mut self) {
        if self.eager_head != self.told_eager_head {
            self.pass_eager_buffers();
        }
        let (regs, n) = (&self.inner.regs, self.index());
        let head = csr::RCV_HDR_HEAD::HEAD.put(self.queue.head_dwords());
        regs.write_at(&csr::RCV_HDR_HEAD, n, self.moderator.count() | head);
        self.told = self.queue.place();
        self.counts.head_updates = self.counts.head_updates.wrapping_add(1);
    }
}

/// Copies from memory of the chip; a packet of another context could name a place that isn't there.
fn copy(from: &DmaBlock, at: u32, len: u32, to: &mut [u8]) -> usize {
    let (at, len) = (at as usize, (len as usize).min(to.len()));
    if at + len > from.len() {
        return 0;
    }
    from.read(at, &mut to[..len]);
    len
}

impl<B: PciFunction> Drop for RecvContext<B> {
    /// `file_ops.c:hfi1_file_close`.
    fn drop(&mut self) {
        let (inner, n) = (&self.inner, self.index());
        let regs = &inner.regs;
        if !regs.is_ours() {
            return;
        }
        let disabled = self.disable();
        if disabled.is_ok() {
            regs.write_at(&csr::RCV_KEY_CTRL, n, 0);
            for entry in self.first_entry..self.first_entry + self.config.eager_buffers {
                regs.write_at(&csr::RCV_ARRAY, entry, RcvArrayEntry::INVALID.0);
            }
            regs.write_at(&csr::RCV_HDR_ADDR, n, 0);
            regs.write_at(&csr::RCV_TID_CTRL, n, 0);
        }
        self.expected.close();
        self.transfers.close();
        self.flows.close();
        // An adapter that is gone leads nothing anywhere.
        let _ = inner.lead_nothing_to(self.number);
        if disabled.is_ok() {
            // Makes sure that all of it arrived before the memory goes.
            let _ = regs.read_at(&csr::RCV_CTXT_CTRL, n);
        }
        if let Some(vector) = self.vector {
            inner.unroute(self.source());
            lock(&inner.pool).give_back_vector(vector);
        }
        lock(&inner.pool).give_back_recv(self.number.0, self.first_entry);
    }
}
