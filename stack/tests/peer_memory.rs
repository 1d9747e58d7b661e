//! What a peer costs while nothing goes on: bytes in the address vector, bytes in an endpoint that has talked to it, and no
//! growth with what was said.

mod common;

use common::bench;
use opx_defs::units::Lid;
use opx_defs::wire::opx::{EndpointName, Generation};
use opx_stack::{Address, AddressVector, Completion, Config};
use std::hint::black_box;

#[global_allocator]
static ALLOC: dhat::Alloc = dhat::Alloc;

const PEERS: u32 = 100_000;
/// The goal, per peer.
const MOST: usize = 256;

fn heap() -> usize {
    dhat::HeapStats::get().curr_bytes
}

/// One test, since the profiler is the process'.
#[test]
fn a_peer_takes_at_most_256_bytes() {
    let _profiler = dhat::Profiler::builder().testing().build();

    // `av_test`: 100,000 peers by the bytes of their names.
    let before = heap();
    let mut peers = AddressVector::new();
    for n in 0..PEERS {
        let name = EndpointName { unit: 0, rx: n as u8, lid: Lid(1 + (n >> 8)), gid_high: 0 };
        let bytes = name.to_bytes(Generation::G2);
        let peer = peers.insert_name(Generation::G2, &bytes[..8]).unwrap();
        assert_eq!(peer.index(), n as usize);
    }
    let table = heap() - before;
    assert_eq!(peers.len(), PEERS as usize);
    let per_peer = table / PEERS as usize;
    println!("address vector: {per_peer} bytes a peer");
    assert!(per_peer <= 64, "{per_peer}");
    for n in (0..PEERS).step_by(997) {
        let address = Address { lid: Lid(1 + (n >> 8)), rx: n as u8 };
        assert_eq!(peers.find(address).and_then(|peer| peers.address(peer)), Some(address));
    }
    black_box(&peers);

    // An endpoint that has sent each of some peers a message, which all of them have acknowledged or which was given up.
    let talked = 64;
    let reliability = opx_reliability::Config {
        give_up_after: std::time::Duration::from_secs(1),
        ..opx_reliability::Config::default()
    };
    let mut bench = bench(Config { reliability, ..Config::default() });
    let to = bench.b.address();
    let talk = |bench: &mut common::Bench, from: u8| {
        for n in 0..talked {
            let nobody = Address { rx: from + n, ..to };
            bench.a.send(nobody, vec![1; 8], 0).unwrap();
        }
        for _ in 0..talked {
            assert!(matches!(bench.next_at_a(), Completion::Failed { .. }));
        }
    };
    // Twice, as the first brings what all have in common.
    talk(&mut bench, 64);
    let before = heap();
    talk(&mut bench, 128);
    let per_peer = heap().saturating_sub(before) / usize::from(talked);
    println!("endpoint: {per_peer} bytes a peer that was talked to");
    assert!(per_peer + table / PEERS as usize <= MOST, "{per_peer}");
}
