//! How a receive context is set up, and which of that the chip can do.

use crate::error::ContextError;
use crate::hfi::Inner;
use opx_bus::PciFunction;
use opx_defs::chip;
use opx_defs::units::JobKey;
use opx_defs::wire::rhf::Rhf;

/// Size of a header queue entry. The last 8 bytes are the flags (RHF); the header lies right before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EntrySize {
    /// 64 bytes: room for the 56 bytes of LRH, BTH and KDETH, and nothing more. Each packet is looked at more closely, since
    /// its flags don't tell whether a header with a GRH was cut short, and takes some more instructions.
    Bytes64,
    /// 128 bytes: room for every header.
    #[default]
    Bytes128,
}

impl EntrySize {
    /// Bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Bytes64 => 64,
            Self::Bytes128 => 128,
        }
    }

    /// The chip's code (`chip.c:encode_rcv_header_entry_size`). It also knows entries of 2 dwords, which hold no header.
    pub(crate) const fn code(self) -> u64 {
        match self {
            Self::Bytes64 => 2,
            Self::Bytes128 => 4,
        }
    }
}

/// How a new entry of the header queue is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detect {
    /// By the sequence number in the entry itself (`driver.c:handle_receive_interrupt_nodma_rtail`).
    #[default]
    Sequence,
    /// By the queue's tail, which the chip writes to memory as well (`driver.c:handle_receive_interrupt_dma_rtail`). The
    /// sequence number must fit, too: an entry that is later than its tail isn't taken for a packet.
    Tail,
}

/// How a receive context is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecvConfig {
    /// Entries of the header queue: a multiple of 32, 64 to 16352, and no multiple of 13: there are 13 sequence numbers, and
    /// an old entry would look like a new one.
    pub header_entries: u32,
    /// Size of an entry.
    pub header_entry: EntrySize,
    /// How a new entry is noticed.
    pub detect: Detect,
    /// Eager buffers: a multiple of 8, 8 to 2048, together at most 64 MiB.
    pub eager_buffers: u32,
    /// Bytes of an eager buffer: a power of two, 4 KiB to 256 KiB, and no less than the MTU. The chip has no code for less
    /// than 4 KiB (`chip.c:encoded_size`, `chip.h:MIN_EAGER_BUFFER`).
    pub eager_buffer_size: u32,
    /// Eager buffers, at most 64 MiB of them, that take the place of those that are lent ([`super::RecvContext::lend`]): so
    /// many can be held. 0 when nothing is to be lent.
    pub spare_buffers: u32,
    /// Each packet gets an eager buffer of its own. Otherwise they lie one behind the other, as many as fit.
    pub one_packet_per_buffer: bool,
    /// Packets for which there is no room wait, and hold up those of all other contexts. Otherwise they are dropped.
    pub wait_when_full: bool,
    /// RcvArray entries for expected packets: a multiple of 8, at most 2048; 0 for none.
    pub expected_entries: u32,
    /// Most bytes that stay behind those entries, those in use and those kept for the next time.
    pub expected_bytes: u64,
    /// RcvArray entries for transfers of expected packets that don't count in flows ([`crate::RecvContext::expect_transfer`]): a
    /// multiple of 8, with `expected_entries` at most 2048; 0 for none.
    pub transfer_entries: u32,
    /// Whether expected packets go through the table of flows.
    pub flows: bool,
    /// Packets must carry this job key.
    pub job_key: JobKey,
    /// Whether packets raise an interrupt, so that one can sleep until they come.
    pub interrupts: bool,
    /// The chip is told what is free again after so many packets, or sooner when they fill half of the eager buffers.
    pub head_batch: u32,
}

impl Default for RecvConfig {
    fn default() -> Self {
        Self {
            header_entries: 2048,
            header_entry: EntrySize::Bytes128,
            detect: Detect::Sequence,
            eager_buffers: 32,
            eager_buffer_size: 256 << 10,
            spare_buffers: 0,
            one_packet_per_buffer: false,
            wait_when_full: false,
            expected_entries: 0,
            expected_bytes: 64 << 20,
            transfer_entries: 0,
            flows: false,
            job_key: JobKey(1),
            interrupts: false,
            head_batch: 16,
        }
    }
}

impl RecvConfig {
    /// Packets after which the chip is told what is free: before they can fill the eager buffers, because the chip drops or
    /// stalls what comes then, and nothing would come any more that makes us tell it.
    pub(crate) fn heads_every(&self, mtu: u32) -> u32 {
        // With its ICRC, in steps of 64 bytes.
        let largest = mtu.saturating_add(64);
        let in_buffer = if self.one_packet_per_buffer { 1 } else { (self.eager_buffer_size / largest).max(1) };
        self.head_batch.min(self.eager_buffers / 2 * in_buffer)
    }

    /// RcvArray entries that TIDs name.
    pub(super) fn tid_entries(&self) -> u32 {
        self.expected_entries + self.transfer_entries
    }

    pub(crate) fn check<B: PciFunction>(&self, inner: &Inner<B>) -> Result<(), ContextError> {
        let bad = |parameter, value: u64, rule| {
            Err(ContextError::BadParameter { adapter: inner.adapter(), parameter, value, rule })
        };
        let (least, most) = (chip::HFI1_MIN_HDRQ_EGRBUF_CNT as u32, chip::HFI1_MAX_HDRQ_EGRBUF_CNT as u32);
        if self.header_entries <= least || self.header_entries > most || !self.header_entries.is_multiple_of(32) {
            return bad("header_entries", self.header_entries.into(), "a multiple of 32 from 64 to 16352");
        }
        if self.header_entries.is_multiple_of(u32::from(Rhf::LAST_SEQ)) {
            return bad("header_entries", self.header_entries.into(), "no multiple of 13");
        }
        if self.eager_buffers == 0
            || u64::from(self.eager_buffers) > chip::MAX_EAGER_ENTRIES
            || !self.eager_buffers.is_multiple_of(8)
        {
            return bad("eager_buffers", self.eager_buffers.into(), "a multiple of 8 from 8 to 2048");
        }
        let size = u64::from(self.eager_buffer_size);
        if !size.is_power_of_two() || !(chip::MIN_EAGER_BUFFER..=chip::MAX_EAGER_BUFFER).contains(&size) {
            return bad("eager_buffer_size", size, "a power of two from 4096 to 262144");
        }
        // init.c:hfi1_setup_eagerbufs: a packet never spans two buffers.
        if self.eager_buffer_size < inner.options.mtu {
            return bad("eager_buffer_size", size, "no less than the MTU");
        }
        if size * u64::from(self.eager_buffers) > chip::MAX_EAGER_BUFFER_TOTAL {
            let rule = "so many that all buffers together have at most 64 MiB";
            return bad("eager_buffers", self.eager_buffers.into(), rule);
        }
        if size * u64::from(self.spare_buffers) > chip::MAX_EAGER_BUFFER_TOTAL {
            let rule = "so many that all of them together have at most 64 MiB";
            return bad("spare_buffers", self.spare_buffers.into(), rule);
        }
        if u64::from(self.expected_entries) > 2 * chip::MAX_TID_PAIR_ENTRIES || !self.expected_entries.is_multiple_of(8)
        {
            return bad("expected_entries", self.expected_entries.into(), "a multiple of 8 up to 2048");
        }
        let all = u64::from(self.expected_entries) + u64::from(self.transfer_entries);
        if all > 2 * chip::MAX_TID_PAIR_ENTRIES || !self.transfer_entries.is_multiple_of(8) {
            return bad(
                "transfer_entries",
                self.transfer_entries.into(),
                "a multiple of 8 up to 2048, expected ones included",
            );
        }
        if self.head_batch == 0 || self.head_batch > self.header_entries / 2 {
            return bad("head_batch", self.head_batch.into(), "from 1 to half of header_entries");
        }
        Ok(())
    }
}
