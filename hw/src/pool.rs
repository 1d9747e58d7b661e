//! Which contexts, engines, interrupt vectors and on-chip memories are taken.

use crate::error::ContextError;
use crate::info::Sizes;
use crate::ranges::Ranges;
use opx_bus::DmaBlock;

/// Hands out numbers from 0 on.
#[derive(Debug)]
struct Numbers {
    taken: Vec<bool>,
}

impl Numbers {
    fn new(count: u32) -> Self {
        Self { taken: vec![false; count as usize] }
    }

    fn take(&mut self) -> Option<u16> {
        let free = self.taken.iter().position(|taken| !taken)?;
        self.taken[free] = true;
        u16::try_from(free).ok()
    }

    fn give_back(&mut self, number: u16) {
        if let Some(taken) = self.taken.get_mut(usize::from(number)) {
            *taken = false;
        }
    }
}

/// Everything that contexts and engines are made of.
#[derive(Debug)]
pub(crate) struct Pool {
    adapter: String,
    sizes: Sizes,
    vectors: u16,
    send: Numbers,
    recv: Numbers,
    sdma: Numbers,
    vector: Numbers,
    /// Blocks of PIO memory.
    pio: Ranges,
    /// RcvArray entries in groups of 8, the unit of the base registers.
    rcv_array: Ranges,
    /// Contexts and engines that are open now.
    open: usize,
    /// Memory that hardware which didn't stop may still write to. It holds few blocks: each also holds back its context
    /// or engine.
    quarantine: Vec<DmaBlock>,
}

impl Pool {
    pub fn new(adapter: String, sizes: Sizes, vectors: u16) -> Self {
        // Number 0 of both has its use already: the control context gets VL15 and what can't be assigned otherwise
        // (chip.h:HFI1_CTRL_CTXT), and vector 0 is that of the general interrupt.
        let mut recv = Numbers::new(sizes.recv_contexts);
        let mut vector = Numbers::new(vectors.into());
        recv.take();
        vector.take();
        Self {
            send: Numbers::new(sizes.send_contexts),
            recv,
            sdma: Numbers::new(sizes.sdma_engines),
            vector,
            // pio.c:sc_hw_alloc never uses block 0.
            pio: Ranges::new(1, sizes.pio_blocks),
            rcv_array: Ranges::new(0, sizes.rcv_array / 8),
            open: 0,
            quarantine: Vec::new(),
            adapter,
            sizes,
            vectors,
        }
    }

    /// How many contexts and engines are open.
    pub fn open(&self) -> usize {
        self.open
    }

    fn exhausted(&self, what: &'static str, count: u32) -> ContextError {
        ContextError::Exhausted { adapter: self.adapter.clone(), what, count }
    }

    /// Takes a send context and its PIO blocks: hardware number and first block. Numbers run backwards, as in
    /// `pio.c:sc_hw_alloc`.
    pub fn take_send(&mut self, blocks: u16) -> Result<(u16, u32), ContextError> {
        let count = self.sizes.send_contexts;
        let slot = self.send.take().ok_or_else(|| self.exhausted("send context", count))?;
        match self.pio.take(blocks.into()) {
            Ok(base) => {
                self.open += 1;
                Ok((count as u16 - 1 - slot, base))
            }
            Err(largest) => {
                self.send.give_back(slot);
                let (adapter, asked) = (self.adapter.clone(), blocks.into());
                Err(ContextError::NoRoom { adapter, what: "PIO memory", unit: "blocks", asked, largest })
            }
        }
    }

    pub fn give_back_send(&mut self, number: u16, base: u32) {
        self.send.give_back((self.sizes.send_contexts as u16).wrapping_sub(1).wrapping_sub(number));
        self.pio.give_back(base);
        self.open -= 1;
    }

    /// Takes a receive context and RcvArray entries, a multiple of 8: hardware number and first entry.
    pub fn take_recv(&mut self, entries: u32) -> Result<(u16, u32), ContextError> {
        let count = self.sizes.recv_contexts - 1;
        let number = self.recv.take().ok_or_else(|| self.exhausted("receive context", count))?;
        match self.rcv_array.take(entries / 8) {
            Ok(group) => {
                self.open += 1;
                Ok((number, group * 8))
            }
            Err(largest) => {
                self.recv.give_back(number);
                let (adapter, largest) = (self.adapter.clone(), largest * 8);
                Err(ContextError::NoRoom { adapter, what: "the RcvArray", unit: "entries", asked: entries, largest })
            }
        }
    }

    pub fn give_back_recv(&mut self, number: u16, first_entry: u32) {
        self.recv.give_back(number);
        self.rcv_array.give_back(first_entry / 8);
        self.open -= 1;
    }

    pub fn take_sdma(&mut self) -> Result<u8, ContextError> {
        let count = self.sizes.sdma_engines;
        let number = self.sdma.take().ok_or_else(|| self.exhausted("SDMA engine", count))?;
        self.open += 1;
        Ok(number as u8)
    }

    pub fn give_back_sdma(&mut self, number: u8) {
        self.sdma.give_back(number.into());
        self.open -= 1;
    }

    pub fn take_vector(&mut self) -> Result<u16, ContextError> {
        let count = u32::from(self.vectors.saturating_sub(1));
        self.vector.take().ok_or_else(|| self.exhausted("interrupt vector", count))
    }

    pub fn give_back_vector(&mut self, vector: u16) {
        self.vector.give_back(vector);
    }

    /// A context or engine is closed but its hardware didn't stop: it isn't used again.
    pub fn retire(&mut self) {
        self.open -= 1;
    }

    /// Keeps memory until the adapter is closed, because hardware that didn't stop may still write to it.
    pub fn keep(&mut self, memory: DmaBlock) {
        self.quarantine.push(memory);
    }
}
