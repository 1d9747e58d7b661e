//! Packet slots: a fixed pool in DMA memory that holds each sent packet until its receiver has acknowledged it.
//!
//! A slot holds PBC, header and payload one after the other, so that the first send and every replay take exactly the
//! same bytes, by PIO or as one SDMA descriptor. The payload may also lie in the application's memory, from which the engine
//! then takes it each time: what isn't acknowledged is still the operation's.

use crate::Address;
use crate::table::Handle;
use opx_bus::{BlockSource, BusError, PciFunction, SharedMem};
use opx_defs::units::{Dwords, Iova, Lid};
use opx_defs::wire::OPX_HEADER_BYTES;
use opx_defs::wire::opx::{Block, Header};
use opx_hw::{Memory, SdmaEngine};
use opx_sdma::Fragment;
use std::sync::atomic::{Ordering, fence};

const PBC_BYTES: usize = 8;
/// Where the payload begins in a slot.
const PAYLOAD: usize = PBC_BYTES + OPX_HEADER_BYTES;

/// Names a slot of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotId(u32);

/// What the endpoint knows of a slot in use.
#[derive(Debug, Clone, Copy)]
struct State {
    /// Where it goes.
    to: Address,
    /// The send operation that the packet is part of.
    operation: Option<Handle>,
    /// Bytes of payload on the wire.
    payload: u32,
    /// Its payload goes where a TID says, as long as it wasn't sent again.
    expected: bool,
    /// Its payload isn't in the slot.
    outside: bool,
    /// Descriptors that the engine hasn't done.
    in_engine: u16,
    /// Waits to be written to the adapter.
    queued: bool,
    /// May have to be sent again.
    retained: bool,
    /// The engine is to fetch it, rather than that the processor writes it.
    by_engine: bool,
}

impl State {
    #[inline]
    fn new(to: Address, retained: bool) -> Self {
        Self {
            to,
            operation: None,
            payload: 0,
            expected: false,
            outside: false,
            in_engine: 0,
            queued: false,
            retained,
            by_engine: false,
        }
    }
}

/// Payload that lies elsewhere: all of a packet's but what is left over of whole qwords, which is in the slot.
#[derive(Debug)]
struct Outside {
    memory: Memory,
    at: usize,
    len: u32,
    /// The operation whose memory it is.
    reader: Handle,
}

/// Where the engine finds a packet: one fragment, or up to three.
pub(crate) struct Fragments([Fragment; 3], usize);

impl Fragments {
    pub(crate) fn as_slice(&self) -> &[Fragment] {
        self.0.get(..self.1).unwrap_or_default()
    }
}

/// The pool.
#[derive(Debug)]
pub(crate) struct Slots {
    memory: SharedMem,
    /// Where the engine finds it.
    start: Iova,
    size: usize,
    free: Vec<SlotId>,
    states: Vec<State>,
    /// By slot.
    outside: Vec<Option<Outside>>,
}

impl Slots {
    /// A pool of `count` slots for packets with up to `payload` bytes. `engine` reads them, so it keeps their memory mapped.
    pub(crate) fn new<B: PciFunction>(
        engine: &mut SdmaEngine<B>,
        count: usize,
        payload: usize,
    ) -> Result<Self, BusError> {
        let size = (PAYLOAD + payload).next_multiple_of(64);
        let block = engine.bus().dma_alloc(size * count)?;
        let (memory, start) = (block.memory().clone(), block.iova(0));
        engine.hold(block);
        let nobody = Address { lid: Lid(0), rx: 0 };
        let unused = State::new(nobody, false);
        let free = (0..count as u32).rev().map(SlotId).collect();
        let outside = (0..count).map(|_| None).collect();
        Ok(Self { memory, start, size, free, states: vec![unused; count], outside })
    }

    /// Slots that are free.
    pub(crate) fn available(&self) -> usize {
        self.free.len()
    }

    /// Takes a slot for a packet; it is retained.
    #[inline(always)]
    pub(crate) fn take(&mut self, to: Address) -> Option<SlotId> {
        let id = self.free.pop()?;
        self.states[id.0 as usize] = State::new(to, true);
        Some(id)
    }

    /// The packet is part of a send operation.
    #[inline(always)]
    pub(crate) fn set_operation(&mut self, id: SlotId, operation: Handle) {
        self.states[id.0 as usize].operation = Some(operation);
    }

    /// The send operation that a packet is part of.
    pub(crate) fn operation(&self, id: SlotId) -> Option<Handle> {
        self.states[id.0 as usize].operation
    }

    /// Where a packet goes.
    pub(crate) fn to(&self, id: SlotId) -> Address {
        self.states[id.0 as usize].to
    }

    /// Gives back a slot that was taken and not used.
    pub(crate) fn untake(&mut self, id: SlotId) {
        self.states[id.0 as usize].retained = false;
        self.free_if_unused(id);
    }

    /// Writes bytes of the payload, `offset` bytes from its start.
    pub(crate) fn write_payload(&self, id: SlotId, offset: usize, bytes: &[u8]) {
        assert!(PAYLOAD + offset + bytes.len() <= self.size, "payload leaves its slot");
        self.memory.write(self.at(id) + PAYLOAD + offset, bytes);
    }

    /// Writes a payload of whole qwords; a short one quickly.
    #[inline(always)]
    pub(crate) fn write_qwords(&self, id: SlotId, payload: &[u8]) {
        let (qwords, _) = payload.as_chunks::<8>();
        let start = (self.at(id) + PAYLOAD) / 8;
        match self.memory.words().get(start..start.wrapping_add(qwords.len())) {
            Some(cells) if qwords.len() <= 8 => {
                fence(Ordering::Release);
                for (cell, qword) in cells.iter().zip(qwords) {
                    cell.store(u64::from_ne_bytes(*qword), Ordering::Relaxed);
                }
            }
            _ => self.write_payload(id, 0, payload),
        }
    }

    /// Sets `len` bytes of the payload to zero, `offset` bytes from its start.
    pub(crate) fn pad_payload(&self, id: SlotId, offset: usize, len: usize) {
        assert!(PAYLOAD + offset + len <= self.size, "payload leaves its slot");
        self.memory.zero(self.at(id) + PAYLOAD + offset, len);
    }

    /// Writes PBC and header of a packet with `payload` bytes, a multiple of 4.
    #[inline(always)]
    pub(crate) fn seal(&mut self, id: SlotId, block: &Block, payload: usize) {
        debug_assert_eq!(block.pbc().length(), Dwords::holding((PAYLOAD + payload) as u32));
        self.memory.write_block(self.at(id), &block.0);
        self.states[id.0 as usize].payload = payload as u32;
    }

    /// The first `len` bytes of the payload, whole qwords, are those at `at` in `memory`, which is `reader`'s. The rest of the
    /// payload, if there is any, is written to the start of the slot's.
    pub(crate) fn take_from(&mut self, id: SlotId, memory: Memory, at: usize, len: usize, reader: Handle) {
        debug_assert!(at + len <= memory.len() && len.is_multiple_of(8));
        if let Some(place) = self.outside.get_mut(id.0 as usize) {
            *place = Some(Outside { memory, at, len: len as u32, reader });
            self.states[id.0 as usize].outside = true;
        }
    }

    /// The operation whose memory a packet's payload is in, if it isn't in the slot.
    #[inline]
    pub(crate) fn reader(&self, id: SlotId) -> Option<Handle> {
        if !self.states[id.0 as usize].outside {
            return None;
        }
        self.outside.get(id.0 as usize)?.as_ref().map(|outside| outside.reader)
    }

    /// Copies a packet's payload into its slot, so that the memory it was in isn't needed any more; not while the engine reads
    /// it.
    pub(crate) fn bring_in(&mut self, id: SlotId) {
        if self.states[id.0 as usize].in_engine > 0 {
            return;
        }
        let Some(outside) = self.outside.get_mut(id.0 as usize).and_then(Option::take) else { return };
        self.states[id.0 as usize].outside = false;
        let start = self.at(id) + PAYLOAD;
        let mut rest = [0; 8];
        self.memory.read(start, &mut rest);
        let mut bytes = vec![0; outside.len as usize];
        outside.memory.memory().read(outside.at, &mut bytes);
        self.memory.write(start, &bytes);
        if self.states[id.0 as usize].payload > outside.len {
            self.memory.write(start + bytes.len(), &rest);
        }
    }

    /// Slots whose payload is in the memory of `reader`.
    pub(crate) fn read_for(&self, reader: Handle) -> Vec<SlotId> {
        let ids = (0..self.outside.len() as u32).map(SlotId);
        ids.filter(|id| self.reader(*id) == Some(reader)).collect()
    }

    /// The payload of a packet that isn't sealed yet goes where a TID says.
    pub(crate) fn set_expected(&mut self, id: SlotId) {
        self.states[id.0 as usize].expected = true;
    }

    /// The packet is sent again: its payload goes to software now.
    pub(crate) fn make_eager(&mut self, id: SlotId) {
        if std::mem::replace(&mut self.states[id.0 as usize].expected, false) {
            // One store: the engine may still have to fetch what was sent before, and gets the one or the other.
            let h2 = self.at(id) + PBC_BYTES + 16;
            self.memory.write_u64(h2, Header::eager_h2(self.memory.read_u64(h2)));
        }
    }

    /// As [`Slots::seal`], for a packet without payload that is one block; gives the block as it lies there.
    #[inline(always)]
    pub(crate) fn seal_block(&self, id: SlotId, block: &Block) -> BlockSource<'_> {
        self.memory.write_block(self.at(id), &block.0)
    }

    /// A sealed packet's header.
    pub(crate) fn header(&self, id: SlotId) -> Header {
        let mut header = [0; OPX_HEADER_BYTES];
        self.memory.read(self.at(id) + PBC_BYTES, &mut header);
        Header(header)
    }

    /// Bytes of a sealed packet's payload.
    pub(crate) fn payload(&self, id: SlotId) -> usize {
        self.states[id.0 as usize].payload as usize
    }

    /// Copies a sealed packet's payload, wherever it lies.
    pub(crate) fn copy_payload(&self, id: SlotId, to: &mut [u8]) {
        let start = self.at(id) + PAYLOAD;
        match self.outside.get(id.0 as usize).and_then(Option::as_ref) {
            None => self.memory.read(start, to),
            Some(outside) => {
                let (body, rest) = to.split_at_mut(to.len().min(outside.len as usize));
                outside.memory.memory().read(outside.at, body);
                self.memory.read(start, rest);
            }
        }
    }

    /// Where a sealed packet lies, for PIO: memory, offset of its PBC, and its payload's length. Slots are whole blocks.
    pub(crate) fn stored(&self, id: SlotId) -> (&SharedMem, usize, usize) {
        (&self.memory, self.at(id), self.payload(id))
    }

    /// Where the engine finds a sealed packet, its PBC first.
    pub(crate) fn fragments(&self, id: SlotId) -> Fragments {
        let (start, payload) = (self.start.plus(self.at(id) as u64), self.states[id.0 as usize].payload);
        let Some(outside) = self.outside.get(id.0 as usize).and_then(Option::as_ref) else {
            return Fragments([Fragment::raw(start, PAYLOAD as u32 + payload); 3], 1);
        };
        let head = Fragment::raw(start, PAYLOAD as u32);
        let body = Fragment::raw(outside.memory.iova(outside.at), outside.len);
        let rest = payload.saturating_sub(outside.len);
        let tail = Fragment::raw(start.plus(PAYLOAD as u64), rest);
        Fragments([head, body, tail], if rest == 0 { 2 } else { 3 })
    }

    /// The engine is to fetch the packet, this time and whenever it is sent again.
    pub(crate) fn set_by_engine(&mut self, id: SlotId) {
        self.states[id.0 as usize].by_engine = true;
    }

    /// Whether it is.
    pub(crate) fn is_by_engine(&self, id: SlotId) -> bool {
        self.states[id.0 as usize].by_engine
    }

    /// Whether the packet waits to be written to the adapter.
    pub(crate) fn is_queued(&self, id: SlotId) -> bool {
        self.states[id.0 as usize].queued
    }

    /// The packet waits to be written to the adapter.
    pub(crate) fn queue(&mut self, id: SlotId) {
        self.states[id.0 as usize].queued = true;
    }

    /// The packet was written; by SDMA the engine holds the slot until [`Slots::engine_done`].
    pub(crate) fn written(&mut self, id: SlotId, by_engine: bool) {
        let state = &mut self.states[id.0 as usize];
        state.queued = false;
        state.in_engine += u16::from(by_engine);
        self.free_if_unused(id);
    }

    /// The engine is done with the slot once. Gives the operation whose memory it has read for that.
    pub(crate) fn engine_done(&mut self, id: SlotId) -> Option<Handle> {
        let reader = self.reader(id);
        let state = &mut self.states[id.0 as usize];
        state.in_engine = state.in_engine.saturating_sub(1);
        self.free_if_unused(id);
        reader
    }

    /// The receiver has the packet: no replay any more. Gives the operation that it was part of.
    pub(crate) fn acknowledged(&mut self, id: SlotId) -> Option<Handle> {
        let state = &mut self.states[id.0 as usize];
        state.retained = false;
        let operation = state.operation.take();
        self.free_if_unused(id);
        operation
    }

    /// Whether the packet may still have to be sent.
    pub(crate) fn is_retained(&self, id: SlotId) -> bool {
        self.states[id.0 as usize].retained
    }

    fn free_if_unused(&mut self, id: SlotId) {
        let state = self.states[id.0 as usize];
        // An early acknowledgement can come while the engine still reads the slot, or even before a replay was written.
        if !state.retained && !state.queued && state.in_engine == 0 {
            if state.outside {
                self.outside[id.0 as usize] = None;
            }
            self.free.push(id);
        }
    }

    fn at(&self, id: SlotId) -> usize {
        // The pool has as many bytes.
        (id.0 as usize).wrapping_mul(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_emu::{Config, EmuBus, Icode, Lab, Pacing};
    use opx_hw::{Hfi, Options};

    const NOBODY: Address = Address { lid: Lid(1), rx: 77 };

    /// A pool of one slot, and its adapter.
    fn pool() -> (Hfi<EmuBus>, SdmaEngine<EmuBus>, Slots) {
        let adapter = Lab::new(Pacing::Virtual).add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
        let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
        let mut engine = hfi.sdma_engine(64).unwrap();
        let slots = Slots::new(&mut engine, 1, 4096).unwrap();
        (hfi, engine, slots)
    }

    #[test]
    fn what_the_engine_reads_stays_where_it_is() {
        let (hfi, _engine, mut slots) = pool();
        let memory = hfi.memory(4096).unwrap();
        memory.memory().write(0, &[7; 64]);
        let (slot, reader) = (slots.take(NOBODY).unwrap(), Handle(1 << 32));
        slots.take_from(slot, memory, 0, 64, reader);
        slots.queue(slot);
        slots.written(slot, true);
        slots.bring_in(slot);
        assert_eq!(slots.reader(slot), Some(reader));
        assert_eq!(slots.engine_done(slot), Some(reader), "its owner is told");
        slots.bring_in(slot);
        assert_eq!(slots.reader(slot), None);
        let mut bytes = [0; 64];
        slots.copy_payload(slot, &mut bytes);
        assert_eq!(bytes, [7; 64]);
    }

    #[test]
    fn a_slot_is_free_once_it_is_acknowledged_written_and_read() {
        let (_hfi, _engine, mut slots) = pool();
        for last in 0..3 {
            let slot = slots.take(NOBODY).unwrap();
            // The engine has it, and it is to be sent again.
            slots.queue(slot);
            slots.written(slot, true);
            slots.queue(slot);
            for step in [last + 1, last + 2, last] {
                assert_eq!(slots.available(), 0, "step {step} of those that end with {last}");
                match step % 3 {
                    0 => assert_eq!(slots.acknowledged(slot), None),
                    1 => slots.written(slot, false),
                    _ => assert_eq!(slots.engine_done(slot), None),
                }
            }
            assert_eq!(slots.available(), 1, "once");
        }
    }
}
