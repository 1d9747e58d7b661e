//! Packets that no honest peer sends, written by hand through a send context of the same adapter.

use opx_bus::PciFunction;
use opx_defs::units::{Blocks, Lid, Psn, Vl};
use opx_defs::wire::opx::{Answer, FlowKey, Header, Iov, Route, RzvCts, RzvOp, Ud, UdOp};
use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_pio::{Head, PioSender};
use opx_stack::{Address, Config, Endpoint};
use std::time::Duration;

/// The context that the forged packets say they are from; it belongs to nobody.
const NOBODY: u8 = 77;

/// An endpoint, and somebody who writes what he likes.
struct Bench {
    hfi: Hfi<EmuBus>,
    endpoint: Endpoint<EmuBus>,
    forger: PioSender<EmuBus>,
}

fn bench() -> Bench {
    let lab = Lab::new(Pacing::Virtual);
    let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    let endpoint = Endpoint::open(&hfi, Config::default()).unwrap();
    let forger = PioSender::new(hfi.send_context(Blocks(64)).unwrap());
    Bench { hfi, endpoint, forger }
}

impl Bench {
    fn nobody(&self) -> Address {
        Address { rx: NOBODY, ..self.endpoint.address() }
    }

    /// The way from nobody to the endpoint.
    fn route(&self) -> Route {
        let to = self.endpoint.address();
        self.hfi.route(NOBODY, to.lid, to.rx)
    }

    /// Sends a packet and lets the endpoint take it.
    fn forge(&mut self, header: &Header, payload: &[u8]) {
        let before = self.endpoint.counters().packets_in;
        self.forger.send(&Head::new(header.pbc(Vl(0)), header), payload).unwrap();
        let limit = self.hfi.bus().now() + Duration::from_secs(1);
        while self.endpoint.counters().packets_in == before {
            assert!(self.hfi.bus().now() < limit, "it didn't arrive");
            if !self.endpoint.progress().unwrap() {
                self.hfi.bus().relax();
            }
        }
        self.endpoint.progress().unwrap();
    }
}

#[test]
fn an_answer_that_asks_for_bytes_outside_of_the_message_gets_none() {
    const LEN: u64 = 100_000;
    // The first bytes go with the offer, so that a multiple of 64 is left.
    const LEFT: u64 = LEN / 64 * 64;
    let mut bench = bench();
    let nobody = bench.nobody();
    bench.endpoint.tag_send(nobody, 1, vec![7; LEN as usize], 5).unwrap();
    let sent = |bench: &Bench| bench.endpoint.sdma_counters().packets + bench.endpoint.pio_counters().packets;
    let mut psn = Psn::new(0);
    let mut ask = |bench: &mut Bench, origin_counter: u64, sbuf: u64, bytes: u64| {
        let iov = Iov { rbuf: 0, sbuf, bytes, sbuf_device: 0, sbuf_iface: 0 };
        let answer = Answer::Send { op: RzvOp::Rzv, target_cookie: 1, iov, second: None };
        let mut payload = [0; 64];
        let (mut header, len) = RzvCts { origin_counter, answer }.encode(&bench.route(), &mut payload).unwrap();
        header.set_psn(psn);
        psn = psn.next();
        bench.forge(&header, &payload[..len]);
    };
    // The first operation of an endpoint: index 0 of the first generation.
    let handle = 1 << 32;
    let outside =
        [(LEN - 63, 64), (LEN, 1), (u64::MAX - 10, 64), (u64::MAX, u64::MAX), (0, LEFT + 1), (0, 0), (1 << 40, 64)];
    for (n, (sbuf, bytes)) in outside.into_iter().enumerate() {
        ask(&mut bench, handle, sbuf, bytes);
        assert_eq!(bench.endpoint.counters().malformed, n as u64 + 1, "{bytes} bytes from {sbuf:#x}");
    }
    // A name that isn't known, an earlier and a later owner of the place.
    for other in [0, 1, handle + 1, 2 << 32, u64::MAX] {
        ask(&mut bench, other, 0, 64);
    }
    assert_eq!(bench.endpoint.counters().stale, 5);
    let offers = sent(&bench);
    assert!(offers >= 1);

    // All that is left, to its last byte, is what may be asked for; and not twice.
    ask(&mut bench, handle, LEN - LEFT, LEFT);
    assert_eq!((bench.endpoint.counters().malformed, bench.endpoint.counters().stale), (7, 5));
    bench.endpoint.progress().unwrap();
    assert!(sent(&bench) > offers + 10, "its data goes out");
    ask(&mut bench, handle, LEN - LEFT, 64);
    assert_eq!(bench.endpoint.counters().malformed, 8);
}

#[test]
fn an_acknowledgement_in_the_name_of_another_node_does_nothing() {
    let mut bench = bench();
    let me = bench.endpoint.address();
    let elsewhere = Address { lid: Lid(me.lid.0 + 1), rx: NOBODY };
    bench.endpoint.tag_send(elsewhere, 1, vec![7; 10], 5).unwrap();
    let key = FlowKey { slid: me.lid, dlid: elsewhere.lid, src_rx: me.rx, dst_rx: NOBODY };
    let ack = Ud { op: UdOp::Ack, key, start: Psn::new(0), count: 1 };
    // It says that it is from there and left from here.
    let forged = Route { primary_lid: elsewhere.lid, ..bench.route() };
    bench.forge(&ack.encode(&forged), &[]);
    assert_eq!(bench.endpoint.poll_completion(), None);
    assert_eq!((bench.endpoint.counters().malformed, bench.endpoint.reliability_counters().acks_received), (1, 0));
}
