//! The receiver's answers, row by row, as libfabric 2.6.0's own receiver gave them when it was run.

use opx_defs::time::Instant;
use opx_defs::units::{Lid, Psn};
use opx_defs::wire::opx::{FlowKey, Origin, Ud, UdOp};
use opx_reliability::{Arrival, Config, DropReason, Reliability, Transmit, Verdict};

const ME: Origin = Origin { lid: Lid(1), rx: 5 };
const PEER: Origin = Origin { lid: Lid(2), rx: 7 };

type Core = Reliability<(), u32>;

fn data(core: &mut Core, psn: u32) -> Verdict {
    let arrival = Arrival { origin: PEER, psn: Psn::new(psn), ack_req: false, early: false };
    core.on_data(arrival, || Some(psn))
}

/// A receiver that expects PSN `n` (counted without wrapping) and keeps `queued`.
fn receiver(n: u64, queued: &[u32]) -> Core {
    // A few packets are enough to make the flow known.
    let first = if n < 100 { 0 } else { n - 1 };
    let mut core = Core::starting_at(Config::as_opx(), ME, first).unwrap();
    for psn in first..n {
        assert_eq!(data(&mut core, psn as u32), Verdict::Deliver);
    }
    for psn in queued {
        assert_eq!(data(&mut core, *psn), Verdict::Held);
    }
    answers(&mut core);
    core
}

fn answers(core: &mut Core) -> Vec<String> {
    let mut out = Vec::new();
    while let Some(packet) = core.poll_transmit(Instant::ZERO) {
        let Transmit::Ud { peer, ud } = packet else { panic!("{packet:?}") };
        assert_eq!(peer, PEER);
        assert_eq!(ud.key, FlowKey { slid: PEER.lid, dlid: ME.lid, src_rx: PEER.rx, dst_rx: ME.rx });
        out.push(format!("{:?} {:x},+{}", ud.op, ud.start.get(), ud.count));
    }
    out
}

fn ping(core: &mut Core, start: u32, count: u32) -> Vec<String> {
    let key = FlowKey { slid: PEER.lid, dlid: ME.lid, src_rx: PEER.rx, dst_rx: ME.rx };
    core.on_ud(Instant::ZERO, PEER, &Ud { op: UdOp::Ping, key, start: Psn::new(start), count });
    answers(core)
}

/// Expected PSN, PSNs kept, the ping's first PSN and count, the answers.
type Row = (u64, &'static [u32], u32, u32, &'static [&'static str]);

#[test]
fn answers_to_pings() {
    let rows: [Row; 12] = [
        (0, &[], 0, 5, &["Nack 0,+1"]),
        (0, &[1, 2], 0, 5, &["Nack 0,+1"]),
        (10, &[], 3, 20, &["Ack 3,+7"]),
        (10, &[], 10, 5, &["Nack a,+1"]),
        (10, &[12, 13, 15], 3, 20, &["Ack 3,+7", "Ack c,+2"]),
        (10, &[12, 13, 15], 10, 3, &["Ack c,+2", "Nack a,+1"]),
        (0x100_0002, &[], 0xff_fff0, 16, &["Ack fffff0,+16"]),
        (0x100_0002, &[], 1, 1, &["Ack 1,+1"]),
        (0xff_fff0, &[], 0xff_ffe0, 32, &["Ack ffffe0,+16"]),
        (5, &[], 0x2_0000, 1, &[]),
        // Not in the table: a question about what was never sent, and an empty one.
        (5, &[], 0xff_fff0, 3, &[]),
        (5, &[], 5, 0, &[]),
    ];
    for (n, queued, start, count, want) in rows {
        let mut core = receiver(n, queued);
        assert_eq!(ping(&mut core, start, count), want, "n = {n:#x}, queued {queued:x?}, ping {start:x},+{count}");
    }
}

#[test]
fn a_flow_that_is_unknown_gets_a_nack_and_no_state() {
    let mut core = Core::new(Config::as_opx(), ME).unwrap();
    for _ in 0..3 {
        // Each is answered: with no flow there is nothing to merge repeats in.
        assert_eq!(ping(&mut core, 0, 5), ["Nack 0,+1"]);
    }
}

#[test]
fn data_around_the_edges() {
    // (n, PSN, verdict, answer). Where OPX acknowledges a packet that it never had, this receiver keeps or drops it instead.
    let out = Verdict::Dropped(DropReason::OutOfWindow);
    let rows: [(u64, u32, Verdict, &[&str]); 8] = [
        (0xff_e000, 10239, Verdict::Held, &[]),
        (0xff_e000, 10240, Verdict::Held, &[]), // OPX: ACK 10240,+1, dropped
        (0xff_d800, 0, Verdict::Held, &[]),     // OPX: ACK 0,+1, dropped
        (0xff_d801, 0, Verdict::Held, &[]),
        (5, 0xf0_0005, out, &[]), // OPX: queued; no sender comes that far ahead
        (5, 0xf0_0006, out, &[]), // OPX: ACK, dropped
        (64, 64, Verdict::Deliver, &["Ack 1,+64"]),
        (64, 63, Verdict::Duplicate, &["Ack 3f,+1"]),
    ];
    for (n, psn, want, acks) in rows {
        let mut core = receiver(n, &[]);
        assert_eq!(data(&mut core, psn), want, "n = {n:#x}, PSN {psn:#x}");
        assert_eq!(answers(&mut core), acks, "n = {n:#x}, PSN {psn:#x}");
    }
}
