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

    fn taken(&self) -> impl Iterator<Item = u16> {
        self.taken.iter().zip(0..).filter(|(taken, _)| **taken).map(|(_, number)| number)
    }

    fn give_back(&mut self, number: u16) {
        if let Some(taken) = self.taken.get_mut(usize::from(number)) {
            *taken = false;
        }
    }
}

/// What is free for send contexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PioRoom {
    /// Send contexts that can still be taken.
    pub contexts: u32,
    /// Blocks of PIO memory, in all.
    pub blocks: u32,
    /// Blocks that lie together: the largest context that can be taken, up to 1024.
    pub largest: u32,
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

    /// Hardware numbers of the send contexts that are taken.
    pub fn send_taken(&self) -> impl Iterator<Item = u16> {
        let last = (self.sizes.send_contexts as u16).wrapping_sub(1);
        self.send.taken().map(move |slot| last.wrapping_sub(slot))
    }

    /// PIO memory and send contexts that are free.
    pub fn pio_room(&self) -> PioRoom {
        let contexts = self.send.taken.iter().filter(|taken| !**taken).count() as u32;
        PioRoom { contexts, blocks: self.pio.free(), largest: self.pio.largest() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZES: Sizes = Sizes {
        send_contexts: 160,
        recv_contexts: 160,
        sdma_engines: 16,
        pio_blocks: 0x4000,
        sdma_blocks: 64,
        rcv_array: 8,
    };

    proptest! {
        /// Against a map of which context has each block.
        #[test]
        fn send_contexts_share_pio_memory(
            pio_blocks in 2u32..3000,
            steps in proptest::collection::vec((1u16..=1024, 0u8..4, any::<u16>()), 1..400),
        ) {
            let mut pool = Pool::new("a".to_owned(), Sizes { pio_blocks, ..SIZES }, 2);
            let mut owner = vec![None; pio_blocks as usize];
            owner[0] = Some(u16::MAX);
            let mut held: Vec<(u16, u32)> = Vec::new();
            for (blocks, what, which) in steps {
                if what == 0 && !held.is_empty() {
                    let (number, base) = held.swap_remove(usize::from(which) % held.len());
                    pool.give_back_send(number, base);
                    owner.iter_mut().filter(|of| **of == Some(number)).for_each(|of| *of = None);
                    continue;
                }
                // Small ones mostly, so that contexts run out, too.
                let blocks = if what == 1 { blocks } else { blocks % 16 + 1 };
                let holes = owner.split(Option::is_some).map(<[_]>::len);
                let largest = holes.max().unwrap_or(0);
                match pool.take_send(blocks) {
                    Ok((number, base)) => {
                        prop_assert!(held.len() < 160 && number < 160);
                        for of in &mut owner[base as usize..][..usize::from(blocks)] {
                            prop_assert_eq!(*of, None);
                            *of = Some(number);
                        }
                        prop_assert!(held.iter().all(|(other, _)| *other != number));
                        held.push((number, base));
                    }
                    Err(ContextError::NoRoom { largest: told, .. }) => {
                        prop_assert!(largest < usize::from(blocks));
                        prop_assert_eq!(told as usize, largest);
                    }
                    Err(ContextError::Exhausted { .. }) => prop_assert_eq!(held.len(), 160),
                    Err(other) => prop_assert!(false, "{}", other),
                }
                let free = owner.iter().filter(|of| of.is_none()).count();
                let largest = owner.split(Option::is_some).map(<[_]>::len).max().unwrap_or(0);
                let room = PioRoom { contexts: 160 - held.len() as u32, blocks: free as u32, largest: largest as u32 };
                prop_assert_eq!(pool.pio_room(), room);
                let mut taken: Vec<u16> = pool.send_taken().collect();
                let mut wanted: Vec<u16> = held.iter().map(|(number, _)| *number).collect();
                taken.sort_unstable();
                wanted.sort_unstable();
                prop_assert_eq!(taken, wanted);
            }
        }
    }
}
