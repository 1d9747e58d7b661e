//! Regions against a plain model, among threads, and to their end.

use super::*;
use crate::atomics::{AtomicOp, Datatype, Op};
use opx_bus::DmaBlock;
use opx_bus::dma::DmaUnmap;
use opx_defs::units::Iova;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

fn regions() -> Regions {
    Regions::new(RegionsConfig { limit: 64, chosen_keys: true })
}

fn region(regions: &Regions, access: Access) -> MemoryRegion {
    regions.register(Registration::of(SharedMem::new(4096).unwrap(), access)).unwrap()
}

fn op(op: Op, datatype: Datatype) -> AtomicOp {
    AtomicOp::new(op, datatype).unwrap()
}

#[test]
fn keys_are_drawn_and_do_not_come_back() {
    let regions = regions();
    let mut seen = HashSet::new();
    for _ in 0..1000 {
        let region = region(&regions, Access::ATOMIC);
        let key = region.key();
        assert!(regions.lookup(key, 0, 1, Access::REMOTE_READ).is_ok());
        assert!(seen.insert(key), "{key:x} came twice");
        assert!(!format!("{region:?}").contains(&format!("{key}")), "the key is nobody's business");
        drop(region);
        assert_eq!(regions.lookup(key, 0, 1, Access::REMOTE_READ).unwrap_err(), RegionError::UnknownKey { key });
    }
    // Each bit is 0 in some and 1 in others: none tells where a region lies.
    let (ones, zeros) = seen.iter().fold((0, 0), |(ones, zeros), key| (ones | key, zeros | !key));
    assert_eq!((ones, zeros), (u64::MAX, u64::MAX));
    assert!(regions.is_empty());
}

#[test]
fn chosen_keys_are_refused_when_taken_and_unless_allowed() {
    let registration = |key| Registration {
        key: KeyChoice::Chosen(key),
        ..Registration::of(SharedMem::new(1).unwrap(), Access::REMOTE_READ)
    };
    let regions = regions();
    let first = regions.register(registration(0)).unwrap();
    assert_eq!(first.key(), 0);
    assert_eq!(regions.register(registration(0)).unwrap_err(), RegisterError::KeyTaken(0));
    assert_eq!(regions.register(registration(u64::MAX)).unwrap_err(), RegisterError::KeyUnusable(u64::MAX));
    drop(first);
    let again = regions.register(registration(0)).unwrap();
    assert!(regions.lookup(again.key(), 0, 8, Access::REMOTE_READ).is_ok());

    let drawn = Regions::new(RegionsConfig::default());
    assert_eq!(drawn.register(registration(7)).unwrap_err(), RegisterError::NotChosen(7));
}

#[test]
fn there_are_no_more_than_the_limit() {
    let regions = Regions::new(RegionsConfig { limit: 3, chosen_keys: false });
    let memory = SharedMem::new(4096).unwrap();
    let add = || regions.register(Registration::of(memory.clone(), Access::all()));
    let mut held: Vec<_> = (0..3).map(|_| add().unwrap()).collect();
    assert_eq!(add().unwrap_err(), RegisterError::Full { limit: 3 });
    held.pop();
    assert!(add().is_ok());
    assert_eq!(
        Regions::new(RegionsConfig { limit: 0, chosen_keys: false })
            .register(Registration::of(memory, Access::all()))
            .unwrap_err(),
        RegisterError::Full { limit: 0 }
    );
}

#[test]
fn no_limit_is_higher_than_the_highest() {
    let regions = Regions::new(RegionsConfig { limit: usize::MAX, chosen_keys: false });
    regions.register(Registration::of(SharedMem::new(4096).unwrap(), Access::all())).unwrap();
}

#[test]
fn a_place_before_a_region_is_told_as_that() {
    let regions = regions();
    let registration = Registration::of(SharedMem::new(4096).unwrap(), Access::all());
    let region = regions.register(Registration { base: Base::Address, ..registration }).unwrap();
    let (key, base) = (region.key(), region.base());
    for len in [1, 2] {
        let found = regions.lookup(key, base - 1, len, Access::REMOTE_READ);
        assert_eq!(found.unwrap_err(), RegionError::Before { key, place: base - 1, base });
    }
}

#[test]
fn a_range_is_one_of_the_memory() {
    let memory = SharedMem::new(4096).unwrap();
    for (start, end) in [(0, 4097), (4097, 4097), (8, 4), (0, usize::MAX)] {
        let wrong = Registration { range: start..end, ..Registration::of(memory.clone(), Access::all()) };
        assert_eq!(regions().register(wrong).unwrap_err(), RegisterError::Range { start, end, len: 4096 });
    }
}

#[test]
fn a_region_ends_when_its_last_user_does() {
    let regions = regions();
    let region = region(&regions, Access::all());
    let key = region.key();
    let slice = regions.lookup(key, 0, 8, Access::all()).unwrap();
    let own = region.slice(8, 8, Access::LOCAL_READ).unwrap();
    let closing = region.close().unwrap_err();
    assert_eq!(closing.users(), 2);
    // The key is dead, the memory isn't.
    assert_eq!(regions.lookup(key, 0, 8, Access::all()).unwrap_err(), RegionError::UnknownKey { key });
    assert_eq!(regions.len(), 0);
    slice.write(0, &[1; 8]).unwrap();
    drop(own);
    let closing = closing.finish().unwrap_err();
    drop(slice);
    let memory = closing.finish().unwrap();
    assert_eq!(memory.memory().read_u64(0), 0x0101_0101_0101_0101);
}

/// A bus that counts what is unmapped.
#[derive(Default)]
struct Bus(AtomicU64);

impl DmaUnmap for Bus {
    fn dma_unmap(&self, _: Iova, _: &SharedMem) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_block_stays_mapped_while_an_engine_may_use_it() {
    let (bus, regions) = (Arc::new(Bus::default()), regions());
    let block = DmaBlock::new(SharedMem::new(4096).unwrap(), Iova(0x7000_0000), bus.clone());
    let region = regions.register(Registration { range: 64..4096, ..Registration::of(block, Access::all()) }).unwrap();
    let slice = regions.lookup(region.key(), 16, 8, Access::REMOTE_READ).unwrap();
    assert_eq!((slice.iova(), slice.range()), (Some(Iova(0x7000_0050)), 80..88));
    drop(region);
    assert_eq!(bus.0.load(Ordering::Relaxed), 0);
    drop(slice);
    assert_eq!(bus.0.load(Ordering::Relaxed), 1);
    let plain = self::region(&regions, Access::all());
    assert_eq!(plain.slice(0, 1, Access::LOCAL_READ).unwrap().iova(), None);
}

#[test]
fn the_table_may_go_before_its_regions() {
    let regions = regions();
    let region = region(&regions, Access::all());
    drop(regions);
    assert!(region.close().is_ok());
}

#[test]
fn a_slice_grants_what_was_asked_for() {
    let regions = regions();
    let region = region(&regions, Access::ATOMIC);
    let (key, sum, read) = (region.key(), op(Op::Sum, Datatype::Uint32), op(Op::Read, Datatype::Uint32));
    let missing = |missing| Err(RegionError::Access { key, missing });
    let local = regions.lookup(key, 0, 4, Access::ATOMIC | Access::LOCAL_WRITE);
    assert_eq!(local.map(drop), missing(Access::LOCAL_WRITE));

    let mut out = [0; 4];
    let readable = regions.lookup(key, 0, 4, Access::REMOTE_READ).unwrap();
    assert_eq!(readable.write(0, &[1; 4]), missing(Access::LOCAL_WRITE | Access::REMOTE_WRITE));
    assert_eq!(readable.apply(&sum, &[1; 4]), missing(Access::LOCAL_WRITE | Access::REMOTE_WRITE));
    assert_eq!(readable.fetch_apply(&sum, &[1; 4], &mut out), missing(Access::LOCAL_WRITE | Access::REMOTE_WRITE));
    assert_eq!(
        readable.compare(&op(Op::Cswap, Datatype::Uint32), &[0; 4], &[1; 4], &mut out),
        missing(Access::LOCAL_WRITE | Access::REMOTE_WRITE)
    );
    assert_eq!((readable.read(0, &mut out), readable.fetch_apply(&read, &[], &mut out)), (Ok(()), Ok(())));

    let writable = regions.lookup(key, 0, 4, Access::REMOTE_WRITE).unwrap();
    assert_eq!(writable.read(0, &mut out), missing(Access::LOCAL_READ | Access::REMOTE_READ));
    assert_eq!(writable.fetch_apply(&read, &[], &mut out), missing(Access::LOCAL_READ | Access::REMOTE_READ));
    assert_eq!(
        writable.compare(&op(Op::Cswap, Datatype::Uint32), &[0; 4], &[1; 4], &mut out),
        missing(Access::LOCAL_READ | Access::REMOTE_READ)
    );
    assert_eq!((writable.write(0, &[1, 0, 0, 0]), writable.apply(&sum, &[1, 0, 0, 0])), (Ok(()), Ok(())));
    assert_eq!(region.memory().read_u64(0), 2);
    let outside = RegionError::Outside { key, offset: 1, len: 4, size: 4 };
    assert_eq!(writable.write(1, &[0; 4]), Err(outside));
    assert!(writable.write(usize::MAX, &[0; 4]).is_err());
    assert_eq!(
        writable.apply(&op(Op::Sum, Datatype::Uint64), &[0; 8]).unwrap_err().to_string(),
        AtomicError::Partial { len: 4, datatype: Datatype::Uint64 }.to_string()
    );
}

fn access() -> impl Strategy<Value = Access> {
    (0u8..16).prop_map(Access::from_bits_truncate)
}

#[derive(Debug, Clone)]
enum Step {
    Register { range: Range<usize>, access: Access, base: Base, chosen: Option<u64> },
    Close(prop::sample::Index),
    Lookup { key: prop::sample::Index, place: i64, whole: bool, len: u64, access: Access, stale: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let range = (0usize..5000, 0usize..5000).prop_map(|(start, len)| start..start + len);
    let place = prop_oneof![-10i64..5000, Just(i64::MIN), Just(i64::MAX), any::<i64>()];
    let len = prop_oneof![0u64..200, 0u64..5000, Just(u64::MAX), any::<u64>()];
    let chosen = prop::option::of(0u64..8);
    prop_oneof![
        (range, access(), any::<bool>(), chosen).prop_map(|(range, access, address, chosen)| {
            let base = if address { Base::Address } else { Base::Offset };
            Step::Register { range, access, base, chosen }
        }),
        any::<prop::sample::Index>().prop_map(Step::Close),
        (any::<prop::sample::Index>(), place, any::<bool>(), len, access(), any::<bool>())
            .prop_map(|(key, place, whole, len, access, stale)| Step::Lookup { key, place, whole, len, access, stale }),
    ]
}

proptest! {
    #[test]
    fn a_lookup_finds_what_the_model_finds(steps in prop::collection::vec(step(), 1..60)) {
        const LIMIT: usize = 10;
        let regions = Regions::new(RegionsConfig { limit: LIMIT, chosen_keys: true });
        let memory = SharedMem::new(4096).unwrap();
        let mut live: Vec<MemoryRegion> = Vec::new();
        let mut stale = vec![0x1234];
        let mut model: HashMap<u64, (Range<usize>, Access, u64)> = HashMap::new();
        for step in steps {
            match step {
                Step::Register { range, access, base, chosen } => {
                    let key = chosen.map_or(KeyChoice::Unguessable, KeyChoice::Chosen);
                    let done = regions.register(Registration { memory: memory.clone().into(), range: range.clone(), access, base, key });
                    let taken = chosen.is_some_and(|key| model.contains_key(&key));
                    prop_assert_eq!(done.is_ok(), range.end <= 4096 && model.len() < LIMIT && !taken);
                    if let Ok(region) = done {
                        let base = if base == Base::Address { memory.address() + range.start as u64 } else { 0 };
                        prop_assert_eq!((region.base(), region.len()), (base, range.len()));
                        model.insert(region.key(), (range, access, base));
                        stale.retain(|key| *key != region.key());
                        live.push(region);
                    }
                }
                Step::Close(index) if !live.is_empty() => {
                    let region = live.swap_remove(index.index(live.len()));
                    model.remove(&region.key());
                    stale.push(region.key());
                }
                Step::Close(_) => {}
                Step::Lookup { key, place, whole, len, access, stale: old } => {
                    let key = match (old, live.is_empty()) {
                        (true, _) | (_, true) => stale[key.index(stale.len())],
                        _ => live[key.index(live.len())].key(),
                    };
                    let known = model.get(&key);
                    // Mostly near the region.
                    let place = known.map_or(0, |known| known.2).wrapping_add(place as u64);
                    let len = if whole { known.map_or(0, |known| known.0.len() as u64) } else { len };
                    let found = regions.lookup(key, place, len, access);
                    let must = known.and_then(|(range, grants, base)| {
                        let start = u128::from(place).checked_sub(u128::from(*base))?;
                        let inside = start + u128::from(len) <= range.len() as u128 && grants.contains(access);
                        inside.then(|| range.start + start as usize..range.start + start as usize + len as usize)
                    });
                    prop_assert_eq!(found.as_ref().ok().map(RegionSlice::range), must, "{:?}", found);
                    if let Err(error) = found {
                        let named = format!("{key:#x}");
                        prop_assert!(error.to_string().contains(&named));
                    }
                }
            }
            prop_assert_eq!(regions.len(), model.len());
        }
    }

    #[test]
    fn atomics_in_shared_memory_are_those_on_bytes(
        start in 0usize..80, count in 1usize..9, datatype in 0u8..14, code in 0u8..19, seed: [u8; 32], equal: bool,
    ) {
        let (datatype, op) = (Datatype::from_code(datatype).unwrap(), Op::from_code(code).unwrap());
        let Ok(atomic) = AtomicOp::new(op, datatype) else { return Ok(()) };
        let len = count * datatype.size();
        let bytes = |salt: u8, len: usize| -> Vec<u8> { (0..len).map(|i| seed[i % 32].rotate_left(i as u32 / 32) ^ salt).collect() };
        let mut image = bytes(1, 4096);
        let operand = bytes(2, len);
        let compare = if equal { image[start..start + len].to_vec() } else { bytes(3, len) };
        let regions = regions();
        let region = region(&regions, Access::ATOMIC);
        region.memory().write(0, &image);
        let slice = regions.lookup(region.key(), start as u64, len as u64, Access::ATOMIC).unwrap();

        let (mut result, mut must) = (vec![0; len], vec![0; len]);
        let target = &mut image[start..start + len];
        if op.compares() {
            atomic.compare(target, &compare, &operand, &mut must).unwrap();
            slice.compare(&atomic, &compare, &operand, &mut result).unwrap();
        } else if seed[0] & 1 == 0 && op != Op::Read {
            atomic.apply(target, &operand).unwrap();
            slice.apply(&atomic, &operand).unwrap();
        } else {
            atomic.fetch_apply(target, &operand, &mut must).unwrap();
            slice.fetch_apply(&atomic, &operand, &mut result).unwrap();
        }
        let mut have = vec![0; 4096];
        region.memory().read(0, &mut have);
        prop_assert_eq!(result, must);
        prop_assert!(have == image, "{:?} at {}", atomic, start);
    }
}

/// Threads that each add 1 to elements, through regions of their own of the same memory, until they have often got in between
/// each other's; the sum must come out. `value` is the bytes of as many ones as it is told.
fn add_from_threads(datatype: Datatype, place: u64, value: impl Fn(u16) -> Vec<u8> + Sync) {
    const THREADS: usize = 3;
    const BETWEEN: u64 = 60;
    let regions = regions();
    let memory = SharedMem::new(4096).unwrap();
    let (one, len) = (value(1), value(1).len());
    let (between, total) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let region = regions.register(Registration::of(memory.clone(), Access::ATOMIC)).unwrap();
                let slice = regions.lookup(region.key(), place, len as u64, Access::ATOMIC).unwrap();
                let add = op(Op::Sum, datatype);
                let (mut last, mut result) = (total.load(Ordering::Relaxed), vec![0; len]);
                // As many as the datatype has room for.
                while between.load(Ordering::Relaxed) < BETWEEN && total.load(Ordering::Relaxed) < 60_000 {
                    slice.fetch_apply(&add, &one, &mut result).unwrap();
                    let all = total.fetch_add(1, Ordering::Relaxed);
                    between.fetch_add(u64::from(all != last), Ordering::Relaxed);
                    last = all + 1;
                }
            });
        }
    });
    let mut have = vec![0; len];
    memory.read(place as usize, &mut have);
    let total = u16::try_from(total.into_inner()).unwrap();
    assert_eq!(have, value(total), "{total} of {datatype} at {place}");
}

#[test]
fn no_update_is_lost_among_threads() {
    // In a word; across two; many in words; in no word.
    add_from_threads(Datatype::Uint64, 64, |value| u64::from(value).to_le_bytes().to_vec());
    add_from_threads(Datatype::Uint64, 61, |value| u64::from(value).to_le_bytes().to_vec());
    add_from_threads(Datatype::Uint16, 64, |value| value.to_le_bytes().repeat(64));
    add_from_threads(Datatype::Uint64, 3, |value| u64::from(value).to_le_bytes().repeat(64));
    add_from_threads(Datatype::DoubleComplex, 16, |value| f64::from(value).to_le_bytes().repeat(64));
}

#[test]
fn keys_are_looked_up_while_regions_come_and_go() {
    let regions = regions();
    let keys: [AtomicU64; 4] = Default::default();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for key in &keys {
                        let key = key.load(Ordering::Acquire);
                        match regions.lookup(key, 8, 8, Access::REMOTE_READ) {
                            Ok(slice) => {
                                // The memory is the region's, and holds its key.
                                let mut there = [0; 8];
                                slice.read(0, &mut there).unwrap();
                                assert_eq!((slice.key(), u64::from_le_bytes(there)), (key, key));
                            }
                            Err(error) => assert_eq!(error, RegionError::UnknownKey { key }),
                        }
                    }
                }
            });
        }
        for round in 0..1000 {
            let region = region(&regions, Access::REMOTE_READ);
            region.memory().write_u64(8, region.key());
            keys[round % keys.len()].store(region.key(), Ordering::Release);
            // One that is there is found, whoever else comes and goes.
            assert!(regions.lookup(region.key(), 0, 0, Access::REMOTE_READ).is_ok());
            let mut closing = region.close();
            while let Err(still) = closing {
                thread::yield_now();
                closing = still.finish();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
