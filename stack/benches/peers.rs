//! What a hundred thousand peers cost: memory for each, idle, and time to insert them into an address vector.

use opx_bench::{Allocator, Goal, Table, memory};
use opx_defs::time::Instant as Point;
use opx_defs::units::{Lid, Psn};
use opx_defs::wire::opx::{FlowKey, Origin, Ud, UdOp};
use opx_reliability::{Arrival, Config, Reliability, Verdict};
use opx_stack::{Address, AddressVector, FiAddr};
use std::time::Instant;

#[global_allocator]
static ALLOC: Allocator = opx_bench::ALLOCATOR;

const PEERS: u32 = 100_000;
const ME: Origin = Origin { lid: Lid(1), rx: 5 };

fn peer(n: u32) -> Origin {
    Origin { lid: Lid(2 + n % 40_000), rx: (n / 40_000) as u8 }
}

/// An address vector with all of them.
fn vector() -> AddressVector {
    let mut peers = AddressVector::new();
    for n in 0..PEERS {
        let Origin { lid, rx } = peer(n);
        assert_eq!(peers.insert(Address { lid, rx }).expect("room"), FiAddr::new(n));
    }
    peers
}

/// The state of an endpoint that has exchanged a packet with each in both directions; none is outstanding.
fn flows() -> Reliability<u64, u64> {
    let config = Config { max_flows: 1 << 17, ..Config::default() };
    let mut core = Reliability::new(config, ME).expect("a good setting");
    for n in 0..PEERS {
        let psn = core.send(Point::ZERO, peer(n), 64, |psn| psn.get().into()).expect("room");
        let key = FlowKey { slid: ME.lid, dlid: peer(n).lid, src_rx: ME.rx, dst_rx: peer(n).rx };
        core.on_ud(Point::ZERO, peer(n), &Ud { op: UdOp::Ack, key, start: psn, count: 1 });
        while core.poll_released().is_some() {}
        let arrival = Arrival { origin: peer(n), psn: Psn::new(0), ack_req: false, early: false };
        assert_eq!(core.on_data(arrival, || None), Verdict::Deliver);
        while core.poll_transmit(Point::ZERO).is_some() {}
    }
    core
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut table = Table::new("peers");
    let (vector_of_all, vector_bytes) = memory(vector);
    let (core, flow_bytes) = memory(flows);
    let per_peer = |bytes: u64| bytes as f64 / f64::from(PEERS);
    assert_eq!((vector_of_all.len(), core.is_idle()), (PEERS as usize, true));
    table.add("a peer in the address vector", per_peer(vector_bytes), "bytes", Goal::None);
    table.add("a peer that was sent to and received from", per_peer(flow_bytes), "bytes", Goal::None);
    table.add("an idle peer, both", per_peer(vector_bytes + flow_bytes), "bytes", Goal::AtMost(256.0));
    let begin = Instant::now();
    let again = vector();
    let time = begin.elapsed();
    assert_eq!(again.len(), PEERS as usize);
    // A thousand times faster than the goal, so that it can be one on a busy machine.
    table.add("100,000 peers inserted", time.as_secs_f64() * 1e3, "ms", Goal::AtMost(1000.0));
    table.write()?;
    if table.met() { Ok(()) } else { Err("a goal isn't met, see above".into()) }
}
