//! What the model counts: packets, and every drop by its reason.

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The link is down.
    LinkDown,
    /// The port's state doesn't let this lane's packets through.
    PortState,
    /// The destination isn't this port.
    ForeignDlid,
    /// LRH's length isn't the packet's, or it is too short for its headers.
    BadLength,
    /// The ICRC is wrong.
    BadIcrc,
    /// An egress check refused it.
    EgressCheck,
    /// The receive engine is off.
    ReceiverOff,
    /// No receive context takes it.
    NoContext,
    /// The partition key isn't in the table.
    PartitionKey,
    /// The job key isn't the context's.
    JobKey,
    /// The context's header queue is full.
    HeaderQueueFull,
    /// The context has no eager buffer left.
    EagerFull,
    /// A TID or flow check refused it.
    Expected,
    /// Host memory could not be reached.
    DmaFault,
    /// The packet is of a kind that isn't modelled.
    Unmodelled,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 15] = [
        Self::LinkDown,
        Self::PortState,
        Self::ForeignDlid,
        Self::BadLength,
        Self::BadIcrc,
        Self::EgressCheck,
        Self::ReceiverOff,
        Self::NoContext,
        Self::PartitionKey,
        Self::JobKey,
        Self::HeaderQueueFull,
        Self::EagerFull,
        Self::Expected,
        Self::DmaFault,
        Self::Unmodelled,
    ];
}

/// Counts of one adapter since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Packets put on the wire.
    pub packets_sent: u64,
    /// Bytes of them, LRH to ICRC.
    pub bytes_sent: u64,
    /// Packets of them that SDMA engines fetched; the rest came by PIO.
    pub sdma_packets: u64,
    /// Packets that came off the wire, after the faults that were asked for.
    pub packets_received: u64,
    /// Bytes of them.
    pub bytes_received: u64,
    /// Packets of them whose payload was placed by TID.
    pub expected_packets: u64,
    /// Packets of them that a flow had the right number for.
    pub flow_packets: u64,
    /// Packets of them whose header was suppressed.
    pub headers_suppressed: u64,
    /// Packets stored by PIO that left their context, or what software knows of it, no credit for another of their length.
    pub credit_short: u64,
    /// Times the link was full and a packet had to wait.
    pub link_full: u64,
    /// Accesses to host memory that failed.
    pub dma_faults: u64,
    /// MSI-X messages sent.
    pub interrupts: u64,
    /// Function-level resets.
    pub resets: u64,
    /// Drops, in the order of [`DropReason::ALL`].
    pub drops: [u64; DropReason::ALL.len()],
}

impl Counts {
    /// Drops for one reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or(0)
    }

    /// All drops.
    pub fn total_dropped(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Counts a drop.
    pub(crate) fn drop(&mut self, reason: DropReason) {
        if let Some(count) = self.drops.get_mut(reason as usize) {
            *count += 1;
        }
    }
}
