//! Headers that an engine stores: packets made from them are, byte for byte, the packets that would have been sent plainly.

mod common;

use common::{Rig, SLOT};
use opx_defs::sdma::HeaderEdit;
use opx_emu::EmuBus;
use opx_sdma::{Fragment, HeaderEntry, Outcome, Packet, SdmaError, SdmaQueue};
use proptest::prelude::*;

type Queue = SdmaQueue<EmuBus, u32>;

/// A packet of a run: its payload in dwords, and the dwords of the header that differ from the first packet's.
#[derive(Debug, Clone)]
struct Like {
    payload: usize,
    pieces: usize,
    words: Vec<(u8, u32)>,
}

/// Dwords that the receiver takes as they are: the PSN, and the software's part of KDETH.
const FREE: [u8; 8] = [6, 9, 10, 11, 12, 13, 14, 15];

fn like(edits: usize) -> impl Strategy<Value = Like> {
    // Two edits a dword, and two for the length.
    let words = prop::collection::vec((prop::sample::select(&FREE[..]), any::<u32>()), 0..=edits);
    (1usize..1500, 1usize..5, words).prop_map(|(payload, pieces, words)| Like { payload, pieces, words })
}

/// The header of a packet like `first`, in software.
fn header(first: &[u8], like: &Like) -> Vec<u8> {
    let mut header = first[..64].to_vec();
    let dwords = 16 + like.payload as u16;
    let pbc = u16::from_le_bytes([header[0], header[1]]) & 0xf000 | dwords & 0xfff;
    header[..2].copy_from_slice(&pbc.to_le_bytes());
    // LRH counts from the LRH on and with the ICRC: two dwords less, one more.
    header[12..14].copy_from_slice(&(dwords - 1).to_be_bytes());
    for &(dword, value) in &like.words {
        let at = usize::from(dword) * 4;
        header[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    header
}

/// The same change as edits of the stored header.
fn edits(like: &Like) -> Vec<HeaderEdit> {
    let dwords = 16 + like.payload as u16;
    let mut edits = vec![
        HeaderEdit::new(0, 0, 12, dwords & 0xfff).unwrap(),
        HeaderEdit::new(3, 0, 16, (dwords - 1).swap_bytes()).unwrap(),
    ];
    // Of two changes of one dword the later one counts, as it does in the engine.
    edits.extend(like.words.iter().flat_map(|&(dword, value)| HeaderEdit::dword(dword, value).unwrap()));
    edits
}

fn payload(rig: &Rig, n: usize, len: usize, pieces: usize) -> Vec<Fragment> {
    let at = (1 + n % 32) * SLOT;
    let bytes: Vec<u8> = (0..len).map(|i| (i * 13 + n) as u8).collect();
    rig.memory.write(at, &bytes);
    let step = (len / pieces).max(1);
    (0..len)
        .step_by(step)
        .map(|from| Fragment::of(&rig.memory, at + from..at + (from + step).min(len)).unwrap())
        .collect()
}

/// Sends one packet and waits for what arrives.
fn send(rig: &mut Rig, queue: &mut Queue, packet: Packet<'_>) -> Vec<u8> {
    queue.submit(packet, 0).unwrap();
    queue.doorbell();
    let bus = rig.bus().clone();
    let arrived = opx_bus::poll::until(&bus, common::LIMIT, || rig.arrived().pop()).expect("the packet arrives").1;
    let ended = opx_bus::poll::until(&bus, common::LIMIT, || queue.poll()).expect("the packet completes");
    assert_eq!(ended, (0, Outcome::Sent));
    arrived
}

fn stores(rig: &mut Rig, queue: &mut Queue, entry: &HeaderEntry) -> Vec<u8> {
    let first = rig.packet(7, 2000);
    rig.memory.write(0, &first);
    let of = |range| Fragment::of(&rig.memory, range).unwrap();
    let fragments = [of(0..64), of(64..first.len())];
    let arrived = send(rig, queue, Packet::new(&fragments).storing(entry));
    assert_eq!(arrived, first[8..]);
    first
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_run_looks_the_same_with_and_without_a_stored_header(run in prop::collection::vec(like(3), 1..30)) {
        let mut rig = Rig::new();
        let mut queue = Queue::new(rig.hfi.sdma_engine(64).unwrap());
        let mut plain = Queue::new(rig.hfi.sdma_engine(64).unwrap());
        let entry = queue.open_header().unwrap();
        let first = stores(&mut rig, &mut queue, &entry);
        for (n, like) in run.iter().enumerate() {
            let payload = payload(&rig, n, like.payload * 4, like.pieces);
            let edits = edits(like);
            let with = send(&mut rig, &mut queue, Packet::edited(&entry, &edits, &payload));

            let at = 40 * SLOT;
            rig.memory.write(at, &header(&first, like));
            let header = Fragment::of(&rig.memory, at..at + 64).unwrap();
            let fragments: Vec<_> = std::iter::once(header).chain(payload).collect();
            let without = send(&mut rig, &mut plain, Packet::new(&fragments));
            prop_assert_eq!(with, without);
        }
        queue.check().unwrap();
        plain.check().unwrap();
    }
}

#[test]
fn one_to_nine_edits_go_round_the_ring() {
    let mut rig = Rig::new();
    let mut queue = Queue::new(rig.hfi.sdma_engine(64).unwrap());
    let entry = queue.open_header().unwrap();
    let first = stores(&mut rig, &mut queue, &entry);
    let fragments = payload(&rig, 0, first.len() - 64, 1);
    for n in 0..200u16 {
        let count = 1 + usize::from(n) % 9;
        let edits: Vec<_> = (0..count).map(|at| HeaderEdit::new(FREE[at % 8], 0, 16, n + at as u16).unwrap()).collect();
        let arrived = send(&mut rig, &mut queue, Packet::edited(&entry, &edits, &fragments));
        let mut wanted = first[8..64].to_vec();
        for (at, _) in edits.iter().enumerate() {
            let byte = usize::from(FREE[at % 8]) * 4 - 8;
            wanted[byte..byte + 2].copy_from_slice(&(n + at as u16).to_le_bytes());
        }
        assert_eq!(arrived[..56], wanted, "packet {n} with {count} edits");
    }
    queue.check().unwrap();
    assert!(queue.counters().descriptors > 600);
}

#[test]
fn what_is_no_run_is_refused() {
    let mut rig = Rig::new();
    let mut queue = Queue::new(rig.hfi.sdma_engine(128).unwrap());
    let mut other = Queue::new(rig.hfi.sdma_engine(64).unwrap());
    let entry = queue.open_header().unwrap();
    let edit = HeaderEdit::new(9, 0, 16, 1).unwrap();
    let payload = [Fragment::of(&rig.memory, 0..64).unwrap()];
    let dwords = vec![Fragment::of(&rig.memory, 0..4).unwrap(); 64];
    let refused = |queue: &mut Queue, packet: Packet<'_>, wanted: &str| {
        let free = queue.free();
        let (error, token) = queue.submit(packet, 5).unwrap_err();
        assert!(matches!(error, SdmaError::BadPacket { .. }) && error.to_string().contains(wanted), "{error}");
        assert_eq!((token, queue.free()), (5, free));
    };
    refused(&mut queue, Packet::edited(&entry, &[edit], &payload), "no header is stored");
    refused(&mut other, Packet::edited(&entry, &[edit], &payload), "another queue");
    refused(&mut other, Packet::new(&payload).storing(&entry), "another queue");
    refused(&mut queue, Packet::new(&[Fragment::of(&rig.memory, 0..68).unwrap()]).storing(&entry), "8 to 64 bytes");
    stores(&mut rig, &mut queue, &entry);
    refused(&mut queue, Packet::edited(&entry, &[], &payload), "1 to 9 edits");
    refused(&mut queue, Packet::edited(&entry, &[edit; 10], &payload), "1 to 9 edits");
    refused(&mut queue, Packet::edited(&entry, &[edit; 6], &dwords[..62]), "at most 64 descriptors");
    refused(&mut queue, Packet::edited(&entry, &[edit], &[]), "1 to 64 fragments");
    // A restart forgets what was stored.
    queue.restart().unwrap();
    refused(&mut queue, Packet::edited(&entry, &[edit], &payload), "no header is stored");
    // 32 entries, and each comes back when it is dropped.
    let more: Vec<_> = (0..31).map(|_| queue.open_header().unwrap()).collect();
    assert!(matches!(queue.open_header(), Err(SdmaError::NoHeaderEntry { .. })));
    drop(more);
    assert!(queue.open_header().is_ok());
}

/// What an earlier owner of an entry has stored isn't sent for the next one.
#[test]
fn entries_are_used_again_by_others() {
    let mut rig = Rig::new();
    let mut queue = Queue::new(rig.hfi.sdma_engine(64).unwrap());
    let entry = queue.open_header().unwrap();
    stores(&mut rig, &mut queue, &entry);
    let payload = [Fragment::of(&rig.memory, 0..64).unwrap()];
    let edit = [HeaderEdit::new(9, 0, 16, 1).unwrap()];
    drop(entry);
    let entry = queue.open_header().unwrap();
    assert!(queue.submit(Packet::edited(&entry, &edit, &payload), 1).is_err(), "the header is an earlier owner's");
    stores(&mut rig, &mut queue, &entry);
}

/// What a run was to store before it was refused isn't there afterwards, in none of the entries.
#[test]
fn a_run_that_is_refused_has_stored_nothing() {
    let rig = Rig::new();
    let mut queue = Queue::new(rig.hfi.sdma_engine(64).unwrap());
    let entries = [queue.open_header().unwrap(), queue.open_header().unwrap()];
    let first = rig.packet(7, 2000);
    rig.memory.write(0, &first);
    let of = |range| Fragment::of(&rig.memory, range).unwrap();
    let whole = [of(0..64), of(64..first.len())];
    let storing = entries.each_ref().map(|entry| Packet::new(&whole).storing(entry));
    let (error, _) = queue.submit_run(storing.into_iter().chain([Packet::new(&[])]), 1).unwrap_err();
    assert!(matches!(error, SdmaError::BadPacket { .. }), "{error}");
    let edit = [HeaderEdit::new(9, 0, 16, 1).unwrap()];
    for entry in &entries {
        let (error, _) = queue.submit(Packet::edited(entry, &edit, &whole[1..]), 2).unwrap_err();
        assert!(error.to_string().contains("no header is stored"), "{error}");
    }
}
