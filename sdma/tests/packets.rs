//! What a packet may be made of: everything else is refused before a descriptor is written.

mod common;

use common::{LIMIT, Rig};
use opx_bus::PciFunction;
use opx_defs::units::Iova;
use opx_sdma::{Fragment, HeaderEdit, MAX_FRAGMENTS, Outcome, Packet, SdmaError, SdmaQueue};

#[test]
fn what_is_no_packet_is_refused() {
    let rig = Rig::new();
    let mut queue = SdmaQueue::<_, u8>::new(rig.hfi.sdma_engine(64).unwrap());
    let fragment = |len| Fragment::raw(Iova(0x1000), len);
    for (fragments, why) in [
        (vec![], "1 to 64 fragments"),
        (vec![fragment(4); 65], "1 to 64 fragments"),
        (vec![fragment(0)], "1 to 16383 bytes"),
        (vec![fragment(16384)], "1 to 16383 bytes"),
        (vec![fragment(u32::MAX)], "1 to 16383 bytes"),
        (vec![fragment(6)], "whole dwords"),
        (vec![fragment(16383), fragment(1)], "at most 16383 bytes"),
        (vec![fragment(16383); 64], "at most 16383 bytes"),
    ] {
        let (error, token) = queue.submit(&fragments, 9).unwrap_err();
        assert!(matches!(error, SdmaError::BadPacket { .. }) && error.to_string().contains(why), "{error}");
        assert_eq!((token, queue.free()), (9, 63));
    }
    // All or nothing: 64 pieces don't fit in 63 free slots.
    let (error, _) = queue.submit(&vec![fragment(4); 64], 9).unwrap_err();
    assert!(matches!(error, SdmaError::RingFull { needed: 64, free: 63, .. }), "{error}");
    assert_eq!((queue.free(), queue.counters().ring_full), (63, 1));
}

#[test]
fn a_fragment_lies_in_its_block() {
    let rig = Rig::new();
    let len = rig.memory.len();
    let whole = Fragment::of(&rig.memory, 0..16).unwrap();
    assert_eq!((whole.iova(), whole.len()), (rig.memory.iova(0), 16));
    assert!(Fragment::of(&rig.memory, len - 4..len).is_some());
    #[allow(clippy::reversed_empty_ranges)]
    for bad in [4..4, 8..4, len - 4..len + 1, len..len + 4, 0..usize::MAX] {
        assert_eq!(Fragment::of(&rig.memory, bad), None);
    }
}

/// Every number of pieces, on the shortest and the longest ring, until each has wrapped.
#[test]
fn many_fragments_make_one_packet() {
    let mut rig = Rig::new();
    for entries in [64, 128, 32768] {
        let mut queue = SdmaQueue::new(rig.hfi.sdma_engine(entries).unwrap());
        let most = MAX_FRAGMENTS.min(entries as usize - 1);
        let rounds = if entries == 32768 { 33 * 32 } else { 200 };
        for n in 0..rounds {
            let whole = rig.place(n, 400);
            let pieces = if entries == 32768 { 64 } else { 1 + n as usize % most };
            // 464 bytes: the last piece takes what is left.
            let fragments: Vec<_> = (0..pieces as u32)
                .map(|i| {
                    let at = i * 5;
                    let len = if i + 1 == pieces as u32 { whole.len() - at } else { 5 };
                    Fragment::raw(whole.iova().plus(at.into()), len)
                })
                .collect();
            queue.submit(&fragments, n).unwrap();
            queue.doorbell();
            let ended = rig.until(|| queue.poll());
            assert_eq!(ended, (n, Outcome::Sent));
            let bus = rig.bus().clone();
            let arrived = opx_bus::poll::until(&bus, LIMIT, || rig.arrived().pop()).unwrap();
            assert_eq!(arrived.1, rig.packet(n, 400)[8..], "{pieces} pieces");
        }
        queue.check().unwrap();
        assert!(queue.counters().descriptors > u64::from(entries) * 2);
        assert_eq!(queue.counters().bad_heads, 0);
    }
}

#[test]
fn a_batch_takes_one_tail_write() {
    let mut rig = Rig::new();
    let mut queue = SdmaQueue::new(rig.hfi.sdma_engine(64).unwrap());
    for n in 0..30 {
        queue.submit(&[rig.place(n, 100)], n).unwrap();
    }
    queue.doorbell();
    queue.doorbell();
    assert_eq!(queue.counters().doorbells, 1);
    let mut done = 0;
    rig.until(|| {
        done += std::iter::from_fn(|| queue.poll()).count();
        (done == 30).then_some(())
    });
    rig.bus().pause(std::time::Duration::from_millis(1));
    assert_eq!(rig.arrived().len(), 30);
}

/// A run is one request of many packets: all of it goes in or nothing, and one token comes back.
#[test]
fn a_run_is_all_or_nothing() {
    let mut rig = Rig::new();
    let mut queue = SdmaQueue::new(rig.hfi.sdma_engine(64).unwrap());
    let places: Vec<_> = (0..64).map(|n| [rig.place(n, 300)]).collect();
    let run = |count: usize| places[..count].iter().map(|one| Packet::new(one));
    // More than the ring, nothing, and a bad packet at the end.
    let (error, token) = queue.submit_run(run(64), 9).unwrap_err();
    assert!(matches!(error, SdmaError::RingFull { needed: 64, free: 63, .. }) && token == 9, "{error}");
    assert!(queue.submit_run(run(0), 9).is_err());
    let bad = [Fragment::raw(Iova(0x1000), 6)];
    let (error, _) = queue.submit_run(run(20).chain([Packet::new(&bad)]), 9).unwrap_err();
    assert!(matches!(error, SdmaError::BadPacket { .. }), "{error}");
    queue.doorbell();
    assert_eq!((queue.free(), queue.pending(), queue.counters().doorbells), (63, 0, 0));

    for round in 0..10 {
        queue.submit_run(run(40), round).unwrap();
        queue.submit(&places[40], 100 + round).unwrap();
        queue.doorbell();
        assert_eq!(queue.pending(), 2);
        assert_eq!(rig.until(|| queue.poll()), (round, Outcome::Sent));
        assert_eq!(rig.until(|| queue.poll()), (100 + round, Outcome::Sent));
        assert_eq!((queue.pending(), queue.free()), (0, 63));
        rig.bus().pause(std::time::Duration::from_millis(1));
        assert!(rig.arrived().into_iter().map(|(n, _)| n).eq(0..41));
    }
    assert_eq!((queue.counters().packets, queue.counters().doorbells), (410, 10));

    // A run that stores its header, and one that is refused after it stored one.
    let entry = queue.open_header().unwrap();
    let whole = rig.place(1, 300);
    let parts = [Fragment::raw(whole.iova(), 64), Fragment::raw(whole.iova().plus(64), whole.len() - 64)];
    let edit = [HeaderEdit::new(9, 0, 16, 7).unwrap()];
    let storing = Packet::new(&parts).storing(&entry);
    let using = Packet::edited(&entry, &edit, &parts[1..]);
    assert!(queue.submit_run([storing, using, Packet::new(&bad)], 1).is_err());
    assert!(queue.submit(using, 1).is_err(), "nothing is stored");
    queue.submit_run([storing, using, using], 2).unwrap();
    queue.doorbell();
    assert_eq!(rig.until(|| queue.poll()), (2, Outcome::Sent));
    queue.check().unwrap();

    // A run that halts in the middle has failed as a whole.
    let unmapped = [Fragment::raw(Iova(0x7777_0000_0000), 64)];
    queue.submit_run(run(3).chain([Packet::new(&unmapped)]).chain(run(3)), 3).unwrap();
    queue.doorbell();
    rig.until(|| queue.check().err());
    queue.restart().unwrap();
    assert_eq!((queue.poll(), queue.poll(), queue.pending()), (Some((3, Outcome::Failed)), None, 0));
}
