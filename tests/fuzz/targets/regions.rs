//! One-sided packets of a peer's against memory regions, beside a plain model of them: what is granted is done to the byte, what
//! isn't changes nothing.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opx_bus::SharedMem;
use opx_defs::units::{JobKey, Lid, Pkey, Sc, Sl};
use opx_defs::wire::opx::{
    Atomic, Dput, DputOp, Fetch, Generation, Header, Iov, Packet, Padding, RmaCts, RmaOp, Route,
};
use opx_stack::atomics::{AtomicOp, Datatype, Op};
use opx_stack::regions::{
    Access, Base, Closing, KeyChoice, MemoryRegion, RegionSlice, Regions, RegionsConfig, Registration,
};
use std::collections::HashMap;
use std::ops::Range;

const LIMIT: usize = 6;
const BYTES: usize = 4096;

/// What the owner or a peer does.
#[derive(Debug, Arbitrary)]
enum Step {
    Register {
        start: u16,
        len: u16,
        access: u8,
        address: bool,
        chosen: Option<u8>,
    },
    Close(u8),
    /// The adapter goes on using a part of a region, or ends.
    Hold(u8),
    Release,
    Put {
        key: Key,
        place: Place,
        atomic: (u8, u8),
        data: Operand,
    },
    Fetch {
        key: Key,
        place: Place,
        atomic: (u8, u8),
        operand: Operand,
        compare: Option<[u8; 8]>,
    },
    Get {
        key: Key,
        place: Place,
        atomic: (u8, u8),
        len: u16,
    },
    /// Any bytes with a live key in the two places where a packet has one.
    Bytes {
        header: [u8; 20],
        key: Key,
        payload: Vec<u8>,
    },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Key {
    Live(u8),
    Stale(u8),
    Any(u64),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Place {
    /// From the region's beginning.
    Near(u16),
    Before(u8),
    Any(u64),
}

/// Some elements, or as many bytes as it says, from a few.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct Operand {
    len: u8,
    bytes: [u8; 8],
}

impl Operand {
    fn bytes(self, atomic: Atomic) -> Vec<u8> {
        let len = usize::from(self.len);
        let len = match Datatype::from_code(atomic.datatype) {
            Some(datatype) if len < 0xe0 => (len % 7 + 1) * datatype.size(),
            _ => len,
        };
        (0..len).map(|i| self.bytes[i % 8]).collect()
    }
}

#[derive(Debug, Clone)]
struct Known {
    range: Range<usize>,
    access: Access,
    base: u64,
}

/// The memory and its regions as plain as can be.
struct Model {
    image: Vec<u8>,
    known: HashMap<u64, Known>,
}

impl Model {
    fn find(&mut self, key: u64, place: u64, len: usize, access: Access) -> Option<&mut [u8]> {
        let Known { range, access: granted, base } = self.known.get(&key)?;
        let start = u128::from(place).checked_sub(u128::from(*base))?;
        if start + len as u128 > range.len() as u128 || !granted.contains(access) {
            return None;
        }
        self.image.get_mut(range.start + start as usize..range.start + start as usize + len)
    }

    /// What a packet is answered, if it is served; what it asks for has been done then.
    fn serve(&mut self, packet: &Packet<'_>) -> Option<Vec<u8>> {
        match *packet {
            Packet::Dput(dput @ Dput { op: DputOp::Put, .. }, data) => {
                let target = self.find(dput.name, dput.place, data.len(), Access::REMOTE_WRITE)?;
                if dput.atomic.is_none() {
                    target.copy_from_slice(data);
                } else {
                    AtomicOp::from_wire(dput.atomic).ok()?.apply(target, data).ok()?;
                }
                Some(Vec::new())
            }
            Packet::Dput(dput, data) => {
                let fetch = Fetch::decode(&dput, data).ok()?;
                let op = AtomicOp::from_wire(dput.atomic).ok()?;
                let target = self.find(dput.name, dput.place, fetch.operand.len(), Access::ATOMIC)?;
                let mut result = vec![0; target.len()];
                match fetch.compare {
                    None => op.fetch_apply(target, fetch.operand, &mut result).ok()?,
                    Some(compare) => op.compare(target, compare, fetch.operand, &mut result).ok()?,
                }
                Some(result)
            }
            Packet::RmaCts(RmaCts { op: RmaOp::Get, target, iov, .. }) => {
                let len = usize::try_from(iov.bytes).ok().filter(|len| *len <= BYTES)?;
                self.find(target, iov.sbuf, len, Access::REMOTE_READ).map(|bytes| bytes.to_vec())
            }
            _ => None,
        }
    }
}

/// What a target does with a packet.
fn serve(regions: &Regions, packet: &Packet<'_>) -> Option<Vec<u8>> {
    match *packet {
        Packet::Dput(dput @ Dput { op: DputOp::Put, .. }, data) => {
            let target = regions.lookup(dput.name, dput.place, data.len() as u64, Access::REMOTE_WRITE).ok()?;
            if dput.atomic.is_none() {
                target.write(0, data).ok()?;
            } else {
                target.apply(&AtomicOp::from_wire(dput.atomic).ok()?, data).ok()?;
            }
            Some(Vec::new())
        }
        Packet::Dput(dput, data) => {
            let fetch = Fetch::decode(&dput, data).ok()?;
            let op = AtomicOp::from_wire(dput.atomic).ok()?;
            let target = regions.lookup(dput.name, dput.place, fetch.operand.len() as u64, Access::ATOMIC).ok()?;
            let mut result = vec![0; target.len()];
            match fetch.compare {
                None => target.fetch_apply(&op, fetch.operand, &mut result).ok()?,
                Some(compare) => target.compare(&op, compare, fetch.operand, &mut result).ok()?,
            }
            Some(result)
        }
        Packet::RmaCts(RmaCts { op: RmaOp::Get, atomic, target, iov, .. }) => {
            let source = regions.lookup(target, iov.sbuf, iov.bytes, Access::REMOTE_READ).ok()?;
            let mut result = vec![0; source.len()];
            match AtomicOp::from_wire(atomic) {
                // Whole elements together; a read that isn't one of elements is a plain one.
                Ok(op) if op.op() == Op::Read && source.fetch_apply(&op, &[], &mut result).is_ok() => {}
                _ => source.read(0, &mut result).ok()?,
            }
            Some(result)
        }
        _ => None,
    }
}

fn route(generation: Generation) -> Route {
    Route {
        slid: Lid(1),
        dlid: Lid(9),
        primary_lid: Lid(1),
        src_rx: 5,
        dst_rx: 7,
        sc: Sc(3),
        sl: Sl(2),
        pkey: Pkey(0xffff),
        job_key: JobKey(7),
        qp_prefix: 0x80,
        generation,
    }
}

/// Numbers near those there are, so that most exist, and those of no atomic.
fn numbers((datatype, op): (u8, u8)) -> Atomic {
    match datatype % 17 {
        16 => Atomic::NONE,
        datatype => Atomic { datatype, op: op % 20 },
    }
}

struct World {
    regions: Regions,
    memory: SharedMem,
    /// With a number of its own: a chosen key may be had again.
    live: Vec<(usize, MemoryRegion)>,
    registered: usize,
    stale: Vec<u64>,
    held: Vec<(usize, RegionSlice)>,
    closing: Vec<(usize, Closing)>,
    model: Model,
}

impl World {
    fn new() -> Self {
        let memory = SharedMem::new(BYTES).expect("memory");
        let image: Vec<u8> = (0..BYTES).map(|i| (i * 7 + 3) as u8).collect();
        memory.write(0, &image);
        Self {
            regions: Regions::new(RegionsConfig { limit: LIMIT, chosen_keys: true }),
            memory,
            live: Vec::new(),
            registered: 0,
            stale: Vec::new(),
            held: Vec::new(),
            closing: Vec::new(),
            model: Model { image, known: HashMap::new() },
        }
    }

    fn key(&self, key: Key) -> u64 {
        match key {
            Key::Live(index) if !self.live.is_empty() => self.live[usize::from(index) % self.live.len()].1.key(),
            Key::Stale(index) if !self.stale.is_empty() => self.stale[usize::from(index) % self.stale.len()],
            Key::Live(key) | Key::Stale(key) => u64::from(key),
            Key::Any(key) => key,
        }
    }

    /// How many slices of a region are held.
    fn users(&self, number: usize) -> usize {
        self.held.iter().filter(|(of, _)| *of == number).count()
    }

    fn place(&self, key: u64, place: Place) -> u64 {
        let base = self.model.known.get(&key).map_or(0, |known| known.base);
        match place {
            Place::Near(offset) => base.wrapping_add(u64::from(offset) % (BYTES as u64 + 64)),
            Place::Before(bytes) => base.wrapping_sub(u64::from(bytes)),
            Place::Any(place) => place,
        }
    }

    fn step(&mut self, generation: Generation, step: Step) {
        let route = route(generation);
        let mut out = vec![0; 1024];
        match step {
            Step::Register { start, len, access, address, chosen } => {
                let start = usize::from(start) % (BYTES + 64);
                let range = start..start + usize::from(len) % (BYTES + 64);
                let (access, base) =
                    (Access::from_bits_truncate(access), if address { Base::Address } else { Base::Offset });
                let key = chosen.map_or(KeyChoice::Unguessable, |key| KeyChoice::Chosen(u64::from(key)));
                let registration =
                    Registration { memory: self.memory.clone().into(), range: range.clone(), access, base, key };
                let taken = chosen.is_some_and(|key| self.model.known.contains_key(&u64::from(key)));
                let possible = range.end <= BYTES && self.model.known.len() < LIMIT && !taken;
                match self.regions.register(registration) {
                    Ok(region) => {
                        assert!(possible);
                        let base = if address { self.memory.address() + range.start as u64 } else { 0 };
                        self.model.known.insert(region.key(), Known { range, access, base });
                        self.stale.retain(|key| *key != region.key());
                        self.registered += 1;
                        self.live.push((self.registered, region));
                    }
                    Err(error) => assert!(!possible, "{error}"),
                }
            }
            Step::Close(index) if !self.live.is_empty() => {
                let (number, region) = self.live.swap_remove(usize::from(index) % self.live.len());
                self.model.known.remove(&region.key());
                self.stale.push(region.key());
                let users = self.users(number);
                match region.close() {
                    Ok(_) => assert_eq!(users, 0),
                    Err(closing) => {
                        assert_eq!(closing.users(), users);
                        self.closing.push((number, closing));
                    }
                }
            }
            Step::Hold(index) if !self.live.is_empty() => {
                let (number, region) = &self.live[usize::from(index) % self.live.len()];
                let slice = region.slice(0, region.len() as u64, region.access()).expect("it is all of it");
                self.held.push((*number, slice));
            }
            Step::Release => {
                self.held.pop();
                for (number, closing) in std::mem::take(&mut self.closing) {
                    match closing.finish() {
                        Ok(_) => assert_eq!(self.users(number), 0),
                        Err(closing) => {
                            assert_eq!(closing.users(), self.users(number));
                            self.closing.push((number, closing));
                        }
                    }
                }
            }
            Step::Close(_) | Step::Hold(_) => {}
            Step::Put { key, place, atomic, data } => {
                let name = self.key(key);
                let atomic = numbers(atomic);
                let (place, data) = (self.place(name, place), data.bytes(atomic));
                let dput = Dput { op: DputOp::Put, atomic, name, place, len: data.len() as u16, ack_req: true };
                let Ok(header) = dput.encode(&route, Padding::Block) else { return assert!(data.is_empty()) };
                out[..data.len()].copy_from_slice(&data);
                self.packet(generation, &header, &out);
            }
            Step::Fetch { key, place, atomic, operand, compare } => {
                let name = self.key(key);
                let atomic = numbers(atomic);
                let (place, compare) =
                    (self.place(name, place), compare.map(|bytes| Operand { bytes, ..operand }.bytes(atomic)));
                let operand = operand.bytes(atomic);
                let fetch = Fetch { rbuf: 1, request: 2, operand: &operand, compare: compare.as_deref() };
                let Ok(dput) = fetch.encode(atomic, name, place, &mut out) else {
                    return assert!(operand.is_empty());
                };
                let header = dput.encode(&route, Padding::Block).expect("there are operands");
                self.packet(generation, &header, &out);
            }
            Step::Get { key, place, atomic, len } => {
                let target = self.key(key);
                let iov = Iov { rbuf: 1, sbuf: self.place(target, place), bytes: u64::from(len), ..Iov::default() };
                let cts = RmaCts { op: RmaOp::Get, atomic: numbers(atomic), request: 2, target, iov };
                let (header, len) = cts.encode(&route, &mut out).expect("there is room");
                self.packet(generation, &header, &out[..len]);
            }
            Step::Bytes { header: bytes, key, payload } => {
                let mut header = Dput {
                    op: DputOp::Put,
                    atomic: Atomic::NONE,
                    name: self.key(key),
                    place: 0,
                    len: 8,
                    ack_req: false,
                }
                .encode(&route, Padding::Qword)
                .expect("there is data");
                let [opcode, h4 @ .., length, flip] = bytes;
                header.0[8] = if flip & 1 == 0 { 0xc1 } else { 0xc2 };
                if flip & 2 != 0 {
                    header.0[8] = opcode;
                }
                header.0[5] = length;
                // What the packet is and where it goes; a key there too.
                let (h4, h6) = h4.split_at(8);
                header.0[32..40].copy_from_slice(h4);
                header.0[48..56].copy_from_slice(&h6[..8]);
                if flip & 4 != 0 {
                    header.set_word::<6>(self.key(key));
                }
                self.packet(generation, &header, &payload);
            }
        }
    }

    fn packet(&mut self, generation: Generation, header: &Header, payload: &[u8]) {
        let Ok(packet) = Packet::decode_in(generation, header, payload) else { return };
        let (answer, must) = (serve(&self.regions, &packet), self.model.serve(&packet));
        assert_eq!(answer, must, "{packet:?}");
    }
}

fuzz_target!(|input: (u8, Vec<Step>)| {
    let generation = Generation::ALL[usize::from(input.0) % 4];
    let mut world = World::new();
    for step in input.1.into_iter().take(64) {
        world.step(generation, step);
        assert_eq!(world.regions.len(), world.model.known.len());
        let mut have = vec![0; BYTES];
        world.memory.read(0, &mut have);
        assert!(have == world.model.image, "memory differs from the model's");
    }
});
