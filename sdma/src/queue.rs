//! The queue: packets in, descriptors out, and each packet's token back when the engine is done with its memory.

use crate::error::SdmaError;
use crate::fragment::Fragment;
use crate::header::{HeaderEntry, HeaderStore};
use crate::packet::{Header, Packet};
use crate::ring::Ring;
use opx_bus::PciFunction;
use opx_defs::sdma::{HeaderEdit, SdmaDesc};
use opx_defs::time::Instant;
use opx_hw::SdmaEngine;
use std::collections::VecDeque;
use std::time::Duration;

/// How long an engine may do nothing, unless told otherwise.
const STALL_LIMIT: Duration = Duration::from_secs(2);
/// Edits that one slot of the ring holds.
const EDITS_A_SLOT: usize = 4;

/// How a packet ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The engine has fetched all of it and sent it; its memory may be reused.
    Sent,
    /// The engine was stopped first: it may have been sent or not. Its memory may be reused.
    Failed,
}

/// What a queue has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SdmaCounters {
    /// Packets queued.
    pub packets: u64,
    /// Descriptors written, slots with header edits included.
    pub descriptors: u64,
    /// Tail writes.
    pub doorbells: u64,
    /// Times that a packet didn't fit.
    pub ring_full: u64,
    /// Heads that can't be right, and were ignored.
    pub bad_heads: u64,
    /// Packets that failed.
    pub failed: u64,
    /// Restarts after a halt.
    pub restarts: u64,
    /// Sleeps on the interrupt.
    pub sleeps: u64,
}

/// Sends packets through one SDMA engine. `T` is the caller's token for a packet: each comes back exactly once.
///
/// ```
/// # use opx_bus::PciFunction;
/// # use opx_defs::{units::Vl, wire::opx::Inject};
/// # use opx_emu::{Config, Icode, Lab, Pacing};
/// # use opx_hw::{Hfi, LinkMode, Options};
/// # use opx_sdma::{Fragment, Outcome, SdmaQueue};
/// # use std::time::Duration;
/// # let lab = Lab::new(Pacing::Virtual);
/// # let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
/// let hfi = Hfi::open(adapter.bus(), Options::default())?;
/// hfi.link_up(LinkMode::Loopback)?;
/// let mut queue = SdmaQueue::<_, u32>::new(hfi.sdma_engine(256)?);
///
/// // A packet: PBC and header, here of an OPX message to receive context 1.
/// let memory = hfi.bus().dma_alloc(4096)?;
/// let header = Inject { tag: Some(1), cq_data: None, data: b"hello" }.encode(&hfi.route(1, hfi.lid(), 1))?;
/// memory.write(0, &header.pbc(Vl(0)).0.to_le_bytes());
/// memory.write(8, header.as_bytes());
/// let whole = Fragment::of(&memory, 0..64).ok_or("not in the block")?;
///
/// queue.submit(&[whole], 7).map_err(|(error, _)| error)?;
/// queue.doorbell();
/// assert!(queue.wait(Duration::from_secs(1))?);
/// assert_eq!(queue.poll(), Some((7, Outcome::Sent)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SdmaQueue<B: PciFunction, T> {
    pub(crate) engine: SdmaEngine<B>,
    pub(crate) ring: Ring,
    /// Packets that the engine isn't done with: the tail count after each, and its token.
    pub(crate) pending: VecDeque<(u64, T)>,
    /// Packets that were pending when the engine was stopped, with how they ended.
    pub(crate) ended: VecDeque<(T, Outcome)>,
    pub(crate) headers: HeaderStore,
    pub(crate) rung: u64,
    pub(crate) running: bool,
    /// The head when the queue was looked at last, and since when it has been that.
    pub(crate) progress: Option<(u64, Instant)>,
    pub(crate) stall_limit: Duration,
    pub(crate) counters: SdmaCounters,
}

impl<B: PciFunction, T> SdmaQueue<B, T> {
    /// A queue on a started, unused engine.
    pub fn new(engine: SdmaEngine<B>) -> Self {
        let ring = Ring::new(engine.entries());
        // A packet takes at least one slot, so the list never grows beyond the ring.
        let room = engine.entries() as usize;
        Self {
            engine,
            ring,
            pending: VecDeque::with_capacity(room),
            ended: VecDeque::new(),
            headers: HeaderStore::default(),
            rung: 0,
            running: true,
            progress: None,
            stall_limit: STALL_LIMIT,
            counters: SdmaCounters::default(),
        }
    }

    /// Free descriptor slots.
    #[inline]
    pub fn free(&self) -> u32 {
        self.ring.free()
    }

    /// Packets that haven't completed.
    #[inline]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The engine.
    pub fn engine(&self) -> &SdmaEngine<B> {
        &self.engine
    }

    /// What was done so far.
    pub fn counters(&self) -> &SdmaCounters {
        &self.counters
    }

    /// Takes one of the engine's 32 entries for a stored header; see [`Packet::storing`] and [`Packet::edited`]. Dropping it
    /// gives it back.
    ///
    /// # Errors
    /// [`SdmaError::NoHeaderEntry`] when all are taken.
    pub fn open_header(&mut self) -> Result<HeaderEntry, SdmaError> {
        self.headers.open().ok_or(SdmaError::NoHeaderEntry { engine: self.engine.number() })
    }

    /// Queues one packet, whole or not at all. The engine starts on it at the next [`SdmaQueue::doorbell`].
    ///
    /// # Errors
    /// See [`SdmaError`]; the token is given back with it.
    #[inline]
    pub fn submit<'a>(&mut self, packet: impl Into<Packet<'a>>, token: T) -> Result<(), (SdmaError, T)> {
        let packet = packet.into();
        let headers = &self.headers;
        let stored = |entry: &HeaderEntry| headers.owns(entry).then(|| headers.dwords(entry));
        if let Some(why) = packet.problem(stored) {
            return Err((self.bad_packet(why), token));
        }
        let needed = packet.slots();
        if self.ring.free() < needed || !self.running {
            return Err((self.no_room(needed), token));
        }
        self.write(&packet);
        self.pending.push_back((self.ring.tail(), token));
        self.counters.packets += 1;
        self.counters.descriptors += u64::from(needed);
        Ok(())
    }

    #[cold]
    fn bad_packet(&self, why: &'static str) -> SdmaError {
        SdmaError::BadPacket { engine: self.engine.number(), why }
    }

    #[cold]
    fn no_room(&mut self, needed: u32) -> SdmaError {
        let engine = self.engine.number();
        if !self.running {
            return SdmaError::Stopped { engine };
        }
        self.counters.ring_full += 1;
        SdmaError::RingFull { engine, needed, free: self.ring.free() }
    }

    /// Writes a packet's descriptors; there is room.
    #[inline]
    fn write(&mut self, packet: &Packet<'_>) {
        let mut first = match packet.header {
            Header::Fragments => SdmaDesc::default().first(),
            header => self.begin(header, packet.fragments),
        };
        let Some((last, others)) = packet.fragments.split_last() else { return };
        for fragment in others {
            let desc = first | SdmaDesc::new(fragment.iova(), fragment.len());
            first = SdmaDesc::default();
            self.push(desc);
        }
        let mut desc = first | SdmaDesc::new(last.iova(), last.len()).last().head_to_host();
        if packet.interrupt {
            desc = desc.interrupt();
        }
        self.push(desc);
    }

    /// What a stored header needs: the flags that the first fragment carries.
    #[inline(never)]
    fn begin(&mut self, header: Header<'_>, fragments: &[Fragment]) -> SdmaDesc {
        match header {
            Header::Fragments => SdmaDesc::default().first(),
            Header::Stored(entry) => {
                let dwords = fragments.first().map_or(0, |first| first.len() / 4);
                self.headers.store(entry, dwords as u8);
                SdmaDesc::default().first().store_header(entry.index())
            }
            Header::Edited(entry, edits) => {
                let dwords = self.headers.dwords(entry);
                self.push(SdmaDesc::stored_header(entry.index(), dwords, edits));
                let rest: &[HeaderEdit] = edits.get(1..).unwrap_or_default();
                for chunk in rest.chunks(EDITS_A_SLOT) {
                    // These slots have no generation (`sdma.c:submit_tx`).
                    let (slot, _) = self.ring.push();
                    self.engine.write_descriptor(slot, SdmaDesc::edits(chunk));
                }
                SdmaDesc::default()
            }
        }
    }

    #[inline]
    fn push(&mut self, desc: SdmaDesc) {
        let (slot, generation) = self.ring.push();
        self.engine.write_descriptor(slot, desc.generation(generation));
    }

    /// Tells the engine of all packets queued since the last call, by one register write.
    #[inline]
    pub fn doorbell(&mut self) {
        if self.rung != self.ring.tail() {
            self.rung = self.ring.tail();
            self.engine.ring_doorbell(self.ring.slot(self.rung));
            self.counters.doorbells += 1;
        }
    }

    /// The next packet that is done, in the order they were queued.
    #[inline]
    pub fn poll(&mut self) -> Option<(T, Outcome)> {
        if let Some(ended) = self.ended.pop_front() {
            return Some(ended);
        }
        let &(end, _) = self.pending.front()?;
        if self.ring.head() < end {
            if !self.ring.advance(self.engine.head_from_memory()) {
                self.bad_head();
            }
            if self.ring.head() < end {
                return None;
            }
        }
        self.pending.pop_front().map(|(_, token)| (token, Outcome::Sent))
    }

    /// Takes the head from the engine's register instead of from memory: for packets whose completion is overdue, since the
    /// head in memory may be late or lost. [`SdmaQueue::poll`] then gives what is done. Costs a register read.
    pub fn sync(&mut self) {
        let memory = self.engine.head_from_memory();
        if let Some(head) = self.engine.head_from_register() {
            self.take_register(head, memory);
        }
    }

    /// The head in memory can't be right: the register knows better (`sdma.c:sdma_gethead`).
    #[cold]
    fn bad_head(&mut self) {
        self.counters.bad_heads += 1;
        self.sync();
    }

    pub(crate) fn take_register(&mut self, head: u32, memory: u32) {
        if !self.ring.advance_by_register(head, memory) {
            self.counters.bad_heads += 1;
        }
    }
}
