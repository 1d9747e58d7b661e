//! Any accesses to the emulated adapter in any order, with memory behind it that holds anything, and time that passes: never a
//! panic, never endless work, nothing that grows. After a reset the adapter comes up again.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opx_bus::{DmaBlock, PciFunction, SharedMem};
use opx_defs::csr;
use opx_defs::sdma::SdmaDesc;
use opx_defs::units::{BarOff, Blocks, Iova};
use opx_emu::{Adapter, EmuBus, Fault};
use opx_hw::{Hfi, RecvConfig, RecvContext, SdmaEngine, SendContext};
use std::time::Duration;

const MOST_STEPS: usize = 200;
const MEMORY: usize = 256 << 10;
const PAGE: usize = 4096;
/// Somewhat more than BAR 0 has.
const PLACES: u32 = 80 << 20;

#[derive(Debug, Arbitrary)]
struct Input {
    /// Whether the adapter was opened and its link brought up before.
    up: bool,
    steps: Vec<Step>,
    /// Whether it has to come up in the end.
    again: bool,
}

#[derive(Debug, Arbitrary)]
enum Step {
    /// A register of the catalogue.
    Read {
        row: u16,
        index: u16,
    },
    Write {
        row: u16,
        index: u16,
        value: Value,
    },
    /// Flips bits of what it holds.
    Change {
        row: u16,
        index: u16,
        bits: Value,
    },
    /// Any place of BAR 0, in any width.
    ReadBytes {
        at: u32,
        len: u8,
    },
    WriteBytes {
        at: u32,
        data: [u8; 12],
        len: u8,
    },
    /// A block of PIO memory, with any PBC or any bytes.
    Block {
        context: u8,
        block: u8,
        first: bool,
        head: u64,
        rest: u64,
    },
    /// A descriptor, right or wrong, and the doorbell.
    Descriptor {
        at: u8,
        offset: u16,
        bytes: u16,
        flags: u8,
        edits: u32,
    },
    Doorbell {
        tail: u16,
    },
    ConfigWrite {
        at: u16,
        data: [u8; 4],
        len: u8,
    },
    ConfigRead {
        at: u16,
        len: u8,
    },
    /// Function-level reset.
    Reset,
    /// What the adapter reads by DMA.
    Memory {
        at: u32,
        value: Value,
    },
    Unmap {
        page: u8,
        pages: u8,
    },
    Map {
        page: u8,
        pages: u8,
    },
    Inject {
        fault: u8,
        unit: u8,
        after: u8,
    },
    Pass {
        nanos: u32,
    },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Value {
    Any(u64),
    Small(u8),
    Bit(u8),
    /// An address in memory that is mapped, at first.
    Address(u32),
    /// The same as an entry of the RcvArray.
    RcvArray {
        page: u8,
        size: u8,
    },
    Ones,
}

impl Value {
    fn of(self, base: Iova) -> u64 {
        match self {
            Self::Any(value) => value,
            Self::Small(value) => value.into(),
            Self::Bit(bit) => 1 << (bit % 64),
            Self::Address(at) => base.plus(u64::from(at) % MEMORY as u64).0,
            Self::RcvArray { page, size } => {
                let page = base.0 / PAGE as u64 + u64::from(page) % (MEMORY / PAGE) as u64;
                1 << 63 | u64::from(size % 16) << 36 | page
            }
            Self::Ones => u64::MAX,
        }
    }
}

/// What a driver has on an adapter that is up. Closed before the memory goes.
struct Up {
    _hfi: Hfi<EmuBus>,
    send: SendContext<EmuBus>,
    recv: RecvContext<EmuBus>,
    engine: SdmaEngine<EmuBus>,
}

impl Up {
    fn new(adapter: &Adapter) -> Self {
        let hfi = opx_fuzz::bring_up(adapter);
        let config = RecvConfig {
            header_entries: 64,
            eager_buffers: 8,
            eager_buffer_size: 16384,
            head_batch: 8,
            interrupts: true,
            ..RecvConfig::default()
        };
        Self {
            send: hfi.send_context(Blocks(64)).expect("a send context"),
            recv: hfi.recv_context(config).expect("a receive context"),
            engine: hfi.sdma_engine(64).expect("an engine"),
            _hfi: hfi,
        }
    }
}

struct Rig {
    adapter: Adapter,
    bus: EmuBus,
    memory: DmaBlock,
    shared: SharedMem,
    up: Option<Up>,
}

impl Rig {
    fn step(&mut self, step: &Step) {
        let base = self.memory.iova(0);
        let adapter = &self.adapter;
        match *step {
            Step::Read { row, index } => drop(self.bus.read64(register(row, index))),
            Step::Write { row, index, value } => self.bus.write64(register(row, index), value.of(base)),
            Step::Change { row, index, bits } => {
                let at = register(row, index);
                self.bus.write64(at, self.bus.read64(at) ^ bits.of(base));
            }
            Step::ReadBytes { at, len } => adapter.bar0_read((at % PLACES).into(), &mut vec![0; len.into()]),
            Step::WriteBytes { at, data, len } => {
                adapter.bar0_write((at % PLACES).into(), data.get(..usize::from(len)).unwrap_or(&data));
            }
            Step::Block { context, block, first, head, rest } => {
                let at = match &self.up {
                    Some(up) if context < 0x80 => up.send.block_offset((block % 64).into(), first),
                    _ => {
                        let start = if first { 0x300_0000 } else { 0x200_0000 };
                        BarOff(start + 0x1_0000 * u32::from(context % 160) + 64 * u32::from(block))
                    }
                };
                let mut qwords = [rest; 8];
                qwords[0] = head;
                self.bus.write_block(at, &qwords);
            }
            Step::Descriptor { at, offset, bytes, flags, edits } => {
                let Some(up) = &self.up else { return };
                let descriptor = SdmaDesc::new(base.plus(offset.into()), bytes.into());
                let qw0 = descriptor.qw0.get() | u64::from(flags & 3) << 62;
                let qw1 = u64::from(flags >> 2) | u64::from(edits) << 13;
                let descriptor = SdmaDesc { qw0: qw0.into(), qw1: qw1.into() };
                up.engine.write_descriptor((at % 64).into(), descriptor);
            }
            Step::Doorbell { tail } => {
                if let Some(up) = &self.up {
                    up.engine.ring_doorbell(tail.into());
                }
            }
            Step::ConfigWrite { at, data, len } => {
                adapter.config_write(at, data.get(..usize::from(len)).unwrap_or(&data));
            }
            Step::ConfigRead { at, len } => adapter.config_read(at, &mut vec![0; len.into()]),
            Step::Reset => adapter.reset(),
            Step::Memory { at, value } => {
                self.memory.write_u64(at as usize % (MEMORY / 8) * 8, value.of(base));
            }
            Step::Unmap { page, pages } => {
                if pages == u8::MAX {
                    adapter.dma_unmap_all();
                } else {
                    adapter.dma_unmap(base.plus(u64::from(page) * PAGE as u64), u64::from(pages) * PAGE as u64);
                }
            }
            Step::Map { page, pages } => {
                let at = usize::from(page) * PAGE;
                let _ = adapter.dma_map(base.plus(at as u64), u64::from(pages) * PAGE as u64, self.shared.clone(), at);
            }
            Step::Inject { fault, unit, after } => {
                let faults: Vec<Fault> = Fault::all().collect();
                adapter.inject(faults[usize::from(fault) % faults.len()], unit.into(), after.into());
            }
            Step::Pass { nanos } => {
                self.bus.pause(Duration::from_nanos((nanos % 3_000_000).into()));
                // A driver on a chip that does anything.
                if let Some(up) = &mut self.up {
                    if let Some(received) = up.recv.poll() {
                        let mut payload = vec![0; received.payload_len()];
                        up.recv.copy_payload(&received, &mut payload);
                        up.recv.release();
                    }
                    let _ = (up.send.credit_return(), up.engine.head_from_memory());
                }
            }
        }
    }
}

/// A register of the catalogue.
fn register(row: u16, index: u16) -> BarOff {
    let rows = csr::all().count();
    let row = csr::all().nth(usize::from(row) % rows).expect("the catalogue isn't empty");
    row.element(u32::from(index) % row.count, u32::from(index) / row.count % row.len)
}

fuzz_target!(|input: Input| {
    opx_fuzz::log_everything();
    let adapter = opx_fuzz::adapter();
    let bus = adapter.bus();
    let up = input.up.then(|| Up::new(&adapter));
    let memory = bus.dma_alloc(MEMORY).expect("memory");
    let shared = memory.memory().clone();
    let mut rig = Rig { adapter, bus, memory, shared, up };
    for step in input.steps.iter().take(MOST_STEPS) {
        rig.step(step);
    }
    rig.bus.pause(Duration::from_millis(5));
    assert!(rig.adapter.unmodelled().len() <= 4097);
    rig.up = None;
    if input.again {
        rig.adapter.reset();
        // What the two functions of a chip share outlives a reset; what one holds there, the other waits for in vain.
        rig.bus.write64(csr::ASIC_CFG_SCRATCH.off(), 0);
        opx_fuzz::bring_up(&rig.adapter);
    }
});
