//! A chip with its link up in loopback, host memory, and one context or engine of each kind set up.

use crate::board::LogicalState;
use crate::chip::Chip;
use crate::config::Config;
use crate::packet::Packet;
use opx_bus::SharedMem;
use opx_defs::csr;
use opx_defs::rcvarray::RcvArrayEntry;
use opx_defs::source::Source;
use opx_defs::time::Instant;
use opx_defs::units::{BarOff, Dwords, Iova, Lid, Pkey, Sc, Sl, Vl};
use opx_defs::wire::bth::Bth;
use opx_defs::wire::lrh::{Lrh, NextHeader};
use opx_defs::wire::pbc::Pbc;
use opx_defs::wire::rhf::Rhf;
use std::sync::Arc;
use std::time::Duration;

pub const BASE: Iova = Iova(1 << 32);
const MEMORY: usize = 4 << 20;
/// Where things lie in host memory; a context's parts are `CONTEXT_STEP` apart.
const CONTEXT_STEP: usize = 0x10_0000;
const TAIL: usize = 0x1_0000;
const EAGER: usize = 0x2_0000;
pub const EXPECTED: usize = 0x20_0000;
pub const CREDIT: usize = 0x30_0000;
pub const RING: usize = 0x30_1000;
pub const HEAD: usize = 0x31_0000;
pub const DATA: usize = 0x32_0000;
/// Entries of a header queue and dwords of an entry.
pub const ENTRIES: u32 = 32;
pub const ENTRY: u32 = 32;
/// Eager buffers of a context and bytes of each.
pub const EAGERS: u32 = 8;
pub const EAGER_BYTES: usize = 8192;
/// RCV_CTXT_CTRL of a plain context: 8 KiB eager buffers, tail in memory, RcvAvail.
pub const PLAIN: u64 = 2 << 8 | 1 << 6 | 1 << 5;

pub struct Rig {
    pub chip: Chip,
    pub memory: SharedMem,
    now: Instant,
}

impl Rig {
    pub fn new() -> Self {
        let memory = SharedMem::new(MEMORY).unwrap();
        let mut chip = Chip::new(Config::default(), Arc::default());
        chip.board.dma.master = true;
        chip.board.dma.map(BASE, MEMORY as u64, memory.clone(), 0).unwrap();
        chip.board.link.transfer_active = true;
        chip.board.link.loopback = true;
        let mut rig = Self { chip, memory, now: Instant::ZERO };
        rig.logical(LogicalState::Active);
        rig.write(csr::SEND_CTRL.off(), 1);
        rig.write(csr::SEND_SC2VLT0.off(), 0x0706_0504_0302_0100);
        rig.write(csr::SEND_SC2VLT1.off(), 0x0f << 56);
        rig.write(csr::SEND_LEN_CHECK0.off(), 0xfff);
        rig.write(csr::SEND_LEN_CHECK1.off(), 0xfff << 48);
        rig.write(csr::SEND_BTH_QP.off(), 0x80 << 16);
        rig.write(csr::RCV_BTH_QP.off(), 0x80 << 16);
        rig.write(csr::RCV_CTRL.off(), 1);
        rig
    }

    pub fn logical(&mut self, state: LogicalState) {
        self.chip.board.link.logical = state;
        self.chip.board.link_changed = true;
        self.write(csr::CCE_SCRATCH.off(), 0);
    }

    /// Freezes the chip or unfreezes it.
    pub fn freeze(&mut self, freeze: bool) {
        use csr::CCE_CTRL::{SPC_FREEZE, SPC_UNFREEZE};
        self.write(csr::CCE_CTRL.off(), if freeze { SPC_FREEZE.mask() } else { SPC_UNFREEZE.mask() });
        self.settle();
        assert_eq!(self.chip.board.frozen, freeze);
    }

    /// Puts a packet on the wire from outside.
    pub fn arrive(&mut self, packet: Packet) {
        self.chip.board.now = self.now;
        assert!(self.chip.arrive(packet), "the wire is full");
        self.settle();
    }

    pub fn write(&mut self, offset: BarOff, value: u64) {
        self.chip.board.now = self.now;
        self.chip.write64(offset, value);
    }

    pub fn read(&mut self, offset: BarOff) -> u64 {
        self.chip.board.now = self.now;
        self.chip.read64(offset)
    }

    /// Sets fields of a register.
    pub fn set(&mut self, offset: BarOff, bits: u64) {
        let old = self.read(offset);
        self.write(offset, old | bits);
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let target = self.now + time;
        while let Some(due) = self.chip.next_due().filter(|due| *due <= target) {
            self.now = self.now.max(due);
            self.chip.step(self.now);
        }
        self.now = target;
        self.chip.board.now = target;
    }

    /// Long enough for anything that doesn't wait for software.
    pub fn settle(&mut self) {
        self.run(Duration::from_millis(1));
    }

    /// Whether an interrupt source is set; clears it.
    pub fn took(&mut self, source: Source) -> bool {
        let set = self.chip.board.interrupts.is_set(source);
        self.write(csr::CCE_INT_CLEAR.at(source.word()), source.bit());
        set
    }

    /// Turns a receive context on, with `ctrl` beside ENABLE.
    pub fn rcv_context(&mut self, number: u32, ctrl: u64) {
        let at = CONTEXT_STEP * number as usize;
        for i in 0..EAGERS {
            let iova = BASE.plus((at + EAGER + i as usize * EAGER_BYTES) as u64);
            let entry = RcvArrayEntry::new(iova, EAGER_BYTES as u32).unwrap();
            self.write(csr::RCV_ARRAY.at(number * 64 + i), entry.0);
        }
        self.write(csr::RCV_HDR_ADDR.at(number), BASE.plus(at as u64).0);
        self.write(csr::RCV_HDR_CNT.at(number), u64::from(ENTRIES / 32));
        self.write(csr::RCV_HDR_ENT_SIZE.at(number), 4);
        self.write(csr::RCV_HDR_SIZE.at(number), 9);
        self.write(csr::RCV_HDR_TAIL_ADDR.at(number), BASE.plus((at + TAIL) as u64).0);
        self.write(csr::RCV_EGR_CTRL.at(number), u64::from(EAGERS / 8) << 32 | u64::from(number * 8));
        self.write(csr::RCV_TID_CTRL.at(number), 2 << 32 | u64::from(number * 8 + 2));
        self.write(csr::RCV_CTXT_CTRL.at(number), ctrl | 1);
    }

    pub fn tail(&self, number: u32) -> u64 {
        self.memory.read_u64(CONTEXT_STEP * number as usize + TAIL)
    }

    /// Flags, header and eager payload (without ICRC) of entry `index` of a context's header queue.
    pub fn received(&self, number: u32, index: u32) -> (Rhf, Vec<u8>, Vec<u8>) {
        let context = CONTEXT_STEP * number as usize;
        let at = context + (index * ENTRY * 4) as usize;
        let rhf = Rhf(self.memory.read_u64(at + ENTRY as usize * 4 - 8));
        let from = rhf.header_offset().bytes() as usize;
        let mut header = vec![0; ENTRY as usize * 4 - 8 - from];
        self.memory.read(at + from, &mut header);
        let mut payload = Vec::new();
        if rhf.uses_eager() {
            payload = vec![0; rhf.length().bytes() as usize - header.len() - 4];
            let buffer = context + EAGER + usize::from(rhf.eager_index()) * EAGER_BYTES;
            self.memory.read(buffer + usize::from(rhf.eager_offset()) * 64, &mut payload);
        }
        (rhf, header, payload)
    }

    /// Writes the head of a header queue, in entries, and the interrupt counter.
    pub fn head(&mut self, number: u32, index: u32, counter: u64) {
        self.write(csr::RCV_HDR_HEAD.at(number), counter << 32 | u64::from(index * ENTRY));
    }

    /// Turns a send context on as `pio.c:sc_enable` does.
    pub fn send_context(&mut self, number: u32, depth: u64) {
        self.write(csr::SEND_CTXT_CTRL.at(number), depth << 48 | 1 << 32);
        self.write(csr::SEND_CTXT_ERR_MASK.at(number), u64::MAX);
        let errors = self.read(csr::SEND_CTXT_ERR_STATUS.at(number));
        self.write(csr::SEND_CTXT_ERR_CLEAR.at(number), errors);
        self.write(csr::SEND_CTXT_CREDIT_RETURN_ADDR.at(number), BASE.plus(CREDIT as u64 + 64 * u64::from(number)).0);
        self.write(csr::SEND_CTXT_CREDIT_CTRL.at(number), depth);
        self.write(csr::SEND_PIO_INIT_CTXT.off(), u64::from(number) << 8 | 2);
        assert_eq!(self.read(csr::SEND_PIO_INIT_CTXT.off()) & 0xc, 4);
        self.run(Duration::from_micros(2));
        assert_eq!(self.read(csr::SEND_PIO_INIT_CTXT.off()) & 0xc, 0);
        self.set(csr::SEND_CTXT_CTRL.at(number), 1);
    }

    /// The credit-return word of a send context.
    pub fn credit(&self, number: u32) -> u64 {
        self.memory.read_u64(CREDIT + 64 * number as usize + 8 * (number as usize & 7))
    }

    /// The blocks of a packet: PBC, packet, padding.
    pub fn blocks(pbc: Pbc, body: &[u8]) -> Vec<[u64; 8]> {
        let mut bytes = pbc.0.to_le_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        let qword = |raw: &[u8]| u64::from_le_bytes(raw.try_into().unwrap());
        bytes.chunks(64).map(|block| std::array::from_fn(|i| qword(&block[i * 8..i * 8 + 8]))).collect()
    }

    /// Where block `index` of a send context lies.
    pub fn block_at(number: u32, index: usize, sop: bool) -> BarOff {
        BarOff(0x200_0000 + 0x100_0000 * u32::from(sop) + 0x1_0000 * number + index as u32 * 64)
    }

    /// Stores a packet from block `at` on, in a ring of `depth`; the block after it.
    pub fn pio(&mut self, number: u32, depth: usize, at: usize, pbc: Pbc, body: &[u8]) -> usize {
        let blocks = Self::blocks(pbc, body);
        self.chip.board.now = self.now;
        for (i, block) in blocks.iter().enumerate() {
            self.chip.write_block(Self::block_at(number, (at + i) % depth, i == 0), block);
        }
        (at + blocks.len()) % depth
    }

    /// Turns an engine on as `sdma.c` does: halt, wait for the error, clean up, start. The ring has 64 descriptors.
    pub fn engine(&mut self, number: u32) {
        self.write(csr::SEND_DMA_BASE_ADDR.at(number), BASE.plus(RING as u64).0);
        self.write(csr::SEND_DMA_RELOAD_CNT.at(number), 201);
        self.write(csr::SEND_DMA_HEAD_ADDR.at(number), BASE.plus(HEAD as u64).0);
        self.write(csr::SEND_DMA_ENG_ERR_MASK.at(number), u64::MAX);
        self.write(csr::SEND_DMA_CTRL.at(number), 2);
        self.restart_engine(number);
    }

    /// From halted to running.
    pub fn restart_engine(&mut self, number: u32) {
        let errors = self.read(csr::SEND_DMA_ENG_ERR_STATUS.at(number));
        self.write(csr::SEND_DMA_ENG_ERR_CLEAR.at(number), errors);
        self.write(csr::SEND_DMA_CTRL.at(number), 0xc);
        assert_eq!(self.read(csr::SEND_DMA_STATUS.at(number)) >> 57, 1);
        self.write(csr::SEND_DMA_LEN_GEN.at(number), 64);
        self.write(csr::SEND_DMA_LEN_GEN.at(number), 64 | 4 << 16);
        self.write(csr::SEND_DMA_TAIL.at(number), 0);
        self.write(csr::SEND_DMA_CTRL.at(number), 9);
    }
}

/// A packet with a KDETH section.
#[derive(Clone)]
pub struct Kdeth {
    pub context: u32,
    pub flow: u32,
    pub psn: u32,
    pub dw0: u32,
    pub job_key: u16,
    pub pkey: u16,
    pub payload: Vec<u8>,
}

impl Kdeth {
    pub fn eager(context: u32, payload: Vec<u8>) -> Self {
        Self { context, flow: 0, psn: 0, dw0: 1 << 30, job_key: 0, pkey: 0x8001, payload }
    }

    /// LRH to the end of the payload.
    pub fn body(&self) -> Vec<u8> {
        let length = Dwords::holding(56 + self.payload.len() as u32 + 4);
        let lrh = Lrh { sc: Sc(0), sl: Sl(0), next: NextHeader::Bth, dlid: Lid(1), slid: Lid(1), length };
        let mut body = lrh.encode().to_vec();
        let dest_qp = 0x80 << 16 | self.flow << 11 | self.context;
        body.extend(Bth { opcode: 0xc0, pkey: Pkey(self.pkey), dest_qp }.encode());
        body.extend(self.psn.to_be_bytes());
        body.extend(self.dw0.to_le_bytes());
        body.extend(u32::from(self.job_key).to_le_bytes());
        body.extend((0..28).map(|i| i as u8));
        body.extend(&self.payload);
        body
    }

    pub fn pbc(&self) -> Pbc {
        Pbc::new(Dwords::holding(self.body().len() as u32 + 8), Vl(0), Sc(0))
    }
}

/// Bytes that differ from packet to packet.
pub fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + seed * 31 + i / 251) as u8).collect()
}
