//! The queue: packets in, descriptors out, and each packet's token back when the engine is done with its memory.

use crate::error::SdmaError;
use crate::fragment::Fragment;
use crate::header::{HeaderEntry, HeaderStore};
use crate::packet::{Header, Packet};
use crate::ring::Ring;
use opx_bus::PciFunction;
use opx_defs::sdma::SdmaDesc;
use opx_defs::time::Instant;
use opx_hw::{RingWriter, SdmaEngine};
use std::collections::VecDeque;
use std::time::Duration;

/// How long an engine may do nothing, unless told otherwise. Linux takes one that made no progress within 10 ticks for halted
/// (`sdma.c:sdma_err_progress_check`), but looks only after another one has failed; an adapter whose thread isn't running just
/// now takes longer than that.
const STALL_LIMIT: Duration = Duration::from_millis(500);
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
    /// By slot: the token of what begins there, and how many slots that has.
    pub(crate) tokens: Box<[Option<(T, u32)>]>,
    /// Count of slots whose tokens were given back.
    pub(crate) taken: u64,
    /// Packets that ended, in all.
    pub(crate) done: u64,
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
        let tokens = (0..engine.entries()).map(|_| None).collect();
        Self {
            engine,
            ring,
            tokens,
            taken: 0,
            done: 0,
            ended: VecDeque::new(),
            headers: HeaderStore::default(),
            rung: 0,
            running: true,
            progress: None,
            stall_limit: STALL_LIMIT,
            counters: SdmaCounters::default(),
        }
    }

    /// Free descriptor slots. Those of a packet are free once [`SdmaQueue::poll`] has given its token back.
    #[inline]
    pub fn free(&self) -> u32 {
        self.ring.free_from(self.taken)
    }

    /// Packets that haven't completed.
    #[inline]
    pub fn pending(&self) -> usize {
        self.counters.packets.wrapping_sub(self.done) as usize
    }

    /// The ring's slots that are filled and taken back next: its tail and its head, as far as that is known.
    pub fn positions(&self) -> (u32, u32) {
        (self.ring.slot(self.ring.tail()), self.ring.slot(self.ring.head()))
    }

    /// The engine.
    pub fn engine(&self) -> &SdmaEngine<B> {
        &self.engine
    }

    /// What was done so far.
    pub fn counters(&self) -> SdmaCounters {
        // Those of the ring as it is now aren't added yet.
        SdmaCounters { descriptors: self.counters.descriptors.wrapping_add(self.ring.tail()), ..self.counters }
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
        let headers = &mut self.headers;
        let stored = |entry: &HeaderEntry| headers.owns(entry).then(|| headers.dwords(entry));
        if let Some(why) = packet.problem(stored) {
            return Err((self.bad_packet(why), token));
        }
        let needed = packet.slots();
        let mut ring = self.ring;
        if ring.free_from(self.taken) < needed || !self.running {
            return Err((self.no_room(needed), token));
        }
        write(&mut ring, self.engine.writer(), headers, packet, true);
        self.commit(ring, token);
        self.counters.packets = self.counters.packets.wrapping_add(1);
        Ok(())
    }

    /// Queues a run of packets with one token, all of them or none: the token comes back when the last is done. The engine
    /// tells its head only then, so this costs least for long messages. A packet of the run may store the header for those
    /// that follow it.
    ///
    /// # Errors
    /// See [`SdmaError`]; the token is given back with it. A run that needs more than the whole ring never fits. When the
    /// engine is stopped in between, the run has failed, though some of its packets may have left.
    #[inline]
    pub fn submit_run<'a>(
        &mut self,
        packets: impl IntoIterator<Item = Packet<'a>>,
        token: T,
    ) -> Result<(), (SdmaError, T)> {
        if !self.running {
            return Err((self.no_room(0), token));
        }
        let (taken, writer) = (self.taken, self.engine.writer());
        let headers = &mut self.headers;
        // A copy: it counts only when the whole run is in.
        let mut ring = self.ring;
        let mut count = 0u64;
        let (mut last, mut desc, mut storing) = (u32::MAX, SdmaDesc::default(), 0);
        for packet in packets {
            let stored = |entry: &HeaderEntry| headers.owns(entry).then(|| headers.dwords(entry));
            let problem = packet.problem(stored);
            let needed = packet.slots();
            if problem.is_some() || ring.free_from(taken) < needed {
                let written = ring.tail().wrapping_sub(self.ring.tail()) as u32;
                return Err((self.take_back(written.saturating_add(needed), problem, storing), token));
            }
            if let Header::Stored(entry) = packet.header {
                storing |= 1 << entry.index();
            }
            (last, desc) = write(&mut ring, writer, headers, packet, false);
            count = count.wrapping_add(1);
        }
        if count == 0 {
            return Err((self.bad_packet("a run has at least one packet"), token));
        }
        // The engine hasn't been told of the slot, so it may still be written twice.
        writer.write(last, desc.head_to_host());
        self.commit(ring, token);
        self.counters.packets = self.counters.packets.wrapping_add(count);
        // All but the last have no token of their own.
        self.done = self.done.wrapping_add(count.wrapping_sub(1));
        Ok(())
    }

    /// A run doesn't get in: what was written of it is forgotten. `storing` has a bit for each entry that it stores into.
    #[cold]
    fn take_back(&mut self, needed: u32, problem: Option<&'static str>, storing: u32) -> SdmaError {
        self.headers.unstore(storing);
        match problem {
            Some(why) => self.bad_packet(why),
            None => self.no_room(needed),
        }
    }

    /// What was written into `ring`, a copy of the queue's, counts: one token for all of it.
    #[inline]
    fn commit(&mut self, ring: Ring, token: T) {
        let slots = ring.tail().wrapping_sub(self.ring.tail()) as u32;
        if let Some(place) = self.tokens.get_mut(self.ring.slot(self.ring.tail()) as usize) {
            *place = Some((token, slots));
        }
        self.ring = ring;
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
        SdmaError::RingFull { engine, needed, free: self.free() }
    }

    /// Tells the engine of all packets queued since the last call, by one register write.
    #[inline]
    pub fn doorbell(&mut self) {
        // An engine that a freeze has stopped must not start on what is left of its ring.
        if self.rung != self.ring.tail() && !self.engine.is_stale() {
            self.rung = self.ring.tail();
            self.engine.ring_doorbell(self.ring.slot(self.rung));
            self.counters.doorbells += 1;
        }
    }

    /// The next packet that is done, in the order they were queued.
    #[inline]
    pub fn poll(&mut self) -> Option<(T, Outcome)> {
        if !self.ended.is_empty() {
            return self.ended.pop_front();
        }
        if let Some(token) = self.take() {
            return Some((token, Outcome::Sent));
        }
        if self.taken == self.ring.tail() {
            return None;
        }
        let head = self.engine.head_from_memory();
        // After a freeze the engine is at 0 again, which says nothing of the packets: `stop` ends them. Asked after the head
        // was read, because the freeze is known of before the chip is let out of it.
        if self.engine.is_stale() {
            return None;
        }
        if !self.ring.advance(head) {
            self.bad_head();
        }
        self.take().map(|token| (token, Outcome::Sent))
    }

    /// The token of what comes next, if that is known to be done.
    #[inline]
    fn take(&mut self) -> Option<T> {
        let end = self.end_of_oldest().filter(|end| *end <= self.ring.head())?;
        self.take_until(end)
    }

    /// The next token, whose slots end at the count `end`.
    #[inline]
    pub(crate) fn take_until(&mut self, end: u64) -> Option<T> {
        let (token, _) = self.tokens.get_mut(self.ring.slot(self.taken) as usize)?.take()?;
        self.taken = end;
        self.done = self.done.wrapping_add(1);
        Some(token)
    }

    /// The count of slots after the oldest packet or run that isn't given back.
    #[inline]
    pub(crate) fn end_of_oldest(&self) -> Option<u64> {
        let (_, slots) = self.tokens.get(self.ring.slot(self.taken) as usize)?.as_ref()?;
        Some(self.taken.wrapping_add((*slots).into()))
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

/// Writes a packet's descriptors, for which there is room; the slot of the last one, and what is in it. `tell`: the head
/// goes to memory after it.
#[inline(always)]
fn write(
    ring: &mut Ring,
    writer: RingWriter<'_>,
    headers: &mut HeaderStore,
    packet: Packet<'_>,
    tell: bool,
) -> (u32, SdmaDesc) {
    let mut flags = match packet.header {
        Header::Fragments => SdmaDesc::default().first(),
        header => begin(ring, writer, headers, header, packet.fragments),
    };
    let mut last = SdmaDesc::default().last();
    if tell {
        last = last.head_to_host();
    }
    if packet.interrupt {
        last = last.interrupt();
    }
    let Some((end, others)) = packet.fragments.split_last() else { return (u32::MAX, last) };
    for fragment in others {
        push(ring, writer, SdmaDesc::new(fragment.iova(), fragment.len()) | flags);
        flags = SdmaDesc::default();
    }
    push(ring, writer, SdmaDesc::new(end.iova(), end.len()) | flags | last)
}

/// What a stored header needs; gives the flags that the first fragment carries.
#[inline]
fn begin(
    ring: &mut Ring,
    writer: RingWriter<'_>,
    headers: &mut HeaderStore,
    header: Header<'_>,
    fragments: &[Fragment],
) -> SdmaDesc {
    match header {
        Header::Fragments => SdmaDesc::default().first(),
        Header::Stored(entry) => {
            let dwords = fragments.first().map_or(0, |first| first.len() / 4);
            headers.store(entry, dwords as u8);
            SdmaDesc::default().first().store_header(entry.index())
        }
        Header::Edited(entry, edits) => {
            push(ring, writer, SdmaDesc::stored_header(entry.index(), headers.dwords(entry), edits));
            for chunk in edits.get(1..).unwrap_or_default().chunks(EDITS_A_SLOT) {
                // These slots have no generation (`sdma.c:submit_tx`).
                let (slot, _) = ring.push();
                writer.write(slot, SdmaDesc::edits(chunk));
            }
            SdmaDesc::default()
        }
    }
}

#[inline(always)]
fn push(ring: &mut Ring, writer: RingWriter<'_>, desc: SdmaDesc) -> (u32, SdmaDesc) {
    let (slot, generation) = ring.push();
    let desc = desc.generation(generation);
    writer.write(slot, desc);
    (slot, desc)
}
