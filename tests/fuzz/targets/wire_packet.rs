//! Any packets from the cable, at an adapter whose receive side is set up in every way: never a panic, no more kept than the
//! receive buffer holds, no header-queue entry that the driver can't read, and good packets still arrive.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opx_bus::{DmaBlock, PciFunction};
use opx_defs::csr;
use opx_defs::rcvarray::RcvArrayEntry;
use opx_defs::units::{BarOff, Dwords, JobKey, Lid, Pkey, RcvCtxt, Sc, Sl, Vl};
use opx_defs::wire::bth::Bth;
use opx_defs::wire::lrh::{Lrh, NextHeader};
use opx_emu::{Adapter, EmuBus, Packet};
use opx_hw::{Hfi, RecvConfig, RecvContext};
use std::time::Duration;

const MOST_STEPS: usize = 100;
/// Dwords of the longest packet that the adapter takes, more or less.
const MOST_PADDING: u16 = 2700;
const KEY: JobKey = JobKey(1);
/// First of the RcvArray entries for expected packets, far from the driver's, and bytes of each buffer.
const TIDS: u32 = 2048;
const TID_BYTES: u32 = 4096;
const TID_COUNT: u32 = 16;

#[derive(Debug, Arbitrary)]
enum Step {
    Packet(Arriving),
    /// The same packet so many times.
    Flood(Arriving, u8),
    /// The driver takes what there is in a context, and gives it back.
    Take(u8),
    /// A register that says where packets go, or that an expected packet is checked against.
    Route {
        register: u8,
        index: u8,
        value: u64,
    },
    /// A rule for packets of a kind, that looks at any places of them.
    Rule {
        index: u8,
        kind: u8,
        offsets: [u16; 4],
        widths: [u8; 2],
        matching: u32,
    },
    Pass {
        nanos: u16,
    },
}

#[derive(Debug, Arbitrary)]
struct Arriving {
    bytes: Vec<u8>,
    /// Zeros that follow.
    padding: u16,
    vl: u8,
    sc4: bool,
    bypass: bool,
    /// Bits: which parts are put right.
    tidy: u8,
    context: u8,
    opcode: u8,
}

impl Arriving {
    fn packet(&self) -> Packet {
        let tidy = |bit: u8| self.tidy & 1 << bit != 0;
        let mut bytes = self.bytes.clone();
        bytes.resize(bytes.len() + usize::from(self.padding % MOST_PADDING) * 4, 0);
        if tidy(0) {
            bytes.resize(bytes.len().next_multiple_of(4).max(20), 0);
        }
        if tidy(1) {
            bytes.resize(bytes.len().max(56), 0);
        }
        let len = bytes.len() as u32;
        if tidy(2)
            && let Some(lrh) = bytes.first_chunk_mut()
        {
            let next = if tidy(6) { NextHeader::Grh } else { NextHeader::Bth };
            let length = Dwords((len + 4) / 4);
            *lrh = Lrh { sc: Sc(self.vl), sl: Sl(0), next, dlid: Lid(1), slid: Lid(1), length }.encode();
        }
        let bth_at = if tidy(6) { 48 } else { 8 };
        if tidy(3)
            && let Some(bth) = bytes.get_mut(bth_at..).and_then(<[u8]>::first_chunk_mut)
        {
            let dest_qp = 0x80_0000 | u32::from(self.context % 4) | u32::from(self.context & 0xf0) << 7;
            *bth = Bth { opcode: self.opcode, pkey: Pkey(0x8001), dest_qp }.encode();
        }
        if tidy(4)
            && let Some(kdeth) = bytes.get_mut(bth_at + 12..bth_at + 20)
        {
            kdeth[3] = kdeth[3] & 0x3f | 1 << 6;
            kdeth[4..6].copy_from_slice(&KEY.0.to_le_bytes());
        }
        let (vl, bypass) = (Vl(if tidy(7) { 0 } else { self.vl % 16 }), self.bypass && !tidy(7));
        if tidy(5) {
            Packet::seal(bytes, vl, self.sc4, bypass, false)
        } else {
            Packet { bytes, vl, sc4: self.sc4, bypass }
        }
    }
}

struct Rig {
    adapter: Adapter,
    bus: EmuBus,
    _hfi: Hfi<EmuBus>,
    /// One that drops what it has no room for, one that lets it wait, one with buffers for expected packets.
    contexts: [RecvContext<EmuBus>; 3],
    _expected: DmaBlock,
}

impl Rig {
    fn new() -> Self {
        use csr::RCV_CTXT_CTRL as ctrl;
        let adapter = opx_fuzz::adapter();
        let hfi = opx_fuzz::bring_up(&adapter);
        let bus = adapter.bus();
        let config = RecvConfig {
            header_entries: 64,
            eager_buffers: 8,
            eager_buffer_size: 16384,
            head_batch: 8,
            job_key: KEY,
            ..RecvConfig::default()
        };
        let contexts = [(); 3].map(|()| hfi.recv_context(config).expect("a receive context"));
        let set = |context: u32, bits: u64| {
            let at = csr::RCV_CTXT_CTRL.at(context);
            bus.write64(at, bus.read64(at) | bits);
        };
        set(2, ctrl::DONT_DROP_RHQ_FULL.mask() | ctrl::DONT_DROP_EGR_FULL.mask());
        set(3, ctrl::TID_FLOW_ENABLE.mask());
        let expected = bus.dma_alloc((TID_COUNT * TID_BYTES) as usize).expect("memory");
        for entry in 0..TID_COUNT {
            let place = expected.iova((entry * TID_BYTES) as usize);
            let value = RcvArrayEntry::new(place, TID_BYTES).expect("a page");
            bus.write64(csr::RCV_ARRAY.at(TIDS + entry), value.0);
        }
        let tids = csr::RCV_TID_CTRL::TID_PAIR_CNT.put((TID_COUNT / 8).into())
            | csr::RCV_TID_CTRL::TID_BASE_INDEX.put((TIDS / 8).into());
        bus.write64(csr::RCV_TID_CTRL.at(3), tids);
        let routes = csr::RCV_CTRL::RCV_RSM_ENABLE.mask()
            | csr::RCV_CTRL::RCV_BYPASS_ENABLE.mask()
            | csr::RCV_CTRL::RCV_QP_MAP_ENABLE.mask();
        bus.write64(csr::RCV_CTRL.off(), bus.read64(csr::RCV_CTRL.off()) | routes);
        Self { adapter, bus, _hfi: hfi, contexts, _expected: expected }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Packet(arriving) => self.arrive(arriving, 1),
            Step::Flood(arriving, count) => self.arrive(arriving, *count),
            Step::Take(context) => self.take(usize::from(*context) % 3),
            Step::Route { register, index, value } => self.bus.write64(route(*register, (*index).into()), *value),
            Step::Rule { index, kind, offsets: [one, two, first, second], widths: [w1, w2], matching } => {
                use csr::RCV_RSM_SELECT as select;
                let index = u32::from(*index) % csr::RCV_RSM_CFG.count;
                let cfg = csr::RCV_RSM_CFG::PACKET_TYPE.put((*kind % 5).into())
                    | csr::RCV_RSM_CFG::ENABLE_OR_CHAIN_RSM0.mask();
                let offsets = select::FIELD1_OFFSET.put((*one).into()) | select::FIELD2_OFFSET.put((*two).into());
                let indices = select::INDEX1_OFFSET.put((*first).into()) | select::INDEX2_OFFSET.put((*second).into());
                let widths = select::INDEX1_WIDTH.put((*w1).into()) | select::INDEX2_WIDTH.put((*w2).into());
                self.bus.write64(csr::RCV_RSM_CFG.at(index), cfg);
                self.bus.write64(csr::RCV_RSM_SELECT.at(index), offsets | indices | widths);
                self.bus.write64(csr::RCV_RSM_MATCH.at(index), (*matching).into());
            }
            Step::Pass { nanos } => self.bus.pause(Duration::from_nanos((*nanos).into())),
        }
    }

    fn arrive(&mut self, arriving: &Arriving, count: u8) {
        let packet = arriving.packet();
        (0..count).take_while(|_| self.adapter.arrive(packet.clone())).for_each(drop);
    }

    fn take(&mut self, context: usize) {
        let context = &mut self.contexts[context];
        // More than a queue's worth can come, while there is room again and packets wait.
        while let Some(received) = context.poll() {
            let mut payload = vec![0; received.payload_len()];
            assert_eq!(context.copy_payload(&received, &mut payload), payload.len());
            context.release_now();
        }
        context.release_now();
    }
}

/// A register that says where packets go.
fn route(register: u8, index: u32) -> BarOff {
    const ROUTES: [&csr::Csr; 9] = [
        &csr::RCV_RSM_CFG,
        &csr::RCV_RSM_SELECT,
        &csr::RCV_RSM_MATCH,
        &csr::RCV_RSM_MAP_TABLE,
        &csr::RCV_QP_MAP_TABLE,
        &csr::RCV_BYPASS,
        &csr::RCV_MULTICAST,
        &csr::RCV_VL15,
        &csr::RCV_TID_FLOW_TABLE,
    ];
    let row = ROUTES[usize::from(register) % ROUTES.len()];
    if *row == csr::RCV_TID_FLOW_TABLE { row.element(3, index % row.len) } else { row.at(index % row.count) }
}

/// A packet that the first context takes.
fn good(context: RcvCtxt, payload: &[u8]) -> Packet {
    let arriving = Arriving {
        bytes: [&[0; 56], payload].concat(),
        padding: 0,
        vl: 0,
        sc4: false,
        bypass: false,
        tidy: 0b1011_1111,
        context: context.0 as u8,
        opcode: 0xc0,
    };
    arriving.packet()
}

fuzz_target!(|steps: Vec<Step>| {
    opx_fuzz::log_everything();
    let mut rig = Rig::new();
    for step in steps.iter().take(MOST_STEPS) {
        rig.step(step);
    }
    // Everything that waits has room in the end, however long the queue that is before it.
    for _ in 0..500 {
        rig.bus.pause(Duration::from_micros(100));
        let before = rig.adapter.counts();
        (0..3).for_each(|context| rig.take(context));
        rig.bus.pause(Duration::from_micros(100));
        if rig.adapter.counts() == before {
            break;
        }
    }
    // The routes lead nowhere special any more.
    rig.bus.write64(csr::RCV_CTRL.off(), rig.bus.read64(csr::RCV_CTRL.off()) & !csr::RCV_CTRL::RCV_RSM_ENABLE.mask());
    let payload = [0x5a; 512];
    assert!(rig.adapter.arrive(good(rig.contexts[0].number(), &payload)), "the wire is full of what nobody takes");
    rig.bus.pause(Duration::from_millis(1));
    let context = &mut rig.contexts[0];
    let received = context.poll().expect("a good packet");
    let mut got = [0; 512];
    assert_eq!((received.errors(), context.copy_payload(&received, &mut got)), (0, 512));
    assert_eq!(got, payload);
    for context in &rig.contexts {
        assert_eq!(context.counts().bad_entries, 0, "{context:?}: {:?}", context.counts());
    }
});
