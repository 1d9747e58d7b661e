//! Receive contexts: a header queue that the chip fills, eager buffers behind it, and the packets that come out.

use crate::error::{ContextError, Gone, Stuck};
use crate::hfi::{Inner, lock};
use crate::moderation::{Moderation, Moderator};
use opx_bus::{DmaBlock, Irq, PciFunction};
use opx_defs::chip;
use opx_defs::csr;
use opx_defs::rcvarray::RcvArrayEntry;
use opx_defs::source::Source;
use opx_defs::units::{JobKey, RcvCtxt};
use opx_defs::wire::OPX_HEADER_BYTES;
use opx_defs::wire::rhf::{RcvType, Rhf};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Dwords of a header queue entry, and their code (`chip.c:encode_rcv_header_entry_size`).
const ENTRY_DWORDS: u32 = 32;
const ENTRY_CODE: u64 = 4;
const ENTRY_BYTES: usize = ENTRY_DWORDS as usize * 4;
/// The RHF is the last qword of an entry (`init.c:hfi1_create_ctxtdata`).
const RHF_OFFSET: usize = ENTRY_BYTES - 8;
/// Dwords after the BTH that stay in the header queue: KDETH and software's header (`chip.h:DEFAULT_RCVHDRSIZE`).
const KDETH_DWORDS: u64 = 9;
/// The ICRC, which the length counts.
const ICRC_BYTES: u32 = 4;
/// Eager buffers are filled in steps of this many bytes.
const EAGER_UNIT: usize = 64;
/// What a disabled context may still have underway to memory (`init.c:shutdown_device`).
const SETTLE: Duration = Duration::from_micros(20);

/// How a receive context is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecvConfig {
    /// Entries of the header queue: a multiple of 32, 64 to 16352.
    pub header_entries: u32,
    /// Eager buffers: a multiple of 8, 8 to 2048, together at most 64 MiB.
    pub eager_buffers: u32,
    /// Bytes of an eager buffer: a power of two, 4 KiB to 256 KiB, and no less than the MTU.
    pub eager_buffer_size: u32,
    /// Packets must carry this job key.
    pub job_key: JobKey,
    /// Whether packets raise an interrupt, so that one can sleep until they come.
    pub interrupts: bool,
    /// The chip is told what is free again after so many packets.
    pub head_batch: u32,
}

impl Default for RecvConfig {
    fn default() -> Self {
        Self {
            header_entries: 2048,
            eager_buffers: 32,
            eager_buffer_size: 256 << 10,
            job_key: JobKey(1),
            interrupts: false,
            head_batch: 16,
        }
    }
}

impl RecvConfig {
    fn check<B: PciFunction>(&self, inner: &Inner<B>) -> Result<(), ContextError> {
        let bad = |parameter, value: u32, rule| {
            Err(ContextError::BadParameter { adapter: inner.adapter(), parameter, value: value.into(), rule })
        };
        let (least, most) = (chip::HFI1_MIN_HDRQ_EGRBUF_CNT as u32, chip::HFI1_MAX_HDRQ_EGRBUF_CNT as u32);
        if self.header_entries <= least || self.header_entries > most || !self.header_entries.is_multiple_of(32) {
            return bad("header_entries", self.header_entries, "a multiple of 32 from 64 to 16352");
        }
        if self.eager_buffers == 0
            || u64::from(self.eager_buffers) > chip::MAX_EAGER_ENTRIES
            || !self.eager_buffers.is_multiple_of(8)
        {
            return bad("eager_buffers", self.eager_buffers, "a multiple of 8 from 8 to 2048");
        }
        let size = u64::from(self.eager_buffer_size);
        if !size.is_power_of_two() || !(chip::MIN_EAGER_BUFFER..=chip::MAX_EAGER_BUFFER).contains(&size) {
            return bad("eager_buffer_size", self.eager_buffer_size, "a power of two from 4096 to 262144");
        }
        // init.c:hfi1_setup_eagerbufs: a packet never spans two buffers.
        if self.eager_buffer_size < inner.options.mtu {
            return bad("eager_buffer_size", self.eager_buffer_size, "no less than the MTU");
        }
        if size * u64::from(self.eager_buffers) > chip::MAX_EAGER_BUFFER_TOTAL {
            return bad("eager_buffers", self.eager_buffers, "so many that all buffers together have at most 64 MiB");
        }
        if self.head_batch == 0 || self.head_batch > self.header_entries / 2 {
            return bad("head_batch", self.head_batch, "from 1 to half of header_entries");
        }
        Ok(())
    }
}

/// A packet that arrived. Its payload lies in an eager buffer until [`RecvContext::release`].
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Flags of the chip. Look at the errors first: with any of them set, nothing in the packet can be trusted.
    pub rhf: Rhf,
    /// LRH, BTH and KDETH with software's header.
    pub header: [u8; OPX_HEADER_BYTES],
    /// Where the payload lies in the eager buffers; checked to be inside one buffer.
    payload_offset: usize,
    payload_len: usize,
}

impl Received {
    /// Bytes of payload.
    pub fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// The RHF's error bits; 0 for a good packet.
    pub fn errors(&self) -> u64 {
        self.rhf.errors()
    }
}

/// How often what came out of a header queue. The counters only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecvCounts {
    /// Packets given out.
    pub packets: u64,
    /// Packets given out that carried an error flag.
    pub errors: u64,
    /// Entries that were skipped because their RHF names something impossible.
    pub bad_entries: u64,
    /// Entries that were skipped because they hold no KDETH packet.
    pub not_kdeth: u64,
    /// How often the chip was told what is free.
    pub head_updates: u64,
}

/// Why an entry is skipped.
enum Skip {
    Bad,
    NotKdeth,
}

/// A receive context. Dropping it disables it and frees its memory.
pub struct RecvContext<B: PciFunction> {
    inner: Arc<Inner<B>>,
    number: RcvCtxt,
    /// First entry in the RcvArray.
    first_entry: u32,
    config: RecvConfig,
    vector: Option<u16>,
    headers: DmaBlock,
    eager: DmaBlock,
    /// Next entry to look at.
    head: u32,
    /// Sequence number that the next entry's RHF will have.
    seq: u8,
    /// Eager buffer of the last packet, and what the chip knows about that.
    eager_head: u16,
    told_eager_head: u16,
    /// Entries passed since the chip was told.
    passed: u32,
    /// Packets given out and not released yet.
    unreleased: u32,
    counts: RecvCounts,
    epoch: u32,
    moderator: Moderator,
    /// Packets taken when the interrupt was last armed.
    armed_at: u64,
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
        let headers = bus.dma_alloc(config.header_entries as usize * ENTRY_BYTES)?;
        let eager = bus.dma_alloc(config.eager_buffers as usize * config.eager_buffer_size as usize)?;
        let (number, first_entry) = lock(&inner.pool).take_recv(config.eager_buffers)?;
        // From here on, dropping it gives everything back.
        let mut context = Self {
            inner: Arc::clone(inner),
            number: RcvCtxt(number),
            first_entry,
            config,
            vector: None,
            headers,
            eager,
            head: 0,
            seq: Rhf::FIRST_SEQ,
            eager_head: 0,
            told_eager_head: 0,
            passed: 0,
            unreleased: 0,
            counts: RecvCounts::default(),
            epoch,
            moderator: Moderator::new(Moderation::default()),
            armed_at: 0,
        };
        if config.interrupts {
            let vector = lock(&inner.pool).take_vector()?;
            context.vector = Some(vector);
            inner.route(context.source(), vector)?;
        }
        context.fill_rcv_array()?;
        context.enable()?;
        Ok(context)
    }

    fn index(&self) -> u32 {
        self.number.0.into()
    }

    fn source(&self) -> Source {
        Source::rcv_avail(self.number)
    }

    /// `init.c:hfi1_setup_eagerbufs`.
    fn fill_rcv_array(&self) -> Result<(), ContextError> {
        let size = self.config.eager_buffer_size;
        for buffer in 0..self.config.eager_buffers {
            let addr = self.eager.iova(buffer as usize * size as usize);
            let Some(entry) = RcvArrayEntry::new(addr, size) else {
                let adapter = self.inner.adapter();
                let rule = "a page-aligned address of at most 48 bits: the bus mapped the eager buffers wrongly";
                return Err(ContextError::BadParameter { adapter, parameter: "I/O address", value: addr.0, rule });
            };
            self.inner.regs.write_at(&csr::RCV_ARRAY, self.first_entry + buffer, entry.0);
        }
        Ok(())
    }

    /// `file_ops.c:user_init`, `chip.c:set_hdrq_regs, hfi1_rcvctrl`. Packets are dropped when a queue is full, as for any
    /// user context: a stalled one would hold up all others.
    fn enable(&self) -> Result<(), ContextError> {
        use csr::{RCV_CTXT_CTRL as ctrl, RCV_EGR_CTRL as egr, RCV_KEY_CTRL as key};
        let (regs, n) = (&self.inner.regs, self.index());
        let config = &self.config;
        regs.write_at(&csr::RCV_HDR_CNT, n, csr::RCV_HDR_CNT::CNT.put((config.header_entries / 32).into()));
        regs.write_at(&csr::RCV_HDR_ENT_SIZE, n, csr::RCV_HDR_ENT_SIZE::ENT_SIZE.put(ENTRY_CODE));
        regs.write_at(&csr::RCV_HDR_SIZE, n, csr::RCV_HDR_SIZE::HDR_SIZE.put(KDETH_DWORDS));
        regs.write_at(&csr::RCV_HDR_TAIL_ADDR, n, self.inner.dummy_tail.iova(0).0);
        regs.write_at(&csr::RCV_KEY_CTRL, n, key::JOB_KEY_ENABLE.mask() | u64::from(config.job_key.0));
        for flow in 0..csr::RCV_TID_FLOW_TABLE.len {
            regs.write_off(csr::RCV_TID_FLOW_TABLE.element(n, flow), 0);
        }
        let old = regs.read_at(&csr::RCV_CTXT_CTRL, n)?;
        regs.write_at(&csr::RCV_HDR_ADDR, n, self.headers.iova(0).0);
        regs.write_at(&csr::RCV_HDR_HEAD, n, 0);
        regs.write_at(&csr::RCV_EGR_INDEX_HEAD, n, 0);
        let eager = egr::EGR_CNT.put((config.eager_buffers / 8).into())
            | egr::EGR_BASE_INDEX.put((self.first_entry / 8).into());
        regs.write_at(&csr::RCV_EGR_CTRL, n, eager);
        // No entries for expected packets.
        regs.write_at(&csr::RCV_TID_CTRL, n, 0);
        let cleared = ctrl::EGR_BUF_SIZE.mask()
            | ctrl::ONE_PACKET_PER_EGR_BUFFER.mask()
            | ctrl::DONT_DROP_EGR_FULL.mask()
            | ctrl::DONT_DROP_RHQ_FULL.mask()
            | ctrl::TID_FLOW_ENABLE.mask()
            | ctrl::TAIL_UPD.mask()
            | ctrl::INTR_AVAIL.mask();
        let size_code = u64::from(config.eager_buffer_size.ilog2()) - 11;
        let interrupts = if self.vector.is_some() { ctrl::INTR_AVAIL.mask() } else { 0 };
        let new = old & !cleared | ctrl::EGR_BUF_SIZE.put(size_code) | interrupts | ctrl::ENABLE.mask();
        regs.write_at(&csr::RCV_CTXT_CTRL, n, new);
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

    /// Whether a freeze has stopped it.
    #[inline]
    pub fn needs_recovery(&self) -> bool {
        self.epoch != self.inner.frozen.epoch()
    }

    /// Starts it anew after a freeze: what wasn't polled before is lost.
    ///
    /// # Errors
    /// While the chip is frozen, or when it doesn't enable the context.
    pub fn recover(&mut self) -> Result<(), ContextError> {
        if !self.needs_recovery() {
            return Ok(());
        }
        let epoch = self.inner.running_epoch()?;
        for entry in 0..self.config.header_entries as usize {
            self.headers.write_u64(entry * ENTRY_BYTES + RHF_OFFSET, 0);
        }
        (self.head, self.seq, self.eager_head, self.told_eager_head) = (0, Rhf::FIRST_SEQ, 0, 0);
        (self.passed, self.unreleased) = (0, 0);
        self.enable()?;
        self.epoch = epoch;
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
        (&self.headers, &self.eager)
    }

    /// The RHF of the next entry, when the chip has written it.
    #[inline]
    fn next_rhf(&self) -> Option<Rhf> {
        // This read makes the entry's header, which was written before, visible to later reads.
        let rhf = Rhf(self.headers.read_u64(self.head as usize * ENTRY_BYTES + RHF_OFFSET));
        (rhf.seq() == self.seq).then_some(rhf)
    }

    /// Takes the next packet, if there is one. Entries that make no sense are counted and skipped.
    pub fn poll(&mut self) -> Option<Received> {
        // However fast the chip writes nonsense, this ends.
        for _ in 0..self.config.header_entries {
            let rhf = self.next_rhf()?;
            let entry = self.head as usize * ENTRY_BYTES;
            self.head = if self.head + 1 == self.config.header_entries { 0 } else { self.head + 1 };
            self.seq = Rhf::next_seq(self.seq);
            self.passed += 1;
            match self.take(rhf, entry) {
                Ok(received) => {
                    self.counts.packets += 1;
                    self.counts.errors += u64::from(received.errors() != 0);
                    self.unreleased += 1;
                    return Some(received);
                }
                Err(Skip::Bad) => self.counts.bad_entries += 1,
                Err(Skip::NotKdeth) => self.counts.not_kdeth += 1,
            }
            if self.unreleased == 0 {
                self.release();
            }
        }
        None
    }

    /// Checks everything that the RHF says before it is used.
    fn take(&mut self, rhf: Rhf, entry: usize) -> Result<Received, Skip> {
        if !matches!(rhf.kind(), RcvType::Eager | RcvType::Expected) {
            self.note_eager(rhf);
            return Err(Skip::NotKdeth);
        }
        let offset = rhf.header_offset().0 as usize * 4;
        if offset + OPX_HEADER_BYTES > RHF_OFFSET {
            return Err(Skip::Bad);
        }
        let overhead = OPX_HEADER_BYTES as u32 + ICRC_BYTES;
        let Some(payload) = rhf.length().bytes().checked_sub(overhead) else { return Err(Skip::Bad) };
        let mut payload_len = payload as usize;
        let mut payload_offset = 0;
        if rhf.uses_eager() {
            let size = self.config.eager_buffer_size as usize;
            let in_buffer = usize::from(rhf.eager_offset()) * EAGER_UNIT;
            if u32::from(rhf.eager_index()) >= self.config.eager_buffers || in_buffer + payload_len > size {
                return Err(Skip::Bad);
            }
            self.eager_head = rhf.eager_index();
            payload_offset = usize::from(rhf.eager_index()) * size + in_buffer;
        } else if rhf.kind() == RcvType::Eager && payload_len > 0 && rhf.errors() == 0 {
            return Err(Skip::Bad);
        } else {
            // The payload isn't here: it is broken, or lies where an expected packet's TID said.
            payload_len = 0;
        }
        let mut header = [0; OPX_HEADER_BYTES];
        self.headers.read(entry + offset, &mut header);
        Ok(Received { rhf, header, payload_offset, payload_len })
    }

    /// A packet that isn't given out may have filled an eager buffer all the same.
    fn note_eager(&mut self, rhf: Rhf) {
        if rhf.uses_eager() && u32::from(rhf.eager_index()) < self.config.eager_buffers {
            self.eager_head = rhf.eager_index();
        }
    }

    /// Copies a packet's payload, as much as there is and fits; the result is how much.
    pub fn copy_payload(&self, received: &Received, to: &mut [u8]) -> usize {
        let len = received.payload_len.min(to.len());
        // A packet of another context could point past this one's buffers.
        match received.payload_offset.checked_add(len) {
            Some(end) if end <= self.eager.len() => self.eager.read(received.payload_offset, &mut to[..len]),
            _ => return 0,
        }
        len
    }

    /// All packets taken so far have been used up: what they lie in may be filled again. The chip is told once in a
    /// while.
    pub fn release(&mut self) {
        self.unreleased = 0;
        if self.passed >= self.config.head_batch {
            self.update_heads();
        }
    }

    /// As [`RecvContext::release`], and tells the chip now.
    pub fn release_now(&mut self) {
        self.unreleased = 0;
        if self.passed > 0 {
            self.update_heads();
        }
    }

    /// `chip.c:update_usrhead`.
    fn update_heads(&mut self) {
        let (regs, n) = (&self.inner.regs, self.index());
        if self.eager_head != self.told_eager_head {
            // All buffers before this one are free.
            regs.write_at(&csr::RCV_EGR_INDEX_HEAD, n, self.eager_head.into());
            self.told_eager_head = self.eager_head;
        }
        let head = csr::RCV_HDR_HEAD::HEAD.put((self.head * ENTRY_DWORDS).into());
        regs.write_at(&csr::RCV_HDR_HEAD, n, self.moderator.count() | head);
        self.passed = 0;
        self.counts.head_updates += 1;
    }

    /// Changes when packets raise the interrupt, from the next [`RecvContext::arm`] on.
    pub fn set_moderation(&mut self, moderation: Moderation) {
        self.moderator = Moderator::new(moderation);
        self.inner.regs.write_at(&csr::RCV_AVAIL_TIME_OUT, self.index(), self.moderator.timeout());
    }

    /// The interrupt that packets raise, when the context was made with one.
    pub fn irq(&self) -> Option<&Irq> {
        self.vector.and_then(|vector| self.inner.irqs.get(usize::from(vector)))
    }

    /// Prepares to sleep on [`RecvContext::irq`]: `true` when a packet is there already, so don't. When it isn't, any
    /// packet from now on raises the interrupt. Releases what was taken.
    ///
    /// # Errors
    /// When the adapter is gone.
    pub fn arm(&mut self) -> Result<bool, Gone> {
        let (regs, n) = (&self.inner.regs, self.index());
        // chip.c:__hfi1_rcd_eoi_intr: clear first, then look, so that a packet between the two is seen by the look and
        // one after it raises the interrupt anew. The read makes sure that the clear arrived.
        regs.write_at(&csr::CCE_INT_CLEAR, self.source().word(), self.source().bit());
        regs.read_any(&csr::CCE_INT_CLEAR, self.source().word())?;
        if self.next_rhf().is_some() {
            return Ok(true);
        }
        // chip.c:update_usrhead: the time first, so that it counts when the head starts it.
        let taken = self.counts.packets - self.armed_at;
        self.armed_at = self.counts.packets;
        if taken > 0
            && let Some(timeout) = self.moderator.adjust(taken)
        {
            self.inner.regs.write_at(&csr::RCV_AVAIL_TIME_OUT, n, timeout);
        }
        // Writing the head starts the interrupt's count of packets and time anew.
        self.unreleased = 0;
        let (regs_tail, head) = (regs.read_at(&csr::RCV_HDR_TAIL, n)?, u64::from(self.head * ENTRY_DWORDS));
        self.update_heads();
        // The chip counts a packet before its entry is in memory.
        Ok(regs_tail != head || self.next_rhf().is_some())
    }
}

impl<B: PciFunction> Drop for RecvContext<B> {
    /// `file_ops.c:hfi1_file_close`, `chip.c:hfi1_rcvctrl` for HFI1_RCVCTRL_CTXT_DIS.
    fn drop(&mut self) {
        use csr::RCV_CTXT_CTRL as ctrl;
        let (inner, n) = (&self.inner, self.index());
        let regs = &inner.regs;
        if let Ok(old) = regs.read_at(&csr::RCV_CTXT_CTRL, n) {
            let dummy = inner.dummy_tail.iova(0).0;
            // The chip may write the tail while it disables the context: to a place that stays.
            regs.write_at(&csr::RCV_HDR_TAIL_ADDR, n, dummy);
            let cleared = ctrl::ENABLE.mask() | ctrl::INTR_AVAIL.mask() | ctrl::TID_FLOW_ENABLE.mask();
            regs.write_at(&csr::RCV_CTXT_CTRL, n, old & !cleared | ctrl::TAIL_UPD.mask());
            // The read makes sure that it arrived; then what is underway needs a moment.
            let _ = regs.read_at(&csr::RCV_CTXT_CTRL, n);
            regs.pause(SETTLE);
            regs.write_at(&csr::RCV_HDR_TAIL_ADDR, n, dummy);
            regs.write_at(&csr::RCV_KEY_CTRL, n, 0);
            for entry in self.first_entry..self.first_entry + self.config.eager_buffers {
                regs.write_at(&csr::RCV_ARRAY, entry, RcvArrayEntry::INVALID.0);
            }
            regs.write_at(&csr::RCV_HDR_ADDR, n, 0);
            let _ = regs.read_at(&csr::RCV_CTXT_CTRL, n);
        }
        if let Some(vector) = self.vector {
            inner.unroute(self.source());
            lock(&inner.pool).give_back_vector(vector);
        }
        lock(&inner.pool).give_back_recv(self.number.0, self.first_entry);
    }
}
