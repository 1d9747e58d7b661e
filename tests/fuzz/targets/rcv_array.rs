//! Memory for expected packets, mapped, registered, dropped and mapped anew in any order while packets for it arrive: never a
//! panic, a packet for a valid buffer lands where that says, and memory that was dropped or never given is never written.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opx_bus::{PciFunction, SharedMem};
use opx_defs::flow::FlowPsn;
use opx_defs::units::{Dwords, JobKey, Lid, Pkey, RcvCtxt, Sc, Sl, Vl};
use opx_defs::wire::bth::Bth;
use opx_defs::wire::kdeth::Kdeth;
use opx_defs::wire::lrh::{Lrh, NextHeader};
use opx_emu::{Adapter, EmuBus, Packet};
use opx_hw::{ExpectedBuffer, Flow, Hfi, Memory, RecvConfig, RecvContext};
use std::cell::OnceCell;
use std::time::Duration;

const MOST_STEPS: usize = 150;
const KEY: JobKey = JobKey(1);
const PAGE: usize = 4096;
const MOST_MEMORIES: usize = 6;
const MOST_BUFFERS: usize = 12;
const MOST_PAYLOAD: usize = 2048;
/// What memory holds that nobody has written, and what packets carry: 0x80 and more.
const CLEAN: u8 = 0x11;

#[derive(Debug, Arbitrary)]
enum Step {
    /// New memory, of the adapter's making or the caller's.
    Make {
        pages: u8,
        own: bool,
    },
    /// The same memory is mapped once more.
    MapAgain {
        memory: u8,
    },
    /// The adapter is to reach it no more. `wholly`: nor is the process, so that its address may be that of the next one.
    Drop {
        memory: u8,
        wholly: bool,
    },
    Expect {
        context: u8,
        memory: u8,
        from: u16,
        len: u16,
    },
    DropBuffer {
        buffer: u8,
    },
    Forget {
        context: u8,
        memory: u8,
        from: u16,
        len: u16,
    },
    Flow {
        context: u8,
        suppress: bool,
    },
    Rearm {
        flow: u8,
    },
    Advance {
        flow: u8,
        seq: u16,
    },
    DropFlow {
        flow: u8,
    },
    /// A packet for a place in a buffer, as an honest sender makes it.
    Packet {
        buffer: u8,
        at: u16,
        len: u8,
        flow: u8,
        psn: Psn,
        suppress: bool,
    },
    /// Any packet to a context.
    Wild {
        context: u8,
        kdeth: u32,
        psn: u32,
        flow: u8,
        len: u8,
    },
    Take {
        context: u8,
    },
    Recover {
        context: u8,
    },
    /// The context is closed and another one made; its buffers and flows stay.
    Reopen {
        context: u8,
    },
}

#[derive(Debug, Arbitrary)]
enum Psn {
    Next,
    Any { generation: u8, seq: u16 },
}

/// Memory of the caller's, and whether the adapter may have written to it.
struct Place {
    shared: SharedMem,
    memory: Option<Memory>,
    /// It was given to a context since it was clean.
    given: bool,
}

impl Place {
    fn is_clean(&self) -> bool {
        self.shared
            .words()
            .iter()
            .all(|word| word.load(std::sync::atomic::Ordering::Relaxed).to_ne_bytes() == [CLEAN; 8])
    }

    fn clean(&mut self) {
        self.shared.write(0, &vec![CLEAN; self.shared.len()]);
        self.given = false;
    }
}

/// A buffer, the context it is of, and where it lies.
struct Buffer {
    buffer: ExpectedBuffer<EmuBus>,
    context: RcvCtxt,
    generation: u32,
    shared: SharedMem,
    from: usize,
}

/// A context and how often its place was filled anew.
struct Context {
    recv: RecvContext<EmuBus>,
    generation: u32,
}

thread_local! {
    static ADAPTER: OnceCell<(Adapter, Hfi<EmuBus>)> = const { OnceCell::new() };
}

struct Rig<'a> {
    adapter: &'a Adapter,
    hfi: &'a Hfi<EmuBus>,
    /// One whose packets go through flows, and one whose don't.
    contexts: [Option<Context>; 2],
    places: Vec<Place>,
    buffers: Vec<Buffer>,
    flows: Vec<(Flow<EmuBus>, usize, u16)>,
    fill: u8,
}

fn config(which: usize) -> RecvConfig {
    RecvConfig {
        header_entries: 64,
        eager_buffers: 8,
        eager_buffer_size: 16384,
        expected_entries: 16,
        // Less than all memory, so that some is given up.
        expected_bytes: 40 * PAGE as u64,
        flows: which == 0,
        head_batch: 8,
        ..RecvConfig::default()
    }
}

fn index(number: u8, len: usize) -> Option<usize> {
    usize::from(number).checked_rem(len)
}

impl<'a> Rig<'a> {
    fn new(adapter: &'a Adapter, hfi: &'a Hfi<EmuBus>) -> Self {
        let contexts = [0, 1].map(|which| {
            let recv = hfi.recv_context(config(which)).expect("the contexts of the input before were given back");
            Some(Context { recv, generation: 0 })
        });
        Self { adapter, hfi, contexts, places: Vec::new(), buffers: Vec::new(), flows: Vec::new(), fill: 0 }
    }

    fn context(&self, number: u8) -> &Context {
        self.contexts[usize::from(number) % 2].as_ref().expect("there are always two")
    }

    fn settle(&self) {
        self.hfi.bus().pause(Duration::from_micros(20));
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Make { pages, own } => self.make(usize::from(pages % 16 + 1) * PAGE, own),
            Step::MapAgain { memory } => {
                let Some(at) = index(memory, self.places.len()) else { return };
                let shared = self.places[at].shared.clone();
                let memory = self.hfi.map(&shared).expect("it can be mapped more than once");
                // The mapping of before goes.
                self.places[at].memory = Some(memory);
            }
            Step::Drop { memory, wholly } => self.drop_memory(memory, wholly),
            Step::Expect { context, memory, from, len } => self.expect(context, memory, from.into(), len.into()),
            Step::DropBuffer { buffer } => {
                if let Some(at) = index(buffer, self.buffers.len()) {
                    self.buffers.swap_remove(at);
                }
            }
            Step::Forget { context, memory, from, len } => {
                let Some(at) = index(memory, self.places.len()) else { return };
                let range = usize::from(from)..usize::from(from) + usize::from(len);
                if let Some(memory) = &self.places[at].memory {
                    self.context(context).recv.forget(memory, range);
                }
            }
            Step::Flow { context, suppress } => {
                let which = usize::from(context) % 2;
                match self.context(context).recv.flow(suppress) {
                    Ok(flow) => self.flows.push((flow, which, 0)),
                    Err(_) => assert!(which == 1 || self.flows.len() >= 32, "there are 32 flows"),
                }
            }
            Step::Rearm { flow } => {
                if let Some(at) = index(flow, self.flows.len())
                    && let Ok(psn) = self.flows[at].0.rearm()
                {
                    self.flows[at].2 = psn.seq;
                }
            }
            Step::Advance { flow, seq } => {
                if let Some(at) = index(flow, self.flows.len())
                    && let Ok(psn) = self.flows[at].0.advance(seq)
                {
                    self.flows[at].2 = psn.seq;
                }
            }
            Step::DropFlow { flow } => {
                if let Some(at) = index(flow, self.flows.len()) {
                    self.flows.swap_remove(at);
                }
            }
            Step::Packet { buffer, at, len, flow, ref psn, suppress } => {
                self.send(buffer, at, len, flow, psn, suppress)
            }
            Step::Wild { context, kdeth, psn, flow, len } => {
                let to = self.context(context).recv.number();
                let kdeth = Kdeth { dw0: kdeth & 0x3fff_ffff | 1 << 30, dw1: KEY.0.into() };
                self.arrive(to, flow % 32, psn, kdeth, &vec![0xff; usize::from(len) * 8]);
            }
            Step::Take { context } => self.take(usize::from(context) % 2),
            Step::Recover { context } => {
                let context = self.contexts[usize::from(context) % 2].as_mut().expect("there are always two");
                context.recv.recover().expect("the chip is well");
            }
            Step::Reopen { context } => self.reopen(usize::from(context) % 2),
        }
    }

    fn make(&mut self, len: usize, own: bool) {
        if self.places.len() >= MOST_MEMORIES {
            return;
        }
        let (shared, memory) = if own {
            let memory = self.hfi.memory(len).expect("there is memory");
            (memory.memory().clone(), memory)
        } else {
            let shared = SharedMem::new(len).expect("there is memory");
            let memory = self.hfi.map(&shared).expect("it can be mapped");
            (shared, memory)
        };
        let mut place = Place { shared, memory: Some(memory), given: false };
        place.clean();
        self.places.push(place);
    }

    fn drop_memory(&mut self, memory: u8, wholly: bool) {
        let Some(at) = index(memory, self.places.len()) else { return };
        let place = &mut self.places[at];
        place.memory = None;
        for buffer in &self.buffers {
            assert!(
                buffer.shared.address() != place.shared.address() || !buffer.buffer.is_valid(),
                "valid without memory"
            );
        }
        // From here on nothing may write there.
        place.clean();
        if wholly {
            let address = place.shared.address();
            self.buffers.retain(|buffer| buffer.shared.address() != address);
            self.places.swap_remove(at);
        }
    }

    fn expect(&mut self, context: u8, memory: u8, from: usize, len: usize) {
        let Some(at) = index(memory, self.places.len()) else { return };
        let place = &self.places[at];
        let Some(memory) = &place.memory else { return };
        if self.buffers.len() >= MOST_BUFFERS {
            return;
        }
        let Context { recv, generation } = self.context(context);
        let from = from % place.shared.len();
        let Ok(buffer) = recv.expect(memory, from..from + len) else {
            return;
        };
        assert!(len > 0 && from + len <= place.shared.len(), "more than there is");
        assert!(buffer.is_valid());
        let room: usize = buffer.tids().iter().map(|tid| tid.bytes() as usize).sum();
        assert!(room >= buffer.offset() as usize + len, "its TIDs don't cover it");
        let shared = place.shared.clone();
        let buffer = Buffer { buffer, context: recv.number(), generation: *generation, shared, from };
        self.buffers.push(buffer);
        self.places[at].given = true;
    }

    fn send(&mut self, buffer: u8, at: u16, len: u8, flow: u8, psn: &Psn, suppress: bool) {
        let Some(which) = index(buffer, self.buffers.len()) else { return };
        let target = &self.buffers[which];
        let at = usize::from(at) % target.buffer.len() & !3;
        // Which TID, and where in it.
        let mut offset = (target.buffer.offset() as usize + at) as u32;
        let mut tids = target.buffer.tids().iter();
        let Some(tid) = tids.find(|tid| {
            let inside = offset < tid.bytes();
            offset -= if inside { 0 } else { tid.bytes() };
            inside
        }) else {
            panic!("byte {at} is behind no TID");
        };
        let len = (usize::from(len) * 8).min(target.buffer.len() - at).min((tid.bytes() - offset) as usize) & !3;
        let Some(kdeth) = Kdeth::expected(KEY, *tid, offset) else { return };
        let kdeth = if suppress { kdeth.suppress() } else { kdeth };
        self.fill = self.fill.wrapping_add(1);
        let payload = vec![self.fill | 0x80; len.min(MOST_PAYLOAD)];
        let through = index(flow, self.flows.len());
        let (flow, bits) = match (through, psn) {
            (Some(at), Psn::Next) => {
                let (flow, _, seq) = &self.flows[at];
                (flow.index(), FlowPsn { generation: flow.generation(), seq: *seq }.bits())
            }
            (_, Psn::Any { generation, seq }) => {
                let index = through.map_or(flow % 32, |at| self.flows[at].0.index());
                (index, FlowPsn { generation: (*generation).into(), seq: *seq }.bits())
            }
            (None, Psn::Next) => (flow % 32, 0),
        };
        if let (Some(at), Psn::Next) = (through, psn) {
            self.flows[at].2 = self.flows[at].2.wrapping_add(1) & FlowPsn::MAX_SEQ;
        }
        let (context, from) = (target.context, target.from + at);
        // Where nothing but the TID decides, it has to get there. The number may be a newer context's by now.
        let current = self.contexts[1].as_ref().expect("there are always two");
        let sure =
            current.recv.number() == context && current.generation == target.generation && target.buffer.is_valid();
        let shared = target.shared.clone();
        self.take(1);
        self.arrive(context, flow, bits, kdeth, &payload);
        if sure {
            let mut found = vec![0; payload.len()];
            shared.read(from, &mut found);
            assert_eq!(found, payload, "at {from}");
        }
    }

    fn arrive(&self, to: RcvCtxt, flow: u8, psn: u32, kdeth: Kdeth, payload: &[u8]) {
        let length = Dwords((56 + payload.len() as u32 + 4) / 4);
        let lrh = Lrh { sc: Sc(0), sl: Sl(0), next: NextHeader::Bth, dlid: Lid(1), slid: Lid(1), length };
        let dest_qp = 0x80_0000 | u32::from(flow) << 11 | u32::from(to.0);
        let mut bytes = vec![0; 56];
        bytes[..8].copy_from_slice(&lrh.encode());
        bytes[8..16].copy_from_slice(&Bth { opcode: 0xc2, pkey: Pkey(0x8001), dest_qp }.encode());
        bytes[16..20].copy_from_slice(&psn.to_be_bytes());
        bytes[20..28].copy_from_slice(&kdeth.encode());
        bytes.extend(payload);
        self.adapter.arrive(Packet::seal(bytes, Vl(0), false, false, false));
        self.settle();
        self.check();
    }

    fn take(&mut self, which: usize) {
        let recv = &mut self.contexts[which].as_mut().expect("there are always two").recv;
        for _ in 0..64 {
            if recv.poll().is_none() {
                break;
            }
            recv.release_now();
        }
        assert_eq!(recv.counts().bad_entries, 0);
    }

    fn reopen(&mut self, which: usize) {
        let Some(old) = self.contexts[which].take() else { return };
        let generation = old.generation + 1;
        drop(old);
        let of_it =
            |buffer: &&Buffer| self.contexts.iter().flatten().all(|other| other.recv.number() != buffer.context);
        assert!(self.buffers.iter().filter(of_it).all(|buffer| !buffer.buffer.is_valid()), "valid without a context");
        let recv = self.hfi.recv_context(config(which)).expect("the one before was given back");
        self.contexts[which] = Some(Context { recv, generation });
        // What nobody expects any more isn't written either; flows of before don't count.
        self.flows.retain(|(_, of, _)| *of != which);
    }

    /// Memory that no context was ever given, or that was taken away, is as it was.
    fn check(&self) {
        for place in &self.places {
            assert!(
                place.given && place.memory.is_some() || place.is_clean(),
                "{:#x} was written",
                place.shared.address()
            );
        }
    }
}

fuzz_target!(|steps: Vec<Step>| {
    opx_fuzz::log_everything();
    ADAPTER.with(|cell| {
        let (adapter, hfi) = cell.get_or_init(|| {
            let adapter = opx_fuzz::adapter();
            let hfi = opx_fuzz::bring_up(&adapter);
            (adapter, hfi)
        });
        let mut rig = Rig::new(adapter, hfi);
        for step in steps.iter().take(MOST_STEPS) {
            rig.step(step);
        }
        // All memory goes before its contexts do; what is on its way finds nothing.
        for place in &mut rig.places {
            place.memory = None;
            place.clean();
        }
        rig.settle();
        rig.check();
        assert!(rig.buffers.iter().all(|buffer| !buffer.buffer.is_valid()));
    });
});
