//! Any packets from other nodes at an endpoint that sends, receives into every kind of buffer, cancels, and looks at, claims and discards
//! what came unasked: never a panic, every operation ends at most once with its own buffer, what waits is bounded, nothing is written but
//! buffers until they come back and what was registered for writing, what is lent stays as it is until it is given back, and an honest
//! peer still gets its messages across.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opx_bus::{PciFunction, SharedMem};
use opx_defs::tid::Tid;
use opx_defs::units::{Lid, Psn, Vl};
use opx_defs::wire::opx::{
    Answer, Atomic as WireAtomic, Dput, DputOp, Eager, Fetch, FlowKey, Header, Immediate, Inject, Iov, MpFirst, MpNth,
    Opcode, Padding, RmaCts, RmaOp, RmaRts, Route, RzvCts, RzvData, RzvOp, RzvRts, Ud, UdOp,
};
use opx_emu::{Adapter, EmuBus, Packet};
use opx_hw::Hfi;
use opx_stack::atomics::{AtomicOp, Datatype, Op};
use opx_stack::regions::{Access, KeyChoice, MemoryRegion, Regions, RegionsConfig, Registration};
use opx_stack::{
    Address, Atomic, Buffer, Completion, Config, CopyError, DeviceMemory, DeviceRange, Endpoint, MemoryKind, Pattern,
    ReceiveId, Remote, SharedRange, Thresholds, View, Write,
};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

const MOST_STEPS: usize = 100;
/// LIDs of those who send anything; each is several flows.
const STRANGERS: u32 = 0x50;
const UNEXPECTED: usize = 32 << 10;
const OPERATIONS: usize = 24;
const ANSWERS: usize = 6;
/// What of the memory is registered, from key 1 on, and for what.
const REGIONS: [(Range<usize>, Access); 4] = [
    (8192..12_288, Access::ATOMIC),
    (12_288..20_000, Access::REMOTE_READ),
    (20_000..30_001, Access::REMOTE_WRITE),
    (30_001..32_000, Access::LOCAL_READ.union(Access::LOCAL_WRITE)),
];
const MEMORY: usize = 40_960;
/// Buffers that came back and are watched.
const RETURNED: usize = 8;
/// What a buffer holds before something is received into it.
const UNTOUCHED: u8 = 0xee;
/// Tags of the honest peer's messages; nobody else has them.
const HONEST: u64 = 0x0011_2233_4455_6677;

#[derive(Debug, Arbitrary)]
enum Step {
    Packet {
        from: From,
        kind: Kind,
    },
    /// Anything with the address, the keys and the length of a packet for the endpoint.
    Raw {
        from: From,
        opcode: u8,
        words: [u64; 4],
        payload: Vec<u8>,
    },
    Receive {
        tag: u8,
        any_tag: bool,
        from: Option<u8>,
        len: u16,
        into: Into,
    },
    /// Gives back one of those that are lent.
    GiveBack {
        which: u8,
    },
    /// An offer that a receive waits for.
    Offer {
        from: From,
        tag: u8,
        len: u16,
        buffer: u8,
    },
    /// A buffer for many untagged messages.
    MultiReceive {
        from: Option<u8>,
        len: u16,
    },
    /// Cancels one of the receives posted so far.
    Cancel {
        which: u8,
    },
    /// Looks at a message that came unasked, claims it and drops the claim, forgets it or receives it, or discards it unclaimed.
    Claim {
        tag: Option<u8>,
        then: Then,
    },
    Send {
        to: u8,
        tag: u8,
        len: u16,
        long: bool,
    },
    Inject {
        to: u8,
        tag: u8,
        len: u8,
    },
    /// What is asked of a stranger's memory.
    Request {
        to: u8,
        place: Number,
        len: u16,
        what: Asked,
    },
    Close {
        region: u8,
    },
    /// A packet whose turn it is and that may well be allowed what it asks for.
    Memory {
        who: u8,
        op: Form,
        atomic: Option<(u8, u8)>,
        key: u8,
        place: u16,
        len: u8,
    },
    Progress,
    Pass {
        micros: u16,
    },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Asked {
    Write,
    WriteWithData,
    Read,
    Atomic { op: u8, datatype: u8 },
}

/// What a receive's buffer is made of.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Into {
    Bytes,
    /// It may be lent.
    View,
    /// Memory that the adapter reaches, from this byte on.
    Reachable(u8),
    /// A device's, which the adapter reaches, or not.
    Device(u8, bool),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Then {
    Look,
    Receive { len: u16, into: Into },
    Drop,
    Forget,
    Discard,
}

/// The sender of a packet, and whether it is the packet's turn.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct From {
    who: u8,
    psn: Option<u32>,
}

#[derive(Debug, Arbitrary)]
enum Kind {
    Inject { tag: Option<u8>, len: u8 },
    Eager { tag: Option<u8>, len: u16 },
    MpFirst { tag: Option<u8>, message: u16, len: u16 },
    MpNth { offset: u16, len: u16 },
    Rts { tag: Option<u8>, len: Number, along: u16, counter: Number },
    Cts { counter: Number, cookie: Number, pieces: [Piece; 2], second: bool, truncated: bool },
    Data { cookie: Number, at: Number, len: u16, last: bool, expected: Option<(u16, u32)> },
    Dput { op: Form, atomic: Option<(u8, u8)>, name: Name, place: Number, len: u16, request: Number },
    RmaCts { grant: bool, atomic: Option<(u8, u8)>, request: Number, name: Name, iov: Piece },
    RmaRts { atomic: Option<(u8, u8)>, name: Name, request: Number, iov: Piece },
    Ud { op: u8, ours: bool, start: u32, count: u32 },
}

/// Kinds of data.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Form {
    Put,
    PutCq,
    Get,
    Fetch,
    Compare,
}

/// A region's key, or a transfer.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Name {
    Key(u8),
    Number(Number),
}

impl Name {
    fn value(self) -> u64 {
        match self {
            Self::Key(key) => u64::from(key) % (REGIONS.len() as u64 + 1),
            Self::Number(number) => number.value(),
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Piece {
    to: Number,
    from: Number,
    len: Number,
}

impl Piece {
    fn iov(self) -> Iov {
        let Self { to, from, len } = self;
        Iov { rbuf: to.value(), sbuf: from.value(), bytes: len.value(), ..Iov::default() }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Number {
    Any(u64),
    Small(u16),
    /// The name of one of the first operations.
    Operation {
        index: u8,
        generation: u8,
        kind: u8,
    },
}

impl Number {
    fn value(self) -> u64 {
        match self {
            Self::Any(value) => value,
            Self::Small(value) => value.into(),
            Self::Operation { index, generation, kind } => {
                u64::from(generation % 4 + 1) << 32 | u64::from(kind % 4) << 30 | u64::from(index % 4)
            }
        }
    }
}

struct Rig {
    adapter: Adapter,
    hfi: Hfi<EmuBus>,
    victim: Endpoint<EmuBus>,
    honest: Endpoint<EmuBus>,
    memory: SharedMem,
    regions: Vec<Option<MemoryRegion>>,
    /// PSN of each stranger's next packet.
    turns: [u32; 4],
    /// Operations under way: context and bytes of the buffer.
    under_way: HashMap<u64, usize>,
    /// The multi-receives among them.
    multi: HashMap<u64, MultiReceive>,
    posted: Vec<ReceiveId>,
    /// Messages that are lent, and what they say.
    held: Vec<(View, Vec<u8>)>,
    /// The memory around buffers of receives: it isn't theirs.
    around: HashMap<u64, Guarded>,
    /// What came back: nobody writes to it any more.
    returned: VecDeque<(Guarded, Vec<u8>)>,
    contexts: u64,
}

/// What of a multi-receive's buffer messages have filled.
struct MultiReceive {
    buffer: SharedRange,
    filled: Vec<(usize, usize)>,
    /// A message of it failed.
    failed: bool,
}

/// Memory, a part of which is a buffer.
#[derive(Clone)]
struct Guarded {
    memory: SharedMem,
    buffer: Range<usize>,
}

impl Guarded {
    /// `len` bytes from `start` on, more than a page before the end.
    fn new(start: usize, len: usize) -> Self {
        let memory = SharedMem::new(start + len + 5000).expect("memory");
        memory.write(0, &vec![UNTOUCHED; memory.len()]);
        Self { memory, buffer: start..start + len }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.memory.len()];
        self.memory.read(0, &mut bytes);
        bytes
    }

    /// Nothing was written but to the buffer.
    fn check(&self) -> Vec<u8> {
        let bytes = self.bytes();
        let around = bytes[..self.buffer.start].iter().chain(&bytes[self.buffer.end..]);
        assert!(around.copied().all(|byte| byte == UNTOUCHED), "written beside a buffer");
        bytes
    }
}

/// The memory of a device.
#[derive(Debug)]
struct Device {
    memory: SharedMem,
    reachable: bool,
}

impl DeviceMemory for Device {
    fn kind(&self) -> MemoryKind {
        MemoryKind::Device { interface: 1, device: 0 }
    }

    fn len(&self) -> usize {
        self.memory.len()
    }

    fn copy_out(&self, at: usize, to: &mut [u8]) -> Result<(), CopyError> {
        self.memory.read(at, to);
        Ok(())
    }

    fn copy_in(&self, at: usize, from: &[u8]) -> Result<(), CopyError> {
        self.memory.write(at, from);
        Ok(())
    }

    fn reachable(&self) -> Option<&SharedMem> {
        self.reachable.then_some(&self.memory)
    }
}

impl Rig {
    fn new() -> Self {
        let adapter = opx_fuzz::adapter();
        let hfi = opx_fuzz::bring_up(&adapter);
        let reliability = opx_reliability::Config {
            give_up_after: Duration::from_millis(200),
            max_flows: 8,
            max_held_per_flow: 16,
            ..Default::default()
        };
        let config = Config {
            slots: 32,
            operations: OPERATIONS,
            answers: ANSWERS,
            answer_wait: Duration::from_millis(20),
            unexpected_bytes: UNEXPECTED,
            header_entries: 256,
            eager_buffers: 8,
            eager_buffer_size: 65536,
            sdma_entries: 128,
            reliability,
            ..Config::default()
        };
        let memory = SharedMem::new(MEMORY).expect("memory");
        memory.write(0, &[UNTOUCHED; MEMORY]);
        let keys = Regions::new(RegionsConfig { limit: 8, chosen_keys: true });
        let register = |(key, (range, access)): (u64, (Range<usize>, Access))| {
            let key = KeyChoice::Chosen(key);
            Some(
                keys.register(Registration { range, key, ..Registration::of(memory.clone(), access) })
                    .expect("a region"),
            )
        };
        let regions = (1..).zip(REGIONS).map(register).collect();
        // So that short messages are asked for in expected packets.
        let thresholds = Thresholds { sdma_min: 64, tid_min: 64, ..Thresholds::default() };
        let lending = Config { lent_buffers: 2, lent_min: 8, tid_entries: 16, thresholds, ..config.clone() };
        let victim = Endpoint::open_with(&hfi, lending, keys).expect("an endpoint");
        let honest = Endpoint::open(&hfi, config).expect("another endpoint");
        Self {
            adapter,
            hfi,
            victim,
            honest,
            memory,
            regions,
            turns: [0; 4],
            under_way: HashMap::new(),
            multi: HashMap::new(),
            posted: Vec::new(),
            held: Vec::new(),
            around: HashMap::new(),
            returned: VecDeque::new(),
            contexts: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Packet { from, kind } => self.packet(*from, kind),
            Step::Raw { from, opcode, words, payload } => {
                let mut header = Header::new(&self.route(*from), Opcode::from_byte(*opcode));
                header.set_word::<4>(words[0]);
                header.set_word::<5>(words[1]);
                header.set_word::<6>(words[2]);
                header.0[14] = (words[3] as u8) << 3;
                header.set_payload_len(payload.len());
                self.arrive(*from, header, payload);
            }
            Step::Receive { tag, any_tag, from, len, into } => {
                let source = from.map(stranger);
                let pattern = Pattern { tag: u64::from(*tag % 4), ignore: if *any_tag { u64::MAX } else { 0 }, source };
                let (context, len) = self.begin((*len).into());
                let buffer = self.buffer(context, *into, len);
                match self.victim.tag_receive(pattern, buffer, context) {
                    Ok(id) => self.posted.push(id),
                    Err(_) => self.not_begun(context),
                }
            }
            Step::Offer { from, tag, len, buffer } => {
                let receive = Step::Receive {
                    tag: *tag,
                    any_tag: false,
                    from: None,
                    len: len.saturating_add((*buffer).into()),
                    into: if from.who & 0x80 == 0 { Into::Bytes } else { Into::Reachable(*tag) },
                };
                self.step(&receive);
                let (len, counter) = (Number::Small(*len), Number::Small(1));
                self.packet(*from, &Kind::Rts { tag: Some(*tag), len, along: 0, counter });
                self.progress();
            }
            Step::MultiReceive { from, len } => {
                let (context, len) = self.begin((*len).into());
                let buffer = self.range(context, 8, len);
                match self.victim.multi_receive(from.map(stranger), buffer.clone(), context) {
                    Ok(id) => {
                        self.posted.push(id);
                        self.multi.insert(context, MultiReceive { buffer, filled: Vec::new(), failed: false });
                    }
                    Err(_) => self.not_begun(context),
                }
            }
            Step::Cancel { which } => {
                if !self.posted.is_empty() {
                    let id = self.posted.swap_remove(usize::from(*which) % self.posted.len());
                    self.victim.cancel(id);
                    assert!(!self.victim.cancel(id), "cancelled twice");
                }
            }
            Step::Claim { tag, then } => self.claim(tag.map(|tag| u64::from(tag % 4)), *then),
            Step::Send { to, tag, len, long } => {
                let len = usize::from(*len) + if *long { 60_000 } else { 0 };
                let (context, len) = self.begin(len);
                if self.victim.tag_send(stranger(*to), u64::from(*tag % 4), vec![1; len], context).is_err() {
                    self.not_begun(context);
                }
            }
            Step::Inject { to, tag, len } => {
                let _ = self.victim.tag_inject(stranger(*to), u64::from(*tag % 4), &vec![2; usize::from(*len % 20)]);
            }
            Step::Request { to, place, len, what } => self.request(*to, *place, (*len).into(), *what),
            Step::Close { region } => {
                if let Some(region) = self.regions.get_mut(usize::from(*region % 4)).and_then(Option::take) {
                    assert!(region.close().is_ok(), "nothing holds it between packets");
                }
            }
            Step::Memory { who, op, atomic, key, place, len } => {
                let (place, request) = (Number::Small(*place % 4200), Number::Small(1));
                let (name, len) = (Name::Key(*key), u16::from(*len) * 8);
                let from = From { who: *who, psn: None };
                self.packet(from, &Kind::Dput { op: *op, atomic: *atomic, name, place, len, request });
                self.progress();
            }
            Step::GiveBack { which } => {
                if !self.held.is_empty() {
                    let (view, said) = self.held.swap_remove(usize::from(*which) % self.held.len());
                    assert_eq!(view.to_vec(), said, "somebody wrote to what was lent");
                }
            }
            Step::Progress => self.progress(),
            Step::Pass { micros } => {
                self.hfi.bus().pause(Duration::from_micros((*micros).into()));
                self.progress();
            }
        }
    }

    fn request(&mut self, to: u8, place: Number, len: usize, what: Asked) {
        let remote = Remote { peer: stranger(to), key: 77, place: place.value() };
        let buffer = || vec![UNTOUCHED; len];
        let (context, _) = self.begin(len);
        let done = match what {
            Asked::Write => self.victim.write(remote, buffer(), context),
            Asked::WriteWithData => {
                self.victim.write_with(Write { data: Some(1), ..Write::new(remote, buffer(), context) })
            }
            Asked::Read => self.victim.read(remote, buffer(), context),
            Asked::Atomic { op, datatype } => {
                let op = Op::from_code(op % 19).zip(Datatype::from_code(datatype % 14));
                let Some(Ok(op)) = op.map(|(op, datatype)| AtomicOp::new(op, datatype)) else {
                    self.under_way.remove(&context);
                    return;
                };
                let whole = len.next_multiple_of(op.datatype().size());
                let (buffer, total) = (|| vec![UNTOUCHED; whole], |count| whole * count);
                let (atomic, total) = if op.op().compares() {
                    (Atomic::compare(remote, op, buffer(), buffer(), buffer(), context), total(3))
                } else if op.op() == Op::Read {
                    (Atomic::fetch(remote, op, vec![], buffer(), context), total(1))
                } else if context % 2 == 0 {
                    (Atomic::fetch(remote, op, buffer(), buffer(), context), total(2))
                } else {
                    (Atomic::update(remote, op, buffer(), context), total(1))
                };
                self.under_way.insert(context, total);
                self.victim.atomic(atomic)
            }
        };
        if let Err(rejected) = done {
            assert_eq!(self.under_way.remove(&context), Some(rejected.buffer.len()));
        }
    }

    fn claim(&mut self, tag: Option<u64>, then: Then) {
        if let Then::Discard = then {
            let _ = match tag {
                Some(tag) => self.victim.tag_discard(Pattern::exact(tag)),
                None => self.victim.discard(None),
            };
            return;
        }
        let told = match tag {
            Some(tag) => self.victim.tag_peek(Pattern::exact(tag)),
            None => self.victim.peek(None),
        };
        if let Then::Look = then {
            return;
        }
        let claimed = match tag {
            Some(tag) => self.victim.tag_claim(Pattern::exact(tag)),
            None => self.victim.claim(None),
        };
        assert_eq!(claimed.as_ref().map(|claimed| *claimed.message()), told, "what was looked at is what is claimed");
        let Some(claimed) = claimed else { return };
        match then {
            Then::Forget => std::mem::forget(claimed),
            Then::Drop | Then::Discard | Then::Look => drop(claimed),
            Then::Receive { len, into } => {
                let (context, len) = self.begin(len.into());
                let buffer = self.buffer(context, into, len);
                if self.victim.receive_claimed(claimed, buffer, context).is_err() {
                    self.not_begun(context);
                }
            }
        }
    }

    fn begin(&mut self, len: usize) -> (u64, usize) {
        self.contexts += 1;
        self.under_way.insert(self.contexts, len);
        (self.contexts, len)
    }

    fn range(&mut self, context: u64, start: usize, len: usize) -> SharedRange {
        let guarded = Guarded::new(start, len);
        self.around.insert(context, guarded.clone());
        SharedRange::new(guarded.memory, start, len).expect("it is inside")
    }

    fn buffer(&mut self, context: u64, into: Into, len: usize) -> Buffer {
        match into {
            Into::Bytes => vec![UNTOUCHED; len].into(),
            Into::View => View::up_to(len).into(),
            Into::Reachable(start) => self.range(context, start.into(), len).into(),
            Into::Device(start, reachable) => {
                let guarded = Guarded::new(start.into(), len);
                self.around.insert(context, guarded.clone());
                let device = Device { memory: guarded.memory, reachable };
                DeviceRange::new(Arc::new(device), start.into(), len).expect("it is inside").into()
            }
        }
    }

    /// An operation wasn't accepted.
    fn not_begun(&mut self, context: u64) {
        self.under_way.remove(&context);
        self.around.remove(&context);
    }

    /// The way of a stranger's packet to the endpoint.
    fn route(&self, from: From) -> Route {
        let (stranger, to) = (stranger(from.who), self.victim.address());
        Route {
            slid: stranger.lid,
            primary_lid: stranger.lid,
            src_rx: stranger.rx,
            ..self.hfi.route(stranger.rx, to.lid, to.rx)
        }
    }

    fn packet(&mut self, from: From, kind: &Kind) {
        let (route, data) = (self.route(from), vec![from.who; 9000]);
        let tag = |tag: Option<u8>| tag.map(|tag| u64::from(tag % 4));
        let mut out = vec![0; 20_000];
        let encoded = match *kind {
            Kind::Inject { tag: t, len } => {
                let data = &data[..usize::from(len % 17)];
                Inject { tag: tag(t), cq_data: None, data }.encode(&route).map(|header| (header, 0))
            }
            Kind::Eager { tag: t, len } => {
                Eager::of(tag(t), None, &data[..usize::from(len % 8500)]).encode(&route, &mut out)
            }
            Kind::MpFirst { tag: t, message, len } => {
                let data = &data[..usize::from(len % 2000) * 4];
                MpFirst { tag: tag(t), cq_data: None, message_len: message, head: &[], data }.encode(&route, &mut out)
            }
            Kind::MpNth { offset, len } => {
                MpNth::of(Psn::new(0), offset.into(), &data[..usize::from(len % 8000)]).encode(&route, &mut out)
            }
            Kind::Rts { tag: t, len, along, counter } => {
                let immediate = Immediate::of(&data[..usize::from(along % 200)], along & 0x100 != 0);
                let rts = RzvRts {
                    tag: tag(t),
                    cq_data: None,
                    len: len.value(),
                    src_vaddr: 0x1000,
                    src_device: 0,
                    src_iface: 0,
                    origin_counter: counter.value(),
                    immediate,
                };
                rts.encode(&route, &mut out)
            }
            Kind::Cts { counter, cookie, pieces, second, truncated } => {
                let [one, two] = pieces.map(Piece::iov);
                let answer = if truncated {
                    Answer::Truncated
                } else {
                    let second = second.then_some(two);
                    Answer::Send { target_cookie: cookie.value(), op: RzvOp::Rzv, iov: one, second }
                };
                RzvCts { origin_counter: counter.value(), answer }.encode(&route, &mut out)
            }
            Kind::Data { cookie, at, len, last, expected } => {
                let len = usize::from(len % 8192);
                out[..len].copy_from_slice(&data[..len]);
                let packet = RzvData {
                    target_cookie: cookie.value(),
                    rbuf: at.value(),
                    len: len as u16,
                    op: RzvOp::Rzv,
                    ack_req: last,
                };
                packet.encode(&route, Padding::Qword).map(|mut header| {
                    // The first entries are those of transfers.
                    let tid = expected.and_then(|(entry, _)| Tid::of_entry(entry % 16, 1 + u32::from(entry >> 8) % 16));
                    if let (Some(tid), Some((_, offset))) = (tid, expected) {
                        let _ = header.expect(tid, offset);
                    }
                    (header, Padding::Qword.pad(len))
                })
            }
            Kind::Dput { op, atomic, name, place, len, request } => {
                let (name, place) = (name.value(), place.value());
                let operand = &data[..usize::from(len % 4000)];
                let compare = matches!(op, Form::Compare).then_some(operand);
                let op = match op {
                    Form::Put => DputOp::Put,
                    Form::PutCq => DputOp::PutCq,
                    _ => DputOp::Get,
                };
                let packet = if compare.is_some() || matches!(kind, Kind::Dput { op: Form::Fetch, .. }) {
                    let fetch = Fetch { rbuf: place, request: request.value(), operand, compare };
                    fetch.encode(wire(atomic), name, place, &mut out)
                } else {
                    let len = len % 8193;
                    out[..usize::from(len)].copy_from_slice(&data[..usize::from(len)]);
                    Ok(Dput { op, atomic: wire(atomic), name, place, len, ack_req: len % 2 == 0 })
                };
                packet.and_then(|packet| {
                    let header = packet.encode(&route, Padding::Qword)?;
                    Ok((header, Padding::Qword.pad(packet.len.into())))
                })
            }
            Kind::RmaCts { grant, atomic, request, name, iov } => {
                let op = if grant { RmaOp::PutCq } else { RmaOp::Get };
                let (request, target) = (request.value(), name.value());
                RmaCts { op, atomic: wire(atomic), request, target, iov: iov.iov() }.encode(&route, &mut out)
            }
            Kind::RmaRts { atomic, name, request, iov } => {
                let (key, request) = (name.value(), request.value());
                RmaRts { cq_data: 3, atomic: wire(atomic), key, request, iov: iov.iov() }.encode(&route, &mut out)
            }
            Kind::Ud { op, ours, start, count } => {
                let (there, here) = (stranger(from.who), self.victim.address());
                let (src, dst) = if ours { (here, there) } else { (there, here) };
                let key = FlowKey { slid: src.lid, dlid: dst.lid, src_rx: src.rx, dst_rx: dst.rx };
                let op = [UdOp::Ping, UdOp::Ack, UdOp::Nack][usize::from(op) % 3];
                Ok((Ud { op, key, start: Psn::new(start & 0xff_ffff), count }.encode(&route), 0))
            }
        };
        if let Ok((header, len)) = encoded {
            self.arrive(from, header, &out[..len]);
        }
    }

    fn arrive(&mut self, from: From, mut header: Header, payload: &[u8]) {
        if header.opcode().is_sequenced() {
            let turn = &mut self.turns[usize::from(from.who) % 4];
            let psn = from.psn.unwrap_or_else(|| {
                *turn += 1;
                *turn - 1
            });
            header.set_psn(Psn::new(psn & 0xff_ffff));
        }
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.adapter.arrive(Packet::seal(bytes, Vl(0), false, false, false));
    }

    fn progress(&mut self) {
        self.hfi.bus().pause(Duration::from_micros(1));
        for _ in 0..4 {
            self.victim.progress().expect("the adapter works");
        }
        while let Some(completion) = self.victim.poll_completion() {
            self.complete(&completion);
        }
    }

    fn complete(&mut self, completion: &Completion) {
        let (context, buffer) = match completion {
            Completion::Received { context, len, buffer: buffer @ Buffer::View(view), .. } => {
                let said = view.to_vec();
                assert!(said.len() == *len && *len <= view.room());
                if view.is_lent() {
                    self.held.push((View::clone(view), said));
                }
                (context, buffer)
            }
            Completion::Received { context, len, buffer: buffer @ (Buffer::Shared(_) | Buffer::Device(_)), .. } => {
                let Guarded { buffer: Range { start, end }, .. } = self.around[context];
                let bytes = self.around[context].check();
                assert!(
                    bytes[start + len..end].iter().all(|byte| *byte == UNTOUCHED),
                    "more than {len} bytes were written"
                );
                (context, buffer)
            }
            Completion::Received { context, len, buffer, .. } => {
                assert!(
                    buffer.bytes()[*len..].iter().all(|byte| *byte == UNTOUCHED),
                    "more than {len} bytes were written"
                );
                (context, buffer)
            }
            Completion::Sent { context, buffer }
            | Completion::Written { context, buffer }
            | Completion::Read { context, buffer }
            | Completion::Failed { context, buffer, .. } => (context, buffer),
            Completion::Fetched { context, operands, result } => {
                (context, &[operands.clone(), result.clone()].into_iter().collect())
            }
            Completion::RemoteWrite { .. } => return,
            Completion::MultiReceived { context, offset, len, .. } => {
                let multi = self.multi.get_mut(context).expect("a multi-receive that hasn't ended");
                assert!(offset + len <= multi.buffer.len(), "a message outside of the buffer");
                let apart = |other: &(usize, usize)| offset + len <= other.0 || other.0 + other.1 <= *offset;
                assert!(multi.filled.iter().all(apart), "a message over another");
                multi.filled.push((*offset, *len));
                return;
            }
            Completion::MultiReceiveFailed { context, .. } => {
                self.multi.get_mut(context).expect("a multi-receive that hasn't ended").failed = true;
                return;
            }
            Completion::MultiReceiveDone { context, buffer } => {
                let MultiReceive { filled, failed, .. } = &self.multi[context];
                let bytes = self.around[context].check();
                let bytes = &bytes[self.around[context].buffer.clone()];
                let is_filled = |at: usize| filled.iter().any(|(offset, len)| (*offset..offset + len).contains(&at));
                // What failed may have come in part.
                let untouched = |(at, byte): (usize, &u8)| *byte == UNTOUCHED || is_filled(at);
                assert!(*failed || bytes.iter().enumerate().all(untouched), "written where no message is");
                (context, buffer)
            }
            other => panic!("nobody asked for {other:?}"),
        };
        self.multi.remove(context);
        if let Some(guarded) = self.around.remove(context) {
            let bytes = guarded.check();
            self.returned.push_back((guarded, bytes));
            if self.returned.len() > RETURNED {
                self.returned.pop_front();
            }
        }
        assert_eq!(
            self.under_way.remove(context),
            Some(room(buffer)),
            "{context} ended twice, or with another's buffer"
        );
    }

    /// What nobody may write is as it was.
    fn check_memory(&self) {
        self.around.values().for_each(|guarded| drop(guarded.check()));
        for (guarded, bytes) in &self.returned {
            assert!(guarded.bytes() == *bytes, "somebody wrote to what came back");
        }
        for (view, said) in &self.held {
            assert_eq!(view.to_vec(), *said, "somebody wrote to what was lent");
        }
        let mut bytes = [0; MEMORY];
        self.memory.read(0, &mut bytes);
        let may_change = |at: &usize| {
            REGIONS.iter().any(|(range, access)| access.contains(Access::REMOTE_WRITE) && range.contains(at))
        };
        let changed = bytes.iter().enumerate().position(|(at, byte)| *byte != UNTOUCHED && !may_change(&at));
        assert_eq!(changed, None, "written there");
    }

    /// Messages of the honest peer, eager and rendezvous, both ways.
    fn honest_traffic(&mut self) {
        self.victim.cancel_all();
        self.held.clear();
        while let Some(completion) = self.victim.poll_completion() {
            self.complete(&completion);
        }
        let (here, there) = (self.victim.address(), self.honest.address());
        let lens = [40, 20_000];
        let (mut at_honest, mut at_victim) = (Vec::new(), Vec::new());
        for (n, len) in (0..).zip(lens) {
            let pattern = |source| Pattern { tag: HONEST + n, ignore: 0, source: Some(source) };
            assert!(self.victim.tag_receive(pattern(there), vec![0; len], n).is_ok());
            assert!(self.honest.tag_receive(pattern(here), vec![0; len], n).is_ok());
            assert!(self.honest.tag_send(here, HONEST + n, message(n, len), 10 + n).is_ok());
        }
        let limit = self.hfi.bus().now() + Duration::from_secs(20);
        let mut sent = 0;
        while at_victim.len() + at_honest.len() < 8 {
            let now = self.hfi.bus().now();
            assert!(now < limit, "no end: {:?} {:?}", self.victim.counters(), self.victim.reliability_counters());
            // Sends to those who never answer take up slots, until they are given up.
            if sent < 2
                && self.victim.tag_send(there, HONEST + sent, message(sent, lens[sent as usize]), 10 + sent).is_ok()
            {
                sent += 1;
            }
            let busy = self.victim.progress().expect("the adapter works") | self.honest.progress().expect("it does");
            at_victim.extend(std::iter::from_fn(|| self.victim.poll_completion()));
            at_honest.extend(std::iter::from_fn(|| self.honest.poll_completion()));
            if !busy {
                self.hfi.bus().pause(Duration::from_micros(100));
            }
        }
        for completion in at_victim.iter().chain(&at_honest) {
            match completion {
                Completion::Received { context, len, buffer, .. } => {
                    assert_eq!(buffer.bytes()[..*len], message(*context, lens[*context as usize]));
                }
                Completion::Sent { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn wire(atomic: Option<(u8, u8)>) -> WireAtomic {
    atomic.map_or(WireAtomic::NONE, |(datatype, op)| WireAtomic { datatype: datatype % 16, op: op % 20 })
}

/// What fits a buffer.
fn room(buffer: &Buffer) -> usize {
    match buffer {
        Buffer::View(view) => view.room(),
        other => other.len(),
    }
}

fn message(seed: u64, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u64 * 7 + seed) as u8).collect()
}

fn stranger(who: u8) -> Address {
    let who = who % 4;
    Address { lid: Lid(STRANGERS + u32::from(who / 2)), rx: 3 + who % 2 }
}

fuzz_target!(|steps: Vec<Step>| {
    opx_fuzz::log_everything();
    let mut rig = Rig::new();
    for step in steps.iter().take(MOST_STEPS) {
        rig.step(step);
    }
    rig.progress();
    rig.check_memory();
    rig.honest_traffic();
    rig.check_memory();
});
