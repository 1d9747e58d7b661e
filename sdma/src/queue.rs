//! The queue: packets in, descriptors out, and each packet's token back when the engine is done with its memory.

use crate::ring::Ring;
use opx_bus::PciFunction;
use opx_defs::sdma::{DESC_MAX_BYTES, SdmaDesc};
use opx_defs::status::SdmaErrors;
use opx_defs::units::{Iova, SdmaEngine as EngineNumber};
use opx_hw::{ContextError, SdmaEngine};
use std::collections::VecDeque;

/// Most descriptors that the chip takes for one packet (`sdma.h MAX_DESC`).
pub const MAX_FRAGMENTS: usize = 64;

/// A piece of a packet in DMA memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Where.
    pub iova: Iova,
    /// Bytes, 1 to 16383. The first fragment begins with the PBC; all fragments together are a multiple of 4.
    pub len: u32,
}

/// Why a packet wasn't queued. No descriptor of it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdmaError {
    /// The ring has too few free slots; try again after some packets completed.
    #[error("SDMA engine {engine}: {needed} descriptors needed, {free} free; try again after completions")]
    RingFull {
        /// The engine.
        engine: EngineNumber,
        /// Slots that the packet takes.
        needed: u32,
        /// Slots that are free.
        free: u32,
    },
    /// The fragments aren't a packet.
    #[error("SDMA engine {engine}: {why}")]
    BadPacket {
        /// The engine.
        engine: EngineNumber,
        /// What is wrong with them.
        why: &'static str,
    },
    /// The engine has halted on an error; restart it.
    #[error("SDMA engine {engine} halted ({errors}); restart it")]
    Halted {
        /// The engine.
        engine: EngineNumber,
        /// Why.
        errors: SdmaErrors,
    },
}

/// How a packet ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The engine has fetched all of it and sent it; its memory may be reused.
    Sent,
    /// The engine halted first: it may have been sent or not. Its memory may be reused.
    Failed,
}

/// What a queue has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SdmaCounters {
    /// Packets queued.
    pub packets: u64,
    /// Descriptors written.
    pub descriptors: u64,
    /// Tail writes.
    pub doorbells: u64,
    /// Times that a packet didn't fit.
    pub ring_full: u64,
    /// Heads that can't be right, and were ignored.
    pub bad_heads: u64,
    /// Restarts after a halt.
    pub restarts: u64,
}

/// Sends packets through one SDMA engine. `T` is the caller's token for a packet: each comes back exactly once.
///
/// ```
/// # use opx_emu::{Config, Icode, Lab, Pacing};
/// # use opx_hw::{Hfi, LinkMode, Options};
/// # let lab = Lab::new(Pacing::Virtual);
/// # let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
/// let hfi = Hfi::open(adapter.bus(), Options::default())?;
/// hfi.link_up(LinkMode::Loopback)?;
/// let mut queue = opx_sdma::SdmaQueue::<_, u32>::new(hfi.sdma_engine(256)?);
/// assert_eq!(queue.free(), 255);
/// assert!(queue.submit(&[], 7).is_err(), "a packet has at least one fragment");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SdmaQueue<B: PciFunction, T> {
    engine: SdmaEngine<B>,
    ring: Ring,
    /// Packets that the engine isn't done with: the tail count after each, and its token.
    pending: VecDeque<(u64, T)>,
    /// Packets that were pending at a restart, with how they ended.
    ended: VecDeque<(T, Outcome)>,
    rung: u64,
    counters: SdmaCounters,
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
            rung: 0,
            counters: SdmaCounters::default(),
        }
    }

    /// Free descriptor slots.
    pub fn free(&self) -> u32 {
        self.ring.free()
    }

    /// Packets that haven't completed.
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

    /// Queues one packet, whole or not at all. The engine starts on it at the next [`SdmaQueue::doorbell`].
    ///
    /// # Errors
    /// See [`SdmaError`]; the token is given back with it.
    pub fn submit(&mut self, fragments: &[Fragment], token: T) -> Result<(), (SdmaError, T)> {
        let engine = self.engine.number();
        let bad = |why| SdmaError::BadPacket { engine, why };
        if fragments.is_empty() || fragments.len() > MAX_FRAGMENTS {
            return Err((bad("a packet has 1 to 64 fragments"), token));
        }
        if fragments.iter().any(|f| f.len == 0 || f.len > DESC_MAX_BYTES) {
            return Err((bad("a fragment has 1 to 16383 bytes"), token));
        }
        let total: u32 = fragments.iter().map(|f| f.len).sum();
        if !total.is_multiple_of(4) {
            return Err((bad("the fragments of a packet add up to whole dwords"), token));
        }
        let needed = fragments.len() as u32;
        if self.ring.free() < needed {
            self.counters.ring_full += 1;
            return Err((SdmaError::RingFull { engine, needed, free: self.ring.free() }, token));
        }
        for (i, fragment) in fragments.iter().enumerate() {
            let (slot, generation) = self.ring.push();
            let mut desc = SdmaDesc::new(fragment.iova, fragment.len).generation(generation);
            if i == 0 {
                desc = desc.first();
            }
            if i + 1 == fragments.len() {
                desc = desc.last().head_to_host();
            }
            self.engine.write_descriptor(slot, desc);
        }
        self.pending.push_back((self.ring.tail(), token));
        self.counters.packets += 1;
        self.counters.descriptors += u64::from(needed);
        Ok(())
    }

    /// Tells the engine of all packets queued since the last call, by one register write.
    pub fn doorbell(&mut self) {
        if self.rung != self.ring.tail() {
            self.rung = self.ring.tail();
            self.engine.ring_doorbell(self.ring.slot(self.rung));
            self.counters.doorbells += 1;
        }
    }

    /// The next packet that is done, in the order they were queued.
    pub fn poll(&mut self) -> Option<(T, Outcome)> {
        if let Some(ended) = self.ended.pop_front() {
            return Some(ended);
        }
        let &(end, _) = self.pending.front()?;
        if self.ring.head() < end && !self.ring.advance(self.engine.head_from_memory()) {
            self.counters.bad_heads += 1;
        }
        if self.ring.head() < end {
            return None;
        }
        self.pending.pop_front().map(|(_, token)| (token, Outcome::Sent))
    }

    /// Whether the engine has halted; reads registers, so not for every packet.
    ///
    /// # Errors
    /// [`SdmaError::Halted`] with the errors when it has.
    pub fn check(&self) -> Result<(), SdmaError> {
        match self.engine.error_status() {
            0 => Ok(()),
            status => {
                let errors = SdmaErrors::from_bits_retain(status);
                Err(SdmaError::Halted { engine: self.engine.number(), errors })
            }
        }
    }

    /// Cleans the engine up after a halt and starts it anew. Packets that it hadn't done come back as failed.
    ///
    /// # Errors
    /// When the engine doesn't answer in time.
    pub fn restart(&mut self) -> Result<(), ContextError> {
        // What was done before the halt is known from the head, which the clean-up sets to 0.
        if !self.ring.advance(self.engine.head_from_register()) {
            self.counters.bad_heads += 1;
        }
        self.engine.restart()?;
        for (end, token) in self.pending.drain(..) {
            let outcome = if end <= self.ring.head() { Outcome::Sent } else { Outcome::Failed };
            self.ended.push_back((token, outcome));
        }
        self.ring = Ring::new(self.engine.entries());
        self.rung = 0;
        self.counters.restarts += 1;
        Ok(())
    }
}
