//! The receiver's rules, one test each: first as OPX has them, then what is added to them.

use opx_defs::time::Instant;
use opx_defs::units::{Lid, Psn};
use opx_defs::wire::opx::{FlowKey, Origin, Ud, UdOp};
use opx_reliability::{Arrival, Config, DropReason, Event, Reliability, Transmit, Verdict};
use std::time::Duration;

const ME: Origin = Origin { lid: Lid(1), rx: 5 };
const PEER: Origin = Origin { lid: Lid(2), rx: 7 };

type Core = Reliability<(), u32>;

fn core(config: Config) -> Core {
    Core::new(config, ME).unwrap()
}

fn arrival(psn: u32) -> Arrival {
    Arrival { origin: PEER, psn: Psn::new(psn), ack_req: false, early: false }
}

fn data(core: &mut Core, psn: u32) -> Verdict {
    core.on_data(arrival(psn), || Some(psn))
}

fn answers(core: &mut Core, now: Instant) -> Vec<(UdOp, u32, u32)> {
    let mut out = Vec::new();
    while let Some(packet) = core.poll_transmit(now) {
        let Transmit::Ud { ud, .. } = packet else { panic!("{packet:?}") };
        out.push((ud.op, ud.start.get(), ud.count));
    }
    out
}

fn ping(core: &mut Core, now: Instant, start: u32, count: u32) -> Vec<(UdOp, u32, u32)> {
    let key = FlowKey { slid: PEER.lid, dlid: ME.lid, src_rx: PEER.rx, dst_rx: ME.rx };
    core.on_ud(now, PEER, &Ud { op: UdOp::Ping, key, start: Psn::new(start), count });
    answers(core, now)
}

fn drain(core: &mut Core) -> Vec<u32> {
    std::iter::from_fn(|| core.next_in_order()).map(|(_, packet)| packet).collect()
}

const T0: Instant = Instant::ZERO;

#[test]
fn packets_come_out_in_order_and_once() {
    let mut core = core(Config::as_opx());
    assert_eq!(data(&mut core, 2), Verdict::Held);
    assert_eq!(data(&mut core, 2), Verdict::Duplicate);
    assert_eq!(data(&mut core, 1), Verdict::Held);
    assert_eq!(drain(&mut core), []);
    // A copy of one that waits is dropped without a word.
    assert_eq!(answers(&mut core, T0), []);
    assert_eq!(data(&mut core, 0), Verdict::Deliver);
    assert_eq!(drain(&mut core), [1, 2]);
    // The gap is filled: the sender is told.
    assert_eq!(answers(&mut core, T0), [(UdOp::Ack, 0, 3)]);
    assert_eq!(data(&mut core, 1), Verdict::Duplicate);
    assert_eq!(answers(&mut core, T0), [(UdOp::Ack, 1, 1)]);
    assert_eq!(core.counters().duplicates_received, 2);
    assert_eq!(core.counters().uepkt_received, 2);
}

#[test]
fn a_caller_that_does_not_fetch_still_gets_everything_in_order() {
    let mut core = core(Config::as_opx());
    for (psn, verdict) in [(1, Verdict::Held), (0, Verdict::Deliver), (2, Verdict::Held), (3, Verdict::Held)] {
        assert_eq!(data(&mut core, psn), verdict, "{psn}");
    }
    assert_eq!(drain(&mut core), [1, 2, 3]);
    assert_eq!(data(&mut core, 4), Verdict::Deliver);
}

#[test]
fn pre_acks_at_the_rate_but_never_for_psn_0() {
    let mut core = core(Config { pre_ack_rate: 4, ..Config::as_opx() });
    let mut acks = Vec::new();
    for psn in 0..10 {
        assert_eq!(data(&mut core, psn), Verdict::Deliver);
        acks.extend(answers(&mut core, T0));
    }
    assert_eq!(acks, [(UdOp::Ack, 1, 4), (UdOp::Ack, 5, 4)]);
    assert_eq!(core.counters().acks_preemptive_sent, 2);
}

#[test]
fn no_pre_acks_when_they_are_off() {
    let mut core = core(Config { pre_ack_rate: 0, ..Config::as_opx() });
    for psn in 0..200 {
        data(&mut core, psn);
    }
    assert_eq!(answers(&mut core, T0), []);
}

#[test]
fn ack_req_is_answered_at_once_with_up_to_a_rate_of_psns() {
    let mut core = core(Config { pre_ack_rate: 4, ..Config::as_opx() });
    let mut asking = |psn| {
        core.on_data(Arrival { ack_req: true, ..arrival(psn) }, || Some(psn));
        answers(&mut core, T0)
    };
    assert_eq!(asking(0), [(UdOp::Ack, 0, 1)]);
    assert_eq!(asking(1), [(UdOp::Ack, 1, 1)]);
    assert_eq!(asking(2), [(UdOp::Ack, 1, 2)]);
    assert_eq!(asking(3), [(UdOp::Ack, 1, 3)]);
    // A multiple of the rate is acknowledged once, not twice.
    assert_eq!(asking(4), [(UdOp::Ack, 1, 4)]);
    assert_eq!(asking(5), [(UdOp::Ack, 2, 4)]);
    // Out of order it is not honoured.
    assert_eq!(asking(7), []);
}

#[test]
fn rendezvous_data_is_used_early_and_once() {
    let mut core = core(Config::as_opx());
    let early = |psn| Arrival { early: true, ..arrival(psn) };
    assert_eq!(core.on_data(early(1), || None), Verdict::ApplyEarly);
    assert_eq!(core.on_data(early(1), || None), Verdict::Duplicate);
    assert_eq!(data(&mut core, 2), Verdict::Held);
    assert_eq!(core.on_data(early(0), || None), Verdict::Deliver);
    assert_eq!(drain(&mut core), [2]);
    assert_eq!(core.on_data(early(1), || None), Verdict::Duplicate);
    assert_eq!(core.counters().rzv_data_ooo, 1);
}

#[test]
fn early_packets_give_their_room_back() {
    let mut core = core(Config { max_held: 2, ..Config::as_opx() });
    for psn in (0..100).step_by(3) {
        for ahead in [psn + 2, psn + 1] {
            assert_eq!(core.on_data(Arrival { early: true, ..arrival(ahead) }, || None), Verdict::ApplyEarly);
        }
        assert_eq!(data(&mut core, psn), Verdict::Deliver);
        assert_eq!(drain(&mut core), []);
    }
}

#[test]
fn repeats_of_a_ping_are_merged_until_the_tick() {
    let mut core = core(Config::as_opx());
    for psn in 0..10 {
        data(&mut core, psn);
    }
    let (soon, tick) = (T0 + Duration::from_micros(100), T0 + Duration::from_micros(500));
    assert_eq!(ping(&mut core, T0, 2, 3), [(UdOp::Ack, 2, 3)]);
    // Equal or smaller repeats get no answer, not even at the tick.
    assert_eq!(ping(&mut core, soon, 2, 3), []);
    assert_eq!(core.poll_timeout(), None);
    // Larger ones are answered together at the tick.
    assert_eq!(ping(&mut core, soon, 2, 4), []);
    assert_eq!(ping(&mut core, soon, 2, 6), []);
    assert_eq!(core.poll_timeout(), Some(tick));
    core.on_timeout(soon);
    assert_eq!(answers(&mut core, soon), []);
    core.on_timeout(tick);
    assert_eq!(answers(&mut core, tick), [(UdOp::Ack, 2, 6)]);
    assert_eq!(core.poll_timeout(), None);
    // Another question is answered at once, and so is the same one later.
    assert_eq!(ping(&mut core, soon, 3, 1), [(UdOp::Ack, 3, 1)]);
    assert_eq!(ping(&mut core, tick + Duration::from_micros(500), 3, 1), [(UdOp::Ack, 3, 1)]);
    assert_eq!(core.counters().pings_merged, 3);
}

#[test]
fn a_whole_gap_can_be_asked_for() {
    for (max_nack, asked) in [(1, 1), (4, 4), (32, 6)] {
        let mut core = core(Config { max_nack, ..Config::as_opx() });
        for psn in [0, 1, 8] {
            data(&mut core, psn);
        }
        assert_eq!(ping(&mut core, T0, 2, 7), [(UdOp::Ack, 8, 1), (UdOp::Nack, 2, asked)]);
        // With nothing kept behind it, what follows may be on its way.
        let mut core = Core::new(Config { max_nack, ..Config::as_opx() }, ME).unwrap();
        data(&mut core, 0);
        assert_eq!(ping(&mut core, T0, 1, 7), [(UdOp::Nack, 1, 1)]);
    }
}

#[test]
fn of_many_packets_kept_in_a_row_a_ping_is_told_of_some() {
    let mut core = core(Config::as_opx());
    data(&mut core, 0);
    for psn in 2..1000 {
        assert_eq!(data(&mut core, psn), Verdict::Held);
    }
    assert_eq!(ping(&mut core, T0, 1, 1000), [(UdOp::Ack, 2, 256), (UdOp::Nack, 1, 1)]);
    // The sender asks on from there, or fills the gap.
    assert_eq!(ping(&mut core, T0, 258, 100), [(UdOp::Ack, 258, 256)]);
    assert_eq!(data(&mut core, 1), Verdict::Deliver);
    assert_eq!(drain(&mut core).len(), 998);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut core = core(Config { max_held_per_flow: 3, max_held: 4, ..Config::as_opx() });
    let no_room = Verdict::Dropped(DropReason::NoRoom);
    for psn in 1..4 {
        assert_eq!(data(&mut core, psn), Verdict::Held);
    }
    assert_eq!(data(&mut core, 4), no_room);
    assert_eq!(core.poll_event(), Some(Event::PeerOutOfStep { peer: PEER }));
    assert_eq!(data(&mut core, 5), no_room);
    assert_eq!(core.poll_event(), None);
    let other = Origin { lid: Lid(9), rx: 7 };
    let from_other = |psn| Arrival { origin: other, ..arrival(psn) };
    assert_eq!(core.on_data(from_other(1), || None), no_room);
    assert_eq!(core.on_data(from_other(1), || Some(1)), Verdict::Held);
    assert_eq!(core.on_data(from_other(2), || Some(2)), no_room);
    // The expected packet always gets through, and makes room.
    assert_eq!(data(&mut core, 0), Verdict::Deliver);
    assert_eq!(drain(&mut core), [1, 2, 3]);
    assert_eq!(core.on_data(from_other(2), || Some(2)), Verdict::Held);
    assert_eq!(core.counters().dropped_no_room, 4);
}

#[test]
fn peers_and_answers_are_bounded() {
    let mut core = core(Config { max_flows: 2, max_answers: 3, pre_ack_rate: 1, ..Config::as_opx() });
    for lid in 1..5 {
        let arrival = Arrival { origin: Origin { lid: Lid(lid), rx: 0 }, ..arrival(0) };
        let want = if lid < 3 { Verdict::Deliver } else { Verdict::Dropped(DropReason::TooManyFlows) };
        assert_eq!(core.on_data(arrival, || None), want);
        for _ in 0..3 {
            core.on_data(arrival, || None);
        }
    }
    assert_eq!(answers(&mut core, T0).len(), 3);
    assert_eq!(core.counters().answers_dropped, 3);
    assert_eq!(core.counters().dropped_too_many_flows, 8);
}

#[test]
fn an_unasked_ack_is_split_at_the_wrap() {
    let mut core = Core::starting_at(Config::as_opx(), ME, 0xff_fffc).unwrap();
    for psn in [0xff_fffd, 0xff_fffe, 0xff_ffff, 0, 1] {
        assert_eq!(data(&mut core, psn), Verdict::Held);
    }
    assert_eq!(data(&mut core, 0xff_fffc), Verdict::Deliver);
    let acks = answers(&mut core, T0);
    assert_eq!(acks.last(), Some(&(UdOp::Ack, 0, 2)));
    let [(UdOp::Ack, start, count), _] = acks[..] else { panic!("{acks:?}") };
    assert_eq!(start + count, 0x100_0000);
    assert!(start <= 0xff_fffc);
}

#[test]
fn an_ack_of_kept_packets_is_cut_at_the_wrap() {
    let mut core = Core::starting_at(Config::as_opx(), ME, 0xff_fffb).unwrap();
    data(&mut core, 0xff_fffb);
    for psn in [0xff_fffe, 0xff_ffff, 0, 1] {
        data(&mut core, psn);
    }
    let want = [(UdOp::Ack, 0xff_fffe, 2), (UdOp::Nack, 0xff_fffc, 1)];
    assert_eq!(ping(&mut core, T0, 0xff_fffc, 4), want);
}

#[test]
fn a_gap_is_told_of_at_once_and_then_now_and_again() {
    let mut core = core(Config::default());
    for psn in 0..4 {
        assert_eq!(data(&mut core, psn), Verdict::Deliver);
    }
    answers(&mut core, T0);
    // 4 is missing: its neighbour is told of, the next ones only every eighth, with all that came since the gap.
    let told: Vec<_> = (5..30)
        .flat_map(|psn| {
            assert_eq!(data(&mut core, psn), Verdict::Held);
            answers(&mut core, T0)
        })
        .collect();
    // Each time with all that came before the gap.
    let gap = [(5, 1), (5, 4), (5, 12), (5, 20)];
    assert_eq!(told, gap.map(|(from, count)| [(UdOp::Ack, 0, 4), (UdOp::Ack, from, count)]).concat());
    // Another gap: what came between the two is told to its end.
    assert_eq!(data(&mut core, 40), Verdict::Held);
    assert_eq!(answers(&mut core, T0), [(UdOp::Ack, 0, 4), (UdOp::Ack, 5, 25), (UdOp::Ack, 40, 1)]);
    // One that opens and closes again, because a packet was late.
    for (psn, told) in [(42, vec![(40, 1), (42, 1)]), (43, vec![]), (41, vec![(5, 25), (40, 4)])] {
        assert_eq!(data(&mut core, psn), Verdict::Held);
        let acks = answers(&mut core, T0);
        assert_eq!(
            acks.get(1..).unwrap_or_default().iter().map(|ack| (ack.1, ack.2)).collect::<Vec<_>>(),
            told,
            "{psn}"
        );
    }
    // A copy of one that is kept: its sender doesn't know that.
    assert_eq!(data(&mut core, 7), Verdict::Duplicate);
    assert_eq!(answers(&mut core, T0), [(UdOp::Ack, 5, 25)]);
    // The first is filled: all up to the second is acknowledged.
    assert_eq!(data(&mut core, 4), Verdict::Deliver);
    assert_eq!(answers(&mut core, T0), [(UdOp::Ack, 0, 30)]);
}

#[test]
fn every_unasked_ack_says_everything() {
    let mut core = core(Config { pre_ack_rate: 4, ..Config::default() });
    let mut acks = Vec::new();
    for psn in 0..13 {
        data(&mut core, psn);
        acks.extend(answers(&mut core, T0));
    }
    assert_eq!(acks, [(UdOp::Ack, 0, 5), (UdOp::Ack, 0, 9), (UdOp::Ack, 0, 13)]);
    // As far back as a sender can have packets outstanding.
    let mut core = Core::starting_at(Config::default(), ME, 1 << 20).unwrap();
    for psn in 1 << 20..(1 << 20) + 20_001 {
        data(&mut core, psn);
        acks = answers(&mut core, T0);
    }
    assert_eq!(acks, []);
    data(&mut core, (1 << 20) + 20_001);
    for psn in (1 << 20) + 20_002..=(1 << 20) + 20_032 {
        data(&mut core, psn);
    }
    assert_eq!(answers(&mut core, T0), [(UdOp::Ack, (1 << 20) + 20_033 - 10_239, 10_239)]);
}

#[test]
fn what_waits_to_be_fetched_takes_room_as_well() {
    let mut core = core(Config { max_held: 2, ..Config::default() });
    assert_eq!(data(&mut core, 1), Verdict::Held);
    assert_eq!(data(&mut core, 0), Verdict::Deliver);
    // 1 isn't fetched, so nobody overtakes it, also by the short way.
    assert!(core.turn_of(PEER, Psn::new(2)).is_none());
    assert_eq!(data(&mut core, 2), Verdict::Held);
    assert_eq!(core.held(), 2);
    assert_eq!(core.on_data(arrival(3), || panic!("kept")), Verdict::Dropped(DropReason::NoRoom));
    assert_eq!((drain(&mut core), core.held()), (vec![1, 2], 0));
    assert_eq!(data(&mut core, 3), Verdict::Deliver);
    assert!(core.turn_of(PEER, Psn::new(4)).is_some());
    assert_eq!(data(&mut core, 5), Verdict::Held);
    assert!(core.turn_of(PEER, Psn::new(4)).is_none(), "what follows it would be left behind");
}

#[test]
fn a_ping_that_took_the_place_of_another_is_answered_at_its_own_tick() {
    let mut core = core(Config::as_opx());
    for psn in 0..4 {
        data(&mut core, psn);
    }
    let micros = |n| T0 + Duration::from_micros(n);
    assert_eq!(ping(&mut core, T0, 0, 1), [(UdOp::Ack, 0, 1)]);
    assert_eq!(ping(&mut core, T0, 0, 2), []);
    assert_eq!(ping(&mut core, micros(100), 1, 1), [(UdOp::Ack, 1, 1)]);
    assert_eq!(ping(&mut core, micros(100), 1, 2), []);
    core.on_timeout(micros(500));
    assert_eq!(answers(&mut core, micros(500)), []);
    core.on_timeout(micros(600));
    assert_eq!(answers(&mut core, micros(600)), [(UdOp::Ack, 1, 2)]);
    assert_eq!(core.poll_timeout(), None);
}

#[test]
fn a_ping_from_beyond_the_window_is_ignored() {
    let mut core = core(Config { receive_window: 100, ..Config::default() });
    data(&mut core, 0);
    assert_eq!(ping(&mut core, T0, 101, 1), []);
    assert_eq!(core.counters().pings_ignored, 0);
    assert_eq!(ping(&mut core, T0, 102, 1), []);
    assert_eq!(core.counters().pings_ignored, 1);
}

#[test]
fn nothing_before_the_first_packet_is_acknowledged() {
    let mut core = Core::starting_at(Config::default(), ME, 100).unwrap();
    core.on_data(Arrival { ack_req: true, ..arrival(100) }, || None);
    assert_eq!(answers(&mut core, T0), [(UdOp::Ack, 100, 1)]);
}
